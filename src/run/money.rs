//! Budgets: reserved before each call, settled after it.
//!
//! Invariant, at every prefix of the journal: settled + outstanding ≤ budget, except where a bill exceeded its
//! reservation (then it is shown).

use super::state::{ParkedCall, Phase, State};
use crate::model::account::{Ending, Spend};
use crate::model::chat::Bill;
use crate::model::journal::{Effect, Purpose, Work};
use crate::model::usage::NanoUsd;

/// What the budget says to a call.
enum Word {
    Go,
    Wait,
    Never(String),
}

impl State {
    /// A request is ready: reserve its cost and send it, wait for money, or stop at the limit.
    pub(super) fn composed(
        &mut self,
        index: usize,
        cause: Effect,
        tokens: u64,
        cost: Option<NanoUsd>,
        hash: String,
        prompt: Option<String>,
    ) {
        let Work::Compose { model, purpose } = cause.work else { return };
        if let Some(prompt) = prompt {
            self.steps[index].prompt = Some(prompt);
        }
        self.ask_for_money(index, ParkedCall { model, purpose, tokens, cost, hash });
    }

    pub(super) fn ask_for_money(&mut self, index: usize, call: ParkedCall) {
        let own = !call.purpose.is_gateway();
        match self.word(index, &call) {
            Word::Go => {
                self.reserved = self.reserved.plus(call.cost.unwrap_or_default());
                self.reserved_tokens = self.reserved_tokens.saturating_add(call.tokens);
                if own {
                    self.steps[index].phase = Phase::Calling;
                }
                self.sample_sent(index, &call.purpose);
                let why = self.agent_spec(index).map(|spec| format!("scenario {}", spec.scenario)).unwrap_or_default();
                self.emit(
                    index,
                    Work::CallModel {
                        model: call.model,
                        purpose: call.purpose,
                        why: if own { String::new() } else { why },
                        reserved_tokens: call.tokens,
                        reserved_cost: call.cost,
                        request_hash: call.hash,
                    },
                );
            }
            Word::Wait if self.sample_left_out(index, &call.purpose) => {}
            Word::Wait => {
                if own {
                    self.steps[index].phase = Phase::Parked;
                }
                self.steps[index].parked.push(call);
            }
            Word::Never(why) if self.unaffordable(index, &call, &why) => {}
            Word::Never(why) => self.fail(index, Ending::Limit, why),
        }
    }

    fn word(&self, index: usize, call: &ParkedCall) -> Word {
        let limits = &self.plan.limits;
        let cost = call.cost.unwrap_or_default();
        if let Some(budget) = limits.max_cost_usd.map(NanoUsd::from_usd) {
            if self.spend.cost.plus(cost) > budget {
                return Word::Never(format!(
                    "the next model call could cost up to {cost}, and {} of the budget of {budget} is spent; raise \
                     `budget.max_cost_usd` (or `--budget`), or choose a cheaper model",
                    self.spend.cost
                ));
            }
            if self.spend.cost.plus(self.reserved).plus(cost) > budget {
                return Word::Wait;
            }
        }
        if let Some(cap) = self.plan_step(index).and_then(|step| step.limits.max_cost_per_step_usd)
            && self.steps[index].spend.cost.plus(cost) > NanoUsd::from_usd(cap)
        {
            return Word::Never(format!(
                "the next model call could cost up to {cost}, and the step has spent {} of the {} it may; raise \
                 `max_cost_per_step_usd` in the policy or the step's `budget`",
                self.steps[index].spend.cost,
                NanoUsd::from_usd(cap)
            ));
        }
        if let Some(cap) = self.plan_step(index).and_then(|step| step.limits.max_cost_per_step_usd)
            && self.steps[index].spend.cost.plus(self.out_of(index)).plus(cost) > NanoUsd::from_usd(cap)
        {
            return Word::Wait;
        }
        if let Some(cap) = limits.max_tokens {
            let spent = self.spend.usage.total();
            if spent.saturating_add(call.tokens) > cap {
                return Word::Never(format!(
                    "the next model call could take up to {} tokens, and {spent} of {cap} are used; raise \
                     `budget.max_tokens`",
                    call.tokens
                ));
            }
            if spent.saturating_add(self.reserved_tokens).saturating_add(call.tokens) > cap {
                return Word::Wait;
            }
        }
        Word::Go
    }

