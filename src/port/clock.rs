//! Time.

use async_trait::async_trait;
use std::time::Duration;

/// A clock that tests can hold in their hands.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970, UTC.
    fn now_ms(&self) -> i64;
    /// Waits.
    async fn sleep(&self, time: Duration);
}
