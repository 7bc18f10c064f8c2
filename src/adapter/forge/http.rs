//! Requests to a forge: one writer at a time, spaced; limits honoured; attempts bounded; pages to the end.

use super::token::{Fresh, Header, TokenSource};
use super::turns::Turns;
use super::{Jitter, Settings, Tools};
use crate::adapter::llm::http as shared;
use crate::adapter::llm::retry::{Backoff, retry_after, spread};
use crate::adapter::tls;
use crate::port::clock::Clock;
use crate::port::forge::{Alone, ForgeError};
use reqwest::header::{ACCEPT, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH};
use reqwest::{Client, Method, RequestBuilder, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// Pages are followed so far; a list longer than this is not one that we asked for.
const MOST_PAGES: usize = 200;
/// Words of a server that are shown.
const SHOWN: usize = 400;

/// What is asked for.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) body: Option<Value>,
    /// For messages: `opening a pull request`.
    pub(super) doing: &'a str,
    /// The permission that it takes, as the workflow file or the token's page spells it.
    pub(super) needs: Option<&'a str>,
    pub(super) accept: Option<&'static str>,
    pub(super) kind: Kind,
}

impl<'a> Ask<'a> {
    /// Reads what is at an address.
    pub(super) fn read(url: Url, doing: &'a str) -> Self {
        Self { method: Method::GET, url, body: None, doing, needs: None, accept: None, kind: Kind::Read }
    }
}

/// What making it twice would do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing.
    Read,
    /// The same as making it once.
    Again,
    /// Something else: it is looked up before it is made again.
    Once,
}

/// An answer that came whole.
#[derive(Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// A request that failed.
pub(super) enum Failed {
    /// It is sure that nothing was done.
    Sure(ForgeError),
    /// Nobody knows whether it was done.
    Lost(ForgeError),
}

impl Failed {
    pub(super) fn into_inner(self) -> ForgeError {
        match self {
            Self::Sure(error) | Self::Lost(error) => error,
        }
    }
}

impl From<ForgeError> for Failed {
    fn from(error: ForgeError) -> Self {
        Self::Sure(error)
    }
}

/// A connection to one forge.
pub(super) struct Http {
    client: Client,
    headers: HeaderMap,
    tokens: (Arc<dyn TokenSource>, Header),
    clock: Arc<dyn Clock>,
    jitter: Jitter,
    settings: Settings,
    /// When the last write ended; held while one is made.
    written: Mutex<Option<i64>>,
    /// The other processes that write.
    turns: Option<Turns>,
    /// What was read last: an answer that is still the same costs nothing of the forge's limit.
    seen: std::sync::Mutex<Seen>,
}

