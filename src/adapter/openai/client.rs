//! Asking: requests, deadlines, retries.

use super::assemble::{Assembler, Billed, Broken, Whole, document, dollars};
use super::failure::{Failure, Said, advice, clean, said};
use super::retry::{Backoff, retry_after, spread};
use super::sse::Parser;
use super::target::Target;
use super::wire::{Optional, body};
use crate::adapter::tls;
use crate::model::chat::{Bill, ChatAnswer, ChatRequest, Message, ModelError, ModelFault, ModelRef};
use crate::model::usage::{CostSource, NanoUsd};
use crate::port::clock::Clock;
use crate::port::model::ChatModel;
use async_trait::async_trait;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Gives the value of the variable whose name stands in `env://NAME`.
pub type KeyLookup = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Gives random numbers, to spread waits.
pub type Jitter = Arc<dyn Fn() -> u64 + Send + Sync>;

/// How long, how often, how much.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Attempts at one question, the first included. A request made again without a field that the server does not
    /// know is not a new attempt.
    pub attempts: u32,
    /// Bound of the first wait between attempts; it doubles with each one.
    pub backoff_base: Duration,
    /// Bound of every such wait.
    pub backoff_cap: Duration,
    /// The longest wait that a server's `Retry-After` may ask for; at a longer one the question fails at once.
    pub retry_after_cap: Duration,
    /// Until a connection stands.
    pub connect: Duration,
    /// From the request to the first byte of its answer.
    pub first_byte: Duration,
    /// Between two pieces of an answer.
    pub idle: Duration,
    /// For one question, all attempts and waits included.
    pub total: Duration,
    /// The largest answer, in bytes, unpacked.
    pub max_bytes: usize,
    /// Whether `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` count.
    pub system_proxy: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            attempts: 4,
            backoff_base: Duration::from_millis(500),
            backoff_cap: Duration::from_secs(20),
            retry_after_cap: Duration::from_secs(60),
            connect: Duration::from_secs(15),
            first_byte: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            total: Duration::from_secs(600),
            max_bytes: 16 << 20,
            system_proxy: true,
        }
    }
}

/// Speaks OpenAI's chat completions over HTTP. Cheap to share: one pool of connections.
pub struct OpenAi {
    settings: Settings,
    clock: Arc<dyn Clock>,
    key: KeyLookup,
    jitter: Jitter,
    plain: Client,
    /// Made when it is first needed, because it reads the machine's certificates.
    secure: OnceLock<Result<Client, String>>,
    /// Fields that a server has refused, by address and model, so that each is refused once only.
    refused: Mutex<BTreeMap<(String, String), BTreeSet<Optional>>>,
}

