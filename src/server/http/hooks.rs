//! Webhooks: signature, then the row, then the answer. Nothing else happens in the request.

use super::large::Room;
use super::names::{self, Said};
use super::signature::{self, Shown};
use super::{LARGE, Peer, Place, Shared, limits, says};
use crate::model::forge::ForgeKind;
use crate::model::job::Delivery;
use crate::model::serve::Repository;
use crate::port::inbox::Accepted;
use crate::server::log::{Level, Line};
use crate::server::settings::{Key, Live};
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::json;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// As much room is made for a body before it comes, in bytes.
const EXPECTED: usize = 64 * 1024;

/// Why a body was not read.
enum Unread {
    /// It is larger than bodies may be.
    TooLarge,
    /// It ended before its end.
    Cut,
    /// It gave way to somebody else's.
    Slow,
}

/// What became of a webhook, for its answer, the log and the numbers.
struct Outcome {
    /// One of a few words.
    word: &'static str,
    status: StatusCode,
    /// For whoever sent it.
    words: String,
    retry_after: Option<Duration>,
}

impl Outcome {
    fn new(word: &'static str, status: StatusCode, words: impl Into<String>) -> Self {
        Self { word, status, words: words.into(), retry_after: None }
    }
}

/// A webhook on its way.
struct Call<'a> {
    shared: &'a Shared,
    live: &'a Live,
    headers: &'a HeaderMap,
    /// Who sends it.
    source: Option<IpAddr>,
    /// The connection.
    place: Option<Arc<Place>>,
    /// When its head was there.
    begun: Instant,
    id: String,
}

/// What a webhook is once its signature holds.
struct Genuine {
    source: String,
    event: String,
    repository: usize,
    id: Option<String>,
    body: Vec<u8>,
}

/// A forge's webhook.
pub(super) async fn forge(State(shared): State<Arc<Shared>>, Path(forge): Path<String>, request: Request) -> Response {
    answer(&shared, request, Door::Forge(&forge, None)).await
}

/// A forge's webhook at the address of one repository: only that one's secrets are tried.
pub(super) async fn forge_of_one(
    State(shared): State<Arc<Shared>>,
    Path((forge, repository)): Path<(String, String)>,
    request: Request,
) -> Response {
    answer(&shared, request, Door::Forge(&forge, Some(&repository))).await
}

/// A call of a hook of our own.
pub(super) async fn hook(State(shared): State<Arc<Shared>>, Path(name): Path<String>, request: Request) -> Response {
    answer(&shared, request, Door::Hook(&name)).await
}

/// Which address was called.
enum Door<'a> {
    Forge(&'a str, Option<&'a str>),
    Hook(&'a str),
}

async fn answer(shared: &Shared, mut request: Request, door: Door<'_>) -> Response {
    let begun = Instant::now();
    let number = shared.requests.fetch_add(1, Ordering::Relaxed);
    let request_id = format!("{:x}-{number:x}", shared.began);
    let live = shared.server.settings.now();
    let peer = request.extensions_mut().remove::<Peer>();
    let (head, body) = request.into_parts();
    let headers = &head.headers;
    let source = peer.as_ref().map(|Peer(peer, _)| limits::source(*peer, headers, &live.serve.proxies));
    let place = peer.map(|Peer(_, place)| place);
    let mut call = Call { shared, live: &live, headers, source, place, begun, id: String::new() };
    let allowed = source.map_or(Ok(()), |source| shared.buckets.take(source, begun, &live.serve.limits));
    let outcome = match (allowed, &door) {
        (Err(wait), _) => Outcome {
            retry_after: Some(wait),
            ..Outcome::new("limited", StatusCode::TOO_MANY_REQUESTS, "too many requests from this address")
        },
        (Ok(()), Door::Forge(name, repository)) => match kind(name) {
            Some(kind) => call.forge(kind, *repository, body).await,
            None => nothing_here(),
        },
        (Ok(()), Door::Hook(name)) => call.hook(name, body).await,
    };
    // Labels are our own words, whatever was asked for.
    let label = match door {
        Door::Forge(name, _) => kind(name).map_or("unknown", ForgeKind::word),
        Door::Hook(_) => "hook",
    };
    let delivery = call.id;
    let metrics = &shared.server.metrics;
    let labels = [("source", label), ("outcome", outcome.word)];
    metrics.count("codeforge_webhooks_total", "Webhooks, by what became of them.", &labels);
    let took = begun.elapsed().as_secs_f64();
    metrics.took("codeforge_webhook_seconds", "How long a webhook's answer took.", &[], took);
    let level = match outcome.status.as_u16() {
        503 => Level::Alarm,
        401 | 413 | 429 => Level::Warn,
        _ => Level::Info,
    };
    line(shared.server.log.line(level, "webhook"), &request_id, &delivery, &outcome, label)
        .text("from", source.map(|source| source.to_string()).as_deref())
        .number("ms", format_args!("{:.1}", took * 1000.0))
        .write();
    let mut response = if outcome.status == StatusCode::ACCEPTED {
        (outcome.status, Json(json!({ "status": outcome.words, "delivery": delivery }))).into_response()
    } else {
        says(outcome.status, &outcome.words)
    };
    if let Some(wait) = outcome.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
    }
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}

