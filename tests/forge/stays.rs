//! What people set stays, and what lies below a path stays there.

use crate::story::*;

everywhere! {
    what_a_person_set_on_a_change_stays => only_added;
    what_a_person_took_away_does_not_come_back => taken_away;
    everything_lies_below_the_servers_path => below remote;
}

async fn only_added(kind: ForgeKind) {
    let server = ForgeServer::start(kind).await;
    for name in ["ann", "bob", "cat"] {
        server.memory().members.insert(name.into(), "write".into());
    }
    server.memory().milestones = vec![(7, "next".into()), (8, "later".into())];
    server.commit_by("ann", "topic", "main", &[("b.txt", Some("b\n"))]);
    let number = server.open(us(kind), "topic", "Ours.");
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let page = server.bare().join(format!("codeforge/changes/{number}.md"));
    {
        let mut memory = server.memory();
        let change = &mut memory.changes[0];
        (change.labels, change.reviewers) = (names(&["theirs"]), names(&["bob"]));
        (change.assignees, change.milestone) = (names(&["ann"]), Some(8));
    }
    if kind == ForgeKind::Local {
        let text = std::fs::read_to_string(&page).unwrap();
        std::fs::write(&page, text.replace("- State: open", "- State: open\n- Milestone: later")).unwrap();
    }
    let (forge, _) = adapter(&server.at());
    let mut new = NewChange {
        head: "topic".into(),
        base: "main".into(),
        title: "A title".into(),
        body: "A body".into(),
        draft: false,
        labels: names(&["ours", "theirs"]),
        reviewers: names(&["cat", "bob"]),
        assignees: names(&["bob"]),
        milestone: Some("next".into()),
    };
    if kind == ForgeKind::Github {
        new.reviewers.push("acme/core".into());
    }
    let (info, told) = forge.open_change(&new).await.unwrap();
    assert!(told.is_empty() && info.change.number == number, "{kind:?}: {told:?}");
    let standing = |server: &ForgeServer| {
        let memory = server.memory();
        let change = memory.changes[0].clone();
        (change.labels, change.reviewers, change.assignees, change.milestone)
    };
    let (labels, reviewers, assignees, milestone) = standing(&server);
    assert_eq!((labels, assignees), (names(&["theirs", "ours"]), names(&["ann", "bob"])), "{kind:?}");
    assert_eq!(reviewers[..2], names(&["bob", "cat"]), "{kind:?}");
    match kind {
        ForgeKind::Local => assert!(std::fs::read_to_string(&page).unwrap().contains("\n- Milestone: later\n")),
        _ => assert_eq!(milestone, Some(8), "{kind:?}"),
    }
    // Now nothing is lacking, and nothing is written.
    let written = || server.memory().written;
    let before = (written(), standing(&server));
    forge.open_change(&new).await.unwrap();
    assert_eq!((written(), standing(&server)), before, "{kind:?}: {:?}", server.asked().last());
    // A milestone where there is none.
    if server.is_remote() {
        server.memory().changes[0].milestone = None;
        forge.open_change(&new).await.unwrap();
        assert_eq!(standing(&server).3, Some(7), "{kind:?}");
        assert_eq!(server.memory().changes[0].assignees, names(&["ann", "bob"]), "{kind:?}");
        let known = forge.change(number).await.unwrap();
        assert_eq!((known.assignees, known.milestone.as_deref()), (names(&["ann", "bob"]), Some("next")), "{kind:?}");
    }
}

