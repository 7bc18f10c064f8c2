//! What our own comments on a change, or the issue that is kept, remember, and what follows for this run: only what came
//! since is looked at, and what was found before is found again, or gone.
//!
//! Every job reads it from the forge itself. A comment or an issue counts where it is of our account and under our mark;
//! what an artifact says of earlier runs does not.

use super::settings::Phase;
use super::trusted::Difference;
use super::{Ci, say};
use crate::cli::Context;
use crate::cli::error::CliError;
use crate::model::account::{Account, Ending};
use crate::model::ci::Home;
use crate::model::coverage::Covered;
use crate::model::event::{Event, EventKind};
use crate::model::finding::Finding;
use crate::model::plan::{DeliverKind, Plan, StepKind};
use crate::model::usage::NanoUsd;
use crate::plan::scope::{self, Scope};
use crate::port::forge::Thread;
use crate::report::ci as reports;
use std::collections::BTreeMap;

/// What is remembered of a change.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    /// Whether it could be asked for at all.
    known: bool,
    /// The commit that this workflow looked at last.
    head: Option<String>,
    /// Spent on the change by this workflow.
    own_spent: NanoUsd,
    /// Spent on the change by all of ours that keep a comment.
    spent: NanoUsd,
    /// What is open: found by this workflow, or by all of them where this one keeps no comment.
    pub findings: Vec<Finding>,
}

/// What a run is shown of a change, and what was known of it before.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The whole change.
    whole: Option<Difference>,
    /// What is shown of it, or of what came since.
    scope: Option<Scope>,
    /// The commit that was looked at last, where only what came since is shown.
    since: Option<String>,
    /// What is remembered.
    pub earlier: Earlier,
}

/// Whether a delivery keeps a comment, and with it a memory.
fn keeps(kind: DeliverKind) -> bool {
    matches!(kind, DeliverKind::Comment | DeliverKind::Review)
}

/// Asks the forge what the issue that the workflow keeps remembers. Who writes it must know: what stands in it would be
/// lost. An agent's job may have a token that cannot read it, and goes on without.
///
/// # Errors
/// It cannot be asked.
async fn recall_issue(ci: &Ci, plan: &Plan, cx: &Context<'_>) -> Result<Earlier, CliError> {
    let Some(forge) = &ci.forge else { return Ok(Earlier::default()) };
    let issues = match forge.kept_issues(&plan.workflow).await {
        Ok(issues) => issues,
        Err(error) if ci.settings.phase == Phase::Agent => {
            say(cx, &format!("note: what earlier runs found is not known: {error}"));
            return Ok(Earlier::default());
        }
        Err(error) => {
            let error = CliError::from(error);
            let why = format!("`{}` cannot know what its issue says: {}", plan.workflow, error.message);
            return Err(CliError::new(error.ending, why));
        }
    };
    let Some(issue) = issues.into_iter().next() else { return Ok(Earlier { known: true, ..Earlier::default() }) };
    let Some(memory) = issue.memory.and_then(|line| reports::memory(&format!("\n{line}"))) else {
        say(cx, &format!("note: issue {} does not remember what was found before: all is new", issue.number));
        return Ok(Earlier::default());
    };
    let reports::Memory { head, spent, findings } = memory;
    Ok(Earlier { known: true, head, own_spent: spent, spent, findings })
}

/// Asks the forge what our comments on the job's change remember. Where it cannot be asked that is said, and nothing is
/// remembered.
async fn recall(ci: &Ci, plan: &Plan, cx: &Context<'_>) -> Earlier {
    let Some(change) = &ci.job.event.change else { return Earlier::default() };
    let asked = ci.job.served.as_ref().and_then(|served| served.asked.as_ref());
    let names: Vec<&str> = ci.library.workflows.keys().map(String::as_str).collect();
    let lines = match (asked, &ci.forge) {
        (Some(asked), _) => asked.remembered.clone().ok_or_else(|| "the forge did not say".to_owned()),
        (None, Some(forge)) => {
            forge.recall(Thread::Change(change.number), &names).await.map_err(|error| error.to_string())
        }
        (None, None) => return Earlier::default(),
    };
    let lines = match lines {
        Ok(lines) => lines,
        Err(error) => {
            say(cx, &format!("note: what earlier runs found in change {} is not known: {error}", change.number));
            return Earlier::default();
        }
    };
    let memories: BTreeMap<&String, reports::Memory> =
        lines.iter().filter_map(|(name, line)| Some((name, reports::memory(&format!("\n{line}"))?))).collect();
    let mut earlier = Earlier { known: true, ..Earlier::default() };
    let own = keeps(plan.deliver.kind);
    for (name, memory) in memories {
        earlier.spent = earlier.spent.plus(memory.spent);
        let this = *name == plan.workflow;
        if this {
            earlier.own_spent = memory.spent;
            earlier.head = memory.head;
        }
        if this || !own {
            earlier.findings.extend(memory.findings);
        }
    }
    earlier
}