impl fmt::Debug for OpenAi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAi").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl OpenAi {
    /// An adapter. `key` is asked at every question, for the name in a model's `env://NAME`; `jitter` spreads waits;
    /// all waiting between attempts goes through `clock`, deadlines are real time.
    ///
    /// # Errors
    /// What keeps an HTTP client from being made, in words. Certificates are read at the first `https` address, so
    /// a machine without any can still ask over `http`.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>, key: KeyLookup, jitter: Jitter) -> Result<Self, String> {
        tls::init();
        let plain = client(&settings, false)?;
        Ok(Self { settings, clock, key, jitter, plain, secure: OnceLock::new(), refused: Mutex::default() })
    }

    fn client(&self, target: &Target) -> Result<&Client, Failure> {
        if target.url.scheme() == "http" {
            return Ok(&self.plain);
        }
        self.secure.get_or_init(|| client(&self.settings, true)).as_ref().map_err(|error| {
            let what = format!(
                "no TLS: {error}; install the machine's CA certificates (`ca-certificates`) or name a bundle in SSL_CERT_FILE"
            );
            Failure::new(ModelFault::Network, false, what)
        })
    }

    /// One request and its answer. `shape` may be told that the server refuses a field.
    async fn once(&self, sent: &Sent<'_>, refused: &BTreeSet<Optional>) -> Result<Whole, Failure> {
        let begun = Instant::now();
        let text = serde_json::to_vec(&body(sent.request, refused))
            .map_err(|error| Failure::new(ModelFault::BadRequest, false, format!("the request is no JSON: {error}")))?;
        let first = Deadline::of(begun, self.settings.first_byte, "the first byte of an answer", sent.until);
        let asked = sent
            .client
            .post(sent.target.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "text/event-stream, application/json")
            .headers(sent.headers.clone())
            .body(text)
            .send();
        let response = match timeout_at(first.at, asked).await {
            Err(_) => return Err(first.passed(&self.settings)),
            Ok(Err(error)) => return Err(broken_off("no answer", &error)),
            Ok(Ok(response)) => response,
        };
        let mut incoming =
            Incoming { settings: &self.settings, response, deadline: first, until: sent.until, bytes: 0 };
        if !incoming.response.status().is_success() {
            return Err(self.refusal(incoming).await);
        }
        let kind = header(incoming.response.headers(), CONTENT_TYPE.as_str()).unwrap_or_default().to_lowercase();
        // What is not labelled is judged by its first byte.
        let mut head = Vec::new();
        while head.iter().all(u8::is_ascii_whitespace) {
            match incoming.next().await? {
                Some(piece) => head.extend_from_slice(&piece),
                None => break,
            }
        }
        let is_object = head.trim_ascii_start().first() == Some(&b'{');
        match kind.split(';').next().unwrap_or_default().trim() {
            "text/event-stream" => self.stream(sent, incoming, head).await,
            "application/json" => self.document(sent, incoming, head).await,
            "" | "text/plain" | "application/octet-stream" if is_object => self.document(sent, incoming, head).await,
            "" | "text/plain" | "application/octet-stream" if looks_like_events(&head) => {
                self.stream(sent, incoming, head).await
            }
            kind => {
                let kind = if kind.is_empty() { "no content type" } else { kind };
                let excerpt = excerpt(&head, sent.target.secret());
                Err(Failure::new(
                    ModelFault::Protocol,
                    false,
                    format!("the answer is {kind}, not an event stream: {excerpt}"),
                ))
            }
        }
    }

    async fn stream(&self, sent: &Sent<'_>, mut incoming: Incoming<'_>, head: Vec<u8>) -> Result<Whole, Failure> {
        let mut parser = Parser::default();
        let mut answer = Assembler::default();
        let mut piece = Some(head);
        let mut end = Ok(());
        'stream: while let Some(bytes) = piece.take() {
            for event in parser.push(&bytes) {
                match answer.event(&event, sent.heard) {
                    Ok(false) => {}
                    Ok(true) => break 'stream,
                    Err(broken) => {
                        return Err(Failure { billed: answer.billed(), ..not_an_answer(broken, sent.target.secret()) });
                    }
                }
            }
            match incoming.next().await {
                Ok(next) => piece = next,
                // An answer that is whole is not paid for twice because its connection broke off after it.
                Err(failure) => end = Err(failure),
            }
        }
        let billed = answer.billed();
        match (answer.finish(sent.calls_before), end) {
            (Some(whole), _) => Ok(whole),
            (None, Err(failure)) => Err(Failure { billed, ..failure }),
            (None, Ok(())) => {
                let what = "the answer broke off before its end; nothing of it is used";
                Err(Failure { billed, ..Failure::new(ModelFault::Network, true, what) })
            }
        }
    }

    async fn document(&self, sent: &Sent<'_>, mut incoming: Incoming<'_>, head: Vec<u8>) -> Result<Whole, Failure> {
        let mut text = head;
        while let Some(piece) = incoming.next().await? {
            text.extend_from_slice(&piece);
        }
        let secret = sent.target.secret();
        let value = serde_json::from_slice(&text).map_err(|error| {
            let what = format!("the answer is no JSON ({error}): {}", excerpt(&text, secret));
            // A body that ends early was cut on its way.
            Failure::new(ModelFault::Protocol, error.is_eof(), what)
        })?;
        let mut whole =
            document(&value, sent.calls_before, sent.heard).map_err(|broken| not_an_answer(broken, secret))?;
        // For an answer in one piece, LiteLLM's header has the final cost.
        let cost = header(incoming.response.headers(), "x-litellm-response-cost");
        if let (Some(billed), Some(cost)) = (&mut whole.billed, cost) {
            billed.cost = dollars(&serde_json::Value::String(cost)).or(billed.cost);
        }
        Ok(whole)
    }

    /// A status other than 2xx.
    async fn refusal(&self, mut incoming: Incoming<'_>) -> Failure {
        const ENOUGH: usize = 64 << 10;
        let status = incoming.response.status();
        let headers = incoming.response.headers().clone();
        let mut text = Vec::new();
        // What cannot be read of the body is not missed: the status says enough.
        while text.len() < ENOUGH
            && let Ok(Some(piece)) = incoming.next().await
        {
            text.extend_from_slice(&piece);
        }
        let mut words = serde_json::from_slice(&text).ok().and_then(|value| said(&value)).unwrap_or_else(|| Said {
            message: String::from_utf8_lossy(text.get(..400).unwrap_or(&text)).into_owned(),
            ..Said::default()
        });
        if status.is_redirection() {
            // The address alone: a query may hold a secret.
            let to = header(&headers, "location").unwrap_or_default();
            words.message = format!("redirects to {}", to.split(['?', '#']).next().unwrap_or_default());
        }
        let mut failure = Failure::reported(Some(status.as_u16()), words);
        failure.wait = header(&headers, "retry-after-ms")
            .and_then(|ms| ms.trim().parse().ok().map(Duration::from_millis))
            .or_else(|| retry_after(&header(&headers, RETRY_AFTER.as_str())?, self.clock.now_ms()));
        failure
    }

    /// How long to wait before the next attempt; an error where none is to be made.
    fn wait(&self, failure: &mut Failure, attempt: u32, until: Instant) -> Option<Duration> {
        if !failure.passes || attempt >= self.settings.attempts {
            return None;
        }
        let backoff = Backoff { base: self.settings.backoff_base, cap: self.settings.backoff_cap };
        let wait = match failure.wait {
            Some(wait) if wait > self.settings.retry_after_cap => {
                let (asked, cap) = (seconds(wait), seconds(self.settings.retry_after_cap));
                failure.what.push_str(&format!(
                    " (the server asks to wait {asked}, longer than the {cap} that CodeForge waits)"
                ));
                return None;
            }
            Some(wait) => wait.saturating_add(spread(wait, (self.jitter)())),
            None => backoff.wait(attempt, (self.jitter)()),
        };
        // Waiting past the deadline would only make the failure late.
        (wait < until.saturating_duration_since(Instant::now())).then_some(wait)
    }

    fn refused(&self, target: &Target, model: &ModelRef) -> BTreeSet<Optional> {
        let known = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&(target.shown.clone(), model.model.clone())).cloned().unwrap_or_default()
    }

    fn remember(&self, target: &Target, model: &ModelRef, refused: &BTreeSet<Optional>) {
        let mut known = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry((target.shown.clone(), model.model.clone())).or_default().extend(refused);
    }
}

