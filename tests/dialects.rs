//! How both dialects ask and are answered, over real HTTP: messages, sampling, cache marks, thoughts, fields that a
//! server does not take, and the ways of single providers.

mod common;

use codeforge::adapter::fake::FakeClock;
use codeforge::adapter::llm::Settings;
use codeforge::model::chat::{ChatRequest, Message, RawCall, Reasoning, Sampling, StopReason, ToolChoice};
use codeforge::model::usage::{CostSource, NanoUsd, Usage};
use codeforge::port::model::ChatModel;
use common::stage::{KEY, Stage, WIRES, call, raw, request, router};
use common::{ModelServer, Reply, Rule, Wire};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

fn assistant(text: &str, calls: Vec<RawCall>, reasoning: Vec<Reasoning>) -> Message {
    Message::Assistant { text: text.into(), calls, reasoning }
}

fn result(id: &str, text: &str) -> Message {
    Message::Tool { call_id: id.into(), text: text.into() }
}

#[tokio::test]
async fn one_answer_is_the_same_in_both_dialects() {
    for wire in WIRES {
        for piece in [false, true] {
            let reply = call().and_call("read_file", json!({"path": "größe.py"})).saying("Let me look at größe.py.");
            let reply = reply.usage(90, 7).cached(50).cache_written(20);
            let reply = if piece { reply.non_stream() } else { reply };
            let rule = Rule::when().system("coder").user("Fix").turn(0).reply(reply);
            let stage = Stage::with(wire, vec![rule]).await;
            let heard = Mutex::new(String::new());
            let answer = stage.router.ask(&stage.request, &|text| heard.lock().unwrap().push_str(text)).await.unwrap();
            assert_eq!(heard.into_inner().unwrap(), "Let me look at größe.py.");
            let calls: Vec<(&str, &str)> =
                answer.calls.iter().map(|call| (call.name.as_str(), call.arguments.as_str())).collect();
            assert_eq!(calls, [("shell", r#"{"command":"pytest -q"}"#), ("read_file", r#"{"path":"größe.py"}"#)]);
            assert_eq!((answer.stop, answer.requests), (StopReason::ToolCalls, 1));
            assert_eq!(answer.bill.usage, Some(Usage { input: 90, output: 7, cache_read: 50, cache_write: 20 }));
            // 20 fresh × 3 + 50 read × 0.3 + 20 written × 3.75 + 7 × 15, in millionths of a dollar.
            assert_eq!((answer.bill.cost, answer.bill.source), (Some(NanoUsd(255_000)), CostSource::PriceTable));
            stage.server.finished();
        }
    }
}

#[tokio::test]
async fn anthropic_is_sent_blocks_that_alternate() {
    let stage = Stage::with(Wire::Anthropic, vec![Rule::any(Reply::text("ok")).times(2)]).await;
    let mut request = stage.request.clone();
    request.messages.extend([
        assistant("", vec![raw("functions.shell:0", r#"{"command":"x"}"#), raw("b", r#"{"comm"#)], vec![]),
        result("functions.shell:0", "1 failed"),
        result("b", ""),
        Message::User { text: "Go on.".into() },
        assistant("", vec![], vec![]),
        Message::User { text: " ".into() },
    ]);
    stage.router.ask(&request, &|_| {}).await.unwrap();
    let asked = &stage.server.asked()[0];
    assert_eq!((asked.header("x-api-key"), asked.header("authorization")), (Some(KEY), None));
    let sent = stage.sent();
    let ephemeral = json!({"type": "ephemeral"});
    assert_eq!(sent["system"], json!([{"type": "text", "text": "You are the coder.", "cache_control": ephemeral}]));
    let id = sent["messages"][1]["content"][0]["id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("call_") && id.len() == 21, "{id}");
    assert_eq!(
        sent["messages"],
        json!([
            {"role": "user", "content": [{"type": "text", "text": "Fix it."}]},
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": id, "name": "shell", "input": {"command": "x"}},
                {"type": "tool_use", "id": "b", "name": "shell", "input": {"malformed_arguments": "{\"comm"}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": id, "content": "1 failed"},
                {"type": "tool_result", "tool_use_id": "b"},
                {"type": "text", "text": "Go on."},
            ]},
            {"role": "assistant", "content": [{"type": "text", "text": "(no answer)"}]},
            {"role": "user", "content": [{"type": "text", "text": "(nothing)", "cache_control": ephemeral}]},
        ])
    );
    assert_eq!(
        sent["tools"],
        json!([{"name": "shell", "description": "Does it.", "input_schema": {"type": "object"}}])
    );
    assert_eq!((&sent["max_tokens"], &sent["stream"]), (&json!(8192), &json!(true)));
    // Without tools on offer, those that were called are named, and none may be called.
    request.tools.clear();
    request.messages.truncate(5);
    stage.router.ask(&request, &|_| {}).await.unwrap();
    assert_eq!(
        (&stage.sent()["tools"][0]["name"], &stage.sent()["tool_choice"]["type"]),
        (&json!("shell"), &json!("none"))
    );
    stage.server.finished();
}

#[tokio::test]
async fn sampling_is_sent_where_it_is_set() {
    let sampling = |tool_choice| Sampling {
        max_output: Some(500),
        temperature: Some(0.5),
        top_p: Some(0.9),
        stop: vec!["END".into()],
        tool_choice,
    };
    let choices = [
        (ToolChoice::Auto, Value::Null, Value::Null),
        (ToolChoice::Forbidden, json!("none"), json!({"type": "none"})),
        (ToolChoice::Required, json!("required"), json!({"type": "any"})),
        (
            ToolChoice::Named("shell".into()),
            json!({"type": "function", "function": {"name": "shell"}}),
            json!({"type": "tool", "name": "shell"}),
        ),
    ];
    for wire in WIRES {
        for (choice, openai, anthropic) in choices.clone() {
            let mut stage = Stage::with(wire, vec![Rule::any(Reply::text("ok"))]).await;
            stage.request.sampling = sampling(choice);
            stage.ask().await.unwrap();
            let sent = stage.sent();
            assert_eq!(
                (&sent["max_tokens"], &sent["temperature"], &sent["top_p"]),
                (&json!(500), &json!(0.5), &json!(0.9))
            );
            let (stop, wanted) = match wire {
                Wire::OpenAi => ("stop", openai),
                Wire::Anthropic => ("stop_sequences", anthropic),
            };
            assert_eq!((&sent[stop], &sent["tool_choice"]), (&json!(["END"]), &wanted));
        }
        let stage = Stage::with(wire, vec![Rule::any(Reply::text("ok"))]).await;
        stage.ask().await.unwrap();
        for absent in ["temperature", "top_p", "stop", "stop_sequences", "tool_choice", "thinking", "reasoning_effort"]
        {
            assert_eq!(stage.sent().get(absent), None, "{absent}");
        }
    }
}

#[tokio::test]
async fn the_cache_is_told_what_to_keep() {
    let marked = |sent: &Value| -> Vec<String> {
        let mut places = Vec::new();
        for (at, message) in sent["messages"].as_array().unwrap().iter().enumerate() {
            for part in message["content"].as_array().into_iter().flatten() {
                if part["cache_control"] == json!({"type": "ephemeral"}) {
                    places.push(format!("{at}"));
                }
            }
        }
        let system = sent["system"].as_array().into_iter().flatten().any(|block| !block["cache_control"].is_null());
        if system {
            places.insert(0, "system".into());
        }
        places
    };
    let long = |marks: Vec<usize>, provider: &str, url: &str| {
        let mut request = request(Wire::OpenAi, url);
        for turn in 0..4 {
            let id = format!("call_{turn}");
            request.messages.push(assistant("hm", vec![raw(&id, "{}")], vec![]));
            request.messages.push(result(&id, "done"));
        }
        request.model.provider = provider.into();
        request.cache_marks = marks;
        request
    };
    let server = ModelServer::start(vec![Rule::any(Reply::text("ok")).always()]).await;
    let router = router(Settings { system_proxy: false, ..Settings::default() }, &Arc::new(FakeClock::default()));
    for (provider, marks, places) in [
        // Anthropic takes the system prompt out of the messages.
        ("anthropic", vec![], vec!["system", "8"]),
        ("anthropic", vec![0, 3, 9], vec!["system", "2", "8"]),
        ("anthropic", vec![0, 1, 3, 5, 7, 9, 99], vec!["system", "4", "6", "8"]),
        ("openrouter", vec![0, 1, 3], vec!["0", "1", "3"]),
        ("litellm", vec![2], vec!["2"]),
        ("openrouter", vec![], vec![]),
        ("openai", vec![0, 1, 3], vec![]),
        ("azure", vec![0, 1, 3], vec![]),
    ] {
        router.ask(&long(marks.clone(), provider, server.url()), &|_| {}).await.unwrap();
        assert_eq!(marked(&server.requests().pop().unwrap()), places, "{provider} {marks:?}");
    }
    // A server that does not know the mark is asked without it, from then on.
    let words = "messages.0.content.0.cache_control: Extra inputs are not permitted";
    let stage = Stage::with(
        Wire::Anthropic,
        vec![Rule::any(Reply::error(400, words, None)), Rule::any(Reply::text("ok")).times(2)],
    )
    .await;
    assert_eq!((stage.ask().await.unwrap().requests, stage.ask().await.unwrap().requests), (2, 1));
    assert!(!stage.sent().to_string().contains("cache_control"));
}

#[tokio::test]
async fn thoughts_go_back_to_who_had_them() {
    // The scripted server refuses thoughts whose signature does not fit, and a loop that does not begin with one.
    let mut stage = Stage::with(
        Wire::Anthropic,
        vec![
            Rule::when().turn(0).reply(call().thinking("It is the off-by-one.")),
            Rule::when().turn(1).tool_result("1 failed").reply(Reply::text("done")),
        ],
    )
    .await;
    stage.request.model.reasoning = Some("medium".into());
    stage.request.sampling.temperature = Some(0.2);
    let answer = stage.ask().await.unwrap();
    assert_eq!(stage.sent()["thinking"], json!({"type": "enabled", "budget_tokens": 2048}));
    assert_eq!(stage.sent().get("temperature"), None);
    assert_eq!(answer.reasoning.iter().map(|it| it.text.as_str()).collect::<Vec<_>>(), ["It is the off-by-one.", ""]);
    stage.request.messages.push(assistant(&answer.text, answer.calls, answer.reasoning.clone()));
    stage.request.messages.push(result("call_1", "1 failed"));
    stage.ask().await.unwrap();
    let back = &stage.sent()["messages"][1]["content"];
    assert_eq!((&back[0]["type"], &back[1]["type"]), (&json!("thinking"), &json!("redacted_thinking")));
    assert_eq!(back[0], answer.reasoning[0].block.clone().unwrap());
    stage.server.finished();

    // OpenAI's dialect is not sent them, but what came as `reasoning_content` goes back.
    let mut other =
        Stage::with(Wire::OpenAi, vec![Rule::any(call().thinking("Aha.")), Rule::any(Reply::text("x"))]).await;
    other.request.model.reasoning = Some("high".into());
    other.request.messages = stage.request.messages.clone();
    let answer = other.ask().await.unwrap();
    assert_eq!(other.sent()["reasoning_effort"], "high");
    assert!(!other.sent().to_string().contains("off-by-one"));
    other.request.messages.push(assistant("", answer.calls, answer.reasoning));
    other.request.messages.push(result("call_1", "1 failed"));
    other.ask().await.unwrap();
    assert_eq!(other.sent()["messages"][4]["reasoning_content"], "Aha.");
}

#[tokio::test]
async fn thinking_is_left_out_where_it_cannot_be() {
    let asked = |change: fn(&mut ChatRequest)| async move {
        let mut stage = Stage::with(Wire::Anthropic, vec![Rule::any(Reply::text("ok"))]).await;
        stage.request.model.reasoning = Some("high".into());
        change(&mut stage.request);
        stage.ask().await.unwrap();
        stage.server.finished();
        stage.sent()["thinking"]["budget_tokens"].as_u64()
    };
    assert_eq!(asked(|_| {}).await, Some(4096));
    assert_eq!(asked(|request| request.model.reasoning = Some("low".into())).await, Some(1024));
    assert_eq!(asked(|request| request.model.max_output = 1024).await, None);
    assert_eq!(asked(|request| request.sampling.tool_choice = ToolChoice::Required).await, None);
    // Another model began this exchange: it holds no thoughts of Anthropic's.
    assert_eq!(
        asked(|request| {
            request.messages.push(assistant("", vec![raw("a", "{}")], vec![]));
            request.messages.push(result("a", "done"));
        })
        .await,
        None
    );
    // Thoughts that were signed elsewhere: asked again without, this once.
    let foreign = Reasoning {
        dialect: "anthropic".into(),
        text: "hm".into(),
        block: Some(json!({"type": "thinking", "thinking": "hm", "signature": "another's"})),
    };
    let mut stage = Stage::with(Wire::Anthropic, vec![Rule::any(Reply::text("ok")).times(2)]).await;
    stage.request.model.reasoning = Some("high".into());
    let begun = stage.request.messages.clone();
    stage.request.messages.push(assistant("", vec![raw("a", "{}")], vec![foreign]));
    stage.request.messages.push(result("a", "done"));
    assert_eq!(stage.ask().await.unwrap().requests, 2);
    assert!(!stage.sent().to_string().contains("another's"));
    stage.request.messages = begun;
    stage.ask().await.unwrap();
    assert_eq!(stage.sent()["thinking"]["type"], "enabled");
}

#[tokio::test]
async fn what_a_model_does_not_take_is_left_out_from_then_on() {
    let newer = "\"thinking.type.enabled\" is not supported for this model. Use \"thinking.type.adaptive\" and \
                 \"output_config.effort\" to control thinking behavior.";
    let mut stage = Stage::with(
        Wire::Anthropic,
        vec![Rule::any(Reply::error(400, newer, None)), Rule::any(Reply::text("ok")).times(2)],
    )
    .await;
    stage.request.model.reasoning = Some("low".into());
    assert_eq!((stage.ask().await.unwrap().requests, stage.ask().await.unwrap().requests), (2, 1));
    assert_eq!(
        (&stage.sent()["thinking"], &stage.sent()["output_config"]),
        (&json!({"type": "adaptive"}), &json!({"effort": "low"}))
    );

    let rows: [(Wire, &str, &str); 6] = [
        (Wire::Anthropic, "`temperature` and `top_p` cannot both be specified for this model.", "top_p"),
        (Wire::Anthropic, "temperature: `temperature` is deprecated for this model.", "temperature"),
        (Wire::Anthropic, "stop_sequences: Extra inputs are not permitted", "stop_sequences"),
        (Wire::OpenAi, "Unsupported value: 'temperature' does not support 0.5 with this model.", "temperature"),
        (Wire::OpenAi, "Unrecognized request argument supplied: reasoning_effort", "reasoning_effort"),
        (Wire::OpenAi, "'stop' is not supported with this model.", "stop"),
    ];
    for (wire, words, field) in rows {
        let script = vec![Rule::any(Reply::error(400, words, None)), Rule::any(Reply::text("ok")).times(2)];
        let mut stage = Stage::with(wire, script).await;
        stage.request.sampling.temperature = Some(0.5);
        stage.request.sampling.top_p = Some(0.9);
        stage.request.sampling.stop = vec!["END".into()];
        if wire == Wire::OpenAi {
            stage.request.model.reasoning = Some("low".into());
        }
        assert_eq!((stage.ask().await.unwrap().requests, stage.ask().await.unwrap().requests), (2, 1), "{words}");
        let requests = stage.server.requests();
        assert!(requests[0].get(field).is_some() && requests[1].get(field).is_none(), "{words}");
        assert_eq!(requests[0].as_object().unwrap().len(), requests[1].as_object().unwrap().len() + 1, "{words}");
    }
}

#[tokio::test]
async fn azure_and_litellm_have_their_own_ways() {
    let server = ModelServer::start(vec![Rule::any(Reply::text("ok")).always()]).await;
    let router = router(Settings { system_proxy: false, ..Settings::default() }, &Arc::new(FakeClock::default()));
    let mut request = request(Wire::OpenAi, &format!("{}?api-version=2024-10-21", server.url()));
    request.model.provider = "azure".into();
    request.model.tags = vec!["eu".into(), "cheap".into()];
    router.ask(&request, &|_| {}).await.unwrap();
    let asked = server.asked().pop().unwrap();
    assert_eq!((asked.header("api-key"), asked.header("authorization")), (Some(KEY), None));
    assert_eq!((asked.query.as_str(), asked.body.get("metadata")), ("api-version=2024-10-21", None));
    assert_eq!(asked.header("x-litellm-tags"), None);
    request.model.provider = "litellm".into();
    router.ask(&request, &|_| {}).await.unwrap();
    let asked = server.asked().pop().unwrap();
    assert_eq!(asked.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!(asked.header("x-litellm-tags"), Some("eu,cheap"));
    assert_eq!(asked.body["metadata"], json!({"tags": ["eu", "cheap"]}));
    request.model.provider = "azure".into();
    request.model.base_url = None;
    let error = router.ask(&request, &|_| {}).await.unwrap_err();
    assert!(error.message.contains("no `base_url`"), "{error}");
}
