//! What every store promises, and what the SQLite one promises beyond that.
//!
//! The scenarios of [`compliance`] know nothing but `dyn Store`: another implementation runs them by giving a
//! [`Home`] of its own.

use async_trait::async_trait;
use codeforge::adapter::sqlite;
use codeforge::model::account::{Ending, Spend};
use codeforge::model::experience::Experience;
use codeforge::model::id::{EffectKey, RunId, StepId};
use codeforge::model::journal::{Effect, Input, Row, RowBody, Work};
use codeforge::model::usage::{NanoUsd, Usage};
use codeforge::port::clock::Clock;
use codeforge::port::store::{Fence, RunHead, Store, StoreError, Summary};
use serde::{Deserialize, Serialize};
use sqlx::{ConnectOptions, Connection};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// A clock that stands where it was put.
struct Held(AtomicI64);

#[async_trait]
impl Clock for Held {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
    async fn sleep(&self, _: Duration) {}
}

/// A database that can be opened many times, as many processes would.
#[async_trait]
trait Home: Send + Sync {
    async fn open(&self) -> Arc<dyn Store>;
    fn clock(&self) -> &Held;
}

struct File {
    dir: tempfile::TempDir,
    clock: Arc<Held>,
}

impl File {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), clock: Arc::new(Held(AtomicI64::new(1_000_000))) }
    }
    fn state(&self) -> PathBuf {
        self.dir.path().join("codeforge")
    }
    async fn raw(&self) -> sqlx::SqliteConnection {
        raw(&self.state()).await
    }
}

async fn raw(state: &Path) -> sqlx::SqliteConnection {
    sqlx::sqlite::SqliteConnectOptions::new().filename(state.join("journal.db")).connect().await.unwrap()
}

#[async_trait]
impl Home for File {
    async fn open(&self) -> Arc<dyn Store> {
        sqlite::open(&self.state(), self.clock.clone()).await.unwrap()
    }
    fn clock(&self) -> &Held {
        &self.clock
    }
}

fn head(id: &str, created_ms: i64) -> RunHead {
    RunHead { id: RunId::from(id), workflow: "fix".into(), repo: "/home/ada/parser".into(), created_ms }
}

/// Two rows, a fact and an intent, after row `last`.
fn rows(run: &str, last: u64) -> Vec<Row> {
    let key = EffectKey::derive(&RunId::from(run), "implement", 0, 1, last as u32, "call_model");
    let effect = Effect {
        key,
        step: Some(StepId::from("implement")),
        iteration: 0,
        attempt: 1,
        work: Work::CallModel {
            model: 0,
            purpose: Default::default(),
            why: String::new(),
            reserved_tokens: 9,
            reserved_cost: None,
            request_hash: "ab12".into(),
        },
    };
    let fact = Input::CancelRequested { reason: format!("zażółć \u{1f980} \0 \u{1b}[31m ' -- {last}") };
    vec![
        Row { seq: last + 1, at_ms: 7, body: RowBody::Input(fact) },
        Row { seq: last + 2, at_ms: 8, body: RowBody::Intent(effect) },
    ]
}

fn summary(ending: Option<Ending>, updated_ms: i64) -> Summary {
    let usage = Usage { input: 84_120, output: 3_911, cache_read: 60_000, cache_write: 12 };
    let spend = Spend { usage, cost: NanoUsd(183_000_001), unknown_calls: 1, calls: 9 };
    Summary { ending, spend, reserved: NanoUsd(7), updated_ms }
}

/// The owner string of a process that lives as long as its guard.
struct Neighbour(
    Child,
    String,
    #[expect(dead_code, reason = "open as long as the child is to live")] std::process::ChildStdin,
);

