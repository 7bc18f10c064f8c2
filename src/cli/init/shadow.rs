//! `--shadow N`: what a review of the last N merged changes would have said, what it costs, and how much of it people
//! repaired later by themselves. Nothing is posted, nothing of the repository is written.

use super::CliError;
use crate::cli::{Context, Format, run as running};
use crate::engine::{Engine, Stop};
use crate::model::account::Ending;
use crate::model::diagnostic::Severity;
use crate::model::event::{Change, Event, EventKind, Side};
use crate::model::finding::Finding;
use crate::model::id::RunId;
use crate::model::plan::DeliverKind;
use crate::model::usage::NanoUsd;
use crate::plan::{self, scope};
use crate::port::checkout::{CameIn, Checkout};
use crate::port::repository::Repository;
use crate::port::world::Tape;
use crate::report::{self, ci as reports};
use crate::text;
use crate::workflow::schema::Library;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// The workflow that is tried.
const WORKFLOW: &str = "review";
/// How many later changes a repair may take.
const LATER: usize = 50;
/// Bytes of a difference, and of a file.
const DIFFERENCE: usize = 32 * 1024 * 1024;
const LARGEST: usize = 1024 * 1024;

/// What became of a finding's lines.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Later {
    /// This commit changed them.
    Changed(String),
    /// They are as they were.
    Untouched,
    /// Nothing came in since.
    TooYoung,
}

/// One change, reviewed.
struct Reviewed {
    change: CameIn,
    ending: Ending,
    cost: Option<NanoUsd>,
    tokens: u64,
    findings: Vec<(Finding, Later)>,
}

/// Runs the command.
pub(super) async fn run(count: u32, dry_run: bool, root: &Path, cx: &Context<'_>, stop: Stop) -> Result<(), CliError> {
    let checkout = cx.world.checkout(root)?;
    let wanted = usize::try_from(count).unwrap_or(usize::MAX);
    let all = checkout.changes(wanted.saturating_add(LATER))?;
    if all.is_empty() {
        return Err(CliError::usage("there is no merged change to look at: the history has one commit, or is cut off")
            .hint("`git fetch --unshallow` brings all of it"));
    }
    let library = running::load(root, cx)?;
    let changes: Vec<&CameIn> = all.iter().take(wanted).collect();
    if dry_run {
        for change in &changes {
            cx.data(&text::clean(&format!("{}  {}\n", short(&change.commit), change.subject)));
        }
        cx.say(&format!(
            "{} changes would be reviewed; `codeforge run review --dry-run` says what one costs",
            changes.len()
        ));
        return Ok(());
    }
    let mut reviewed = Vec::new();
    let mut ended = Ending::Done;
    for (place, change) in changes.iter().enumerate() {
        cx.say(&text::clean(&format!("{}/{} {}  {}", place + 1, changes.len(), short(&change.commit), change.subject)));
        let mut one = review(change, &checkout, &library, cx, stop.clone()).await?;
        let since: Vec<&CameIn> = all.iter().take(place).rev().take(LATER).collect();
        for (finding, later) in &mut one.findings {
            *later = fate(finding, change, &since, &*checkout)?;
        }
        let over = matches!(one.ending, Ending::Cancelled | Ending::Unavailable | Ending::Misconfigured);
        if over {
            ended = one.ending;
        }
        reviewed.push(one);
        if over {
            break;
        }
    }
    if cx.format == Format::Json {
        cx.data(&format!("{:#}\n", account(&reviewed)));
    } else {
        cx.data(&text::clean(&render(&reviewed)));
    }
    if ended == Ending::Done { Ok(()) } else { Err(CliError::silent(ended)) }
}

