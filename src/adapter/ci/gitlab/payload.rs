//! GitLab's webhooks → [`Event`].

use crate::adapter::ci::commit;
use crate::adapter::ci::json::{at, number, text, time_ms, word, words, yes};
use crate::model::event::{Change, Comment, CommentKind, Event, EventKind, Hook, Issue, Push, Side};
use crate::port::ci::{Payload, PayloadError};
use serde_json::Value;

/// Reads the payload of a webhook: its own word for what it is, not the header's, says its kind. One of a kind that is
/// not known is a [`EventKind::Webhook`] of that name. Labels that were set or taken at once are one event each.
///
/// # Errors
/// [`PayloadError`].
pub fn events(payload: &Value) -> Result<Vec<Payload>, PayloadError> {
    if !payload.is_object() {
        return Err(PayloadError::Broken("it is not a JSON object".to_owned()));
    }
    let kind = word(payload, &["object_kind"]).or_else(|| word(payload, &["event_name"]));
    let attributes = at(payload, &["object_attributes"]);
    let actor = word(payload, &["user", "username"]).or_else(|| word(payload, &["user_username"]));
    let event = Event {
        actor_is_bot: actor.as_deref().is_some_and(super::is_bot),
        actor,
        repository: word(payload, &["project", "path_with_namespace"]),
        action: word(attributes, &["action"]).map(|action| forge_word(&action).to_owned()),
        at_ms: time_ms(attributes, &["updated_at"]),
        ..Event::default()
    };
    let default_branch = word(payload, &["project", "default_branch"]);
    let mut read = Payload { event, default_branch, head: None, base: None };
    let event = &mut read.event;
    match kind.as_deref() {
        Some("merge_request") => {
            event.kind = EventKind::PullRequest;
            let change = change(attributes, payload)?;
            (read.head, read.base) = (change.head.sha.clone(), change.base.sha.clone());
            event.change = Some(change);
            // A push tells where the branch was before; another update is one of words.
            let pushed = event.action.as_deref() == Some("edited") && word(attributes, &["oldrev"]).is_some();
            if pushed {
                event.action = Some("synchronize".to_owned());
            }
            return Ok(if pushed { vec![read] } else { each_label(read, payload) });
        }
        Some("issue" | "work_item") => {
            event.kind = EventKind::Issues;
            event.issue = Some(issue(attributes, payload)?);
            return Ok(each_label(read, payload));
        }
        Some("note") => note(attributes, payload, &mut read)?,
        Some("push" | "tag_push") => push(payload, &mut read)?,
        other => {
            event.kind = EventKind::Webhook;
            let name = word(payload, &["event"]).or_else(|| other.map(str::to_owned)).unwrap_or_default();
            event.webhook = Some(Hook { event: name, payload: payload.clone() });
        }
    }
    Ok(vec![read])
}

/// GitLab's words for what happened, as workflows write them.
fn forge_word(action: &str) -> &str {
    match action {
        "open" => "opened",
        "update" => "edited",
        "reopen" => "reopened",
        "close" => "closed",
        "create" => "created",
        "merge" => "merged",
        other => other,
    }
}

/// An update that set or took labels: one event for each of them. What was opened with labels was labelled then, too.
fn each_label(mut read: Payload, payload: &Value) -> Vec<Payload> {
    let listed = |key: &str| words(payload, &["changes", "labels", key], "title");
    match read.event.action.as_deref() {
        Some("opened") => {
            let labels = read.event.labels().to_vec();
            read.opened_with(&labels)
        }
        Some("edited") => {
            let (before, now) = (listed("previous"), listed("current"));
            let set = now.iter().filter(|label| !before.contains(label)).map(|label| ("labeled", label));
            let taken = before.iter().filter(|label| !now.contains(label)).map(|label| ("unlabeled", label));
            let all: Vec<Payload> = set.chain(taken).map(|(action, label)| read.labelled(action, label)).collect();
            if !all.is_empty() {
                return all;
            }
            read.event.action = draft_word(payload).map(str::to_owned).or(read.event.action);
            vec![read]
        }
        _ => vec![read],
    }
}

fn draft_word(payload: &Value) -> Option<&'static str> {
    match at(payload, &["changes", "draft", "current"]).as_bool()? {
        true => Some("converted_to_draft"),
        false => Some("ready_for_review"),
    }
}

