//! Whether a change weakens what judges it: tests taken away or switched off, checks silenced or set more mildly.
//!
//! It looks at lines and names, and knows no language: it reports, it never decides. What it says is for the person who
//! reads the change.

use crate::model::delivery::{ChangeKind, ChangeSet};
use crate::text::header_name;
use serde::Serialize;
use std::fmt;

/// How a change weakens a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weakness {
    /// A test's file is gone, or is no test's file any more.
    TestsRemoved,
    /// A file has fewer assertions than before.
    AssertionsRemoved,
    /// A test is skipped or ignored.
    TestsSkipped,
    /// A finding of a linter or type checker is silenced in place.
    FindingsSilenced,
    /// A tool that checks is set up otherwise.
    ChecksReconfigured,
}

/// One place where a change weakens a check.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Weakened {
    /// The file.
    pub path: String,
    /// The line on the side of the change, from 1, where there is one.
    pub line: Option<u64>,
    /// How.
    pub how: Weakness,
    /// The line, or how many, in short.
    pub what: String,
}

impl fmt::Display for Weakened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.how {
            Weakness::TestsRemoved => "takes tests away",
            Weakness::AssertionsRemoved => "takes assertions away",
            Weakness::TestsSkipped => "skips a test",
            Weakness::FindingsSilenced => "silences a check",
            Weakness::ChecksReconfigured => "changes how a check is set up",
        };
        let line = self.line.map(|line| format!(":{line}")).unwrap_or_default();
        write!(f, "{}{line} {how}: {}", self.path, self.what)
    }
}

/// Most places that are told.
const MOST: usize = 50;

/// Words that a skipped test has before or in it.
const SKIPS: [&str; 22] = [
    "#[ignore",
    "@pytest.mark.skip",
    "@pytest.mark.xfail",
    "pytest.skip(",
    "pytest.xfail(",
    "@unittest.skip",
    "unittest.skip(",
    "self.skiptest(",
    "raise skiptest",
    "it.skip(",
    "test.skip(",
    "describe.skip(",
    "it.only(",
    "test.only(",
    "describe.only(",
    "xit(",
    "xtest(",
    "xdescribe(",
    "test.todo(",
    "t.skip(",
    "@disabled",
    "@ignore",
];
/// Words that silence a checker.
const SILENCED: [&str; 14] = [
    "# noqa",
    "# type: ignore",
    "# pylint: disable",
    "# pragma: no cover",
    "# nosec",
    "eslint-disable",
    "@ts-ignore",
    "@ts-nocheck",
    "@ts-expect-error",
    "//nolint",
    "// nolint",
    "#[allow(",
    "#![allow(",
    "@suppresswarnings",
];
/// Files that set a checker up, by their whole name or by its beginning.
const SETTINGS: [&str; 27] = [
    ".eslintrc",
    "eslint.config.",
    ".clippy.toml",
    "clippy.toml",
    "ruff.toml",
    ".ruff.toml",
    ".flake8",
    "mypy.ini",
    ".mypy.ini",
    ".pylintrc",
    "pylintrc",
    "pytest.ini",
    "tox.ini",
    "noxfile.py",
    "setup.cfg",
    "conftest.py",
    ".golangci.",
    "jest.config.",
    "vitest.config.",
    "playwright.config.",
    ".rubocop.",
    "phpstan.",
    "phpunit.",
    "tsconfig",
    ".coveragerc",
    "codecov.",
    ".pre-commit-config.",
];
/// Files that hold much else too: only these words in a changed line count.
const SHARED: [&str; 5] = ["pyproject.toml", "cargo.toml", "package.json", "makefile", "build.gradle"];
const SHARED_WORDS: [&str; 12] = [
    "[lints",
    "[tool.ruff",
    "[tool.pytest",
    "[tool.mypy",
    "[tool.coverage",
    "addopts",
    "deselect",
    "exclude",
    "ignore",
    "fail_under",
    "\"test\"",
    "\"lint\"",
];

