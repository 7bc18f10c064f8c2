//! A forge that remembers: the API of GitHub, GitLab or Gitea over real HTTP, in front of a real bare repository that git is
//! served from by `git http-backend`. What a test wants to go wrong is asked for with [`ForgeServer::fail`].
//!
//! ```ignore
//! let forge = ForgeServer::start(ForgeKind::Github).await;
//! forge.fail(Fault::lose("POST", "/pulls"));
//! // … forge.at() is where an adapter goes …
//! assert_eq!(forge.changes().len(), 1);
//! ```

mod app;
mod contract;
mod gitea;
mod github;
mod gitlab;
pub mod hooks;
mod local;
mod repository;

#[allow(unused_imports, reason = "every test file uses a part of it")]
pub use app::{FakeApp, FakeCheck};
#[allow(unused_imports, reason = "every test file uses a part of it")]
pub use contract::judge;
#[allow(unused_imports, reason = "every test file uses a part of it")]
pub use gitlab::account as gitlab_account;
pub use local::Remembered;

use super::{TestRepo, git, ok};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State as Extracted};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use codeforge::model::forge::ForgeKind;
use codeforge::port::forge::{Credential, ForgeAt};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// The token that everything takes.
pub const TOKEN: &str = "forge-token-9c1f7a52e0b84d6f";
/// What a job on GitLab has by itself.
pub const JOB_TOKEN: &str = "job-token-5e1d90aa71";
/// Whose it is.
pub const BOT: &str = "codeforge-bot";

/// Something to go wrong.
#[derive(Debug, Clone)]
pub struct Fault {
    method: &'static str,
    path: String,
    kind: Kind,
    times: u32,
}

#[derive(Debug, Clone)]
enum Kind {
    /// Answered with this instead.
    Status(u16, Vec<(&'static str, String)>, Value),
    /// Done, and the answer broken off.
    Lose,
    /// Done, and the socket closed without a byte of an answer.
    Close,
    /// Somebody pushes to this branch just before it is done.
    After(String),
    /// Done, and answered late.
    Slow(Duration),
}

impl Fault {
    /// The request is answered with a status, once.
    pub fn status(method: &'static str, path: &str, status: u16) -> Self {
        let body = json!({ "message": format!("scripted {status}") });
        Self { method, path: path.to_owned(), kind: Kind::Status(status, Vec::new(), body), times: 1 }
    }

    /// The request is carried out, and its answer lost, once.
    pub fn lose(method: &'static str, path: &str) -> Self {
        Self { method, path: path.to_owned(), kind: Kind::Lose, times: 1 }
    }

    /// The request is carried out, and the socket closed before a byte of its answer, once.
    pub fn close(method: &'static str, path: &str) -> Self {
        Self { method, path: path.to_owned(), kind: Kind::Close, times: 1 }
    }

    /// In the moment before the request is carried out, `ann` pushes to a branch, once.
    pub fn after_a_push(method: &'static str, path: &str, branch: &str) -> Self {
        Self { method, path: path.to_owned(), kind: Kind::After(branch.to_owned()), times: 1 }
    }

    /// The request is carried out, and its answer takes a while, once.
    pub fn slow(method: &'static str, path: &str, time: Duration) -> Self {
        Self { method, path: path.to_owned(), kind: Kind::Slow(time), times: 1 }
    }

    /// With a header.
    pub fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        if let Kind::Status(_, headers, _) = &mut self.kind {
            headers.push((name, value.to_string()));
        }
        self
    }

    /// With this body.
    pub fn answering(mut self, answer: Value) -> Self {
        if let Kind::Status(_, _, body) = &mut self.kind {
            *body = answer;
        }
        self
    }

    /// With these words.
    pub fn saying(mut self, message: &str) -> Self {
        if let Kind::Status(_, _, body) = &mut self.kind {
            *body = json!({ "message": message });
        }
        self
    }

    /// So many times.
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }
}

/// A request that came in.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub query: String,
    pub body: Value,
    pub headers: HeaderMap,
    /// When it came in, by the forge's own clock.
    pub at: std::time::Instant,
}

impl Asked {
    /// Whether it changes something; a question of GitHub's second API is asked by POST, too.
    pub fn writes(&self) -> bool {
        self.method != "GET" && (!self.path.ends_with("/graphql") || self.body.to_string().contains("mutation"))
    }
}

