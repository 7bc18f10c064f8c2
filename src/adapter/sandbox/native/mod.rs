//! The native driver: namespaces, Landlock, seccomp, limits; no daemon, nothing installed.
//!
//! Each command gets a sandbox of its own, because one is cheap. The driver starts this same binary again, once for each
//! command at a time: the launcher (`lane`), which joins the control group and waits. For a command it makes a copy of
//! itself as the first process in new namespaces (`inner`), which builds the file tree, gives up all rights and starts the
//! command. A socket carries the order in and the report out; when the driver shuts it, or dies, everything inside is
//! killed.

mod cgroup;
mod confine;
mod fork;
mod helper;
mod inner;
mod lane;
mod net;
mod plan;
mod spec;
mod toolchains;
mod tree;

use super::guard::{self, Places};
use super::output::Gather;
use super::programs;
use crate::model::exec::{Command, DriverKind, ExecOutcome, ExecStatus};
use crate::model::id::RunId;
use crate::model::plan::Resources;
use crate::port::sandbox::{Home, OpenSandbox, Order, Probe, Sandbox, SandboxDriver, SandboxError};
use async_trait::async_trait;
use cgroup::{Group, Hierarchies, Hits};
use helper::Helper;
use lane::Lane;
use spec::{Opening, Report, Rights};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
pub use toolchains::Toolchains;

/// Where programs are looked for, beside toolchains.
pub(super) const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The user and group inside, where there is a user namespace.
const INSIDE: u32 = 1000;
/// How long the end of a killed sandbox may take.
const GRACE: Duration = Duration::from_secs(10);

/// Whether this process is the driver's helper: `main` asks before anything else, while there is only one thread.
pub fn is_reentry() -> bool {
    std::env::args_os().nth(1).is_some_and(|first| first == spec::LAUNCHER)
}

/// Runs the helper to its end.
pub fn reentry() -> ExitCode {
    ExitCode::from(lane::run())
}

/// The driver.
#[derive(Debug)]
pub struct Native {
    helper: PathBuf,
    toolchains: Toolchains,
    groups: OnceLock<Hierarchies>,
}

impl Native {
    /// With the path of a binary whose `main` begins with [`is_reentry`]: this program's own, as a rule.
    pub fn new(helper: PathBuf, toolchains: Toolchains) -> Self {
        Self { helper, toolchains, groups: OnceLock::new() }
    }

    fn groups(&self) -> &Hierarchies {
        self.groups.get_or_init(Hierarchies::find)
    }

    fn opened(&self, order: &OpenSandbox) -> Result<Room, SandboxError> {
        let places = guard::check_order(order, None)?;
        let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
        let rights = if user.is_root() && order.owner.0 != 0 {
            Rights::Root { user: order.owner.0, group: order.owner.1 }
        } else if order.owner == (user.as_raw(), group.as_raw()) {
            Rights::UserNamespace
        } else {
            return Err(SandboxError::Unavailable(format!(
                "commands are to run as user {}:{}, but this process is {user}:{group} and may not change that; run it as the workspace's owner",
                order.owner.0, order.owner.1
            )));
        };
        let name: String = format!("{}.{}", order.run, order.name)
            .chars()
            .map(|each| if each.is_ascii_alphanumeric() || each == '-' || each == '.' { each } else { '_' })
            .collect();
        let toolchains = match &order.guest {
            Some(guest) => {
                let shown = programs::find(guest, &self.toolchains)?.complete()?.visible()?;
                self.toolchains.clone().with(shown.folders.clone(), &shown.path_text())
            }
            None => self.toolchains.clone(),
        };
        let hierarchies = self.groups();
        let group = hierarchies
            .group(&format!("{name}.{}", std::process::id()), &order.resources)
            .map_err(|error| SandboxError::Broken(format!("cannot make the sandbox's control group: {error}")))?;
        Ok(Room {
            helper: self.helper.clone(),
            system: plan::system(&toolchains, order.network),
            toolchains,
            limited: (hierarchies.memory(), hierarchies.pids()),
            order: order.clone(),
            places,
            rights,
            spare: Arc::default(),
            lanes: Mutex::default(),
            group,
            count: AtomicU64::new(0),
            lane_count: AtomicU64::new(0),
            lacks: Mutex::new(Vec::new()),
            closed: CancellationToken::new(),
        })
    }
}

