//! The outer helper: makes the namespaces, starts the first process inside, and ends it when the engine goes.

use super::fork::{self, Forked};
use super::spec::{self, Inner, Outer, Report, Rights};
use super::{inner, net};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use rustix::process::{PidfdFlags, pidfd_open};
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::fs::File;
use std::os::fd::AsFd;

/// Runs as the outer helper, whose socket is its standard input; an exit code.
pub(super) fn run() -> u8 {
    let Ok(control) = std::io::stdin().as_fd().try_clone_to_owned() else { return 70 };
    let mut control = File::from(control);
    match begin(&mut control) {
        Ok(code) => code,
        Err(what) => {
            let _ = spec::write_frame(&mut control, &Report::Failed(what));
            70
        }
    }
}

/// Builds around a copy of this process, and waits for its end. The copy returns here too, as the first process inside.
fn begin(control: &mut File) -> Result<u8, String> {
    let order: Outer = spec::read_frame(control).map_err(|error| format!("cannot read the order: {error}"))?;
    let mut flags =
        CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    if !order.network {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    if order.rights == Rights::UserNamespace {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    unshare(flags).map_err(|error| format!("cannot make namespaces: {error}"))?;
    if order.rights == Rights::UserNamespace {
        let map = |file: &str, text: String| {
            std::fs::write(format!("/proc/self/{file}"), text).map_err(|error| format!("cannot write {file}: {error}"))
        };
        map("setgroups", "deny".into())?;
        map("uid_map", format!("{} {user} 1", super::INSIDE))?;
        map("gid_map", format!("{} {group} 1", super::INSIDE))?;
        keep_building_rights().map_err(|error| format!("cannot keep rights for building: {error}"))?;
    }

    // This process is in the new network itself, and still has all rights over it. Tests talk to servers of their own.
    if !order.network {
        net::loopback_up().map_err(|error| format!("cannot bring up the loopback interface inside: {error}"))?;
    }
    if let Some(port) = order.listen {
        net::listen(port)
            .and_then(|listener| net::send(control, &listener))
            .map_err(|error| format!("cannot listen at 127.0.0.1:{port} inside: {error}"))?;
    }

    let pid = match fork::fork().map_err(|error| format!("cannot start the first process inside: {error}"))? {
        Forked::Child => return Ok(inner::run()),
        Forked::Parent(pid) => pid,
    };
    // The engine shut its side (nix has no name for this flag).
    let hung_up = PollFlags::from_bits_retain(nix::libc::POLLRDHUP);
    let number = rustix::process::Pid::from_raw(pid.as_raw());
    let watched = number.and_then(|number| pidfd_open(number, PidfdFlags::empty()).ok());
    if let Some(watched) = watched {
        loop {
            let mut both = [PollFd::new(control.as_fd(), hung_up), PollFd::new(watched.as_fd(), PollFlags::POLLIN)];
            match poll(&mut both, PollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => continue,
                Err(_) => break,
                Ok(_) => {
                    let [engine, _] = &both;
                    if engine.revents() != Some(PollFlags::empty()) {
                        // The engine hung up or is gone: nothing inside outlives it.
                        let _ = kill(pid, Signal::SIGKILL);
                    }
                    break;
                }
            }
        }
    }
    while waitpid(pid, None) == Err(nix::errno::Errno::EINTR) {}
    Ok(0)
}

/// Starting a program as a user other than 0 loses all capabilities, unless they are ambient.
fn keep_building_rights() -> rustix::io::Result<()> {
    let all = rustix::thread::capabilities(None)?;
    // The work folder of an overlay is made without permissions, and written to.
    let wanted = [CapabilitySet::SYS_ADMIN, CapabilitySet::SETPCAP, CapabilitySet::DAC_OVERRIDE];
    let set = wanted.iter().fold(CapabilitySet::empty(), |set, one| set | *one);
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: all.effective, permitted: all.permitted, inheritable: set },
    )?;
    wanted.iter().try_for_each(|one| rustix::thread::configure_capability_in_ambient_set(*one, true))
}

/// The first process inside reads its own frame from the same socket.
pub(super) fn inner_order(control: &mut File) -> Result<Inner, String> {
    spec::read_frame(control).map_err(|error| format!("cannot read the order: {error}"))
}
