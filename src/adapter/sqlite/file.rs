//! A database file: opened, made, brought up to date; its writers; its failures in words.

use crate::port::inbox::InboxError;
use crate::port::store::StoreError;
use futures::future::BoxFuture;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection, SqlitePool};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::Mutex;

/// How long a writer waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// A database's file.
#[derive(Clone)]
pub(in crate::adapter) struct File {
    path: PathBuf,
    /// How connections to it are made: write-ahead log, every commit synced to disk.
    pub(in crate::adapter) options: SqliteConnectOptions,
    schema: &'static Migrator,
    /// What to do once the disk is well again.
    again: &'static str,
}

/// The database failed.
#[derive(Debug)]
pub(in crate::adapter) struct Fault {
    path: String,
    message: String,
}

impl From<Fault> for StoreError {
    fn from(Fault { path, message }: Fault) -> Self {
        Self::Database { path, message }
    }
}

impl From<Fault> for InboxError {
    fn from(Fault { path, message }: Fault) -> Self {
        Self { path, message }
    }
}

impl File {
    /// The file at `path`, with this schema.
    pub(in crate::adapter) fn new(path: PathBuf, schema: &'static Migrator, again: &'static str) -> Self {
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            .disable_statement_logging();
        Self { path, options, schema, again }
    }

    /// A connection to it; makes the folder (readable by its owner only), the file and the schema where they are
    /// missing, and brings an older schema up to date.
    pub(in crate::adapter) async fn open(&self) -> Result<SqliteConnection, Fault> {
        if self.path.exists() {
            let mut connection = self.options.connect().await.map_err(|error| self.fault(&error))?;
            if self.is_current(&mut connection).await? {
                return Ok(connection);
            }
            connection.close().await.map_err(|error| self.fault(&error))?;
        }
        self.prepare().await?;
        self.options.connect().await.map_err(|error| self.fault(&error))
    }

    /// Connections that read, at most so many.
    pub(in crate::adapter) fn readers(&self, most: u32) -> SqlitePool {
        SqlitePoolOptions::new()
            .max_connections(most)
            .test_before_acquire(false)
            .connect_lazy_with(self.options.clone().pragma("query_only", "ON"))
    }

    /// Whether the file has exactly this version's schema, and the write-ahead log.
    async fn is_current(&self, connection: &mut SqliteConnection) -> Result<bool, Fault> {
        let fault = |error: sqlx::Error| self.fault(&error);
        let (mode,): (String,) =
            sqlx::query_as("PRAGMA journal_mode").fetch_one(&mut *connection).await.map_err(fault)?;
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
        let ours = self.schema.iter().map(|migration| migration.version).max();
        if newest > ours {
            return Err(self.says(format!(
                "it was written by a newer version of codeforge (schema {}, this one knows up to {}); use that \
                 version, or a newer one",
                newest.unwrap_or(0),
                ours.unwrap_or(0)
            )));
        }
        Ok(newest == ours && mode.eq_ignore_ascii_case("wal"))
    }

    /// Makes the folder, the file and the schema. Processes that start at the same time do it one after the other: a
    /// switch to the write-ahead log does not wait for its rivals, and the migrations take no lock of their own.
    async fn prepare(&self) -> Result<(), Fault> {
        let lock_path = self.path.with_extension("lock");
        let folder = self.path.parent().map(Path::to_path_buf).unwrap_or_default();
        let lock = tokio::task::spawn_blocking(move || -> std::io::Result<std::fs::File> {
            DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
            let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path)?;
            file.lock()?;
            Ok(file)
        })
        .await
        .map_err(std::io::Error::other)
        .and_then(|locked| locked)
        .map_err(|error| self.says(format!("cannot be made: {error}; check that the folder can be written to")))?;

        let options = self.options.clone().create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
        let connection = options.connect().await.map_err(|error| self.fault(&error))?;
        let migrated = migrate(self.schema, connection).await;
        drop(lock);
        migrated.map_err(|error| self.says(format!("its schema cannot be brought up to date: {error}")))
    }

    /// Its path, for people.
    pub(in crate::adapter) fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn says(&self, message: String) -> Fault {
        Fault { path: self.name(), message }
    }

    /// A database error in words that say what to do.
    pub(in crate::adapter) fn fault(&self, error: &sqlx::Error) -> Fault {
        let code = error
            .as_database_error()
            .and_then(|error| error.code())
            .and_then(|code| code.parse::<u32>().ok())
            .map(|code| code & 0xff);
        let again = self.again;
        let advice = match code {
            Some(5 | 6) => "; another process has kept it locked for too long: end that process, then try again".into(),
            Some(8) => "; it can only be read: check the permissions of the file and its folder".into(),
            Some(10) => format!("; nothing of this step was written: check the disk's space and health, then {again}"),
            Some(11 | 26) => "; the file is damaged: move it away (a new one is made) or bring back a copy".to_owned(),
            Some(13) => format!("; nothing of this step was written: free some space on the disk, then {again}"),
            Some(14) => "; check that the folder exists and can be written to".into(),
            _ => String::new(),
        };
        self.says(format!("{error}{advice}"))
    }
}

/// Brings the schema up to date. Boxed: the compiler cannot see on its own that a migrator's future may change threads.
fn migrate(
    schema: &'static Migrator,
    mut connection: SqliteConnection,
) -> BoxFuture<'static, Result<(), MigrateError>> {
    Box::pin(async move {
        schema.run_direct(None, &mut connection, false).await?;
        Ok(connection.close().await?)
    })
}

/// A connection that writes, one transaction after the other. Who waits for it gets it in the order of asking.
pub(in crate::adapter) struct Writer {
    file: File,
    /// Out of its place while a transaction is open; none before the first one, and after one that was cut.
    place: Mutex<Option<SqliteConnection>>,
}

impl Writer {
    /// A writer of this file; `open`: its connection, where there is one already.
    pub(in crate::adapter) fn new(file: File, open: Option<SqliteConnection>) -> Self {
        Self { file, place: Mutex::new(open) }
    }

    /// Carries out `work`, which begins and ends a transaction itself. One that fails, or is dropped half-way, takes
    /// its connection with it, and with that the transaction.
    pub(in crate::adapter) async fn whole<T: Send>(
        &self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Fault> {
        let mut place = self.place.lock().await;
        let mut connection = match place.take() {
            Some(connection) => connection,
            None => self.file.options.connect().await.map_err(|error| self.file.fault(&error))?,
        };
        match work(&mut connection).await {
            Ok(done) => {
                *place = Some(connection);
                Ok(done)
            }
            Err(error) => Err(self.file.fault(&error)),
        }
    }

    /// Carries out `work` in one transaction: all of it is durable, or nothing of it is there. What `work` itself finds
    /// wrong (the inner error) rolls back too.
    pub(in crate::adapter) async fn transaction<T: Send, E: Send + From<Fault>>(
        &self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<Result<T, E>, sqlx::Error>,
    ) -> Result<T, E> {
        let done = self.whole(async |connection| {
            sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
            let done = work(&mut *connection).await?;
            let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
            sqlx::query(end).execute(&mut *connection).await?;
            Ok(done)
        });
        done.await?
    }
}
