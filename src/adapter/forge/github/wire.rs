//! What GitHub sends, as far as it is read.

use crate::adapter::forge::time_ms;
use crate::model::event::{Change, Side};
use crate::port::forge::{ChangeInfo, ChangeState, CommentInfo, Thread};
use serde::Deserialize;

#[derive(Deserialize)]
pub(super) struct User {
    pub(super) login: String,
}

#[derive(Deserialize)]
pub(super) struct RepoRef {
    pub(super) id: u64,
    pub(super) full_name: String,
}

#[derive(Deserialize)]
pub(super) struct RefAt {
    #[serde(rename = "ref")]
    pub(super) branch: String,
    pub(super) sha: String,
    pub(super) repo: Option<RepoRef>,
}

#[derive(Deserialize)]
pub(super) struct Label {
    pub(super) name: String,
}

#[derive(Deserialize)]
pub(super) struct Pull {
    pub(super) number: u64,
    pub(super) title: String,
    pub(super) body: Option<String>,
    pub(super) user: Option<User>,
    pub(super) html_url: String,
    #[serde(default)]
    pub(super) draft: bool,
    #[serde(default)]
    pub(super) labels: Vec<Label>,
    pub(super) state: String,
    pub(super) merged_at: Option<String>,
    pub(super) created_at: Option<String>,
    pub(super) updated_at: Option<String>,
    pub(super) head: RefAt,
    pub(super) base: RefAt,
    #[serde(default)]
    pub(super) requested_reviewers: Vec<User>,
}

#[derive(Deserialize)]
pub(super) struct FileWire {
    pub(super) filename: String,
    pub(super) previous_filename: Option<String>,
    pub(super) status: String,
    pub(super) patch: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct CommentWire {
    pub(super) id: u64,
    pub(super) body: Option<String>,
    pub(super) user: Option<User>,
    pub(super) html_url: Option<String>,
    pub(super) created_at: Option<String>,
    pub(super) updated_at: Option<String>,
}

impl From<RefAt> for Side {
    fn from(at: RefAt) -> Self {
        let (repository, repository_id) = at.repo.map_or((None, None), |repo| (Some(repo.full_name), Some(repo.id)));
        Self { branch: at.branch, sha: Some(at.sha), repository, repository_id }
    }
}

impl From<Pull> for ChangeInfo {
    fn from(pull: Pull) -> Self {
        let state = match (pull.state.as_str(), &pull.merged_at) {
            ("open", _) => ChangeState::Open,
            (_, Some(_)) => ChangeState::Merged,
            _ => ChangeState::Closed,
        };
        let updated_ms = pull.updated_at.as_deref().and_then(time_ms);
        let change = Change {
            number: pull.number,
            title: pull.title,
            body: pull.body.unwrap_or_default(),
            author: pull.user.map(|user| user.login),
            url: Some(pull.html_url),
            draft: pull.draft,
            labels: pull.labels.into_iter().map(|label| label.name).collect(),
            head: pull.head.into(),
            base: pull.base.into(),
        };
        let reviewers = pull.requested_reviewers.into_iter().map(|user| user.login).collect();
        Self { change, state, reviewers, updated_ms }
    }
}

impl CommentWire {
    /// What it stands under: its page says whether that is a change.
    pub(super) fn thread(&self) -> Option<Thread> {
        let mut parts = self.html_url.as_deref()?.split('#').next()?.rsplit('/');
        let number = parts.next()?.parse().ok()?;
        match parts.next()? {
            "pull" => Some(Thread::Change(number)),
            "issues" => Some(Thread::Issue(number)),
            _ => None,
        }
    }
}

impl From<CommentWire> for CommentInfo {
    fn from(wire: CommentWire) -> Self {
        let author = wire.user.map(|user| user.login);
        Self {
            id: wire.id,
            body: wire.body.unwrap_or_default(),
            author,
            url: wire.html_url,
            created_ms: wire.created_at.as_deref().and_then(time_ms),
            updated_ms: wire.updated_at.as_deref().and_then(time_ms),
        }
    }
}
