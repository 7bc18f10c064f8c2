//! A new repository: for the demo, and one that borrows the objects of another.

use super::store::broken;
use crate::port::repository::{Repository, RepositoryError};
use git2::{IndexAddOption, RepositoryInitOptions, Signature};
use std::path::Path;
use std::sync::Arc;

/// Makes a folder a repository on branch `main`, with all its files in one commit, and opens it.
///
/// # Errors
/// [`RepositoryError::Broken`].
pub fn create(at: &Path) -> Result<Arc<dyn Repository>, RepositoryError> {
    super::sys::prepare_libgit2();
    let made = || -> Result<(), git2::Error> {
        let mut options = RepositoryInitOptions::new();
        options.initial_head("main").external_template(false).no_reinit(true);
        let repository = git2::Repository::init_opts(at, &options)?;
        let mut index = repository.index()?;
        index.add_all(["*"], IndexAddOption::DEFAULT, None)?;
        index.write()?;
        let tree = repository.find_tree(index.write_tree()?)?;
        let who = Signature::now("CodeForge demo", "demo@localhost")?;
        repository.commit(Some("HEAD"), &who, &who, "A small ledger\n", &tree, &[])?;
        Ok(())
    };
    made().map_err(|error| broken(format!("making a repository of {}", at.display()), error))?;
    super::open(at)
}

/// Makes a repository in an empty folder that reads its objects from another one too (`from`: that one's top folder);
/// `None`: an empty one that others borrow from. It has no files, no remote, and no hook. One that is there already is
/// left as it is.
///
/// # Errors
/// [`RepositoryError::Broken`].
pub fn beside(at: &Path, from: Option<&Path>) -> Result<(), RepositoryError> {
    super::sys::prepare_libgit2();
    if at.join(".git/HEAD").exists() {
        return Ok(());
    }
    let failed = |error: String| broken(format!("making a repository in {}", at.display()), error);
    let mut options = RepositoryInitOptions::new();
    options.initial_head("none").external_template(false).mkpath(true);
    git2::Repository::init_opts(at, &options).map_err(|error| failed(error.to_string()))?;
    if let Some(from) = from {
        let objects = from.join(".git/objects");
        let info = at.join(".git/objects/info");
        let lent = format!("{}\n", objects.display());
        std::fs::create_dir_all(&info)
            .and_then(|()| std::fs::write(info.join("alternates"), lent))
            .map_err(|error| failed(error.to_string()))?;
    }
    Ok(())
}
