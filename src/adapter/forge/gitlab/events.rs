//! What happened to issues and merge requests: GitLab lists their labels' comings and goings, one by one.

use super::{Gitlab, at};
use crate::adapter::forge::{time_ms, time_text};
use crate::model::event::Issue;
use crate::port::forge::{ForgeError, Happening, Thread};
use serde::Deserialize;

#[derive(Deserialize)]
struct Moved {
    iid: u64,
    #[serde(default)]
    title: String,
    description: Option<String>,
    author: Option<Named>,
    web_url: Option<String>,
    #[serde(default)]
    labels: Vec<String>,
    created_at: Option<String>,
}

#[derive(Deserialize)]
struct Named {
    username: String,
}

#[derive(Deserialize)]
struct LabelName {
    name: String,
}

#[derive(Deserialize)]
struct LabelEvent {
    id: u64,
    user: Option<Named>,
    created_at: Option<String>,
    /// `None`: it is gone from the project.
    label: Option<LabelName>,
    action: String,
}

impl Gitlab {
    /// Issues that were opened, and labels that were set and taken since.
    pub(super) async fn happenings(&self, since_ms: i64) -> Result<Vec<Happening>, ForgeError> {
        let doing = "looking for what happened to issues";
        let since = time_text(since_ms);
        let query =
            [("state", "opened"), ("updated_after", since.as_str()), ("order_by", "updated_at"), ("per_page", "100")];
        let ms = |at: &Option<String>| at.as_deref().and_then(time_ms);
        let late = |at: Option<i64>| at.is_none_or(|at| at >= since_ms);
        let mut found = Vec::new();
        for (word, of) in
            [("issues", Thread::Issue as fn(u64) -> Thread), ("merge_requests", Thread::Change as fn(u64) -> Thread)]
        {
            let moved: Vec<Moved> = self.at.http.all(self.reading(self.at.url(&[word], &query)?, doing)).await?;
            for it in moved {
                let thread = of(it.iid);
                let (_, number) = at(thread);
                let author = it.author.map(|author| author.username);
                let issue = matches!(thread, Thread::Issue(_)).then(|| Issue {
                    number: it.iid,
                    title: it.title,
                    body: it.description.unwrap_or_default(),
                    author: author.clone(),
                    url: it.web_url,
                    labels: it.labels,
                });
                let happening = |id: String, action: &str, by: Option<String>, at_ms: Option<i64>| Happening {
                    id: format!("{word}-{number}-{id}"),
                    thread,
                    action: action.to_owned(),
                    label: None,
                    by_program: by.as_deref().is_some_and(crate::adapter::ci::gitlab::is_bot),
                    by,
                    at_ms,
                    issue: issue.clone(),
                };
                let made = ms(&it.created_at);
                if issue.is_some() && made.is_some_and(|at| at >= since_ms) {
                    found.push(happening("opened".to_owned(), "opened", author, made));
                }
                let parts = [word, number.as_str(), "resource_label_events"];
                let ask = self.reading(self.at.url(&parts, &[("per_page", "100")])?, doing);
                let labels: Vec<LabelEvent> = self.at.http.all(ask).await?;
                for event in labels.into_iter().filter(|event| late(ms(&event.created_at))) {
                    let action = if event.action == "add" { "labeled" } else { "unlabeled" };
                    let by = event.user.map(|user| user.username);
                    let happened = happening(format!("label-{}", event.id), action, by, ms(&event.created_at));
                    found.extend(event.label.map(|label| Happening { label: Some(label.name), ..happened }));
                }
            }
        }
        Ok(found)
    }
}
