//! The queue on SQLite, held against a model of it without I/O: whatever is done, in any order, both say the same.

#[path = "common/queued.rs"]
mod queued;

use codeforge::adapter::serve::{self, Database};
use codeforge::model::event::{Change, Event, EventKind, Push, Side};
use codeforge::model::forge::Access;
use codeforge::model::job::{
    Answer, Delivery, JobEnd, JobState, Lease, NeedsApproval, NewJob, OnConflict, Priority, Served, Verdict,
};
use codeforge::port::inbox::{Handled, Inbox};
use codeforge::port::queue::{Added, Most, Queue, Renewed, Room, Which};
use proptest::prelude::*;
use queued::{served, waiting};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

fn repository(name: &str) -> Served {
    Served { name: name.into(), ..served() }
}

fn job(repo: &str, key: &str) -> NewJob {
    NewJob {
        repository: repository(repo),
        event: Event { kind: EventKind::Push, ..Event::default() },
        actor: Some("ann".into()),
        ..waiting("review", key)
    }
}

fn grouped(key: &str, on_conflict: OnConflict) -> NewJob {
    NewJob { group: Some("g".into()), on_conflict, ..job("acme/a", key) }
}

fn change(key: &str, number: u64, head: &str, base: &str) -> NewJob {
    let side = |branch: &str, sha: &str| Side { branch: branch.into(), sha: Some(sha.into()), ..Side::default() };
    let change = Change { number, head: side("topic", head), base: side(base, "b"), ..Change::default() };
    NewJob { event: Event { change: Some(change), ..Event::default() }, ..job("acme/a", key) }
}

struct Rig {
    queue: Arc<Database>,
    folder: tempfile::TempDir,
}

impl Rig {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { queue: serve::open(folder.path()).await.unwrap(), folder }
    }

    async fn add(&self, job: &NewJob, now: i64) -> String {
        match Queue::add(&*self.queue, job, now).await.unwrap() {
            Added::New(id) | Added::Known(id) | Added::Skipped(id) => id,
        }
    }

    async fn lease(&self, now: i64) -> Option<(String, Lease)> {
        self.lease_of(now, 10).await
    }

    async fn lease_of(&self, now: i64, per_repository: u32) -> Option<(String, Lease)> {
        let room = Room { per_repository };
        self.queue.lease("w", room, now, 100).await.unwrap().map(|(job, lease)| (job.new.key, lease))
    }

    async fn state(&self, id: &str) -> (JobState, Option<String>) {
        let which = Which { id: Some(id.into()), ..Which::default() };
        let job = self.queue.jobs(&which).await.unwrap().remove(0);
        (job.state, job.note)
    }
}

fn done() -> JobEnd {
    JobEnd::Done { conclusion: "success".into(), cost_usd: Some("0.1".into()), url: None, note: None }
}

#[tokio::test]
async fn a_group_has_one_that_runs_and_one_that_waits() {
    let rig = Rig::new().await;
    let first = rig.add(&grouped("1", OnConflict::Queue), 1).await;
    let (key, lease) = rig.lease(2).await.unwrap();
    assert_eq!(key, "1");
    let second = rig.add(&grouped("2", OnConflict::Queue), 3).await;
    let third = rig.add(&grouped("3", OnConflict::Queue), 4).await;
    let (state, note) = rig.state(&second).await;
    assert_eq!(state, JobState::Cancelled);
    assert!(note.unwrap().contains(&third), "the note names the one that takes its place");
    assert!(rig.lease(5).await.is_none(), "the group is taken");
    // Another workflow's group of the same name, and the same one in another repository, are other groups.
    let other = NewJob { workflow: "fix".into(), ..grouped("4", OnConflict::Skip) };
    let elsewhere = NewJob { repository: repository("acme/b"), ..grouped("5", OnConflict::Skip) };
    for job in [other, elsewhere] {
        assert!(matches!(Queue::add(&*rig.queue, &job, 6).await.unwrap(), Added::New(_)));
    }
    assert!(rig.queue.end(&lease, &done(), 7).await.unwrap());
    assert_eq!(rig.state(&first).await.0, JobState::Done);
    let mut next = Vec::new();
    while let Some((key, _)) = rig.lease(8).await {
        next.push(key);
    }
    next.sort();
    assert_eq!(next, ["3", "4", "5"]);
}

