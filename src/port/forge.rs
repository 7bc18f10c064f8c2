//! A forge: changes, comments, reviews, access, and the repository's remote.
//!
//! Small traits, one handle. What a forge cannot do it declares in [`Capabilities`], and answers with
//! [`ForgeError::Unsupported`]. Writes are serial, spaced, and found again: a write whose answer was lost is looked up
//! before it is made again.

mod error;
mod things;

use crate::model::forge::{Access, ForgeKind, Right, TokenRights};
use async_trait::async_trait;
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::path::PathBuf;

pub use error::ForgeError;
pub use things::*;

/// Where a forge is, and as whom it is spoken to.
#[derive(Debug, Clone)]
pub struct ForgeAt {
    /// Which.
    pub kind: ForgeKind,
    /// Its API's address: `https://api.github.com`, `https://gitlab.example/api/v4`.
    pub api: String,
    /// `owner/name`, or GitLab's whole path.
    pub repository: String,
    /// Who we are there. A token is sent in a header, to this address and to `git_url`, and nowhere else.
    pub token: Credential,
    /// Where it is fetched from and pushed to: `https://HOST/owner/name.git`, without a name or a password in it. A
    /// local forge: the bare repository's folder.
    pub git_url: String,
    /// The key that our markers are signed with, where there is one.
    pub marker_key: Option<SecretString>,
}

/// What a token comes from. The adapter asks for one before each request, so that all of them are alike.
#[derive(Debug, Clone)]
pub enum Credential {
    /// None is needed: a repository on disk.
    None,
    /// A token: personal, of a project, of a CI job.
    Token(SecretString),
    /// A file that holds the token, read again when it was refused: somebody else keeps it fresh.
    File(PathBuf),
    /// A GitHub App: its tokens are minted just in time, for the one repository, and live an hour.
    App(AppKey),
    /// The server that started this process: it is asked when a token is needed, and again when one was refused.
    Lent,
}

impl From<SecretString> for Credential {
    fn from(token: SecretString) -> Self {
        Self::Token(token)
    }
}

impl From<String> for Credential {
    fn from(token: String) -> Self {
        Self::Token(token.into())
    }
}

/// A GitHub App, as an operator sets it up.
#[derive(Debug, Clone)]
pub struct AppKey {
    /// Its id or client id.
    pub id: String,
    /// Its private key: PEM, as GitHub hands it out.
    pub key: SecretString,
    /// The installation; `None`: looked up by the repository.
    pub installation: Option<u64>,
    /// The permissions that its tokens are to have, by GitHub's names (`contents` → `write`); empty: those of
    /// [`AppKey::permissions`].
    pub permissions: BTreeMap<String, String>,
}

impl AppKey {
    /// What a delivery and its reports need, and no more.
    pub fn permissions(&self) -> BTreeMap<String, String> {
        if !self.permissions.is_empty() {
            return self.permissions.clone();
        }
        ["checks", "contents", "issues", "pull_requests", "statuses"]
            .into_iter()
            .map(|name| (name.to_owned(), "write".to_owned()))
            .chain([("metadata".to_owned(), "read".to_owned())])
            .collect()
    }
}

/// What a forge can do, with the token at hand. What is `false` is answered with [`ForgeError::Unsupported`], or left
/// out and told where it is a part of something larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Changes can be opened and brought up to date.
    pub changes: bool,
    /// Comments can be written and brought up to date.
    pub comments: bool,
    /// Changes can begin as drafts.
    pub drafts: bool,
    /// Remarks can stand at lines.
    pub inline: bool,
    /// Remarks can span several lines. Without it they stand at the last one.
    pub ranges: bool,
    /// Remarks at a line can carry a text to put there.
    pub suggestions: bool,
    /// Threads of a review can be resolved.
    pub resolve: bool,
    /// Reactions to comments.
    pub reactions: bool,
    /// A commit can be said to stand somehow.
    pub statuses: bool,
    /// What is said of a commit has a text and annotations at lines; then [`Code::set_check`] makes those instead of
    /// statuses.
    pub checks: bool,
    /// Labels can be set and taken.
    pub labels: bool,
    /// Accounts can be asked for a review.
    pub reviewers: bool,
    /// The forge says what an account may do.
    pub access: bool,
    /// Rules of branches can be asked for.
    pub rules: bool,
    /// There are issues, with threads of comments, and [`Issues`] keeps some.
    pub issues: bool,
    /// The largest comment, in characters.
    pub comment_chars: usize,
}

