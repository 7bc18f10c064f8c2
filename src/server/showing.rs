//! What people see at their forge of what the server does: that a comment was heard, and how jobs stand. It is shown beside
//! the work, which never waits for it.
//!
//! A forge takes about one write a second, and may hang: each repository has a line of its own, in which one thing is shown
//! after the other. What is shown of a job is how it stands when its turn has come. What could not be shown, or was changed
//! by somebody else (another server, `codeforge queue cancel`), is found again in the database.

use super::lanes::meanwhile;
use super::parts::{Parts, Place};
use super::progress::{Progress, Shown};
use super::room::Room;
use crate::model::job::{Job, JobState, Served};
use crate::port::forge::CommentAt;
use crate::port::queue::Which;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Comments of a repository that wait to be acknowledged, at most: it is a courtesy.
const SEEN: usize = 32;
/// Jobs of a repository that wait to be shown, at most. Those that are over are found again.
const JOBS: usize = 256;
/// How often the database is asked for what is shown otherwise than it is.
const LOOK: Duration = Duration::from_secs(5);
/// How long ago such a job may have ended, in milliseconds.
const SINCE_MS: i64 = 60 * 60 * 1000;
/// How often is asked for those that ended longer ago: first when the server begins.
const FAR: Duration = Duration::from_secs(600);
/// How long ago those may have ended, in milliseconds: then nobody looks there any more.
const FAR_MS: i64 = 7 * 24 * 60 * 60 * 1000;
/// How many of a repository are found at once.
const FOUND: u32 = 100;
/// When what could not be shown yet is tried again.
const LATER: Duration = Duration::from_secs(2);
/// After a failure a repository's line rests, twice as long each time up to this.
const LONGEST: Duration = Duration::from_secs(60);
/// What waits to be shown may be shown within this time when the server stops.
const LAST: Duration = Duration::from_secs(3);

/// What waits to be shown.
#[derive(Default)]
pub struct Showing {
    lines: Mutex<BTreeMap<Served, Line>>,
    /// Something was added.
    told: Notify,
    /// The database is to be asked.
    asked: Notify,
}

/// What waits to be shown of one repository.
#[derive(Default)]
struct Line {
    seen: VecDeque<CommentAt>,
    jobs: VecDeque<String>,
    /// Jobs that could not be shown yet.
    later: Vec<String>,
    at_work: bool,
    /// Failures since something went well.
    failed: u32,
    /// Nothing is shown before this.
    rests: Option<Instant>,
}

/// One thing to show.
enum What {
    Seen(CommentAt),
    Job(String),
}

impl Line {
    fn may_go(&self, now: Instant) -> bool {
        let waits = !self.seen.is_empty() || !self.jobs.is_empty();
        waits && !self.at_work && self.rests.is_none_or(|until| until <= now)
    }

    /// People wait for what was heard; then the jobs.
    fn next(&mut self) -> Option<What> {
        let seen = self.seen.pop_front().map(What::Seen);
        seen.or_else(|| self.jobs.pop_front().map(What::Job))
    }
}

impl Showing {
    fn lines(&self) -> MutexGuard<'_, BTreeMap<Served, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, served: &Served, does: impl FnOnce(&mut Line) -> T) -> T {
        does(self.lines().entry(served.clone()).or_default())
    }

    /// Comments were heard: who wrote them is to see it.
    pub fn heard(&self, served: &Served, comments: Vec<CommentAt>) {
        self.with(served, |line| {
            let room = SEEN.saturating_sub(line.seen.len());
            line.seen.extend(comments.into_iter().take(room));
        });
        self.told.notify_one();
    }

    /// A job stands otherwise than before, or its run is at another step.
    pub fn job(&self, served: &Served, id: &str) {
        self.with(served, |line| {
            if line.jobs.len() < JOBS && !line.jobs.iter().any(|waits| waits == id) {
                line.jobs.push_back(id.to_owned());
            }
        });
        self.told.notify_one();
    }

    /// What could not be shown yet is tried again.
    fn again(&self) {
        let mut lines = self.lines();
        let later: Vec<(Served, Vec<String>)> =
            lines.iter_mut().map(|(served, line)| (served.clone(), std::mem::take(&mut line.later))).collect();
        drop(lines);
        for (served, ids) in &later {
            ids.iter().for_each(|id| self.job(served, id));
        }
    }

    /// Jobs ended that nobody names: they are looked for.
    pub fn look(&self) {
        self.asked.notify_one();
    }

    /// The repositories whose lines may go on; they are at work from now on.
    fn free(&self) -> Vec<Served> {
        let now = Instant::now();
        let mut lines = self.lines();
        let free = lines.iter_mut().filter(|(_, line)| line.may_go(now));
        let free = free.map(|(served, line)| {
            line.at_work = true;
            served.clone()
        });
        free.collect()
    }

    /// A line comes to rest: for a while after a failure.
    fn ended(&self, served: &Served, rests: Option<Duration>) {
        self.with(served, |line| {
            line.at_work = false;
            line.rests = rests.map(|rests| Instant::now() + rests);
        });
    }
}

