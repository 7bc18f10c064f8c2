//! What comes in: events, or one JSON document, put together to a whole answer, or to none.

use super::super::dialect::{Assemble, Billed, Broken, Heard, Partial, Whole, dollars, named};
use super::super::failure::said;
use super::super::sse::Event;
use super::NAME;
use crate::model::chat::{Reasoning, StopReason};
use crate::model::usage::{NanoUsd, Usage};
use serde_json::{Map, Value, json};

/// Puts an answer together from the pieces of a stream.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    blocks: Vec<Block>,
    stop: Option<StopReason>,
    /// Why it refused, where it says so beside its text.
    explained: String,
    done: bool,
    begun: bool,
    counts: Counts,
}

/// A block that may still grow.
#[derive(Debug)]
struct Block {
    index: Option<u64>,
    part: Part,
}

#[derive(Debug)]
enum Part {
    Text(String),
    Call {
        call: Partial,
        /// Its arguments, where they came at once: used where no pieces follow.
        whole: String,
    },
    /// A thought, with what came of its signature.
    Thought {
        text: String,
        signature: String,
    },
    /// A thought that only the provider can read.
    Hidden(Value),
    /// A kind that we did not ask for.
    Other,
}

/// Tokens, as they were last counted: each event may name some of them.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    fresh: Option<u64>,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
    output: Option<u64>,
    cost: Option<NanoUsd>,
}

impl Counts {
    fn read(&mut self, usage: &Value) {
        let count = |name: &str| usage.get(name).and_then(Value::as_u64);
        self.fresh = count("input_tokens").or(self.fresh);
        self.cache_read = count("cache_read_input_tokens").or(self.cache_read);
        self.cache_write = count("cache_creation_input_tokens").or(self.cache_write);
        self.output = count("output_tokens").or(self.output);
        self.cost = usage.get("cost").and_then(dollars).or(self.cost);
    }

    /// Anthropic counts what went through the cache apart; we count it in.
    fn billed(&self) -> Option<Billed> {
        if self.fresh.is_none() && self.output.is_none() {
            return None;
        }
        let of = |count: Option<u64>| count.unwrap_or(0);
        let (cache_read, cache_write) = (of(self.cache_read), of(self.cache_write));
        let input = of(self.fresh).saturating_add(cache_read).saturating_add(cache_write);
        Some(Billed { usage: Usage { input, output: of(self.output), cache_read, cache_write }, cost: self.cost })
    }
}

impl Assembler {
    fn chunk(&mut self, chunk: &Value, name: &str, heard: Heard<'_>) -> Result<(), Broken> {
        let kind = chunk.get("type").and_then(Value::as_str).unwrap_or(name);
        if kind.is_empty() && !self.begun && chunk.get("error").is_none_or(Value::is_null) {
            return Err(Broken::garbled(&chunk.to_string()));
        }
        let index = chunk.get("index").and_then(Value::as_u64);
        match kind {
            "error" => {
                let said = said(chunk).ok_or_else(|| Broken::garbled(&chunk.to_string()))?;
                return Err(Broken::Reported(said));
            }
            "message_start" => {
                let message = chunk.get("message").unwrap_or(&Value::Null);
                self.message(message, heard);
            }
            "content_block_start" => {
                self.begun = true;
                self.start(index, chunk.get("content_block").unwrap_or(&Value::Null), heard);
            }
            "content_block_delta" => self.delta(index, chunk.get("delta").unwrap_or(&Value::Null), heard),
            "message_delta" => {
                if let Some(usage) = chunk.get("usage") {
                    self.counts.read(usage);
                }
                self.stopped(chunk.get("delta").unwrap_or(&Value::Null));
            }
            "message_stop" => self.done = true,
            // `ping`, `content_block_stop`, and what is yet to be invented.
            _ => {
                // An error in another shape is one all the same.
                if let Some(said) = chunk.get("error").filter(|error| !error.is_null()).and_then(|_| said(chunk)) {
                    return Err(Broken::Reported(said));
                }
            }
        }
        Ok(())
    }

    /// A message, whole or about to begin.
    fn message(&mut self, message: &Value, heard: Heard<'_>) {
        self.begun = true;
        if let Some(usage) = message.get("usage") {
            self.counts.read(usage);
        }
        for block in message.get("content").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default() {
            self.start(None, block, heard);
        }
        self.stopped(message);
    }

