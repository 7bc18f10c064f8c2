//! A run as a process of its own.

use crate::model::job::{Job, Lease};
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

/// How a run's process ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ran {
    /// Its exit code; `None`: a signal ended it.
    pub code: Option<i32>,
    /// Its outputs (`conclusion`, `total-cost-usd`, `pull-request-url`, …; docs/ci.md lists them).
    pub outputs: std::collections::BTreeMap<String, String>,
    /// The end of its log, cleaned.
    pub log: String,
}

/// Starts runs.
#[async_trait]
pub trait Runner: Send + Sync {
    /// Runs a job to its end. `stop`: it is interrupted so that it can be resumed; where it does not end in time it is
    /// killed. A job that was begun before goes on where its journal ends.
    async fn run(&self, job: &Job, lease: &Lease, stop: CancellationToken) -> Result<Ran, String>;
}
