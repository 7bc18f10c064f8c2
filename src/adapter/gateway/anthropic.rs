//! Anthropic's messages.
//!
//! What a model thought is not sent to the program, and what a program sends of it is left out: the desk keeps it and
//! gives it back to the provider that it is from.

use super::dialect::{Asked, Dialect, Events, Fault, Stamp, event};
use super::fields::{Fields, NO_HOSTED_TOOLS, NO_IMAGES, NO_STATE, Problem, add_line};
use super::openai::is_empty;
use crate::model::chat::{ChatAnswer, Message, RawCall, Sampling, StopReason, ToolChoice};
use crate::model::tool::ToolSpec;
use crate::model::usage::Usage;
use crate::port::gateway::Question;
use serde_json::{Value, json};

/// What of a conversation is managed by the provider and may be asked for: it only makes requests smaller.
const EDITS: [&str; 2] = ["clear_thinking_20251015", "clear_tool_uses_20250919"];

pub(super) fn parse(body: &Value) -> Result<Asked, Problem> {
    let mut body = Fields::of(body, "")?;
    body.hints(&["cache_control", "metadata", "service_tier", "speed", "top_k"]);
    body.refuse("mcp_servers", is_empty, NO_HOSTED_TOOLS)?;
    body.refuse("container", |_| false, NO_HOSTED_TOOLS)?;
    body.refuse("store", |value| value == &json!(false), NO_STATE)?;
    if let Some(thinking) = body.get("thinking") {
        let mut thinking = Fields::of(thinking, "thinking")?;
        thinking.hints(&["budget_tokens", "display", "type"]);
        thinking.end()?;
    }
    if let Some(management) = body.get("context_management") {
        let mut management = Fields::of(management, "context_management")?;
        for (at, edit) in management.list("edits")?.iter().enumerate() {
            let kind = edit.get("type").and_then(Value::as_str).unwrap_or_default();
            if !EDITS.contains(&kind) {
                let what = format!("context_management.edits[{at}]");
                return Err(Problem::refused(what, "only old thinking and old tool uses may be cleared"));
            }
        }
        management.end()?;
    }
    let mut output_schema = None;
    if let Some(config) = body.get("output_config") {
        let mut config = Fields::of(config, "output_config")?;
        config.hints(&["effort"]);
        output_schema = config.get("format").map(format_schema).transpose()?;
        config.end()?;
    }
    if let Some(format) = body.get("output_format") {
        output_schema = Some(format_schema(format)?);
    }

    let model = body.text("model")?.unwrap_or_default().to_owned();
    let stream = body.flag("stream")?;
    let mut sampling = Sampling {
        max_output: body.count("max_tokens")?,
        temperature: body.number("temperature")?,
        top_p: body.number("top_p")?,
        stop: body.texts("stop_sequences")?,
        tool_choice: ToolChoice::Auto,
    };
    if let Some(choice) = body.get("tool_choice") {
        sampling.tool_choice = tool_choice(choice)?;
    }
    let mut tools = Vec::new();
    for (at, tool) in body.list("tools")?.iter().enumerate() {
        tools.push(read_tool(tool, &format!("tools[{at}]"))?);
    }
    let mut talk = Talk::default();
    if let Some(system) = body.get("system") {
        talk.system(system, "system")?;
    }
    let messages = body.list("messages")?;
    if messages.is_empty() {
        return Err(body.missing("messages"));
    }
    for (at, message) in messages.iter().enumerate() {
        talk.message(message, &format!("messages[{at}]"))?;
    }
    body.end()?;
    talk.marks.dedup();
    let Talk { messages, marks: cache_marks } = talk;
    let question = Question { dialect: "anthropic", model, messages, tools, sampling, output_schema, cache_marks };
    Ok(Asked { question, stream, usage: true, custom: Vec::new(), namespaced: Vec::new() })
}

fn format_schema(format: &Value) -> Result<Value, Problem> {
    let mut format = Fields::of(format, "output_format")?;
    if format.need_text("type")? != "json_schema" {
        return Err(format.wrong("type", "json_schema"));
    }
    let schema = format.get("schema").ok_or_else(|| format.missing("schema"))?.clone();
    format.end()?;
    Ok(schema)
}

