//! Claude Code's action: steps of GitHub's workflows.

use super::{Carried, literal, scalar};
use crate::cli::init::config::quoted;
use crate::scout::Tree;
use crate::workflow::schema::document::{Document, Node, Yaml};
use std::collections::BTreeMap;
pub(super) fn claude(tree: &Tree<'_>) -> Result<Carried, String> {
    let mut carried = Carried::default();
    let mut found = false;
    let files = tree
        .paths
        .iter()
        .filter(|path| path.starts_with(".github/workflows/") && (path.ends_with(".yml") || path.ends_with(".yaml")));
    for path in files {
        let Some(text) = (tree.read)(path) else { continue };
        let (document, _) = Document::parse(path, &text);
        for (job_name, job) in document.root.get("jobs").map(Node::entries).unwrap_or_default() {
            for step in job.get("steps").map(Node::items).unwrap_or_default() {
                let uses = step.get("uses").and_then(Node::text).unwrap_or_default();
                if !uses.starts_with("anthropics/claude-code-action@")
                    && !uses.starts_with("anthropics/claude-code-base-action@")
                {
                    continue;
                }
                found = true;
                claude_step(path, &job_name.text, &document.root, job, step, &mut carried);
            }
        }
    }
    if !found {
        return Err("no workflow of .github/workflows uses anthropics/claude-code-action".to_owned());
    }
    Ok(carried)
}

fn claude_step(path: &str, job_name: &str, root: &Node, job: &Node, step: &Node, carried: &mut Carried) {
    let with = step.get("with").map(Node::entries).unwrap_or_default();
    let mut prompt = String::new();
    let mut turns = None;
    for (key, value) in with {
        let from = format!("{path}:{} {}", key.at.line, key.text);
        let text = scalar(value);
        match key.text.as_str() {
            "prompt" | "direct_prompt" | "override_prompt" | "custom_instructions" => {
                if !prompt.is_empty() {
                    prompt.push_str("\n\n");
                }
                prompt.push_str(&text);
            }
            "model" | "anthropic_model" => carried.model(&from, &text),
            "fallback_model" => carried.model(&from, &text),
            "trigger_phrase" => carried.phrase = carried.plain(&from, "trigger-phrase", &text),
            "base_branch" => carried.base_branch = carried.plain(&from, "base-branch", &text),
            "branch_prefix" => carried.branch_prefix = carried.plain(&from, "branch-prefix", &text),
            "max_turns" => turns = text.trim().parse::<u32>().ok().map(|turns| (turns, from)),
            "claude_args" => arguments(&from, &text, &mut turns, carried),
            "allowed_tools" | "disallowed_tools" => {
                carried
                    .leave(&from, "tools are a mode's, and what they may do is the policy's (codeforge policies test)");
            }
            "anthropic_api_key" | "claude_code_oauth_token" | "github_token" => {
                carried.took(&from, "a secret of the CI file");
            }
            "mcp_config" => carried.leave(&from, "servers of MCP are not started from a workflow"),
            "settings" => {
                carried.leave(&from, "another program's settings; hooks and permissions are the policy's here")
            }
            "use_bedrock" | "use_vertex" => carried.leave(&from, "reach it through LiteLLM: provider litellm"),
            "label_trigger" | "assignee_trigger" => {
                carried.leave(&from, "write `on: { issues: { types: [labeled], labels: […] } }` in the workflow");
            }
            _ => carried.leave(&from, "has no counterpart"),
        }
    }
    if prompt.trim().is_empty() {
        // Answers to comments: built-in commands do that.
        carried.took(format!("{path} job {job_name}"), "the built-in commands fix, implement, review");
        return;
    }
    let contents =
        |node: &Node| node.get("permissions").and_then(|it| it.get("contents")).and_then(Node::text).map(str::to_owned);
    let writes = contents(job).or_else(|| contents(root)).is_some_and(|right| right == "write");
    let name = name_of(path, job_name);
    let (prompt, lost) = translated(&prompt);
    for expression in lost {
        carried.leave(format!("{path} {expression}"), "an expression that no template here has");
    }
    let on = on(root.get("on"), path, carried);
    let mut text = format!(
        "# Carried over from {path} by `codeforge init --from claude-code-action`; yours to change.\nname: {name}\ndescription: {}\n\non:\n{on}\n",
        quoted(&format!("What job {job_name} of {path} asked for"))
    );
    if let Some(minutes) = job.get("timeout-minutes").map(scalar).and_then(|text| text.parse::<u32>().ok()) {
        text.push_str(&format!("timeout: {minutes}m\n"));
    }
    if !writes {
        text.push_str("policy: plan-readonly\n");
    }
    text.push_str(&format!("\nsteps:\n  work:\n    mode: {}\n", if writes { "coder" } else { "reviewer" }));
    if let Some((turns, from)) = turns {
        carried.took(from, format!("max_steps of the workflow `{name}`"));
        text.push_str(&format!("    max_steps: {turns}\n"));
    }
    text.push_str(&format!("    prompt: {}\n", quoted(&prompt)));
    if writes {
        text.push_str("    gates: [\"tests?\", \"lint?\"]\n    attempts: 3\n\ndeliver:\n  as: patch\n  title: \"{{ steps.work.text }}\"\n");
        carried.leave(
            format!("{path} commits and pushes"),
            "`deliver.as: patch` is the careful beginning; `pull_request` opens one",
        );
    } else {
        text.push_str("    output: { schema: review }\n\ndeliver: none\n");
    }
    carried.took(format!("{path} job {job_name}: prompt"), format!("workflow `{name}`"));
    carried.workflows.push((name, text));
}

