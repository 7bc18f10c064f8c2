//! Money and routing through the whole program: scripted providers over HTTP, real repositories, the real store.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]
mod common;

use codeforge::adapter::fake::FakeClock;
use codeforge::adapter::sqlite;
use codeforge::model::account::{Ending, Spend};
use codeforge::model::budget::{Allowance, Scope, SharedBudget, day};
use codeforge::model::id::RunId;
use codeforge::model::plan::StepKind;
use codeforge::model::usage::NanoUsd;
use codeforge::port::store::{Claim, Fence, Opening, RunHead, Store, StoreError, Summary};
use common::{ModelServer, Reply, Rule, Script, TestRepo, eventually, spoken};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

const READER: &str = "name: reader\ntools: [read_file]\nprompt: You are the reader.\n";
const ASK: &str = "name: ask\ninputs: { task: { type: string, required: true } }\nsteps: { look: { mode: reader, \
                   prompt: \"{{ inputs.task }}\" } }\n";

/// Two turns, each of which costs $0.004.
fn two_turns() -> Script {
    let read = Reply::call("read_file", json!({ "path": "README.md" })).usage(3000, 500);
    let finish = Reply::call("finish", json!({ "summary": "Read." })).usage(3000, 500);
    vec![Rule::when().turn(0).reply(read).always(), Rule::when().turn(1).reply(finish).always()]
}

/// A repository with the workflow `ask` and this configuration.
fn repo(config: &str) -> TestRepo {
    TestRepo::with(&[
        ("README.md", "Hello.\n"),
        (".codeforge/modes/reader.yml", READER),
        (".codeforge/workflows/ask.yml", ASK),
        (".codeforge/config.yml", config),
    ])
}

fn model(name: &str, server: &ModelServer, more: &str) -> String {
    format!(
        "  {name}: {{ provider: openai, model: {name}-1, base_url: \"{}\", price: {{ input_per_mtok: 1, output_per_mtok: \
         2 }}, max_output: 1000{more} }}\n",
        server.url()
    )
}

