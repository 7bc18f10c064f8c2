//! Branches, rules, commits, files, statuses.

use super::wire::User;
use super::{Gitea, WRITE_CODE};
use crate::adapter::forge::http::{Failed, Kind, read};
use crate::model::forge::CheckState;
use crate::port::forge::{Check, Code, CommitInfo, ForgeError, Protection, Said};
use async_trait::async_trait;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

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
        #[derive(Deserialize)]
        struct Person {
            #[serde(default)]
            email: String,
        }
        #[derive(Deserialize)]
        struct Inner {
            author: Option<Person>,
            committer: Option<Person>,
            message: String,
            tree: Option<Parent>,
            verification: Option<Verification>,
        }
        #[derive(Deserialize)]
        struct Verification {
            #[serde(default)]
            verified: bool,
        }
        #[derive(Deserialize)]
        struct Parent {
            sha: String,
        }
        #[derive(Deserialize)]
        struct Wire {
            sha: String,
            commit: Inner,
            author: Option<User>,
            parents: Option<Vec<Parent>>,
        }
        let doing = format!("reading commit {id}");
        let query = [("stat", "false"), ("verification", "true"), ("files", "false")];
        let answer = self.get(&["git", "commits", id], &query, &doing).await?;
        let wire: Wire = read(&doing, &answer.body)?;
        let email = |person: Option<Person>| person.map(|person| person.email).unwrap_or_default();
        Ok(CommitInfo {
            id: wire.sha,
            committer: email(wire.commit.committer),
            author: email(wire.commit.author),
            message: wire.commit.message,
            parents: wire.parents.unwrap_or_default().into_iter().map(|parent| parent.sha).collect(),
            account: wire.author.map(|user| user.login),
            tree: wire.commit.tree.map(|tree| tree.sha),
            verified: wire.commit.verification.is_some_and(|verification| verification.verified),
        })
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
        #[derive(Deserialize)]
        struct Inner {
            message: String,
        }
        #[derive(Deserialize)]
        struct Wire {
            commit: Inner,
        }
        let doing = format!("reading the last commits of `{branch}`");
        let most = most.min(50).to_string();
        let query =
            [("sha", branch), ("limit", &most), ("stat", "false"), ("verification", "false"), ("files", "false")];
        let wire: Vec<Wire> = read(&doing, &self.get(&["commits"], &query, &doing).await?.body)?;
        Ok(wire.iter().map(|it| it.commit.message.lines().next().unwrap_or_default().to_owned()).collect())
    }

    async fn set_check(&self, check: &Check<'_>) -> Result<Said, ForgeError> {
        let state = match check.state {
            CheckState::Pending => "pending",
            CheckState::Success => "success",
            CheckState::Failure => "failure",
            CheckState::Error => "error",
        };
        let words: String = check.words.chars().take(255).collect();
        let mut body = json!({ "state": state, "context": check.name, "description": words });
        if let (Some(url), Some(fields)) = (check.url, body.as_object_mut()) {
            fields.insert("target_url".into(), url.into());
        }
        let (parts, doing) = (["statuses", check.commit], "saying how the commit stands");
        let done = self.write(Method::POST, &parts, body, doing, WRITE_CODE, Kind::Again).await;
        done.map(|_| Said::Status).map_err(Failed::into_inner)
    }
}
