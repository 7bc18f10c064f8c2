//! Git trees as plain values: read, write, look up, edit, compare. No checks of names are made here beyond those of
//! the format; `guard` makes them where a tree leaves our hands.

use super::store::Store;
use crate::port::repository::RepositoryError;
use git2::{ObjectType, Oid};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Mode of a folder.
pub(super) const FOLDER: u32 = 0o040_000;
/// Mode of a file.
pub(super) const FILE: u32 = 0o100_644;
/// Mode of a file that can be executed.
pub(super) const PROGRAM: u32 = 0o100_755;
/// Mode of a symlink.
pub(super) const LINK: u32 = 0o120_000;
/// Mode of a submodule's commit.
pub(super) const COMMIT: u32 = 0o160_000;

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub name: Vec<u8>,
    pub mode: u32,
    pub oid: Oid,
}

impl Entry {
    pub(super) fn is_folder(&self) -> bool {
        self.mode == FOLDER
    }
}

/// Git's order of names: folders sort as if their name ended with a slash.
fn order(a: &Entry, b: &Entry) -> Ordering {
    let key = |entry: &Entry| if entry.is_folder() { b'/' } else { 0 };
    let shared = a.name.len().min(b.name.len());
    let (left, right) = (a.name.as_slice(), b.name.as_slice());
    left.get(..shared).cmp(&right.get(..shared)).then_with(|| {
        let next_left = left.get(shared).copied().unwrap_or_else(|| key(a));
        let next_right = right.get(shared).copied().unwrap_or_else(|| key(b));
        next_left.cmp(&next_right)
    })
}

/// The entries of a tree, in git's order.
pub(super) fn read(store: &Store, tree: Oid) -> Result<Vec<Entry>, RepositoryError> {
    if tree == store.empty_tree() {
        return Ok(Vec::new());
    }
    let object = store.read(tree)?;
    if object.kind() != ObjectType::Tree {
        return Err(store.broken(format!("reading tree {tree}"), "it is not a tree"));
    }
    parse(object.data()).ok_or_else(|| store.broken(format!("reading tree {tree}"), "it is damaged"))
}

fn parse(mut data: &[u8]) -> Option<Vec<Entry>> {
    let mut entries = Vec::new();
    while !data.is_empty() {
        let space = data.iter().position(|byte| *byte == b' ')?;
        let mode = u32::from_str_radix(std::str::from_utf8(data.get(..space)?).ok()?, 8).ok()?;
        data = data.get(space + 1..)?;
        let end = data.iter().position(|byte| *byte == 0)?;
        let name = data.get(..end)?.to_vec();
        let oid = Oid::from_bytes(data.get(end + 1..end + 21)?).ok()?;
        data = data.get(end + 21..)?;
        // Old repositories hold 0100664; git reads it as 0100644.
        let mode = if mode & 0o170_000 == 0o100_000 { if mode & 0o100 == 0 { FILE } else { PROGRAM } } else { mode };
        entries.push(Entry { name, mode, oid });
    }
    Some(entries)
}

/// Writes a tree of these entries, whatever their order.
pub(super) fn write(store: &Store, mut entries: Vec<Entry>) -> Result<Oid, RepositoryError> {
    entries.sort_by(order);
    let mut data = Vec::with_capacity(entries.len() * 48);
    for entry in &entries {
        data.extend_from_slice(format!("{:o} ", entry.mode).as_bytes());
        data.extend_from_slice(&entry.name);
        data.push(0);
        data.extend_from_slice(entry.oid.as_bytes());
    }
    store.write(ObjectType::Tree, &data)
}

