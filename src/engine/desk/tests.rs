//! What is made of a question for the step's model.

use super::*;
use crate::model::chat::{RawCall, Sampling};
use crate::model::usage::Price;

fn model() -> ModelRef {
    let price =
        Price { input_per_mtok: 1.0, output_per_mtok: 2.0, cache_write_per_mtok: Some(1.25), ..Price::default() };
    ModelRef {
        name: "sonnet".into(),
        model: "real".into(),
        max_output: 1000,
        price: Some(price),
        ..ModelRef::default()
    }
}

fn question(max_output: Option<u64>) -> Question {
    let call = RawCall { id: "call_1".into(), name: "ls".into(), arguments: "{}".into() };
    Question {
        dialect: "openai",
        model: "another".into(),
        messages: vec![
            Message::User { text: "go".into() },
            Message::Assistant { text: String::new(), calls: vec![call], reasoning: vec![] },
            Message::Tool { call_id: "call_1".into(), text: "a.txt".into() },
        ],
        tools: vec![],
        sampling: Sampling { max_output, temperature: Some(0.5), ..Sampling::default() },
        output_schema: None,
        cache_marks: vec![],
    }
}

#[test]
fn the_steps_model_is_asked_within_its_limits() {
    let none = HashMap::new();
    for (asked, wanted) in [(None, 1000), (Some(999_999), 1000), (Some(7), 7), (Some(0), 1)] {
        let request = request(&model(), &question(asked), &none);
        assert_eq!((request.model.model.as_str(), request.model.max_output), ("real", wanted), "{asked:?}");
        assert_eq!(request.sampling.max_output, asked.map(|_| wanted));
        assert_eq!(request.sampling.temperature, Some(0.5));
    }
}

#[test]
fn what_is_written_to_a_cache_is_reserved_at_its_own_price() {
    let plain = Bounds::of(&request(&model(), &question(None), &HashMap::new()));
    let marked = Question { cache_marks: vec![0], ..question(None) };
    let kept = Bounds::of(&request(&model(), &marked, &HashMap::new()));
    assert!(plain.cost >= Some(NanoUsd(plain.input_tokens * 1000 + 1000 * 2000)));
    assert_eq!(kept.cost, Some(NanoUsd(kept.input_tokens * 1250 + 1000 * 2000)));
}

#[test]
fn thoughts_go_back_with_the_calls_that_they_led_to() {
    let thought = Reasoning { dialect: "anthropic".into(), text: "hm".into(), block: None };
    let Message::Assistant { calls, .. } = question(None).messages.swap_remove(1) else { panic!() };
    let mut questions = Questions::default();
    questions.remember(&ChatAnswer {
        text: String::new(),
        calls,
        stop: crate::model::chat::StopReason::ToolCalls,
        bill: crate::model::chat::Bill {
            model: "sonnet".into(),
            usage: None,
            cost: None,
            source: crate::model::usage::CostSource::Unknown,
        },
        requests: 1,
        reasoning: vec![thought.clone()],
    });
    let request = request(&model(), &question(None), &questions.thoughts);
    let Message::Assistant { reasoning, .. } = &request.messages[1] else { panic!() };
    assert_eq!(reasoning, &[thought]);
}
