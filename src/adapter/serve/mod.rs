//! What `codeforge serve` keeps, in a SQLite file of its own, `serve.db`: deliveries and jobs.
//!
//! One writer: whatever writes waits its turn for one connection, so that nothing here ever meets a lock of its own
//! process. Deliveries that come in at the same time share a commit. Other processes (`codeforge queue`) may open the
//! same file.

mod answers;
mod inbox;
mod jobs;
mod mover;
mod rows;
pub mod runner;
mod voice;

use super::sqlite::{File, Writer};
use crate::port::inbox::InboxError;
use sqlx::SqlitePool;
use sqlx::migrate::Migrator;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The schema's versions, up and down.
pub static MIGRATIONS: Migrator = sqlx::migrate!("migrations/serve");

/// Connections that read, at most, per process.
const READERS: u32 = 4;

/// The database: an [`Inbox`](crate::port::inbox::Inbox), and the queue beside it.
pub struct Database {
    file: File,
    writer: Arc<Writer>,
    readers: SqlitePool,
    incoming: inbox::Incoming,
    /// The server's state folder.
    folder: PathBuf,
}

/// Opens `serve.db` in the server's state folder; makes the folder (readable by its owner only), the file and the schema
/// where they are missing, and brings an older schema up to date. Called inside a runtime: a task takes deliveries in
/// for as long as the database is held by anybody.
///
/// # Errors
/// [`InboxError`] where the file cannot be opened or made, is not a database, or was written by a newer version.
pub async fn open(state_dir: &Path) -> Result<Arc<Database>, InboxError> {
    let mut file = File::new(state_dir.join("serve.db"), &MIGRATIONS, "the server goes on by itself");
    file.options = file.options.pragma("wal_autocheckpoint", mover::AT_LAST);
    let writer = Arc::new(Writer::new(file.clone(), Some(file.open().await?)));
    let incoming = inbox::Incoming::start(Arc::clone(&writer), mover::Mover::start(file.clone()));
    let folder = state_dir.to_path_buf();
    // What is read is read once: a small cache each, 512 KiB.
    let mut reading = file.clone();
    reading.options = reading.options.pragma("cache_size", "-512");
    let readers = reading.readers(READERS);
    Ok(Arc::new(Database { readers, file, writer, incoming, folder }))
}

/// How many bytes are free on a folder's disk, for whoever is not root.
///
/// # Errors
/// The system does not say, and why.
pub fn free_space(folder: &Path) -> Result<u64, String> {
    let disk = rustix::fs::statvfs(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

impl Database {
    fn fault(&self, error: &sqlx::Error) -> InboxError {
        self.file.fault(error).into()
    }
}
