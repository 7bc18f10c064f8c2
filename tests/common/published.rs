//! A run's end in a clone of a fake forge's repository, and its delivery.

use super::TestRepo;
use super::forge_server::{ForgeServer, TOKEN};
use codeforge::adapter::fake::FakeClock;
use codeforge::adapter::forge::{self, Settings};
use codeforge::adapter::git::{self, Force};
use codeforge::engine::publish::{Publication, PublishError, Signing, publish};
use codeforge::model::delivery::{Delivery, Published};
use codeforge::model::event::{Change, Event, EventKind, Side};
use codeforge::model::exec::ExecMode;
use codeforge::model::finding::Finding;
use codeforge::model::forge::{CheckState, ForgeKind};
use codeforge::model::id::RunId;
use codeforge::model::journal::Base;
use codeforge::model::plan::{DeliverKind, ForgeSpec};
use codeforge::port::forge::{Check, Forge, ForgeAt};
use codeforge::port::repository::{OpenWorkspace, Repository, Workspace};
use std::sync::Arc;

/// The branch of a delivery, and the key that it is found by.
pub const BRANCH: &str = "codeforge/fix/work-7";
pub const KEY: &str = "fix/issue-7";
/// The time of the forge's clock and of commits: just after the fake's changes were opened.
pub const NOW_MS: i64 = 1_790_000_060_000;

/// What is delivered, and how.
pub struct Desk {
    pub server: ForgeServer,
    pub repo: TestRepo,
    pub repository: Arc<dyn Repository>,
    pub base: Base,
    pub workspace: Arc<dyn Workspace>,
    pub forge: Arc<dyn Forge>,
    pub event: Event,
    pub asked: ForgeSpec,
    pub signing: Signing,
    pub passed: bool,
    pub labels: Vec<String>,
    pub reviewers: Vec<String>,
    pub findings: Vec<Finding>,
    pub secrets: Vec<String>,
    pub most_open: Option<u32>,
    pub time_s: i64,
}

/// A commit's state as a program gives it that is no App.
pub fn check<'a>(commit: &'a str, state: CheckState, words: &'a str) -> Check<'a> {
    Check { commit, name: "codeforge", state, words, url: None, summary: None, annotations: &[] }
}

/// An adapter that waits for nothing, and the clock that it looks at.
pub fn clocked(at: &ForgeAt) -> (Arc<dyn Forge>, Arc<FakeClock>) {
    let clock = Arc::new(FakeClock::at(NOW_MS));
    let settings = Settings { system_proxy: false, ..Settings::default() };
    (forge::open(at, Arc::<FakeClock>::clone(&clock), Arc::new(|| 0), settings).unwrap(), clock)
}

/// An adapter that waits for nothing.
pub fn adapter(at: &ForgeAt) -> Arc<dyn Forge> {
    clocked(at).0
}

impl Desk {
    /// A run that began at `main` of a small repository.
    pub async fn of(kind: ForgeKind) -> Self {
        Self::at(ForgeServer::start(kind).await, "main")
    }

    /// A run that began at a branch's tip.
    pub fn at(server: ForgeServer, branch: &str) -> Self {
        let repo = server.clone_of();
        repo.git(&["checkout", "--quiet", "--detach", &format!("refs/remotes/origin/{branch}")]);
        let repository = git::open_with(repo.path(), Force::Copy).unwrap();
        let base = repository.base().unwrap();
        let order = OpenWorkspace {
            run: RunId::from("run00001"),
            name: "main".into(),
            tree: base.tree.clone(),
            base: base.tree.clone(),
            mode: ExecMode::Sandbox,
            step: None,
        };
        let workspace = repository.workspace(&order).unwrap();
        let forge = adapter(&server.at());
        Self {
            server,
            repo,
            repository,
            base,
            workspace,
            forge,
            event: Event { kind: EventKind::Manual, ..Event::default() },
            asked: ForgeSpec::default(),
            signing: Signing::default(),
            passed: false,
            labels: Vec::new(),
            reviewers: Vec::new(),
            findings: Vec::new(),
            secrets: vec![TOKEN.to_owned()],
            most_open: None,
            time_s: NOW_MS / 1000,
        }
    }

    /// A run that began at the head of a change.
    pub fn about(server: ForgeServer, number: u64) -> Self {
        let change = server.memory().changes.iter().find(|it| it.number == number).cloned().unwrap();
        let sha = server.tip(&change.head).unwrap();
        let mut desk = Self::at(server, &change.head);
        let side = |branch: &str, sha: Option<String>, id: u64| Side {
            branch: branch.into(),
            sha,
            repository: None,
            repository_id: Some(id),
        };
        let head = side(&change.head, Some(sha), if change.fork { 2 } else { 1 });
        let change = Change { number, head, base: side("main", None, 1), ..Change::default() };
        desk.event = Event { kind: EventKind::PullRequest, change: Some(change), ..Event::default() };
        desk
    }

    /// The run changes a file.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.workspace.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    /// What is handed over.
    pub fn delivery(&self, kind: DeliverKind) -> Delivery {
        Delivery {
            kind,
            base: self.base.tree.clone(),
            tree: self.workspace.snapshot().unwrap(),
            branch: Some(BRANCH.into()),
            title: "Mend the tail.".into(),
            body: "Because.\n".into(),
            author: ("CodeForge".into(), "bot@example.com".into()),
            time_s: self.time_s,
            protected_paths: vec![".github/**".into()],
        }
    }

    /// Hands over.
    pub async fn publish(&self, kind: DeliverKind) -> Result<Published, PublishError> {
        self.publish_as(&self.delivery(kind), |_| {}).await
    }

    /// Hands over in a way of its own.
    pub async fn publish_as<'s>(
        &'s self,
        delivery: &'s Delivery,
        change: impl FnOnce(&mut Publication<'s>),
    ) -> Result<Published, PublishError> {
        let mut publication = Publication {
            delivery,
            base: &self.base,
            event: &self.event,
            findings: &self.findings,
            body: "What was done.",
            comment: None,
            memory: None,
            issue: None,
            key: KEY,
            draft: true,
            passed: self.passed,
            asked: &self.asked,
            signing: &self.signing,
            labels: &self.labels,
            reviewers: &self.reviewers,
            target: None,
            prefix: "codeforge/",
            most_open: self.most_open,
            secrets: &self.secrets,
            hosts: &[],
        };
        change(&mut publication);
        publish(&*self.forge, Arc::clone(&self.repository), &publication).await
    }

    /// A proposal.
    pub async fn propose(&self) -> Published {
        self.publish(DeliverKind::PullRequest).await.unwrap()
    }

    /// Git, in the forge's own repository.
    pub fn bare(&self, arguments: &[&str]) -> String {
        super::ok(super::git().arg("-C").arg(self.server.bare()).args(arguments)).trim().to_owned()
    }
}