#[async_trait]
impl SandboxDriver for Native {
    fn kind(&self) -> DriverKind {
        DriverKind::Native
    }

    async fn probe(&self, _image: Option<&str>) -> Probe {
        let fails = |detail: String| Probe { usable: false, detail, lacks: Vec::new() };
        let folder = match tempfile::tempdir() {
            Ok(folder) => folder,
            Err(error) => return fails(format!("cannot make a temporary folder: {error}")),
        };
        let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
        let order = OpenSandbox {
            run: RunId("probe".into()),
            name: folder.path().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            workspace: folder.path().to_owned(),
            writable: false,
            git_dir: None,
            git_objects: None,
            source: None,
            home: Home::Fresh,
            image: None,
            resources: Resources::default(),
            network: false,
            env: Default::default(),
            owner: if user.is_root() { (65_534, 65_534) } else { (user.as_raw(), group.as_raw()) },
            loopback: None,
            guest: None,
        };
        let tried = async {
            let room = self.opened(&order)?;
            let command = Command { argv: vec!["true".into()], timeout_ms: 20_000, ..Command::shell("") };
            let outcome = room.exec(&command, &|_| {}).await?;
            let lacks = room.lacks.lock().map(|lacks| lacks.clone()).unwrap_or_default();
            Ok::<_, SandboxError>((outcome, lacks))
        };
        match tried.await {
            Ok((outcome, mut lacks)) if outcome.success() => {
                lacks.extend(self.groups().lacks());
                let way = if user.is_root() { "as root" } else { "in a user namespace" };
                let detail = format!("namespaces ({way}), Landlock, seccomp");
                Probe { usable: true, detail, lacks }
            }
            Ok((outcome, _)) => fails(format!("a trial command failed: {} {}", outcome.describe(), outcome.output)),
            Err(error) => fails(error.to_string()),
        }
    }

    async fn open(&self, order: &OpenSandbox) -> Result<Box<dyn Sandbox>, SandboxError> {
        Ok(Box::new(Open(Arc::new(self.opened(order)?))))
    }

    async fn reap(&self, run: Option<&RunId>) -> Result<usize, SandboxError> {
        // Processes end with their engine; what a killed one leaves are empty control groups.
        Ok(self.groups().reap(run.map(|run| format!("{run}.")).as_deref()))
    }
}

/// An open sandbox.
struct Open(Arc<Room>);

/// What each command of an open sandbox is given.
struct Room {
    helper: PathBuf,
    system: plan::System,
    toolchains: Toolchains,
    /// Whether control groups limit memory and processes.
    limited: (bool, bool),
    order: OpenSandbox,
    places: Places,
    rights: Rights,
    /// A sandbox made ahead; before the group that it is in.
    spare: Arc<tokio::sync::Mutex<Option<Helper>>>,
    /// Lanes without a command; before the group that they are in.
    lanes: Mutex<Vec<Lane>>,
    group: Group,
    /// Commands so far.
    count: AtomicU64,
    lane_count: AtomicU64,
    lacks: Mutex<Vec<String>>,
    closed: CancellationToken,
}

fn broken(error: std::io::Error) -> SandboxError {
    SandboxError::Broken(format!("cannot start a sandbox: {error}"))
}

/// What the helper said until it fell silent.
fn reports(mut bytes: &[u8]) -> Vec<Report> {
    std::iter::from_fn(|| spec::read_frame(&mut bytes).ok()).collect()
}

#[async_trait]
impl Sandbox for Open {
    fn kind(&self) -> DriverKind {
        DriverKind::Native
    }

    async fn exec(
        &self,
        order: Order,
        printed: &(dyn for<'a> Fn(&'a str) + Send + Sync),
    ) -> Result<ExecOutcome, SandboxError> {
        let command = order.command();
        let done = self.0.exec(command, printed).await;
        if done.is_ok() {
            self.0.make_spare(command);
        }
        done
    }

    async fn close(&self) -> Result<(), SandboxError> {
        self.0.closed.cancel();
        drop(self.0.spare.lock().await.take());
        let lanes = std::mem::take(&mut *self.0.lanes.lock().unwrap_or_else(PoisonError::into_inner));
        for mut lane in lanes {
            lane.is_empty().await;
        }
        Ok(())
    }
}

