//! What every adapter does, as far as its forge can.

use crate::common::forge_server::contract::judge;
use crate::story::*;
use serde_json::{Value, json};

everywhere! {
    reliability_2_a_lost_answer_is_looked_up_before_it_is_retried => lost_answers;
    a_comment_stays_one => one_comment;
    what_a_comment_remembers_is_ours_or_nothing => remembered;
    remarks_stand_at_their_lines => remarks;
    remarks_span_lines => ranges;
    access_is_what_the_forge_clearly_says => access;
    errors_name_whose_fault_it_is => errors remote;
    limits_are_honoured_and_writes_are_spaced => limits remote;
    a_push_has_its_turn_among_the_writes => push_in_turn remote;
    what_a_token_may_do_is_told => rights;
    lists_are_read_to_their_end => pages;
    a_missing_commit_is_fetched => fetched;
    branches_files_and_statuses => the_rest;
    what_moved_is_found => moved;
    a_change_begins_with_what_was_asked_for => opened_with;
}

/// The fake does what it is asked for, and then breaks its answer off, or closes the socket before a byte of it.
async fn lost_answers(kind: ForgeKind) {
    for lose in [Fault::lose, Fault::close] {
        lost(kind, lose).await;
    }
}

async fn lost(kind: ForgeKind, lose: fn(&'static str, &str) -> Fault) {
    let story = Story::about_new(kind).await;
    let (open, comments, review) = match kind {
        ForgeKind::Github => ("/pulls", "/comments", "/reviews"),
        ForgeKind::Gitlab => ("/merge_requests", "/notes", "/discussions"),
        ForgeKind::Gitea | ForgeKind::Local => ("/pulls", "/comments", "/reviews"),
    };
    story.write("b.txt", "b\n");
    let server = &story.server;
    server.fail(lose("POST", "git-receive-pack")).fail(lose("POST", open));
    let published = story.publish(DeliverKind::PullRequest).await.unwrap();
    assert_eq!(server.tip(BRANCH), published.commit);
    let ours = |story: &Story| story.server.memory().changes.iter().filter(|change| change.head == BRANCH).count();
    assert_eq!(ours(&story), 1, "{kind:?}: done once");
    // A failure that says nothing of what was done: looked up, then made.
    server.memory().changes.retain(|change| change.head != BRANCH);
    server.fail(Fault::status("POST", open, 502).times(2));
    story.publish(DeliverKind::PullRequest).await.unwrap();
    assert_eq!(ours(&story), 1);
    server.fail(lose("POST", comments));
    story.publish(DeliverKind::Comment).await.unwrap();
    assert_eq!(server.memory().comments.len(), 1, "{kind:?}: said once");
    server.fail(lose("POST", review));
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
    // What is the same however often it is said is said again.
    server.fail(lose("POST", &format!("/statuses/{commit}")));
    story.forge.set_check(&check(&commit, CheckState::Success, "done")).await.unwrap();
    if server.is_remote() {
        let said: std::collections::BTreeSet<_> = server.memory().statuses.iter().cloned().collect();
        assert_eq!(said.len(), 1, "{kind:?}: {said:?}");
        // Each of these faults was there to be survived.
        assert_eq!(server.memory().faults_left(), 0, "{kind:?}");
    }
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
    if story.server.is_remote() {
        assert_eq!(story.writes(), 2, "made, left alone, changed");
    }
    // An issue has comments, too; an event about nothing has none.
    let mut issue = Story::of(kind).await;
    assert!(matches!(issue.publish(DeliverKind::Comment).await, Err(PublishError::Misuse(_))));
    issue.event.issue = Some(Issue { number: 3, ..Issue::default() });
    issue.server.memory().issues.push(FakeIssue::new(3, "ann", "Help", "Please."));
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
        ForgeKind::Github | ForgeKind::Gitea | ForgeKind::Local => (None, Some(new)),
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
    let fence = match kind {
        ForgeKind::Github => "````suggestion\ntwo\n```\n````",
        ForgeKind::Gitlab => "````suggestion:-0+0\ntwo\n```\n````",
        // A text to copy.
        ForgeKind::Gitea | ForgeKind::Local => "````\ntwo\n```\n````",
    };
    assert!(body.ends_with(fence), "{body}");
    // Each once; resolved by us where it is ours and asked for.
    story.server.memory().remarks[1].author = "eve".into();
    let resolved = ["added".to_owned(), "removed".to_owned()];
    let again = NewReview { remarks: &remarks[2..4], resolved: &resolved, ..review };
    let done = story.forge.review(&again).await.unwrap();
    let can = story.forge.capabilities().resolve;
    assert_eq!((done.made, done.kept, done.resolved), (0, 2, usize::from(can)), "{kind:?}");
    assert_eq!(done.told.is_empty(), can, "{kind:?}: {:?}", done.told);
    let open: Vec<bool> = story.server.memory().remarks.iter().take(2).map(|remark| remark.resolved).collect();
    assert_eq!(open, [can, false], "somebody else's thread stays open");
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

async fn access(kind: ForgeKind) {
    let server = ForgeServer::start(kind).await;
    // Gitea has three levels.
    let gitea = kind == ForgeKind::Gitea;
    let expected = [
        ("admin", Access::Admin),
        ("maintain", if gitea { Access::Write } else { Access::Maintain }),
        ("write", Access::Write),
        ("triage", if gitea { Access::Read } else { Access::Triage }),
        ("read", Access::Read),
    ];
    for (role, _) in expected {
        server.memory().members.insert(format!("{role}er"), role.into());
    }
    server.memory().members.insert("blocked".into(), if kind == ForgeKind::Gitlab { "blocked" } else { "none" }.into());
    let (forge, _) = adapter(&server.at());
    if !forge.capabilities().access {
        assert_eq!(forge.access_of("adminer").await, Access::None, "nobody can be asked");
        return;
    }
    for (role, access) in expected {
        assert_eq!(forge.access_of(&format!("{role}er")).await, access, "{kind:?}");
    }
    for nobody in ["blocked", "stranger", "", "..", "a/../../b"] {
        assert_eq!(forge.access_of(nobody).await, Access::None, "{kind:?} {nobody}");
    }
    let asked = match kind {
        ForgeKind::Gitlab => "username=writeer",
        _ => "/permission",
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
        ForgeKind::Gitlab => "/merge_requests/1/notes",
        _ => "/issues/1/comments",
    };
    server.fail(Fault::status("POST", post, 403).saying("Resource not accessible by integration"));
    let denied = forge.stick(&sticky).await.unwrap_err();
    let needs = match kind {
        ForgeKind::Github => "permissions: pull-requests: write",
        ForgeKind::Gitlab => "scope api",
        _ => "scope write:issue",
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
    assert!(matches!(stranger.remote().refs("refs/heads/").await, Err(ForgeError::Refused { needs: Some(_), .. })));
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

async fn push_in_turn(kind: ForgeKind) {
    let mut story = Story::of(kind).await;
    let (forge, clock) = adapter(&story.server.at());
    story.forge = forge;
    story.write("b.txt", "b\n").propose().await;
    assert_eq!(story.writes(), 1, "{kind:?}: the push is git's");
    assert_eq!(clock.slept(), [Duration::from_secs(1)], "{kind:?}: opened a second after the push");
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
        ForgeKind::Gitlab => "/notes",
        _ => "/comments",
    };
    server.fail(Fault::status("POST", post, 429).header("retry-after", 7));
    forge.stick(&Sticky { thread: Thread::Change(number), key: "d", body: "b", memory: None }).await.unwrap();
    assert_eq!(slept(&clock)[2..], [1, 7], "{kind:?}");
    assert_eq!(server.memory().comments.len(), 4);
    use codeforge::port::clock::Clock;
    let name = if kind == ForgeKind::Gitlab { "ratelimit" } else { "x-ratelimit" };
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
    // What did not change is not sent again, where the forge says so.
    if kind != ForgeKind::Gitea {
        let before = server.memory().unchanged;
        let read = [forge.change(number).await.unwrap(), forge.change(number).await.unwrap()];
        assert!(read[0] == read[1] && server.memory().unchanged > before, "{kind:?}");
        server.memory().changes[0].title = "Another title".into();
        assert_eq!(forge.change(number).await.unwrap().change.title, "Another title");
    }
}

async fn rights(kind: ForgeKind) {
    let server = ForgeServer::start(kind).await;
    let (forge, _) = adapter(&server.at());
    let rights = forge.token_rights().await.unwrap();
    assert_eq!(
        (rights.account.as_deref(), &rights.read, &rights.push, &rights.open_changes),
        (Some(us(kind)), &Right::Yes, &Right::Yes, &Right::Yes)
    );
    assert!(server.memory().changes.is_empty() && server.memory().comments.is_empty());
    if kind == ForgeKind::Local {
        assert!(matches!(rights.ask_access, Right::No(_)));
        return;
    }
    assert_eq!(rights.ask_access, Right::Yes, "{kind:?}");
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
    let status = check(&tip, CheckState::Failure, "no");
    assert_eq!(forge.set_check(&status).await.unwrap(), Said::Status, "no App, no checks");
    forge.set_check(&status).await.unwrap();
    // What was called off is no failure where the forge has a word for it, and a success nowhere.
    forge.set_check(&Check { state: CheckState::Cancelled, words: "called off", ..status }).await.unwrap();
    let last = server.memory().statuses.last().map(|(.., state)| state.clone());
    match kind {
        ForgeKind::Gitlab => assert_eq!(last.as_deref(), Some("canceled")),
        ForgeKind::Github | ForgeKind::Gitea => assert_eq!(last.as_deref(), Some("error"), "{kind:?}"),
        ForgeKind::Local => {
            let page = server.bare().join(format!("codeforge/statuses/{tip}.md"));
            assert!(std::fs::read_to_string(page).unwrap().contains("| codeforge | cancelled | called off |"));
        }
    }
    assert!(server.memory().checks.is_empty());
    assert_eq!(forge.tip("topic").await.unwrap().as_ref(), Some(&tip));
    assert_eq!(forge.tip("top").await.unwrap(), None);
    let number = story.event.change.as_ref().unwrap().number;
    let comment = server.comment_by("ann", &format!("change {number}"), "/codeforge fix");
    let (thread, kind) = (Thread::Change(number), codeforge::model::event::CommentKind::Thread);
    let to = codeforge::port::forge::CommentAt { thread, kind, id: comment };
    let reacted = forge.react(to, "eyes").await;
    if forge.capabilities().reactions {
        reacted.unwrap();
        assert_eq!(server.memory().comments[0].reactions, ["eyes"]);
    } else {
        assert!(matches!(reacted, Err(ForgeError::Unsupported(_))), "{reacted:?}");
    }
    forge.label(Thread::Change(number), &["a".into(), "b".into()], &[]).await.unwrap();
    forge.label(Thread::Change(number), &[], &["a".into()]).await.unwrap();
    assert_eq!(server.memory().changes[0].labels, ["b"]);
    assert_eq!(forge.change(number).await.unwrap().change.head.sha, Some(tip));
}

/// Changes and comments that moved, for whoever was away.
async fn moved(kind: ForgeKind) {
    let story = Story::about_new(kind).await;
    let (forge, server) = (&story.forge, &story.server);
    let number = story.event.change.as_ref().unwrap().number;
    let thread = format!("change {number}");
    let first = server.comment_by("ann", &thread, "first");
    let second = server.comment_by("ann", &thread, "second");
    server.memory().issues.push(FakeIssue::new(3, "ann", "Help", "Please."));
    server.comment_by("ann", "issue 3", "on an issue");
    let at = |second: u64| 1_790_000_000_000 + i64::try_from(second).unwrap() * 1000;
    let said = |found: Vec<(Thread, codeforge::port::forge::CommentInfo)>| {
        found.into_iter().map(|(thread, comment)| (thread, comment.body.clone(), comment.edited())).collect::<Vec<_>>()
    };
    let all = vec![
        (Thread::Change(number), "first".to_owned(), false),
        (Thread::Change(number), "second".to_owned(), false),
        (Thread::Issue(3), "on an issue".to_owned(), false),
    ];
    assert_eq!(said(forge.comments_since(at(first)).await.unwrap()), all, "{kind:?}");
    assert_eq!(said(forge.comments_since(at(second)).await.unwrap()), all[1..], "{kind:?}");
    assert!(forge.comments_since(at(9_999)).await.unwrap().is_empty());
    // An edited one moved again, and says so.
    if server.is_remote() {
        server.memory().edited.push(first);
        let latest = said(forge.comments_since(at(3_000)).await.unwrap());
        assert_eq!(latest, [(Thread::Change(number), "first".to_owned(), true)], "{kind:?}");
        let changes = forge.changes_since(at(number)).await.unwrap();
        assert_eq!(changes.iter().map(|info| info.change.number).collect::<Vec<_>>(), [number], "{kind:?}");
        assert!(forge.changes_since(at(99_999)).await.unwrap().is_empty(), "{kind:?}");
        server.memory().changes[0].state = "closed";
        assert!(forge.changes_since(at(0)).await.unwrap().is_empty(), "{kind:?}: closed");
    }
}

/// Remarks over several lines, in a file that was renamed: every forge's own way to say where they are.
async fn ranges(kind: ForgeKind) {
    let story = Story::about_new(kind).await;
    let change = story.event.change.clone().unwrap();
    let commit = change.head.sha.clone().unwrap();
    let of = |key: &str, path: &str, (start, line), side| Remark {
        key: key.into(),
        path: path.into(),
        start_line: Some(start),
        line,
        side,
        body: "b".into(),
        replacement: Some("x\ny".into()),
    };
    use LineSide::{New, Old};
    let remarks = [
        of("both-sides", "new/näme.txt", (14, 17), New),
        of("added", "new/näme.txt", (15, 16), New),
        of("old-side", "new/näme.txt", (13, 15), Old),
        of("one-line", "src/a.txt", (2, 2), New),
        // What is not shown of it cannot be replaced: it stands at its last line, as words.
        of("far-start", "new/näme.txt", (3, 15), New),
        of("nowhere", "far.txt", (20, 22), New),
    ];
    let review = NewReview { number: change.number, commit: &commit, remarks: &remarks, resolved: &[] };
    let done = story.forge.review(&review).await.unwrap();
    assert_eq!((done.made, done.outside), (5, vec!["nowhere".to_owned()]), "{kind:?}");
    let there: Vec<(Option<u64>, Option<u64>)> =
        story.server.memory().remarks.iter().map(|it| (it.start, it.lines.1.or(it.lines.0))).collect();
    let expected = [(Some(14), 17), (Some(15), 16), (Some(13), 15), (None, 2), (None, 15)];
    assert_eq!(there, expected.map(|(start, line)| (start, Some(line))), "{kind:?}");
    let bodies: Vec<String> = story.server.memory().remarks.iter().map(|remark| remark.body.clone()).collect();
    let fence = match kind {
        ForgeKind::Github => ["```suggestion\nx\ny\n```"; 3],
        ForgeKind::Gitlab => {
            ["```suggestion:-3+0\nx\ny\n```", "```suggestion:-1+0\nx\ny\n```", "```suggestion:-0+0\nx\ny\n```"]
        }
        ForgeKind::Gitea | ForgeKind::Local => ["```\nx\ny\n```"; 3],
    };
    for (at, fence) in [0, 1, 3].into_iter().zip(fence) {
        assert!(bodies[at].ends_with(fence), "{kind:?}: {}", bodies[at]);
    }
    for at in [2, 4] {
        assert!(bodies[at].ends_with("\nb"), "{kind:?}: {}", bodies[at]);
    }
}

/// What a change begins with, where the forge knows it.
async fn opened_with(kind: ForgeKind) {
    let server = ForgeServer::start(kind).await;
    server.memory().members.insert("ann".into(), "write".into());
    server.memory().milestones.push((7, "next".into()));
    server.commit_by("ann", "topic", "main", &[("b.txt", Some("b\n"))]);
    let (forge, _) = adapter(&server.at());
    let new = NewChange {
        head: "topic".into(),
        base: "main".into(),
        title: "A title".into(),
        body: "A body".into(),
        draft: true,
        labels: vec!["one".into(), "two".into()],
        reviewers: Vec::new(),
        assignees: vec!["ann".into()],
        milestone: Some("next".into()),
    };
    let (info, told) = forge.open_change(&new).await.unwrap();
    assert!(told.is_empty() && info.change.draft, "{kind:?}: {told:?}");
    {
        let memory = server.memory();
        let made = &memory.changes[0];
        assert_eq!((&made.labels, &made.assignees), (&new.labels, &new.assignees), "{kind:?}");
        assert_eq!(made.milestone, server.is_remote().then_some(7), "{kind:?}");
    }
    forge.make_ready(info.change.number).await.unwrap();
    if kind != ForgeKind::Github {
        assert!(!forge.change(info.change.number).await.unwrap().change.draft, "{kind:?}");
    }
    assert_eq!(forge.subjects("topic", 1).await.unwrap(), ["by ann"], "{kind:?}");
    server.memory().changes.clear();
    let unknown = NewChange { milestone: Some("never".into()), ..new };
    let (_, told) = forge.open_change(&unknown).await.unwrap();
    assert!(!server.is_remote() || told.join(" ").contains("`never`"), "{kind:?}: {told:?}");
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
    let discussions = "/api/v4/projects/1/merge_requests/1/discussions";
    assert!(judge(ForgeKind::Gitlab, "POST", discussions, "", &remark).is_some());
}

/// Gitea lists a pull request that it cannot read as `null`. The others are there all the same: for the sweep, and for
/// what counts ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_in_giteas_list_hides_no_other_change() {
    let story = Story::about_new(ForgeKind::Gitea).await;
    let number = story.event.change.as_ref().unwrap().number;
    let list = format!("{}/repos/acme/widgets/pulls?state=all", story.server.api());
    let asked = reqwest::Client::new().get(list).header("authorization", format!("token {TOKEN}"));
    let there: Vec<Value> = asked.send().await.unwrap().json().await.unwrap();
    let gapped: Vec<Value> = [Value::Null].into_iter().chain(there).collect();
    let gap = || story.server.fail(Fault::status("GET", "/pulls", 200).answering(json!(gapped)));
    gap();
    let moved = story.forge.changes_since(0).await.unwrap();
    assert_eq!(moved.iter().map(|info| info.change.number).collect::<Vec<_>>(), [number]);
    gap();
    assert_eq!(story.forge.opened_within("topic", 3600).await.unwrap(), ["topic"]);
    gap();
    assert_eq!(story.forge.open_branches("topic").await.unwrap(), ["topic"]);
}

/// What GitHub's second API would refuse is seen: fields and inputs that there are not, and values that do not fit.
#[test]
fn what_githubs_second_api_does_not_know_is_seen() {
    let judged = |query: &str, variables: Value| {
        judge(ForgeKind::Github, "POST", "/graphql", "", &json!({ "query": query, "variables": variables }))
    };
    let resolve = "mutation($id: ID!) { resolveReviewThread(input: {threadId: $id}) { thread { id } } }";
    assert_eq!(judged(resolve, json!({ "id": "T_1" })), None);
    for (query, variables) in [
        (resolve.replace("threadId", "thread"), json!({ "id": "T_1" })),
        (resolve.replace("{ id }", "{ number }"), json!({ "id": "T_1" })),
        (resolve.replace("ID!", "Int!"), json!({ "id": 1 })),
        (resolve.to_owned(), json!({})),
        (resolve.to_owned(), json!({ "id": "T_1", "other": 1 })),
    ] {
        assert!(judged(&query, variables.clone()).is_some(), "{query} {variables}");
    }
    let commit =
        "mutation($input: CreateCommitOnBranchInput!) { createCommitOnBranch(input: $input) { commit { oid } } }";
    let input = |parent: &str| json!({ "input": { "branch": {}, parent: "1", "message": { "headline": "x" } } });
    assert_eq!(judged(commit, input("expectedHeadOid")), None);
    assert!(judged(commit, input("parent")).is_some(), "inside a variable, too");
}
