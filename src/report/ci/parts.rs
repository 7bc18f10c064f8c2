//! Parts that several reports share: tables of steps, gates, denials, findings, coverage, files.

use super::markdown::{Document, block, code, plain, prose};
use super::{Facts, cost_line, coverage_line, sign, sorted};
use crate::model::account::{Account, Ending, StepAccount, StepStatus};
use crate::model::coverage::{Covered, Shown};
use crate::model::delivery::{ChangeKind, FileChange};
use crate::model::finding::{Finding, Level, Standing};
use crate::model::journal::{GateResult, Verdict};
use crate::model::tool::Ruling;
use crate::report::numbers;

/// How useful a part is: the higher, the sooner it goes.
pub(super) mod rank {
    /// What the text is for.
    pub const HEAD: u8 = 0;
    /// What is wrong.
    pub const WRONG: u8 = 1;
    /// Findings of the highest level.
    pub const HIGH: u8 = 2;
    /// What failing gates printed, denials.
    pub const WHY: u8 = 3;
    /// Findings of the middle level.
    pub const MEDIUM: u8 = 4;
    /// The picture.
    pub const PICTURE: u8 = 5;
    /// Notes, models.
    pub const NOTES: u8 = 6;
    /// Findings of the lowest level, and what is resolved.
    pub const LOW: u8 = 7;
    /// What passed.
    pub const PASSED: u8 = 8;
    /// Lists of files.
    pub const FILES: u8 = 9;
}

/// How a run ended: a sign and a word.
pub(super) fn verdict(account: &Account) -> (&'static str, &'static str) {
    match account.ending {
        Some(Ending::Done) => ("✅", "done"),
        Some(Ending::Limit) => ("🛑", "stopped at a limit"),
        Some(Ending::Denied) => ("🛑", "denied"),
        Some(Ending::Cancelled) => ("⏹️", "cancelled"),
        Some(Ending::Misconfigured) => ("❌", "a mistake in the configuration"),
        Some(Ending::Unavailable) => ("❌", "something it needs was not to be had"),
        Some(Ending::Failed) => ("❌", "failed"),
        None => ("⏳", "not finished"),
    }
}

pub(super) fn mark(status: StepStatus) -> &'static str {
    match status {
        StepStatus::Succeeded => "✅",
        StepStatus::Failed => "❌",
        StepStatus::Skipped => "⏭️",
        StepStatus::Cancelled => "⏹️",
        StepStatus::Running => "⏳",
        StepStatus::Pending => "⚪",
    }
}

pub(super) fn gate_mark(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "✅",
        Verdict::Fail => "❌",
        Verdict::Error => "💥",
    }
}

/// A table of the steps.
pub(super) fn steps(document: &mut Document, account: &Account) {
    let table = document.table(&["", "step", "by", "time", "cost", "tokens", "what came of it"]);
    for step in &account.steps {
        let rank = if step.status == StepStatus::Failed { rank::WRONG } else { rank::PASSED };
        let started = !matches!(step.status, StepStatus::Pending | StepStatus::Skipped);
        let asked = step.spend.calls > 0;
        let cells = [
            mark(step.status).to_owned(),
            code(step.id.as_str(), 64),
            prose(&step.mode, 40),
            if started { numbers::span(step.duration_ms) } else { String::new() },
            if asked { numbers::cost(&step.spend) } else { String::new() },
            if asked { numbers::grouped(step.spend.usage.total()) } else { String::new() },
            came_of(step),
        ];
        document.row(table, rank, "steps", &cells);
    }
}

fn came_of(step: &StepAccount) -> String {
    let mut told = Vec::new();
    if step.attempt > 1 {
        told.push(format!("attempt {} of {}", step.attempt, step.attempts));
    }
    if let Some(error) = &step.error {
        told.push(prose(error, 300));
    } else if step.files.is_empty() {
        told.push(match step.status {
            StepStatus::Skipped => "skipped".to_owned(),
            StepStatus::Pending => "not begun".to_owned(),
            _ => prose(&step.summary, 160),
        });
    } else {
        told.push(files_in_short(&step.files));
    }
    told.retain(|text| !text.is_empty());
    told.join("; ")
}

/// `` `src/parse.rs` +9 −2, `tests/parse.rs` +14, and 3 more ``.
fn files_in_short(files: &[FileChange]) -> String {
    let mut shown: Vec<String> = files
        .iter()
        .take(2)
        .map(|file| format!("{}{}", code(&file.path, 60), numbers::lines(file.added, file.removed)))
        .collect();
    if files.len() > 2 {
        shown.push(format!("and {} more", files.len() - 2));
    }
    shown.join(", ")
}

