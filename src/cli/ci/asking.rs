//! What only the forge can say: who may do what, and where a change's head is.

use super::settings::Settings;
use super::{Ci, say};
use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::forge as remote;
use crate::model::account::Ending;
use crate::model::ci::{CiJob, Home};
use crate::model::event::EventKind;
use crate::model::forge::{ForgeKind, Right};
use crate::model::plan::{DeliverKind, Plan};
use crate::port::checkout::Checkout;
use crate::port::forge::{ChangeState, Credential, Forge, ForgeAt};
use crate::trigger::{self, Start};
use crate::workflow::schema::Library;
use std::sync::Arc;

/// The forge that the job belongs to; `None`: there is none, or no token for it.
///
/// # Errors
/// An address that a token is not sent to.
pub fn forge(
    job: &CiJob,
    settings: &Settings,
    checkout: &dyn Checkout,
    cx: &Context<'_>,
) -> Result<Option<Arc<dyn Forge>>, CliError> {
    let lent = job.served.as_ref().is_some_and(|served| served.lends);
    let token = match &settings.token {
        _ if lent => Credential::Lent,
        Some(token) => token.clone().into(),
        None => return Ok(None),
    };
    let kind = match job.home {
        _ if job.served.is_some() => job.served.as_ref().map_or(ForgeKind::Github, |served| served.forge),
        Home::Github => job.forge.unwrap_or(ForgeKind::Github),
        Home::Gitlab => ForgeKind::Gitlab,
        Home::Container => {
            let Some(origin) = checkout.origin() else { return Ok(None) };
            let given = |name: &str| cx.world.env(name).filter(|value| !value.trim().is_empty());
            return match remote::forge_at(&origin, None, &given)? {
                Some(at) => Ok(Some(cx.world.forge(&at)?)),
                None => Ok(None),
            };
        }
    };
    let known = (job.api_url.clone(), job.event.repository.clone(), job.git_url.clone());
    let (Some(api), Some(repository), Some(url)) = known else { return Ok(None) };
    if !url.starts_with("https://") && !url.starts_with("http://") {
        return Ok(None);
    }
    let at = ForgeAt {
        kind,
        api,
        repository,
        token,
        git_url: format!("{}.git", url.trim_end_matches(".git")),
        marker_key: cx.world.env("CODEFORGE_MARKER_KEY").filter(|key| !key.is_empty()).map(Into::into),
    };
    Ok(Some(cx.world.forge(&at)?))
}

/// A comment's event does not say where the change's head is. Where the comment may start something, the forge is asked,
/// and who we are there with it.
///
/// # Errors
/// The forge cannot be asked.
pub(super) async fn resolve(
    job: &mut CiJob,
    own: &mut Option<String>,
    forge: Option<&Arc<dyn Forge>>,
    library: &Library,
    settings: &Settings,
    cx: &Context<'_>,
) -> Result<(), CliError> {
    if job.event.kind != EventKind::IssueComment {
        return Ok(());
    }
    let grammar = trigger::Grammar::of(library, &settings.phrase);
    let says = job.event.comment.as_ref().is_some_and(|it| !grammar.commands(&it.body).is_empty());
    let listens = library
        .workflows
        .values()
        .any(|workflow| !workflow.builtin && workflow.doc.on.as_ref().is_some_and(|on| on.issue_comment.is_some()));
    let Some(forge) = forge.filter(|_| says || listens) else { return Ok(()) };
    *own = forge.own_account().await?;
    let Some(number) = job.event.change.as_ref().filter(|it| it.head.sha.is_none()).map(|it| it.number) else {
        return Ok(());
    };
    let now = forge.change(number).await?;
    if now.state != ChangeState::Open {
        say(cx, &format!("note: change {number} is not open any more"));
    }
    job.gaps.clear();
    if let Some(change) = &mut job.event.change {
        // Its words stay as they were when the comment was written.
        (change.head, change.base, change.draft) = (now.change.head, now.change.base, now.change.draft);
        job.head = change.head.sha.clone();
        job.base = change.base.sha.clone();
        job.fork = change.is_fork();
    }
    Ok(())
}