fn line<'l>(line: Line<'l>, request: &str, delivery: &str, outcome: &Outcome, source: &str) -> Line<'l> {
    let delivery = Some(delivery).filter(|id| !id.is_empty());
    let line = line.text("request", request).text("delivery", delivery).text("source", source);
    let why = Some(outcome.words.as_str()).filter(|_| outcome.status != StatusCode::ACCEPTED);
    line.text("outcome", outcome.word).number("status", outcome.status.as_u16()).text("why", why)
}

/// The forge of an address.
fn kind(name: &str) -> Option<ForgeKind> {
    ForgeKind::named(name).filter(|forge| *forge != ForgeKind::Local)
}

fn nothing_here() -> Outcome {
    Outcome::new("unknown", StatusCode::NOT_FOUND, "there is nothing here")
}

fn unsigned() -> Outcome {
    Outcome::new("unsigned", StatusCode::UNAUTHORIZED, "there is no signature that counts")
}

fn forged() -> Outcome {
    Outcome::new("forged", StatusCode::UNAUTHORIZED, "the signature fits no secret")
}

impl Call<'_> {
    async fn forge(&mut self, forge: ForgeKind, only: Option<&str>, body: Body) -> Outcome {
        let shown = signature::of_forge(forge, self.headers);
        if shown.is_empty() {
            return unsigned();
        }
        let body = match self.body(body).await {
            Ok(body) => body,
            Err(outcome) => return outcome,
        };
        let served = &self.live.serve.repositories;
        let named = |place: &usize, name: &str| served.get(*place).is_some_and(|it| it.name.eq_ignore_ascii_case(name));
        let keys = self.live.of_forge(forge);
        let keys = keys.filter(|key| only.is_none_or(|name| key.repositories.iter().any(|place| named(place, name))));
        let Some(key) = self.fitting(keys, &shown, &body) else { return forged() };
        // From here on it is from whom it says.
        let Said { event, id } = names::said(forge, self.headers);
        self.id = id.unwrap_or_default().to_owned();
        let Some(event) = event else {
            return Outcome::new("incomplete", StatusCode::BAD_REQUEST, "the header with the event's name is missing");
        };
        if event == "ping" {
            return Outcome::new("ping", StatusCode::OK, "pong");
        }
        if !names::is_known(forge, event) {
            return Outcome::new("ignored", StatusCode::OK, "nothing comes of this event here");
        }
        let json = self.headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
        if json.is_some_and(|it| it.starts_with("application/x-www-form-urlencoded")) {
            let words = "set the webhook's content type to application/json";
            return Outcome::new("incomplete", StatusCode::UNSUPPORTED_MEDIA_TYPE, words);
        }
        // Where several repositories share a secret, the body says which; never one that has another secret.
        let repository = match key.repositories.as_slice() {
            [one] => Some(*one),
            several => meant(forge, &body, several.iter().filter_map(|place| Some((*place, served.get(*place)?)))),
        };
        let Some(repository) = repository.filter(|place| only.is_none_or(|name| named(place, name))) else {
            return Outcome::new("ignored", StatusCode::OK, "this repository is not served with this secret");
        };
        let (source, event) = (forge.word().to_owned(), event.to_owned());
        self.take(Genuine { source, event, repository, id: id.map(str::to_owned), body }).await
    }

    async fn hook(&mut self, name: &str, body: Body) -> Outcome {
        let Some((hook, keys)) = self.live.hook(name) else { return nothing_here() };
        let shown = signature::of_hook(self.headers);
        if shown.is_empty() {
            return unsigned();
        }
        let body = match self.body(body).await {
            Ok(body) => body,
            Err(outcome) => return outcome,
        };
        if self.fitting(keys.iter(), &shown, &body).is_none() {
            return forged();
        }
        let id = names::hook_id(self.headers).map(str::to_owned);
        let (source, event) = (format!("hook:{name}"), hook.event.clone());
        self.take(Genuine { source, event, repository: hook.repository, id, body }).await
    }

    /// The first secret that what is shown was made with.
    fn fitting<'k>(&self, keys: impl Iterator<Item = &'k Key>, shown: &[Shown<'_>], body: &[u8]) -> Option<&'k Key> {
        let now_s = self.shared.server.clock.now_ms() / 1000;
        keys.into_iter().find(|key| shown.iter().any(|shown| shown.fits(key, body, now_s)))
    }

    /// The raw body, within its limit and its deadline.
    async fn body(&self, body: Body) -> Result<Vec<u8>, Outcome> {
        let limits = &self.live.serve.limits;
        let too_large = || {
            let words = format!("a body has at most {} bytes", limits.body);
            Outcome::new("too_large", StatusCode::PAYLOAD_TOO_LARGE, words)
        };
        let said = self.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if said.is_some_and(|length| length > limits.body) {
            return Err(too_large());
        }
        if let Some(place) = &self.place {
            place.reads(self.begun.saturating_duration_since(self.shared.start));
        }
        let most = usize::try_from(limits.body).unwrap_or(usize::MAX);
        let expected = said.and_then(|length| usize::try_from(length).ok()).unwrap_or_default().min(EXPECTED);
        let reading = self.read(body, most, expected);
        let read = match tokio::time::timeout(Duration::from_millis(limits.body_ms), reading).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(Unread::TooLarge)) => Err(too_large()),
            Ok(Err(Unread::Cut)) => Err(Outcome::new("cut", StatusCode::BAD_REQUEST, "the body ended early")),
            Ok(Err(Unread::Slow)) | Err(_) => {
                Err(Outcome::new("slow", StatusCode::REQUEST_TIMEOUT, "the body took too long"))
            }
        };
        if let Some(place) = &self.place {
            place.works(true);
        }
        read
    }

    /// Reads a body of `most` bytes at most. What turns out to be large takes a place among the few that are read at once.
    async fn read(&self, mut body: Body, most: usize, expected: usize) -> Result<Vec<u8>, Unread> {
        let mut bytes = Vec::with_capacity(expected);
        let mut room: Option<Room<'_>> = None;
        loop {
            let frame = match &room {
                None => body.frame().await,
                Some(room) => tokio::select! {
                    frame = body.frame() => frame,
                    () = room.gives_way.cancelled() => return Err(Unread::Slow),
                },
            };
            let Some(frame) = frame else { return Ok(bytes) };
            let Ok(data) = frame.map_err(|_| Unread::Cut)?.into_data() else { continue };
            if data.len() > most.saturating_sub(bytes.len()) {
                return Err(Unread::TooLarge);
            }
            bytes.extend_from_slice(&data);
            if room.is_none() && bytes.len() > LARGE {
                room = Some(self.shared.large.room(self.source).await);
            }
        }
    }

    /// Puts it on the disk.
    async fn take(&mut self, it: Genuine) -> Outcome {
        let server = &self.shared.server;
        let hash = Delivery::hash_of(&it.body);
        // A sender without ids sends the same thing with the same body.
        let id = it.id.unwrap_or_else(|| hash.clone());
        self.id.clone_from(&id);
        let served = self.live.serve.repositories.get(it.repository);
        let (repository, host) = served.map(|served| (served.name.clone(), served.host())).unzip();
        let Genuine { source, event, body, .. } = it;
        let at_ms = server.clock.now_ms();
        let delivery = Delivery { source, id, hash, event, repository, host, body, at_ms };
        match server.inbox.accept(delivery).await {
            Ok(accepted) => {
                if server.health.report("database", true, "webhooks are taken in") {
                    server.log.info("database_well").write();
                }
                if accepted != Accepted::Known {
                    server.arrived.notify_one();
                }
                let word = match accepted {
                    Accepted::New => "accepted",
                    Accepted::Known => "known",
                    Accepted::Again => "again",
                };
                Outcome::new(word, StatusCode::ACCEPTED, word)
            }
            Err(error) => {
                server.health.report("database", false, error.message.clone());
                server.log.alarm("webhook_not_stored").text("why", error.to_string().as_str()).write();
                let words = "it could not be stored; send it again";
                let retry_after = Some(Duration::from_secs(10));
                Outcome { retry_after, ..Outcome::new("failed", StatusCode::SERVICE_UNAVAILABLE, words) }
            }
        }
    }
}

