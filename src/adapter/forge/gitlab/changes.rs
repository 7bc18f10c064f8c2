//! Merge requests.

use super::wire::Merge;
use super::{Gitlab, at, reading};
use crate::adapter::forge::http::{Failed, Kind, read};
use crate::adapter::forge::{missing_milestone, open_of, time_text};
use crate::port::forge::{ChangeInfo, ChangedFile, Changes, ForgeError, NewChange, Thread};
use async_trait::async_trait;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

#[async_trait]
impl Changes for Gitlab {
    async fn change(&self, number: u64) -> Result<ChangeInfo, ForgeError> {
        let merge = self.merge(number).await?;
        Ok(self.info(merge, self.project().await?))
    }

    async fn changes_of_branch(&self, branch: &str) -> Result<Vec<ChangeInfo>, ForgeError> {
        let query = [
            ("source_branch", branch),
            ("state", "all"),
            ("order_by", "created_at"),
            ("sort", "desc"),
            ("per_page", "100"),
        ];
        let url = self.url(&["merge_requests"], &query)?;
        let merges: Vec<Merge> = self.http.all(reading(url, "looking for the branch's merge request")).await?;
        let project = self.project().await?;
        // A fork may have a branch of that name, too.
        let same = |info: &ChangeInfo| !info.change.is_fork() && info.change.head.branch == branch;
        Ok(merges.into_iter().map(|merge| self.info(merge, project)).filter(same).collect())
    }

    async fn open_branches(&self, prefix: &str) -> Result<Vec<String>, ForgeError> {
        let url = self.url(&["merge_requests"], &[("state", "opened"), ("per_page", "100")])?;
        let merges: Vec<Merge> = self.http.all(reading(url, "counting the open merge requests")).await?;
        let project = self.project().await?;
        let ours = |info: &ChangeInfo| !info.change.is_fork() && info.change.head.branch.starts_with(prefix);
        let infos = merges.into_iter().map(|merge| self.info(merge, project)).filter(ours);
        Ok(infos.map(|info| info.change.head.branch).collect())
    }

    async fn changes_since(&self, since_ms: i64) -> Result<Vec<ChangeInfo>, ForgeError> {
        let since = time_text(since_ms);
        let query = [
            ("state", "opened"),
            ("updated_after", since.as_str()),
            ("order_by", "updated_at"),
            ("sort", "desc"),
            ("per_page", "100"),
        ];
        let url = self.url(&["merge_requests"], &query)?;
        let merges: Vec<Merge> = self.http.all(reading(url, "looking for changes that moved")).await?;
        let project = self.project().await?;
        Ok(merges.into_iter().map(|merge| self.info(merge, project)).collect())
    }

    async fn opened_within(&self, prefix: &str, seconds: u64) -> Result<Vec<String>, ForgeError> {
        let ago = i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
        let since = time_text(self.http.now_ms().saturating_sub(ago));
        let query = [
            ("state", "all"),
            ("created_after", since.as_str()),
            ("order_by", "created_at"),
            ("sort", "desc"),
            ("per_page", "100"),
        ];
        let url = self.url(&["merge_requests"], &query)?;
        let merges: Vec<Merge> = self.http.all(reading(url, "counting the changes of the last hour")).await?;
        let project = self.project().await?;
        let ours = |info: &ChangeInfo| !info.change.is_fork() && info.change.head.branch.starts_with(prefix);
        let infos = merges.into_iter().map(|merge| self.info(merge, project)).filter(ours);
        Ok(infos.map(|info| info.change.head.branch).collect())
    }

    async fn make_ready(&self, number: u64) -> Result<(), ForgeError> {
        let doing = format!("making merge request !{number} ready");
        let title = self.merge(number).await?.title;
        let ready = title.strip_prefix("Draft:").map_or(title.as_str(), str::trim_start);
        let parts = ["merge_requests", &number.to_string()];
        let done = self.write(Method::PUT, &parts, json!({ "title": ready }), &doing, Kind::Again).await;
        done.map(|_| ()).map_err(Failed::into_inner)
    }

    async fn changed_files(&self, number: u64) -> Result<Vec<ChangedFile>, ForgeError> {
        let files = self.files(number).await?;
        Ok(files
            .into_iter()
            .map(|file| ChangedFile {
                from: file.renamed_file.then_some(file.old_path),
                added: file.new_file,
                removed: file.deleted_file,
                path: file.new_path,
                patch: (!file.diff.is_empty()).then_some(file.diff),
            })
            .collect())
    }

