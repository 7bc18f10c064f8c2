//! `codeforge models test`: one tiny request to each model.

use super::show::table;
use super::{CliError, Context, Entry, Format};
use crate::model::account::Ending;
use crate::model::chat::{ChatAnswer, ChatRequest, Message, ModelError, Sampling, StopReason, ToolChoice};
use crate::model::tool::ToolSpec;
use crate::model::usage::CostSource;
use crate::port::world::Tape;
use crate::report::numbers::span;
use serde_json::{Value, json};

/// The longest answer, in tokens.
const MAX_OUTPUT: u64 = 16;
/// The function that a model is asked to call.
const TOOL: &str = "ping";

/// How a model did.
struct Tried<'a> {
    entry: &'a Entry,
    ms: u64,
    answer: Result<ChatAnswer, ModelError>,
}

/// Asks each model and shows how it did.
///
/// # Errors
/// One did not answer (5); it has been shown.
pub(super) async fn all(entries: &[Entry], cx: &Context<'_>) -> Result<(), CliError> {
    if entries.is_empty() {
        return Err(CliError::usage("there is no model to test").hint(super::NO_MODEL));
    }
    let models = cx.world.chat(&Tape::Off).map_err(CliError::usage)?;
    let clock = cx.world.clock();
    let mut tried = Vec::new();
    for entry in entries {
        cx.say(&format!("asking {} …", entry.known.model.name));
        let begun = clock.now_ms();
        let answer = models.ask(&request(entry), &|_| {}).await;
        let ms = u64::try_from(clock.now_ms() - begun).unwrap_or_default();
        tried.push(Tried { entry, ms, answer });
    }
    if cx.format == Format::Json {
        cx.data(&format!("{:#}\n", Value::Array(tried.iter().map(Tried::json).collect())));
    } else {
        let mut text = String::new();
        let head = ["NAME", "ANSWER", "TIME", "TOKENS", "COST", "TOOLS"].map(str::to_owned);
        let rows: Vec<_> = std::iter::once(head).chain(tried.iter().map(Tried::row)).collect();
        table(&rows, "", &mut text);
        cx.data(&text);
        for error in tried.iter().filter_map(|tried| tried.answer.as_ref().err()) {
            cx.complain(&format!("error: {error}"));
        }
    }
    if tried.iter().any(|tried| tried.answer.is_err()) { Err(CliError::silent(Ending::Unavailable)) } else { Ok(()) }
}

/// One model: how long it took, and what went wrong.
pub(super) async fn one(entry: &Entry, cx: &Context<'_>) -> Result<(u64, Option<ModelError>), CliError> {
    let models = cx.world.chat(&Tape::Off).map_err(CliError::usage)?;
    let clock = cx.world.clock();
    let begun = clock.now_ms();
    let answer = models.ask(&request(entry), &|_| {}).await;
    Ok((u64::try_from(clock.now_ms() - begun).unwrap_or_default(), answer.err()))
}

fn request(entry: &Entry) -> ChatRequest {
    let mut model = entry.known.model.clone();
    model.max_output = MAX_OUTPUT;
    let tools = model.tools.then(|| ToolSpec {
        name: TOOL.to_owned(),
        description: "Says that you are there.".to_owned(),
        parameters: json!({ "type": "object", "properties": {}, "additionalProperties": false }),
    });
    let tool_choice = if model.tools { ToolChoice::Required } else { ToolChoice::Auto };
    let asked = if model.tools { format!("Call the function {TOOL}.") } else { "Say OK.".to_owned() };
    ChatRequest {
        model,
        messages: vec![Message::User { text: asked }],
        tools: tools.into_iter().collect(),
        sampling: Sampling { max_output: Some(MAX_OUTPUT), tool_choice, ..Sampling::default() },
        ..ChatRequest::default()
    }
}

impl Tried<'_> {
    /// Whether its tools work; `unclear`: the answer ended at its limit before a call.
    fn tools(&self) -> &'static str {
        match &self.answer {
            Err(_) => "-",
            Ok(_) if !self.entry.known.model.tools => "off",
            Ok(answer) if answer.calls.iter().any(|call| call.name == TOOL) => "work",
            Ok(answer) if answer.stop == StopReason::Length => "unclear",
            Ok(_) => "not called",
        }
    }

    fn json(&self) -> Value {
        let bill = match &self.answer {
            Ok(answer) => Some(&answer.bill),
            Err(error) => error.bill.as_ref(),
        };
        let error = self.answer.as_ref().err();
        json!({
            "name": self.entry.known.model.name,
            "ok": self.answer.is_ok(),
            "latency_ms": self.ms,
            "usage": bill.and_then(|bill| bill.usage),
            "cost_usd": bill.and_then(|bill| bill.cost).map(|cost| cost.usd()),
            "cost_from": bill.map_or(CostSource::Unknown, |bill| bill.source),
            "tools": self.tools(),
            "fault": error.map(|error| error.fault),
            "error": error.map(|error| error.message.clone()),
        })
    }

    fn row(&self) -> [String; 6] {
        let name = self.entry.known.model.name.clone();
        let Ok(answer) = &self.answer else {
            return [name, "failed".to_owned(), span(self.ms), String::new(), String::new(), self.tools().to_owned()];
        };
        let usage = answer.bill.usage;
        let tokens = usage.map_or_else(|| "unknown".to_owned(), |it| format!("{} in, {} out", it.input, it.output));
        let cost = match answer.bill.cost {
            None => "unknown".to_owned(),
            Some(cost) => {
                let from = if answer.bill.source == CostSource::Provider { "its server says" } else { "by its price" };
                format!("${:.6}, {from}", cost.usd())
            }
        };
        [name, "ok".to_owned(), span(self.ms), tokens, cost, self.tools().to_owned()]
    }
}
