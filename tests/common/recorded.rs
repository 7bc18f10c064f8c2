//! A recorded run of a small project: a first attempt that fails its gate, a denied call, a second attempt that passes.

use super::{ModelServer, Reply, Rule, Script, TestRepo, spoken};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Command, Output};

pub const WORKFLOW: &str = r#"
name: mend
description: Mends a value.
inputs: { task: { type: string, required: true } }
policy: careful
steps:
  look: { run: "cat value.txt" }
  code:
    mode: mender
    needs: [look]
    prompt: "Carry this out.\n{{ inputs.task }}\nThe file says:\n{{ steps.look.text }}"
    gates: [check]
    attempts: 2
gates:
  check: { run: "grep -q right value.txt || { echo the value is wrong; exit 1; }", on_fail: retry }
deliver: { as: patch, title: "Mend the value" }
"#;

pub const MODE: &str = r#"
name: mender
description: Mends values.
prompt_template: mender.j2
tools: [read_file, write_file, shell, finish]
"#;

pub const PROMPT: &str = "You are the mender. Work with care.\nCall finish when all is done.\n";

pub const POLICY: &str = r#"
name: careful
description: Files and harmless commands.
rules:
  - { tool: shell, command: "curl*", decision: deny, reason: "no downloads" }
  - { tool: "*", decision: allow }
default: deny
limits: { max_steps: 20, max_cost_usd: 5 }
"#;

pub fn project() -> TestRepo {
    let repo = TestRepo::empty();
    repo.write(".codeforge/workflows/mend.yml", WORKFLOW);
    repo.write(".codeforge/modes/mender.yml", MODE);
    repo.write(".codeforge/prompts/mender.j2", PROMPT);
    repo.write(".codeforge/policies/careful.yml", POLICY);
    repo.write("value.txt", "broken\n");
    repo.write("README.md", "A value.\n");
    repo.commit("first");
    repo
}

/// A first attempt that fails its gate, with a denied call in it, and a second one that passes.
pub fn script() -> Script {
    let first = || Rule::when().matches("first attempt", |asked| !asked.user().contains("This is attempt 2"));
    let again = || Rule::when().user("This is attempt 2").user("the value is wrong");
    let write = |value: &str| Reply::call("write_file", json!({ "path": "value.txt", "content": value })).cost(0.01);
    vec![
        first().turn(0).user("broken").reply(
            Reply::call("read_file", json!({ "path": "value.txt" }))
                .and_call("shell", json!({ "command": "curl http://example.com" }))
                .saying("Looking.")
                .cost(0.01),
        ),
        first().turn(1).tool_result("no downloads").reply(write("wrong\n")),
        first().turn(2).reply(Reply::call("shell", json!({ "command": "pwd; date; cat value.txt" })).cost(0.01)),
        first().turn(3).reply(Reply::call("finish", json!({ "summary": "Mended." })).cost(0.01)),
        again().turn(0).reply(write("right\n")),
        again().turn(1).reply(Reply::call("finish", json!({ "summary": "Mended now." })).cost(0.01)),
    ]
}

pub fn with_model(mut command: Command, server: &ModelServer) -> Command {
    command.env("CODEFORGE_LLM_BASE_URL", server.url()).env("CODEFORGE_MODEL", "scripted");
    command.env("CODEFORGE_LLM_PRICE_INPUT", "1").env("CODEFORGE_LLM_PRICE_OUTPUT", "1");
    command
}

pub async fn finished(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// A recorded run: the repository, the cassette outside of it, and what the run said.
pub struct Recorded {
    pub repo: TestRepo,
    pub folder: tempfile::TempDir,
    pub run: Output,
}

impl Recorded {
    pub async fn new() -> Self {
        Self::of(project(), "none").await
    }

    pub async fn of(repo: TestRepo, sandbox: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cassette = folder.path().join("mend.jsonl");
        let server = ModelServer::start(script()).await;
        let arguments =
            ["run", "mend", "-i", "task=Make it right", "--sandbox", sandbox, "--format", "json", "--record"];
        let mut command = with_model(repo.codeforge(&arguments), &server);
        command.arg(&cassette);
        let run = finished(command).await;
        assert!(run.status.success(), "{}\n{:#?}", spoken(&run), server.unmatched());
        server.finished();
        Self { repo, folder, run }
    }

    pub fn cassette(&self) -> PathBuf {
        self.folder.path().join("mend.jsonl")
    }

    pub fn text(&self) -> String {
        std::fs::read_to_string(self.cassette()).unwrap()
    }

    pub fn replay(&self, more: &[&str]) -> Output {
        self.repo.codeforge(&["replay", self.cassette().to_str().unwrap()]).args(more).output().unwrap()
    }

    pub fn assert(&self) -> Output {
        self.replay(&["--assert"])
    }

    /// What `--assert` says once `change` was made; it must fail, and leave nothing behind.
    pub fn differs(&self, change: impl FnOnce(&TestRepo)) -> String {
        change(&self.repo);
        let before = self.repo.status();
        let output = self.assert();
        assert_eq!(output.status.code(), Some(1), "{}", spoken(&output));
        assert_eq!(self.repo.status(), before, "nothing is delivered");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The files are again as they were committed.
    pub fn reset(&self) {
        self.repo.git(&["checkout", "--quiet", "--", "."]);
    }
}

pub fn rewritten(repo: &TestRepo, path: &str, from: &str, to: &str) {
    let text = repo.read(path);
    assert!(text.contains(from), "{path} has no {from:?}");
    repo.write(path, text.replace(from, to));
}

pub fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// An account without what names this run's place.
pub fn account(json: &[u8]) -> Value {
    let mut value: Value = serde_json::from_slice(json).unwrap();
    value.as_object_mut().unwrap().remove("trajectory");
    value
}
