//! What of a conversation is still shown to the model, and which tools it is offered: as configured.

use serde::{Deserialize, Serialize};

/// Bytes that a pattern may take once it is compiled.
pub const PATTERN_BYTES: usize = 1 << 18;

/// One processor of a conversation. They work in the order of their list, on the turns so far; the
/// room `agent` says how and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Processor {
    /// The last so many tool results stay whole; older ones become stubs of one line.
    LastObservations(usize),
    /// A view of a file becomes a stub once the file was edited, or viewed again.
    ClosedWindows,
    /// The request is marked where the provider may keep what came so far.
    CacheControl,
    /// What this regular expression matches is taken out of every tool result.
    Remove(String),
    /// The last so many turns stay, older ones go.
    Buffered(usize),
    /// The request stays below so many estimated tokens: older results become stubs, then the oldest turns go.
    TokenLimit(u64),
    /// The first `head` and the last `tail` turns stay, those between go.
    HeadAndTail {
        /// Turns at the beginning.
        head: usize,
        /// Turns at the end.
        tail: usize,
    },
}

/// When only a part of the tools is offered: the best for the task, by their descriptions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Recommend {
    /// Only where there are more tools than this.
    pub above: usize,
    /// How many are offered, beside `finish` and `always`.
    pub keep: usize,
    /// Tools that are offered whatever the task is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub always: Vec<String>,
}
