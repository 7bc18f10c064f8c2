//! The checkout of a CI job: commits and files straight from git's objects.

use super::store::{broken, shown};
use super::trees::{self, COMMIT, LINK};
use super::{Inner, diff, fetch, outgoing, pinned};
use crate::model::delivery::ChangeSet;
use crate::port::checkout::{CameIn, Checkout, Fetch, FetchError, File, Parcel};
use crate::port::repository::{Repository, RepositoryError};
use git2::{ErrorCode, Oid};
use std::path::Path;
use std::sync::Arc;

/// Files that are looked through for links of Git LFS.
const LOOKED_AT: usize = 5000;

/// Opens the checkout that `at` is in.
///
/// # Errors
/// As [`super::open`].
pub fn checkout(at: &Path, env: fetch::Env) -> Result<Arc<dyn Checkout>, RepositoryError> {
    Ok(Arc::new(Found { inner: super::inner(at, super::Force::Best)?, env }))
}

struct Found {
    inner: Arc<Inner>,
    env: fetch::Env,
}

impl Found {
    fn oid(commit: &str) -> Result<Oid, RepositoryError> {
        Oid::from_str(commit).map_err(|error| broken(format!("reading the commit id `{commit}`"), error))
    }

    fn tree(&self, commit: &str) -> Result<Oid, RepositoryError> {
        if commit.is_empty() {
            return Ok(self.inner.store.empty_tree());
        }
        let user = self.inner.user()?;
        let tree = user.find_commit(Self::oid(commit)?).map(|commit| commit.tree_id());
        tree.map_err(|_| RepositoryError::Missing(format!("the commit {commit} is not in this clone")))
    }

