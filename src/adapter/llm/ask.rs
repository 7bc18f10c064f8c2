//! Asking: requests, attempts, waits.

use super::Jitter;
use super::bill::{bill, together};
use super::dialect::{Blamed, Broken, Dialect, Heard, Refused, Whole, dollars};
use super::failure::{Failure, Said, advice, clean, mask, said};
use super::http::{Clients, Deadline, Incoming, Settings, broken_off, header, seconds};
use super::retry::{Backoff, retry_after, spread};
use super::sse::Parser;
use super::target::{KeyLookup, Target};
use crate::model::chat::{Bill, ChatAnswer, ChatRequest, Message, ModelError, ModelFault, ModelRef};
use crate::port::clock::Clock;
use reqwest::Client;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Asks in any dialect. One pool of connections, one memory of what servers refuse.
pub(super) struct Asker {
    settings: Settings,
    clock: Arc<dyn Clock>,
    key: KeyLookup,
    jitter: Jitter,
    clients: Clients,
    /// Fields that a server has refused, by address and model, so that each is refused once only.
    refused: Mutex<BTreeMap<(String, String), Refused>>,
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asker").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Asker {
    /// As [`super::Router::new`].
    pub(super) fn new(
        settings: Settings,
        clock: Arc<dyn Clock>,
        key: KeyLookup,
        jitter: Jitter,
    ) -> Result<Self, String> {
        let clients = Clients::new(&settings)?;
        Ok(Self { settings, clock, key, jitter, clients, refused: Mutex::default() })
    }

    /// Asks until there is an answer, or no attempt left. `model`: the request's, with its address and key.
    pub(super) async fn ask(
        &self,
        dialect: &dyn Dialect,
        model: &ModelRef,
        request: &ChatRequest,
        heard: Heard<'_>,
    ) -> Result<ChatAnswer, ModelError> {
        let until = Instant::now() + self.settings.total;
        let early = |failure| told(dialect, model, None, failure, 0, None);
        let target = Target::of(model, dialect, &self.key).map_err(early)?;
        let headers = target.headers().map_err(early)?;
        let client = self.clients.of(&target, &self.settings).map_err(early)?;
        let calls_before = request.messages.iter().map(|message| match message {
            Message::Assistant { calls, .. } => calls.len(),
            _ => 0,
        });
        let calls_before = calls_before.sum();
        let sent = Sent { dialect, heard, target: &target, headers, client, calls_before, until };
        let mut refused = self.refused(&target, model);
        let mut lost: Option<Bill> = None;
        let mut requests = 0;
        let mut attempt = 1;
        loop {
            requests += 1;
            let body = dialect.body(request, &refused).to_string();
            let mut failure = match self.once(&sent, body.clone()).await {
                Ok(whole) => {
                    return Ok(ChatAnswer {
                        text: whole.text,
                        calls: whole.calls,
                        stop: whole.stop,
                        bill: together(lost, bill(model, whole.billed)),
                        requests,
                        reasoning: whole.reasoning,
                    });
                }
                Err(failure) => failure,
            };
            if let Some(billed) = failure.billed {
                lost = Some(together(lost, bill(model, Some(billed))));
            }
            // Only what was sent can be left out.
            let held = |name: &str| !refused.contains(name) && body.contains(&format!("\"{name}\":"));
            if let Some(Blamed { field, for_good }) = dialect.blamed(&failure, &held) {
                tracing::debug!(model = model.name, field, "the server does not take this field; asking without it");
                refused.insert(field);
                if for_good {
                    self.remember(&target, model, field);
                }
                continue;
            }
            let Some(wait) = self.wait(&mut failure, attempt, until) else {
                return Err(told(dialect, model, Some(&target), failure, requests, lost));
            };
            tracing::debug!(model = model.name, attempt, fault = ?failure.fault, ?wait, "asking again");
            self.clock.sleep(wait).await;
            attempt += 1;
        }
    }

