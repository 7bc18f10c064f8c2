//! Search and replace, exact; and what to say when it does not match.

use similar::{ChangeTag, TextDiff};
use std::fmt::Write;

/// How many windows of a file are compared with a text that was not found.
const MOST_WINDOWS: usize = 50_000;
/// How many lines of the nearest region are shown.
const MOST_LINES: usize = 30;

/// `content` with `old` replaced by `new`: exactly one occurrence, or every one with `all`.
///
/// In a file with CRLF line endings `\n` in `old` matches `\r\n`, and `new` gets CRLF too; the other way round alike.
///
/// # Errors
/// In words for the model: nothing found (with the nearest region, its line numbers and what differs), several found
/// (with their lines), or nothing to do.
pub fn replace(content: &str, old: &str, new: &str, all: bool) -> Result<String, String> {
    if old.is_empty() {
        return Err("`old` is empty. Give the exact text to replace; use write_file to write a whole file.".into());
    }
    let (old, new) = match_endings(content, old, new);
    if old == new {
        return Err("`old` and `new` are the same: there is nothing to change.".into());
    }
    let found: Vec<usize> = content.match_indices(old.as_str()).map(|(at, _)| at).collect();
    match found.len() {
        0 => Err(not_found(content, &old)),
        1 => Ok(content.replacen(old.as_str(), &new, 1)),
        _ if all => Ok(content.replace(old.as_str(), &new)),
        count => Err(format!(
            "`old` occurs {count} times, at lines {}. Add lines before or after it until it is unique, or set replace_all to \
             true to change every one.",
            join_lines(content, &found)
        )),
    }
}

fn join_lines(content: &str, places: &[usize]) -> String {
    let mut lines: Vec<String> = places
        .iter()
        .take(20)
        .map(|at| (content.get(..*at).unwrap_or_default().matches('\n').count() + 1).to_string())
        .collect();
    if places.len() > lines.len() {
        lines.push("…".into());
    }
    lines.join(", ")
}

/// `old` and `new` with the line endings of `content`, where `content` has only one kind.
fn match_endings(content: &str, old: &str, new: &str) -> (String, String) {
    let crlf = content.matches("\r\n").count();
    let all = content.matches('\n').count();
    let to_lf = |text: &str| text.replace("\r\n", "\n");
    if crlf > 0 && crlf == all {
        (to_lf(old).replace('\n', "\r\n"), to_lf(new).replace('\n', "\r\n"))
    } else if crlf == 0 && !content.contains(old) && old.contains("\r\n") {
        (to_lf(old), to_lf(new))
    } else {
        (old.to_owned(), new.to_owned())
    }
}

fn not_found(content: &str, old: &str) -> String {
    if content.is_empty() {
        return "`old` was not found: the file is empty.".into();
    }
    if let Some(plain) = without_numbers(old)
        && content.contains(plain.as_str())
    {
        return "`old` was not found because it holds the line numbers that read_file prints. Leave them out.".into();
    }
    let wanted: Vec<&str> = lines(old);
    match nearest(content, &wanted) {
        Some(region) => format!(
            "`old` was not found in the file.\n{}Copy the text exactly as it stands in the file; read_file shows it.",
            region.describe("your `old`")
        ),
        None => {
            "`old` was not found in the file, nor anything like it. Read the file again: it may have changed, or the \
                 text is in another file (use search)."
                .into()
        }
    }
}

/// Lines without their endings; a final newline does not begin another line.
pub(super) fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

/// `old` without the numbers of [`super::tools::number_lines`], if every line begins with one.
fn without_numbers(old: &str) -> Option<String> {
    let plain: Option<Vec<&str>> = old
        .split('\n')
        .map(|line| match line.split_once('\t') {
            Some((number, rest)) if number.trim().parse::<u64>().is_ok() => Some(rest),
            _ if line.is_empty() => Some(line),
            _ => None,
        })
        .collect();
    plain.map(|plain| plain.join("\n"))
}

/// The place in a file that is most like a text which is not in it.
pub(super) struct Region<'a> {
    /// Its first line, from 1.
    first: usize,
    /// The file's lines there.
    found: Vec<&'a str>,
    /// The lines that were looked for.
    wanted: Vec<&'a str>,
}

