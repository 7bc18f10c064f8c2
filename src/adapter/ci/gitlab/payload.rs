//! GitLab's webhooks → [`Event`].

use crate::adapter::ci::commit;
use crate::adapter::ci::json::{at, number, text, word, words};
use crate::model::event::{Change, Comment, Event, EventKind, Hook, Issue, Side};
use serde_json::Value;

/// What a payload says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Payload {
    /// What happened.
    pub event: Event,
    /// The project's default branch.
    pub default_branch: Option<String>,
}

/// Reads the payload of a webhook. One of a kind that is not known is a [`EventKind::Webhook`] of that name.
///
/// # Errors
/// What is missing, in words.
pub fn event(payload: &Value) -> Result<Payload, String> {
    if !payload.is_object() {
        return Err("it is not a JSON object".to_owned());
    }
    let kind = word(payload, &["object_kind"]).or_else(|| word(payload, &["event_name"]));
    let mut event = Event {
        actor: word(payload, &["user", "username"]).or_else(|| word(payload, &["user_username"])),
        repository: word(payload, &["project", "path_with_namespace"]),
        action: word(payload, &["object_attributes", "action"]).map(|action| forge_word(&action)),
        ..Event::default()
    };
    event.actor_is_bot = event.actor.as_deref().is_some_and(super::is_bot);
    let attributes = at(payload, &["object_attributes"]);
    match kind.as_deref() {
        Some("merge_request") => {
            event.kind = EventKind::PullRequest;
            event.change = Some(change(attributes, payload)?);
            event.label = new_label(payload);
        }
        Some("issue" | "work_item") => {
            event.kind = EventKind::Issues;
            event.issue = Some(issue(attributes, payload)?);
            event.label = new_label(payload);
        }
        Some("note") => {
            event.kind = EventKind::IssueComment;
            let id = number(attributes, &["id"]).ok_or("`object_attributes.id` is missing")?;
            let author = event.actor.clone();
            event.comment = Some(Comment {
                id,
                body: text(attributes, &["note"]).unwrap_or_default(),
                before: text(payload, &["changes", "note", "previous"]),
                // The hook tells who acts. Only a new note is certain to be theirs.
                author: author.filter(|_| event.action.as_deref() != Some("edited")),
                url: word(attributes, &["url"]),
            });
            match word(attributes, &["noteable_type"]).as_deref() {
                Some("MergeRequest") => event.change = Some(change(at(payload, &["merge_request"]), payload)?),
                Some("Issue") => event.issue = Some(issue(at(payload, &["issue"]), payload)?),
                _ => {}
            }
        }
        other => {
            event.kind = EventKind::Webhook;
            let name = word(payload, &["event"]).or_else(|| other.map(str::to_owned)).unwrap_or_default();
            event.webhook = Some(Hook { event: name, payload: payload.clone() });
        }
    }
    Ok(Payload { event, default_branch: word(payload, &["project", "default_branch"]) })
}

/// GitLab's words for what happened, as workflows write them.
fn forge_word(action: &str) -> String {
    match action {
        "open" => "opened",
        "update" => "synchronize",
        "reopen" => "reopened",
        "close" => "closed",
        "create" => "created",
        "merge" => "merged",
        other => other,
    }
    .to_owned()
}

/// The label that an update added.
fn new_label(payload: &Value) -> Option<String> {
    let before = words(payload, &["changes", "labels", "previous"], "title");
    words(payload, &["changes", "labels", "current"], "title").into_iter().find(|label| !before.contains(label))
}

fn change(request: &Value, payload: &Value) -> Result<Change, String> {
    let number = number(request, &["iid"]).ok_or("the merge request's `iid` is missing")?;
    let id = |key: &str| self::number(request, &[key]);
    Ok(Change {
        number,
        title: text(request, &["title"]).unwrap_or_default(),
        body: text(request, &["description"]).unwrap_or_default(),
        author: None,
        url: word(request, &["url"]),
        draft: at(request, &["draft"]).as_bool().unwrap_or_default(),
        labels: match words(request, &["labels"], "title") {
            labels if !labels.is_empty() => labels,
            _ => words(payload, &["labels"], "title"),
        },
        head: Side {
            branch: word(request, &["source_branch"]).unwrap_or_default(),
            sha: word(request, &["last_commit", "id"]).and_then(|sha| commit(&sha)),
            repository: word(request, &["source", "path_with_namespace"]),
            repository_id: id("source_project_id"),
        },
        base: Side {
            branch: word(request, &["target_branch"]).unwrap_or_default(),
            sha: None,
            repository: word(request, &["target", "path_with_namespace"]),
            repository_id: id("target_project_id"),
        },
    })
}

fn issue(issue: &Value, payload: &Value) -> Result<Issue, String> {
    let number = number(issue, &["iid"]).ok_or("the issue's `iid` is missing")?;
    Ok(Issue {
        number,
        title: text(issue, &["title"]).unwrap_or_default(),
        body: text(issue, &["description"]).unwrap_or_default(),
        author: None,
        url: word(issue, &["url"]),
        labels: match words(issue, &["labels"], "title") {
            labels if !labels.is_empty() => labels,
            _ => words(payload, &["labels"], "title"),
        },
    })
}
