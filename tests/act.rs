//! The GitHub action, run by a real runner of GitHub's workflows (`act`), on the host and in containers.

mod common;

use codeforge::model::forge::ForgeKind;
use common::act::{Act, Ran, action};
use common::forge_server::{ForgeServer, TOKEN};
use common::hub::{pull_request, push};
use common::releases::{HOSTILE, Releases, environment, probe, release};
use common::{ModelServer, Reply, Rule, TestRepo, clean};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The inputs that are given to the program, from `action.yml`.
fn inputs() -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("action.yml")).unwrap();
    let action: Value = serde_yaml::from_str(&text).unwrap();
    let own = ["version", "mirror", "github-token"];
    action["inputs"].as_object().unwrap().keys().filter(|name| !own.contains(&name.as_str())).cloned().collect()
}

#[test]
fn what_users_and_events_say_reaches_the_program_whole_and_nothing_else() {
    let inputs = inputs();
    let given: String =
        inputs.iter().map(|name| format!("          {name}: ${{{{ github.event.comment.body }}}}\n")).collect();
    let workflow = format!(
        "on: issue_comment\npermissions: {{}}\njobs:\n  given:\n    runs-on: ubuntu-latest\n    steps:\n      - id: it\n        uses: \
         acme/codeforge@v1\n        with:\n{given}  none:\n    runs-on: ubuntu-latest\n    env: {{ CODEFORGE_MAX_COST_USD: '0.25' }}\n    \
         steps:\n      - uses: acme/codeforge@v1\n        with: {{ phase: gate, model: m }}\n"
    );
    let payload = json!({ "action": "created", "comment": { "body": HOSTILE } });
    for docker in [false, true] {
        let repo = TestRepo::with(&[("a.txt", "a\n"), (".github/workflows/it.yml", &workflow)]);
        let (folder, action) = (tempfile::tempdir().unwrap(), action());
        let (program, seen) = probe(folder.path());
        let mut act = Act::new(&repo, action.path());
        act.env("CODEFORGE_BINARY", program.to_str().unwrap())
            .secret("KEY", "k-3f9a27")
            .secret("GITHUB_TOKEN", "t-90ab12");
        if docker {
            // The probe writes there: the one folder that is not read-only.
            act.in_docker().mount_writable(folder.path());
        }
        let ran = act.run("it.yml", "issue_comment", &payload);
        ran.ok();
        let given = environment(&seen.join("given"));
        for name in &inputs {
            let variable = format!("CODEFORGE_{}", name.to_uppercase().replace('-', "_"));
            assert_eq!(given[&variable], HOSTILE, "{name}, docker: {docker}");
        }
        assert_eq!(given["CODEFORGE_FORGE_TOKEN"], "t-90ab12", "the job's own token");
        assert_eq!(ran.output("given", "it", "conclusion").as_deref(), Some("success"), "nothing was forged");
        assert!(!given["PATH"].starts_with("/tmp"), "{}", given["PATH"]);
        // What a job's own variables say holds where an input says nothing; a gate gets no token.
        let none = environment(&seen.join("none"));
        assert_eq!((none["CODEFORGE_MAX_COST_USD"].as_str(), none["CODEFORGE_MODEL"].as_str()), ("0.25", "m"));
        assert_eq!((none["CODEFORGE_FORGE_TOKEN"].as_str(), none["CODEFORGE_PROMPT"].as_str()), ("", ""));
        assert!(!repo.has("pwned") && !folder.path().join("pwned").exists());
    }
}

fn table(digest: &str, url: &str) -> String {
    format!("# words\n# from {url}\n{digest}  codeforge-1.2.3-{}-linux\n", std::env::consts::ARCH)
}

