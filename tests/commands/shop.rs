//! A change on a forge that remembers, the server's database, and a desk that answers.

use crate::common::forge_server::{BOT, FakeComment, ForgeServer};
use codeforge::adapter::clock::SystemClock;
use codeforge::adapter::fake::FakeClock;
use codeforge::adapter::forge::{self, Settings};
use codeforge::adapter::{serve, sqlite};
use codeforge::model::event::{Change, Comment, Event, EventKind, Side};
use codeforge::model::forge::ForgeKind;
use codeforge::model::job::{Job, Lease, NewJob, OnConflict, Priority, Served};
use codeforge::port::forge::Forge;
use codeforge::port::queue::{Added, Queue, Room, Which};
use codeforge::port::store::Store;
use codeforge::server::commands::Desk;
use codeforge::trigger::{self, Decision, Facts};
use codeforge::workflow::{self, Source, schema::Library};
use std::sync::Arc;

pub const NOW_MS: i64 = 1_790_000_000_000;
pub const KINDS: [ForgeKind; 2] = [ForgeKind::Github, ForgeKind::Gitlab];
pub const CONFIG: &str = "models:
  small: { provider: ollama, model: qwen, price: { input_per_mtok: 1, output_per_mtok: 2 }, context_window: 10000, max_output: 1000 }
  big: { provider: openai, model: gpt-5, price: { input_per_mtok: 10, output_per_mtok: 20 } }
