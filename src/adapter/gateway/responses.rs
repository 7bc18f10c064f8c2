//! OpenAI's responses, as Codex speaks them: nothing is kept between requests.

use super::dialect::{Asked, Events, Fault, Stamp, event};
use super::fields::{Fields, NO_HOSTED_TOOLS, NO_IMAGES, NO_STATE, Problem, add_line};
use super::openai::{content, is_empty, read_function, response_format, tool_choice};
use crate::model::chat::{ChatAnswer, Message, RawCall, Sampling, StopReason, ToolChoice};
use crate::model::tool::ToolSpec;
use crate::model::usage::Usage;
use crate::port::gateway::Question;
use serde_json::{Map, Value, json};

/// Additions to an answer that may be asked for: they are left out.
const INCLUDES: [&str; 1] = ["reasoning.encrypted_content"];

pub(super) fn parse(body: &Value) -> Result<Asked, Problem> {
    let mut body = Fields::of(body, "")?;
    body.hints(&[
        "client_metadata",
        "max_tool_calls",
        "metadata",
        "n",
        "parallel_tool_calls",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning",
        "safety_identifier",
        "service_tier",
        "stream_options",
        "truncation",
        "user",
    ]);
    let no = |value: &Value| value == &json!(false) || value == &json!(0);
    body.refuse("store", no, NO_STATE)?;
    body.refuse("background", no, NO_STATE)?;
    body.refuse("previous_response_id", |_| false, NO_STATE)?;
    body.refuse("conversation", |_| false, NO_STATE)?;
    body.refuse("prompt", |_| false, "prompts that the provider keeps are not passed on: send the text")?;
    body.refuse("context_management", is_empty, NO_STATE)?;
    body.refuse("top_logprobs", no, "log probabilities are not passed on")?;
    body.refuse("modalities", |value| value == &json!(["text"]), NO_IMAGES)?;
    for include in body.list("include")? {
        if !include.as_str().is_some_and(|include| INCLUDES.contains(&include)) {
            let include: String = include.to_string().chars().take(60).collect();
            return Err(Problem::refused(format!("include: {include}"), NO_HOSTED_TOOLS));
        }
    }

    let model = body.text("model")?.unwrap_or_default().to_owned();
    let stream = body.flag("stream")?;
    let mut sampling = Sampling {
        max_output: body.count("max_output_tokens")?,
        temperature: body.number("temperature")?,
        top_p: body.number("top_p")?,
        ..Sampling::default()
    };
    let mut output_schema = None;
    if let Some(text) = body.get("text") {
        let mut text = Fields::of(text, "text")?;
        text.hints(&["verbosity"]);
        if let Some(format) = text.get("format") {
            output_schema = response_format(format)?;
        }
        text.end()?;
    }
    let mut offered = Offered::default();
    for (at, tool) in body.list("tools")?.iter().enumerate() {
        offered.tool(tool, &format!("tools[{at}]"))?;
    }
    if let Some(choice) = body.get("tool_choice") {
        sampling.tool_choice = tool_choice(choice)?;
    }
    let mut messages = Vec::new();
    if let Some(instructions) = body.text("instructions")?.filter(|text| !text.is_empty()) {
        messages.push(Message::System { text: instructions.to_owned() });
    }
    match body.get("input") {
        None => return Err(body.missing("input")),
        Some(Value::String(text)) => messages.push(Message::User { text: text.clone() }),
        Some(Value::Array(items)) => {
            for (at, item) in items.iter().enumerate() {
                read_item(item, &format!("input[{at}]"), &mut messages)?;
            }
        }
        Some(_) => return Err(body.wrong("input", "a text or a list of items")),
    }
    body.end()?;
    if let ToolChoice::Named(name) = &sampling.tool_choice
        && !offered.tools.iter().any(|tool| &tool.name == name)
    {
        return Err(Problem::Malformed("`tool_choice` names a tool that is not on offer".into()));
    }
    let Offered { tools, custom, namespaced } = offered;
    let question = Question {
        dialect: "openai-responses",
        model,
        messages,
        tools,
        sampling,
        output_schema,
        cache_marks: Vec::new(),
    };
    Ok(Asked { question, stream, usage: true, custom, namespaced })
}

/// The tools on offer.
#[derive(Default)]
struct Offered {
    tools: Vec<ToolSpec>,
    custom: Vec<String>,
    namespaced: Vec<(String, String, String)>,
}

