//! What goes out: a request as the server reads it.

use super::super::dialect::{Refused, arguments, cache_marks, max_output};
use super::NAME;
use crate::model::chat::{ChatRequest, Message, RawCall, Reasoning, ToolChoice};
use crate::model::id::short_hash;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Fields that not every server or model takes. Without `budget_tokens`, `thinking` is asked for by `effort`. Without
/// `thinking`, earlier thoughts do not go back either.
pub(super) const OPTIONAL: [&str; 8] = [
    "output_config",
    "top_p",
    "temperature",
    "stop_sequences",
    "tool_choice",
    "cache_control",
    "budget_tokens",
    "thinking",
];

/// The smallest budget for thinking that Anthropic takes, in tokens.
const LEAST_BUDGET: u64 = 1024;

/// The body of `POST /messages`, without the `refused` fields.
pub(super) fn body(request: &ChatRequest, refused: &Refused) -> Value {
    let sampling = &request.sampling;
    let marks = if refused.contains("cache_control") { None } else { Some(Marks::of(request)) };
    let thinking = thinking(request, refused);
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(request.model.model));
    body.insert("max_tokens".to_owned(), json!(max_output(request)));
    let mut put = |name: &str, value: Value| {
        if !refused.contains(name) {
            body.insert(name.to_owned(), value);
        }
    };
    put("stream", json!(true));
    let (mut tools, only_named) = tools(request);
    let system = system(request, marks.as_ref());
    if system.is_empty() && marks.as_ref().is_some_and(|marks| marks.prefix) {
        mark(tools.last_mut());
    }
    if !system.is_empty() {
        put("system", Value::Array(system));
    }
    put("messages", messages(request, marks.as_ref(), !refused.contains("thinking")));
    if !tools.is_empty() {
        put("tools", Value::Array(tools));
        match &sampling.tool_choice {
            _ if only_named => put("tool_choice", json!({"type": "none"})),
            ToolChoice::Auto => {}
            ToolChoice::Forbidden => put("tool_choice", json!({"type": "none"})),
            ToolChoice::Required => put("tool_choice", json!({"type": "any"})),
            ToolChoice::Named(name) => put("tool_choice", json!({"type": "tool", "name": name})),
        }
    }
    match &thinking {
        Thinking::No => {
            if let Some(temperature) = sampling.temperature {
                // Anthropic's scale ends at 1.
                put("temperature", json!(temperature.clamp(0.0, 1.0)));
            }
            if let Some(top_p) = sampling.top_p {
                put("top_p", json!(top_p));
            }
        }
        // While it thinks, neither may be set.
        Thinking::Budget(tokens) => put("thinking", json!({"type": "enabled", "budget_tokens": tokens})),
        Thinking::Effort(effort) => {
            put("thinking", json!({"type": "adaptive"}));
            put("output_config", json!({"effort": effort}));
        }
    }
    // Texts of white space alone are refused.
    let stop: Vec<&String> = sampling.stop.iter().filter(|text| !text.trim().is_empty()).collect();
    if !stop.is_empty() {
        put("stop_sequences", json!(stop));
    }
    Value::Object(body)
}

/// How the model is asked to think.
enum Thinking {
    No,
    /// For so many tokens at most.
    Budget(u64),
    /// So hard, for as long as it likes.
    Effort(String),
}

fn thinking(request: &ChatRequest, refused: &Refused) -> Thinking {
    let Some(effort) = request.model.reasoning.as_deref() else { return Thinking::No };
    // Who must call a tool cannot think before; nor can who began the running exchange of calls without thinking.
    let forced = matches!(request.sampling.tool_choice, ToolChoice::Required | ToolChoice::Named(_));
    if refused.contains("thinking") || (forced && !request.tools.is_empty()) || began_without(request) {
        return Thinking::No;
    }
    if refused.contains("budget_tokens") {
        return Thinking::Effort(effort.to_owned());
    }
    let longest = max_output(request);
    let share = match effort {
        "low" => longest / 8,
        "high" => longest / 2,
        _ => longest / 4,
    };
    let budget = share.max(LEAST_BUDGET);
    // The budget is part of the answer's tokens, and something must be left to say.
    if budget < longest { Thinking::Budget(budget) } else { Thinking::No }
}

/// Whether the exchange of calls and results that is under way began with an answer that holds no thoughts.
fn began_without(request: &ChatRequest) -> bool {
    let since = request.messages.iter().rposition(|message| matches!(message, Message::User { .. })).unwrap_or(0);
    let first = request.messages.iter().skip(since).find_map(|message| match message {
        Message::Assistant { reasoning, calls, .. } => Some((reasoning, calls)),
        _ => None,
    });
    first.is_some_and(|(reasoning, calls)| !calls.is_empty() && blocks(reasoning).next().is_none())
}

/// Where the cache is to keep what came so far.
struct Marks {
    /// After the system prompt, which comes after the tools.
    prefix: bool,
    /// After these messages.
    messages: BTreeSet<usize>,
}

