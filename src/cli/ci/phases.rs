//! The three phases as jobs of their own: `agent` ends in an artifact, `gate` judges its change without a key,
//! `deliver` writes and runs nothing.
//!
//! Each finds out by itself what is to happen: event, trusted configuration, trigger, plan. The artifact is a file that
//! anybody in between could have written.

use super::earlier::{self, Seen};
use super::one_step::{self, Sums, badness, planned};
use super::outputs::{Outputs, Reports};
use super::settings::{Phase, Settings};
use super::{Ci, Done, Told, asking, blocking, clean, commands, publish, say};
use crate::cli::error::CliError;
use crate::cli::forge::redacted;
use crate::cli::phases::{self as both, Order};
use crate::cli::{Context, artifacts, run as running};
use crate::engine::{Engine, Stop};
use crate::model::account::{Account, Ending};
use crate::model::artifact::{Taken, Word};
use crate::model::ci::{CiJob, Home};
use crate::model::delivery::Delivered;
use crate::model::event::Event;
use crate::model::exec::DriverKind;
use crate::model::finding::Finding;
use crate::model::id::TreeId;
use crate::model::journal::{GateResult, Verdict};
use crate::model::plan::{DeliverKind, Plan, StepKind};
use crate::port::repository::Repository;
use crate::port::world::Tape;
use crate::report::ci as reports;
use crate::text;
use crate::trigger::Start;
use std::path::PathBuf;
use std::sync::Arc;

/// Runs the phase that the settings name.
///
/// # Errors
/// What keeps it from running, or from writing: nothing was written then.
pub async fn run(ci: &Ci, told: &mut Told, cx: &Context<'_>, stop: Stop) -> Result<Done, CliError> {
    match ci.settings.phase {
        Phase::All => one_step::run(ci, told, cx, stop).await,
        Phase::Agent => agent(ci, told, cx, stop).await,
        Phase::Gate => gate(ci, told, cx, stop).await,
        Phase::Deliver => deliver(ci, told, cx).await,
    }
}

/// Where the artifact is.
fn file(ci: &Ci) -> PathBuf {
    file_of(&ci.settings, &ci.job, &ci.reports)
}

fn file_of(settings: &Settings, job: &CiJob, reports: &Reports) -> PathBuf {
    let usual = match (&job.temp, job.home) {
        (Some(temp), Home::Github) => temp.join("codeforge/artifact.json"),
        _ => reports.folder.join("artifact.json"),
    };
    settings.artifact.clone().unwrap_or(usual)
}

/// A comment's event does not say where its change's head is, and the gates' job has no token to ask with. What it judges
/// then is the artifact's change on the artifact's commit. Its word names that change, which names the trees before and
/// after; where the head is, and whose, finds out the job that delivers.
pub(super) fn take_head(settings: &Settings, job: &mut CiJob, reports: &Reports, cx: &Context<'_>) {
    let file = file_of(settings, job, reports);
    let Some(change) = job.event.change.as_mut().filter(|change| change.head.sha.is_none()) else { return };
    // What is wrong with it is said where it is judged.
    let taken = artifacts::read(&file).unwrap_or_default();
    let mut commits = taken.iter().map(|taken| &taken.part.commit);
    let Some(first) = commits.next().filter(|first| commits.all(|commit| commit == *first)) else { return };
    say(
        cx,
        &format!("the head of change {} is not known here: {first} is judged, which the artifact names", change.number),
    );
    change.head.sha = Some(first.clone());
    job.head = Some(first.clone());
    job.fork = false;
    job.gaps.clear();
}

/// Takes from a plan that its agents learn; whether they did.
pub(super) fn unlearn(plan: &mut Plan) -> bool {
    let mut any = false;
    for step in plan.steps.values_mut() {
        if let StepKind::Agent(spec) = &mut step.kind {
            any |= spec.experience.take().is_some();
        }
    }
    any
}

