//! What the fake tells of itself: people do things, it remembers them, and its webhooks go out, signed, with the ids and
//! headers of the real ones. They go at once, or are held and go when the test says so: again, and in another order.

use super::{BOT, FakeChange, FakeComment, FakeIssue, ForgeServer};
use codeforge::model::forge::ForgeKind;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The secret that webhooks are signed with.
pub const HOOK_SECRET: &str = "hook-secret-3f0c6b1de5a94d27";

/// A webhook that goes out.
#[derive(Debug, Clone)]
pub struct Hook {
    /// The forge's id for it: the same when it is sent again.
    pub id: String,
    /// The event's name.
    pub event: String,
    /// The finer name that Gitea has.
    pub kind: String,
    /// The body, as it is signed.
    pub body: Vec<u8>,
    /// Who did what it tells of.
    pub by: String,
    /// What was answered, each time that it was sent; 0: nobody was there.
    pub answers: Vec<u16>,
}

/// The HMAC-SHA256 of a body, in hexadecimal digits.
pub fn signature(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The headers that a forge sends a webhook with.
pub fn headers(kind: ForgeKind, secret: &str, hook: &Hook) -> Vec<(&'static str, String)> {
    let signed = signature(secret, &hook.body);
    let mut headers = vec![("content-type", "application/json".to_owned())];
    let own: Vec<(&'static str, String)> = match kind {
        ForgeKind::Github => vec![
            ("user-agent", "GitHub-Hookshot/044aadd".to_owned()),
            ("x-github-hook-id", "292430182".to_owned()),
            ("x-github-event", hook.event.clone()),
            ("x-github-delivery", hook.id.clone()),
            ("x-hub-signature-256", format!("sha256={signed}")),
        ],
        ForgeKind::Gitlab => vec![
            ("user-agent", "GitLab/17.8.0".to_owned()),
            ("x-gitlab-instance", "https://gitlab.example".to_owned()),
            ("x-gitlab-event", hook.event.clone()),
            ("x-gitlab-webhook-uuid", "02affd2d-2cba-4033-917d-ec22d5dc4b38".to_owned()),
            ("x-gitlab-event-uuid", hook.id.clone()),
            ("idempotency-key", hook.id.clone()),
            ("x-gitlab-token", secret.to_owned()),
        ],
        _ => vec![
            ("x-gitea-event", hook.event.clone()),
            ("x-gitea-event-type", hook.kind.clone()),
            ("x-gitea-delivery", hook.id.clone()),
            ("x-gitea-signature", signed),
        ],
    };
    headers.extend(own);
    headers
}

/// What happened, by whom.
#[derive(Debug, Clone)]
pub enum What {
    /// A change was opened, closed, reopened.
    Change { number: u64, action: &'static str },
    /// A change's branch was pushed to.
    Synchronized { number: u64, before: String },
    /// A change goes into another branch.
    Retargeted { number: u64, from: String },
    /// An issue was opened.
    Issue { number: u64 },
    /// A label was set or taken from an issue or a change.
    Label { number: u64, label: String, set: bool },
    /// A comment was written.
    Comment { id: u64 },
    /// A comment was edited.
    Edited { id: u64, before: String },
    /// A branch was pushed to.
    Pushed { branch: String, before: Option<String>, after: Option<String> },
}

/// The fake's webhooks.
pub struct Hooks {
    kind: ForgeKind,
    client: reqwest::Client,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    to: String,
    secret: Option<String>,
    held: bool,
    sent: Vec<Hook>,
    next: u64,
}

impl Hooks {
    /// Of a forge of this kind.
    pub fn of(kind: ForgeKind) -> Self {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { kind, client, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server's address that they go to from now on.
    pub fn go_to(&self, address: &str) {
        self.state().to = address.to_owned();
    }

    /// The path of the server that takes this forge's webhooks.
    pub fn path(&self) -> &'static str {
        match self.kind {
            ForgeKind::Github => "/webhooks/github",
            ForgeKind::Gitlab => "/webhooks/gitlab",
            _ => "/webhooks/gitea",
        }
    }

    /// Holds them back, until [`Self::release`].
    pub fn hold(&self) {
        self.state().held = true;
    }

    /// All that were made.
    pub fn sent(&self) -> Vec<Hook> {
        self.state().sent.clone()
    }

    /// Those that nobody has taken yet.
    pub fn missed(&self) -> Vec<Hook> {
        let taken = |hook: &Hook| hook.answers.iter().any(|answer| (200..300).contains(answer));
        self.state().sent.iter().filter(|hook| !taken(hook)).cloned().collect()
    }

    /// Holds none back any more, and sends those that were, in an order that the seed shuffles; each `times` times.
    pub async fn release(&self, seed: u64, times: usize) {
        let mut all: Vec<Hook> = self.missed();
        self.state().held = false;
        all = all.iter().flat_map(|hook| std::iter::repeat_n(hook.clone(), times)).collect();
        shuffle(&mut all, seed);
        for hook in all {
            let status = self.send(&hook).await;
            assert!((200..300).contains(&status), "{status} to {} {}", hook.event, hook.id);
        }
    }

    /// Signs them with another secret from now on.
    pub fn sign_with(&self, secret: &str) {
        self.state().secret = Some(secret.to_owned());
    }

    /// Sends one, again or for the first time; gives the answer's status.
    pub async fn send(&self, hook: &Hook) -> u16 {
        let secret = self.state().secret.clone().unwrap_or_else(|| HOOK_SECRET.to_owned());
        let status = self.post(&headers(self.kind, &secret, hook), hook.body.clone()).await;
        if let Some(sent) = self.state().sent.iter_mut().find(|sent| sent.id == hook.id) {
            sent.answers.push(status);
        }
        status
    }

    /// Sends what nobody remembers; gives the answer's status, 0 where nobody is there.
    pub async fn post(&self, headers: &[(&'static str, String)], body: Vec<u8>) -> u16 {
        let to = format!("{}{}", self.state().to, self.path());
        let mut request = self.client.post(to).body(body);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        request.send().await.map_or(0, |answer| answer.status().as_u16())
    }

    /// An issue that there is now; gives its number.
    pub fn new_issue(&self, forge: &ForgeServer, author: &str, title: &str, body: &str) -> u64 {
        let mut memory = forge.memory();
        let number = memory.id();
        memory.issues.push(FakeIssue::new(number, author, title, body));
        number
    }

    /// Sets or takes a label.
    pub fn label(&self, forge: &ForgeServer, number: u64, label: &str, set: bool) {
        let change = |labels: &mut Vec<String>| match set {
            true => labels.push(label.to_owned()),
            false => labels.retain(|there| there != label),
        };
        let mut memory = forge.memory();
        match memory.changes.iter_mut().find(|change| change.number == number) {
            Some(found) => change(&mut found.labels),
            None => change(&mut memory.issue(&number.to_string()).expect("there is such a number").labels),
        }
    }

    /// Tells the server what happened: one or more webhooks, as this forge makes them.
    pub async fn tell(&self, forge: &ForgeServer, by: &str, what: &What) {
        let (hooks, held) = {
            let issues = forge.memory().issues.clone();
            let mut state = self.state();
            let made = Telling { kind: self.kind, forge, by, issues: &issues, at: state.next }.payloads(what);
            let hooks: Vec<Hook> = made
                .into_iter()
                .map(|(event, kind, payload)| {
                    state.next += 1;
                    let id = format!("{:08x}-0000-4000-8000-{:012x}", state.next, state.next * 7919);
                    let (body, by) = (payload.to_string().into_bytes(), by.to_owned());
                    Hook { id, event, kind, body, by, answers: Vec::new() }
                })
                .collect();
            state.sent.extend(hooks.iter().cloned());
            (hooks, state.held)
        };
        if !held {
            for hook in hooks {
                self.send(&hook).await;
            }
        }
    }
}

/// Puts a list into an order that the seed says.
pub fn shuffle<T>(list: &mut [T], seed: u64) {
    let mut random = seed | 1;
    for place in (1..list.len()).rev() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        list.swap(place, (random % (place as u64 + 1)) as usize);
    }
}

/// Events with their names, and what they carry.
type Made = Vec<(String, String, Value)>;

struct Telling<'a> {
    kind: ForgeKind,
    forge: &'a ForgeServer,
    by: &'a str,
    issues: &'a [FakeIssue],
    /// A clock of the forge's own: no two bodies are alike.
    at: u64,
}

impl Telling<'_> {
    fn payloads(&self, what: &What) -> Made {
        match self.kind {
            ForgeKind::Gitlab => self.gitlab(what),
            _ => self.github(what),
        }
    }

    fn change(&self, number: u64) -> FakeChange {
        self.forge
            .memory()
            .changes
            .iter()
            .find(|change| change.number == number)
            .cloned()
            .expect("there is such a change")
    }

    fn comment(&self, id: u64) -> FakeComment {
        self.forge.memory().comments.iter().find(|comment| comment.id == id).cloned().expect("there is such a comment")
    }

    fn issue(&self, number: u64) -> FakeIssue {
        self.issues.iter().find(|issue| issue.number == number).cloned().expect("there is such an issue")
    }

    fn time(&self) -> String {
        format!("2026-03-02T{:02}:{:02}:{:02}Z", self.at / 3600 % 24, self.at / 60 % 60, self.at % 60)
    }

    // GitHub's, which Gitea's follow.

    fn user(&self, name: &str) -> Value {
        let kind = if name.ends_with("[bot]") { "Bot" } else { "User" };
        json!({ "login": name, "id": number_of(name), "type": kind })
    }

    fn pull(&self, change: &FakeChange) -> Value {
        let repo = |id: u64, name: &str| json!({ "id": id, "full_name": name, "default_branch": "main" });
        let head = self.forge.memory().head_repository(change, &repo(1, "acme/widgets"));
        json!({
            "id": change.number * 1000, "number": change.number, "title": change.title, "body": change.body,
            "state": if change.state == "open" { "open" } else { "closed" }, "draft": change.draft,
            "merged": change.state == "merged", "user": self.user(&change.author), "updated_at": self.time(),
            "html_url": format!("https://forge.example/acme/widgets/pull/{}", change.number),
            "labels": change.labels.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>(),
            "head": { "ref": change.head, "sha": self.forge.tip(&change.head), "repo": head },
            "base": { "ref": change.base, "sha": self.forge.tip(&change.base), "repo": repo(1, "acme/widgets") },
        })
    }

    /// An issue as comments' events have it: a change is one too.
    fn thread(&self, thread: &str) -> Value {
        let (what, number) = thread.split_once(' ').unwrap();
        let number: u64 = number.parse().unwrap();
        let issue = match what {
            "change" => {
                let FakeChange { title, body, author, labels, .. } = self.change(number);
                FakeIssue { labels, ..FakeIssue::new(number, &author, &title, &body) }
            }
            _ => self.issue(number),
        };
        let mut value = json!({
            "id": number * 1000 + 1, "number": number, "title": issue.title, "body": issue.body, "state": "open",
            "user": self.user(&issue.author), "updated_at": self.time(),
            "html_url": format!("https://forge.example/acme/widgets/issues/{number}"),
            "labels": issue.labels.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>(),
        });
        if what == "change" {
            value["pull_request"] =
                json!({ "url": format!("https://forge.example/api/pulls/{number}"), "merged_at": null });
        }
        value
    }

    fn github(&self, what: &What) -> Made {
        let repository = json!({ "id": 1, "name": "widgets", "full_name": "acme/widgets", "private": false,
            "owner": { "login": "acme" }, "default_branch": "main", "html_url": "https://forge.example/acme/widgets" });
        let gitea = self.kind == ForgeKind::Gitea;
        let one = |event: &str, kind: &str, mut payload: Value| {
            payload["repository"] = repository.clone();
            payload["sender"] = self.user(self.by);
            vec![(event.to_owned(), kind.to_owned(), payload)]
        };
        let pull = |number: u64, action: &str| json!({ "action": action, "number": number, "pull_request": self.pull(&self.change(number)) });
        match what {
            What::Change { number, action } => one("pull_request", "pull_request", pull(*number, action)),
            What::Synchronized { number, before } => {
                let mut payload = pull(*number, if gitea { "synchronized" } else { "synchronize" });
                payload["before"] = json!(before);
                one("pull_request", "pull_request_sync", payload)
            }
            What::Retargeted { number, from } => {
                let mut payload = pull(*number, "edited");
                payload["changes"] = json!({ "base": { "ref": { "from": from } }, "ref": { "from": from } });
                one("pull_request", "pull_request", payload)
            }
            What::Issue { number } => {
                let issue = self.thread(&format!("issue {number}"));
                one("issues", "issues", json!({ "action": "opened", "number": number, "issue": issue }))
            }
            What::Label { number, label, set } => {
                let is_change = self.forge.memory().changes.iter().any(|change| change.number == *number);
                let action = match (gitea, set) {
                    (true, _) => "label_updated",
                    (false, true) => "labeled",
                    (false, false) => "unlabeled",
                };
                let mut payload = match is_change {
                    true => pull(*number, action),
                    false => {
                        json!({ "action": action, "number": number, "issue": self.thread(&format!("issue {number}")) })
                    }
                };
                if gitea {
                    let key = if *set { "added_labels" } else { "removed_labels" };
                    payload["changes"] = json!({ key: [{ "name": label }] });
                } else {
                    payload["label"] = json!({ "name": label });
                }
                match is_change {
                    true => one("pull_request", "pull_request_label", payload),
                    false => one("issues", "issue_label", payload),
                }
            }
            What::Comment { id } | What::Edited { id, .. } => {
                let comment = self.comment(*id);
                let is_change = comment.thread.starts_with("change");
                let mut payload = json!({
                    "action": "created", "issue": self.thread(&comment.thread), "is_pull": is_change,
                    "comment": {
                        "id": comment.id, "body": comment.body, "user": self.user(&comment.author),
                        "updated_at": self.time(), "html_url": format!("https://forge.example/c/{}", comment.id),
                    },
                });
                if let What::Edited { before, .. } = what {
                    payload["action"] = json!("edited");
                    payload["changes"] = json!({ "body": { "from": before } });
                }
                one("issue_comment", if is_change { "pull_request_comment" } else { "issue_comment" }, payload)
            }
            What::Pushed { branch, before, after } => {
                let id = |sha: &Option<String>| sha.clone().unwrap_or_else(|| "0".repeat(40));
                let mut made = one(
                    "push",
                    "push",
                    json!({
                        "ref": format!("refs/heads/{branch}"), "before": id(before), "after": id(after),
                        "created": before.is_none(), "deleted": after.is_none(),
                        "pusher": { "name": self.by, "login": self.by }, "pushed_at": self.time(),
                        "head_commit": after.as_ref().map(|id| json!({ "id": id })), "commits": [],
                    }),
                );
                // GitHub counts seconds; Gitea says of its repository when it changed.
                made[0].2["repository"]["pushed_at"] = if gitea { Value::Null } else { json!(1_772_400_000 + self.at) };
                made[0].2["repository"]["updated_at"] = json!(self.time());
                made
            }
        }
    }

    // GitLab's.

    fn merge(&self, change: &FakeChange) -> Value {
        let source = self.forge.memory().head_project(change);
        let name = if change.fork { "eve/widgets" } else { "acme/widgets" };
        let name = source.map(|_| json!({ "path_with_namespace": name }));
        json!({
            "id": change.number * 1000, "iid": change.number, "title": change.title, "description": change.body,
            "state": if change.state == "open" { "opened" } else { change.state }, "draft": change.draft,
            "source_branch": change.head, "target_branch": change.base, "source_project_id": source, "target_project_id": 1,
            "source": name, "target": { "path_with_namespace": "acme/widgets" },
            "author_id": number_of(&change.author), "updated_at": self.time(),
            "url": format!("https://forge.example/acme/widgets/-/merge_requests/{}", change.number),
            "last_commit": { "id": self.forge.tip(&change.head) },
            "labels": titles(&change.labels),
        })
    }

    fn gitlab(&self, what: &What) -> Made {
        let project = json!({ "id": 1, "path_with_namespace": "acme/widgets", "default_branch": "main",
            "web_url": "https://forge.example/acme/widgets" });
        let user = json!({ "id": number_of(self.by), "username": self.by, "name": self.by });
        let one = |event: &str, mut payload: Value| {
            payload["project"] = project.clone();
            payload["user"] = user.clone();
            vec![(event.to_owned(), String::new(), payload)]
        };
        let request = |number: u64, action: &str, more: &[(&str, Value)]| {
            let mut attributes = self.merge(&self.change(number));
            attributes["action"] = json!(action);
            for (key, value) in more {
                attributes[*key] = value.clone();
            }
            json!({ "object_kind": "merge_request", "event_type": "merge_request", "object_attributes": attributes, "changes": {} })
        };
        let issue = |number: u64| {
            let issue = self.issue(number);
            json!({
                "id": number * 1000 + 1, "iid": number, "title": issue.title, "description": issue.body, "state": "opened",
                "author_id": number_of(&issue.author), "updated_at": self.time(), "labels": titles(&issue.labels),
                "url": format!("https://forge.example/acme/widgets/-/issues/{number}"),
            })
        };
        match what {
            What::Change { number, action } => {
                let word = action.strip_suffix("ed").unwrap();
                let word = if word == "clos" { "close" } else { word };
                one("Merge Request Hook", request(*number, word, &[]))
            }
            What::Synchronized { number, before } => {
                one("Merge Request Hook", request(*number, "update", &[("oldrev", json!(before))]))
            }
            What::Retargeted { number, from } => {
                let mut payload = request(*number, "update", &[]);
                payload["changes"] =
                    json!({ "target_branch": { "previous": from, "current": self.change(*number).base } });
                one("Merge Request Hook", payload)
            }
            What::Issue { number } => {
                let mut attributes = issue(*number);
                attributes["action"] = json!("open");
                one("Issue Hook", json!({ "object_kind": "issue", "object_attributes": attributes, "changes": {} }))
            }
            What::Label { number, label, set } => {
                let is_change = self.forge.memory().changes.iter().any(|change| change.number == *number);
                let now = if is_change { self.change(*number).labels } else { self.issue(*number).labels };
                let mut before = now.clone();
                match set {
                    true => before.retain(|there| there != label),
                    false => before.push(label.clone()),
                }
                let (mut payload, event) = match is_change {
                    true => (request(*number, "update", &[]), "Merge Request Hook"),
                    false => {
                        let mut attributes = issue(*number);
                        attributes["action"] = json!("update");
                        (json!({ "object_kind": "issue", "object_attributes": attributes }), "Issue Hook")
                    }
                };
                payload["changes"] = json!({ "labels": { "previous": titles(&before), "current": titles(&now) } });
                one(event, payload)
            }
            What::Comment { id } | What::Edited { id, .. } => {
                let comment = self.comment(*id);
                let (thing, number) = comment.thread.split_once(' ').unwrap();
                let number: u64 = number.parse().unwrap();
                let edited = matches!(what, What::Edited { .. });
                let mut payload = json!({
                    "object_kind": "note", "event_type": "note",
                    "object_attributes": {
                        "id": comment.id, "note": comment.body, "author_id": number_of(&comment.author), "system": false,
                        "noteable_type": if thing == "change" { "MergeRequest" } else { "Issue" },
                        "action": if edited { "update" } else { "create" }, "updated_at": self.time(),
                        "url": format!("https://forge.example/c/{}", comment.id),
                    },
                });
                match thing {
                    "change" => payload["merge_request"] = self.merge(&self.change(number)),
                    _ => payload["issue"] = issue(number),
                }
                if let What::Edited { before, .. } = what {
                    payload["changes"] = json!({ "note": { "previous": before, "current": comment.body } });
                }
                one("Note Hook", payload)
            }
            What::Pushed { branch, before, after } => {
                let id = |sha: &Option<String>| sha.clone().unwrap_or_else(|| "0".repeat(40));
                let payload = json!({
                    "object_kind": "push", "event_name": "push", "before": id(before), "after": id(after),
                    "ref": format!("refs/heads/{branch}"), "checkout_sha": after, "user_username": self.by,
                    "user_id": number_of(self.by), "project_id": 1, "commits": [], "pushed_at": self.time(),
                });
                one("Push Hook", payload)
            }
        }
    }
}

fn titles(labels: &[String]) -> Vec<Value> {
    labels.iter().map(|title| json!({ "title": title })).collect()
}

/// A number for an account, always the same.
fn number_of(name: &str) -> u64 {
    if name == BOT { 1 } else { name.bytes().fold(7, |sum, byte| (sum * 31 + u64::from(byte)) % 100_003) }
}

/// What the server's own account did to the forge since the last look: the forge tells of that, too.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    comments: BTreeMap<u64, String>,
    changes: BTreeMap<u64, &'static str>,
    branches: BTreeMap<String, String>,
}

impl Seen {
    /// What the forge knows now.
    pub fn of(forge: &ForgeServer) -> Self {
        let memory = forge.memory();
        let comments = memory.comments.iter().map(|comment| (comment.id, comment.body.clone())).collect();
        let changes = memory.changes.iter().map(|change| (change.number, change.state)).collect();
        drop(memory);
        Self { comments, changes, branches: forge.branches() }
    }

    /// What our account did between two looks.
    pub fn news(&self, forge: &ForgeServer, now: &Self) -> Vec<What> {
        let memory = forge.memory();
        let ours = |id: &u64| memory.comments.iter().any(|comment| comment.id == *id && comment.author == BOT);
        let mut news = Vec::new();
        for (branch, after) in &now.branches {
            let before = self.branches.get(branch).cloned();
            if before.as_ref() == Some(after) || !branch.starts_with("codeforge/") && !forge.is_ours(after) {
                continue;
            }
            news.push(What::Pushed { branch: branch.clone(), before: before.clone(), after: Some(after.clone()) });
            let open = memory.changes.iter().filter(|it| it.head == *branch && it.state == "open");
            if let Some(before) = before {
                news.extend(open.map(|it| What::Synchronized { number: it.number, before: before.clone() }));
            }
        }
        for number in now.changes.keys().filter(|number| !self.changes.contains_key(number)) {
            if memory.changes.iter().any(|change| change.number == *number && change.author == BOT) {
                news.push(What::Change { number: *number, action: "opened" });
            }
        }
        for (id, body) in now.comments.iter().filter(|(id, _)| ours(id)) {
            match self.comments.get(id) {
                None => news.push(What::Comment { id: *id }),
                Some(before) if before != body => news.push(What::Edited { id: *id, before: before.clone() }),
                Some(_) => {}
            }
        }
        news
    }
}
