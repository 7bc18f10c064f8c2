//! Where webhooks wait until they are looked at.

use super::queue::Which;
use crate::model::job::{Delivery, NewJob};
use async_trait::async_trait;

/// What became of a delivery that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It is on the disk now.
    New,
    /// It was there: by its id, or its body by another id.
    Known,
    /// It was there and had failed too often: it waits again.
    Again,
}

/// A delivery that was not handled yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unhandled {
    /// Its place in the order of arrival.
    pub number: i64,
    /// What came.
    pub delivery: Delivery,
    /// How often handling it was begun.
    pub attempts: u32,
}

/// A repository whose deliveries stay where they are for now: one of them is looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Apart {
    /// Its API's host; empty: nobody knows it.
    pub host: String,
    /// Its name, in any case; empty: deliveries that name no repository.
    pub repository: String,
}

/// A delivery as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Received {
    /// Its place in the order of arrival.
    pub number: i64,
    /// Where it came from.
    pub source: String,
    /// The sender's id.
    pub id: String,
    /// The event's name.
    pub event: String,
    /// The repository, where that was known when it came.
    pub repository: Option<String>,
    /// The API's host of that repository, where it was known.
    pub host: Option<String>,
    /// When it came, in milliseconds since 1970.
    pub at_ms: i64,
    /// `waiting`, `handled` or `dead`.
    pub state: String,
    /// How often handling it was begun.
    pub attempts: i64,
    /// What was decided, or why it failed.
    pub note: Option<String>,
}

/// What was decided about a delivery.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Handled {
    /// The jobs that end because of it, before the new ones are made; why.
    pub cancel: Vec<(Which, String)>,
    /// The jobs that come of it. One whose key is known already is left out.
    pub jobs: Vec<NewJob>,
    /// What was decided, in a sentence, for the log and `codeforge queue deliveries`.
    pub note: String,
}

/// The inbox. Every method is one transaction, on the disk when it returns.
#[async_trait]
pub trait Inbox: Send + Sync {
    /// Takes a delivery in, once. Many at once share a commit. One that failed too often and comes again waits again.
    async fn accept(&self, delivery: Delivery) -> Result<Accepted, InboxError>;

    /// The oldest deliveries that were not handled, up to `most`, but for those of the repositories `apart`; their
    /// attempts count up.
    async fn unhandled(&self, most: u32, now_ms: i64, apart: &[Apart]) -> Result<Vec<Unhandled>, InboxError>;

    /// Marks one as handled and makes its jobs, in one transaction. Returns the ids of the jobs that were made. Handled
    /// twice it makes nothing the second time.
    async fn handled(&self, number: i64, what: &Handled, now_ms: i64) -> Result<Vec<String>, InboxError>;

    /// Puts one off: it failed, and is looked at again after `due_ms`; or never (`None`), and stays as a dead letter.
    /// `counts`: this attempt is one of those that it has.
    async fn put_off(&self, number: i64, due_ms: Option<i64>, counts: bool, note: &str) -> Result<(), InboxError>;

    /// Has a dead letter wait again, with all its attempts; false: there is none of this number.
    async fn again(&self, number: i64) -> Result<bool, InboxError>;

    /// The newest deliveries, at most so many; `dead`: of those that failed too often.
    async fn received(&self, most: u32, dead: bool) -> Result<Vec<Received>, InboxError>;

    /// How many wait, and since when the oldest does (milliseconds since 1970).
    async fn backlog(&self) -> Result<(u64, Option<i64>), InboxError>;

    /// Empties the bodies of deliveries handled before `bodies_before_ms` and forgets those handled before
    /// `rows_before_ms`; at most `most` of each, so that nobody waits long. Returns how many it changed. What is
    /// forgotten would be new if it came again.
    async fn tidy(&self, bodies_before_ms: i64, rows_before_ms: i64, most: u32) -> Result<u64, InboxError>;
}

/// The inbox's database failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server's database {path}: {message}")]
pub struct InboxError {
    /// The file.
    pub path: String,
    /// What happened, and what to do.
    pub message: String,
}
