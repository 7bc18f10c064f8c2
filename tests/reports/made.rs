//! Accounts, findings and facts in which every text is one of somebody else's.

use codeforge::model::account::{Account, Ending, Spend, StepAccount, StepStatus};
use codeforge::model::delivery::{ChangeKind, ChangeSet, Delivered, FileChange};
use codeforge::model::finding::{Finding, Level, Standing};
use codeforge::model::journal::{GateResult, Verdict};
use codeforge::model::plan::DeliverKind;
use codeforge::model::usage::NanoUsd;
use codeforge::plan::scope::{ROOM, scope};
use codeforge::report::ci::{self, Facts};
use serde_json::json;

/// Texts that try to be more than text.
pub const HOSTILE: [&str; 34] = [
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

pub fn step(name: &str, text: &str, status: StepStatus) -> StepAccount {
    let ruling =
        json!({ "decision": "deny", "by": { "policy": text, "rule": 3, "file": text, "line": 9 }, "reason": text });
    serde_json::from_value(json!({
        "id": name, "mode": text, "status": status, "attempt": 2, "attempts": 3, "iteration": 0, "duration_ms": 1200,
        "spend": Spend { calls: 2, cost: NanoUsd::from_usd(0.031), ..Spend::default() }, "files": [], "summary": text,
        "error": (status == StepStatus::Failed).then_some(text), "gates": [], "denials": [[text, ruling]], "needs": [],
    }))
    .unwrap_or_else(|error| panic!("{error}"))
}

pub fn gate(name: &str, verdict: Verdict, output: &str) -> GateResult {
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

pub fn file(path: &str, added: u64) -> FileChange {
    FileChange { path: path.into(), from: None, kind: ChangeKind::Modified, added, removed: 1, mode: 0o100_644 }
}

/// An account in which every text is `text`.
pub fn account(text: &str, steps: usize, files: usize) -> Account {
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

pub fn finding(text: &str, at: u64, level: Level) -> Finding {
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

pub fn facts(text: &str) -> Facts {
    let changes = ChangeSet { files: vec![file(text, 2), file("Cargo.lock", 90)], diff: String::new() };
    Facts {
        kept_spent: None,
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
pub fn pages(account: &Account, findings: &[Finding], facts: &Facts, cap: usize) -> [(&'static str, String); 3] {
    [
        ("summary", ci::summary(account, findings, facts, cap)),
        ("body", ci::change_body(account, findings, facts, cap)),
        ("comment", ci::sticky_comment(account, findings, facts, cap)),
    ]
}
