//! How much of a change a reviewer was shown.

use serde::{Deserialize, Serialize};

/// How much of one changed file was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shown {
    /// All of its change.
    Reviewed,
    /// The beginning of its change.
    Clipped,
    /// Nothing but its name.
    Skipped,
}

impl Shown {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reviewed => "reviewed",
            Self::Clipped => "clipped",
            Self::Skipped => "skipped",
        }
    }
}

/// One changed file of a coverage table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covered {
    /// Its path, relative to the repository's root: untrusted.
    pub path: String,
    /// Its path before, where it was renamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// How much was shown.
    pub shown: Shown,
    /// Why not all of it: `generated`, `lock file`, `binary`, `too large`, `no room left`; empty where all was shown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// Lines added.
    pub added: u64,
    /// Lines removed.
    pub removed: u64,
}
