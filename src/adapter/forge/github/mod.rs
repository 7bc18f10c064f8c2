//! GitHub's REST API, and its GraphQL where REST has no word for it (who we are, resolving threads).

mod changes;
mod checks;
mod code;
mod comments;
mod events;
mod issues;
mod review;
mod wire;

use super::connection::{Connection, Manner, owner_and_name};
use super::http::{Ask, Failed, Kind, address, read, with};
use super::issues::ISSUES_OFF;
use super::token::{bearer, source};
use super::{Tools, parse};
use crate::model::forge::{Access, Right, TokenRights};
use crate::port::forge::{Capabilities, Forge, ForgeAt, ForgeError, Place, Remote, Rights, Thread};
use async_trait::async_trait;
use reqwest::header::HeaderMap;
use reqwest::{Method, Url};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::atomic::AtomicBool;

const READ_CODE: &str = "permissions: contents: read";
const WRITE_CODE: &str = "permissions: contents: write";
const READ_CHANGES: &str = "permissions: pull-requests: read";
const WRITE_CHANGES: &str = "permissions: pull-requests: write";
const WRITE_ISSUES: &str = "permissions: issues: write";
const WRITE_STATUS: &str = "permissions: statuses: write";
/// Rules that do not keep anybody from adding commits to a branch that is there.
const HARMLESS: [&str; 3] = ["creation", "deletion", "non_fast_forward"];

const JSON: &str = "application/vnd.github+json";

pub(super) struct Github {
    at: Connection,
    graphql: Url,
    owner: String,
    name: String,
    /// The token is an App's: only those make checks. It turns to no where the forge says so.
    checks: AtomicBool,
}

impl Github {
    pub(super) fn new(at: &ForgeAt, tools: Tools) -> Result<Self, ForgeError> {
        let (owner, name) = owner_and_name(&at.repository)?;
        let tokens = source(at, &tools)?;
        // The token of an Actions job is an App's, too.
        let checks = tokens.known().is_none_or(|token| token.expose_secret().starts_with("ghs_"));
        let manner = Manner {
            root: vec!["repos".to_owned(), owner.clone(), name.clone()],
            headers: with(HeaderMap::new(), "x-github-api-version", "2022-11-28"),
            header: bearer,
            accept: Some(JSON),
            user: "x-access-token",
            pushes: WRITE_CODE,
        };
        let at = Connection::new(at, tokens, tools, manner)?;
        // A server of one's own has its API at `/api/v3`, whatever stands before it, and GraphQL beside it.
        let graphql = match at.api.as_str().strip_suffix("/v3") {
            Some(beside) if at.api.path().ends_with("/api/v3") => {
                parse("the API's address", &format!("{beside}/graphql"))?
            }
            _ => address(&at.api, &["graphql"], &[])?,
        };
        Ok(Self { at, graphql, owner, name, checks: AtomicBool::new(checks) })
    }

    /// Asks by GraphQL. `needs`: the permission that it takes.
    async fn graphql(
        &self,
        query: &str,
        variables: Value,
        doing: &str,
        needs: &str,
        kind: Kind,
    ) -> Result<Value, ForgeError> {
        let body = Some(json!({ "query": query, "variables": variables }));
        let reading = self.at.reading(self.graphql.clone(), doing, needs);
        let ask = Ask { method: Method::POST, body, kind, ..reading };
        let answer: Value = self.at.http.json(&ask).await.map_err(Failed::into_inner)?;
        match answer.get("errors").and_then(Value::as_array).and_then(|errors| errors.first()) {
            None => Ok(answer.get("data").cloned().unwrap_or(Value::Null)),
            Some(error) => {
                let message = error.get("message").and_then(Value::as_str).unwrap_or("an error without words");
                let (doing, message) = (doing.to_owned(), crate::text::clean(message));
                Err(match error.get("type").and_then(Value::as_str) {
                    // GraphQL says this with a status of 200.
                    Some("RATE_LIMITED") => ForgeError::RateLimited { doing, after: None },
                    Some("FORBIDDEN") => ForgeError::Refused { doing, message, needs: Some(needs.to_owned()) },
                    Some("STALE_DATA") => ForgeError::Moved { name: doing, message },
                    _ => ForgeError::Contract { doing, message },
                })
            }
        }
    }

