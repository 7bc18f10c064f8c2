//! The repository, the workspaces made of it, and what is handed back to it.
//!
//! All of it is blocking: the engine calls it on blocking threads. Host git never opens a workspace's `.git`; all
//! snapshots are trees in an object folder of our own under `$GIT_COMMON_DIR/codeforge`, with the user's objects as
//! alternates. The user's index, stash, branches and hooks are never touched.

use crate::model::delivery::{ChangeSet, Delivered, Delivery};
use crate::model::exec::ExecMode;
use crate::model::id::{EffectKey, RunId, StepId, TreeId};
use crate::model::journal::Base;
use crate::model::patch::Patch;
use crate::model::recording::{BaseFile, RecordedBase};
use secrecy::SecretString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A user's repository.
pub trait Repository: Send + Sync {
    /// Where our own state lives: `$GIT_COMMON_DIR/codeforge`.
    fn state_dir(&self) -> &Path;

    /// The repository's top folder.
    fn root(&self) -> &Path;

    /// Takes stock: HEAD, branch, dirty paths, and the tree with dirty and untracked, non-ignored files in it.
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn base(&self) -> Result<Base, RepositoryError>;

    /// Makes the workspace `name` of a run, holding `tree`; or opens it again as it was left, after a crash.
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn workspace(&self, order: &OpenWorkspace) -> Result<Arc<dyn Workspace>, RepositoryError>;

    /// Keeps a tree from being collected: a hidden ref `refs/codeforge/RUN/KEY`.
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn pin(&self, run: &RunId, key: &EffectKey, tree: &TreeId) -> Result<(), RepositoryError>;

    /// The tree pinned under a key.
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn pinned(&self, run: &RunId, key: &EffectKey) -> Result<Option<TreeId>, RepositoryError>;

    /// The difference of two trees. `cap`: bytes of `diff` kept; 0 for all.
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn diff(&self, from: &TreeId, to: &TreeId, cap: usize) -> Result<ChangeSet, RepositoryError>;

    /// Merges `theirs` into `ours`, three-way, from `base`; the conflicting paths where that fails.
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn merge(
        &self,
        base: &TreeId,
        ours: &TreeId,
        theirs: &TreeId,
    ) -> Result<Result<TreeId, Vec<String>>, RepositoryError>;

    /// `tree` with everything under `paths` (globs) as it is in `from`: for gates that run the base's own tests.
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn graft(&self, tree: &TreeId, from: &TreeId, paths: &[String]) -> Result<TreeId, RepositoryError>;

    /// Commits reachable from HEAD, newest first, at most `limit`, one line each; only those that touch `path` where
    /// given. For the tool `git_log`.
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn log(&self, limit: usize, path: Option<&str>) -> Result<String, RepositoryError>;

    /// The subjects of a commit and those before it, newest first, at most `most`, as far as they are here.
    ///
    /// # Errors
    /// [`RepositoryError::Missing`] where the commit is not here.
    fn subjects(&self, commit: &str, most: usize) -> Result<Vec<String>, RepositoryError>;

    /// Hands over. Idempotent: the same delivery again finds what it made. `patch_to`: where a patch file goes.
    ///
    /// # Errors
    /// [`RepositoryError::Refused`] for protected paths, links that lead out, overlaps with dirty files, a branch on
    /// which somebody else committed.
    fn deliver(&self, base: &Base, delivery: &Delivery, patch_to: &Path) -> Result<Delivered, RepositoryError>;

    /// The change of a delivery as exact bytes, on the base's commit, for another job to deliver. Checked as a delivery
    /// is; writes nothing of the user's.
    ///
    /// # Errors
    /// [`RepositoryError::Refused`] as for [`Repository::deliver`], where there is no commit, and where it is larger than
    /// an artifact may be.
    fn lay_in(&self, base: &Base, delivery: &Delivery) -> Result<Patch, RepositoryError>;

    /// Puts a change onto the tree `base`, as data: the tree that it makes. Checked as a delivery is: `protected` are
    /// globs that it must not touch. Writes nothing of the user's.
    ///
    /// # Errors
    /// [`RepositoryError::Refused`] where it was made on another tree, does not fit, or touches what it must not.
    fn take_out(&self, base: &TreeId, patch: &Patch, protected: &[String]) -> Result<TreeId, RepositoryError>;

    /// The tree of a commit.
    ///
    /// # Errors
    /// [`RepositoryError::Missing`] where the commit is not here.
    fn committed(&self, commit: &str) -> Result<TreeId, RepositoryError>;

