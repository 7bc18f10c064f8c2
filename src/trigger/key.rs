//! The trigger's key: the same event gives the same branch, whoever runs it again. What really happens again gives the same
//! one, too; that it makes another job is [`Job::gives_way_to`](crate::model::job::Job::gives_way_to)'s to say.

use crate::model::event::{Comment, Event, EventKind};
use crate::model::id::short_hash;

/// Twelve hexadecimal digits for an event and a workflow. `occurrence` tells apart what the event itself does not
/// (`github:1234567`: the pipeline's run, the same for its reruns).
pub fn key(event: &Event, workflow: &str, occurrence: Option<&str>) -> String {
    let empty = String::new();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let repository = text(&event.repository).to_lowercase();
    let change = event.change.as_ref();
    let what = match event.kind {
        EventKind::PullRequest | EventKind::MergeGroup => {
            let number = change.map(|change| change.number.to_string());
            let head = change.and_then(|change| change.head.sha.clone()).or_else(|| event.sha.clone());
            // That there is something new is one thing, however it is told; what else happens to it is another.
            let other = match event.action.as_deref().filter(|_| !event.is_news()) {
                None => String::new(),
                Some(action) => format!(" {action} {}", text(&event.label)),
            };
            format!("{}@{}{other}", number.unwrap_or_default(), text(&head))
        }
        EventKind::Push => {
            let after = event.push.as_ref().and_then(|push| push.after.clone());
            format!("{}@{}", text(&event.git_ref), text(&after))
        }
        EventKind::Issues => {
            let number = event.issue.as_ref().map(|issue| issue.number).unwrap_or_default();
            format!("{number} {} {}", text(&event.action), text(&event.label))
        }
        EventKind::IssueComment => {
            let id = event.comment.as_ref().map(Comment::known_by).unwrap_or_default();
            let command = event.command.as_ref().map(|it| format!("{} {} {:?}", it.name, it.text, it.values));
            format!("{id} {}", text(&command))
        }
        EventKind::Webhook => {
            let hook = event.webhook.as_ref();
            let payload = hook.map(|hook| hook.payload.to_string()).unwrap_or_default();
            format!("{} {payload}", hook.map_or(&empty, |hook| &hook.event))
        }
        // One night is not the next one.
        EventKind::Schedule | EventKind::WorkflowDispatch | EventKind::Manual => {
            let at = event.schedule.as_ref().and_then(|tick| tick.at.clone());
            format!("{} {}", text(&at), occurrence.unwrap_or_default())
        }
    };
    let whole = [repository.as_str(), workflow, event.kind.as_str(), &what].join("\n");
    short_hash(whole.as_bytes(), 12)
}
