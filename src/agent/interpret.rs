//! Reading a model's answer.

use super::{protocol, tools};
use crate::model::chat::{Answer, ChatAnswer, Conclusion, ModelRef, RawCall, StopReason};
use crate::model::plan::{AgentSpec, OutputSpec};
use crate::model::tool::{ToolCall, ToolSpec};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::fmt::Write;

/// Problems of an output that are named at once.
const MOST_PROBLEMS: usize = 6;

/// Parses the calls of an answer and judges whether it ends the step.
///
/// Calls that cannot be carried out (unreadable arguments, an unknown tool, an answer cut off at the output limit) are
/// kept with `malformed` set, so that each gets a result. `conclusion` is set where the model called `finish`, answered
/// without calls, or answered nothing; it is `Err` with a message for the model (see [`super::words::repair`]) where that
/// cannot be accepted. A refusal has no conclusion.
pub fn interpret(spec: &AgentSpec, model: &ModelRef, answer: &ChatAnswer) -> Answer {
    let (text, reasoning) = (answer.text.clone(), answer.reasoning.clone());
    if answer.stop == StopReason::Refusal {
        let stop = StopReason::Refusal;
        return Answer { text, calls: Vec::new(), raw_calls: Vec::new(), stop, conclusion: None, reasoning };
    }
    let offered = tools::specs(&spec.tools, spec.output.as_ref());
    let from_text = answer.calls.is_empty() && !model.tools;
    let mut raw_calls = if from_text { protocol::read_calls(&answer.text) } else { answer.calls.clone() };
    make_unique(&mut raw_calls);
    let cut = answer.stop == StopReason::Length;
    let calls: Vec<ToolCall> = raw_calls
        .iter()
        .map(|raw| match if cut { Err(truncated()) } else { arguments(&offered, raw) } {
            Ok(args) => {
                ToolCall { id: raw.id.clone(), name: raw.name.clone(), args: Value::Object(args), malformed: None }
            }
            Err(message) => {
                ToolCall { id: raw.id.clone(), name: raw.name.clone(), args: Value::Null, malformed: Some(message) }
            }
        })
        .collect();
    let conclusion = conclude(spec.output.as_ref(), &answer.text, &calls, cut);
    Answer { text, calls, raw_calls, stop: answer.stop, conclusion, reasoning }
}

fn truncated() -> String {
    "Your answer was cut off at the output limit, so its calls may be incomplete and none was carried out. Answer with less: one \
     call at a time, smaller edits, a long file in several parts."
        .into()
}

/// Gives every call an id of its own: some providers send none, or the same one twice.
fn make_unique(calls: &mut [RawCall]) {
    let mut seen: HashSet<String> = HashSet::new();
    for (index, call) in calls.iter_mut().enumerate() {
        if call.id.is_empty() {
            call.id = format!("call_{}", index + 1);
        }
        let base = call.id.clone();
        let mut suffix = 2;
        while !seen.insert(call.id.clone()) {
            call.id = format!("{base}_{suffix}");
            suffix += 1;
        }
    }
}

/// The arguments of a call, checked against its tool.
fn arguments(offered: &[ToolSpec], raw: &RawCall) -> Result<Map<String, Value>, String> {
    let Some(tool) = offered.iter().find(|tool| tool.name == raw.name) else {
        let names: Vec<&str> = offered.iter().map(|tool| tool.name.as_str()).collect();
        return Err(format!("There is no tool `{}`. These are on offer: {}.", raw.name, names.join(", ")));
    };
    let text = if raw.arguments.trim().is_empty() { "{}" } else { raw.arguments.trim() };
    let value: Value = serde_json::from_str(text).map_err(|error| {
        format!(
            "The arguments of `{}` are not valid JSON: {error}. Send one JSON object, with \" as \\\" and line breaks as \\n \
             within strings.",
            raw.name
        )
    })?;
    // Some models encode the object once more, as a string.
    let value = match &value {
        Value::String(inner) => serde_json::from_str(inner).unwrap_or(value),
        _ => value,
    };
    let Value::Object(mut args) = value else {
        return Err(format!("The arguments of `{}` must be a JSON object with named arguments.", raw.name));
    };
    // `null` is how many models leave an argument out.
    args.retain(|_, value| !value.is_null());
    tools_check(tool, &args)?;
    Ok(args)
}

