//! The file tree inside: a small tmpfs with what is named bound into it, everything else of the host gone.

use super::spec::{Bind, HOME_BELOW, HomeKind, Inner, Made, Rights};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::FsFlags;
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Where the host's tree is while the new one is built.
const OLD: &str = "/.host";
/// Device files that are shown.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Parts of `/proc` that say or change more than a command needs.
const PROC_HIDDEN: [&str; 7] = ["kcore", "keys", "latency_stats", "timer_list", "sched_debug", "sysrq-trigger", "kmsg"];
const PROC_FIXED: [&str; 5] = ["sys", "bus", "fs", "irq", "acpi"];

type Done<T = ()> = Result<T, String>;

fn none() -> Option<&'static str> {
    None
}

fn say(what: &str, path: &Path, error: impl std::fmt::Display) -> String {
    format!("cannot {what} {}: {error}", path.display())
}

fn folder(path: &Path) -> Done {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o755).create(path).map_err(|error| say("make", path, error))
}

/// Folders of the new tree that were made already: most parents are asked for many times.
#[derive(Default)]
struct Folders(HashSet<PathBuf>);

impl Folders {
    fn make(&mut self, path: &Path) -> Done {
        if !self.0.contains(path) {
            folder(path)?;
            self.0.insert(path.to_owned());
        }
        Ok(())
    }

    fn above(&mut self, path: &Path) -> Done {
        path.parent().map_or(Ok(()), |parent| self.make(parent))
    }

    /// A place to mount on, of the same kind as what will be mounted.
    fn place(&mut self, path: &Path, like_folder: bool) -> Done {
        if like_folder {
            return self.make(path);
        }
        self.above(path)?;
        match fs::OpenOptions::new().write(true).create_new(true).open(path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(say("make", path, error)),
            _ => Ok(()),
        }
    }
}

fn tmpfs(path: &Path, options: &str) -> Done {
    folder(path)?;
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options))
        .map_err(|error| say("mount a tmpfs on", path, error))
}

fn bind(from: &Path, to: &Path) -> Done {
    mount(Some(from), to, none(), MsFlags::MS_BIND | MsFlags::MS_REC, none())
        .map_err(|error| format!("cannot show {} as {}: {error}", from.display(), to.display()))
}

