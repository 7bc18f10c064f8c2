//! Forges: one suite that each adapter runs, and what becomes of a delivery when things go wrong. Real HTTP, real git
//! over it, real repositories; the forge is a fake that remembers (`tests/common/forge_server`).

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use codeforge::adapter::fake::FakeClock;
use codeforge::adapter::forge::{self, Settings};
use codeforge::adapter::git::{self, Force};
use codeforge::engine::publish::{Publication, PublishError, Signing, publish};
use codeforge::model::delivery::{Delivery, Published};
use codeforge::model::event::{Change, Event, EventKind, Issue, Side};
use codeforge::model::exec::ExecMode;
use codeforge::model::finding::{Finding, Level, Standing};
use codeforge::model::forge::{Access, CheckState, ForgeKind, Right};
use codeforge::model::id::{RunId, StepId};
use codeforge::model::journal::Base;
use codeforge::model::plan::{DeliverKind, ForgeSpec};
use codeforge::port::forge::{
    Check, Forge, ForgeAt, ForgeError, LineSide, NewReview, Protection, Remark, Sticky, Thread,
};
use codeforge::port::repository::{OpenWorkspace, Repository, Workspace};
use common::forge_server::{BOT, Fault, ForgeServer, TOKEN, holds, judge};
use common::{ModelServer, Reply, Rule, TestRepo, spoken};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const KINDS: [ForgeKind; 2] = [ForgeKind::Github, ForgeKind::Gitlab];
const KEY: &str = "fix/issue-7";
const BRANCH: &str = "codeforge/fix/work-7";
/// A minute before a limit is lifted.
const NOW_MS: i64 = 1_790_000_000_000;

/// A forge, a clone of its repository, and a run's end in it.
struct Story {
    server: ForgeServer,
    repo: TestRepo,
    repository: Arc<dyn Repository>,
    base: Base,
    workspace: Arc<dyn Workspace>,
    forge: Arc<dyn Forge>,
    event: Event,
    findings: Vec<Finding>,
    secrets: Vec<String>,
    labels: Vec<String>,
    reviewers: Vec<String>,
    asked: ForgeSpec,
    signing: Signing,
}

fn adapter(at: &ForgeAt) -> (Arc<dyn Forge>, Arc<FakeClock>) {
    let clock = Arc::new(FakeClock::at(NOW_MS));
    let settings = Settings { system_proxy: false, ..Settings::default() };
    (forge::open(at, Arc::<FakeClock>::clone(&clock), Arc::new(|| 0), settings).unwrap(), clock)
}

impl Story {
    async fn of(kind: ForgeKind) -> Self {
        Self::at(ForgeServer::start(kind).await, "main")
    }

    /// A run that began at a branch's tip.
    fn at(server: ForgeServer, branch: &str) -> Self {
        let repo = server.clone_of();
        repo.git(&["checkout", "--quiet", "--detach", &format!("refs/remotes/origin/{branch}")]);
        let repository = git::open_with(repo.path(), Force::Copy).unwrap();
        let base = repository.base().unwrap();
        let order = OpenWorkspace {
            run: RunId::from("run00001"),
            name: "main".into(),
            tree: base.tree.clone(),
            base: base.tree.clone(),
            mode: ExecMode::Sandbox,
            step: None,
        };
        let workspace = repository.workspace(&order).unwrap();
        let (forge, _) = adapter(&server.at());
        let event = Event { kind: EventKind::Manual, ..Event::default() };
        let (findings, secrets) = (Vec::new(), vec![TOKEN.to_owned()]);
        let (labels, reviewers) = (vec!["codeforge".to_owned()], vec!["ann".to_owned()]);
        Self {
            server,
            repo,
            repository,
            base,
            workspace,
            forge,
            event,
            findings,
            secrets,
            labels,
            reviewers,
            asked: ForgeSpec::default(),
            signing: Signing::default(),
        }
    }

    /// A run that began at the head of a change.
    fn about(server: ForgeServer, number: u64) -> Self {
        let change = server.memory().changes.iter().find(|change| change.number == number).cloned().unwrap();
        let head = server.tip(&change.head).unwrap();
        let mut story = Self::at(server, &change.head);
        let side = |branch: &str, sha: Option<String>, id: u64| Side {
            branch: branch.into(),
            sha,
            repository: None,
            repository_id: Some(id),
        };
        let head = side(&change.head, Some(head), if change.fork { 2 } else { 1 });
        let change = Change { number, head, base: side("main", None, 1), ..Change::default() };
        story.event = Event { kind: EventKind::PullRequest, change: Some(change), ..Event::default() };
        story
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.workspace.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    fn delivery(&self, kind: DeliverKind) -> Delivery {
        Delivery {
            kind,
            base: self.base.tree.clone(),
            tree: self.workspace.snapshot().unwrap(),
            branch: Some(BRANCH.into()),
            title: "Mend it".into(),
            body: "Because.\n".into(),
            author: ("CodeForge".into(), "codeforge@localhost".into()),
            time_s: 1_790_000_000,
            protected_paths: vec![".github/**".into()],
        }
    }

    async fn publish(&self, kind: DeliverKind) -> Result<Published, PublishError> {
        self.publish_as(&self.delivery(kind), |_| {}).await
    }

    async fn publish_as<'s>(
        &'s self,
        delivery: &'s Delivery,
        change: impl FnOnce(&mut Publication<'s>),
    ) -> Result<Published, PublishError> {
        let mut publication = Publication {
            delivery,
            base: &self.base,
            event: &self.event,
            findings: &self.findings,
            body: "What was done.",
            comment: None,
            memory: None,
            key: KEY,
            draft: true,
            passed: false,
            asked: &self.asked,
            signing: &self.signing,
            labels: &self.labels,
            reviewers: &self.reviewers,
            target: None,
            prefix: "codeforge/",
            most_open: None,
            secrets: &self.secrets,
            hosts: &[],
        };
        change(&mut publication);
        publish(&*self.forge, Arc::clone(&self.repository), &publication).await
    }

    /// How many requests changed something.
    fn writes(&self) -> usize {
        let asked = self.server.asked();
        asked.iter().filter(|asked| asked.method != "GET" && !asked.path.ends_with("graphql")).count()
    }
}

fn finding(file: &str, line: Option<u64>, fingerprint: &str) -> Finding {
    Finding {
        fingerprint: fingerprint.into(),
        level: Level::High,
        file: file.into(),
        line,
        end_line: None,
        rule: Some("CWE-89".into()),
        what: "It is wrong, says @ann.".into(),
        suggestion: None,
        step: StepId::from("review"),
        standing: Standing::New,
    }
}

/// `multi_thread`: the fake's git runs beside what waits for it.
macro_rules! both {
    ($($name:ident => $story:ident;)*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            for kind in KINDS {
                $story(kind).await;
            }
        }
    )* };
}