    /// What the step's model calls that are out have reserved.
    fn out_of(&self, index: usize) -> NanoUsd {
        let id = self.plan_step(index).map(|step| &step.id);
        let own = self.outstanding.values().filter(|effect| effect.step.as_ref() == id);
        own.fold(NanoUsd::default(), |sum, effect| match effect.work {
            Work::CallModel { reserved_cost, .. } => sum.plus(reserved_cost.unwrap_or_default()),
            _ => sum,
        })
    }

    /// Frees what an effect had reserved.
    pub(super) fn release(&mut self, _index: usize, cause: &Effect) {
        if let Work::CallModel { reserved_tokens, reserved_cost, .. } = &cause.work {
            self.reserved = NanoUsd(self.reserved.0.saturating_sub(reserved_cost.unwrap_or_default().0));
            self.reserved_tokens = self.reserved_tokens.saturating_sub(*reserved_tokens);
        }
    }

    /// Charges a call. Without a bill its outcome is unknown, and its reservation is what it cost.
    pub(super) fn charge(&mut self, index: usize, cause: &Effect, bill: Option<&Bill>) {
        self.release(index, cause);
        let Work::CallModel { model, purpose, reserved_tokens, reserved_cost, .. } = &cause.work else { return };
        let mut spend = Spend { calls: 1, ..Spend::default() };
        let name = match bill {
            Some(bill) => {
                spend.usage = bill.usage.unwrap_or_default();
                match bill.cost {
                    Some(cost) => spend.cost = cost,
                    None => spend.unknown_calls = 1,
                }
                bill.model.clone()
            }
            None => {
                spend.usage.input = *reserved_tokens;
                match reserved_cost {
                    Some(cost) => spend.cost = *cost,
                    None => spend.unknown_calls = 1,
                }
                self.model_name(index, purpose, *model)
            }
        };
        if let (Some(cost), Some(reserved)) = (bill.and_then(|bill| bill.cost), reserved_cost)
            && cost > *reserved
        {
            self.notes.push(format!("a call of {name} was billed {cost}, more than the {reserved} reserved for it"));
        }
        add(&mut self.spend, &spend);
        add(&mut self.steps[index].spend, &spend);
        self.note_purpose(index, purpose, &spend);
        add(self.by_model.entry(name).or_default(), &spend);
        self.warn_of_budget();
        self.wake_parked();
    }

    /// A failed call: charged where the provider billed it all the same.
    pub(super) fn charge_failed(&mut self, index: usize, cause: &Effect, bill: Option<&Bill>) {
        match bill {
            Some(bill) => self.charge(index, cause, Some(bill)),
            None => {
                self.release(index, cause);
                self.wake_parked();
            }
        }
    }

    fn warn_of_budget(&mut self) {
        let Some(budget) = self.plan.limits.max_cost_usd.filter(|budget| *budget > 0.0) else { return };
        let reached = |at: &f64| self.spend.cost >= NanoUsd::from_usd(budget * at);
        while let Some(at) = self.plan.warn_at.get(self.warned).copied().filter(reached) {
            self.warned += 1;
            self.notes.push(format!("{:.0} % of the budget of ${budget:.2} is spent", at * 100.0));
        }
    }

    fn wake_parked(&mut self) {
        if self.ending.is_some() {
            return;
        }
        for index in 0..self.steps.len() {
            for call in std::mem::take(&mut self.steps[index].parked) {
                // The one before may have ended the step.
                if self.steps[index].is_running() && self.steps[index].failing.is_none() {
                    self.ask_for_money(index, call);
                }
            }
        }
    }

    fn model_name(&self, index: usize, purpose: &Purpose, model: usize) -> String {
        self.models_for(index, purpose).get(model).map_or_else(|| "unknown".to_owned(), |model| model.name.clone())
    }
}

/// Adds one spending to another.
pub(super) fn add(sum: &mut Spend, more: &Spend) {
    sum.usage += more.usage;
    sum.cost = sum.cost.plus(more.cost);
    sum.unknown_calls += more.unknown_calls;
    sum.calls += more.calls;
}
