//! What is shipped, run: every workflow to its end, every mode under every policy, with the real binary, a real
//! sandbox and a scripted model.

mod common;

use codeforge::workflow;
use common::{Asked, ModelServer, Reply, Rule, Script, TestRepo, spoken};
use serde_json::{Value, json};
use std::process::Output;

const CONFIG: &str = "
gates:
  tests: { run: \"grep -q right value.txt\", on_fail: retry }
  lint: { run: \"! grep -q ' $' value.txt\", on_fail: rollback }
";

fn project() -> TestRepo {
    let repo = TestRepo::with(&[("value.txt", "wrong\n"), ("README.md", "A value.\n")]);
    repo.write(".codeforge/config.yml", CONFIG);
    repo.commit("configured");
    repo
}

async fn run(repo: &TestRepo, server: &ModelServer, arguments: &[&str]) -> Output {
    let mut command = repo.codeforge(&[&["run"], arguments, &["--sandbox", "native", "-v"]].concat());
    command.env("CODEFORGE_LLM_BASE_URL", server.url()).env("CODEFORGE_MODEL", "scripted");
    command.env("CODEFORGE_LLM_PRICE_INPUT", "1").env("CODEFORGE_LLM_PRICE_OUTPUT", "1");
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn write(text: &str) -> Reply {
    Reply::call("write_file", json!({ "path": "value.txt", "content": text }))
}

fn finish() -> Reply {
    Reply::call("finish", json!({ "summary": "Done." }))
}

fn finish_with(output: Value) -> Reply {
    Reply::call("finish", json!({ "summary": "Done.", "output": output }))
}

fn planned() -> Rule {
    let plan = json!({ "title": "Make the value right", "summary": "One word.", "steps": [
        { "what": "Replace the word", "files": ["value.txt"] }] });
    Rule::when().system("You are the architect").user("The value is wrong").turn(0).reply(finish_with(plan))
}

fn coded(text: &str) -> Script {
    let coder = || Rule::when().system("You are the coder").user("Replace the word");
    vec![coder().turn(0).reply(write(text)), coder().turn(1).reply(finish())]
}

const TASK: [&str; 2] = ["-i", "task=The value is wrong"];

/// The reviewer sends it back once: the whole workflow, its bounded jump included.
#[tokio::test(flavor = "multi_thread")]
async fn fix_plans_makes_tests_reviews_and_repairs() {
    let repo = project();
    let verdict = |approved: bool| {
        let findings = json!([{ "severity": "high", "file": "value.txt", "line": 1, "what": "It ought to shout" }]);
        finish_with(
            json!({ "approved": approved, "summary": "Looked.", "findings": if approved { json!([]) } else { findings } }),
        )
    };
    let reviewer = || Rule::when().system("You are the reviewer").turn(0);
    let repairs = || Rule::when().system("You are the debugger").user("It ought to shout");
    let mut script = vec![planned()];
    script.extend(coded("right\n"));
    script.extend([
        Rule::when().system("You are the tester").user("The value is wrong").turn(0).reply(finish()),
        reviewer().reply(verdict(false)),
        repairs().turn(0).reply(write("right!\n")),
        repairs().turn(1).reply(finish()),
        reviewer().reply(verdict(true)),
    ]);
    let server = ModelServer::start(script).await;
    let output = run(&repo, &server, &[&["fix"], &TASK[..]].concat()).await;
    assert!(output.status.success(), "{}\n{:#?}", spoken(&output), server.unmatched());
    server.finished();
    assert!(delivered(&repo).contains("+right!"), "{}", spoken(&output));
    assert_eq!(repo.read("value.txt"), "wrong\n", "the tree is the user's");
}

#[tokio::test(flavor = "multi_thread")]
async fn implement_tries_again_with_what_the_gate_said() {
    let repo = project();
    let mut script = vec![planned()];
    script.extend(coded("still wrong\n"));
    let again = || Rule::when().system("You are the coder").user("Gate `tests` failed");
    script.extend([again().turn(0).reply(write("right\n")), again().turn(1).reply(finish())]);
    let server = ModelServer::start(script).await;
    let output = run(&repo, &server, &[&["implement"], &TASK[..]].concat()).await;
    assert!(output.status.success(), "{}\n{:#?}", spoken(&output), server.unmatched());
    server.finished();
    assert!(delivered(&repo).contains("+right\n"), "{}", spoken(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn review_says_what_it_found_and_changes_nothing() {
    let repo = project();
    let review = json!({ "approved": false, "summary": "One word is wrong.", "findings": [
        { "severity": "high", "file": "value.txt", "line": 1, "what": "The value is wrong" }] });
    let reviewer = || Rule::when().system("You are the reviewer");
    let server = ModelServer::start(vec![
        reviewer().turn(0).reply(Reply::call("shell", json!({ "command": "touch made" }))),
        reviewer().turn(1).last("this policy protects every path").reply(finish_with(review)),
    ])
    .await;
    let output = run(&repo, &server, &["review"]).await;
    assert!(output.status.success(), "{}\n{:#?}", spoken(&output), server.unmatched());
    server.finished();
    assert_eq!(repo.status(), "");
}

/// The delivered patch.
fn delivered(repo: &TestRepo) -> String {
    let runs = std::fs::read_dir(repo.path().join(".codeforge/runs")).unwrap();
    let patches = runs.map(|entry| entry.unwrap().path().join("change.patch")).filter(|path| path.exists());
    patches.map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// An output that fits a shipped schema.
fn fitting(schema: &str) -> Value {
    match schema {
        "security_report" => json!({ "summary": "Looked.", "findings": [] }),
        "review" => json!({ "approved": true, "summary": "Good." }),
        other => panic!("no output for `{other}` yet: add one"),
    }
}

/// Every mode does its work with exactly the tools that it lists; who only reads writes nothing, whatever it tries.
#[tokio::test(flavor = "multi_thread")]
async fn every_mode_works_with_the_tools_it_lists_under_every_policy() {
    let library = workflow::load(&workflow::builtin(), &|_| None);
    assert_eq!(library.modes.len(), 12);
    for policy in library.policies.keys() {
        let repo = project();
        let (mut steps, mut script, mut writers) = (String::new(), Script::new(), Vec::new());
        for (name, mode) in &library.modes {
            let doc = serde_json::to_value(&mode.doc.tools).unwrap();
            let mut tools: Vec<String> =
                doc.as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect();
            tools.push("finish".into());
            tools.sort();
            let writes = tools.iter().any(|tool| tool == "write_file");
            if writes {
                writers.push(name.clone());
            }
            steps.push_str(&format!("  {name}: {{ mode: {name}, prompt: \"Work as {name}\" }}\n"));
            let schema = mode.doc.output.as_ref().map(|output| serde_json::to_value(output).unwrap());
            let schema = schema.and_then(|output| output["schema"].as_str().map(str::to_owned));
            let this = || Rule::when().user(&format!("Work as {name}"));
            let offered = tools.clone();
            script.push(
                this()
                    .turn(0)
                    .matches("exactly its tools", move |asked: &Asked| {
                        let mut now = asked.tools();
                        now.sort_unstable();
                        now == offered
                    })
                    .matches("a system prompt", |asked| asked.system().len() > 200)
                    .reply(Reply::call("write_file", json!({ "path": format!("by-{name}.txt"), "content": "x\n" }))),
            );
            let refused = match (writes, policy.as_str()) {
                (false, _) => Some("write_file"),
                (true, "plan-readonly") => Some("this policy only reads"),
                (true, _) => None,
            };
            let then = this().turn(1).last(refused.unwrap_or(&format!("by-{name}.txt")));
            script.push(then.reply(schema.map_or_else(finish, |schema| finish_with(fitting(&schema)))));
        }
        let reads = policy == "plan-readonly";
        let mount = if policy.starts_with("trusted-mount") { "sandbox: { exec_mode: sandbox }\n" } else { "" };
        let deliver = if reads { "none" } else { "{ as: patch, title: Made }" };
        let workflow = format!(
            "name: all\npolicy: {policy}\n{mount}gates:\n  tests: {{ run: \"true\" }}\nsteps:\n{steps}deliver: {deliver}\n"
        );
        repo.write(".codeforge/workflows/all.yml", workflow);
        repo.commit("all modes");
        let server = ModelServer::start(script).await;
        let output = run(&repo, &server, &["all"]).await;
        // Who was asked to change something and could not is not a success.
        let code = if reads { 1 } else { 0 };
        assert_eq!(output.status.code(), Some(code), "{policy}\n{}\n{:#?}", spoken(&output), server.unmatched());
        server.finished();
        let patch = delivered(&repo);
        for name in library.modes.keys() {
            let wrote = patch.contains(&format!("by-{name}.txt"));
            assert_eq!(wrote, writers.contains(name) && !reads, "{policy}: {name}\n{}", spoken(&output));
        }
        assert_eq!(repo.status(), "", "{policy}");
    }
}
