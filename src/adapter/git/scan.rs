//! Reads a whole folder into a tree, remembering what each file was, so that the next time only what changed is read.
//! Two threads list and stat; trees of folders in which nothing changed are taken over.

use super::beneath::{self, Sig};
use super::filters;
use super::ignores::Rules;
use super::store::{Store, broken, shown};
use super::trees::{self, Entry};
use crate::port::repository::RepositoryError;
use git2::{ObjectType, Oid};
use rustix::fs::FileType;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Files changed so shortly before they were read may change again without a trace; they are read again.
pub(super) const RACY: Duration = Duration::from_millis(20);

/// Files larger than this are refused: a snapshot holds a file in memory once.
const LARGEST: u64 = 2 * 1024 * 1024 * 1024;

/// What the user's index says of a file.
#[derive(Debug, Clone)]
pub(super) struct Indexed {
    pub size: u32,
    pub mtime: (i32, u32),
    pub ctime: (i32, u32),
    pub ino: u32,
    pub mode: u32,
    pub oid: Oid,
    /// The file may have changed after the index was written without a trace in its times.
    pub racy: bool,
}

impl Indexed {
    fn matches(&self, sig: &Sig) -> bool {
        let time =
            |ours: (i32, u32), theirs: (i64, u32)| i64::from(ours.0) == theirs.0 && (ours.1 == 0 || ours.1 == theirs.1);
        !self.racy
            && u64::from(self.size) == sig.size & 0xffff_ffff
            && time(self.mtime, sig.mtime)
            && time(self.ctime, sig.ctime)
            && u64::from(self.ino) == sig.ino & 0xffff_ffff
            && git_mode(sig).is_some_and(|mode| mode == self.mode)
    }
}

/// What is known of the user's repository beside its files.
#[derive(Default)]
pub(super) struct Facts {
    /// The index, by path: files only, stage 0.
    pub indexed: HashMap<Vec<u8>, Indexed>,
    /// Submodules' commits.
    pub links: HashMap<Vec<u8>, Oid>,
    /// Files that a sparse checkout leaves out.
    pub sparse: HashMap<Vec<u8>, (u32, Oid)>,
    /// Whether the file system's executable bits mean anything.
    pub trust_mode: bool,
    /// The rules of `info/exclude`.
    pub exclude: Rules,
}

/// One file as it was read.
#[derive(Clone)]
pub(super) struct Known {
    pub name: Vec<u8>,
    pub sig: Sig,
    pub oid: Oid,
    pub mode: u32,
    pub racy: bool,
}

/// One folder as it was read; names sorted.
#[derive(Clone)]
pub(super) struct Folder {
    pub files: Vec<Known>,
    pub children: Vec<Vec<u8>>,
    pub tree: Option<Oid>,
    /// The ignore file's state, and the rules that hold inside.
    pub ignore_file: Option<Sig>,
    pub rules: Rules,
}

/// All folders as they were read, by path.
#[derive(Clone, Default)]
pub(super) struct Memory(pub Arc<HashMap<Vec<u8>, Folder>>);

impl Memory {
    /// What a file was when it was read.
    pub(super) fn known(&self, path: &[u8]) -> Option<&Known> {
        let (folder, name) = beneath::split(path);
        let files = &self.0.get(folder)?.files;
        let at = files.binary_search_by(|known| known.name.as_slice().cmp(name)).ok()?;
        files.get(at)
    }
}

/// What a scan found.
#[derive(Default)]
pub(super) struct Found {
    /// The tree.
    pub tree: Option<Oid>,
    /// Pipes, sockets and devices.
    pub specials: Vec<Vec<u8>>,
    /// Folders without any entry.
    pub empty: Vec<Vec<u8>>,
    /// Files that nobody may read, or with set-user bits, and the mode that git has for them.
    pub odd: Vec<(Vec<u8>, u32)>,
    /// Ignored entries: topmost only.
    pub ignored: Vec<Vec<u8>>,
    /// Folders with tracked files that an overlay's upper layer hides: ignored files in them are hidden too.
    pub hidden: Vec<Vec<u8>>,
}

