//! `best_of`: several whole attempts from the same snapshot, of which one is kept.
//!
//! An attempt ends with its gates, or by failing on its own. One that passes may be scored; then the workspace goes back
//! to the snapshot and the next begins with a fresh conversation. At the end the best tree is put in place. Where none
//! passes, the last one's failure takes the step's ordinary way.

use super::{Ask, Lost};
use crate::model::account::Ending;
use crate::model::delivery::FileChange;
use crate::model::id::TreeId;
use crate::model::journal::{GateResult, Verdict, Work};
use crate::model::plan::OnGateFail;
use crate::model::quality::{BestBy, BestOf};
use crate::model::usage::NanoUsd;
use crate::run::state::{Attempted, Phase, State};
use serde_json::Value;

/// The score that none can be above.
const TOP_SCORE: f64 = 10.0;

/// An attempt that is over.
#[derive(Debug, Clone)]
pub struct Tried {
    /// Its number, from 1.
    pub number: u32,
    /// The tree it made, where it could change one.
    pub tree: Option<TreeId>,
    /// What it changed.
    pub files: Vec<FileChange>,
    /// Its closing words.
    pub text: String,
    /// Its structured output.
    pub output: Option<Value>,
    /// What its gates said.
    pub gates: Vec<GateResult>,
    /// Whether it may win.
    pub passed: bool,
    /// The reviewer's score, 0 to 10.
    pub score: Option<f64>,
    /// Why that score.
    pub reason: String,
    /// Why it ended before its gates.
    lost: Option<(Ending, String)>,
}

impl Tried {
    /// In a line for people.
    pub(super) fn told(&self, best: &BestOf, kept: bool) -> String {
        let mut line = format!("attempt {} of {}: ", self.number, best.n);
        match (&self.lost, self.passed, self.score) {
            (Some((_, why)), ..) => line.push_str(why),
            (None, false, _) => line.push_str("its gates did not pass"),
            (None, true, Some(score)) => line.push_str(&format!("score {score}, {}", self.reason)),
            (None, true, None) => line.push_str("passed"),
        }
        if kept {
            line.push_str(" (kept)");
        }
        line
    }
}

impl State {
    fn best_of(&self, index: usize) -> Option<BestOf> {
        self.quality(index)?.best_of.clone().filter(|_| !self.steps[index].quality.decided)
    }

    /// An attempt's work and gates are done. False where the step makes only one attempt: its gates decide.
    pub(in crate::run) fn attempt_over(&mut self, index: usize) -> bool {
        let Some(best) = self.best_of(index) else { return false };
        let order = self.plan_step(index).map(|step| step.gates.clone()).unwrap_or_default();
        let tree = self.steps[index].after.clone();
        let step = &mut self.steps[index];
        step.gates_now.sort_by_key(|result| order.iter().position(|gate| *gate == result.gate));
        let gates = step.gates_now.clone();
        let passed =
            gates.iter().all(|result| result.verdict == Verdict::Pass || self.outcome_of(result) == OnGateFail::Warn);
        let led_to = if passed { "a warning" } else { "this attempt cannot be kept" };
        let step = &mut self.steps[index];
        let attempt = step.attempt;
        if step.quality.tried.is_empty() {
            step.quality.gates_from.0 = step.gates.len();
        }
        step.quality.gates_from.1 = step.gates.len();
        step.gates.extend(gates.iter().map(|result| Attempted {
            attempt,
            result: result.clone(),
            led_to: if result.verdict == Verdict::Pass { String::new() } else { led_to.to_owned() },
        }));
        step.quality.tried.push(Tried {
            number: attempt,
            tree,
            files: step.files.clone(),
            text: step.text.clone(),
            output: step.output.clone(),
            gates,
            passed,
            score: None,
            reason: String::new(),
            lost: None,
        });
        if passed && best.by == BestBy::Score {
            self.ask(index, Ask::Score);
        } else {
            self.next_or_best(index);
        }
        true
    }

