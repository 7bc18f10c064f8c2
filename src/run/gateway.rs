//! Questions of a program in the sandbox: counted, paid, answered; beside whatever phase its step is in, several at
//! once.

use super::stall;
use super::state::{ParkedCall, Phase, State};
use crate::model::account::Ending;
use crate::model::chat::{ModelError, ModelFault};
use crate::model::id::StepId;
use crate::model::journal::{Effect, Input, Purpose, Work};
use crate::model::policy::Decision;
use crate::model::tool::{RuleRef, Ruling};

/// Refusals of one step that its account lists.
const LISTED: usize = 20;

impl Purpose {
    /// Whether a program in the sandbox asks.
    pub(super) fn is_gateway(&self) -> bool {
        matches!(self, Self::Gateway(_))
    }
}

impl State {
    /// Whether a program of the step may ask: it is at work.
    pub(super) fn may_ask(&self, step: &StepId) -> bool {
        self.index(step)
            .is_some_and(|index| self.steps[index].is_running() && self.steps[index].phase == Phase::Backend)
    }

    /// The number of the step's last question.
    pub fn last_question(&self, step: &StepId) -> u64 {
        self.step(step).map_or(0, |step| step.asked)
    }

    /// Whether a question waits for its answer, or for money.
    pub fn is_asking(&self, step: &StepId, number: u64) -> bool {
        let ours = |purpose: &Purpose| *purpose == Purpose::Gateway(number);
        let parked = self.step(step).is_some_and(|step| step.parked.iter().any(|call| ours(&call.purpose)));
        parked
            || self.outstanding.values().any(|effect| {
                effect.step.as_ref() == Some(step)
                    && match &effect.work {
                        Work::CallModel { purpose, .. } | Work::Compose { purpose, .. } => ours(purpose),
                        _ => false,
                    }
            })
    }

    /// Why a step has come to its end, or is about to, where a limit is the reason.
    pub fn limit_of(&self, step: &StepId) -> Option<&str> {
        let step = self.step(step)?;
        match (&step.failing, step.ended_as, &step.error) {
            (Some((Ending::Limit, why)), ..) | (None, Some(Ending::Limit), Some(why)) => Some(why),
            _ => None,
        }
    }

    /// Takes a question, or the refusal of one.
    pub(super) fn hear(&mut self, input: Input) {
        match input {
            Input::Asked { step, number, model, input_tokens, max_output, cost, request_hash, .. } => {
                let Some(index) = self.index(&step) else { return };
                let tokens = input_tokens.saturating_add(max_output);
                let purpose = Purpose::Gateway(number);
                self.asked(index, number, ParkedCall { model, purpose, tokens, cost, hash: request_hash });
            }
            Input::AskRefused { step, what, why } => {
                let Some(index) = self.index(&step) else { return };
                if self.choose(index, &Purpose::Gateway(0)).is_none() {
                    self.steps[index].no_model = Some(why.clone());
                }
                let denials = &mut self.steps[index].denials;
                if denials.len() < LISTED {
                    denials.push((format!("gateway `{what}`"), ruling(why)));
                }
            }
            _ => {}
        }
    }

    fn asked(&mut self, index: usize, number: u64, call: ParkedCall) {
        let Some(plan) = self.plan_step(index) else { return };
        let (most, id) = (plan.limits.max_turns, plan.id.clone());
        let step = &mut self.steps[index];
        step.asked = number;
        step.questions += 1;
        if let Some(most) = most.filter(|most| step.questions > *most) {
            let message = format!(
                "step `{id}`: its program asked for more than {most} answers of a model; raise `max_steps`, or split \
                 the step"
            );
            return self.fail(index, Ending::Limit, message);
        }
        self.ask_for_money(index, call);
    }

    /// The model answered a program.
    pub(super) fn question_answered(&mut self, index: usize) {
        self.steps[index].no_model = None;
        let plan = std::sync::Arc::clone(&self.plan);
        let Some((_, plan)) = plan.steps.get_index(index) else { return };
        let facts = stall::Facts {
            turns: self.steps[index].questions,
            cost_usd: self.spend.cost.usd(),
            // What a program reads is not its step's last word.
            text: "",
            elapsed_ms: (self.now_ms - self.started_ms).max(0) as u64,
            stalled: false,
        };
        if let Some(held) = plan.limits.stop.as_ref().and_then(|stop| stall::holds(stop, &facts)) {
            let message = format!("step `{}` was stopped by its condition {held}", plan.id);
            self.fail(index, Ending::Limit, message);
        }
    }

    /// Which of the step's models a question of so many tokens goes to now; `None`: nobody is left.
    pub fn model_for_question(&self, step: &StepId, estimated_tokens: u64) -> Option<usize> {
        let index = self.index(step)?;
        let spec = self.agent_spec(index)?;
        let purpose = Purpose::Gateway(0);
        let long = estimated_tokens > spec.long_context_tokens && spec.long_context_tokens > 0;
        if long && !spec.long_context.is_empty() {
            let places = spec.models.len()..spec.models.len() + spec.long_context.len();
            return places.clone().find(|at| self.is_awake(index, &purpose, *at)).or(Some(places.start));
        }
        self.choose(index, &purpose)
    }

    /// The model could not be had: another one of the scenario is asked, or the program is told.
    pub(super) fn question_failed(&mut self, index: usize, cause: &Effect, error: &ModelError) {
        let Work::CallModel { model, purpose, .. } = &cause.work else { return };
        self.call_failed(index, purpose, *model, error);
        if matches!(error.fault, ModelFault::BadRequest | ModelFault::TooLong | ModelFault::Unmatched) {
            self.steps[index].no_model = None;
            return;
        }
        self.steps[index].tried.push((purpose.clone(), *model));
        let Some(next) = self.choose(index, purpose) else {
            self.steps[index].no_model = Some(error.message.clone());
            return;
        };
        self.note_rest(index, purpose, (*model, next), error);
        self.emit(index, Work::Compose { model: next, purpose: purpose.clone() });
    }

    /// The engine was started anew: nobody waits for the answers any more.
    pub(super) fn forget_questions(&mut self) {
        for step in &mut self.steps {
            step.parked.retain(|call| !call.purpose.is_gateway());
        }
    }
}

/// What the gateway decided, as the account shows decisions.
fn ruling(reason: String) -> Ruling {
    Ruling {
        decision: Decision::Deny,
        by: RuleRef { policy: "gateway".into(), rule: None, file: "built in".into(), line: 0 },
        reason,
        advice: String::new(),
        allow_with: None,
    }
}

#[cfg(test)]
mod tests;
