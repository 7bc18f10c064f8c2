//! An open docker sandbox: its containers and the commands in them.

use super::reach;
use super::{Engine, broken, no_image, status};
use crate::adapter::sandbox::guard::{self, GitMount, Places};
use crate::adapter::sandbox::output::Gather;
use crate::adapter::sandbox::programs::Shown;
use crate::model::exec::{Command, DriverKind, ExecOutcome, ExecStatus};
use crate::port::sandbox::{Home, OpenSandbox, Order, Sandbox, SandboxError};
use async_trait::async_trait;
use bollard::Docker as Client;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use futures::StreamExt;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// What the container's first process does: sleep, and bury what is left to it.
const SLEEPER: &str = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done";
/// Kills what carries the variable `$mark`, until nothing does. Names end in NUL there, which `grep` does not take
/// in every image.
const SWEEP: &str = r#"sweep() {
  for round in 1 2 3 4 5 6 7 8 9 10; do
    found=
    for file in /proc/[0-9]*/environ; do
      case $(tr '\0' '\n' <"$file" 2>/dev/null) in
        *"$mark"*) found=1; pid=${file#/proc/}; kill -9 "${pid%/environ}" 2>/dev/null ;;
      esac
    done
    [ "$found" ] || return 0
  done
}
mark=$1; shift"#;
/// Runs a command with its streams joined, then kills what it left.
const RUN: &str = r#"exec 2>&1
env "$mark" "$@"
code=$?
sweep 2>/dev/null
exit $code"#;
/// Kills everything but the container's first process.
const KILL_ALL: &str = "kill -9 -1";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A sandbox made of one container, and a read-only twin of it where one is needed.
pub(super) struct Contained {
    client: Client,
    engine: String,
    image: String,
    order: OpenSandbox,
    places: Places,
    /// What is shown of this machine's programs.
    shown: Shown,
    main: Mutex<Option<Container>>,
    twin: Mutex<Option<Container>>,
    /// Commands under way.
    active: AtomicU64,
    count: AtomicU64,
    closed: CancellationToken,
    /// Holds the file that points git to its folder.
    scratch: std::sync::Mutex<Option<tempfile::TempDir>>,
}

#[derive(Debug, Clone)]
struct Container {
    id: String,
    /// The container's control group folders on this machine, where they can be read.
    groups: Vec<PathBuf>,
}

/// How often limits were hit.
#[derive(Debug, Clone, Copy, Default)]
struct Hits {
    memory: u64,
    pids: u64,
}

impl Container {
    fn hits(&self) -> Hits {
        let count = |file: &str, key: &str| -> u64 {
            let texts = self.groups.iter().filter_map(|folder| std::fs::read_to_string(folder.join(file)).ok());
            texts
                .filter_map(|text| {
                    let line =
                        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ').map(str::to_owned));
                    line?.trim().parse::<u64>().ok()
                })
                .sum()
        };
        Hits {
            memory: count("memory.oom_control", "oom_kill") + count("memory.events", "oom_kill"),
            pids: count("pids.events", "max"),
        }
    }
}

/// Where a process's control groups lie on this machine; none where the process is not this machine's.
fn groups(pid: i64, container: &str) -> Vec<PathBuf> {
    let table = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    table
        .lines()
        .filter(|line| line.contains(container))
        .flat_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
            let beneath = path.trim_start_matches('/');
            let root = Path::new("/sys/fs/cgroup");
            match controllers {
                "" => vec![root.join(beneath)],
                names => names
                    .split(',')
                    .filter(|name| matches!(*name, "memory" | "pids"))
                    .map(|name| root.join(name).join(beneath))
                    .collect(),
            }
        })
        .collect()
}

impl Contained {
    pub(super) async fn open(
        client: Client,
        engine: &Engine,
        order: OpenSandbox,
        places: Places,
        image: &str,
        shown: Shown,
    ) -> Result<Self, SandboxError> {
        let opened = Self {
            client,
            engine: engine.label(),
            image: image.to_owned(),
            order,
            places,
            shown,
            main: Mutex::new(None),
            twin: Mutex::new(None),
            active: AtomicU64::new(0),
            count: AtomicU64::new(0),
            closed: CancellationToken::new(),
            scratch: std::sync::Mutex::new(None),
        };
        opened.container(opened.order.writable).await?;
        Ok(opened)
    }

