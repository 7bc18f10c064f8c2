//! GitHub's REST API, and its GraphQL where REST has no word for it (who we are, resolving threads).

use super::http::{Answer, Ask, Failed, Http, Kind, address, bearer, read, with};
use super::lines::{Lines, suggestion};
use super::remote::GitRemote;
use super::{Jitter, Marks, Settings, parse};
use crate::model::event::{Change, Side};
use crate::model::forge::{Access, CheckState, ForgeKind, Right, TokenRights};
use crate::port::clock::Clock;
use crate::port::forge::{
    Capabilities, ChangeInfo, ChangeState, ChangedFile, Changes, Code, CommentInfo, Comments, CommitInfo, Forge,
    ForgeAt, ForgeError, LineSide, NewChange, NewReview, Protection, Remark, Remote, Reviewed, Reviews, Rights, Status,
    Sticky, Stuck, Thread,
};
use async_trait::async_trait;
use reqwest::{Method, Url};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
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
}

#[derive(Deserialize)]
struct User {
    login: String,
}

#[derive(Deserialize)]
struct RepoRef {
    id: u64,
    full_name: String,
}

#[derive(Deserialize)]
struct RefAt {
    #[serde(rename = "ref")]
    branch: String,
    sha: String,
    repo: Option<RepoRef>,
}

#[derive(Deserialize)]
struct Label {
    name: String,
}

#[derive(Deserialize)]
struct Pull {
    number: u64,
    title: String,
    body: Option<String>,
    user: Option<User>,
    html_url: String,
    #[serde(default)]
    draft: bool,
    #[serde(default)]
    labels: Vec<Label>,
    state: String,
    merged_at: Option<String>,
    head: RefAt,
    base: RefAt,
    #[serde(default)]
    requested_reviewers: Vec<User>,
}

#[derive(Deserialize)]
struct FileWire {
    filename: String,
    previous_filename: Option<String>,
    status: String,
    patch: Option<String>,
}

#[derive(Deserialize)]
struct CommentWire {
    id: u64,
    body: Option<String>,
    user: Option<User>,
    html_url: Option<String>,
}

impl From<RefAt> for Side {
    fn from(at: RefAt) -> Self {
        let (repository, repository_id) = at.repo.map_or((None, None), |repo| (Some(repo.full_name), Some(repo.id)));
        Self { branch: at.branch, sha: Some(at.sha), repository, repository_id }
    }
}

impl From<Pull> for ChangeInfo {
    fn from(pull: Pull) -> Self {
        let state = match (pull.state.as_str(), &pull.merged_at) {
            ("open", _) => ChangeState::Open,
            (_, Some(_)) => ChangeState::Merged,
            _ => ChangeState::Closed,
        };
        let change = Change {
            number: pull.number,
            title: pull.title,
            body: pull.body.unwrap_or_default(),
            author: pull.user.map(|user| user.login),
            url: Some(pull.html_url),
            draft: pull.draft,
            labels: pull.labels.into_iter().map(|label| label.name).collect(),
            head: pull.head.into(),
            base: pull.base.into(),
        };
        Self { change, state, reviewers: pull.requested_reviewers.into_iter().map(|user| user.login).collect() }
    }
}

impl From<CommentWire> for CommentInfo {
    fn from(wire: CommentWire) -> Self {
        let author = wire.user.map(|user| user.login);
        Self { id: wire.id, body: wire.body.unwrap_or_default(), author, url: wire.html_url }
    }
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
        let headers = bearer(at.token.expose_secret().trim())?;
        let headers = with(headers, "x-github-api-version", "2022-11-28");
        let http = Arc::new(Http::new(&api, headers, clock, jitter, settings.clone())?);
        // A server of one's own has its API at `/api/v3`, and GraphQL beside it.
        let graphql = match api.as_str().strip_suffix("/v3") {
            Some(beside) if api.path() == "/api/v3" => parse("the API's address", &format!("{beside}/graphql"))?,
            _ => address(&api, &["graphql"], &[])?,
        };
        let remote =
            GitRemote::new(Arc::clone(&http), git.clone(), "x-access-token", &at.token, &settings, WRITE_CODE)?;
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

    async fn find_open(&self, branch: &str) -> Result<Option<ChangeInfo>, ForgeError> {
        let changes = self.changes_of_branch(branch).await?;
        Ok(changes.into_iter().find(|info| info.state == ChangeState::Open))
    }

