//! Pull requests.

use super::wire::{FileWire, Pull};
use super::{Github, JSON, READ_CHANGES, WRITE_CHANGES, number_of, reading, writes};
use crate::adapter::forge::http::{Ask, Failed, Kind, read};
use crate::adapter::forge::{missing_milestone, open_of, time_ms};
use crate::port::forge::{ChangeInfo, ChangedFile, Changes, ForgeError, NewChange, Thread};
use async_trait::async_trait;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

#[async_trait]
impl Changes for Github {
    async fn change(&self, number: u64) -> Result<ChangeInfo, ForgeError> {
        let doing = format!("reading pull request #{number}");
        let answer = self.get(&["pulls", &number.to_string()], &[], &doing, READ_CHANGES).await?;
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
        let url = self.url(&["pulls"], &query)?;
        let pulls: Vec<Pull> =
            self.http.all(reading(url, "looking for the branch's pull request", READ_CHANGES)).await?;
        // A fork of the same owner may have a branch of that name, too.
        let same = |info: &ChangeInfo| !info.change.is_fork() && info.change.head.branch == branch;
        Ok(pulls.into_iter().map(ChangeInfo::from).filter(same).collect())
    }

    async fn open_branches(&self, prefix: &str) -> Result<Vec<String>, ForgeError> {
        let url = self.url(&["pulls"], &[("state", "open"), ("per_page", "100")])?;
        let pulls: Vec<Pull> = self.http.all(reading(url, "counting the open pull requests", READ_CHANGES)).await?;
        let ours = |info: &ChangeInfo| !info.change.is_fork() && info.change.head.branch.starts_with(prefix);
        Ok(pulls.into_iter().map(ChangeInfo::from).filter(ours).map(|info| info.change.head.branch).collect())
    }

    async fn changes_since(&self, since_ms: i64) -> Result<Vec<ChangeInfo>, ForgeError> {
        let query = [("state", "open"), ("sort", "updated"), ("direction", "desc"), ("per_page", "100")];
        let ask = reading(self.url(&["pulls"], &query)?, "looking for changes that moved", READ_CHANGES);
        let late = |pull: &Pull| pull.updated_at.as_deref().and_then(time_ms).is_none_or(|at| at >= since_ms);
        let pulls: Vec<Pull> = self.http.while_all(ask, late).await?;
        Ok(pulls.into_iter().map(ChangeInfo::from).collect())
    }

