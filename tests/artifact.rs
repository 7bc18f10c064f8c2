//! `run --artifact` and `deliver`: what one process makes another one delivers, and nothing else than that. Real
//! repositories, real git, a real sandbox; only the model is scripted.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use codeforge::model::artifact::Word;
use codeforge::model::id::TreeId;
use codeforge::model::journal::Verdict;
use codeforge::model::patch::{FILE, GONE, LINK, Put, SUBMODULE};
use common::artifacts::{edit, read, replace, tree_of, word};
use common::{ModelServer, Reply, Rule, Script, TestRepo, spoken};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const WORKFLOW: &str = r#"
name: mend
description: Mend it.
inputs:
  task: { type: string, required: true }
steps:
  implement: { mode: coder, prompt: "Mend it.\n{{ inputs.task }}", gates: [tests] }
deliver: { as: branch, branch: "codeforge/mend", title: "Mend: {{ steps.implement.text }}" }
"#;

const CONFIG: &str = r#"
gates:
  tests: { run: "sh tests/check.sh", on_fail: fail }
  lint: { run: "test -f app.txt", on_fail: fail }
budget: { per_run_tokens: 100000 }
"#;

fn project() -> TestRepo {
    TestRepo::with(&[
        (".codeforge/workflows/mend.yml", WORKFLOW),
        (".codeforge/config.yml", CONFIG),
        (".gitignore", "*.json\n"),
        ("app.txt", "broken\n"),
        ("tests/check.sh", "grep -q mended app.txt\n"),
    ])
}

fn script() -> Script {
    vec![
        Rule::when()
            .system("You are the coder")
            .turn(0)
            .reply(Reply::call("edit_file", json!({ "path": "app.txt", "old": "broken", "new": "mended" }))),
        Rule::when().reply(Reply::call("finish", json!({ "summary": "It is mended" }))).always(),
    ]
}

async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// Runs the workflow in a clone and leaves an artifact there.
async fn made(repo: &TestRepo) -> PathBuf {
    let server = ModelServer::start(script()).await;
    let mut command = repo.codeforge(&["run", "mend", "-i", "task=do", "--sandbox", "native", "--artifact", "a.json"]);
    command.env("CODEFORGE_LLM_BASE_URL", server.url()).env("CODEFORGE_MODEL", "scripted");
    let output = output(command).await;
    assert!(output.status.success(), "{}\n{:#?}", spoken(&output), server.unmatched());
    assert_eq!(repo.git(&["branch", "--list", "codeforge/*"]), "", "nothing is delivered");
    assert!(repo.status().is_empty(), "{}", repo.status());
    repo.path().join("a.json")
}

/// A fresh clone of a repository, with the artifact in it.
fn clone(repo: &TestRepo, artifact: &Path) -> TestRepo {
    let clone = TestRepo::empty();
    clone.git(&["remote", "add", "origin", repo.path().to_str().unwrap()]);
    clone.git(&["fetch", "--quiet", "origin"]);
    clone.git(&["reset", "--quiet", "--hard", "origin/main"]);
    std::fs::copy(artifact, clone.path().join("a.json")).unwrap();
    clone
}

fn deliver(repo: &TestRepo, word: &str, more: &[&str]) -> Output {
    let mut command = repo.codeforge(&["deliver", "a.json"]);
    command.args(more);
    if !word.is_empty() {
        command.args(["--gate-word", word]);
    }
    command.output().unwrap()
}

