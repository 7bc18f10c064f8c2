//! What a payload says and what it leaves out: forks, and values that are not what they should be.

use crate::common::hub::{comment, pull_request, push};
use crate::told::{ALL, BASE, SHA, facts, github, gitlab, library, table};
use codeforge::model::ci::Home;
use codeforge::model::event::EventKind;
use codeforge::trigger;
use proptest::prelude::*;
use serde_json::{Value, json};

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