impl Room {
    /// A lane that no command uses.
    async fn free_lane(&self) -> Option<Lane> {
        let mut lane = self.lanes.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        lane.is_empty().await.then_some(lane)
    }

    fn new_lane(&self) -> Result<Lane, SandboxError> {
        let number = self.lane_count.fetch_add(1, Ordering::Relaxed);
        let group = self.group.lane(number).map_err(broken)?;
        let opening = Opening {
            doors: group.doors(),
            rights: self.rights,
            network: self.order.network,
            listen: self.order.loopback.as_ref().map(|loopback| loopback.port),
            outside: (self.rights == Rights::UserNamespace).then_some(self.order.owner),
        };
        Lane::open(&self.helper, group, &opening).map_err(|error| {
            SandboxError::Unavailable(format!("cannot start the sandbox's helper {}: {error}", self.helper.display()))
        })
    }

    /// For the next command.
    fn give_back(&self, lane: Lane) {
        if !self.closed.is_cancelled() {
            self.lanes.lock().unwrap_or_else(PoisonError::into_inner).push(lane);
        }
    }

    async fn exec(
        &self,
        command: &Command,
        printed: &(dyn for<'a> Fn(&'a str) + Send + Sync),
    ) -> Result<ExecOutcome, SandboxError> {
        guard::check_command(command)?;
        if self.closed.is_cancelled() {
            return Err(SandboxError::Broken("the sandbox was closed".into()));
        }
        let begun = Instant::now();
        let inner = plan::inner(self, command)?;
        let job = spec::frame(&plan::job(self, command)).map_err(broken)?;
        let spare = self.spare.lock().await.take().filter(|spare| spare.fits(&inner, &self.places));
        if let Some(spare) = spare
            && let Some(done) = self.run(spare, &job, command, begun, printed).await?
        {
            return Ok(done);
        }
        let helper = Helper::start(self, inner).await?;
        self.run(helper, &job, command, begun, printed).await?.ok_or_else(|| {
            SandboxError::Broken("the sandbox ended without saying why, before its command was begun".into())
        })
    }

    /// Makes a sandbox ahead, for a further command like this one, while others are busy elsewhere. Not after a first
    /// command: most gates have one only.
    fn make_spare(self: &Arc<Self>, like: &Command) {
        if self.count.load(Ordering::Relaxed) < 2 || self.order.loopback.is_some() || !like.home_files.is_empty() {
            return;
        }
        // Whoever wants it meanwhile waits for it.
        let Ok(mut place) = Arc::clone(&self.spare).try_lock_owned() else { return };
        let (room, like) = (Arc::clone(self), like.clone());
        tokio::spawn(async move {
            if place.is_none() && !room.closed.is_cancelled() {
                let Ok(inner) = plan::inner(&room, &like) else { return };
                let made = Helper::start(&room, inner).await;
                *place = made.ok().map(Helper::ahead).filter(|_| !room.closed.is_cancelled());
            }
        });
    }

    /// Runs a command in a sandbox that is being made, or waits. `None`: a sandbox that was made ahead failed before
    /// its command was begun.
    async fn run(
        &self,
        helper: Helper,
        job: &[u8],
        command: &Command,
        begun: Instant,
        printed: &(dyn for<'a> Fn(&'a str) + Send + Sync),
    ) -> Result<Option<ExecOutcome>, SandboxError> {
        let Helper { reported, control, mut read, unsent: mut orders, ahead, before: lane_before, mut lane, .. } = helper;
        self.count.fetch_add(1, Ordering::Relaxed);
        orders.extend_from_slice(job);
        let before = self.group.hits();
        let mut gather = Gather::new(command.output_cap, printed);
        let (mut control, mut handed) = (Some(control), Vec::new());
        let (mut sent, mut printing, mut reporting) = (0, true, true);
        let (mut buffer, mut report, mut heard) = (vec![0u8; 16 * 1024], vec![0u8; 1024], Vec::new());
        let mut deadline = tokio::time::Instant::now() + Duration::from_millis(command.timeout_ms);
        let (mut timed_out, mut closed) = (false, false);
        while printing || reporting {
            let open = control.is_some();
            let writer = control.as_mut().filter(|_| sent < orders.len());
            let writing = writer.is_some();
            let rest = orders.get(sent..).unwrap_or_default();
            tokio::select! {
                got = read.read(&mut buffer), if printing => match got {
                    Ok(0) | Err(_) => printing = false,
                    Ok(length) => gather.push(buffer.get(..length).unwrap_or_default()),
                },
                got = net::receive(&reported, &mut report, &mut handed), if reporting => {
                    match got {
                        Ok(0) | Err(_) => reporting = false,
                        Ok(length) => {
                            heard.extend_from_slice(report.get(..length).unwrap_or_default());
                            reporting = !reports(&heard).iter().any(Report::is_last);
                        }
                    }
                    for listener in handed.drain(..) {
                        if let Some(loopback) = &self.order.loopback {
                            (loopback.hand_over)(TcpListener::from(listener));
                        }
                    }
                },
                wrote = async { match writer { Some(writer) => writer.write(rest).await, None => Ok(0) } }, if writing => match wrote {
                    Ok(length) if length > 0 => sent += length,
                    // It is gone; its report says why.
                    _ => sent = orders.len(),
                },
                () = self.closed.cancelled(), if !closed && open => {
                    closed = true;
                    deadline = tokio::time::Instant::now() + GRACE;
                    control = None;
                }
                () = tokio::time::sleep_until(deadline) => {
                    if control.take().is_none() {
                        break;
                    }
                    // Shutting the socket tells the helper to kill everything inside.
                    timed_out = true;
                    deadline = tokio::time::Instant::now() + GRACE;
                }
            }
        }
        let (after, own) = (self.group.hits(), lane.hits());
        if printing || reporting {
            lane.kill();
            drop(lane);
        } else {
            lane.leave(reported);
            self.give_back(lane);
        }

        let mut ended = None;
        let heard = reports(&heard);
        if ahead && !timed_out && !closed && !heard.iter().any(Report::is_begun) {
            return Ok(None);
        }
        for report in heard {
            match report {
                Report::Failed(what) => ended = Some(Err(self.failure(&what))),
                Report::Listening => {}
                Report::Started(lacks) => {
                    if let Ok(mut known) = self.lacks.lock() {
                        *known = lacks;
                    }
                }
                Report::NotStarted(code, what) => {
                    gather.push(format!("{what}\n").as_bytes());
                    ended = Some(Ok(ExecStatus::Exited(code)));
                }
                Report::Exited(code) => ended = Some(Ok(ExecStatus::Exited(code))),
                Report::Signaled(signal) => ended = Some(Ok(ExecStatus::Signaled(signal))),
            }
        }
        let (output, dropped) = gather.finish();
        if closed {
            return Err(SandboxError::Broken("the sandbox was closed while a command ran".into()));
        }
        let pids = own.pids.saturating_sub(lane_before.pids).max(after.pids.saturating_sub(before.pids));
        let hits = Hits { memory: own.memory.saturating_sub(lane_before.memory), pids };
        let status = match ended {
            _ if timed_out => ExecStatus::TimedOut,
            _ if hits.memory > 0 => ExecStatus::OutOfMemory,
            Some(Err(error)) => return Err(error),
            Some(Ok(ExecStatus::Exited(0))) => ExecStatus::Exited(0),
            _ if hits.pids > 0 => ExecStatus::TooManyProcesses,
            Some(Ok(_)) if !self.limited.1 && output.contains("Resource temporarily unavailable") => {
                ExecStatus::TooManyProcesses
            }
            Some(Ok(status)) => status,
            None => {
                return Err(SandboxError::Broken(format!(
                    "the sandbox ended without saying why. It printed: {output}"
                )));
            }
        };
        Ok(Some(ExecOutcome { status, output, dropped, duration_ms: begun.elapsed().as_millis() as u64 }))
    }

    fn failure(&self, what: &str) -> SandboxError {
        if what.starts_with("cannot make namespaces") || what.contains("uid_map") {
            return SandboxError::Unavailable(format!(
                "the native sandbox cannot be used here: {what}. Allow unprivileged user namespaces (sysctl \
                 kernel.apparmor_restrict_unprivileged_userns=0, user.max_user_namespaces above 0), or use `driver: docker`"
            ));
        }
        SandboxError::Broken(format!("the native sandbox could not be made: {what}"))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.closed.cancel();
    }
}
