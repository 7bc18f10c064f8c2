//! A provider that follows a script: real HTTP, real server-sent events, real faults. It speaks OpenAI's chat
//! completions and Anthropic's messages; one script serves both.
//!
//! ```ignore
//! let server = ModelServer::start(vec![
//!     Rule::when().system("You are the coder").turn(0).reply(Reply::call("read_file", json!({"path": "a.py"}))),
//!     Rule::when().tool_result("def add").reply(Reply::text("done").usage(900, 30).cost(0.002)),
//! ])
//! .await;
//! // … base_url = server.url() …
//! server.finished();
//! ```
//!
//! The first rule that matches and is not used up answers; each answers once unless it says otherwise. A request that
//! no rule matches gets a 500 that says why, and is remembered.

use super::anthropic;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::routing::post;
use futures::stream::{self, StreamExt};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Rules, in the order in which they are tried.
pub type Script = Vec<Rule>;

/// How it is asked and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// OpenAI's chat completions.
    OpenAi,
    /// Anthropic's messages.
    Anthropic,
}

/// One request, as the server sees it.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The dialect it was asked in.
    pub wire: Wire,
    /// The query of its address.
    pub query: String,
    /// The conversation as (role, text), in OpenAI's terms.
    said: Vec<(String, String)>,
    /// The JSON body.
    pub body: Value,
    /// The headers.
    pub headers: HeaderMap,
}

impl Asked {
    fn texts(&self, role: &str) -> Vec<&str> {
        self.said.iter().filter(|(of, _)| of == role).map(|(_, text)| text.as_str()).collect()
    }

    /// All system messages, joined.
    pub fn system(&self) -> String {
        self.texts("system").join("\n")
    }

    /// All user messages, joined.
    pub fn user(&self) -> String {
        self.texts("user").join("\n")
    }

    /// The text of the last message, whoever spoke.
    pub fn last(&self) -> &str {
        self.said.last().map(|(_, text)| text.as_str()).unwrap_or_default()
    }

    /// The texts of all tool results, in order.
    pub fn tool_results(&self) -> Vec<&str> {
        self.texts("tool")
    }

    /// How many answers the conversation holds: 0 for its first request.
    pub fn turn(&self) -> usize {
        self.texts("assistant").len()
    }

    /// The model that is asked for.
    pub fn model(&self) -> &str {
        self.body["model"].as_str().unwrap_or_default()
    }

