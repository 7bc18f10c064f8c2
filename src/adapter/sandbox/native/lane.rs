//! Lanes: a control group that is used by one command at a time, with a process that waits in it and starts helpers.
//!
//! Moving a process into a control group makes the kernel wait until every processor has passed through its scheduler:
//! some ten milliseconds, for each command. A process that is *born* in a group costs nothing. So one process of ours
//! moves once, stays, and is told over a socket to start a helper, whose own sockets come along as descriptors. It ends
//! each helper whose driver hangs up.

use super::cgroup::{Group, Hits};
use super::fork::{self, Forked};
use super::spec::{self, Opening, Report, Rights};
use super::{GRACE, confine, inner, net};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use rustix::process::{PidfdFlags, pidfd_open};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use tokio::net::unix::OwnedReadHalf;

/// A lane, on the driver's side. Dropping it ends whatever is in it.
pub(super) struct Lane {
    socket: UnixStream,
    launcher: Child,
    /// What the last helper's report came over. Its command is no more; until this ends, parts of the sandbox may be.
    leaving: Option<OwnedReadHalf>,
    /// Last: it goes when its processes are gone.
    group: Group,
}

impl Lane {
    /// Starts a lane's process and tells it which group to join.
    pub(super) fn open(helper: &Path, group: Group, opening: &Opening) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        #[expect(clippy::disallowed_methods, reason = "this adapter's work is to start processes")]
        let mut launcher = std::process::Command::new(helper);
        launcher.arg(spec::LAUNCHER).env_clear().current_dir("/").stdin(OwnedFd::from(theirs));
        launcher.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let launcher = launcher.spawn()?;
        let lane = Self { socket: ours, launcher, leaving: None, group };
        spec::write_frame(&mut &lane.socket, opening)?;
        Ok(lane)
    }

    /// Has a helper started: its socket, and where it and its command print to.
    pub(super) fn start(&self, control: BorrowedFd<'_>, output: BorrowedFd<'_>) -> io::Result<()> {
        let handed = [control, output];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut with = SendAncillaryBuffer::new(&mut space);
        with.push(SendAncillaryMessage::ScmRights(&handed));
        let sent = rustix::net::sendmsg(&self.socket, &[IoSlice::new(&[1])], &mut with, SendFlags::NOSIGNAL)?;
        if sent == 1 { Ok(()) } else { Err(io::Error::other("the sandbox's launcher does not listen")) }
    }

    /// Says that a helper's command is no more, and over what its end will be seen.
    pub(super) fn leave(&mut self, reported: OwnedReadHalf) {
        self.leaving = Some(reported);
    }

    /// Waits until nothing of the last helper is left; whether that is so.
    pub(super) async fn is_empty(&mut self) -> bool {
        let Some(leaving) = self.leaving.take() else { return true };
        let mut rest = [0u8; 64];
        let end = async {
            while leaving.readable().await.is_ok() {
                match leaving.try_read(&mut rest) {
                    Ok(1..) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Ok(0) | Err(_) => break,
                }
            }
        };
        tokio::time::timeout(GRACE, end).await.is_ok()
    }

    /// How often the group's limits were hit so far.
    pub(super) fn hits(&self) -> Hits {
        self.group.hits()
    }

    /// Kills whatever is in it, the process that starts helpers too: the lane is of no use any more.
    pub(super) fn kill(&self) {
        self.group.kill();
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let _ = self.launcher.kill();
        let _ = self.launcher.wait();
    }
}

/// A helper that was started.
struct Started {
    pid: Pid,
    /// Tells that it ended.
    ended: OwnedFd,
    /// Its socket. The driver shuts its own side of it, or is gone: nothing inside outlives that.
    control: File,
}

/// Runs as the process that waits in a lane, or as a copy of it that became a helper; an exit code.
pub(super) fn run() -> u8 {
    let Ok(socket) = std::io::stdin().as_fd().try_clone_to_owned() else { return 70 };
    let mut socket = File::from(socket);
    let Ok(opening) = spec::read_frame::<Opening>(&mut socket) else { return 70 };
    // 0 is the writer itself; what it starts is counted with it.
    let joined = opening.doors.iter().try_for_each(|door| {
        std::fs::write(door, "0").map_err(|error| format!("cannot join {}: {error}", door.display()))
    });
    confine::prepare();
    let namespaces = namespaces(&opening);
    match wait(socket, joined, namespaces) {
        None => 0,
        Some((control, output)) => match become_helper(control.as_fd(), output.as_fd()) {
            Ok(()) => {
                drop(output);
                inner::run(control, &opening, namespaces.contains(CloneFlags::CLONE_NEWNET))
            }
            Err(_) => 70,
        },
    }
}