    async fn own(&self) -> Result<Option<&str>, ForgeError> {
        let asked = self.at.own.get_or_try_init(|| async {
            let (query, doing) = ("query { viewer { login } }", "asking who we are");
            match self.graphql(query, json!({}), doing, "a token that is valid", Kind::Read).await {
                Ok(data) => Ok(data.pointer("/viewer/login").and_then(Value::as_str).map(str::to_owned)),
                Err(ForgeError::Refused { .. } | ForgeError::Contract { .. } | ForgeError::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        });
        Ok(asked.await?.as_deref())
    }
}

/// Comments of changes are issues' comments here, but a token may write the one and not the other.
fn writes(thread: Thread) -> &'static str {
    match thread {
        Thread::Change(_) => WRITE_CHANGES,
        Thread::Issue(_) => WRITE_ISSUES,
    }
}

#[async_trait]
impl Rights for Github {
    async fn access_of(&self, user: &str) -> Access {
        #[derive(Deserialize)]
        struct Wire {
            permission: String,
            role_name: Option<String>,
        }
        let doing = "asking for somebody's access";
        let Ok(answer) = self.at.get(&["collaborators", user, "permission"], &[], doing, READ_CODE).await else {
            return Access::None;
        };
        let Ok(wire) = read::<Wire>(doing, &answer.body) else { return Access::None };
        // Roles of one's own are told by what they build on; `triage` and `maintain` by their name only.
        match (wire.permission.as_str(), wire.role_name.as_deref()) {
            ("admin", _) => Access::Admin,
            ("write", Some("maintain")) => Access::Maintain,
            ("write", _) => Access::Write,
            ("read", Some("triage")) => Access::Triage,
            ("read", _) => Access::Read,
            _ => Access::None,
        }
    }

    async fn starts_checks(&self) -> Result<Right, ForgeError> {
        // What a job's own token does starts no workflow, so that none starts itself.
        Ok(match self.own().await? {
            Some("github-actions[bot]") => Right::No(
                "What is pushed with a job's own `GITHUB_TOKEN` starts no workflow. Close and reopen the pull request to \
                 start them, or give the deliver job the token of a GitHub App (`actions/create-github-app-token`)."
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
        let doing = "asking what the token may do";
        let account = self.own_account().await.ok().flatten();
        let answer = match self.at.get(&[], &[], doing, READ_CODE).await {
            Ok(answer) => answer,
            Err(ForgeError::Refused { needs, .. }) => {
                return Ok(TokenRights::none(account, needs.as_deref().unwrap_or("a token that is valid")));
            }
            Err(ForgeError::NotFound { .. }) => return Ok(TokenRights::none(account, READ_CODE)),
            Err(error) => return Err(error),
        };
        let repository: Value = read(doing, &answer.body)?;
        let push = self.at.remote.may_push().await?;
        // A branch that cannot be there: whoever may open a pull request is told so, whoever may not, that.
        let base = repository.get("default_branch").and_then(Value::as_str).unwrap_or("main");
        let body = json!({ "title": "codeforge doctor", "head": "codeforge/doctor-no-such-branch", "base": base });
        let tried = self.at.write(Method::POST, &["pulls"], body, doing, WRITE_CHANGES, Kind::Again).await;
        let open_changes = match tried.map_err(Failed::into_inner) {
            Err(ForgeError::Contract { .. }) => Right::Yes,
            Err(ForgeError::Refused { needs, .. }) => Right::No(needs.unwrap_or_else(|| WRITE_CHANGES.to_owned())),
            Err(ForgeError::NotFound { .. }) => Right::No(WRITE_CHANGES.to_owned()),
            Ok(_) | Err(_) => Right::Unknown,
        };
        // Whoever may push may ask; comments on changes go with the right to open them.
        let (comment, ask_access) = (open_changes.clone(), push.clone());
        let off = repository.get("has_issues").and_then(Value::as_bool) == Some(false);
        let issues = if off { Right::No(ISSUES_OFF.to_owned()) } else { self.may_open_issues(doing).await };
        Ok(TokenRights { account, read: Right::Yes, push, comment, issues, open_changes, ask_access })
    }
}

impl Forge for Github {
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
            suggestions: true,
            resolve: true,
            reactions: true,
            statuses: true,
            checks: self.checks.load(std::sync::atomic::Ordering::Relaxed),
            labels: true,
            reviewers: true,
            access: true,
            rules: true,
            issues: true,
            comment_chars: 65_536,
        }
    }
}
