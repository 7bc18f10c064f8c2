//! Reading a patch.

use super::{FilePatch, Hunk, Line, LineKind};
use crate::text;

/// Reads a unified or git patch. Prose and code fences around it are passed over; counts in hunk headers that do not
/// fit are put right, since the context decides anyway.
///
/// # Errors
/// In words for the model: no patch in it, a line that belongs nowhere, a binary patch, a hunk without a file.
pub fn parse(text: &str) -> Result<Vec<FilePatch>, String> {
    if text.lines().any(|line| line.trim() == "*** Begin Patch") {
        return Err(
            "This is not a unified diff (`*** Begin Patch` is another format). Send `--- a/path`, `+++ b/path` and \
                    `@@ -start,count +start,count @@` hunks, or use edit_file."
                .into(),
        );
    }
    let mut reader = Reader { lines: text.split('\n').collect(), at: 0, files: Vec::new(), current: None };
    reader.read()?;
    let files = reader.files;
    if files.is_empty() {
        return Err(
            "There is no patch in `patch`: it needs `--- a/path`, `+++ b/path` and at least one `@@` hunk.".into()
        );
    }
    Ok(files)
}

struct Reader<'a> {
    lines: Vec<&'a str>,
    at: usize,
    files: Vec<FilePatch>,
    current: Option<FilePatch>,
}