    async fn sticky(&self, sticky: &Sticky<'_>) -> Result<Option<CommentInfo>, ForgeError> {
        let own = self.own().await?;
        self.marks.can_know(own)?;
        let comments = self.comments(sticky.thread).await?;
        Ok(comments
            .into_iter()
            .find(|comment| self.marks.is((own, comment.author.as_deref()), sticky.thread, sticky.key, &comment.body)))
    }

    /// The keys among `keys` whose remark of ours stands already.
    async fn standing(&self, number: u64, remarks: &[Remark]) -> Result<BTreeSet<String>, ForgeError> {
        let own = self.own().await?;
        self.marks.can_know(own)?;
        let number_text = number.to_string();
        let url = self.url(&["pulls", &number_text, "comments"], &[("per_page", "100")])?;
        let there: Vec<CommentWire> = self.http.all(reading(url, "reading the review's remarks", READ_CHANGES)).await?;
        let thread = Thread::Change(number);
        let is_there = |key: &str| {
            there.iter().any(|comment| {
                let author = comment.user.as_ref().map(|user| user.login.as_str());
                self.marks.is((own, author), thread, key, comment.body.as_deref().unwrap_or_default())
            })
        };
        Ok(remarks.iter().filter(|remark| is_there(&remark.key)).map(|remark| remark.key.clone()).collect())
    }

    async fn resolve(&self, number: u64, keys: &[String]) -> Result<usize, ForgeError> {
        const THREADS: &str = "query($owner: String!, $name: String!, $number: Int!, $after: String) { repository(owner: \
            $owner, name: $name) { pullRequest(number: $number) { reviewThreads(first: 100, after: $after) { pageInfo { \
            hasNextPage endCursor } nodes { id isResolved comments(first: 1) { nodes { author { login } body } } } } } } }";
        const RESOLVE: &str = "mutation($id: ID!) { resolveReviewThread(input: {threadId: $id}) { thread { id } } }";
        let own = self.own().await?.map(|own| own.trim_end_matches("[bot]").to_owned());
        let (mut after, mut resolved) = (Value::Null, 0);
        loop {
            let variables = json!({ "owner": self.owner, "name": self.name, "number": number, "after": after });
            let data = self.graphql(THREADS, variables, "reading the review's threads", Kind::Read).await?;
            let threads = data.pointer("/repository/pullRequest/reviewThreads").cloned().unwrap_or_default();
            for node in threads.get("nodes").and_then(Value::as_array).into_iter().flatten() {
                let first = node.pointer("/comments/nodes/0").cloned().unwrap_or_default();
                let body = first.get("body").and_then(Value::as_str).unwrap_or_default();
                // GraphQL names a program without `[bot]`.
                let author = first.pointer("/author/login").and_then(Value::as_str);
                let author = author.map(|author| author.trim_end_matches("[bot]"));
                let open = node.get("isResolved").and_then(Value::as_bool) == Some(false);
                let by = (own.as_deref(), author);
                let ours = keys.iter().any(|key| self.marks.is(by, Thread::Change(number), key, body));
                if let (true, true, Some(id)) = (open, ours, node.get("id")) {
                    self.graphql(RESOLVE, json!({ "id": id }), "resolving a thread", Kind::Again).await?;
                    resolved += 1;
                }
            }
            if threads.pointer("/pageInfo/hasNextPage").and_then(Value::as_bool) != Some(true) {
                return Ok(resolved);
            }
            after = threads.pointer("/pageInfo/endCursor").cloned().unwrap_or_default();
        }
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
                let needs = needs.unwrap_or_else(|| "a token that is valid".to_owned());
                let no = || Right::No(needs.clone());
                return Ok(TokenRights { account, read: no(), push: no(), open_changes: no(), comment: no() });
            }
            Err(ForgeError::NotFound { .. }) => {
                let no = || Right::No(READ_CODE.to_owned());
                return Ok(TokenRights { account, read: no(), push: no(), open_changes: no(), comment: no() });
            }
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
        // Comments on changes go with the right to open them.
        Ok(TokenRights { account, read: Right::Yes, push, comment: open_changes.clone(), open_changes })
    }
}

