//! How results read: short, numbered, and saying what is left out.

use crate::model::exec::ExecOutcome;
use crate::text::{cap, clean};
use similar::TextDiff;
use std::fmt::Write;

/// Lines that one `read_file` shows at most.
const READ_LINES: usize = 2_000;
/// Bytes that one result shows at most.
const RESULT_BYTES: usize = 64 * 1024;
/// Characters of one line that are shown; minified files have lines without end.
const LINE_CHARS: usize = 2_000;
/// Characters of one line in a search result.
const HIT_CHARS: usize = 300;

/// `text` with a number before each line, the first of which is `first`: `     7\ttext`.
pub fn number_lines(text: &str, first: usize) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 4);
    for (index, line) in text.lines().enumerate() {
        let _ = writeln!(out, "{:>6}\t{}", first + index, shorten(line, LINE_CHARS));
    }
    out
}

fn shorten(line: &str, chars: usize) -> String {
    match line.char_indices().nth(chars) {
        None => line.to_owned(),
        Some((cut, _)) => format!("{}… [{} bytes more]", line.get(..cut).unwrap_or_default(), line.len() - cut),
    }
}

/// The result of `read_file`: numbered lines, and what there is beyond them.
///
/// # Errors
/// In words for the model, where the file has no such line.
pub fn read_file(path: &str, content: &str, start: Option<usize>, end: Option<usize>) -> Result<String, String> {
    let total = content.lines().count();
    let start = start.unwrap_or(1).max(1);
    if total == 0 {
        return Ok(format!("{path} is empty."));
    }
    if start > total {
        return Err(format!("{path} has {total} lines; there is no line {start}."));
    }
    let end = end.unwrap_or(total).clamp(start, total).min(start.saturating_add(READ_LINES - 1));
    let mut out = String::new();
    let mut shown_to = start - 1;
    for (index, line) in content.lines().enumerate().skip(start - 1).take(end + 1 - start) {
        let line = number_lines(line, index + 1);
        // An empty line has no text to number.
        let line = if line.is_empty() { format!("{:>6}\t\n", index + 1) } else { line };
        if out.len() + line.len() > RESULT_BYTES && !out.is_empty() {
            break;
        }
        out.push_str(&line);
        shown_to = index + 1;
    }
    if shown_to < total || start > 1 {
        let _ = write!(out, "[lines {start}-{shown_to} of {total}");
        if shown_to < total {
            let _ = write!(out, "; continue with start_line {}", shown_to + 1);
        }
        out.push_str("]\n");
    }
    Ok(out)
}

/// The result of `list_files`: one path a line. `total` counts those that were left out too.
pub fn listing(paths: &[String], total: usize) -> String {
    if paths.is_empty() {
        return "No files match.".into();
    }
    let mut out = paths.join("\n");
    if total > paths.len() {
        let _ = write!(out, "\n[{} of {total} files; narrow it with path or glob]", paths.len());
    }
    out
}

/// A line that a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The file.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
    /// Its text.
    pub text: String,
}

/// The result of `search`: `path:line: text`. `more` says that there were hits beyond these.
pub fn search_results(hits: &[Hit], more: bool) -> String {
    if hits.is_empty() {
        return "Nothing found. Is the pattern a valid regular expression for what you mean? Try a shorter one, or (?i).".into();
    }
    let mut out = String::new();
    for hit in hits {
        let _ = writeln!(out, "{}:{}: {}", hit.path, hit.line, shorten(hit.text.trim_end(), HIT_CHARS));
    }
    if more {
        let _ = writeln!(out, "[only the first {} hits; narrow the pattern, the path or the glob]", hits.len());
    }
    cap(&out, RESULT_BYTES)
}

/// The result of `shell`: how the command ended, then its output.
pub fn command(outcome: &ExecOutcome) -> String {
    let output = outcome.output.trim_end();
    let mut out = outcome.describe();
    if output.is_empty() {
        out.push_str("\n(no output)");
    } else {
        out.push('\n');
        out.push_str(output);
    }
    out
}

/// Whether the result of a writing tool says that it changed something.
pub fn is_change(result: &str) -> bool {
    result.lines().any(|line| ["Changed ", "Created ", "Deleted "].iter().any(|verb| line.starts_with(verb)))
}

/// The result of a writing tool: what changed in `path`, as a short diff.
pub fn changed(path: &str, before: Option<&str>, after: Option<&str>) -> String {
    let (old, new) = (before.unwrap_or_default(), after.unwrap_or_default());
    let verb = match (before, after) {
        (None, Some(_)) => return format!("Created {path} ({} lines).", new.lines().count()),
        (Some(_), None) => return format!("Deleted {path}."),
        _ if old == new => return format!("{path} is as it was: the new content is the same."),
        _ => "Changed",
    };
    let diff = TextDiff::from_lines(old, new).unified_diff().context_radius(2).to_string();
    format!("{verb} {path}:\n{}", cap(&clean(&diff), 4 * 1024))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::exec::ExecStatus;

    #[test]
    fn files_are_numbered_and_paged() {
        assert_eq!(number_lines("a\n\nb", 9), "     9\ta\n    10\t\n    11\tb\n");
        assert_eq!(read_file("f", "a\n\nb\n", None, None), Ok("     1\ta\n     2\t\n     3\tb\n".into()));
        assert_eq!(
            read_file("f", "a\nb\nc\n", Some(2), Some(2)),
            Ok("     2\tb\n[lines 2-2 of 3; continue with start_line 3]\n".into())
        );
        assert!(read_file("f", "a\n", Some(5), None).unwrap_err().contains("has 1 lines"));
        let long = "x\n".repeat(5_000);
        let shown = read_file("f", &long, None, None).unwrap();
        assert!(
            shown.ends_with("[lines 1-2000 of 5000; continue with start_line 2001]\n"),
            "{}",
            &shown[shown.len() - 80..]
        );
        let wide = read_file("f", &"é".repeat(100_000), None, None).unwrap();
        assert!(wide.len() < 5_000 && wide.contains("bytes more"));
        assert!(
            read_file("f", &format!("{}\n", "y".repeat(1_900)).repeat(100), None, None).unwrap().len()
                < RESULT_BYTES + 100
        );
    }

    #[test]
    fn results_say_what_is_left_out() {
        let hit = Hit { path: "a.rs".into(), line: 3, text: "  let x = 1;  ".into() };
        assert_eq!(
            search_results(&[hit], true),
            "a.rs:3:   let x = 1;\n[only the first 1 hits; narrow the pattern, the path or the glob]\n"
        );
        assert_eq!(listing(&["a".into(), "b".into()], 5), "a\nb\n[2 of 5 files; narrow it with path or glob]");
        let outcome =
            ExecOutcome { status: ExecStatus::Exited(1), output: "boom\n".into(), dropped: 0, duration_ms: 3 };
        assert_eq!(command(&outcome), "exit code 1\nboom");
        assert_eq!(changed("f", Some("a\nb\n"), Some("a\nc\n")), "Changed f:\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n");
        assert_eq!(changed("f", None, Some("a\n")), "Created f (1 lines).");
        let results =
            [changed("f", None, Some("a")), changed("f", Some("a"), Some("b")), changed("f", Some("a"), None)];
        assert!(results.iter().all(|result| is_change(result)));
        assert!(!is_change(&changed("f", Some("a"), Some("a"))) && !is_change("`old` is not in f."));
    }
}
