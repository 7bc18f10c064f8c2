//! Gitea's and Forgejo's webhooks → [`Event`](crate::model::event::Event). Their payloads follow GitHub's; their words for
//! what happened do not.

use crate::adapter::ci::github::payload::{change, changed_ms, comment, issue, push, wrong};
use crate::adapter::ci::json::{at, text, word, words, yes};
use crate::model::event::{Change, EventKind};
use crate::port::ci::{Payload, PayloadError};
use serde_json::Value;

/// Reads what a webhook brought. `name` is `X-Gitea-Event`, or the finer `X-Gitea-Event-Type` (`pull_request_sync`).
///
/// # Errors
/// [`PayloadError`].
pub fn events(name: &str, payload: &Value) -> Result<Vec<Payload>, PayloadError> {
    if !payload.is_object() {
        return Err(PayloadError::Broken("it is not a JSON object".to_owned()));
    }
    let mut read = Payload::default();
    let event = &mut read.event;
    event.action = word(payload, &["action"]);
    event.actor = word(payload, &["sender", "login"]).or_else(|| word(payload, &["sender", "username"]));
    event.actor_is_bot = event.actor.as_deref().is_some_and(is_bot);
    event.repository = word(payload, &["repository", "full_name"]);
    event.at_ms = changed_ms(payload);
    read.default_branch = word(payload, &["repository", "default_branch"]);
    match name {
        "push" => push(payload, &mut read)?,
        "pull_request"
        | "pull_request_sync"
        | "pull_request_label"
        | "pull_request_assign"
        | "pull_request_milestone"
        | "pull_request_review_request" => {
            // A review comes under this name too, with its words beside it.
            if at(payload, &["review"]).is_object() {
                return Err(PayloadError::Unknown(format!("{name} (a review)")));
            }
            let change = request(at(payload, &["pull_request"]))?;
            (read.head, read.base) = (change.head.sha.clone(), change.base.sha.clone());
            event.kind = EventKind::PullRequest;
            event.change = Some(change);
        }
        "issues" | "issue_assign" | "issue_label" | "issue_milestone" => {
            if !at(payload, &["comment"]).is_null() {
                return Err(wrong(name, "comment"));
            }
            event.kind = EventKind::Issues;
            event.issue = Some(issue(at(payload, &["issue"]))?);
        }
        // Older ones send a comment on a change by the second name; so they do with a remark in a review.
        "issue_comment" | "pull_request_comment" => {
            event.kind = EventKind::IssueComment;
            let about = at(payload, &["issue"]);
            let issue = issue(about)?;
            if at(payload, &["pull_request"]).is_object() {
                event.change = Some(request(at(payload, &["pull_request"]))?);
            } else if yes(payload, &["is_pull"]) || at(about, &["pull_request"]).is_object() {
                // Where its head is, an older one does not say.
                event.change = Some(Change::of_thread(issue, false));
            } else {
                event.issue = Some(issue);
            }
            event.comment = Some(comment(payload, "comment")?);
        }
        other => return Err(PayloadError::Unknown(other.to_owned())),
    }
    Ok(told(read, payload))
}

/// The same, with the words that workflows are written in. Labels that were set or taken at once are one event each; what
/// was opened with labels was labelled then, too.
fn told(mut read: Payload, payload: &Value) -> Vec<Payload> {
    match read.event.action.as_deref() {
        Some("synchronized") => read.event.action = Some("synchronize".to_owned()),
        Some("label_cleared") => read.event.action = Some("unlabeled".to_owned()),
        Some("label_updated") => {
            let each = |key: &str| words(payload, &["changes", key], "name");
            let set = each("added_labels").into_iter().map(|label| ("labeled", label));
            let taken = each("removed_labels").into_iter().map(|label| ("unlabeled", label));
            let all: Vec<Payload> = set.chain(taken).map(|(action, label)| read.labelled(action, &label)).collect();
            if !all.is_empty() {
                return all;
            }
            // An older one does not say which: those that are there count.
            read.event.action = Some("labeled".to_owned());
        }
        Some("opened") => {
            let labels = read.event.labels().to_vec();
            return read.opened_with(&labels);
        }
        _ => {}
    }
    vec![read]
}

/// A pull request; an older Gitea knows a draft by its title only.
fn request(pull: &Value) -> Result<Change, PayloadError> {
    let mut change = change(pull)?;
    let title = text(pull, &["title"]).unwrap_or_default().to_lowercase();
    change.draft |= ["wip:", "[wip]"].iter().any(|word| title.starts_with(word));
    Ok(change)
}

/// Accounts of the forge's own: of its CI, and of whoever was deleted.
pub(in crate::adapter) fn is_bot(name: &str) -> bool {
    matches!(name, "gitea-actions" | "forgejo-actions" | "ghost" | "Ghost") || name.ends_with("[bot]")
}