    async fn open_change(&self, new: &NewChange) -> Result<(ChangeInfo, Vec<String>), ForgeError> {
        let doing = "opening a merge request";
        let project = self.project().await?;
        let mut told = Vec::new();
        let reviewers = self.ids(&new.reviewers, "asked for a review", &mut told).await?;
        let assignees = self.ids(&new.assignees, "assigned", &mut told).await?;
        let milestone = match &new.milestone {
            Some(title) => self.milestone(title).await?,
            None => None,
        };
        if let (Some(title), None) = (&new.milestone, milestone) {
            told.push(format!("the milestone was not set: {}", missing_milestone(title)));
        }
        let title = if new.draft { format!("Draft: {}", new.title) } else { new.title.clone() };
        let make = || async {
            let mut body = json!({
                "source_branch": new.head, "target_branch": new.base, "title": title, "description": new.body,
                "labels": new.labels, "reviewer_ids": reviewers, "remove_source_branch": true,
            });
            if let Some(fields) = body.as_object_mut() {
                if !assignees.is_empty() {
                    fields.insert("assignee_ids".into(), json!(assignees));
                }
                if let Some(id) = milestone {
                    fields.insert("milestone_id".into(), id.into());
                }
            }
            let answer = match self.write(Method::POST, &["merge_requests"], body, doing, Kind::Once).await {
                // 409: there is one by now.
                Err(Failed::Sure(ForgeError::Contract { message, .. })) if message.contains("409") => {
                    return Err(Failed::Lost(ForgeError::Contract { doing: doing.into(), message }));
                }
                done => done?,
            };
            Ok(self.info(read::<Merge>(doing, &answer.body).map_err(Failed::Lost)?, project))
        };
        let (info, _) = self.http.once_only(|| open_of(self, &new.head), make).await?;
        let missing: Vec<String> =
            new.labels.iter().filter(|label| !info.change.labels.contains(label)).cloned().collect();
        if !missing.is_empty()
            && let Err(error) = self.label(Thread::Change(info.change.number), &missing, &[]).await
        {
            told.push(format!("the labels were not set: {error}"));
        }
        Ok((info, told))
    }

    async fn update_body(&self, number: u64, body: &str) -> Result<(), ForgeError> {
        let doing = format!("bringing merge request !{number} up to date");
        let parts = ["merge_requests", &number.to_string()];
        let done = self.write(Method::PUT, &parts, json!({ "description": body }), &doing, Kind::Again).await;
        done.map(|_| ()).map_err(Failed::into_inner)
    }

    async fn label(&self, thread: Thread, add: &[String], remove: &[String]) -> Result<(), ForgeError> {
        if add.is_empty() && remove.is_empty() {
            return Ok(());
        }
        let (word, number) = at(thread);
        let mut body = serde_json::Map::new();
        for (name, labels) in [("add_labels", add), ("remove_labels", remove)] {
            if !labels.is_empty() {
                body.insert(name.to_owned(), json!(labels));
            }
        }
        let done = self.write(Method::PUT, &[word, &number], Value::Object(body), "setting labels", Kind::Again).await;
        done.map(|_| ()).map_err(Failed::into_inner)
    }
}

impl Gitlab {
    /// The numbers of accounts; who is not there is told.
    async fn ids(&self, names: &[String], what: &str, told: &mut Vec<String>) -> Result<Vec<u64>, ForgeError> {
        let mut ids = Vec::new();
        for name in names {
            match self.user(name).await? {
                Some(user) => ids.push(user.id),
                None => {
                    told.push(format!("`{}` was not {what}: there is no such account", crate::text::clean(name)));
                }
            }
        }
        Ok(ids)
    }

    async fn milestone(&self, title: &str) -> Result<Option<u64>, ForgeError> {
        #[derive(Deserialize)]
        struct Milestone {
            id: u64,
        }
        let url = self.url(&["milestones"], &[("state", "active"), ("title", title)])?;
        let found: Vec<Milestone> = self.http.all(reading(url, "looking for the milestone")).await?;
        Ok(found.into_iter().next().map(|it| it.id))
    }
}
