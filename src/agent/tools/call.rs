//! Calls with typed arguments.

use super::spec::specs;
use crate::agent::patch::{self, FilePatch};
use crate::model::tool::{ToolCall, ToolSpec};
use serde_json::{Map, Value};
use std::fmt::Write;

/// A tool call, ready to be carried out.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// Show lines of a file.
    ReadFile {
        /// The file.
        path: String,
        /// First line, from 1.
        start_line: Option<usize>,
        /// Last line, inclusive; never before the first.
        end_line: Option<usize>,
    },
    /// Write a whole file.
    WriteFile {
        /// The file.
        path: String,
        /// Its new content.
        content: String,
    },
    /// Replace text in a file.
    EditFile {
        /// The file.
        path: String,
        /// What is there.
        old: String,
        /// What is to be there.
        new: String,
        /// Every occurrence instead of the only one.
        replace_all: bool,
    },
    /// Apply a patch to one or more files.
    ApplyPatch {
        /// What it does to each file.
        files: Vec<FilePatch>,
    },
    /// List files.
    ListFiles {
        /// Below which folder; `None`: the root.
        path: Option<String>,
        /// Only paths that match.
        glob: Option<String>,
    },
    /// Search in files.
    Search {
        /// Regular expression.
        pattern: String,
        /// In which file or folder; `None`: the root.
        path: Option<String>,
        /// Only paths that match.
        glob: Option<String>,
    },
    /// Run a command.
    Shell {
        /// Shell text.
        command: String,
        /// Deadline in seconds; `None`: the default.
        timeout_s: Option<u64>,
    },
    /// Show the changes so far.
    GitDiff {
        /// Only below this path.
        path: Option<String>,
    },
    /// Show commits.
    GitLog {
        /// Only commits that touch this path.
        path: Option<String>,
        /// How many.
        limit: Option<usize>,
    },
    /// End the step.
    Finish {
        /// Closing words.
        summary: String,
        /// The step's output, not yet checked against its schema.
        output: Option<Value>,
    },
}

/// The paths that a call names, as the model wrote them: relative to the workspace, not yet checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Paths {
    /// Paths it reads. Listing and searching without a path read `.`.
    pub reads: Vec<String>,
    /// Paths it writes, creates or deletes.
    pub writes: Vec<String>,
}

impl Call {
    /// Reads a call's arguments.
    ///
    /// # Errors
    /// In words for the model: why the call cannot be carried out. `malformed` calls give their own message.
    pub fn parse(call: &ToolCall) -> Result<Self, String> {
        if let Some(message) = &call.malformed {
            return Err(message.clone());
        }
        let offered = specs(std::slice::from_ref(&call.name), None);
        let Some(spec) = offered.first() else { return Err(format!("There is no tool `{}`.", call.name)) };
        let Value::Object(args) = &call.args else {
            return Err(format!("{}: the arguments must be a JSON object.", call.name));
        };
        // What `finish` may hand over is the step's own business.
        let checked: Map<String, Value> = args
            .iter()
            .filter(|(name, value)| !(value.is_null() || call.name == "finish" && *name == "output"))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        check_args(spec, &checked)?;
        Self::typed(&call.name, args)
    }

    fn typed(name: &str, args: &Map<String, Value>) -> Result<Self, String> {
        let text = |key: &str| args.get(key).and_then(Value::as_str).map(str::to_owned);
        let must = |key: &str| text(key).ok_or_else(|| format!("{name}: `{key}` is missing."));
        let number = |key: &str| args.get(key).and_then(Value::as_u64);
        let count = |key: &str| number(key).and_then(|n| usize::try_from(n).ok());
        Ok(match name {
            "read_file" => {
                let (start_line, end_line) = (count("start_line"), count("end_line"));
                if let (Some(start), Some(end)) = (start_line, end_line)
                    && end < start
                {
                    return Err(format!("read_file: end_line ({end}) is before start_line ({start})."));
                }
                Self::ReadFile { path: must("path")?, start_line, end_line }
            }
            "write_file" => Self::WriteFile { path: must("path")?, content: must("content")? },
            "edit_file" => Self::EditFile {
                path: must("path")?,
                old: must("old")?,
                new: must("new")?,
                replace_all: args.get("replace_all").and_then(Value::as_bool).unwrap_or(false),
            },
            "apply_patch" => Self::ApplyPatch { files: patch::parse(&must("patch")?)? },
            "list_files" => Self::ListFiles { path: text("path"), glob: text("glob") },
            "search" => Self::Search { pattern: must("pattern")?, path: text("path"), glob: text("glob") },
            "shell" => Self::Shell { command: must("command")?, timeout_s: number("timeout_s") },
            "git_diff" => Self::GitDiff { path: text("path") },
            "git_log" => Self::GitLog { path: text("path"), limit: count("limit") },
            "finish" => Self::Finish {
                summary: must("summary")?,
                output: args.get("output").filter(|output| !output.is_null()).cloned(),
            },
            other => return Err(format!("There is no tool `{other}`.")),
        })
    }

