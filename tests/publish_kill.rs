//! A process that delivers is killed with -9 after every single write that it makes, and started again: there is one
//! branch, one change, one comment, one status, or one issue, as if nothing had happened.
//!
//! The process is this very test, started once more; the fake forge does a write and answers nothing any more, and so
//! nobody knows whether it was done.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use codeforge::engine::publish::{How, Keeping, Publication, Signing, publish};
use codeforge::model::delivery::Delivery;
use codeforge::model::event::{Event, EventKind};
use codeforge::model::forge::{CheckState, ForgeKind};
use codeforge::model::id::TreeId;
use codeforge::model::journal::Base;
use codeforge::model::plan::{DeliverKind, ForgeSpec};
use codeforge::port::forge::ForgeAt;
use common::forge_server::TOKEN;
use common::published::{BRANCH, Desk, KEY, adapter, check};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// Where the started process finds what it is to do.
const ORDER: &str = "CODEFORGE_TEST_ORDER";
/// The test that is the process.
const PROCESS: &str = "the_process_that_delivers";

/// What the process delivers.
#[derive(Debug, Clone, Copy)]
enum What {
    /// The tree of a run's end in the desk's clone, as a change; by the forge's own commits.
    Change { signed: bool },
    /// The issue, with so many findings.
    Issue(usize),
}

fn order(desk: &Desk, what: What) -> String {
    let at = desk.server.at();
    let tree = desk.workspace.snapshot().unwrap();
    json!({
        "root": desk.repo.path(), "api": at.api, "git_url": at.git_url, "kind": at.kind,
        "signed": matches!(what, What::Change { signed: true }),
        "findings": if let What::Issue(findings) = what { Some(findings) } else { None },
        "commit": desk.base.commit, "base": desk.base.tree, "tree": tree, "time_s": desk.time_s,
    })
    .to_string()
}

#[expect(clippy::disallowed_methods, reason = "what is killed must be a process")]
fn start(order: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", PROCESS, "--nocapture"]).env(ORDER, order);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "how this test tells itself what it is")]
async fn the_process_that_delivers() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let order: Value = serde_json::from_str(&order).unwrap();
    let text = |name: &str| order[name].as_str().unwrap().to_owned();
    let at = ForgeAt {
        kind: serde_json::from_value(order["kind"].clone()).unwrap(),
        api: text("api"),
        repository: "acme/widgets".into(),
        token: TOKEN.to_owned().into(),
        git_url: text("git_url"),
        marker_key: None,
    };
    let repository = codeforge::adapter::git::open_with(Path::new(&text("root")), codeforge::adapter::git::Force::Copy);
    let repository = repository.unwrap();
    let base = Base { commit: Some(text("commit")), tree: TreeId(text("base")), ..repository.base().unwrap() };
    let findings = order["findings"].as_u64().and_then(|findings| usize::try_from(findings).ok());
    let delivery = Delivery {
        kind: if findings.is_some() { DeliverKind::Issue } else { DeliverKind::PullRequest },
        base: base.tree.clone(),
        tree: TreeId(text("tree")),
        branch: Some(BRANCH.into()),
        title: "Mend it".into(),
        body: "Because.".into(),
        author: ("CodeForge".into(), "bot@example.com".into()),
        time_s: order["time_s"].as_i64().unwrap(),
        protected_paths: Vec::new(),
    };
    let event = Event { kind: EventKind::Manual, ..Event::default() };
    let asked = ForgeSpec { assignees: vec!["ann".into()], ..ForgeSpec::default() };
    let how = if order["signed"] == true { How::Forge } else { How::Not };
    let forge = adapter(&at);
    let text = format!("{} findings.", findings.unwrap_or_default());
    let keeping = |open| Keeping { open, was_clean: false, commit: "c", last_word: "Nothing is left." };
    let publication = Publication {
        delivery: &delivery,
        base: &base,
        event: &event,
        findings: &[],
        body: if findings.is_some() { &text } else { "What was done." },
        comment: Some("It is done."),
        memory: None,
        issue: findings.map(keeping),
        key: KEY,
        draft: true,
        passed: false,
        asked: &asked,
        signing: &Signing { how, or_not: false },
        labels: &["bot".to_owned()],
        reviewers: &["bob".to_owned()],
        target: None,
        prefix: "codeforge/",
        most_open: Some(1),
        secrets: &[],
        hosts: &[],
    };
    let published = publish(&*forge, Arc::clone(&repository), &publication).await.unwrap();
    let Some(commit) = published.commit.filter(|_| findings.is_none()) else { return };
    forge.set_check(&check(&commit, CheckState::Success, "done")).await.unwrap();
}