both! {
    a_change_is_opened_once_and_kept_up_to_date => opened_once;
    a_closed_change_is_left_closed => left_closed;
    a_persons_commit_is_never_overwritten => persons_commit;
    a_description_that_somebody_took_over_is_left_alone => taken_over;
    only_our_own_branches_are_pushed_to => only_ours;
    a_lost_answer_is_looked_up_before_it_is_retried => lost_answers;
    a_comment_stays_one => one_comment;
    what_a_comment_remembers_is_ours_or_nothing => remembered;
    only_so_many_changes_of_ours_are_open => so_many_open;
    a_forged_mark_is_not_ours => forged_marks;
    remarks_stand_at_their_lines => remarks;
    what_stands_on_a_change_goes_to_it_or_nowhere => on_a_change;
    a_changes_own_branch_is_pushed_to_at_the_pinned_commit_only => own_branch;
    access_is_what_the_forge_clearly_says => access;
    errors_name_whose_fault_it_is => errors;
    limits_are_honoured_and_writes_are_spaced => limits;
    secrets_leave_in_no_form => secrets;
    what_a_token_may_do_is_told => rights;
    lists_are_read_to_their_end => pages;
    a_missing_commit_is_fetched => fetched;
    branches_files_and_statuses => the_rest;
}

async fn opened_once(kind: ForgeKind) {
    let story = Story::of(kind).await;
    story.server.memory().members.insert("ann".into(), "write".into());
    story.write("src/a.txt", "one\nTWO\nthree\n").write("new/deep/file.txt", "new\n");
    let published = story.publish(DeliverKind::PullRequest).await.unwrap();
    let changes = story.server.memory().changes.clone();
    assert_eq!(changes.len(), 1, "{kind:?}");
    let change = &changes[0];
    assert_eq!((change.head.as_str(), change.base.as_str(), change.draft), (BRANCH, "main", true));
    assert_eq!(
        (change.labels.as_slice(), change.reviewers.as_slice()),
        (&["codeforge".to_owned()][..], &["ann".to_owned()][..])
    );
    assert!(change.body.starts_with("<!-- codeforge:fix/issue-7 -->\nWhat was done."), "{}", change.body);
    assert_eq!(published.number, Some(change.number));
    assert_eq!(story.server.tip(BRANCH), published.commit);
    assert_eq!(story.server.file(BRANCH, "src/a.txt").unwrap(), "one\nTWO\nthree\n");
    // The user's repository has neither the branch nor the commit, nor is the tree touched.
    assert_eq!(story.repo.git(&["for-each-ref", "--format=%(refname)", "refs/heads"]), "refs/heads/main");
    let ours = published.commit.clone().unwrap();
    let there = common::git().current_dir(story.repo.path()).args(["cat-file", "-e", &ours]).output().unwrap();
    assert!(!there.status.success(), "{}", spoken(&there));
    assert_eq!(story.repo.status(), "");
    // The same again writes nothing.
    let writes = story.writes();
    let again = story.publish(DeliverKind::PullRequest).await.unwrap();
    assert_eq!((again.commit, again.number), (published.commit.clone(), published.number));
    assert_eq!(story.writes(), writes, "{kind:?}: {:?}", story.server.asked().last());
    // Other work under the same key: the same branch, the same change, other words.
    story.write("src/a.txt", "one\nTWO\nTHREE\n");
    let mut later = story.delivery(DeliverKind::PullRequest);
    later.time_s += 60;
    let updated = story.publish_as(&later, |publication| publication.body = "More was done.").await.unwrap();
    assert_eq!(story.server.tip(BRANCH), updated.commit);
    let changes = story.server.memory().changes.clone();
    assert_eq!(changes.len(), 1);
    assert!(changes[0].body.ends_with("More was done."));
    // Nothing to hand over is said, and nothing is made.
    let none = Story::of(kind).await;
    let published = none.publish(DeliverKind::PullRequest).await.unwrap();
    assert_eq!((published.branch, none.writes()), (None, 0));
}

async fn left_closed(kind: ForgeKind) {
    let story = Story::of(kind).await;
    story.write("b.txt", "b\n");
    let first = story.publish(DeliverKind::PullRequest).await.unwrap();
    story.server.memory().changes[0].state = "closed";
    story.write("b.txt", "better\n");
    let told = story.publish(DeliverKind::PullRequest).await.unwrap();
    assert!(told.told[0].contains("stays closed"), "{:?}", told.told);
    assert_eq!(story.server.tip(BRANCH), first.commit, "nothing is pushed");
    // One that was merged is done with: the next one is new.
    story.server.memory().changes[0].state = "merged";
    story.publish(DeliverKind::PullRequest).await.unwrap();
    assert_eq!(story.server.memory().changes.len(), 2);
}

async fn persons_commit(kind: ForgeKind) {
    let story = Story::of(kind).await;
    story.write("b.txt", "b\n");
    story.publish(DeliverKind::PullRequest).await.unwrap();
    let theirs = story.server.commit_by("ann", BRANCH, "main", &[("b.txt", Some("by hand\n"))]);
    story.write("b.txt", "better\n");
    let error = story.publish(DeliverKind::PullRequest).await.unwrap_err();
    assert!(matches!(error, PublishError::Refused(_)) && error.to_string().contains("not overwritten"), "{error}");
    assert_eq!(story.server.tip(BRANCH).unwrap(), theirs);
    // A branch of ours under another key is somebody else's, too.
    let other = Story::of(kind).await;
    other.write("b.txt", "b\n");
    let delivery = other.delivery(DeliverKind::Branch);
    other.publish_as(&delivery, |publication| publication.key = "fix/other").await.unwrap();
    other.write("b.txt", "c\n");
    assert!(other.publish(DeliverKind::Branch).await.is_err());
}

async fn taken_over(kind: ForgeKind) {
    let story = Story::of(kind).await;
    story.write("b.txt", "b\n");
    story.publish(DeliverKind::PullRequest).await.unwrap();
    story.server.memory().changes[0].body = "My own words.".into();
    let told = story.publish(DeliverKind::PullRequest).await.unwrap().told.join(" ");
    assert!(told.contains("somebody else's"), "{told}");
    assert_eq!(story.server.memory().changes[0].body, "My own words.");
}

async fn only_ours(kind: ForgeKind) {
    let story = Story::of(kind).await;
    story.write("b.txt", "b\n");
    let main = story.server.tip("main");
    for name in [
        "main",
        "+main:x",
        "--force",
        "refs/heads/main",
        "codeforge/",
        "codeforge/a..b",
        "feature/x",
        "codeforge/../main",
    ] {
        let delivery = Delivery { branch: Some(name.into()), ..story.delivery(DeliverKind::Branch) };
        assert!(story.publish_as(&delivery, |_| {}).await.is_err(), "{name}");
    }
    let delivery = Delivery { branch: Some("main".into()), ..story.delivery(DeliverKind::Branch) };
    for prefix in ["", "/", "main"] {
        assert!(story.publish_as(&delivery, |publication| publication.prefix = prefix).await.is_err(), "{prefix:?}");
    }
    let delivery = Delivery { branch: Some("main2".into()), ..delivery };
    // The server has the last word: a rule that nobody told us of.
    story.server.memory().protected.push(BRANCH.into());
    let error = story.publish(DeliverKind::Branch).await.unwrap_err().to_string();
    assert!(error.contains("GH006"), "{error}");
    assert_eq!((story.server.tip("main"), story.server.tip("main2"), story.server.tip(BRANCH)), (main, None, None));
    // What must not be in a delivery is not pushed either.
    story.server.memory().protected.clear();
    story.write(".github/workflows/ci.yml", "on: push\n");
    assert!(matches!(story.publish(DeliverKind::Branch).await, Err(PublishError::Repository(_))));
    assert!(story.publish_as(&delivery, |publication| publication.prefix = "codeforge/").await.is_err());
    assert_eq!((story.server.tip(BRANCH), story.writes()), (None, 0));
}

