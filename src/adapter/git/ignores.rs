//! Which paths git ignores: `.gitignore` files of the folder itself and the user's `info/exclude`. Nothing of the
//! machine or the person counts, so that a run ignores the same on every machine.

use super::beneath;
use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// An ignore file larger than this is not one.
const LARGEST: u64 = 1024 * 1024;

/// The rules that hold in one folder: its own, then its parents'.
#[derive(Clone, Default)]
pub(super) struct Rules(Option<Arc<Level>>);

struct Level {
    own: Gitignore,
    parent: Rules,
}

impl Rules {
    /// The rules of the user's `info/exclude`, below all others.
    pub(super) fn base(exclude: &Path) -> Self {
        match std::fs::read(exclude) {
            Ok(text) => Self::default().with(&[], &text),
            Err(_) => Self::default(),
        }
    }

    /// These, and above them the text of the ignore file of the folder at `path`.
    pub(super) fn with(&self, path: &[u8], text: &[u8]) -> Self {
        let mut root = b"/".to_vec();
        root.extend_from_slice(path);
        let mut builder = GitignoreBuilder::new(OsStr::from_bytes(&root));
        for line in String::from_utf8_lossy(text).lines() {
            // A line that is no pattern ignores nothing, as in git.
            let _ = builder.add_line(None, line);
        }
        match builder.build() {
            Ok(own) if !own.is_empty() => Self(Some(Arc::new(Level { own, parent: self.clone() }))),
            _ => self.clone(),
        }
    }

    /// These, and above them the `.gitignore` in the open folder. A link or a device is no ignore file.
    pub(super) fn enter(&self, folder: BorrowedFd<'_>, path: &[u8]) -> Self {
        match beneath::read_small(folder, b".gitignore", LARGEST) {
            Ok(Some(text)) => self.with(path, &text),
            _ => self.clone(),
        }
    }

    /// Whether the entry is ignored by itself; the caller has made sure that no folder above it is.
    pub(super) fn ignores(&self, path: &[u8], is_folder: bool) -> bool {
        let mut level = self.0.as_ref();
        if level.is_none() {
            return false;
        }
        let mut full = b"/".to_vec();
        full.extend_from_slice(path);
        let full = Path::new(OsStr::from_bytes(&full)).to_owned();
        while let Some(here) = level {
            match here.own.matched(&full, is_folder) {
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
                Match::None => level = here.parent.0.as_ref(),
            }
        }
        false
    }
}
