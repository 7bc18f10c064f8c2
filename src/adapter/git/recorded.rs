//! The repository as a recorded run found it.

use super::store::{broken, shown};
use super::trees::{self, COMMIT, Put};
use super::{Inner, diff, guard, head_branch, history, outgoing, workspace};
use crate::model::delivery::{ChangeSet, Delivered, Delivery};
use crate::model::exec::ExecMode;
use crate::model::id::{EffectKey, RunId, TreeId};
use crate::model::journal::Base;
use crate::model::patch::Patch;
use crate::model::plan::DeliverKind;
use crate::model::recording::{BaseFile, FileContent, RecordedBase};
use crate::port::repository::{HeadChange, OpenWorkspace, Repository, RepositoryError, Signer, Workspace};
use git2::{ObjectType, Oid};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of one file, and of all files, that are recorded of what was not committed.
const LARGEST: usize = 1024 * 1024;
const LARGEST_ALL: usize = 16 * 1024 * 1024;

/// The files in which a base differs from its commit.
pub(super) fn base_files(inner: &Inner, base: &Base) -> Result<Vec<BaseFile>, RepositoryError> {
    let user = inner.user()?;
    let from = match &base.commit {
        Some(commit) => commit_tree(&user, commit)?,
        None => inner.store.empty_tree(),
    };
    let mut files = Vec::new();
    let mut room = LARGEST_ALL;
    for delta in trees::diff(&inner.store, from, inner.oid(&base.tree)?)? {
        let path = shown(&delta.path);
        let left_out = |why: &str| FileContent::LeftOut(why.to_owned());
        let (mode, content) = match delta.new {
            None => (0, FileContent::Gone),
            Some((mode, _)) if mode == COMMIT => (mode, left_out("it is a submodule")),
            Some((mode, _)) if path.as_bytes() != delta.path => (mode, left_out("its name is not UTF-8")),
            Some((mode, oid)) => {
                let object = inner.store.read(oid)?;
                let data = object.data();
                let content = if data.len() > LARGEST.min(room) {
                    left_out("it is too large")
                } else {
                    room -= data.len();
                    match std::str::from_utf8(data) {
                        Ok(text) => FileContent::Text(text.to_owned()),
                        Err(_) => FileContent::Hex(hex(data)),
                    }
                };
                (mode, content)
            }
        };
        files.push(BaseFile { path, mode, content });
    }
    Ok(files)
}

/// Opens the view.
pub(super) fn open(
    inner: &Arc<Inner>,
    base: &RecordedBase,
    scratch: &RunId,
) -> Result<Arc<dyn Repository>, RepositoryError> {
    let user = inner.user()?;
    let head = match &base.commit {
        Some(commit) => Some(Oid::from_str(commit).map_err(|_| no_commit(commit))?),
        None => None,
    };
    let tree = rebuilt(inner, &user, base)?;
    let store = super::store::Store::open(&inner.state, &inner.objects)?;
    let inner = Inner {
        root: inner.root.clone(),
        git_dir: inner.git_dir.clone(),
        state: inner.state.clone(),
        objects: inner.objects.clone(),
        store,
        force: inner.force,
        head,
        known: Mutex::default(),
    };
    let base = Base {
        repo: inner.root.to_string_lossy().into_owned(),
        commit: base.commit.clone(),
        branch: head_branch(&user),
        tree,
        dirty: base.files.iter().map(|file| file.path.clone()).collect(),
    };
    Ok(Arc::new(Recorded { inner: Arc::new(inner), base, scratch: scratch.clone(), pins: Mutex::default() }))
}