async fn lost_answers(kind: ForgeKind) {
    let story = Story::about_new(kind).await;
    let (open, comments, review) = match kind {
        ForgeKind::Github => ("/pulls", "/comments", "/reviews"),
        ForgeKind::Gitlab => ("/merge_requests", "/notes", "/discussions"),
    };
    story.write("b.txt", "b\n");
    let server = &story.server;
    server.fail(Fault::lose("POST", "git-receive-pack")).fail(Fault::lose("POST", open));
    let published = story.publish(DeliverKind::PullRequest).await.unwrap();
    assert_eq!(server.tip(BRANCH), published.commit);
    let ours = |story: &Story| story.server.memory().changes.iter().filter(|change| change.head == BRANCH).count();
    assert_eq!(ours(&story), 1, "{kind:?}: done once");
    // A failure that says nothing of what was done: looked up, then made.
    server.memory().changes.retain(|change| change.head != BRANCH);
    server.fail(Fault::status("POST", open, 502).times(2));
    story.publish(DeliverKind::PullRequest).await.unwrap();
    assert_eq!(ours(&story), 1);
    server.fail(Fault::lose("POST", comments));
    story.publish(DeliverKind::Comment).await.unwrap();
    assert_eq!(server.memory().comments.len(), 1, "{kind:?}: said once");
    server.fail(Fault::lose("POST", review));
    let remark = Remark {
        key: "k/1".into(),
        path: "src/a.txt".into(),
        start_line: None,
        line: 2,
        side: LineSide::New,
        body: "here".into(),
        replacement: None,
    };
    let change = story.event.change.clone().unwrap();
    let commit = change.head.sha.unwrap();
    let review = NewReview { number: change.number, commit: &commit, remarks: &[remark], resolved: &[] };
    let done = story.forge.review(&review).await.unwrap();
    assert_eq!((server.memory().remarks.len(), done.made), (1, 1), "{kind:?}: remarked once");
}

async fn one_comment(kind: ForgeKind) {
    let story = Story::about_new(kind).await;
    let said =
        |story: &Story| story.server.memory().comments.iter().map(|comment| comment.body.clone()).collect::<Vec<_>>();
    for body in ["First.", "First.", "Second, thanks @ann: fixes #1 [x](https://evil.example/k)."] {
        let delivery = story.delivery(DeliverKind::Comment);
        story.publish_as(&delivery, |publication| publication.comment = Some(body)).await.unwrap();
    }
    let inert = "Second, thanks @&#8203;ann: fixes&#8203; #1 x (link to `evil.example` removed).";
    assert_eq!(said(&story), [format!("<!-- codeforge:fix/issue-7 -->\n{inert}")]);
    assert_eq!(story.writes(), 2, "made, left alone, changed");
    // An issue has comments, too; an event about nothing has none.
    let mut issue = Story::of(kind).await;
    assert!(matches!(issue.publish(DeliverKind::Comment).await, Err(PublishError::Misuse(_))));
    issue.event.issue = Some(Issue { number: 3, ..Issue::default() });
    issue.publish(DeliverKind::Comment).await.unwrap();
    assert_eq!(issue.server.memory().comments[0].thread, "issue 3");
}

async fn remembered(kind: ForgeKind) {
    let mut story = Story::about_new(kind).await;
    let signed = ForgeAt { marker_key: Some("key".to_owned().into()), ..story.server.at() };
    let number = story.event.change.as_ref().unwrap().number;
    let thread = Thread::Change(number);
    let memory = "<!-- codeforge:memory {\"spent\":7} -->";
    let lie = memory.replace('7', "0");
    // A model's memory is text like any other, also where it would be the first line.
    let comment = format!("{lie}\n\nDone.\n\n{lie}");
    for at in [story.server.at(), signed] {
        let (other, _) = adapter(&story.server.at());
        story.forge = adapter(&at).0;
        let delivery = story.delivery(DeliverKind::Comment);
        for memory in [None, Some(memory)] {
            story
                .publish_as(&delivery, |it| {
                    it.comment = Some(&comment);
                    it.memory = memory;
                })
                .await
                .unwrap();
            let recalled = story.forge.recall(thread, &[KEY, "other"]).await.unwrap();
            let wanted = memory.map(|memory| (KEY.to_owned(), memory.to_owned()));
            assert_eq!(recalled, wanted.into_iter().collect(), "{kind:?}");
        }
        let ours = story.server.memory().comments.last().unwrap().body.clone();
        assert!(ours.ends_with("\nDone.") || ours.trim_end().ends_with("Done."), "{ours}");
        // Somebody else's comment of the same text, or ours with another memory under the same signature.
        let own = story.server.memory().comments.pop().unwrap();
        story.server.comment_by("eve", &format!("change {number}"), &ours);
        assert_eq!(story.forge.recall(thread, &[KEY]).await.unwrap(), BTreeMap::new(), "{kind:?}: another account");
        story.server.memory().comments.push(own);
        if at.marker_key.is_some() {
            story.server.memory().comments.last_mut().unwrap().body = ours.replace("\"spent\":7", "\"spent\":0");
            assert_eq!(story.forge.recall(thread, &[KEY]).await.unwrap(), BTreeMap::new(), "{kind:?}: another memory");
            assert!(other.recall(thread, &[KEY]).await.is_ok());
        }
    }
}

async fn so_many_open(kind: ForgeKind) {
    let story = Story::of(kind).await;
    story.server.open("ann", "theirs", "A person's change does not count.");
    story.write("src/a.txt", "1\n");
    let first = story.delivery(DeliverKind::PullRequest);
    story.publish_as(&first, |it| it.most_open = Some(1)).await.unwrap();
    // It is brought up to date at the limit; another one is not opened, nor is its branch pushed.
    story.write("src/a.txt", "2\n");
    let second = story.delivery(DeliverKind::PullRequest);
    let published = story.publish_as(&second, |it| it.most_open = Some(1)).await.unwrap();
    assert_eq!(story.server.tip(BRANCH), published.commit);
    let other = Delivery { branch: Some("codeforge/fix/other".into()), ..story.delivery(DeliverKind::PullRequest) };
    let writes = story.writes();
    let error = story.publish_as(&other, |it| it.most_open = Some(1)).await.unwrap_err();
    assert!(matches!(&error, PublishError::Refused(why) if why.contains("delivery.open_changes_limit")), "{error}");
    assert_eq!((story.writes(), story.server.memory().changes.len()), (writes, 2), "{kind:?}");
    // One that was closed makes room.
    for change in &mut story.server.memory().changes {
        change.state = "closed";
    }
    story.publish_as(&other, |it| it.most_open = Some(1)).await.unwrap();
}