impl<'a> Reader<'a> {
    /// The line `ahead` of the current one, as it is.
    fn raw(&self, ahead: usize) -> Option<&'a str> {
        self.lines.get(self.at + ahead).copied()
    }

    /// The same, without a carriage return: for headers.
    fn header(&self, ahead: usize) -> Option<&'a str> {
        self.raw(ahead).map(|line| line.strip_suffix('\r').unwrap_or(line))
    }

    fn read(&mut self) -> Result<(), String> {
        while let Some(line) = self.header(0) {
            if let Some(rest) = line.strip_prefix("diff --git ") {
                self.finish_file()?;
                let (old, new) = git_paths(rest).unzip();
                self.current = Some(FilePatch { old_path: old, new_path: new, ..FilePatch::default() });
                self.at += 1;
            } else if self.file_header() {
                self.read_file_header()?;
            } else if line.starts_with("@@") {
                if self.current.is_none() {
                    return Err(format!(
                        "Line {}: a hunk without `--- a/path` and `+++ b/path` before it.",
                        self.at + 1
                    ));
                }
                self.read_hunk(line)?;
            } else {
                self.extended_header(line)?;
                self.at += 1;
            }
        }
        self.finish_file()
    }

    /// Whether `--- …` and `+++ …` stand here.
    fn file_header(&self) -> bool {
        self.header(0).is_some_and(|line| line.starts_with("--- "))
            && self.header(1).is_some_and(|line| line.starts_with("+++ "))
    }

    fn read_file_header(&mut self) -> Result<(), String> {
        let old = self.header(0).and_then(|line| line.strip_prefix("--- ")).unwrap_or_default();
        let new = self.header(1).and_then(|line| line.strip_prefix("+++ ")).unwrap_or_default();
        let (old, new) = (path_of(old), path_of(new));
        let (old, new) = strip_prefixes(old, new);
        if old.is_none() && new.is_none() {
            return Err(format!("Line {}: both sides are /dev/null.", self.at + 1));
        }
        let fresh = match &self.current {
            // After a rename that is complete, the header of another file begins another file.
            Some(file) => {
                let renamed = file.old_path.is_some() && file.new_path.is_some() && file.old_path != file.new_path;
                !file.hunks.is_empty() || (renamed && (&file.old_path, &file.new_path) != (&old, &new))
            }
            None => true,
        };
        if fresh {
            self.finish_file()?;
        }
        let file = self.current.get_or_insert_default();
        // What `rename from` and `rename to` said already holds.
        if !(file.old_path != file.new_path && file.old_path.is_some() && file.new_path.is_some()) {
            file.old_path = old;
            file.new_path = new;
        }
        self.at += 2;
        Ok(())
    }

    fn extended_header(&mut self, line: &str) -> Result<(), String> {
        if line == "GIT binary patch" || line.starts_with("Binary files ") {
            return Err(format!(
                "Line {}: binary patches cannot be applied; only text files can be changed.",
                self.at + 1
            ));
        }
        let Some(file) = self.current.as_mut().filter(|file| file.hunks.is_empty()) else { return Ok(()) };
        if let Some(mode) = line.strip_prefix("new file mode ") {
            file.old_path = None;
            file.executable = Some(mode.trim().ends_with("755"));
        } else if line.starts_with("deleted file mode ") {
            file.new_path = None;
        } else if let Some(mode) = line.strip_prefix("new mode ") {
            file.executable = Some(mode.trim().ends_with("755"));
        } else if let Some(path) = line.strip_prefix("rename from ").or_else(|| line.strip_prefix("copy from ")) {
            file.old_path = Some(unquote(path));
            file.copy = line.starts_with("copy");
        } else if let Some(path) = line.strip_prefix("rename to ").or_else(|| line.strip_prefix("copy to ")) {
            file.new_path = Some(unquote(path));
        }
        Ok(())
    }

    fn read_hunk(&mut self, header: &str) -> Result<(), String> {
        let number = self.at + 1;
        let (old_start, counts) = hunk_header(header)
            .ok_or_else(|| format!("Line {number}: `{header}` is not a hunk header (`@@ -12,5 +12,6 @@`)."))?;
        self.at += 1;
        let (mut old, mut new) = (0usize, 0usize);
        let mut lines: Vec<Line> = Vec::new();
        while let Some(raw) = self.raw(0) {
            if let Some(marker) = raw.strip_prefix('\\') {
                if let Some(last) = lines.last_mut().filter(|_| marker.starts_with(' ')) {
                    last.no_newline = true;
                }
                self.at += 1;
                continue;
            }
            let satisfied = counts.is_some_and(|(olds, news)| old >= olds && new >= news);
            if self.ends_hunk(raw, satisfied, counts, (old, new)) {
                break;
            }
            let (kind, text) = match raw.chars().next() {
                Some('-') => (LineKind::Remove, raw.get(1..)),
                Some('+') => (LineKind::Add, raw.get(1..)),
                Some(' ') => (LineKind::Context, raw.get(1..)),
                // An empty context line whose blank was trimmed away.
                _ => (LineKind::Context, Some(raw)),
            };
            old += usize::from(kind != LineKind::Add);
            new += usize::from(kind != LineKind::Remove);
            lines.push(Line { kind, text: text.unwrap_or_default().to_owned(), no_newline: false });
            self.at += 1;
        }
        if lines.is_empty() {
            return Err(format!("Line {number}: the hunk is empty."));
        }
        if let Some(file) = self.current.as_mut() {
            file.hunks.push(Hunk { old_start, lines });
        }
        Ok(())
    }

    /// Whether the hunk is over before `raw`.
    fn ends_hunk(&self, raw: &str, satisfied: bool, counts: Option<(usize, usize)>, seen: (usize, usize)) -> bool {
        let line = raw.strip_suffix('\r').unwrap_or(raw);
        if line.is_empty() {
            // Trimmed context, unless the hunk is complete or nothing of it follows.
            return satisfied || !self.body_goes_on();
        }
        match line.chars().next() {
            Some('-') if self.file_header() => {
                // Two lines of the body can look like a header: only where they complete the counts exactly.
                let completes = counts == Some((seen.0 + 1, seen.1 + 1));
                satisfied || (!completes && self.header(2).is_some_and(|line| line.starts_with("@@")))
            }
            Some('-' | '+' | ' ') => false,
            _ => true,
        }
    }

    /// Whether a line of a hunk's body follows the empty lines here.
    fn body_goes_on(&self) -> bool {
        let mut ahead = 0;
        while self.header(ahead).is_some_and(str::is_empty) {
            ahead += 1;
        }
        self.raw(ahead).is_some_and(|line| {
            line.starts_with([' ', '+', '-', '\\'])
                && !(line.starts_with("--- ") && self.header(ahead + 1).is_some_and(|next| next.starts_with("+++ ")))
        })
    }

    fn finish_file(&mut self) -> Result<(), String> {
        let Some(file) = self.current.take() else { return Ok(()) };
        let moved = file.old_path != file.new_path;
        if file.hunks.is_empty() && !moved && file.executable.is_none() {
            return Err(format!("The patch names `{}` but changes nothing in it: no `@@` hunk follows.", file.path()));
        }
        if file.path().is_empty() {
            return Err("The patch has a hunk for a file without a name.".into());
        }
        self.files.push(file);
        Ok(())
    }
}

