//! Names, descriptions and argument schemas, as a model reads them.

use crate::model::plan::OutputSpec;
use crate::model::tool::{TOOLS, ToolSpec};
use serde_json::{Value, json};
use std::sync::LazyLock;

/// The tools of that list which exist, in the order of [`TOOLS`] whatever order they are named in (so that prompts and
/// caches stay stable). `output` is what `finish` must hand over.
pub fn specs(names: &[String], output: Option<&OutputSpec>) -> Vec<ToolSpec> {
    /// Those that are the same for everybody, made once.
    static KNOWN: LazyLock<Vec<ToolSpec>> = LazyLock::new(|| TOOLS.iter().map(|tool| spec(tool)).collect());
    let named = KNOWN.iter().filter(|tool| names.contains(&tool.name));
    named.map(|tool| if tool.name == "finish" { finish(output) } else { tool.clone() }).collect()
}

fn spec(name: &str) -> ToolSpec {
    let path = |what: &str| json!({ "type": "string", "description": format!("{what}, relative to the repository's root, with / between parts") });
    let (description, properties, required): (&str, Value, &[&str]) = match name {
        "read_file" => (
            "Read a text file. Each line is preceded by its number and a tab; neither is part of the file. Long files come in \
             parts: ask for the rest with start_line. Read a file before you edit it.",
            json!({
                "path": path("The file"),
                "start_line": { "type": "integer", "minimum": 1, "description": "First line to read (default 1)" },
                "end_line": { "type": "integer", "minimum": 1, "description": "Last line to read, inclusive (default: as far as fits)" },
            }),
            &["path"],
        ),
        "write_file" => (
            "Create a file, or replace the whole of an existing one. Missing folders are made. For a change within a file use \
             edit_file: it is shorter and safer.",
            json!({
                "path": path("The file"),
                "content": { "type": "string", "description": "The complete new content" },
            }),
            &["path", "content"],
        ),
        "edit_file" => (
            "Replace text in a file. `old` must match the file exactly, indentation and blank lines included, without the line \
             numbers that read_file prints, and must occur only once; add neighbouring lines until it does. When it does not \
             match you are shown the nearest text.",
            json!({
                "path": path("The file"),
                "old": { "type": "string", "description": "The exact text to replace" },
                "new": { "type": "string", "description": "The text to put in its place; empty to delete" },
                "replace_all": { "type": "boolean", "description": "Replace every occurrence (default false)" },
            }),
            &["path", "old", "new"],
        ),
        "apply_patch" => (
            "Apply a unified diff, also to several files at once: `--- a/path`, `+++ b/path`, then `@@ -start,count \
             +start,count @@` hunks with about three lines of context. /dev/null stands for a file that is created or deleted; \
             git's rename headers work. Context must match exactly. All hunks apply, or nothing changes.",
            json!({ "patch": { "type": "string", "description": "The diff" } }),
            &["patch"],
        ),
        "list_files" => (
            "List the files below a folder, without those that .gitignore leaves out.",
            json!({
                "path": path("The folder (default: the root)"),
                "glob": { "type": "string", "description": "Only paths that match, for example **/*.rs" },
            }),
            &[],
        ),
        "search" => (
            "Search file contents with a regular expression (Rust syntax, line by line, case-sensitive; begin with (?i) to \
             ignore case). Gives path:line: text. Ignored files are left out. The quickest way to find where something is \
             defined or used.",
            json!({
                "pattern": { "type": "string", "description": "The regular expression; escape ( ) [ ] { } . * + ? | \\ to mean themselves" },
                "path": path("The file or folder to search (default: the root)"),
                "glob": { "type": "string", "description": "Only files whose path matches, for example src/**/*.py" },
            }),
            &["pattern"],
        ),
        "shell" => (
            "Run a command with sh -c at the repository's root, in a sandbox: without network, without secrets, with limited \
             memory and processes. Nothing survives the call but files: no variables, no folder changes, no background \
             processes. Gives output and exit code. A policy judges every command in it; one that is denied says what to do \
             instead. Never start anything that waits for input.",
            json!({
                "command": { "type": "string", "description": "The shell text" },
                "timeout_s": { "type": "integer", "minimum": 1, "maximum": 3600, "description": "Seconds after which it is killed (default 600)" },
            }),
            &["command"],
        ),
        "git_diff" => (
            "Show what has changed since the work began, as a unified diff, new files included.",
            json!({ "path": path("Only this file or folder (default: everything)") }),
            &[],
        ),
        "git_log" => (
            "Show the repository's latest commits: id, date, author, subject.",
            json!({
                "path": path("Only commits that touch this file or folder"),
                "limit": { "type": "integer", "minimum": 1, "maximum": 200, "description": "How many (default 20)" },
            }),
            &[],
        ),
        _ => return finish(None),
    };
    ToolSpec { name: name.to_owned(), description: description.to_owned(), parameters: object(properties, required) }
}

fn finish(output: Option<&OutputSpec>) -> ToolSpec {
    let mut properties = json!({
        "summary": { "type": "string", "description": "What was done and found, what was verified and how, what is left open: a few plain sentences" },
    });
    let mut required = vec!["summary"];
    let mut description =
        "End your work on this task. Call it once, when everything is done and checked, and call nothing \
                           after it."
            .to_owned();
    if let (Some(output), Some(map)) = (output, properties.as_object_mut()) {
        map.insert("output".into(), output.schema.clone());
        required.push("output");
        description.push_str(" `output` is your result and is checked against its schema: fill it in completely.");
    }
    ToolSpec { name: "finish".into(), description, parameters: object(properties, &required) }
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_has_a_valid_strict_schema() {
        let all: Vec<String> = TOOLS.iter().rev().map(|name| (*name).to_owned()).collect();
        let specs = specs(&all, None);
        assert_eq!(specs.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>(), TOOLS);
        for spec in specs {
            assert!(jsonschema::meta::is_valid(&spec.parameters), "{}", spec.name);
            assert_eq!(spec.parameters["additionalProperties"], false, "{}", spec.name);
            assert!(spec.description.len() > 40, "{}", spec.name);
        }
    }

    #[test]
    fn finish_carries_the_output_schema() {
        let output = OutputSpec { name: "plan".into(), schema: json!({ "type": "object", "required": ["title"] }) };
        let specs = specs(&["finish".into(), "no_such_tool".into()], Some(&output));
        assert_eq!(specs.len(), 1);
        assert_eq!(specs[0].parameters["properties"]["output"], output.schema);
        assert_eq!(specs[0].parameters["required"], json!(["summary", "output"]));
    }
}
