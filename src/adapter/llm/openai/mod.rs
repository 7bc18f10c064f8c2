//! OpenAI's chat completions, as OpenAI, Azure, OpenRouter, LiteLLM, vLLM, Ollama, LM Studio and others speak them.

mod assemble;
mod wire;

use super::dialect::{Assemble, Billed, Broken, Dialect, Heard, KeyHeader, Refused, Whole};
use crate::model::chat::{ChatRequest, ModelRef};
use serde_json::Value;

/// The field in which DeepSeek and others give what a model thought, and want it back.
const REASONING: &str = "reasoning_content";

/// The dialect.
#[derive(Debug)]
pub(super) struct OpenAi;

impl Dialect for OpenAi {
    fn whose(&self) -> &'static str {
        "OpenAI"
    }

    fn answer(&self) -> &'static str {
        "chat completion"
    }

    fn path(&self) -> &'static [&'static str] {
        &["chat", "completions"]
    }

    fn key_header(&self, model: &ModelRef) -> KeyHeader {
        if model.provider == "azure" { KeyHeader::Named("api-key") } else { KeyHeader::Bearer }
    }

    fn headers(&self, model: &ModelRef) -> Vec<(&'static str, String)> {
        if wire::tagged(model) { vec![("x-litellm-tags", model.tags.join(","))] } else { Vec::new() }
    }

    fn optional(&self) -> &'static [&'static str] {
        &wire::OPTIONAL
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
