//! What is sent to a remote: a commit made in our own store, and a pack of what the remote lacks. The user's
//! repository is not written to: no branch, no object.

use super::deliver::{check_overlap, head_of, message, tree_on_head, unchanged_below};
use super::store::{broken, shown};
use super::trees::{self, COMMIT, Delta};
use super::{Inner, guard, patch, sign};
use crate::model::delivery::Delivery;
use crate::model::journal::Base;
use crate::port::checkout::Parcel;
use crate::port::repository::{HeadChange, HeadFile, RepositoryError, Signer};
use git2::{ErrorCode, Oid, Signature, Time};
use std::collections::HashSet;
use std::io::Write;

/// The commit that a delivery stands on, the tree that it makes of it, and what differs; checked as a delivery is.
fn prepared(inner: &Inner, base: &Base, delivery: &Delivery) -> Result<(Oid, Oid, Vec<Delta>), RepositoryError> {
    let (from, to) = (inner.oid(&delivery.base)?, inner.oid(&delivery.tree)?);
    let deltas = trees::diff(&inner.store, from, to)?;
    guard::check(&inner.store, &deltas, &delivery.protected_paths)?;
    guard::check_whole(&inner.store, &deltas)?;
    check_overlap(base, &deltas, "commit")?;
    unchanged_below(inner, base)?;
    let Some(head) = head_of(base)? else {
        return Err(RepositoryError::Refused(
            "nothing was published: the repository has no commit that the change could stand on".into(),
        ));
    };
    Ok((head, tree_on_head(inner, Some(head), &deltas)?, deltas))
}

/// Makes the commit of a delivery on the base's commit; the same delivery makes the same one.
pub(super) fn commit(
    inner: &Inner,
    base: &Base,
    delivery: &Delivery,
    signer: Option<&Signer>,
) -> Result<String, RepositoryError> {
    let (head, tree, _) = prepared(inner, base, delivery)?;
    let failed = |error| broken("making the commit", error);
    let text = {
        let store = inner.store.repository();
        let who = Signature::new(
            &patch::header(&delivery.author.0),
            &patch::header(&delivery.author.1),
            &Time::new(delivery.time_s, 0),
        )
        .map_err(failed)?;
        let tree = store.find_tree(tree).map_err(failed)?;
        let parent = store.find_commit(head).map_err(failed)?;
        if signer.is_none() {
            let commit = store.commit(None, &who, &who, &message(delivery), &tree, &[&parent]).map_err(failed)?;
            return Ok(commit.to_string());
        }
        store.commit_create_buffer(&who, &who, &message(delivery), &tree, &[&parent]).map_err(failed)?
    };
    let text = std::str::from_utf8(&text).map_err(|error| broken("making the commit", error))?;
    let signature = match signer {
        Some(signer) => sign::sign(signer, text.as_bytes(), delivery.time_s)?,
        None => String::new(),
    };
    let signed = inner.store.repository().commit_signed(text, signature.trim_end(), Some("gpgsig")).map_err(failed)?;
    Ok(signed.to_string())
}

/// What the commit of a delivery would change.
pub(super) fn change_on_head(inner: &Inner, base: &Base, delivery: &Delivery) -> Result<HeadChange, RepositoryError> {
    let (_, tree, deltas) = prepared(inner, base, delivery)?;
    let mut files = Vec::with_capacity(deltas.len());
    for delta in deltas {
        let content = match delta.new {
            Some((mode, oid)) if mode != COMMIT => inner.store.read(oid)?.data().to_vec(),
            _ => Vec::new(),
        };
        let named = std::str::from_utf8(&delta.path).is_ok();
        let mode = delta.new.map(|(mode, _)| mode);
        files.push(HeadFile { path: String::from_utf8_lossy(&delta.path).into_owned(), named, mode, content });
    }
    Ok(HeadChange { tree: tree.to_string(), files })
}

/// The first path whose new name or content `found` says yes to, and whose old content it does not.
pub(super) fn find(
    inner: &Inner,
    from: Oid,
    to: Oid,
    found: &dyn Fn(&[u8]) -> bool,
) -> Result<Option<String>, RepositoryError> {
    let holds = |put: trees::Put| -> Result<bool, RepositoryError> {
        match put {
            Some((mode, oid)) if mode != COMMIT && inner.store.has(oid) => Ok(found(inner.store.read(oid)?.data())),
            _ => Ok(false),
        }
    };
    for delta in trees::diff(&inner.store, from, to)? {
        let named = delta.new.is_some() && delta.old.is_none() && found(&delta.path);
        if named || (holds(delta.new)? && !holds(delta.old)?) {
            return Ok(Some(shown(&delta.path)));
        }
    }
    Ok(None)
}