    async fn opened_within(&self, prefix: &str, seconds: u64) -> Result<Vec<String>, ForgeError> {
        let since = self.http.now_ms().saturating_sub(i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX));
        let query = [("state", "all"), ("sort", "created"), ("direction", "desc"), ("per_page", "100")];
        let ask = reading(self.url(&["pulls"], &query)?, "counting the changes of the last hour", READ_CHANGES);
        let late = |pull: &Pull| pull.created_at.as_deref().and_then(time_ms).is_none_or(|at| at >= since);
        let pulls: Vec<Pull> = self.http.while_all(ask, late).await?;
        let ours = |info: &ChangeInfo| !info.change.is_fork() && info.change.head.branch.starts_with(prefix);
        Ok(pulls.into_iter().map(ChangeInfo::from).filter(ours).map(|info| info.change.head.branch).collect())
    }

    async fn make_ready(&self, number: u64) -> Result<(), ForgeError> {
        const READY: &str = "mutation($id: ID!) { markPullRequestReadyForReview(input: {pullRequestId: $id}) { \
            pullRequest { id } } }";
        let id = self.node(number).await?;
        let doing = format!("making pull request #{number} ready");
        self.graphql(READY, json!({ "id": id }), &doing, Kind::Again).await.map(|_| ())
    }

    async fn changed_files(&self, number: u64) -> Result<Vec<ChangedFile>, ForgeError> {
        let url = self.url(&["pulls", &number.to_string(), "files"], &[("per_page", "100")])?;
        let files: Vec<FileWire> = self.http.all(reading(url, "reading the change's files", READ_CHANGES)).await?;
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
            match self.write(Method::POST, &["pulls"], body, doing, WRITE_CHANGES, Kind::Once).await {
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
        let (info, _) = self.http.once_only(|| open_of(self, &new.head), make).await?;
        let mut told = Vec::new();
        if new.draft && !draft.load(order) {
            told.push("the repository has no draft pull requests: it is open for review".to_owned());
        }
        let number = info.change.number;
        let missing: Vec<String> =
            new.labels.iter().filter(|label| !info.change.labels.contains(label)).cloned().collect();
        if let Err(error) = self.label(Thread::Change(number), &missing, &[]).await {
            told.push(format!("the labels were not set: {error}"));
        }
        told.extend(self.assign(number, new).await);
        let missing: Vec<&String> = new
            .reviewers
            .iter()
            .filter(|name| !info.reviewers.iter().any(|there| there.eq_ignore_ascii_case(name)))
            .collect();
        if !missing.is_empty() {
            let (teams, people): (Vec<&String>, Vec<&String>) =
                missing.into_iter().partition(|name| name.contains('/'));
            let teams: Vec<&str> = teams.iter().filter_map(|name| Some(name.split_once('/')?.1)).collect();
            let body = json!({ "reviewers": people, "team_reviewers": teams });
            let number = number.to_string();
            let parts = ["pulls", &number, "requested_reviewers"];
            let asked = self.write(Method::POST, &parts, body, "asking for a review", WRITE_CHANGES, Kind::Again).await;
            if let Err(error) = asked {
                told.push(format!("nobody was asked for a review: {}", error.into_inner()));
            }
        }
        Ok((info, told))
    }

    async fn update_body(&self, number: u64, body: &str) -> Result<(), ForgeError> {
        let doing = format!("bringing pull request #{number} up to date");
        let parts = ["pulls", &number.to_string()];
        let body = json!({ "body": body });
        let done = self.write(Method::PATCH, &parts, body, &doing, WRITE_CHANGES, Kind::Again).await;
        done.map(|_| ()).map_err(Failed::into_inner)
    }

    async fn label(&self, thread: Thread, add: &[String], remove: &[String]) -> Result<(), ForgeError> {
        let number = number_of(thread);
        if !add.is_empty() {
            let body = json!({ "labels": add });
            let parts = ["issues", &number, "labels"];
            let done = self.write(Method::POST, &parts, body, "setting labels", writes(thread), Kind::Again).await;
            done.map_err(Failed::into_inner)?;
        }
        for label in remove {
            let url = self.url(&["issues", &number, "labels", label], &[])?;
            let (doing, needs) = ("taking a label away", Some(writes(thread)));
            let ask =
                Ask { method: Method::DELETE, url, body: None, doing, needs, accept: Some(JSON), kind: Kind::Again };
            match self.http.ask(&ask).await.map_err(Failed::into_inner) {
                Ok(_) | Err(ForgeError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
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
        let answer = self.get(&["pulls", &number.to_string()], &[], &doing, READ_CHANGES).await?;
        Ok(read::<Wire>(&doing, &answer.body)?.node_id)
    }

    /// Assignees and milestone, which a pull request has as an issue. What could not be set is told.
    async fn assign(&self, number: u64, new: &NewChange) -> Option<String> {
        #[derive(Deserialize)]
        struct Milestone {
            number: u64,
            title: String,
        }
        if new.assignees.is_empty() && new.milestone.is_none() {
            return None;
        }
        let mut body = serde_json::Map::new();
        if !new.assignees.is_empty() {
            body.insert("assignees".into(), json!(new.assignees));
        }
        let set = async {
            if let Some(title) = &new.milestone {
                let url = self.url(&["milestones"], &[("state", "open"), ("per_page", "100")])?;
                let all: Vec<Milestone> =
                    self.http.all(reading(url, "looking for the milestone", READ_CHANGES)).await?;
                let found = all.into_iter().find(|it| it.title == *title);
                let found = found.ok_or_else(|| missing_milestone(title))?;
                body.insert("milestone".into(), found.number.into());
            }
            let parts = ["issues", &number.to_string()];
            let doing = "assigning the pull request";
            let done = self.write(Method::PATCH, &parts, Value::Object(body), doing, WRITE_CHANGES, Kind::Again).await;
            done.map_err(Failed::into_inner)
        };
        set.await.err().map(|error| format!("assignees and milestone were not set: {error}"))
    }
}