    /// The names of the tools on offer.
    pub fn tools(&self) -> Vec<&str> {
        let tools = self.body["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
        tools.iter().filter_map(|tool| tool["function"]["name"].as_str().or(tool["name"].as_str())).collect()
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

type Predicate = Box<dyn Fn(&Asked) -> bool + Send>;

/// When to answer what, and how often.
pub struct Rule {
    wants: Vec<(String, Predicate)>,
    reply: Box<dyn Fn(&Asked) -> Reply + Send>,
    left: Option<usize>,
    used: usize,
    wanted: usize,
}

impl Rule {
    /// A rule that matches everything until it is narrowed, and answers once.
    pub fn when() -> Self {
        Self { wants: Vec::new(), reply: Box::new(|_| Reply::text("")), left: Some(1), used: 0, wanted: 1 }
    }

    /// A rule that answers any request, once.
    pub fn any(reply: Reply) -> Self {
        Self::when().reply(reply)
    }

    /// Narrows the rule; `what` names the condition in messages.
    #[must_use]
    pub fn matches(mut self, what: &str, predicate: impl Fn(&Asked) -> bool + Send + 'static) -> Self {
        self.wants.push((what.to_owned(), Box::new(predicate)));
        self
    }

    /// The system message holds `text`.
    #[must_use]
    pub fn system(self, text: &str) -> Self {
        let wanted = text.to_owned();
        self.matches(&format!("system message with {text:?}"), move |asked| asked.system().contains(&wanted))
    }

    /// A user message holds `text`.
    #[must_use]
    pub fn user(self, text: &str) -> Self {
        let wanted = text.to_owned();
        self.matches(&format!("user message with {text:?}"), move |asked| asked.user().contains(&wanted))
    }

    /// The last message holds `text`.
    #[must_use]
    pub fn last(self, text: &str) -> Self {
        let wanted = text.to_owned();
        self.matches(&format!("last message with {text:?}"), move |asked| asked.last().contains(&wanted))
    }

    /// Any tool result holds `text`.
    #[must_use]
    pub fn tool_result(self, text: &str) -> Self {
        let wanted = text.to_owned();
        self.matches(&format!("tool result with {text:?}"), move |asked| {
            asked.tool_results().iter().any(|result| result.contains(&wanted))
        })
    }

    /// The conversation holds so many answers already.
    #[must_use]
    pub fn turn(self, turn: usize) -> Self {
        self.matches(&format!("turn {turn}"), move |asked| asked.turn() == turn)
    }

    /// The model asked for has this name.
    #[must_use]
    pub fn model(self, name: &str) -> Self {
        let wanted = name.to_owned();
        self.matches(&format!("model {name:?}"), move |asked| asked.model() == wanted)
    }

    /// A header has this value.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        let (wanted, expected) = (name.to_owned(), value.to_owned());
        self.matches(&format!("header {name}: {value}"), move |asked| asked.header(&wanted) == Some(expected.as_str()))
    }

    /// What is answered.
    #[must_use]
    pub fn reply(mut self, reply: Reply) -> Self {
        self.reply = Box::new(move |_| reply.clone());
        self
    }

    /// What is answered, made from the request.
    #[must_use]
    pub fn answer(mut self, reply: impl Fn(&Asked) -> Reply + Send + 'static) -> Self {
        self.reply = Box::new(reply);
        self
    }

    /// Answers `n` times.
    #[must_use]
    pub fn times(mut self, n: usize) -> Self {
        self.left = Some(n);
        self.wanted = n;
        self
    }

    /// Answers as often as it is asked, also never.
    #[must_use]
    pub fn always(mut self) -> Self {
        self.left = None;
        self.wanted = 0;
        self
    }

    fn name(&self) -> String {
        let wants: Vec<&str> = self.wants.iter().map(|(what, _)| what.as_str()).collect();
        if wants.is_empty() { "any request".to_owned() } else { wants.join(", ") }
    }
}

/// An answer, or a fault.
#[derive(Debug, Clone)]
pub struct Reply {
    text: String,
    calls: Vec<(String, Option<String>, String)>,
    refusal: Option<String>,
    finish: Option<&'static str>,
    thought: Option<String>,
    usage: Option<Used>,
    cost: Option<f64>,
    shape: Shape,
    fault: Fault,
    headers: Vec<(String, String)>,
}

/// Tokens: all of the prompt, of the answer, and of the prompt from and into the cache.
#[derive(Debug, Clone, Copy)]
pub struct Used {
    pub input: u64,
    pub output: u64,
    pub cached: u64,
    pub written: u64,
}

/// A reply, ready to be put into a dialect's words.
pub struct Drawn {
    pub text: String,
    pub refusal: Option<String>,
    pub thought: Option<String>,
    /// Id, tool, arguments.
    pub calls: Vec<(String, String, String)>,
    /// OpenAI's word for why it stopped.
    pub finish: &'static str,
    pub usage: Option<Used>,
    pub cost: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Server-sent events, arguments in pieces of a few characters.
    Events,
    /// One JSON document, as if `stream` had not been read.
    Document,
}

#[derive(Debug, Clone)]
enum Fault {
    None,
    Status(u16, String, Option<String>),
    /// The first events, then an error in place of the rest.
    ErrorEvent(u16, String),
    CutInCall,
    CutAfter(usize),
    HangAfter(usize),
    NoAnswer,
    Drip(Duration),
    Raw(String, Vec<u8>),
}

impl Reply {
    fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            calls: Vec::new(),
            refusal: None,
            finish: None,
            thought: None,
            usage: Some(Used { input: 100, output: 10, cached: 0, written: 0 }),
            cost: None,
            shape: Shape::Events,
            fault: Fault::None,
            headers: Vec::new(),
        }
    }

    /// Says `text` and stops.
    pub fn text(text: &str) -> Self {
        Self::new(text)
    }

    /// Says nothing at all and stops.
    pub fn empty() -> Self {
        Self::new("")
    }

    /// Calls one tool.
    pub fn call(tool: &str, arguments: Value) -> Self {
        Self::new("").and_call(tool, arguments)
    }

    /// Calls a tool with text for arguments that need not be JSON.
    pub fn malformed(tool: &str, arguments: &str) -> Self {
        let mut reply = Self::new("");
        reply.calls.push((tool.to_owned(), None, arguments.to_owned()));
        reply
    }

