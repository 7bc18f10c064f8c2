//! What happened, in the words of no forge: what a trigger looks at, and what templates see as `event`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Somebody typed a command line.
    #[default]
    Manual,
    /// A pull or merge request was opened, pushed to, labelled, …
    PullRequest,
    /// Commits or a tag were pushed.
    Push,
    /// It was time.
    Schedule,
    /// An issue was opened, labelled, …
    Issues,
    /// Somebody commented on an issue or a change; [`Event::command`] where it begins with our phrase.
    IssueComment,
    /// A merge queue asks for checks.
    MergeGroup,
    /// By hand, through the forge's button or API.
    WorkflowDispatch,
    /// A call of a hook of our own.
    Webhook,
}

impl EventKind {
    /// Its name in a workflow's `on:` and in `event.kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::PullRequest => "pull_request",
            Self::Push => "push",
            Self::Schedule => "schedule",
            Self::Issues => "issues",
            Self::IssueComment => "issue_comment",
            Self::MergeGroup => "merge_group",
            Self::WorkflowDispatch => "workflow_dispatch",
            Self::Webhook => "webhook",
        }
    }
}

/// One thing that happened. All text in it is untrusted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Event {
    /// What kind.
    pub kind: EventKind,
    /// The forge's own word for the detail: `opened`, `synchronize`, `labeled`, `created`, `edited`.
    pub action: Option<String>,
    /// Who did it: the *sender*, not the author of what it is about.
    pub actor: Option<String>,
    /// Whether the sender is a program.
    pub actor_is_bot: bool,
    /// When what it is about changed last, by the forge's clock, in milliseconds since 1970: it tells two events of a kind
    /// apart that say the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<i64>,
    /// `owner/name`.
    pub repository: Option<String>,
    /// Full name of the ref that it happened on (`refs/heads/main`).
    pub git_ref: Option<String>,
    /// The commit that it happened on.
    pub sha: Option<String>,
    /// The label, where one was set or taken away.
    pub label: Option<String>,
    /// The command that a comment begins with.
    pub command: Option<CommandText>,
    /// The pull or merge request that it is about.
    pub change: Option<Change>,
    /// The issue that it is about.
    pub issue: Option<Issue>,
    /// The comment.
    pub comment: Option<Comment>,
    /// What was pushed.
    pub push: Option<Push>,
    /// The time table's entry.
    pub schedule: Option<Tick>,
    /// A call of a hook of our own.
    pub webhook: Option<Hook>,
    /// What a person gave by hand.
    pub inputs: BTreeMap<String, String>,
}

/// A command in a comment: `/codeforge NAME TEXT`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CommandText {
    /// The word after our phrase, in lower case.
    pub name: String,
    /// The rest of the line, and `key=value` pairs taken out of it.
    pub text: String,
    /// `key=value` pairs.
    pub values: BTreeMap<String, String>,
}

/// A pull or merge request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Change {
    /// Its number (`iid` on GitLab).
    pub number: u64,
    /// Its title.
    pub title: String,
    /// Its description.
    pub body: String,
    /// Who opened it.
    pub author: Option<String>,
    /// Its address for people.
    pub url: Option<String>,
    /// Whether it is a draft.
    pub draft: bool,
    /// Its labels.
    pub labels: Vec<String>,
    /// Where the proposed commits are.
    pub head: Side,
    /// Where they are to go.
    pub base: Side,
}

impl Change {
    /// What a comment's event tells of the change that it stands under: not where its head is, so that it is a fork until
    /// somebody asks.
    pub fn of_thread(issue: Issue, draft: bool) -> Self {
        Self {
            number: issue.number,
            title: issue.title,
            body: issue.body,
            author: issue.author,
            url: issue.url,
            draft,
            labels: issue.labels,
            ..Self::default()
        }
    }

