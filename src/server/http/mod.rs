//! The door: webhooks, health, metrics.
//!
//! A connection has a deadline for each head and each body. Where all places are taken, the connection that has waited
//! longest for a request gives up its own, then the one that has been at a body longest: somebody who only opens
//! connections, or sends slowly, keeps nobody out.

mod hooks;
mod large;
mod limits;
mod names;
mod signature;

use super::serve::Server;
use crate::model::job::JobState;
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The largest head, in bytes; also what is read ahead of a body, for each connection.
const HEAD: usize = 16 * 1024;
/// Bodies larger than this are read a few at a time.
const LARGE: usize = 256 * 1024;
/// Who has been at a body for so long gives way where all places are taken.
const SLOW: Duration = Duration::from_secs(1);
/// How often is looked who gives way, where nobody does by himself.
const LOOK: Duration = Duration::from_millis(100);
/// Requests that are under way may end within this time when the server stops.
const LAST_REQUESTS: Duration = Duration::from_secs(5);
/// The database must answer within this time to count as well.
const DATABASE: Duration = Duration::from_secs(2);
/// With less room on the disk the server is not ready, in bytes.
const LITTLE_ROOM: u64 = 256 * 1024 * 1024;

/// What all requests share.
struct Shared {
    server: Server,
    buckets: limits::Buckets,
    large: large::Large,
    /// Requests so far, for their ids.
    requests: AtomicU64,
    /// What ids of this process begin with.
    began: i64,
    /// The instant that places count from.
    start: Instant,
    stopping: AtomicBool,
}

/// Who is at the other end of a connection, and the connection.
#[derive(Clone)]
struct Peer(IpAddr, Arc<Place>);

/// A connection, as the others see it.
#[derive(Default)]
struct Place {
    /// What it is at: waiting for a request, reading a body (since when), at work on what was read.
    at: AtomicU64,
    give_up: CancellationToken,
}

impl Place {
    const WAITS: u64 = 0;
    const WORKS: u64 = u64::MAX;

    /// A body is read from now on: `since`, after the server's start.
    fn reads(&self, since: Duration) {
        self.at.store(u64::try_from(since.as_millis()).unwrap_or(u64::MAX - 1).max(1), Ordering::Relaxed);
    }

    /// A request is worked on, or its answer was given.
    fn works(&self, works: bool) {
        self.at.store(if works { Self::WORKS } else { Self::WAITS }, Ordering::Relaxed);
    }

    /// Since when its body is read, in milliseconds after the server's start.
    fn reading(&self) -> Option<u64> {
        Some(self.at.load(Ordering::Relaxed)).filter(|at| ![Self::WAITS, Self::WORKS].contains(at))
    }
}

/// Connections by the order in which they began to wait.
type Places = Mutex<BTreeMap<u64, Arc<Place>>>;

