//! When to try again, and after how long.

use std::time::Duration;

/// Bounds of retrying.
#[derive(Debug, Clone, Copy)]
pub(in crate::adapter) struct Backoff {
    /// The first wait is at most this long; each further one at most twice the one before.
    pub(in crate::adapter) base: Duration,
    /// No wait of our own is longer.
    pub(in crate::adapter) cap: Duration,
}

impl Backoff {
    /// How long to wait after failure number `failed` (from 1): evenly spread from nothing to the bound ("full
    /// jitter"), so that agents that failed together do not come back together.
    pub(in crate::adapter) fn wait(&self, failed: u32, random: u64) -> Duration {
        let doubled = self.base.saturating_mul(1u32.checked_shl(failed.saturating_sub(1).min(31)).unwrap_or(u32::MAX));
        share(doubled.min(self.cap), random)
    }
}

/// What is added to a wait that the server asked for: up to a tenth of it, at most a second.
pub(in crate::adapter) fn spread(wait: Duration, random: u64) -> Duration {
    share((wait / 10).min(Duration::from_secs(1)), random)
}

fn share(bound: Duration, random: u64) -> Duration {
    let bound_ms = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(random % bound_ms.saturating_add(1))
}

/// Reads `Retry-After`: seconds (fractions are rounded up) or an HTTP date. A date in the past is no wait.
pub(in crate::adapter) fn retry_after(value: &str, now_ms: i64) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return (seconds.is_finite() && seconds >= 0.0)
            .then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(Duration::from_millis(u64::try_from(at.as_millisecond().saturating_sub(now_ms)).unwrap_or(0)))
}

/// Whether a status may pass by itself.
pub(super) fn passes(status: u16) -> bool {
    matches!(status, 408 | 409 | 425 | 429 | 500 | 502 | 503 | 504 | 529)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_are_spread() {
        let backoff = Backoff { base: Duration::from_millis(500), cap: Duration::from_secs(20) };
        let most = |failed| (0..20_001).map(|random| backoff.wait(failed, random)).max().unwrap();
        assert_eq!(
            [1, 2, 3, 6, 7, 99].map(most).map(|wait| wait.as_millis()),
            [500, 1000, 2000, 16_000, 20_000, 20_000]
        );
        assert_eq!(backoff.wait(3, 0), Duration::ZERO);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now_ms = 784_111_777_000; // Sun, 06 Nov 1994 08:49:37 GMT
        let ms = |value| retry_after(value, now_ms).map(|wait| wait.as_millis());
        assert_eq!(ms("7"), Some(7000));
        assert_eq!(ms(" 1.5 "), Some(1500));
        assert_eq!(ms("Sun, 06 Nov 1994 08:49:47 GMT"), Some(10_000));
        assert_eq!(ms("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        for nonsense in ["", "soon", "-1", "NaN", "inf"] {
            assert_eq!(ms(nonsense), None, "{nonsense}");
        }
        assert!(ms("1e300").is_some());
    }
}