/// Takes from the settings a token that is the job's own: it reads what the job may read anyway, and writes nothing.
pub(super) fn without_own(settings: &mut Settings, cx: &Context<'_>) {
    if settings.token.as_ref().is_some_and(|token| remote::is_of_job(token, cx.world)) {
        say(
            cx,
            "note: CODEFORGE_FORGE_TOKEN is the job's own CI_JOB_TOKEN, which writes nothing: it counts as not set",
        );
        settings.token = None;
    }
}

/// Whether the token that is here can hand over what a plan makes, as far as its kind says.
///
/// # Errors
/// It cannot; what to use instead.
pub(super) async fn able(ci: &Ci, plan: &Plan) -> Result<(), CliError> {
    let Some(forge) = &ci.forge else { return Ok(()) };
    let can = forge.capabilities();
    let lacks = match plan.deliver.kind {
        DeliverKind::PullRequest => !can.changes,
        DeliverKind::Comment | DeliverKind::Review => !can.comments,
        DeliverKind::Issue => !can.issues,
        // Of one that writes nothing else even that is to be asked.
        DeliverKind::Branch | DeliverKind::PushToBranch if !can.changes => {
            matches!(forge.token_rights().await?.push, Right::No(_))
        }
        _ => false,
    };
    if lacks && forge.kind() == ForgeKind::Gitlab { Err(of_a_job(plan)) } else { Ok(()) }
}

fn of_a_job(plan: &Plan) -> CliError {
    let error = CliError::usage(format!(
        "`{}` was not started: the only token here is a job's own (CI_JOB_TOKEN), which writes no merge requests, branches, \
         comments or issues",
        plan.workflow
    ));
    remote::OF_A_JOB.into_iter().fold(error, CliError::hint)
}

/// What is handed over through a forge is not begun where there is none to speak to.
fn reachable(ci: &Ci, plan: &Plan, cx: &Context<'_>) -> Result<(), CliError> {
    if ci.forge.is_some() || !plan.deliver.kind.is_of_a_forge() {
        return Ok(());
    }
    if ci.job.home == Home::Gitlab && cx.world.env("CI_JOB_TOKEN").is_some_and(|token| !token.is_empty()) {
        return Err(of_a_job(plan));
    }
    Err(CliError::usage(format!(
        "`{}` was not started: it hands over through the forge, and there is none to speak to",
        plan.workflow
    ))
    .hint("give the job a token in CODEFORGE_FORGE_TOKEN (the action's input `github-token`) with the right to write")
    .hint(match plan.deliver.kind {
        DeliverKind::Issue => "or take its text as a file: CODEFORGE_DELIVERY=report",
        _ => "or take the change as a file: CODEFORGE_DELIVERY=patch",
    }))
}

/// An issue is about the repository, not about a change.
fn not_of_a_change(ci: &Ci, plan: &Plan) -> Result<(), CliError> {
    let Some(change) = ci.job.event.change.as_ref().filter(|_| plan.deliver.kind == DeliverKind::Issue) else {
        return Ok(());
    };
    Err(CliError::usage(format!(
        "`{}` was not started: it keeps an issue about the repository, and this event is about change {}",
        plan.workflow, change.number
    ))
    .hint("deliver `comment` or `review` for changes"))
}

