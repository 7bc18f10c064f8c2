//! OpenAI's chat completions.

use super::dialect::{Asked, Dialect, Events, Fault, Stamp, event};
use super::fields::{Fields, NO_HOSTED_TOOLS, NO_IMAGES, NO_STATE, Problem, add_line};
use crate::model::chat::{ChatAnswer, Message, RawCall, Sampling, StopReason, ToolChoice};
use crate::model::tool::ToolSpec;
use crate::model::usage::Usage;
use crate::port::gateway::Question;
use serde_json::{Value, json};

/// What a text part may be called.
const TEXTS: [&str; 5] = ["text", "input_text", "output_text", "refusal", "summary_text"];

pub(super) fn parse(body: &Value) -> Result<Asked, Problem> {
    let mut body = Fields::of(body, "")?;
    body.hints(&[
        "frequency_penalty",
        "metadata",
        "parallel_tool_calls",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning",
        "reasoning_effort",
        "safety_identifier",
        "seed",
        "service_tier",
        "top_k",
        "user",
        "verbosity",
        // Whatever it is, one answer is given.
        "n",
    ]);
    let no = |value: &Value| value == &json!(false) || value == &json!(0);
    body.refuse("store", no, NO_STATE)?;
    body.refuse("logprobs", no, "log probabilities are not passed on")?;
    body.refuse("top_logprobs", no, "log probabilities are not passed on")?;
    body.refuse("logit_bias", is_empty, "token biases are not passed on")?;
    body.refuse("prediction", |_| false, "predicted outputs are not passed on")?;
    body.refuse("audio", |_| false, NO_IMAGES)?;
    body.refuse("modalities", |value| value == &json!(["text"]), NO_IMAGES)?;
    body.refuse("web_search_options", |_| false, NO_HOSTED_TOOLS)?;
    body.refuse("functions", is_empty, "`functions` is the old form: use `tools`")?;
    body.refuse("function_call", |_| false, "`function_call` is the old form: use `tool_choice`")?;

    let model = body.text("model")?.unwrap_or_default().to_owned();
    let stream = body.flag("stream")?;
    let usage = match body.get("stream_options") {
        None => false,
        Some(options) => {
            let mut options = Fields::of(options, "stream_options")?;
            options.hints(&["include_obfuscation"]);
            let usage = options.flag("include_usage")?;
            options.end()?;
            usage
        }
    };
    let most = (body.count("max_completion_tokens")?, body.count("max_tokens")?);
    let mut sampling = Sampling {
        max_output: most.0.or(most.1),
        temperature: body.number("temperature")?,
        top_p: body.number("top_p")?,
        stop: body.texts("stop")?,
        tool_choice: ToolChoice::Auto,
    };
    let mut tools = Vec::new();
    for (at, tool) in body.list("tools")?.iter().enumerate() {
        tools.push(read_tool(tool, &format!("tools[{at}]"))?);
    }
    if let Some(choice) = body.get("tool_choice") {
        sampling.tool_choice = tool_choice(choice)?;
    }
    let output_schema = match body.get("response_format") {
        None => None,
        Some(format) => response_format(format)?,
    };
    let mut messages = Vec::new();
    for (at, message) in body.list("messages")?.iter().enumerate() {
        messages.push(read_message(message, &format!("messages[{at}]"))?);
    }
    if messages.is_empty() {
        return Err(body.missing("messages"));
    }
    body.end()?;
    let question =
        Question { dialect: "openai", model, messages, tools, sampling, output_schema, cache_marks: Vec::new() };
    Ok(Asked { question, stream, usage, custom: Vec::new(), namespaced: Vec::new() })
}

/// Whether a value holds nothing.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// A message's content as text: a text, or parts of text.
pub(super) fn content(value: Option<&Value>, place: &str) -> Result<String, Problem> {
    match value {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(parts)) => {
            let mut text = String::new();
            for (at, part) in parts.iter().enumerate() {
                let place = format!("{place}[{at}]");
                if let Value::String(part) = part {
                    add_line(&mut text, part);
                    continue;
                }
                let mut part = Fields::of(part, place.as_str())?;
                part.hints(&["annotations", "cache_control", "logprobs", "prompt_cache_breakpoint"]);
                let kind = part.need_text("type")?;
                if !TEXTS.contains(&kind) {
                    let kind: String = kind.chars().take(60).collect();
                    return Err(Problem::refused(format!("{place}.type: {kind}"), NO_IMAGES));
                }
                let said = part.text(if kind == "refusal" { "refusal" } else { "text" })?;
                add_line(&mut text, said.unwrap_or_default());
                part.end()?;
            }
            Ok(text)
        }
        Some(_) => Err(Problem::Malformed(format!("`{place}` is to be a text or a list of parts"))),
    }
}

