//! A conversation with a model, in the shape that all providers share.

use super::id::short_hash;
use super::tool::{ToolCall, ToolSpec};
use super::usage::{CostSource, NanoUsd, Price, Usage};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Message {
    /// The operator's instructions.
    System {
        /// The text.
        text: String,
    },
    /// A person's words, or the engine's.
    User {
        /// The text.
        text: String,
    },
    /// What the model answered.
    Assistant {
        /// The text; may be empty where there are calls.
        text: String,
        /// The calls it asked for, with their arguments as they came.
        calls: Vec<RawCall>,
        /// What it thought before; goes back only to the provider that it is from.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        reasoning: Vec<Reasoning>,
    },
    /// The result of one call.
    Tool {
        /// Which call it answers.
        call_id: String,
        /// The result's text.
        text: String,
    },
}

/// A piece of a model's reasoning. Providers that sign it want it back unchanged in the turns of one tool loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reasoning {
    /// The dialect that it came in (`anthropic`, `openai`): no other is sent it.
    pub dialect: String,
    /// Its text, where there is one.
    #[serde(default)]
    pub text: String,
    /// The provider's own block (signature, encrypted content), unread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<Value>,
}

/// A call as it came over the wire: the arguments are unparsed text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawCall {
    /// The provider's id (made up by us where it sends none).
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// JSON text, perhaps malformed.
    pub arguments: String,
}

/// A model as configured: where it is and what it costs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ModelRef {
    /// Its name in `config.yml` (`sonnet`).
    pub name: String,
    /// Who serves it (`openai`, `anthropic`, `litellm`, …): decides the dialect; or `cassette`.
    pub provider: String,
    /// The provider's own name for it.
    pub model: String,
    /// Base URL, up to and with `/v1`.
    pub base_url: Option<String>,
    /// Where the key is to be found (`env://OPENAI_API_KEY`); never the key itself.
    pub api_key: Option<String>,
    /// Price, where configured.
    pub price: Option<Price>,
    /// Context window, in tokens.
    pub context_window: u64,
    /// Longest answer, in tokens: `max_tokens` of each call, and the output half of each reservation.
    pub max_output: u64,
    /// Whether the model can call functions; otherwise calls are fenced JSON in its text.
    pub tools: bool,
    /// Tags that a LiteLLM proxy routes by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// How much it is to think (`low`, `medium`, `high`), where it can; `None`: the provider's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
}

/// How an answer is to be made. Only what is set is sent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Sampling {
    /// Longest answer, in tokens, where it is to be shorter than the model's `max_output`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output: Option<u64>,
    /// Temperature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Nucleus sampling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Texts that end the answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Whether tools may, must or must not be called.
    #[serde(default, skip_serializing_if = "ToolChoice::is_auto")]
    pub tool_choice: ToolChoice,
}

impl Sampling {
    /// Whether nothing is set.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether tools are to be called.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoice {
    /// As the model sees fit.
    #[default]
    Auto,
    /// None may be.
    Forbidden,
    /// At least one must be.
    Required,
    /// This one must be.
    Named(String),
}

impl ToolChoice {
    /// Whether it is the model's choice.
    pub fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

/// A message as its request is named by.
#[derive(Serialize)]
#[serde(untagged)]
enum Named<'a> {
    Words(&'static str, &'a str),
    Tool(&'static str, usize, &'a str),
    Assistant(&'static str, &'a str, Vec<(usize, &'a str, &'a str)>),
}

/// What is asked of a model.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ChatRequest {
    /// Which model.
    pub model: ModelRef,
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// The tools on offer; empty where the model cannot call functions.
    pub tools: Vec<ToolSpec>,
    /// A JSON Schema that the final answer is to follow, where the provider can enforce one.
    pub output_schema: Option<Value>,
    /// How the answer is to be made.
    #[serde(default, skip_serializing_if = "Sampling::is_default")]
    pub sampling: Sampling,
    /// Positions of messages after which the provider may keep what came so far in its cache, ascending. No part of
    /// what is asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cache_marks: Vec<usize>,
    /// Which call of the run this is, where it is one. No part of what is asked, and never sent.
    #[serde(skip)]
    pub place: Option<super::recording::CallPlace>,
}