/// A change.
#[derive(Debug, Clone)]
pub struct FakeChange {
    pub number: u64,
    pub title: String,
    pub body: String,
    pub author: String,
    pub head: String,
    pub base: String,
    /// `open`, `closed`, `merged`.
    pub state: &'static str,
    pub draft: bool,
    pub labels: Vec<String>,
    pub reviewers: Vec<String>,
    pub assignees: Vec<String>,
    /// The milestone's number.
    pub milestone: Option<u64>,
    /// Its head is in another repository.
    pub fork: bool,
}

/// A comment.
#[derive(Debug, Clone)]
pub struct FakeComment {
    pub id: u64,
    /// `change 7`, `issue 3`.
    pub thread: String,
    pub author: String,
    pub body: String,
    pub reactions: Vec<String>,
}

/// A remark at a line.
#[derive(Debug, Clone)]
pub struct FakeRemark {
    pub id: u64,
    pub change: u64,
    pub author: String,
    pub body: String,
    pub path: String,
    /// The first line, where it spans several.
    pub start: Option<u64>,
    /// Old and new line, as the forge has them.
    pub lines: (Option<u64>, Option<u64>),
    pub resolved: bool,
}

/// What the forge remembers.
#[derive(Debug, Default)]
pub struct Memory {
    pub changes: Vec<FakeChange>,
    pub comments: Vec<FakeComment>,
    pub remarks: Vec<FakeRemark>,
    /// Commit, name, state.
    pub statuses: Vec<(String, String, String)>,
    /// Account → its role, in the forge's own words.
    pub members: BTreeMap<String, String>,
    pub protected: Vec<String>,
    pub rules: BTreeMap<String, Vec<String>>,
    /// Protections of branches, in the words of GitLab or Gitea.
    pub protections: Vec<Value>,
    /// What GitLab asks of each push; `Null`: the project never had any. `None`: this GitLab has no such thing.
    pub push_rule: Option<Value>,
    pub labels: BTreeMap<String, Vec<String>>,
    /// The App that the forge knows, and the tokens that it minted.
    pub app: Option<FakeApp>,
    pub checks: Vec<FakeCheck>,
    /// Comments that were edited an hour after they were written.
    pub edited: Vec<u64>,
    /// Answers that were still the same.
    pub unchanged: usize,
    /// The repositories of forks are gone: nobody says any more where their changes come from.
    pub forks_gone: bool,
    /// Drafts are refused.
    pub no_drafts: bool,
    /// Milestones: number and title.
    pub milestones: Vec<(u64, String)>,
    /// As whom the token acts, where it is not [`BOT`].
    pub acts_as: Option<String>,
    /// Items a page at most.
    pub page: usize,
    /// After so many writes the server says nothing more: whoever waits is to be killed.
    pub stop_at: Option<usize>,
    /// Writes so far: what changed something, and pushes.
    pub written: usize,
    /// The last write was one too many.
    pub stopped: bool,
    faults: Vec<Fault>,
    asked: Vec<Asked>,
    /// Requests that the forge's published description does not allow.
    wrong: Vec<String>,
    next: u64,
}

/// The server; ends when dropped.
pub struct ForgeServer {
    kind: ForgeKind,
    url: String,
    inner: Arc<Inner>,
    task: tokio::task::JoinHandle<()>,
}

pub(super) struct Inner {
    kind: ForgeKind,
    /// The path that everything lies below: empty, or `/git`.
    below: String,
    folder: tempfile::TempDir,
    memory: Mutex<Memory>,
}

impl Inner {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn bare(&self) -> PathBuf {
        self.folder.path().join("acme/widgets.git")
    }

