//! What comes in: events, or one JSON document, put together to a whole answer, or to none.

use super::super::dialect::{Assemble, Billed, Broken, Heard, Partial, Whole, dollars, named};
use super::super::failure::{Said, said};
use super::super::sse::Event;
use super::REASONING;
use crate::model::chat::{Reasoning, StopReason};
use crate::model::usage::Usage;
use serde_json::{Value, json};

/// Puts an answer together from the pieces of a stream.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    text: String,
    refusal: String,
    thought: String,
    /// Whether the server called it `reasoning_content`, and so wants it back.
    wanted_back: bool,
    calls: Vec<Partial>,
    finish: Option<StopReason>,
    done: bool,
    begun: bool,
    billed: Option<Billed>,
}

impl Assembler {
    fn chunk(&mut self, chunk: &Value, name: &str, heard: Heard<'_>) -> Result<(), Broken> {
        if chunk.get("type").is_some_and(|kind| kind == "message_start") {
            // Anthropic's protocol: it would never come to an end that is known here.
            return Err(Broken::garbled(&chunk.to_string()));
        }
        self.billed = billed(chunk).or(self.billed);
        if let Some(said) = said(chunk).filter(|_| name == "error" || chunk.get("choices").is_none()) {
            return Err(Broken::Reported(said));
        }
        if let Some(said) = chunk.get("error").filter(|error| !error.is_null()).and_then(|_| said(chunk)) {
            return Err(Broken::Reported(said));
        }
        let choices = chunk.get("choices").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for choice in choices.iter().filter(|choice| choice.get("index").and_then(Value::as_u64).unwrap_or(0) == 0) {
            self.choice(choice, "delta", heard)?;
        }
        Ok(())
    }

    fn choice(&mut self, choice: &Value, part: &str, heard: Heard<'_>) -> Result<(), Broken> {
        self.begun = true;
        if let Some(said) = choice.get("error").filter(|error| !error.is_null()).and_then(|_| said(choice)) {
            return Err(Broken::Reported(said));
        }
        // A server may send the whole message where a delta belongs.
        let delta = choice.get(part).or_else(|| choice.get("message")).unwrap_or(&Value::Null);
        let text = content(delta.get("content").unwrap_or(&Value::Null));
        if !text.is_empty() {
            self.text.push_str(&text);
            heard(&text);
        }
        if let Some(refusal) = delta.get("refusal").and_then(Value::as_str).filter(|text| !text.is_empty()) {
            self.refusal.push_str(refusal);
            heard(refusal);
        }
        if let Some(thought) = delta.get(REASONING).and_then(Value::as_str).filter(|text| !text.is_empty()) {
            self.thought.push_str(thought);
            self.wanted_back = true;
        } else if let Some(thought) = delta.get("reasoning").and_then(Value::as_str) {
            self.thought.push_str(thought);
        }
        for call in delta.get("tool_calls").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default() {
            self.call(call);
        }
        match choice.get("finish_reason").and_then(Value::as_str) {
            None | Some("") => {}
            Some("error") => {
                let message = "the provider broke the answer off (finish_reason: error)".to_owned();
                return Err(Broken::Reported(Said { message, ..Said::default() }));
            }
            Some("length" | "max_tokens") => self.finish = Some(StopReason::Length),
            Some("content_filter" | "refusal" | "safety") => self.finish = Some(StopReason::Refusal),
            Some("tool_calls" | "function_call") => self.finish = Some(StopReason::ToolCalls),
            Some(_) => self.finish = Some(StopReason::Stop),
        }
        Ok(())
    }

