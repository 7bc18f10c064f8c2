//! Jobs.

use crate::model::id::RunId;
use crate::model::job::{JobState, NewJob, Priority};
use crate::port::queue::Added;
use serde::Serialize;
use sqlx::SqliteConnection;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// Adds a job; `delivery`: what it comes of. One whose key is known is left as it is.
pub(super) async fn add(
    connection: &mut SqliteConnection,
    job: &NewJob,
    delivery: Option<i64>,
    now_ms: i64,
) -> Result<Added, sqlx::Error> {
    let repository = &job.repository;
    let (forge, host, name) = (word(&repository.forge), repository.host.clone(), repository.name.clone());
    let state = if job.approval.is_some() { JobState::Asked } else { JobState::Waiting };
    let id = RunId::from_bits(RandomState::new().build_hasher().finish()).0;
    let made = sqlx::query(
        "INSERT INTO jobs (id, forge, host, name, workflow, key, change, event, delivery, actor, concurrency,
                           on_conflict, priority, due_ms, settings, approval, state, created_ms, updated_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $18)
         ON CONFLICT (forge, host, name, key) DO NOTHING",
    )
    .bind(id.clone())
    .bind(forge.clone())
    .bind(host.clone())
    .bind(name.clone())
    .bind(job.workflow.clone())
    .bind(job.key.clone())
    .bind(job.event.change.as_ref().and_then(|change| i64::try_from(change.number).ok()))
    .bind(text(&job.event))
    .bind(delivery)
    .bind(job.actor.clone())
    .bind(job.group.clone())
    .bind(word(&job.on_conflict))
    .bind(rank(job.priority))
    .bind(job.due_ms)
    .bind(text(&job.settings))
    .bind(job.approval.as_ref().map(text))
    .bind(word(&state))
    .bind(now_ms)
    .execute(&mut *connection)
    .await?;
    if made.rows_affected() > 0 {
        return Ok(Added::New(id));
    }
    let (known,): (String,) =
        sqlx::query_as("SELECT id FROM jobs WHERE forge = $1 AND host = $2 AND name = $3 AND key = $4")
            .bind(forge)
            .bind(host)
            .bind(name)
            .bind(job.key.clone())
            .fetch_one(&mut *connection)
            .await?;
    Ok(Added::Known(known))
}

/// Who goes first, as its column holds it.
fn rank(priority: Priority) -> i64 {
    match priority {
        Priority::Command => 0,
        Priority::Change => 1,
        Priority::Event => 2,
        Priority::Schedule => 3,
    }
}

/// JSON. Values of ours are never what JSON has no form for.
fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// A name without its quotes.
fn word(value: &impl Serialize) -> String {
    text(value).trim_matches('"').to_owned()
}
