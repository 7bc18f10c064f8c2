//! The gateway over real HTTP: with a desk that the test holds in its hands, and with a run's own.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up fails")]
mod common;

use async_trait::async_trait;
use codeforge::adapter::clock::SystemClock;
use codeforge::adapter::gateway::{HttpGateway, Times};
use codeforge::model::chat::{Bill, ChatAnswer, Message, RawCall, StopReason};
use codeforge::model::usage::{CostSource, Usage};
use codeforge::port::gateway::{Desk, Gateway, Question, Refusal};
use common::{ModelServer, Reply, Rule, TestRepo, eventually, ok, spoken};
use serde_json::{Value, json};
use std::any::Any;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

const TOKEN: &str = "cf-test-token";

/// What the desk does with a question.
#[derive(Clone)]
enum Does {
    /// Says the pieces, then answers with them and the calls.
    Says(&'static [&'static str], &'static [(&'static str, &'static str)]),
    /// Refuses.
    Refuses(Refusal),
    /// Says something, then has another answer.
    Diverges,
    /// Waits until it is told to go on, then answers.
    Waits(Arc<Notify>),
}

/// A desk that the test holds in its hands.
struct FakeDesk {
    does: Does,
    asked: Mutex<Vec<Question>>,
    refused: Mutex<Vec<(String, String)>>,
}

fn answer(text: &str, calls: &[(&str, &str)]) -> ChatAnswer {
    let calls: Vec<RawCall> = calls
        .iter()
        .enumerate()
        .map(|(at, (name, arguments))| RawCall {
            id: format!("call_{at}"),
            name: (*name).into(),
            arguments: (*arguments).into(),
        })
        .collect();
    ChatAnswer {
        text: text.into(),
        stop: if calls.is_empty() { StopReason::Stop } else { StopReason::ToolCalls },
        calls,
        bill: Bill {
            model: "sonnet".into(),
            usage: Some(Usage { input: 100, output: 7, ..Usage::default() }),
            cost: None,
            source: CostSource::Unknown,
        },
        requests: 1,
        reasoning: vec![],
    }
}

#[async_trait]
impl Desk for FakeDesk {
    fn knows(&self, token: &str) -> bool {
        token == TOKEN
    }

    async fn ask(
        &self,
        token: &str,
        question: Question,
        heard: &(dyn for<'a> Fn(&'a str) + Send + Sync),
    ) -> Result<ChatAnswer, Refusal> {
        assert_eq!(token, TOKEN);
        self.asked.lock().unwrap().push(question);
        match &self.does {
            Does::Says(pieces, calls) => {
                for piece in *pieces {
                    heard(piece);
                    tokio::task::yield_now().await;
                }
                Ok(answer(&pieces.concat(), calls))
            }
            Does::Refuses(refusal) => Err(refusal.clone()),
            Does::Diverges => {
                heard("Half of ");
                tokio::task::yield_now().await;
                Ok(answer("Another one.", &[]))
            }
            Does::Waits(go) => {
                go.notified().await;
                Ok(answer("At last.", &[]))
            }
        }
    }

    async fn refused(&self, token: &str, what: &str, why: &str) {
        assert_eq!(token, TOKEN);
        self.refused.lock().unwrap().push((what.to_owned(), why.to_owned()));
    }

    fn model(&self, _token: &str) -> String {
        "scripted-1".into()
    }
}

/// A gateway that serves such a desk.
struct Stage {
    desk: Arc<FakeDesk>,
    at: SocketAddr,
    _served: Box<dyn Any + Send + Sync>,
}

impl Stage {
    fn with(does: Does) -> Self {
        Self::timed(does, Times::default())
    }

