//! Merge requests.

use super::wire::{Merge, Milestone};
use super::{Gitlab, at};
use crate::adapter::forge::http::{Failed, Kind, read};
use crate::adapter::forge::{Lacks, before, branches, missing_milestone, open_of, time_text};
use crate::port::forge::{Alone, ChangeInfo, ChangedFile, Changes, ForgeError, Happening, NewChange, Thread};
use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Map, Value, json};

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
        let merges = self.merges(&query, "looking for the branch's merge request").await?;
        // A fork may have a branch of that name, too.
        let same = |info: &ChangeInfo| !info.change.is_fork() && info.change.head.branch == branch;
        Ok(merges.into_iter().filter(same).collect())
    }

    async fn open_branches(&self, prefix: &str) -> Result<Vec<String>, ForgeError> {
        let query = [("state", "opened"), ("per_page", "100")];
        Ok(branches(self.merges(&query, "counting the open merge requests").await?, prefix))
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
        self.merges(&query, "looking for changes that moved").await
    }

    async fn happened_since(&self, since_ms: i64) -> Result<Vec<Happening>, ForgeError> {
        self.happenings(since_ms).await
    }

    async fn opened_within(&self, prefix: &str, seconds: u64) -> Result<Vec<String>, ForgeError> {
        let since = time_text(before(self.at.http.now_ms(), seconds));
        let query = [
            ("state", "all"),
            ("created_after", since.as_str()),
            ("order_by", "created_at"),
            ("sort", "desc"),
            ("per_page", "100"),
        ];
        Ok(branches(self.merges(&query, "counting the changes of the last hour").await?, prefix))
    }

    async fn make_ready(&self, number: u64) -> Result<(), ForgeError> {
        let doing = format!("making merge request !{number} ready");
        let title = self.merge(number).await?.title;
        let ready = title.strip_prefix("Draft:").map_or(title.as_str(), str::trim_start);
        self.edit(number, json!({ "title": ready }), &doing).await
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

    async fn alone(&self) -> Result<Alone, ForgeError> {
        self.at.http.alone().await
    }

    async fn open_change(&self, new: &NewChange) -> Result<(ChangeInfo, Vec<String>), ForgeError> {
        let doing = "opening a merge request";
        let project = self.project().await?;
        let mut told = Vec::new();
        let reviewers = self.accounts(&new.reviewers, "asked for a review", &mut told).await?;
        let assignees = self.accounts(&new.assignees, "assigned", &mut told).await?;
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
                "labels": new.labels, "reviewer_ids": numbers(&reviewers), "remove_source_branch": true,
            });
            if let Some(fields) = body.as_object_mut() {
                if !assignees.is_empty() {
                    fields.insert("assignee_ids".into(), json!(numbers(&assignees)));
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
        let (mut info, made) = self.at.http.once_only(|| open_of(self, &new.head), make).await?;
        let mut lacks = Lacks::of(new, &info);
        if made {
            // It began with everybody who has an account.
            lacks = Lacks { labels: lacks.labels, reviewers: Vec::new(), assignees: Vec::new(), milestone: None };
        }
        if !lacks.nothing() {
            // Whoever has no account is nowhere.
            lacks.reviewers.retain(|name| reviewers.iter().any(|(known, _)| known == name));
            lacks.assignees.retain(|name| assignees.iter().any(|(known, _)| known == name));
            lacks.milestone = lacks.milestone.filter(|_| milestone.is_some());
            match self.add(info.change.number, &lacks, (&reviewers, &assignees), milestone).await {
                Ok(()) => lacks.set_on(&mut info),
                Err(error) => {
                    told.push(format!("labels, reviewers, assignees and milestone were not all set: {error}"));
                }
            }
        }
        Ok((info, told))
    }

    async fn update_body(&self, number: u64, body: &str) -> Result<(), ForgeError> {
        let doing = format!("bringing merge request !{number} up to date");
        self.edit(number, json!({ "description": body }), &doing).await
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

/// An account's name and number.
pub(super) type Account = (String, u64);

pub(super) fn numbers(accounts: &[Account]) -> Vec<u64> {
    accounts.iter().map(|(_, id)| *id).collect()
}

impl Gitlab {
    async fn merges(&self, query: &[(&str, &str)], doing: &str) -> Result<Vec<ChangeInfo>, ForgeError> {
        let merges: Vec<Merge> =
            self.at.http.all(self.reading(self.at.url(&["merge_requests"], query)?, doing)).await?;
        let project = self.project().await?;
        Ok(merges.into_iter().map(|merge| self.info(merge, project)).collect())
    }

    async fn edit(&self, number: u64, body: Value, doing: &str) -> Result<(), ForgeError> {
        let parts = ["merge_requests", &number.to_string()];
        self.write(Method::PUT, &parts, body, doing, Kind::Again).await.map(|_| ()).map_err(Failed::into_inner)
    }

    /// Gives a merge request what it lacks. GitLab takes whole lists of people: those who are there stay in them, and
    /// before ours, as a GitLab that knows but one keeps the first.
    async fn add(
        &self,
        number: u64,
        lacks: &Lacks,
        (reviewers, assignees): (&[Account], &[Account]),
        milestone: Option<u64>,
    ) -> Result<(), ForgeError> {
        let mut body = Map::new();
        if !lacks.labels.is_empty() {
            body.insert("add_labels".into(), json!(lacks.labels));
        }
        if let (Some(_), Some(id)) = (&lacks.milestone, milestone) {
            body.insert("milestone_id".into(), id.into());
        }
        let ours = |names: &[String], accounts: &[Account]| -> Vec<u64> {
            accounts.iter().filter(|(name, _)| names.contains(name)).map(|(_, id)| *id).collect()
        };
        let (reviewers, assignees) = (ours(&lacks.reviewers, reviewers), ours(&lacks.assignees, assignees));
        if !reviewers.is_empty() || !assignees.is_empty() {
            let now = self.merge(number).await?;
            for (name, there, ours) in
                [("reviewer_ids", now.reviewers, reviewers), ("assignee_ids", now.assignees, assignees)]
            {
                if !ours.is_empty() {
                    let all: Vec<u64> = there.into_iter().map(|user| user.id).chain(ours).collect();
                    body.insert(name.to_owned(), json!(all));
                }
            }
        }
        match body.is_empty() {
            true => Ok(()),
            false => self.edit(number, Value::Object(body), "setting labels and people").await,
        }
    }

    /// Accounts by their names; who is not there is told.
    pub(super) async fn accounts(
        &self,
        names: &[String],
        what: &str,
        told: &mut Vec<String>,
    ) -> Result<Vec<Account>, ForgeError> {
        let mut accounts = Vec::new();
        for name in names {
            match self.user(name).await? {
                Some(user) => accounts.push((name.clone(), user.id)),
                None => {
                    told.push(format!("`{}` was not {what}: there is no such account", crate::text::clean(name)));
                }
            }
        }
        Ok(accounts)
    }

    async fn milestone(&self, title: &str) -> Result<Option<u64>, ForgeError> {
        let url = self.at.url(&["milestones"], &[("state", "active"), ("title", title)])?;
        let found: Vec<Milestone> = self.at.http.all(self.reading(url, "looking for the milestone")).await?;
        Ok(found.into_iter().next().map(|it| it.id))
    }
}