/// Where a change weakens what judges it, sorted by place. `changes` needs its whole difference.
pub fn weakened(changes: &ChangeSet) -> Vec<Weakened> {
    let mut found = Vec::new();
    for file in &changes.files {
        let was = file.from.as_deref().unwrap_or(&file.path);
        let gone = file.kind == ChangeKind::Deleted || file.kind == ChangeKind::Renamed && !is_test(&file.path);
        if gone && is_test(was) {
            let lines = file.removed;
            let what = if file.kind == ChangeKind::Deleted {
                format!("a test file of {lines} lines is deleted")
            } else {
                format!("`{was}` is no test file any more")
            };
            found.push(Weakened { path: file.path.clone(), line: None, how: Weakness::TestsRemoved, what });
        } else if is_settings(&file.path) {
            let what = format!("{} lines added, {} removed", file.added, file.removed);
            found.push(Weakened { path: file.path.clone(), line: None, how: Weakness::ChecksReconfigured, what });
        }
    }
    for file in parse(&changes.diff) {
        of_file(&file, &mut found);
    }
    found.sort();
    found.dedup();
    found.truncate(MOST);
    found
}

fn of_file(file: &FileDiff<'_>, found: &mut Vec<Weakened>) {
    let path = file.path.clone();
    let lower = |text: &str| text.to_lowercase();
    let has = |text: &str, words: &[&str]| {
        let text = lower(text);
        words.iter().any(|word| text.contains(word))
    };
    // A line that was only moved or indented is not new.
    let removed: Vec<&str> = file.removed.iter().map(|text| text.trim()).collect();
    for (line, text) in &file.added {
        let how = if has(text, &SKIPS) {
            Weakness::TestsSkipped
        } else if has(text, &SILENCED) {
            Weakness::FindingsSilenced
        } else {
            continue;
        };
        if !removed.contains(&text.trim()) {
            found.push(Weakened { path: path.clone(), line: Some(*line), how, what: short(text) });
        }
    }
    let gone = file.deleted;
    let asserts = |text: &&str| is_assertion(text);
    let (before, after) = (
        file.removed.iter().filter(|text| asserts(text)).count(),
        file.added.iter().filter(|(_, text)| asserts(text)).count(),
    );
    if before > after && !gone {
        let what = format!("{before} removed, {after} added");
        found.push(Weakened { path: path.clone(), line: None, how: Weakness::AssertionsRemoved, what });
    }
    let name = lower(path.rsplit('/').next().unwrap_or(&path));
    if SHARED.iter().any(|shared| name.starts_with(shared)) {
        let lines = file.added.iter().map(|(line, text)| (Some(*line), *text));
        let lines = lines.chain(file.removed.iter().map(|text| (None, *text)));
        if let Some((line, text)) = lines.into_iter().find(|(_, text)| has(text, &SHARED_WORDS)) {
            found.push(Weakened { path, line, how: Weakness::ChecksReconfigured, what: short(text) });
        }
    }
}

/// Whether a line asserts: `assert …`, `assert_eq!(`, `self.assertEqual(`, `expect(…)`, `require.NoError(`, `t.Error(`.
fn is_assertion(text: &str) -> bool {
    let text = text.trim().to_lowercase();
    let comment =
        ["//", "#", "*", "--", "\"\"\""].iter().any(|begin| text.starts_with(begin) && !text.starts_with("#["));
    let words =
        ["assert", "expect(", "should.", ".should(", "require.noerror(", "require.equal(", "t.error", "t.fatal"];
    !comment && words.iter().any(|word| text.contains(word))
}