/// What a check became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// A check of its own page, with its annotations.
    Check,
    /// A commit status.
    Status,
}

/// A name and a token for git.
#[derive(Debug, Clone)]
pub struct Login {
    /// The name that goes with it.
    pub user: String,
    /// The token, good for now.
    pub token: SecretString,
    /// Until when it is good, in milliseconds since 1970; `None`: not known.
    pub until_ms: Option<i64>,
}

/// Who may do what.
#[async_trait]
pub trait Rights {
    /// What an account may do in the repository. Only a clear answer counts: an error is [`Access::None`].
    async fn access_of(&self, user: &str) -> Access;

    /// Our own account's name; `None`: the forge does not say.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn own_account(&self) -> Result<Option<String>, ForgeError>;

    /// What the token may do, asked without changing anything.
    ///
    /// # Errors
    /// [`ForgeError::Unavailable`] and the like; a right that is not there is an answer.
    async fn token_rights(&self) -> Result<TokenRights, ForgeError>;

    /// Whether a push with the token starts the checks of what is pushed; [`Right::No`]: what to do about it.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn starts_checks(&self) -> Result<Right, ForgeError> {
        Ok(Right::Unknown)
    }
}

/// Whoever has it opens changes of a repository alone: the lock of a file, where there are others to be kept waiting.
#[derive(Debug, Default)]
#[must_use = "it is given back when it is dropped"]
pub struct Alone(
    /// The locked file.
    pub Option<std::fs::File>,
);

/// Pull and merge requests.
#[async_trait]
pub trait Changes {
    /// A change by its number.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn change(&self, number: u64) -> Result<ChangeInfo, ForgeError>;

    /// The changes made from a branch of this very repository, newest first.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn changes_of_branch(&self, branch: &str) -> Result<Vec<ChangeInfo>, ForgeError>;

    /// The files that a change touches, all of them.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn changed_files(&self, number: u64) -> Result<Vec<ChangedFile>, ForgeError>;

    /// The branches of this very repository that an open change is made from and that begin with `prefix`.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn open_branches(&self, prefix: &str) -> Result<Vec<String>, ForgeError>;

    /// The open changes that were touched at or after a time (milliseconds since 1970), the one touched last first.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn changes_since(&self, since_ms: i64) -> Result<Vec<ChangeInfo>, ForgeError>;

    /// Issues that were opened at or after a time (milliseconds since 1970), and what else happened since to issues and
    /// changes that is neither a push nor a comment; in no order.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn happened_since(&self, since_ms: i64) -> Result<Vec<Happening>, ForgeError> {
        Err(cannot(&format!("list what happened to issues since {since_ms}")))
    }

    /// Keeps every other process on this machine that is about to open a change of the repository waiting until what is
    /// given is dropped: what is counted, and opened because of that count, is one thing. Processes that share no folder do
    /// not know of each other.
    ///
    /// # Errors
    /// [`ForgeError::Unavailable`]: somebody else is at it for too long.
    async fn alone(&self) -> Result<Alone, ForgeError> {
        Ok(Alone::default())
    }

    /// Opens a change, or finds the open one of the same branch: to that labels, reviewers and assignees are only added,
    /// and a milestone is set only where it has none. Gives the change with what was set; what could not be set is told
    /// beside it.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn open_change(&self, new: &NewChange) -> Result<(ChangeInfo, Vec<String>), ForgeError>;

    /// Gives a change another body.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn update_body(&self, number: u64, body: &str) -> Result<(), ForgeError>;

    /// Sets and takes labels.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn label(&self, thread: Thread, add: &[String], remove: &[String]) -> Result<(), ForgeError>;

    /// The branches that begin with `prefix` and that a change was opened from within the last `seconds`, whatever
    /// became of it.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn opened_within(&self, prefix: &str, seconds: u64) -> Result<Vec<String>, ForgeError> {
        Err(cannot(&format!("say which changes of `{prefix}` were opened in the last {seconds} s")))
    }

    /// Makes a draft ready for review.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn make_ready(&self, number: u64) -> Result<(), ForgeError> {
        Err(cannot(&format!("make change {number} ready")))
    }
}