    /// A piece of a call. Servers number the pieces, or name them by id, or do neither and send whole calls.
    fn call(&mut self, piece: &Value) {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let index = piece.get("index").and_then(Value::as_u64);
        let id = text(piece.get("id"));
        let function = piece.get("function").unwrap_or(&Value::Null);
        let name = text(function.get("name"));
        let arguments = match function.get("arguments") {
            Some(Value::String(text)) => text.clone(),
            // Some servers send the object itself.
            Some(object @ Value::Object(_)) => object.to_string(),
            _ => String::new(),
        };
        let known = match index {
            Some(_) => self.calls.iter().rposition(|call| call.index == index),
            None if id.is_empty() => self.calls.len().checked_sub(1),
            None => self.calls.iter().rposition(|call| call.id == id),
        };
        let grows = known.and_then(|at| self.calls.get_mut(at)).filter(|call| {
            // Another id with another beginning is another call, whatever its number says; so is a second name
            // after arguments where nothing numbers or names the pieces.
            let other_id = !id.is_empty() && !call.id.is_empty() && call.id != id && !name.is_empty();
            let other_name = index.is_none() && id.is_empty() && !name.is_empty() && !call.arguments.is_empty();
            !other_id && !other_name
        });
        let Some(call) = grows else {
            self.calls.push(Partial { index, id, name, arguments });
            return;
        };
        if call.id.is_empty() {
            call.id = id;
        }
        if call.name != name {
            call.name.push_str(&name);
        }
        call.arguments.push_str(&arguments);
    }
}

impl Assemble for Assembler {
    fn event(&mut self, event: &Event, heard: Heard<'_>) -> Result<bool, Broken> {
        let data = event.data.trim();
        if data == "[DONE]" {
            self.done = true;
        } else if !data.is_empty() {
            match serde_json::from_str(data) {
                Ok(chunk) => self.chunk(&chunk, &event.name, heard)?,
                // Some servers forget the blank line between events.
                Err(_) if data.contains('\n') => {
                    for line in data.lines() {
                        self.event(&Event { name: event.name.clone(), data: line.to_owned() }, heard)?;
                    }
                }
                Err(_) => return Err(Broken::garbled(data)),
            }
        }
        Ok(self.done)
    }

    fn billed(&self) -> Option<Billed> {
        self.billed
    }

    fn finish(self: Box<Self>, calls_before: usize) -> Option<Whole> {
        if !self.begun || (self.finish.is_none() && !self.done) {
            return None;
        }
        let mut stop = self.finish.unwrap_or(StopReason::Stop);
        let mut text = self.text;
        if !self.refusal.is_empty() {
            stop = StopReason::Refusal;
            if text.is_empty() {
                text = self.refusal;
            }
        }
        let calls = match stop {
            // The last call is cut where the tokens ran out, and what was withheld is not to be done.
            StopReason::Length | StopReason::Refusal => Vec::new(),
            StopReason::Stop | StopReason::ToolCalls => named(self.calls, calls_before),
        };
        if matches!(stop, StopReason::Stop | StopReason::ToolCalls) {
            // LiteLLM and others say `stop` with calls; others say `tool_calls` without any.
            stop = if calls.is_empty() { StopReason::Stop } else { StopReason::ToolCalls };
        }
        let block = self.wanted_back.then(|| json!({"type": REASONING}));
        let reasoning = if self.thought.is_empty() {
            Vec::new()
        } else {
            vec![Reasoning { dialect: "openai".to_owned(), text: self.thought, block }]
        };
        Some(Whole { text, calls, stop, billed: self.billed, reasoning })
    }
}

/// Reads an answer that came as one JSON document.
pub(super) fn document(document: &Value, calls_before: usize, heard: Heard<'_>) -> Result<Whole, Broken> {
    let garbled = || Broken::garbled(&document.to_string());
    if let Some(said) = said(document).filter(|_| document.get("choices").is_none_or(Value::is_null)) {
        return Err(Broken::Reported(said));
    }
    let choice = document.get("choices").and_then(|choices| choices.get(0)).ok_or_else(garbled)?;
    let mut assembler = Assembler { done: true, billed: billed(document), ..Assembler::default() };
    assembler.choice(choice, "message", heard)?;
    Box::new(assembler).finish(calls_before).ok_or_else(garbled)
}

/// `content` is text, or a list of parts with text.
fn content(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect(),
        _ => String::new(),
    }
}

