//! How large a request is.

use crate::model::chat::{ChatRequest, Message, RawCall};
use serde::Serialize;
use std::io;

/// Tokens that a message costs beside its text: role, separators.
const MESSAGE_OVERHEAD: u64 = 8;
/// Tokens that a provider may add to a request on its own: framing, and a preamble where tools are offered.
const REQUEST_OVERHEAD: u64 = 64;
const TOOLS_OVERHEAD: u64 = 1_024;

/// A careful estimate of a text's tokens: a third of its bytes, rounded up. English prose and code have three and a half
/// to four bytes a token, so this is rather too many; it decides what fits a window, never what is reserved.
pub fn estimate_tokens(text: &str) -> u64 {
    (text.len() as u64).div_ceil(3)
}

/// The estimate for a message: its text, its calls and what surrounds them.
pub fn estimate_message(message: &Message) -> u64 {
    match message {
        Message::System { text } | Message::User { text } => estimate_words(text),
        Message::Assistant { text, calls, .. } => estimate_answer(text, calls),
        Message::Tool { call_id, text } => estimate_result(call_id, text),
    }
}

/// The estimate for a message that is text alone.
pub(super) fn estimate_words(text: &str) -> u64 {
    MESSAGE_OVERHEAD + estimate_tokens(text)
}

/// The estimate for a result.
pub(super) fn estimate_result(call_id: &str, text: &str) -> u64 {
    MESSAGE_OVERHEAD + estimate_tokens(call_id) + estimate_tokens(text)
}

/// The estimate for a model's answer.
pub(super) fn estimate_answer(text: &str, calls: &[RawCall]) -> u64 {
    let called = calls.iter().map(|call| {
        let words = [&call.id, &call.name, &call.arguments];
        MESSAGE_OVERHEAD + words.into_iter().map(|text| estimate_tokens(text)).sum::<u64>()
    });
    MESSAGE_OVERHEAD + estimate_tokens(text) + called.sum::<u64>()
}

/// The estimate for a whole request.
pub(super) fn estimate_request(request: &ChatRequest) -> u64 {
    let schema = request.output_schema.as_ref().map_or(0, json_bytes);
    let declared = (json_bytes(&request.tools) + schema).div_ceil(3);
    request.messages.iter().map(estimate_message).sum::<u64>() + declared
}

/// An upper bound of the request's prompt tokens, for reservations: the bytes of everything that is sent, since a token
/// stands for at least one byte, and an allowance for what providers add (framing, a preamble for tools).
pub fn upper_bound_tokens(request: &ChatRequest) -> u64 {
    let tools = if request.tools.is_empty() { 0 } else { TOOLS_OVERHEAD };
    let schema = request.output_schema.as_ref().map_or(0, json_bytes);
    let framing = request.messages.len() as u64 * MESSAGE_OVERHEAD + REQUEST_OVERHEAD + tools;
    json_bytes(&request.messages) + json_bytes(&request.tools) + schema + framing
}

fn json_bytes<T: Serialize + ?Sized>(value: &T) -> u64 {
    struct Count(u64);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Writing to a counter cannot fail, and none of these values has keys that are not text.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}
