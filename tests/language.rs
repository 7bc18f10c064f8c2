//! The language: every diagnostic code has a wrong document and what is said of it; shipped documents are right; the
//! committed schemas and the reference are what the program would write.
//!
//! A scenario is a folder `tests/scenarios/NN_code`: `in.yml` is the workflow `in`; other files lie as under
//! `.codeforge`. With `compile.args` the workflow is compiled too (`name=value` lines are its inputs); with `now.txt` it
//! is that time (milliseconds since 1970) when the age of prices is looked at. What is said stands in `expected.txt`;
//! `UPDATE=1 cargo test --test language` writes it anew, to be read before it is committed.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use codeforge::model::chat::ModelRef;
use codeforge::model::diagnostic::{Diagnostic, Severity};
use codeforge::report::diagnostics::render;
use codeforge::workflow::schema::{DocKind, codes, json_schema};
use codeforge::workflow::{self, Source};
use codeforge::{plan, report, trigger};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[expect(clippy::disallowed_methods, reason = "a switch for the person who changes what is said")]
fn compare(file: &Path, now: &str) {
    if std::env::var("UPDATE").is_ok() {
        std::fs::write(file, now).unwrap();
        return;
    }
    let before = std::fs::read_to_string(file).unwrap_or_default();
    assert!(before == now, "{} is not what would be written now:\n{now}", file.display());
}

/// What a scenario writes short because it is too long to be read.
fn expand(text: &str) -> String {
    if let Some((before, rest)) = text.split_once("# @REPEAT ") {
        let (count, after) = rest.split_once(" x\n").unwrap();
        return format!("{before}# {}\n{after}", "x".repeat(count.parse().unwrap()));
    }
    if let Some((before, rest)) = text.split_once("@NEST ") {
        let count: usize = rest.trim().parse().unwrap();
        return format!("{before}{}{}\n", "[".repeat(count), "]".repeat(count));
    }
    text.to_owned()
}

fn files(folder: &Path, prefix: &str, found: &mut Vec<(String, PathBuf)>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()).collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            files(&entry.path(), &format!("{name}/"), found);
        } else {
            found.push((name, entry.path()));
        }
    }
}

fn env_model() -> ModelRef {
    ModelRef {
        name: "env".into(),
        provider: "openai".into(),
        model: "m".into(),
        base_url: None,
        api_key: None,
        price: None,
        context_window: 100_000,
        max_output: 1000,
        tools: true,
        ..ModelRef::default()
    }
}

/// All that is said of a scenario, and the codes in it.
fn said(folder: &Path) -> (String, BTreeSet<&'static str>) {
    let mut all = Vec::new();
    files(folder, "", &mut all);
    let mut sources = workflow::builtin();
    let mut pipelines = Vec::new();
    for (name, path) in &all {
        let text = || expand(&std::fs::read_to_string(path).unwrap());
        let place = match name.as_str() {
            "in.yml" => ".codeforge/workflows/in.yml".to_owned(),
            "expected.txt" | "compile.args" | "env.txt" | "now.txt" | "memory.txt" => continue,
            name if name.starts_with("presets/") => continue,
            name if name.starts_with("github/") => {
                pipelines.push((format!(".github/workflows/{}", name.trim_start_matches("github/")), text()));
                continue;
            }
            name => format!(".codeforge/{name}"),
        };
        sources.push(Source { path: place, text: text(), builtin: false });
    }
    let begun = std::time::Instant::now();
    let library = workflow::load(&sources, &|path| {
        std::fs::read_to_string(folder.join(path.trim_start_matches(".codeforge/"))).ok()
    });
    assert!(begun.elapsed().as_secs() < 5, "{}: refused, but not at once", folder.display());
    let mut problems: Vec<Diagnostic> =
        library.diagnostics.iter().filter(|problem| !problem.place.file.starts_with("built in")).cloned().collect();
    if let Ok(now) = std::fs::read_to_string(folder.join("now.txt")) {
        problems.extend(workflow::stale_prices(&library, now.trim().parse().unwrap()));
    }
    problems.extend(trigger::firing::never_fires(&library, &pipelines, "acme/widgets"));
    if let Ok(arguments) = std::fs::read_to_string(folder.join("compile.args")) {
        let mut request = plan::Request { workflow: "in".into(), ..plan::Request::default() };
        if folder.join("env.txt").exists() {
            request.models.push(env_model());
        }
        if folder.join("memory.txt").exists() {
            request.memory = plan::Memory::Nowhere;
        }
        for (name, value) in arguments.lines().filter_map(|line| line.split_once('=')) {
            if name == "workflow" {
                request.workflow = value.to_owned();
            } else {
                request.inputs.insert(name.to_owned(), value.to_owned());
            }
        }
        problems.extend(plan::compile(&library, &request).err().unwrap_or_default());
    }
    let mut text = String::new();
    for problem in &problems {
        let short: Diagnostic =
            Diagnostic { source_line: problem.source_line.chars().take(200).collect(), ..problem.clone() };
        let _ = writeln!(text, "{}", render(&short, false));
    }
    (text, problems.iter().map(|problem| problem.code).collect())
}

