//! Handing a tree over: as a patch file, a commit on the current branch, or a branch of its own.
//!
//! No hook, filter or attribute of the workspace runs: blobs are copied object by object, and what is written to the
//! user's folder is written by us. A delivery made twice finds what it made.

use super::beneath;
use super::guard;
use super::patch;
use super::store::{broken, shown};
use super::trees::{self, Delta, LINK, Put};
use super::{Inner, diff};
use crate::model::delivery::{ChangeSet, Delivered, Delivery};
use crate::model::journal::Base;
use crate::model::plan::DeliverKind;
use crate::port::repository::RepositoryError;
use git2::{IndexEntry, IndexTime, ObjectType, Oid, Repository, Signature, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;

/// Carries a delivery out.
pub(super) fn deliver(
    inner: &Inner,
    base: &Base,
    delivery: &Delivery,
    patch_to: &Path,
) -> Result<Delivered, RepositoryError> {
    let (from, to) = (inner.oid(&delivery.base)?, inner.oid(&delivery.tree)?);
    let nothing = |changed| Delivered {
        kind: delivery.kind,
        patch: None,
        commit: None,
        branch: None,
        changes: ChangeSet::default(),
        changed,
        published: None,
    };
    if from == to {
        return Ok(nothing(false));
    }
    if delivery.kind == DeliverKind::None {
        return Ok(nothing(true));
    }
    let deltas = trees::diff(&inner.store, from, to)?;
    guard::check(&inner.store, &deltas, &delivery.protected_paths)?;
    guard::check_whole(&inner.store, &deltas)?;
    let changes = diff::change_set(&inner.store, from, to, 0)?;
    let mut delivered = Delivered { changes, ..nothing(true) };
    match delivery.kind {
        DeliverKind::Patch => {
            unchanged_below(inner, base)?;
            let text = patch::mail(&inner.store, from, to, &deltas, delivery)?;
            let failed = |error| broken(format!("writing the patch {}", patch_to.display()), error);
            if let Some(folder) = patch_to.parent() {
                std::fs::create_dir_all(folder).map_err(failed)?;
                hide_runs(folder).map_err(failed)?;
            }
            beneath::write_state(patch_to, &text).map_err(failed)?;
            delivered.patch = Some(patch_to.display().to_string());
        }
        DeliverKind::CommitLocal => {
            delivered.commit = Some(as_owner(inner, || commit_local(inner, base, delivery, &deltas))?.to_string())
        }
        DeliverKind::Branch => {
            let name = delivery.branch.clone().unwrap_or_default();
            delivered.commit = Some(as_owner(inner, || branch(inner, base, delivery, &deltas, &name))?.to_string());
            delivered.branch = Some(name);
        }
        other => {
            return Err(RepositoryError::Refused(format!(
                "a delivery of the form {other:?} is made by a forge, not by a local repository"
            )));
        }
    }
    Ok(delivered)
}

/// Runs are nobody's change: their folder ignores itself.
fn hide_runs(run: &Path) -> std::io::Result<()> {
    let Some(runs) = run.parent().filter(|runs| runs.ends_with(".codeforge/runs")) else { return Ok(()) };
    let ignore = runs.join(".gitignore");
    if ignore.exists() { Ok(()) } else { std::fs::write(ignore, "*\n") }
}

/// The paths that a person has changed but not committed must not be in the delivery: it would carry their work, or
/// lose it.
pub(super) fn check_overlap(base: &Base, deltas: &[Delta], what: &str) -> Result<(), RepositoryError> {
    let dirty: BTreeSet<&str> = base.dirty.iter().map(String::as_str).collect();
    let both: Vec<String> =
        deltas.iter().map(|delta| shown(&delta.path)).filter(|path| dirty.contains(path.as_str())).collect();
    if both.is_empty() {
        return Ok(());
    }
    Err(RepositoryError::Refused(format!(
        "no {what} was made: the run changed {}, where you have changes that are not committed. Commit or stash them \
         and run again, or take the change as a patch (`deliver: {{ as: patch }}`)",
        both.iter().map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ")
    )))
}

pub(super) fn head_of(base: &Base) -> Result<Option<Oid>, RepositoryError> {
    base.commit
        .as_ref()
        .map(|commit| Oid::from_str(commit).map_err(|error| broken(format!("reading the commit id `{commit}`"), error)))
        .transpose()
}

/// HEAD's tree with the change, and nothing of what was dirty.
pub(super) fn tree_on_head(inner: &Inner, head: Option<Oid>, deltas: &[Delta]) -> Result<Oid, RepositoryError> {
    let tree = match head {
        Some(commit) => inner
            .user()?
            .find_commit(commit)
            .map_err(|error| broken(format!("reading commit {commit}"), error))?
            .tree_id(),
        None => inner.store.empty_tree(),
    };
    let edits: BTreeMap<Vec<u8>, Put> = deltas.iter().map(|delta| (delta.path.clone(), delta.new)).collect();
    trees::edit(&inner.store, tree, &edits)
}

/// Copies what the user's repository lacks of a tree into it.
fn copy_objects(inner: &Inner, user: &Repository, tree: Oid) -> Result<(), RepositoryError> {
    let odb = user.odb().map_err(|error| broken("opening the repository's objects", error))?;
    let mut todo = vec![tree];
    let mut trees_after = Vec::new();
    while let Some(oid) = todo.pop() {
        if odb.exists(oid) {
            continue;
        }
        for entry in trees::read(&inner.store, oid)? {
            if entry.is_folder() {
                todo.push(entry.oid);
            } else if entry.mode != trees::COMMIT && !odb.exists(entry.oid) {
                let object = inner.store.read(entry.oid)?;
                odb.write(object.kind(), object.data()).map_err(|error| broken("writing a file's content", error))?;
            }
        }
        trees_after.push(oid);
    }
    // Children first: a tree that is there is whole.
    for oid in trees_after.into_iter().rev() {
        let object = inner.store.read(oid)?;
        odb.write(ObjectType::Tree, object.data()).map_err(|error| broken("writing a tree", error))?;
    }
    Ok(())
}

/// Makes the commit; the same delivery makes the same one.
fn commit(
    inner: &Inner,
    user: &Repository,
    head: Option<Oid>,
    tree: Oid,
    delivery: &Delivery,
) -> Result<Oid, RepositoryError> {
    copy_objects(inner, user, tree)?;
    let failed = |error| broken("making the commit", error);
    let (name, address) = (patch::header(&delivery.author.0), patch::header(&delivery.author.1));
    let who = Signature::new(&name, &address, &Time::new(delivery.time_s, 0)).map_err(failed)?;
    let tree = user.find_tree(tree).map_err(failed)?;
    let parents = match head {
        Some(head) => vec![user.find_commit(head).map_err(failed)?],
        None => Vec::new(),
    };
    user.commit(None, &who, &who, &message(delivery), &tree, &parents.iter().collect::<Vec<_>>()).map_err(failed)
}

/// A commit's message.
pub(super) fn message(delivery: &Delivery) -> String {
    let body = delivery.body.trim();
    if body.is_empty() { format!("{}\n", delivery.title) } else { format!("{}\n\n{body}\n", delivery.title) }
}

fn branch(
    inner: &Inner,
    base: &Base,
    delivery: &Delivery,
    deltas: &[Delta],
    name: &str,
) -> Result<Oid, RepositoryError> {
    let full = format!("refs/heads/{name}");
    if name.starts_with('-') || name.is_empty() || !git2::Reference::is_valid_name(&full) || name.starts_with("refs/") {
        return Err(RepositoryError::Refused(format!(
            "`{name}` is not a branch name; mend `deliver.branch` in the workflow"
        )));
    }
    check_overlap(base, deltas, "branch")?;
    let user = inner.user()?;
    let head = head_of(base)?;
    let tree = tree_on_head(inner, head, deltas)?;
    let commit = commit(inner, &user, head, tree, delivery)?;
    let failed = |error| broken(format!("writing the branch {name}"), error);
    match user.find_reference(&full) {
        Ok(existing) => {
            let at = existing.peel_to_commit().map_err(failed)?;
            if at.id() == commit || at.tree_id() == tree && at.parent_ids().next() == head {
                return Ok(at.id());
            }
            Err(RepositoryError::Refused(format!(
                "the branch `{name}` exists already, with other commits; it is left as it is. Delete or rename it, or \
                 choose another `deliver.branch`"
            )))
        }
        Err(error) if error.code() == git2::ErrorCode::NotFound => {
            unchanged_below(inner, base)?;
            // Not forced: should somebody make the branch in this moment, theirs stays.
            user.reference(&full, commit, false, "codeforge: delivery").map_err(failed)?;
            Ok(commit)
        }
        Err(error) => Err(failed(error)),
    }
}

fn commit_local(inner: &Inner, base: &Base, delivery: &Delivery, deltas: &[Delta]) -> Result<Oid, RepositoryError> {
    let Some(branch) = &base.branch else {
        return Err(RepositoryError::Refused(
            "no commit was made: HEAD is detached. Check out a branch, or deliver a branch (`--deliver branch`)".into(),
        ));
    };
    check_overlap(base, deltas, "commit")?;
    let user = inner.user()?;
    let head = head_of(base)?;
    let tree = tree_on_head(inner, head, deltas)?;
    let commit = commit(inner, &user, head, tree, delivery)?;
    let now = super::head_commit(&user)?;
    let name = format!("refs/heads/{branch}");
    let moved = || {
        RepositoryError::Refused(format!(
            "no commit was made: `{branch}` has moved since the run began. The change is kept: deliver it as a branch \
             or a patch"
        ))
    };
    if super::head_branch(&user).as_deref() != Some(branch) {
        return Err(moved());
    }
    if now != Some(commit) {
        if now != head {
            return Err(moved());
        }
        check_untouched(inner, &user, deltas)?;
        unchanged_below(inner, base)?;
        let failed = |error| broken(format!("writing the branch {branch}"), error);
        match head {
            Some(head) => {
                // Compare and swap: somebody's commit in this moment stays.
                user.reference_matching(&name, commit, true, head, "codeforge: delivery").map_err(failed)?;
            }
            None => {
                user.reference(&name, commit, false, "codeforge: delivery").map_err(failed)?;
            }
        }
    }
    write_out(inner, &user, deltas)?;
    Ok(commit)
}

/// Whether the user's files are still what the run began with, where it changed them.
fn check_untouched(inner: &Inner, user: &Repository, deltas: &[Delta]) -> Result<(), RepositoryError> {
    let now = inner.take_stock()?.tree;
    let failed = |error: std::io::Error| broken(format!("reading {}", inner.root.display()), error);
    let root = beneath::open_root(&inner.root).map_err(failed)?;
    let index = user.index().map_err(|error| broken("reading the index", error))?;
    for delta in deltas {
        let refuse = |what: &str| {
            let path = shown(&delta.path);
            Err(RepositoryError::Refused(format!("no commit was made: `{path}` {what}; it is left as it is")))
        };
        let staged = index.get_path(super::os(&delta.path), 0).map(|entry| (entry.mode, entry.id));
        if staged != delta.old && staged != delta.new {
            return refuse("has staged changes of yours");
        }
        if in_the_way(inner, root.as_fd(), now, &delta.path)? {
            return refuse("is, or lies in, an ignored file of yours");
        }
        let there = trees::lookup(&inner.store, now, &delta.path)?.map(|entry| (entry.mode, entry.oid));
        if there != delta.old && there != delta.new {
            return Err(RepositoryError::Refused(format!(
                "no commit was made: `{}` changed while the run was at work; it is left as it is",
                shown(&delta.path)
            )));
        }
    }
    Ok(())
}

/// Whether something of the user's that no tree knows (an ignored file) is where the change writes.
fn in_the_way(
    inner: &Inner,
    root: std::os::fd::BorrowedFd<'_>,
    now: Oid,
    path: &[u8],
) -> Result<bool, RepositoryError> {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).chain([path.len()]);
    for end in ends {
        let part = path.get(..end).unwrap_or(path);
        let there =
            beneath::stat_path(root, part).map_err(|error| broken(format!("reading `{}`", shown(part)), error))?;
        let Some(sig) = there else { return Ok(false) };
        let ours = end == path.len() || sig.kind() != rustix::fs::FileType::Directory;
        if ours && trees::lookup(&inner.store, now, part)?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Where a workspace is an overlay on the user's folder, that folder must be what it was: else the change was made of
/// something that nobody has.
pub(super) fn unchanged_below(inner: &Inner, base: &Base) -> Result<(), RepositoryError> {
    let on_top = inner.workspace_metas().iter().any(|text| {
        serde_json::from_slice::<super::workspace::Meta>(text)
            .is_ok_and(|meta| meta.made_by == "overlay" && meta.lower == base.tree.as_str())
    });
    if !on_top {
        return Ok(());
    }
    let now = inner.take_stock()?.tree;
    let moved = trees::diff(&inner.store, inner.oid(&base.tree)?, now)?.into_iter().map(|delta| delta.path);
    // The runs' own records are written there.
    let moved: Vec<_> = moved.filter(|path| !path.starts_with(b".codeforge/runs/")).collect();
    if moved.is_empty() { Ok(()) } else { Err(inner.changed_underneath(&moved)) }
}

/// Runs `work` as the owner of the user's folder where we are root and it is somebody else's: what is written must be
/// theirs to change. Only this thread's access to files is meant.
fn as_owner<T>(inner: &Inner, work: impl FnOnce() -> Result<T, RepositoryError>) -> Result<T, RepositoryError> {
    use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
    use std::os::unix::fs::MetadataExt;
    let failed = |error| broken(format!("reading {}", inner.root.display()), error);
    let stat = std::fs::metadata(&inner.root).map_err(failed)?;
    if !rustix::process::geteuid().is_root() || stat.uid() == 0 {
        return work();
    }
    // What is written to the snapshot store meanwhile is written as that user too.
    inner.give_store(stat.uid(), stat.gid()).map_err(failed)?;
    /// Gives the thread its own access back, also where the work panics: the thread is used again.
    struct Back(Uid, Gid);
    impl Drop for Back {
        fn drop(&mut self) {
            setfsuid(self.0);
            setfsgid(self.1);
        }
    }
    let group = setfsgid(Gid::from_raw(stat.gid()));
    let _back = Back(setfsuid(Uid::from_raw(stat.uid())), group);
    work()
}

/// Writes the changed files to the user's folder and index; nothing else of either is touched.
fn write_out(inner: &Inner, user: &Repository, deltas: &[Delta]) -> Result<(), RepositoryError> {
    let failed = |path: &[u8], error: std::io::Error| broken(format!("writing `{}`", shown(path)), error);
    let root = beneath::open_root(&inner.root).map_err(|error| failed(b".", error))?;
    let mut index = user.index().map_err(|error| broken("reading the index", error))?;
    // Removals first, so that a file can become a folder.
    for delta in deltas.iter().filter(|delta| delta.new.is_none()) {
        let (folder, name) = beneath::split(&delta.path);
        if let Ok(folder) = beneath::open_folder(root.as_fd(), folder) {
            beneath::remove(folder.as_fd(), name).map_err(|error| failed(&delta.path, error))?;
        }
        remove_empty(&root, folder);
        index.remove_path(super::os(&delta.path)).map_err(|error| broken("writing the index", error))?;
    }
    for delta in deltas {
        let Some((mode, oid)) = delta.new else { continue };
        let object = inner.store.read(oid)?;
        let (folder, name) = beneath::split(&delta.path);
        let folder = beneath::make_folders(root.as_fd(), folder, None).map_err(|error| failed(&delta.path, error))?;
        let written = if mode == LINK {
            beneath::put_link(folder.as_fd(), name, object.data(), None)
        } else {
            let bits = if mode & 0o100 == 0 { 0o644 } else { 0o755 };
            beneath::put_file(folder.as_fd(), name, bits, None, |file| file.write_all(object.data()))
        };
        written.map_err(|error| failed(&delta.path, error))?;
        let zero = IndexTime::new(0, 0);
        let entry = IndexEntry {
            ctime: zero,
            mtime: zero,
            dev: 0,
            ino: 0,
            mode,
            uid: 0,
            gid: 0,
            file_size: 0,
            id: oid,
            flags: 0,
            flags_extended: 0,
            path: delta.path.clone(),
        };
        index.add(&entry).map_err(|error| broken("writing the index", error))?;
    }
    index.write().map_err(|error| broken("writing the index", error))
}

fn remove_empty(root: &std::os::fd::OwnedFd, folder: &[u8]) {
    let mut at = folder;
    while !at.is_empty() {
        let (parent, name) = beneath::split(at);
        let Ok(parent_fd) = beneath::open_folder(root.as_fd(), parent) else { return };
        if rustix::fs::unlinkat(parent_fd.as_fd(), name, rustix::fs::AtFlags::REMOVEDIR).is_err() {
            return;
        }
        at = parent;
    }
}
