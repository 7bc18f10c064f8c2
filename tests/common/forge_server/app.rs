//! A GitHub App as GitHub sees it: who signs, what it may, what was minted; and check runs, which only Apps make.

use super::{Call, Memory, Said, not_found};
use crate::common::{TestRepo, ok};
use axum::body::Bytes;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::process::Command;

/// An App that the forge knows.
#[derive(Debug)]
pub struct FakeApp {
    pub id: String,
    pub installation: u64,
    folder: tempfile::TempDir,
    /// Tokens that are good, and what each was minted for.
    minted: Vec<(String, Value)>,
    /// How many were minted.
    pub count: usize,
    /// Permissions that whoever installed it did not grant.
    pub withheld: Vec<&'static str>,
}

/// A check run.
#[derive(Debug, Clone)]
pub struct FakeCheck {
    pub id: u64,
    pub commit: String,
    pub name: String,
    pub external_id: String,
    pub status: String,
    pub conclusion: Option<String>,
    pub title: String,
    pub annotations: Vec<Value>,
}

fn openssl(arguments: &[&str]) -> Command {
    #[expect(clippy::disallowed_methods, reason = "keys are made and used as people do it")]
    let mut command = Command::new("openssl");
    command.args(arguments);
    command
}

impl FakeApp {
    /// With a key of its own, in the form that GitHub hands out.
    pub fn new(id: &str, installation: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        ok(openssl(&["genrsa", "-traditional", "-out"]).arg(folder.path().join("key.pem")).arg("2048"));
        Self { id: id.into(), installation, folder, minted: Vec::new(), count: 0, withheld: Vec::new() }
    }

    pub fn key(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("key.pem")).unwrap()
    }

    /// All tokens end now.
    pub fn expire(&mut self) {
        self.minted.clear();
    }

    pub fn tokens(&self) -> Vec<String> {
        self.minted.iter().map(|(token, _)| token.clone()).collect()
    }

    /// What the newest token was minted for.
    pub fn asked(&self) -> Value {
        self.minted.last().map(|(_, asked)| asked.clone()).unwrap_or_default()
    }

    pub fn knows(&self, token: &str) -> bool {
        self.minted.iter().any(|(known, _)| known == token)
    }

    /// The claims of a JWT that this App signed.
    fn claims(&self, jwt: &str) -> Option<Value> {
        let (signed, signature) = jwt.rsplit_once('.')?;
        let (head, claims) = signed.split_once('.')?;
        let read = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
        if read(head)?["alg"] != "RS256" {
            return None;
        }
        // This kind of signature has one value for each text and key: openssl's is ours.
        let folder = TestRepo::empty();
        let text = folder.path().join("signed");
        std::fs::write(&text, signed).unwrap();
        let mut sign = openssl(&["dgst", "-sha256", "-sign"]);
        let output = sign.arg(self.folder.path().join("key.pem")).arg(text).output().unwrap();
        (URL_SAFE_NO_PAD.encode(output.stdout) == signature).then(|| read(claims))?
    }
}

/// What an App asks for with its JWT.
pub(super) fn handle(memory: &mut Memory, method: &str, path: &str, jwt: &str, body: &Bytes) -> Said {
    let Some(app) = &mut memory.app else { return not_found() };
    let refused = |why: &str| (401, json!({ "message": why }));
    let Some(claims) = app.claims(jwt) else { return refused("A JSON web token could not be decoded") };
    let (Some(from), Some(until)) = (claims["iat"].as_i64(), claims["exp"].as_i64()) else {
        return refused("Missing 'issued at' or 'expiration time' claim");
    };
    if until - from > 600 || claims["iss"] != json!(app.id) {
        return refused("'Expiration time' claim ('exp') is too far in the future, or the issuer is unknown");
    }
    if method == "GET" && path == "/repos/acme/widgets/installation" {
        let all = ["checks", "contents", "issues", "pull_requests", "statuses"].into_iter();
        let granted = all.filter(|name| !app.withheld.contains(name)).map(|name| (name.to_owned(), json!("write")));
        let granted: serde_json::Map<String, Value> = granted.chain([("metadata".to_owned(), json!("read"))]).collect();
        return (200, json!({ "id": app.installation, "permissions": granted }));
    }
    if method != "POST" || path != format!("/app/installations/{}/access_tokens", app.installation) {
        return not_found();
    }
    let asked: Value = serde_json::from_slice(body).unwrap();
    if app.withheld.iter().any(|name| !asked["permissions"][*name].is_null()) {
        return (422, json!({ "message": "The permissions requested are not granted to this installation." }));
    }
    app.count += 1;
    let token = format!("ghs_minted{}", app.count);
    app.minted.push((token.clone(), asked));
    let end = jiff::Timestamp::from_second(from + 3600).unwrap().to_string();
    (201, json!({ "token": token, "expires_at": end }))
}

fn shown(check: &FakeCheck) -> Value {
    json!({
        "id": check.id, "name": check.name, "head_sha": check.commit, "external_id": check.external_id,
        "status": check.status, "conclusion": check.conclusion,
        "output": { "title": check.title, "annotations_count": check.annotations.len() },
    })
}

pub(super) fn check_runs(memory: &Memory, call: &Call, commit: &str) -> Said {
    let name = call.asked("check_name");
    let of = |check: &&FakeCheck| check.commit == commit && name.is_none_or(|name| check.name == name);
    let runs: Vec<Value> = memory.checks.iter().filter(of).map(shown).collect();
    (200, json!({ "total_count": runs.len(), "check_runs": runs }))
}

pub(super) fn check_run(memory: &mut Memory, call: &Call) -> Said {
    if !call.of_app {
        return (403, json!({ "message": "You must authenticate via a GitHub App." }));
    }
    let id = memory.id();
    let (commit, name, external_id) = (call.text("head_sha"), call.text("name"), call.text("external_id"));
    let (status, title) = (String::new(), String::new());
    let check = FakeCheck { id, commit, name, external_id, status, conclusion: None, title, annotations: Vec::new() };
    memory.checks.push(check);
    let said = change_run(memory, call, &id.to_string());
    (if said.0 == 200 { 201 } else { said.0 }, said.1)
}

pub(super) fn change_run(memory: &mut Memory, call: &Call, id: &str) -> Said {
    let Some(check) = memory.checks.iter_mut().find(|check| check.id.to_string() == id) else { return not_found() };
    let annotations = call.body["output"]["annotations"].as_array().cloned().unwrap_or_default();
    if annotations.len() > 50 {
        return (422, json!({ "message": "No more than 50 annotations a request" }));
    }
    // GitHub adds them to those that are there.
    check.annotations.extend(annotations);
    check.status = call.text("status");
    check.conclusion = call.body["conclusion"].as_str().map(str::to_owned);
    check.title = call.body["output"]["title"].as_str().unwrap_or_default().to_owned();
    (200, shown(check))
}
