//! Deliveries: taken in many to a commit, handled one by one.

use super::{Database, Writer, jobs};
use crate::model::job::Delivery;
use crate::port::inbox::{Accepted, Apart, Handled, Inbox, InboxError, Received, Unhandled};
use crate::port::queue::Added;
use crate::text;
use async_trait::async_trait;
use sqlx::{AssertSqlSafe, FromRow, SqliteConnection};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Deliveries that wait for the writer at most; more of them wait in their requests.
const WAITING: usize = 1024;
/// Deliveries of one commit, at most.
const PER_COMMIT: usize = 256;
/// Bytes of one commit's bodies after which no more are taken along.
const BYTES_PER_COMMIT: usize = 8 * 1024 * 1024;
/// Rows of a statement: the largest of these that fits is taken, so that few statements are prepared.
const CHUNKS: [usize; 5] = [64, 16, 8, 4, 1];

/// A delivery on its way to the disk, and who waits for it.
struct Offer {
    row: Row,
    answer: oneshot::Sender<Result<Accepted, InboxError>>,
}

/// A delivery as its table holds it.
struct Row {
    source: String,
    id: String,
    hash: [u8; 32],
    event: String,
    repository: Option<String>,
    body: Vec<u8>,
    at_ms: i64,
}

/// The way in: a task of its own writes what many requests bring.
pub(super) struct Incoming {
    offers: mpsc::Sender<Offer>,
}

impl Incoming {
    /// Starts the task; it ends when this is dropped.
    pub(super) fn start(writer: Arc<Writer>) -> Self {
        let (offers, mut waiting) = mpsc::channel::<Offer>(WAITING);
        tokio::spawn(async move {
            let mut taken = Vec::with_capacity(PER_COMMIT);
            while let Some(first) = waiting.recv().await {
                let mut bytes = first.row.body.len();
                taken.push(first);
                while taken.len() < PER_COMMIT
                    && bytes < BYTES_PER_COMMIT
                    && let Ok(next) = waiting.try_recv()
                {
                    bytes += next.row.body.len();
                    taken.push(next);
                }
                commit(&writer, &mut taken).await;
            }
        });
        Self { offers }
    }