    /// An attempt, or the question about it, fails. True where others are, or may come, in its place.
    pub(in crate::run) fn attempt_lost(&mut self, index: usize, ending: Ending, message: &str) -> bool {
        if self.best_of(index).is_none() {
            return false;
        }
        let step = &mut self.steps[index];
        if matches!(step.phase, Phase::Idle | Phase::Joining | Phase::Forking | Phase::Before)
            || matches!(step.phase, Phase::Undoing | Phase::RollingBack | Phase::Settling)
        {
            return false;
        }
        // Whatever comes now has a time limit of its own.
        let now = self.now_ms;
        let asking = step.quality.asking.as_ref().map(|asking| asking.ask);
        if matches!(asking, Some(Ask::Score | Ask::Pick)) {
            step.attempt_started_ms = now;
            self.gave_up(index, Lost::Gone(ending, message.to_owned()));
            return true;
        }
        let passed = step.quality.tried.iter().any(|tried| tried.passed);
        if !matches!(ending, Ending::Failed | Ending::Limit) && (!passed || ending == Ending::Misconfigured) {
            return false;
        }
        step.attempt_started_ms = now;
        if step.quality.tried.is_empty() {
            step.quality.gates_from.0 = step.gates.len();
        }
        step.quality.gates_from.1 = step.gates.len();
        step.quality.tried.push(Tried {
            number: step.attempt,
            tree: None,
            files: Vec::new(),
            text: String::new(),
            output: None,
            gates: Vec::new(),
            passed: false,
            score: None,
            reason: String::new(),
            lost: Some((ending, message.to_owned())),
        });
        self.next_or_best(index);
        true
    }

    pub(super) fn scored(&mut self, index: usize, score: Option<f64>, reason: &str) {
        if let Some(tried) = self.steps[index].quality.tried.last_mut() {
            tried.score = score;
            tried.reason = reason.to_owned();
        }
        self.next_or_best(index);
    }

    /// Begins the next attempt, or finds the best one.
    fn next_or_best(&mut self, index: usize) {
        let Some(best) = self.best_of(index) else { return };
        let quality = &self.steps[index].quality;
        let made = quality.tried.len() as u32;
        let enough = best.min_score.unwrap_or(TOP_SCORE);
        let good = quality.tried.last().and_then(|tried| tried.score).is_some_and(|score| score >= enough);
        if made < best.n && !good {
            let least = NanoUsd::from_usd(best.min_budget_for_new_attempt);
            match self.money_left(index).filter(|left| *left < least) {
                None => {
                    self.steps[index].pending_feedback = None;
                    return self.undo(index);
                }
                Some(left) => {
                    let id = self.plan_step(index).map(|step| step.id.to_string()).unwrap_or_default();
                    self.notes.push(format!(
                        "step `{id}`: no attempt after {made} of {}: {left} of the budget is left, and a new one wants \
                         {least} (`min_budget_for_new_attempt`)",
                        best.n
                    ));
                }
            }
        }
        self.find_best(index, &best);
    }

    /// What is left of the run's budget (its own, or what shared ones leave it) and of the step's, whichever is less;
    /// `None`: neither has one.
    fn money_left(&self, index: usize) -> Option<NanoUsd> {
        let run = self.budget().map(|cap| cap.minus(self.spend.cost.plus(self.reserved)));
        let step = self.plan_step(index).and_then(|step| step.limits.max_cost_per_step_usd);
        let step = step.map(|cap| NanoUsd::from_usd(cap).minus(self.steps[index].spend.cost));
        run.into_iter().chain(step).min()
    }

    fn find_best(&mut self, index: usize, best: &BestOf) {
        let quality = &self.steps[index].quality;
        let passed: Vec<&Tried> = quality.tried.iter().filter(|tried| tried.passed).collect();
        match passed.as_slice() {
            [] => self.none_passed(index),
            [only] => {
                let number = only.number;
                self.keep_attempt(index, number);
            }
            [first, rest @ ..] => match best.by {
                BestBy::Choose => self.ask(index, Ask::Pick),
                BestBy::Score => {
                    let score = |tried: &Tried| tried.score.unwrap_or(-1.0);
                    let best =
                        rest.iter().fold(*first, |best, next| if score(next) > score(best) { next } else { best });
                    let number = best.number;
                    self.keep_attempt(index, number);
                }
            },
        }
    }

