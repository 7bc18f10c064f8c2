//! What a server hears, and from whom: who may start work, which repository is meant, what becomes of what cannot be decided.
//! The real program, real HTTP and git; the forge is a fake that remembers.

mod common;

use codeforge::model::forge::ForgeKind;
use common::forge_server::hooks::{HOOK_SECRET, Hook, What, headers};
use common::forge_server::{Fault, ForgeServer};
use common::town::{Plan, Town};
use serde_json::{Value, json};

/// A workflow of one command line that hands nothing over.
fn plain(on: &str) -> String {
    format!("on: {on}\nsteps: {{ work: {{ run: \"true\" }} }}\ndeliver: none\n")
}

fn town() -> Plan {
    Town::of(ForgeKind::Github).workflow("look", &plain("{ command: { name: look } }"))
}

/// A webhook of the test's own making.
async fn tells(town: &Town, id: &str, event: &str, body: &Value) -> u16 {
    let hook = Hook {
        id: id.to_owned(),
        event: event.to_owned(),
        kind: event.to_owned(),
        body: body.to_string().into_bytes(),
        by: String::new(),
        answers: Vec::new(),
    };
    town.hooks.post(&headers(town.kind, HOOK_SECRET, &hook), hook.body.clone()).await
}

/// Whoever fills in an issue's form sets its labels: what they start asks who that was, where the trusted branch does not say
/// otherwise. Nobody is told anything.
#[tokio::test(flavor = "multi_thread")]
async fn trust_11_what_a_stranger_labels_or_opens_starts_nothing() {
    for kind in [ForgeKind::Github, ForgeKind::Gitlab, ForgeKind::Gitea] {
        let town = Town::of(kind)
            .workflow("build", &plain("{ issues: { types: [labeled], labels: [agent] } }"))
            .workflow("sort", &plain("{ issues: { types: [opened] } }"))
            .workflow("talk", &plain("{ issue_comment: {} }"))
            .workflow("greet", &plain("{ issues: { types: [opened], access: anyone } }"))
            .workflow("tidy", &plain("{ issues: { types: [labeled], labels: [agent], access: triage } }"))
            .start()
            .await;
        // Opened with the label, as a form does it; and labelled after that.
        let form = town.hooks.new_issue(&town.forge, "eve", "Please", "Do it.");
        town.hooks.label(&town.forge, form, "agent", true);
        town.hooks.tell(&town.forge, "eve", &What::Issue { number: form }).await;
        town.hooks.tell(&town.forge, "eve", &What::Label { number: form, label: "agent".into(), set: true }).await;
        town.person("eve").comments(form, "Please?").await;
        town.settles().await;
        assert_eq!(town.work().await, ["greet: done success"], "{kind:?}: {:#?}", town.decided().await);
        let told = town.decided().await.join("\n");
        assert!(told.contains("not `build`: that takes `write` access") && told.contains("`eve`"), "{kind:?}: {told}");
        assert_eq!(town.comments_of_ours(form).len(), 0, "{kind:?}");
        // Whoever may: each as much as the workflow asks for.
        let issue = town.person("tess").opens_issue("Sorted", "By somebody who sorts.").await;
        town.person("tess").labels(issue, "agent").await;
        town.settles().await;
        let issue = town.person("ann").opens_issue("Mine", "By somebody who writes.").await;
        town.person("ann").labels(issue, "agent").await;
        town.settles().await;
        let mut names: Vec<String> =
            town.jobs().await.into_iter().map(|job| format!("{} {}", job.workflow, job.actor)).collect();
        names.sort();
        let mut wanted = vec!["build ann", "greet ann", "greet eve", "greet tess", "sort ann", "tidy ann", "tidy tess"];
        // Gitea knows nobody who sorts and does not write.
        wanted.truncate(if kind == ForgeKind::Gitea { 6 } else { 7 });
        assert_eq!(names, wanted, "{kind:?}");
    }
}

/// Two installations of one forge, a repository of the same name on each, one secret: each webhook is about its own.
#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_with_a_repository_of_one_name_are_told_apart() {
    let other = ForgeServer::with(
        ForgeKind::Github,
        &[(".codeforge/workflows/there.yml", &format!("name: there\n{}", plain("{ issues: { types: [opened] } }")))],
    )
    .await;
    other.memory().members.insert("ann".into(), "write".into());
    let address = other.git_url().replace("/acme/widgets.git", "");
    let plan = Town::of(ForgeKind::Github).workflow("here", &plain("{ issues: { types: [opened] } }"));
    let town = plan.beside("acme/widgets", &address).start().await;
    let home = town.forge.git_url().replace("/acme/widgets.git", "");
    for (id, page) in [("1", &address), ("2", &home), ("3", &"https://forge.example".to_owned())] {
        let body = json!({
            "action": "opened", "issue": { "number": 7, "title": format!("At {page}") },
            "repository": { "full_name": "acme/widgets", "html_url": format!("{page}/acme/widgets") },
            "sender": { "login": "ann", "type": "User" },
        });
        assert_eq!(tells(&town, id, "issues", &body).await, if id == "3" { 200 } else { 202 });
    }
    town.settles().await;
    let mut names: Vec<String> = town.jobs().await.into_iter().map(|job| job.workflow).collect();
    names.sort();
    assert_eq!(names, ["here", "there"], "{:#?}", town.decided().await);
    let host = address.trim_start_matches("http://");
    let there = format!("SELECT count(*) FROM jobs WHERE host = '{host}' AND workflow = 'there'");
    assert_eq!(town.count(&there).await, 1);
}

