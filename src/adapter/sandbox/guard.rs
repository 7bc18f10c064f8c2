//! What every driver refuses before it starts anything, and the environment it gives.

use crate::model::exec::Command;
use crate::port::sandbox::{Home, OpenSandbox, SandboxError};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// Where a daemon that can start containers may listen: whoever reaches one owns the host.
const SOCKETS: [&str; 6] = [
    "/var/run/docker.sock",
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/run/crio/crio.sock",
    "/run/dbus/system_bus_socket",
];

/// Variables that make a program load or run something else than was asked for.
const POISON: [&str; 28] = [
    "PATH",
    "HOME",
    "ENV",
    "BASH_ENV",
    "SHELLOPTS",
    "BASHOPTS",
    "PROMPT_COMMAND",
    "PS4",
    "IFS",
    "CDPATH",
    "NODE_OPTIONS",
    "NODE_PATH",
    "PERL5OPT",
    "PERL5LIB",
    "RUBYOPT",
    "RUBYLIB",
    "PYTHONSTARTUP",
    "PYTHONHOME",
    "JAVA_TOOL_OPTIONS",
    "_JAVA_OPTIONS",
    "DOCKER_HOST",
    "DOCKER_CONFIG",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_EXEC_PATH",
    "GIT_EXTERNAL_DIFF",
    "GIT_PROXY_COMMAND",
    "GCONV_PATH",
];

/// Folders that every sandbox shows of the system.
const SYSTEM: [&str; 9] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix"];

/// Whether a folder is one of the system's own, or lies in one.
pub(super) fn is_system(folder: &Path) -> bool {
    SYSTEM.iter().any(|system| folder.starts_with(system))
}

/// A daemon's socket that lies in a folder.
pub(super) fn socket_in(folder: &Path) -> Option<PathBuf> {
    SOCKETS.iter().filter_map(|socket| Path::new(socket).canonicalize().ok()).find(|socket| socket.starts_with(folder))
}

/// Refuses variables that poison, or that cannot be passed at all.
pub(super) fn check_env(env: &BTreeMap<String, String>) -> Result<(), SandboxError> {
    for (name, value) in env {
        let shaped = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name.chars().all(|each| each.is_ascii_alphanumeric() || each == '_');
        if !shaped {
            return Err(SandboxError::Refused(format!(
                "{name:?} is no name for an environment variable; use letters, digits and _"
            )));
        }
        if name.starts_with("LD_") || name.starts_with("DYLD_") || POISON.contains(&name.as_str()) {
            return Err(SandboxError::Refused(format!(
                "the variable {name} may not be set for a sandbox, because it changes which programs run; remove it from `env:`"
            )));
        }
        if value.contains('\0') {
            return Err(SandboxError::Refused(format!("the variable {name} holds a NUL byte")));
        }
    }
    Ok(())
}

/// Refuses a command that cannot be meant: no program, a working directory outside the workspace.
pub(super) fn check_command(command: &Command) -> Result<(), SandboxError> {
    check_env(&command.env)?;
    for path in command.home_files.keys() {
        if path.is_empty() || !Path::new(path).components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(SandboxError::Refused(format!("{path:?} is no place for a file in the home folder")));
        }
    }
    if command.argv.first().is_none_or(String::is_empty) {
        return Err(SandboxError::Refused("the command is empty".into()));
    }
    if command.argv.iter().any(|word| word.contains('\0')) {
        return Err(SandboxError::Refused("the command holds a NUL byte".into()));
    }
    let beneath =
        Path::new(&command.cwd).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !beneath || command.cwd.contains('\0') {
        return Err(SandboxError::Refused(format!(
            "the working directory {:?} is outside the workspace; name a folder beneath it",
            command.cwd
        )));
    }
    Ok(())
}

/// The folders of an order with symbolic links resolved, each known to exist and to hold no daemon's socket.
#[derive(Debug, Clone)]
pub(super) struct Places {
    pub(super) workspace: PathBuf,
    pub(super) git_dir: Option<PathBuf>,
    pub(super) git_objects: Option<PathBuf>,
    pub(super) source: Option<PathBuf>,
    pub(super) home: Home,
}