/// Everything of a repository that a delivery could change.
fn state(repo: &TestRepo) -> (String, String, String) {
    (
        repo.git(&["for-each-ref", "--format=%(refname) %(objectname)", "refs/heads"]),
        repo.status(),
        repo.read("app.txt"),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_process_made_another_delivers_without_a_model() {
    let repo = project();
    let artifact = made(&repo).await;
    let taken = read(&artifact);
    assert_eq!(taken.part.claims.branch.as_deref(), Some("codeforge/mend"));
    assert_eq!(taken.patch.as_ref().unwrap().files.len(), 1);

    // Elsewhere: the gate's word is wanted, and with it the branch is what the run made.
    let elsewhere = clone(&repo, &artifact);
    let before = state(&elsewhere);
    let refused = deliver(&elsewhere, "", &[]);
    assert_eq!(refused.status.code(), Some(4), "{}", spoken(&refused));
    assert!(spoken(&refused).contains("no gate's word"), "{}", spoken(&refused));
    assert_eq!(state(&elsewhere), before);
    let done = deliver(&elsewhere, &word(&taken).to_string(), &[]);
    assert!(done.status.success(), "{}", spoken(&done));
    assert_eq!(elsewhere.git(&["show", "codeforge/mend:app.txt"]), "mended");
    let log = elsewhere.git(&["log", "-1", "--format=%an|%s|%b", "codeforge/mend"]);
    assert!(log.starts_with("CodeForge|Mend: It is mended|"), "{log}");
    assert!(log.contains("Gate tests: passed."), "{log}");
    assert_eq!(elsewhere.git(&["rev-parse", "codeforge/mend~1"]), repo.head());
    // The same again finds what it made.
    let again = deliver(&elsewhere, &word(&taken).to_string(), &[]);
    assert!(again.status.success(), "{}", spoken(&again));

    // Here the journal knows what the gates said: of the artifact, and of the run.
    let here = deliver(&repo, "", &["--as", "patch"]);
    assert!(here.status.success(), "{}", spoken(&here));
    assert!(spoken(&here).contains("change.patch"), "{}", spoken(&here));
    let by_run = repo.codeforge(&["deliver", taken.part.run.as_str(), "--as", "commit-local"]).output().unwrap();
    assert!(by_run.status.success(), "{}", spoken(&by_run));
    assert_eq!(repo.read("app.txt"), "mended\n");
    assert_eq!(repo.git(&["log", "-1", "--format=%s"]), "Mend: It is mended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_an_artifact_is_titled_as_the_repository_titles_its_own() {
    let repo = project();
    for subject in ["fix: one", "feat: two", "fix: three", "chore: four", "fix: five", "fix: six"] {
        repo.git(&["commit", "--quiet", "--allow-empty", "--message", subject]);
    }
    let artifact = made(&repo).await;
    let elsewhere = clone(&repo, &artifact);
    for _ in 0..2 {
        let done = deliver(&elsewhere, &word(&read(&artifact)).to_string(), &[]);
        assert!(done.status.success(), "found again: {}", spoken(&done));
        assert_eq!(elsewhere.git(&["log", "-1", "--format=%s", "codeforge/mend"]), "feat: mend: It is mended");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_decides_nothing() {
    let repo = project();
    let artifact = made(&repo).await;
    let honest = word(&read(&artifact));
    let new = |path: &str, mode, content: &str| Put { path: path.into(), old: None, mode, content: content.into() };

    type Case = (&'static str, i32, &'static str, Box<dyn FnOnce(&TestRepo) -> Option<Word>>);
    let cases: Vec<Case> = vec![
        (
            "says pass",
            2,
            "unknown field `verdict`",
            Box::new(|repo| {
                edit(&repo.path().join("a.json"), |it| it["runs"][0]["verdict"] = json!("pass"));
                None
            }),
        ),
        (
            "another kind",
            4,
            "its delivery is `push-to-branch`, and should be `branch`",
            Box::new(|repo| {
                edit(&repo.path().join("a.json"), |it| it["runs"][0]["claims"]["kind"] = json!("push-to-branch"));
                None
            }),
        ),
        (
            "another branch",
            4,
            "its branch is `main`, and should be `codeforge/mend`",
            Box::new(|repo| {
                edit(&repo.path().join("a.json"), |it| it["runs"][0]["claims"]["branch"] = json!("main"));
                None
            }),
        ),
        (
            "no gates",
            4,
            "its list of required gates is",
            Box::new(|repo| {
                edit(&repo.path().join("a.json"), |it| it["runs"][0]["claims"]["gates"] = json!({}));
                None
            }),
        ),
        (
            "another repository",
            4,
            "its repository is `eve/widgets`, and should be none",
            Box::new(|repo| {
                edit(&repo.path().join("a.json"), |it| it["runs"][0]["claims"]["repository"] = json!("eve/widgets"));
                None
            }),
        ),
        (
            "another event",
            4,
            "its event is `pull_request opened change 7`, and should be `manual`",
            Box::new(|repo| {
                edit(&repo.path().join("a.json"), |it| {
                    it["runs"][0]["claims"]["event"] = json!("pull_request opened change 7")
                });
                None
            }),
        ),
        (
            "another workflow",
            2,
            "no workflow `mind`",
            Box::new(|repo| {
                edit(&repo.path().join("a.json"), |it| it["runs"][0]["claims"]["workflow"] = json!("mind"));
                None
            }),
        ),
        (
            "another change",
            4,
            "the gate's word is about another change",
            Box::new(|repo| {
                replace(&repo.path().join("a.json"), |patch| patch.files[0].content = b"mended, and more\n".to_vec());
                None
            }),
        ),
        (
            "another change and its word",
            4,
            "makes another tree",
            Box::new(|repo| {
                Some(replace(&repo.path().join("a.json"), |patch| {
                    patch.files[0].content = b"mended, and more\n".to_vec()
                }))
            }),
        ),
        (
            "made on something else",
            4,
            "does not fit",
            Box::new(|repo| {
                Some(replace(&repo.path().join("a.json"), |patch| patch.files[0].old = Some((FILE, "1".repeat(40)))))
            }),
        ),
        (
            "made on another tree",
            4,
            "was made on another tree",
            Box::new(|repo| Some(replace(&repo.path().join("a.json"), |patch| patch.base = TreeId("1".repeat(40))))),
        ),
        (
            "a word for another change",
            4,
            "about another change",
            Box::new({
                let honest = honest.clone();
                move |_| Some(Word { patch: "0".repeat(64), ..honest })
            }),
        ),
        (
            "a gate is missing in the word",
            4,
            "`lint` was not run",
            Box::new({
                let mut honest = honest.clone();
                move |_| {
                    honest.gates.remove("lint");
                    Some(honest)
                }
            }),
        ),
        (
            "a gate failed",
            4,
            "`tests` did not pass",
            Box::new({
                let mut honest = honest.clone();
                move |_| {
                    honest.gates.get_mut("tests").unwrap().0 = Verdict::Fail;
                    Some(honest)
                }
            }),
        ),
        (
            "a gate of another definition",
            4,
            "`tests` was run with another definition",
            Box::new({
                let mut honest = honest.clone();
                move |_| {
                    honest.gates.get_mut("tests").unwrap().1 = "1".repeat(32);
                    Some(honest)
                }
            }),
        ),
        (
            "CI files",
            4,
            "`.github/workflows/x.yml` is a protected path",
            Box::new(move |repo| {
                Some(replace(&repo.path().join("a.json"), |patch| {
                    patch.files.push(new(".github/workflows/x.yml", FILE, "on: push\n"));
                    patch.tree = tree_of(repo.path(), patch);
                }))
            }),
        ),
        (
            "a link that leads out",
            4,
            "is a symbolic link to `../../etc/passwd`",
            Box::new(move |repo| {
                Some(replace(&repo.path().join("a.json"), |patch| {
                    patch.files.push(new("link", LINK, "../../etc/passwd"));
                    patch.tree = tree_of(repo.path(), patch);
                }))
            }),
        ),
        (
            "git's own files",
            4,
            "some systems read as `.git`",
            Box::new(move |repo| {
                Some(replace(&repo.path().join("a.json"), |patch| {
                    patch.files.push(new("sub/.GIT/config", FILE, "[core]\n"))
                }))
            }),
        ),
        (
            "a submodule",
            4,
            "is a submodule",
            Box::new(move |repo| {
                Some(replace(&repo.path().join("a.json"), |patch| patch.files.push(new("sub", 0o160_000, ""))))
            }),
        ),
        (
            "a way out",
            4,
            "is not a path below",
            Box::new(move |repo| {
                Some(replace(&repo.path().join("a.json"), |patch| patch.files.push(new("../out", FILE, ""))))
            }),
        ),
        (
            "cut",
            2,
            "it is cut off",
            Box::new(|repo| {
                let file = repo.path().join("a.json");
                let bytes = std::fs::read(&file).unwrap();
                std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
                None
            }),
        ),
        (
            "100 MB",
            2,
            "larger than the 32 MiB",
            Box::new(|repo| {
                let file = std::fs::File::create(repo.path().join("a.json")).unwrap();
                file.set_len(100 << 20).unwrap();
                None
            }),
        ),
        (
            "a folder",
            2,
            "cannot be read",
            Box::new(|repo| {
                std::fs::remove_file(repo.path().join("a.json")).unwrap();
                std::fs::create_dir(repo.path().join("a.json")).unwrap();
                None
            }),
        ),
        (
            "another's commit",
            2,
            "is not in this repository",
            Box::new(|repo| {
                edit(&repo.path().join("a.json"), |it| it["runs"][0]["commit"] = json!("1".repeat(40)));
                None
            }),
        ),
        (
            "a milder gate in the work tree",
            4,
            "its list of required gates is",
            Box::new(|repo| {
                repo.write(".codeforge/config.yml", CONFIG.replace("sh tests/check.sh", "true"));
                None
            }),
        ),
    ];
    for (what, code, words, change) in cases {
        let elsewhere = clone(&repo, &artifact);
        let word = change(&elsewhere).unwrap_or_else(|| honest.clone());
        let before = state(&elsewhere);
        let refused = deliver(&elsewhere, &word.to_string(), &[]);
        assert_eq!(refused.status.code(), Some(code), "{what}: {}", spoken(&refused));
        assert!(spoken(&refused).contains(words), "{what}: `{words}`\n{}", spoken(&refused));
        assert_eq!(state(&elsewhere), before, "{what}: nothing is written");
    }
    // Forms that reach a forge are the workflow's to choose.
    for kind in ["pull_request", "push-to-branch", "comment"] {
        let elsewhere = clone(&repo, &artifact);
        let refused = deliver(&elsewhere, &honest.to_string(), &["--as", kind]);
        assert_eq!(refused.status.code(), Some(4), "{}", spoken(&refused));
        assert!(spoken(&refused).contains("does not allow that form"), "{}", spoken(&refused));
    }
}

/// Somebody who writes the artifact between the jobs adds a file to its change: what `deliver` says, and that it writes
/// nothing.
fn with_a_file(repo: &TestRepo, artifact: &Path, put: &Put) -> Output {
    let elsewhere = clone(repo, artifact);
    let before = state(&elsewhere);
    let word = replace(&elsewhere.path().join("a.json"), |patch| {
        patch.files.push(put.clone());
        // Git itself makes no tree of the others.
        if put.mode != SUBMODULE && !put.path.ends_with(b"/.git") {
            patch.tree = tree_of(elsewhere.path(), patch);
        }
    });
    let said = deliver(&elsewhere, &word.to_string(), &[]);
    assert_eq!(state(&elsewhere), before, "{}: nothing is written", String::from_utf8_lossy(&put.path));
    said
}

/// Files by which a change would get a foothold: they act on people, tools, CI and agents long after it.
const FOOTHOLDS: [&str; 38] = [
    "CODEOWNERS",
    "docs/CODEOWNERS",
    ".github/CODEOWNERS",
    "codeowners",
    ".gitattributes",
    "src/.gitattributes",
    ".npmrc",
    "web/.npmrc",
    ".vscode/settings.json",
    ".vscode/deep/tasks.json",
    "packages/a/.vscode/tasks.json",
    "packages/a/.vscode",
    "packages/a/.idea/workspace.xml",
    "packages/a/.devcontainer.json",
    "packages/a/.claude/settings.json",
    "packages/a/.mcp.json",
    "packages/a/.gitlab-ci.yml",
    "CLAUDE.md",
    "src/CLAUDE.md",
    "claude.md",
    "AGENTS.md",
    "src/AGENTS.md",
    "Agents.MD",
    ".codeforge/config.yml",
    ".codeforge/workflows/new.yml",
    ".CodeForge/policies/lax.yml",
    ".github/workflows/ci.yml",
    ".github/actions/x/action.yml",
    ".gitlab-ci.yml",
    ".gitlab/ci/x.yml",
    ".gitea/workflows/ci.yml",
    ".forgejo/workflows/ci.yml",
    ".circleci/config.yml",
    "Jenkinsfile",
    "azure-pipelines.yml",
    ".gitmodules",
    ".husky/pre-commit",
    ".devcontainer/devcontainer.json",
];

/// trust.md 49: nobody configured a thing, and none of them is delivered; who delivers is told what can be done.
#[tokio::test(flavor = "multi_thread")]
async fn trust_49_footholds_are_refused_by_default_with_the_way_to_ask() {
    let repo = project();
    let artifact = made(&repo).await;
    for path in FOOTHOLDS {
        // One that is there is changed, one that is not is made.
        let old = repo.has(path).then(|| (FILE, repo.git(&["rev-parse", &format!("HEAD:{path}")])));
        let put = Put { path: path.into(), old, mode: FILE, content: b"x\n".to_vec() };
        let refused = with_a_file(&repo, &artifact, &put);
        assert_eq!(refused.status.code(), Some(4), "{path}: {}", spoken(&refused));
        let said = spoken(&refused);
        assert!(said.contains(&format!("nothing was delivered: `{path}` is a protected path (`")), "{path}: {said}");
        assert!(
            said.contains("If the change is wanted, make it by hand, or take the path off `protected_paths`"),
            "{said}"
        );
    }
}

/// The same for an agent: what it is told, whatever tool it tries, and that it can say what should change.
#[tokio::test(flavor = "multi_thread")]
async fn trust_49_an_agent_is_told_to_ask_for_what_it_may_not_change() {
    const ASK: &str = "No agent may change this path, whatever the rules say: leave it as it is and say in your answer \
                       what should change there.";
    let repo = project();
    let mut tries = Reply::call("edit_file", json!({ "path": "app.txt", "old": "broken", "new": "mended" }));
    for path in FOOTHOLDS {
        tries = tries.and_call("write_file", json!({ "path": path, "content": "x\n" }));
    }
    for command in ["echo x > .npmrc", "mv app.txt CLAUDE.md", "cp app.txt .vscode/settings.json", "rm -r .codeforge"] {
        tries = tries.and_call("shell", json!({ "command": command }));
    }
    let told = |asked: &common::model_server::Asked| {
        let results = asked.tool_results();
        let denied = |said: &&&str| said.contains("was not run") && said.contains(ASK);
        results.len() == 1 + FOOTHOLDS.len() + 4 && results.iter().skip(1).filter(denied).count() == results.len() - 1
    };
    let server = ModelServer::start(vec![
        Rule::when().turn(0).reply(tries),
        Rule::when()
            .turn(1)
            .matches("each is denied", told)
            .reply(Reply::call("finish", json!({ "summary": "It is mended" }))),
    ])
    .await;
    let mut command = repo.codeforge(&["run", "mend", "-i", "task=do", "--sandbox", "native", "--deliver", "branch"]);
    command.env("CODEFORGE_LLM_BASE_URL", server.url()).env("CODEFORGE_MODEL", "scripted");
    let output = output(command).await;
    assert!(output.status.success(), "{}\n{:#?}", spoken(&output), server.unmatched());
    server.finished();
    assert_eq!(repo.git(&["diff", "--name-only", "main", "codeforge/mend"]), "app.txt");
}

/// trust.md 17: a submodule is in no change, nor is the file that says where submodules come from.
#[tokio::test(flavor = "multi_thread")]
async fn trust_17_a_change_brings_no_submodule() {
    let repo = project();
    let head = repo.head();
    repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{head},vendored")]);
    repo.git(&["commit", "--quiet", "--message", "a submodule"]);
    repo.git(&["reset", "--quiet", "--hard"]);
    let artifact = made(&repo).await;
    let modules = "[submodule \"x\"]\n\tpath = x\n\turl = ext::sh -c touch% /tmp/x\n";
    let new = |path: &str, mode, content: &str| Put { path: path.into(), old: None, mode, content: content.into() };
    let moved = Put { old: Some((SUBMODULE, head.clone())), ..new("vendored", SUBMODULE, "") };
    let gone = Put { old: Some((SUBMODULE, head)), ..new("vendored", GONE, "") };
    for (put, why) in [
        (new("x", SUBMODULE, ""), "is a submodule"),
        (moved, "is a submodule"),
        (gone, "is a submodule"),
        (new(".gitmodules", FILE, modules), "is a protected path"),
        (new("sub/.git", FILE, "gitdir: ../../evil\n"), "read as `.git`"),
    ] {
        let refused = with_a_file(&repo, &artifact, &put);
        assert_eq!(refused.status.code(), Some(4), "{put:?}: {}", spoken(&refused));
        assert!(spoken(&refused).contains(why), "{put:?}: {}", spoken(&refused));
    }
}
