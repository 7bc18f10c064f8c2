//! What differs from run to run and means nothing: durations, points in time, process ids, addresses, temporary paths.

use regex::Regex;
use std::sync::LazyLock;

/// In this order: what is longer first.
const PATTERNS: [(&str, &str); 11] = [
    (r#"(?:/[^\s:'"()]*)?/codeforge[^\s:'"()]*/(?:main|step-[^/\s]+|gate-[^/\s]+)/merged"#, "<workspace>"),
    (r#"/(?:private/)?(?:tmp|var/tmp|var/folders|dev/shm)/[^\s:'",;()<>\]]+"#, "<temporary path>"),
    (r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? [A-Z][a-z]{2} +\d{1,2} \d\d:\d\d:\d\d(?: [A-Z]{1,5})? \d{4}\b", "<time>"),
    (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?(?: ?Z\b| ?[+-]\d\d:?\d\d\b)?", "<time>"),
    (r"\b\d\d:\d\d:\d\d(?:[.,]\d+)?\b", "<time>"),
    (r"\b1[6-9]\d{8}(?:\d{3}){0,3}\b", "<time>"),
    (r"\b\d+m ?\d+(?:\.\d+)?s\b", "<duration>"),
    (r"\b\d+(?:[.,]\d+)? ?(?:ns|us|µs|ms|s|secs?|seconds?|min|minutes?)\b", "<duration>"),
    (r"(?i)\b(pid|process)(?: id)?([ =:#]{1,2})\d+\b", "${1}${2}<pid>"),
    (r"(?m)^\[\d+\] \d+$", "<job>"),
    (r"\b0x[0-9a-fA-F]{6,16}\b", "<address>"),
];

static RULES: LazyLock<Vec<(Regex, &str)>> =
    LazyLock::new(|| PATTERNS.iter().filter_map(|(rule, with)| Some((Regex::new(rule).ok()?, *with))).collect());
static FENCE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r#"(?s)<untrusted-data id="([0-9a-f]{16})"([^>]*)>\n(.*?)</untrusted-data id="([0-9a-f]{16})">"#).ok()
});

/// The output of a program, or what a tool said.
pub fn output(text: &str) -> String {
    RULES.iter().fold(text.to_owned(), |text, (rule, with)| rule.replace_all(&text, *with).into_owned())
}

/// A prompt: only what others said in it, within its fences (whose names follow from what they hold). What the
/// operator wrote counts to the letter.
pub fn prompt(text: &str) -> String {
    let Some(fence) = FENCE.as_ref() else { return text.to_owned() };
    fence
        .replace_all(text, |found: &regex::Captures<'_>| {
            let part = |at: usize| found.get(at).map_or("", |part| part.as_str());
            if part(1) != part(4) {
                return part(0).to_owned();
            }
            format!("<untrusted-data{}>\n{}</untrusted-data>", part(2), output(part(3)))
        })
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::fence;

    #[test]
    fn every_rule_is_one_and_what_means_nothing_is_the_same() {
        assert_eq!(RULES.len(), PATTERNS.len());
        for (one, other) in [
            ("Ran 6 tests in 0.004s", "Ran 6 tests in 1.2s"),
            ("took 12 ms, real 0m0.012s", "took 9 ms, real 0m1.5s"),
            ("2026-01-02T03:04:05.123Z start", "2027-11-30 23:59:59 start"),
            ("Tue Nov 24 21:19:51 UTC 2026", "Wed Nov 25 01:02:03 CET 2026"),
            ("at 1795555191 pid 4711", "at 1795559999123 pid 1"),
            ("object at 0x7f33a0b2c1d0", "object at 0x55d0a0b2c1"),
            ("File /tmp/pytest-of-me/1/x.py, line 3", "File /var/tmp/q-22, line 3"),
            (
                "/var/tmp/codeforge-0/ab12/7f3k9m2q/main/merged/src/a.py:3",
                "/home/me/x/.git/codeforge/runs/0abc/ws/step-code/merged/src/a.py:3",
            ),
        ] {
            assert_eq!(output(one), output(other));
        }
        for (one, other) in [("Ran 6 tests", "Ran 7 tests"), ("a.py:3", "a.py:4"), ("exit code 1", "exit code 2")] {
            assert_ne!(output(one), output(other));
        }
    }

    #[test]
    fn in_a_prompt_only_what_others_said_is_levelled() {
        let say = |limit: &str, took: &str| format!("Stay below {limit} s.\n{}\nGo.", fence(&format!("took {took} s")));
        assert_eq!(prompt(&say("5", "1")), prompt(&say("5", "2")));
        assert_ne!(prompt(&say("5", "1")), prompt(&say("6", "1")));
    }
}