#[async_trait]
impl Changes for Github {
    async fn change(&self, number: u64) -> Result<ChangeInfo, ForgeError> {
        let doing = format!("reading pull request #{number}");
        let answer = self.get(&["pulls", &number.to_string()], &[], &doing, READ_CHANGES).await?;
        Ok(read::<Pull>(&doing, &answer.body)?.into())
    }

    async fn changes_of_branch(&self, branch: &str) -> Result<Vec<ChangeInfo>, ForgeError> {
        let head = format!("{}:{branch}", self.owner);
        let query = [
            ("head", head.as_str()),
            ("state", "all"),
            ("sort", "created"),
            ("direction", "desc"),
            ("per_page", "100"),
        ];
        let url = self.url(&["pulls"], &query)?;
        let pulls: Vec<Pull> =
            self.http.all(reading(url, "looking for the branch's pull request", READ_CHANGES)).await?;
        // A fork of the same owner may have a branch of that name, too.
        let same = |info: &ChangeInfo| !info.change.is_fork() && info.change.head.branch == branch;
        Ok(pulls.into_iter().map(ChangeInfo::from).filter(same).collect())
    }

    async fn open_branches(&self, prefix: &str) -> Result<Vec<String>, ForgeError> {
        let url = self.url(&["pulls"], &[("state", "open"), ("per_page", "100")])?;
        let pulls: Vec<Pull> = self.http.all(reading(url, "counting the open pull requests", READ_CHANGES)).await?;
        let ours = |info: &ChangeInfo| !info.change.is_fork() && info.change.head.branch.starts_with(prefix);
        Ok(pulls.into_iter().map(ChangeInfo::from).filter(ours).map(|info| info.change.head.branch).collect())
    }

    async fn changed_files(&self, number: u64) -> Result<Vec<ChangedFile>, ForgeError> {
        let url = self.url(&["pulls", &number.to_string(), "files"], &[("per_page", "100")])?;
        let files: Vec<FileWire> = self.http.all(reading(url, "reading the change's files", READ_CHANGES)).await?;
        Ok(files
            .into_iter()
            .map(|file| ChangedFile {
                from: file.previous_filename.filter(|_| file.status == "renamed"),
                added: file.status == "added",
                removed: file.status == "removed",
                path: file.filename,
                patch: file.patch,
            })
            .collect())
    }

    async fn open_change(&self, new: &NewChange) -> Result<(ChangeInfo, Vec<String>), ForgeError> {
        let doing = "opening a pull request";
        let draft = std::sync::atomic::AtomicBool::new(new.draft);
        let order = std::sync::atomic::Ordering::Relaxed;
        let make = || async {
            let wanted = draft.load(order);
            let body = json!({
                "title": new.title, "head": new.head, "base": new.base, "body": new.body, "draft": wanted,
                "maintainer_can_modify": false,
            });
            match self.write(Method::POST, &["pulls"], body, doing, WRITE_CHANGES, Kind::Once).await {
                Ok(answer) => Ok(ChangeInfo::from(read::<Pull>(doing, &answer.body).map_err(Failed::Lost)?)),
                // Private repositories of some plans have no drafts.
                Err(Failed::Sure(ForgeError::Contract { message, .. }))
                    if wanted && message.to_lowercase().contains("draft") =>
                {
                    draft.store(false, order);
                    Err(Failed::Lost(ForgeError::Contract { doing: doing.into(), message }))
                }
                Err(error) => Err(error),
            }
        };
        let (info, _) = self.http.once_only(|| self.find_open(&new.head), make).await?;
        let mut told = Vec::new();
        if new.draft && !draft.load(order) {
            told.push("the repository has no draft pull requests: it is open for review".to_owned());
        }
        let number = info.change.number;
        let missing: Vec<String> =
            new.labels.iter().filter(|label| !info.change.labels.contains(label)).cloned().collect();
        if let Err(error) = self.label(Thread::Change(number), &missing, &[]).await {
            told.push(format!("the labels were not set: {error}"));
        }
        let missing: Vec<&String> = new
            .reviewers
            .iter()
            .filter(|name| !info.reviewers.iter().any(|there| there.eq_ignore_ascii_case(name)))
            .collect();
        if !missing.is_empty() {
            let (teams, people): (Vec<&String>, Vec<&String>) =
                missing.into_iter().partition(|name| name.contains('/'));
            let teams: Vec<&str> = teams.iter().filter_map(|name| Some(name.split_once('/')?.1)).collect();
            let body = json!({ "reviewers": people, "team_reviewers": teams });
            let number = number.to_string();
            let parts = ["pulls", &number, "requested_reviewers"];
            let asked = self.write(Method::POST, &parts, body, "asking for a review", WRITE_CHANGES, Kind::Again).await;
            if let Err(error) = asked {
                told.push(format!("nobody was asked for a review: {}", error.into_inner()));
            }
        }
        Ok((info, told))
    }

