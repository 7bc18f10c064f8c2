//! A recorded run, gone through without a model and made again with everything but the model.

mod common;

use common::{ModelServer, Reply, Rule, Script, TestRepo, codeforge, eventually, ok, spoken};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const WORKFLOW: &str = r#"
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

const MODE: &str = r#"
name: mender
description: Mends values.
prompt_template: mender.md
tools: [read_file, write_file, shell, finish]
"#;

const PROMPT: &str = "You are the mender. Work with care.\nCall finish when all is done.\n";

const POLICY: &str = r#"
name: careful
description: Files and harmless commands.
rules:
  - { tool: shell, command: "curl*", decision: deny, reason: "no downloads" }
  - { tool: "*", decision: allow }
default: deny
limits: { max_steps: 20, max_cost_usd: 5 }
"#;

fn project() -> TestRepo {
    let repo = TestRepo::empty();
    repo.write(".codeforge/workflows/mend.yml", WORKFLOW);
    repo.write(".codeforge/modes/mender.yml", MODE);
    repo.write(".codeforge/prompts/mender.md", PROMPT);
    repo.write(".codeforge/policies/careful.yml", POLICY);
    repo.write("value.txt", "broken\n");
    repo.write("README.md", "A value.\n");
    repo.commit("first");
    repo
}