#[tokio::test]
async fn cancel_takes_the_place_of_what_runs_and_skip_leaves_it() {
    let rig = Rig::new().await;
    let first = rig.add(&grouped("1", OnConflict::Queue), 1).await;
    let (_, lease) = rig.lease(2).await.unwrap();
    let skipped = Queue::add(&*rig.queue, &grouped("2", OnConflict::Skip), 3).await.unwrap();
    let Added::Skipped(skipped) = skipped else { panic!("{skipped:?}") };
    assert!(rig.state(&skipped).await.1.unwrap().contains(&first));
    assert!(matches!(rig.queue.renew(&lease, 4, 100).await.unwrap(), Renewed::Held(_)));
    let second = rig.add(&grouped("3", OnConflict::Cancel), 5).await;
    let Renewed::Cancelled(why) = rig.queue.renew(&lease, 6, 100).await.unwrap() else { panic!("it is told") };
    assert!(why.contains(&second), "{why}");
    // It comes back instead of ending: what was to stop stops.
    assert!(rig.queue.end(&lease, &JobEnd::Back, 7).await.unwrap());
    assert_eq!(rig.state(&first).await, (JobState::Cancelled, Some(why)));
    assert_eq!(rig.lease(8).await.unwrap().0, "3");
}

#[tokio::test]
async fn a_stale_fence_writes_nothing() {
    let rig = Rig::new().await;
    let id = rig.add(&job("acme/a", "1"), 1).await;
    let (_, old) = rig.lease(10).await.unwrap();
    assert!(rig.lease(109).await.is_none(), "it holds for 100 ms");
    let (_, new) = rig.lease(110).await.unwrap();
    assert!(new.fence > old.fence);
    assert_eq!(rig.queue.renew(&old, 111, 100).await.unwrap(), Renewed::Lost);
    for end in [done(), JobEnd::Back, JobEnd::Dead { note: "x".into() }, JobEnd::Cancelled { note: "x".into() }] {
        assert!(!rig.queue.end(&old, &end, 112).await.unwrap(), "{end:?}");
    }
    assert_eq!(rig.state(&id).await.0, JobState::Running);
    assert!(rig.queue.end(&new, &done(), 113).await.unwrap());
    assert!(!rig.queue.end(&new, &done(), 114).await.unwrap(), "once");
}

#[tokio::test]
async fn urgent_ones_first_then_the_repository_that_waited_longest_and_nobody_for_ever() {
    let rig = Rig::new().await;
    for n in 0..5 {
        rig.add(&job("acme/busy", &format!("busy{n}")), n).await;
    }
    rig.add(&job("acme/a", "a"), 10).await;
    rig.add(&job("acme/b", "b"), 11).await;
    rig.add(&NewJob { priority: Priority::Command, ..job("acme/busy", "command") }, 12).await;
    rig.add(&NewJob { due_ms: 1000, ..job("acme/c", "later") }, 13).await;
    let mut order = Vec::new();
    while let Some((key, lease)) = rig.lease(20).await {
        order.push(key);
        rig.queue.end(&lease, &done(), 20).await.unwrap();
    }
    assert_eq!(order, ["command", "a", "b", "busy0", "busy1", "busy2", "busy3", "busy4"]);
    assert_eq!(rig.lease(1000).await.unwrap().0, "later");
    // A time table's job against commands that never end: after half an hour it is as urgent as they are.
    let rig = Rig::new().await;
    rig.add(&NewJob { priority: Priority::Schedule, ..job("acme/a", "night") }, 0).await;
    for minute in 0..60 {
        let now = minute * 60_000;
        let urgent = NewJob { priority: Priority::Command, due_ms: now, ..job("acme/b", &format!("c{minute}")) };
        rig.add(&urgent, now).await;
        let (key, lease) = rig.lease(now).await.unwrap();
        if key == "night" {
            assert!((29..=32).contains(&minute), "{minute}");
            return;
        }
        rig.queue.end(&lease, &done(), now).await.unwrap();
    }
    panic!("it waits for ever");
}

#[tokio::test]
async fn a_repository_runs_no_more_than_its_share() {
    let rig = Rig::new().await;
    for n in 0..3 {
        rig.add(&job("acme/a", &format!("a{n}")), n).await;
    }
    rig.add(&job("acme/b", "b0"), 9).await;
    let (_, first) = rig.lease_of(10, 2).await.unwrap();
    let rest = [rig.lease_of(10, 2).await.unwrap().0, rig.lease_of(10, 2).await.unwrap().0];
    assert_eq!(BTreeSet::from(rest), BTreeSet::from(["a1".to_owned(), "b0".to_owned()]));
    assert!(rig.lease_of(10, 2).await.is_none());
    rig.queue.end(&first, &done(), 11).await.unwrap();
    assert_eq!(rig.lease_of(12, 2).await.unwrap().0, "a2");
}

