//! Commands on changes in three processes, above all on those of forks: a maintainer's command names its commit, the agent's job looks at it, the gate's
//! runs its code without a key, the one that delivers says what was found. Nothing of the repository is written.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use codeforge::model::forge::ForgeKind;
use common::forge_server::{BOT, ForgeServer};
use common::hub::{Clone, Job, Ran, clone_of, comment, on_github, whole_clone_of};
use common::{ModelServer, Reply, Rule};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

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

async fn reviewer() -> ModelServer {
    let finding = json!({ "file": "src/a.txt", "line": 1, "severity": "high", "what": "It is two, not one." });
    let output = json!({ "approved": false, "summary": "No.", "findings": [finding] });
    let finish = Reply::call("finish", json!({ "summary": "Looked.", "output": output }));
    ModelServer::start(vec![Rule::when().user("+two").reply(finish)]).await
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