    /// The container for writing or only reading commands; started where it is not there.
    async fn container(&self, writable: bool) -> Result<Container, SandboxError> {
        let slot = if writable == self.order.writable { &self.main } else { &self.twin };
        let mut slot = slot.lock().await;
        if let Some(container) = &*slot {
            return Ok(container.clone());
        }
        let container = self.start(writable).await?;
        *slot = Some(container.clone());
        Ok(container)
    }

    fn binds(&self, writable: bool, tmpfs: &mut HashMap<String, String>) -> Result<Vec<String>, SandboxError> {
        let mode = if writable { "rw" } else { "ro" };
        let mut binds: Vec<(PathBuf, &str, &str)> = vec![(self.places.workspace.clone(), "/workspace", mode)];
        let hidden = || "ro,size=4k,mode=0555".to_owned();
        let null = || PathBuf::from("/dev/null");
        let git = self.places.git_dir.as_deref();
        match (guard::git_mount(&self.places.workspace, git, self.order.owner)?, git) {
            (GitMount::Folder, Some(git)) => binds.push((git.to_owned(), "/workspace/.git", mode)),
            (GitMount::File, Some(git)) => {
                let broken =
                    |error: std::io::Error| SandboxError::Broken(format!("cannot write git's pointer: {error}"));
                let folder = tempfile::tempdir().map_err(broken)?;
                let file = folder.path().join("gitfile");
                std::fs::write(&file, "gitdir: /run/codeforge/git\n").map_err(broken)?;
                if let Ok(mut scratch) = self.scratch.lock() {
                    scratch.get_or_insert(folder);
                }
                binds.push((git.to_owned(), "/run/codeforge/git", mode));
                binds.push((file, "/workspace/.git", "ro"));
            }
            (GitMount::HideFolder, _) => {
                tmpfs.insert("/workspace/.git".into(), hidden());
            }
            (GitMount::HideFile, _) => binds.push((null(), "/workspace/.git", "ro")),
            _ => {}
        }
        if let Some(objects) = &self.places.git_objects {
            binds.push((objects.clone(), "/run/codeforge/objects", "ro"));
        }
        if let Some(source) = &self.places.source {
            binds.push((source.clone(), "/source", "ro"));
            match guard::git_mount(source, None, self.order.owner)? {
                GitMount::HideFolder => {
                    tmpfs.insert("/source/.git".into(), hidden());
                }
                GitMount::HideFile => binds.push((null(), "/source/.git", "ro")),
                _ => {}
            }
        }
        match &self.places.home {
            Home::Fresh => {}
            Home::Kept(home) => binds.push((home.clone(), "/home/agent", "rw")),
            Home::Over(home) => binds.push((home.clone(), "/run/codeforge/home", "ro")),
        }
        for folder in &self.shown.folders {
            let Some(to) = folder.to_str() else { continue };
            let from = folder.canonicalize().unwrap_or_else(|_| folder.clone());
            binds.push((from, to, "ro"));
            if folder.starts_with("/root") {
                // An image shuts it to everybody else.
                tmpfs.insert("/root".into(), "rw,nosuid,nodev,size=64k,mode=0755".into());
            }
        }
        binds
            .into_iter()
            .map(|(from, to, mode)| match from.to_str() {
                Some(text) if !text.contains(':') && !to.contains(':') => Ok(format!("{text}:{to}:{mode}")),
                _ => Err(SandboxError::Refused(format!(
                    "docker cannot mount {}: its name holds a colon",
                    from.display()
                ))),
            })
            .collect()
    }

