//! Models over HTTP: OpenAI's chat completions, which most servers speak, and Anthropic's messages.
//!
//! [`Router`] picks the dialect by a model's provider and asks; [`discover`] finds the model that the environment
//! configures. What all dialects share is here: addresses and keys (`target`), connections and deadlines (`http`),
//! attempts (`ask`, `retry`), events (`sse`), failures in words (`failure`), bills (`bill`). A dialect (`openai`,
//! `anthropic`) says how a request looks and puts the pieces of an answer together, which is handed over only when it
//! is complete.

mod anthropic;
mod ask;
mod bill;
mod dialect;
mod discover;
mod failure;
pub(in crate::adapter) mod http;
mod openai;
pub(in crate::adapter) mod retry;
mod router;
mod sse;
mod target;

pub use discover::discover;
pub use http::Settings;
pub use router::{Router, at_home};
pub use target::KeyLookup;

/// Gives random numbers, to spread waits.
pub type Jitter = std::sync::Arc<dyn Fn() -> u64 + Send + Sync>;