/// Tokens and cost, where a chunk or a document names them.
pub(super) fn billed(chunk: &Value) -> Option<Billed> {
    let usage = chunk.get("usage").filter(|usage| usage.is_object())?;
    let count = |path: &str| usage.pointer(path).and_then(Value::as_u64);
    let input = count("/prompt_tokens").or_else(|| count("/input_tokens"));
    let output = count("/completion_tokens").or_else(|| count("/output_tokens"));
    if input.is_none() && output.is_none() {
        return None;
    }
    Some(Billed {
        usage: Usage {
            input: input.unwrap_or(0),
            output: output.unwrap_or(0),
            cache_read: count("/prompt_tokens_details/cached_tokens").unwrap_or(0),
            cache_write: count("/prompt_tokens_details/cache_creation_tokens")
                .or_else(|| count("/cache_creation_input_tokens"))
                .unwrap_or(0),
        },
        cost: usage.get("cost").and_then(dollars),
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::sse::Parser;
    use super::*;
    use crate::model::usage::NanoUsd;

    fn silent(_: &str) {}

    fn event(chunk: &Value) -> String {
        format!("data: {chunk}\n\n")
    }

    fn delta(delta: Value) -> String {
        event(&json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]}))
    }

    fn finish(reason: &str) -> String {
        event(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}))
    }

    fn read(stream: &[u8]) -> Result<Option<Whole>, Broken> {
        let mut assembler = Box::new(Assembler::default());
        for event in Parser::default().push(stream) {
            assembler.event(&event, &silent)?;
        }
        Ok(assembler.finish(0))
    }

    fn whole(stream: &str) -> Whole {
        read(stream.as_bytes()).expect("the protocol").expect("a whole answer")
    }

    fn calls(stream: &str) -> Vec<(String, String, String)> {
        whole(stream).calls.into_iter().map(|call| (call.id, call.name, call.arguments)).collect()
    }

    fn row(id: &str, name: &str, arguments: &str) -> (String, String, String) {
        (id.to_owned(), name.to_owned(), arguments.to_owned())
    }

    /// Two parallel calls in small pieces, text before them, usage after them.
    fn long_stream() -> String {
        let piece =
            |index: u64, text: &str| delta(json!({"tool_calls": [{"index": index, "function": {"arguments": text}}]}));
        [
            delta(json!({"role": "assistant", "content": "I größer 🦀"})),
            delta(json!({"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "shell", "arguments": ""}}]})),
            piece(0, "{\"command\":"),
            delta(json!({"tool_calls": [{"index": 1, "id": "b", "function": {"name": "read_file", "arguments": "{\"pa"}}]})),
            piece(0, "\"rm -rf build"),
            piece(0, "\"}"),
            piece(1, "th\":\"a\"}"),
            finish("tool_calls"),
            event(&json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 5}, "cost": 0.25}})),
            "data: [DONE]\n\n".to_owned(),
        ]
        .concat()
    }

    #[test]
    fn a_stream_cut_at_any_byte_gives_the_whole_answer_or_none() {
        let stream = long_stream();
        let complete = whole(&stream);
        assert_eq!(complete.calls.len(), 2);
        assert_eq!(complete.calls[0].arguments, r#"{"command":"rm -rf build"}"#);
        assert_eq!(complete.text, "I größer 🦀");
        let mut none = 0;
        for cut in 0..stream.len() {
            match read(&stream.as_bytes()[..cut]) {
                Ok(None) => none += 1,
                Ok(Some(answer)) => {
                    assert_eq!((answer.text, answer.calls), (complete.text.clone(), complete.calls.clone()))
                }
                Err(broken) => panic!("cut at {cut}: {broken:?}"),
            }
        }
        // Whole from the blank line after `finish_reason` on, and not one byte earlier.
        assert_eq!(none, stream.find("\"usage\"").unwrap() - "data: {\"choices\":[],".len());
    }

    #[test]
    fn usage_and_cost_are_the_last_chunks() {
        let billed = whole(&long_stream()).billed.unwrap();
        assert_eq!(billed.usage, Usage { input: 9, output: 4, cache_read: 5, cache_write: 0 });
        assert_eq!(billed.cost, Some(NanoUsd(250_000_000)));
        assert_eq!(whole(&(delta(json!({"content": "hi"})) + &finish("stop"))).billed, None);
    }

    #[test]
    fn calls_of_servers_that_number_them_badly() {
        // Whole calls, all numbered 0.
        let all_zero = delta(json!({"tool_calls": [
            {"index": 0, "id": "x", "function": {"name": "a", "arguments": "{}"}},
            {"index": 0, "id": "y", "function": {"name": "b", "arguments": "{}"}},
        ]}));
        assert_eq!(calls(&(all_zero + &finish("stop"))), [row("x", "a", "{}"), row("y", "b", "{}")]);
        // No number, no id, arguments as an object, no arguments at all.
        let nothing = delta(json!({"tool_calls": [{"function": {"name": "a", "arguments": {"n": 1}}}]}))
            + &delta(json!({"tool_calls": [{"function": {"name": "b"}}]}));
        assert_eq!(
            calls(&(nothing + "data: [DONE]\n\n")),
            [row("call_1", "a", r#"{"n":1}"#), row("call_2", "b", "{}")]
        );
        // Pieces by id, one id twice.
        let by_id = delta(json!({"tool_calls": [{"id": "p", "function": {"name": "a", "arguments": "{\"n\""}}]}))
            + &delta(json!({"tool_calls": [{"id": "p", "function": {"name": "a", "arguments": ":1}"}}]}));
        assert_eq!(calls(&(by_id + &finish("tool_calls"))), [row("p", "a", r#"{"n":1}"#)]);
        // Pieces without a number after the first.
        let unnumbered = delta(json!({"tool_calls": [{"id": "p", "function": {"name": "a", "arguments": ""}}]}))
            + &delta(json!({"tool_calls": [{"function": {"arguments": "{\"n\":"}}]}))
            + &delta(json!({"tool_calls": [{"function": {"name": null, "arguments": "1}"}}]}));
        assert_eq!(calls(&(unnumbered + &finish("tool_calls"))), [row("p", "a", r#"{"n":1}"#)]);
    }

    #[test]
    fn why_it_stopped() {
        let call =
            delta(json!({"tool_calls": [{"index": 0, "id": "x", "function": {"name": "a", "arguments": "{}"}}]}));
        let stop = |stream: String| {
            let answer = whole(&stream);
            (answer.stop, answer.calls.len(), answer.text)
        };
        assert_eq!(stop(call.clone() + &finish("stop")), (StopReason::ToolCalls, 1, String::new()));
        assert_eq!(stop(finish("tool_calls")), (StopReason::Stop, 0, String::new()));
        assert_eq!(stop(call.clone() + &finish("length")), (StopReason::Length, 0, String::new()));
        assert_eq!(stop(call.clone() + &finish("content_filter")), (StopReason::Refusal, 0, String::new()));
        let refusal = delta(json!({"refusal": "I will "})) + &delta(json!({"refusal": "not"}));
        assert_eq!(stop(call + &refusal + &finish("stop")), (StopReason::Refusal, 0, "I will not".to_owned()));
    }

    #[test]
    fn errors_in_the_stream_and_bytes_that_are_no_protocol() {
        let midway = delta(json!({"content": "hal"}))
            + &event(
                &json!({"error": {"code": 429, "message": "slow down"}, "choices": [{"delta": {}, "finish_reason": "error"}]}),
            );
        let Err(Broken::Reported(said)) = read(midway.as_bytes()) else { panic!("an error was reported") };
        assert_eq!((said.message.as_str(), said.status), ("slow down", Some(429)));
        assert_eq!(read(b"data: {\"choices\":\n\n"), Err(Broken::Garbled("{\"choices\":".to_owned())));
        for odd in [
            "data: 7\n\n",
            "data: null\n\n",
            "data: {\"choices\":7}\n\n",
            "data: {\"choices\":[null,{\"delta\":[]}]}\n\n",
        ] {
            assert!(matches!(read(odd.as_bytes()), Ok(None)), "{odd}");
        }
    }
}
