//! A run that is cut anywhere goes on to the same end: nothing finished is done again, no paid call is made twice.

mod common;

use async_trait::async_trait;
use codeforge::adapter::{clock::SystemClock, gateway, git, sandbox, sqlite};
use codeforge::engine::{Engine, Outcome};
use codeforge::model::account::Ending;
use codeforge::model::budget::{Allowance, Scope, Standing};
use codeforge::model::chat::{Bill, ChatAnswer, ChatRequest, Message, ModelError, ModelRef, RawCall, StopReason};
use codeforge::model::exec::DriverKind;
use codeforge::model::experience::Experience;
use codeforge::model::id::RunId;
use codeforge::model::journal::{Input, Row, RowBody};
use codeforge::model::progress::Progress;
use codeforge::model::usage::{CostSource, NanoUsd, Price, Usage};
use codeforge::plan;
use codeforge::port::model::ChatModel;
use codeforge::port::store::{Claim, Durable, Fence, Opening, RunHead, Store, StoreError, Summary};
use codeforge::port::watch::Watch;
use codeforge::workflow::{self, Source};
use common::{ModelServer, Reply, Rule, TestRepo, eventually, ok, spoken};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const WORKFLOW: &str = r#"
name: work
inputs: { task: { type: string, required: true } }
policy: open
env: { LOG: "LOGFILE" }
steps:
  before: { run: "echo before >> \"$LOG\"; echo generated > generated.txt" }
  code:
    mode: coder
    needs: [before]
    prompt: "{{ inputs.task }}"
    gates: [check]
    attempts: 2
  look:
    mode: reviewer
    needs: [code]
    prompt: "Look. {{ steps.code.text }}"
  after: { run: "echo after >> \"$LOG\"; cat value.txt >> generated.txt", needs: [look] }
gates:
  check: { run: "echo check >> \"$LOG\"; grep -q right value.txt", on_fail: retry }
deliver: { as: patch, title: "Right" }
"#;

const POLICY: &str = r#"
name: open
rules: [{ tool: "*", decision: allow }]
default: allow
limits: { max_steps: 20, max_cost_usd: 5 }
"#;

/// Answers by what it is asked, so that a call that is made again is answered again; counts.
#[derive(Default)]
struct Scripted(AtomicUsize);

#[async_trait]
impl ChatModel for Scripted {
    async fn ask(
        &self,
        request: &ChatRequest,
        _: &(dyn for<'a> Fn(&'a str) + Send + Sync),
    ) -> Result<ChatAnswer, ModelError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let system = matches!(&request.messages[0], Message::System { text } if text.contains("You are the coder"));
        let again = request
            .messages
            .iter()
            .any(|it| matches!(it, Message::User { text } if text.contains("This is attempt 2")));
        let turn = request.messages.iter().filter(|it| matches!(it, Message::Assistant { .. })).count();
        let value = if again { "right\n" } else { "wrong\n" };
        let (name, arguments) = match (system, turn) {
            (true, 0) => ("write_file", json!({ "path": "value.txt", "content": value })),
            (true, 1) => ("shell", json!({ "command": "sh log.sh && tr a-z A-Z < value.txt > upper.txt" })),
            (false, 0) => ("read_file", json!({ "path": "value.txt" })),
            _ => ("finish", json!({ "summary": "done" })),
        };
        Ok(ChatAnswer {
            reasoning: Vec::new(),
            text: String::new(),
            calls: vec![RawCall { id: "c1".into(), name: name.into(), arguments: arguments.to_string() }],
            stop: StopReason::ToolCalls,
            bill: Bill {
                model: "scripted".into(),
                usage: Some(Usage { input: 100, output: 10, ..Usage::default() }),
                cost: Some(NanoUsd::from_usd(0.001)),
                source: CostSource::Provider,
            },
            requests: 1,
        })
    }
}

/// Cuts the engine off before or after its n-th write to the journal.
struct Cut {
    inner: Arc<dyn Store>,
    at: usize,
    after: bool,
    writes: AtomicUsize,
}