/// Finds the region of `content` most like `wanted`; `None` where nothing is.
pub(super) fn nearest<'a>(content: &'a str, wanted: &[&'a str]) -> Option<Region<'a>> {
    let have = lines(content);
    let size = wanted.len().min(have.len());
    if size == 0 || wanted.iter().all(|line| line.trim().is_empty()) {
        return None;
    }
    let have_squeezed: Vec<String> = have.iter().map(|line| squeeze(line)).collect();
    let wanted_squeezed: Vec<String> = wanted.iter().map(|line| squeeze(line)).collect();
    let windows = have.len() - size + 1;
    let budget = (MOST_WINDOWS * 20 / size).max(1);
    let mut best = (0usize, 0usize);
    for start in 0..windows.min(budget) {
        let same = have_squeezed
            .iter()
            .skip(start)
            .zip(&wanted_squeezed)
            .filter(|(have, want)| have == want && have.chars().any(char::is_alphanumeric))
            .map(|(have, _)| have.len().min(40) + 1)
            .sum();
        if same > best.0 {
            best = (same, start);
        }
    }
    let start = if best.0 > 0 { best.1 } else { by_similarity(&have_squeezed, &wanted_squeezed, windows)? };
    let found = have.iter().skip(start).take(size).copied().collect();
    Some(Region { first: start + 1, found, wanted: wanted.to_vec() })
}

/// The window whose line is most like the longest line that was wanted.
fn by_similarity(have: &[String], wanted: &[String], windows: usize) -> Option<usize> {
    let (offset, key) = wanted.iter().enumerate().max_by_key(|(_, line)| line.len())?;
    let short = |line: &str| line.chars().take(200).collect::<String>();
    let key = short(key);
    let scored = have.iter().take(5_000).enumerate().filter(|(_, line)| line.len() * 3 >= key.len());
    let best = scored
        .map(|(at, line)| (strsim::normalized_levenshtein(&key, &short(line)), at))
        .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)))?;
    (best.0 >= 0.5).then(|| best.1.saturating_sub(offset).min(windows.saturating_sub(1)))
}

/// White space reduced to single blanks: what is left decides whether two lines mean the same.
fn squeeze(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Region<'_> {
    /// Where it is, what differs, and the difference itself. `theirs` names the text that was looked for.
    pub(super) fn describe(&self, theirs: &str) -> String {
        let last = self.first + self.found.len().saturating_sub(1);
        let mut out = format!("The nearest text is at lines {}-{last}", self.first);
        let whitespace_only = self.found.len() == self.wanted.len()
            && self.found.iter().zip(&self.wanted).all(|(a, b)| squeeze(a) == squeeze(b));
        if whitespace_only {
            let _ = write!(out, "; only white space differs: {}", self.whitespace(theirs));
        }
        let _ = writeln!(
            out,
            ". Difference (- {theirs}, + the file{}):",
            if whitespace_only { "; → is a tab, · a blank" } else { "" }
        );
        let show = |line: &str| if whitespace_only { visible(line) } else { line.to_owned() };
        let old: Vec<String> = self.wanted.iter().map(|line| show(line)).collect();
        let new: Vec<String> = self.found.iter().map(|line| show(line)).collect();
        let old: Vec<&str> = old.iter().map(String::as_str).collect();
        let new: Vec<&str> = new.iter().map(String::as_str).collect();
        let diff = TextDiff::from_slices(&old, &new);
        for (shown, change) in diff.iter_all_changes().enumerate() {
            if shown == MOST_LINES {
                out.push_str("  …\n");
                break;
            }
            let sign = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            let _ = writeln!(out, "{sign}{}", change.value());
        }
        out
    }

    fn whitespace(&self, theirs: &str) -> String {
        let indent = |line: &str| line.chars().take_while(|c| c.is_whitespace()).collect::<String>();
        let pairs = || self.found.iter().zip(&self.wanted);
        let mut reasons = Vec::new();
        if pairs().any(|(have, want)| indent(have).contains('\t') && !indent(want).contains('\t')) {
            reasons.push(format!("the file indents with tabs where {theirs} has blanks"));
        } else if pairs().any(|(have, want)| !indent(have).contains('\t') && indent(want).contains('\t')) {
            reasons.push(format!("the file indents with blanks where {theirs} has tabs"));
        } else if pairs().any(|(have, want)| indent(have) != indent(want)) {
            reasons.push("the depth of the indentation".into());
        }
        if pairs().any(|(have, want)| {
            have.trim_end() == have.trim_end_matches('\r') && have.ends_with('\r') != want.ends_with('\r')
        }) {
            reasons.push("the line endings (CRLF against LF)".into());
        } else if pairs().any(|(have, want)| (have.trim_end() == *have) != (want.trim_end() == *want)) {
            reasons.push("white space at the end of lines".into());
        }
        if reasons.is_empty() {
            reasons.push("blanks within lines, or line endings".into());
        }
        reasons.join("; ")
    }
}