/// A folder's memory.
pub(super) struct Scanner {
    facts: Arc<Facts>,
    /// The tree in which tracked files are looked up: what is ignored there is kept.
    pub reference: Option<Oid>,
    pub memory: Memory,
    /// Entries that were ignored at first: they stay so whatever the folder's own ignore files say later.
    pub hidden: HashSet<Vec<u8>>,
}

struct Job {
    path: Vec<u8>,
    fd: OwnedFd,
    rules: Rules,
    rules_same: bool,
    only_tracked: bool,
}

struct Listed {
    path: Vec<u8>,
    folder: Folder,
    changed: bool,
}

struct Queue {
    jobs: Vec<Job>,
    busy: usize,
    listed: Vec<Listed>,
    found: Found,
    failed: Option<RepositoryError>,
}

impl Scanner {
    pub(super) fn new(facts: Arc<Facts>, reference: Option<Oid>) -> Self {
        Self { facts, reference, memory: Memory::default(), hidden: HashSet::new() }
    }

    /// Reads the folder `root`.
    pub(super) fn scan(&mut self, store: &Store, root: BorrowedFd<'_>) -> Result<Found, RepositoryError> {
        let failed = |error| broken("reading the folder", error);
        let top = beneath::open_folder(root, b"").map_err(failed)?;
        let first =
            Job { path: Vec::new(), fd: top, rules: self.facts.exclude.clone(), rules_same: true, only_tracked: false };
        let queue =
            Mutex::new(Queue { jobs: vec![first], busy: 0, listed: Vec::new(), found: Found::default(), failed: None });
        let wake = Condvar::new();
        let this = &*self;
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| this.work(store, &queue, &wake));
            }
        });
        let mut done = queue.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = done.failed {
            return Err(error);
        }
        done.found.tree = Some(self.combine(store, done.listed)?);
        self.keep_unseen(store, root, &mut done.found)?;
        Ok(done.found)
    }

    fn work(&self, store: &Store, queue: &Mutex<Queue>, wake: &Condvar) {
        let lock = || queue.lock().unwrap_or_else(PoisonError::into_inner);
        let mut guard = lock();
        loop {
            if guard.failed.is_some() || (guard.jobs.is_empty() && guard.busy == 0) {
                wake.notify_all();
                return;
            }
            let Some(job) = guard.jobs.pop() else {
                guard = wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            guard.busy += 1;
            drop(guard);
            let mut found = Found::default();
            let path = job.path.clone();
            let result = self.list(store, job, &mut found);
            guard = lock();
            guard.busy -= 1;
            match result {
                Ok((listed, jobs)) => {
                    guard.listed.push(listed);
                    guard.jobs.extend(jobs);
                    guard.found.specials.append(&mut found.specials);
                    guard.found.empty.append(&mut found.empty);
                    guard.found.odd.append(&mut found.odd);
                    guard.found.ignored.append(&mut found.ignored);
                }
                // A folder that vanished while it was looked at is gone; anything else is told.
                Err(error) if error.1 && !path.is_empty() => {}
                Err(error) => guard.failed = Some(error.0),
            }
            wake.notify_all();
        }
    }

    /// Lists one folder. The error's flag: it vanished.
    fn list(&self, store: &Store, job: Job, found: &mut Found) -> Result<(Listed, Vec<Job>), (RepositoryError, bool)> {
        let fail = |path: &[u8]| {
            let text = format!("reading `{}` in the workspace", shown(path));
            move |error: std::io::Error| {
                let vanished = beneath::is_absent(&error);
                (broken(text.clone(), error), vanished)
            }
        };
        let hard = |error| (error, false);
        let old = self.memory.0.get(&job.path);
        let at = job.fd.as_fd();
        let mut names = beneath::names(at).map_err(fail(&job.path))?;
        names.sort_unstable();
        let ignore_file = match names.binary_search_by(|name| name.as_slice().cmp(b".gitignore")) {
            Ok(_) => beneath::stat(at, b".gitignore").map_err(fail(&job.path))?,
            Err(_) => None,
        };
        let rules_same = job.rules_same && old.is_some_and(|old| old.ignore_file == ignore_file);
        let rules = match old {
            Some(old) if rules_same => old.rules.clone(),
            _ if ignore_file.is_some() => job.rules.enter(at, &job.path),
            _ => job.rules.clone(),
        };
        if names.is_empty() && !job.path.is_empty() {
            found.empty.push(job.path.clone());
        }
        let now = now();
        let mut folder =
            Folder { files: Vec::with_capacity(names.len()), children: Vec::new(), tree: None, ignore_file, rules };
        let (mut jobs, mut changed) = (Vec::new(), old.is_none());
        for name in names {
            if beneath::is_dot_git(&name) {
                continue;
            }
            let Some(sig) = beneath::stat(at, &name).map_err(fail(&job.path))? else { continue };
            let path = beneath::join(&job.path, &name);
            let kind = sig.kind();
            let known = old.filter(|_| kind != FileType::Directory).and_then(|old| {
                let at = old.files.binary_search_by(|known| known.name.cmp(&name)).ok()?;
                old.files.get(at)
            });
            let was_child =
                kind == FileType::Directory && old.is_some_and(|old| old.children.binary_search(&name).is_ok());
            let settled = rules_same && !job.only_tracked && (known.is_some() || was_child);
            let mut only_tracked = job.only_tracked;
            if !settled {
                let ignored = only_tracked
                    || self.hidden.contains(&path)
                    || folder.rules.ignores(&path, kind == FileType::Directory);
                if ignored && !self.tracked(store, &path, kind == FileType::Directory).map_err(hard)? {
                    found.ignored.push(path);
                    continue;
                }
                only_tracked |= ignored;
            }
            match kind {
                FileType::Directory => {
                    if self.facts.links.contains_key(&path) {
                        continue;
                    }
                    // What is tracked in an ignored folder is looked up each time; such folders are few.
                    let fd = beneath::open_child(at, &name).map_err(fail(&path))?;
                    let job = Job { path, fd, rules: folder.rules.clone(), rules_same, only_tracked };
                    jobs.push(job);
                    folder.children.push(name);
                }
                FileType::RegularFile | FileType::Symlink => {
                    if kind == FileType::RegularFile && (sig.mode & 0o400 == 0 || sig.mode & 0o6000 != 0) {
                        found.odd.push((path.clone(), sig.mode));
                    }
                    let kept = known.filter(|known| known.sig == sig && !known.racy);
                    let entry = match kept {
                        Some(known) => known.clone(),
                        None => match self.hash(store, at, &path, &name, &sig) {
                            Ok((oid, mode)) => Known { name, sig, oid, mode, racy: is_racy(&sig, now) },
                            Err(error) if error.1 => continue,
                            Err(error) => return Err(error),
                        },
                    };
                    changed |= known.is_none_or(|known| known.oid != entry.oid || known.mode != entry.mode);
                    folder.files.push(entry);
                }
                _ => found.specials.push(path),
            }
        }
        if let Some(old) = old {
            changed |= old.files.len() != folder.files.len() || old.children != folder.children;
            folder.tree = old.tree;
        }
        Ok((Listed { path: job.path, folder, changed }, jobs))
    }

    /// Whether a path (or, for a folder, something in it) is in the reference tree or the index.
    fn tracked(&self, store: &Store, path: &[u8], is_folder: bool) -> Result<bool, RepositoryError> {
        if !is_folder && self.facts.indexed.contains_key(path) {
            return Ok(true);
        }
        match self.reference {
            Some(tree) => Ok(trees::lookup(store, tree, path)?.is_some_and(|entry| entry.is_folder() == is_folder)),
            None => Ok(false),
        }
    }

    fn hash(
        &self,
        store: &Store,
        at: BorrowedFd<'_>,
        path: &[u8],
        name: &[u8],
        sig: &Sig,
    ) -> Result<(Oid, u32), (RepositoryError, bool)> {
        let indexed = self.facts.indexed.get(path);
        if let Some(indexed) = indexed.filter(|indexed| indexed.matches(sig)) {
            return Ok((indexed.oid, indexed.mode));
        }
        let oid = hash_file(store, at, path, name, sig, indexed)?;
        let mut mode = git_mode(sig).unwrap_or(trees::FILE);
        if !self.facts.trust_mode && mode != trees::LINK {
            mode = indexed.map_or(trees::FILE, |indexed| indexed.mode);
        }
        Ok((oid, mode))
    }

    /// Folders' trees from the deepest up.
    fn combine(&mut self, store: &Store, mut listed: Vec<Listed>) -> Result<Oid, RepositoryError> {
        listed.sort_unstable_by(|a, b| b.path.cmp(&a.path));
        let mut next: HashMap<Vec<u8>, Folder> = HashMap::with_capacity(listed.len());
        for Listed { path, mut folder, mut changed } in listed {
            let mut children = Vec::new();
            for child in &folder.children {
                let child_path = beneath::join(&path, child);
                let now = next.get(&child_path).and_then(|child| child.tree);
                changed |= self.memory.0.get(&child_path).and_then(|child| child.tree) != now;
                if let Some(oid) = now {
                    children.push(Entry { name: child.clone(), mode: trees::FOLDER, oid });
                }
            }
            if changed {
                let mut entries = children;
                let files = folder.files.iter();
                entries.extend(files.map(|file| Entry { name: file.name.clone(), mode: file.mode, oid: file.oid }));
                folder.tree = if entries.is_empty() { None } else { Some(trees::write(store, entries)?) };
            }
            next.insert(path, folder);
        }
        self.memory = Memory(Arc::new(next));
        Ok(self.memory.0.get(b"".as_slice()).and_then(|top| top.tree).unwrap_or_else(|| store.empty_tree()))
    }

    /// Puts submodules and what a sparse checkout leaves out back into the tree.
    fn keep_unseen(&self, store: &Store, root: BorrowedFd<'_>, found: &mut Found) -> Result<(), RepositoryError> {
        let mut edits = BTreeMap::new();
        for (path, oid) in &self.facts.links {
            edits.insert(path.clone(), Some((trees::COMMIT, *oid)));
        }
        for (path, (mode, oid)) in &self.facts.sparse {
            let there = beneath::stat_path(root, path).map_err(|error| broken("reading the folder", error))?;
            if there.is_none() {
                edits.insert(path.clone(), Some((*mode, *oid)));
            }
        }
        if let (false, Some(tree)) = (edits.is_empty(), found.tree) {
            found.tree = Some(trees::edit(store, tree, &edits)?);
        }
        Ok(())
    }
}

