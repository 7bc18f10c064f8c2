//! What a run of a server is given, and what people on the server's machine do with its jobs: signing, tokens that end
//! before a run does, jobs that are put back and cancelled. The real program; the forge is a fake that remembers.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use codeforge::adapter::serve::runner::Processes;
use codeforge::model::ci::Asked;
use codeforge::model::event::{Change, Event, EventKind, Side};
use codeforge::model::forge::ForgeKind;
use codeforge::model::job::{Job, JobState, NewJob, Priority, Served};
use codeforge::port::forge::ForgeAt;
use codeforge::port::runner::{Order, Runner, Tokens};
use common::published::adapter;
use common::queued::waiting;
use common::town::{MARKER_KEY, MODEL_KEY, Plan, SLOW, Town};
use common::{clean, git, ok, spoken};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

fn town() -> Plan {
    Town::of(ForgeKind::Github).gated()
}

/// A key of ssh's: the file, and who may sign with it.
fn key(folder: &Path) -> (String, std::path::PathBuf) {
    let (key, allowed) = (folder.join("key"), folder.join("allowed"));
    ok(clean("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "bot@example.com", "-f"]).arg(&key));
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    std::fs::write(&allowed, format!("bot@example.com namespaces=\"git\" {public}")).unwrap();
    (std::fs::read_to_string(key).unwrap(), allowed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_served_runs_commit_is_signed_and_its_sandbox_knows_nothing_of_that() {
    let keys = tempfile::tempdir().unwrap();
    let (secret, allowed) = key(keys.path());
    let text = "on: { push: { branches: [work] } }\nsteps: { one: { run: \"env > seen.txt; echo signing: $CODEFORGE_SIGNING\" } }\n\
                deliver: { as: pull_request, title: Made, branch: codeforge/signed }\n";
    let plan = town().workflow("sign", text).env("CODEFORGE_SIGNING", "ssh");
    let plan = plan.env("CODEFORGE_SIGNING_KEY", "env://BOT_SIGNS_WITH").env("BOT_SIGNS_WITH", &secret);
    let town = plan.start().await;
    town.person("ann").pushes("work", &[("a.txt", "1\n")]).await;
    town.settles().await;
    assert_eq!(town.work().await, ["sign: done success"], "{:#?}", town.jobs().await);
    let mut verify = git();
    verify.arg("-C").arg(town.forge.bare()).arg("-c");
    verify.arg(format!("gpg.ssh.allowedSignersFile={}", allowed.display())).args(["verify-commit", "codeforge/signed"]);
    let verified = verify.output().unwrap();
    assert!(spoken(&verified).contains("Good \"git\" signature for bot@example.com"), "{}", spoken(&verified));
    let seen = town.forge.file("codeforge/signed", "seen.txt").unwrap();
    assert!(seen.contains("PATH="), "{seen}");
    for part in ["SIGN", "BOT_SIGNS_WITH", "PRIVATE KEY"] {
        assert!(!seen.contains(part), "{part} is in the sandbox:\n{seen}");
    }
    let log = town.log_of(&town.jobs().await[0].id);
    assert!(secret.lines().filter(|line| !line.starts_with("-----")).all(|line| !log.contains(line)), "{log}");
}

/// A runner whose program says which variables it was given.
fn telling(folder: &Path) -> Processes {
    use std::os::unix::fs::PermissionsExt;
    let program = folder.join("tell");
    let script = "#!/bin/sh\nexec 3> \"$TMPDIR/seen-${CODEFORGE_PHASE:-all}\"\nenv >&3\n\
                  if [ -S /dev/stdin ]; then echo STDIN=socket >&3; fi\necho \"LENDS=$(cat \"$CODEFORGE_JOB\")\" >&3\nmkdir -p \"$CODEFORGE_REPORT_DIR\"\n\
                  echo '{\"gate-word\":\"w\"}' > \"$CODEFORGE_REPORT_DIR/outputs.json\"\n";
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let here = folder.display().to_string();
    let env = move |name: &str| {
        let value = match name {
            "PATH" => "/usr/bin:/bin",
            "TMPDIR" => &here,
            "CODEFORGE_SIGNING" => "ssh",
            "CODEFORGE_SIGNING_KEY" => "env://BOT_SIGNS_WITH",
            "BOT_SIGNS_WITH" => "the-key-that-signs",
            "SERVERS_OWN" => "nobody's business",
            _ => return None,
        };
        Some(value.to_owned())
    };
    Processes { program, env: Arc::new(env) }
}

fn order(state: &Path, fork: bool, lends: bool) -> Order {
    let side = |branch: &str, of: &str| Side {
        branch: branch.into(),
        sha: Some("1".repeat(40)),
        repository: Some(of.into()),
        repository_id: None,
    };
    let head = side("topic", if fork { "eve/widgets" } else { "acme/widgets" });
    let change = Change { number: 7, head, base: side("main", "acme/widgets"), ..Change::default() };
    let repository = Served { forge: ForgeKind::Github, host: "127.0.0.1".into(), name: "acme/widgets".into() };
    let new = NewJob {
        repository,
        event: Event { kind: EventKind::PullRequest, change: Some(change), ..Event::default() },
        priority: Priority::Change,
        ..waiting("look", "k")
    };
    let job = Job {
        id: if fork { "fork0000" } else { "own00000" }.into(),
        new,
        state: JobState::Running,
        conclusion: None,
        note: None,
        attempts: 1,
        rounds: 0,
        approved_by: None,
        approved_usd: None,
        cost_usd: None,
        url: None,
        delivery: None,
        delivery_id: None,
        created_ms: 0,
        updated_ms: 0,
    };
    let at = ForgeAt {
        kind: ForgeKind::Github,
        api: "http://127.0.0.1:9".into(),
        repository: "acme/widgets".into(),
        token: "a-token-of-the-forge".to_owned().into(),
        git_url: "http://127.0.0.1:9/acme/widgets.git".into(),
        marker_key: None,
    };
    Order {
        job,
        fence: 1,
        state: state.to_owned(),
        forge: ForgeKind::Github,
        api: "http://127.0.0.1:9".into(),
        git_url: "http://127.0.0.1:9/acme/widgets.git".into(),
        default_branch: "main".into(),
        token: "a-token-of-the-forge".to_owned().into(),
        lender: lends.then(|| Tokens(adapter(&at))),
        vars: [
            ("OPENAI_API_KEY", MODEL_KEY),
            ("GITHUB_TOKEN", "the-operators-own"),
            ("HTTP_PROXY", "http://127.0.0.1:9"),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned().into()))
        .collect(),
        marker_key: Some(MARKER_KEY.to_owned().into()),
        asked: fork.then(|| Asked { trusted: "2".repeat(40), remembered: None }),
        allow_users: vec!["ann".into(), "bob".into()],
        phrase: "/codeforge".into(),
        grace: Duration::from_secs(5),
    }
}

/// The agent's process has the model's key only, the gate's nothing, and the one that delivers what it writes with.
#[tokio::test(flavor = "multi_thread")]
async fn each_process_of_a_run_gets_what_its_phase_needs() {
    for lends in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let runner = telling(folder.path());
        for fork in [false, true] {
            let order = order(&folder.path().join("state"), fork, lends);
            let ran = runner.run(&order, CancellationToken::new()).await.unwrap();
            assert_eq!(ran.code, Some(0), "{ran:?}");
        }
        let of = |phase: &str| std::fs::read_to_string(folder.path().join(format!("seen-{phase}"))).unwrap();
        for (phase, models, writes) in
            [("all", true, true), ("agent", true, false), ("gate", false, false), ("deliver", false, true)]
        {
            let seen = of(phase);
            let has =
                |what: &str, wanted: bool| assert_eq!(seen.contains(what), wanted, "{phase}, {lends}: {what}\n{seen}");
            has(MODEL_KEY, models);
            has("CODEFORGE_SIGNING=ssh", writes);
            has("the-key-that-signs", writes);
            has("a-token-of-the-forge", writes && !lends);
            has(MARKER_KEY, writes);
            has("the-operators-own", phase == "all");
            // Whoever can ask for a token has one.
            has("STDIN=socket", writes && lends);
            has("\"lends\":true", writes && lends);
            // What was asked for a process that cannot ask; one that can asks itself.
            has(&"2".repeat(40), !writes);
            has("SERVERS_OWN", false);
            for all in ["CODEFORGE_ALLOW_USERS=ann,bob", "HTTP_PROXY=http://127.0.0.1:9"] {
                has(all, true);
            }
        }
    }
}

/// `reliability.md` 13, of a run that is longer than its token: the forge takes none of the tokens that there were when
/// it began.
#[tokio::test(flavor = "multi_thread")]
async fn reliability_13_a_token_that_ended_during_the_run_is_minted_anew() {
    let text = format!("on: {{ pull_request: {{}} }}\n{SLOW}");
    let town = town().workflow("slow", &text).app().start().await;
    ok(git().arg("-C").arg(town.forge.bare()).args(["config", "core.logAllRefUpdates", "always"]));
    town.person("ann").opens_change("topic", &[("a.txt", "1\n")]).await;
    let job = town.in_the_second_step().await;
    let before = {
        let mut memory = town.forge.memory();
        let app = memory.app.as_mut().unwrap();
        app.expire();
        app.count
    };
    town.settles().await;
    assert_eq!(town.work().await, ["slow: done success"], "{:#?}\n{}", town.jobs().await, town.log_of(&job.id));
    assert!(town.forge.memory().app.as_ref().unwrap().count > before, "minted anew");
    let made: Vec<_> = town.changes_of_ours();
    assert_eq!(made.len(), 1, "{made:#?}");
    assert_eq!(town.forge.file(&made[0].head, "made.txt").as_deref(), Some("one\ntwo\n"));
    assert_eq!(town.forge.count("POST", "/pulls"), 1);
    let pushes = ok(git().arg("-C").arg(town.forge.bare()).args(["reflog", "show", "--format=%H", &made[0].head]));
    assert_eq!(pushes.lines().count(), 1, "pushed once: {pushes}");
    assert_eq!(town.jobs().await[0].attempts, 1, "in the same attempt");
    // A token is in no file and in no log of the job.
    let folder = town.state().join("jobs").join(&job.id);
    assert!(!common::forge_server::holds(&folder, "ghs_minted"), "{}", folder.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_put_back_is_a_new_run_with_what_holds_now() {
    let broken = "on: { push: { branches: [work] } }\nsteps: { one: { run: \"echo tried; false\" } }\ndeliver: none\n";
    let town = town().workflow("check", broken).start().await;
    town.person("ann").pushes("work", &[("a.txt", "1\n")]).await;
    town.settles().await;
    assert_eq!(town.work().await, ["check: done failure"]);
    let id = town.jobs().await[0].id.clone();
    let mended = broken.replace("echo tried; false", "echo mended");
    let path = ".codeforge/workflows/check.yml";
    town.forge.commit_by("root", "main", "main", &[(path, Some(&format!("name: check\n{mended}")))]);
    let said = town.codeforge(&["queue", "requeue", &id[..5], "--config", "serve.yml"]);
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success() && text.contains("ended as failure"), "{}", spoken(&said));
    let run = text.split("a new run, ").nth(1).unwrap().trim().to_owned();
    assert!(run != id && run.len() == 8, "{text}");
    town.settles().await;
    let job = town.jobs().await.remove(0);
    assert_eq!((job.id.as_str(), job.conclusion.as_str(), job.attempts), (id.as_str(), "success", 1), "{job:?}");
    let log = town.log_of(&id);
    for part in ["--- put back (1), attempt 1", &format!("was put back: this is a new run, {run}"), "exit code 0"] {
        assert!(log.contains(part), "{part}:\n{log}");
    }
    // Once more: another run, and what has not ended cannot be put back.
    let again = town.codeforge(&["queue", "requeue", &id, "--config", "serve.yml"]);
    assert!(again.status.success() && !String::from_utf8_lossy(&again.stdout).contains(&run), "{}", spoken(&again));
    town.settles().await;
    assert!(town.log_of(&id).contains("--- put back (2), attempt 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_cancelled_and_what_runs_is_told_to_stop() {
    let text = format!("on: {{ push: {{ branches: [work, later] }} }}\n{}", SLOW.replace("sleep 3", "sleep 60"));
    let town = town().workflow("slow", &text).serve("limits: { workers: 1 }\ngrace: 10s").start().await;
    town.person("ann").pushes("work", &[("a.txt", "1\n")]).await;
    let running = town.in_the_second_step().await;
    town.person("ann").pushes("later", &[("b.txt", "1\n")]).await;
    let waiting = town
        .until("another one waits", || async { town.jobs().await.into_iter().find(|job| job.state == "waiting") })
        .await;
    let cancel = |id: &str| town.codeforge(&["queue", "cancel", id, "--config", "serve.yml"]);
    let said = cancel(&waiting.id);
    assert!(said.status.success() && spoken(&said).contains("is cancelled"), "{}", spoken(&said));
    let state = async |id: &str| {
        let job = town.jobs().await.into_iter().find(|job| job.id == id).unwrap();
        (job.state, job.note)
    };
    let cancelled = ("cancelled".to_owned(), "cancelled on the server's machine".to_owned());
    assert_eq!(state(&waiting.id).await, cancelled, "at once");
    assert_eq!(state(&running.id).await.0, "running", "the other one goes on");
    let said = cancel(&running.id[..6]);
    assert!(said.status.success() && spoken(&said).contains("is told to stop"), "{}", spoken(&said));
    town.until("it stops", || async { (state(&running.id).await == cancelled).then_some(()) }).await;
    town.settles().await;
    assert_eq!(town.changes_of_ours().len(), 0, "nothing is handed over");
    let said = cancel(&running.id);
    assert!(said.status.code() == Some(2) && spoken(&said).contains("is over already"), "{}", spoken(&said));
    assert!(spoken(&cancel("zzzz")).contains("no job `zzzz`"));
}

/// One webhook is followed through the log to what was handed over, by one id and by the ids that it leads to.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_followed_by_its_id_to_what_was_handed_over() {
    let text = "on: { push: { branches: [work] } }\nsteps: { one: { run: \"echo made > made.txt\" } }\n\
                deliver: { as: pull_request, title: Made, branch: codeforge/made }\n";
    let town = town().workflow("make", text).start().await;
    town.person("ann").pushes("elsewhere", &[("b.txt", "1\n")]).await;
    town.person("ann").pushes("work", &[("a.txt", "1\n")]).await;
    town.settles().await;
    assert_eq!(town.work().await, ["make: done success"], "{:#?}", town.jobs().await);
    let job = town.jobs().await.remove(0);
    let lines: Vec<Value> = town.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let named = |event: &str| lines.iter().filter(move |line| line["event"] == event).collect::<Vec<_>>();
    let made = named("job_made");
    assert_eq!(made.len(), 1, "{made:#?}");
    // From its webhook on, everything about it has the forge's own id, and nothing else has.
    let delivery = made[0]["delivery"].as_str().unwrap();
    let of: Vec<&Value> = lines.iter().filter(|line| line["delivery"] == delivery).collect();
    let events: Vec<&str> = of.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["webhook", "decided", "job_made", "job_begun", "job_ended"], "{of:#?}");
    assert!(of[0]["request"].as_str().is_some_and(|id| !id.is_empty()), "{}", of[0]);
    let number = of[1]["number"].as_i64().unwrap();
    assert!(of[1..].iter().all(|line| line["number"] == number && line["repository"] == "acme/widgets"), "{of:#?}");
    assert!(of[2..].iter().all(|line| line["job"] == job.id && line["run"] == job.id), "{of:#?}");
    assert_eq!((&of[3]["attempt"], &of[4]["conclusion"]), (&json!(1), &json!("success")));
    let change = town.changes_of_ours().remove(0);
    assert!(of[4]["url"].as_str().unwrap().ends_with(&format!("/{}", change.number)), "{}", of[4]);
    assert!(named("decided").len() > 1, "the other push was heard of, too");
}

/// How many workers there are follows the settings: more begin at once; one too many ends its run, and takes no other.
#[tokio::test(flavor = "multi_thread")]
async fn workers_follow_the_settings() {
    let text = "on: { push: { branches: [\"w*\"] } }\nsteps: { one: { run: \"sleep 300\" } }\ndeliver: none\n";
    let town = town().workflow("long", text).serve("limits: { workers: 1, per_repository: 9 }").start().await;
    let of = async |state: &str| town.jobs().await.into_iter().filter(|job| job.state == state).collect::<Vec<_>>();
    let stand = async |running: usize, waiting: usize| {
        let words = format!("{running} run and {waiting} wait");
        town.until(&words, || async {
            let at_work = of("running").await;
            (at_work.len() == running && of("waiting").await.len() == waiting).then_some(at_work)
        })
        .await
    };
    let set = async |workers: usize| {
        let file = town.folder().join("serve.yml");
        let text = std::fs::read_to_string(&file).unwrap();
        let (before, after) = text.split_once("workers: ").unwrap();
        let after = after.split_once(',').unwrap().1;
        std::fs::write(&file, format!("{before}workers: {workers},{after}")).unwrap();
        let read = town.log().matches("settings_read").count();
        ok(clean("kill").args(["-HUP", &town.pid()]));
        let again = || town.log().matches("settings_read").count() > read;
        town.until("they are read", || async { again().then_some(()) }).await;
    };
    let ann = town.person("ann");
    for branch in ["w1", "w2", "w3", "w4", "w5"] {
        ann.pushes(branch, &[("a.txt", "1\n")]).await;
    }
    stand(1, 4).await;
    set(3).await;
    let begun = stand(3, 2).await;
    set(1).await;
    for job in begun {
        let said = town.codeforge(&["queue", "cancel", &job.id, "--config", "serve.yml"]);
        assert!(said.status.success(), "{}", spoken(&said));
    }
    stand(1, 1).await;
    // Whoever else were there would have taken what waits by now.
    ann.pushes("w6", &[("a.txt", "1\n")]).await;
    stand(1, 2).await;
}
