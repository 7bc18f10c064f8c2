//! Anthropic's messages, as the scripted provider speaks them: what it refuses, how it counts, how it streams.

use super::model_server::Drawn;
use serde_json::{Value, json};
use std::hash::{DefaultHasher, Hash, Hasher};

/// The conversation as (role, text) in OpenAI's terms: `system`, `user`, `assistant`, `tool`.
pub fn said(body: &Value) -> Vec<(String, String)> {
    let text = |block: &Value| block["text"].as_str().or(block.as_str()).unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    let mut said: Vec<(String, String)> = Vec::new();
    if !body["system"].is_null() {
        said.push(("system".into(), list(&body["system"]).iter().map(text).collect::<Vec<_>>().join("\n")));
    }
    for message in body["messages"].as_array().into_iter().flatten() {
        let blocks = list(&message["content"]);
        if message["role"] == "assistant" {
            said.push(("assistant".into(), blocks.iter().map(text).collect()));
            continue;
        }
        for block in &blocks {
            match block["type"].as_str() {
                Some("tool_result") => {
                    said.push(("tool".into(), list(&block["content"]).iter().map(text).collect()));
                }
                _ => said.push(("user".into(), text(block))),
            }
        }
    }
    said
}

/// What Anthropic would refuse in a request, in its words.
pub fn refused(body: &Value, header: &dyn Fn(&str) -> Option<String>) -> Option<(u16, String)> {
    let bad = |words: String| Some((400, words));
    if header("x-api-key").is_none_or(|key| key.is_empty()) {
        return Some((401, "x-api-key header is required".into()));
    }
    if header("anthropic-version").as_deref() != Some("2023-06-01") {
        return bad("anthropic-version: header is required".into());
    }
    let known = [
        "model",
        "messages",
        "max_tokens",
        "stream",
        "system",
        "tools",
        "tool_choice",
        "temperature",
        "top_p",
        "stop_sequences",
        "thinking",
        "output_config",
        "metadata",
    ];
    if let Some(key) = body.as_object()?.keys().find(|key| !known.contains(&key.as_str())) {
        return bad(format!("{key}: Extra inputs are not permitted"));
    }
    let Some(max_tokens) = body["max_tokens"].as_u64().filter(|tokens| *tokens > 0) else {
        return bad("max_tokens: Field required".into());
    };
    if body.to_string().matches("\"cache_control\":").count() > 4 {
        return bad("A maximum of 4 blocks with cache_control may be provided.".into());
    }
    let thinks = body["thinking"]["type"] == "enabled";
    let budget = body["thinking"]["budget_tokens"].as_u64().unwrap_or(0);
    if thinks && (budget < 1024 || budget >= max_tokens) {
        return bad("`max_tokens` must be greater than `thinking.budget_tokens`, which is 1024 or more".into());
    }
    if thinks && !(body["temperature"].is_null() && body["top_p"].is_null()) {
        return bad("`temperature` may only be set to 1 when thinking is enabled".into());
    }
    if thinks && matches!(body["tool_choice"]["type"].as_str(), Some("any" | "tool")) {
        return bad("Thinking may not be enabled when tool_choice forces tool use.".into());
    }
    conversation(body, thinks).map(|words| (400, words))
}

/// What is wrong with the conversation.
fn conversation(body: &Value, thinks: bool) -> Option<String> {
    let tools = body["tools"].as_array().cloned().unwrap_or_default();
    if let Some(tool) = tools.iter().find(|tool| tool["input_schema"]["type"] != "object") {
        return Some(format!("tools: {} has no input_schema of type object", tool["name"]));
    }
    let (mut last, mut open, mut loop_began) = (String::new(), Vec::<String>::new(), None);
    for (at, message) in body["messages"].as_array()?.iter().enumerate() {
        let role = message["role"].as_str().unwrap_or_default().to_owned();
        if role != "user" && role != "assistant" {
            return Some(format!("messages.{at}.role: unexpected role {role:?}"));
        }
        if role == last || (at == 0 && role != "user") {
            return Some(format!("messages.{at}: roles must alternate between user and assistant"));
        }
        last.clone_from(&role);
        let blocks = message["content"].as_array().cloned().unwrap_or_default();
        if blocks.is_empty() {
            return Some(format!("messages.{at}: all messages must have non-empty content"));
        }
        let of = |kind: &str| blocks.iter().filter(|block| block["type"] == kind).cloned().collect::<Vec<_>>();
        if of("text").iter().any(|block| block["text"].as_str().is_none_or(|text| text.trim().is_empty())) {
            return Some(format!("messages.{at}: text content blocks must contain non-whitespace text"));
        }
        if role == "user" {
            let answered: Vec<String> = of("tool_result").iter().map(|block| id(&block["tool_use_id"])).collect();
            if answered != open {
                return Some(format!("messages.{at}: `tool_use` ids {open:?} need results, found {answered:?}"));
            }
            open.clear();
            if answered.is_empty() || blocks.last().is_some_and(|block| block["type"] == "text") {
                loop_began = None;
            }
            continue;
        }
        for block in of("thinking") {
            if block["signature"] != sign(block["thinking"].as_str().unwrap_or_default()) {
                return Some(format!("messages.{at}: Invalid `signature` in `thinking` block"));
            }
        }
        loop_began.get_or_insert_with(|| blocks[0]["type"].as_str().unwrap_or_default().to_owned());
        for block in of("tool_use") {
            let id = id(&block["id"]);
            if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
                return Some(format!("messages.{at}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"));
            }
            if !block["input"].is_object() {
                return Some(format!("messages.{at}.tool_use.input: Input should be a valid dictionary"));
            }
            if tools.is_empty() {
                return Some("Requests which include `tool_use` or `tool_result` blocks must define tools".into());
            }
            open.push(id);
        }
    }
    if thinks && loop_began.is_some_and(|first| first != "thinking" && first != "redacted_thinking") {
        return Some(
            "Expected `thinking` or `redacted_thinking`, but found `tool_use`. When `thinking` is enabled, a \
                     final `assistant` message must start with a thinking block."
                .into(),
        );
    }
    None
}

