//! What a workflow's parts must be to each other.

use super::super::schema::codes;
use super::super::schema::dag::Dag;
use super::super::schema::document::{At, Node, Yaml};
use super::super::schema::library::step_nodes;
use super::checker::{Checker, is_name};
use super::{FILE_WRITERS, expressions};
use crate::model::tool::TOOLS;
use std::collections::BTreeSet;

/// The kinds of steps; exactly one of these keys stands in a step.
const KINDS: [&str; 6] = ["mode", "run", "team", "workflow", "approve", "decompose"];
/// Keys that only an agent's step has a use for.
const AGENT_KEYS: [&str; 10] =
    ["prompt", "scenario", "model", "backend", "tools", "history", "output", "max_steps", "max_turns", "quality"];
/// Variables by which a program can be made to load or run something else.
const POISON: [&str; 28] = [
    "PATH",
    "HOME",
    "SHELL",
    "IFS",
    "ENV",
    "BASH_ENV",
    "SHELLOPTS",
    "BASHOPTS",
    "PS4",
    "PROMPT_COMMAND",
    "CDPATH",
    "NODE_OPTIONS",
    "NODE_PATH",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PYTHONHOME",
    "PERL5LIB",
    "PERL5OPT",
    "RUBYLIB",
    "RUBYOPT",
    "JAVA_TOOL_OPTIONS",
    "_JAVA_OPTIONS",
    "RUSTC_WRAPPER",
    "RUSTC",
    "GCONV_PATH",
    "EDITOR",
    "PAGER",
    "TMPDIR",
];
/// Beginnings of such variables.
const POISON_PREFIX: [&str; 6] = ["LD_", "DYLD_", "GIT_", "BASH_FUNC_", "CODEFORGE_", "INPUT_"];

/// Checks a workflow's tree.
pub(super) fn check(checker: &mut Checker<'_>, root: &Node) {
    let steps = step_nodes(root);
    super::comments::command(checker, root);
    inputs(checker, root);
    env(checker, root.get("env"));
    if let Some(sandbox) = root.get("sandbox") {
        sandboxed(checker, sandbox);
    }
    gates(checker, root.get("gates"));
    templates_of(checker, root, &steps);
    deliver(checker, root);

    if steps.is_empty()
        && let Some(key) = ["steps", "pipeline", "dag"].iter().find_map(|key| root.key(key))
        && ["steps", "pipeline", "dag"].iter().filter_map(|key| root.get(key)).all(|node| !node.is_null())
    {
        checker.error(codes::MISSING_KEY, key.at, "a workflow has at least one step");
    }
    if ["steps", "pipeline", "dag"].iter().all(|key| root.key(key).is_none()) {
        let at = root.entries().first().map_or(root.at, |(key, _)| key.at);
        checker.error(codes::MISSING_KEY, at, "the key `steps` is missing: a workflow has at least one step").help =
            Some("steps:\n  check: { run: \"make test\" }".into());
    }
    let mut names = BTreeSet::new();
    for (name, at, node) in &steps {
        if !is_name(name) {
            checker.error(codes::BAD_NAME, *at, format!("`{name}` cannot be a step's name")).help =
                Some("names are made of a-z, 0-9, `-` and `_`".into());
        }
        if !names.insert(name.clone()) {
            checker.error(codes::DUPLICATE_NAME, *at, format!("there is a step `{name}` already"));
        }
        if matches!(node.value, Yaml::Map(_)) {
            step(checker, root, name, *at, node);
        }
    }
    graph(checker, root, &steps);
}