/// What there is in the end.
fn standing(desk: &Desk) -> Value {
    let branches = desk.bare(&["for-each-ref", "--format=%(refname)", "refs/heads/codeforge/"]);
    let commits = desk.server.git(&["rev-list", "--count", &format!("main..{BRANCH}")]);
    let memory = desk.server.memory();
    let statuses: std::collections::BTreeSet<_> = memory.statuses.iter().collect();
    let changes: Vec<Value> = memory
        .changes
        .iter()
        .map(|it| {
            let once = |all: &[String]| all.iter().collect::<std::collections::BTreeSet<_>>().len();
            json!([it.head, it.state, it.draft, once(&it.labels), once(&it.reviewers), it.assignees])
        })
        .collect();
    let issues: Vec<Value> = memory
        .issues
        .iter()
        .map(|it| json!([it.state, it.body.lines().last(), it.labels, it.assignees, it.closed_by]))
        .collect();
    let comments: Vec<&str> = memory.comments.iter().map(|it| it.thread.split(' ').next().unwrap()).collect();
    json!({
        "branches": branches, "commits": commits, "changes": changes, "comments": comments, "issues": issues,
        "statuses": statuses.iter().map(|(_, name, state)| format!("{name} {state}")).collect::<Vec<_>>(),
    })
}

async fn desk(kind: ForgeKind) -> Desk {
    let desk = Desk::of(kind).await;
    for name in ["ann", "bob"] {
        desk.server.memory().members.insert(name.into(), "write".into());
    }
    desk.write("src/a.txt", "mended\n");
    desk
}

/// A desk where these were delivered before.
async fn after(kind: ForgeKind, before: &[What]) -> Desk {
    let desk = desk(kind).await;
    for what in before {
        delivers(&desk, *what);
    }
    desk
}

fn delivers(desk: &Desk, what: What) {
    let output = start(&order(desk, what)).wait_with_output().unwrap();
    assert!(output.status.success(), "{what:?}: {}", common::spoken(&output));
}

async fn killed_after_every_write(kind: ForgeKind, signed: bool) {
    let (wanted, writes) = killed(kind, &[], What::Change { signed }).await;
    assert!(writes >= 4, "{kind:?}: a branch, a change, a comment, a status");
    let ones = |name: &str| wanted[name].as_array().unwrap().len();
    assert_eq!((ones("changes"), ones("comments"), ones("statuses"), &wanted["commits"]), (1, 1, 1, &json!("1")));
}

/// What there is when it is delivered, and how many writes that took: the same wherever it was cut off.
async fn killed(kind: ForgeKind, before: &[What], what: What) -> (Value, usize) {
    // Once undisturbed: how many writes there are, and what there is then.
    let whole = after(kind, before).await;
    let written = whole.server.memory().written;
    delivers(&whole, what);
    let writes = whole.server.memory().written - written;
    let wanted = standing(&whole);
    for last in 1..=writes {
        let desk = after(kind, before).await;
        let written = desk.server.memory().written;
        desk.server.memory().stop_at = Some(written + last);
        let mut child = start(&order(&desk, what));
        common::eventually("the write is done and not answered", || desk.server.memory().stopped.then_some(())).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let mut memory = desk.server.memory();
        (memory.stop_at, memory.stopped) = (None, false);
        drop(memory);
        delivers(&desk, what);
        assert_eq!(standing(&desk), wanted, "{kind:?}, {what:?}, killed after write {last} of {writes}");
    }
    (wanted, writes)
}

/// Opened, brought up to date, closed with a last word, opened again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issue_is_one_wherever_it_is_cut_off() {
    use What::Issue;
    for kind in [ForgeKind::Github, ForgeKind::Gitlab, ForgeKind::Gitea] {
        for (before, what, state, said) in [
            (&[][..], Issue(2), "open", 0),
            (&[Issue(2)], Issue(1), "open", 0),
            (&[Issue(2)], Issue(0), "closed", 1),
            (&[Issue(2), Issue(0)], Issue(3), "open", 1),
        ] {
            let (wanted, writes) = killed(kind, before, what).await;
            let issues = wanted["issues"].as_array().unwrap();
            assert!(writes >= 1 && issues.len() == 1 && issues[0][0] == state, "{kind:?} {what:?}: {wanted:#}");
            assert_eq!((&issues[0][2], &issues[0][3]), (&json!(["bot"]), &json!(["ann"])), "{kind:?}: {wanted:#}");
            assert_eq!(wanted["comments"].as_array().unwrap().len(), said, "{kind:?} {what:?}: {wanted:#}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_every_write_on_github() {
    killed_after_every_write(ForgeKind::Github, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_every_write_on_github_where_it_signs() {
    killed_after_every_write(ForgeKind::Github, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_every_write_on_gitlab() {
    killed_after_every_write(ForgeKind::Gitlab, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_every_write_on_gitea() {
    killed_after_every_write(ForgeKind::Gitea, false).await;
}