    /// The first path of the difference whose new name or content `found` says yes to, where the old content did not
    /// make it so; `None`: there is none. Contents are looked at whole, binary ones too.
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn find_in_change(
        &self,
        from: &TreeId,
        to: &TreeId,
        found: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Option<String>, RepositoryError>;

    /// Makes the commit that a delivery publishes, on the base's commit, in our own store, signed where there is a
    /// signer: the same delivery makes the same one (with a signature that is the same each time: Ed25519, P-256, RSA).
    /// The user's repository is not written to.
    ///
    /// # Errors
    /// [`RepositoryError::Refused`] as [`Repository::deliver`], [`RepositoryError::Unsigned`].
    fn commit(&self, base: &Base, delivery: &Delivery, signer: Option<&Signer>) -> Result<String, RepositoryError>;

    /// What that commit would change on the base's commit, for a forge that makes commits itself.
    ///
    /// # Errors
    /// As [`Repository::commit`].
    fn change_on_head(&self, base: &Base, delivery: &Delivery) -> Result<HeadChange, RepositoryError>;

    /// A pack of that commit and what it needs, for a remote that has the commits `known`.
    ///
    /// # Errors
    /// [`RepositoryError`]; [`RepositoryError::Missing`] where a shallow clone lacks what the remote lacks.
    fn pack(&self, commit: &str, known: &[String]) -> Result<Vec<u8>, RepositoryError>;

    /// Takes a fetched pack into the repository's objects; no ref is made.
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn take_pack(&self, pack: &[u8]) -> Result<(), RepositoryError>;

    /// The address of a remote (`origin`), as it is configured; `None`: there is no such remote.
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn remote_url(&self, name: &str) -> Result<Option<String>, RepositoryError>;

    /// A folder on the host for what a run's `setup` leaves in the home folder, made where it is missing; it is
    /// `owner`'s (user and group), and goes with the run's workspaces.
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn home(&self, run: &RunId, owner: (u32, u32)) -> Result<PathBuf, RepositoryError>;

    /// The files in which a base's tree differs from its commit, with their contents, for a recording.
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn base_files(&self, base: &Base) -> Result<Vec<BaseFile>, RepositoryError>;

    /// The repository as a recorded run found it, to make the run again: its tree is made again from commit and files,
    /// workspaces are those of `scratch` whatever run they are opened for, its history ends at the commit, nothing is
    /// pinned, and a delivery writes nothing: it is checked, and says what it would hand over.
    ///
    /// # Errors
    /// [`RepositoryError::Missing`] where the tree cannot be had: says what is missing.
    fn as_recorded(&self, base: &RecordedBase, scratch: &RunId) -> Result<Arc<dyn Repository>, RepositoryError>;

    /// Removes a run's workspaces (not its snapshots, journal and patch).
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn clean(&self, run: &RunId) -> Result<(), RepositoryError>;
}

/// What commits are signed with.
#[derive(Debug, Clone)]
pub enum Signer {
    /// An SSH key: the text of its private part, without a passphrase.
    Ssh(SecretString),
    /// A key of the `gpg` program, by its id or fingerprint.
    Gpg {
        /// Which.
        key: String,
        /// The key ring (`GNUPGHOME`); `None`: the account's own.
        home: Option<PathBuf>,
    },
}

/// What a commit would change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadChange {
    /// The id of the tree that it would have.
    pub tree: String,
    /// The files, by path.
    pub files: Vec<HeadFile>,
}

/// A file that a commit would change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadFile {
    /// Its path; what is not UTF-8 is replaced.
    pub path: String,
    /// Whether the path is UTF-8.
    pub named: bool,
    /// Git's mode of it after the commit; `None`: it is gone.
    pub mode: Option<u32>,
    /// What it holds then.
    pub content: Vec<u8>,
}

/// A workspace to make or to open again.
#[derive(Debug, Clone)]
pub struct OpenWorkspace {
    /// The run.
    pub run: RunId,
    /// `main`, or the step's name for a copy of its own, or a gate's.
    pub name: String,
    /// What it holds when it is new.
    pub tree: TreeId,
    /// The tree that the user's folder held at the start of the run: an overlay's lower layer.
    pub base: TreeId,
    /// Copy, mount or hybrid.
    pub mode: ExecMode,
    /// The step it belongs to, for messages.
    pub step: Option<StepId>,
}

