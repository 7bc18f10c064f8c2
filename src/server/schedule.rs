//! Time tables → jobs. A tick is unique by repository, workflow, entry and due instant: of several servers with one
//! database each makes it, and there is one.

use super::intake::group;
use super::lanes::each;
use super::parts::{Parts, Place, Trusted};
use crate::model::diagnostic::Severity;
use crate::model::event::{Event, EventKind, Push, Tick};
use crate::model::job::{NewJob, OnConflict, Priority, Served};
use crate::trigger::schedule::{Timetable, due, jitter};
use crate::trigger::{self, cron};
use crate::workflow::schema::docs::ScheduleDoc;
use crate::workflow::schema::values::duration_ms;
use crate::workflow::schema::{Library, WorkflowDoc};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// How often clocks are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often the configuration is asked for anew, in milliseconds: a push to the branch is not waited for.
const ANEW_MS: i64 = 60_000;

/// An entry of a time table: whose, and when it is due.
pub struct Entry<'a> {
    /// The workflow.
    pub workflow: &'a str,
    /// As it is written.
    pub doc: &'a ScheduleDoc,
    /// When it is due.
    pub table: Timetable,
}

/// The entries of a repository's workflows. One that cannot be understood is left out: `validate` says so.
pub fn entries<'a>(library: &'a Library, repository: &str) -> Vec<Entry<'a>> {
    let own = library.workflows.values().filter(|workflow| !workflow.builtin);
    let all = own.flat_map(|workflow| {
        let seed = cron::seed(repository, &workflow.name);
        let entries = workflow.doc.on.as_ref().map(|on| on.schedule.as_slice()).unwrap_or_default();
        entries.iter().filter_map(move |doc| {
            let zone = doc.timezone.as_ref().map(|zone| zone.0.as_str());
            let table = Timetable::new(&cron::settled(&doc.cron.0, &seed), zone).ok()?;
            Some(Entry { workflow: &workflow.name, doc, table })
        })
    });
    all.collect()
}

/// The note of the commit up to which a time table's workflow has seen.
pub fn seen_note(repository: &Served, workflow: &str) -> String {
    format!("seen/{:?}/{}/{}/{workflow}", repository.forge, repository.host, repository.name)
}

/// The note of when an entry was due last.
pub fn tick_note(repository: &Served, entry: &Entry<'_>) -> String {
    let Served { forge, host, name } = repository;
    let zone = entry.doc.timezone.as_ref().map_or("UTC", |zone| zone.0.as_str());
    format!("tick/{forge:?}/{host}/{name}/{}/{}/{zone}", entry.workflow, entry.doc.cron.0)
}

/// The loop, until `stop`.
pub async fn run(parts: &Parts<'_>, stop: &CancellationToken) {
    let tables: std::sync::Mutex<BTreeMap<Served, Arc<Mutex<Known>>>> = std::sync::Mutex::default();
    let looks = async |served: Served| {
        let table = tables.lock().unwrap_or_else(PoisonError::into_inner).entry(served.clone()).or_default().clone();
        if let Err(why) = of_one(parts, &served, &mut *table.lock().await).await {
            parts.say(&format!("time tables of {}: {why}", served.name));
        }
    };
    each(parts, stop, || LOOK, looks).await;
}

/// The configuration that tables are taken from, and when it was asked for.
type Known = BTreeMap<Served, (Trusted, i64)>;

async fn of_one(
    parts: &Parts<'_>,
    served: &Served,
    known: &mut BTreeMap<Served, (Trusted, i64)>,
) -> Result<(), String> {
    let now = parts.now_ms();
    let place = parts.place(served).await?;
    if known.get(served).is_none_or(|(_, at)| now - at >= ANEW_MS || now < *at) {
        match parts.trusted(&place, false).await {
            Ok(trusted) => drop(known.insert(served.clone(), (trusted, now))),
            // A forge that is away for a moment does not stop clocks: what was known holds until it is back.
            Err(why) => match known.get_mut(served) {
                Some((_, at)) => {
                    *at = now;
                    parts.say(&format!("time tables of {}: {why}; those that were known hold", served.name));
                }
                None => {
                    tokio::time::sleep(LOOK * 5).await;
                    return Err(why.into());
                }
            },
        }
    }
    let Some((trusted, _)) = known.get(served) else { return Ok(()) };
    let library = std::sync::Arc::clone(&trusted.library);
    if library.diagnostics.iter().any(|it| it.severity == Severity::Error) {
        return Ok(());
    }
    for entry in entries(&library, &served.name) {
        let Some(workflow) = library.workflows.get(entry.workflow) else { continue };
        ticks(parts, &place, &entry, &workflow.doc, known).await?;
    }
    Ok(())
}

