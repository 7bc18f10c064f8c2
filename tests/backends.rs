//! Other agents and plain programs as backends of a step: what they change is judged and gated as our agent's change
//! is, whatever they are and however they end.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use common::model_server::Asked;
use common::{ModelServer, Reply, Rule, TestRepo, ok, spoken};
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

/// A repository with a workflow, a policy that lets agents write `src/**` only, and a formatter.
fn repository(steps: &str) -> TestRepo {
    let repo = TestRepo::with(&[
        ("src/list.txt", "b\na\n"),
        ("docs/guide.md", "guide\n"),
        ("tool/sort", "#!/bin/sh\nfor file; do sort -o \"$file\" \"$file\"; done\necho sorted \"$@\"\n"),
        (
            ".codeforge/policies/narrow.yml",
            "name: narrow\nrules:\n  - { tool: \"*\", path: [\"src/**\"], decision: allow }\nprotected_paths: [\".github/**\"]\n",
        ),
        (
            ".codeforge/workflows/w.yml",
            &format!("name: w\npolicy: narrow\nsandbox: {{ driver: native }}\ndeliver: commit-local\n{steps}"),
        ),
    ]);
    repo.executable("tool/sort");
    repo.commit("executable");
    repo
}

fn run(repo: &TestRepo) -> Output {
    repo.codeforge(&["run", "w"]).output().unwrap()
}

/// The run's own record, as `runs show` prints it for machines.
fn account(repo: &TestRepo) -> serde_json::Value {
    serde_json::from_str(&ok(&mut repo.codeforge(&["runs", "show", &run_id(repo), "--format", "json"]))).unwrap()
}

/// The one run that there is.
fn run_id(repo: &TestRepo) -> String {
    let list: serde_json::Value =
        serde_json::from_str(&ok(&mut repo.codeforge(&["runs", "list", "--format", "json"]))).unwrap();
    list[0]["run"]["id"].as_str().unwrap_or_else(|| panic!("{list:#}")).to_owned()
}

#[test]
fn a_formatter_works_as_a_step_and_is_gated() {
    let repo = repository(
        "gates: { sorted: { run: \"sort -c src/list.txt\" } }\n\
         steps:\n  format: { backend: exec, command: [tool/sort, src/list.txt], gates: [sorted] }\n",
    );
    let output = run(&repo);
    assert!(output.status.success(), "{}", spoken(&output));
    assert_eq!(repo.read("src/list.txt"), "a\nb\n");
    let account = account(&repo);
    let step = &account["steps"][0];
    assert_eq!(step["gates"][0][1]["verdict"], "pass", "{step:#}");
    assert_eq!(step["summary"], "sorted src/list.txt");
    assert_eq!(account["spend"]["calls"], 0, "no model, no cost: {account:#}");

    // What a gate does not like is not kept.
    let repo = repository(
        "gates: { sorted: { run: \"sort -c src/list.txt\" } }\n\
         steps:\n  format: { backend: exec, run: \"echo 0 >>src/list.txt; echo \\\"{prompt}\\\"\", gates: [sorted] }\n",
    );
    let output = run(&repo);
    assert_eq!(output.status.code(), Some(1), "{}", spoken(&output));
    assert_eq!(repo.read("src/list.txt"), "b\na\n");
}

#[test]
fn a_formatter_that_finds_nothing_to_do_has_not_failed() {
    let repo = repository("steps:\n  format: { backend: exec, command: [\"true\"] }\n");
    let output = run(&repo);
    assert!(output.status.success(), "{}", spoken(&output));
}

