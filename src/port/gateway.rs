//! The way from a program in a sandbox to a model.

use crate::model::chat::{ChatAnswer, Message, Sampling};
use crate::model::tool::ToolSpec;
use async_trait::async_trait;
use serde_json::Value;
use std::any::Any;
use std::net::TcpListener;
use std::sync::Arc;

/// The port that the gateway has inside a sandbox with a network of its own, at 127.0.0.1.
pub const GATEWAY_PORT: u16 = 4141;

/// Serves models over HTTP, in the dialects that agents speak, to whoever reaches a listener.
pub trait Gateway: Send + Sync {
    /// A token for a step: new, and not to be guessed.
    ///
    /// # Errors
    /// What keeps it from being made, in words.
    fn token(&self) -> Result<String, String>;

    /// Serves `desk` at `listener` until the returned guard is dropped.
    ///
    /// # Errors
    /// What keeps it from serving, in words.
    fn serve(&self, listener: TcpListener, desk: Arc<dyn Desk>) -> Result<Box<dyn Any + Send + Sync>, String>;
}

/// A question, read from whichever dialect it came in. What the dialect can say beyond this has been refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// `openai`, `openai-responses` or `anthropic`.
    pub dialect: &'static str,
    /// The model that was asked for: noted, never obeyed.
    pub model: String,
    /// The conversation.
    pub messages: Vec<Message>,
    /// The tools on offer; all of them are the program's own.
    pub tools: Vec<ToolSpec>,
    /// How the answer is to be made.
    pub sampling: Sampling,
    /// A JSON Schema that the answer is to follow.
    pub output_schema: Option<Value>,
    /// Positions of messages after which the program wants the provider to keep what came so far, ascending.
    pub cache_marks: Vec<usize>,
}

/// Who answers: holds the keys, the budget and the journal.
#[async_trait]
pub trait Desk: Send + Sync {
    /// Whether this is the token of a step at work. Nothing of a request is read before.
    fn knows(&self, token: &str) -> bool;

    /// Answers a question. `heard` is given the text as it comes.
    ///
    /// # Errors
    /// [`Refusal`], which the gateway words in the dialect's own form of an error.
    async fn ask(
        &self,
        token: &str,
        question: Question,
        heard: &(dyn for<'a> Fn(&'a str) + Send + Sync),
    ) -> Result<ChatAnswer, Refusal>;

    /// Notes something that was asked for and is not on the allowlist: an endpoint, a field.
    async fn refused(&self, token: &str, what: &str, why: &str);

    /// The name of the one model that there is, as `GET /v1/models` lists it.
    fn model(&self, token: &str) -> String;
}

/// Why a question is not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such token, or its step has ended.
    #[error("this token is not, or no longer, valid")]
    Unknown,
    /// The budget does not allow it; asking again is of no use.
    #[error("{0}")]
    Budget(String),
    /// What is asked for is not allowed here.
    #[error("{0}")]
    NotAllowed(String),
    /// The conversation is too long for the model: the program is to shorten it.
    #[error("{0}")]
    TooLong(String),
    /// The model could not be had: HTTP status and reason.
    #[error("{1}")]
    Failed(u16, String),
}
