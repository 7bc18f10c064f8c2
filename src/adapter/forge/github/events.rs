//! What happened to issues and pull requests, from GitHub's own list of events.

use super::wire::Label;
use super::{Github, READ_CHANGES};
use crate::adapter::forge::{time_ms, time_text};
use crate::model::event::Issue;
use crate::port::forge::{ForgeError, Happening, Thread};
use serde::Deserialize;
use serde_json::Value;

/// What workflows wait for.
const WORDS: [&str; 6] = ["labeled", "unlabeled", "closed", "reopened", "ready_for_review", "converted_to_draft"];

#[derive(Deserialize)]
struct Actor {
    login: String,
    #[serde(rename = "type")]
    kind: Option<String>,
}

impl Actor {
    fn is_program(&self) -> bool {
        self.kind.as_deref() == Some("Bot") || self.login.ends_with("[bot]")
    }
}

#[derive(Deserialize)]
struct IssueWire {
    number: u64,
    #[serde(default)]
    title: String,
    body: Option<String>,
    user: Option<Actor>,
    html_url: Option<String>,
    #[serde(default)]
    labels: Vec<Label>,
    /// There, where it is a pull request.
    pull_request: Option<Value>,
    created_at: Option<String>,
}

#[derive(Deserialize)]
struct EventWire {
    id: u64,
    event: String,
    actor: Option<Actor>,
    label: Option<Label>,
    created_at: Option<String>,
    issue: Option<IssueWire>,
}

impl IssueWire {
    fn thread(&self) -> Thread {
        if self.pull_request.is_some() { Thread::Change(self.number) } else { Thread::Issue(self.number) }
    }

    fn issue(self) -> Issue {
        Issue {
            number: self.number,
            title: self.title,
            body: self.body.unwrap_or_default(),
            author: self.user.map(|user| user.login),
            url: self.html_url,
            labels: self.labels.into_iter().map(|label| label.name).collect(),
        }
    }
}

/// Whether a time is at or after another; one that is not there counts as late.
fn late(at: Option<&String>, since_ms: i64) -> bool {
    at.and_then(|at| time_ms(at)).is_none_or(|at| at >= since_ms)
}

impl Github {
    /// Issues that were opened, and what happened to issues and pull requests since.
    pub(super) async fn happenings(&self, since_ms: i64) -> Result<Vec<Happening>, ForgeError> {
        let doing = "looking for what happened to issues";
        let since = time_text(since_ms);
        let query = [("since", since.as_str()), ("state", "open"), ("per_page", "100")];
        let ask = self.at.reading(self.at.url(&["issues"], &query)?, doing, READ_CHANGES);
        let issues: Vec<IssueWire> = self.at.http.all(ask).await?;
        let is_new = |it: &IssueWire| it.pull_request.is_none() && late(it.created_at.as_ref(), since_ms);
        let opened = issues.into_iter().filter(is_new).map(|issue| Happening {
            id: format!("opened-{}", issue.number),
            thread: issue.thread(),
            action: "opened".to_owned(),
            label: None,
            by_program: issue.user.as_ref().is_some_and(Actor::is_program),
            by: issue.user.as_ref().map(|user| user.login.clone()),
            at_ms: issue.created_at.as_deref().and_then(time_ms),
            issue: Some(issue.issue()),
        });
        // The newest come first.
        let ask = self.at.reading(self.at.url(&["issues", "events"], &[("per_page", "100")])?, doing, READ_CHANGES);
        let is_late = |event: &EventWire| late(event.created_at.as_ref(), since_ms);
        let events: Vec<EventWire> = self.at.http.while_all(ask, is_late).await?;
        let happened = events.into_iter().rev().filter(|it| WORDS.contains(&it.event.as_str())).filter_map(|it| {
            let issue = it.issue?;
            Some(Happening {
                id: it.id.to_string(),
                thread: issue.thread(),
                action: it.event,
                label: it.label.map(|label| label.name),
                by_program: it.actor.as_ref().is_some_and(Actor::is_program),
                by: it.actor.map(|actor| actor.login),
                at_ms: it.created_at.as_deref().and_then(time_ms),
                issue: issue.pull_request.is_none().then(|| issue.issue()),
            })
        });
        Ok(opened.chain(happened).collect())
    }
}