#[test]
fn a_path_that_the_policy_keeps_is_refused_and_everything_is_rolled_back() {
    for (what, path) in [
        (
            "echo x >>src/list.txt; mkdir -p .github/workflows; echo evil >.github/workflows/ci.yml",
            ".github/workflows/ci.yml",
        ),
        ("echo x >>src/list.txt; echo x >>docs/guide.md", "docs/guide.md"),
        ("echo x >>src/list.txt; rm docs/guide.md", "docs/guide.md"),
        ("mv docs/guide.md src/guide.md", "docs/guide.md"),
    ] {
        let repo = repository(&format!("steps:\n  work: {{ backend: exec, run: {what:?} }}\n"));
        let head = repo.head();
        let output = run(&repo);
        assert_eq!(output.status.code(), Some(4), "{what}: {}", spoken(&output));
        assert!(spoken(&output).contains(path), "{what}: {}", spoken(&output));
        assert_eq!((repo.head(), repo.status()), (head, String::new()), "{what}");
        let account = account(&repo);
        assert_eq!(account["ending"], "denied");
        assert!(account["steps"][0]["denials"][0][0].as_str().unwrap().contains(path), "{account:#}");
        assert!(account["steps"][0]["files"].as_array().unwrap().is_empty(), "{account:#}");
    }
}

#[test]
fn a_denied_attempt_is_tried_again_where_attempts_are_left() {
    // The second attempt finds the workspace as it was, and does it right.
    let repo = repository("steps:\n  work: { backend: mine, mode: coder, attempts: 2 }\n");
    repo.write(".codeforge/backends/mine.yml", "name: mine\ndialect: none\ncommand: [tool/obey, \"{prompt_file}\"]\n");
    repo.write(
        "tool/obey",
        "#!/bin/sh\ncat \"$1\"\nif grep -q 'attempt 2' \"$1\" && grep -q 'docs/guide.md' \"$1\"; then echo c >>src/list.txt; \
         else echo x >>docs/guide.md; fi\n",
    );
    repo.executable("tool/obey");
    repo.commit("a backend");
    let output = run(&repo);
    assert!(output.status.success(), "{}", spoken(&output));
    assert_eq!((repo.read("src/list.txt"), repo.read("docs/guide.md")), ("b\na\nc\n".into(), "guide\n".into()));
    assert_eq!(account(&repo)["steps"][0]["attempt"], 2);
}

#[test]
fn a_program_that_fails_says_how_and_leaves_nothing() {
    let repo = repository(
        "steps:\n  work: { backend: exec, run: \"echo x >>src/list.txt; echo first; echo the reason; exit 7\" }\n",
    );
    let output = run(&repo);
    assert_eq!(output.status.code(), Some(1), "{}", spoken(&output));
    let said = spoken(&output);
    assert!(said.contains("exit code 7") && said.contains("the reason"), "{said}");
    assert_eq!(repo.read("src/list.txt"), "b\na\n");

    // A deadline takes everything that it started.
    let token = 80_000_000 + std::process::id();
    let repo = repository(&format!(
        "steps:\n  work: {{ backend: exec, timeout: 1s, run: \"echo x >>src/list.txt; setsid sleep {token} & sleep {token}\" }}\n"
    ));
    let output = run(&repo);
    assert_eq!(output.status.code(), Some(3), "{}", spoken(&output));
    assert_eq!(repo.read("src/list.txt"), "b\na\n");
    let living = std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        std::fs::read(entry.path().join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&token.to_string()))
    });
    assert_eq!(living.count(), 0);
}

#[test]
fn a_missing_program_is_named_with_the_way_to_install_it() {
    let repo = repository("steps:\n  work: { backend: mine, mode: coder }\n");
    repo.write(
        ".codeforge/backends/mine.yml",
        "name: mine\ndialect: none\ncommand: [no-such-agent, \"{prompt}\"]\ninstall: npm install -g no-such-agent\n",
    );
    let output = run(&repo);
    assert_eq!(output.status.code(), Some(5), "{}", spoken(&output));
    let said = spoken(&output);
    assert!(said.contains("`no-such-agent` is not on PATH") && said.contains("npm install -g no-such-agent"), "{said}");
}

