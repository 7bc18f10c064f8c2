//! Which model a call goes to: the scenario's chain, who is resting, and long requests.
//!
//! A model that failed (after the adapter's retries) rests for a minute, or for as long as its provider asked; others
//! of the chain are asked meanwhile. Three failures in a row at one provider open its circuit: it is left alone for a
//! minute, then one call probes it. A refused key or an empty account rests for the whole run. All of it follows from
//! the journal's times, so a replay decides the same.

use super::state::State;
use crate::model::account::Ending;
use crate::model::chat::{ModelError, ModelFault, ModelRef};
use crate::model::journal::{Effect, Purpose, Work};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// How long a model, or a provider, that failed is left alone, in milliseconds.
const REST_MS: i64 = 60_000;
/// Failures in a row that open a provider's circuit.
const FAILURES: u32 = 3;

/// What the run has learnt of models and their providers.
#[derive(Debug, Clone, Default)]
pub(super) struct Routes {
    /// By model: until when it rests, and why.
    models: BTreeMap<String, (i64, &'static str)>,
    /// By provider and address.
    circuits: BTreeMap<String, Circuit>,
    /// Providers, with the key that they refuse, that are not asked again in this run.
    barred: BTreeMap<String, &'static str>,
    /// Whose first failure has been told.
    told: BTreeSet<String>,
}

/// A provider's circuit breaker.
#[derive(Debug, Clone, Default)]
struct Circuit {
    /// Failures in a row.
    failures: u32,
    /// Open until then; in the past: half-open, one call may probe.
    open_until_ms: Option<i64>,
}

/// How a model stands for the next call.
enum Standing {
    Ready,
    Rests { until_ms: i64, why: &'static str },
    Barred(&'static str),
}

fn provider(model: &ModelRef) -> String {
    format!("{}\n{}", model.provider, model.base_url.as_deref().unwrap_or_default())
}

fn account_of(model: &ModelRef) -> String {
    format!("{}\n{}", provider(model), model.api_key.as_deref().unwrap_or_default())
}

/// A fault in a few words.
fn words(fault: ModelFault) -> &'static str {
    match fault {
        ModelFault::Auth => "its key was refused",
        ModelFault::Payment => "its account is empty",
        ModelFault::NotFound => "it was not found",
        ModelFault::BadRequest => "it refused the request",
        ModelFault::TooLong => "the request was too long for it",
        ModelFault::RateLimited => "rate limited",
        ModelFault::Unavailable => "unavailable",
        ModelFault::Network => "no connection",
        ModelFault::Timeout => "too slow",
        ModelFault::Protocol => "its answer was not the protocol",
        ModelFault::Unmatched => "not recorded",
    }
}

impl State {
    /// Asks for a request of this purpose, for the model that is to be asked now.
    pub(super) fn compose_for(&mut self, index: usize, purpose: Purpose) {
        match self.choose(index, &purpose) {
            Some(model) => {
                if matches!(purpose, Purpose::Turn | Purpose::Sample(_)) {
                    self.steps[index].model = model;
                }
                self.emit(index, Work::Compose { model, purpose });
            }
            None => {
                let message = self.nobody_left(index, &purpose);
                if !self.nobody_answers(index, &purpose, &message) {
                    self.fail(index, Ending::Unavailable, message);
                }
            }
        }
    }

    /// The models that the step's next call of this purpose may go to, by their places.
    pub(super) fn chain(&self, index: usize, purpose: &Purpose) -> Range<usize> {
        let Some(spec) = self.agent_spec(index) else { return 0..0 };
        if let Some(voice) = self.voice_for(index, purpose) {
            return 0..voice.models.len();
        }
        let own = spec.models.len();
        if self.steps[index].long.is_some() { own..own + spec.long_context.len() } else { 0..own }
    }

    /// The first model of the chain that is not resting; where all rest, the one that wakes first. A model that has
    /// failed at this very question is not asked it again. `None`: nobody is left.
    pub(super) fn choose(&self, index: usize, purpose: &Purpose) -> Option<usize> {
        let mut first_awake: Option<(i64, usize)> = None;
        for at in self.chain(index, purpose) {
            if self.steps[index].tried.iter().any(|(of, model)| of == purpose && *model == at) {
                continue;
            }
            match self.standing(self.model_for(index, purpose, at)?) {
                Standing::Ready => return Some(at),
                Standing::Rests { until_ms, .. } if first_awake.is_none_or(|(before, _)| until_ms < before) => {
                    first_awake = Some((until_ms, at));
                }
                Standing::Rests { .. } | Standing::Barred(_) => {}
            }
        }
        first_awake.map(|(_, at)| at)
    }