impl Neighbour {
    fn start() -> Self {
        let (child, mut out, input) = child(&Errand { state: PathBuf::new(), run: String::new(), job: Job::Live });
        let owner = line_with(&mut out, "owner ").unwrap();
        Self(child, owner, input)
    }
    fn end(mut self) -> String {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        std::mem::take(&mut self.1)
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What every store promises.
mod compliance {
    use super::*;

    pub async fn a_journal_comes_back_as_it_was_written(home: &dyn Home) {
        let store = home.open().await;
        let fence = store.create(&head("7f3k9m2q", 100), &rows("7f3k9m2q", 0), "me").await.unwrap();
        let run = RunId::from("7f3k9m2q");
        store.append(&run, fence, &rows("7f3k9m2q", 2), &summary(None, 200)).await.unwrap();
        let many: Vec<Row> = (0..1500).flat_map(|pair| rows("7f3k9m2q", 4 + 2 * pair)).collect();
        store.append(&run, fence, &many, &summary(Some(Ending::Done), 300)).await.unwrap();

        let all = [rows("7f3k9m2q", 0), rows("7f3k9m2q", 2), many].concat();
        assert_eq!(home.open().await.rows(&run).await.unwrap(), all, "another process reads the same");
        let listed = store.runs(10).await.unwrap();
        assert_eq!(listed, [(head("7f3k9m2q", 100), summary(Some(Ending::Done), 300))]);
        let nobody = store.rows(&RunId::from("7f3k")).await;
        assert!(matches!(nobody, Err(StoreError::NoSuchRun(id)) if id == "7f3k"), "rows() takes whole ids only");
    }

    pub async fn a_gap_or_a_stale_fence_writes_nothing(home: &dyn Home) {
        let store = home.open().await;
        let run = RunId::from("aaaaaaaa");
        let fence = store.create(&head("aaaaaaaa", 1), &rows("aaaaaaaa", 0), "me").await.unwrap();
        let ahead = store.append(&run, fence, &rows("aaaaaaaa", 3), &summary(None, 9)).await;
        assert!(matches!(ahead, Err(StoreError::Gap { last: 2, got: 4, .. })), "{ahead:?}");
        let again = store.append(&run, fence, &rows("aaaaaaaa", 0), &summary(None, 9)).await;
        assert!(matches!(again, Err(StoreError::Gap { last: 2, got: 1, .. })), "{again:?}");
        let mut torn = rows("aaaaaaaa", 2);
        torn[1].seq = 9;
        let torn = store.append(&run, fence, &torn, &summary(None, 9)).await;
        assert!(matches!(torn, Err(StoreError::Gap { last: 3, got: 9, .. })), "{torn:?}");

        let newer = home.open().await.take(&run, "me").await.unwrap();
        assert!(newer > fence);
        let stale = store.append(&run, fence, &rows("aaaaaaaa", 2), &summary(None, 9)).await;
        assert!(matches!(stale, Err(StoreError::Fenced(_))), "{stale:?}");
        let stale = store.append(&run, fence, &[], &summary(Some(Ending::Done), 9)).await;
        assert!(matches!(stale, Err(StoreError::Fenced(_))), "not even a summary: {stale:?}");
        let stale = store.release(&run, fence).await;
        assert!(matches!(stale, Err(StoreError::Fenced(_))), "nor the newer lease: {stale:?}");
        assert_eq!(store.rows(&run).await.unwrap().len(), 2);
        assert_eq!(store.runs(1).await.unwrap()[0].1, Summary { updated_ms: 1, ..Summary::default() });

        let lost = RunId::from("zzzzzzzz");
        let lost = store.append(&lost, fence, &[], &summary(None, 9)).await;
        assert!(matches!(lost, Err(StoreError::NoSuchRun(_))), "{lost:?}");
        store.create(&head("aaaaaaaa", 5), &[], "me").await.unwrap_err();
    }

    pub async fn a_run_is_taken_over_only_from_the_dead(home: &dyn Home) {
        let (store, other) = (home.open().await, home.open().await);
        let run = RunId::from("bbbbbbbb");
        let neighbour = Neighbour::start();
        let first = store.create(&head("bbbbbbbb", 1), &[], &neighbour.1).await.unwrap();

        let held = other.take(&run, &sqlite::owner()).await.unwrap_err();
        assert!(matches!(&held, StoreError::Held { owner, .. } if owner.starts_with("process ")), "{held}");
        store.append(&run, first, &rows("bbbbbbbb", 0), &summary(None, 1)).await.unwrap();

        let same = store.take(&run, &neighbour.1).await.unwrap();
        assert!(same > first, "its own process may take it again");
        neighbour.end();
        let second = other.take(&run, &sqlite::owner()).await.unwrap();
        assert!(second > same);

        let living = Neighbour::start();
        let held = store.take(&run, &living.1).await.unwrap_err();
        assert!(matches!(held, StoreError::Held { .. }), "this test's process lives: {held}");
        other.release(&run, second).await.unwrap();
        store.take(&run, &living.1).await.unwrap();
        assert!(matches!(store.take(&RunId::from("x"), "me").await, Err(StoreError::NoSuchRun(_))));
    }

    pub async fn an_owner_out_of_sight_keeps_its_run_until_it_has_been_silent_for_an_hour(home: &dyn Home) {
        let store = home.open().await;
        let run = RunId::from("cccccccc");
        let far = "4711@build-7 start=1 boot=elsewhere ns=pid:[1]";
        let fence = store.create(&head("cccccccc", 0), &[], far).await.unwrap();
        store.append(&run, fence, &rows("cccccccc", 0), &summary(None, home.clock().now_ms())).await.unwrap();

        home.clock().0.fetch_add(59 * 60_000, Ordering::SeqCst);
        let held = store.take(&run, &sqlite::owner()).await.unwrap_err().to_string();
        assert!(held.contains("process 4711 on build-7") && held.contains("59 min ago"), "{held}");
        home.clock().0.fetch_add(60_000, Ordering::SeqCst);
        store.take(&run, &sqlite::owner()).await.unwrap();
        let late = store.append(&run, fence, &rows("cccccccc", 2), &summary(None, 0)).await;
        assert!(matches!(late, Err(StoreError::Fenced(_))), "the zombie comes back: {late:?}");
    }

    pub async fn of_engines_that_race_for_a_run_one_wins(home: &dyn Home) {
        let run = RunId::from("dddddddd");
        home.open().await.create(&head("dddddddd", 0), &[], "4711@gone start=1 boot=b ns=n").await.unwrap();
        home.clock().0.fetch_add(100 * 60_000, Ordering::SeqCst);
        let mut engines = Vec::new();
        for _ in 0..8 {
            engines.push((home.open().await, run.clone()));
        }
        let race = engines.into_iter().map(|(store, run)| {
            tokio::spawn(async move {
                let fence = store.take(&run, &sqlite::owner()).await.unwrap();
                let appended = store.append(&run, fence, &rows("dddddddd", 0), &summary(None, 1)).await;
                (fence, appended)
            })
        });
        let mut results: Vec<(Fence, Result<(), StoreError>)> = Vec::new();
        for engine in race.collect::<Vec<_>>() {
            results.push(engine.await.unwrap());
        }
        results.sort_by_key(|(fence, _)| *fence);
        let fences: Vec<i64> = results.iter().map(|(fence, _)| fence.0).collect();
        assert_eq!(fences, (2..=9).collect::<Vec<_>>(), "no fence is given twice");
        let wrote = results.iter().filter(|(_, appended)| appended.is_ok()).count();
        assert_eq!(wrote, 1, "{results:?}");
        for (_, lost) in results.iter().filter(|(_, appended)| appended.is_err()) {
            assert!(matches!(lost, Err(StoreError::Fenced(_) | StoreError::Gap { .. })), "{lost:?}");
        }
    }

    pub async fn many_runs_are_written_at_the_same_time(home: &dyn Home) {
        let mut writers = Vec::new();
        for number in 0..6 {
            let store = home.open().await;
            writers.push(tokio::spawn(async move {
                let id = format!("eeeeeee{number}");
                let run = RunId::from(id.as_str());
                let fence = store.create(&head(&id, number), &[], "me").await.unwrap();
                for last in 0..50 {
                    store.append(&run, fence, &rows(&id, last * 2), &summary(None, 1)).await.unwrap();
                }
            }));
        }
        for writer in writers {
            writer.await.unwrap();
        }
        let store = home.open().await;
        for (head, _) in store.runs(100).await.unwrap() {
            assert_eq!(store.rows(&head.id).await.unwrap().len(), 100);
        }
    }

    pub async fn runs_are_found_by_the_beginning_of_their_id(home: &dyn Home) {
        let store = home.open().await;
        for (id, at) in [("7f3k0000", 1), ("7f3m0000", 2), ("9aaa0000", 2)] {
            store.create(&head(id, at), &[], "me").await.unwrap();
        }
        assert_eq!(store.find("7F3K").await.unwrap(), head("7f3k0000", 1));
        assert_eq!(store.find("9").await.unwrap().id.as_str(), "9aaa0000");
        let several = store.find("7f").await.unwrap_err().to_string();
        assert_eq!(several, "`7f` could be any of 7f3m0000, 7f3k0000: give more of the id");
        for nobody in ["8", "%", "7f3k0000x", "_f3k", "' OR 1=1 --"] {
            assert!(matches!(store.find(nobody).await, Err(StoreError::NoSuchRun(_))), "{nobody}");
        }
        let newest: Vec<_> = store.runs(2).await.unwrap().into_iter().map(|(head, _)| head.id.0).collect();
        assert_eq!(newest, ["9aaa0000", "7f3m0000"]);
    }

    pub async fn values_are_kept(home: &dyn Home) {
        let store = home.open().await;
        assert_eq!(store.get("setup/ab12").await.unwrap(), None);
        store.put("setup/ab12", "one").await.unwrap();
        store.put("setup/ab12", "two \u{1f980}").await.unwrap();
        assert_eq!(home.open().await.get("setup/ab12").await.unwrap().as_deref(), Some("two \u{1f980}"));
    }

    pub async fn experience_is_kept_replaced_and_forgotten(home: &dyn Home) {
        let store = home.open().await;
        let entry = |id: &str, at_ms: i64, task: &str| Experience {
            id: id.into(),
            run: "ffffffff".into(),
            step: "code".into(),
            mode: "coder".into(),
            at_ms,
            task: task.into(),
            conclusion: "zażółć \u{1f980} ' --".into(),
            files: vec!["a.rs".into()],
            commands: vec![],
            gates: vec!["tests".into()],
            importance: 0.75,
        };
        assert_eq!(store.experience().await.unwrap(), []);
        let (a, b) = (entry("ffffffff.a", 1, "one"), entry("ffffffff.b", 2, "two"));
        store.remember(&[a.clone(), b.clone()], &["never.was".into()]).await.unwrap();
        assert_eq!(home.open().await.experience().await.unwrap(), [b, a], "the newest first");
        let again = entry("ffffffff.a", 3, "three");
        store.remember(std::slice::from_ref(&again), &["ffffffff.b".into()]).await.unwrap();
        assert_eq!(store.experience().await.unwrap(), [again]);
    }

    pub async fn a_write_that_is_dropped_half_way_is_whole_or_not_there(home: &dyn Home) {
        let store = home.open().await;
        let run = RunId::from("ffffffff");
        let fence = store.create(&head("ffffffff", 0), &[], "me").await.unwrap();
        let mut last = 0;
        for polls in 0..60 {
            let batch = rows("ffffffff", last);
            let now = summary(None, 0);
            let mut write = Box::pin(store.append(&run, fence, &batch, &now));
            for _ in 0..polls {
                if futures::poll!(write.as_mut()).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(write);
            // The next write queues behind whatever is left of the dropped one.
            store.put("barrier", "passed").await.unwrap();
            let found = store.rows(&run).await.unwrap().len() as u64;
            assert!(found == last || found == last + 2, "{found} rows after {last}");
            last = found;
        }
        store.append(&run, fence, &rows("ffffffff", last), &summary(None, 0)).await.unwrap();
    }
}

macro_rules! complies {
    ($home:expr; $($scenario:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() {
                compliance::$scenario(&$home).await;
            }
        )*
    };
}

complies! { File::new();
    a_journal_comes_back_as_it_was_written
    a_gap_or_a_stale_fence_writes_nothing
    a_run_is_taken_over_only_from_the_dead
    an_owner_out_of_sight_keeps_its_run_until_it_has_been_silent_for_an_hour
    of_engines_that_race_for_a_run_one_wins
    many_runs_are_written_at_the_same_time
    runs_are_found_by_the_beginning_of_their_id
    values_are_kept
    experience_is_kept_replaced_and_forgotten
    a_write_that_is_dropped_half_way_is_whole_or_not_there
}

#[tokio::test]
async fn the_file_is_written_ahead_and_synced_and_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let home = File::new();
    home.open().await;
    let mut raw = home.raw().await;
    let (mode,): (String,) = sqlx::query_as("PRAGMA journal_mode").fetch_one(&mut raw).await.unwrap();
    assert_eq!(mode, "wal");
    let mode = std::fs::metadata(home.state()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn a_writer_waits_for_another_process_to_let_go() {
    let home = File::new();
    let store = home.open().await;
    let run = RunId::from("gggggggg");
    let fence = store.create(&head("gggggggg", 0), &[], "me").await.unwrap();
    let mut raw = home.raw().await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut raw).await.unwrap();
    let batch = rows("gggggggg", 0);
    let now = summary(None, 0);
    let mut write = store.append(&run, fence, &batch, &now);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut write).await;
    assert!(early.is_err(), "it waits: {early:?}");
    sqlx::query("COMMIT").execute(&mut raw).await.unwrap();
    write.await.unwrap();
}

#[tokio::test]
async fn a_row_of_a_newer_version_is_named_not_guessed() {
    let home = File::new();
    let store = home.open().await;
    let run = RunId::from("hhhhhhhh");
    store.create(&head("hhhhhhhh", 0), &rows("hhhhhhhh", 0), "me").await.unwrap();
    let mut raw = home.raw().await;
    let body = r#"{"input":{"type":"teleported","to":"mars"}}"#;
    sqlx::query("UPDATE journal SET body = $1 WHERE seq = 2").bind(body).execute(&mut raw).await.unwrap();
    let error = store.rows(&run).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreadable { seq: 2, .. }), "{error}");
    assert!(error.to_string().contains("teleported") && error.to_string().contains("newer version"), "{error}");