#[async_trait]
impl Store for Cut {
    async fn create(&self, head: &RunHead, rows: &[Row], owner: &str) -> Result<Fence, StoreError> {
        self.inner.create(head, rows, owner).await
    }
    async fn admit(
        &self,
        head: &RunHead,
        claim: &Claim,
        first: &(dyn for<'a> Fn(&'a [Allowance]) -> Opening + Send + Sync),
        owner: &str,
    ) -> Result<Fence, StoreError> {
        self.inner.admit(head, claim, first, owner).await
    }
    async fn readmit(&self, run: &RunId, fence: Fence, claim: &Claim) -> Result<Vec<Allowance>, StoreError> {
        self.inner.readmit(run, fence, claim).await
    }
    async fn standing(&self, scope: Scope, prefix: &str) -> Result<Vec<Standing>, StoreError> {
        self.inner.standing(scope, prefix).await
    }
    async fn append_as(
        &self,
        durable: Durable,
        run: &RunId,
        fence: Fence,
        rows: &[Row],
        summary: &Summary,
    ) -> Result<(), StoreError> {
        let now = self.writes.fetch_add(1, Ordering::SeqCst) + 1;
        let cut = || StoreError::Database { path: "test".into(), message: "cut".into() };
        if now == self.at && !self.after {
            return Err(cut());
        }
        self.inner.append_as(durable, run, fence, rows, summary).await?;
        if now == self.at { Err(cut()) } else { Ok(()) }
    }
    async fn take(&self, run: &RunId, owner: &str) -> Result<Fence, StoreError> {
        self.inner.take(run, owner).await
    }
    async fn interrupt(&self, run: &RunId) -> Result<bool, StoreError> {
        self.inner.interrupt(run).await
    }
    async fn release(&self, run: &RunId, fence: Fence) -> Result<(), StoreError> {
        self.inner.release(run, fence).await
    }
    async fn rows(&self, run: &RunId) -> Result<Vec<Row>, StoreError> {
        self.inner.rows(run).await
    }
    async fn runs(&self, limit: u32) -> Result<Vec<(RunHead, Summary)>, StoreError> {
        self.inner.runs(limit).await
    }
    async fn find(&self, prefix: &str) -> Result<RunHead, StoreError> {
        self.inner.find(prefix).await
    }
    async fn put_soon(&self, key: &str, value: &str) -> Result<(), StoreError> {
        self.inner.put_soon(key, value).await
    }
    async fn put(&self, key: &str, value: &str) -> Result<(), StoreError> {
        self.inner.put(key, value).await
    }
    async fn get(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.inner.get(key).await
    }
    async fn experience(&self) -> Result<Vec<Experience>, StoreError> {
        self.inner.experience().await
    }
    async fn remember(&self, new: &[Experience], gone: &[String]) -> Result<(), StoreError> {
        self.inner.remember(new, gone).await
    }
}

struct Nobody;
impl Watch for Nobody {
    fn saw(&self, _: &Progress) {}
}

/// A folder that commands can write to, whoever they run as: they have a user of their own where tests run as root.
fn outside() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    folder
}

struct Fixture {
    repo: TestRepo,
    log: PathBuf,
    _outside: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let outside = outside();
        Self {
            repo: TestRepo::with(&[("log.sh", "echo shell >> \"$LOG\"\n")]),
            log: outside.path().join("log"),
            _outside: outside,
        }
    }

    fn plan(&self) -> codeforge::model::plan::Plan {
        let mut sources = workflow::builtin();
        for (path, text) in [("workflows/work.yml", WORKFLOW), ("policies/open.yml", POLICY)] {
            let text = text.replace("LOGFILE", self.log.to_str().unwrap());
            sources.push(Source { path: format!(".codeforge/{path}"), text, builtin: false });
        }
        let library = workflow::load(&sources, &|_| None);
        let model = ModelRef {
            name: "scripted".into(),
            provider: "test".into(),
            model: "scripted".into(),
            base_url: None,
            api_key: None,
            price: Some(Price {
                input_per_mtok: 1.0,
                output_per_mtok: 1.0,
                cache_read_per_mtok: None,
                cache_write_per_mtok: None,
            }),
            context_window: 100_000,
            max_output: 1000,
            tools: true,
            ..ModelRef::default()
        };
        let request = plan::Request {
            workflow: "work".into(),
            inputs: [("task".to_owned(), "Make it right".to_owned())].into(),
            driver: Some(DriverKind::None),
            models: vec![model],
            ..plan::Request::default()
        };
        plan::compile(&library, &request).unwrap_or_else(|problems| panic!("{problems:#?}"))
    }

    /// Runs or resumes on a runtime of its own, which is gone afterwards with all that ran on it.
    fn drive(&self, model: &Arc<Scripted>, cut: Option<(usize, bool)>, resume: bool) -> Result<Outcome, String> {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let done = runtime.block_on(async {
            let repository = git::open(self.repo.path()).unwrap();
            let store = sqlite::open(repository.state_dir(), Arc::new(SystemClock)).await.unwrap();
            let (at, after) = cut.unwrap_or((usize::MAX, false));
            let store = Arc::new(Cut { inner: store, at, after, writes: AtomicUsize::new(0) });
            let host = sandbox::Host { path: "/usr/bin:/bin".into(), ..sandbox::Host::default() };
            let base = repository.base().unwrap();
            let engine = Engine {
                store,
                repository,
                drivers: sandbox::drivers(&host),
                models: Arc::clone(model) as Arc<dyn ChatModel>,
                gateway: Arc::new(gateway::HttpGateway::new(gateway::Times::default(), Arc::new(SystemClock))),
                clock: Arc::new(SystemClock),
                watch: Arc::new(Nobody),
                owner: sqlite::owner(),
                secrets: vec![],
                outlet: codeforge::engine::Outlet::default(),
            };
            let run = RunId::from("test0001");
            let (_stop, stopped) = tokio::sync::watch::channel(false);
            let done = if resume {
                engine.resume(&run, stopped).await
            } else {
                engine.start(run.clone(), self.plan(), base, stopped).await
            };
            match done {
                Ok(outcome) => Ok((outcome, engine.store.rows(&run).await.unwrap())),
                Err(error) => Err(error.to_string()),
            }
        });
        drop(runtime);
        done.map(|(outcome, rows)| {
            check_journal(&rows);
            outcome
        })
    }

    fn logged(&self) -> Vec<String> {
        std::fs::read_to_string(&self.log).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn patch(&self) -> String {
        let text = self.repo.read(".codeforge/runs/test0001/change.patch");
        text[text.find("diff --git").unwrap()..].to_owned()
    }
}

