//! What a reviewer is shown of a change: the small files in full, large ones from their beginning, and no generated
//! ones. What is left out is said, to the model and to people.

use crate::model::coverage::{Covered, Shown};
use crate::model::delivery::{ChangeKind, ChangeSet, FileChange};
use crate::model::finding::{Finding, Standing};
use crate::text;
use serde_json::{Value, json};
use std::collections::HashMap;

/// Bytes of differences that a reviewer is shown, unless told otherwise: some 40,000 tokens.
pub const ROOM: usize = 160 * 1024;
/// A file with more changed lines than this is not for reading.
const LONGEST_LINES: u64 = 5000;
/// Files that a table shows to a model.
const TABLE: usize = 400;

/// What is shown of a change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    /// Every changed file, in the change's order.
    pub coverage: Vec<Covered>,
    /// The differences that are shown, in git's format, with a line where something is left out.
    pub diff: String,
}

/// Chooses what is shown within `room` bytes. `changes` holds the whole difference (`cap` 0).
pub fn scope(changes: &ChangeSet, room: usize) -> Scope {
    let mut sections = sections(&changes.diff);
    let mut chosen: Vec<(usize, &str)> = Vec::new();
    let mut coverage: Vec<Covered> = Vec::with_capacity(changes.files.len());
    for (index, file) in changes.files.iter().enumerate() {
        let section = sections.remove(header(file).as_str());
        let why = match section {
            _ if is_lock(&file.path) => Some("lock file"),
            _ if is_generated(&file.path) => Some("generated"),
            None => Some("its difference cannot be shown"),
            Some(text) if is_binary(text) => Some("binary"),
            Some(text) if says_generated(text) => Some("generated"),
            Some(_) if file.added + file.removed > LONGEST_LINES => Some("too large"),
            Some(text) => {
                chosen.push((index, text));
                None
            }
        };
        coverage.push(Covered {
            path: file.path.clone(),
            from: file.from.clone(),
            shown: if why.is_some() { Shown::Skipped } else { Shown::Reviewed },
            why: why.unwrap_or_default().to_owned(),
            added: file.added,
            removed: file.removed,
        });
    }
    // The shortest first: what they leave of their share is the others'.
    let mut by_size = chosen.clone();
    by_size.sort_by_key(|(index, text)| (text.len(), *index));
    let mut left = room;
    let mut shares: HashMap<usize, usize> = HashMap::new();
    for (at, (index, text)) in by_size.iter().enumerate() {
        let share = (left / (by_size.len() - at)).min(text.len());
        left -= share;
        shares.insert(*index, share);
    }
    let mut diff = String::new();
    for (index, text) in chosen {
        let share = shares.get(&index).copied().unwrap_or(0);
        let Some(covered) = coverage.get_mut(index) else { continue };
        if share >= text.len() {
            diff.push_str(text);
            continue;
        }
        let cut = clipped(text, share);
        if cut.is_empty() {
            covered.shown = Shown::Skipped;
            covered.why = "no room left".to_owned();
            continue;
        }
        covered.shown = Shown::Clipped;
        covered.why = format!("the first {} of {} lines of its difference", cut.lines().count(), text.lines().count());
        diff.push_str(cut);
        diff.push_str("[the rest of this file's difference is left out: read the file]\n");
    }
    // What cannot be seen is written out: a prompt would drop it, and a reviewer is to know that it is there.
    Scope { coverage, diff: text::visible(&diff) }
}

impl Scope {
    /// Whether a file was shown at all. For [`crate::model::finding::Standing`]: what was not looked at is not resolved.
    pub fn looked_at(&self, path: &str) -> bool {
        self.covered(path).is_some_and(|it| it.shown == Shown::Reviewed)
    }

    /// Whether a file is among what changed, shown or not.
    pub fn names(&self, path: &str) -> bool {
        self.covered(path).is_some()
    }

    fn covered(&self, path: &str) -> Option<&Covered> {
        self.coverage.iter().find(|it| it.path == path || it.from.as_deref() == Some(path))
    }

    /// Puts it into an event as templates see it: `event.change.files` (a list of paths), `.coverage` and `.diff` (text),
    /// `.since` (the commit that was looked at last, from which the difference starts; null: it is the whole change) and `.earlier` (text: what was found before; null where
    /// nothing was).
    pub fn lay_on(&self, event: &mut Value, since: Option<&str>, earlier: &[Finding]) {
        let Some(change) = change_of(event) else { return };
        let files: Vec<&str> = self.coverage.iter().map(|it| it.path.as_str()).collect();
        change.insert("files".into(), json!(files));
        change.insert("coverage".into(), json!(self.table()));
        change.insert("diff".into(), json!(self.diff));
        change.insert("since".into(), json!(since));
        change.insert("earlier".into(), json!(told(earlier)));
    }

    fn table(&self) -> String {
        let row = |it: &Covered| {
            let from = it.from.as_ref().map(|from| format!(" (was {from})")).unwrap_or_default();
            let why = if it.why.is_empty() { String::new() } else { format!(": {}", it.why) };
            format!("{:<8}  +{} -{}  {}{from}{why}", it.shown.as_str(), it.added, it.removed, it.path)
        };
        let mut rows: Vec<String> = self.coverage.iter().take(TABLE).map(row).collect();
        if self.coverage.len() > TABLE {
            rows.push(format!("and {} files more", self.coverage.len() - TABLE));
        }
        rows.join("\n")
    }
}

/// Puts what was found before into an event that is about no change: `event.change.earlier`. What else a change has is
/// null, and says that there is none.
pub fn lay_earlier(event: &mut Value, earlier: &[Finding]) {
    let Some(change) = change_of(event) else { return };
    for name in ["files", "coverage", "diff", "since"] {
        change.entry(name).or_insert(Value::Null);
    }
    change.insert("earlier".into(), json!(told(earlier)));
}

