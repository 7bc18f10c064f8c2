//! Views of files, and what closes them: an edit of the file, or a newer view of the same lines.

use super::{Shown, Why};
use crate::agent::{patch, tools};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// What a call showed or changed of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Touch {
    /// Nothing that is known.
    Nothing,
    /// It showed these lines of a file, from 1; the last one is included.
    View {
        /// The file.
        path: String,
        /// The first line.
        first: u64,
        /// The last line.
        last: u64,
    },
    /// It changed these files.
    Change(Vec<String>),
}

impl Touch {
    /// Of a call and its result; a change that failed changed nothing.
    pub(super) fn of(name: &str, args: &Value, result: &str) -> Self {
        let text = |key: &str| args.get(key).and_then(Value::as_str);
        match name {
            "read_file" => {
                let Some(path) = text("path") else { return Self::Nothing };
                let line = |key: &str, fallback: u64| args.get(key).and_then(Value::as_u64).unwrap_or(fallback);
                Self::View { path: plain(path), first: line("start_line", 1), last: line("end_line", u64::MAX) }
            }
            "edit_file" | "write_file" if tools::is_change(result) => {
                text("path").map_or(Self::Nothing, |path| Self::Change(vec![plain(path)]))
            }
            "apply_patch" if tools::is_change(result) => {
                let files = text("patch").and_then(|text| patch::parse(text).ok()).unwrap_or_default();
                let paths = files.iter().flat_map(|file| [&file.old_path, &file.new_path]).flatten();
                Self::Change(paths.map(|path| plain(path)).collect())
            }
            _ => Self::Nothing,
        }
    }
}

/// One spelling of a path.
fn plain(path: &str) -> String {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/")
}

/// Makes stubs of the views that are closed, but for those of the last turn. Returns the first turn that changed.
pub(super) fn close(turns: &mut [Shown]) -> Option<usize> {
    let mut changed: HashSet<String> = HashSet::new();
    let mut viewed: HashMap<String, Vec<(u64, u64)>> = HashMap::new();
    let newest = turns.len().saturating_sub(1);
    let mut first = None;
    for (number, turn) in turns.iter_mut().enumerate().rev() {
        for result in turn.results.iter_mut().rev() {
            match &result.touch {
                Touch::Nothing => {}
                Touch::Change(paths) => changed.extend(paths.iter().cloned()),
                Touch::View { path, first: from, last: to } => {
                    let (from, to) = (*from, *to);
                    let later = viewed.entry(path.clone()).or_default();
                    let again = later.iter().any(|(first, last)| *first <= from && to <= *last);
                    let why = match (changed.contains(path), again) {
                        (_, true) => Some(Why::ViewedAgain),
                        (true, false) => Some(Why::Changed),
                        (false, false) => None,
                    };
                    if !again {
                        later.push((from, to));
                    }
                    if let Some(why) = why.filter(|_| number < newest)
                        && result.stub(why)
                    {
                        first = Some(number);
                    }
                }
            }
        }
    }
    first
}
