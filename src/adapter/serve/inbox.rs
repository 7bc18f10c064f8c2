//! Deliveries: taken in many to a commit, handled one by one. What is noted about those that are handled goes along with
//! the commits of those that come in, so that neither keeps the other waiting.

use super::mover::Mover;
use super::{Database, Writer, jobs, rows};
use crate::model::job::Delivery;
use crate::port::inbox::{Accepted, Apart, Handled, Inbox, InboxError, Received, Unhandled};
use crate::port::queue::Added;
use crate::text;
use async_trait::async_trait;
use futures::future::BoxFuture;
use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use sqlx::{AssertSqlSafe, FromRow, SqliteConnection};
use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Deliveries that wait for the writer at most; more of them wait in their requests.
const WAITING: usize = 1024;
/// Deliveries and changes of one commit, at most.
const PER_COMMIT: usize = 256;
/// Bytes of one commit's bodies, as they are stored, after which no more are taken along.
const BYTES_PER_COMMIT: usize = 4 * 1024 * 1024;
/// Rows of a statement: the smallest of these that fits is taken, so that few statements are prepared.
const SIZES: [usize; 5] = [1, 4, 16, 64, PER_COMMIT];
/// Bytes of a page.
const PAGE: u64 = 4096;
/// Pages that a delivery changes beside those of its body: its own last one, and one of each index.
const PAGES_BESIDE: u64 = 3;
/// A body larger than this is packed beside the tasks that serve requests, in bytes.
const LARGE: usize = 256 * 1024;

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
    host: Option<String>,
    lane: String,
    /// Packed.
    body: Vec<u8>,
    at_ms: i64,
}

/// Tells whoever waits for a change whether it is on the disk.
type Tell = Box<dyn FnOnce(Result<(), InboxError>) + Send>;

/// A change to deliveries that are there, as part of the next commit.
type Change =
    Box<dyn for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, (Result<(), sqlx::Error>, Tell)> + Send>;

enum Work {
    Take(Offer),
    Change(Change),
}

impl Work {
    fn bytes(&self) -> usize {
        match self {
            Self::Take(offer) => offer.row.body.len(),
            Self::Change(_) => 0,
        }
    }
}

/// The way in: a task of its own writes what many requests bring.
pub(super) struct Incoming {
    work: mpsc::Sender<Work>,
}

impl Incoming {
    /// Starts the task; it ends when this is dropped.
    pub(super) fn start(writer: Arc<Writer>, mover: Mover) -> Self {
        let (work, mut waiting) = mpsc::channel::<Work>(WAITING);
        tokio::spawn(async move {
            while let Some(first) = waiting.recv().await {
                let mut bytes = first.bytes();
                let mut taken = vec![first];
                while taken.len() < PER_COMMIT
                    && bytes < BYTES_PER_COMMIT
                    && let Ok(next) = waiting.try_recv()
                {
                    bytes += next.bytes();
                    taken.push(next);
                }
                let changes = taken.len() as u64;
                commit(&writer, taken).await;
                mover.written(&writer, bytes as u64 / PAGE + changes * PAGES_BESIDE).await;
            }
        });
        Self { work }
    }

