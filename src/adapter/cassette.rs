//! Cassettes: a model's recorded answers, played back without a model.
//!
//! Of a cassette of a whole run (format 2, see [`crate::cassette`]) each answer belongs to the request of its row: it
//! answers exactly that one, by its fingerprint. A cassette of format 1 is a model's answers alone, JSON lines. The first one says the format; each further line is one answer with what it answers:
//!
//! ```json
//! {"codeforge_cassette":1}
//! {"fingerprint":"9f…","ask":"The task: …","answer":{"text":"","calls":[{"name":"read_file","arguments":"{…}"}]}}
//! {"when":"You are the reviewer","expect":["2 passed"],"answer":{"text":"…"}}
//! ```
//!
//! A line with a `fingerprint` answers exactly that request (the first unused one, then the last used one again for a
//! request repeated after a crash). A line with `when` is written by hand: it answers the next request whose system
//! prompt or first message contains that text, and refuses to where a text of `expect` is not in what came since the
//! model's last answer: a recording that would play on over a changed world proves nothing.

use crate::cassette::{self, Recording};
use crate::model::chat::{
    Bill, ChatAnswer, ChatRequest, Message, ModelError, ModelFault, ModelRef, RawCall, StopReason,
};
use crate::model::id::short_hash;
use crate::model::journal::{Input, RowBody, Work};
use crate::model::usage::{CostSource, NanoUsd, Usage};
use crate::port::model::ChatModel;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The version of the format of answers alone.
const VERSION: u32 = 1;
/// Characters of the last message that are kept for people.
const ASKED: usize = 500;

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    codeforge_cassette: u32,
}

/// One recorded answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Interaction {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    when: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    expect: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    ask: String,
    answer: Recorded,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    text: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    calls: Vec<RecordedCall>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stop: Option<StopReason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cost_usd: Option<f64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    model: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordedCall {
    /// The provider's id: later requests of the conversation name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    name: String,
    /// JSON text as the provider sent it, or, in a cassette written by hand, the object itself.
    arguments: serde_json::Value,
}

/// The model that stands for whatever was recorded.
pub fn model() -> ModelRef {
    ModelRef {
        name: "recorded".into(),
        provider: "cassette".into(),
        model: "recorded".into(),
        base_url: None,
        api_key: None,
        price: None,
        context_window: 200_000,
        max_output: 8192,
        tools: true,
        ..ModelRef::default()
    }
}

/// Plays a cassette.
pub struct Player {
    name: String,
    tape: Mutex<Vec<(Interaction, bool)>>,
}

impl Player {
    /// From a file.
    ///
    /// # Errors
    /// What is wrong with it, with its line.
    pub fn open(file: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(file)
            .map_err(|error| format!("the cassette {} cannot be read: {error}", file.display()))?;
        Self::from_text(&text, &file.display().to_string())
    }

    /// From text.
    ///
    /// # Errors
    /// What is wrong with it, with its line.
    pub fn read(text: &str) -> Result<Self, String> {
        Self::from_text(text, "the recording")
    }

    fn from_text(text: &str, name: &str) -> Result<Self, String> {
        if cassette::is_whole_run(text) {
            return Ok(Self { name: name.to_owned(), tape: Mutex::new(of_run(&cassette::read(text, name)?)) });
        }
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let Some((_, first)) = lines.next() else { return Err(format!("{name} is empty")) };
        let header: Header = serde_json::from_str(first)
            .map_err(|error| format!("{name}:1: not a cassette (`{{\"codeforge_cassette\":1}}` is wanted): {error}"))?;
        if header.codeforge_cassette != VERSION {
            return Err(format!(
                "{name}:1: cassette format {} is not known to this version, which plays {VERSION} and {}",
                header.codeforge_cassette,
                cassette::VERSION
            ));
        }
        let mut tape = Vec::new();
        for (number, line) in lines {
            let interaction: Interaction =
                serde_json::from_str(line).map_err(|error| format!("{name}:{}: {error}", number + 1))?;
            if interaction.fingerprint.is_none() && interaction.when.is_none() {
                return Err(format!("{name}:{}: neither `fingerprint` nor `when` says what it answers", number + 1));
            }
            tape.push((interaction, false));
        }
        Ok(Self { name: name.to_owned(), tape: Mutex::new(tape) })
    }

    fn find(&self, request: &ChatRequest) -> Result<Recorded, String> {
        let (print, older) = (request.fingerprint(), older_fingerprint(request));
        let mut tape = self.tape.lock().unwrap_or_else(PoisonError::into_inner);
        let exact = |interaction: &Interaction| {
            interaction.fingerprint.as_ref().is_some_and(|wanted| *wanted == print || *wanted == older)
        };
        let fresh = tape.iter_mut().find(|(interaction, used)| !*used && exact(interaction));
        if let Some((interaction, used)) = fresh {
            *used = true;
            return Ok(interaction.answer.clone());
        }
        // A call that a crash cut is made again: its recording answers again.
        if let Some((interaction, _)) = tape.iter().rev().find(|(interaction, _)| exact(interaction)) {
            return Ok(interaction.answer.clone());
        }
        let opening = opening(request);
        let by_hand = tape.iter_mut().find(|(interaction, used)| {
            !*used && interaction.when.as_ref().is_some_and(|when| opening.contains(when.as_str()))
        });
        let Some((interaction, used)) = by_hand else {
            return Err(self.unmatched(request, &tape));
        };
        let since = since_last_answer(request);
        if let Some(missing) = interaction.expect.iter().find(|wanted| !since.contains(wanted.as_str())) {
            return Err(format!(
                "{}: the next recorded answer expects to have been told `{missing}`, but was told: {}",
                self.name,
                shortened(&since)
            ));
        }
        *used = true;
        Ok(interaction.answer.clone())
    }

