//! File operations for tools: beneath a workspace's root whatever links are there, never in `.git`.

use super::beneath;
use super::ignores::Rules;
use crate::port::repository::{FileError, Hit};
use globset::{GlobBuilder, GlobMatcher};
use regex::RegexBuilder;
use rustix::fs::FileType;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// A file larger than this is not searched.
const SEARCHED: u64 = 2 * 1024 * 1024;
/// Bytes of a matching line that are shown.
const LINE: usize = 400;
/// Folders deeper than this are not walked.
const DEEPEST: usize = 128;
/// Files looked at by one listing or search, at most.
const VISITED: usize = 500_000;

/// The path as it lies beneath the root: `/workspace/` and `./` taken off, checked part by part.
fn inside(path: &str) -> Result<Vec<u8>, FileError> {
    let out = |why: &str| FileError::OutOfBounds { path: path.to_owned(), why: why.to_owned() };
    let trimmed = path.strip_prefix("/workspace/").or((path == "/workspace").then_some("")).unwrap_or(path);
    if trimmed.starts_with('/') {
        return Err(out("paths are relative to the workspace's root"));
    }
    if trimmed.contains('\0') {
        return Err(out("it has a null byte in it"));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in trimmed.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return Err(out("it leads out of the workspace"));
                }
            }
            name if beneath::is_dot_git(name.as_bytes()) => {
                return Err(out("git's own files are not part of the workspace; git_log and git_diff show history"));
            }
            name => parts.push(name),
        }
    }
    Ok(parts.join("/").into_bytes())
}

fn failed(path: &str, error: &io::Error) -> FileError {
    if matches!(rustix::io::Errno::from_io_error(error), Some(rustix::io::Errno::LOOP | rustix::io::Errno::XDEV)) {
        return FileError::OutOfBounds { path: path.to_owned(), why: "a symbolic link is on the way".to_owned() };
    }
    FileError::Io { path: path.to_owned(), message: error.to_string() }
}

fn open_root(root: &Path) -> Result<OwnedFd, FileError> {
    beneath::open_root(root)
        .map_err(|error| FileError::Io { path: root.display().to_string(), message: error.to_string() })
}

/// The file's folder, opened, and its name.
fn place(root: &Path, path: &str) -> Result<(OwnedFd, Vec<u8>), FileError> {
    let inside = inside(path)?;
    if inside.is_empty() {
        return Err(FileError::IsFolder(path.to_owned()));
    }
    let (folder, name) = beneath::split(&inside);
    let root_fd = open_root(root)?;
    match beneath::open_folder(root_fd.as_fd(), folder) {
        Ok(folder) => Ok((folder, name.to_vec())),
        Err(error)
            if beneath::is_absent(&error)
                && rustix::io::Errno::from_io_error(&error) != Some(rustix::io::Errno::LOOP) =>
        {
            Err(not_found(root, path))
        }
        Err(error) => Err(failed(path, &error)),
    }
}

/// The error of a missing file, with the nearest name there is.
fn not_found(root: &Path, path: &str) -> FileError {
    let mut best: Option<(usize, String)> = None;
    let wanted = path.rsplit('/').next().unwrap_or(path).to_lowercase();
    let _ = walk(root, "", |found, _| {
        let name = found.rsplit('/').next().unwrap_or(found).to_lowercase();
        let distance = strsim::damerau_levenshtein(&wanted, &name);
        if distance <= 2.max(wanted.len() / 4) && best.as_ref().is_none_or(|(least, _)| distance < *least) {
            best = Some((distance, found.to_owned()));
        }
        Ok(best.as_ref().is_none_or(|(least, _)| *least > 0))
    });
    let hint = best.map(|(_, near)| format!("; did you mean `{near}`?")).unwrap_or_default();
    FileError::NotFound { path: path.to_owned(), hint }
}

/// Reads a file, at most `cap` bytes.
pub(super) fn read(root: &Path, path: &str, cap: usize) -> Result<Vec<u8>, FileError> {
    let (folder, name) = place(root, path)?;
    let sig = beneath::stat(folder.as_fd(), &name).map_err(|error| failed(path, &error))?;
    let Some(sig) = sig else { return Err(not_found(root, path)) };
    match sig.kind() {
        FileType::Directory => return Err(FileError::IsFolder(path.to_owned())),
        FileType::Symlink => return read_linked(root, path, cap),
        FileType::RegularFile => {}
        _ => {
            return Err(FileError::OutOfBounds { path: path.to_owned(), why: "it is not a regular file".to_owned() });
        }
    }
    read_open(folder.as_fd(), &name, path, cap)
}

