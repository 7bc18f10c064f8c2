//! What the three dialects have in common: a parsed request, and errors in each one's own form.

use super::fields::Problem;
use super::{anthropic, openai, responses};
use crate::model::chat::ChatAnswer;
use crate::port::gateway::{Question, Refusal};
use serde_json::{Value, json};

/// A dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// OpenAI's chat completions.
    Openai,
    /// OpenAI's responses.
    Responses,
    /// Anthropic's messages.
    Anthropic,
}

/// A request that was understood.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub question: Question,
    /// Whether the answer is to come as events.
    pub stream: bool,
    /// Whether a chat completion's events are to end with the usage.
    pub usage: bool,
    /// Tools whose argument is a plain text.
    pub custom: Vec<String>,
    /// Tools of a namespace: the name that the model is told, the namespace, the name in it.
    pub namespaced: Vec<(String, String, String)>,
}

/// What makes an answer's JSON complete: ids and time.
#[derive(Debug, Clone)]
pub(super) struct Stamp {
    /// Unique, hex digits.
    pub id: String,
    /// Seconds since 1970.
    pub created: i64,
}

impl Dialect {
    /// Reads a body.
    pub(super) fn parse(self, body: &Value) -> Result<Asked, Problem> {
        match self {
            Self::Openai => openai::parse(body),
            Self::Responses => responses::parse(body),
            Self::Anthropic => anthropic::parse(body),
        }
    }

    /// An answer in one piece.
    pub(super) fn whole(self, asked: &Asked, answer: &ChatAnswer, stamp: &Stamp) -> Value {
        match self {
            Self::Openai => openai::whole(asked, answer, stamp),
            Self::Responses => responses::whole(asked, answer, stamp),
            Self::Anthropic => anthropic::whole(asked, answer, stamp),
        }
    }

    /// An answer as events.
    pub(super) fn events(self, asked: &Asked, stamp: &Stamp) -> Box<dyn Events> {
        match self {
            Self::Openai => Box::new(openai::Stream::new(asked, stamp)),
            Self::Responses => Box::new(responses::Stream::new(asked, stamp)),
            Self::Anthropic => Box::new(anthropic::Stream::new(asked, stamp)),
        }
    }

    /// An error's body.
    pub(super) fn error(self, error: &Fault) -> Value {
        match self {
            Self::Openai | Self::Responses => {
                json!({"error": {
                    "message": error.message, "type": error.kind.openai(), "param": null, "code": error.kind.code(),
                }})
            }
            Self::Anthropic => {
                json!({"type": "error", "error": {"type": error.kind.anthropic(), "message": error.message}})
            }
        }
    }
}

/// An answer as server-sent events: each method gives the text to send, in this order.
pub(super) trait Events: Send {
    /// Before anything else.
    fn start(&mut self) -> String;
    /// More text.
    fn text(&mut self, more: &str) -> String;
    /// Nothing new, so that nobody gives up waiting.
    fn ping(&mut self) -> String;
    /// The rest, once the answer is whole. Its text was sent before.
    fn finish(&mut self, answer: &ChatAnswer) -> String;
    /// The end, where there is no answer.
    fn fail(&mut self, fault: &Fault) -> String;
}

/// One event. Its data is JSON, so it has no line breaks.
pub(super) fn event(name: Option<&str>, data: &Value) -> String {
    match name {
        Some(name) => format!("event: {name}\ndata: {data}\n\n"),
        None => format!("data: {data}\n\n"),
    }
}

/// What kind of error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// No token, or one that is not valid.
    Unauthorized,
    /// Not the dialect, or not JSON.
    Malformed,
    /// Not on the allowlist.
    NotAllowed,
    /// No such endpoint.
    NotFound,
    /// Not this method.
    Method,
    /// The body is too large.
    TooLarge,
    /// The body did not come in time.
    Slow,
    /// A body in an encoding that is not read.
    Encoding,
    /// The budget is used up: no use in asking again.
    Budget,
    /// The conversation is too long for the model.
    TooLong,
    /// The provider could not be had: its status.
    Failed(u16),
}

impl Kind {
    pub(super) fn status(self) -> u16 {
        match self {
            Self::Unauthorized => 401,
            Self::Malformed | Self::NotAllowed | Self::TooLong => 400,
            Self::NotFound => 404,
            Self::Method => 405,
            Self::TooLarge => 413,
            Self::Slow => 408,
            Self::Encoding => 415,
            Self::Budget => 402,
            Self::Failed(status) => status,
        }
    }

    /// Whether asking the same again could help.
    pub(super) fn is_passing(self) -> bool {
        matches!(self, Self::Slow | Self::Failed(429 | 500..))
    }

    fn openai(self) -> &'static str {
        match self {
            Self::Unauthorized => "authentication_error",
            Self::Budget => "insufficient_quota",
            Self::Failed(429) => "rate_limit_error",
            Self::Failed(500..) => "server_error",
            _ => "invalid_request_error",
        }
    }

    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Unauthorized => "invalid_api_key",
            Self::Malformed => "invalid_request",
            Self::NotAllowed => "not_allowed",
            Self::NotFound => "unknown_url",
            Self::Method => "method_not_supported",
            Self::TooLarge => "request_too_large",
            Self::Slow => "request_timeout",
            Self::Encoding => "unsupported_encoding",
            Self::Budget => "insufficient_quota",
            Self::TooLong => "context_length_exceeded",
            Self::Failed(429) => "rate_limit_exceeded",
            Self::Failed(500..) => "server_error",
            Self::Failed(_) => "model_unavailable",
        }
    }

    fn anthropic(self) -> &'static str {
        match self {
            Self::Unauthorized => "authentication_error",
            Self::NotFound => "not_found_error",
            Self::TooLarge => "request_too_large",
            Self::Budget => "billing_error",
            Self::Failed(429) => "rate_limit_error",
            Self::Failed(529) => "overloaded_error",
            Self::Failed(500..) => "api_error",
            _ => "invalid_request_error",
        }
    }
}

/// An error on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub kind: Kind,
    pub message: String,
}

impl Fault {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::Unknown => Self::new(Kind::Unauthorized, message),
            Refusal::Budget(_) => Self::new(Kind::Budget, message),
            Refusal::NotAllowed(_) => Self::new(Kind::NotAllowed, message),
            // Anthropic's programs recognise this beginning.
            Refusal::TooLong(_) => Self::new(Kind::TooLong, format!("prompt is too long: {message}")),
            Refusal::Failed(status, _) if (400..600).contains(&status) => Self::new(Kind::Failed(status), message),
            Refusal::Failed(..) => Self::new(Kind::Failed(502), message),
        }
    }
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Malformed(message) => Self::new(Kind::Malformed, message),
            Problem::Refused { what, why } => Self::new(Kind::NotAllowed, format!("`{what}` is refused: {why}")),
        }
    }
}
