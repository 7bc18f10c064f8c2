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
    /// Gitea or Forgejo.
    Gitea,
    /// A bare repository on disk, and a Markdown file for each change.
    Local,
}

impl ForgeKind {
    /// Its name for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Github => "GitHub",
            Self::Gitlab => "GitLab",
            Self::Gitea => "Gitea",
            Self::Local => "local",
        }
    }

    /// Its name in settings, addresses and labels.
    pub fn word(self) -> &'static str {
        match self {
            Self::Github => "github",
            Self::Gitlab => "gitlab",
            Self::Gitea => "gitea",
            Self::Local => "local",
        }
    }

    /// What it calls a change: `pull request` or `merge request`.
    pub fn change_word(self) -> &'static str {
        match self {
            Self::Github | Self::Gitea => "pull request",
            Self::Gitlab => "merge request",
            Self::Local => "change",
        }
    }

    /// The ref under which it keeps the head of a change, also of one from a fork.
    pub fn head_ref(self, number: u64) -> String {
        match self {
            Self::Gitlab => format!("refs/merge-requests/{number}/head"),
            Self::Github | Self::Gitea | Self::Local => format!("refs/pull/{number}/head"),
        }
    }

    /// The one of a name, as settings spell it: `github`, `gitlab`, `gitea` or `forgejo`, `local`.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name.to_lowercase().as_str() {
            "github" => Self::Github,
            "gitlab" => Self::Gitlab,
            "gitea" | "forgejo" => Self::Gitea,
            "local" => Self::Local,
            _ => return None,
        })
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
    /// Open and close issues.
    pub issues: Right,
    /// Ask what accounts may do: commands in comments hang on it.
    pub ask_access: Right,
}

impl TokenRights {
    /// None of them; `needs`: what to grant.
    pub fn none(account: Option<String>, needs: &str) -> Self {
        let no = || Right::No(needs.to_owned());
        Self { account, read: no(), push: no(), open_changes: no(), comment: no(), issues: no(), ask_access: no() }
    }
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
    /// Nobody knows: it was called off, or somebody said no to it.
    Cancelled,
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