    fn git(&self, arguments: &[&str]) -> Option<String> {
        let output = git().arg("-C").arg(self.bare()).args(arguments).output().unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A request's path as the routes have it; `None`: it is not ours.
    fn within(&self, path: &str) -> Option<String> {
        let path = path.strip_prefix(self.below.as_str())?;
        if self.kind == ForgeKind::Github && !self.below.is_empty() && !path.starts_with("/acme/widgets.git") {
            let graphql = (path == "/api/graphql").then(|| "/graphql".to_owned());
            return graphql.or_else(|| Some(path.strip_prefix("/api/v3")?.to_owned()));
        }
        Some(path.to_owned())
    }

    fn account(&self) -> String {
        self.memory().acts_as.clone().unwrap_or_else(|| BOT.to_owned())
    }

    /// Subjects of a branch's last commits.
    fn subjects(&self, branch: &str) -> Vec<String> {
        let log = self.git(&["log", "-50", "--format=%s", &format!("refs/heads/{branch}")]).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    fn commit_by(&self, who: &str, branch: &str, from: &str, files: &[(&str, Option<&str>)]) -> String {
        let work = tempfile::tempdir().unwrap();
        let run = |arguments: &[&str]| {
            let mut command = git();
            for role in ["AUTHOR", "COMMITTER"] {
                command
                    .env(format!("GIT_{role}_NAME"), who)
                    .env(format!("GIT_{role}_EMAIL"), format!("{who}@example.com"));
            }
            ok(command.current_dir(work.path()).args(arguments)).trim().to_owned()
        };
        run(&["clone", "--quiet", self.bare().to_str().unwrap(), "."]);
        let start = if self.tip(branch).is_some() { format!("origin/{branch}") } else { format!("origin/{from}") };
        run(&["checkout", "--quiet", "-B", branch, &start]);
        for (path, content) in files {
            let path = work.path().join(path);
            match content {
                Some(content) => {
                    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                    std::fs::write(path, content).unwrap();
                }
                None => std::fs::remove_file(path).unwrap(),
            }
        }
        run(&["add", "--all"]);
        run(&["commit", "--quiet", "--allow-empty", "--message", &format!("by {who}")]);
        run(&["push", "--quiet", "--force", "origin", &format!("HEAD:refs/heads/{branch}")]);
        run(&["rev-parse", "HEAD"])
    }

    fn tip(&self, branch: &str) -> Option<String> {
        Some(self.git(&["rev-parse", "--verify", "--quiet", &format!("refs/heads/{branch}")])?.trim().to_owned())
    }
}

impl Memory {
    /// Nothing goes wrong any more.
    pub fn clear_faults(&mut self) {
        self.faults.clear();
    }

    /// How much is still to go wrong.
    pub fn faults_left(&self) -> u32 {
        self.faults.iter().map(|fault| fault.times).sum()
    }

    /// When a thing of this number was made: a second after the one before. RFC 3339.
    pub fn made(&self, id: u64) -> String {
        time(MADE_S + id)
    }

    /// When it last changed.
    fn touched(&self, id: u64) -> String {
        time(MADE_S + id + if self.edited.contains(&id) { 3600 } else { 0 })
    }

    /// Where a change's head is, of a repository that is `own`.
    pub fn head_repository(&self, change: &FakeChange, own: &Value) -> Value {
        match (change.fork, self.forks_gone) {
            (false, _) => own.clone(),
            (true, false) => json!({ "id": 2, "full_name": "eve/widgets", "default_branch": "main" }),
            (true, true) => Value::Null,
        }
    }

    /// The same as a project's number.
    pub fn head_project(&self, change: &FakeChange) -> Option<u64> {
        if change.fork { (!self.forks_gone).then_some(2) } else { Some(1) }
    }

    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl ForgeServer {
    /// With the repository `acme/widgets`, which holds `files` on `main`.
    pub async fn with(kind: ForgeKind, files: &[(&str, &str)]) -> Self {
        Self::below("", kind, files).await
    }

    /// The same below a path of its server (`/git`), and nothing beside it. GitHub's API is then where its own servers
    /// have it.
    pub async fn below(path: &str, kind: ForgeKind, files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let seed = TestRepo::with(files);
        let bare = folder.path().join("acme/widgets.git");
        ok(git().args(["clone", "--quiet", "--bare"]).arg(seed.path()).arg(&bare));
        repository::set_up(&bare);
        let memory = Memory { page: 100, next: 100, ..Memory::default() };
        let inner = Arc::new(Inner { kind, below: path.to_owned(), folder, memory: Mutex::new(memory) });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}{path}", listener.local_addr().unwrap());
        let app = Router::new().fallback(serve).with_state(Arc::clone(&inner));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { kind, url, inner, task }
    }

    /// With a small repository.
    pub async fn start(kind: ForgeKind) -> Self {
        Self::with(kind, &[("README.md", "hello\n"), ("src/a.txt", "one\ntwo\nthree\n")]).await
    }

    /// Its API's address.
    pub fn api(&self) -> String {
        match self.kind {
            ForgeKind::Github if self.inner.below.is_empty() => self.url.clone(),
            ForgeKind::Github => format!("{}/api/v3", self.url),
            ForgeKind::Gitlab => format!("{}/api/v4", self.url),
            ForgeKind::Gitea => format!("{}/api/v1", self.url),
            ForgeKind::Local => String::new(),
        }
    }

    /// Where the repository is cloned from.
    pub fn git_url(&self) -> String {
        if self.kind == ForgeKind::Local {
            return self.bare().display().to_string();
        }
        format!("{}/acme/widgets.git", self.url)
    }

    /// Where an adapter goes.
    pub fn at(&self) -> ForgeAt {
        ForgeAt {
            kind: self.kind,
            api: self.api(),
            repository: "acme/widgets".into(),
            token: if self.is_remote() { TOKEN.to_owned().into() } else { Credential::None },
            git_url: self.git_url(),
            marker_key: None,
        }
    }

    /// Asks for something to go wrong.
    pub fn fail(&self, fault: Fault) -> &Self {
        self.inner.memory().faults.push(fault);
        self
    }

    /// What it remembers, to look at and to change.
    pub fn memory(&self) -> Remembered<'_> {
        let local = self.kind == ForgeKind::Local;
        Remembered::of(self.inner.memory(), local.then(|| self.bare()))
    }

    /// Whether requests are made to it at all.
    pub fn is_remote(&self) -> bool {
        self.kind != ForgeKind::Local
    }

    /// All requests to the API.
    pub fn asked(&self) -> Vec<Asked> {
        self.inner.memory().asked.clone()
    }

    /// How many requests were made with this method to a path that ends so.
    pub fn count(&self, method: &str, end: &str) -> usize {
        self.asked().iter().filter(|asked| asked.method == method && asked.path.ends_with(end)).count()
    }

    /// Where a branch is.
    pub fn tip(&self, branch: &str) -> Option<String> {
        self.inner.tip(branch)
    }

    /// Whether a commit is one that we made.
    pub fn is_ours(&self, commit: &str) -> bool {
        let message = self.inner.git(&["log", "-1", "--format=%B", commit]).unwrap_or_default();
        message.contains(codeforge::engine::publish::KEY_TRAILER)
    }

    /// What git says of the repository.
    pub fn git(&self, arguments: &[&str]) -> String {
        self.inner.git(arguments).unwrap_or_default().trim_end().to_owned()
    }

    /// A file at a branch's tip.
    pub fn file(&self, branch: &str, path: &str) -> Option<String> {
        self.inner.git(&["show", &format!("refs/heads/{branch}:{path}")])
    }

    /// All branches and where they are.
    pub fn branches(&self) -> BTreeMap<String, String> {
        let refs = self.inner.git(&["for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", "refs/heads/"]);
        let pairs = refs.unwrap_or_default();
        pairs
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(name, id)| (name.to_owned(), id.to_owned()))
            .collect()
    }

