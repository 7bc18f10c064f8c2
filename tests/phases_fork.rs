//! Commands on changes in three processes, above all on those of forks: a maintainer's command names its commit, the agent's job looks at it, the gate's
//! runs its code without a key, the one that delivers says what was found. Nothing of the repository is written.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use codeforge::model::forge::ForgeKind;
use common::forge_server::TOKEN;
use common::forge_server::{BOT, ForgeServer};
use common::hub::{Clone, Job, Ran, clone_of, comment, on_github, whole_clone_of};
use common::town::{MARKER_KEY, MODEL_KEY, Plan, Town};
use common::{ModelServer, Reply, Rule};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LOOK: &str = r#"
name: look
on: { command: { name: look, access: write } }
policy: plan-readonly
steps:
  review: { mode: reviewer, prompt: "{{ event.change.diff }}", output: { schema: review } }
deliver: review
"#;
/// What stays in the job.
const SUGGEST: &str = r#"
name: suggest
on: { command: { name: suggest, access: write } }
policy: lax
steps: { work: { run: "env > /tmp/seen; sed -i s/two/good/ src/a.txt; ! grep -i -e token -e api_key /tmp/seen", gates: [tests] } }
deliver: patch
"#;
const LAX: &str =
    "name: lax\nrules:\n  - { tool: \"*\", decision: allow }\ndefault: allow\nlimits: { max_cost_usd: 1 }\n";
/// What would write to the repository.
const MEND: &str = r#"
name: mend
on: { command: { name: mend, access: write } }
steps: { work: { mode: coder, prompt: "Mend it" } }
deliver: { as: pull_request, title: Mended }
"#;
const CONFIG: &str = "gates:\n  tests: { run: \"grep -q good src/a.txt\", on_fail: fail }\n  lint: { run: \"true\" }\n";

struct Stage {
    forge: ForgeServer,
    number: u64,
    head: String,
}

impl Stage {
    async fn new() -> Self {
        Self::of(true).await
    }

    /// A change, of a fork or of the repository itself.
    async fn of(fork: bool) -> Self {
        let files = [
            (".codeforge/workflows/look.yml", LOOK),
            (".codeforge/workflows/mend.yml", MEND),
            (".codeforge/workflows/suggest.yml", SUGGEST),
            (".codeforge/policies/lax.yml", LAX),
            (".codeforge/config.yml", CONFIG),
            ("src/a.txt", "one\n"),
        ];
        let forge = ForgeServer::with(ForgeKind::Github, &files).await;
        forge.memory().members.insert("ann".into(), "write".into());
        // What the fork brings of configuration counts for nothing.
        let lax = LOOK.replace("plan-readonly", "lax").replace("deliver: review", "deliver: pull_request");
        let files = [("src/a.txt", Some("two\n")), (".codeforge/workflows/look.yml", Some(lax.as_str()))];
        let head = forge.commit_by("eve", "topic", "main", &files);
        let number = forge.open("eve", "topic", "Please.");
        forge.memory().changes[0].fork = fork;
        forge.keep_head(number, &head);
        Self { forge, number, head }
    }

    fn given(&self, who: &str, body: &str) -> Value {
        let id = self.forge.comment_by(who, &format!("change {}", self.number), body);
        let mut payload = comment(body, who);
        payload["comment"]["id"] = json!(id);
        payload["issue"]["number"] = json!(self.number);
        payload["issue"]["pull_request"] = json!({});
        payload
    }