/// A dead delivery can be looked at and put back, by the operator and by the forge that sends it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_delivery_waits_again_when_it_is_asked_for_or_sent_again() {
    let town = town().workflow("pushed", &plain("{ push: { branches: [work] } }")).start().await;
    town.person("ann").pushes("work", &[("a.txt", "1\n")]).await;
    town.settles().await;
    let dies = "UPDATE deliveries SET state = 'dead', attempts = 20, handled_ms = NULL, note = 'it failed'";
    let queue = |arguments: &[&str]| {
        let said = town.codeforge(&[&["queue"], arguments, &["--config", "serve.yml"]].concat());
        (said.status.success(), String::from_utf8_lossy(&said.stdout).into_owned())
    };
    let number = town.count("SELECT number FROM deliveries").await.to_string();
    assert_eq!(queue(&["deliveries", "--dead"]), (true, "no dead deliveries\n".into()));
    assert!(!queue(&["requeue", "--delivery", &number]).0, "it is not dead");
    let handled =
        async || (town.count("SELECT count(*) FROM deliveries WHERE state = 'handled'").await == 1).then_some(());
    for again in ["asked", "sent"] {
        town.alters(dies, &[]).await;
        let (_, listed) = queue(&["deliveries", "--dead"]);
        assert!(listed.contains("dead") && listed.contains("it failed") && listed.contains(&number), "{listed}");
        match again {
            "asked" => assert!(queue(&["requeue", "--delivery", &number]).0),
            _ => assert_eq!(town.hooks.send(&town.hooks.sent()[0]).await, 202),
        }
        town.until("it is looked at again", handled).await;
        assert_eq!(town.count("SELECT attempts FROM deliveries").await, 1, "{again}: with all its attempts");
    }
    assert_eq!(town.work().await, ["pushed: done success"], "and makes no second job");
}

/// A token that ran out is the operator's to replace: what comes in waits for that, and it is said loudly.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_in_while_the_token_is_refused_waits_and_uses_up_no_attempts() {
    let town = town().build().await;
    for path in ["/repos/acme/widgets", "/info/refs"] {
        town.forge.fail(Fault::status("GET", path, 401).saying("Bad credentials").times(1000));
    }
    town.starts().await;
    let issue = town.person("ann").opens_issue("A question", "Please.").await;
    town.person("ann").comments(issue, "/codeforge look").await;
    let looked =
        "SELECT count(*) FROM deliveries WHERE state = 'waiting' AND attempts = 0 AND note LIKE '%refused the token%'";
    town.until("both wait", async || (town.count(looked).await == 2).then_some(())).await;
    // Every look is one more that failed: none of them counts.
    let before = town.forge.count("GET", "/repos/acme/widgets");
    town.until("they are looked at again", async || {
        (town.forge.count("GET", "/repos/acme/widgets") > before + 1).then_some(())
    })
    .await;
    assert!(town.count("SELECT max(attempts) FROM deliveries").await <= 1);
    let line = town.log().lines().find(|line| line.contains("\"listening\"")).unwrap().to_owned();
    let line: Value = serde_json::from_str(&line).unwrap();
    let ready = format!("http://{}/health/ready", line["address"].as_str().unwrap());
    let parts: Value = reqwest::get(&ready).await.unwrap().json().await.unwrap();
    assert_eq!(parts["parts"]["token"]["status"], "failed", "{parts}");
    assert!(town.log().lines().any(|line| line.contains("alarm") && line.contains("refuses the token")));
    town.forge.memory().clear_faults();
    town.settles().await;
    assert_eq!(town.work().await, ["look: done success"]);
    let parts: Value = reqwest::get(&ready).await.unwrap().json().await.unwrap();
    assert_eq!(parts["parts"]["token"]["status"], "ok", "{parts}");
}