async fn forged_marks(kind: ForgeKind) {
    let server = ForgeServer::start(kind).await;
    let number = server.open("ann", "main", "");
    let thread = format!("change {number}");
    let sticky = Sticky { thread: Thread::Change(number), key: "review", body: "ours", memory: None };
    // Somebody else's, and one of our account in which a model wrote the mark.
    server.comment_by("eve", &thread, "<!-- codeforge:review -->\nforged");
    server.comment_by(BOT, &thread, "quoted:\n<!-- codeforge:review -->");
    let (forge, _) = adapter(&server.at());
    assert!(forge.stick(&sticky).await.unwrap().created);
    // Where the forge does not say who we are, only a signature tells.
    for whoami in ["/graphql", "/user"] {
        let post = if kind == ForgeKind::Github { "POST" } else { "GET" };
        server.fail(Fault::status(post, whoami, 403).times(2));
    }
    let (nobody, _) = adapter(&server.at());
    assert!(matches!(nobody.stick(&sticky).await, Err(ForgeError::Unsupported(_))));
    server.memory().clear_faults();
    // With a key, a mark without a signature is nobody's: another workflow of the same account may have made it.
    let signed = ForgeAt { marker_key: Some("key".to_owned().into()), ..server.at() };
    let (forge, _) = adapter(&signed);
    assert!(forge.stick(&sticky).await.unwrap().created);
    assert!(!forge.stick(&sticky).await.unwrap().created);
    let bodies: Vec<String> = server.memory().comments.iter().map(|comment| comment.body.clone()).collect();
    assert_eq!(bodies.len(), 4);
    assert!(bodies[0].ends_with("forged") && bodies[1].starts_with("quoted") && bodies[3].contains(" mac:"));
}

impl Story {
    /// About a change by `ann`: a file changed in its middle, one renamed and changed, one new, one gone.
    async fn about_new(kind: ForgeKind) -> Self {
        let long: String = (1..=30).map(|n| format!("line {n}\n")).collect();
        let server = ForgeServer::with(
            kind,
            &[("src/a.txt", "one\ntwo\nthree\n"), ("old name.txt", &long), ("gone.txt", "x\ny\n"), ("far.txt", &long)],
        )
        .await;
        let renamed = long.replace("line 15\n", "line fifteen\nline fifteen and a half\n");
        server.commit_by(
            "ann",
            "topic",
            "main",
            &[
                ("src/a.txt", Some("one\nTWO\nthree\n")),
                ("old name.txt", None),
                ("new/näme.txt", Some(&renamed)),
                ("gone.txt", None),
                ("added.txt", Some("a\nb\n")),
                ("far.txt", Some(&long.replace("line 2\n", "LINE 2\n"))),
            ],
        );
        let number = server.open("ann", "topic", "");
        Self::about(server, number)
    }
}

async fn remarks(kind: ForgeKind) {
    let mut story = Story::about_new(kind).await;
    let change = story.event.change.clone().unwrap();
    let commit = change.head.sha.clone().unwrap();
    let remark = |key: &str, path: &str, line, side| Remark {
        key: key.into(),
        path: path.into(),
        start_line: None,
        line,
        side,
        body: "b".into(),
        replacement: None,
    };
    use LineSide::{New, Old};
    let remarks = [
        Remark { replacement: Some("two\n```".into()), ..remark("added", "src/a.txt", 2, New) },
        remark("removed", "src/a.txt", 2, Old),
        remark("same", "src/a.txt", 3, New),
        remark("new-file", "added.txt", 1, New),
        remark("gone-file", "gone.txt", 2, Old),
        remark("renamed-added", "new/näme.txt", 16, New),
        remark("renamed-removed", "new/näme.txt", 15, Old),
        remark("renamed-same", "new/näme.txt", 17, New),
        remark("not-shown", "far.txt", 29, New),
        remark("no-such-file", "nowhere.txt", 1, New),
    ];
    let review = NewReview { number: change.number, commit: &commit, remarks: &remarks, resolved: &[] };
    let done = story.forge.review(&review).await.unwrap();
    assert_eq!((done.made, done.outside), (8, vec!["not-shown".to_owned(), "no-such-file".to_owned()]), "{kind:?}");
    let there: Vec<(String, _)> =
        story.server.memory().remarks.iter().map(|remark| (remark.path.clone(), remark.lines)).collect();
    // GitHub counts by the side, GitLab wants both numbers of a line that is the same.
    let same = |old, new| match kind {
        ForgeKind::Github => (None, Some(new)),
        ForgeKind::Gitlab => (Some(old), Some(new)),
    };
    let expected = [
        ("src/a.txt", (None, Some(2))),
        ("src/a.txt", (Some(2), None)),
        ("src/a.txt", same(3, 3)),
        ("added.txt", (None, Some(1))),
        ("gone.txt", (Some(2), None)),
        ("new/näme.txt", (None, Some(16))),
        ("new/näme.txt", (Some(15), None)),
        ("new/näme.txt", same(16, 17)),
    ];
    assert_eq!(there, expected.map(|(path, lines)| (path.to_owned(), lines)), "{kind:?}");
    let body = story.server.memory().remarks[0].body.clone();
    let fence = if kind == ForgeKind::Github {
        "````suggestion\ntwo\n```\n````"
    } else {
        "````suggestion:-0+0\ntwo\n```\n````"
    };
    assert!(body.ends_with(fence), "{body}");
    // Each once; resolved by us where it is ours and asked for.
    story.server.memory().remarks[1].author = "eve".into();
    let resolved = ["added".to_owned(), "removed".to_owned()];
    let again = NewReview { remarks: &remarks[2..4], resolved: &resolved, ..review };
    let done = story.forge.review(&again).await.unwrap();
    assert_eq!((done.made, done.kept, done.resolved), (0, 2, 1), "{kind:?}");
    let open: Vec<bool> = story.server.memory().remarks.iter().take(2).map(|remark| remark.resolved).collect();
    assert_eq!(open, [true, false], "somebody else's thread stays open");
    // A review of findings: what has no line in the difference is in the comment.
    story.server.memory().remarks.clear();
    story.findings = vec![
        Finding { suggestion: Some("```\ntwo\n```".into()), ..finding("src/a.txt", Some(2), "f1") },
        finding("far.txt", Some(29), "f2"),
        finding("far.txt", None, "f3"),
    ];
    let published = story.publish(DeliverKind::Review).await.unwrap();
    assert_eq!(published.number, Some(change.number));
    {
        let memory = story.server.memory();
        assert_eq!(memory.remarks.len(), 1);
        assert!(
            memory.remarks[0].body.contains("**High** · CWE-89: It is wrong, says @&#8203;ann."),
            "{}",
            memory.remarks[0].body
        );
        assert!(memory.comments[0].body.contains("far.txt:29") && memory.comments[0].body.contains("`far.txt`"));
    }
    // Pushed to meanwhile: nothing is said about what is no longer there.
    let writes = story.writes();
    story.server.commit_by("ann", "topic", "main", &[("src/a.txt", Some("other\n"))]);
    assert!(matches!(story.publish(DeliverKind::Review).await, Err(PublishError::Moved(_))));
    assert_eq!(story.writes(), writes);
}