/// What of an event's workflows runs in phases: of a fork's change only what somebody asked for, by a command that names
/// the commit. Anybody can open a change.
pub(super) fn asked_for(ci: &Ci, starts: Vec<Start>, cx: &Context<'_>) -> Vec<Start> {
    let (kept, left): (Vec<Start>, Vec<Start>) =
        starts.into_iter().partition(|it| !ci.job.fork || ci.job.event.change.is_none() || it.command.is_some());
    for start in left {
        say(
            cx,
            &format!(
                "not `{}`: the change comes from a fork, and runs only for a command that names its commit: `{} NAME \
                 sha={}`",
                start.workflow,
                ci.settings.phrase,
                ci.job.head.as_deref().unwrap_or("THE-FULL-COMMIT-ID")
            ),
        );
    }
    kept
}

async fn agent(ci: &Ci, told: &mut Told, cx: &Context<'_>, stop: Stop) -> Result<Done, CliError> {
    let file = file(ci);
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|error| CliError::usage(format!("the artifact's folder {}: {error}", folder.display())))?;
    }
    artifacts::check(&file)?;
    if ci.settings.token.is_some() {
        say(cx, "note: CODEFORGE_FORGE_TOKEN is set; for this phase one that may read is enough");
    }
    let mut parts = Vec::new();
    let done = one_step::work(ci, told, cx, stop, Some(&mut parts)).await?;
    if ci.settings.dry_run {
        return Ok(done);
    }
    // Also where nothing matched: the jobs after this one find that there is nothing to do.
    artifacts::write(&file, parts, cx)?;
    told.outputs.set("artifact", file.display().to_string());
    Ok(done)
}

/// One run of the artifact, with the plan that was made here.
struct Match {
    taken: Taken,
    start: Start,
    plan: Plan,
    event: Event,
}

/// What the phases after the agent's have in common: what is to happen, and what the artifact brings for it.
///
/// # Errors
/// The artifact is not for this.
async fn matched(ci: &Ci, cx: &Context<'_>) -> Result<Option<(String, Vec<Match>)>, CliError> {
    let starts = asked_for(ci, ci.decide(cx).await?, cx);
    if starts.is_empty() {
        return Ok(None);
    }
    let taken = artifacts::read(&file(ci))?;
    if taken.is_empty() {
        return Ok(None);
    }
    let head = ci.head().await?;
    let mut matches = Vec::new();
    for taken in taken {
        let workflow = &taken.part.claims.workflow;
        let Some(start) = starts.iter().find(|start| start.workflow == *workflow) else {
            let names: Vec<&str> = starts.iter().map(|start| start.workflow.as_str()).collect();
            return Err(both::forged(&[format!(
                "its workflow is `{}`, and should be `{}`",
                workflow.escape_debug(),
                names.join("` or `")
            )]));
        };
        let (plan, event, _) = planned(ci, start, &head, both::without_models(), cx).await?;
        both::compare(&plan, &taken)?;
        matches.push(Match { taken, start: start.clone(), plan, event });
    }
    Ok(Some((head, matches)))
}

fn skipped(told: &mut Told, cx: &Context<'_>) -> Done {
    let why = "nothing here runs on this event";
    say(cx, &format!("skipped: {why}"));
    told.outputs.set("final-message", why);
    Done::Skipped
}

/// An engine on the commit that the job is about. It asks no model, and keeps no journal of its own.
async fn engine(ci: &Ci, head: &str, cx: &Context<'_>) -> Result<Engine, CliError> {
    let (checkout, at) = (Arc::clone(&ci.commits.checkout), head.to_owned());
    let repository: Arc<dyn Repository> = blocking(move || Ok(checkout.at(&at)?)).await?;
    running::engine(repository, &Tape::Off, cx).await
}

