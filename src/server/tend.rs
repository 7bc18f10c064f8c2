//! Jobs that wait for a yes: shown where that failed before, ended when nobody answered in time.

use super::intake::Room;
use super::parts::Parts;
use crate::model::job::{JobState, Served};
use crate::port::queue::Which;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often is looked.
const LOOK: Duration = Duration::from_secs(30);

/// The loop, until `stop`.
pub async fn run(parts: &Parts<'_>, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        for repository in &(parts.settings)().repositories {
            let served = repository.served();
            if let Err(why) = one(parts, &served).await {
                parts.say(&format!("jobs of {} that wait for a yes: {why}", served.name));
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
