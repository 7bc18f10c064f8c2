//! A model that answers at once, for `scripts/bench/turns.py`.
//!
//! `instant_model TURNS [COMMAND]` serves chat completions on a free port of 127.0.0.1 and prints its address: so many
//! answers call `shell` with the command (`true`), or `read_file` for `read:PATH`; the next one calls `finish`. Each answer
//! is written in one piece.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::post;
use serde_json::json;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What it says, and how often it was asked: looking into the request would be the model's time, not ours.
struct Script {
    turns: usize,
    command: String,
    asked: AtomicUsize,
}

async fn answer(State(script): State<Arc<Script>>, _body: Bytes) -> impl IntoResponse {
    let turn = script.asked.fetch_add(1, Ordering::Relaxed);
    let (name, arguments) = match script.command.strip_prefix("read:") {
        _ if turn >= script.turns => ("finish", json!({ "summary": "done" })),
        Some(path) => ("read_file", json!({ "path": path })),
        None => ("shell", json!({ "command": script.command })),
    };
    let call = json!({"index": 0, "id": format!("call_{turn}"), "type": "function",
        "function": {"name": name, "arguments": arguments.to_string()}});
    let chunk = |delta: serde_json::Value, reason: serde_json::Value| {
        json!({"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "instant",
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
    };
    let usage = json!({"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "instant", "choices": [],
        "usage": {"prompt_tokens": 900, "completion_tokens": 20, "total_tokens": 920, "cost": 0.0001}});
    let text = [
        chunk(json!({"role": "assistant", "tool_calls": [call]}), json!(null)),
        chunk(json!({}), json!("tool_calls")),
        usage,
    ]
    .iter()
    .map(|chunk| format!("data: {chunk}\n\n"))
    .collect::<String>();
    ([(CONTENT_TYPE, "text/event-stream")], text + "data: [DONE]\n\n")
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let turns = arguments.next().unwrap_or_else(|| "50".to_owned()).parse()?;
    let command = arguments.next().unwrap_or_else(|| "true".to_owned());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let mut out = std::io::stdout();
    writeln!(out, "http://{}/v1", listener.local_addr()?)?;
    out.flush()?;
    let app = Router::new().route("/v1/chat/completions", post(answer)).with_state(Arc::new(Script {
        turns,
        command,
        asked: AtomicUsize::new(0),
    }));
    axum::serve(listener, app).await?;
    Ok(())
}