/// What is at a path of a tree.
pub(super) fn lookup(store: &Store, tree: Oid, path: &[u8]) -> Result<Option<Entry>, RepositoryError> {
    let mut at = Entry { name: Vec::new(), mode: FOLDER, oid: tree };
    for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        if !at.is_folder() {
            return Ok(None);
        }
        match read(store, at.oid)?.into_iter().find(|entry| entry.name == part) {
            Some(entry) => at = entry,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

/// What an edit puts at a path: mode and object, or nothing.
pub(super) type Put = Option<(u32, Oid)>;

/// `tree` with the paths of `edits` put. Removals come first where a file and a folder change places.
pub(super) fn edit(store: &Store, tree: Oid, edits: &BTreeMap<Vec<u8>, Put>) -> Result<Oid, RepositoryError> {
    let flat: Vec<(&[u8], Put)> = edits.iter().map(|(path, put)| (path.as_slice(), *put)).collect();
    Ok(edit_folder(store, Some(tree), &flat)?.unwrap_or_else(|| store.empty_tree()))
}

fn edit_folder(store: &Store, tree: Option<Oid>, edits: &[(&[u8], Put)]) -> Result<Option<Oid>, RepositoryError> {
    let mut entries: BTreeMap<Vec<u8>, Entry> = match tree {
        Some(tree) => read(store, tree)?.into_iter().map(|entry| (entry.name.clone(), entry)).collect(),
        None => BTreeMap::new(),
    };
    let mut deeper: BTreeMap<&[u8], Vec<(&[u8], Put)>> = BTreeMap::new();
    for (path, put) in edits {
        match path.iter().position(|byte| *byte == b'/') {
            Some(slash) => {
                let (name, rest) = path.split_at(slash);
                deeper.entry(name).or_default().push((rest.get(1..).unwrap_or_default(), *put));
            }
            None => match put {
                Some((mode, oid)) => {
                    entries.insert(path.to_vec(), Entry { name: path.to_vec(), mode: *mode, oid: *oid });
                }
                // A folder of that name stays: the paths in it are named one by one.
                None if entries.get(*path).is_some_and(|entry| !entry.is_folder()) => {
                    entries.remove(*path);
                }
                None => {}
            },
        }
    }
    for (name, edits) in deeper {
        let old = entries.get(name).cloned();
        let below = old.as_ref().filter(|entry| entry.is_folder()).map(|entry| entry.oid);
        if below.is_none() && edits.iter().all(|(_, put)| put.is_none()) {
            continue;
        }
        match edit_folder(store, below, &edits)? {
            Some(oid) => {
                entries.insert(name.to_vec(), Entry { name: name.to_vec(), mode: FOLDER, oid });
            }
            None => {
                entries.remove(name);
            }
        }
    }
    if entries.is_empty() {
        return Ok(None);
    }
    write(store, entries.into_values().collect()).map(Some)
}

/// One path that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delta {
    pub path: Vec<u8>,
    pub old: Put,
    pub new: Put,
}

/// The paths of files, links and submodules that differ, sorted within each folder; a file that became a folder is
/// gone as a file and its content is new.
pub(super) fn diff(store: &Store, from: Oid, to: Oid) -> Result<Vec<Delta>, RepositoryError> {
    let mut deltas = Vec::new();
    diff_folder(store, Some(from), Some(to), &mut Vec::new(), &mut deltas)?;
    Ok(deltas)
}

fn diff_folder(
    store: &Store,
    from: Option<Oid>,
    to: Option<Oid>,
    prefix: &mut Vec<u8>,
    deltas: &mut Vec<Delta>,
) -> Result<(), RepositoryError> {
    if from == to {
        return Ok(());
    }
    let mut names: BTreeMap<Vec<u8>, (Option<Entry>, Option<Entry>)> = BTreeMap::new();
    if let Some(from) = from {
        for entry in read(store, from)? {
            let name = entry.name.clone();
            names.entry(name).or_default().0 = Some(entry);
        }
    }
    if let Some(to) = to {
        for entry in read(store, to)? {
            let name = entry.name.clone();
            names.entry(name).or_default().1 = Some(entry);
        }
    }
    for (name, (old, new)) in names {
        if old == new {
            continue;
        }
        let length = prefix.len();
        if length > 0 {
            prefix.push(b'/');
        }
        prefix.extend_from_slice(&name);
        let leaf = |entry: &Option<Entry>| entry.as_ref().filter(|entry| !entry.is_folder()).map(|e| (e.mode, e.oid));
        let folder = |entry: &Option<Entry>| entry.as_ref().filter(|entry| entry.is_folder()).map(|entry| entry.oid);
        if leaf(&old) != leaf(&new) {
            deltas.push(Delta { path: prefix.clone(), old: leaf(&old), new: leaf(&new) });
        }
        if folder(&old) != folder(&new) {
            diff_folder(store, folder(&old), folder(&new), prefix, deltas)?;
        }
        prefix.truncate(length);
    }
    Ok(())
}
