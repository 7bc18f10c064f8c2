//! What no webhook told: now and then the forge is asked what changed since the last time. What is found goes the way of
//! a delivery, and makes the same keys: what a webhook told as well is not done twice.

use super::commands::of_thread;
use super::lanes::each;
use super::parts::{Parts, Place};
use crate::model::event::{Change, Comment, Event, EventKind, Issue, Push};
use crate::model::id::short_hash;
use crate::model::job::{Delivery, JobState, Served};
use crate::model::serve::Repository;
use crate::port::forge::{ChangeState, CommentInfo, ForgeError, Happening, Thread};
use crate::port::inbox::Accepted;
use crate::port::queue::Which;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Clocks of forges are not ours: so much is looked at twice, in milliseconds.
const OVERLAP_MS: i64 = 2 * 60 * 1000;

/// Jobs that are looked through for one that a label made.
const JOBS: u32 = 200;

/// How often is looked whether there is something to ask, where nobody wants it.
const LOOK: Duration = Duration::from_secs(60);

/// The loop, until `stop`.
pub async fn run(parts: &Parts<'_>, stop: &CancellationToken) {
    let away: Mutex<BTreeSet<Served>> = Mutex::default();
    let every = || (parts.settings)().sweep_ms.map(Duration::from_millis);
    let swept = async |served: Served| {
        if every().is_none() {
            return;
        }
        let found = async { one(parts, &*parts.place(&served).await?).await }.await;
        let gone = found.is_err();
        match found {
            Ok(0) => {}
            Ok(found) => parts.say(&format!("sweep of {}: {found} events that no webhook told", served.name)),
            Err(why) => parts.say(&format!("sweep of {}: {why}", served.name)),
        }
        let all: Vec<Served> = (parts.settings)().repositories.iter().map(Repository::served).collect();
        let mut away = away.lock().unwrap_or_else(PoisonError::into_inner);
        away.retain(|it| *it != served && all.contains(it));
        if gone {
            away.insert(served);
        }
        let words = format!("{} of {} repositories answered", all.len().saturating_sub(away.len()), all.len());
        parts.health.report("forge", away.is_empty(), words);
    };
    each(parts, stop, || every().unwrap_or(LOOK), swept).await;
}

/// Asks one forge; how many deliveries came of it.
async fn one(parts: &Parts<'_>, place: &Place) -> Result<usize, String> {
    let Served { forge, host, name } = &place.served;
    let note = format!("swept/{forge:?}/{host}/{name}");
    let begun = parts.now_ms();
    let last = parts.queue.note(&note).await.map_err(|error| error.to_string())?;
    let Some(last) = last.and_then(|text| text.parse::<i64>().ok()) else {
        // What was before the server is nobody's. The branch is where it is.
        tip(parts, place).await?;
        return parts.queue.keep_note(&note, &begun.to_string()).await.map(|()| 0).map_err(|error| error.to_string());
    };
    let since = last.saturating_sub(OVERLAP_MS);
    let mut found = 0;
    for info in unless_unsupported(place.forge.changes_since(since).await)? {
        let head = info.change.head.sha.clone().unwrap_or_default();
        // What was a draft when it was seen last is something new once it is none.
        let draft = if info.change.draft { "/draft" } else { "" };
        let id = format!("change/{}@{head}{draft}", info.change.number);
        let event = Event {
            kind: EventKind::PullRequest,
            actor: info.change.author.clone(),
            repository: Some(name.clone()),
            sha: info.change.head.sha.clone(),
            at_ms: info.updated_ms,
            change: Some(info.change),
            ..Event::default()
        };
        found += offer(parts, place, &id, event).await?;
    }
    for (thread, comment) in unless_unsupported(place.forge.comments_since(since).await)? {
        // What an edited comment said before, nobody says here: none of its commands would count.
        if !comment.edited() {
            let event = said(name, thread, comment);
            let id = event.comment.as_ref().map(Comment::known_by).unwrap_or_default();
            found += offer(parts, place, &format!("comment/{id}"), event).await?;
        }
    }
    let mut happened_since = match place.forge.happened_since(since).await {
        // A token that may not read issues is no reason to find nothing else.
        Err(error @ (ForgeError::Refused { .. } | ForgeError::NotFound { .. } | ForgeError::Contract { .. })) => {
            parts.say(&format!("sweep of {name}: issues and labels are not looked at: {error}"));
            Vec::new()
        }
        asked => unless_unsupported(asked)?,
    };
    happened_since.sort_by_key(|it| it.at_ms);
    for happening in happened_since {
        let id = format!("event/{}", happening.id);
        if !is_known(parts, place, &happening).await?
            && let Some(event) = happened(place, happening).await?
        {
            found += offer(parts, place, &id, event).await?;
        }
    }
    found += stands(parts, place).await?;
    found += tip(parts, place).await?;
    parts.queue.keep_note(&note, &begun.to_string()).await.map_err(|error| error.to_string())?;
    if found > 0 {
        parts.wake.notify_waiters();
    }
    Ok(found)
}

