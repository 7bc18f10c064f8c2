//! The repository as if one commit were checked out and nothing dirty: what a CI job works on, whatever the runner
//! left in the folder.

use super::store::broken;
use super::{Inner, Repo, history};
use crate::model::delivery::{ChangeSet, Delivered, Delivery};
use crate::model::exec::ExecMode;
use crate::model::id::{EffectKey, RunId, TreeId};
use crate::model::journal::Base;
use crate::model::patch::Patch;
use crate::model::recording::{BaseFile, RecordedBase};
use crate::port::repository::{HeadChange, OpenWorkspace, Repository, RepositoryError, Signer, Workspace};
use git2::Oid;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Opens the view.
pub(super) fn open(inner: &Arc<Inner>, head: Oid, tree: Oid) -> Result<Arc<dyn Repository>, RepositoryError> {
    if !inner.store.has(tree) {
        return Err(broken(format!("reading commit {head}"), format!("its tree {tree} is missing")));
    }
    let store = super::store::Store::open(&inner.state, &inner.objects)?;
    let inner = Inner {
        root: inner.root.clone(),
        git_dir: inner.git_dir.clone(),
        state: inner.state.clone(),
        objects: inner.objects.clone(),
        store,
        force: inner.force,
        head: Some(head),
        known: Mutex::default(),
    };
    Ok(Arc::new(Pinned { repo: Repo(Arc::new(inner)), head, tree: TreeId(tree.to_string()) }))
}

struct Pinned {
    repo: Repo,
    head: Oid,
    tree: TreeId,
}

impl Repository for Pinned {
    fn state_dir(&self) -> &Path {
        self.repo.state_dir()
    }

    fn root(&self) -> &Path {
        self.repo.root()
    }

    fn base(&self) -> Result<Base, RepositoryError> {
        Ok(Base {
            repo: self.repo.0.root.to_string_lossy().into_owned(),
            commit: Some(self.head.to_string()),
            branch: None,
            tree: self.tree.clone(),
            dirty: Vec::new(),
        })
    }

    fn workspace(&self, order: &OpenWorkspace) -> Result<Arc<dyn Workspace>, RepositoryError> {
        if order.mode == ExecMode::Mount {
            // The folder itself is worked on: it has to be what the run is for.
            let found = self.repo.0.take_stock()?.tree;
            if found.to_string() != self.tree.as_str() {
                return Err(RepositoryError::Refused(format!(
                    "`exec_mode: mount` works on the folder itself, and {} does not hold commit {}: check that commit \
                     out, or let tools run in a copy (`exec_mode: sandbox`)",
                    self.repo.0.root.display(),
                    self.head
                )));
            }
        }
        self.repo.workspace(order)
    }

    fn pin(&self, run: &RunId, key: &EffectKey, tree: &TreeId) -> Result<(), RepositoryError> {
        self.repo.pin(run, key, tree)
    }

    fn pinned(&self, run: &RunId, key: &EffectKey) -> Result<Option<TreeId>, RepositoryError> {
        self.repo.pinned(run, key)
    }

    fn diff(&self, from: &TreeId, to: &TreeId, cap: usize) -> Result<ChangeSet, RepositoryError> {
        self.repo.diff(from, to, cap)
    }

    fn merge(
        &self,
        base: &TreeId,
        ours: &TreeId,
        theirs: &TreeId,
    ) -> Result<Result<TreeId, Vec<String>>, RepositoryError> {
        self.repo.merge(base, ours, theirs)
    }

    fn graft(&self, tree: &TreeId, from: &TreeId, paths: &[String]) -> Result<TreeId, RepositoryError> {
        self.repo.graft(tree, from, paths)
    }

    fn log(&self, limit: usize, path: Option<&str>) -> Result<String, RepositoryError> {
        history::log(&self.repo.0.user()?, &self.repo.0.store, Some(self.head), limit, path)
    }

    fn subjects(&self, commit: &str, most: usize) -> Result<Vec<String>, RepositoryError> {
        self.repo.subjects(commit, most)
    }

    fn deliver(&self, base: &Base, delivery: &Delivery, patch_to: &Path) -> Result<Delivered, RepositoryError> {
        self.repo.deliver(base, delivery, patch_to)
    }

    fn lay_in(&self, base: &Base, delivery: &Delivery) -> Result<Patch, RepositoryError> {
        self.repo.lay_in(base, delivery)
    }

    fn take_out(&self, base: &TreeId, patch: &Patch, protected: &[String]) -> Result<TreeId, RepositoryError> {
        self.repo.take_out(base, patch, protected)
    }

    fn committed(&self, commit: &str) -> Result<TreeId, RepositoryError> {
        self.repo.committed(commit)
    }

    fn find_in_change(
        &self,
        from: &TreeId,
        to: &TreeId,
        found: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Option<String>, RepositoryError> {
        self.repo.find_in_change(from, to, found)
    }

    fn commit(&self, base: &Base, delivery: &Delivery, signer: Option<&Signer>) -> Result<String, RepositoryError> {
        self.repo.commit(base, delivery, signer)
    }

    fn change_on_head(&self, base: &Base, delivery: &Delivery) -> Result<HeadChange, RepositoryError> {
        self.repo.change_on_head(base, delivery)
    }

    fn pack(&self, commit: &str, known: &[String]) -> Result<Vec<u8>, RepositoryError> {
        self.repo.pack(commit, known)
    }

    fn take_pack(&self, pack: &[u8]) -> Result<(), RepositoryError> {
        self.repo.take_pack(pack)
    }

    fn remote_url(&self, name: &str) -> Result<Option<String>, RepositoryError> {
        self.repo.remote_url(name)
    }

    fn home(&self, run: &RunId, owner: (u32, u32)) -> Result<PathBuf, RepositoryError> {
        self.repo.home(run, owner)
    }

    fn base_files(&self, base: &Base) -> Result<Vec<BaseFile>, RepositoryError> {
        self.repo.base_files(base)
    }

    fn as_recorded(&self, base: &RecordedBase, scratch: &RunId) -> Result<Arc<dyn Repository>, RepositoryError> {
        self.repo.as_recorded(base, scratch)
    }

    fn clean(&self, run: &RunId) -> Result<(), RepositoryError> {
        self.repo.clean(run)
    }
}