fn inputs(checker: &mut Checker<'_>, root: &Node) {
    for (key, input) in root.get("inputs").map(Node::entries).unwrap_or_default() {
        let fits = key.text.starts_with(|c: char| c.is_ascii_lowercase())
            && key.text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !fits {
            checker.error(codes::BAD_NAME, key.at, format!("`{}` cannot be an input's name", key.text)).help =
                Some("names of inputs are made of a-z, 0-9 and `_`, and begin with a letter".into());
        }
        let kind = input.get("type").and_then(Node::text).unwrap_or("string");
        let options: Vec<&str> =
            input.get("options").map(|o| o.items().iter().filter_map(Node::text).collect()).unwrap_or_default();
        if kind == "choice" && options.is_empty() {
            checker.error(codes::BAD_DEFAULT, key.at, format!("the choice `{}` has no `options`", key.text));
        }
        let Some(default) = input.get("default") else { continue };
        let fits = match (kind, &default.value) {
            ("string", Yaml::Text(_)) | ("number", Yaml::Int(_) | Yaml::Float(_)) | ("boolean", Yaml::Bool(_)) => true,
            ("choice", Yaml::Text(text)) => options.contains(&text.as_str()) || options.is_empty(),
            (_, Yaml::Null | Yaml::List(_) | Yaml::Map(_)) => true,
            _ => false,
        };
        if !fits {
            let message = match kind {
                "choice" => format!("the default is none of {}", options.join(", ")),
                _ => format!("the default of a {kind} cannot be {}", default.kind()),
            };
            checker.error(codes::BAD_DEFAULT, default.at, message);
        }
    }
}

/// Variables that would change which programs run, or how.
pub(super) fn env(checker: &mut Checker<'_>, node: Option<&Node>) {
    for (key, value) in node.map(Node::entries).unwrap_or_default() {
        let upper = key.text.to_ascii_uppercase();
        let first = key.text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !first || !key.text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            checker.error(codes::BAD_NAME, key.at, format!("`{}` cannot be a variable's name", key.text));
        } else if POISON.contains(&upper.as_str()) || POISON_PREFIX.iter().any(|prefix| upper.starts_with(prefix)) {
            checker.error(codes::POISONED_ENV, key.at, format!("`{}` cannot be set here", key.text)).help =
                Some("it changes which programs run, or how; set it inside the command, or in the image".into());
        }
        if value.text().is_some_and(|text| text.contains("{{")) {
            checker.error(codes::TEMPLATED_COMMAND, value.at, "variables are not templated").help =
                Some("inputs reach commands as INPUT_NAME, the event as EVENT_…".into());
        }
    }
}

/// What a sandbox may not be given.
pub(super) fn sandboxed(checker: &mut Checker<'_>, sandbox: &Node) {
    for mount in sandbox.get("mounts").map(Node::items).unwrap_or_default() {
        let Some(text) = mount.text() else { continue };
        let host = text.split(':').next().unwrap_or_default();
        let mut clean: Vec<&str> = Vec::new();
        for part in host.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    clean.pop();
                }
                part => clean.push(part),
            }
        }
        let clean = format!("/{}", clean.join("/"));
        let sockets =
            ["/var/run/docker.sock", "/run/docker.sock", "/run/podman/podman.sock", "/run/containerd/containerd.sock"];
        let parent = |socket: &str| clean == "/" || socket == clean || socket.starts_with(&format!("{clean}/"));
        if host.starts_with('/') && (sockets.iter().any(|s| parent(s)) || clean.ends_with(".sock")) {
            checker.error(codes::DOCKER_SOCKET, mount.at, format!("`{host}` is, or holds, a daemon's socket")).help =
                Some("whoever reaches it is root on the host; nothing in a sandbox gets it".into());
        } else {
            checker.error(codes::NOT_YET, mount.at, "this version mounts nothing but the workspace").help =
                Some("put what is needed into the image".into());
        }
    }
}

/// Gates of a workflow or a configuration.
pub(super) fn gates(checker: &mut Checker<'_>, node: Option<&Node>) {
    for (key, gate) in node.map(Node::entries).unwrap_or_default() {
        if !is_name(&key.text) {
            checker.error(codes::BAD_NAME, key.at, format!("`{}` cannot be a gate's name", key.text)).help =
                Some("names are made of a-z, 0-9, `-` and `_`".into());
        }
        if gate.get("from").and_then(Node::text) == Some("base") && gate.get("paths").is_none() {
            let at = gate.get("from").map_or(key.at, |from| from.at);
            checker.error(codes::FROM_BASE_WITHOUT_PATHS, at, "`from: base` has to say which files it takes").help =
                Some("add `paths: [\"tests/**\"]`".into());
        }
    }
}