/// A gate's story over a run: what it said first, what it says now.
pub(super) struct GateStory<'a> {
    pub of: String,
    pub first: &'a GateResult,
    pub last: &'a GateResult,
    pub tries: usize,
}

/// The gates by step and name, the final tree last.
pub(super) fn gates(account: &Account) -> Vec<GateStory<'_>> {
    let mut all: Vec<GateStory<'_>> = Vec::new();
    let results = account.steps.iter().flat_map(|step| step.gates.iter().map(|(_, gate, _)| (step.id.as_str(), gate)));
    let finals = account.final_gates.iter().map(|gate| ("the result", gate));
    for (of, gate) in results.chain(finals) {
        match all.iter_mut().find(|story| story.of == of && story.last.gate == gate.gate) {
            Some(story) => {
                story.last = gate;
                story.tries += 1;
            }
            None => all.push(GateStory { of: of.to_owned(), first: gate, last: gate, tries: 1 }),
        }
    }
    all
}

/// What a gate said, with the tests that its output counts: `✅ 213 passed`.
pub(super) fn said(gate: &GateResult) -> String {
    let mut text = gate_mark(gate.verdict).to_owned();
    match (counted(&gate.output), gate.verdict) {
        (Some(counts), _) => text.push_str(&format!(" {counts}")),
        (None, Verdict::Pass) => text.push_str(" passed"),
        (None, _) => text.push_str(&format!(" {}", prose(&gate.detail, 60))),
    }
    text
}

/// The tests that an output counts, as most runners write it: `212 passed, 1 failed`.
pub(super) fn counted(output: &str) -> Option<String> {
    let number = |line: &str, word: &str| -> Option<u64> {
        let words: Vec<&str> = line.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
        words.windows(2).find_map(|pair| match pair {
            [count, what] if *what == word => count.parse::<u64>().ok(),
            _ => None,
        })
    };
    let both = |line: &str| match (number(line, "passed"), number(line, "failed")) {
        (None, None) => None,
        (passed, failed) => Some((passed.unwrap_or(0), failed.unwrap_or(0))),
    };
    // Cargo writes a line for each binary, others one at the end.
    let cargo: Vec<(u64, u64)> =
        output.lines().filter(|line| line.trim_start().starts_with("test result:")).filter_map(both).collect();
    let (passed, failed) = if cargo.is_empty() {
        output.lines().rev().find_map(both)?
    } else {
        cargo.iter().fold((0u64, 0u64), |sum, one| (sum.0.saturating_add(one.0), sum.1.saturating_add(one.1)))
    };
    let failed = if failed > 0 { format!(", {} failed", numbers::grouped(failed)) } else { String::new() };
    Some(format!("{} passed{failed}", numbers::grouped(passed)))
}

/// What the policy refused, the same calls together: call, how often, by which rule, why.
pub(super) fn denials(account: &Account) -> Vec<(&str, usize, &Ruling)> {
    let mut all: Vec<(&str, usize, &Ruling)> = Vec::new();
    for (call, ruling) in account.steps.iter().flat_map(|step| &step.denials) {
        match all.iter_mut().find(|(known, ..)| *known == call) {
            Some((_, count, _)) => *count += 1,
            None => all.push((call, 1, ruling)),
        }
    }
    all
}

/// Where a rule stands; of a built-in policy its name too.
pub(super) fn rule(ruling: &Ruling) -> String {
    let place = ruling.by.place();
    if ruling.by.file.starts_with('.') { place } else { format!("{}, {place}", ruling.by.policy) }
}

/// A table of denials.
pub(super) fn denial_table(document: &mut Document, account: &Account) {
    let table = document.table(&["denied", "times", "rule", "why"]);
    for (call, times, ruling) in denials(account) {
        let cells = [code(call, 100), times.to_string(), code(&rule(ruling), 120), prose(&ruling.reason, 160)];
        document.row(table, rank::WHY, "denials", &cells);
    }
}

/// A finding's rank.
pub(super) fn finding_rank(finding: &Finding) -> u8 {
    match (finding.standing, finding.level) {
        (Standing::Resolved, _) | (_, Level::Low) => rank::LOW,
        (_, Level::Medium) => rank::MEDIUM,
        (_, Level::High) => rank::HIGH,
    }
}