#[async_trait]
impl ChatModel for OpenAi {
    async fn ask(
        &self,
        request: &ChatRequest,
        heard: &(dyn for<'a> Fn(&'a str) + Send + Sync),
    ) -> Result<ChatAnswer, ModelError> {
        let model = &request.model;
        let until = Instant::now() + self.settings.total;
        let early = |failure| told(model, None, failure, 0, None);
        let target = Target::of(model, &self.key).map_err(early)?;
        let headers = target.headers().map_err(early)?;
        let client = self.client(&target).map_err(early)?;
        let calls_before = request.messages.iter().map(|message| match message {
            Message::Assistant { calls, .. } => calls.len(),
            _ => 0,
        });
        let sent = Sent { request, heard, target: &target, headers, client, calls_before: calls_before.sum(), until };
        let mut refused = self.refused(&target, model);
        let mut lost: Option<Bill> = None;
        let mut requests = 0;
        let mut attempt = 1;
        loop {
            requests += 1;
            let mut failure = match self.once(&sent, &refused).await {
                Ok(whole) => {
                    let bill = together(lost, bill(model, whole.billed));
                    return Ok(ChatAnswer {
                        text: whole.text,
                        calls: whole.calls,
                        stop: whole.stop,
                        bill,
                        requests,
                        reasoning: Vec::new(),
                    });
                }
                Err(failure) => failure,
            };
            if let Some(billed) = failure.billed {
                lost = Some(together(lost, bill(model, Some(billed))));
            }
            let blamed = Optional::ALL.iter().find(|(field, name)| !refused.contains(field) && failure.blames(name));
            if let Some((field, name)) = blamed {
                tracing::debug!(
                    model = model.name,
                    field = name,
                    "the server does not take this field; asking without it"
                );
                refused.insert(*field);
                self.remember(&target, model, &refused);
                continue;
            }
            let Some(wait) = self.wait(&mut failure, attempt, until) else {
                return Err(told(model, Some(&target), failure, requests, lost));
            };
            tracing::debug!(model = model.name, attempt, fault = ?failure.fault, ?wait, "asking again");
            self.clock.sleep(wait).await;
            attempt += 1;
        }
    }
}

