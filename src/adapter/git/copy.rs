//! Copies of the user's folder, for where no overlay can be mounted: blocks are shared where the file system can, two
//! threads copy, and what was copied is known without reading it again.

use super::beneath;
use super::scan::{self, Folder, Known, Memory};
use super::seal::Seal;
use super::store::{broken, shown};
use super::{Inner, Taken};
use crate::port::repository::RepositoryError;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A copy that was made.
pub(super) struct Copied {
    pub memory: Memory,
    /// Whether blocks are shared.
    pub shared: bool,
    pub seal: Seal,
}

/// Copies what `taken` found to `root`, ignored entries included, `.git` left out at any depth.
pub(super) fn make(
    inner: &Inner,
    taken: &Taken,
    root: &Path,
    owner: Option<(u32, u32)>,
) -> Result<Copied, RepositoryError> {
    let failed = |error: io::Error| broken(format!("copying {} to {}", inner.root.display(), root.display()), error);
    std::fs::create_dir_all(root.join(".git")).map_err(failed)?;
    let from = beneath::open_root(&inner.root).map_err(failed)?;
    let to = beneath::open_root(root).map_err(failed)?;
    if let Some((user, group)) = owner {
        std::os::unix::fs::chown(root, Some(user), Some(group)).map_err(failed)?;
    }
    beneath::own(to.as_fd(), b".git", owner).map_err(failed)?;
    let mut folders: Vec<(&Vec<u8>, &Folder)> = taken.memory.0.iter().collect();
    folders.sort_unstable_by_key(|(path, _)| *path);
    for (path, _) in &folders {
        let sig = beneath::stat_path(from.as_fd(), path).map_err(failed)?;
        let (parent, name) = beneath::split(path);
        if let (Some(sig), false) = (sig, path.is_empty()) {
            let parent = beneath::open_folder(to.as_fd(), parent).map_err(failed)?;
            beneath::make_child(parent.as_fd(), name, &sig, owner).map_err(failed)?;
        }
    }
    let next = AtomicUsize::new(0);
    let shared = AtomicBool::new(false);
    let work = || {
        let mut done = Vec::new();
        while let Some((path, folder)) = folders.get(next.fetch_add(1, Ordering::Relaxed)) {
            let copied = folder_to(from.as_fd(), to.as_fd(), path, folder, owner, &shared)
                .map_err(|error| broken(format!("copying the folder `{}`", shown(path)), error))?;
            done.push(((*path).clone(), copied));
        }
        Ok::<_, RepositoryError>(done)
    };
    let parts = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
    });
    let mut memory: HashMap<Vec<u8>, Folder> = HashMap::with_capacity(folders.len());
    for part in parts {
        memory.extend(part.map_err(|_| broken("copying", "a thread ended early"))??);
    }
    for path in &taken.found.ignored {
        let (folder, name) = beneath::split(path);
        let (Ok(from), Ok(to)) = (beneath::open_folder(from.as_fd(), folder), beneath::open_folder(to.as_fd(), folder))
        else {
            continue;
        };
        beneath::copy_entry(from.as_fd(), to.as_fd(), name, owner).map_err(failed)?;
    }
    let seal = Seal::of_copy(to.as_fd(), &taken.found.ignored).map_err(failed)?;
    if let Some(place) = root.parent() {
        seal.save(place).map_err(failed)?;
    }
    // Whatever is written from now on has later times than what was copied, even on a coarse clock.
    std::thread::sleep(scan::RACY);
    Ok(Copied { memory: Memory(Arc::new(memory)), shared: shared.into_inner(), seal })
}

fn folder_to(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    path: &[u8],
    folder: &Folder,
    owner: Option<(u32, u32)>,
    shared: &AtomicBool,
) -> io::Result<Folder> {
    let (from, to) = (beneath::open_folder(from, path)?, beneath::open_folder(to, path)?);
    let mut copied = Folder { files: Vec::with_capacity(folder.files.len()), ignore_file: None, ..folder.clone() };
    for known in &folder.files {
        let Some(sig) = beneath::stat(from.as_fd(), &known.name)? else { continue };
        if scan::git_mode(&sig).is_none() {
            continue;
        }
        if beneath::copy(from.as_fd(), to.as_fd(), &known.name, &sig, owner)? {
            shared.store(true, Ordering::Relaxed);
        }
        let Some(made) = beneath::stat(to.as_fd(), &known.name)? else { continue };
        if known.name == b".gitignore" {
            copied.ignore_file = Some(made);
        }
        // Changed since it was read: it will be read in the copy.
        if sig == known.sig {
            copied.files.push(Known { sig: made, racy: false, ..known.clone() });
        }
    }
    Ok(copied)
}
