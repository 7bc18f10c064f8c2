//! Reading and writing the three dialects, without a network.

use super::dialect::{Asked, Dialect, Fault, Kind, Stamp};
use super::fields::Problem;
use crate::model::chat::{Bill, ChatAnswer, Message, RawCall, StopReason, ToolChoice};
use crate::model::usage::{CostSource, Usage};
use proptest::prelude::*;
use serde_json::{Value, json};

const ALL: [Dialect; 3] = [Dialect::Openai, Dialect::Responses, Dialect::Anthropic];

/// Requests as programs sent them, in the middle of a conversation; texts are shortened.
fn recorded() -> Vec<(Dialect, Value)> {
    let read = |text: &str| serde_json::from_str(text).unwrap();
    vec![
        (Dialect::Openai, read(include_str!("../../../tests/bodies/aider.json"))),
        (Dialect::Openai, read(include_str!("../../../tests/bodies/opencode.json"))),
        (Dialect::Responses, read(include_str!("../../../tests/bodies/codex.json"))),
        (Dialect::Anthropic, read(include_str!("../../../tests/bodies/claude-code.json"))),
    ]
}

/// A small request of each dialect.
fn small(dialect: Dialect) -> Value {
    match dialect {
        Dialect::Openai => json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]}),
        Dialect::Responses => json!({"model": "m", "input": "hi"}),
        Dialect::Anthropic => json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}),
    }
}

