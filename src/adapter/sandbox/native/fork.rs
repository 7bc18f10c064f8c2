//! The sandbox's only unsafe code: a process that makes a copy of itself.
//!
//! Starting this program anew for each command would cost two milliseconds a time, most of them for moving a large binary
//! to where it is loaded. A copy costs a tenth of that. What makes `fork` unsafe is other threads: a copy has only the one
//! that called it, and whatever the others held stays held. The processes here have none, and this looks.

#![expect(unsafe_code, reason = "no safe wrapper exists: it cannot know that there is only one thread")]

use nix::libc;
use nix::sched::CloneFlags;
use nix::unistd::Pid;

/// In which process the call returned.
pub(super) enum Forked {
    /// In the copy.
    Child,
    /// In the original; the copy's number.
    Parent(Pid),
}

/// Makes a copy of this process, in new namespaces of these kinds: with a process namespace it is the first one there.
///
/// # Errors
/// In words: there are other threads, or the kernel refused.
pub(super) fn fork(namespaces: CloneFlags) -> Result<Forked, String> {
    let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count);
    if !matches!(threads, Ok(1)) {
        return Err(format!("{threads:?} threads where one was expected"));
    }
    // What `fork` is, apart from the namespaces: told of the copy's end, nothing shared.
    let flags = libc::c_long::from(namespaces.bits() | libc::SIGCHLD);
    // SAFETY: this is the only thread, as was just seen, and no other one can come up between: only this one could start
    // it. So the copy's memory is in no state that a single-threaded program could not be in. No stack, and no place to
    // write a number to, is given: the copy goes on here, on its own copy of this stack. C's library is not told: what it
    // keeps is the thread's number, which it needs for signals to this thread, and nothing here sends one.
    let number = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match i32::try_from(number) {
        Ok(0) => Ok(Forked::Child),
        Ok(child) if child > 0 => Ok(Forked::Parent(Pid::from_raw(child))),
        _ => Err(std::io::Error::last_os_error().to_string()),
    }
}