/// Changes a mount's flags. What a mount already forbids stays forbidden: in a user namespace it must.
fn restrict(path: &Path, add: MsFlags) -> Done {
    let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | add;
    if let Ok(found) = nix::sys::statvfs::statvfs(path) {
        let has = found.flags();
        for (flag, mount_flag) in [
            (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
            (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
            (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
            (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
            (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
            (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
            (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
        ] {
            if has.contains(flag) {
                flags |= mount_flag;
            }
        }
    }
    mount(none(), path, none(), flags, none()).map_err(|error| say("restrict", path, error))
}

/// Builds the tree and makes it the root. Returns what could not be had.
pub(super) fn build(order: &Inner) -> Done<Vec<String>> {
    let mut lacks = Vec::new();
    let root = Path::new("/");
    mount(none(), root, none(), MsFlags::MS_REC | MsFlags::MS_PRIVATE, none())
        .map_err(|error| format!("cannot separate mounts: {error}"))?;
    // From now on nothing is mounted in this namespace but by us.
    let mounted = Mounted::read()?;
    let mut folders = Folders::default();
    // In this namespace only: the host's own /tmp stays as it is, and is reached through OLD from now on.
    let base = Path::new("/tmp");
    mount(Some("tmpfs"), base, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=0755,size=8m"))
        .map_err(|error| format!("cannot mount the new root: {error}"))?;
    let put = base.join(".host");
    folder(&put)?;
    nix::unistd::pivot_root(base, &put).map_err(|error| format!("cannot change the root: {error}"))?;
    std::env::set_current_dir(root).map_err(|error| format!("cannot enter the new root: {error}"))?;

    for each in &order.made {
        match each {
            Made::Link(at, target) => {
                folders.above(at)?;
                symlink(target, at).map_err(|error| say("link", at, error))?;
            }
            Made::File(at, text) => {
                folders.above(at)?;
                fs::write(at, text).map_err(|error| say("write", at, error))?;
            }
        }
    }
    devices(&mut folders, &mut lacks)?;
    proc(&mut lacks)?;
    let scratch = format!("mode=1777,size={}", order.scratch);
    tmpfs(Path::new("/tmp"), &scratch)?;
    tmpfs(Path::new("/dev/shm"), &scratch)?;
    if order.home == HomeKind::Memory {
        tmpfs(Path::new("/home/agent"), &scratch)?;
    }
    for each in &order.binds {
        let from = from_host(&each.from);
        folders.place(&each.to, from.is_dir())?;
        bind(&from, &each.to)?;
        mounted.fix(each)?;
    }
    if order.home == HomeKind::Layered
        && let Err(why) = layered_home(&scratch, matches!(order.rights, Rights::UserNamespace))
    {
        // Older kernels lay no overlay in a user namespace.
        let home = Path::new("/home/agent");
        bind(Path::new(HOME_BELOW), home)?;
        restrict(home, MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV)?;
        lacks.push(format!("home: what set-up left there is shown, and nothing can be written beside it ({why})"));
    }
    let pointer = Path::new("/run/codeforge/gitfile");
    if pointer.exists() {
        bind(pointer, Path::new("/workspace/.git"))?;
    }
    for path in &order.hide_folders {
        tmpfs(path, "mode=0555,size=4k,nr_inodes=2")?;
        restrict(path, MsFlags::MS_RDONLY)?;
    }
    for path in &order.hide_files {
        bind(&from_host(Path::new("/dev/null")), path)?;
    }

    umount2(OLD, MntFlags::MNT_DETACH).map_err(|error| format!("cannot let go of the host's files: {error}"))?;
    let _ = fs::remove_dir(OLD);
    restrict(root, MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV)?;
    Ok(lacks)
}

/// What set-up left in the home folder, with a layer in memory above it.
fn layered_home(scratch: &str, user_namespace: bool) -> Done {
    let (home, above) = (Path::new("/home/agent"), Path::new("/run/codeforge/above"));
    tmpfs(above, scratch)?;
    for name in ["upper", "work"] {
        folder(&above.join(name))?;
    }
    let open = fs::Permissions::from_mode(0o1777);
    fs::set_permissions(above.join("upper"), open).map_err(|error| say("open", above, error))?;
    folder(home)?;
    // In a user namespace an overlay keeps its notes (what was removed, what is new) in attributes of the user's.
    let notes = if user_namespace { ",userxattr" } else { "" };
    let layers = format!("lowerdir={HOME_BELOW},upperdir={0}/upper,workdir={0}/work{notes}", above.display());
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("overlay"), home, Some("overlay"), flags, Some(layers.as_str()))
        .map_err(|error| say("layer", home, error))
}

fn from_host(path: &Path) -> PathBuf {
    Path::new(OLD).join(path.strip_prefix("/").unwrap_or(path))
}

fn devices(folders: &mut Folders, lacks: &mut Vec<String>) -> Done {
    let dev = Path::new("/dev");
    folders.make(dev)?;
    for name in DEVICES {
        let (from, to) = (from_host(&dev.join(name)), dev.join(name));
        if from.exists() {
            folders.place(&to, false)?;
            bind(&from, &to)?;
        }
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, dev.join(name)).map_err(|error| say("link", &dev.join(name), error))?;
    }
    let terminals = dev.join("pts");
    folder(&terminals)?;
    match mount(
        Some("devpts"),
        &terminals,
        Some("devpts"),
        MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
        Some("newinstance,ptmxmode=0666,mode=0620"),
    ) {
        Ok(()) => symlink("pts/ptmx", dev.join("ptmx")).map_err(|error| say("link", &dev.join("ptmx"), error))?,
        Err(error) => lacks.push(format!("terminals: {error}")),
    }
    Ok(())
}

fn proc(lacks: &mut Vec<String>) -> Done {
    let proc = Path::new("/proc");
    folder(proc)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), proc, Some("proc"), flags, none()).map_err(|error| say("mount", proc, error))?;
    for name in PROC_FIXED {
        let path = proc.join(name);
        if path.exists() {
            let fixed = bind(&path, &path).and_then(|()| restrict(&path, MsFlags::MS_RDONLY | flags));
            if let Err(error) = fixed {
                lacks.push(format!("read-only /proc/{name}: {error}"));
            }
        }
    }
    for name in PROC_HIDDEN {
        let path = proc.join(name);
        if path.exists()
            && let Err(error) = bind(&from_host(Path::new("/dev/null")), &path)
        {
            lacks.push(format!("hidden /proc/{name}: {error}"));
        }
    }
    Ok(())
}

/// Where the host has mounts, before anything of ours.
struct Mounted(Vec<PathBuf>);

impl Mounted {
    fn read() -> Done<Self> {
        let table =
            fs::read_to_string("/proc/self/mountinfo").map_err(|error| format!("cannot list mounts: {error}"))?;
        Ok(Self(
            table.lines().filter_map(|line| line.split(' ').nth(4)).map(|at| PathBuf::from(unescape(at))).collect(),
        ))
    }

    /// Makes what was just bound read-only where it is to be, with all that came along beneath it.
    fn fix(&self, bind: &Bind) -> Done {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        let flags = if bind.writable { flags } else { flags | MsFlags::MS_RDONLY };
        for beneath in self.0.iter().filter_map(|at| at.strip_prefix(&bind.from).ok()) {
            if !beneath.as_os_str().is_empty() {
                // What is hidden beneath another mount cannot be reached, by us or by the command.
                let _ = restrict(&bind.to.join(beneath), flags);
            }
        }
        restrict(&bind.to, flags)
    }
}

/// A path as the mount table writes it: `\040` for a space.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, beyond)) = rest.split_first() {
        let octal = (*first == b'\\').then(|| beyond.get(..3)).flatten();
        let octal = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = beyond.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = beyond;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn paths_of_the_mount_table_are_read() {
        assert_eq!(super::unescape("/a\\040b\\134c"), "/a b\\c");
        assert_eq!(super::unescape("/a\\0"), "/a\\0");
    }
}