/// An event's change, made where there is none.
fn change_of(event: &mut Value) -> Option<&mut serde_json::Map<String, Value>> {
    if !event.is_object() {
        *event = json!({});
    }
    let change = event.as_object_mut()?.entry("change").or_insert_with(|| json!({}));
    if !change.is_object() {
        *change = json!({});
    }
    change.as_object_mut()
}

/// Earlier findings as lines; `None` where there are none.
fn told(earlier: &[Finding]) -> Option<String> {
    let open = earlier.iter().filter(|finding| finding.standing != Standing::Resolved);
    let rows: Vec<String> = open
        .map(|finding| {
            let line = finding.line.map(|line| format!(":{line}")).unwrap_or_default();
            let level = serde_json::to_value(finding.level).unwrap_or_default();
            format!("{}{line} ({}): {}", finding.file, level.as_str().unwrap_or_default(), finding.what)
        })
        .collect();
    (!rows.is_empty()).then(|| rows.join("\n"))
}

/// A difference by its files' first lines.
fn sections(diff: &str) -> HashMap<&str, &str> {
    let mut found = HashMap::new();
    let mut starts: Vec<usize> = diff.match_indices("\ndiff --git ").map(|(at, _)| at + 1).collect();
    if diff.starts_with("diff --git ") {
        starts.insert(0, 0);
    }
    for (at, start) in starts.iter().enumerate() {
        let end = starts.get(at + 1).copied().unwrap_or(diff.len());
        let section = diff.get(*start..end).unwrap_or_default();
        found.insert(section.lines().next().unwrap_or_default(), section);
    }
    found
}

fn header(file: &FileChange) -> String {
    let old = file.from.as_deref().unwrap_or(&file.path);
    format!("diff --git {} {}", quoted("a/", old), quoted("b/", &file.path))
}

/// A path as git writes it: what is not plain ASCII in quotes and octal.
fn quoted(side: &str, path: &str) -> String {
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\';
    if path.bytes().all(plain) {
        return format!("{side}{path}");
    }
    let mut out = format!("\"{side}");
    for byte in path.bytes() {
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\t' => out.push_str("\\t"),
            byte if plain(byte) => out.push(char::from(byte)),
            byte => out.push_str(&format!("\\{byte:03o}")),
        }
    }
    out.push('"');
    out
}

/// The first whole hunks of a section within so many bytes, else the first whole lines; nothing where not even the
/// heading and a line fit.
fn clipped(section: &str, room: usize) -> &str {
    let head = section.find("\n@@ ").map_or(section.len(), |at| at + 1);
    let fits = section.get(..section.floor_char_boundary(room)).unwrap_or_default();
    let end = fits.rfind("\n@@ ").map(|at| at + 1).filter(|at| *at > head);
    let end = end.or_else(|| fits.rfind('\n').map(|at| at + 1).filter(|at| *at > head + 80));
    end.and_then(|end| section.get(..end)).unwrap_or_default()
}

fn is_binary(section: &str) -> bool {
    section.lines().take(8).any(|line| line.starts_with("GIT binary patch") || line.starts_with("Binary files "))
}

/// Files that a package manager writes.
fn is_lock(path: &str) -> bool {
    const LOCKS: [&str; 19] = [
        "cargo.lock",
        "package-lock.json",
        "npm-shrinkwrap.json",
        "yarn.lock",
        "pnpm-lock.yaml",
        "bun.lock",
        "bun.lockb",
        "deno.lock",
        "poetry.lock",
        "pipfile.lock",
        "uv.lock",
        "pdm.lock",
        "gemfile.lock",
        "composer.lock",
        "go.sum",
        "mix.lock",
        "pubspec.lock",
        "packages.lock.json",
        "flake.lock",
    ];
    let name = path.rsplit('/').next().unwrap_or_default().to_lowercase();
    LOCKS.contains(&name.as_str())
}

/// Files that a program writes, by their names.
fn is_generated(path: &str) -> bool {
    const ENDINGS: [&str; 16] = [
        ".min.js",
        ".min.css",
        ".bundle.js",
        ".map",
        ".pb.go",
        "_pb2.py",
        "_pb2_grpc.py",
        ".pb.cc",
        ".pb.h",
        ".g.dart",
        ".freezed.dart",
        ".designer.cs",
        ".snap",
        ".generated.ts",
        ".generated.go",
        ".svg",
    ];
    const FOLDERS: [&str; 6] = ["node_modules", "vendor", "dist", "third_party", "__generated__", "__snapshots__"];
    let path = path.to_lowercase();
    ENDINGS.iter().any(|ending| path.ends_with(ending))
        || path.rsplit_once('/').is_some_and(|(folders, _)| folders.split('/').any(|part| FOLDERS.contains(&part)))
}

/// Whether a file's own first lines say that a program wrote it.
fn says_generated(section: &str) -> bool {
    let body = section.lines().skip_while(|line| !line.starts_with("@@ -")).skip(1).take(6);
    let top = section.lines().any(|line| line.starts_with("@@ -0,0 ") || line.starts_with("@@ -1"));
    top && body.filter_map(|line| line.get(1..)).any(|line| {
        line.contains("@generated") || (line.contains("DO NOT EDIT") && line.to_lowercase().contains("generated"))
    })
}

/// Paths before the change by paths after it, for those that were renamed.
pub fn renamed(changes: &ChangeSet) -> std::collections::BTreeMap<String, String> {
    let renames = changes.files.iter().filter(|file| file.kind == ChangeKind::Renamed);
    renames.filter_map(|file| Some((file.path.clone(), file.from.clone()?))).collect()
}
