//! Language models.

use crate::model::catalog::{Listing, Server};
use crate::model::chat::{ChatAnswer, ChatRequest, ModelError};
use async_trait::async_trait;

/// Answers chat requests. Retries, deadlines and `Retry-After` are the adapter's business; falling back to another
/// model is the run's.
#[async_trait]
pub trait ChatModel: Send + Sync {
    /// Asks. `heard` is given the text as it streams in; a partial tool call is never handed over.
    ///
    /// # Errors
    /// [`ModelError`] once retries are used up; says what was billed where that is known.
    async fn ask(
        &self,
        request: &ChatRequest,
        heard: &(dyn for<'a> Fn(&'a str) + Send + Sync),
    ) -> Result<ChatAnswer, ModelError>;
}

/// Asks servers what they serve.
#[async_trait]
pub trait Catalog: Send + Sync {
    /// What a server serves. That it is not there, or does not say, is an answer; it comes within a few seconds.
    async fn list(&self, server: &Server) -> Listing;

    /// What time the server at an address says it is, in milliseconds since 1970; no key is sent.
    ///
    /// # Errors
    /// It cannot be reached or does not say: in words.
    async fn clock(&self, url: &str) -> Result<i64, String>;
}
