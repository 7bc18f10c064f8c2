//! `codeforge ci`: events against workflows, whole jobs, and what they leave.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]
mod common;
#[path = "ci/gitea.rs"]
mod gitea;

use codeforge::adapter::ci;
use codeforge::model::ci::{CiJob, Home};
use codeforge::model::event::{Event, EventKind};
use codeforge::model::forge::ForgeKind;
use codeforge::trigger::{self, Decision, Facts};
use codeforge::workflow::{self, Source, schema::Library};
use common::forge_server::{ForgeServer, JOB_TOKEN, TOKEN};
use common::hub::{Clone, Hub, Job, clone_of, comment, on_github, pull_request, push};
use common::tls::TlsFront;
use common::{ModelServer, Reply, Rule};
use insta::assert_snapshot;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

const SHA: &str = "1111111111111111111111111111111111111111";
const BASE: &str = "2222222222222222222222222222222222222222";

fn library(workflows: &[(&str, &str)], config: &str) -> Library {
    let mut sources = workflow::builtin();
    for (name, on) in workflows {
        let text = format!(
            "name: {name}\non: {on}\ninputs:\n  task: {{ type: string, default: \"\" }}\n  depth: {{ type: number, default: 1 }}\nsteps: {{ work: {{ run: \"true\" }} }}\n"
        );
        sources.push(Source { path: format!(".codeforge/workflows/{name}.yml"), text, builtin: false });
    }
    sources.push(Source { path: ".codeforge/config.yml".into(), text: config.into(), builtin: false });
    let library = workflow::load(&sources, &|_| None);
    let errors: Vec<_> =
        library.diagnostics.iter().map(|it| it.message.clone()).filter(|it| !it.contains("wins")).collect();
    assert!(library.workflows.len() > workflows.len(), "{errors:?}");
    library
}

fn facts<'a>(changed: Option<&'a [String]>, fork: bool) -> Facts<'a> {
    const OURS: &[String] = &[];
    Facts { phrase: "/codeforge", allow_users: OURS, ours: OURS, changed, fork, now_ms: 0 }
}

