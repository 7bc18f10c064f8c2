//! What a delivered change says of itself.

use super::markdown::{Document, code, prose, quote};
use super::parts::{self, rank};
use super::{Facts, cost_line};
use crate::model::account::{Account, StepStatus};
use crate::model::finding::{Finding, Standing};
use crate::model::journal::Verdict;
use crate::report::numbers;

/// The description of a pull or merge request, at most `cap` bytes (see [`super::BODY_CAP`]).
pub fn change_body(account: &Account, findings: &[Finding], facts: &Facts, cap: usize) -> String {
    let mut document = Document::new();
    if let Some(asked) = facts.asked.as_deref().filter(|text| !text.trim().is_empty()) {
        let by = facts.asked_by.as_ref().map(|who| format!(", by {}", code(who, 60))).unwrap_or_default();
        document.add(rank::HEAD, "what was asked", format!("## What was asked{by}\n\n{}", quote(asked, 20, 2000)));
    }
    document.add(rank::HEAD, "what was done", format!("## What was done\n\n{}", done(account, facts)));
    if let Some(delivered) = &account.delivered {
        let files = &delivered.changes.files;
        document.add(rank::NOTES, "the size", format!("{}:", parts::size(files)));
        parts::files(&mut document, files);
    }
    evidence(&mut document, account);
    not_done(&mut document, account);
    let open: Vec<Finding> = findings.iter().filter(|it| it.standing != Standing::Resolved).cloned().collect();
    if !open.is_empty() {
        document.add(rank::MEDIUM, "headings", "## What a reviewer still found");
        parts::finding_table(&mut document, &open, facts, 400);
    }
    document.add(rank::WRONG, "the end", ending(account, facts));
    document.fit(cap)
}

/// In the plan's words, else in the last agent's.
fn done(account: &Account, facts: &Facts) -> String {
    let last = || {
        let told = account.steps.iter().rev().find(|step| !step.summary.is_empty() && !step.files.is_empty());
        told.map(|step| step.summary.clone())
    };
    match facts.done.clone().or_else(last).filter(|text| !text.trim().is_empty()) {
        Some(text) => prose(&text, 1500),
        None => format!("The steps of the workflow {} were carried out.", code(&account.workflow, 60)),
    }
}

/// Gates with counts and time, before and after.
fn evidence(document: &mut Document, account: &Account) {
    let gates = parts::gates(account);
    if gates.is_empty() {
        document.add(rank::WRONG, "headings", "## Evidence\n\nNo gate is defined: nothing was checked.");
        return;
    }
    document.add(rank::WRONG, "headings", "## Evidence");
    let table = document.table(&["check", "on", "at first", "at the end", "time"]);
    for story in gates {
        let first = if story.tries > 1 { parts::said(story.first) } else { String::new() };
        let cells = [
            code(&story.last.gate, 60),
            prose(&story.of, 60),
            first,
            parts::said(story.last),
            numbers::span(story.last.duration_ms),
        ];
        let passed = story.last.verdict == Verdict::Pass;
        document.row(table, if passed { rank::MEDIUM } else { rank::WRONG }, "checks", &cells);
    }
}

/// What was refused, and what failed.
fn not_done(document: &mut Document, account: &Account) {
    let failed: Vec<String> = account
        .steps
        .iter()
        .filter(|step| step.status == StepStatus::Failed)
        .map(|step| {
            let named = format!("step `{}`: ", step.id);
            let error = step.error.as_deref().map(|error| error.strip_prefix(&named).unwrap_or(error));
            let why = error.map(|error| format!(": {}", prose(error, 300))).unwrap_or_default();
            format!("- step {}{why}", code(step.id.as_str(), 64))
        })
        .collect();
    if failed.is_empty() && parts::denials(account).is_empty() {
        return;
    }
    document.add(rank::WHY, "headings", "## What was denied or could not be done");
    document.add(rank::WRONG, "failed steps", failed.join("\n"));
    parts::denial_table(document, account);
}

/// Cost, models, how to go on.
fn ending(account: &Account, facts: &Facts) -> String {
    let models: Vec<String> = account.by_model.iter().take(5).map(|(model, _)| code(model, 60)).collect();
    let by = if models.is_empty() { String::new() } else { format!(" Models: {}.", models.join(", ")) };
    let mut text = format!("---\n{}{by}\n\n", cost_line(account, facts));
    if facts.commands.iter().any(|name| name == "fix") {
        text.push_str(&format!("To go on: comment {} · ", code(&format!("{} fix what to change", facts.phrase), 80)));
    }
    text + &how_to_repeat(account, facts)
}

/// `To make the run again: …`, and where its job is.
pub(super) fn how_to_repeat(account: &Account, facts: &Facts) -> String {
    let mut text = format!("To make the run again: {}", code(&format!("codeforge replay {}", account.run), 60));
    if let Some(url) = facts.run_url.as_deref().and_then(super::safe_url) {
        text.push_str(&format!(" · [the job]({url})"));
    }
    text
}
