//! Jobs of Gitea's and Forgejo's Actions: GitHub's variables, an API and words of their own.

use crate::common::forge_server::ForgeServer;
use crate::common::hub::{Clone, Job, clone_of, comment, on_github, pull_request, push};
use crate::common::payloads::{self, Sample};
use crate::steps::{MEND, OPEN};
use crate::told::{ALL, BASE, SHA, facts, github, library, table};
use codeforge::model::ci::{CiJob, Home};
use codeforge::model::forge::ForgeKind;
use serde_json::{Value, json};

/// The environment of a job there, as the runner makes it: the server's address ends with a slash and may have a path.
fn gitea(name: &str, payload: &Value, more: &[(&str, &str)]) -> Result<CiJob, String> {
    let usual = [
        ("GITEA_ACTIONS", "true"),
        ("GITHUB_SERVER_URL", "https://git.example.com/lab/"),
        ("GITHUB_API_URL", ""),
        ("GITHUB_RUN_NUMBER", "12"),
        ("GITHUB_RUN_ATTEMPT", ""),
    ];
    github(name, payload, &[&usual, more].concat())
}

fn sample(name: &str) -> Sample {
    payloads::gitea().into_iter().find(|sample| sample.name == name).unwrap()
}

#[test]
fn a_job_of_gitea_is_read_in_its_own_words() {
    let library = library(&ALL, "{}");
    let runs = |job: &CiJob| {
        let said = table(&library, &job.event, &facts(Some(&["src/a.rs".to_owned()]), job.fork));
        let runs =
            said.lines().filter_map(|line| Some(line.split_once(": runs")?).filter(|(_, how)| !how.starts_with(" on")));
        runs.map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
    };
    // Where it is: from the server's address where the runner does not say where the API is.
    let pushed = gitea("push", &push("main", BASE, SHA), &[]).unwrap();
    assert_eq!(
        (pushed.home, pushed.forge, runs(&pushed)),
        (Home::Github, Some(ForgeKind::Gitea), vec!["pushes".to_owned()])
    );
    assert_eq!(pushed.api_url.as_deref(), Some("https://git.example.com/lab/api/v1"));
    assert_eq!(pushed.git_url.as_deref(), Some("https://git.example.com/lab/acme/widgets.git"));
    assert_eq!(pushed.run_url.as_deref(), Some("https://git.example.com/lab/acme/widgets/actions/runs/12"));
    assert_eq!((pushed.head.as_deref(), pushed.attempt), (Some(SHA), 1));
    let told =
        [("GITHUB_API_URL", "https://git.example.com/lab/api/v1/"), ("FORGEJO_ACTIONS", "true"), ("GITEA_ACTIONS", "")];
    let forgejo = gitea("push", &push("main", BASE, SHA), &told).unwrap();
    assert_eq!((forgejo.forge, forgejo.api_url.as_deref()), (Some(ForgeKind::Gitea), Some(told[0].1)));

    // Its words for what happened to a change; a fork is one there, too.
    let mut payload = pull_request(7, "synchronized", SHA, BASE);
    let moved = gitea("pull_request", &payload, &[]).unwrap();
    assert_eq!((moved.event.action.as_deref(), moved.fork), (Some("synchronize"), false));
    assert_eq!((moved.head.as_deref(), moved.head_ref.as_deref()), (Some(SHA), Some("refs/pull/7/head")));
    assert_eq!(runs(&moved), ["changes"]);
    payload["pull_request"]["head"]["repo"]["id"] = json!(2);
    payload["pull_request"]["head"]["repo"]["full_name"] = json!("eve/widgets");
    assert!(gitea("pull_request_target", &payload, &[]).unwrap().fork);
    // A change is a draft by its title, an account a program by its name.
    let mut draft = pull_request(7, "opened", SHA, BASE);
    draft["pull_request"]["title"] = json!("WIP: a change");
    draft["sender"] = json!({ "login": "gitea-actions" });
    let draft = gitea("pull_request", &draft, &[]).unwrap();
    assert!(draft.event.change.unwrap().draft && draft.event.actor_is_bot);

    // A comment on a change says where its head is, unless it is an older version that sends it.
    let mut said = comment("/codeforge mend it", "ann");
    said["is_pull"] = json!(true);
    let older = gitea("issue_comment", &said, &[]).unwrap();
    assert_eq!((older.head, older.gaps.len(), older.fork), (None, 1, true));
    assert!(older.gaps[0].starts_with("Gitea "), "{:?}", older.gaps);
    said["pull_request"] = pull_request(3, "", SHA, BASE)["pull_request"].clone();
    let newer = gitea("issue_comment", &said, &[]).unwrap();
    assert_eq!((newer.head.as_deref(), newer.base.as_deref(), newer.fork), (Some(SHA), Some(BASE), false));
    assert!(newer.gaps.is_empty(), "{:?}", newer.gaps);
    // A called workflow's job is not told what its event is called.
    for (name, payload) in [("issue_comment", &said), ("pull_request", &payload), ("push", &push("main", BASE, SHA))] {
        let called = gitea("workflow_call", payload, &[]).unwrap();
        assert_eq!(called.event, gitea(name, payload, &[]).unwrap().event, "{name}");
    }
    let dispatch = json!({ "ref": "refs/heads/main", "inputs": { "task": "Do it" }, "workflow": "x.yml" });
    assert_eq!(runs(&gitea("workflow_dispatch", &dispatch, &[]).unwrap()), ["by_hand"]);
    assert_eq!(runs(&gitea("schedule", &json!({ "action": "schedule" }), &[]).unwrap()), ["nightly"]);

    // Several labels at once are one event there: each counts.
    let label = |name: &str| json!({ "name": name });
    let mut labelled = pull_request(7, "label_updated", SHA, BASE);
    labelled["changes"] = json!({ "added_labels": [label("bug"), label("ai")] });
    let job = gitea("pull_request", &labelled, &[]).unwrap();
    assert_eq!((job.event.label.as_deref(), job.also.len()), (Some("bug"), 1));
    assert_eq!((job.also[0].label.as_deref(), job.also[0].repository.as_deref()), (Some("ai"), Some("acme/widgets")));

    // What it publishes of its events is read, whoever sent them.
    for name in ["pull-request", "issues", "issue-comment", "pull-request-comment", "push"] {
        let Sample { event, payload, .. } = sample(name);
        let job = gitea(&event, &payload, &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(job.event.actor.is_some() && job.event.repository.as_deref() == Some("acme/widgets"), "{name}");
    }
    let star = gitea("star", &json!({ "action": "created" }), &[]).unwrap_err();
    assert!(star.contains("Gitea runs this for the event `star`"), "{star}");
}

fn job<'a>(forge: &ForgeServer, clone: &'a Clone, name: &str, payload: &Value) -> Job<'a> {
    let server = forge.git_url().replace("acme/widgets.git", "");
    on_github(forge, clone, name, payload)
        .env("GITEA_ACTIONS", "true")
        .env("GITHUB_SERVER_URL", &server)
        .env("GITHUB_RUN_NUMBER", "12")
        .without("GITHUB_API_URL")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_of_gitea_asks_and_delivers_at_its_own_api() {
    let files =
        [(".codeforge/workflows/mend.yml", MEND), (".codeforge/policies/lax.yml", OPEN), ("src/a.txt", "one\n")];
    let forge = ForgeServer::below("/lab", ForgeKind::Gitea, &files).await;
    let clone = clone_of(&forge, "refs/heads/main");
    let command = comment("/codeforge mend the parser", "ann");
    let run = |job: Job<'_>| tokio::task::block_in_place(|| job.run());
    // Nobody clearly says that she may.
    run(job(&forge, &clone, "issue_comment", &command)).ends(4, "denied").says(&["`ann` may not start `mend`"]);
    forge.memory().members.insert("ann".into(), "write".into());
    let ran = run(job(&forge, &clone, "issue_comment", &command)).ends(0, "success").says(&["Gitea: issue_comment"]);
    let outputs = ran.outputs();
    let branch = outputs["branch-name"].as_str().unwrap();
    assert_eq!(forge.file(branch, "said.txt").as_deref(), Some("the parser"));
    let change = forge.memory().changes[0].clone();
    assert!(change.draft && change.title == "WIP: Mended" && change.base == "main", "{change:?}");
    assert!(outputs["pull-request-url"].as_str().unwrap().ends_with(&format!("/pulls/{}", change.number)), "{outputs}");
    assert!(!change.body.contains("Checks do not start"), "{}", change.body);
    // A rerun finds it.
    run(job(&forge, &clone, "issue_comment", &command).env("GITHUB_RUN_ATTEMPT", "2")).ends(0, "success");
    assert_eq!(forge.memory().changes.len(), 1);

    // With the job's own token, which starts no other job: said where people look.
    forge.memory().acts_as = Some("gitea-actions".into());
    let mut other = command.clone();
    other["comment"]["id"] = json!(10);
    other["issue"]["number"] = json!(4);
    run(job(&forge, &clone, "issue_comment", &other)).ends(0, "success");
    let body = forge.memory().changes[1].body.clone();
    assert!(body.contains("Checks do not start by themselves") && body.contains("CODEFORGE_FORGE_TOKEN"), "{body}");

    // A rule that keeps our branches away is met before anything is done.
    forge.memory().protections = vec![json!({ "rule_name": "codeforge/*/*", "enable_push": false })];
    other["comment"]["id"] = json!(11);
    other["issue"]["number"] = json!(5);
    let ran = run(job(&forge, &clone, "issue_comment", &other)).ends(4, "denied");
    ran.says(&["`mend` was not started", "such a branch may not be pushed to", "CODEFORGE_BRANCH_PREFIX"]);
    assert_eq!(forge.memory().changes.len(), 2);
}

