//! No isolation: plain processes with a clean environment, for mounts that are explicitly trusted.

use super::guard::{self, Places};
use super::output::Gather;
use super::{native::Toolchains, programs};
use crate::model::exec::{DriverKind, ExecOutcome, ExecStatus};
use crate::model::id::RunId;
use crate::port::sandbox::{OpenSandbox, Order, Probe, Sandbox, SandboxDriver, SandboxError};
use async_trait::async_trait;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;

/// The variable by which a command's processes are known again, however they detach themselves.
const MARK: &str = "CODEFORGE_COMMAND";

/// The driver.
#[derive(Debug)]
pub struct Plain {
    path: String,
    home: Option<PathBuf>,
}

impl Plain {
    /// With the operator's `PATH` and home.
    pub fn new(path: String, home: Option<PathBuf>) -> Self {
        let path = if path.is_empty() { super::native::SYSTEM_PATH.to_owned() } else { path };
        Self { path, home }
    }
}

#[async_trait]
impl SandboxDriver for Plain {
    fn kind(&self) -> DriverKind {
        DriverKind::None
    }

    async fn probe(&self, _image: Option<&str>) -> Probe {
        let lacks = [
            "files: commands see and may change whatever the user may",
            "network: not separated",
            "processes: not separated; what detaches itself is found by its environment only",
            "limits: memory, cpus and processes are not limited",
            "read-only steps: not held",
        ];
        Probe { usable: true, detail: "plain processes, no isolation".into(), lacks: lacks.map(Into::into).to_vec() }
    }

    async fn open(&self, order: &OpenSandbox) -> Result<Box<dyn Sandbox>, SandboxError> {
        let places = guard::check_order(order, None)?;
        let home = places
            .home
            .folder()
            .map(Path::to_path_buf)
            .or_else(|| self.home.clone())
            .unwrap_or_else(|| places.workspace.clone());
        let mut path = self.path.clone();
        if let Some(guest) = &order.guest {
            let host = Toolchains::discover(&self.path, self.home.as_deref());
            let shown = programs::find(guest, &host)?.complete()?;
            path = format!("{}:{path}", shown.path_text()).trim_start_matches(':').to_owned();
        }
        let as_user = (nix::unistd::geteuid().is_root() && order.owner.0 != 0).then_some(order.owner);
        // A program that is not ours gets no say over the operator's own settings.
        let scratch = order.guest.as_ref().map(|_| tempfile::tempdir()).transpose();
        let scratch = scratch.map_err(|error| SandboxError::Broken(format!("cannot make a home folder: {error}")))?;
        if let (Some(scratch), Some((user, group))) = (&scratch, as_user) {
            std::os::unix::fs::chown(scratch.path(), Some(user), Some(group))
                .map_err(|error| SandboxError::Broken(format!("cannot give the home folder away: {error}")))?;
        }
        let home = scratch.as_ref().map_or(home, |scratch| scratch.path().to_path_buf());
        if let Some(loopback) = &order.loopback {
            // Nothing is separated here: the port is whichever is free, and the listener knows it.
            let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))
                .map_err(|error| SandboxError::Broken(format!("cannot listen at 127.0.0.1: {error}")))?;
            (loopback.hand_over)(listener);
        }
        Ok(Box::new(Shell {
            mark: format!("{}.{}.{}.", order.run, order.name, std::process::id()),
            order: order.clone(),
            places,
            home,
            path,
            scratch,
            as_user,
            count: AtomicU64::new(0),
            detached: std::sync::atomic::AtomicBool::new(false),
            closed: CancellationToken::new(),
        }))
    }

    async fn reap(&self, _run: Option<&RunId>) -> Result<usize, SandboxError> {
        // Nothing outlives its command by design; what a killed engine left cannot be told from the user's own.
        Ok(0)
    }
}

struct Shell {
    order: OpenSandbox,
    places: Places,
    home: PathBuf,
    path: String,
    /// The home folder, where it is made for the sandbox.
    scratch: Option<tempfile::TempDir>,
    mark: String,
    as_user: Option<(u32, u32)>,
    count: AtomicU64,
    /// Whether a command left something that had detached itself.
    detached: std::sync::atomic::AtomicBool,
    closed: CancellationToken,
}