/// The loop, until `stop`.
pub(super) async fn run(parts: &Parts<'_>, stop: &CancellationToken) {
    let showing = &parts.showing;
    let mut at_work = FuturesUnordered::new();
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut far = tokio::time::interval(FAR);
    far.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut again = tokio::time::interval(LATER);
    again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut until: Option<Instant> = None;
    let mut finds: Option<i64> = None;
    loop {
        at_work.extend(showing.free().into_iter().map(|served| line(parts, served)));
        if until.is_some() && at_work.is_empty() {
            return;
        }
        let last = until.unwrap_or_else(Instant::now);
        tokio::select! {
            () = stop.cancelled(), if until.is_none() => until = Some(Instant::now() + LAST),
            () = tokio::time::sleep_until(last), if until.is_some() => return,
            Some(()) = at_work.next() => {}
            () = showing.told.notified() => {}
            () = showing.asked.notified() => finds = Some(SINCE_MS),
            _ = look.tick() => finds = Some(SINCE_MS),
            _ = far.tick() => finds = Some(FAR_MS),
            _ = again.tick() => showing.again(),
        }
        if let Some(span_ms) = finds.take() {
            meanwhile(find(parts, span_ms), &mut at_work, |()| {}).await;
        }
    }
}

/// Looks for jobs that ended within so many milliseconds and are shown otherwise than they are.
async fn find(parts: &Parts<'_>, span_ms: i64) {
    let serve = (parts.settings)();
    // What was shown of jobs before that is forgotten.
    let span_ms = span_ms.min(i64::try_from(serve.keep.logs_ms).unwrap_or(i64::MAX));
    match parts.queue.shown_otherwise(parts.now_ms().saturating_sub(span_ms), FOUND).await {
        Ok(found) => {
            let is_served = |served: &Served| serve.repositories.iter().any(|it| it.served() == *served);
            let found = found.iter().filter(|(served, _)| is_served(served));
            found.for_each(|(served, id)| parts.showing.job(served, id));
        }
        Err(error) => parts.say(&format!("which jobs are shown otherwise than they are cannot be read: {error}")),
    }
}

/// A repository's line, until nothing waits in it or something fails.
async fn line(parts: &Parts<'_>, served: Served) {
    let showing = &parts.showing;
    let mut rests = None;
    while rests.is_none()
        && let Some(what) = showing.with(&served, Line::next)
    {
        let (words, shown) = match what {
            What::Seen(comment) => {
                (format!("that comment {} was heard", comment.id), heard(parts, &served, comment).await)
            }
            What::Job(id) => {
                let shown = job(parts, &served, &id).await;
                if matches!(shown, Ok(Shown::Later)) {
                    showing.with(&served, |line| line.later.push(id.clone()));
                }
                (format!("how job {id} stands"), shown.map(|_| ()))
            }
        };
        let failed = showing.with(&served, |line| {
            line.failed = if shown.is_ok() { 0 } else { line.failed.saturating_add(1) };
            line.failed
        });
        if let Err(why) = shown {
            let pause = Duration::from_secs(1 << failed.min(6)).min(LONGEST);
            let name = &served.name;
            parts.say(&format!("{name}: {words} cannot be shown: {why}; more is shown in {} s", pause.as_secs()));
            rests = Some(pause);
        }
    }
    showing.ended(&served, rests);
}

async fn heard(parts: &Parts<'_>, served: &Served, comment: CommentAt) -> Result<(), String> {
    let place = parts.place(served).await?;
    place.forge.react(comment, "eyes").await.map_err(|error| error.to_string())
}

async fn job(parts: &Parts<'_>, served: &Served, id: &str) -> Result<Shown, String> {
    let which = Which { id: Some(id.to_owned()), most: 1, ..Which::default() };
    let jobs = parts.queue.jobs(&which).await.map_err(|error| error.to_string())?;
    let Some(job) = jobs.first() else { return Ok(Shown::Now) };
    let place = parts.place(served).await?;
    // Whoever gave its command is told; the workflow's comment is the other job's.
    let skipped = job.skipped_for().is_some() && job.approved_by.is_none() && job.rounds == 0;
    if job.state == JobState::Asked || skipped {
        return at_desk(parts, &place, job).await.map(|()| Shown::Now);
    }
    let serve = (parts.settings)();
    let step = match job.state {
        JobState::Running => parts.runner.step(&serve.state, id).await,
        _ => None,
    };
    let progress =
        Progress { forge: &*place.forge, queue: &*parts.queue, phrase: &serve.commands.phrase, now_ms: parts.now_ms() };
    progress.show(job, step.as_deref()).await.map_err(|error| error.to_string())
}

/// A job that waits for a yes is shown with its price; of one that was dropped at once is said why.
async fn at_desk(parts: &Parts<'_>, place: &Place, job: &Job) -> Result<(), String> {
    let trusted = parts.trusted(place, false).await?;
    let ours = parts.ours(place, &trusted.library).await?;
    let room = Room::new(parts, place, &trusted.library, &ours).await?;
    let desk = room.desk();
    let shown = match job.state {
        JobState::Asked => desk.announce(std::slice::from_ref(&job.id)).await,
        _ => desk.skipped(job).await,
    };
    shown.map_err(|error| error.to_string())
}