    /// Sets the ref under which a change's head is found.
    pub fn keep_head(&self, number: u64, head: &str) {
        let name = match self.kind {
            ForgeKind::Gitlab => format!("refs/merge-requests/{number}/head"),
            _ => format!("refs/pull/{number}/head"),
        };
        self.inner.git(&["update-ref", &name, head]).expect("a ref");
    }

    /// The bare repository.
    pub fn bare(&self) -> PathBuf {
        self.inner.bare()
    }

    /// Clones it, without a server, into a repository to work in.
    pub fn clone_of(&self) -> TestRepo {
        let repo = TestRepo::empty();
        repo.git(&["fetch", "--quiet", self.bare().to_str().unwrap(), "+refs/heads/*:refs/remotes/origin/*"]);
        repo.git(&["remote", "add", "origin", &self.git_url()]);
        repo.git(&["reset", "--quiet", "--hard", "refs/remotes/origin/main"]);
        repo
    }

    /// Somebody else commits to a branch, from `from` where it is new; gives the commit.
    pub fn commit_by(&self, who: &str, branch: &str, from: &str, files: &[(&str, Option<&str>)]) -> String {
        self.inner.commit_by(who, branch, from, files)
    }

    /// Opens a change by hand; gives its number.
    pub fn open(&self, author: &str, head: &str, body: &str) -> u64 {
        let mut memory = self.memory();
        let number = memory.id();
        memory.changes.push(FakeChange {
            number,
            title: "A change".into(),
            body: body.into(),
            author: author.into(),
            head: head.into(),
            base: "main".into(),
            state: "open",
            draft: false,
            labels: Vec::new(),
            reviewers: Vec::new(),
            assignees: Vec::new(),
            milestone: None,
            fork: false,
        });
        number
    }