    fn unmatched(&self, request: &ChatRequest, tape: &[(Interaction, bool)]) -> String {
        let next = tape.iter().find(|(_, used)| !used).map(|(interaction, _)| match &interaction.when {
            Some(when) => format!("the next unused answer is for a conversation with `{when}`"),
            None => format!("the next unused answer is for: {}", shortened(&interaction.ask)),
        });
        format!(
            "{} has no answer for this request; {}. The request ends with: {}",
            self.name,
            next.unwrap_or_else(|| "all its answers are used".into()),
            shortened(&last_message(request))
        )
    }
}

/// The answers of a whole run, each for the request of its row.
fn of_run(recording: &Recording) -> Vec<(Interaction, bool)> {
    let mut asked: HashMap<&str, (&str, String)> = HashMap::new();
    let mut tape = Vec::new();
    for row in &recording.rows {
        match &row.body {
            RowBody::Intent(effect) => {
                if let Work::CallModel { request_hash, .. } = &effect.work {
                    let request = recording.requests.get(&effect.key.0);
                    let last = request.and_then(|request| request.messages.last());
                    let ask = last.map_or("", |(_, hash)| recording.text(hash)).chars().take(ASKED).collect();
                    asked.insert(&effect.key.0, (request_hash, ask));
                }
            }
            RowBody::Input(Input::Answered { key, answer, bill, .. }) => {
                let Some((hash, ask)) = asked.remove(key.0.as_str()) else { continue };
                let calls = answer.raw_calls.iter().map(|call| RecordedCall {
                    id: Some(call.id.clone()),
                    name: call.name.clone(),
                    arguments: serde_json::Value::String(call.arguments.clone()),
                });
                let answer = Recorded {
                    text: answer.text.clone(),
                    calls: calls.collect(),
                    stop: Some(answer.stop),
                    usage: bill.usage,
                    cost_usd: bill.cost.map(NanoUsd::usd),
                    model: bill.model.clone(),
                };
                let (fingerprint, when, expect) = (Some(hash.to_owned()), None, Vec::new());
                tape.push((Interaction { fingerprint, when, expect, ask, answer }, false));
            }
            RowBody::Input(_) => {}
        }
    }
    tape
}

/// The fingerprint that cassettes of format 1 were recorded with; nothing new is named by it.
fn older_fingerprint(request: &ChatRequest) -> String {
    let text = serde_json::to_string(&(&request.messages, &request.tools, &request.output_schema)).unwrap_or_default();
    short_hash(text.as_bytes(), 32)
}

fn shortened(text: &str) -> String {
    let short: String = text.chars().take(ASKED).collect();
    crate::text::clean(&short).replace('\n', " ⏎ ")
}

/// What identifies a conversation: its system prompt and its first message.
fn opening(request: &ChatRequest) -> String {
    let mut text = String::new();
    for message in request.messages.iter().take(2) {
        if let Message::System { text: part } | Message::User { text: part } = message {
            text.push_str(part);
            text.push('\n');
        }
    }
    text
}

/// What the model was told since it last spoke; on a first turn, the first prompt.
fn since_last_answer(request: &ChatRequest) -> String {
    let spoke = request.messages.iter().rposition(|message| matches!(message, Message::Assistant { .. }));
    let mut text = String::new();
    for message in request.messages.iter().skip(spoke.map_or(0, |at| at + 1)) {
        if let Message::User { text: part } | Message::Tool { text: part, .. } = message {
            text.push_str(part);
            text.push('\n');
        }
    }
    text
}

fn last_message(request: &ChatRequest) -> String {
    match request.messages.last() {
        Some(
            Message::System { text }
            | Message::User { text }
            | Message::Tool { text, .. }
            | Message::Assistant { text, .. },
        ) => text.clone(),
        None => String::new(),
    }
}

#[async_trait]
impl ChatModel for Player {
    async fn ask(
        &self,
        request: &ChatRequest,
        heard: &(dyn for<'a> Fn(&'a str) + Send + Sync),
    ) -> Result<ChatAnswer, ModelError> {
        let recorded = self.find(request).map_err(|message| ModelError {
            fault: ModelFault::Unmatched,
            message,
            status: None,
            requests: 1,
            bill: None,
            retry_after_ms: None,
        })?;
        for piece in recorded.text.split_inclusive(' ') {
            heard(piece);
        }
        let calls: Vec<RawCall> = recorded
            .calls
            .iter()
            .enumerate()
            .map(|(at, call)| RawCall {
                id: call.id.clone().unwrap_or_else(|| format!("call_{}", at + 1)),
                name: call.name.clone(),
                arguments: match &call.arguments {
                    serde_json::Value::String(text) => text.clone(),
                    other => other.to_string(),
                },
            })
            .collect();
        let stop = recorded.stop.unwrap_or(if calls.is_empty() { StopReason::Stop } else { StopReason::ToolCalls });
        let cost = recorded.cost_usd.map(NanoUsd::from_usd);
        let model = if recorded.model.is_empty() { request.model.name.clone() } else { recorded.model.clone() };
        Ok(ChatAnswer {
            text: recorded.text,
            calls,
            stop,
            bill: Bill {
                model,
                usage: recorded.usage,
                cost,
                source: if cost.is_some() { CostSource::Provider } else { CostSource::Unknown },
            },
            requests: 1,
            reasoning: Vec::new(),
        })
    }
}