/// What stays the same over the attempts at one question.
struct Sent<'a> {
    request: &'a ChatRequest,
    heard: &'a (dyn for<'t> Fn(&'t str) + Send + Sync),
    target: &'a Target,
    headers: HeaderMap,
    client: &'a Client,
    /// Calls that the conversation has had.
    calls_before: usize,
    /// The question's deadline.
    until: Instant,
}

/// The moment at which waiting ends, and what was waited for.
struct Deadline {
    at: Instant,
    what: &'static str,
    limit: Duration,
    /// It is the deadline of the whole question.
    last: bool,
}

impl Deadline {
    fn of(from: Instant, limit: Duration, what: &'static str, until: Instant) -> Self {
        let at = from + limit;
        Self { at: at.min(until), what, limit, last: until <= at }
    }

    fn passed(&self, settings: &Settings) -> Failure {
        if self.last {
            let what = format!("no complete answer within {}, all attempts together", seconds(settings.total));
            return Failure::new(ModelFault::Timeout, false, what);
        }
        let what = format!("waited {} for {}", seconds(self.limit), self.what);
        Failure::new(ModelFault::Timeout, true, what)
    }
}

/// An answer that is coming in, under its deadlines and its limit.
struct Incoming<'a> {
    settings: &'a Settings,
    response: Response,
    deadline: Deadline,
    until: Instant,
    bytes: usize,
}

impl Incoming<'_> {
    /// The next piece; `None` at the end.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let piece = match timeout_at(self.deadline.at, self.response.chunk()).await {
            Err(_) => return Err(self.deadline.passed(self.settings)),
            Ok(Err(error)) => return Err(broken_off("the answer broke off", &error)),
            Ok(Ok(None)) => return Ok(None),
            Ok(Ok(Some(piece))) => piece,
        };
        self.deadline = Deadline::of(Instant::now(), self.settings.idle, "the next piece of an answer", self.until);
        self.bytes = self.bytes.saturating_add(piece.len());
        if self.bytes > self.settings.max_bytes {
            let what = format!("the answer is larger than {} bytes", self.settings.max_bytes);
            return Err(Failure::new(ModelFault::Protocol, false, what));
        }
        Ok(Some(piece.to_vec()))
    }
}

