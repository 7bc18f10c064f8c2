//! Models over real HTTP: a scripted provider and all its faults.

#![expect(clippy::expect_used, reason = "a test that cannot be set up fails")]
mod common;

use codeforge::adapter::cassette::Player;
use codeforge::adapter::fake::FakeClock;
use codeforge::adapter::llm::{Router, Settings};
use codeforge::model::chat::{ChatAnswer, ChatRequest, Message, ModelError, ModelFault, ModelRef, RawCall, StopReason};
use codeforge::model::tool::ToolSpec;
use codeforge::model::usage::{CostSource, NanoUsd, Price, Usage};
use codeforge::port::model::ChatModel;
use common::{ModelServer, Reply, Rule, Script};
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const KEY: &str = "sk-canary-0123456789-abcdefgh3f9a";

/// A provider, the client for it, and the clock that the client waits on.
struct Stage {
    server: ModelServer,
    clock: Arc<FakeClock>,
    model: Router,
}

impl Stage {
    async fn with(script: Script) -> Self {
        Self::set(script, |_| {}).await
    }

    async fn set(script: Script, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings { system_proxy: false, ..Settings::default() };
        change(&mut settings);
        let clock = Arc::new(FakeClock::at(784_111_777_000));
        let model = openai(settings, Arc::clone(&clock));
        Self { server: ModelServer::start(script).await, clock, model }
    }

    fn request(&self) -> ChatRequest {
        request(self.server.url())
    }

    async fn ask(&self) -> Result<ChatAnswer, ModelError> {
        self.model.ask(&self.request(), &|_| {}).await
    }

    /// Asks, and expects a failure after so many requests.
    async fn fails(&self, fault: ModelFault, requests: u32) -> ModelError {
        let error = self.ask().await.expect_err("a failure");
        assert_eq!((error.fault, error.requests), (fault, requests), "{error}");
        assert_eq!(self.server.asked().len(), requests as usize, "{error}");
        assert!(!format!("{error} {error:?} {:?}", self.model).contains(KEY), "{error:?}");
        error
    }

    fn slept(&self) -> Vec<u128> {
        self.clock.slept().iter().map(Duration::as_millis).collect()
    }
}

fn openai(settings: Settings, clock: Arc<FakeClock>) -> Router {
    let key = Arc::new(|name: &str| (name == "TEST_KEY").then(|| KEY.to_owned()));
    Router::new(settings, clock, key, Arc::new(|| 0)).expect("a client")
}

fn request(base_url: &str) -> ChatRequest {
    ChatRequest {
        model: ModelRef {
            name: "sonnet".to_owned(),
            provider: "openai".to_owned(),
            model: "scripted-1".to_owned(),
            base_url: Some(base_url.to_owned()),
            api_key: Some("env://TEST_KEY".to_owned()),
            price: None,
            context_window: 100_000,
            max_output: 1000,
            tools: true,
            ..ModelRef::default()
        },
        messages: vec![
            Message::System { text: "You are the coder.".to_owned() },
            Message::User { text: "Fix it.".to_owned() },
        ],
        tools: vec![ToolSpec {
            name: "shell".to_owned(),
            description: "Runs a command.".to_owned(),
            parameters: json!({"type": "object"}),
        }],
        ..ChatRequest::default()
    }
}

fn call() -> Reply {
    Reply::call("shell", json!({"command": "pytest -q"}))
}

