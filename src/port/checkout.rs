//! The checkout that a CI job finds: commits and their files as they are in git, whatever lies in the folder; and what
//! a shallow clone lacks, fetched.
//!
//! All of it is blocking: it is called on blocking threads.

use super::repository::{Repository, RepositoryError};
use crate::model::delivery::ChangeSet;
use secrecy::SecretString;
use std::path::Path;
use std::sync::Arc;

/// A checkout.
pub trait Checkout: Send + Sync {
    /// Its top folder.
    fn root(&self) -> &Path;

    /// The commit that is checked out; `None` where there is none yet.
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn head(&self) -> Result<Option<String>, RepositoryError>;

    /// The address that `origin` is fetched from, without a name or a password.
    fn origin(&self) -> Option<String>;

    /// The branch that `origin` says is its default one.
    fn origin_branch(&self) -> Option<String>;

    /// The commit that a full ref (`refs/…`) leads to; `None`: there is no such ref.
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn resolve(&self, git_ref: &str) -> Result<Option<String>, RepositoryError>;

    /// The commit that people mean by a name: a branch, a tag, the beginning of an id, `HEAD~2`. `None`: there is none.
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn named(&self, rev: &str) -> Result<Option<String>, RepositoryError>;

    /// Whether the commit, its tree and the files in it are here.
    fn has(&self, commit: &str) -> bool;

    /// Whether contents of files are left out of it (`filter:`), to be fetched one by one.
    fn is_partial(&self) -> bool;

    /// Whether history is cut off somewhere.
    fn is_shallow(&self) -> bool;

    /// Fetches commits and refs. The folder, the index and all refs but ours (`refs/codeforge/ci/…`) stay as they are.
    ///
    /// # Errors
    /// [`FetchError`].
    fn fetch(&self, order: &Fetch) -> Result<(), FetchError>;

    /// The commit where two lines of history meet; `None`: they do not, as far as history is here.
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn meet(&self, one: &str, other: &str) -> Result<Option<String>, RepositoryError>;

    /// The difference of two commits' files (an empty id: of no commit); `cap`: bytes of text kept, 0 for all.
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn change(&self, from: &str, to: &str, cap: usize) -> Result<ChangeSet, RepositoryError>;

    /// The regular files under a folder of a commit, sorted by path; at most `limit` files of `largest` bytes. Links and
    /// submodules are not followed: they are not there.
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn files(&self, commit: &str, folder: &str, limit: usize, largest: usize) -> Result<Vec<File>, RepositoryError>;

    /// The content of a regular file of a commit; `None`: there is none, or it has more than `largest` bytes.
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn file(&self, commit: &str, path: &str, largest: usize) -> Result<Option<Vec<u8>>, RepositoryError>;

    /// What of a commit is not worked on as a checkout would have it: files of Git LFS, submodules. In lines for people.
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn left_out(&self, commit: &str) -> Result<Vec<String>, RepositoryError>;

    /// The changes that came in, newest first, at most `limit`: from the commit that is checked out along first parents,
    /// so that a merged branch is one change. The first commit of all is none.
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn changes(&self, limit: usize) -> Result<Vec<CameIn>, RepositoryError>;

    /// A commit without a parent that holds one file at its top, and a pack of it. Nothing of it is left here: it is made
    /// to be sent.
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn parcel(&self, parcel: &Parcel<'_>) -> Result<(String, Vec<u8>), RepositoryError>;

    /// The repository as if exactly this commit were checked out, with nothing dirty: for runs on it.
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn at(&self, commit: &str) -> Result<Arc<dyn Repository>, RepositoryError>;
}

/// A change that came in: a merge, or a commit of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CameIn {
    /// The commit that brought it.
    pub commit: String,
    /// The commit before it.
    pub parent: String,
    /// The message's first line.
    pub subject: String,
    /// The rest of the message.
    pub body: String,
}

/// A file of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its path from the repository's top.
    pub path: String,
    /// Its content.
    pub content: Vec<u8>,
}

/// A file that is sent as a commit of its own.
#[derive(Debug, Clone, Copy)]
pub struct Parcel<'a> {
    /// The file's name, without a folder.
    pub name: &'a str,
    /// Its content.
    pub content: &'a [u8],
    /// The commit's message.
    pub message: &'a str,
    /// Who commits: a name and an address.
    pub author: (&'a str, &'a str),
    /// When, in seconds since 1970.
    pub time_s: i64,
}

/// What to fetch.
#[derive(Debug, Clone)]
pub struct Fetch {
    /// From where; `None`: from `origin`.
    pub url: Option<String>,
    /// As whom; `None`: as git is set up in the checkout.
    pub login: Option<(String, SecretString)>,
    /// What.
    pub wants: Vec<Want>,
    /// How much history. A clone that is whole stays whole, whatever is asked.
    pub depth: Depth,
    /// Certificates to trust beside the machine's: a PEM file.
    pub extra_ca: Option<std::path::PathBuf>,
}

/// One thing to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// A full ref, or a full commit id.
    pub what: String,
    /// The last part of the ref of ours that it is kept under (`trusted`).
    pub keep_as: String,
}

/// How much history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// So many commits, counted from what is wanted.
    Commits(u32),
    /// All of it.
    Whole,
}

/// Why nothing was fetched.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum FetchError {
    /// There is no such ref or commit there.
    #[error("{0}")]
    NoSuch(String),
    /// We may not.
    #[error("{0}")]
    Refused(String),
    /// It could not be reached, or answered nonsense.
    #[error("{0}")]
    Unreachable(String),
}
