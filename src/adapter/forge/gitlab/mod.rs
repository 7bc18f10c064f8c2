//! GitLab's REST API, version 4.

mod changes;
mod code;
mod comments;
mod events;
mod issues;
mod review;
mod rules;
mod wire;

use super::connection::{Connection, Manner};
use super::http::{Answer, Ask, Failed, Kind, address, read};
use super::issues::ISSUES_OFF;
use super::token::{bearer, secret, source};
use super::{Tools, time_ms};
use crate::model::event::{Change, CommentKind, Side};
use crate::model::forge::{Access, Right, TokenRights};
use crate::port::forge::{
    Capabilities, ChangeInfo, ChangeState, CommentInfo, Forge, ForgeAt, ForgeError, Place, Remote, Rights, Thread,
};
use async_trait::async_trait;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::OnceCell;
use wire::{Discussion, FileWire, Merge, Note, Project, User};

const READ_API: &str = "scope read_api";
const API: &str = "scope api, role Developer";
const PUSH: &str = "scope write_repository, role Developer";
/// GitLab's number for the role that may push.
const DEVELOPER: u64 = 30;

pub(super) struct Gitlab {
    at: Connection,
    /// The token is that of a CI job: it may read some and write little.
    job: bool,
    project: OnceCell<Project>,
}

impl Gitlab {
    pub(super) fn new(at: &ForgeAt, tools: Tools) -> Result<Self, ForgeError> {
        let tokens = source(at, &tools)?;
        let job = tokens.known().is_some_and(|token| is_of_job(token.expose_secret()));
        let manner = Manner {
            root: vec!["projects".to_owned(), at.repository.clone()],
            headers: HeaderMap::new(),
            header,
            accept: None,
            user: if job { "gitlab-ci-token" } else { "oauth2" },
            pushes: PUSH,
        };
        Ok(Self { at: Connection::new(at, tokens, tools, manner)?, job, project: OnceCell::new() })
    }

