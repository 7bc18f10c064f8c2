//! Issues as GitHub and Gitea speak of them; GitLab has words of its own.

use super::{Call, Inner, Memory, Said, not_found};
use serde_json::{Value, json};

/// An issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeIssue {
    pub number: u64,
    pub title: String,
    pub body: String,
    pub author: String,
    /// `open`, `closed`.
    pub state: &'static str,
    /// Who closed it last.
    pub closed_by: Option<String>,
    pub labels: Vec<String>,
    pub assignees: Vec<String>,
}

impl FakeIssue {
    /// An open one.
    pub fn new(number: u64, author: &str, title: &str, body: &str) -> Self {
        Self {
            number,
            title: title.into(),
            body: body.into(),
            author: author.into(),
            state: "open",
            closed_by: None,
            labels: Vec::new(),
            assignees: Vec::new(),
        }
    }

    /// Somebody closes it, or opens it again.
    pub fn set_open(&mut self, open: bool, by: &str) {
        self.state = if open { "open" } else { "closed" };
        self.closed_by = (!open).then(|| by.to_owned());
    }
}

impl Memory {
    /// An issue by its number.
    pub fn issue(&mut self, number: &str) -> Option<&mut FakeIssue> {
        self.issues.iter_mut().find(|issue| issue.number.to_string() == number)
    }
}

/// Names of a list in a body.
pub(super) fn names(value: &Value) -> Vec<String> {
    serde_json::from_value(value.clone()).unwrap_or_default()
}

fn logins(names: &[String]) -> Vec<Value> {
    names.iter().map(|name| json!({ "login": name })).collect()
}

/// An issue; `closed_by`: whether the forge says who closed it.
pub(super) fn issue(issue: &FakeIssue, closed_by: bool) -> Value {
    let mut wire = json!({
        "number": issue.number, "title": issue.title, "body": issue.body, "user": { "login": issue.author },
        "html_url": format!("https://forge.example/acme/widgets/issues/{}", issue.number), "state": issue.state,
        "labels": issue.labels.iter().map(|name| json!({ "id": 1, "name": name })).collect::<Vec<_>>(),
        "assignees": logins(&issue.assignees), "pull_request": null,
    });
    if closed_by {
        wire["closed_by"] = issue.closed_by.as_ref().map_or(Value::Null, |who| json!({ "login": who }));
    }
    wire
}

/// The list of those that `author` opened.
pub(super) fn list(inner: &Inner, author: Option<&str>, closed_by: bool) -> Vec<Value> {
    let memory = inner.memory();
    let of = memory.issues.iter().filter(|it| author.is_none_or(|author| it.author == author));
    of.map(|it| issue(it, closed_by)).collect()
}

/// Opens one. `labels`: their names.
pub(super) fn open(inner: &Inner, call: &Call, labels: Vec<String>) -> Said {
    let (author, title) = (inner.account(), call.text("title"));
    let mut memory = inner.memory();
    if memory.no_issues {
        return (410, json!({ "message": "Issues has been disabled in this repository." }));
    }
    if title.is_empty() {
        return (
            422,
            json!({ "message": "Validation Failed", "errors": [{ "field": "title", "code": "missing_field" }] }),
        );
    }
    let assignees = names(&call.body["assignees"]);
    if let Some(stranger) = assignees.iter().find(|name| !memory.members.contains_key(*name)) {
        return (422, json!({ "message": format!("Assignee does not exist: [name: {stranger}]") }));
    }
    let made = FakeIssue { labels, assignees, ..FakeIssue::new(memory.id(), &author, &title, &call.text("body")) };
    memory.issues.push(made.clone());
    (201, issue(&made, true))
}

/// Changes one: what is named is put in the place of what was there.
pub(super) fn edit(inner: &Inner, call: &Call, number: &str) -> Said {
    let by = inner.account();
    let mut memory = inner.memory();
    let Some(found) = memory.issue(number) else { return not_found() };
    if call.body.get("body").is_some() {
        found.body = call.text("body");
    }
    if let Some(state) = call.body.get("state").filter(|state| **state != json!(found.state)) {
        found.set_open(*state == json!("open"), &by);
    }
    if call.body.get("assignees").is_some() {
        found.assignees = names(&call.body["assignees"]);
    }
    (200, issue(found, true))
}

/// Adds names that are not there.
pub(super) fn add(to: &mut Vec<String>, more: Vec<String>) {
    let new: Vec<String> = more.into_iter().filter(|name| !to.contains(name)).collect();
    to.extend(new);
}
