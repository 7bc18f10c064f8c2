//! Pull requests.

use super::wire::{FileWire, Pull};
use super::{Github, READ_CHANGES, WRITE_CHANGES, writes};
use crate::adapter::forge::alike::number_of;
use crate::adapter::forge::http::{Failed, Kind, read};
use crate::adapter::forge::{Lacks, before, branches, missing_milestone, open_of, time_ms};
use crate::port::forge::{Alone, ChangeInfo, ChangedFile, Changes, ForgeError, Happening, NewChange, Thread};
use async_trait::async_trait;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

#[async_trait]
impl Changes for Github {
    async fn change(&self, number: u64) -> Result<ChangeInfo, ForgeError> {
        let doing = format!("reading pull request #{number}");
        let answer = self.at.get(&["pulls", &number.to_string()], &[], &doing, READ_CHANGES).await?;
        Ok(read::<Pull>(&doing, &answer.body)?.into())
    }

    async fn changes_of_branch(&self, branch: &str) -> Result<Vec<ChangeInfo>, ForgeError> {
        let head = format!("{}:{branch}", self.owner);
        let query = [
            ("head", head.as_str()),
            ("state", "all"),
            ("sort", "created"),
            ("direction", "desc"),
            ("per_page", "100"),
        ];
        let pulls = self.pulls(&query, "looking for the branch's pull request", |_| true).await?;
        // A fork of the same owner may have a branch of that name, too.
        let same = |info: &ChangeInfo| !info.change.is_fork() && info.change.head.branch == branch;
        Ok(pulls.into_iter().filter(same).collect())
    }

    async fn open_branches(&self, prefix: &str) -> Result<Vec<String>, ForgeError> {
        let query = [("state", "open"), ("per_page", "100")];
        Ok(branches(self.pulls(&query, "counting the open pull requests", |_| true).await?, prefix))
    }

    async fn changes_since(&self, since_ms: i64) -> Result<Vec<ChangeInfo>, ForgeError> {
        let query = [("state", "open"), ("sort", "updated"), ("direction", "desc"), ("per_page", "100")];
        let late = |pull: &Pull| pull.updated_at.as_deref().and_then(time_ms).is_none_or(|at| at >= since_ms);
        self.pulls(&query, "looking for changes that moved", late).await
    }

    async fn happened_since(&self, since_ms: i64) -> Result<Vec<Happening>, ForgeError> {
        self.happenings(since_ms).await
    }

    async fn opened_within(&self, prefix: &str, seconds: u64) -> Result<Vec<String>, ForgeError> {
        let since = before(self.at.http.now_ms(), seconds);
        let query = [("state", "all"), ("sort", "created"), ("direction", "desc"), ("per_page", "100")];
        let late = |pull: &Pull| pull.created_at.as_deref().and_then(time_ms).is_none_or(|at| at >= since);
        Ok(branches(self.pulls(&query, "counting the changes of the last hour", late).await?, prefix))
    }

    async fn make_ready(&self, number: u64) -> Result<(), ForgeError> {
        const READY: &str = "mutation($id: ID!) { markPullRequestReadyForReview(input: {pullRequestId: $id}) { \
            pullRequest { id } } }";
        let id = self.node(number).await?;
        let doing = format!("making pull request #{number} ready");
        self.graphql(READY, json!({ "id": id }), &doing, WRITE_CHANGES, Kind::Again).await.map(|_| ())
    }

    async fn changed_files(&self, number: u64) -> Result<Vec<ChangedFile>, ForgeError> {
        let url = self.at.url(&["pulls", &number.to_string(), "files"], &[("per_page", "100")])?;
        let ask = self.at.reading(url, "reading the change's files", READ_CHANGES);
        let files: Vec<FileWire> = self.at.http.all(ask).await?;
        Ok(files
            .into_iter()
            .map(|file| ChangedFile {
                from: file.previous_filename.filter(|_| file.status == "renamed"),
                added: file.status == "added",
                removed: file.status == "removed",
                path: file.filename,
                patch: file.patch,
            })
            .collect())
    }

    async fn alone(&self) -> Result<Alone, ForgeError> {
        self.at.http.alone().await
    }

    async fn open_change(&self, new: &NewChange) -> Result<(ChangeInfo, Vec<String>), ForgeError> {
        let doing = "opening a pull request";
        let draft = std::sync::atomic::AtomicBool::new(new.draft);
        let order = std::sync::atomic::Ordering::Relaxed;
        let make = || async {
            let wanted = draft.load(order);
            let body = json!({
                "title": new.title, "head": new.head, "base": new.base, "body": new.body, "draft": wanted,
                "maintainer_can_modify": false,
            });
            match self.at.write(Method::POST, &["pulls"], body, doing, WRITE_CHANGES, Kind::Once).await {
                Ok(answer) => Ok(ChangeInfo::from(read::<Pull>(doing, &answer.body).map_err(Failed::Lost)?)),
                // Private repositories of some plans have no drafts.
                Err(Failed::Sure(ForgeError::Contract { message, .. }))
                    if wanted && message.to_lowercase().contains("draft") =>
                {
                    draft.store(false, order);
                    Err(Failed::Lost(ForgeError::Contract { doing: doing.into(), message }))
                }
                Err(error) => Err(error),
            }
        };
        let (mut info, _) = self.at.http.once_only(|| open_of(self, &new.head), make).await?;
        let mut told = Vec::new();
        if new.draft && !draft.load(order) {
            told.push("the repository has no draft pull requests: it is open for review".to_owned());
        }
        let lacks = Lacks::of(new, &info);
        told.extend(self.add(&mut info, lacks).await);
        Ok((info, told))
    }

