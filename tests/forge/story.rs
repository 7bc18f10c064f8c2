//! A forge, a clone of its repository, and the end of a run in it.

pub use crate::common::forge_server::{BOT, Fault, ForgeServer, TOKEN};
pub use crate::common::{TestRepo, spoken};
pub use codeforge::adapter::fake::FakeClock;
pub use codeforge::adapter::forge::{self, Settings};
pub use codeforge::adapter::git::{self, Force};
pub use codeforge::engine::publish::{Publication, PublishError, Signing, publish};
pub use codeforge::model::delivery::{Delivery, Published};
pub use codeforge::model::event::{Change, Event, EventKind, Issue, Side};
pub use codeforge::model::exec::ExecMode;
pub use codeforge::model::finding::{Finding, Level, Standing};
pub use codeforge::model::forge::{Access, CheckState, ForgeKind, Right};
pub use codeforge::model::id::{RunId, StepId};
pub use codeforge::model::journal::Base;
pub use codeforge::model::plan::{DeliverKind, ForgeSpec};
pub use codeforge::port::forge::{
    Check, Forge, ForgeAt, ForgeError, LineSide, NewChange, NewReview, Protection, Remark, Said, Sticky, Thread,
};
pub use codeforge::port::repository::{OpenWorkspace, Repository, Workspace};
pub use std::collections::BTreeMap;
pub use std::sync::Arc;
pub use std::time::Duration;

pub const KINDS: [ForgeKind; 4] = [ForgeKind::Github, ForgeKind::Gitlab, ForgeKind::Gitea, ForgeKind::Local];
pub const KEY: &str = "fix/issue-7";
pub const BRANCH: &str = "codeforge/fix/work-7";
/// A minute before a limit is lifted.
pub const NOW_MS: i64 = 1_790_000_000_000;

pub struct Story {
    pub server: ForgeServer,
    pub repo: TestRepo,
    pub repository: Arc<dyn Repository>,
    pub base: Base,
    pub workspace: Arc<dyn Workspace>,
    pub forge: Arc<dyn Forge>,
    pub event: Event,
    pub findings: Vec<Finding>,
    pub secrets: Vec<String>,
    pub labels: Vec<String>,
    pub reviewers: Vec<String>,
    pub asked: ForgeSpec,
    pub signing: Signing,
}

pub fn adapter(at: &ForgeAt) -> (Arc<dyn Forge>, Arc<FakeClock>) {
    let clock = Arc::new(FakeClock::at(NOW_MS));
    let settings = Settings { system_proxy: false, ..Settings::default() };
    (forge::open(at, Arc::<FakeClock>::clone(&clock), Arc::new(|| 0), settings).unwrap(), clock)
}

impl Story {
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
        let (forge, _) = adapter(&server.at());
        let event = Event { kind: EventKind::Manual, ..Event::default() };
        let (findings, secrets) = (Vec::new(), vec![TOKEN.to_owned()]);
        let (labels, reviewers) = (vec!["codeforge".to_owned()], vec!["ann".to_owned()]);
        Self {
            server,
            repo,
            repository,
            base,
            workspace,
            forge,
            event,
            findings,
            secrets,
            labels,
            reviewers,
            asked: ForgeSpec::default(),
            signing: Signing::default(),
        }
    }

    /// A run that began at the head of a change.
    pub fn about(server: ForgeServer, number: u64) -> Self {
        let change = server.memory().changes.iter().find(|change| change.number == number).cloned().unwrap();
        let head = server.tip(&change.head).unwrap();
        let mut story = Self::at(server, &change.head);
        let side = |branch: &str, sha: Option<String>, id: u64| Side {
            branch: branch.into(),
            sha,
            repository: None,
            repository_id: Some(id),
        };
        let head = side(&change.head, Some(head), if change.fork { 2 } else { 1 });
        let change = Change { number, head, base: side("main", None, 1), ..Change::default() };
        story.event = Event { kind: EventKind::PullRequest, change: Some(change), ..Event::default() };
        story
    }

    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.workspace.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    pub fn delivery(&self, kind: DeliverKind) -> Delivery {
        Delivery {
            kind,
            base: self.base.tree.clone(),
            tree: self.workspace.snapshot().unwrap(),
            branch: Some(BRANCH.into()),
            title: "Mend it".into(),
            body: "Because.\n".into(),
            author: ("CodeForge".into(), "codeforge@localhost".into()),
            time_s: 1_790_000_000,
            protected_paths: vec![".github/**".into()],
        }
    }

    pub async fn publish(&self, kind: DeliverKind) -> Result<Published, PublishError> {
        self.publish_as(&self.delivery(kind), |_| {}).await
    }

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
            key: KEY,
            draft: true,
            passed: false,
            asked: &self.asked,
            signing: &self.signing,
            labels: &self.labels,
            reviewers: &self.reviewers,
            target: None,
            prefix: "codeforge/",
            most_open: None,
            secrets: &self.secrets,
            hosts: &[],
        };
        change(&mut publication);
        publish(&*self.forge, Arc::clone(&self.repository), &publication).await
    }

    /// How many requests changed something; of a local forge: how much is written down.
    pub fn writes(&self) -> usize {
        if !self.server.is_remote() {
            return size(&self.server.bare().join("codeforge"));
        }
        let asked = self.server.asked();
        asked.iter().filter(|asked| asked.method != "GET" && !asked.path.ends_with("graphql")).count()
    }
}

pub fn finding(file: &str, line: Option<u64>, fingerprint: &str) -> Finding {
    Finding {
        fingerprint: fingerprint.into(),
        level: Level::High,
        file: file.into(),
        line,
        end_line: None,
        rule: Some("CWE-89".into()),
        what: "It is wrong, says @ann.".into(),
        suggestion: None,
        step: StepId::from("review"),
        standing: Standing::New,
    }
}

impl Story {
    /// About a change by `ann`: a file changed in its middle, one renamed and changed, one new, one gone.
    pub async fn about_new(kind: ForgeKind) -> Self {
        let long: String = (1..=30).map(|n| format!("line {n}\n")).collect();
        let server = ForgeServer::with(
            kind,
            &[("src/a.txt", "one\ntwo\nthree\n"), ("old name.txt", &long), ("gone.txt", "x\ny\n"), ("far.txt", &long)],
        )
        .await;
        let renamed = long.replace("line 15\n", "line fifteen\nline fifteen and a half\n");
        server.commit_by(
            "ann",
            "topic",
            "main",
            &[
                ("src/a.txt", Some("one\nTWO\nthree\n")),
                ("old name.txt", None),
                ("new/näme.txt", Some(&renamed)),
                ("gone.txt", None),
                ("added.txt", Some("a\nb\n")),
                ("far.txt", Some(&long.replace("line 2\n", "LINE 2\n"))),
            ],
        );
        let number = server.open("ann", "topic", "");
        Self::about(server, number)
    }
}

fn size(folder: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let of = |entry: std::fs::DirEntry| match entry.metadata().unwrap() {
        it if it.is_dir() => size(&entry.path()),
        it => usize::try_from(it.len()).unwrap(),
    };
    entries.flatten().map(of).sum()
}

/// Our account.
pub fn us(kind: ForgeKind) -> &'static str {
    if kind == ForgeKind::Local { "codeforge" } else { BOT }
}
