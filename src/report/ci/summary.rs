//! A job's summary: what happened, why, what did it cost, what to do next.

use super::markdown::{Document, code, prose};
use super::parts::{self, rank};
use super::{Facts, count};
use crate::model::account::{Account, Ending};
use crate::model::finding::Finding;
use crate::report::{dag, numbers};

/// The summary as Markdown, at most `cap` bytes (see [`super::SUMMARY_CAP`]).
pub fn summary(account: &Account, findings: &[Finding], facts: &Facts, cap: usize) -> String {
    let mut document = Document::new();
    let (sign, word) = parts::verdict(account);
    document.add(rank::HEAD, "the head", format!("## {sign} {} — {word}", prose(&account.workflow, 60)));
    document.add(rank::HEAD, "the head", facts_line(account));
    // A reviewer that found something has not "found nothing to change".
    if !account.reason.trim().is_empty() && (account.ending != Some(Ending::Done) || findings.is_empty()) {
        document.add(rank::HEAD, "the reason", prose(&account.reason, 1500));
    }
    if account.ending != Some(Ending::Done) {
        document.add(rank::HEAD, "the advice", advice(account));
    }
    document.add(rank::PICTURE, "the picture", format!("```mermaid\n{}```", dag::mermaid(account)));
    parts::steps(&mut document, account);
    if !findings.is_empty() {
        document.add(rank::HIGH, "headings", format!("### {}", capital(&count(findings))));
        parts::finding_table(&mut document, findings, facts, 600);
    }
    parts::coverage(&mut document, &facts.coverage);
    let gates = parts::gates(account);
    if !gates.is_empty() {
        document.add(rank::PASSED, "headings", "### Gates");
        let table = document.table(&["gate", "after", "first", "last", "time"]);
        for story in &gates {
            let passed = story.last.verdict == crate::model::journal::Verdict::Pass;
            let first = if story.tries > 1 { parts::said(story.first) } else { String::new() };
            let cells = [
                code(&story.last.gate, 60),
                prose(&story.of, 60),
                first,
                parts::said(story.last),
                numbers::span(story.last.duration_ms),
            ];
            document.row(table, if passed { rank::PASSED } else { rank::WRONG }, "gates", &cells);
        }
    }
    parts::failures(&mut document, account);
    parts::denial_table(&mut document, account);
    if let Some(delivered) = account.delivered.as_ref().filter(|delivered| delivered.changed) {
        let files = &delivered.changes.files;
        document.add(rank::MEDIUM, "headings", format!("### The change: {}", parts::size(files)));
        parts::files(&mut document, files);
    }
    document.add(rank::WRONG, "headings", "### Cost");
    parts::costs(&mut document, account, facts);
    let notes: Vec<String> = account.notes.iter().map(|note| format!("- {}", prose(note, 300))).collect();
    document.add(rank::NOTES, "notes", notes.join("\n"));
    if let Some(whole) = &facts.whole {
        document.add(rank::NOTES, "notes", format!("All of it: {}", code(whole, 300)));
    }
    document.fit(cap)
}

/// Run, time, money, policy, sandbox in a line.
fn facts_line(account: &Account) -> String {
    let mut told = vec![format!("Run {}", code(account.run.as_str(), 20))];
    if let Some(ended) = account.ended_ms {
        told.push(numbers::span((ended - account.started_ms).max(0) as u64));
    }
    let budget = account.budget_usd.map(|usd| format!(" of ${usd:.2}")).unwrap_or_default();
    told.push(if account.spend.calls > 0 {
        format!("{}{budget}", numbers::cost(&account.spend))
    } else {
        "no model was asked".to_owned()
    });
    if let Some(base) = account.base.as_deref().and_then(super::short) {
        told.push(format!("from `{base}`"));
    }
    told.push(format!("policy {}", code(&account.policy, 60)));
    if !account.driver.is_empty() {
        told.push(format!("sandbox {}", code(&account.driver, 20)));
    }
    told.join(" · ")
}

/// What to do next, by how it ended.
pub(super) fn advice(account: &Account) -> String {
    let run = code(&format!("codeforge runs show {}", account.run), 80);
    match account.ending {
        Some(Ending::Limit) => format!(
            "**Next:** raise the limit that is named above in the workflow, the policy or `config.yml` (a price that was \
             approved: approve more), or give a smaller task. {run} shows what was done until then."
        ),
        Some(Ending::Denied) => {
            "**Next:** the table of denials names the rule and its file; `codeforge policies suggest` \
             words a rule that would allow it."
                .to_owned()
        }
        Some(Ending::Unavailable) => {
            "**Next:** `codeforge doctor` says what cannot be reached; run the job again once it can.".to_owned()
        }
        Some(Ending::Misconfigured) => "**Next:** `codeforge validate` shows each problem at its line.".to_owned(),
        Some(Ending::Cancelled) | None => {
            format!("**Next:** {} goes on where it stopped.", code(&format!("codeforge resume {}", account.run), 80))
        }
        _ => format!("**Next:** the failing step or gate below says why. {run} shows all of it."),
    }
}

fn capital(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().chain(rest).collect())
}