#[tokio::test]
async fn again_waits_back_is_not_counted_dead_can_be_put_back() {
    let rig = Rig::new().await;
    let id = rig.add(&job("acme/a", "1"), 1).await;
    let attempts = async || {
        let which = Which { id: Some(id.clone()), ..Which::default() };
        rig.queue.jobs(&which).await.unwrap()[0].attempts
    };
    let (_, lease) = rig.lease(2).await.unwrap();
    rig.queue.end(&lease, &JobEnd::Again { due_ms: 50, note: "away".into() }, 3).await.unwrap();
    assert!(rig.lease(49).await.is_none());
    let (_, lease) = rig.lease(50).await.unwrap();
    assert_eq!(attempts().await, 2);
    rig.queue.end(&lease, &JobEnd::Back, 51).await.unwrap();
    assert_eq!(attempts().await, 1);
    let (_, lease) = rig.lease(52).await.unwrap();
    rig.queue.end(&lease, &JobEnd::Dead { note: "poison".into() }, 53).await.unwrap();
    assert_eq!(rig.state(&id).await, (JobState::Dead, Some("poison".into())));
    assert!(rig.lease(10_000).await.is_none());
    assert!(matches!(Queue::add(&*rig.queue, &job("acme/a", "1"), 54).await.unwrap(), Added::Known(_)));
    assert!(rig.queue.requeue(&id, 60).await.unwrap() && !rig.queue.requeue(&id, 60).await.unwrap());
    let (_, newest) = rig.lease(61).await.unwrap();
    assert!(newest.fence > lease.fence && attempts().await == 1);
    assert_eq!(rig.queue.counts().await.unwrap(), [(JobState::Running, 1)]);
}

/// Two servers hear twenty comments of somebody who gets five answers: five are answered, whoever answers them, and each
/// counts once.
#[tokio::test(flavor = "multi_thread")]
async fn servers_that_share_a_database_count_together() {
    let rig = Rig::new().await;
    let other = serve::open(rig.folder.path()).await.unwrap();
    let most = Most { of: 5, within_ms: 1000 };
    let comments: Vec<String> = (0..20).map(|n| format!("comment {n}")).collect();
    let hears = |server: Arc<Database>| {
        let comments = comments.clone();
        tokio::spawn(async move {
            let counts = comments.iter().map(|comment| server.count_one("answers/ann", comment, most, 10));
            futures::future::try_join_all(counts).await.unwrap()
        })
    };
    let (one, two) = (hears(Arc::clone(&rig.queue)), hears(other));
    let (one, two) = (one.await.unwrap(), two.await.unwrap());
    assert_eq!(one, two, "what one of them answers, the other one may answer");
    assert_eq!(one.iter().filter(|may| **may).count(), 5, "{one:?}");
    assert!(!rig.queue.count_one("answers/ann", "later", most, 1009).await.unwrap());
    assert!(rig.queue.count_one("answers/ann", "later", most, 1010).await.unwrap(), "the time is over");
    assert!(rig.queue.count_one("answers/bob", "comment 0", most, 10).await.unwrap(), "somebody else's");
}

fn approval() -> NeedsApproval {
    let (max_cost_usd, commit) = (Some("2".into()), "c".into());
    NeedsApproval { max_cost_usd, commit, access: Access::Write, independent: false, asked: Vec::new() }
}

fn answer(by: &str, verdict: Verdict, max: Option<&str>, at_ms: i64) -> Answer {
    let max_cost_usd = max.map(str::to_owned);
    Answer { at_ms, by: by.into(), verdict, max_cost_usd, commit: Some("c".into()), note: None }
}

/// Who said what is a row in the transaction that does what they said, also where it did not count, or where the job was
/// dropped all the same.
#[tokio::test]
async fn what_was_answered_to_a_price_stays() {
    let rig = Rig::new().await;
    let first = rig.add(&grouped("first", OnConflict::Queue), 1).await;
    let mut ids = Vec::new();
    for key in ["dropped", "denied"] {
        let asks = NewJob { approval: Some(approval()), ..grouped(key, OnConflict::Skip) };
        ids.push(rig.add(&asks, 2).await);
    }
    let no = Answer { note: Some("may not".into()), ..answer("eve", Verdict::Refused, Some("3"), 4) };
    for _ in 0..2 {
        assert_eq!(rig.queue.answer(&ids[0], &no).await.unwrap().unwrap().state, JobState::Asked);
    }
    // In the same moment.
    let yes = answer("eve", Verdict::Approved, Some("2"), 4);
    let dropped = rig.queue.answer(&ids[0], &yes).await.unwrap().unwrap();
    assert_eq!((dropped.state, dropped.skipped_for()), (JobState::Cancelled, Some(first.as_str())));
    let denied = rig.queue.answer(&ids[1], &answer("bo", Verdict::Denied, None, 5)).await.unwrap().unwrap();
    assert_eq!((denied.state, denied.note.as_deref()), (JobState::Cancelled, Some("bo said no")));
    let kept = async |id: &str| {
        let answers = rig.queue.answers(id).await.unwrap();
        answers.into_iter().map(|it| (it.by, it.verdict, it.max_cost_usd, it.note)).collect::<Vec<_>>()
    };
    let refused = ("eve".to_owned(), Verdict::Refused, Some("3".to_owned()), Some("may not".to_owned()));
    assert_eq!(kept(&ids[0]).await, [refused, ("eve".into(), Verdict::Approved, Some("2".into()), None)]);
    assert_eq!(kept(&ids[1]).await, [("bo".into(), Verdict::Denied, None, None)]);
}

