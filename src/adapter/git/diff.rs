//! Differences of two trees, in git's format.

use super::store::Store;
use crate::model::delivery::{ChangeKind, ChangeSet, FileChange};
use crate::port::repository::RepositoryError;
use git2::{Delta, Diff, DiffFindOptions, DiffFormat, DiffOptions, Oid, Patch, Repository};

/// Makes a difference with renames found.
pub(super) fn of<'r>(
    store: &Store,
    repository: &'r Repository,
    from: Oid,
    to: Oid,
    mut options: DiffOptions,
) -> Result<Diff<'r>, RepositoryError> {
    let failed = |error| store.broken(format!("comparing {from} with {to}"), error);
    let old = repository.find_tree(from).map_err(failed)?;
    let new = repository.find_tree(to).map_err(failed)?;
    // The attributes of a workspace must not decide what a difference shows.
    options.show_binary(true).context_lines(3).ignore_submodules(false).id_abbrev(40);
    let mut diff = repository.diff_tree_to_tree(Some(&old), Some(&new), Some(&mut options)).map_err(failed)?;
    let mut find = DiffFindOptions::new();
    find.renames(true).rename_limit(400);
    diff.find_similar(Some(&mut find)).map_err(failed)?;
    Ok(diff)
}

/// The difference as values; `cap`: bytes of text kept, 0 for all.
pub(super) fn change_set(store: &Store, from: Oid, to: Oid, cap: usize) -> Result<ChangeSet, RepositoryError> {
    if from == to {
        return Ok(ChangeSet::default());
    }
    let repository = store.repository();
    let mut options = DiffOptions::new();
    options.include_typechange(true);
    let diff = of(store, &repository, from, to, options)?;
    let files = files(store, &diff)?;
    let mut text = Vec::new();
    let mut full = false;
    let printed = diff.print(DiffFormat::Patch, |_, _, line| {
        if matches!(line.origin(), '+' | '-' | ' ') {
            text.push(line.origin() as u8);
        }
        text.extend_from_slice(line.content());
        full = cap > 0 && text.len() > cap;
        !full
    });
    if let Err(error) = printed
        && !full
    {
        return Err(store.broken("printing a difference", error));
    }
    if full {
        text.truncate(cap);
        // Half a line would read as something that nobody wrote.
        let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        text.truncate(end);
        text.extend_from_slice(b"[the rest of the difference is left out]\n");
    }
    Ok(ChangeSet { files, diff: String::from_utf8_lossy(&text).into_owned() })
}

fn files(store: &Store, diff: &Diff<'_>) -> Result<Vec<FileChange>, RepositoryError> {
    let mut files = Vec::new();
    for (index, delta) in diff.deltas().enumerate() {
        let path = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let (old, new) = (path(delta.old_file().path_bytes()), path(delta.new_file().path_bytes()));
        let kind = match delta.status() {
            Delta::Added | Delta::Copied => ChangeKind::Added,
            Delta::Deleted => ChangeKind::Deleted,
            Delta::Renamed => ChangeKind::Renamed,
            _ => ChangeKind::Modified,
        };
        let patch = Patch::from_diff(diff, index).map_err(|error| store.broken("counting changed lines", error))?;
        let (added, removed) = match patch {
            Some(patch) => {
                let (_, added, removed) =
                    patch.line_stats().map_err(|error| store.broken("counting changed lines", error))?;
                (added as u64, removed as u64)
            }
            None => (0, 0),
        };
        let mode = if kind == ChangeKind::Deleted { 0 } else { u32::from(delta.new_file().mode()) };
        let from = (kind == ChangeKind::Renamed).then(|| old.clone()).flatten();
        files.push(FileChange { path: new.or(old).unwrap_or_default(), from, kind, added, removed, mode });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}