#[test]
fn the_action_downloads_its_program_and_starts_no_other() {
    // One after the other: they share the runner's cache, and what one has put there the other would find.
    let workflow = "on: push\npermissions: {}\njobs:\n  one:\n    needs: mirror\n    if: always()\n    runs-on: ubuntu-latest\n    steps:\n      - id: it\n        uses: acme/codeforge@v1\n  \
                    mirror:\n    runs-on: ubuntu-latest\n    steps:\n      - id: it\n        uses: acme/codeforge@v1\n        with: { mirror: \"${{ vars.MIRROR }}\" }\n";
    let repo = TestRepo::with(&[("a.txt", "a\n"), (".github/workflows/it.yml", workflow)]);
    let (folder, action, files) = (tempfile::tempdir().unwrap(), action(), tempfile::tempdir().unwrap());
    let (program, seen) = probe(folder.path());
    let digest = release(files.path(), &std::fs::read(&program).unwrap());
    let (server, other) = (Releases::serve(files.path()), tempfile::tempdir().unwrap());
    release(other.path(), b"#!/bin/sh\ntouch /tmp/pwned-by-a-mirror\n");
    let bad = Releases::serve(other.path());
    std::fs::write(action.path().join("action/checksums.txt"), table(&digest, &server.url)).unwrap();

    let ran = Act::new(&repo, action.path()).var("MIRROR", &bad.url).run("it.yml", "push", &json!({}));
    ran.failed();
    assert_eq!(ran.output("one", "it", "conclusion").as_deref(), Some("success"), "{}", ran.log());
    assert!(ran.said("one").contains("codeforge 1.2.3: downloaded, digest checked"), "{}", ran.log());
    assert!(seen.join("one").exists() && !seen.join("mirror").exists());
    assert_eq!((server.asked(), bad.asked()), (1, 1));
    let told = ran.annotations("mirror").join("\n");
    assert!(told.contains("is not the released program"), "{told}");
    assert!(!Path::new("/tmp/pwned-by-a-mirror").exists());
}