fn note(attributes: &Value, payload: &Value, read: &mut Payload) -> Result<(), PayloadError> {
    let event = &mut read.event;
    event.kind = EventKind::IssueComment;
    let id = number(attributes, &["id"]).ok_or_else(|| missing("`object_attributes.id`"))?;
    match word(attributes, &["noteable_type"]).as_deref() {
        // GitLab itself tells so what happened.
        _ if yes(attributes, &["system"]) => return Err(PayloadError::Unknown("a system's note".to_owned())),
        Some("MergeRequest") => {
            let change = change(at(payload, &["merge_request"]), payload)?;
            (read.head, read.base) = (change.head.sha.clone(), change.base.sha.clone());
            event.change = Some(change);
        }
        Some("Issue" | "WorkItem") => event.issue = Some(issue(at(payload, &["issue"]), payload)?),
        // There is no thread that could be answered in.
        other => return Err(PayloadError::Unknown(format!("note on {}", other.unwrap_or("something")))),
    }
    // The hook tells who acts. Whose the note is it says by number only.
    let ids = (number(attributes, &["author_id"]), number(payload, &["user", "id"]));
    let theirs = match ids {
        (Some(author), Some(actor)) => author == actor,
        _ => event.action.as_deref() == Some("created"),
    };
    event.comment = Some(Comment {
        id,
        kind: CommentKind::Thread,
        body: text(attributes, &["note"]).unwrap_or_default(),
        before: text(payload, &["changes", "note", "previous"]),
        author: event.actor.clone().filter(|_| theirs),
        url: word(attributes, &["url"]),
    });
    Ok(())
}

fn push(payload: &Value, read: &mut Payload) -> Result<(), PayloadError> {
    let event = &mut read.event;
    event.kind = EventKind::Push;
    let name = word(payload, &["ref"]).ok_or_else(|| missing("`ref`"))?;
    let id = |key: &str| word(payload, &[key]).and_then(|sha| commit(&sha));
    // An annotated tag's own id is no commit's; `checkout_sha` is one. The zeros of a deletion count.
    let after = id("after").and_then(|after| id("checkout_sha").or(Some(after)));
    (read.head, read.base) = (after.clone(), id("before"));
    event.push = Some(Push {
        before: read.base.clone(),
        after,
        branch: name.strip_prefix("refs/heads/").map(str::to_owned),
        tag: name.strip_prefix("refs/tags/").map(str::to_owned),
    });
    event.git_ref = Some(name);
    Ok(())
}

fn missing(what: &str) -> PayloadError {
    PayloadError::Broken(format!("{what} is missing"))
}

fn change(request: &Value, payload: &Value) -> Result<Change, PayloadError> {
    let number = number(request, &["iid"]).ok_or_else(|| missing("the merge request's `iid`"))?;
    let id = |key: &str| self::number(request, &[key]);
    let side = |branch: &str, project: &str, id: Option<u64>, sha: Option<String>| Side {
        branch: word(request, &[branch]).unwrap_or_default(),
        sha,
        repository: word(request, &[project, "path_with_namespace"]),
        repository_id: id,
    };
    let head = word(request, &["last_commit", "id"]).and_then(|sha| commit(&sha));
    Ok(Change {
        number,
        title: text(request, &["title"]).unwrap_or_default(),
        body: text(request, &["description"]).unwrap_or_default(),
        author: author(request, payload),
        url: word(request, &["url"]),
        draft: yes(request, &["draft"]) || yes(request, &["work_in_progress"]),
        labels: labels(request, payload),
        head: side("source_branch", "source", id("source_project_id"), head),
        base: side("target_branch", "target", id("target_project_id"), None),
    })
}

fn issue(issue: &Value, payload: &Value) -> Result<Issue, PayloadError> {
    let number = number(issue, &["iid"]).ok_or_else(|| missing("the issue's `iid`"))?;
    Ok(Issue {
        number,
        title: text(issue, &["title"]).unwrap_or_default(),
        body: text(issue, &["description"]).unwrap_or_default(),
        author: author(issue, payload),
        url: word(issue, &["url"]),
        labels: labels(issue, payload),
    })
}

/// Who opened it: known where that is whoever acts.
fn author(about: &Value, payload: &Value) -> Option<String> {
    let author = number(about, &["author_id"])?;
    (Some(author) == number(payload, &["user", "id"])).then(|| word(payload, &["user", "username"])).flatten()
}

fn labels(about: &Value, payload: &Value) -> Vec<String> {
    match words(about, &["labels"], "title") {
        labels if !labels.is_empty() => labels,
        _ => words(payload, &["labels"], "title"),
    }
}