async fn on_a_change(kind: ForgeKind) {
    let mut story = Story::about_new(kind).await;
    story.write("src/a.txt", "one\nTWO, mended\nthree\n");
    // From a fork, or nobody says from where: nothing of it gets onto a branch of ours.
    let known = story.event.clone();
    for id in [Some(2), None] {
        story.event.change.as_mut().unwrap().head.repository_id = id;
        for form in [DeliverKind::PullRequest, DeliverKind::Branch] {
            assert!(matches!(story.publish(form).await, Err(PublishError::Refused(_))), "{kind:?} {form:?}");
        }
    }
    story.event = known;
    story.publish(DeliverKind::PullRequest).await.unwrap();
    assert_eq!(story.server.memory().changes.last().unwrap().base, "topic", "on top of what it mends");
    // Pushed to between: nothing is written.
    let (tip, writes) = (story.server.tip(BRANCH), story.writes());
    story.server.commit_by("ann", "topic", "main", &[("c.txt", Some("c\n"))]);
    story.write("src/a.txt", "one\nTWO, mended again\nthree\n");
    assert!(matches!(story.publish(DeliverKind::PullRequest).await, Err(PublishError::Moved(_))), "{kind:?}");
    assert_eq!((story.server.tip(BRANCH), story.writes()), (tip, writes));
}

async fn own_branch(kind: ForgeKind) {
    let story = Story::about_new(kind).await;
    let pinned = story.server.tip("topic").unwrap();
    story.write("src/a.txt", "one\nTWO, mended\nthree\n");
    let push = |story: Story| async move { (story.publish(DeliverKind::PushToBranch).await, story) };
    let (published, story) = push(story).await;
    let published = published.unwrap();
    assert_eq!(story.server.tip("topic"), published.commit);
    let parent = story.forge.commit(published.commit.as_deref().unwrap()).await.unwrap().parents;
    assert_eq!(parent, std::slice::from_ref(&pinned), "on top of what was there");
    // Found again; and not on top of somebody's push.
    let (again, story) = push(story).await;
    assert_eq!(again.unwrap().commit, published.commit);
    let theirs = story.server.commit_by("ann", "topic", "main", &[("c.txt", Some("c\n"))]);
    let (moved, story) = push(story).await;
    assert!(matches!(moved, Err(PublishError::Moved(_))), "{moved:?}");
    assert_eq!(story.server.tip("topic").unwrap(), theirs);

    let refused = |what: &'static str, prepare: fn(&mut Story)| async move {
        let mut story = Story::about_new(kind).await;
        story.write("src/a.txt", "x\n");
        prepare(&mut story);
        let before = story.server.tip("topic");
        let error = story.publish(DeliverKind::PushToBranch).await.unwrap_err().to_string();
        assert_eq!(story.server.tip("topic"), before, "{what}: {error}");
        error
    };
    let fork = refused("fork", |story| story.server.memory().changes[0].fork = true).await;
    assert!(fork.contains("fork"), "{fork}");
    refused("a fork, says the event", |story| {
        story.event.change.as_mut().unwrap().head.repository_id = None;
    })
    .await;
    let protected = refused("protected", |story| story.server.memory().protected.push("topic".into())).await;
    assert!(protected.contains("pull_request"), "{protected}");
    refused("closed", |story| story.server.memory().changes[0].state = "closed").await;
    refused("another commit", |story| story.event.change.as_mut().unwrap().head.sha = Some("1".repeat(40))).await;
    refused("no answer", |story| {
        story.server.fail(Fault::status("GET", "/topic", 500).times(9));
    })
    .await;
    refused("no change", |story| story.event.change = None).await;
    if kind == ForgeKind::Github {
        refused("a ruleset", |story| {
            story.server.memory().rules.insert("topic".into(), vec!["deletion".into(), "pull_request".into()]);
        })
        .await;
    }
}

async fn access(kind: ForgeKind) {
    let server = ForgeServer::start(kind).await;
    let expected = [
        ("admin", Access::Admin),
        ("maintain", Access::Maintain),
        ("write", Access::Write),
        ("triage", Access::Triage),
        ("read", Access::Read),
    ];
    for (role, _) in expected {
        server.memory().members.insert(format!("{role}er"), role.into());
    }
    server.memory().members.insert("blocked".into(), if kind == ForgeKind::Gitlab { "blocked" } else { "none" }.into());
    let (forge, _) = adapter(&server.at());
    for (role, access) in expected {
        assert_eq!(forge.access_of(&format!("{role}er")).await, access, "{kind:?}");
    }
    for nobody in ["blocked", "stranger", "", "..", "a/../../b"] {
        assert_eq!(forge.access_of(nobody).await, Access::None, "{kind:?} {nobody}");
    }
    let asked = match kind {
        ForgeKind::Github => "/permission",
        ForgeKind::Gitlab => "username=writeer",
    };
    for status in [500, 404, 403, 200] {
        server.fail(Fault::status("GET", asked, status).times(9));
        assert_eq!(forge.access_of("writeer").await, Access::None, "{status} is no yes");
        server.memory().clear_faults();
    }
    assert!(forge.access_of("writeer").await.reaches(Access::Write));
}

async fn errors(kind: ForgeKind) {
    let server = ForgeServer::start(kind).await;
    let (forge, _) = adapter(&server.at());
    let sticky = Sticky { thread: Thread::Change(1), key: "k", body: "b", memory: None };
    let post = match kind {
        ForgeKind::Github => "/issues/1/comments",
        ForgeKind::Gitlab => "/merge_requests/1/notes",
    };
    server.fail(Fault::status("POST", post, 403).saying("Resource not accessible by integration"));
    let denied = forge.stick(&sticky).await.unwrap_err();
    let needs = match kind {
        ForgeKind::Github => "permissions: pull-requests: write",
        ForgeKind::Gitlab => "scope api",
    };
    assert!(matches!(&denied, ForgeError::Refused { .. }) && denied.to_string().contains(needs), "{denied}");
    server.fail(Fault::status("POST", post, 401));
    assert!(matches!(forge.stick(&sticky).await, Err(ForgeError::Refused { .. })));
    server.fail(Fault::status("POST", post, 422).saying("body is too long \u{1b}[31m"));
    let contract = forge.stick(&sticky).await.unwrap_err();
    assert!(
        matches!(&contract, ForgeError::Contract { message, .. } if message.ends_with("body is too long")),
        "{contract}"
    );
    assert!(matches!(forge.change(999).await, Err(ForgeError::NotFound { .. })));
    // A token that is wrong is said to be so, for git as well.
    let wrong = ForgeAt { token: "wrong-token-0123".to_owned().into(), ..server.at() };
    let (stranger, _) = adapter(&wrong);
    assert!(matches!(stranger.default_branch().await, Err(ForgeError::Refused { .. })));
    assert!(matches!(stranger.refs("refs/heads/").await, Err(ForgeError::Refused { needs: Some(_), .. })));
    // Down: told after bounded attempts.
    server.fail(Fault::status("GET", "widgets", 503).times(99));
    server.fail(Fault::status("GET", "acme%2Fwidgets", 503).times(99));
    let before = server.asked().len();
    assert!(matches!(forge.default_branch().await, Err(ForgeError::Unavailable { .. })));
    assert_eq!(server.asked().len() - before, 5);
    // A token is not sent in the clear to another machine, nor to an address that holds one.
    for api in ["http://forge.example", "https://user:pass@forge.example", "ftp://127.0.0.1", "nonsense"] {
        let at = ForgeAt { api: api.into(), ..server.at() };
        let opened = forge::open(&at, Arc::new(FakeClock::default()), Arc::new(|| 0), Settings::default());
        assert!(matches!(opened.err(), Some(ForgeError::Unsupported(_))), "{api}");
    }
    assert!(!format!("{:?}", server.at()).contains(TOKEN));
}

