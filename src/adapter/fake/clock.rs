//! A clock that moves only when it is told to, or when someone waits.

use crate::port::clock::Clock;
use async_trait::async_trait;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A clock in the hand: sleeping takes no time, moves the clock, and is remembered.
#[derive(Debug, Default)]
pub struct FakeClock {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    now_ms: i64,
    slept: Vec<Duration>,
}

impl FakeClock {
    /// A clock that shows `now_ms` (milliseconds since 1970, UTC).
    pub fn at(now_ms: i64) -> Self {
        Self { state: Mutex::new(State { now_ms, slept: Vec::new() }) }
    }

    /// Moves the clock.
    pub fn advance(&self, time: Duration) {
        let mut state = self.state();
        state.now_ms = moved(state.now_ms, time);
    }

    /// Every sleep so far, in order.
    pub fn slept(&self) -> Vec<Duration> {
        self.state().slept.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn moved(now_ms: i64, time: Duration) -> i64 {
    now_ms.saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

#[async_trait]
impl Clock for FakeClock {
    fn now_ms(&self) -> i64 {
        self.state().now_ms
    }

    async fn sleep(&self, time: Duration) {
        {
            let mut state = self.state();
            state.now_ms = moved(state.now_ms, time);
            state.slept.push(time);
        }
        // A loop that polls must still let others run.
        tokio::task::yield_now().await;
    }
}
