//! The GitLab component, run by `gitlab-ci-local`: in shells and in containers.

mod common;

use codeforge::model::forge::ForgeKind;
use common::forge_server::{ForgeServer, TOKEN};
use common::releases::{HOSTILE, Releases, environment, probe, release};
use common::{ModelServer, Reply, Rule, TestRepo, peer, spoken};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};

fn component() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/codeforge/template.yml")).unwrap()
}

/// A pipeline of the component with these inputs, as a project writes it.
fn pipeline(inputs: &Value) -> String {
    json!({ "include": [{ "component": "$CI_SERVER_FQDN/$CI_PROJECT_PATH/codeforge@$CI_COMMIT_SHA", "inputs": inputs }] }).to_string()
}

/// Runs the pipeline of a checkout. `image`: jobs run in containers, with these folders.
fn run(repo: &TestRepo, variables: &[(&str, &str)], mounts: Option<&[&Path]>) -> Output {
    let modules = peer("gitlab-ci-local/node_modules");
    let home = tempfile::tempdir().unwrap();
    #[expect(clippy::disallowed_methods, reason = "tests start programs as people do")]
    let mut command = Command::new(modules.join("node/bin/node"));
    command.env_clear().env("PATH", std::env::var("PATH").unwrap()).env("HOME", home.path()).current_dir(repo.path());
    command.arg(modules.join("gitlab-ci-local/dist/index.js")).args(["--color=false", "--artifacts-to-source=false"]);
    match mounts {
        None => drop(command.args(["--force-shell-executor", "--shell-isolation"])),
        Some(mounts) => {
            command.args(["--network", "host", "--pull-policy", "if-not-present"]);
            command.args(["--helper-image", "codeforge-runner:1", "--wait-image", "codeforge-runner:1"]);
            for mount in mounts {
                command.args(["--volume", &format!("{0}:{0}", mount.display())]);
            }
        }
    }
    for (name, value) in [("GITLAB_CI", "true"), ("CI_DEFAULT_BRANCH", "main"), ("CI_PROJECT_ID", "1")] {
        command.args(["--variable", &format!("{name}={value}")]);
    }
    for (name, value) in variables {
        command.args(["--variable", &format!("{name}={value}")]);
    }
    command.output().unwrap()
}

fn jobs(output: &Output) -> Vec<String> {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = said.lines().filter_map(|line| line.trim().split_once(' '));
    let mut jobs: Vec<String> = told
        .filter(|(verdict, _)| ["PASS", "FAIL", "WARN"].contains(verdict))
        .map(|(verdict, job)| format!("{verdict} {}", job.trim()))
        .collect();
    jobs.sort();
    jobs
}

