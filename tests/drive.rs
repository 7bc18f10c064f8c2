//! The working half of `codeforge serve`: what comes of a delivery, however servers die, stop and come back. The real
//! program, real git over HTTP, a real database; the forge is a fake that remembers, the model follows a script.

mod common;

use codeforge::model::forge::ForgeKind;
use common::town::{JobRow, Plan, SLOW, Town};
use common::{Reply, Rule, ok};
use std::time::Duration;

/// A push of `work` starts it.
fn slow() -> String {
    format!("on: {{ push: {{ branches: [work] }} }}\n{SLOW}")
}

fn town() -> Plan {
    Town::of(ForgeKind::Github).gated()
}

async fn running(town: &Town) -> JobRow {
    town.until("a job runs", || async { town.jobs().await.into_iter().find(|job| job.state == "running") }).await
}

#[track_caller]
fn one_change(town: &Town) {
    let made = town.changes_of_ours();
    assert_eq!(made.len(), 1, "{made:#?}\n{}", town.log());
    assert_eq!(town.forge.file(&made[0].head, "made.txt").as_deref(), Some("one\ntwo\n"));
    let ours = ok(common::git().arg("-C").arg(town.forge.bare()).args(["branch", "--list", "codeforge/*"]));
    assert_eq!(ours.lines().count(), 1, "{ours}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_in_mid_run_goes_on_when_it_is_back() {
    let town = town().workflow("slow", &slow()).start().await;
    town.person("ann").pushes("work", &[("a.txt", "1\n")]).await;
    let job = town.in_the_second_step().await;
    town.kill();
    town.starts().await;
    town.settles().await;
    one_change(&town);
    let jobs = town.jobs().await;
    assert_eq!((jobs.len(), jobs[0].id.as_str(), jobs[0].attempts), (1, job.id.as_str(), 2), "{jobs:?}");
    let log = town.log_of(&job.id);
    assert!(log.contains("goes on where its journal ends"), "{log}");
}

/// reliability.md 20: a server that was away for longer than its lease comes back, and writes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn reliability_20_a_zombie_writes_nothing() {
    let town = town().workflow("slow", &slow()).start().await;
    town.person("ann").pushes("work", &[("a.txt", "1\n")]).await;
    let job = town.in_the_second_step().await;
    let process = std::fs::read_to_string(town.state().join("jobs").join(&job.id).join("process")).unwrap();
    let child = process.split('@').next().unwrap().to_owned();
    let first = town.pid();
    let signal = |name: &str, pid: &str| ok(common::clean("kill").args([name, pid]));
    signal("-STOP", &first);
    signal("-STOP", &child);
    town.alters("UPDATE jobs SET lease_ms = 0 WHERE id = ?", &[&job.id]).await;
    let zombie = town.leaves();
    town.starts().await;
    town.settles().await;
    one_change(&town);
    let (writes, log) = (town.writes(), town.log());
    signal("-CONT", &first);
    // The first server finds out that somebody else has it.
    town.until("the zombie gives up", || async {
        {
            let log = town.log();
            (log.contains("is stale") || log.contains("another worker has it now")).then_some(())
        }
    })
    .await;
    town.settles().await;
    one_change(&town);
    assert_eq!(town.writes(), writes, "{log}");
    assert_eq!(town.jobs().await[0].attempts, 2);
    drop(zombie);
}

/// reliability.md 24.
#[tokio::test(flavor = "multi_thread")]
async fn reliability_24_ten_triggers_one_active() {
    let text = "on: { push: { branches: [work] } }\nconcurrency: { group: \"{{ event.ref }}\" }\n\
                steps: { work: { run: \"sleep 1\" } }\ndeliver: none\n";
    let town = town().workflow("grouped", text).serve("limits: { workers: 4, per_repository: 4 }").start().await;
    for n in 0..10 {
        town.person("ann").pushes("work", &[("a.txt", &format!("{n}\n"))]).await;
    }
    let most = std::cell::Cell::new(0);
    town.until("all are over", || async {
        let jobs = town.jobs().await;
        let active = jobs.iter().filter(|job| job.state == "running").count();
        most.set(most.get().max(active));
        let over = jobs.iter().all(|job| matches!(job.state.as_str(), "done" | "cancelled"));
        (over && jobs.len() == 10).then_some(())
    })
    .await;
    assert_eq!(most.get(), 1);
    let jobs = town.jobs().await;
    let done: Vec<usize> = (0..10).filter(|at| jobs[*at].state == "done").collect();
    assert!(done.len() < 10 && done.last() == Some(&9), "the newest runs, and others gave way: {jobs:#?}");
    assert!(jobs.iter().filter(|job| job.state == "cancelled").all(|job| job.note.contains("same group")), "{jobs:#?}");
}

