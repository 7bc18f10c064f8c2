//! Sources → library.

use super::check::{self, Known};
use super::schema::document::Document;
use super::schema::library::{Library, Loaded};
use super::schema::{At, ConfigDoc, DocKind, PolicyDoc, codes};
use crate::model::diagnostic::{Diagnostic, Place, Severity};
use rust_embed::RustEmbed;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A text with where it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its path, as it is shown to people; the folder it lies in says what it is.
    pub path: String,
    /// The text.
    pub text: String,
    /// Whether it ships with the program.
    pub builtin: bool,
}

#[derive(RustEmbed)]
#[folder = "workflows/"]
struct Workflows;

#[derive(RustEmbed)]
#[folder = "templates/prompts/"]
#[allow_missing = true]
struct Prompts;

#[derive(RustEmbed)]
#[folder = "templates/prices/"]
struct Prices;

/// The documents that ship with the program: workflows, modes, policies, schemas, prompts and prices.
pub fn builtin() -> Vec<Source> {
    let source = |folder: &str, name: &str, data: &[u8]| Source {
        path: format!("{folder}/{name}"),
        text: String::from_utf8_lossy(data).into_owned(),
        builtin: true,
    };
    let workflows = Workflows::iter().filter_map(|name| Some(source("workflows", &name, &Workflows::get(&name)?.data)));
    let prompts = Prompts::iter()
        .filter(|name| name.ends_with(".j2"))
        .filter_map(|name| Some(source("prompts", &name, &Prompts::get(&name)?.data)));
    let prices = Prices::iter().filter_map(|name| Some(source("prices", &name, &Prices::get(&name)?.data)));
    workflows.chain(prompts).chain(prices).collect()
}

/// What a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Document(DocKind),
    Prompt,
    Schema,
    Unknown,
}

/// The kind and name of a source: by the folder it lies in, else by what stands in it.
fn classify(source: &Source) -> (Kind, String) {
    let path = source.path.replace('\\', "/");
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", &path));
    let folder = folder.rsplit('/').next().unwrap_or_default();
    let (stem, ending) = file.rsplit_once('.').unwrap_or((file, ""));
    let yaml = matches!(ending, "yml" | "yaml");
    let kind = match (folder, ending) {
        ("workflows", _) if yaml => Kind::Document(DocKind::Workflow),
        ("modes", _) if yaml => Kind::Document(DocKind::Mode),
        ("policies", _) if yaml => Kind::Document(DocKind::Policy),
        ("backends", _) if yaml => Kind::Document(DocKind::Backend),
        ("prompts", "j2") => return (Kind::Prompt, file.to_owned()),
        ("schemas", "json") => Kind::Schema,
        _ if yaml && stem == "serve" => Kind::Document(DocKind::Serve),
        _ if yaml && stem == "config" => Kind::Document(DocKind::Config),
        // The repository's stands beside the shipped one.
        _ if yaml && stem == "pricing" => {
            let name = if source.builtin { "shipped" } else { stem };
            return (Kind::Document(DocKind::Pricing), name.to_owned());
        }
        _ if yaml => sniff(&source.text).map_or(Kind::Unknown, Kind::Document),
        _ => Kind::Unknown,
    };
    (kind, stem.to_owned())
}

/// What a YAML text outside of the known folders is, from the keys at its top level.
fn sniff(text: &str) -> Option<DocKind> {
    let has = |keys: &[&str]| text.lines().any(|line| keys.iter().any(|key| line.starts_with(&format!("{key}:"))));
    if has(&["steps", "pipeline", "dag"]) {
        Some(DocKind::Workflow)
    } else if has(&["rules", "default"]) {
        Some(DocKind::Policy)
    } else if has(&["dialect"]) {
        Some(DocKind::Backend)
    } else if has(&["tools", "prompt_template"]) {
        Some(DocKind::Mode)
    } else if has(&["as_of"]) {
        Some(DocKind::Pricing)
    } else if has(&["repositories"]) {
        Some(DocKind::Serve)
    } else if has(&["models", "scenarios", "extends", "gates", "trusted_branches"]) {
        Some(DocKind::Config)
    } else {
        None
    }
}

/// A document on its way.
struct Entry<'a> {
    kind: DocKind,
    name: String,
    builtin: bool,
    document: Document,
    source: &'a Source,
}

