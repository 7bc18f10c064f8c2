//! The user's repository through libgit2, workspaces made of it, snapshots, and delivery.
//!
//! Our state is under `$GIT_COMMON_DIR/codeforge`: `store.git` (snapshots, with the user's objects as alternates) and
//! `runs/RUN/ws/NAME` (workspaces). The user's repository is written to by a delivery only, apart from one hidden ref
//! a run that keeps its base commit from being collected.

mod beneath;
mod checkout;
mod copy;
mod create;
mod deliver;
mod diff;
mod exact;
mod fetch;
mod files;
mod filters;
mod guard;
mod history;
mod ignores;
mod outgoing;
mod overlay;
mod patch;
mod pinned;
mod recorded;
mod restore;
mod scan;
mod seal;
mod sign;
mod store;
mod stray;
mod sys;
mod trees;
mod upper;
mod workspace;

pub use checkout::checkout;
pub use create::{beside, create};

use crate::model::delivery::{ChangeSet, Delivered, Delivery};
use crate::model::id::{EffectKey, RunId, TreeId};
use crate::model::journal::Base;
use crate::model::patch::Patch;
use crate::model::recording::{BaseFile, RecordedBase};
use crate::port::repository::{HeadChange, OpenWorkspace, Repository, RepositoryError, Signer, Workspace};
use beneath::Sig;
use git2::{ErrorCode, Oid, RepositoryOpenFlags};
use ignores::Rules;
use scan::{Facts, Found, Indexed, Memory, Scanner};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use store::{Store, broken, shown};

/// How a workspace must be made: for tests and benchmarks of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Force {
    /// The best that can be had here.
    #[default]
    Best,
    /// An overlay, or an error.
    Overlay,
    /// A copy.
    Copy,
}

/// Opens the repository that `at` is in.
///
/// # Errors
/// [`RepositoryError::NotARepository`] where there is none, or a bare one.
pub fn open(at: &Path) -> Result<Arc<dyn Repository>, RepositoryError> {
    open_with(at, Force::Best)
}

/// Opens the repository that `at` is in and makes workspaces of one kind only.
///
/// # Errors
/// As [`open`].
pub fn open_with(at: &Path, force: Force) -> Result<Arc<dyn Repository>, RepositoryError> {
    Ok(Arc::new(Repo(inner(at, force)?)))
}

fn inner(at: &Path, force: Force) -> Result<Arc<Inner>, RepositoryError> {
    sys::prepare_libgit2();
    let none: [&OsStr; 0] = [];
    let user = git2::Repository::open_ext(at, RepositoryOpenFlags::empty(), none).map_err(|error| {
        if error.code() == ErrorCode::NotFound {
            RepositoryError::NotARepository(format!(
                "{} is not in a git repository; run `git init` there, or change to a repository",
                at.display()
            ))
        } else {
            broken(format!("opening the git repository of {}", at.display()), error)
        }
    })?;
    let Some(root) = user.workdir() else {
        return Err(RepositoryError::NotARepository(format!(
            "{} is a bare repository: it has no files to work on; run in a clone or a worktree of it",
            user.path().display()
        )));
    };
    let state = user.commondir().join("codeforge");
    let objects = user.commondir().join("objects");
    let failed = |error| broken(format!("opening {}", state.display()), error);
    std::fs::create_dir_all(&state).map_err(failed)?;
    let root = root.canonicalize().map_err(failed)?;
    let state = state.canonicalize().map_err(failed)?;
    let objects = objects.canonicalize().map_err(failed)?;
    let store = Store::open(&state, &objects)?;
    let git_dir = user.path().to_path_buf();
    let known = Mutex::default();
    Ok(Arc::new(Inner { root, git_dir, state, objects, store, force, head: None, known }))
}

/// What all parts share.
pub(crate) struct Inner {
    root: PathBuf,
    git_dir: PathBuf,
    state: PathBuf,
    objects: PathBuf,
    store: Store,
    force: Force,
    /// The commit that is shown as HEAD, where it is another one than the user's: that of a recorded run, or of a CI job.
    head: Option<Oid>,
    known: Mutex<Option<Stock>>,
}

/// What is remembered of the user's folder.
struct Stock {
    index: Option<Sig>,
    facts: Arc<Facts>,
    scanner: Scanner,
}