/// A forge that cannot say has told nothing.
fn unless_unsupported<T>(asked: Result<Vec<T>, ForgeError>) -> Result<Vec<T>, String> {
    match asked {
        Err(ForgeError::Unsupported(_)) => Ok(Vec::new()),
        asked => asked.map_err(|error| error.to_string()),
    }
}

/// Whether a webhook told of a label and a job came of it: a change may have another head by now, and that is no other
/// event.
async fn is_known(parts: &Parts<'_>, place: &Place, it: &Happening) -> Result<bool, String> {
    if it.label.is_none() {
        return Ok(false);
    }
    let which = Which { most: JOBS, ..of_thread(&place.served, it.thread) };
    let jobs = parts.queue.jobs(&which).await.map_err(|error| error.to_string())?;
    let since = it.at_ms.unwrap_or_default().saturating_sub(OVERLAP_MS);
    Ok(jobs.iter().filter(|job| job.created_ms >= since).any(|job| {
        let event = &job.new.event;
        event.action.as_deref() == Some(it.action.as_str()) && event.label == it.label
    }))
}

/// What happened to an issue or a change, as an event; `None`: what it happened to is gone.
async fn happened(place: &Place, it: Happening) -> Result<Option<Event>, String> {
    let mut event = Event {
        kind: EventKind::Issues,
        action: Some(it.action),
        actor: it.by,
        actor_is_bot: it.by_program,
        repository: Some(place.served.name.clone()),
        at_ms: it.at_ms,
        label: it.label,
        issue: it.issue,
        ..Event::default()
    };
    if let Thread::Change(number) = it.thread {
        let now = match place.forge.change(number).await {
            Ok(now) => now,
            Err(ForgeError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        event.kind = EventKind::PullRequest;
        event.sha.clone_from(&now.change.head.sha);
        event.change = Some(now.change);
    }
    Ok(Some(event))
}

/// Changes that jobs are about and that stand otherwise than these jobs know: closed, retargeted, pushed to, put back to
/// an older head. What is seen for the first time is told, so that such jobs end.
async fn stands(parts: &Parts<'_>, place: &Place) -> Result<usize, String> {
    let open = vec![JobState::Asked, JobState::Waiting, JobState::Running];
    let which = Which { repository: Some(place.served.clone()), states: open, ..Which::default() };
    let jobs = parts.queue.jobs(&which).await.map_err(|error| error.to_string())?;
    let mut changes: BTreeMap<u64, Vec<&Change>> = BTreeMap::new();
    for change in jobs.iter().filter_map(|job| job.new.event.change.as_ref()) {
        changes.entry(change.number).or_default().push(change);
    }
    let mut found = 0;
    for (number, known) in changes {
        let now = match place.forge.change(number).await {
            Ok(now) => now,
            Err(ForgeError::NotFound { .. }) => continue,
            Err(error) => return Err(error.to_string()),
        };
        let same = |it: &&Change| it.head.sha == now.change.head.sha && it.base.branch == now.change.base.branch;
        if now.state == ChangeState::Open && known.iter().all(same) {
            continue;
        }
        let action = (now.state != ChangeState::Open).then(|| now.state.as_str());
        // Each state once, whatever jobs there are for it; the same one later is another time.
        let id = format!("stands/{number}/{}", now.updated_ms.unwrap_or_default());
        let event = Event {
            kind: EventKind::PullRequest,
            action: action.map(str::to_owned),
            repository: Some(place.served.name.clone()),
            sha: now.change.head.sha.clone(),
            change: Some(now.change),
            ..Event::default()
        };
        found += offer(parts, place, &id, event).await?;
    }
    Ok(found)
}

fn said(repository: &str, thread: Thread, comment: CommentInfo) -> Event {
    let (change, issue) = match thread {
        Thread::Change(number) => (Some(Change { number, ..Change::default() }), None),
        Thread::Issue(number) => (None, Some(Issue { number, ..Issue::default() })),
    };
    Event {
        kind: EventKind::IssueComment,
        action: Some("created".to_owned()),
        actor_is_bot: comment.author.as_deref().is_some_and(|author| author.ends_with("[bot]")),
        actor: comment.author.clone(),
        repository: Some(repository.to_owned()),
        comment: Some(Comment {
            id: comment.id,
            kind: comment.kind,
            body: comment.body,
            before: None,
            author: comment.author,
            url: comment.url,
        }),
        change,
        issue,
        ..Event::default()
    }
}

/// The trusted branch, where it is somewhere else than the last time.
async fn tip(parts: &Parts<'_>, place: &Place) -> Result<usize, String> {
    let Served { forge, host, name } = &place.served;
    let note = format!("tip/{forge:?}/{host}/{name}");
    let trusted = parts.trusted(place, false).await?;
    let last = parts.queue.note(&note).await.map_err(|error| error.to_string())?;
    if last.as_ref() == Some(&trusted.commit) {
        return Ok(0);
    }
    let mut found = 0;
    if last.is_some() {
        let commit = Some(trusted.commit.clone());
        let event = Event {
            kind: EventKind::Push,
            repository: Some(name.clone()),
            git_ref: Some(format!("refs/heads/{}", trusted.branch)),
            sha: commit.clone(),
            push: Some(Push { before: last, after: commit, branch: Some(trusted.branch.clone()), tag: None }),
            ..Event::default()
        };
        found = offer(parts, place, &format!("push/{}@{}", trusted.branch, trusted.commit), event).await?;
    }
    parts.queue.keep_note(&note, &trusted.commit).await.map_err(|error| error.to_string())?;
    Ok(found)
}

/// Puts an event into the inbox; 1 where it was not there.
async fn offer(parts: &Parts<'_>, place: &Place, id: &str, event: Event) -> Result<usize, String> {
    let body = serde_json::to_vec(&event).map_err(|error| format!("an internal error: {error}"))?;
    let kind = event.kind.as_str();
    let mut hashed = kind.as_bytes().to_vec();
    hashed.extend_from_slice(&body);
    let Served { host, name, .. } = &place.served;
    let delivery = Delivery {
        source: "sweep".to_owned(),
        id: format!("{host}/{name}/{id}"),
        hash: short_hash(&hashed, 64),
        event: kind.to_owned(),
        repository: Some(name.clone()),
        host: Some(host.clone()),
        body,
        at_ms: parts.now_ms(),
    };
    match parts.inbox.accept(delivery).await {
        Ok(Accepted::New | Accepted::Again) => Ok(1),
        Ok(Accepted::Known) => Ok(0),
        Err(error) => Err(error.to_string()),
    }
}