    /// One request and its answer.
    async fn once(&self, sent: &Sent<'_>, body: String) -> Result<Whole, Failure> {
        let begun = Instant::now();
        let first = Deadline::of(begun, self.settings.first_byte, "the first byte of an answer", sent.until);
        let asked = sent
            .client
            .post(sent.target.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "text/event-stream, application/json")
            .headers(sent.headers.clone())
            .body(body)
            .send();
        let response = match timeout_at(first.at, asked).await {
            Err(_) => return Err(first.passed(&self.settings)),
            Ok(Err(error)) => return Err(broken_off("no answer", &error)),
            Ok(Ok(response)) => response,
        };
        let mut incoming =
            Incoming { settings: &self.settings, response, deadline: first, until: sent.until, bytes: 0 };
        if !incoming.response.status().is_success() {
            return Err(self.refusal(sent.dialect, incoming).await);
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
        let mut answer = sent.dialect.assembler();
        let mut piece = Some(head);
        let mut end = Ok(());
        'stream: while let Some(bytes) = piece.take() {
            for event in parser.push(&bytes) {
                match answer.event(&event, sent.heard) {
                    Ok(false) => {}
                    Ok(true) => break 'stream,
                    Err(broken) => {
                        return Err(Failure { billed: answer.billed(), ..sent.not_an_answer(broken) });
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
        let value = serde_json::from_slice(&text).map_err(|error| {
            let what = format!("the answer is no JSON ({error}): {}", excerpt(&text, sent.target.secret()));
            // A body that ends early was cut on its way.
            Failure::new(ModelFault::Protocol, error.is_eof(), what)
        })?;
        let whole = sent.dialect.document(&value, sent.calls_before, sent.heard);
        let mut whole =
            whole.map_err(|broken| Failure { billed: sent.dialect.billed(&value), ..sent.not_an_answer(broken) })?;
        // For an answer in one piece, LiteLLM's header has the final cost.
        let cost = header(incoming.response.headers(), "x-litellm-response-cost");
        if let (Some(billed), Some(cost)) = (&mut whole.billed, cost) {
            billed.cost = dollars(&serde_json::Value::String(cost)).or(billed.cost);
        }
        Ok(whole)
    }

    /// A status other than 2xx.
    async fn refusal(&self, dialect: &dyn Dialect, mut incoming: Incoming<'_>) -> Failure {
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
        let body: Option<serde_json::Value> = serde_json::from_slice(&text).ok();
        let mut words = body.as_ref().and_then(said).unwrap_or_else(|| Said {
            message: String::from_utf8_lossy(text.get(..400).unwrap_or(&text)).into_owned(),
            ..Said::default()
        });
        if status.is_redirection() {
            // The address alone: a query may hold a secret.
            let to = header(&headers, "location").unwrap_or_default();
            words.message = format!("redirects to {}", to.split(['?', '#']).next().unwrap_or_default());
        }
        let mut failure = Failure::reported(Some(status.as_u16()), words);
        failure.billed = body.as_ref().and_then(|body| dialect.billed(body));
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

    fn refused(&self, target: &Target, model: &ModelRef) -> Refused {
        let known = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&(target.shown.clone(), model.model.clone())).cloned().unwrap_or_default()
    }

    fn remember(&self, target: &Target, model: &ModelRef, field: &'static str) {
        let mut known = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry((target.shown.clone(), model.model.clone())).or_default().insert(field);
    }
}

/// What stays the same over the attempts at one question.
struct Sent<'a> {
    dialect: &'a dyn Dialect,
    heard: Heard<'a>,
    target: &'a Target,
    headers: HeaderMap,
    client: &'a Client,
    /// Calls that the conversation has had.
    calls_before: usize,
    /// The question's deadline.
    until: Instant,
}

impl Sent<'_> {
    fn not_an_answer(&self, broken: Broken) -> Failure {
        match broken {
            Broken::Reported(said) => Failure::reported(None, said),
            Broken::Garbled(text) => {
                let what = format!("this is no {}: {}", self.dialect.answer(), clean(&text, self.target.secret(), 200));
                Failure::new(ModelFault::Protocol, false, what)
            }
        }
    }
}

fn looks_like_events(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    head.starts_with(b":") || head.starts_with(b"data:") || head.starts_with(b"event:") || head.starts_with(b"id:")
}

fn excerpt(bytes: &[u8], secret: Option<&str>) -> String {
    clean(&String::from_utf8_lossy(bytes.get(..4096).unwrap_or(bytes)), secret, 200)
}

/// A failure as it is told: which model, where, what happened, what to do.
fn told(
    dialect: &dyn Dialect,
    model: &ModelRef,
    target: Option<&Target>,
    failure: Failure,
    requests: u32,
    bill: Option<Bill>,
) -> ModelError {
    let secret = target.and_then(Target::secret);
    let key = target.and_then(|target| {
        let name = target.key_name.as_deref()?;
        Some(format!("{name} ({})", mask(secret?)))
    });
    let what = clean(&failure.what, secret, 300);
    let what = what.trim_end_matches('.');
    let mut message = match target {
        Some(target) => format!("model `{}` ({} at {}): {what}", model.name, model.model, target.shown),
        None => format!("model `{}`: {what}", model.name),
    };
    if requests > 1 {
        message.push_str(&format!(", after {requests} requests"));
    }
    if requests > 0 {
        message.push_str(". ");
        message.push_str(&advice(dialect, &failure, key.as_deref()));
    }
    let retry_after_ms = failure.wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    ModelError { fault: failure.fault, message, status: failure.status, requests, bill, retry_after_ms }
}