fn read_open(folder: BorrowedFd<'_>, name: &[u8], path: &str, cap: usize) -> Result<Vec<u8>, FileError> {
    let mut file = beneath::open_file(folder, name).map_err(|error| failed(path, &error))?;
    let size = file.metadata().map_err(|error| failed(path, &error))?.len();
    let too_large = |size| FileError::TooLarge { path: path.to_owned(), size, cap };
    if size > cap as u64 {
        return Err(too_large(size));
    }
    let mut content = Vec::new();
    Read::by_ref(&mut file).take(cap as u64 + 1).read_to_end(&mut content).map_err(|error| failed(path, &error))?;
    // It may have grown since.
    if content.len() > cap { Err(too_large(content.len() as u64)) } else { Ok(content) }
}

/// A link that stays inside is read through once; everything else is out of bounds.
fn read_linked(root: &Path, path: &str, cap: usize) -> Result<Vec<u8>, FileError> {
    let (folder, name) = place(root, path)?;
    let target = beneath::read_link(folder.as_fd(), &name).map_err(|error| failed(path, &error))?;
    let leads_out = || FileError::OutOfBounds {
        path: path.to_owned(),
        why: format!("it is a symbolic link to `{}`, which cannot be followed", String::from_utf8_lossy(&target)),
    };
    let target = std::str::from_utf8(&target).map_err(|_| leads_out())?;
    if target.starts_with('/') {
        return Err(leads_out());
    }
    let here = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let joined = format!("{here}/{target}");
    let inside = inside(joined.trim_start_matches('/')).map_err(|_| leads_out())?;
    let joined = String::from_utf8(inside).map_err(|_| leads_out())?;
    let (folder, name) = place(root, &joined).map_err(|_| leads_out())?;
    match beneath::stat(folder.as_fd(), &name) {
        Ok(Some(sig)) if sig.kind() == FileType::RegularFile => read_open(folder.as_fd(), &name, path, cap),
        _ => Err(leads_out()),
    }
}

/// Writes a file, all or nothing. A link is replaced by a file, never followed.
pub(super) fn write(root: &Path, path: &str, content: &[u8], owner: Option<(u32, u32)>) -> Result<(), FileError> {
    let inside = inside(path)?;
    if inside.is_empty() {
        return Err(FileError::IsFolder(path.to_owned()));
    }
    let (folder, name) = beneath::split(&inside);
    let root = open_root(root)?;
    check_folders(root.as_fd(), folder, path)?;
    let folder = beneath::make_folders(root.as_fd(), folder, owner).map_err(|error| failed(path, &error))?;
    let mode = match beneath::stat(folder.as_fd(), name).map_err(|error| failed(path, &error))? {
        Some(sig) if sig.kind() == FileType::Directory => return Err(FileError::IsFolder(path.to_owned())),
        Some(sig) if sig.kind() == FileType::RegularFile => sig.mode & 0o777,
        _ => 0o644,
    };
    beneath::put_file(folder.as_fd(), name, mode, owner, |file| file.write_all(content))
        .map_err(|error| failed(path, &error))
}

/// A file or a link where a folder is to be is the model's mistake: it is told, not cleared away.
fn check_folders(root: BorrowedFd<'_>, folder: &[u8], path: &str) -> Result<(), FileError> {
    let mut upto = Vec::new();
    for part in folder.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        upto = beneath::join(&upto, part);
        match beneath::stat_path(root, &upto).map_err(|error| failed(path, &error))? {
            None => return Ok(()),
            Some(sig) if sig.kind() == FileType::Directory => {}
            Some(sig) => {
                let what = if sig.kind() == FileType::Symlink { "a symbolic link" } else { "a file" };
                let why = format!("`{}` is {what}, not a folder", String::from_utf8_lossy(&upto));
                return Err(FileError::OutOfBounds { path: path.to_owned(), why });
            }
        }
    }
    Ok(())
}

/// Removes a file or a link.
pub(super) fn remove(root: &Path, path: &str) -> Result<(), FileError> {
    let (folder, name) = place(root, path)?;
    match beneath::stat(folder.as_fd(), &name).map_err(|error| failed(path, &error))? {
        None => Err(not_found(root, path)),
        Some(sig) if sig.kind() == FileType::Directory => Err(FileError::IsFolder(path.to_owned())),
        Some(_) => beneath::remove(folder.as_fd(), &name).map_err(|error| failed(path, &error)),
    }
}

fn glob(pattern: Option<&str>) -> Result<Option<GlobMatcher>, FileError> {
    let Some(pattern) = pattern.filter(|pattern| !pattern.is_empty()) else { return Ok(None) };
    // `*.rs` means every such file, as in ignore files; with a slash in it a glob is anchored.
    let anchored = if pattern.contains('/') { pattern.to_owned() } else { format!("**/{pattern}") };
    GlobBuilder::new(&anchored)
        .literal_separator(true)
        .build()
        .map(|glob| Some(glob.compile_matcher()))
        .map_err(|error| FileError::BadPattern(error.to_string()))
}

