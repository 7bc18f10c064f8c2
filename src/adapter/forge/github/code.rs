//! Branches, rules, commits, files.

use super::{Github, HARMLESS, READ_CODE, reading};
use crate::adapter::forge::http::{Ask, Failed, read};
use crate::port::forge::{Check, Code, CommitInfo, ForgeError, Protection, Said};
use async_trait::async_trait;
use serde::Deserialize;

#[async_trait]
impl Code for Github {
    async fn default_branch(&self) -> Result<String, ForgeError> {
        #[derive(Deserialize)]
        struct Wire {
            default_branch: String,
        }
        let doing = "reading the repository";
        let answer = self.get(&[], &[], doing, READ_CODE).await?;
        Ok(read::<Wire>(doing, &answer.body)?.default_branch)
    }

    async fn protection(&self, branch: &str) -> Result<Protection, ForgeError> {
        #[derive(Deserialize)]
        struct Wire {
            protected: bool,
        }
        #[derive(Deserialize)]
        struct Rule {
            #[serde(rename = "type")]
            kind: String,
        }
        let doing = format!("asking whether `{branch}` is protected");
        let answer = match self.get(&["branches", branch], &[], &doing, READ_CODE).await {
            Ok(answer) => answer,
            Err(ForgeError::NotFound { .. }) => return Ok(Protection::Missing),
            Err(error) => return Err(error),
        };
        if read::<Wire>(&doing, &answer.body)?.protected {
            return Ok(Protection::Protected("it is a protected branch".into()));
        }
        let url = self.url(&["rules", "branches", branch], &[("per_page", "100")])?;
        let rules: Vec<Rule> = self.http.all(reading(url, &doing, "permissions: metadata: read")).await?;
        let rule = rules.into_iter().map(|rule| rule.kind).find(|kind| !HARMLESS.contains(&kind.as_str()));
        Ok(rule
            .map_or(Protection::Open, |rule| Protection::Protected(format!("a ruleset has the rule `{rule}` for it"))))
    }

    async fn commit(&self, id: &str) -> Result<CommitInfo, ForgeError> {
        #[derive(Deserialize)]
        struct Person {
            email: Option<String>,
        }
        #[derive(Deserialize)]
        struct Inner {
            author: Option<Person>,
            committer: Option<Person>,
            message: String,
        }
        #[derive(Deserialize)]
        struct Parent {
            sha: String,
        }
        #[derive(Deserialize)]
        struct Wire {
            sha: String,
            commit: Inner,
            parents: Vec<Parent>,
        }
        let doing = format!("reading commit {id}");
        let answer = self.get(&["commits", id], &[], &doing, READ_CODE).await?;
        let wire: Wire = read(&doing, &answer.body)?;
        let email = |person: Option<Person>| person.and_then(|person| person.email).unwrap_or_default();
        Ok(CommitInfo {
            id: wire.sha,
            committer: email(wire.commit.committer),
            author: email(wire.commit.author),
            message: wire.commit.message,
            parents: wire.parents.into_iter().map(|parent| parent.sha).collect(),
        })
    }

    async fn file_at(&self, commit: &str, path: &str) -> Result<Option<Vec<u8>>, ForgeError> {
        let doing = format!("reading `{path}` at {commit}");
        let mut parts = vec!["contents"];
        parts.extend(path.split('/'));
        let url = self.url(&parts, &[("ref", commit)])?;
        let accept = Some("application/vnd.github.raw+json");
        let ask = Ask { accept, ..reading(url, &doing, READ_CODE) };
        match self.http.ask(&ask).await.map_err(Failed::into_inner) {
            Ok(answer) => Ok(Some(answer.body)),
            Err(ForgeError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn tip(&self, branch: &str) -> Result<Option<String>, ForgeError> {
        #[derive(Deserialize)]
        struct At {
            sha: String,
        }
        #[derive(Deserialize)]
        struct Wire {
            commit: At,
        }
        let doing = format!("asking where `{branch}` is");
        match self.get(&["branches", branch], &[], &doing, READ_CODE).await {
            Ok(answer) => Ok(Some(read::<Wire>(&doing, &answer.body)?.commit.sha)),
            Err(ForgeError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn set_check(&self, check: &Check<'_>) -> Result<Said, ForgeError> {
        self.say(check).await
    }
}
