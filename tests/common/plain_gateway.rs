//! A gateway for tests of what lies behind and before one: OpenAI's chat completions and nothing else, without an
//! allowlist.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use codeforge::model::chat::{ChatAnswer, Message, RawCall, Sampling, StopReason};
use codeforge::model::tool::ToolSpec;
use codeforge::port::gateway::{Desk, Gateway, Question, Refusal};
use serde_json::{Value, json};
use std::any::Any;
use std::net::TcpListener;
use std::sync::Arc;

/// The gateway.
#[derive(Debug, Default)]
pub struct PlainGateway;

struct Serving(tokio::task::AbortHandle);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Gateway for PlainGateway {
    fn token(&self) -> Result<String, String> {
        use std::hash::{BuildHasher, Hasher, RandomState};
        let bits = || RandomState::new().build_hasher().finish();
        Ok(format!("cf-{:016x}{:016x}", bits(), bits()))
    }

    fn serve(&self, listener: TcpListener, desk: Arc<dyn Desk>) -> Result<Box<dyn Any + Send + Sync>, String> {
        listener.set_nonblocking(true).map_err(|error| error.to_string())?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(|error| error.to_string())?;
        let app = Router::new()
            .route("/v1/chat/completions", post(chat))
            .route("/v1/models", get(|State(desk): State<Arc<dyn Desk>>| async move { desk.model("") }))
            .with_state(desk);
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, app).await;
        });
        Ok(Box::new(Serving(task.abort_handle())))
    }
}

fn text(content: &Value) -> String {
    match content {
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n"),
        other => other.as_str().unwrap_or_default().to_owned(),
    }
}

fn message(value: &Value) -> Message {
    let text = text(&value["content"]);
    match value["role"].as_str().unwrap_or_default() {
        "system" | "developer" => Message::System { text },
        "tool" => Message::Tool { call_id: value["tool_call_id"].as_str().unwrap_or_default().into(), text },
        "assistant" => Message::Assistant {
            text,
            calls: value["tool_calls"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|call| RawCall {
                    id: call["id"].as_str().unwrap_or_default().into(),
                    name: call["function"]["name"].as_str().unwrap_or_default().into(),
                    arguments: call["function"]["arguments"].as_str().unwrap_or_default().into(),
                })
                .collect(),
            reasoning: Vec::new(),
        },
        _ => Message::User { text },
    }
}

fn question(body: &Value) -> Question {
    let list = |key: &str| body[key].as_array().cloned().unwrap_or_default();
    let tool = |tool: &Value| ToolSpec {
        name: tool["function"]["name"].as_str().unwrap_or_default().into(),
        description: tool["function"]["description"].as_str().unwrap_or_default().into(),
        parameters: tool["function"]["parameters"].clone(),
    };
    Question {
        dialect: "openai",
        model: body["model"].as_str().unwrap_or_default().into(),
        messages: list("messages").iter().map(message).collect(),
        tools: list("tools").iter().map(tool).collect(),
        sampling: Sampling { max_output: body["max_tokens"].as_u64(), ..Sampling::default() },
        output_schema: None,
        cache_marks: Vec::new(),
    }
}

async fn chat(State(desk): State<Arc<dyn Desk>>, headers: HeaderMap, body: axum::Json<Value>) -> Response {
    let token = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let token = token.strip_prefix("Bearer ").unwrap_or_default();
    if !desk.knows(token) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    match desk.ask(token, question(&body), &|_| {}).await {
        Ok(answer) => answered(&answer, body["stream"] == true),
        Err(refusal) => {
            let status = match &refusal {
                Refusal::Unknown => 401,
                Refusal::Budget(_) => 402,
                Refusal::NotAllowed(_) => 403,
                Refusal::TooLong(_) => 413,
                Refusal::Failed(status, _) => *status,
            };
            let body = json!({ "error": { "message": refusal.to_string(), "type": "gateway" } });
            (StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY), axum::Json(body)).into_response()
        }
    }
}

fn answered(answer: &ChatAnswer, stream: bool) -> Response {
    let calls: Vec<Value> = answer
        .calls
        .iter()
        .enumerate()
        .map(|(index, call)| {
            json!({ "index": index, "id": call.id, "type": "function",
                    "function": { "name": call.name, "arguments": call.arguments } })
        })
        .collect();
    let reason = if answer.stop == StopReason::ToolCalls { "tool_calls" } else { "stop" };
    let mut said = json!({ "role": "assistant", "content": answer.text });
    if !calls.is_empty() {
        said["tool_calls"] = json!(calls);
    }
    let usage = answer.bill.usage.unwrap_or_default();
    let usage =
        json!({ "prompt_tokens": usage.input, "completion_tokens": usage.output, "total_tokens": usage.total() });
    let whole = |object: &str, choice: Value| json!({ "id": "x", "object": object, "created": 1, "model": "m", "choices": [choice], "usage": usage });
    if !stream {
        let choice = json!({ "index": 0, "message": said, "finish_reason": reason });
        return axum::Json(whole("chat.completion", choice)).into_response();
    }
    let first = whole("chat.completion.chunk", json!({ "index": 0, "delta": said, "finish_reason": null }));
    let last = whole("chat.completion.chunk", json!({ "index": 0, "delta": {}, "finish_reason": reason }));
    let body = format!("data: {first}\n\ndata: {last}\n\ndata: [DONE]\n\n");
    ([("content-type", "text/event-stream")], body).into_response()
}