fn tool_choice(choice: &Value) -> Result<ToolChoice, Problem> {
    let mut choice = Fields::of(choice, "tool_choice")?;
    choice.hints(&["disable_parallel_tool_use"]);
    let read = match choice.need_text("type")? {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::Forbidden,
        "tool" => ToolChoice::Named(choice.need_text("name")?.to_owned()),
        _ => return Err(choice.wrong("type", "auto, any, none or tool")),
    };
    choice.end()?;
    Ok(read)
}

fn read_tool(tool: &Value, place: &str) -> Result<ToolSpec, Problem> {
    let mut tool = Fields::of(tool, place)?;
    tool.hints(&["allowed_callers", "cache_control", "defer_loading", "eager_input_streaming", "input_examples"]);
    tool.hints(&["strict"]);
    match tool.text("type")? {
        None | Some("custom") => {}
        Some(kind) => {
            let kind: String = kind.chars().take(60).collect();
            return Err(Problem::refused(format!("{place}.type: {kind}"), NO_HOSTED_TOOLS));
        }
    }
    let name = tool.need_text("name")?.to_owned();
    let description = tool.text("description")?.unwrap_or_default().to_owned();
    let parameters = match tool.get("input_schema") {
        Some(schema) if schema.is_object() => schema.clone(),
        _ => return Err(tool.wrong("input_schema", "a JSON Schema")),
    };
    tool.end()?;
    Ok(ToolSpec { name, description, parameters })
}

/// The conversation as it is read.
#[derive(Default)]
struct Talk {
    messages: Vec<Message>,
    marks: Vec<usize>,
}

/// A text block.
fn text_block<'a>(block: &mut Fields<'a>) -> Result<&'a str, Problem> {
    block.refuse("citations", is_empty, "citations are not passed on")?;
    block.need_text("text")
}

impl Talk {
    fn system(&mut self, system: &Value, place: &str) -> Result<(), Problem> {
        let mut text = String::new();
        let mut marked = false;
        match system {
            Value::String(system) => text.push_str(system),
            Value::Array(blocks) => {
                for (at, block) in blocks.iter().enumerate() {
                    let place = format!("{place}[{at}]");
                    let mut block = Fields::of(block, place.as_str())?;
                    if block.need_text("type")? != "text" {
                        return Err(Problem::refused(format!("{place}.type"), NO_IMAGES));
                    }
                    marked |= block.get("cache_control").is_some();
                    add_line(&mut text, text_block(&mut block)?);
                    block.end()?;
                }
            }
            _ => return Err(Problem::Malformed(format!("`{place}` is to be a text or a list of blocks"))),
        }
        self.messages.push(Message::System { text });
        self.mark(marked);
        Ok(())
    }

    /// Notes that what came so far is to be kept.
    fn mark(&mut self, marked: bool) {
        if marked && let Some(last) = self.messages.len().checked_sub(1) {
            self.marks.push(last);
        }
    }

    fn message(&mut self, message: &Value, place: &str) -> Result<(), Problem> {
        let mut message = Fields::of(message, place)?;
        let role = message.need_text("role")?;
        let content = message.get("content").ok_or_else(|| message.missing("content"))?;
        let place = message.at("content");
        let read = match role {
            "system" => self.system(content, &place),
            "user" => self.user(content, &place),
            "assistant" => self.assistant(content, &place),
            _ => Err(message.wrong("role", "user, assistant or system")),
        };
        message.end()?;
        read
    }

    /// A user's message: results of calls, each a message of its own, and words.
    fn user(&mut self, content: &Value, place: &str) -> Result<(), Problem> {
        let mut words = String::new();
        let mut said = false;
        let mut marked = false;
        for (at, block) in blocks(content, place)?.iter().enumerate() {
            let place = format!("{place}[{at}]");
            if let Value::String(text) = block {
                (words, said) = (text.clone(), true);
                continue;
            }
            let mut block = Fields::of(block, place.as_str())?;
            let mark = block.get("cache_control").is_some();
            match block.need_text("type")? {
                "text" => {
                    add_line(&mut words, text_block(&mut block)?);
                    said = true;
                    marked |= mark;
                }
                "tool_result" => {
                    let call_id = block.need_text("tool_use_id")?.to_owned();
                    let mut text = result(block.get("content"), &block.at("content"))?;
                    if block.flag("is_error")? && !text.to_lowercase().contains("error") {
                        text = format!("Error: {text}");
                    }
                    self.messages.push(Message::Tool { call_id, text });
                    self.mark(mark);
                }
                kind => return Err(hosted(kind, &place)),
            }
            block.end()?;
        }
        if said || content.as_array().is_none_or(Vec::is_empty) {
            self.messages.push(Message::User { text: words });
            self.mark(marked);
        }
        Ok(())
    }

