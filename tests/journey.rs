//! The main job on a real project: `more-itertools`, 13,000 lines that nobody here wrote, with its own tests.
//!
//! A scripted provider (real HTTP, real server-sent events) drives architect → coder → tester → reviewer. Its answers
//! depend on what it was sent: without the denial, the gate's output and the tools' results in the requests it has no
//! answer, and the run fails. So each of the variants that switches one protection off turns red.

mod common;

use common::{ModelServer, Reply, Rule, Script, TestRepo, git, ok, spoken};
use futures::stream::{self, StreamExt};
use serde_json::json;
use sqlx::{ConnectOptions, Connection};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

const WORKFLOW: &str = r#"
name: mend
description: Find the cause, mend it, test it, review it.
inputs:
  task: { type: string, required: true }
policy: POLICY
steps:
  plan:
    mode: architect
    prompt: "Find the cause and plan the change.\n{{ inputs.task }}"
    output: { schema: plan }
  implement:
    mode: coder
    needs: [plan]
    prompt: "Carry out this plan.\n{{ steps.plan.output | tojson }}"
    GATES
    attempts: 3
  test:
    mode: tester
    needs: [implement]
    prompt: "Add a test that would have failed.\n{{ inputs.task }}"
    gates: [tests]
  review:
    mode: reviewer
    needs: [test]
    prompt: "Review the change.\n{{ steps.implement.diff }}"
    output: { schema: review }
deliver:
  as: branch
  branch: "codeforge/mend-tail"
  title: "{{ steps.plan.output.title }}"
"#;

const CONFIG: &str = r#"
gates:
  tests: { run: "python3 -m unittest -q tests.test_recipes", timeout: 2m, on_fail: ON_FAIL }
  lint: { run: "python3 -m compileall -q more_itertools tests", timeout: 2m, on_fail: rollback }
"#;

const LAX: &str = r#"
name: lax
description: Everything goes.
rules:
  - { tool: "*", decision: allow }
default: allow
gates: { require: [tests], rollback_on_fail: false }
limits: { max_steps: 50, max_tokens: 10000000 }
"#;

const GOOD: &str = "        yield from islice(iterable, max(0, len(iterable) - n), None)\n";
const BROKEN: &str = "        yield from islice(iterable, len(iterable) - n, None)\n";
const WRONG: &str = "        yield from islice(iterable, max(1, len(iterable) - n), None)\n";

/// What a variant switches off.
struct World {
    policy: &'static str,
    gates: &'static str,
    on_fail: &'static str,
    sandbox: &'static str,
}

impl Default for World {
    fn default() -> Self {
        Self { policy: "headless-safe-sandbox", gates: "gates: [tests, lint]", on_fail: "retry", sandbox: "native" }
    }
}

/// The project, broken, with its `.codeforge`.
fn project(world: &World) -> TestRepo {
    let repo = TestRepo::empty();
    #[expect(clippy::disallowed_methods, reason = "scripts/setup keeps its downloads under the home folder")]
    let home = std::env::var("HOME").unwrap();
    let sdist = PathBuf::from(home).join(".cache/codeforge/fixtures/more_itertools-10.5.0.tar.gz");
    assert!(sdist.exists(), "{} is missing: scripts/setup brings it", sdist.display());
    #[expect(clippy::disallowed_methods, reason = "tests unpack with the tool that people have")]
    let mut tar = std::process::Command::new("tar");
    ok(tar.args(["-xzf", sdist.to_str().unwrap(), "--strip-components=1", "-C"]).arg(repo.path()));
    repo.commit("more-itertools 10.5.0");
    let recipes = repo.read("more_itertools/recipes.py");
    assert!(recipes.contains(GOOD));
    repo.write("more_itertools/recipes.py", recipes.replace(GOOD, BROKEN));
    let workflow = WORKFLOW.replace("POLICY", world.policy).replace("GATES", world.gates);
    let mut config = CONFIG.replace("ON_FAIL", world.on_fail);
    if world.sandbox == "docker" {
        config.push_str("sandbox: { image: \"codeforge-python:2\" }\n");
    }
    repo.write(".codeforge/workflows/mend.yml", workflow);
    repo.write(".codeforge/config.yml", config);
    repo.write(".codeforge/policies/lax.yml", LAX);
    repo.write(".gitignore", "__pycache__/\n");
    repo.commit("Break tail(), describe how it is checked");
    repo
}

