//! GitHub's events → [`Event`](crate::model::event::Event). The same payloads come in a runner's file and over a webhook.

use crate::adapter::ci::commit;
use crate::adapter::ci::json::{at, number, text, time_ms, word, words, yes};
use crate::model::event::{Change, Comment, CommentKind, EventKind, Hook, Issue, Push, Side, Tick};
use crate::port::ci::{Payload, PayloadError};
use serde_json::Value;

/// The events that are known, for messages.
pub const KNOWN: &str = "pull_request, pull_request_target, pull_request_review, pull_request_review_comment, push, \
                         schedule, issues, issue_comment, merge_group, workflow_dispatch and repository_dispatch";

/// Reads what a webhook brought: the same payloads as a runner has, but for what only a runner is told. A header that no
/// signature covers must not make one of them.
///
/// # Errors
/// [`PayloadError`].
pub fn hook(name: &str, payload: &Value) -> Result<Payload, PayloadError> {
    let unknown = || PayloadError::Unknown(name.to_owned());
    match name {
        // `workflow_dispatch` is somebody who starts a workflow of GitHub's own: none of ours.
        "schedule" | "workflow_dispatch" | "pull_request_target" => return Err(unknown()),
        // A group that is gone needs no checks.
        "merge_group" if word(payload, &["action"]).as_deref() == Some("destroyed") => return Err(unknown()),
        // One event's body under another's name.
        "issues" if !at(payload, &["comment"]).is_null() => return Err(wrong(name, "comment")),
        "pull_request" if !at(payload, &["review"]).is_null() => return Err(wrong(name, "review")),
        "pull_request" if !at(payload, &["comment"]).is_null() => return Err(wrong(name, "comment")),
        _ => {}
    }
    event(name, payload)
}

/// A body that is not of the event that its header names.
pub(in crate::adapter::ci) fn wrong(name: &str, has: &str) -> PayloadError {
    PayloadError::Broken(format!("the header says `{name}`, but the body has a `{has}`"))
}

/// Reads the payload of the event `name`.
///
/// # Errors
/// [`PayloadError`]. What may be missing is `None`; what may not is an error.
pub fn event(name: &str, payload: &Value) -> Result<Payload, PayloadError> {
    if !payload.is_object() {
        return Err(PayloadError::Broken("it is not a JSON object".to_owned()));
    }
    let mut read = Payload::default();
    let event = &mut read.event;
    event.action = word(payload, &["action"]);
    event.actor = word(payload, &["sender", "login"]);
    event.actor_is_bot = is_bot(at(payload, &["sender"]));
    event.repository = word(payload, &["repository", "full_name"]);
    event.label = word(payload, &["label", "name"]);
    event.at_ms = changed_ms(payload);
    read.default_branch = word(payload, &["repository", "default_branch"]);
    match name {
        "pull_request" | "pull_request_target" => {
            let change = change(at(payload, &["pull_request"]))?;
            (read.head, read.base) = (change.head.sha.clone(), change.base.sha.clone());
            read.event.kind = EventKind::PullRequest;
            read.event.change = Some(change);
        }
        "push" => push(payload, &mut read)?,
        "schedule" => {
            event.kind = EventKind::Schedule;
            event.schedule = Some(Tick { cron: word(payload, &["schedule"]), at: None });
        }
        "issues" => {
            event.kind = EventKind::Issues;
            event.issue = Some(issue(at(payload, &["issue"]))?);
        }
        "issue_comment" => {
            event.kind = EventKind::IssueComment;
            let about = at(payload, &["issue"]);
            let issue = issue(about)?;
            if at(about, &["pull_request"]).is_object() {
                // Where its head is, the event does not say.
                event.change = Some(Change::of_thread(issue, yes(about, &["draft"])));
            } else {
                event.issue = Some(issue);
            }
            event.comment = Some(comment(payload, "comment")?);
        }
        "pull_request_review" | "pull_request_review_comment" => {
            let change = change(at(payload, &["pull_request"]))?;
            (read.head, read.base) = (change.head.sha.clone(), change.base.sha.clone());
            event.kind = EventKind::IssueComment;
            event.change = Some(change);
            let (key, kind) = match name {
                "pull_request_review" => ("review", CommentKind::Review),
                _ => ("comment", CommentKind::Line),
            };
            event.comment = Some(Comment { kind, ..comment(payload, key)? });
            // A review that is handed in is new.
            if event.action.as_deref() == Some("submitted") {
                event.action = Some("created".to_owned());
            }
        }
        "merge_group" => {
            let group = at(payload, &["merge_group"]);
            event.kind = EventKind::MergeGroup;
            event.git_ref = word(group, &["head_ref"]);
            read.head = word(group, &["head_sha"]).and_then(|sha| commit(&sha));
            read.base = word(group, &["base_sha"]).and_then(|sha| commit(&sha));
            if read.head.is_none() {
                return Err(PayloadError::Broken("`merge_group.head_sha` is no commit".to_owned()));
            }
        }
        "workflow_dispatch" => {
            event.kind = EventKind::WorkflowDispatch;
            event.git_ref = word(payload, &["ref"]);
            let inputs = at(payload, &["inputs"]).as_object();
            event.inputs =
                inputs.into_iter().flatten().filter_map(|(name, value)| Some((name.clone(), scalar(value)?))).collect();
        }
        "repository_dispatch" => {
            event.kind = EventKind::Webhook;
            event.webhook = Some(Hook {
                event: event.action.clone().unwrap_or_default(),
                payload: at(payload, &["client_payload"]).clone(),
            });
        }
        other => return Err(PayloadError::Unknown(other.to_owned())),
    }
    Ok(read)
}

