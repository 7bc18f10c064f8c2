//! From deliveries to jobs: in the order of arrival for each repository, several repositories at once. What is decided is
//! written in one transaction with the delivery's mark as handled, so that it is decided again after a crash or not at
//! all.
//!
//! A forge that hangs keeps its own repositories waiting and nobody else (`lanes`).

use super::decide::{Decided, decide, served};
use super::failed::{Failed, Kind};
use super::lanes::{self, Lanes, meanwhile};
use super::log::About;
use super::parts::Parts;
use crate::model::forge::ForgeKind;
use crate::model::job::{Delivery, Served};
use crate::model::serve::{Repository, Serve};
use crate::port::inbox::{Apart, Unhandled};
use crate::port::queue::Which;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

pub(super) use super::decide::group;
pub(super) use super::room::Room;

/// How often is looked where nobody says that something came in.
const LOOK: Duration = Duration::from_millis(500);
/// How long after a failure of the database.
const PAUSE: Duration = Duration::from_secs(2);
/// The first wait after a failure, in milliseconds; doubled each time up to the longest.
const AGAIN_MS: i64 = 2_000;
const LONGEST_MS: i64 = 10 * 60 * 1000;
/// The longest wait for what somebody has to mend, in milliseconds.
const MENDED_MS: i64 = 2 * 60 * 1000;
/// How often a delivery is looked at before it stays as a dead letter.
const ATTEMPTS: u32 = 20;

/// The loop, until `stop`. What was begun then and takes too long is begun again by the next server.
pub async fn run(parts: &Parts<'_>, stop: &CancellationToken) {
    let mut lanes = Lanes::default();
    let mut at_work = FuturesUnordered::new();
    while !stop.is_cancelled() {
        // Whoever calls from here on is heard.
        let called = parts.wake.notified();
        let mut pause = LOOK;
        while lanes.left() > 0 && !stop.is_cancelled() {
            let serve = (parts.settings)();
            let apart = apart(&lanes, &serve);
            let found = parts.inbox.unhandled(1, parts.now_ms(), &apart);
            match meanwhile(found, &mut at_work, |lane| lanes.leave(&lane)).await {
                Ok(found) => {
                    let Some(it) = found.into_iter().next() else { break };
                    let lane = about(&serve, &it.delivery);
                    lanes.enter(lane.clone());
                    at_work.push(async move {
                        one(parts, it, &lane).await;
                        lane
                    });
                }
                Err(error) => {
                    parts.say(&format!("deliveries cannot be read: {error}"));
                    pause = PAUSE;
                    break;
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            Some(lane) = at_work.next() => lanes.leave(&lane),
            () = called => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    lanes::last(at_work).await;
}

/// The repository that a delivery is about, as its lane has it; one that is not served is nobody's forge's.
fn about(serve: &Serve, delivery: &Delivery) -> Served {
    let name = delivery.repository.clone().unwrap_or_default();
    // An older row has no host, and a lane of its own.
    let known = delivery.host.as_ref().and_then(|_| served(serve, delivery, &name));
    known.map(Repository::served).unwrap_or_else(|| {
        let forge = ForgeKind::named(&delivery.source).unwrap_or(ForgeKind::Local);
        Served { forge, host: delivery.host.clone().unwrap_or_default(), name }
    })
}

/// Whose deliveries stay where they are: those that somebody is at work for, or whose forge has its places.
fn apart(lanes: &Lanes, serve: &Serve) -> Vec<Apart> {
    let full = serve.repositories.iter().map(Repository::served).filter(|served| !lanes.has_room(served));
    let all = lanes.at_work().iter().cloned().chain(full);
    all.map(|it| Apart { host: it.host, repository: it.name }).collect()
}

/// Decides about one delivery, and writes it down.
async fn one(parts: &Parts<'_>, it: Unhandled, served: &Served) {
    let what = format!("delivery {} ({} {})", it.number, it.delivery.source, it.delivery.event);
    let about = About {
        event: Some("decided"),
        delivery: Some(it.delivery.id.clone()),
        number: Some(it.number),
        repository: it.delivery.repository.clone(),
        ..About::default()
    };
    let at_ms = it.delivery.at_ms;
    let became = decide(parts, it.number, it.delivery).await;
    let newly_refused = match &became {
        Ok(decided) if decided.place.is_some() => {
            parts.token(served, true);
            false
        }
        Err(Failed { kind: Kind::Refused, .. }) => parts.token(served, false),
        _ => false,
    };
    if newly_refused {
        let words = format!(
            "ALARM: the forge of {} refuses the token: give the server another one; what came in waits",
            served.name
        );
        parts.say_of(about.clone(), &words);
    }
    let written = match became {
        Ok(decided) => match parts.inbox.handled(it.number, &decided.what, parts.now_ms()).await {
            Ok(ids) => {
                parts.say_of(about.clone(), &format!("{what}: {}", decided.what.note));
                parts.let_go(it.number);
                made(parts, &ids).await;
                after(parts, decided, &ids).await;
                Ok(())
            }
            Err(error) => Err(error),
        },
        Err(why) => {
            let now = parts.now_ms();
            // What somebody else has to mend takes as long as it takes: it uses up no attempts.
            let counts = why.kind == Kind::Other;
            let dead = counts && it.attempts >= ATTEMPTS;
            let wait = match counts {
                true => AGAIN_MS.saturating_mul(1 << it.attempts.saturating_sub(1).min(20)).min(LONGEST_MS),
                false => (now.saturating_sub(at_ms) / 2).clamp(AGAIN_MS, MENDED_MS),
            };
            let due = (!dead).then(|| now.saturating_add(wait));
            let (alarm, mark) = match dead {
                true => ("ALARM: ", "it stays as a dead letter (`codeforge queue deliveries --dead`)"),
                false => ("", "looked at again later"),
            };
            parts.say_of(about.clone(), &format!("{alarm}{what}: {why}; {mark}"));
            parts.inbox.put_off(it.number, due, counts, &why.words).await
        }
    };
    if let Err(error) = written {
        parts.say_of(about, &format!("{what}: what was decided cannot be written: {error}"));
        tokio::time::sleep(PAUSE).await;
    }
}

/// Says which jobs came of a delivery, and their ids.
async fn made(parts: &Parts<'_>, ids: &[String]) {
    for id in ids {
        let which = Which { id: Some(id.clone()), most: 1, ..Which::default() };
        // Who cannot read it is heard of by its worker.
        let Some(job) = parts.queue.jobs(&which).await.ok().and_then(|mut jobs| jobs.pop()) else { continue };
        let words = format!("job {id} ({}) waits", job.new.workflow);
        parts.say_of(About::job(&job).named("job_made"), &words);
    }
}

/// Lets workers know of jobs that were made, and has shown what is to be seen.
async fn after(parts: &Parts<'_>, decided: Decided, ids: &[String]) {
    parts.wake.notify_waiters();
    for (name, value) in &decided.heard {
        if let Err(error) = parts.queue.keep_note(name, value).await {
            parts.say(&format!("a note cannot be kept: {error}"));
        }
    }
    if let Some(place) = &decided.place {
        parts.showing.heard(&place.served, decided.seen);
        for id in ids {
            parts.showing.job(&place.served, id);
        }
    }
    // What was cancelled, what gave way to a new one, and what was dropped at once.
    if !decided.what.jobs.is_empty() || !decided.what.cancel.is_empty() {
        parts.showing.look();
    }
}