    /// Goes through a tree's files; `false` ends it.
    fn walk(
        &self,
        tree: Oid,
        folder: &str,
        see: &mut dyn FnMut(&str, &trees::Entry) -> Result<bool, RepositoryError>,
    ) -> Result<bool, RepositoryError> {
        for entry in trees::read(&self.inner.store, tree)? {
            // A name that is not UTF-8 is none of a file that we know.
            let Ok(name) = std::str::from_utf8(&entry.name) else { continue };
            let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            let more = if entry.is_folder() { self.walk(entry.oid, &path, see)? } else { see(&path, &entry)? };
            if !more {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Checkout for Found {
    fn root(&self) -> &Path {
        &self.inner.root
    }

    fn head(&self) -> Result<Option<String>, RepositoryError> {
        Ok(super::head_commit(&self.inner.user()?)?.map(|commit| commit.to_string()))
    }

    fn origin(&self) -> Option<String> {
        let user = self.inner.user().ok()?;
        let remote = user.find_remote("origin").ok()?;
        remote.url().ok().map(fetch::bare)
    }

    fn origin_branch(&self) -> Option<String> {
        let user = self.inner.user().ok()?;
        let head = user.find_reference("refs/remotes/origin/HEAD").ok()?;
        let target = String::from_utf8_lossy(head.symbolic_target_bytes()?).into_owned();
        target.strip_prefix("refs/remotes/origin/").map(str::to_owned)
    }

    fn resolve(&self, git_ref: &str) -> Result<Option<String>, RepositoryError> {
        let failed = |error| broken(format!("reading {git_ref}"), error);
        if !git_ref.starts_with("refs/") || !git2::Reference::is_valid_name(git_ref) {
            return Err(broken("reading a ref", format!("`{git_ref}` is no full name of a ref")));
        }
        let user = self.inner.user()?;
        match user.find_reference(git_ref) {
            Ok(found) => Ok(Some(found.peel_to_commit().map_err(failed)?.id().to_string())),
            Err(error) if matches!(error.code(), ErrorCode::NotFound) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    fn named(&self, rev: &str) -> Result<Option<String>, RepositoryError> {
        let user = self.inner.user()?;
        match user.revparse_single(rev).and_then(|found| found.peel_to_commit()) {
            Ok(commit) => Ok(Some(commit.id().to_string())),
            Err(error)
                if matches!(
                    error.code(),
                    ErrorCode::NotFound | ErrorCode::InvalidSpec | ErrorCode::Peel | ErrorCode::Ambiguous
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(broken(format!("looking for `{}`", rev.escape_debug()), error)),
        }
    }

    fn has(&self, commit: &str) -> bool {
        let Ok(tree) = self.tree(commit) else { return false };
        if commit.is_empty() || !self.inner.store.has(tree) {
            return false;
        }
        // A clone that is not partial has what its trees name.
        !self.is_partial()
            || self
                .walk(tree, "", &mut |_, entry| Ok(entry.mode == COMMIT || self.inner.store.has(entry.oid)))
                .unwrap_or_default()
    }

    fn is_partial(&self) -> bool {
        let config = self
            .inner
            .user()
            .and_then(|user| user.config().map_err(|error| broken("reading git's configuration", error)));
        config.is_ok_and(|config| {
            let names = config.entries(Some(r"remote\..*\.promisor"));
            config.get_string("extensions.partialclone").is_ok() || names.is_ok_and(|mut names| names.next().is_some())
        })
    }

    fn is_shallow(&self) -> bool {
        self.inner.user().is_ok_and(|user| user.is_shallow())
    }

    fn fetch(&self, order: &Fetch) -> Result<(), FetchError> {
        fetch::fetch(&self.env, &self.inner.root, &self.inner.git_dir, self.is_shallow(), order)
    }

    fn meet(&self, one: &str, other: &str) -> Result<Option<String>, RepositoryError> {
        let user = self.inner.user()?;
        match user.merge_base(Self::oid(one)?, Self::oid(other)?) {
            Ok(found) => Ok(Some(found.to_string())),
            // A parent that a shallow clone does not have is not found either.
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(broken(format!("looking for where {one} and {other} meet"), error)),
        }
    }

    fn changes(&self, limit: usize) -> Result<Vec<CameIn>, RepositoryError> {
        let user = self.inner.user()?;
        let failed = |error| broken("reading what came in".to_owned(), error);
        let mut found = Vec::new();
        let mut at = super::head_commit(&user)?;
        while let Some(id) = at.filter(|_| found.len() < limit) {
            let commit = user.find_commit(id).map_err(failed)?;
            let Ok(parent) = commit.parent_id(0) else { break };
            // Where a shallow clone is cut off, the commit before is not here.
            if user.find_commit(parent).is_err() {
                break;
            }
            let message = String::from_utf8_lossy(commit.message_bytes()).into_owned();
            let (subject, body) = message.trim().split_once('\n').unwrap_or((message.trim(), ""));
            found.push(CameIn {
                commit: id.to_string(),
                parent: parent.to_string(),
                subject: subject.trim().to_owned(),
                body: body.trim().to_owned(),
            });
            at = Some(parent);
        }
        Ok(found)
    }

    fn change(&self, from: &str, to: &str, cap: usize) -> Result<ChangeSet, RepositoryError> {
        diff::change_set(&self.inner.store, self.tree(from)?, self.tree(to)?, cap)
    }

    fn files(&self, commit: &str, folder: &str, limit: usize, largest: usize) -> Result<Vec<File>, RepositoryError> {
        let tree = self.tree(commit)?;
        let Some(entry) = trees::lookup(&self.inner.store, tree, folder.as_bytes())? else { return Ok(Vec::new()) };
        if !entry.is_folder() {
            return Ok(Vec::new());
        }
        let mut files = Vec::new();
        let whole = self.walk(entry.oid, folder, &mut |path, entry| {
            if matches!(entry.mode, COMMIT | LINK) {
                return Ok(true);
            }
            if files.len() == limit {
                return Ok(false);
            }
            let object = self.inner.store.read(entry.oid)?;
            if object.data().len() > largest {
                return Err(RepositoryError::Missing(format!(
                    "{path} has {} bytes at {commit}, more than the {largest} that are read",
                    object.data().len()
                )));
            }
            files.push(File { path: path.to_owned(), content: object.data().to_vec() });
            Ok(true)
        })?;
        if !whole {
            return Err(RepositoryError::Missing(format!("{folder} holds more than {limit} files at {commit}")));
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    fn file(&self, commit: &str, path: &str, largest: usize) -> Result<Option<Vec<u8>>, RepositoryError> {
        let entry = trees::lookup(&self.inner.store, self.tree(commit)?, path.as_bytes())?;
        let Some(entry) = entry.filter(|entry| !entry.is_folder() && !matches!(entry.mode, COMMIT | LINK)) else {
            return Ok(None);
        };
        let object = self.inner.store.read(entry.oid)?;
        Ok((object.data().len() <= largest).then(|| object.data().to_vec()))
    }

    fn left_out(&self, commit: &str) -> Result<Vec<String>, RepositoryError> {
        let (mut attributes, mut submodules, mut seen) = (Vec::new(), Vec::new(), 0);
        self.walk(self.tree(commit)?, "", &mut |path, entry| {
            seen += 1;
            if entry.mode == COMMIT {
                submodules.push(shown(path.as_bytes()));
            } else if path == ".gitattributes" || path.ends_with("/.gitattributes") {
                attributes.push(entry.oid);
            }
            Ok(seen < LOOKED_AT)
        })?;
        let mut told = Vec::new();
        let lfs = attributes.into_iter().any(|oid| {
            let object = self.inner.store.read(oid);
            object.is_ok_and(|object| String::from_utf8_lossy(object.data()).contains("filter=lfs"))
        });
        if lfs {
            told.push(
                "files of Git LFS are left as the pointers that are committed: agents do not see their contents"
                    .to_owned(),
            );
        }
        if let Some(first) = submodules.first() {
            let more = if submodules.len() > 1 { format!(" and {} more", submodules.len() - 1) } else { String::new() };
            told.push(format!("submodules are left empty: `{first}`{more}"));
        }
        Ok(told)
    }

    fn parcel(&self, parcel: &Parcel<'_>) -> Result<(String, Vec<u8>), RepositoryError> {
        outgoing::parcel(parcel).map_err(|error| broken("making a commit to send", error))
    }

    fn at(&self, commit: &str) -> Result<Arc<dyn Repository>, RepositoryError> {
        pinned::open(&self.inner, Self::oid(commit)?, self.tree(commit)?)
    }
}
