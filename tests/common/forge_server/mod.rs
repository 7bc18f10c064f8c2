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
pub mod contract;
mod difference;
mod fault;
mod gitea;
mod github;
pub mod gitlab;
pub mod hooks;
mod issues;
mod local;
mod memory;
mod repository;
mod wire;

pub use app::{FakeApp, FakeCheck};
pub use fault::Fault;
pub use issues::FakeIssue;
pub use local::Remembered;
pub use memory::{Asked, FakeChange, FakeComment, FakeRemark, Memory};

use super::{TestRepo, git, ok};
use axum::Router;
use codeforge::model::forge::ForgeKind;
use codeforge::port::forge::{Credential, ForgeAt};
use difference::shown;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use wire::{Call, Said, not_found, removed, since};

/// The token that everything takes.
pub const TOKEN: &str = "forge-token-9c1f7a52e0b84d6f";
/// What a job on GitLab has by itself.
pub const JOB_TOKEN: &str = "job-token-5e1d90aa71";
/// Whose it is.
pub const BOT: &str = "codeforge-bot";

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
        let app = Router::new().fallback(wire::serve).with_state(Arc::clone(&inner));
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
