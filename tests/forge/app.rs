//! Who we are: GitHub Apps, tokens in files, and checks, which only Apps make.

use crate::common::forge_server::FakeApp;
use crate::story::*;
use codeforge::port::forge::{Annotation, AppKey, Credential};
use serde_json::json;

/// A forge that knows an App, and the App's way to it.
async fn with_app() -> (ForgeServer, ForgeAt) {
    let server = ForgeServer::start(ForgeKind::Github).await;
    let app = FakeApp::new("Iv1.abc", 77);
    let key = app.key();
    server.memory().app = Some(app);
    let at = at(&server, &key, None);
    (server, at)
}

fn at(server: &ForgeServer, key: &str, installation: Option<u64>) -> ForgeAt {
    let key = AppKey { id: "Iv1.abc".into(), key: key.to_owned().into(), installation, permissions: BTreeMap::new() };
    ForgeAt { token: Credential::App(key), ..server.at() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_apps_token_is_minted_once_for_one_repository_and_what_it_needs() {
    let (server, at) = with_app().await;
    let (forge, clock) = adapter(&at);
    assert!(forge.capabilities().checks);
    forge.default_branch().await.unwrap();
    forge.remote().refs("refs/heads/").await.unwrap();
    let count = |server: &ForgeServer| server.memory().app.as_ref().unwrap().count;
    assert_eq!(count(&server), 1, "kept");
    let asked = server.memory().app.as_ref().unwrap().asked();
    let write = "write";
    assert_eq!(
        asked,
        json!({
            "repositories": ["widgets"],
            "permissions": {
                "checks": write, "contents": write, "issues": write, "metadata": "read", "pull_requests": write,
                "statuses": write,
            },
        })
    );
    // Until five minutes before its end.
    clock.advance(Duration::from_secs(53 * 60));
    forge.default_branch().await.unwrap();
    assert_eq!(count(&server), 1);
    clock.advance(Duration::from_secs(2 * 60));
    forge.default_branch().await.unwrap();
    assert_eq!(count(&server), 2);
    // Git is given the same, and whoever asks for it.
    let login = forge.remote().login().await.unwrap().unwrap();
    assert_eq!((login.user.as_str(), count(&server)), ("x-access-token", 2));
    assert!(login.until_ms.unwrap() > NOW_MS && !format!("{login:?}").contains("ghs_"));
    // Refused by everybody who does not know the key.
    let other = FakeApp::new("Iv1.abc", 77).key();
    let stranger = adapter(&super::app::at(&server, &other, Some(77))).0;
    assert!(matches!(stranger.default_branch().await, Err(ForgeError::Refused { .. })));
    let at = super::app::at(&server, "not a key", None);
    let opened = forge::open(&at, Arc::new(FakeClock::default()), Arc::new(|| 0), Settings::default());
    assert!(opened.err().unwrap().to_string().contains(".pem"));
}

/// reliability.md 13.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reliability_13_a_token_that_ends_between_the_push_and_the_request_makes_one_request() {
    let (server, at) = with_app().await;
    let mut story = Story::at(server, "main");
    let (forge, clock) = adapter(&at);
    story.forge = forge;
    story.write("b.txt", "b\n");
    let server = &story.server;
    // The run looks at the repository when it begins, and takes longer than its token lives.
    story.forge.default_branch().await.unwrap();
    clock.advance(Duration::from_secs(61 * 60));
    server.memory().app.as_mut().unwrap().expire();
    // Each is refused once, as one that has ended: in the push, after it, and in the comment.
    server.fail(Fault::status("POST", "git-receive-pack", 401)).fail(Fault::status("POST", "/pulls", 401));
    let published = story.publish(DeliverKind::PullRequest).await.unwrap();
    let ours = server.memory().changes.iter().filter(|change| change.head == BRANCH).count();
    assert_eq!((ours, server.tip(BRANCH)), (1, published.commit));
    assert_eq!(server.memory().app.as_ref().unwrap().count, 4, "minted just before, and again once for each");
    assert_eq!(server.memory().faults_left(), 0);
    // One that is refused again is told, not tried for ever.
    server.fail(Fault::status("GET", "/widgets", 401).times(9));
    assert!(matches!(story.forge.default_branch().await, Err(ForgeError::Refused { .. })));
    assert_eq!(server.memory().app.as_ref().unwrap().count, 5);
}

/// The same where nobody can mint one: it is said, and whoever comes back with a good one finds what was pushed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reliability_13_what_was_pushed_before_a_401_is_found_by_the_next_attempt() {
    for (kind, open) in
        [(ForgeKind::Github, "/pulls"), (ForgeKind::Gitlab, "/merge_requests"), (ForgeKind::Gitea, "/pulls")]
    {
        let story = Story::of(kind).await;
        story.write("b.txt", "b\n");
        story.server.fail(Fault::status("POST", open, 401));
        let error = story.publish(DeliverKind::PullRequest).await.unwrap_err();
        assert!(matches!(&error, PublishError::Forge(ForgeError::Refused { .. })), "{kind:?}: {error}");
        let pushed = story.server.tip(BRANCH);
        assert!(pushed.is_some() && story.server.memory().changes.is_empty(), "{kind:?}");
        let published = story.publish(DeliverKind::PullRequest).await.unwrap();
        assert_eq!((story.server.memory().changes.len(), published.commit), (1, pushed), "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_in_a_file_is_read_again_when_it_was_refused() {
    let server = ForgeServer::start(ForgeKind::Gitlab).await;
    let folder = TestRepo::empty();
    let file = folder.path().join("token");
    std::fs::write(&file, "an-old-token\n").unwrap();
    let at = ForgeAt { token: Credential::File(file.clone()), ..server.at() };
    let (forge, _) = adapter(&at);
    assert!(matches!(forge.default_branch().await, Err(ForgeError::Refused { .. })));
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    assert_eq!(forge.default_branch().await.unwrap(), "main");
    assert_eq!(server.asked().len(), 3, "once more, and only where it changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_of_a_commit_is_one_check_or_one_status() {
    let (server, at) = with_app().await;
    let (forge, _) = adapter(&at);
    let commit = server.tip("main").unwrap();
    let annotation = |line| Annotation {
        path: "src/a.txt".into(),
        start_line: line,
        end_line: line,
        level: Level::Medium,
        message: format!("at {line}"),
        title: None,
    };
    let all: Vec<Annotation> = (1..=120).map(annotation).collect();
    let check = |state, annotations| Check {
        commit: &commit,
        name: "codeforge / review",
        state,
        words: "120 findings",
        url: Some("https://forge.example/run"),
        summary: Some("## Findings"),
        annotations,
    };
    server.fail(Fault::lose("POST", "/check-runs"));
    assert_eq!(forge.set_check(&check(CheckState::Pending, &[])).await.unwrap(), Said::Check);
    let state = |server: &ForgeServer| {
        let memory = server.memory();
        let of = memory.checks.iter();
        of.map(|it| (it.status.clone(), it.conclusion.clone(), it.annotations.len())).collect::<Vec<_>>()
    };
    assert_eq!(state(&server), [("in_progress".to_owned(), None, 0)], "an answer that was lost is looked up");
    // Fifty at a time; one of the requests is carried out and its answer lost.
    let id = server.memory().checks[0].id;
    server.fail(Fault::lose("PATCH", &format!("/check-runs/{id}")));
    forge.set_check(&check(CheckState::Failure, &all)).await.unwrap();
    let ended = ("completed".to_owned(), Some("failure".to_owned()), 120);
    assert_eq!(state(&server), std::slice::from_ref(&ended));
    let lines: Vec<u64> =
        server.memory().checks[0].annotations.iter().map(|it| it["start_line"].as_u64().unwrap()).collect();
    assert_eq!(lines, (1..=120).collect::<Vec<_>>(), "each once, in order");
    // Said again: nothing is there twice. Begun anew: a check of its own.
    forge.set_check(&check(CheckState::Failure, &all)).await.unwrap();
    assert_eq!(state(&server), std::slice::from_ref(&ended));
    forge.set_check(&check(CheckState::Pending, &[])).await.unwrap();
    assert_eq!(state(&server).len(), 2);
    forge.set_check(&check(CheckState::Cancelled, &[])).await.unwrap();
    assert_eq!(state(&server)[1], ("completed".to_owned(), Some("cancelled".to_owned()), 0));
    assert!(server.memory().statuses.is_empty(), "never both");
    // A token that may not make checks: a status, and no second question.
    let token = server.memory().app.as_ref().unwrap().tokens()[0].clone();
    let (job, _) = adapter(&ForgeAt { token: token.into(), ..server.at() });
    assert!(job.capabilities().checks);
    server.memory().checks.clear();
    server.fail(Fault::status("POST", "/check-runs", 403));
    for state in [CheckState::Pending, CheckState::Success] {
        assert_eq!(job.set_check(&check(state, &all)).await.unwrap(), Said::Status);
    }
    assert!(!job.capabilities().checks && server.memory().checks.is_empty());
    let said: Vec<String> = server.memory().statuses.iter().map(|it| it.2.clone()).collect();
    assert_eq!(said, ["pending", "success"]);
}
