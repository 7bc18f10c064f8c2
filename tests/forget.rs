//! What a server forgets, and what it never does: real folders, a real database, a clock that is moved on.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[path = "common/queued.rs"]
mod queued;

use codeforge::adapter::serve::{self, Database};
use codeforge::model::forge::Access;
use codeforge::model::job::{JobEnd, NeedsApproval, NewJob, Served};
use codeforge::model::places;
use codeforge::model::serve::Keep;
use codeforge::port::queue::{Added, Queue, Room};
use codeforge::server::forget::{self, MOST, Rules, Swept};
use codeforge::server::schedule;
use codeforge::workflow::schema::Library;
use codeforge::workflow::{self, Source};
use queued::{served, waiting};
use std::collections::BTreeSet;
use std::sync::Arc;

const DAY: i64 = 86_400_000;
const KEEP: Keep = Keep { bodies_ms: 3 * 86_400_000, logs_ms: 30 * 86_400_000, records_ms: 90 * 86_400_000 };

fn now() -> i64 {
    // Files have the system's time, which is older or newer by what the test moves the clock.
    jiff::Timestamp::now().as_millisecond()
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

    /// A job with a folder as its runs leave it.
    async fn job(&self, key: &str, asks: bool, at: i64) -> String {
        let commit = "c".to_owned();
        let approval =
            NeedsApproval { max_cost_usd: None, commit, access: Access::Write, independent: false, asked: Vec::new() };
        let new = NewJob { due_ms: at, approval: asks.then_some(approval), ..waiting("night", key) };
        let Added::New(id) = Queue::add(&*self.queue, &new, at).await.unwrap() else { panic!("a new job") };
        self.leaves(&id);
        for note in ["shown", "announced"] {
            self.queue.keep_note(&format!("{note}/{id}"), "x").await.unwrap();
        }
        id
    }

    /// A folder as a job's run leaves it.
    fn leaves(&self, id: &str) {
        let folder = places::job(self.folder.path(), id);
        std::fs::create_dir_all(folder.join("checkout/src")).unwrap();
        for (name, text) in [("fence", "1"), ("log", "said"), ("checkout/src/a.txt", "a")] {
            std::fs::write(folder.join(name), text).unwrap();
        }
    }

    /// Leases the only job that waits, and ends it.
    async fn ends(&self, end: &JobEnd, at: i64) {
        let lease = self.queue.lease("w", Room { per_repository: 9 }, at, 1000).await.unwrap().unwrap().1;
        assert!(self.queue.end(&lease, end, at).await.unwrap());
    }

    async fn round(&self, rules: &Rules, now_ms: i64) -> Swept {
        forget::round(&*self.queue, self.folder.path(), &KEEP, rules, now_ms).await.unwrap()
    }

    fn has(&self, id: &str, part: &str) -> bool {
        places::job(self.folder.path(), id).join(part).exists()
    }

    async fn noted(&self, name: &str) -> bool {
        self.queue.note(name).await.unwrap().is_some()
    }
}