    /// Whether its head lies in another repository than its base. What is not known counts as another: a fork.
    pub fn is_fork(&self) -> bool {
        match (self.head.repository_id, self.base.repository_id) {
            (Some(head), Some(base)) => head != base,
            _ => match (&self.head.repository, &self.base.repository) {
                (Some(head), Some(base)) => !head.eq_ignore_ascii_case(base),
                _ => true,
            },
        }
    }
}

/// One side of a change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Side {
    /// Branch name, without `refs/heads/`.
    pub branch: String,
    /// Full commit id.
    pub sha: Option<String>,
    /// `owner/name`; `None`: gone, or not told.
    pub repository: Option<String>,
    /// The forge's number for the repository, where it has one.
    pub repository_id: Option<u64>,
}

/// An issue.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Issue {
    /// Its number.
    pub number: u64,
    /// Its title.
    pub title: String,
    /// Its description.
    pub body: String,
    /// Who opened it.
    pub author: Option<String>,
    /// Its address for people.
    pub url: Option<String>,
    /// Its labels.
    pub labels: Vec<String>,
}

/// Where a comment stands. Each kind has numbers of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommentKind {
    /// In the thread of an issue or a change.
    #[default]
    Thread,
    /// At a line of a change's difference.
    Line,
    /// A review's own words.
    Review,
}

/// A comment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Comment {
    /// The forge's number for it.
    pub id: u64,
    /// Where it stands.
    #[serde(default)]
    pub kind: CommentKind,
    /// Its text as of the event.
    pub body: String,
    /// Its text before it was edited.
    pub before: Option<String>,
    /// Who wrote it (an edit's sender is [`Event::actor`]).
    pub author: Option<String>,
    /// Its address for people.
    pub url: Option<String>,
}

impl Comment {
    /// What keys know it by: its number, and its kind where that is not the usual one.
    pub fn known_by(&self) -> String {
        match self.kind {
            CommentKind::Thread => self.id.to_string(),
            CommentKind::Line => format!("line-{}", self.id),
            CommentKind::Review => format!("review-{}", self.id),
        }
    }
}

/// What was pushed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Push {
    /// The commit before; `None`: the branch is new.
    pub before: Option<String>,
    /// The commit after; `None`: it was deleted.
    pub after: Option<String>,
    /// The branch, without `refs/heads/`.
    pub branch: Option<String>,
    /// The tag, without `refs/tags/`.
    pub tag: Option<String>,
}

/// A time table's entry that was due.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tick {
    /// The entry as it is written (`H 2 * * *`); `None` where the home does not say.
    pub cron: Option<String>,
    /// When it was due, RFC 3339.
    pub at: Option<String>,
}

/// A call of `POST /api/v1/hooks/EVENT`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Hook {
    /// Its name.
    pub event: String,
    /// What it carried.
    pub payload: Value,
}

/// What is told of a change where there is something new to look at.
const NEWS: [&str; 5] = ["opened", "synchronize", "reopened", "ready_for_review", "checks_requested"];

impl Event {
    /// Of a change: whether there is something new to look at, in one of the words for that or in none.
    pub fn is_news(&self) -> bool {
        self.action.as_deref().is_none_or(|action| NEWS.contains(&action))
    }

    /// The labels of what it is about.
    pub fn labels(&self) -> &[String] {
        match (&self.change, &self.issue) {
            (Some(change), _) => &change.labels,
            (None, Some(issue)) => &issue.labels,
            (None, None) => &[],
        }
    }

    /// What of an event a delivery needs to know, out of [`Event::value`]'s shape: its kind, its change, its issue. What
    /// is missing or of another shape is not there.
    pub fn read(value: &Value) -> Self {
        let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let number = |value: &Value| value.get("number").and_then(Value::as_u64);
        let side = |value: Option<&Value>| {
            let value = value.unwrap_or(&Value::Null);
            let (sha, repository) = (text(value, "sha"), text(value, "repository"));
            Side { branch: text(value, "ref").unwrap_or_default(), sha, repository, repository_id: None }
        };
        let kind = value.get("kind").cloned().and_then(|kind| serde_json::from_value(kind).ok()).unwrap_or_default();
        let change = value.get("change").and_then(|change| {
            Some(Change {
                number: number(change)?,
                title: text(change, "title").unwrap_or_default(),
                url: text(change, "url"),
                head: side(change.get("head")),
                base: side(change.get("base")),
                ..Change::default()
            })
        });
        let issue = value.get("issue").and_then(|issue| {
            let (title, url) = (text(issue, "title").unwrap_or_default(), text(issue, "url"));
            Some(Issue { number: number(issue)?, title, url, ..Issue::default() })
        });
        Self {
            kind,
            actor: text(value, "actor"),
            repository: text(value, "repository"),
            change,
            issue,
            ..Self::default()
        }
    }

