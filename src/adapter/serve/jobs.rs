//! Jobs: the queue as SQL. Whatever decides who has a job is one transaction.

use super::rows::{COLUMNS, Line, from_word, narrow, rank, rule, text, word};
use super::{Database, answers, voice};
use crate::adapter::sqlite::{Life, Owner};
use crate::model::event::{Event, EventKind};
use crate::model::id::RunId;
use crate::model::job::{Answer, Job, JobEnd, JobState, Lease, NewJob, OnConflict, SKIPPED, Served, Verdict};
use crate::port::inbox::InboxError;
use crate::port::queue::{Added, Most, Queue, Renewed, Rest, Room, Voice, Which};
use async_trait::async_trait;
use sqlx::{FromRow, QueryBuilder, Sqlite, SqliteConnection};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// Whoever waited so long is treated as if it were one rank more urgent, in milliseconds: nobody waits for ever.
const PATIENCE_MS: i64 = 10 * 60 * 1000;
/// Jobs of one answer at most, where nobody says.
const MOST: u32 = 1000;

/// Whose group it is: repository, workflow, group.
#[derive(FromRow)]
pub(super) struct Group {
    id: String,
    forge: String,
    host: String,
    name: String,
    workflow: String,
    concurrency: Option<String>,
    on_conflict: String,
    in_line: bool,
}

/// The columns of a [`Group`].
pub(super) const GROUP: &str = "id, forge, host, name, workflow, concurrency, on_conflict, in_line";

/// Adds a job, as its group's rule says; `delivery`: what it comes of. One whose key is known is left as it is, unless the
/// job that has it gives it up.
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
    let (on_conflict, in_line) = rule(job.on_conflict);
    let mut known = Vec::new();
    for line in holders(connection, job).await? {
        let holds = line.key == job.key;
        match line.job() {
            Ok(it) => known.push(it),
            // It says nothing of its event.
            Err((id, _)) if holds => return Ok(Added::Known(id)),
            Err(_) => {}
        }
    }
    let holds = known.iter().position(|it| it.new.key == job.key).map(|place| known.swap_remove(place));
    if let Some(holder) = holds {
        if !holder.gives_way_to(&job.event, &known) {
            return Ok(Added::Known(holder.id));
        }
        free(connection, &holder.id).await?;
    }
    let number = |number: u64| i64::try_from(number).ok();
    let change = job.event.change.as_ref();
    let issue = job.event.issue.as_ref().filter(|_| change.is_none()).and_then(|issue| number(issue.number));
    sqlx::query(
        "INSERT INTO jobs (id, forge, host, name, workflow, key, change, event, delivery, actor, concurrency,
                           on_conflict, priority, due_ms, settings, approval, state, created_ms, updated_ms, issue, in_line)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $18, $19, $20)",
    )
    .bind(id.clone())
    .bind(forge.clone())
    .bind(host.clone())
    .bind(name.clone())
    .bind(job.workflow.clone())
    .bind(job.key.clone())
    .bind(change.and_then(|change| number(change.number)))
    .bind(text(&job.event))
    .bind(delivery)
    .bind(job.actor.clone())
    .bind(job.group.clone())
    .bind(on_conflict.clone())
    .bind(rank(job.priority))
    .bind(job.due_ms)
    .bind(text(&job.settings))
    .bind(job.approval.as_ref().map(text))
    .bind(word(&state))
    .bind(now_ms)
    .bind(issue)
    .bind(in_line)
    .execute(&mut *connection)
    .await?;
    // Who waits for a yes has no place in its group yet.
    if state == JobState::Waiting && job.group.is_some() {
        let (workflow, concurrency) = (job.workflow.clone(), job.group.clone());
        let group = Group { id: id.clone(), forge, host, name, workflow, concurrency, on_conflict, in_line };
        if !takes_its_place(connection, &group, now_ms).await? {
            return Ok(Added::Skipped(id));
        }
    }
    Ok(Added::New(id))
}

/// What stands between the key that a job gave up and the job's id.
const WAS: &str = "+was-";

/// The job that has a new one's key, and those that gave it up.
async fn holders(connection: &mut SqliteConnection, job: &NewJob) -> Result<Vec<Line>, sqlx::Error> {
    let Served { forge, host, name } = &job.repository;
    let given_up = format!("{}{WAS}", job.key);
    let mut query = QueryBuilder::<Sqlite>::new("SELECT ");
    query.push(COLUMNS).push(" FROM jobs WHERE forge = ").push_bind(word(forge));
    query.push(" AND host = ").push_bind(host.clone()).push(" AND name = ").push_bind(name.clone());
    query.push(" AND (key = ").push_bind(job.key.clone());
    query.push(" OR key > ").push_bind(given_up.clone()).push(" AND key < ").push_bind(format!("{given_up}~"));
    query.push(")");
    query.build_query_as().fetch_all(connection).await
}