    /// A job of the three, on a runner of its own.
    fn job<'a>(&self, clone: &'a Clone, phase: &str, payload: &Value, artifact: Option<&Path>) -> Job<'a> {
        if let Some(artifact) = artifact {
            let file = clone.aside().join("codeforge/artifact.json");
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::copy(artifact, file).unwrap();
        }
        on_github(&self.forge, clone, "issue_comment", payload).env("CODEFORGE_PHASE", phase)
    }

    fn deliver(&self, payload: &Value, artifact: &Path, word: &str) -> Ran {
        let clone = clone_of(&self.forge, "refs/heads/main");
        let job = self.job(&clone, "deliver", payload, Some(artifact)).env("CODEFORGE_GATE_WORD", word);
        tokio::task::block_in_place(|| job.run())
    }

    /// The gates' job, which has no token: not even one that reads. Its word.
    fn gate(&self, payload: &Value, artifact: &Path, says: &[&str]) -> String {
        let clone = whole_clone_of(&self.forge);
        let job = self.job(&clone, "gate", payload, Some(artifact)).without("CODEFORGE_FORGE_TOKEN");
        let ran = tokio::task::block_in_place(|| job.run()).ends(0, "success").says(says);
        ran.outputs()["gate-word"].as_str().unwrap().to_owned()
    }

    /// The agent's job: where its artifact was kept.
    fn agent(&self, payload: &Value, model: &ModelServer, kept: &Path) -> PathBuf {
        let clone = clone_of(&self.forge, "refs/heads/main");
        let job = self.job(&clone, "agent", payload, None).model(model.url());
        let ran = tokio::task::block_in_place(|| job.run()).ends(0, "success");
        let to = kept.join("artifact.json");
        std::fs::copy(ran.outputs()["artifact"].as_str().unwrap(), &to).unwrap();
        to
    }

    fn written(&self) -> usize {
        self.forge.memory().written
    }
}

/// What a reviewer says of it.
fn said() -> Reply {
    let finding = json!({ "file": "src/a.txt", "line": 1, "severity": "high", "what": "It is two, not one." });
    let output = json!({ "approved": false, "summary": "No.", "findings": [finding] });
    Reply::call("finish", json!({ "summary": "Looked.", "output": output }))
}

