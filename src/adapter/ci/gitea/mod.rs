//! Gitea and Forgejo. Their jobs have GitHub's variables, and events in their own words.

pub mod payload;

use super::{Env, github, is_true};
use crate::adapter::ci::json::at;
use crate::port::ci::{Payload, PayloadError};
use serde_json::Value;

/// Whether a job with GitHub's variables is one of theirs.
pub(super) fn runs(env: Env<'_>) -> bool {
    is_true(env, "GITEA_ACTIONS") || is_true(env, "FORGEJO_ACTIONS")
}

/// What a job's event says happened: several things where several labels were set at once.
///
/// # Errors
/// [`PayloadError`].
pub(super) fn told(name: &str, body: &Value) -> Result<Vec<Payload>, PayloadError> {
    match name {
        // These have GitHub's words.
        "schedule" | "workflow_dispatch" => Ok(vec![github::payload::event(name, body)?]),
        "pull_request_target" => payload::events("pull_request", body),
        // A job of a workflow that another one calls has the event that started that one, and not its name.
        "workflow_call" => {
            let has = |key: &str| !at(body, &[key]).is_null();
            match () {
                () if has("comment") => payload::events("issue_comment", body),
                () if has("pull_request") => payload::events("pull_request", body),
                () if has("issue") => payload::events("issues", body),
                () if has("after") => payload::events("push", body),
                () => Ok(vec![github::payload::event("workflow_dispatch", body)?]),
            }
        }
        name => payload::events(name, body),
    }
}
