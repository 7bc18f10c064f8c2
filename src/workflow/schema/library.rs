//! All documents of a project, loaded and checked.

use super::backend::BackendDoc;
use super::docs::{StepDoc, StepsDoc, WorkflowDoc};
use super::document::{At, Document};
use super::kinds::OneOrMany;
use super::settings::{ConfigDoc, LimitsDoc, ModeDoc, PolicyDoc};
use super::{PolicyChoice, ResourcesDoc};
use super::{stop, values};
use crate::model::diagnostic::Diagnostic;
use crate::model::policy::{Decision, Limits, Policy, Rule};
use indexmap::IndexMap;
use serde_json::Value;
use std::collections::BTreeMap;

/// A document with where it is from.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// Its name.
    pub name: String,
    /// Whether it ships with the program.
    pub builtin: bool,
    /// The text with its tree, for places of problems.
    pub document: Document,
    /// The typed value.
    pub doc: T,
}

/// Everything that a plan is compiled from. Documents with errors are not among them; their problems are.
#[derive(Debug, Clone, Default)]
pub struct Library {
    /// Workflows by name.
    pub workflows: BTreeMap<String, Loaded<WorkflowDoc>>,
    /// Modes by name.
    pub modes: BTreeMap<String, Loaded<ModeDoc>>,
    /// Backends by name.
    pub backends: BTreeMap<String, Loaded<BackendDoc>>,
    /// Policies by name, ready to judge.
    pub policies: BTreeMap<String, Policy>,
    /// Policies as written: what a [`Policy`] leaves out (`resources`).
    pub policy_docs: BTreeMap<String, Loaded<PolicyDoc>>,
    /// The configuration, with what it extends merged in.
    pub config: ConfigDoc,
    /// The configuration's own file, where there is one.
    pub config_document: Option<Document>,
    /// What models cost, where the configuration does not say.
    pub pricing: super::Pricing,
    /// Prompt templates by file name (`architect.j2`).
    pub prompts: BTreeMap<String, String>,
    /// Output schemas by name.
    pub schemas: BTreeMap<String, Value>,
    /// All problems, in the order of files and lines.
    pub diagnostics: Vec<Diagnostic>,
    /// How many files that are not built in were checked.
    pub files: usize,
}

/// The policy of a workflow that names none, where the configuration names none either.
const DEFAULT_POLICY: &str = "headless-safe-sandbox";

impl Library {
    /// Lets every scenario lead to this model, if the configuration has one of that name; whether it has.
    pub fn only_model(&mut self, name: &str) -> bool {
        let configured = self.config.models.contains_key(name);
        self.config.scenarios.clear();
        if configured {
            self.config.scenarios.insert("default".into(), OneOrMany::One(super::ModelName(name.to_owned())));
        }
        configured
    }

    /// The name of the policy that a workflow runs under: its own choice, else the configuration's, else the preset's.
    pub fn policy_name<'a>(&'a self, workflow: &'a Loaded<WorkflowDoc>) -> &'a str {
        match &workflow.doc.policy {
            Some(PolicyChoice::InPlace(doc)) => doc.name.as_ref().map_or(workflow.name.as_str(), |name| &name.0),
            Some(PolicyChoice::Named(name)) => &name.0,
            None => self.config.policy.as_ref().map_or(DEFAULT_POLICY, |name| &name.0),
        }
    }

    /// The policy that a workflow runs under, and the resources that it grants. `None`: there is none of that name.
    pub fn policy_of(&self, workflow: &Loaded<WorkflowDoc>) -> Option<(Policy, Option<ResourcesDoc>)> {
        let name = self.policy_name(workflow);
        if let Some(PolicyChoice::InPlace(doc)) = &workflow.doc.policy {
            let policy = doc.to_policy(name, &workflow.document.file, &workflow.document, &["policy"]);
            return Some((policy, doc.resources.clone()));
        }
        let resources = self.policy_docs.get(name).and_then(|loaded| loaded.doc.resources.clone());
        Some((self.policies.get(name)?.clone(), resources))
    }
}

impl WorkflowDoc {
    /// The steps by name, in the order of declaration; in a list each needs the one before.
    pub fn named_steps(&self) -> IndexMap<String, StepDoc> {
        match &self.steps {
            StepsDoc::Map(map) => map.clone(),
            StepsDoc::List(list) => {
                let mut steps: IndexMap<String, StepDoc> = IndexMap::new();
                let names = list_names(list.iter().map(|step| {
                    (step.id.as_ref().map(|id| id.0.as_str()), step.mode.as_ref().map(|mode| mode.0.as_str()))
                }));
                for (name, step) in names.into_iter().zip(list) {
                    let mut step = step.clone();
                    if step.needs.as_slice().is_empty()
                        && let Some(before) = steps.keys().next_back()
                    {
                        step.needs = OneOrMany::One(before.clone());
                    }
                    steps.insert(name, step);
                }
                steps
            }
        }
    }
}

