//! A step that another program works on: its beginning, and what its end means.

use super::state::{Feedback, ParkedCall, Phase, State};
use crate::model::account::Ending;
use crate::model::backend::BackendOutcome;
use crate::model::chat::ModelError;
use crate::model::exec::ExecStatus;
use crate::model::id::StepId;
use crate::model::journal::{Effect, Purpose, Work};
use crate::model::usage::NanoUsd;

/// Lines of a program's output that its failure quotes.
const LAST_LINES: usize = 6;

impl State {
    /// Whether another program does the step's work.
    pub(super) fn has_backend(&self, index: usize) -> bool {
        self.agent_spec(index).is_some_and(|spec| spec.backend.is_some())
    }

    /// Begins an attempt.
    pub(super) fn run_backend(&mut self, index: usize) {
        self.steps[index].phase = Phase::Backend;
        self.emit(index, Work::RunBackend);
    }

    /// Whether the step's program may ask for a model now.
    pub(super) fn may_ask(&self, step: &StepId) -> bool {
        self.index(step).is_some_and(|index| self.steps[index].phase == Phase::Backend)
    }

    /// The step's program asks for a model's answer: the budget says whether it gets one.
    pub(super) fn asked(&mut self, step: &StepId, number: u64, tokens: u64, cost: Option<NanoUsd>, hash: String) {
        let Some(index) = self.index(step) else { return };
        self.steps[index].questions = number;
        let model = self.steps[index].model;
        self.ask_for_money(index, ParkedCall { model, purpose: Purpose::Gateway(number), tokens, cost, hash });
    }

    /// Whether a question of the step's program waits: for money, or for its answer.
    pub fn question_is_open(&self, step: &StepId, number: u64) -> bool {
        let asked = Purpose::Gateway(number);
        let out = self.outstanding.values().filter(|effect| effect.step.as_ref() == Some(step));
        let mut out = out.map(|effect| &effect.work);
        out.any(|work| matches!(work, Work::CallModel { purpose, .. } if *purpose == asked))
            || self.step(step).is_some_and(|step| step.parked.iter().any(|call| call.purpose == asked))
    }

    /// A question could not be answered: the program is told, and asks the next model where there is one.
    pub(super) fn question_failed(&mut self, index: usize, cause: &Effect, error: &ModelError) {
        let Work::CallModel { model, .. } = cause.work else { return };
        let others = self.agent_spec(index).map_or(0, |spec| spec.models.len());
        if model + 1 < others && model == self.steps[index].model {
            self.notes.push(format!("{}; going on with the next model of the scenario", error.message));
            self.steps[index].model = model + 1;
        }
    }

    /// The program ended: what it changed is kept if the policy lets it and the gates pass.
    pub(super) fn backend_done(&mut self, index: usize, outcome: BackendOutcome) {
        // What it asked for and did not wait for is paid all the same.
        self.abandon_effects(index);
        self.steps[index].parked.clear();
        let Some(plan) = self.plan_step(index) else { return };
        let (attempts, id, writes) = (plan.attempts, plan.id.to_string(), plan.writes);
        let program = self.agent_spec(index).and_then(|spec| spec.backend.as_ref()).map(|it| it.name.clone());
        let program = program.unwrap_or_default();
        let step = &mut self.steps[index];
        step.text = outcome.text.clone();
        step.prompt = Some(outcome.prompt.clone()).filter(|prompt| !prompt.is_empty());
        let last = step.attempt >= attempts;

        if !outcome.denied.is_empty() {
            let paths: Vec<String> = outcome
                .denied
                .iter()
                .map(|(path, ruling)| format!("`{path}` ({}: {})", ruling.by.place(), ruling.reason))
                .collect();
            let message = format!(
                "step `{id}`: `{program}` changed what the policy `{}` lets no agent change: {}",
                self.plan.policy.name,
                paths.join(", ")
            );
            let advice = outcome.denied.iter().map(|(path, ruling)| format!("\n- `{path}`: {}", ruling.reason));
            let said = format!("It changed files that may not be changed:{}", advice.collect::<String>());
            step.denials
                .extend(outcome.denied.into_iter().map(|(path, ruling)| (format!("{program} `{path}`"), ruling)));
            return match last {
                true => self.fail(index, Ending::Denied, message),
                false => self.try_backend_again(index, said),
            };
        }
        if !outcome.exec.success() || outcome.error.is_some() {
            let how = match (&outcome.error, outcome.exec.success()) {
                (Some(_), true) => "says that it failed".to_owned(),
                _ => format!("ended with {}", outcome.exec.describe()),
            };
            let words = outcome.error.clone().unwrap_or_else(|| last_lines(&outcome.exec.output));
            let message = match words.trim() {
                "" => format!("step `{id}`: `{program}` {how}"),
                words => format!("step `{id}`: `{program}` {how}: {words}"),
            };
            let timed_out = outcome.exec.status == ExecStatus::TimedOut;
            return match last || timed_out {
                true => self.fail(index, if timed_out { Ending::Limit } else { Ending::Failed }, message),
                false => self.try_backend_again(index, format!("The program {how}.")),
            };
        }
        match outcome.tree {
            Some(tree) if writes => {
                self.steps[index].phase = Phase::After;
                self.snapshotted(index, tree, outcome.files);
            }
            _ => self.work_done(index),
        }
    }

    fn try_backend_again(&mut self, index: usize, said: String) {
        self.steps[index].pending_feedback = Some(Feedback { said, ..Feedback::default() });
        self.undo(index);
    }
}

/// Whether a call is made for a program in a sandbox, and not for an agent of ours.
pub(super) fn is_question(cause: &Effect) -> bool {
    matches!(cause.work, Work::CallModel { purpose: Purpose::Gateway(_), .. })
}

/// The end of an output, in a line.
fn last_lines(output: &str) -> String {
    let lines: Vec<&str> = output.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default().join(" / ")
}