/// The user's folder as it is.
struct Taken {
    tree: Oid,
    facts: Arc<Facts>,
    memory: Memory,
    found: Found,
}

impl Inner {
    /// The user's repository, opened anew: git may have changed it.
    fn user(&self) -> Result<git2::Repository, RepositoryError> {
        let none: [&OsStr; 0] = [];
        git2::Repository::open_ext(&self.git_dir, RepositoryOpenFlags::NO_SEARCH, none)
            .map_err(|error| broken(format!("opening the git repository {}", self.git_dir.display()), error))
    }

    fn oid(&self, tree: &TreeId) -> Result<Oid, RepositoryError> {
        Oid::from_str(tree.as_str()).map_err(|error| broken(format!("reading the tree id `{tree}`"), error))
    }

    fn known(&self) -> MutexGuard<'_, Option<Stock>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the user's folder: what is unchanged since the last time, or since the index was written, is not read.
    fn take_stock(&self) -> Result<Taken, RepositoryError> {
        let root = beneath::open_root(&self.root)
            .map_err(|error| broken(format!("opening {}", self.root.display()), error))?;
        let mut known = self.known();
        let index = index_sig(&self.git_dir);
        let fresh = known.as_ref().is_none_or(|stock| stock.index != index || index.is_none());
        if fresh {
            let user = self.user()?;
            let facts = Arc::new(self.facts(&user, index)?);
            let head = head_tree(&user)?;
            *known = Some(Stock { index, facts: facts.clone(), scanner: Scanner::new(facts, head) });
        }
        let Some(stock) = known.as_mut() else {
            return Err(broken("reading the repository", "nothing is known of it"));
        };
        let found = stock.scanner.scan(&self.store, root.as_fd())?;
        let tree = found.tree.unwrap_or_else(|| self.store.empty_tree());
        Ok(Taken { tree, facts: stock.facts.clone(), memory: stock.scanner.memory.clone(), found })
    }

    fn facts(&self, user: &git2::Repository, written: Option<Sig>) -> Result<Facts, RepositoryError> {
        let index = user.index().map_err(|error| {
            let doing = format!(
                "reading the index of {} (a split or sparse index cannot be read: `git update-index --no-split-index` \
                 or `git sparse-checkout reapply --no-sparse-index` makes it a plain one)",
                self.root.display()
            );
            broken(doing, error)
        })?;
        let trust_mode = user.config().and_then(|config| config.get_bool("core.filemode")).unwrap_or(true);
        let exclude = Rules::base(&user.commondir().join("info/exclude"));
        let mut facts = Facts { trust_mode, exclude, ..Facts::default() };
        facts.indexed = HashMap::with_capacity(index.len());
        let written = written.map(|sig| sig.mtime);
        for entry in index.iter() {
            // Bits 12 and 13 of the flags: the stage of a conflict.
            if entry.flags & 0x3000 != 0 {
                continue;
            }
            if entry.mode == trees::COMMIT {
                facts.links.insert(entry.path, entry.id);
                continue;
            }
            // Bit 14 of the extended flags: skip-worktree.
            if entry.flags_extended & 0x4000 != 0 {
                facts.sparse.insert(entry.path.clone(), (entry.mode, entry.id));
            }
            let mtime = (entry.mtime.seconds(), entry.mtime.nanoseconds());
            let racy = written.is_none_or(|written| {
                let (seconds, nanos) = (i64::from(mtime.0), mtime.1);
                seconds > written.0 || (seconds == written.0 && (nanos == 0 || nanos >= written.1))
            });
            let indexed = Indexed {
                size: entry.file_size,
                mtime,
                ctime: (entry.ctime.seconds(), entry.ctime.nanoseconds()),
                ino: entry.ino,
                mode: entry.mode,
                oid: entry.id,
                racy,
            };
            facts.indexed.insert(entry.path, indexed);
        }
        Ok(facts)
    }

    /// The folder of a run's workspaces.
    fn run_dir(&self, run: &RunId) -> Result<PathBuf, RepositoryError> {
        Ok(self.state.join("runs").join(plain_name("run", run.as_str())?))
    }

