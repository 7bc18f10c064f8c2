//! Pull requests.

use super::wire::{FileWire, Label, Pull};
use super::{Gitea, WRITE_CODE, WRITE_ISSUES};
use crate::adapter::forge::alike::number_of;
use crate::adapter::forge::http::{Failed, Kind, read};
use crate::adapter::forge::lines::patches;
use crate::adapter::forge::{Lacks, before, branches, missing_milestone, open_of, time_ms};
use crate::port::forge::{Alone, ChangeInfo, ChangedFile, Changes, ForgeError, Happening, NewChange, Thread};
use async_trait::async_trait;
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Gitea gives no more at once, whatever is asked for.
pub(super) const PAGE: (&str, &str) = ("limit", "50");

#[async_trait]
impl Changes for Gitea {
    async fn change(&self, number: u64) -> Result<ChangeInfo, ForgeError> {
        let doing = format!("reading pull request #{number}");
        let answer = self.get(&["pulls", &number.to_string()], &[], &doing).await?;
        Ok(read::<Pull>(&doing, &answer.body)?.into())
    }

    async fn changes_of_branch(&self, branch: &str) -> Result<Vec<ChangeInfo>, ForgeError> {
        // Forgejo looks for the branch itself; Gitea does not know `head`, and gives all.
        let mut found = self.pulls(&[("state", "all"), ("head", branch), PAGE]).await?;
        found.retain(|info| info.change.head.branch == branch);
        found.sort_by_key(|info| std::cmp::Reverse(info.change.number));
        Ok(found)
    }

    async fn open_branches(&self, prefix: &str) -> Result<Vec<String>, ForgeError> {
        Ok(branches(self.pulls(&[("state", "open"), PAGE]).await?, prefix))
    }

    async fn changes_since(&self, since_ms: i64) -> Result<Vec<ChangeInfo>, ForgeError> {
        let url = self.at.url(&["pulls"], &[("state", "open"), ("sort", "recentupdate"), PAGE])?;
        let late = |at: &Option<String>| at.as_deref().and_then(time_ms).is_none_or(|at| at >= since_ms);
        self.read_pulls(url, "looking for changes that moved", |pull| late(&pull.updated_at)).await
    }

    async fn happened_since(&self, since_ms: i64) -> Result<Vec<Happening>, ForgeError> {
        self.happenings(since_ms).await
    }

    async fn opened_within(&self, prefix: &str, seconds: u64) -> Result<Vec<String>, ForgeError> {
        let since = before(self.at.http.now_ms(), seconds);
        // The newest come first.
        let url = self.at.url(&["pulls"], &[("state", "all"), PAGE])?;
        let late = |at: &Option<String>| at.as_deref().and_then(time_ms).is_none_or(|at| at >= since);
        let doing = "counting the changes of the last hour";
        Ok(branches(self.read_pulls(url, doing, |pull| late(&pull.created_at)).await?, prefix))
    }

    async fn make_ready(&self, number: u64) -> Result<(), ForgeError> {
        let doing = format!("making pull request #{number} ready");
        let title = self.change(number).await?.change.title;
        let ready = title.strip_prefix("WIP:").map_or(title.as_str(), str::trim_start);
        self.edit(number, json!({ "title": ready }), &doing).await
    }

    /// The list has no differences: those are cut out of the whole one, which has the files in the same order.
    async fn changed_files(&self, number: u64) -> Result<Vec<ChangedFile>, ForgeError> {
        let doing = "reading the change's files";
        let url = self.at.url(&["pulls", &number.to_string(), "files"], &[PAGE])?;
        let files: Vec<FileWire> = self.at.http.all(self.reading(url, doing)).await?;
        let whole = self.get(&["pulls", &format!("{number}.diff")], &[], doing).await?;
        let patches = patches(&String::from_utf8_lossy(&whole.body));
        let known = patches.len() == files.len();
        let of = |(at, file): (usize, FileWire)| ChangedFile {
            from: file.previous_filename.filter(|_| file.status == "renamed"),
            added: file.status == "added",
            removed: file.status == "deleted",
            path: file.filename,
            patch: patches.get(at).filter(|_| known).cloned().flatten(),
        };
        Ok(files.into_iter().enumerate().map(of).collect())
    }

