//! What goes wrong, and how it ends: exit code, words, number of requests. The real binary, a real repository, a
//! provider that misbehaves over real HTTP.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]
mod common;

use common::tls::TlsFront;
use common::{ModelServer, Reply, Rule, Script, TestRepo, Wire, eventually, ok, spoken};
use futures::stream::{self, StreamExt};
use serde_json::{Value, json};
use std::process::{Command, Output};
use std::time::Duration;

const WORKFLOW: &str = "
name: work
inputs: { task: { type: string, default: Do it } }
policy: open
steps:
  code: { mode: coder, prompt: \"{{ inputs.task }}\" }
deliver: { as: patch, title: Done }
";

const POLICY: &str = "
name: open
rules:
  - { tool: shell, command: [\"rm *\"], decision: deny, reason: nothing is removed here }
  - { tool: \"*\", decision: allow }
default: allow
limits: { max_steps: 12, max_cost_usd: 1, stall: { threshold: 3 } }
";

fn repo_with(workflow: &str) -> TestRepo {
    let repo = TestRepo::with(&[("README.md", "hello\n")]);
    repo.write(".codeforge/workflows/work.yml", workflow);
    repo.write(".codeforge/policies/open.yml", POLICY);
    repo.commit("configured");
    repo
}

fn command(repo: &TestRepo, server: &ModelServer, arguments: &[&str]) -> Command {
    let mut command = repo.codeforge(arguments);
    command
        .env("CODEFORGE_LLM_BASE_URL", server.url())
        .env("CODEFORGE_LLM_API_KEY", "sk-canary-0123456789")
        .env("CODEFORGE_MODEL", "scripted")
        .env("CODEFORGE_LLM_PRICE_INPUT", "1")
        .env("CODEFORGE_LLM_PRICE_OUTPUT", "1")
        .env("CODEFORGE_LLM_TIMEOUT_S", "0.5");
    command
}

async fn finished(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn write() -> Reply {
    Reply::call("write_file", json!({ "path": "new.txt", "content": "new\n" }))
}

fn finish() -> Reply {
    Reply::call("finish", json!({ "summary": "done" }))
}

struct End {
    code: Option<i32>,
    said: String,
    requests: usize,
    patch: bool,
}

async fn run(script: Script) -> End {
    let repo = repo_with(WORKFLOW);
    let server = ModelServer::start(script).await;
    let output = finished(command(&repo, &server, &["run", "work", "--sandbox", "none", "-v"])).await;
    let said = spoken(&output);
    assert!(!said.contains("sk-canary"), "the key is never shown\n{said}");
    let runs = repo.path().join(".codeforge/runs");
    let patch = std::fs::read_dir(&runs)
        .map(|entries| entries.flatten().any(|entry| entry.path().join("change.patch").exists()))
        .unwrap_or(false);
    End { code: output.status.code(), said, requests: server.requests().len(), patch }
}

impl End {
    #[track_caller]
    fn is(&self, code: i32, requests: usize, words: &[&str]) {
        assert_eq!((self.code, self.requests), (Some(code), requests), "{}", self.said);
        for word in words {
            assert!(self.said.contains(word), "`{word}` is missing\n{}", self.said);
        }
        assert_eq!(self.patch, code == 0, "{}", self.said);
    }
}

fn then(first: Vec<Rule>) -> Script {
    let mut script = first;
    script.push(Rule::when().turn(0).reply(write()));
    script.push(Rule::when().turn(1).reply(finish()));
    script
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_by_is_retried_and_the_run_succeeds() {
    let once = |reply: Reply| then(vec![Rule::any(reply)]);
    run(once(Reply::status(429).retry_after(1))).await.is(0, 3, &[]);
    run(once(Reply::status(500))).await.is(0, 3, &[]);
    run(once(Reply::status(529))).await.is(0, 3, &[]);
    run(once(write().cut_in_call())).await.is(0, 3, &[]);
    run(once(Reply::hang())).await.is(0, 3, &[]);
    run(once(write().hang_after(60))).await.is(0, 3, &[]);
}

/// A provider's fault, in either dialect: how it shows, what the journal calls it, after how many requests the run
/// gives up, and what the person is told.
type Fault = (Reply, &'static str, usize, &'static [&'static str]);

fn faults() -> Vec<Fault> {
    let said = |status, words| Reply::error(status, words, None);
    vec![
        (Reply::status(401), "auth", 1, &["401", "refused the key in SCRIPTED_KEY (sk-…6789)"]),
        (Reply::status(402), "payment", 1, &["402", "top it up"]),
        (said(404, "model: scripted"), "not_found", 1, &["404", "model: scripted", "Check the model's name"]),
        (Reply::status(408), "timeout", 2, &["408", "too slow or stuck"]),
        (Reply::status(413), "too_long", 1, &["413", "`context_window`"]),
        (Reply::status(429), "rate_limited", 2, &["429", "run fewer steps at once"]),
        (Reply::status(429).retry_after(3600), "rate_limited", 1, &["429", "asks to wait 3600 s"]),
        (Reply::status(500), "unavailable", 2, &["500", "configure a fallback model"]),
        (said(529, "Overloaded"), "unavailable", 2, &["529: Overloaded", "configure a fallback model"]),
        (write().failing_midway(529, "Overloaded"), "unavailable", 2, &["in place of an answer: Overloaded"]),
        (write().cut_in_call(), "network", 2, &["broke off", "Check the address"]),
        (Reply::hang(), "timeout", 2, &["waited 500 ms for the first byte"]),
        (write().hang_after(60), "timeout", 2, &["waited 500 ms for the next piece"]),
        (write().drip(Duration::from_millis(20)), "timeout", 1, &["no complete answer within 1500 ms"]),
        (Reply::raw("text/html", "<html>a proxy's page</html>"), "protocol", 1, &["text/html", "a proxy's page"]),
    ]
}

/// A repository whose one model is configured, in a dialect.
fn configured(wire: Wire, url: &str) -> TestRepo {
    let repo = repo_with(WORKFLOW);
    let provider = if wire == Wire::OpenAi { "openai" } else { "anthropic" };
    let config = json!({"models": {"main": {
        "provider": provider, "model": "scripted", "base_url": url, "api_key": "env://SCRIPTED_KEY",
        "price": {"input_per_mtok": 1.0, "output_per_mtok": 1.0},
    }}});
    repo.write(".codeforge/config.yml", config.to_string());
    repo.commit("a model");
    repo
}

/// Runs the workflow with short deadlines and two attempts; the environment may be changed.
async fn attempt(repo: &TestRepo, change: impl FnOnce(&mut Command)) -> Output {
    let mut command = repo.codeforge(&["run", "work", "--sandbox", "none", "-v"]);
    command.env("SCRIPTED_KEY", "sk-canary-0123456789");
    command.env("CODEFORGE_LLM_TIMEOUT_S", "0.5").env("CODEFORGE_LLM_TOTAL_TIMEOUT_S", "10");
    command.env("CODEFORGE_LLM_ATTEMPTS", "2");
    change(&mut command);
    finished(command).await
}

/// The lines of the run's journal that are of a kind.
fn journal(repo: &TestRepo, kind: &str) -> Vec<Value> {
    let runs: Value = serde_json::from_str(&ok(&mut repo.codeforge(&["runs", "list", "--format", "json"]))).unwrap();
    let id = runs[0]["run"]["id"].as_str().unwrap();
    let events = ok(&mut repo.codeforge(&["runs", "events", id, "--format", "json"]));
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["type"] == kind).collect()
}

/// The run ended with 5; the person was told, and the journal holds the same.
#[track_caller]
fn given_up(repo: &TestRepo, output: &Output, fault: &str, words: &[&str]) {
    let said = spoken(output);
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(!said.contains("sk-canary"), "the key is never shown\n{said}");
    let failed = journal(repo, "model_failed");
    assert_eq!(failed.len(), 1, "{said}");
    let message = failed[0]["message"].as_str().unwrap();
    assert_eq!(failed[0]["fault"], fault, "{message}");
    for word in words.iter().chain(&["model `main` (scripted at "]) {
        assert!(message.contains(word), "the journal lacks `{word}`: {message}");
        assert!(said.contains(word), "the person is not told `{word}`\n{said}");
    }
    assert_eq!(repo.status(), "", "nothing is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_ends_with_code_5_and_says_what_to_do() {
    let wires = [Wire::OpenAi, Wire::Anthropic].into_iter();
    let cases = wires.flat_map(|wire| faults().into_iter().map(move |fault| (wire, fault)));
    stream::iter(cases)
        .for_each_concurrent(4, |(wire, (reply, fault, requests, words))| async move {
            let server = ModelServer::start(vec![Rule::any(reply).always()]).await;
            let repo = configured(wire, server.url());
            let total = words.iter().any(|word| word.contains("1500 ms"));
            let output = attempt(&repo, |it| {
                if total {
                    it.env("CODEFORGE_LLM_TOTAL_TIMEOUT_S", "1.5");
                }
            })
            .await;
            given_up(&repo, &output, fault, words);
            assert_eq!(server.requests().len(), requests, "{wire:?} {fault} {words:?}");
            let failed = journal(&repo, "model_failed");
            assert_eq!(failed[0]["requests"], requests, "{wire:?} {fault} {words:?}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_and_one_that_nobody_vouches_for_end_with_code_5() {
    for wire in [Wire::OpenAi, Wire::Anthropic] {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let repo = configured(wire, &format!("http://{free}/v1"));
        let output = attempt(&repo, |_| {}).await;
        given_up(&repo, &output, "network", &["no connection", "after 2 requests", "Check the address"]);

        let server = ModelServer::start(then(vec![])).await;
        let (front, other) = (TlsFront::of(server.url()).await, TlsFront::of(server.url()).await);
        let repo = configured(wire, &front.url());
        let output = attempt(&repo, |it| _ = it.env("SSL_CERT_FILE", other.certificate())).await;
        given_up(&repo, &output, "network", &["certificate is not trusted", "SSL_CERT_FILE"]);
        assert_eq!((front.connections(), server.requests().len()), (1, 0), "it is not tried again");
        // Told to trust it, the same run goes through.
        let output = attempt(&repo, |it| _ = it.env("SSL_CERT_FILE", front.certificate())).await;
        assert_eq!(output.status.code(), Some(0), "{}", spoken(&output));
        server.finished();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failed_call_cost_is_counted() {
    // Both name the tokens of the prompt before they fail.
    for wire in [Wire::OpenAi, Wire::Anthropic] {
        let cut = || match wire {
            Wire::OpenAi => {
                let usage = json!({"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 1}});
                Reply::raw("text/event-stream", format!("data: {usage}\n\n"))
            }
            Wire::Anthropic => write().cut_in_call(),
        };
        let server = ModelServer::start(vec![Rule::any(cut()).always()]).await;
        let repo = configured(wire, server.url());
        let output = attempt(&repo, |_| {}).await;
        given_up(&repo, &output, "network", &["broke off"]);
        assert!(spoken(&output).contains("200 tokens in, 2 out"), "{}", spoken(&output));
        let failed = journal(&repo, "model_failed");
        assert_eq!((&failed[0]["usage"]["input"], &failed[0]["cost_usd"]), (&json!(200), &json!(0.000202)));

        let server = ModelServer::start(then(vec![Rule::any(cut())])).await;
        let repo = configured(wire, server.url());
        let output = attempt(&repo, |_| {}).await;
        assert_eq!(output.status.code(), Some(0), "{}", spoken(&output));
        assert_eq!(journal(&repo, "answer")[0]["usage"]["input"], 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_of_the_model_are_sent_back_to_it() {
    // Arguments that are not JSON, and a tool that there is not: the model is told, and goes on.
    let told = |first: Reply, words: &'static str| {
        vec![
            Rule::when().turn(0).reply(first),
            Rule::when().turn(1).last(words).reply(write()),
            Rule::when().turn(2).reply(finish()),
        ]
    };
    run(told(Reply::malformed("write_file", "{\"path\": \"new.txt\", "), "JSON")).await.is(0, 3, &[]);
    run(told(Reply::call("write_fil", json!({})), "write_file")).await.is(0, 3, &[]);
    run(told(Reply::call("write_file", json!({ "path": "a" })), "content")).await.is(0, 3, &[]);
    run(told(Reply::call("read_file", json!({ "path": "../../etc/passwd" })), "workspace")).await.is(0, 3, &[]);
    run(told(Reply::empty(), "empty")).await.is(0, 3, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_or_refused_answer_ends_with_code_1() {
    run(vec![Rule::any(Reply::empty()).always()]).await.is(1, 3, &["not acceptable 3 times"]);
    run(vec![Rule::any(Reply::refuse("I will not do that")).always()]).await.is(1, 1, &["I will not do that"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_end_with_code_3_and_denials_with_code_4() {
    let read = Reply::call("read_file", json!({ "path": "README.md" }));
    run(vec![Rule::any(read.clone()).always()]).await.is(3, 6, &["stalled"]);
    let dear = read.cost(0.6);
    run(vec![Rule::any(dear).always()]).await.is(3, 2, &["budget"]);
    let denied = Reply::call("shell", json!({ "command": "rm -rf ." }));
    run(vec![Rule::any(denied).always()]).await.is(4, 6, &["nothing is removed here", "open.yml:4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_done_where_something_was_asked_is_code_1_and_quiet_where_accepted() {
    let idle = || vec![Rule::any(finish()).always()];
    run(idle()).await.is(1, 1, &["nothing was changed"]);
    let repo = repo_with(&WORKFLOW.replace("title: Done", "title: Done, if_no_changes: ok"));
    let server = ModelServer::start(idle()).await;
    let output = finished(command(&repo, &server, &["run", "work", "--sandbox", "none"])).await;
    assert_eq!(output.status.code(), Some(0), "{}", spoken(&output));
    assert!(spoken(&output).contains("found nothing to change"));
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_of_the_operator_end_with_code_2_before_anything_is_asked() {
    let repo = repo_with(WORKFLOW);
    let server = ModelServer::start(vec![]).await;
    let cases: [(&[&str], &str); 5] = [
        (&["run", "wrk"], "did you mean `work`?"),
        (&["run", "work", "-i", "tsk=x"], "tsk"),
        (&["run", "work", "-i", "task"], "has no `=`"),
        (&["run", "work", "--sandbox", "dockr"], "dockr"),
        (&["run", "work", "--budget=-1"], "US dollars"),
    ];
    for (arguments, words) in cases {
        let output = finished(command(&repo, &server, arguments)).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}\n{}", spoken(&output));
        assert!(spoken(&output).contains(words), "{arguments:?}\n{}", spoken(&output));
    }
    let outside = tempfile::tempdir().unwrap();
    let mut lost = common::codeforge();
    lost.args(["run", "fix"]).current_dir(outside.path());
    let output = finished(lost).await;
    assert_eq!(output.status.code(), Some(2), "{}", spoken(&output));
    assert!(spoken(&output).contains("git init"));
    assert!(server.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_that_was_insisted_on_and_is_not_there_is_code_5() {
    let repo = repo_with(&format!("{WORKFLOW}sandbox: {{ image: any }}\n"));
    let server = ModelServer::start(vec![]).await;
    let mut insisted = command(&repo, &server, &["run", "work", "--sandbox", "docker"]);
    insisted.env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    let output = finished(insisted).await;
    assert_eq!(output.status.code(), Some(5), "{}", spoken(&output));
    assert!(spoken(&output).contains("/nowhere/docker.sock"), "{}", spoken(&output));
    // Not insisted on: the native sandbox, and it says so.
    let server = ModelServer::start(then(vec![])).await;
    let mut auto = command(&repo, &server, &["run", "work"]);
    auto.env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    let output = finished(auto).await;
    assert_eq!(output.status.code(), Some(0), "{}", spoken(&output));
    assert!(spoken(&output).contains("sandbox native (docker:"), "{}", spoken(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_is_code_130_and_the_run_goes_on_afterwards() {
    let repo = repo_with(WORKFLOW);
    let server = ModelServer::start(then(vec![Rule::any(Reply::hang())])).await;
    let mut child = command(&repo, &server, &["run", "work", "--sandbox", "none"])
        .env("CODEFORGE_LLM_TIMEOUT_S", "60")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually("the model is asked", || (!server.requests().is_empty()).then_some(())).await;
    #[expect(clippy::disallowed_methods, reason = "a signal is sent as people send it")]
    let mut kill = Command::new("kill");
    ok(kill.args(["-INT", &child.id().to_string()]));
    let status = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
    assert_eq!(status.code(), Some(130));
    let runs = finished(command(&repo, &server, &["runs", "list"])).await;
    let said = String::from_utf8_lossy(&runs.stdout).into_owned();
    assert!(said.contains("unfinished"), "{said}");
    let id = said.split_whitespace().next().unwrap().to_owned();
    let resumed = finished(command(&repo, &server, &["resume", &id])).await;
    assert_eq!(resumed.status.code(), Some(0), "{}", spoken(&resumed));
    assert!(spoken(&resumed).contains("charged in full"), "{}", spoken(&resumed));
}