async fn gate(ci: &Ci, told: &mut Told, cx: &Context<'_>, stop: Stop) -> Result<Done, CliError> {
    let Some((head, matches)) = matched(ci, cx).await? else { return Ok(skipped(told, cx)) };
    let engine = engine(ci, &head, cx).await?;
    let mut words = Vec::new();
    let mut ending = Ending::Done;
    let mut summary = String::from("### Gates\n\n| workflow | gate | verdict | |\n|---|---|---|---|\n");
    let (mut final_message, mut warnings) = (Vec::new(), String::new());
    let secrets: Vec<&str> = engine.secrets.iter().map(String::as_str).collect();
    for Match { taken, plan, .. } in &matches {
        walled(ci, plan)?;
        let said = both::gates(plan, taken, &head, &engine, stop.clone()).await?;
        for note in &said.notes {
            say(cx, &format!("note: {note}"));
        }
        for result in &said.results {
            let verdict = match result.verdict {
                Verdict::Pass => "pass",
                Verdict::Fail => "fail",
                Verdict::Error => "error",
            };
            say(cx, &format!("gate `{}`: {verdict} ({})", result.gate, result.detail));
            if result.verdict != Verdict::Pass {
                for line in text::clean(&result.output).lines() {
                    say(cx, &format!("  {line}"));
                }
            }
            summary.push_str(&format!(
                "| {} | {} | {verdict} | {} |\n",
                plan.workflow,
                result.gate,
                reports::markdown::code(&result.detail, 100).replace('|', "\\|")
            ));
        }
        for line in &said.weakened {
            say(cx, &format!("WARNING: {line}"));
            warnings.push_str(&format!("- {}\n", reports::markdown::prose(line, 300)));
        }
        if !said.failed.is_empty() {
            let worse = if said.broken { Ending::Unavailable } else { Ending::Failed };
            if badness(worse) > badness(ending) {
                ending = worse;
            }
            final_message.push(format!("`{}`: gates did not pass: {}", plan.workflow, said.failed.join(", ")));
        }
        let account = gated(plan, taken, &head, &said.results);
        let junit = reports::junit(&account, reports::REPORT_CAP);
        let folder = if matches.len() > 1 { ci.reports.within(&plan.workflow) } else { ci.reports.clone() };
        folder.write("junit.xml", &text::redact(&junit, &secrets))?;
        words.push(said.word);
    }
    let line = Word::line(&words);
    // A person who delivers by hand needs it too.
    say(cx, &format!("gate word: {line}"));
    told.outputs.set("gate-word", line);
    let passed = if final_message.is_empty() { "all gates passed".to_owned() } else { final_message.join("; ") };
    told.outputs.set("final-message", clean(&passed));
    if !warnings.is_empty() {
        summary.push_str(&format!("\n**What a reader of the change is to look at**\n\n{warnings}"));
    }
    ci.reports.summary(&text::redact(&summary, &secrets))?;
    Ok(Done::Ended(ending))
}