    async fn alone(&self) -> Result<Alone, ForgeError> {
        self.at.http.alone().await
    }

    async fn open_change(&self, new: &NewChange) -> Result<(ChangeInfo, Vec<String>), ForgeError> {
        let doing = "opening a pull request";
        let mut told = Vec::new();
        let labels = match self.label_ids(&new.labels, true).await {
            Ok(labels) => labels,
            Err(error) => {
                told.push(format!("the labels were not set: {error}"));
                Vec::new()
            }
        };
        let milestone = match &new.milestone {
            Some(title) => self.milestone(title).await.map_err(|error| told.push(error.to_string())).ok(),
            None => None,
        };
        let title = if new.draft { format!("WIP: {}", new.title) } else { new.title.clone() };
        let mut body = json!({
            "title": title, "head": new.head, "base": new.base, "body": new.body, "labels": labels,
            "assignees": new.assignees,
        });
        if let (Some(id), Some(fields)) = (milestone, body.as_object_mut()) {
            fields.insert("milestone".into(), id.into());
        }
        let make = || async {
            let made = self.at.write(Method::POST, &["pulls"], body.clone(), doing, WRITE_CODE, Kind::Once).await;
            match made {
                Ok(answer) => Ok(ChangeInfo::from(read::<Pull>(doing, &answer.body).map_err(Failed::Lost)?)),
                // There is one by now.
                Err(Failed::Sure(ForgeError::Contract { message, .. })) if message.contains("409") => {
                    Err(Failed::Lost(ForgeError::Contract { doing: doing.into(), message }))
                }
                Err(error) => Err(error),
            }
        };
        let (mut info, made) = self.at.http.once_only(|| open_of(self, &new.head), make).await?;
        let mut lacks = Lacks::of(new, &info);
        if made {
            // It began with all that there is; whoever is asked for a review is asked by a request of its own.
            lacks = Lacks { labels: Vec::new(), assignees: Vec::new(), milestone: None, ..lacks };
        }
        told.extend(self.add(&mut info, lacks, milestone).await);
        Ok((info, told))
    }

    async fn update_body(&self, number: u64, body: &str) -> Result<(), ForgeError> {
        let doing = format!("bringing pull request #{number} up to date");
        self.edit(number, json!({ "body": body }), &doing).await
    }

    async fn label(&self, thread: Thread, add: &[String], remove: &[String]) -> Result<(), ForgeError> {
        let number = number_of(thread);
        if !add.is_empty() {
            let body = json!({ "labels": self.label_ids(add, true).await? });
            let parts = ["issues", &number, "labels"];
            let done = self.at.write(Method::POST, &parts, body, "setting labels", WRITE_ISSUES, Kind::Again).await;
            done.map_err(Failed::into_inner)?;
        }
        for id in self.label_ids(remove, false).await? {
            self.at
                .delete(&["issues", &number, "labels", &id.to_string()], "taking a label away", WRITE_ISSUES)
                .await?;
        }
        Ok(())
    }
}

impl Gitea {
    async fn edit(&self, number: u64, body: Value, doing: &str) -> Result<(), ForgeError> {
        let parts = ["pulls", &number.to_string()];
        let done = self.at.write(Method::PATCH, &parts, body, doing, WRITE_CODE, Kind::Again).await;
        done.map(|_| ()).map_err(Failed::into_inner)
    }