#[tokio::test]
async fn who_waits_for_a_yes_has_no_place_until_it_comes() {
    let rig = Rig::new().await;
    let asks = NewJob { approval: Some(approval()), ..grouped("asks", OnConflict::Queue) };
    let waits = rig.add(&grouped("waits", OnConflict::Queue), 1).await;
    let id = rig.add(&asks, 2).await;
    assert_eq!((rig.state(&id).await.0, rig.state(&waits).await.0), (JobState::Asked, JobState::Waiting));
    let yes = |max: &str, at| answer("bo", Verdict::Approved, Some(max), at);
    assert_eq!(rig.queue.answer(&id, &yes("1.50", 3)).await.unwrap().unwrap().state, JobState::Waiting);
    assert!(rig.queue.answer(&id, &yes("9", 4)).await.unwrap().is_none());
    assert_eq!(rig.state(&waits).await.0, JobState::Cancelled, "the newest of its group");
    let job = rig.queue.jobs(&Which { id: Some(id), ..Which::default() }).await.unwrap().remove(0);
    let approved = job.approved().unwrap();
    assert_eq!((approved.by.as_str(), approved.max_cost_usd.as_deref()), ("bo", Some("1.50")));
    assert!(job.new.settings.is_empty(), "what it was asked for with stays: {:?}", job.new.settings);
    assert_eq!(rig.lease(5).await.unwrap().0, "asks");
    // One that nobody said yes to is not put back to where no yes is asked for.
    let asks = NewJob { key: "denied".into(), ..asks };
    let denied = rig.add(&asks, 6).await;
    rig.queue.cancel(&Which { id: Some(denied.clone()), ..Which::default() }, "no", 7).await.unwrap();
    assert!(!rig.queue.requeue(&denied, 8).await.unwrap());
    assert_eq!(rig.state(&denied).await.0, JobState::Cancelled);
}

#[tokio::test]
async fn what_a_delivery_ends_and_makes_is_one_transaction() {
    let rig = Rig::new().await;
    let old = rig.add(&change("old", 7, "aaaa", "main"), 1).await;
    let same = rig.add(&change("same", 7, "bbbb", "main"), 1).await;
    let lax = rig.add(&change("lax", 7, "bbbb", "lax"), 1).await;
    let other = rig.add(&change("other", 8, "aaaa", "lax"), 1).await;
    let delivery = Delivery {
        source: "github".into(),
        id: "1".into(),
        hash: "a".repeat(64),
        event: "pull_request".into(),
        repository: None,
        host: None,
        body: b"{}".to_vec(),
        at_ms: 1,
    };
    rig.queue.accept(delivery).await.unwrap();
    let unhandled = rig.queue.unhandled(10, 2, &[]).await.unwrap();
    let of = || Which { repository: Some(repository("acme/a")), change: Some(7), ..Which::default() };
    let what = Handled {
        jobs: vec![change("new", 7, "bbbb", "main")],
        cancel: vec![
            (Which { not_head: Some("bbbb".into()), ..of() }, "pushed to".into()),
            (Which { not_base: Some("main".into()), ..of() }, "retargeted".into()),
        ],
        note: "decided".into(),
    };
    assert_eq!(rig.queue.handled(unhandled[0].number, &what, 3).await.unwrap().len(), 1);
    assert_eq!(rig.state(&old).await, (JobState::Cancelled, Some("pushed to".into())));
    assert_eq!(rig.state(&lax).await, (JobState::Cancelled, Some("retargeted".into())));
    assert_eq!((rig.state(&same).await.0, rig.state(&other).await.0), (JobState::Waiting, JobState::Waiting));
    // Handled twice, nothing happens the second time.
    let close = Handled { cancel: vec![(of(), "closed".into())], ..Handled::default() };
    assert!(rig.queue.handled(unhandled[0].number, &close, 4).await.unwrap().is_empty());
    assert_eq!(rig.state(&same).await.0, JobState::Waiting);
}

