//! The phased form of `codeforge ci`: three jobs in three fresh clones with three environments. The agent's has the
//! model and no token, the gate's has neither, the one that delivers has no model; between them lie a file that anybody
//! could have written, and a line that the pipeline carries.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use codeforge::model::artifact::Word;
use codeforge::model::forge::ForgeKind;
use codeforge::model::journal::Verdict;
use codeforge::model::patch::{FILE, GONE, LINK, Put};
use common::artifacts::{edit, read, replace, tree_of, word};
use common::forge_server::{BOT, ForgeServer, TOKEN};
use common::hub::{Clone, Hub, Job, LOOK_AGAIN, Ran, found, pull_request};
use common::{ModelServer, Reply, Rule, Script};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const WORKFLOW: &str = r#"
name: mend
description: Mend it.
on: { pull_request: {} }
steps:
  implement: { mode: coder, prompt: "Mend it: {{ event.change.title }}", gates: [tests] }
deliver: { as: branch, branch: "codeforge/mend-{{ event.change.number }}", title: "Mend {{ event.change.number }}" }
"#;
const CONFIG: &str = r#"
gates:
  tests: { run: "sh tests/check.sh", on_fail: retry }
  lint: { run: "test -f app.txt", on_fail: fail }
budget: { per_run_tokens: 100000 }
"#;

struct Stage {
    hub: Hub,
    base: String,
    head: String,
    event: Value,
}

impl Stage {
    /// A change that broke something; its head brings a gate of its own, which counts for nothing.
    fn new() -> Self {
        Self::with(CONFIG)
    }

    fn with(config: &str) -> Self {
        let hub = Hub::with(&[
            (".codeforge/workflows/mend.yml", WORKFLOW),
            (".codeforge/config.yml", config),
            ("app.txt", "fine, mended\n"),
            ("tests/check.sh", "grep -q mended app.txt\n"),
            ("tests/test_app.py", "def test_app():\n    assert 'mended' in open('app.txt').read()\n"),
        ]);
        let base = hub.git(&["rev-parse", "main"]);
        let lax = config.replace("sh tests/check.sh", "true");
        let head = hub.commit("topic", &[("app.txt", "broken\n"), (".codeforge/config.yml", &lax)]);
        hub.pull(7, &head, &base);
        let event = pull_request(7, "synchronize", &head, &base);
        Self { hub, base, head, event }
    }

    fn clone(&self) -> Clone {
        self.hub.shallow("refs/pull/7/merge")
    }

    fn job<'a>(&self, clone: &'a Clone, phase: &str) -> Job<'a> {
        self.hub.job(clone, "pull_request", &self.event).env("CODEFORGE_PHASE", phase)
    }

    /// The agent's job: its clone, with the artifact.
    async fn agent(&self) -> PathBuf {
        let server = ModelServer::start(script("mended")).await;
        let clone = self.clone();
        let ran = self.job(&clone, "agent").model(server.url()).run().ends(0, "success");
        let file = PathBuf::from(ran.outputs()["artifact"].as_str().unwrap());
        assert!(file.starts_with(clone.aside()), "{file:?}");
        assert_eq!(clone.git(&["branch", "--list", "codeforge/*"]), "", "nothing is delivered");
        let kept = tempfile::tempdir().unwrap().keep().join("artifact.json");
        std::fs::copy(file, &kept).unwrap();
        kept
    }

    /// A clone with the artifact where the next job looks for it.
    fn given(&self, artifact: &PathBuf) -> (Clone, PathBuf) {
        let clone = self.clone();
        let file = clone.aside().join("codeforge/artifact.json");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::copy(artifact, &file).unwrap();
        (clone, file)
    }

    fn gate(&self, clone: &Clone) -> Ran {
        self.job(clone, "gate").run()
    }

    fn deliver(&self, clone: &Clone, word: &str) -> Ran {
        self.job(clone, "deliver")
            .env("CODEFORGE_FORGE_TOKEN", "token-0123456789")
            .env("CODEFORGE_GATE_WORD", word)
            .run()
    }
}

fn script(to: &str) -> Script {
    vec![
        Rule::when()
            .system("You are the coder")
            .turn(0)
            .reply(Reply::call("edit_file", json!({ "path": "app.txt", "old": "broken", "new": to }))),
        Rule::when().reply(Reply::call("finish", json!({ "summary": "It is mended" }))).always(),
    ]
}

