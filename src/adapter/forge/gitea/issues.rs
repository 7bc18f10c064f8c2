//! Issues that stay current.

use super::changes::PAGE;
use super::wire::Happened;
use super::{Gitea, OF_A_JOB, WRITE_ISSUES};
use crate::adapter::forge::alike::{IssueWire, assign_issue, edit_issue, open_issue};
use crate::adapter::forge::issues::refused;
use crate::port::forge::{ForgeError, IssueEdit, IssueInfo, IssueText, Issues, NewIssue};
use async_trait::async_trait;
use reqwest::Method;
use serde_json::json;

#[async_trait]
impl Issues for Gitea {
    async fn kept_issues(&self, key: &str) -> Result<Vec<IssueInfo>, ForgeError> {
        let own = self.own().await?;
        self.at.marks.can_know(own)?;
        let mut query = vec![("state", "all"), ("type", "issues"), PAGE];
        // Whom a job's own token acts as is nobody who can be asked for.
        let person = own.filter(|own| !OF_A_JOB.contains(own));
        query.extend(person.map(|own| ("created_by", own)));
        let ask = self.at.reading(self.at.url(&["issues"], &query)?, "looking for our issue", WRITE_ISSUES);
        let found: Vec<IssueWire> = self.at.http.all(ask).await.map_err(refused)?;
        Ok(self.at.marks.kept(own, key, found.into_iter().map(IssueInfo::from)))
    }

    async fn open_issue(&self, new: &NewIssue<'_>) -> Result<(IssueInfo, Vec<String>), ForgeError> {
        let mut unset = None;
        let labels = self.label_ids(new.labels, true).await.unwrap_or_else(|error| {
            unset = Some(format!("the labels were not set: {error}"));
            Vec::new()
        });
        let text = self.at.marks.issue(IssueText::Kept { key: new.key, body: new.body, memory: new.memory });
        let look = || async { Ok(self.kept_issues(new.key).await?.into_iter().next()) };
        let (info, mut told) = open_issue(&self.at, new, (text, json!(labels)), WRITE_ISSUES, look).await?;
        told.extend(unset);
        Ok((info, told))
    }

    async fn edit_issue(&self, issue: &IssueInfo, edit: &IssueEdit<'_>) -> Result<(bool, Vec<String>), ForgeError> {
        let (wanted, mut told) = edit_issue(&self.at, self, (issue, edit), WRITE_ISSUES).await?;
        // A whole list: those who are there stay in it.
        let number = issue.number.to_string();
        let there = issue.assignees.iter().filter(|_| !wanted.assignees.is_empty());
        let names: Vec<&String> = there.chain(&wanted.assignees).collect();
        told.extend(
            assign_issue(&self.at, (Method::PATCH, &["issues", number.as_str()][..]), &names, WRITE_ISSUES).await,
        );
        Ok((!wanted.nothing(), told))
    }

    /// An issue itself does not say: what happened to it does.
    async fn closed_by(&self, number: u64) -> Result<Option<String>, ForgeError> {
        let url = self.at.url(&["issues", &number.to_string(), "timeline"], &[PAGE])?;
        let ask = self.at.reading(url, "asking who closed the issue", WRITE_ISSUES);
        let all: Vec<Happened> = match self.at.http.all(ask).await {
            Ok(all) => all,
            // One that is too old for that.
            Err(ForgeError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let last = all.into_iter().rev().find(|it| it.what == "close");
        Ok(last.and_then(|it| it.user).map(|user| user.login))
    }
}
