//! Findings across pushes: fingerprints, what is still there, what the comment remembers, what a reviewer is shown.

use crate::common::TestRepo;
use crate::made::{HOSTILE, account, facts, finding};
use codeforge::model::account::Ending;
use codeforge::model::coverage::Shown;
use codeforge::model::delivery::ChangeSet;
use codeforge::model::finding::{Finding, Level, Standing};
use codeforge::model::usage::NanoUsd;
use codeforge::plan::scope::scope;
use codeforge::report::ci::{self, Facts, Tree};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const CODE: &str = "fn parse(text: &str) -> Vec<&str> {\n    let mut all = Vec::new();\n    all.pop().unwrap();\n    \
                    all\n}\n\nfn other() {\n    all.pop().unwrap();\n    all\n}\n";

fn marks(found: &[(&str, u64, &str)], files: &[(&str, &str)], renamed: &[(&str, &str)]) -> Vec<Finding> {
    let list: Vec<Value> = found
        .iter()
        .map(|(file, line, what)| json!({ "severity": "high", "file": file, "line": line, "what": what }))
        .collect();
    let output = json!({ "approved": false, "summary": "s", "findings": list });
    let step = "review".into();
    let files: BTreeMap<String, String> = files.iter().map(|(path, text)| ((*path).into(), (*text).into())).collect();
    let renamed: BTreeMap<String, String> =
        renamed.iter().map(|(new, old)| ((*new).to_owned(), (*old).to_owned())).collect();
    let text = |path: &str| files.get(path).cloned();
    ci::findings([(&step, &output)], &Tree { text: &text, renamed: &renamed })
}

#[test]
fn a_fingerprint_holds_across_pushes() {
    let first = marks(&[("src/a.rs", 3, "unwrap panics")], &[("src/a.rs", CODE)], &[])[0].fingerprint.clone();
    assert_eq!(first.len(), 16);
    let after = |file: &str, line: u64, what: &str, text: &str, renamed: &[(&str, &str)]| {
        marks(&[(file, line, what)], &[(file, text)], renamed)[0].fingerprint.clone()
    };
    // Other words, lines above, other spacing, another name for the file: the same thing.
    assert_eq!(first, after("src/a.rs", 3, "It crashes on empty input", CODE, &[]));
    for file in ["./src/a.rs", "/workspace/src/a.rs", "src//a.rs"] {
        assert_eq!(first, marks(&[(file, 3, "x")], &[("src/a.rs", CODE)], &[])[0].fingerprint, "{file}");
    }
    assert_eq!(first, after("src/a.rs", 5, "x", &format!("// one\n// two\n{CODE}"), &[]));
    assert_eq!(first, after("src/a.rs", 3, "x", &CODE.replace("    ", "\t"), &[]));
    assert_eq!(first, after("src/b.rs", 3, "x", CODE, &[("src/b.rs", "src/a.rs")]));
    // Another line, the same text elsewhere in the file, another file, the line itself changed: another thing.
    for other in [
        after("src/a.rs", 4, "x", CODE, &[]),
        after("src/a.rs", 8, "x", CODE, &[]),
        after("src/b.rs", 3, "x", CODE, &[]),
        after("src/a.rs", 3, "x", &CODE.replacen("unwrap()", "expect(\"a\")", 1), &[]),
    ] {
        assert_ne!(first, other);
    }
    // Two findings at one place are two.
    let two = marks(&[("src/a.rs", 3, "x"), ("src/a.rs", 3, "y")], &[("src/a.rs", CODE)], &[]);
    assert_ne!(two[0].fingerprint, two[1].fingerprint);
    // What no file has.
    let odd =
        marks(&[("src/a.rs", 900, "x"), ("no.rs", 2, "y"), ("../../etc/passwd", 1, "z")], &[("src/a.rs", CODE)], &[]);
    assert_eq!(
        odd.iter().map(|it| (it.file.as_str(), it.line)).collect::<Vec<_>>(),
        [("no.rs", Some(2)), ("src/a.rs", None)]
    );
}

#[test]
fn what_was_there_before_is_told_apart_and_what_was_not_looked_at_still_stands() {
    let first = marks(
        &[("a.rs", 3, "one"), ("b.rs", 1, "two"), ("c.rs", 2, "three")],
        &[("a.rs", CODE), ("b.rs", CODE), ("c.rs", CODE)],
        &[],
    );
    let first = ci::standing(first, &[], &|_| true);
    assert!(first.iter().all(|it| it.standing == Standing::New));
    // The next push touched a and b: a's is found again, b's is not, d is new; c was not looked at.
    let grown = format!("// new\n{CODE}");
    let second = marks(
        &[("a.rs", 4, "in other words"), ("d.rs", 1, "four")],
        &[("a.rs", &grown), ("b.rs", ""), ("d.rs", CODE)],
        &[],
    );
    let second = ci::standing(second, &first, &|old| old.file != "c.rs");
    let told: BTreeMap<&str, Standing> = second.iter().map(|it| (it.file.as_str(), it.standing)).collect();
    assert_eq!(
        told,
        [("a.rs", Standing::Still), ("b.rs", Standing::Resolved), ("c.rs", Standing::Still), ("d.rs", Standing::New)]
            .into()
    );
    // What is resolved is told once.
    let third = ci::standing(Vec::new(), &second, &|_| false);
    assert!(third.iter().all(|it| it.file != "b.rs" && it.standing == Standing::Still) && third.len() == 3);
}