#[test]
fn untrusted_text_in_a_prompt_stays_one_argument_and_its_stream_is_read() {
    let repo = repository(
        "inputs: { task: { type: string } }\nsteps:\n  work: { backend: mine, mode: coder, prompt: \"{{ inputs.task }}\" }\n",
    );
    repo.write(
        ".codeforge/backends/mine.yml",
        "name: mine\ndialect: none\ncommand: [tool/say, \"{prompt}\"]\nleaves: [\"src/.mine*\"]\nfiles:\n  conf/a.json: \"{\\\"ask\\\": \\\"{prompt}\\\"}\"\n\
         stream: { jsonl: { at: /say, when: { /type: said } }, error: /failed }\n",
    );
    repo.write(
        "tool/say",
        "#!/usr/bin/python3\nimport json, os, sys\nassert len(sys.argv) == 2, sys.argv\n\
         assert json.load(open(os.environ['HOME'] + '/conf/a.json'))['ask'] == sys.argv[1]\n\
         print(json.dumps({'type': 'said', 'say': 'working'}), flush=True)\n\
         open('src/asked.txt', 'w').write(sys.argv[1])\nopen('src/.mine.cache', 'w').write('x')\n\
         print(json.dumps({'type': 'noise', 'say': 'hidden'}))\nprint(json.dumps({'type': 'said', 'say': 'all done'}))\n",
    );
    repo.executable("tool/say");
    repo.commit("a backend");
    let task = "$(touch /workspace/src/pwned) \"; touch src/pwned; '{api_key}' {home}";
    let output = repo.codeforge(&["run", "w", "-i", &format!("task={task}")]).output().unwrap();
    assert!(output.status.success(), "{}", spoken(&output));
    assert!(repo.read("src/asked.txt").contains(task), "{}", repo.read("src/asked.txt"));
    assert!(!repo.has("src/pwned") && !repo.has("src/.mine.cache"), "{}", repo.git(&["show", "--stat"]));
    assert_eq!(account(&repo)["steps"][0]["summary"], "all done");
}

#[test]
fn under_docker_a_program_works_as_a_step_too() {
    let repo = repository("steps:\n  format: { backend: exec, command: [tool/sort, src/list.txt] }\n");
    let file = ".codeforge/workflows/w.yml";
    let text = repo.read(file).replace("driver: native", "driver: docker, image: \"codeforge-test:latest\"");
    repo.write(file, text);
    repo.commit("docker");
    let output = run(&repo);
    assert!(output.status.success(), "{}", spoken(&output));
    assert_eq!(repo.read("src/list.txt"), "a\nb\n");
}