#[test]
fn inputs_reach_the_program_whole_and_nothing_of_them_acts() {
    let text = HOSTILE.to_owned() + "\n$CI_JOB_TOKEN ${HOME} $$ %PATH%";
    let free = [
        "workflow",
        "inputs",
        "prompt",
        "prompt-file",
        "working-directory",
        "model",
        "llm-base-url",
        "policy",
        "max-cost-usd",
        "delivery",
        "allow-users",
        "trigger-phrase",
        "base-branch",
        "branch-prefix",
    ];
    let mut inputs = json!({ "as": "cf", "sandbox": "none", "on-unavailable": "neutral", "dry-run": true, "image": "codeforge-runner:1" });
    for name in free {
        inputs[name] = json!(text);
    }
    let folder = tempfile::tempdir().unwrap();
    let (program, seen) = probe(folder.path());
    for containers in [false, true] {
        let repo = TestRepo::with(&[
            (".gitlab-ci.yml", &pipeline(&inputs)),
            ("templates/codeforge/template.yml", &component()),
            (".gitignore", "/.gitlab-ci-local/\n"),
        ]);
        repo.git(&["remote", "add", "origin", "https://gitlab.com/acme/widgets.git"]);
        let mounts = [folder.path()];
        let variables = [
            ("CODEFORGE_BINARY", program.to_str().unwrap()),
            ("CI_PIPELINE_SOURCE", "web"),
            ("CI_COMMIT_REF_PROTECTED", "true"),
            ("CODEFORGE_FORGE_TOKEN", "t-90ab12"),
            ("CODEFORGE_LLM_API_KEY", "k-3f9a27"),
        ];
        let output = run(&repo, &variables, containers.then_some(&mounts[..]));
        assert!(output.status.success(), "{}", spoken(&output));
        assert_eq!(jobs(&output), ["PASS cf-agent", "PASS cf-deliver", "PASS cf-gate"], "{}", spoken(&output));
        let agent = environment(&seen.join("cf-agent"));
        for name in free {
            assert_eq!(
                agent[&format!("CODEFORGE_{}", name.to_uppercase().replace('-', "_"))],
                text,
                "{name}, containers: {containers}"
            );
        }
        let of =
            |env: &std::collections::BTreeMap<String, String>, name: &str| env.get(name).cloned().unwrap_or_default();
        assert_eq!((of(&agent, "CODEFORGE_SANDBOX"), of(&agent, "CODEFORGE_DRY_RUN")), ("none".into(), "true".into()));
        assert_eq!(of(&agent, "CODEFORGE_LLM_API_KEY"), "k-3f9a27");
        // The gate runs the repository's code: it has neither. Whoever delivers has no model's key.
        let (gate, deliver) = (environment(&seen.join("cf-gate")), environment(&seen.join("cf-deliver")));
        assert_eq!(
            (of(&gate, "CODEFORGE_LLM_API_KEY"), of(&gate, "CODEFORGE_FORGE_TOKEN")),
            (String::new(), String::new())
        );
        assert_eq!(
            (of(&deliver, "CODEFORGE_LLM_API_KEY"), of(&deliver, "CODEFORGE_FORGE_TOKEN")),
            (String::new(), "t-90ab12".into())
        );
        assert_eq!(of(&deliver, "CODEFORGE_GATE_WORD"), "sha256:none", "the gate job's, through its dotenv report");
        assert!(!repo.has("pwned") && !folder.path().join("pwned").exists());
    }
}

