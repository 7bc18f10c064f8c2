//! Changes as exact bytes: taken out of one repository, put onto the same tree of another. No text is searched for and
//! nothing of a workspace runs: objects are read and written one by one.

use super::guard;
use super::store::shown;
use super::trees::{self, COMMIT, Put as Object};
use super::{Inner, deliver};
use crate::model::delivery::Delivery;
use crate::model::id::TreeId;
use crate::model::journal::Base;
use crate::model::patch::{GONE, LARGEST, MOST_FILES, Patch, Put};
use crate::port::repository::RepositoryError;
use git2::{ObjectType, Oid};
use std::collections::BTreeMap;

/// The change of a delivery, on its base's commit: what a person has not committed is not in it.
pub(super) fn lay_in(inner: &Inner, base: &Base, delivery: &Delivery) -> Result<Patch, RepositoryError> {
    let Some(head) = deliver::head_of(base)? else {
        return Err(RepositoryError::Refused(
            "no artifact was made: the repository has no commit that another job could start from; commit first".into(),
        ));
    };
    let (from, to) = (inner.oid(&delivery.base)?, inner.oid(&delivery.tree)?);
    let deltas = trees::diff(&inner.store, from, to)?;
    guard::check(&inner.store, &deltas, &delivery.protected_paths)?;
    guard::check_whole(&inner.store, &deltas)?;
    deliver::check_overlap(base, &deltas, "artifact")?;
    let committed = tree_of(inner, head)?;
    let tree = deliver::tree_on_head(inner, Some(head), &deltas)?;
    let mut deltas = trees::diff(&inner.store, committed, tree)?;
    deltas.sort_by(|a, b| a.path.cmp(&b.path));
    if deltas.len() > MOST_FILES {
        return Err(too_much(format!("{} files changed, more than the {MOST_FILES} of an artifact", deltas.len())));
    }
    let mut files = Vec::with_capacity(deltas.len());
    let mut bytes = 0;
    for delta in deltas {
        let (mode, content) = match delta.new {
            None => (GONE, Vec::new()),
            Some((mode, oid)) => (mode, inner.store.read(oid)?.data().to_vec()),
        };
        bytes += content.len();
        if bytes > LARGEST {
            return Err(too_much(format!("the changed files have more than the {} MiB of an artifact", LARGEST >> 20)));
        }
        let old = delta.old.map(|(mode, oid)| (mode, oid.to_string()));
        files.push(Put { path: delta.path, old, mode, content });
    }
    Ok(Patch { base: TreeId(committed.to_string()), tree: TreeId(tree.to_string()), files })
}

fn too_much(why: String) -> RepositoryError {
    RepositoryError::Refused(format!("no artifact was made: {why}"))
}

/// The tree of a commit of the user's.
pub(super) fn tree_of(inner: &Inner, commit: Oid) -> Result<Oid, RepositoryError> {
    let found = inner.user()?.find_commit(commit).map(|commit| commit.tree_id());
    found.map_err(|_| {
        RepositoryError::Missing(format!(
            "the commit {commit} is not in this repository; check it out with its history (`fetch-depth: 0`)"
        ))
    })
}

/// Puts a change onto the tree that it was made on, checked as a delivery is. Objects of ours are written, nothing else.
pub(super) fn take_out(
    inner: &Inner,
    base: &TreeId,
    patch: &Patch,
    protected: &[String],
) -> Result<TreeId, RepositoryError> {
    let refuse = |why: String| RepositoryError::Refused(format!("nothing was delivered: the change {why}"));
    if patch.base != *base {
        return Err(refuse(format!("was made on another tree ({}) than the one it is for ({base})", patch.base)));
    }
    let from = inner.oid(base)?;
    let mut edits: BTreeMap<Vec<u8>, Object> = BTreeMap::new();
    for put in &patch.files {
        let there = trees::lookup(&inner.store, from, &put.path)?.filter(|entry| !entry.is_folder());
        let there = there.map(|entry| (entry.mode, entry.oid.to_string()));
        if there != put.old {
            return Err(refuse(format!("does not fit: `{}` is not what it was made on", shown(&put.path))));
        }
        let new = match put.mode {
            GONE => None,
            COMMIT => return Err(refuse(format!("holds a submodule, `{}`", shown(&put.path)))),
            mode => Some((mode, inner.store.write(ObjectType::Blob, &put.content)?)),
        };
        edits.insert(put.path.clone(), new);
    }
    let tree = trees::edit(&inner.store, from, &edits)?;
    let deltas = trees::diff(&inner.store, from, tree)?;
    guard::check(&inner.store, &deltas, protected)?;
    guard::check_whole(&inner.store, &deltas)?;
    if tree.to_string() != patch.tree.as_str() {
        return Err(refuse(format!("makes another tree ({tree}) than it says ({})", patch.tree)));
    }
    Ok(TreeId(tree.to_string()))
}
