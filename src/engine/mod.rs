//! Drives runs: performs effects after their intents are committed, feeds their results back, reconciles after a
//! crash.
//!
//! One loop per run (`drive`): wait for a result → [`State::apply`] → write the result and the new
//! intents in one transaction → tell the watcher → perform the intents. Nothing is performed before its intent is
//! durable, and nothing that has a durable result is performed again.

mod again;
mod artifact;
mod backend;
mod compose;
pub mod configuration;
mod convention;
mod desk;
mod drive;
mod experience;
pub mod fetching;
mod gates;
mod gateway;
pub mod history;
mod perform;
pub mod publish;
mod quality;
mod record;
mod sandboxes;
mod session;
mod tools;
mod workspaces;

pub use again::{Mismatch, Playback, Refolded, Renamed, refold};
pub use artifact::{Delivering, Extras, unpack};
pub use convention::in_convention;
pub use drive::{Outcome, Stop};
pub use gates::{Gated, NotGated};
pub use sandboxes::choose;

use crate::model::account::Account;
use crate::model::budget::Allowance;
use crate::model::delivery::{ChangeSet, Delivery};
use crate::model::event::Event;
use crate::model::finding::Finding;
use crate::model::id::RunId;
use crate::model::journal::{Base, Input, Row, RowBody};
use crate::model::plan::{Plan, StepKind};
use crate::model::usage::NanoUsd;
use crate::port::clock::Clock;
use crate::port::forge::Forge;
use crate::port::gateway::Gateway;
use crate::port::model::ChatModel;
use crate::port::repository::{Repository, RepositoryError};
use crate::port::sandbox::{SandboxDriver, SandboxError};
use crate::port::store::{Claim, Opening, RunHead, Store, StoreError, Summary};
use crate::port::watch::Watch;
use crate::run::State;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// What an engine works with.
#[derive(Clone)]
pub struct Engine {
    /// Keeps the journal.
    pub store: Arc<dyn Store>,
    /// The user's repository.
    pub repository: Arc<dyn Repository>,
    /// The sandbox drivers there are.
    pub drivers: Vec<Arc<dyn SandboxDriver>>,
    /// Answers chat requests.
    pub models: Arc<dyn ChatModel>,
    /// Serves models to programs in sandboxes.
    pub gateway: Arc<dyn Gateway>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Sees what happens.
    pub watch: Arc<dyn Watch>,
    /// Who this process is, for leases.
    pub owner: String,
    /// Values that must never leave: keys and tokens from the environment.
    pub secrets: Vec<String>,
    /// Where deliveries that a forge makes go.
    pub outlet: Outlet,
}

/// Where deliveries that a forge makes go.
#[derive(Clone, Default)]
pub enum Outlet {
    /// Nowhere: they fail, and say what is missing.
    #[default]
    Closed,
    /// Nowhere: they are checked, and say what they would hand over. A replay's.
    Mute,
    /// To a forge.
    Forge(Arc<Outgoing>),
}

/// A forge, and what was decided about what goes there.
pub struct Outgoing {
    /// The forge.
    pub forge: Arc<dyn Forge>,
    /// What happened, as the forge told it; `None`: what the journal has of it.
    pub event: Option<Event>,
    /// What names of our branches begin with.
    pub prefix: String,
    /// The branch that changes go to; `None`: the default branch.
    pub target: Option<String>,
    /// Hosts, beside the forge's own, that links in our text may lead to.
    pub hosts: Vec<String>,
    /// Whether a delivery `branch` is pushed, too. On a laptop it stays there.
    pub push_branches: bool,
    /// Words of what is published; `None`: the delivery's own.
    pub wording: Option<Wording>,
    /// How commits are signed.
    pub signing: publish::Signing,
}

/// Makes the words of what is published.
pub type Wording = Arc<dyn Fn(&Told<'_>) -> Words + Send + Sync>;

/// What words are made of.
pub struct Told<'a> {
    /// The run so far.
    pub account: &'a Account,
    /// Values for templates: `steps` with their outputs, `inputs`, `event`.
    pub context: &'a Value,
    /// What is handed over.
    pub delivery: &'a Delivery,
    /// What changed.
    pub changes: &'a ChangeSet,
}