async fn reviewer() -> ModelServer {
    ModelServer::start(vec![Rule::when().user("+two").reply(said())]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forks_change_is_reviewed_by_three_processes_and_nothing_but_words_is_written() {
    let stage = Stage::new().await;
    let kept = tempfile::tempdir().unwrap();
    let asked = stage.given("ann", &format!("/codeforge look sha={}", stage.head));
    let branches = stage.forge.branches();
    let model = reviewer().await;
    let artifact = stage.agent(&asked, &model, kept.path());
    model.finished();
    let word = stage.gate(&asked, &artifact, &[]);
    assert_eq!(stage.written(), 0, "neither of them writes");
    let ran = stage.deliver(&asked, &artifact, &word).ends(0, "success");
    assert_eq!(ran.outputs()["branch-name"], "");
    {
        let memory = stage.forge.memory();
        let ours: Vec<&String> = memory.comments.iter().filter(|it| it.author == BOT).map(|it| &it.body).collect();
        assert_eq!((ours.len(), memory.remarks.len(), memory.changes.len()), (1, 1, 1), "{ours:?}");
        assert!(memory.remarks[0].body.contains("It is two, not one."), "{:?}", memory.remarks);
    }
    assert_eq!(stage.forge.branches(), branches, "no branch is touched");
    // Once more: nothing is said twice.
    stage.deliver(&asked, &artifact, &word).ends(0, "success");
    assert_eq!(stage.forge.memory().remarks.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_run_suggests_for_a_fork_is_judged_and_handed_over_as_a_file() {
    let stage = Stage::new().await;
    let kept = tempfile::tempdir().unwrap();
    let asked = stage.given("ann", &format!("/codeforge suggest sha={}", stage.head));
    let nobody = ModelServer::start(Vec::new()).await;
    let artifact = stage.agent(&asked, &nobody, kept.path());
    let word = stage.gate(&asked, &artifact, &["gate `tests`: pass"]);
    stage.deliver(&asked, &artifact, "").ends(4, "denied").says(&["there is no gate's word for it"]);
    let ran = stage.deliver(&asked, &artifact, &word).ends(0, "success");
    assert!(ran.outputs()["patch-file"].as_str().unwrap().ends_with(".patch"), "{}", ran.outputs());
    assert_eq!(stage.written(), 0, "nothing is written at the forge");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_on_a_change_of_our_own_goes_through_all_three_jobs() {
    let stage = Stage::of(false).await;
    let kept = tempfile::tempdir().unwrap();
    let asked = stage.given("ann", "/codeforge suggest");
    let nobody = ModelServer::start(Vec::new()).await;
    let artifact = stage.agent(&asked, &nobody, kept.path());
    let word = stage.gate(&asked, &artifact, &["gate `tests`: pass", "which the artifact names"]);
    // An artifact of another commit: the gates judge what they are given, and the job that asks the forge refuses it.
    let other = kept.path().join("other.json");
    let main = stage.forge.tip("main").unwrap();
    std::fs::write(&other, std::fs::read_to_string(&artifact).unwrap().replace(&stage.head, &main)).unwrap();
    stage.deliver(&asked, &other, &word).ends(4, "denied").says(&["it was made on the commit"]);
    stage.deliver(&asked, &artifact, &word).ends(0, "success");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_must_not_be_of_a_fork_is_refused_before_it_costs_anything_and_again_before_it_is_written() {
    let stage = Stage::new().await;
    let kept = tempfile::tempdir().unwrap();
    let nobody = ModelServer::start(Vec::new()).await;
    let agent = |payload: &Value| {
        let clone = clone_of(&stage.forge, "refs/heads/main");
        let job = stage.job(&clone, "agent", payload, None).model(nobody.url());
        tokio::task::block_in_place(|| job.run())
    };
    let of = |who: &str, command: &str, sha: &str| stage.given(who, &format!("/codeforge {command} sha={sha}"));
    let stale = "1".repeat(40);
    agent(&stage.given("ann", "/codeforge look")).ends(0, "skipped").says(&[&format!("sha={}", stage.head)]);
    agent(&of("ann", "look", &stale)).ends(0, "skipped");
    agent(&of("eve", "look", &stage.head)).ends(4, "denied").says(&["`eve` may not start `look`"]);
    agent(&of("ann", "mend", &stage.head))
        .ends(4, "denied")
        .says(&["comes from a fork", "would write to this repository"]);
    assert!(nobody.asked().is_empty(), "nothing was asked of the model");

    let asked = of("ann", "look", &stage.head);
    let model = reviewer().await;
    let artifact = stage.agent(&asked, &model, kept.path());
    let word = stage.gate(&asked, &artifact, &[]);
    // Somebody else's event with the artifact of ann's.
    stage.deliver(&of("eve", "look", &stage.head), &artifact, &word).ends(4, "denied");
    // The fork was pushed to meanwhile: what was looked at is not there any more.
    let files = [("src/a.txt", Some("three\n"))];
    let newer = stage.forge.commit_by("eve", "topic", "topic", &files);
    stage.forge.keep_head(stage.number, &newer);
    stage.deliver(&asked, &artifact, &word).says(&["sha="]).ends(0, "skipped");
    assert_eq!(stage.written(), 0, "{:?}", stage.forge.memory().comments);
}

fn town() -> Plan {
    let script =
        vec![Rule::when().user("+two").reply(said()).always(), Rule::when().user("+five").reply(said()).always()];
    let town = Town::of(ForgeKind::Github).file(".codeforge/workflows/look.yml", LOOK);
    town.file(".codeforge/config.yml", CONFIG).model(script)
}

/// Looks at the environments of a server's phases while they run, until it is told to stop.
struct Eyes {
    seen: Arc<Mutex<BTreeMap<String, String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Eyes {
    fn on(server: String) -> Self {
        let (seen, stop) = (Arc::new(Mutex::new(BTreeMap::new())), Arc::new(AtomicBool::new(false)));
        let (found, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                for process in children(&server) {
                    let read = |name: &str| std::fs::read(format!("/proc/{process}/{name}")).unwrap_or_default();
                    let environment = String::from_utf8_lossy(&read("environ")).replace('\0', "\n");
                    let phase = environment.lines().find_map(|line| line.strip_prefix("CODEFORGE_PHASE="));
                    if let Some(phase) = phase {
                        found.lock().unwrap().insert(phase.to_owned(), environment.clone());
                    }
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Self { seen, stop, thread: Some(thread) }
    }

    fn seen(mut self) -> BTreeMap<String, String> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
        self.seen.lock().unwrap().clone()
    }
}

/// The processes that a process started.
fn children(of: &str) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten().flatten();
    let lists = threads.map(|thread| std::fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// On a server the processes that run a fork's code hold nothing that writes, and get by: of a repository that only a token
/// reads, the second time with what was found the first time.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_server_only_the_process_that_delivers_can_write() {
    for app in [false, true] {
        let plan = if app { town().app() } else { town() };
        let town = plan.start().await;
        let change = town.person("eve").opens_fork("topic", &[("src/a.txt", "one\ntwo, or so\nthree\n")]).await;
        let look = async |head: &str| {
            town.person("ann").comments(change, &format!("/codeforge look sha={head}")).await;
            town.settles().await;
        };
        let eyes = Eyes::on(town.pid());
        look(&town.forge.tip("topic").unwrap()).await;
        let seen = eyes.seen();
        assert_eq!(town.work().await, ["look: done success"], "{:#?}", town.jobs().await);
        assert_eq!(seen.keys().collect::<Vec<_>>(), ["agent", "deliver", "gate"]);
        for (phase, environment) in &seen {
            let has = |what: &str| environment.contains(what);
            assert_eq!(has(TOKEN), phase == "deliver" && !app, "{phase}: {environment}");
            assert_eq!(
                (has(MARKER_KEY), has(MODEL_KEY)),
                (phase == "deliver", phase == "agent"),
                "{phase}: {environment}"
            );
        }
        assert_eq!(town.forge.memory().remarks.len(), 1);
        // Pushed to: what came since is looked at.
        let first = town.forge.tip("topic").unwrap();
        let files = [("src/b.txt", Some("five\n"))];
        let head = town.forge.commit_by("eve", "topic", "topic", &files);
        town.forge.keep_head(change, &head);
        look(&head).await;
        let job = town.jobs().await.pop().unwrap();
        let log = town.log_of(&job.id);
        assert!(log.contains(&format!("what came since {} is looked at", &first[..10])), "{log}");
        assert_eq!(job.conclusion, "success", "{log}");
    }
}

/// Without a sandbox a fork's code would read what the server holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_forks_code_does_not_run_without_a_sandbox() {
    let town = town().env("CODEFORGE_SANDBOX", "none").start().await;
    let change = town.person("eve").opens_fork("topic", &[("src/a.txt", "one\ntwo, or so\nthree\n")]).await;
    let head = town.forge.tip("topic").unwrap();
    town.person("ann").comments(change, &format!("/codeforge look sha={head}")).await;
    town.settles().await;
    assert_eq!(town.work().await, ["look: done denied"], "{:#?}", town.jobs().await);
    assert!(town.jobs().await[0].note.contains("without a sandbox"), "{:#?}", town.jobs().await);
    assert!(town.model.asked().is_empty(), "nothing was asked of the model");
}

/// What nobody could be told is not begun, whatever else happened since the command was given.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_review_of_a_closed_change_is_not_begun() {
    for state in ["closed", "merged"] {
        let stage = Stage::of(false).await;
        let asked = stage.given("ann", "/codeforge look");
        stage.forge.memory().changes[0].state = state;
        let nobody = ModelServer::start(Vec::new()).await;
        let clone = clone_of(&stage.forge, "refs/heads/main");
        let job = stage.job(&clone, "all", &asked, None).model(nobody.url());
        let ran = tokio::task::block_in_place(|| job.run()).ends(4, "denied");
        ran.says(&[&format!("`look` was not started: change {} is {state}", stage.number)]);
        assert!(nobody.asked().is_empty(), "nothing was asked of the model");
    }
}