fn id(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What stands for the signature of a thought: it fits this thought only.
fn sign(thought: &str) -> String {
    let mut hasher = DefaultHasher::new();
    thought.hash(&mut hasher);
    format!("sig-{:016x}", hasher.finish())
}

/// An error's body.
pub fn error(status: u16, message: &str, code: Option<&str>) -> Value {
    let kind = match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    };
    let kind = code.filter(|code| code.ends_with("_error")).unwrap_or(kind);
    json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_scripted"})
}

fn stop_reason(drawn: &Drawn) -> &str {
    match drawn.finish {
        "stop" if drawn.refusal.is_some() => "refusal",
        "stop" => "end_turn",
        "tool_calls" => "tool_use",
        "length" => "max_tokens",
        "content_filter" => "refusal",
        other => other,
    }
}

/// Anthropic counts what went through its cache apart from the rest.
fn usage(drawn: &Drawn, output: u64) -> Option<Value> {
    let used = drawn.usage?;
    let mut usage = json!({
        "input_tokens": used.input - used.cached - used.written,
        "cache_read_input_tokens": used.cached,
        "cache_creation_input_tokens": used.written,
        "output_tokens": output,
        "service_tier": "standard",
    });
    if let Some(cost) = drawn.cost {
        usage["cost"] = json!(cost);
    }
    Some(usage)
}

fn blocks(drawn: &Drawn) -> Vec<Value> {
    let mut blocks = Vec::new();
    if let Some(thought) = &drawn.thought {
        blocks.push(json!({"type": "thinking", "thinking": thought, "signature": sign(thought)}));
        blocks.push(json!({"type": "redacted_thinking", "data": "c2VjcmV0"}));
    }
    let text = drawn.refusal.as_ref().unwrap_or(&drawn.text);
    if !text.is_empty() {
        blocks.push(json!({"type": "text", "text": text}));
    }
    for (id, tool, arguments) in &drawn.calls {
        blocks.push(json!({"type": "tool_use", "id": id, "name": tool, "input": arguments}));
    }
    blocks
}

/// The answer in one piece. Arguments that are no JSON cannot be sent so.
pub fn document(drawn: &Drawn) -> Value {
    let mut content = blocks(drawn);
    for block in content.iter_mut().filter(|block| block["type"] == "tool_use") {
        let arguments: Value = serde_json::from_str(block["input"].as_str().unwrap()).expect("arguments that are JSON");
        block["input"] = arguments;
    }
    let mut document = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "scripted",
        "content": content, "stop_reason": stop_reason(drawn), "stop_sequence": null});
    if let Some(usage) = drawn.usage.and_then(|used| usage(drawn, used.output)) {
        document["usage"] = usage;
    }
    document
}

/// The answer as events.
pub fn events(drawn: &Drawn, pieces: &dyn Fn(&str, usize) -> Vec<String>) -> Vec<String> {
    let event = |data: Value| format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap());
    let mut message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "scripted",
        "content": [], "stop_reason": null, "stop_sequence": null});
    if let Some(usage) = usage(drawn, 1) {
        message["usage"] = usage;
    }
    let mut events = vec![event(json!({"type": "message_start", "message": message})), event(json!({"type": "ping"}))];
    for (index, block) in blocks(drawn).into_iter().enumerate() {
        let text = |name: &str| block[name].as_str().unwrap_or_default().to_owned();
        let (empty, deltas): (Value, Vec<Value>) = match block["type"].as_str().unwrap() {
            "thinking" => (
                json!({"type": "thinking", "thinking": "", "signature": ""}),
                pieces(&text("thinking"), 12)
                    .into_iter()
                    .map(|piece| json!({"type": "thinking_delta", "thinking": piece}))
                    .chain([json!({"type": "signature_delta", "signature": block["signature"]})])
                    .collect(),
            ),
            "text" => (
                json!({"type": "text", "text": ""}),
                pieces(&text("text"), 12)
                    .into_iter()
                    .map(|piece| json!({"type": "text_delta", "text": piece}))
                    .collect(),
            ),
            "tool_use" => (
                json!({"type": "tool_use", "id": block["id"], "name": block["name"], "input": {}}),
                // The first piece is empty, as Anthropic's is.
                [String::new()]
                    .into_iter()
                    .chain(pieces(&text("input"), 5))
                    .map(|piece| json!({"type": "input_json_delta", "partial_json": piece}))
                    .collect(),
            ),
            _ => (block.clone(), Vec::new()),
        };
        events.push(event(json!({"type": "content_block_start", "index": index, "content_block": empty})));
        events.extend(
            deltas
                .into_iter()
                .map(|delta| event(json!({"type": "content_block_delta", "index": index, "delta": delta}))),
        );
        events.push(event(json!({"type": "content_block_stop", "index": index})));
    }
    let mut last =
        json!({"type": "message_delta", "delta": {"stop_reason": stop_reason(drawn), "stop_sequence": null}});
    if let Some(used) = drawn.usage {
        last["usage"] = json!({"output_tokens": used.output});
    }
    events.push(event(last));
    events.push(event(json!({"type": "message_stop"})));
    events
}
