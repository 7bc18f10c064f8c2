//! What goes wrong with providers, in both dialects over real HTTP, and one workflow that goes right with either.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]
mod common;

use codeforge::adapter::llm::Settings;
use codeforge::model::chat::ModelFault;
use codeforge::model::usage::NanoUsd;
use codeforge::port::model::ChatModel;
use common::stage::{KEY, Stage, WIRES, call, provider, request};
use common::tls::TlsFront;
use common::{ModelServer, Reply, Rule, Script, TestRepo, Wire, spoken};
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A fault: how it looks, what it is, after how many requests, and what is said of it.
type Row = (Reply, ModelFault, u32, &'static str);

fn faults() -> Vec<Row> {
    let error = |status, words| Reply::error(status, words, None);
    vec![
        (error(400, "prompt is too long: 210000 tokens > 200000 maximum"), ModelFault::TooLong, 1, "context_window"),
        (error(400, "Your credit balance is too low to access the API."), ModelFault::Payment, 1, "top it up"),
        (error(400, "messages: nonsense"), ModelFault::BadRequest, 1, "does not take this request"),
        (
            error(400, "Invalid model name passed in model=nope."),
            ModelFault::NotFound,
            1,
            "model=nope. Check the model",
        ),
        (error(401, "Not allowed to access model due to tags configuration."), ModelFault::NotFound, 1, "due to tags"),
        (Reply::status(401), ModelFault::Auth, 1, "refused the key in TEST_KEY (sk-…3f9a)"),
        (Reply::status(402), ModelFault::Payment, 1, "top it up"),
        (Reply::status(403), ModelFault::Auth, 1, "TEST_KEY"),
        (error(404, "model: scripted-1"), ModelFault::NotFound, 1, "Check the model's name"),
        (Reply::status(408), ModelFault::Timeout, 4, "too slow or stuck"),
        (Reply::status(413), ModelFault::TooLong, 1, "context_window"),
        (Reply::status(429), ModelFault::RateLimited, 4, "configure a fallback model"),
        (Reply::status(429).retry_after(3600), ModelFault::RateLimited, 1, "asks to wait 3600 s"),
        (Reply::status(500), ModelFault::Unavailable, 4, "in trouble"),
        (error(529, "Overloaded"), ModelFault::Unavailable, 4, "529: Overloaded"),
        (call().failing_midway(529, "Overloaded"), ModelFault::Unavailable, 4, "in place of an answer: Overloaded"),
        (call().failing_midway(429, "slow down"), ModelFault::RateLimited, 4, "slow down"),
        (call().failing_midway(400, "it is a mess"), ModelFault::BadRequest, 1, "it is a mess"),
        (call().cut_in_call(), ModelFault::Network, 4, "broke off"),
        (Reply::raw("text/html", "<p>Sign in</p>"), ModelFault::Protocol, 1, "the answer is text/html"),
        (Reply::raw("text/event-stream", "data: nonsense\n\n"), ModelFault::Protocol, 1, "this is no"),
    ]
}

#[tokio::test]
async fn every_fault_is_told_alike_in_both_dialects() {
    for wire in WIRES {
        for (reply, fault, requests, words) in faults() {
            let stage = Stage::with(wire, vec![Rule::any(reply).always()]).await;
            let error = stage.ask().await.unwrap_err();
            assert_eq!((error.fault, error.requests), (fault, requests), "{wire:?} {error}");
            assert_eq!(
                (stage.server.asked().len(), stage.clock.slept().len() + 1),
                (requests as usize, requests as usize)
            );
            for part in [words, "model `main` (scripted-1 at http://127.0.0.1:"] {
                assert!(error.message.contains(part), "{wire:?} {error}");
            }
            assert!(!format!("{error:?}").contains(KEY), "{error:?}");
        }
        // What passes by is waited for as long as the server says.
        let script = vec![Rule::any(Reply::status(429).retry_after(7)), Rule::any(Reply::text("here"))];
        let stage = Stage::with(wire, script).await;
        assert_eq!(stage.ask().await.unwrap().requests, 2);
        assert_eq!(stage.clock.slept(), [Duration::from_secs(7)]);
    }
}

#[tokio::test]
async fn silence_and_drips_end_at_their_deadlines_in_both_dialects() {
    let short = Duration::from_millis(80);
    for wire in WIRES {
        let silent = |reply: Reply| async move {
            let set = move |settings: &mut Settings| {
                (settings.first_byte, settings.idle, settings.attempts) = (short, short, 2);
            };
            let error = Stage::set(wire, vec![Rule::any(reply).always()], set).await.ask().await.unwrap_err();
            assert_eq!((error.fault, error.requests), (ModelFault::Timeout, 2), "{error}");
            error.message
        };
        assert!(silent(Reply::hang()).await.contains("the first byte"));
        assert!(silent(call().hang_after(300)).await.contains("the next piece"));
        let drip = call().drip(Duration::from_millis(5));
        let stage = Stage::set(wire, vec![Rule::any(drip).always()], |s| s.total = Duration::from_millis(300)).await;
        let error = stage.ask().await.unwrap_err();
        assert_eq!((error.fault, error.requests), (ModelFault::Timeout, 1), "{error}");
    }
}

#[tokio::test]
async fn a_stream_cut_anywhere_gives_the_whole_call_or_a_failure() {
    for wire in WIRES {
        let body = String::from_utf8(call().body_in(wire)).unwrap();
        let reason = match wire {
            Wire::OpenAi => "\"finish_reason\":\"tool_calls\"",
            Wire::Anthropic => "\"stop_reason\":\"tool_use\"",
        };
        let said = body.find(reason).unwrap();
        let whole_from = said + body[said..].find("\n\n").unwrap() + 2;
        let cut = Arc::new(Mutex::new(0));
        let next = Arc::clone(&cut);
        let rule = Rule::when().answer(move |_| call().cut_after(*next.lock().unwrap())).always();
        let stage = Stage::set(wire, vec![rule], |settings| settings.attempts = 1).await;
        let edges = [whole_from - 1, whole_from, body.len() - 1];
        for at in (0..body.len()).step_by(13).chain(edges) {
            *cut.lock().unwrap() = at;
            match stage.ask().await {
                Ok(answer) => assert!(at >= whole_from && answer.calls.len() == 1, "{wire:?} cut at {at}"),
                Err(error) => {
                    assert!(at < whole_from, "{wire:?} cut at {at}: {error}");
                    assert_eq!(error.fault, ModelFault::Network, "{error}");
                }
            }
        }
    }
}

#[tokio::test]
async fn what_failed_calls_cost_is_on_the_bill() {
    // Anthropic counts the prompt at once, OpenAI at the end: where that came, it is charged.
    let script = vec![Rule::any(call().usage(100, 9).cut_in_call()), Rule::any(Reply::text("x").usage(100, 9))];
    let stage = Stage::with(Wire::Anthropic, script).await;
    let bill = stage.ask().await.unwrap().bill;
    assert_eq!(bill.usage.map(|usage| (usage.input, usage.output)), Some((200, 10)));
    for wire in WIRES {
        let usage = match wire {
            Wire::OpenAi => json!({"prompt_tokens": 100, "completion_tokens": 9}),
            Wire::Anthropic => json!({"input_tokens": 100, "output_tokens": 9}),
        };
        let body = json!({"error": {"message": "spoilt", "type": "api_error"}, "usage": usage});
        let reply = Reply::raw("application/json", body.to_string());
        let stage = Stage::set(wire, vec![Rule::any(reply).always()], |settings| settings.attempts = 3).await;
        let error = stage.ask().await.unwrap_err();
        let bill = error.bill.unwrap();
        assert_eq!(bill.usage.map(|usage| (usage.input, usage.output)), Some((300, 27)), "{wire:?}");
        assert_eq!(bill.cost, Some(NanoUsd(3 * 435_000)));
    }
}

#[tokio::test]
async fn a_server_that_speaks_the_other_dialect_is_noticed() {
    for (wire, other) in [(Wire::OpenAi, Wire::Anthropic), (Wire::Anthropic, Wire::OpenAi)] {
        let reply = Reply::raw("text/event-stream", call().body_in(other));
        let stage = Stage::with(wire, vec![Rule::any(reply).always()]).await;
        let error = stage.ask().await.unwrap_err();
        assert_eq!((error.fault, error.requests), (ModelFault::Protocol, 1), "{error}");
        let whose = if wire == Wire::OpenAi { "OpenAI's protocol" } else { "Anthropic's protocol" };
        assert!(error.message.contains(whose), "{error}");
    }
}

#[tokio::test]
async fn an_unknown_certificate_is_not_asked_twice() {
    for wire in WIRES {
        let stage = Stage::with(wire, vec![]).await;
        let front = TlsFront::of(stage.server.url()).await;
        let error = stage.router.ask(&request(wire, &front.url()), &|_| {}).await.unwrap_err();
        assert_eq!((error.fault, error.requests, front.connections()), (ModelFault::Network, 1, 1), "{error}");
        assert!(
            error.message.contains("certificate is not trusted") && error.message.contains("SSL_CERT_FILE"),
            "{error}"
        );
        assert_eq!(stage.server.asked().len(), 0);
    }
}

const WORKFLOW: &str = r#"
name: mend
inputs: { task: { type: string, default: "add() subtracts" } }
policy: open
steps:
  look: { mode: architect, prompt: "Find the cause: {{ inputs.task }}", output: { schema: plan } }
  mend: { mode: coder, needs: [look], prompt: "Carry this out: {{ steps.look.output.summary }}", gates: [sums] }
deliver: { as: patch, title: "Mend add" }
"#;

const POLICY: &str = "
name: open
rules: [{ tool: \"*\", decision: allow }]
default: allow
limits: { max_steps: 12, max_cost_usd: 1 }
";

/// The same answers for both servers.
fn script() -> Script {
    let edit = json!({"path": "sums.py", "old": "a - b", "new": "a + b"});
    let plan = json!({"title": "Mend add", "summary": "add subtracts: größer", "steps": [{"what": "a + b", "files": ["sums.py"]}]});
    vec![
        Rule::when()
            .user("Find the cause")
            .turn(0)
            .reply(Reply::call("read_file", json!({"path": "sums.py"})).thinking("Where?")),
        Rule::when()
            .user("Find the cause")
            .tool_result("a - b")
            .reply(Reply::call("finish", json!({"summary": "found", "output": plan}))),
        Rule::when()
            .user("add subtracts")
            .turn(0)
            .reply(Reply::call("read_file", json!({"path": "sums.py"})).and_call("edit_file", edit)),
        Rule::when()
            .user("add subtracts")
            .turn(1)
            .reply(Reply::call("finish", json!({"summary": "mended"})).saying("There.")),
    ]
}

async fn patch(wire: Wire) -> String {
    let repo = TestRepo::with(&[("sums.py", "def add(a, b):\n    return a - b\n")]);
    let server = ModelServer::start(script()).await;
    repo.write(".codeforge/workflows/mend.yml", WORKFLOW);
    repo.write(".codeforge/policies/open.yml", POLICY);
    repo.write(
        ".codeforge/config.yml",
        format!(
            "models:\n  main: {{ provider: {}, model: scripted, base_url: \"{}\", api_key: \"env://SCRIPTED_KEY\", \
             reasoning: low, price: {{ input_per_mtok: 1, output_per_mtok: 1 }} }}\n\
             gates: {{ sums: {{ run: \"grep -q 'a + b' sums.py\" }} }}\n",
            provider(wire),
            server.url()
        ),
    );
    repo.commit("configured");
    let mut command = repo.codeforge(&["run", "mend", "--sandbox", "none", "-v"]);
    command.env("SCRIPTED_KEY", KEY);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{wire:?} {}\n{:#?}", spoken(&output), server.unmatched());
    server.finished();
    assert!(server.asked().iter().all(|asked| asked.wire == wire));
    // Beside the runs' folders lies a file of git's.
    let runs = std::fs::read_dir(repo.path().join(".codeforge/runs")).unwrap();
    let patch = runs.map(|run| run.unwrap().path().join("change.patch")).find(|patch| patch.exists()).unwrap();
    std::fs::read_to_string(patch).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_workflow_gives_the_same_patch_from_both_providers() {
    let (openai, anthropic) = tokio::join!(patch(Wire::OpenAi), patch(Wire::Anthropic));
    let change = |patch: &str| patch[patch.find("diff --git").unwrap()..].to_owned();
    assert!(change(&openai).contains("+    return a + b"), "{openai}");
    assert_eq!(change(&openai), change(&anthropic));
}