fn with(dialect: Dialect, more: &Value) -> Value {
    let mut body = small(dialect);
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn parse(dialect: Dialect, more: Value) -> Result<Asked, Problem> {
    dialect.parse(&with(dialect, &more))
}

fn answer(text: &str, calls: &[(&str, &str, &str)]) -> ChatAnswer {
    ChatAnswer {
        text: text.into(),
        calls: calls
            .iter()
            .map(|(id, name, arguments)| RawCall {
                id: (*id).into(),
                name: (*name).into(),
                arguments: (*arguments).into(),
            })
            .collect(),
        stop: if calls.is_empty() { StopReason::Stop } else { StopReason::ToolCalls },
        bill: Bill {
            model: "sonnet".into(),
            usage: Some(Usage { input: 100, output: 7, cache_read: 60, cache_write: 10 }),
            cost: None,
            source: CostSource::Unknown,
        },
        requests: 1,
        reasoning: vec![],
    }
}

fn stamp() -> Stamp {
    Stamp { id: "0a".into(), created: 1_700_000_000 }
}

/// The events of an answer: name and data.
fn events(dialect: Dialect, asked: &Asked, pieces: &[&str], answer: &ChatAnswer) -> Vec<(String, Value)> {
    let mut stream = dialect.events(asked, &stamp());
    let mut text = stream.start();
    pieces.iter().for_each(|piece| text.push_str(&stream.text(piece)));
    text.push_str(&stream.finish(answer));
    text.split("\n\n")
        .filter(|event| !event.is_empty() && *event != "data: [DONE]")
        .map(|event| {
            let name = event.lines().find_map(|line| line.strip_prefix("event: ")).unwrap_or_default().to_owned();
            let data = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
            (name, serde_json::from_str(data).unwrap())
        })
        .collect()
}

#[test]
fn what_real_programs_send_is_understood() {
    for (dialect, body) in recorded() {
        let asked = dialect.parse(&body).unwrap_or_else(|problem| panic!("{dialect:?}: {problem:?}"));
        assert!(asked.stream, "{dialect:?}");
        let question = &asked.question;
        assert!(matches!(question.messages[0], Message::System { .. }), "{dialect:?}");
        if dialect != Dialect::Openai || body["tools"].is_array() {
            let [.., Message::Assistant { calls, .. }, Message::Tool { call_id, text }] = &question.messages[..] else {
                panic!("{:?}", question.messages)
            };
            assert_eq!(&calls[0].id, call_id);
            assert!(calls[0].arguments.contains("echo fixed > a.txt") && !text.is_empty());
            assert!(question.tools.iter().any(|tool| tool.name == calls[0].name), "{dialect:?}: {:?}", question.tools);
        }
    }
    // What Claude Code wants to be kept: its instructions, and everything so far.
    let (_, body) = recorded().pop().unwrap();
    let asked = Dialect::Anthropic.parse(&body).unwrap();
    assert_eq!(asked.question.cache_marks, [0, asked.question.messages.len() - 1]);
    // Codex's tools in a namespace are told apart by their whole name, and called by it.
    let asked = Dialect::Responses.parse(&recorded().remove(2).1).unwrap();
    assert_eq!(asked.question.tools[0].name, "multi_agent_v1__close_agent");
    let said = Dialect::Responses.whole(&asked, &answer("", &[("c", "multi_agent_v1__close_agent", "{}")]), &stamp());
    assert_eq!(
        (&said["output"][0]["namespace"], &said["output"][0]["name"]),
        (&json!("multi_agent_v1"), &json!("close_agent"))
    );
}

#[test]
fn everything_that_would_reach_beyond_the_question_is_refused_by_name() {
    let user = |part: Value| json!({"messages": [{"role": "user", "content": [part]}]});
    let tool = |tool: Value| json!({"tools": [tool]});
    let input = |item: Value| json!({"input": [item]});
    let image = "https://example.com/cat.png";
    let table: Vec<(Dialect, Value, &str)> = vec![
        // Images, audio, files, by address or as data.
        (Dialect::Openai, user(json!({"type": "image_url", "image_url": {"url": image}})), "image_url"),
        (Dialect::Openai, user(json!({"type": "input_audio", "input_audio": {"data": "x"}})), "input_audio"),
        (Dialect::Openai, user(json!({"type": "file", "file": {"file_id": "f"}})), "type: file"),
        (Dialect::Openai, json!({"modalities": ["text", "audio"]}), "modalities"),
        (Dialect::Openai, json!({"audio": {"voice": "alloy"}}), "audio"),
        (
            Dialect::Responses,
            input(json!({"role": "user", "content": [{"type": "input_image", "image_url": image}]})),
            "input_image",
        ),
        (
            Dialect::Responses,
            input(json!({"role": "user", "content": [{"type": "input_file", "file_id": "f"}]})),
            "input_file",
        ),
        (
            Dialect::Responses,
            input(
                json!({"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image", "image_url": image}]}),
            ),
            "input_image",
        ),
        (Dialect::Anthropic, user(json!({"type": "image", "source": {"type": "url", "url": image}})), "type: image"),
        (Dialect::Anthropic, user(json!({"type": "image", "source": {"type": "base64", "data": "x"}})), "type: image"),
        (Dialect::Anthropic, user(json!({"type": "document", "source": {"type": "file", "file_id": "f"}})), "document"),
        (
            Dialect::Anthropic,
            user(json!({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image"}]})),
            "image",
        ),
        (Dialect::Anthropic, user(json!({"type": "container_upload", "file_id": "f"})), "container_upload"),
        // Tools that run at the provider.
        (Dialect::Openai, json!({"web_search_options": {}}), "web_search_options"),
        (Dialect::Openai, tool(json!({"type": "web_search"})), "web_search"),
        (Dialect::Openai, tool(json!({"type": "mcp", "server_url": image})), "mcp"),
        (Dialect::Responses, tool(json!({"type": "web_search_preview"})), "web_search_preview"),
        (
            Dialect::Responses,
            tool(json!({"type": "code_interpreter", "container": {"type": "auto"}})),
            "code_interpreter",
        ),
        (Dialect::Responses, tool(json!({"type": "computer_use_preview"})), "computer_use_preview"),
        (Dialect::Responses, tool(json!({"type": "mcp", "server_url": image})), "mcp"),
        (Dialect::Responses, tool(json!({"type": "file_search", "vector_store_ids": ["v"]})), "file_search"),
        (Dialect::Responses, tool(json!({"type": "image_generation"})), "image_generation"),
        (
            Dialect::Responses,
            tool(json!({"type": "namespace", "name": "n", "tools": [{"type": "mcp"}]})),
            "tools[0].tools[0].type",
        ),
        (Dialect::Responses, json!({"include": ["web_search_call.action.sources"]}), "include"),
        (Dialect::Anthropic, tool(json!({"type": "web_search_20250305", "name": "web_search"})), "web_search_20250305"),
        (Dialect::Anthropic, tool(json!({"type": "web_fetch_20250910", "name": "web_fetch"})), "web_fetch_20250910"),
        (Dialect::Anthropic, tool(json!({"type": "code_execution_20250825", "name": "x"})), "code_execution"),
        (Dialect::Anthropic, tool(json!({"type": "computer_20250124", "name": "computer"})), "computer_20250124"),
        (Dialect::Anthropic, json!({"mcp_servers": [{"type": "url", "url": image, "name": "m"}]}), "mcp_servers"),
        (Dialect::Anthropic, json!({"container": {"skills": []}}), "container"),
        (
            Dialect::Anthropic,
            user(json!({"type": "server_tool_use", "id": "s", "name": "web_search"})),
            "server_tool_use",
        ),
        // State at the provider.
        (Dialect::Openai, json!({"store": true}), "store"),
        (Dialect::Responses, json!({"background": true}), "background"),
        (Dialect::Responses, json!({"previous_response_id": "resp_1"}), "previous_response_id"),
        (Dialect::Responses, json!({"conversation": "conv_1"}), "conversation"),
        (Dialect::Responses, json!({"prompt": {"id": "pmpt_1"}}), "prompt"),
        (Dialect::Responses, input(json!({"type": "item_reference", "id": "msg_1"})), "item_reference"),
        (Dialect::Responses, input(json!({"type": "web_search_call", "id": "ws_1"})), "web_search_call"),
        (
            Dialect::Anthropic,
            json!({"context_management": {"edits": [{"type": "compact_20260112"}]}}),
            "context_management",
        ),
        // What would be passed on unread.
        (Dialect::Openai, json!({"logprobs": true}), "logprobs"),
        (Dialect::Openai, json!({"prediction": {"type": "content", "content": "x"}}), "prediction"),
        (Dialect::Openai, json!({"functions": [{"name": "f"}]}), "functions"),
        (Dialect::Openai, json!({"extra_body": {"provider": "x"}}), "extra_body"),
        (Dialect::Responses, json!({"top_logprobs": 3}), "top_logprobs"),
        (Dialect::Anthropic, json!({"inference_geo": "us"}), "inference_geo"),
        (Dialect::Openai, json!({"messages": [{"role": "user", "content": "hi", "weight": 1}]}), "messages[0].weight"),
    ];
    for (dialect, more, named) in table {
        match parse(dialect, more.clone()) {
            Err(Problem::Refused { what, why }) => {
                assert!(what.contains(named), "{more}: {what}");
                assert!(!why.is_empty());
            }
            other => panic!("{dialect:?} {more}: {other:?}"),
        }
    }
}

#[test]
fn hints_are_taken_and_not_passed_on() {
    let plain = |dialect| parse(dialect, json!({})).unwrap().question;
    for (dialect, hints) in [
        (
            Dialect::Openai,
            json!({"n": 4, "user": "u", "metadata": {}, "store": false, "parallel_tool_calls": true, "seed": 1,
                "reasoning_effort": "high", "prompt_cache_key": "k", "service_tier": "priority", "logprobs": false,
                "logit_bias": {}, "prediction": null, "unknown": null, "stream_options": {"include_usage": false}}),
        ),
        (
            Dialect::Responses,
            json!({"store": false, "include": ["reasoning.encrypted_content"], "reasoning": {"effort": "low"},
                "truncation": "auto", "background": false, "previous_response_id": null, "client_metadata": {}}),
        ),
        (
            Dialect::Anthropic,
            json!({"metadata": {"user_id": "u"}, "thinking": {"type": "enabled", "budget_tokens": 1024}, "top_k": 3,
                "output_config": {"effort": "high"}, "service_tier": "auto", "mcp_servers": [],
                "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}}),
        ),
    ] {
        assert_eq!(parse(dialect, hints).unwrap().question, plain(dialect), "{dialect:?}");
    }
    let asked = parse(
        Dialect::Openai,
        json!({"max_tokens": 5, "max_completion_tokens": 7, "temperature": 0.5, "top_p": 0.9, "stop": ["a", "b"],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "array"}}}}),
    )
    .unwrap()
    .question;
    assert_eq!((asked.sampling.max_output, asked.sampling.temperature), (Some(7), Some(0.5)));
    assert_eq!((asked.sampling.stop.len(), asked.sampling.tool_choice), (2, ToolChoice::Named("f".into())));
    assert_eq!(asked.output_schema, Some(json!({"type": "array"})));
}

#[test]
fn a_conversation_in_each_dialect_is_the_same_conversation() {
    let wanted = vec![
        Message::System { text: "rules".into() },
        Message::User { text: "go".into() },
        Message::Assistant {
            text: "I look.".into(),
            calls: vec![
                RawCall { id: "a".into(), name: "ls".into(), arguments: "{\"p\":1}".into() },
                RawCall { id: "b".into(), name: "patch".into(), arguments: "{\"input\":\"*** x\"}".into() },
            ],
            reasoning: vec![],
        },
        Message::Tool { call_id: "a".into(), text: "one\ntwo".into() },
        Message::Tool { call_id: "b".into(), text: "Error: no".into() },
        Message::User { text: "on".into() },
    ];
    let call = |id: &str, name: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    let chat = json!({"messages": [
        {"role": "developer", "content": "rules"},
        {"role": "user", "content": [{"type": "text", "text": "go"}]},
        {"role": "assistant", "content": "I look.", "refusal": null, "reasoning_content": "hm",
            "tool_calls": [call("a", "ls", "{\"p\":1}"), call("b", "patch", "{\"input\":\"*** x\"}")]},
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
        {"role": "tool", "tool_call_id": "b", "content": "Error: no"},
        {"role": "user", "content": "on"},
    ]});
    let responses = json!({"instructions": "rules", "tools": [{"type": "custom", "name": "patch", "format":
        {"type": "grammar", "syntax": "lark", "definition": "start: x"}}], "input": [
        {"type": "message", "role": "user", "content": "go"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "secret"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look.", "annotations": []}]},
        {"type": "function_call", "call_id": "a", "name": "ls", "arguments": "{\"p\":1}", "status": "completed"},
        {"type": "custom_tool_call", "call_id": "b", "name": "patch", "input": "*** x"},
        {"type": "function_call_output", "call_id": "a", "output": [{"type": "input_text", "text": "one\ntwo"}]},
        {"type": "custom_tool_call_output", "call_id": "b", "output": "Error: no"},
        {"type": "message", "role": "user", "content": "on"},
    ]});
    let anthropic = json!({"system": "rules", "messages": [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "a", "name": "ls", "input": {"p": 1}},
            {"type": "tool_use", "id": "b", "name": "patch", "input": {"input": "*** x"}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
            {"type": "tool_result", "tool_use_id": "b", "is_error": true, "content": "no"},
            {"type": "text", "text": "on"},
        ]},
    ]});
    for (dialect, body) in [(Dialect::Openai, chat), (Dialect::Responses, responses), (Dialect::Anthropic, anthropic)] {
        assert_eq!(parse(dialect, body).unwrap().question.messages, wanted, "{dialect:?}");
    }
}

