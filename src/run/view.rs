//! What others may see of a run's state: deadlines, and the values that templates and conditions name.

use super::state::{Stage, State};
use crate::model::account::StepStatus;
use crate::model::id::{RunId, StepId};
use crate::model::journal::Verdict;
use crate::model::plan::Plan;
use serde_json::{Value, json};

/// A point in time at which [`crate::model::journal::Input::DeadlinePassed`] is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadline {
    /// The step; `None`: the run.
    pub step: Option<StepId>,
    /// Milliseconds since 1970.
    pub at_ms: i64,
}

impl State {
    /// The next deadline, of the run or of a step at work.
    pub fn next_deadline(&self) -> Option<Deadline> {
        if self.ending.is_some() {
            return None;
        }
        let run = self
            .plan
            .limits
            .timeout_ms
            .map(|limit| Deadline { step: None, at_ms: self.started_ms.saturating_add_unsigned(limit) });
        if self.running == 0 {
            return run;
        }
        self.plan
            .steps
            .values()
            .zip(&self.steps)
            .filter(|(_, state)| state.is_running())
            .filter_map(|(plan, state)| {
                let at_ms = state.attempt_started_ms.saturating_add_unsigned(plan.timeout_ms?);
                Some(Deadline { step: Some(plan.id.clone()), at_ms })
            })
            .chain(run)
            .min_by_key(|deadline| deadline.at_ms)
    }

    /// Whether all steps have ended and the delivery is what is left.
    pub fn is_finishing(&self) -> bool {
        matches!(self.stage, Stage::FinalJoin | Stage::FinalTree | Stage::FinalGates | Stage::Delivering)
    }

    /// The values that a step's templates and conditions may name: `inputs`, `event`, `steps` (ancestors only),
    /// `run`, `key`, `shared`.
    pub fn context(&self, index: usize) -> Value {
        self.context_of(self.ancestors(index).into_iter())
    }

    /// The values for templates of the delivery: all steps are visible.
    pub fn whole_context(&self) -> Value {
        self.context_of(0..self.steps.len())
    }

    fn context_of(&self, visible: impl Iterator<Item = usize>) -> Value {
        let mut steps = serde_json::Map::new();
        for index in visible {
            let (Some(plan), Some(step)) = (self.plan_step(index), self.steps.get(index)) else { continue };
            let skipped = step.status == StepStatus::Skipped;
            let verdict = step.gates.last().map(|last| {
                let pass = step
                    .gates
                    .iter()
                    .filter(|gate| gate.attempt == last.attempt)
                    .all(|gate| gate.result.verdict == Verdict::Pass);
                if pass { "pass" } else { "fail" }
            });
            steps.insert(
                plan.id.to_string(),
                json!({
                    "output": if skipped { Value::Null } else { step.output.clone().unwrap_or(Value::Null) },
                    "text": if skipped { Value::Null } else { json!(step.text) },
                    "verdict": verdict,
                    "status": step.status,
                    "cost_usd": step.spend.cost.usd(),
                    "files": step.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(),
                    "diff": Value::Null,
                    "before": step.before.as_ref().map(|tree| tree.as_str()),
                    "after": step.after.as_ref().map(|tree| tree.as_str()),
                }),
            );
        }
        values(&self.plan, &self.run, self.base.commit.as_deref(), Value::Object(steps))
    }
}

/// The values that templates may name, around the ones of the steps.
pub fn values(plan: &Plan, run: &RunId, commit: Option<&str>, steps: Value) -> Value {
    json!({
        "inputs": plan.inputs,
        "event": plan.event,
        "steps": steps,
        "run": { "id": run.as_str(), "workflow": plan.workflow, "base": commit },
        "key": if plan.key.is_empty() { run.as_str() } else { plan.key.as_str() },
        "shared": {},
    })
}

/// A span of milliseconds as people write it: `250 ms`, `48 s`, `2 min 5 s`, `1 h 30 min`.
pub(super) fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, _) if ms < 1000 => format!("{ms} ms"),
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, 0) => format!("{minutes} min"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, 0, _) => format!("{hours} h"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}
