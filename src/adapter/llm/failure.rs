//! What went wrong with one request, and how it is told.

use super::dialect::{Billed, Dialect};
use super::retry;
use crate::model::chat::ModelFault;
pub(super) use crate::text::mask;
use serde_json::Value;
use std::time::Duration;

/// One failed request.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Failure {
    pub(super) fault: ModelFault,
    /// Whether the same request may succeed later.
    pub(super) passes: bool,
    /// How long the server asks us to wait.
    pub(super) wait: Option<Duration>,
    pub(super) status: Option<u16>,
    /// What happened, in words; may hold text of the server's, so it is cleaned before it is shown.
    pub(super) what: String,
    /// The server's own words, for what hangs on them.
    pub(super) said: Box<Said>,
    /// Tokens that were billed all the same.
    pub(super) billed: Option<Billed>,
}

/// What a server says of an error.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Said {
    pub(super) message: String,
    /// Its code or type.
    pub(super) code: String,
    /// The field of the request that it blames.
    pub(super) param: String,
    /// An HTTP status inside the body.
    pub(super) status: Option<u16>,
}

impl Failure {
    pub(super) fn new(fault: ModelFault, passes: bool, what: impl Into<String>) -> Self {
        Self { fault, passes, wait: None, status: None, what: what.into(), said: Box::default(), billed: None }
    }

    /// A status other than 2xx, or an error that the server reports in a body or a stream.
    pub(super) fn reported(status: Option<u16>, said: Said) -> Self {
        let number = status.or(said.status).unwrap_or(500);
        let (fault, passes) = judge(number, &said);
        let name = reqwest::StatusCode::from_u16(number).ok().and_then(|code| code.canonical_reason()).unwrap_or("");
        let mut what = match status {
            Some(number) => format!("{number} {name}").trim_end().to_owned(),
            None => "the server reported an error in place of an answer".to_owned(),
        };
        if !said.message.is_empty() {
            what = format!("{what}: {}", said.message);
        }
        Self { fault, passes, wait: None, status: status.or(said.status), what, said: Box::new(said), billed: None }
    }

    /// Whether the server refuses the request because of the field `name`.
    pub(super) fn blames(&self, name: &str) -> bool {
        if self.fault != ModelFault::BadRequest {
            return false;
        }
        let message = self.said.message.to_lowercase();
        let says_so = REFUSED.iter().any(|word| message.contains(word)) || self.said.code.contains("unsupported");
        says_so && (self.said.param == name || mentions(&message, name))
    }
}

/// How servers say that they do not take a field.
const REFUSED: [&str; 13] = [
    "unsupported",
    "not support",
    "unrecognized",
    "unknown",
    "unexpected",
    "extra",
    "not permitted",
    "not allowed",
    "invalid field",
    "instead",
    "deprecated",
    "no longer",
    "cannot both",
];

/// Whether a text holds a name as a word of its own.
pub(super) fn mentions(text: &str, name: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name).any(|(at, _)| {
        let (before, after) = (text.get(..at).unwrap_or_default(), text.get(at + name.len()..).unwrap_or_default());
        !before.ends_with(part) && !after.starts_with(part)
    })
}

/// Whose fault a status is, and whether it may pass.
fn judge(status: u16, said: &Said) -> (ModelFault, bool) {
    let fault = match status {
        300..=399 | 404 => ModelFault::NotFound,
        400 | 401 if no_such_model(said) => ModelFault::NotFound,
        401 | 403 => ModelFault::Auth,
        402 => ModelFault::Payment,
        408 => ModelFault::Timeout,
        413 => ModelFault::TooLong,
        // OpenAI's word for an empty account: waiting does not fill it.
        425 | 429 if matches!(said.code.as_str(), "insufficient_quota" | "billing_hard_limit_reached") => {
            return (ModelFault::Payment, false);
        }
        425 | 429 => ModelFault::RateLimited,
        409 | 500.. => ModelFault::Unavailable,
        _ if too_long(said) => ModelFault::TooLong,
        // Anthropic's word for an empty account.
        400 if said.message.to_lowercase().contains("credit balance is too low") => ModelFault::Payment,
        _ => ModelFault::BadRequest,
    };
    (fault, retry::passes(status))
}

/// How others than 404 say that there is no such model: LiteLLM, for a name and for tags that lead nowhere, and OpenAI.
fn no_such_model(said: &Said) -> bool {
    let message = said.message.to_lowercase();
    said.code == "model_not_found"
        || ["invalid model name", "due to tags configuration"].iter().any(|words| message.contains(words))
}

fn too_long(said: &Said) -> bool {
    let message = said.message.to_lowercase();
    said.code == "context_length_exceeded"
        || [
            "context length",
            "context window",
            "context limit",
            "maximum context",
            "prompt is too long",
            "input is too long",
        ]
        .iter()
        .any(|words| message.contains(words))
}

/// The status that belongs to a kind of error (Anthropic's words, and OpenAI's), for errors that come in a stream.
fn status_of(kind: &str) -> Option<u16> {
    Some(match kind {
        "invalid_request_error" => 400,
        "authentication_error" => 401,
        "billing_error" | "insufficient_quota" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "request_too_large" => 413,
        "rate_limit_error" | "rate_limit_exceeded" => 429,
        "api_error" | "server_error" => 500,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        _ => return None,
    })
}