async fn limits(kind: ForgeKind) {
    let server = ForgeServer::start(kind).await;
    let number = server.open("ann", "main", "");
    let (forge, clock) = adapter(&server.at());
    let slept = |clock: &FakeClock| clock.slept().iter().map(Duration::as_secs).collect::<Vec<_>>();
    // Serial writes, a second apart.
    for key in ["a", "b", "c"] {
        forge.stick(&Sticky { thread: Thread::Change(number), key, body: "b", memory: None }).await.unwrap();
    }
    assert_eq!(slept(&clock), [1, 1], "{kind:?}");
    // As long as the server says, by either word for it; a write that was limited was not made.
    let post = match kind {
        ForgeKind::Github => "/comments",
        ForgeKind::Gitlab => "/notes",
    };
    server.fail(Fault::status("POST", post, 429).header("retry-after", 7));
    forge.stick(&Sticky { thread: Thread::Change(number), key: "d", body: "b", memory: None }).await.unwrap();
    assert_eq!(slept(&clock)[2..], [1, 7], "{kind:?}");
    assert_eq!(server.memory().comments.len(), 4);
    use codeforge::port::clock::Clock;
    let name = if kind == ForgeKind::Github { "x-ratelimit" } else { "ratelimit" };
    let (left, reset): (&'static str, &'static str) = if name == "ratelimit" {
        ("ratelimit-remaining", "ratelimit-reset")
    } else {
        ("x-ratelimit-remaining", "x-ratelimit-reset")
    };
    let at = clock.now_ms() / 1000 + 30;
    let status = if kind == ForgeKind::Github { 403 } else { 429 };
    server.fail(Fault::status("GET", "/comments", status).header(left, 0).header(reset, at));
    server.fail(Fault::status("GET", "/notes", status).header(left, 0).header(reset, at));
    forge.comments(Thread::Change(number)).await.unwrap();
    assert!((29..=30).contains(slept(&clock).last().unwrap()), "{:?}", slept(&clock));
    // GitHub's second limit has no header.
    if kind == ForgeKind::Github {
        server.fail(Fault::status("POST", post, 403).saying("You have exceeded a secondary rate limit."));
        forge.stick(&Sticky { thread: Thread::Change(number), key: "e", body: "b", memory: None }).await.unwrap();
        assert_eq!(slept(&clock).last(), Some(&60));
    }
    // Too long is told instead of waited for.
    server.fail(Fault::status("GET", post, 429).header("retry-after", 3600));
    let error = forge.comments(Thread::Change(number)).await.unwrap_err();
    assert!(matches!(&error, ForgeError::RateLimited { after: Some(after), .. } if after.as_secs() == 3600), "{error}");
}

async fn secrets(kind: ForgeKind) {
    let story = Story::of(kind).await;
    let reversed: String = TOKEN.chars().rev().collect();
    let hex: String = TOKEN.bytes().map(|byte| format!("{byte:02x}")).collect();
    let hidden: String = TOKEN.chars().flat_map(|c| [c, '\u{200b}']).collect();
    let wide: Vec<u8> = TOKEN.encode_utf16().flat_map(u16::to_le_bytes).collect();
    story.write("b.txt", "b\n");
    let base = story.delivery(DeliverKind::PullRequest);
    for leak in [TOKEN, &reversed, &hex, &hidden] {
        for delivery in [
            Delivery { title: format!("Mend {leak}"), ..base.clone() },
            Delivery { body: format!("See {leak}"), ..base.clone() },
            Delivery { branch: Some(format!("codeforge/{leak}")), ..base.clone() },
        ] {
            assert!(matches!(story.publish_as(&delivery, |_| {}).await, Err(PublishError::Refused(_))), "{delivery:?}");
        }
        let body = format!("Look: {leak}");
        let in_body = story.publish_as(&base, |publication| publication.body = &body).await;
        assert!(matches!(in_body, Err(PublishError::Refused(_))), "{leak}");
    }
    for content in [TOKEN.as_bytes(), hex.as_bytes(), &[b"\0\x01\x02", TOKEN.as_bytes()].concat(), &wide] {
        story.write("leak.bin", content);
        let error = story.publish(DeliverKind::PullRequest).await.unwrap_err().to_string();
        assert!(error.contains("leak.bin") && !error.contains(TOKEN), "{error}");
    }
    assert_eq!((story.server.tip(BRANCH), story.writes()), (None, 0), "nothing left");
}

async fn rights(kind: ForgeKind) {
    let server = ForgeServer::start(kind).await;
    let (forge, _) = adapter(&server.at());
    let rights = forge.token_rights().await.unwrap();
    assert_eq!(
        (rights.account.as_deref(), &rights.read, &rights.push, &rights.open_changes),
        (Some(BOT), &Right::Yes, &Right::Yes, &Right::Yes)
    );
    assert!(server.memory().changes.is_empty() && server.memory().comments.is_empty());
    server.fail(Fault::status("GET", "/info/refs", 403));
    if kind == ForgeKind::Github {
        server
            .fail(Fault::status("POST", "/pulls", 403).header("x-accepted-github-permissions", "pull_requests=write"));
    }
    let rights = forge.token_rights().await.unwrap();
    assert!(matches!(rights.push, Right::No(_)));
    if kind == ForgeKind::Github {
        assert_eq!(rights.open_changes, Right::No("permissions: pull-requests: write".into()));
    }
}

async fn pages(kind: ForgeKind) {
    let story = Story::about_new(kind).await;
    let number = story.event.change.as_ref().unwrap().number;
    story.server.memory().page = 2;
    for n in 0..7 {
        story.server.comment_by("ann", &format!("change {number}"), &format!("comment {n}"));
    }
    let comments = story.forge.comments(Thread::Change(number)).await.unwrap();
    assert_eq!(comments.len(), 7, "{kind:?}");
    let mut files: Vec<String> =
        story.forge.changed_files(number).await.unwrap().into_iter().map(|file| file.path).collect();
    files.sort();
    assert_eq!(files, ["added.txt", "far.txt", "gone.txt", "new/näme.txt", "src/a.txt"]);
}

async fn fetched(kind: ForgeKind) {
    let server = ForgeServer::start(kind).await;
    let repo = server.clone_of();
    let missing = server.commit_by("ann", "topic", "main", &[("b.txt", Some("b\n"))]);
    let repository = git::open_with(repo.path(), Force::Copy).unwrap();
    let (forge, _) = adapter(&server.at());
    let pack = forge.remote().fetch(std::slice::from_ref(&missing), &[repo.head()], 0).await.unwrap();
    repository.take_pack(&pack).unwrap();
    assert_eq!(repo.git(&["show", &format!("{missing}:b.txt")]), "b");
    let gone = "1".repeat(40);
    assert!(forge.remote().fetch(&[gone], &[], 1).await.is_err());
}

