//! File operations beneath an open folder. No link is ever followed unless a function says so; paths are bytes with
//! `/` between parts and hold no `.`, `..` or empty part.

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

const STRICT: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// What tells a file from its later self.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sig {
    pub size: u64,
    pub mtime: (i64, u32),
    pub ctime: (i64, u32),
    pub ino: u64,
    pub mode: u32,
}

impl Sig {
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            ctime: (stat.st_ctime, u32::try_from(stat.st_ctime_nsec).unwrap_or(0)),
            ino: stat.st_ino,
            mode: stat.st_mode,
        }
    }

    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }
}

/// Splits off the last part of a path.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (path.get(..slash).unwrap_or_default(), path.get(slash + 1..).unwrap_or_default()),
        None => (&[], path),
    }
}

/// `folder/name`, or `name` at the top.
pub(super) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(folder.len() + name.len() + 1);
    path.extend_from_slice(folder);
    if !folder.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// Opens a folder of ours by its host path.
pub(super) fn open_root(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens the folder `name` in `at`, no link. A folder of ours that was made unreadable is made readable.
pub(super) fn open_child(at: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(at, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(at, name, Mode::from_raw_mode(0o700), AtFlags::empty())?;
            Ok(rustix::fs::openat(at, name, flags, Mode::empty())?)
        }
        other => Ok(other?),
    }
}

/// Opens the folder at `path` beneath `root`, following no link on the way.
pub(super) fn open_folder(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    let path: &[u8] = if path.is_empty() { b"." } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    again(|| rustix::fs::openat2(root, path, flags, Mode::empty(), STRICT))
}

/// Repeats what the kernel gave up because of a rename going on at the same time.
fn again<T>(mut work: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    let mut left = 64;
    loop {
        match work() {
            Err(Errno::AGAIN | Errno::INTR) if left > 0 => left -= 1,
            other => return Ok(other?),
        }
    }
}

/// The entry itself, not what it links to; `None` where there is none.
pub(super) fn stat(at: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<Sig>> {
    match rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Sig::of(&stat))),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The entry at a path beneath `root`, no link followed; `None` where there is none.
pub(super) fn stat_path(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<Option<Sig>> {
    let (folder, name) = split(path);
    match open_folder(root, folder) {
        Ok(folder) => stat(folder.as_fd(), name),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether an error says that there is no such path (or that it leads through a link or a file).
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}

/// The names in a folder, without `.` and `..`.
pub(super) fn names(folder: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// Opens a regular file for reading, no link; waits for nothing. As its owner, one that was made unreadable can be
/// read again.
pub(super) fn open_file(at: BorrowedFd<'_>, name: &[u8]) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file: OwnedFd = match rustix::fs::openat(at, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(at, name, Mode::from_raw_mode(0o600), AtFlags::empty())?;
            rustix::fs::openat(at, name, flags, Mode::empty())?
        }
        other => other?,
    };
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
    if kind != FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    Ok(file.into())
}

/// A small regular file's content; `None` where it is missing, a link or too large.
pub(super) fn read_small(at: BorrowedFd<'_>, name: &[u8], most: u64) -> io::Result<Option<Vec<u8>>> {
    match stat(at, name)? {
        Some(sig) if sig.kind() == FileType::RegularFile && sig.size <= most => {}
        _ => return Ok(None),
    }
    let mut content = Vec::new();
    open_file(at, name)?.take(most).read_to_end(&mut content)?;
    Ok(Some(content))
}

/// What a link says.
pub(super) fn read_link(at: BorrowedFd<'_>, name: &[u8]) -> io::Result<Vec<u8>> {
    Ok(rustix::fs::readlinkat(at, name, Vec::new())?.into_bytes())
}

/// Opens the folder at `path`, making what is missing and clearing away files and links that are in its way.
pub(super) fn make_folders(root: BorrowedFd<'_>, path: &[u8], owner: Option<(u32, u32)>) -> io::Result<OwnedFd> {
    if let Ok(folder) = open_folder(root, path) {
        return Ok(folder);
    }
    let mut at = open_folder(root, b"")?;
    for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        match stat(at.as_fd(), part)? {
            Some(sig) if sig.kind() == FileType::Directory => {}
            found => {
                if found.is_some() {
                    rustix::fs::unlinkat(&at, part, AtFlags::empty())?;
                }
                rustix::fs::mkdirat(&at, part, Mode::from_raw_mode(0o755))?;
                own(at.as_fd(), part, owner)?;
            }
        }
        at = open_child(at.as_fd(), part)?;
    }
    Ok(at)
}

