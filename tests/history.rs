//! What a model is shown of a long conversation, and of earlier runs: the real binary, a real repository, a provider
//! over real HTTP that remembers what it was sent.

mod common;

use async_trait::async_trait;
use codeforge::adapter::{clock::SystemClock, gateway, git, sandbox, sqlite};
use codeforge::engine::Engine;
use codeforge::model::account::Ending;
use codeforge::model::chat::{Bill, ChatAnswer, ChatRequest, ModelError, ModelRef, RawCall, StopReason};
use codeforge::model::exec::DriverKind;
use codeforge::model::progress::Progress;
use codeforge::model::usage::CostSource;
use codeforge::plan;
use codeforge::port::model::ChatModel;
use codeforge::port::watch::Watch;
use codeforge::workflow::{self, Source};
use common::model_server::Asked;
use common::{ModelServer, Reply, Rule, TestRepo, eventually, ok, spoken};
use serde_json::{Value, json};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

const POLICY: &str = "
name: open
rules: [{ tool: \"*\", decision: allow }]
default: allow
limits: { max_steps: 30, max_cost_usd: 5 }
";

/// A mode that keeps little.
const READER: &str = "
name: reader
description: Reads, changes, reads again.
tools: [read_file, edit_file, shell]
prompt: You are the reader.
history:
  - remove: \"progress \\\\d+%\\n?\"
  - closed_windows
  - last_observations: 8
  - cache_control
  - token_limit: 60000
";

const READ: &str = "
name: read
policy: open
steps:
  look: { mode: reader, prompt: Read everything. }
deliver: none
";

fn library_files() -> [(&'static str, &'static str); 3] {
    [("policies/open.yml", POLICY), ("modes/reader.yml", READER), ("workflows/read.yml", READ)]
}

fn reading_repo() -> TestRepo {
    let repo = TestRepo::empty();
    for number in 0..12 {
        repo.write(&format!("f{number}.txt"), format!("line of file {number}\n").repeat(30));
    }
    for (path, text) in library_files() {
        repo.write(&format!(".codeforge/{path}"), text);
    }
    repo.commit("first");
    repo
}

/// The call of each turn: files are read one after the other, the first one is edited, a command prints its progress.
fn call_of(turn: usize) -> (&'static str, Value) {
    match turn {
        3 => {
            let old = "line of file 0\n".repeat(30);
            ("edit_file", json!({ "path": "f0.txt", "old": old, "new": "changed\n" }))
        }
        4 => ("shell", json!({ "command": "printf 'progress 10%%\\nprogress 99%%\\nbuilt\\n'" })),
        5 => ("read_file", json!({ "path": "f1.txt" })),
        12 => ("finish", json!({ "summary": "read" })),
        turn => ("read_file", json!({ "path": format!("f{turn}.txt") })),
    }
}

fn command(repo: &TestRepo, server: &ModelServer, arguments: &[&str]) -> Command {
    let mut command = repo.codeforge(arguments);
    command
        .env("CODEFORGE_LLM_BASE_URL", server.url())
        .env("CODEFORGE_LLM_API_KEY", "sk-canary-0123456789")
        .env("CODEFORGE_MODEL", "scripted")
        .env("CODEFORGE_LLM_PRICE_INPUT", "1")
        .env("CODEFORGE_LLM_PRICE_OUTPUT", "1");
    command
}

#[test]
fn a_long_conversation_is_sent_in_stubs_and_each_request_begins_with_the_last_but_for_the_cuts() {
    let repo = reading_repo();
    let turns = Rule::when().system("You are the reader").always().answer(|asked| {
        let (tool, arguments) = call_of(asked.turn());
        Reply::call(tool, arguments)
    });
    let server = ModelServer::start_blocking(vec![turns]);
    ok(&mut command(&repo, &server, &["run", "read", "--sandbox", "none"]));
    let asked = server.asked();
    assert_eq!(asked.len(), 13);
    let messages = |n: usize| asked[n].body["messages"].as_array().unwrap().clone();
    let cuts: Vec<usize> = (1..13).filter(|n| !messages(*n).starts_with(&messages(n - 1))).collect();
    assert_eq!(cuts, [6, 12], "the provider's cache holds in between");

    let results = |n: usize| asked[n].tool_results();
    assert!(results(5).iter().take(3).all(|text| text.contains("line of file")), "nothing is cut before it is due");
    let sixth = results(6);
    assert!(sixth[0].contains("[read_file f0.txt") && sixth[0].contains("changed after this"), "{}", sixth[0]);
    assert!(sixth[1].contains("[read_file f1.txt") && sixth[1].contains("newer view"), "{}", sixth[1]);
    assert!(sixth[2].contains("line of file 2") && sixth[5].contains("line of file 1"));
    assert!(sixth[4].contains("built") && !sixth[4].contains("progress"), "{}", sixth[4]);
    let last = results(12);
    assert!(last[2].contains("[read_file f2.txt: result left out to save room"), "{}", last[2]);
    assert_eq!(last[4..].iter().filter(|text| text.contains("left out")).count(), 0, "eight are whole");
    assert_eq!(last.len(), 12, "every call still has its result");
}

/// Plays the same conversation and notes what it was asked.
#[derive(Default)]
struct Noting(Mutex<Vec<ChatRequest>>);

#[async_trait]
impl ChatModel for Noting {
    async fn ask(
        &self,
        request: &ChatRequest,
        _: &(dyn for<'a> Fn(&'a str) + Send + Sync),
    ) -> Result<ChatAnswer, ModelError> {
        let mut noted = self.0.lock().unwrap();
        let (name, arguments) = call_of(noted.len());
        let id = format!("c{}", noted.len());
        noted.push(request.clone());
        Ok(ChatAnswer {
            text: String::new(),
            calls: vec![RawCall { id, name: name.into(), arguments: arguments.to_string() }],
            stop: StopReason::ToolCalls,
            bill: Bill { model: "noting".into(), usage: None, cost: None, source: CostSource::Unknown },
            requests: 1,
            reasoning: Vec::new(),
        })
    }
}

struct Nobody;
impl Watch for Nobody {
    fn saw(&self, _: &Progress) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_marked_for_the_providers_cache_where_the_next_one_begins_the_same() {
    let repo = reading_repo();
    let mut sources = workflow::builtin();
    for (path, text) in library_files() {
        sources.push(Source { path: format!(".codeforge/{path}"), text: text.into(), builtin: false });
    }
    let library = workflow::load(&sources, &|_| None);
    let model = ModelRef {
        name: "noting".into(),
        provider: "test".into(),
        model: "noting".into(),
        context_window: 100_000,
        max_output: 1000,
        tools: true,
        ..ModelRef::default()
    };
    let request = plan::Request {
        workflow: "read".into(),
        driver: Some(DriverKind::None),
        models: vec![model],
        allow_unpriced: true,
        ..plan::Request::default()
    };
    let plan = plan::compile(&library, &request).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let repository = git::open(repo.path()).unwrap();
    let noting = Arc::new(Noting::default());
    let engine = Engine {
        store: sqlite::open(repository.state_dir(), Arc::new(SystemClock)).await.unwrap(),
        drivers: sandbox::drivers(&sandbox::Host { path: "/usr/bin:/bin".into(), ..sandbox::Host::default() }),
        models: Arc::clone(&noting) as Arc<dyn ChatModel>,
        gateway: Arc::new(gateway::HttpGateway::new(gateway::Times::default(), Arc::new(SystemClock))),
        clock: Arc::new(SystemClock),
        watch: Arc::new(Nobody),
        owner: sqlite::owner(),
        secrets: vec![],
        outlet: codeforge::engine::Outlet::default(),
        repository,
    };
    let base = engine.repository.base().unwrap();
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let outcome = engine.start("test0001".into(), plan, base, stopped).await.unwrap();
    assert_eq!(outcome.state.ending, Some(Ending::Done), "{}", outcome.state.reason);

    let noted = noting.0.lock().unwrap();
    let marks: Vec<&[usize]> = noted.iter().map(|request| request.cache_marks.as_slice()).collect();
    assert_eq!(marks[0], [0, 1], "after the system prompt and the first prompt");
    assert_eq!(marks[1], [0, 1, 3]);
    assert_eq!(marks[5], [0, 1, 9, 11], "and where the last request ended, and at the end");
    assert_eq!(marks[6], [0, 1, 13], "the first cut changed the first result");
    assert_eq!(marks[12], [0, 1, 5, 25], "the second one the third");
    for pair in noted.windows(2) {
        for mark in pair[1].cache_marks.iter().rev().skip(1) {
            assert_eq!(pair[0].messages[..=*mark], pair[1].messages[..=*mark], "mark {mark}");
        }
    }
}

const LEARN: &str = "
name: learn
inputs: { task: { type: string, required: true } }
policy: open
steps:
  code: { mode: coder, prompt: \"{{ inputs.task }}\", gates: [check], attempts: 2 }
deliver: none
";

const GATES: &str = "gates: { check: { run: \"grep -q right value.txt\", on_fail: retry } }\n";

fn learning_repo(experience: &str) -> TestRepo {
    let repo = TestRepo::with(&[("value.txt", "none\n")]);
    repo.write(".codeforge/policies/open.yml", POLICY);
    repo.write(".codeforge/workflows/learn.yml", LEARN);
    repo.write(".codeforge/config.yml", format!("{GATES}{experience}"));
    repo.commit("configured");
    repo
}

const TASK: &str = "task=parse() drops the last field of a quoted line";
const LIKE_IT: &str = "task=parse() drops the first field of a quoted line";
const OTHER: &str = "task=Translate the manual into Polish";

/// Writes, looks, ends; says a secret, which must not come back.
fn coder() -> Rule {
    Rule::when().system("You are the coder").always().answer(|asked| match asked.turn() {
        0 => Reply::call("write_file", json!({ "path": "value.txt", "content": "right\n" })),
        1 => Reply::call("shell", json!({ "command": "cat value.txt" }))
            .and_call("shell", json!({ "command": "ls nowhere" })),
        _ => Reply::call("finish", json!({ "summary": "The quotes were the cause; key sk-canary-0123456789." })),
    })
}

fn learn(repo: &TestRepo, server: &ModelServer, task: &str) -> String {
    ok(&mut command(repo, server, &["run", "learn", "--sandbox", "none", "-i", task]));
    latest(repo)
}

/// The id of the latest run.
fn latest(repo: &TestRepo) -> String {
    let runs: Value = serde_json::from_str(&ok(&mut repo.codeforge(&["runs", "list", "--format", "json"]))).unwrap();
    runs[0]["run"]["id"].as_str().unwrap().to_owned()
}

/// The first prompt of the conversation that was asked last.
fn first_prompt(server: &ModelServer) -> String {
    server.asked().last().map(Asked::user).unwrap()
}

fn pool(repo: &TestRepo) -> Vec<String> {
    let text = ok(&mut repo.codeforge(&["experience", "list", "--format", "json"]));
    let all: Vec<Value> = serde_json::from_str(&text).unwrap();
    all.iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_run_learns_from_the_one_before_it_until_that_is_forgotten() {
    let repo = learning_repo("experience: { enabled: true, threshold: 0.6 }\n");
    let server = ModelServer::start_blocking(vec![coder()]);
    let first = learn(&repo, &server, TASK);
    assert!(!first_prompt(&server).contains("Earlier runs"), "there was none");
    assert_eq!(pool(&repo), [format!("{first}.code")]);

    let second = learn(&repo, &server, LIKE_IT);
    let prompt = first_prompt(&server);
    assert!(prompt.contains(&format!("Run {first}, step `code`:\n<untrusted-data")), "{prompt}");
    for word in ["drops the last field", "The quotes were the cause; key ***", "Files changed: value.txt", "check"] {
        assert!(prompt.contains(word), "{word}: {prompt}");
    }
    assert!(prompt.contains("Commands that passed: cat value.txt\n"), "what failed is not among them: {prompt}");
    assert!(!prompt.contains("canary"), "{prompt}");
    let events = ok(&mut repo.codeforge(&["runs", "events", &second, "--format", "json"]));
    let recalled: Vec<Value> = events
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|row| row["type"] == "recalled")
        .collect();
    assert_eq!(recalled.len(), 1, "decided once");
    assert_eq!(recalled[0]["entries"][0]["id"], format!("{first}.code"));
    assert!(recalled[0]["entries"][0]["score"].as_f64().unwrap() >= 0.6);

    ok(&mut repo.codeforge(&["replay", &second]));

    learn(&repo, &server, OTHER);
    assert!(!first_prompt(&server).contains("Earlier runs"), "another task altogether");

    let page = ok(&mut repo.codeforge(&["experience", "show", &first]));
    assert!(
        page.contains("The quotes were the cause; key ***") && page.contains("commands that passed\n  cat"),
        "{page}"
    );
    let unknown = repo.codeforge(&["experience", "forget", "zzzz"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(2), "{}", spoken(&unknown));
    ok(&mut repo.codeforge(&["experience", "forget", &first]));
    ok(&mut repo.codeforge(&["experience", "forget", &format!("{second}.code")]));
    learn(&repo, &server, LIKE_IT);
    assert!(!first_prompt(&server).contains("Earlier runs"), "{}", first_prompt(&server));
    ok(&mut repo.codeforge(&["experience", "forget", "--all"]));
    assert!(pool(&repo).is_empty());
}

#[test]
fn steps_that_begin_together_and_are_shown_earlier_runs_replay() {
    let repo = learning_repo("experience: { enabled: true }\n");
    let look = "needs: [code], mode: coder, writes: false, prompt: \"{{ inputs.task }}\"";
    let together = LEARN.replace("deliver:", &format!("  one: {{ {look} }}\n  two: {{ {look} }}\ndeliver:"));
    assert_ne!(together, LEARN);
    repo.write(".codeforge/workflows/learn.yml", together);
    let server = ModelServer::start_blocking(vec![coder()]);
    learn(&repo, &server, TASK);
    let run = learn(&repo, &server, LIKE_IT);
    assert!(first_prompt(&server).contains("Earlier runs"));
    ok(&mut repo.codeforge(&["replay", &run]));
}

#[test]
fn nothing_is_kept_unless_it_is_asked_for_and_the_gates_passed() {
    let off = learning_repo("");
    let server = ModelServer::start_blocking(vec![coder()]);
    learn(&off, &server, TASK);
    learn(&off, &server, LIKE_IT);
    assert!(!first_prompt(&server).contains("Earlier runs") && pool(&off).is_empty(), "off by default");

    // A mode may do without what the configuration has, and a run that fails leaves nothing.
    let repo = learning_repo("experience: { enabled: true }\n");
    let wrong = Rule::when().always().answer(|asked| match asked.turn() {
        0 => Reply::call("write_file", json!({ "path": "value.txt", "content": "wrong\n" })),
        _ => Reply::call("finish", json!({ "summary": "done" })),
    });
    let failing = ModelServer::start_blocking(vec![wrong]);
    let failed = command(&repo, &failing, &["run", "learn", "--sandbox", "none", "-i", TASK]).output().unwrap();
    assert_eq!(failed.status.code(), Some(1), "{}", spoken(&failed));
    assert!(pool(&repo).is_empty());
    let coder_mode = ok(&mut repo.codeforge(&["modes", "show", "coder"]));
    repo.write(".codeforge/modes/coder.yml", format!("{coder_mode}experience: {{ enabled: false }}\n"));
    learn(&repo, &server, TASK);
    assert!(pool(&repo).is_empty(), "this mode does not");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_step_was_shown_stays_with_it_when_it_is_resumed_after_a_kill() {
    let repo = learning_repo("experience: { enabled: true }\n");
    let server = ModelServer::start(vec![coder()]).await;
    let first = learn(&repo, &server, TASK);

    // The second run's journal knows this address: the run is resumed with it.
    let hanging = ModelServer::start(vec![Rule::any(Reply::hang()), coder()]).await;
    let mut run = command(&repo, &hanging, &["run", "learn", "--sandbox", "none", "-i", LIKE_IT]);
    let mut child = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the second run asks", || (!hanging.asked().is_empty()).then_some(())).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let shown = first_prompt(&hanging);
    assert!(shown.contains(&format!("Run {first}, step `code`")), "{shown}");
    ok(&mut repo.codeforge(&["experience", "forget", "--all"]));
    assert!(pool(&repo).is_empty());

    let second = latest(&repo);
    ok(&mut command(&repo, &hanging, &["resume", &second]));
    assert!(hanging.asked().len() > 1);
    assert_eq!(first_prompt(&hanging), shown, "the same, though the pool is empty");
    assert_eq!(pool(&repo), [format!("{second}.code")], "and it leaves its own");
}
