//! What the driver tells its helper, and what the helper answers, over one socket: frames of a length (four bytes,
//! little endian) and JSON. Nothing of it is in arguments or variables, which other processes could read.

use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::path::PathBuf;

/// The first argument that makes this binary the process that waits in a lane.
pub(super) const LAUNCHER: &str = "__sandbox-launcher";

/// A frame longer than this is no frame of ours.
const LONGEST: u32 = 64 << 20;

/// Whose rights build the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Rights {
    /// Host root builds it, and the command runs as this other host user.
    Root { user: u32, group: u32 },
    /// A user namespace, in which 1000:1000 is the helper's own user.
    UserNamespace,
}

/// For a lane's process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Opening {
    /// The files by which it joins its control group.
    pub(super) doors: Vec<PathBuf>,
    pub(super) rights: Rights,
    /// Whether commands are in the host's network.
    pub(super) network: bool,
    /// The port to listen at inside, for the driver; not with `network`.
    pub(super) listen: Option<u16>,
    /// The host's user and group that are [`INSIDE`](super::INSIDE) inside, with a user namespace.
    pub(super) outside: Option<(u32, u32)>,
}

/// A mount of the host's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bind {
    /// On the host, without symbolic links.
    pub(super) from: PathBuf,
    /// Inside.
    pub(super) to: PathBuf,
    pub(super) writable: bool,
}

/// Something small that is made inside, not taken from the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Made {
    /// A symbolic link: where, and its target.
    Link(PathBuf, PathBuf),
    /// A file with this text.
    File(PathBuf, String),
}

/// For the first process inside: what it builds, before it is told what to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Inner {
    pub(super) rights: Rights,
    pub(super) binds: Vec<Bind>,
    pub(super) made: Vec<Made>,
    /// Whether `/workspace` is written by the command.
    pub(super) writable: bool,
    /// What `/home/agent` is.
    pub(super) home: HomeKind,
    /// Empty folders over these paths inside.
    pub(super) hide_folders: Vec<PathBuf>,
    /// Empty files over these paths inside.
    pub(super) hide_files: Vec<PathBuf>,
    /// Bytes of each scratch file system.
    pub(super) scratch: u64,
    /// Bytes that one file may take.
    pub(super) file_size: u64,
    /// `RLIMIT_NPROC`, where no cgroup counts processes.
    pub(super) processes: Option<u64>,
    /// `RLIMIT_DATA`, where no cgroup counts memory.
    pub(super) data: Option<u64>,
    /// Files to write into the home folder: path beneath it, text.
    pub(super) home_files: Vec<(PathBuf, String)>,
}

/// For the first process inside, once all is built: the command.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) argv: Vec<String>,
    pub(super) cwd: PathBuf,
    pub(super) env: Vec<(String, String)>,
}

/// What `/home/agent` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum HomeKind {
    /// A tmpfs.
    Memory,
    /// A folder of the host's, bound there.
    Host,
    /// A tmpfs above the host's folder at [`HOME_BELOW`].
    Layered,
}

/// Where the host's folder under a layered home is bound.
pub(super) const HOME_BELOW: &str = "/run/codeforge/home";

/// What the helper reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Report {
    /// The sandbox could not be made: what, and why.
    Failed(String),
    /// A listener inside; its descriptor comes along.
    Listening,
    /// The command runs; protections that could not be had.
    Started(Vec<String>),
    /// The program could not be started inside: the shell's code for it, and why.
    NotStarted(i32, String),
    /// It exited with this code.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
}

impl Report {
    /// Whether nothing comes after it: the command, and whatever it started, is no more.
    pub(super) fn is_last(&self) -> bool {
        !matches!(self, Self::Listening | Self::Started(_))
    }

    /// Whether it says that the command was begun, or could not be.
    pub(super) fn is_begun(&self) -> bool {
        !matches!(self, Self::Failed(_) | Self::Listening)
    }
}

/// One frame's bytes.
pub(super) fn frame<T: Serialize>(value: &T) -> std::io::Result<Vec<u8>> {
    let body = serde_json::to_vec(value)?;
    let length = u32::try_from(body.len()).ok().filter(|length| *length <= LONGEST);
    let length = length.ok_or_else(|| std::io::Error::other("the command is too long"))?;
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Reads one frame.
pub(super) fn read_frame<T: for<'a> Deserialize<'a>>(from: &mut impl Read) -> std::io::Result<T> {
    let mut length = [0u8; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > LONGEST {
        return Err(std::io::Error::other("not a frame"));
    }
    let mut body = vec![0u8; length as usize];
    from.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

/// Writes one frame.
pub(super) fn write_frame<T: Serialize>(to: &mut impl Write, value: &T) -> std::io::Result<()> {
    to.write_all(&frame(value)?)
}