    /// Gives a pull request what it lacks; what could not be set is told. Gitea takes a whole list of assignees: those who
    /// are there stay in it.
    async fn add(&self, info: &mut ChangeInfo, lacks: Lacks, milestone: Option<u64>) -> Vec<String> {
        let (mut told, number) = (Vec::new(), info.change.number);
        match self.label(Thread::Change(number), &lacks.labels, &[]).await {
            Ok(()) => info.change.labels.extend(lacks.labels),
            Err(error) => told.push(format!("the labels were not set: {error}")),
        }
        let mut body = Map::new();
        if !lacks.assignees.is_empty() {
            let all: Vec<&String> = info.assignees.iter().chain(&lacks.assignees).collect();
            body.insert("assignees".into(), json!(all));
        }
        let title = lacks.milestone.filter(|_| milestone.is_some());
        if let (Some(_), Some(id)) = (&title, milestone) {
            body.insert("milestone".into(), id.into());
        }
        if !body.is_empty() {
            match self.edit(number, Value::Object(body), "assigning the pull request").await {
                Ok(()) => {
                    info.assignees.extend(lacks.assignees);
                    info.milestone = title.or(info.milestone.take());
                }
                Err(error) => told.push(format!("assignees and milestone were not set: {error}")),
            }
        }
        if !lacks.reviewers.is_empty() {
            let (number, doing) = (number.to_string(), "asking for a review");
            let parts = ["pulls", &number, "requested_reviewers"];
            let body = json!({ "reviewers": lacks.reviewers });
            match self.at.write(Method::POST, &parts, body, doing, WRITE_CODE, Kind::Again).await {
                Ok(_) => info.reviewers.extend(lacks.reviewers),
                Err(error) => told.push(format!("nobody was asked for a review: {}", error.into_inner())),
            }
        }
        told
    }

    /// Changes whose head is in this repository.
    async fn pulls(&self, query: &[(&str, &str)]) -> Result<Vec<ChangeInfo>, ForgeError> {
        let url = self.at.url(&["pulls"], query)?;
        let mut infos = self.read_pulls(url, "looking for pull requests", |_| true).await?;
        infos.retain(|info| !info.change.is_fork());
        Ok(infos)
    }

    /// What comes first of a list of pull requests, up to the first that is not wanted. One that Gitea cannot read is a gap
    /// in the list, and hides none of the others.
    async fn read_pulls(
        &self,
        url: Url,
        doing: &str,
        wanted: impl Fn(&Pull) -> bool,
    ) -> Result<Vec<ChangeInfo>, ForgeError> {
        let wanted = |pull: &Option<Pull>| pull.as_ref().is_none_or(&wanted);
        let pulls: Vec<Option<Pull>> = self.at.http.while_all(self.reading(url, doing), wanted).await?;
        Ok(pulls.into_iter().flatten().map(ChangeInfo::from).collect())
    }

    /// The numbers of labels; `make`: those that are not there are made, as the other forges do by themselves.
    pub(super) async fn label_ids(&self, names: &[String], make: bool) -> Result<Vec<u64>, ForgeError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let url = self.at.url(&["labels"], &[PAGE])?;
        let there: Vec<Label> = self.at.http.all(self.reading(url, "looking for labels")).await?;
        let mut ids = Vec::new();
        for name in names {
            if let Some(label) = there.iter().find(|label| label.name == *name) {
                ids.push(label.id);
            } else if make {
                let (doing, body) = ("making a label", json!({ "name": name, "color": "#ededed" }));
                let made = self.at.write(Method::POST, &["labels"], body, doing, WRITE_ISSUES, Kind::Again).await;
                ids.push(read::<Label>(doing, &made.map_err(Failed::into_inner)?.body)?.id);
            }
        }
        Ok(ids)
    }

    async fn milestone(&self, title: &str) -> Result<u64, ForgeError> {
        #[derive(Deserialize)]
        struct Milestone {
            id: u64,
            title: String,
        }
        let url = self.at.url(&["milestones"], &[("state", "open"), ("name", title)])?;
        let found: Vec<Milestone> = self.at.http.all(self.reading(url, "looking for the milestone")).await?;
        found.into_iter().find(|it| it.title == title).map(|it| it.id).ok_or_else(|| missing_milestone(title))
    }
}