impl Offered {
    fn tool(&mut self, tool: &Value, place: &str) -> Result<(), Problem> {
        match tool.get("type").and_then(Value::as_str).unwrap_or_default() {
            "function" => self.tools.push(read_function(tool, place)?),
            "custom" => {
                let spec = custom_tool(tool, place)?;
                self.custom.push(spec.name.clone());
                self.tools.push(spec);
            }
            "namespace" => {
                let mut namespace = Fields::of(tool, place)?;
                namespace.hints(&["type", "description"]);
                let space = namespace.need_text("name")?.to_owned();
                for (at, tool) in namespace.list("tools")?.iter().enumerate() {
                    let place = format!("{place}.tools[{at}]");
                    if tool.get("type").and_then(Value::as_str) != Some("function") {
                        return Err(Problem::refused(format!("{place}.type"), NO_HOSTED_TOOLS));
                    }
                    let spec = read_function(tool, &place)?;
                    let told = in_namespace(&space, &spec.name);
                    self.namespaced.push((told.clone(), space.clone(), spec.name.clone()));
                    self.tools.push(ToolSpec { name: told, ..spec });
                }
                namespace.end()?;
            }
            kind => {
                let kind: String = kind.chars().take(60).collect();
                return Err(Problem::refused(format!("{place}.type: {kind}"), NO_HOSTED_TOOLS));
            }
        }
        Ok(())
    }
}

/// The one name that a model is told of a tool in a namespace.
fn in_namespace(space: &str, name: &str) -> String {
    format!("{space}__{name}")
}

/// A tool with a plain text for an argument becomes a function with one argument, `input`.
fn custom_tool(tool: &Value, place: &str) -> Result<ToolSpec, Problem> {
    let mut tool = Fields::of(tool, place)?;
    tool.hints(&["defer_loading", "type"]);
    let name = tool.need_text("name")?.to_owned();
    let mut description = tool.text("description")?.unwrap_or_default().to_owned();
    if let Some(format) = tool.get("format") {
        let mut format = Fields::of(format, tool.at("format"))?;
        if format.text("type")? == Some("grammar") {
            let syntax = format.text("syntax")?.unwrap_or("lark");
            let definition = format.text("definition")?.unwrap_or_default();
            description.push_str(&format!("\n\n`input` must follow this {syntax} grammar:\n{definition}"));
        }
        format.end()?;
    }
    tool.end()?;
    let parameters = json!({
        "type": "object",
        "properties": {"input": {"type": "string", "description": "The tool's whole input, as plain text."}},
        "required": ["input"],
        "additionalProperties": false,
    });
    Ok(ToolSpec { name, description, parameters })
}

/// Adds an item of the conversation. A message and the calls after it are one turn of the model.
fn read_item(item: &Value, place: &str, messages: &mut Vec<Message>) -> Result<(), Problem> {
    let mut item = Fields::of(item, place)?;
    // Codex marks its items with ids and phases of its own.
    item.hints(&["id", "internal_chat_message_metadata_passthrough", "metadata", "phase", "status"]);
    match item.text("type")?.unwrap_or("message") {
        "message" => {
            let role = item.need_text("role")?;
            let text = content(item.get("content"), &item.at("content"))?;
            match role {
                "system" | "developer" => messages.push(Message::System { text }),
                "user" => messages.push(Message::User { text }),
                "assistant" => match messages.last_mut() {
                    Some(Message::Assistant { text: before, .. }) => add_line(before, &text),
                    _ => messages.push(Message::Assistant { text, calls: Vec::new(), reasoning: Vec::new() }),
                },
                _ => return Err(item.wrong("role", "system, developer, user or assistant")),
            }
        }
        "function_call" => {
            let name = item.need_text("name")?;
            let name = match item.text("namespace")? {
                Some(space) => in_namespace(space, name),
                None => name.to_owned(),
            };
            let arguments = item.text("arguments")?.unwrap_or_default().to_owned();
            add_call(messages, RawCall { id: item.need_text("call_id")?.to_owned(), name, arguments });
        }
        "custom_tool_call" => {
            let name = item.need_text("name")?.to_owned();
            let arguments = json!({"input": item.text("input")?.unwrap_or_default()}).to_string();
            add_call(messages, RawCall { id: item.need_text("call_id")?.to_owned(), name, arguments });
        }
        "function_call_output" | "custom_tool_call_output" => {
            item.hints(&["name"]);
            let call_id = item.need_text("call_id")?.to_owned();
            let text = match item.get("output") {
                Some(Value::Object(output)) => Value::Object(output.clone()).to_string(),
                output => content(output, &item.at("output"))?,
            };
            messages.push(Message::Tool { call_id, text });
        }
        "reasoning" => item.hints(&["content", "encrypted_content", "summary"]),
        kind => {
            let why = if kind == "item_reference" || kind.contains("compaction") { NO_STATE } else { NO_HOSTED_TOOLS };
            let kind: String = kind.chars().take(60).collect();
            return Err(Problem::refused(format!("{place}.type: {kind}"), why));
        }
    }
    item.end()
}

