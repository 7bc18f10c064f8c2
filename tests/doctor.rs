//! `codeforge doctor`, against a real repository behind a real git server, a forge that remembers, and a scripted model:
//! everything in order, and then each thing that can be wrong, with its fix and its exit code.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up fails")]

mod common;

use axum::Router;
use codeforge::model::forge::ForgeKind;
use common::forge_server::{FakeApp, Fault, ForgeServer, JOB_TOKEN, TOKEN};
use common::{ModelServer, Reply, Rule, TestRepo, spoken};
use serde_json::Value;
use std::process::Output;

const KEY: &str = "sk-test-0123456789abcdefghij-3f9a";

/// A repository with its forge and its model.
struct Stage {
    repo: TestRepo,
    forge: ForgeServer,
    model: ModelServer,
    env: Vec<(String, String)>,
}

impl Stage {
    async fn with(script: Vec<Rule>) -> Self {
        Self::at(ForgeKind::Github, script).await
    }

    async fn at(kind: ForgeKind, script: Vec<Rule>) -> Self {
        let (forge, model) = (ForgeServer::start(kind).await, ModelServer::start(script).await);
        let repo = TestRepo::with(&[
            (".codeforge/config.yml", "trusted_branches: [main]\ngates:\n  tests: { run: \"true\" }\n"),
            (
                ".github/workflows/codeforge.yml",
                "on:\n  issue_comment:\njobs:\n  deliver:\n    permissions:\n      contents: write\n    steps:\n      - uses: acme/codeforge@0123456789abcdef0123456789abcdef01234567\n",
            ),
        ]);
        repo.git(&["remote", "add", "origin", &forge.git_url()]);
        let env = [
            ("CODEFORGE_FORGE", kind.as_str().to_lowercase()),
            ("CODEFORGE_FORGE_API", forge.api()),
            ("CODEFORGE_FORGE_TOKEN", TOKEN.to_owned()),
            ("CODEFORGE_LLM_BASE_URL", model.url().to_owned()),
            ("CODEFORGE_LLM_API_KEY", KEY.to_owned()),
            ("CODEFORGE_LLM_ATTEMPTS", "1".to_owned()),
            ("CODEFORGE_MODEL", "m".to_owned()),
        ];
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { repo, forge, model, env }
    }