fn read_message(message: &Value, place: &str) -> Result<Message, Problem> {
    let mut message = Fields::of(message, place)?;
    message.hints(&["annotations", "cache_control", "name", "reasoning", "reasoning_content", "reasoning_details"]);
    message.hints(&["provider_specific_fields", "reasoning_text", "thinking_blocks"]);
    let role = message.need_text("role")?;
    let text = content(message.get("content"), &message.at("content"))?;
    let read = match role {
        "system" | "developer" => Message::System { text },
        "user" => Message::User { text },
        "tool" => Message::Tool { call_id: message.need_text("tool_call_id")?.to_owned(), text },
        "assistant" => {
            message.refuse("audio", |_| false, NO_IMAGES)?;
            message.refuse("function_call", |_| false, "`function_call` is the old form: use `tool_calls`")?;
            let mut text = text;
            add_line(&mut text, message.text("refusal")?.unwrap_or_default());
            let mut calls = Vec::new();
            for (at, call) in message.list("tool_calls")?.iter().enumerate() {
                calls.push(read_call(call, &format!("{place}.tool_calls[{at}]"))?);
            }
            Message::Assistant { text, calls, reasoning: Vec::new() }
        }
        other => {
            let other: String = other.chars().take(60).collect();
            return Err(Problem::Malformed(format!("`{place}.role` is {other:?}, which is no role")));
        }
    };
    message.end()?;
    Ok(read)
}

fn read_call(call: &Value, place: &str) -> Result<RawCall, Problem> {
    let mut call = Fields::of(call, place)?;
    call.hints(&["cache_control", "extra_content", "index", "provider_specific_fields"]);
    only_functions(call.text("type")?, place)?;
    let id = call.text("id")?.unwrap_or_default().to_owned();
    let function = call.get("function").ok_or_else(|| call.missing("function"))?;
    let mut function = Fields::of(function, call.at("function"))?;
    function.hints(&["provider_specific_fields"]);
    let name = function.need_text("name")?.to_owned();
    let arguments = match function.get("arguments") {
        None => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    function.end()?;
    call.end()?;
    Ok(RawCall { id, name, arguments })
}

fn only_functions(kind: Option<&str>, place: &str) -> Result<(), Problem> {
    match kind {
        None | Some("function") => Ok(()),
        Some(kind) => {
            let kind: String = kind.chars().take(60).collect();
            Err(Problem::refused(format!("{place}.type: {kind}"), NO_HOSTED_TOOLS))
        }
    }
}

fn read_tool(tool: &Value, place: &str) -> Result<ToolSpec, Problem> {
    let mut tool = Fields::of(tool, place)?;
    tool.hints(&["cache_control"]);
    only_functions(tool.text("type")?, place)?;
    let function = tool.get("function").ok_or_else(|| tool.missing("function"))?;
    let function = read_function(function, &tool.at("function"))?;
    tool.end()?;
    Ok(function)
}

/// A function on offer: `{name, description, parameters, strict}`.
pub(super) fn read_function(function: &Value, place: &str) -> Result<ToolSpec, Problem> {
    let mut function = Fields::of(function, place)?;
    function.hints(&["cache_control", "defer_loading", "output_schema", "strict", "type"]);
    let name = function.need_text("name")?.to_owned();
    let description = function.text("description")?.unwrap_or_default().to_owned();
    let parameters = match function.get("parameters") {
        None => json!({"type": "object", "properties": {}}),
        Some(parameters) if parameters.is_object() => parameters.clone(),
        Some(_) => return Err(function.wrong("parameters", "a JSON Schema")),
    };
    function.end()?;
    Ok(ToolSpec { name, description, parameters })
}

/// `auto`, `none`, `required`, or one function's name.
pub(super) fn tool_choice(choice: &Value) -> Result<ToolChoice, Problem> {
    match choice.as_str() {
        Some("auto") => return Ok(ToolChoice::Auto),
        Some("none") => return Ok(ToolChoice::Forbidden),
        Some("required" | "any") => return Ok(ToolChoice::Required),
        Some(_) => {
            return Err(Problem::Malformed("`tool_choice` is to be auto, none, required or a function".into()));
        }
        None => {}
    }
    let mut choice = Fields::of(choice, "tool_choice")?;
    match choice.text("type")? {
        None | Some("function" | "custom") => {}
        Some(kind) => {
            let kind: String = kind.chars().take(60).collect();
            return Err(Problem::refused(format!("tool_choice.type: {kind}"), NO_HOSTED_TOOLS));
        }
    }
    let named = match (choice.text("name")?, choice.get("function")) {
        (Some(name), _) => name.to_owned(),
        (None, Some(function)) => {
            let mut function = Fields::of(function, "tool_choice.function")?;
            let name = function.need_text("name")?.to_owned();
            function.end()?;
            name
        }
        (None, None) => return Err(choice.missing("function")),
    };
    choice.end()?;
    Ok(ToolChoice::Named(named))
}

/// `text`, `json_object`, or a schema: under `json_schema` here, beside the type in a response's `text.format`.
pub(super) fn response_format(format: &Value) -> Result<Option<Value>, Problem> {
    let mut format = Fields::of(format, "response_format")?;
    let schema = match format.need_text("type")? {
        "text" => None,
        "json_object" => Some(json!({"type": "object"})),
        "json_schema" => {
            format.hints(&["description", "name", "strict"]);
            let schema = match (format.get("json_schema"), format.get("schema")) {
                (Some(inner), _) => {
                    let mut inner = Fields::of(inner, "response_format.json_schema")?;
                    inner.hints(&["description", "name", "strict"]);
                    let schema = inner.get("schema").cloned();
                    inner.end()?;
                    schema
                }
                (None, schema) => schema.cloned(),
            };
            Some(schema.ok_or_else(|| format.missing("schema"))?)
        }
        _ => return Err(format.wrong("type", "text, json_object or json_schema")),
    };
    format.end()?;
    Ok(schema)
}

fn finish_reason(answer: &ChatAnswer) -> &'static str {
    match answer.stop {
        StopReason::Length => "length",
        StopReason::Refusal => "content_filter",
        _ if !answer.calls.is_empty() => "tool_calls",
        _ => "stop",
    }
}

