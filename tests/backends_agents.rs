//! Real agents that nobody here wrote, as backends of a step: in the native sandbox, their models through the desk that
//! pays, their changes judged and gated. `scripts/setup` installs them.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use async_trait::async_trait;
use codeforge::adapter::gateway::{HttpGateway, Times};
use codeforge::adapter::{clock::SystemClock, git, sandbox, sqlite};
use codeforge::engine::{Engine, Outcome};
use codeforge::model::account::Ending;
use codeforge::model::chat::{Bill, ChatAnswer, ChatRequest, Message, ModelError, ModelRef, RawCall, StopReason};
use codeforge::model::exec::DriverKind;
use codeforge::model::id::RunId;
use codeforge::model::journal::{Effect, Input, Row, RowBody, Work};
use codeforge::model::progress::Progress;
use codeforge::model::usage::{CostSource, NanoUsd, Price, Usage};
use codeforge::port::model::ChatModel;
use codeforge::port::watch::Watch;
use codeforge::workflow::{self, Source};
use codeforge::{plan, run};
use common::TestRepo;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

type Script = Box<dyn Fn(&ChatRequest, usize) -> ChatAnswer + Send + Sync>;

/// Answers by a script; remembers what it was asked.
struct Scripted {
    script: Script,
    asked: Mutex<Vec<ChatRequest>>,
}

#[async_trait]
impl ChatModel for Scripted {
    async fn ask(
        &self,
        request: &ChatRequest,
        _: &(dyn for<'a> Fn(&'a str) + Send + Sync),
    ) -> Result<ChatAnswer, ModelError> {
        let number = {
            let mut asked = self.asked.lock().unwrap();
            asked.push(request.clone());
            asked.len() - 1
        };
        if format!("{:?}", request.messages).contains("unanswerable") {
            std::future::pending::<()>().await;
        }
        Ok((self.script)(request, number))
    }
}

fn answer(text: &str, calls: &[(&str, serde_json::Value)]) -> ChatAnswer {
    let usage = Usage { input: 1000, output: 50, ..Usage::default() };
    ChatAnswer {
        text: text.into(),
        calls: calls
            .iter()
            .enumerate()
            .map(|(at, (name, arguments))| RawCall {
                id: format!("call_{at}"),
                name: (*name).into(),
                arguments: arguments.to_string(),
            })
            .collect(),
        stop: if calls.is_empty() { StopReason::Stop } else { StopReason::ToolCalls },
        bill: Bill {
            model: "scripted".into(),
            usage: Some(usage),
            cost: Some(NanoUsd::from_usd(0.002)),
            source: CostSource::PriceTable,
        },
        requests: 1,
        reasoning: Vec::new(),
    }
}

/// What people would see of what the program prints.
#[derive(Default)]
struct Seen(Mutex<String>);

