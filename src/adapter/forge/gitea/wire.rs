//! What Gitea and Forgejo send, as far as it is read.

use crate::adapter::forge::alike::{RefAt, Titled, User};
use crate::adapter::forge::time_ms;
use crate::model::event::{Change, CommentKind};
use crate::port::forge::{ChangeInfo, ChangeState, CommentInfo, Thread};
use serde::Deserialize;

#[derive(Deserialize)]
pub(super) struct Label {
    pub(super) id: u64,
    pub(super) name: String,
}

#[derive(Deserialize)]
pub(super) struct Pull {
    number: u64,
    title: String,
    body: Option<String>,
    user: Option<User>,
    html_url: String,
    #[serde(default)]
    draft: bool,
    #[serde(default)]
    labels: Option<Vec<Label>>,
    state: String,
    #[serde(default)]
    merged: bool,
    pub(super) created_at: Option<String>,
    pub(super) updated_at: Option<String>,
    head: RefAt,
    base: RefAt,
    #[serde(default)]
    requested_reviewers: Option<Vec<User>>,
    #[serde(default)]
    assignees: Option<Vec<User>>,
    milestone: Option<Titled>,
}

#[derive(Deserialize)]
pub(super) struct FileWire {
    pub(super) filename: String,
    pub(super) previous_filename: Option<String>,
    pub(super) status: String,
}

/// What happened to an issue: a comment, `close`, `reopen`, …
#[derive(Deserialize)]
pub(super) struct Happened {
    #[serde(rename = "type", default)]
    pub(super) what: String,
    pub(super) user: Option<User>,
}

#[derive(Deserialize)]
pub(super) struct CommentWire {
    id: u64,
    body: Option<String>,
    user: Option<User>,
    html_url: Option<String>,
    issue_url: Option<String>,
    pull_request_url: Option<String>,
    created_at: Option<String>,
    updated_at: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Review {
    pub(super) id: u64,
    pub(super) user: Option<User>,
    #[serde(default)]
    pub(super) comments_count: u64,
}

/// Titles that make a draft. Gitea's own setting may name others; `draft` says so then.
const DRAFTS: [&str; 2] = ["WIP:", "[WIP]"];

impl From<Pull> for ChangeInfo {
    fn from(pull: Pull) -> Self {
        let state = match (pull.state.as_str(), pull.merged) {
            ("open", _) => ChangeState::Open,
            (_, true) => ChangeState::Merged,
            _ => ChangeState::Closed,
        };
        let begins = |prefix: &&str| pull.title.get(..prefix.len()).is_some_and(|it| it.eq_ignore_ascii_case(prefix));
        let change = Change {
            number: pull.number,
            draft: pull.draft || DRAFTS.iter().any(begins),
            title: pull.title,
            body: pull.body.unwrap_or_default(),
            author: pull.user.map(|user| user.login),
            url: Some(pull.html_url),
            labels: pull.labels.unwrap_or_default().into_iter().map(|label| label.name).collect(),
            head: pull.head.into(),
            base: pull.base.into(),
        };
        let names = |users: Option<Vec<User>>| users.unwrap_or_default().into_iter().map(|user| user.login).collect();
        Self {
            change,
            state,
            reviewers: names(pull.requested_reviewers),
            assignees: names(pull.assignees),
            milestone: pull.milestone.map(|milestone| milestone.title),
            updated_ms: pull.updated_at.as_deref().and_then(time_ms),
        }
    }
}

impl CommentWire {
    /// What it stands under: one of two addresses is there.
    pub(super) fn thread(&self) -> Option<Thread> {
        let number = |url: &Option<String>| url.as_deref()?.rsplit('/').next()?.parse().ok();
        number(&self.pull_request_url).map(Thread::Change).or_else(|| number(&self.issue_url).map(Thread::Issue))
    }
}

impl From<CommentWire> for CommentInfo {
    fn from(wire: CommentWire) -> Self {
        Self {
            id: wire.id,
            kind: CommentKind::Thread,
            body: wire.body.unwrap_or_default(),
            author: wire.user.map(|user| user.login),
            url: wire.html_url,
            created_ms: wire.created_at.as_deref().and_then(time_ms),
            updated_ms: wire.updated_at.as_deref().and_then(time_ms),
        }
    }
}
