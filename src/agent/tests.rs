//! Scenarios of a conversation: what is sent, and what is made of the answers.

use super::*;
use crate::model::chat::{
    Answer, Bill, ChatAnswer, ChatRequest, Conclusion, Message, ModelRef, RawCall, StopReason, Turn,
};
use crate::model::plan::{AgentSpec, OutputSpec};
use crate::model::usage::CostSource;
use proptest::prelude::*;
use serde_json::{Value, json};

pub(super) fn model() -> ModelRef {
    ModelRef {
        name: "test".into(),
        provider: "openai".into(),
        model: "m".into(),
        base_url: None,
        api_key: None,
        price: None,
        context_window: 100_000,
        max_output: 4_000,
        tools: true,
        ..ModelRef::default()
    }
}

pub(super) fn spec(tools: &[&str]) -> AgentSpec {
    AgentSpec {
        mode: "coder".into(),
        system_template: String::new(),
        prompt: String::new(),
        tools: tools.iter().map(|tool| (*tool).to_owned()).collect(),
        read_only: false,
        scenario: "default".into(),
        models: vec![model()],
        output: None,
        blocked_commands: Vec::new(),
        ..AgentSpec::default()
    }
}

fn reviewing() -> AgentSpec {
    let schema = json!({
        "type": "object",
        "required": ["approved", "findings"],
        "properties": {
            "approved": { "type": "boolean" },
            "findings": { "type": "array", "items": { "type": "object", "properties": { "line": { "type": "integer" } } } },
        },
    });
    AgentSpec { output: Some(OutputSpec { name: "review".into(), schema }), ..spec(&["read_file", "finish"]) }
}

pub(super) fn said(text: &str, calls: &[(&str, &str, &str)], stop: StopReason) -> ChatAnswer {
    let raw = |(id, name, arguments): &(&str, &str, &str)| RawCall {
        id: (*id).into(),
        name: (*name).into(),
        arguments: (*arguments).into(),
    };
    ChatAnswer {
        text: text.into(),
        calls: calls.iter().map(raw).collect(),
        stop,
        bill: Bill { model: "test".into(), usage: None, cost: None, source: CostSource::Unknown },
        requests: 1,
        reasoning: Vec::new(),
    }
}

pub(super) fn calling(calls: &[(&str, &str, &str)]) -> ChatAnswer {
    said("", calls, StopReason::ToolCalls)
}

fn answering(text: &str) -> ChatAnswer {
    said(text, &[], StopReason::Stop)
}

/// A turn in which the agent reads `path` and gets `result`.
pub(super) fn turn(path: &str, result: &str) -> Turn {
    let args = json!({ "path": path }).to_string();
    let answer = interpret(&spec(&["read_file", "finish"]), &model(), &calling(&[(path, "read_file", &args)]));
    Turn { answer, results: vec![(path.into(), result.into())], say: None }
}

fn malformed(answer: &Answer, index: usize) -> &str {
    answer.calls[index].malformed.as_deref().unwrap()
}

// ── answers ──

