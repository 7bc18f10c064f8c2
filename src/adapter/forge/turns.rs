//! Processes that write to one repository take turns: a server and its jobs, each a process of its own, are one writer
//! to the forge.
//!
//! A file holds when the next write may begin. It is locked for as long as it takes to read and write a number, never
//! while somebody waits or writes: a process that is killed or stopped in between keeps nobody out. Who cannot use the
//! file goes without: turns are a courtesy to the forge, and what it says about limits is honoured all the same.

use crate::port::clock::Clock;
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often is asked for the place of who opens a change, and for how long: pushing a large pack takes its time.
const OPENING_EACH: Duration = Duration::from_millis(100);
const OPENING: u32 = 9000;
/// A time further ahead than this was written by a clock that was wrong.
const FARTHEST_MS: i64 = 600_000;
/// How often a lock that somebody holds is asked for, and how long is waited in between.
const ASKED: u32 = 50;
const BETWEEN: Duration = Duration::from_millis(10);

/// The turns of one repository's writers.
#[derive(Debug, Clone)]
pub(super) struct Turns {
    file: PathBuf,
    between_ms: i64,
}

impl Turns {
    pub(super) fn new(file: &Path, between_ms: i64) -> Self {
        Self { file: file.to_owned(), between_ms }
    }

    /// Waits until it is this process's turn.
    pub(super) async fn wait(&self, clock: &dyn Clock) {
        loop {
            let now = clock.now_ms();
            let wait = self.with(move |next, between| match next.filter(|next| *next - now <= FARTHEST_MS) {
                Some(next) if next > now => (None, next - now),
                _ => (Some(now.saturating_add(between)), 0),
            });
            match wait.await {
                Some(wait) if wait > 0 => clock.sleep(Duration::from_millis(wait.unsigned_abs())).await,
                _ => return,
            }
        }
    }

    /// The write that this process made ended now.
    pub(super) async fn ended(&self, now_ms: i64) {
        self.with(move |next, between| {
            let mine = now_ms.saturating_add(between);
            (next.is_none_or(|next| next < mine).then_some(mine), 0)
        })
        .await;
    }

    /// Who opens a change holds this file.
    pub(super) fn opening(&self) -> PathBuf {
        self.file.with_extension("opening")
    }

    /// Waits until nobody else opens a change, and keeps others from it as long as the file is open. The system takes the
    /// lock back from whoever dies.
    pub(super) async fn alone(&self, clock: &dyn Clock) -> std::io::Result<File> {
        let file = opened(&self.opening())?;
        for _ in 0..OPENING {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::WOULDBLOCK) => clock.sleep(OPENING_EACH).await,
                Err(error) => return Err(error.into()),
            }
        }
        Err(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            "another process has been opening a change for a quarter of an hour",
        ))
    }

    /// Changes the number under the lock; gives what `change` gives beside it, or nothing where the file cannot be used.
    async fn with(&self, change: impl FnOnce(Option<i64>, i64) -> (Option<i64>, i64) + Send + 'static) -> Option<i64> {
        let (path, between) = (self.file.clone(), self.between_ms);
        let done = tokio::task::spawn_blocking(move || {
            let mut file = locked(&path).ok()?;
            let mut text = String::new();
            file.read_to_string(&mut text).ok()?;
            let (next, told) = change(text.trim().parse().ok(), between);
            if let Some(next) = next {
                file.rewind().ok()?;
                file.set_len(0).ok()?;
                file.write_all(next.to_string().as_bytes()).ok()?;
            }
            Some(told)
        });
        done.await.ok().flatten()
    }
}

fn opened(path: &Path) -> std::io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn locked(path: &Path) -> std::io::Result<File> {
    let file = opened(path)?;
    for _ in 0..ASKED {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(BETWEEN),
            Err(error) => return Err(error.into()),
        }
    }
    Err(std::io::ErrorKind::TimedOut.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::fake::FakeClock;

    /// A clock that looks what the file says while somebody waits.
    struct Looking<'a>(&'a FakeClock, &'a Path);

    #[async_trait::async_trait]
    impl Clock for Looking<'_> {
        fn now_ms(&self) -> i64 {
            self.0.now_ms()
        }

        async fn sleep(&self, time: Duration) {
            let next: i64 = std::fs::read_to_string(self.1).unwrap().parse().unwrap();
            assert_eq!(next, self.now_ms() + i64::try_from(time.as_millis()).unwrap(), "who waits takes nobody's turn");
            self.0.sleep(time).await;
        }
    }

    #[tokio::test]
    async fn turns_are_a_second_apart_whoever_asks_and_a_wrong_clock_blocks_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/turn");
        let (one, other) = (Turns::new(&path, 1000), Turns::new(&path, 1000));
        let clock = FakeClock::at(1_000_000);
        one.wait(&clock).await;
        assert_eq!(clock.now_ms(), 1_000_000, "nobody was there before");
        clock.advance(Duration::from_millis(300));
        one.ended(clock.now_ms()).await;
        other.wait(&clock).await;
        assert_eq!(clock.now_ms(), 1_001_300, "a second after the other one's end");
        // Who ended long ago, and says so late, takes no turn back.
        one.ended(1_000_000).await;
        one.wait(&Looking(&clock, &path)).await;
        assert_eq!(clock.now_ms(), 1_002_300, "a second after the last write began");
        for wrong in ["9999999999999", "nonsense", ""] {
            std::fs::write(&path, wrong).unwrap();
            one.wait(&clock).await;
            assert_eq!(clock.now_ms(), 1_002_300, "{wrong:?}");
        }
        // A file that cannot be used keeps nobody from writing.
        Turns::new(Path::new("/proc/no/turn"), 1000).wait(&clock).await;
        // Somebody was stopped with the lock in hand.
        let held = locked(&path).unwrap();
        one.wait(&clock).await;
        drop(held);
        assert_eq!(clock.now_ms(), 1_002_300);
    }
}