/// One line a workflow: what comes of an event.
fn table(library: &Library, event: &Event, facts: &Facts<'_>) -> String {
    let decided = trigger::decide(library, event, facts);
    let own = decided.into_iter().filter(|(name, _)| !library.workflows[name].builtin);
    let lines = own.map(|(name, decision)| match decision {
        Decision::Run(start) => {
            let access = start.access.map(|it| format!(" if {} may {:?}", it.user, it.access)).unwrap_or_default();
            let inputs = if start.inputs.is_empty() { String::new() } else { format!(" {:?}", start.inputs) };
            format!("{name}: runs{inputs}{access}")
        }
        Decision::Skip(why) | Decision::Refuse(why) => format!("{name}: {why}"),
        Decision::NeedsChangedPaths => format!("{name}: which files?"),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// GitHub's environment with an event, and nothing on a disk but the payload.
fn github(name: &str, payload: &Value, more: &[(&str, &str)]) -> Result<CiJob, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("event.json"), payload.to_string()).unwrap();
    let mut env: BTreeMap<&str, &str> = [
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_EVENT_NAME", name),
        ("GITHUB_EVENT_PATH", "event.json"),
        ("GITHUB_REPOSITORY", "acme/widgets"),
        ("GITHUB_SERVER_URL", "https://github.com"),
        ("GITHUB_API_URL", "https://api.github.com"),
        ("GITHUB_SHA", BASE),
        ("GITHUB_REF", "refs/heads/main"),
        ("GITHUB_RUN_ID", "77"),
        ("GITHUB_RUN_ATTEMPT", "2"),
    ]
    .into();
    env.extend(more.iter().copied());
    ci::job(&|name| env.get(name).map(|value| (*value).to_owned()), folder.path()).map_err(|error| error.to_string())
}

fn gitlab(env: &[(&str, &str)]) -> Result<CiJob, String> {
    let mut all: BTreeMap<&str, &str> = [
        ("GITLAB_CI", "true"),
        ("CI_PROJECT_PATH", "acme/widgets"),
        ("CI_PROJECT_ID", "1"),
        ("CI_PROJECT_URL", "https://gitlab.example.com/acme/widgets"),
        ("CI_API_V4_URL", "https://gitlab.example.com/api/v4"),
        ("CI_SERVER_URL", "https://gitlab.example.com"),
        ("CI_DEFAULT_BRANCH", "main"),
        ("CI_COMMIT_SHA", SHA),
        ("CI_COMMIT_REF_NAME", "topic"),
        ("CI_PIPELINE_ID", "5"),
        ("GITLAB_USER_LOGIN", "ann"),
    ]
    .into();
    all.extend(env.iter().copied());
    ci::job(&|name| all.get(name).map(|value| (*value).to_owned()), Path::new("/")).map_err(|error| error.to_string())
}

const ALL: [(&str, &str); 9] = [
    (
        "changes",
        "{ pull_request: { types: [opened, synchronize], paths: [\"src/**\", \"!src/gen/**\"], branches: [main, \"release/*\"] } }",
    ),
    ("labelled", "{ pull_request: { types: [labeled], labels: [ai] }, issues: { types: [labeled], labels: [ai] } }"),
    ("pushes", "{ push: { branches: [main] } }"),
    ("releases", "{ push: { tags: [\"v*\"] } }"),
    ("nightly", "{ schedule: [{ cron: \"H 2 * * *\" }, { cron: \"0 5 * * mon\" }] }"),
    ("queue", "{ merge_group: {} }"),
    ("by_hand", "{ workflow_dispatch: {} }"),
    ("asked", "{ command: { name: mend, access: write } }"),
    ("hooked", "{ webhook: { event: deploy_failed } }"),
];

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

#[test]
fn forks_and_what_nobody_says() {
    let fork = |change: &dyn Fn(&mut Value)| {
        let mut payload = pull_request(7, "opened", SHA, BASE);
        change(&mut payload);
        github("pull_request_target", &payload, &[]).unwrap().fork
    };
    assert!(!fork(&|_| ()));
    assert!(fork(&|it| it["pull_request"]["head"]["repo"] = Value::Null));
    assert!(fork(&|it| it["pull_request"]["head"]["repo"] = json!({ "id": 2, "full_name": "acme/widgets" })));
    assert!(fork(&|it| it["pull_request"]["head"]["repo"] = json!({ "full_name": "eve/widgets" })));
    assert!(fork(&|it| it["pull_request"]["base"] = Value::Null));
    // GitLab: by the projects' numbers; in the fork's own pipeline its default branch is nobody's configuration.
    let request = [
        ("CI_PIPELINE_SOURCE", "merge_request_event"),
        ("CI_MERGE_REQUEST_IID", "7"),
        ("CI_MERGE_REQUEST_TITLE", "Draft: a change"),
        ("CI_MERGE_REQUEST_LABELS", "ai, bug"),
        ("CI_COMMIT_REF_NAME", "main"),
        ("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "main"),
        ("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main"),
        ("CI_MERGE_REQUEST_PROJECT_ID", "1"),
        ("CI_MERGE_REQUEST_PROJECT_PATH", "acme/widgets"),
        ("CI_MERGE_REQUEST_PROJECT_URL", "https://gitlab.example.com/acme/widgets"),
        ("CI_MERGE_REQUEST_DIFF_BASE_SHA", BASE),
    ];
    let with = |more: &[(&'static str, &'static str)]| gitlab(&[request.as_slice(), more].concat()).unwrap();
    let own = with(&[("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "1")]);
    let change = own.event.change.clone().unwrap();
    assert!(!own.fork && change.draft && change.labels == ["ai", "bug"]);
    assert_eq!((own.head.as_deref(), own.base.as_deref()), (Some(SHA), Some(BASE)));
    assert_eq!(change.url.as_deref(), Some("https://gitlab.example.com/acme/widgets/-/merge_requests/7"));
    assert_eq!(own.home, Home::Gitlab);
    assert_ne!(
        own.event.git_ref.as_deref(),
        Some("refs/heads/main"),
        "the source branch `main` is not the trusted one"
    );
    assert!(with(&[]).fork, "nobody says where it comes from");
    assert!(with(&[("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "2")]).fork);
    let theirs = with(&[("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "2"), ("CI_PROJECT_ID", "2")]);
    assert!(theirs.fork && theirs.default_branch.is_none());
    let train = with(&[("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "1"), ("CI_MERGE_REQUEST_EVENT_TYPE", "merge_train")]);
    assert_eq!(train.event.kind, EventKind::MergeGroup);
    assert!(gitlab(&[("CI_PIPELINE_SOURCE", "chat")]).unwrap_err().contains("`chat`"));
    assert!(gitlab(&[]).unwrap_err().contains("CI_PIPELINE_SOURCE"));
    assert!(github("watch", &json!({}), &[]).unwrap_err().contains("the event `watch`"));
    assert!(github("push", &json!([]), &[]).unwrap_err().contains("not a JSON object"));
    assert!(github("pull_request", &json!({}), &[]).unwrap_err().contains("`pull_request.number` is missing"));
}

/// Every value of a payload, one at a time, made something else.
fn mangled(payload: &Value, at: usize, with: &Value) -> Value {
    fn walk(value: &mut Value, left: &mut usize, with: &Value) -> bool {
        if *left == 0 {
            *value = with.clone();
            return true;
        }
        *left -= 1;
        match value {
            Value::Object(fields) => fields.values_mut().any(|value| walk(value, left, with)),
            Value::Array(items) => items.iter_mut().any(|value| walk(value, left, with)),
            _ => false,
        }
    }
    let mut payload = payload.clone();
    let mut left = at;
    walk(&mut payload, &mut left, with);
    payload
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    #[test]
    fn mangled_payloads_are_errors_or_events_and_never_less_of_a_fork(
        kind in 0usize..6, at in 0usize..60,
        with in prop_oneof![
            Just(Value::Null), Just(json!(-1)), Just(json!("")), Just(json!([])), Just(json!({})), Just(json!(1e300)),
            Just(json!("\u{0}\u{202e}::set-output name=x::y")), Just(json!(true)), "\\PC{0,40}".prop_map(Value::from),
        ],
    ) {
        let payloads = [
            ("pull_request", pull_request(7, "opened", SHA, BASE)),
            ("push", push("main", BASE, SHA)),
            ("issue_comment", comment("/codeforge mend it", "ann")),
            ("issues", comment("", "ann")),
            ("workflow_dispatch", json!({ "ref": "refs/heads/main", "inputs": { "task": "x" } })),
            ("merge_group", json!({ "merge_group": { "head_sha": SHA, "base_sha": BASE, "head_ref": "refs/heads/q" } })),
        ];
        let (name, payload) = &payloads[kind];
        let bent = mangled(payload, at, &with);
        let library = library(&ALL[..1], "{}");
        if let Ok(job) = github(name, &bent, &[]) {
            let _ = table(&library, &job.event, &facts(None, job.fork));
            let _ = trigger::key(&job.event, "w", None);
            let _ = job.event.value();
            if let Some(change) = &job.event.change {
                let repos = |side: &str| bent["pull_request"][side]["repo"].clone();
                prop_assert_eq!(job.fork, change.is_fork());
                if repos("head")["id"] != json!(1) && repos("head")["full_name"] != json!("acme/widgets") {
                    prop_assert!(job.fork, "{}", bent);
                }
            }
        }
        let payload = codeforge::adapter::ci::gitlab::payload::events(&bent);
        prop_assert!(payload.is_ok() || payload.is_err_and(|why| !why.to_string().is_empty()));
    }
}

const REVIEW: &str = r#"
name: look
on: { pull_request: {}, command: { name: look, access: write } }
policy: plan-readonly
steps:
  review:
    mode: reviewer
    prompt: "Review this.\n{{ event.change.title }}\n{{ event.change.diff }}"
    output: { schema: review }
deliver: none
"#;

fn verdict() -> Reply {
    let finding =
        json!({ "file": "src/a.txt", "line": 1, "severity": "high", "what": "It is two, not one. ::error::x" });
    Reply::call(
        "finish",
        json!({ "summary": "Looked.\n::set-output name=conclusion::pwned\nconclusion=pwned",
                "output": { "approved": false, "summary": "No.", "findings": [finding] } }),
    )
    .usage(1000, 100)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_review_in_one_step_leaves_outputs_and_reports_for_those_after_it() {
    let server = ModelServer::start(vec![
        Rule::when()
            .matches("the change and nothing else", |asked| {
                asked.user().contains("+two") && !asked.user().contains("only-in-base")
            })
            .reply(verdict()),
    ])
    .await;
    let hub = Hub::with(&[(".codeforge/workflows/look.yml", REVIEW), ("src/a.txt", "one\n")]);
    let base = hub.git(&["rev-parse", "main"]);
    let head = hub.commit("topic", &[("src/a.txt", "two\n")]);
    let base_now = hub.commit("main", &[("only-in-base", "x\n")]);
    hub.pull(7, &head, &base_now);
    let clone = hub.shallow("refs/pull/7/merge");
    let mut event = pull_request(7, "opened", &head, &base);
    event["pull_request"]["title"] = json!("Fine\n::stop-commands::x\n##[error]y\u{1b}[31m");
    let job = hub.job(&clone, "pull_request", &event).model(server.url());
    let ran = tokio::task::block_in_place(|| job.run());
    let ran = ran.ends(0, "success");
    server.finished();
    let outputs = ran.outputs();
    let keys: Vec<&String> = outputs.as_object().unwrap().keys().collect();
    assert_eq!(keys, codeforge::cli::ci::outputs::KEYS);
    assert!(outputs["final-message"].as_str().unwrap().contains("Looked."));
    assert!(outputs["structured-output"].as_str().unwrap().contains("\"approved\":false"));
    assert_eq!((&outputs["input-tokens"], &outputs["output-tokens"]), (&json!("1000"), &json!("100")));
    assert_eq!(outputs["total-cost-usd"], "0.001100");
    // What GitHub's runner reads: one value a key, whatever is in the values.
    let written = ran.runner("output");
    assert_eq!(written.matches("\nconclusion<<").count() + usize::from(written.starts_with("conclusion<<")), 1);
    assert!(ran.runner("summary").contains("look"), "{}", ran.runner("summary"));
    for report in ["summary.md", "results.sarif", "gl-code-quality-report.json", "junit.xml", "account.json"] {
        assert!(!ran.report(report).is_empty(), "{report}");
    }
    assert!(ran.report("results.sarif").contains("src/a.txt"));
    // Nobody's words are a runner's command.
    for line in ran.printed().lines().chain(ran.said().lines()) {
        assert!(!line.contains('\u{1b}') && !line.contains("##["), "{line:?}");
        if let Some(command) = line.trim_start().strip_prefix("::") {
            let name: String = command.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
            assert!(["group", "endgroup", "error", "warning", "notice"].contains(&name.as_str()), "{line:?}");
        }
    }
    assert!(!ran.said().contains("set-output"), "{}", ran.said());
}

const MEND: &str = r#"
name: mend
on: { command: { name: mend, access: write }, pull_request: {}, issues: { types: [opened] } }
inputs: { task: { type: string, required: true } }
policy: lax
steps:
  work: { run: "printf '%s' \"$INPUT_TASK\" > said.txt" }
deliver: { as: pull_request, title: "Mended" }
"#;
const OPEN: &str =
    "name: lax\nrules:\n  - { tool: \"*\", decision: allow }\ndefault: allow\nlimits: { max_cost_usd: 1 }\n";

/// A forge with the workflow, and a job in a shallow clone of it.
async fn at_a_forge(kind: ForgeKind) -> ForgeServer {
    ForgeServer::with(
        kind,
        &[(".codeforge/workflows/mend.yml", MEND), (".codeforge/policies/lax.yml", OPEN), ("src/a.txt", "one\n")],
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_runs_only_for_those_whom_the_forge_clearly_names() {
    let forge = at_a_forge(ForgeKind::Github).await;
    let clone = clone_of(&forge, "refs/heads/main");
    let command = comment("/codeforge mend the parser", "ann");
    for (role, code, conclusion) in
        [(None, 4, "denied"), (Some("triage"), 4, "denied"), (Some("read"), 4, "denied"), (Some("write"), 0, "success")]
    {
        if let Some(role) = role {
            forge.memory().members.insert("ann".into(), role.into());
        }
        let job = on_github(&forge, &clone, "issue_comment", &command);
        let ran = tokio::task::block_in_place(|| job.run()).ends(code, conclusion);
        if code == 4 {
            ran.says(&["`ann` may not start `mend`", "`write` access"]);
            assert!(forge.memory().changes.is_empty(), "{role:?}: nothing is written");
            continue;
        }
        let outputs = ran.outputs();
        let branch = outputs["branch-name"].as_str().unwrap();
        assert_eq!(forge.file(branch, "said.txt").as_deref(), Some("the parser"));
        let change = forge.memory().changes[0].clone();
        assert!(change.draft && change.title == "Mended" && change.base == "main", "{change:?}");
        assert!(change.body.contains("the parser") && change.body.contains("ann"), "{}", change.body);
        assert!(outputs["pull-request-url"].as_str().unwrap().ends_with(&change.number.to_string()), "{outputs}");
        // A rerun of the same event: the same branch, the same change.
        let again = tokio::task::block_in_place(|| job.env("GITHUB_RUN_ATTEMPT", "2").run()).ends(0, "success");
        assert_eq!(again.outputs()["branch-name"], branch);
        assert_eq!(forge.memory().changes.len(), 1);
    }
    // Without a token nobody can be asked.
    let job = on_github(&forge, &clone, "issue_comment", &command).without("CODEFORGE_FORGE_TOKEN");
    tokio::task::block_in_place(|| job.run()).ends(4, "denied").says(&["nobody can be asked", "CODEFORGE_FORGE_TOKEN"]);
    // A comment without a command is no news.
    let job = on_github(&forge, &clone, "issue_comment", &comment("> /codeforge mend x", "eve"));
    tokio::task::block_in_place(|| job.run()).ends(0, "skipped");
}

const AGAIN: &str = r#"
name: look
on: { pull_request: {} }
policy: plan-readonly
steps:
  review:
    mode: reviewer
    prompt: "SINCE[{{ event.change.since }}] EARLIER[{{ event.change.earlier }}]\n{{ event.change.diff }}"
    output: { schema: review }
deliver: review
"#;
const FIX: &str = r#"
name: fix
on: { command: { name: fix, access: write } }
inputs: { task: { type: string, required: true } }
policy: lax
steps:
  work: { mode: coder, prompt: "TASK {{ inputs.task }} KNOWN {{ event.change.earlier }}" }
deliver: { as: pull_request, title: "Repaired" }
"#;

/// A review that found these: file, line.
fn found(places: &[(&str, u64)]) -> Reply {
    let finding = |(file, line): &(&str, u64)| json!({ "file": file, "line": line, "severity": "high", "what": format!("{file} is wrong.") });
    let list: Vec<Value> = places.iter().map(finding).collect();
    let output = json!({ "approved": list.is_empty(), "summary": "So.", "findings": list });
    Reply::call("finish", json!({ "summary": "Looked.", "output": output })).usage(1000, 0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_review_starts_where_the_first_one_ended_and_fix_knows_what_they_found() {
    let forge = ForgeServer::with(
        ForgeKind::Github,
        &[
            (".codeforge/workflows/look.yml", AGAIN),
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
    assert_eq!(common::ok(common::git().args(bare)).trim(), "Forgebot <bot@acme.example>");
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
    common::ok(common::git().arg("--git-dir").arg(&bare).args(["update-ref", "-d", "refs/heads/topic"]));
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trust_1_one_step_refuses_forks_and_writes_nothing() {
    let forge = at_a_forge(ForgeKind::Github).await;
    forge.memory().members.insert("ann".into(), "write".into());
    let head = forge.commit_by("eve", "topic", "main", &[("src/a.txt", Some("two\n"))]);
    let number = forge.open("eve", "topic", "Please.");
    forge.memory().changes[0].fork = true;
    let clone = clone_of(&forge, "refs/heads/main");
    let base = forge.tip("main").unwrap();
    let mut from_fork = pull_request(number, "opened", &head, &base);
    from_fork["pull_request"]["head"]["repo"] = json!({ "id": 2, "full_name": "eve/widgets" });
    let mut of_nobody = from_fork.clone();
    of_nobody["pull_request"]["head"]["repo"] = Value::Null;
    for payload in [&from_fork, &of_nobody] {
        let job = on_github(&forge, &clone, "pull_request_target", payload);
        let ran = tokio::task::block_in_place(|| job.run()).ends(4, "denied");
        ran.says(&["comes from a fork", "`phase: agent`", "`phase: gate`", "`phase: deliver`"]);
    }
    // By a command: first one that names no commit, then one that does, which only the phases carry out.
    let asked = |body: &str| {
        let mut payload = comment(body, "ann");
        payload["issue"]["number"] = json!(number);
        payload["issue"]["pull_request"] = json!({});
        let job = on_github(&forge, &clone, "issue_comment", &payload);
        tokio::task::block_in_place(|| job.run())
    };
    asked("/codeforge mend it").ends(0, "skipped").says(&[&format!("sha={head}")]);
    asked(&format!("/codeforge mend sha={head} it")).ends(4, "denied").says(&["comes from a fork"]);
    // A question of GitHub's second API is asked by POST, too.
    let writes = |asked: &&common::forge_server::Asked| {
        asked.method != "GET" && (!asked.path.ends_with("/graphql") || asked.body.to_string().contains("mutation"))
    };
    let written: Vec<String> =
        forge.asked().iter().filter(writes).map(|asked| format!("{} {}", asked.method, asked.path)).collect();
    let written: Vec<&String> = written.iter().filter(|it| !it.ends_with("git-upload-pack")).collect();
    assert!(written.is_empty(), "{written:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gitlab_delivers_a_merge_request() {
    let forge = at_a_forge(ForgeKind::Gitlab).await;
    let clone = clone_of(&forge, "refs/heads/main");
    let job = on_gitlab(&forge, &clone).env("CODEFORGE_FORGE_TOKEN", TOKEN).env("CODEFORGE_WORKFLOW", "mend");
    let job = job.env("CODEFORGE_PROMPT", "the parser");
    let ran = tokio::task::block_in_place(|| job.run()).ends(0, "success");
    assert_eq!(forge.memory().changes.len(), 1);
    let env = ran.report("outputs.env");
    assert!(
        env.contains("CODEFORGE_BRANCH_NAME=codeforge/mend/") && env.contains("CODEFORGE_CONCLUSION=success\n"),
        "{env}"
    );
    assert_eq!(clone.git(&["status", "--porcelain"]), "");
}

/// A job of a pipeline that somebody started by hand, without a token of ours.
fn on_gitlab<'a>(forge: &ForgeServer, clone: &'a Clone) -> Job<'a> {
    let url = forge.git_url();
    Job::bare(clone)
        .env("GITLAB_CI", "true")
        .env("CI_PIPELINE_SOURCE", "web")
        .env("CI_PROJECT_PATH", "acme/widgets")
        .env("CI_PROJECT_ID", "1")
        .env("CI_PROJECT_URL", url.trim_end_matches(".git"))
        .env("CI_API_V4_URL", &forge.api())
        .env("CI_DEFAULT_BRANCH", "main")
        .env("CI_COMMIT_SHA", &clone.git(&["rev-parse", "HEAD"]))
        .env("CI_COMMIT_REF_NAME", "main")
        .env("CI_PIPELINE_ID", "5")
        .env("GITLAB_USER_LOGIN", "ann")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gitlab_jobs_own_token_delivers_nothing_and_that_is_said_before_it_costs_anything() {
    let asks = "name: ask\non: { workflow_dispatch: {} }\npolicy: lax\nsteps:\n  work: { mode: coder, prompt: \"Mend it\" }\n\
                deliver: { as: pull_request, title: Mended }\n";
    let files = [(".codeforge/workflows/ask.yml", asks), (".codeforge/policies/lax.yml", OPEN), ("src/a.txt", "one\n")];
    let forge = ForgeServer::with(ForgeKind::Gitlab, &files).await;
    let clone = clone_of(&forge, "refs/heads/main");
    let model = ModelServer::start(Vec::new()).await;
    let job =
        || on_gitlab(&forge, &clone).model(model.url()).env("CI_JOB_TOKEN", JOB_TOKEN).env("CODEFORGE_WORKFLOW", "ask");
    // The one that every job has, left where it is or given as ours; one that says itself what it is.
    for token in ["", JOB_TOKEN, "glcbt-64_aaaaaaaaaaaaaaaaaaaa"] {
        let job = if token.starts_with("glcbt-") { job().env("CI_JOB_TOKEN", token) } else { job() };
        let job = job.env("CODEFORGE_FORGE_TOKEN", token);
        let ran = tokio::task::block_in_place(|| job.run()).ends(2, "misconfigured");
        let parts = ["`ask` was not started", "CI_JOB_TOKEN", "project or group access token", "codeforge serve"];
        let ran = ran.says(&parts);
        assert!(!ran.said().contains(JOB_TOKEN), "{}", ran.said());
    }
    assert!(model.asked().is_empty(), "nothing was asked of the model");
    assert!(forge.asked().iter().all(|asked| asked.method == "GET") && forge.memory().changes.is_empty());
    // What stays here needs no token.
    let job = job().env("CODEFORGE_DELIVERY", "patch").env("CODEFORGE_DRY_RUN", "true");
    tokio::task::block_in_place(|| job.run()).ends(0, "success");
}

#[test]
fn settings_are_read_and_mistakes_name_the_variable() {
    let hub = Hub::with(&[
        (
            ".codeforge/workflows/mend.yml",
            &MEND.replace("deliver: { as: pull_request, title: \"Mended\" }", "deliver: patch"),
        ),
        (".codeforge/policies/lax.yml", OPEN),
        ("src/a.txt", "one\n"),
        ("ask.md", "from a file"),
    ]);
    let clone = hub.whole("refs/heads/main");
    let after = hub.git(&["rev-parse", "main"]);
    let job = || hub.job(&clone, "push", &push("main", BASE, &after)).env("CODEFORGE_WORKFLOW", "mend");
    for (name, value, says) in [
        ("PHASE", "every", "it takes all, agent, gate or deliver"),
        ("SANDBOX", "chroot", "it takes auto, docker, native or none"),
        ("MAX_COST_USD", "much", "it takes an amount of US dollars"),
        ("DELIVERY", "email", "it takes none, patch"),
        ("ON_UNAVAILABLE", "ignore", "it takes fail or neutral"),
        ("TRIGGER_PHRASE", "/code forge", "a word without spaces"),
        ("BRANCH_PREFIX", "../x", "ends with `/`"),
        ("INPUTS", "[a, b]", "not a map"),
        ("INPUTS", "task: { a: b }", "`task` is"),
        ("INPUTS", "task: x\ntask: y", "CODEFORGE_INPUTS: line 2"),
        ("INPUTS", "no_such: x", "no input `no_such`"),
        ("WORKFLOW", "no-such", "no workflow `no-such`"),
        ("POLICY", "no-such", "no policy `no-such`"),
        ("PROMPT_FILE", "../event.json", "CODEFORGE_PROMPT_FILE"),
        ("PROMPT_FILE", "/etc/passwd", "not in the workspace"),
        ("PROMPT_FILE", ".git/config", "not in the workspace"),
    ] {
        let ran = job().env("CODEFORGE_PROMPT", if name == "PROMPT_FILE" { "" } else { "x" });
        ran.env(&format!("CODEFORGE_{name}"), value).run().ends(2, "misconfigured").says(&[says]);
    }
    let said = |job: Job<'_>| job.run().ends(0, "success").report("change.patch");
    assert!(said(job().env("CODEFORGE_PROMPT", "from a variable")).contains("+from a variable"));
    assert!(said(job().env("CODEFORGE_PROMPT_FILE", "ask.md")).contains("+from a file"));
    let odd = "task: \"$(touch /tmp/pwned) `id` ${{ x }} ::error::\"\n";
    assert!(said(job().env("CODEFORGE_INPUTS", odd)).contains("+$(touch /tmp/pwned) `id` ${{ x }} ::error::"));
    // Another policy: its rules, and the stricter of both limits.
    let ran = job().env("CODEFORGE_PROMPT", "x").env("CODEFORGE_POLICY", "plan-readonly").run();
    ran.ends(4, "denied").says(&["under the policy `plan-readonly`"]);
    // Looking costs nothing and leaves no run.
    let ran = job().env("CODEFORGE_PROMPT", "x").env("CODEFORGE_DRY_RUN", "true").run().ends(0, "success");
    assert!(ran.printed().contains("mend"), "{}", ran.printed());
    assert_eq!(ran.outputs()["run-id"], "");
    // A configuration with errors decides nothing, and no file of the folder is asked instead.
    hub.commit("main", &[(".codeforge/workflows/broken.yml", "name: broken\nstep: {}\n")]);
    let clone = hub.whole("refs/heads/main");
    let after = hub.git(&["rev-parse", "main"]);
    let job = hub.job(&clone, "push", &push("main", BASE, &after)).env("CODEFORGE_WORKFLOW", "mend");
    job.env("CODEFORGE_PROMPT", "x").run().ends(2, "misconfigured").says(&["broken.yml", "`main` has"]);
    let bare = hub.job(&clone, "push", &push("main", BASE, &after)).without("GITHUB_EVENT_PATH");
    bare.run().says(&["GITHUB_EVENT_PATH is not set"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_cannot_be_reached_is_5_or_neutral() {
    let hub = Hub::with(&[
        (".codeforge/workflows/look.yml", &REVIEW.replace("pull_request: {}", "push: {}")),
        ("src/a.txt", "one\n"),
    ]);
    let clone = hub.shallow("refs/heads/main");
    let after = hub.git(&["rev-parse", "main"]);
    let job = || hub.job(&clone, "push", &push("main", &after, &after)).model("http://127.0.0.1:9/v1");
    let run = |job: Job<'_>| tokio::task::block_in_place(|| job.run());
    run(job()).ends(5, "unavailable");
    run(job().env("CODEFORGE_ON_UNAVAILABLE", "neutral")).ends(0, "neutral").says(&["NEUTRAL"]);
    hub.commit("main", &[(".codeforge/config.yml", "ci: { on_unavailable: neutral }\n")]);
    let after = hub.git(&["rev-parse", "main"]);
    let clone = hub.shallow("refs/heads/main");
    let job = || hub.job(&clone, "push", &push("main", &after, &after)).model("http://127.0.0.1:9/v1");
    run(job()).ends(0, "neutral");
    run(job().env("CODEFORGE_ON_UNAVAILABLE", "fail")).ends(5, "unavailable");
}

/// A company's proxy: it makes tunnels, and remembers where to.
struct Proxy {
    url: String,
    seen: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    async fn start() -> Self {
        use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
        use tokio::net::{TcpListener, TcpStream};
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let noted = std::sync::Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let noted = std::sync::Arc::clone(&noted);
                tokio::spawn(async move {
                    let mut socket = BufReader::new(socket);
                    let mut first = String::new();
                    socket.read_line(&mut first).await.unwrap();
                    let mut line = String::new();
                    while socket.read_line(&mut line).await.unwrap() > 2 {
                        line.clear();
                    }
                    let Some(place) = first.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()) else {
                        let _ = socket.write_all(b"HTTP/1.1 405 Only CONNECT\r\ncontent-length: 0\r\n\r\n").await;
                        return;
                    };
                    noted.lock().unwrap().push(place.to_owned());
                    let mut to = TcpStream::connect(place).await.unwrap();
                    socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                    let _ = copy_bidirectional(&mut socket, &mut to).await;
                });
            }
        });
        Self { url, seen, task }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_companys_proxy_and_ca_everything_is_reached() {
    let server = ModelServer::start(vec![Rule::when().reply(verdict()).times(2)]).await;
    let forge =
        ForgeServer::with(ForgeKind::Github, &[(".codeforge/workflows/look.yml", REVIEW), ("src/a.txt", "one\n")])
            .await;
    forge.memory().members.insert("ann".into(), "write".into());
    let clone = clone_of(&forge, "refs/heads/main");
    let (model, api) = (TlsFront::of(server.url()).await, TlsFront::of(&forge.api()).await);
    let proxy = Proxy::start().await;
    let place = |front: &TlsFront| front.url().replace("https://", "").replace("/v1", "");
    // Two certificates that nobody has heard of, in one file.
    let bundle = clone.aside().join("ca.pem");
    let read = |front: &TlsFront| std::fs::read_to_string(front.certificate()).unwrap();
    std::fs::write(&bundle, format!("{}\n{}", read(&model), read(&api))).unwrap();
    let server_url = api.url().replace("/v1", "");
    let command = comment("/codeforge look", "ann");
    let job = || {
        on_github(&forge, &clone, "issue_comment", &command)
            .model(&model.url())
            .env("GITHUB_SERVER_URL", &server_url)
            .env("GITHUB_API_URL", &server_url)
            // A rerun: the trusted branch is fetched.
            .env("GITHUB_RUN_ATTEMPT", "2")
            .env("HTTPS_PROXY", &proxy.url)
            .env("CODEFORGE_EXTRA_CA", bundle.to_str().unwrap())
    };
    let run = |job: Job<'_>| tokio::task::block_in_place(|| job.run());
    run(job()).ends(0, "success");
    let seen = proxy.seen.lock().unwrap().clone();
    assert!(seen.contains(&place(&model)), "the model is asked through the proxy: {seen:?}");
    assert!(seen.iter().filter(|it| **it == place(&api)).count() >= 2, "so are the forge's API and git: {seen:?}");
    // What NO_PROXY names is reached directly.
    proxy.seen.lock().unwrap().clear();
    run(job().env("NO_PROXY", "127.0.0.1")).ends(0, "success");
    assert!(proxy.seen.lock().unwrap().is_empty());
    // Without the CA nothing is trusted, and a file that is none is said.
    run(job().without("CODEFORGE_EXTRA_CA")).ends(5, "unavailable").says(&["certificate"]);
    std::fs::write(&bundle, "no certificate\n").unwrap();
    run(job()).says(&["certificate"]);
    run(job().env("CODEFORGE_EXTRA_CA", "/no/such.pem")).says(&["CODEFORGE_EXTRA_CA", "/no/such.pem"]);
    server.finished();
}
