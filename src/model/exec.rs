//! Commands in a sandbox and how they end.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which sandbox driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DriverKind {
    /// Docker where a daemon answers and has the image, else native.
    Auto,
    /// Containers through the Docker API.
    Docker,
    /// Namespaces, Landlock, seccomp and rlimits, without a daemon.
    Native,
    /// No isolation: only for explicitly trusted mounts.
    None,
}

/// What tools may see and change of the user's tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExecMode {
    /// A copy: the user's tree is untouched until delivery.
    Sandbox,
    /// The user's tree itself.
    Mount,
    /// The user's tree read-only at `/source`, a copy to work in.
    Hybrid,
}

/// A command for a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Program and arguments. Shell text is `["sh", "-c", text]`; nothing is ever spliced into that text.
    pub argv: Vec<String>,
    /// Working directory, relative to the workspace's root; empty for the root.
    pub cwd: String,
    /// Variables added to the sandbox's clean environment.
    pub env: BTreeMap<String, String>,
    /// Deadline in milliseconds; the whole process tree is killed when it passes.
    pub timeout_ms: u64,
    /// How many bytes of output are kept (the first and last halves of it).
    pub output_cap: usize,
    /// False: the workspace is mounted read-only for this command.
    pub writable: bool,
    /// Files written into the home folder before it starts: path beneath the home → text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub home_files: BTreeMap<String, String>,
}

impl Command {
    /// Shell text under `sh -c`, at the workspace's root, writable, 10 minutes, 64 KiB of output.
    pub fn shell(text: impl Into<String>) -> Self {
        Self {
            argv: vec!["sh".into(), "-c".into(), text.into()],
            cwd: String::new(),
            env: BTreeMap::new(),
            timeout_ms: 600_000,
            output_cap: 64 * 1024,
            writable: true,
            home_files: BTreeMap::new(),
        }
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecStatus {
    /// It exited with this code.
    Exited(i32),
    /// It was ended by this signal, not by us.
    Signaled(i32),
    /// Its deadline passed; the whole process tree is gone.
    TimedOut,
    /// The memory limit ended it, or one of its children.
    OutOfMemory,
    /// It ran into the process limit (a fork bomb, most likely) and failed.
    TooManyProcesses,
}

/// The end of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecOutcome {
    /// How it ended.
    pub status: ExecStatus,
    /// Standard output and error, interleaved as they came, cleaned of control sequences, capped.
    pub output: String,
    /// Bytes that the cap dropped from the middle.
    pub dropped: u64,
    /// Wall time in milliseconds.
    pub duration_ms: u64,
}

impl ExecOutcome {
    /// Whether it exited with 0.
    pub fn success(&self) -> bool {
        self.status == ExecStatus::Exited(0)
    }

    /// `exit code 1`, `timed out`, `out of memory`, … for people and models.
    pub fn describe(&self) -> String {
        match self.status {
            ExecStatus::Exited(code) => format!("exit code {code}"),
            ExecStatus::Signaled(signal) => format!("ended by signal {signal}"),
            ExecStatus::TimedOut => "timed out; the whole process tree was killed".into(),
            ExecStatus::OutOfMemory => "out of memory: the sandbox's memory limit ended it".into(),
            ExecStatus::TooManyProcesses => "too many processes: the sandbox's process limit stopped it".into(),
        }
    }
}