#[test]
fn the_comment_remembers_what_the_next_review_needs_and_nothing_hides_in_it() {
    for text in HOSTILE {
        let mut account = account(text, 1, 0);
        account.ending = Some(Ending::Done);
        let found =
            [finding(text, 1, Level::High), Finding { standing: Standing::Resolved, ..finding(text, 2, Level::Low) }];
        let facts = Facts { head: Some("9e01aa4b".into()), ..facts(text) };
        let page = ci::sticky_comment(&account, &found, &facts, ci::BODY_CAP);
        let memory = ci::memory(&page).unwrap_or_else(|| panic!("{text:?}\n{page}"));
        assert_eq!(memory.head.as_deref(), Some("9e01aa4b"));
        assert_eq!(memory.spent, NanoUsd::from_usd(0.31));
        assert_eq!(memory.findings.len(), 1);
        assert_eq!(memory.findings[0].file, found[0].file);
        assert_eq!(page.matches("<!--").count(), 1, "{text:?}\n{page}");
        // A review that did not come to its end has reviewed nothing.
        account.ending = Some(Ending::Limit);
        let page = ci::sticky_comment(&account, &found, &facts, ci::BODY_CAP);
        assert_eq!(ci::memory(&page).unwrap().head.as_deref(), Some("4c1d2e9aa"));
    }
    for odd in [
        "",
        "<!-- codeforge:memory {",
        "<!-- codeforge:memory {\"head\":\"--upload-pack=x\"} -->",
        "<!-- codeforge:memory [] -->",
    ] {
        assert_eq!(ci::memory(odd), None, "{odd}");
    }
}

// ---- what a reviewer is shown

#[test]
fn a_reviewer_is_shown_small_files_whole_large_ones_clipped_and_generated_ones_by_name() {
    let repo = TestRepo::with(&[("src/old.rs", CODE), ("keep.txt", "1\n")]);
    let first = repo.head();
    repo.git(&["mv", "src/old.rs", "src/new.rs"]);
    repo.write("src/new.rs", CODE.replace("unwrap", "expect"));
    repo.write("src/small.rs", "fn small() {}\n");
    let large: String = (0..3000).map(|at| format!("fn f{at}() {{}}\n")).collect();
    repo.write("src/large.rs", &large).write("Cargo.lock", "x\n").write("web/app.min.js", "x\n");
    repo.write("gen.rs", "// @generated by x\nfn g() {}\n").write("logo.bin", [0u8, 159, 146, 150, 0, 1]);
    repo.write("with space ü.rs", "fn s() {}\n");
    let second = repo.commit("second");
    let changes = changes(&repo, &first, &second);
    let seen = scope(&changes, 20_000);
    let table: BTreeMap<&str, (Shown, &str)> =
        seen.coverage.iter().map(|it| (it.path.as_str(), (it.shown, it.why.as_str()))).collect();
    assert_eq!(table["src/small.rs"], (Shown::Reviewed, ""));
    assert_eq!(table["src/new.rs"], (Shown::Reviewed, ""));
    assert_eq!(table["with space ü.rs"].0, Shown::Reviewed, "{table:?}");
    assert_eq!(table["src/large.rs"].0, Shown::Clipped, "{table:?}");
    assert_eq!(table["Cargo.lock"], (Shown::Skipped, "lock file"));
    assert_eq!(table["web/app.min.js"], (Shown::Skipped, "generated"));
    assert_eq!(table["gen.rs"], (Shown::Skipped, "generated"));
    assert_eq!(table["logo.bin"], (Shown::Skipped, "binary"));
    assert!(
        seen.diff.len() < 21_000
            && seen.diff.contains("+fn small() {}")
            && seen.diff.contains("left out: read the file")
    );
    assert!(!seen.diff.contains("app.min.js"));
    assert!(seen.looked_at("src/old.rs") && !seen.looked_at("src/large.rs") && !seen.looked_at("Cargo.lock"));
    assert_eq!(codeforge::plan::scope::renamed(&changes)["src/new.rs"], "src/old.rs");
    // As an event holds it.
    let mut event = json!({ "kind": "pull_request", "change": { "number": 4 } });
    seen.lay_on(&mut event, Some(&first), &[finding("earlier words", 1, Level::High)]);
    assert_eq!(event["change"]["number"], 4);
    assert!(
        event["change"]["coverage"].as_str().unwrap().contains("skipped   +1 -0  Cargo.lock: lock file"),
        "{event:#}"
    );
    assert!(event["change"]["earlier"].as_str().unwrap().contains("(high): earlier words"));
}

/// The difference of two commits as the repository's adapter gives it.
fn changes(repo: &TestRepo, from: &str, to: &str) -> ChangeSet {
    let tree = |commit: &str| repo.git(&["rev-parse", &format!("{commit}^{{tree}}")]).into();
    let opened = codeforge::adapter::git::open(repo.path()).unwrap();
    opened.diff(&tree(from), &tree(to), 0).unwrap()
}