    fn reading<'a>(&self, url: Url, doing: &'a str) -> Ask<'a> {
        self.at.reading(url, doing, READ_API)
    }

    async fn get(&self, parts: &[&str], query: &[(&str, &str)], doing: &str) -> Result<Answer, ForgeError> {
        self.at.get(parts, query, doing, READ_API).await
    }

    async fn write(
        &self,
        method: Method,
        parts: &[&str],
        body: Value,
        doing: &str,
        kind: Kind,
    ) -> Result<Answer, Failed> {
        self.at.write(method, parts, body, doing, self.needs(), kind).await
    }

    fn needs(&self) -> &'static str {
        if self.job {
            "a project access token with scope api in CODEFORGE_FORGE_TOKEN; a job's token cannot"
        } else {
            API
        }
    }

    async fn project(&self) -> Result<&Project, ForgeError> {
        let doing = "reading the project";
        self.project
            .get_or_try_init(|| async {
                let answer = self.get(&[], &[], doing).await?;
                read::<Project>(doing, &answer.body)
            })
            .await
    }

    async fn own(&self) -> Result<Option<&str>, ForgeError> {
        self.at.own(READ_API, |user: User| user.username).await
    }

    async fn user(&self, name: &str) -> Result<Option<User>, ForgeError> {
        let doing = "looking an account up";
        let url = address(&self.at.api, &["users"], &[("username", name)])?;
        let answer = self.at.http.ask(&self.reading(url, doing)).await.map_err(Failed::into_inner)?;
        let users: Vec<User> = read(doing, &answer.body)?;
        Ok(users.into_iter().find(|user| user.username.eq_ignore_ascii_case(name)))
    }

    async fn merge(&self, number: u64) -> Result<Merge, ForgeError> {
        let doing = format!("reading merge request !{number}");
        let answer = self.get(&["merge_requests", &number.to_string()], &[], &doing).await?;
        read(&doing, &answer.body)
    }

    fn info(&self, merge: Merge, project: &Project) -> ChangeInfo {
        let state = match merge.state.as_str() {
            "opened" | "locked" => ChangeState::Open,
            "merged" => ChangeState::Merged,
            _ => ChangeState::Closed,
        };
        let name = |id: Option<u64>| (id == Some(project.id)).then(|| project.path_with_namespace.clone());
        let refs = merge.diff_refs;
        let change = Change {
            number: merge.iid,
            title: merge.title,
            body: merge.description.unwrap_or_default(),
            author: merge.author.map(|user| user.username),
            url: Some(merge.web_url),
            draft: merge.draft,
            labels: merge.labels,
            head: Side {
                branch: merge.source_branch,
                sha: merge.sha,
                repository: name(merge.source_project_id),
                repository_id: merge.source_project_id,
            },
            base: Side {
                branch: merge.target_branch,
                sha: refs.and_then(|refs| refs.start_sha),
                repository: name(merge.target_project_id),
                repository_id: merge.target_project_id,
            },
        };
        let names = |users: Vec<User>| users.into_iter().map(|user| user.username).collect();
        ChangeInfo {
            change,
            state,
            reviewers: names(merge.reviewers),
            assignees: names(merge.assignees),
            milestone: merge.milestone.map(|milestone| milestone.title),
            updated_ms: merge.updated_at.as_deref().and_then(time_ms),
        }
    }

    fn comment(&self, thread: Thread, note: Note) -> CommentInfo {
        let (word, number) = at(thread);
        let url = format!("{}/-/{word}/{number}#note_{}", self.at.page, note.id);
        CommentInfo {
            id: note.id,
            kind: CommentKind::Thread,
            body: note.body,
            author: note.author.map(|user| user.username),
            url: Some(url),
            created_ms: note.created_at.as_deref().and_then(time_ms),
            updated_ms: note.updated_at.as_deref().and_then(time_ms),
        }
    }

    async fn files(&self, number: u64) -> Result<Vec<FileWire>, ForgeError> {
        let url = self.at.url(&["merge_requests", &number.to_string(), "diffs"], &[("per_page", "100")])?;
        self.at.http.all(self.reading(url, "reading the change's files")).await
    }

    async fn discussions(&self, number: u64) -> Result<Vec<Discussion>, ForgeError> {
        let url = self.at.url(&["merge_requests", &number.to_string(), "discussions"], &[("per_page", "100")])?;
        self.at.http.all(self.reading(url, "reading the threads")).await
    }

    /// Our thread of a key, and whether it is resolved.
    async fn our_thread(&self, number: u64, key: &str) -> Result<Option<(String, bool)>, ForgeError> {
        let own = self.own().await?;
        self.at.marks.can_know(own)?;
        let thread = Thread::Change(number);
        let found = self.discussions(number).await?.into_iter().find_map(|discussion| {
            let first = discussion.notes.first()?;
            let author = first.author.as_ref().map(|user| user.username.as_str());
            let is = self.at.marks.is((own, author), thread, key, &first.body);
            is.then(|| (discussion.id.clone(), first.resolved || !first.resolvable))
        });
        Ok(found)
    }
}

/// The token of a CI job says so itself.
fn is_of_job(token: &str) -> bool {
    token.starts_with("glcbt-")
}

/// A job's token is taken in a header of its own; those of people, projects and groups, and OAuth's, as bearer.
fn header(token: &str) -> Result<(HeaderName, HeaderValue), ForgeError> {
    if is_of_job(token) { Ok((HeaderName::from_static("job-token"), secret(token)?)) } else { bearer(token) }
}

fn at(thread: Thread) -> (&'static str, String) {
    match thread {
        Thread::Change(number) => ("merge_requests", number.to_string()),
        Thread::Issue(number) => ("issues", number.to_string()),
    }
}