    /// Writes a comment by hand; gives its number.
    pub fn comment_by(&self, author: &str, thread: &str, body: &str) -> u64 {
        let mut memory = self.memory();
        let id = memory.id();
        let (thread, author, body) = (thread.into(), author.into(), body.into());
        memory.comments.push(FakeComment { id, thread, author, body, reactions: Vec::new() });
        id
    }
}

impl Drop for ForgeServer {
    fn drop(&mut self) {
        self.task.abort();
        let wrong = std::mem::take(&mut self.inner.memory().wrong);
        if !std::thread::panicking() {
            assert!(wrong.is_empty(), "the forge's description does not allow:\n{}", wrong.join("\n"));
        }
    }
}

/// When things begin.
const MADE_S: u64 = 1_790_000_000;

fn time(second: u64) -> String {
    jiff::Timestamp::from_second(i64::try_from(second).unwrap()).unwrap().to_string()
}

/// A time as a query has it, compared with one that we wrote: both are UTC and of whole seconds.
pub(super) fn since(call: &Call, name: &str, at: &str) -> bool {
    call.asked(name).is_none_or(|since| at >= since)
}

/// A request, taken apart.
pub(super) struct Call {
    method: String,
    /// Decoded segments.
    path: Vec<String>,
    query: BTreeMap<String, String>,
    body: Value,
    /// The token is one that an App minted.
    of_app: bool,
}

impl Call {
    fn text(&self, name: &str) -> String {
        self.body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    fn asked(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }
}

/// An answer: status and JSON; a list is paged.
pub(super) type Said = (u16, Value);

pub(super) fn not_found() -> Said {
    (404, json!({ "message": "Not Found" }))
}

/// A comment goes.
pub(super) fn removed(memory: &mut Memory, id: &str) -> Said {
    let before = memory.comments.len();
    memory.comments.retain(|comment| comment.id.to_string() != id);
    if memory.comments.len() < before { (204, Value::Null) } else { not_found() }
}

async fn serve(Extracted(inner): Extracted<Arc<Inner>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 256 << 20).await.unwrap_or_default();
    let whole = parts.uri.path().to_owned();
    let Some(path) = inner.within(&whole) else {
        inner.memory().wrong.push(format!("{whole} lies beside {}", inner.below));
        return answer(404, not_found().1.to_string().into_bytes());
    };
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let method = parts.method.as_str().to_owned();
    let git = path.starts_with("/acme/widgets.git");
    let mutates = body.windows(8).any(|part| part == b"mutation");
    if !git {
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let (method, path, query) = (method.clone(), path.clone(), query.clone());
        let wrong = contract::judge(inner.kind, &method, &path, &query, &json);
        let mut memory = inner.memory();
        memory.wrong.extend(wrong);
        let (headers, at) = (parts.headers.clone(), std::time::Instant::now());
        memory.asked.push(Asked { method, path, query, body: json, headers, at });
    }
    let fault = {
        let mut memory = inner.memory();
        let found = memory.faults.iter_mut().find(|fault| {
            fault.times > 0 && fault.method == method && (path.ends_with(&fault.path) || query.contains(&fault.path))
        });
        found.map(|fault| {
            fault.times -= 1;
            fault.kind.clone()
        })
    };
    if let Some(Kind::Status(status, headers, body)) = &fault {
        let mut response = answer(*status, body.to_string().into_bytes());
        for (name, value) in headers {
            response.headers_mut().insert(*name, value.parse().unwrap());
        }
        return response;
    }
    if let Some(Kind::After(branch)) = &fault {
        inner.commit_by("ann", branch, "main", &[("by-hand.txt", Some("by hand\n"))]);
    }
    let response = if git {
        repository::serve(&inner, &parts.method, &path, &query, &parts.headers, body).await
    } else {
        api(&inner, &parts.method, (&path, &whole), &query, &parts.headers, &body)
    };
    let response = tagged(&inner, &parts, response).await;
    let writes = match (git, method.as_str()) {
        (true, _) => path.ends_with("git-receive-pack") && method == "POST",
        (false, "GET") => false,
        (false, _) => !path.ends_with("graphql") || mutates,
    };
    let stop = {
        let mut memory = inner.memory();
        memory.written += usize::from(writes);
        memory.stopped |= writes && memory.stop_at == Some(memory.written);
        memory.stopped
    };
    if stop {
        std::future::pending::<()>().await;
    }
    if let Some(Kind::Slow(time)) = &fault {
        tokio::time::sleep(*time).await;
    }
    if matches!(fault, Some(Kind::Close)) {
        // What serves the connection ends with it.
        std::panic::resume_unwind(Box::new("the socket is closed"));
    }
    if matches!(fault, Some(Kind::Lose)) {
        // What was done is done; the connection breaks off before the answer is whole.
        let broken = futures::stream::iter([Err::<Bytes, _>(std::io::Error::other("scripted"))]);
        return Response::builder().status(200).header("content-length", "9").body(Body::from_stream(broken)).unwrap();
    }
    response
}