#[test]
fn a_cached_program_is_checked_again_and_bad_values_are_named_not_echoed() {
    let (folder, action, files, cache) =
        (tempfile::tempdir().unwrap(), action(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (program, _) = probe(folder.path());
    let digest = release(files.path(), &std::fs::read(&program).unwrap());
    let server = Releases::serve(files.path());
    let install = |version: &str, mirror: &str, binary: &str| -> (i32, String) {
        let mut command = clean("sh");
        command.arg(action.path().join("action/install.sh"));
        command.env("RUNNER_TOOL_CACHE", cache.path()).env("INSTALL_VERSION", version).env("INSTALL_MIRROR", mirror);
        command.env("CODEFORGE_BINARY", binary);
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
    };

    // This checkout is no release: it says so, and that a version of the table or a digest is needed.
    let (code, said) = install("", &server.url, "");
    assert!(code == 2 && said.contains("is not a release"), "{said}");
    let (code, said) = install("1.2.3", &server.url, "");
    assert!(code == 2 && said.contains("does not know that version"), "{said}");
    assert_eq!(server.asked(), 0);

    // Pinned by digest: downloaded once, then from the cache, and not from a cache that somebody changed.
    let pinned = format!("v1.2.3@sha256:{digest}");
    let (code, said) = install(&pinned, &server.url, "");
    assert_eq!(code, 0, "{said}");
    let found = PathBuf::from(said.lines().last().unwrap());
    assert!(found.starts_with(cache.path()) && server.asked() == 1);
    let (code, said) = install(&pinned, &server.url, "");
    assert!(code == 0 && said.contains("from the runner's cache") && server.asked() == 0, "{said}");
    std::fs::write(&found, "#!/bin/sh\ntouch pwned\n").unwrap();
    let (code, said) = install(&pinned, &server.url, "");
    assert!(
        code == 0 && server.asked() == 1 && std::fs::read(&found).unwrap() == std::fs::read(&program).unwrap(),
        "{said}"
    );

    // The table's own address and version are what nothing else was said about.
    std::fs::write(action.path().join("action/checksums.txt"), table(&digest, &server.url)).unwrap();
    std::fs::remove_file(&found).unwrap();
    assert_eq!((install("", "", "").0, server.asked()), (0, 1));
    std::fs::remove_file(&found).unwrap();
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, said) = install("", &format!("http://{nowhere}/gone"), "");
    assert!(code == 5 && said.contains("could not be fetched"), "{said}");

    // A bomb, or a page in place of a file, is no program.
    let wrong = format!("1.2.3@sha256:{}", "0".repeat(64));
    let (code, said) = install(&wrong, &server.url, "");
    assert!(code == 4 && said.contains("wrong digest") && !found.exists(), "{said}");
    assert_eq!(std::fs::read_dir(found.parent().unwrap()).unwrap().count(), 0, "nothing is left of it");

    for (version, mirror, binary) in [
        ("1.2.3\n::add-path::/evil", "", ""),
        ("../../evil", "", ""),
        ("1.2.3@sha256:evil", "", ""),
        ("", "file:///evil", ""),
        ("", "https://evil\n::add-path::/evil", ""),
        ("", "-o/evil", ""),
        ("", "", "/evil\nprogram=/evil"),
        ("", "", "/evil/codeforge"),
    ] {
        let (code, said) = install(version, mirror, binary);
        assert_eq!(code, 2, "{version:?} {mirror:?} {binary:?}: {said}");
        assert!(
            said.starts_with("::error title=CodeForge: ") && said.lines().count() == 1 && !said.contains("evil"),
            "{said}"
        );
    }
}

/// `gh`, as far as the script of a release asks it: a release's files go to where they are downloaded from.
const GH: &str = r#"#!/bin/sh
echo "$*" >>"$RELEASES/asked"
[ "$1 $2" = "release create" ] || exit 0
mkdir -p "$RELEASES/$3"; for file in "$@"; do case $file in SHA256SUMS|dist/*) cp "$file" "$RELEASES/$3/";; esac; done
"#;

#[test]
fn what_is_published_is_what_the_action_of_that_tag_downloads() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let repo = TestRepo::with(&[("a.txt", "a\n")]);
    for path in [
        "scripts/release/publish",
        "action/checksums.txt",
        "action/install.sh",
        "action.yml",
        "docker/compose.yml",
        "docker/cronjob.yml",
        "templates/codeforge/template.yml",
    ] {
        repo.write(path, std::fs::read(project.join(path)).unwrap());
    }
    repo.executable("scripts/release/publish");
    repo.commit("the project");
    let (files, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (program, _) = probe(home.path());
    let digest = release(files.path(), &std::fs::read(&program).unwrap());
    let name = format!("codeforge-1.2.3-{}-linux", std::env::consts::ARCH);
    repo.write(&format!("dist/{name}"), std::fs::read(&program).unwrap());
    repo.write(&format!("dist/{name}.gz"), std::fs::read(files.path().join(format!("v1.2.3/{name}.gz"))).unwrap());
    std::fs::remove_dir_all(files.path().join("v1.2.3")).unwrap();
    // The forge's repository, under the name that the script gives it; and the forge's own program.
    let origin = home.path().join("origin.git");
    common::ok(common::git().args(["init", "--quiet", "--bare"]).arg(&origin));
    let insteads = format!("[url \"{}\"]\n\tinsteadOf = https://github.com/acme/codeforge.git\n", origin.display());
    std::fs::write(home.path().join(".gitconfig"), insteads).unwrap();
    repo.git(&["remote", "add", "origin", "https://elsewhere.example/x.git"]);
    let gh = TestRepo::with(&[("gh", GH)]);
    gh.executable("gh");
    #[expect(clippy::disallowed_methods, reason = "tools are found as people find them")]
    let path = format!("{}:{}", gh.path().display(), std::env::var("PATH").unwrap());
    let publish = |version: &str| {
        let mut command = clean("bash");
        command.arg("scripts/release/publish").arg(version).current_dir(repo.path()).env("HOME", home.path());
        command.env("PATH", &path).env("RELEASES", files.path()).env("GITHUB_REPOSITORY", "acme/codeforge");
        command.env_remove("GIT_CONFIG_GLOBAL");
        command.output().unwrap()
    };
    let output = publish("1.2.3");
    assert!(output.status.success(), "{}", common::spoken(&output));
    let tags = common::ok(common::git().arg("-C").arg(&origin).args(["tag", "--list"]));
    assert_eq!(tags, "v1\nv1.2.3\n", "the moving name, too");
    let asked = std::fs::read_to_string(files.path().join("asked")).unwrap();
    assert!(
        asked.contains("release create v1.2.3 --verify-tag") && asked.contains("workflow run image.yml"),
        "{asked}"
    );
    // Nothing twice, and nothing under a name that is none.
    assert_eq!(publish("1.2.3").status.code(), Some(2));
    assert_eq!(publish("1.2.3; touch pwned").status.code(), Some(2));
    // Who uses the action of that tag gets the program of that release, checked by the tag's own table.
    let (used, server, cache) =
        (tempfile::tempdir().unwrap(), Releases::serve(files.path()), tempfile::tempdir().unwrap());
    common::ok(common::git().args(["clone", "--quiet", "--branch", "v1.2.3"]).arg(&origin).arg(used.path().join("it")));
    let mut install = clean("sh");
    install.arg(used.path().join("it/action/install.sh")).env("RUNNER_TOOL_CACHE", cache.path());
    let output = install.env("INSTALL_MIRROR", &server.url).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && said.contains("1.2.3: downloaded, digest checked"),
        "{}",
        common::spoken(&output)
    );
    let table = std::fs::read_to_string(used.path().join("it/action/checksums.txt")).unwrap();
    assert!(table.contains(&format!("{digest}  {name}")), "{table}");
    let component = std::fs::read_to_string(used.path().join("it/templates/codeforge/template.yml")).unwrap();
    assert!(
        component.contains("ghcr.io/acme/codeforge:1") && !component.contains("OWNER/codeforge"),
        "the owner is named"
    );
}

const MEND: &str = r#"
name: mend
description: Mend it.
on:
  command: { name: mend, access: write }
  push: { branches: [main] }
  schedule: [{ cron: "0 4 * * *" }]
  workflow_dispatch: {}
inputs: { task: { type: string, default: "the usual" } }
steps:
  work: { mode: coder, prompt: "Mend {{ inputs.task }}", gates: [tests] }
deliver: { as: pull_request, branch: "codeforge/mend-{{ event.kind }}", title: "Mended" }
"#;
const REVIEW: &str = r#"
name: look
on: { pull_request: {} }
policy: plan-readonly
steps: { look: { mode: reviewer, prompt: "Look.", output: { schema: review } } }
deliver: none
"#;
const CONFIG: &str = "gates:\n  tests: { run: \"grep -q mended app.txt\", on_fail: retry }\n  lint: { run: \"test -f app.txt\", on_fail: fail }\n";

/// Three jobs, each with what it needs; what `forge` says is done to the artifact on its way to the last one.
const PHASES: &str = r#"
on: [push, issue_comment, schedule, workflow_dispatch, pull_request]
permissions: {}
jobs:
  agent:
    runs-on: ubuntu-latest
    permissions: { contents: read }
    outputs: { artifact: "${{ steps.it.outputs.artifact }}" }
    steps:
      - uses: actions/checkout@v7
        with: { persist-credentials: false }
      - id: it
        uses: acme/codeforge@v1
        with:
          phase: agent
          prompt: ${{ inputs.task }}
          sandbox: ${{ vars.SANDBOX }}
          model: scripted-1
          llm-base-url: ${{ vars.LLM }}
          llm-api-key: ${{ secrets.LLM_KEY }}
      - uses: actions/upload-artifact@v7
        if: steps.it.outputs.artifact != ''
        with: { name: codeforge, path: "${{ steps.it.outputs.artifact }}", if-no-files-found: error }
  gate:
    needs: agent
    if: needs.agent.outputs.artifact != ''
    runs-on: ubuntu-latest
    permissions: { contents: read }
    outputs: { gate-word: "${{ steps.it.outputs.gate-word }}" }
    steps:
      - uses: actions/checkout@v7
        with: { persist-credentials: false }
      - uses: actions/download-artifact@v8
        with: { name: codeforge, path: "${{ runner.temp }}/codeforge" }
      - id: it
        uses: acme/codeforge@v1
        with: { phase: gate, sandbox: "${{ vars.SANDBOX }}" }
  deliver:
    needs: [agent, gate]
    runs-on: ubuntu-latest
    permissions: { contents: write, pull-requests: write }
    steps:
      - uses: actions/checkout@v7
        with: { persist-credentials: false }
      - uses: actions/download-artifact@v8
        with: { name: codeforge, path: "${{ runner.temp }}/codeforge" }
      - if: vars.FORGE != ''
        run: node -e "$FORGE" "$RUNNER_TEMP/codeforge/artifact.json"
        env: { FORGE: "${{ vars.FORGE }}" }
      - id: it
        uses: acme/codeforge@v1
        with:
          phase: deliver
          gate-word: ${{ needs.gate.outputs.gate-word }}
"#;

/// One job with every right.
const ONE: &str = r#"
on: [pull_request, pull_request_target]
permissions: {}
jobs:
  all:
    runs-on: ubuntu-latest
    permissions: { contents: write, pull-requests: write }
    steps:
      - uses: actions/checkout@v7
        with: { persist-credentials: false }
      - id: it
        uses: ./
        with: { sandbox: "${{ vars.SANDBOX }}", model: scripted-1, llm-base-url: "${{ vars.LLM }}", llm-api-key: "${{ secrets.LLM_KEY }}" }
      - run: printf 'cost %s, branch %s\n' "$COST" "$BRANCH"
        env: { COST: "${{ steps.it.outputs.total-cost-usd }}", BRANCH: "${{ steps.it.outputs.branch-name }}" }
"#;

/// A consumer's repository at a forge, and this project's action.
struct Consumer {
    forge: ForgeServer,
    action: tempfile::TempDir,
    docker: bool,
}

impl Consumer {
    async fn new(docker: bool) -> Self {
        let text = |path: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        let (ours, script) = (text("action.yml"), text("action/install.sh"));
        let files = [
            (".codeforge/workflows/mend.yml", MEND),
            (".codeforge/workflows/look.yml", REVIEW),
            (".codeforge/config.yml", CONFIG),
            (".github/workflows/three.yml", PHASES),
            (".github/workflows/one.yml", ONE),
            ("action.yml", &ours),
            ("action/install.sh", &script),
            ("app.txt", "broken\n"),
        ];
        let forge = ForgeServer::with(ForgeKind::Github, &files).await;
        forge.memory().members.insert("ann".into(), "write".into());
        Self { forge, action: action(), docker }
    }

    /// Runs a workflow on a checkout of a branch.
    fn run(
        &self,
        server: &ModelServer,
        file: &str,
        branch: &str,
        event: &str,
        payload: &Value,
        vars: &[(&str, &str)],
    ) -> Ran {
        let clone = self.forge.clone_of();
        clone.git(&["checkout", "--quiet", "-B", branch, &format!("refs/remotes/origin/{branch}")]);
        clone.git(&["remote", "set-url", "origin", "https://github.com/acme/widgets"]);
        let program = Path::new(env!("CARGO_BIN_EXE_codeforge"));
        let mut act = Act::new(&clone, self.action.path());
        act.env("GITHUB_SERVER_URL", self.forge.git_url().trim_end_matches("/acme/widgets.git"));
        act.env("GITHUB_API_URL", &self.forge.api()).env("CODEFORGE_BINARY", program.to_str().unwrap());
        act.env("CODEFORGE_LLM_PRICE_INPUT", "1").env("CODEFORGE_LLM_PRICE_OUTPUT", "1");
        act.secret("GITHUB_TOKEN", TOKEN).secret("LLM_KEY", "sk-test-0123456789").var("LLM", server.url());
        // A container has no right to make another wall; that it is the only one is said by hand.
        act.var("SANDBOX", if self.docker { "none" } else { "native" });
        for (name, value) in vars {
            act.var(name, value);
        }
        if self.docker {
            act.in_docker().mount(program);
        }
        tokio::task::block_in_place(|| act.run(file, event, payload))
    }
}

async fn mender() -> ModelServer {
    let edit = json!({ "path": "app.txt", "old": "broken", "new": "mended" });
    ModelServer::start(vec![
        Rule::when().turn(0).reply(Reply::call("edit_file", edit).usage(1000, 100)).always(),
        Rule::when()
            .reply(Reply::call("finish", json!({ "summary": "Mended\n::error::not ours" })).usage(1000, 10))
            .always(),
    ])
    .await
}

fn repository() -> Value {
    json!({ "id": 1, "full_name": "acme/widgets", "default_branch": "main" })
}

fn comment(body: &str) -> Value {
    json!({
        "action": "created", "repository": repository(), "sender": { "login": "ann", "type": "User" },
        "issue": { "number": 3, "title": "It is broken", "body": "", "user": { "login": "eve" } },
        "comment": { "id": 9, "body": body, "user": { "login": "ann" } },
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_jobs_deliver_on_every_event() {
    let consumer = Consumer::new(false).await;
    let server = mender().await;
    let tip = consumer.forge.tip("main").unwrap();
    let ann = json!({ "login": "ann", "type": "User" });
    for (event, kind, payload) in [
        ("issue_comment", "issue_comment", comment("/codeforge mend the rest")),
        ("schedule", "schedule", json!({ "schedule": "0 4 * * *", "repository": repository() })),
        (
            "workflow_dispatch",
            "workflow_dispatch",
            json!({ "inputs": { "task": "by hand" }, "ref": "refs/heads/main", "repository": repository(), "sender": ann }),
        ),
        ("push", "push", push("main", &"0".repeat(40), &tip)),
    ] {
        let ran = consumer.run(&server, "three.yml", "main", event, &payload, &[]);
        ran.ok();
        let branch = format!("codeforge/mend-{kind}");
        assert_eq!(consumer.forge.file(&branch, "app.txt").as_deref(), Some("mended\n"), "{}", ran.log());
        let all = ["agent", "gate", "deliver"].map(|job| ran.outputs(job, "it"));
        assert!(all.iter().all(|names| *names == outputs()), "{all:?}");
        let output = |job: &str, name: &str| ran.output(job, "it", name).unwrap();
        assert_eq!(
            ["agent", "gate", "deliver"].map(|job| output(job, "conclusion")),
            ["success", "success", "success"]
        );
        assert!(output("gate", "gate-word").contains(" tests=pass:"));
        assert_eq!((output("deliver", "branch-name"), output("agent", "input-tokens")), (branch, "2000".into()));
        assert!(output("deliver", "pull-request-url").contains("/acme/widgets/pull/"), "{}", ran.log());
        assert!(ran.summary("agent").contains("mend") && ran.summary("deliver").contains("mend"));
        // What the model said is an output, and no line of the runner's.
        assert!(output("agent", "final-message").contains("Mended\n::error::not ours"));
        assert!(!ran.annotations("agent").iter().any(|it| it.contains("not ours")), "{}", ran.log());
        // The token never left the jobs that got it, and the key no job but the agent's.
        assert!(!ran.log().contains(TOKEN) && !ran.log().contains("sk-test-0123456789"));
    }
    assert_eq!(consumer.forge.memory().changes.len(), 4);
    let asked = server.asked();
    for task in ["the rest", "by hand", "the usual"] {
        let told = asked.iter().any(|it| it.user().contains(task));
        assert!(told, "{task}: {:?}", asked.iter().map(|it| it.user().to_owned()).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_same_in_containers() {
    let consumer = Consumer::new(true).await;
    let server = mender().await;
    let ran = consumer.run(&server, "three.yml", "main", "issue_comment", &comment("/codeforge mend it"), &[]);
    ran.ok();
    assert_eq!(
        consumer.forge.file("codeforge/mend-issue_comment", "app.txt").as_deref(),
        Some("mended\n"),
        "{}",
        ran.log()
    );
    assert_eq!(ran.outputs("deliver", "it"), outputs());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_artifact_that_says_more_than_it_may_is_refused() {
    let consumer = Consumer::new(false).await;
    let server = mender().await;
    let edit = |what: &str| {
        format!(
            "const fs=require('fs'),f=process.argv[1],a=JSON.parse(fs.readFileSync(f));{what};fs.writeFileSync(f,JSON.stringify(a))"
        )
    };
    for (forgery, conclusion, words) in [
        ("a.runs[0].verdict='pass'", "misconfigured", "verdict"),
        ("a.runs[0].claims.kind='push-to-branch'", "denied", "push-to-branch"),
    ] {
        let ran = consumer.run(
            &server,
            "three.yml",
            "main",
            "issue_comment",
            &comment("/codeforge mend it"),
            &[("FORGE", &edit(forgery))],
        );
        ran.failed();
        assert_eq!(ran.output("gate", "it", "conclusion").as_deref(), Some("success"), "{}", ran.log());
        assert_eq!(ran.output("deliver", "it", "conclusion").as_deref(), Some(conclusion), "{}", ran.log());
        assert!(ran.log().contains(words), "{}", ran.log());
    }
    assert!(consumer.forge.tip("codeforge/mend-issue_comment").is_none() && consumer.forge.memory().changes.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_step_shows_what_it_found_and_refuses_a_fork() {
    let consumer = Consumer::new(false).await;
    let forge = &consumer.forge;
    let finding =
        json!({ "file": "app.txt", "line": 1, "severity": "high", "what": "Two, not one.\n##[warning]forged" });
    let verdict =
        json!({ "summary": "Looked.", "output": { "approved": false, "summary": "No.", "findings": [finding] } });
    let server =
        ModelServer::start(vec![Rule::when().reply(Reply::call("finish", verdict).usage(1000, 100)).always()]).await;
    let (base, head) =
        (forge.tip("main").unwrap(), forge.commit_by("ann", "topic", "main", &[("app.txt", Some("two\n"))]));
    let number = forge.open("ann", "topic", "Please.");

    let mut payload = pull_request(number, "opened", &head, &base);
    let ran = consumer.run(&server, "one.yml", "topic", "pull_request", &payload, &[]);
    ran.ok();
    assert_eq!(ran.outputs("all", "it"), outputs());
    assert!(ran.said("all").contains("cost 0.001100, branch \n"), "{}", ran.log());
    assert!(ran.summary("all").contains("look") && ran.summary("all").contains("app.txt"), "{}", ran.summary("all"));
    let annotations = ran.annotations("all");
    let found: Vec<&String> = annotations.iter().filter(|it| it.contains("app.txt:1 ")).collect();
    assert!(found.len() == 1 && found[0].contains("Two, not one."), "{annotations:?}\n{}", ran.log());
    assert!(!annotations.iter().any(|it| it.starts_with("warning :") && it.contains("forged")), "{annotations:?}");

    payload["pull_request"]["head"]["repo"] = json!({ "id": 2, "full_name": "eve/widgets" });
    let before = server.asked().len();
    let ran = consumer.run(&server, "one.yml", "main", "pull_request_target", &payload, &[]);
    ran.failed();
    assert_eq!(ran.output("all", "it", "conclusion").as_deref(), Some("denied"), "{}", ran.log());
    assert!(ran.log().contains("comes from a fork"), "{}", ran.log());
    assert_eq!(server.asked().len(), before, "nothing was spent");
}

/// The commit that the file of `init` calls; the runner has this project's action in its place.
const CALLED: &str = "0123456789abcdef0123456789abcdef01234567";

/// A consumer whose CI file is the one that `codeforge init` writes, with what it needs in the forge's settings.
struct Written {
    forge: ForgeServer,
    action: tempfile::TempDir,
    cache: tempfile::TempDir,
    file: String,
    docker: bool,
}

impl Written {
    async fn new(docker: bool) -> Self {
        let look = REVIEW.replace("deliver: none", "deliver: comment");
        let config = format!("{CONFIG}budget: {{ per_run_usd: 1, per_day_usd: 20 }}\nstate: {{ store: cache }}\n");
        let files = [
            (".codeforge/workflows/mend.yml", MEND),
            (".codeforge/workflows/look.yml", &look),
            (".codeforge/config.yml", &config),
            ("app.txt", "broken\n"),
        ];
        let forge = ForgeServer::with(ForgeKind::Github, &files).await;
        forge.memory().members.insert("ann".into(), "write".into());
        let clone = forge.clone_of();
        clone.git(&["remote", "set-url", "origin", "https://github.com/acme/widgets"]);
        let action_ref = format!("acme/codeforge@{CALLED}#v1.0.0");
        let init = ["init", "--github", "--yes", "--provider", "variables", "--action-ref", &action_ref];
        common::ok(&mut clone.codeforge(&init));
        let file = clone.read(".github/workflows/codeforge.yml");
        forge.commit_by("ann", "main", "main", &[(".github/workflows/codeforge.yml", Some(&file))]);
        Self { forge, action: action(), cache: tempfile::tempdir().unwrap(), file, docker }
    }

    fn run(&self, server: &ModelServer, branch: &str, event: &str, payload: &Value) -> Ran {
        let clone = self.forge.clone_of();
        clone.git(&["checkout", "--quiet", "-B", branch, &format!("refs/remotes/origin/{branch}")]);
        // As the checkout of a job leaves it: what it brought along is this repository's.
        clone.git(&["remote", "set-url", "origin", &self.forge.git_url()]);
        let program = Path::new(env!("CARGO_BIN_EXE_codeforge"));
        let mut act = Act::new(&clone, self.action.path());
        act.local(&format!("acme/codeforge@{CALLED}"), self.action.path()).pinned(&self.file);
        act.env("GITHUB_REPOSITORY", "acme/widgets");
        act.env("GITHUB_SERVER_URL", self.forge.git_url().trim_end_matches("/acme/widgets.git"));
        act.env("GITHUB_API_URL", &self.forge.api()).env("CODEFORGE_BINARY", program.to_str().unwrap());
        act.env("CODEFORGE_LLM_PRICE_INPUT", "1").env("CODEFORGE_LLM_PRICE_OUTPUT", "1");
        act.env("TEST_CACHE", self.cache.path().to_str().unwrap());
        act.env("CODEFORGE_SANDBOX", if self.docker { "none" } else { "native" });
        act.secret("GITHUB_TOKEN", TOKEN).secret("CODEFORGE_LLM_API_KEY", "sk-test-0123456789");
        act.var("CODEFORGE_LLM_BASE_URL", server.url()).var("CODEFORGE_MODEL", "scripted-1");
        if self.docker {
            act.in_docker().mount(program).mount_writable(self.cache.path());
        }
        tokio::task::block_in_place(|| act.run("codeforge.yml", event, payload))
    }

    fn kept(&self) -> usize {
        std::fs::read_dir(self.cache.path()).unwrap().count()
    }
}

async fn written(docker: bool, events: &[&str]) {
    let consumer = Written::new(docker).await;
    let forge = &consumer.forge;
    let server = mender().await;
    let tip = forge.tip("main").unwrap();
    let head = forge.commit_by("ann", "topic", "main", &[("app.txt", Some("two\n"))]);
    let number = forge.open("ann", "topic", "Please.");
    let ann = json!({ "login": "ann", "type": "User" });
    for event in events {
        let before = consumer.kept();
        let payload = match *event {
            "issue_comment" => comment("/codeforge mend the rest"),
            "schedule" => json!({ "schedule": "0 4 * * *", "repository": repository() }),
            "workflow_dispatch" => json!({
                "inputs": { "workflow": "mend", "prompt": "by hand" }, "ref": "refs/heads/main",
                "repository": repository(), "sender": ann,
            }),
            "push" => push("main", &"0".repeat(40), &tip),
            _ => pull_request(number, "opened", &head, &tip),
        };
        if *event == "pull_request" {
            // What a change's pipeline spends nobody can add up, so a limit of the day does not hold there: said, not spent.
            let ran = consumer.run(&server, "topic", event, &payload);
            ran.failed();
            assert_eq!(
                ran.output("agent", "codeforge", "conclusion").as_deref(),
                Some("misconfigured"),
                "{}",
                ran.log()
            );
            assert!(ran.log().contains("`per_day_usd` cannot be kept"), "{}", ran.log());
            let config = format!("{CONFIG}budget: {{ per_run_usd: 1 }}\nstate: {{ store: cache }}\n");
            forge.commit_by("ann", "main", "main", &[(".codeforge/config.yml", Some(&config))]);
            let verdict =
                json!({ "summary": "Looked.", "output": { "approved": true, "summary": "Fine.", "findings": [] } });
            let looker = ModelServer::start(vec![Rule::when().reply(Reply::call("finish", verdict)).always()]).await;
            let ran = consumer.run(&looker, "topic", event, &payload);
            ran.ok();
            let all = ["agent", "gate", "deliver"].map(|job| ran.output(job, "codeforge", "conclusion").unwrap());
            assert_eq!(all, ["success", "success", "success"], "{}", ran.log());
            assert_eq!(forge.memory().comments.len(), 1, "{}", ran.log());
            assert_eq!(consumer.kept(), before, "a change's run keeps nothing");
            continue;
        }
        let ran = consumer.run(&server, "main", event, &payload);
        ran.ok();
        let branch = format!("codeforge/mend-{event}");
        assert_eq!(forge.file(&branch, "app.txt").as_deref(), Some("mended\n"), "{event}\n{}", ran.log());
        let all = ["agent", "gate", "deliver"].map(|job| ran.output(job, "codeforge", "conclusion").unwrap());
        assert_eq!(all, ["success", "success", "success"], "{event}\n{}", ran.log());
        assert!(consumer.kept() >= before.max(1), "what was spent is kept: {}", ran.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_file_that_init_writes_delivers_on_every_event() {
    written(false, &["issue_comment", "schedule", "workflow_dispatch", "push", "pull_request"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_file_that_init_writes_runs_in_containers() {
    written(true, &["schedule", "pull_request"]).await;
}

/// The names of all outputs, sorted, from the program itself.
fn outputs() -> Vec<String> {
    let mut names: Vec<String> = codeforge::cli::ci::outputs::KEYS.iter().map(|&name| name.to_owned()).collect();
    names.sort();
    names
}