fn done() -> JobEnd {
    JobEnd::Done { conclusion: "success".into(), cost_usd: None, url: None, note: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folders_go_once_their_jobs_are_long_over_and_never_one_that_is_needed() {
    let rig = Rig::new().await;
    let begun = now();
    let old = rig.job("old", false, begun).await;
    rig.ends(&done(), begun).await;
    let poison = rig.job("poison", false, begun).await;
    rig.ends(&JobEnd::Dead { note: "x".into() }, begun).await;
    let asked = rig.job("asked", true, begun).await;
    let back = rig.job("back", false, begun).await;
    rig.ends(&done(), begun).await;
    let recent = rig.job("recent", false, begun).await;
    rig.ends(&JobEnd::Cancelled { note: "x".into() }, begun + 29 * DAY).await;
    let waiting = rig.job("waiting", false, begun).await;
    rig.leaves("nobodys0");
    let all = [&old, &poison, &asked, &back, &recent, &waiting];

    // A day has not passed: nothing goes.
    assert_eq!(rig.round(&Rules::default(), begun + DAY / 2).await, Swept::default());
    assert!(all.iter().all(|id| rig.has(id, "log") && rig.has(id, "checkout")));

    // It was put back: what is long over is not any more.
    assert!(rig.queue.requeue(&back, begun + 30 * DAY).await.unwrap());
    let swept = rig.round(&Rules::default(), begun + 31 * DAY).await;
    let there = |part: &str| all.map(|id| rig.has(id, part));
    assert_eq!(there("log"), [false, false, true, true, true, true], "{swept:?}");
    assert_eq!(there("checkout"), [false, false, true, true, false, true], "{swept:?}");
    assert!(!rig.has("nobodys0", "log") && !places::gone(rig.folder.path()).exists());
    assert_eq!((swept.folders, swept.checkouts, swept.more), (3, 1, false), "{swept:?}");
    // What was shown of jobs that are over goes; what of an open one was, stays.
    for (id, stays) in
        [(&old, false), (&poison, false), (&asked, true), (&back, true), (&recent, false), (&waiting, true)]
    {
        assert_eq!(rig.noted(&format!("shown/{id}")).await, stays, "{id}");
        assert_eq!(rig.noted(&format!("announced/{id}")).await, stays, "{id}");
    }
    // The rows stay: the same event makes no second job, and a dead one can be put back.
    assert!(rig.queue.requeue(&poison, begun + 32 * DAY).await.unwrap());
    // What is leased is needed, however long ago that was.
    let (job, _) = rig.queue.lease("w", Room { per_repository: 9 }, begun + 32 * DAY, 1000).await.unwrap().unwrap();
    rig.leaves(&job.id);
    rig.round(&Rules::default(), begun + 300 * DAY).await;
    assert!(rig.has(&job.id, "checkout"), "{job:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_round_does_so_much_and_the_next_one_goes_on() {
    let rig = Rig::new().await;
    for n in 0..MOST + 3 {
        rig.leaves(&format!("lost{n:04}"));
        rig.queue.keep_note(&format!("answers/h/acme/widgets/p{n}"), "[]").await.unwrap();
    }
    let later = now() + 40 * DAY;
    let first = rig.round(&Rules::default(), later).await;
    assert_eq!((first.folders, first.notes, first.more), (MOST, MOST, true));
    let second = rig.round(&Rules::default(), later).await;
    assert_eq!((second.folders, second.notes, second.more), (3, 3, false));
    assert_eq!(rig.round(&Rules::default(), later).await, Swept::default());
}

fn library(workflows: &[(&str, &str)]) -> Library {
    let mut sources = workflow::builtin();
    for (name, cron) in workflows {
        let text = format!(
            "name: {name}\non: {{ schedule: [{{ cron: \"{cron}\" }}] }}\nsteps: {{ work: {{ run: \"true\" }} }}\n"
        );
        sources.push(Source { path: format!(".codeforge/workflows/{name}.yml"), text, builtin: false });
    }
    workflow::load(&sources, &|_| None)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notes_go_by_age_and_never_one_of_a_rule_that_holds() {
    let rig = Rig::new().await;
    let (yearly, gone) = (library(&[("yearly", "0 3 1 1 *")]), library(&[("gone", "0 3 * * *")]));
    let names = |library: &Library| -> Vec<String> {
        let entries = schedule::entries(library, &served().name);
        let both =
            entries.iter().map(|it| [schedule::tick_note(&served(), it), schedule::seen_note(&served(), it.workflow)]);
        both.flatten().collect()
    };
    let other = Served { name: "acme/other".into(), ..served() };
    let of_other = schedule::seen_note(&other, "nightly");
    let (heard, about) = ("heard/api.github.com/acme/widgets/9", "about/api.github.com/acme/widgets/9/ab12");
    let (answers, swept) = ("answers/h/acme/widgets/ann", "swept/Github/h/acme/widgets");
    let held: Vec<String> = [names(&yearly), names(&gone)].concat();
    for name in held.iter().map(String::as_str).chain([of_other.as_str(), heard, about, answers, swept]) {
        rig.queue.keep_note(name, "1").await.unwrap();
    }
    let left = async || {
        let mut left = BTreeSet::new();
        for name in held.iter().map(String::as_str).chain([of_other.as_str(), heard, about, answers, swept]) {
            if rig.noted(name).await {
                left.insert(name.to_owned());
            }
        }
        left
    };
    let all = left().await;
    let mut rules = Rules::default();
    rules.of(&served(), Some(&yearly));
    // That one's configuration cannot be had now.
    rules.of(&other, None);
    let asks = async |days: i64| forget::asks_for_tables(&*rig.queue, &KEEP, now() + days * DAY).await.unwrap();
    assert!(!asks(89).await && asks(91).await, "tables are asked for only where there is something old");

    rig.round(&rules, now() + 2 * DAY).await;
    assert_eq!(&all - &left().await, BTreeSet::from([answers.to_owned()]), "what counts an hour's answers");
    rig.round(&rules, now() + 91 * DAY).await;
    let mut stays: BTreeSet<String> = names(&yearly).into_iter().collect();
    stays.extend([of_other.clone(), swept.to_owned()]);
    assert_eq!(left().await, stays, "a rule that is due once a year keeps its note");

    // A configuration with errors says nothing about which rules hold.
    let broken = library(&[("yearly", "not a time")]);
    let mut unsure = Rules::default();
    unsure.of(&served(), Some(&broken));
    rig.round(&unsure, now() + 400 * DAY).await;
    assert!(names(&yearly).iter().all(|name| stays.contains(name)) && rig.noted(&names(&yearly)[0]).await);
    // Written again meanwhile: not old.
    let name = &names(&yearly)[0];
    assert!(!rig.queue.forget_note(name, now() - DAY).await.unwrap());
}