/// Which namespaces each helper is put into.
fn namespaces(opening: &Opening) -> CloneFlags {
    let mut flags =
        CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    if opening.rights == Rights::UserNamespace {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    // A network takes the better part of a millisecond to make. Where nothing stays behind in it, one is enough for all
    // commands of a lane: they come one after the other, and share their workspace too.
    let one_for_all = opening.rights != Rights::UserNamespace && opening.listen.is_none();
    let shared = opening.network || (one_for_all && network_of_the_lane().is_ok());
    if !shared {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    flags
}

/// Puts this process into a network of its own, in which closed connections do not linger.
fn network_of_the_lane() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    net::loopback_up()?;
    // This network's own setting: the next command's server finds its port free.
    std::fs::write("/proc/sys/net/ipv4/tcp_max_tw_buckets", "0")
}

/// Starts helpers until the driver hangs up. `Some`: this is a helper now, with its socket and where it prints to, and
/// nothing else of the launcher's.
fn wait(socket: File, joined: Result<(), String>, namespaces: CloneFlags) -> Option<(File, OwnedFd)> {
    let mut helpers: Vec<Started> = Vec::new();
    while let Some((mut control, output)) = next(&socket, &mut helpers) {
        let forked = joined.clone().and_then(|()| {
            fork::fork(namespaces).map_err(|error| format!("cannot make namespaces: {error}"))
        });
        let failed = match forked {
            Ok(Forked::Child) => return Some((control, output)),
            Ok(Forked::Parent(pid)) => match watched(pid) {
                Ok(ended) => {
                    helpers.push(Started { pid, ended, control });
                    continue;
                }
                Err(error) => {
                    let _ = kill(pid, Signal::SIGKILL);
                    format!("cannot watch the sandbox's helper: {error}")
                }
            },
            Err(what) => what,
        };
        let _ = spec::write_frame(&mut control, &Report::Failed(failed));
    }
    None
}

fn become_helper(control: BorrowedFd<'_>, output: BorrowedFd<'_>) -> nix::Result<()> {
    nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
    nix::unistd::dup2_stdin(control)?;
    nix::unistd::dup2_stdout(output)?;
    nix::unistd::dup2_stderr(output)
}

fn watched(child: Pid) -> io::Result<OwnedFd> {
    let number = rustix::process::Pid::from_raw(child.as_raw()).ok_or(io::ErrorKind::NotFound)?;
    Ok(pidfd_open(number, PidfdFlags::empty())?)
}

/// Waits for the next order; ends helpers whose driver hung up, and buries the dead, meanwhile. `None`: the driver hung
/// up altogether, or is gone.
fn next(socket: &File, helpers: &mut Vec<Started>) -> Option<(File, OwnedFd)> {
    // The other side was shut (nix has no name for this flag).
    let hung_up = PollFlags::from_bits_retain(nix::libc::POLLRDHUP);
    loop {
        let mut watched = vec![PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        watched.extend(helpers.iter().map(|helper| PollFd::new(helper.ended.as_fd(), PollFlags::POLLIN)));
        watched.extend(helpers.iter().map(|helper| PollFd::new(helper.control.as_fd(), hung_up)));
        match poll(&mut watched, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => return None,
            Ok(_) => {}
        }
        let mut told = watched.iter().map(|one| one.revents() != Some(PollFlags::empty()));
        let ordered = told.next() == Some(true);
        let ended: Vec<bool> = told.by_ref().take(helpers.len()).collect();
        let hung_up: Vec<bool> = told.collect();
        drop(watched);
        let mut marks = ended.into_iter().zip(hung_up);
        helpers.retain(|helper| {
            let (ended, hung_up) = marks.next().unwrap_or_default();
            if hung_up && !ended {
                let _ = kill(helper.pid, Signal::SIGKILL);
            }
            // Who was killed is waited for: it takes a moment, and would be told of again and again meanwhile.
            let how = if hung_up { None } else { Some(WaitPidFlag::WNOHANG) };
            !(ended || hung_up) || matches!(waitpid(helper.pid, how), Ok(WaitStatus::StillAlive))
        });
        if ordered {
            return receive(socket);
        }
    }
}

fn receive(socket: &File) -> Option<(File, OwnedFd)> {
    let (mut byte, mut handed) = ([0u8], Vec::new());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut with = RecvAncillaryBuffer::new(&mut space);
    let got =
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut with, RecvFlags::CMSG_CLOEXEC).ok()?;
    for message in with.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            handed.extend(descriptors);
        }
    }
    let mut handed = handed.into_iter();
    match (got.bytes, handed.next(), handed.next()) {
        (1, Some(control), Some(output)) => Some((File::from(control), output)),
        _ => None,
    }
}
