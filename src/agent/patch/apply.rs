//! Applying a patch: exact context, at the line it names or at the only other place where it fits.

use super::{FilePatch, Hunk, Line};
use crate::agent::edit::nearest;

/// Applies the patch of one file to its content (`None`: there is no such file). Returns the new content, or `None`
/// where the patch deletes the file.
///
/// Context must match to the letter. Where it is not at the line that the header names, the hunk goes to the only place
/// where it does match; with several such places it is refused. In a file with CRLF line endings a patch without them
/// is taken to mean them.
///
/// # Errors
/// In words for the model: which hunk, why, and the nearest text.
pub fn apply(original: Option<&str>, patch: &FilePatch) -> Result<Option<String>, String> {
    let path = patch.path();
    let Some(_) = &patch.old_path else {
        if original.is_some_and(|text| !text.is_empty()) {
            return Err(format!(
                "{path}: the patch creates the file, but it exists already. Patch it as it is, or use write_file."
            ));
        }
        return change(&Text::of(""), patch).map(Some);
    };
    let Some(original) = original else {
        let old = patch.old_path.as_deref().unwrap_or(path);
        return Err(format!("{old}: there is no such file. To create one, use `--- /dev/null`, or write_file."));
    };
    let text = Text::of(original);
    if patch.new_path.is_some() {
        return change(&text, patch).map(Some);
    }
    if !patch.hunks.is_empty() && !change(&text, patch)?.is_empty() {
        return Err(format!(
            "{path}: the patch deletes the file, but does not remove all of its lines. Read it again."
        ));
    }
    Ok(None)
}

/// Text as lines, and whether the last one has its newline.
struct Text<'a> {
    whole: &'a str,
    lines: Vec<&'a str>,
    newline: bool,
}

impl<'a> Text<'a> {
    fn of(text: &'a str) -> Self {
        let newline = text.is_empty() || text.ends_with('\n');
        let body = text.strip_suffix('\n').unwrap_or(text);
        let lines = if text.is_empty() { Vec::new() } else { body.split('\n').collect() };
        Self { whole: text, lines, newline }
    }

    /// Whether every line ends with CRLF.
    fn crlf(&self) -> bool {
        self.newline && !self.lines.is_empty() && self.lines.iter().all(|line| line.ends_with('\r'))
    }
}

/// What a carriage return at a line's end means, as patch and file differ in it.
#[derive(Clone, Copy)]
enum Endings {
    AsWritten,
    Add,
    Strip,
}

impl Endings {
    fn between(text: &Text<'_>, hunks: &[Hunk]) -> Self {
        let mut lines = hunks.iter().flat_map(|hunk| &hunk.lines).peekable();
        if lines.peek().is_none() {
            Self::AsWritten
        } else if text.crlf() && !hunks.iter().flat_map(|hunk| &hunk.lines).any(|line| line.text.ends_with('\r')) {
            Self::Add
        } else if !text.whole.contains('\r') && lines.all(|line| line.text.ends_with('\r')) {
            Self::Strip
        } else {
            Self::AsWritten
        }
    }

    fn text(self, line: &Line) -> String {
        match self {
            Self::AsWritten => line.text.clone(),
            Self::Add => format!("{}\r", line.text),
            Self::Strip => line.text.strip_suffix('\r').unwrap_or(&line.text).to_owned(),
        }
    }
}

fn change(text: &Text<'_>, patch: &FilePatch) -> Result<String, String> {
    let endings = Endings::between(text, &patch.hunks);
    let mut out: Vec<String> = Vec::with_capacity(text.lines.len());
    let mut newline = text.newline;
    let mut done = 0usize;
    let mut drift = 0isize;
    for (index, hunk) in patch.hunks.iter().enumerate() {
        let number = index + 1;
        let old: Vec<String> = hunk.old().map(|line| endings.text(line)).collect();
        let at = place(text, patch, number, hunk, &old, done, drift)?;
        if let Some(start) = hunk.old_start {
            let named = start.saturating_sub(usize::from(!old.is_empty()));
            drift = at as isize - named as isize;
        }
        let end = at + old.len();
        let old_ends_bare = hunk.old().last().is_some_and(|line| line.no_newline);
        if old_ends_bare && (end != text.lines.len() || text.newline) {
            return Err(format!(
                "{}: hunk {number} says that the file ends without a newline after line {end}; it does not.",
                patch.path()
            ));
        }
        out.extend(text.lines.iter().take(at).skip(done).map(|line| (*line).to_owned()));
        out.extend(hunk.after().map(|line| endings.text(line)));
        done = end;
        if end == text.lines.len() {
            let marked = hunk.lines.iter().any(|line| line.no_newline);
            if marked {
                newline = !hunk.after().last().is_some_and(|line| line.no_newline);
            }
        } else if hunk.lines.iter().any(|line| line.no_newline) {
            return Err(format!(
                "{}: hunk {number} ends the file without a newline, but more lines follow.",
                patch.path()
            ));
        }
    }
    out.extend(text.lines.iter().skip(done).map(|line| (*line).to_owned()));
    let mut result = out.join("\n");
    if newline && !out.is_empty() {
        result.push('\n');
    }
    Ok(result)
}

/// The index of the first line that the hunk replaces.
fn place(
    text: &Text<'_>,
    patch: &FilePatch,
    number: usize,
    hunk: &Hunk,
    old: &[String],
    done: usize,
    drift: isize,
) -> Result<usize, String> {
    let path = patch.path();
    if old.is_empty() {
        // A pure insertion goes after the line that the header names.
        return match hunk.old_start {
            _ if text.lines.is_empty() => Ok(0),
            Some(start) if (done..=text.lines.len()).contains(&start.saturating_add_signed(drift)) => {
                Ok(start.saturating_add_signed(drift))
            }
            _ => Err(format!(
                "{path}: hunk {number} only adds lines and its header does not say after which line of the file's {} they \
                 come. Add a line of context.",
                text.lines.len()
            )),
        };
    }
    let fits =
        |at: usize| text.lines.iter().skip(at).zip(old).filter(|(have, want)| *have == want).count() == old.len();
    let expected = hunk.old_start.map(|start| (start as isize - 1).saturating_add(drift));
    if let Some(expected) = expected.and_then(|at| usize::try_from(at).ok())
        && expected >= done
        && fits(expected)
    {
        return Ok(expected);
    }
    let mut places = Vec::new();
    let last = (text.lines.len() + 1).saturating_sub(old.len());
    for at in done..last {
        if fits(at) {
            places.push(at);
        }
    }
    match places.as_slice() {
        [only] => Ok(*only),
        [] => {
            let wanted: Vec<&str> = old.iter().map(|line| line.strip_suffix('\r').unwrap_or(line)).collect();
            let near = nearest(text.whole, &wanted)
                .map_or_else(|| "Nothing in the file is like it.\n".to_owned(), |near| near.describe("the hunk"));
            let overlap = if done > 0 { " below the hunk before it" } else { "" };
            Err(format!(
                "{path}: hunk {number} does not match the file{overlap}, so nothing was changed. {near}Read the file again and \
                 make the context lines exactly as they stand there, or use edit_file."
            ))
        }
        several => {
            let lines: Vec<String> = several.iter().take(20).map(|at| (at + 1).to_string()).collect();
            Err(format!(
                "{path}: hunk {number} matches at lines {}, but not where its header says. Add context lines until only one \
                 place fits, or put the right line number into the header.",
                lines.join(", ")
            ))
        }
    }
}