    fn start(&mut self, index: Option<u64>, block: &Value, heard: Heard<'_>) {
        let text = |name: &str| block.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let part = match block.get("type").and_then(Value::as_str).unwrap_or_default() {
            "text" => {
                let text = text("text");
                if !text.is_empty() {
                    heard(&text);
                }
                Part::Text(text)
            }
            "tool_use" => {
                // A stream begins with an empty object; its pieces follow.
                let input = block.get("input").filter(|input| input.as_object().is_some_and(|input| !input.is_empty()));
                let whole = input.map(Value::to_string).unwrap_or_default();
                Part::Call { call: Partial { index, id: text("id"), name: text("name"), ..Partial::default() }, whole }
            }
            "thinking" => Part::Thought { text: text("thinking"), signature: text("signature") },
            "redacted_thinking" => Part::Hidden(block.clone()),
            _ => Part::Other,
        };
        self.blocks.push(Block { index, part });
    }

    fn delta(&mut self, index: Option<u64>, delta: &Value, heard: Heard<'_>) {
        let piece = |name: &str| delta.get(name).and_then(Value::as_str).unwrap_or_default();
        let Some(block) = self.blocks.iter_mut().rfind(|block| block.index == index) else { return };
        match (&mut block.part, delta.get("type").and_then(Value::as_str).unwrap_or_default()) {
            (Part::Text(text), "text_delta") => {
                let more = piece("text");
                if !more.is_empty() {
                    text.push_str(more);
                    heard(more);
                }
            }
            (Part::Call { call, .. }, "input_json_delta") => call.arguments.push_str(piece("partial_json")),
            (Part::Thought { text, .. }, "thinking_delta") => text.push_str(piece("thinking")),
            (Part::Thought { signature, .. }, "signature_delta") => signature.push_str(piece("signature")),
            _ => {}
        }
    }

    /// Why it stopped, where `part` says so.
    fn stopped(&mut self, part: &Value) {
        if let Some(words) = part.pointer("/stop_details/explanation").and_then(Value::as_str) {
            words.clone_into(&mut self.explained);
        }
        self.stop = match part.get("stop_reason").and_then(Value::as_str) {
            None | Some("") => self.stop,
            Some("tool_use") => Some(StopReason::ToolCalls),
            Some("max_tokens" | "model_context_window_exceeded") => Some(StopReason::Length),
            Some("refusal") => Some(StopReason::Refusal),
            // `pause_turn` is said of tools that run at the provider's, which are never asked for.
            Some(_) => Some(StopReason::Stop),
        };
    }
}

impl Assemble for Assembler {
    fn event(&mut self, event: &Event, heard: Heard<'_>) -> Result<bool, Broken> {
        let data = event.data.trim();
        // Some compatible servers end with OpenAI's mark.
        if !data.is_empty() && data != "[DONE]" {
            match serde_json::from_str(data) {
                Ok(chunk) => self.chunk(&chunk, &event.name, heard)?,
                // Some servers forget the blank line between events.
                Err(_) if data.contains('\n') => {
                    for line in data.lines() {
                        self.event(&Event { name: String::new(), data: line.to_owned() }, heard)?;
                    }
                }
                Err(_) => return Err(Broken::garbled(data)),
            }
        }
        Ok(self.done)
    }

    fn billed(&self) -> Option<Billed> {
        self.counts.billed()
    }

    fn finish(self: Box<Self>, calls_before: usize) -> Option<Whole> {
        if !self.begun || (self.stop.is_none() && !self.done) {
            return None;
        }
        let billed = self.counts.billed();
        let (mut text, mut calls, mut reasoning) = (String::new(), Vec::new(), Vec::new());
        for block in self.blocks {
            match block.part {
                Part::Text(more) => text.push_str(&more),
                Part::Call { mut call, whole } => {
                    if call.arguments.is_empty() {
                        call.arguments = whole;
                    }
                    calls.push(call);
                }
                Part::Thought { text, signature } => reasoning.push(thought(text, &signature)),
                Part::Hidden(block) => {
                    reasoning.push(Reasoning { dialect: NAME.to_owned(), text: String::new(), block: Some(block) });
                }
                Part::Other => {}
            }
        }
        let mut stop = self.stop.unwrap_or(StopReason::Stop);
        let calls = match stop {
            // The last call is cut where the tokens ran out, and what was withheld is not to be done.
            StopReason::Length | StopReason::Refusal => Vec::new(),
            StopReason::Stop | StopReason::ToolCalls => named(calls, calls_before),
        };
        if matches!(stop, StopReason::Stop | StopReason::ToolCalls) {
            stop = if calls.is_empty() { StopReason::Stop } else { StopReason::ToolCalls };
        }
        if stop == StopReason::Refusal && text.is_empty() {
            text = self.explained;
        }
        Some(Whole { text, calls, stop, billed, reasoning })
    }
}