/// Whether an agent is shown what the change changed, or what was found in it: the first takes history.
pub(in crate::cli) fn shows_change(plan: &Plan) -> bool {
    const NAMES: [&str; 5] = ["change.diff", "change.files", "change.coverage", "change.since", "change.earlier"];
    let named = |text: &str| NAMES.iter().any(|it| text.contains(it));
    plan.steps.values().any(|step| match &step.kind {
        StepKind::Agent(spec) => named(&spec.prompt) || named(&spec.system_template),
        StepKind::Run { command } => command.contains("EVENT_CHANGE_DIFF") || command.contains("EVENT_CHANGE_FILES"),
    })
}

/// Why a time table's run has nothing to look at: its agents are shown what came in since the last one, and nothing did.
pub(super) fn nothing_new(plan: &Plan, event: &Event, head: &str) -> Option<String> {
    let last = event.push.as_ref().and_then(|push| push.before.as_deref());
    if event.kind != EventKind::Schedule || last != Some(head) || !shows_change(plan) {
        return None;
    }
    let short = head.get(..10).unwrap_or(head);
    Some(format!("nothing came in since {short}, which was looked at last"))
}

/// Finds out what a run of the plan is to see.
///
/// # Errors
/// A commit cannot be had, or the issue that is kept.
pub(super) async fn see(ci: &Ci, plan: &Plan, head: &str, cx: &Context<'_>) -> Result<Seen, CliError> {
    let earlier = match plan.deliver.kind {
        DeliverKind::Issue => recall_issue(ci, plan, cx).await?,
        _ => recall(ci, plan, cx).await,
    };
    let mut seen = Seen { earlier, ..Seen::default() };
    if !shows_change(plan) {
        return Ok(seen);
    }
    let Some(whole) = ci.commits.change(&ci.job, head, &ci.trusted).await? else { return Ok(seen) };
    seen.since = match seen.earlier.head.clone().filter(|_| keeps(plan.deliver.kind)) {
        Some(last) => since(ci, last, head, cx).await,
        None => None,
    };
    let mut shown = whole.changes.clone();
    if let Some(since) = &seen.since {
        shown = ci.commits.difference(since.clone(), head).await?.changes;
        // What came in from the branch that the change goes to is not the change's; what it took back is.
        let paths = whole.paths();
        let known = |path: &String| paths.contains(path) || seen.earlier.findings.iter().any(|it| it.file == *path);
        shown.files.retain(|file| known(&file.path) || file.from.as_ref().is_some_and(known));
    }
    seen.scope = Some(scope::scope(&shown, scope::ROOM));
    seen.whole = Some(whole);
    Ok(seen)
}

/// The commit that was looked at last, where what came since can be told.
async fn since(ci: &Ci, last: String, head: &str, cx: &Context<'_>) -> Option<String> {
    let short: String = last.chars().take(10).collect();
    if last == head {
        say(cx, &format!("{short} was looked at before: the whole change is looked at again"));
        return None;
    }
    let here = last.len() == head.len() && ci.commits.have(&last, "since", None).await.is_ok();
    if here && ci.commits.meet(&last, head).await.is_ok_and(|meet| meet == last) {
        say(cx, &format!("what came since {short} is looked at: earlier runs looked at the rest"));
        return Some(last);
    }
    say(
        cx,
        &format!(
            "{short}, which was looked at last, is not part of the change any more (a force-push?): the whole change is \
             looked at again"
        ),
    );
    None
}