fn add_call(messages: &mut Vec<Message>, call: RawCall) {
    match messages.last_mut() {
        Some(Message::Assistant { calls, .. }) => calls.push(call),
        _ => messages.push(Message::Assistant { text: String::new(), calls: vec![call], reasoning: Vec::new() }),
    }
}

fn usage(used: Usage) -> Value {
    json!({
        "input_tokens": used.input,
        "input_tokens_details": {"cached_tokens": used.cache_read},
        "output_tokens": used.output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": used.total(),
    })
}

/// What the items of an answer are made with.
struct Maker {
    stamp: Stamp,
    model: String,
    custom: Vec<String>,
    namespaced: Vec<(String, String, String)>,
}

impl Maker {
    fn new(asked: &Asked, stamp: &Stamp) -> Self {
        Self {
            stamp: stamp.clone(),
            model: asked.question.model.clone(),
            custom: asked.custom.clone(),
            namespaced: asked.namespaced.clone(),
        }
    }

    fn message_id(&self) -> String {
        format!("msg_{}", self.stamp.id)
    }

    fn message(&self, text: Option<&str>) -> Value {
        let content: Vec<Value> = text.iter().map(|text| part(text)).collect();
        let status = if text.is_some() { "completed" } else { "in_progress" };
        json!({
            "id": self.message_id(), "type": "message", "status": status, "role": "assistant", "content": content,
        })
    }

    /// A call as an item; begun, it has no arguments yet.
    fn call(&self, number: usize, call: &RawCall, begun: bool) -> Value {
        let status = if begun { "in_progress" } else { "completed" };
        if self.custom.contains(&call.name) {
            let input = if begun { String::new() } else { plain_input(call) };
            return json!({
                "id": format!("ctc_{}{number}", self.stamp.id), "type": "custom_tool_call", "status": status,
                "call_id": call.id, "name": call.name, "input": input,
            });
        }
        let arguments = if begun { "" } else { arguments(call) };
        let mut item = json!({
            "id": format!("fc_{}{number}", self.stamp.id), "type": "function_call", "status": status,
            "call_id": call.id, "name": call.name, "arguments": arguments,
        });
        if let Some((_, space, name)) = self.namespaced.iter().find(|(told, ..)| *told == call.name)
            && let Some(item) = item.as_object_mut()
        {
            item.insert("name".into(), json!(name));
            item.insert("namespace".into(), json!(space));
        }
        item
    }

    fn response(&self, status: &str, output: Vec<Value>, more: &[(&str, Value)]) -> Value {
        let mut response = Map::new();
        for (name, value) in [
            ("id", json!(format!("resp_{}", self.stamp.id))),
            ("object", json!("response")),
            ("created_at", json!(self.stamp.created)),
            ("status", json!(status)),
            ("model", json!(self.model)),
            ("output", Value::Array(output)),
            ("parallel_tool_calls", json!(true)),
            ("store", json!(false)),
            ("error", Value::Null),
            ("incomplete_details", Value::Null),
        ] {
            response.insert(name.to_owned(), value);
        }
        for (name, value) in more {
            response.insert((*name).to_owned(), value.clone());
        }
        Value::Object(response)
    }

    /// The whole response.
    fn done(&self, answer: &ChatAnswer) -> Value {
        let mut output = Vec::new();
        if !answer.text.is_empty() || answer.calls.is_empty() {
            output.push(self.message(Some(&answer.text)));
        }
        output.extend(answer.calls.iter().enumerate().map(|(number, call)| self.call(number, call, false)));
        let usage = ("usage", usage(answer.bill.usage.unwrap_or_default()));
        let cut = |reason: &str| ("incomplete_details", json!({"reason": reason}));
        match answer.stop {
            StopReason::Length => self.response("incomplete", output, &[usage, cut("max_output_tokens")]),
            StopReason::Refusal => self.response("incomplete", output, &[usage, cut("content_filter")]),
            _ => self.response("completed", output, &[usage]),
        }
    }
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": []})
}

fn arguments(call: &RawCall) -> &str {
    if call.arguments.trim().is_empty() { "{}" } else { &call.arguments }
}

/// The text that a model wrote for a tool that takes one.
fn plain_input(call: &RawCall) -> String {
    match serde_json::from_str::<Value>(&call.arguments) {
        Ok(Value::Object(arguments)) => match arguments.get("input") {
            Some(Value::String(input)) => input.clone(),
            _ => call.arguments.clone(),
        },
        Ok(Value::String(input)) => input,
        _ => call.arguments.clone(),
    }
}