/// The tree that commit and files give, which must be the recorded one.
fn rebuilt(inner: &Inner, user: &git2::Repository, base: &RecordedBase) -> Result<TreeId, RepositoryError> {
    let mut edits: BTreeMap<Vec<u8>, Put> = BTreeMap::new();
    let mut missing = Vec::new();
    let from = match &base.commit {
        Some(commit) => commit_tree(user, commit)?,
        None => inner.store.empty_tree(),
    };
    for file in &base.files {
        let put = match &file.content {
            FileContent::Gone => None,
            FileContent::LeftOut(why) => {
                missing.push(format!("`{}` ({why})", file.path));
                continue;
            }
            FileContent::Text(text) => Some((file.mode, inner.store.write(ObjectType::Blob, text.as_bytes())?)),
            FileContent::Hex(digits) => match bytes(digits) {
                Some(data) => Some((file.mode, inner.store.write(ObjectType::Blob, &data)?)),
                None => {
                    missing.push(format!("`{}` (its content in the recording is damaged)", file.path));
                    continue;
                }
            },
        };
        if !plain(&file.path) {
            missing.push(format!("`{}` (no path within the repository)", file.path));
            continue;
        }
        edits.insert(file.path.clone().into_bytes(), put);
    }
    if !missing.is_empty() {
        return Err(RepositoryError::Missing(format!(
            "the files that the run began with cannot be had: the recording lacks {}; commit such files and record the \
             run again",
            missing.join(", ")
        )));
    }
    let tree = TreeId(trees::edit(&inner.store, from, &edits)?.to_string());
    if tree != base.tree {
        return Err(RepositoryError::Missing(format!(
            "the files that the run began with cannot be had: commit {} with the {} recorded files gives the tree {tree}, \
             and the run began with {}; the recording was changed, or a file is gone in it: record the run again",
            base.commit.as_deref().unwrap_or("(none)"),
            base.files.len(),
            base.tree
        )));
    }
    Ok(tree)
}

/// A path that stays within the tree.
fn plain(path: &str) -> bool {
    !path.is_empty()
        && path.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.eq_ignore_ascii_case(".git"))
}

fn no_commit(commit: &str) -> RepositoryError {
    RepositoryError::Missing(format!(
        "the run began at commit {commit}, which this repository does not have; fetch it (`git fetch --unshallow`, or \
         `git fetch origin {commit}`), or name the repository with --repo"
    ))
}

fn commit_tree(user: &git2::Repository, commit: &str) -> Result<Oid, RepositoryError> {
    let oid = Oid::from_str(commit).map_err(|_| no_commit(commit))?;
    user.find_commit(oid).map(|commit| commit.tree_id()).map_err(|_| no_commit(commit))
}

/// An index that holds a commit's files. `aside`: a file that may come and go.
pub(super) fn index(user: &git2::Repository, commit: Oid, aside: &Path) -> Result<Vec<u8>, RepositoryError> {
    let written = || -> Result<(), git2::Error> {
        let tree = user.find_commit(commit)?.tree()?;
        let mut index = git2::Index::open(aside)?;
        index.read_tree(&tree)?;
        index.write()
    };
    let doing = || format!("writing the index {}", aside.display());
    written().map_err(|error| broken(doing(), error))?;
    let bytes = std::fs::read(aside).map_err(|error| broken(doing(), error))?;
    std::fs::remove_file(aside).map_err(|error| broken(doing(), error))?;
    Ok(bytes)
}

