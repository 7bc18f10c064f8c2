//! The sandbox's only unsafe code: a process that makes a copy of itself.
//!
//! Starting this program anew for each command would cost two milliseconds a time, most of them for moving a large binary
//! to where it is loaded. A copy costs a tenth of that. What makes `fork` unsafe is other threads: a copy has only the one
//! that called it, and whatever the others held stays held. The processes here have none, and this looks.

#![expect(unsafe_code, reason = "no safe wrapper exists: it cannot know that there is only one thread")]

use nix::unistd::{ForkResult, Pid};

/// In which process the call returned.
pub(super) enum Forked {
    /// In the copy.
    Child,
    /// In the original; the copy's number.
    Parent(Pid),
}

/// Makes a copy of this process.
///
/// # Errors
/// In words: there are other threads, or the kernel refused.
pub(super) fn fork() -> Result<Forked, String> {
    let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count);
    if !matches!(threads, Ok(1)) {
        return Err(format!("{threads:?} threads where one was expected"));
    }
    // SAFETY: this is the only thread, as was just seen, and no other one can come up between: only this one could start
    // it. So the copy's memory is in no state that a single-threaded program could not be in.
    match unsafe { nix::unistd::fork() } {
        Ok(ForkResult::Child) => Ok(Forked::Child),
        Ok(ForkResult::Parent { child }) => Ok(Forked::Parent(child)),
        Err(error) => Err(error.to_string()),
    }
}