/// No intent has two results, and no result comes without its intent.
fn check_journal(rows: &[Row]) {
    let mut open = std::collections::BTreeSet::new();
    for (at, row) in rows.iter().enumerate() {
        assert_eq!(row.seq, at as u64 + 1, "rows without gaps");
        match &row.body {
            RowBody::Intent(effect) => assert!(open.insert(effect.key.clone()), "intended twice: {effect:?}"),
            RowBody::Input(input) => {
                if let Some(key) = input.key() {
                    assert!(open.remove(key), "a result without an intent: {input:?}");
                }
            }
        }
    }
}

fn unknown(outcome: &Outcome, fixture: &Fixture) -> usize {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let repository = git::open(fixture.repo.path()).unwrap();
        let store = sqlite::open(repository.state_dir(), Arc::new(SystemClock)).await.unwrap();
        let rows = store.rows(&outcome.state.run).await.unwrap();
        rows.iter().filter(|row| matches!(&row.body, RowBody::Input(Input::OutcomeUnknown { .. }))).count()
    })
}

#[test]
fn cut_before_and_after_every_write_it_ends_the_same() {
    let whole = Fixture::new();
    let model = Arc::new(Scripted::default());
    let outcome = whole.drive(&model, None, false).unwrap();
    assert_eq!(outcome.state.ending, Some(Ending::Done), "{}", outcome.state.reason);
    let (asked, logged, patch) = (model.0.load(Ordering::SeqCst), whole.logged(), whole.patch());
    assert_eq!(logged, ["before", "shell", "check", "shell", "check", "after", "check"]);
    assert!(patch.contains("+right") && patch.contains("+RIGHT") && patch.contains("generated.txt"));

    let (mut cuts, mut ended) = (0, false);
    for at in 1.. {
        for after in [false, true] {
            let fixture = Fixture::new();
            let model = Arc::new(Scripted::default());
            let first = fixture.drive(&model, Some((at, after)), false);
            if first.is_ok() {
                ended = true;
                break;
            }
            cuts += 1;
            let place = format!("cut {} write {at}", if after { "after" } else { "before" });
            let outcome = fixture.drive(&model, None, true).unwrap_or_else(|error| panic!("{place}: {error}"));
            assert_eq!(outcome.state.ending, Some(Ending::Done), "{place}: {}", outcome.state.reason);
            assert_eq!(fixture.patch(), patch, "{place}");
            let lost = unknown(&outcome, &fixture);
            let again = model.0.load(Ordering::SeqCst) - asked;
            assert!(lost <= 1 && again <= lost, "{place}: {again} calls made again, {lost} unknown");
            let calls = outcome.state.spend.calls as usize;
            assert_eq!(calls, asked + lost, "{place}: the cut call is charged");
            // One effect at a time is out here: at most that one is done again.
            let now = fixture.logged();
            assert!(now.len() <= logged.len() + 1, "{place}: {now:?}");
            for line in ["before", "shell", "check", "after"] {
                let count = |all: &[String]| all.iter().filter(|it| *it == line).count();
                assert!(count(&now) >= count(&logged), "{place}: {now:?}");
            }
        }
        if ended {
            break;
        }
    }
    assert!(cuts > 30, "only {cuts} places were tried");
}

/// Where the real binary is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kill {
    Nowhere,
    Model,
    Tool,
    Command,
    Gate,
}

