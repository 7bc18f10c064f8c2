//! Puts a folder back to a tree, by what differs.

use super::beneath;
use super::filters;
use super::scan::{Facts, Found, Memory};
use super::store::{Store, broken, shown};
use super::trees::{self, Delta};
use crate::port::repository::RepositoryError;
use git2::Oid;
use rustix::fs::{AtFlags, FileType, Mode};
use std::collections::HashSet;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

/// What a restore works with.
pub(super) struct Back<'a> {
    pub store: &'a Store,
    pub facts: &'a Facts,
    pub root: BorrowedFd<'a>,
    /// The user's folder, where it is not the one that is restored, and what it held.
    pub user: Option<BorrowedFd<'a>>,
    pub memory: &'a Memory,
    pub owner: Option<(u32, u32)>,
}

impl Back<'_> {
    /// Removes what must go, then makes what must be there. `empty`: folders that may stay without content.
    pub(super) fn apply(
        &self,
        deltas: &[Delta],
        found: &Found,
        empty: &HashSet<Vec<u8>>,
    ) -> Result<(), RepositoryError> {
        let failed = |path: &[u8]| {
            let doing = format!("restoring `{}`", shown(path));
            move |error: io::Error| broken(doing.clone(), error)
        };
        for path in &found.specials {
            self.remove(path, empty).map_err(failed(path))?;
        }
        for path in &found.empty {
            self.remove_folder(path, empty).map_err(failed(path))?;
        }
        for (path, mode) in &found.odd {
            let (folder, name) = beneath::split(path);
            let folder = beneath::open_folder(self.root, folder).map_err(failed(path))?;
            let mode = Mode::from_raw_mode(if mode & 0o100 == 0 { 0o644 } else { 0o755 });
            rustix::fs::chmodat(&folder, name, mode, AtFlags::empty()).map_err(|error| failed(path)(error.into()))?;
        }
        for delta in deltas.iter().filter(|delta| delta.new.is_none()) {
            self.remove(&delta.path, empty).map_err(failed(&delta.path))?;
        }
        for delta in deltas {
            if let Some((mode, oid)) = delta.new {
                self.put(&delta.path, mode, oid, delta.old)?;
            }
        }
        Ok(())
    }

    fn remove(&self, path: &[u8], empty: &HashSet<Vec<u8>>) -> io::Result<()> {
        let (folder, name) = beneath::split(path);
        match beneath::open_folder(self.root, folder) {
            Ok(at) => beneath::remove(at.as_fd(), name)?,
            Err(error) if beneath::is_absent(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
        self.remove_folder(folder, empty)
    }

    /// Removes a folder, and those above it, as far as they are empty.
    fn remove_folder(&self, path: &[u8], empty: &HashSet<Vec<u8>>) -> io::Result<()> {
        let mut path = path;
        while !path.is_empty() && !empty.contains(path) {
            let (folder, name) = beneath::split(path);
            let Ok(at) = beneath::open_folder(self.root, folder) else { return Ok(()) };
            if rustix::fs::unlinkat(&at, name, AtFlags::REMOVEDIR).is_err() {
                return Ok(());
            }
            path = folder;
        }
        Ok(())
    }

    fn put(&self, path: &[u8], mode: u32, oid: Oid, old: trees::Put) -> Result<(), RepositoryError> {
        let failed = |error: io::Error| broken(format!("restoring `{}`", shown(path)), error);
        if mode == trees::COMMIT {
            return Ok(());
        }
        let (folder, name) = beneath::split(path);
        let at = beneath::make_folders(self.root, folder, self.owner).map_err(failed)?;
        if mode == trees::LINK {
            let target = self.store.read(oid)?;
            return beneath::put_link(at.as_fd(), name, target.data(), self.owner).map_err(failed);
        }
        let bits = if mode == trees::PROGRAM { 0o755 } else { 0o644 };
        // Same content, other mode.
        let same = old.is_some_and(|(was, had)| had == oid && was != trees::LINK && was != trees::COMMIT);
        if same {
            let mode = Mode::from_raw_mode(bits);
            return rustix::fs::chmodat(&at, name, mode, AtFlags::empty()).map_err(|error| failed(error.into()));
        }
        if self.copy_untouched(path, mode, oid, at.as_fd()).map_err(failed)? {
            return Ok(());
        }
        let blob = self.store.read(oid)?;
        let content = filters::file_for(self.store, self.facts.indexed.get(path), blob.data())?;
        beneath::put_file(at.as_fd(), name, bits, self.owner, |file| file.write_all(&content)).map_err(failed)
    }

    /// Takes the bytes from the user's folder where the file there is this very version: they may be a conversion of
    /// the blob that cannot be made again here.
    fn copy_untouched(&self, path: &[u8], mode: u32, oid: Oid, to: BorrowedFd<'_>) -> io::Result<bool> {
        let Some(user) = self.user else { return Ok(false) };
        let Some(known) = self.memory.known(path).filter(|known| known.oid == oid && known.mode == mode) else {
            return Ok(false);
        };
        let (folder, name) = beneath::split(path);
        let Ok(from) = beneath::open_folder(user, folder) else { return Ok(false) };
        if known.sig.kind() != FileType::RegularFile || beneath::stat(from.as_fd(), name)? != Some(known.sig) {
            return Ok(false);
        }
        beneath::copy(from.as_fd(), to, name, &known.sig, self.owner).map(|_| true)
    }
}

/// Adds what lies under a hidden folder and is not in the tree `under`: its ignored entries.
pub(super) fn untracked_below(
    store: &Store,
    below: BorrowedFd<'_>,
    path: &[u8],
    under: Oid,
    ignored: &mut Vec<Vec<u8>>,
) -> Result<(), RepositoryError> {
    let failed = |error: io::Error| broken(format!("reading `{}` below the workspace", shown(path)), error);
    let folder = match beneath::open_folder(below, path) {
        Ok(folder) => folder,
        Err(error) if beneath::is_absent(&error) => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let tracked = match trees::lookup(store, under, path)? {
        Some(entry) if entry.is_folder() => trees::read(store, entry.oid)?,
        _ => Vec::new(),
    };
    for name in beneath::names(folder.as_fd()).map_err(failed)? {
        let full = beneath::join(path, &name);
        match tracked.iter().find(|entry| entry.name == name) {
            Some(entry) if entry.is_folder() => untracked_below(store, below, &full, under, ignored)?,
            None if !beneath::is_dot_git(&name) => ignored.push(full),
            _ => {}
        }
    }
    Ok(())
}

/// Makes an ignored entry what it is below the upper layer.
pub(super) fn from_below(
    below: BorrowedFd<'_>,
    root: BorrowedFd<'_>,
    path: &[u8],
    owner: Option<(u32, u32)>,
) -> io::Result<()> {
    let (folder, name) = beneath::split(path);
    let there = match beneath::open_folder(below, folder) {
        Ok(there) => Some(there),
        Err(error) if beneath::is_absent(&error) => None,
        Err(error) => return Err(error),
    };
    let here = match beneath::open_folder(root, folder) {
        Ok(here) => here,
        Err(error) if beneath::is_absent(&error) && there.is_some() => beneath::make_folders(root, folder, owner)?,
        Err(error) if beneath::is_absent(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    same_entry(there.as_ref().map(AsFd::as_fd), here.as_fd(), name, owner)
}

fn same_entry(
    there: Option<BorrowedFd<'_>>,
    here: BorrowedFd<'_>,
    name: &[u8],
    owner: Option<(u32, u32)>,
) -> io::Result<()> {
    let wanted = match there {
        Some(there) => beneath::stat(there, name)?,
        None => None,
    };
    let is = beneath::stat(here, name)?;
    match (there, wanted, is) {
        (_, None, None) => Ok(()),
        (Some(there), Some(wanted), Some(is)) if wanted.kind() == is.kind() && is.kind() == FileType::Directory => {
            let (there, here) = (beneath::open_child(there, name)?, beneath::open_child(here, name)?);
            let mut names: HashSet<Vec<u8>> = beneath::names(there.as_fd())?.into_iter().collect();
            names.extend(beneath::names(here.as_fd())?);
            names.iter().try_for_each(|name| same_entry(Some(there.as_fd()), here.as_fd(), name, owner))
        }
        // Not touched since: the overlay shows the very file.
        (_, Some(wanted), Some(is)) if wanted == is => Ok(()),
        (there, wanted, is) => {
            if is.is_some() {
                beneath::remove(here, name)?;
            }
            match (there, wanted) {
                (Some(there), Some(_)) => beneath::copy_entry(there, here, name, owner),
                _ => Ok(()),
            }
        }
    }
}
