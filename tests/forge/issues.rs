//! The issue that stays current.

use crate::story::*;
use codeforge::engine::publish::Keeping;
use codeforge::model::delivery::Published;

everywhere! {
    an_issue_is_one_and_says_what_stands => kept;
    a_persons_closing_stands_and_ours_does_not => closed;
    an_issue_is_ours_by_account_and_mark => ours;
    an_issue_begins_with_what_was_asked_for_and_keeps_what_people_set => labelled;
    of_two_made_in_the_same_moment_one_stays => twins;
    an_issue_whose_answer_was_lost_is_made_once => lost remote;
    who_may_write_no_issue_is_told_what_is_missing => refused remote;
}

/// A night that leaves so many findings.
fn night(open: usize, commit: &str) -> Keeping<'_> {
    Keeping { open, was_clean: false, commit, last_word: "Nothing is left." }
}

async fn keep(story: &Story, keeping: Keeping<'_>, body: &str) -> Result<Published, PublishError> {
    let delivery = Delivery { title: "What the nights found".into(), ..story.delivery(DeliverKind::Issue) };
    let memory = format!("<!-- codeforge:memory {{\"spent\":{}}} -->", keeping.open);
    story
        .publish_as(&delivery, |it| {
            (it.body, it.memory, it.issue) = (body, Some(memory.as_str()), Some(keeping));
        })
        .await
}

/// Number, state, and the text below the mark.
fn standing(story: &Story) -> Vec<(String, &'static str, String)> {
    let memory = story.server.memory();
    let said = |body: &str| body.split("-->\n\n").last().unwrap().to_owned();
    memory.issues.iter().map(|it| (it.title.clone(), it.state, said(&it.body))).collect()
}

/// What was said under issues.
fn words(story: &Story) -> Vec<String> {
    let memory = story.server.memory();
    let of = memory.comments.iter().filter(|it| it.thread.starts_with("issue "));
    of.map(|it| it.body.lines().last().unwrap().to_owned()).collect()
}

async fn kept(kind: ForgeKind) {
    let mut story = Story::of(kind).await;
    let one = |state, body: &str| vec![("What the nights found".to_owned(), state, body.to_owned())];
    // Nothing to say, and nothing that says otherwise.
    let told = keep(&story, night(0, "c0"), "Nothing.").await.unwrap();
    assert_eq!((standing(&story), story.writes(), told.number), (vec![], 0, None), "{kind:?}: {:?}", told.told);
    let made = keep(&story, night(3, "c1"), "Three, says @ann: fixes #1.").await.unwrap();
    let inert = "Three, says @&#8203;ann: fixes&#8203; #1.";
    assert_eq!(standing(&story), one("open", inert), "{kind:?}");
    assert!(made.number.is_some() && made.url.is_some(), "{kind:?}: {made:?}");
    // The next night's text, in the same place; the same text is not written again.
    keep(&story, night(1, "c2"), "One.").await.unwrap();
    let before = story.writes();
    let again = keep(&story, night(1, "c2"), "One.").await.unwrap();
    assert_eq!((standing(&story), story.writes()), (one("open", "One."), before), "{kind:?}: {:?}", again.told);
    let key = story.forge.kept_issues(KEY).await.unwrap();
    assert_eq!(key[0].memory.as_deref(), Some("<!-- codeforge:memory {\"spent\":1} -->"), "{kind:?}");
    assert_eq!(story.forge.kept_issues("other").await.unwrap(), [], "{kind:?}: another key");
    // A workflow may want it open although nothing is left.
    story.asked.keep_open = true;
    keep(&story, night(0, "c3"), "None.").await.unwrap();
    assert_eq!((standing(&story), words(&story).len()), (one("open", "None."), 0), "{kind:?}");
    story.asked.keep_open = false;
    let last = keep(&story, night(0, "c3"), "None.").await.unwrap();
    assert_eq!(standing(&story), one("closed", "None."), "{kind:?}: {:?}", last.told);
    assert_eq!(words(&story), ["Nothing is left."], "{kind:?}");
    // Clean again: nothing is said. Found again: the same issue.
    let before = story.writes();
    keep(&story, night(0, "c4"), "None.").await.unwrap();
    assert_eq!(story.writes(), before, "{kind:?}");
    let reopened = keep(&story, night(2, "c5"), "Two.").await.unwrap();
    assert_eq!((standing(&story), reopened.number), (one("open", "Two."), made.number), "{kind:?}");
    assert!(reopened.told.iter().any(|line| line.contains("opened again")), "{:?}", reopened.told);
    // A change has words of its own.
    let change = Story::about_new(kind).await;
    let error = keep(&change, night(1, "c1"), "One.").await.unwrap_err();
    assert!(matches!(&error, PublishError::Misuse(why) if why.contains("`comment` or `review`")), "{error}");
}

