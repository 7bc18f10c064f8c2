//! What nobody needs any more goes: folders of jobs that are over, and notes of what is past.
//!
//! Never what an open job or a rule that still holds needs. A folder is moved away while the database says that its job
//! is over and nobody can put it back, and deleted then. A round does so much and no more; the next one goes on.

use crate::model::diagnostic::Severity;
use crate::model::job::{JobState, Served};
use crate::model::places;
use crate::model::serve::Keep;
use crate::port::inbox::InboxError;
use crate::port::queue::{Queue, Rest, Which};
use crate::server::schedule;
use crate::workflow::schema::Library;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// What a round moves away or forgets of one kind, at most.
pub const MOST: usize = 500;
/// What it looks at of one kind, at most.
const LOOKED_AT: usize = 10_000;
/// Notes of one question.
const PAGE: u32 = 500;
/// After so long nobody comes back for a checkout, and no answer counts any more, in milliseconds.
const DAY_MS: i64 = 86_400_000;

/// What a round did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Folders of jobs.
    pub folders: usize,
    /// Checkouts of jobs that ended without taking theirs away.
    pub checkouts: usize,
    /// Notes.
    pub notes: usize,
    /// There is more of it.
    pub more: bool,
}

impl Swept {
    /// In a line; `None`: nothing was done.
    pub fn words(&self) -> Option<String> {
        let Self { folders, checkouts, notes, .. } = self;
        (folders + checkouts + notes > 0)
            .then(|| format!("swept: {folders} folders and {checkouts} checkouts of jobs that are over, {notes} notes"))
    }
}

/// What time tables need: their notes, and those of repositories whose tables are not known now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    names: BTreeSet<String>,
    prefixes: Vec<String>,
}

impl Rules {
    /// Those of a repository. `library`: its configuration, where that is known.
    pub fn of(&mut self, served: &Served, library: Option<&Library>) {
        let sound = |library: &&Library| library.diagnostics.iter().all(|it| it.severity != Severity::Error);
        match library.filter(sound) {
            Some(library) => {
                for entry in schedule::entries(library, &served.name) {
                    self.names.insert(schedule::tick_note(served, &entry));
                    self.names.insert(schedule::seen_note(served, entry.workflow));
                }
            }
            None => {
                for kind in ["tick", "seen"] {
                    self.prefixes.push(format!("{kind}/{:?}/{}/{}/", served.forge, served.host, served.name));
                }
            }
        }
    }

    fn need(&self, name: &str) -> bool {
        self.names.contains(name) || self.prefixes.iter().any(|prefix| name.starts_with(prefix))
    }
}