    /// Whether the model is not resting.
    pub(super) fn is_awake(&self, index: usize, purpose: &Purpose, model: usize) -> bool {
        let model = self.model_for(index, purpose, model);
        model.is_some_and(|model| matches!(self.standing(model), Standing::Ready))
    }

    fn standing(&self, model: &ModelRef) -> Standing {
        if let Some(why) = self.routes.barred.get(&account_of(model)) {
            return Standing::Barred(why);
        }
        let rest = self.routes.models.get(&model.name).filter(|(until_ms, _)| *until_ms > self.now_ms);
        if let Some((i64::MAX, why)) = rest {
            return Standing::Barred(why);
        }
        let at = provider(model);
        let open = self.routes.circuits.get(&at).and_then(|circuit| circuit.open_until_ms).and_then(|until_ms| {
            if until_ms > self.now_ms {
                return Some((until_ms, "its provider failed three times in a row"));
            }
            // Half-open: one call at a time finds out. If it fails, the provider rests for as long again.
            self.is_probed(&at).then(|| (self.now_ms + REST_MS, "its provider is being tried by another call"))
        });
        match rest.copied().into_iter().chain(open).max_by_key(|(until_ms, _)| *until_ms) {
            Some((until_ms, why)) => Standing::Rests { until_ms, why },
            None => Standing::Ready,
        }
    }

    /// Whether a call to the provider is out, or about to be.
    fn is_probed(&self, at: &str) -> bool {
        let out = self.outstanding.values().filter_map(|effect| {
            let index = self.index(effect.step.as_ref()?)?;
            match &effect.work {
                Work::CallModel { model, purpose, .. } | Work::Compose { model, purpose } => {
                    Some((index, purpose, *model))
                }
                _ => None,
            }
        });
        let parked = self.steps.iter().enumerate();
        let parked =
            parked.flat_map(|(index, step)| step.parked.iter().map(move |call| (index, &call.purpose, call.model)));
        out.chain(parked).any(|(index, purpose, model)| {
            self.model_for(index, purpose, model).is_some_and(|model| provider(model) == at)
        })
    }

    /// Why a call goes to this model: `scenario think; sonnet rests for another 42 s (rate limited)`.
    pub(super) fn why(&self, index: usize, purpose: &Purpose, model: usize) -> String {
        let Some(spec) = self.agent_spec(index) else { return String::new() };
        let voice = self.voice_for(index, purpose);
        let mut parts = vec![match self.steps[index].long.filter(|_| voice.is_none()) {
            Some(0) => "long context: the request was too long for the scenario's models".to_owned(),
            Some(tokens) => format!("long context: about {} tokens", grouped(tokens)),
            None if voice.is_some() => {
                format!("{} `{}`", purpose.word(), voice.map(|voice| voice.name.as_str()).unwrap_or_default())
            }
            None if spec.scenario.is_empty() => "named by the step".to_owned(),
            None => format!("scenario {}", spec.scenario),
        }];
        let seconds = |until_ms: i64| until_ms.saturating_sub(self.now_ms).max(0).saturating_add(999) / 1000;
        for at in self.chain(index, purpose) {
            let Some(other) = self.model_for(index, purpose, at) else { continue };
            match self.standing(other) {
                Standing::Rests { .. } if at == model => {
                    parts.push(format!("all rest, and {} wakes first", other.name));
                }
                Standing::Rests { until_ms, why } => {
                    parts.push(format!("{} rests for another {} s ({why})", other.name, seconds(until_ms)));
                }
                Standing::Barred(why) => parts.push(format!("{} is not asked again ({why})", other.name)),
                Standing::Ready => {}
            }
            if at == model {
                break;
            }
        }
        parts.join("; ")
    }

    /// Whether a request of so many tokens is for the models of long requests; from now on, then, for this attempt.
    pub(super) fn turns_long(&mut self, index: usize, estimated_tokens: u64) -> bool {
        let long = self.steps[index].long.is_none()
            && self.agent_spec(index).is_some_and(|spec| {
                !spec.long_context.is_empty()
                    && estimated_tokens > spec.long_context_tokens
                    && spec.long_context_tokens > 0
            });
        if long {
            self.steps[index].long = Some(estimated_tokens);
        }
        long
    }

    /// A call was answered: its provider works.
    pub(super) fn call_answered(&mut self, index: usize, cause: &Effect) {
        let Work::CallModel { model, purpose, .. } = &cause.work else { return };
        self.steps[index].tried.retain(|(of, _)| of != purpose);
        if let Some(model) = self.model_for(index, purpose, *model).cloned() {
            self.routes.circuits.remove(&provider(&model));
            self.routes.models.remove(&model.name);
        }
    }