/// Checks an order's folders and variables.
pub(super) fn check_order(order: &OpenSandbox, daemon_socket: Option<&Path>) -> Result<Places, SandboxError> {
    check_env(&order.env)?;
    if order.network && order.loopback.is_some() {
        return Err(SandboxError::Refused(
            "a sandbox with the host's network has no network of its own to listen in".into(),
        ));
    }
    let sockets: Vec<PathBuf> =
        SOCKETS.iter().map(Path::new).chain(daemon_socket).filter_map(|socket| socket.canonicalize().ok()).collect();
    let place = |what: &str, path: &Path| {
        let real = path.canonicalize().map_err(|error| {
            SandboxError::Broken(format!("the sandbox's {what} {} cannot be opened: {error}", path.display()))
        })?;
        if let Some(socket) = sockets.iter().find(|socket| socket.starts_with(&real)) {
            return Err(SandboxError::Refused(format!(
                "the sandbox's {what} {} holds {}, and whoever reaches that socket owns this machine; choose a folder without it",
                path.display(),
                socket.display()
            )));
        }
        if !real.is_dir() {
            return Err(SandboxError::Refused(format!("the sandbox's {what} {} is no folder", path.display())));
        }
        Ok(real)
    };
    let optional = |what: &str, path: &Option<PathBuf>| path.as_deref().map(|path| place(what, path)).transpose();
    Ok(Places {
        workspace: place("workspace", &order.workspace)?,
        git_dir: optional("git directory", &order.git_dir)?,
        git_objects: optional("git objects", &order.git_objects)?,
        source: optional("source", &order.source)?,
        home: match &order.home {
            Home::Fresh => Home::Fresh,
            Home::Kept(folder) => Home::Kept(place("home", folder)?),
            Home::Over(folder) => Home::Over(place("home", folder)?),
        },
    })
}

/// The whole environment of a command: the fixed four, the sandbox's own, the command's own.
pub(super) fn environment(
    path: &str,
    home: &str,
    order: &BTreeMap<String, String>,
    command: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> = [("PATH", path), ("HOME", home), ("LANG", "C.UTF-8"), ("TERM", "dumb")]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    env.extend(order.iter().chain(command).map(|(name, value)| (name.clone(), value.clone())));
    env
}

/// Where the disposable git directory goes, given what `.git` is in the workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GitMount {
    /// Nothing there and nothing wanted.
    Nothing,
    /// Over the folder `.git`.
    Folder,
    /// A file `gitdir: …` over the file `.git`.
    File,
    /// An empty folder over the folder `.git`.
    HideFolder,
    /// An empty file over the file `.git`.
    HideFile,
}

/// Decides about `.git`; makes the folder to mount on where there is none.
pub(super) fn git_mount(workspace: &Path, git_dir: Option<&Path>, owner: (u32, u32)) -> Result<GitMount, SandboxError> {
    let dot_git = workspace.join(".git");
    let kind = std::fs::symlink_metadata(&dot_git).ok().map(|found| found.file_type());
    match (kind, git_dir) {
        (None, None) => Ok(GitMount::Nothing),
        (None, Some(_)) => {
            std::fs::create_dir(&dot_git).map_err(|error| {
                SandboxError::Broken(format!("cannot make {} to mount git's folder on: {error}", dot_git.display()))
            })?;
            if nix::unistd::geteuid().is_root() {
                let _ = std::os::unix::fs::chown(&dot_git, Some(owner.0), Some(owner.1));
            }
            Ok(GitMount::Folder)
        }
        // A symbolic link leads nowhere inside: its target is not there.
        (Some(kind), None) if kind.is_symlink() => Ok(GitMount::Nothing),
        (Some(kind), Some(_)) if kind.is_symlink() => Err(SandboxError::Broken(format!(
            "{} is a symbolic link; git's folder cannot be mounted on it",
            dot_git.display()
        ))),
        (Some(kind), Some(_)) if kind.is_dir() => Ok(GitMount::Folder),
        (Some(_), Some(_)) => Ok(GitMount::File),
        (Some(kind), None) if kind.is_dir() => Ok(GitMount::HideFolder),
        (Some(_), None) => Ok(GitMount::HideFile),
    }
}

#[cfg(test)]
mod tests {
    use super::{check_command, check_env};
    use crate::model::exec::Command;

    #[test]
    fn poisoned_variables_are_refused_by_name() {
        for name in ["LD_PRELOAD", "LD_LIBRARY_PATH", "PATH", "NODE_OPTIONS", "BASH_ENV", "ENV", "GIT_SSH_COMMAND"] {
            let error = check_env(&[(name.to_owned(), "x".to_owned())].into()).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
        for name in ["", "a=b", "1A", "A B"] {
            assert!(check_env(&[(name.to_owned(), String::new())].into()).is_err(), "{name}");
        }
        assert!(
            check_env(&[("CI".to_owned(), "1".to_owned()), ("PYTHONPATH".to_owned(), "src".to_owned())].into()).is_ok()
        );
    }

    #[test]
    fn a_working_directory_stays_beneath() {
        for cwd in ["..", "/etc", "a/../../b", "/"] {
            assert!(check_command(&Command { cwd: cwd.into(), ..Command::shell("true") }).is_err(), "{cwd}");
        }
        assert!(check_command(&Command { cwd: "a/b".into(), ..Command::shell("true") }).is_ok());
        assert!(check_command(&Command { argv: vec![], ..Command::shell("true") }).is_err());
    }
}