    /// Refuses.
    pub fn refuse(words: &str) -> Self {
        let mut reply = Self::new("");
        reply.refusal = Some(words.to_owned());
        reply
    }

    /// An error status with a body in the provider's shape.
    pub fn status(status: u16) -> Self {
        Self::error(status, &format!("scripted {status}"), None)
    }

    /// An error status with a message and a code.
    pub fn error(status: u16, message: &str, code: Option<&str>) -> Self {
        Self { fault: Fault::Status(status, message.to_owned(), code.map(str::to_owned)), ..Self::new("") }
    }

    /// Sends its first events, then reports an error as an event, under status 200.
    #[must_use]
    pub fn failing_midway(mut self, status: u16, message: &str) -> Self {
        self.fault = Fault::ErrorEvent(status, message.to_owned());
        self
    }

    /// Takes the request and never answers.
    pub fn hang() -> Self {
        Self { fault: Fault::NoAnswer, ..Self::new("") }
    }

    /// 200 with any body under any content type (empty: none).
    pub fn raw(content_type: &str, body: impl AsRef<[u8]>) -> Self {
        Self { fault: Fault::Raw(content_type.to_owned(), body.as_ref().to_vec()), ..Self::new("") }
    }

    /// One more call, in parallel to those before.
    #[must_use]
    pub fn and_call(mut self, tool: &str, arguments: Value) -> Self {
        self.calls.push((tool.to_owned(), None, arguments.to_string()));
        self
    }

    /// Says `text` before its calls.
    #[must_use]
    pub fn saying(mut self, text: &str) -> Self {
        text.clone_into(&mut self.text);
        self
    }

    /// Thinks first, and shows it.
    #[must_use]
    pub fn thinking(mut self, thought: &str) -> Self {
        self.thought = Some(thought.to_owned());
        self
    }

    /// Gives another `finish_reason` than the one that fits.
    #[must_use]
    pub fn finish(mut self, reason: &'static str) -> Self {
        self.finish = Some(reason);
        self
    }

    /// Prompt and completion tokens (100 and 10 unless told).
    #[must_use]
    pub fn usage(mut self, input: u64, output: u64) -> Self {
        self.usage = Some(Used { input, output, cached: 0, written: 0 });
        self
    }

    /// Of the prompt tokens, so many from the cache.
    #[must_use]
    pub fn cached(mut self, tokens: u64) -> Self {
        self.usage = self.usage.map(|used| Used { cached: tokens, ..used });
        self
    }

    /// Of the prompt tokens, so many into the cache.
    #[must_use]
    pub fn cache_written(mut self, tokens: u64) -> Self {
        self.usage = self.usage.map(|used| Used { written: tokens, ..used });
        self
    }

    /// No usage in the answer.
    #[must_use]
    pub fn no_usage(mut self) -> Self {
        self.usage = None;
        self
    }

    /// The cost, in US dollars, in the answer's usage.
    #[must_use]
    pub fn cost(mut self, usd: f64) -> Self {
        self.cost = Some(usd);
        self
    }

    /// One JSON document instead of a stream.
    #[must_use]
    pub fn non_stream(mut self) -> Self {
        self.shape = Shape::Document;
        self
    }

