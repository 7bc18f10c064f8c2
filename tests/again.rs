//! What happens a second time, and what is said twice: the real `codeforge serve`, a forge that remembers and tells, runs in
//! processes of their own. A second real event makes a second job; a second word of the same event makes none.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]
mod common;

use codeforge::model::forge::ForgeKind;
use common::forge_server::hooks::Hook;
use common::town::{JobRow, Plan, Town};
use common::{clean, spoken};
use std::time::{Duration, Instant};

const KINDS: [ForgeKind; 3] = [ForgeKind::Github, ForgeKind::Gitlab, ForgeKind::Gitea];

/// Takes as long as a file is not there; the folder stands for itself.
const HELD: &str = "on: { pull_request: {} }
steps: { work: { run: \"test -e hold && exec sleep 60; test ! -e broken\" } }
deliver: none
";

const BUILD: &str = "on: { issues: { types: [labeled], labels: [agent] } }
steps: { work: { run: \"test -e ready.txt && date +%s%N > made.txt\" } }
deliver: { as: pull_request, title: Build it, branch: \"codeforge/build/{{ key }}\" }
";

fn town(kind: ForgeKind) -> Plan {
    Town::of(kind).gated().member("carl", "write").hasty()
}

/// The jobs of a workflow, as `state conclusion`, oldest first.
async fn ends(town: &Town, workflow: &str) -> Vec<String> {
    let of = |job: &JobRow| format!("{} {}", job.state, job.conclusion).trim_end().to_owned();
    town.jobs().await.iter().filter(|job| job.workflow == workflow).map(of).collect()
}

/// Waits until there are so many jobs of a workflow, and the newest is in this state.
async fn newest(town: &Town, workflow: &str, many: usize, state: &str) -> JobRow {
    let look = || async {
        let jobs = town.jobs().await.into_iter().filter(|job| job.workflow == workflow).collect::<Vec<_>>();
        (jobs.len() == many).then(|| jobs.last().cloned()).flatten().filter(|job| job.state == state)
    };
    town.until(&format!("{workflow}: {many}, and the newest is {state}"), look).await
}

/// All that was told so far is told once more: under its own id, and as another webhook of the same forge would. Waits until
/// it is decided about.
async fn told_again(town: &Town) {
    let sent = town.hooks.sent();
    for hook in &sent {
        assert!((200..300).contains(&town.hooks.send(hook).await));
        let mut body: serde_json::Value = serde_json::from_slice(&hook.body).unwrap();
        body["installation"] = serde_json::json!({ "id": 77 });
        let other = Hook { id: format!("app-{}", hook.id), body: body.to_string().into_bytes(), ..hook.clone() };
        assert!((200..300).contains(&town.hooks.send(&other).await));
    }
    town.decides().await;
}

/// A label that is set again is another wish: after a failure, and after a success, whose change is brought up to date.
#[tokio::test(flavor = "multi_thread")]
async fn a_label_that_is_set_again_builds_again() {
    for kind in KINDS {
        let town = town(kind).workflow("build", BUILD).start().await;
        let ann = town.person("ann");
        let issue = ann.opens_issue("The parser", "Please.").await;
        ann.labels(issue, "agent").await;
        town.settles().await;
        assert_eq!(ends(&town, "build").await, ["done failure"], "{kind:?}");
        ann.pushes("main", &[("ready.txt", "1\n")]).await;
        for round in 1..=2 {
            ann.unlabels(issue, "agent").await;
            ann.labels(issue, "agent").await;
            town.settles().await;
            told_again(&town).await;
            let wanted = vec!["done success".to_owned(); round];
            assert_eq!(ends(&town, "build").await[1..], wanted, "{kind:?}: {:#?}", town.decided().await);
            assert_eq!(town.changes_of_ours().len(), 1, "{kind:?}: the open change is brought up to date");
        }
        let branch = town.changes_of_ours().remove(0).head;
        let log = town.forge.git(&["log", "--format=%an", &format!("main..{branch}")]);
        assert!(log.lines().count() >= 1 && town.forge.file(&branch, "made.txt").is_some(), "{kind:?}: {log}");
    }
}

/// What was cancelled because the change was closed or pushed to is done when the change is what it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_comes_back_is_looked_at_again() {
    for kind in KINDS {
        let town = town(kind).workflow("check", HELD).start().await;
        let ann = town.person("ann");
        let change = ann.opens_change("topic", &[("hold", "a\n")]).await;
        let first = town.forge.tip("topic").unwrap();
        newest(&town, "check", 1, "running").await;
        let second = ann.pushes("topic", &[("hold", "b\n")]).await;
        newest(&town, "check", 2, "running").await;
        // Back to the first head, then closed while that is looked at, then open again.
        ann.pushes_back("topic", &first).await;
        newest(&town, "check", 3, "running").await;
        ann.closes(change).await;
        newest(&town, "check", 3, "cancelled").await;
        ann.reopens(change).await;
        let last = newest(&town, "check", 4, "running").await;
        // All of that is told once more, late: nothing new has happened.
        told_again(&town).await;
        assert_eq!(town.jobs().await.len(), 4, "{kind:?}: {:#?}", town.decided().await);
        assert_eq!(ends(&town, "check").await[..3], ["cancelled"; 3], "{kind:?}: {:#?}", town.jobs().await);
        town.alters("UPDATE jobs SET cancel = 'the test goes on' WHERE id = ?", &[&last.id]).await;
        town.settles().await;
        // A head without the file ends at once; pushed again after something else it is not done twice.
        let good = ann.force_pushes("topic", &[("good.txt", "1\n")]).await;
        town.settles().await;
        ann.pushes("topic", &[("broken", "1\n")]).await;
        town.settles().await;
        ann.pushes_back("topic", &good).await;
        town.settles().await;
        told_again(&town).await;
        assert_eq!(ends(&town, "check").await[4..], ["done success", "done failure"], "{kind:?}");
        assert_ne!(second, good);
    }
}

/// A failed check runs once more when somebody opens the change again: that is what we tell people to do.
#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_done_again_when_its_change_is_opened_again() {
    let town = town(ForgeKind::Github).workflow("check", HELD).start().await;
    let ann = town.person("ann");
    let change = ann.opens_change("topic", &[("broken", "1\n")]).await;
    town.settles().await;
    for many in 2..=3 {
        ann.closes(change).await;
        ann.reopens(change).await;
        newest(&town, "check", many, "done").await;
        town.settles().await;
        told_again(&town).await;
        assert_eq!(ends(&town, "check").await.len(), many);
    }
}

/// A branch that goes back to where it was is a push like any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_back_is_a_push() {
    let deploy = "on: { push: { branches: [live] } }\nsteps: { work: { run: \"true\" } }\ndeliver: none\n";
    for kind in KINDS {
        let town = town(kind).workflow("deploy", deploy).start().await;
        let ann = town.person("ann");
        let first = ann.pushes("live", &[("v", "1\n")]).await;
        ann.pushes("live", &[("v", "2\n")]).await;
        ann.pushes_back("live", &first).await;
        town.settles().await;
        told_again(&town).await;
        assert_eq!(ends(&town, "deploy").await, ["done success"; 3], "{kind:?}: {:#?}", town.decided().await);
    }
}

/// Where the rule is to drop the new one, whoever asked for it is told what runs instead: at once, or after their yes.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_dropped_for_another_job_is_told_so() {
    let rule =
        "concurrency: { group: one, on_conflict: skip }\nsteps: { work: { run: \"sleep 60\" } }\ndeliver: none\n";
    let look = format!("on: {{ command: {{ name: look }} }}\n{rule}");
    let mend = format!("on: {{ command: {{ name: mend }} }}\nquote: true\n{rule}");
    let watch = format!("on: {{ pull_request: {{ types: [labeled] }} }}\n{rule}");
    let town = town(ForgeKind::Github)
        .workflow("look", &look)
        .workflow("mend", &mend)
        .workflow("watch", &watch)
        .serve("limits: { workers: 4, per_repository: 4 }");
    let town = town.start().await;
    let (ann, bob) = (town.person("ann"), town.person("bob"));
    let change = ann.opens_change("topic", &[("a.txt", "1\n")]).await;
    let says = async |words: &[&str]| {
        let all = |body: &str| words.iter().all(|word| body.contains(word));
        let said = || town.comments_of_ours(change).iter().any(|it| all(&it.body));
        town.until(&format!("{words:?}"), || async { said().then_some(()) }).await;
    };
    ann.comments(change, "/codeforge look").await;
    let runs = newest(&town, "look", 1, "running").await;
    bob.comments(change, "/codeforge look").await;
    newest(&town, "look", 2, "cancelled").await;
    says(&["not begun", &runs.id, "under way"]).await;
    // The comment of the workflow is still that of the job which runs.
    says(&["**look** running", &runs.id]).await;

    // Nobody asked for what a label starts, and nobody is told.
    ann.labels(change, "first").await;
    let labelled = newest(&town, "watch", 1, "running").await;
    ann.labels(change, "second").await;
    newest(&town, "watch", 2, "cancelled").await;

    let mut asked = Vec::new();
    for many in 1..=2 {
        ann.comments(change, "/codeforge mend").await;
        asked.push(newest(&town, "mend", many, "asked").await.id);
    }
    for id in &asked {
        bob.comments(change, &format!("/codeforge approve {id}")).await;
        town.job("it is not asked any more", |job| job.id == *id && job.state != "asked").await;
    }
    says(&["approved, but it does not run", &asked[1], &asked[0], "under way"]).await;
    let shown = spoken(&town.codeforge(&["queue", "show", &asked[1], "--config", "serve.yml"]));
    assert!(shown.contains("approved by bob at $0.0000"), "{shown}");
    let of_labels: Vec<String> = town.comments_of_ours(change).into_iter().map(|it| it.body).collect();
    assert!(of_labels.iter().all(|body| !body.contains("watch")), "{of_labels:#?}");
    for id in [&runs.id, &asked[0], &labelled.id] {
        town.codeforge(&["queue", "cancel", id, "--config", "serve.yml"]);
    }
    town.settles().await;
    assert_eq!(ends(&town, "look").await, ["cancelled"; 2]);
}

/// Whoever repeats a job asks for it: they are no independent voice, and neither is who asked for it first.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_job_is_the_wish_of_who_repeats_it() {
    let mend = "on: { command: { name: mend } }\nquote: true\nindependent_approval: true
steps: { work: { run: \"true\" } }\ndeliver: none\n";
    let town = town(ForgeKind::Github).workflow("mend", mend).start().await;
    let change = town.person("ann").opens_change("topic", &[("a.txt", "1\n")]).await;
    town.person("ann").comments(change, "/codeforge mend").await;
    newest(&town, "mend", 1, "asked").await;
    town.person("ann").comments(change, "/codeforge deny").await;
    newest(&town, "mend", 1, "cancelled").await;
    town.person("bob").comments(change, "/codeforge retry").await;
    let job = newest(&town, "mend", 2, "asked").await;
    assert_eq!(job.actor, "bob");
    for who in ["bob", "ann"] {
        town.person(who).comments(change, "/codeforge approve").await;
        town.settles().await;
        assert_eq!(newest(&town, "mend", 2, "asked").await.id, job.id, "{who}");
    }
    town.person("carl").comments(change, "/codeforge approve").await;
    town.settles().await;
    assert_eq!(ends(&town, "mend").await, ["cancelled", "done success"]);
    let event = std::fs::read_to_string(town.state().join("jobs").join(&job.id).join("event.json")).unwrap();
    let event: serde_json::Value = serde_json::from_str(&event).unwrap();
    assert_eq!(event["actor"], "bob", "whose budget pays");
    let shown = spoken(&town.codeforge(&["queue", "show", &job.id, "--config", "serve.yml"]));
    for words in ["refused by bob for", "refused by ann", "approved by carl at $0.0000"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
}

/// A command under an issue finds that issue's jobs, whatever else the repository did since.
#[tokio::test(flavor = "multi_thread")]
async fn an_issues_jobs_are_found_among_many() {
    let look = "on: { command: { name: look } }\nsteps: { work: { run: \"true\" } }\ndeliver: none\n";
    let town = town(ForgeKind::Github).workflow("look", look).start().await;
    let ann = town.person("ann");
    let issue = ann.opens_issue("The parser", "Please.").await;
    ann.comments(issue, "/codeforge look").await;
    town.settles().await;
    let job = newest(&town, "look", 1, "done").await;
    let columns = "forge, host, name, workflow, event, on_conflict, priority, due_ms, settings, state, updated_ms";
    let many = format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 600)
         INSERT INTO jobs (id, key, created_ms, issue, {columns})
         SELECT 'many' || i, 'many' || i, created_ms + i, 9999, {columns} FROM jobs, n WHERE id = ?"
    );
    town.alters(&many, &[&job.id]).await;
    ann.comments(issue, "/codeforge status").await;
    let said = || town.comments_of_ours(issue).iter().any(|it| it.body.contains("1 job, ended"));
    town.until("the one job is told of", || async { said().then_some(()) }).await;
}

/// All ticks that a server missed are made up for, one after the other, and each begins where the one before ended.
#[tokio::test(flavor = "multi_thread")]
async fn all_that_was_missed_is_made_up_for() {
    let hourly = "on: { schedule: [{ cron: \"0 * * * *\", missed: all }] }\nsteps: { work: { run: \"sleep 1\" } }\ndeliver: none\n";
    let town = town(ForgeKind::Github).workflow("hourly", hourly).start().await;
    let tables = "SELECT count(*) FROM notes WHERE name LIKE 'tick/%'";
    town.until("the time table is known", || async { (town.count(tables).await == 1).then_some(()) }).await;
    town.kill();
    let older = "UPDATE notes SET value = CAST(value AS INTEGER) - 4 * 3600000 WHERE name LIKE 'tick/%'";
    town.alters(older, &[]).await;
    town.starts().await;
    town.job("they are due", |job| job.workflow == "hourly").await;
    town.settles().await;
    let ends = ends(&town, "hourly").await;
    assert!((4..=5).contains(&ends.len()) && ends.iter().all(|end| end == "done success"), "{:#?}", town.jobs().await);
    let mut due = town.due().await;
    let made = due.clone();
    due.sort();
    assert_eq!(made, due);
    // The first one has seen nothing before; the others begin at the commit that it looked at.
    let begun = "SELECT count(*) FROM jobs WHERE json_extract(event, '$.push.before') = json_extract(event, '$.sha')";
    assert_eq!(town.count(begun).await, i64::try_from(ends.len()).unwrap() - 1);
}

/// A run that does not end within `grace` is killed with all that it started, and its job goes back before the server ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_does_not_end_in_time_is_given_back() {
    let slow = "on: { push: { branches: [work] } }\nsteps: { work: { run: \"sleep 6173\" } }\ndeliver: none\n";
    let town = town(ForgeKind::Github).workflow("slow", slow).serve("grace: 1s").start().await;
    town.person("ann").pushes("work", &[("a.txt", "1\n")]).await;
    let job = newest(&town, "slow", 1, "running").await;
    let folder = town.state().join("jobs").join(&job.id);
    let sleeps = || {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        all.filter_map(|it| std::fs::read(it.path().join("cmdline")).ok()).any(|line| line == b"sleep\x006173\0")
    };
    town.until("its step is at work", || async { sleeps().then_some(()) }).await;
    // The whole group hears nothing any more.
    let process = std::fs::read_to_string(folder.join("process")).unwrap();
    let pid = process.split('@').next().unwrap();
    assert!(clean("kill").args(["-STOP", "--", &format!("-{pid}")]).status().unwrap().success(), "{process}");
    let asked = Instant::now();
    assert_eq!(town.stops().await, Some(0));
    assert!(asked.elapsed() < Duration::from_secs(50), "{:?}", asked.elapsed());
    let row = town.jobs().await.remove(0);
    assert_eq!((row.state.as_str(), row.attempts), ("waiting", 0), "{row:?}\n{}", town.log());
    assert!(!town.log().contains("\"cut\"") && !town.log().contains("\"interrupt\""), "{}", town.log());
    // Who is killed is gone a moment later.
    town.until("nothing that it started is left", || async { (!sleeps()).then_some(()) }).await;
}
