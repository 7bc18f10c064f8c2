//! What comes of a delivery: jobs, ends of jobs, and answers.

use super::commands::{Desk, is_fork};
use super::failed::{Failed, Kind};
use super::parts::{Parts, Place, Trusted, one_line};
use super::room::Room;
use crate::engine::publish;
use crate::model::diagnostic::Severity;
use crate::model::event::{Event, EventKind};
use crate::model::forge::ForgeKind;
use crate::model::id::short_hash;
use crate::model::job::{Delivery, JobState, NewJob, OnConflict, Priority};
use crate::model::plan::DeliverKind;
use crate::model::serve::{Repository, Serve};
use crate::plan;
use crate::port::checkout::Want;
use crate::port::ci::PayloadError;
use crate::port::forge::{ChangeState, CommentAt, ForgeError};
use crate::port::inbox::Handled;
use crate::port::queue::Which;
use crate::template;
use crate::trigger::{self, Decision, Facts, Start};
use crate::workflow::schema::docs::DeliverChoice;
use crate::workflow::schema::docs::OnConflict as Rule;
use crate::workflow::schema::{Library, WorkflowDoc};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The longest difference that is looked through for changed paths, in bytes.
const DIFFERENCE: usize = 32 * 1024 * 1024;
/// How long work waits for a configuration that has errors, in milliseconds.
const HELD_MS: i64 = 24 * 60 * 60 * 1000;
/// The longest name of a concurrency group, in bytes.
const GROUP: usize = 200;

/// What was decided, and what is to be done once that is on the disk.
#[derive(Default)]
pub(super) struct Decided {
    /// What is written down.
    pub(super) what: Handled,
    /// Comments whose commands were heard: by their note's name, what they said.
    pub(super) heard: Vec<(String, String)>,
    /// Comments that are to be acknowledged.
    pub(super) seen: Vec<CommentAt>,
    /// The repository.
    pub(super) place: Option<Arc<Place>>,
}

/// Decides about a delivery. An error is of the kind that passes.
pub(super) async fn decide(parts: &Parts<'_>, number: i64, mut delivery: Delivery) -> Result<Decided, Failed> {
    let nothing = |note: String| Decided { what: Handled { note, ..Handled::default() }, ..Decided::default() };
    let payloads = match parts.world.webhook(&delivery.source, &delivery.event, &delivery.body) {
        Ok(payloads) => payloads,
        // What cannot be understood now is not understood later.
        Err(why @ (PayloadError::Unknown(_) | PayloadError::Broken(_))) => return Ok(nothing(why.to_string())),
    };
    // The forge may let us wait: the body need not.
    delivery.body = Vec::new();
    let mut decided = Decided::default();
    let mut notes = Vec::new();
    for payload in payloads {
        let mut event = payload.event;
        let name = delivery.repository.as_deref().or(event.repository.as_deref());
        let served = name.and_then(|name| Some(served(&(parts.settings)(), &delivery, name)?.served()));
        let Some(served) = served else {
            let name = event.repository.as_deref().unwrap_or("a repository that nobody names");
            notes.push(format!("{name} is not served"));
            continue;
        };
        event.repository = Some(served.name.clone());
        let place = parts.place(&served).await?;
        notes.extend(about(parts, &place, event, (number, &delivery), &mut decided).await?);
        decided.place = Some(place);
    }
    notes.dedup();
    if notes.is_empty() {
        notes.push("nothing runs on it".to_owned());
    }
    decided.what.note = one_line(&notes.join("; "));
    Ok(decided)
}

/// The repository of this name that a delivery is about.
pub(super) fn served<'s>(serve: &'s Serve, delivery: &Delivery, name: &str) -> Option<&'s Repository> {
    let forge = ForgeKind::named(&delivery.source);
    let mut named = serve.repositories.iter().filter(|it| it.name.eq_ignore_ascii_case(name));
    named.find(|it| {
        let there = delivery.host.as_ref().is_none_or(|host| it.host() == *host);
        there && forge.is_none_or(|forge| it.forge == forge)
    })
}