impl Marks {
    /// The request's marks; where it has none, the system prompt and the last message are marked, so that each turn
    /// reads what the one before has written.
    fn of(request: &ChatRequest) -> Self {
        if request.cache_marks.is_empty() {
            let last = request.messages.len().checked_sub(1);
            return Self { prefix: true, messages: last.into_iter().collect() };
        }
        Self { prefix: false, messages: cache_marks(request) }
    }
}

fn mark(block: Option<&mut Value>) {
    // Thoughts cannot be marked.
    let thought = |block: &Map<String, Value>| {
        block.get("type").is_some_and(|kind| kind != "text" && kind != "tool_use" && kind != "tool_result")
    };
    if let Some(block) = block.and_then(Value::as_object_mut).filter(|block| !thought(block)) {
        block.insert("cache_control".to_owned(), json!({"type": "ephemeral"}));
    }
}

/// The system prompt: all system messages, wherever they stand.
fn system(request: &ChatRequest, marks: Option<&Marks>) -> Vec<Value> {
    let mut blocks = Vec::new();
    for (at, message) in request.messages.iter().enumerate() {
        let Message::System { text } = message else { continue };
        if text.trim().is_empty() {
            continue;
        }
        blocks.push(json!({"type": "text", "text": text}));
        if marks.is_some_and(|marks| marks.messages.contains(&at)) {
            mark(blocks.last_mut());
        }
    }
    if marks.is_some_and(|marks| marks.prefix) {
        mark(blocks.last_mut());
    }
    blocks
}

/// The tools on offer. Where there are none but the conversation holds calls, those are named, because Anthropic wants
/// every tool that was called to be known: `true`.
fn tools(request: &ChatRequest) -> (Vec<Value>, bool) {
    if !request.tools.is_empty() {
        let tools = request
            .tools
            .iter()
            .map(|tool| json!({"name": tool.name, "description": tool.description, "input_schema": tool.parameters}));
        return (tools.collect(), false);
    }
    let mut called: BTreeMap<String, Value> = BTreeMap::new();
    for message in &request.messages {
        if let Message::Assistant { calls, .. } = message {
            called.extend(calls.iter().map(|call| {
                let name = tool_name(&call.name);
                let tool = json!({"name": name, "description": "", "input_schema": {"type": "object"}});
                (name, tool)
            }));
        }
    }
    let named = !called.is_empty();
    (called.into_values().collect(), named)
}

/// The conversation without the system prompt. Roles alternate: what one side says in a row is one message.
fn messages(request: &ChatRequest, marks: Option<&Marks>, with_thoughts: bool) -> Value {
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    for (at, message) in request.messages.iter().enumerate() {
        let (role, mut blocks) = match message {
            Message::System { .. } => continue,
            Message::User { text } => ("user", vec![said(text, "(nothing)")]),
            Message::Tool { call_id, text } => ("user", vec![result(call_id, text)]),
            Message::Assistant { text, calls, reasoning } => {
                let mut content: Vec<Value> = blocks(reasoning).filter(|_| with_thoughts).cloned().collect();
                if !text.trim().is_empty() || calls.is_empty() {
                    content.push(said(text, "(no answer)"));
                }
                content.extend(calls.iter().map(call));
                ("assistant", content)
            }
        };
        if marks.is_some_and(|marks| marks.messages.contains(&at)) {
            mark(blocks.last_mut());
        }
        match turns.last_mut().filter(|(last, _)| *last == role) {
            Some((_, content)) => content.append(&mut blocks),
            None => turns.push((role, blocks)),
        }
    }
    turns.into_iter().map(|(role, content)| json!({"role": role, "content": content})).collect()
}

/// The thoughts that came in this dialect, as they came.
fn blocks(reasoning: &[Reasoning]) -> impl Iterator<Item = &Value> {
    reasoning.iter().filter(|thought| thought.dialect == NAME).filter_map(|thought| thought.block.as_ref())
}

/// A text; blocks of white space alone are refused.
fn said(text: &str, nothing: &str) -> Value {
    json!({"type": "text", "text": if text.trim().is_empty() { nothing } else { text }})
}

fn result(call_id: &str, text: &str) -> Value {
    let mut block = json!({"type": "tool_result", "tool_use_id": call_id_of(call_id)});
    if !text.trim().is_empty()
        && let Some(block) = block.as_object_mut()
    {
        block.insert("content".to_owned(), json!(text));
    }
    block
}

fn call(call: &RawCall) -> Value {
    json!({"type": "tool_use", "id": call_id_of(&call.id), "name": tool_name(&call.name), "input": arguments(call)})
}

fn plain(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// An id that Anthropic takes: another provider's may hold other characters.
fn call_id_of(id: &str) -> String {
    if plain(id) { id.to_owned() } else { format!("call_{}", short_hash(id.as_bytes(), 16)) }
}

/// A name that Anthropic takes: a model may have made one up.
fn tool_name(name: &str) -> String {
    let name: String = name.chars().take(64).map(|c| if plain(&c.to_string()) { c } else { '_' }).collect();
    if name.is_empty() { "unnamed".to_owned() } else { name }
}