/// Files beneath `path`, sorted, at most `limit`.
pub(super) fn list(root: &Path, path: &str, pattern: Option<&str>, limit: usize) -> Result<Vec<String>, FileError> {
    let glob = glob(pattern)?;
    let mut found = Vec::new();
    walk(root, path, |file, _| {
        if glob.as_ref().is_none_or(|glob| glob.is_match(file)) {
            found.push(file.to_owned());
        }
        Ok(found.len() < limit)
    })?;
    found.sort();
    Ok(found)
}

/// Lines that match, at most `limit`.
pub(super) fn search(
    root: &Path,
    pattern: &str,
    path: &str,
    only: Option<&str>,
    limit: usize,
) -> Result<Vec<Hit>, FileError> {
    let expression = RegexBuilder::new(pattern)
        .size_limit(1 << 20)
        .build()
        .map_err(|error| FileError::BadPattern(error.to_string()))?;
    let glob = glob(only)?;
    let mut hits = Vec::new();
    walk(root, path, |file, open| {
        if glob.as_ref().is_some_and(|glob| !glob.is_match(file)) {
            return Ok(true);
        }
        let Some(content) = open() else { return Ok(true) };
        if content.iter().take(8192).any(|byte| *byte == 0) {
            return Ok(true);
        }
        for (number, line) in String::from_utf8_lossy(&content).lines().enumerate() {
            if expression.is_match(line) {
                let text: String = line.chars().take(LINE).collect();
                hits.push(Hit { path: file.to_owned(), line: number as u64 + 1, text });
                if hits.len() >= limit {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    })?;
    Ok(hits)
}

/// Walks the files beneath `path` in order of their names, ignored ones and `.git` left out; `see` is given each path
/// and a way to its content, and says whether to go on.
fn walk(
    root: &Path,
    path: &str,
    mut see: impl FnMut(&str, &dyn Fn() -> Option<Vec<u8>>) -> Result<bool, FileError>,
) -> Result<(), FileError> {
    let start = inside(path)?;
    let root_fd = open_root(root)?;
    let mut rules = Rules::default();
    // The rules of the folders above hold too.
    let mut upto: Vec<u8> = Vec::new();
    for part in start.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        if let Ok(folder) = beneath::open_folder(root_fd.as_fd(), &upto) {
            rules = rules.enter(folder.as_fd(), &upto);
        }
        upto = beneath::join(&upto, part);
    }
    match beneath::stat_path(root_fd.as_fd(), &start) {
        Ok(Some(sig)) if sig.kind() == FileType::RegularFile => {
            let (folder, name) = beneath::split(&start);
            let folder = beneath::open_folder(root_fd.as_fd(), folder).map_err(|error| failed(path, &error))?;
            let shown = String::from_utf8_lossy(&start).into_owned();
            see(&shown, &|| content(folder.as_fd(), name))?;
            return Ok(());
        }
        Ok(Some(sig)) if sig.kind() == FileType::Directory || start.is_empty() => {}
        Ok(None) if start.is_empty() => {}
        Ok(None) => return Err(FileError::NotFound { path: path.to_owned(), hint: String::new() }),
        Ok(Some(_)) => {
            let why = "it is neither a file nor a folder".to_owned();
            return Err(FileError::OutOfBounds { path: path.to_owned(), why });
        }
        Err(error) => return Err(failed(path, &error)),
    }
    let mut left = VISITED;
    folder(root_fd.as_fd(), &start, &rules, 0, &mut left, &mut see).map(|_| ())
}

fn content(folder: BorrowedFd<'_>, name: &[u8]) -> Option<Vec<u8>> {
    beneath::read_small(folder, name, SEARCHED).ok().flatten()
}

type See<'a> = dyn FnMut(&str, &dyn Fn() -> Option<Vec<u8>>) -> Result<bool, FileError> + 'a;

fn folder(
    root: BorrowedFd<'_>,
    path: &[u8],
    rules: &Rules,
    depth: usize,
    left: &mut usize,
    see: &mut See<'_>,
) -> Result<bool, FileError> {
    // A folder that vanished or became a link in the meantime has no files.
    let Ok(here) = beneath::open_folder(root, path) else { return Ok(true) };
    let rules = rules.enter(here.as_fd(), path);
    let mut names = beneath::names(here.as_fd()).unwrap_or_default();
    names.sort_unstable();
    for name in names {
        if beneath::is_dot_git(&name) || *left == 0 {
            continue;
        }
        let Ok(Some(sig)) = beneath::stat(here.as_fd(), &name) else { continue };
        let full = beneath::join(path, &name);
        let is_folder = sig.kind() == FileType::Directory;
        if rules.ignores(&full, is_folder) {
            continue;
        }
        let go_on = match sig.kind() {
            FileType::Directory if depth < DEEPEST => folder(root, &full, &rules, depth + 1, left, see)?,
            FileType::RegularFile => {
                *left -= 1;
                see(&String::from_utf8_lossy(&full), &|| content(here.as_fd(), &name))?
            }
            _ => true,
        };
        if !go_on {
            return Ok(false);
        }
    }
    Ok(true)
}