    sqlx::query("DELETE FROM journal WHERE seq = 1").execute(&mut raw).await.unwrap();
    let error = store.rows(&run).await.unwrap_err().to_string();
    assert!(error.contains("row 1 is missing"), "{error}");
    sqlx::query("UPDATE _sqlx_migrations SET version = 99 WHERE version = 2").execute(&mut raw).await.unwrap();
    let Err(error) = sqlite::open(&home.state(), home.clock.clone()).await else { panic!("opened") };
    assert!(error.to_string().contains("newer version of codeforge (schema 99"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("journal.db"), "this is no database, whatever its name says. ".repeat(99)).unwrap();
    let clock = Arc::new(Held(AtomicI64::new(0)));
    let Err(error) = sqlite::open(dir.path(), clock.clone()).await else { panic!("opened") };
    assert!(error.to_string().contains("damaged"), "{error}");
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let Err(error) = sqlite::open(&file.join("below"), clock).await else { panic!("opened") };
    assert!(error.to_string().contains("check that the folder"), "{error}");
}

#[tokio::test]
async fn migrations_go_up_and_down_over_seeded_data() {
    let home = File::new();
    let store = home.open().await;
    store.create(&head("jjjjjjjj", 0), &rows("jjjjjjjj", 0), "me").await.unwrap();
    store.put("key", "value").await.unwrap();
    drop(store);

    let mut raw = home.raw().await;
    sqlite::MIGRATIONS.undo(&mut raw, 1).await.unwrap();
    let (rows,): (i64,) = sqlx::query_as("SELECT count(*) FROM journal").fetch_one(&mut raw).await.unwrap();
    assert_eq!(rows, 2, "a step down takes nothing but its own");
    raw.close().await.unwrap();
    let store = home.open().await;
    assert_eq!(store.get("key").await.unwrap(), None);
    assert_eq!(store.rows(&RunId::from("jjjjjjjj")).await.unwrap().len(), 2);
    drop(store);

    let mut raw = home.raw().await;
    sqlite::MIGRATIONS.undo(&mut raw, 0).await.unwrap();
    let left: Vec<(String,)> = sqlx::query_as(
        "SELECT name FROM sqlite_schema WHERE name NOT LIKE '\\_sqlx%' ESCAPE '\\' AND name NOT LIKE 'sqlite%'",
    )
    .fetch_all(&mut raw)
    .await
    .unwrap();
    assert_eq!(left, [], "all the way down, nothing of ours is left");
    raw.close().await.unwrap();
    let store = home.open().await;
    assert_eq!(store.runs(9).await.unwrap(), []);
    store.create(&head("jjjjjjjj", 0), &[], "me").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_database_opened_by_many_at_once_is_made_once() {
    let home = Arc::new(File::new());
    let openers: Vec<_> = (0..8)
        .map(|_| {
            let home = home.clone();
            tokio::spawn(async move { home.open().await.runs(1).await.unwrap() })
        })
        .collect();
    for opener in openers {
        assert_eq!(opener.await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_killed_writer_leaves_whole_transactions_and_everything_acknowledged() {
    let home = File::new();
    let store = home.open().await;
    let ids = ["kkkkkkk1", "kkkkkkk2", "kkkkkkk3"];
    // Three processes write to one file; each is killed at a moment of its own, in mid-append.
    let mut writers: Vec<_> = ids
        .iter()
        .map(|id| child(&Errand { state: home.state(), run: (*id).into(), job: Job::AppendForEver }))
        .collect();
    for (number, (process, out, _)) in writers.iter_mut().enumerate() {
        let mut acknowledged = 0;
        while acknowledged < 20 + 17 * number as u64 {
            acknowledged = line_with(out, "ack ").unwrap().parse().unwrap();
        }
        let run = RunId::from(ids[number]);
        let held = store.take(&run, &sqlite::owner()).await;
        assert!(matches!(held, Err(StoreError::Held { .. })), "while it lives: {held:?}");
        process.kill().unwrap();
        process.wait().unwrap();
        while let Some(more) = line_with(out, "ack ") {
            acknowledged = more.parse().unwrap();
        }

        let found = store.rows(&run).await.unwrap();
        let last = found.len() as u64;
        assert!(last.is_multiple_of(2), "half a transaction: {last} rows");
        assert!(last >= acknowledged * 2, "{last} rows, {acknowledged} pairs acknowledged");
        let (_, summary) = store.runs(9).await.unwrap().into_iter().find(|(head, _)| head.id == run).unwrap();
        assert_eq!(summary.updated_ms, last as i64, "rows and summary are one");
        let fence = store.take(&run, &sqlite::owner()).await.unwrap();
        store.append(&run, fence, &rows(ids[number], last), &summary).await.unwrap();
    }
    let mut raw = home.raw().await;
    let (sound,): (String,) = sqlx::query_as("PRAGMA integrity_check").fetch_one(&mut raw).await.unwrap();
    assert_eq!(sound, "ok");
}

#[tokio::test]
async fn a_disk_that_takes_no_more_stops_the_run_and_harms_nothing() {
    let home = File::new();
    let store = home.open().await;
    let errand = Errand { state: home.state(), run: "mmmmmmmm".into(), job: Job::AppendForEver };
    // The kernel refuses to let any file of this process grow past a limit: what a full disk does, without root.
    let (mut process, mut out, _) = limited_child(&errand);
    let mut acknowledged: u64 = 0;
    let error = loop {
        let mut line = String::new();
        assert!(out.read_line(&mut line).unwrap() > 0, "it neither went on nor said why");
        if let Some(number) = line.trim().strip_prefix("ack ") {
            acknowledged = number.parse().unwrap();
        } else if let Some(error) = line.trim().strip_prefix("failed ") {
            break error.to_owned();
        }
    };
    process.wait().unwrap();
    assert!(acknowledged > 10, "it wrote for a while: {acknowledged}");
    assert!(error.contains("journal.db") && error.contains("nothing of this step was written"), "{error}");

    let run = RunId::from("mmmmmmmm");
    let last = store.rows(&run).await.unwrap().len() as u64;
    assert_eq!(last, acknowledged * 2, "what was acknowledged, no more");
    let fence = store.take(&run, &sqlite::owner()).await.unwrap();
    store.append(&run, fence, &rows("mmmmmmmm", last), &summary(None, 0)).await.unwrap();
}

/// What a child process is to do. It reads this from its standard input.
#[derive(Serialize, Deserialize)]
struct Errand {
    state: PathBuf,
    run: String,
    job: Job,
}

#[derive(Serialize, Deserialize)]
enum Job {
    /// Say who you are and live until killed.
    Live,
    /// Append pairs of rows until killed or refused; acknowledge each.
    AppendForEver,
}

/// Not a test: what the other tests start as a process of its own. Does nothing without an errand.
#[test]
#[ignore = "started by other tests"]
fn child_process() {
    let mut text = String::new();
    std::io::stdin().read_line(&mut text).unwrap();
    let Ok(errand) = serde_json::from_str::<Errand>(&text) else { return };
    println!("\nowner {}", sqlite::owner());
    match errand.job {
        Job::Live => {
            std::io::stdin().read_line(&mut text).unwrap();
        }
        Job::AppendForEver => {
            tokio::runtime::Runtime::new().unwrap().block_on(append_for_ever(errand));
        }
    }
}

async fn append_for_ever(errand: Errand) {
    let store = sqlite::open(&errand.state, Arc::new(Held(AtomicI64::new(0)))).await.unwrap();
    let run = RunId::from(errand.run.as_str());
    let fence = store.create(&head(&errand.run, 0), &[], &sqlite::owner()).await.unwrap();
    for pair in 0.. {
        let now = summary(None, (pair * 2 + 2) as i64);
        match store.append(&run, fence, &rows(&errand.run, pair * 2), &now).await {
            Ok(()) => println!("ack {}", pair + 1),
            Err(error) => {
                println!("failed {error}");
                return;
            }
        }
    }
}

fn child(errand: &Errand) -> (Child, BufReader<ChildStdout>, std::process::ChildStdin) {
    spawn("exec \"$0\" \"$@\"", errand)
}

fn limited_child(errand: &Errand) -> (Child, BufReader<ChildStdout>, std::process::ChildStdin) {
    spawn("trap '' XFSZ; ulimit -f 800; exec \"$0\" \"$@\"", errand)
}

#[expect(clippy::disallowed_methods, reason = "these tests are about processes")]
fn spawn(script: &str, errand: &Errand) -> (Child, BufReader<ChildStdout>, std::process::ChildStdin) {
    let mut child = std::process::Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child_process", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "{}", serde_json::to_string(errand).unwrap()).unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out, input)
}

/// The rest of the next line that begins with `start`; `None` at the end.
fn line_with(out: &mut BufReader<ChildStdout>, start: &str) -> Option<String> {
    loop {
        let mut line = String::new();
        if out.read_line(&mut line).unwrap_or(0) == 0 {
            return None;
        }
        if let Some(rest) = line.strip_suffix('\n').and_then(|line| line.strip_prefix(start)) {
            return Some(rest.to_owned());
        }
    }
}
