//! What of a long conversation is still shown: a turn, its results, and what becomes of them.

mod pipeline;
#[cfg(test)]
mod tests;
mod windows;

pub(super) use pipeline::keep;

use super::measure::{estimate_answer, estimate_message, estimate_result, estimate_words};
use super::protocol;
use crate::model::chat::{Message, RawCall, Reasoning, Turn};
use crate::text::{cap, fence};
use regex::Regex;
use serde_json::{Value, json};

/// A result this short is kept whole: a stub would not save anything.
const SHORT_RESULT: usize = 240;
/// Bytes of a single result that are kept when even the last turn is too long.
const LAST_RESULT_BYTES: usize = 1_500;
/// What an answer without words or calls is shown as.
const NO_ANSWER: &str = "(no answer)";
/// What a result says of which a pattern took everything.
const NOTHING_LEFT: &str = "(everything in this result was left out, as this mode's `history` says)";

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
    /// What it showed or changed of files.
    touch: windows::Touch,
    text: String,
}

/// Why a result is a stub.
#[derive(Debug, Clone, Copy)]
enum Why {
    /// There are too many newer ones.
    Old,
    /// The file was changed later.
    Changed,
    /// The file was viewed again.
    ViewedAgain,
}

impl Shown {
    /// The turn, with one result for each call whatever the journal has, and without what `removed` matches.
    fn of(turn: &Turn, removed: &[Regex]) -> Self {
        let (calls, results) = turn
            .answer
            .raw_calls
            .iter()
            .map(|call| {
                let args = serde_json::from_str(&call.arguments).unwrap_or(Value::Null);
                let text = turn.results.iter().find(|(id, _)| *id == call.id).map(|(_, text)| text.clone());
                let text = text.unwrap_or_else(|| "See the next message.".into());
                let touch = windows::Touch::of(&call.name, &args, &text);
                let about = about(&call.name, &args);
                let result = Observation { id: call.id.clone(), about, touch, text: without(text, removed) };
                let (id, name) = (call.id.clone(), call.name.clone());
                (RawCall { id, name, arguments: sendable(&call.arguments, &args) }, result)
            })
            .unzip();
        let (text, reasoning) = (turn.answer.text.clone(), turn.answer.reasoning.clone());
        Self { text, reasoning, calls, results, say: turn.say.clone() }
    }

    /// The messages it becomes. Without function calling, calls stand in the text and results come as fenced data.
    pub(super) fn messages(&self, tools: bool) -> Vec<Message> {
        let nothing = |text: &str| if text.trim().is_empty() { NO_ANSWER.to_owned() } else { text.to_owned() };
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
        if !tools {
            return self.messages(tools).iter().map(estimate_message).sum();
        }
        // As of the messages, without making them.
        let text = if self.calls.is_empty() && self.text.trim().is_empty() { NO_ANSWER } else { &self.text };
        let results = self.results.iter().map(|result| estimate_result(&result.id, &result.text));
        let say = self.say.as_deref().map(estimate_words);
        estimate_answer(text, &self.calls) + results.chain(say).sum::<u64>()
    }
}

impl Observation {
    /// Makes a stub of it; whether that changed anything.
    fn stub(&mut self, why: Why) -> bool {
        if self.text.len() <= SHORT_RESULT {
            return false;
        }
        let lines = self.text.lines().count();
        self.text = match why {
            Why::Old => {
                format!("[{}: result left out to save room ({lines} lines). Call it again if you need it.]", self.about)
            }
            Why::Changed => format!(
                "[{}: left out ({lines} lines), the file was changed after this. Read it again if you need it.]",
                self.about
            ),
            Why::ViewedAgain => {
                format!("[{}: left out ({lines} lines), there is a newer view of the file.]", self.about)
            }
        };
        true
    }
}

/// The text without what the patterns match, one after the other.
fn without(text: String, removed: &[Regex]) -> String {
    if removed.is_empty() || text.trim().is_empty() {
        return text;
    }
    let text = removed.iter().fold(text, |text, pattern| match pattern.is_match(&text) {
        true => pattern.replace_all(&text, "").into_owned(),
        false => text,
    });
    if text.trim().is_empty() { NOTHING_LEFT.to_owned() } else { text }
}

/// A call in a few words.
fn about(name: &str, args: &Value) -> String {
    let first = ["path", "pattern", "command"].iter().find_map(|key| args.get(key)?.as_str());
    let first = first.map(|text| {
        let line = text.lines().next().unwrap_or_default();
        let short: String = line.chars().take(80).collect();
        if short.len() < text.len() { format!(" {short}…") } else { format!(" {short}") }
    });
    format!("{name}{}", first.unwrap_or_default())
}

/// Arguments that a provider will take back: some refuse a history in which they are not a JSON object.
fn sendable(arguments: &str, args: &Value) -> String {
    match args {
        Value::Object(_) => arguments.to_owned(),
        _ if arguments.trim().is_empty() => "{}".to_owned(),
        _ => json!({ "unreadable_arguments": arguments }).to_string(),
    }
}

/// The last resort: shortens the only turn left, or drops it where that is not enough. Whether it did.
pub(super) fn squeeze(turns: &mut Vec<Shown>, budget: u64, tools: bool) -> bool {
    let total = |turns: &[Shown]| turns.iter().map(|turn| turn.estimate(tools)).sum::<u64>();
    if total(turns) <= budget {
        return false;
    }
    for bytes in [LAST_RESULT_BYTES * 8, LAST_RESULT_BYTES, SHORT_RESULT] {
        for turn in turns.iter_mut() {
            for result in &mut turn.results {
                result.text = cap(&result.text, bytes);
            }
            turn.say = turn.say.as_deref().map(|say| cap(say, bytes));
        }
        if total(turns) <= budget {
            return true;
        }
    }
    turns.clear();
    true
}
