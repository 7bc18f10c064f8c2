//! Handing over through the forge, after the run: the run itself ends in a change that is checked, and nothing more.

use super::earlier::Seen;
use super::{Ci, phases, say, served};
use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::forge::{self as forge_of, redacted};
use crate::deliver;
use crate::engine::{Engine, publish as outgoing};
use crate::model::account::{Account, Ending};
use crate::model::delivery::{Delivery, Published};
use crate::model::event::Event;
use crate::model::finding::{Finding, Standing};
use crate::model::id::TreeId;
use crate::model::journal::{Base, Row, RowBody, Work};
use crate::model::plan::{DeliverKind, Plan};
use crate::report::ci as reports;
use crate::run::State;
use crate::text;
use std::sync::Arc;

/// The form that a run ends in where its delivery is the forge's: a change of files is made and checked as a patch,
/// words are made of what steps said.
pub(super) fn held(kind: DeliverKind) -> DeliverKind {
    match kind {
        DeliverKind::PullRequest | DeliverKind::PushToBranch => DeliverKind::Patch,
        kind if kind.speaks() => DeliverKind::None,
        here => here,
    }
}

/// What is known of a run, for what is said and remembered of it.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    /// How it went.
    pub account: &'a Account,
    /// What happened.
    pub event: &'a Event,
    /// What was found, beside what was found before.
    pub findings: &'a [Finding],
    /// What reports tell beside the account.
    pub facts: &'a reports::Facts,
    /// What was known of the change before.
    pub seen: &'a Seen,
}

/// What a run made, to be published.
pub(super) struct Order<'a> {
    pub wanted: DeliverKind,
    pub state: &'a State,
    pub rows: &'a [Row],
    pub known: Known<'a>,
}

/// Publishes what a run made. `None`: there was nothing to publish, or nowhere to.
///
/// # Errors
/// It may not be, or cannot be.
pub(super) async fn publish(
    ci: &Ci,
    order: &Order<'_>,
    engine: &Engine,
    cx: &Context<'_>,
) -> Result<Option<Published>, CliError> {
    let delivered = order.known.account.delivered.as_ref();
    let words = speaks_there(order.wanted);
    let pushed = order.wanted == DeliverKind::Branch && ci.forge.is_some();
    let ready = match order.wanted {
        kind if kind.speaks() => order.known.account.ending == Some(Ending::Done),
        DeliverKind::PullRequest | DeliverKind::PushToBranch => delivered.is_some_and(|it| it.changed),
        DeliverKind::Branch => pushed && delivered.is_some_and(|it| it.changed),
        _ => false,
    };
    if !ready {
        return Ok(None);
    }
    still_ours(ci, order).await?;
    let state = order.state;
    let plan = Plan {
        deliver: crate::model::plan::DeliverSpec { kind: order.wanted, ..state.plan.deliver.clone() },
        ..(*state.plan).clone()
    };
    let tree = tree(order.rows).unwrap_or_else(|| state.base.tree.clone());
    let gates: Vec<_> = order
        .known
        .account
        .steps
        .iter()
        .flat_map(|step| step.gates.iter().map(|(_, it, _)| it.clone()))
        .chain(order.known.account.final_gates.clone())
        .collect();
    let facts = deliver::Facts {
        run: &state.run,
        base: &state.base,
        tree: if words { &state.base.tree } else { &tree },
        started_ms: state.started_ms,
        context: &state.whole_context(),
        gates: &gates,
        cost: &order.known.account.spend.cost.to_string(),
    };
    let delivery = deliver::compose(&plan, &facts).map_err(CliError::usage)?;
    let passed = deliver::all_passed(&plan, &gates);
    let sending = Sending { plan: &plan, delivery: &delivery, base: &state.base, known: order.known, passed };
    send(ci, &sending, engine, cx).await.map(Some)
}

/// A server's job hands over only while it is the one that has the job, and while the change is where it was looked at:
/// another server may have taken over while this process was away.
///
/// # Errors
/// It is not: nothing is written.
async fn still_ours(ci: &Ci, order: &Order<'_>) -> Result<(), CliError> {
    let Some(served) = &ci.job.served else { return Ok(()) };
    let newest = std::fs::read_to_string(&served.fence_file).map_err(|error| {
        let file = served.fence_file.display();
        CliError::new(
            Ending::Unavailable,
            format!("nothing was written: the job's fence {file} cannot be read: {error}"),
        )
    })?;
    if newest.trim() != served.fence.to_string() {
        return Err(CliError::new(
            Ending::Cancelled,
            format!("nothing was written: job {} was taken over by another worker while this one was away", served.id),
        ));
    }
    match &order.state.base.commit {
        // A push compares the branch itself, and knows its own commit again.
        Some(head) if ci.job.event.change.is_some() && order.wanted != DeliverKind::PushToBranch => {
            phases::unmoved(ci, head).await
        }
        _ => Ok(()),
    }
}

/// Whether a form of delivery is words at the forge.
fn speaks_there(kind: DeliverKind) -> bool {
    kind.speaks() && kind.is_of_a_forge()
}

/// A delivery that is to be sent.
pub(super) struct Sending<'a> {
    /// The plan, with the form that is wanted.
    pub plan: &'a Plan,
    /// The delivery.
    pub delivery: &'a Delivery,
    /// Where it stands.
    pub base: &'a Base,
    /// For what is said about it.
    pub known: Known<'a>,
    /// Whether every required gate passed on what is sent.
    pub passed: bool,
}

