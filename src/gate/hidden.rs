//! Characters of a change that are read and not seen: what turns a line around, what spells words in tags, what stands
//! between letters. A compiler and a model read them, a person does not. They are told, and nothing is decided by them.

use super::weakened::parse;
use crate::model::delivery::ChangeSet;
use crate::text;
use std::fmt;

/// Most places that are told.
const MOST: usize = 20;
/// Most characters that are named of one place.
const NAMED: usize = 4;

/// A place of a change that holds what cannot be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hidden {
    /// The file, with what cannot be seen in its own name written out.
    pub path: String,
    /// The line on the side of the change, from 1; `None`: it is the file's name.
    pub line: Option<u64>,
    /// The characters as `U+202E`, each once.
    pub what: Vec<String>,
}

impl fmt::Display for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.line.map_or_else(|| " (its name)".to_owned(), |line| format!(":{line}"));
        let more = self.what.len().saturating_sub(NAMED);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let named: Vec<&str> = self.what.iter().take(NAMED).map(String::as_str).collect();
        write!(f, "{}{line} holds {}{more}", self.path, named.join(", "))
    }
}

/// Where a change brings in what cannot be seen, in the change's order. `changes` needs its whole difference.
pub fn hidden(changes: &ChangeSet) -> Vec<Hidden> {
    let mut found = Vec::new();
    for file in &changes.files {
        let what = text::hidden(&file.path);
        if !what.is_empty() && file.mode != 0 {
            found.push(Hidden { path: text::visible(&file.path), line: None, what });
        }
    }
    for file in parse(&changes.diff) {
        for (line, text) in &file.added {
            let what = text::hidden(text);
            if !what.is_empty() {
                found.push(Hidden { path: text::visible(&file.path), line: Some(*line), what });
            }
        }
    }
    found.truncate(MOST);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::delivery::{ChangeKind, FileChange};

    #[test]
    fn what_a_change_brings_in_is_told_with_its_place() {
        let file =
            |path: &str, kind, mode| FileChange { path: path.into(), from: None, kind, added: 1, removed: 0, mode };
        let added = |path: &str| file(path, ChangeKind::Added, 0o100_644);
        let diff = "diff --git a/a.rs b/a.rs\n--- a/a.rs\n+++ b/a.rs\n@@ -1,3 +1,3 @@\n old\u{202e}\n-gone\u{200b}\n+if admin\u{202e}\u{2066}\n same\n";
        // A file that goes away takes its name along.
        let gone = file("c\u{200b}.rs", ChangeKind::Deleted, 0);
        let changes = ChangeSet { files: vec![added("a.rs"), added("b\u{200b}.rs"), gone], diff: diff.into() };
        let told = |changes: &ChangeSet| hidden(changes).iter().map(ToString::to_string).collect::<Vec<_>>();
        let places = ["b[hidden U+200B].rs (its name) holds U+200B", "a.rs:2 holds U+202E, U+2066"];
        assert_eq!(told(&changes), places);
        // A file that has it in its name and in a line is called the same for both, also where git writes octal.
        let path = "\"b/b\\342\\200\\213.rs\"";
        let diff = format!("diff --git {path} {path}\n--- /dev/null\n+++ {path}\n@@ -0,0 +1 @@\n+a\u{2066}\n");
        let told_of = told(&ChangeSet { files: vec![added("b\u{200b}.rs")], diff });
        assert_eq!(told_of, [places[0], "b[hidden U+200B].rs:1 holds U+2066"]);
        // Of much the first is told: four names of one place, twenty places.
        let many = "+\u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\u{2060}\n".repeat(30);
        let diff = format!("diff --git a/a.rs b/a.rs\n--- a/a.rs\n+++ b/a.rs\n@@ -0,0 +1,30 @@\n{many}");
        let told = told(&ChangeSet { files: vec![added("a.rs")], diff });
        assert_eq!((told.len(), told[0].as_str()), (20, "a.rs:1 holds U+200B, U+200C, U+200D, U+200E and 2 more"));
        assert!(told[19].starts_with("a.rs:20 holds"), "{told:?}");
    }
}
