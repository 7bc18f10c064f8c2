//! Issues that stay current: what is the same at every forge.

use super::missing;
use super::same_text;
use crate::port::forge::{ForgeError, IssueEdit, IssueInfo};

/// What an issue is to get that it does not have.
pub(super) struct Wanted {
    /// Its whole text, with its mark.
    pub(super) body: Option<String>,
    /// Whether it is to be open.
    pub(super) open: Option<bool>,
    pub(super) labels: Vec<String>,
    pub(super) assignees: Vec<String>,
}

impl Wanted {
    /// `body`: the whole text.
    pub(super) fn of(issue: &IssueInfo, edit: &IssueEdit<'_>, body: String) -> Self {
        Self {
            body: Some(body).filter(|body| !same_text(&issue.body, body)),
            open: Some(edit.open).filter(|open| *open != issue.open),
            labels: missing(edit.labels, &issue.labels),
            assignees: missing(edit.assignees, &issue.assignees),
        }
    }

    /// Whether text or state are to be written.
    pub(super) fn writes(&self) -> bool {
        self.body.is_some() || self.open.is_some()
    }

    /// Whether nothing is to be written at all.
    pub(super) fn nothing(&self) -> bool {
        !self.writes() && self.labels.is_empty() && self.assignees.is_empty()
    }
}

/// What a repository lacks that has no issues.
pub(super) const ISSUES_OFF: &str = "issues that are turned on in the repository's settings";

/// Why an issue cannot be read or written: a repository whose issues are turned off says that there is none, or that
/// nobody may.
pub(super) fn refused(error: ForgeError) -> ForgeError {
    match error {
        ForgeError::NotFound { doing, hint } => ForgeError::NotFound {
            doing,
            hint: format!("{hint}; or it lacks {ISSUES_OFF}. `deliver: report` needs none"),
        },
        ForgeError::Refused { doing, message, needs: Some(needs) } => {
            ForgeError::Refused { doing, message, needs: Some(format!("{needs}, and {ISSUES_OFF}")) }
        }
        other => other,
    }
}
