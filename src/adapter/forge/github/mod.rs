//! GitHub's REST API, and its GraphQL where REST has no word for it (who we are, resolving threads).

mod changes;
mod checks;
mod code;
mod comments;
mod review;
mod wire;

use super::http::{Answer, Ask, Failed, Http, Kind, address, read, with};
use super::remote::GitRemote;
use super::token::{bearer, source};
use super::{Jitter, Marks, Settings, parse};
use crate::model::forge::{Access, ForgeKind, Right, TokenRights};
use crate::port::clock::Clock;
use crate::port::forge::{
    Capabilities, CommentInfo, Comments, Forge, ForgeAt, ForgeError, Remote, Rights, Sticky, Thread,
};
use async_trait::async_trait;
use reqwest::header::HeaderMap;
use reqwest::{Method, Url};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::OnceCell;

const READ_CODE: &str = "permissions: contents: read";
const WRITE_CODE: &str = "permissions: contents: write";
const READ_CHANGES: &str = "permissions: pull-requests: read";
const WRITE_CHANGES: &str = "permissions: pull-requests: write";
const WRITE_ISSUES: &str = "permissions: issues: write";
const WRITE_STATUS: &str = "permissions: statuses: write";
/// Rules that do not keep anybody from adding commits to a branch that is there.
const HARMLESS: [&str; 3] = ["creation", "deletion", "non_fast_forward"];

pub(super) struct Github {
    http: Arc<Http>,
    api: Url,
    graphql: Url,
    owner: String,
    name: String,
    repository: String,
    host: String,
    marks: Marks,
    remote: GitRemote,
    own: OnceCell<Option<String>>,
    /// The token is an App's: only those make checks. It turns to no where the forge says so.
    checks: AtomicBool,
}

impl Github {
    pub(super) fn new(
        at: &ForgeAt,
        clock: Arc<dyn Clock>,
        jitter: Jitter,
        settings: Settings,
    ) -> Result<Self, ForgeError> {
        let api = parse("the API's address", &at.api)?;
        let git = parse("the repository's address", &at.git_url)?;
        let Some((owner, name)) = at.repository.split_once('/').filter(|(_, name)| !name.contains('/')) else {
            return Err(ForgeError::Unsupported(format!("`{}` is not a repository; write owner/name", at.repository)));
        };
        let tokens = source(at, &clock, &jitter, &settings)?;
        // The token of an Actions job is an App's, too.
        let checks = tokens.known().is_none_or(|token| token.expose_secret().starts_with("ghs_"));
        let headers = with(HeaderMap::new(), "x-github-api-version", "2022-11-28");
        let http = Arc::new(Http::new(&api, headers, (tokens, bearer), clock, jitter, settings.clone())?);
        // A server of one's own has its API at `/api/v3`, and GraphQL beside it.
        let graphql = match api.as_str().strip_suffix("/v3") {
            Some(beside) if api.path() == "/api/v3" => parse("the API's address", &format!("{beside}/graphql"))?,
            _ => address(&api, &["graphql"], &[])?,
        };
        let remote = GitRemote::new(Arc::clone(&http), git.clone(), "x-access-token", &settings, WRITE_CODE)?;
        Ok(Self {
            http,
            graphql,
            owner: owner.to_owned(),
            name: name.to_owned(),
            repository: at.repository.clone(),
            host: git.host_str().unwrap_or_default().to_owned(),
            marks: Marks::new(at),
            remote,
            own: OnceCell::new(),
            checks: AtomicBool::new(checks),
            api,
        })
    }

    /// `/repos/OWNER/NAME/…`.
    fn url(&self, parts: &[&str], query: &[(&str, &str)]) -> Result<Url, ForgeError> {
        let mut all = vec!["repos", self.owner.as_str(), self.name.as_str()];
        all.extend(parts);
        address(&self.api, &all, query)
    }

    async fn get(
        &self,
        parts: &[&str],
        query: &[(&str, &str)],
        doing: &str,
        needs: &str,
    ) -> Result<Answer, ForgeError> {
        let ask = reading(self.url(parts, query)?, doing, needs);
        self.http.ask(&ask).await.map_err(Failed::into_inner)
    }

    async fn write(
        &self,
        method: Method,
        parts: &[&str],
        body: Value,
        doing: &str,
        needs: &str,
        kind: Kind,
    ) -> Result<Answer, Failed> {
        let url = self.url(parts, &[])?;
        let ask = Ask { method, url, body: Some(body), doing, needs: Some(needs), accept: Some(JSON), kind };
        self.http.ask(&ask).await
    }

