//! `codeforge run` on a laptop, in a process of its own.

use crate::common::{self, forge_server::holds};
use crate::common::{ModelServer, Reply, Rule};
use crate::story::*;
use serde_json::{Value, json};

const POLICY: &str = "name: open\nrules: [{ tool: \"*\", decision: allow }]\n";
const WORKFLOW: &str = "name: write\npolicy: open\ninputs: { task: { type: string, required: true } }\nsteps:\n  write: { run: \"sleep 0.5; printf 'mended\\\\n' > src/a.txt\" }\ndeliver: { as: pull_request, draft: false }\n";

/// Whether a process was started by another one, or by one that it started.
fn descends(mut process: u32, from: u32) -> bool {
    while process > 1 {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).and_then(|id| id.trim().parse().ok());
        process = parent.unwrap_or(0);
        if process == from {
            return true;
        }
    }
    false
}

/// A laptop: the remote `origin`, and a token in the environment.
fn laptop(server: &ForgeServer, repo: &TestRepo, kind: ForgeKind) -> std::process::Command {
    let mut command = repo.codeforge(&["run", "write", "--sandbox", "none", "-i", "task=Mend the tail, @ann"]);
    let name = kind.as_str().to_lowercase();
    command.env("CODEFORGE_FORGE", name).env("CODEFORGE_FORGE_API", server.api()).env("NO_PROXY", "*");
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_laptop_proposes_its_change_and_the_token_is_nowhere() {
    for kind in KINDS.into_iter().filter(|kind| *kind != ForgeKind::Local) {
        let server = ForgeServer::start(kind).await;
        let repo = server.clone_of();
        repo.write(".codeforge/workflows/write.yml", WORKFLOW).write(".codeforge/policies/open.yml", POLICY);
        repo.commit("a workflow");
        // Without a token: said before anything runs.
        let output = laptop(&server, &repo, kind).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", spoken(&output));
        assert!(spoken(&output).contains("CODEFORGE_FORGE_TOKEN"), "{}", spoken(&output));
        // The push takes a while, so that there is something to look at.
        server.fail(Fault::slow("POST", "git-receive-pack", Duration::from_millis(1500)));
        let mut command = laptop(&server, &repo, kind);
        let child = command
            .env("CODEFORGE_FORGE_TOKEN", TOKEN)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let id = child.id();
        let waiting = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
        let (mut seen, mut children) = (0, 0);
        while !waiting.is_finished() {
            for process in std::fs::read_dir("/proc").unwrap().flatten() {
                let of = |file: &str| std::fs::read(process.path().join(file)).unwrap_or_default();
                let has = |bytes: &[u8]| bytes.windows(TOKEN.len()).any(|part| part == TOKEN.as_bytes());
                assert!(!has(&of("cmdline")), "{kind:?}: on a command line");
                // Only the process that was given it has it; no child of it does.
                let name = process.file_name().to_string_lossy().into_owned();
                // Other tests' processes have it, too; and one that is not yet another program has its parent's.
                let begun = of("cmdline") != std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
                if begun && name.parse().is_ok_and(|process| descends(process, id)) {
                    children += 1;
                    assert!(!has(&of("environ")), "{kind:?}: in the environment of {name}");
                }
            }
            seen += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(seen > 5 && children > 0, "looked {seen} times, at {children} children");
        let output = waiting.await.unwrap();
        assert!(output.status.success(), "{}", spoken(&output));
        let said = spoken(&output);
        assert!(said.contains("forge.example/acme/widgets"), "{said}");
        assert!(!said.contains(TOKEN) && !holds(repo.path(), TOKEN), "{said}");
        let changes = server.memory().changes.clone();
        assert_eq!((changes.len(), changes[0].draft), (1, false), "{said}");
        assert_eq!(changes[0].title, "Mend the tail, @ ann");
        let body = &changes[0].body;
        assert!(
            body.contains("## What was asked") && body.contains("> Mend the tail, ") && !body.contains("@ann"),
            "{body}"
        );
        assert!(body.contains("## Evidence") && body.contains("`src/a.txt`"), "{body}");
        assert_eq!(server.file(&changes[0].head, "src/a.txt").unwrap(), "mended\n");
        // What the laptop had committed and not pushed goes along: the change stands on it.
        assert!(server.file(&changes[0].head, ".codeforge/workflows/write.yml").is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_and_a_refused_token_end_as_they_should() {
    let server = ForgeServer::start(ForgeKind::Github).await;
    let repo = server.clone_of();
    repo.write(".codeforge/workflows/write.yml", WORKFLOW).write(".codeforge/policies/open.yml", POLICY);
    repo.commit("a workflow");
    let mut command = laptop(&server, &repo, ForgeKind::Github);
    let output = command.env("CODEFORGE_FORGE_TOKEN", "wrong-token-0123").output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", spoken(&output));
    // A report needs no forge.
    let output = laptop(&server, &repo, ForgeKind::Github).args(["--deliver", "report"]).output().unwrap();
    assert!(output.status.success() && spoken(&output).contains("report.md"), "{}", spoken(&output));
    assert!(server.memory().changes.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_while_it_proposes_finds_what_it_did() {
    let server = ForgeServer::start(ForgeKind::Github).await;
    let repo = server.clone_of();
    repo.write(".codeforge/workflows/write.yml", WORKFLOW).write(".codeforge/policies/open.yml", POLICY);
    repo.commit("a workflow");
    for late in ["git-receive-pack", "/pulls"] {
        server.fail(Fault::slow("POST", late, Duration::from_secs(60)));
        let mut command = laptop(&server, &repo, ForgeKind::Github);
        command
            .env("CODEFORGE_FORGE_TOKEN", TOKEN)
            .stderr(std::process::Stdio::null())
            .stdout(std::process::Stdio::null());
        let before = server.memory().changes.len();
        let mut child = command.spawn().unwrap();
        // The forge did it, and does not say so yet.
        common::eventually("the forge does it", || match late {
            "/pulls" => (server.memory().changes.len() > before).then_some(()),
            _ => holds_branch(&server).then_some(()),
        })
        .await;
        child.kill().unwrap();
        child.wait().unwrap();
        let runs = common::ok(&mut repo.codeforge(&["runs", "list", "--format", "json"]));
        let runs: Value = serde_json::from_str(&runs).unwrap();
        let run = runs[0]["run"]["id"].as_str().unwrap();
        let mut resume = repo.codeforge(&["resume", run]);
        resume.env("CODEFORGE_FORGE", "github").env("CODEFORGE_FORGE_API", server.api());
        let output = resume.env("CODEFORGE_FORGE_TOKEN", TOKEN).env("NO_PROXY", "*").output().unwrap();
        assert!(output.status.success(), "{late}: {}", spoken(&output));
        assert_eq!(server.memory().changes.len(), before + 1, "{late}: one change");
    }
    let heads: std::collections::BTreeSet<String> =
        server.memory().changes.iter().map(|change| change.head.clone()).collect();
    assert_eq!(heads.len(), 2, "one branch for each run");
}

fn holds_branch(server: &ForgeServer) -> bool {
    server.bare().join("refs/heads/codeforge").exists()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comment_goes_where_the_event_says() {
    let server = ForgeServer::start(ForgeKind::Gitlab).await;
    let repo = server.clone_of();
    let workflow = WORKFLOW
        .replace("deliver: { as: pull_request, draft: false }", "deliver: { as: comment, body: \"Looked, @ann.\" }");
    let workflow = workflow.replace("printf 'mended\\\\n' > src/a.txt", "true");
    repo.write(".codeforge/workflows/write.yml", workflow).write(".codeforge/policies/open.yml", POLICY);
    repo.commit("a workflow");
    let event = json!({ "kind": "issues", "issue": { "number": 3, "title": "t" } });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), event.to_string()).unwrap();
    let mut command = laptop(&server, &repo, ForgeKind::Gitlab);
    let output = command.env("CODEFORGE_FORGE_TOKEN", TOKEN).arg("--event").arg(file.path()).output().unwrap();
    assert!(output.status.success(), "{}", spoken(&output));
    let comments = server.memory().comments.clone();
    assert_eq!(comments.len(), 1, "{}", spoken(&output));
    assert!(comments[0].thread == "issue 3" && comments[0].body.ends_with("Looked, @&#8203;ann."), "{comments:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_review_from_a_laptop_has_its_findings_and_no_secret() {
    const LOOK: &str = "name: write\npolicy: plan-readonly\ninputs: { task: { type: string, default: \"\" } }\nsteps:\n  look: { mode: reviewer, prompt: \"Look.\", output: { schema: review } }\ndeliver: review\n";
    let server = ForgeServer::start(ForgeKind::Github).await;
    let repo = server.clone_of();
    repo.write(".codeforge/workflows/write.yml", LOOK);
    repo.commit("a workflow");
    let head = server.commit_by("ann", "topic", "main", &[("src/a.txt", Some("one\nTWO\nthree\n"))]);
    let number = server.open("ann", "topic", "Please.");
    let event = json!({ "kind": "pull_request", "change": { "number": number, "title": "t", "head": { "branch": "topic", "sha": head } } });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), event.to_string()).unwrap();
    let finding =
        |line: Value, what: &str| json!({ "file": "src/a.txt", "line": line, "severity": "high", "what": what });
    let findings = [finding(json!(2), "Why is it shouting?"), finding(json!(3), &format!("It knows {TOKEN}."))];
    let output = json!({ "approved": false, "summary": "So.", "findings": findings });
    let reply = Reply::call("finish", json!({ "summary": "Looked.", "output": output }));
    let model = ModelServer::start(vec![Rule::when().reply(reply)]).await;
    let mut command = laptop(&server, &repo, ForgeKind::Github);
    command
        .env("CODEFORGE_FORGE_TOKEN", TOKEN)
        .env("CODEFORGE_LLM_BASE_URL", model.url())
        .env("CODEFORGE_LLM_API_KEY", "sk-test-0123456789")
        .env("CODEFORGE_MODEL", "scripted-1")
        .env("CODEFORGE_LLM_PRICE_INPUT", "1")
        .env("CODEFORGE_LLM_PRICE_OUTPUT", "1")
        .arg("--event")
        .arg(file.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", spoken(&output));
    let remarks = server.memory().remarks.clone();
    let comments = server.memory().comments.clone();
    assert_eq!((remarks.len(), comments.len()), (2, 1), "{}", spoken(&output));
    assert!(remarks.iter().any(|it| it.body.contains("Why is it shouting?")), "{remarks:?}");
    assert!(remarks.iter().all(|it| !it.body.contains(TOKEN)), "{remarks:?}");
    let body = &comments[0].body;
    assert!(body.contains("2 findings") && body.contains("It knows") && !body.contains(TOKEN), "{body}");
}