/// Keys of a delivery that only some forms have a use for.
fn deliver(checker: &mut Checker<'_>, root: &Node) {
    /// What is a change's, and no issue's.
    const OF_CHANGES: [&str; 5] = ["branch", "draft", "reviewers", "milestone", "if_no_changes"];
    let Some(deliver) = root.get("deliver") else { return };
    let of_issue = deliver.get("as").and_then(Node::text) == Some("issue");
    for (key, _) in deliver.entries() {
        let name = key.text.as_str();
        if of_issue && OF_CHANGES.contains(&name) {
            checker.error(codes::EXCLUSIVE_KEYS, key.at, format!("an issue has no `{name}`")).help =
                Some("take it out: title, body, labels and assignees are an issue's, too".into());
        }
        if !of_issue && name == "close_when_clean" {
            checker.error(codes::EXCLUSIVE_KEYS, key.at, "only an issue is closed when nothing is left").help =
                Some("write `as: issue`, or take it out".into());
        }
    }
}

/// Templates outside of steps see every step.
fn templates_of(checker: &mut Checker<'_>, root: &Node, steps: &[(String, At, &Node)]) {
    let all: BTreeSet<String> = steps.iter().map(|(name, ..)| name.clone()).collect();
    let deliver = root.get("deliver");
    let mut texts: Vec<&Node> = ["branch", "title", "body"].iter().filter_map(|key| deliver?.get(key)).collect();
    texts.extend(root.get("concurrency").and_then(|c| c.get("group")));
    for node in texts {
        uses(checker, root, node, true, &all, &|name| all.contains(name));
    }
}

/// Whether the steps and inputs that a text uses are there, and come before.
fn uses(
    checker: &mut Checker<'_>,
    root: &Node,
    node: &Node,
    is_template: bool,
    all: &BTreeSet<String>,
    visible: &dyn Fn(&str) -> bool,
) {
    let Some(text) = node.text() else { return };
    let place = |checker: &Checker<'_>, name: &str| {
        let (line, column) = expressions::position(text, name);
        checker.document.inside(node, line, column, name.chars().count())
    };
    if text.contains("steps") {
        for name in expressions::members(text, "steps", is_template) {
            let at = place(checker, &name);
            if !all.contains(&name) {
                let names: Vec<&str> = all.iter().map(String::as_str).collect();
                checker.unknown(codes::UNKNOWN_STEP, "step", &name, at, &names, "");
            } else if !visible(&name) {
                checker.error(codes::NOT_AN_ANCESTOR, at, format!("`{name}` does not come before this step")).help =
                    Some(format!("only steps before it can be seen: add `{name}` to `needs:`"));
            }
        }
    }
    if text.contains("inputs") {
        let inputs = root.get("inputs").map(Node::entries).unwrap_or_default();
        for name in expressions::members(text, "inputs", is_template) {
            if !inputs.iter().any(|(key, _)| key.text == name) {
                let at = place(checker, &name);
                let names: Vec<&str> = inputs.iter().map(|(key, _)| key.text.as_str()).collect();
                checker.unknown(codes::UNKNOWN_VARIABLE, "input", &name, at, &names, "");
            }
        }
    }
}

