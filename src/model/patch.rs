//! A change as exact bytes: what it was made on, what it makes, and each file whole.
//!
//! Not a textual difference: nothing is searched for, nothing is fuzzy. It fits one tree and makes one tree, both of
//! which it names; who applies it compares both. One text has one meaning and one change has one text, so that a hash of
//! the bytes is a name of the change.

use super::id::TreeId;
use std::collections::BTreeSet;

/// The first line.
const MAGIC: &str = "codeforge-change 1";
/// Most bytes of a whole change.
pub const LARGEST: usize = 16 * 1024 * 1024;
/// Most files of one.
pub const MOST_FILES: usize = 10_000;
/// Longest path, in bytes.
const LONGEST_PATH: usize = 4096;
/// What stands for no object.
const NOTHING: &str = "0000000000000000000000000000000000000000";

/// A file's mode where there is none.
pub const GONE: u32 = 0;
/// A file.
pub const FILE: u32 = 0o100_644;
/// A file that can be executed.
pub const PROGRAM: u32 = 0o100_755;
/// A symbolic link.
pub const LINK: u32 = 0o120_000;
/// A submodule's commit.
pub const SUBMODULE: u32 = 0o160_000;

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// The tree that it was made on.
    pub base: TreeId,
    /// The tree that it makes.
    pub tree: TreeId,
    /// The files, sorted by path, each once.
    pub files: Vec<Put>,
}

/// One file of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// Its path in bytes, relative to the repository's root, `/` between parts.
    pub path: Vec<u8>,
    /// Mode and object id before; `None`: it is new.
    pub old: Option<(u32, String)>,
    /// Git's mode after; [`GONE`]: it is removed.
    pub mode: u32,
    /// Its content after; a link's target. Empty where it is removed.
    pub content: Vec<u8>,
}

/// Why bytes are not a change, in words for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The bytes are not what we write: cut, edited, or of another version.
    #[error("{0}")]
    Malformed(String),
    /// They say something that is never applied.
    #[error("{0}")]
    Refused(String),
}

fn malformed<T>(why: impl Into<String>) -> Result<T, PatchError> {
    Err(PatchError::Malformed(why.into()))
}

impl Patch {
    /// The bytes. The files must be sorted, as [`Patch::decode`] wants them.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes =
            format!("{MAGIC}\nbase {}\ntree {}\nfiles {}\n", self.base, self.tree, self.files.len()).into_bytes();
        for put in &self.files {
            let (mode, oid) = match &put.old {
                Some((mode, oid)) => (*mode, oid.as_str()),
                None => (GONE, NOTHING),
            };
            bytes.extend_from_slice(
                format!("{mode:06o} {oid} {:06o} {} {}\n", put.mode, put.path.len(), put.content.len()).as_bytes(),
            );
            bytes.extend_from_slice(&put.path);
            bytes.push(b'\n');
            bytes.extend_from_slice(&put.content);
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(b"end\n");
        bytes
    }

    /// Reads the bytes: all of them, and nothing else.
    ///
    /// # Errors
    /// [`PatchError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, PatchError> {
        if bytes.len() > LARGEST {
            return malformed(format!("it has {} bytes, more than the {LARGEST} of a change", bytes.len()));
        }
        let mut rest = Rest(bytes);
        match rest.line()? {
            MAGIC => {}
            other if other.starts_with("codeforge-change ") => {
                return malformed(format!("it is of a version that this one does not know (`{other}`)"));
            }
            _ => return malformed("it does not begin as a change does"),
        }
        let base = TreeId(object(rest.field("base ")?)?);
        let tree = TreeId(object(rest.field("tree ")?)?);
        let count = number(rest.field("files ")?)?;
        if count > MOST_FILES {
            return malformed(format!("it has {count} files, more than the {MOST_FILES} of a change"));
        }
        let mut files: Vec<Put> = Vec::new();
        let mut there: BTreeSet<Vec<u8>> = BTreeSet::new();
        for _ in 0..count {
            let put = rest.put()?;
            if files.last().is_some_and(|before| before.path >= put.path) {
                return malformed("its files are not in order");
            }
            let folders = put.path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
            if put.mode != GONE && folders.filter_map(|(at, _)| put.path.get(..at)).any(|it| there.contains(it)) {
                return malformed("a path is a file and a folder");
            }
            if put.mode != GONE {
                there.insert(put.path.clone());
            }
            files.push(put);
        }
        if rest.line()? != "end" || !rest.0.is_empty() {
            return malformed("it does not end as a change does");
        }
        Ok(Self { base, tree, files })
    }
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn line(&mut self) -> Result<&'a str, PatchError> {
        let window = self.0.get(..self.0.len().min(256)).unwrap_or_default();
        let Some(end) = window.iter().position(|byte| *byte == b'\n') else { return malformed("it is cut off") };
        let line = self.take(end)?;
        self.take(1)?;
        match std::str::from_utf8(line) {
            Ok(line) => Ok(line),
            Err(_) => malformed("a line of it is not text"),
        }
    }

    fn field(&mut self, name: &str) -> Result<&'a str, PatchError> {
        let line = self.line()?;
        line.strip_prefix(name).ok_or_else(|| PatchError::Malformed(format!("`{}` is missing", name.trim_end())))
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], PatchError> {
        match self.0.split_at_checked(bytes) {
            Some((taken, rest)) => {
                self.0 = rest;
                Ok(taken)
            }
            None => malformed("it is cut off"),
        }
    }

    fn end_of_part(&mut self) -> Result<(), PatchError> {
        if self.take(1)? == b"\n" { Ok(()) } else { malformed("a part is longer than it says") }
    }

    fn put(&mut self) -> Result<Put, PatchError> {
        let line = self.line()?;
        let mut words = line.split(' ');
        let mut word = || words.next().ok_or_else(|| PatchError::Malformed("a file's line is cut off".into()));
        let (old_mode, old, new_mode) = (mode(word()?)?, object(word()?)?, mode(word()?)?);
        let (path_length, length) = (number(word()?)?, number(word()?)?);
        if words.next().is_some() {
            return malformed("a file's line has more words than it should");
        }
        if path_length > LONGEST_PATH {
            return malformed("a path is too long");
        }
        let path = self.take(path_length)?.to_vec();
        self.end_of_part()?;
        let content = self.take(length)?.to_vec();
        self.end_of_part()?;
        check_path(&path)?;
        let shown = String::from_utf8_lossy(&path).into_owned();
        if [old_mode, new_mode].contains(&SUBMODULE) {
            return Err(PatchError::Refused(format!("`{shown}` is a submodule; submodules are changed by hand")));
        }
        let was = (old_mode != GONE).then(|| (old_mode, old.clone()));
        if was.is_none() && (old != NOTHING || new_mode == GONE) {
            return malformed(format!("`{shown}` is neither there before nor after"));
        }
        if new_mode == GONE && !content.is_empty() {
            return malformed(format!("`{shown}` is removed and has content"));
        }
        Ok(Put { path, old: was, mode: new_mode, content })
    }
}

