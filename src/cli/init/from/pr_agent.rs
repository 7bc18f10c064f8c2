//! PR-Agent's settings.

use super::{Carried, literal};
use crate::cli::init::config::{quoted, workflow_text};
use crate::scout::Tree;
pub(super) fn pr_agent(tree: &Tree<'_>) -> Result<Carried, String> {
    const FILE: &str = ".pr_agent.toml";
    let text = tree.paths.iter().any(|path| path == FILE).then(|| (tree.read)(FILE)).flatten();
    let text = text.ok_or_else(|| format!("there is no {FILE}"))?;
    let root: toml::Table = text.parse().map_err(|error| format!("{FILE} is not TOML: {error}"))?;
    let mut carried = Carried::default();
    let mut instructions = String::new();
    let mut pushes = false;
    for (section, table) in &root {
        let Some(table) = table.as_table() else { continue };
        for (key, value) in table {
            let from = format!("{FILE} {section}.{key}");
            let word = value.as_str().map(str::to_owned);
            match (section.as_str(), key.as_str()) {
                ("config", "model") => carried.model(&from, &word.unwrap_or_default()),
                ("config", "fallback_models") => {
                    for name in value.as_array().into_iter().flatten().filter_map(toml::Value::as_str) {
                        carried.model(&from, name);
                    }
                }
                ("pr_reviewer", "extra_instructions") => {
                    instructions = word.unwrap_or_default();
                    carried.took(&from, "the prompt of workflow `review`");
                }
                ("pr_reviewer", "num_max_findings") => {
                    let most = value.as_integer().unwrap_or_default();
                    instructions.push_str(&format!("\nReport at most the {most} findings that matter most."));
                    carried.took(&from, "the prompt of workflow `review`");
                }
                ("ignore", "glob") => {
                    let globs: Vec<String> =
                        value.as_array().into_iter().flatten().filter_map(toml::Value::as_str).map(quoted).collect();
                    carried.took(&from, "data.never_send");
                    carried.config.push(format!("data:\n  never_send: [{}]", globs.join(", ")));
                }
                ("config", "ignore_pr_labels") => {
                    let labels: Vec<String> =
                        value.as_array().into_iter().flatten().filter_map(toml::Value::as_str).map(quoted).collect();
                    carried.took(&from, "delivery.ignore.labels");
                    carried.config.push(format!("delivery:\n  ignore: {{ labels: [{}] }}", labels.join(", ")));
                }
                ("github_app" | "gitlab", "handle_push_trigger") => pushes = value.as_bool().unwrap_or_default(),
                ("github_app" | "gitlab", "pr_commands" | "push_commands") => {
                    for command in value.as_array().into_iter().flatten().filter_map(toml::Value::as_str) {
                        if command.trim_start_matches('/').starts_with("review") {
                            carried.took(format!("{from} {command}"), "`on: pull_request` of workflow `review`");
                        } else {
                            carried.leave(format!("{from} {command}"), "no built-in workflow does that");
                        }
                    }
                }
                _ => carried.leave(&from, "has no counterpart"),
            }
        }
    }
    if let Some(text) = workflow_text("review") {
        let mut text = text.replace("from `codeforge init`", "with what .pr_agent.toml says");
        if !pushes && text.contains("[opened, synchronize,") {
            text = text.replace("[opened, synchronize,", "[opened,");
            carried.took(
                format!("{FILE}: no handle_push_trigger"),
                "review runs when a change is opened, not on each push",
            );
        }
        if !instructions.trim().is_empty() {
            text = instructed(&text, &instructions);
        }
        carried.workflows.push(("review".to_owned(), text));
    }
    Ok(carried)
}

/// A workflow's text whose first prompt ends with these instructions too.
pub(super) fn instructed(text: &str, instructions: &str) -> String {
    let mut out = String::new();
    let mut done = false;
    for line in text.lines() {
        let trimmed = line.trim_start();
        if !done && trimmed.starts_with("prompt: |") {
            out.push_str(line);
            out.push('\n');
            let indent = " ".repeat(line.len() - trimmed.len() + 2);
            for line in literal(instructions.trim()).lines() {
                out.push_str(&format!("{indent}{line}\n"));
            }
            out.push('\n');
            done = true;
        } else if !done && trimmed.starts_with("prompt: \"") {
            let indent = " ".repeat(line.len() - trimmed.len());
            let old = trimmed.trim_start_matches("prompt: \"").trim_end_matches('"');
            out.push_str(&format!("{indent}prompt: |\n"));
            for line in literal(instructions.trim()).lines().chain([old]) {
                out.push_str(&format!("{indent}  {line}\n"));
            }
            done = true;
        } else {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}