/// A change of ours from whose labels and people somebody takes some away: later deliveries leave them away. What the
/// workflow gains arrives, also what it named before, and what could not be set is tried again.
async fn taken_away(kind: ForgeKind) {
    let mut story = Story::of(kind).await;
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    {
        let mut memory = story.server.memory();
        memory.members.extend(["ann", "bob"].map(|name| (name.into(), "write".into())));
        memory.milestones = vec![(7, "next".into())];
    }
    (story.labels, story.reviewers) = (names(&["one", "two"]), names(&["ann", "bob"]));
    (story.asked.assignees, story.asked.milestone) = (names(&["bob"]), Some("next".into()));
    if kind == ForgeKind::Github {
        story.server.fail(Fault::status("POST", "/labels", 403));
    }
    let standing = |story: &Story| {
        let change = story.server.memory().changes[0].clone();
        (change.labels, change.reviewers, change.assignees)
    };
    story.write("b.txt", "1\n").propose().await;
    if kind == ForgeKind::Github {
        assert_eq!(standing(&story).0, names(&[]), "they were refused");
        story.propose().await;
    }
    let all = (names(&["one", "two"]), names(&["ann", "bob"]), names(&["bob"]));
    assert_eq!(standing(&story), all, "{kind:?}");
    {
        let mut memory = story.server.memory();
        let change = &mut memory.changes[0];
        (change.labels, change.reviewers, change.assignees) = (names(&["two"]), names(&["ann"]), names(&[]));
        change.milestone = None;
    }
    story.labels.push("three".into());
    for text in ["2\n", "3\n"] {
        let told = story.write("b.txt", text).propose().await.told.join("; ");
        let left = (names(&["two", "three"]), names(&["ann"]), names(&[]));
        assert_eq!(standing(&story), left, "{kind:?}: {told}");
        if story.server.is_remote() {
            assert_eq!(story.server.memory().changes[0].milestone, None, "{kind:?}");
        }
        assert!(told.contains("stays away: assignee `bob`, label `one`,") && told.contains("reviewer `bob`"), "{told}");
    }
    // Nothing is new: nothing is written.
    let before = story.writes();
    story.propose().await;
    assert_eq!(story.writes(), before, "{kind:?}");
    // The workflow does without it, and names it again.
    story.labels.remove(0);
    story.propose().await;
    story.labels.insert(0, "one".into());
    story.propose().await;
    assert_eq!(standing(&story).0, names(&["two", "three", "one"]), "{kind:?}");
}

/// A server that answers below `/git` and nowhere else, and says at its end when it was asked beside it.
async fn below(kind: ForgeKind) {
    let server =
        ForgeServer::below("/git", kind, &[("src/a.txt", "one\ntwo\nthree\n"), ("README.md", "hello\n")]).await;
    assert!(server.git_url().ends_with("/git/acme/widgets.git") && server.api().contains("/git/api/v"));
    server.memory().members.insert("ann".into(), "write".into());
    server.memory().page = 1;
    server.commit_by("ann", "topic", "main", &[("src/a.txt", Some("one\nTWO\nthree\n"))]);
    let number = server.open("ann", "topic", "");
    let mut story = Story::about(server, number);
    let (forge, server) = (Arc::clone(&story.forge), &story.server);
    // Reading, over several pages, and the rights.
    for n in 0..3 {
        server.comment_by("ann", &format!("change {number}"), &format!("comment {n}"));
    }
    assert_eq!(forge.comments(Thread::Change(number)).await.unwrap().len(), 3, "{kind:?}");
    assert_eq!(forge.default_branch().await.unwrap(), "main");
    let tip = server.tip("topic").unwrap();
    assert_eq!(forge.file_at(&tip, "README.md").await.unwrap().as_deref(), Some(&b"hello\n"[..]));
    forge.push_rules("codeforge/x").await.unwrap();
    let rights = forge.token_rights().await.unwrap();
    assert_eq!((rights.account.as_deref(), rights.push, rights.open_changes), (Some(BOT), Right::Yes, Right::Yes));
    assert!(forge.access_of("ann").await.reaches(Access::Write), "{kind:?}");
    // Git: what is there, a pack, and a push; then everything that a delivery writes.
    assert_eq!(forge.remote().refs("refs/heads/topic").await.unwrap().len(), 1);
    assert!(!forge.remote().fetch(std::slice::from_ref(&tip), &[], 1).await.unwrap().is_empty());
    story.write("src/a.txt", "one\nTWO!\nthree\n");
    let delivery = story.delivery(DeliverKind::PullRequest);
    let published = story.publish_as(&delivery, |it| it.comment = Some("It is done.")).await.unwrap();
    assert_eq!(story.server.tip(BRANCH), published.commit, "{kind:?}");
    story.findings = vec![finding("src/a.txt", Some(2), "f1")];
    story.publish(DeliverKind::Review).await.unwrap();
    assert_eq!(story.server.memory().remarks.len(), 1, "{kind:?}");
    assert_eq!(story.server.memory().changes.len(), 2, "{kind:?}");
    if kind == ForgeKind::Github {
        // GraphQL lies beside `/v3`, whatever stands before it.
        story.signing = Signing { how: How::Forge, or_not: false };
        story.write("src/a.txt", "one\nTWO!!\nthree\n");
        story.publish(DeliverKind::Branch).await.unwrap();
    }
    // What people are shown.
    let sticky = Sticky { thread: Thread::Change(number), key: "link", body: "b", memory: None };
    let url = forge.stick(&sticky).await.unwrap().comment.url.unwrap();
    if kind == ForgeKind::Gitlab {
        // GitLab does not say a note's address: it is made of the project's.
        let page = story.server.git_url().replace(".git", "");
        assert!(url.starts_with(&format!("{page}/-/merge_requests/{number}#note_")), "{url}");
    }
}
