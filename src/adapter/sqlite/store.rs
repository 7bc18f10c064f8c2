//! The port's operations as SQL.

use super::allowance;
use super::owner::{Life, Owner};
use super::{File, READERS, Writer};
use crate::model::account::{Ending, Spend};
use crate::model::budget::{Allowance, Scope, Standing};
use crate::model::experience::Experience;
use crate::model::id::{EffectKey, RunId};
use crate::model::journal::{Input, Row, RowBody};
use crate::model::usage::NanoUsd;
use crate::port::clock::Clock;
use crate::port::store::{Claim, Durable, Fence, Opening, RunHead, Store, StoreError, Summary};
use async_trait::async_trait;
use serde::Serialize;
use sqlx::{AssertSqlSafe, FromRow, SqliteConnection, SqlitePool};
use std::sync::Arc;

/// Rows per statement: eight values each, far below SQLite's 32,766.
const ROWS_PER_STATEMENT: usize = 500;

const INSERT: &str = "INSERT INTO journal (run, seq, at_ms, kind, type, key, step, body) ";

/// A run whose owner cannot be looked up from here (another machine, another container) may be taken over once
/// nothing was written for so long, in milliseconds. Safe even if the owner lives: its next append is refused.
const SILENCE_MS: i64 = 60 * 60 * 1000;

/// How many runs an ambiguous prefix names at most.
const CANDIDATES: i64 = 10;

/// The store.
pub(super) struct SqliteStore {
    file: File,
    /// Its commits are on the disk when they return, and with them whatever `soon` wrote before: there is one log.
    now: Writer,
    /// Its commits are not waited for: the end of the process loses nothing of them, a loss of power may.
    soon: Writer,
    readers: SqlitePool,
    clock: Arc<dyn Clock>,
}

/// A line of `runs`, as lists and look-ups read it.
#[derive(FromRow)]
struct RunLine {
    id: String,
    workflow: String,
    repo: String,
    created_ms: i64,
    ending: Option<String>,
    spend: String,
    reserved: i64,
    updated_ms: i64,
}

/// Where a run stands for its writers.
#[derive(FromRow)]
struct Hold {
    fence: i64,
    owner: Option<String>,
    last_seq: i64,
    updated_ms: i64,
}

impl SqliteStore {
    pub(super) fn new(file: File, (now, soon): (Writer, Writer), clock: Arc<dyn Clock>) -> Self {
        let readers = file.readers(READERS);
        Self { file, now, soon, readers, clock }
    }

    fn fault(&self, error: &sqlx::Error) -> StoreError {
        self.file.fault(error).into()
    }

    fn writer(&self, durable: Durable) -> &Writer {
        match durable {
            Durable::Now => &self.now,
            Durable::WithNext => &self.soon,
        }
    }
}

/// Where `run` stands; `None`: there is no such run.
async fn hold(connection: &mut SqliteConnection, run: &RunId) -> Result<Option<Hold>, sqlx::Error> {
    sqlx::query_as("SELECT fence, owner, last_seq, updated_ms FROM runs WHERE id = $1")
        .bind(run.as_str().to_owned())
        .fetch_optional(connection)
        .await
}

/// A row, ready to be bound.
struct Line {
    seq: i64,
    at_ms: i64,
    kind: &'static str,
    of: &'static str,
    key: Option<String>,
    step: Option<String>,
    body: String,
}

/// Rows as lines; refused where they do not follow `last` one by one.
fn lines(run: &RunId, last: u64, rows: &[Row]) -> Result<Vec<Line>, StoreError> {
    let mut last = last;
    let mut lines = Vec::with_capacity(rows.len());
    for row in rows {
        if row.seq != last.saturating_add(1) {
            return Err(StoreError::Gap { run: run.clone(), last, got: row.seq });
        }
        last = row.seq;
        let unreadable = |message: String| StoreError::Unreadable { run: run.clone(), seq: row.seq, message };
        let key = |key: &EffectKey| key.as_str().to_owned();
        let (kind, of, key, step) = match &row.body {
            RowBody::Input(input) => {
                let step = match input {
                    Input::DeadlinePassed { step } => step.clone(),
                    _ => None,
                };
                ("input", input.kind(), input.key().map(key), step)
            }
            RowBody::Intent(effect) => ("intent", effect.work.kind(), Some(key(&effect.key)), effect.step.clone()),
        };
        lines.push(Line {
            seq: i64::try_from(row.seq).map_err(|_| unreadable("its number is too large".into()))?,
            at_ms: row.at_ms,
            kind,
            of,
            key,
            step: step.map(|step| step.0),
            body: json(&row.body).map_err(unreadable)?,
        });
    }
    Ok(lines)
}

