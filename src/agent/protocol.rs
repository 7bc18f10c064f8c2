//! Calling tools without function calling: fenced JSON in the model's text.

use crate::model::chat::RawCall;
use crate::model::tool::ToolSpec;
use serde_json::Value;
use std::fmt::Write;

/// What a model without function calling is told about its tools.
pub(super) fn describe(tools: &[ToolSpec]) -> String {
    let mut out = String::from(
        "\n\n# How to call tools\n\nTo call a tool, write a fenced JSON block and nothing after it:\n\n```json\n{\"tool\": \
         \"NAME\", \"args\": {…}}\n```\n\nSeveral blocks in one answer are carried out in order. You get their results in \
         the next message. Write JSON only: inside strings, line breaks are \\n and quotes are \\\". When you are done, \
         call `finish` in the same way.\n\n# Tools\n",
    );
    for tool in tools {
        let _ = write!(out, "\n## {}\n{}\nArguments (JSON Schema): {}\n", tool.name, tool.description, tool.parameters);
    }
    out
}

/// The calls as a block of that form.
pub(super) fn write_calls(calls: &[RawCall]) -> String {
    calls.iter().fold(String::new(), |mut out, call| {
        let name = Value::from(call.name.as_str());
        let _ = write!(out, "\n```json\n{{\"tool\": {name}, \"args\": {}}}\n```\n", call.arguments.trim());
        out
    })
}

/// The calls that a text holds. A block that names a tool but is not valid JSON is a call with unreadable arguments.
pub(super) fn read_calls(text: &str) -> Vec<RawCall> {
    let mut calls = Vec::new();
    for block in blocks(text) {
        match serde_json::from_str::<Value>(block) {
            Ok(Value::Array(items)) => items.iter().for_each(|item| calls.extend(read_call(item))),
            Ok(value) => calls.extend(read_call(&value)),
            Err(_) => calls.extend(tool_named_in(block).map(|name| (name, block.trim().to_owned()))),
        }
    }
    let number = |(index, (name, arguments))| RawCall { id: format!("call_{}", index + 1), name, arguments };
    calls.into_iter().enumerate().map(number).collect()
}

fn read_call(value: &Value) -> Option<(String, String)> {
    let name = value.get("tool")?.as_str()?.to_owned();
    let arguments =
        value.get("args").or_else(|| value.get("arguments")).map_or_else(|| "{}".to_owned(), Value::to_string);
    Some((name, arguments))
}

/// `x` of `"tool": "x"` in JSON that cannot be read.
fn tool_named_in(block: &str) -> Option<String> {
    let rest = block.split_once("\"tool\"")?.1.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    let name = rest.split('"').next()?;
    (!name.is_empty() && name.len() <= 64).then(|| name.to_owned())
}

/// The contents of fenced blocks marked `json`, or not marked at all; a text that is nothing but JSON counts as one.
///
/// A closing fence is a line of its own, so backticks within JSON strings do not end a block.
pub(super) fn blocks(text: &str) -> Vec<&str> {
    let trimmed = text.trim();
    if trimmed.starts_with(['{', '[']) && trimmed.ends_with(['}', ']']) {
        return vec![trimmed];
    }
    let mut blocks = Vec::new();
    let mut open: Option<usize> = None;
    let mut wanted = false;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let next = at + line.len();
        let bare = line.trim();
        match open {
            None if bare.starts_with("```") => {
                wanted = matches!(
                    bare.trim_start_matches('`').trim().to_ascii_lowercase().as_str(),
                    "json" | "" | "tool" | "json5"
                );
                open = Some(next);
            }
            Some(start) if bare == "```" => {
                if wanted {
                    blocks.extend(text.get(start..at));
                }
                open = None;
            }
            _ => {}
        }
        at = next;
    }
    // A block that the model forgot to close.
    if let Some(start) = open.filter(|_| wanted) {
        blocks.extend(text.get(start..).filter(|rest| !rest.trim().is_empty()));
    }
    blocks
}
