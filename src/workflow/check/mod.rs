//! One walk over a document's tree that collects every problem it has.

pub mod backend;
mod checker;
mod comments;
mod expressions;
mod limits;
mod memory;
mod pricing;
mod providers;
mod quality;
mod serve;
mod shape;
mod workflow;

use super::load::Source;
use super::schema::document::{Document, Node, Yaml};
use super::schema::{DocKind, codes};
use crate::model::diagnostic::{Diagnostic, Place, Severity};
use checker::Checker;
pub use limits::overruled;
pub use pricing::stale_prices;
pub use providers::misfits;
use serde_json::Value;
pub use serve::serve;
use std::collections::BTreeMap;

/// Names that documents may refer to.
#[derive(Debug, Default)]
pub struct Known {
    /// Modes, with whether each is read-only and the tools it offers.
    pub modes: BTreeMap<String, ModeFacts>,
    /// Backends, with whether each asks for models and has a command. `native` is none of them.
    pub backends: BTreeMap<String, backend::BackendFacts>,
    /// Policies.
    pub policies: Vec<String>,
    /// Workflows.
    pub workflows: Vec<String>,
    /// Commands of workflows.
    pub commands: Vec<String>,
    /// Gates of the configuration.
    pub gates: Vec<String>,
    /// Models of the configuration.
    pub models: Vec<String>,
    /// Scenarios: the usual ones and the configuration's.
    pub scenarios: Vec<String>,
    /// Prompt files.
    pub prompts: Vec<String>,
    /// Output schemas.
    pub schemas: Vec<String>,
}

/// What a step must know of its mode.
#[derive(Debug, Default, Clone)]
pub struct ModeFacts {
    /// Whether it may not write.
    pub read_only: bool,
    /// The tools it offers.
    pub tools: Vec<String>,
}

/// Scenarios that need no definition.
const SCENARIOS: [&str; 6] = ["default", "background", "think", "longContext", "review", "plan"];

/// Tools that write files.
pub const FILE_WRITERS: [&str; 3] = ["write_file", "edit_file", "apply_patch"];

impl Known {
    /// Collects names from the trees, whether or not these are right in all else.
    pub fn gather<'a>(
        documents: impl Iterator<Item = (DocKind, &'a str, &'a Document)>,
        config: &Value,
        prompts: impl Iterator<Item = &'a String>,
        schemas: impl Iterator<Item = &'a String>,
    ) -> Self {
        let keys = |key: &str| -> Vec<String> {
            config.get(key).and_then(Value::as_object).map(|map| map.keys().cloned().collect()).unwrap_or_default()
        };
        let mut known = Self {
            gates: keys("gates"),
            models: keys("models"),
            scenarios: SCENARIOS.iter().map(|name| (*name).to_owned()).chain(keys("scenarios")).collect(),
            prompts: prompts.cloned().collect(),
            schemas: schemas.cloned().collect(),
            ..Self::default()
        };
        for (kind, name, document) in documents {
            match kind {
                DocKind::Workflow => {
                    known.workflows.push(name.to_owned());
                    let command = document.node(&["on", "command", "name"]).and_then(Node::text);
                    known.commands.extend(command.map(str::to_owned));
                }
                DocKind::Policy => known.policies.push(name.to_owned()),
                DocKind::Mode => {
                    known.modes.insert(name.to_owned(), ModeFacts::of(&document.root));
                }
                DocKind::Backend => {
                    known.backends.insert(name.to_owned(), backend::BackendFacts::of(&document.root));
                }
                DocKind::Config | DocKind::Pricing | DocKind::Serve => {}
            }
        }
        known.policies.sort();
        known.workflows.sort();
        known.commands.sort();
        known
    }
}

impl ModeFacts {
    fn of(mode: &Node) -> Self {
        let tools: Vec<String> = mode
            .get("tools")
            .map(|tools| tools.items().iter().filter_map(|tool| tool.text().map(str::to_owned)).collect())
            .unwrap_or_default();
        let said = mode.get("read_only").map(|node| &node.value);
        let read_only = match said {
            Some(Yaml::Bool(said)) => *said,
            _ => !tools.iter().any(|tool| FILE_WRITERS.contains(&tool.as_str())),
        };
        Self { read_only, tools }
    }
}

/// All problems of one document.
pub fn document(kind: DocKind, name: &str, builtin: bool, document: &Document, known: &Known) -> Vec<Diagnostic> {
    let root = &document.root;
    let own = |key: &str| root.get(key).map(Node::entries).unwrap_or_default().iter().map(|(key, _)| key.text.clone());
    let mut checker = Checker { document, known, builtin, own_gates: own("gates").collect(), found: Vec::new() };
    let nameless = matches!(kind, DocKind::Config | DocKind::Pricing | DocKind::Serve);
    if root.is_null() && !document.text.trim().is_empty() && kind != DocKind::Config {
        // It could not be parsed, which is said already, or it holds comments only.
        return checker.found;
    }
    if root.is_null() && kind == DocKind::Config {
        return checker.found;
    }
    shape::grammar(kind).walk(root, &mut checker);
    if !nameless && let Some(said) = root.get("name").filter(|said| said.text().is_some_and(|text| text != name)) {
        let message = format!("the file is called `{name}`, the {} `{}`", kind.name(), said.text().unwrap_or_default());
        checker.error(codes::NAME_MISMATCH, said.at, message).help =
            Some(format!("write `name: {name}`, or rename the file"));
    }
    match kind {
        DocKind::Workflow => workflow::check(&mut checker, root),
        DocKind::Mode => mode(&mut checker, name, root),
        DocKind::Policy => {}
        DocKind::Backend => backend::check(&mut checker, root),
        DocKind::Config => configuration(&mut checker, root),
        DocKind::Pricing => pricing::check(&mut checker, root),
        DocKind::Serve => serve::check(&mut checker, root),
    }
    checker.found
}

