//! What programs read in plain text, wherever it stands: words that keep checks from running, trailers, marks of a
//! breaking change.

use super::super::clean::{clean, invisible};
use regex::Regex;
use std::sync::LazyLock;

type Rule = (Option<Regex>, &'static str);

/// Rules for every text. A description becomes a commit message where a forge squashes.
static RAW: LazyLock<[Rule; 4]> = LazyLock::new(|| {
    [
        (
            Regex::new(r"(?i)\[((?:skip|no)[ -](?:ci|actions|checks|[a-z]+ci|netlify|vercel)|(?:ci|actions|[a-z]+)[ -]skip)\]").ok(),
            "($1)",
        ),
        (Regex::new(r"\*\*\*NO_CI\*\*\*").ok(), "NO_CI"),
        (
            Regex::new(
                r"(?im)^([ \t]*(?:signed-off-by|co-authored-by|reviewed-by|acked-by|tested-by|approved-by|release-as|skip-checks|change-id|codeforge-key))[ \t]*:[ \t]*",
            )
            .ok(),
            "$1 - ",
        ),
        (Regex::new(r"BREAKING[ -]CHANGE").ok(), "breaking change"),
    ]
});

/// Rules for titles and commit messages, which are read as they are written.
static PLAIN: LazyLock<[Rule; 7]> = LazyLock::new(|| {
    [
        (Regex::new(r"^(\s*\w+(?:\([^)\n]*\))?)!:").ok(), "$1:"),
        (Regex::new(r"(^|[^\w])@([\w-])").ok(), "$1@ $2"),
        (Regex::new(r"#(\d)").ok(), "no. $1"),
        (Regex::new(r"(?i)\bGH-(\d)").ok(), "GH $1"),
        (Regex::new(r"(?i)\b(clos(?:e[sd]?|ing)|fix(?:e[sd]|ing)?|resolv(?:e[sd]?|ing)|implement(?:s|ed|ing)?)(:?[ \t]+)!(\d)").ok(), "$1${2}no. $3"),
        (Regex::new(r"(?i)\bhttps?://").ok(), ""),
        (Regex::new(r"(?im)^([ \t]*)(/[a-z]|bors\b)").ok(), "$1> $2"),
    ]
});

fn through(rules: &[Rule], text: &str) -> String {
    rules.iter().fold(text.to_owned(), |text, (rule, with)| match rule {
        Some(rule) => rule.replace_all(&text, *with).into_owned(),
        None => text,
    })
}

/// What holds for Markdown and for plain text.
pub(super) fn raw(text: &str) -> String {
    through(&*RAW, text)
}

/// A title or a commit message that acts on nobody: no mention, no reference, no address, no trailer of others, no
/// command, no mark of a breaking change, nothing that keeps checks from running.
///
/// ```
/// assert_eq!(codeforge::text::neutral_plain("feat!: fixes #7 [skip ci]"), "feat: fixes no. 7 (skip ci)");
/// ```
pub fn neutral_plain(text: &str) -> String {
    through(&*PLAIN, &raw(&invisible(&clean(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_message_acts_on_nobody() {
        let cases = [
            ("feat(api)!: drop it", "feat(api): drop it"),
            ("Fix #12, closes acme/x#3 and GH-4", "Fix no. 12, closes acme/xno. 3 and GH 4"),
            ("Thanks @ann, mail a@b.example", "Thanks @ ann, mail a@b.example"),
            ("closes !7; see https://forge.example/a/issues/1", "closes no. 7; see forge.example/a/issues/1"),
            ("x\n/merge\nbors r+", "x\n> /merge\n> bors r+"),
            (
                "x [ci skip] [skip-ci] [skip circleci]\n\nskip-checks: true",
                "x (ci skip) (skip-ci) (skip circleci)\n\nskip-checks - true",
            ),
            (
                "x\n\nCo-authored-by: Eve <e@x>\nBREAKING CHANGE: all",
                "x\n\nCo-authored-by - Eve <e@x>\nbreaking change: all",
            ),
            ("a\u{202e}b", "ab"),
        ];
        for (given, inert) in cases {
            assert_eq!(neutral_plain(given), inert, "{given:?}");
            assert_eq!(neutral_plain(inert), inert, "{given:?} twice");
        }
    }
}