    /// Sends so many bytes of the body, then breaks the connection off.
    #[must_use]
    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.fault = Fault::CutAfter(bytes);
        self
    }

    /// Breaks the connection off in the middle of the first call's arguments.
    #[must_use]
    pub fn cut_in_call(mut self) -> Self {
        self.fault = Fault::CutInCall;
        self
    }

    /// Sends so many bytes of the body, then nothing more, with the connection open.
    #[must_use]
    pub fn hang_after(mut self, bytes: usize) -> Self {
        self.fault = Fault::HangAfter(bytes);
        self
    }

    /// Sends the body byte by byte, with this pause after each.
    #[must_use]
    pub fn drip(mut self, pause: Duration) -> Self {
        self.fault = Fault::Drip(pause);
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds `Retry-After`, in seconds.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        self.header("retry-after", &seconds.to_string())
    }

    /// The bytes of the body in OpenAI's words, as they go out without a fault.
    pub fn body(&self) -> Vec<u8> {
        self.body_in(Wire::OpenAi)
    }

    /// The same in a dialect's words.
    pub fn body_in(&self, wire: Wire) -> Vec<u8> {
        match (self.shape, wire) {
            (Shape::Events, _) => self.events_in(wire).concat().into_bytes(),
            (Shape::Document, Wire::OpenAi) => self.document().to_string().into_bytes(),
            (Shape::Document, Wire::Anthropic) => anthropic::document(&self.drawn()).to_string().into_bytes(),
        }
    }

    fn events_in(&self, wire: Wire) -> Vec<String> {
        match wire {
            Wire::OpenAi => self.events(),
            Wire::Anthropic => anthropic::events(&self.drawn(), &|text, size| pieces(text, size).collect()),
        }
    }

    fn drawn(&self) -> Drawn {
        let calls = self.calls.iter().enumerate();
        let calls = calls.map(|(at, (tool, id, arguments))| (Self::id(at, id), tool.clone(), arguments.clone()));
        Drawn {
            text: self.text.clone(),
            refusal: self.refusal.clone(),
            thought: self.thought.clone(),
            calls: calls.collect(),
            finish: self.finish_reason(),
            usage: self.usage,
            cost: self.cost,
        }
    }

    fn finish_reason(&self) -> &'static str {
        self.finish.unwrap_or(if self.calls.is_empty() { "stop" } else { "tool_calls" })
    }

    fn id(number: usize, id: &Option<String>) -> String {
        id.clone().unwrap_or_else(|| format!("call_{}", number + 1))
    }

    fn used(&self) -> Option<Value> {
        let Used { input, output, cached, written } = self.usage?;
        let mut usage = json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
            "prompt_tokens_details": {"cached_tokens": cached, "cache_creation_tokens": written}});
        if let Some(cost) = self.cost {
            usage["cost"] = json!(cost);
        }
        Some(usage)
    }

    fn document(&self) -> Value {
        let calls = self.calls.iter().enumerate().map(|(number, (tool, id, arguments))| {
            json!({"id": Self::id(number, id), "type": "function", "function": {"name": tool, "arguments": arguments}})
        });
        let mut message = json!({"role": "assistant", "content": self.text, "refusal": self.refusal});
        if let Some(thought) = &self.thought {
            message["reasoning_content"] = json!(thought);
        }
        if !self.calls.is_empty() {
            message["tool_calls"] = calls.collect();
        }
        let mut document = json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "scripted",
            "choices": [{"index": 0, "message": message, "finish_reason": self.finish_reason()}]});
        if let Some(usage) = self.used() {
            document["usage"] = usage;
        }
        document
    }

    fn events(&self) -> Vec<String> {
        let chunk = |choices: Value, usage: Value| {
            let chunk = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "scripted",
                "choices": choices, "usage": usage});
            format!("data: {chunk}\n\n")
        };
        let delta = |delta: Value, finish: Value| {
            chunk(json!([{"index": 0, "delta": delta, "finish_reason": finish}]), Value::Null)
        };
        let mut events = vec![delta(json!({"role": "assistant", "content": ""}), Value::Null)];
        let thought = self.thought.as_deref().unwrap_or_default();
        events.extend(pieces(thought, 12).map(|piece| delta(json!({"reasoning_content": piece}), Value::Null)));
        events.extend(pieces(&self.text, 12).map(|piece| delta(json!({"content": piece}), Value::Null)));
        if let Some(refusal) = &self.refusal {
            events.extend(pieces(refusal, 12).map(|piece| delta(json!({"refusal": piece}), Value::Null)));
        }
        for (number, (tool, id, arguments)) in self.calls.iter().enumerate() {
            let begin = json!({"index": number, "id": Self::id(number, id), "type": "function",
                "function": {"name": tool, "arguments": ""}});
            events.push(delta(json!({"tool_calls": [begin]}), Value::Null));
            for piece in pieces(arguments, 5) {
                let more = json!({"index": number, "function": {"arguments": piece}});
                events.push(delta(json!({"tool_calls": [more]}), Value::Null));
            }
        }
        events.push(delta(json!({}), json!(self.finish_reason())));
        if let Some(usage) = self.used() {
            events.push(chunk(json!([]), usage));
        }
        events.push("data: [DONE]\n\n".to_owned());
        events
    }

    /// An error's body.
    fn said_of(wire: Wire, status: u16, message: &str, code: Option<&str>) -> Value {
        match wire {
            Wire::Anthropic => anthropic::error(status, message, code),
            Wire::OpenAi => json!({"error": {"message": message, "type": "scripted", "code": code, "param": null}}),
        }
    }

    async fn respond(self, wire: Wire) -> Response {
        let content_type = match (&self.fault, self.shape) {
            (Fault::Status(..), _) | (_, Shape::Document) => "application/json".to_owned(),
            (Fault::Raw(content_type, _), _) => content_type.clone(),
            _ => "text/event-stream; charset=utf-8".to_owned(),
        };
        let mut status = 200;
        let body = match &self.fault {
            Fault::NoAnswer => return std::future::pending().await,
            Fault::Status(number, message, code) => {
                status = *number;
                Body::from(Self::said_of(wire, status, message, code.as_deref()).to_string())
            }
            Fault::ErrorEvent(number, message) => {
                let mut events = self.events_in(wire);
                events.truncate(events.len() - 3);
                let mut error = Self::said_of(wire, *number, message, None);
                if wire == Wire::OpenAi {
                    error["error"]["code"] = json!(number);
                }
                events.push(format!("event: error\ndata: {error}\n\n"));
                Body::from(events.concat())
            }
            Fault::Raw(_, bytes) => Body::from(bytes.clone()),
            Fault::None if self.shape == Shape::Document => Body::from(self.body_in(wire)),
            // One event a piece, so that the other side sees them come.
            Fault::None => Body::from_stream(stream::iter(self.events_in(wire)).then(|event| async move {
                tokio::task::yield_now().await;
                Ok::<_, std::io::Error>(Bytes::from(event))
            })),
            Fault::CutAfter(_) | Fault::CutInCall => {
                let body = self.body_in(wire);
                let bytes = match &self.fault {
                    Fault::CutAfter(bytes) => *bytes,
                    _ => {
                        let text = String::from_utf8_lossy(&body);
                        let begun = match wire {
                            Wire::OpenAi => "\"arguments\":\"{",
                            Wire::Anthropic => "\"partial_json\":\"{",
                        };
                        text.find(begun).expect("a call with arguments") + begun.len() + 24
                    }
                };
                let sent = Bytes::from(body.into_iter().take(bytes).collect::<Vec<u8>>());
                let cut = std::io::Error::other("scripted cut");
                // The pause lets the piece out before the connection is reset.
                Body::from_stream(stream::iter([Ok(sent), Err(cut)]).then(|piece| async move {
                    if piece.is_err() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    piece
                }))
            }
            Fault::HangAfter(bytes) => {
                let sent = Bytes::from(self.body_in(wire).into_iter().take(*bytes).collect::<Vec<u8>>());
                Body::from_stream(stream::iter([Ok::<_, std::io::Error>(sent)]).chain(stream::pending()))
            }
            Fault::Drip(pause) => {
                let pause = *pause;
                Body::from_stream(stream::iter(self.body_in(wire)).then(move |byte| async move {
                    tokio::time::sleep(pause).await;
                    Ok::<_, std::io::Error>(Bytes::from(vec![byte]))
                }))
            }
        };
        let mut response = Response::builder().status(StatusCode::from_u16(status).expect("a status"));
        if !content_type.is_empty() {
            response = response.header(header::CONTENT_TYPE, content_type);
        }
        for (name, value) in &self.headers {
            response = response.header(name, value);
        }
        response.body(body).expect("a response")
    }
}