fn number(text: &str) -> Result<usize, PatchError> {
    // One text for one number: no sign, no leading zero.
    match text.parse::<usize>() {
        Ok(number) if number.to_string() == text => Ok(number),
        _ => malformed("a number is not one"),
    }
}

fn mode(text: &str) -> Result<u32, PatchError> {
    match u32::from_str_radix(text, 8) {
        Ok(mode @ (GONE | FILE | PROGRAM | LINK | SUBMODULE)) if format!("{mode:06o}") == text => Ok(mode),
        _ => malformed("a mode is not one of git's"),
    }
}

fn object(text: &str) -> Result<String, PatchError> {
    if text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        Ok(text.to_owned())
    } else {
        malformed("an object's id is not one")
    }
}

/// A path that names one place below the root and can name no other.
fn check_path(path: &[u8]) -> Result<(), PatchError> {
    let parts = || path.split(|byte| *byte == b'/');
    let bad =
        path.is_empty() || path.contains(&0) || parts().any(|part| part.is_empty() || part == b"." || part == b"..");
    if bad {
        let shown = String::from_utf8_lossy(path).replace('\0', "\\0");
        return Err(PatchError::Refused(format!("`{shown}` is not a path below the repository's root")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Patch {
        let oid = "1".repeat(40);
        Patch {
            base: TreeId("a".repeat(40)),
            tree: TreeId("b".repeat(40)),
            files: vec![
                Put { path: b"a.bin".to_vec(), old: None, mode: FILE, content: vec![0, 10, 255, 10] },
                Put { path: b"gone".to_vec(), old: Some((FILE, oid.clone())), mode: GONE, content: vec![] },
                Put { path: b"to\nx".to_vec(), old: Some((LINK, oid)), mode: PROGRAM, content: b"end\n".to_vec() },
            ],
        }
    }

    #[test]
    fn a_change_is_read_as_it_was_written_and_nothing_else_is_one() {
        let bytes = sample().encode();
        assert_eq!(Patch::decode(&bytes).unwrap(), sample());
        for cut in 0..bytes.len() {
            assert!(Patch::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert!(Patch::decode(&[bytes.as_slice(), b"\n"].concat()).is_err(), "nothing may follow");
        for path in ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "./a", "a\0b"] {
            let mut evil = sample();
            evil.files = vec![Put { path: path.into(), old: None, mode: FILE, content: vec![] }];
            assert!(matches!(Patch::decode(&evil.encode()), Err(PatchError::Refused(_))), "{path:?}");
        }
        let mut module = sample();
        module.files[0].mode = SUBMODULE;
        let said = Patch::decode(&module.encode()).unwrap_err().to_string();
        assert!(said.contains("submodule"), "{said}");
        let mut twice = sample();
        twice.files[1].path = b"a.bin".to_vec();
        assert!(Patch::decode(&twice.encode()).is_err(), "one path, one file");
        let mut both = sample();
        both.files[1] = Put { path: b"a.bin/b".to_vec(), old: None, mode: FILE, content: vec![] };
        both.files.truncate(2);
        assert!(Patch::decode(&both.encode()).is_err(), "a file is no folder");
    }

    proptest! {
        /// Whatever is done to the bytes: no panic, and what is still read means what it says, byte for byte.
        #[test]
        fn mangled_bytes_are_an_error_or_another_change(at in 0usize..400, byte: u8, drop in 0usize..3) {
            let mut bytes = sample().encode();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.drain(at..(at + drop).min(bytes.len()));
            if let Ok(read) = Patch::decode(&bytes) {
                prop_assert_eq!(read.encode(), bytes);
            }
        }

        #[test]
        fn any_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Patch::decode(&bytes);
            let _ = Patch::decode(&[b"codeforge-change 1\n".as_slice(), &bytes].concat());
        }
    }
}
