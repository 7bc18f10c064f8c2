//! What GitHub sends, as far as it is read.

use crate::adapter::forge::alike::{RefAt, Titled, User};
use crate::adapter::forge::time_ms;
use crate::model::event::{Change, CommentKind};
use crate::port::forge::{ChangeInfo, ChangeState, CommentInfo, Thread};
use serde::Deserialize;

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
    #[serde(default)]
    pub(super) requested_teams: Vec<Team>,
    #[serde(default)]
    pub(super) assignees: Vec<User>,
    pub(super) milestone: Option<Titled>,
}

#[derive(Deserialize)]
pub(super) struct Team {
    pub(super) slug: String,
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

impl From<Pull> for ChangeInfo {
    fn from(pull: Pull) -> Self {
        let state = match (pull.state.as_str(), &pull.merged_at) {
            ("open", _) => ChangeState::Open,
            (_, Some(_)) => ChangeState::Merged,
            _ => ChangeState::Closed,
        };
        let updated_ms = pull.updated_at.as_deref().and_then(time_ms);
        // A team is of the owner's, and named with it.
        let whole = pull.base.repo.as_ref().map(|repo| repo.full_name.clone()).unwrap_or_default();
        let owner = whole.split('/').next().unwrap_or_default();
        let teams = pull.requested_teams.into_iter().map(|team| format!("{owner}/{}", team.slug));
        let reviewers = pull.requested_reviewers.into_iter().map(|user| user.login).chain(teams).collect();
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
        let assignees = pull.assignees.into_iter().map(|user| user.login).collect();
        let milestone = pull.milestone.map(|milestone| milestone.title);
        Self { change, state, reviewers, assignees, milestone, updated_ms }
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
            kind: CommentKind::Thread,
            body: wire.body.unwrap_or_default(),
            author,
            url: wire.html_url,
            created_ms: wire.created_at.as_deref().and_then(time_ms),
            updated_ms: wire.updated_at.as_deref().and_then(time_ms),
        }
    }
}
