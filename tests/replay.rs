//! A recorded run, gone through without a model and made again with everything but the model.

mod common;

use common::{ModelServer, Reply, Rule, Script, TestRepo, codeforge, eventually, git, ok, spoken};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
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
prompt_template: mender.j2
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
    repo.write(".codeforge/prompts/mender.j2", PROMPT);
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
        let arguments =
            ["run", "mend", "-i", "task=Make it right", "--sandbox", sandbox, "--format", "json", "--record"];
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
    // The clock's time is in the fourth request: a cassette plays for what was asked, to the letter.
    let said = spoken(&played);
    assert_eq!(played.status.code(), Some(5), "{said}");
    assert!(said.contains("has no answer for this request; the next unused answer is for: exit code 0"), "{said}");
    assert!(said.contains("300 tokens in, 30 out"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_that_this_version_would_not_take_is_named_with_its_row() {
    let recorded = Recorded::new().await;
    let changed: String = recorded
        .text()
        .lines()
        .map(|line| {
            let line = if line.contains("\"check_gate\"") {
                line.replacen("\"attempt\":2", "\"attempt\":3", 1)
            } else {
                line.into()
            };
            line + "\n"
        })
        .collect();
    assert_ne!(changed, recorded.text());
    std::fs::write(recorded.cassette(), &changed).unwrap();
    let output = recorded.replay(&[]);
    let said = spoken(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let row = lines(&changed).iter().find(|line| line["row"]["body"]["intent"]["attempt"] == 3).unwrap()["row"]["seq"]
        .clone();
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
            && said.contains("5 tool calls, 1 command, 2 gate verdicts, a patch of 1 file"),
        "{said}"
    );
    let runs = || recorded.repo.git(&["for-each-ref", "refs/codeforge"]);
    let before = runs();

    // A prompt.
    let said = recorded.differs(|repo| rewritten(repo, ".codeforge/prompts/mender.j2", "with care", "with great care"));
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
        said.contains(
            "step `code`, attempt 1, turn 1: the call `shell` (curl http://example.com) was denied, and is allowed now"
        ),
        "{said}"
    );
    recorded.reset();
    // The tools of a mode.
    let said = recorded.differs(|repo| rewritten(repo, ".codeforge/modes/mender.yml", "shell, finish", "finish"));
    assert!(
        said.contains("step `code`, attempt 1, turn 1: the tool `shell` was offered, and is not now")
            && said.contains(
                "step `code`, attempt 1, turn 3: the call `shell` (pwd; date; cat value.txt) was made, and is not now"
            )
            && said.contains("+There is no tool `shell`. These are on offer: read_file, write_file, finish."),
        "{said}"
    );
    recorded.reset();

    // A gate's command: another verdict, another flow, and answers that run out.
    let said =
        recorded.differs(|repo| rewritten(repo, ".codeforge/workflows/mend.yml", "grep -q right", "grep -q perfect"));
    assert!(
        said.contains("gate `check`: its command was changed")
            && said.contains("step `code`, attempt 2: gate `check` passed, and failed (exit code 1) now")
            && said.contains("the run ended `done`, and now `failed`")
            && said.contains("a patch was made, and is not now"),
        "{said}"
    );
    recorded.reset();
    let said =
        recorded.differs(|repo| rewritten(repo, ".codeforge/workflows/mend.yml", "grep -q right", "grep -q wrong"));
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

#[tokio::test(flavor = "multi_thread")]
async fn in_the_native_sandbox_too() {
    let recorded = Recorded::of(project(), "native").await;
    let same = recorded.assert();
    assert!(same.status.success(), "{}", spoken(&same));
    let said =
        recorded.differs(|repo| rewritten(repo, ".codeforge/workflows/mend.yml", "cat value.txt", "cat README.md"));
    assert!(
        said.contains("step `look`: its command was changed")
            && said.contains("step `look`, attempt 1: the command printed something else")
            && said.contains("step `code`, attempt 1, turn 1: the first prompt differs"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_committed_is_in_the_cassette_and_what_cannot_be_had_is_named() {
    let repo = project();
    repo.write("value.txt", "broken, and not committed\n")
        .write("data.bin", [0xff, 0x00, 0xfe])
        .write("tool.sh", "true\n");
    repo.executable("tool.sh");
    std::fs::remove_file(repo.path().join("README.md")).unwrap();
    let recorded = Recorded::of(repo, "none").await;
    recorded.repo.git(&["stash", "--quiet", "--include-untracked"]);
    recorded.repo.write("later.txt", "later\n");
    let later = recorded.repo.commit("later");
    let same = recorded.assert();
    assert!(same.status.success(), "{}", spoken(&same));

    // A clone that lacks the commit.
    let clone = tempfile::tempdir().unwrap();
    let from = format!("file://{}", recorded.repo.path().display());
    ok(git().args(["clone", "--quiet", "--depth=1", &from]).arg(clone.path()));
    let output = recorded.replay(&["--assert", "--repo", clone.path().to_str().unwrap()]);
    let base = lines(&recorded.text())[0]["commit"].as_str().unwrap().to_owned();
    assert_ne!(base, later);
    assert_eq!(output.status.code(), Some(2), "{}", spoken(&output));
    let wanted = format!("the run began at commit {base}, which this repository does not have; fetch it");
    assert!(spoken(&output).contains(&wanted), "{}", spoken(&output));

    // A recorded file that is another one now.
    let changed = recorded.text().replace("broken, and not committed\\n\"}}}", "broken otherwise\\n\"}}}");
    assert_ne!(changed, recorded.text());
    std::fs::write(recorded.cassette(), changed).unwrap();
    let output = recorded.assert();
    assert_eq!(output.status.code(), Some(2), "{}", spoken(&output));
    assert!(spoken(&output).contains("with the 4 recorded files gives the tree"), "{}", spoken(&output));
}

const CANARY: &str = "cnry-7Qx/9+\"Zk\\w4v8";

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_the_environment_gets_into_a_cassette() {
    let repo = project();
    repo.write("mine.txt", format!("my own {CANARY}\n"));
    let hex: String = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
    let unicode: String = CANARY.chars().map(|c| format!("\\u{:04x}", c as u32)).collect();
    let file = repo.path().join("out.sh");
    repo.write(
        "out.sh",
        format!(
            "cat mine.txt; tail -c 20 mine.txt | head -c 19 | base64; echo {hex}; tail -c 20 mine.txt | head -c 19 | od -An -tx1; \
             printf '%s\\n' '{unicode}'\n"
        ),
    );
    let printed = ok(common::git().args(["-c", "alias.x=!sh out.sh", "x"]).current_dir(repo.path()));
    assert!(printed.contains(CANARY) && file.exists());
    let encoded = printed.lines().nth(1).unwrap().to_owned();
    let server = ModelServer::start(vec![
        Rule::when().turn(0).reply(
            Reply::call("shell", json!({ "command": "sh out.sh" }))
                .and_call("shell", json!({ "command": format!("echo '{CANARY}'") }))
                .saying(&format!("The key is {CANARY}, or {encoded}, or {hex}.")),
        ),
        Rule::when()
            .turn(1)
            .reply(Reply::malformed("shell", &format!("{{\"command\": \"echo {unicode}\"")).saying("Again.")),
        Rule::when().turn(2).reply(Reply::call("write_file", json!({ "path": "value.txt", "content": "right\n" }))),
        Rule::when().turn(3).reply(Reply::call("finish", json!({ "summary": format!("Done: {unicode}") }))),
    ])
    .await;
    let folder = tempfile::tempdir().unwrap();
    let cassette = folder.path().join("secret.jsonl");
    let task = format!("task=Use {CANARY}");
    let mut command =
        with_model(repo.codeforge(&["run", "mend", "--sandbox", "none", "-i", &task, "--record"]), &server);
    command.arg(&cassette).env("SERVICE_TOKEN", CANARY);
    let output = finished(command).await;
    assert!(output.status.success(), "{}\n{:#?}", spoken(&output), server.unmatched());
    let asked = server.requests().last().unwrap().to_string();
    assert!(asked.contains(&hex) && asked.contains(&encoded), "the run itself had it: {asked}");

    let text = std::fs::read_to_string(&cassette).unwrap();
    let json = serde_json::to_string(CANARY).unwrap();
    let spaced: String = CANARY.bytes().map(|byte| format!(" {byte:02x}")).collect();
    for form in [
        CANARY,
        json.trim_matches('"'),
        encoded.trim_end_matches('='),
        &hex,
        &spaced,
        &unicode,
        &unicode.replace('\\', "\\\\"),
    ] {
        assert!(!text.contains(form), "{form} is in the cassette");
    }
    assert!(!codeforge::text::contains_secret(&text, &[CANARY]));
    assert!(text.contains("The key is ***, or ***"), "{text}");
    assert!(text.contains("it holds a secret"), "the file that was not committed is left out");
    // What is left still goes through.
    let mut replay = codeforge();
    ok(replay.arg("replay").arg(&cassette));
    let output = repo.codeforge(&["replay", "--assert", cassette.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", spoken(&output));
    assert!(spoken(&output).contains("the recording lacks `mine.txt` (it holds a secret)"), "{}", spoken(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_killed_and_resumed_is_recorded_whole() {
    let repo = project();
    let folder = tempfile::tempdir().unwrap();
    let cassette = folder.path().join("mend.jsonl");
    let mut rules = vec![Rule::when().turn(2).reply(Reply::hang())];
    rules.extend(script());
    let server = ModelServer::start(rules).await;
    let mut command = with_model(
        repo.codeforge(&["run", "mend", "-i", "task=Make it right", "--sandbox", "none", "--record"]),
        &server,
    );
    command.arg(&cassette).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    eventually("the third request", || (server.requests().len() == 3).then_some(())).await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!cassette.exists());
    let runs: Value = serde_json::from_str(&ok(&mut repo.codeforge(&["runs", "list", "--format", "json"]))).unwrap();
    let id = runs[0]["run"]["id"].as_str().unwrap().to_owned();
    let resumed = finished(with_model(repo.codeforge(&["resume", &id, "--format", "json"]), &server)).await;
    assert!(resumed.status.success(), "{}", spoken(&resumed));
    server.finished();

    let recorded = Recorded { repo, folder, run: resumed };
    let text = recorded.text();
    assert!(text.contains("\"outcome_unknown\"") && text.contains("\"resumed\""));
    assert_eq!(lines(&text).iter().filter(|line| line.get("request").is_some()).count(), 7, "the cut one too");
    let output = recorded.replay(&["--format", "json"]);
    assert!(output.status.success(), "{}", spoken(&output));
    assert_eq!(account(&output.stdout), account(&recorded.run.stdout));
    let same = recorded.assert();
    assert!(same.status.success(), "{}", spoken(&same));
    assert!(String::from_utf8_lossy(&same.stdout).contains("6 model calls"), "{}", spoken(&same));
}

#[test]
fn answers_alone_of_format_1_still_play() {
    let repo = project();
    let tape = repo.path().with_extension("jsonl");
    let call = |name: &str, arguments: Value| json!({ "when": "You are the mender", "answer": { "text": "", "calls": [{ "name": name, "arguments": arguments }] } });
    let text = format!(
        "{{\"codeforge_cassette\":1}}\n{}\n{}\n",
        call("write_file", json!({ "path": "value.txt", "content": "right\n" })),
        call("finish", json!({ "summary": "done" }))
    );
    std::fs::write(&tape, text).unwrap();
    let name = tape.to_str().unwrap();
    ok(&mut repo.codeforge(&["run", "mend", "-i", "task=x", "--sandbox", "none", "--cassette", name]));
    let output = repo.codeforge(&["replay", name]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        spoken(&output).contains(":1: a cassette of format 1 holds a model's answers alone; play it with"),
        "{}",
        spoken(&output)
    );
    // What is no cassette is not written over.
    let readme = repo.path().join("README.md");
    let output = repo
        .codeforge(&["run", "mend", "-i", "task=x", "--sandbox", "none", "--cassette", name, "--record", "README.md"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", spoken(&output));
    assert!(spoken(&output).contains("is no cassette"), "{}", spoken(&output));
    assert_eq!(std::fs::read_to_string(readme).unwrap(), "A value.\n");
    std::fs::remove_file(tape).unwrap();
}

/// The line of a text (from 1) that contains a part.
fn line_with(text: &str, part: &str) -> usize {
    text.lines().position(|line| line.contains(part)).unwrap_or_else(|| panic!("no line with {part}")) + 1
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_named_with_its_line_and_no_cassette_brings_it_down() {
    let recorded = Recorded::new().await;
    let text = recorded.text();
    let half = line_with(&text, "\"answered\"");
    let cut: String = text
        .lines()
        .enumerate()
        .map(|(at, line)| if at + 1 == half { format!("{}\n", &line[..line.len() / 2]) } else { format!("{line}\n") })
        .collect();
    let without = |part: &str| -> String {
        let at = line_with(&text, part) - 1;
        text.lines().enumerate().filter(|(it, _)| *it != at).map(|(_, line)| format!("{line}\n")).collect()
    };
    let prepared = line_with(&text, "\"prepared\"");
    for (damaged, wanted) in [
        (cut, format!(":{half}: a damaged line: ")),
        (
            text.replace("\"type\":\"prepared\"", "\"type\":\"teleported\""),
            format!(
                ":{prepared}: a row that this version ({}) cannot read: unknown variant `teleported`",
                env!("CARGO_PKG_VERSION")
            ),
        ),
        (
            text.replacen("{\"row\":", "{\"wave\":", 1),
            ":2: a line of an unknown kind (`wave`): recorded by version".into(),
        ),
        (
            text.replace("\"body\":\"You are the mender. Work with care", "\"body\":\"Work as you like"),
            format!(":{}: the text `", line_with(&text, "\"body\":\"You are the mender")),
        ),
        (without("\"prepared\""), format!(":{prepared}: row ")),
        (
            without("\"end\":"),
            ": its last line is missing: it was cut; write it again with `codeforge runs export ".into(),
        ),
        (without("\"body\":\"You are the mender"), "names the text `".into()),
        (
            text.replacen("\"codeforge_cassette\":2", "\"codeforge_cassette\":7", 1),
            ":1: cassette format 7 is not known".into(),
        ),
        ("nonsense\n".into(), ":1: not a cassette of a run".into()),
        (String::new(), " is empty".into()),
    ] {
        std::fs::write(recorded.cassette(), damaged).unwrap();
        for more in [&[][..], &["--assert"]] {
            let output = recorded.replay(more);
            let said = spoken(&output);
            assert_eq!(output.status.code(), Some(2), "{wanted}\n{said}");
            assert!(said.contains(&format!("mend.jsonl{wanted}")) || said.contains(&wanted), "{wanted}\n{said}");
            assert!(said.contains("record the run again") || said.contains("codeforge run …"), "{said}");
        }
    }
    tokio::task::spawn_blocking(move || no_mutation_panics(&text)).await.unwrap();
}

/// Lines lost, doubled, swapped, cut; values replaced by others.
fn no_mutation_panics(text: &str) {
    let original: Vec<&str> = text.lines().collect();
    let whole = codeforge::cassette::read(text, "tape").unwrap();
    let values = prop_oneof![
        Just(json!(null)),
        Just(json!(0)),
        Just(json!(u64::MAX)),
        Just(json!(i64::MIN)),
        Just(json!(-1)),
        Just(json!("")),
        Just(json!("code")),
        Just(json!([])),
        Just(json!({})),
        Just(json!(true)),
    ];
    let config = ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(kind in 0..6, at in any::<prop::sample::Index>(), other in any::<prop::sample::Index>(), value in values)| {
        let mut lines: Vec<String> = original.iter().map(|line| (*line).to_owned()).collect();
        let (at, with) = (at.index(lines.len()), other.index(lines.len()));
        match kind {
            0 => { lines.remove(at); }
            1 => lines.insert(with, original[at].to_owned()),
            2 => lines.swap(at, with),
            3 => { let line = &mut lines[at]; let cut = (0..=other.index(line.len() + 1)).rev().find(|cut| line.is_char_boundary(*cut)).unwrap(); line.truncate(cut); }
            _ => {
                let mut line: Value = serde_json::from_str(&lines[at]).unwrap();
                let mut places = Vec::new();
                leaves(&line, String::new(), &mut places);
                let place = &places[other.index(places.len())];
                *line.pointer_mut(place).unwrap() = value;
                lines[at] = line.to_string();
            }
        }
        if let Ok(recording) = codeforge::cassette::read(&lines.join("\n"), "tape") {
            let folded = codeforge::engine::refold(&recording.rows);
            let account = folded.ok().map(|folded| codeforge::run::account(&folded.state));
            let side = |recording| codeforge::cassette::Side { recording, account: account.as_ref() };
            let compared = codeforge::cassette::compare(side(&recording), side(&whole));
            let _ = codeforge::report::replay::render("tape", &compared, false);
            let _ = codeforge::engine::Playback::of(&recording);
        }
    });
}

/// The places of all values within a value, as JSON pointers.
fn leaves(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                leaves(value, format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Array(items) => {
            for (place, value) in items.iter().enumerate() {
                leaves(value, format!("{at}/{place}"), found);
            }
        }
        _ => {}
    }
    found.push(at);
}
