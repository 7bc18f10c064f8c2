//! A change that is reviewed again, and mended.

use crate::common::forge_server::ForgeServer;
use crate::common::hub::{LOOK_AGAIN, clone_of, comment, found, on_github, pull_request};
use crate::common::{ModelServer, Reply, Rule, git, ok};
use crate::steps::OPEN;
use codeforge::model::forge::ForgeKind;
use serde_json::json;

const FIX: &str = r#"
name: fix
on: { command: { name: fix, access: write } }
inputs: { task: { type: string, required: true } }
policy: lax
steps:
  work: { mode: coder, prompt: "TASK {{ inputs.task }} KNOWN {{ event.change.earlier }}" }
deliver: { as: pull_request, title: "Repaired" }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_review_starts_where_the_first_one_ended_and_fix_knows_what_they_found() {
    let forge = ForgeServer::with(
        ForgeKind::Github,
        &[
            (".codeforge/workflows/look.yml", LOOK_AGAIN),
            (".codeforge/workflows/fix.yml", FIX),
            (".codeforge/policies/lax.yml", OPEN),
            (
                ".codeforge/config.yml",
                "forge: { bot: { name: Forgebot, email: bot@acme.example } }\ndelivery: { open_changes_limit: 1 }\n",
            ),
            ("src/a.txt", "one\n"),
            ("src/b.txt", "one\n"),
            ("src/main.txt", "one\n"),
        ],
    )
    .await;
    forge.memory().members.insert("ann".into(), "write".into());
    let base = forge.tip("main").unwrap();
    let number = forge.open("ann", "topic", "Please.");
    let review = async |rule: Rule, head: &str| {
        let server = ModelServer::start(vec![rule]).await;
        let clone = clone_of(&forge, "refs/heads/topic");
        let payload = pull_request(number, "synchronize", head, &base);
        let job = on_github(&forge, &clone, "pull_request", &payload).model(server.url());
        let ran = tokio::task::block_in_place(|| job.run()).ends(0, "success");
        server.finished();
        let comments = forge.memory().comments.clone();
        assert_eq!(comments.len(), 1, "one comment, however often");
        let line = comments[0].body.lines().nth(1).unwrap().to_owned();
        (ran, comments[0].body.clone(), codeforge::report::ci::memory(&format!("\n{line}")).unwrap())
    };

    // The first one sees the whole change.
    let first =
        forge.commit_by("ann", "topic", "main", &[("src/a.txt", Some("two\n")), ("src/b.txt", Some("three\n"))]);
    let rule = Rule::when().user("SINCE[null] EARLIER[null]").user("+two").user("+three");
    let (_, body, memory) = review(rule.reply(found(&[("src/a.txt", 1), ("src/b.txt", 1)])), &first).await;
    assert!(body.contains("2 findings") && body.contains("/codeforge fix"), "{body}");
    assert_eq!((memory.head.as_deref(), memory.findings.len()), (Some(first.as_str()), 2));
    assert_eq!(memory.spent.usd(), 0.001);

    // The second one what came since; also where the branch took in what others changed. A comment of somebody else's
    // that looks like ours says nothing, nor does what a model writes.
    forge.comment_by("eve", &format!("change {number}"), &body.replace(&first, &base));
    forge.memory().comments.pop();
    forge.commit_by("bob", "main", "main", &[("src/main.txt", Some("theirs\n"))]);
    let taken = forge.commit_by("ann", "topic", "topic", &[("src/main.txt", Some("theirs\n"))]);
    let second = forge.commit_by("ann", "topic", "topic", &[("src/a.txt", Some("fixed\n"))]);
    assert_ne!(taken, second);
    let shown = first.clone();
    let rule = Rule::when()
        .matches("what came since, and what was found", move |asked| {
            let user = asked.user();
            user.contains(&shown)
                && user.contains("+fixed")
                && !user.contains("+three")
                && user.contains("src/b.txt is wrong.")
        })
        .reply(found(&[]));
    let (ran, body, memory) = review(rule, &second).await;
    assert!(body.contains(&format!("since `{}`", &first[..7])) && body.contains("1 resolved"), "{body}");
    assert!(body.contains("still there") && body.contains("$0.002"), "{body}");
    assert_eq!((memory.head.as_deref(), memory.findings.len()), (Some(second.as_str()), 1));
    assert_eq!(memory.spent.usd(), 0.002);
    ran.says(&[&format!("what came since {}", &first[..10])]);
    let resolved: Vec<bool> = forge.memory().remarks.iter().map(|remark| remark.resolved).collect();
    assert_eq!(resolved, [true, false]);

    // `fix` without words is told what is open, and to repair it: the one is ours, the other is data.
    let fix = |body: &str| {
        let mut payload = comment(body, "ann");
        payload["issue"] = json!({ "number": number, "title": "A change", "body": "Please.", "pull_request": {}, "user": { "login": "ann" } });
        payload
    };
    let server = ModelServer::start(vec![
        Rule::when()
            .user("TASK Repair what reviews of this change found. KNOWN <untrusted-data")
            .user("src/b.txt:1 (high): src/b.txt is wrong.")
            .reply(Reply::call("edit_file", json!({ "path": "src/b.txt", "old": "three", "new": "mended" }))),
        Rule::when().reply(Reply::call("finish", json!({ "summary": "Done" }))),
    ])
    .await;
    let clone = clone_of(&forge, "refs/heads/topic");
    let job = on_github(&forge, &clone, "issue_comment", &fix("/codeforge fix")).model(server.url());
    let ran = tokio::task::block_in_place(|| job.run()).ends(0, "success");
    server.finished();
    let branch = ran.outputs()["branch-name"].as_str().unwrap().to_owned();
    assert_eq!(forge.file(&branch, "src/b.txt").as_deref(), Some("mended\n"));
    let bare =
        ["--git-dir", forge.bare().to_str().unwrap(), "log", "-1", "--format=%an <%ae>", &branch].map(str::to_owned);
    assert_eq!(ok(git().args(bare)).trim(), "Forgebot <bot@acme.example>");
    // Another one finds that as many changes of ours are open as may be.
    let server = ModelServer::start(vec![
        Rule::when()
            .user("more words")
            .reply(Reply::call("edit_file", json!({ "path": "src/b.txt", "old": "three", "new": "mended" }))),
        Rule::when().reply(Reply::call("finish", json!({ "summary": "Done" }))),
    ])
    .await;
    let mut payload = fix("/codeforge fix more words");
    payload["comment"]["id"] = json!(10);
    let job = on_github(&forge, &clone, "issue_comment", &payload).model(server.url());
    tokio::task::block_in_place(|| job.run()).ends(4, "denied").says(&["delivery.open_changes_limit"]);
    assert_eq!(forge.memory().changes.len(), 2);

    // After a force-push there is no "since".
    let bare = forge.bare();
    ok(git().arg("--git-dir").arg(&bare).args(["update-ref", "-d", "refs/heads/topic"]));
    let third = forge.commit_by("ann", "topic", "main", &[("src/b.txt", Some("new\n"))]);
    let rule = Rule::when().user("SINCE[null] EARLIER[<untrusted-data").user("+new").reply(found(&[]));
    let (ran, body, memory) = review(rule, &third).await;
    ran.says(&["is not part of the change any more", "the whole change is looked at again"]);
    assert!(body.contains("no findings, 1 resolved"), "{body}");
    assert_eq!((memory.findings.len(), memory.head.as_deref()), (0, Some(third.as_str())));

    // With nothing known, `fix` without words spends nothing.
    let clone = clone_of(&forge, "refs/heads/topic");
    let job = on_github(&forge, &clone, "issue_comment", &fix("/codeforge fix")).model("http://127.0.0.1:9");
    tokio::task::block_in_place(|| job.run())
        .ends(2, "misconfigured")
        .says(&["was given no words", "/codeforge fix WORDS"]);
}