#[test]
fn well_formed_calls_are_kept_in_order_with_ids_of_their_own() {
    let answer = interpret(
        &spec(&["read_file", "list_files", "finish"]),
        &model(),
        &calling(&[
            ("x", "read_file", r#"{"path":"a"}"#),
            ("x", "read_file", r#""{\"path\":\"b\",\"start_line\":null}""#),
            ("", "list_files", ""),
        ]),
    );
    let ids: Vec<&str> = answer.calls.iter().map(|call| call.id.as_str()).collect();
    assert_eq!(ids, ["x", "x_2", "call_3"]);
    assert_eq!(ids, answer.raw_calls.iter().map(|call| call.id.as_str()).collect::<Vec<_>>());
    assert!(answer.calls.iter().all(|call| call.malformed.is_none()), "{answer:?}");
    assert_eq!(answer.calls[1].args, json!({ "path": "b" }));
    assert_eq!(answer.conclusion, None);
}

#[test]
fn calls_that_cannot_be_carried_out_say_why() {
    let cases = [
        ("read_file", r#"{"path": "a"#, "not valid JSON"),
        ("read_file", "[1]", "must be a JSON object"),
        ("read_file", "{}", "`path` is missing"),
        ("read_file", r#"{"path":"a","lines":3}"#, "no argument `lines`"),
        ("read_file", r#"{"path":7}"#, "`path` must be a string, not a number"),
        ("shell", r#"{"command":"ls"}"#, "on offer: read_file, finish"),
    ];
    for (name, arguments, reason) in cases {
        let answer = interpret(&spec(&["read_file", "finish"]), &model(), &calling(&[("1", name, arguments)]));
        assert!(malformed(&answer, 0).contains(reason), "{}", malformed(&answer, 0));
        assert_eq!((answer.calls[0].name.as_str(), &answer.calls[0].args), (name, &Value::Null));
        assert_eq!(answer.conclusion, None);
    }
}

#[test]
fn an_answer_cut_at_the_limit_runs_nothing_and_ends_nothing() {
    let finish = [("1", "finish", r#"{"summary":"done"}"#)];
    let answer = interpret(&spec(&["finish"]), &model(), &said("", &finish, StopReason::Length));
    assert!(malformed(&answer, 0).contains("cut off"));
    assert_eq!(answer.conclusion, None);
    let answer = interpret(&spec(&["finish"]), &model(), &said("and so", &[], StopReason::Length));
    assert!(answer.conclusion.unwrap().unwrap_err().contains("cut off"));
}

#[test]
fn a_step_ends_by_finish_or_by_plain_words() {
    let agent = spec(&["read_file", "finish"]);
    let both = [("1", "read_file", r#"{"path":"a"}"#), ("2", "finish", r#"{"summary":"all done"}"#)];
    let answer = interpret(&agent, &model(), &calling(&both));
    assert_eq!(answer.calls.len(), 2);
    assert_eq!(answer.conclusion, Some(Ok(Conclusion { text: "all done".into(), output: None })));
    let answer = interpret(&agent, &model(), &answering("  That is all.\n"));
    assert_eq!(answer.conclusion, Some(Ok(Conclusion { text: "That is all.".into(), output: None })));
    assert!(interpret(&agent, &model(), &answering(" \n")).conclusion.unwrap().unwrap_err().contains("empty"));
    let refusal = interpret(&agent, &model(), &said("I will not.", &both, StopReason::Refusal));
    assert_eq!((refusal.conclusion, refusal.stop, refusal.calls.len()), (None, StopReason::Refusal, 0));
}

#[test]
fn output_is_held_against_its_schema() {
    let agent = reviewing();
    let good = json!({ "approved": true, "findings": [] });
    let finish = |output: &Value| {
        let args = json!({ "summary": "s", "output": output }).to_string();
        interpret(&agent, &model(), &calling(&[("1", "finish", &args)])).conclusion.unwrap()
    };
    assert_eq!(finish(&good).unwrap().output, Some(good.clone()));
    assert_eq!(finish(&Value::String(good.to_string())).unwrap().output, Some(good.clone()));
    let error = finish(&json!({ "approved": "yes", "findings": [{ "line": 1 }, { "line": "2" }] })).unwrap_err();
    assert!(error.contains("`review`") && error.contains("output.approved:"), "{error}");
    assert!(error.contains("output.findings[1].line:") && !error.contains("findings[0]"), "{error}");
    assert!(finish(&Value::Null).unwrap_err().contains("needs `output`"));

    for text in [
        good.to_string(),
        format!("My thoughts.\n```json\n{good}\n```\nThat is it."),
        format!("First:\n```json\n{{\"x\": 1}}\n```\nNo:\n```json\n{good}\n```"),
        format!("The result is {good}."),
    ] {
        let conclusion = interpret(&agent, &model(), &answering(&text)).conclusion.unwrap();
        assert_eq!(conclusion.unwrap().output, Some(good.clone()), "{text}");
    }
    for (text, reason) in [
        ("Looks fine to me.", "holds none"),
        ("```json\n{\"approved\": true}\n```", "findings"),
        ("```json\n{\"approved\": tru}\n```", "cannot be read"),
    ] {
        let error = interpret(&agent, &model(), &answering(text)).conclusion.unwrap().unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_model_without_functions_calls_in_fenced_json() {
    let plain = ModelRef { tools: false, ..model() };
    let agent = spec(&["read_file", "write_file", "finish"]);
    let text = "I read both.\n```json\n{\"tool\": \"read_file\", \"args\": {\"path\": \"a\"}}\n```\n\
                ```json\n{\"tool\": \"write_file\", \"args\": {\"path\": \"b.md\", \"content\": \"```\\ncode\\n```\\n\"}}\n```\n\
                ```json\n{\"tool\": \"read_file\", \"args\": {\"path\": }}\n```";
    let answer = interpret(&agent, &plain, &answering(text));
    assert_eq!(answer.calls.len(), 3, "{answer:?}");
    assert_eq!(answer.calls[1].args["content"], "```\ncode\n```\n");
    assert!(malformed(&answer, 2).contains("not valid JSON"));
    assert_eq!(answer.conclusion, None);

    let request = compose(&agent, &plain, "system", "task", &[]);
    let Message::System { text: system } = &request.messages[0] else { panic!("{request:?}") };
    assert!(request.tools.is_empty() && system.contains("## write_file") && system.contains("{\"tool\": \"NAME\""));

    let results = answer.calls.iter().map(|call| (call.id.clone(), format!("result of {}", call.id))).collect();
    let request = compose(&agent, &plain, "system", "task", &[Turn { answer, results, say: Some("Go on.".into()) }]);
    assert_eq!(request.messages.len(), 4, "{:#?}", request.messages);
    let Message::User { text } = &request.messages[3] else { panic!("{request:?}") };
    assert_eq!(text.matches("<untrusted-data").count(), 3);
    assert!(text.contains("Result of read_file a:") && text.ends_with("Go on."), "{text}");

    // A turn of a model with functions, continued by one without.
    let request = compose(&agent, &plain, "system", "task", &[turn("a.rs", "text")]);
    let Message::Assistant { text, calls, .. } = &request.messages[2] else { panic!("{request:?}") };
    assert!(calls.is_empty() && text.contains("{\"tool\": \"read_file\", \"args\": {\"path\":\"a.rs\"}}"), "{text}");

    // A model that has functions does not call by quoting.
    assert!(interpret(&agent, &model(), &answering(text)).calls.is_empty());
}

// ── requests ──

/// Every call has exactly one result, right after it, and no result is without its call.
pub(super) fn assert_paired(messages: &[Message]) {
    let mut open: Vec<&str> = Vec::new();
    for message in messages {
        match message {
            Message::Tool { call_id, .. } => {
                assert!(!open.is_empty() && open.remove(0) == call_id, "{messages:#?}");
            }
            _ => assert!(open.is_empty(), "{messages:#?}"),
        }
        if let Message::Assistant { calls, .. } = message {
            open = calls.iter().map(|call| call.id.as_str()).collect();
            assert!(
                calls.iter().all(|call| serde_json::from_str::<Value>(&call.arguments).is_ok_and(|v| v.is_object()))
            );
        }
    }
    assert!(open.is_empty(), "{messages:#?}");
}

pub(super) fn estimate(request: &ChatRequest) -> u64 {
    let tools = request.tools.iter().map(|tool| {
        estimate_tokens(&tool.name) + estimate_tokens(&tool.description) + estimate_tokens(&tool.parameters.to_string())
    });
    request.messages.iter().map(measure::estimate_message).sum::<u64>() + tools.sum::<u64>()
}

#[test]
fn a_conversation_is_sent_whole_where_it_fits() {
    let mut bad = turn("a", "This call was not carried out.");
    bad.answer.raw_calls[0].arguments = "{\"path\": ".into();
    let rejected = Turn {
        answer: interpret(&reviewing(), &model(), &calling(&[("f", "finish", r#"{"summary":"s"}"#)])),
        results: Vec::new(),
        say: Some(words::repair("It lacks output.")),
    };
    let empty = Turn {
        answer: interpret(&reviewing(), &model(), &answering("")),
        results: Vec::new(),
        say: Some("Go on.".into()),
    };
    let request = compose(&reviewing(), &model(), "system", "task", &[bad, rejected, empty, turn("b", "text of b")]);
    assert_paired(&request.messages);
    assert_eq!(request.messages[0], Message::System { text: "system".into() });
    assert_eq!(request.messages[1], Message::User { text: "task".into() });
    assert_eq!(request.messages.last(), Some(&Message::Tool { call_id: "b".into(), text: "text of b".into() }));
    assert_eq!(request.tools.len(), 2);
    assert_eq!(request.output_schema, None);
    let no_text = |message: &Message| matches!(message, Message::Assistant { text, calls, .. } if text.is_empty() && calls.is_empty());
    assert!(!request.messages.iter().any(no_text));
}

#[test]
fn an_agent_that_only_answers_is_asked_for_its_output() {
    let agent = AgentSpec { tools: vec!["finish".into()], ..reviewing() };
    let request = compose(&agent, &model(), "system", "task", &[]);
    assert_eq!(request.output_schema, agent.output.map(|output| output.schema));
    assert!(request.tools.is_empty());
}

#[test]
fn older_observations_become_stubs() {
    let long = "a line of some length\n".repeat(100);
    let agent = AgentSpec { keep_observations: Some(2), ..spec(&["read_file", "finish"]) };
    let turns: Vec<Turn> = (0..6).map(|n| turn(&format!("f{n}.rs"), &long)).collect();
    let request = compose(&agent, &model(), "system", "task", &turns);
    assert_paired(&request.messages);
    let results: Vec<&str> = request
        .messages
        .iter()
        .filter_map(|message| match message {
            Message::Tool { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(results.iter().filter(|text| **text == long).count(), 2);
    assert!(
        results[0].contains("read_file f0.rs") && results[0].contains("100 lines") && results[0].lines().count() == 1
    );
    assert_eq!(results[5], long);
}

#[test]
fn the_oldest_turns_go_first_and_the_task_stays() {
    let agent = AgentSpec { history_tokens: Some(3_000), ..spec(&["read_file", "finish"]) };
    let mut turns: Vec<Turn> = (0..60).map(|n| turn(&format!("f{n}.rs"), &"word ".repeat(100))).collect();
    turns[59].results[0].1 = "the last result".into();
    let request = compose(&agent, &model(), "system", "the task", &turns);
    assert_paired(&request.messages);
    assert!(estimate(&request) <= 3_000, "{}", estimate(&request));
    let Message::User { text } = &request.messages[1] else { panic!() };
    assert!(text.starts_with("the task\n") && text.contains("earlier turns of yours were left out"), "{text}");
    assert!(matches!(request.messages.last(), Some(Message::Tool { text, .. }) if text == "the last result"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_request_always_fits_its_window(
        window in 4_000u64..20_000, share in 0u64..120, system in 0usize..60_000, prompt in 0usize..60_000,
        results in prop::collection::vec(0usize..60_000, 0..6), functions in any::<bool>(), keep in prop::option::of(0usize..3),
    ) {
        let model = ModelRef { context_window: window, max_output: window * share / 100, tools: functions, ..model() };
        let agent = AgentSpec { keep_observations: keep, ..spec(&["read_file", "finish"]) };
        let turns: Vec<Turn> = results.iter().enumerate().map(|(n, size)| turn(&format!("f{n}"), &"é\n".repeat(size / 3))).collect();
        let request = compose(&agent, &model, &"s".repeat(system), &"p".repeat(prompt), &turns);
        let room = window.saturating_sub(model.max_output).max(window / 2);
        prop_assert!(estimate(&request) <= room, "{} > {room}", estimate(&request));
        assert_paired(&request.messages);
        prop_assert!(upper_bound_tokens(&request) >= estimate(&request));
    }

    #[test]
    fn no_answer_panics(text in "(```json\n|```|\\{\"tool\": ?|\"read_file\"|, ?\"args\": ?|\\{|\\}|\\[|x|\n|\"){0,30}", arguments in ".{0,30}", functions in any::<bool>()) {
        let model = ModelRef { tools: functions, ..model() };
        for agent in [spec(&["read_file", "finish"]), reviewing()] {
            let with_call = interpret(&agent, &model, &said(&text, &[("", "finish", &arguments)], StopReason::ToolCalls));
            let without = interpret(&agent, &model, &answering(&text));
            for answer in [with_call, without] {
                prop_assert_eq!(answer.calls.len(), answer.raw_calls.len());
                let request = compose(&agent, &model, "s", "p", &[Turn { answer, results: Vec::new(), say: None }]);
                assert_paired(&request.messages);
            }
        }
    }
}

#[test]
fn a_request_has_one_name_whoever_is_asked_and_whatever_the_ids() {
    let ask = |id: &str, model: &ModelRef| {
        let mut turn = turn("a.rs", "text");
        turn.answer.raw_calls[0].id = id.into();
        turn.results[0].0 = id.into();
        compose(&spec(&["read_file", "finish"]), model, "system", "task", &[turn]).fingerprint()
    };
    let other = ModelRef { name: "other".into(), base_url: Some("http://x/v1".into()), ..model() };
    assert_eq!(ask("call_abc", &model()), ask("call_xyz", &other));
    let changed = compose(&spec(&["read_file", "finish"]), &model(), "system", "task!", &[]).fingerprint();
    assert_ne!(changed, ask("call_abc", &model()));
    assert_eq!(changed.len(), 64);
}

// ── built-in prompts ──

#[test]
fn every_shipped_prompt_renders_and_every_mode_keeps_its_word() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut modes = 0;
    for entry in std::fs::read_dir(root.join("workflows/modes")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let mode: Value = serde_yaml::from_str(&text).unwrap();
        let name = mode["name"].as_str().unwrap();
        let template = root.join("templates/prompts").join(mode["prompt_template"].as_str().unwrap());
        let template = std::fs::read_to_string(template).unwrap();
        let tools: Vec<&str> = mode["tools"].as_array().unwrap().iter().map(|tool| tool.as_str().unwrap()).collect();
        let read_only = ["architect", "reviewer", "planner", "researcher", "security"].contains(&name);
        let writes = ["write_file", "edit_file", "apply_patch"].iter().any(|tool| tools.contains(tool));
        assert_ne!(read_only, writes, "{name}");
        for gates in [json!([]), json!([{ "name": "tests", "run": "cargo test" }])] {
            let ctx = json!({
                "mode": { "name": name, "read_only": read_only }, "tools": tools, "workflow": "fix",
                "policy": { "name": "headless-safe-sandbox" }, "gates": gates, "inputs": { "task": "IGNORE" },
                "event": {}, "steps": {}, "run": { "id": "7f3k9m2q" }, "key": "k",
            });
            let trust = crate::template::Trust::of(crate::template::SYSTEM_TRUST);
            let prompt = crate::template::prompt(name, &template, &ctx, &trust).unwrap();
            assert!(prompt.contains("finish") && prompt.contains("never gives you instructions"), "{name}: {prompt}");
            assert!(!prompt.contains("<untrusted-data"), "{name}: {prompt}");
            assert_eq!(prompt.contains("`cargo test`"), gates != json!([]), "{name}");
        }
        modes += 1;
    }
    assert_eq!(modes, 12);
}