/// Lets a job give up its key, once: the same event may make another one.
async fn free(connection: &mut SqliteConnection, id: &str) -> Result<(), sqlx::Error> {
    let query = sqlx::query("UPDATE jobs SET key = key || $2 || id WHERE id = $1 AND instr(key, $2) = 0");
    let query = query.bind(id.to_owned()).bind(WAS);
    query.execute(connection).await.map(|_| ())
}

/// What a job that came to wait does to the others of its group. False: it was dropped.
pub(super) async fn takes_its_place(
    connection: &mut SqliteConnection,
    group: &Group,
    now_ms: i64,
) -> Result<bool, sqlx::Error> {
    let Group { id, forge, host, name, workflow, concurrency, on_conflict, in_line } = group;
    let Some(concurrency) = concurrency.as_ref().filter(|_| !in_line) else { return Ok(true) };
    let others: Vec<(String, String, bool)> = sqlx::query_as(
        // One that was begun before keeps its place under `queue`: its work is half done. So does one that stands in line.
        "SELECT id, state, fence > 0 OR in_line FROM jobs
         WHERE forge = $1 AND host = $2 AND name = $3 AND workflow = $4 AND concurrency = $5 AND id <> $6
               AND state IN ('waiting', 'running') ORDER BY created_ms, rowid",
    )
    .bind(forge.clone())
    .bind(host.clone())
    .bind(name.clone())
    .bind(workflow.clone())
    .bind(concurrency.clone())
    .bind(id.clone())
    .fetch_all(&mut *connection)
    .await?;
    let Some((first, ..)) = others.first() else { return Ok(true) };
    if *on_conflict == word(&OnConflict::Skip) {
        let note = format!("{SKIPPED}{first} of its group is under way");
        stop(connection, id, &note, now_ms).await?;
        return Ok(false);
    }
    for (other, state, keeps) in &others {
        let waits = *state == word(&JobState::Waiting);
        if *on_conflict == word(&OnConflict::Cancel) || waits && !keeps {
            let note = format!("job {id} of the same group came after it and takes its place");
            stop(connection, other, &note, now_ms).await?;
        }
    }
    Ok(true)
}

/// Ends a job that is not over: at once where nobody has it, else at its worker's next renewal.
async fn stop(connection: &mut SqliteConnection, id: &str, note: &str, now_ms: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE jobs SET cancel = CASE WHEN state = 'running' THEN coalesce(cancel, $2) END,
                         note = CASE WHEN state = 'running' THEN note ELSE $2 END,
                         state = CASE WHEN state = 'running' THEN state ELSE 'cancelled' END,
                         updated_ms = $3
         WHERE id = $1 AND state IN ('asked', 'waiting', 'running')",
    )
    .bind(id.to_owned())
    .bind(note.to_owned())
    .bind(now_ms)
    .execute(connection)
    .await?;
    Ok(())
}

/// Cancels what is asked for and is not over. Jobs that nobody named are ended because what they are about is not so any
/// more (a change was closed, or pushed to). Those for what forges tell of its head give up their key: where it comes to be
/// so again, there is none that is at work for that.
pub(super) async fn cancel(
    connection: &mut SqliteConnection,
    which: &Which,
    note: &str,
    now_ms: i64,
) -> Result<Vec<String>, sqlx::Error> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "SELECT id, json_extract(event, '$.kind') FROM jobs WHERE state IN ('asked', 'waiting', 'running')",
    );
    narrow(&mut query, which);
    let found: Vec<(String, String)> = query.build_query_as().fetch_all(&mut *connection).await?;
    for (id, kind) in &found {
        stop(connection, id, note, now_ms).await?;
        if which.id.is_none() && kind == EventKind::PullRequest.as_str() {
            free(connection, id).await?;
        }
    }
    Ok(found.into_iter().map(|(id, _)| id).collect())
}

impl Database {
    fn unreadable(&self, message: String) -> InboxError {
        self.fault(&sqlx::Error::Protocol(message))
    }
}

#[async_trait]
impl Queue for Database {
    async fn add(&self, job: &NewJob, now_ms: i64) -> Result<Added, InboxError> {
        self.writer.transaction(async |connection| add(connection, job, None, now_ms).await.map(Ok)).await
    }

