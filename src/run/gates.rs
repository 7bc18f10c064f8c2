//! Gates of a step: run them all, take the strictest outcome, keep or undo.

use super::state::{Attempted, Feedback, Phase, State};
use crate::model::account::Ending;
use crate::model::id::TreeId;
use crate::model::journal::{GateResult, Verdict, Work};
use crate::model::plan::OnGateFail;

impl State {
    /// Starts the step's gates, or keeps its work where it has none.
    pub(super) fn check_gates(&mut self, index: usize) {
        let gates = self.plan_step(index).map(|step| step.gates.clone()).unwrap_or_default();
        let Some(tree) = self.tree_to_check(index).filter(|_| !gates.is_empty()) else {
            self.steps[index].gates_now.clear();
            return if self.attempt_over(index) {
            } else {
                self.keep(index)
            };
        };
        self.steps[index].phase = Phase::Gating;
        self.steps[index].gates_now.clear();
        self.steps[index].gates_open = gates.len();
        for gate in gates {
            self.emit(index, Work::CheckGate { gate, tree: tree.clone() });
        }
    }

    /// One gate ended.
    pub(super) fn gate_done(&mut self, index: usize, result: GateResult) {
        self.note_verdict(&result);
        let step = &mut self.steps[index];
        step.gates_now.push(result);
        step.gates_open = step.gates_open.saturating_sub(1);
        if step.gates_open == 0 && !self.attempt_over(index) {
            self.judge(index);
        }
    }

    /// Remembers a pass: a verdict binds the gate's definition and the tree.
    pub(super) fn note_verdict(&mut self, result: &GateResult) {
        if result.verdict == Verdict::Pass {
            self.passed.push((result.gate_hash.clone(), result.tree.clone()));
        }
    }

    /// Whether a gate has passed on a tree.
    pub(super) fn has_passed(&self, gate: &str, tree: &TreeId) -> bool {
        self.plan
            .gates
            .get(gate)
            .is_some_and(|gate| self.passed.iter().any(|(hash, on)| *hash == gate.hash && on == tree))
    }

    /// What a gate's failure does here: the policy's `rollback_on_fail` beats `warn` and `fail`.
    pub(super) fn outcome_of(&self, result: &GateResult) -> OnGateFail {
        let on_fail = self.plan.gates.get(&result.gate).map_or(OnGateFail::Rollback, |gate| gate.on_fail);
        let kept = matches!(on_fail, OnGateFail::Warn | OnGateFail::Fail);
        if self.plan.policy.rollback_on_fail && kept { OnGateFail::Rollback } else { on_fail }
    }

    pub(super) fn judge(&mut self, index: usize) {
        let Some(plan) = self.plan_step(index) else { return };
        let (attempts, id) = (plan.attempts, plan.id.clone());
        // In the order of the workflow, whichever ended first: reports and feedback must not depend on timing.
        let order = plan.gates.clone();
        let attempt = self.steps[index].attempt;
        let mut results = std::mem::take(&mut self.steps[index].gates_now);
        results.sort_by_key(|result| order.iter().position(|gate| *gate == result.gate));
        let failed: Vec<&GateResult> = results.iter().filter(|result| result.verdict != Verdict::Pass).collect();
        let strictest = failed.iter().map(|result| self.outcome_of(result)).max();
        let again = strictest == Some(OnGateFail::Retry) && attempt < attempts;
        let led_to = match strictest {
            None => String::new(),
            Some(OnGateFail::Warn) => "a warning; the work is kept".to_owned(),
            Some(OnGateFail::Retry) if again => format!("rolled back, attempt {} of {attempts}", attempt + 1),
            Some(OnGateFail::Retry | OnGateFail::Rollback) => "rolled back".to_owned(),
            Some(OnGateFail::Fail) => "stopped; the tree is kept for inspection".to_owned(),
        };
        let message = failed
            .iter()
            .map(|result| format!("gate `{}` did not pass ({})", result.gate, result.detail))
            .collect::<Vec<_>>()
            .join("; ");
        let feedback =
            Feedback { gates: failed.iter().map(|result| (*result).clone()).collect(), ..Feedback::default() };
        let broken = !failed.is_empty() && failed.iter().all(|result| result.verdict == Verdict::Error);
        let all_passed = failed.is_empty();
        self.steps[index].gates.extend(results.iter().map(|result| Attempted {
            attempt,
            result: result.clone(),
            led_to: if result.verdict == Verdict::Pass { String::new() } else { led_to.clone() },
        }));
        match strictest {
            None | Some(OnGateFail::Warn) => {
                if all_passed {
                    self.last_green = self.tree_to_check(index);
                } else {
                    self.notes.push(format!("step `{id}`: {message}; its work was kept (`on_fail: warn`)"));
                }
                self.keep(index);
            }
            Some(OnGateFail::Retry) if again => {
                self.steps[index].pending_feedback = Some(feedback);
                self.undo(index);
            }
            Some(OnGateFail::Fail) => {
                let ending = if broken { Ending::Unavailable } else { Ending::Failed };
                self.fail_now(index, ending, format!("step `{id}`: {message}"));
            }
            Some(OnGateFail::Retry | OnGateFail::Rollback) => {
                let tries = if attempts > 1 { format!(" after {attempt} attempts") } else { String::new() };
                let ending = if broken { Ending::Unavailable } else { Ending::Failed };
                self.fail(index, ending, format!("step `{id}`: {message}{tries}"));
            }
        }
    }

    /// Undoes the attempt, to try again.
    pub(super) fn undo(&mut self, index: usize) {
        match self.steps[index].before.clone() {
            Some(tree) => {
                self.steps[index].phase = Phase::Undoing;
                self.emit(index, Work::Restore { tree });
            }
            None => self.try_again(index, String::new()),
        }
    }

    /// The workspace is as it was before the step.
    pub(super) fn restored(&mut self, index: usize, discarded: String) {
        if self.steps[index].phase == Phase::Settling {
            return self.settle_best(index);
        }
        if self.plan_step(index).is_some_and(|step| !step.own_copy) {
            self.main_tree = self.steps[index].before.clone();
        }
        match self.steps[index].phase {
            Phase::Undoing => self.try_again(index, discarded),
            Phase::RollingBack => {
                self.steps[index].files.clear();
                self.steps[index].after = None;
                if let Some((ending, message)) = self.steps[index].failing.take() {
                    self.fail_now(index, ending, message);
                }
            }
            _ => {}
        }
    }

    fn try_again(&mut self, index: usize, discarded: String) {
        let step = &mut self.steps[index];
        step.feedback = step.pending_feedback.take().map(|feedback| Feedback { discarded, ..feedback });
        step.attempt += 1;
        step.ordinal = 0;
        step.turns.clear();
        step.quality.next_attempt();
        step.repairs = 0;
        step.nudged = false;
        step.stall.clear();
        step.after = None;
        step.files.clear();
        step.output = None;
        step.text.clear();
        self.work(index);
    }
}
