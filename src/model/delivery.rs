//! What a run hands over.

use super::id::TreeId;
use super::plan::DeliverKind;
use serde::{Deserialize, Serialize};

/// Who commits where nobody else is configured: name and address.
pub const AUTHOR: (&str, &str) = ("CodeForge", "codeforge@localhost");

/// How a file changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// New.
    Added,
    /// Other content or mode.
    Modified,
    /// Gone.
    Deleted,
    /// Elsewhere.
    Renamed,
}

/// One changed file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Its path (the new one of a rename), relative to the repository's root, `/` between parts.
    pub path: String,
    /// The old path of a rename.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// How it changed.
    pub kind: ChangeKind,
    /// Lines added; 0 for binary files.
    pub added: u64,
    /// Lines removed; 0 for binary files.
    pub removed: u64,
    /// Git file mode after the change, octal (`0o100644`, `0o120000` for a symlink); 0 where deleted.
    pub mode: u32,
}

/// The difference of two trees.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ChangeSet {
    /// The files, sorted by path.
    pub files: Vec<FileChange>,
    /// The difference in git's format, binary files included; what is not UTF-8 is replaced.
    pub diff: String,
}

impl ChangeSet {
    /// Lines added over all files.
    pub fn added(&self) -> u64 {
        self.files.iter().map(|file| file.added).sum()
    }
    /// Lines removed over all files.
    pub fn removed(&self) -> u64 {
        self.files.iter().map(|file| file.removed).sum()
    }
}

/// A delivery to carry out: everything is rendered and decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The form.
    pub kind: DeliverKind,
    /// The tree to start from.
    pub base: TreeId,
    /// The tree to hand over.
    pub tree: TreeId,
    /// Branch name, for `branch`.
    pub branch: Option<String>,
    /// Commit subject: one line.
    pub title: String,
    /// Commit body.
    pub body: String,
    /// Author and committer: name and address.
    pub author: (String, String),
    /// Seconds since 1970 for author and committer, so that a repeated delivery makes the same commit.
    pub time_s: i64,
    /// Globs that it must not touch.
    pub protected_paths: Vec<String>,
}

/// What was published on a forge.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Published {
    /// The branch that was pushed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The commit that it is at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Where people see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The number of the change, or of the issue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// What was done and what was not, in sentences.
    #[serde(default)]
    pub told: Vec<String>,
}

/// What came of a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// The form it took.
    pub kind: DeliverKind,
    /// The patch file, absolute path.
    pub patch: Option<String>,
    /// The commit.
    pub commit: Option<String>,
    /// The branch.
    pub branch: Option<String>,
    /// What changed.
    pub changes: ChangeSet,
    /// False: there was nothing to hand over, and nothing was made.
    pub changed: bool,
    /// What was published, where it went to a forge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Box<Published>>,
}
