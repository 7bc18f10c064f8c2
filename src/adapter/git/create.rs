//! A new repository, for the demo.

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
