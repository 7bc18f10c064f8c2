//! Where a server keeps what: one folder for each repository and one for each job, in its state folder.

use super::id::short_hash;
use super::job::Served;
use std::path::{Path, PathBuf};

/// A folder's name for a repository: readable, and no other repository's.
fn name(repository: &Served) -> String {
    let whole = format!("{:?}\n{}\n{}", repository.forge, repository.host, repository.name.to_lowercase());
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let readable: String = repository.name.chars().take(40).map(plain).collect();
    format!("{readable}-{}", short_hash(whole.as_bytes(), 10))
}

/// The cached clone of a repository, which checkouts borrow their objects from.
pub fn clone(state: &Path, repository: &Served) -> PathBuf {
    state.join("repositories").join(name(repository)).join("clone")
}

/// The folder of the journal of a repository's runs: budgets that runs share hold within it.
pub fn journal(state: &Path, repository: &Served) -> PathBuf {
    state.join("repositories").join(name(repository)).join("journal")
}

/// A job's folder.
pub fn job(state: &Path, id: &str) -> PathBuf {
    state.join("jobs").join(id)
}

/// A file beside a job's fence: whoever says at the forge how the job stands holds its lock. It holds the attempt whose run
/// said so itself.
pub const VOICE: &str = "voice";

/// A file beside a job's fence: the steps that its run is at, in a line.
pub const STEP: &str = "step";
