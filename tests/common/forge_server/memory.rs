//! What the forge remembers.

use super::fault::Fault;
use super::{FakeApp, FakeCheck, FakeIssue};
use axum::http::HeaderMap;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A request that came in.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub query: String,
    pub body: Value,
    pub headers: HeaderMap,
    /// When it came in, by the forge's own clock.
    pub at: std::time::Instant,
}

impl Asked {
    /// Whether it changes something; a question of GitHub's second API is asked by POST, too.
    pub fn writes(&self) -> bool {
        self.method != "GET" && (!self.path.ends_with("/graphql") || self.body.to_string().contains("mutation"))
    }
}

/// A change.
#[derive(Debug, Clone)]
pub struct FakeChange {
    pub number: u64,
    pub title: String,
    pub body: String,
    pub author: String,
    pub head: String,
    pub base: String,
    /// `open`, `closed`, `merged`.
    pub state: &'static str,
    pub draft: bool,
    pub labels: Vec<String>,
    pub reviewers: Vec<String>,
    pub assignees: Vec<String>,
    /// The milestone's number.
    pub milestone: Option<u64>,
    /// Its head is in another repository.
    pub fork: bool,
}

/// A comment.
#[derive(Debug, Clone)]
pub struct FakeComment {
    pub id: u64,
    /// `change 7`, `issue 3`.
    pub thread: String,
    pub author: String,
    pub body: String,
    pub reactions: Vec<String>,
}

/// A remark at a line.
#[derive(Debug, Clone)]
pub struct FakeRemark {
    pub id: u64,
    pub change: u64,
    pub author: String,
    pub body: String,
    pub path: String,
    /// The first line, where it spans several.
    pub start: Option<u64>,
    /// Old and new line, as the forge has them.
    pub lines: (Option<u64>, Option<u64>),
    pub resolved: bool,
}

/// What the forge remembers.
#[derive(Debug, Default)]
pub struct Memory {
    pub changes: Vec<FakeChange>,
    pub issues: Vec<FakeIssue>,
    /// Issues are turned off.
    pub no_issues: bool,
    pub comments: Vec<FakeComment>,
    pub remarks: Vec<FakeRemark>,
    /// Commit, name, state.
    pub statuses: Vec<(String, String, String)>,
    /// Account → its role, in the forge's own words.
    pub members: BTreeMap<String, String>,
    pub protected: Vec<String>,
    pub rules: BTreeMap<String, Vec<String>>,
    /// Protections of branches, in the words of GitLab or Gitea.
    pub protections: Vec<Value>,
    /// What GitLab asks of each push; `Null`: the project never had any. `None`: this GitLab has no such thing.
    pub push_rule: Option<Value>,
    pub labels: BTreeMap<String, Vec<String>>,
    /// The App that the forge knows, and the tokens that it minted.
    pub app: Option<FakeApp>,
    pub checks: Vec<FakeCheck>,
    /// Issues and what happened to them, in the forge's words; `about`: the number, where the forge asks for one at a time.
    pub listed: Vec<Value>,
    pub events: Vec<Value>,
    /// Comments that were edited an hour after they were written.
    pub edited: Vec<u64>,
    /// Answers that were still the same.
    pub unchanged: usize,
    /// The repositories of forks are gone: nobody says any more where their changes come from.
    pub forks_gone: bool,
    /// Drafts are refused.
    pub no_drafts: bool,
    /// Milestones: number and title.
    pub milestones: Vec<(u64, String)>,
    /// As whom the token acts, where it is not [`BOT`].
    pub acts_as: Option<String>,
    /// Items a page at most.
    pub page: usize,
    /// After so many writes the server says nothing more: whoever waits is to be killed.
    pub stop_at: Option<usize>,
    /// Writes so far: what changed something, and pushes.
    pub written: usize,
    /// The last write was one too many.
    pub stopped: bool,
    pub(super) faults: Vec<Fault>,
    pub(super) asked: Vec<Asked>,
    /// Requests that the forge's published description does not allow.
    pub(super) wrong: Vec<String>,
    pub(super) next: u64,
}

impl Memory {
    /// Nothing goes wrong any more.
    pub fn clear_faults(&mut self) {
        self.faults.clear();
    }

    /// How much is still to go wrong.
    pub fn faults_left(&self) -> u32 {
        self.faults.iter().map(|fault| fault.times).sum()
    }

    /// When a thing of this number was made: a second after the one before. RFC 3339.
    pub fn made(&self, id: u64) -> String {
        time(MADE_S + id)
    }

    /// When it last changed.
    pub(super) fn touched(&self, id: u64) -> String {
        time(MADE_S + id + if self.edited.contains(&id) { 3600 } else { 0 })
    }

    /// Where a change's head is, of a repository that is `own`.
    pub fn head_repository(&self, change: &FakeChange, own: &Value) -> Value {
        match (change.fork, self.forks_gone) {
            (false, _) => own.clone(),
            (true, false) => json!({ "id": 2, "full_name": "eve/widgets", "default_branch": "main" }),
            (true, true) => Value::Null,
        }
    }

    /// The same as a project's number.
    pub fn head_project(&self, change: &FakeChange) -> Option<u64> {
        if change.fork { (!self.forks_gone).then_some(2) } else { Some(1) }
    }

    /// What happened to one issue or change.
    pub(super) fn events_of(&self, number: &str) -> Value {
        let is_about = |event: &&Value| event["about"].as_u64().is_some_and(|about| number.parse() == Ok(about));
        self.events.iter().filter(is_about).cloned().collect()
    }

    pub(super) fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// When things begin.
const MADE_S: u64 = 1_790_000_000;

fn time(second: u64) -> String {
    jiff::Timestamp::from_second(i64::try_from(second).unwrap()).unwrap().to_string()
}
