//! The run's state machine: `apply(state, time, input) -> effects`.
//!
//! It is synchronous and pure: no I/O, no clock, no environment. A run's state is the fold of [`State::apply`] over
//! its journal's inputs, so replaying a journal gives the same state and the same outstanding effects. The engine
//! performs effects after they are committed and feeds their results back.
//!
//! A step is a transaction: snapshot → work → gates → keep or restore. Its phases:
//!
//! ```text
//! waiting → (join, fork) → snapshot before → ┬ compose → model → tools ┐ → snapshot after → gates → keep
//!                                ▲           └───────── command ───────┘                      │
//!                                └──────────────── restore (retry) ◀──────────────────────────┤
//!                                                  restore (rollback) → failed ◀──────────────┘
//! ```
//!
//! What `quality:` adds (samples of a turn, judges, guards, debates, several attempts) stands in [`quality`].

mod account;
mod agent_step;
mod backend;
mod finish;
mod flow;
mod gates;
mod gateway;
mod money;
pub mod quality;
mod route;
mod stall;
mod state;
mod view;

pub use account::account;
pub use state::{Attempted, Feedback, State, StepState};
pub use view::{Deadline, values};

use crate::model::account::Ending;
use crate::model::journal::{Effect, Fault, Input, Work};
use state::{Phase, Stage};

impl State {
    /// Takes one input and returns what is to be done because of it. An input that nothing waits for (a late
    /// result, a second deadline) changes nothing; [`State::expects`] tells beforehand.
    ///
    /// `at_ms`: when it happened, milliseconds since 1970; equals the row's time when a journal is replayed.
    pub fn apply(&mut self, at_ms: i64, input: Input) -> Vec<Effect> {
        if !self.expects(&input) {
            return Vec::new();
        }
        self.now_ms = self.now_ms.max(at_ms);
        if let Input::Recalled { step, entries } = input {
            // It comes between an intent and its answer, and starts nothing.
            if let Some(index) = self.index(&step) {
                self.steps[index].experience = Some(entries);
            }
            return Vec::new();
        }
        let cause = input.key().and_then(|key| self.outstanding.shift_remove(key));
        match input {
            Input::Started { allowances, .. } | Input::Resumed { allowances, .. } => {
                self.forget_questions();
                self.admitted(allowances);
                if self.stage == Stage::New {
                    self.stage = Stage::Preparing;
                    self.emit_run(Work::Prepare);
                }
            }
            Input::CancelRequested { reason } => self.end(Ending::Cancelled, reason),
            Input::DeadlinePassed { step } => self.deadline_passed(step.as_ref()),
            Input::Asked { .. } | Input::AskRefused { .. } => self.hear(input),
            keyed => {
                if let Some(cause) = cause {
                    self.settle(cause, keyed);
                }
            }
        }
        self.advance();
        std::mem::take(&mut self.emitted)
    }

    /// Whether [`State::apply`] would do anything with this input. What is not expected need not be journaled.
    pub fn expects(&self, input: &Input) -> bool {
        if self.ending.is_some() {
            return false;
        }
        match input {
            Input::Started { .. } => self.stage == Stage::New,
            Input::Resumed { .. } | Input::CancelRequested { .. } => true,
            Input::DeadlinePassed { step: None } => true,
            Input::Asked { step, .. } | Input::AskRefused { step, .. } => self.may_ask(step),
            Input::Recalled { step, .. } => {
                let undecided = |index: usize| self.steps[index].is_running() && self.steps[index].experience.is_none();
                self.index(step).is_some_and(undecided)
            }
            Input::DeadlinePassed { step: Some(step) } => {
                self.index(step).is_some_and(|index| self.steps[index].is_running())
            }
            keyed => keyed.key().is_some_and(|key| self.outstanding.contains_key(key)),
        }
    }

    /// Sends the result of an effect to where it belongs.
    fn settle(&mut self, cause: Effect, input: Input) {
        if let Input::EffectFailed { fault, message, .. } = input {
            return self.effect_failed(&cause, fault, message);
        }
        match cause.step.as_ref().and_then(|step| self.index(step)) {
            Some(index) => self.settle_step(index, cause, input),
            None => self.settle_run(cause, input),
        }
    }

