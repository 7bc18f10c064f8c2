//! What happened to issues and pull requests: an issue's page has a line for each label that came or went.

use super::Gitea;
use super::changes::PAGE;
use super::wire::Label;
use crate::adapter::forge::alike::User;
use crate::adapter::forge::{time_ms, time_text};
use crate::model::event::Issue;
use crate::port::forge::{ForgeError, Happening, Thread};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Moved {
    number: u64,
    #[serde(default)]
    title: String,
    body: Option<String>,
    user: Option<User>,
    html_url: Option<String>,
    #[serde(default)]
    labels: Option<Vec<Label>>,
    /// There, where it is a pull request.
    pull_request: Option<Value>,
    created_at: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    id: u64,
    #[serde(rename = "type")]
    kind: String,
    user: Option<User>,
    label: Option<Label>,
    /// `1`: the label came; else it went.
    body: Option<String>,
    created_at: Option<String>,
}

impl Gitea {
    /// Issues that were opened, and labels that were set and taken since.
    pub(super) async fn happenings(&self, since_ms: i64) -> Result<Vec<Happening>, ForgeError> {
        let doing = "looking for what happened to issues";
        let since = time_text(since_ms);
        let url = self.at.url(&["issues"], &[("state", "open"), ("since", since.as_str()), PAGE])?;
        let moved: Vec<Moved> = self.at.http.all(self.reading(url, doing)).await?;
        let ms = |at: &Option<String>| at.as_deref().and_then(time_ms);
        let mut found = Vec::new();
        for it in moved {
            let (number, made) = (it.number, ms(&it.created_at));
            let thread = if it.pull_request.is_some() { Thread::Change(it.number) } else { Thread::Issue(it.number) };
            let author = it.user.map(|user| user.login);
            let labels = it.labels.unwrap_or_default().into_iter().map(|label| label.name).collect();
            let issue = matches!(thread, Thread::Issue(_)).then(|| Issue {
                number,
                title: it.title,
                body: it.body.unwrap_or_default(),
                author: author.clone(),
                url: it.html_url,
                labels,
            });
            let happening = |id: String, action: &str, by: Option<String>, at_ms: Option<i64>| Happening {
                id: format!("{number}-{id}"),
                thread,
                action: action.to_owned(),
                label: None,
                by_program: by.as_deref().is_some_and(crate::adapter::ci::gitea::payload::is_bot),
                by,
                at_ms,
                issue: issue.clone(),
            };
            if issue.is_some() && made.is_some_and(|at| at >= since_ms) {
                found.push(happening("opened".to_owned(), "opened", author, made));
            }
            let parts = ["issues", &number.to_string(), "timeline"];
            let url = self.at.url(&parts, &[("since", since.as_str()), PAGE])?;
            let entries: Vec<Entry> = self.at.http.all(self.reading(url, doing)).await?;
            for entry in entries.into_iter().filter(|entry| entry.kind == "label") {
                let action = if entry.body.as_deref() == Some("1") { "labeled" } else { "unlabeled" };
                let by = entry.user.map(|user| user.login);
                let happened = happening(format!("label-{}", entry.id), action, by, ms(&entry.created_at));
                found.extend(entry.label.map(|label| Happening { label: Some(label.name), ..happened }));
            }
        }
        Ok(found)
    }
}