async fn the_rest(kind: ForgeKind) {
    let story = Story::about_new(kind).await;
    let (forge, server) = (&story.forge, &story.server);
    assert_eq!(
        (forge.kind(), forge.repository(), forge.default_branch().await.unwrap().as_str()),
        (kind, "acme/widgets", "main")
    );
    assert_eq!(forge.protection("topic").await.unwrap(), Protection::Open);
    assert_eq!(forge.protection("nowhere").await.unwrap(), Protection::Missing);
    let tip = server.tip("topic").unwrap();
    let refs = forge.remote().refs("refs/heads/to").await.unwrap();
    assert_eq!(refs, [("refs/heads/topic".to_owned(), tip.clone())]);
    let file = String::from_utf8(forge.file_at(&tip, "new/näme.txt").await.unwrap().unwrap()).unwrap();
    assert!(file.starts_with("line 1\n") && file.contains("\nline fifteen and a half\n"), "{file}");
    assert_eq!(forge.file_at(&tip, "gone.txt").await.unwrap(), None);
    let status = Check {
        commit: &tip,
        name: "codeforge",
        state: CheckState::Failure,
        words: "no",
        url: None,
        summary: None,
        annotations: &[],
    };
    forge.set_check(&status).await.unwrap();
    forge.set_check(&status).await.unwrap();
    let number = story.event.change.as_ref().unwrap().number;
    let comment = server.comment_by("ann", &format!("change {number}"), "/codeforge fix");
    forge.react(Thread::Change(number), comment, "eyes").await.unwrap();
    assert_eq!(server.memory().comments[0].reactions, ["eyes"]);
    forge.label(Thread::Change(number), &["a".into(), "b".into()], &[]).await.unwrap();
    forge.label(Thread::Change(number), &[], &["a".into()]).await.unwrap();
    assert_eq!(server.memory().changes[0].labels, ["b"]);
    assert_eq!(forge.change(number).await.unwrap().change.head.sha, Some(tip));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_without_drafts_gets_an_open_one() {
    let story = Story::of(ForgeKind::Github).await;
    story.server.memory().no_drafts = true;
    story.write("b.txt", "b\n");
    let told = story.publish(DeliverKind::PullRequest).await.unwrap().told.join(" ");
    assert!(told.contains("no draft"), "{told}");
    assert!(!story.server.memory().changes[0].draft);
}

const POLICY: &str = "name: open\nrules: [{ tool: \"*\", decision: allow }]\n";
const WORKFLOW: &str = "name: write\npolicy: open\ninputs: { task: { type: string, required: true } }\nsteps:\n  write: { run: \"printf 'mended\\\\n' > src/a.txt\" }\ndeliver: { as: pull_request, draft: false }\n";

/// Whether a process was started by another one, or by one that it started.
fn descends(mut process: u32, from: u32) -> bool {
    while process > 1 {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).and_then(|id| id.trim().parse().ok());
        process = parent.unwrap_or(0);
        if process == from {
            return true;
        }
    }
    false
}