    fn timed(does: Does, times: Times) -> Self {
        let desk = Arc::new(FakeDesk { does, asked: Mutex::default(), refused: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let gateway = HttpGateway::new(times, Arc::new(SystemClock));
        let served = gateway.serve(listener, Arc::clone(&desk) as Arc<dyn Desk>).unwrap();
        Self { desk, at, _served: served }
    }

    fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client.request(method.parse().unwrap(), format!("http://{}{path}", self.at))
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, String) {
        said(self.request("POST", path).bearer_auth(TOKEN).json(body)).await
    }

    fn refusals(&self) -> Vec<String> {
        self.desk.refused.lock().unwrap().iter().map(|(what, _)| what.clone()).collect()
    }
}

async fn said(request: reqwest::RequestBuilder) -> (u16, String) {
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The dialects: path, and a small body.
fn dialects() -> [(&'static str, Value); 3] {
    let messages = json!([{"role": "user", "content": "hi"}]);
    [
        ("/v1/chat/completions", json!({"model": "gpt-x", "messages": messages})),
        ("/v1/responses", json!({"model": "gpt-x", "input": "hi"})),
        ("/v1/messages", json!({"model": "gpt-x", "max_tokens": 9, "messages": messages})),
    ]
}

fn streamed(body: &Value) -> Value {
    let mut body = body.clone();
    body["stream"] = json!(true);
    body
}

/// The data of server-sent events.
fn events(text: &str) -> Vec<Value> {
    let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    data.map(json_of).collect()
}

#[tokio::test]
async fn each_dialect_is_answered_whole_and_streamed() {
    let stage = Stage::with(Does::Says(&["Look", "ing."], &[("shell", "{\"command\":\"ls\"}")]));
    for (path, body) in dialects() {
        let (status, whole) = stage.post(path, &body).await;
        assert_eq!(status, 200, "{path}: {whole}");
        for part in ["Looking.", "shell", "ls"] {
            assert!(whole.contains(part), "{path}: {whole}");
        }
        let response =
            stage.request("POST", path).header("x-api-key", TOKEN).json(&streamed(&body)).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let text = response.text().await.unwrap();
        let all = events(&text);
        let words: String = all
            .iter()
            .filter_map(|event| {
                let delta = &event["delta"];
                let text = match event["type"].as_str() {
                    None => &event["choices"][0]["delta"]["content"],
                    Some("response.output_text.delta") => delta,
                    Some("content_block_delta") => &delta["text"],
                    Some(_) => return None,
                };
                text.as_str().map(str::to_owned)
            })
            .collect();
        assert_eq!(words, "Looking.", "{path}: {text}");
        assert!(text.contains("shell") && text.contains("call_0"), "{path}: {text}");
    }
    let asked = stage.desk.asked.lock().unwrap();
    assert_eq!(asked.len(), 6);
    assert!(asked.iter().all(|asked| asked.model == "gpt-x"));
    assert!(asked.iter().all(|asked| asked.messages == [Message::User { text: "hi".into() }]));
}

#[tokio::test]
async fn without_the_steps_token_nothing_is_read() {
    let stage = Stage::with(Does::Says(&["no"], &[]));
    for (path, body) in dialects() {
        let none = said(stage.request("POST", path).json(&body)).await;
        let wrong = said(stage.request("POST", path).bearer_auth("cf-another").json(&body)).await;
        assert_eq!((none.0, wrong.0), (401, 401), "{path}");
        assert!(json_of(&none.1)["error"]["message"].as_str().unwrap().contains("x-api-key"), "{}", none.1);
    }
    // The answer comes while the body has not.
    let at = stage.at;
    let answered = tokio::task::spawn_blocking(move || {
        let mut connection = TcpStream::connect(at).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(
            connection,
            "POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: nope\r\ncontent-length: 5000\r\n\r\n{{"
        )
        .unwrap();
        let mut head = [0; 12];
        connection.read_exact(&mut head).unwrap();
        String::from_utf8_lossy(&head).into_owned()
    });
    assert_eq!(answered.await.unwrap(), "HTTP/1.1 401");
    assert!(stage.desk.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_not_on_the_list_is_refused_in_the_dialects_form_and_noted() {
    let stage = Stage::with(Does::Says(&["no"], &[]));
    for (path, mut body) in dialects() {
        body["tools"] = json!([{"type": "web_search_20250305", "name": "web_search"}]);
        let (status, text) = stage.post(path, &body).await;
        assert_eq!(status, 400, "{text}");
        let error = &json_of(&text)["error"];
        assert_eq!(error["type"], "invalid_request_error");
        assert!(error["message"].as_str().unwrap().contains("web_search_20250305"), "{text}");
        assert_eq!(json_of(&text)["type"] == "error", path == "/v1/messages");
    }
    assert_eq!(stage.refusals(), ["tools[0].type: web_search_20250305"; 3]);
    // Everything else that such servers offer.
    let others = [
        ("POST", "/v1/embeddings", 404),
        ("POST", "/v1/completions", 404),
        ("POST", "/v1/files", 404),
        ("GET", "/v1/files/file-1/content", 404),
        ("POST", "/v1/batches", 404),
        ("POST", "/v1/messages/batches", 404),
        ("POST", "/v1/images/generations", 404),
        ("POST", "/v1/audio/speech", 404),
        ("POST", "/v1/conversations", 404),
        ("GET", "/v1/responses/resp_1", 404),
        ("DELETE", "/v1/models", 405),
        ("GET", "/v1/chat/completions", 405),
        ("PUT", "/v1/messages", 405),
    ];
    for (method, path, wanted) in others {
        let (status, text) = said(stage.request(method, path).bearer_auth(TOKEN).json(&json!({}))).await;
        assert_eq!(status, wanted, "{method} {path}: {text}");
        assert_eq!(json_of(&text)["type"] == "error", path.starts_with("/v1/messages"), "{path}: {text}");
        assert_eq!(stage.refusals().last().unwrap(), &format!("{method} {path}"));
    }
    // A mistake is not an attempt: it is answered, not noted.
    let before = stage.refusals().len();
    for body in [json!([]), json!({"messages": 3}), json!({"messages": [{"role": "oracle", "content": "x"}]})] {
        assert_eq!(stage.post("/v1/chat/completions", &body).await.0, 400, "{body}");
    }
    let broken = said(stage.request("POST", "/v1/responses").bearer_auth(TOKEN).body("{\"model\":")).await;
    assert_eq!((broken.0, stage.refusals().len()), (400, before), "{}", broken.1);
    assert!(stage.desk.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn large_and_slow_requests_are_cut_and_the_next_one_is_answered() {
    let times = Times { head: Duration::from_millis(200), body: Duration::from_millis(300), ..Times::default() };
    let stage = Stage::timed(Does::Says(&["yes"], &[]), times);
    let large = json!({"model": "m", "messages": [{"role": "user", "content": "x".repeat(9 << 20)}]});
    let (path, body) = &dialects()[0];
    // The refusal may arrive while the body is still on its way: then the sender sees a closed connection.
    if let Ok(response) = stage.request("POST", path).bearer_auth(TOKEN).json(&large).send().await {
        assert_eq!(response.status(), 413);
    }
    let squeezed = stage.request("POST", path).bearer_auth(TOKEN).header("content-encoding", "gzip").json(body);
    assert_eq!(said(squeezed).await.0, 415);
    let at = stage.at;
    let cut = tokio::task::spawn_blocking(move || {
        let head =
            format!("POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {TOKEN}\r\ncontent-length: 50\r\n\r\n{{");
        let mut slow = TcpStream::connect(at).unwrap();
        slow.write_all(head.as_bytes()).unwrap();
        // More half-open heads than there are places for connections.
        let half: Vec<TcpStream> = (0..200)
            .map(|_| {
                let mut connection = TcpStream::connect(at).unwrap();
                connection.write_all(b"POST /v1/messages HTT").unwrap();
                connection
            })
            .collect();
        let mut text = String::new();
        slow.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        slow.read_to_string(&mut text).unwrap();
        (text, half)
    });
    let (text, half) = cut.await.unwrap();
    assert!(text.starts_with("HTTP/1.1 408"), "{text}");
    let begun = Instant::now();
    assert_eq!(stage.post(path, body).await.0, 200);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    drop(half);
}

#[tokio::test]
async fn a_refusal_of_the_desk_has_a_status_of_its_own_streamed_or_not() {
    let table = [
        (Refusal::Budget("the budget of $1 is spent".into()), 402, "false"),
        (Refusal::NotAllowed("no".into()), 400, "false"),
        (Refusal::TooLong("too long".into()), 400, "false"),
        (Refusal::Failed(400, "the key of the provider was refused".into()), 400, "false"),
        (Refusal::Failed(429, "rate limited".into()), 429, "true"),
        (Refusal::Failed(503, "down".into()), 503, "true"),
        (Refusal::Unknown, 401, "false"),
    ];
    for (refusal, wanted, again) in table {
        let stage = Stage::with(Does::Refuses(refusal.clone()));
        for (path, body) in dialects() {
            for body in [body.clone(), streamed(&body)] {
                let response = stage.request("POST", path).bearer_auth(TOKEN).json(&body).send().await.unwrap();
                assert_eq!(response.status().as_u16(), wanted, "{refusal:?}");
                assert_eq!(response.headers()["x-should-retry"], again, "{refusal:?}");
                let text = response.text().await.unwrap();
                let said = json_of(&text)["error"]["message"].as_str().unwrap().to_owned();
                assert!(said.contains(&refusal.to_string()), "{text}");
            }
        }
    }
    let stage = Stage::with(Does::Refuses(Refusal::TooLong("200 tokens of 100".into())));
    let (path, body) = &dialects()[0];
    assert_eq!(json_of(&stage.post(path, body).await.1)["error"]["code"], "context_length_exceeded");
}

#[tokio::test]
async fn who_waits_gets_signs_of_life_and_what_was_said_is_never_taken_back() {
    let go = Arc::new(Notify::new());
    let short = Duration::from_millis(30);
    let times = Times { patience: short, ping: short, ..Times::default() };
    let signs = [": the model is at work", "event: response.in_progress", "event: ping"];
    for ((path, body), sign) in dialects().iter().zip(signs) {
        let stage = Stage::timed(Does::Waits(Arc::clone(&go)), times.clone());
        let mut response = stage.request("POST", path).bearer_auth(TOKEN).json(&streamed(body)).send().await.unwrap();
        let mut text = String::new();
        while text.matches(sign).count() < 3 {
            text.push_str(&String::from_utf8_lossy(&response.chunk().await.unwrap().expect("more")));
        }
        go.notify_one();
        while let Some(more) = response.chunk().await.unwrap() {
            text.push_str(&String::from_utf8_lossy(&more));
        }
        assert!(text.contains("At last."), "{text}");
    }
    // An answer that broke off and was made anew differently: the program is to ask again.
    for (path, body) in dialects() {
        let stage = Stage::with(Does::Diverges);
        let (_, text) = stage.post(path, &streamed(&body)).await;
        assert!(text.contains("ask again") && !text.contains("Another one."), "{text}");
        let (status, text) = stage.post(path, &body).await;
        assert!(status == 200 && text.contains("Another one."), "{text}");
    }
}

#[tokio::test]
async fn the_one_model_is_listed_in_both_forms_and_tokens_are_counted_here() {
    let stage = Stage::with(Does::Says(&["no"], &[]));
    let openai = json_of(&said(stage.request("GET", "/v1/models?limit=9").bearer_auth(TOKEN)).await.1);
    assert_eq!((&openai["object"], &openai["data"][0]["id"]), (&json!("list"), &json!("scripted-1")));
    let anthropic = json_of(&said(stage.request("GET", "/v1/models").header("x-api-key", TOKEN)).await.1);
    assert_eq!((&anthropic["first_id"], &anthropic["data"][0]["type"]), (&json!("scripted-1"), &json!("model")));
    assert_eq!(said(stage.request("GET", "/v1/models/scripted-1").bearer_auth(TOKEN)).await.0, 200);
    assert_eq!(said(stage.request("GET", "/v1/models/gpt-x").bearer_auth(TOKEN)).await.0, 404);
    let (_, body) = &dialects()[2];
    let counted = json_of(&stage.post("/v1/messages/count_tokens", body).await.1);
    assert!(counted["input_tokens"].as_u64().unwrap() > 5, "{counted}");
    assert_eq!(said(stage.request("HEAD", "/").header("x-api-key", TOKEN)).await.0, 200);
    assert!(stage.refusals().is_empty());
}

#[tokio::test]
async fn it_ends_with_its_guard() {
    let stage = Stage::with(Does::Says(&["yes"], &[]));
    let (path, body) = &dialects()[0];
    assert_eq!(stage.post(path, body).await.0, 200);
    let at = stage.at;
    drop(stage);
    eventually("the listener is closed", || TcpStream::connect(at).is_err().then_some(())).await;
}

// With a run's own desk.

const KEY: &str = "sk-canary-0123456789-abcdefgh3f9a";

/// A program that asks what its file of requests says, writes down what it was told, and does what the model said.
const PROGRAM: &str = r##"#!/usr/bin/python3
import json, os, sys, urllib.request, urllib.error, concurrent.futures
base, key = os.environ["BASE"], os.environ["TOKEN"]
log = open("src/log.txt", "a")
def ask(path, body, token=key, method="POST"):
    data = json.dumps(body).encode() if body is not None else None
    headers = {"content-type": "application/json", "authorization": "Bearer " + token}
    request = urllib.request.Request(base + path, data, headers, method=method)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
            return answer.status, dict(answer.headers), answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read().decode()
def note(*what):
    log.write(json.dumps(what) + "\n"); log.flush()
"##;

/// A repository whose step `work` is done by [`PROGRAM`] and `script`.
fn repository(script: &str, budget: &str) -> TestRepo {
    let repo = TestRepo::with(&[
        ("src/list.txt", "b\na\n"),
        ("tool/agent", &format!("{PROGRAM}{script}")),
        (
            ".codeforge/backends/mine.yml",
            "name: mine\ndialect: openai\ncommand: [tool/agent, \"{prompt}\"]\nenv: { BASE: \"{base_url}\", TOKEN: \"{api_key}\" }\n",
        ),
        (
            ".codeforge/policies/narrow.yml",
            "name: narrow\nrules:\n  - { tool: \"*\", path: [\"src/**\"], decision: allow }\n",
        ),
        (
            ".codeforge/workflows/w.yml",
            &format!(
                "name: w\npolicy: narrow\nsandbox: {{ driver: native }}\ndeliver: commit-local\nbudget: {{ {budget} }}\nsteps:\n  work: {{ backend: mine, mode: coder, prompt: \"Sort the list.\" }}\n"
            ),
        ),
    ]);
    repo.executable("tool/agent");
    repo.commit("executable");
    repo
}

async fn run(repo: &TestRepo, server: &ModelServer) -> Output {
    let mut command = repo.codeforge(&["run", "w", "-v"]);
    command.env("CODEFORGE_LLM_BASE_URL", server.url()).env("CODEFORGE_MODEL", "scripted-1");
    command.env("CODEFORGE_LLM_PRICE_INPUT", "1").env("CODEFORGE_LLM_PRICE_OUTPUT", "2");
    command
        .env("CODEFORGE_LLM_API_KEY", KEY)
        .env("CODEFORGE_LLM_ATTEMPTS", "1")
        .env("CODEFORGE_LLM_MAX_OUTPUT", "1000");
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// The run's record, and its trajectory's lines.
fn record(repo: &TestRepo) -> (Value, Vec<Value>) {
    let list = json_of(&ok(&mut repo.codeforge(&["runs", "list", "--format", "json"])));
    let id = list[0]["run"]["id"].as_str().unwrap().to_owned();
    let account = json_of(&ok(&mut repo.codeforge(&["runs", "show", &id, "--format", "json"])));
    let lines = std::fs::read_to_string(repo.path().join(format!(".codeforge/runs/{id}/trajectory.jsonl"))).unwrap();
    (account, lines.lines().map(json_of).collect())
}

fn of_type<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["type"] == kind).collect()
}

#[tokio::test]
async fn a_program_works_through_the_gateway_in_every_dialect_and_never_sees_the_key() {
    let script = r#"
tools = [{"type": "function", "function": {"name": "sort", "parameters": {"type": "object", "properties": {}}}}]
talk = [{"role": "user", "content": sys.argv[1]}]
status, headers, text = ask("/v1/chat/completions", {"model": "gpt-x", "max_tokens": 999999, "n": 3, "messages": talk, "tools": tools})
call = json.loads(text)["choices"][0]["message"]["tool_calls"][0]
assert call["function"]["name"] == "sort", text
note("chat", headers, text)
talk += [{"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "tool_call_id": call["id"], "content": "sorted"}]
note("stream", *ask("/v1/chat/completions", {"model": "gpt-x", "messages": talk, "tools": tools, "stream": True})[1:])
note("responses", *ask("/v1/responses", {"model": "gpt-y", "input": "responses?", "stream": True, "store": False}))
note("messages", *ask("/v1/messages", {"model": "claude-z", "max_tokens": 50, "messages": [{"role": "user", "content": "messages?"}]}))
note("failed", *ask("/v1/messages", {"model": "claude-z", "max_tokens": 50, "messages": [{"role": "user", "content": "fail"}]}))
note("refused", *ask("/v1/responses", {"model": "gpt-y", "input": "x", "tools": [{"type": "web_search"}]}))
note("embeddings", *ask("/v1/embeddings", {"input": "x"}))
note("token", *ask("/v1/chat/completions", {"messages": talk}, token="cf-" + "0" * 64))
with concurrent.futures.ThreadPoolExecutor() as pool:
    several = [pool.submit(ask, "/v1/chat/completions", {"messages": [{"role": "user", "content": f"parallel {n}"}]}) for n in range(4)]
    note("parallel", [json.loads(one.result()[2])["choices"][0]["message"]["content"] for one in several])
note("environment", dict(os.environ))
lines = sorted(open("src/list.txt")); open("src/list.txt", "w").writelines(lines)
print("all done")
"#;
    let repo = repository(script, "max_cost_usd: 5");
    let server = ModelServer::start(vec![
        Rule::when()
            .user("Sort the list.")
            .turn(0)
            .header("authorization", &format!("Bearer {KEY}"))
            .reply(Reply::call("sort", json!({})).usage(1000, 100)),
        Rule::when().tool_result("sorted").reply(Reply::text("It is sorted.").usage(1000, 100)),
        Rule::when().user("responses?").reply(Reply::text("From responses.").usage(1000, 100)),
        Rule::when().user("messages?").reply(Reply::text("From messages.").usage(1000, 100)),
        Rule::when().user("fail").reply(Reply::error(400, &format!("bad key {KEY}"), None)),
        Rule::when()
            .user("parallel")
            .times(4)
            .answer(|asked| Reply::text(&asked.user().replace("parallel", "answer")).usage(1000, 100)),
    ])
    .await;
    let output = run(&repo, &server).await;
    assert!(output.status.success(), "{}\n{:#?}", spoken(&output), server.unmatched());
    server.finished();
    assert_eq!(repo.read("src/list.txt"), "a\nb\n");
    let log = repo.read("src/log.txt");
    let lines: Vec<Value> = log.lines().map(json_of).collect();
    let noted = |what: &str| lines.iter().find(|line| line[0] == what).unwrap_or_else(|| panic!("{what}: {log}"));
    // It may come in any number of pieces.
    let streamed = events(noted("stream")[2].as_str().unwrap());
    let pieces = streamed.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
    assert_eq!(pieces.collect::<String>(), "It is sorted.");
    assert!(noted("responses")[3].as_str().unwrap().contains("response.completed"));
    assert!(noted("messages")[3].as_str().unwrap().contains("From messages."));
    let failed = noted("failed");
    assert_eq!(failed[1], 400, "{failed}");
    assert!(failed[3].as_str().unwrap().contains("key"), "{failed}");
    assert_eq!(
        (&noted("refused")[1], &noted("embeddings")[1], &noted("token")[1]),
        (&json!(400), &json!(404), &json!(401))
    );
    assert_eq!(noted("parallel")[1], json!(["answer 0", "answer 1", "answer 2", "answer 3"]));
    // Neither an answer, nor a header, nor an error, nor the environment holds the key.
    assert!(!log.contains(KEY) && !log.contains("canary"), "{log}");
    // The model that was asked for is noted; the one of the configuration was asked, within its limits.
    let asked = server.requests();
    assert!(asked.iter().all(|request| request["model"] == "scripted-1"));
    assert_eq!((&asked[0]["max_tokens"], &asked[0]["n"]), (&json!(1000), &Value::Null));
    let (account, trajectory) = record(&repo);
    assert_eq!(account["spend"]["calls"], 8, "{account:#}");
    // 1,000 tokens in, 100 out: $0.0012 each.
    assert_eq!(account["spend"]["cost"], 8 * 1_200_000, "{account:#}");
    let questions = of_type(&trajectory, "asked");
    assert_eq!(questions.len(), 9);
    assert_eq!((&questions[2]["model_wanted"], &questions[2]["number"]), (&json!("gpt-y"), &json!(3)));
    let refused: Vec<&Value> = of_type(&trajectory, "ask_refused").iter().map(|line| &line["what"]).collect();
    assert_eq!(refused, ["tools[0].type: web_search", "POST /v1/embeddings"]);
    assert!(!spoken(&output).contains(KEY));
}

#[tokio::test]
async fn a_budget_that_is_used_up_kills_the_program_and_undoes_its_work() {
    let script = r#"
open("src/list.txt", "a").write("half\n")
while True:
    note(ask("/v1/chat/completions", {"messages": [{"role": "user", "content": "more"}]})[0])
"#;
    // One answer costs $0.0012 and reserves at most about $0.004.
    let repo = repository(script, "max_cost_usd: 0.01");
    let head = repo.head();
    let server =
        ModelServer::start(vec![Rule::when().user("more").always().reply(Reply::text("yes").usage(1000, 100))]).await;
    let output = run(&repo, &server).await;
    assert_eq!(output.status.code(), Some(3), "{}", spoken(&output));
    assert_eq!((repo.head(), repo.status(), repo.read("src/list.txt")), (head, String::new(), "b\na\n".into()));
    let (account, _) = record(&repo);
    assert_eq!(account["ending"], "limit");
    let spent = account["spend"]["cost"].as_u64().unwrap();
    assert!(spent > 3_000_000 && spent <= 10_000_000, "{account:#}");
    assert!(account["steps"][0]["error"].as_str().unwrap().contains("of the budget of $0.010"), "{account:#}");
}

#[tokio::test]
async fn who_hangs_up_is_billed_all_the_same() {
    let script = r#"
import socket, time
host, port = base.removeprefix("http://").split(":")
body = json.dumps({"stream": True, "messages": [{"role": "user", "content": "slow"}]})
s = socket.create_connection((host, int(port)))
s.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
assert b"200 OK" in s.recv(4096)
s.close()
# The next answer comes after the one that nobody waited for.
note(ask("/v1/chat/completions", {"messages": [{"role": "user", "content": "last"}]})[0])
"#;
    let repo = repository(script, "max_cost_usd: 1");
    let server = ModelServer::start(vec![
        Rule::when().user("slow").reply(Reply::text("a long answer").usage(1000, 100).drip(Duration::from_micros(300))),
        Rule::when().user("last").reply(Reply::text("yes").usage(1000, 100).drip(Duration::from_millis(3))),
    ])
    .await;
    let output = run(&repo, &server).await;
    assert!(output.status.success(), "{}", spoken(&output));
    let (account, trajectory) = record(&repo);
    assert_eq!(
        (&account["spend"]["calls"], &account["spend"]["cost"]),
        (&json!(2), &json!(2 * 1_200_000)),
        "{account:#}"
    );
    assert_eq!(of_type(&trajectory, "answer").len(), 2);
}
