//! Places for large bodies: few are read at once, so that they do not fill the memory.
//!
//! Nobody knows whose a body is before all of it is here. Whoever sends one slowly gives way to whoever waits, and one
//! source has no more than its share.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How many large bodies are read at once.
const AT_ONCE: usize = 8;
/// How many of them may come from one source.
const OF_ONE: usize = 4;
/// A place is kept for this long, also where somebody waits for one.
const KEPT: Duration = Duration::from_secs(1);

/// The places.
#[derive(Default)]
pub(super) struct Large {
    taken: Mutex<Vec<Taken>>,
    /// Numbers for those that take one.
    next: AtomicU64,
    left: Notify,
}

struct Taken {
    number: u64,
    source: Option<IpAddr>,
    since: Instant,
    gives_way: CancellationToken,
}

/// A place; it is left when this is dropped.
pub(super) struct Room<'l> {
    large: &'l Large,
    number: u64,
    /// Somebody else is to have it.
    pub(super) gives_way: CancellationToken,
}

impl Large {
    /// Waits for a place.
    pub(super) async fn room(&self, source: Option<IpAddr>) -> Room<'_> {
        loop {
            // Who leaves from here on is noticed.
            let left = self.left.notified();
            match self.take(source, Instant::now()) {
                Ok(room) => return room,
                Err(wait) => {
                    let _ = tokio::time::timeout(wait, left).await;
                }
            }
        }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// There is none: when it is worth asking again.
    fn take(&self, source: Option<IpAddr>, now: Instant) -> Result<Room<'_>, Duration> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let share = taken.iter().filter(|it| it.source == source).count() >= OF_ONE;
        if taken.len() < AT_ONCE && !share {
            let (number, gives_way) = (self.next.fetch_add(1, Ordering::Relaxed), CancellationToken::new());
            taken.push(Taken { number, source, since: now, gives_way: gives_way.clone() });
            return Ok(Room { large: self, number, gives_way });
        }
        // Whoever has been at it longest, of the same source where that has its share.
        let stays = taken.iter().filter(|it| !share || it.source == source).filter(|it| !it.gives_way.is_cancelled());
        let Some(longest) = stays.min_by_key(|it| it.since) else { return Err(KEPT) };
        let rest = KEPT.saturating_sub(now.saturating_duration_since(longest.since));
        if rest.is_zero() {
            longest.gives_way.cancel();
            return Err(KEPT);
        }
        Err(rest)
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.large.taken.lock().unwrap_or_else(PoisonError::into_inner).retain(|it| it.number != self.number);
        self.large.left.notify_waiters();
    }
}