/// Git's mode of a file or link; `None` for others.
pub(super) fn git_mode(sig: &Sig) -> Option<u32> {
    match sig.kind() {
        FileType::RegularFile if sig.mode & 0o100 != 0 => Some(trees::PROGRAM),
        FileType::RegularFile => Some(trees::FILE),
        FileType::Symlink => Some(trees::LINK),
        _ => None,
    }
}

/// Writes a file's or link's blob. `indexed`: what the user's index has there, in case a checkout converts the file.
/// The error's flag: it vanished.
pub(super) fn hash_file(
    store: &Store,
    at: BorrowedFd<'_>,
    path: &[u8],
    name: &[u8],
    sig: &Sig,
    indexed: Option<&Indexed>,
) -> Result<Oid, (RepositoryError, bool)> {
    let failed = |error: std::io::Error| {
        let vanished = beneath::is_absent(&error);
        (broken(format!("reading `{}` in the workspace", shown(path)), error), vanished)
    };
    let mut content = Vec::new();
    if sig.kind() == FileType::Symlink {
        content = beneath::read_link(at, name).map_err(failed)?;
    } else {
        if sig.size > LARGEST {
            let why = format!("it has {} bytes, more than the {LARGEST} that a snapshot takes", sig.size);
            return Err((broken(format!("reading `{}` in the workspace", shown(path)), why), false));
        }
        content.reserve(usize::try_from(sig.size).unwrap_or(0) + 1);
        beneath::open_file(at, name).map_err(failed)?.take(LARGEST).read_to_end(&mut content).map_err(failed)?;
        if let Some(same) = filters::blob_for(store, indexed, &content).map_err(|error| (error, false))? {
            return Ok(same);
        }
    }
    store.write(ObjectType::Blob, &content).map_err(|error| (error, false))
}

#[expect(clippy::disallowed_methods, reason = "compared with the file system's times, which come from the same clock")]
pub(super) fn now() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

pub(super) fn is_racy(sig: &Sig, now: Duration) -> bool {
    let since = |time: (i64, u32)| Duration::new(u64::try_from(time.0).unwrap_or(0), time.1);
    since(sig.mtime).max(since(sig.ctime)) + RACY > now
}