/// When what a payload is about changed last: its comment, else its pull request or issue; of a push, when there was one.
pub(in crate::adapter::ci) fn changed_ms(payload: &Value) -> Option<i64> {
    let about = ["comment", "pull_request", "issue"].into_iter().find(|name| at(payload, &[name]).is_object());
    match about {
        Some(about) => time_ms(payload, &[about, "updated_at"]),
        // Gitea does not say when a repository was pushed to, but a push changes it.
        None => ["pushed_at", "updated_at"].iter().find_map(|name| time_ms(payload, &["repository", name])),
    }
}

/// A push, as GitHub and those that follow it tell of it.
pub(in crate::adapter::ci) fn push(payload: &Value, read: &mut Payload) -> Result<(), PayloadError> {
    let event = &mut read.event;
    event.kind = EventKind::Push;
    event.git_ref = word(payload, &["ref"]);
    let Some(name) = event.git_ref.as_deref() else {
        return Err(PayloadError::Broken("`ref` is missing".to_owned()));
    };
    let id = |key: &str| word(payload, &[key]).and_then(|sha| commit(&sha));
    let (before, mut after) = (id("before"), id("after"));
    if name.starts_with("refs/tags/") && after.is_some() {
        // An annotated tag's own id is no commit's; where the event tells the commit, that one counts.
        after = word(payload, &["head_commit", "id"]).and_then(|sha| commit(&sha)).or(after);
    }
    read.head = after.clone();
    read.base = before.clone();
    event.push = Some(Push {
        before,
        after,
        branch: name.strip_prefix("refs/heads/").map(str::to_owned),
        tag: name.strip_prefix("refs/tags/").map(str::to_owned),
    });
    Ok(())
}

/// A pull request.
pub(in crate::adapter::ci) fn change(pull: &Value) -> Result<Change, PayloadError> {
    let side = |name: &str| Side {
        branch: word(pull, &[name, "ref"]).unwrap_or_default(),
        sha: word(pull, &[name, "sha"]).and_then(|sha| commit(&sha)),
        repository: word(pull, &[name, "repo", "full_name"]),
        repository_id: number(pull, &[name, "repo", "id"]),
    };
    let number =
        number(pull, &["number"]).ok_or_else(|| PayloadError::Broken("`pull_request.number` is missing".to_owned()))?;
    Ok(Change {
        number,
        title: text(pull, &["title"]).unwrap_or_default(),
        body: text(pull, &["body"]).unwrap_or_default(),
        author: word(pull, &["user", "login"]),
        url: word(pull, &["html_url"]),
        draft: yes(pull, &["draft"]),
        labels: words(pull, &["labels"], "name"),
        head: side("head"),
        base: side("base"),
    })
}

/// An issue.
pub(in crate::adapter::ci) fn issue(issue: &Value) -> Result<Issue, PayloadError> {
    let number =
        number(issue, &["number"]).ok_or_else(|| PayloadError::Broken("`issue.number` is missing".to_owned()))?;
    Ok(Issue {
        number,
        title: text(issue, &["title"]).unwrap_or_default(),
        body: text(issue, &["body"]).unwrap_or_default(),
        author: word(issue, &["user", "login"]),
        url: word(issue, &["html_url"]),
        labels: words(issue, &["labels"], "name"),
    })
}

/// A comment; `key`: where it stands in the payload.
pub(in crate::adapter::ci) fn comment(payload: &Value, key: &str) -> Result<Comment, PayloadError> {
    let comment = at(payload, &[key]);
    let id = number(comment, &["id"]).ok_or_else(|| PayloadError::Broken(format!("`{key}.id` is missing")))?;
    Ok(Comment {
        id,
        kind: CommentKind::Thread,
        body: text(comment, &["body"]).unwrap_or_default(),
        before: text(payload, &["changes", "body", "from"]),
        author: word(comment, &["user", "login"]),
        url: word(comment, &["html_url"]),
    })
}

/// Whether an account is a program: by its type, or by its name where there is none.
fn is_bot(user: &Value) -> bool {
    word(user, &["type"]).is_some_and(|kind| kind.eq_ignore_ascii_case("bot"))
        || word(user, &["login"]).is_some_and(|name| name.ends_with("[bot]"))
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    }
}
