//! Events against workflows: what runs, what is left alone, who may ask.

use crate::common::hub::{comment, pull_request, push};
use crate::told::{ALL, BASE, SHA, facts, github, gitlab, library, table};
use codeforge::model::event::Event;
use codeforge::trigger::{self, Decision, Facts};
use insta::assert_snapshot;
use serde_json::{Value, json};

#[test]
fn events_against_workflows() {
    let library = library(&ALL, "{}");
    let paths = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
    let opened = github("pull_request", &pull_request(7, "opened", SHA, BASE), &[]).unwrap();
    assert!(!opened.fork);
    assert_eq!((opened.head.as_deref(), opened.base.as_deref(), opened.attempt), (Some(SHA), Some(BASE), 2));
    assert_eq!(opened.run_url.as_deref(), Some("https://github.com/acme/widgets/actions/runs/77"));
    assert_snapshot!(table(&library, &opened.event, &facts(None, false)), @r#"
    asked: runs on the command mend; this is pull_request
    by_hand: runs on workflow_dispatch; this is pull_request
    changes: which files?
    hooked: runs on webhook; this is pull_request
    labelled: only when it was labeled; it was opened
    nightly: runs on schedule; this is pull_request
    pushes: runs on push; this is pull_request
    queue: runs on merge_group; this is pull_request
    releases: runs on push; this is pull_request
    "#);
    let docs = paths(&["docs/a.md", "src/gen/x.rs"]);
    assert_snapshot!(table(&library, &opened.event, &facts(Some(&docs), false)), @r#"
    asked: runs on the command mend; this is pull_request
    by_hand: runs on workflow_dispatch; this is pull_request
    changes: only when a file under src/**, !src/gen/** changes; changed: docs/a.md, src/gen/x.rs
    hooked: runs on webhook; this is pull_request
    labelled: only when it was labeled; it was opened
    nightly: runs on schedule; this is pull_request
    pushes: runs on push; this is pull_request
    queue: runs on merge_group; this is pull_request
    releases: runs on push; this is pull_request
    "#);
    let source = paths(&["docs/a.md", "src/x.rs"]);
    assert!(table(&library, &opened.event, &facts(Some(&source), false)).contains("changes: runs"));

    let mut labelled = pull_request(7, "labeled", SHA, BASE);
    labelled["label"] = json!({ "name": "ai" });
    let labelled = github("pull_request", &labelled, &[]).unwrap();
    assert_snapshot!(table(&library, &labelled.event, &facts(None, false)), @r#"
    asked: runs on the command mend; this is pull_request
    by_hand: runs on workflow_dispatch; this is pull_request
    changes: only when it was opened, synchronize; it was labeled
    hooked: runs on webhook; this is pull_request
    labelled: runs
    nightly: runs on schedule; this is pull_request
    pushes: runs on push; this is pull_request
    queue: runs on merge_group; this is pull_request
    releases: runs on push; this is pull_request
    "#);

    let main = github("push", &push("main", BASE, SHA), &[]).unwrap();
    assert_snapshot!(table(&library, &main.event, &facts(None, false)), @r#"
    asked: runs on the command mend; this is push
    by_hand: runs on workflow_dispatch; this is push
    changes: runs on pull_request; this is push
    hooked: runs on webhook; this is push
    labelled: runs on pull_request and issues; this is push
    nightly: runs on schedule; this is push
    pushes: runs
    queue: runs on merge_group; this is push
    releases: only for tags v*; this is the branch main
    "#);
    let mut tag = push("main", BASE, SHA);
    tag["ref"] = json!("refs/tags/v1.2");
    let tag = github("push", &tag, &[]).unwrap();
    assert_snapshot!(table(&library, &tag.event, &facts(None, false)), @r#"
    asked: runs on the command mend; this is push
    by_hand: runs on workflow_dispatch; this is push
    changes: runs on pull_request; this is push
    hooked: runs on webhook; this is push
    labelled: runs on pull_request and issues; this is push
    nightly: runs on schedule; this is push
    pushes: only for branches main; this is the tag v1.2
    queue: runs on merge_group; this is push
    releases: runs
    "#);

    // `H` is the repository's own minute: what `init` wrote into the pipeline is what comes back.
    let own = trigger::cron::settled("H 2 * * *", &trigger::cron::seed("acme/widgets", "nightly"));
    for (cron, runs) in [(own.as_str(), true), ("H 2 * * *", true), ("0 5 * * MON", true), ("0 6 * * *", false)] {
        let due = github("schedule", &json!({ "schedule": cron }), &[]).unwrap();
        let said = table(&library, &due.event, &facts(None, false));
        assert_eq!(said.contains("nightly: runs\n"), runs, "{cron}: {said}");
        assert_eq!(due.head.as_deref(), Some(BASE));
    }
    let due = gitlab(&[("CI_PIPELINE_SOURCE", "schedule")]).unwrap();
    assert!(table(&library, &due.event, &facts(None, false)).contains("nightly: runs\n"));

    let dispatch =
        json!({ "ref": "refs/heads/main", "inputs": { "task": "Do it", "depth": 3, "workflow": "x", "other": null } });
    let by_hand = github("workflow_dispatch", &dispatch, &[]).unwrap();
    assert_snapshot!(table(&library, &by_hand.event, &facts(None, false)), @r#"
    asked: runs on the command mend; this is workflow_dispatch
    by_hand: runs {"depth": "3", "task": "Do it"}
    changes: runs on pull_request; this is workflow_dispatch
    hooked: runs on webhook; this is workflow_dispatch
    labelled: runs on pull_request and issues; this is workflow_dispatch
    nightly: runs on schedule; this is workflow_dispatch
    pushes: runs on push; this is workflow_dispatch
    queue: runs on merge_group; this is workflow_dispatch
    releases: runs on push; this is workflow_dispatch
    "#);
    let hook = json!({ "action": "deploy_failed", "client_payload": { "why": "quota" } });
    let hook = github("repository_dispatch", &hook, &[]).unwrap();
    assert!(table(&library, &hook.event, &facts(None, false)).contains("hooked: runs"));
    let group = json!({ "merge_group": { "head_sha": SHA, "base_sha": BASE, "head_ref": "refs/heads/gh-readonly-queue/main/x" } });
    let group = github("merge_group", &group, &[]).unwrap();
    assert!(table(&library, &group.event, &facts(None, false)).contains("queue: runs"));

    let asked = github("issue_comment", &comment("Please:\n/codeforge mend depth=2 the parser", "ann"), &[]).unwrap();
    assert_snapshot!(table(&library, &asked.event, &facts(None, false)), @r#"
    asked: runs {"depth": "2", "task": "the parser"} if ann may Write
    by_hand: runs on workflow_dispatch; this is issue_comment
    changes: runs on pull_request; this is issue_comment
    hooked: runs on webhook; this is issue_comment
    labelled: runs on pull_request and issues; this is issue_comment
    nightly: runs on schedule; this is issue_comment
    pushes: runs on push; this is issue_comment
    queue: runs on merge_group; this is issue_comment
    releases: runs on push; this is issue_comment
    "#);
}

#[test]
fn what_is_left_alone() {
    let on = [("review", "{ pull_request: {} }"), ("sort", "{ issues: {}, issue_comment: {} }")];
    let library = library(&on, "delivery: { ignore: { drafts: true, labels: [no-bot] } }\n");
    let mut draft = pull_request(7, "opened", SHA, BASE);
    draft["pull_request"]["draft"] = json!(true);
    let said = |payload: &Value, name: &str, ours: &[String]| {
        let job = github(name, payload, &[]).unwrap();
        table(&library, &job.event, &Facts { ours, ..facts(None, false) })
    };
    assert!(said(&draft, "pull_request", &[]).contains("review: the change is a draft"));
    let mut labelled = pull_request(7, "opened", SHA, BASE);
    labelled["pull_request"]["labels"] = json!([{ "name": "no-bot" }]);
    assert!(said(&labelled, "pull_request", &[]).contains("`no-bot`"));
    let ours = ["codeforge[bot]".to_owned()];
    let mut own = pull_request(7, "synchronize", SHA, BASE);
    own["sender"] = json!({ "login": "CodeForge[bot]", "type": "Bot" });
    assert!(said(&own, "pull_request", &ours).contains("our own account"));
    let mut bot = comment("hello", "dependabot[bot]");
    assert!(said(&bot, "issue_comment", &[]).contains("sort: `dependabot[bot]` is a program"));
    bot["sender"] = json!({ "login": "ann" });
    bot["comment"]["body"] = json!("<!-- codeforge:review -->\n/codeforge sort");
    assert!(said(&bot, "issue_comment", &[]).contains("sort: the comment is one of ours"));
}

#[test]
fn who_may_give_commands() {
    let library = library(&ALL, "{}");
    let asked = |payload: &Value, facts: &Facts<'_>| {
        let job = github("issue_comment", payload, &[]).unwrap();
        let said = table(&library, &job.event, facts);
        said.lines().find_map(|line| line.strip_prefix("asked: ")).unwrap().to_owned()
    };
    let plain = facts(None, false);
    let command = comment("/codeforge mend it", "ann");
    assert_eq!(asked(&command, &plain), r#"runs {"task": "it"} if ann may Write"#);
    let friends = ["Ann".to_owned()];
    assert_eq!(asked(&command, &Facts { allow_users: &friends, ..plain }), r#"runs {"task": "it"}"#);
    // Nobody, a program, somebody else's comment, a deleted one, one of which nobody knows whether it is new.
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut payload = command.clone();
        change(&mut payload);
        asked(&payload, &plain)
    };
    assert!(changed(&|it| it["sender"] = Value::Null).contains("nobody says who wrote"));
    assert!(changed(&|it| it["sender"]["type"] = json!("Bot")).contains("is a program"));
    assert!(changed(&|it| it["comment"]["user"]["login"] = json!("eve")).contains("is `eve`'s"));
    assert!(changed(&|it| it["action"] = json!("deleted")).contains("only new ones"));
    assert!(changed(&|it| it["action"] = Value::Null).contains("nobody says whether"));
    assert!(changed(&|it| it["comment"]["body"] = json!("/codeforge mend secret=1")).contains("the input `secret`"));
    assert!(changed(&|it| it["comment"]["body"] = json!("/codeforge tidy")).contains("the comment says `tidy`"));
    // An edit runs what is new in it, and only its author's.
    let edited = |before: Option<&str>, now: &str, author: &str| {
        changed(&|it| {
            it["action"] = json!("edited");
            it["comment"]["body"] = json!(now);
            it["comment"]["user"]["login"] = json!(author);
            it["changes"] = json!({ "body": { "from": before } });
        })
    };
    assert!(edited(Some("hello"), "hello\n/codeforge mend now", "ann").starts_with("runs"));
    assert!(edited(Some("/codeforge mend now"), "/codeforge mend now\nthanks", "ann").contains("no line"));
    assert!(edited(Some("/codeforge mend now"), "/codeforge mend now\n/codeforge mend now", "ann").starts_with("runs"));
    assert!(edited(Some("hello"), "/codeforge mend now", "eve").contains("not known to be theirs"));
    assert!(edited(None, "/codeforge mend now", "ann").contains("what the comment was before"));
    // On a fork's change a command names the commit that was looked at, and friends are nobody there.
    let on_fork = |body: &str| {
        let mut payload = comment(body, "ann");
        payload["issue"]["pull_request"] = json!({});
        let mut job = github("issue_comment", &payload, &[]).unwrap();
        assert!(job.fork && job.head.is_none(), "a comment does not say where the head is");
        if let Some(change) = &mut job.event.change {
            change.head.sha = Some(SHA.to_owned());
        }
        let facts = Facts { allow_users: &friends, ..facts(None, true) };
        let said = table(&library, &job.event, &facts);
        said.lines().find_map(|line| line.strip_prefix("asked: ")).unwrap().to_owned()
    };
    assert!(on_fork("/codeforge mend it").contains(&format!("`/codeforge mend sha={SHA}`")));
    assert!(on_fork(&format!("/codeforge mend sha={BASE} it")).contains("names its commit"));
    assert!(on_fork(&format!("/codeforge mend sha={} it", &SHA[..10])).contains("names its commit"));
    assert_eq!(on_fork(&format!("/codeforge mend sha={SHA} it")), r#"runs {"task": "it"} if ann may Write"#);
}

#[test]
fn a_named_workflow_runs_whatever_it_waits_for_but_no_comment_starts_one_by_its_name() {
    let library = library(&ALL, "{}");
    let named = |name: &str, event: &Event, changed: Option<&[String]>| {
        trigger::decide_named(&library, name, event, &facts(changed, false)).unwrap()
    };
    let pull = github("pull_request", &pull_request(7, "opened", SHA, BASE), &[]).unwrap().event;
    assert!(matches!(named("pushes", &pull, None), Decision::Run(_)));
    assert!(matches!(named("review", &pull, None), Decision::Run(_)), "shipped ones too");
    assert!(matches!(named("changes", &pull, None), Decision::NeedsChangedPaths), "its own filters hold");
    assert!(matches!(named("changes", &pull, Some(&[])), Decision::Skip(_)));
    let said = github("issue_comment", &comment("hello", "ann"), &[]).unwrap().event;
    assert!(matches!(named("pushes", &said, None), Decision::Skip(_)));
    let issue = json!({ "action": "opened", "issue": { "number": 3, "title": "It breaks", "body": "On Mondays." },
                        "sender": { "login": "eve" } });
    let issue = github("issues", &issue, &[]).unwrap().event;
    let Decision::Run(start) = named("implement", &issue, None) else { panic!("it is named") };
    assert_eq!(start.access.unwrap().user, "eve", "whoever opens an issue is asked for");
    assert_eq!(start.inputs["task"], "It breaks\n\nOn Mondays.");
    assert_eq!(trigger::decide_named(&library, "no-such", &pull, &facts(None, false)), None);
}

#[test]
fn the_same_event_has_the_same_key() {
    let of = |name: &str, payload: &Value, run: &str| {
        let job = github(name, payload, &[("GITHUB_RUN_ID", run)]).unwrap();
        trigger::key(&job.event, "w", job.run.as_deref())
    };
    let pull = pull_request(7, "opened", SHA, BASE);
    assert_eq!(of("pull_request", &pull, "1"), of("pull_request", &pull, "2"));
    assert_ne!(of("pull_request", &pull, "1"), of("pull_request", &pull_request(7, "opened", BASE, SHA), "1"));
    assert_ne!(of("pull_request", &pull, "1"), of("pull_request", &pull_request(8, "opened", SHA, BASE), "1"));
    let tick = json!({ "schedule": "0 2 * * *" });
    assert_eq!(of("schedule", &tick, "1"), of("schedule", &tick, "1"), "a rerun");
    assert_ne!(of("schedule", &tick, "1"), of("schedule", &tick, "2"), "another night");
    let event = github("pull_request", &pull, &[]).unwrap().event;
    assert_ne!(trigger::key(&event, "w", None), trigger::key(&event, "v", None));
}
