//! A step that another program works on: its beginning, and what its end means.

use super::state::{Feedback, Phase, State};
use crate::model::account::Ending;
use crate::model::backend::BackendOutcome;
use crate::model::exec::ExecStatus;
use crate::model::journal::Work;

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
        self.steps[index].questions = 0;
        self.steps[index].no_model = None;
        self.emit(index, Work::RunBackend);
    }

    /// The program ended: what it changed is kept if the policy lets it and the gates pass.
    pub(super) fn backend_done(&mut self, index: usize, outcome: BackendOutcome) {
        // What it asked for and did not wait for is paid all the same.
        self.abandon_effects(index);
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
            if let Some(why) = self.steps[index].no_model.take() {
                let message = format!("step `{id}`: `{program}` {how}, because no model could be had: {why}");
                return self.fail(index, Ending::Unavailable, message);
            }
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

/// The end of an output, in a line.
fn last_lines(output: &str) -> String {
    let lines: Vec<&str> = output.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default().join(" / ")
}