/// What forges say of a change's head is the same each time. It makes a job once more where the change was closed or
/// pushed to in between, or where the one before ended badly and somebody opens the change again; never for being told
/// twice.
#[tokio::test]
async fn a_key_is_given_up_where_something_happened_again() {
    let rig = Rig::new().await;
    let told = |action: Option<&str>, at_ms: Option<i64>| {
        let mut job = change("head", 7, "aaaa", "main");
        let event = std::mem::take(&mut job.event);
        let (kind, action) = (EventKind::PullRequest, action.map(str::to_owned));
        let at_ms = at_ms.map(|seconds| seconds * 1000);
        NewJob { event: Event { kind, action, at_ms, ..event }, ..job }
    };
    let opened = || told(Some("opened"), Some(10));
    let add = async |job: NewJob, now| Queue::add(&*rig.queue, &job, now).await.unwrap();
    let Added::New(first) = add(opened(), 1).await else { panic!("a new one") };
    // While it waits, all that comes is the same: another webhook, the sweep, even an event that is newer.
    for job in [opened(), told(None, Some(90)), told(Some("reopened"), Some(20))] {
        assert_eq!(add(job, 2).await, Added::Known(first.clone()));
    }
    // It fails. What was told before is told again: nothing. Somebody opens the change again: one more, once.
    let (_, lease) = rig.lease(3).await.unwrap();
    let failed = |how: &str| JobEnd::Done { conclusion: how.into(), cost_usd: None, url: None, note: None };
    rig.queue.end(&lease, &failed("failure"), 4).await.unwrap();
    for job in [opened(), told(None, Some(90))] {
        assert_eq!(add(job, 5).await, Added::Known(first.clone()));
    }
    let Added::New(second) = add(told(Some("reopened"), Some(20)), 6).await else { panic!("opened again") };
    for job in [told(Some("reopened"), Some(20)), opened(), told(None, None)] {
        assert_eq!(add(job, 7).await, Added::Known(second.clone()));
    }
    // It goes well: that is not done twice.
    let (_, lease) = rig.lease(8).await.unwrap();
    rig.queue.end(&lease, &failed("success"), 9).await.unwrap();
    assert_eq!(add(told(Some("reopened"), Some(30)), 10).await, Added::Known(second));
    // Each of two pushes of one commit is a push.
    let pushed = |seconds: Option<i64>, before: &str| {
        let at_ms = seconds.map(|seconds| seconds * 1000);
        let push = Push { before: Some(before.into()), ..Push::default() };
        let actor = at_ms.map(|_| "ann".to_owned());
        let (kind, push) = (EventKind::Push, Some(push));
        NewJob { event: Event { kind, push, actor, at_ms, ..Event::default() }, ..job("acme/a", "push") }
    };
    let Added::New(push) = add(pushed(Some(10), "x"), 11).await else { panic!("a push") };
    for job in [pushed(Some(10), "x"), pushed(None, "y"), pushed(Some(9), "y")] {
        assert_eq!(add(job, 12).await, Added::Known(push.clone()), "the sweep, or a word that comes late");
    }
    assert!(matches!(add(pushed(Some(20), "y"), 13).await, Added::New(_)));
}

/// A tick that may wait is not thrown away for the next one, and the next one does not overtake it.
#[tokio::test]
async fn jobs_in_line_all_have_their_turn_in_order() {
    let rig = Rig::new().await;
    for n in 1..=4 {
        rig.add(&grouped(&format!("{n}"), OnConflict::Line), 1).await;
    }
    // Another time table of the workflow, which lets only the newest wait.
    rig.add(&grouped("other", OnConflict::Queue), 2).await;
    let (_, lease) = rig.lease(3).await.unwrap();
    assert!(rig.lease(3).await.is_none(), "one at a time");
    rig.queue.end(&lease, &JobEnd::Again { due_ms: 50, note: "away".into() }, 4).await.unwrap();
    let (key, other) = rig.lease(5).await.unwrap();
    assert_eq!(key, "other", "who stands in line waits for the first one");
    rig.queue.end(&other, &done(), 6).await.unwrap();
    assert!(rig.lease(49).await.is_none());
    let mut order = Vec::new();
    while let Some((key, lease)) = rig.lease(50).await {
        order.push(key);
        rig.queue.end(&lease, &done(), 50).await.unwrap();
    }
    assert_eq!(order, ["1", "2", "3", "4"]);
}

