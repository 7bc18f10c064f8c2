//! What people answered to jobs that wait for a yes: rows that stay, also where an answer did not count.

use super::jobs::{self, Group};
use super::rows;
use crate::model::job::Answer;
use sqlx::{FromRow, QueryBuilder, Sqlite, SqliteConnection, SqlitePool};

/// An answer as its table holds it.
#[derive(FromRow)]
struct Row {
    at_ms: i64,
    person: String,
    verdict: String,
    max_cost_usd: Option<String>,
    commit_id: Option<String>,
    note: Option<String>,
}

/// The answers to a job, the oldest first.
pub(super) async fn of(readers: &SqlitePool, id: &str) -> Result<Vec<Answer>, sqlx::Error> {
    let query = sqlx::query_as::<_, Row>(
        "SELECT at_ms, person, verdict, max_cost_usd, commit_id, note FROM approvals WHERE job = $1
         ORDER BY at_ms, person",
    );
    let answer = |Row { at_ms, person, verdict, max_cost_usd, commit_id, note }| {
        let verdict = rows::from_word(&verdict)?;
        Some(Answer { at_ms, by: person, verdict, max_cost_usd, commit: commit_id, note })
    };
    Ok(query.bind(id.to_owned()).fetch_all(readers).await?.into_iter().filter_map(answer).collect())
}

/// Writes down an answer. Given once more (a command that was decided about, and not marked as handled) it is there.
pub(super) async fn keep(connection: &mut SqliteConnection, id: &str, answer: &Answer) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO approvals (job, at_ms, person, verdict, max_cost_usd, commit_id, note)
         SELECT $1, max($2, (SELECT coalesce(max(at_ms) + 1, 0) FROM approvals WHERE job = $1)), $3, $4, $5, $6, $7
         WHERE NOT EXISTS (
             SELECT 1 FROM approvals WHERE job = $1 AND person = $3 AND verdict = $4 AND max_cost_usd IS $5 AND note IS $7)",
    )
    .bind(id.to_owned())
    .bind(answer.at_ms)
    .bind(answer.by.clone())
    .bind(answer.verdict.as_str())
    .bind(answer.max_cost_usd.clone())
    .bind(answer.commit.clone())
    .bind(answer.note.clone())
    .execute(connection)
    .await
    .map(|_| ())
}

/// Lets a job go that waited for a yes, at the price that was named. Its settings stay those that it was asked for with:
/// whoever retries it is named a price by them.
pub(super) async fn approve(connection: &mut SqliteConnection, id: &str, answer: &Answer) -> Result<(), sqlx::Error> {
    let mut query = QueryBuilder::<Sqlite>::new("UPDATE jobs SET state = 'waiting', note = NULL, approved_by = ");
    query.push_bind(answer.by.clone()).push(", approved_usd = ").push_bind(answer.max_cost_usd.clone());
    query.push(", updated_ms = ").push_bind(answer.at_ms);
    query.push(", due_ms = min(due_ms, ").push_bind(answer.at_ms).push(") WHERE id = ").push_bind(id.to_owned());
    query.push(" RETURNING ").push(jobs::GROUP);
    let group: Group = query.build_query_as().fetch_one(&mut *connection).await?;
    jobs::takes_its_place(connection, &group, answer.at_ms).await.map(|_| ())
}