/// Sends a delivery to the forge, or writes its report.
///
/// # Errors
/// It may not be, or cannot be.
pub(super) async fn send(
    ci: &Ci,
    sending: &Sending<'_>,
    engine: &Engine,
    cx: &Context<'_>,
) -> Result<Published, CliError> {
    let Sending { plan, delivery, known, .. } = sending;
    let Known { account, facts, .. } = *known;
    let secrets: Vec<&str> = engine.secrets.iter().map(String::as_str).collect();
    let findings = &redacted(known.findings.to_vec(), &secrets)[..];
    let wanted = plan.deliver.kind;
    let words = speaks_there(wanted);
    if wanted == DeliverKind::Report {
        let said = match plan.deliver.body {
            Some(_) => delivery.body.clone(),
            None => reports::change_body(account, findings, facts, reports::REPORT_CAP),
        };
        let text = text::redact(&format!("# {}\n\n{said}\n", delivery.title), &secrets);
        let file = ci.reports.write("report.md", &text)?;
        let told = vec![format!("the report is {}", file.display())];
        return Ok(Published { told, ..Published::default() });
    }
    if wanted == DeliverKind::Issue && !reports::reviewed(account) {
        let told = vec!["the issue was left as it is: no step handed over findings, be it none".to_owned()];
        told.iter().for_each(|line| say(cx, line));
        return Ok(Published { told, ..Published::default() });
    }
    let Some(forge) = &ci.forge else {
        return Err(CliError::usage(format!(
            "workflow `{}` hands over through the forge, and there is none to speak to",
            account.workflow
        ))
        .hint(
            "give the job a token in CODEFORGE_FORGE_TOKEN (the action's input `github-token`) with the right to write",
        )
        .hint("or take the change as a file: CODEFORGE_DELIVERY=patch"));
    };
    // What the workflow words itself comes before what we would say.
    let own = plan.deliver.body.as_ref().map(|_| delivery.body.clone());
    let body = match (wanted, own) {
        (DeliverKind::Issue, own) => reports::issue_body(account, findings, facts, own.as_deref(), reports::BODY_CAP),
        (_, Some(own)) => own,
        (_, None) => reports::change_body(account, findings, facts, reports::BODY_CAP),
    };
    let body = text::redact(&body, &secrets);
    let last_word = (wanted == DeliverKind::Issue)
        .then(|| text::redact(&reports::last_word(account, findings, facts, reports::BODY_CAP), &secrets));
    let issue = last_word.as_deref().map(|last_word| outgoing::Keeping {
        open: findings.iter().filter(|it| it.standing != Standing::Resolved).count(),
        was_clean: known.seen.was_clean(),
        commit: facts.head.as_deref().unwrap_or_default(),
        last_word,
    });
    let sticky = || reports::sticky_comment(account, findings, facts, reports::BODY_CAP);
    let commented = words && wanted != DeliverKind::Issue;
    let comment = match (commented, &plan.deliver.body) {
        (true, None) => Some(sticky()),
        (true, Some(_)) => Some(delivery.body.clone()),
        (false, _) => None,
    };
    let comment = comment.map(|comment| text::redact(&comment, &secrets));
    let remembers = words && (known.event.change.is_some() || wanted == DeliverKind::Issue);
    let memory = remembers.then(|| known.seen.memory(account, findings, facts));
    // Words about a change are known again whatever was pushed meanwhile; a branch belongs to its trigger.
    let key = if words { plan.workflow.clone() } else { format!("{}/{}", plan.workflow, plan.key) };
    let signing = forge_of::signing(cx.world)?;
    let publication = outgoing::Publication {
        delivery,
        base: sending.base,
        event: known.event,
        findings,
        body: &body,
        comment: comment.as_deref(),
        memory: memory.as_deref(),
        issue,
        key: &key,
        draft: plan.deliver.draft,
        passed: sending.passed,
        asked: &plan.deliver.forge,
        signing: &signing,
        labels: &plan.deliver.labels,
        reviewers: &plan.deliver.reviewers,
        target: None,
        prefix: &ci.settings.branch_prefix,
        most_open: plan.deliver.most_open,
        secrets: &engine.secrets,
        hosts: &[],
    };
    let _voice = if commented { served::speak(ci, cx).await } else { None };
    let published = outgoing::publish(&**forge, Arc::clone(&engine.repository), &publication).await.map_err(failed)?;
    for line in &published.told {
        say(cx, line);
    }
    if let Some(url) = &published.url {
        say(cx, &format!("published: {url}"));
    }
    Ok(published)
}

/// The tree that the run's delivery was made of.
fn tree(rows: &[Row]) -> Option<TreeId> {
    rows.iter().rev().find_map(|row| match &row.body {
        RowBody::Intent(effect) => match &effect.work {
            Work::Deliver { tree } => Some(tree.clone()),
            _ => None,
        },
        RowBody::Input(_) => None,
    })
}

fn failed(error: outgoing::PublishError) -> CliError {
    use outgoing::PublishError as E;
    match error {
        E::Forge(error) => error.into(),
        E::Repository(error) => error.into(),
        E::Refused(why) => CliError::new(Ending::Denied, why),
        E::Misuse(why) => CliError::usage(why),
        E::Moved(why) => CliError::new(Ending::Failed, why),
    }
}