/// Decides about one event of a repository; gives what was decided, in sentences.
async fn about(
    parts: &Parts<'_>,
    place: &Place,
    mut event: Event,
    (number, delivery): (i64, &Delivery),
    decided: &mut Decided,
) -> Result<Vec<String>, Failed> {
    let mut notes = Vec::new();
    let moved = event.kind == EventKind::Push;
    let trusted = parts.trusted(place, moved).await?;
    let library = &*trusted.library;
    let broken = broken(&trusted);
    if let Some(why) = broken.as_deref().filter(|_| parts.holds(number)) {
        return waits(parts, why, delivery);
    }
    let ours = parts.ours(place, library).await?;
    let room = Room::new(parts, place, library, &ours).await?;
    let desk = Desk { broken: broken.as_deref(), ..room.desk() };
    let mut says = false;
    // Why nothing can be handed over to the change.
    let mut over = None;
    if event.kind == EventKind::IssueComment {
        says = heard(&event, library, &room);
        let listens = library
            .workflows
            .values()
            .any(|workflow| !workflow.builtin && workflow.doc.on.as_ref().is_some_and(|on| on.issue_comment.is_some()));
        if !says && !listens && broken.is_none() {
            return Ok(vec!["a comment without a command".to_owned()]);
        }
        if says && let Some(comment) = &event.comment {
            let name = format!("heard/{}/{}/{}", place.served.host, place.served.name, comment.known_by());
            let value = short_hash(comment.body.as_bytes(), 16);
            if parts.queue.note(&name).await?.as_deref() == Some(&value) {
                return Ok(vec!["the comment was heard before".to_owned()]);
            }
            decided.heard.push((name, value));
        }
        if let Some(change) = &mut event.change {
            let number = change.number;
            let now = match place.forge.change(number).await {
                Ok(now) => now,
                Err(ForgeError::NotFound { .. }) => return Ok(vec![format!("change {number} is gone")]),
                Err(error) => return Err(error.into()),
            };
            // A comment's event may not say where the change's head is, or where it was: what it is now is what a command is
            // about.
            if says || change.head.sha.is_none() {
                (change.head, change.base, change.draft) = (now.change.head, now.change.base, now.change.draft);
                if change.labels.is_empty() {
                    change.labels = now.change.labels;
                }
            }
            if now.state != ChangeState::Open {
                notes.push(format!("change {number} is not open any more"));
                over = Some(format!("change {number} is {}", now.state.as_str()));
            }
        }
    }
    if event.kind == EventKind::PullRequest
        && let Some(stale) = stale(place, &event, &ours, decided, &mut notes, &desk).await?
    {
        notes.push(stale);
        return Ok(notes);
    }
    if let Some(why) = &broken {
        if says {
            let answered = desk.comment(&event).await?;
            notes.extend(answered.notes);
            decided.seen.extend(answered.heard);
            decided.what.jobs.extend(answered.jobs);
            notes.push(format!("nothing else comes of it: {why}"));
            return Ok(notes);
        }
        // What it ends, ends now; what it starts waits.
        end(parts, decided).await?;
        parts.hold(number);
        return waits(parts, why, delivery);
    }
    // What names no commit, an issue or a hook, is about the trusted branch as it is now.
    let names_commit = event.change.is_some() || event.push.is_some();
    if event.sha.is_none() && !names_commit {
        event.sha = Some(trusted.commit.clone());
    }
    let fork = is_fork(&event);
    let mut changed: Option<Vec<String>> = None;
    let decisions = loop {
        let facts = Facts {
            phrase: desk.phrase,
            allow_users: desk.allow_users,
            ours: &ours,
            changed: changed.as_deref(),
            fork,
            now_ms: parts.now_ms(),
        };
        let decisions = trigger::decide(library, &event, &facts);
        if changed.is_some() || !decisions.iter().any(|(_, it)| *it == Decision::NeedsChangedPaths) {
            break decisions;
        }
        changed = Some(changed_paths(parts, place, &trusted, &event).await?);
    };
    if event.kind == EventKind::IssueComment {
        let answered = desk.comment(&event).await?;
        notes.extend(answered.notes);
        decided.seen.extend(answered.heard);
        decided.what.jobs.extend(answered.jobs);
    }
    for (name, decision) in decisions {
        let start = match decision {
            Decision::Run(start) => *start,
            Decision::Skip(why) | Decision::Refuse(why) => {
                let shipped = library.workflows.get(&name).is_some_and(|workflow| workflow.builtin);
                if !shipped {
                    notes.push(format!("not `{name}`: {why}"));
                }
                continue;
            }
            Decision::NeedsChangedPaths => continue,
        };
        if fork && start.command.is_none() && event.change.is_some() {
            notes.push(format!(
                "not `{name}`: the change comes from a fork, and runs only for a command that names its commit"
            ));
            continue;
        }
        if let Some(needs) = &start.access
            && !desk.reaches(&needs.user, needs.access.wanted(), fork).await
        {
            notes.push(format!(
                "not `{name}`: that takes `{}` access, and the forge did not clearly say that `{}` has it",
                needs.access.word(),
                needs.user
            ));
            continue;
        }
        let Some(workflow) = library.workflows.get(&name) else { continue };
        let kind = workflow.doc.deliver.as_ref().and_then(DeliverChoice::kind);
        if let Some(over) = over.as_ref().filter(|_| kind.is_some_and(DeliverKind::needs_an_open_change)) {
            let why = format!("{over}, and what this makes goes to an open one; reopen it, and give the command anew");
            desk.cannot(&event, &start, &why).await?;
            notes.push(format!("not `{name}`: {over}"));
            continue;
        }
        let made = job(parts, place, &event, &start, &workflow.doc, &delivery.id);
        match desk.price(made).await? {
            Ok(job) => {
                notes.push(format!(
                    "`{name}`{}",
                    if job.approval.is_some() { " waits for a yes to its price" } else { "" }
                ));
                decided.what.jobs.push(job);
            }
            Err(why) => {
                desk.cannot(&event, &start, &why).await?;
                notes.push(format!("not `{name}`: {why}"));
            }
        }
    }
    Ok(notes)
}

