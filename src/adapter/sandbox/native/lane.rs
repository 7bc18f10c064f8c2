//! Lanes: a control group that is used by one command at a time, with a process that waits in it and starts helpers.
//!
//! Moving a process into a control group makes the kernel wait until every processor has passed through its scheduler:
//! some ten milliseconds, for each command. A process that is *born* in a group costs nothing. So one process of ours
//! moves once, stays, and is told over a socket to start a helper, whose own sockets come along as descriptors.

use super::cgroup::{Group, Hits};
use super::fork::{self, Forked};
use super::spec::{self, Report};
use super::{confine, outer};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
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
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// A lane, on the driver's side. Dropping it ends whatever is in it.
pub(super) struct Lane {
    socket: UnixStream,
    launcher: Child,
    /// Last: it goes when its processes are gone.
    group: Group,
}

impl Lane {
    /// Starts a lane's process and tells it which group to join.
    pub(super) fn open(helper: &Path, group: Group) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        #[expect(clippy::disallowed_methods, reason = "this adapter's work is to start processes")]
        let mut launcher = std::process::Command::new(helper);
        launcher.arg(spec::LAUNCHER).env_clear().current_dir("/").stdin(OwnedFd::from(theirs));
        launcher.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let launcher = launcher.spawn()?;
        let lane = Self { socket: ours, launcher, group };
        spec::write_frame(&mut &lane.socket, &lane.group.doors())?;
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

/// A helper that was started: its number, and what tells that it ended.
type Started = (Pid, OwnedFd);

/// Runs as the process that waits in a lane, or as a copy of it that became a helper; an exit code.
pub(super) fn run() -> u8 {
    let Ok(socket) = std::io::stdin().as_fd().try_clone_to_owned() else { return 70 };
    match wait(File::from(socket)) {
        None => 0,
        Some((control, output)) => match become_helper(control.as_fd(), output.as_fd()) {
            Ok(()) => {
                drop((control, output));
                outer::run()
            }
            Err(_) => 70,
        },
    }
}

/// Starts helpers until the driver hangs up. `Some`: this is a helper now, with its socket and where it prints to, and
/// nothing else of the launcher's.
fn wait(mut socket: File) -> Option<(File, OwnedFd)> {
    let doors = spec::read_frame::<Vec<PathBuf>>(&mut socket).ok()?;
    // 0 is the writer itself; what it starts is counted with it.
    let joined = doors.iter().try_for_each(|door| {
        std::fs::write(door, "0").map_err(|error| format!("cannot join {}: {error}", door.display()))
    });
    confine::prepare();
    let mut helpers: Vec<Started> = Vec::new();
    while let Some((mut control, output)) = next(&socket, &mut helpers) {
        let started = match joined.clone().and_then(|()| fork::fork()) {
            Ok(Forked::Child) => return Some((control, output)),
            Ok(Forked::Parent(child)) => watched(child).map_err(|error| error.to_string()),
            Err(what) => Err(what),
        };
        match started {
            Ok(helper) => helpers.push(helper),
            Err(what) => {
                let failed = Report::Failed(format!("cannot start the sandbox's helper: {what}"));
                let _ = spec::write_frame(&mut control, &failed);
            }
        }
    }
    None
}

fn become_helper(control: BorrowedFd<'_>, output: BorrowedFd<'_>) -> nix::Result<()> {
    nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
    nix::unistd::dup2_stdin(control)?;
    nix::unistd::dup2_stdout(output)?;
    nix::unistd::dup2_stderr(output)
}

fn watched(child: Pid) -> io::Result<Started> {
    let number = rustix::process::Pid::from_raw(child.as_raw()).ok_or(io::ErrorKind::NotFound)?;
    Ok((child, pidfd_open(number, PidfdFlags::empty())?))
}

/// Waits for the next order, and buries helpers meanwhile. `None`: the driver hung up.
fn next(socket: &File, helpers: &mut Vec<Started>) -> Option<(File, OwnedFd)> {
    loop {
        let mut watched = vec![PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        watched.extend(helpers.iter().map(|(_, ended)| PollFd::new(ended.as_fd(), PollFlags::POLLIN)));
        match poll(&mut watched, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => return None,
            Ok(_) => {}
        }
        let ordered = watched.first().and_then(PollFd::revents) != Some(PollFlags::empty());
        drop(watched);
        helpers.retain(|(child, _)| matches!(waitpid(*child, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive)));
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