/// Words of what is published: Markdown.
#[derive(Debug, Clone, Default)]
pub struct Words {
    /// A change's description.
    pub body: String,
    /// The comment that there is one of.
    pub comment: Option<String>,
    /// What a review remarks.
    pub findings: Vec<Finding>,
}

/// Why an engine gave up. Everything acknowledged until then is in the journal, and the run can be resumed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The journal cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The repository cannot be used.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// No sandbox can be had.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The journal does not make sense to this version: ours, or a damaged file.
    #[error("the journal of run {run} cannot be continued: {message}")]
    Journal {
        /// The run.
        run: RunId,
        /// Why.
        message: String,
    },
}

impl Engine {
    /// Begins a run: takes stock of the repository, makes the journal, drives it to its end.
    ///
    /// # Errors
    /// [`EngineError`]; a run that fails is an [`Outcome`], not an error.
    pub async fn start(&self, run: RunId, plan: Plan, base: Base, stop: Stop) -> Result<Outcome, EngineError> {
        let at_ms = self.clock.now_ms();
        let head =
            RunHead { id: run.clone(), workflow: plan.workflow.clone(), repo: base.repo.clone(), created_ms: at_ms };
        let claim = claim(&plan, at_ms);
        let started = Input::Started {
            run: run.clone(),
            plan: Box::new(plan),
            base,
            at_ms,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            allowances: Vec::new(),
        };
        let fresh = self.fresh(&run, &started)?;
        // What the run is given is known within the transaction that makes it.
        let begun = Mutex::new(None);
        let first = |given: &[Allowance]| {
            let mut started = started.clone();
            if let Input::Started { allowances, .. } = &mut started {
                *allowances = given.to_vec();
            }
            let mut state = fresh.clone();
            let effects = state.apply(at_ms, started.clone());
            let mut rows = vec![Row { seq: 1, at_ms, body: RowBody::Input(started) }];
            for effect in &effects {
                rows.push(Row { seq: rows.len() as u64 + 1, at_ms, body: RowBody::Intent(effect.clone()) });
            }
            let opening = Opening { rows: rows.clone(), summary: self.summary(&state) };
            *begun.lock().unwrap_or_else(PoisonError::into_inner) = Some((state, effects, rows));
            opening
        };
        let fence = self.store.admit(&head, &claim, &first, &self.owner).await?;
        let begun = begun.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (state, effects, rows) = begun.ok_or_else(|| EngineError::Journal {
            run: run.clone(),
            message: "an internal error: it was made without its first row; please report it".to_owned(),
        })?;
        let seq = rows.len() as u64;
        self.tell(&rows);
        self.drive(state, seq, fence, effects, Vec::new(), stop).await
    }

    /// Takes a run up where its journal ends.
    ///
    /// # Errors
    /// [`EngineError`]; [`StoreError::Held`] where another process is at work on it.
    pub async fn resume(&self, run: &RunId, stop: Stop) -> Result<Outcome, EngineError> {
        let fence = self.store.take(run, &self.owner).await?;
        let rows = self.store.rows(run).await?;
        let state = self.replay(run, &rows)?;
        let seq = rows.last().map_or(0, |row| row.seq);
        if state.ending.is_some() {
            self.store.release(run, fence).await?;
            return Ok(Outcome { state, interrupted: false });
        }
        let claim = claim(&state.plan, self.clock.now_ms());
        let allowances = match self.store.readmit(run, fence, &claim).await {
            Ok(allowances) => allowances,
            Err(error) => {
                // It stays as it was, to be taken up when there is money again.
                self.store.release(run, fence).await?;
                return Err(error.into());
            }
        };
        // An intent without a result: nobody knows how far it came. A model call may have been billed, so it counts
        // as unknown; everything else can be found again, or made again, from its key.
        let mut facts = vec![Input::Resumed { at_ms: self.clock.now_ms(), allowances }];
        let mut again = Vec::new();
        for effect in state.outstanding.values() {
            match &effect.work {
                crate::model::journal::Work::CallModel { .. } => {
                    facts.push(Input::OutcomeUnknown { key: effect.key.clone() });
                }
                _ => again.push(effect.clone()),
            }
        }
        for driver in &self.drivers {
            // What the killed engine left behind must not write into the workspace any more.
            let _ = driver.reap(Some(run)).await;
        }
        self.drive(state, seq, fence, again, facts, stop).await
    }