#[test]
fn a_run_that_is_killed_puts_the_tree_back_and_starts_the_program_again() {
    let repo = repository(
        "steps:\n  work: { backend: exec, run: \"echo once >>src/list.txt; echo begun; sleep 2; echo ended\" }\n",
    );
    let mut child = repo.codeforge(&["-vv", "run", "w"]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    // The program has written and says so: now the engine dies.
    assert!(lines.any(|line| line.unwrap().contains("begun")), "the program never began");
    child.kill().unwrap();
    child.wait().unwrap();
    let id = run_id(&repo);
    let output = repo.codeforge(&["resume", &id]).output().unwrap();
    assert!(output.status.success(), "{}", spoken(&output));
    assert_eq!(repo.read("src/list.txt"), "b\na\nonce\n");
}

#[test]
fn the_command_line_lists_and_shows_backends() {
    let repo = repository("steps:\n  work: { backend: exec, command: [\"true\"] }\n");
    repo.write(".codeforge/backends/mine.yml", "name: mine\ndescription: Our own\ndialect: none\ncommand: [mine]\n");
    let list = ok(&mut repo.codeforge(&["backends", "list"]));
    assert!(list.lines().any(|line| line.starts_with("codex ") && line.contains("openai-responses")), "{list}");
    assert!(list.contains("Our own  (this repository's)"), "{list}");
    assert!(ok(&mut repo.codeforge(&["backends", "show", "aider"])).contains("{prompt_file}"));
    let output = repo.codeforge(&["backends", "show", "aidr"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(ok(&mut repo.codeforge(&["schema", "backend"])).contains("\"dialect\""));
}

/// Codex, as set-up installed it, on the `PATH`; models at a scripted provider, whose key is a canary.
#[expect(clippy::disallowed_methods, reason = "set-up installs agents into the home of who runs the tests")]
fn with_codex(repo: &TestRepo, server: &ModelServer, arguments: &[&str]) -> Command {
    repo.write(
        ".codeforge/config.yml",
        format!(
            "models:\n  main: {{ provider: openai, model: scripted, base_url: \"{}\", api_key: env://MAIN_KEY, max_output: 500,\n    \
             price: {{ input_per_mtok: 0.1, output_per_mtok: 0.1 }} }}\nscenarios: {{ default: [main] }}\n",
            server.url()
        ),
    );
    repo.commit("models");
    let home = std::env::var("HOME").unwrap();
    let mut command = repo.codeforge(arguments);
    command.env("PATH", format!("{home}/.cache/codeforge/peers/codex/node_modules/.bin:/usr/local/bin:/usr/bin:/bin"));
    command.env("MAIN_KEY", CANARY).env("GITHUB_TOKEN", CANARY);
    command
}

const CANARY: &str = "sk-canary-4f1d9c2a7b";

/// Codex is asked to run a command.
fn codex_runs(asked: &Asked, command: &str) -> Reply {
    let reply = match asked.tools().contains(&"exec_command") {
        true => Reply::call("exec_command", json!({ "cmd": command })),
        false => Reply::call("shell", json!({ "command": ["sh", "-c", command] })),
    };
    reply.usage(30_000, 500)
}

#[test]
fn a_real_agent_works_through_the_gateway_and_no_key_is_inside() {
    let repo = repository(
        "gates: { sorted: { run: \"sort -c src/list.txt\" } }\n\
         steps:\n  work: { mode: coder, backend: codex, prompt: \"Sort src/list.txt\", gates: [sorted] }\n",
    );
    let look = "(env; cat /proc/*/environ | tr '\\0' '\\n'; cat ~/.codex/config.toml) >src/seen.txt 2>/dev/null; \
                sort -o src/list.txt src/list.txt";
    let server = ModelServer::start_blocking(vec![
        Rule::when().turn(0).answer(move |asked| codex_runs(asked, look)),
        Rule::when().turn(1).reply(Reply::text("Sorted it.").usage(1100, 10)),
    ]);
    let output = with_codex(&repo, &server, &["run", "w"]).output().unwrap();
    assert!(output.status.success(), "{}", spoken(&output));
    server.finished();
    assert_eq!(repo.read("src/list.txt"), "a\nb\n");
    let seen = repo.read("src/seen.txt");
    assert!(seen.contains("GATEWAY_TOKEN=cf-") && seen.contains("http://127.0.0.1:4141/v1"), "{seen}");
    assert!(!seen.contains(CANARY) && !seen.contains("MAIN_KEY") && !seen.contains(server.url()), "{seen}");
    assert_eq!(server.asked()[0].header("authorization"), Some(format!("Bearer {CANARY}").as_str()));
    let account = account(&repo);
    assert_eq!(account["spend"]["calls"], 2, "{account:#}");
    assert_eq!(account["steps"][0]["summary"], "Sorted it.");
}

#[test]
fn a_budget_of_a_cent_stops_a_real_agent_and_everything_is_rolled_back() {
    let repo = repository("steps:\n  work: { mode: coder, backend: codex, prompt: \"Go on for ever\" }\n");
    let server = ModelServer::start_blocking(vec![
        Rule::when().answer(|asked| codex_runs(asked, &format!("echo {} >>src/list.txt", asked.turn()))).always(),
    ]);
    let output = with_codex(&repo, &server, &["run", "w", "--budget", "0.01"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", spoken(&output));
    assert!(spoken(&output).contains("budget"), "{}", spoken(&output));
    assert_eq!(repo.read("src/list.txt"), "b\na\n");
    assert_eq!(repo.git(&["log", "-1", "--format=%s"]), "models", "nothing was delivered");
    assert!(!server.asked().is_empty());
    let cost = account(&repo)["spend"]["cost"].as_u64().unwrap();
    assert!(cost <= 10_000_000, "{cost} billionths of a dollar");
}