/// After a crash nobody's place is taken by the dead: with as many of them as there are places, and with a group.
#[tokio::test]
async fn a_lease_that_ran_out_holds_no_place() {
    let rig = Rig::new().await;
    for n in 0..3 {
        rig.add(&job("acme/a", &format!("{n}")), n).await;
    }
    for _ in 0..3 {
        rig.lease_of(10, 3).await.unwrap();
    }
    // Their worker died; the next server lets one run at a time.
    let (key, lease) = rig.lease_of(200, 1).await.expect("one of them");
    assert_eq!(key, "0");
    assert!(rig.lease_of(200, 1).await.is_none());
    rig.queue.end(&lease, &done(), 201).await.unwrap();
    assert_eq!(rig.lease_of(201, 1).await.unwrap().0, "1");
    // Of a group an urgent one may go before the one whose worker was away; when that one comes back it has lost its place.
    let rig = Rig::new().await;
    rig.add(&NewJob { priority: Priority::Schedule, ..grouped("slow", OnConflict::Queue) }, 1).await;
    let (_, away) = rig.lease(2).await.unwrap();
    rig.add(&NewJob { priority: Priority::Command, ..grouped("urgent", OnConflict::Queue) }, 3).await;
    assert!(rig.lease(50).await.is_none());
    let (key, urgent) = rig.lease(150).await.unwrap();
    assert_eq!(key, "urgent");
    assert_eq!(rig.queue.renew(&away, 151, 100).await.unwrap(), Renewed::Lost);
    rig.queue.end(&urgent, &done(), 152).await.unwrap();
    assert_eq!(rig.lease(153).await.unwrap().0, "slow");
}

#[tokio::test]
async fn many_workers_never_have_the_same_job() {
    let rig = Rig::new().await;
    for n in 0..40 {
        rig.add(&job(&format!("acme/{}", n % 4), &format!("{n}")), n).await;
    }
    let workers = (0..8).map(|_| async {
        let mut had = Vec::new();
        while let Some((key, _)) = rig.lease_of(100, 100).await {
            had.push(key);
        }
        had
    });
    let had: Vec<String> = futures::future::join_all(workers).await.concat();
    assert_eq!((had.len(), had.iter().collect::<BTreeSet<_>>().len()), (40, 40));
}

/// What may be done to a queue.
#[derive(Debug, Clone)]
enum Step {
    Add {
        repo: u8,
        key: u8,
        group: Option<u8>,
        rule: u8,
        priority: u8,
        due: i64,
    },
    Lease,
    /// Ends the nth lease ever given, whether it is good or not.
    End {
        lease: usize,
        how: u8,
    },
    Renew {
        lease: usize,
    },
    Cancel {
        key: u8,
    },
    Requeue {
        key: u8,
    },
    Pass {
        ms: i64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3u8, 0..12u8, proptest::option::of(0..2u8), 0..4u8, 0..4u8, 0..300i64)
            .prop_map(|(repo, key, group, rule, priority, due)| Step::Add { repo, key, group, rule, priority, due }),
        4 => Just(Step::Lease),
        3 => (0..20usize, 0..5u8).prop_map(|(lease, how)| Step::End { lease, how }),
        1 => (0..20usize).prop_map(|lease| Step::Renew { lease }),
        1 => (0..12u8).prop_map(|key| Step::Cancel { key }),
        1 => (0..12u8).prop_map(|key| Step::Requeue { key }),
        2 => (1..120i64).prop_map(|ms| Step::Pass { ms }),
    ]
}

/// A job of the model.
#[derive(Debug, Clone)]
struct Toy {
    id: String,
    repo: u8,
    group: Option<u8>,
    rule: u8,
    priority: i64,
    due: i64,
    created: i64,
    state: JobState,
    fence: i64,
    until: i64,
    cancel: bool,
    attempts: u32,
}

/// The queue without I/O: a list, and whose turn it was when.
#[derive(Default)]
struct Model {
    jobs: Vec<(u8, Toy)>,
    turns: BTreeMap<u8, i64>,
    turn: i64,
}

impl Model {
    fn place(&mut self, index: usize) -> bool {
        let me = self.jobs[index].1.clone();
        let others: Vec<usize> = (0..self.jobs.len())
            .filter(|other| {
                let job = &self.jobs[*other].1;
                *other != index
                    && me.group.is_some()
                    && job.group == me.group
                    && job.repo == me.repo
                    && matches!(job.state, JobState::Waiting | JobState::Running)
            })
            .collect();
        if others.is_empty() || me.rule == 3 {
            return true;
        }
        if me.rule == 2 {
            self.jobs[index].1.state = JobState::Cancelled;
            return false;
        }
        for other in others {
            let job = &mut self.jobs[other].1;
            let keeps = job.fence > 0 || job.rule == 3;
            match job.state {
                JobState::Running if me.rule == 1 => job.cancel = true,
                JobState::Waiting if me.rule == 1 || !keeps => job.state = JobState::Cancelled,
                _ => {}
            }
        }
        true
    }

