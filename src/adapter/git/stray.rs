//! Workspaces beside repositories that are gone: a process that was killed leaves them, and where its repository is
//! removed (a runner's checkout, a test's folder) nobody else ever looks for them.
//!
//! Beside each repository's folder lies a note of where the repository's state is. Where that is no more, no run of it
//! can be taken up again, and what it left is unmounted and removed when the next workspace is made.

use super::workspace;
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The note beside a repository's folder.
fn note(folder: &Path) -> PathBuf {
    folder.with_extension("of")
}

/// Notes whose folder it is.
pub(super) fn keep(folder: &Path, state: &Path) -> std::io::Result<()> {
    let note = note(folder);
    if note.exists() { Ok(()) } else { std::fs::write(note, state.as_os_str().as_bytes()) }
}

/// The note goes with the folder.
pub(super) fn forget(folder: &Path) {
    let _ = std::fs::remove_file(note(folder));
}

/// Removes what belongs to repositories that are gone. What cannot be removed stays: it is in nobody's way.
pub(super) fn sweep(scratch: &Path) {
    let entries = std::fs::read_dir(scratch).into_iter().flatten().flatten().map(|entry| entry.path());
    for note in entries.filter(|path| path.extension().is_some_and(|extension| extension == "of")) {
        let Ok(state) = std::fs::read(&note) else { continue };
        let state = PathBuf::from(std::ffi::OsString::from_vec(state));
        let gone =
            |path: &Path| std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound);
        if state.is_absolute() && gone(&state) && workspace::discard(&note.with_extension("")).is_ok() {
            let _ = std::fs::remove_file(&note);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_repository_left_goes_when_it_is_gone_and_not_before() {
        let scratch = tempfile::tempdir().unwrap();
        let (gone, here) = (scratch.path().join("aaaa"), scratch.path().join("bbbb"));
        let state = tempfile::tempdir().unwrap();
        for folder in [&gone, &here] {
            std::fs::create_dir_all(folder.join("7f3k9m2q/main")).unwrap();
        }
        keep(&gone, &state.path().join("removed")).unwrap();
        keep(&here, state.path()).unwrap();
        sweep(scratch.path());
        assert!(!gone.exists() && !note(&gone).exists() && here.join("7f3k9m2q/main").exists() && note(&here).exists());
        drop(state);
        sweep(scratch.path());
        assert!(!here.exists());
    }
}
