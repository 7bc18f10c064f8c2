//! Gitea's REST API, version 1, which Forgejo speaks as well.

mod changes;
mod code;
mod comments;
mod events;
mod issues;
mod review;
mod rules;
mod wire;

use super::Tools;
use super::alike::User;
use super::connection::{Connection, Manner, owner_and_name};
use super::http::{Answer, Ask, Failed, Kind, read};
use super::issues::ISSUES_OFF;
use super::token::{secret, source};
use crate::model::forge::{Access, Right, TokenRights};
use crate::port::forge::{Capabilities, Forge, ForgeAt, ForgeError, Place, Remote, Rights};
use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::{Value, json};

const READ_CODE: &str = "scope read:repository";
const WRITE_CODE: &str = "scope write:repository, and write access to the repository";
const WRITE_ISSUES: &str = "scope write:issue";
const ADMIN: &str =
    "admin access to the repository: only that lets an account ask what others may do and which rules there are";

/// Whom a job's own token acts as: Gitea, Forgejo.
const OF_A_JOB: [&str; 2] = ["gitea-actions", "forgejo-actions"];

pub(super) struct Gitea {
    at: Connection,
}

impl Gitea {
    pub(super) fn new(at: &ForgeAt, tools: Tools) -> Result<Self, ForgeError> {
        let (owner, name) = owner_and_name(&at.repository)?;
        let manner = Manner {
            root: vec!["repos".to_owned(), owner, name],
            headers: HeaderMap::new(),
            header,
            accept: None,
            // The name does not matter beside a token.
            user: "x-access-token",
            pushes: WRITE_CODE,
        };
        Ok(Self { at: Connection::new(at, source(at, &tools)?, tools, manner)? })
    }

    fn reading<'a>(&self, url: Url, doing: &'a str) -> Ask<'a> {
        self.at.reading(url, doing, READ_CODE)
    }

    async fn get(&self, parts: &[&str], query: &[(&str, &str)], doing: &str) -> Result<Answer, ForgeError> {
        self.at.get(parts, query, doing, READ_CODE).await
    }

    async fn own(&self) -> Result<Option<&str>, ForgeError> {
        self.at.own("scope read:user", |user: User| user.login).await
    }

    /// Whether the token may: what is asked for cannot be done to anything that is there.
    async fn tried(&self, parts: &[&str], body: Value, needs: &'static str) -> Right {
        let doing = "asking what the token may do";
        match self.at.write(Method::POST, parts, body, doing, needs, Kind::Again).await.map_err(Failed::into_inner) {
            Err(ForgeError::NotFound { .. } | ForgeError::Contract { .. }) => Right::Yes,
            Err(ForgeError::Refused { .. }) => Right::No(needs.to_owned()),
            Ok(_) | Err(_) => Right::Unknown,
        }
    }
}

/// Gitea's own form, which its older versions take as well.
fn header(token: &str) -> Result<(HeaderName, HeaderValue), ForgeError> {
    Ok((AUTHORIZATION, secret(&format!("token {token}"))?))
}

#[async_trait]
impl Rights for Gitea {
    async fn access_of(&self, user: &str) -> Access {
        #[derive(Deserialize)]
        struct Wire {
            permission: String,
        }
        let doing = "asking for somebody's access";
        let Ok(answer) = self.get(&["collaborators", user, "permission"], &[], doing).await else {
            return Access::None;
        };
        match read::<Wire>(doing, &answer.body).map(|wire| wire.permission).as_deref() {
            Ok("owner" | "admin") => Access::Admin,
            Ok("write") => Access::Write,
            Ok("read") => Access::Read,
            _ => Access::None,
        }
    }

    async fn starts_checks(&self) -> Result<Right, ForgeError> {
        // What a job's own token does starts no job, so that none starts itself.
        Ok(match self.own().await? {
            Some(own) if OF_A_JOB.contains(&own) => Right::No(
                "What is pushed with a job's own token starts no workflow. Start one by hand, or give the deliver job the \
                 token of an account of its own in CODEFORGE_FORGE_TOKEN."
                    .to_owned(),
            ),
            Some(_) => Right::Yes,
            None => Right::Unknown,
        })
    }

    async fn own_account(&self) -> Result<Option<String>, ForgeError> {
        Ok(self.own().await?.map(str::to_owned))
    }

    async fn token_rights(&self) -> Result<TokenRights, ForgeError> {
        #[derive(Deserialize, Default)]
        struct Permissions {
            #[serde(default)]
            admin: bool,
        }
        #[derive(Deserialize)]
        struct Wire {
            default_branch: String,
            permissions: Option<Permissions>,
            has_issues: Option<bool>,
        }
        let doing = "asking what the token may do";
        let account = self.own_account().await.ok().flatten();
        let repository: Wire = match self.get(&[], &[], doing).await {
            Ok(answer) => read(doing, &answer.body)?,
            Err(ForgeError::Refused { .. } | ForgeError::NotFound { .. }) => {
                return Ok(TokenRights::none(account, READ_CODE));
            }
            Err(error) => return Err(error),
        };
        let push = self.at.remote.may_push().await?;
        let branch = "codeforge/doctor-no-such-branch";
        let body = json!({ "title": "codeforge doctor", "head": branch, "base": repository.default_branch });
        let open_changes = self.tried(&["pulls"], body, "scope write:repository").await;
        let comment =
            self.tried(&["issues", "0", "comments"], json!({ "body": "codeforge doctor" }), WRITE_ISSUES).await;
        let admin = repository.permissions.unwrap_or_default().admin;
        let ask_access = if admin { Right::Yes } else { Right::No(ADMIN.to_owned()) };
        let off = repository.has_issues == Some(false);
        let issues = if off { Right::No(ISSUES_OFF.to_owned()) } else { comment.clone() };
        Ok(TokenRights { account, read: Right::Yes, push, open_changes, comment, issues, ask_access })
    }
}

impl Forge for Gitea {
    fn remote(&self) -> &dyn Remote {
        &self.at.remote
    }

    fn place(&self) -> &Place {
        &self.at.place
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            changes: true,
            comments: true,
            drafts: true,
            inline: true,
            ranges: true,
            // A remark's text goes below its words, for people to copy.
            suggestions: false,
            resolve: false,
            reactions: true,
            statuses: true,
            checks: false,
            labels: true,
            reviewers: true,
            access: true,
            rules: true,
            issues: true,
            comment_chars: 65_536,
        }
    }
}