#[tokio::test]
async fn text_and_parallel_calls_stream_in() {
    let reply = call().and_call("read_file", json!({"path": "größe.py"})).saying("Let me look at größe.py first.");
    let stage = Stage::with(vec![
        Rule::when()
            .system("coder")
            .turn(0)
            .header("authorization", &format!("Bearer {KEY}"))
            .reply(reply.usage(90, 7).cached(50)),
    ])
    .await;
    let heard = Mutex::new(Vec::new());
    let answer =
        stage.model.ask(&stage.request(), &|piece| heard.lock().unwrap().push(piece.to_owned())).await.unwrap();
    let heard = heard.into_inner().unwrap();
    assert!(heard.len() > 1);
    assert_eq!(heard.concat(), "Let me look at größe.py first.");
    assert_eq!(answer.text, heard.concat());
    let call = |id: &str, name: &str, arguments: &str| RawCall {
        id: id.into(),
        name: name.into(),
        arguments: arguments.into(),
    };
    assert_eq!(
        answer.calls,
        [call("call_1", "shell", r#"{"command":"pytest -q"}"#), call("call_2", "read_file", r#"{"path":"größe.py"}"#)]
    );
    assert_eq!((answer.stop, answer.requests), (StopReason::ToolCalls, 1));
    assert_eq!(answer.bill.usage, Some(Usage { input: 90, output: 7, cache_read: 50, cache_write: 0 }));
    let sent = &stage.server.requests()[0];
    assert_eq!((&sent["stream"], &sent["stream_options"]["include_usage"]), (&json!(true), &json!(true)));
    assert_eq!((&sent["max_tokens"], &sent["parallel_tool_calls"]), (&json!(1000), &json!(true)));
    assert_eq!(sent["tools"][0]["function"]["name"], "shell");
    stage.server.finished();
}

#[tokio::test]
async fn the_conversation_goes_out_in_the_providers_shape() {
    let stage = Stage::with(vec![Rule::when().tool_result("1 failed").turn(2).reply(Reply::text("ok"))]).await;
    let mut request = stage.request();
    let call = |id: &str, arguments: &str| RawCall { id: id.into(), name: "shell".into(), arguments: arguments.into() };
    request.messages.extend([
        Message::Assistant {
            reasoning: vec![],
            text: String::new(),
            calls: vec![call("a", r#"{"command":"x"}"#), call("b", r#"{"comm"#)],
        },
        Message::Tool { call_id: "a".into(), text: "1 failed".into() },
        Message::Tool { call_id: "b".into(), text: "not JSON".into() },
        Message::Assistant { text: String::new(), calls: vec![], reasoning: vec![] },
        Message::User { text: "Go on.".into() },
    ]);
    request.output_schema = Some(json!({"type": "object"}));
    stage.model.ask(&request, &|_| {}).await.unwrap();
    let sent = &stage.server.requests()[0];
    assert_eq!(sent.get("response_format"), None, "never beside tools");
    assert_eq!(
        sent["messages"].as_array().unwrap()[2..],
        [
            json!({"role": "assistant", "content": null, "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "shell", "arguments": r#"{"command":"x"}"#}},
                {"id": "b", "type": "function", "function": {"name": "shell", "arguments": r#"{"malformed_arguments":"{\"comm"}"#}},
            ]}),
            json!({"role": "tool", "tool_call_id": "a", "content": "1 failed"}),
            json!({"role": "tool", "tool_call_id": "b", "content": "not JSON"}),
            json!({"role": "assistant", "content": "(no answer)"}),
            json!({"role": "user", "content": "Go on."}),
        ]
    );
    request.tools.clear();
    stage.server.add(Rule::any(Reply::text("{}")));
    stage.model.ask(&request, &|_| {}).await.unwrap();
    assert_eq!(stage.server.requests()[1]["response_format"]["json_schema"]["schema"], json!({"type": "object"}));
}

#[tokio::test]
async fn retry_after_is_honoured_in_seconds_and_as_a_date() {
    let stage = Stage::with(vec![
        Rule::any(Reply::status(429).retry_after(7)),
        // The clock shows 08:49:37, and seven seconds more after the first wait.
        Rule::any(Reply::status(503).header("retry-after", "Sun, 06 Nov 1994 08:49:54 GMT")),
        Rule::any(Reply::status(429).header("retry-after-ms", "250").retry_after(9)),
        Rule::any(Reply::text("here")),
    ])
    .await;
    let answer = stage.ask().await.unwrap();
    assert_eq!((answer.text.as_str(), answer.requests), ("here", 4));
    assert_eq!(stage.slept(), [7000, 10_000, 250]);
}

#[tokio::test]
async fn a_wait_that_is_too_long_fails_at_once_and_says_so() {
    let stage = Stage::with(vec![Rule::any(Reply::status(429).retry_after(3600))]).await;
    let error = stage.fails(ModelFault::RateLimited, 1).await;
    assert!(error.message.contains("asks to wait 3600 s, longer than the 60 s"), "{error}");
    assert_eq!(error.retry_after_ms, Some(3_600_000), "for whoever decides who is asked next");
    assert_eq!(stage.slept(), Vec::<u128>::new());
}

#[tokio::test]
async fn faults_that_may_pass_are_tried_four_times() {
    for (status, fault) in [
        (408, ModelFault::Timeout),
        (409, ModelFault::Unavailable),
        (425, ModelFault::RateLimited),
        (429, ModelFault::RateLimited),
        (500, ModelFault::Unavailable),
        (502, ModelFault::Unavailable),
        (503, ModelFault::Unavailable),
        (504, ModelFault::Unavailable),
        (529, ModelFault::Unavailable),
    ] {
        let stage = Stage::with(vec![Rule::any(Reply::status(status)).always()]).await;
        let error = stage.fails(fault, 4).await;
        assert_eq!((error.status, stage.slept().len()), (Some(status), 3));
        for part in
            ["model `sonnet` (scripted-1 at http://127.0.0.1:", &format!("scripted {status}"), "after 4 requests"]
        {
            assert!(error.message.contains(part), "{error}");
        }
    }
}

#[tokio::test]
async fn faults_that_do_not_pass_are_told_at_once_to_whom_they_belong() {
    for (status, fault, says) in [
        (400, ModelFault::BadRequest, "does not take this request"),
        (401, ModelFault::Auth, "refused the key in TEST_KEY (sk-…3f9a)"),
        (402, ModelFault::Payment, "top it up"),
        (403, ModelFault::Auth, "TEST_KEY"),
        (404, ModelFault::NotFound, "Check the model's name"),
        (413, ModelFault::TooLong, "context_window"),
        (422, ModelFault::BadRequest, "does not take this request"),
        (501, ModelFault::Unavailable, "fallback"),
    ] {
        let stage = Stage::with(vec![Rule::any(Reply::status(status))]).await;
        let error = stage.fails(fault, 1).await;
        assert_eq!(error.status, Some(status));
        assert!(error.message.contains(says), "{error}");
    }
    for (reply, fault) in [
        (Reply::error(429, "You exceeded your current quota", Some("insufficient_quota")), ModelFault::Payment),
        (Reply::error(400, "too long", Some("context_length_exceeded")), ModelFault::TooLong),
        (Reply::error(400, "This model's maximum context length is 8192 tokens.", None), ModelFault::TooLong),
        (Reply::status(302).header("location", "http://elsewhere/v1?token=x"), ModelFault::NotFound),
    ] {
        let stage = Stage::with(vec![Rule::any(reply)]).await;
        let error = stage.fails(fault, 1).await;
        assert!(!error.message.contains("token=x"), "{error}");
    }
}

#[tokio::test]
async fn a_provider_that_repeats_the_key_does_not_make_us_show_it() {
    let words = format!("Incorrect API key provided: {KEY}.\r\n\u{1b}[31mSee\u{202e} https://example.com");
    let stage = Stage::with(vec![Rule::any(Reply::error(401, &words, Some("invalid_api_key")))]).await;
    let error = stage.fails(ModelFault::Auth, 1).await;
    assert!(error.message.contains("Incorrect API key provided: sk-…3f9a. [31mSee https://example.com"), "{error}");
    let stage = Stage::with(vec![Rule::any(Reply::raw("text/html", format!("<p>{KEY}</p>")))]).await;
    stage.fails(ModelFault::Protocol, 1).await;
}

#[tokio::test]
async fn a_stream_cut_inside_a_call_is_asked_again_and_nothing_of_it_is_used() {
    let stage = Stage::with(vec![Rule::any(call().cut_in_call()), Rule::any(call())]).await;
    let answer = stage.ask().await.unwrap();
    assert_eq!((answer.calls.len(), answer.requests), (1, 2));
    assert_eq!(answer.calls[0].arguments, r#"{"command":"pytest -q"}"#);

    let stage = Stage::with(vec![Rule::any(call().cut_in_call()).always()]).await;
    stage.fails(ModelFault::Network, 4).await;
}

#[tokio::test]
async fn a_stream_cut_anywhere_gives_the_whole_call_or_a_failure() {
    let body = call().body();
    let text = String::from_utf8(body.clone()).unwrap();
    let whole_from = text.find("\"finish_reason\":\"tool_calls\"").unwrap();
    let whole_from = whole_from + text[whole_from..].find("\n\n").unwrap() + 2;
    let cuts: Vec<usize> = (0..body.len()).step_by(37).chain([whole_from - 1, whole_from, body.len() - 1]).collect();
    for cut in cuts {
        let stage = Stage::set(vec![Rule::any(call().cut_after(cut)).always()], |settings| settings.attempts = 1).await;
        match stage.ask().await {
            Ok(answer) => {
                assert!(cut >= whole_from, "cut at {cut}");
                assert_eq!(answer.calls[0].arguments, r#"{"command":"pytest -q"}"#);
            }
            Err(error) => {
                assert!(cut < whole_from, "cut at {cut}: {error}");
                assert_eq!(error.fault, ModelFault::Network, "{error}");
            }
        }
    }
}

#[tokio::test]
async fn what_a_cut_answer_cost_is_on_the_bill() {
    // Usage comes before the cut, the reason to stop never does.
    let chunk = |usage: u64| {
        format!("data: {}\n\n", json!({"choices": [], "usage": {"prompt_tokens": usage, "completion_tokens": 1}}))
    };
    let cut = || Reply::raw("text/event-stream", chunk(50));
    let priced = |stage: &Stage| {
        let mut request = stage.request();
        request.model.price = Some(Price {
            input_per_mtok: 1.0,
            output_per_mtok: 2.0,
            cache_read_per_mtok: None,
            cache_write_per_mtok: None,
        });
        request
    };
    let stage = Stage::set(vec![Rule::any(cut()).always()], |settings| settings.attempts = 2).await;
    let bill = stage.model.ask(&priced(&stage), &|_| {}).await.unwrap_err().bill.unwrap();
    assert_eq!(
        (bill.usage.unwrap().input, bill.cost, bill.source),
        (100, Some(NanoUsd(104_000)), CostSource::PriceTable)
    );

    let stage = Stage::with(vec![Rule::any(cut()), Rule::any(Reply::text("x").usage(100, 10))]).await;
    let bill = stage.model.ask(&priced(&stage), &|_| {}).await.unwrap().bill;
    assert_eq!((bill.usage.unwrap().input, bill.cost), (150, Some(NanoUsd(172_000))));
}

#[tokio::test]
async fn cost_is_the_providers_else_the_tables_else_unknown() {
    let bill = |reply: Reply, price: Option<Price>| async move {
        let stage = Stage::with(vec![Rule::any(reply)]).await;
        let mut request = stage.request();
        request.model.price = price;
        let bill = stage.model.ask(&request, &|_| {}).await.unwrap().bill;
        (bill.cost, bill.source)
    };
    let price = Some(Price {
        input_per_mtok: 1.0,
        output_per_mtok: 2.0,
        cache_read_per_mtok: Some(0.1),
        cache_write_per_mtok: None,
    });
    let said = (Some(NanoUsd(3_000_000)), CostSource::Provider);
    assert_eq!(bill(Reply::text("x").cost(0.003), price).await, said);
    let header = Reply::text("x").cost(9.0).non_stream().header("x-litellm-response-cost", "0.003");
    assert_eq!(bill(header, price).await, said);
    let table = Reply::text("x").usage(1000, 100).cached(500);
    assert_eq!(bill(table, price).await, (Some(NanoUsd(750_000)), CostSource::PriceTable));
    assert_eq!(bill(Reply::text("x"), None).await, (None, CostSource::Unknown));
    assert_eq!(bill(Reply::text("x").no_usage(), price).await, (None, CostSource::Unknown));
}

#[tokio::test]
async fn hangs_and_drips_end_at_their_deadlines() {
    let short = Duration::from_millis(80);
    let patient = |settings: &mut Settings| settings.attempts = 2;

    let stage = Stage::set(vec![Rule::any(Reply::hang()).always()], |s| {
        patient(s);
        s.first_byte = short;
    })
    .await;
    let error = stage.fails(ModelFault::Timeout, 2).await;
    assert!(error.message.contains("waited 80 ms for the first byte"), "{error}");

    let stage = Stage::set(vec![Rule::any(call().hang_after(300)).always()], |s| {
        patient(s);
        s.idle = short;
    })
    .await;
    let error = stage.fails(ModelFault::Timeout, 2).await;
    assert!(error.message.contains("waited 80 ms for the next piece"), "{error}");

    // A drip never idles; only the whole question's deadline ends it, and then there is no time for another attempt.
    let drip = Reply::text("slow").drip(Duration::from_millis(5));
    let stage = Stage::set(vec![Rule::any(drip).always()], |s| {
        patient(s);
        s.total = Duration::from_millis(300);
    })
    .await;
    let begun = Instant::now();
    let error = stage.fails(ModelFault::Timeout, 1).await;
    assert!(error.message.contains("no complete answer within 300 ms"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn nothing_listens() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let clock = Arc::new(FakeClock::default());
    let model = openai(Settings { system_proxy: false, ..Settings::default() }, Arc::clone(&clock));
    let error = model.ask(&request(&format!("http://user:{KEY}@{free}/v1")), &|_| {}).await.unwrap_err();
    assert_eq!((error.fault, error.requests, clock.slept().len()), (ModelFault::Network, 4, 3), "{error}");
    assert!(error.message.contains(&format!("http://{free}/v1): no connection")), "{error}");
    assert!(!format!("{error:?}").contains(KEY) && !error.message.contains("user"), "{error}");
}

#[tokio::test]
async fn a_key_that_is_not_there_is_named_and_nothing_is_sent() {
    let stage = Stage::with(vec![]).await;
    let mut request = stage.request();
    request.model.api_key = Some("env://OTHER_KEY".to_owned());
    let error = stage.model.ask(&request, &|_| {}).await.unwrap_err();
    assert_eq!((error.fault, error.requests), (ModelFault::Auth, 0));
    assert!(error.message.contains("OTHER_KEY, which is not set"), "{error}");
    request.model.api_key = Some(KEY.to_owned());
    let error = stage.model.ask(&request, &|_| {}).await.unwrap_err();
    assert!(!format!("{error:?}").contains(KEY), "{error:?}");
    request.model.api_key = None;
    stage.server.add(Rule::any(Reply::text("local")));
    stage.model.ask(&request, &|_| {}).await.unwrap();
    assert_eq!(stage.server.asked()[0].header("authorization"), None);
}

#[tokio::test]
async fn answers_that_are_odd_but_whole() {
    let one = |reply: Reply| async move {
        let answer = Stage::with(vec![Rule::any(reply)]).await.ask().await.unwrap();
        (answer.stop, answer.calls.len(), answer.text, answer.requests)
    };
    assert_eq!(one(Reply::empty()).await, (StopReason::Stop, 0, String::new(), 1));
    assert_eq!(one(Reply::refuse("I cannot help.")).await, (StopReason::Refusal, 0, "I cannot help.".to_owned(), 1));
    assert_eq!(one(Reply::text("half").finish("content_filter")).await, (StopReason::Refusal, 0, "half".to_owned(), 1));
    assert_eq!(one(call().finish("length")).await, (StopReason::Length, 0, String::new(), 1));
    assert_eq!(one(call().finish("stop")).await, (StopReason::ToolCalls, 1, String::new(), 1));
    assert_eq!(one(call().saying("hm").non_stream()).await, (StopReason::ToolCalls, 1, "hm".to_owned(), 1));
    // Unlabelled streams and documents.
    assert_eq!(one(Reply::raw("", Reply::text("plain").body())).await.2, "plain");
    assert_eq!(one(Reply::raw("text/plain", Reply::text("plain").non_stream().body())).await.2, "plain");
    let stage = Stage::with(vec![
        Rule::any(Reply::malformed("shell", r#"{"command": "#)),
        Rule::any(Reply::call("teleport", json!({}))),
    ])
    .await;
    assert_eq!(stage.ask().await.unwrap().calls[0].arguments, r#"{"command": "#);
    assert_eq!(stage.ask().await.unwrap().calls[0].name, "teleport");
}

#[tokio::test]
async fn what_is_not_the_protocol_is_said_with_an_excerpt() {
    for (reply, says) in [
        (
            Reply::raw("text/html; charset=utf-8", "<html>\u{1b}[2J Sign in to the network"),
            "the answer is text/html, not an event stream: <html>[2J Sign in",
        ),
        (Reply::raw("", "hello"), "no content type"),
        (Reply::raw("application/json", "[1]"), "this is no chat completion: [1]"),
        (Reply::raw("application/json", "nonsense"), "the answer is no JSON"),
        (Reply::raw("text/event-stream", "data: nonsense\n\n"), "this is no chat completion: nonsense"),
    ] {
        let stage = Stage::with(vec![Rule::any(reply)]).await;
        let error = stage.fails(ModelFault::Protocol, 1).await;
        assert!(error.message.contains(says), "{error}");
    }
    let stage = Stage::set(vec![Rule::any(Reply::text(&"x".repeat(5000)))], |s| s.max_bytes = 4000).await;
    stage.fails(ModelFault::Protocol, 1).await;
    // An error in the place of an answer may pass.
    let late = "data: {\"error\":{\"code\":502,\"message\":\"upstream went away\"}}\n\n";
    let stage =
        Stage::with(vec![Rule::any(Reply::raw("text/event-stream", late)), Rule::any(Reply::text("back"))]).await;
    assert_eq!(stage.ask().await.unwrap().requests, 2);
}

#[tokio::test]
async fn a_field_that_the_server_does_not_know_is_left_out_from_then_on() {
    let newer =
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
    let older = "Unrecognized request argument supplied: parallel_tool_calls";
    let stage = Stage::with(vec![
        Rule::any(Reply::error(400, newer, Some("unsupported_parameter"))),
        Rule::any(Reply::error(400, older, None)),
        Rule::any(Reply::text("one")),
        Rule::any(Reply::text("two")),
    ])
    .await;
    assert_eq!(stage.ask().await.unwrap().requests, 3);
    assert_eq!(stage.ask().await.unwrap().requests, 1);
    assert_eq!(stage.slept(), Vec::<u128>::new());
    for sent in &stage.server.requests()[2..] {
        assert_eq!(
            (sent.get("max_tokens"), &sent["max_completion_tokens"], sent.get("parallel_tool_calls")),
            (None, &json!(1000), None)
        );
    }
}

#[tokio::test]
async fn an_unmatched_request_is_a_500_that_says_why() {
    let stage =
        Stage::set(vec![Rule::when().system("reviewer").turn(1).reply(Reply::text("x"))], |s| s.attempts = 1).await;
    let error = stage.fails(ModelFault::Unavailable, 1).await;
    assert!(error.message.contains(r#"rule 1: lacks system message with "reviewer", turn 1"#), "{error}");
    assert_eq!((stage.server.unmatched().len(), stage.server.unused().len()), (1, 1));
}

#[tokio::test]
async fn the_router_knows_the_providers_and_names_them() {
    let Stage { server, model: router, .. } = Stage::with(vec![Rule::any(Reply::text("hi")).always()]).await;
    let mut request = request(server.url());
    for provider in ["openai", "litellm", "openrouter", "ollama", "vllm", "lmstudio", "azure", "anthropic"] {
        request.model.provider = provider.to_owned();
        assert_eq!(router.ask(&request, &|_| {}).await.unwrap().text, "hi");
    }
    request.model.provider = "telepathy".to_owned();
    let error = router.ask(&request, &|_| {}).await.unwrap_err();
    assert_eq!((error.fault, error.requests), (ModelFault::BadRequest, 0));
    assert!(error.message.contains("does not speak to provider `telepathy`, only to openai, anthropic"), "{error}");
    // Its own address wants its own key, by its own name.
    (request.model.provider, request.model.base_url, request.model.api_key) = ("openai".to_owned(), None, None);
    let error = router.ask(&request, &|_| {}).await.unwrap_err();
    assert!(error.message.contains("OPENAI_API_KEY, which is not set"), "{error}");
}

#[tokio::test]
async fn a_cassette_written_by_hand_insists_on_what_it_expects() {
    let tape =
        "{\"codeforge_cassette\":1}\n{\"when\":\"Add\",\"expect\":[\"2 passed\"],\"answer\":{\"text\":\"done\"}}\n";
    let stage = Stage::with(vec![]).await;
    let mut request = stage.request();
    request.messages.push(Message::User { text: "Add it up".into() });
    request.messages.truncate(2);
    request.messages[1] = Message::User { text: "Add it up: 1 passed".into() };
    let player = Player::read(tape).unwrap();
    let error = player.ask(&request, &|_| {}).await.unwrap_err();
    assert!(error.message.contains("expects to have been told `2 passed`"), "{error}");
    request.messages[1] = Message::User { text: "Add it up: 2 passed".into() };
    assert_eq!(player.ask(&request, &|_| {}).await.unwrap().text, "done");
    for (text, says) in [
        ("", "empty"),
        ("{\"fingerprint\":1}\n", "not a cassette"),
        ("{\"codeforge_cassette\":9}\n", "format 9"),
        ("{\"codeforge_cassette\":1}\n{\"answer\":{}}\n", ":2:"),
    ] {
        let error = Player::read(text).err().unwrap();
        assert!(error.contains(says), "{error}");
    }
}