/// Which of these repositories a body names: by its name, and where two forges have one of that name by its page's
/// address. Everything else in it is passed over.
fn meant<'s>(forge: ForgeKind, body: &[u8], several: impl Iterator<Item = (usize, &'s Repository)>) -> Option<usize> {
    let (name, page) = repository_of(forge, body)?;
    let named: Vec<_> = several.filter(|(_, it)| it.name.eq_ignore_ascii_case(&name)).collect();
    if let [(only, _)] = named.as_slice() {
        return Some(*only);
    }
    let page = page?.to_lowercase();
    let at = |it: &Repository| format!("{}/", it.server.trim_end_matches('/').to_lowercase());
    named.into_iter().find(|(_, it)| page.starts_with(&at(it))).map(|(place, _)| place)
}

/// The repository that a body names, and the address of its page.
fn repository_of(forge: ForgeKind, body: &[u8]) -> Option<(String, Option<String>)> {
    #[derive(Deserialize)]
    struct Named {
        full_name: Option<String>,
        html_url: Option<String>,
        path_with_namespace: Option<String>,
        web_url: Option<String>,
    }
    #[derive(Deserialize)]
    struct Payload {
        repository: Option<Named>,
        project: Option<Named>,
    }
    let payload: Payload = serde_json::from_slice(body).ok()?;
    match forge {
        ForgeKind::Gitlab => payload.project.and_then(|it| Some((it.path_with_namespace?, it.web_url))),
        _ => payload.repository.and_then(|it| Some((it.full_name?, it.html_url))),
    }
}
