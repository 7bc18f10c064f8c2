//! Names and words of what is published.

use crate::model::finding::{Finding, Level};
use crate::model::plan::ForgeSpec;
use crate::port::forge::{LineSide, Remark};
use crate::text::{self, Hosts};

/// The line of a commit's message that says which key it belongs to.
pub const KEY_TRAILER: &str = "CodeForge-Key";

/// A key as one word.
pub(super) fn key(key: &str) -> String {
    key.chars().map(|c| if c.is_ascii_alphanumeric() || "._:/-".contains(c) { c } else { '-' }).collect()
}

/// Whether a commit's message says that it belongs to a key.
pub(super) fn has_key(message: &str, wanted: &str) -> bool {
    of_key(message).is_some_and(|named| named == key(wanted))
}

/// The key that a commit's message names: it says that it is of ours. Anybody can write that.
pub fn of_key(message: &str) -> Option<&str> {
    let last = message.trim_end().lines().next_back()?;
    last.trim().strip_prefix(KEY_TRAILER)?.strip_prefix(": ")
}

/// The last block of a commit's message: who answers for it, and which key it belongs to.
pub(super) fn trailers(author: &(String, String), asked: &ForgeSpec, of: &str) -> String {
    let mut lines = String::new();
    let signed = format!("{} <{}>", author.0, author.1);
    if asked.sign_off && text::is_person(&signed) {
        lines.push_str(&format!("Signed-off-by: {signed}\n"));
    }
    for person in asked.co_authors.iter().filter(|person| text::is_person(person)) {
        lines.push_str(&format!("Co-authored-by: {person}\n"));
    }
    format!("{lines}{KEY_TRAILER}: {}", key(of))
}

/// Why git, or a forge, would not take a branch's name; `None`: it would.
pub fn branch_name_fault(name: &str) -> Option<&'static str> {
    let bad = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c);
    if name.is_empty() || name.len() > 200 {
        return Some("it is empty or too long");
    }
    if name.starts_with('-') || name.starts_with("refs/") || name == "HEAD" || name == "@" {
        return Some("it would be read as something else");
    }
    if name.chars().any(bad) || name.contains("..") || name.contains("@{") || name.ends_with('.') {
        return Some("it has characters that no branch may have");
    }
    if text::invisible(name) != name {
        return Some("it has characters that cannot be seen");
    }
    if name.split('/').any(|part| part.is_empty() || part.starts_with('.') || part.ends_with(".lock")) {
        return Some("a part of it is empty, begins with a dot or ends with `.lock`");
    }
    // What looks like a commit is one to some programs.
    if name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Some("it looks like a commit");
    }
    None
}

/// What a finding's remark is known by.
pub(super) fn remark_key(key: &str, finding: &Finding) -> String {
    format!("{key}/{}", finding.fingerprint)
}

/// A finding as a remark at its line; `None`: it has no line.
pub(super) fn remark(key: &str, finding: &Finding, hosts: &Hosts) -> Option<Remark> {
    let (suggestion, replacement) = match finding.suggestion.as_deref().map(|text| (text, fenced(text))) {
        Some((_, Some(code))) => (String::new(), Some(text::invisible(&text::clean(&code)))),
        Some((words, None)) => (format!("\n\n{words}"), None),
        None => (String::new(), None),
    };
    let rule = finding.rule.as_deref().map(|rule| format!(" · {rule}")).unwrap_or_default();
    let body = format!("**{}**{rule}: {}{suggestion}", level(finding.level), finding.what);
    Some(Remark {
        key: remark_key(key, finding),
        path: finding.file.clone(),
        start_line: finding.end_line.and(finding.line),
        line: finding.end_line.or(finding.line)?,
        side: LineSide::New,
        body: text::neutral(&body, hosts),
        replacement,
    })
}

/// The code of a suggestion that is one code block and nothing else: the text to put in the line's place. Other
/// suggestions are words.
fn fenced(suggestion: &str) -> Option<String> {
    let text = suggestion.trim();
    let (first, rest) = text.split_once('\n')?;
    let ticks = first.chars().take_while(|c| *c == '`').count();
    if ticks < 3 {
        return None;
    }
    let fence = "`".repeat(ticks);
    let code = rest.strip_suffix(&fence)?;
    let code = code.strip_suffix('\n').unwrap_or(code);
    (!code.lines().any(|line| line.trim_start().starts_with(&fence))).then(|| code.to_owned())
}

/// Findings as a list.
pub(super) fn listed(findings: &[&Finding]) -> String {
    let mut lines = String::new();
    for finding in findings {
        let place = match finding.line {
            Some(line) => format!("{}:{line}", finding.file),
            None => finding.file.clone(),
        };
        let what = finding.what.replace('\n', " ");
        lines.push_str(&format!("- **{}** `{}`: {what}\n", level(finding.level), place.replace('`', "'")));
    }
    if lines.is_empty() { lines } else { format!("Not said at a line:\n\n{lines}") }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Low => "Low",
        Level::Medium => "Medium",
        Level::High => "High",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_something_else_are_no_branches() {
        for good in ["codeforge/fix/a-1", "feature/x", "a"] {
            assert_eq!(branch_name_fault(good), None, "{good}");
        }
        let hex = "a".repeat(40);
        for bad in [
            "",
            "+main:x",
            "--force",
            "-d",
            "refs/heads/main",
            "a..b",
            "a b",
            "a\nb",
            "a~1",
            "x.lock/y",
            "/a",
            "a//b",
            "@",
            "a@{1}",
            ".a",
            "a:b",
            "ext::sh",
            "a\u{200b}b",
            &hex,
        ] {
            assert!(branch_name_fault(bad).is_some() || bad == "+main:x", "{bad:?}");
        }
        assert!(branch_name_fault("+main:x").is_some());
    }

    #[test]
    fn a_key_is_the_last_line_of_a_message_or_nowhere() {
        assert!(has_key("Fix\n\nBecause.\n\nCodeForge-Key: fix/1\n", "fix/1"));
        assert!(!has_key("Fix\n\nCodeForge-Key: fix/1\n\nmine", "fix/1"));
        assert!(!has_key("Fix\n\nCodeForge-Key: fix/12", "fix/1"));
    }

    #[test]
    fn a_suggestion_is_code_only_where_it_is_a_code_block() {
        assert_eq!(fenced("```rust\nlet a = 1;\n```").as_deref(), Some("let a = 1;"));
        assert_eq!(fenced("use `let`"), None);
        assert_eq!(fenced("```\na\n```\nand\n```\nb\n```"), None);
    }
}