    /// The folder of a run's workspaces. As root they are overlays, whose layers must not lie in one another: what
    /// set-up made becomes a layer of its own, and under `.git` it would lie within the user's folder, the lowest one.
    /// So they are kept beside: `/var/tmp/codeforge-UID/REPOSITORY/RUN`, which only this user and that of the commands can enter.
    fn workspaces_dir(&self, run: &RunId) -> Result<PathBuf, RepositoryError> {
        let beneath = self.run_dir(run)?.join("ws");
        let user = rustix::process::geteuid();
        if !user.is_root() || self.force == Force::Copy {
            return Ok(beneath);
        }
        let scratch = PathBuf::from(format!("/var/tmp/codeforge-{}", user.as_raw()));
        if self.root.starts_with("/var/tmp") || self.root == Path::new("/") || !own_folder(&scratch) {
            return Ok(beneath);
        }
        let here = crate::model::id::short_hash(self.state.as_os_str().as_bytes(), 16);
        Ok(scratch.join(here).join(plain_name("run", run.as_str())?))
    }

    /// What the workspaces that there are say of themselves, of all runs.
    fn workspace_metas(&self) -> Vec<Vec<u8>> {
        let entries = |folder: &Path| -> Vec<PathBuf> {
            std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
        };
        let mut runs: Vec<PathBuf> = entries(&self.state.join("runs")).iter().map(|run| run.join("ws")).collect();
        let beside = self.workspaces_dir(&RunId::from("any")).ok();
        let beside = beside.as_deref().and_then(Path::parent).filter(|folder| !folder.starts_with(&self.state));
        runs.extend(beside.map(entries).unwrap_or_default());
        let places = runs.iter().flat_map(|run| entries(run));
        places.filter_map(|place| std::fs::read(place.join("meta.json")).ok()).collect()
    }

    /// Lets the user's folder's owner write to the snapshot store.
    fn give_store(&self, user: u32, group: u32) -> std::io::Result<()> {
        let objects = self.state.join("store.git/objects");
        let mut folders: Vec<PathBuf> = vec![objects.clone()];
        folders.extend(std::fs::read_dir(&objects)?.flatten().map(|entry| entry.path()));
        folders.iter().try_for_each(|folder| std::os::unix::fs::lchown(folder, Some(user), Some(group)))
    }

    fn ref_name(&self, run: &RunId, key: &str) -> Result<String, RepositoryError> {
        Ok(format!("refs/codeforge/{}/{}", plain_name("run", run.as_str())?, plain_name("key", key)?))
    }

    /// Keeps the head's commit, and so the objects that snapshots share with it, from being collected.
    fn keep_base(&self, run: &RunId) -> Result<(), RepositoryError> {
        let user = self.user()?;
        let name = self.ref_name(run, "base")?;
        if user.find_reference(&name).is_ok() {
            return Ok(());
        }
        let head = match self.head {
            Some(head) => Some(head),
            None => head_commit(&user)?,
        };
        if let Some(commit) = head {
            user.reference(&name, commit, false, "codeforge: keeps a run's base")
                .map_err(|error| broken(format!("writing {name}"), error))?;
        }
        Ok(())
    }

    /// The error of a folder that changed under an overlay.
    fn changed_underneath(&self, paths: &[Vec<u8>]) -> RepositoryError {
        let named: Vec<String> = paths.iter().take(10).map(|path| format!("`{}`", shown(path))).collect();
        let more = if paths.len() > 10 { format!(" and {} more", paths.len() - 10) } else { String::new() };
        RepositoryError::ChangedUnderneath(format!(
            "{}{more} in {} changed while a run was working on top; undo that (or `git stash`) and resume the run, or \
             start it again",
            named.join(", "),
            self.root.display()
        ))
    }
}

/// Makes a folder in which only we can look about, or finds ours; one of somebody else's making is not used.
fn own_folder(path: &Path) -> bool {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
    let _ = std::fs::DirBuilder::new().mode(0o711).create(path);
    let ours = std::fs::symlink_metadata(path)
        .is_ok_and(|meta| meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw());
    // Passed through by commands that run as another user; not listed by anybody.
    ours && std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o711)).is_ok()
}