/// Whether there are notes of time tables that are so old that tables have to be asked for.
///
/// # Errors
/// The database's.
pub async fn asks_for_tables(queue: &dyn Queue, keep: &Keep, now_ms: i64) -> Result<bool, InboxError> {
    for prefix in ["tick/", "seen/"] {
        if !queue.old_notes(prefix, "", before(now_ms, keep.records_ms), 1).await?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A round.
///
/// # Errors
/// The database's. What lies on the disk and cannot be moved stays for the next round.
pub async fn round(
    queue: &dyn Queue,
    state: &Path,
    keep: &Keep,
    rules: &Rules,
    now_ms: i64,
) -> Result<Swept, InboxError> {
    let mut swept = Swept::default();
    let (logs, records) = (before(now_ms, keep.logs_ms), before(now_ms, keep.records_ms));
    folders(queue, state, now_ms, logs, &mut swept).await?;
    for (prefix, before_ms) in [
        ("heard/", records),
        ("about/", records),
        ("tick/", records),
        ("seen/", records),
        ("answers/", now_ms.saturating_sub(DAY_MS)),
        ("shown/", logs),
        ("announced/", logs),
    ] {
        notes(queue, prefix, before_ms, rules, &mut swept).await?;
    }
    Ok(swept)
}

fn before(now_ms: i64, span_ms: u64) -> i64 {
    now_ms.saturating_sub_unsigned(span_ms)
}

/// A job's folder.
struct Left {
    id: String,
    /// When it was begun last, as the disk says it, in milliseconds since 1970.
    touched_ms: i64,
    has_checkout: bool,
}

async fn folders(
    queue: &dyn Queue,
    state: &Path,
    now_ms: i64,
    logs_ms: i64,
    swept: &mut Swept,
) -> Result<(), InboxError> {
    let day = now_ms.saturating_sub(DAY_MS);
    let at = state.to_path_buf();
    let lying = tokio::task::spawn_blocking(move || lying(&at, day)).await.unwrap_or_default();
    for Left { id, touched_ms, has_checkout } in lying {
        if swept.folders + swept.checkouts >= MOST {
            swept.more = true;
            break;
        }
        let whole = (places::job(state, &id), places::gone(state).join(&id));
        let checkout = (places::checkout(state, &id), places::gone(state).join(format!("{id}.checkout")));
        let away = |(from, to): &(PathBuf, PathBuf)| drop(std::fs::rename(from, to));
        if touched_ms < logs_ms {
            match queue.at_rest(&id, logs_ms, &|| away(&whole)).await? {
                Rest::Done => {
                    swept.folders += 1;
                    continue;
                }
                // Of another database, or of one that was put back from a copy.
                Rest::Unknown => {
                    away(&whole);
                    swept.folders += 1;
                    continue;
                }
                Rest::Needed => {}
            }
        }
        if has_checkout && queue.at_rest(&id, day, &|| away(&checkout)).await? == Rest::Done {
            swept.checkouts += 1;
        }
    }
    let gone = places::gone(state);
    let _ = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(gone)).await;
    Ok(())
}

/// The jobs' folders that were not touched since, the oldest first; makes the place for what goes. Blocking.
fn lying(state: &Path, before_ms: i64) -> Vec<Left> {
    let Ok(entries) = std::fs::read_dir(places::jobs(state)) else { return Vec::new() };
    let mut all: Vec<Left> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let id = entry.file_name().into_string().ok().filter(|name| !name.starts_with('.'))?;
            // Each attempt writes its fence.
            let touched = std::fs::metadata(entry.path().join("fence")).or_else(|_| entry.metadata()).ok()?;
            let since = touched.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
            let touched_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
            Some(Left { has_checkout: places::checkout(state, &id).exists(), id, touched_ms })
        })
        .filter(|left| left.touched_ms < before_ms)
        .collect();
    all.sort_by_key(|left| left.touched_ms);
    all.truncate(LOOKED_AT);
    if !all.is_empty() {
        let _ = std::fs::create_dir_all(places::gone(state));
    }
    all
}

async fn notes(
    queue: &dyn Queue,
    prefix: &str,
    before_ms: i64,
    rules: &Rules,
    swept: &mut Swept,
) -> Result<(), InboxError> {
    let (mut after, mut looked_at, mut forgotten) = (String::new(), 0, 0);
    while looked_at < LOOKED_AT {
        let page = queue.old_notes(prefix, &after, before_ms, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after.clone_from(last);
        looked_at += page.len();
        for name in page {
            if forgotten >= MOST {
                swept.more = true;
                return Ok(());
            }
            if !rules.need(&name) && !is_open(queue, &name).await? && queue.forget_note(&name, before_ms).await? {
                forgotten += 1;
                swept.notes += 1;
            }
        }
    }
    Ok(())
}

/// Whether a note is of a job that is not over.
async fn is_open(queue: &dyn Queue, name: &str) -> Result<bool, InboxError> {
    let Some(("shown" | "announced", id)) = name.split_once('/') else { return Ok(false) };
    let states = vec![JobState::Asked, JobState::Waiting, JobState::Running];
    let which = Which { id: Some(id.to_owned()), states, most: 1, ..Which::default() };
    Ok(!queue.jobs(&which).await?.is_empty())
}