/// A pack of `commit` and what it needs, for a remote that has `known` (commits; those that are not here are passed
/// over). Where the commit's own parent is among them, nothing older is looked at: a shallow clone has nothing older.
pub(super) fn pack(inner: &Inner, commit: &str, known: &[String]) -> Result<Vec<u8>, RepositoryError> {
    let failed = |error| broken(format!("packing commit {commit}"), error);
    let tip = Oid::from_str(commit).map_err(failed)?;
    let parent = {
        let store = inner.store.repository();
        let found = store.find_commit(tip).map_err(failed)?;
        found.parent_ids().next()
    };
    if let Some(parent) = parent.filter(|parent| known.contains(&parent.to_string())) {
        let objects = fresh_objects(inner, tip, parent)?;
        let store = inner.store.repository();
        let mut builder = store.packbuilder().map_err(failed)?;
        for object in objects {
            builder.insert_object(object, None).map_err(failed)?;
        }
        return write(&mut builder).map_err(failed);
    }
    let store = inner.store.repository();
    let mut walk = store.revwalk().map_err(failed)?;
    walk.push(tip).map_err(failed)?;
    for id in known {
        if let Ok(id) = Oid::from_str(id)
            && store.find_commit(id).is_ok()
        {
            walk.hide(id).map_err(failed)?;
        }
    }
    let mut builder = store.packbuilder().map_err(failed)?;
    match builder.insert_walk(&mut walk) {
        Ok(()) => write(&mut builder).map_err(failed),
        Err(error) if error.code() == ErrorCode::NotFound => Err(RepositoryError::Missing(format!(
            "commit {commit} cannot be pushed: the clone is shallow, and the remote lacks what the clone lacks. Fetch \
             the whole history (`git fetch --unshallow`), or push the commit that the run began with"
        ))),
        Err(error) => Err(failed(error)),
    }
}

/// A commit without a parent around one file, and its pack; made in memory.
pub(super) fn parcel(parcel: &Parcel<'_>) -> Result<(String, Vec<u8>), git2::Error> {
    let odb = git2::Odb::new()?;
    odb.add_new_mempack_backend(1)?;
    let store = git2::Repository::from_odb(odb)?;
    let blob = store.blob(parcel.content)?;
    let mut tree = store.treebuilder(None)?;
    tree.insert(parcel.name, blob, 0o100_644)?;
    let tree = tree.write()?;
    let who = Signature::new(parcel.author.0, parcel.author.1, &Time::new(parcel.time_s, 0))?;
    let commit = store.commit(None, &who, &who, parcel.message, &store.find_tree(tree)?, &[])?;
    let mut builder = store.packbuilder()?;
    for object in [commit, tree, blob] {
        builder.insert_object(object, None)?;
    }
    Ok((commit.to_string(), write(&mut builder)?))
}

fn write(builder: &mut git2::PackBuilder<'_>) -> Result<Vec<u8>, git2::Error> {
    let mut bytes = Vec::new();
    builder.foreach(|piece| {
        bytes.extend_from_slice(piece);
        true
    })?;
    Ok(bytes)
}

/// The commit, and the trees and files in which it differs from its parent.
fn fresh_objects(inner: &Inner, tip: Oid, parent: Oid) -> Result<Vec<Oid>, RepositoryError> {
    let tree_of = |id: Oid| {
        let store = inner.store.repository();
        let tree = store.find_commit(id).map(|commit| commit.tree_id());
        tree.map_err(|error| broken(format!("reading commit {id}"), error))
    };
    let mut objects = vec![tip];
    let mut seen = HashSet::new();
    let mut todo = vec![(Some(tree_of(parent)?), tree_of(tip)?)];
    while let Some((old, new)) = todo.pop() {
        if old == Some(new) || !seen.insert(new) {
            continue;
        }
        objects.push(new);
        let before = match old {
            Some(old) => trees::read(&inner.store, old)?,
            None => Vec::new(),
        };
        for entry in trees::read(&inner.store, new)? {
            let there = before.iter().find(|there| there.name == entry.name);
            if there.is_some_and(|there| there.oid == entry.oid) || entry.mode == COMMIT {
                continue;
            }
            if entry.is_folder() {
                todo.push((there.filter(|there| there.is_folder()).map(|there| there.oid), entry.oid));
            } else if seen.insert(entry.oid) {
                if !inner.store.has(entry.oid) {
                    return Err(inner
                        .store
                        .broken(format!("packing `{}`", shown(&entry.name)), "its content is missing"));
                }
                objects.push(entry.oid);
            }
        }
    }
    Ok(objects)
}

/// Takes a fetched pack into the user's objects. No ref is made.
pub(super) fn take_pack(inner: &Inner, pack: &[u8]) -> Result<(), RepositoryError> {
    let user = inner.user()?;
    let failed = |error: &dyn std::fmt::Display| broken("taking in what was fetched", error);
    let odb = user.odb().map_err(|error| failed(&error))?;
    let mut writer = odb.packwriter().map_err(|error| failed(&error))?;
    writer.write_all(pack).map_err(|error| failed(&error))?;
    writer.commit().map_err(|error| failed(&error))?;
    Ok(())
}

/// The address of a remote.
pub(super) fn remote_url(inner: &Inner, name: &str) -> Result<Option<String>, RepositoryError> {
    let user = inner.user()?;
    match user.find_remote(name) {
        Ok(remote) => Ok(remote.url().ok().map(str::to_owned)),
        Err(error) if matches!(error.code(), ErrorCode::NotFound | ErrorCode::InvalidSpec) => Ok(None),
        Err(error) => Err(broken(format!("reading the remote `{name}`"), error)),
    }
}
