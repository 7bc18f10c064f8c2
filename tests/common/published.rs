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
use codeforge::model::forge::ForgeKind;
use codeforge::model::id::RunId;
use codeforge::model::journal::Base;
use codeforge::model::plan::{DeliverKind, ForgeSpec};
use codeforge::port::forge::{Forge, ForgeAt};
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
    pub most_open: Option<u32>,
    pub time_s: i64,
}

/// An adapter that waits for nothing.
pub fn adapter(at: &ForgeAt) -> Arc<dyn Forge> {
    let settings = Settings { system_proxy: false, ..Settings::default() };
    forge::open(at, Arc::new(FakeClock::at(NOW_MS)), Arc::new(|| 0), settings).unwrap()
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
            most_open: None,
            time_s: NOW_MS / 1000,
        }
    }

    /// A run that began at the head of a change of this repository.
    pub fn about(server: ForgeServer, number: u64) -> Self {
        let head = server.memory().changes.iter().find(|it| it.number == number).map(|it| it.head.clone()).unwrap();
        let sha = server.tip(&head).unwrap();
        let mut desk = Self::at(server, &head);
        let side = |branch: String, sha| Side { branch, sha, repository: None, repository_id: Some(1) };
        let change =
            Change { number, head: side(head, Some(sha)), base: side("main".into(), None), ..Change::default() };
        desk.event = Event { kind: EventKind::PullRequest, change: Some(change), ..Event::default() };
        desk
    }

    /// The run changes a file.
    pub fn write(&self, path: &str, content: &str) -> &Self {
        let path = self.workspace.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    /// Hands over.
    pub async fn publish(&self, kind: DeliverKind) -> Result<Published, PublishError> {
        let delivery = Delivery {
            kind,
            base: self.base.tree.clone(),
            tree: self.workspace.snapshot().unwrap(),
            branch: Some(BRANCH.into()),
            title: "Mend the tail.".into(),
            body: "Because.\n".into(),
            author: ("CodeForge".into(), "bot@example.com".into()),
            time_s: self.time_s,
            protected_paths: Vec::new(),
        };
        let publication = Publication {
            delivery: &delivery,
            base: &self.base,
            event: &self.event,
            findings: &self.findings,
            body: "What was done.",
            comment: (kind == DeliverKind::PullRequest).then_some("It is done."),
            memory: None,
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
            secrets: &[TOKEN.to_owned()],
            hosts: &[],
        };
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