/// Reviews one change as its pull request would have been.
async fn review(
    change: &CameIn,
    checkout: &Arc<dyn Checkout>,
    library: &Library,
    cx: &Context<'_>,
    stop: Stop,
) -> Result<Reviewed, CliError> {
    let side = |sha: &str| Side { sha: Some(sha.to_owned()), ..Side::default() };
    let event = Event {
        kind: EventKind::PullRequest,
        action: Some("opened".to_owned()),
        sha: Some(change.commit.clone()),
        change: Some(Change {
            // None that a forge has given: what a shadow costs is on no real change's account.
            number: u64::from_str_radix(change.commit.get(..12).unwrap_or_default(), 16).unwrap_or(1),
            title: change.subject.clone(),
            body: change.body.clone(),
            head: side(&change.commit),
            base: side(&change.parent),
            ..Change::default()
        }),
        ..Event::default()
    };
    let request = plan::Request {
        workflow: WORKFLOW.to_owned(),
        event: event.value(),
        deliver: Some(DeliverKind::None),
        models: cx.world.models(&Tape::Off),
        outside: true,
        ..plan::Request::default()
    };
    let mut plan = plan::compile(library, &request).map_err(|problems| {
        for problem in problems.iter().filter(|problem| problem.severity == Severity::Error) {
            cx.complain(report::diagnostics::render(problem, cx.color).trim_end());
        }
        running::refused(WORKFLOW, &problems)
    })?;
    let difference = checkout.change(&change.parent, &change.commit, DIFFERENCE)?;
    scope::scope(&difference, scope::ROOM).lay_on(&mut plan.event, None, &[]);
    let repository: Arc<dyn Repository> = checkout.at(&change.commit)?;
    let base = repository.base()?;
    let engine: Engine = running::engine(repository, &Tape::Off, cx).await?;
    let id = RunId::from_bits(cx.world.random());
    let outcome = engine.start(id, plan, base, stop).await.map_err(running::engine_error)?;
    let account = crate::run::account(&outcome.state);
    let steps = outcome.state.plan.steps.keys().zip(&outcome.state.steps);
    let outputs: Vec<_> = steps.filter_map(|(id, step)| Some((id, step.output.as_ref()?))).collect();
    let text =
        |path: &str| -> Option<String> { String::from_utf8(checkout.file(&change.commit, path, LARGEST).ok()??).ok() };
    let renamed = scope::renamed(&difference);
    let found = reports::findings(outputs, &reports::findings::Tree { text: &text, renamed: &renamed });
    let spend = &account.spend;
    Ok(Reviewed {
        change: change.clone(),
        ending: if outcome.interrupted { Ending::Cancelled } else { account.ending.unwrap_or(Ending::Failed) },
        cost: (spend.unknown_calls == 0).then_some(spend.cost),
        tokens: spend.usage.total(),
        findings: found.into_iter().map(|finding| (finding, Later::TooYoung)).collect(),
    })
}

/// What became of a finding's lines in the changes that came in afterwards, the oldest first.
fn fate(finding: &Finding, change: &CameIn, since: &[&CameIn], checkout: &dyn Checkout) -> Result<Later, CliError> {
    if since.is_empty() {
        return Ok(Later::TooYoung);
    }
    for later in since {
        let difference = checkout.change(&change.commit, &later.commit, DIFFERENCE)?;
        if touches(&difference.diff, &finding.file, finding.line) {
            return Ok(Later::Changed(later.commit.clone()));
        }
    }
    Ok(Later::Untouched)
}

/// Whether a difference takes away or rewrites a line of a file's old side; without a line: touches the file at all.
fn touches(diff: &str, file: &str, line: Option<u64>) -> bool {
    let mut here = false;
    let (mut at, mut left) = (0u64, (0u64, 0u64));
    for text in diff.lines() {
        if left == (0, 0) {
            if text.starts_with("diff --git ") {
                here = false;
            } else if let Some(old) = text.strip_prefix("--- ") {
                here = old.trim_start_matches("a/") == file;
                if here && line.is_none() {
                    return true;
                }
            } else if let Some((old, new)) = text.strip_prefix("@@ -").and_then(hunk) {
                at = old.0;
                left = (old.1, new.1);
            }
            continue;
        }
        match text.as_bytes().first() {
            Some(b'-') => {
                if here && Some(at) == line {
                    return true;
                }
                at += 1;
                left.0 = left.0.saturating_sub(1);
            }
            Some(b'+') => left.1 = left.1.saturating_sub(1),
            Some(b'\\') => {}
            _ => {
                at += 1;
                left = (left.0.saturating_sub(1), left.1.saturating_sub(1));
            }
        }
    }
    false
}

/// `10,3 +12,4 @@…` → where both sides begin, and how many lines they have.
fn hunk(text: &str) -> Option<((u64, u64), (u64, u64))> {
    let (old, rest) = text.split_once(" +")?;
    let new = rest.split(" @@").next()?;
    let side = |text: &str| -> Option<(u64, u64)> {
        let (from, count) = text.split_once(',').unwrap_or((text, "1"));
        Some((from.parse().ok()?, count.parse().ok()?))
    };
    Some((side(old)?, side(new)?))
}

fn short(commit: &str) -> String {
    commit.chars().take(10).collect()
}

/// Sums over all changes.
struct Sums {
    findings: usize,
    repaired: usize,
    untouched: usize,
    young: usize,
    failed: usize,
    cost: Option<NanoUsd>,
    tokens: u64,
}