fn client(settings: &Settings, secure: bool) -> Result<Client, String> {
    let mut builder = Client::builder()
        // A redirect would take the key to another host.
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(settings.connect)
        .user_agent(concat!("codeforge/", env!("CARGO_PKG_VERSION")));
    if !settings.system_proxy {
        builder = builder.no_proxy();
    }
    if !secure {
        // An empty store: nothing is read from the machine for addresses that need no certificates.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|error| chain(&error))
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(HeaderValue::as_bytes).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn looks_like_events(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    head.starts_with(b":") || head.starts_with(b"data:") || head.starts_with(b"event:") || head.starts_with(b"id:")
}

fn excerpt(bytes: &[u8], secret: Option<&str>) -> String {
    clean(&String::from_utf8_lossy(bytes.get(..4096).unwrap_or(bytes)), secret, 200)
}

fn not_an_answer(broken: Broken, secret: Option<&str>) -> Failure {
    match broken {
        Broken::Reported(said) => Failure::reported(None, said),
        Broken::Garbled(text) => {
            let what = format!("this is no chat completion: {}", clean(&text, secret, 200));
            Failure::new(ModelFault::Protocol, false, what)
        }
    }
}

fn broken_off(what: &str, error: &reqwest::Error) -> Failure {
    if error.is_builder() {
        return Failure::new(ModelFault::BadRequest, false, format!("the request cannot be made: {}", chain(error)));
    }
    if error.is_timeout() && error.is_connect() {
        return Failure::new(ModelFault::Timeout, true, "no connection within its deadline");
    }
    let what = if error.is_connect() { "no connection" } else { what };
    Failure::new(ModelFault::Network, true, format!("{what}: {}", chain(error)))
}

/// An error's deepest cause. The outer ones repeat the address, with everything that is in it.
fn chain(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if cause.is::<reqwest::Error>() { "the connection broke off".to_owned() } else { cause.to_string() }
}

fn seconds(time: Duration) -> String {
    if time.subsec_millis() == 0 { format!("{} s", time.as_secs()) } else { format!("{} ms", time.as_millis()) }
}

/// The bill of one request.
fn bill(model: &ModelRef, billed: Option<Billed>) -> Bill {
    let usage = billed.map(|billed| billed.usage);
    let provider = billed.and_then(|billed| billed.cost);
    let table = || Some(model.price.as_ref()?.of(&usage?));
    let (cost, source) = match (provider, table()) {
        (Some(cost), _) => (Some(cost), CostSource::Provider),
        (None, Some(cost)) => (Some(cost), CostSource::PriceTable),
        (None, None) => (None, CostSource::Unknown),
    };
    Bill { model: model.name.clone(), usage, cost, source }
}

/// Adds what attempts that failed had cost. Where one part is unknown, so is the sum.
fn together(lost: Option<Bill>, last: Bill) -> Bill {
    let Some(lost) = lost else { return last };
    let usage = lost.usage.zip(last.usage).map(|(mut sum, usage)| {
        sum += usage;
        sum
    });
    let cost = lost.cost.zip(last.cost).map(|(a, b): (NanoUsd, NanoUsd)| a.plus(b));
    let source = match cost {
        None => CostSource::Unknown,
        Some(_) if lost.source == last.source => last.source,
        Some(_) => CostSource::PriceTable,
    };
    Bill { model: last.model, usage, cost, source }
}

/// A failure as it is told: which model, where, what happened, what to do.
fn told(model: &ModelRef, target: Option<&Target>, failure: Failure, requests: u32, bill: Option<Bill>) -> ModelError {
    let secret = target.and_then(Target::secret);
    let key = target.and_then(|target| {
        let name = target.key_name.as_deref()?;
        Some(format!("{name} ({})", super::failure::mask(secret?)))
    });
    let what = clean(&failure.what, secret, 300);
    let mut message = match target {
        Some(target) => format!("model `{}` ({} at {}): {what}", model.name, model.model, target.shown),
        None => format!("model `{}`: {what}", model.name),
    };
    if requests > 1 {
        message.push_str(&format!(", after {requests} requests"));
    }
    if requests > 0 {
        message.push_str(". ");
        message.push_str(&advice(failure.fault, failure.status, key.as_deref()));
    }
    let retry_after_ms = failure.wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    ModelError { fault: failure.fault, message, status: failure.status, requests, bill, retry_after_ms }
}