/// Makes a run with its first rows.
async fn begin(
    connection: &mut SqliteConnection,
    head: &RunHead,
    owner: &str,
    lines: Vec<Line>,
    summary: &Summary,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO runs (id, workflow, repo, created_ms, fence, owner, last_seq, ending, spend, reserved, updated_ms)
         VALUES ($1, $2, $3, $4, 1, $5, $6, $7, $8, $9, $10)",
    )
    .bind(head.id.as_str().to_owned())
    .bind(head.workflow.clone())
    .bind(head.repo.clone())
    .bind(head.created_ms)
    .bind(owner.to_owned())
    .bind(lines.len() as i64)
    .bind(ending_text(summary.ending))
    .bind(json(&summary.spend).unwrap_or_default())
    .bind(allowance::amount(summary.reserved))
    .bind(summary.updated_ms)
    .execute(&mut *connection)
    .await?;
    insert(connection, &head.id, lines).await
}

/// Writes lines, many to a statement: a statement costs more than a row.
async fn insert(connection: &mut SqliteConnection, run: &RunId, lines: Vec<Line>) -> Result<(), sqlx::Error> {
    let mut lines = lines.into_iter().peekable();
    while lines.peek().is_some() {
        let chunk: Vec<Line> = lines.by_ref().take(ROWS_PER_STATEMENT).collect();
        let mut text = String::from(INSERT);
        values(&mut text, chunk.len());
        // The text depends on nothing but the number of rows.
        let mut query = sqlx::query(AssertSqlSafe(text));
        for line in chunk {
            query = query.bind(run.as_str().to_owned()).bind(line.seq).bind(line.at_ms);
            query = query.bind(line.kind).bind(line.of).bind(line.key).bind(line.step).bind(line.body);
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// `VALUES` for so many lines.
fn values(text: &mut String, lines: usize) {
    text.push_str("VALUES ");
    for place in 0..lines {
        text.push_str(if place == 0 { "" } else { "," });
        text.push_str("(?,?,?,?,?,?,?,?)");
    }
}

fn json(value: &impl Serialize) -> Result<String, String> {
    serde_json::to_string(value).map_err(|error| format!("cannot be written: {error}"))
}

/// `ending` as its column holds it: the name without quotes.
fn ending_text(ending: Option<Ending>) -> Option<String> {
    let text = json(&ending?).ok()?;
    Some(text.trim_matches('"').to_owned())
}

impl RunLine {
    fn head(&self) -> RunHead {
        RunHead {
            id: RunId(self.id.clone()),
            workflow: self.workflow.clone(),
            repo: self.repo.clone(),
            created_ms: self.created_ms,
        }
    }

    /// The head and its summary. A summary of another version is left out, not refused: the journal is the truth.
    fn entry(&self) -> (RunHead, Summary) {
        let ending = self.ending.clone().and_then(|text| serde_json::from_value(text.into()).ok());
        let spend: Spend = serde_json::from_str(&self.spend).unwrap_or_default();
        let reserved = allowance::nano(self.reserved);
        (self.head(), Summary { ending, spend, reserved, updated_ms: self.updated_ms })
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn create(&self, head: &RunHead, rows: &[Row], owner: &str) -> Result<Fence, StoreError> {
        let lines = lines(&head.id, 0, rows)?;
        let summary = Summary { updated_ms: head.created_ms, ..Summary::default() };
        self.now
            .transaction(async |connection| {
                begin(connection, head, owner, lines, &summary).await?;
                Ok(Ok(Fence(1)))
            })
            .await
    }

    async fn admit(
        &self,
        head: &RunHead,
        claim: &Claim,
        first: &(dyn for<'a> Fn(&'a [Allowance]) -> Opening + Send + Sync),
        owner: &str,
    ) -> Result<Fence, StoreError> {
        self.now
            .transaction(async |connection| {
                let (given, marks) = allowance::offer(connection, &head.id, claim, NanoUsd::default()).await?;
                let opening = first(&given);
                let lines = match lines(&head.id, 0, &opening.rows) {
                    Ok(lines) => lines,
                    Err(error) => return Ok(Err(error)),
                };
                begin(connection, head, owner, lines, &opening.summary).await?;
                allowance::note(connection, &head.id, &marks).await?;
                Ok(Ok(Fence(1)))
            })
            .await
    }

    async fn readmit(&self, run: &RunId, fence: Fence, claim: &Claim) -> Result<Vec<Allowance>, StoreError> {
        self.now
            .transaction(async |connection| {
                match hold(connection, run).await? {
                    None => return Ok(Err(StoreError::NoSuchRun(run.0.clone()))),
                    Some(hold) if hold.fence != fence.0 => return Ok(Err(StoreError::Fenced(run.clone()))),
                    Some(_) => {}
                }
                let spent = allowance::settle_earlier(connection, run, claim).await?;
                let (given, marks) = allowance::offer(connection, run, claim, spent).await?;
                if let Some(nothing) = given.iter().find(|given| given.leaves_nothing(spent)) {
                    return Ok(Err(StoreError::NothingLeft(Box::new(nothing.clone()))));
                }
                allowance::note(connection, run, &marks).await?;
                Ok(Ok(given))
            })
            .await
    }

    async fn standing(&self, scope: Scope, prefix: &str) -> Result<Vec<Standing>, StoreError> {
        let mut reader = self.readers.acquire().await.map_err(|error| self.fault(&error))?;
        let now_ms = self.clock.now_ms();
        allowance::standing(&mut reader, scope, prefix, now_ms).await.map_err(|error| self.fault(&error))
    }

    async fn append_as(
        &self,
        durable: Durable,
        run: &RunId,
        fence: Fence,
        rows: &[Row],
        summary: &Summary,
    ) -> Result<(), StoreError> {
        let before = rows.first().map(|row| row.seq.saturating_sub(1));
        let lines = lines(run, before.unwrap_or(0), rows)?;
        // The update compares and swaps: the fence, and that the rows follow the last one. Where it changed nothing,
        // nothing is inserted, and the last number says so.
        let mut text = String::from(
            "BEGIN IMMEDIATE;
             UPDATE runs SET last_seq = last_seq + ?, ending = ?, spend = ?, updated_ms = ?, reserved = ?
             WHERE id = ? AND fence = ? AND last_seq = coalesce(?, last_seq);",
        );
        for chunk in lines.chunks(ROWS_PER_STATEMENT) {
            text.push_str(INSERT);
            text.push_str("SELECT * FROM (");
            values(&mut text, chunk.len());
            text.push_str(") WHERE changes() > 0;");
        }
        text.push_str("SELECT changes(); COMMIT");
        // The text depends on nothing but the number of rows.
        let mut query = sqlx::query_as::<_, (i64,)>(AssertSqlSafe(text))
            .bind(lines.len() as i64)
            .bind(ending_text(summary.ending))
            .bind(json(&summary.spend).unwrap_or_default())
            .bind(summary.updated_ms)
            .bind(allowance::amount(summary.reserved))
            .bind(run.as_str().to_owned())
            .bind(fence.0)
            .bind(before.map(|seq| seq as i64));
        for line in lines {
            query = query.bind(run.as_str().to_owned()).bind(line.seq).bind(line.at_ms);
            query = query.bind(line.kind).bind(line.of).bind(line.key).bind(line.step).bind(line.body);
        }
        let writer = self.writer(durable);
        let changed = writer.whole(async |connection| query.fetch_all(connection).await).await?;
        if changed.first().is_some_and(|(changed,)| *changed > 0) {
            return Ok(());
        }
        let mut reader = self.readers.acquire().await.map_err(|error| self.fault(&error))?;
        Err(match hold(&mut reader, run).await.map_err(|error| self.fault(&error))? {
            None => StoreError::NoSuchRun(run.0.clone()),
            Some(hold) if hold.fence != fence.0 => StoreError::Fenced(run.clone()),
            Some(hold) => StoreError::Gap {
                run: run.clone(),
                last: hold.last_seq as u64,
                got: before.unwrap_or(0).saturating_add(1),
            },
        })
    }

    async fn interrupt(&self, run: &RunId) -> Result<bool, StoreError> {
        let owner: Option<(Option<String>,)> = sqlx::query_as("SELECT owner FROM runs WHERE id = $1")
            .bind(run.as_str().to_owned())
            .fetch_optional(&self.readers)
            .await
            .map_err(|error| self.fault(&error))?;
        let Some((owner,)) = owner else { return Err(StoreError::NoSuchRun(run.0.clone())) };
        Ok(owner.and_then(|owner| Owner::parse(&owner)).is_some_and(|owner| owner.interrupt()))
    }

    async fn take(&self, run: &RunId, owner: &str) -> Result<Fence, StoreError> {
        let now_ms = self.clock.now_ms();
        self.now
            .transaction(async |connection| {
                let Some(hold) = hold(connection, run).await? else {
                    return Ok(Err(StoreError::NoSuchRun(run.0.clone())));
                };
                if let Some(holder) = hold.owner.as_deref().filter(|holder| *holder != owner)
                    && let Some(owner) = holds(holder, now_ms.saturating_sub(hold.updated_ms))
                {
                    return Ok(Err(StoreError::Held { run: run.clone(), owner }));
                }
                let fence = hold.fence.saturating_add(1);
                sqlx::query("UPDATE runs SET fence = $1, owner = $2 WHERE id = $3")
                    .bind(fence)
                    .bind(owner.to_owned())
                    .bind(run.as_str().to_owned())
                    .execute(&mut *connection)
                    .await?;
                Ok(Ok(Fence(fence)))
            })
            .await
    }

    async fn release(&self, run: &RunId, fence: Fence) -> Result<(), StoreError> {
        self.now
            .transaction(async |connection| {
                let changed = sqlx::query("UPDATE runs SET owner = NULL WHERE id = $1 AND fence = $2")
                    .bind(run.as_str().to_owned())
                    .bind(fence.0)
                    .execute(&mut *connection)
                    .await?
                    .rows_affected();
                if changed == 1 {
                    return Ok(Ok(()));
                }
                Ok(Err(match hold(connection, run).await? {
                    None => StoreError::NoSuchRun(run.0.clone()),
                    Some(_) => StoreError::Fenced(run.clone()),
                }))
            })
            .await
    }

    async fn rows(&self, run: &RunId) -> Result<Vec<Row>, StoreError> {
        let lines: Vec<(i64, i64, String)> =
            sqlx::query_as("SELECT seq, at_ms, body FROM journal WHERE run = $1 ORDER BY seq")
                .bind(run.as_str().to_owned())
                .fetch_all(&self.readers)
                .await
                .map_err(|error| self.fault(&error))?;
        if lines.is_empty() {
            let known: Option<(i64,)> = sqlx::query_as("SELECT 1 FROM runs WHERE id = $1")
                .bind(run.as_str().to_owned())
                .fetch_optional(&self.readers)
                .await
                .map_err(|error| self.fault(&error))?;
            known.ok_or_else(|| StoreError::NoSuchRun(run.0.clone()))?;
        }
        let mut rows = Vec::with_capacity(lines.len());
        for (place, (seq, at_ms, body)) in lines.into_iter().enumerate() {
            let seq = seq as u64;
            let unreadable = |message: String| StoreError::Unreadable { run: run.clone(), seq, message };
            if seq != place as u64 + 1 {
                return Err(unreadable(format!("row {} is missing: the journal is damaged", place + 1)));
            }
            let body = serde_json::from_str(&body).map_err(|error| {
                unreadable(format!(
                    "cannot be read ({error}): it is from a newer version of codeforge (use that one), or damaged"
                ))
            })?;
            rows.push(Row { seq, at_ms, body });
        }
        Ok(rows)
    }

    async fn runs(&self, limit: u32) -> Result<Vec<(RunHead, Summary)>, StoreError> {
        let lines: Vec<RunLine> = sqlx::query_as(
            "SELECT id, workflow, repo, created_ms, ending, spend, reserved, updated_ms FROM runs
             ORDER BY created_ms DESC, id DESC LIMIT $1",
        )
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
        .await
        .map_err(|error| self.fault(&error))?;
        Ok(lines.iter().map(RunLine::entry).collect())
    }

    async fn find(&self, prefix: &str) -> Result<RunHead, StoreError> {
        let prefix = prefix.trim().to_ascii_lowercase();
        let lines: Vec<RunLine> = sqlx::query_as(
            "SELECT id, workflow, repo, created_ms, ending, spend, reserved, updated_ms FROM runs
             WHERE substr(id, 1, length($1)) = $1 ORDER BY length(id), created_ms DESC, id DESC LIMIT $2",
        )
        .bind(prefix.clone())
        .bind(CANDIDATES)
        .fetch_all(&self.readers)
        .await
        .map_err(|error| self.fault(&error))?;
        match lines.as_slice() {
            [] => Err(StoreError::NoSuchRun(prefix)),
            [one] => Ok(one.head()),
            [first, ..] if first.id == prefix => Ok(first.head()),
            several => {
                Err(StoreError::Ambiguous { prefix, candidates: several.iter().map(|line| line.id.clone()).collect() })
            }
        }
    }

    async fn put(&self, key: &str, value: &str) -> Result<(), StoreError> {
        let now_ms = self.clock.now_ms();
        self.now
            .transaction(async |connection| {
                sqlx::query(
                    "INSERT INTO kept (key, value, written_ms) VALUES ($1, $2, $3)
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value, written_ms = excluded.written_ms",
                )
                .bind(key.to_owned())
                .bind(value.to_owned())
                .bind(now_ms)
                .execute(&mut *connection)
                .await?;
                Ok(Ok(()))
            })
            .await
    }

    async fn put_soon(&self, key: &str, value: &str) -> Result<(), StoreError> {
        let now_ms = self.clock.now_ms();
        let query = sqlx::query(
            "INSERT INTO kept (key, value, written_ms) VALUES ($1, $2, $3)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value, written_ms = excluded.written_ms",
        )
        .bind(key.to_owned())
        .bind(value.to_owned())
        .bind(now_ms);
        self.soon.whole(async |connection| query.execute(connection).await).await?;
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<Option<String>, StoreError> {
        let found: Option<(String,)> = sqlx::query_as("SELECT value FROM kept WHERE key = $1")
            .bind(key.to_owned())
            .fetch_optional(&self.readers)
            .await
            .map_err(|error| self.fault(&error))?;
        Ok(found.map(|(value,)| value))
    }

    async fn experience(&self) -> Result<Vec<Experience>, StoreError> {
        let lines: Vec<(String, String)> = sqlx::query_as("SELECT id, body FROM experience ORDER BY at_ms DESC, id")
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.fault(&error))?;
        let read = |(id, body): (String, String)| {
            serde_json::from_str(&body).map_err(|error| StoreError::Database {
                path: self.file.name(),
                message: format!(
                    "experience {id} cannot be read ({error}): it is from a newer version, or damaged; `codeforge \
                     experience forget {id}` takes it out"
                ),
            })
        };
        lines.into_iter().map(read).collect()
    }

    async fn remember(&self, new: &[Experience], gone: &[String]) -> Result<(), StoreError> {
        self.now
            .transaction(async |connection| {
                for id in gone {
                    sqlx::query("DELETE FROM experience WHERE id = $1")
                        .bind(id.clone())
                        .execute(&mut *connection)
                        .await?;
                }
                for entry in new {
                    let body = serde_json::to_string(entry).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
                    sqlx::query(
                        "INSERT INTO experience (id, mode, at_ms, body) VALUES ($1, $2, $3, $4)
                     ON CONFLICT (id) DO UPDATE SET mode = excluded.mode, at_ms = excluded.at_ms, body = excluded.body",
                    )
                    .bind(entry.id.clone())
                    .bind(entry.mode.clone())
                    .bind(entry.at_ms)
                    .bind(body)
                    .execute(&mut *connection)
                    .await?;
                }
                Ok(Ok(()))
            })
            .await
    }
}

/// The words for a holder that keeps the run to itself; `None`: the run may be taken over.
pub(super) fn holds(holder: &str, silent_ms: i64) -> Option<String> {
    let (life, words) = match Owner::parse(holder) {
        Some(owner) => (owner.life(&Owner::this()), owner.words()),
        None => (Life::OutOfSight, holder.to_owned()),
    };
    match life {
        Life::Gone => None,
        Life::Alive => Some(words),
        Life::OutOfSight if silent_ms >= SILENCE_MS => None,
        Life::OutOfSight => Some(format!(
            "{words}, which cannot be looked up from here; it wrote {} min ago, and after {} min of silence the run \
             can be taken over",
            silent_ms.max(0) / 60_000,
            SILENCE_MS / 60_000
        )),
    }
}
