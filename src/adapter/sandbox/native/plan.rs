//! What is shown inside a native sandbox, decided before it is made.

use super::spec::{Bind, HOME_BELOW, HomeKind, Inner, Job, Made, Rights};
use super::{INSIDE, Room, Toolchains};
use crate::adapter::sandbox::guard::{self, GitMount};
use crate::model::exec::Command;
use crate::port::sandbox::{Home, SandboxError};
use std::path::{Path, PathBuf};

/// Folders of programs and libraries.
const FOLDERS: [&str; 9] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix"];

/// What of `/etc` programs need. Not the folder itself: it holds password hashes, host keys and tokens.
const ETC: [&str; 34] = [
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "debian_version",
    "fonts",
    "java-8-openjdk",
    "java-11-openjdk",
    "java-17-openjdk",
    "java-21-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "lsb-release",
    "magic",
    "mime.types",
    "os-release",
    "perl",
    "php",
    "pki/ca-trust",
    "pki/tls/certs",
    "protocols",
    "python3",
    "python3.11",
    "python3.12",
    "python3.13",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
    "vim",
    "xattr.conf",
];

/// The part that is the same for all commands of all sandboxes.
#[derive(Debug, Clone)]
pub(super) struct System {
    binds: Vec<Bind>,
    made: Vec<Made>,
}

fn shown(from: PathBuf, to: impl Into<PathBuf>, writable: bool) -> Bind {
    Bind { from, to: to.into(), writable }
}

/// Looks at this machine's programs, libraries and settings.
pub(super) fn system(toolchains: &Toolchains, network: bool) -> System {
    let (mut binds, mut made) = (Vec::new(), Vec::new());
    for folder in FOLDERS.map(Path::new) {
        // Where `/bin` is a link to `usr/bin`, it stays one.
        if let Ok(target) = folder.read_link() {
            made.push(Made::Link(folder.to_owned(), target));
        } else if folder.is_dir() {
            binds.push(shown(folder.to_owned(), folder, false));
        }
    }
    for name in ETC {
        let at = Path::new("/etc").join(name);
        if let Ok(from) = at.canonicalize() {
            binds.push(shown(from, at, false));
        }
    }
    if network && let Ok(from) = Path::new("/etc/resolv.conf").canonicalize() {
        binds.push(shown(from, "/etc/resolv.conf", false));
    }
    for folder in &toolchains.folders {
        if let Ok(from) = folder.canonicalize() {
            binds.push(shown(from, folder, false));
        }
    }
    made.push(Made::File("/etc/hosts".into(), "127.0.0.1 localhost sandbox\n::1 localhost\n".into()));
    made.push(Made::File("/etc/hostname".into(), "sandbox\n".into()));
    made.push(Made::File("/etc/nsswitch.conf".into(), "passwd: files\ngroup: files\nhosts: files dns\n".into()));
    made.push(Made::File("/etc/gitconfig".into(), "[safe]\n\tdirectory = *\n\tbareRepository = explicit\n".into()));
    made.push(Made::Link("/var/tmp".into(), "/tmp".into()));
    made.push(Made::Link("/etc/mtab".into(), "/proc/self/mounts".into()));
    System { binds, made }
}

/// What is built for one command.
pub(super) fn inner(room: &Room, command: &Command) -> Result<Inner, SandboxError> {
    let (order, places) = (&room.order, &room.places);
    let (user, group) = match room.rights {
        Rights::Root { user, group } => (user, group),
        Rights::UserNamespace => (INSIDE, INSIDE),
    };
    let writable = order.writable && command.writable;
    let System { mut binds, mut made } = room.system.clone();
    made.push(Made::File(
        "/etc/passwd".into(),
        format!("root:x:0:0:root:/:/bin/sh\nagent:x:{user}:{group}:agent:/home/agent:/bin/sh\n"),
    ));
    made.push(Made::File("/etc/group".into(), format!("root:x:0:\nagent:x:{group}:\n")));
    binds.push(shown(places.workspace.clone(), "/workspace", writable));
    let (mut hide_folders, mut hide_files) = (Vec::new(), Vec::new());
    match (guard::git_mount(&places.workspace, places.git_dir.as_deref(), order.owner)?, &places.git_dir) {
        (GitMount::Folder, Some(git)) => binds.push(shown(git.clone(), "/workspace/.git", writable)),
        (GitMount::File, Some(git)) => {
            binds.push(shown(git.clone(), "/run/codeforge/git", writable));
            made.push(Made::File("/run/codeforge/gitfile".into(), "gitdir: /run/codeforge/git\n".into()));
        }
        (GitMount::HideFolder, _) => hide_folders.push("/workspace/.git".into()),
        (GitMount::HideFile, _) => hide_files.push("/workspace/.git".into()),
        _ => {}
    }
    if let Some(objects) = &places.git_objects {
        binds.push(shown(objects.clone(), "/run/codeforge/objects", false));
    }
    if let Some(source) = &places.source {
        binds.push(shown(source.clone(), "/source", false));
        // The user's own git directory may hold credentials.
        match guard::git_mount(source, None, order.owner)? {
            GitMount::HideFolder => hide_folders.push("/source/.git".into()),
            GitMount::HideFile => hide_files.push("/source/.git".into()),
            _ => {}
        }
    }
    match &places.home {
        Home::Fresh => {}
        Home::Kept(home) => binds.push(shown(home.clone(), "/home/agent", true)),
        Home::Over(home) => binds.push(shown(home.clone(), HOME_BELOW, false)),
    }
    let limits = &order.resources;
    let (memory_limited, pids_limited) = room.limited;
    Ok(Inner {
        rights: room.rights,
        binds,
        made,
        writable,
        home: match &places.home {
            Home::Fresh => HomeKind::Memory,
            Home::Kept(_) => HomeKind::Host,
            Home::Over(_) => HomeKind::Layered,
        },
        hide_folders,
        hide_files,
        scratch: limits.disk.min(limits.memory / 2).max(1 << 20),
        file_size: limits.disk,
        processes: (!pids_limited).then_some(u64::from(limits.pids)),
        data: (!memory_limited).then_some(limits.memory),
        home_files: command.home_files.iter().map(|(path, text)| (PathBuf::from(path), text.clone())).collect(),
    })
}

/// What is run in it.
pub(super) fn job(room: &Room, command: &Command) -> Job {
    let mut env = guard::environment(&room.toolchains.path, "/home/agent", &room.toolchains.env, &room.order.env);
    env.extend(command.env.clone());
    Job { argv: command.argv.clone(), cwd: Path::new("/workspace").join(&command.cwd), env: env.into_iter().collect() }
}
