//! What goes out: a request as the server reads it.

use crate::model::chat::{ChatRequest, Message, RawCall};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// A field of the request that not every server takes. After a refusal that names it, the request is made again
/// without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Optional {
    /// `max_tokens`, which newer models call `max_completion_tokens`.
    MaxTokens,
    /// `parallel_tool_calls`.
    ParallelToolCalls,
    /// `response_format`.
    ResponseFormat,
    /// `stream_options`: without it, tokens are unknown.
    StreamOptions,
}

impl Optional {
    /// All of them, with their names on the wire.
    pub(super) const ALL: [(Self, &str); 4] = [
        (Self::MaxTokens, "max_tokens"),
        (Self::ParallelToolCalls, "parallel_tool_calls"),
        (Self::ResponseFormat, "response_format"),
        (Self::StreamOptions, "stream_options"),
    ];
}

/// The body of `POST /chat/completions`, without the `refused` fields.
pub(super) fn body(request: &ChatRequest, refused: &BTreeSet<Optional>) -> Value {
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| body.insert(name.to_owned(), value);
    put("model", json!(request.model.model));
    put("messages", request.messages.iter().map(message).collect());
    put("stream", json!(true));
    if !refused.contains(&Optional::StreamOptions) {
        put("stream_options", json!({"include_usage": true}));
    }
    let max_tokens = if refused.contains(&Optional::MaxTokens) { "max_completion_tokens" } else { "max_tokens" };
    put(max_tokens, json!(request.model.max_output));
    if let Some(temperature) = request.sampling.temperature {
        put("temperature", json!(temperature));
    }
    if !request.tools.is_empty() {
        let tools = request.tools.iter().map(|tool| {
            json!({"type": "function", "function": {
                "name": tool.name, "description": tool.description, "parameters": tool.parameters,
            }})
        });
        put("tools", tools.collect());
        if !refused.contains(&Optional::ParallelToolCalls) {
            put("parallel_tool_calls", json!(true));
        }
    } else if let Some(schema) = &request.output_schema
        && !refused.contains(&Optional::ResponseFormat)
    {
        // Beside tools, many servers refuse it.
        put("response_format", json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}));
    }
    Value::Object(body)
}

fn message(message: &Message) -> Value {
    match message {
        Message::System { text } => json!({"role": "system", "content": text}),
        Message::User { text } => json!({"role": "user", "content": text}),
        Message::Tool { call_id, text } => json!({"role": "tool", "tool_call_id": call_id, "content": text}),
        Message::Assistant { text, calls, .. } if calls.is_empty() => {
            // Several providers refuse an empty message.
            json!({"role": "assistant", "content": if text.is_empty() { "(no answer)" } else { text }})
        }
        Message::Assistant { text, calls, .. } => json!({
            "role": "assistant",
            "content": if text.is_empty() { Value::Null } else { json!(text) },
            "tool_calls": calls.iter().map(call).collect::<Vec<_>>(),
        }),
    }
}

fn call(call: &RawCall) -> Value {
    // Gateways parse the arguments of earlier turns: what the model garbled is shown to it as a value instead.
    let arguments = match serde_json::from_str::<Value>(&call.arguments) {
        Ok(Value::Object(_)) => call.arguments.clone(),
        _ => json!({"malformed_arguments": call.arguments}).to_string(),
    };
    json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
}