/// Comments.
#[async_trait]
pub trait Comments {
    /// All comments of a thread, oldest first.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn comments(&self, thread: Thread) -> Result<Vec<CommentInfo>, ForgeError>;

    /// Comments of all threads that were written or changed at or after a time (milliseconds since 1970), also those at
    /// lines, where the forge lists them; of each kind the oldest first.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn comments_since(&self, since_ms: i64) -> Result<Vec<(Thread, CommentInfo)>, ForgeError>;

    /// Makes the comment of a key, or brings it up to date. One that only looks like ours (another author, a wrong
    /// signature) is not touched.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn stick(&self, sticky: &Sticky<'_>) -> Result<Stuck, ForgeError>;

    /// The comment that [`Self::stick`] would bring up to date; `None`: it would make one.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn stuck(&self, thread: Thread, key: &str) -> Result<Option<Kept>, ForgeError>;

    /// What our own comments of these keys remember, by key. As with [`Self::stick`] only our account and our mark count,
    /// and where there is a key the signature over the memory.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn recall(&self, thread: Thread, keys: &[&str]) -> Result<BTreeMap<String, String>, ForgeError>;

    /// Reacts to a comment with `eyes`, `+1`, `-1`, `rocket`, `confused`. Where comments of its kind take no reactions, the
    /// change is reacted to.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn react(&self, to: CommentAt, with: &str) -> Result<(), ForgeError>;
}

/// Issues that stay current: one for each key. Where [`Capabilities::issues`] is no, nothing here can be done.
#[async_trait]
pub trait Issues {
    /// The issues of a key that are ours by account and mark, open or closed, the first one that was made first. There is
    /// one, or none; several where two were made in the same moment.
    ///
    /// # Errors
    /// [`ForgeError`]; also where nobody could know ours again.
    async fn kept_issues(&self, key: &str) -> Result<Vec<IssueInfo>, ForgeError>;

    /// Opens the issue of a key, or finds the first of those that are there. What could not be set is told beside it.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn open_issue(&self, new: &NewIssue<'_>) -> Result<(IssueInfo, Vec<String>), ForgeError>;

    /// Text and state in one request, where one of them is another now; then labels and assignees that are lacking. What
    /// of these could not be set is told. `true`: something was written.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn edit_issue(&self, issue: &IssueInfo, edit: &IssueEdit<'_>) -> Result<(bool, Vec<String>), ForgeError>;

    /// Who closed an issue last; `None`: the forge does not say.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn closed_by(&self, number: u64) -> Result<Option<String>, ForgeError>;
}

/// Reviews.
#[async_trait]
pub trait Reviews {
    /// Makes remarks at lines, each once, and resolves our own threads.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn review(&self, review: &NewReview<'_>) -> Result<Reviewed, ForgeError>;
}

/// The repository as the forge knows it.
#[async_trait]
pub trait Code {
    /// The default branch's name.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn default_branch(&self) -> Result<String, ForgeError>;

    /// The commit that a branch is at; `None`: there is no such branch.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn tip(&self, branch: &str) -> Result<Option<String>, ForgeError>;

    /// Whether a branch may be pushed to. Rules that cannot be read are an error, not a yes.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn protection(&self, branch: &str) -> Result<Protection, ForgeError>;

    /// A commit.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn commit(&self, id: &str) -> Result<CommitInfo, ForgeError>;

    /// A file at a commit; `None`: there is none.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn file_at(&self, commit: &str, path: &str) -> Result<Option<Vec<u8>>, ForgeError>;

