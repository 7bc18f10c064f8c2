//! The router in front of a scripted provider, in either dialect.

use super::{ModelServer, Reply, Script, Wire};
use codeforge::adapter::fake::FakeClock;
use codeforge::adapter::llm::{Router, Settings};
use codeforge::model::chat::{ChatAnswer, ChatRequest, Message, ModelError, ModelRef, RawCall};
use codeforge::model::tool::ToolSpec;
use codeforge::model::usage::Price;
use codeforge::port::model::ChatModel;
use serde_json::{Value, json};
use std::sync::Arc;

/// The key that every request carries.
pub const KEY: &str = "sk-canary-0123456789-abcdefgh3f9a";
/// Both dialects.
pub const WIRES: [Wire; 2] = [Wire::OpenAi, Wire::Anthropic];

/// A scripted provider, a router that asks it, the clock that the router waits on, and a question.
pub struct Stage {
    pub server: ModelServer,
    pub clock: Arc<FakeClock>,
    pub router: Router,
    pub request: ChatRequest,
}

impl Stage {
    /// In a dialect, with a script.
    pub async fn with(wire: Wire, script: Script) -> Self {
        Self::set(wire, script, |_| {}).await
    }

    /// The same, with other settings.
    pub async fn set(wire: Wire, script: Script, change: impl FnOnce(&mut Settings)) -> Self {
        let server = ModelServer::start(script).await;
        let mut settings = Settings { system_proxy: false, ..Settings::default() };
        change(&mut settings);
        let clock = Arc::new(FakeClock::at(784_111_777_000));
        let request = request(wire, server.url());
        Self { router: router(settings, &clock), server, clock, request }
    }

    /// Asks the question.
    pub async fn ask(&self) -> Result<ChatAnswer, ModelError> {
        self.router.ask(&self.request, &|_| {}).await
    }

    /// What was sent last.
    pub fn sent(&self) -> Value {
        self.server.requests().pop().unwrap()
    }
}

/// A router that knows the key.
pub fn router(settings: Settings, clock: &Arc<FakeClock>) -> Router {
    let key = Arc::new(|name: &str| (name == "TEST_KEY").then(|| KEY.to_owned()));
    Router::new(settings, Arc::<FakeClock>::clone(clock), key, Arc::new(|| 0)).expect("a router")
}

/// Who is configured for a dialect.
pub fn provider(wire: Wire) -> &'static str {
    match wire {
        Wire::OpenAi => "openai",
        Wire::Anthropic => "anthropic",
    }
}

/// A question with one tool.
pub fn request(wire: Wire, base_url: &str) -> ChatRequest {
    ChatRequest {
        model: ModelRef {
            name: "main".into(),
            provider: provider(wire).into(),
            model: "scripted-1".into(),
            base_url: Some(base_url.into()),
            api_key: Some("env://TEST_KEY".into()),
            price: Some(Price {
                input_per_mtok: 3.0,
                output_per_mtok: 15.0,
                cache_read_per_mtok: Some(0.3),
                cache_write_per_mtok: Some(3.75),
            }),
            context_window: 100_000,
            max_output: 8192,
            tools: true,
            ..ModelRef::default()
        },
        messages: vec![Message::System { text: "You are the coder.".into() }, Message::User { text: "Fix it.".into() }],
        tools: vec![tool("shell")],
        ..ChatRequest::default()
    }
}

/// A tool on offer.
pub fn tool(name: &str) -> ToolSpec {
    ToolSpec { name: name.into(), description: "Does it.".into(), parameters: json!({"type": "object"}) }
}

/// A call of an earlier turn.
pub fn raw(id: &str, arguments: &str) -> RawCall {
    RawCall { id: id.into(), name: "shell".into(), arguments: arguments.into() }
}

/// An answer that calls the tool.
pub fn call() -> Reply {
    Reply::call("shell", json!({"command": "pytest -q"}))
}