    async fn graphql(&self, query: &str, variables: Value, doing: &str, kind: Kind) -> Result<Value, ForgeError> {
        let body = Some(json!({ "query": query, "variables": variables }));
        let (url, needs) = (self.graphql.clone(), Some(WRITE_CHANGES));
        let ask = Ask { method: Method::POST, url, body, doing, needs, accept: Some(JSON), kind };
        let answer: Value = self.http.json(&ask).await.map_err(Failed::into_inner)?;
        match answer.get("errors").and_then(Value::as_array).and_then(|errors| errors.first()) {
            None => Ok(answer.get("data").cloned().unwrap_or(Value::Null)),
            Some(error) => {
                let message = error.get("message").and_then(Value::as_str).unwrap_or("an error without words");
                let message = crate::text::clean(message);
                Err(match error.get("type").and_then(Value::as_str) {
                    Some("FORBIDDEN") => {
                        ForgeError::Refused { doing: doing.into(), message, needs: Some(WRITE_CHANGES.into()) }
                    }
                    _ => ForgeError::Contract { doing: doing.into(), message },
                })
            }
        }
    }

    async fn own(&self) -> Result<Option<&str>, ForgeError> {
        let asked = self.own.get_or_try_init(|| async {
            let data = self.graphql("query { viewer { login } }", json!({}), "asking who we are", Kind::Read).await;
            match data {
                Ok(data) => Ok(data.pointer("/viewer/login").and_then(Value::as_str).map(str::to_owned)),
                Err(ForgeError::Refused { .. } | ForgeError::Contract { .. } | ForgeError::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        });
        Ok(asked.await?.as_deref())
    }

    async fn sticky(&self, sticky: &Sticky<'_>) -> Result<Option<CommentInfo>, ForgeError> {
        let own = self.own().await?;
        self.marks.find(own, sticky, self.comments(sticky.thread).await?)
    }
}

const JSON: &str = "application/vnd.github+json";

fn reading<'a>(url: Url, doing: &'a str, needs: &'a str) -> Ask<'a> {
    Ask { method: Method::GET, url, body: None, doing, needs: Some(needs), accept: Some(JSON), kind: Kind::Read }
}

/// Comments of changes are issues' comments here, but a token may write the one and not the other.
fn writes(thread: Thread) -> &'static str {
    match thread {
        Thread::Change(_) => WRITE_CHANGES,
        Thread::Issue(_) => WRITE_ISSUES,
    }
}

fn number_of(thread: Thread) -> String {
    match thread {
        Thread::Change(number) | Thread::Issue(number) => number.to_string(),
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
        let Ok(answer) = self.get(&["collaborators", user, "permission"], &[], doing, READ_CODE).await else {
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

    async fn own_account(&self) -> Result<Option<String>, ForgeError> {
        Ok(self.own().await?.map(str::to_owned))
    }

    async fn token_rights(&self) -> Result<TokenRights, ForgeError> {
        let doing = "asking what the token may do";
        let account = self.own_account().await.ok().flatten();
        let answer = match self.get(&[], &[], doing, READ_CODE).await {
            Ok(answer) => answer,
            Err(ForgeError::Refused { needs, .. }) => {
                return Ok(TokenRights::none(account, needs.as_deref().unwrap_or("a token that is valid")));
            }
            Err(ForgeError::NotFound { .. }) => return Ok(TokenRights::none(account, READ_CODE)),
            Err(error) => return Err(error),
        };
        let repository: Value = read(doing, &answer.body)?;
        let push = self.remote.may_push().await?;
        // A branch that cannot be there: whoever may open a pull request is told so, whoever may not, that.
        let base = repository.get("default_branch").and_then(Value::as_str).unwrap_or("main");
        let body = json!({ "title": "codeforge doctor", "head": "codeforge/doctor-no-such-branch", "base": base });
        let tried = self.write(Method::POST, &["pulls"], body, doing, WRITE_CHANGES, Kind::Again).await;
        let open_changes = match tried.map_err(Failed::into_inner) {
            Err(ForgeError::Contract { .. }) => Right::Yes,
            Err(ForgeError::Refused { needs, .. }) => Right::No(needs.unwrap_or_else(|| WRITE_CHANGES.to_owned())),
            Err(ForgeError::NotFound { .. }) => Right::No(WRITE_CHANGES.to_owned()),
            Ok(_) | Err(_) => Right::Unknown,
        };
        // Whoever may push may ask; comments on changes go with the right to open them.
        let (comment, ask_access) = (open_changes.clone(), push.clone());
        Ok(TokenRights { account, read: Right::Yes, push, comment, open_changes, ask_access })
    }
}

impl Forge for Github {
    fn remote(&self) -> &dyn Remote {
        &self.remote
    }

    fn kind(&self) -> ForgeKind {
        ForgeKind::Github
    }

    fn repository(&self) -> &str {
        &self.repository
    }

    fn host(&self) -> &str {
        &self.host
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
