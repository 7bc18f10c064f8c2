//! What forges send → what is decided: all of GitHub's published payloads, GitLab's and Gitea's own, whole and broken.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use codeforge::adapter::ci::webhook;
use codeforge::model::event::{Change, Event};
use codeforge::port::ci::{Payload, PayloadError};
use codeforge::trigger::{self, Decision, Facts};
use codeforge::workflow::{self, Source, schema::Library};
use common::payloads::{self, Sample};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::LazyLock;

/// A configuration that listens to everything.
fn all_ears() -> Library {
    let listening = [
        ("pulls", "{ pull_request: {} }"),
        ("pushes", "{ push: {} }"),
        ("issues", "{ issues: {} }"),
        ("labels", "{ issues: { types: [labeled] }, pull_request: { types: [labeled] } }"),
        ("talk", "{ issue_comment: {} }"),
        ("mend", "{ command: { name: mend, access: write } }"),
        ("nightly", "{ schedule: [{ cron: \"0 2 * * *\" }] }"),
        ("queue", "{ merge_group: {} }"),
        ("by_hand", "{ workflow_dispatch: {} }"),
        ("hook", "{ webhook: { event: on-demand-test } }"),
    ];
    let mut sources: Vec<Source> = Vec::new();
    for (name, on) in listening {
        let text = format!("name: {name}\non: {on}\nsteps: {{ work: {{ run: \"true\" }} }}\n");
        sources.push(Source { path: format!(".codeforge/workflows/{name}.yml"), text, builtin: false });
    }
    let library = workflow::load(&sources, &|_| None);
    assert_eq!(library.workflows.len(), listening.len(), "{:?}", library.diagnostics);
    library
}

fn decided(library: &Library, event: &Event) -> String {
    let none: &[String] = &[];
    let fork = event.change.as_ref().is_some_and(Change::is_fork);
    let facts = Facts { phrase: "/codeforge", allow_users: none, ours: none, changed: Some(none), fork, now_ms: 0 };
    let runs = trigger::decide(library, event, &facts).into_iter().filter_map(|(name, decision)| match decision {
        Decision::Run(start) => Some(match start.access {
            Some(access) => format!("{name} if {} may {:?}", access.user, access.access),
            None => name,
        }),
        _ => None,
    });
    let runs: Vec<String> = runs.collect();
    if runs.is_empty() { "nothing".to_owned() } else { runs.join(", ") }
}

/// One event in a line: what, who, about what, and what runs.
fn line(library: &Library, event: &Event) -> String {
    let of = |sha: &Option<String>| sha.as_deref().map_or("?", |sha| &sha[..7]).to_owned();
    let mut words = vec![event.kind.as_str().to_owned()];
    words.extend(event.action.clone());
    words.extend(event.label.as_ref().map(|label| format!("`{label}`")));
    if let Some(change) = &event.change {
        let fork = if change.is_fork() { "fork" } else { "own" };
        words.push(format!("!{} {fork} {}→{}", change.number, of(&change.head.sha), change.base.branch));
    }
    words.extend(event.issue.as_ref().map(|issue| format!("#{}", issue.number)));
    if let Some(push) = &event.push {
        words.push(format!("{} {}..{}", event.git_ref.clone().unwrap(), of(&push.before), of(&push.after)));
    }
    words.extend(event.webhook.as_ref().map(|hook| format!("`{}`", hook.event)));
    let bot = if event.actor_is_bot { " (a program)" } else { "" };
    let actor = event.actor.as_deref().unwrap_or("nobody");
    format!(
        "{} by {actor}{bot} in {} → {}",
        words.join(" "),
        event.repository.as_deref().unwrap_or("?"),
        decided(library, event)
    )
}

fn lines(samples: &[Sample]) -> String {
    let library = all_ears();
    let lines = samples.iter().map(|sample| match webhook(sample.source, &sample.event, &sample.body()) {
        Ok(all) => {
            assert!(!all.is_empty(), "{}", sample.name);
            let all: Vec<String> = all.iter().map(|read| line(&library, &read.event)).collect();
            format!("{}: {}", sample.name, all.join("; "))
        }
        Err(PayloadError::Unknown(_)) => format!("{}: -", sample.name),
        Err(PayloadError::Broken(why)) => format!("{}: broken: {why}", sample.name),
    });
    lines.collect::<Vec<_>>().join("\n")
}

macro_rules! snapshot {
    ($name:literal, $text:expr) => {
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!($name, $text);
        });
    };
}

