//! What a dialect has to say, so that attempts, deadlines and bills are written once.

use super::failure::{Failure, Said};
use super::sse::Event;
use crate::model::chat::{ChatRequest, ModelRef, RawCall, Reasoning, StopReason};
use crate::model::usage::{NanoUsd, Usage};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Debug;

/// Told the text of an answer as it comes in.
pub(super) type Heard<'a> = &'a (dyn for<'t> Fn(&'t str) + Send + Sync);

/// Fields of a request that a server has refused, by their names on the wire.
pub(super) type Refused = BTreeSet<&'static str>;

/// A way to ask and to be answered.
pub(super) trait Dialect: Debug + Send + Sync {
    /// Whose protocol it is, for people (`OpenAI`).
    fn whose(&self) -> &'static str;

    /// What an answer is called (`chat completion`).
    fn answer(&self) -> &'static str;

    /// Where it is asked, below a model's `base_url`.
    fn path(&self) -> &'static [&'static str];

    /// The header that carries the key.
    fn key_header(&self, model: &ModelRef) -> KeyHeader;

    /// Further headers.
    fn headers(&self, model: &ModelRef) -> Vec<(&'static str, String)>;

    /// Fields that not every server takes, the first to be left out first.
    fn optional(&self) -> &'static [&'static str];

    /// The field to leave out after a refusal: one that the server names. `sent` says what the request held.
    fn blamed(&self, failure: &Failure, sent: &dyn Fn(&str) -> bool) -> Option<Blamed> {
        let field = self.optional().iter().copied().find(|name| sent(name) && failure.blames(name))?;
        Some(Blamed { field, for_good: true })
    }

    /// The body of a request, without the `refused` fields.
    fn body(&self, request: &ChatRequest, refused: &Refused) -> Value;

    /// What puts the pieces of one streamed answer together.
    fn assembler(&self) -> Box<dyn Assemble>;

    /// Reads an answer that came as one JSON document. `calls_before`: as for [`Assemble::finish`].
    fn document(&self, document: &Value, calls_before: usize, heard: Heard<'_>) -> Result<Whole, Broken>;

    /// What a body that is no answer says of its bill.
    fn billed(&self, body: &Value) -> Option<Billed>;
}

/// A field that is left out from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blamed {
    pub(super) field: &'static str,
    /// Whether the server never takes it, or not in this conversation.
    pub(super) for_good: bool,
}

/// The header that carries a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyHeader {
    /// `Authorization: Bearer …`.
    Bearer,
    /// The key alone, under this name.
    Named(&'static str),
}

/// Puts an answer together from the pieces of a stream.
pub(super) trait Assemble: Send {
    /// Takes one event; new text goes to `heard`. `Ok(true)`: the stream said that it is over.
    fn event(&mut self, event: &Event, heard: Heard<'_>) -> Result<bool, Broken>;

    /// What was billed so far: for an answer that will never be whole.
    fn billed(&self) -> Option<Billed>;

    /// The answer, if it is whole: the server said why it stopped, or that the stream is over. `None`: it was cut.
    /// `calls_before`: how many calls the conversation has had, for ids that we must make up.
    fn finish(self: Box<Self>, calls_before: usize) -> Option<Whole>;
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Whole {
    pub(super) text: String,
    pub(super) calls: Vec<RawCall>,
    pub(super) stop: StopReason,
    pub(super) billed: Option<Billed>,
    pub(super) reasoning: Vec<Reasoning>,
}

/// Tokens as the server counted them, and the cost where it named one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Billed {
    pub(super) usage: Usage,
    pub(super) cost: Option<NanoUsd>,
}

/// Why an answer cannot be put together.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Broken {
    /// The server reported an error where an answer should be.
    Reported(Said),
    /// This is not the protocol; an excerpt.
    Garbled(String),
}

impl Broken {
    /// With an excerpt of what came.
    pub(super) fn garbled(text: &str) -> Self {
        Self::Garbled(text.chars().take(400).collect())
    }
}

/// A call that may still grow.
#[derive(Debug, Default)]
pub(super) struct Partial {
    pub(super) index: Option<u64>,
    pub(super) id: String,
    pub(super) name: String,
    pub(super) arguments: String,
}

/// Gives every call an id of its own, and arguments where the server left them out. `calls_before`: how many calls the
/// conversation has had.
pub(super) fn named(calls: Vec<Partial>, calls_before: usize) -> Vec<RawCall> {
    let mut taken = BTreeSet::new();
    let mut number = calls_before;
    let mut named = Vec::new();
    for call in calls.into_iter().filter(|call| !call.name.is_empty() || !call.arguments.is_empty()) {
        let mut id = call.id;
        while id.is_empty() || taken.contains(&id) {
            number += 1;
            id = format!("call_{number}");
        }
        taken.insert(id.clone());
        let arguments = if call.arguments.trim().is_empty() { "{}".to_owned() } else { call.arguments };
        named.push(RawCall { id, name: call.name, arguments });
    }
    named
}

/// An amount in US dollars, as a number or as text; negative amounts and nonsense are no amount.
pub(super) fn dollars(value: &Value) -> Option<NanoUsd> {
    let usd = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    (usd.is_finite() && usd >= 0.0).then(|| NanoUsd::from_usd(usd))
}

/// The arguments of an earlier call as an object: what the model garbled is shown to it as a value instead, because
/// servers parse them.
pub(super) fn arguments(call: &RawCall) -> Value {
    match serde_json::from_str::<Value>(&call.arguments) {
        Ok(object @ Value::Object(_)) => object,
        _ => serde_json::json!({"malformed_arguments": call.arguments}),
    }
}

/// At most this many places of a request may be marked for the cache (Anthropic's limit).
const CACHE_MARKS: usize = 4;

/// The marks that are sent: the first one, which serves longest, and the last ones.
pub(super) fn cache_marks(request: &ChatRequest) -> BTreeSet<usize> {
    let marks: BTreeSet<usize> =
        request.cache_marks.iter().copied().filter(|mark| *mark < request.messages.len()).collect();
    let late = marks.iter().rev().take(CACHE_MARKS - 1);
    if marks.len() <= CACHE_MARKS { marks } else { marks.first().into_iter().chain(late).copied().collect() }
}

/// The longest answer that this question may have, in tokens.
pub(super) fn max_output(request: &ChatRequest) -> u64 {
    request.sampling.max_output.unwrap_or(request.model.max_output).min(request.model.max_output)
}
