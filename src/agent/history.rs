//! What of a long conversation is still shown: older results become stubs, then older turns go.

use super::measure::estimate_message;
use super::protocol;
use crate::model::chat::{Message, RawCall, Reasoning, Turn};
use crate::text::{cap, fence};
use serde_json::{Value, json};

/// A result this short is kept whole: a stub would not save anything.
const SHORT_RESULT: usize = 240;
/// Bytes of a single result that are kept when even the last turn is too long.
const LAST_RESULT_BYTES: usize = 1_500;

/// A turn as it is to be shown.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    text: String,
    reasoning: Vec<Reasoning>,
    calls: Vec<RawCall>,
    results: Vec<Observation>,
    say: Option<String>,
}

/// A call's result.
#[derive(Debug, Clone)]
struct Observation {
    id: String,
    /// The call in a few words: `read_file src/lib.rs`.
    about: String,
    text: String,
}

impl Shown {
    /// The turn, with one result for each call whatever the journal has.
    pub(super) fn of(turn: &Turn) -> Self {
        let calls: Vec<RawCall> = turn
            .answer
            .raw_calls
            .iter()
            .map(|call| RawCall { arguments: sendable(&call.arguments), ..call.clone() })
            .collect();
        let results = calls
            .iter()
            .map(|call| {
                let text = turn.results.iter().find(|(id, _)| *id == call.id).map(|(_, text)| text.clone());
                let text = text.unwrap_or_else(|| "See the next message.".into());
                Observation { id: call.id.clone(), about: about(call), text }
            })
            .collect();
        let (text, reasoning) = (turn.answer.text.clone(), turn.answer.reasoning.clone());
        Self { text, reasoning, calls, results, say: turn.say.clone() }
    }

    /// The messages it becomes. Without function calling, calls stand in the text and results come as fenced data.
    pub(super) fn messages(&self, tools: bool) -> Vec<Message> {
        let nothing = |text: &str| if text.trim().is_empty() { "(no answer)".to_owned() } else { text.to_owned() };
        if !tools {
            let mut text = self.text.clone();
            if !self.calls.is_empty() && protocol::read_calls(&text).is_empty() {
                text.push_str(&protocol::write_calls(&self.calls));
            }
            let mut said: Vec<String> = self
                .results
                .iter()
                .map(|result| format!("Result of {}:\n{}", result.about, fence(&result.text)))
                .collect();
            said.extend(self.say.clone());
            let mut messages =
                vec![Message::Assistant { text: nothing(&text), calls: Vec::new(), reasoning: Vec::new() }];
            if !said.is_empty() {
                messages.push(Message::User { text: said.join("\n\n") });
            }
            return messages;
        }
        let text = if self.calls.is_empty() { nothing(&self.text) } else { self.text.clone() };
        let mut messages =
            vec![Message::Assistant { text, calls: self.calls.clone(), reasoning: self.reasoning.clone() }];
        messages.extend(
            self.results.iter().map(|result| Message::Tool { call_id: result.id.clone(), text: result.text.clone() }),
        );
        messages.extend(self.say.clone().map(|text| Message::User { text }));
        messages
    }

    fn estimate(&self, tools: bool) -> u64 {
        self.messages(tools).iter().map(estimate_message).sum()
    }
}

impl Observation {
    fn stub(&mut self) {
        if self.text.len() > SHORT_RESULT {
            self.text = format!(
                "[{}: result left out to save room ({} lines). Call it again if you need it.]",
                self.about,
                self.text.lines().count()
            );
        }
    }
}

/// A call in a few words.
fn about(call: &RawCall) -> String {
    let args: Value = serde_json::from_str(&call.arguments).unwrap_or(Value::Null);
    let first = ["path", "pattern", "command"].iter().find_map(|key| args.get(key)?.as_str());
    let first = first.map(|text| {
        let line = text.lines().next().unwrap_or_default();
        let short: String = line.chars().take(80).collect();
        if short.len() < text.len() { format!(" {short}…") } else { format!(" {short}") }
    });
    format!("{}{}", call.name, first.unwrap_or_default())
}

/// Arguments that a provider will take back: some refuse a history in which they are not a JSON object.
fn sendable(arguments: &str) -> String {
    match serde_json::from_str::<Value>(arguments) {
        Ok(Value::Object(_)) => arguments.to_owned(),
        _ if arguments.trim().is_empty() => "{}".to_owned(),
        _ => json!({ "unreadable_arguments": arguments }).to_string(),
    }
}

/// Keeps the last `keep` results whole and makes stubs of the older ones.
pub(super) fn keep_observations(turns: &mut [Shown], keep: usize) {
    turns.iter_mut().rev().flat_map(|turn| turn.results.iter_mut().rev()).skip(keep).for_each(Observation::stub);
}

/// Brings the turns within `budget` tokens: older results become stubs, oldest first, then the oldest turns go. The last
/// turn stays as it is. Returns how many turns went.
pub(super) fn fit(turns: &mut Vec<Shown>, budget: u64, tools: bool) -> usize {
    let mut sizes: Vec<u64> = turns.iter().map(|turn| turn.estimate(tools)).collect();
    let mut total: u64 = sizes.iter().sum();
    let older = turns.len().saturating_sub(1);
    for (turn, size) in turns.iter_mut().zip(&mut sizes).take(older) {
        if total <= budget {
            break;
        }
        turn.results.iter_mut().for_each(Observation::stub);
        let now = turn.estimate(tools);
        total = total - *size + now;
        *size = now;
    }
    let mut dropped = 0;
    for size in sizes.iter().take(older) {
        if total <= budget {
            break;
        }
        total -= size;
        dropped += 1;
    }
    turns.drain(..dropped);
    dropped
}

/// The last resort: shortens the only turn left, or drops it where that is not enough. Returns how many turns went.
pub(super) fn squeeze(turns: &mut Vec<Shown>, budget: u64, tools: bool) -> usize {
    let total = |turns: &[Shown]| turns.iter().map(|turn| turn.estimate(tools)).sum::<u64>();
    if total(turns) <= budget {
        return 0;
    }
    for bytes in [LAST_RESULT_BYTES * 8, LAST_RESULT_BYTES, SHORT_RESULT] {
        for turn in turns.iter_mut() {
            for result in &mut turn.results {
                result.text = cap(&result.text, bytes);
            }
            turn.say = turn.say.as_deref().map(|say| cap(say, bytes));
        }
        if total(turns) <= budget {
            return 0;
        }
    }
    let dropped = turns.len();
    turns.clear();
    dropped
}
