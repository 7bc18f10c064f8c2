//! A recorded run, gone through without a model and made again with everything but the model.

mod common;

use common::recorded::{Recorded, account, finished, lines, project, rewritten, script, with_model};
use common::{ModelServer, Reply, Rule, codeforge, eventually, git, ok, spoken};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

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
