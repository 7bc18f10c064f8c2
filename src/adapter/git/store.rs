//! Our own object folder: a bare repository under the state folder, with the user's objects as alternates. Whatever
//! is written goes here; the user's objects are only read.

use crate::port::repository::RepositoryError;
use git2::{ObjectType, OdbLookupFlags, Oid, Repository, RepositoryInitOptions};
use std::fmt::Display;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The id of the tree without entries.
const EMPTY_TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

/// An object's kind and content.
pub(super) struct Object {
    kind: ObjectType,
    data: Vec<u8>,
}

impl Object {
    pub(super) fn kind(&self) -> ObjectType {
        self.kind
    }

    pub(super) fn data(&self) -> &[u8] {
        &self.data
    }
}

pub(super) struct Store {
    git_dir: PathBuf,
    /// A handle of its own for objects: they are read and written while the other one is held.
    objects: Mutex<Repository>,
    repository: Mutex<Repository>,
    empty: Oid,
}

impl Store {
    /// Opens the store in `state`, making it where it is missing; `objects` are the user's.
    pub(super) fn open(state: &Path, objects: &Path) -> Result<Self, RepositoryError> {
        let git_dir = state.join("store.git");
        let failed = |error: &dyn Display| broken(format!("opening the snapshot store {}", git_dir.display()), error);
        if !git_dir.join("HEAD").exists() {
            make(state, &git_dir).map_err(|error| failed(&error))?;
        }
        let alternates = git_dir.join("objects/info/alternates");
        let mut line = objects.as_os_str().as_bytes().to_vec();
        line.push(b'\n');
        if std::fs::read(&alternates).ok().as_deref() != Some(line.as_slice()) {
            replace(&alternates, &line).map_err(|error| failed(&error))?;
        }
        let repository = Repository::open_bare(&git_dir).map_err(|error| failed(&error))?;
        let objects = Mutex::new(Repository::open_bare(&git_dir).map_err(|error| failed(&error))?);
        let empty = Oid::from_str(EMPTY_TREE).map_err(|error| failed(&error))?;
        let store = Self { git_dir, objects, repository: Mutex::new(repository), empty };
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

    fn objects(&self) -> MutexGuard<'_, Repository> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read(&self, oid: Oid) -> Result<Object, RepositoryError> {
        let objects = self.objects();
        let read = objects.odb().and_then(|odb| {
            let object = odb.read(oid)?;
            Ok(Object { kind: object.kind(), data: object.data().to_vec() })
        });
        read.map_err(|error| self.broken(format!("reading object {oid}"), error))
    }

    pub(super) fn has(&self, oid: Oid) -> bool {
        self.objects().odb().is_ok_and(|odb| odb.exists(oid))
    }

    /// Writes an object where neither we nor the user have it.
    pub(super) fn write(&self, kind: ObjectType, data: &[u8]) -> Result<Oid, RepositoryError> {
        let failed = |error| self.broken("writing an object", error);
        let oid = Oid::hash_object(kind, data).map_err(failed)?;
        let objects = self.objects();
        let odb = objects.odb().map_err(failed)?;
        if !odb.exists_ext(oid, OdbLookupFlags::NO_REFRESH) {
            odb.write(kind, data).map_err(failed)?;
        }
        Ok(oid)
    }

    /// The error of something that failed in the store.
    pub(super) fn broken(&self, doing: impl Into<String>, why: impl Display) -> RepositoryError {
        broken(format!("{} (snapshot store {})", doing.into(), self.git_dir.display()), why)
    }
}

/// Makes the store aside and moves it to its place whole: who is killed meanwhile leaves nothing half made, and of two
/// that make it at once one wins.
fn make(state: &Path, git_dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(state)?;
    let aside = tempfile::Builder::new().prefix("store.").tempdir_in(state)?;
    let made = aside.path().join("store.git");
    let mut options = RepositoryInitOptions::new();
    options.bare(true).external_template(false).mkpath(true).no_reinit(true);
    Repository::init_opts(&made, &options).map_err(std::io::Error::other)?;
    std::fs::create_dir_all(made.join("objects/info"))?;
    // What a store that was killed half made had left gives way; a whole one stays.
    match std::fs::rename(&made, git_dir) {
        // Another process made it first.
        Err(_) if git_dir.join("HEAD").exists() => Ok(()),
        Err(_) => {
            std::fs::rename(git_dir, aside.path().join("half-made"))?;
            std::fs::rename(&made, git_dir)
        }
        Ok(()) => Ok(()),
    }
}

/// Replaces a file whole: nobody reads half of it.
fn replace(file: &Path, content: &[u8]) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut aside = tempfile::NamedTempFile::new_in(folder)?;
    aside.write_all(content)?;
    aside.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    aside.persist(file).map_err(|error| error.error)?;
    Ok(())
}

/// The environment's fault.
pub(super) fn broken(doing: impl Into<String>, why: impl Display) -> RepositoryError {
    RepositoryError::Broken { doing: doing.into(), message: why.to_string() }
}

/// A path's bytes for messages.
pub(super) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
