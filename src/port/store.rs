//! The journal's store.

use crate::model::account::{Ending, Spend};
use crate::model::budget::{Allowance, Scope, SharedBudget, Standing};
use crate::model::experience::Experience;
use crate::model::id::RunId;
use crate::model::journal::Row;
use crate::model::usage::NanoUsd;
use async_trait::async_trait;
use serde::Serialize;

/// Keeps journals. One writer per run, held by a lease with a fencing token.
#[async_trait]
pub trait Store: Send + Sync {
    /// Makes a run and writes its first rows, in one transaction. The caller holds the lease with the returned fence.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn create(&self, head: &RunHead, rows: &[Row], owner: &str) -> Result<Fence, StoreError>;

    /// Makes a run as [`Store::create`] does, and in the same transaction asks for its share of the budgets that it has
    /// in common with other runs: of each, what others have spent and hold is taken off. `first` makes the first rows
    /// from what was given; what it gives of no capped scope is not listed.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn admit(
        &self,
        head: &RunHead,
        claim: &Claim,
        first: &(dyn for<'a> Fn(&'a [Allowance]) -> Opening + Send + Sync),
        owner: &str,
    ) -> Result<Fence, StoreError>;

    /// Asks again for a run that was taken over: what it was given before is replaced.
    ///
    /// # Errors
    /// [`StoreError::NothingLeft`] where a scope has nothing left for it: nothing is changed then.
    async fn readmit(&self, run: &RunId, fence: Fence, claim: &Claim) -> Result<Vec<Allowance>, StoreError>;

    /// How the budgets of a scope stand whose keys begin with `prefix`, the most spent first.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn standing(&self, scope: Scope, prefix: &str) -> Result<Vec<Standing>, StoreError>;

    /// Appends rows in one transaction, together with the head's new summary. The end of this process loses nothing
    /// of it; whether a loss of power does says `durable`.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] where another engine has taken the run over; [`StoreError::Gap`] where `rows` does not
    /// follow the last row.
    async fn append_as(
        &self,
        durable: Durable,
        run: &RunId,
        fence: Fence,
        rows: &[Row],
        summary: &Summary,
    ) -> Result<(), StoreError>;

    /// [`Store::append_as`], safe from a loss of power too when it returns.
    ///
    /// # Errors
    /// As there.
    async fn append(&self, run: &RunId, fence: Fence, rows: &[Row], summary: &Summary) -> Result<(), StoreError> {
        self.append_as(Durable::Now, run, fence, rows, summary).await
    }

    /// Takes the run over: every earlier fence is void from now on.
    ///
    /// # Errors
    /// [`StoreError::Held`] where its owner's process is alive on this machine.
    async fn take(&self, run: &RunId, owner: &str) -> Result<Fence, StoreError>;

    /// Interrupts the process that is at work on a run, as Ctrl-C does: it stops where the run can be taken up. False:
    /// nobody is at work on it, or nobody that can be reached from here.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn interrupt(&self, run: &RunId) -> Result<bool, StoreError>;

    /// Gives the lease back.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn release(&self, run: &RunId, fence: Fence) -> Result<(), StoreError>;

    /// All rows of a run, in order.
    ///
    /// # Errors
    /// [`StoreError::NoSuchRun`].
    async fn rows(&self, run: &RunId) -> Result<Vec<Row>, StoreError>;

    /// Heads, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn runs(&self, limit: u32) -> Result<Vec<(RunHead, Summary)>, StoreError>;

    /// The one run whose id begins with `prefix`.
    ///
    /// # Errors
    /// [`StoreError::NoSuchRun`] where there is none, [`StoreError::Ambiguous`] where there are several.
    async fn find(&self, prefix: &str) -> Result<RunHead, StoreError>;

    /// Keeps a value under a key (set-up cache, notices already shown).
    ///
    /// # Errors
    /// [`StoreError`].
    async fn put(&self, key: &str, value: &str) -> Result<(), StoreError>;

    /// [`Store::put`] of something that a loss of power may take, like [`Durable::WithNext`].
    ///
    /// # Errors
    /// [`StoreError`].
    async fn put_soon(&self, key: &str, value: &str) -> Result<(), StoreError>;

    /// The value under a key.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn get(&self, key: &str) -> Result<Option<String>, StoreError>;

    /// The pool of experience, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn experience(&self) -> Result<Vec<Experience>, StoreError>;

    /// Puts `new` into the pool and takes those named `gone` out of it, in one transaction. One that has the name of a
    /// new one is replaced; a name that is not there is passed over.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn remember(&self, new: &[Experience], gone: &[String]) -> Result<(), StoreError>;
}

/// What a run asks for at its admission.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Claim {
    /// The scopes that it belongs to.
    pub shared: Vec<SharedBudget>,
    /// The run's own budget; `None`: whatever the scopes leave.
    pub wanted: Option<NanoUsd>,
    /// The day that counts, in milliseconds since 1970.
    pub now_ms: i64,
}

/// How a run's journal begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Opening {
    /// The first rows.
    pub rows: Vec<Row>,
    /// The head's summary after them.
    pub summary: Summary,
}

/// From when on a loss of power cannot take what was written. The end of a process never does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durable {
    /// When the call returns.
    Now,
    /// With the next write that is durable: for rows of which nothing follows yet that the world could see.
    WithNext,
}

/// A fencing token: rises each time a run changes hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Fence(pub i64);

/// What does not change about a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunHead {
    /// The run.
    pub id: RunId,
    /// The workflow.
    pub workflow: String,
    /// The repository's top folder.
    pub repo: String,
    /// When it was made, milliseconds since 1970.
    pub created_ms: i64,
}

/// What lists show of a run; derived from the journal, kept beside it.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Summary {
    /// How it ended; `None`: it has not.
    pub ending: Option<Ending>,
    /// What it spent.
    pub spend: Spend,
    /// What its calls that are out have reserved.
    pub reserved: NanoUsd,
    /// When the last row was written, milliseconds since 1970.
    pub updated_ms: i64,
}

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such run: the user's fault.
    #[error("no run `{0}` here; `codeforge runs list` shows what there is")]
    NoSuchRun(String),
    /// More than one run begins like that: the user's fault.
    #[error("`{prefix}` could be any of {}: give more of the id", candidates.join(", "))]
    Ambiguous {
        /// What was given.
        prefix: String,
        /// What it could be.
        candidates: Vec<String>,
    },
    /// Another engine is at work on the run.
    #[error("run {run} is at work in another process ({owner}); wait for it, or end that process first")]
    Held {
        /// The run.
        run: RunId,
        /// Who has it.
        owner: String,
    },
    /// The run was taken over by another engine while this one was away.
    #[error("run {0} was taken over by another process; this one stops without writing")]
    Fenced(RunId),
    /// A budget that the run shares with others has nothing left for it: a limit.
    #[error("{}", .0.refusal())]
    NothingLeft(Box<Allowance>),
    /// Rows were not contiguous: our fault.
    #[error("journal of run {run}: row {got} does not follow row {last}")]
    Gap {
        /// The run.
        run: RunId,
        /// Last row stored.
        last: u64,
        /// First row given.
        got: u64,
    },
    /// A row cannot be read: it is from a newer version, or damaged.
    #[error("journal of run {run}, row {seq}: {message}")]
    Unreadable {
        /// The run.
        run: RunId,
        /// The row.
        seq: u64,
        /// Why.
        message: String,
    },
    /// The database failed (disk full, locked for too long): the environment's fault.
    #[error("the journal's database {path}: {message}")]
    Database {
        /// Where it is.
        path: String,
        /// Why.
        message: String,
    },
}