/// Serves until `stop`; then requests that are under way end first.
pub(super) async fn serve(server: Server, listener: TcpListener, stop: CancellationToken) {
    let began = server.clock.now_ms();
    let shared = Arc::new(Shared {
        server,
        buckets: limits::Buckets::default(),
        large: large::Large::default(),
        requests: AtomicU64::new(0),
        began,
        start: Instant::now(),
        stopping: AtomicBool::new(false),
    });
    let router = router(Arc::clone(&shared));
    let places: Arc<Places> = Arc::default();
    let mut connections = JoinSet::new();
    let mut number = 0;
    'accepting: loop {
        let (stream, peer) = tokio::select! {
            biased;
            () = stop.cancelled() => break 'accepting,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Too many open files, most likely: they become fewer.
                    shared.server.log.alarm("accept_failed").text("why", error.to_string().as_str()).write();
                    shared.server.clock.sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        while connections.try_join_next().is_some() {}
        let limits = shared.server.settings.now().serve.limits.clone();
        while connections.len() >= limits.connections as usize {
            give_way(&places, &shared);
            tokio::select! {
                biased;
                () = stop.cancelled() => break 'accepting,
                _ = connections.join_next() => {}
                () = shared.server.clock.sleep(LOOK) => {}
            }
        }
        number += 1;
        let place = Arc::new(Place::default());
        lock(&places).insert(number, Arc::clone(&place));
        let header = Duration::from_millis(limits.header_ms);
        let (router, places, stop) = (router.clone(), Arc::clone(&places), stop.clone());
        connections.spawn(async move {
            connection(stream, Peer(peer.ip(), place), router, header, stop).await;
            lock(&places).remove(&number);
        });
        shared.server.metrics.set("codeforge_http_connections", "Connections now.", &[], connections.len() as f64);
    }
    drop(listener);
    shared.stopping.store(true, Ordering::SeqCst);
    let ended = tokio::time::timeout(LAST_REQUESTS, async { while connections.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        shared.server.log.warn("requests_cut").number("connections", connections.len()).write();
        connections.shutdown().await;
    }
}

fn lock(places: &Places) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Place>>> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the connection that has been there longest without a request; where there is none, the one whose body has been
/// coming longest: nobody knows yet whose it is.
fn give_way(places: &Places, shared: &Shared) {
    let places = lock(places);
    let stay = || places.values().filter(|place| !place.give_up.is_cancelled());
    let slow = || {
        let reading = stay().filter_map(|place| Some((place.reading()?, place)));
        let (since, place) = reading.min_by_key(|(since, _)| *since)?;
        let since = shared.start.elapsed().saturating_sub(Duration::from_millis(since));
        (since >= SLOW).then_some(place)
    };
    if let Some(place) = stay().find(|place| place.at.load(Ordering::Relaxed) == Place::WAITS).or_else(slow) {
        place.give_up.cancel();
        shared.server.metrics.count(
            "codeforge_http_given_up_total",
            "Connections without a whole request that gave way to new ones.",
            &[],
        );
    }
}

/// One connection, to its end.
async fn connection(stream: TcpStream, peer: Peer, router: Router, header: Duration, stop: CancellationToken) {
    let place = Arc::clone(&peer.1);
    // Answers are short: they must not wait for more.
    let _ = stream.set_nodelay(true);
    let router = TowerToHyperService::new(router);
    let service = service_fn(|mut request: Request<Incoming>| {
        let place = Arc::clone(&peer.1);
        request.extensions_mut().insert(peer.clone());
        place.works(true);
        let answer = router.call(request.map(Body::new));
        async move {
            let answer = answer.await;
            place.works(false);
            answer
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = pin!(served);
    tokio::select! {
        _ = served.as_mut() => {}
        () = place.give_up.cancelled() => {}
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            let _ = served.await;
        }
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/webhooks/{forge}", post(hooks::forge))
        .route("/webhooks/{forge}/{*repository}", post(hooks::forge_of_one))
        .route("/api/v1/hooks/{name}", post(hooks::hook))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .fallback(async || says(StatusCode::NOT_FOUND, "there is nothing here"))
        // Bodies are read by hand, within their limit and their deadline.
        .layer(DefaultBodyLimit::disable())
        .with_state(shared)
}

/// An answer in one sentence.
fn says(status: StatusCode, words: &str) -> Response {
    let key = if status.is_success() { "status" } else { "error" };
    (status, Json(json!({ key: words }))).into_response()
}

async fn live() -> Response {
    says(StatusCode::OK, "live")
}

/// Whether webhooks can be taken in and worked on, part by part.
async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    let server = &shared.server;
    let now_ms = server.clock.now_ms();
    match tokio::time::timeout(DATABASE, server.inbox.backlog()).await {
        Ok(Ok((waiting, oldest))) => {
            let age = oldest.map_or(0, |at| (now_ms - at).max(0) / 1000);
            server.health.report("database", true, format!("{waiting} webhooks wait, the oldest for {age} s"));
        }
        Ok(Err(error)) => {
            server.health.report("database", false, error.message);
        }
        Err(_) => {
            server.health.report("database", false, format!("no answer within {} s", DATABASE.as_secs()));
        }
    }
    if let Ok(Ok(counts)) = tokio::time::timeout(DATABASE, server.queue.counts()).await {
        let of = |state| counts.iter().find(|(it, _)| *it == state).map_or(0, |(_, count)| *count);
        let (running, waiting) = (of(JobState::Running), of(JobState::Waiting));
        let workers = server.settings.now().serve.limits.workers;
        // How many there are to do is no fault; that nobody asks for them is one.
        let silent = server.health.silent(now_ms);
        let silence = silent.map(|ms| format!(", no sign of life for {} s", ms / 1000)).unwrap_or_default();
        let words = format!("{running} of {workers} at work, {waiting} jobs wait{silence}");
        server.health.report("workers", silent.is_none(), words);
    }
    match server.world.free_space(&server.state) {
        Ok(free) => server.health.report("disk", free >= LITTLE_ROOM, format!("{} MiB free", free >> 20)),
        Err(why) => server.health.report("disk", false, why),
    };
    let (good, parts) = server.health.all();
    let stopping = shared.stopping.load(Ordering::SeqCst);
    let status = match (stopping, good) {
        (true, _) => "stopping",
        (false, true) => "ready",
        (false, false) => "not ready",
    };
    let code = if status == "ready" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({ "status": status, "parts": parts }))).into_response()
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let server = &shared.server;
    if let Ok(Ok((waiting, oldest))) = tokio::time::timeout(DATABASE, server.inbox.backlog()).await {
        let age = oldest.map_or(0.0, |at| (server.clock.now_ms() - at).max(0) as f64 / 1000.0);
        server.metrics.set(
            "codeforge_deliveries_waiting",
            "Webhooks that were not looked at yet.",
            &[],
            waiting as f64,
        );
        server.metrics.set("codeforge_deliveries_oldest_seconds", "How long the oldest of them waits.", &[], age);
    }
    if let Ok(Ok(counts)) = tokio::time::timeout(DATABASE, server.queue.counts()).await {
        for state in JobState::ALL {
            // Of what there is none nobody counts.
            let count = counts.iter().find(|(it, _)| *it == state).map_or(0, |(_, count)| *count);
            let label = serde_json::to_value(state).unwrap_or_default();
            let labels = [("state", label.as_str().unwrap_or_default())];
            server.metrics.set("codeforge_jobs", "Jobs, by where they stand.", &labels, count as f64);
        }
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], server.metrics.render()).into_response()
}
