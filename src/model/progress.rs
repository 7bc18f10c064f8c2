//! What a watcher of a run sees while it happens.

use super::account::StepStatus;
use super::id::StepId;
use super::journal::Row;

/// One observation. Only [`Progress::Recorded`] is durable; the others may be dropped by a slow watcher.
#[derive(Debug, Clone)]
pub enum Progress {
    /// A row was committed to the journal.
    Recorded(Row),
    /// The model said something more.
    ModelText {
        /// For which step.
        step: StepId,
        /// The new text: untrusted.
        text: String,
    },
    /// A command printed something.
    Output {
        /// For which step.
        step: StepId,
        /// The new output, already cleaned of control sequences: untrusted.
        text: String,
    },
    /// A step has come to its end; after a jump back it may do so again.
    StepEnded {
        /// Which.
        step: StepId,
        /// How.
        status: StepStatus,
        /// How long it worked, over all its attempts, in milliseconds.
        duration_ms: u64,
    },
    /// Something a person should know (`sandbox native: no Docker daemon`).
    Note(String),
}
