//! The snapshot of an overlay: its upper layer is the change, so only that is read.

use super::beneath::{self, Sig};
use super::ignores::Rules;
use super::scan::{self, Facts, Found, Memory, git_mode};
use super::store::{Store, broken, shown};
use super::trees::{self, Entry};
use crate::port::repository::RepositoryError;
use git2::Oid;
use rustix::fs::FileType;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// What upper files were when they were last read.
pub(super) type Cache = HashMap<Vec<u8>, (Sig, Oid)>;

/// One walk over an upper layer.
pub(super) struct Walk<'a> {
    pub store: &'a Store,
    pub facts: &'a Facts,
    /// The workspace as it is seen: ignore files are read from there.
    pub merged: BorrowedFd<'a>,
    /// The user's folder, and what it was when the overlay was made.
    pub user: BorrowedFd<'a>,
    pub memory: &'a Memory,
    /// What lies under the upper layer, as a folder: to tell which empty folders are new.
    pub pristine: BorrowedFd<'a>,
    pub old: &'a Cache,
    pub new: Cache,
    pub found: Found,
    /// Files of the user's that changed since.
    pub moved: Vec<Vec<u8>>,
    pub now: Duration,
}

/// What one entry of the upper layer does to the tree.
enum Effect {
    Put(u32, Oid),
    Gone,
    Nothing,
}