fn edit(from: &str, to: &str) -> Reply {
    Reply::call("edit_file", json!({ "path": "more_itertools/recipes.py", "old": from, "new": to }))
}

fn finish(summary: &str) -> Reply {
    Reply::call("finish", json!({ "summary": summary }))
}

fn script() -> Script {
    let coder = || Rule::when().system("You are the coder").user("Count from the start");
    let first = |rule: Rule| rule.matches("the first attempt", |asked| !asked.user().contains("test_sized_equal"));
    let again = |rule: Rule| {
        rule.user("test_sized_equal")
            .user("Gate `tests` failed")
            .matches("the discarded difference", |asked| asked.user().contains("max(1, len(iterable) - n)"))
    };
    let plan = json!({
        "title": "Count from the start when fewer items are there than asked for",
        "summary": "Count from the start: islice() takes no negative start.",
        "steps": [{ "what": "Never start below 0", "files": ["more_itertools/recipes.py"] }],
    });
    vec![
        Rule::when()
            .system("You are the architect")
            .user("tail(8, 'ABC')")
            .turn(0)
            .reply(Reply::call("search", json!({ "pattern": "^def tail", "glob": "*.py" }))),
        Rule::when()
            .system("You are the architect")
            .last("more_itertools/recipes.py:132")
            .reply(Reply::call("finish", json!({ "summary": "Planned.", "output": plan }))),
        first(coder())
            .turn(0)
            .reply(Reply::call("shell", json!({ "command": "curl -s https://docs.python.org/3/library/itertools.html" }))),
        first(coder()).turn(1).last("was not run").last("no network").reply(Reply::call(
            "read_file",
            json!({ "path": "more_itertools/recipes.py", "start_line": 130, "end_line": 150 }),
        )),
        first(coder()).turn(2).last("def tail(n, iterable)").reply(edit(BROKEN, WRONG)),
        first(coder()).turn(3).last("Changed more_itertools/recipes.py").reply(finish("Mended.")),
        // The workspace is what it was before the first attempt: the broken line is there again.
        again(coder()).turn(0).reply(
            Reply::call("search", json!({ "pattern": "islice\\(iterable, len\\(iterable\\) - n", "path": "more_itertools" })),
        ),
        again(coder()).turn(1).last("more_itertools/recipes.py:145").reply(edit(BROKEN, GOOD)),
        again(coder())
            .turn(2)
            .reply(Reply::call("shell", json!({ "command": "python3 -m unittest -q tests.test_recipes.TailTests" }))),
        again(coder()).turn(3).last("Ran 6 tests").last("OK").reply(finish("Mended; the tests pass.")),
        Rule::when().system("You are the tester").turn(0).reply(Reply::call(
            "edit_file",
            json!({
                "path": "tests/test_recipes.py",
                "old": "    def test_sized_less(self):\n",
                "new": "    def test_sized_empty(self):\n        \"\"\"A sized iterable without items has no last ones\"\"\"\n        self.assertEqual(list(mi.tail(3, '')), [])\n\n    def test_sized_less(self):\n",
            }),
        )),
        Rule::when().system("You are the tester").turn(1).last("test_sized_empty").reply(finish("Added a test.")),
        Rule::when()
            .system("You are the reviewer")
            .user("max(0, len(iterable) - n)")
            .turn(0)
            .reply(Reply::call("git_diff", json!({ "path": "tests" }))),
        Rule::when().system("You are the reviewer").last("test_sized_empty").reply(Reply::call(
            "finish",
            json!({ "summary": "Right.", "output": { "approved": true, "summary": "Right and small.", "findings": [] } }),
        )),
    ]
}

fn command(repo: &TestRepo, server: &ModelServer, world: &World) -> Command {
    let command = repo.codeforge(&[
        "run",
        "mend",
        "-v",
        "-i",
        "task=tail(8, 'ABC') raises a ValueError instead of giving all items",
        "--sandbox",
        world.sandbox,
    ]);
    priced(command, server)
}

/// With the scripted model and its prices.
fn priced(mut command: Command, server: &ModelServer) -> Command {
    command.env("CODEFORGE_LLM_BASE_URL", server.url()).env("CODEFORGE_MODEL", "scripted");
    command.env("CODEFORGE_LLM_PRICE_INPUT", "1").env("CODEFORGE_LLM_PRICE_OUTPUT", "2");
    command
}