    fn assistant(&mut self, content: &Value, place: &str) -> Result<(), Problem> {
        let (mut text, mut calls, mut marked) = (String::new(), Vec::new(), false);
        for (at, block) in blocks(content, place)?.iter().enumerate() {
            let place = format!("{place}[{at}]");
            if let Value::String(said) = block {
                text.clone_from(said);
                continue;
            }
            let mut block = Fields::of(block, place.as_str())?;
            marked |= block.get("cache_control").is_some();
            match block.need_text("type")? {
                "text" => add_line(&mut text, text_block(&mut block)?),
                "thinking" | "redacted_thinking" => block.hints(&["data", "signature", "thinking"]),
                "tool_use" => {
                    block.hints(&["caller"]);
                    let id = block.need_text("id")?.to_owned();
                    let name = block.need_text("name")?.to_owned();
                    let arguments = block.get("input").map_or_else(|| "{}".to_owned(), Value::to_string);
                    calls.push(RawCall { id, name, arguments });
                }
                kind => return Err(hosted(kind, &place)),
            }
            block.end()?;
        }
        self.messages.push(Message::Assistant { text, calls, reasoning: Vec::new() });
        self.mark(marked);
        Ok(())
    }
}

/// A message's content as blocks: a plain text is one.
fn blocks<'a>(content: &'a Value, place: &str) -> Result<&'a [Value], Problem> {
    match content {
        Value::String(_) => Ok(std::slice::from_ref(content)),
        Value::Array(blocks) if blocks.iter().all(Value::is_object) => Ok(blocks),
        _ => Err(Problem::Malformed(format!("`{place}` is to be a text or a list of blocks"))),
    }
}

/// The refusal of a block that is neither text nor a call nor a result.
fn hosted(kind: &str, place: &str) -> Problem {
    let why = match kind {
        "image" | "document" | "container_upload" | "search_result" => NO_IMAGES,
        _ => NO_HOSTED_TOOLS,
    };
    let kind: String = kind.chars().take(60).collect();
    Problem::refused(format!("{place}.type: {kind}"), why)
}

/// A result's text.
fn result(content: Option<&Value>, place: &str) -> Result<String, Problem> {
    let mut text = String::new();
    let Some(content) = content else { return Ok(text) };
    for (at, block) in blocks(content, place)?.iter().enumerate() {
        let place = format!("{place}[{at}]");
        if let Value::String(said) = block {
            return Ok(said.clone());
        }
        let mut block = Fields::of(block, place.as_str())?;
        block.hints(&["cache_control"]);
        match block.need_text("type")? {
            "text" => add_line(&mut text, text_block(&mut block)?),
            kind => return Err(hosted(kind, &place)),
        }
        block.end()?;
    }
    Ok(text)
}

/// About how many tokens a request has, as `count_tokens` says it: a third of its bytes.
pub(super) fn count(body: &Value) -> Value {
    let bytes: usize = ["system", "messages", "tools"]
        .iter()
        .filter_map(|part| body.get(part))
        .map(|part| part.to_string().len())
        .sum();
    json!({"input_tokens": bytes.div_ceil(3)})
}

fn stop_reason(answer: &ChatAnswer) -> &'static str {
    match answer.stop {
        StopReason::Length => "max_tokens",
        StopReason::Refusal => "refusal",
        _ if !answer.calls.is_empty() => "tool_use",
        _ => "end_turn",
    }
}