/// `--model X --max-turns 5 …`.
fn arguments(from: &str, text: &str, turns: &mut Option<(u32, String)>, carried: &mut Carried) {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut place = 0;
    while let Some(word) = words.get(place) {
        let (option, inline) = word.split_once('=').map_or((*word, None), |(option, value)| (option, Some(value)));
        let next = inline.or_else(|| words.get(place + 1).copied()).map(|value| value.trim_matches(['"', '\'']));
        if option.starts_with("--") {
            match (option, next) {
                ("--model", Some(name)) => carried.model(from, name),
                ("--max-turns", Some(number)) => *turns = number.parse().ok().map(|number| (number, from.to_owned())),
                ("--allowedTools" | "--allowed-tools" | "--disallowedTools", _) => {
                    carried
                        .leave(format!("{from} {option}"), "tools are a mode's, and what they may do is the policy's");
                }
                _ => carried.leave(format!("{from} {option}"), "has no counterpart"),
            }
        }
        place += 1;
    }
}

/// What the other workflow waits for, as ours would.
fn on(node: Option<&Node>, path: &str, carried: &mut Carried) -> String {
    let mut lines = Vec::new();
    let entries: Vec<(String, Option<&Node>)> = match node {
        Some(node) => match &node.value {
            Yaml::Text(word) => vec![(word.clone(), None)],
            Yaml::List(words) => words.iter().filter_map(|word| Some((word.text()?.to_owned(), None))).collect(),
            _ => node.entries().iter().map(|(key, value)| (key.text.clone(), Some(value))).collect(),
        },
        None => Vec::new(),
    };
    for (event, settings) in entries {
        let words = |key: &str| -> Option<String> {
            let items = settings?.get(key)?.one_or_many();
            let words: Vec<String> = items.iter().filter_map(Node::text).map(quoted).collect();
            (!words.is_empty()).then(|| format!("{key}: [{}]", words.join(", ")))
        };
        match event.as_str() {
            "pull_request" | "issues" | "push" => {
                let keys: &[&str] = if event == "push" {
                    &["branches", "tags", "paths"]
                } else if event == "issues" {
                    &["types"]
                } else {
                    &["types", "branches", "paths"]
                };
                let all: Vec<String> = keys.iter().filter_map(|key| words(key)).collect();
                lines.push(format!("  {event}: {{ {} }}", all.join(", ")).replace("{  }", "{}"));
            }
            "schedule" => {
                let items = settings.map(Node::items).unwrap_or_default();
                let times: Vec<String> = items
                    .iter()
                    .filter_map(|item| Some(format!("{{ cron: {} }}", quoted(item.get("cron")?.text()?))))
                    .collect();
                lines.push(format!("  schedule: [{}]", times.join(", ")));
            }
            "merge_group" => lines.push("  merge_group: {}".to_owned()),
            "workflow_dispatch" => {}
            "issue_comment" | "pull_request_review_comment" | "pull_request_review" => {
                carried.took(format!("{path} on {event}"), "commands in comments (/codeforge …)");
            }
            "pull_request_target" => {
                carried.leave(
                    format!("{path} on {event}"),
                    "it hands secrets to forks' changes; `pull_request` and a maintainer's command take its place",
                );
            }
            other => carried.leave(format!("{path} on {other}"), "has no counterpart"),
        }
    }
    lines.push("  workflow_dispatch: {}".to_owned());
    lines.join("\n")
}

/// GitHub's expressions in a prompt as our templates have them; the rest is left out and named.
fn translated(prompt: &str) -> (String, Vec<String>) {
    let known: BTreeMap<&str, &str> = [
        ("github.repository", "{{ event.repository }}"),
        ("github.actor", "{{ event.actor }}"),
        ("github.ref", "{{ event.ref }}"),
        ("github.sha", "{{ event.sha }}"),
        ("github.event.pull_request.number", "{{ event.change.number }}"),
        ("github.event.pull_request.title", "{{ event.change.title }}"),
        ("github.event.pull_request.body", "{{ event.change.body }}"),
        ("github.event.issue.number", "{{ event.issue.number }}"),
        ("github.event.issue.title", "{{ event.issue.title }}"),
        ("github.event.issue.body", "{{ event.issue.body }}"),
        ("github.event.comment.body", "{{ event.comment.body }}"),
    ]
    .into();
    let (mut out, mut lost) = (String::new(), Vec::new());
    let mut rest = prompt;
    while let Some((before, after)) = rest.split_once("${{") {
        out.push_str(&literal(before));
        let Some((expression, after)) = after.split_once("}}") else {
            rest = "";
            break;
        };
        match known.get(expression.trim()) {
            Some(ours) => out.push_str(ours),
            None => lost.push(expression.trim().chars().take(100).collect()),
        }
        rest = after;
    }
    out.push_str(&literal(rest));
    (out, lost)
}

/// A workflow's name from its file and job.
fn name_of(path: &str, job: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or_default();
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let name: String = format!("{stem}-{job}")
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let name = name.trim_matches('-').to_owned();
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    if begins { name } else { format!("from-{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompts_expressions_become_ours_and_its_braces_stay_text() {
        let (text, lost) =
            translated("Review #${{ github.event.pull_request.number }} as ${{ secrets.X }}; write {{ x }} {% raw %}.");
        assert_eq!(text, "Review #{{ event.change.number }} as {% raw %}; write {{ x }} {% raw %}.{% endraw %}");
        assert_eq!(lost, ["secrets.X"]);
        assert!(literal("a {{ b }} {% endraw %}{{ 7 * 7 }}").matches("endraw").count() == 1);
    }
}