/// Answers carry a tag, and who has it already is told so.
async fn tagged(inner: &Inner, request: &axum::http::request::Parts, response: Response) -> Response {
    if request.method != Method::GET || response.status() != 200 || inner.kind == ForgeKind::Gitea {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, 256 << 20).await.unwrap();
    let tag =
        format!("\"{:x}\"", body.iter().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte))));
    if request.headers.get("if-none-match").is_some_and(|given| given == &tag) {
        inner.memory().unchanged += 1;
        return Response::builder().status(304).header("etag", tag).body(Body::empty()).unwrap();
    }
    parts.headers.insert("etag", tag.parse().unwrap());
    Response::from_parts(parts, Body::from(body))
}

fn api(
    inner: &Inner,
    method: &Method,
    (path, full): (&str, &str),
    query: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Response {
    let scheme = if inner.kind == ForgeKind::Gitea { "token" } else { "Bearer" };
    let given = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let given = given.strip_prefix(scheme).map(str::trim).unwrap_or_default();
    let job = inner.kind == ForgeKind::Gitlab && headers.get("job-token").is_some_and(|value| value == JOB_TOKEN);
    let of_app = inner.memory().app.as_ref().is_some_and(|app| app.knows(given));
    let by_jwt = path.ends_with("/installation") || path.starts_with("/app/");
    if by_jwt {
        let (status, value) = app::handle(&mut inner.memory(), method.as_str(), path, given, body);
        return answer(status, value.to_string().into_bytes());
    }
    if given != TOKEN && !of_app && !(job && method == Method::GET) {
        return answer(401, json!({ "message": "Bad credentials" }).to_string().into_bytes());
    }
    let call = Call {
        method: method.as_str().to_owned(),
        path: path.split('/').filter(|part| !part.is_empty()).map(decoded).collect(),
        query: query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (decoded(name), decoded(&value.replace('+', "%20"))))
            .collect(),
        body: serde_json::from_slice(body).unwrap_or(Value::Null),
        of_app,
    };
    if let Some(raw) = raw_file(inner, &call) {
        return raw.map_or_else(|| answer(404, not_found().1.to_string().into_bytes()), |file| answer(200, file));
    }
    let (status, value) = match inner.kind {
        ForgeKind::Github => github::handle(inner, &call),
        ForgeKind::Gitlab => gitlab::handle(inner, &call),
        ForgeKind::Gitea => gitea::handle(inner, &call),
        ForgeKind::Local => not_found(),
    };
    let Value::Array(items) = value else { return answer(status, value.to_string().into_bytes()) };
    let number = |name: &str, usual: usize| call.asked(name).and_then(|text| text.parse().ok()).unwrap_or(usual);
    let size = if inner.kind == ForgeKind::Gitea { number("limit", 30) } else { number("per_page", 30) };
    // The comments of one thread come at once.
    let whole = inner.kind == ForgeKind::Gitea && path.ends_with("/comments") && !path.ends_with("issues/comments");
    let size = if whole { items.len().max(1) } else { size };
    let (size, page) = (if whole { size } else { size.min(inner.memory().page) }, number("page", 1));
    let here: Vec<Value> = items.iter().skip((page - 1) * size).take(size).cloned().collect();
    let mut response = answer(status, Value::Array(here).to_string().into_bytes());
    if items.len() > page * size {
        let host = headers.get("host").unwrap().to_str().unwrap();
        let rest: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("page=")).collect();
        let next = format!("<http://{host}{full}?{}&page={}>; rel=\"next\"", rest.join("&"), page + 1);
        response.headers_mut().insert("link", next.parse().unwrap());
    }
    response
}

