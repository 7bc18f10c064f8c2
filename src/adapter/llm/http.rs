//! Connections, and what comes in over them: under deadlines and a limit.

use super::failure::Failure;
use super::target::Target;
use crate::adapter::tls;
use crate::model::chat::ModelFault;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, Response};
use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

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
    /// Certificates to trust beside the machine's: a PEM file.
    pub extra_ca: Option<PathBuf>,
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
            extra_ca: None,
        }
    }
}

/// The pools of connections: one for `http`, one for `https`.
pub(super) struct Clients {
    plain: Client,
    /// Made when it is first needed, because it reads the machine's certificates.
    secure: OnceLock<Result<Client, String>>,
}

impl Clients {
    /// What keeps an HTTP client from being made is told in words.
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        tls::init();
        Ok(Self { plain: client(settings, false)?, secure: OnceLock::new() })
    }

    /// The one for an address.
    pub(super) fn of(&self, target: &Target, settings: &Settings) -> Result<&Client, Failure> {
        if target.url.scheme() == "http" {
            return Ok(&self.plain);
        }
        self.secure.get_or_init(|| client(settings, true)).as_ref().map_err(|error| {
            let what = format!(
                "no TLS: {error}; install the machine's CA certificates (`ca-certificates`) or name a bundle in SSL_CERT_FILE"
            );
            Failure::new(ModelFault::Network, false, what)
        })
    }
}

pub(in crate::adapter) fn client(settings: &Settings, secure: bool) -> Result<Client, String> {
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
    } else {
        builder = tls::trusting(builder, settings.extra_ca.as_deref())?;
    }
    builder.build().map_err(|error| chain(&error))
}

/// The moment at which waiting ends, and what was waited for.
pub(super) struct Deadline {
    pub(super) at: Instant,
    what: &'static str,
    limit: Duration,
    /// It is the deadline of the whole question.
    last: bool,
}

impl Deadline {
    pub(super) fn of(from: Instant, limit: Duration, what: &'static str, until: Instant) -> Self {
        let at = from + limit;
        Self { at: at.min(until), what, limit, last: until <= at }
    }

    pub(super) fn passed(&self, settings: &Settings) -> Failure {
        if self.last {
            let what = format!("no complete answer within {}, all attempts together", seconds(settings.total));
            return Failure::new(ModelFault::Timeout, false, what);
        }
        let what = format!("waited {} for {}", seconds(self.limit), self.what);
        Failure::new(ModelFault::Timeout, true, what)
    }
}

/// An answer that is coming in, under its deadlines and its limit.
pub(super) struct Incoming<'a> {
    pub(super) settings: &'a Settings,
    pub(super) response: Response,
    pub(super) deadline: Deadline,
    pub(super) until: Instant,
    pub(super) bytes: usize,
}

impl Incoming<'_> {
    /// The next piece; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
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

pub(in crate::adapter) fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(HeaderValue::as_bytes).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// A request or an answer that did not come through.
pub(super) fn broken_off(what: &str, error: &reqwest::Error) -> Failure {
    if error.is_builder() {
        return Failure::new(ModelFault::BadRequest, false, format!("the request cannot be made: {}", chain(error)));
    }
    if let Some(reason) = certificate(error) {
        // It will not be another one in a second.
        let what = format!(
            "the server's certificate is not trusted: {reason}; where it is your own, name its CA in CODEFORGE_EXTRA_CA \
             (or all that are trusted in SSL_CERT_FILE)"
        );
        return Failure::new(ModelFault::Network, false, what);
    }
    if error.is_timeout() && error.is_connect() {
        return Failure::new(ModelFault::Timeout, true, "no connection within its deadline");
    }
    let what = if error.is_connect() { "no connection" } else { what };
    Failure::new(ModelFault::Network, true, format!("{what}: {}", chain(error)))
}

/// Why a certificate was refused, where that is what happened.
pub(in crate::adapter) fn certificate(error: &reqwest::Error) -> Option<String> {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = cause {
        if let Some(rustls::Error::InvalidCertificate(reason)) = error.downcast_ref() {
            return Some(reason.to_string());
        }
        // What an I/O error wraps is not among its sources.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = wrapped.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
    }
    None
}

/// An error's deepest cause. The outer ones repeat the address, with everything that is in it.
pub(in crate::adapter) fn chain(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if cause.is::<reqwest::Error>() { "the connection broke off".to_owned() } else { cause.to_string() }
}

pub(super) fn seconds(time: Duration) -> String {
    if time.subsec_millis() == 0 { format!("{} s", time.as_secs()) } else { format!("{} ms", time.as_millis()) }
}
