//! Merging and grafting trees; reading history.

use super::store::{Store, broken, shown};
use super::trees::{self, Put};
use crate::model::id::TreeId;
use crate::port::repository::RepositoryError;
use git2::{MergeOptions, Oid, Repository, Sort};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::collections::BTreeMap;

/// Three-way merge; the conflicting paths where it fails.
pub(super) fn merge(
    store: &Store,
    base: Oid,
    ours: Oid,
    theirs: Oid,
) -> Result<Result<TreeId, Vec<String>>, RepositoryError> {
    let id = |oid: Oid| Ok(Ok(TreeId(oid.to_string())));
    if theirs == base || theirs == ours {
        return id(ours);
    }
    if ours == base {
        return id(theirs);
    }
    let failed = |error| store.broken(format!("merging {ours} and {theirs}"), error);
    let repository = store.repository();
    let find = |oid| repository.find_tree(oid).map_err(failed);
    let mut options = MergeOptions::new();
    options.find_renames(true);
    let mut merged =
        repository.merge_trees(&find(base)?, &find(ours)?, &find(theirs)?, Some(&options)).map_err(failed)?;
    if merged.has_conflicts() {
        let mut paths = Vec::new();
        for conflict in merged.conflicts().map_err(failed)? {
            let conflict = conflict.map_err(failed)?;
            let entry = conflict.our.or(conflict.their).or(conflict.ancestor);
            paths.extend(entry.map(|entry| shown(&entry.path)));
        }
        paths.sort();
        paths.dedup();
        return Ok(Err(paths));
    }
    id(merged.write_tree_to(&repository).map_err(failed)?)
}

/// `tree` with everything under `paths` as it is in `from`.
pub(super) fn graft(store: &Store, tree: Oid, from: Oid, paths: &[String]) -> Result<TreeId, RepositoryError> {
    let globs = globs(paths)?;
    let mut edits: BTreeMap<Vec<u8>, Put> = BTreeMap::new();
    for delta in trees::diff(store, tree, from)? {
        if globs.is_match(super::os(&delta.path)) {
            edits.insert(delta.path, delta.new);
        }
    }
    Ok(TreeId(trees::edit(store, tree, &edits)?.to_string()))
}

/// Path globs in one set: `**` crosses folders, `*` does not; letter case does not matter, since on some file systems
/// it does not.
pub(super) fn globs(patterns: &[String]) -> Result<GlobSet, RepositoryError> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let glob = GlobBuilder::new(pattern)
            .literal_separator(true)
            .case_insensitive(true)
            .build()
            .map_err(|error| broken(format!("reading the path pattern `{pattern}`"), error))?;
        set.add(glob);
    }
    set.build().map_err(|error| broken("reading path patterns", error))
}

/// The subjects of commits from `commit`, newest first; a shallow clone ends where it ends.
pub(super) fn subjects(user: &Repository, commit: &str, most: usize) -> Result<Vec<String>, RepositoryError> {
    let missing = |_| RepositoryError::Missing(format!("the commit {commit}"));
    let id = Oid::from_str(commit).and_then(|id| user.find_commit(id)).map_err(missing)?.id();
    let failed = |error| broken("reading the history", error);
    let mut walk = user.revwalk().map_err(failed)?;
    walk.set_sorting(Sort::TIME | Sort::TOPOLOGICAL).map_err(failed)?;
    walk.push(id).map_err(failed)?;
    let subject = |id: Result<Oid, git2::Error>| {
        let commit = user.find_commit(id.ok()?).ok()?;
        Some(commit.summary_bytes().map(String::from_utf8_lossy).unwrap_or_default().into_owned())
    };
    Ok(walk.take(most).map_while(subject).collect())
}

/// Commits from HEAD (or from `head`), newest first, a line each.
pub(super) fn log(
    user: &Repository,
    store: &Store,
    head: Option<Oid>,
    limit: usize,
    path: Option<&str>,
) -> Result<String, RepositoryError> {
    let failed = |error| broken("reading the history", error);
    if head.is_none() && super::head_commit(user)?.is_none() {
        return Ok(String::new());
    }
    let path = path.map(|path| path.trim_start_matches("./").trim_matches('/')).filter(|path| !path.is_empty());
    let mut walk = user.revwalk().map_err(failed)?;
    walk.set_sorting(Sort::TIME | Sort::TOPOLOGICAL).map_err(failed)?;
    match head {
        Some(head) => walk.push(head),
        None => walk.push_head(),
    }
    .map_err(failed)?;
    let mut text = String::new();
    let mut shown = 0;
    // A path's history is looked for in so many commits at most.
    for oid in walk.take(20_000) {
        let commit = user.find_commit(oid.map_err(failed)?).map_err(failed)?;
        if let Some(path) = path {
            let at = |tree: Oid| trees::lookup(store, tree, path.as_bytes()).map(|entry| entry.map(|entry| entry.oid));
            let now = at(commit.tree_id())?;
            let mut changed = commit.parent_count() == 0 && now.is_some();
            for parent in commit.parents() {
                changed |= at(parent.tree_id())? != now;
            }
            if !changed {
                continue;
            }
        }
        let id: String = commit.id().to_string().chars().take(10).collect();
        let date = jiff::Timestamp::from_second(commit.time().seconds())
            .map_or_else(|_| String::new(), |time| time.strftime("%Y-%m-%d").to_string());
        let author = String::from_utf8_lossy(commit.author().name_bytes()).into_owned();
        let summary = commit.summary_bytes().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
        text.push_str(&crate::text::clean(&format!("{id} {date} {author}: {summary}")).replace('\n', " "));
        text.push('\n');
        shown += 1;
        if shown == limit {
            break;
        }
    }
    Ok(text)
}
