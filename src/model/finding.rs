//! Something that a reviewer found, at a place in a file.

use super::id::StepId;
use serde::{Deserialize, Serialize};

/// How much a finding matters; ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Worth knowing.
    Low,
    /// Should be repaired.
    Medium,
    /// Must be repaired before this goes anywhere.
    High,
}

/// Whether a finding was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Found this time for the first time.
    #[default]
    New,
    /// Found before, and still there.
    Still,
    /// Found before, and gone.
    Resolved,
}

/// One finding. Its texts are a model's: untrusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The same for the same thing in the same place, across pushes and whatever words were found for it: 16
    /// hexadecimal digits.
    pub fingerprint: String,
    /// How much it matters.
    pub level: Level,
    /// The file, relative to the repository's root.
    pub file: String,
    /// The line from 1, on the side of the head; `None`: the file as a whole.
    pub line: Option<u64>,
    /// The last line of the place, where it is more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_line: Option<u64>,
    /// A rule's or weakness's name, where there is one (`CWE-89`).
    pub rule: Option<String>,
    /// What is wrong.
    pub what: String,
    /// What to do, or the text to put there.
    pub suggestion: Option<String>,
    /// The step that found it.
    pub step: StepId,
    /// Whether it was there before.
    pub standing: Standing,
}