    fn lease(&mut self, now: i64) -> Option<usize> {
        for (_, job) in &mut self.jobs {
            if job.state == JobState::Running && job.until <= now && job.cancel {
                (job.state, job.cancel) = (JobState::Cancelled, false);
            }
        }
        let running = |job: &Toy| job.state == JobState::Running;
        let holds = |job: &Toy| running(job) && job.until > now;
        let found = (0..self.jobs.len())
            .filter(|index| {
                let me = &self.jobs[*index].1;
                let others =
                    || self.jobs.iter().enumerate().filter(|(other, _)| other != index).map(|(_, (_, job))| job);
                let may = me.state == JobState::Waiting && me.due <= now || running(me) && me.until <= now;
                let ours = |job: &&Toy| job.repo == me.repo && job.group == me.group;
                let is_before = |other: usize, job: &Toy| {
                    let open = matches!(job.state, JobState::Waiting | JobState::Running);
                    me.rule == 3 && job.rule == 3 && other < *index && open
                };
                let mut all = self.jobs.iter().enumerate();
                let waits = all.any(|(other, (_, job))| ours(&job) && is_before(other, job));
                let free = me.group.is_none() || !waits && !others().filter(ours).any(holds);
                may && free && others().filter(|job| holds(job) && job.repo == me.repo).count() < 2
            })
            .min_by_key(|index| {
                let job = &self.jobs[*index].1;
                (job.priority, self.turns.get(&job.repo).copied().unwrap_or_default(), job.created, *index)
            })?;
        self.turn += 1;
        let job = &mut self.jobs[found].1;
        self.turns.insert(job.repo, self.turn);
        (job.state, job.fence, job.until, job.attempts) =
            (JobState::Running, job.fence + 1, now + 100, job.attempts + 1);
        Some(found)
    }
}

fn rule(number: u8) -> OnConflict {
    [OnConflict::Queue, OnConflict::Cancel, OnConflict::Skip, OnConflict::Line][usize::from(number)]
}