    /// A call failed: what that says of its model and its provider.
    pub(super) fn call_failed(&mut self, index: usize, purpose: &Purpose, model: usize, error: &ModelError) {
        let Some(model) = self.model_for(index, purpose, model).cloned() else { return };
        let why = words(error.fault);
        match error.fault {
            // The provider answered; the request is what was wrong.
            ModelFault::BadRequest | ModelFault::TooLong | ModelFault::Unmatched => {}
            ModelFault::Auth | ModelFault::Payment => {
                self.routes.barred.insert(account_of(&model), why);
            }
            ModelFault::NotFound => {
                self.routes.models.insert(model.name, (i64::MAX, why));
            }
            ModelFault::RateLimited
            | ModelFault::Unavailable
            | ModelFault::Network
            | ModelFault::Timeout
            | ModelFault::Protocol => {
                let asked = i64::try_from(error.retry_after_ms.unwrap_or(0)).unwrap_or(i64::MAX);
                let until_ms = self.now_ms.saturating_add(asked.max(REST_MS)).min(i64::MAX - 1);
                let circuit = self.routes.circuits.entry(provider(&model)).or_default();
                circuit.failures += 1;
                if circuit.failures >= FAILURES {
                    circuit.open_until_ms = Some(until_ms);
                    if self.routes.told.insert(provider(&model)) {
                        self.notes.push(format!(
                            "{FAILURES} calls in a row failed at the provider of `{}`: it is left alone for {} s, then \
                             tried with one call",
                            model.name,
                            asked.max(REST_MS) / 1000
                        ));
                    }
                }
                self.routes.models.insert(model.name, (until_ms, why));
            }
        }
    }

    /// The model could not be had: another of the chain, or the end of the step.
    pub(super) fn model_failed(&mut self, index: usize, cause: &Effect, error: ModelError) {
        let Work::CallModel { model, purpose, .. } = &cause.work else { return };
        let (model, purpose) = (*model, purpose.clone());
        self.call_failed(index, &purpose, model, &error);
        if self.quality_call_failed(index, &purpose, model, &error) {
            return;
        }
        let longer = self.agent_spec(index).is_some_and(|spec| !spec.long_context.is_empty());
        if error.fault == ModelFault::TooLong && longer && self.steps[index].long.is_none() {
            self.steps[index].long = Some(0);
            return self.retry_purpose(index, purpose);
        }
        if matches!(error.fault, ModelFault::BadRequest | ModelFault::TooLong | ModelFault::Unmatched) {
            return self.fail(index, Ending::Unavailable, error.message);
        }
        self.steps[index].tried.push((purpose.clone(), model));
        let Some(next) = self.choose(index, &purpose) else {
            return self.fail(index, Ending::Unavailable, error.message);
        };
        self.note_rest(index, &purpose, (model, next), &error);
        self.retry_purpose(index, purpose);
    }

    /// Says, once, that a model rests and which one is asked meanwhile.
    pub(super) fn note_rest(&mut self, index: usize, purpose: &Purpose, models: (usize, usize), error: &ModelError) {
        let name = self.model_name(index, purpose, models.0);
        if self.routes.told.insert(name.clone()) {
            let next = self.model_name(index, purpose, models.1);
            self.notes.push(format!("`{next}` is asked while `{name}` rests: {}", error.message));
        }
    }

    fn nobody_left(&self, index: usize, purpose: &Purpose) -> String {
        let models = self.chain(index, purpose).filter_map(|at| self.model_for(index, purpose, at));
        let reasons: Vec<String> = models
            .map(|model| match self.standing(model) {
                Standing::Barred(why) | Standing::Rests { why, .. } => format!("`{}` ({why})", model.name),
                Standing::Ready => format!("`{}`", model.name),
            })
            .collect();
        let step = self.plan_step(index).map(|step| step.id.to_string()).unwrap_or_default();
        format!(
            "step `{step}`: no model is left to ask: {}; mend the account, or name another model in `scenarios` of \
             .codeforge/config.yml",
            reasons.join(", ")
        )
    }

    /// Which model stands at a place of the chain for this purpose.
    pub(super) fn model_for(&self, index: usize, purpose: &Purpose, at: usize) -> Option<&ModelRef> {
        match self.voice_for(index, purpose) {
            Some(voice) => voice.models.get(at),
            None => self.agent_spec(index)?.model(at),
        }
    }

    pub(super) fn model_name(&self, index: usize, purpose: &Purpose, model: usize) -> String {
        self.model_for(index, purpose, model).map_or_else(|| "unknown".to_owned(), |model| model.name.clone())
    }
}

/// `71,000`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests;