#[test]
fn every_code_has_a_wrong_document_and_says_what_to_do() {
    let mut covered = BTreeSet::new();
    let mut entries: Vec<_> =
        std::fs::read_dir(root().join("tests/scenarios")).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for folder in entries {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let code = name.split_once('_').unwrap().1;
        let (text, codes) = said(&folder);
        assert!(codes.contains(code), "{name}: `{code}` is not said, but\n{text}");
        compare(&folder.join("expected.txt"), &text);
        covered.insert(code.to_owned());
    }
    let missing: Vec<&str> = codes::ALL.iter().map(|(code, _)| *code).filter(|code| !covered.contains(*code)).collect();
    assert!(missing.is_empty(), "no scenario for: {missing:?}");
}

#[test]
fn hostile_yaml_is_refused_at_once() {
    let bomb = {
        let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..12 {
            let _ = writeln!(text, "a{level}: &a{level} [{}]", vec![format!("*a{}", level - 1); 10].join(","));
        }
        text
    };
    let deep = "[".repeat(500_000);
    let quadratic = format!("a: &a [{}]\nb: [{}]\n", vec!["x"; 5000].join(","), vec!["*a"; 5000].join(","));
    for text in [bomb, deep, quadratic, "x: ".repeat(300_000), "\u{0}".into(), "- ".repeat(100_000), "&a [*a]".into()] {
        let begun = std::time::Instant::now();
        let sources = [Source { path: ".codeforge/workflows/in.yml".into(), text, builtin: false }];
        let library = workflow::load(&sources, &|_| None);
        assert!(library.diagnostics.iter().any(|problem| problem.severity == Severity::Error));
        // The promise is 100 ms in a release build; a debug build on a busy machine gets room.
        assert!(begun.elapsed().as_millis() < 3000, "{:?}", begun.elapsed());
    }
}

#[test]
fn shipped_documents_have_no_problems_and_fit_their_schemas() {
    let library = workflow::load(&workflow::builtin(), &|_| None);
    let text: Vec<String> = library.diagnostics.iter().map(|problem| render(problem, false)).collect();
    assert!(text.is_empty(), "{}", text.join("\n"));
    assert_eq!(library.modes.len(), 12);
    assert_eq!(library.policies.len(), 4);
    assert_eq!(library.backends.len(), 9);
    assert!(library.workflows.contains_key("fix") && library.workflows.contains_key("review"));
    for source in workflow::builtin().iter().filter(|source| source.path.ends_with(".yml")) {
        let kind = match source.path.rsplit('/').nth(1) {
            Some("modes") => DocKind::Mode,
            Some("policies") => DocKind::Policy,
            Some("backends") => DocKind::Backend,
            Some("prices") => DocKind::Pricing,
            _ => DocKind::Workflow,
        };
        let value: serde_json::Value = serde_yaml::from_str(&source.text).unwrap();
        let validator = jsonschema::validator_for(&json_schema(kind)).unwrap();
        let errors: Vec<String> =
            validator.iter_errors(&value).map(|error| format!("{}: {error}", source.path)).collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }
}

#[test]
fn shipped_workflows_compile_where_the_repository_says_how_it_is_checked() {
    let config = "gates:\n  tests: { run: make test }\n  lint: { run: make lint }\n";
    let mut sources = workflow::builtin();
    sources.push(Source { path: ".codeforge/config.yml".into(), text: config.into(), builtin: false });
    let library = workflow::load(&sources, &|_| None);
    for name in library.workflows.keys() {
        let request = plan::Request {
            workflow: name.clone(),
            inputs: [("task".to_owned(), "x".to_owned())].into(),
            models: vec![env_model()],
            allow_unpriced: true,
            held: false,
            deliver: Some(codeforge::model::plan::DeliverKind::Patch),
            ..plan::Request::default()
        };
        let known = library.workflows[name].doc.inputs.keys().any(|input| input == "task");
        let request = if known { request } else { plan::Request { inputs: Default::default(), ..request } };
        let plan = plan::compile(&library, &request).unwrap_or_else(|problems| {
            panic!("{name}: {}", problems.iter().map(|it| render(it, false)).collect::<String>())
        });
        assert!(report::plan::render(&plan, false).contains(name.as_str()));
        assert!(!plan.steps.is_empty());
    }
}

#[test]
fn committed_schemas_and_reference_are_up_to_date() {
    for (kind, name) in [
        (DocKind::Workflow, "workflow"),
        (DocKind::Mode, "mode"),
        (DocKind::Policy, "policy"),
        (DocKind::Config, "config"),
        (DocKind::Backend, "backend"),
        (DocKind::Pricing, "pricing"),
        (DocKind::Serve, "serve"),
    ] {
        compare(&root().join(format!("schemas/{name}.schema.json")), &format!("{:#}\n", json_schema(kind)));
    }
    let mut text = String::from(
        "# Diagnostics\n\nWhat `codeforge validate` and `codeforge run` say of documents. Each has an example under \
         `tests/scenarios/`.\n\n| code | means |\n|---|---|\n",
    );
    for (code, meaning) in codes::ALL {
        let _ = writeln!(text, "| `{code}` | {meaning} |");
    }
    compare(&root().join("docs/reference/diagnostics.md"), &text);
}