/// reliability.md 25, trust.md 13 and 38.
#[tokio::test(flavor = "multi_thread")]
async fn reliability_25_a_push_a_retarget_and_a_close_end_the_run_and_say_why() {
    let text = "on: { pull_request: {} }\nsteps: { work: { run: \"sleep 60; echo x > x.txt\" } }\ndeliver: comment\n";
    let town = town().workflow("watch", text).start().await;
    let ann = town.person("ann");
    let change = ann.opens_change("topic", &[("a.txt", "1\n")]).await;
    let first = running(&town).await;
    let ended = async |id: &str, why: &str| {
        let note = town
            .until("it is cancelled", || async {
                town.jobs().await.into_iter().find(|job| job.id == id && job.state == "cancelled").map(|job| job.note)
            })
            .await;
        assert!(note.contains(why), "{note}");
    };
    let head = ann.force_pushes("topic", &[("a.txt", "2\n")]).await;
    ended(&first.id, &head[..10]).await;
    let second = running(&town).await;
    town.forge.commit_by("eve", "lax", "main", &[("b.txt", Some("1\n"))]);
    ann.retargets(change, "lax").await;
    ended(&second.id, "`lax`").await;
    ann.pushes("topic", &[("a.txt", "3\n")]).await;
    let third = running(&town).await;
    ann.closes(change).await;
    ended(&third.id, "was closed").await;
    town.settles().await;
    let said = town.comments_of_ours(change);
    assert!(said.len() <= 1, "{said:#?}");
}

/// reliability.md 6: events while the server is down are caught up with, and what webhooks bring later is not done twice.
#[tokio::test(flavor = "multi_thread")]
async fn reliability_6_what_no_webhook_told_is_found() {
    let review = "on: { pull_request: {} }\nsteps: { work: { run: \"true\" } }\ndeliver: none\n";
    let asked = "on: { command: { name: look } }\nsteps: { work: { run: \"true\" } }\ndeliver: none\n";
    let pushed = "on: { push: { branches: [main] } }\nsteps: { work: { run: \"true\" } }\ndeliver: none\n";
    let plan = town().workflow("opened", review).workflow("asked", asked).workflow("pushed", pushed).serve("sweep: 1s");
    let town = plan.start().await;
    town.until("a first sweep", || async {
        (town.count("SELECT count(*) FROM notes WHERE name LIKE 'swept/%'").await > 0).then_some(())
    })
    .await;
    assert_eq!(town.stops().await, Some(0));
    town.hooks.hold();
    let ann = town.person("ann");
    let change = ann.opens_change("topic", &[("a.txt", "1\n")]).await;
    ann.comments(change, "/codeforge look").await;
    ann.pushes("main", &[("b.txt", "1\n")]).await;
    // The fake's clock is not ours.
    town.alters("UPDATE notes SET value = '0' WHERE name LIKE 'swept/%'", &[]).await;
    town.starts().await;
    let names = async || {
        let mut names: Vec<String> = town.jobs().await.into_iter().map(|job| job.workflow).collect();
        names.sort();
        names
    };
    town.until("all three are found", || async { (names().await == ["asked", "opened", "pushed"]).then_some(()) })
        .await;
    town.hooks.release(7, 2).await;
    town.settles().await;
    assert_eq!(names().await, ["asked", "opened", "pushed"], "{:#?}", town.decided().await);
    assert!(town.work().await.iter().all(|job| job.ends_with("done success")), "{:?}", town.work().await);
}

