//! The one way out of a container without a network: a listener made in the container's network, served outside.

use crate::port::sandbox::{Loopback, SandboxError};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};

/// Listens inside the network of a container's first process and hands the listener over.
///
/// # Errors
/// [`SandboxError::Unavailable`] without the rights to enter it, or where the container is another machine's.
pub(super) fn listen(pid: Option<i64>, container: &str, loopback: &Loopback) -> Result<(), SandboxError> {
    let unavailable = |why: String| {
        SandboxError::Unavailable(format!(
            "a program in a docker sandbox cannot reach the gateway: {why}. Run as root on the daemon's own machine, or \
             choose `driver: native`"
        ))
    };
    let Some(pid) = pid.filter(|pid| *pid > 0 && is_of(*pid, container)) else {
        return Err(unavailable("the container's processes are not to be seen from here".into()));
    };
    if !nix::unistd::geteuid().is_root() {
        return Err(unavailable(
            "entering the container's network needs root; the group `docker` is not enough".into(),
        ));
    }
    let network = File::open(format!("/proc/{pid}/ns/net")).map_err(|error| unavailable(error.to_string()))?;
    let port = loopback.port;
    // On a thread of its own, which ends with it: only that thread is ever in the other network.
    let listening = std::thread::Builder::new()
        .name("enter-network".into())
        .spawn(move || -> std::io::Result<TcpListener> {
            setns(&network, CloneFlags::CLONE_NEWNET)?;
            TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        })
        .map(std::thread::JoinHandle::join);
    match listening {
        Ok(Ok(Ok(listener))) => {
            (loopback.hand_over)(listener);
            Ok(())
        }
        Ok(Ok(Err(error))) => Err(unavailable(format!("listening at 127.0.0.1:{port} inside: {error}"))),
        Ok(Err(_)) => Err(SandboxError::Broken("the thread that enters a container's network broke".into())),
        Err(error) => Err(SandboxError::Broken(format!("no thread to enter a container's network: {error}"))),
    }
}

/// Whether a process of this machine is a container's: with a remote daemon the number means somebody else.
fn is_of(pid: i64, container: &str) -> bool {
    ["cgroup", "mountinfo"]
        .iter()
        .any(|file| std::fs::read_to_string(format!("/proc/{pid}/{file}")).is_ok_and(|text| text.contains(container)))
}
