//! The next request of a conversation.

use super::history;
use super::measure::{estimate_message, estimate_request, estimate_tokens};
use super::{protocol, recommend, tools};
use crate::model::chat::{ChatRequest, Message, ModelRef, Turn};
use crate::model::history::Processor;
use crate::model::plan::AgentSpec;
use crate::text::cap;

/// Tokens set aside for the note on turns that were left out, and for the provider's framing.
const ALLOWANCE: u64 = 128;

/// Puts a request together: system prompt, first prompt, then the turns, shortened as the mode and the model's window ask.
///
/// The history is what `spec.processors()` leave of it, below their `token_limit` and in any case below
/// `context_window − max_output` (both by [`super::estimate_tokens`]): older results become stubs, then the oldest turns
/// go, each with its calls and results together; the first prompt and the last turn stay. Only where that turn alone does
/// not fit is it shortened too, and at the very last the prompts, in their middle. Cuts are made every few turns, so that
/// in between a request begins with the one before it; with `cache_control` it is marked where the provider may keep it.
///
/// With `spec.recommend` only the tools that fit the task best are offered, and those that were called since.
///
/// A model without function calling gets its tools described in the system prompt, calls them in fenced JSON, and gets
/// results as fenced data. An agent that has `finish` alone and an output schema is asked for that output directly.
pub fn compose(spec: &AgentSpec, model: &ModelRef, system: &str, prompt: &str, turns: &[Turn]) -> ChatRequest {
    let recommended = recommend::offer(spec, prompt, tools::specs(&spec.tools, spec.output.as_ref()), turns);
    let offered = recommended.offered;
    let only_output = offered.iter().all(|tool| tool.name == "finish");
    let output_schema = spec.output.as_ref().filter(|_| only_output).map(|output| output.schema.clone());
    let mut system = system.trim_end().to_owned();
    let mut tools = Vec::new();
    if let Some(schema) = &output_schema {
        system.push_str("\n\nAnswer with one JSON value and nothing else. It must follow this JSON Schema:\n");
        system.push_str(&schema.to_string());
    } else if model.tools {
        tools = offered;
    } else if !offered.is_empty() {
        system.push_str(&protocol::describe(&offered));
    }
    system.push_str(&recommended.note);
    let mut prompt = prompt.to_owned();
    let window = window(model);
    let declared: u64 = tools
        .iter()
        .map(|tool| {
            estimate_tokens(&tool.name)
                + estimate_tokens(&tool.description)
                + estimate_tokens(&tool.parameters.to_string())
        })
        .sum::<u64>()
        + output_schema.as_ref().map_or(0, |schema| estimate_tokens(&schema.to_string()))
        + ALLOWANCE;
    let fixed = |system: &str, prompt: &str| {
        declared
            + estimate_message(&Message::System { text: system.to_owned() })
            + estimate_message(&Message::User { text: prompt.to_owned() })
    };
    // The prompts must fit before any history can: each may take up to half of what there is.
    if fixed(&system, &prompt) > window {
        let bytes =
            usize::try_from(window.saturating_sub(declared + 32) * 3 / 2).unwrap_or(usize::MAX).saturating_sub(64);
        let room = (bytes * 2).saturating_sub(system.len()).max(bytes);
        prompt = cap(&prompt, room);
        if fixed(&system, &prompt) > window {
            let room = (bytes * 2).saturating_sub(prompt.len()).saturating_sub(64);
            system = cap(&system, room);
        }
    }
    let base = fixed(&system, &prompt);
    let processors = spec.processors();
    let limits =
        processors.iter().filter_map(|it| if let Processor::TokenLimit(limit) = it { Some(*limit) } else { None });
    let soft = limits.min().unwrap_or(u64::MAX).min(window);
    let mut kept = history::keep(&processors, turns, soft.saturating_sub(base), model.tools);
    let shortened = history::squeeze(&mut kept.turns, window.saturating_sub(base), model.tools);
    let stable = if shortened { 0 } else { kept.stable };
    if kept.turns.len() < turns.len() {
        // Without a number: that would change the beginning of the request with each turn that goes.
        prompt.push_str(
            "\n\n[Some earlier turns of yours were left out to save room. The files hold what was done: git_diff shows it.]",
        );
    }
    let mut messages = vec![Message::System { text: system }, Message::User { text: prompt }];
    let mut marks = vec![0, 1];
    for (number, turn) in kept.turns.iter().enumerate() {
        messages.extend(turn.messages(model.tools));
        if number + 1 == stable || number + 1 == kept.turns.len() {
            marks.push(messages.len() - 1);
        }
    }
    marks.dedup();
    let cache_marks = if processors.contains(&Processor::CacheControl) { marks } else { Vec::new() };
    ChatRequest { model: model.clone(), messages, tools, output_schema, cache_marks, ..ChatRequest::default() }
}

/// What a request would have in tokens, estimated, if the model's window were boundless: what the mode asks to be left
/// out of the history is left out, but nothing for want of room.
pub fn estimate(spec: &AgentSpec, model: &ModelRef, system: &str, prompt: &str, turns: &[Turn]) -> u64 {
    let boundless = ModelRef { context_window: u64::MAX / 4, max_output: 0, ..model.clone() };
    estimate_request(&compose(spec, &boundless, system, prompt, turns))
}

/// Tokens that a request may have. A model whose answers may fill its window still gets half of it for the question.
fn window(model: &ModelRef) -> u64 {
    model.context_window.saturating_sub(model.max_output).max(model.context_window / 2)
}