/// Whether what a run makes could be delivered at all, as far as that can be known before it costs anything: limits of
/// our changes, rules of branches. `here`: this job delivers, too, and knows how commits are signed.
///
/// # Errors
/// It could not.
pub(super) async fn room(ci: &Ci, plan: &Plan, here: bool, cx: &Context<'_>) -> Result<(), CliError> {
    const HOUR: u64 = 3600;
    if here && !ci.settings.dry_run {
        reachable(ci, plan, cx)?;
        able(ci, plan).await?;
        if plan.deliver.kind == DeliverKind::PushToBranch {
            remote::signing(cx.world)?;
        }
    }
    not_of_a_change(ci, plan)?;
    let own = matches!(plan.deliver.kind, DeliverKind::PullRequest | DeliverKind::Branch);
    let Some(forge) = ci.forge.as_ref().filter(|_| own) else { return Ok(()) };
    let refused = |why: String| CliError::new(Ending::Denied, format!("`{}` was not started: {why}", plan.workflow));
    let (most, per_hour) = (plan.deliver.most_open, plan.deliver.forge.most_per_hour);
    // A branch that is named by the trigger is known by it; any other only when it is there.
    let by_key = plan.deliver.branch.as_ref().is_none_or(|name| name.contains("{{ key }}")) && !plan.key.is_empty();
    if by_key && plan.deliver.kind == DeliverKind::PullRequest && (most.is_some() || per_hour.is_some()) {
        let prefix = &ci.settings.branch_prefix;
        let open = forge.open_branches(prefix).await?;
        let recent = if per_hour.is_some() { forge.opened_within(prefix, HOUR).await? } else { Vec::new() };
        let ours = open.iter().chain(&recent).find(|name| name.ends_with(&plan.key)).cloned().unwrap_or_default();
        if let Some(why) = crate::deliver::full(&ours, (&open, most), (&recent, per_hour)) {
            return Err(refused(why));
        }
    }
    if !here {
        return Ok(());
    }
    let signing = remote::signing(cx.world)?;
    // As deep as it will be: a star of a rule ends at a slash.
    let branch = match plan.deliver.branch.as_deref().filter(|name| !name.contains("{{")) {
        Some(name) => name.to_owned(),
        None => format!("{}{}/{}", ci.settings.branch_prefix, plan.workflow, plan.key),
    };
    // Who may not ask for rules hears of them when it pushes.
    for rule in forge.push_rules(&branch).await.unwrap_or_default() {
        if let (true, help) = remote::meets(&rule, &signing) {
            let error = refused(format!("a rule of the repository keeps its branch away: {}", rule.words));
            return Err(match help {
                Some(help) => error.hint(help),
                None => error,
            });
        }
    }
    Ok(())
}

/// Whether the change that a plan's delivery goes to is open: who closes it while the job waits is heard before anything is
/// spent.
///
/// # Errors
/// It is not.
pub(super) async fn open(ci: &Ci, plan: &Plan) -> Result<(), CliError> {
    let (Some(forge), Some(change)) = (&ci.forge, &ci.job.event.change) else { return Ok(()) };
    if !plan.deliver.kind.needs_an_open_change() || ci.settings.dry_run {
        return Ok(());
    }
    let state = forge.change(change.number).await?.state;
    if state == ChangeState::Open {
        return Ok(());
    }
    let what = format!("`{}` was not started: change {} is {}", plan.workflow, change.number, state.as_str());
    Err(CliError::new(Ending::Denied, what).hint("what it makes goes to an open change: reopen it, and start it anew"))
}

/// What of all that an event starts whoever brought it about may start. A command is an error where they may not; of what
/// starts by itself it is said in a line: strangers open issues, and that is no fault of the pipeline's.
///
/// # Errors
/// A command that somebody may not give; nobody can be asked.
pub(super) async fn allowed(ci: &Ci, starts: Vec<Start>, cx: &Context<'_>) -> Result<Vec<Start>, CliError> {
    let mut may = Vec::with_capacity(starts.len());
    for start in starts {
        match access(ci, &start).await {
            Ok(()) => may.push(start),
            Err(error) if start.command.is_none() && ci.forge.is_some() => {
                say(cx, &format!("not `{}`: {}", start.workflow, error.message));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(may)
}

/// Whether the person who gave the command, or whose event starts it, may. Anything but a clear yes is no.
///
/// # Errors
/// They may not, or nobody can be asked.
pub async fn access(ci: &Ci, start: &Start) -> Result<(), CliError> {
    let Some(needs) = &start.access else { return Ok(()) };
    // The server asked before it made the job. This process has nothing to ask with; the one that delivers asks again.
    if ci.job.served.as_ref().is_some_and(|served| served.asked.is_some()) {
        return Ok(());
    }
    let wanted = needs.access.wanted();
    let refused = |why: &str| {
        CliError::new(Ending::Denied, format!("`{}` may not start `{}`: {why}", needs.user, start.workflow))
    };
    let Some(forge) = &ci.forge else {
        return Err(refused("nobody can be asked what they may do here")
            .hint("give the job a token in CODEFORGE_FORGE_TOKEN (the action's input `github-token`)"));
    };
    if needs.user.is_empty() {
        return Err(refused("nobody says who they are"));
    }
    if forge.access_of(&needs.user).await.reaches(wanted) {
        return Ok(());
    }
    Err(refused(&format!(
        "that takes `{}` access, and the forge did not clearly say that they have it",
        needs.access.word()
    )))
}