    async fn lease(
        &self,
        worker: &str,
        room: Room,
        now_ms: i64,
        for_ms: i64,
    ) -> Result<Option<(Job, Lease)>, InboxError> {
        let until_ms = now_ms.saturating_add(for_ms);
        let line: Option<Line> = self
            .writer
            .transaction(async |connection| {
                // Nobody is left to be told.
                sqlx::query(
                    "UPDATE jobs SET state = 'cancelled', note = cancel, cancel = NULL, worker = NULL, lease_ms = NULL,
                                     updated_ms = $1
                     WHERE state = 'running' AND lease_ms <= $1 AND cancel IS NOT NULL",
                )
                .bind(now_ms)
                .execute(&mut *connection)
                .await?;
                // A lease that ran out holds no place: its worker is gone, or finds that out when it comes back.
                let next: Option<(String, String, String, String)> = sqlx::query_as(
                    "SELECT j.id, j.forge, j.host, j.name FROM jobs j
                     LEFT JOIN turns t ON t.forge = j.forge AND t.host = j.host AND t.name = j.name
                     WHERE (j.state = 'waiting' AND j.due_ms <= $1 OR j.state = 'running' AND j.lease_ms <= $1)
                       AND (j.concurrency IS NULL OR NOT EXISTS (
                             SELECT 1 FROM jobs o WHERE o.id <> j.id
                                AND (o.state = 'running' AND o.lease_ms > $1
                                     OR j.in_line AND o.in_line AND o.rowid < j.rowid AND o.state IN ('waiting', 'running'))
                                AND o.forge = j.forge AND o.host = j.host AND o.name = j.name
                                AND o.workflow = j.workflow AND o.concurrency = j.concurrency))
                       AND (SELECT count(*) FROM jobs r WHERE r.state = 'running' AND r.lease_ms > $1 AND r.id <> j.id
                             AND r.forge = j.forge AND r.host = j.host AND r.name = j.name) < $2
                     ORDER BY max(0, j.priority - max(0, $1 - max(j.due_ms, j.created_ms)) / $3),
                              coalesce(t.served_ms, 0), j.created_ms, j.rowid
                     LIMIT 1",
                )
                .bind(now_ms)
                .bind(i64::from(room.per_repository))
                .bind(PATIENCE_MS)
                .fetch_optional(&mut *connection)
                .await?;
                let Some((id, forge, host, name)) = next else { return Ok(Ok::<_, InboxError>(None)) };
                sqlx::query(
                    "INSERT INTO turns (forge, host, name, served_ms)
                     VALUES ($1, $2, $3, max($4, (SELECT coalesce(max(served_ms), 0) + 1 FROM turns)))
                     ON CONFLICT (forge, host, name) DO UPDATE SET served_ms = excluded.served_ms",
                )
                .bind(forge)
                .bind(host)
                .bind(name)
                .bind(now_ms)
                .execute(&mut *connection)
                .await?;
                let mut query = QueryBuilder::<Sqlite>::new("UPDATE jobs SET state = 'running', fence = fence + 1, ");
                query.push("attempts = attempts + 1, worker = ").push_bind(worker.to_owned());
                query.push(", lease_ms = ").push_bind(until_ms).push(", updated_ms = ").push_bind(now_ms);
                query.push(", note = NULL WHERE id = ").push_bind(id).push(" RETURNING ").push(COLUMNS);
                Ok(Ok(Some(query.build_query_as().fetch_one(&mut *connection).await?)))
            })
            .await?;
        let Some(line) = line else { return Ok(None) };
        let lease = Lease { job: line.id.clone(), fence: line.fence, until_ms };
        match line.job() {
            Ok(job) => Ok(Some((job, lease))),
            Err((_, why)) => {
                // It would come first again and again.
                self.end(&lease, &JobEnd::Dead { note: why }, now_ms).await?;
                Ok(None)
            }
        }
    }