#[test]
fn an_answer_comes_in_the_dialects_own_form() {
    let calls = [("c1", "ls", "{\"p\":1}"), ("c2", "patch", "{\"input\":\"*** x\"}")];
    let answer = answer("Now this.", &calls);
    let asked = parse(Dialect::Openai, json!({"stream_options": {"include_usage": true}})).unwrap();
    let whole = Dialect::Openai.whole(&asked, &answer, &stamp());
    assert_eq!(whole["choices"][0]["message"]["tool_calls"][1]["function"]["name"], "patch");
    assert_eq!(
        (&whole["choices"][0]["finish_reason"], &whole["usage"]["prompt_tokens"]),
        (&json!("tool_calls"), &json!(100))
    );
    let told = events(Dialect::Openai, &asked, &["Now ", "this."], &answer);
    let content: String = told.iter().filter_map(|(_, data)| data["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(content, "Now this.");
    assert_eq!(told.last().unwrap().1["usage"]["total_tokens"], 107);
    assert_eq!(told[told.len() - 2].1["choices"][0]["finish_reason"], "tool_calls");

    let asked = parse(Dialect::Responses, json!({"tools": [{"type": "custom", "name": "patch"}]})).unwrap();
    let told = events(Dialect::Responses, &asked, &["Now ", "this."], &answer);
    let names: Vec<&str> = told.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.custom_tool_call_input.delta",
            "response.custom_tool_call_input.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    let numbers: Vec<u64> = told.iter().map(|(_, data)| data["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..18).collect::<Vec<u64>>());
    let last = &told.last().unwrap().1["response"];
    assert_eq!(
        (&last["output"][2]["type"], &last["output"][2]["input"]),
        (&json!("custom_tool_call"), &json!("*** x"))
    );
    assert_eq!(last, &Dialect::Responses.whole(&asked, &answer, &stamp()));
    // The items of the events are those of the response.
    let items: Vec<&Value> =
        told.iter().filter(|(name, _)| name == "response.output_item.done").map(|(_, data)| &data["item"]).collect();
    assert_eq!(items, last["output"].as_array().unwrap().iter().collect::<Vec<_>>());

    let asked = parse(Dialect::Anthropic, json!({})).unwrap();
    let whole = Dialect::Anthropic.whole(&asked, &answer, &stamp());
    assert_eq!((&whole["content"][1]["input"], &whole["stop_reason"]), (&json!({"p": 1}), &json!("tool_use")));
    assert_eq!((&whole["usage"]["input_tokens"], &whole["usage"]["cache_read_input_tokens"]), (&json!(30), &json!(60)));
    let told = events(Dialect::Anthropic, &asked, &["Now ", "this."], &answer);
    assert_eq!((told[0].0.as_str(), told.last().unwrap().0.as_str()), ("message_start", "message_stop"));
    let starts: Vec<u64> = told
        .iter()
        .filter(|(name, _)| name == "content_block_start")
        .map(|(_, data)| data["index"].as_u64().unwrap())
        .collect();
    assert_eq!(starts, [0, 1, 2]);
    // Without a word, the first block is a call.
    let silent = events(Dialect::Anthropic, &asked, &[], &super::tests::answer("", &calls));
    assert_eq!(silent[1].1["content_block"]["type"], "tool_use");
    assert_eq!(silent[1].1["index"], 0);
}