/// Why nothing runs under a configuration: its first error, with its place.
fn broken(trusted: &Trusted) -> Option<String> {
    let problem = trusted.library.diagnostics.iter().find(|it| it.severity == Severity::Error)?;
    let place = &problem.place;
    Some(format!(
        "the configuration of branch `{}` has errors ({}:{}:{}: {})",
        trusted.branch, place.file, place.line, place.column, problem.message
    ))
}

/// The work of a delivery waits until the configuration is mended, and not for ever.
fn waits(parts: &Parts<'_>, why: &str, delivery: &Delivery) -> Result<Vec<String>, Failed> {
    if parts.now_ms() - delivery.at_ms > HELD_MS {
        return Ok(vec![format!("nothing runs: {why}, and they were not mended within a day")]);
    }
    Err(Failed { kind: Kind::Broken, words: format!("{why}; `codeforge validate` shows them all") })
}

/// Does at once what is decided so far, before the delivery is put off.
async fn end(parts: &Parts<'_>, decided: &mut Decided) -> Result<(), Failed> {
    let now = parts.now_ms();
    for (which, why) in std::mem::take(&mut decided.what.cancel) {
        parts.queue.cancel(&which, &why, now).await?;
    }
    for job in std::mem::take(&mut decided.what.jobs) {
        parts.queue.add(&job, now).await?;
    }
    parts.showing.look();
    Ok(())
}

/// Whether a comment gives a command.
fn heard(event: &Event, library: &Library, room: &Room<'_>) -> bool {
    let facts = Facts {
        phrase: &room.serve.commands.phrase,
        allow_users: &room.serve.commands.allow_users,
        ours: room.ours,
        changed: None,
        fork: is_fork(event),
        now_ms: room.parts.now_ms(),
    };
    trigger::commands_of(library, event, &facts).is_ok_and(|given| !given.is_empty())
}

/// What a change's own event ends: jobs of a head or a base that it has no more. What is true now is asked of the forge,
/// because events come late and in any order. `Some`: why nothing starts on the event.
async fn stale(
    place: &Place,
    event: &Event,
    ours: &[String],
    decided: &mut Decided,
    notes: &mut Vec<String>,
    desk: &Desk<'_>,
) -> Result<Option<String>, Failed> {
    let Some(change) = &event.change else { return Ok(None) };
    let now = match place.forge.change(change.number).await {
        Ok(now) => now,
        Err(ForgeError::NotFound { .. }) => return Ok(Some(format!("change {} is gone", change.number))),
        Err(error) => return Err(error.into()),
    };
    let of = || Which { repository: Some(place.served.clone()), change: Some(change.number), ..Which::default() };
    let by = event.actor.as_deref().unwrap_or("somebody");
    if now.state != ChangeState::Open {
        let word = now.state.as_str();
        let closing = matches!(event.action.as_deref(), Some("closed" | "merged" | "close" | "merge"));
        let who = if closing { format!(" by {by}") } else { String::new() };
        decided.what.cancel.push((of(), format!("change {} was {word}{who}", change.number)));
        return Ok((!closing).then(|| format!("change {} is {word}", change.number)));
    }
    let head = now.change.head.sha.clone();
    // What we push ourselves is the work of a job that is just ending.
    let mut own = event.actor.as_deref().is_some_and(|actor| ours.iter().any(|name| name.eq_ignore_ascii_case(actor)));
    if let Some(head) = head.as_deref().filter(|_| !own) {
        // Others may be heard of before that job has come to its end: somebody sets a label, the sweep sees a new head.
        own = at_work(desk, Which { not_head: Some(head.to_owned()), ..of() }).await? && is_ours(place, head).await?;
    }
    if let Some(head) = head.clone().filter(|_| !own) {
        let answered = desk.pushed(&Event { change: Some(now.change.clone()), ..event.clone() }).await?;
        notes.extend(answered.notes);
        decided.what.jobs.extend(answered.jobs);
        let short: String = head.chars().take(10).collect();
        let why =
            format!("change {} was pushed to: its head is {short} now, and this was for another commit", change.number);
        decided.what.cancel.push((Which { not_head: Some(head), ..of() }, why));
    }
    let base = now.change.base.branch.clone();
    if !base.is_empty() {
        let why = format!("change {} goes to `{base}` now, and this was for another branch", change.number);
        decided.what.cancel.push((Which { not_base: Some(base), ..of() }, why));
    }
    let moved = matches!((&head, &change.head.sha), (Some(now), Some(then)) if now != then);
    Ok(moved.then(|| format!("change {} has moved on since; the newer push has an event of its own", change.number)))
}