impl Shell {
    fn write_home(&self, files: &std::collections::BTreeMap<String, String>) -> std::io::Result<()> {
        for (path, text) in files {
            let path = self.home.join(path);
            let mut made = vec![path.clone()];
            for folder in path.ancestors().skip(1).take_while(|folder| *folder != self.home && !folder.exists()) {
                made.push(folder.to_path_buf());
            }
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            std::fs::write(&path, text)?;
            if let Some((user, group)) = self.as_user {
                made.iter().try_for_each(|path| std::os::unix::fs::chown(path, Some(user), Some(group)))?;
            }
        }
        Ok(())
    }

    /// The program's full path: with one, the child can be started without copying this process's memory map.
    fn program(&self, name: &str, cwd: &Path) -> PathBuf {
        if name.contains('/') {
            return cwd.join(name);
        }
        let beneath = |folder: &str| Path::new(folder).join(name);
        let runs = |path: &PathBuf| {
            use std::os::unix::fs::PermissionsExt;
            path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        };
        self.path
            .split(':')
            .filter(|folder| folder.starts_with('/'))
            .map(beneath)
            .find(runs)
            .unwrap_or_else(|| PathBuf::from(name))
    }
}

#[async_trait]
impl Sandbox for Shell {
    fn kind(&self) -> DriverKind {
        DriverKind::None
    }

    async fn exec(
        &self,
        order: Order,
        printed: &(dyn for<'a> Fn(&'a str) + Send + Sync),
    ) -> Result<ExecOutcome, SandboxError> {
        let command = order.command();
        guard::check_command(command)?;
        if self.closed.is_cancelled() {
            return Err(SandboxError::Broken("the sandbox was closed".into()));
        }
        let mut cwd = self.places.workspace.clone();
        if !command.cwd.is_empty() {
            cwd = cwd.join(&command.cwd).canonicalize().map_err(|error| {
                SandboxError::Refused(format!("the working directory {} cannot be opened: {error}", command.cwd))
            })?;
            if !cwd.starts_with(&self.places.workspace) {
                return Err(SandboxError::Refused(format!(
                    "the working directory {} leads out of the workspace",
                    command.cwd
                )));
            }
        }
        if self.scratch.is_some() {
            self.write_home(&command.home_files)
                .map_err(|error| SandboxError::Broken(format!("cannot write into the home folder: {error}")))?;
        }
        let started = Instant::now();
        let mark = format!("{}{}.", self.mark, self.count.fetch_add(1, Ordering::Relaxed));
        let mut env = guard::environment(&self.path, &self.home.to_string_lossy(), &self.order.env, &command.env);
        env.insert(MARK.into(), mark.clone());
        let broken = |error: std::io::Error| SandboxError::Broken(format!("cannot start a command: {error}"));
        let (read, write) = std::io::pipe().map_err(broken)?;
        let (program, arguments) =
            command.argv.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
        #[expect(clippy::disallowed_methods, reason = "this adapter's work is to start processes")]
        let mut child = tokio::process::Command::new(self.program(program, &cwd));
        child
            .args(arguments)
            .current_dir(&cwd)
            .env_clear()
            .envs(&env)
            .stdin(Stdio::null())
            .stdout(write.try_clone().map_err(broken)?)
            .stderr(write)
            .process_group(0)
            .kill_on_drop(true);
        if let Some((user, group)) = self.as_user {
            child.uid(user).gid(group);
        }
        let spawned = child.spawn();
        drop(child);
        let mut gather = Gather::new(command.output_cap, printed);
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => {
                let code = match error.kind() {
                    std::io::ErrorKind::NotFound => 127,
                    std::io::ErrorKind::PermissionDenied => 126,
                    std::io::ErrorKind::WouldBlock => {
                        return Err(SandboxError::Broken(format!("cannot start a command: {error}")));
                    }
                    _ => 126,
                };
                gather.push(format!("{program}: {error}\n").as_bytes());
                let (output, dropped) = gather.finish();
                let duration_ms = started.elapsed().as_millis() as u64;
                return Ok(ExecOutcome { status: ExecStatus::Exited(code), output, dropped, duration_ms });
            }
        };
        let tree = Tree { leader: child.id().map(|id| Pid::from_raw(id as i32)), mark };
        let mut ended = KillOnDrop { tree: &tree, armed: true };
        let mut read = pipe::Receiver::from_owned_fd(OwnedFd::from(read)).map_err(broken)?;
        let deadline = tokio::time::Instant::now() + Duration::from_millis(command.timeout_ms);
        let mut buffer = vec![0u8; 16 * 1024];
        let mut open = true;
        // First the command itself, with its output as it comes.
        let status = loop {
            tokio::select! {
                biased;
                got = read.read(&mut buffer), if open => match got {
                    Ok(0) | Err(_) => open = false,
                    Ok(length) => gather.push(buffer.get(..length).unwrap_or_default()),
                },
                status = child.wait() => break Some(status.map_err(broken)?),
                () = tokio::time::sleep_until(deadline) => break None,
                () = self.closed.cancelled() => {
                    tree.kill_all();
                    return Err(SandboxError::Broken("the sandbox was closed while a command ran".into()));
                }
            }
        };
        // Then whatever it left: its group goes, and if something still holds the pipe it detached itself.
        if status.is_none() {
            tree.kill_all();
            let _ = child.wait().await;
        } else {
            tree.kill_group();
        }
        let mut rounds = 0u32;
        while open && rounds < 50 {
            match tokio::time::timeout(
                Duration::from_millis(if rounds == 0 { 20 } else { 100 }),
                read.read(&mut buffer),
            )
            .await
            {
                Ok(Ok(0) | Err(_)) => open = false,
                Ok(Ok(length)) => {
                    gather.push(buffer.get(..length).unwrap_or_default());
                    continue;
                }
                Err(_) => {
                    self.detached.store(true, Ordering::Relaxed);
                    tree.kill_all();
                }
            }
            rounds += 1;
        }
        ended.armed = false;
        let (output, dropped) = gather.finish();
        let status = match status {
            None => ExecStatus::TimedOut,
            Some(status) => match (status.code(), status.signal()) {
                (Some(code), _) => ExecStatus::Exited(code),
                (None, signal) => ExecStatus::Signaled(signal.unwrap_or(9)),
            },
        };
        Ok(ExecOutcome { status, output, dropped, duration_ms: started.elapsed().as_millis() as u64 })
    }

    fn home(&self) -> PathBuf {
        self.home.clone()
    }

    async fn close(&self) -> Result<(), SandboxError> {
        self.closed.cancel();
        // The one place that looks for processes which detached themselves and shut their output: looking through
        // all processes after each command would cost more than most commands.
        Tree { leader: None, mark: self.mark.clone() }.kill_all();
        Ok(())
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

/// A command's processes: its group, its descendants, and what carries its mark.
struct Tree {
    leader: Option<Pid>,
    mark: String,
}

struct KillOnDrop<'a> {
    tree: &'a Tree,
    armed: bool,
}