    async fn start(&self, writable: bool) -> Result<Container, SandboxError> {
        let limits = &self.order.resources;
        let (user, group) = self.order.owner;
        let scratch = limits.disk.min(limits.memory / 2).max(1 << 20);
        let sized = format!("rw,nosuid,nodev,exec,size={scratch},mode=1777");
        let mut tmpfs: HashMap<String, String> =
            [("/tmp", sized.clone()), ("/run", "rw,nosuid,nodev,size=1m,mode=0755".into())]
                .into_iter()
                .map(|(at, options)| (at.to_owned(), options))
                .collect();
        if !matches!(self.places.home, Home::Kept(_)) {
            tmpfs.insert("/home/agent".into(), sized);
        }
        let binds = self.binds(writable, &mut tmpfs)?;
        let memory = i64::try_from(limits.memory).unwrap_or(i64::MAX);
        let body = ContainerCreateBody {
            image: Some(self.image.clone()),
            user: Some(format!("{user}:{group}")),
            hostname: Some("sandbox".into()),
            entrypoint: Some(vec!["sh".into(), "-c".into(), SLEEPER.into()]),
            cmd: Some(Vec::new()),
            working_dir: Some("/workspace".into()),
            network_disabled: Some(!self.order.network),
            labels: Some(HashMap::from([
                ("codeforge.run".into(), self.order.run.to_string()),
                ("codeforge.sandbox".into(), self.order.name.clone()),
                ("codeforge.engine".into(), self.engine.clone()),
            ])),
            host_config: Some(HostConfig {
                binds: Some(binds),
                tmpfs: Some(tmpfs),
                network_mode: Some(if self.order.network { "host" } else { "none" }.into()),
                cap_drop: Some(vec!["ALL".into()]),
                security_opt: Some(vec!["no-new-privileges".into()]),
                readonly_rootfs: Some(true),
                memory: Some(memory),
                memory_swap: Some(memory),
                nano_cpus: Some((limits.cpus * 1e9) as i64),
                pids_limit: Some(i64::from(limits.pids) + 8),
                shm_size: i64::try_from(scratch).ok(),
                ipc_mode: Some("private".into()),
                oom_score_adj: Some(500),
                ..Default::default()
            }),
            ..Default::default()
        };
        let suffix = if writable == self.order.writable { "" } else { "-ro" };
        let name = format!("codeforge-{}-{}{suffix}-{}", self.order.run, self.order.name, std::process::id());
        let name: String = name
            .chars()
            .map(|each| if each.is_ascii_alphanumeric() || "-_.".contains(each) { each } else { '_' })
            .collect();
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let made = self.client.create_container(Some(options), body).await.map_err(|error| match status(&error) {
            404 => no_image(&self.image),
            _ => broken("create a container", &error),
        })?;
        let started = self.client.start_container(&made.id, None).await;
        if let Err(error) = started {
            self.remove(&made.id).await?;
            return Err(match status(&error) {
                400 | 404 => SandboxError::Unavailable(format!(
                    "docker cannot start the image {}: {error}. It needs `sh`, `env`, `tr` and `sleep`",
                    self.image
                )),
                _ => broken("start a container", &error),
            });
        }
        let pid = self.client.inspect_container(&made.id, None).await.ok().and_then(|found| found.state?.pid);
        let groups = pid.map(|pid| groups(pid, &made.id)).unwrap_or_default();
        let container = Container { id: made.id, groups };
        if let Some(loopback) = &self.order.loopback
            && let Err(error) = reach::listen(pid, &container.id, loopback)
        {
            self.remove(&container.id).await?;
            return Err(error);
        }
        if matches!(self.places.home, Home::Over(_))
            && let Err(error) = self.fill_home(&container).await
        {
            self.remove(&container.id).await?;
            return Err(error);
        }
        Ok(container)
    }

    /// Copies what set-up left in the home folder: the daemon can lay no layers over a folder of ours.
    async fn fill_home(&self, container: &Container) -> Result<(), SandboxError> {
        let argv = ["sh", "-c", "cp -a /run/codeforge/home/. /home/agent/ 2>&1"].map(str::to_owned).to_vec();
        let failed = |error: &bollard::errors::Error| broken("fill the home folder", error);
        let (id, started) =
            self.start_exec(container, argv, Vec::new(), "/".into()).await.map_err(|error| failed(&error))?;
        let mut said = String::new();
        if let StartExecResults::Attached { mut output, .. } = started {
            while let Some(Ok(piece)) = output.next().await {
                said.push_str(&String::from_utf8_lossy(&piece.into_bytes()));
            }
        }
        match self.code(container, &id).await? {
            0 => Ok(()),
            code => Err(SandboxError::Broken(format!(
                "what `setup` left in the home folder cannot be copied into the container (`cp` ended with {code}: {}); \
                 it has to fit into half of `resources.memory`",
                crate::text::clean(said.trim())
            ))),
        }
    }

    /// Writes a command's files into the home folder. Each is two arguments, never part of the script.
    async fn write_home(&self, container: &Container, command: &Command) -> Result<(), SandboxError> {
        let script = "while [ $# -gt 1 ]; do mkdir -p \"$(dirname \"$1\")\" && printf %s \"$2\" >\"$1\" || exit 1; shift 2; done";
        for (path, text) in &command.home_files {
            let at = format!("/home/agent/{path}");
            let argv = ["sh", "-c", script, "sh", &at, text].map(str::to_owned).to_vec();
            let failed = |error: &bollard::errors::Error| broken("write into the home folder", error);
            let (id, started) =
                self.start_exec(container, argv, Vec::new(), "/".into()).await.map_err(|error| failed(&error))?;
            if let StartExecResults::Attached { mut output, .. } = started {
                while output.next().await.is_some() {}
            }
            let code = self.code(container, &id).await?;
            if code != 0 {
                return Err(SandboxError::Broken(format!("docker: {at} cannot be written (exit code {code})")));
            }
        }
        Ok(())
    }

