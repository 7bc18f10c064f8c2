//! From an HTTP request to a question: endpoint, token, body.

use super::dialect::{Dialect, Fault, Kind};
use super::fields::Problem;
use super::{Shared, answer, anthropic};
use crate::port::gateway::{Desk, Refusal};
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The largest body, in bytes.
pub(super) const LARGEST: usize = 8 << 20;

/// What is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    /// A question.
    Ask(Dialect),
    /// How long a question is.
    Count,
    /// The models there are.
    Models,
    /// Whether anybody is there.
    Root,
}

/// The endpoints: path, method, what it is.
const ENDPOINTS: [(&str, Method, Endpoint); 7] = [
    ("/v1/chat/completions", Method::POST, Endpoint::Ask(Dialect::Openai)),
    ("/v1/responses", Method::POST, Endpoint::Ask(Dialect::Responses)),
    ("/v1/messages", Method::POST, Endpoint::Ask(Dialect::Anthropic)),
    ("/v1/messages/count_tokens", Method::POST, Endpoint::Count),
    ("/v1/models", Method::GET, Endpoint::Models),
    ("/", Method::GET, Endpoint::Root),
    ("/", Method::HEAD, Endpoint::Root),
];

/// Answers a request, whatever it is.
pub(super) async fn respond(
    shared: &Shared,
    desk: Arc<dyn Desk>,
    questions: Arc<Semaphore>,
    request: Request<Body>,
) -> Response {
    let (head, body) = request.into_parts();
    let dialect = spoken(head.uri.path(), &head.headers);
    let Some(token) = token(&head.headers).filter(|token| desk.knows(token)).map(str::to_owned) else {
        let message = "the step's token is to come as `Authorization: Bearer …` or `x-api-key`; this request has none \
                       that is valid";
        return refusal(dialect, &Fault::new(Kind::Unauthorized, message));
    };
    let endpoint = match endpoint(&head.method, head.uri.path()) {
        Ok(endpoint) => endpoint,
        Err(fault) => {
            let path: String = head.uri.path().chars().take(120).collect();
            desk.refused(&token, &format!("{} {path}", head.method), &fault.message).await;
            return refusal(dialect, &fault);
        }
    };
    // Before the body is in memory. The semaphore is never closed.
    let Ok(place) = questions.acquire_owned().await else { return refusal(dialect, &Refusal::Unknown.into()) };
    let asked = match endpoint {
        Endpoint::Root => return document(StatusCode::OK, &json!({"codeforge": "gateway"})),
        Endpoint::Models => return models(shared, &desk.model(&token), head.uri.path(), dialect, &head.headers),
        Endpoint::Ask(_) | Endpoint::Count => match read(shared, &head.headers, body).await {
            Ok(body) => body,
            Err(fault) => return refusal(dialect, &fault),
        },
    };
    let Endpoint::Ask(dialect) = endpoint else { return document(StatusCode::OK, &anthropic::count(&asked)) };
    match dialect.parse(&asked) {
        Ok(asked) => answer::answer(shared, desk, token, dialect, asked, place).await,
        Err(problem) => {
            if let Problem::Refused { what, why } = &problem {
                desk.refused(&token, what, why).await;
            }
            refusal(dialect, &problem.into())
        }
    }
}

/// Which dialect an error is worded in.
fn spoken(path: &str, headers: &HeaderMap) -> Dialect {
    if path.starts_with("/v1/messages") || headers.contains_key("anthropic-version") {
        Dialect::Anthropic
    } else if path.starts_with("/v1/responses") {
        Dialect::Responses
    } else {
        Dialect::Openai
    }
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    bearer.or_else(|| headers.get("x-api-key")?.to_str().ok()).filter(|token| !token.is_empty())
}

fn endpoint(method: &Method, path: &str) -> Result<Endpoint, Fault> {
    let path = if path.starts_with("/v1/models/") { "/v1/models" } else { path };
    let here: Vec<_> = ENDPOINTS.iter().filter(|(at, ..)| *at == path).collect();
    if here.is_empty() {
        return Err(Fault::new(
            Kind::NotFound,
            "the gateway serves chat completions, responses, messages and the list of models, nothing else",
        ));
    }
    match here.iter().find(|(_, allowed, _)| allowed == method) {
        Some((_, _, endpoint)) => Ok(*endpoint),
        None => Err(Fault::new(Kind::Method, format!("only {} is served here", here[0].1))),
    }
}

/// Reads a body as JSON: not too large, not too slowly.
async fn read(shared: &Shared, headers: &HeaderMap, body: Body) -> Result<Value, Fault> {
    let plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if headers.get(header::CONTENT_ENCODING).is_some_and(|value| !plain(value)) {
        return Err(Fault::new(Kind::Encoding, "a body is to be sent without `content-encoding`"));
    }
    let too_large = || Fault::new(Kind::TooLarge, format!("a body of more than {} MiB is not read", LARGEST >> 20));
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > LARGEST as u64) {
        return Err(too_large());
    }
    let bytes: Bytes = match tokio::time::timeout(shared.times.body, axum::body::to_bytes(body, LARGEST)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(_)) => return Err(too_large()),
        Err(_) => {
            let seconds = shared.times.body.as_secs();
            return Err(Fault::new(Kind::Slow, format!("the body did not come within {seconds} seconds")));
        }
    };
    serde_json::from_slice(&bytes)
        .map_err(|error| Fault::new(Kind::Malformed, format!("the body is not JSON: {error}")))
}

/// The list of the one model that there is, or the one that is asked for by name.
fn models(shared: &Shared, name: &str, path: &str, dialect: Dialect, headers: &HeaderMap) -> Response {
    let created = shared.clock.now_ms() / 1000;
    let anthropic = dialect == Dialect::Anthropic || headers.contains_key("x-api-key");
    let model = if anthropic {
        json!({"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"})
    } else {
        json!({"id": name, "object": "model", "created": created, "owned_by": "codeforge"})
    };
    match path.strip_prefix("/v1/models/") {
        Some(wanted) if wanted == name => document(StatusCode::OK, &model),
        Some(_) => {
            let dialect = if anthropic { Dialect::Anthropic } else { dialect };
            refusal(dialect, &Fault::new(Kind::NotFound, format!("there is one model here: `{name}`")))
        }
        None if anthropic => {
            document(StatusCode::OK, &json!({"data": [model], "has_more": false, "first_id": name, "last_id": name}))
        }
        None => document(StatusCode::OK, &json!({"object": "list", "data": [model]})),
    }
}

/// A JSON document.
pub(super) fn document(status: StatusCode, value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An error in a dialect's own form. OpenAI's and Anthropic's clients do what `x-should-retry` says.
pub(super) fn refusal(dialect: Dialect, fault: &Fault) -> Response {
    let status = StatusCode::from_u16(fault.kind.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut response = document(status, &dialect.error(fault));
    let again = if fault.kind.is_passing() { "true" } else { "false" };
    response.headers_mut().insert("x-should-retry", HeaderValue::from_static(again));
    response
}