/// Loads and checks all documents. `extended` reads a file that the configuration `extends`, by the path that stands
/// in it taken relative to the configuration's own path; `None`: there is no such file.
pub fn load(sources: &[Source], extended: &dyn Fn(&str) -> Option<String>) -> Library {
    let mut library = Library::default();
    let mut entries = Vec::new();
    let mut problems: Vec<Diagnostic> = Vec::new();
    let mut taken: BTreeMap<(String, String), (String, bool)> = BTreeMap::new();
    let (own, shipped): (Vec<&Source>, Vec<&Source>) = sources.iter().partition(|source| !source.builtin);
    library.files = own.len();

    // The repository's come first: what they define, a shipped one of the same name does not define again.
    for source in own.into_iter().chain(shipped) {
        let (kind, name) = classify(source);
        let label = match kind {
            Kind::Document(kind) => kind.name(),
            Kind::Prompt => "prompt",
            Kind::Schema => "schema",
            Kind::Unknown => {
                problems.push(bare(
                    codes::UNKNOWN_FILE,
                    Severity::Warning,
                    source,
                    "nothing reads this file",
                    UNKNOWN_HELP,
                ));
                continue;
            }
        };
        let slot = (label.to_owned(), name.clone());
        if let Some((first, first_builtin)) = taken.get(&slot) {
            let place = Source { path: first.clone(), ..source.clone() };
            match (first_builtin, source.builtin, kind) {
                // A policy under a built-in's name would be believed to be the built-in.
                (false, true, Kind::Document(DocKind::Policy)) => {
                    let message = format!("`{name}` is a built-in policy's name");
                    problems.push(bare(codes::RESERVED_POLICY, Severity::Error, &place, &message, RESERVED_HELP));
                    library.policies.remove(&name);
                    entries.retain(|entry: &Entry| entry.kind != DocKind::Policy || entry.name != name);
                }
                (false, true, _) => {
                    let message = format!("this {label} takes the place of the built-in `{name}`");
                    let help = "rename it to have both";
                    problems.push(bare(codes::SHADOWS_BUILT_IN, Severity::Note, &place, &message, help));
                    continue;
                }
                _ => {
                    let message = format!("the {label} `{name}` is defined in {first} already");
                    problems.push(bare(codes::DUPLICATE_NAME, Severity::Error, source, &message, "rename one of them"));
                    continue;
                }
            }
        }
        taken.insert(slot, (source.path.clone(), source.builtin));
        match kind {
            Kind::Document(kind) => {
                let file = if source.builtin { format!("built in: {}", source.path) } else { source.path.clone() };
                let (document, found) = Document::parse(&file, &source.text);
                problems.extend(found);
                entries.push(Entry { kind, name, builtin: source.builtin, document, source });
            }
            Kind::Prompt => {
                if let Some(problem) = check::prompt_file(source) {
                    problems.push(problem);
                }
                library.prompts.insert(name, source.text.clone());
            }
            Kind::Schema => match check::schema_file(source) {
                Ok(schema) => {
                    library.schemas.insert(name, schema);
                }
                Err(problem) => problems.push(*problem),
            },
            Kind::Unknown => {}
        }
    }

    let (config, config_document) = configuration(&entries, extended, &mut problems);
    let known = Known::gather(
        entries.iter().map(|entry| (entry.kind, entry.name.as_str(), &entry.document)),
        &config,
        library.prompts.keys(),
        library.schemas.keys(),
    );
    for entry in &entries {
        problems.extend(check::document(entry.kind, &entry.name, entry.builtin, &entry.document, &known));
    }
    problems.sort_by(|a, b| (&a.place, a.code, &a.message).cmp(&(&b.place, b.code, &b.message)));
    problems.dedup();
    let broken: BTreeSet<String> =
        problems.iter().filter(|d| d.severity == Severity::Error).map(|d| d.place.file.clone()).collect();

    for entry in entries {
        if broken.contains(&entry.document.file) {
            continue;
        }
        let Entry { kind, name, builtin, document, source } = entry;
        let value = check::normal(kind, &document.root);
        match kind {
            DocKind::Workflow => {
                typed(value, &document, &mut problems, |doc| {
                    library.workflows.insert(name.clone(), Loaded { name, builtin, document: document.clone(), doc });
                });
            }
            DocKind::Mode => {
                typed(value, &document, &mut problems, |doc| {
                    library.modes.insert(name.clone(), Loaded { name, builtin, document: document.clone(), doc });
                });
            }
            DocKind::Policy => {
                typed(value, &document, &mut problems, |doc: PolicyDoc| {
                    let file = if builtin { "built in".to_owned() } else { source.path.clone() };
                    library.policies.insert(name.clone(), doc.to_policy(&name, &file, &document, &[]));
                    library.policy_docs.insert(name.clone(), Loaded { name, builtin, document: document.clone(), doc });
                });
            }
            DocKind::Backend => {
                typed(value, &document, &mut problems, |doc| {
                    library.backends.insert(name.clone(), Loaded { name, builtin, document: document.clone(), doc });
                });
            }
            DocKind::Pricing => {
                typed(value, &document, &mut problems, |doc| {
                    library.pricing.add(Loaded { name, builtin, document: document.clone(), doc });
                });
            }
            // The operator's, read by [`check::serve`]; a repository's runs do not look at it.
            DocKind::Serve => {}
            DocKind::Config => {
                let value = config.clone();
                typed(value, &document, &mut problems, |doc: ConfigDoc| library.config = doc);
            }
        }
    }
    library.config_document = config_document;
    problems.extend(check::overruled(&library));
    problems.extend(check::misfits(&library));
    library.diagnostics = problems;
    library
}