/// Makes the jobs of an entry that are due.
async fn ticks(
    parts: &Parts<'_>,
    place: &Place,
    entry: &Entry<'_>,
    doc: &WorkflowDoc,
    known: &mut BTreeMap<Served, (Trusted, i64)>,
) -> Result<(), String> {
    let failed = |error: crate::port::inbox::InboxError| error.to_string();
    let now = parts.now_ms();
    let name = &place.served.name;
    let note = tick_note(&place.served, entry);
    let last = parts.queue.note(&note).await.map_err(failed)?.and_then(|text| text.parse::<i64>().ok());
    let Some(last) = last else {
        // Seen for the first time: what was before is nobody's.
        return parts.queue.keep_note(&note, &now.to_string()).await.map_err(failed);
    };
    let found = due(&entry.table, last, now, entry.doc.missed);
    if found.is_empty() {
        return Ok(());
    }
    // What it works on is the branch as it is now.
    let trusted = parts.trusted(place, true).await?;
    known.insert(place.served.clone(), (trusted.clone(), now));
    for at in found {
        let job = tick(parts, place, entry, doc, &trusted, at).await?;
        let added = parts.queue.add(&job, now).await.map_err(failed)?;
        parts.say(&format!("`{}` of {name} was due at {}: {added:?}", entry.workflow, instant(at)));
        // Kept after the job: whoever is killed in between makes it again, and there is one.
        parts.queue.keep_note(&note, &at.to_string()).await.map_err(failed)?;
    }
    parts.wake.notify_waiters();
    Ok(())
}

fn instant(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map(|at| at.to_string()).unwrap_or_default()
}

async fn tick(
    parts: &Parts<'_>,
    place: &Place,
    entry: &Entry<'_>,
    doc: &WorkflowDoc,
    trusted: &Trusted,
    at: i64,
) -> Result<NewJob, String> {
    let seen = parts.queue.note(&seen_note(&place.served, entry.workflow)).await.map_err(|error| error.to_string())?;
    let event = Event {
        kind: EventKind::Schedule,
        repository: Some(place.served.name.clone()),
        git_ref: Some(format!("refs/heads/{}", trusted.branch)),
        sha: Some(trusted.commit.clone()),
        // What came in since the last one that went well; looked at again when it begins.
        push: Some(Push {
            before: seen,
            after: Some(trusted.commit.clone()),
            branch: Some(trusted.branch.clone()),
            tag: None,
        }),
        schedule: Some(Tick { cron: Some(entry.doc.cron.0.clone()), at: Some(instant(at)) }),
        ..Event::default()
    };
    let (group, on_conflict) = match group(doc, &event, &BTreeMap::new()) {
        // Two nights at once would say the same twice; but each of them is to be.
        (None, _) if doc.concurrency.is_none() => (Some("schedule".to_owned()), OnConflict::Line),
        group => group,
    };
    let most = entry.doc.jitter.as_ref().and_then(|span| duration_ms(&span.0).ok()).unwrap_or_default();
    let late = jitter(&cron::seed(&place.served.name, entry.workflow), i64::try_from(most).unwrap_or_default());
    Ok(NewJob {
        repository: place.served.clone(),
        workflow: entry.workflow.to_owned(),
        key: trigger::key(&event, entry.workflow, Some(&entry.doc.cron.0)),
        actor: None,
        group,
        on_conflict,
        priority: Priority::Schedule,
        due_ms: at.saturating_add(late),
        settings: BTreeMap::new(),
        approval: None,
        event,
    })
}