/// A folder that agents work in. File operations stay beneath its root whatever links are there, refuse `.git`, and
/// take paths relative to the root with `/`.
pub trait Workspace: Send + Sync {
    /// The folder on the host.
    fn root(&self) -> &Path;

    /// `overlay`, `reflink`, `copy` or `mount`.
    fn made_by(&self) -> &'static str;

    /// The disposable git directory that commands see as `.git`, on the host; `None` where there is no history to show.
    fn git_dir(&self) -> Option<PathBuf>;

    /// The repository's own object folder, shown read-only to commands.
    fn git_objects(&self) -> Option<PathBuf>;

    /// Host user and group that own it.
    fn owner(&self) -> (u32, u32);

    /// Writes what it holds now (ignored files excluded, whatever a file's attributes say) as a tree.
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn snapshot(&self) -> Result<TreeId, RepositoryError>;

    /// Makes it hold exactly `tree`: contents, modes, untracked and deleted files. Ignored files stay (`mount`) or go
    /// back to what they were after set-up (copies).
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn restore(&self, tree: &TreeId) -> Result<(), RepositoryError>;

    /// Marks the end of set-up: ignored files as they are now are what `restore` goes back to.
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn seal(&self) -> Result<(), RepositoryError>;

    /// Reads a file, at most `cap` bytes.
    ///
    /// # Errors
    /// [`FileError`].
    fn read(&self, path: &str, cap: usize) -> Result<Vec<u8>, FileError>;

    /// Writes a file (made with its folders where it is new; its mode is kept where it is not), all or nothing.
    ///
    /// # Errors
    /// [`FileError`].
    fn write(&self, path: &str, content: &[u8]) -> Result<(), FileError>;

    /// Removes a file.
    ///
    /// # Errors
    /// [`FileError`].
    fn remove(&self, path: &str) -> Result<(), FileError>;

    /// Files beneath `path` (empty: all), sorted, ignore files respected, at most `limit`; globs filter where given.
    ///
    /// # Errors
    /// [`FileError`].
    fn list(&self, path: &str, glob: Option<&str>, limit: usize) -> Result<Vec<String>, FileError>;

    /// Lines that match a regular expression, ignore files respected, at most `limit`.
    ///
    /// # Errors
    /// [`FileError::BadPattern`] and others.
    fn search(&self, pattern: &str, path: &str, glob: Option<&str>, limit: usize) -> Result<Vec<Hit>, FileError>;
}

/// One matching line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The file.
    pub path: String,
    /// Its line, from 1.
    pub line: u64,
    /// The line's text, capped.
    pub text: String,
}

/// What can go wrong with one file: all of it is told to the model.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is no such file.
    #[error("`{path}` does not exist{hint}")]
    NotFound {
        /// What was asked for.
        path: String,
        /// `; did you mean …?` or empty.
        hint: String,
    },
    /// It is a folder.
    #[error("`{0}` is a folder; list_files shows what is in it")]
    IsFolder(String),
    /// It is outside, absolute, `.git`, a device, or reached through a link that leads out.
    #[error("`{path}` is out of bounds: {why}")]
    OutOfBounds {
        /// What was asked for.
        path: String,
        /// Why.
        why: String,
    },
    /// It is too large to read.
    #[error("`{path}` has {size} bytes, more than the {cap} that are read at once")]
    TooLarge {
        /// The file.
        path: String,
        /// Its size.
        size: u64,
        /// The limit.
        cap: usize,
    },
    /// The regular expression or glob is wrong.
    #[error("the pattern cannot be used: {0}")]
    BadPattern(String),
    /// The operating system said no.
    #[error("`{path}`: {message}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        message: String,
    },
}

/// What can go wrong with the repository.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// Not a repository: the user's fault, with what to do.
    #[error("{0}")]
    NotARepository(String),
    /// What was recorded is not in this repository: said what, and what to do. The user's fault.
    #[error("{0}")]
    Missing(String),
    /// A delivery that must not be made: said why, and what to do.
    #[error("{0}")]
    Refused(String),
    /// A commit could not be signed: why. The operator's to mend.
    #[error("{0}")]
    Unsigned(String),
    /// The user's tree changed under a running overlay.
    #[error("{0}")]
    ChangedUnderneath(String),
    /// Git or the file system failed: the environment's fault.
    #[error("{doing}: {message}")]
    Broken {
        /// What was being done, to what.
        doing: String,
        /// Why it failed.
        message: String,
    },
}