    /// As templates and the journal have it: a part of the fixed shape (`plan` lays it over the whole one).
    pub fn value(&self) -> Value {
        let side = |side: &Side| json!({ "ref": side.branch, "sha": side.sha, "repository": side.repository });
        json!({
            "kind": self.kind.as_str(),
            "action": self.action,
            "actor": self.actor,
            "repository": self.repository,
            "ref": self.git_ref,
            "sha": self.sha,
            "label": self.label,
            "command": self.command.as_ref().map(|command| json!({ "name": command.name, "text": command.text })),
            "change": self.change.as_ref().map(|change| json!({
                "number": change.number, "title": change.title, "body": change.body, "author": change.author,
                "url": change.url, "draft": change.draft, "labels": change.labels,
                "head": side(&change.head), "base": side(&change.base),
            })),
            "issue": self.issue.as_ref().map(|issue| json!({
                "number": issue.number, "title": issue.title, "body": issue.body, "author": issue.author,
                "url": issue.url, "labels": issue.labels,
            })),
            "comment": self.comment.as_ref().map(|comment| json!({
                "id": comment.id, "body": comment.body, "author": comment.author, "url": comment.url,
            })),
            "push": self.push.as_ref().map(|push| json!({
                "before": push.before, "after": push.after, "branch": push.branch, "tag": push.tag,
            })),
            "schedule": self.schedule.as_ref().map(|tick| json!({ "cron": tick.cron, "at": tick.at })),
            "webhook": self.webhook.as_ref().map(|hook| json!({ "event": hook.event, "payload": hook.payload })),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, Event, EventKind, Issue, Side};
    use serde_json::{Value, json};

    #[test]
    fn a_delivery_finds_its_change_in_what_the_journal_has() {
        let side = |branch: &str, name: &str| Side {
            branch: branch.into(),
            sha: Some("a".repeat(40)),
            repository: Some(name.into()),
            repository_id: None,
        };
        let (head, base) = (side("topic", "eve/widgets"), side("main", "acme/widgets"));
        let change = Change { number: 7, head, base, ..Change::default() };
        let issue = Issue { number: 3, ..Issue::default() };
        let kind = EventKind::PullRequest;
        let event = Event { kind, change: Some(change), issue: Some(issue), ..Event::default() };
        assert_eq!(Event::read(&event.value()), event);
        assert_eq!(Event::read(&Value::Null), Event::default());
        assert_eq!(Event::read(&json!({ "kind": 7, "change": { "number": "7" } })), Event::default());
    }

    #[test]
    fn what_is_not_known_is_a_fork() {
        let side = |id: Option<u64>, name: Option<&str>| Side {
            repository_id: id,
            repository: name.map(str::to_owned),
            ..Side::default()
        };
        let fork = |head: Side, base: Side| Change { head, base, ..Change::default() }.is_fork();
        assert!(fork(Side::default(), Side::default()));
        assert!(fork(side(None, None), side(Some(1), Some("acme/widgets"))));
        assert!(fork(side(Some(2), Some("acme/widgets")), side(Some(1), Some("acme/widgets"))));
        assert!(fork(side(None, Some("eve/widgets")), side(None, Some("acme/widgets"))));
        assert!(!fork(side(Some(1), None), side(Some(1), None)));
        assert!(!fork(side(None, Some("Acme/widgets")), side(None, Some("acme/Widgets"))));
    }
}