/// reliability.md 22.
#[tokio::test(flavor = "multi_thread")]
async fn reliability_22_poison_becomes_a_dead_letter_that_can_be_put_back() {
    let text = "on: { push: { branches: [work] } }\n\
                steps: { work: { mode: reviewer, prompt: \"Look.\", output: { schema: review } } }\ndeliver: none\n";
    let broken = Rule::when().system("You are the reviewer").reply(Reply::status(500)).times(3);
    let plan = town().workflow("ask", text).model(vec![broken]);
    let town = plan.serve("retries: { attempts: 3, backoff: 100ms, longest: 300ms }").start().await;
    town.person("ann").pushes("work", &[("a.txt", "1\n")]).await;
    let dead =
        town.until("it is dead", || async { town.jobs().await.into_iter().find(|job| job.state == "dead") }).await;
    assert_eq!(dead.attempts, 3, "{dead:?}");
    town.until("an alarm", || async { town.log().lines().any(|line| line.contains("alarm")).then_some(()) }).await;
    let said = town.codeforge(&["queue", "dead", "--config", "serve.yml"]);
    assert!(String::from_utf8_lossy(&said.stdout).contains(&dead.id), "{}", common::spoken(&said));
    let review = serde_json::json!({ "approved": true, "summary": "Fine.", "findings": [] });
    let finish = Reply::call("finish", serde_json::json!({ "summary": "Done.", "output": review }));
    town.model.add(Rule::when().system("You are the reviewer").reply(finish));
    let said = town.codeforge(&["queue", "requeue", &dead.id, "--config", "serve.yml"]);
    assert!(said.status.success(), "{}", common::spoken(&said));
    town.settles().await;
    assert_eq!(town.work().await, ["ask: done success"]);
    let shown = town.codeforge(&["queue", "show", &dead.id, "--config", "serve.yml", "--format", "json"]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!((shown["state"].as_str(), shown["attempts"].as_u64()), (Some("done"), Some(1)), "{shown}");
}

/// reliability.md 27.
#[tokio::test(flavor = "multi_thread")]
async fn reliability_27_a_run_is_left_where_it_can_be_gone_on_with() {
    let town = town().workflow("slow", &slow()).serve("grace: 10s").start().await;
    town.person("ann").pushes("work", &[("a.txt", "1\n")]).await;
    let job = town.in_the_second_step().await;
    let begun = std::time::Instant::now();
    assert_eq!(town.stops().await, Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let left = town.jobs().await;
    assert_eq!((left[0].state.as_str(), left[0].attempts), ("waiting", 0), "{left:?}\n{}", town.log());
    town.starts().await;
    town.settles().await;
    one_change(&town);
    assert_eq!(town.jobs().await[0].id, job.id);
}

/// reliability.md 26: one run per tick, whatever the number of servers.
#[tokio::test(flavor = "multi_thread")]
async fn reliability_26_a_tick_is_one_run_of_two_servers() {
    let text = "on: { schedule: [{ cron: \"* * * * *\", timezone: Europe/Berlin }] }\n\
                steps: { work: { run: \"true\" } }\ndeliver: none\n";
    let town = town().workflow("tick", text).start().await;
    let _second = town.leaves();
    town.starts().await;
    town.until("the table is known", || async {
        (town.count("SELECT count(*) FROM notes WHERE name LIKE 'tick/%'").await > 0).then_some(())
    })
    .await;
    // Three minutes that nobody was there: one run for all of them, the next minute's perhaps beside it.
    town.alters("UPDATE notes SET value = CAST(value AS INTEGER) - 180000 WHERE name LIKE 'tick/%'", &[]).await;
    town.until("a run", || async { town.work().await.contains(&"tick: done success".to_owned()).then_some(()) }).await;
    town.settles().await;
    let due = "SELECT count(*) - count(DISTINCT json_extract(event, '$.schedule.at')) FROM jobs";
    assert_eq!(town.count(due).await, 0, "a tick twice: {:#?}", town.jobs().await);
    assert!(town.jobs().await.len() <= 2, "{:#?}", town.jobs().await);
    let next = town.codeforge(&["schedule", "next", "--config", "serve.yml", "--count", "2"]);
    let next = String::from_utf8_lossy(&next.stdout).into_owned();
    assert!(next.contains("Europe/Berlin") && next.matches(":00Z").count() == 2, "{next}");
}

/// A state folder that is named while the server runs waits for a restart: until then jobs are where the database is.
#[tokio::test(flavor = "multi_thread")]
async fn another_state_folder_waits_for_a_restart() {
    let text = "on: { push: { branches: [work] } }\nsteps: { work: { run: \"true\" } }\ndeliver: none\n";
    let town = town().workflow("build", text).start().await;
    let file = town.folder().join("serve.yml");
    let settings = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, settings.replace("state: state\n", "state: elsewhere\n")).unwrap();
    ok(common::clean("kill").args(["-HUP", &town.pid()]));
    town.until("the settings are read", || async { town.log().contains("after_a_restart").then_some(()) }).await;
    town.person("ann").pushes("work", &[("a.txt", "1\n")]).await;
    town.settles().await;
    let jobs = town.jobs().await;
    assert_eq!((jobs.len(), jobs[0].conclusion.as_str()), (1, "success"), "{jobs:?}");
    assert!(town.state().join("jobs").join(&jobs[0].id).is_dir() && !town.folder().join("elsewhere").exists());
}

/// trust.md 36.
#[tokio::test(flavor = "multi_thread")]
async fn trust_36_a_hundred_comments_are_a_few_runs() {
    let text = "on: { command: { name: look } }\nconcurrency: { group: \"{{ event.change.number }}\" }\n\
                steps: { work: { run: \"sleep 2\" } }\ndeliver: none\n";
    let town = town().workflow("asked", text).start().await;
    town.hooks.hold();
    let ann = town.person("ann");
    let change = ann.opens_change("topic", &[("a.txt", "1\n")]).await;
    for n in 0..100 {
        ann.comments(change, &format!("/codeforge look {n}")).await;
    }
    town.hooks.release(3, 1).await;
    // Each is acknowledged, and a forge is written to once a second.
    for many in [30, 60, 90, 100] {
        town.until("they are heard", || async { (town.jobs().await.len() >= many).then_some(()) }).await;
    }
    town.settles().await;
    let done = town.jobs().await.iter().filter(|job| job.state == "done").count();
    let all = town.jobs().await.len();
    assert!(all == 100 && (1..=50).contains(&done), "{done} of {all} ran");
}