    async fn offer(&self, row: Row) -> Result<Accepted, InboxError> {
        let (answer, answered) = oneshot::channel();
        self.work.send(Work::Take(Offer { row, answer })).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Makes a change in the next commit, and waits until it is on the disk.
    async fn change<T, W>(&self, work: W) -> Result<T, InboxError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, sqlx::Error>> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let change: Change = Box::new(move |connection| {
            Box::pin(async move {
                let (result, done) = match work(connection).await {
                    Ok(done) => (Ok(()), Some(done)),
                    Err(error) => (Err(error), None),
                };
                let tell: Tell = Box::new(move |durable| {
                    let _ = answer.send(durable.and_then(|()| done.ok_or_else(gone)));
                });
                (result, tell)
            })
        });
        self.work.send(Work::Change(change)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

fn gone() -> InboxError {
    let message = "it was not written: the server is stopping, or what was to be written along with it failed";
    InboxError { path: "serve.db".into(), message: message.into() }
}

thread_local! {
    /// What packing needs for a moment, used again.
    static PACKING: RefCell<(CompressTable, Vec<u8>)> = RefCell::default();
}

/// Packs a body for its row: webhooks say the same addresses over and over, and take a third of the disk. In front stands
/// its length, four bytes, little endian.
fn packed(body: &[u8]) -> Result<Vec<u8>, String> {
    let length = u32::try_from(body.len()).map_err(|_| "a body of more than 4 GiB".to_owned())?;
    PACKING.with_borrow_mut(|(table, space)| {
        space.resize(get_maximum_output_size(body.len()), 0);
        let taken = compress_into_with_table(body, space, table).map_err(|error| error.to_string())?;
        let mut row = Vec::with_capacity(4 + taken);
        row.extend(length.to_le_bytes());
        row.extend_from_slice(space.get(..taken).unwrap_or_default());
        // What a large one needed is not kept.
        space.truncate(LARGE);
        space.shrink_to(LARGE);
        Ok(row)
    })
}

/// The body of a row; nothing, where it was emptied.
fn unpacked(row: &[u8]) -> Result<Vec<u8>, String> {
    if row.is_empty() {
        return Ok(Vec::new());
    }
    lz4_flex::decompress_size_prepended(row).map_err(|error| format!("its stored body is damaged: {error}"))
}

/// Does all of it in one transaction and tells each what became of it, once that is on the disk.
async fn commit(writer: &Writer, taken: Vec<Work>) {
    let (mut rows, mut waiting, mut changes) = (Vec::new(), Vec::new(), Vec::new());
    for work in taken {
        match work {
            Work::Take(Offer { row, answer }) => {
                rows.push(row);
                waiting.push(answer);
            }
            Work::Change(change) => changes.push(change),
        }
    }
    let mut written = Err(gone());
    if !changes.is_empty() {
        let mut told = Vec::with_capacity(changes.len());
        let all: Result<_, InboxError> = writer
            .transaction(async |connection| {
                let new = insert(connection, &mut rows, true).await?;
                for change in changes {
                    let (result, tell) = change(&mut *connection).await;
                    told.push(tell);
                    result?;
                }
                Ok(Ok::<_, InboxError>(new))
            })
            .await;
        for tell in told {
            tell(all.as_ref().map(|_| ()).map_err(Clone::clone));
        }
        written = all;
    }
    // What comes in does not suffer from a change that failed. A statement alone is a transaction.
    if written.is_err() && !rows.is_empty() {
        let alone = writer.whole(async |connection| insert(connection, &mut rows, false).await);
        written = alone.await.map_err(InboxError::from);
    }
    for (answer, row) in waiting.into_iter().zip(rows) {
        let told = match &mut written {
            // Of several that are the same the first one is new.
            Ok(became) => Ok(became.of((row.source, row.hash))),
            Err(error) => Err(error.clone()),
        };
        let _ = answer.send(told);
    }
}

/// What became of rows, by source and hash. What is in neither was known.
#[derive(Default)]
struct Became {
    new: HashSet<(String, [u8; 32])>,
    again: HashSet<(String, [u8; 32])>,
}

impl Became {
    /// What became of a row. Of several that are the same the first one is told that it is new.
    fn of(&mut self, row: (String, [u8; 32])) -> Accepted {
        match (self.new.remove(&row), self.again.remove(&row)) {
            (true, _) => Accepted::New,
            (false, true) => Accepted::Again,
            (false, false) => Accepted::Known,
        }
    }
}

/// Inserts up to [`PER_COMMIT`] rows with one statement: each one is a message to the connection's thread and back.
/// `again`: the rows may be needed once more.
async fn insert(connection: &mut SqliteConnection, rows: &mut [Row], again: bool) -> Result<Became, sqlx::Error> {
    if rows.is_empty() {
        return Ok(Became::default());
    }
    let size = SIZES.into_iter().find(|size| *size >= rows.len()).unwrap_or(rows.len());
    let mut text =
        String::from("INSERT INTO deliveries (source, id, hash, event, repository, host, lane, body, at_ms) VALUES ");
    for place in 0..size {
        text.push_str(if place == 0 { "" } else { "," });
        text.push_str("(?,?,?,?,?,?,?,?,?)");
    }
    text.push_str(" ON CONFLICT DO NOTHING");
    // The text depends on nothing but the number of rows.
    let mut query = sqlx::query(AssertSqlSafe(text));
    for row in rows.iter_mut() {
        let body = if again { row.body.clone() } else { std::mem::take(&mut row.body) };
        query = query.bind(&row.source).bind(&row.id).bind(row.hash.as_slice()).bind(&row.event);
        query = query.bind(&row.repository).bind(&row.host).bind(&row.lane).bind(body).bind(row.at_ms);
    }
    // Places that are left over: one of them again, which is known by then.
    for row in rows.iter().cycle().take(size.saturating_sub(rows.len())) {
        query = query.bind(&row.source).bind(&row.id).bind(row.hash.as_slice()).bind(&row.event);
        query = query.bind(&row.repository).bind(&row.host).bind(&row.lane).bind(Vec::new()).bind(row.at_ms);
    }
    let inserted = query.execute(&mut *connection).await?.rows_affected();
    if inserted == rows.len() as u64 {
        let new = rows.iter().map(|row| (row.source.clone(), row.hash)).collect();
        return Ok(Became { new, again: HashSet::new() });
    }
    // Numbers only grow: the highest ones are those of this statement.
    let new: Vec<(String, Vec<u8>)> =
        sqlx::query_as("SELECT source, hash FROM deliveries ORDER BY number DESC LIMIT ?")
            .bind(i64::try_from(inserted).unwrap_or(i64::MAX))
            .fetch_all(&mut *connection)
            .await?;
    let new = new.into_iter().filter_map(|(source, hash)| Some((source, hash.try_into().ok()?))).collect();
    let mut became = Became { new, again: HashSet::new() };
    revive(connection, rows, &mut became).await?;
    Ok(became)
}

/// Has dead letters wait again, as if they had come now: those that the rest of the statement names.
macro_rules! wakes {
    () => {
        "UPDATE deliveries SET state = 'waiting', attempts = 0, due_ms = 0 WHERE state = 'dead' AND "
    };
}

/// Has those that are known as dead letters wait again.
async fn revive(connection: &mut SqliteConnection, rows: &[Row], became: &mut Became) -> Result<(), sqlx::Error> {
    let dead = "SELECT EXISTS (SELECT 1 FROM deliveries WHERE state = 'dead')";
    if !sqlx::query_scalar::<_, bool>(dead).fetch_one(&mut *connection).await? {
        return Ok(());
    }
    for row in rows {
        let key = (row.source.clone(), row.hash);
        if became.new.contains(&key) {
            continue;
        }
        let update = sqlx::query(concat!(wakes!(), "source = $1 AND (id = $2 OR hash = $3)"));
        let done = update.bind(&row.source).bind(&row.id).bind(row.hash.as_slice()).execute(&mut *connection).await?;
        if done.rows_affected() > 0 {
            became.again.insert(key);
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
    host: Option<String>,
    body: Vec<u8>,
    at_ms: i64,
    attempts: i64,
}

impl Waiting {
    fn unhandled(self) -> Result<Unhandled, String> {
        let hash = text::hex(&self.hash);
        let Self { number, source, id, event, repository, host, body, at_ms, attempts, .. } = self;
        let body = unpacked(&body)?;
        let delivery = Delivery { source, id, hash, event, repository, host, body, at_ms };
        Ok(Unhandled { number, delivery, attempts: u32::try_from(attempts).unwrap_or(u32::MAX) })
    }
}

/// What lists read of deliveries: not their bodies.
macro_rules! listed {
    () => {
        "SELECT number, source, id, event, repository, host, at_ms, state, attempts, note FROM deliveries"
    };
}

/// A delivery as lists show it, as it is read.
#[derive(FromRow)]
struct Listed {
    number: i64,
    source: String,
    id: String,
    event: String,
    repository: Option<String>,
    host: Option<String>,
    at_ms: i64,
    state: String,
    attempts: i64,
    note: Option<String>,
}

impl From<Listed> for Received {
    fn from(row: Listed) -> Self {
        let Listed { number, source, id, event, repository, host, at_ms, state, attempts, note } = row;
        Self { number, source, id, event, repository, host, at_ms, state, attempts, note }
    }
}

/// Whose turn a delivery waits for: its repository's, whoever told of it.
fn lane(host: &str, repository: &str) -> String {
    format!("{host} {}", repository.to_lowercase())
}

impl Database {
    /// The oldest deliveries that are due, by their numbers, up to `most`. However many wait, it is a look or two for each
    /// repository.
    async fn due(&self, most: u32, now_ms: i64, apart: &[Apart]) -> Result<Vec<i64>, sqlx::Error> {
        let apart = apart.iter().map(|it| lane(&it.host, &it.repository));
        let lanes: Vec<(String,)> = sqlx::query_as(
            "WITH RECURSIVE lanes (lane) AS (
                 SELECT min(lane) FROM deliveries WHERE state = 'waiting'
                 UNION ALL
                 SELECT (SELECT min(lane) FROM deliveries WHERE state = 'waiting' AND lane > lanes.lane)
                 FROM lanes WHERE lane IS NOT NULL)
             SELECT lane FROM lanes WHERE lane IS NOT NULL AND lane NOT IN (SELECT value FROM json_each($1))",
        )
        .bind(rows::text(&apart.collect::<Vec<_>>()))
        .fetch_all(&self.readers)
        .await?;
        let mut found = Vec::new();
        for (lane,) in lanes {
            let of_lane: Vec<(i64,)> = sqlx::query_as(
                "SELECT number FROM deliveries WHERE state = 'waiting' AND lane = $1 AND due_ms <= $2
                 ORDER BY due_ms, number LIMIT $3",
            )
            .bind(lane)
            .bind(now_ms)
            .bind(i64::from(most))
            .fetch_all(&self.readers)
            .await?;
            found.extend(of_lane.into_iter().map(|(number,)| number));
        }
        found.sort_unstable();
        found.truncate(most as usize);
        Ok(found)
    }
}

#[async_trait]
impl Inbox for Database {
    async fn accept(&self, delivery: Delivery) -> Result<Accepted, InboxError> {
        let Delivery { source, id, hash, event, repository, host, body, at_ms } = delivery;
        let large = body.len() > LARGE;
        let Some(hash) = text::unhex(&hash).and_then(|hash| hash.try_into().ok()) else {
            let message = "a delivery without its SHA-256: a mistake of this program".to_owned();
            return Err(InboxError { path: "serve.db".into(), message });
        };
        // The body itself is let go of here, not only after the commit.
        let packing = move || {
            let body = body;
            packed(&body)
        };
        let body = if large {
            tokio::task::spawn_blocking(packing).await.unwrap_or_else(|error| Err(error.to_string()))
        } else {
            packing()
        };
        let body = body.map_err(|message| InboxError { path: "serve.db".into(), message })?;
        let lane = lane(host.as_deref().unwrap_or_default(), repository.as_deref().unwrap_or_default());
        self.incoming.offer(Row { source, id, hash, event, repository, host, lane, body, at_ms }).await
    }

    async fn unhandled(&self, most: u32, now_ms: i64, apart: &[Apart]) -> Result<Vec<Unhandled>, InboxError> {
        // Where there is nothing to do the writer is not asked: this is looked at with each delivery that comes in.
        let found = self.due(most, now_ms, apart).await.map_err(|error| self.fault(&error))?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.incoming.change(move |connection| Box::pin(begun(connection, found, now_ms))).await?;
        Ok(found)
    }

    async fn handled(&self, number: i64, what: &Handled, now_ms: i64) -> Result<Vec<String>, InboxError> {
        let what = what.clone();
        self.incoming.change(move |connection| Box::pin(decided(connection, number, what, now_ms))).await
    }

    async fn put_off(&self, number: i64, due_ms: Option<i64>, counts: bool, note: &str) -> Result<(), InboxError> {
        let note = note.to_owned();
        self.incoming.change(move |connection| Box::pin(put_off(connection, number, due_ms, counts, note))).await
    }

    async fn again(&self, number: i64) -> Result<bool, InboxError> {
        let update = sqlx::query(concat!(wakes!(), "number = $1")).bind(number);
        let done = self.writer.whole(async |connection| Ok(update.execute(connection).await?.rows_affected()));
        Ok(done.await? > 0)
    }

    async fn received(&self, most: u32, dead: bool) -> Result<Vec<Received>, InboxError> {
        let found: Vec<Listed> = sqlx::query_as(if dead {
            concat!(listed!(), " WHERE state = 'dead' ORDER BY number DESC LIMIT $1")
        } else {
            concat!(listed!(), " ORDER BY number DESC LIMIT $1")
        })
        .bind(i64::from(most))
        .fetch_all(&self.readers)
        .await
        .map_err(|error| self.fault(&error))?;
        Ok(found.into_iter().map(Received::from).collect())
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

/// Takes deliveries that wait, and notes that handling them was begun. One whose body is damaged stays as a dead letter:
/// it keeps nobody waiting.
async fn begun(
    connection: &mut SqliteConnection,
    numbers: Vec<i64>,
    now_ms: i64,
) -> Result<Vec<Unhandled>, sqlx::Error> {
    let taken = sqlx::query_as::<_, Waiting>(
        "UPDATE deliveries SET attempts = attempts + 1
         WHERE number IN (SELECT value FROM json_each($2)) AND state = 'waiting' AND due_ms <= $1
         RETURNING number, source, id, hash, event, repository, host, body, at_ms, attempts",
    )
    .bind(now_ms)
    .bind(rows::text(&numbers))
    .fetch_all(&mut *connection)
    .await?;
    let mut found = Vec::with_capacity(taken.len());
    for waiting in taken {
        let number = waiting.number;
        match waiting.unhandled() {
            Ok(it) => found.push(it),
            Err(why) => put_off(connection, number, None, true, why).await?,
        }
    }
    found.sort_by_key(|it: &Unhandled| it.number);
    Ok(found)
}

/// Notes what was decided about a delivery, and makes its jobs; gives the ids of those that are new.
async fn decided(
    connection: &mut SqliteConnection,
    number: i64,
    what: Handled,
    now_ms: i64,
) -> Result<Vec<String>, sqlx::Error> {
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
        return Ok(Vec::new());
    }
    made(connection, number, &what, now_ms).await
}

/// Has a delivery looked at again later; `None`: never, it stays as a dead letter.
async fn put_off(
    connection: &mut SqliteConnection,
    number: i64,
    due_ms: Option<i64>,
    counts: bool,
    note: String,
) -> Result<(), sqlx::Error> {
    let query = sqlx::query(
        "UPDATE deliveries SET state = CASE WHEN $2 IS NULL THEN 'dead' ELSE 'waiting' END,
                               due_ms = coalesce($2, due_ms), note = $3, attempts = max(attempts - $4, 0)
         WHERE number = $1 AND state <> 'handled'",
    );
    query.bind(number).bind(due_ms).bind(note).bind(i64::from(!counts)).execute(connection).await.map(|_| ())
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