impl Watch for Seen {
    fn saw(&self, progress: &Progress) {
        if let Progress::Output { text, .. } = progress {
            self.0.lock().unwrap().push_str(text);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "set-up installs agents into the home of who runs the tests")]
fn peers() -> PathBuf {
    PathBuf::from(std::env::var("HOME").unwrap()).join(".cache/codeforge/peers")
}

struct Done {
    outcome: Outcome,
    rows: Vec<Row>,
    shown: String,
    asked: Vec<ChatRequest>,
}

fn repository(backend: &str, rest: &str) -> TestRepo {
    let repo = TestRepo::with(&[
        ("src/list.txt", "b\na\n"),
        ("docs/guide.md", "guide\n"),
        ("tool/ask", ASK),
        (".codeforge/backends/ask.yml", BACKEND),
        (
            ".codeforge/policies/narrow.yml",
            "name: narrow\nrules:\n  - { tool: \"*\", path: [\"src/**\"], decision: allow }\n",
        ),
        (
            ".codeforge/workflows/w.yml",
            &format!(
                "name: w\npolicy: narrow\nsandbox: {{ image: \"codeforge-test:latest\" }}\ndeliver: commit-local\n\
                 gates: {{ sorted: {{ run: \"sort -c src/list.txt\" }} }}\n\
                 steps:\n  work: {{ mode: coder, backend: {backend}, prompt: \"Sort src/list.txt\", gates: [sorted]{rest} }}\n"
            ),
        ),
    ]);
    repo.executable("tool/ask");
    repo.commit("executable");
    repo
}

/// `tool/ask TEXT [TOKEN]`: a question to the gateway, and its answer with the HTTP status before it.
const ASK: &str = r#"#!/bin/sh
body="{\"model\":\"whatever\",\"messages\":[{\"role\":\"user\",\"content\":\"$1\"}]}"
if command -v curl >/dev/null; then
    curl -s -m 20 -w ' %{http_code}\n' "$URL/v1/chat/completions" -H "Authorization: Bearer ${2:-$TOKEN}" \
        -H 'Content-Type: application/json' -d "$body"
else
    # Whoever shuts its side has gone away, as servers see it: the pipe stays open until the answer is there.
    mkfifo /tmp/question
    nc -w 20 127.0.0.1 "${URL##*:}" <>/tmp/question | sed -n '1s/HTTP[^ ]*//p;$p' &
    printf 'POST /v1/chat/completions HTTP/1.0\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %s\r\n\r\n%s' \
        "${2:-$TOKEN}" "${#body}" "$body" >/tmp/question
    wait
    rm /tmp/question
fi
"#;

/// A program that asks as its step's variable says.
const BACKEND: &str = "name: ask\ndialect: openai\ncommand: [sh, -c, 'eval \"$SCRIPT\"']\n\
                       env: { URL: \"{base_url}\", TOKEN: \"{api_key}\" }\n";

/// Runs the workflow with an agent that set-up installed.
async fn drive(repo: &TestRepo, budget_usd: f64, script: Script) -> Done {
    drive_in(repo, DriverKind::Native, budget_usd, script).await
}

async fn drive_in(repo: &TestRepo, driver: DriverKind, budget_usd: f64, script: Script) -> Done {
    let peers = peers();
    let mut path = vec![peers.join("aider/venv/bin").display().to_string()];
    path.extend(
        ["opencode", "codex", "claude-code"].map(|it| peers.join(it).join("node_modules/.bin").display().to_string()),
    );
    let host = sandbox::Host {
        helper: PathBuf::from(env!("CARGO_BIN_EXE_codeforge")),
        path: format!("{}:/usr/local/bin:/usr/bin:/bin", path.join(":")),
        home: peers.ancestors().nth(3).map(Path::to_path_buf),
        docker_host: None,
    };
    let mut sources = workflow::builtin();
    for path in ["policies/narrow.yml", "workflows/w.yml", "backends/ask.yml"] {
        let text = repo.read(&format!(".codeforge/{path}"));
        sources.push(Source { path: format!(".codeforge/{path}"), text, builtin: false });
    }
    let library = workflow::load(&sources, &|_| None);
    let price =
        Price { input_per_mtok: 1.0, output_per_mtok: 1.0, cache_read_per_mtok: None, cache_write_per_mtok: None };
    let model = ModelRef {
        name: "scripted".into(),
        provider: "test".into(),
        model: "scripted".into(),
        price: Some(price),
        context_window: 100_000,
        max_output: 1000,
        tools: true,
        ..ModelRef::default()
    };
    let request = plan::Request {
        workflow: "w".into(),
        driver: Some(driver),
        budget_usd: Some(budget_usd),
        models: vec![model],
        ..plan::Request::default()
    };
    let plan = plan::compile(&library, &request).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let repository = git::open(repo.path()).unwrap();
    let base = repository.base().unwrap();
    let scripted = Arc::new(Scripted { script, asked: Mutex::default() });
    let seen = Arc::new(Seen::default());
    let engine = Engine {
        store: sqlite::open(repository.state_dir(), Arc::new(SystemClock)).await.unwrap(),
        repository,
        drivers: sandbox::drivers(&host),
        gateway: Arc::new(HttpGateway::new(Times::default(), Arc::new(SystemClock))),
        models: Arc::clone(&scripted) as Arc<dyn ChatModel>,
        clock: Arc::new(SystemClock),
        watch: Arc::clone(&seen) as Arc<dyn Watch>,
        owner: sqlite::owner(),
        secrets: vec![],
        outlet: codeforge::engine::Outlet::default(),
    };
    let run = RunId::from("test0001");
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let outcome = engine.start(run.clone(), plan, base, stopped).await.unwrap();
    let rows = engine.store.rows(&run).await.unwrap();
    // The journal leads to the same state, by itself.
    let again = codeforge::engine::replay(&rows).unwrap();
    assert_eq!(format!("{:?}", run::account(&again)), format!("{:?}", run::account(&outcome.state)));
    let shown = seen.0.lock().unwrap().clone();
    let asked = scripted.asked.lock().unwrap().clone();
    Done { outcome, rows, shown, asked }
}

impl Done {
    fn said(&self) -> String {
        format!("{:?}: {}\n{}", self.outcome.state.ending, self.outcome.state.reason, self.shown)
    }