async fn closed(kind: ForgeKind) {
    for reopened in [false, true] {
        let story = Story::of(kind).await;
        keep(&story, night(1, "c1"), "One.").await.unwrap();
        story.server.memory().issues[0].set_open(false, "ann");
        if kind == ForgeKind::Local {
            // Whoever writes `State: closed` into a page does not say who they are.
            story.server.memory().issues[0].closed_by = None;
        }
        let before = (story.writes(), standing(&story));
        for (open, body) in [(2, "Two."), (0, "None.")] {
            let told = keep(&story, night(open, "c2"), body).await.unwrap();
            assert_eq!((story.writes(), standing(&story)), before, "{kind:?}");
            let who = if kind == ForgeKind::Local { "somebody" } else { "ann" };
            let line = told.told.iter().find(|line| line.contains("stays closed")).unwrap();
            assert!(line.contains(who) && line.contains("Reopen it"), "{kind:?}: {line}");
        }
        if reopened {
            // Who opens it again has it kept again.
            story.server.memory().issues[0].set_open(true, "ann");
            keep(&story, night(2, "c3"), "Two.").await.unwrap();
            assert_eq!(standing(&story)[0].2, "Two.", "{kind:?}");
        }
    }
}

async fn ours(kind: ForgeKind) {
    let signed = |story: &Story| ForgeAt { marker_key: Some("key".to_owned().into()), ..story.server.at() };
    for with_key in [false, true] {
        let mut story = Story::of(kind).await;
        if with_key {
            story.forge = adapter(&signed(&story)).0;
        }
        keep(&story, night(1, "c1"), "One.").await.unwrap();
        // Somebody else's copy, closed or open, is nobody's business; neither is a text of ours without the mark.
        let mut copy = story.server.memory().issues[0].clone();
        (copy.number, copy.author) = (copy.number + 50, "eve".into());
        story.server.memory().issues.insert(0, copy);
        keep(&story, night(1, "c2"), "Still one.").await.unwrap();
        let states: Vec<String> = standing(&story).into_iter().map(|it| it.2).collect();
        assert!(
            states.contains(&"One.".to_owned()) && states.contains(&"Still one.".to_owned()),
            "{kind:?}: {states:?}"
        );
        assert_eq!(states.len(), 2, "{kind:?}");
        if with_key {
            // What it remembers is signed: a count that somebody edits in is not believed.
            let mine = story.server.memory().issues.iter().position(|it| it.author != "eve").unwrap();
            let body = story.server.memory().issues[mine].body.replace("\"spent\":1", "\"spent\":0");
            story.server.memory().issues[mine].body = body;
            assert_eq!(story.forge.kept_issues(KEY).await.unwrap()[0].memory, None, "{kind:?}");
        }
    }
}