async fn deliver(ci: &Ci, told: &mut Told, cx: &Context<'_>) -> Result<Done, CliError> {
    if !cx.world.models(&Tape::Off).is_empty() {
        say(cx, "note: a model's key is set; this phase asks none, and its job needs none");
    }
    let words = Word::read(ci.settings.gate_word.as_deref().unwrap_or_default()).map_err(CliError::usage)?;
    commands::answer(ci, cx).await?;
    let Some((head, matches)) = matched(ci, cx).await? else { return Ok(skipped(told, cx)) };
    for Match { start, plan, .. } in &matches {
        asking::access(ci, start).await?;
        refuse_fork(ci, plan)?;
        asking::able(ci, plan).await?;
    }
    let engine = engine(ci, &head, cx).await?;
    // Everything is checked before the first thing is written.
    for Match { taken, plan, .. } in &matches {
        both::ready(&order(ci, plan, taken, &words, &head), &engine).await?;
    }
    if matches.iter().any(|it| it.taken.patch.is_some()) {
        unmoved(ci, &head).await?;
    }
    let secrets: Vec<&str> = engine.secrets.iter().map(String::as_str).collect();
    let mut ending = Ending::Done;
    let mut sums = Sums::default();
    for Match { taken, plan, event, .. } in &matches {
        let order = order(ci, plan, taken, &words, &head);
        let mut outputs = Outputs::default();
        // What was there before is asked of the forge here, whatever the agent's job was told.
        let seen = match earlier::see(ci, plan, &head, cx).await {
            Ok(seen) => seen,
            Err(error) if plan.deliver.kind == DeliverKind::Issue => return Err(error),
            Err(error) => {
                say(cx, &format!("note: what of earlier findings is resolved cannot be told: {error}"));
                Seen::default()
            }
        };
        let found = one_step::marked(ci, &taken.part.findings, &head, &seen);
        let place = |old: &Finding| one_step::still_there(ci, old, &head, &seen);
        // Whether the agent's job could know what was found before, only that job can say.
        let of_issue = plan.deliver.kind == DeliverKind::Issue;
        let looked = Some(taken.part.ending).filter(|_| !of_issue || reports::reviewed(&taken.part.account));
        let found = seen.standing(found, (looked, false), plan.deliver.kind, &place);
        let found = redacted(found, &secrets);
        let facts = seen.facts(ci, plan, event, &head, &taken.part.account);
        let mut account = judged(plan, taken, &words, &head);
        let known = publish::Known { account: &account, event, findings: &found, facts: &facts, seen: &seen };
        // Where there is a forge a branch goes there: here it would go with the job.
        let here = match plan.deliver.kind {
            DeliverKind::None | DeliverKind::Patch | DeliverKind::CommitLocal => true,
            DeliverKind::Branch => ci.forge.is_none(),
            _ => false,
        };
        let done = if here {
            both::deliver(&order, &engine, cx).await?
        } else {
            to_forge(ci, &order, known, &engine, cx).await?
        };
        say(cx, done.render().trim_end());
        outputs.set("run-id", taken.part.run.as_str());
        outputs.set("branch-name", done.delivered.branch.clone().unwrap_or_default());
        let url = done.delivered.published.as_ref().and_then(|it| it.url.clone());
        outputs.set("pull-request-url", url.unwrap_or_default());
        if let Some(patch) = &done.delivered.patch {
            outputs.set("patch-file", patch.clone());
        }
        let said = taken.part.comment.clone().unwrap_or_else(|| taken.part.reason.clone());
        outputs.set("final-message", text::redact(&text::invisible(&text::clean(&said)), &secrets));
        told.outputs = outputs;
        sums.add(&taken.part.account);
        account.delivered = Some(done.delivered);
        let summary = reports::summary(&account, &found, &facts, reports::SUMMARY_CAP);
        ci.reports.summary(&text::redact(&summary, &secrets))?;
        let folder = if matches.len() > 1 { ci.reports.within(&plan.workflow) } else { ci.reports.clone() };
        one_step::machines(&account, &found, &facts, &folder, &secrets)?;
        // What the agent's job says of its run can only make this one worse.
        if badness(taken.part.ending) > badness(ending) {
            ending = taken.part.ending;
        }
    }
    sums.set(&mut told.outputs);
    Ok(Done::Ended(ending))
}

/// The gates of this job as an account of their own: what the agent's job said of steps is not told again.
fn gated(plan: &Plan, taken: &Taken, head: &str, results: &[GateResult]) -> Account {
    Account { steps: Vec::new(), final_gates: results.to_vec(), ..judged(plan, taken, &[], head) }
}

/// The artifact's account with what is known better here: whose run it was, and what the gates said.
fn judged(plan: &Plan, taken: &Taken, words: &[Word], head: &str) -> Account {
    let mut account = (*taken.part.account).clone();
    account.run = taken.part.run.clone();
    account.workflow.clone_from(&plan.workflow);
    account.policy.clone_from(&plan.policy.name);
    account.base = Some(head.to_owned());
    for step in &mut account.steps {
        step.gates.clear();
    }
    account.final_gates.clear();
    let said = words.iter().find(|word| word.patch == taken.hash());
    let gates = said.into_iter().flat_map(|word| &word.gates);
    account.final_gates = gates
        .map(|(gate, (verdict, gate_hash))| GateResult {
            gate: gate.clone(),
            gate_hash: gate_hash.clone(),
            tree: taken.patch.as_ref().map(|patch| patch.tree.clone()).unwrap_or_else(|| TreeId(String::new())),
            verdict: *verdict,
            detail: "in a job of its own".to_owned(),
            output: String::new(),
            duration_ms: 0,
        })
        .collect();
    account
}

