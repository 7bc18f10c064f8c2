//! Watching a run.

use crate::model::progress::Progress;

/// Sees what happens in a run. Must not block: it is called between effects.
pub trait Watch: Send + Sync {
    /// Something happened.
    fn saw(&self, progress: &Progress);
}
