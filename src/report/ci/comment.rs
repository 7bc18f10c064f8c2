//! The one comment on a change that stays current, and what it remembers for the next time.

use super::markdown::{Document, code, prose};
use super::parts::{self, rank};
use super::{Facts, cost_line, count, coverage_line};
use crate::model::account::{Account, Ending};
use crate::model::finding::{Finding, Standing};
use crate::model::usage::NanoUsd;
use crate::text;
use serde::{Deserialize, Serialize};

/// What a comment remembers begins with this.
const MEMORY: &str = "<!-- codeforge:memory ";
/// The most that a comment remembers, in bytes.
const MEMORY_CAP: usize = 24 * 1024;
/// Words of a finding that are remembered, in characters.
const WORDS: usize = 240;

/// What a comment remembers. It was written by us into a place that others can write to: believe it only of a comment
/// whose author is the bot, and then only as far as which findings are new.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// The commit that was reviewed last.
    #[serde(default)]
    pub head: Option<String>,
    /// Spent on the change so far.
    #[serde(default)]
    pub spent: NanoUsd,
    /// What was open after the last review; of the words only the beginning.
    #[serde(default)]
    pub findings: Vec<Finding>,
}

/// The comment, at most `cap` bytes (see [`super::BODY_CAP`]).
pub fn sticky_comment(account: &Account, findings: &[Finding], facts: &Facts, cap: usize) -> String {
    let mut document = Document::new();
    let since = facts.since.as_deref().and_then(super::short).map(|since| format!(" since `{since}`"));
    let title = format!("CodeForge {}", prose(&account.workflow, 60));
    let done = account.ending == Some(Ending::Done);
    if done {
        document.add(rank::HEAD, "the head", format!("### {title} — {}{}", count(findings), since.unwrap_or_default()));
    } else {
        let (sign, word) = parts::verdict(account);
        document.add(rank::HEAD, "the head", format!("### {sign} {title} — {word}"));
        document.add(rank::HEAD, "the reason", prose(&account.reason, 800));
        document.add(rank::WRONG, "the advice", super::summary::advice(account));
        if !findings.is_empty() {
            document.add(rank::WRONG, "headings", "From the review before:");
        }
    }
    parts::finding_table(&mut document, findings, facts, 400);
    let mut last: Vec<String> = [coverage_line(&facts.coverage), cost_line(account, facts)].into();
    last.retain(|text| !text.is_empty());
    document.add(rank::WRONG, "coverage and cost", last.join(" "));
    document.add(rank::LOW, "the commands", commands(facts));
    document.add(rank::HIGH, "what it remembers", remember(account, findings, facts));
    document.fit(cap)
}

fn commands(facts: &Facts) -> String {
    let what = |name: &str| match name {
        "fix" => " to repair",
        "review" => " to look again",
        "security-audit" => " to look for weaknesses",
        "implement" => " to change something",
        _ => "",
    };
    let mut told: Vec<String> = facts
        .commands
        .iter()
        .take(6)
        .map(|name| format!("{}{}", code(&format!("{} {name}", facts.phrase), 80), what(name)))
        .collect();
    if let Some(url) = facts.run_url.as_deref().and_then(super::safe_url) {
        told.push(format!("[the job]({url})"));
    }
    told.join(" · ")
}

/// The hidden line that [`sticky_comment`] ends with, for whoever publishes a comment through a filter that takes hidden
/// text away: to be added after it. A run that did not come to its end has not reviewed its head.
pub fn remember(account: &Account, findings: &[Finding], facts: &Facts) -> String {
    let head = if account.ending == Some(Ending::Done) { &facts.head } else { &facts.since };
    let mut memory = Memory {
        head: head.clone().filter(|head| super::short(head).is_some()),
        spent: facts.change_spent.unwrap_or(account.spend.cost),
        findings: super::sorted(findings)
            .into_iter()
            .filter(|finding| finding.standing != Standing::Resolved)
            .map(|finding| Finding {
                what: finding.what.chars().take(WORDS).collect(),
                suggestion: None,
                ..finding.clone()
            })
            .collect(),
    };
    loop {
        let line = text::hidden_line("memory", &serde_json::to_string(&memory).unwrap_or_default());
        if line.len() <= MEMORY_CAP || memory.findings.pop().is_none() {
            return line;
        }
    }
}

/// What a comment remembers; `None` where it remembers nothing that can be read.
pub fn memory(comment: &str) -> Option<Memory> {
    // At the start of a line, where no text of others stands.
    let at = comment.rfind(&format!("\n{MEMORY}"))? + 1 + MEMORY.len();
    let rest = comment.get(at..)?;
    let text = rest.get(..rest.find("-->")?)?;
    if text.len() > 2 * MEMORY_CAP {
        return None;
    }
    let memory: Memory = serde_json::from_str(text.trim()).ok()?;
    let sound = |finding: &Finding| {
        finding.fingerprint.len() == 16 && finding.fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    (memory.findings.iter().all(sound) && memory.head.iter().all(|head| super::short(head).is_some())).then_some(memory)
}