    fn set(&mut self, name: &str, value: &str) {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    async fn doctor(&self, more: &[&str]) -> Output {
        let mut command = self.repo.codeforge(&["doctor"]);
        command.args(more).envs(self.env.clone());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        for secret in [KEY, TOKEN] {
            assert!(!spoken(&output).contains(secret), "a secret is shown: {}", spoken(&output));
        }
        output
    }

    /// What is said of one thing, and the exit code.
    async fn said(&self, check: &str) -> (String, String, Option<i32>) {
        let output = self.doctor(&["--format", "json"]).await;
        let value: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", spoken(&output)));
        let found = value["checks"].as_array().unwrap().iter().find(|it| it["check"] == check).unwrap().clone();
        let text = format!("{}\n{}", found["what"].as_str().unwrap(), found["fix"]);
        (found["state"].as_str().unwrap().to_owned(), text, output.status.code())
    }
}

fn answers() -> Vec<Rule> {
    vec![Rule::when().reply(Reply::call("ping", serde_json::json!({}))).always()]
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_in_order_is_said_line_by_line_and_nothing_is_left_behind() {
    let stage = Stage::with(answers()).await;
    let branches = stage.forge.tip("main");
    let output = stage.doctor(&[]).await;
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", spoken(&output));
    for part in [
        "✓ git repository",
        "clean, base origin/main fetchable",
        "✓ configuration gates: tests",
        "sandbox ",
        "✓ model env (openai/m, from the environment) at http://127.0.0.1:",
        "✓ token of codeforge-bot for acme/widgets can read contents, push branches, write pull requests",
        "- event not in a CI job",
        "✓ clock within a minute",
        "CODEFORGE_LLM_API_KEY",
        "sk-…3f9a",
        ".codeforge/config.yml:1",
        "headless-safe-sandbox",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    assert_eq!(stage.repo.status(), "");
    assert_eq!(stage.forge.tip("main"), branches);
    assert!(stage.forge.memory().changes.is_empty(), "asking for a right opened a pull request");
    assert_eq!(stage.model.asked().len(), 1);
    let offline = stage.doctor(&["--offline"]).await;
    assert_eq!(offline.status.code(), Some(0), "{}", spoken(&offline));
    assert_eq!(stage.model.asked().len(), 1, "offline asks nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_our_pushes_away_is_said_for_each_forge() {
    for kind in [ForgeKind::Github, ForgeKind::Gitlab, ForgeKind::Gitea] {
        let stage = Stage::at(kind, answers()).await;
        let (state, text, _) = stage.said("pushes").await;
        assert_eq!(state, "ok", "{kind:?}: {text}");
        assert!(
            text.contains("no rule that is known holds for `codeforge/") && text.contains("start checks"),
            "{text}"
        );
        let (list, needs) = match kind {
            ForgeKind::Github => ("%2Fbranch", "metadata: read"),
            ForgeKind::Gitlab => ("/protected_branches", "role Maintainer"),
            _ => ("/branch_protections", "admin access"),
        };
        // In the words of each.
        let closed = serde_json::json!({ "name": "*", "push_access_levels": [], "rule_name": "codeforge/**" });
        stage.forge.memory().protections = vec![closed];
        stage.forge.memory().rules.insert("codeforge/doctor/branch".into(), vec!["creation".into()]);
        let (state, text, code) = stage.said("pushes").await;
        assert_eq!((state.as_str(), code), ("misconfigured", Some(2)), "{kind:?}: {text}");
        assert!(text.contains("may not") && text.contains("CODEFORGE_BRANCH_PREFIX"), "{kind:?}: {text}");
        // Who may not ask is told what that takes, and nothing more is wrong.
        stage.forge.fail(Fault::status("GET", list, 403));
        let (state, text, code) = stage.said("pushes").await;
        assert_eq!((state.as_str(), code), ("warning", Some(0)), "{kind:?}: {text}");
        assert!(text.contains(needs), "{kind:?}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_thing_that_is_wrong_says_its_fix_and_ends_with_its_code() {
    let holds = |(state, text, code): &(String, String, Option<i32>), wanted: &str, exit: i32, parts: &[&str]| {
        assert_eq!((state.as_str(), *code), (wanted, Some(exit)), "{text}");
        for part in parts {
            assert!(text.contains(part), "{part}:\n{text}");
        }
    };
    let refused = Rule::when().reply(Reply::status(401)).always();
    let mut stage = Stage::with(vec![refused]).await;
    holds(
        &stage.said("model").await,
        "misconfigured",
        2,
        &["401", "CODEFORGE_LLM_API_KEY", "sk-…3f9a, from the environment", "was refused"],
    );

    stage.set("CODEFORGE_LLM_BASE_URL", "http://127.0.0.1:9/v1");
    holds(&stage.said("model").await, "unavailable", 5, &["127.0.0.1:9", "is the server up"]);
    stage.set("CODEFORGE_LLM_API_KEY", "");
    stage.set("CODEFORGE_LLM_BASE_URL", "");
    holds(&stage.said("model").await, "misconfigured", 2, &["none is configured", "OPENAI_API_KEY"]);

    let mut stage = Stage::with(answers()).await;
    stage.set("CODEFORGE_SANDBOX", "docker");
    stage.set("DOCKER_HOST", "unix:///nowhere/docker.sock");
    holds(&stage.said("sandbox").await, "unavailable", 5, &["/nowhere/docker.sock", "start Docker"]);
    stage.set("CODEFORGE_SANDBOX", "");

    // The token may read and push, and not open pull requests.
    stage.forge.fail(Fault::status("POST", "/pulls", 403));
    holds(
        &stage.said("token").await,
        "warning",
        0,
        &[
            "cannot write pull requests → delivery `pull_request` would fail",
            "pull-requests: write",
            "line 5 of .github/workflows/codeforge.yml",
        ],
    );
    stage.set("CODEFORGE_FORGE_TOKEN", "another-token-0123456789");
    let (state, text, code) = stage.said("token").await;
    assert!(state == "misconfigured" && code == Some(2), "{state} {code:?} {text}");
    stage.set("CODEFORGE_FORGE_TOKEN", "");
    // Without one the remote gives nothing, either.
    holds(&stage.said("token").await, "not_checked", 5, &["CODEFORGE_FORGE_TOKEN"]);

    stage.set("GITHUB_ACTIONS", "true");
    stage.set("GITHUB_EVENT_PATH", "/nowhere/event.json");
    stage.set("GITHUB_EVENT_NAME", "push");
    stage.set("GITHUB_REPOSITORY", "acme/widgets");
    holds(&stage.said("event").await, "misconfigured", 2, &["/nowhere/event.json", "GITHUB_EVENT_PATH"]);
    for name in ["GITHUB_ACTIONS", "GITHUB_EVENT_PATH", "GITHUB_EVENT_NAME", "GITHUB_REPOSITORY"] {
        stage.set(name, "");
    }

    // A remote that is gone.
    stage.repo.git(&["remote", "set-url", "origin", "http://127.0.0.1:9/acme/widgets.git"]);
    holds(&stage.said("git").await, "unavailable", 5, &["base origin/main cannot be fetched", "git fetch origin main"]);
    stage.repo.git(&["remote", "remove", "origin"]);
    holds(&stage.said("git").await, "warning", 0, &["no remote `origin`"]);

    stage.repo.write(".codeforge/config.yml", "gates: [");
    holds(&stage.said("configuration").await, "misconfigured", 2, &["codeforge validate"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_github_app_is_tried_and_what_it_lacks_is_named() {
    let mut stage = Stage::with(answers()).await;
    let app = FakeApp::new("Iv1.abc", 77);
    let key = app.key();
    stage.forge.memory().app = Some(app);
    stage.set("CODEFORGE_FORGE_TOKEN", "");
    stage.set("CODEFORGE_APP_ID", "Iv1.abc");
    let (state, text, code) = stage.said("forge").await;
    assert!(state == "misconfigured" && code == Some(2) && text.contains("CODEFORGE_APP_KEY is not"), "{state} {text}");
    // As a variable of one line has it.
    stage.set("CODEFORGE_APP_KEY", &key.replace('\n', "\\n"));
    let output = stage.doctor(&[]).await;
    let text = spoken(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for part in ["✓ git", "base origin/main fetchable", "✓ token", "read contents, push branches, write pull requests"]
    {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    let line = key.lines().nth(3).unwrap();
    assert!(!text.contains(line), "a part of the key is shown");

    // Whoever installed it granted less than is asked for: GitHub mints nothing, and does not say why.
    let withhold = |stage: &Stage, names: &[&'static str]| {
        stage.forge.memory().app.as_mut().unwrap().withheld = names.to_vec();
    };
    withhold(&stage, &["checks", "pull_requests"]);
    let (state, text, code) = stage.said("token").await;
    assert_eq!((state.as_str(), code), ("misconfigured", Some(2)), "{text}");
    for part in ["checks: write, pull_requests: write", "Permissions & events", "accept"] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    assert!(!text.contains("contents: write"), "what it has is not asked for: {text}");
    withhold(&stage, &[]);

    // A key of another App, and one that is none.
    stage.set("CODEFORGE_APP_KEY", &FakeApp::new("Iv1.abc", 77).key());
    let (state, text, code) = stage.said("token").await;
    assert!(state == "misconfigured" && code == Some(2), "{state} {code:?} {text}");
    stage.set("CODEFORGE_APP_KEY", "no key at all");
    let (state, text, code) = stage.said("token").await;
    assert!(state == "misconfigured" && code == Some(2) && text.contains(".pem"), "{state} {code:?} {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_of_the_repository_are_held_against_how_we_push() {
    let mut stage = Stage::with(answers()).await;
    let rules = |stage: &Stage, names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        stage.forge.memory().rules.insert("codeforge/doctor/branch".into(), names);
    };
    let (state, text, code) = stage.said("pushes").await;
    assert!(state == "ok" && code == Some(0) && text.contains("no rule that is known"), "{state} {text}");
    rules(&stage, &["required_signatures"]);
    let (state, text, code) = stage.said("pushes").await;
    assert!(state == "misconfigured" && code == Some(2), "{state} {text}");
    assert!(text.contains("commits must be signed") && text.contains("CODEFORGE_SIGNING=forge"), "{text}");
    stage.set("CODEFORGE_SIGNING", "forge");
    let (state, text, code) = stage.said("pushes").await;
    assert!(state == "ok" && code == Some(0), "what is signed may be pushed: {state} {text}");
    stage.set("CODEFORGE_SIGNING", "ssh");
    let (state, text, code) = stage.said("pushes").await;
    assert!(state == "misconfigured" && code == Some(2) && text.contains("CODEFORGE_SIGNING_KEY"), "{state} {text}");
    stage.set("CODEFORGE_SIGNING", "");
    rules(&stage, &["creation"]);
    let (state, text, code) = stage.said("pushes").await;
    assert!(state == "misconfigured" && code == Some(2) && text.contains("CODEFORGE_BRANCH_PREFIX"), "{state} {text}");
    // Rules of another prefix are none of ours.
    stage.set("CODEFORGE_BRANCH_PREFIX", "bots/");
    let (state, text, code) = stage.said("pushes").await;
    assert!(state == "ok" && code == Some(0) && text.contains("`bots/doctor/branch`"), "{state} {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gitlab_jobs_own_token_is_told_from_one_that_writes() {
    let mut stage = Stage::at(ForgeKind::Gitlab, answers()).await;
    let (state, text, _) = stage.said("token").await;
    assert_ne!(state, "misconfigured", "{text}");
    assert!(!text.contains("CI_JOB_TOKEN"), "{text}");
    stage.set("CI_JOB_TOKEN", JOB_TOKEN);
    for given in ["", JOB_TOKEN] {
        stage.set("CODEFORGE_FORGE_TOKEN", given);
        let (state, text, _) = stage.said("token").await;
        assert_eq!(state, if given.is_empty() { "warning" } else { "misconfigured" }, "{text}");
        for part in ["the job's own (CI_JOB_TOKEN)", "project or group access token", "codeforge serve"] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        assert!(!text.contains(JOB_TOKEN), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_is_found_by_a_servers() {
    let app = Router::new().fallback(|| async { ([("date", "Sun, 06 Nov 1994 08:49:37 GMT")], "no") });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let mut stage = Stage::with(Vec::new()).await;
    stage.set("CODEFORGE_LLM_BASE_URL", &url);
    stage.set("CODEFORGE_FORGE_TOKEN", "");
    let (state, text, _) = stage.said("clock").await;
    assert!(
        state == "misconfigured" && text.contains("ahead of 127.0.0.1") && text.contains("timedatectl"),
        "{state}: {text}"
    );
}

#[test]
fn outside_of_a_repository_that_is_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let output = common::codeforge().args(["doctor", "--offline"]).current_dir(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", spoken(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("✗ git") && text.contains("git init"), "{text}");
}