    fn count(&self, kind: &str) -> usize {
        self.rows.iter().filter(|row| matches!(&row.body, RowBody::Input(input) if input.kind() == kind)).count()
    }
}

const SORTED: &str = "Here it is:\n\nsrc/list.txt\n```\na\nb\n```\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aider_edits_a_file_and_is_gated_until_it_is_right() {
    let repo = repository("aider", ", attempts: 2");
    let done = drive(
        &repo,
        1.0,
        Box::new(|request, _| {
            let asked = serde_json::to_string(&request.messages).unwrap();
            // It is wrong at first, and is told so.
            answer(if asked.contains("attempt 2") { SORTED } else { "src/list.txt\n```\nb\na\nc\n```\n" }, &[])
        }),
    )
    .await;
    assert_eq!(done.outcome.state.ending, Some(Ending::Done), "{}", done.said());
    assert_eq!(repo.read("src/list.txt"), "a\nb\n");
    assert_eq!(repo.git(&["show", "--format=", "--name-only"]), "src/list.txt", "nothing of its own is left");
    let account = run::account(&done.outcome.state);
    assert_eq!(account.steps[0].attempt, 2);
    assert_eq!(account.spend.calls as usize, done.asked.len());
    assert_eq!(account.spend.cost, NanoUsd::from_usd(0.002 * done.asked.len() as f64));
    assert_eq!(done.count("asked"), done.asked.len(), "each question is in the journal before it is asked");
    let first = serde_json::to_string(&done.asked[0].messages).unwrap();
    assert!(first.contains("Sort src/list.txt") && first.contains("You are the coder"), "{first}");
    let failed = serde_json::to_string(&done.asked.last().unwrap().messages).unwrap();
    assert!(failed.contains("disorder"), "the gate's output is in the second prompt: {failed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opencode_works_with_tools_of_its_own_and_sees_no_key() {
    let repo = repository("opencode", "");
    let done = drive(
        &repo,
        1.0,
        Box::new(|request, _| {
            let answered = request.messages.iter().any(|message| matches!(message, Message::Tool { .. }));
            match (request.tools.iter().any(|tool| tool.name == "bash"), answered) {
                (true, false) => {
                    let command = "env -0 >src/env.txt; cat /proc/1/environ >src/first.txt 2>&1; sort -o src/list.txt src/list.txt";
                    answer("", &[("bash", json!({ "command": command, "description": "sorts" }))])
                }
                (true, true) => answer("Sorted it.", &[]),
                // It asks for a title besides.
                (false, _) => answer("A title", &[]),
            }
        }),
    )
    .await;
    assert_eq!(done.outcome.state.ending, Some(Ending::Done), "{}", done.said());
    assert_eq!(repo.read("src/list.txt"), "a\nb\n");
    assert_eq!(run::account(&done.outcome.state).steps[0].summary, "Sorted it.");
    assert!(done.shown.contains("Sorted it."), "{}", done.shown);
    no_stranger(&repo.read("src/env.txt"), &["OPENCODE", "AGENT="]);
    assert!(repo.read("src/first.txt").contains("ermission denied"), "{}", repo.read("src/first.txt"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codex_works_in_the_dialect_of_responses() {
    let repo = repository("codex", "");
    let done = drive(
        &repo,
        1.0,
        Box::new(|request, _| {
            let answered = request.messages.iter().any(|message| matches!(message, Message::Tool { .. }));
            let command = "env -0 >src/env.txt; sort -o src/list.txt src/list.txt";
            let tool = |name: &str| request.tools.iter().any(|tool| tool.name == name);
            match answered {
                true => answer("Sorted it.", &[]),
                false if tool("exec_command") => answer("", &[("exec_command", json!({ "cmd": command }))]),
                false => answer("", &[("shell", json!({ "command": ["sh", "-c", command] }))]),
            }
        }),
    )
    .await;
    assert_eq!(done.outcome.state.ending, Some(Ending::Done), "{}", done.said());
    assert_eq!(repo.read("src/list.txt"), "a\nb\n");
    assert_eq!(run::account(&done.outcome.state).steps[0].summary, "Sorted it.");
    no_stranger(
        &repo.read("src/env.txt"),
        &["CODEX_", "GATEWAY_TOKEN=cf-", "NO_COLOR=", "COLORTERM=", "PAGER=", "GH_PAGER=", "LC_"],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claude_code_works_in_the_dialect_of_messages() {
    let repo = repository("claude-code", "");
    let done = drive(
        &repo,
        1.0,
        Box::new(|request, _| {
            let answered = request.messages.iter().any(|message| matches!(message, Message::Tool { .. }));
            match (request.tools.iter().any(|tool| tool.name == "Bash"), answered) {
                (true, false) => {
                    let command = "env -0 >src/env.txt; sort -o src/list.txt src/list.txt";
                    answer("", &[("Bash", json!({ "command": command, "description": "sorts" }))])
                }
                _ => answer("Sorted it.", &[]),
            }
        }),
    )
    .await;
    assert_eq!(done.outcome.state.ending, Some(Ending::Done), "{}", done.said());
    assert_eq!(repo.read("src/list.txt"), "a\nb\n");
    assert_eq!(run::account(&done.outcome.state).steps[0].summary, "Sorted it.");
    let own = [
        "ANTHROPIC_API_KEY=cf-",
        "ANTHROPIC_BASE_URL=http://127.0.0.1:4141",
        "ANTHROPIC_SMALL_FAST_MODEL=",
        "CLAUDE",
        "DISABLE_",
        "COREPACK_",
        "NoDefault",
        "AI_AGENT=",
    ];
    no_stranger(&repo.read("src/env.txt"), &own);
}

/// Every variable is one that the sandbox, the backend's file or the agent itself has set.
fn no_stranger(env: &str, own: &[&str]) {
    let known = [
        "PATH=",
        "HOME=/home/agent",
        "LANG=",
        "TERM=",
        "PWD=",
        "OLDPWD=",
        "SHLVL=",
        "_=",
        "SHELL=",
        "RUSTUP_HOME=",
        "PYENV_ROOT=",
        "NODE_",
        "npm_",
        "GIT_",
    ];
    let strange: Vec<&str> = env
        .split('\0')
        .filter(|line| !line.is_empty() && !known.iter().chain(own).any(|name| line.starts_with(name)))
        .collect();
    assert_eq!(strange, Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spent_budget_ends_the_agent_and_its_work_is_undone() {
    let repo = repository("opencode", "");
    let done = drive(
        &repo,
        0.02,
        Box::new(|_, at| {
            // It would never stop by itself.
            let command = format!("echo {at} >>src/list.txt; sort -o src/list.txt src/list.txt");
            answer("", &[("bash", json!({ "command": command, "description": "goes on" }))])
        }),
    )
    .await;
    assert_eq!(done.outcome.state.ending, Some(Ending::Limit), "{}", done.said());
    assert_eq!(done.outcome.state.ending.unwrap().exit_code(), 3);
    assert!(done.outcome.state.reason.contains("budget"), "{}", done.said());
    assert_eq!(repo.read("src/list.txt"), "b\na\n");
    let account = run::account(&done.outcome.state);
    assert!(account.spend.cost <= NanoUsd::from_usd(0.02) && account.spend.calls >= 1, "{:?}", account.spend);
    let last = done.rows.iter().rev().find_map(|row| match &row.body {
        RowBody::Input(input @ Input::Restored { .. }) => Some(input.kind()),
        _ => None,
    });
    assert_eq!(last, Some("restored"));
}

fn asking(script: &str) -> TestRepo {
    let repo = repository("ask", &format!(", env: {{ SCRIPT: {script:?} }}"));
    let file = ".codeforge/workflows/w.yml";
    repo.write(file, repo.read(file).replace(", gates: [sorted]", ""));
    repo.commit("without gates");
    repo
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_each_driver_a_program_asks_with_its_own_token_only() {
    for driver in [DriverKind::Native, DriverKind::Docker, DriverKind::None] {
        let repo = asking(
            "{ tool/ask one; tool/ask two cf-00000000000000000000000000000000; } >src/said.txt 2>&1; cat src/said.txt",
        );
        let done = drive_in(&repo, driver, 1.0, Box::new(|_, _| answer("heard", &[]))).await;
        assert_eq!(done.outcome.state.ending, Some(Ending::Done), "{driver:?} {}", done.said());
        let said = repo.read("src/said.txt");
        assert!(said.contains("heard") && said.contains(" 401"), "{driver:?}: {said}");
        assert_eq!(done.asked.len(), 1, "{driver:?}");
        assert_eq!(done.asked[0].model.name, "scripted", "the model that it names is not obeyed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_program_asks_for_and_does_not_wait_for_is_paid_all_the_same() {
    let repo = asking(
        "(tool/ask unanswerable &) ; while ! grep -q x src/list.txt; do tool/ask quick >/dev/null && echo x >>src/list.txt; done",
    );
    let done = drive(&repo, 1.0, Box::new(|_, _| answer("heard", &[]))).await;
    assert_eq!(done.outcome.state.ending, Some(Ending::Done), "{}", done.said());
    let account = run::account(&done.outcome.state);
    assert_eq!(account.spend.calls as usize, done.count("asked"), "{:?}", account.spend);
    // Cut while a question is out: it is charged, and the program begins anew.
    let cut = done
        .rows
        .iter()
        .position(|row| matches!(&row.body, RowBody::Intent(Effect { work: Work::CallModel { .. }, .. })));
    let mut state = codeforge::engine::replay(&done.rows[..=cut.unwrap()]).unwrap();
    let (key, at_ms) = (state.outstanding.keys().last().unwrap().clone(), state.now_ms);
    assert_eq!(state.apply(at_ms, Input::OutcomeUnknown { key }), []);
    assert_eq!((state.spend.calls, state.reserved), (1, NanoUsd::default()));
    assert!(state.spend.cost > NanoUsd::default());
    let left: Vec<&Work> = state.outstanding.values().map(|effect| &effect.work).collect();
    assert_eq!(left, [&Work::RunBackend]);
    assert!(done.outcome.state.outstanding.is_empty() && done.outcome.state.reserved == NanoUsd::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_wait_for_each_others_money_and_are_not_refused() {
    // Each could cost 0.0011 at most, three at once could cost more than there is, and in truth each costs nothing.
    let repo = asking("for n in 1 2 3; do tool/ask $n >src/said$n.txt & done; wait");
    let free = |_: &ChatRequest, _: usize| {
        let mut answer = answer("heard", &[]);
        answer.bill.cost = Some(NanoUsd::default());
        answer
    };
    let done = drive(&repo, 0.002, Box::new(free)).await;
    assert_eq!(done.outcome.state.ending, Some(Ending::Done), "{}", done.said());
    for n in 1..=3 {
        assert!(repo.read(&format!("src/said{n}.txt")).contains("heard"), "{}", done.said());
    }
}