/// Errors in the trusted configuration keep nothing from ending, and people are told; what would start waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_configuration_ends_what_is_past_answers_people_and_keeps_work_for_later() {
    let slow = "on: { command: { name: slow } }\nsteps: { work: { run: \"sleep 100\" } }\ndeliver: none\n";
    let town = town().workflow("slow", slow).workflow("check", &plain("{ pull_request: {} }")).start().await;
    let ann = town.person("ann");
    let change = ann.opens_change("topic", &[("a.txt", "1\n")]).await;
    ann.comments(change, "/codeforge slow").await;
    let running = town.job("it runs", |job| job.workflow == "slow" && job.state == "running").await;
    let good = format!("name: check\n{}", plain("{ pull_request: {} }"));
    ann.pushes("main", &[(".codeforge/workflows/check.yml", &good.replace("deliver: none", "deliver: nowhere"))]).await;
    // What it was about is over.
    ann.closes(change).await;
    town.job("it ends", |job| job.id == running.id && job.state == "cancelled").await;
    // People get one answer each, with the place.
    let next = ann.opens_change("next", &[("b.txt", "1\n")]).await;
    ann.comments(next, "/codeforge look").await;
    let help = ann.comments(next, "/codeforge help").await;
    town.person("eve").comments(next, "/codeforge look").await;
    let said = async || {
        let said = town.comments_of_ours(next);
        (said.len() == 2 && !town.comment(help).reactions.is_empty()).then_some(said)
    };
    let said = town.until("both are answered", said).await;
    assert!(
        said.iter().any(|it| it.body.contains("look was not carried out") && it.body.contains("check.yml:4:")),
        "{said:#?}"
    );
    assert!(said.iter().any(|it| it.body.contains("Nothing runs here") && it.body.contains("slow")), "{said:#?}");
    let waits = "SELECT count(*) FROM deliveries WHERE state = 'waiting' AND event = 'pull_request' AND note LIKE '%check.yml:4:%'";
    town.until("the change's own event waits", async || (town.count(waits).await > 0).then_some(())).await;
    assert!(!town.work().await.iter().any(|job| job.starts_with("look")), "{:?}", town.work().await);
    // Mended: what waited is decided.
    ann.pushes("main", &[(".codeforge/workflows/check.yml", &good)]).await;
    town.job("it is checked", |job| {
        job.workflow == "check" && job.change == i64::try_from(next).ok() && job.state == "done"
    })
    .await;
    assert_eq!(town.comments_of_ours(next).len(), 2, "{:#?}", town.comments_of_ours(next));
}

/// GitHub's comments at lines and reviews' own words give commands, asked for as others are, and are acknowledged where that
/// can be.
#[tokio::test(flavor = "multi_thread")]
async fn commands_at_lines_and_in_reviews_are_carried_out() {
    let town = town().workflow("any", &plain("{ issue_comment: { access: anyone } }")).start().await;
    let change = town.forge.open("ann", "topic", "Please.");
    let head = town.forge.commit_by("ann", "topic", "main", &[("a.txt", Some("1\n"))]);
    town.forge.keep_head(change, &head);
    let side = |branch: &str, sha: &str| json!({ "ref": branch, "sha": sha, "repo": { "id": 1, "full_name": "acme/widgets" } });
    let request = json!({ "number": change, "title": "A change", "body": "", "user": { "login": "ann" }, "labels": [],
        "head": side("topic", &head), "base": side("main", &town.forge.tip("main").unwrap()) });
    let body = |action: &str, key: &str, id: u64, who: &str, words: Value| {
        json!({ "action": action, "pull_request": request, "repository": { "full_name": "acme/widgets" },
            key: { "id": id, "body": words, "user": { "login": who } }, "sender": { "login": who, "type": "User" } })
    };
    let line = "pull_request_review_comment";
    for (id, event, body) in [
        ("1", line, body("created", "comment", 501, "ann", json!("/codeforge look"))),
        // Numbers of reviews are others than those of comments.
        ("2", "pull_request_review", body("submitted", "review", 501, "bob", json!("Nice.\n\n/codeforge look at it"))),
        ("3", line, body("created", "comment", 502, "eve", json!("/codeforge look"))),
        ("4", "pull_request_review", body("submitted", "review", 503, "ann", Value::Null)),
        ("5", line, body("deleted", "comment", 504, "ann", json!("/codeforge look"))),
        // Under another event's name it is nothing.
        ("6", "pull_request", body("opened", "comment", 505, "ann", json!("/codeforge look"))),
    ] {
        assert_eq!(tells(&town, id, event, &body).await, 202, "{id}");
    }
    let reacted = async || {
        let paths = town.forge.asked().into_iter().filter(|it| it.path.ends_with("/reactions") && it.method == "POST");
        let mut paths: Vec<String> = paths.map(|it| it.path.replace("/repos/acme/widgets/", "")).collect();
        paths.sort();
        (paths == [format!("issues/{change}/reactions"), "pulls/comments/501/reactions".to_owned()]).then_some(())
    };
    town.until("both are acknowledged", reacted).await;
    town.settles().await;
    let mut jobs: Vec<String> =
        town.jobs().await.into_iter().map(|job| format!("{} {} {}", job.workflow, job.actor, job.conclusion)).collect();
    jobs.sort();
    assert_eq!(jobs, ["look ann success", "look bob success"], "{:#?}", town.decided().await);
}