    /// Says how a commit stands: with a check where [`Capabilities::checks`] and the token may, else with a status. One
    /// call for the beginning (`Pending`) and for the end; never both kinds for one name.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn set_check(&self, check: &Check<'_>) -> Result<Said, ForgeError>;

    /// The subjects of a branch's last commits, newest first, at most `most` (100).
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn subjects(&self, branch: &str, most: usize) -> Result<Vec<String>, ForgeError> {
        Err(cannot(&format!("list the last {most} commits of `{branch}`")))
    }

    /// Has the forge make a commit on a branch and sign it, where the branch is at the commit's parent; its id.
    ///
    /// # Errors
    /// [`ForgeError::Moved`] where the branch is elsewhere, and others.
    async fn commit_on_branch(&self, commit: &NewCommit<'_>) -> Result<String, ForgeError> {
        Err(cannot(&format!("sign a commit on `{}`", commit.branch)))
    }

    /// The rules that a push to a branch, also a new one, has to keep, in words. Empty: none that are known.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn push_rules(&self, branch: &str) -> Result<Vec<PushRule>, ForgeError> {
        let _ = branch;
        Ok(Vec::new())
    }
}

fn cannot(what: &str) -> ForgeError {
    ForgeError::Unsupported(format!("this forge cannot {what}"))
}

/// A rule that a push has to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushRule {
    /// What it asks for, in words.
    pub words: String,
    /// What it means for us.
    pub about: RuleAbout,
}

/// What a rule of pushes is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleAbout {
    /// Nobody may make or move such a branch, but who is exempt.
    Branch,
    /// Commits must be signed.
    Signature,
    /// Only some may, or the rule could not be read: whether it keeps us away the forge does not say.
    Unsure,
    /// How messages, addresses, names or files must look: whether ours do is only known then.
    Form,
}

/// Git over HTTPS, the token in a header of our own process: no child, no URL and no configuration holds it.
#[async_trait]
pub trait Remote: Send + Sync {
    /// The refs that begin with `prefix` (`refs/heads/codeforge/`), and what they point to.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn refs(&self, prefix: &str) -> Result<Vec<(String, String)>, ForgeError>;

    /// Moves one full ref from `old` (`None`: it must not be there) to `new`, sending a pack of what is missing. All
    /// or nothing; the server compares `old` itself. A lost answer is looked up.
    ///
    /// # Errors
    /// [`ForgeError::Moved`] where the ref is no longer at `old`, and others.
    async fn push(&self, name: &str, old: Option<&str>, new: &str, pack: Vec<u8>) -> Result<(), ForgeError>;

    /// A pack of the commits `wants` and what they need; `haves`: commits that are here. `depth`: so many commits, 0
    /// for all.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn fetch(&self, wants: &[String], haves: &[String], depth: u32) -> Result<Vec<u8>, ForgeError>;

    /// The name and the token as they are now, for a git or a run of ours that is another process; `None`: none is
    /// needed.
    ///
    /// # Errors
    /// [`ForgeError`].
    async fn login(&self) -> Result<Option<Login>, ForgeError>;

    /// The forge refused this token to somebody who had it from [`Remote::login`]. True: there is another one now.
    async fn renew(&self, refused: &SecretString) -> bool;
}

/// A repository of a forge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Which forge.
    pub kind: ForgeKind,
    /// `owner/name`, or GitLab's whole path; a local forge: the folder's name.
    pub repository: String,
    /// The host that people see it at; empty where there is none.
    pub host: String,
}

/// A forge.
pub trait Forge: Rights + Changes + Comments + Issues + Reviews + Code + Send + Sync {
    /// The repository itself.
    fn remote(&self) -> &dyn Remote;

    /// Which repository of which forge.
    fn place(&self) -> &Place;

    /// Which.
    fn kind(&self) -> ForgeKind {
        self.place().kind
    }

    /// `owner/name`.
    fn repository(&self) -> &str {
        &self.place().repository
    }

    /// The host that people see it at: links to it are left in our text.
    fn host(&self) -> &str {
        &self.place().host
    }

    /// What it can do.
    fn capabilities(&self) -> Capabilities;
}