/// Shell text that blocks the first time it comes by, once a kill is wanted there.
fn blocking(folder: &Path, wanted: bool, text: &str) -> String {
    if !wanted {
        return text.to_owned();
    }
    let flag = folder.join("flag").display().to_string();
    format!("if [ ! -e {flag} ]; then echo half > half.txt; touch {flag}; sleep 600; fi; {text}")
}

async fn killed(kill: Kill) -> (String, usize) {
    let outside = outside();
    let repo = TestRepo::with(&[("README.md", "hello\n")]);
    let yaml = |text: String| serde_json::to_string(&text).unwrap();
    let command = yaml(blocking(outside.path(), kill == Kill::Command, "echo made > made.txt"));
    let gate = yaml(blocking(outside.path(), kill == Kill::Gate, "grep -q right value.txt"));
    repo.write(
        ".codeforge/workflows/work.yml",
        format!(
            "name: work\npolicy: open\nsteps:\n  make: {{ run: {command}, gates: [exists] }}\n  code:\n    mode: coder\n    \
             needs: [make]\n    prompt: Make it right\n    gates: [check]\ngates:\n  exists: {{ run: \"test -e made.txt\" \
             }}\n  check: {{ run: {gate} }}\ndeliver: {{ as: patch, title: Right }}\n"
        ),
    );
    repo.write(".codeforge/policies/open.yml", POLICY);
    repo.commit("configured");
    let shell = blocking(outside.path(), kill == Kill::Tool, "echo right > value.txt");
    let first = Rule::when().turn(0);
    let mut script = Vec::new();
    if kill == Kill::Model {
        script.push(Rule::when().turn(0).reply(Reply::hang()));
    }
    script.push(first.reply(Reply::call("shell", json!({ "command": shell })).cost(0.001)));
    script.push(Rule::when().turn(1).reply(Reply::call("finish", json!({ "summary": "done" })).cost(0.001)));
    let server = ModelServer::start(script).await;
    let start = |arguments: &[&str]| {
        let mut command = repo.codeforge(arguments);
        command.env("CODEFORGE_LLM_BASE_URL", server.url()).env("CODEFORGE_MODEL", "scripted");
        command.env("CODEFORGE_LLM_PRICE_INPUT", "1").env("CODEFORGE_LLM_PRICE_OUTPUT", "1");
        command
    };
    let run = start(&["run", "work", "--sandbox", "none"]);
    if kill == Kill::Nowhere {
        let output = finished(run).await;
        assert!(output.status.success(), "{}", spoken(&output));
    } else {
        let mut run = run;
        let mut child = run.stderr(std::process::Stdio::null()).stdout(std::process::Stdio::null()).spawn().unwrap();
        eventually("the place to kill it", || match kill {
            Kill::Model => (!server.requests().is_empty()).then_some(()),
            _ => outside.path().join("flag").exists().then_some(()),
        })
        .await;
        child.kill().unwrap();
        child.wait().unwrap();
        let runs: serde_json::Value =
            serde_json::from_str(&ok(&mut start(&["runs", "list", "--format", "json"]))).unwrap();
        assert!(runs[0]["summary"]["ending"].is_null());
        let id = runs[0]["run"]["id"].as_str().unwrap().to_owned();
        let output = finished(start(&["resume", &id[..4]])).await;
        assert!(output.status.success(), "{kill:?}\n{}", spoken(&output));
        let journal = ok(&mut start(&["runs", "events", &id, "--format", "json"]));
        let unknown = journal.matches("\"type\":\"outcome_unknown\"").count();
        assert_eq!(unknown, usize::from(kill == Kill::Model), "{kill:?}");
    }
    assert!(server.unmatched().is_empty(), "{:?}", server.unmatched());
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let runs = std::fs::read_dir(repo.path().join(".codeforge/runs")).unwrap();
    let folder = runs.map(|entry| entry.unwrap().path()).find(|path| path.is_dir()).unwrap();
    let run = folder.file_name().unwrap().to_str().unwrap();
    assert!(!mounts.contains(run), "{kill:?}: left mounted");
    let patch = std::fs::read_to_string(folder.join("change.patch")).unwrap();
    (patch[patch.find("diff --git").unwrap()..].to_owned(), server.requests().len())
}

async fn finished(mut command: std::process::Command) -> std::process::Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_each_kind_of_effect_it_goes_on_to_the_same_patch() {
    let (patch, asked) = killed(Kill::Nowhere).await;
    for kill in [Kill::Model, Kill::Tool, Kill::Command, Kill::Gate] {
        let (now, requests) = killed(kill).await;
        // What the cut work had left behind (`half.txt`) would be in the patch.
        assert_eq!(now, patch, "{kill:?}");
        assert_eq!(requests, asked + usize::from(kill == Kill::Model), "{kill:?}: no paid call is made twice");
    }
}
