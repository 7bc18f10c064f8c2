//! Which events are taken in, by the name in their header, and where a sender's id stands.

use super::signature::header;
use crate::model::forge::ForgeKind;
use axum::http::HeaderMap;

/// Longer ids are no forge's.
const LONGEST_ID: usize = 200;

/// What a webhook's headers say.
pub(super) struct Said<'a> {
    /// The event's name.
    pub(super) event: Option<&'a str>,
    /// The sender's id for this delivery, the same when it is sent again.
    pub(super) id: Option<&'a str>,
}

/// Reads a forge's headers. Of GitLab's ids only the one that retries keep is taken: others are shared by events that
/// follow from each other.
pub(super) fn said(forge: ForgeKind, headers: &HeaderMap) -> Said<'_> {
    let first = |names: &[&str]| names.iter().find_map(|name| header(headers, name));
    let (event, id) = match forge {
        ForgeKind::Github => (first(&["x-github-event"]), first(&["x-github-delivery"])),
        ForgeKind::Gitlab => (first(&["x-gitlab-event"]), first(&["webhook-id", "idempotency-key"])),
        ForgeKind::Gitea => {
            (first(&["x-forgejo-event", "x-gitea-event"]), first(&["x-forgejo-delivery", "x-gitea-delivery"]))
        }
        ForgeKind::Local => (None, None),
    };
    Said { event, id: plain(id) }
}

/// The id of a call of our own hooks, where it has one.
pub(super) fn hook_id(headers: &HeaderMap) -> Option<&str> {
    plain(["webhook-id", "idempotency-key"].iter().find_map(|name| header(headers, name)))
}

fn plain(id: Option<&str>) -> Option<&str> {
    id.filter(|id| id.len() <= LONGEST_ID && id.bytes().all(|byte| byte.is_ascii_graphic()))
}

/// Whether something may come of an event of this name. Others are answered and forgotten.
pub(super) fn is_known(forge: ForgeKind, event: &str) -> bool {
    let names: &[&str] = match forge {
        ForgeKind::Github => &[
            "issue_comment",
            "issues",
            "merge_group",
            "pull_request",
            "pull_request_review",
            "pull_request_review_comment",
            "push",
            "repository_dispatch",
        ],
        ForgeKind::Gitlab => {
            &["Issue Hook", "Merge Request Hook", "Note Hook", "Push Hook", "Tag Push Hook", "Work Item Hook"]
        }
        ForgeKind::Gitea => &[
            "issue_assign",
            "issue_comment",
            "issue_label",
            "issue_milestone",
            "issues",
            "pull_request",
            "pull_request_assign",
            "pull_request_comment",
            "pull_request_label",
            "pull_request_milestone",
            "pull_request_review_request",
            "pull_request_sync",
            "push",
        ],
        ForgeKind::Local => &[],
    };
    names.contains(&event)
}