    async fn update_body(&self, number: u64, body: &str) -> Result<(), ForgeError> {
        let doing = format!("bringing pull request #{number} up to date");
        let parts = ["pulls", &number.to_string()];
        let body = json!({ "body": body });
        let done = self.write(Method::PATCH, &parts, body, &doing, WRITE_CHANGES, Kind::Again).await;
        done.map(|_| ()).map_err(Failed::into_inner)
    }

    async fn label(&self, thread: Thread, add: &[String], remove: &[String]) -> Result<(), ForgeError> {
        let number = number_of(thread);
        if !add.is_empty() {
            let body = json!({ "labels": add });
            let parts = ["issues", &number, "labels"];
            let done = self.write(Method::POST, &parts, body, "setting labels", writes(thread), Kind::Again).await;
            done.map_err(Failed::into_inner)?;
        }
        for label in remove {
            let url = self.url(&["issues", &number, "labels", label], &[])?;
            let (doing, needs) = ("taking a label away", Some(writes(thread)));
            let ask =
                Ask { method: Method::DELETE, url, body: None, doing, needs, accept: Some(JSON), kind: Kind::Again };
            match self.http.ask(&ask).await.map_err(Failed::into_inner) {
                Ok(_) | Err(ForgeError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Comments for Github {
    async fn comments(&self, thread: Thread) -> Result<Vec<CommentInfo>, ForgeError> {
        let url = self.url(&["issues", &number_of(thread), "comments"], &[("per_page", "100")])?;
        let comments: Vec<CommentWire> = self.http.all(reading(url, "reading the comments", writes(thread))).await?;
        Ok(comments.into_iter().map(CommentInfo::from).collect())
    }

    async fn stick(&self, sticky: &Sticky<'_>) -> Result<Stuck, ForgeError> {
        let body = self.marks.sticky(sticky);
        let number = number_of(sticky.thread);
        let (doing, needs) = ("writing the comment", writes(sticky.thread));
        let make = || async {
            let parts = ["issues", &number, "comments"];
            let answer = self.write(Method::POST, &parts, json!({ "body": body }), doing, needs, Kind::Once).await?;
            Ok(CommentInfo::from(read::<CommentWire>(doing, &answer.body).map_err(Failed::Lost)?))
        };
        let (comment, created) = self.http.once_only(|| self.sticky(sticky), make).await?;
        if created || same_text(&comment.body, &body) {
            return Ok(Stuck { comment, created, updated: false });
        }
        let parts = ["issues", "comments", &comment.id.to_string()];
        let asked = self.write(Method::PATCH, &parts, json!({ "body": body }), doing, needs, Kind::Again).await;
        asked.map_err(Failed::into_inner)?;
        Ok(Stuck { comment: CommentInfo { body, ..comment }, created: false, updated: true })
    }

    async fn recall(&self, thread: Thread, keys: &[&str]) -> Result<BTreeMap<String, String>, ForgeError> {
        let own = self.own().await?;
        self.marks.can_know(own)?;
        Ok(self.marks.memories(own, thread, keys, &self.comments(thread).await?))
    }

    async fn react(&self, thread: Thread, comment: u64, with: &str) -> Result<(), ForgeError> {
        let parts = ["issues", "comments", &comment.to_string(), "reactions"];
        let body = json!({ "content": with });
        let done = self.write(Method::POST, &parts, body, "reacting to a comment", writes(thread), Kind::Again).await;
        done.map(|_| ()).map_err(Failed::into_inner)
    }
}

/// Whether two texts are the same to a forge, which writes line ends in its own way.
fn same_text(a: &str, b: &str) -> bool {
    a.replace("\r\n", "\n").trim_end() == b.replace("\r\n", "\n").trim_end()
}

#[async_trait]
impl Reviews for Github {
    async fn review(&self, review: &NewReview<'_>) -> Result<Reviewed, ForgeError> {
        let mut done = Reviewed::default();
        let files = if review.remarks.is_empty() { Vec::new() } else { self.changed_files(review.number).await? };
        let lines: BTreeMap<&str, Lines> = files
            .iter()
            .map(|file| (file.path.as_str(), Lines::of(file.patch.as_deref().unwrap_or_default())))
            .collect();
        let shown = |remark: &&Remark| {
            lines.get(remark.path.as_str()).is_some_and(|lines| lines.place(remark.side, remark.line).is_some())
        };
        let (inside, outside): (Vec<&Remark>, Vec<&Remark>) = review.remarks.iter().partition(shown);
        done.outside = outside.into_iter().map(|remark| remark.key.clone()).collect();
        let inside: Vec<Remark> = inside.into_iter().cloned().collect();
        if !inside.is_empty() {
            let number = review.number.to_string();
            let doing = "writing the review";
            let left = tokio::sync::Mutex::new(inside.clone());
            let look = || async {
                let there = self.standing(review.number, &inside).await?;
                let mut left = left.lock().await;
                left.retain(|remark| !there.contains(&remark.key));
                Ok(left.is_empty().then_some(()))
            };
            let before = self.standing(review.number, &inside).await?.len();
            let make = || async {
                let left = left.lock().await;
                let remarks: Vec<Value> = left.iter().map(|remark| self.remark(review.number, remark)).collect();
                let body = json!({ "commit_id": review.commit, "event": "COMMENT", "comments": remarks });
                let parts = ["pulls", &number, "reviews"];
                self.write(Method::POST, &parts, body, doing, WRITE_CHANGES, Kind::Once).await.map(|_| ())
            };
            self.http.once_only(look, make).await?;
            done.kept = before;
            done.made = inside.len() - before;
        }
        if !review.resolved.is_empty() {
            match self.resolve(review.number, review.resolved).await {
                Ok(resolved) => done.resolved = resolved,
                Err(error) => done.told.push(format!("threads were not resolved: {error}")),
            }
        }
        Ok(done)
    }
}

impl Github {
    fn remark(&self, number: u64, remark: &Remark) -> Value {
        let mut body = self.marks.under(Thread::Change(number), &remark.key, &remark.body);
        if let (Some(text), LineSide::New) = (&remark.replacement, remark.side) {
            body.push_str("\n\n");
            body.push_str(&suggestion("suggestion", text));
        }
        let side = match remark.side {
            LineSide::Old => "LEFT",
            LineSide::New => "RIGHT",
        };
        json!({ "path": remark.path, "line": remark.line, "side": side, "body": body })
    }
}

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
            account: None,
            tree: None,
            verified: false,
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

    async fn set_status(&self, status: &Status<'_>) -> Result<(), ForgeError> {
        let state = match status.state {
            CheckState::Pending => "pending",
            CheckState::Success => "success",
            CheckState::Failure => "failure",
            CheckState::Error => "error",
        };
        let words: String = status.words.chars().take(140).collect();
        let mut body = json!({ "state": state, "context": status.name, "description": words });
        if let (Some(url), Some(fields)) = (status.url, body.as_object_mut()) {
            fields.insert("target_url".into(), url.into());
        }
        let parts = ["statuses", status.commit];
        let done =
            self.write(Method::POST, &parts, body, "saying how the commit stands", WRITE_STATUS, Kind::Again).await;
        done.map(|_| ()).map_err(Failed::into_inner)
    }
}

#[async_trait]
impl Remote for Github {
    async fn refs(&self, prefix: &str) -> Result<Vec<(String, String)>, ForgeError> {
        self.remote.refs(prefix).await
    }

    async fn push(&self, name: &str, old: Option<&str>, new: &str, pack: Vec<u8>) -> Result<(), ForgeError> {
        self.remote.push(name, old, new, pack).await
    }

    async fn fetch(&self, wants: &[String], haves: &[String], depth: u32) -> Result<Vec<u8>, ForgeError> {
        self.remote.fetch(wants, haves, depth).await
    }
}

impl Forge for Github {
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
            drafts: true,
            suggestions: true,
            resolve: true,
            reactions: true,
            rules: true,
            comment_chars: 65_536,
        }
    }
}
