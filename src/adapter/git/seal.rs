//! The ignored files of a copy as its set-up left them, to go back to.

use super::beneath::{self, Sig};
use rustix::fs::FileType;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// What each ignored file or link was.
#[derive(Default)]
pub(super) struct Seal {
    files: HashMap<Vec<u8>, Sig>,
    /// False: nothing is known, and nothing is put back.
    known: bool,
}

/// One file on disk: path, size, seconds and nanoseconds of both times, inode, mode.
#[derive(Serialize, Deserialize)]
struct Row(Vec<u8>, u64, (i64, u32), (i64, u32), u64, u32);

impl Seal {
    /// A new copy's: all of it is in the user's folder too.
    pub(super) fn of_copy(root: BorrowedFd<'_>, ignored: &[Vec<u8>]) -> io::Result<Self> {
        let mut files = HashMap::new();
        for path in ignored {
            collect(root, path, &mut files)?;
        }
        Ok(Self { files, known: true })
    }

    /// The state now: what the user's folder does not have is kept aside in `place`.
    pub(super) fn take(
        place: &Path,
        user: BorrowedFd<'_>,
        root: BorrowedFd<'_>,
        ignored: &[Vec<u8>],
        before: &Self,
    ) -> io::Result<Self> {
        let aside = place.join("sealed");
        std::fs::create_dir_all(&aside)?;
        let aside = beneath::open_root(&aside)?;
        let now = Self::of_copy(root, ignored)?;
        for (path, sig) in &now.files {
            let copied = before.files.get(path) == Some(sig) && beneath::stat_path(user, path)?.is_some();
            if !copied {
                copy_one(root, aside.as_fd(), path, None)?;
            }
        }
        now.save(place)?;
        Ok(now)
    }

    /// A step's copy gets what the set-up made in the main workspace, as it was then; what it removed goes.
    pub(super) fn inherit(
        &mut self,
        main: &Path,
        place: &Path,
        root: BorrowedFd<'_>,
        owner: Option<(u32, u32)>,
    ) -> io::Result<()> {
        let theirs = Self::load(main);
        let Ok(made) = beneath::open_root(&main.join("sealed")) else { return Ok(()) };
        if !theirs.known {
            return Ok(());
        }
        let gone: Vec<Vec<u8>> = self.files.keys().filter(|path| !theirs.files.contains_key(*path)).cloned().collect();
        for path in gone {
            let (folder, name) = beneath::split(&path);
            beneath::remove(beneath::open_folder(root, folder)?.as_fd(), name)?;
            self.files.remove(&path);
        }
        let aside = place.join("sealed");
        std::fs::create_dir_all(&aside)?;
        let aside = beneath::open_root(&aside)?;
        for path in theirs.files.into_keys() {
            if copy_one(made.as_fd(), root, &path, owner)? {
                copy_one(made.as_fd(), aside.as_fd(), &path, None)?;
                if let Some(sig) = beneath::stat_path(root, &path)? {
                    self.files.insert(path, sig);
                }
            }
        }
        self.save(place)
    }

    /// Writes it down for a later engine.
    pub(super) fn save(&self, place: &Path) -> io::Result<()> {
        let row = |(path, sig): (&Vec<u8>, &Sig)| Row(path.clone(), sig.size, sig.mtime, sig.ctime, sig.ino, sig.mode);
        let rows: Vec<Row> = self.files.iter().map(row).collect();
        beneath::write_state(&place.join("sealed.json"), &serde_json::to_vec(&rows)?)
    }

    /// What an earlier engine wrote down.
    pub(super) fn load(place: &Path) -> Self {
        let rows = std::fs::read(place.join("sealed.json"));
        let Some(rows) = rows.ok().and_then(|text| serde_json::from_slice::<Vec<Row>>(&text).ok()) else {
            return Self::default();
        };
        let files = rows
            .into_iter()
            .map(|Row(path, size, mtime, ctime, ino, mode)| (path, Sig { size, mtime, ctime, ino, mode }))
            .collect();
        Self { files, known: true }
    }

    /// Makes the ignored files what they were.
    pub(super) fn put_back(
        &mut self,
        place: &Path,
        user: BorrowedFd<'_>,
        root: BorrowedFd<'_>,
        ignored: &[Vec<u8>],
        owner: Option<(u32, u32)>,
    ) -> io::Result<()> {
        if !self.known {
            return Ok(());
        }
        let now = Self::of_copy(root, ignored)?;
        for path in now.files.keys().filter(|path| !self.files.contains_key(*path)) {
            let (folder, name) = beneath::split(path);
            beneath::remove(beneath::open_folder(root, folder)?.as_fd(), name)?;
        }
        let aside = beneath::open_root(&place.join("sealed")).ok();
        for (path, sig) in &mut self.files {
            if now.files.get(path) == Some(sig) || beneath::stat_path(root, path)? == Some(*sig) {
                continue;
            }
            let kept = match &aside {
                Some(aside) => copy_one(aside.as_fd(), root, path, owner)?,
                None => false,
            };
            if !kept {
                copy_one(user, root, path, owner)?;
            }
            if let Some(made) = beneath::stat_path(root, path)? {
                *sig = made;
            }
        }
        Ok(())
    }
}

fn collect(root: BorrowedFd<'_>, path: &[u8], files: &mut HashMap<Vec<u8>, Sig>) -> io::Result<()> {
    let Some(sig) = beneath::stat_path(root, path)? else { return Ok(()) };
    if sig.kind() != FileType::Directory {
        files.insert(path.to_vec(), sig);
        return Ok(());
    }
    for name in beneath::names(beneath::open_folder(root, path)?.as_fd())? {
        if !beneath::is_dot_git(&name) {
            collect(root, &beneath::join(path, &name), files)?;
        }
    }
    Ok(())
}

/// Copies one file; false where the source has none.
fn copy_one(from: BorrowedFd<'_>, to: BorrowedFd<'_>, path: &[u8], owner: Option<(u32, u32)>) -> io::Result<bool> {
    let (folder, name) = beneath::split(path);
    let Ok(from) = beneath::open_folder(from, folder) else { return Ok(false) };
    let Some(sig) = beneath::stat(from.as_fd(), name)? else { return Ok(false) };
    if !matches!(sig.kind(), FileType::RegularFile | FileType::Symlink) {
        return Ok(false);
    }
    let to = beneath::make_folders(to, folder, owner)?;
    beneath::copy(from.as_fd(), to.as_fd(), name, &sig, owner).map(|_| true)
}