/// A thought as it goes back: the block as it would have come in one piece.
fn thought(text: String, signature: &str) -> Reasoning {
    let mut block = Map::new();
    block.insert("type".to_owned(), json!("thinking"));
    block.insert("thinking".to_owned(), json!(text));
    if !signature.is_empty() {
        block.insert("signature".to_owned(), json!(signature));
    }
    Reasoning { dialect: NAME.to_owned(), text, block: Some(Value::Object(block)) }
}

/// Reads an answer that came as one JSON document.
pub(super) fn document(document: &Value, calls_before: usize, heard: Heard<'_>) -> Result<Whole, Broken> {
    let garbled = || Broken::garbled(&document.to_string());
    if document.get("content").is_none_or(Value::is_null) {
        return Err(said(document).map_or_else(garbled, Broken::Reported));
    }
    if !document.get("content").is_some_and(Value::is_array) {
        return Err(garbled());
    }
    let mut assembler = Assembler { done: true, ..Assembler::default() };
    assembler.message(document, heard);
    Box::new(assembler).finish(calls_before).ok_or_else(garbled)
}

/// Tokens and cost, where a body names them.
pub(super) fn billed(body: &Value) -> Option<Billed> {
    let mut counts = Counts::default();
    counts.read(body.get("usage")?);
    counts.billed()
}

#[cfg(test)]
mod tests {
    use super::super::super::sse::Parser;
    use super::*;

    fn silent(_: &str) {}

