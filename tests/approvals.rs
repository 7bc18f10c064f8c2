//! A price, a yes, and a run at that price: the real `codeforge serve`, its runs in processes of their own, a forge that
//! remembers, a model that says what it costs.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]
mod common;

use codeforge::model::forge::ForgeKind;
use common::forge_server::Fault;
use common::town::{JobRow, Plan, Town};
use common::{Reply, Rule, Script};
use serde_json::{Value, json};
use std::time::Duration;

const KINDS: [ForgeKind; 3] = [ForgeKind::Github, ForgeKind::Gitlab, ForgeKind::Gitea];

/// A repair that names its price first. It is at most four calls long.
const FIX: &str = "description: Mends what it is told.
on: { command: { name: fix, access: write } }
inputs: { task: { type: string, required: true } }
quote: true
steps: { work: { mode: coder, prompt: \"Mend this: {{ inputs.task }}\", max_steps: 4 } }
deliver: { as: push-to-branch, title: Mend what was asked for }
";

fn town(kind: ForgeKind, workflow: &str, script: Script) -> Plan {
    let gates = "gates:\n  tests: { run: \"test -f made.txt\" }\n  lint: { run: \"true\" }\n";
    let plan = Town::of(kind).file(".codeforge/config.yml", gates).workflow("fix", workflow).model(script);
    plan.member("rita", "read").hasty()
}

/// What the model does: a file, in two calls of so many dollars.
fn mends(usd: f64) -> Script {
    let coder = || Rule::when().system("You are the coder").user("Mend this");
    let write = Reply::call("write_file", json!({ "path": "made.txt", "content": "made\n" }));
    let finish = Reply::call("finish", json!({ "summary": "Mended it." }));
    vec![coder().turn(0).reply(write.cost(usd)), coder().turn(1).reply(finish.cost(usd))]
}

/// A change of ann's, and her command: a job that waits for a yes, and the change's number.
async fn asked(town: &Town) -> (u64, JobRow) {
    let ann = town.person("ann");
    let change = ann.opens_change("topic", &[("src/b.txt", "one\n")]).await;
    ann.comments(change, "/codeforge fix the parser").await;
    let job = town.job("a job waits for a yes", |job| job.state == "asked").await;
    shows(town, change, "waits for a yes").await;
    (change, job)
}

/// Some comment of ours says it.
async fn shows(town: &Town, change: u64, words: &str) {
    let said = || town.comments_of_ours(change).iter().any(|comment| comment.body.contains(words));
    town.until(&format!("`{words}` under the change"), || async { said().then_some(()) }).await;
}

async fn state_of(town: &Town, id: &str) -> JobRow {
    town.jobs().await.into_iter().find(|job| job.id == id).unwrap()
}

/// What the run's process was told, and what it made of it.
fn told(town: &Town, job: &str) -> (Value, Value) {
    let folder = town.state().join("jobs").join(job);
    let read = |name: &str| serde_json::from_str(&std::fs::read_to_string(folder.join(name)).unwrap()).unwrap();
    (read("job.json"), read("report/account.json"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_is_named_and_a_yes_runs_the_commit_at_that_price() {
    for kind in KINDS {
        let town = town(kind, FIX, mends(0.01)).start().await;
        let (change, job) = asked(&town).await;
        let head = town.change(change).head;
        let commit = town.forge.tip(&head).unwrap();
        // Nobody without the right says yes, and nothing was spent on naming a price.
        for who in ["eve", "rita", "tess"] {
            town.person(who).comments(change, "/codeforge approve").await;
        }
        town.settles().await;
        assert_eq!((state_of(&town, &job.id).await.state.as_str(), town.model.asked().len()), ("asked", 0), "{kind:?}");

        town.person("bob").comments(change, "/codeforge approve max=0.05").await;
        town.settles().await;
        let done = state_of(&town, &job.id).await;
        assert_eq!((done.state.as_str(), done.conclusion.as_str()), ("done", "success"), "{kind:?}: {done:?}");
        assert_eq!((done.approved_by.as_str(), done.cost.as_str()), ("bob", "0.020000"), "{kind:?}");
        let (told, account) = told(&town, &job.id);
        let named = &told["approved"]["named_usd"];
        let approved = json!({ "by": "bob", "commit": commit, "max_cost_usd": "0.0500", "named_usd": named });
        assert_eq!((&told["approved"], &account["budget_usd"]), (&approved, &json!(0.05)), "{kind:?}: {account:#}");
        assert_eq!(town.forge.git(&["rev-parse", &format!("{head}^")]), commit, "{kind:?}: it stands on what was seen");
        assert_eq!(town.forge.file(&head, "made.txt").as_deref(), Some("made\n"), "{kind:?}");
        let key = |comment: &common::forge_server::FakeComment| comment.body.lines().next().unwrap().to_owned();
        let mut keys: Vec<String> = town.comments_of_ours(change).iter().map(key).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), town.comments_of_ours(change).len(), "{kind:?}: {keys:?}");
        shows(&town, change, "for at most $0.050").await;
        town.model.finished();
    }
}

/// What was said yes to is the run's budget: a call that could exceed it is not made, and that is said. Who wants more
/// is told how to say yes to more, and that works.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_would_cost_more_is_stopped_at_the_price() {
    let mut script = mends(0.045);
    script.extend(mends(0.045).into_iter().take(1));
    let town = town(ForgeKind::Github, FIX, script).start().await;
    let (change, job) = asked(&town).await;
    let before = town.forge.tip("topic");
    town.person("bob").comments(change, "/codeforge approve max=$0.05").await;
    town.settles().await;
    let done = state_of(&town, &job.id).await;
    assert_eq!((done.conclusion.as_str(), done.cost.as_str()), ("limit", "0.045000"), "{done:?}");
    shows(&town, change, "&#36;0.045 of the budget of &#36;0.050 is spent").await;
    shows(&town, change, "the price that bob approved").await;
    assert!(!town.comments_of_ours(change).iter().any(|it| it.body.contains("budget.max_cost_usd")));
    assert_eq!(
        (town.model.asked().len(), town.forge.tip("topic")),
        (1, before),
        "one call, and nothing is handed over"
    );
    let retry = format!("/codeforge retry {}", job.id);
    shows(&town, change, &retry).await;
    town.person("bob").comments(change, &retry).await;
    town.job("it is priced anew", |job| job.state == "asked").await;
    town.person("bob").comments(change, "/codeforge approve").await;
    town.settles().await;
    let jobs = town.jobs().await;
    let again = jobs.iter().find(|it| it.id != job.id).unwrap();
    assert_eq!((again.conclusion.as_str(), again.cost.as_str()), ("success", "0.090000"), "{jobs:?}");
    town.model.finished();
}

/// A yes is about a commit: one that was said to what was there before counts for nothing, whenever the push came.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_in_between_makes_the_yes_void() {
    let busy = "on: { push: { branches: [busy] } }\nsteps: { work: { run: \"sleep 60\" } }\ndeliver: none\n";
    let plan = town(ForgeKind::Github, FIX, mends(0.01)).workflow("busy", busy);
    let town = plan.serve("limits: { workers: 1 }").start().await;
    let (ann, bob) = (town.person("ann"), town.person("bob"));
    let (change, first) = asked(&town).await;

    // The push is not told yet when bob says yes.
    town.hooks.hold();
    ann.pushes("topic", &[("src/b.txt", "two\n")]).await;
    bob.comments(change, &format!("/codeforge approve {}", first.id)).await;
    let yes = town.hooks.missed().pop().unwrap();
    assert_eq!(town.hooks.send(&yes).await, 202);
    let second = town.job("it is priced anew", |job| job.state == "asked" && job.id != first.id).await;
    let void = state_of(&town, &first.id).await;
    assert!(void.state == "cancelled" && void.note.contains("void"), "{void:?}");
    town.hooks.release(3, 1).await;
    town.settles().await;
    shows(&town, change, "the price before is void, and this is the new one").await;

    // He says yes to that one, and it has its turn only after another push.
    bob.pushes("busy", &[("x.txt", "x\n")]).await;
    let busy = town.job("the worker is taken", |job| job.workflow == "busy" && job.state == "running").await;
    bob.comments(change, "/codeforge approve").await;
    town.job("it waits for its turn", |job| job.id == second.id && job.state == "waiting").await;
    ann.pushes("topic", &[("src/b.txt", "three\n")]).await;
    let third = |job: &JobRow| job.state == "asked" && job.id != first.id && job.id != second.id;
    let third = town.job("it is priced anew once more", third).await;
    let void = state_of(&town, &second.id).await;
    assert!(void.state == "cancelled" && void.approved_by == "bob" && void.note.contains("void"), "{void:?}");
    town.alters("UPDATE jobs SET cancel = 'the test goes on' WHERE id = ?", &[&busy.id]).await;
    town.job("the worker is free", |job| job.id == busy.id && job.state == "cancelled").await;

    assert_eq!(town.model.asked().len(), 0, "nothing ran so far");
    let commit = town.forge.tip("topic").unwrap();
    bob.comments(change, "/codeforge approve").await;
    town.settles().await;
    assert_eq!(state_of(&town, &third.id).await.conclusion, "success");
    assert_eq!(told(&town, &third.id).0["approved"]["commit"], json!(commit));
    assert_eq!(town.forge.file("topic", "made.txt").as_deref(), Some("made\n"));
    town.model.finished();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_independent_yes_is_somebody_elses() {
    let workflow = FIX.replace("quote: true", "quote: true\nindependent_approval: true");
    // The forge's names have no letter case.
    let town = town(ForgeKind::Github, &workflow, mends(0.01)).member("Ann", "write").start().await;
    let (change, job) = asked(&town).await;
    for who in ["ann", "Ann"] {
        town.person(who).comments(change, "/codeforge approve").await;
        town.settles().await;
        assert_eq!(state_of(&town, &job.id).await.state, "asked", "{who}");
    }
    shows(&town, change, "takes the yes of somebody else").await;
    town.person("bob").comments(change, "/codeforge approve").await;
    town.settles().await;
    let done = state_of(&town, &job.id).await;
    assert_eq!((done.conclusion.as_str(), done.approved_by.as_str()), ("success", "bob"), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_no_ends_it() {
    // GitHub's statuses have no word for what was called off.
    for (kind, word) in [(ForgeKind::Github, "error"), (ForgeKind::Gitlab, "canceled")] {
        let town = town(kind, FIX, Vec::new()).start().await;
        let (change, job) = asked(&town).await;
        town.person("rita").comments(change, "/codeforge deny").await;
        town.person("bob").comments(change, "/codeforge deny").await;
        town.settles().await;
        let denied = state_of(&town, &job.id).await;
        assert_eq!((denied.state.as_str(), denied.note.as_str()), ("cancelled", "bob said no"), "{denied:?}");
        shows(&town, change, "bob said no").await;
        let states: Vec<String> = town.forge.memory().statuses.iter().map(|it| it.2.clone()).collect();
        assert_eq!(states, ["pending", word], "{kind:?}");
        town.person("bob").comments(change, "/codeforge approve").await;
        town.settles().await;
        shows(&town, change, "Nothing here waits for a yes").await;
        assert_eq!((state_of(&town, &job.id).await.state.as_str(), town.model.asked().len()), ("cancelled", 0));
    }
}

/// The server dies between what a command does and the mark that it was done. It is decided once more then, does nothing
/// twice, and says the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_decided_once_more_says_the_same() {
    for (command, ends_as, said) in [
        ("approve max=0.05", ("done", "success"), "approved"),
        ("deny", ("cancelled", ""), "denied"),
        ("cancel", ("cancelled", ""), "cancelled"),
    ] {
        let script = if ends_as.0 == "done" { mends(0.01) } else { Vec::new() };
        let town = town(ForgeKind::Github, FIX, script).start().await;
        let (change, job) = asked(&town).await;
        town.person("bob").comments(change, &format!("/codeforge {command}")).await;
        town.settles().await;
        town.kill();
        let undone = "UPDATE deliveries SET state = 'waiting', handled_ms = NULL WHERE note LIKE ? || ':%'";
        town.alters(undone, &[said]).await;
        assert_eq!(town.count("SELECT count(*) FROM deliveries WHERE state = 'waiting'").await, 1, "{command}");
        town.alters("DELETE FROM notes WHERE name LIKE 'heard/%'", &[]).await;
        town.starts().await;
        town.settles().await;
        let after = state_of(&town, &job.id).await;
        assert_eq!((after.state.as_str(), after.conclusion.as_str()), ends_as, "{command}: {after:?}");
        assert_eq!(town.jobs().await.len(), 1, "{command}");
        let (answers, said) = (town.comments_of_ours(change), format!("### CodeForge — {said}"));
        let answers: Vec<&str> =
            answers.iter().filter(|it| it.body.contains(&said)).map(|it| it.body.as_str()).collect();
        assert_eq!(answers.len(), 1, "{command}: {:#?}", town.comments_of_ours(change));
        town.model.finished();
    }
}

/// A job's own push is no reason to end it, whoever is heard of before the job has come to its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_of_our_own_ends_no_job() {
    let town = town(ForgeKind::Github, FIX, mends(0.01)).start().await;
    let (change, job) = asked(&town).await;
    let before = town.forge.tip("topic");
    town.forge.fail(Fault::slow("POST", "/git-receive-pack", Duration::from_secs(3)));
    town.person("bob").comments(change, "/codeforge approve").await;
    town.until("it is pushed", || async { (town.forge.tip("topic") != before).then_some(()) }).await;
    town.person("ann").labels(change, "ready").await;
    town.decides().await;
    assert_eq!(
        town.count("SELECT count(*) FROM jobs WHERE cancel IS NOT NULL").await,
        0,
        "{:#?}",
        town.decided().await
    );
    town.settles().await;
    assert_eq!(state_of(&town, &job.id).await.conclusion, "success");
}

/// A forge that hangs keeps nobody waiting but its own: the quote of another repository ends when its time is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_forge_that_hangs_does_not_keep_the_quotes_of_others() {
    let dead = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", dead.local_addr().unwrap());
    let town = town(ForgeKind::Github, FIX, Vec::new()).beside("acme/stuck", &address).start().await;
    let (_, job) = asked(&town).await;
    town.settles().await;
    town.kill();
    // The same job of a repository that is looked after first, and whose forge takes connections and says nothing.
    let columns = "forge, workflow, key, change, event, on_conflict, priority, due_ms, settings, approval, state, created_ms, \
                   updated_ms";
    let host = address.trim_start_matches("http://");
    let copied = format!(
        "INSERT INTO jobs (id, host, name, {columns}) SELECT 'stuck000', '{host}', 'acme/stuck', {columns} FROM jobs"
    );
    town.alters("UPDATE jobs SET created_ms = created_ms - 999 * 86400000", &[]).await;
    town.alters(&copied, &[]).await;
    let file = town.folder().join("serve.yml");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    let first = lines.iter().position(|line| line.contains("name: acme/widgets")).unwrap();
    let stuck = lines.iter().position(|line| line.contains("name: acme/stuck")).unwrap();
    lines.swap(first, stuck);
    std::fs::write(&file, lines.join("\n")).unwrap();
    town.starts().await;
    let (connection, _) = dead.accept().await.unwrap();
    town.until("its time is over", || async { (state_of(&town, &job.id).await.state == "cancelled").then_some(()) })
        .await;
    assert_eq!(state_of(&town, &job.id).await.note, "nobody approved it in time");
    assert_eq!(state_of(&town, "stuck000").await.state, "asked", "its forge says nothing");
    drop(connection);
}
