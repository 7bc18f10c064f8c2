//! What works and what does not, part by part.
//!
//! Ready is a server that can take webhooks in: its database and its disk. That a forge is away or all workers are busy is
//! shown beside it; to turn webhooks away because of that would lose them.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Parts without which no webhook can be taken in.
const NEEDED: [&str; 2] = ["database", "disk"];

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
}

impl Health {
    /// A part works, or does not. True: that is other than before.
    pub fn report(&self, part: &'static str, good: bool, words: impl Into<String>) -> bool {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let before = parts.insert(part, Part { good, words: words.into() });
        before.is_none_or(|before| before.good != good)
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
