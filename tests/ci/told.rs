//! What a forge tells a job in its environment, and what workflows make of it.

use codeforge::adapter::ci;
use codeforge::model::ci::CiJob;
use codeforge::model::event::Event;
use codeforge::trigger::{self, Decision, Facts};
use codeforge::workflow::{self, Source, schema::Library};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

pub const SHA: &str = "1111111111111111111111111111111111111111";
pub const BASE: &str = "2222222222222222222222222222222222222222";

pub fn library(workflows: &[(&str, &str)], config: &str) -> Library {
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

pub fn facts<'a>(changed: Option<&'a [String]>, fork: bool) -> Facts<'a> {
    const OURS: &[String] = &[];
    Facts { phrase: "/codeforge", allow_users: OURS, ours: OURS, changed, fork, now_ms: 0 }
}

/// One line a workflow: what comes of an event.
pub fn table(library: &Library, event: &Event, facts: &Facts<'_>) -> String {
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
pub fn github(name: &str, payload: &Value, more: &[(&str, &str)]) -> Result<CiJob, String> {
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

pub fn gitlab(env: &[(&str, &str)]) -> Result<CiJob, String> {
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

pub const ALL: [(&str, &str); 9] = [
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
