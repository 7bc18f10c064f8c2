//! Jobs that wait for a yes: shown where that failed before, ended when nobody answered in time. And what nobody needs
//! any more: swept now and then.

use super::forget::{self, Rules};
use super::intake::Room;
use super::lanes::each;
use super::parts::Parts;
use crate::model::job::{JobState, Served};
use crate::port::inbox::InboxError;
use crate::port::queue::Which;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often is looked.
const LOOK: Duration = Duration::from_secs(30);
/// How often is swept, in milliseconds.
const SWEEP_MS: i64 = 3_600_000;

/// The loops, until `stop`. A forge that hangs keeps its own repositories' jobs waiting and nobody else's.
pub async fn run(parts: &Parts<'_>, stop: &CancellationToken) {
    let tend = async |served: Served| {
        if let Err(why) = one(parts, &served).await {
            parts.say(&format!("jobs of {} that wait for a yes: {why}", served.name));
        }
    };
    tokio::join!(each(parts, stop, || LOOK, tend), sweeps(parts, stop));
}

/// Sweeps now and then, until `stop`.
async fn sweeps(parts: &Parts<'_>, stop: &CancellationToken) {
    let mut swept: Option<i64> = None;
    while !stop.is_cancelled() {
        let now = parts.now_ms();
        if swept.is_none_or(|last| now - last >= SWEEP_MS || now < last) {
            match sweep(parts, now).await {
                // There is more of it: at the next look.
                Ok(true) => {}
                Ok(false) => swept = Some(now),
                Err(why) => {
                    swept = Some(now);
                    parts.say(&format!("what nobody needs any more cannot be swept: {why}"));
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

async fn one(parts: &Parts<'_>, served: &Served) -> Result<(), String> {
    let which = Which { repository: Some(served.clone()), states: vec![JobState::Asked], most: 1, ..Which::default() };
    if parts.queue.jobs(&which).await.map_err(|error| error.to_string())?.is_empty() {
        return Ok(());
    }
    let place = parts.place(served).await?;
    let trusted = parts.trusted(&place, false).await?;
    let ours = parts.ours(&place, &trusted.library).await?;
    let room = Room::new(parts, &place, &trusted.library, &ours).await?;
    room.desk().tend().await.map_err(|error| error.to_string())
}

/// Sweeps what is past; whether there is more of it.
async fn sweep(parts: &Parts<'_>, now_ms: i64) -> Result<bool, InboxError> {
    let serve = (parts.settings)();
    let mut rules = Rules::default();
    let asked = forget::asks_for_tables(&*parts.queue, &serve.keep, now_ms).await?;
    for repository in serve.repositories.iter().filter(|_| asked) {
        let served = repository.served();
        let trusted = async { parts.trusted(&*parts.place(&served).await?, false).await };
        // Of one whose configuration cannot be had now nothing is forgotten.
        let library = trusted.await.ok().map(|trusted| trusted.library);
        rules.of(&served, library.as_deref());
    }
    let swept = forget::round(&*parts.queue, &serve.state, &serve.keep, &rules, now_ms).await?;
    if let Some(words) = swept.words() {
        parts.say(&words);
    }
    Ok(swept.more)
}
