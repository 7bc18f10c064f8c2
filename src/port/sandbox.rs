//! Where commands run.

use crate::model::exec::{Command, DriverKind, ExecOutcome};
use crate::model::id::RunId;
use crate::model::plan::Resources;
use crate::policy::Approved;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::fmt;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Makes sandboxes.
#[async_trait]
pub trait SandboxDriver: Send + Sync {
    /// Which driver this is (never `Auto`).
    fn kind(&self) -> DriverKind;

    /// Whether it can be used here, and what it would lack. Probes, never assumes.
    async fn probe(&self, image: Option<&str>) -> Probe;

    /// Opens a sandbox. Nothing of the operator's environment is inside but what `order.env` says.
    ///
    /// # Errors
    /// [`SandboxError`], with what to do about it.
    async fn open(&self, order: &OpenSandbox) -> Result<Box<dyn Sandbox>, SandboxError>;

    /// Ends and removes what earlier, killed engines left behind (all runs, or one). Returns how many.
    ///
    /// # Errors
    /// [`SandboxError`] where the driver cannot be reached.
    async fn reap(&self, run: Option<&RunId>) -> Result<usize, SandboxError>;
}

/// What a driver found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Whether a sandbox can be opened.
    pub usable: bool,
    /// One line for people: version and parts, or why not and what to do.
    pub detail: String,
    /// Protections that cannot be had here, by name (`landlock: kernel too old`).
    pub lacks: Vec<String>,
}

/// A sandbox to open.
#[derive(Debug, Clone)]
pub struct OpenSandbox {
    /// For labels and reaping.
    pub run: RunId,
    /// A name that is unique within the run (`implement-1`, `gate-tests-3`).
    pub name: String,
    /// The workspace on the host; seen inside at `/workspace`.
    pub workspace: PathBuf,
    /// False: read-only for all commands.
    pub writable: bool,
    /// The disposable git directory on the host, seen inside as `/workspace/.git`; `None`: there is no `.git` inside.
    pub git_dir: Option<PathBuf>,
    /// The repository's object folder on the host, seen inside read-only at `/run/codeforge/objects`.
    pub git_objects: Option<PathBuf>,
    /// The user's tree, seen inside read-only at `/source` (`exec_mode: hybrid`).
    pub source: Option<PathBuf>,
    /// What `$HOME` is, seen inside at `/home/agent`.
    pub home: Home,
    /// Image, for docker.
    pub image: Option<String>,
    /// Limits.
    pub resources: Resources,
    /// True: the host's network (only ever for `setup`); false: none, not even a route.
    pub network: bool,
    /// Variables inside, beside `PATH`, `HOME`, `LANG` and `TERM`.
    pub env: BTreeMap<String, String>,
    /// Host user and group that own the workspace and that commands are to run as, as seen by the host.
    pub owner: (u32, u32),
    /// A listener inside, whose connections are served outside; the only way out. Not with `network`.
    pub loopback: Option<Loopback>,
    /// A program that is not ours works inside; its home is a scratch folder under every driver.
    pub guest: Option<Guest>,
}

/// A program of the operator's choice (another agent), which may lie outside the system's folders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guest {
    /// Programs that have to be there, by name or whole path. They are looked for on the operator's `PATH`; what they
    /// stand on (environment, interpreter) is shown read-only at its own place.
    pub programs: Vec<String>,
    /// Folders of the host to show besides, read-only at their own place; `~/` stands for the operator's home.
    pub show: Vec<PathBuf>,
}

/// A listener inside a sandbox that has a network of its own: commands reach it at `127.0.0.1:port`.
#[derive(Clone)]
pub struct Loopback {
    /// The port inside.
    pub port: u16,
    /// Is given the listener, once for each network that the driver makes (for each command, or once a sandbox). Who
    /// takes it serves it until the sandbox is closed.
    pub hand_over: Arc<dyn Fn(TcpListener) + Send + Sync>,
}

impl fmt::Debug for Loopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loopback").field("port", &self.port).finish_non_exhaustive()
    }
}

/// The home folder of commands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Home {
    /// Empty, in memory; gone with the sandbox, or with the command.
    #[default]
    Fresh,
    /// This folder of the host; what is written stays. For `setup`.
    Kept(PathBuf),
    /// What this folder of the host holds. What is written is gone with the sandbox, or with the command: the folder
    /// stays as it is (but under the driver `none`, which isolates nothing).
    Over(PathBuf),
}

impl Home {
    /// The host's folder.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Fresh => None,
            Self::Kept(folder) | Self::Over(folder) => Some(folder),
        }
    }
}

/// Who asks for a command.
#[derive(Debug)]
pub enum Order {
    /// The operator's text: `run:` steps, gates, `setup`. Logged, not judged.
    Operator(Command),
    /// An agent's call, which the policy has approved.
    Agent(Command, Approved),
}

impl Order {
    /// The command itself.
    pub fn command(&self) -> &Command {
        match self {
            Self::Operator(command) | Self::Agent(command, _) => command,
        }
    }
}

/// An open sandbox. Dropping it ends everything in it, as far as dropping can; `close` does it in order.
#[async_trait]
pub trait Sandbox: Send + Sync {
    /// Which driver made it.
    fn kind(&self) -> DriverKind;

    /// Runs one command to its end, its deadline or its limit. Whatever it left running is killed. `printed` is given
    /// the output as it comes, cleaned of control sequences. Several commands may run at once.
    ///
    /// # Errors
    /// [`SandboxError`] where the command could not be run at all. A command that fails is an outcome, not an error.
    async fn exec(
        &self,
        order: Order,
        printed: &(dyn for<'a> Fn(&'a str) + Send + Sync),
    ) -> Result<ExecOutcome, SandboxError>;

    /// The home folder of commands, as they see it.
    fn home(&self) -> PathBuf {
        PathBuf::from("/home/agent")
    }

    /// Ends everything in it and removes it.
    ///
    /// # Errors
    /// [`SandboxError`] where something may be left.
    async fn close(&self) -> Result<(), SandboxError>;
}

/// Why a sandbox cannot do something.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The driver cannot be used here: the environment's fault, with the cure. Exit 5.
    #[error("{0}")]
    Unavailable(String),
    /// What was asked is refused (a mount of the docker socket, a forbidden variable): the operator's fault. Exit 2.
    #[error("{0}")]
    Refused(String),
    /// A guest's program is not there: the environment's fault. Exit 5.
    #[error("the program `{0}` is not on PATH")]
    Missing(String),
    /// It broke while at work (the daemon restarted, the disk is full): the environment's fault.
    #[error("{0}")]
    Broken(String),
}
