//! `codeforge cancel`: a run that is at work, one that was killed, one that is over.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use common::{TestRepo, eventually, spoken};
use serde_json::Value;
use std::process::{Child, Output, Stdio};

const SLOW: &str = "name: slow\nsteps:\n  one: { run: \"echo one > made.txt\" }\n  two: { needs: [one], run: \"sleep 60\" }\ndeliver: none\n";
const QUICK: &str = "name: quick\nsteps: { one: { run: \"true\" } }\ndeliver: none\n";

fn repo() -> TestRepo {
    TestRepo::with(&[
        (".codeforge/workflows/slow.yml", SLOW),
        (".codeforge/workflows/quick.yml", QUICK),
        ("README.md", "Hello.\n"),
    ])
}

fn done(repo: &TestRepo, arguments: &[&str]) -> Output {
    repo.codeforge(arguments).output().unwrap()
}

/// The runs, newest first: id and ending.
fn runs(repo: &TestRepo) -> Vec<(String, Option<String>)> {
    let listed: Value =
        serde_json::from_slice(&done(repo, &["runs", "list", "--format", "json"]).stdout).unwrap_or_default();
    let of = |run: &Value| {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        (text(&run["run"]["id"]).unwrap_or_default(), text(&run["summary"]["ending"]))
    };
    listed.as_array().map(|all| all.iter().map(of).collect()).unwrap_or_default()
}

/// A run whose second step is at work.
async fn at_work(repo: &TestRepo) -> (Child, String) {
    let mut command = repo.codeforge(&["run", "slow", "--sandbox", "native"]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id =
        eventually("a run", || runs(repo).into_iter().find(|(_, ending)| ending.is_none()).map(|(id, _)| id)).await;
    eventually("its second step", || {
        let events = done(repo, &["runs", "events", &id]);
        String::from_utf8_lossy(&events.stdout).contains("two").then_some(())
    })
    .await;
    (child, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_at_work_is_interrupted_and_ended_for_good() {
    let repo = repo();
    let (child, id) = at_work(&repo).await;
    let said = done(&repo, &["cancel", &id[..6]]);
    assert!(said.status.success() && spoken(&said).contains(&format!("run {id} is cancelled")), "{}", spoken(&said));
    let run = child.wait_with_output().unwrap();
    assert_eq!(run.status.code(), Some(130), "{}", spoken(&run));
    assert_eq!(runs(&repo), [(id.clone(), Some("cancelled".to_owned()))]);
    let again = done(&repo, &["resume", &id]);
    assert_eq!(again.status.code(), Some(130), "{}", spoken(&again));
    assert!(!repo.has("made.txt") && repo.status().is_empty(), "{}", repo.status());
    let said = done(&repo, &["cancel", &id]);
    assert!(
        said.status.code() == Some(2) && spoken(&said).contains("is over: it ended as cancelled"),
        "{}",
        spoken(&said)
    );
    let events = done(&repo, &["runs", "events", &id]);
    assert!(String::from_utf8_lossy(&events.stdout).contains("cancelled by"), "{}", spoken(&events));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_killed_is_ended_and_one_that_is_over_stays_as_it_is() {
    let repo = repo();
    let (mut child, id) = at_work(&repo).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let said = done(&repo, &["cancel", &id, "--format", "json"]);
    let told: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(
        (told["run"].as_str(), told["ending"].as_str()),
        (Some(id.as_str()), Some("cancelled")),
        "{}",
        spoken(&said)
    );
    assert_eq!(runs(&repo), [(id.clone(), Some("cancelled".to_owned()))], "the journal says so");
    let quick = done(&repo, &["run", "quick", "--sandbox", "native"]);
    assert!(quick.status.success(), "{}", spoken(&quick));
    let over = runs(&repo).into_iter().find(|(_, ending)| ending.as_deref() == Some("done")).unwrap().0;
    let said = done(&repo, &["cancel", &over]);
    assert!(said.status.code() == Some(2) && spoken(&said).contains("it ended as done"), "{}", spoken(&said));
    assert_eq!(done(&repo, &["cancel", "zzzz"]).status.code(), Some(2));
}