/// Everything in a clone that a delivery could write.
fn written(clone: &Clone) -> (String, String) {
    (clone.git(&["for-each-ref", "refs/heads", "refs/remotes"]), clone.git(&["status", "--porcelain"]))
}

#[tokio::test(flavor = "multi_thread")]
async fn three_jobs_that_trust_nobody_deliver_what_the_first_one_made() {
    let stage = Stage::new();
    let artifact = stage.agent().await;

    let (clone, _) = stage.given(&artifact);
    let gated = stage.gate(&clone).ends(0, "success").says(&["gate `tests`: pass", "gate `lint`: pass"]);
    let said = gated.outputs()["gate-word"].as_str().unwrap().to_owned();
    assert_eq!(said, word(&read(&artifact)).to_string(), "one line, with each gate and its definition");
    assert!(gated.runner("output").contains(&said) && gated.runner("summary").contains("| mend | tests | pass |"));
    // What the gate's job leaves for machines: its gates, and nothing of what the agent's job said.
    let junit = gated.report("junit.xml");
    assert!(junit.contains("tests=\"2\"") && junit.contains("failures=\"0\""), "{junit}");
    assert!(junit.contains("\"mend.gates.tests\"") && junit.contains("\"mend.gates.lint\""), "{junit}");
    assert!(!junit.contains("implement") && !junit.contains("It is mended"), "{junit}");
    assert_eq!(gated.report("summary.md"), gated.runner("summary"));
    assert!(!gated.report.join("results.sarif").exists(), "a gate finds nothing at lines");

    let (clone, _) = stage.given(&artifact);
    let ran = stage.deliver(&clone, &said).ends(0, "success");
    assert_eq!(ran.outputs()["branch-name"], "codeforge/mend-7");
    assert_eq!(ran.outputs()["run-id"], read(&artifact).part.run.as_str());
    assert_eq!(clone.git(&["show", "codeforge/mend-7:app.txt"]), "mended");
    assert_eq!(clone.git(&["rev-parse", "codeforge/mend-7~1"]), stage.head, "on the change's head");
    assert!(ran.runner("summary").contains("mend"), "{}", ran.runner("summary"));
    assert!(!ran.said().contains("a model's key is set"), "{}", ran.said());
    // What the writing job leaves for machines: the run, with the gates as the other job judged them.
    let junit = ran.report("junit.xml");
    assert!(junit.contains("name=\"implement (coder)\"") && junit.contains("\"mend.gates.tests\""), "{junit}");
    let sarif: Value = serde_json::from_str(&ran.report("results.sarif")).unwrap();
    assert_eq!(
        (sarif["version"].as_str(), sarif["runs"][0]["results"].as_array().map(Vec::len)),
        (Some("2.1.0"), Some(0))
    );
    assert_eq!(serde_json::from_str::<Value>(&ran.report("gl-code-quality-report.json")).unwrap(), json!([]));
    let summary = ran.report("summary.md");
    assert!(summary.contains("| `app.txt` | changed |") && summary.contains("| `tests` | the result |"), "{summary}");
    let outputs: Value = serde_json::from_str(&ran.report("outputs.json")).unwrap();
    assert_eq!((&outputs["conclusion"], &outputs["branch-name"]), (&json!("success"), &json!("codeforge/mend-7")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_does_not_pass_the_trusted_gates_goes_nowhere() {
    let stage = Stage::new();
    let artifact = stage.agent().await;
    let (clone, file) = stage.given(&artifact);
    // Somebody between the jobs makes the change wrong, and takes a test away.
    clone.git(&["checkout", "--quiet", &stage.head_in(&clone)]);
    replace(&file, |patch| {
        patch.files[0].content = b"broken again\n".to_vec();
        let old = Some((FILE, clone.git(&["rev-parse", "HEAD:tests/test_app.py"])));
        patch.files.push(Put { path: b"tests/test_app.py".to_vec(), old, mode: GONE, content: Vec::new() });
        patch.tree = tree_of(&clone.path(), patch);
    });
    let gated = stage.gate(&clone).ends(1, "failure").says(&[
        "gate `tests`: fail",
        "gate `lint`: pass",
        "WARNING: the change weakens its own checks: tests/test_app.py takes tests away: a test file of 2 lines is deleted",
    ]);
    let said = gated.outputs()["gate-word"].as_str().unwrap().to_owned();
    assert!(said.contains("tests=fail:"), "{said}");
    let (junit, summary) = (gated.report("junit.xml"), gated.report("summary.md"));
    assert!(junit.contains("failures=\"1\"") && junit.contains("<failure"), "{junit}");
    assert!(summary.contains("| mend | tests | fail |") && summary.contains("takes tests away"), "{summary}");
    let before = written(&clone);
    stage.deliver(&clone, &said).ends(4, "denied").says(&["`tests` did not pass"]);
    assert_eq!(written(&clone), before);
}

impl Stage {
    /// The change's head, fetched into a clone.
    fn head_in(&self, clone: &Clone) -> String {
        clone.git(&["fetch", "--quiet", "--depth=1", "origin", &self.head]);
        self.head.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_between_the_jobs_decides_nothing() {
    let stage = Stage::new();
    let artifact = stage.agent().await;
    let honest = word(&read(&artifact));
    let new = |path: &str, mode, content: &str| Put { path: path.into(), old: None, mode, content: content.into() };
    type Forgery<'a> = Box<dyn FnOnce(&PathBuf, &Clone) -> Option<Word> + 'a>;
    let claim = |pointer: &'static str, value: Value| -> Forgery<'_> {
        Box::new(move |file, _| {
            edit(file, |it| *it.pointer_mut(&format!("/runs/0/claims/{pointer}")).unwrap() = value);
            None
        })
    };
    let with = |put: Put| -> Forgery<'_> {
        let stage = &stage;
        Box::new(move |file, clone| {
            stage.head_in(clone);
            clone.git(&["checkout", "--quiet", &stage.head]);
            Some(replace(file, |patch| {
                patch.files.push(put);
                patch.files.sort_by(|a, b| a.path.cmp(&b.path));
                patch.tree = tree_of(&clone.path(), patch);
            }))
        })
    };
    let says = |change: Box<dyn FnOnce(&mut Word)>| -> Forgery<'_> {
        let mut honest = honest.clone();
        Box::new(move |_, _| {
            change(&mut honest);
            Some(honest)
        })
    };
    let cases: Vec<(&str, i32, &str, Forgery<'_>)> = vec![
        (
            "says pass",
            2,
            "unknown field `verdict`",
            Box::new(|file, _| {
                edit(file, |it| it["runs"][0]["verdict"] = json!("pass"));
                None
            }),
        ),
        (
            "push-to-branch",
            4,
            "its delivery is `push-to-branch`, and should be `branch`",
            claim("kind", json!("push-to-branch")),
        ),
        ("always", 4, "its delivery's condition is `always`", claim("when", json!("always"))),
        ("another branch", 4, "its branch is `main`, and should be `codeforge/mend-7`", claim("branch", json!("main"))),
        ("another repository", 4, "its repository is `eve/widgets`", claim("repository", json!("eve/widgets"))),
        ("another workflow", 4, "its workflow is `fix`, and should be `mend`", claim("workflow", json!("fix"))),
        (
            "another event",
            4,
            "its event is `pull_request synchronize change 8`",
            claim("event", json!("pull_request synchronize change 8")),
        ),
        ("another policy", 4, "its policy is `lax`", claim("policy", json!("lax"))),
        ("a gate less", 4, "its list of required gates", claim("gates", json!({}))),
        (
            "another commit",
            4,
            "it was made on the commit 111111111111",
            Box::new(|file, _| {
                edit(file, |it| it["runs"][0]["commit"] = json!("1".repeat(40)));
                None
            }),
        ),
        (
            "another change",
            4,
            "the gate's word is about another change",
            Box::new(|file, _| {
                replace(file, |patch| patch.files[0].content = b"mended, and more\n".to_vec());
                None
            }),
        ),
        ("no word", 4, "there is no gate's word for it", Box::new(|_, _| None)),
        ("a word for another change", 4, "about another change", says(Box::new(|word| word.patch = "0".repeat(64)))),
        ("a gate was not run", 4, "`lint` was not run", says(Box::new(|word| drop(word.gates.remove("lint"))))),
        (
            "the head's own gate",
            4,
            "`tests` was run with another definition",
            says(Box::new(|word| {
                word.gates.insert("tests".into(), (Verdict::Pass, "1".repeat(32)));
            })),
        ),
        ("CI files", 4, "is a protected path", with(new(".github/workflows/x.yml", FILE, "on: push\n"))),
        ("a way out", 4, "is a symbolic link to `../../etc/passwd`", with(new("link", LINK, "../../etc/passwd"))),
        (
            "a submodule",
            4,
            "is a submodule",
            Box::new(move |file, _| Some(replace(file, |patch| patch.files.push(new("sub", 0o160_000, ""))))),
        ),
        (
            "cut",
            2,
            "it is cut off",
            Box::new(|file, _| {
                let bytes = std::fs::read(file).unwrap();
                std::fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
                None
            }),
        ),
        (
            "100 MB",
            2,
            "larger than the 32 MiB",
            Box::new(|file, _| {
                std::fs::File::create(file).unwrap().set_len(100 << 20).unwrap();
                None
            }),
        ),
        (
            "nothing",
            2,
            "cannot be read",
            Box::new(|file, _| {
                std::fs::remove_file(file).unwrap();
                None
            }),
        ),
    ];
    for (what, code, words, forge) in cases {
        let (clone, file) = stage.given(&artifact);
        let word = match (what, forge(&file, &clone)) {
            ("no word", _) => String::new(),
            (_, word) => word.unwrap_or_else(|| honest.clone()).to_string(),
        };
        let before = written(&clone);
        let ran = stage.deliver(&clone, &word);
        let conclusion = if code == 2 { "misconfigured" } else { "denied" };
        assert!(ran.said().contains(words), "{what}: `{words}`\n{}", ran.said());
        ran.ends(code, conclusion);
        assert_eq!(written(&clone), before, "{what}: nothing is written");
    }
    // The gate's job looks at the artifact in the same way, before it runs a thing.
    let (clone, file) = stage.given(&artifact);
    edit(&file, |it| it["runs"][0]["claims"]["kind"] = json!("push-to-branch"));
    stage.gate(&clone).ends(4, "denied").says(&["its delivery is `push-to-branch`"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn trust_13_a_push_between_the_jobs_cancels() {
    let mut stage = Stage::new();
    let artifact = stage.agent().await;
    let honest = word(&read(&artifact)).to_string();
    let (clone, _) = stage.given(&artifact);
    stage.hub.git(&["checkout", "--quiet", "topic"]);
    stage.hub.git(&["commit", "--quiet", "--amend", "--message", "pushed over"]);
    let before = written(&clone);
    stage.deliver(&clone, &honest).ends(4, "denied").says(&["cancelled, nothing was written", "change 7 is at"]);
    assert_eq!(written(&clone), before);
    // A job of the newer push does not take the older one's artifact.
    let newer = stage.hub.git(&["rev-parse", "topic"]);
    stage.hub.pull(7, &newer, &stage.base);
    stage.event = pull_request(7, "synchronize", &newer, &stage.base);
    let (clone, _) = stage.given(&artifact);
    stage.deliver(&clone, &honest).ends(4, "denied").says(&["it was made on the commit"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_to_run_no_job_does_and_a_fork_gets_nothing_written() {
    let stage = Stage::new();
    let clone = stage.clone();
    let push = common::hub::push("other", &stage.base, &stage.head);
    for phase in ["agent", "gate", "deliver"] {
        let job = stage.hub.job(&clone, "push", &push).env("CODEFORGE_PHASE", phase);
        job.run().ends(0, "skipped").says(&["nothing here runs on this event"]);
    }
    let mut fork = pull_request(7, "synchronize", &stage.head, &stage.base);
    fork["pull_request"]["head"]["repo"] = json!({ "id": 2, "full_name": "eve/widgets" });
    for phase in ["agent", "gate", "deliver"] {
        let job = stage.hub.job(&clone, "pull_request", &fork).env("CODEFORGE_PHASE", phase);
        job.run().ends(0, "skipped").says(&["comes from a fork", &format!("sha={}", stage.head)]);
    }
}

/// A workflow without a model: what becomes of a change at a forge.
const SED: &str = r#"
name: mend
on: { pull_request: {} }
policy: open
steps: { work: { run: "sed -i s/broken/mended/ app.txt", gates: [tests] } }
deliver: { as: KIND, title: "Mended" }
"#;
const OPEN: &str = "name: open\nrules:\n  - { tool: \"*\", decision: allow }\ndefault: allow\n";

struct AtForge {
    forge: ForgeServer,
    number: u64,
    head: String,
    /// Not the change, but the time table of the default branch.
    at_night: bool,
}

impl AtForge {
    async fn new(kind: &str) -> Self {
        let workflow = SED.replace("KIND", kind);
        let files = [
            (".codeforge/workflows/mend.yml", workflow.as_str()),
            (".codeforge/policies/open.yml", OPEN),
            (".codeforge/config.yml", "gates:\n  tests: { run: \"grep -q mended app.txt\", on_fail: fail }\n"),
            ("app.txt", "fine\n"),
        ];
        let forge = ForgeServer::with(ForgeKind::Github, &files).await;
        let head = forge.commit_by("ann", "topic", "main", &[("app.txt", Some("broken\n"))]);
        let number = forge.open("ann", "topic", "Please.");
        Self { forge, number, head, at_night: false }
    }

    /// A job in a fresh clone; `rights`: with the token.
    fn job(&self, phase: &str, rights: bool, artifact: Option<&Path>, word: &str) -> (Clone, Ran) {
        self.job_of(phase, rights, artifact, word, None)
    }

    fn job_of(
        &self,
        phase: &str,
        rights: bool,
        artifact: Option<&Path>,
        word: &str,
        model: Option<&ModelServer>,
    ) -> (Clone, Ran) {
        let clone = Clone::empty();
        let bare = format!("file://{}", self.forge.bare().display());
        clone.git(&["init", "--quiet"]);
        clone.git(&["fetch", "--quiet", &bare, "main:refs/remotes/origin/main", "topic:refs/remotes/origin/topic"]);
        clone.git(&["checkout", "--quiet", "--detach", &self.head]);
        clone.git(&["remote", "add", "origin", &self.forge.git_url()]);
        let file = clone.aside().join("codeforge/artifact.json");
        if let Some(artifact) = artifact {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::copy(artifact, &file).unwrap();
        }
        let job = Job::bare(&clone);
        let change = format!("refs/pull/{}/merge", self.number);
        let (event, at, payload) = match self.at_night {
            true => {
                let repository = json!({ "id": 1, "full_name": "acme/widgets", "default_branch": "main" });
                let payload = json!({ "schedule": "0 2 * * *", "repository": repository });
                ("schedule", "refs/heads/main", payload)
            }
            false => {
                let main = self.forge.tip("main").unwrap();
                ("pull_request", change.as_str(), pull_request(self.number, "opened", &self.head, &main))
            }
        };
        job.file("event.json", &payload.to_string());
        let server = self.forge.git_url().replace("/acme/widgets.git", "");
        let job = job
            .env("GITHUB_ACTIONS", "true")
            .env("GITHUB_EVENT_NAME", event)
            .env("GITHUB_EVENT_PATH", clone.aside().join("event.json").to_str().unwrap())
            .env("GITHUB_REPOSITORY", "acme/widgets")
            .env("GITHUB_SERVER_URL", &server)
            .env("GITHUB_API_URL", &self.forge.api())
            .env("GITHUB_SHA", &self.head)
            .env("GITHUB_REF", at)
            .env("GITHUB_RUN_ID", "77")
            .env("RUNNER_TEMP", clone.aside().to_str().unwrap())
            .env("CODEFORGE_PHASE", phase)
            .env("CODEFORGE_GATE_WORD", word);
        let job = if rights { job.env("CODEFORGE_FORGE_TOKEN", TOKEN) } else { job };
        let job = match model {
            Some(model) => job.model(model.url()),
            None => job,
        };
        let ran = tokio::task::block_in_place(|| job.run());
        (clone, ran)
    }

    /// The agent's and the gate's job: the artifact's clone, its file, the word. Neither writes.
    fn judged(&self) -> (Clone, PathBuf, String) {
        let (kept, ran) = self.job("agent", false, None, "");
        let file = PathBuf::from(ran.ends(0, "success").outputs()["artifact"].as_str().unwrap());
        let (_clone, ran) = self.job("gate", false, Some(&file), "");
        let word = ran.ends(0, "success").outputs()["gate-word"].as_str().unwrap().to_owned();
        let wrote = self.forge.asked().into_iter().filter(|asked| asked.method != "GET").count();
        assert_eq!(wrote, 0, "nobody has written anything");
        (kept, file, word)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_job_that_may_write_opens_the_change_and_pushes_to_no_moved_branch() {
    let stage = AtForge::new("pull_request").await;
    let (_kept, file, word) = stage.judged();
    let (_clone, ran) = stage.job("deliver", true, Some(&file), &word);
    let outputs = ran.ends(0, "success").outputs();
    let branch = outputs["branch-name"].as_str().unwrap();
    assert!(branch.starts_with("codeforge/mend/"), "{branch}");
    assert_eq!(stage.forge.file(branch, "app.txt").as_deref().map(str::trim), Some("mended"));
    let change = stage.forge.memory().changes.last().cloned().unwrap();
    assert!(change.draft && change.title == "Mended", "{change:?}");
    assert!(outputs["pull-request-url"].as_str().unwrap().ends_with(&change.number.to_string()), "{outputs}");
    // Once more: the same branch, the same change.
    let (_clone, ran) = stage.job("deliver", true, Some(&file), &word);
    assert_eq!(ran.ends(0, "success").outputs()["branch-name"], branch);
    assert_eq!(stage.forge.memory().changes.len(), 2);

    let stage = AtForge::new("push-to-branch").await;
    let (_kept, file, word) = stage.judged();
    let moved = stage.forge.commit_by("ann", "topic", "topic", &[("other.txt", Some("x\n"))]);
    let (_clone, ran) = stage.job("deliver", true, Some(&file), &word);
    ran.ends(4, "denied").says(&["cancelled, nothing was written"]);
    assert_eq!(stage.forge.tip("topic"), Some(moved));

    let stage = AtForge::new("push-to-branch").await;
    let (_kept, file, word) = stage.judged();
    let (_clone, ran) = stage.job("deliver", false, Some(&file), &word);
    ran.ends(5, "unavailable");
    assert_eq!(stage.forge.tip("topic"), Some(stage.head.clone()), "without the token nothing is written");
    let (_clone, ran) = stage.job("deliver", true, Some(&file), &word);
    ran.ends(0, "success");
    assert_eq!(stage.forge.file("topic", "app.txt").as_deref().map(str::trim), Some("mended"));

    let stage = AtForge::new("comment").await;
    let (_kept, file, word) = stage.judged();
    let (_clone, ran) = stage.job("deliver", true, Some(&file), &word);
    ran.ends(0, "success");
    assert_eq!(stage.forge.tip("topic"), Some(stage.head.clone()), "a comment carries no change");
    assert!(stage.forge.asked().iter().any(|asked| asked.method == "POST" && asked.path.ends_with("/comments")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_push_is_reviewed_from_where_the_first_review_ended_and_the_writing_job_says_what_stands() {
    let files = [(".codeforge/workflows/look.yml", LOOK_AGAIN), ("src/a.txt", "one\n"), ("src/b.txt", "one\n")];
    let forge = ForgeServer::with(ForgeKind::Github, &files).await;
    let head = forge.commit_by("ann", "topic", "main", &[("src/a.txt", Some("two\n")), ("src/b.txt", Some("three\n"))]);
    let number = forge.open("ann", "topic", "Please.");
    let mut stage = AtForge { forge, number, head, at_night: false };
    // The agent's job may read what our comment remembers, and writes nothing.
    let look = async |stage: &AtForge, rule: Rule| {
        let model = ModelServer::start(vec![rule]).await;
        let written = stage.forge.memory().written;
        let (clone, ran) = stage.job_of("agent", true, None, "", Some(&model));
        let file = PathBuf::from(ran.ends(0, "success").outputs()["artifact"].as_str().unwrap());
        model.finished();
        assert_eq!(stage.forge.memory().written, written, "the agent's job writes nothing");
        (clone, file)
    };
    let rule = Rule::when().user("SINCE[null] EARLIER[null]").user("+two").user("+three");
    let (_kept, file) = look(&stage, rule.reply(found(&[("src/a.txt", 1), ("src/b.txt", 1)]))).await;
    let (_clone, ran) = stage.job("deliver", true, Some(&file), "");
    ran.ends(0, "success");
    assert_eq!(stage.forge.memory().remarks.len(), 2);
    assert_eq!(stage.forge.memory().comments.len(), 1);

    let first = std::mem::take(&mut stage.head);
    stage.head = stage.forge.commit_by("ann", "topic", "topic", &[("src/a.txt", Some("fixed\n"))]);
    let shown = first.clone();
    let rule = Rule::when()
        .matches("what came since, and what was found", move |asked| {
            let user = asked.user();
            user.contains(&shown)
                && user.contains("+fixed")
                && !user.contains("+three")
                && user.contains("src/b.txt is wrong.")
        })
        .reply(found(&[("src/b.txt", 1)]));
    let (_kept, file) = look(&stage, rule).await;
    // Between the jobs somebody says that what stands is new, under another name, and that it is settled.
    edit(&file, |value| {
        let finding = &mut value["runs"][0]["findings"][0];
        finding["fingerprint"] = json!("0123456789abcdef");
        finding["standing"] = json!("resolved");
    });
    let (_clone, ran) = stage.job("deliver", true, Some(&file), "");
    let ran = ran.ends(0, "success").says(&["0 remarks made, 1 were there, 1 resolved"]);
    let memory = stage.forge.memory();
    assert_eq!((memory.remarks.len(), memory.comments.len()), (2, 1), "one comment, however often");
    let body = &memory.comments[0].body;
    assert!(body.contains(&format!("since `{}`", &first[..7])) && body.contains("1 resolved"), "{body}");
    assert!(body.contains("still there") && !body.contains("*(new)*"), "{body}");
    assert_eq!(memory.remarks.iter().map(|remark| remark.resolved).collect::<Vec<_>>(), [true, false]);
    // What stands is in the reports, in every form; what is resolved is a problem no more.
    let sarif: Value = serde_json::from_str(&ran.report("results.sarif")).unwrap();
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    let places: Vec<&str> = results
        .iter()
        .filter_map(|it| it.pointer("/locations/0/physicalLocation/artifactLocation/uri").and_then(Value::as_str))
        .collect();
    assert_eq!(places, ["src/b.txt"], "{sarif:#}");
    let quality: Value = serde_json::from_str(&ran.report("gl-code-quality-report.json")).unwrap();
    assert_eq!(quality[0]["location"]["path"], "src/b.txt", "{quality:#}");
    assert_eq!(quality.as_array().map(Vec::len), Some(1), "{quality:#}");
    assert!(ran.report("summary.md").contains("src/b.txt is wrong."), "{}", ran.report("summary.md"));
}

/// A night in phases.
const NIGHT: &str = r#"
name: night
on: { schedule: [{ cron: "0 2 * * *" }] }
policy: plan-readonly
steps:
  review:
    mode: reviewer
    prompt: "Look at it.{% if event.change.earlier %} EARLIER[{{ event.change.earlier }}]{% endif %}"
    output: { schema: review }
deliver: { as: issue, title: Found at night }
"#;

/// The job that writes cannot know what the agent's job was told: there a finding is gone with its line, not by silence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_writing_job_keeps_the_issue_and_takes_nobodys_word_for_what_is_gone() {
    let files = [(".codeforge/workflows/night.yml", NIGHT), ("src/a.txt", "one\n"), ("src/b.txt", "one\n")];
    let forge = ForgeServer::with(ForgeKind::Github, &files).await;
    let head = forge.commit_by("ann", "topic", "main", &[]);
    let mut stage = AtForge { forge, number: 1, head, at_night: true };
    let night = async |stage: &mut AtForge, rule: Rule| {
        stage.head = stage.forge.tip("main").unwrap();
        let model = ModelServer::start(vec![rule]).await;
        let (_kept, ran) = stage.job_of("agent", true, None, "", Some(&model));
        let file = PathBuf::from(ran.ends(0, "success").outputs()["artifact"].as_str().unwrap());
        model.finished();
        let (_clone, ran) = stage.job("deliver", true, Some(&file), "");
        ran.ends(0, "success");
        let memory = stage.forge.memory();
        assert_eq!(memory.issues.len(), 1);
        memory.issues[0].clone()
    };
    let first = night(&mut stage, Rule::any(found(&[("src/a.txt", 1), ("src/b.txt", 1)]))).await;
    assert!(first.body.contains("**2 findings: 2 new**") && first.title == "Found at night", "{}", first.body);
    stage.forge.commit_by("ann", "main", "main", &[("src/a.txt", Some("fixed\n"))]);
    let told = Rule::when().user("EARLIER[").user("src/a.txt:1 (high): src/a.txt is wrong.").reply(found(&[]));
    let second = night(&mut stage, told).await;
    assert!(second.body.contains("**1 finding: 1 still there; 1 gone**"), "{}", second.body);
    stage.forge.commit_by("ann", "main", "main", &[("src/b.txt", None)]);
    let third = night(&mut stage, Rule::any(found(&[]))).await;
    assert_eq!((third.state, third.closed_by.as_deref()), ("closed", Some(BOT)), "{}", third.body);
}