/// Finds the error in a body: OpenAI's shape, Anthropic's, FastAPI's, and simpler ones.
pub(super) fn said(body: &Value) -> Option<Said> {
    let error = body.get("error").filter(|error| !error.is_null()).unwrap_or(body);
    if let Some(message) = error.as_str() {
        return Some(Said { message: message.to_owned(), ..Said::default() });
    }
    let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let message = [error.get("message"), error.get("detail"), error.get("msg")].into_iter().flatten().next();
    let message = match message {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None if body.get("error").is_some_and(|error| !error.is_null()) => error.to_string(),
        None => return None,
    };
    let code = error.get("code").or_else(|| error.get("status"));
    let status = code.and_then(|code| code.as_u64().or_else(|| code.as_str()?.parse().ok()));
    let code = code.and_then(Value::as_str).filter(|code| !code.is_empty()).map_or_else(|| text("type"), str::to_owned);
    let status = status.and_then(|status| u16::try_from(status).ok()).filter(|status| (400..600).contains(status));
    let status = status.or_else(|| status_of(&code)).or_else(|| status_of(&text("type")));
    Some(Said { message, code, param: text("param"), status })
}

/// What to do about it.
pub(super) fn advice(dialect: &dyn Dialect, failure: &Failure, key: Option<&str>) -> String {
    let path = format!("/{}", dialect.path().join("/"));
    match failure.fault {
        ModelFault::Auth => match key {
            Some(key) => format!("The server refused the key in {key}: check that it is valid for this server and model."),
            None => "The server wants a key: give the model an `api_key: env://NAME`, and set NAME.".to_owned(),
        },
        ModelFault::Payment => "The account has no credit left: top it up, or choose another model.".to_owned(),
        ModelFault::NotFound if failure.status.is_some_and(|status| status < 400) => {
            "Redirects are not followed, because the key would go along: write the final address as `base_url`.".to_owned()
        }
        ModelFault::NotFound => {
            format!("Check the model's name and that `base_url` ends where `{path}` begins (often `/v1`).")
        }
        ModelFault::BadRequest => {
            "The server does not take this request: check what the model supports (tools, `max_output`).".to_owned()
        }
        ModelFault::TooLong => {
            "The conversation does not fit: set the model's `context_window` to what it really has, or choose a larger one.".to_owned()
        }
        ModelFault::RateLimited => "Try again later, run fewer steps at once, or configure a fallback model.".to_owned(),
        ModelFault::Unavailable => "The provider is in trouble: try again later, or configure a fallback model.".to_owned(),
        ModelFault::Network => "Check the address, the network, and the proxy settings.".to_owned(),
        ModelFault::Timeout => "The server is too slow or stuck: try again later, or configure a fallback model.".to_owned(),
        ModelFault::Protocol => {
            let whose = dialect.whose();
            format!("Is this the address of a server that speaks {whose}'s protocol? `base_url` ends where `{path}` begins.")
        }
        ModelFault::Unmatched => "Record the cassette again.".to_owned(),
    }
}

/// Text of the server's, fit to be shown: the key masked, one line, no control or invisible characters, at most
/// `most` characters.
pub(super) fn clean(text: &str, key: Option<&str>, most: usize) -> String {
    let masked = match key {
        Some(key) if key.len() >= 4 => text.replace(key, &mask(key)),
        _ => text.to_owned(),
    };
    let visible = masked.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(|c| {
        !c.is_control()
            && !matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
    });
    let line = visible.collect::<String>().split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    let mut short: String = line.chars().take(most).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn errors_in_every_shape_that_servers_use() {
        let message = |body: Value| said(&body).map(|said| (said.message, said.code, said.status));
        let row = |message: &str, code: &str, status| Some((message.to_owned(), code.to_owned(), status));
        assert_eq!(message(json!({"error": {"message": "m", "type": "t", "code": "c"}})), row("m", "c", None));
        assert_eq!(message(json!({"error": {"message": "m", "type": "t", "code": null}})), row("m", "t", None));
        assert_eq!(message(json!({"error": {"message": "m", "code": 502}})), row("m", "", Some(502)));
        assert_eq!(message(json!({"error": "m"})), row("m", "", None));
        assert_eq!(message(json!({"detail": [{"msg": "x"}]})), row(r#"[{"msg":"x"}]"#, "", None));
        assert_eq!(message(json!({"error": {"odd": 1}})), row(r#"{"odd":1}"#, "", None));
        let anthropic =
            json!({"type": "error", "error": {"type": "overloaded_error", "message": "m"}, "request_id": "r"});
        assert_eq!(message(anthropic), row("m", "overloaded_error", Some(529)));
        assert_eq!(message(json!({"choices": []})), None);
    }

    #[test]
    fn a_field_is_blamed_only_for_not_being_supported() {
        let refused =
            |message: &str| Failure::reported(Some(400), Said { message: message.to_owned(), ..Said::default() });
        let newer = refused(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        );
        assert!(newer.blames("max_tokens") && !newer.blames("stream_options"));
        assert!(!refused("max_tokens is too large: 9000. At most 4096.").blames("max_tokens"));
        assert!(refused("Unknown name \"stop\"").blames("stop"));
        assert!(!refused("Unknown name \"stop_sequences\": stopped, non-stop_words").blames("stop"));
        let long = refused("'max_tokens' is not supported beyond this model's maximum context length");
        assert_eq!((long.fault, long.blames("max_tokens")), (ModelFault::TooLong, false));
    }

    #[test]
    fn shown_text_is_clean_and_keys_are_masked() {
        let key = "sk-proj-abcdefghijklmnop3f9a";
        let text = format!("bad\r\n\x1b[31mkey\u{202e} {key}!\u{200b}");
        assert_eq!(clean(&text, Some(key), 300), "bad [31mkey sk-…3f9a!");
        assert_eq!(clean("one two", None, 3), "one…");
        assert_eq!(mask("short"), "…");
    }
}
