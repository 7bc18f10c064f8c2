//! Tool calls, what the policy said of them, and what came of them.

use super::policy::Decision;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The tools that the native agent knows.
pub const TOOLS: [&str; 10] = [
    "read_file",
    "write_file",
    "edit_file",
    "apply_patch",
    "list_files",
    "search",
    "shell",
    "git_diff",
    "git_log",
    "finish",
];

/// Tools that may change the workspace: a checkpoint precedes each call.
pub const WRITING_TOOLS: [&str; 4] = ["write_file", "edit_file", "apply_patch", "shell"];

/// Tools that only look, without a program: a call cut by a crash leaves nothing, and is simply made again.
pub const LOOKING_TOOLS: [&str; 5] = ["read_file", "list_files", "search", "git_diff", "git_log"];

/// A tool as offered to a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// One of [`TOOLS`].
    pub name: String,
    /// What it does, in the model's words.
    pub description: String,
    /// JSON Schema of the arguments object.
    pub parameters: Value,
}

/// A call as the model asked for it, arguments parsed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The provider's id, unique within one answer; echoed with the result.
    pub id: String,
    /// The tool's name. May be unknown: then the call is answered with an error that lists what is offered.
    pub name: String,
    /// The arguments object; `Null` where `malformed` is set.
    pub args: Value,
    /// Why the arguments could not be parsed, in words for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub malformed: Option<String>,
}

/// Where a decision comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleRef {
    /// The policy's name.
    pub policy: String,
    /// `None`: the policy's `default`. Otherwise the rule's number, from 1.
    pub rule: Option<usize>,
    /// The file it was read from, or `built in`.
    pub file: String,
    /// Line in that file, from 1; 0 where unknown.
    pub line: usize,
}

impl RuleRef {
    /// Where it stands: `FILE:LINE`, or the file alone where the line is unknown.
    pub fn place(&self) -> String {
        if self.line > 0 { format!("{}:{}", self.file, self.line) } else { self.file.clone() }
    }
}

/// A policy decision about one call, as it is logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruling {
    /// Allow, deny or ask.
    pub decision: Decision,
    /// Which rule decided.
    pub by: RuleRef,
    /// Why, in a few words (`network tools`).
    pub reason: String,
    /// For a denial: what the model is told, with what it may do instead.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub advice: String,
    /// For a denial: the YAML rule that would allow it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_with: Option<String>,
}

/// How a tool call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolStatus {
    /// It did what was asked. A shell command that exits non-zero is `Ok` too: the model reads the code.
    Ok,
    /// It could not be done (no such file, text not found); the content says why.
    Error,
    /// The policy refused it; it did not run.
    Denied,
    /// It was stopped by its deadline.
    TimedOut,
    /// It was stopped by the sandbox's memory or process limit.
    Killed,
}

/// The result of a tool call, as the model will read it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolOutcome {
    /// How it ended.
    pub status: ToolStatus,
    /// What the model reads; cleaned of control sequences, capped.
    pub content: String,
    /// The policy's ruling, where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ruling: Option<Ruling>,
    /// Exit code of a shell command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Wall time in milliseconds.
    #[serde(default)]
    pub duration_ms: u64,
}

impl ToolOutcome {
    /// An outcome of the given status that says `content`.
    pub fn new(status: ToolStatus, content: impl Into<String>) -> Self {
        Self { status, content: content.into(), ruling: None, exit_code: None, duration_ms: 0 }
    }
}
