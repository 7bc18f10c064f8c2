//! What becomes of a delivery: one branch, one change, nobody's work overwritten.

use crate::story::*;

everywhere! {
    a_change_is_opened_once_and_kept_up_to_date => opened_once;
    a_closed_change_is_left_closed => left_closed;
    reliability_4_a_persons_commit_is_never_overwritten => persons_commit;
    reliability_4_not_even_in_the_moment_of_our_push => persons_push;
    a_description_that_somebody_took_over_is_left_alone => taken_over;
    only_so_many_changes_of_ours_are_open => so_many_open;
    nor_more_where_two_are_opened_at_once => two_at_once remote;
    what_stands_on_a_change_goes_to_it_or_nowhere => on_a_change;
    a_changes_own_branch_is_pushed_to_at_the_pinned_commit_only => own_branch;
}

async fn opened_once(kind: ForgeKind) {
    let mut story = Story::of(kind).await;
    (story.labels, story.reviewers) = (vec!["codeforge".to_owned()], vec!["ann".to_owned()]);
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
    let hidden = "<!-- codeforge:asked {\"label\":[\"codeforge\"],\"reviewer\":[\"ann\"]} -->";
    let begins = format!("<!-- codeforge:fix/issue-7 -->\n{hidden}\nWhat was done.");
    assert!(change.body.starts_with(&begins), "{}", change.body);
    assert_eq!(published.number, Some(change.number));
    assert_eq!(story.server.tip(BRANCH), published.commit);
    assert_eq!(story.server.file(BRANCH, "src/a.txt").unwrap(), "one\nTWO\nthree\n");
    // The user's repository has neither the branch nor the commit, nor is the tree touched.
    assert_eq!(story.repo.git(&["for-each-ref", "--format=%(refname)", "refs/heads"]), "refs/heads/main");
    let ours = published.commit.clone().unwrap();
    let there = crate::common::git().current_dir(story.repo.path()).args(["cat-file", "-e", &ours]).output().unwrap();
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

/// A person pushes after we looked at the branch and before our push arrives.
async fn persons_push(kind: ForgeKind) {
    if kind == ForgeKind::Local {
        return;
    }
    // Onto our branch; and a branch of that name where there was none.
    for there in [true, false] {
        let story = Story::of(kind).await;
        story.write("b.txt", "b\n");
        if there {
            story.publish(DeliverKind::PullRequest).await.unwrap();
        }
        let (before, changes) = (story.server.tip(BRANCH), story.server.memory().changes.len());
        story.write("b.txt", "better\n");
        story.server.fail(Fault::after_a_push("POST", "git-receive-pack", BRANCH));
        let error = story.publish(DeliverKind::PullRequest).await.unwrap_err();
        assert!(matches!(&error, PublishError::Moved(why) if why.contains("nothing was pushed")), "{kind:?}: {error}");
        let theirs = story.server.tip(BRANCH);
        assert_ne!(theirs, before, "{kind:?}: ann was there");
        assert_eq!(story.server.file(BRANCH, "by-hand.txt").as_deref(), Some("by hand\n"), "{kind:?}");
        // Nor later, however often it is tried.
        for _ in 0..2 {
            let error = story.publish(DeliverKind::PullRequest).await.unwrap_err();
            assert!(error.to_string().contains("somebody else committed"), "{kind:?}: {error}");
        }
        assert_eq!((story.server.tip(BRANCH), story.server.memory().changes.len()), (theirs, changes), "{kind:?}");
    }
    // Onto the change's own branch.
    let story = Story::about_new(kind).await;
    story.write("src/a.txt", "one\nTWO, mended\nthree\n");
    story.server.fail(Fault::after_a_push("POST", "git-receive-pack", "topic"));
    let error = story.publish(DeliverKind::PushToBranch).await.unwrap_err();
    assert!(matches!(error, PublishError::Moved(_)), "{kind:?}: {error}");
    assert_eq!(story.server.file("topic", "by-hand.txt").as_deref(), Some("by hand\n"), "{kind:?}");
    assert_eq!(story.server.file("topic", "src/a.txt").as_deref(), Some("one\nTWO\nthree\n"), "{kind:?}");
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
    refused("closed", |story| story.server.memory().changes[0].state = "closed").await;
    refused("another commit", |story| story.event.change.as_mut().unwrap().head.sha = Some("1".repeat(40))).await;
    refused("no change", |story| story.event.change = None).await;
    refused("a fork, says the event", |story| {
        story.event.change.as_mut().unwrap().head.repository_id = None;
    })
    .await;
    if kind == ForgeKind::Local {
        return;
    }
    let fork = refused("fork", |story| story.server.memory().changes[0].fork = true).await;
    assert!(fork.contains("fork"), "{fork}");
    let protected = refused("protected", |story| story.server.memory().protected.push("topic".into())).await;
    assert!(protected.contains("pull_request"), "{protected}");
    refused("no answer", |story| {
        story.server.fail(Fault::status("GET", "/topic", 500).times(9));
    })
    .await;
    if kind == ForgeKind::Github {
        refused("a ruleset", |story| {
            story.server.memory().rules.insert("topic".into(), vec!["deletion".into(), "pull_request".into()]);
        })
        .await;
    }
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

/// Two jobs of one repository that come to their end at the same moment: the second one counts what the first one opened.
async fn two_at_once(kind: ForgeKind) {
    let turns = tempfile::tempdir().unwrap();
    let mut story = Story::of(kind).await;
    // Each is a process of its own, with a clock that passes: the one waits for the other.
    let turn_file = Some(turns.path().join("turn"));
    let settings = Settings { system_proxy: false, between_writes_ms: 1, turn_file, ..Settings::default() };
    story.forge = forge::open(&story.server.at(), Arc::new(SystemClock), Arc::new(|| 0), settings).unwrap();
    story.most_open = Some(1);
    story.write("b.txt", "b\n");
    story.server.fail(Fault::slow("POST", "git-receive-pack", Duration::from_millis(300)).times(2));
    let one = story.delivery(DeliverKind::PullRequest);
    let other = Delivery { branch: Some("codeforge/fix/work-8".into()), ..one.clone() };
    let (first, second) = tokio::join!(
        story.publish_as(&one, |_| {}),
        story.publish_as(&other, |publication| publication.key = "fix/issue-8"),
    );
    let refused: Vec<String> = [first, second].into_iter().filter_map(Result::err).map(|it| it.to_string()).collect();
    assert_eq!((story.server.memory().changes.len(), refused.len()), (1, 1), "{kind:?}: {refused:?}");
    assert!(refused[0].contains("nothing was pushed"), "{kind:?}: {}", refused[0]);
}
