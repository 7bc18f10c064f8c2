//! A request as it is kept: who said what, by hash; each text once.

use crate::model::chat::{ChatRequest, Message};
use crate::model::id::short_hash;
use crate::model::recording::CallPlace;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The operator's instructions.
    System,
    /// A person's words, or the engine's.
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Tool,
}

/// A request: its messages, tools and schema by the hashes of their texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Which call of the run.
    pub place: CallPlace,
    /// Who said what.
    pub messages: Vec<(Role, String)>,
    /// The tools on offer, as JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<String>,
    /// The output's schema, as JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
}

impl Request {
    /// All hashes that it names.
    pub fn hashes(&self) -> impl Iterator<Item = &String> {
        self.messages.iter().map(|(_, hash)| hash).chain(&self.tools).chain(&self.schema)
    }
}

/// A request with those of its texts that were not kept before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The request.
    pub request: Request,
    /// Texts by their hash.
    pub texts: BTreeMap<String, String>,
}

impl Kept {
    /// Of a request that says its place. `known`: the hashes of texts that are kept already.
    pub fn of(request: &ChatRequest, known: &HashSet<String>) -> Option<Self> {
        let place = request.place.clone()?;
        let mut texts = BTreeMap::new();
        let mut keep = |text: Cow<'_, str>| {
            let hash = hash(&text);
            if !known.contains(&hash) {
                texts.insert(hash.clone(), text.into_owned());
            }
            hash
        };
        let mut messages = Vec::with_capacity(request.messages.len());
        for message in &request.messages {
            let (role, text) = rendered(message);
            messages.push((role, keep(text)));
        }
        let tools = (!request.tools.is_empty()).then(|| serde_json::to_string(&request.tools).unwrap_or_default());
        let tools = tools.map(|tools| keep(tools.into()));
        let schema = request.output_schema.as_ref().map(|schema| keep(format!("{schema:#}").into()));
        Some(Self { request: Request { place, messages, tools, schema }, texts })
    }
}

/// A text's name.
pub(super) fn hash(text: &str) -> String {
    short_hash(text.as_bytes(), 64)
}

/// A message as people read it. A model's calls follow its words, a line each.
fn rendered(message: &Message) -> (Role, Cow<'_, str>) {
    match message {
        Message::System { text } => (Role::System, text.into()),
        Message::User { text } => (Role::User, text.into()),
        Message::Tool { text, .. } => (Role::Tool, text.into()),
        Message::Assistant { text, calls, .. } => {
            let mut out = text.clone();
            for call in calls {
                if !out.is_empty() && !out.ends_with('\n') {
                    out.push('\n');
                }
                let _ = writeln!(out, "→ {} {}", call.name, call.arguments);
            }
            (Role::Assistant, out.into())
        }
    }
}
