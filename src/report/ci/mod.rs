//! What a run leaves in CI: the step summary, annotations, SARIF, Code Quality, JUnit, a change's body, the comment and the
//! issue that stay current, the log.
//!
//! Everything takes a cap in bytes. Where a text does not fit, the least useful goes first and the text says what went.
//! All text of others (models, commands, repositories, people) is made inert for the place that shows it.

mod annotations;
pub mod answers;
mod body;
mod code_quality;
mod comment;
pub mod findings;
mod issue;
mod junit;
pub mod log;
pub mod markdown;
mod parts;
mod sarif;
mod summary;

pub use annotations::{Annotation, annotations};
pub use body::change_body;
pub use code_quality::code_quality;
pub use comment::{Memory, memory, remember, sticky_comment};
pub use findings::{Tree, findings, outputs, planned, reviewed, standing};
pub use issue::{issue_body, last_word};
pub use junit::junit;
pub use sarif::sarif;
pub use summary::summary;

use crate::model::coverage::{Covered, Shown};
use crate::model::finding::{Finding, Level, Standing};
use crate::model::usage::NanoUsd;

/// The most that a comment, an issue's or a change's description may hold on GitHub, in characters. (GitLab takes more.)
/// Caps count bytes, so that a text within it always fits.
pub const BODY_CAP: usize = 65_536;
/// The most that a step's summary may hold on GitHub, in bytes.
pub const SUMMARY_CAP: usize = 1024 * 1024;
/// The most that we write into a report for machines, in bytes (GitHub takes 10 MB of SARIF, packed).
pub const REPORT_CAP: usize = 8 * 1024 * 1024;

/// What a report tells beside the account. All of it may be left out. Texts are untrusted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// What was asked: the input `task`, or the title of what the run is about.
    pub asked: Option<String>,
    /// Who asked.
    pub asked_by: Option<String>,
    /// What was done, in the plan's words (the `summary` of an output of the schema `plan`), or the agent's last.
    pub done: Option<String>,
    /// What a reviewer was shown of a change.
    pub coverage: Vec<Covered>,
    /// The commit that was looked at.
    pub head: Option<String>,
    /// The commit of the review before.
    pub since: Option<String>,
    /// The job's page.
    pub run_url: Option<String>,
    /// Spent on this change so far, this run included.
    pub change_spent: Option<NanoUsd>,
    /// Spent since the issue is kept, this run included.
    pub kept_spent: Option<NanoUsd>,
    /// What may be spent on this change, in US dollars.
    pub change_budget_usd: Option<f64>,
    /// What a command in a comment begins with (`/codeforge`).
    pub phrase: String,
    /// The workflows that a comment can start here (`fix`, `review`); empty: no commands are listened to.
    pub commands: Vec<String>,
    /// A path of the trajectory or its artifact's name: where all of what is clipped here can be read.
    pub whole: Option<String>,
}

impl Facts {
    /// What an event says of who asked for what. `task` is the input of that name, where there is one.
    pub fn of(event: &crate::model::event::Event, task: Option<&str>) -> Self {
        let title = || event.change.as_ref().map(|it| &it.title).or_else(|| event.issue.as_ref().map(|it| &it.title));
        Self {
            asked: task.map(str::to_owned).or_else(|| title().cloned()).filter(|text| !text.trim().is_empty()),
            asked_by: event.actor.clone(),
            head: event.change.as_ref().and_then(|change| change.head.sha.clone()).or_else(|| event.sha.clone()),
            ..Self::default()
        }
    }
}

/// `2 findings, 1 resolved`.
fn count(findings: &[Finding]) -> String {
    let gone = findings.iter().filter(|finding| finding.standing == Standing::Resolved).count();
    let open = findings.len() - gone;
    let mut text = match open {
        0 => "no findings".to_owned(),
        1 => "1 finding".to_owned(),
        open => format!("{open} findings"),
    };
    if gone > 0 {
        text.push_str(&format!(", {gone} resolved"));
    }
    text
}

/// The finding's sign.
fn sign(finding: &Finding) -> &'static str {
    match (finding.standing, finding.level) {
        (Standing::Resolved, _) => "✅",
        (_, Level::High) => "🔴",
        (_, Level::Medium) => "🟡",
        (_, Level::Low) => "🔵",
    }
}

/// The worst first, what is resolved last; within a level by file and line.
fn sorted(findings: &[Finding]) -> Vec<&Finding> {
    let mut all: Vec<&Finding> = findings.iter().collect();
    all.sort_by_key(|it| {
        (it.standing == Standing::Resolved, std::cmp::Reverse(it.level), it.file.clone(), it.line.unwrap_or(0))
    });
    all
}

/// `Reviewed 14 of 15 changed files (`Cargo.lock` skipped: lock file).` Empty where nothing is known.
fn coverage_line(coverage: &[Covered]) -> String {
    if coverage.is_empty() {
        return String::new();
    }
    let with = |shown: Shown| coverage.iter().filter(move |it| it.shown == shown);
    let files = if coverage.len() == 1 { "file" } else { "files" };
    let reviewed = coverage.len() - with(Shown::Skipped).count();
    let mut text = format!("Reviewed {reviewed} of {} changed {files}", coverage.len());
    let less: Vec<&Covered> = with(Shown::Skipped).chain(with(Shown::Clipped)).collect();
    if !less.is_empty() {
        let mut told: Vec<String> = less
            .iter()
            .take(3)
            .map(|it| {
                format!("{} {}: {}", markdown::code(&it.path, 80), it.shown.as_str(), markdown::prose(&it.why, 40))
            })
            .collect();
        if less.len() > 3 {
            told.push(format!("and {} more", less.len() - 3));
        }
        text.push_str(&format!(" ({})", told.join(", ")));
    }
    text.push('.');
    text
}

/// `$0.08 this time, $0.31 on this change so far of $2.00.`
fn cost_line(account: &crate::model::account::Account, facts: &Facts) -> String {
    let mut text = if account.spend.calls == 0 {
        "No model was asked: $0".to_owned()
    } else {
        format!("{} this time", super::numbers::cost(&account.spend))
    };
    if let Some(spent) = facts.change_spent {
        text.push_str(&format!(", {} on this change so far", super::numbers::dollars(spent)));
        if let Some(budget) = facts.change_budget_usd {
            text.push_str(&format!(" of {}", super::numbers::dollars(NanoUsd::from_usd(budget))));
        }
    }
    text.push('.');
    text
}

/// The first seven digits of a commit, where it is one.
fn short(commit: &str) -> Option<&str> {
    let hex = commit.len() >= 7 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hex { commit.get(..7) } else { None }
}

/// The text with as many of `all` things as fit into `cap` bytes, found by halving; the one with none of them where
/// even that is too long.
fn shrink(all: usize, cap: usize, render: impl Fn(usize) -> String) -> String {
    let whole = render(all);
    if whole.len() <= cap {
        return whole;
    }
    let (mut fits, mut too_many) = (0, all);
    let mut best = render(0);
    while too_many - fits > 1 {
        let middle = fits + (too_many - fits) / 2;
        let text = render(middle);
        if text.len() <= cap {
            (fits, best) = (middle, text);
        } else {
            too_many = middle;
        }
    }
    best
}

/// An address that can stand in a link: plain characters of one.
fn safe_url(url: &str) -> Option<&str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?#@!$&*+,;=%".contains(&byte);
    let web = url.starts_with("https://") || url.starts_with("http://");
    (web && url.len() < 2000 && url.bytes().all(plain)).then_some(url)
}