/// Prompt tokens that the cache had no part in stand by themselves.
fn usage(used: Usage) -> Value {
    json!({
        "input_tokens": used.input.saturating_sub(used.cache_read).saturating_sub(used.cache_write),
        "cache_creation_input_tokens": used.cache_write,
        "cache_read_input_tokens": used.cache_read,
        "output_tokens": used.output,
    })
}

/// A call's arguments as an object, whatever the model wrote.
fn input(call: &RawCall) -> Value {
    match serde_json::from_str::<Value>(&call.arguments) {
        Ok(Value::Object(arguments)) => Value::Object(arguments),
        _ if call.arguments.trim().is_empty() => json!({}),
        _ => json!({"malformed_arguments": call.arguments}),
    }
}

fn message(id: &str, model: &str, content: Value, stop: Value, used: Usage) -> Value {
    json!({
        "id": id, "type": "message", "role": "assistant", "model": model, "content": content,
        "stop_reason": stop, "stop_sequence": null, "usage": usage(used),
    })
}

pub(super) fn whole(asked: &Asked, answer: &ChatAnswer, stamp: &Stamp) -> Value {
    let mut content = Vec::new();
    if !answer.text.is_empty() {
        content.push(json!({"type": "text", "text": answer.text}));
    }
    content.extend(
        answer
            .calls
            .iter()
            .map(|call| json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input(call)})),
    );
    let used = answer.bill.usage.unwrap_or_default();
    let id = format!("msg_{}", stamp.id);
    message(&id, &asked.question.model, Value::Array(content), json!(stop_reason(answer)), used)
}

/// An answer as events.
pub(super) struct Stream {
    id: String,
    model: String,
    /// Blocks that are done, and whether a text block is open.
    blocks: usize,
    open: bool,
}

impl Stream {
    pub(super) fn new(asked: &Asked, stamp: &Stamp) -> Self {
        Self { id: format!("msg_{}", stamp.id), model: asked.question.model.clone(), blocks: 0, open: false }
    }

    fn say(data: Value) -> String {
        let name = data.get("type").and_then(Value::as_str).map(str::to_owned);
        event(name.as_deref(), &data)
    }

    fn close(&mut self) -> String {
        if !std::mem::take(&mut self.open) {
            return String::new();
        }
        self.blocks += 1;
        Self::say(json!({"type": "content_block_stop", "index": self.blocks - 1}))
    }
}

impl Events for Stream {
    fn start(&mut self) -> String {
        let message = message(&self.id, &self.model, json!([]), Value::Null, Usage::default());
        Self::say(json!({"type": "message_start", "message": message}))
    }

    fn text(&mut self, more: &str) -> String {
        let mut out = String::new();
        if !std::mem::replace(&mut self.open, true) {
            let block = json!({"type": "text", "text": ""});
            out.push_str(&Self::say(
                json!({"type": "content_block_start", "index": self.blocks, "content_block": block}),
            ));
        }
        let delta = json!({"type": "text_delta", "text": more});
        out.push_str(&Self::say(json!({"type": "content_block_delta", "index": self.blocks, "delta": delta})));
        out
    }

    fn ping(&mut self) -> String {
        Self::say(json!({"type": "ping"}))
    }

    fn finish(&mut self, answer: &ChatAnswer) -> String {
        let mut out = self.close();
        for call in &answer.calls {
            let block = json!({"type": "tool_use", "id": call.id, "name": call.name, "input": {}});
            let delta = json!({"type": "input_json_delta", "partial_json": input(call).to_string()});
            let index = self.blocks;
            self.blocks += 1;
            for data in [
                json!({"type": "content_block_start", "index": index, "content_block": block}),
                json!({"type": "content_block_delta", "index": index, "delta": delta}),
                json!({"type": "content_block_stop", "index": index}),
            ] {
                out.push_str(&Self::say(data));
            }
        }
        let delta = json!({"stop_reason": stop_reason(answer), "stop_sequence": null});
        let used = usage(answer.bill.usage.unwrap_or_default());
        out.push_str(&Self::say(json!({"type": "message_delta", "delta": delta, "usage": used})));
        out.push_str(&Self::say(json!({"type": "message_stop"})));
        out
    }

    fn fail(&mut self, fault: &Fault) -> String {
        Self::say(Dialect::Anthropic.error(fault))
    }
}