fn step(checker: &mut Checker<'_>, root: &Node, name: &str, at: At, node: &Node) {
    let other = super::backend::step(checker, name, at, node);
    let kinds: Vec<&str> = KINDS.iter().copied().filter(|kind| node.key(kind).is_some()).collect();
    match kinds.as_slice() {
        [] if other => {}
        [] => {
            let problem = checker.error(codes::MISSING_KEY, at, format!("step `{name}` does not say what it does"));
            problem.help = Some("add `mode:` (an agent) or `run:` (a command)".into());
        }
        [one] => {
            if !["mode", "run"].contains(one) {
                let at = node.key(one).map_or(at, |key| key.at);
                checker.error(codes::NOT_YET, at, format!("`{one}:` steps are not carried out by this version")).help =
                    Some("steps of this version: `mode:` (an agent) and `run:` (a command)".into());
            }
        }
        [first, second, ..] => {
            let at = node.key(second).map_or(at, |key| key.at);
            checker.error(codes::EXCLUSIVE_KEYS, at, format!("a step is either `{first}:` or `{second}:`")).help =
                Some("make two steps of it".into());
        }
    }
    if kinds.as_slice() == ["run"] && !other {
        for key in AGENT_KEYS.iter().filter_map(|key| node.key(key)) {
            checker.error(codes::EXCLUSIVE_KEYS, key.at, format!("a command has no use for `{}`", key.text));
        }
    }
    if node.get("scenario").is_some()
        && let Some(model) = node.key("model")
    {
        checker.error(codes::EXCLUSIVE_KEYS, model.at, "a step names a `scenario` or a `model`, not both");
    }
    if let Some(key) = node.key("on_conflict") {
        checker.error(codes::NOT_YET, key.at, "this version hands no conflict to an agent; it names the files");
    }
    if node.key("id").is_some() && root.get("steps").is_some_and(|steps| matches!(steps.value, Yaml::Map(_))) {
        let at = node.key("id").map_or(at, |key| key.at);
        checker.error(codes::EXCLUSIVE_KEYS, at, "in a map the step's key is its name").help =
            Some("take `id` out".into());
    }
    env(checker, node.get("env"));
    mode_rules(checker, node);
    super::quality::of_step(checker, node);
    output(checker, node.get("output"));
    super::memory::history(checker, node.get("history"));
    attempts(checker, root, node);
}

/// What a step asks of its mode.
fn mode_rules(checker: &mut Checker<'_>, node: &Node) {
    let Some(mode) = node.get("mode").and_then(Node::text) else { return };
    let Some(facts) = checker.known.modes.get(mode).cloned() else { return };
    for tool in node.get("tools").map(Node::items).unwrap_or_default() {
        let Some(name) = tool.text() else { continue };
        if facts.read_only && FILE_WRITERS.contains(&name) {
            checker.error(codes::WRITES_READ_ONLY, tool.at, format!("`{name}` writes, and mode `{mode}` is read-only"));
        } else if TOOLS.contains(&name) && name != "finish" && !facts.tools.iter().any(|tool| tool == name) {
            checker.error(codes::UNKNOWN_TOOL, tool.at, format!("mode `{mode}` does not offer `{name}`")).help =
                Some(format!("it offers: {}", facts.tools.join(", ")));
        }
    }
    if facts.read_only
        && let Some(writes) = node.get("writes").filter(|writes| writes.value == Yaml::Bool(true))
    {
        checker.error(codes::WRITES_READ_ONLY, writes.at, format!("mode `{mode}` is read-only"));
    }
}

/// The output schema of a step or a mode.
pub(super) fn output(checker: &mut Checker<'_>, node: Option<&Node>) {
    let Some(schema) = node.and_then(|node| node.get("schema")) else { return };
    match &schema.value {
        Yaml::Text(name) if !checker.known.schemas.contains(name) => {
            let names: Vec<&str> = checker.known.schemas.iter().map(String::as_str).collect();
            let list = "your own: .codeforge/schemas/NAME.json";
            checker.unknown(codes::UNKNOWN_SCHEMA, "schema", name, schema.at, &names, list);
        }
        Yaml::Map(_) => {
            let json = schema.to_json();
            if let Err(error) = jsonschema::meta::validate(&json) {
                checker.error(codes::BAD_SCHEMA, schema.at, format!("not a JSON Schema: {error}"));
            }
        }
        _ => {}
    }
}

/// A gate that asks for another attempt needs one.
fn attempts(checker: &mut Checker<'_>, root: &Node, node: &Node) {
    let more = matches!(node.get("attempts").map(|n| &n.value), Some(Yaml::Int(n)) if *n > 1);
    if more {
        return;
    }
    for gate in node.get("gates").map(Node::one_or_many).unwrap_or_default() {
        let Some(name) = gate.text() else { continue };
        let defined = root.get("gates").and_then(|gates| gates.get(name));
        if defined.and_then(|gate| gate.get("on_fail")).and_then(Node::text) == Some("retry") {
            checker
                .warn(
                    codes::RETRY_WITHOUT_ATTEMPTS,
                    gate.at,
                    format!("gate `{name}` retries, the step has one attempt"),
                )
                .help = Some("add `attempts: 3` to the step".into());
        }
    }
}