/// Gives an entry to its owner, where one is named.
pub(super) fn own(at: BorrowedFd<'_>, name: &[u8], owner: Option<(u32, u32)>) -> io::Result<()> {
    if let Some((user, group)) = owner {
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        rustix::fs::chownat(at, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

/// A name that nobody uses in the folder.
fn temporary() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let process = rustix::process::getpid().as_raw_nonzero();
    format!(".codeforge-{process}-{}.tmp", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Makes `name` a regular file with what `fill` writes, in one step; a folder in its way is removed.
pub(super) fn put_file(
    at: BorrowedFd<'_>,
    name: &[u8],
    mode: u32,
    owner: Option<(u32, u32)>,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = temporary();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(at, temporary.as_bytes(), flags, Mode::from_raw_mode(0o600))?;
    let done = (|| {
        let mut file = File::from(file);
        fill(&mut file)?;
        if let Some((user, group)) = owner {
            rustix::fs::fchown(&file, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o777))?;
        replace(at, temporary.as_bytes(), name)
    })();
    if done.is_err() {
        let _ = rustix::fs::unlinkat(at, temporary.as_bytes(), AtFlags::empty());
    }
    done
}

/// Makes `name` a link to `target`, in one step.
pub(super) fn put_link(at: BorrowedFd<'_>, name: &[u8], target: &[u8], owner: Option<(u32, u32)>) -> io::Result<()> {
    let temporary = temporary();
    rustix::fs::symlinkat(target, at, temporary.as_bytes())?;
    let done = own(at, temporary.as_bytes(), owner).and_then(|()| replace(at, temporary.as_bytes(), name));
    if done.is_err() {
        let _ = rustix::fs::unlinkat(at, temporary.as_bytes(), AtFlags::empty());
    }
    done
}

fn replace(at: BorrowedFd<'_>, from: &[u8], to: &[u8]) -> io::Result<()> {
    if rustix::fs::renameat(at, from, at, to).is_ok() {
        return Ok(());
    }
    remove(at, to)?;
    Ok(rustix::fs::renameat(at, from, at, to)?)
}

/// Removes an entry and all that is in it; what is missing is fine.
pub(super) fn remove(at: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    match stat(at, name)? {
        None => Ok(()),
        Some(sig) if sig.kind() == FileType::Directory => {
            let folder = open_child(at, name)?;
            for child in names(folder.as_fd())? {
                remove(folder.as_fd(), &child)?;
            }
            Ok(rustix::fs::unlinkat(at, name, AtFlags::REMOVEDIR)?)
        }
        Some(_) => Ok(rustix::fs::unlinkat(at, name, AtFlags::empty())?),
    }
}

/// Copies a regular file or link with mode and time of change; shares its blocks where the file system can. Returns
/// whether it could.
pub(super) fn copy(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &[u8],
    sig: &Sig,
    owner: Option<(u32, u32)>,
) -> io::Result<bool> {
    if sig.kind() == FileType::Symlink {
        put_link(to, name, &read_link(from, name)?, owner)?;
        return Ok(false);
    }
    let mut source = open_file(from, name)?;
    let mut shared = false;
    put_file(to, name, sig.mode, owner, |file| {
        shared = rustix::fs::ioctl_ficlone(&*file, &source).is_ok();
        if !shared {
            io::copy(&mut source, file)?;
        }
        let time = Timespec { tv_sec: sig.mtime.0, tv_nsec: i64::from(sig.mtime.1) };
        Ok(rustix::fs::futimens(&*file, &Timestamps { last_access: time, last_modification: time })?)
    })?;
    Ok(shared)
}

/// Copies a whole folder's content, `.git` left out, links as links; devices, pipes and sockets are left out.
pub(super) fn copy_tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>, owner: Option<(u32, u32)>) -> io::Result<()> {
    for name in names(from)? {
        copy_entry(from, to, &name, owner)?;
    }
    Ok(())
}

/// Copies one entry with all that is in it.
pub(super) fn copy_entry(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &[u8],
    owner: Option<(u32, u32)>,
) -> io::Result<()> {
    let Some(sig) = stat(from, name)? else { return Ok(()) };
    match sig.kind() {
        FileType::Directory if !is_dot_git(name) => {
            let (from, to) = (open_child(from, name)?, make_child(to, name, &sig, owner)?);
            copy_tree(from.as_fd(), to.as_fd(), owner)
        }
        FileType::RegularFile | FileType::Symlink if !is_dot_git(name) => copy(from, to, name, &sig, owner).map(|_| ()),
        _ => Ok(()),
    }
}

/// Makes (or opens) the folder `name` with the mode of another.
pub(super) fn make_child(at: BorrowedFd<'_>, name: &[u8], sig: &Sig, owner: Option<(u32, u32)>) -> io::Result<OwnedFd> {
    match rustix::fs::mkdirat(at, name, Mode::from_raw_mode(sig.mode & 0o777 | 0o700)) {
        Err(Errno::EXIST) => {}
        made => {
            made?;
            own(at, name, owner)?;
        }
    }
    open_child(at, name)
}

/// Whether a name is `.git` in any letter case: such entries are never looked at.
pub(super) fn is_dot_git(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b".git")
}

/// Writes a file of our own state whole or not at all.
pub(super) fn write_state(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("it has no folder"))?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
