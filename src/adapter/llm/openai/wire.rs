//! What goes out: a request as the server reads it.

use super::super::dialect::{Refused, arguments, cache_marks, max_output};
use super::REASONING;
use crate::model::chat::{ChatRequest, Message, ModelRef, RawCall, Reasoning, ToolChoice};
use serde_json::{Map, Value, json};

/// Fields that not every server takes. `max_tokens` is called `max_completion_tokens` where it is refused; without
/// `stream_options`, tokens are unknown.
pub(super) const OPTIONAL: [&str; 11] = [
    "max_tokens",
    "parallel_tool_calls",
    "response_format",
    "stream_options",
    "reasoning_effort",
    "reasoning_content",
    "cache_control",
    "top_p",
    "temperature",
    "stop",
    "tool_choice",
];

/// Whether a model's tags are sent along: they mean something to a LiteLLM proxy only.
pub(super) fn tagged(model: &ModelRef) -> bool {
    model.provider == "litellm" && !model.tags.is_empty()
}

/// The body of `POST /chat/completions`, without the `refused` fields.
pub(super) fn body(request: &ChatRequest, refused: &Refused) -> Value {
    let model = &request.model;
    let sampling = &request.sampling;
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(model.model));
    body.insert("messages".to_owned(), messages(request, refused));
    let mut put = |name: &str, value: Value| {
        if !refused.contains(name) {
            body.insert(name.to_owned(), value);
        }
    };
    put("stream", json!(true));
    put("stream_options", json!({"include_usage": true}));
    let max_tokens = if refused.contains("max_tokens") { "max_completion_tokens" } else { "max_tokens" };
    put(max_tokens, json!(max_output(request)));
    if !request.tools.is_empty() {
        let tools = request.tools.iter().map(|tool| {
            json!({"type": "function", "function": {
                "name": tool.name, "description": tool.description, "parameters": tool.parameters,
            }})
        });
        put("tools", tools.collect());
        put("parallel_tool_calls", json!(true));
        match &sampling.tool_choice {
            ToolChoice::Auto => {}
            ToolChoice::Forbidden => put("tool_choice", json!("none")),
            ToolChoice::Required => put("tool_choice", json!("required")),
            ToolChoice::Named(name) => {
                put("tool_choice", json!({"type": "function", "function": {"name": name}}));
            }
        }
    } else if let Some(schema) = &request.output_schema {
        // Beside tools, many servers refuse it.
        put("response_format", json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}));
    }
    if let Some(effort) = &model.reasoning {
        put("reasoning_effort", json!(effort));
    }
    if let Some(temperature) = sampling.temperature {
        put("temperature", json!(temperature));
    }
    if let Some(top_p) = sampling.top_p {
        put("top_p", json!(top_p));
    }
    if !sampling.stop.is_empty() {
        put("stop", json!(sampling.stop));
    }
    if tagged(model) {
        put("metadata", json!({"tags": model.tags}));
    }
    Value::Object(body)
}

fn messages(request: &ChatRequest, refused: &Refused) -> Value {
    // These two pass the marks on to providers that want to be told what to keep; the others know by themselves.
    let marking = matches!(request.model.provider.as_str(), "openrouter" | "litellm");
    let marks = if marking && !refused.contains("cache_control") { cache_marks(request) } else { Default::default() };
    let with_reasoning = !refused.contains("reasoning_content");
    let messages = request.messages.iter().enumerate();
    messages.map(|(at, shown)| message(shown, marks.contains(&at), with_reasoning)).collect()
}

fn message(message: &Message, marked: bool, with_reasoning: bool) -> Value {
    match message {
        Message::System { text } => json!({"role": "system", "content": content(text, marked)}),
        Message::User { text } => json!({"role": "user", "content": content(text, marked)}),
        Message::Tool { call_id, text } => {
            json!({"role": "tool", "tool_call_id": call_id, "content": content(text, marked)})
        }
        Message::Assistant { text, calls, .. } if calls.is_empty() => {
            // Several providers refuse an empty message.
            let text = if text.is_empty() { "(no answer)" } else { text };
            json!({"role": "assistant", "content": content(text, marked)})
        }
        Message::Assistant { text, calls, reasoning } => {
            let mut message = json!({
                "role": "assistant",
                "content": if text.is_empty() { Value::Null } else { content(text, marked) },
                "tool_calls": calls.iter().map(call).collect::<Vec<_>>(),
            });
            let thought: String =
                reasoning.iter().filter(|piece| wanted_back(piece)).map(|r| r.text.as_str()).collect();
            if with_reasoning
                && !thought.is_empty()
                && let Some(message) = message.as_object_mut()
            {
                message.insert(REASONING.to_owned(), Value::String(thought));
            }
            message
        }
    }
}

/// Servers that give `reasoning_content` want it back with the calls that came after it.
fn wanted_back(reasoning: &Reasoning) -> bool {
    let kind = reasoning.block.as_ref().and_then(|block| block.get("type"));
    reasoning.dialect == "openai" && kind.is_some_and(|kind| kind == REASONING)
}

/// Text, as a part with a mark where it has one.
fn content(text: &str, marked: bool) -> Value {
    if !marked || text.is_empty() {
        return json!(text);
    }
    json!([{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}])
}

fn call(call: &RawCall) -> Value {
    // What is an object goes back as it came, to the letter.
    let arguments = match serde_json::from_str::<Value>(&call.arguments) {
        Ok(Value::Object(_)) => call.arguments.clone(),
        _ => arguments(call).to_string(),
    };
    json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
}
