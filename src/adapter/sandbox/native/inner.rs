//! The first process inside: builds the file tree, gives up every right, starts the command, buries the dead and
//! reports how the command ended, once nothing else is alive in its process namespace.

use super::spec::{self, Inner, Job, Opening, Report, Rights};
use super::{confine, net, tree};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs::File;
use std::os::fd::AsFd;
use std::process::Stdio;

/// Runs as the first process inside; `own_network`: it is the first one in its network, too. An exit code.
pub(super) fn run(mut control: File, opening: &Opening, own_network: bool) -> u8 {
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let report = match begin(&mut control, opening, own_network) {
        Ok(report) => report,
        Err(what) => Report::Failed(what),
    };
    let _ = spec::write_frame(&mut control, &report);
    0
}

/// Names the user inside.
fn map_user((user, group): (u32, u32)) -> Result<(), String> {
    let map = |file: &str, text: String| {
        std::fs::write(format!("/proc/self/{file}"), text).map_err(|error| format!("cannot write {file}: {error}"))
    };
    map("setgroups", "deny".into())?;
    map("uid_map", format!("{} {user} 1", super::INSIDE))?;
    map("gid_map", format!("{} {group} 1", super::INSIDE))
}

fn begin(control: &mut File, opening: &Opening, own_network: bool) -> Result<Report, String> {
    if let Some(outside) = opening.outside {
        map_user(outside)?;
    }
    // This process still has all rights over its network. Tests talk to servers of their own.
    if own_network {
        net::loopback_up().map_err(|error| format!("cannot bring up the loopback interface inside: {error}"))?;
    }
    if let Some(port) = opening.listen {
        net::listen(port)
            .and_then(|listener| net::send(control, &listener))
            .map_err(|error| format!("cannot listen at 127.0.0.1:{port} inside: {error}"))?;
    }
    let order: Inner = spec::read_frame(control).map_err(|error| format!("cannot read the order: {error}"))?;
    let mut lacks = tree::build(&order)?;
    let _ = nix::unistd::sethostname("sandbox");
    if let Rights::Root { user, group } = order.rights {
        // So that `/dev/stdout` and `/dev/stderr` can be opened by the user that commands run as.
        let (user, group) = (nix::unistd::Uid::from_raw(user), nix::unistd::Gid::from_raw(group));
        let _ = nix::unistd::fchown(std::io::stdout().as_fd(), Some(user), Some(group));
        let _ = nix::unistd::fchown(std::io::stderr().as_fd(), Some(user), Some(group));
    }
    lacks.extend(confine::confine(&order)?);
    // Changing the user cleared it.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));

    // As the user that the command runs as, so that it may change them.
    for (path, text) in &order.home_files {
        let path = std::path::Path::new("/home/agent").join(path);
        let write = || {
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            std::fs::write(&path, text)
        };
        write().map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }

    // A sandbox that was made ahead waits here. One that is not needed is ended from outside.
    let job: Job = spec::read_frame(control).map_err(|error| format!("cannot read the command: {error}"))?;
    let (program, arguments) = job.argv.split_first().ok_or("the command is empty")?;
    #[expect(clippy::disallowed_methods, reason = "the helper's work is to start the command")]
    let mut command = std::process::Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(job.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&job.cwd)
        .stdin(Stdio::null());
    if let Err(error) = std::env::set_current_dir(&job.cwd) {
        return Ok(Report::NotStarted(126, format!("{}: {error}", job.cwd.display())));
    }
    spec::write_frame(control, &Report::Started(lacks)).map_err(|error| error.to_string())?;
    let child = match command.spawn() {
        Ok(child) => child.id() as i32,
        Err(error) => {
            let code = if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
            return Ok(Report::NotStarted(code, format!("{program}: {error}")));
        }
    };
    let ended = loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid.as_raw() == child => break Report::Exited(code),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid.as_raw() == child => break Report::Signaled(signal as i32),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(format!("cannot wait for the command: {error}")),
        }
    };
    end_all();
    // The driver reads what was printed to its end; this process is the last one that could print.
    nix::unistd::dup2_stdout(control.as_fd())
        .and_then(|()| nix::unistd::dup2_stderr(control.as_fd()))
        .map_err(|error| format!("cannot let go of the output: {error}"))?;
    Ok(ended)
}

/// Ends whatever the command left running, and waits until it is no more: what the driver does next nobody disturbs.
/// The kernel would do the same when this process ends, together with much that the driver need not wait for.
fn end_all() {
    loop {
        // Everything but this process itself.
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        match waitpid(None, None) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}
