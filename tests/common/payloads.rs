//! What forges send: published samples of webhooks, with the headers that they come with.

use super::{cached, clean, ok};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A sample.
#[derive(Debug, Clone)]
pub struct Sample {
    /// `issue_comment.0`, or its file's name.
    pub name: String,
    /// As the server knows it: `github`, `gitlab`, `gitea`.
    pub source: &'static str,
    /// The event's name, as the header has it.
    pub event: String,
    /// What came.
    pub payload: Value,
}

impl Sample {
    /// The body as it is signed and sent.
    pub fn body(&self) -> Vec<u8> {
        self.payload.to_string().into_bytes()
    }
}

/// GitHub's, as `scripts/setup` fetched them: 58 events, 329 payloads.
pub fn github() -> Vec<Sample> {
    let package = cached("fixtures/trees/octokit-webhooks-examples-7.6.1.tgz");
    let folder = tempfile::tempdir().unwrap();
    ok(clean("tar").arg("-xzf").arg(&package).arg("-C").arg(folder.path()));
    let index = std::fs::read(folder.path().join("package/api.github.com/index.json")).unwrap();
    let events: Vec<Value> = serde_json::from_slice(&index).unwrap();
    let samples = events.iter().flat_map(|event| {
        let name = event["name"].as_str().unwrap();
        let examples = event["examples"].as_array().unwrap();
        examples.iter().enumerate().map(move |(place, payload)| Sample {
            name: format!("{name}.{place}"),
            source: "github",
            event: name.to_owned(),
            payload: payload.clone(),
        })
    });
    samples.collect()
}

/// GitLab's own.
pub fn gitlab() -> Vec<Sample> {
    let hook = |payload: &Value| {
        let kind = payload["object_kind"].as_str().or(payload["event_name"].as_str()).unwrap_or("system").to_owned();
        let words = kind.split('_').map(|word| word[..1].to_uppercase() + &word[1..]);
        format!("{} Hook", words.collect::<Vec<_>>().join(" "))
    };
    folder("gitlab", |_, payload| hook(payload))
}

/// Gitea's own.
pub fn gitea() -> Vec<Sample> {
    folder("gitea", |name, _| match name {
        "issues" | "issue-assign" | "issue-label" | "issue-milestone" => "issues".to_owned(),
        "issue-comment" | "pull-request-comment" => "issue_comment".to_owned(),
        "pull-request-review" => "pull_request_approved".to_owned(),
        name if name.starts_with("pull-request") => "pull_request".to_owned(),
        name => name.replace('-', "_"),
    })
}

fn folder(source: &'static str, event: impl Fn(&str, &Value) -> String) -> Vec<Sample> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/webhooks").join(source);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let samples = files.iter().map(|file| {
        let stem = file.file_stem().unwrap().to_str().unwrap();
        let name = stem.strip_suffix("-event").unwrap_or(stem).to_owned();
        let payload: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        Sample { event: event(&name, &payload), name, source, payload }
    });
    samples.collect()
}