/// Whether a file is one of tests, by its path.
fn is_test(path: &str) -> bool {
    let lower = path.to_lowercase();
    let mut parts = lower.rsplit('/');
    let name = parts.next().unwrap_or_default();
    let stem = name.split('.').next().unwrap_or_default();
    let by_name = stem.starts_with("test_")
        || stem.ends_with("_test")
        || stem.ends_with("_tests")
        || stem.ends_with("_spec")
        || matches!(stem, "test" | "tests")
        || name.contains(".test.")
        || name.contains(".spec.")
        || (path.ends_with("Test.java")
            || path.ends_with("Tests.cs")
            || path.ends_with("Test.php")
            || path.ends_with("Test.kt"));
    by_name || parts.any(|folder| matches!(folder, "tests" | "test" | "__tests__" | "spec" | "specs" | "testdata"))
}

fn is_settings(path: &str) -> bool {
    let lower = path.to_lowercase();
    let name = lower.rsplit('/').next().unwrap_or_default();
    SETTINGS.iter().any(|settings| name.starts_with(settings))
}

fn short(text: &str) -> String {
    let text = text.trim();
    let cut: String = text.chars().take(100).collect();
    if cut.len() < text.len() { format!("{cut}…") } else { cut }
}

/// The changed lines of one file.
pub(super) struct FileDiff<'a> {
    /// As it is called, whatever git has to write for that.
    pub(super) path: String,
    deleted: bool,
    /// With their numbers.
    pub(super) added: Vec<(u64, &'a str)>,
    removed: Vec<&'a str>,
}

/// Reads git's format. How many lines a part has is taken from its head, so that a line that looks like a head is not one.
pub(super) fn parse(diff: &str) -> Vec<FileDiff<'_>> {
    let mut files: Vec<FileDiff<'_>> = Vec::new();
    let (mut old_left, mut new_left, mut line) = (0_u64, 0_u64, 0_u64);
    for text in diff.split('\n') {
        if old_left == 0 && new_left == 0 {
            if text.starts_with("diff --git ") {
                files.push(FileDiff { path: String::new(), deleted: false, added: Vec::new(), removed: Vec::new() });
            } else if let Some(file) = files.last_mut() {
                if let Some(path) = text.strip_prefix("--- ").or_else(|| text.strip_prefix("+++ ")) {
                    if path == "/dev/null" {
                        file.deleted = text.starts_with("+++");
                    } else if let Some((_, path)) = header_name(path).split_once('/') {
                        file.path = path.to_owned();
                    }
                } else if let Some((old, new, first)) = hunk(text) {
                    (old_left, new_left, line) = (old, new, first);
                }
            }
            continue;
        }
        let Some(file) = files.last_mut() else { continue };
        match text.split_at_checked(1) {
            Some(("+", rest)) => {
                file.added.push((line, rest));
                new_left = new_left.saturating_sub(1);
                line += 1;
            }
            Some(("-", rest)) => {
                file.removed.push(rest);
                old_left = old_left.saturating_sub(1);
            }
            Some(("\\", _)) => {}
            _ => {
                old_left = old_left.saturating_sub(1);
                new_left = new_left.saturating_sub(1);
                line += 1;
            }
        }
    }
    files
}