/// Needs, jumps and what each step can see.
fn graph(checker: &mut Checker<'_>, root: &Node, steps: &[(String, At, &Node)]) {
    let all: BTreeSet<String> = steps.iter().map(|(name, ..)| name.clone()).collect();
    let names: Vec<&str> = steps.iter().map(|(name, ..)| name.as_str()).collect();
    let needs_of = |node: &Node| -> Vec<Node> {
        let needs = node.get("needs").or_else(|| node.get("depends_on"));
        needs.map(Node::one_or_many).unwrap_or_default().to_vec()
    };
    let is_list = ["steps", "pipeline", "dag"].iter().filter_map(|key| root.get(key)).any(|n| !n.items().is_empty());
    let mut edges: Vec<(&str, Vec<String>)> = Vec::new();
    for (index, (name, _, node)) in steps.iter().enumerate() {
        let mut needs = Vec::new();
        for need in needs_of(node) {
            let Some(text) = need.text() else { continue };
            if !all.contains(text) {
                checker.unknown(codes::UNKNOWN_STEP, "step", text, need.at, &names, "");
            } else if text == name {
                checker.error(codes::NEEDS_CYCLE, need.at, format!("step `{name}` waits for itself"));
            } else {
                needs.push(text.to_owned());
            }
        }
        if is_list
            && needs.is_empty()
            && let Some((before, ..)) = index.checked_sub(1).and_then(|index| steps.get(index))
        {
            needs.push(before.clone());
        }
        edges.push((name, needs));
    }
    let dag = Dag::new(edges.iter().map(|(name, needs)| (*name, needs.iter().map(String::as_str).collect())));
    if let Err(circle) = dag.order() {
        let first = circle.first().map(String::as_str).unwrap_or_default();
        let next = circle.get(1).map(String::as_str).unwrap_or_default();
        let place = steps.iter().find(|(name, ..)| name == first);
        let at = place.map_or_else(At::default, |(_, at, node)| {
            needs_of(node).iter().find(|need| need.text() == Some(next)).map_or(*at, |need| need.at)
        });
        checker.error(codes::NEEDS_CYCLE, at, format!("steps wait for each other: {}", circle.join(" → "))).help =
            Some(format!("break the circle, or bound it: `then: {{ goto: {next}, max_iterations: 2 }}`"));
    }
    let ancestry = dag.ancestry();
    for (index, (name, _, node)) in steps.iter().enumerate() {
        let before = |other: &str| dag.index(other).is_some_and(|other| ancestry.comes_before(other, index));
        for key in ["then", "on_failure"] {
            if let Some(jump) = node.get(key) {
                goto(checker, name, jump, &all, &before);
            }
        }
        if let Some(prompt) = node.get("prompt") {
            uses(checker, root, prompt, true, &all, &before);
        }
        if let Some(condition) = node.get("if") {
            uses(checker, root, condition, false, &all, &before);
        }
    }
}

fn goto(checker: &mut Checker<'_>, name: &str, jump: &Node, all: &BTreeSet<String>, before: &dyn Fn(&str) -> bool) {
    let Some(target) = jump.get("goto") else { return };
    let Some(text) = target.text() else { return };
    if !all.contains(text) {
        let names: Vec<&str> = all.iter().map(String::as_str).collect();
        checker.unknown(codes::UNKNOWN_STEP, "step", text, target.at, &names, "");
    } else if text != name && !before(text) {
        checker.error(codes::NOT_AN_ANCESTOR, target.at, format!("`{text}` does not come before `{name}`")).help =
            Some("a jump goes back: to the step itself or to one before it".into());
    }
    if jump.get("max_iterations").is_none() {
        checker.error(codes::UNBOUNDED_GOTO, target.at, "this jump has no bound").help =
            Some(format!("write `{{ goto: {text}, max_iterations: 2 }}`"));
    }
}
