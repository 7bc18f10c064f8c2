//! Settings of other tools that have a counterpart here; what has none is listed.

use super::config::{Provider, quoted, workflow_text};
use crate::scout::Tree;
use crate::text;
use crate::workflow::schema::document::{Document, Node, Yaml};
use std::collections::BTreeMap;

/// A tool whose settings are carried over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Tool {
    /// anthropics/claude-code-action, in GitHub workflows
    ClaudeCodeAction,
    /// `.pr_agent.toml`
    PrAgent,
    /// `renovate.json` and its other names
    Renovate,
}

/// What was carried over.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// Who serves the model, where the tool says.
    pub(super) provider: Option<Provider>,
    /// An entry of `models:`.
    pub(super) model: Option<String>,
    /// Further ones, for when the first does not answer.
    pub(super) fallbacks: Vec<String>,
    /// What commands begin with.
    pub(super) phrase: Option<String>,
    /// The trusted branch.
    pub(super) base_branch: Option<String>,
    /// What branches begin with.
    pub(super) branch_prefix: Option<String>,
    /// Workflows: name and text.
    pub(super) workflows: Vec<(String, String)>,
    /// Lines of the configuration.
    pub(super) config: Vec<String>,
    /// What was taken, and what it is now.
    pub(super) taken: Vec<String>,
    /// What has no counterpart, and why.
    pub(super) left: Vec<String>,
}

impl Carried {
    fn took(&mut self, from: impl AsRef<str>, to: impl AsRef<str>) {
        self.taken.push(format!("{} → {}", from.as_ref(), to.as_ref()));
    }

    fn leave(&mut self, from: impl AsRef<str>, why: impl AsRef<str>) {
        self.left.push(format!("{}: {}", from.as_ref(), why.as_ref()));
    }

    /// A word for the CI file, where it is one: in that file an expression or a quote would mean something.
    fn plain(&mut self, from: &str, to: &str, text: &str) -> Option<String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "@/-_.+~ ".contains(c);
        if text.trim().is_empty() || text.len() > 100 || !text.chars().all(plain) {
            self.leave(from, format!("`{to}` takes letters, digits and @/-_.+~ here"));
            return None;
        }
        self.took(from, format!("{to} of the CI file"));
        Some(text.trim().to_owned())
    }

    /// A model as the tool calls it.
    fn model(&mut self, from: &str, name: &str) {
        let Some((provider, entry)) = model(name) else {
            return self.leave(from, format!("the model `{name}`: name it in .codeforge/config.yml"));
        };
        if self.model.is_none() {
            self.took(from, format!("models.main ({name})"));
            self.provider = Some(provider);
            self.model = Some(entry);
        } else {
            self.took(from, format!("a model of scenarios.default ({name})"));
            self.fallbacks.push(entry);
        }
    }

    /// For people.
    pub(super) fn lines(&self) -> Vec<String> {
        let taken = self.taken.iter().map(|line| format!("carried over  {line}"));
        let left = self.left.iter().map(|line| format!("not carried   {line}"));
        taken.chain(left).map(|line| text::clean(&line).replace('\n', " ")).collect()
    }
}

/// `anthropic/claude-…`, `claude-…`, `gpt-…` → who serves it, and the entry of `models:`.
fn model(name: &str) -> Option<(Provider, String)> {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:@".contains(c));
    let (who, model) = name.split_once('/').unwrap_or(("", name));
    let provider = match who {
        "anthropic" => Provider::Anthropic,
        "openai" => Provider::Openai,
        "openrouter" => Provider::Openrouter,
        "" if name.starts_with("claude") => Provider::Anthropic,
        "" if name.starts_with("gpt-")
            || name.starts_with('o') && name[1..].starts_with(|c: char| c.is_ascii_digit()) =>
        {
            Provider::Openai
        }
        _ => return None,
    };
    let kind = Provider::NAMES.iter().find(|known| Provider::named(known) == Some(provider))?;
    let entry = format!("{{ provider: {kind}, model: {}, api_key: env://{} }}", quoted(model), provider.secret());
    plain.then_some((provider, entry))
}

