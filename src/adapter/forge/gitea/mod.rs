//! Gitea's REST API, version 1, which Forgejo speaks as well.

mod changes;
mod code;
mod comments;
mod review;
mod wire;

use super::http::{Answer, Ask, Failed, Http, Kind, address, read};
use super::remote::GitRemote;
use super::token::{secret, source};
use super::{Jitter, Marks, Settings, parse};
use crate::model::forge::{Access, ForgeKind, Right, TokenRights};
use crate::port::clock::Clock;
use crate::port::forge::{Capabilities, Forge, ForgeAt, ForgeError, Remote, Rights, Thread};
use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::OnceCell;
use wire::User;

const READ_CODE: &str = "scope read:repository";
const WRITE_CODE: &str = "scope write:repository, and write access to the repository";
const WRITE_ISSUES: &str = "scope write:issue";
const ADMIN: &str = "admin access to the repository: only that lets an account ask what others may do";

pub(super) struct Gitea {
    http: Arc<Http>,
    api: Url,
    owner: String,
    name: String,
    repository: String,
    host: String,
    marks: Marks,
    remote: GitRemote,
    own: OnceCell<Option<String>>,
}

impl Gitea {
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
        let http = Arc::new(Http::new(&api, HeaderMap::new(), (tokens, header), clock, jitter, settings.clone())?);
        // The name does not matter beside a token.
        let remote = GitRemote::new(Arc::clone(&http), git.clone(), "x-access-token", &settings, WRITE_CODE)?;
        Ok(Self {
            http,
            api,
            owner: owner.to_owned(),
            name: name.to_owned(),
            repository: at.repository.clone(),
            host: git.host_str().unwrap_or_default().to_owned(),
            marks: Marks::new(at),
            remote,
            own: OnceCell::new(),
        })
    }

    /// `/repos/OWNER/NAME/…`.
    fn url(&self, parts: &[&str], query: &[(&str, &str)]) -> Result<Url, ForgeError> {
        let mut all = vec!["repos", self.owner.as_str(), self.name.as_str()];
        all.extend(parts);
        address(&self.api, &all, query)
    }

    async fn get(&self, parts: &[&str], query: &[(&str, &str)], doing: &str) -> Result<Answer, ForgeError> {
        self.http.ask(&reading(self.url(parts, query)?, doing)).await.map_err(Failed::into_inner)
    }

    async fn write(
        &self,
        method: Method,
        parts: &[&str],
        body: Value,
        doing: &str,
        needs: &'static str,
        kind: Kind,
    ) -> Result<Answer, Failed> {
        let (url, body) = (self.url(parts, &[])?, Some(body).filter(|body| !body.is_null()));
        self.http.ask(&Ask { method, body, needs: Some(needs), kind, ..Ask::read(url, doing) }).await
    }

    async fn own(&self) -> Result<Option<&str>, ForgeError> {
        let asked = self.own.get_or_try_init(|| async {
            let doing = "asking who we are";
            let ask = Ask { needs: Some("scope read:user"), ..Ask::read(address(&self.api, &["user"], &[])?, doing) };
            match self.http.ask(&ask).await.map_err(Failed::into_inner) {
                Ok(answer) => Ok(Some(read::<User>(doing, &answer.body)?.login)),
                Err(ForgeError::Refused { .. } | ForgeError::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        });
        Ok(asked.await?.as_deref())
    }

    /// Whether the token may: what is asked for cannot be done to anything that is there.
    async fn tried(&self, parts: &[&str], body: Value, needs: &'static str) -> Right {
        let doing = "asking what the token may do";
        match self.write(Method::POST, parts, body, doing, needs, Kind::Again).await.map_err(Failed::into_inner) {
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

fn reading(url: Url, doing: &str) -> Ask<'_> {
    Ask { needs: Some(READ_CODE), ..Ask::read(url, doing) }
}

/// Changes are issues here.
fn number_of(thread: Thread) -> String {
    match thread {
        Thread::Change(number) | Thread::Issue(number) => number.to_string(),
    }
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
        let push = self.remote.may_push().await?;
        let branch = "codeforge/doctor-no-such-branch";
        let body = json!({ "title": "codeforge doctor", "head": branch, "base": repository.default_branch });
        let open_changes = self.tried(&["pulls"], body, "scope write:repository").await;
        let comment =
            self.tried(&["issues", "0", "comments"], json!({ "body": "codeforge doctor" }), WRITE_ISSUES).await;
        let admin = repository.permissions.unwrap_or_default().admin;
        let ask_access = if admin { Right::Yes } else { Right::No(ADMIN.to_owned()) };
        Ok(TokenRights { account, read: Right::Yes, push, open_changes, comment, ask_access })
    }
}

impl Forge for Gitea {
    fn remote(&self) -> &dyn Remote {
        &self.remote
    }

    fn kind(&self) -> ForgeKind {
        ForgeKind::Gitea
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
