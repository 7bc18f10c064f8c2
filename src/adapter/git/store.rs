//! Our own object folder: a bare repository under the state folder, with the user's objects as alternates. Whatever
//! is written goes here; the user's objects are only read.

use crate::port::repository::RepositoryError;
use git2::{ObjectType, Odb, OdbLookupFlags, OdbObject, Oid, Repository, RepositoryInitOptions};
use std::fmt::Display;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The id of the tree without entries.
const EMPTY_TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

pub(super) struct Store {
    git_dir: PathBuf,
    odb: Odb<'static>,
    repository: Mutex<Repository>,
    empty: Oid,
}

impl Store {
    /// Opens the store in `state`, making it where it is missing; `objects` are the user's.
    pub(super) fn open(state: &Path, objects: &Path) -> Result<Self, RepositoryError> {
        let git_dir = state.join("store.git");
        let failed = |error: &dyn Display| broken(format!("opening the snapshot store {}", git_dir.display()), error);
        if !git_dir.join("HEAD").exists() {
            let mut options = RepositoryInitOptions::new();
            options.bare(true).external_template(false).mkpath(true).no_reinit(false);
            Repository::init_opts(&git_dir, &options).map_err(|error| failed(&error))?;
        }
        let alternates = git_dir.join("objects/info/alternates");
        let mut line = objects.as_os_str().as_bytes().to_vec();
        line.push(b'\n');
        if std::fs::read(&alternates).ok().as_deref() != Some(line.as_slice()) {
            std::fs::create_dir_all(git_dir.join("objects/info")).map_err(|error| failed(&error))?;
            std::fs::write(&alternates, line).map_err(|error| failed(&error))?;
        }
        let repository = Repository::open_bare(&git_dir).map_err(|error| failed(&error))?;
        let odb = Odb::new().map_err(|error| failed(&error))?;
        let path = git_dir.join("objects");
        let path = path.to_str().ok_or_else(|| failed(&"its path is not UTF-8"))?;
        odb.add_disk_alternate(path).map_err(|error| failed(&error))?;
        let empty = Oid::from_str(EMPTY_TREE).map_err(|error| failed(&error))?;
        let store = Self { git_dir, odb, repository: Mutex::new(repository), empty };
        store.write(ObjectType::Tree, &[])?;
        Ok(store)
    }

    pub(super) fn empty_tree(&self) -> Oid {
        self.empty
    }

    /// The store as libgit2 sees it: one user at a time.
    pub(super) fn repository(&self) -> MutexGuard<'_, Repository> {
        self.repository.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read(&self, oid: Oid) -> Result<OdbObject<'_>, RepositoryError> {
        self.odb.read(oid).map_err(|error| self.broken(format!("reading object {oid}"), error))
    }

    pub(super) fn has(&self, oid: Oid) -> bool {
        self.odb.exists(oid)
    }

    /// Writes an object where neither we nor the user have it.
    pub(super) fn write(&self, kind: ObjectType, data: &[u8]) -> Result<Oid, RepositoryError> {
        let failed = |error| self.broken("writing an object", error);
        let oid = Oid::hash_object(kind, data).map_err(failed)?;
        if !self.odb.exists_ext(oid, OdbLookupFlags::NO_REFRESH) {
            self.odb.write(kind, data).map_err(failed)?;
        }
        Ok(oid)
    }

    /// The error of something that failed in the store.
    pub(super) fn broken(&self, doing: impl Into<String>, why: impl Display) -> RepositoryError {
        broken(format!("{} (snapshot store {})", doing.into(), self.git_dir.display()), why)
    }
}

/// The environment's fault.
pub(super) fn broken(doing: impl Into<String>, why: impl Display) -> RepositoryError {
    RepositoryError::Broken { doing: doing.into(), message: why.to_string() }
}

/// A path's bytes for messages.
pub(super) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