/// A table of findings. `words`: characters of each.
pub(super) fn finding_table(document: &mut Document, findings: &[Finding], facts: &Facts, words: usize) {
    let table = document.table(&["", "where", "what"]);
    for finding in sorted(findings) {
        let line = finding.line.map(|line| format!(":{line}")).unwrap_or_default();
        let standing = match finding.standing {
            Standing::New => "new".to_owned(),
            Standing::Still => "still there".to_owned(),
            Standing::Resolved => match facts.head.as_deref().and_then(super::short) {
                Some(head) => format!("resolved in `{head}`"),
                None => "resolved".to_owned(),
            },
        };
        let rule = finding.rule.as_ref().map(|rule| format!("{}: ", prose(rule, 60))).unwrap_or_default();
        let place = code(&format!("{}{line}", finding.file), 160);
        let cells = [sign(finding).to_owned(), place, format!("{rule}{} *({standing})*", prose(&finding.what, words))];
        document.row(table, finding_rank(finding), "findings", &cells);
    }
}

/// The coverage in a line, and what was not shown in full as a table.
pub(super) fn coverage(document: &mut Document, coverage: &[Covered]) {
    if coverage.is_empty() {
        return;
    }
    document.add(rank::WHY, "the coverage", coverage_line(coverage));
    let table = document.table(&["file", "lines", "shown"]);
    let mut all: Vec<&Covered> = coverage.iter().collect();
    all.sort_by_key(|it| std::cmp::Reverse(it.shown));
    for it in all {
        let why = if it.why.is_empty() { String::new() } else { format!(": {}", prose(&it.why, 60)) };
        let lines = numbers::lines(it.added, it.removed).trim().to_owned();
        let rank = if it.shown == Shown::Reviewed { rank::FILES } else { rank::PASSED };
        document.row(table, rank, "files", &[code(&it.path, 160), lines, format!("{}{why}", it.shown.as_str())]);
    }
}

/// `+23 −2 in 2 files`.
pub(super) fn size(files: &[FileChange]) -> String {
    let (added, removed) = files.iter().fold((0, 0), |sum, file| (sum.0 + file.added, sum.1 + file.removed));
    let lines = numbers::lines(added, removed);
    let lines = if lines.is_empty() { "no lines".to_owned() } else { lines.trim().to_owned() };
    format!("{lines} in {} file{}", files.len(), if files.len() == 1 { "" } else { "s" })
}

/// A table of changed files.
pub(super) fn files(document: &mut Document, files: &[FileChange]) {
    let table = document.table(&["file", "how", "lines"]);
    for file in files {
        let how = match file.kind {
            ChangeKind::Added => "new".to_owned(),
            ChangeKind::Modified => "changed".to_owned(),
            ChangeKind::Deleted => "gone".to_owned(),
            ChangeKind::Renamed => {
                format!("was {}", file.from.as_deref().map_or_else(String::new, |from| code(from, 120)))
            }
        };
        let lines = numbers::lines(file.added, file.removed).trim().to_owned();
        document.row(table, rank::FILES, "changed files", &[code(&file.path, 160), how, lines]);
    }
}

/// What gates printed that did not pass, at their end.
pub(super) fn failures(document: &mut Document, account: &Account) {
    for story in gates(account).iter().filter(|story| story.last.verdict != Verdict::Pass) {
        if story.last.output.trim().is_empty() {
            continue;
        }
        document.add(
            rank::WHY,
            "gates' output",
            format!(
                "<details><summary>What gate {} printed at the end ({})</summary>\n\n{}\n</details>",
                plain(&story.last.gate, 60),
                plain(&story.of, 60),
                block(&story.last.output, 40, 240)
            ),
        );
    }
}

/// Cost, by model too.
pub(super) fn costs(document: &mut Document, account: &Account, facts: &Facts) {
    let tokens = if account.spend.calls > 0 { format!(" {}.", numbers::tokens(&account.spend)) } else { String::new() };
    document.add(rank::WRONG, "the cost", format!("{}{tokens}", cost_line(account, facts)));
    if account.by_model.len() > 1 {
        let table = document.table(&["model", "calls", "cost", "tokens"]);
        for (model, spend) in &account.by_model {
            let tokens = numbers::grouped(spend.usage.total());
            let cells = [code(model, 80), spend.calls.to_string(), numbers::cost(spend), tokens];
            document.row(table, rank::NOTES, "models", &cells);
        }
    }
}