    fn settle_step(&mut self, index: usize, cause: Effect, input: Input) {
        match input {
            Input::Composed { input_tokens, estimated_tokens, max_output, cost, request_hash, prompt, .. } => {
                let tokens = input_tokens.saturating_add(max_output);
                let request = money::Request { tokens, cost, hash: request_hash, prompt };
                self.composed(index, cause, estimated_tokens, request);
            }
            // The program that asked has gone.
            Input::NotComposed { .. } if is_question(&cause) => {}
            Input::NotComposed { message, .. } => self.fail(index, Ending::Misconfigured, message),
            Input::Answered { answer, bill, .. } => {
                self.charge(index, &cause, Some(&bill));
                self.call_answered(index, &cause);
                if is_question(&cause) {
                    return self.question_answered(index);
                }
                self.answer(index, &cause, answer);
            }
            Input::ModelFailed { error, .. } => {
                self.charge_failed(index, &cause, error.bill.as_ref());
                if is_question(&cause) {
                    return self.question_failed(index, &cause, &error);
                }
                self.model_failed(index, &cause, error);
            }
            Input::OutcomeUnknown { .. } => {
                self.charge(index, &cause, None);
                self.ask_again(index, &cause);
            }
            Input::ToolDone { outcome, .. } => self.tool_done(index, cause, outcome),
            Input::CommandDone { outcome, .. } => self.command_done(index, outcome),
            Input::BackendDone { outcome, .. } => self.backend_done(index, outcome),
            Input::Snapshotted { tree, files, .. } => self.snapshotted(index, tree, files),
            Input::Restored { discarded, .. } => self.restored(index, discarded),
            Input::GateDone { result, .. } => self.gate_done(index, result),
            Input::Joined { tree, conflicts, .. } => self.step_joined(index, &cause, tree, conflicts),
            // Started, Prepared and the like never answer a step's effect; a fork is answered by `Snapshotted`.
            _ => {}
        }
    }

    fn settle_run(&mut self, cause: Effect, input: Input) {
        match input {
            Input::Prepared { driver, workspace, notes, .. } => self.prepared(driver, workspace, notes),
            Input::Snapshotted { tree, .. } => self.final_tree(tree),
            Input::Joined { tree, conflicts, .. } => self.main_joined(&cause, tree, conflicts),
            Input::GateDone { result, .. } => self.final_gate_done(result),
            Input::DeliveryDone { delivered, .. } => self.delivered(delivered),
            _ => {}
        }
    }

    fn effect_failed(&mut self, cause: &Effect, fault: Fault, message: String) {
        let ending = match fault {
            Fault::User => Ending::Misconfigured,
            Fault::Denied => Ending::Denied,
            Fault::Environment => Ending::Unavailable,
            Fault::Unknown => Ending::Failed,
        };
        match cause.step.as_ref().and_then(|step| self.index(step)) {
            // A restore that fails leaves a tree that nobody knows: nothing may be built on it.
            Some(index) if matches!(cause.work, Work::Restore { .. }) || fault == Fault::Unknown => {
                self.steps[index].error = Some(message.clone());
                self.steps[index].phase = Phase::Idle;
                self.end(ending, message);
            }
            Some(index) => {
                self.release(index, cause);
                self.fail(index, ending, message);
                self.wake_parked();
            }
            None => self.end(ending, message),
        }
    }

    fn deadline_passed(&mut self, step: Option<&crate::model::id::StepId>) {
        match step {
            None => {
                let limit = self.plan.limits.timeout_ms.unwrap_or_default();
                self.limit_hit(format!(
                    "the run's time limit of {} has passed; raise `timeout:` in the workflow or the policy",
                    view::span(limit)
                ));
            }
            Some(step) => {
                if let Some(index) = self.index(step) {
                    self.abandon_effects(index);
                    let limit = self.plan_step(index).and_then(|step| step.timeout_ms).unwrap_or_default();
                    self.fail(
                        index,
                        Ending::Limit,
                        format!(
                            "step `{step}` ran past its time limit of {}; raise the step's `timeout:`",
                            view::span(limit)
                        ),
                    );
                }
            }
        }
    }
}

/// Whether a program in the sandbox asked for a call.
fn is_question(cause: &Effect) -> bool {
    match &cause.work {
        Work::CallModel { purpose, .. } | Work::Compose { purpose, .. } => purpose.is_gateway(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod trial;