/// `@@ -a,b +c,d @@`: how many lines of each side, and the first one's number on the side of the change.
fn hunk(text: &str) -> Option<(u64, u64, u64)> {
    let (old, new) = text.strip_prefix("@@ -")?.split_once(" +")?;
    let new = new.split_once(" @@")?.0;
    let pair = |text: &str| -> Option<(u64, u64)> {
        let (first, count) = text.split_once(',').unwrap_or((text, "1"));
        Some((first.parse().ok()?, count.parse().ok()?))
    };
    let ((_, old), (first, new)) = (pair(old)?, pair(new)?);
    Some((old, new, first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::delivery::FileChange;

    fn file(path: &str, kind: ChangeKind, from: Option<&str>) -> FileChange {
        FileChange { path: path.into(), from: from.map(str::to_owned), kind, added: 1, removed: 7, mode: 0o100_644 }
    }

    fn diff(path: &str, lines: &[&str]) -> ChangeSet {
        let count = |sign: char| lines.iter().filter(|line| line.starts_with(sign) || line.starts_with(' ')).count();
        let text = format!(
            "diff --git a/{path} b/{path}\nindex 1..2 100644\n--- a/{path}\n+++ b/{path}\n@@ -10,{} +10,{} @@ fn x()\n{}\n",
            count('-'),
            count('+'),
            lines.join("\n")
        );
        ChangeSet { files: vec![file(path, ChangeKind::Modified, None)], diff: text }
    }

    fn told(changes: &ChangeSet) -> Vec<String> {
        weakened(changes).iter().map(Weakened::to_string).collect()
    }

    #[test]
    fn what_takes_away_from_the_judges_is_told_with_its_place() {
        let cases: Vec<(ChangeSet, &str)> = vec![
            (
                ChangeSet { files: vec![file("tests/test_a.py", ChangeKind::Deleted, None)], diff: String::new() },
                "tests/test_a.py takes tests away: a test file of 7 lines is deleted",
            ),
            (
                ChangeSet { files: vec![file("old.py", ChangeKind::Renamed, Some("test_a.py"))], diff: String::new() },
                "old.py takes tests away: `test_a.py` is no test file any more",
            ),
            (
                diff(
                    "src/test_x.py",
                    &[" def test():", "-    assert f(1) == 2", "-    assert f(2) == 3", "+    assert True"],
                ),
                "src/test_x.py takes assertions away: 2 removed, 1 added",
            ),
            (
                diff("src/lib.rs", &[" mod tests {", "+    #[ignore]", "     #[test]"]),
                "src/lib.rs:11 skips a test: #[ignore]",
            ),
            (
                diff("web/a.spec.ts", &["-it('x', f)", "+it.skip('x', f)"]),
                "web/a.spec.ts:10 skips a test: it.skip('x', f)",
            ),
            (diff("a.py", &["-x = f()", "+x = f()  # noqa: E501"]), "a.py:10 silences a check: x = f()  # noqa: E501"),
            (
                diff("ruff.toml", &["-select = [\"ALL\"]", "+select = []"]),
                "ruff.toml changes how a check is set up: 1 lines added, 7 removed",
            ),
            (
                diff("pyproject.toml", &[" [tool.x]", "+addopts = \"--deselect tests/test_a.py\""]),
                "pyproject.toml:11 changes how a check is set up: addopts = \"--deselect tests/test_a.py\"",
            ),
        ];
        for (changes, words) in cases {
            assert!(told(&changes).iter().any(|line| line == words), "{words}\n{:?}", told(&changes));
        }
    }

    #[test]
    fn names_are_told_as_they_are_and_not_as_git_writes_them() {
        for (written, name) in [
            ("a/src/a.rs", "src/a.rs"),
            ("a/with space.rs\t", "with space.rs"),
            ("\"a/t\\303\\274r\\t\\\"x\\\\.py\"", "tür\t\"x\\.py"),
        ] {
            let text = format!("diff --git x y\n--- {written}\n+++ {written}\n@@ -1 +1 @@\n-f()\n+f()  # noqa\n");
            let changes = ChangeSet { files: Vec::new(), diff: text };
            assert_eq!(told(&changes), [format!("{name}:1 silences a check: f()  # noqa")], "{written}");
        }
    }

    #[test]
    fn an_honest_change_is_not_accused() {
        for changes in [
            diff("src/a.py", &[" def f():", "-    return 1", "+    return 2"]),
            diff("tests/test_a.py", &["-    assert f() == 1", "+    assert f() == 2", "+    assert f() > 0"]),
            diff("src/lib.rs", &["-#[ignore]", "+    #[ignore]"]),
            diff("docs/a.md", &["+we assert nothing"]),
            diff("pyproject.toml", &["-version = \"1\"", "+version = \"2\""]),
            diff("a.txt", &["+++ not a head", "-- not one either"]),
        ] {
            let told = told(&changes);
            assert!(told.is_empty(), "{told:?}");
        }
    }
}
