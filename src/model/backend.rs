//! Other agents and plain programs that do a step's work in the sandbox.

use super::exec::ExecOutcome;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A program that works as a step.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BackendSpec {
    /// Its name (`aider`, `codex`, `exec`).
    pub name: String,
    /// Program and arguments. Placeholders stand for values within one argument; nothing is ever spliced into a shell.
    pub argv: Vec<String>,
    /// Its variables, with the same placeholders.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// How a backend ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackendOutcome {
    /// How its process ended, and the end of what it printed.
    pub exec: ExecOutcome,
    /// Its closing words, as far as its stream could be read.
    pub text: String,
}