#[test]
fn each_of_githubs_payloads_is_decided_about() {
    let samples = payloads::github();
    let events: std::collections::BTreeSet<&str> = samples.iter().map(|sample| sample.event.as_str()).collect();
    assert_eq!((samples.len(), events.len()), (329, 58));
    snapshot!("payloads_github", lines(&samples));
}

#[test]
fn each_of_gitlabs_and_giteas_payloads_is_decided_about() {
    snapshot!("payloads_gitlab", lines(&payloads::gitlab()));
    snapshot!("payloads_gitea", lines(&payloads::gitea()));
}

fn read(source: &str, name: &str, payload: &Value) -> Result<Vec<Payload>, PayloadError> {
    webhook(source, name, payload.to_string().as_bytes())
}

/// The samples that start something.
static KNOWN: LazyLock<Vec<Sample>> = LazyLock::new(|| {
    let all = payloads::github().into_iter().chain(payloads::gitlab()).chain(payloads::gitea());
    all.filter(|sample| webhook(sample.source, &sample.event, &sample.body()).is_ok()).collect()
});

/// Paths of all values in a payload.
fn paths(value: &Value, at: &str, found: &mut Vec<String>) {
    let under: Vec<(String, &Value)> = match value {
        Value::Object(map) => {
            map.iter().map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value)).collect()
        }
        Value::Array(list) => list.iter().enumerate().map(|(place, value)| (place.to_string(), value)).collect(),
        _ => return,
    };
    for (key, value) in under {
        let path = format!("{at}/{key}");
        paths(value, &path, found);
        found.push(path);
    }
}

/// A value that has no business being there.
fn odd(which: usize) -> Value {
    match which % 9 {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(1.5e300),
        4 => json!(u64::MAX),
        5 => json!([[], {}]),
        6 => json!({ "login": 7, "id": "7" }),
        7 => json!("\u{202e}\u{0}é".repeat(100_000)),
        _ => (0..100).fold(json!(1), |deep, _| json!([deep])),
    }
}

fn broken(payload: &Value, cuts: &[(usize, usize, bool)]) -> Value {
    let mut payload = payload.clone();
    for (place, which, drop) in cuts {
        let mut all = Vec::new();
        paths(&payload, "", &mut all);
        let Some(path) = all.get(place % all.len().max(1)) else { continue };
        let (over, key) = path.rsplit_once('/').unwrap();
        let key = key.replace("~1", "/").replace("~0", "~");
        match payload.pointer_mut(over).unwrap() {
            Value::Object(map) if *drop => drop_key(map, &key),
            Value::Object(map) => drop_in(map, key, odd(*which)),
            Value::Array(list) => list[key.parse::<usize>().unwrap()] = odd(*which),
            _ => {}
        }
    }
    payload
}

fn drop_key(map: &mut serde_json::Map<String, Value>, key: &str) {
    map.shift_remove(key);
}

fn drop_in(map: &mut serde_json::Map<String, Value>, key: String, value: Value) {
    map.insert(key, value);
}

fn forks(all: &[Payload]) -> bool {
    all.iter().filter_map(|read| read.event.change.as_ref()).all(Change::is_fork)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    /// Keys dropped, types swapped, huge and deep values: it is read, or refused in words; and what is a fork's, or not
    /// known, never becomes our own.
    #[test]
    fn a_broken_payload_breaks_nothing(
        sample in any::<prop::sample::Index>(),
        cuts in prop::collection::vec((any::<usize>(), any::<usize>(), any::<bool>()), 1..6),
    ) {
        let sample = sample.get(&KNOWN);
        let whole = read(sample.source, &sample.event, &sample.payload).unwrap();
        let payload = broken(&sample.payload, &cuts);
        match read(sample.source, &sample.event, &payload) {
            Ok(all) => {
                let library = &*EARS;
                for read in &all {
                    decided(library, &read.event);
                    trigger::key(&read.event, "w", None);
                }
                if forks(&whole) {
                    prop_assert!(forks(&all), "{} with {cuts:?}", sample.name);
                }
            }
            Err(error) => prop_assert!(error.to_string().len() < 1000, "{error}"),
        }
    }

    /// Not even JSON.
    #[test]
    fn bytes_that_are_no_payload_are_refused(
        sample in any::<prop::sample::Index>(), cut in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let sample = sample.get(&KNOWN);
        let mut body = sample.body();
        body.truncate(cut.index(body.len()));
        let refused = matches!(webhook(sample.source, &sample.event, &body), Err(PayloadError::Broken(_)));
        prop_assert!(refused, "{} bytes of {}", body.len(), sample.name);
        body.push(byte);
        let _ = webhook(sample.source, &sample.event, &body);
    }
}