#[test]
fn the_component_downloads_its_program_and_starts_no_other() {
    let (folder, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (program, seen) = probe(folder.path());
    let digest = release(files.path(), &std::fs::read(&program).unwrap());
    let server = Releases::serve(files.path());
    for (digest, right) in [(digest.clone(), true), (digest.replace(|c: char| c.is_ascii_alphabetic(), "0"), false)] {
        let inputs = json!({ "version": format!("1.2.3@sha256:{digest}"), "mirror": server.url, "gate": false, "deliver": false });
        let repo = TestRepo::with(&[
            (".gitlab-ci.yml", &pipeline(&inputs)),
            ("templates/codeforge/template.yml", &component()),
            (".gitignore", "/.gitlab-ci-local/\n"),
        ]);
        repo.git(&["remote", "add", "origin", "https://gitlab.com/acme/widgets.git"]);
        let output = run(&repo, &[("CI_PIPELINE_SOURCE", "schedule")], None);
        assert_eq!(output.status.success(), right, "{}", spoken(&output));
        assert_eq!((server.asked(), seen.join("codeforge-agent").exists()), (1, right), "{}", spoken(&output));
        let _ = std::fs::remove_file(seen.join("codeforge-agent"));
        assert!(right || spoken(&output).contains("has another digest. Nothing was started"), "{}", spoken(&output));
    }
}

const MEND: &str = r#"
name: mend
description: Mend it.
on: { schedule: [{ cron: "0 4 * * *" }], pull_request: {}, workflow_dispatch: {} }
steps:
  work: { mode: coder, prompt: "Mend it", gates: [tests] }
deliver: { as: pull_request, branch: "codeforge/mend-{{ event.kind }}", title: "Mended" }
"#;
const CONFIG: &str = "gates:\n  tests: { run: \"grep -q mended app.txt\", on_fail: retry }\n";

async fn mender() -> ModelServer {
    let edit = json!({ "path": "app.txt", "old": "broken", "new": "mended" });
    ModelServer::start(vec![
        Rule::when().turn(0).reply(Reply::call("edit_file", edit).usage(1000, 100)).always(),
        Rule::when().reply(Reply::call("finish", json!({ "summary": "Mended" })).usage(1000, 10)).always(),
    ])
    .await
}

/// A project at a GitLab, with the component and a pipeline of it.
async fn project(sandbox: &str, server: &ModelServer) -> ForgeServer {
    let inputs = json!({
        "image": "codeforge-runner:1", "sandbox": sandbox, "model": "scripted-1", "llm-base-url": server.url(), "workflow": "mend",
    });
    let (pipeline, component) = (pipeline(&inputs), component());
    let files = [
        (".codeforge/workflows/mend.yml", MEND),
        (".codeforge/config.yml", CONFIG),
        (".gitlab-ci.yml", &pipeline),
        ("templates/codeforge/template.yml", &component),
        (".gitignore", "/.gitlab-ci-local/\n"),
        ("app.txt", "broken\n"),
    ];
    ForgeServer::with(ForgeKind::Gitlab, &files).await
}

/// Runs the project's pipeline on a branch.
fn run_at(
    forge: &ForgeServer,
    branch: &str,
    source: &str,
    containers: bool,
    more: &[(&str, &str)],
) -> (TestRepo, Output) {
    let clone = forge.clone_of();
    clone.git(&["checkout", "--quiet", "-B", branch, &format!("refs/remotes/origin/{branch}")]);
    clone.git(&["remote", "set-url", "origin", "https://gitlab.com/acme/widgets.git"]);
    let program = Path::new(env!("CARGO_BIN_EXE_codeforge"));
    let url = forge.git_url();
    let url = url.trim_end_matches(".git");
    let api = forge.api();
    let mut variables = vec![
        ("CODEFORGE_BINARY", program.to_str().unwrap()),
        ("CI_PIPELINE_SOURCE", source),
        ("CI_PROJECT_PATH", "acme/widgets"),
        ("CI_PROJECT_URL", url),
        ("CI_SERVER_URL", url.trim_end_matches("/acme/widgets")),
        ("CI_API_V4_URL", &api),
        ("CODEFORGE_LLM_API_KEY", "sk-test-0123456789"),
        ("CODEFORGE_LLM_PRICE_INPUT", "1"),
        ("CODEFORGE_LLM_PRICE_OUTPUT", "1"),
    ];
    variables.extend(more);
    let mounts = [program];
    let output = tokio::task::block_in_place(|| run(&clone, &variables, containers.then_some(&mounts[..])));
    (clone, output)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_schedule_on_a_protected_branch_delivers() {
    let server = mender().await;
    for (containers, sandbox) in [(false, "native"), (true, "none")] {
        let forge = project(sandbox, &server).await;
        let protected = [("CI_COMMIT_REF_PROTECTED", "true"), ("CODEFORGE_FORGE_TOKEN", TOKEN)];
        let (_, output) = run_at(&forge, "main", "schedule", containers, &protected);
        assert!(output.status.success(), "{}", spoken(&output));
        assert_eq!(jobs(&output), ["PASS codeforge-agent", "PASS codeforge-deliver", "PASS codeforge-gate"]);
        assert_eq!(
            forge.file("codeforge/mend-schedule", "app.txt").as_deref(),
            Some("mended\n"),
            "{}",
            spoken(&output)
        );
        assert_eq!(forge.memory().changes.len(), 1);
        assert!(!spoken(&output).contains(TOKEN));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_merge_requests_pipeline_judges_and_writes_nothing() {
    let server = mender().await;
    let forge = project("native", &server).await;
    let head = forge.commit_by("ann", "topic", "main", &[("app.txt", Some("broken anew\n"))]);
    let number = forge.open("ann", "topic", "Please.").to_string();
    let base = forge.tip("main").unwrap();
    // No protected variable, so no token.
    let of_the_change = [
        ("CI_MERGE_REQUEST_IID", number.as_str()),
        ("CI_MERGE_REQUEST_TITLE", "A change"),
        ("CI_MERGE_REQUEST_PROJECT_ID", "1"),
        ("CI_MERGE_REQUEST_PROJECT_PATH", "acme/widgets"),
        ("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "1"),
        ("CI_MERGE_REQUEST_SOURCE_PROJECT_PATH", "acme/widgets"),
        ("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "topic"),
        ("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA", head.as_str()),
        ("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main"),
        ("CI_MERGE_REQUEST_DIFF_BASE_SHA", base.as_str()),
    ];
    let (_, output) = run_at(&forge, "topic", "merge_request_event", false, &of_the_change);
    assert!(output.status.success(), "{}", spoken(&output));
    assert_eq!(jobs(&output), ["PASS codeforge-agent", "PASS codeforge-gate"]);
    assert!(spoken(&output).contains("gate `tests`: pass"), "{}", spoken(&output));
    assert!(forge.asked().iter().all(|it| it.method == "GET") && forge.tip("codeforge/mend-pull_request").is_none());
}