    async fn remove(&self, id: &str) -> Result<(), SandboxError> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.client.remove_container(id, Some(options)).await {
            Ok(()) => Ok(()),
            Err(error) if matches!(status(&error), 404 | 409) => Ok(()),
            Err(error) => Err(broken("remove a container", &error)),
        }
    }

    /// Removes a container whose processes cannot be ended otherwise; the next command gets a new one.
    async fn discard(&self, container: &Container) -> Result<(), SandboxError> {
        for slot in [&self.main, &self.twin] {
            let mut slot = slot.lock().await;
            if slot.as_ref().is_some_and(|one| one.id == container.id) {
                *slot = None;
            }
        }
        self.remove(&container.id).await
    }

    async fn start_exec(
        &self,
        container: &Container,
        argv: Vec<String>,
        env: Vec<String>,
        cwd: String,
    ) -> Result<(String, StartExecResults), bollard::errors::Error> {
        let (user, group) = self.order.owner;
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(argv),
            env: Some(env),
            user: Some(format!("{user}:{group}")),
            working_dir: Some(cwd),
            ..Default::default()
        };
        let made = self.client.create_exec(&container.id, options).await?;
        let options = StartExecOptions { detach: false, tty: false, output_capacity: Some(16 * 1024) };
        Ok((made.id.clone(), self.client.start_exec(&made.id, Some(options)).await?))
    }

    /// Ends a command's processes, or all but the sleeper's; where that fails, the container goes.
    async fn kill(&self, container: &Container, mark: &str, alone: bool) -> Result<(), SandboxError> {
        let script = if alone { KILL_ALL.to_owned() } else { format!("{SWEEP}\nsweep\nexit 0") };
        let argv = ["sh", "-c", &script, "sh", mark].map(str::to_owned).to_vec();
        let tried = async {
            let (id, started) = self.start_exec(container, argv, Vec::new(), "/".into()).await?;
            if let StartExecResults::Attached { mut output, .. } = started {
                while output.next().await.is_some() {}
            }
            self.client.inspect_exec(&id).await
        };
        match tokio::time::timeout(Duration::from_secs(10), tried).await {
            Ok(Ok(ended)) if matches!(ended.exit_code, Some(0 | 137)) => Ok(()),
            _ => self.discard(container).await,
        }
    }

    async fn run(
        &self,
        command: &Command,
        printed: &(dyn for<'a> Fn(&'a str) + Send + Sync),
    ) -> Result<ExecOutcome, SandboxError> {
        let container = self.container(self.order.writable && command.writable).await?;
        let started = Instant::now();
        let before = container.hits();
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let mark = format!("CODEFORGE_COMMAND={number}.");
        let mut argv = ["sh", "-c", &format!("{SWEEP}\n{RUN}"), "sh", &mark].map(str::to_owned).to_vec();
        argv.extend(command.argv.iter().cloned());
        if !command.home_files.is_empty() {
            self.write_home(&container, command).await?;
        }
        let path = match self.shown.path_text() {
            more if more.is_empty() => PATH.to_owned(),
            more => format!("{PATH}:{more}"),
        };
        let env = guard::environment(&path, "/home/agent", &self.order.env, &command.env);
        let env = env.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cwd = Path::new("/workspace").join(&command.cwd).to_string_lossy().into_owned();
        let mut gather = Gather::new(command.output_cap, printed);
        let deadline = tokio::time::Instant::now() + Duration::from_millis(command.timeout_ms);
        let begun = tokio::time::timeout_at(deadline, self.start_exec(&container, argv, env, cwd)).await;
        let (exec, streams) = match begun {
            Ok(Ok(begun)) => begun,
            Ok(Err(error)) => return Err(self.lost(&container, "start a command", &error).await),
            Err(_) => {
                self.discard(&container).await?;
                return Err(SandboxError::Broken("docker did not start the command before its deadline".into()));
            }
        };
        let StartExecResults::Attached { mut output, input } = streams else {
            return Err(SandboxError::Broken("docker detached from a command".into()));
        };
        drop(input);
        let ended = loop {
            tokio::select! {
                piece = output.next() => match piece {
                    Some(Ok(piece)) => gather.push(&piece.into_bytes()),
                    Some(Err(error)) => return Err(self.lost(&container, "read a command's output", &error).await),
                    None => break true,
                },
                () = tokio::time::sleep_until(deadline) => break false,
                () = self.closed.cancelled() => {
                    return Err(SandboxError::Broken("the sandbox was closed while a command ran".into()));
                }
            }
        };
        if !ended {
            self.kill(&container, &mark, self.active.load(Ordering::Relaxed) <= 1).await?;
            let rest = async {
                while let Some(Ok(piece)) = output.next().await {
                    gather.push(&piece.into_bytes());
                }
            };
            if tokio::time::timeout(Duration::from_secs(5), rest).await.is_err() {
                self.discard(&container).await?;
            }
        }
        let code = if ended { self.code(&container, &exec).await? } else { 0 };
        let after = container.hits();
        let status = if !ended {
            ExecStatus::TimedOut
        } else if after.memory > before.memory {
            ExecStatus::OutOfMemory
        } else if code != 0 && after.pids > before.pids {
            // What is left of a fork bomb may have kept the runner from cleaning up.
            self.kill(&container, &mark, self.active.load(Ordering::Relaxed) <= 1).await?;
            ExecStatus::TooManyProcesses
        } else if matches!(code - 128, 4 | 6 | 7 | 8 | 9 | 11 | 13 | 15 | 24 | 25 | 31) {
            // The runner is a shell: it tells a signal so.
            ExecStatus::Signaled(code - 128)
        } else {
            ExecStatus::Exited(code)
        };
        let (output, dropped) = gather.finish();
        Ok(ExecOutcome { status, output, dropped, duration_ms: started.elapsed().as_millis() as u64 })
    }

    async fn code(&self, container: &Container, exec: &str) -> Result<i32, SandboxError> {
        // The stream may end a moment before the daemon has noted the exit.
        for _ in 0..200 {
            match self.client.inspect_exec(exec).await {
                Ok(found) => {
                    if let (Some(code), Some(false)) = (found.exit_code, found.running) {
                        return Ok(code as i32);
                    }
                }
                Err(error) => return Err(self.lost(container, "ask how a command ended", &error).await),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Its output is shut, but it runs on: it is ended with the container.
        self.discard(container).await?;
        Err(SandboxError::Broken("docker: a command's output ended, but the command did not".into()))
    }

    /// An error while at work: the container may be gone, and the next command is to get a new one.
    async fn lost(&self, container: &Container, doing: &str, error: &bollard::errors::Error) -> SandboxError {
        let running = self.client.inspect_container(&container.id, None).await;
        let running = running.is_ok_and(|found| found.state.and_then(|state| state.running) == Some(true));
        if !running {
            let _ = self.discard(container).await;
        }
        broken(doing, error)
    }
}

#[async_trait]
impl Sandbox for Contained {
    fn kind(&self) -> DriverKind {
        DriverKind::Docker
    }

    async fn exec(
        &self,
        order: Order,
        printed: &(dyn for<'a> Fn(&'a str) + Send + Sync),
    ) -> Result<ExecOutcome, SandboxError> {
        guard::check_command(order.command())?;
        if self.closed.is_cancelled() {
            return Err(SandboxError::Broken("the sandbox was closed".into()));
        }
        struct Count<'a>(&'a AtomicU64);
        impl Drop for Count<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.active.fetch_add(1, Ordering::Relaxed);
        let _counted = Count(&self.active);
        self.run(order.command(), printed).await
    }

    async fn close(&self) -> Result<(), SandboxError> {
        self.closed.cancel();
        let mut result = Ok(());
        for slot in [&self.main, &self.twin] {
            if let Some(container) = slot.lock().await.take() {
                result = self.remove(&container.id).await.and(result);
            }
        }
        result
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        self.closed.cancel();
        let left: Vec<_> =
            [&mut self.main, &mut self.twin].into_iter().filter_map(|slot| slot.get_mut().take()).collect();
        if left.is_empty() {
            return;
        }
        // As far as dropping can: where no runtime is left, the next engine reaps it by its label.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let client = self.client.clone();
            runtime.spawn(async move {
                for container in left {
                    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
                    let _ = client.remove_container(&container.id, Some(options)).await;
                }
            });
        }
    }
}