/// An issue or a change as its forge lists it.
fn listed(kind: ForgeKind, number: u64, who: &str, change: bool) -> Value {
    let mut wire = json!({ "number": number, "iid": number, "title": "Make it", "body": "A file, please.",
        "user": { "login": who, "type": "User" }, "author": { "username": who }, "created_at": LATER, "updated_at": LATER });
    wire["labels"] = match kind {
        ForgeKind::Gitlab => json!(["agent"]),
        _ => json!([{ "id": 1, "name": "agent" }]),
    };
    if change {
        wire["pull_request"] = json!({ "url": "https://forge.example" });
    }
    wire
}

/// A label that was set, as its forge lists it.
fn labelled(kind: ForgeKind, number: u64, who: &str, label: &str, change: bool) -> Value {
    let mut event = match kind {
        ForgeKind::Github => json!({ "event": "labeled", "actor": { "login": who, "type": "User" },
            "issue": listed(kind, number, who, change) }),
        ForgeKind::Gitlab => json!({ "action": "add", "user": { "username": who } }),
        _ => json!({ "type": "label", "body": "1", "user": { "login": who } }),
    };
    event["id"] = json!(number);
    event["about"] = json!(number);
    event["label"] = json!({ "id": 1, "name": label });
    event["created_at"] = json!(LATER);
    event
}

const LATER: &str = "2030-01-01T00:00:00Z";

/// What happened to issues and to changes with jobs while no webhook came is found, and by whom; a webhook that comes after
/// all does nothing twice.
#[tokio::test(flavor = "multi_thread")]
async fn reliability_6_labels_and_closes_that_no_webhook_told_are_found() {
    let slow = "on: { command: { name: slow } }\nsteps: { work: { run: \"sleep 100\" } }\ndeliver: none\n";
    for kind in [ForgeKind::Github, ForgeKind::Gitlab, ForgeKind::Gitea] {
        let town = Town::of(kind)
            .workflow("slow", slow)
            .workflow("build", &plain("{ issues: { types: [labeled], labels: [agent] } }"))
            .workflow("sort", &plain("{ issues: { types: [opened] } }"))
            .workflow("ready", &plain("{ pull_request: { types: [labeled], labels: [ready] } }"))
            .serve("sweep: 1s")
            .start()
            .await;
        let ann = town.person("ann");
        let swept = "SELECT count(*) FROM notes WHERE name LIKE 'swept/%'";
        town.until("a first sweep", async || (town.count(swept).await > 0).then_some(())).await;
        let closed = ann.opens_change("topic", &[("a.txt", "1\n")]).await;
        let change = ann.opens_change("other", &[("b.txt", "1\n")]).await;
        ann.comments(closed, "/codeforge slow").await;
        town.job("it runs", |job| job.workflow == "slow" && job.state == "running").await;
        town.hooks.hold();
        ann.closes(closed).await;
        ann.labels(change, "ready").await;
        let issue = ann.opens_issue("Make it", "A file, please.").await;
        ann.labels(issue, "agent").await;
        let strange = town.person("eve").opens_issue("Mine", "Please.").await;
        town.person("eve").labels(strange, "agent").await;
        {
            let mut memory = town.forge.memory();
            memory.listed = vec![listed(kind, issue, "ann", false), listed(kind, strange, "eve", false)];
            if kind != ForgeKind::Gitlab {
                memory.listed.push(listed(kind, change, "ann", true));
            }
            memory.events = vec![
                labelled(kind, change, "ann", "ready", true),
                labelled(kind, strange, "eve", "agent", false),
                labelled(kind, issue, "ann", "agent", false),
            ];
        }
        let found = async || {
            // The fake's clock is not ours.
            town.alters("UPDATE notes SET value = '0' WHERE name LIKE 'swept/%'", &[]).await;
            let mut work = town.work().await;
            work.sort();
            (work == ["build: done success", "ready: done success", "slow: cancelled", "sort: done success"])
                .then_some(())
        };
        town.until("all of it is found", found).await;
        town.hooks.release(7, 2).await;
        town.settles().await;
        let (jobs, decided) = (town.jobs().await, town.decided().await);
        assert_eq!(jobs.len(), 4, "{kind:?}: {jobs:#?}\n{decided:#?}");
    }
}