async fn labelled(kind: ForgeKind) {
    let mut story = Story::of(kind).await;
    for name in ["ann", "bob"] {
        story.server.memory().members.insert(name.into(), "write".into());
    }
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    story.labels = names(&["nightly"]);
    story.asked.assignees = names(&["bob"]);
    keep(&story, night(1, "c1"), "One.").await.unwrap();
    let set = |story: &Story| {
        let issue = story.server.memory().issues[0].clone();
        (issue.title, issue.labels, issue.assignees)
    };
    let title = "What the nights found".to_owned();
    assert_eq!(set(&story), (title, names(&["nightly"]), names(&["bob"])), "{kind:?}");
    {
        let mut memory = story.server.memory();
        let issue = &mut memory.issues[0];
        issue.title = "Ann's title".into();
        (issue.labels, issue.assignees) = (names(&["triaged"]), names(&["ann"]));
    }
    keep(&story, night(1, "c2"), "Still one.").await.unwrap();
    let both = (names(&["triaged", "nightly"]), names(&["ann", "bob"]));
    assert_eq!(set(&story), ("Ann's title".to_owned(), both.0, both.1), "{kind:?}");
    // Somebody who is not there keeps nothing from being said.
    let mut stranger = Story::of(kind).await;
    stranger.asked.assignees = names(&["nobody"]);
    let made = keep(&stranger, night(1, "c1"), "One.").await.unwrap();
    assert_eq!(standing(&stranger).len(), 1, "{kind:?}");
    if kind != ForgeKind::Local {
        assert!(made.told.iter().any(|line| line.contains("assigned")), "{kind:?}: {:?}", made.told);
    }
}

async fn twins(kind: ForgeKind) {
    let story = Story::of(kind).await;
    keep(&story, night(1, "c1"), "One.").await.unwrap();
    let mut twin = story.server.memory().issues[0].clone();
    let first = twin.number;
    twin.number += 1;
    story.server.memory().issues.push(twin);
    let told = keep(&story, night(2, "c2"), "Two.").await.unwrap();
    assert_eq!(told.number, Some(first), "{kind:?}");
    let states: Vec<_> = standing(&story).into_iter().map(|it| (it.1, it.2)).collect();
    let pointer = format!("Made in the same moment as #{first}, where it is kept.");
    assert_eq!(states, [("open", "Two.".to_owned()), ("closed", pointer)], "{kind:?}");
    assert_eq!(story.forge.kept_issues(KEY).await.unwrap().len(), 1, "{kind:?}: it is nobody's any more");
}

async fn lost(kind: ForgeKind) {
    for lose in [Fault::lose, Fault::close] {
        let story = Story::of(kind).await;
        let comments = if kind == ForgeKind::Gitlab { "/notes" } else { "/comments" };
        story.server.fail(lose("POST", "/issues")).fail(Fault::status("POST", "/issues", 502));
        keep(&story, night(1, "c1"), "One.").await.unwrap();
        story.server.fail(lose("POST", comments));
        keep(&story, night(0, "c2"), "None.").await.unwrap();
        assert_eq!((standing(&story).len(), words(&story).len()), (1, 1), "{kind:?}: made once, said once");
        assert_eq!(story.server.memory().issues[0].state, "closed", "{kind:?}");
    }
}

async fn refused(kind: ForgeKind) {
    let needs = match kind {
        ForgeKind::Github => "permissions: issues: write",
        ForgeKind::Gitlab => "scope api",
        _ => "scope write:issue",
    };
    let off = "issues that are turned on in the repository's settings";
    let story = Story::of(kind).await;
    story.server.fail(Fault::status("POST", "/issues", 403));
    let error = keep(&story, night(1, "c1"), "One.").await.unwrap_err().to_string();
    assert!(error.contains(needs) && error.contains(off), "{kind:?}: {error}");
    assert_eq!(story.forge.token_rights().await.unwrap().issues, Right::Yes, "{kind:?}");
    story.server.memory().no_issues = true;
    let error = keep(&story, night(1, "c1"), "One.").await.unwrap_err().to_string();
    assert!(error.contains(off), "{kind:?}: {error}");
    // Asked anew: what a project is like is remembered.
    let rights = adapter(&story.server.at()).0.token_rights().await;
    let Right::No(grant) = rights.unwrap().issues else { panic!("{kind:?}: there are none") };
    assert!(grant.contains(off), "{kind:?}: {grant}");
}
