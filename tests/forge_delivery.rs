//! Deliveries in detail: whose words, who is asked, how much, who signs. Real HTTP, real git, a forge that remembers.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use codeforge::engine::publish::{How, PublishError, Signing};
use codeforge::model::finding::{Finding, Level, Standing};
use codeforge::model::forge::ForgeKind;
use codeforge::model::ignore::Ignore;
use codeforge::model::plan::{Convention, DeliverKind, ForgeSpec, ReviewSpec};
use codeforge::port::forge::RuleAbout;
use codeforge::port::repository::Signer;
use common::forge_server::ForgeServer;
use common::published::{BRANCH, Desk, KEY};
use common::{clean, ok};

const KINDS: [ForgeKind; 3] = [ForgeKind::Github, ForgeKind::Gitlab, ForgeKind::Gitea];

fn refused(error: PublishError, word: &str) {
    let PublishError::Refused(why) = &error else { panic!("{error:?}") };
    assert!(why.contains(word), "{why}");
}

/// A server whose history is written in Conventional Commits.
async fn conventional(kind: ForgeKind) -> ForgeServer {
    let server = ForgeServer::start(kind).await;
    let repo = server.clone_of();
    for subject in
        ["fix(src): one", "feat(src): two", "chore: three", "fix(src): four", "docs(docs): five", "fix(src): six"]
    {
        repo.git(&["commit", "--quiet", "--allow-empty", "--message", subject]);
    }
    repo.git(&["push", "--quiet", server.bare().to_str().unwrap(), "HEAD:refs/heads/main"]);
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_title_and_a_commit_are_in_the_repositorys_own_convention() {
    for kind in KINDS {
        let mut desk = Desk::at(conventional(kind).await, "main");
        desk.write("src/a.txt", "one\nTWO\n");
        desk.asked.sign_off = true;
        desk.asked.co_authors = vec!["Ann Example <ann@example.com>".into(), "Eve\nX: <eve@example.com>".into()];
        let made = desk.propose().await;
        let change = desk.server.memory().changes[0].clone();
        assert_eq!(
            change.title.trim_start_matches("Draft: ").trim_start_matches("WIP: "),
            "fix(src): mend the tail",
            "{:?}",
            made.told
        );
        let message = desk.bare(&["log", "-1", "--format=%B", BRANCH]);
        let end = format!(
            "\n\nSigned-off-by: CodeForge <bot@example.com>\nCo-authored-by: Ann Example <ann@example.com>\nCodeForge-Key: {KEY}"
        );
        assert!(message.starts_with("fix(src): mend the tail\n") && message.ends_with(&end), "{message}");
        // The same delivery again finds the same commit.
        let again = desk.propose().await;
        assert_eq!(again.commit, made.commit);
        assert!(again.told.iter().any(|line| line.contains("holds it already")), "{:?}", again.told);
    }
    // Elsewhere a title is a sentence, and as it is where that is said.
    for (convention, title) in [(Convention::Auto, "Mend the tail"), (Convention::AsWritten, "Mend the tail.")] {
        let mut desk = Desk::of(ForgeKind::Github).await;
        desk.asked.convention = convention;
        desk.write("src/a.txt", "x\n").propose().await;
        assert_eq!(desk.server.memory().changes[0].title, title);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_owners_of_the_base_are_asked_and_who_acts_is_not() {
    for kind in KINDS {
        let server = ForgeServer::with(
            kind,
            // Everything in the words of Gitea, too, whose patterns are regular expressions.
            &[
                ("CODEOWNERS", "src/.* @ann @bob @codeforge-bot\nsrc/* @ann @bob @codeforge-bot\n"),
                ("src/a.txt", "one\n"),
            ],
        )
        .await;
        for name in ["ann", "bob", "eve", "writer"] {
            server.memory().members.insert(name.into(), "write".into());
        }
        let mut desk = Desk::at(server, "main");
        // What the change says of owners does not count: it is the change's.
        desk.write("CODEOWNERS", "* @eve\nsrc/.* @eve\n").write("src/a.txt", "x\n");
        desk.asked.codeowners = true;
        desk.event.actor = Some("bob".into());
        let made = desk.propose().await;
        assert_eq!(desk.server.memory().changes[0].reviewers, ["ann"], "{kind:?} {:?}", made.told);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_a_draft_until_its_gates_passed_where_that_is_asked_for() {
    for kind in KINDS {
        let mut desk = Desk::of(kind).await;
        desk.server.memory().milestones = vec![(3, "Next".into())];
        desk.server.memory().members.insert("ann".into(), "write".into());
        desk.asked = ForgeSpec {
            assignees: vec!["ann".into()],
            milestone: Some("Next".into()),
            ready_when_passed: true,
            ..ForgeSpec::default()
        };
        desk.labels = vec!["bot".into()];
        desk.write("src/a.txt", "x\n").propose().await;
        let change = desk.server.memory().changes[0].clone();
        assert_eq!((change.draft, &change.assignees[..], change.milestone), (true, &["ann".to_owned()][..], Some(3)));
        assert_eq!(change.labels, ["bot"]);
        desk.passed = true;
        let made = desk.write("src/a.txt", "y\n").propose().await;
        let change = desk.server.memory().changes[0].clone();
        assert!(
            !change.draft && !change.title.contains("Draft") && !change.title.contains("WIP"),
            "{kind:?} {:?}",
            made.told
        );
        // A person takes it back: nothing new was pushed, so that is theirs to say.
        desk.server.memory().changes[0].draft = true;
        desk.propose().await;
        assert!(desk.server.memory().changes[0].draft);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_much_or_left_alone_is_refused_before_anything_is_written() {
    for kind in KINDS {
        let mut desk = Desk::of(kind).await;
        desk.write("src/a.txt", "x\n");
        desk.server.commit_by("ann", "codeforge/other", "main", &[("b.txt", Some("b\n"))]);
        let other = desk.server.open("codeforge-bot", "codeforge/other", "ours");
        desk.asked.most_per_hour = Some(1);
        refused(desk.publish(DeliverKind::PullRequest).await.unwrap_err(), "changes_per_hour");
        desk.asked.most_per_hour = None;
        desk.most_open = Some(1);
        refused(desk.publish(DeliverKind::PullRequest).await.unwrap_err(), "open_changes_limit");
        assert_eq!((desk.server.memory().written, desk.server.tip(BRANCH)), (0, None));
        // The label came after the run had begun.
        let mut desk = Desk::about(desk.server, other);
        desk.write("src/a.txt", "y\n");
        desk.asked.ignore = Ignore { labels: vec!["hands-off".into()], ..Ignore::default() };
        desk.server.memory().changes[0].labels.push("hands-off".into());
        refused(desk.publish(DeliverKind::PushToBranch).await.unwrap_err(), "hands-off");
        assert_eq!(desk.server.memory().written, 0);
        desk.server.memory().changes[0].labels.clear();
        desk.publish(DeliverKind::PushToBranch).await.unwrap();
        assert_eq!(desk.server.memory().written, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn git_accepts_our_ssh_signature() {
    let mut desk = Desk::of(ForgeKind::Gitlab).await;
    let keys = tempfile::tempdir().unwrap();
    let (key, allowed) = (keys.path().join("key"), keys.path().join("allowed"));
    ok(clean("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "bot@example.com", "-f"]).arg(&key));
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    std::fs::write(&allowed, format!("bot@example.com namespaces=\"git\" {public}")).unwrap();
    let secret = std::fs::read_to_string(&key).unwrap();
    desk.signing = Signing { how: How::By(Signer::Ssh(secret.into())), or_not: false };
    let made = desk.write("src/a.txt", "x\n").propose().await;
    let verify = |allowed: &std::path::Path| {
        let mut git = common::git();
        git.arg("-C").arg(desk.server.bare()).arg("-c");
        git.arg(format!("gpg.ssh.allowedSignersFile={}", allowed.display())).args(["verify-commit", BRANCH]);
        git.output().unwrap()
    };
    let output = verify(&allowed);
    assert!(output.status.success(), "{}", common::spoken(&output));
    assert!(common::spoken(&output).contains("Good \"git\" signature for bot@example.com"));
    std::fs::write(&allowed, "").unwrap();
    assert!(!verify(&allowed).status.success());
    // Signed alike each time: nothing is pushed anew.
    assert_eq!(desk.propose().await.commit, made.commit);
    assert!(desk.bare(&["cat-file", "-p", BRANCH]).contains("gpgsig -----BEGIN SSH SIGNATURE-----"));
    // A key that is none: nothing leaves, unless that is allowed.
    desk.signing = Signing { how: How::By(Signer::Ssh("not a key".to_owned().into())), or_not: false };
    let before = desk.server.tip(BRANCH);
    let error = desk.write("src/a.txt", "z\n").publish(DeliverKind::PullRequest).await.unwrap_err();
    assert!(error.to_string().contains("CODEFORGE_SIGNING_KEY"), "{error}");
    assert_eq!(desk.server.tip(BRANCH), before);
    desk.signing.or_not = true;
    let made = desk.propose().await;
    assert!(made.told.iter().any(|line| line.starts_with("the commit is not signed")), "{:?}", made.told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn git_accepts_our_gpg_signature() {
    let home = tempfile::tempdir_in("/tmp").unwrap();
    let gpg = |arguments: &[&str]| {
        let mut command = clean("gpg");
        command.env("GNUPGHOME", home.path()).arg("--batch").args(arguments);
        ok(&mut command)
    };
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    // As old as keys are, beside commits: older than they.
    gpg(&[
        "--faked-system-time=1700000000!",
        "--passphrase",
        "",
        "--quick-generate-key",
        "bot@example.com",
        "ed25519",
        "sign",
        "never",
    ]);
    let mut desk = Desk::of(ForgeKind::Github).await;
    let signer = Signer::Gpg { key: "bot@example.com".into(), home: Some(home.path().to_owned()) };
    desk.signing = Signing { how: How::By(signer), or_not: false };
    let made = desk.write("src/a.txt", "x\n").propose().await;
    let mut git = common::git();
    git.env("GNUPGHOME", home.path()).arg("-C").arg(desk.server.bare()).args(["verify-commit", BRANCH]);
    let output = git.output().unwrap();
    assert!(output.status.success(), "{}", common::spoken(&output));
    assert!(common::spoken(&output).contains("Good signature from \"bot@example.com\""));
    assert_eq!(desk.propose().await.commit, made.commit, "signed alike each time");
    let other = Signer::Gpg { key: "nobody@example.com".into(), home: Some(home.path().to_owned()) };
    desk.signing.how = How::By(other);
    let error = desk.write("src/a.txt", "y\n").publish(DeliverKind::PullRequest).await.unwrap_err();
    assert!(error.to_string().contains("could not be signed: gpg: "), "{error}");
    let _ = clean("gpgconf").env("GNUPGHOME", home.path()).args(["--kill", "all"]).status();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn github_makes_and_signs_the_commit_where_it_is_to() {
    let mut desk = Desk::of(ForgeKind::Github).await;
    desk.signing = Signing { how: How::Forge, or_not: false };
    let made = desk.write("src/a.txt", "x\n").write("new/b.txt", "b\n").propose().await;
    assert_eq!(desk.server.file(BRANCH, "src/a.txt").unwrap(), "x\n");
    assert_eq!(desk.server.tip(BRANCH), made.commit);
    assert!(desk.bare(&["log", "-1", "--format=%ce %B", BRANCH]).starts_with("noreply@github.com Mend the tail\n"));
    let written = desk.server.memory().written;
    assert_eq!(desk.propose().await.commit, made.commit);
    assert_eq!(desk.server.memory().written, written, "nothing is made twice");
    // A newer change takes the place of the older one, on the same commit.
    std::fs::remove_file(desk.workspace.root().join("README.md")).unwrap();
    let newer = desk.write("src/a.txt", "y\n").propose().await;
    assert_ne!(newer.commit, made.commit);
    assert_eq!(desk.bare(&["rev-parse", &format!("{BRANCH}~1")]), desk.base.commit.clone().unwrap());
    assert_eq!(desk.server.file(BRANCH, "README.md"), None);
    // A branch that was made, and the commit not: it is ours to go on with.
    desk.bare(&["update-ref", &format!("refs/heads/{BRANCH}"), desk.base.commit.as_ref().unwrap()]);
    desk.propose().await;
    assert_eq!(desk.server.file(BRANCH, "src/a.txt").unwrap(), "y\n");
    // What GitHub has no word for.
    use std::os::unix::fs::PermissionsExt;
    let script = desk.write("run.sh", "#!/bin/sh\n").workspace.root().join("run.sh");
    std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o755)).unwrap();
    refused(desk.publish(DeliverKind::PullRequest).await.unwrap_err(), "`run.sh` is executable");
    desk.signing.or_not = true;
    let made = desk.propose().await;
    assert!(made.told.iter().any(|line| line.contains("not signed")), "{:?}", made.told);
    // A person's commit is not overwritten this way, either.
    desk.server.commit_by("ann", BRANCH, "main", &[("mine.txt", Some("mine\n"))]);
    desk.signing.or_not = false;
    std::fs::remove_file(desk.workspace.root().join("run.sh")).unwrap();
    refused(desk.publish(DeliverKind::PullRequest).await.unwrap_err(), "somebody else committed");
    // Other forges cannot.
    let mut desk = Desk::of(ForgeKind::Gitlab).await;
    desk.signing = Signing { how: How::Forge, or_not: false };
    let error = desk.write("src/a.txt", "x\n").publish(DeliverKind::PullRequest).await.unwrap_err();
    assert!(error.to_string().contains("cannot sign"), "{error}");
    assert!(desk.server.memory().changes.is_empty());
}

fn finding(line: u64, level: Level) -> Finding {
    Finding {
        fingerprint: format!("{line:016x}"),
        level,
        file: "src/a.txt".into(),
        line: Some(line),
        end_line: None,
        rule: None,
        what: format!("Line {line}."),
        suggestion: None,
        step: "review".into(),
        standing: Standing::New,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_review_says_the_worst_at_its_lines_and_sums_up_the_rest() {
    for kind in KINDS {
        let server = ForgeServer::start(kind).await;
        let text: String = (1..=30).map(|line| format!("line {line}\n")).collect();
        server.commit_by("ann", "topic", "main", &[("src/a.txt", Some(&text))]);
        let number = server.open("ann", "topic", "Please.");
        let mut desk = Desk::about(server, number);
        desk.findings =
            (1..=20).map(|line| finding(line, if line % 2 == 0 { Level::High } else { Level::Low })).collect();
        desk.findings[1].end_line = Some(4);
        desk.asked.review = ReviewSpec { max_remarks: Some(3), min_level: Some(Level::Medium) };
        let made = desk.publish(DeliverKind::Review).await.unwrap();
        let remarks = desk.server.memory().remarks.clone();
        assert_eq!(remarks.len(), 3, "{:?}", made.told);
        assert!(
            made.told.iter().any(|line| line.starts_with("17 findings are in the comment only")),
            "{:?}",
            made.told
        );
        let comment = desk.server.memory().comments[0].body.clone();
        assert!(comment.contains("Line 1.") && comment.contains("Line 20."), "{comment}");
        // Several lines are one remark, at the last of them.
        let asked = desk.server.asked();
        let several = |it: &common::forge_server::Asked| match kind {
            ForgeKind::Github => it.body.pointer("/comments/0/start_line").and_then(|line| line.as_u64()) == Some(2),
            _ => it.body.pointer("/position/line_range/start/new_line").and_then(|line| line.as_u64()) == Some(2),
        };
        // Gitea's stand at one line, and are not resolved.
        let gitea = kind == ForgeKind::Gitea;
        assert_eq!(asked.iter().any(several), !gitea);
        // What is gone is resolved, and a person's thread is not touched.
        for finding in &mut desk.findings {
            finding.standing = if finding.line == Some(2) { Standing::Resolved } else { Standing::Still };
        }
        let mut theirs = remarks[0].clone();
        (theirs.id, theirs.author) = (9999, "ann".into());
        desk.server.memory().remarks.push(theirs);
        desk.publish(DeliverKind::Review).await.unwrap();
        let resolved: Vec<(u64, bool)> =
            desk.server.memory().remarks.iter().map(|remark| (remark.id, remark.resolved)).collect();
        assert_eq!(resolved.iter().filter(|(_, resolved)| *resolved).count(), usize::from(!gitea), "{resolved:?}");
        assert!(resolved.contains(&(9999, false)), "{resolved:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_that_starts_no_checks_says_so() {
    let desk = Desk::of(ForgeKind::Github).await;
    desk.server.memory().acts_as = Some("github-actions[bot]".into());
    let made = desk.write("src/a.txt", "x\n").propose().await;
    let body = desk.server.memory().changes[0].body.clone();
    assert!(body.contains("Checks do not start by themselves") && body.contains("create-github-app-token"), "{body}");
    assert!(made.told.iter().any(|line| line.contains("checks do not start")), "{:?}", made.told);
    let desk = Desk::of(ForgeKind::Github).await;
    desk.write("src/a.txt", "x\n").propose().await;
    assert!(!desk.server.memory().changes[0].body.contains("by themselves"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_of_a_branch_that_is_not_there_yet_are_known() {
    let desk = Desk::of(ForgeKind::Github).await;
    let rules = ["required_signatures", "creation", "deletion", "commit_message_pattern"].map(str::to_owned);
    desk.server.memory().rules.insert("codeforge/x".into(), rules.to_vec());
    let about: Vec<RuleAbout> =
        desk.forge.push_rules("codeforge/x").await.unwrap().into_iter().map(|rule| rule.about).collect();
    assert_eq!(about, [RuleAbout::Signature, RuleAbout::Branch, RuleAbout::Form]);
    assert!(desk.forge.push_rules("codeforge/y").await.unwrap().is_empty());
}
