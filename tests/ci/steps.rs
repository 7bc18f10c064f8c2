//! Whole jobs in one step: what they leave, whom they obey, how they fail.

use crate::common::forge_server::{self, ForgeServer};
use crate::common::hub::{Hub, Job, clone_of, comment, on_github, pull_request, push};
use crate::common::{ModelServer, Reply, Rule};
use crate::told::BASE;
use codeforge::model::forge::ForgeKind;
use serde_json::{Value, json};

pub const REVIEW: &str = r#"
name: look
on: { pull_request: {}, command: { name: look, access: write } }
policy: plan-readonly
steps:
  review:
    mode: reviewer
    prompt: "Review this.\n{{ event.change.title }}\n{{ event.change.diff }}"
    output: { schema: review }
deliver: none
"#;

pub fn verdict() -> Reply {
    let finding =
        json!({ "file": "src/a.txt", "line": 1, "severity": "high", "what": "It is two, not one. ::error::x" });
    Reply::call(
        "finish",
        json!({ "summary": "Looked.\n::set-output name=conclusion::pwned\nconclusion=pwned",
                "output": { "approved": false, "summary": "No.", "findings": [finding] } }),
    )
    .usage(1000, 100)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_review_in_one_step_leaves_outputs_and_reports_for_those_after_it() {
    let server = ModelServer::start(vec![
        Rule::when()
            .matches("the change and nothing else", |asked| {
                asked.user().contains("+two") && !asked.user().contains("only-in-base")
            })
            .reply(verdict()),
    ])
    .await;
    let hub = Hub::with(&[(".codeforge/workflows/look.yml", REVIEW), ("src/a.txt", "one\n")]);
    let base = hub.git(&["rev-parse", "main"]);
    let head = hub.commit("topic", &[("src/a.txt", "two\n")]);
    let base_now = hub.commit("main", &[("only-in-base", "x\n")]);
    hub.pull(7, &head, &base_now);
    let clone = hub.shallow("refs/pull/7/merge");
    let mut event = pull_request(7, "opened", &head, &base);
    event["pull_request"]["title"] = json!("Fine\n::stop-commands::x\n##[error]y\u{1b}[31m");
    let job = hub.job(&clone, "pull_request", &event).model(server.url());
    let ran = tokio::task::block_in_place(|| job.run());
    let ran = ran.ends(0, "success");
    server.finished();
    let outputs = ran.outputs();
    let keys: Vec<&String> = outputs.as_object().unwrap().keys().collect();
    assert_eq!(keys, codeforge::cli::ci::outputs::KEYS);
    assert!(outputs["final-message"].as_str().unwrap().contains("Looked."));
    assert!(outputs["structured-output"].as_str().unwrap().contains("\"approved\":false"));
    assert_eq!((&outputs["input-tokens"], &outputs["output-tokens"]), (&json!("1000"), &json!("100")));
    assert_eq!(outputs["total-cost-usd"], "0.001100");
    // What GitHub's runner reads: one value a key, whatever is in the values.
    let written = ran.runner("output");
    assert_eq!(written.matches("\nconclusion<<").count() + usize::from(written.starts_with("conclusion<<")), 1);
    assert!(ran.runner("summary").contains("look"), "{}", ran.runner("summary"));
    for report in ["summary.md", "results.sarif", "gl-code-quality-report.json", "junit.xml", "account.json"] {
        assert!(!ran.report(report).is_empty(), "{report}");
    }
    assert!(ran.report("results.sarif").contains("src/a.txt"));
    // Nobody's words are a runner's command.
    for line in ran.printed().lines().chain(ran.said().lines()) {
        assert!(!line.contains('\u{1b}') && !line.contains("##["), "{line:?}");
        if let Some(command) = line.trim_start().strip_prefix("::") {
            let name: String = command.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
            assert!(["group", "endgroup", "error", "warning", "notice"].contains(&name.as_str()), "{line:?}");
        }
    }
    assert!(!ran.said().contains("set-output"), "{}", ran.said());
}

pub const MEND: &str = r#"
name: mend
on: { command: { name: mend, access: write }, pull_request: {}, issues: { types: [opened] } }
inputs: { task: { type: string, required: true } }
policy: lax
steps:
  work: { run: "printf '%s' \"$INPUT_TASK\" > said.txt" }
deliver: { as: pull_request, title: "Mended" }
"#;
pub const OPEN: &str =
    "name: lax\nrules:\n  - { tool: \"*\", decision: allow }\ndefault: allow\nlimits: { max_cost_usd: 1 }\n";

/// A forge with the workflow, and a job in a shallow clone of it.
pub async fn at_a_forge(kind: ForgeKind) -> ForgeServer {
    ForgeServer::with(
        kind,
        &[(".codeforge/workflows/mend.yml", MEND), (".codeforge/policies/lax.yml", OPEN), ("src/a.txt", "one\n")],
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_runs_only_for_those_whom_the_forge_clearly_names() {
    let forge = at_a_forge(ForgeKind::Github).await;
    let clone = clone_of(&forge, "refs/heads/main");
    let command = comment("/codeforge mend the parser", "ann");
    for (role, code, conclusion) in
        [(None, 4, "denied"), (Some("triage"), 4, "denied"), (Some("read"), 4, "denied"), (Some("write"), 0, "success")]
    {
        if let Some(role) = role {
            forge.memory().members.insert("ann".into(), role.into());
        }
        let job = on_github(&forge, &clone, "issue_comment", &command);
        let ran = tokio::task::block_in_place(|| job.run()).ends(code, conclusion);
        if code == 4 {
            ran.says(&["`ann` may not start `mend`", "`write` access"]);
            assert!(forge.memory().changes.is_empty(), "{role:?}: nothing is written");
            continue;
        }
        let outputs = ran.outputs();
        let branch = outputs["branch-name"].as_str().unwrap();
        assert_eq!(forge.file(branch, "said.txt").as_deref(), Some("the parser"));
        let change = forge.memory().changes[0].clone();
        assert!(change.draft && change.title == "Mended" && change.base == "main", "{change:?}");
        assert!(change.body.contains("the parser") && change.body.contains("ann"), "{}", change.body);
        assert!(outputs["pull-request-url"].as_str().unwrap().ends_with(&change.number.to_string()), "{outputs}");
        // A rerun of the same event: the same branch, the same change.
        let again = tokio::task::block_in_place(|| job.env("GITHUB_RUN_ATTEMPT", "2").run()).ends(0, "success");
        assert_eq!(again.outputs()["branch-name"], branch);
        assert_eq!(forge.memory().changes.len(), 1);
    }
    // Without a token nobody can be asked.
    let job = on_github(&forge, &clone, "issue_comment", &command).without("CODEFORGE_FORGE_TOKEN");
    tokio::task::block_in_place(|| job.run()).ends(4, "denied").says(&["nobody can be asked", "CODEFORGE_FORGE_TOKEN"]);
    // What starts by itself is no fault of the pipeline's: a stranger's issue is passed over, and said in a line.
    for (who, conclusion) in [("eve", "skipped"), ("ann", "success")] {
        let issue = json!({ "action": "opened", "issue": { "number": 3, "title": "It breaks", "body": "On Mondays." },
                            "repository": { "full_name": "acme/widgets", "default_branch": "main" },
                            "sender": { "login": who } });
        let job = on_github(&forge, &clone, "issues", &issue);
        let ran = tokio::task::block_in_place(|| job.run()).ends(0, conclusion);
        if who == "eve" {
            ran.says(&["not `mend`: `eve` may not start `mend`", "`write` access"]);
        }
    }
    // A comment without a command is no news.
    let job = on_github(&forge, &clone, "issue_comment", &comment("> /codeforge mend x", "eve"));
    tokio::task::block_in_place(|| job.run()).ends(0, "skipped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trust_1_one_step_refuses_forks_and_writes_nothing() {
    let forge = at_a_forge(ForgeKind::Github).await;
    forge.memory().members.insert("ann".into(), "write".into());
    let head = forge.commit_by("eve", "topic", "main", &[("src/a.txt", Some("two\n"))]);
    let number = forge.open("eve", "topic", "Please.");
    forge.memory().changes[0].fork = true;
    let clone = clone_of(&forge, "refs/heads/main");
    let base = forge.tip("main").unwrap();
    let mut from_fork = pull_request(number, "opened", &head, &base);
    from_fork["pull_request"]["head"]["repo"] = json!({ "id": 2, "full_name": "eve/widgets" });
    let mut of_nobody = from_fork.clone();
    of_nobody["pull_request"]["head"]["repo"] = Value::Null;
    for payload in [&from_fork, &of_nobody] {
        let job = on_github(&forge, &clone, "pull_request_target", payload);
        let ran = tokio::task::block_in_place(|| job.run()).ends(4, "denied");
        ran.says(&["comes from a fork", "`phase: agent`", "`phase: gate`", "`phase: deliver`"]);
    }
    // By a command: first one that names no commit, then one that does, which only the phases carry out.
    let asked = |body: &str| {
        let mut payload = comment(body, "ann");
        payload["issue"]["number"] = json!(number);
        payload["issue"]["pull_request"] = json!({});
        let job = on_github(&forge, &clone, "issue_comment", &payload);
        tokio::task::block_in_place(|| job.run())
    };
    asked("/codeforge mend it").ends(0, "skipped").says(&[&format!("sha={head}")]);
    asked(&format!("/codeforge mend sha={head} it")).ends(4, "denied").says(&["comes from a fork"]);
    // A question of GitHub's second API is asked by POST, too.
    let writes = |asked: &&forge_server::Asked| {
        asked.method != "GET" && (!asked.path.ends_with("/graphql") || asked.body.to_string().contains("mutation"))
    };
    let written: Vec<String> =
        forge.asked().iter().filter(writes).map(|asked| format!("{} {}", asked.method, asked.path)).collect();
    let written: Vec<&String> = written.iter().filter(|it| !it.ends_with("git-upload-pack")).collect();
    assert!(written.is_empty(), "{written:?}");
}

#[test]
fn settings_are_read_and_mistakes_name_the_variable() {
    let hub = Hub::with(&[
        (
            ".codeforge/workflows/mend.yml",
            &MEND.replace("deliver: { as: pull_request, title: \"Mended\" }", "deliver: patch"),
        ),
        (".codeforge/policies/lax.yml", OPEN),
        ("src/a.txt", "one\n"),
        ("ask.md", "from a file"),
    ]);
    let clone = hub.whole("refs/heads/main");
    let after = hub.git(&["rev-parse", "main"]);
    let job = || hub.job(&clone, "push", &push("main", BASE, &after)).env("CODEFORGE_WORKFLOW", "mend");
    for (name, value, says) in [
        ("PHASE", "every", "it takes all, agent, gate or deliver"),
        ("SANDBOX", "chroot", "it takes auto, docker, native or none"),
        ("MAX_COST_USD", "much", "it takes an amount of US dollars"),
        ("DELIVERY", "email", "it takes none, patch"),
        ("ON_UNAVAILABLE", "ignore", "it takes fail or neutral"),
        ("TRIGGER_PHRASE", "/code forge", "a word without spaces"),
        ("BRANCH_PREFIX", "../x", "ends with `/`"),
        ("INPUTS", "[a, b]", "not a map"),
        ("INPUTS", "task: { a: b }", "`task` is"),
        ("INPUTS", "task: x\ntask: y", "CODEFORGE_INPUTS: line 2"),
        ("INPUTS", "no_such: x", "no input `no_such`"),
        ("WORKFLOW", "no-such", "no workflow `no-such`"),
        ("POLICY", "no-such", "no policy `no-such`"),
        ("PROMPT_FILE", "../event.json", "CODEFORGE_PROMPT_FILE"),
        ("PROMPT_FILE", "/etc/passwd", "not in the workspace"),
        ("PROMPT_FILE", ".git/config", "not in the workspace"),
    ] {
        let ran = job().env("CODEFORGE_PROMPT", if name == "PROMPT_FILE" { "" } else { "x" });
        ran.env(&format!("CODEFORGE_{name}"), value).run().ends(2, "misconfigured").says(&[says]);
    }
    let said = |job: Job<'_>| job.run().ends(0, "success").report("change.patch");
    assert!(said(job().env("CODEFORGE_PROMPT", "from a variable")).contains("+from a variable"));
    assert!(said(job().env("CODEFORGE_PROMPT_FILE", "ask.md")).contains("+from a file"));
    let odd = "task: \"$(touch /tmp/pwned) `id` ${{ x }} ::error::\"\n";
    assert!(said(job().env("CODEFORGE_INPUTS", odd)).contains("+$(touch /tmp/pwned) `id` ${{ x }} ::error::"));
    // Another policy: its rules, and the stricter of both limits.
    let ran = job().env("CODEFORGE_PROMPT", "x").env("CODEFORGE_POLICY", "plan-readonly").run();
    ran.ends(4, "denied").says(&["under the policy `plan-readonly`"]);
    // Looking costs nothing and leaves no run.
    let ran = job().env("CODEFORGE_PROMPT", "x").env("CODEFORGE_DRY_RUN", "true").run().ends(0, "success");
    assert!(ran.printed().contains("mend"), "{}", ran.printed());
    assert_eq!(ran.outputs()["run-id"], "");
    // A configuration with errors decides nothing, and no file of the folder is asked instead.
    hub.commit("main", &[(".codeforge/workflows/broken.yml", "name: broken\nstep: {}\n")]);
    let clone = hub.whole("refs/heads/main");
    let after = hub.git(&["rev-parse", "main"]);
    let job = hub.job(&clone, "push", &push("main", BASE, &after)).env("CODEFORGE_WORKFLOW", "mend");
    job.env("CODEFORGE_PROMPT", "x").run().ends(2, "misconfigured").says(&["broken.yml", "`main` has"]);
    let bare = hub.job(&clone, "push", &push("main", BASE, &after)).without("GITHUB_EVENT_PATH");
    bare.run().says(&["GITHUB_EVENT_PATH is not set"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_cannot_be_reached_is_5_or_neutral() {
    let hub = Hub::with(&[
        (".codeforge/workflows/look.yml", &REVIEW.replace("pull_request: {}", "push: {}")),
        ("src/a.txt", "one\n"),
    ]);
    let clone = hub.shallow("refs/heads/main");
    let after = hub.git(&["rev-parse", "main"]);
    let job = || hub.job(&clone, "push", &push("main", &after, &after)).model("http://127.0.0.1:9/v1");
    let run = |job: Job<'_>| tokio::task::block_in_place(|| job.run());
    run(job()).ends(5, "unavailable");
    run(job().env("CODEFORGE_ON_UNAVAILABLE", "neutral")).ends(0, "neutral").says(&["NEUTRAL"]);
    hub.commit("main", &[(".codeforge/config.yml", "ci: { on_unavailable: neutral }\n")]);
    let after = hub.git(&["rev-parse", "main"]);
    let clone = hub.shallow("refs/heads/main");
    let job = || hub.job(&clone, "push", &push("main", &after, &after)).model("http://127.0.0.1:9/v1");
    run(job()).ends(0, "neutral");
    run(job().env("CODEFORGE_ON_UNAVAILABLE", "fail")).ends(5, "unavailable");
}
