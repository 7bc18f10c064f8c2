//! Other agents and plain programs that do a step's work in the sandbox.

use super::delivery::FileChange;
use super::exec::ExecOutcome;
use super::id::TreeId;
use super::tool::Ruling;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// A program that works as a step.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BackendSpec {
    /// Its name (`aider`, `codex`, `exec`).
    pub name: String,
    /// Program and arguments. Placeholders stand for values within one argument; nothing is ever spliced into a shell.
    pub argv: Vec<String>,
    /// Whether `argv` stands as written: the step's own command, in which braces mean nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub literal: bool,
    /// Its variables, with the same placeholders.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Files in its home folder before it starts: path beneath the home → text, with the same placeholders.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// The protocol in which it asks for models.
    #[serde(default)]
    pub dialect: Dialect,
    /// Programs that have to be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<String>,
    /// Folders of the host to show, read-only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub show: Vec<String>,
    /// How it is installed, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub install: String,
    /// Globs of what it leaves in the workspace for itself: new files of such names are removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaves: Vec<String>,
    /// How its output is read.
    #[serde(default)]
    pub stream: Stream,
    /// What it can do, as its author says.
    #[serde(default)]
    pub capabilities: Capabilities,
}

/// The protocol in which a program asks for models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// It asks for none: no gateway, no cost.
    #[default]
    None,
    /// OpenAI's chat completions.
    Openai,
    /// OpenAI's responses.
    OpenaiResponses,
    /// Anthropic's messages.
    Anthropic,
}

impl Dialect {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Openai => "openai",
            Self::OpenaiResponses => "openai-responses",
            Self::Anthropic => "anthropic",
        }
    }
}

/// What a program can do: declared, not found out by failing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    /// It says what it does while it does it.
    #[serde(default)]
    pub streams: bool,
    /// It can take up an earlier session. Noted only: a step that was cut begins anew.
    #[serde(default)]
    pub resumes: bool,
    /// It reports tokens or money of its own. Noted only: what counts is what the gateway was billed.
    #[serde(default)]
    pub reports_cost: bool,
    /// It makes commits itself. They do no harm: what counts is the tree that it leaves.
    #[serde(default)]
    pub edits_git: bool,
}

/// How a program's output is read.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Stream {
    /// One JSON value a line; false: plain text.
    #[serde(default)]
    pub jsonl: bool,
    /// Where it says something on the way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub text: Vec<Pick>,
    /// Where its closing words stand; none: the last of `text`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last: Vec<Pick>,
    /// Where it says that it failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub error: Vec<Pick>,
    /// Where it reports what it used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub usage: Vec<Pick>,
    /// Where it names its session.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub session: Vec<Pick>,
}

/// A place in a line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pick {
    /// JSON Pointer.
    pub at: String,
    /// Only where these pointers lead to these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub when: BTreeMap<String, Value>,
}

/// How a backend ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackendOutcome {
    /// How its process ended, and the end of what it printed.
    pub exec: ExecOutcome,
    /// Its closing words, as far as its stream could be read.
    pub text: String,
    /// What it was asked, as rendered; empty where it takes no prompt.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prompt: String,
    /// That it failed, in its own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What it says that it used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Value>,
    /// Its session, as it calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The tree that it left, pinned; `None` where it may not write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<TreeId>,
    /// What it changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileChange>,
    /// Paths that it changed and that the policy does not allow it to, with the ruling on each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<(String, Ruling)>,
}
