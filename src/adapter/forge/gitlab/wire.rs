//! What GitLab sends, as far as it is read.

use crate::port::forge::IssueInfo;
use serde::Deserialize;

#[derive(Clone, Deserialize)]
pub(super) struct Project {
    pub(super) id: u64,
    pub(super) default_branch: Option<String>,
    pub(super) path_with_namespace: String,
    /// `disabled`, `private`, `enabled`; not every token is told.
    pub(super) issues_access_level: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct User {
    pub(super) id: u64,
    pub(super) username: String,
}

#[derive(Clone, Deserialize)]
pub(super) struct DiffRefs {
    pub(super) base_sha: Option<String>,
    pub(super) head_sha: Option<String>,
    pub(super) start_sha: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Merge {
    pub(super) iid: u64,
    pub(super) title: String,
    pub(super) description: Option<String>,
    pub(super) author: Option<User>,
    pub(super) web_url: String,
    #[serde(default)]
    pub(super) draft: bool,
    #[serde(default)]
    pub(super) labels: Vec<String>,
    pub(super) state: String,
    pub(super) source_branch: String,
    pub(super) target_branch: String,
    pub(super) source_project_id: Option<u64>,
    pub(super) target_project_id: Option<u64>,
    pub(super) sha: Option<String>,
    pub(super) diff_refs: Option<DiffRefs>,
    #[serde(default)]
    pub(super) reviewers: Vec<User>,
    #[serde(default)]
    pub(super) assignees: Vec<User>,
    pub(super) milestone: Option<Milestone>,
    pub(super) updated_at: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Milestone {
    pub(super) id: u64,
    pub(super) title: String,
}

#[derive(Deserialize)]
pub(super) struct IssueWire {
    iid: u64,
    title: String,
    description: Option<String>,
    author: Option<User>,
    web_url: Option<String>,
    state: String,
    #[serde(default)]
    labels: Vec<String>,
    #[serde(default)]
    pub(super) assignees: Vec<User>,
    pub(super) closed_by: Option<User>,
}

impl From<IssueWire> for IssueInfo {
    fn from(wire: IssueWire) -> Self {
        Self {
            number: wire.iid,
            title: wire.title,
            body: wire.description.unwrap_or_default(),
            author: wire.author.map(|user| user.username),
            url: wire.web_url,
            open: wire.state == "opened",
            labels: wire.labels,
            assignees: wire.assignees.into_iter().map(|user| user.username).collect(),
            memory: None,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Numbered {
    pub(super) iid: u64,
}

#[derive(Deserialize)]
pub(super) struct FileWire {
    pub(super) new_path: String,
    pub(super) old_path: String,
    #[serde(default)]
    pub(super) new_file: bool,
    #[serde(default)]
    pub(super) renamed_file: bool,
    #[serde(default)]
    pub(super) deleted_file: bool,
    #[serde(default)]
    pub(super) diff: String,
}

#[derive(Deserialize)]
pub(super) struct Note {
    pub(super) id: u64,
    pub(super) body: String,
    pub(super) author: Option<User>,
    #[serde(default)]
    pub(super) system: bool,
    #[serde(default)]
    pub(super) resolvable: bool,
    #[serde(default)]
    pub(super) resolved: bool,
    pub(super) created_at: Option<String>,
    pub(super) updated_at: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Discussion {
    pub(super) id: String,
    pub(super) notes: Vec<Note>,
}