impl ChatRequest {
    /// Names what is asked, wherever and of whichever model it is asked: SHA-256, 64 hex digits, of messages, tools,
    /// schema and sampling. The ids of calls, which providers make up anew each time, count by their order; reasoning
    /// and cache marks do not count. Journals and cassettes know a request by it.
    pub fn fingerprint(&self) -> String {
        let mut order: HashMap<&str, usize> = HashMap::new();
        let messages: Vec<Named<'_>> = self
            .messages
            .iter()
            .map(|message| match message {
                Message::Assistant { text, calls, .. } => {
                    let calls = calls.iter().map(|call| {
                        let next = order.len();
                        (*order.entry(&call.id).or_insert(next), call.name.as_str(), call.arguments.as_str())
                    });
                    Named::Assistant("assistant", text, calls.collect())
                }
                Message::Tool { call_id, text } => {
                    let next = order.len();
                    Named::Tool("tool", *order.entry(call_id).or_insert(next), text)
                }
                Message::System { text } => Named::Words("system", text),
                Message::User { text } => Named::Words("user", text),
            })
            .collect();
        // None of it has keys that are not text.
        let content = if self.sampling.is_default() {
            serde_json::to_vec(&(messages, &self.tools, &self.output_schema))
        } else {
            serde_json::to_vec(&(messages, &self.tools, &self.output_schema, &self.sampling))
        };
        short_hash(&content.unwrap_or_default(), 64)
    }
}

/// Why the model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// It had said everything.
    Stop,
    /// It wants tools to be called.
    ToolCalls,
    /// It ran into the output limit: calls in the answer are not to be trusted.
    Length,
    /// The provider withheld the answer, or the model refused.
    Refusal,
}

/// A complete answer of a model, as the adapter hands it over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatAnswer {
    /// The text.
    pub text: String,
    /// The calls, in order, unparsed.
    pub calls: Vec<RawCall>,
    /// Why it stopped.
    pub stop: StopReason,
    /// What was billed.
    pub bill: Bill,
    /// How many requests it took (1: the first one succeeded).
    pub requests: u32,
    /// What it thought, where the provider says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasoning: Vec<Reasoning>,
}

/// Tokens and cost of one call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bill {
    /// Which model answered (its name in the configuration).
    pub model: String,
    /// Tokens; `None` where the provider did not say.
    pub usage: Option<Usage>,
    /// US dollars; `None` means unknown, never zero.
    pub cost: Option<NanoUsd>,
    /// Where the cost is from.
    pub source: CostSource,
}

/// An answer as the run sees it: calls parsed, output judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The model's text.
    pub text: String,
    /// The calls to carry out, in order. `finish` is among them where the model called it.
    pub calls: Vec<ToolCall>,
    /// The calls as they came, for the next request.
    pub raw_calls: Vec<RawCall>,
    /// Why it stopped.
    pub stop: StopReason,
    /// Set where this answer ends the step: the step's output, or why it is not acceptable (to be sent back).
    pub conclusion: Option<Result<Conclusion, String>>,
    /// What it thought, for the next request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasoning: Vec<Reasoning>,
}

/// How an agent ended its step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conclusion {
    /// Its closing words.
    pub text: String,
    /// Its structured output, where the step has a schema.
    pub output: Option<Value>,
}

/// What went wrong with a model call, by who is to mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelFault {
    /// 401 or 403: the key is wrong. The operator's fault.
    Auth,
    /// 402: the account is empty. The operator's fault.
    Payment,
    /// 404: no such model or address. The operator's fault.
    NotFound,
    /// 400 or 422: the provider refuses the request itself. Ours, or the model lacks a feature.
    BadRequest,
    /// 413, or a context-length error: the conversation is too long.
    TooLong,
    /// 429: after all retries.
    RateLimited,
    /// 5xx: after all retries.
    Unavailable,
    /// No connection, or it broke off, after all retries.
    Network,
    /// First-byte, idle or total deadline passed, after all retries.
    Timeout,
    /// What came is not the protocol.
    Protocol,
    /// A cassette has no answer for this request: it differs from the recorded one.
    Unmatched,
}

/// A failed model call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ModelError {
    /// What kind of failure.
    pub fault: ModelFault,
    /// What failed, where, and what to do about it.
    pub message: String,
    /// HTTP status, where there was one.
    pub status: Option<u16>,
    /// How many requests were made.
    pub requests: u32,
    /// What was billed although it failed, where that is known.
    pub bill: Option<Bill>,
    /// How long the provider asked to be left alone, in milliseconds, where it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// One turn of an agent's conversation: its answer and what it was told in return.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// What the model said.
    pub answer: Answer,
    /// For each of its calls, in order: the call's id and the result's text.
    pub results: Vec<(String, String)>,
    /// What the engine says after that (a schema error, a nudge out of a stall); `None`: nothing.
    pub say: Option<String>,
}