/// A laptop: the remote `origin`, and a token in the environment.
fn laptop(server: &ForgeServer, repo: &TestRepo, kind: ForgeKind) -> std::process::Command {
    let mut command = repo.codeforge(&["run", "write", "--sandbox", "none", "-i", "task=Mend the tail, @ann"]);
    let name = if kind == ForgeKind::Github { "github" } else { "gitlab" };
    command.env("CODEFORGE_FORGE", name).env("CODEFORGE_FORGE_API", server.api()).env("NO_PROXY", "*");
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_laptop_proposes_its_change_and_the_token_is_nowhere() {
    for kind in KINDS {
        let server = ForgeServer::start(kind).await;
        let repo = server.clone_of();
        repo.write(".codeforge/workflows/write.yml", WORKFLOW).write(".codeforge/policies/open.yml", POLICY);
        repo.commit("a workflow");
        // Without a token: said before anything runs.
        let output = laptop(&server, &repo, kind).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", spoken(&output));
        assert!(spoken(&output).contains("CODEFORGE_FORGE_TOKEN"), "{}", spoken(&output));
        // The push takes a while, so that there is something to look at.
        server.fail(Fault::slow("POST", "git-receive-pack", Duration::from_millis(1500)));
        let mut command = laptop(&server, &repo, kind);
        let child = command
            .env("CODEFORGE_FORGE_TOKEN", TOKEN)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let id = child.id();
        let waiting = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
        let mut seen = 0;
        while !waiting.is_finished() {
            for process in std::fs::read_dir("/proc").unwrap().flatten() {
                let of = |file: &str| std::fs::read(process.path().join(file)).unwrap_or_default();
                let has = |bytes: &[u8]| bytes.windows(TOKEN.len()).any(|part| part == TOKEN.as_bytes());
                assert!(!has(&of("cmdline")), "{kind:?}: on a command line");
                // Only the process that was given it has it; no child of it does.
                let name = process.file_name().to_string_lossy().into_owned();
                // Other tests' processes have it, too; and one that is not yet another program has its parent's.
                let begun = of("cmdline") != std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
                if begun && name.parse().is_ok_and(|process| descends(process, id)) {
                    assert!(!has(&of("environ")), "{kind:?}: in the environment of {name}");
                }
            }
            seen += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(seen > 5, "looked {seen} times");
        let output = waiting.await.unwrap();
        assert!(output.status.success(), "{}", spoken(&output));
        let said = spoken(&output);
        assert!(said.contains("forge.example/acme/widgets"), "{said}");
        assert!(!said.contains(TOKEN) && !holds(repo.path(), TOKEN), "{said}");
        let changes = server.memory().changes.clone();
        assert_eq!((changes.len(), changes[0].draft), (1, false), "{said}");
        assert_eq!(changes[0].title, "Mend the tail, @ ann");
        let body = &changes[0].body;
        assert!(
            body.contains("## What was asked") && body.contains("> Mend the tail, ") && !body.contains("@ann"),
            "{body}"
        );
        assert!(body.contains("## Evidence") && body.contains("`src/a.txt`"), "{body}");
        assert_eq!(server.file(&changes[0].head, "src/a.txt").unwrap(), "mended\n");
        // What the laptop had committed and not pushed goes along: the change stands on it.
        assert!(server.file(&changes[0].head, ".codeforge/workflows/write.yml").is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_and_a_refused_token_end_as_they_should() {
    let server = ForgeServer::start(ForgeKind::Github).await;
    let repo = server.clone_of();
    repo.write(".codeforge/workflows/write.yml", WORKFLOW).write(".codeforge/policies/open.yml", POLICY);
    repo.commit("a workflow");
    let mut command = laptop(&server, &repo, ForgeKind::Github);
    let output = command.env("CODEFORGE_FORGE_TOKEN", "wrong-token-0123").output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", spoken(&output));
    // A report needs no forge.
    let output = laptop(&server, &repo, ForgeKind::Github).args(["--deliver", "report"]).output().unwrap();
    assert!(output.status.success() && spoken(&output).contains("report.md"), "{}", spoken(&output));
    assert!(server.memory().changes.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_while_it_proposes_finds_what_it_did() {
    let server = ForgeServer::start(ForgeKind::Github).await;
    let repo = server.clone_of();
    repo.write(".codeforge/workflows/write.yml", WORKFLOW).write(".codeforge/policies/open.yml", POLICY);
    repo.commit("a workflow");
    for late in ["git-receive-pack", "/pulls"] {
        server.fail(Fault::slow("POST", late, Duration::from_secs(60)));
        let mut command = laptop(&server, &repo, ForgeKind::Github);
        command
            .env("CODEFORGE_FORGE_TOKEN", TOKEN)
            .stderr(std::process::Stdio::null())
            .stdout(std::process::Stdio::null());
        let before = server.memory().changes.len();
        let mut child = command.spawn().unwrap();
        // The forge did it, and does not say so yet.
        common::eventually("the forge does it", || match late {
            "/pulls" => (server.memory().changes.len() > before).then_some(()),
            _ => holds_branch(&server).then_some(()),
        })
        .await;
        child.kill().unwrap();
        child.wait().unwrap();
        let runs = common::ok(&mut repo.codeforge(&["runs", "list", "--format", "json"]));
        let runs: Value = serde_json::from_str(&runs).unwrap();
        let run = runs[0]["run"]["id"].as_str().unwrap();
        let mut resume = repo.codeforge(&["resume", run]);
        resume.env("CODEFORGE_FORGE", "github").env("CODEFORGE_FORGE_API", server.api());
        let output = resume.env("CODEFORGE_FORGE_TOKEN", TOKEN).env("NO_PROXY", "*").output().unwrap();
        assert!(output.status.success(), "{late}: {}", spoken(&output));
        assert_eq!(server.memory().changes.len(), before + 1, "{late}: one change");
    }
    let heads: std::collections::BTreeSet<String> =
        server.memory().changes.iter().map(|change| change.head.clone()).collect();
    assert_eq!(heads.len(), 2, "one branch for each run");
}

fn holds_branch(server: &ForgeServer) -> bool {
    server.bare().join("refs/heads/codeforge").exists()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comment_goes_where_the_event_says() {
    let server = ForgeServer::start(ForgeKind::Gitlab).await;
    let repo = server.clone_of();
    let workflow = WORKFLOW
        .replace("deliver: { as: pull_request, draft: false }", "deliver: { as: comment, body: \"Looked, @ann.\" }");
    let workflow = workflow.replace("printf 'mended\\\\n' > src/a.txt", "true");
    repo.write(".codeforge/workflows/write.yml", workflow).write(".codeforge/policies/open.yml", POLICY);
    repo.commit("a workflow");
    let event = json!({ "kind": "issues", "issue": { "number": 3, "title": "t" } });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), event.to_string()).unwrap();
    let mut command = laptop(&server, &repo, ForgeKind::Gitlab);
    let output = command.env("CODEFORGE_FORGE_TOKEN", TOKEN).arg("--event").arg(file.path()).output().unwrap();
    assert!(output.status.success(), "{}", spoken(&output));
    let comments = server.memory().comments.clone();
    assert_eq!(comments.len(), 1, "{}", spoken(&output));
    assert!(comments[0].thread == "issue 3" && comments[0].body.ends_with("Looked, @&#8203;ann."), "{comments:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_review_from_a_laptop_has_its_findings_and_no_secret() {
    const LOOK: &str = "name: write\npolicy: plan-readonly\ninputs: { task: { type: string, default: \"\" } }\nsteps:\n  look: { mode: reviewer, prompt: \"Look.\", output: { schema: review } }\ndeliver: review\n";
    let server = ForgeServer::start(ForgeKind::Github).await;
    let repo = server.clone_of();
    repo.write(".codeforge/workflows/write.yml", LOOK);
    repo.commit("a workflow");
    let head = server.commit_by("ann", "topic", "main", &[("src/a.txt", Some("one\nTWO\nthree\n"))]);
    let number = server.open("ann", "topic", "Please.");
    let event = json!({ "kind": "pull_request", "change": { "number": number, "title": "t", "head": { "branch": "topic", "sha": head } } });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), event.to_string()).unwrap();
    let finding =
        |line: Value, what: &str| json!({ "file": "src/a.txt", "line": line, "severity": "high", "what": what });
    let findings = [finding(json!(2), "Why is it shouting?"), finding(json!(3), &format!("It knows {TOKEN}."))];
    let output = json!({ "approved": false, "summary": "So.", "findings": findings });
    let reply = Reply::call("finish", json!({ "summary": "Looked.", "output": output }));
    let model = ModelServer::start(vec![Rule::when().reply(reply)]).await;
    let mut command = laptop(&server, &repo, ForgeKind::Github);
    command
        .env("CODEFORGE_FORGE_TOKEN", TOKEN)
        .env("CODEFORGE_LLM_BASE_URL", model.url())
        .env("CODEFORGE_LLM_API_KEY", "sk-test-0123456789")
        .env("CODEFORGE_MODEL", "scripted-1")
        .env("CODEFORGE_LLM_PRICE_INPUT", "1")
        .env("CODEFORGE_LLM_PRICE_OUTPUT", "1")
        .arg("--event")
        .arg(file.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", spoken(&output));
    let remarks = server.memory().remarks.clone();
    let comments = server.memory().comments.clone();
    assert_eq!((remarks.len(), comments.len()), (2, 1), "{}", spoken(&output));
    assert!(remarks.iter().any(|it| it.body.contains("Why is it shouting?")), "{remarks:?}");
    assert!(remarks.iter().all(|it| !it.body.contains(TOKEN)), "{remarks:?}");
    let body = &comments[0].body;
    assert!(body.contains("2 findings") && body.contains("It knows") && !body.contains(TOKEN), "{body}");
}

#[test]
fn a_request_that_the_description_does_not_allow_is_noticed() {
    let github = |method, path, query, body| judge(ForgeKind::Github, method, path, query, &body);
    let pulls = "/repos/acme/widgets/pulls";
    assert_eq!(github("POST", pulls, "", json!({ "title": "t", "head": "h", "base": "b" })), None);
    for (method, path, query, body) in [
        ("POST", pulls, "", json!({ "title": "t", "head": "h" })),
        ("POST", pulls, "", json!({ "title": "t", "head": "h", "base": "b", "bogus": 1 })),
        ("PUT", pulls, "", Value::Null),
        ("GET", pulls, "branch=x", Value::Null),
        ("GET", pulls, "state=everything", Value::Null),
        ("POST", "/repos/acme/widgets/statuses/abc", "", json!({ "state": "passed" })),
    ] {
        assert!(github(method, path, query, body.clone()).is_some(), "{method} {path}?{query} {body}");
    }
    let remark = json!({ "body": "b", "position": { "position_type": "nope" } });
    assert!(judge(ForgeKind::Gitlab, "POST", "/api/v4/projects/1/merge_requests/1/discussions", "", &remark).is_some());
}
