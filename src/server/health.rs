//! What works and what does not, part by part.
//!
//! Ready is a server that can take webhooks in: its database and its disk. That a forge is away or all workers are busy is
//! shown beside it; to turn webhooks away because of that would lose them.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Parts without which no webhook can be taken in.
const NEEDED: [&str; 2] = ["database", "disk"];

/// Workers that are silent for longer than this do not work, in milliseconds.
const SILENT_MS: i64 = 60_000;

/// A part's state, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Whether it works.
    pub good: bool,
    /// In a few words, without anything from outside.
    pub words: String,
}

/// The parts.
#[derive(Default)]
pub struct Health {
    parts: Mutex<BTreeMap<&'static str, Part>>,
    /// When a worker last asked for a job or renewed one, in milliseconds since 1970; 0: none has.
    beat_ms: AtomicI64,
}

impl Health {
    /// A part works, or does not. True: that is other than before.
    pub fn report(&self, part: &'static str, good: bool, words: impl Into<String>) -> bool {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let before = parts.insert(part, Part { good, words: words.into() });
        before.is_none_or(|before| before.good != good)
    }

    /// A worker asked for a job, or renewed the one that it has: workers that live do so every few seconds.
    pub fn beat(&self, now_ms: i64) {
        self.beat_ms.fetch_max(now_ms, Ordering::Relaxed);
    }

    /// For how long no worker gave a sign of life, in milliseconds, where that is longer than any of them is silent:
    /// nobody takes what waits.
    pub fn silent(&self, now_ms: i64) -> Option<i64> {
        let last = self.beat_ms.load(Ordering::Relaxed);
        Some(now_ms.saturating_sub(last)).filter(|silent| last > 0 && *silent > SILENT_MS)
    }

    /// Whether webhooks can be taken in, and how each part is.
    pub fn all(&self) -> (bool, Value) {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let good = NEEDED.iter().all(|name| parts.get(name).is_none_or(|part| part.good));
        let rows = parts.iter().map(|(name, part)| {
            let status = if part.good { "ok" } else { "failed" };
            ((*name).to_owned(), json!({ "status": status, "detail": part.words }))
        });
        (good, Value::Object(rows.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_who_can_take_webhooks_in_whatever_else_is_wrong() {
        let health = Health::default();
        assert_eq!(health.all(), (true, json!({})), "nothing is known to be wrong");
        assert!(health.report("forge", false, "one is away") && health.report("workers", false, "silent"));
        assert!(health.all().0, "webhooks are taken in all the same");
        for part in NEEDED {
            assert!(health.report(part, false, "full"), "{part}: that is news");
            assert!(!health.report(part, false, "fuller"), "{part}: and then it is none");
            let (ready, parts) = health.all();
            assert_eq!((ready, &parts[part]), (false, &json!({ "status": "failed", "detail": "fuller" })), "{part}");
            assert!(health.report(part, true, "fine"), "{part}: news again");
            assert_eq!(health.all().1[part]["status"], "ok");
        }
        assert!(health.all().0);
    }

    #[test]
    fn workers_that_are_silent_for_a_minute_do_not_work() {
        let health = Health::default();
        assert_eq!(health.silent(1_000_000), None, "none has begun");
        health.beat(1_000_000);
        health.beat(900_000);
        assert_eq!(health.silent(1_060_000), None);
        assert_eq!(health.silent(1_060_001), Some(60_001));
        health.beat(1_060_002);
        assert_eq!(health.silent(1_060_003), None);
    }
}
