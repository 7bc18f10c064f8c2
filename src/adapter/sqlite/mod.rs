//! The journal in a SQLite file: write-ahead log, every commit synced to disk, one writer and a few readers per
//! process, any number of processes on one machine.
//!
//! Writes go through one connection under `BEGIN IMMEDIATE`, and those that need not be on the disk at once through a
//! second one. A connection is taken out of its place for the time of a transaction and put back only after a clean end: a transaction that was cut (an error, a
//! dropped future) takes its connection with it, and SQLite rolls it back on closing.

mod allowance;
mod file;
mod owner;
mod store;

pub(super) use file::{File, Writer};
pub use owner::owner;
pub(in crate::adapter) use owner::{Life, Owner};

use crate::port::clock::Clock;
use crate::port::store::{Store, StoreError};
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteSynchronous;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The schema's versions, up and down.
pub static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// Connections that read, at most, per process.
const READERS: u32 = 4;

/// Opens the journal's database `journal.db` in `state_dir`; makes the folder (readable by its owner only), the file
/// and the schema where they are missing, and brings an older schema up to date.
///
/// `clock` tells how long a run on another machine has been silent.
///
/// # Errors
/// [`StoreError::Database`] where the file cannot be opened or made, is not a database, or was written by a newer
/// version.
pub fn open(
    state_dir: &Path,
    clock: Arc<dyn Clock>,
) -> impl Future<Output = Result<Arc<dyn Store>, StoreError>> + Send + 'static {
    open_file(state_dir.join("journal.db"), clock)
}

async fn open_file(path: PathBuf, clock: Arc<dyn Clock>) -> Result<Arc<dyn Store>, StoreError> {
    let file = File::new(path, &MIGRATIONS, "`codeforge resume`");
    let now = Writer::new(file.clone(), Some(file.open().await?));
    let mut unhurried = file.clone();
    unhurried.options = unhurried.options.synchronous(SqliteSynchronous::Normal);
    let soon = Writer::new(unhurried, None);
    Ok(Arc::new(store::SqliteStore::new(file, (now, soon), clock)))
}