    pub(super) fn picked(&mut self, index: usize, best: Option<f64>, reason: &str) {
        let quality = &mut self.steps[index].quality;
        let passed = |tried: &&mut Tried| tried.passed;
        let number = quality
            .tried
            .iter_mut()
            .filter(passed)
            .find(|tried| best.is_some_and(|best| best == f64::from(tried.number)))
            .map(|tried| {
                tried.reason = reason.to_owned();
                tried.number
            });
        let first = quality.tried.iter().find(|tried| tried.passed).map(|tried| tried.number);
        if let Some(number) = number.or(first) {
            self.keep_attempt(index, number);
        }
    }

    /// The ordinary way of a step whose work is not acceptable, with the last attempt's reasons.
    fn none_passed(&mut self, index: usize) {
        let id = self.plan_step(index).map(|step| step.id.to_string()).unwrap_or_default();
        let step = &mut self.steps[index];
        step.quality.decided = true;
        let made = step.quality.tried.len();
        let last = step.quality.tried.last().and_then(|tried| tried.lost.clone());
        let from = step.quality.gates_from.1;
        self.notes.push(format!("step `{id}`: none of {made} attempts passed"));
        match last {
            Some((ending, message)) => self.fail(index, ending, message),
            None => {
                // They are written once more, with what they lead to.
                self.steps[index].gates.truncate(from);
                self.judge(index);
            }
        }
    }

    /// Puts an attempt's tree in place.
    fn keep_attempt(&mut self, index: usize, number: u32) {
        let step = &mut self.steps[index];
        step.quality.decided = true;
        step.quality.kept = Some(number);
        let is_last = step.quality.tried.last().is_some_and(|tried| tried.number == number);
        let writes = self.plan_step(index).is_some_and(|plan| plan.writes);
        let tree = self.kept_tree(index);
        match tree.filter(|_| writes && !is_last) {
            Some(tree) => {
                self.steps[index].phase = Phase::Settling;
                self.emit(index, Work::Restore { tree });
            }
            None => self.settle_best(index),
        }
    }

    fn kept_tree(&self, index: usize) -> Option<TreeId> {
        let quality = &self.steps[index].quality;
        quality.tried.iter().find(|tried| Some(tried.number) == quality.kept)?.tree.clone()
    }

    /// The best attempt's tree is in the workspace.
    pub(in crate::run) fn settle_best(&mut self, index: usize) {
        let Some(plan) = self.plan_step(index) else { return };
        let (own_copy, writes) = (plan.own_copy, plan.writes);
        let id = self.plan_step(index).map(|step| step.id.to_string()).unwrap_or_default();
        let quality = &self.steps[index].quality;
        let Some(kept) = quality.tried.iter().find(|tried| Some(tried.number) == quality.kept).cloned() else {
            return;
        };
        if !own_copy && writes && kept.tree.is_some() {
            self.main_tree.clone_from(&kept.tree);
        }
        let step = &mut self.steps[index];
        step.attempt = kept.number;
        step.after.clone_from(&kept.tree);
        step.files = kept.files;
        step.text = kept.text;
        step.output = kept.output;
        // What a step's gates said last is what they say of its work.
        let from = step.quality.gates_from.0.min(step.gates.len());
        let (own, others): (Vec<_>, Vec<_>) =
            step.gates.split_off(from).into_iter().partition(|gate| gate.attempt == kept.number);
        step.gates.extend(others);
        step.gates.extend(own);
        let failed: Vec<&GateResult> = kept.gates.iter().filter(|result| result.verdict != Verdict::Pass).collect();
        if let Some(result) = failed.first() {
            let message = format!("gate `{}` did not pass ({})", result.gate, result.detail);
            self.notes.push(format!("step `{id}`: {message}; its work was kept (`on_fail: warn`)"));
        } else if !kept.gates.is_empty() {
            self.last_green = self.tree_to_check(index);
        }
        self.keep(index);
    }
}
