//! The gateway: models over HTTP, in the dialects that agents speak, for whoever reaches a listener and has a token.
//!
//! It knows no key and no model. A request is read by an allowlist into a [`Question`](crate::port::gateway::Question);
//! what does not fit is refused and noted. The desk answers.

mod answer;
mod anthropic;
mod dialect;
mod fields;
mod openai;
mod request;
mod responses;
#[cfg(test)]
mod tests;

use crate::port::clock::Clock;
use crate::port::gateway::{Desk, Gateway};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::any::Any;
use std::convert::Infallible;
use std::fmt::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

/// Connections at once, at one listener.
const CONNECTIONS: usize = 64;
/// Questions at once, at one listener: each may hold a body of [`request::LARGEST`] bytes. More of them wait.
const QUESTIONS: usize = 16;

/// How long the gateway waits, and for what.
#[derive(Debug, Clone)]
pub struct Times {
    /// For a request's head.
    pub head: Duration,
    /// For the rest of it.
    pub body: Duration,
    /// For an answer before the head of a streamed one is sent: until then a refusal has its own status.
    pub patience: Duration,
    /// Between signs of life in a streamed answer.
    pub ping: Duration,
}

impl Default for Times {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { head: seconds(10), body: seconds(30), patience: seconds(5), ping: seconds(10) }
    }
}

/// The gateway.
pub struct HttpGateway {
    shared: Arc<Shared>,
}

/// What all connections have in common.
struct Shared {
    times: Times,
    clock: Arc<dyn Clock>,
    answers: AtomicU64,
}

impl HttpGateway {
    /// A gateway that stamps its answers with the clock's time.
    pub fn new(times: Times, clock: Arc<dyn Clock>) -> Self {
        Self { shared: Arc::new(Shared { times, clock, answers: AtomicU64::new(0) }) }
    }
}

impl Shared {
    /// The next answer's id and time.
    fn stamp(&self) -> dialect::Stamp {
        let (now_ms, number) = (self.clock.now_ms(), self.answers.fetch_add(1, Ordering::Relaxed));
        dialect::Stamp { id: format!("{now_ms:012x}{number:08x}"), created: now_ms / 1000 }
    }
}

impl Gateway for HttpGateway {
    fn token(&self) -> Result<String, String> {
        let mut bytes = [0u8; 32];
        let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
        random.fill(&mut bytes).map_err(|_| "the system gives no random numbers for a token".to_owned())?;
        let mut token = String::from("cf-");
        for byte in bytes {
            // Writing to a text cannot fail.
            let _ = write!(token, "{byte:02x}");
        }
        Ok(token)
    }

    fn serve(&self, listener: TcpListener, desk: Arc<dyn Desk>) -> Result<Box<dyn Any + Send + Sync>, String> {
        let why = |error: std::io::Error| format!("the gateway cannot serve at its listener: {error}");
        listener.set_nonblocking(true).map_err(why)?;
        let runtime = tokio::runtime::Handle::try_current().map_err(|error| error.to_string())?;
        let _entered = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener).map_err(why)?;
        let task = runtime.spawn(accept(listener, Arc::clone(&self.shared), desk));
        Ok(Box::new(Serving(task.abort_handle())))
    }
}

/// Serves until it is dropped.
struct Serving(AbortHandle);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Accepts connections for ever. The tasks that serve them end with this one.
async fn accept(listener: tokio::net::TcpListener, shared: Arc<Shared>, desk: Arc<dyn Desk>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let questions = Arc::new(Semaphore::new(QUESTIONS));
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let connection = match listener.accept().await {
            Ok((connection, _)) => connection,
            Err(_) => {
                // Out of descriptors, or the other side was faster: neither may end the gateway nor turn it busy.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = connection.set_nodelay(true);
        let (shared, desk, questions) = (Arc::clone(&shared), Arc::clone(&desk), Arc::clone(&questions));
        open.spawn(async move {
            let head = shared.times.head;
            let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let (shared, desk, questions) = (Arc::clone(&shared), Arc::clone(&desk), Arc::clone(&questions));
                async move {
                    let request = request.map(axum::body::Body::new);
                    Ok::<_, Infallible>(request::respond(&shared, desk, questions, request).await)
                }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(head)
                .serve_connection(TokioIo::new(connection), service);
            // Whoever breaks the protocol, or is too slow, is cut off.
            let _ = served.await;
            drop(place);
        });
    }
}
