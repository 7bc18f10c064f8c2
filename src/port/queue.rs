//! Jobs: made, leased, ended. The database decides who has one; a fence makes the decision hold.

use super::inbox::InboxError;
use crate::model::event::Event;
use crate::model::job::{Answer, Job, JobEnd, JobState, Lease, NewJob, Served};
use async_trait::async_trait;

/// Which jobs are asked for. All that is set must fit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Which {
    /// Their ids begin so.
    pub id: Option<String>,
    /// Of this repository.
    pub repository: Option<Served>,
    /// Of this change.
    pub change: Option<u64>,
    /// Of this issue, and of no change.
    pub issue: Option<u64>,
    /// Of a change whose head was another commit than this one.
    pub not_head: Option<String>,
    /// Of a change that was to go to another branch than this one.
    pub not_base: Option<String>,
    /// Of this workflow.
    pub workflow: Option<String>,
    /// In one of these states; empty: in any.
    pub states: Vec<JobState>,
    /// At most so many, the newest first.
    pub most: u32,
}

/// How many of what may run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Of one repository.
    pub per_repository: u32,
}

/// What became of a job that was to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Added {
    /// It has this id.
    New(String),
    /// There is one of that key, which does not give it up: this one.
    Known(String),
    /// It has this id, and was dropped at once: its group is taken, and it asked for that.
    Skipped(String),
}

/// The queue. Every method is one transaction.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Adds a job, as its group's rule says.
    async fn add(&self, job: &NewJob, now_ms: i64) -> Result<Added, InboxError>;

    /// Leases the next job that may go, for `for_ms`. A job whose lease ran out may be leased again.
    async fn lease(
        &self,
        worker: &str,
        room: Room,
        now_ms: i64,
        for_ms: i64,
    ) -> Result<Option<(Job, Lease)>, InboxError>;

    /// Frees the jobs of workers whose process was here and is gone: nobody waits for their leases to run out. Returns
    /// how many.
    async fn orphans(&self, now_ms: i64) -> Result<u64, InboxError>;

    /// Makes a lease last longer. It may be somebody else's by now.
    async fn renew(&self, lease: &Lease, now_ms: i64, for_ms: i64) -> Result<Renewed, InboxError>;

    /// Ends a lease. False: the fence is stale, and nothing was written.
    async fn end(&self, lease: &Lease, end: &JobEnd, now_ms: i64) -> Result<bool, InboxError>;

    /// Writes down with what a leased job begins, where that is known only now. False: the fence is stale, and nothing was
    /// written.
    async fn begins(&self, lease: &Lease, event: &Event) -> Result<bool, InboxError>;

    /// Jobs.
    async fn jobs(&self, which: &Which) -> Result<Vec<Job>, InboxError>;

    /// Cancels jobs that are not over; those that run are told at their next renewal. Returns their ids.
    async fn cancel(&self, which: &Which, note: &str, now_ms: i64) -> Result<Vec<String>, InboxError>;

    /// Writes down what somebody answered to a job that waits for a yes, and does what it says: a yes that counts makes
    /// it wait for its turn (or drops it at once: its group is taken, and it asked for that), a no cancels it. Returns the job
    /// as it is then. `None`: it does not wait for an answer any more, and nothing was written.
    async fn answer(&self, id: &str, answer: &Answer) -> Result<Option<Job>, InboxError>;

    /// What was answered to a job that waited for a yes, the oldest first.
    async fn answers(&self, id: &str) -> Result<Vec<Answer>, InboxError>;

    /// Puts a job that is over back, as new: its run begins anew. False: it is not over, or its group is taken and it
    /// asked to be dropped then, or it waits for a yes that nobody gave.
    async fn requeue(&self, id: &str, now_ms: i64) -> Result<bool, InboxError>;

    /// Does something with what a job left, where the job is over and was not touched since `before_ms`: until it is done
    /// nobody can put the job back. It has to be quick: nothing else is written meanwhile.
    async fn at_rest(&self, id: &str, before_ms: i64, then: &(dyn Fn() + Send + Sync)) -> Result<Rest, InboxError>;

    /// How many jobs there are in each state.
    async fn counts(&self) -> Result<Vec<(JobState, u64)>, InboxError>;

    /// Jobs that are over since `since_ms` and are not shown so, the oldest first and of each repository at most `most`:
    /// their note `shown/ID` is an instant, a state and more, with spaces between, and that is another state; or they are
    /// about a change or an issue, and there is none.
    async fn shown_otherwise(&self, since_ms: i64, most: u32) -> Result<Vec<(Served, String)>, InboxError>;

    /// The right to say at the forge how a job stands. `None`: somebody else has it, another server or the job's run.
    async fn voice(&self, job: &str) -> Result<Option<Voice>, InboxError>;

    /// A note of the server's, by its name (what a sweep saw last, when a schedule was due last).
    async fn note(&self, name: &str) -> Result<Option<String>, InboxError>;

    /// Keeps a note.
    async fn keep_note(&self, name: &str, value: &str) -> Result<(), InboxError>;

    /// Counts one of something that there may be so many of, in the note `name`; `what` tells it from the others. False:
    /// there were as many, and it is not counted. What was counted already is true again and counts once. One
    /// transaction: who shares the database shares the count.
    async fn count_one(&self, name: &str, what: &str, most: Most, now_ms: i64) -> Result<bool, InboxError>;

    /// The names of notes that begin with `prefix`, come after the name `after` and were written before `before_ms`: in
    /// order, at most `most`.
    async fn old_notes(&self, prefix: &str, after: &str, before_ms: i64, most: u32) -> Result<Vec<String>, InboxError>;

    /// Forgets a note, unless it was written again since `before_ms`.
    async fn forget_note(&self, name: &str, before_ms: i64) -> Result<bool, InboxError>;
}

/// How many of something there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most {
    /// So many.
    pub of: u32,
    /// In so many milliseconds.
    pub within_ms: i64,
}

/// What became of a job that something was to be done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// It is over, and that was done.
    Done,
    /// It is not over, or was not long ago.
    Needed,
    /// There is no such job.
    Unknown,
}

/// The right to say at the forge how a job stands: nobody else has it until this is dropped, or its process ends.
pub struct Voice {
    /// The attempt whose run said itself what there is to say.
    pub spoken: Option<u32>,
    /// What is held.
    pub held: Box<dyn Send + Sync>,
}

/// What a renewal says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewed {
    /// Go on.
    Held(Lease),
    /// Go on to stop: the job was cancelled, and why.
    Cancelled(String),
    /// It is somebody else's: stop at once, write nothing.
    Lost,
}
