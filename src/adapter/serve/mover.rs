//! Moves what is in the write-ahead log into the database's file, beside the writer: SQLite's own way is to do it in the
//! commit that finds the log long, and whoever waits for that commit waits for all of it.
//!
//! The log begins anew only where all of it was moved, and a writer that never rests always has something new in it. So
//! most is moved from a connection beside the writer's, in rounds that grow shorter, and the little that is left between
//! two commits.

use super::Writer;
use crate::adapter::sqlite::File;
use sqlx::{ConnectOptions, SqliteConnection};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Notify;

/// Pages of 4 KiB after which the log is moved, beside the writer: 2 MiB. Moved seldom it is moved cheaper, and whoever
/// syncs the log meanwhile waits for more of it: at 32 MiB one webhook in a hundred waited four times as long.
const EACH: u64 = 500;
/// Pages after which it is to begin anew: 400 MiB. A log that is left alone for a moment begins anew by itself; where it is
/// written all the time, each time keeps the writer waiting for some ten milliseconds.
const MANY: u64 = 100_000;
/// So few pages are moved between two commits.
const FEW: u64 = 400;
/// How many rounds are made before that; one that is slower than the writer is stopped after these.
const ROUNDS: usize = 6;

/// Pages after which a writer moves them itself, where nobody has done it: this connection's setting.
pub(super) const AT_LAST: &str = "192000";

/// What the writer and the task beside it share.
#[derive(Default)]
struct State {
    /// Pages written since the log began anew, about.
    pages: AtomicU64,
    /// How many of them are being moved, or were.
    moved: AtomicU64,
    /// The task beside the writer is at work.
    busy: AtomicBool,
    /// Little is left for the writer.
    nearly: AtomicBool,
    wake: Notify,
}

/// The writer's side.
pub(super) struct Mover {
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

impl Mover {
    /// Starts the task; it ends when this is dropped.
    pub(super) fn start(file: File) -> Self {
        let state = Arc::new(State::default());
        let task = tokio::spawn(beside(file, Arc::clone(&state)));
        Self { state, task }
    }

    /// Says that a commit has written so many pages, about; moves what is left where that is little.
    pub(super) async fn written(&self, writer: &Writer, pages: u64) {
        let state = &self.state;
        let all = state.pages.fetch_add(pages, Ordering::Relaxed) + pages;
        if state.nearly.swap(false, Ordering::Acquire) {
            // What fails here fails again, and is said, with the next commit.
            let _ = writer.whole(async |connection| moved(connection).await).await;
            state.pages.store(0, Ordering::Relaxed);
            state.moved.store(0, Ordering::Relaxed);
            state.busy.store(false, Ordering::Release);
        } else if all.saturating_sub(state.moved.load(Ordering::Relaxed)) >= EACH
            && !state.busy.swap(true, Ordering::AcqRel)
        {
            state.wake.notify_one();
        }
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The task beside the writer.
async fn beside(file: File, state: Arc<State>) {
    let mut connection = None;
    loop {
        state.wake.notified().await;
        if connection.is_none() {
            connection = file.options.connect().await.ok();
        }
        let done = match connection.as_mut() {
            Some(open) => rounds(open, &state).await.ok(),
            None => None,
        };
        match done {
            Some(true) => state.nearly.store(true, Ordering::Release),
            Some(false) => state.busy.store(false, Ordering::Release),
            // It is tried again when as much was written once more.
            None => {
                connection = None;
                state.busy.store(false, Ordering::Release);
            }
        }
    }
}

/// Moves what is there; whether the log is to begin anew, and little is left for that.
async fn rounds(connection: &mut SqliteConnection, state: &State) -> Result<bool, sqlx::Error> {
    for _ in 0..ROUNDS {
        let before = state.pages.load(Ordering::Relaxed);
        state.moved.store(before, Ordering::Relaxed);
        moved(connection).await?;
        if before < MANY {
            return Ok(false);
        }
        // What was written meanwhile is left.
        if state.pages.load(Ordering::Relaxed).saturating_sub(before) <= FEW {
            break;
        }
    }
    Ok(true)
}

/// Moves what no reader is in the way of.
async fn moved(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(connection).await.map(|_| ())
}
