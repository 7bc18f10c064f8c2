//! Branches, commits, files, statuses.

use super::Gitlab;
use crate::adapter::forge::http::{Failed, Kind, read};
use crate::model::forge::CheckState;
use crate::port::forge::{Check, Code, CommitInfo, ForgeError, Protection, PushRule, Said};
use async_trait::async_trait;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

#[async_trait]
impl Code for Gitlab {
    async fn default_branch(&self) -> Result<String, ForgeError> {
        let branch = self.project().await?.default_branch.clone();
        branch.ok_or_else(|| ForgeError::NotFound {
            doing: "reading the default branch".into(),
            hint: "the project has no commit yet".into(),
        })
    }

    async fn tip(&self, branch: &str) -> Result<Option<String>, ForgeError> {
        #[derive(Deserialize)]
        struct At {
            id: String,
        }
        #[derive(Deserialize)]
        struct Wire {
            commit: At,
        }
        let doing = format!("asking where `{branch}` is");
        match self.get(&["repository", "branches", branch], &[], &doing).await {
            Ok(answer) => Ok(Some(read::<Wire>(&doing, &answer.body)?.commit.id)),
            Err(ForgeError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn protection(&self, branch: &str) -> Result<Protection, ForgeError> {
        #[derive(Deserialize)]
        struct Wire {
            protected: bool,
        }
        let doing = format!("asking whether `{branch}` is protected");
        match self.get(&["repository", "branches", branch], &[], &doing).await {
            Ok(answer) if read::<Wire>(&doing, &answer.body)?.protected => {
                Ok(Protection::Protected("it is a protected branch".into()))
            }
            Ok(_) => Ok(Protection::Open),
            Err(ForgeError::NotFound { .. }) => Ok(Protection::Missing),
            Err(error) => Err(error),
        }
    }

    async fn commit(&self, id: &str) -> Result<CommitInfo, ForgeError> {
        #[derive(Deserialize)]
        struct Wire {
            id: String,
            #[serde(default)]
            committer_email: String,
            #[serde(default)]
            author_email: String,
            message: String,
            #[serde(default)]
            parent_ids: Vec<String>,
        }
        let doing = format!("reading commit {id}");
        let answer = self.get(&["repository", "commits", id], &[], &doing).await?;
        let wire: Wire = read(&doing, &answer.body)?;
        Ok(CommitInfo {
            id: wire.id,
            committer: wire.committer_email,
            author: wire.author_email,
            message: wire.message,
            parents: wire.parent_ids,
            account: None,
            tree: None,
            verified: false,
        })
    }

    async fn file_at(&self, commit: &str, path: &str) -> Result<Option<Vec<u8>>, ForgeError> {
        let doing = format!("reading `{path}` at {commit}");
        match self.get(&["repository", "files", path, "raw"], &[("ref", commit)], &doing).await {
            Ok(answer) => Ok(Some(answer.body)),
            Err(ForgeError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn subjects(&self, branch: &str, most: usize) -> Result<Vec<String>, ForgeError> {
        #[derive(Deserialize)]
        struct Wire {
            title: String,
        }
        let doing = format!("reading the last commits of `{branch}`");
        let most = most.min(100).to_string();
        let query = [("ref_name", branch), ("per_page", &most)];
        let answer = self.get(&["repository", "commits"], &query, &doing).await?;
        Ok(read::<Vec<Wire>>(&doing, &answer.body)?.into_iter().map(|it| it.title).collect())
    }

    async fn set_check(&self, check: &Check<'_>) -> Result<Said, ForgeError> {
        let state = match check.state {
            CheckState::Pending => "pending",
            CheckState::Success => "success",
            CheckState::Failure | CheckState::Error => "failed",
            CheckState::Cancelled => "canceled",
        };
        let words: String = check.words.chars().take(255).collect();
        let mut body = json!({ "state": state, "name": check.name, "description": words });
        if let (Some(url), Some(fields)) = (check.url, body.as_object_mut()) {
            fields.insert("target_url".into(), url.into());
        }
        let parts = ["statuses", check.commit];
        match self.write(Method::POST, &parts, body, "saying how the commit stands", Kind::Again).await {
            // GitLab refuses to say the same again.
            Err(Failed::Sure(ForgeError::Contract { message, .. })) if message.contains("Cannot transition status") => {
                Ok(Said::Status)
            }
            done => done.map(|_| Said::Status).map_err(Failed::into_inner),
        }
    }

    async fn push_rules(&self, branch: &str) -> Result<Vec<PushRule>, ForgeError> {
        self.rules_of(branch).await
    }
}