fn tools_check(tool: &ToolSpec, args: &Map<String, Value>) -> Result<(), String> {
    tools::check_args(tool, args)
}

/// Whether the answer ends the step, and how.
fn conclude(
    output: Option<&OutputSpec>,
    text: &str,
    calls: &[ToolCall],
    cut: bool,
) -> Option<Result<Conclusion, String>> {
    if calls.is_empty() {
        return Some(if cut {
            Err("Your answer was cut off at the output limit. Say it in fewer words.".into())
        } else if text.trim().is_empty() {
            Err("Your answer was empty: neither text nor a tool call. Go on with the task; when it is done, call finish.".into())
        } else {
            from_text(output, text)
        });
    }
    let finish = calls.iter().find(|call| call.name == "finish" && call.malformed.is_none())?;
    let summary = finish.args.get("summary").and_then(Value::as_str).unwrap_or_default();
    let given = finish.args.get("output");
    Some(match (output, given) {
        (None, given) => Ok(Conclusion { text: summary.to_owned(), output: given.cloned() }),
        (Some(spec), Some(given)) => {
            accept(spec, given.clone()).map(|output| Conclusion { text: summary.to_owned(), output: Some(output) })
        }
        (Some(spec), None) => Err(format!(
            "`finish` needs `output`, which follows the schema `{}`. Call finish again with summary and output.",
            spec.name
        )),
    })
}

/// A conclusion from a plain answer.
fn from_text(output: Option<&OutputSpec>, text: &str) -> Result<Conclusion, String> {
    let Some(spec) = output else { return Ok(Conclusion { text: text.trim().to_owned(), output: None }) };
    let mut problem = None;
    // The last block is most likely the result; those before it are examples and thoughts.
    for block in protocol::blocks(text).into_iter().rev().chain(embedded(text)) {
        match serde_json::from_str::<Value>(block) {
            Ok(value) => match accept(spec, value) {
                Ok(output) => return Ok(Conclusion { text: text.trim().to_owned(), output: Some(output) }),
                Err(error) => problem = problem.or(Some(error)),
            },
            Err(error) => problem = problem.or(Some(format!("The JSON in your answer cannot be read: {error}."))),
        }
    }
    Err(problem.unwrap_or_else(|| {
        format!(
            "The result must be JSON that follows the schema `{}`; your answer holds none. Call finish with summary and output, or \
             answer with one ```json block.",
            spec.name
        )
    }))
}

/// JSON within prose: from the first brace to the last.
fn embedded(text: &str) -> Option<&str> {
    let start = text.find('{')?;
    let end = text.rfind('}')?;
    text.get(start..=end)
}

/// The value, if it follows the schema.
fn accept(spec: &OutputSpec, value: Value) -> Result<Value, String> {
    let validator = jsonschema::validator_for(&spec.schema)
        .map_err(|error| format!("The output schema `{}` itself is not valid: {error}.", spec.name))?;
    if validator.is_valid(&value) {
        return Ok(value);
    }
    // Some models encode the output once more, as a string.
    if let Value::String(inner) = &value
        && let Ok(decoded) = serde_json::from_str::<Value>(inner)
        && validator.is_valid(&decoded)
    {
        return Ok(decoded);
    }
    let mut message = format!("The output does not follow the schema `{}`:", spec.name);
    let problems: Vec<(String, String)> = validator
        .iter_errors(&value)
        .map(|error| (place(&error.instance_path().to_string()), error.to_string()))
        .collect();
    for (place, problem) in problems.iter().take(MOST_PROBLEMS) {
        let problem: String = problem.chars().take(400).collect();
        let _ = write!(message, "\n- {place}: {problem}");
    }
    if problems.len() > MOST_PROBLEMS {
        let _ = write!(message, "\n- and {} more", problems.len() - MOST_PROBLEMS);
    }
    Err(message)
}

/// `/steps/0/what` as `output.steps[0].what`.
fn place(pointer: &str) -> String {
    pointer.split('/').skip(1).fold("output".to_owned(), |mut path, part| {
        if part.chars().all(|c| c.is_ascii_digit()) && !part.is_empty() {
            let _ = write!(path, "[{part}]");
        } else {
            let _ = write!(path, ".{}", part.replace("~1", "/").replace("~0", "~"));
        }
        path
    })
}