    async fn offer(&self, row: Row) -> Result<Accepted, InboxError> {
        let gone = || InboxError { path: "serve.db".into(), message: "the server is stopping".into() };
        let (answer, answered) = oneshot::channel();
        self.offers.send(Offer { row, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

/// Writes deliveries in one transaction and tells each what became of it, once that is on the disk.
async fn commit(writer: &Writer, taken: &mut Vec<Offer>) {
    let (rows, waiting): (Vec<Row>, Vec<_>) = taken.drain(..).map(|offer| (offer.row, offer.answer)).unzip();
    let hashes: Vec<(String, [u8; 32])> = rows.iter().map(|row| (row.source.clone(), row.hash)).collect();
    let written: Result<_, InboxError> = writer
        .transaction(async |connection| {
            let mut new = HashSet::with_capacity(rows.len());
            let mut rows = rows.into_iter();
            while rows.len() > 0 {
                let count = CHUNKS.into_iter().find(|count| *count <= rows.len()).unwrap_or(1);
                insert(connection, rows.by_ref().take(count), count, &mut new).await?;
            }
            Ok(Ok::<_, InboxError>(new))
        })
        .await;
    for (answer, key) in waiting.into_iter().zip(hashes) {
        // Of several that are the same the first one is new.
        let told = match &written {
            Ok(new) if new.contains(&key) => Accepted::New,
            Ok(_) => Accepted::Known,
            Err(error) => {
                let _ = answer.send(Err(error.clone()));
                continue;
            }
        };
        let _ = answer.send(Ok(told));
    }
}

/// Inserts so many rows with one statement; adds the source and hash of each that was not known.
async fn insert(
    connection: &mut SqliteConnection,
    rows: impl Iterator<Item = Row>,
    count: usize,
    new: &mut HashSet<(String, [u8; 32])>,
) -> Result<(), sqlx::Error> {
    let mut text = String::from("INSERT INTO deliveries (source, id, hash, event, repository, body, at_ms) VALUES ");
    for place in 0..count {
        text.push_str(if place == 0 { "" } else { "," });
        text.push_str("(?,?,?,?,?,?,?)");
    }
    text.push_str(" ON CONFLICT DO NOTHING RETURNING source, hash");
    // The text depends on nothing but the number of rows.
    let mut query = sqlx::query_as::<_, (String, Vec<u8>)>(AssertSqlSafe(text));
    for Row { source, id, hash, event, repository, body, at_ms } in rows {
        query = query.bind(source).bind(id).bind(hash.to_vec()).bind(event).bind(repository).bind(body).bind(at_ms);
    }
    for (source, hash) in query.fetch_all(connection).await? {
        if let Ok(hash) = hash.try_into() {
            new.insert((source, hash));
        }
    }
    Ok(())
}

/// A delivery that waits, as it is read.
#[derive(FromRow)]
struct Waiting {
    number: i64,
    source: String,
    id: String,
    hash: Vec<u8>,
    event: String,
    repository: Option<String>,
    body: Vec<u8>,
    at_ms: i64,
    attempts: i64,
}

impl Waiting {
    fn unhandled(self) -> Unhandled {
        let hash = text::hex(&self.hash);
        let Self { number, source, id, event, repository, body, at_ms, attempts, .. } = self;
        let delivery = Delivery { source, id, hash, event, repository, body, at_ms };
        Unhandled { number, delivery, attempts: u32::try_from(attempts).unwrap_or(u32::MAX) }
    }
}

#[async_trait]
impl Inbox for Database {
    async fn accept(&self, delivery: Delivery) -> Result<Accepted, InboxError> {
        let Delivery { source, id, hash, event, repository, body, at_ms } = delivery;
        let Some(hash) = text::unhex(&hash).and_then(|hash| hash.try_into().ok()) else {
            let message = "a delivery without its SHA-256: a mistake of this program".to_owned();
            return Err(InboxError { path: "serve.db".into(), message });
        };
        self.incoming.offer(Row { source, id, hash, event, repository, body, at_ms }).await
    }

    async fn unhandled(&self, most: u32, now_ms: i64, apart: &[Apart]) -> Result<Vec<Unhandled>, InboxError> {
        // What is no forge's own stays with the name alone.
        let names = |it: &Apart| {
            let name = it.repository.to_lowercase();
            [format!("{} {name}", it.source), format!(" {name}")]
        };
        let apart: Vec<String> = apart.iter().flat_map(names).collect();
        let query = sqlx::query_as::<_, Waiting>(
            "UPDATE deliveries SET attempts = attempts + 1
             WHERE number IN (SELECT number FROM deliveries WHERE state = 'waiting'
                                 AND CASE WHEN source = 'sweep' OR source LIKE 'hook:%' THEN '' ELSE source END
                                     || ' ' || lower(coalesce(repository, ''))
                                     NOT IN (SELECT value FROM json_each($3))
                                 AND due_ms <= $1
                              ORDER BY number LIMIT $2)
             RETURNING number, source, id, hash, event, repository, body, at_ms, attempts",
        )
        .bind(now_ms)
        .bind(i64::from(most))
        .bind(jobs::text(&apart));
        let found = self.writer.whole(async |connection| query.fetch_all(connection).await).await?;
        let mut found: Vec<Unhandled> = found.into_iter().map(Waiting::unhandled).collect();
        found.sort_by_key(|it| it.number);
        Ok(found)
    }

    async fn handled(&self, number: i64, what: &Handled, now_ms: i64) -> Result<Vec<String>, InboxError> {
        self.writer
            .transaction(async |connection| {
                let changed = sqlx::query(
                    "UPDATE deliveries SET state = 'handled', handled_ms = $2, note = $3
                     WHERE number = $1 AND state <> 'handled'",
                )
                .bind(number)
                .bind(now_ms)
                .bind(what.note.clone())
                .execute(&mut *connection)
                .await?;
                if changed.rows_affected() == 0 {
                    return Ok(Ok(Vec::new()));
                }
                made(connection, number, what, now_ms).await.map(Ok::<_, InboxError>)
            })
            .await
    }

    async fn put_off(&self, number: i64, due_ms: Option<i64>, note: &str) -> Result<(), InboxError> {
        let query = sqlx::query(
            "UPDATE deliveries SET state = CASE WHEN $2 IS NULL THEN 'dead' ELSE 'waiting' END,
                                   due_ms = coalesce($2, due_ms), note = $3
             WHERE number = $1 AND state <> 'handled'",
        )
        .bind(number)
        .bind(due_ms)
        .bind(note.to_owned());
        self.writer.whole(async |connection| query.execute(connection).await).await?;
        Ok(())
    }

    async fn received(&self, most: u32) -> Result<Vec<Received>, InboxError> {
        let found: Vec<(i64, String, String, String, Option<String>, i64, String, i64, Option<String>)> =
            sqlx::query_as(
                "SELECT number, source, id, event, repository, at_ms, state, attempts, note FROM deliveries
             ORDER BY number DESC LIMIT $1",
            )
            .bind(i64::from(most))
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.fault(&error))?;
        let received = |(number, source, id, event, repository, at_ms, state, attempts, note)| Received {
            number,
            source,
            id,
            event,
            repository,
            at_ms,
            state,
            attempts,
            note,
        };
        Ok(found.into_iter().map(received).collect())
    }

    async fn backlog(&self) -> Result<(u64, Option<i64>), InboxError> {
        let (count, oldest): (i64, Option<i64>) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM deliveries WHERE state = 'waiting'),
                    (SELECT at_ms FROM deliveries WHERE state = 'waiting' ORDER BY number LIMIT 1)",
        )
        .fetch_one(&self.readers)
        .await
        .map_err(|error| self.fault(&error))?;
        Ok((count.unsigned_abs(), oldest))
    }

    async fn tidy(&self, bodies_before_ms: i64, rows_before_ms: i64, most: u32) -> Result<u64, InboxError> {
        let empty = sqlx::query(
            "UPDATE deliveries SET body = x'' WHERE number IN
                 (SELECT number FROM deliveries WHERE handled_ms < $1 AND length(body) > 0 LIMIT $2)",
        )
        .bind(bodies_before_ms)
        .bind(i64::from(most));
        let drop = sqlx::query(
            "DELETE FROM deliveries WHERE number IN
                 (SELECT number FROM deliveries WHERE handled_ms < $1 LIMIT $2)",
        )
        .bind(rows_before_ms)
        .bind(i64::from(most));
        let done = self.writer.whole(async |connection| {
            let dropped = drop.execute(&mut *connection).await?.rows_affected();
            Ok(dropped + empty.execute(&mut *connection).await?.rows_affected())
        });
        Ok(done.await?)
    }
}

/// Makes the jobs of a delivery; gives the ids of those that are new.
async fn made(
    connection: &mut SqliteConnection,
    delivery: i64,
    what: &Handled,
    now_ms: i64,
) -> Result<Vec<String>, sqlx::Error> {
    let mut ids = Vec::new();
    for (which, why) in &what.cancel {
        jobs::cancel(connection, which, why, now_ms).await?;
    }
    for job in &what.jobs {
        if let Added::New(id) = jobs::add(connection, job, Some(delivery), now_ms).await? {
            ids.push(id);
        }
    }
    Ok(ids)
}