const UNKNOWN_HELP: &str = "documents lie in workflows/, modes/, policies/ and backends/ (*.yml), prompts/ (*.j2), schemas/ (*.json), config.yml and pricing.yml";
const RESERVED_HELP: &str = "give it a name of its own, and name that in `policy:`";

/// A problem of a whole file.
fn bare(code: &'static str, severity: Severity, source: &Source, message: &str, help: &str) -> Diagnostic {
    Diagnostic {
        code,
        severity,
        message: message.to_owned(),
        place: Place { file: source.path.clone(), line: 1, column: 1, width: 1 },
        source_line: String::new(),
        label: None,
        help: Some(help.to_owned()),
    }
}

/// The typed value goes to `keep`. The walk has found everything that could be wrong; should it have missed something,
/// what serde says is a problem like any other.
fn typed<T: DeserializeOwned>(value: Value, document: &Document, problems: &mut Vec<Diagnostic>, keep: impl FnOnce(T)) {
    match serde_json::from_value(value) {
        Ok(doc) => keep(doc),
        Err(error) => problems.push(document.error(codes::WRONG_TYPE, At::default(), error.to_string())),
    }
}

/// The configuration with what it extends merged under it: later ones win, the file itself last.
fn configuration(
    entries: &[Entry<'_>],
    extended: &dyn Fn(&str) -> Option<String>,
    problems: &mut Vec<Diagnostic>,
) -> (Value, Option<Document>) {
    let Some(entry) = entries.iter().find(|entry| entry.kind == DocKind::Config) else {
        return (Value::Object(serde_json::Map::new()), None);
    };
    let mut passed = vec![clean(&entry.document.file)];
    let merged = merged(&entry.document, extended, &mut passed, problems);
    (merged, Some(entry.document.clone()))
}

fn merged(
    document: &Document,
    extended: &dyn Fn(&str) -> Option<String>,
    passed: &mut Vec<String>,
    problems: &mut Vec<Diagnostic>,
) -> Value {
    let mut base = Value::Object(serde_json::Map::new());
    for item in document.root.get("extends").map(|node| node.one_or_many()).unwrap_or_default() {
        let Some(path) = item.text() else { continue };
        if path.contains('>') || path.contains("://") {
            let mut problem =
                document.error(codes::NOT_YET, item.at, "this version extends files of the repository only");
            problem.help = Some("copy the preset into the repository and name its path".into());
            problems.push(problem);
            continue;
        }
        let folder = document.file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let full = clean(&format!("{folder}/{path}"));
        if passed.contains(&full) {
            let circle = passed.iter().chain([&full]).cloned().collect::<Vec<_>>().join(" → ");
            problems.push(document.error(codes::EXTENDS_CYCLE, item.at, format!("extends itself: {circle}")));
            continue;
        }
        let text = if full.starts_with("..") || path.starts_with('/') { None } else { extended(&full) };
        let Some(text) = text else {
            let mut problem = document.error(codes::EXTENDS_MISSING, item.at, format!("there is no file {full}"));
            problem.help =
                Some("a path is taken relative to the file that it stands in, and stays in the repository".into());
            problems.push(problem);
            continue;
        };
        let (preset, found) = Document::parse(&full, &text);
        problems.extend(found);
        problems.extend(check::preset(&preset));
        passed.push(full);
        let value = merged(&preset, extended, passed, problems);
        passed.pop();
        lay_over(&mut base, value);
    }
    let mut own = check::normal(DocKind::Config, &document.root);
    if let Some(own) = own.as_object_mut() {
        own.remove("extends");
    }
    lay_over(&mut base, own);
    base
}

/// Maps are merged key by key; anything else is replaced.
fn lay_over(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                match under.get_mut(&key) {
                    Some(slot) => lay_over(slot, value),
                    None => {
                        under.insert(key, value);
                    }
                }
            }
        }
        (under, over) => *under = over,
    }
}

/// A path without `.`, `..` and doubled slashes, as far as it stays below its start.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    let root = if path.starts_with('/') && !parts.is_empty() { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}
