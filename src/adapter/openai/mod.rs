//! Models that speak OpenAI's chat completions: OpenAI itself, LiteLLM, OpenRouter, vLLM, Ollama, LM Studio, …
//!
//! [`OpenAi`] asks and retries; [`Router`] picks the dialect by a model's provider; [`discover`] finds the model that
//! the environment configures. A request goes out by `wire`, its bytes come back through `sse` into `assemble`, which
//! hands over an answer only when it is complete.

mod assemble;
mod client;
mod discover;
mod failure;
mod retry;
mod router;
mod sse;
mod target;
mod wire;

pub use client::{Jitter, KeyLookup, OpenAi, Settings};
pub use discover::discover;
pub use router::Router;
