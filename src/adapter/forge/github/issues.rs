//! Issues that stay current.

use super::{Github, WRITE_ISSUES};
use crate::adapter::forge::alike::{IssueWire, assign_issue, edit_issue, open_issue};
use crate::adapter::forge::http::{Failed, Kind, read};
use crate::adapter::forge::issues::refused;
use crate::model::forge::Right;
use crate::port::forge::{ForgeError, IssueEdit, IssueInfo, IssueText, Issues, NewIssue};
use async_trait::async_trait;
use reqwest::Method;
use serde_json::json;

#[async_trait]
impl Issues for Github {
    async fn kept_issues(&self, key: &str) -> Result<Vec<IssueInfo>, ForgeError> {
        let own = self.own().await?;
        self.at.marks.can_know(own)?;
        let mut query = vec![("state", "all"), ("sort", "created"), ("direction", "asc"), ("per_page", "100")];
        query.extend(own.map(|own| ("creator", own)));
        let ask = self.at.reading(self.at.url(&["issues"], &query)?, "looking for our issue", WRITE_ISSUES);
        let found: Vec<IssueWire> = self.at.http.all(ask).await.map_err(refused)?;
        // Pull requests are issues here, too.
        let issues = found.into_iter().filter(|wire| wire.pull_request.is_none()).map(IssueInfo::from);
        Ok(self.at.marks.kept(own, key, issues))
    }

    async fn open_issue(&self, new: &NewIssue<'_>) -> Result<(IssueInfo, Vec<String>), ForgeError> {
        let text = self.at.marks.issue(IssueText::Kept { key: new.key, body: new.body, memory: new.memory });
        let look = || async { Ok(self.kept_issues(new.key).await?.into_iter().next()) };
        open_issue(&self.at, new, (text, json!(new.labels)), WRITE_ISSUES, look).await
    }

    async fn edit_issue(&self, issue: &IssueInfo, edit: &IssueEdit<'_>) -> Result<(bool, Vec<String>), ForgeError> {
        let (wanted, mut told) = edit_issue(&self.at, self, (issue, edit), WRITE_ISSUES).await?;
        // A request that only adds.
        let number = issue.number.to_string();
        let names: Vec<&String> = wanted.assignees.iter().collect();
        let how = (Method::POST, &["issues", number.as_str(), "assignees"][..]);
        told.extend(assign_issue(&self.at, how, &names, WRITE_ISSUES).await);
        Ok((!wanted.nothing(), told))
    }

    async fn closed_by(&self, number: u64) -> Result<Option<String>, ForgeError> {
        let doing = "asking who closed the issue";
        let answer = self.at.get(&["issues", &number.to_string()], &[], doing, WRITE_ISSUES).await.map_err(refused)?;
        Ok(read::<IssueWire>(doing, &answer.body)?.closed_by.map(|user| user.login))
    }
}

impl Github {
    /// An issue without a title cannot be made: whoever may open one is told so, whoever may not, that.
    pub(super) async fn may_open_issues(&self, doing: &str) -> Right {
        let body = json!({ "title": "" });
        let tried = self.at.write(Method::POST, &["issues"], body, doing, WRITE_ISSUES, Kind::Again).await;
        match tried.map_err(Failed::into_inner) {
            Err(ForgeError::Contract { .. }) => Right::Yes,
            Err(ForgeError::Refused { needs, .. }) => Right::No(needs.unwrap_or_else(|| WRITE_ISSUES.to_owned())),
            Err(ForgeError::NotFound { .. }) => Right::No(WRITE_ISSUES.to_owned()),
            Ok(_) | Err(_) => Right::Unknown,
        }
    }
}
