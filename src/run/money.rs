//! Budgets: reserved before each call, settled after it. One place for whoever asks: an agent, a judge, a guard, a
//! program in the sandbox.
//!
//! Invariant, at every prefix of the journal: settled + outstanding ≤ budget, except where a bill exceeded its
//! reservation (then it is shown). The budgets: of a call, a step, the run, and what the run was given of those that it
//! shares with other runs (change, actor, workflow, day).

use super::state::{ParkedCall, Phase, Stage, State};
use crate::model::account::{Ending, Spend};
use crate::model::budget::Allowance;
use crate::model::chat::Bill;
use crate::model::journal::{Effect, Work};
use crate::model::usage::NanoUsd;

/// What the budget says to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    /// It may be made; reserve it.
    Go,
    /// Not while other calls are out.
    Wait,
    /// Never: why, and what to do.
    Never(String),
}

impl State {
    /// The run's budget: its own, or less where a shared one leaves less.
    pub fn budget(&self) -> Option<NanoUsd> {
        let own = self.plan.limits.max_cost_usd.map(NanoUsd::from_usd);
        self.allowances.iter().map(|allowance| allowance.granted).chain(own).min()
    }

    /// What the run was given of shared budgets. Where that is nothing, it ends before it has begun.
    pub(super) fn admitted(&mut self, allowances: Vec<Allowance>) {
        if !allowances.is_empty() {
            self.allowances = allowances;
        }
        let spent = self.spend.cost;
        if self.stage == Stage::New
            && let Some(spent_up) = self.allowances.iter().find(|allowance| allowance.leaves_nothing(spent))
        {
            let reason = spent_up.refusal();
            return self.end(Ending::Limit, reason);
        }
        self.warn_of_budget();
    }

    /// A request is ready: reserve its cost and send it, wait for money, or stop at the limit. A long one is put
    /// together again for the models of long requests.
    pub(super) fn composed(&mut self, index: usize, cause: Effect, estimated_tokens: u64, request: Request) {
        let Work::Compose { model, purpose } = cause.work else { return };
        if let Some(prompt) = request.prompt {
            self.steps[index].prompt = Some(prompt);
        }
        // Where one of several samples has turned out to be long, all are.
        if self.turns_long(index, estimated_tokens) || !self.chain(index, &purpose).contains(&model) {
            return self.compose_for(index, purpose);
        }
        let Request { tokens, cost, hash, .. } = request;
        self.ask_for_money(index, ParkedCall { model, purpose, tokens, cost, hash });
    }

    pub(super) fn ask_for_money(&mut self, index: usize, call: ParkedCall) {
        let own = !call.purpose.is_gateway();
        // Meanwhile its model may have gone to rest.
        if own
            && !self.is_awake(index, &call.purpose, call.model)
            && self.choose(index, &call.purpose) != Some(call.model)
        {
            return self.compose_for(index, call.purpose);
        }
        match self.word(index, call.tokens, call.cost) {
            Word::Go => {
                self.reserved = self.reserved.plus(call.cost.unwrap_or_default());
                self.reserved_tokens = self.reserved_tokens.saturating_add(call.tokens);
                if own {
                    self.steps[index].phase = Phase::Calling;
                }
                self.sample_sent(index, &call.purpose);
                let why = self.why(index, &call.purpose, call.model);
                self.emit(
                    index,
                    Work::CallModel {
                        model: call.model,
                        purpose: call.purpose,
                        why,
                        reserved_tokens: call.tokens,
                        reserved_cost: call.cost,
                        request_hash: call.hash,
                    },
                );
            }
            Word::Wait if self.sample_left_out(index, &call.purpose) => {}
            Word::Wait => {
                if own && self.out_of(index).next().is_none() {
                    self.steps[index].phase = Phase::Parked;
                }
                self.steps[index].parked.push(call);
            }
            Word::Never(why) if self.unaffordable(index, &call, &why) => {}
            Word::Never(why) => self.fail(index, Ending::Limit, why),
        }
    }

    /// The step's model calls that are out: what each has reserved.
    fn out_of(&self, index: usize) -> impl Iterator<Item = (u64, NanoUsd)> {
        let id = self.plan_step(index).map(|step| &step.id);
        self.outstanding.values().filter(move |effect| effect.step.as_ref() == id).filter_map(|effect| {
            match effect.work {
                Work::CallModel { reserved_tokens, reserved_cost, .. } => {
                    Some((reserved_tokens, reserved_cost.unwrap_or_default()))
                }
                _ => None,
            }
        })
    }