/// A first attempt that fails its gate, with a denied call in it, and a second one that passes.
fn script() -> Script {
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

fn with_model(mut command: Command, server: &ModelServer) -> Command {
    command.env("CODEFORGE_LLM_BASE_URL", server.url()).env("CODEFORGE_MODEL", "scripted");
    command.env("CODEFORGE_LLM_PRICE_INPUT", "1").env("CODEFORGE_LLM_PRICE_OUTPUT", "1");
    command
}

async fn finished(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// A recorded run: the repository, the cassette outside of it, and what the run said.
struct Recorded {
    repo: TestRepo,
    folder: tempfile::TempDir,
    run: Output,
}

impl Recorded {
    async fn new() -> Self {
        Self::of(project(), "none").await
    }

    async fn of(repo: TestRepo, sandbox: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cassette = folder.path().join("mend.jsonl");
        let server = ModelServer::start(script()).await;
        let arguments = ["run", "mend", "-i", "task=Make it right", "--sandbox", sandbox, "--format", "json", "--record"];
        let mut command = with_model(repo.codeforge(&arguments), &server);
        command.arg(&cassette);
        let run = finished(command).await;
        assert!(run.status.success(), "{}\n{:#?}", spoken(&run), server.unmatched());
        server.finished();
        Self { repo, folder, run }
    }

    fn cassette(&self) -> PathBuf {
        self.folder.path().join("mend.jsonl")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.cassette()).unwrap()
    }

    fn replay(&self, more: &[&str]) -> Output {
        self.repo.codeforge(&["replay", self.cassette().to_str().unwrap()]).args(more).output().unwrap()
    }

    fn assert(&self) -> Output {
        self.replay(&["--assert"])
    }

    /// What `--assert` says once `change` was made; it must fail, and leave nothing behind.
    fn differs(&self, change: impl FnOnce(&TestRepo)) -> String {
        change(&self.repo);
        let before = self.repo.status();
        let output = self.assert();
        assert_eq!(output.status.code(), Some(1), "{}", spoken(&output));
        assert_eq!(self.repo.status(), before, "nothing is delivered");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The files are again as they were committed.
    fn reset(&self) {
        self.repo.git(&["checkout", "--quiet", "--", "."]);
    }
}

fn rewritten(repo: &TestRepo, path: &str, from: &str, to: &str) {
    let text = repo.read(path);
    assert!(text.contains(from), "{path} has no {from:?}");
    repo.write(path, text.replace(from, to));
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// An account without what names this run's place.
fn account(json: &[u8]) -> Value {
    let mut value: Value = serde_json::from_slice(json).unwrap();
    value.as_object_mut().unwrap().remove("trajectory");
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_run_goes_through_again_identically() {
    let recorded = Recorded::new().await;
    let mode = std::fs::metadata(recorded.cassette()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Elsewhere, without repository, model, sandbox or tools: the same account.
    let elsewhere = tempfile::tempdir().unwrap();
    let replay = |more: &[&str]| {
        let mut command = codeforge();
        command.current_dir(elsewhere.path()).env("PATH", "").arg("replay").arg(recorded.cassette()).args(more);
        command.output().unwrap()
    };
    let output = replay(&["--format", "json"]);
    assert!(output.status.success(), "{}", spoken(&output));
    assert_eq!(account(&output.stdout), account(&recorded.run.stdout));
    assert!(spoken(&output).contains("as recorded: "), "{}", spoken(&output));
    let run = account(&recorded.run.stdout)["run"].as_str().unwrap().to_owned();
    let shown = ok(&mut recorded.repo.codeforge(&["runs", "show", &run]));
    assert_eq!(String::from_utf8_lossy(&replay(&[]).stdout), shown);
    assert_eq!(ok(&mut recorded.repo.codeforge(&["replay", &run[..5]])), shown);
    // What was recorded as it went and what the journal gives afterwards are one.
    let exported = recorded.folder.path().join("exported.jsonl");
    ok(recorded.repo.codeforge(&["runs", "export", &run]).arg(&exported));
    assert_eq!(std::fs::read_to_string(&exported).unwrap(), recorded.text());
    // Every call's request is there, each text once.
    let all = lines(&recorded.text());
    let requests = all.iter().filter(|line| line.get("request").is_some()).count();
    let mut texts: Vec<&str> = all.iter().filter_map(|line| line["text"].as_str()).collect();
    let count = texts.len();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!((requests, texts.len()), (6, count));
    // A journal and a cassette know a request by one name.
    let played = finished({
        let mut command = recorded.repo.codeforge(&["run", "mend", "-i", "task=Make it right", "--sandbox", "none"]);
        command.arg("--cassette").arg(recorded.cassette());
        command
    })
    .await;
    let said = spoken(&played);
    assert!(!said.contains("has no answer for this request") || said.contains("date"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_that_this_version_would_not_take_is_named_with_its_row() {
    let recorded = Recorded::new().await;
    let changed: String = recorded
        .text()
        .lines()
        .map(|line| {
            let line = if line.contains("\"check_gate\"") { line.replacen("\"attempt\":2", "\"attempt\":3", 1) } else { line.into() };
            line + "\n"
        })
        .collect();
    assert_ne!(changed, recorded.text());
    std::fs::write(recorded.cassette(), &changed).unwrap();
    let output = recorded.replay(&[]);
    let said = spoken(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let row = lines(&changed).iter().find(|line| line["row"]["body"]["intent"]["attempt"] == 3).unwrap()["row"]["seq"].clone();
    let wanted = format!(
        "row {row}: recorded is `check_gate` for step `code`, attempt 3; this version does `check_gate` for step `code`, attempt 2"
    );
    assert!(said.contains(&wanted), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn made_again_it_is_the_same_and_each_change_of_the_workflow_is_told() {
    let recorded = Recorded::new().await;
    let same = recorded.assert();
    assert!(same.status.success(), "{}", spoken(&same));
    let said = String::from_utf8_lossy(&same.stdout);
    assert!(
        said.contains("as recorded: 2 steps, 6 model calls, ")
            && said.contains("4 tool calls, 1 command, 2 gate verdicts, a patch of 1 file"),
        "{said}"
    );
    let runs = || recorded.repo.git(&["for-each-ref", "refs/codeforge"]);
    let before = runs();

    // A prompt.
    let said = recorded.differs(|repo| rewritten(repo, ".codeforge/prompts/mender.md", "with care", "with great care"));
    assert!(
        said.contains("1 difference (")
            && said.contains("step `code`, attempt 1, turn 1: the system prompt differs")
            && said.contains("-You are the mender. Work with care.")
            && said.contains("+You are the mender. Work with great care."),
        "{said}"
    );
    recorded.reset();
    let said = recorded.differs(|repo| rewritten(repo, ".codeforge/workflows/mend.yml", "Carry this out.", "Do this."));
    assert!(
        said.contains("step `code`, attempt 1, turn 1: the first prompt differs")
            && said.contains("-Carry this out.")
            && said.contains("+Do this."),
        "{said}"
    );
    recorded.reset();

    // A policy.
    let said = recorded.differs(|repo| rewritten(repo, ".codeforge/policies/careful.yml", "\"curl*\"", "\"wget*\""));
    assert!(
        said.contains("step `code`, attempt 1, turn 1: the call `shell` (curl http://example.com) was denied, and is allowed now"),
        "{said}"
    );
    recorded.reset();
    // The tools of a mode.
    let said = recorded.differs(|repo| rewritten(repo, ".codeforge/modes/mender.yml", "shell, finish", "finish"));
    assert!(
        said.contains("step `code`, attempt 1, turn 1: the tool `shell` was offered, and is not now")
            && said.contains("the call `shell` (pwd; date; cat value.txt) was allowed, and is denied now"),
        "{said}"
    );
    recorded.reset();

    // A gate's command: another verdict, another flow, and answers that run out.
    let said = recorded.differs(|repo| rewritten(repo, ".codeforge/workflows/mend.yml", "grep -q right", "grep -q perfect"));
    assert!(
        said.contains("gate `check`: its command was changed")
            && said.contains("step `code`, attempt 2: gate `check` passed, and failed (exit code 1) now")
            && said.contains("the run ended `done`, and now `failed`")
            && said.contains("a patch was made, and is not now"),
        "{said}"
    );
    recorded.reset();
    let said = recorded.differs(|repo| rewritten(repo, ".codeforge/workflows/mend.yml", "grep -q right", "grep -q wrong"));
    assert!(
        said.contains("attempt 1: gate `check` failed (exit code 1), and passed now")
            && said.contains("step `code`, attempt 2: this attempt was made, and is not now"),
        "{said}"
    );
    recorded.reset();
    let said = recorded.differs(|repo| {
        rewritten(repo, ".codeforge/workflows/mend.yml", "grep -q right", "grep -q perfect");
        rewritten(repo, ".codeforge/workflows/mend.yml", "attempts: 2", "attempts: 3");
    });
    assert!(
        said.contains("step `code`, attempt 3: this attempt was not made, and is now")
            && said.contains("the recording has no further answer for step `code`, attempt 3"),
        "{said}"
    );
    recorded.reset();

    // The files that it starts from: only where that is asked for.
    recorded.repo.write("value.txt", "quite broken\n");
    let same = recorded.assert();
    assert!(same.status.success(), "{}", spoken(&same));
    let output = recorded.replay(&["--assert", "--here", "--format", "json"]);
    assert_eq!(output.status.code(), Some(1), "{}", spoken(&output));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let first = &found["differences"][0];
    assert_eq!((&found["same"], &first["step"], &first["about"]), (&json!(false), &json!("look"), &json!("command")));
    assert!(first["diff"].as_str().unwrap().contains("-broken\n+quite broken"), "{first}");
    let call = found["differences"].as_array().unwrap().iter().find(|it| it["about"] == "call").unwrap();
    assert!(call["step"] == "code" && call["message"].as_str().unwrap().contains("read_file"), "{call}");

    assert_eq!(runs(), before, "a run made again leaves no ref");
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(recorded.repo.path().to_str().unwrap()), "{mounts}");
}
