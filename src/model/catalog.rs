//! What servers offer, and where what is known of a model is from.

use super::usage::Price;
use serde::{Deserialize, Serialize};

/// A server that can be asked what it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Who it is (`openai`, `anthropic`, `litellm`, `ollama`, …): decides how it is asked.
    pub provider: String,
    /// Base URL, up to and with `/v1`.
    pub base_url: String,
    /// Where its key is to be found (`env://NAME`); never the key itself.
    pub api_key: Option<String>,
    /// How it became known, in words (`OLLAMA_HOST`, `.codeforge/config.yml`, `usual address`).
    pub known_by: String,
    /// Whether somebody named it. One that nobody named is not missed where it is not there.
    pub named: bool,
}

/// What a server said.
#[derive(Debug, Clone, PartialEq)]
pub enum Listing {
    /// It serves these.
    Served(Vec<Served>),
    /// Nothing answers at its address: why, in words.
    Absent(String),
    /// It answers, but does not say: why, in words.
    Refused(String),
}

/// A model that a server serves, as far as the server says.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Served {
    /// The name to ask for it by.
    pub model: String,
    /// Price.
    pub price: Option<Price>,
    /// Context window, in tokens.
    pub context_window: Option<u64>,
    /// Longest answer, in tokens.
    pub max_output: Option<u64>,
    /// Whether it can call functions.
    pub tools: Option<bool>,
    /// What it does (`chat`, `embedding`, …).
    pub mode: Option<String>,
    /// Tags that a LiteLLM proxy routes by.
    pub tags: Vec<String>,
}

impl Served {
    /// Whether it answers chat requests, as far as anybody says.
    pub fn chats(&self) -> bool {
        self.mode.as_deref().is_none_or(|mode| matches!(mode, "chat" | "completion" | "responses" | "llm" | "vlm"))
    }
}

/// Where a price is from, the strongest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "source", rename_all = "snake_case")]
pub enum PriceOrigin {
    /// `models.NAME.price` in `config.yml`.
    Config,
    /// Variables of the environment.
    Environment,
    /// A table of prices.
    Table {
        /// The table's file.
        file: String,
        /// The day that its prices are of (`2026-11-24`).
        as_of: String,
        /// The entry: a name or a glob.
        entry: String,
    },
    /// Its provider is local: known to cost nothing by the token.
    Local,
    /// The server that offers it. Good to know; a run does not ask.
    Server,
}