    /// Whether a call of the step may be made that takes at most `tokens` and costs at most `cost` (`None`: its model
    /// has no price).
    pub(super) fn word(&self, index: usize, tokens: u64, cost: Option<NanoUsd>) -> Word {
        let run = &self.plan.limits;
        let Some(plan) = self.plan_step(index) else { return Word::Go };
        let cost = cost.unwrap_or_default();
        let next = format!("the next model call could cost up to {cost}");
        let per_call = [run.max_cost_per_call_usd, plan.limits.max_cost_per_call_usd].into_iter().flatten();
        if let Some(most) = per_call.map(NanoUsd::from_usd).min().filter(|most| cost > *most) {
            return Word::Never(format!(
                "{next}, and one call may cost {most}; raise `budget.max_cost_per_call_usd` (or `budget.per_call_usd` \
                 in .codeforge/config.yml), or give the model a smaller `max_output`"
            ));
        }
        let mut wait = false;
        // Says whether a budget is broken for good; notes where it is only held by calls that are out.
        let mut breaks = |cap: u64, spent: u64, out: u64, more: u64| {
            wait |= spent.saturating_add(out).saturating_add(more) > cap;
            spent.saturating_add(more) > cap
        };
        let spent = self.spend.cost;
        if let Some(budget) = run.max_cost_usd.map(NanoUsd::from_usd)
            && breaks(budget.0, spent.0, self.reserved.0, cost.0)
        {
            let then = match &self.plan.price {
                Some(price) => format!("that is the price that {} approved. {}", price.by, price.more),
                None => "raise `budget.max_cost_usd` (or `--budget`), or choose a cheaper model".to_owned(),
            };
            return Word::Never(format!("{next}, and {spent} of the budget of {budget} is spent; {then}"));
        }
        for shared in &self.allowances {
            if breaks(shared.granted.0, spent.0, self.reserved.0, cost.0) {
                return Word::Never(format!(
                    "{next}, and the run has spent {spent} of the {} that it was given of the budget of {} {shared} ({} \
                     was spent before it, {} held by other runs); raise `budget.{}` in .codeforge/config.yml",
                    shared.granted,
                    shared.cap,
                    shared.spent_before,
                    shared.held_by_others,
                    shared.scope.config_key()
                ));
            }
        }
        let (mut out_tokens, mut out_cost) = (0u64, NanoUsd::default());
        for (tokens, cost) in self.out_of(index) {
            (out_tokens, out_cost) = (out_tokens.saturating_add(tokens), out_cost.plus(cost));
        }
        let own = &self.steps[index].spend;
        if let Some(cap) = plan.limits.max_cost_per_step_usd.map(NanoUsd::from_usd)
            && breaks(cap.0, own.cost.0, out_cost.0, cost.0)
        {
            return Word::Never(format!(
                "{next}, and the step has spent {} of the {cap} it may; raise `max_cost_per_step_usd` in the policy, \
                 `budget.per_step_usd` in .codeforge/config.yml, or the step's `budget`",
                own.cost
            ));
        }
        let used = self.spend.usage.total();
        let whose =
            [(run.max_tokens, used, self.reserved_tokens), (plan.limits.max_tokens, own.usage.total(), out_tokens)];
        for (cap, used, out) in whose {
            if let Some(cap) = cap
                && breaks(cap, used, out, tokens)
            {
                return Word::Never(format!(
                    "the next model call could take up to {tokens} tokens, and {used} of {cap} are used; raise \
                     `budget.max_tokens`"
                ));
            }
        }
        if wait { Word::Wait } else { Word::Go }
    }

    /// Frees what an effect had reserved.
    pub(super) fn release(&mut self, _index: usize, cause: &Effect) {
        if let Work::CallModel { reserved_tokens, reserved_cost, .. } = &cause.work {
            self.reserved = self.reserved.minus(reserved_cost.unwrap_or_default());
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

    /// Warns at each share of each budget, once.
    fn warn_of_budget(&mut self) {
        let spent = self.spend.cost;
        let own = self.plan.limits.max_cost_usd.map(NanoUsd::from_usd);
        let own = own.map(|budget| (String::new(), spent, budget)).into_iter();
        let shared = self.allowances.iter().map(|it| (format!(" {it}"), it.used(spent), it.cap));
        for (whose, used, budget) in own.chain(shared).filter(|(_, _, budget)| budget.0 > 0).collect::<Vec<_>>() {
            let warned = self.warned.entry(whose.clone()).or_default();
            let reached = |at: &f64| used >= NanoUsd::from_usd(budget.usd() * at);
            while let Some(at) = self.plan.warn_at.get(*warned).copied().filter(reached) {
                *warned += 1;
                self.notes.push(format!("{:.0} % of the budget of ${:.2}{whose} is spent", at * 100.0, budget.usd()));
            }
        }
    }

    pub(super) fn wake_parked(&mut self) {
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
}

/// What is asked for: upper bounds of its tokens (in and out) and its cost, its hash, and on the first turn its prompt.
pub(super) struct Request {
    pub tokens: u64,
    pub cost: Option<NanoUsd>,
    pub hash: String,
    pub prompt: Option<String>,
}

/// Adds one spending to another.
pub(super) fn add(sum: &mut Spend, more: &Spend) {
    sum.usage += more.usage;
    sum.cost = sum.cost.plus(more.cost);
    sum.unknown_calls += more.unknown_calls;
    sum.calls += more.calls;
}

#[cfg(test)]
mod tests;
