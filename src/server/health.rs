//! What works and what does not, part by part.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

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

    /// Whether everything works, and how each part is.
    pub fn all(&self) -> (bool, Value) {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let good = parts.values().all(|part| part.good);
        let rows = parts.iter().map(|(name, part)| {
            let status = if part.good { "ok" } else { "failed" };
            ((*name).to_owned(), json!({ "status": status, "detail": part.words }))
        });
        (good, Value::Object(rows.collect()))
    }
}
