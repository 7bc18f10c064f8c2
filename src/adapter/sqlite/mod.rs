//! The journal in a SQLite file: write-ahead log, every commit synced to disk, one writer and a few readers per
//! process, any number of processes on one machine.
//!
//! Writes go through one connection under `BEGIN IMMEDIATE`, and those that need not be on the disk at once through a
//! second one. A connection is taken out of its place for the time of a transaction and put back only after a clean end: a transaction that was cut (an error, a
//! dropped future) takes its connection with it, and SQLite rolls it back on closing.

mod allowance;
mod owner;
mod store;

pub use owner::owner;
pub(in crate::adapter) use owner::{Life, Owner};

use crate::port::clock::Clock;
use crate::port::store::{Store, StoreError};
use futures::future::BoxFuture;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The schema's versions, up and down.
pub static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// How long a writer waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

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
    open_file(state_dir.to_path_buf(), clock)
}

async fn open_file(state_dir: PathBuf, clock: Arc<dyn Clock>) -> Result<Arc<dyn Store>, StoreError> {
    let path = state_dir.join("journal.db");
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .disable_statement_logging();
    let fault = |error: &sqlx::Error| database(&path, error);

    let mut writer = None;
    if path.exists() {
        let mut connection = options.connect().await.map_err(|error| fault(&error))?;
        if is_current(&mut connection, &path).await? {
            writer = Some(connection);
        } else {
            connection.close().await.map_err(|error| fault(&error))?;
        }
    }
    if writer.is_none() {
        prepare(&path, &options).await?;
        writer = Some(options.connect().await.map_err(|error| fault(&error))?);
    }
    let readers = SqlitePoolOptions::new()
        .max_connections(READERS)
        .test_before_acquire(false)
        .connect_lazy_with(options.clone().pragma("query_only", "ON"));
    let soon = store::Writer::new(options.clone().synchronous(SqliteSynchronous::Normal), None);
    let now = store::Writer::new(options, writer);
    Ok(Arc::new(store::SqliteStore::new(path, (now, soon), readers, clock)))
}

/// Whether the file has exactly this version's schema, and the write-ahead log.
async fn is_current(connection: &mut SqliteConnection, path: &Path) -> Result<bool, StoreError> {
    let fault = |error: sqlx::Error| database(path, &error);
    let (mode,): (String,) = sqlx::query_as("PRAGMA journal_mode").fetch_one(&mut *connection).await.map_err(fault)?;
    let (tables,): (i64,) =
        sqlx::query_as("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations'")
            .fetch_one(&mut *connection)
            .await
            .map_err(fault)?;
    if tables == 0 {
        return Ok(false);
    }
    let (newest,): (Option<i64>,) = sqlx::query_as("SELECT max(version) FROM _sqlx_migrations WHERE success")
        .fetch_one(&mut *connection)
        .await
        .map_err(fault)?;
    let ours = MIGRATIONS.iter().map(|migration| migration.version).max();
    if newest > ours {
        return Err(StoreError::Database {
            path: path.display().to_string(),
            message: format!(
                "it was written by a newer version of codeforge (schema {}, this one knows up to {}); use that \
                 version, or a newer one",
                newest.unwrap_or(0),
                ours.unwrap_or(0)
            ),
        });
    }
    Ok(newest == ours && mode.eq_ignore_ascii_case("wal"))
}

/// Makes the folder, the file and the schema. Processes that start at the same time do it one after the other: a
/// switch to the write-ahead log does not wait for its rivals, and the migrations take no lock of their own.
async fn prepare(path: &Path, options: &SqliteConnectOptions) -> Result<(), StoreError> {
    let lock_path = path.with_extension("lock");
    let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let lock = tokio::task::spawn_blocking(move || -> std::io::Result<std::fs::File> {
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path)?;
        file.lock()?;
        Ok(file)
    })
    .await
    .map_err(std::io::Error::other)
    .and_then(|locked| locked)
    .map_err(|error| StoreError::Database {
        path: path.display().to_string(),
        message: format!("cannot be made: {error}; check that the folder can be written to"),
    })?;

    let options = options.clone().create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
    let connection = options.connect().await.map_err(|error| database(path, &error))?;
    let migrated = migrate(connection).await;
    drop(lock);
    migrated.map_err(|error| StoreError::Database {
        path: path.display().to_string(),
        message: format!("its schema cannot be brought up to date: {error}"),
    })
}

/// Brings the schema up to date. Boxed: the compiler cannot see on its own that a migrator's future may change threads.
fn migrate(mut connection: SqliteConnection) -> BoxFuture<'static, Result<(), MigrateError>> {
    Box::pin(async move {
        MIGRATIONS.run_direct(None, &mut connection, false).await?;
        Ok(connection.close().await?)
    })
}

/// A database error in words that say what to do.
fn database(path: &Path, error: &sqlx::Error) -> StoreError {
    let code = error
        .as_database_error()
        .and_then(|error| error.code())
        .and_then(|code| code.parse::<u32>().ok())
        .map(|code| code & 0xff);
    let advice = match code {
        Some(5 | 6) => "; another process has kept it locked for too long: end that process, then try again",
        Some(8) => "; it can only be read: check the permissions of the file and its folder",
        Some(10) => "; nothing of this step was written: check the disk's space and health, then `codeforge resume`",
        Some(11 | 26) => "; the file is damaged: move it away (a new one is made) or bring back a copy",
        Some(13) => "; nothing of this step was written: free some space on the disk, then `codeforge resume`",
        Some(14) => "; check that the folder exists and can be written to",
        _ => "",
    };
    StoreError::Database { path: PathBuf::from(path).display().to_string(), message: format!("{error}{advice}") }
}