async fn done(mut command: Command) -> Output {
    command.env("CODEFORGE_LLM_ATTEMPTS", "1");
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

async fn ask(repo: &TestRepo, more: &[&str]) -> Output {
    let arguments = [&["run", "ask", "--sandbox", "none", "-i", "task=Look."], more].concat();
    done(repo.codeforge(&arguments)).await
}

async fn shown(repo: &TestRepo, arguments: &[&str]) -> String {
    let output = done(repo.codeforge(arguments)).await;
    assert!(output.status.success(), "{}", spoken(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The reasons of the last run's model calls: model and why.
async fn reasons(repo: &TestRepo) -> Vec<(String, String)> {
    let runs: Value = serde_json::from_str(&shown(repo, &["runs", "list", "--format", "json"]).await).unwrap();
    let events = shown(repo, &["runs", "events", runs[0]["run"]["id"].as_str().unwrap(), "--format", "json"]).await;
    let lines = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let calls = lines.filter(|line| line["work"] == "call_model");
    calls.map(|line| (line["model"].as_str().unwrap().into(), line["why"].as_str().unwrap().into())).collect()
}

#[tokio::test]
async fn a_provider_that_fails_is_left_alone_and_the_journal_says_why() {
    let broken = ModelServer::start(vec![Rule::any(Reply::status(500)).always()]).await;
    let works = ModelServer::start(two_turns()).await;
    let models = model("dear", &broken, "") + &model("cheap", &works, "");
    let repo = repo(&format!("models:\n{models}scenarios: {{ default: [dear, cheap] }}\n"));
    let output = ask(&repo, &[]).await;
    assert!(output.status.success(), "{}", spoken(&output));
    assert_eq!((broken.asked().len(), works.asked().len()), (1, 2), "resting, it is not asked at the second turn");
    let calls = reasons(&repo).await;
    assert_eq!(calls[0], ("dear".into(), "scenario default".into()));
    for (model, why) in &calls[1..] {
        assert_eq!(model, "cheap");
        assert!(
            why.starts_with("scenario default; dear rests for another ") && why.ends_with(" s (unavailable)"),
            "{why}"
        );
    }
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.matches("`cheap` is asked while `dear` rests").count(), 1, "{said}");
    let live = String::from_utf8_lossy(&output.stderr);
    assert_eq!(live.matches("dear rests for another").count(), 1, "told once, not at every turn\n{live}");
}

#[tokio::test]
async fn a_long_request_goes_uncut_to_the_models_for_long_ones() {
    let small = ModelServer::start(two_turns()).await;
    let large = ModelServer::start(two_turns()).await;
    let models =
        model("small", &small, ", context_window: 16000") + &model("large", &large, ", context_window: 400000");
    let repo = repo(&format!(
        "models:\n{models}scenarios: {{ default: [small], longContext: [large] }}\nlong_context_tokens: 20000\n"
    ));
    let text: String = (0..8_000).map(|line| format!("line {line:05}\n")).collect();
    repo.write("big.txt", &text);
    let output = done(repo.codeforge(&["run", "ask", "--sandbox", "none", "-i", "task=@big.txt"])).await;
    assert!(output.status.success(), "{}", spoken(&output));
    assert_eq!(small.asked().len(), 0);
    for asked in large.asked() {
        assert!(asked.user().contains("line 00000\n") && asked.user().contains("line 04000\n"), "nothing is left out");
    }
    let calls = reasons(&repo).await;
    assert_eq!(calls.len(), 2);
    assert!(
        calls.iter().all(|(model, why)| model == "large" && why.starts_with("long context: about 29,")),
        "{calls:?}"
    );

    // A short one stays where it was, whatever the window is.
    assert!(ask(&repo, &[]).await.status.success());
    assert_eq!(reasons(&repo).await[0], ("small".into(), "scenario default".into()));
}

#[tokio::test]
async fn a_day_has_a_budget_over_all_its_runs() {
    let server = ModelServer::start(two_turns()).await;
    let config = |day: &str| {
        let model = model("m", &server, "");
        format!("models:\n{model}scenarios: {{ default: [m] }}\nbudget: {{ per_day_usd: {day}, per_change_usd: 3 }}\n")
    };
    let repo = repo(&config("0.5"));
    let before = shown(&repo, &["run", "ask", "-i", "task=x", "--dry-run"]).await;
    assert!(before.contains("no earlier run of ask to go by\n              by its limits at most $0.5"), "{before}");

    assert!(ask(&repo, &[]).await.status.success());
    repo.write("event.json", r#"{ "kind": "pull_request", "actor": "ada", "change": { "number": 42 } }"#);
    assert!(ask(&repo, &["--event", "event.json"]).await.status.success());
    assert_eq!(server.asked().len(), 4);

    let by = async |by: &str| shown(&repo, &["costs", "--by", by]).await;
    let actors = by("actor").await;
    assert!(actors.contains("ada") && actors.contains("by hand") && actors.contains("$0.016"), "{actors}");
    assert!(actors.ends_with("\ntoday $0.016 of $0.500\nchange 42 $0.008 of $3\n"), "{actors}");
    assert!(by("change").await.contains("change 42") && by("mode").await.starts_with(&format!("{:<32}", "")));
    assert!(by("mode").await.contains("reader"));
    let days = by("day").await;
    assert!(days.contains(&"█".repeat(24)), "{days}");
    let json: Value =
        serde_json::from_str(&shown(&repo, &["costs", "--since", "1", "--format", "json"]).await).unwrap();
    assert_eq!((&json["rows"][0]["name"], &json["rows"][0]["calls"]), (&json!("m"), &json!(4)));
    assert_eq!(json["rows"][0]["cost_usd"], json!(0.016));
    assert_eq!(
        json["budgets"][0],
        json!({ "scope": "day", "name": "", "spent_usd": 0.016, "held_usd": 0.0, "cap_usd": 0.5 })
    );
    shown(&repo, &["costs", "--by", "day", "--chart", "days.svg"]).await;
    assert!(repo.read("days.svg").contains("$0.016 · 4 calls"));
    let wrong = done(repo.codeforge(&["costs", "--by", "model", "--chart", "x.svg"])).await;
    assert_eq!(wrong.status.code(), Some(2), "{}", spoken(&wrong));

    let quoted = shown(&repo, &["run", "ask", "-i", "task=x", "--dry-run", "--format", "json"]).await;
    let quoted: Value = serde_json::from_str(&quoted).unwrap();
    assert_eq!(quoted["workflow"], "ask");
    assert_eq!(
        quoted["quote"]["history"],
        json!({ "runs": 2, "least_usd": 0.008, "median_usd": 0.008, "p90_usd": 0.008 })
    );
    assert_eq!(quoted["quote"]["at_most_usd"], json!(0.484), "what today leaves");

    repo.write(".codeforge/config.yml", config("0.01"));
    let refused = ask(&repo, &[]).await;
    assert_eq!(refused.status.code(), Some(3), "{}", spoken(&refused));
    let said = String::from_utf8_lossy(&refused.stdout);
    let words = "nothing is left of the budget of $0.010 for today: other runs have spent $0.016; raise \
                 `budget.per_day_usd` in .codeforge/config.yml, or go on tomorrow (UTC)";
    assert!(said.contains(words), "{said}");
    assert_eq!(server.asked().len(), 4, "nothing was asked");

    repo.write(".codeforge/config.yml", config("0.018"));
    let stopped = ask(&repo, &[]).await;
    assert_eq!(stopped.status.code(), Some(3), "{}", spoken(&stopped));
    assert!(spoken(&stopped).contains("it was given of the budget of $0.018 for today"), "{}", spoken(&stopped));
    assert!(spoken(&stopped).contains("80 % of the budget of $0.02 for today is spent"), "{}", spoken(&stopped));
}

#[tokio::test]
async fn a_hard_stop_delivers_what_was_green_last() {
    let coder = || Rule::when().system("You are the coder");
    let server = ModelServer::start(vec![
        coder()
            .user("Make it")
            .turn(0)
            .reply(Reply::call("write_file", json!({ "path": "made.txt", "content": "yes\n" }))),
        coder().user("Make it").turn(1).reply(Reply::call("finish", json!({ "summary": "Made." }))),
        coder()
            .user("Look on")
            .answer(|asked| match asked.turn() {
                0 => Reply::call("write_file", json!({ "path": "half.txt", "content": "half\n" })).usage(3000, 500),
                turn => Reply::call("read_file", json!({ "path": "made.txt", "start_line": turn })).usage(3000, 500),
            })
            .always(),
    ])
    .await;
    let workflow = "name: make\npolicy: open\nbudget: { max_cost_usd: 0.06 }\ngates: { check: { run: test -f made.txt } }\n\
                    steps:\n  good: { mode: coder, prompt: Make it, gates: [check] }\n  more: { mode: coder, prompt: Look \
                    on, needs: [good] }\ndeliver: { as: patch, when: last_green, title: Made }\n";
    let policy = "name: open\nrules: [{ tool: \"*\", decision: allow }]\ndefault: allow\nlimits: { max_steps: 50 }\n";
    let config = format!("models:\n{}scenarios: {{ default: [m] }}\n", model("m", &server, ""));
    let repo = repo(&config);
    repo.write(".codeforge/workflows/make.yml", workflow).write(".codeforge/policies/open.yml", policy);
    repo.commit("A workflow");
    let output = done(repo.codeforge(&["run", "make", "--sandbox", "native"])).await;
    assert_eq!(output.status.code(), Some(3), "{}\n{:?}", spoken(&output), server.unmatched());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("of the budget of $0.060 is spent") && said.contains("Patch   "), "{said}");
    let patch = said.split_whitespace().find(|word| word.ends_with("change.patch")).unwrap();
    let patch = repo.read(patch);
    assert!(patch.contains("made.txt") && !patch.contains("half.txt"), "{patch}");
}

#[tokio::test]
async fn a_killed_run_counts_what_it_had_reserved_and_asks_for_its_share_again() {
    let mut script = vec![Rule::when().turn(0).reply(Reply::hang())];
    script.extend(two_turns());
    let server = ModelServer::start(script).await;
    let model = model("m", &server, "");
    let config = format!("models:\n{model}scenarios: {{ default: [m] }}\nbudget: {{ per_day_usd: 0.03 }}\n");
    let repo = repo(&config);
    let mut command = repo.codeforge(&["run", "ask", "--sandbox", "none", "-i", "task=Look."]);
    let mut killed = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the first call", || (server.asked().len() == 1).then_some(())).await;
    let today = async || -> Value {
        let all = shown(&repo, &["costs", "--format", "json"]).await;
        serde_json::from_str::<Value>(&all).unwrap()["budgets"][0].clone()
    };
    let held = today().await;
    assert_eq!((&held["held_usd"], &held["spent_usd"]), (&json!(0.03), &json!(0.0)), "it holds all that was left");
    let refused = ask(&repo, &[]).await;
    assert_eq!(refused.status.code(), Some(3), "{}", spoken(&refused));
    assert!(spoken(&refused).contains("wait for the runs at work"), "{}", spoken(&refused));

    killed.kill().unwrap();
    killed.wait().unwrap();
    let left = today().await;
    let reserved = left["spent_usd"].as_f64().unwrap();
    assert!(reserved > 0.002 && reserved < 0.02 && left["held_usd"] == 0.0, "{left}");

    let runs: Value = serde_json::from_str(&shown(&repo, &["runs", "list", "--format", "json"]).await).unwrap();
    let cut = runs.as_array().unwrap().iter().find(|run| run["summary"]["ending"].is_null()).unwrap();
    let id = cut["run"]["id"].as_str().unwrap();
    let resumed = done(repo.codeforge(&["resume", id])).await;
    assert!(resumed.status.success(), "{}", spoken(&resumed));
    let after = today().await["spent_usd"].as_f64().unwrap();
    assert!((after - reserved - 0.008).abs() < 1e-9, "the cut call in full and two turns: {after} after {reserved}");
    let events = shown(&repo, &["runs", "events", id, "--format", "json"]).await;
    let again = events.lines().find(|line| line.contains("\"type\":\"resumed\"")).unwrap();
    assert!(again.contains("\"granted\":30000000"), "{again}");
}

#[test]
fn a_plan_knows_its_models_for_long_requests_and_whose_money_it_spends() {
    let config = "models:\n  a: { provider: openai, model: a }\n  b: { provider: openai, model: b }\nscenarios: { default: \
                  [a], review: [b], longContext: [b] }\nbudget: { per_actor_per_day_usd: 2, per_run_tokens: 100000 }\n";
    let flow = "name: flow\nsteps:\n  usual: { mode: reader, prompt: x }\n  named: { mode: reader, prompt: x, model: a }\n  \
                long: { mode: reader, prompt: x, scenario: longContext }\n  same: { mode: reader, prompt: x, scenario: \
                review }\n";
    let mut sources = codeforge::workflow::builtin();
    for (path, text) in [("config.yml", config), ("workflows/flow.yml", flow), ("modes/reader.yml", READER)] {
        let path = format!(".codeforge/{path}");
        sources.push(codeforge::workflow::Source { path, text: text.into(), builtin: false });
    }
    let library = codeforge::workflow::load(&sources, &|_| None);
    let event = json!({ "actor": "ada", "change": { "number": 7 } });
    let mut request = codeforge::plan::Request { workflow: "flow".into(), event, ..Default::default() };
    let plan = codeforge::plan::compile(&library, &request).unwrap();
    let long: Vec<(usize, u64)> = plan
        .steps
        .values()
        .map(|step| match &step.kind {
            StepKind::Agent(spec) => (spec.long_context.len(), spec.long_context_tokens),
            StepKind::Run { .. } => unreachable!(),
        })
        .collect();
    assert_eq!(long, [(1, 60_000), (0, 60_000), (0, 60_000), (0, 60_000)], "not where it would change nothing");
    let shared: Vec<(Scope, &str, Option<f64>)> =
        plan.limits.shared.iter().map(|it| (it.scope, it.name.as_str(), it.max_usd)).collect();
    let expected = [(Scope::Change, "7", None), (Scope::Actor, "ada", Some(2.0)), (Scope::Workflow, "flow", None)];
    assert_eq!(shared, [&expected[..], &[(Scope::Day, "", None)]].concat());
    request.allow_unpriced = true;
    let recorded = codeforge::plan::compile(&library, &request).unwrap();
    assert_eq!(recorded.limits.shared, [], "what a cassette answers costs nobody anything");
}

/// A day's budget in a store of its own, asked by runs of several processes.
struct Days {
    _folder: tempfile::TempDir,
    stores: Vec<Arc<dyn Store>>,
    clock: Arc<FakeClock>,
    cap: NanoUsd,
}

/// A run as its engine sees it.
#[derive(Clone)]
struct Run {
    id: RunId,
    fence: Fence,
    given: NanoUsd,
    spent: NanoUsd,
    alive: bool,
}

impl Days {
    async fn new(cap: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(FakeClock::at(1_795_521_600_000));
        let mut stores = Vec::new();
        for _ in 0..3 {
            stores.push(sqlite::open(folder.path(), clock.clone()).await.unwrap());
        }
        Self { _folder: folder, stores, clock, cap: NanoUsd(cap) }
    }

    fn now_ms(&self) -> i64 {
        codeforge::port::clock::Clock::now_ms(&*self.clock)
    }

    fn claim(&self, wanted: Option<u64>) -> Claim {
        Claim {
            shared: vec![SharedBudget { scope: Scope::Day, name: String::new(), max_usd: Some(self.cap.usd()) }],
            wanted: wanted.map(NanoUsd),
            now_ms: self.now_ms(),
        }
    }

    async fn start(&self, at: usize, wanted: Option<u64>) -> Run {
        self.start_as(&sqlite::owner(), at, wanted).await
    }

    async fn start_as(&self, owner: &str, at: usize, wanted: Option<u64>) -> Run {
        let store = &self.stores[at % self.stores.len()];
        let id = RunId::from(format!("run{at:05}").as_str());
        let head = RunHead { id: id.clone(), workflow: "w".into(), repo: "/r".into(), created_ms: self.now_ms() };
        let given = std::sync::Mutex::new(NanoUsd::default());
        let first = |allowances: &[Allowance]| {
            *given.lock().unwrap() = allowances[0].granted;
            Opening { rows: vec![], summary: Summary { updated_ms: head.created_ms, ..Summary::default() } }
        };
        let fence = store.admit(&head, &self.claim(wanted), &first, owner).await.unwrap();
        let given = *given.lock().unwrap();
        Run { id, fence, given, spent: NanoUsd::default(), alive: true }
    }

    async fn append(&self, run: &Run, reserved: NanoUsd, ending: Option<Ending>) {
        let spend = Spend { cost: run.spent, calls: 1, ..Spend::default() };
        let summary = Summary { ending, spend, reserved, updated_ms: self.now_ms() };
        self.stores[0].append(&run.id, run.fence, &[], &summary).await.unwrap();
    }

    /// Spent and held today.
    async fn today(&self) -> (NanoUsd, NanoUsd) {
        let all = self.stores[0].standing(Scope::Day, &day(self.now_ms())).await.unwrap();
        all.first().map_or_else(Default::default, |standing| (standing.spent, standing.held))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_that_begin_at_the_same_time_never_hold_more_than_the_day_has() {
    let days = Arc::new(Days::new(1_000).await);
    let starts = (0..24).map(|at| {
        let days = Arc::clone(&days);
        tokio::spawn(async move { days.start(at, Some(60 + at as u64)).await })
    });
    let mut given = Vec::new();
    for start in starts.collect::<Vec<_>>() {
        given.push(start.await.unwrap().given.0);
    }
    assert_eq!(given.iter().sum::<u64>(), 1_000, "all of it is given, and no more: {given:?}");
    assert!(given.contains(&0), "24 times 60 do not fit");
    assert_eq!(days.today().await, (NanoUsd(0), NanoUsd(1_000)));
}

#[tokio::test]
async fn an_allowance_goes_back_when_its_run_ends_or_its_owner_is_dead() {
    let days = Days::new(1_000).await;
    let mut first = days.start(0, None).await;
    assert_eq!(first.given, NanoUsd(1_000), "no budget of its own: all that is left");
    assert_eq!(days.start(1, None).await.given, NanoUsd(0));
    first.spent = NanoUsd(300);
    days.append(&first, NanoUsd(50), None).await;
    assert_eq!(days.today().await, (NanoUsd(300), NanoUsd(700)));

    // Interrupted: what it held is free, what its cut call had reserved counts until it is taken up again.
    days.stores[0].release(&first.id, first.fence).await.unwrap();
    assert_eq!(days.today().await, (NanoUsd(350), NanoUsd(0)));
    let second = days.start(2, Some(600)).await;
    assert_eq!(second.given, NanoUsd(600));
    let fence = days.stores[1].take(&first.id, &sqlite::owner()).await.unwrap();
    let again = days.stores[1].readmit(&first.id, fence, &days.claim(None)).await.unwrap();
    assert_eq!((again[0].granted, again[0].held_by_others), (NanoUsd(400), NanoUsd(600)));
    first = Run { fence, spent: NanoUsd(400), ..first };
    days.append(&first, NanoUsd(0), Some(Ending::Done)).await;
    assert_eq!(days.today().await, (NanoUsd(400), NanoUsd(600)));

    // Killed without a word: the process is gone, and so is its hold.
    let (before, start) = sqlite::owner().split_once(" start=").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let gone = format!("{before} start=1{start}");
    days.stores[0].release(&second.id, second.fence).await.unwrap();
    assert_eq!(days.start_as(&gone, 4, Some(500)).await.given, NanoUsd(500));
    assert_eq!(days.today().await, (NanoUsd(400), NanoUsd(0)));
    let second = days.start(5, Some(600)).await;
    assert_eq!((second.given, days.today().await.1), (NanoUsd(600), NanoUsd(600)));

    // Cut again with nothing left, it cannot be taken up today, and is not touched; tomorrow it can.
    let mut third = days.start(3, None).await;
    assert_eq!(third.given, NanoUsd(0));
    third.fence = days.stores[2].take(&third.id, &sqlite::owner()).await.unwrap();
    let refused = days.stores[2].readmit(&third.id, third.fence, &days.claim(None)).await.unwrap_err();
    assert!(matches!(&refused, StoreError::NothingLeft(given) if given.held_by_others == NanoUsd(600)), "{refused}");
    assert!(refused.to_string().contains("other runs have spent $0.000 and hold $0.000 while they work"), "{refused}");
    days.clock.advance(std::time::Duration::from_secs(86_400));
    let tomorrow = days.stores[2].readmit(&third.id, third.fence, &days.claim(None)).await.unwrap();
    assert_eq!(tomorrow[0].granted, NanoUsd(1_000));
    let stale = days.stores[2].readmit(&third.id, Fence(1), &days.claim(None)).await;
    assert!(matches!(stale, Err(StoreError::Fenced(_))), "{stale:?}");
}

/// What happens to runs of one repository.
#[derive(Debug, Clone)]
enum Move {
    Start(Option<u64>),
    /// Of what it may, so many hundredths.
    Spend(usize, u64),
    End(usize),
    /// Killed with so many hundredths of the rest reserved.
    Die(usize, u64),
    Resume(usize),
    NextDay,
}

fn moves() -> impl Strategy<Value = Move> {
    let run = || any::<prop::sample::Index>().prop_map(|index| index.index(1_000));
    prop_oneof![
        4 => prop::option::of(1u64..600).prop_map(Move::Start),
        4 => (run(), 0u64..=100).prop_map(|(run, share)| Move::Spend(run, share)),
        2 => run().prop_map(Move::End),
        2 => (run(), 0u64..=100).prop_map(|(run, share)| Move::Die(run, share)),
        3 => run().prop_map(Move::Resume),
        1 => Just(Move::NextDay),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    /// Whatever runs of several processes do, what a day has spent and holds is never more than its budget.
    #[test]
    fn a_days_runs_keep_its_budget(story in prop::collection::vec(moves(), 1..40)) {
        tokio::runtime::Runtime::new().unwrap().block_on(keep(story))?;
    }
}

async fn keep(story: Vec<Move>) -> Result<(), TestCaseError> {
    let days = Days::new(1_000).await;
    let mut runs: Vec<Run> = Vec::new();
    for (at, step) in story.into_iter().enumerate() {
        let count = runs.len().max(1);
        match step {
            Move::Start(wanted) => {
                let run = days.start(at, wanted).await;
                prop_assert!(wanted.is_none_or(|wanted| run.given.0 <= wanted));
                runs.push(run);
            }
            Move::Spend(which, share) => {
                if let Some(run) = runs.get_mut(which % count).filter(|run| run.alive) {
                    run.spent = run.spent.plus(NanoUsd(run.given.minus(run.spent).0 * share / 100));
                    days.append(run, NanoUsd(0), None).await;
                }
            }
            Move::End(which) => {
                if let Some(run) = runs.get(which % count).filter(|run| run.alive) {
                    days.append(run, NanoUsd(0), Some(Ending::Done)).await;
                    runs.remove(which % count);
                }
            }
            Move::Die(which, share) => {
                if let Some(run) = runs.get_mut(which % count).filter(|run| run.alive) {
                    let reserved = NanoUsd(run.given.minus(run.spent).0 * share / 100);
                    days.append(run, reserved, None).await;
                    days.stores[0].release(&run.id, run.fence).await.unwrap();
                    // Taken up again, it is charged that first.
                    run.spent = run.spent.plus(reserved);
                    run.alive = false;
                }
            }
            Move::Resume(which) => {
                if let Some(run) = runs.get_mut(which % count).filter(|run| !run.alive) {
                    run.fence = days.stores[1].take(&run.id, &sqlite::owner()).await.unwrap();
                    match days.stores[1].readmit(&run.id, run.fence, &days.claim(None)).await {
                        Ok(given) => {
                            run.given = given[0].granted;
                            run.alive = true;
                            prop_assert!(run.given > run.spent);
                            days.append(run, NanoUsd(0), None).await;
                        }
                        Err(StoreError::NothingLeft(_)) => {
                            days.stores[1].release(&run.id, run.fence).await.unwrap();
                        }
                        Err(error) => return Err(TestCaseError::fail(error.to_string())),
                    }
                }
            }
            // Runs that are at work across midnight count for the day on which they began: here all have stopped.
            Move::NextDay => {
                if runs.iter().all(|run| !run.alive) {
                    days.clock.advance(std::time::Duration::from_secs(86_400));
                }
            }
        }
        let (spent, held) = days.today().await;
        prop_assert!(spent.plus(held) <= days.cap, "{spent:?} spent and {held:?} held of {:?}", days.cap);
    }
    Ok(())
}