    async fn update_body(&self, number: u64, body: &str) -> Result<(), ForgeError> {
        let doing = format!("bringing pull request #{number} up to date");
        let parts = ["pulls", &number.to_string()];
        let body = json!({ "body": body });
        let done = self.at.write(Method::PATCH, &parts, body, &doing, WRITE_CHANGES, Kind::Again).await;
        done.map(|_| ()).map_err(Failed::into_inner)
    }

    async fn label(&self, thread: Thread, add: &[String], remove: &[String]) -> Result<(), ForgeError> {
        let number = number_of(thread);
        if !add.is_empty() {
            let body = json!({ "labels": add });
            let parts = ["issues", &number, "labels"];
            let done = self.at.write(Method::POST, &parts, body, "setting labels", writes(thread), Kind::Again).await;
            done.map_err(Failed::into_inner)?;
        }
        for label in remove {
            self.at.delete(&["issues", &number, "labels", label], "taking a label away", writes(thread)).await?;
        }
        Ok(())
    }
}

impl Github {
    /// A request's own name in GraphQL.
    async fn node(&self, number: u64) -> Result<String, ForgeError> {
        #[derive(Deserialize)]
        struct Wire {
            node_id: String,
        }
        let doing = format!("reading pull request #{number}");
        let answer = self.at.get(&["pulls", &number.to_string()], &[], &doing, READ_CHANGES).await?;
        Ok(read::<Wire>(&doing, &answer.body)?.node_id)
    }

    /// Pull requests, up to the first that is not wanted.
    async fn pulls(
        &self,
        query: &[(&str, &str)],
        doing: &str,
        wanted: impl Fn(&Pull) -> bool,
    ) -> Result<Vec<ChangeInfo>, ForgeError> {
        let ask = self.at.reading(self.at.url(&["pulls"], query)?, doing, READ_CHANGES);
        let pulls: Vec<Pull> = self.at.http.while_all(ask, wanted).await?;
        Ok(pulls.into_iter().map(ChangeInfo::from).collect())
    }

    /// Gives a pull request what it lacks; what could not be set is told. GitHub has a request that only adds for
    /// everything but the milestone, of which there is one.
    async fn add(&self, info: &mut ChangeInfo, lacks: Lacks) -> Vec<String> {
        let (mut told, number) = (Vec::new(), info.change.number);
        match self.label(Thread::Change(number), &lacks.labels, &[]).await {
            Ok(()) => info.change.labels.extend(lacks.labels),
            Err(error) => told.push(format!("the labels were not set: {error}")),
        }
        let number = number.to_string();
        if !lacks.assignees.is_empty() {
            let body = json!({ "assignees": lacks.assignees });
            let parts = ["issues", number.as_str(), "assignees"];
            match self.post(&parts, body, "assigning the pull request").await {
                Ok(()) => info.assignees.extend(lacks.assignees),
                Err(error) => told.push(format!("nobody was assigned: {error}")),
            }
        }
        if let Some(title) = lacks.milestone {
            match self.set_milestone(&number, &title).await {
                Ok(()) => info.milestone = Some(title),
                Err(error) => told.push(format!("the milestone was not set: {error}")),
            }
        }
        if !lacks.reviewers.is_empty() {
            let (teams, people): (Vec<&String>, Vec<&String>) =
                lacks.reviewers.iter().partition(|name| name.contains('/'));
            let teams: Vec<&str> = teams.iter().filter_map(|name| Some(name.split_once('/')?.1)).collect();
            let body = json!({ "reviewers": people, "team_reviewers": teams });
            let parts = ["pulls", number.as_str(), "requested_reviewers"];
            match self.post(&parts, body, "asking for a review").await {
                Ok(()) => info.reviewers.extend(lacks.reviewers),
                Err(error) => told.push(format!("nobody was asked for a review: {error}")),
            }
        }
        told
    }

    async fn post(&self, parts: &[&str], body: Value, doing: &str) -> Result<(), ForgeError> {
        let done = self.at.write(Method::POST, parts, body, doing, WRITE_CHANGES, Kind::Again).await;
        done.map(|_| ()).map_err(Failed::into_inner)
    }

    async fn set_milestone(&self, number: &str, title: &str) -> Result<(), ForgeError> {
        #[derive(Deserialize)]
        struct Milestone {
            number: u64,
            title: String,
        }
        let url = self.at.url(&["milestones"], &[("state", "open"), ("per_page", "100")])?;
        let ask = self.at.reading(url, "looking for the milestone", READ_CHANGES);
        let all: Vec<Milestone> = self.at.http.all(ask).await?;
        let found = all.into_iter().find(|it| it.title == title).ok_or_else(|| missing_milestone(title))?;
        let (parts, body) = (["issues", number], json!({ "milestone": found.number }));
        let doing = "setting the milestone";
        let done = self.at.write(Method::PATCH, &parts, body, doing, WRITE_CHANGES, Kind::Again).await;
        done.map(|_| ()).map_err(Failed::into_inner)
    }
}