fn mode(checker: &mut Checker<'_>, name: &str, root: &Node) {
    if root.get("read_only").is_some_and(|node| node.value == Yaml::Bool(true)) {
        for tool in root.get("tools").map(Node::items).unwrap_or_default() {
            if let Some(text) = tool.text().filter(|text| FILE_WRITERS.contains(text)) {
                checker.error(codes::WRITES_READ_ONLY, tool.at, format!("`{text}` writes, and the mode is read-only"));
            }
        }
    }
    if root.get("prompt").is_none() {
        let said = root.get("prompt_template");
        let file = said.and_then(Node::text).map_or_else(|| format!("{name}.j2"), str::to_owned);
        if !checker.known.prompts.contains(&file) {
            let at = said.map_or_else(|| checker.document.at(&["name"]), |node| node.at);
            let names: Vec<&str> = checker.known.prompts.iter().map(String::as_str).collect();
            checker.unknown(codes::UNKNOWN_PROMPT, "prompt", &file, at, &names, "your own: .codeforge/prompts/NAME.j2");
        }
    }
    workflow::output(checker, root.get("output"));
    memory::history(checker, root.get("history"));
    memory::recommend(checker, root.get("tools_recommend"));
    quality::settings(checker, root.get("quality"));
}

fn configuration(checker: &mut Checker<'_>, root: &Node) {
    workflow::gates(checker, root.get("gates"));
    memory::experience(checker, root.get("experience"));
    comments::settings(checker, root.get("comments"));
    if let Some(budget) = root.get("budget") {
        limits::budgets(checker, budget);
    }
    if let Some(sandbox) = root.get("sandbox") {
        workflow::sandboxed(checker, sandbox);
    }
    if let Some(node) = root.get("delivery").and_then(|delivery| delivery.get("sign_off"))
        && node.value == Yaml::Bool(true)
        && root.get("forge").and_then(|forge| forge.get("bot")).and_then(|bot| bot.get("email")).is_none()
    {
        let message = "commits are to be signed off, and nobody says by which address";
        checker.error(codes::SIGNED_OFF_BY_NOBODY, node.at, message).help =
            Some("say who commits: `forge: { bot: { name: …, email: … } }`".into());
    }
    if let Some(state) = root.get("state") {
        let store = state.get("store").and_then(Node::text).unwrap_or("none");
        for (key, wanted) in [("path", "cache"), ("branch", "branch")] {
            if let Some(node) = state.get(key).filter(|_| store != wanted) {
                let message = format!("`{key}` belongs to `store: {wanted}`, and the store is `{store}`");
                checker.error(codes::EXCLUSIVE_KEYS, node.at, message).help = Some("take one of them away".into());
            }
        }
    }
}

/// All problems of a file that the configuration extends: its shape and its texts, but not the names that it refers
/// to, which the files that it is merged with may define.
pub fn preset(document: &Document) -> Vec<Diagnostic> {
    let known = Known::default();
    let mut checker = Checker { document, known: &known, builtin: true, own_gates: Vec::new(), found: Vec::new() };
    if !document.root.is_null() {
        shape::grammar(DocKind::Config).walk(&document.root, &mut checker);
        configuration(&mut checker, &document.root);
    }
    let references = [codes::UNKNOWN_MODEL, codes::UNKNOWN_POLICY, codes::UNKNOWN_SCENARIO, codes::UNKNOWN_COMMAND];
    checker.found.retain(|problem| !references.contains(&problem.code));
    checker.found
}

/// A tree as JSON, in the form that the typed values read: a trigger with nothing under it is one without conditions.
pub fn normal(kind: DocKind, root: &Node) -> Value {
    let mut value = root.to_json();
    if kind == DocKind::Workflow
        && let Some(on) = value.get_mut("on").and_then(Value::as_object_mut)
    {
        for trigger in on.values_mut().filter(|trigger| trigger.is_null()) {
            *trigger = Value::Object(serde_json::Map::new());
        }
    }
    if value.is_null() { Value::Object(serde_json::Map::new()) } else { value }
}

/// A prompt file's problem: minijinja's syntax.
pub fn prompt_file(source: &Source) -> Option<Diagnostic> {
    let environment = minijinja::Environment::new();
    let error = environment.template_from_str(&source.text).err()?;
    let line = error.line().unwrap_or(1);
    Some(Diagnostic {
        code: codes::TEMPLATE_SYNTAX,
        severity: Severity::Error,
        message: error.detail().map_or_else(|| error.to_string(), str::to_owned),
        place: Place { file: source.path.clone(), line, column: 1, width: 1 },
        source_line: source.text.lines().nth(line - 1).unwrap_or_default().to_owned(),
        label: None,
        help: None,
    })
}

/// An output schema's value.
///
/// # Errors
/// It is not JSON, or not a JSON Schema.
pub fn schema_file(source: &Source) -> Result<Value, Box<Diagnostic>> {
    let problem = |line: usize, column: usize, message: String| {
        Box::new(Diagnostic {
            code: codes::BAD_SCHEMA,
            severity: Severity::Error,
            message,
            place: Place { file: source.path.clone(), line, column, width: 1 },
            source_line: source.text.lines().nth(line - 1).unwrap_or_default().to_owned(),
            label: None,
            help: None,
        })
    };
    let value: Value = serde_json::from_str(&source.text)
        .map_err(|e| problem(e.line().max(1), e.column().max(1), format!("not JSON: {e}")))?;
    jsonschema::meta::validate(&value).map_err(|e| problem(1, 1, format!("not a JSON Schema: {e}")))?;
    Ok(value)
}