/// Old start (from 1), and the counts of old and new lines, where a header gives them.
type HunkHeader = (Option<usize>, Option<(usize, usize)>);

/// A header without numbers gives neither.
fn hunk_header(header: &str) -> Option<HunkHeader> {
    let inner = header.strip_prefix("@@")?;
    let inner = inner.find("@@").and_then(|end| inner.get(..end)).unwrap_or(inner).trim();
    if !inner.starts_with('-') {
        // `@@` or `@@ fn name @@`, as some models write it.
        return Some((None, None));
    }
    let mut parts = inner.split_whitespace();
    let (start, old) = range(parts.next()?.strip_prefix('-')?)?;
    let (_, new) = range(parts.next()?.strip_prefix('+')?)?;
    Some((Some(start), Some((old, new))))
}

fn range(text: &str) -> Option<(usize, usize)> {
    match text.split_once(',') {
        Some((start, count)) => Some((start.parse().ok()?, count.parse().ok()?)),
        None => Some((text.parse().ok()?, 1)),
    }
}

/// The path of a `---` or `+++` line, without a time stamp; `None` for `/dev/null`.
fn path_of(text: &str) -> Option<String> {
    let text = if text.starts_with('"') { text } else { text.split('\t').next().unwrap_or_default().trim_end() };
    let path = unquote(text);
    (path != "/dev/null").then_some(path)
}

/// Takes `a/` and `b/` away where both sides have theirs.
fn strip_prefixes(old: Option<String>, new: Option<String>) -> (Option<String>, Option<String>) {
    let has = |path: &Option<String>, prefix: &str| path.as_ref().is_none_or(|path| path.starts_with(prefix));
    if !(has(&old, "a/") && has(&new, "b/")) {
        return (old, new);
    }
    let strip = |path: Option<String>| path.map(|path| path.get(2..).unwrap_or_default().to_owned());
    (strip(old), strip(new))
}

/// The two paths of `diff --git a/x b/x`.
fn git_paths(rest: &str) -> Option<(String, String)> {
    if rest.starts_with('"') {
        let end = closing_quote(rest)?;
        let (old, new) = rest.split_at(end);
        let paths = strip_prefixes(Some(unquote(old)), Some(unquote(new.trim())));
        return paths.0.zip(paths.1);
    }
    // Without a rename both names are the same, so the line is cut in its middle; otherwise `rename from` will say.
    let same = rest.match_indices(" b/").find_map(|(at, _)| {
        let (old, new) = (rest.get(..at)?, rest.get(at + 1..)?);
        (old.get(2..)? == new.get(2..)?).then(|| (old.to_owned(), new.to_owned()))
    });
    let (old, new) = same.or_else(|| rest.split_once(" b/").map(|(old, new)| (old.to_owned(), format!("b/{new}"))))?;
    let paths = strip_prefixes(Some(old), Some(new));
    paths.0.zip(paths.1)
}

/// Where a quoted name ends, the quote included.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().skip(1).find_map(|(at, c)| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends.then_some(at + 1)
    })
}

/// A name as git quotes it (`"caf\303\251"`), unquoted.
fn unquote(name: &str) -> String {
    let name = name.trim_end_matches('\r');
    let quoted = name.len() > 1 && name.starts_with('"') && name.ends_with('"');
    if quoted { text::unquote(name).0 } else { name.to_owned() }
}