const LABELLED: &str = r#"
name: labelled
on: { issues: { types: [labeled], labels: [ai] } }
policy: lax
steps:
  work: { run: "true" }
deliver: none
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_several_labels_that_gitea_tells_of_at_once_is_enough() {
    let files = [(".codeforge/workflows/labelled.yml", LABELLED), (".codeforge/policies/lax.yml", OPEN)];
    let forge = ForgeServer::with(ForgeKind::Gitea, &files).await;
    forge.memory().members.insert("ann".into(), "write".into());
    let clone = clone_of(&forge, "refs/heads/main");
    let label = |name: &str| json!({ "name": name });
    let mut payload = comment("", "ann");
    payload.as_object_mut().unwrap().remove("comment");
    payload["action"] = json!("label_updated");
    let run = |payload: &Value| tokio::task::block_in_place(|| job(&forge, &clone, "issues", payload).run());
    for (labels, conclusion) in [(vec!["bug", "ai", "urgent"], "success"), (vec!["bug", "urgent"], "skipped")] {
        let labels: Vec<Value> = labels.into_iter().map(label).collect();
        payload["changes"] = json!({ "added_labels": labels });
        run(&payload).ends(0, conclusion);
    }
    // What was opened with a label was labelled, too.
    (payload["action"], payload["issue"]["labels"]) = (json!("opened"), json!([label("ai")]));
    run(&payload).ends(0, "success").says(&["labeled"]);
}