impl Http {
    pub(super) fn new(
        at: &Url,
        headers: HeaderMap,
        tokens: (Arc<dyn TokenSource>, Header),
        tools: Tools,
    ) -> Result<Self, ForgeError> {
        let Tools { clock, jitter, settings } = tools;
        let doing = || format!("connecting to {}", at.host_str().unwrap_or_default());
        let local = matches!(at.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        if at.scheme() != "https" && !(at.scheme() == "http" && local) {
            return Err(ForgeError::Unsupported(format!(
                "a token is sent over https only, and `{}` is not; mend the forge's address",
                bare(at)
            )));
        }
        if !at.username().is_empty() || at.password().is_some() {
            return Err(ForgeError::Unsupported(
                "the forge's address holds a name or a password; give the token in CODEFORGE_FORGE_TOKEN instead"
                    .into(),
            ));
        }
        tls::init();
        let shared_settings = crate::adapter::llm::Settings {
            connect: settings.connect,
            system_proxy: settings.system_proxy,
            extra_ca: settings.extra_ca.clone(),
            ..crate::adapter::llm::Settings::default()
        };
        let client = shared::client(&shared_settings, at.scheme() == "https")
            .map_err(|message| ForgeError::Unavailable { doing: doing(), message })?;
        let (written, seen) = (Mutex::new(None), std::sync::Mutex::new(Seen::default()));
        let turns = settings.turn_file.as_ref().map(|file| Turns::new(file, settings.between_writes_ms));
        Ok(Self { client, headers, tokens, clock, jitter, settings, written, turns, seen })
    }

    /// Makes a request; at a passing failure again, as far as that cannot do anything twice.
    pub(super) async fn ask(&self, ask: &Ask<'_>) -> Result<Answer, Failed> {
        if ask.kind == Kind::Read {
            return self.attempts(ask).await;
        }
        self.in_turn(self.attempts(ask)).await
    }

    /// Writes when the turn has come: one after the other, and not faster than a forge likes.
    pub(super) async fn in_turn<T>(&self, write: impl Future<Output = T>) -> T {
        let mut written = self.written.lock().await;
        if let Some(last) = *written {
            let wait = last.saturating_add(self.settings.between_writes_ms).saturating_sub(self.clock.now_ms());
            if wait > 0 {
                self.clock.sleep(Duration::from_millis(wait.unsigned_abs())).await;
            }
        }
        if let Some(turns) = &self.turns {
            turns.wait(&*self.clock).await;
        }
        let done = write.await;
        let now = self.clock.now_ms();
        *written = Some(now);
        if let Some(turns) = &self.turns {
            turns.ended(now).await;
        }
        done
    }

    /// Opens changes alone until this is dropped.
    pub(super) async fn alone(&self) -> Result<Alone, ForgeError> {
        let Some(turns) = &self.turns else { return Ok(Alone::default()) };
        turns.alone(&*self.clock).await.map(|file| Alone(Some(file))).map_err(|error| ForgeError::Unavailable {
            doing: "waiting for the turn to open a change".to_owned(),
            message: format!(
                "{error} (the lock {}: make its folder writable, or end the process that holds it)",
                turns.opening().display()
            ),
        })
    }

    async fn attempts(&self, ask: &Ask<'_>) -> Result<Answer, Failed> {
        let mut failed = 0;
        loop {
            let (error, wait, lost) = match self.once(ask).await {
                Ok(answer) if answer.status < 300 => return Ok(answer),
                Ok(answer) => {
                    let wait = self.limit(&answer);
                    let error = refusal(ask, &answer, wait);
                    match &error {
                        ForgeError::RateLimited { .. } => {
                            (error, Some(wait.unwrap_or(self.settings.limit_wait)), false)
                        }
                        ForgeError::Unavailable { .. } => (error, wait, true),
                        _ => return Err(Failed::Sure(error)),
                    }
                }
                // There is no token, and asking again makes none.
                Err((error, false)) if !matches!(error, ForgeError::Unavailable { .. }) => {
                    return Err(Failed::Sure(error));
                }
                Err((error, sent)) => (error, None, sent),
            };
            if lost && ask.kind == Kind::Once {
                return Err(Failed::Lost(error));
            }
            failed += 1;
            if failed >= self.settings.attempts {
                return Err(if lost { Failed::Lost(error) } else { Failed::Sure(error) });
            }
            let begun = self.clock.now_ms();
            self.pause(failed, wait, error).await?;
            // A write that is made again is one more write.
            let apart = begun.saturating_add(self.settings.between_writes_ms).saturating_sub(self.clock.now_ms());
            if ask.kind != Kind::Read && apart > 0 {
                self.clock.sleep(Duration::from_millis(apart.unsigned_abs())).await;
            }
        }
    }

    /// Waits before the next attempt: as long as the server asks for, within the limit.
    async fn pause(&self, failed: u32, wait: Option<Duration>, error: ForgeError) -> Result<(), Failed> {
        let random = (self.jitter)();
        let wait = match wait {
            Some(wait) if wait > self.settings.longest_wait => return Err(Failed::Sure(error)),
            Some(wait) => wait + spread(wait, random),
            None => Backoff { base: self.settings.backoff_base, cap: self.settings.backoff_cap }.wait(failed, random),
        };
        self.clock.sleep(wait).await;
        Ok(())
    }

    /// One attempt. The error says whether the request may have been carried out.
    async fn once(&self, ask: &Ask<'_>) -> Result<Answer, (ForgeError, bool)> {
        let name = (ask.url.to_string(), ask.accept);
        let known = (ask.kind == Kind::Read && ask.method == Method::GET).then(|| self.seen().get(&name)).flatten();
        let build = |token: &Fresh| {
            let (header, value) = (self.tokens.1)(token.text())?;
            let request = self.client.request(ask.method.clone(), ask.url.clone());
            let mut request = request.headers(self.headers.clone()).header(header, value).timeout(self.settings.total);
            if let Some(accept) = ask.accept {
                request = request.header(ACCEPT, accept);
            }
            if let Some((tag, _)) = &known {
                request = request.header(IF_NONE_MATCH, tag);
            }
            if let Some(body) = &ask.body {
                request = request.json(body);
            }
            Ok(request)
        };
        let answer = self.authorized(&build, ask.doing).await?;
        match (&known, answer.status) {
            (Some((_, before)), 304) => return Ok(before.clone()),
            (_, 200) if ask.kind == Kind::Read && ask.method == Method::GET => self.seen().put(name, &answer),
            _ => {}
        }
        Ok(answer)
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Sends a request with a token. Where the forge refuses the token and there is a newer one, once more: what was
    /// refused was not done.
    pub(super) async fn authorized(
        &self,
        build: &(dyn Fn(&Fresh) -> Result<RequestBuilder, ForgeError> + Send + Sync),
        doing: &str,
    ) -> Result<Answer, (ForgeError, bool)> {
        let sure = |error| (error, false);
        let token = self.token().await.map_err(sure)?;
        let answer = self.send(build(&token).map_err(sure)?, doing).await?;
        if answer.status != 401 || !self.tokens.0.renew(&token).await {
            return Ok(answer);
        }
        let token = self.token().await.map_err(sure)?;
        self.send(build(&token).map_err(sure)?, doing).await
    }

    /// The token, good for now.
    pub(super) async fn token(&self) -> Result<Fresh, ForgeError> {
        self.tokens.0.token().await
    }

    /// Whether there is another token than the one that was refused.
    pub(super) async fn renew(&self, refused: &Fresh) -> bool {
        self.tokens.0.renew(refused).await
    }

    /// Sends a request and takes its answer in, whole. The error says whether it may have been carried out.
    pub(super) async fn send(
        &self,
        request: reqwest::RequestBuilder,
        doing: &str,
    ) -> Result<Answer, (ForgeError, bool)> {
        let broken = |error: &reqwest::Error| {
            let message = match shared::certificate(error) {
                Some(reason) => format!(
                    "its certificate is not trusted: {reason}; where it is your own, name its CA in SSL_CERT_FILE"
                ),
                None if error.is_timeout() => "no answer in time".to_owned(),
                None => shared::chain(error),
            };
            let may_be_done = !error.is_connect() && !error.is_builder();
            (ForgeError::Unavailable { doing: doing.to_owned(), message }, may_be_done)
        };
        let mut response = request.send().await.map_err(|error| broken(&error))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) => return Ok(Answer { status, headers, body }),
                Err(error) => return Err((broken(&error).0, true)),
            }
            if body.len() > self.settings.max_bytes {
                let message = format!("its answer is larger than {} bytes", self.settings.max_bytes);
                return Err((ForgeError::Contract { doing: doing.to_owned(), message }, true));
            }
        }
    }

    /// Waits before an attempt of git's own.
    pub(super) async fn pause_after(&self, failed: u32) {
        let backoff = Backoff { base: self.settings.backoff_base, cap: self.settings.backoff_cap };
        self.clock.sleep(backoff.wait(failed, (self.jitter)())).await;
    }

    /// Milliseconds since 1970.
    pub(super) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// The client, for git's own requests.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// How long the server asks to wait.
    fn limit(&self, answer: &Answer) -> Option<Duration> {
        let header = |name| shared::header(&answer.headers, name);
        let now_ms = self.clock.now_ms();
        if let Some(wait) = header("retry-after").and_then(|value| retry_after(&value, now_ms)) {
            return Some(wait);
        }
        let left = header("x-ratelimit-remaining").or_else(|| header("ratelimit-remaining"));
        if left.as_deref().map(str::trim) != Some("0") {
            return None;
        }
        let reset = header("x-ratelimit-reset").or_else(|| header("ratelimit-reset"))?.trim().parse::<i64>().ok()?;
        let wait_ms = reset.saturating_mul(1000).saturating_sub(now_ms).max(0);
        Some(Duration::from_millis(wait_ms.unsigned_abs()))
    }

    /// A request whose answer is read as JSON.
    pub(super) async fn json<T: DeserializeOwned>(&self, ask: &Ask<'_>) -> Result<T, Failed> {
        let answer = self.ask(ask).await?;
        // What was done is done, whatever its answer looks like.
        read(ask.doing, &answer.body).map_err(Failed::Lost)
    }

    /// All pages of a list.
    pub(super) async fn all<T: DeserializeOwned>(&self, ask: Ask<'_>) -> Result<Vec<T>, ForgeError> {
        self.while_all(ask, |_| true).await
    }

    /// What comes first of a list, up to the first item that is not wanted.
    pub(super) async fn while_all<T: DeserializeOwned>(
        &self,
        ask: Ask<'_>,
        wanted: impl Fn(&T) -> bool,
    ) -> Result<Vec<T>, ForgeError> {
        let mut all = Vec::new();
        let mut ask = ask;
        for _ in 0..MOST_PAGES {
            let answer = self.ask(&ask).await.map_err(Failed::into_inner)?;
            let page: Vec<T> = read(ask.doing, &answer.body)?;
            for item in page {
                if !wanted(&item) {
                    return Ok(all);
                }
                all.push(item);
            }
            let Some(next) = next_page(&answer.headers, &ask.url) else { return Ok(all) };
            ask.url = next;
        }
        Err(ForgeError::Contract { doing: ask.doing.to_owned(), message: "the list does not end".to_owned() })
    }

    /// Makes what there is to be one of: looked up first, made where it is missing, and looked up again where the
    /// answer was lost. `true`: it was made by us just now.
    pub(super) async fn once_only<T, L, LF, W, WF>(&self, look: L, make: W) -> Result<(T, bool), ForgeError>
    where
        L: Fn() -> LF,
        LF: Future<Output = Result<Option<T>, ForgeError>>,
        W: Fn() -> WF,
        WF: Future<Output = Result<T, Failed>>,
    {
        let mut made = false;
        let mut failed = 0;
        loop {
            if let Some(found) = look().await? {
                return Ok((found, made));
            }
            match make().await {
                Ok(done) => return Ok((done, true)),
                Err(Failed::Sure(error)) => return Err(error),
                Err(Failed::Lost(error)) => {
                    made = true;
                    failed += 1;
                    if failed >= self.settings.attempts {
                        return Err(error);
                    }
                    self.pause(failed, None, error).await.map_err(Failed::into_inner)?;
                }
            }
        }
    }
}