#[test]
fn a_refused_budget_is_an_error_that_nobody_tries_again() {
    let fault = Fault::new(Kind::Budget, "the budget of $1 is spent");
    assert!(!fault.kind.is_passing() && fault.kind.status() == 402);
    assert_eq!(Dialect::Openai.error(&fault)["error"]["type"], "insufficient_quota");
    assert_eq!(Dialect::Anthropic.error(&fault)["error"]["type"], "billing_error");
    for dialect in ALL {
        let asked = dialect.parse(&small(dialect)).unwrap();
        assert!(dialect.events(&asked, &stamp()).fail(&fault).contains("the budget of $1 is spent"), "{dialect:?}");
    }
}

/// Any JSON, not too large.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z_]{0,12}".prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-z_]{1,10}", inner), 0..4).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// Changes one place of a value: replaced, removed or added to.
fn mutate(value: &mut Value, path: &[usize], with: &Value, kind: u8) {
    if let Some((first, rest)) = path.split_first()
        && let Some(inner) = match value {
            Value::Array(list) if !list.is_empty() => {
                let at = first % list.len();
                list.get_mut(at)
            }
            Value::Object(map) if !map.is_empty() => {
                let at = first % map.len();
                map.values_mut().nth(at)
            }
            _ => None,
        }
    {
        return mutate(inner, rest, with, kind);
    }
    match (value, kind) {
        (Value::Array(list), 0) => list.push(with.clone()),
        (Value::Object(map), 0) => {
            map.insert("type".into(), with.clone());
        }
        (Value::Object(map), 1) => {
            let name = map.keys().next().cloned().unwrap_or_default();
            map.remove(&name);
        }
        (value, _) => *value = with.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Whatever comes is a question or a problem, and a question can be answered in both forms.
    #[test]
    fn no_body_brings_it_down(
        which in 0usize..7,
        changes in prop::collection::vec((prop::collection::vec(any::<usize>(), 0..7), any_json(), 0u8..3), 0..4),
        text in "\\PC{0,40}",
        arguments in "\\PC{0,40}",
        cut in any::<bool>(),
    ) {
        let mut bodies = recorded();
        bodies.extend(ALL.map(|dialect| (dialect, small(dialect))));
        let (dialect, mut body) = bodies.swap_remove(which);
        for (path, with, kind) in &changes {
            mutate(&mut body, path, with, *kind);
        }
        if let Ok(asked) = dialect.parse(&body) {
            let name = asked.question.tools.first().map_or("f", |tool| tool.name.as_str()).to_owned();
            let mut answer = answer(&text, &[("c", &name, &arguments)]);
            if cut {
                answer.stop = StopReason::Length;
            }
            let whole = dialect.whole(&asked, &answer, &stamp());
            prop_assert!(whole.is_object());
            let told = events(dialect, &asked, &[&text], &answer);
            prop_assert!(!told.is_empty());
        }
    }

    #[test]
    fn no_json_brings_it_down(body in any_json(), which in 0usize..3) {
        let _ = ALL[which].parse(&body);
    }
}