/// A file's bytes, where that is what is asked for; the inner one: where it is there.
fn raw_file(inner: &Inner, call: &Call) -> Option<Option<Vec<u8>>> {
    let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
    let file = match (inner.kind, path.as_slice()) {
        (ForgeKind::Github, ["repos", _, _, "contents", file @ ..]) => file.join("/"),
        (ForgeKind::Gitlab, ["api", "v4", "projects", _, "repository", "files", file, "raw"]) => (*file).to_owned(),
        (ForgeKind::Gitea, ["api", "v1", "repos", _, _, "raw", file @ ..]) => file.join("/"),
        (ForgeKind::Gitea, ["api", "v1", "repos", _, _, "pulls", file]) => {
            let number = file.strip_suffix(".diff")?;
            let change = inner.memory().changes.iter().find(|change| change.number.to_string() == number).cloned()?;
            let range = format!("refs/heads/{}...refs/heads/{}", change.base, change.head);
            return Some(inner.git(&["diff", "-M", &range]).map(String::into_bytes));
        }
        _ => return None,
    };
    let at = call.asked("ref").unwrap_or("HEAD");
    Some(inner.git(&["show", &format!("{at}:{file}")]).map(String::into_bytes))
}

fn answer(status: u16, body: Vec<u8>) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    Response::builder().status(status).header("content-type", "application/json").body(Body::from(body)).unwrap()
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap()
}

/// One file of a difference.
pub(super) struct DiffFile {
    old: String,
    new: String,
    /// `A`, `D`, `M`, `R`.
    how: char,
    patch: String,
}

impl Inner {
    /// The difference of a change, as forges show it: from where its branch left.
    fn diff(&self, change: &FakeChange) -> Vec<DiffFile> {
        let range = format!("refs/heads/{}...refs/heads/{}", change.base, change.head);
        let names = self.git(&["diff", "--name-status", "-M", "-z", &range]).unwrap();
        let mut words = names.split('\0').filter(|word| !word.is_empty());
        let mut files = Vec::new();
        while let Some(how) = words.next() {
            let how = how.chars().next().unwrap();
            let old = words.next().unwrap().to_owned();
            let new = if how == 'R' { words.next().unwrap().to_owned() } else { old.clone() };
            let whole = self.git(&["diff", "-M", &range, "--", &old, &new]).unwrap();
            let patch = whole.find("@@ -").map(|at| whole[at..].trim_end().to_owned()).unwrap_or_default();
            files.push(DiffFile { old, new, how, patch });
        }
        files
    }

    /// The commit that a change's branch left at.
    fn merge_base(&self, change: &FakeChange) -> String {
        let (base, head) = (format!("refs/heads/{}", change.base), format!("refs/heads/{}", change.head));
        self.git(&["merge-base", &base, &head]).unwrap().trim().to_owned()
    }
}

/// Line numbers that hunks show: (old, new), one of them missing for added and removed lines.
pub(super) fn shown(patch: &str) -> Vec<(Option<u64>, Option<u64>)> {
    let mut lines = Vec::new();
    let (mut old, mut new) = (0, 0);
    for line in patch.lines() {
        if let Some(rest) = line.strip_prefix("@@ -") {
            let numbers: Vec<u64> = rest
                .split("@@")
                .next()
                .unwrap()
                .split(' ')
                .filter_map(|word| word.trim_start_matches('+').split(',').next().unwrap().parse().ok())
                .collect();
            (old, new) = (numbers[0], numbers[1]);
            continue;
        }
        match line.chars().next() {
            Some('+') => {
                lines.push((None, Some(new)));
                new += 1;
            }
            Some('-') => {
                lines.push((Some(old), None));
                old += 1;
            }
            Some('\\') => {}
            _ => {
                lines.push((Some(old), Some(new)));
                (old, new) = (old + 1, new + 1);
            }
        }
    }
    lines
}

/// Whether any file beneath a folder holds a text.
pub fn holds(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            holds(&path, text)
        } else {
            std::fs::read(&path).is_ok_and(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
        }
    })
}