fn hex(data: &[u8]) -> String {
    data.iter().fold(String::with_capacity(data.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let value = |digit: &u8| char::from(*digit).to_digit(16);
    digits.chunks(2).map(|pair| Some((value(pair.first()?)? * 16 + value(pair.get(1)?)?) as u8)).collect()
}

fn nothing_leaves() -> RepositoryError {
    RepositoryError::Refused("a recorded run publishes nothing".to_owned())
}

struct Recorded {
    inner: Arc<Inner>,
    base: Base,
    scratch: RunId,
    pins: Mutex<HashMap<(RunId, EffectKey), TreeId>>,
}

impl Repository for Recorded {
    fn state_dir(&self) -> &Path {
        &self.inner.state
    }

    fn root(&self) -> &Path {
        &self.inner.root
    }

    fn base(&self) -> Result<Base, RepositoryError> {
        Ok(self.base.clone())
    }

    fn workspace(&self, order: &OpenWorkspace) -> Result<Arc<dyn Workspace>, RepositoryError> {
        if order.mode == ExecMode::Mount {
            return Err(RepositoryError::Refused("a recorded run is not made again in your own tree".to_owned()));
        }
        workspace::open(&self.inner, &OpenWorkspace { run: self.scratch.clone(), ..order.clone() })
    }

    fn pin(&self, run: &RunId, key: &EffectKey, tree: &TreeId) -> Result<(), RepositoryError> {
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        pins.insert((run.clone(), key.clone()), tree.clone());
        Ok(())
    }

    fn pinned(&self, run: &RunId, key: &EffectKey) -> Result<Option<TreeId>, RepositoryError> {
        let pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(pins.get(&(run.clone(), key.clone())).cloned())
    }

    fn diff(&self, from: &TreeId, to: &TreeId, cap: usize) -> Result<ChangeSet, RepositoryError> {
        diff::change_set(&self.inner.store, self.inner.oid(from)?, self.inner.oid(to)?, cap)
    }

    fn merge(
        &self,
        base: &TreeId,
        ours: &TreeId,
        theirs: &TreeId,
    ) -> Result<Result<TreeId, Vec<String>>, RepositoryError> {
        let inner = &self.inner;
        history::merge(&inner.store, inner.oid(base)?, inner.oid(ours)?, inner.oid(theirs)?)
    }

    fn graft(&self, tree: &TreeId, from: &TreeId, paths: &[String]) -> Result<TreeId, RepositoryError> {
        history::graft(&self.inner.store, self.inner.oid(tree)?, self.inner.oid(from)?, paths)
    }

    fn log(&self, limit: usize, path: Option<&str>) -> Result<String, RepositoryError> {
        match self.inner.head {
            Some(head) => history::log(&self.inner.user()?, &self.inner.store, Some(head), limit, path),
            None => Ok(String::new()),
        }
    }

    fn subjects(&self, commit: &str, most: usize) -> Result<Vec<String>, RepositoryError> {
        history::subjects(&self.inner.user()?, commit, most)
    }

    fn deliver(&self, _: &Base, delivery: &Delivery, _: &Path) -> Result<Delivered, RepositoryError> {
        let (from, to) = (self.inner.oid(&delivery.base)?, self.inner.oid(&delivery.tree)?);
        let changed = from != to;
        let mut changes = ChangeSet::default();
        if changed && delivery.kind != DeliverKind::None {
            let deltas = trees::diff(&self.inner.store, from, to)?;
            guard::check(&self.inner.store, &deltas, &delivery.protected_paths)?;
            guard::check_whole(&self.inner.store, &deltas)?;
            changes = diff::change_set(&self.inner.store, from, to, 0)?;
        }
        Ok(Delivered {
            kind: delivery.kind,
            patch: None,
            commit: None,
            branch: None,
            changes,
            changed,
            published: None,
        })
    }

    fn find_in_change(
        &self,
        from: &TreeId,
        to: &TreeId,
        found: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Option<String>, RepositoryError> {
        outgoing::find(&self.inner, self.inner.oid(from)?, self.inner.oid(to)?, found)
    }

    fn commit(&self, _: &Base, _: &Delivery, _: Option<&Signer>) -> Result<String, RepositoryError> {
        Err(nothing_leaves())
    }

    fn change_on_head(&self, _: &Base, _: &Delivery) -> Result<HeadChange, RepositoryError> {
        Err(nothing_leaves())
    }

    fn pack(&self, _: &str, _: &[String]) -> Result<Vec<u8>, RepositoryError> {
        Err(nothing_leaves())
    }

    fn take_pack(&self, _: &[u8]) -> Result<(), RepositoryError> {
        Err(nothing_leaves())
    }

    fn remote_url(&self, _: &str) -> Result<Option<String>, RepositoryError> {
        Ok(None)
    }

    fn lay_in(&self, base: &Base, delivery: &Delivery) -> Result<Patch, RepositoryError> {
        super::exact::lay_in(&self.inner, base, delivery)
    }

    fn take_out(&self, base: &TreeId, patch: &Patch, protected: &[String]) -> Result<TreeId, RepositoryError> {
        super::exact::take_out(&self.inner, base, patch, protected)
    }

    fn committed(&self, commit: &str) -> Result<TreeId, RepositoryError> {
        super::Repo(Arc::clone(&self.inner)).committed(commit)
    }

    fn home(&self, _: &RunId, owner: (u32, u32)) -> Result<PathBuf, RepositoryError> {
        super::Repo(Arc::clone(&self.inner)).home(&self.scratch, owner)
    }

    fn base_files(&self, base: &Base) -> Result<Vec<BaseFile>, RepositoryError> {
        base_files(&self.inner, base)
    }

    fn as_recorded(&self, base: &RecordedBase, scratch: &RunId) -> Result<Arc<dyn Repository>, RepositoryError> {
        open(&self.inner, base, scratch)
    }

    fn clean(&self, _: &RunId) -> Result<(), RepositoryError> {
        let cleaned = super::Repo(Arc::clone(&self.inner)).clean(&self.scratch);
        // An empty folder of a run that never was.
        let _ = std::fs::remove_dir(self.inner.run_dir(&self.scratch)?);
        cleaned
    }
}
