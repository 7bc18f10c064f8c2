//! The first process inside: builds the file tree, gives up every right, starts the command, buries the dead and
//! reports how the command ended. When it ends, the kernel ends everything else in its process namespace.

use super::spec::{self, Job, Report, Rights};
use super::{confine, outer, tree};
use nix::sys::wait::{WaitStatus, waitpid};
use std::fs::File;
use std::os::fd::AsFd;
use std::process::Stdio;

/// Runs as the first process inside; an exit code.
pub(super) fn run() -> u8 {
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let Ok(control) = std::io::stdin().as_fd().try_clone_to_owned() else { return 70 };
    let mut control = File::from(control);
    let report = match begin(&mut control) {
        Ok(report) => report,
        Err(what) => Report::Failed(what),
    };
    let _ = spec::write_frame(&mut control, &report);
    0
}

fn begin(control: &mut File) -> Result<Report, String> {
    let order = outer::inner_order(control)?;
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
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid.as_raw() == child => return Ok(Report::Exited(code)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid.as_raw() == child => {
                return Ok(Report::Signaled(signal as i32));
            }
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(format!("cannot wait for the command: {error}")),
        }
    }
}