fn order<'a>(ci: &'a Ci, plan: &'a Plan, taken: &'a Taken, words: &'a [Word], head: &'a str) -> Order<'a> {
    Order { plan, taken, words, commit: head, prefix: Some(&ci.settings.branch_prefix) }
}

/// Of a fork's change only what stays here, or words, may come.
pub(super) fn refuse_fork(ci: &Ci, plan: &Plan) -> Result<(), CliError> {
    use DeliverKind::{Branch, CommitLocal, PullRequest, PushToBranch};
    let writes = matches!(plan.deliver.kind, Branch | CommitLocal | PullRequest | PushToBranch);
    if !ci.job.fork || ci.job.event.change.is_none() || !writes {
        return Ok(());
    }
    Err(CliError::new(
        Ending::Denied,
        format!(
            "nothing was written: the change comes from a fork, and `{}` would write to this repository",
            plan.workflow
        ),
    )
    .hint("for forks, deliver a comment, a review or a patch"))
}

/// A fork's code runs in a sandbox or not at all: beside this process it could read what that holds, and on a server what
/// the server holds.
pub(super) fn walled(ci: &Ci, plan: &Plan) -> Result<(), CliError> {
    if !ci.job.fork || ci.job.event.change.is_none() || plan.sandbox.driver != DriverKind::None {
        return Ok(());
    }
    Err(CliError::new(
        Ending::Denied,
        format!(
            "`{}` was not started: the change comes from a fork, and its code would run without a sandbox",
            plan.workflow
        ),
    )
    .hint("take a sandbox: `sandbox: { driver: native }` (or docker) in .codeforge/config.yml, or CODEFORGE_SANDBOX"))
}

/// The change's head must still be the commit that was worked on and judged.
pub(super) async fn unmoved(ci: &Ci, head: &str) -> Result<(), CliError> {
    let Some(change) = &ci.job.event.change else { return Ok(()) };
    let branch = Some(&change.head.branch).filter(|branch| !ci.job.fork && !branch.is_empty());
    let at = branch.map(|branch| format!("refs/heads/{branch}")).or_else(|| ci.job.head_ref.clone());
    let Some(at) = at else {
        return Err(CliError::new(
            Ending::Unavailable,
            format!("nothing was written: nobody says where the head of change {} is now", change.number),
        ));
    };
    let now = ci.commits.now(&at).await?;
    if now.as_deref() == Some(head) {
        return Ok(());
    }
    let short = |commit: &str| commit.chars().take(10).collect::<String>();
    let where_now = now.map_or_else(|| "gone".to_owned(), |now| format!("at {}", short(&now)));
    Err(CliError::new(
        Ending::Denied,
        clean(&format!(
            "cancelled, nothing was written: the head of change {} is {where_now}, and this was made and judged at {}",
            change.number,
            short(head)
        )),
    )
    .hint("the newer push has a run of its own"))
}

/// Publishes where a forge is needed.
async fn to_forge(
    ci: &Ci,
    order: &Order<'_>,
    known: publish::Known<'_>,
    engine: &Engine,
    cx: &Context<'_>,
) -> Result<both::Done, CliError> {
    let plan = order.plan;
    let ready = both::ready(order, engine).await?;
    for line in &ready.told {
        say(cx, &format!("WARNING: {line}"));
    }
    let kind = plan.deliver.kind;
    let Some(delivery) = ready.delivery else { return Ok(both::Done::nothing(kind, Vec::new())) };
    let changed = delivery.base != delivery.tree || kind.speaks();
    let passed = order.passed();
    let sending = publish::Sending { plan, delivery: &delivery, base: &ready.base, known, passed };
    let published = publish::send(ci, &sending, engine, cx).await?;
    let (branch, commit, changes) = (published.branch.clone(), published.commit.clone(), ready.changes);
    let published = Some(Box::new(published));
    Ok(both::Done {
        delivered: Delivered { kind, patch: None, commit, branch, changes, changed, published },
        told: Vec::new(),
    })
}