async fn finished(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

async fn run(repo: &TestRepo, server: &ModelServer, world: &World) -> Output {
    finished(command(repo, server, world)).await
}

/// Everything of the user's that a run must leave alone.
fn untouched(repo: &TestRepo) -> (String, Vec<u8>, String, String, String) {
    (
        repo.head(),
        std::fs::read(repo.path().join(".git/index")).unwrap(),
        repo.status(),
        repo.git(&["stash", "list"]),
        repo.git(&["symbolic-ref", "HEAD"]),
    )
}

async fn mends_the_project(world: World) {
    let repo = project(&world);
    repo.write("notes.txt", "mine, not committed\n");
    let before = untouched(&repo);
    let server = ModelServer::start(script()).await;
    let output = run(&repo, &server, &world).await;
    assert!(output.status.success(), "{}\n{:#?}", spoken(&output), server.unmatched());
    server.finished();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for words in ["rolled back, attempt 2 of 3", "denied ×1", "Branch  codeforge/mend-tail", " · sandbox "] {
        assert!(said.contains(words), "`{words}` is missing\n{}", spoken(&output));
    }
    assert_eq!(untouched(&repo), before, "the user's HEAD, index, tree, stash and branch are as they were");
    // What was delivered: the change and its test, nothing else, on a branch whose tests pass.
    let changed = repo.git(&["diff", "--name-only", "main", "codeforge/mend-tail"]);
    assert_eq!(changed.trim(), "more_itertools/recipes.py\ntests/test_recipes.py");
    let clone = tempfile::tempdir().unwrap();
    ok(git().args(["clone", "--quiet", "--branch", "codeforge/mend-tail"]).arg(repo.path()).arg(clone.path()));
    #[expect(clippy::disallowed_methods, reason = "the project's own tests are run as its people do")]
    let mut tests = std::process::Command::new("/usr/bin/python3");
    ok(tests.args(["-m", "unittest", "-q", "tests.test_recipes"]).current_dir(clone.path()));
    assert!(!said.contains("cost unknown"), "{said}");
    // Nothing of the run is left mounted.
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(&run_id(&repo)), "{mounts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_project_is_mended_in_the_native_sandbox() {
    mends_the_project(World::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_project_is_mended_in_docker() {
    mends_the_project(World { sandbox: "docker", ..World::default() }).await;
}

/// The one run's id.
fn run_id(repo: &TestRepo) -> String {
    let runs = ok(&mut repo.codeforge(&["runs", "list", "--format", "json"]));
    let runs: serde_json::Value = serde_json::from_str(&runs).unwrap();
    runs[0]["run"]["id"].as_str().unwrap().to_owned()
}

async fn turns_red(world: World, why: &str) {
    let repo = project(&world);
    let server = ModelServer::start(script()).await;
    let output = run(&repo, &server, &world).await;
    assert!(!output.status.success(), "{why}\n{}", spoken(&output));
    assert!(!repo.git(&["branch", "--list", "codeforge/*"]).contains("mend-tail"), "{why}: nothing is delivered");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_gate_it_turns_red() {
    turns_red(World { gates: "gates: [lint]", ..World::default() }, "the wrong fix must not get through").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_policy_it_turns_red() {
    let world = World { policy: "lax", ..World::default() };
    turns_red(world, "the script waits for the denial").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_rollback_it_turns_red() {
    let world = World { policy: "lax", on_fail: "warn", ..World::default() };
    turns_red(world, "a failed gate whose work is kept is no second attempt").await;
}

/// The journal's rows: kind (`intent`, `input`), type, key.
type Rows = Vec<(String, String, Option<String>)>;

/// The journal as it is on disk now; nothing while there is none yet.
async fn journal(repo: &TestRepo) -> Option<Rows> {
    let file = repo.path().join(".git/codeforge/journal.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file).read_only(true);
    let mut database = options.connect().await.ok()?;
    let rows = sqlx::query_as("SELECT kind, type, key FROM journal ORDER BY seq").fetch_all(&mut database).await.ok();
    database.close().await.unwrap();
    rows
}

/// What a run left: the delivered tree, and how often each kind of work was intended and each kind of fact written.
struct Left {
    tree: String,
    rows: Rows,
    requests: usize,
}

impl Left {
    async fn of(repo: &TestRepo, server: &ModelServer) -> Self {
        Self {
            tree: repo.git(&["rev-parse", "codeforge/mend-tail^{tree}"]),
            rows: journal(repo).await.unwrap(),
            requests: server.requests().len(),
        }
    }

    fn count(&self, kind: &str) -> BTreeMap<&str, usize> {
        self.rows.iter().filter(|row| row.0 == kind).fold(BTreeMap::new(), |mut counts, row| {
            *counts.entry(row.1.as_str()).or_default() += 1;
            counts
        })
    }
}

/// The script, answering again what is asked again: a call that a kill cut is made again.
fn patient() -> Script {
    script().into_iter().map(Rule::always).collect()
}

/// Kills a run with SIGKILL while work of a kind is under way, then resumes it. Work may be over before the kill comes:
/// such a kill shows nothing, and another run is killed.
async fn killed_at(kind: &str) -> Left {
    for _ in 0..10 {
        if let Some(left) = killed_once_at(kind).await {
            return left;
        }
    }
    panic!("{kind}: of ten kills none came while it was under way");
}

/// Kills as soon as the journal shows the first intent of the kind. `None`: that was too late.
async fn killed_once_at(kind: &str) -> Option<Left> {
    let world = World::default();
    let repo = project(&world);
    let server = ModelServer::start(patient()).await;
    let mut child = command(&repo, &server, &world).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    loop {
        let rows = journal(&repo).await.unwrap_or_default();
        if rows.iter().any(|row| row.0 == "intent" && row.1 == kind) {
            break;
        }
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        tokio::task::yield_now().await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let cut = journal(&repo).await.unwrap();
    let done = |key: &Option<String>| cut.iter().any(|row| row.0 == "input" && row.2 == *key);
    let open: Vec<&str> =
        cut.iter().filter(|row| row.0 == "intent" && !done(&row.2)).map(|row| row.1.as_str()).collect();
    if open.is_empty() {
        return None;
    }
    let calls = open.iter().filter(|kind| **kind == "call_model").count();
    let resumed = finished(priced(repo.codeforge(&["resume", &run_id(&repo)]), &server)).await;
    assert!(resumed.status.success(), "{kind}\n{}\n{:#?}", spoken(&resumed), server.unmatched());
    let left = Left::of(&repo, &server).await;
    // What was finished before the kill stands as it was written: the journal only grew.
    assert_eq!(left.rows.get(..cut.len()), Some(cut.as_slice()), "{kind}");
    assert_eq!(left.count("input").get("outcome_unknown").copied().unwrap_or_default(), calls, "{kind}: {open:?}");
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(&run_id(&repo)), "{kind}: left mounted");
    Some(left)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_each_kind_of_work_it_goes_on_to_the_same_branch() {
    let world = World::default();
    let repo = project(&world);
    let server = ModelServer::start(patient()).await;
    let output = run(&repo, &server, &world).await;
    assert!(output.status.success(), "{}", spoken(&output));
    let whole = Left::of(&repo, &server).await;
    let kinds: Vec<&str> = whole.count("intent").into_keys().collect();
    assert!(kinds.len() >= 8, "{kinds:?}");
    let mut ends =
        stream::iter(kinds.clone()).map(|kind| async move { (kind, killed_at(kind).await) }).buffer_unordered(2);
    while let Some((kind, left)) = ends.next().await {
        assert_eq!(left.tree, whole.tree, "{kind}: another change");
        let (facts, now) = (whole.count("input"), left.count("input"));
        let of = |counts: &BTreeMap<&str, usize>, fact: &str| counts.get(fact).copied().unwrap_or_default();
        let unknown = of(&now, "outcome_unknown");
        assert!(unknown <= 1, "{kind}: {unknown} calls of unknown outcome");
        assert!(left.requests <= whole.requests + unknown, "{kind}: a paid call was made twice");
        for (fact, count) in &facts {
            // A call of unknown outcome is put together again, and made again: the only thing that is.
            let more = if *fact == "composed" { unknown } else { 0 };
            assert_eq!(of(&now, fact), count + more, "{kind}: `{fact}` as often as without the kill");
        }
    }
}
