//! Workers: lease a job, run it, hold the lease meanwhile, say how it ended.

use super::Parts;
use super::log::About;
use crate::model::event::EventKind;
use crate::model::job::{Job, JobEnd, Lease};
use crate::model::serve::Retries;
use crate::port::inbox::InboxError;
use crate::port::queue::{Renewed, Room};
use crate::port::runner::Ran;
use crate::text;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a lease holds, in milliseconds. It is renewed several times in that time; a server that is gone for longer
/// loses its jobs to the others.
const LEASE_MS: i64 = 30_000;
/// After how long at most a run is told that its job was cancelled: that is asked with each renewal.
const TOLD: Duration = Duration::from_secs(2);
/// How often is looked for jobs where nobody says that there are any: those that become due.
const LOOK: Duration = Duration::from_millis(500);
/// How long after a failure of the database.
const PAUSE: Duration = Duration::from_secs(2);
/// The longest note, in bytes.
const NOTE: usize = 2000;

/// Why a run was told to stop.
enum Why {
    /// Its job was cancelled.
    Cancelled(String),
    /// Somebody else has it.
    Lost,
    /// The server stops.
    Stopping,
    /// It took too long.
    TooLong,
}

/// As many workers as the settings say, until `stop`. Where there are to be more, they begin at once; whoever is one too
/// many ends its job first.
pub async fn all(parts: &Parts<'_>, stop: &CancellationToken) {
    let mut at_work = FuturesUnordered::new();
    let mut numbers = BTreeSet::new();
    loop {
        if !stop.is_cancelled() {
            for number in 1..=wanted(parts) {
                if numbers.insert(number) {
                    at_work.push(async move {
                        work(parts, number, stop).await;
                        number
                    });
                }
            }
        }
        tokio::select! {
            ended = at_work.next() => match ended {
                Some(number) => {
                    numbers.remove(&number);
                }
                None => return,
            },
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// How many workers there are to be.
fn wanted(parts: &Parts<'_>) -> u32 {
    (parts.settings)().limits.workers.max(1)
}

/// One worker, until `stop` or until it is one too many.
async fn work(parts: &Parts<'_>, number: u32, stop: &CancellationToken) {
    let name = format!("{}#{number}", parts.name);
    while !stop.is_cancelled() && number <= wanted(parts) {
        let room = Room { per_repository: (parts.settings)().limits.per_repository };
        let leased = parts.queue.lease(&name, room, parts.now_ms(), lease_ms(parts)).await;
        let pause = match leased {
            Ok(Some((job, lease))) => {
                parts.health.beat(parts.now_ms());
                one(parts, job, lease, stop).await;
                continue;
            }
            Ok(None) => {
                parts.health.beat(parts.now_ms());
                LOOK
            }
            Err(error) => {
                parts.say(&format!("no job can be leased: {error}"));
                PAUSE
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = parts.wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// The operator's word on it is for tests and for slow disks.
fn lease_ms(parts: &Parts<'_>) -> i64 {
    let given = parts.world.env("CODEFORGE_LEASE_MS").and_then(|text| text.trim().parse().ok());
    given.filter(|ms| (100..=3_600_000).contains(ms)).unwrap_or(LEASE_MS)
}

/// One job, to the end of its lease.
async fn one(parts: &Parts<'_>, mut job: Job, lease: Lease, stop: &CancellationToken) {
    let retries = (parts.settings)().retries.clone();
    let what = format!("job {} ({} of {})", job.id, job.new.workflow, job.new.repository.name);
    let about = About::job(&job);
    if job.attempts > retries.attempts {
        // Its workers died with it, each time.
        let note = format!("begun {} times, and no worker lived to see its end", job.attempts - 1);
        parts.say_of(about.named("job_ended"), &format!("ALARM: {what} is dead: {note}"));
        let _ = parts.queue.end(&lease, &JobEnd::Dead { note }, parts.now_ms()).await;
        parts.showing.job(&job.new.repository, &job.id);
        return;
    }
    let begins = format!("{what}: attempt {} under fence {}", job.attempts, lease.fence);
    parts.say_of(about.clone().named("job_begun"), &begins);
    parts.showing.job(&job.new.repository, &job.id);
    if let Err(error) = since(parts, &mut job, &lease).await {
        parts.say(&format!("{what}: it begins where it was to begin when it was made: {error}"));
    }
    let interrupt = CancellationToken::new();
    // The forge is asked for a token first: a lease is held through that, too.
    let run = async {
        let order = tokio::select! {
            order = parts.order(&job, &lease) => order?,
            () = interrupt.cancelled() => return Err("it was interrupted before it began".to_owned()),
        };
        parts.runner.run(&order, interrupt.clone()).await
    };
    let (ran, why) = hold(parts, &job, &lease, run, &interrupt, stop).await;
    let about = ended(about, &ran);
    let Some(end) = ending(parts, &job, ran, why, &retries) else {
        parts.say_of(about, &format!("{what}: another worker has it now; nothing was written"));
        return;
    };
    if let JobEnd::Dead { note } = &end {
        let dead = format!("ALARM: {what} is dead after {} attempts: {note} (`codeforge queue dead`)", job.attempts);
        parts.say_of(about.clone(), &dead);
    }
    // Before the end is written: whoever is killed in between ends the job once more, and no night is looked at twice.
    if let Err(error) = reviewed(parts, &job, &end).await {
        parts.say_of(about.clone(), &format!("{what}: {error}"));
    }
    // A database that is away for a moment must not lose how a run ended.
    for _ in 0..5 {
        match parts.queue.end(&lease, &end, parts.now_ms()).await {
            Ok(true) => {
                parts.say_of(about.named("job_ended"), &format!("{what}: {}", words(&end)));
                break;
            }
            Ok(false) => {
                parts.say_of(about, &format!("{what}: its fence {} is stale; nothing was written", lease.fence));
                return;
            }
            Err(error) => {
                parts.say_of(about.clone(), &format!("{what}: how it ended cannot be written: {error}"));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    parts.wake.notify_waiters();
    parts.showing.job(&job.new.repository, &job.id);
}

/// A job's line with what its run left of itself: its own id, how it ended, what it handed over.
fn ended(about: About, ran: &Result<Ran, String>) -> About {
    let output = |name: &str| ran.as_ref().ok()?.outputs.get(name).filter(|text| !text.is_empty()).cloned();
    About {
        run: output("run-id").or(about.run.clone()),
        conclusion: output("conclusion"),
        url: output("pull-request-url"),
        ..about
    }
}

/// Runs, and holds the lease meanwhile. Says why the run was told to stop, where it was.
async fn hold(
    parts: &Parts<'_>,
    job: &Job,
    lease: &Lease,
    run: impl Future<Output = Result<Ran, String>>,
    interrupt: &CancellationToken,
    stop: &CancellationToken,
) -> (Result<Ran, String>, Option<Why>) {
    tokio::pin!(run);
    let for_ms = lease_ms(parts);
    let mut every = tokio::time::interval(Duration::from_millis(for_ms.unsigned_abs() / 3).min(TOLD));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let longest = tokio::time::sleep(Duration::from_millis((parts.settings)().limits.run_ms));
    tokio::pin!(longest);
    let mut why = None;
    let mut step = None;
    loop {
        let now = tokio::select! {
            // What ended has ended, whatever else is due.
            biased;
            ran = &mut run => return (ran, why),
            () = stop.cancelled(), if why.is_none() => Some(Why::Stopping),
            () = &mut longest, if why.is_none() => Some(Why::TooLong),
            _ = every.tick() => match parts.queue.renew(lease, parts.now_ms(), for_ms).await {
                Ok(Renewed::Held(_)) => {
                    parts.health.beat(parts.now_ms());
                    let now = parts.runner.step(&(parts.settings)().state, &job.id).await;
                    if now != step {
                        parts.showing.job(&job.new.repository, &job.id);
                        step = now;
                    }
                    None
                }
                Ok(Renewed::Cancelled(note)) => Some(Why::Cancelled(note)),
                Ok(Renewed::Lost) => Some(Why::Lost),
                Err(error) => {
                    let words = format!("the lease of job {} cannot be renewed: {error}", lease.job);
                    parts.say_of(About::job(job), &words);
                    None
                }
            },
        };
        if let Some(now) = now {
            // That somebody else has it outweighs what was known before.
            if why.is_none() || matches!(now, Why::Lost) {
                why = Some(now);
            }
            interrupt.cancel();
        }
    }
}

/// How the lease ends. `None`: it is not ours to end.
fn ending(
    parts: &Parts<'_>,
    job: &Job,
    ran: Result<Ran, String>,
    why: Option<Why>,
    retries: &Retries,
) -> Option<JobEnd> {
    let code = ran.as_ref().ok().and_then(|ran| ran.code);
    let over = matches!(code, Some(0..=4));
    match why {
        Some(Why::Lost) => return None,
        Some(Why::Cancelled(note)) if !over => return Some(JobEnd::Cancelled { note }),
        Some(Why::Stopping) if !over && code != Some(5) => return Some(JobEnd::Back),
        Some(Why::TooLong) if !over => {
            let minutes = (parts.settings)().limits.run_ms / 60_000;
            let note = Some(format!("it ran for longer than {minutes} minutes, and was interrupted"));
            let conclusion = "limit".to_owned();
            return Some(JobEnd::Done { conclusion, cost_usd: cost(&ran), url: None, note });
        }
        _ => {}
    }
    let failed = match ran {
        Err(error) => error,
        Ok(ran) if over => {
            let output = |name: &str| ran.outputs.get(name).filter(|text| !text.is_empty()).cloned();
            let conclusion = output("conclusion").unwrap_or_else(|| by_code(code).to_owned());
            let url = output("pull-request-url");
            let note = output("final-message").or_else(|| last_line(&ran.log)).map(|text| text::cap(&text, NOTE));
            return Some(JobEnd::Done { conclusion, cost_usd: cost(&Ok(ran)), url, note });
        }
        Ok(ran) => {
            let said = ran.outputs.get("final-message").filter(|text| !text.is_empty()).cloned();
            let said = said.or_else(|| last_line(&ran.log)).unwrap_or_default();
            match ran.code {
                Some(5) => format!("something was unavailable: {said}"),
                Some(code) => format!("its process ended with {code}: {said}"),
                None => format!("its process was killed: {said}"),
            }
        }
    };
    let note = text::cap(&failed, NOTE);
    if job.attempts >= retries.attempts {
        return Some(JobEnd::Dead { note });
    }
    let wait = backoff(job.attempts, retries, parts.world.random());
    Some(JobEnd::Again { due_ms: parts.now_ms().saturating_add(wait), note })
}

/// How long until the next attempt, in milliseconds: doubled each time up to the longest, and between three quarters
/// and all of that, so that not all come back at once.
fn backoff(attempts: u32, retries: &Retries, random: u64) -> i64 {
    let doubled = retries.backoff_ms.saturating_mul(1u64.checked_shl(attempts.saturating_sub(1)).unwrap_or(u64::MAX));
    let whole = doubled.min(retries.longest_ms);
    let spread = (whole / 4).max(1);
    i64::try_from(whole - whole / 4 + random % spread).unwrap_or(i64::MAX)
}

/// What the run cost, as its outputs tell.
fn cost(ran: &Result<Ran, String>) -> Option<String> {
    ran.as_ref().ok()?.outputs.get("total-cost-usd").filter(|text| !text.is_empty()).cloned()
}

/// How a run ended that left no outputs.
fn by_code(code: Option<i32>) -> &'static str {
    match code {
        Some(0) => "success",
        Some(1) => "failure",
        Some(2) => "misconfigured",
        Some(3) => "limit",
        Some(4) => "denied",
        _ => "unavailable",
    }
}

fn last_line(log: &str) -> Option<String> {
    log.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

fn words(end: &JobEnd) -> String {
    match end {
        JobEnd::Done { conclusion, .. } => conclusion.clone(),
        JobEnd::Again { note, .. } => format!("tried again later: {note}"),
        JobEnd::Dead { .. } => "dead".to_owned(),
        JobEnd::Cancelled { note } => format!("cancelled: {note}"),
        JobEnd::Back => "back in the queue: the server stops".to_owned(),
    }
}

/// A time table's job begins where the last one that went well ended, and that may have been at work when this one was
/// made. What it began with it goes on with.
async fn since(parts: &Parts<'_>, job: &mut Job, lease: &Lease) -> Result<(), InboxError> {
    if job.new.event.kind != EventKind::Schedule || lease.fence > 1 {
        return Ok(());
    }
    let name = super::schedule::seen_note(&job.new.repository, &job.new.workflow);
    let seen = parts.queue.note(&name).await?;
    let mut event = job.new.event.clone();
    if let Some(push) = event.push.as_mut().filter(|push| push.before != seen) {
        push.before = seen;
        parts.queue.begins(lease, &event).await?;
        job.new.event = event;
    }
    Ok(())
}

/// Remembers up to which commit a time table's workflow has seen: the next one looks at what came since.
async fn reviewed(parts: &Parts<'_>, job: &Job, end: &JobEnd) -> Result<(), InboxError> {
    let good = matches!(end, JobEnd::Done { conclusion, .. } if conclusion == "success");
    match &job.new.event.sha {
        Some(commit) if good && job.new.event.kind == EventKind::Schedule => {
            let name = super::schedule::seen_note(&job.new.repository, &job.new.workflow);
            parts.queue.keep_note(&name, commit).await
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_spread() {
        let retries = Retries { attempts: 5, backoff_ms: 1000, longest_ms: 10_000 };
        let spans: Vec<(i64, i64)> =
            (1..=6).map(|attempt| (backoff(attempt, &retries, 0), backoff(attempt, &retries, u64::MAX))).collect();
        for (attempt, (least, greatest)) in spans.iter().enumerate() {
            let whole = (1000 << attempt).min(10_000);
            assert_eq!(*least, whole - whole / 4, "attempt {}", attempt + 1);
            assert!(least < greatest && *greatest <= whole, "{spans:?}");
        }
        let endless = Retries { attempts: 500, backoff_ms: u64::MAX, longest_ms: u64::MAX };
        assert!(backoff(400, &endless, 7) > 0);
    }
}