fn pieces(text: &str, characters: usize) -> impl Iterator<Item = String> {
    let letters: Vec<char> = text.chars().collect();
    letters.chunks(characters).map(|piece| piece.iter().collect()).collect::<Vec<String>>().into_iter()
}

#[derive(Default)]
struct Book {
    script: Vec<Rule>,
    asked: Vec<Asked>,
    unmatched: Vec<String>,
}

/// A running server, on a thread of its own, so that tests may block; it ends when dropped.
pub struct ModelServer {
    book: Arc<Mutex<Book>>,
    url: String,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl ModelServer {
    /// Starts a server with a script.
    pub async fn start(script: Script) -> Self {
        Self::start_blocking(script)
    }

    /// The same, for tests without a runtime.
    pub fn start_blocking(script: Script) -> Self {
        let book = Arc::new(Mutex::new(Book { script, ..Book::default() }));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let shared = Arc::clone(&book);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
                let openai = |book, query, headers, body| answer(Wire::OpenAi, book, query, headers, body);
                let anthropic = |book, query, headers, body| answer(Wire::Anthropic, book, query, headers, body);
                let app = Router::new()
                    .route("/v1/chat/completions", post(openai))
                    .route("/v1/messages", post(anthropic))
                    .with_state(shared);
                tokio::select! {
                    served = async { axum::serve(listener, app).await } => served.expect("a server"),
                    _ = stopped => {}
                }
            });
            // Requests that hang are dropped, not waited for.
            runtime.shutdown_background();
        });
        Self { book, url, stop: Some(stop), thread: Some(thread) }
    }

    /// The base URL, up to and with `/v1`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Every request so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.book.lock().unwrap().asked.clone()
    }

    /// The bodies of every request so far.
    pub fn requests(&self) -> Vec<Value> {
        self.asked().into_iter().map(|asked| asked.body).collect()
    }

    /// Requests that no rule matched, with the reasons.
    pub fn unmatched(&self) -> Vec<String> {
        self.book.lock().unwrap().unmatched.clone()
    }

    /// Rules that were used less often than they say.
    pub fn unused(&self) -> Vec<String> {
        let book = self.book.lock().unwrap();
        let short = book.script.iter().enumerate().filter(|(_, rule)| rule.used < rule.wanted);
        short.map(|(at, rule)| format!("rule {} ({}): {} of {}", at + 1, rule.name(), rule.used, rule.wanted)).collect()
    }

    /// Adds a rule behind the others.
    pub fn add(&self, rule: Rule) {
        self.book.lock().unwrap().script.push(rule);
    }

    /// Panics unless every rule was used up and every request matched.
    pub fn finished(&self) {
        assert_eq!(self.unmatched(), Vec::<String>::new(), "requests that no rule matched");
        assert_eq!(self.unused(), Vec::<String>::new(), "rules that were not used up");
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn answer(
    wire: Wire,
    State(book): State<Arc<Mutex<Book>>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let said = match wire {
        Wire::OpenAi => said(&body),
        Wire::Anthropic => anthropic::said(&body),
    };
    let asked = Asked { wire, query: query.unwrap_or_default(), said, body, headers };
    let header = |name: &str| asked.header(name).map(str::to_owned);
    let wrong = (wire == Wire::Anthropic).then(|| anthropic::refused(&asked.body, &header)).flatten();
    let reply = {
        let mut book = book.lock().unwrap();
        book.asked.push(asked.clone());
        let found = book
            .script
            .iter_mut()
            .find(|rule| rule.left != Some(0) && rule.wants.iter().all(|(_, wants)| wants(&asked)));
        match found {
            _ if wrong.is_some() => {
                let (status, words) = wrong.unwrap();
                book.unmatched.push(words.clone());
                Reply::error(status, &words, None)
            }
            Some(rule) => {
                rule.used += 1;
                rule.left = rule.left.map(|left| left - 1);
                (rule.reply)(&asked)
            }
            None => {
                let why = why(&book.script, &asked);
                book.unmatched.push(why.clone());
                Reply::error(500, &why, Some("unmatched"))
            }
        }
    };
    reply.respond(wire).await
}

/// A conversation in OpenAI's words as (role, text).
fn said(body: &Value) -> Vec<(String, String)> {
    let text = |content: &Value| match content {
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        other => other.as_str().unwrap_or_default().to_owned(),
    };
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let role = |message: &Value| message["role"].as_str().unwrap_or_default().to_owned();
    messages.iter().map(|message| (role(message), text(&message["content"]))).collect()
}

/// For each rule, what keeps it from answering.
fn why(script: &[Rule], asked: &Asked) -> String {
    let rules = script.iter().enumerate().map(|(at, rule)| {
        let missing: Vec<&str> =
            rule.wants.iter().filter(|(_, wants)| !wants(asked)).map(|(what, _)| what.as_str()).collect();
        let reason = if missing.is_empty() { "used up".to_owned() } else { format!("lacks {}", missing.join(", ")) };
        format!("rule {}: {reason}", at + 1)
    });
    let last: String = asked.last().chars().take(300).collect();
    format!(
        "no rule answers turn {} of {:?}, last message {last:?}; {}",
        asked.turn(),
        asked.model(),
        rules.collect::<Vec<_>>().join("; ")
    )
}