/// White space that can be seen.
fn visible(line: &str) -> String {
    let body = line.trim_end();
    let tail: String = line.chars().skip(body.chars().count()).map(|c| if c == '\t' { '→' } else { '·' }).collect();
    let lead = body.chars().take_while(|c| c.is_whitespace()).count();
    let body: String = body
        .chars()
        .enumerate()
        .map(|(at, c)| match c {
            '\t' => '→',
            ' ' if at < lead => '·',
            other => other,
        })
        .collect();
    body + &tail
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CODE: &str = "fn main() {\n\tlet x = 1;\n\tprintln!(\"{x}\");\n}\n\nfn other() {\n\tlet x = 1;\n}\n";

    #[test]
    fn exact_text_is_replaced() {
        assert_eq!(replace("a b c", "b", "B", false), Ok("a B c".into()));
        assert_eq!(replace("a a", "a", "b", true), Ok("b b".into()));
        assert_eq!(replace("x\n", "x\n", "", false), Ok(String::new()));
        assert_eq!(replace("$1 \\0", "$1", "\\0", false), Ok("\\0 \\0".into()));
    }

    #[test]
    fn line_endings_of_the_file_are_kept() {
        assert_eq!(replace("a\r\nb\r\nc\r\n", "a\nb\n", "A\nB\nB2\n", false), Ok("A\r\nB\r\nB2\r\nc\r\n".into()));
        assert_eq!(replace("a\r\nb\r\n", "b", "x\ny", false), Ok("a\r\nx\r\ny\r\n".into()));
        assert_eq!(replace("a\nb\n", "a\r\nb", "A\r\nB", false), Ok("A\nB\n".into()));
        assert_eq!(replace("a\r\nb\n", "b\n", "c\nd\n", false), Ok("a\r\nc\nd\n".into()));
    }

    #[test]
    fn ambiguity_names_the_lines() {
        let error = replace(CODE, "let x = 1;", "let x = 2;", false).unwrap_err();
        assert!(error.contains("2 times") && error.contains("lines 2, 7") && error.contains("replace_all"), "{error}");
    }

    #[test]
    fn a_miss_shows_the_nearest_region_and_the_reason() {
        let error = replace(CODE, "fn main() {\n    let x = 1;\n    println!(\"{x}\");\n}", "", false).unwrap_err();
        assert!(error.contains("lines 1-4"), "{error}");
        assert!(
            error.contains("indents with tabs") && error.contains("+→let x = 1;") && error.contains("-····let x"),
            "{error}"
        );

        let error = replace(CODE, "\tlet x = 1;\n\tprintln!(\"{y}\");\n", "", false).unwrap_err();
        assert!(
            error.contains("lines 2-3")
                && error.contains("-\tprintln!(\"{y}\");")
                && error.contains("+\tprintln!(\"{x}\");"),
            "{error}"
        );

        let error = replace(CODE, "fn othre() {", "", false).unwrap_err();
        assert!(error.contains("lines 6-6"), "{error}");

        let error = replace(CODE, "     2\t\tlet x = 1;\n     3\t\tprintln!(\"{x}\");", "", false).unwrap_err();
        assert!(error.contains("line numbers"), "{error}");

        let error = replace(CODE, "completely unrelated sentence about gardening", "", false).unwrap_err();
        assert!(error.contains("nor anything like it"), "{error}");
        assert!(replace("", "a", "b", false).unwrap_err().contains("empty"));
        assert!(replace("a", "", "b", false).is_err() && replace("a", "a", "a", false).is_err());
    }

    proptest! {
        #[test]
        fn never_panics_and_replaces_what_is_there(content in "[ab\\t\\n\\ré ]{0,40}", old in "[ab\\t\\n é]{0,6}", new in "[xy\\n]{0,4}") {
            let result = replace(&content, &old, &new, false);
            if let Ok(result) = result {
                prop_assert!(result != content || result.contains('\r'));
            }
        }
    }
}