    async fn orphans(&self, now_ms: i64) -> Result<u64, InboxError> {
        let held: Vec<(String, i64, Option<String>)> =
            sqlx::query_as("SELECT id, fence, worker FROM jobs WHERE state = 'running'")
                .fetch_all(&self.readers)
                .await
                .map_err(|error| self.fault(&error))?;
        let here = Owner::of(std::process::id());
        let mut freed = 0;
        for (id, fence, worker) in held {
            // A worker's name begins with its process.
            let owner = worker.as_deref().and_then(|worker| Owner::parse(worker.split_once('/')?.0));
            if !owner.is_some_and(|owner| owner.life(&here) == Life::Gone) {
                continue;
            }
            let query = sqlx::query("UPDATE jobs SET lease_ms = $3 WHERE id = $1 AND fence = $2 AND state = 'running'")
                .bind(id)
                .bind(fence)
                .bind(now_ms);
            freed += self.writer.whole(async |connection| query.execute(connection).await).await?.rows_affected();
        }
        Ok(freed)
    }

    async fn renew(&self, lease: &Lease, now_ms: i64, for_ms: i64) -> Result<Renewed, InboxError> {
        let until_ms = now_ms.saturating_add(for_ms);
        // Whose lease ran out has lost its place in its group once another one took it.
        let query = sqlx::query_as::<_, (Option<String>,)>(
            "UPDATE jobs SET lease_ms = $3 WHERE id = $1 AND fence = $2 AND state = 'running'
                AND (lease_ms > $4 OR concurrency IS NULL OR NOT EXISTS (
                       SELECT 1 FROM jobs o WHERE o.state = 'running' AND o.lease_ms > $4 AND o.id <> jobs.id
                          AND o.forge = jobs.forge AND o.host = jobs.host AND o.name = jobs.name
                          AND o.workflow = jobs.workflow AND o.concurrency = jobs.concurrency))
             RETURNING cancel",
        )
        .bind(lease.job.clone())
        .bind(lease.fence)
        .bind(until_ms)
        .bind(now_ms);
        let held = self.writer.whole(async |connection| query.fetch_optional(connection).await).await?;
        Ok(match held {
            None => Renewed::Lost,
            Some((Some(note),)) => Renewed::Cancelled(note),
            Some((None,)) => Renewed::Held(Lease { until_ms, ..lease.clone() }),
        })
    }

    async fn end(&self, lease: &Lease, end: &JobEnd, now_ms: i64) -> Result<bool, InboxError> {
        let mut query = QueryBuilder::<Sqlite>::new("UPDATE jobs SET worker = NULL, lease_ms = NULL, updated_ms = ");
        query.push_bind(now_ms);
        // What is to go on, and was to stop, stops here.
        let goes_on = |query: &mut QueryBuilder<Sqlite>| {
            query.push(", state = CASE WHEN cancel IS NULL THEN 'waiting' ELSE 'cancelled' END");
        };
        match end {
            JobEnd::Done { conclusion, cost_usd, url, note } => {
                query.push(", state = 'done', conclusion = ").push_bind(conclusion.clone());
                query.push(", cost_usd = coalesce(").push_bind(cost_usd.clone()).push(", cost_usd)");
                query.push(", url = coalesce(").push_bind(url.clone()).push(", url)");
                query.push(", note = ").push_bind(note.clone());
            }
            JobEnd::Again { due_ms, note } => {
                goes_on(&mut query);
                query.push(", due_ms = ").push_bind(*due_ms);
                query.push(", note = coalesce(cancel, ").push_bind(note.clone()).push(")");
            }
            JobEnd::Dead { note } => {
                query.push(", state = 'dead', note = ").push_bind(note.clone());
            }
            JobEnd::Cancelled { note } => {
                query.push(", state = 'cancelled', note = ").push_bind(note.clone());
            }
            JobEnd::Back => {
                goes_on(&mut query);
                query.push(", attempts = max(0, attempts - 1), note = coalesce(cancel, note)");
            }
        }
        query.push(", cancel = NULL WHERE state = 'running' AND id = ").push_bind(lease.job.clone());
        query.push(" AND fence = ").push_bind(lease.fence);
        let ended = self.writer.whole(async |connection| query.build().execute(connection).await).await?;
        Ok(ended.rows_affected() > 0)
    }

    async fn begins(&self, lease: &Lease, event: &Event) -> Result<bool, InboxError> {
        let query = sqlx::query("UPDATE jobs SET event = $3 WHERE id = $1 AND fence = $2 AND state = 'running'")
            .bind(lease.job.clone())
            .bind(lease.fence)
            .bind(text(event));
        let begun = self.writer.whole(async |connection| query.execute(connection).await).await?;
        Ok(begun.rows_affected() > 0)
    }

