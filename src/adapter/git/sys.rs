//! Every unsafe call of this adapter: libgit2's process-wide settings, and the id-mapped bind mount for which no safe
//! wrapper exists.

#![expect(unsafe_code, reason = "libgit2's global options and idmapped mounts have no safe wrapper; audited here only")]

use git2::ConfigLevel;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Once;

/// Sets libgit2 up, once: no system or global configuration is read, and a repository owned by somebody else may be
/// opened. The latter guards the git command line against programs named in a repository's configuration; libgit2
/// runs no hook, filter driver or file-system monitor, and we make no network connection with it.
pub(super) fn prepare_libgit2() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for level in [ConfigLevel::System, ConfigLevel::Global, ConfigLevel::XDG, ConfigLevel::ProgramData] {
            // SAFETY: called once, before any repository is opened by this adapter; the path is copied by libgit2.
            let _ = unsafe { git2::opts::set_search_path(level, "") };
        }
        // SAFETY: as above; plain flags.
        unsafe {
            let _ = git2::opts::set_verify_owner_validation(false);
            let _ = git2::opts::set_extensions(&["partialclone"]);
        }
        // Trees are written from ids that this adapter has just written or read.
        git2::opts::strict_object_creation(false);
    });
}

/// Mounts `source` at `target` so that what user and group 0 own appears owned by `id`, and the other way round.
///
/// # Errors
/// Where the kernel or the file system cannot do it.
pub(super) fn mount_idmapped(source: &Path, target: &Path, id: u32) -> io::Result<()> {
    let namespace = user_namespace(id)?;
    let source = CString::new(source.as_os_str().as_bytes())?;
    let target = CString::new(target.as_os_str().as_bytes())?;
    let empty = c"";
    // SAFETY: the path is a valid C string; the flags make a detached clone of one mount.
    let tree = unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            libc::AT_FDCWD,
            source.as_ptr(),
            libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC,
        )
    };
    // SAFETY: a non-negative result of open_tree is a descriptor that nobody else owns.
    let tree = unsafe { OwnedFd::from_raw_fd(checked(tree)?) };
    // SAFETY: plain integers; every bit pattern is valid.
    let mut attributes: libc::mount_attr = unsafe { std::mem::zeroed() };
    attributes.attr_set = libc::MOUNT_ATTR_IDMAP | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOSUID;
    attributes.userns_fd = u64::try_from(namespace.as_raw_fd()).unwrap_or(u64::MAX);
    // SAFETY: the descriptor is open, the structure is live and its size is given.
    checked(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            empty.as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw mut attributes,
            std::mem::size_of::<libc::mount_attr>(),
        )
    })?;
    // SAFETY: both descriptors and both strings are valid for the call.
    checked(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            empty.as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    })?;
    Ok(())
}

/// A user namespace whose map takes 0 to `id` and leaves all others as they are.
fn user_namespace(id: u32) -> io::Result<OwnedFd> {
    // SAFETY: fork-like clone without a new stack; the child makes nothing but two system calls.
    let child =
        unsafe { libc::syscall(libc::SYS_clone, libc::c_long::from(libc::CLONE_NEWUSER | libc::SIGCHLD), 0, 0, 0, 0) };
    if child == 0 {
        // SAFETY: in the child, async-signal-safe calls only. It dies with the thread that made it, or is killed.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            loop {
                libc::pause();
            }
        }
    }
    let child = checked(child)?;
    let made = (|| {
        let wide = format!("0 {id} 1\n1 1 {}\n{} {} {}\n", id - 1, id + 1, id + 1, u32::MAX - id - 1);
        for file in ["uid_map", "gid_map"] {
            let path = format!("/proc/{child}/{file}");
            // A namespace that has fewer ids than the host's takes the narrow map only.
            std::fs::write(&path, &wide).or_else(|_| std::fs::write(&path, format!("0 {id} 1\n")))?;
        }
        std::fs::File::open(format!("/proc/{child}/ns/user")).map(OwnedFd::from)
    })();
    // SAFETY: the child is ours and has not been waited for.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
    made
}

fn checked(result: libc::c_long) -> io::Result<i32> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}