impl Drop for KillOnDrop<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.tree.kill_all();
        }
    }
}

impl Tree {
    fn kill_group(&self) {
        if let Some(leader) = self.leader {
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }

    /// Looks again after each round, because what it kills may have started more in between.
    fn kill_all(&self) {
        for _ in 0..20 {
            let found = self.members();
            self.kill_group();
            if found.is_empty() {
                return;
            }
            for pid in found {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }

    /// Living processes that descend from the leader or carry the mark.
    fn members(&self) -> BTreeSet<i32> {
        let mark = format!("{MARK}={}", self.mark);
        let own = std::process::id() as i32;
        let mut members = BTreeSet::new();
        let mut parents = Vec::new();
        let Ok(listing) = std::fs::read_dir("/proc") else { return members };
        for entry in listing.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let mut fields = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ')).into_iter().flatten();
            let (state, parent) = (fields.next(), fields.next().and_then(|text| text.parse::<i32>().ok()));
            if pid == own || matches!(state, None | Some("Z" | "X")) {
                continue;
            }
            if let Some(parent) = parent {
                parents.push((pid, parent));
            }
            let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            if environ.split(|byte| *byte == 0).any(|line| line.starts_with(mark.as_bytes())) {
                members.insert(pid);
            }
        }
        if let Some(leader) = self.leader
            && parents.iter().any(|(pid, _)| *pid == leader.as_raw())
        {
            members.insert(leader.as_raw());
        }
        loop {
            let before = members.len();
            members.extend(
                parents.iter().filter(|(_, parent)| members.contains(parent)).map(|(pid, _)| *pid).collect::<Vec<_>>(),
            );
            if members.len() == before {
                return members;
            }
        }
    }
}