#[async_trait]
impl Rights for Gitlab {
    async fn access_of(&self, user: &str) -> Access {
        #[derive(Deserialize)]
        struct Member {
            access_level: u64,
            state: Option<String>,
            expires_at: Option<String>,
        }
        let doing = "asking for somebody's access";
        let Ok(Some(user)) = self.user(user).await else { return Access::None };
        let id = user.id.to_string();
        let Ok(answer) = self.get(&["members", "all", &id], &[], doing).await else { return Access::None };
        let Ok(member) = read::<Member>(doing, &answer.body) else { return Access::None };
        // GitLab takes expired members out; a blocked account stays a member.
        let _ = member.expires_at;
        if member.state.is_some_and(|state| state != "active") {
            return Access::None;
        }
        match member.access_level {
            40 => Access::Maintain,
            50 | 60 => Access::Admin,
            DEVELOPER => Access::Write,
            20 | 15 => Access::Triage,
            10 => Access::Read,
            _ => Access::None,
        }
    }

    async fn starts_checks(&self) -> Result<Right, ForgeError> {
        if !self.job {
            return Ok(Right::Yes);
        }
        let what = "What is pushed with a job's own token starts no pipeline. Start one by hand, or give the deliver job a \
                    project access token with the scope `api`.";
        Ok(Right::No(what.to_owned()))
    }

    async fn own_account(&self) -> Result<Option<String>, ForgeError> {
        Ok(self.own().await?.map(str::to_owned))
    }

    async fn token_rights(&self) -> Result<TokenRights, ForgeError> {
        #[derive(Deserialize)]
        struct Token {
            #[serde(default)]
            scopes: Vec<String>,
        }
        let doing = "asking what the token may do";
        let account = self.own_account().await.ok().flatten();
        let no = |needs: &str| Right::No(needs.to_owned());
        if let Err(error) = self.project().await {
            return match error {
                ForgeError::Refused { .. } | ForgeError::NotFound { .. } => {
                    let (push, changes) = (no(PUSH), no(self.needs()));
                    let (open_changes, comment, issues) = (changes.clone(), changes.clone(), changes);
                    Ok(TokenRights { push, open_changes, comment, issues, ..TokenRights::none(account, READ_API) })
                }
                error => Err(error),
            };
        }
        let push = self.at.remote.may_push().await?;
        let changes = if self.job {
            no(self.needs())
        } else {
            let ask = self.reading(address(&self.at.api, &["personal_access_tokens", "self"], &[])?, doing);
            let scopes = match self.at.http.ask(&ask).await.map_err(Failed::into_inner) {
                Ok(answer) => read::<Token>(doing, &answer.body).ok().map(|token| token.scopes),
                Err(_) => None,
            };
            let access = match &account {
                Some(account) => Some(self.access_of(account).await),
                None => None,
            };
            match (scopes, access) {
                (Some(scopes), _) if !scopes.iter().any(|scope| scope == "api") => no(API),
                (_, Some(access)) if !access.reaches(Access::Write) => no(API),
                (Some(_), Some(_)) => Right::Yes,
                _ => Right::Unknown,
            }
        };
        let ask_access = if self.job { no(self.needs()) } else { Right::Yes };
        let off = self.project().await?.issues_access_level.as_deref() == Some("disabled");
        let issues = if off { no(ISSUES_OFF) } else { changes.clone() };
        let (open_changes, comment) = (changes.clone(), changes);
        Ok(TokenRights { account, read: Right::Yes, push, open_changes, comment, issues, ask_access })
    }
}

impl Forge for Gitlab {
    fn remote(&self) -> &dyn Remote {
        &self.at.remote
    }

    fn place(&self) -> &Place {
        &self.at.place
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            changes: !self.job,
            comments: !self.job,
            drafts: true,
            inline: !self.job,
            ranges: true,
            suggestions: true,
            resolve: !self.job,
            reactions: !self.job,
            statuses: !self.job,
            checks: false,
            labels: !self.job,
            reviewers: !self.job,
            access: !self.job,
            rules: !self.job,
            issues: !self.job,
            comment_chars: 1_000_000,
        }
    }
}
