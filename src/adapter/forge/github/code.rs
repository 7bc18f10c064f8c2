//! Branches, rules, commits, files.

use super::{Github, HARMLESS, READ_CODE, WRITE_CODE};
use crate::adapter::forge::alike::{CommitWire, Listed};
use crate::adapter::forge::http::{Ask, Failed, Kind, read};
use crate::port::forge::{Check, Code, CommitInfo, ForgeError, NewCommit, Protection, PushRule, RuleAbout, Said};
use async_trait::async_trait;
use base64::Engine as _;
use serde::Deserialize;
use serde_json::{Value, json};

#[async_trait]
impl Code for Github {
    async fn default_branch(&self) -> Result<String, ForgeError> {
        #[derive(Deserialize)]
        struct Wire {
            default_branch: String,
        }
        let doing = "reading the repository";
        let answer = self.at.get(&[], &[], doing, READ_CODE).await?;
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
        let answer = match self.at.get(&["branches", branch], &[], &doing, READ_CODE).await {
            Ok(answer) => answer,
            Err(ForgeError::NotFound { .. }) => return Ok(Protection::Missing),
            Err(error) => return Err(error),
        };
        if read::<Wire>(&doing, &answer.body)?.protected {
            return Ok(Protection::Protected("it is a protected branch".into()));
        }
        let url = self.at.url(&["rules", "branches", branch], &[("per_page", "100")])?;
        let rules: Vec<Rule> = self.at.http.all(self.at.reading(url, &doing, "permissions: metadata: read")).await?;
        let rule = rules.into_iter().map(|rule| rule.kind).find(|kind| !HARMLESS.contains(&kind.as_str()));
        Ok(rule
            .map_or(Protection::Open, |rule| Protection::Protected(format!("a ruleset has the rule `{rule}` for it"))))
    }

    async fn commit(&self, id: &str) -> Result<CommitInfo, ForgeError> {
        let doing = format!("reading commit {id}");
        let answer = self.at.get(&["commits", id], &[], &doing, READ_CODE).await?;
        Ok(read::<CommitWire>(&doing, &answer.body)?.into())
    }

    async fn file_at(&self, commit: &str, path: &str) -> Result<Option<Vec<u8>>, ForgeError> {
        let doing = format!("reading `{path}` at {commit}");
        let mut parts = vec!["contents"];
        parts.extend(path.split('/'));
        let url = self.at.url(&parts, &[("ref", commit)])?;
        let accept = Some("application/vnd.github.raw+json");
        let ask = Ask { accept, ..self.at.reading(url, &doing, READ_CODE) };
        match self.at.http.ask(&ask).await.map_err(Failed::into_inner) {
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
        match self.at.get(&["branches", branch], &[], &doing, READ_CODE).await {
            Ok(answer) => Ok(Some(read::<Wire>(&doing, &answer.body)?.commit.sha)),
            Err(ForgeError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn set_check(&self, check: &Check<'_>) -> Result<Said, ForgeError> {
        self.say(check).await
    }

    async fn subjects(&self, branch: &str, most: usize) -> Result<Vec<String>, ForgeError> {
        let doing = format!("reading the last commits of `{branch}`");
        let most = most.min(100).to_string();
        let answer = self.at.get(&["commits"], &[("sha", branch), ("per_page", &most)], &doing, READ_CODE).await?;
        Ok(read::<Vec<Listed>>(&doing, &answer.body)?.into_iter().map(String::from).collect())
    }

    async fn commit_on_branch(&self, commit: &NewCommit<'_>) -> Result<String, ForgeError> {
        const MAKE: &str = "mutation($input: CreateCommitOnBranchInput!) { createCommitOnBranch(input: $input) { commit { \
            oid } } }";
        let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        let additions: Vec<Value> =
            commit.additions.iter().map(|(path, bytes)| json!({ "path": path, "contents": base64(bytes) })).collect();
        let deletions: Vec<Value> = commit.deletions.iter().map(|path| json!({ "path": path })).collect();
        let input = json!({
            "branch": { "repositoryNameWithOwner": self.at.place.repository, "branchName": commit.branch },
            "expectedHeadOid": commit.parent,
            "message": { "headline": commit.title, "body": commit.body },
            "fileChanges": { "additions": additions, "deletions": deletions },
        });
        // The branch's old commit is compared by GitHub: made twice it is refused the second time.
        let doing = format!("making a signed commit on `{}`", commit.branch);
        let data = self.graphql(MAKE, json!({ "input": input }), &doing, WRITE_CODE, Kind::Again).await;
        let data = data.map_err(|error| match error {
            ForgeError::Moved { message, .. } => ForgeError::Moved { name: commit.branch.to_owned(), message },
            error => error,
        })?;
        let made = data.pointer("/createCommitOnBranch/commit/oid").and_then(Value::as_str).map(str::to_owned);
        made.ok_or_else(|| ForgeError::Contract { doing, message: "GitHub does not say which commit it made".into() })
    }

    async fn push_rules(&self, branch: &str) -> Result<Vec<PushRule>, ForgeError> {
        #[derive(Deserialize)]
        struct Wire {
            #[serde(rename = "type")]
            kind: String,
            #[serde(default)]
            parameters: Value,
        }
        let doing = format!("asking which rules hold for `{branch}`");
        let url = self.at.url(&["rules", "branches", branch], &[("per_page", "100")])?;
        let rules: Vec<Wire> = self.at.http.all(self.at.reading(url, &doing, "permissions: metadata: read")).await?;
        let meant = |rule: Wire| {
            let pattern = rule.parameters.get("pattern").and_then(Value::as_str).unwrap_or_default();
            let pattern = crate::text::clean(pattern).replace('\n', " ");
            let (about, words) = match rule.kind.as_str() {
                "creation" => (RuleAbout::Branch, "such a branch may not be made".to_owned()),
                "update" | "non_fast_forward" => (RuleAbout::Branch, "such a branch may not be moved".to_owned()),
                "required_signatures" => (RuleAbout::Signature, "commits must be signed".to_owned()),
                "commit_message_pattern" => (RuleAbout::Form, format!("messages must fit `{pattern}`")),
                "commit_author_email_pattern" => (RuleAbout::Form, format!("authors' addresses must fit `{pattern}`")),
                "committer_email_pattern" => (RuleAbout::Form, format!("committers' addresses must fit `{pattern}`")),
                "branch_name_pattern" => (RuleAbout::Form, format!("names of branches must fit `{pattern}`")),
                "file_path_restriction" => (RuleAbout::Form, "some paths may not be pushed".to_owned()),
                "file_extension_restriction" => (RuleAbout::Form, "some kinds of files may not be pushed".to_owned()),
                "max_file_size" => (RuleAbout::Form, "large files may not be pushed".to_owned()),
                _ => return None,
            };
            Some(PushRule { words, about })
        };
        Ok(rules.into_iter().filter_map(meant).collect())
    }
}
