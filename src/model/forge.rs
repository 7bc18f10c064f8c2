//! Words about forges that all stages speak.

use serde::{Deserialize, Serialize};

/// Which forge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForgeKind {
    /// GitHub, in the cloud or on a server of one's own.
    Github,
    /// GitLab, in the cloud or on a server of one's own.
    Gitlab,
}

impl ForgeKind {
    /// Its name for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Github => "GitHub",
            Self::Gitlab => "GitLab",
        }
    }

    /// What it calls a change: `pull request` or `merge request`.
    pub fn change_word(self) -> &'static str {
        match self {
            Self::Github => "pull request",
            Self::Gitlab => "merge request",
        }
    }
}

/// What somebody may do in a repository, as its forge answers; ordered. What the forge did not clearly say is
/// [`Access::None`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Nothing, or nobody knows.
    #[default]
    None,
    /// Read.
    Read,
    /// Sort issues and changes.
    Triage,
    /// Push.
    Write,
    /// Push, and settle most of the rest.
    Maintain,
    /// Everything.
    Admin,
}

impl Access {
    /// Whether it reaches as far as `wanted`. Nothing reaches as far as nothing: a question for no access is a
    /// mistake, and the answer to a mistake is no.
    pub fn reaches(self, wanted: Self) -> bool {
        wanted != Self::None && self >= wanted
    }
}

/// Whether a right is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// It is.
    Yes,
    /// It is not; what to grant, as the place where it is granted spells it.
    No(String),
    /// The forge does not say.
    Unknown,
}

/// What a token may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRights {
    /// Whose it is, where the forge says.
    pub account: Option<String>,
    /// Read the repository.
    pub read: Right,
    /// Push to it.
    pub push: Right,
    /// Open changes.
    pub open_changes: Right,
    /// Comment on changes.
    pub comment: Right,
}

/// How a commit is said to stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// Not ended.
    Pending,
    /// Good.
    Success,
    /// Not good.
    Failure,
    /// Nobody knows: we failed.
    Error,
}

#[cfg(test)]
mod tests {
    use super::Access;

    #[test]
    fn only_a_clear_yes_reaches() {
        assert!(Access::Write.reaches(Access::Write) && Access::Admin.reaches(Access::Write));
        for less in [Access::None, Access::Read, Access::Triage] {
            assert!(!less.reaches(Access::Write), "{less:?}");
        }
        assert!(!Access::Admin.reaches(Access::None));
    }
}