/// Answers with their tags, the newest last.
#[derive(Default)]
struct Seen(std::collections::VecDeque<(Name, String, Answer)>);

type Name = (String, Option<&'static str>);

impl Seen {
    /// So many answers are kept, none larger than this.
    const MOST: usize = 64;
    const LARGEST: usize = 1 << 20;

    fn get(&self, name: &Name) -> Option<(String, Answer)> {
        self.0.iter().find(|(known, ..)| known == name).map(|(_, tag, answer)| (tag.clone(), answer.clone()))
    }

    fn put(&mut self, name: Name, answer: &Answer) {
        self.0.retain(|(known, ..)| *known != name);
        let tag = answer.headers.get(ETAG).and_then(|tag| tag.to_str().ok());
        let Some(tag) = tag.filter(|_| answer.body.len() <= Self::LARGEST) else { return };
        self.0.push_back((name, tag.to_owned(), answer.clone()));
        if self.0.len() > Self::MOST {
            self.0.pop_front();
        }
    }
}

/// Adds a plain header.
pub(super) fn with(mut headers: HeaderMap, name: &'static str, value: &'static str) -> HeaderMap {
    headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    headers
}

/// An address with `parts` after its path, each one segment whatever is in it, and a query.
pub(super) fn address(base: &Url, parts: &[&str], query: &[(&str, &str)]) -> Result<Url, ForgeError> {
    let mut url = base.clone();
    if parts.iter().any(|part| matches!(*part, "" | "." | "..")) {
        return Err(ForgeError::Unsupported(format!("`{}` is not a name that can be asked for", parts.join("/"))));
    }
    match url.path_segments_mut() {
        Ok(mut path) => {
            path.pop_if_empty().extend(parts);
        }
        Err(()) => return Err(ForgeError::Unsupported(format!("`{}` is not an address of an API", bare(base)))),
    }
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Ok(url)
}

/// An address for messages: no name, no password, no query.
pub(super) fn bare(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

/// Reads JSON.
pub(super) fn read<T: DeserializeOwned>(doing: &str, body: &[u8]) -> Result<T, ForgeError> {
    serde_json::from_slice(body).map_err(|error| ForgeError::Contract {
        doing: doing.to_owned(),
        message: format!("the forge's answer is not understood: {error}; its version may not be supported"),
    })
}

/// The next page. A forge names it by the address that it is configured with, which may not be the one that we reach it by
/// (an inner name, a proxy): on another server it is asked for at our own address, as the token goes nowhere else.
fn next_page(headers: &HeaderMap, at: &Url) -> Option<Url> {
    let link = headers.get("link")?.to_str().ok()?;
    // An address may hold commas and semicolons, and no angle.
    let (address, _) = link.split('<').skip(1).filter_map(|part| part.split_once('>')).find(|(_, attributes)| {
        attributes.split([';', ',']).any(|attribute| matches!(attribute.trim(), "rel=\"next\"" | "rel=next"))
    })?;
    let url = at.join(address).ok()?;
    if url.origin() == at.origin() {
        return Some(url);
    }
    let mut own = at.clone();
    own.set_query(url.query());
    // A page that leads to itself is no next one.
    (own != *at).then_some(own)
}

/// What a refusal means.
fn refusal(ask: &Ask<'_>, answer: &Answer, wait: Option<Duration>) -> ForgeError {
    let doing = ask.doing.to_owned();
    let message = said(&answer.body);
    let limited = message.to_lowercase().contains("rate limit") || message.to_lowercase().contains("abuse detection");
    match answer.status {
        429 => ForgeError::RateLimited { doing, after: wait },
        403 if limited || wait.is_some() => ForgeError::RateLimited { doing, after: wait },
        401 => ForgeError::Refused {
            doing,
            message: format!("{message} (401: it is wrong, expired or taken back)"),
            needs: None,
        },
        403 => {
            // GitHub says itself what would do.
            let accepted = shared::header(&answer.headers, "x-accepted-github-permissions")
                .and_then(|accepted| permission(&accepted));
            let needs = accepted.or_else(|| ask.needs.map(str::to_owned));
            ForgeError::Refused { doing, message: format!("{message} (403)"), needs }
        }
        404 | 410 => {
            let hint = match ask.needs {
                Some(needs) => format!("it is not there, or the token may not know of it (`{needs}`)"),
                None => "it is not there, or the token may not know of it".to_owned(),
            };
            ForgeError::NotFound { doing, hint }
        }
        301 | 302 | 307 | 308 => {
            ForgeError::Contract { doing, message: "the repository has moved; name its new address".to_owned() }
        }
        500.. => ForgeError::Unavailable { doing, message: format!("{message} ({})", answer.status) },
        status => ForgeError::Contract { doing, message: format!("the forge said {status}: {message}") },
    }
}

/// `pull_requests=write` as a workflow file spells it: `permissions: pull-requests: write`.
fn permission(accepted: &str) -> Option<String> {
    let first = accepted.split(';').next()?;
    let words: Vec<String> = first
        .split(',')
        .filter_map(|pair| pair.trim().split_once('='))
        .map(|(name, level)| format!("{}: {level}", name.replace('_', "-")))
        .collect();
    (!words.is_empty()).then(|| format!("permissions: {}", words.join(", ")))
}

/// What a server said, in a line.
fn said(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let value: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    let mut words = Vec::new();
    for name in ["message", "error", "error_description"] {
        match value.get(name) {
            Some(Value::String(word)) => words.push(word.clone()),
            Some(other) if !other.is_null() => words.push(other.to_string()),
            _ => {}
        }
    }
    for error in value.get("errors").and_then(Value::as_array).into_iter().flatten() {
        match error.get("message").and_then(Value::as_str) {
            Some(word) => words.push(word.to_owned()),
            None => words.push(error.to_string()),
        }
    }
    let line = if words.is_empty() { text.into_owned() } else { words.join(": ") };
    let line = crate::text::invisible(&crate::text::clean(&line)).replace('\n', " ");
    let cut = line.floor_char_boundary(SHOWN);
    let line = line.get(..cut).unwrap_or_default().trim();
    if line.is_empty() { "it gave no reason".to_owned() } else { line.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_permission_is_named_as_the_workflow_file_spells_it() {
        assert_eq!(permission("pull_requests=write; issues=write").unwrap(), "permissions: pull-requests: write");
        assert_eq!(
            permission("contents=write,workflows=write").unwrap(),
            "permissions: contents: write, workflows: write"
        );
        assert_eq!(permission(""), None);
    }

    #[test]
    fn a_page_on_another_server_is_asked_for_at_our_own() {
        let at = Url::parse("https://api.example/items?page=1").unwrap();
        let next = |link: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("link", HeaderValue::from_str(link).unwrap());
            next_page(&headers, &at).map(|url| url.to_string())
        };
        let link = "<https://api.example/items?page=9>; rel=\"last\", <https://api.example/items?page=2>; rel=\"next\"";
        assert_eq!(next(link).as_deref(), Some("https://api.example/items?page=2"));
        let other = next("<http://evil.example/git/items?page=2&per_page=100>; rel=\"next\"");
        assert_eq!(other.as_deref(), Some("https://api.example/items?page=2&per_page=100"));
        assert_eq!(next("<https://evil.example/items?page=1>; rel=\"next\""), None, "not again and again");
        assert_eq!(next("<https://api.example/items?page=1>; rel=\"prev\""), None);
        let unquoted = next("</items?page=0>;rel=prev,</items?ids=1,2;3&page=2>;title=more; rel=next");
        assert_eq!(unquoted.as_deref(), Some("https://api.example/items?ids=1,2;3&page=2"));
        // Another port, or the same server without encryption, is another server.
        for other in ["http://api.example/items?page=2", "https://api.example:8443/other?page=2"] {
            assert_eq!(next(&format!("<{other}>; rel=\"next\"")).as_deref(), Some("https://api.example/items?page=2"));
        }
    }

    #[test]
    fn a_part_of_an_address_stays_one() {
        let base = Url::parse("https://gitlab.example/api/v4").unwrap();
        let url = address(&base, &["projects", "a/b c", "x?y#z"], &[("q", "a&b")]).unwrap();
        assert_eq!(url.as_str(), "https://gitlab.example/api/v4/projects/a%2Fb%20c/x%3Fy%23z?q=a%26b");
        assert!(address(&base, &["projects", ".."], &[]).is_err());
    }
}