    async fn jobs(&self, which: &Which) -> Result<Vec<Job>, InboxError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT ");
        query.push(COLUMNS).push(" FROM jobs WHERE true");
        narrow(&mut query, which);
        query.push(" ORDER BY created_ms DESC, rowid DESC LIMIT ");
        query.push_bind(i64::from(if which.most == 0 { MOST } else { which.most }));
        let lines: Vec<Line> =
            query.build_query_as().fetch_all(&self.readers).await.map_err(|error| self.fault(&error))?;
        lines.into_iter().map(|line| line.job().map_err(|(_, why)| self.unreadable(why))).collect()
    }

    async fn cancel(&self, which: &Which, note: &str, now_ms: i64) -> Result<Vec<String>, InboxError> {
        self.writer.transaction(async |connection| cancel(connection, which, note, now_ms).await.map(Ok)).await
    }

    async fn answer(&self, id: &str, answer: &Answer) -> Result<Option<Job>, InboxError> {
        let now_ms = answer.at_ms;
        self.writer
            .transaction(async |connection| {
                let asked: Option<(i64,)> = sqlx::query_as("SELECT 1 FROM jobs WHERE id = $1 AND state = 'asked'")
                    .bind(id.to_owned())
                    .fetch_optional(&mut *connection)
                    .await?;
                if asked.is_none() {
                    return Ok(Ok(None));
                }
                answers::keep(connection, id, answer).await?;
                match answer.verdict {
                    Verdict::Approved => answers::approve(connection, id, answer).await?,
                    Verdict::Denied => {
                        let note = answer.note.clone().unwrap_or_else(|| format!("{} said no", answer.by));
                        stop(connection, id, &note, now_ms).await?;
                    }
                    Verdict::Refused => {}
                }
                let mut query = QueryBuilder::<Sqlite>::new("SELECT ");
                query.push(COLUMNS).push(" FROM jobs WHERE id = ").push_bind(id.to_owned());
                let line: Line = query.build_query_as().fetch_one(&mut *connection).await?;
                Ok(line.job().map(Some).map_err(|(_, why)| self.unreadable(why)))
            })
            .await
    }

    async fn answers(&self, id: &str) -> Result<Vec<Answer>, InboxError> {
        answers::of(&self.readers, id).await.map_err(|error| self.fault(&error))
    }

    async fn requeue(&self, id: &str, now_ms: i64) -> Result<bool, InboxError> {
        self.writer
            .transaction(async |connection| {
                let mut query = QueryBuilder::<Sqlite>::new(
                    "UPDATE jobs SET state = 'waiting', attempts = 0, rounds = rounds + 1, conclusion = NULL,
                                     note = 'put back: a new run', cancel = NULL, due_ms = ",
                );
                query.push_bind(now_ms).push(", updated_ms = ").push_bind(now_ms);
                query.push(
                    " WHERE state IN ('done', 'cancelled', 'dead') AND (approval IS NULL OR approved_by IS NOT NULL)",
                );
                query.push(" AND id = ").push_bind(id.to_owned()).push(" RETURNING ").push(GROUP);
                let group: Option<Group> = query.build_query_as().fetch_optional(&mut *connection).await?;
                let Some(group) = group else { return Ok(Ok::<_, InboxError>(false)) };
                takes_its_place(connection, &group, now_ms).await.map(Ok)
            })
            .await
    }

    async fn at_rest(&self, id: &str, before_ms: i64, then: &(dyn Fn() + Send + Sync)) -> Result<Rest, InboxError> {
        self.writer
            .transaction(async |connection| {
                let found: Option<(String, i64)> = sqlx::query_as("SELECT state, updated_ms FROM jobs WHERE id = $1")
                    .bind(id.to_owned())
                    .fetch_optional(&mut *connection)
                    .await?;
                let Some((state, updated_ms)) = found else { return Ok(Ok::<_, InboxError>(Rest::Unknown)) };
                let over = from_word(&state).is_some_and(JobState::is_over);
                if !over || updated_ms >= before_ms {
                    return Ok(Ok(Rest::Needed));
                }
                then();
                Ok(Ok(Rest::Done))
            })
            .await
    }

    async fn counts(&self) -> Result<Vec<(JobState, u64)>, InboxError> {
        let found: Vec<(String, i64)> =
            sqlx::query_as("SELECT state, count(*) FROM jobs GROUP BY state ORDER BY state")
                .fetch_all(&self.readers)
                .await
                .map_err(|error| self.fault(&error))?;
        Ok(found.into_iter().filter_map(|(state, count)| Some((from_word(&state)?, count.unsigned_abs()))).collect())
    }

    async fn shown_otherwise(&self, since_ms: i64, most: u32) -> Result<Vec<(Served, String)>, InboxError> {
        let found: Vec<(String, String, String, String)> = sqlx::query_as(
            // Of each repository its own: one whose forge is away keeps nobody else's from being found.
            "SELECT forge, host, name, id FROM (
                SELECT j.forge, j.host, j.name, j.id, j.updated_ms,
                       row_number() OVER (PARTITION BY j.forge, j.host, j.name ORDER BY j.updated_ms) AS place
                FROM jobs j LEFT JOIN notes n ON n.name = 'shown/' || j.id
                WHERE j.state IN ('done', 'cancelled', 'dead') AND j.updated_ms >= $1
                      AND CASE WHEN n.value IS NULL
                               THEN j.change IS NOT NULL OR j.issue IS NOT NULL
                               ELSE n.value NOT LIKE '% ' || j.state || ' %' END)
             WHERE place <= $2 ORDER BY updated_ms",
        )
        .bind(since_ms)
        .bind(i64::from(most))
        .fetch_all(&self.readers)
        .await
        .map_err(|error| self.fault(&error))?;
        let served = |(forge, host, name, id): (String, String, String, String)| {
            Some((Served { forge: from_word(&forge)?, host, name }, id))
        };
        Ok(found.into_iter().filter_map(served).collect())
    }

    async fn voice(&self, job: &str) -> Result<Option<Voice>, InboxError> {
        voice::take(&self.folder, job)
    }

    async fn note(&self, name: &str) -> Result<Option<String>, InboxError> {
        let found: Option<(String,)> = sqlx::query_as("SELECT value FROM notes WHERE name = $1")
            .bind(name.to_owned())
            .fetch_optional(&self.readers)
            .await
            .map_err(|error| self.fault(&error))?;
        Ok(found.map(|(value,)| value))
    }

    async fn keep_note(&self, name: &str, value: &str) -> Result<(), InboxError> {
        Ok(self.writer.whole(async |connection| keep_note(connection, name, value).await).await?)
    }

    async fn count_one(&self, name: &str, what: &str, most: Most, now_ms: i64) -> Result<bool, InboxError> {
        self.writer
            .transaction(async |connection| {
                let kept: Option<(String,)> = sqlx::query_as("SELECT value FROM notes WHERE name = $1")
                    .bind(name.to_owned())
                    .fetch_optional(&mut *connection)
                    .await?;
                // Versions before this kept the instants alone: what they counted is forgotten.
                let kept = kept.and_then(|(value,)| serde_json::from_str(&value).ok());
                let mut counted: Vec<(i64, String)> = kept.unwrap_or_default();
                counted.retain(|(at_ms, _)| now_ms.saturating_sub(*at_ms) < most.within_ms);
                if counted.iter().any(|(_, known)| known == what) {
                    return Ok(Ok::<_, InboxError>(true));
                }
                if counted.len() >= most.of as usize {
                    return Ok(Ok(false));
                }
                counted.push((now_ms, what.to_owned()));
                keep_note(connection, name, &text(&counted)).await?;
                Ok(Ok(true))
            })
            .await
    }

    async fn old_notes(&self, prefix: &str, after: &str, before_ms: i64, most: u32) -> Result<Vec<String>, InboxError> {
        let found: Vec<(String,)> = sqlx::query_as(
            "SELECT name FROM notes WHERE name >= $1 AND name > $2 AND substr(name, 1, length($1)) = $1
                                      AND written_ms < $3 ORDER BY name LIMIT $4",
        )
        .bind(prefix.to_owned())
        .bind(after.to_owned())
        .bind(before_ms)
        .bind(i64::from(most))
        .fetch_all(&self.readers)
        .await
        .map_err(|error| self.fault(&error))?;
        Ok(found.into_iter().map(|(name,)| name).collect())
    }

    async fn forget_note(&self, name: &str, before_ms: i64) -> Result<bool, InboxError> {
        let query =
            sqlx::query("DELETE FROM notes WHERE name = $1 AND written_ms < $2").bind(name.to_owned()).bind(before_ms);
        let gone = self.writer.whole(async |connection| query.execute(connection).await).await?;
        Ok(gone.rows_affected() > 0)
    }
}

async fn keep_note(connection: &mut SqliteConnection, name: &str, value: &str) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO notes (name, value, written_ms) VALUES ($1, $2, unixepoch() * 1000)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value, written_ms = excluded.written_ms",
    )
    .bind(name.to_owned())
    .bind(value.to_owned())
    .execute(connection)
    .await
    .map(|_| ())
}