impl Seen {
    /// Puts it into the event as templates see it.
    pub fn lay_on(&self, plan: &mut Plan) {
        match &self.scope {
            Some(scope) => scope.lay_on(&mut plan.event, self.since.as_deref(), &self.earlier.findings),
            None if plan.deliver.kind == DeliverKind::Issue && !self.earlier.findings.is_empty() => {
                scope::lay_earlier(&mut plan.event, &self.earlier.findings);
            }
            None => {}
        }
    }

    /// Old paths by new ones, of the whole change: a finding stays the same one however often it is looked at.
    pub fn renamed(&self) -> BTreeMap<String, String> {
        self.whole.as_ref().map(|whole| scope::renamed(&whole.changes)).unwrap_or_default()
    }

    /// What was found, beside what was found before. A run that did not come to its end resolves nothing.
    /// `place`: whether the place of a finding is there still.
    ///
    /// In a change only what was shown of it was looked at. What an issue tells of is the repository's: one is gone with
    /// its place, or where its file changed and the reviewer, who was told of it, is silent. A run that was shown no
    /// difference looked at everything, where it was `told` of what was found before.
    pub fn standing(
        &self,
        found: Vec<Finding>,
        (ending, told): (Option<Ending>, bool),
        kind: DeliverKind,
        place: &dyn Fn(&Finding) -> bool,
    ) -> Vec<Finding> {
        let of_issue = kind == DeliverKind::Issue;
        if !keeps(kind) && !of_issue {
            return found;
        }
        let looked = |old: &Finding| {
            ending == Some(Ending::Done)
                && match &self.scope {
                    _ if of_issue && !place(old) => true,
                    Some(scope) if of_issue && told => scope.names(&old.file),
                    Some(scope) => scope.looked_at(&old.file),
                    None => of_issue && told,
                }
        };
        reports::standing(found, &self.earlier.findings, &looked)
    }

    /// Whether nothing was open before, as far as that is known.
    pub fn was_clean(&self) -> bool {
        self.earlier.known && self.earlier.findings.is_empty()
    }

    fn coverage(&self) -> Vec<Covered> {
        self.scope.as_ref().map(|scope| scope.coverage.clone()).unwrap_or_default()
    }

    /// What reports tell beside the account.
    pub fn facts(&self, ci: &Ci, plan: &Plan, event: &Event, head: &str, account: &Account) -> reports::Facts {
        let spent = self.earlier.known.then_some(self.earlier.spent.plus(account.spend.cost));
        // Of the repository only an issue remembers.
        let of_issue = event.change.is_none();
        reports::Facts {
            done: reports::planned(account),
            coverage: self.coverage(),
            head: Some(head.to_owned()),
            since: self.since.clone(),
            run_url: ci.job.run_url.clone(),
            change_spent: spent.filter(|_| !of_issue),
            kept_spent: spent.filter(|_| of_issue),
            change_budget_usd: ci.library.config.budget.as_ref().and_then(|budget| budget.per_change_usd),
            phrase: ci.settings.phrase.clone(),
            commands: commands(ci),
            ..reports::Facts::of(event, plan.inputs.get("task").and_then(|task| task.as_str()))
        }
    }

    /// What this run's comment is to remember: of the money its own workflow's part.
    pub fn memory(&self, account: &Account, findings: &[Finding], facts: &reports::Facts) -> String {
        let spent = self.earlier.own_spent.plus(account.spend.cost);
        reports::remember(account, findings, &reports::Facts { change_spent: Some(spent), ..facts.clone() })
    }
}

/// The commands that a comment may give here, those that go on with a change first. A fork's change needs its commit
/// named, and a container hears no comments.
fn commands(ci: &Ci) -> Vec<String> {
    if ci.job.home == Home::Container && ci.job.served.is_none() || ci.job.fork {
        return Vec::new();
    }
    let all = ci.library.workflows.values();
    let mut named: Vec<(u8, String)> = all
        .filter_map(|workflow| {
            let name = workflow.doc.on.as_ref()?.command.as_ref()?.name.0.clone();
            let place = match name.as_str() {
                "fix" => 0,
                "review" => 1,
                _ if !workflow.builtin => 2,
                _ => 3,
            };
            Some((place, name))
        })
        .collect();
    named.sort();
    named.dedup();
    named.into_iter().map(|(_, name)| name).collect()
}
