//! A server from its start to its end.
//!
//! [`run`] is the whole of it: the door ([`http`]), and loops beside it, each a [`Loop`]. It stops in phases: the door
//! closes and requests that are under way end; loops take on nothing new and come to an end, or to where they can be gone
//! on with; what waits is written; the program ends.

use super::health::Health;
use super::http;
use super::log::Log;
use super::metrics::Metrics;
use super::settings::{Live, Settings};
use crate::engine::Stop;
use crate::port::clock::Clock;
use crate::port::inbox::Inbox;
use crate::port::queue::Queue;
use crate::port::world::World;
use futures::future::BoxFuture;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How much longer than a run has to come to where it can be gone on with the loops have for all of it: what does not get
/// there is killed with what it started, and its job goes back to the queue.
const GIVEN_BACK: Duration = Duration::from_secs(20);
/// Once loops were told to end at once, they have this long.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// What happens once, at the start, has happened by then.
const STARTING: Duration = Duration::from_secs(2);
/// How often is tidied.
const TIDY: Duration = Duration::from_secs(3600);
/// How much is tidied in one transaction.
const TIDY_AT_ONCE: u32 = 1000;

/// What a server is made of. What runs beside the door gets a copy.
#[derive(Clone)]
pub struct Server {
    /// The world outside.
    pub world: Arc<dyn World>,
    /// The settings, as they are now.
    pub settings: Arc<Settings>,
    /// Deliveries.
    pub inbox: Arc<dyn Inbox>,
    /// Jobs.
    pub queue: Arc<dyn Queue>,
    /// A delivery came in.
    pub arrived: Arc<Notify>,
    /// The settings were read anew.
    pub replaced: Arc<Notify>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The log.
    pub log: Arc<Log>,
    /// Numbers for `/metrics`.
    pub metrics: Arc<Metrics>,
    /// What works, for `/health/ready`.
    pub health: Arc<Health>,
    /// The state folder.
    pub state: PathBuf,
}

/// How a loop is told to end.
#[derive(Debug, Clone, Default)]
pub struct Phases {
    /// Take on nothing new; end what is under way.
    pub stop: CancellationToken,
    /// The grace period is over: leave what is under way where it can be gone on with, and end.
    pub now: CancellationToken,
}

/// A thing that the server keeps doing: its name for the log, and what it does until it is told to end.
pub struct Loop {
    /// Its name.
    pub name: &'static str,
    /// Its work.
    pub work: BoxFuture<'static, ()>,
}

/// How settings are read again.
pub type Reload = dyn Fn() -> Result<Live, String> + Send + Sync;

/// What keeps a server from working.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened at: it is taken, or not ours.
    #[error("cannot listen at {at}: {why}")]
    Address {
        /// The address.
        at: SocketAddr,
        /// Why.
        why: std::io::Error,
    },
    /// A loop ended by itself: a mistake of this program.
    #[error("`{0}` ended by itself; its last lines in the log say more")]
    Lost(&'static str),
}

/// Serves until `stop`. `loops` makes what is done beside the door; `reload` reads the settings again.
///
/// # Errors
/// [`ServeError`].
pub async fn run(
    server: Server,
    loops: impl FnOnce(&Server, &Phases) -> Vec<Loop>,
    reload: &Reload,
    mut stop: Stop,
) -> Result<(), ServeError> {
    let live = server.settings.now();
    let at = live.serve.listen;
    let refused = |why| ServeError::Address { at, why };
    let listener = TcpListener::bind(at).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(refused)?;

    let phases = Phases::default();
    let closed = CancellationToken::new();
    let mut door = tokio::spawn(http::serve(server.clone(), listener, closed.clone()));
    let mut working: JoinSet<&'static str> = JoinSet::new();
    let tidy = Loop { name: "tidy", work: Box::pin(tidy(server.clone(), phases.clone())) };
    for Loop { name, work } in loops(&server, &phases).into_iter().chain([tidy]) {
        working.spawn(async move {
            work.await;
            name
        });
    }
    server.log.info("listening").text("address", address.to_string().as_str()).write();
    let started = {
        let server = server.clone();
        tokio::spawn(async move {
            server.clock.sleep(STARTING).await;
            server.world.settle();
        })
    };

    let mut lost = None;
    loop {
        tokio::select! {
            told = stop.wait_for(|stop| *stop) => {
                let _ = told;
                break;
            }
            _ = hangup.recv() => read_again(&server, reload),
            ended = working.join_next(), if !working.is_empty() => {
                lost = Some(match ended { Some(Ok(name)) => name, _ => "a loop" });
                break;
            }
            _ = &mut door => {
                lost = Some("http");
                break;
            }
        }
    }
    started.abort();
    let grace = Duration::from_millis(server.settings.now().serve.grace_ms);
    server.log.info("stopping").text("phase", "intake").text("lost", lost).write();
    closed.cancel();
    if lost != Some("http") {
        let _ = door.await;
    }
    server.log.info("stopping").text("phase", "work").number("loops", working.len()).write();
    phases.stop.cancel();
    // The runs' own clocks begin later than this one, and end first.
    if tokio::time::timeout(grace + GIVEN_BACK, all(&mut working)).await.is_err() {
        server.log.warn("stopping").text("phase", "interrupt").number("loops", working.len()).write();
        phases.now.cancel();
        if tokio::time::timeout(LAST_WORDS, all(&mut working)).await.is_err() {
            server.log.alarm("stopping").text("phase", "cut").number("loops", working.len()).write();
            working.shutdown().await;
        }
    }
    server.log.info("stopped").write();
    server.log.flush();
    lost.map_or(Ok(()), |name| Err(ServeError::Lost(name)))
}

async fn all(working: &mut JoinSet<&'static str>) {
    while working.join_next().await.is_some() {}
}

/// Takes the settings anew. Bad ones change nothing.
fn read_again(server: &Server, reload: &Reload) {
    match reload() {
        Ok(mut live) => {
            let before = server.settings.now();
            let (old, new) = (&before.serve, &mut live.serve);
            let fixed = [("listen", old.listen != new.listen), ("state", old.state != new.state)];
            let waiting: Vec<&str> = fixed.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect();
            let waiting = waiting.join(", ");
            let after_restart = Some(waiting.as_str()).filter(|names| !names.is_empty());
            let repositories = new.repositories.len();
            // The door and the database are open where they are: so are jobs' folders, until then.
            new.listen = old.listen;
            new.state.clone_from(&old.state);
            server.settings.replace(live);
            server.replaced.notify_one();
            let line = server.log.info("settings_read").number("repositories", repositories);
            line.text("after_a_restart", after_restart).write();
        }
        Err(why) => server.log.alarm("settings_kept").text("why", why.as_str()).write(),
    }
}

/// Forgets what was handled long ago.
async fn tidy(server: Server, phases: Phases) {
    loop {
        let keep = server.settings.now().serve.keep.clone();
        let before = |ms: u64| server.clock.now_ms().saturating_sub_unsigned(ms);
        loop {
            let (bodies, records) = (before(keep.bodies_ms), before(keep.records_ms));
            match server.inbox.tidy(bodies, records, TIDY_AT_ONCE).await {
                Ok(changed) if changed >= u64::from(TIDY_AT_ONCE) && !phases.stop.is_cancelled() => {}
                Ok(_) => break,
                Err(error) => {
                    server.log.warn("not_tidied").text("why", error.to_string().as_str()).write();
                    break;
                }
            }
        }
        tokio::select! {
            () = phases.stop.cancelled() => return,
            () = server.clock.sleep(TIDY) => {}
        }
    }
}