scenarios: { default: small }
gates: { tests: { run: make test }, lint: { run: make lint } }
protected_paths: [\".github/**\"]
comments:
  free_text: ask
  aliases: { ask: ask, s: status }
  settings: { model: [big], max_cost_usd: 3 }
  answers_per_hour: 8
";
pub const WORKFLOWS: [(&str, &str); 2] = [
    (
        "ask",
        "name: ask\ndescription: Answers a question.\non: { command: { name: ask, access: read } }
inputs: { task: { type: string, required: true } }\nbudget: { max_cost_usd: 1 }
steps: { answer: { mode: architect, prompt: \"{{ inputs.task }}\" } }\ndeliver: comment\n",
    ),
    (
        "mend",
        "name: mend\ndescription: Repairs something.\non: { command: { name: mend, access: write } }
inputs: { task: { type: string, required: true } }\nbudget: { max_cost_usd: 2 }\nquote: true\nindependent_approval: true
steps:\n  plan: { mode: architect, prompt: \"{{ inputs.task }}\", max_steps: 4 }
  work: { mode: coder, needs: [plan], prompt: \"{{ inputs.task }}\", gates: [tests], max_steps: 8 }\ndeliver: pull_request\n",
    ),
];

/// A change of `ann`'s on a forge, and a desk for its repository. `ann` and `mo` may write, `rita` may read.
pub struct Shop {
    pub server: ForgeServer,
    pub forge: Arc<dyn Forge>,
    pub queue: Arc<dyn Queue>,
    pub library: Library,
    pub served: Served,
    pub change: u64,
    pub now_ms: i64,
    pub folder: tempfile::TempDir,
    pub journal: Arc<dyn Store>,
}

impl Shop {
    pub async fn open(kind: ForgeKind) -> Self {
        let server = ForgeServer::start(kind).await;
        server.commit_by("ann", "topic", "main", &[("src/a.txt", Some("one\n"))]);
        let change = server.open("ann", "topic", "");
        for (name, role) in [("ann", "write"), ("mo", "write"), ("rita", "read")] {
            server.memory().members.insert(name.into(), role.into());
        }
        let mut sources = workflow::builtin();
        sources.push(Source { path: ".codeforge/config.yml".into(), text: CONFIG.into(), builtin: false });
        for (name, text) in WORKFLOWS {
            let path = format!(".codeforge/workflows/{name}.yml");
            sources.push(Source { path, text: text.into(), builtin: false });
        }
        let library = workflow::load(&sources, &|_| None);
        let problems: Vec<_> = library.diagnostics.iter().map(|it| it.message.clone()).collect();
        assert!(problems.is_empty(), "{problems:?}");
        let settings = Settings { system_proxy: false, ..Settings::default() };
        let clock = Arc::new(FakeClock::at(NOW_MS));
        let forge = forge::open(&server.at(), clock, Arc::new(|| 0), settings).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let queue: Arc<dyn Queue> = serve::open(folder.path()).await.unwrap();
        let journal = sqlite::open(&folder.path().join("journal"), Arc::new(SystemClock)).await.unwrap();
        let served = Served { forge: kind, host: "forge.example".into(), name: "acme/widgets".into() };
        Self { server, forge, queue, library, served, change, now_ms: NOW_MS, folder, journal }
    }

    pub fn desk(&self) -> Desk<'_> {
        Desk {
            library: &self.library,
            forge: &*self.forge,
            queue: &*self.queue,
            store: Some(&*self.journal),
            repository: &self.served,
            phrase: "/codeforge",
            allow_users: &[],
            ours: &[],
            broken: None,
            models: &[],
            now_ms: self.now_ms,
            asked: Default::default(),
        }
    }

    pub fn head(&self) -> String {
        self.server.tip("topic").unwrap()
    }

    pub fn event(&self, actor: &str, comment: Option<Comment>) -> Event {
        let side = |branch: &str| Side {
            branch: branch.into(),
            sha: self.server.tip(branch),
            repository: Some("acme/widgets".into()),
            repository_id: None,
        };
        let change = Change { number: self.change, head: side("topic"), base: side("main"), ..Change::default() };
        Event {
            kind: if comment.is_some() { EventKind::IssueComment } else { EventKind::PullRequest },
            action: Some(if comment.is_some() { "created" } else { "synchronize" }.into()),
            actor: Some(actor.into()),
            repository: Some("acme/widgets".into()),
            change: Some(change),
            comment,
            ..Event::default()
        }
    }

    /// Somebody writes a comment: what the intake does with it. Gives the comment's number.
    pub async fn say(&self, actor: &str, text: &str) -> u64 {
        let id = self.server.comment_by(actor, &format!("change {}", self.change), text);
        let comment = Comment { id, body: text.into(), author: Some(actor.into()), ..Comment::default() };
        self.hear(&self.event(actor, Some(comment))).await;
        id
    }

    pub async fn hear(&self, event: &Event) {
        let facts = Facts { phrase: "/codeforge", allow_users: &[], ours: &[], changed: None, fork: false, now_ms: 0 };
        let desk = self.desk();
        let decided = trigger::decide(&self.library, event, &facts);
        let answered = desk.comment(event).await.unwrap();
        if let Some(heard) = answered.heard {
            desk.acknowledge(heard).await.unwrap();
        }
        let mut jobs = answered.jobs;
        for (_, decision) in decided {
            let Decision::Run(start) = decision else { continue };
            let Some(needs) = &start.access else { continue };
            if !desk.reaches(&needs.user, needs.access.wanted(), false).await {
                continue;
            }
            let event = Event { command: start.given.clone(), ..event.clone() };
            let key = trigger::key(&event, &start.workflow, None);
            let job = NewJob {
                repository: self.served.clone(),
                workflow: start.workflow.clone(),
                actor: event.actor.clone(),
                event,
                key,
                group: None,
                on_conflict: OnConflict::Queue,
                priority: Priority::Command,
                due_ms: self.now_ms,
                settings: start.settings.clone(),
                approval: None,
            };
            jobs.push(desk.price(job).await.unwrap().unwrap());
        }
        self.make(jobs).await;
    }

    pub async fn make(&self, jobs: Vec<NewJob>) {
        for job in jobs {
            if let Added::New(id) = self.queue.add(&job, self.now_ms).await.unwrap() {
                self.desk().announce(&[id]).await.unwrap();
            }
        }
    }

    /// Somebody pushes to the change.
    pub async fn push(&self) -> String {
        let commit = self.server.commit_by("ann", "topic", "main", &[("src/b.txt", Some("more\n"))]);
        let jobs = self.desk().pushed(&self.event("ann", None)).await.unwrap().jobs;
        self.make(jobs).await;
        commit
    }

    /// All jobs, the newest first.
    pub async fn jobs(&self) -> Vec<Job> {
        let mut jobs = self.queue.jobs(&Which { most: 100, ..Which::default() }).await.unwrap();
        jobs.sort_by_key(|job| std::cmp::Reverse((job.created_ms, job.new.key.len())));
        jobs
    }

    pub async fn only(&self) -> Job {
        let mut jobs = self.jobs().await;
        assert_eq!(jobs.len(), 1, "{jobs:?}");
        jobs.remove(0)
    }

    pub async fn begin(&self) -> (Job, Lease) {
        self.queue.lease("w", Room { per_repository: 9 }, self.now_ms, 60_000).await.unwrap().unwrap()
    }

    pub fn comment(&self, id: u64) -> FakeComment {
        self.server.memory().comments.iter().find(|it| it.id == id).unwrap().clone()
    }

    /// Whether a comment was reacted to, and with what.
    pub fn reactions(&self, id: u64) -> Vec<String> {
        self.comment(id).reactions
    }

    /// What we wrote, in order; ids are put out of the way.
    pub async fn ours(&self) -> Vec<String> {
        let jobs = self.jobs().await;
        let comments: Vec<FakeComment> = self.server.memory().comments.clone();
        let ours = comments.into_iter().filter(|it| it.author == BOT).map(|it| {
            let mut body = it.body.split_once('\n').unwrap().1.to_owned();
            for (number, job) in jobs.iter().enumerate() {
                body = body.replace(&job.id, &format!("JOB{number}"));
            }
            body.replace(&self.head()[..10], "HEAD").replace(&self.head()[..7], "HEAD")
        });
        ours.collect()
    }
}

/// The one comment that we wrote.
pub async fn one(shop: &Shop) -> String {
    let mut ours = shop.ours().await;
    assert_eq!(ours.len(), 1, "{ours:#?}");
    ours.remove(0)
}