async fn go(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let rig = Rig::new().await;
    let mut model = Model::default();
    let mut leases: Vec<Lease> = Vec::new();
    let mut now = 1000;
    let mut fences: BTreeMap<String, i64> = BTreeMap::new();
    for step in steps {
        match step.clone() {
            Step::Pass { ms } => now += ms,
            Step::Add { repo, key, group, rule: conflict, priority, due } => {
                let new = NewJob {
                    group: group.map(|group| format!("g{group}")),
                    on_conflict: rule(conflict),
                    priority: [Priority::Command, Priority::Change, Priority::Event, Priority::Schedule]
                        [usize::from(priority)],
                    due_ms: now + due,
                    ..job(&format!("acme/{repo}"), &format!("k{key}"))
                };
                let added = Queue::add(&*rig.queue, &new, now).await.unwrap();
                let known = model.jobs.iter().find(|(k, job)| *k == key && job.repo == repo);
                if let Some((_, toy)) = known {
                    prop_assert_eq!(added, Added::Known(toy.id.clone()));
                    continue;
                }
                let (Added::New(id) | Added::Skipped(id)) = added.clone() else {
                    return Err(TestCaseError::fail(format!("{added:?}")));
                };
                let toy = Toy {
                    id: id.clone(),
                    repo,
                    group,
                    rule: conflict,
                    priority: i64::from(priority),
                    due: now + due,
                    created: now,
                    state: JobState::Waiting,
                    fence: 0,
                    until: 0,
                    cancel: false,
                    attempts: 0,
                };
                model.jobs.push((key, toy));
                let placed = model.place(model.jobs.len() - 1);
                prop_assert_eq!(added, if placed { Added::New(id) } else { Added::Skipped(id) });
            }
            Step::Lease => {
                let real = rig.queue.lease("w", Room { per_repository: 2 }, now, 100).await.unwrap();
                let toy = model.lease(now).map(|index| model.jobs[index].1.clone());
                prop_assert_eq!(real.as_ref().map(|(job, _)| &job.id), toy.as_ref().map(|toy| &toy.id));
                let (Some((job, lease)), Some(toy)) = (real, toy) else { continue };
                prop_assert_eq!((lease.fence, job.attempts), (toy.fence, toy.attempts));
                let before = fences.insert(lease.job.clone(), lease.fence);
                prop_assert!(before.is_none_or(|before| before < lease.fence), "a fence went back");
                leases.push(lease);
            }
            Step::Renew { lease } => {
                let Some(lease) = leases.get(lease) else { continue };
                let real = rig.queue.renew(lease, now, 100).await.unwrap();
                let toy = model.jobs.iter().map(|(_, job)| job).find(|job| job.id == lease.job).unwrap().clone();
                let taken = model.jobs.iter().map(|(_, job)| job).any(|job| {
                    let holds = job.state == JobState::Running && job.until > now && job.id != toy.id;
                    toy.group.is_some() && holds && job.repo == toy.repo && job.group == toy.group
                });
                let good = toy.state == JobState::Running && toy.fence == lease.fence;
                let held = good && (toy.until > now || !taken);
                if held {
                    let job = model.jobs.iter_mut().map(|(_, job)| job).find(|job| job.id == lease.job);
                    job.unwrap().until = now + 100;
                }
                match real {
                    Renewed::Held(_) => prop_assert!(held && !toy.cancel),
                    Renewed::Cancelled(_) => prop_assert!(held && toy.cancel),
                    Renewed::Lost => prop_assert!(!held),
                }
            }
            Step::End { lease, how } => {
                let Some(lease) = leases.get(lease) else { continue };
                let note = || "n".to_owned();
                let end = match how {
                    0 => done(),
                    1 => JobEnd::Again { due_ms: now + 50, note: note() },
                    2 => JobEnd::Dead { note: note() },
                    3 => JobEnd::Cancelled { note: note() },
                    _ => JobEnd::Back,
                };
                let real = rig.queue.end(lease, &end, now).await.unwrap();
                let toy = model.jobs.iter_mut().map(|(_, job)| job).find(|job| job.id == lease.job).unwrap();
                let good = toy.state == JobState::Running && toy.fence == lease.fence;
                prop_assert_eq!(real, good, "a stale fence writes nothing, a good one does");
                if !good {
                    continue;
                }
                toy.state = match how {
                    0 => JobState::Done,
                    2 => JobState::Dead,
                    3 => JobState::Cancelled,
                    _ if toy.cancel => JobState::Cancelled,
                    _ => JobState::Waiting,
                };
                match how {
                    1 => toy.due = now + 50,
                    4 => toy.attempts -= 1,
                    _ => {}
                }
                toy.cancel = false;
            }
            Step::Cancel { key } => {
                let Some(index) = model.jobs.iter().position(|(k, _)| *k == key) else { continue };
                let toy = &mut model.jobs[index].1;
                let which = Which { id: Some(toy.id.clone()), ..Which::default() };
                let real = rig.queue.cancel(&which, "because", now).await.unwrap();
                prop_assert_eq!(real.len(), usize::from(!toy.state.is_over()));
                match toy.state {
                    JobState::Running => toy.cancel = true,
                    JobState::Waiting => toy.state = JobState::Cancelled,
                    _ => {}
                }
            }
            Step::Requeue { key } => {
                let Some(index) = model.jobs.iter().position(|(k, _)| *k == key) else { continue };
                let toy = &mut model.jobs[index].1;
                let real = rig.queue.requeue(&toy.id.clone(), now).await.unwrap();
                if !toy.state.is_over() {
                    prop_assert!(!real);
                    continue;
                }
                (toy.state, toy.due, toy.attempts, toy.cancel) = (JobState::Waiting, now, 0, false);
                let placed = model.place(index);
                prop_assert_eq!(real, placed);
            }
        }
        // Nothing is lost, and both say the same of each.
        let real = rig.queue.jobs(&Which::default()).await.unwrap();
        prop_assert_eq!(real.len(), model.jobs.len());
        for (_, toy) in &model.jobs {
            let job = real.iter().find(|job| job.id == toy.id).unwrap();
            prop_assert_eq!((job.state, job.attempts), (toy.state, toy.attempts), "after {:?}: {:?}", step, toy);
        }
        let mut taken = BTreeSet::new();
        for (_, toy) in model.jobs.iter().filter(|(_, toy)| toy.state == JobState::Running && toy.until > now) {
            if let Some(group) = toy.group {
                prop_assert!(taken.insert((toy.repo, group)), "two of one group run");
            }
        }
    }
    // Time passes, what can end ends: whatever waits comes to its turn.
    now += 1000;
    for _ in 0..model.jobs.len() * 2 {
        let Some((_, lease)) = rig.queue.lease("w", Room { per_repository: 2 }, now, 100).await.unwrap() else { break };
        rig.queue.end(&lease, &done(), now).await.unwrap();
    }
    let counts = rig.queue.counts().await.unwrap();
    prop_assert!(counts.iter().all(|(state, _)| state.is_over()), "somebody waits for ever: {counts:?}");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn it_does_what_its_model_does(steps in proptest::collection::vec(step(), 1..60)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(go(steps))?;
    }
}
