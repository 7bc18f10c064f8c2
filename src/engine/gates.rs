//! Gates without a run: for a job that holds no key and asks no model.

use super::artifact::scratch_run;
use super::perform::Trouble;
use super::session::Session;
use super::{Engine, Stop};
use crate::model::account::Ending;
use crate::model::id::{EffectKey, TreeId};
use crate::model::journal::{Base, Fault, GateResult, Input};
use crate::model::plan::Plan;
use crate::run::State;
use std::sync::Arc;
use tokio::sync::mpsc;

/// What gates said.
#[derive(Debug, Clone)]
pub struct Gated {
    /// The sandbox's driver.
    pub driver: String,
    /// What could not be had, and why.
    pub notes: Vec<String>,
    /// One for each of the plan's gates, in its order.
    pub results: Vec<GateResult>,
}

/// Why gates could not be run.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct NotGated {
    /// Decides the exit code.
    pub ending: Ending,
    /// What failed, where, and what to do.
    pub message: String,
}

impl From<Trouble> for NotGated {
    fn from(Trouble { fault, message }: Trouble) -> Self {
        let ending = match fault {
            Fault::User => Ending::Misconfigured,
            Fault::Denied => Ending::Denied,
            Fault::Environment => Ending::Unavailable,
            Fault::Unknown => Ending::Failed,
        };
        Self { ending, message }
    }
}

impl Engine {
    /// Runs all of the plan's gates on `tree`, each in a workspace and a sandbox of its own, after the plan's set-up.
    /// `from`: the tree that gates with `from: base` take their files from. No model is asked, nothing is journaled.
    ///
    /// # Errors
    /// [`NotGated`] where no sandbox can be had or the set-up fails; a gate that does not pass is a result.
    pub async fn gates_only(
        &self,
        plan: Plan,
        base: Base,
        tree: TreeId,
        from: TreeId,
        mut stop: Stop,
    ) -> Result<Gated, NotGated> {
        let run = scratch_run(&format!("{tree} {} {}", self.owner, self.clock.now_ms()));
        let started = Input::Started {
            run: run.clone(),
            plan: Box::new(plan),
            base,
            at_ms: self.clock.now_ms(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            allowances: Vec::new(),
        };
        let state = State::new(&started).map_err(|message| NotGated { ending: Ending::Failed, message })?;
        // Nobody asks: no agent is at work.
        let (desks, _asked) = mpsc::unbounded_channel();
        let session = Arc::new(Session::new(self.clone(), &state, desks));
        let work = gate_all(&session, &state, tree, from);
        let done = tokio::select! {
            biased;
            _ = stop.wait_for(|stopped| *stopped) => {
                Err(NotGated { ending: Ending::Cancelled, message: "interrupted before the gates ended".to_owned() })
            }
            done = work => done,
        };
        session.close().await;
        let (repository, name) = (Arc::clone(&self.repository), run.clone());
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || repository.clean(&name)).await {
            session.note(&format!("the gates' workspaces could not be removed: {error}"));
        }
        done
    }
}

async fn gate_all(session: &Arc<Session>, state: &State, tree: TreeId, from: TreeId) -> Result<Gated, NotGated> {
    let key = |name: &str| EffectKey::derive(&state.run, "", 0, 0, 0, name);
    let (driver, notes) = match session.prepare(key("prepare")).await? {
        Input::Prepared { driver, notes, .. } => (driver, notes),
        _ => (String::new(), Vec::new()),
    };
    let mut results = Vec::new();
    for gate in state.plan.gates.keys() {
        if let Input::GateDone { result, .. } = session.check_gate(key(gate), gate, tree.clone(), from.clone()).await? {
            results.push(result);
        }
    }
    Ok(Gated { driver, notes, results })
}