    /// The paths it names. A shell command's are the policy's business.
    pub fn paths(&self) -> Paths {
        let mut paths = Paths::default();
        let folder = |path: &Option<String>| path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| ".".into());
        match self {
            Self::ReadFile { path, .. } => paths.reads.push(path.clone()),
            Self::WriteFile { path, .. } => paths.writes.push(path.clone()),
            Self::EditFile { path, .. } => {
                paths.reads.push(path.clone());
                paths.writes.push(path.clone());
            }
            Self::ApplyPatch { files } => {
                for file in files {
                    let (old, new) = (file.old_path.as_ref(), file.new_path.as_ref());
                    paths.reads.extend(old.cloned());
                    paths.writes.extend(new.cloned());
                    // A rename or a deletion takes the old file away.
                    if !file.copy && old != new {
                        paths.writes.extend(old.cloned());
                    }
                }
            }
            Self::ListFiles { path, .. }
            | Self::Search { path, .. }
            | Self::GitDiff { path }
            | Self::GitLog { path, .. } => {
                paths.reads.push(folder(path));
            }
            Self::Shell { .. } | Self::Finish { .. } => {}
        }
        paths
    }
}

/// Whether arguments fit a tool: names, presence, types, bounds.
///
/// # Errors
/// In words for the model, all problems at once, naming each argument.
pub fn check_args(spec: &ToolSpec, args: &Map<String, Value>) -> Result<(), String> {
    let empty = Map::new();
    let properties = spec.parameters.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    let mut problems = Vec::new();
    for name in
        spec.parameters.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    {
        // `output` is judged with the conclusion, where its own message is better.
        let optional = spec.name == "finish" && name == "output";
        if !args.contains_key(name) && !optional {
            problems.push(format!("`{name}` is missing"));
        }
    }
    for (name, value) in args {
        if spec.name == "finish" && name == "output" {
            continue;
        }
        let Some(schema) = properties.get(name) else {
            let nearest = properties
                .keys()
                .map(|known| (strsim::normalized_damerau_levenshtein(known, name), known))
                .filter(|(score, _)| *score > 0.6)
                .max_by(|a, b| a.0.total_cmp(&b.0));
            let hint = nearest.map(|(_, known)| format!(" (did you mean `{known}`?)")).unwrap_or_default();
            problems.push(format!("there is no argument `{name}`{hint}"));
            continue;
        };
        if let Some(problem) = mistyped(schema, value) {
            problems.push(format!("`{name}` {problem}"));
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    let mut message = format!("{}: {}.", spec.name, problems.join("; "));
    let known: Vec<String> = properties
        .iter()
        .map(|(name, schema)| format!("{name} ({})", schema.get("type").and_then(Value::as_str).unwrap_or("any")))
        .collect();
    let _ = write!(message, " It takes: {}. Nothing was done; call it again.", known.join(", "));
    Err(message)
}

fn mistyped(schema: &Value, value: &Value) -> Option<String> {
    let wanted = schema.get("type").and_then(Value::as_str)?;
    let fits = match wanted {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_i64().is_some() || value.as_u64().is_some(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    };
    if !fits {
        let got = match value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        let article = if wanted.starts_with(['a', 'i', 'o']) { "an" } else { "a" };
        return Some(format!("must be {article} {wanted}, not {got}"));
    }
    let number = value.as_i64()?;
    if let Some(least) = schema.get("minimum").and_then(Value::as_i64)
        && number < least
    {
        return Some(format!("must be at least {least}, not {number}"));
    }
    if let Some(most) = schema.get("maximum").and_then(Value::as_i64)
        && number > most
    {
        return Some(format!("must be at most {most}, not {number}"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn call(name: &str, args: Value) -> ToolCall {
        ToolCall { id: "1".into(), name: name.into(), args, malformed: None }
    }

    #[test]
    fn arguments_become_typed() {
        let read =
            Call::parse(&call("read_file", json!({ "path": "a.rs", "start_line": 3, "end_line": null }))).unwrap();
        assert_eq!(read, Call::ReadFile { path: "a.rs".into(), start_line: Some(3), end_line: None });
        assert_eq!(read.paths().reads, ["a.rs"]);
        let finish = Call::parse(&call("finish", json!({ "summary": "done", "output": { "a": 1 } }))).unwrap();
        assert_eq!(finish, Call::Finish { summary: "done".into(), output: Some(json!({ "a": 1 })) });
        assert_eq!(Call::parse(&call("search", json!({ "pattern": "x" }))).unwrap().paths().reads, ["."]);
    }

    #[test]
    fn a_patch_names_all_its_paths() {
        let patch = "diff --git a/x b/y\nrename from x\nrename to y\n--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+a\n--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n--- a/same\n+++ b/same\n@@ -1 +1 @@\n-a\n+b\n";
        let mut paths = Call::parse(&call("apply_patch", json!({ "patch": patch }))).unwrap().paths();
        paths.writes.sort();
        assert_eq!(paths.writes, ["gone", "new", "same", "x", "y"]);
        assert_eq!(paths.reads, ["x", "gone", "same"]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let cases = [
            ("read_file", json!({}), "`path` is missing"),
            ("read_file", json!({ "pth": "a" }), "no argument `pth` (did you mean `path`?)"),
            ("read_file", json!({ "path": 3 }), "`path` must be a string, not a number"),
            ("read_file", json!({ "path": "a", "start_line": "3" }), "`start_line` must be an integer, not a string"),
            ("read_file", json!({ "path": "a", "start_line": 0 }), "at least 1"),
            ("read_file", json!({ "path": "a", "start_line": 9, "end_line": 3 }), "before start_line"),
            ("shell", json!({ "command": "ls", "timeout_s": 99999 }), "at most 3600"),
            ("shell", json!(["ls"]), "must be a JSON object"),
            ("apply_patch", json!({ "patch": "nonsense" }), "no patch"),
            ("fly", json!({}), "no tool `fly`"),
        ];
        for (name, args, expected) in cases {
            let error = Call::parse(&call(name, args)).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
