//! A process that delivers is killed with -9 after every single write that it makes, and started again: there is one
//! branch, one change, one comment, one status, one remark for each finding, or one issue, as if nothing had happened.
//!
//! The process is this very test, started once more; the fake forge does a write and answers nothing any more, and so
//! nobody knows whether it was done.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use codeforge::engine::publish::{How, Keeping, Publication, Signing, publish};
use codeforge::model::delivery::Delivery;
use codeforge::model::event::Event;
use codeforge::model::finding::{Finding, Level, Standing};
use codeforge::model::forge::{CheckState, ForgeKind};
use codeforge::model::id::TreeId;
use codeforge::model::journal::Base;
use codeforge::model::plan::{DeliverKind, ForgeSpec};
use codeforge::port::forge::ForgeAt;
use common::forge_server::{ForgeServer, TOKEN};
use common::published::{BRANCH, Desk, KEY, adapter, check};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// Where the started process finds what it is to do.
const ORDER: &str = "CODEFORGE_TEST_ORDER";
/// The test that is the process.
const PROCESS: &str = "the_process_that_delivers";

/// What the process delivers: the tree of a run's end in the desk's clone, or what was found in the change.
fn order(desk: &Desk, what: What) -> String {
    let at = desk.server.at();
    let tree = desk.workspace.snapshot().unwrap();
    json!({
        "root": desk.repo.path(), "api": at.api, "git_url": at.git_url, "kind": at.kind, "signed": what.signed,
        "deliver": what.deliver, "event": desk.event, "findings": desk.findings, "open": what.open,
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
    let deliver: DeliverKind = serde_json::from_value(order["deliver"].clone()).unwrap();
    let findings: Vec<Finding> = serde_json::from_value(order["findings"].clone()).unwrap();
    let delivery = Delivery {
        kind: deliver,
        base: base.tree.clone(),
        tree: TreeId(text("tree")),
        branch: Some(BRANCH.into()),
        title: "Mend it".into(),
        body: "Because.".into(),
        author: ("CodeForge".into(), "bot@example.com".into()),
        time_s: order["time_s"].as_i64().unwrap(),
        protected_paths: Vec::new(),
    };
    let event: Event = serde_json::from_value(order["event"].clone()).unwrap();
    let asked = ForgeSpec { assignees: vec!["ann".into()], ..ForgeSpec::default() };
    let how = if order["signed"] == true { How::Forge } else { How::Not };
    let forge = adapter(&at);
    let issue = deliver == DeliverKind::Issue;
    let open = usize::try_from(order["open"].as_u64().unwrap()).unwrap();
    let text_of_it = format!("{open} findings.");
    let keeping = Keeping { open, was_clean: false, commit: "c", last_word: "Nothing is left." };
    let publication = Publication {
        delivery: &delivery,
        base: &base,
        event: &event,
        findings: &findings,
        body: if issue { &text_of_it } else { "What was done." },
        comment: Some("It is done.").filter(|_| deliver != DeliverKind::PushToBranch),
        memory: None,
        issue: issue.then_some(keeping),
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
    if issue {
        return;
    }
    let commit = published.commit.unwrap_or_else(|| text("commit"));
    forge.set_check(&check(&commit, CheckState::Success, "done")).await.unwrap();
}

/// What there is in the end.
fn standing(desk: &Desk) -> Value {
    let branches = desk.bare(&["for-each-ref", "--format=%(refname)", "refs/heads/"]);
    let commits = desk.bare(&["rev-list", "--count", "--branches", "^main"]);
    let memory = desk.server.memory();
    // The newest of each name at a commit is the one that stands.
    let statuses: std::collections::BTreeMap<_, _> =
        memory.statuses.iter().map(|(commit, name, state)| ((commit, name), state)).collect();
    let changes: Vec<Value> = memory
        .changes
        .iter()
        .map(|it| {
            let once = |all: &[String]| all.iter().collect::<std::collections::BTreeSet<_>>().len();
            json!([it.head, it.state, it.draft, once(&it.labels), once(&it.reviewers), it.assignees])
        })
        .collect();
    let comments: Vec<&str> = memory.comments.iter().map(|it| it.thread.split(' ').next().unwrap()).collect();
    let remarks: Vec<Value> = memory.remarks.iter().map(|it| json!([it.path, it.lines, it.resolved])).collect();
    let issues: Vec<Value> = memory
        .issues
        .iter()
        .map(|it| json!([it.state, it.body.lines().last(), it.labels, it.assignees, it.closed_by]))
        .collect();
    json!({
        "issues": issues, "remarks": remarks, "branches": branches, "commits": commits, "changes": changes, "comments": comments,
        "statuses": statuses.iter().map(|((_, name), state)| format!("{name} {state}")).collect::<Vec<_>>(),
    })
}

/// A delivery, how its commit is signed, and how many findings an issue has.
#[derive(Debug, Clone, Copy)]
struct What {
    deliver: DeliverKind,
    signed: bool,
    open: usize,
}

const PROPOSE: What = What { deliver: DeliverKind::PullRequest, signed: false, open: 0 };
const PUSH: What = What { deliver: DeliverKind::PushToBranch, ..PROPOSE };
const REVIEW: What = What { deliver: DeliverKind::Review, ..PROPOSE };

/// The issue, with so many findings.
fn issue(open: usize) -> What {
    What { deliver: DeliverKind::Issue, open, ..PROPOSE }
}

fn finding(line: u64, standing: Standing) -> Finding {
    Finding {
        fingerprint: format!("f{line}"),
        level: Level::High,
        file: "src/a.txt".into(),
        line: Some(line),
        end_line: None,
        rule: None,
        what: format!("Line {line} is wrong."),
        suggestion: None,
        step: "review".into(),
        standing,
    }
}

/// A run's end: at `main` where it proposes a change of its own, else at the head of ann's change.
async fn desk(kind: ForgeKind, what: What) -> Desk {
    if matches!(what.deliver, DeliverKind::PullRequest | DeliverKind::Issue) {
        let desk = Desk::of(kind).await;
        for name in ["ann", "bob"] {
            desk.server.memory().members.insert(name.into(), "write".into());
        }
        desk.write("src/a.txt", "mended\n");
        return desk;
    }
    let server = ForgeServer::start(kind).await;
    server.commit_by("ann", "topic", "main", &[("src/a.txt", Some("1\n2\n3\n4\n"))]);
    let number = server.open("ann", "topic", "Please.");
    let mut desk = Desk::about(server, number);
    if what.deliver == DeliverKind::PushToBranch {
        desk.write("src/a.txt", "mended\n");
        return desk;
    }
    // An earlier review found two things. One is gone now, one is still there, and two are new.
    desk.findings = vec![finding(1, Standing::New), finding(2, Standing::New)];
    desk.publish(DeliverKind::Review).await.unwrap();
    desk.findings = vec![
        finding(1, Standing::Resolved),
        finding(2, Standing::Still),
        finding(3, Standing::New),
        finding(4, Standing::New),
    ];
    desk
}

fn delivers(desk: &Desk, what: What) {
    let output = start(&order(desk, what)).wait_with_output().unwrap();
    assert!(output.status.success(), "{what:?}: {}", common::spoken(&output));
}

/// A desk where these were delivered before; how many writes that took.
async fn after(kind: ForgeKind, before: &[What], what: What) -> (Desk, usize) {
    let desk = desk(kind, what).await;
    for what in before {
        delivers(&desk, *what);
    }
    let written = desk.server.memory().written;
    (desk, written)
}

/// What there is when it is delivered, and how many writes that took: the same wherever it was cut off.
async fn killed(kind: ForgeKind, before: &[What], what: What) -> (Value, usize) {
    // Once undisturbed: how many writes there are, and what there is then.
    let (whole, written) = after(kind, before, what).await;
    delivers(&whole, what);
    let writes = whole.server.memory().written - written;
    let wanted = standing(&whole);
    for last in 1..=writes {
        let (desk, written) = after(kind, before, what).await;
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

async fn killed_after_every_write(kind: ForgeKind, what: What) {
    let (wanted, writes) = killed(kind, &[], what).await;
    let ones = |name: &str| wanted[name].as_array().unwrap().len();
    assert_eq!((ones("changes"), ones("statuses")), (1, 1), "{kind:?}: {wanted:#}");
    let (least, comments, commits, remarks) = match what.deliver {
        // A branch, a change, a comment, a status.
        DeliverKind::PullRequest => (4, 1, "1", 0),
        // A commit beside ann's, a status.
        DeliverKind::PushToBranch => (2, 0, "2", 0),
        // Remarks, a comment, a status; where threads can be resolved, one that is.
        _ => (3 + usize::from(kind != ForgeKind::Gitea), 1, "1", 4),
    };
    assert!(writes >= least, "{kind:?}: {writes}");
    assert_eq!((ones("comments"), &wanted["commits"], ones("remarks")), (comments, &json!(commits), remarks));
}

/// Opened, brought up to date, closed with a last word, opened again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issue_is_one_wherever_it_is_cut_off() {
    for kind in [ForgeKind::Github, ForgeKind::Gitlab, ForgeKind::Gitea] {
        for (before, what, state, said) in [
            (&[][..], issue(2), "open", 0),
            (&[issue(2)], issue(1), "open", 0),
            (&[issue(2)], issue(0), "closed", 1),
            (&[issue(2), issue(0)], issue(3), "open", 1),
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
    killed_after_every_write(ForgeKind::Github, PROPOSE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_every_write_on_github_where_it_signs() {
    killed_after_every_write(ForgeKind::Github, What { signed: true, ..PROPOSE }).await;
    killed_after_every_write(ForgeKind::Github, What { signed: true, ..PUSH }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_every_write_on_gitlab() {
    killed_after_every_write(ForgeKind::Gitlab, PROPOSE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_every_write_on_gitea() {
    killed_after_every_write(ForgeKind::Gitea, PROPOSE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_every_write_of_a_push_to_a_changes_own_branch() {
    for kind in [ForgeKind::Github, ForgeKind::Gitlab, ForgeKind::Gitea] {
        killed_after_every_write(kind, PUSH).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_every_write_of_a_review_on_github() {
    killed_after_every_write(ForgeKind::Github, REVIEW).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_every_write_of_a_review_on_gitlab() {
    killed_after_every_write(ForgeKind::Gitlab, REVIEW).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_every_write_of_a_review_on_gitea() {
    killed_after_every_write(ForgeKind::Gitea, REVIEW).await;
}