/// Whether any of these jobs was begun and is not over.
async fn at_work(desk: &Desk<'_>, which: Which) -> Result<bool, Failed> {
    let found = desk.queue.jobs(&Which { states: vec![JobState::Waiting, JobState::Running], ..which }).await?;
    Ok(found.iter().any(|job| job.attempts > 0))
}

/// Whether a commit says that it is of ours. Who writes that into a commit of theirs keeps a job of an older head from
/// being ended early; it hands nothing over all the same, because the head is looked at again before that.
async fn is_ours(place: &Place, commit: &str) -> Result<bool, Failed> {
    match place.forge.commit(commit).await {
        Ok(commit) => Ok(publish::of_key(&commit.message).is_some()),
        Err(ForgeError::NotFound { .. } | ForgeError::Contract { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The files that an event's change or push touches.
async fn changed_paths(
    parts: &Parts<'_>,
    place: &Place,
    trusted: &Trusted,
    event: &Event,
) -> Result<Vec<String>, Failed> {
    if let Some(change) = &event.change {
        let files = place.forge.changed_files(change.number).await?;
        return Ok(files.into_iter().flat_map(|file| file.from.into_iter().chain([file.path])).collect());
    }
    let Some(push) = &event.push else { return Ok(Vec::new()) };
    let Some(after) = &push.after else { return Ok(Vec::new()) };
    let want = |what: &str, keep_as: &str| Want { what: what.to_owned(), keep_as: keep_as.to_owned() };
    let mut wants = vec![want(after, "after")];
    wants.extend(push.before.as_deref().map(|before| want(before, "before")));
    let missing: Vec<Want> = wants.into_iter().filter(|it| !trusted.clone.has(&it.what)).collect();
    if !missing.is_empty()
        && let Err(error) = parts.fetch(place, &trusted.clone, missing).await
    {
        return Err(Failed::from(error).about("the commits of the push"));
    }
    let (clone, from, to) = (Arc::clone(&trusted.clone), push.before.clone().unwrap_or_default(), after.clone());
    let found = tokio::task::spawn_blocking(move || clone.change(&from, &to, DIFFERENCE)).await;
    let found = found.map_err(|error| format!("an internal error: {error}"))?.map_err(|error| error.to_string())?;
    Ok(found.files.into_iter().flat_map(|file| file.from.into_iter().chain([file.path])).collect())
}

/// A workflow that is to run, as a job.
fn job(parts: &Parts<'_>, place: &Place, event: &Event, start: &Start, doc: &WorkflowDoc, delivery: &str) -> NewJob {
    let event = Event { command: start.given.clone(), ..event.clone() };
    let (group, on_conflict) = group(doc, &event, &start.inputs);
    NewJob {
        repository: place.served.clone(),
        workflow: start.workflow.clone(),
        key: trigger::key(&event, &start.workflow, Some(delivery)),
        actor: event.actor.clone(),
        group,
        on_conflict,
        priority: match event.kind {
            _ if start.command.is_some() => Priority::Command,
            EventKind::PullRequest | EventKind::MergeGroup => Priority::Change,
            EventKind::Schedule => Priority::Schedule,
            _ => Priority::Event,
        },
        due_ms: parts.now_ms(),
        settings: start.settings.clone(),
        approval: None,
        event,
    }
}

/// A workflow's concurrency group for an event, and its rule. One that renders to nothing is a group of its own.
pub(super) fn group(
    doc: &WorkflowDoc,
    event: &Event,
    inputs: &BTreeMap<String, String>,
) -> (Option<String>, OnConflict) {
    let Some(rule) = &doc.concurrency else { return (None, OnConflict::Queue) };
    let context = serde_json::json!({ "event": plan::shaped(&event.value()), "inputs": inputs });
    let text = template::render("concurrency.group", &rule.group.0, &context).unwrap_or_default();
    let text = one_line(&text);
    let named = !matches!(text.to_ascii_lowercase().as_str(), "" | "none" | "null");
    let group = named.then(|| if text.len() > GROUP { short_hash(text.as_bytes(), 40) } else { text });
    let on_conflict = match rule.on_conflict {
        Rule::Queue => OnConflict::Queue,
        Rule::Cancel => OnConflict::Cancel,
        Rule::Skip => OnConflict::Skip,
    };
    (group, on_conflict)
}
