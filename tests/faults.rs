//! What goes wrong, and how it ends: exit code, words, number of requests. The real binary, a real repository, a
//! provider that misbehaves over real HTTP.

mod common;

use common::{ModelServer, Reply, Rule, Script, TestRepo, eventually, ok, spoken};
use serde_json::json;
use std::process::{Command, Output};

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

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_ends_with_code_5_and_says_what_to_do() {
    let always = |reply: Reply| vec![Rule::any(reply).always()];
    run(always(Reply::status(503))).await.is(5, 4, &["503", "after 4 requests"]);
    run(always(Reply::status(401))).await.is(5, 1, &["401", "CODEFORGE_LLM_API_KEY"]);
    run(always(Reply::status(402))).await.is(5, 1, &["402"]);
    run(always(Reply::status(404))).await.is(5, 1, &["404"]);
    run(always(Reply::status(413))).await.is(5, 1, &["413"]);
    run(always(Reply::raw("text/html", "<html>a proxy's page</html>"))).await.is(5, 1, &["text/html"]);
    run(always(Reply::status(429).retry_after(3600))).await.is(5, 1, &["429"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_provider_is_given_up_after_all_attempts() {
    run(vec![Rule::any(Reply::hang()).always()]).await.is(5, 4, &["after 4 requests"]);
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