/// A name that is one plain part of a path and of a ref.
fn plain_name<'a>(what: &str, name: &'a str) -> Result<&'a str, RepositoryError> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' || byte == b'.';
    let bad = name.is_empty()
        || name.starts_with(['.', '-'])
        || name.contains("..")
        || name.ends_with(".lock")
        || name.ends_with('.')
        || !name.bytes().all(fine);
    if bad { Err(broken(format!("naming the {what} `{name}`"), "it is not a plain name")) } else { Ok(name) }
}

fn index_sig(git_dir: &Path) -> Option<Sig> {
    let stat = rustix::fs::stat(git_dir.join("index")).ok()?;
    Some(Sig::of(&stat))
}

/// HEAD's commit; `None` on an unborn branch.
fn head_commit(user: &git2::Repository) -> Result<Option<Oid>, RepositoryError> {
    match user.head().and_then(|head| head.peel_to_commit()) {
        Ok(commit) => Ok(Some(commit.id())),
        Err(error) if matches!(error.code(), ErrorCode::UnbornBranch | ErrorCode::NotFound) => Ok(None),
        Err(error) => Err(broken("reading HEAD", error)),
    }
}

fn head_tree(user: &git2::Repository) -> Result<Option<Oid>, RepositoryError> {
    match head_commit(user)? {
        None => Ok(None),
        Some(commit) => user
            .find_commit(commit)
            .map(|commit| Some(commit.tree_id()))
            .map_err(|error| broken(format!("reading commit {commit}"), error)),
    }
}

/// The branch that HEAD names; `None` when detached.
fn head_branch(user: &git2::Repository) -> Option<String> {
    let head = user.find_reference("HEAD").ok()?;
    let target = head.symbolic_target_bytes()?;
    let name = target.strip_prefix(b"refs/heads/")?;
    Some(String::from_utf8_lossy(name).into_owned())
}

/// The port.
struct Repo(Arc<Inner>);

impl Repository for Repo {
    fn state_dir(&self) -> &Path {
        &self.0.state
    }

    fn root(&self) -> &Path {
        &self.0.root
    }

    fn base(&self) -> Result<Base, RepositoryError> {
        let user = self.0.user()?;
        let commit = head_commit(&user)?;
        let head = head_tree(&user)?.unwrap_or_else(|| self.0.store.empty_tree());
        let taken = self.0.take_stock()?;
        let dirty = trees::diff(&self.0.store, head, taken.tree)?;
        Ok(Base {
            repo: self.0.root.to_string_lossy().into_owned(),
            commit: commit.map(|commit| commit.to_string()),
            branch: head_branch(&user),
            tree: TreeId(taken.tree.to_string()),
            dirty: dirty.iter().map(|delta| shown(&delta.path)).collect(),
        })
    }

    fn workspace(&self, order: &OpenWorkspace) -> Result<Arc<dyn Workspace>, RepositoryError> {
        self.0.keep_base(&order.run)?;
        workspace::open(&self.0, order)
    }

    fn pin(&self, run: &RunId, key: &EffectKey, tree: &TreeId) -> Result<(), RepositoryError> {
        let name = self.0.ref_name(run, key.as_str())?;
        let oid = self.0.oid(tree)?;
        if !self.0.store.has(oid) {
            return Err(self.0.store.broken(format!("pinning tree {tree}"), "there is no such tree"));
        }
        let store = self.0.store.repository();
        let pinned = store.reference(&name, oid, true, "codeforge: pin").map(|_| ());
        pinned.map_err(|error| self.0.store.broken(format!("writing {name}"), error))
    }

    fn pinned(&self, run: &RunId, key: &EffectKey) -> Result<Option<TreeId>, RepositoryError> {
        let name = self.0.ref_name(run, key.as_str())?;
        let store = self.0.store.repository();
        match store.find_reference(&name) {
            Ok(found) => Ok(found.target().map(|oid| TreeId(oid.to_string()))),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(self.0.store.broken(format!("reading {name}"), error)),
        }
    }

    fn diff(&self, from: &TreeId, to: &TreeId, cap: usize) -> Result<ChangeSet, RepositoryError> {
        diff::change_set(&self.0.store, self.0.oid(from)?, self.0.oid(to)?, cap)
    }

    fn merge(
        &self,
        base: &TreeId,
        ours: &TreeId,
        theirs: &TreeId,
    ) -> Result<Result<TreeId, Vec<String>>, RepositoryError> {
        history::merge(&self.0.store, self.0.oid(base)?, self.0.oid(ours)?, self.0.oid(theirs)?)
    }