/// Names of the steps of a list, from each one's `id` and `mode`: the id, else the mode, else `step-N`; a name that is
/// taken gets a number.
pub fn list_names<'a>(steps: impl Iterator<Item = (Option<&'a str>, Option<&'a str>)>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (number, (id, mode)) in steps.enumerate() {
        let wanted = id.or(mode).map_or_else(|| format!("step-{}", number + 1), str::to_owned);
        let free = |name: &String| !names.contains(name);
        let name = if id.is_some() || free(&wanted) {
            wanted
        } else {
            (2..).map(|n| format!("{wanted}-{n}")).find(free).unwrap_or(wanted)
        };
        names.push(name);
    }
    names
}

impl PolicyDoc {
    /// The policy as it judges. `document` and `path` say where it stands, for lines; a text that is not a length of
    /// time or a condition (each of them a problem already) counts as absent.
    pub fn to_policy(&self, name: &str, file: &str, document: &Document, path: &[&str]) -> Policy {
        let here = document.node(path);
        let rule_lines: Vec<usize> = here
            .and_then(|node| node.get("rules"))
            .map(|rules| rules.items().iter().map(|rule| rule.at.line).collect())
            .unwrap_or_default();
        let strings = |glob: &[super::kinds::Glob]| glob.iter().map(|g| g.0.clone()).collect::<Vec<_>>();
        let rules = self.rules.iter().enumerate().map(|(index, rule)| Rule {
            tools: rule.tool.as_slice().iter().map(|tool| tool.0.clone()).collect(),
            paths: strings(rule.path.as_slice()),
            commands: rule.command.as_slice().to_vec(),
            decision: rule.decision,
            reason: rule.reason.clone(),
            line: rule_lines.get(index).copied().unwrap_or(0),
        });
        let mut limits = self.limits.as_ref().map(LimitsDoc::to_limits).unwrap_or_default();
        if let Some(condition) = self.stop.as_ref().and_then(|text| stop::parse(&text.0).ok()) {
            limits = limits.stricter(&Limits { stop: Some(condition), ..Limits::default() });
        }
        let gates = self.gates.clone().unwrap_or_default();
        Policy {
            name: name.to_owned(),
            file: file.to_owned(),
            description: self.description.clone(),
            rules: rules.collect(),
            default: self.default.unwrap_or(Decision::Deny),
            default_line: here.and_then(|node| node.key("default")).map_or(0, |key| key.at.line),
            protected_paths: strings(&self.protected_paths),
            require_gates: gates.require.into_iter().map(|name| name.0).collect(),
            rollback_on_fail: gates.rollback_on_fail,
            limits,
            exec_mode: self.exec_mode,
        }
    }
}

impl LimitsDoc {
    /// As numbers.
    pub fn to_limits(&self) -> Limits {
        Limits {
            max_turns: self.max_steps,
            timeout_ms: self.timeout.as_ref().and_then(|span| values::duration_ms(&span.0).ok()),
            max_cost_usd: self.max_cost_usd,
            max_cost_per_step_usd: self.max_cost_per_step_usd,
            max_cost_per_call_usd: None,
            shared: Vec::new(),
            max_tokens: self.max_tokens,
            max_file_changes: self.max_file_changes,
            stall_threshold: self.stall.as_ref().map(|stall| stall.threshold),
            stop: self.stop.as_ref().and_then(|text| stop::parse(&text.0).ok()),
        }
    }
}

impl<T> Loaded<T> {
    /// A place in the document: the value at a path of keys.
    pub fn at(&self, path: &[&str]) -> At {
        self.document.at(path)
    }
}

/// The nearest of `known` to what was written, where it is near enough to be meant.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = written.to_lowercase();
    let limit = match written.chars().count() {
        0..=2 => 0,
        3..=5 => 1,
        6..=8 => 2,
        _ => 3,
    };
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, name)| (*distance, name.len()))
        .map(|(_, name)| name)
}

/// The steps of a workflow's tree by name, whatever way they were written: name, place of the name, the step's node.
pub fn step_nodes(root: &super::document::Node) -> Vec<(String, At, &super::document::Node)> {
    let Some(steps) = ["steps", "pipeline", "dag"].iter().find_map(|key| root.get(key)) else { return Vec::new() };
    let items = steps.items();
    if items.is_empty() {
        return steps.entries().iter().map(|(key, node)| (key.text.clone(), key.at, node)).collect();
    }
    let text = |node: &super::document::Node, key: &str| node.get(key).and_then(|v| v.text()).map(str::to_owned);
    let said: Vec<(Option<String>, Option<String>)> =
        items.iter().map(|item| (text(item, "id"), text(item, "mode"))).collect();
    let names = list_names(said.iter().map(|(id, mode)| (id.as_deref(), mode.as_deref())));
    names.into_iter().zip(items).map(|(name, node)| (name, node.get("id").map_or(node.at, |id| id.at), node)).collect()
}

impl Loaded<WorkflowDoc> {
    /// The place of a step's key, or of the step where it has no such key.
    pub fn step_at(&self, step: &str, key: &str) -> At {
        let steps = step_nodes(&self.document.root);
        let found = steps.into_iter().find(|(name, ..)| name == step);
        found.map_or_else(At::default, |(_, at, node)| node.get(key).map_or(at, |value| value.at))
    }
}