impl Walk<'_> {
    /// The tree of the workspace: `base` with the upper layer on it.
    pub(super) fn run(&mut self, upper: BorrowedFd<'_>, base: Oid) -> Result<Oid, RepositoryError> {
        let rules = self.facts.exclude.enter(self.merged, b"");
        let top = self.folder(upper, b"", Some(base), &rules, (false, false))?;
        Ok(top.unwrap_or_else(|| self.store.empty_tree()))
    }

    fn folder(
        &mut self,
        at: BorrowedFd<'_>,
        path: &[u8],
        base: Option<Oid>,
        rules: &Rules,
        (only_tracked, hidden): (bool, bool),
    ) -> Result<Option<Oid>, RepositoryError> {
        let failed = |error| broken(format!("reading `{}` in the workspace", shown(path)), error);
        let mut tracked = BTreeMap::new();
        if let Some(base) = base {
            for entry in trees::read(self.store, base)? {
                tracked.insert(entry.name.clone(), entry);
            }
        }
        // Beneath an opaque folder nothing of the layers below shows, marked or not.
        let opaque = hidden || (!path.is_empty() && is_opaque(at));
        if opaque && !hidden && !tracked.is_empty() {
            self.found.hidden.push(path.to_vec());
        }
        let mut entries = if opaque { BTreeMap::new() } else { tracked.clone() };
        let names = beneath::names(at).map_err(failed)?;
        if names.is_empty() && !path.is_empty() && (opaque || base.is_none()) {
            let known = beneath::stat_path(self.pristine, path).map_err(failed)?;
            if known.is_none_or(|sig| sig.kind() != FileType::Directory) {
                self.found.empty.push(path.to_vec());
            }
        }
        let mut changed = opaque && !tracked.is_empty();
        for name in names {
            if beneath::is_dot_git(&name) {
                continue;
            }
            let Some(sig) = beneath::stat(at, &name).map_err(failed)? else { continue };
            let full = beneath::join(path, &name);
            let effect = self.entry(at, &name, &full, &sig, tracked.get(&name), (opaque, rules, only_tracked))?;
            match effect {
                Effect::Put(mode, oid) => {
                    let entry = Entry { name: name.clone(), mode, oid };
                    changed |= entries.get(&name) != Some(&entry);
                    entries.insert(name, entry);
                }
                Effect::Gone => changed |= entries.remove(&name).is_some(),
                Effect::Nothing => {}
            }
        }
        if !changed {
            return Ok(base);
        }
        if entries.is_empty() {
            return Ok(None);
        }
        trees::write(self.store, entries.into_values().collect()).map(Some)
    }

    fn entry(
        &mut self,
        at: BorrowedFd<'_>,
        name: &[u8],
        full: &[u8],
        sig: &Sig,
        tracked: Option<&Entry>,
        (opaque, rules, mut only_tracked): (bool, &Rules, bool),
    ) -> Result<Effect, RepositoryError> {
        if tracked.is_some_and(|entry| entry.mode == trees::COMMIT) {
            return Ok(if opaque {
                Effect::Put(trees::COMMIT, tracked.map_or(self.store.empty_tree(), |e| e.oid))
            } else {
                Effect::Nothing
            });
        }
        let kind = sig.kind();
        if kind == FileType::CharacterDevice {
            // Overlayfs writes a deleted entry as a device with number 0; nobody in a sandbox can make devices.
            match tracked {
                None => self.found.ignored.push(full.to_vec()),
                Some(entry) if entry.is_folder() => self.found.hidden.push(full.to_vec()),
                Some(_) => {}
            }
            return Ok(Effect::Gone);
        }
        let is_folder = kind == FileType::Directory;
        if !is_folder && tracked.is_some_and(Entry::is_folder) {
            self.found.hidden.push(full.to_vec());
        }
        if only_tracked || rules.ignores(full, is_folder) {
            if tracked.is_none_or(|entry| entry.is_folder() != is_folder) {
                self.found.ignored.push(full.to_vec());
                return Ok(if tracked.is_some() { Effect::Gone } else { Effect::Nothing });
            }
            only_tracked = true;
        }
        match kind {
            FileType::Directory => {
                let failed = |error| broken(format!("reading `{}` in the workspace", shown(full)), error);
                let folder = beneath::open_child(at, name).map_err(failed)?;
                let rules = match beneath::open_folder(self.merged, full) {
                    Ok(seen) => rules.enter(seen.as_fd(), full),
                    Err(_) => rules.clone(),
                };
                let below = tracked.filter(|entry| entry.is_folder()).map(|entry| entry.oid);
                Ok(match self.folder(folder.as_fd(), full, below, &rules, (only_tracked, opaque))? {
                    Some(oid) => Effect::Put(trees::FOLDER, oid),
                    None => Effect::Gone,
                })
            }
            FileType::RegularFile | FileType::Symlink => self.file(at, name, full, sig, tracked),
            _ => {
                self.found.specials.push(full.to_vec());
                Ok(Effect::Gone)
            }
        }
    }

    fn file(
        &mut self,
        at: BorrowedFd<'_>,
        name: &[u8],
        full: &[u8],
        sig: &Sig,
        tracked: Option<&Entry>,
    ) -> Result<Effect, RepositoryError> {
        if sig.kind() == FileType::RegularFile && (sig.mode & 0o400 == 0 || sig.mode & 0o6000 != 0) {
            self.found.odd.push((full.to_vec(), sig.mode));
        }
        if let Some(known) = self.memory.known(full) {
            let there = beneath::stat_path(self.user, full)
                .map_err(|error| broken(format!("reading `{}` in your folder", shown(full)), error))?;
            if there != Some(known.sig) {
                self.moved.push(full.to_vec());
            }
        }
        let indexed = self.facts.indexed.get(full);
        let oid = match self.old.get(full) {
            Some((old, oid)) if old == sig => *oid,
            _ => match scan::hash_file(self.store, at, full, name, sig, indexed) {
                Ok(oid) => oid,
                Err((_, true)) => return Ok(Effect::Gone),
                Err((error, false)) => return Err(error),
            },
        };
        if !scan::is_racy(sig, self.now) {
            self.new.insert(full.to_vec(), (*sig, oid));
        }
        let mut mode = git_mode(sig).unwrap_or(trees::FILE);
        if !self.facts.trust_mode && mode != trees::LINK {
            mode = tracked.filter(|entry| !entry.is_folder()).map_or(trees::FILE, |entry| entry.mode);
        }
        Ok(Effect::Put(mode, oid))
    }
}

/// Whether a folder of an upper layer hides what is under it.
pub(super) fn is_opaque(folder: BorrowedFd<'_>) -> bool {
    ["trusted.overlay.opaque", "user.overlay.opaque"].iter().any(|name| {
        let mut value = [0_u8; 4];
        rustix::fs::fgetxattr(folder, *name, value.as_mut_slice()).is_ok_and(|length| length == 1 && value[0] == b'y')
    })
}