static EARS: LazyLock<Library> = LazyLock::new(all_ears);

#[test]
fn a_change_whose_head_nobody_places_is_a_forks() {
    let mut looked = 0;
    for sample in KNOWN.iter() {
        let whole = read(sample.source, &sample.event, &sample.payload).unwrap();
        let root = match (sample.source, sample.payload.get("pull_request"), sample.payload.get("merge_request")) {
            ("gitlab", _, Some(_)) => "/merge_request",
            ("gitlab", ..) => "/object_attributes",
            (_, Some(_), _) => "/pull_request",
            _ => continue,
        };
        if whole.iter().all(|read| read.event.change.as_ref().is_none_or(Change::is_fork)) {
            continue;
        }
        let sides: &[&[&str]] = match sample.source {
            "gitlab" => &[&["source_project_id", "source"], &["target_project_id", "target"]],
            _ => &[&["head/repo"], &["base/repo"], &["head"], &["base"]],
        };
        for side in sides {
            for which in 0..9 {
                let mut payload = sample.payload.clone();
                for key in *side {
                    *payload.pointer_mut(&format!("{root}/{key}")).unwrap() = odd(which);
                }
                // Where nothing of it can be read any more it starts nothing.
                let all = read(sample.source, &sample.event, &payload).unwrap_or_default();
                assert!(forks(&all), "{} with {side:?} as {}", sample.name, odd(which).to_string().len());
                looked += 1;
            }
        }
    }
    assert!(looked > 500, "{looked}");
}

#[test]
fn a_body_under_another_events_name_and_what_only_a_runner_is_told_start_nothing() {
    let comment = KNOWN.iter().find(|sample| sample.source == "github" && sample.event == "issue_comment").unwrap();
    for name in
        ["issues", "pull_request", "push", "merge_group", "schedule", "workflow_dispatch", "pull_request_target"]
    {
        assert!(read("github", name, &comment.payload).is_err(), "{name}");
    }
    for (source, name) in [("elsewhere", "push"), ("hook:", "x"), ("", "push")] {
        assert!(matches!(read(source, name, &json!({})), Err(PayloadError::Unknown(_))), "{source}");
    }
    let deep = "[".repeat(2 << 20);
    for source in ["github", "gitlab", "gitea", "sweep", "hook:deploy"] {
        assert!(matches!(webhook(source, "push", deep.as_bytes()), Err(PayloadError::Broken(_))), "{source}");
    }
}

#[test]
fn labels_that_come_together_are_one_event_each() {
    let said = |source: &str, name: &str, payload: &Value| {
        let all = read(source, name, payload).unwrap();
        let words = all
            .iter()
            .map(|it| format!("{} {}", it.event.action.clone().unwrap(), it.event.label.clone().unwrap_or_default()));
        words.collect::<Vec<_>>()
    };
    let label = |title: &str| json!({ "title": title, "name": title });
    let gitlab = |action: &str, before: &[&str], now: &[&str]| {
        let list = |titles: &[&str]| titles.iter().map(|title| label(title)).collect::<Vec<_>>();
        json!({ "object_kind": "issue", "object_attributes": { "iid": 3, "action": action, "labels": list(now) },
                "changes": { "labels": { "previous": list(before), "current": list(now) } } })
    };
    assert_eq!(said("gitlab", "", &gitlab("update", &["a"], &["b", "c"])), ["labeled b", "labeled c", "unlabeled a"]);
    assert_eq!(said("gitlab", "", &gitlab("update", &["a"], &["a"])), ["edited "]);
    assert_eq!(said("gitlab", "", &gitlab("open", &[], &["a"])), ["opened ", "labeled a"]);
    let gitea = |action: &str, changes: Value| json!({ "action": action, "changes": changes, "issue": { "number": 3, "labels": [label("a")] } });
    let both = json!({ "added_labels": [label("b")], "removed_labels": [label("c")] });
    assert_eq!(said("gitea", "issues", &gitea("label_updated", both)), ["labeled b", "unlabeled c"]);
    assert_eq!(said("gitea", "issue_label", &gitea("label_updated", Value::Null)), ["labeled "]);
    assert_eq!(said("gitea", "issues", &gitea("opened", Value::Null)), ["opened ", "labeled a"]);
}
