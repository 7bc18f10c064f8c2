//! Issues that stay current.

use super::changes::numbers;
use super::wire::IssueWire;
use super::{Gitlab, READ_API};
use crate::adapter::forge::http::{Failed, Kind, read};
use crate::adapter::forge::issues::{Wanted, refused};
use crate::port::forge::{ForgeError, IssueEdit, IssueInfo, IssueText, Issues, NewIssue};
use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Map, Value, json};

#[async_trait]
impl Issues for Gitlab {
    async fn kept_issues(&self, key: &str) -> Result<Vec<IssueInfo>, ForgeError> {
        let own = self.own().await?;
        self.at.marks.can_know(own)?;
        let mut query = vec![("state", "all"), ("order_by", "created_at"), ("sort", "asc"), ("per_page", "100")];
        query.extend(own.map(|own| ("author_username", own)));
        let url = self.at.url(&["issues"], &query)?;
        let found: Vec<IssueWire> =
            self.at.http.all(self.reading(url, "looking for our issue")).await.map_err(refused)?;
        Ok(self.at.marks.kept(own, key, found.into_iter().map(IssueInfo::from)))
    }

    async fn open_issue(&self, new: &NewIssue<'_>) -> Result<(IssueInfo, Vec<String>), ForgeError> {
        let doing = "opening an issue";
        let mut told = Vec::new();
        let assignees = self.accounts(new.assignees, "assigned", &mut told).await?;
        let text = self.at.marks.issue(IssueText::Kept { key: new.key, body: new.body, memory: new.memory });
        let mut body = json!({ "title": new.title, "description": text, "labels": new.labels });
        if let Some(fields) = body.as_object_mut().filter(|_| !assignees.is_empty()) {
            fields.insert("assignee_ids".into(), json!(numbers(&assignees)));
        }
        let make = || async {
            let answer = self.write(Method::POST, &["issues"], body.clone(), doing, Kind::Once).await?;
            Ok(IssueInfo::from(read::<IssueWire>(doing, &answer.body).map_err(Failed::Lost)?))
        };
        let look = || async { Ok(self.kept_issues(new.key).await?.into_iter().next()) };
        let (info, _) = self.at.http.once_only(look, make).await.map_err(refused)?;
        Ok((info, told))
    }

    /// All in one request. GitLab takes a whole list of people: those who are there stay in it, and before ours.
    async fn edit_issue(&self, issue: &IssueInfo, edit: &IssueEdit<'_>) -> Result<(bool, Vec<String>), ForgeError> {
        let wanted = Wanted::of(issue, edit, self.at.marks.issue(edit.text));
        let mut told = Vec::new();
        let number = issue.number.to_string();
        let ours = self.accounts(&wanted.assignees, "assigned", &mut told).await?;
        let mut body = Map::new();
        if !ours.is_empty() {
            let mut all: Vec<u64> = self.issue(&number).await?.assignees.into_iter().map(|user| user.id).collect();
            all.extend(numbers(&ours));
            body.insert("assignee_ids".into(), json!(all));
        }
        body.extend(wanted.body.as_ref().map(|text| ("description".to_owned(), json!(text))));
        body.extend(wanted.open.map(|open| ("state_event".to_owned(), json!(if open { "reopen" } else { "close" }))));
        if !wanted.labels.is_empty() {
            body.insert("add_labels".into(), json!(wanted.labels));
        }
        if body.is_empty() {
            return Ok((false, told));
        }
        let doing = "bringing the issue up to date";
        let done = self.write(Method::PUT, &["issues", &number], Value::Object(body), doing, Kind::Again).await;
        done.map_err(|error| refused(error.into_inner()))?;
        Ok((true, told))
    }

    async fn closed_by(&self, number: u64) -> Result<Option<String>, ForgeError> {
        Ok(self.issue(&number.to_string()).await?.closed_by.map(|user| user.username))
    }
}

impl Gitlab {
    async fn issue(&self, number: &str) -> Result<IssueWire, ForgeError> {
        let doing = "reading the issue";
        let answer = self.at.get(&["issues", number], &[], doing, READ_API).await.map_err(refused)?;
        read(doing, &answer.body)
    }
}