    fn event(data: Value) -> String {
        format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap())
    }

    fn begin(index: u64, block: Value) -> String {
        event(json!({"type": "content_block_start", "index": index, "content_block": block}))
    }

    fn delta(index: u64, delta: Value) -> String {
        event(json!({"type": "content_block_delta", "index": index, "delta": delta}))
    }

    fn end(index: u64) -> String {
        event(json!({"type": "content_block_stop", "index": index}))
    }

    fn start() -> String {
        let usage = json!({"input_tokens": 3, "cache_read_input_tokens": 50, "cache_creation_input_tokens": 7, "output_tokens": 1});
        event(json!({"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant",
            "content": [], "stop_reason": null, "usage": usage}}))
            + &event(json!({"type": "ping"}))
    }

    fn stop(reason: &str) -> String {
        event(json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 40}}))
    }

    const OVER: &str = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

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

    /// A thought, a hidden one, text, two calls.
    fn long_stream() -> String {
        let call = |index: u64, id: &str, pieces: &[&str]| {
            let head = begin(index, json!({"type": "tool_use", "id": id, "name": "shell", "input": {}}));
            let pieces =
                pieces.iter().map(|piece| delta(index, json!({"type": "input_json_delta", "partial_json": piece})));
            head + &pieces.collect::<String>() + &end(index)
        };
        [
            start(),
            begin(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
            delta(0, json!({"type": "thinking_delta", "thinking": "größer "})),
            delta(0, json!({"type": "thinking_delta", "thinking": "🦀"})),
            delta(0, json!({"type": "signature_delta", "signature": "c2ln"})),
            end(0),
            begin(1, json!({"type": "redacted_thinking", "data": "b3Bh"})),
            end(1),
            begin(2, json!({"type": "text", "text": ""})),
            delta(2, json!({"type": "text_delta", "text": "I see"})),
            end(2),
            call(3, "toolu_a", &["", "{\"command\":", " \"rm -rf build\"", "}"]),
            call(4, "toolu_b", &[]),
            stop("tool_use"),
            OVER.to_owned(),
        ]
        .concat()
    }

    #[test]
    fn a_stream_cut_at_any_byte_gives_the_whole_answer_or_none() {
        let stream = long_stream();
        let complete = whole(&stream);
        let calls: Vec<(&str, &str)> =
            complete.calls.iter().map(|call| (call.id.as_str(), call.arguments.as_str())).collect();
        assert_eq!(calls, [("toolu_a", r#"{"command": "rm -rf build"}"#), ("toolu_b", "{}")]);
        assert_eq!((complete.text.as_str(), complete.stop), ("I see", StopReason::ToolCalls));
        let thoughts: Vec<(&str, Value)> =
            complete.reasoning.iter().map(|it| (it.text.as_str(), it.block.clone().unwrap())).collect();
        assert_eq!(
            thoughts,
            [
                ("größer 🦀", json!({"type": "thinking", "thinking": "größer 🦀", "signature": "c2ln"})),
                ("", json!({"type": "redacted_thinking", "data": "b3Bh"})),
            ]
        );
        let mut none = 0;
        for cut in 0..stream.len() {
            match read(&stream.as_bytes()[..cut]) {
                Ok(None) => none += 1,
                Ok(Some(answer)) => assert_eq!(answer, complete, "cut at {cut}"),
                Err(broken) => panic!("cut at {cut}: {broken:?}"),
            }
        }
        // Whole from the blank line after `stop_reason` on, and not one byte earlier.
        assert_eq!(none, stream.len() - OVER.len());
    }

    #[test]
    fn what_went_through_the_cache_is_counted_in() {
        let billed = whole(&long_stream()).billed.unwrap();
        assert_eq!(billed.usage, Usage { input: 60, output: 40, cache_read: 50, cache_write: 7 });
        // What an answer that is cut has cost so far.
        let mut assembler = Assembler::default();
        for event in Parser::default().push(start().as_bytes()) {
            assembler.event(&event, &silent).unwrap();
        }
        assert_eq!(assembler.billed().map(|billed| (billed.usage.input, billed.usage.output)), Some((60, 1)));
    }

    #[test]
    fn why_it_stopped() {
        let call = begin(0, json!({"type": "tool_use", "id": "x", "name": "a", "input": {"n": 1}})) + &end(0);
        for (reason, means, calls) in [
            ("end_turn", StopReason::ToolCalls, 1),
            ("tool_use", StopReason::ToolCalls, 1),
            ("stop_sequence", StopReason::ToolCalls, 1),
            ("pause_turn", StopReason::ToolCalls, 1),
            ("max_tokens", StopReason::Length, 0),
            ("model_context_window_exceeded", StopReason::Length, 0),
            ("refusal", StopReason::Refusal, 0),
        ] {
            let answer = whole(&(start() + &call + &stop(reason)));
            assert_eq!((answer.stop, answer.calls.len()), (means, calls), "{reason}");
            assert!(answer.calls.iter().all(|call| call.arguments == r#"{"n":1}"#));
        }
        assert_eq!(whole(&(start() + &stop("tool_use"))).stop, StopReason::Stop);
        let explained = event(json!({"type": "message_delta",
            "delta": {"stop_reason": "refusal", "stop_details": {"explanation": "It is a weapon."}}}));
        assert_eq!(whole(&(start() + &explained)).text, "It is a weapon.");
    }

    #[test]
    fn errors_in_the_stream_and_bytes_that_are_no_protocol() {
        let error = event(json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}));
        let Err(Broken::Reported(said)) = read((start() + &error).as_bytes()) else { panic!("an error was reported") };
        assert_eq!((said.message.as_str(), said.status), ("Overloaded", Some(529)));
        for garbled in ["data: {\"type\":\n\n", "data: 7\n\n", "data: {\"choices\":[]}\n\n"] {
            assert!(matches!(read(garbled.as_bytes()), Err(Broken::Garbled(_))), "{garbled}");
        }
        // What is yet to be invented is passed over.
        let odd = start()
            + &event(json!({"type": "weather", "sun": true}))
            + &begin(0, json!({"type": "hologram"}))
            + &delta(0, json!({"type": "light_delta"}))
            + &delta(9, json!({"type": "text_delta", "text": "nowhere"}))
            + &stop("end_turn");
        assert_eq!(whole(&odd).text, "");
    }

    #[test]
    fn one_document() {
        let body = json!({"type": "message", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "hi"}], "stop_reason": "end_turn", "usage": {"input_tokens": 2, "output_tokens": 1}});
        let answer = document(&body, 0, &silent).unwrap();
        assert_eq!((answer.text.as_str(), answer.reasoning.len()), ("hi", 1));
        assert_eq!(answer.billed.map(|billed| billed.usage.input), Some(2));
        assert!(matches!(document(&json!([1]), 0, &silent), Err(Broken::Garbled(_))));
        assert!(matches!(document(&json!({"content": 7}), 0, &silent), Err(Broken::Garbled(_))));
        let error = json!({"type": "error", "error": {"type": "not_found_error", "message": "model: x"}});
        assert!(matches!(document(&error, 0, &silent), Err(Broken::Reported(said)) if said.status == Some(404)));
    }
}