/// Reads a tool's files.
///
/// # Errors
/// There are none, or they cannot be read: in words.
pub(super) fn read(tool: Tool, tree: &Tree<'_>) -> Result<Carried, String> {
    match tool {
        Tool::ClaudeCodeAction => claude(tree),
        Tool::PrAgent => pr_agent(tree),
        Tool::Renovate => renovate(tree),
    }
}

fn claude(tree: &Tree<'_>) -> Result<Carried, String> {
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

/// Text that a template takes for nothing else.
fn literal(text: &str) -> String {
    if ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark)) {
        // The end of a raw block is the one thing that it cannot hold.
        format!("{{% raw %}}{}{{% endraw %}}", text.replace("endraw", "end-raw"))
    } else {
        text.to_owned()
    }
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

fn scalar(node: &Node) -> String {
    match &node.value {
        Yaml::Text(text) => text.clone(),
        Yaml::Bool(value) => value.to_string(),
        Yaml::Int(value) => value.to_string(),
        Yaml::Float(value) => value.to_string(),
        _ => String::new(),
    }
}

fn pr_agent(tree: &Tree<'_>) -> Result<Carried, String> {
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
fn instructed(text: &str, instructions: &str) -> String {
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

fn renovate(tree: &Tree<'_>) -> Result<Carried, String> {
    const NAMES: [&str; 9] = [
        "renovate.json",
        "renovate.json5",
        ".github/renovate.json",
        ".github/renovate.json5",
        ".gitlab/renovate.json",
        ".gitlab/renovate.json5",
        ".renovaterc",
        ".renovaterc.json",
        ".renovaterc.json5",
    ];
    let file = NAMES.iter().copied().find(|name| tree.paths.iter().any(|path| path == name));
    let file = file.ok_or_else(|| format!("there is none of {}", NAMES.join(", ")))?;
    let text = (tree.read)(file).ok_or_else(|| format!("{file} cannot be read"))?;
    // JSON5 without its comments is YAML.
    let (document, problems) = Document::parse(file, &uncommented(&text));
    if let Some(problem) = problems.first() {
        return Err(format!("{file}:{}: {}", problem.place.line, problem.message));
    }
    let mut carried = Carried::default();
    let (mut times, mut zone) = (Vec::new(), None);
    let (mut words, mut labels) = (String::new(), Vec::new());
    let list =
        |node: &Node| -> Vec<String> { node.one_or_many().iter().filter_map(Node::text).map(str::to_owned).collect() };
    for (key, value) in document.root.entries() {
        let from = format!("{file}:{} {}", key.at.line, key.text);
        match key.text.as_str() {
            "$schema" | "extends" => {
                for preset in list(value) {
                    match preset.as_str() {
                        "schedule:daily" => times.push("H 3 * * *".to_owned()),
                        "schedule:weekly" => times.push("H 3 * * 1".to_owned()),
                        "schedule:monthly" => times.push("H 3 1 * *".to_owned()),
                        "config:recommended" | "config:base" | "config:js-app" | "config:js-lib" => {}
                        _ if key.text == "$schema" => {}
                        other => carried.leave(format!("{from} {other}"), "presets of Renovate are not read"),
                    }
                }
            }
            "schedule" => {
                for entry in list(value) {
                    match cron(&entry) {
                        Some(cron) => {
                            carried.took(
                                format!("{from} {entry}"),
                                format!("on.schedule `{cron}` of workflow `dependency-update`"),
                            );
                            times.push(cron);
                        }
                        None => carried.leave(format!("{from} {entry}"), "write it as a cron line in on.schedule"),
                    }
                }
            }
            "timezone" => {
                zone = value.text().map(str::to_owned);
                carried.took(&from, "on.schedule.timezone");
            }
            "labels" | "addLabels" => {
                labels.extend(list(value));
                carried.took(&from, "deliver.labels of workflow `dependency-update`");
            }
            "ignoreDeps" => {
                words.push_str(&format!("Leave these dependencies alone: {}.\n", list(value).join(", ")));
                carried.took(&from, "the prompt of workflow `dependency-update`");
            }
            "ignorePaths" => {
                words.push_str(&format!("Leave these paths alone: {}.\n", list(value).join(", ")));
                carried.took(&from, "the prompt of workflow `dependency-update`");
            }
            "prConcurrentLimit" => {
                if let Yaml::Int(most) = value.value {
                    carried.config.push(format!("delivery:\n  open_changes_limit: {most}"));
                    carried.took(&from, "delivery.open_changes_limit");
                }
            }
            "baseBranches" | "baseBranchPatterns" => match list(value).as_slice() {
                [one] => carried.base_branch = carried.plain(&from, "base-branch", one),
                _ => carried.leave(&from, "one trusted branch is what a run works on"),
            },
            "automerge" | "platformAutomerge" => carried.leave(&from, "nothing is ever merged by us"),
            "packageRules" => packages(file, value, &mut words, &mut carried),
            _ => carried.leave(&from, "has no counterpart"),
        }
    }
    match workflow_text("dependency-update") {
        Some(text) => {
            let text = update(&text, &times, zone.as_deref(), &labels, &words);
            carried.workflows.push(("dependency-update".to_owned(), text));
        }
        None => carried.leave(file, "this version has no workflow `dependency-update`"),
    }
    Ok(carried)
}

/// Rules that switch packages off, or hold them below a version.
fn packages(file: &str, rules: &Node, words: &mut String, carried: &mut Carried) {
    for rule in rules.items() {
        let from = format!("{file}:{} packageRules", rule.at.line);
        let names = ["matchPackageNames", "matchPackagePatterns", "matchDepNames", "packageNames"];
        let names: Vec<String> = names
            .iter()
            .filter_map(|key| rule.get(key))
            .flat_map(|node| node.one_or_many().iter().filter_map(Node::text).map(str::to_owned).collect::<Vec<_>>())
            .collect();
        let off = rule.get("enabled").is_some_and(|node| node.value == Yaml::Bool(false));
        let below = rule.get("allowedVersions").and_then(Node::text);
        if names.is_empty() || !(off || below.is_some()) {
            carried.leave(from, "say it in the prompt of workflow `dependency-update`");
            continue;
        }
        match below {
            Some(below) => words.push_str(&format!("Hold {} at {below}.\n", names.join(", "))),
            None => words.push_str(&format!("Leave {} alone.\n", names.join(", "))),
        }
        carried.took(from, "the prompt of workflow `dependency-update`");
    }
}

/// The shipped workflow with another time table, labels, and words in its prompt.
fn update(text: &str, times: &[String], zone: Option<&str>, labels: &[String], words: &str) -> String {
    let zone = zone.map(|zone| format!(", timezone: {}", quoted(zone))).unwrap_or_default();
    let entries: Vec<String> = times.iter().map(|cron| format!("{{ cron: {}{zone} }}", quoted(cron))).collect();
    let mut out = String::new();
    for line in text.lines() {
        if line.starts_with("  schedule:") && !entries.is_empty() {
            out.push_str(&format!("  schedule: [{}]\n", entries.join(", ")));
        } else if line.starts_with("  labels:") && !labels.is_empty() {
            continue;
        } else {
            out.push_str(line);
            out.push('\n');
        }
        if line.starts_with("deliver:") && line.trim_end() == "deliver:" && !labels.is_empty() {
            let all: Vec<String> = labels.iter().map(|label| quoted(label)).collect();
            out.push_str(&format!("  labels: [{}]\n", all.join(", ")));
        }
    }
    if words.is_empty() { out } else { instructed(&out, words) }
}

/// Renovate's words for times, as far as they are times: `before 5am on monday`, `every weekend`, cron lines.
fn cron(text: &str) -> Option<String> {
    let text = text.trim().to_lowercase();
    let fields: Vec<&str> = text.split_whitespace().collect();
    if let [minute, hour, day, month, weekday] = fields.as_slice()
        && [minute, hour, day, month, weekday]
            .iter()
            .all(|field| field.chars().all(|c| c.is_ascii_digit() || "*,-/".contains(c)))
    {
        // Renovate's minute is always `*`: a whole hour.
        let minute = if *minute == "*" { "H" } else { minute };
        let hour = if *hour == "*" { "H" } else { hour.split(['-', ',']).next().unwrap_or("H") };
        return Some(format!("{minute} {hour} {day} {month} {weekday}"));
    }
    let day = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"]
        .iter()
        .position(|day| text.contains(day))
        .map(|day| day.to_string());
    let before = text.split("before ").nth(1).and_then(|rest| rest.split_whitespace().next());
    let hour =
        before.and_then(|word| word.strip_suffix("am")?.parse::<u32>().ok()).filter(|hour| (1..=12).contains(hour));
    let hour = hour.map_or(3, |hour| hour.saturating_sub(1) % 12);
    let weekday = match (text.as_str(), day) {
        (_, Some(day)) => day,
        (text, None) if text.contains("weekend") => "6".to_owned(),
        (text, None) if text.contains("weekday") => "1-5".to_owned(),
        (text, None) if text.contains("first day of the month") || text.contains("monthly") => {
            return Some(format!("H {hour} 1 * *"));
        }
        (text, None) if text.starts_with("before ") || text.contains("every day") || text == "daily" => "*".to_owned(),
        _ => return None,
    };
    Some(format!("H {hour} * * {weekday}"))
}

/// JSON5 without comments; lines stay where they are.
fn uncommented(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    let mut quote = None;
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(_), '\\') => {
                out.push(c);
                out.extend(chars.next());
            }
            (Some(open), _) => {
                if c == open {
                    quote = None;
                }
                out.push(c);
            }
            (None, '"' | '\'') => {
                quote = Some(c);
                out.push(c);
            }
            (None, '/') if chars.peek() == Some(&'/') => {
                while chars.peek().is_some_and(|c| *c != '\n') {
                    chars.next();
                }
            }
            (None, '/') if chars.peek() == Some(&'*') => {
                let mut last = ' ';
                chars.next();
                for c in chars.by_ref() {
                    if c == '\n' {
                        out.push('\n');
                    }
                    if last == '*' && c == '/' {
                        break;
                    }
                    last = c;
                }
            }
            // YAML has no tabs to indent with.
            (None, '\t') => out.push_str("  "),
            (None, c) => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renovates_words_are_times() {
        for (text, wanted) in [
            ("before 5am on monday", Some("H 4 * * 1")),
            ("every weekend", Some("H 3 * * 6")),
            ("* 0-4 * * 1", Some("H 0 * * 1")),
            ("before 4am", Some("H 3 * * *")),
            ("before 12am on the first day of the month", Some("H 11 1 * *")),
            ("after 10pm", None),
            ("at any time", None),
        ] {
            assert_eq!(cron(text).as_deref(), wanted, "{text}");
        }
    }

    #[test]
    fn a_prompts_expressions_become_ours_and_its_braces_stay_text() {
        let (text, lost) =
            translated("Review #${{ github.event.pull_request.number }} as ${{ secrets.X }}; write {{ x }} {% raw %}.");
        assert_eq!(text, "Review #{{ event.change.number }} as {% raw %}; write {{ x }} {% raw %}.{% endraw %}");
        assert_eq!(lost, ["secrets.X"]);
        assert!(literal("a {{ b }} {% endraw %}{{ 7 * 7 }}").matches("endraw").count() == 1);
    }
}