    fn graft(&self, tree: &TreeId, from: &TreeId, paths: &[String]) -> Result<TreeId, RepositoryError> {
        history::graft(&self.0.store, self.0.oid(tree)?, self.0.oid(from)?, paths)
    }

    fn log(&self, limit: usize, path: Option<&str>) -> Result<String, RepositoryError> {
        history::log(&self.0.user()?, &self.0.store, None, limit, path)
    }

    fn subjects(&self, commit: &str, most: usize) -> Result<Vec<String>, RepositoryError> {
        history::subjects(&self.0.user()?, commit, most)
    }

    fn deliver(&self, base: &Base, delivery: &Delivery, patch_to: &Path) -> Result<Delivered, RepositoryError> {
        deliver::deliver(&self.0, base, delivery, patch_to)
    }

    fn lay_in(&self, base: &Base, delivery: &Delivery) -> Result<Patch, RepositoryError> {
        exact::lay_in(&self.0, base, delivery)
    }

    fn take_out(&self, base: &TreeId, patch: &Patch, protected: &[String]) -> Result<TreeId, RepositoryError> {
        exact::take_out(&self.0, base, patch, protected)
    }

    fn committed(&self, commit: &str) -> Result<TreeId, RepositoryError> {
        let commit =
            Oid::from_str(commit).map_err(|error| broken(format!("reading the commit id `{commit}`"), error))?;
        Ok(TreeId(exact::tree_of(&self.0, commit)?.to_string()))
    }

    fn find_in_change(
        &self,
        from: &TreeId,
        to: &TreeId,
        found: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Option<String>, RepositoryError> {
        outgoing::find(&self.0, self.0.oid(from)?, self.0.oid(to)?, found)
    }

    fn commit(&self, base: &Base, delivery: &Delivery, signer: Option<&Signer>) -> Result<String, RepositoryError> {
        outgoing::commit(&self.0, base, delivery, signer)
    }

    fn change_on_head(&self, base: &Base, delivery: &Delivery) -> Result<HeadChange, RepositoryError> {
        outgoing::change_on_head(&self.0, base, delivery)
    }

    fn pack(&self, commit: &str, known: &[String]) -> Result<Vec<u8>, RepositoryError> {
        outgoing::pack(&self.0, commit, known)
    }

    fn take_pack(&self, pack: &[u8]) -> Result<(), RepositoryError> {
        outgoing::take_pack(&self.0, pack)
    }

    fn remote_url(&self, name: &str) -> Result<Option<String>, RepositoryError> {
        outgoing::remote_url(&self.0, name)
    }

    fn home(&self, run: &RunId, owner: (u32, u32)) -> Result<PathBuf, RepositoryError> {
        // No workspace's name begins with a dot.
        let home = self.0.workspaces_dir(run)?.join(".home");
        let made = std::fs::create_dir_all(&home).and_then(|()| {
            let own = rustix::process::geteuid().is_root();
            if own { std::os::unix::fs::lchown(&home, Some(owner.0), Some(owner.1)) } else { Ok(()) }
        });
        made.map_err(|error| broken(format!("making {}", home.display()), error))?;
        Ok(home)
    }

    fn base_files(&self, base: &Base) -> Result<Vec<BaseFile>, RepositoryError> {
        recorded::base_files(&self.0, base)
    }

    fn as_recorded(&self, base: &RecordedBase, scratch: &RunId) -> Result<Arc<dyn Repository>, RepositoryError> {
        recorded::open(&self.0, base, scratch)
    }

    fn clean(&self, run: &RunId) -> Result<(), RepositoryError> {
        workspace::discard(&self.0.run_dir(run)?.join("ws"))?;
        let beside = self.0.workspaces_dir(run)?;
        workspace::discard(&beside)?;
        // The repository's own folder goes with its last run.
        if let Some(folder) = beside.parent().filter(|folder| folder.starts_with("/var/tmp"))
            && std::fs::remove_dir(folder).is_ok()
        {
            stray::forget(folder);
        }
        Ok(())
    }
}

/// A path's bytes as the operating system takes them.
fn os(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}
