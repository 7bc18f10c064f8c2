//! Anthropic's messages, as Anthropic and servers compatible with it speak them.

mod assemble;
mod wire;

use super::dialect::{Assemble, Billed, Blamed, Broken, Dialect, Heard, KeyHeader, Refused, Whole};
use super::failure::{Failure, mentions};
use crate::model::chat::{ChatRequest, ModelFault, ModelRef};
use serde_json::Value;

/// The version of the protocol that is spoken here.
const VERSION: &str = "2023-06-01";

/// The dialect, as [`Reasoning::dialect`](crate::model::chat::Reasoning) names it.
const NAME: &str = "anthropic";

/// The dialect.
#[derive(Debug)]
pub(super) struct Anthropic;

impl Dialect for Anthropic {
    fn whose(&self) -> &'static str {
        "Anthropic"
    }

    fn answer(&self) -> &'static str {
        "message of Anthropic's protocol"
    }

    fn path(&self) -> &'static [&'static str] {
        &["messages"]
    }

    fn key_header(&self, _model: &ModelRef) -> KeyHeader {
        KeyHeader::Named("x-api-key")
    }

    fn headers(&self, _model: &ModelRef) -> Vec<(&'static str, String)> {
        vec![("anthropic-version", VERSION.to_owned())]
    }

    fn optional(&self) -> &'static [&'static str] {
        &wire::OPTIONAL
    }

    fn blamed(&self, failure: &Failure, sent: &dyn Fn(&str) -> bool) -> Option<Blamed> {
        let said = failure.said.message.to_lowercase();
        if failure.fault == ModelFault::BadRequest && sent("thinking") {
            // Newer models are told how hard to think, not how long.
            if sent("budget_tokens") && mentions(&said, "adaptive") {
                return Some(Blamed { field: "budget_tokens", for_good: true });
            }
            // Thoughts of another model in the conversation, or none where there should be some.
            if mentions(&said, "signature") || mentions(&said, "redacted_thinking") {
                return Some(Blamed { field: "thinking", for_good: false });
            }
        }
        let field = self.optional().iter().copied().find(|name| sent(name) && failure.blames(name))?;
        Some(Blamed { field, for_good: true })
    }

    fn body(&self, request: &ChatRequest, refused: &Refused) -> Value {
        wire::body(request, refused)
    }

    fn assembler(&self) -> Box<dyn Assemble> {
        Box::new(assemble::Assembler::default())
    }

    fn document(&self, document: &Value, calls_before: usize, heard: Heard<'_>) -> Result<Whole, Broken> {
        assemble::document(document, calls_before, heard)
    }

    fn billed(&self, body: &Value) -> Option<Billed> {
        assemble::billed(body)
    }
}
