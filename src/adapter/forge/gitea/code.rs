//! Branches, rules, commits, files, statuses.

use super::{Gitea, WRITE_CODE};
use crate::adapter::forge::alike::{CommitWire, Listed, status};
use crate::adapter::forge::http::{Failed, Kind, read};
use crate::port::forge::{Check, Code, CommitInfo, ForgeError, Protection, PushRule, Said};
use async_trait::async_trait;
use reqwest::Method;
use serde::Deserialize;

#[derive(Deserialize)]
struct At {
    id: String,
}

#[derive(Deserialize)]
struct Branch {
    commit: At,
    #[serde(default)]
    protected: bool,
    #[serde(default)]
    effective_branch_protection_name: String,
}

impl Gitea {
    async fn branch(&self, name: &str, doing: &str) -> Result<Option<Branch>, ForgeError> {
        match self.get(&["branches", name], &[], doing).await {
            Ok(answer) => read(doing, &answer.body).map(Some),
            Err(ForgeError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Code for Gitea {
    async fn default_branch(&self) -> Result<String, ForgeError> {
        #[derive(Deserialize)]
        struct Wire {
            default_branch: String,
        }
        let doing = "reading the repository";
        let answer = self.get(&[], &[], doing).await?;
        Ok(read::<Wire>(doing, &answer.body)?.default_branch)
    }

    async fn tip(&self, branch: &str) -> Result<Option<String>, ForgeError> {
        let found = self.branch(branch, &format!("asking where `{branch}` is")).await?;
        Ok(found.map(|branch| branch.commit.id))
    }

    async fn protection(&self, branch: &str) -> Result<Protection, ForgeError> {
        Ok(match self.branch(branch, &format!("asking whether `{branch}` is protected")).await? {
            None => Protection::Missing,
            Some(found) if found.protected => {
                let rule = crate::text::clean(&found.effective_branch_protection_name);
                Protection::Protected(match rule.trim() {
                    "" => "it is a protected branch".to_owned(),
                    rule => format!("the rule `{rule}` protects it"),
                })
            }
            Some(_) => Protection::Open,
        })
    }

    async fn commit(&self, id: &str) -> Result<CommitInfo, ForgeError> {
        let doing = format!("reading commit {id}");
        let query = [("stat", "false"), ("verification", "true"), ("files", "false")];
        let answer = self.get(&["git", "commits", id], &query, &doing).await?;
        Ok(read::<CommitWire>(&doing, &answer.body)?.into())
    }

    async fn file_at(&self, commit: &str, path: &str) -> Result<Option<Vec<u8>>, ForgeError> {
        let doing = format!("reading `{path}` at {commit}");
        let parts: Vec<&str> = std::iter::once("raw").chain(path.split('/')).collect();
        match self.get(&parts, &[("ref", commit)], &doing).await {
            Ok(answer) => Ok(Some(answer.body)),
            Err(ForgeError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn subjects(&self, branch: &str, most: usize) -> Result<Vec<String>, ForgeError> {
        let doing = format!("reading the last commits of `{branch}`");
        let most = most.min(50).to_string();
        let query =
            [("sha", branch), ("limit", &most), ("stat", "false"), ("verification", "false"), ("files", "false")];
        let answer = self.get(&["commits"], &query, &doing).await?;
        Ok(read::<Vec<Listed>>(&doing, &answer.body)?.into_iter().map(String::from).collect())
    }

    async fn set_check(&self, check: &Check<'_>) -> Result<Said, ForgeError> {
        let (parts, doing) = (["statuses", check.commit], "saying how the commit stands");
        let done = self.at.write(Method::POST, &parts, status(check, 255), doing, WRITE_CODE, Kind::Again).await;
        done.map(|_| Said::Status).map_err(Failed::into_inner)
    }

    async fn push_rules(&self, branch: &str) -> Result<Vec<PushRule>, ForgeError> {
        self.rules_of(branch).await
    }
}