fn usage(used: Usage) -> Value {
    json!({
        "prompt_tokens": used.input, "completion_tokens": used.output, "total_tokens": used.total(),
        "prompt_tokens_details": {"cached_tokens": used.cache_read},
    })
}

fn call(call: &RawCall) -> Value {
    let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
    json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
}

pub(super) fn whole(asked: &Asked, answer: &ChatAnswer, stamp: &Stamp) -> Value {
    let text = if answer.text.is_empty() && !answer.calls.is_empty() { Value::Null } else { json!(answer.text) };
    let mut message = json!({"role": "assistant", "content": text, "refusal": null});
    if !answer.calls.is_empty()
        && let Some(message) = message.as_object_mut()
    {
        message.insert("tool_calls".into(), answer.calls.iter().map(call).collect());
    }
    json!({
        "id": format!("chatcmpl-{}", stamp.id),
        "object": "chat.completion",
        "created": stamp.created,
        "model": asked.question.model,
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": finish_reason(answer)}],
        "usage": usage(answer.bill.usage.unwrap_or_default()),
    })
}

/// An answer as chunks.
pub(super) struct Stream {
    id: String,
    created: i64,
    model: String,
    usage: bool,
}

impl Stream {
    pub(super) fn new(asked: &Asked, stamp: &Stamp) -> Self {
        let model = asked.question.model.clone();
        Self { id: format!("chatcmpl-{}", stamp.id), created: stamp.created, model, usage: asked.usage }
    }

    fn chunk(&self, choices: Value, used: Option<Usage>) -> String {
        let mut chunk = json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "choices": choices,
        });
        if let (Some(used), Some(chunk)) = (used, chunk.as_object_mut()) {
            chunk.insert("usage".into(), usage(used));
        }
        event(None, &chunk)
    }

    fn delta(&self, delta: Value, finish: Option<&str>) -> String {
        self.chunk(json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]), None)
    }
}

impl Events for Stream {
    fn start(&mut self) -> String {
        self.delta(json!({"role": "assistant", "content": ""}), None)
    }

    fn text(&mut self, more: &str) -> String {
        self.delta(json!({"content": more}), None)
    }

    fn ping(&mut self) -> String {
        ": the model is at work\n\n".to_owned()
    }

    fn finish(&mut self, answer: &ChatAnswer) -> String {
        let mut out = String::new();
        for (index, raw) in answer.calls.iter().enumerate() {
            let mut call = call(raw);
            if let Some(call) = call.as_object_mut() {
                call.insert("index".into(), json!(index));
            }
            out.push_str(&self.delta(json!({"tool_calls": [call]}), None));
        }
        out.push_str(&self.delta(json!({}), Some(finish_reason(answer))));
        if self.usage {
            out.push_str(&self.chunk(json!([]), Some(answer.bill.usage.unwrap_or_default())));
        }
        out.push_str("data: [DONE]\n\n");
        out
    }

    fn fail(&mut self, fault: &Fault) -> String {
        format!("{}data: [DONE]\n\n", event(None, &Dialect::Openai.error(fault)))
    }
}