pub(super) fn whole(asked: &Asked, answer: &ChatAnswer, stamp: &Stamp) -> Value {
    Maker::new(asked, stamp).done(answer)
}

/// An answer as events.
pub(super) struct Stream {
    make: Maker,
    sequence: u64,
    items: usize,
    /// The text so far, once there is some.
    text: Option<String>,
}

impl Stream {
    pub(super) fn new(asked: &Asked, stamp: &Stamp) -> Self {
        Self { make: Maker::new(asked, stamp), sequence: 0, items: 0, text: None }
    }

    fn say(&mut self, name: &str, fields: Value) -> String {
        let mut data = Map::new();
        data.insert("type".into(), json!(name));
        data.insert("sequence_number".into(), json!(self.sequence));
        self.sequence += 1;
        if let Value::Object(fields) = fields {
            data.extend(fields);
        }
        event(Some(name), &Value::Object(data))
    }

    fn close_message(&mut self) -> String {
        let Some(text) = self.text.take() else { return String::new() };
        let (id, index) = (self.make.message_id(), self.items);
        self.items += 1;
        let mut out = self.say(
            "response.output_text.done",
            json!({"item_id": id, "output_index": index, "content_index": 0, "text": text}),
        );
        out.push_str(&self.say(
            "response.content_part.done",
            json!({"item_id": id, "output_index": index, "content_index": 0, "part": part(&text)}),
        ));
        let item = self.make.message(Some(&text));
        out.push_str(&self.say("response.output_item.done", json!({"output_index": index, "item": item})));
        out
    }

    fn call(&mut self, number: usize, call: &RawCall) -> String {
        let index = self.items;
        self.items += 1;
        let begun = self.make.call(number, call, true);
        let item = self.make.call(number, call, false);
        let id = item.get("id").cloned().unwrap_or_default();
        let mut out = self.say("response.output_item.added", json!({"output_index": index, "item": begun}));
        let (event, field, value) = match item.get("input") {
            Some(input) => ("response.custom_tool_call_input", "input", input.clone()),
            None => ("response.function_call_arguments", "arguments", json!(arguments(call))),
        };
        let delta = json!({"item_id": id, "output_index": index, "delta": value});
        out.push_str(&self.say(&format!("{event}.delta"), delta));
        let mut done = json!({"item_id": id, "output_index": index});
        if let Some(done) = done.as_object_mut() {
            done.insert(field.to_owned(), value);
        }
        out.push_str(&self.say(&format!("{event}.done"), done));
        out.push_str(&self.say("response.output_item.done", json!({"output_index": index, "item": item})));
        out
    }
}

impl Events for Stream {
    fn start(&mut self) -> String {
        let response = self.make.response("in_progress", Vec::new(), &[]);
        let mut out = self.say("response.created", json!({"response": response}));
        out.push_str(&self.ping());
        out
    }

    fn text(&mut self, more: &str) -> String {
        let (id, index) = (self.make.message_id(), self.items);
        let mut out = String::new();
        if self.text.is_none() {
            let item = self.make.message(None);
            out.push_str(&self.say("response.output_item.added", json!({"output_index": index, "item": item})));
            out.push_str(&self.say(
                "response.content_part.added",
                json!({"item_id": id, "output_index": index, "content_index": 0, "part": part("")}),
            ));
        }
        self.text.get_or_insert_default().push_str(more);
        out.push_str(&self.say(
            "response.output_text.delta",
            json!({"item_id": id, "output_index": index, "content_index": 0, "delta": more}),
        ));
        out
    }

    /// An event, not a comment: programs count the time between events.
    fn ping(&mut self) -> String {
        let response = self.make.response("in_progress", Vec::new(), &[]);
        self.say("response.in_progress", json!({"response": response}))
    }

    fn finish(&mut self, answer: &ChatAnswer) -> String {
        let mut out = String::new();
        if self.text.is_none() && answer.calls.is_empty() {
            out.push_str(&self.text(""));
        }
        out.push_str(&self.close_message());
        for (number, call) in answer.calls.iter().enumerate() {
            out.push_str(&self.call(number, call));
        }
        let response = self.make.done(answer);
        let incomplete = response.get("status").is_some_and(|status| status == "incomplete");
        let name = if incomplete { "response.incomplete" } else { "response.completed" };
        out.push_str(&self.say(name, json!({"response": response})));
        out
    }

    fn fail(&mut self, fault: &Fault) -> String {
        let error = json!({"code": fault.kind.code(), "message": fault.message});
        let response = self.make.response("failed", Vec::new(), &[("error", error)]);
        self.say("response.failed", json!({"response": response}))
    }
}