    /// Ends a run that nobody is at work on: it cannot be taken up any more. What its calls that were out have reserved
    /// counts as spent. One that is over is left as it is.
    ///
    /// # Errors
    /// [`EngineError`]; [`StoreError::Held`] where another process is at work on it.
    pub async fn cancel(&self, run: &RunId, reason: &str, stop: Stop) -> Result<Outcome, EngineError> {
        let fence = self.store.take(run, &self.owner).await?;
        let rows = self.store.rows(run).await?;
        let state = self.replay(run, &rows)?;
        if state.ending.is_some() {
            self.store.release(run, fence).await?;
            return Ok(Outcome { state, interrupted: false });
        }
        for driver in &self.drivers {
            let _ = driver.reap(Some(run)).await;
        }
        let seq = rows.last().map_or(0, |row| row.seq);
        let cancelled = Input::CancelRequested { reason: reason.to_owned() };
        self.drive(state, seq, fence, Vec::new(), vec![cancelled], stop).await
    }

    /// The state that a journal leads to.
    ///
    /// # Errors
    /// [`EngineError::Journal`].
    pub fn replay(&self, run: &RunId, rows: &[Row]) -> Result<State, EngineError> {
        replay(rows).map_err(|message| EngineError::Journal { run: run.clone(), message })
    }

    fn fresh(&self, run: &RunId, started: &Input) -> Result<State, EngineError> {
        State::new(started).map_err(|message| EngineError::Journal { run: run.clone(), message })
    }

    fn tell(&self, rows: &[Row]) {
        for row in rows {
            self.watch.saw(&crate::model::progress::Progress::Recorded(row.clone()));
        }
    }

    fn summary(&self, state: &State) -> Summary {
        let updated_ms = self.clock.now_ms();
        Summary { ending: state.ending, spend: state.spend, reserved: state.reserved, updated_ms }
    }

    /// Where a run's files lie: `.codeforge/runs/RUN` in the repository.
    pub fn run_folder(&self, run: &RunId) -> PathBuf {
        self.repository.root().join(".codeforge").join("runs").join(run.as_str())
    }
}

/// What a run asks for of the budgets that it shares. One without an agent spends nothing and asks for nothing.
fn claim(plan: &Plan, now_ms: i64) -> Claim {
    let spends = plan.steps.values().any(|step| matches!(step.kind, StepKind::Agent(_)));
    Claim {
        shared: if spends { plan.limits.shared.clone() } else { Vec::new() },
        wanted: plan.limits.max_cost_usd.map(NanoUsd::from_usd),
        now_ms,
    }
}

/// The state that a journal leads to. Intents are checked against what the state machine asks for, so that a journal
/// of a version that decides differently is noticed instead of misread.
///
/// # Errors
/// What does not fit, with its row.
pub fn replay(rows: &[Row]) -> Result<State, String> {
    let Some(Row { body: RowBody::Input(first), .. }) = rows.first() else {
        return Err("it has no first row".into());
    };
    let mut state = State::new(first)?;
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for row in rows {
        match &row.body {
            RowBody::Input(input) => {
                for effect in state.apply(row.at_ms, input.clone()) {
                    expected.insert(effect.key.0, row.seq);
                }
            }
            RowBody::Intent(effect) => {
                if expected.remove(&effect.key.0).is_none() {
                    return Err(format!(
                        "row {} intends `{}` for {}, which this version would not do here",
                        row.seq,
                        effect.work.kind(),
                        effect.step.as_ref().map_or("the run", |step| step.as_str())
                    ));
                }
            }
        }
    }
    Ok(state)
}