fn sums(all: &[Reviewed]) -> Sums {
    let count =
        |wanted: fn(&Later) -> bool| all.iter().flat_map(|it| &it.findings).filter(|(_, later)| wanted(later)).count();
    let known: Option<Vec<NanoUsd>> = all.iter().map(|it| it.cost).collect();
    Sums {
        findings: all.iter().map(|it| it.findings.len()).sum(),
        repaired: count(|later| matches!(later, Later::Changed(_))),
        untouched: count(|later| *later == Later::Untouched),
        young: count(|later| *later == Later::TooYoung),
        failed: all.iter().filter(|it| it.ending != Ending::Done).count(),
        cost: known.map(|costs| costs.into_iter().fold(NanoUsd::default(), NanoUsd::plus)),
        tokens: all.iter().map(|it| it.tokens).sum(),
    }
}

fn money(cost: Option<NanoUsd>) -> String {
    cost.map_or_else(|| "cost unknown".to_owned(), |cost| format!("${:.4}", cost.usd()))
}

fn render(all: &[Reviewed]) -> String {
    let mut text = String::new();
    for one in all {
        let how =
            if one.ending == Ending::Done { String::new() } else { format!("  ({:?})", one.ending).to_lowercase() };
        let subject: String = one.change.subject.chars().take(60).collect();
        text.push_str(&format!(
            "{}  {subject}  {} findings  {}{how}\n",
            short(&one.change.commit),
            one.findings.len(),
            money(one.cost)
        ));
        for (finding, later) in &one.findings {
            let place = finding.line.map_or_else(|| finding.file.clone(), |line| format!("{}:{line}", finding.file));
            let later = match later {
                Later::Changed(commit) => format!("changed later, in {}", short(commit)),
                Later::Untouched => "not touched since".to_owned(),
                Later::TooYoung => "nothing came in since".to_owned(),
            };
            let what: String = finding.what.chars().take(100).collect();
            text.push_str(&format!("    {place}  {}  [{later}]\n", what.replace('\n', " ")));
        }
    }
    let sums = sums(all);
    let changes = all.len().max(1);
    text.push_str(&format!(
        "\n{} changes, {} findings ({:.1} for each change), {} tokens, {}",
        all.len(),
        sums.findings,
        sums.findings as f64 / changes as f64,
        sums.tokens,
        money(sums.cost)
    ));
    if let Some(cost) = sums.cost {
        text.push_str(&format!(" (${:.4} for each change)", cost.usd() / changes as f64));
    }
    text.push_str(&format!(
        "\n  {} are at lines that people changed within the next {LATER} changes: what a review would have said sooner, as far \
         as a line can tell\n  {} are at lines that nobody touched since: noise, or not repaired yet\n",
        sums.repaired, sums.untouched
    ));
    if sums.young > 0 {
        text.push_str(&format!("  {} cannot be told: nothing came in since\n", sums.young));
    }
    if sums.failed > 0 {
        text.push_str(&format!("  {} reviews did not end well\n", sums.failed));
    }
    text.push_str("nothing was posted\n");
    text
}

fn account(all: &[Reviewed]) -> Value {
    let sums = sums(all);
    let changes = all.iter().map(|one| {
        let findings = one.findings.iter().map(|(finding, later)| {
            let (fate, by) = match later {
                Later::Changed(commit) => ("changed", Some(commit.as_str())),
                Later::Untouched => ("untouched", None),
                Later::TooYoung => ("too_young", None),
            };
            json!({
                "file": finding.file, "line": finding.line, "level": finding.level, "what": text::clean(&finding.what),
                "later": fate, "changed_by": by,
            })
        });
        json!({
            "commit": one.change.commit,
            "subject": text::clean(&one.change.subject),
            "ending": one.ending,
            "cost_usd": one.cost.map(|cost| cost.usd()),
            "tokens": one.tokens,
            "findings": findings.collect::<Vec<_>>(),
        })
    });
    json!({
        "changes": changes.collect::<Vec<_>>(),
        "findings": sums.findings,
        "changed_later": sums.repaired,
        "untouched": sums.untouched,
        "too_young": sums.young,
        "cost_usd": sums.cost.map(|cost| cost.usd()),
        "tokens": sums.tokens,
        "posted": false,
    })
}

#[cfg(test)]
mod tests {
    use super::touches;

    #[test]
    fn a_line_counts_where_it_is_taken_away_or_rewritten() {
        let diff = "diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/a.py\n@@ -2,4 +2,5 @@\n one\n-two\n+TWO\n+more\n three\n four\n\
                    diff --git a/b.py b/b.py\n--- a/b.py\n+++ b/b.py\n@@ -1 +0,0 @@\n---- a/a.py\n";
        for (file, line, wanted) in [
            ("a.py", Some(3), true),
            ("a.py", Some(2), false),
            ("a.py", Some(4), false),
            ("a.py", None, true),
            ("b.py", Some(1), true),
            ("c.py", None, false),
        ] {
            assert_eq!(touches(diff, file, line), wanted, "{file} {line:?}");
        }
    }
}
