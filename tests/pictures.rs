//! The pictures in `docs/workflows/`: each built-in workflow does a realistic piece of work with a scripted model, and
//! what it leaves is rendered as a forge shows it. The pages lie in `target/tmp/pictures`; `scripts/pictures` makes the
//! committed images of them.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up fails")]

mod common;

use codeforge::model::account::Account;
use codeforge::model::finding::{Finding, Level, Standing};
use codeforge::model::usage::NanoUsd;
use codeforge::plan::scope::{ROOM, Scope, scope};
use codeforge::report::ci::{self, Facts, Tree};
use codeforge::report::dag;
use codeforge::template;
use common::{ModelServer, Reply, Rule, Script, TestRepo, ok, spoken};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

const PARSE: &str = "//! Lines of comma-separated fields.\n\n/// The fields of a line.\npub fn fields(line: &str) -> Vec<&str> {\n    \
                     line.split(',').filter(|field| !field.is_empty()).collect()\n}\n\n/// The number in a field.\npub fn \
                     number(field: &str) -> u64 {\n    field.parse().unwrap()\n}\n";
const CLI: &str = "use std::process::Command;\n\nfn main() {\n    let name = std::env::args().nth(1).unwrap_or_default();\n    \
                   let status = Command::new(\"sh\").arg(\"-c\").arg(format!(\"wc -l {name}\")).status();\n    \
                   println!(\"{status:?}\");\n}\n";
const TESTS: &str = "if grep -q 'is_empty' src/parse.rs; then echo 'test parse::empty_field ... FAILED'; \
                     echo 'test result: FAILED. 212 passed; 1 failed'; exit 1; fi; \
                     if grep -q '2.0' Cargo.lock && ! grep -q 'new(name)' src/cli.rs; then \
                     echo 'error[E0061]: Table::new takes one argument'; exit 1; fi; echo 'test result: ok. 213 passed; 0 failed'";

/// One workflow's piece of work.
struct Scene {
    workflow: &'static str,
    arguments: Vec<String>,
    script: Script,
    /// What a reviewer is shown, where there is a change.
    scope: Option<Scope>,
    earlier: Vec<Finding>,
    asked: &'static str,
}

fn project() -> TestRepo {
    let lock = "[[package]]\nname = \"table\"\nversion = \"1.9.0\"\n";
    let readme = "# tally\n\n`tally FILE` counts lines. Empty fields are left out.\n";
    let repo =
        TestRepo::with(&[("src/parse.rs", PARSE), ("src/cli.rs", CLI), ("Cargo.lock", lock), ("README.md", readme)]);
    repo.write("check.sh", TESTS);
    repo.write(
        ".codeforge/config.yml",
        "sandbox: { driver: native }\ngates:\n  tests: { run: \"sh check.sh\", on_fail: retry }\n  lint: { run: \"! grep -rn ' $' src\" }\n\
         commands:\n  lint-fix: \"sed -i 's/ *$//' src/*.rs\"\n  update: \"sed -i 's/1.9.0/2.0.0/' Cargo.lock\"\n",
    );
    repo.commit("Count lines");
    repo
}

fn finish(summary: &str) -> Reply {
    Reply::call("finish", json!({ "summary": summary })).usage(2400, 180)
}

fn hand_over(summary: &str, output: Value) -> Reply {
    Reply::call("finish", json!({ "summary": summary, "output": output })).usage(9200, 640)
}

fn edit(path: &str, old: &str, new: &str) -> Reply {
    Reply::call("edit_file", json!({ "path": path, "old": old, "new": new })).usage(7100, 240)
}

fn planned() -> Rule {
    let plan = json!({ "title": "Keep empty fields",
        "summary": "`fields` filters empty fields out, so a line that ends in a comma loses its last one. The filter goes; \
                    callers already cope with empty text.",
        "steps": [{ "what": "Take the filter out of `fields`", "files": ["src/parse.rs"] }] });
    Rule::when().system("You are the architect").reply(hand_over("Planned.", plan))
}

/// A coder that tries to download something, and mends it at the second attempt.
fn coded() -> Script {
    let coder = || Rule::when().system("You are the coder").user("Take the filter out");
    let again = || Rule::when().system("You are the coder").user("Gate `tests` failed");
    vec![
        coder()
            .turn(0)
            .reply(Reply::call("shell", json!({ "command": "curl -s https://example.com/csv-spec" })).usage(5200, 90)),
        coder().turn(1).reply(edit("src/parse.rs", "split(',').filter", "split_terminator(',').filter")),
        coder().turn(2).reply(finish("Done.")),
        again().turn(0).reply(edit("src/parse.rs", ".filter(|field| !field.is_empty())", "")),
        again().turn(1).reply(finish("The filter is gone; an empty field is a field.")),
    ]
}

fn finding(level: &str, file: &str, line: u64, rule: &str, what: &str) -> Value {
    json!({ "severity": level, "file": file, "line": line, "rule": rule, "what": what })
}

/// The scene of a workflow; commits what it needs.
fn scene(workflow: &'static str, repo: &TestRepo) -> Scene {
    let task = "fields() drops the last field when the line ends in a comma";
    let mut scene =
        Scene { workflow, arguments: Vec::new(), script: Script::new(), scope: None, earlier: Vec::new(), asked: "" };
    match workflow {
        "fix" | "implement" => {
            scene.arguments = ["-i".to_owned(), format!("task={task}")].into();
            scene.asked = task;
            scene.script.push(planned());
            scene.script.extend(coded());
            if workflow == "fix" {
                let review = json!({ "approved": true, "summary": "The filter is gone and nothing relied on it.", "findings": [
                    finding("low", "src/parse.rs", 10, "", "`number` still panics on an empty field, which is more likely now.")] });
                scene
                    .script
                    .push(Rule::when().system("You are the tester").reply(finish("The tests are there already.")));
                scene.script.push(Rule::when().system("You are the reviewer").reply(hand_over("Reviewed.", review)));
            }
        }
        "review" => {
            let before = repo.head();
            let changed = PARSE.replace("field.parse().unwrap()", "field.trim().parse().expect(\"a number\")");
            repo.write("src/parse.rs", changed)
                .write("Cargo.lock", "version = 3\n")
                .write("src/io.rs", "pub fn close() {}\n");
            let after = repo.commit("Trim numbers");
            let scope = shown(repo, &before, &after);
            let review = json!({ "approved": false, "summary": "One way to crash is left.", "findings": [
                finding("high", "src/parse.rs", 10, "CWE-248", "`expect` on user input: `tally` dies on a line such as `a,,b`."),
                finding("medium", "src/io.rs", 1, "", "`close` does nothing, and nothing calls it.")] });
            let text = |path: &str| std::fs::read_to_string(repo.path().join(path)).ok();
            let step = "review".into();
            let old = json!({ "findings": [finding("medium", "src/io.rs", 1, "", "Nothing calls this.")] });
            scene.earlier = ci::findings([(&step, &old)], &Tree { text: &text, renamed: &BTreeMap::new() });
            scene.earlier.push(Finding {
                fingerprint: "00112233445566aa".into(),
                level: Level::Medium,
                file: "src/parse.rs".into(),
                line: Some(5),
                end_line: None,
                rule: None,
                what: "Spaces around a number make it fail.".into(),
                suggestion: None,
                step,
                standing: Standing::New,
            });
            scene.arguments = event(
                repo,
                &json!({ "kind": "pull_request", "change": { "number": 7, "title": "Trim numbers" } }),
                &scope,
                &before,
                &scene.earlier,
            );
            scene.scope = Some(scope);
            scene.script.push(
                Rule::when()
                    .system("You are the reviewer")
                    .user("+    field.trim()")
                    .reply(hand_over("Reviewed.", review)),
            );
        }
        "lint-fix" => {
            repo.write("src/parse.rs", PARSE.replace("is_empty", "is_blank").replace('{', "{  "));
            repo.commit("Untidy");
        }
        "nightly-review" => {
            let before = repo.head();
            repo.write("src/parse.rs", PARSE.replace("u64", "i64"));
            repo.write("README.md", "# tally\n\n`tally FILE` counts lines. Numbers are positive.\n");
            let after = repo.commit("Signed numbers; the readme");
            let scope = shown(repo, &before, &after);
            let review = json!({ "approved": false, "summary": "Two of the day's commits contradict each other.", "findings": [
                finding("medium", "README.md", 3, "", "Says that numbers are positive; `number` takes negative ones since today."),
                finding("low", "src/parse.rs", 9, "", "The result's type changed; no test holds it.")] });
            scene.arguments = event(repo, &json!({ "kind": "schedule" }), &scope, &before, &[]);
            scene.scope = Some(scope);
            scene.script.push(Rule::when().system("You are the reviewer").reply(hand_over("Reviewed.", review)));
        }
        "dependency-update" => {
            repo.write("src/parse.rs", PARSE.replace(".filter(|field| !field.is_empty())", ""));
            repo.commit("Keep empty fields");
            let mender = || Rule::when().system("You are the dependency updater");
            scene.asked = "Update dependencies (every Monday)";
            scene.script.push(mender().turn(0).reply(edit(
                "src/cli.rs",
                "println!",
                "let _table = table::Table::new(name);\n    println!",
            )));
            scene
                .script
                .push(mender().turn(1).reply(finish("`Table::new` takes a name since 2.0; the one caller gives it.")));
        }
        "security-audit" => {
            let map = "src/cli.rs:4: the first argument, from whoever starts `tally`; it becomes part of a shell line.";
            let report = json!({ "summary": "One way in.", "findings": [
                json!({ "severity": "critical", "confidence": "high", "rule": "CWE-78", "file": "src/cli.rs", "line": 5,
                    "what": "The file's name becomes shell text.", "attack": "`tally 'x; rm -rf ~'` runs the second command.",
                    "fix": "Start `wc` with the name as an argument of its own." }),
                json!({ "severity": "low", "confidence": "medium", "rule": "CWE-248", "file": "src/parse.rs", "line": 10,
                    "what": "A field that is no number ends the program.", "fix": "Give back a `Result`." })] });
            scene.script.push(Rule::when().system("You are the researcher").reply(finish(map)));
            scene.script.push(
                Rule::when().system("You are the security auditor").user(map).reply(hand_over("Audited.", report)),
            );
        }
        "docs" => {
            repo.write("src/parse.rs", PARSE.replace(".filter(|field| !field.is_empty())", ""));
            repo.commit("Keep empty fields");
            let place = "README.md:3 says that empty fields are left out; src/parse.rs:5 keeps them.";
            scene.asked = "Bring the documentation in line with the code";
            scene.script.push(Rule::when().system("You are the researcher").reply(finish(place)));
            let writer = || Rule::when().system("You are the documenter").user(place);
            scene.script.push(writer().turn(0).reply(edit(
                "README.md",
                "Empty fields are left out.",
                "An empty field is a field.",
            )));
            scene.script.push(writer().turn(1).reply(finish("The readme says what `fields` does.")));
        }
        "triage" => {
            let issue = json!({ "kind": "issues", "action": "opened", "issue": { "number": 12, "title": "tally loses my last column",
                "body": "A line `a,b,` gives two fields. I expected three." } });
            std::fs::write(repo.path().join(".git/event.json"), issue.to_string()).unwrap();
            scene.arguments = ["--event".to_owned(), repo.path().join(".git/event.json").display().to_string()].into();
            let sorted = json!({ "kind": "bug", "priority": "high", "ready": true,
                "summary": "Confirmed in the code: `fields` filters empty fields out, so a trailing comma loses the last column.",
                "where": ["src/parse.rs:5", "README.md:3"],
                "questions": ["Does anything of yours rely on empty fields being left out, as the readme promises?"] });
            scene.script.push(
                Rule::when()
                    .system("You are the researcher")
                    .user("tally loses my last column")
                    .reply(hand_over("Sorted.", sorted)),
            );
        }
        other => panic!("no scene for the built-in workflow `{other}`: add one, and a page in docs/workflows"),
    }
    scene
}

fn shown(repo: &TestRepo, from: &str, to: &str) -> Scope {
    let tree = |commit: &str| repo.git(&["rev-parse", &format!("{commit}^{{tree}}")]).into();
    scope(&codeforge::adapter::git::open(repo.path()).unwrap().diff(&tree(from), &tree(to), 0).unwrap(), ROOM)
}

fn event(repo: &TestRepo, event: &Value, scope: &Scope, since: &str, earlier: &[Finding]) -> Vec<String> {
    let mut event = event.clone();
    scope.lay_on(&mut event, Some(since), earlier);
    let file = repo.path().join(".git/event.json");
    std::fs::write(&file, event.to_string()).unwrap();
    ["--event".to_owned(), file.display().to_string()].into()
}

/// The page that a workflow leaves, in Markdown; its heading on the picture.
fn page(scene: &Scene, account: &Account, found: &[Finding], facts: &Facts) -> (&'static str, String) {
    match scene.workflow {
        "review" => ("Comment on the pull request", ci::sticky_comment(account, found, facts, ci::BODY_CAP)),
        "fix" | "implement" | "dependency-update" | "docs" => {
            ("Description of the pull request", ci::change_body(account, found, facts, ci::BODY_CAP))
        }
        "triage" => {
            let library = codeforge::workflow::load(&codeforge::workflow::builtin(), &|_| None);
            let deliver = library.workflows["triage"].doc.deliver.clone().unwrap();
            let codeforge::workflow::schema::DeliverChoice::Detailed(deliver) = deliver else { panic!("a short form") };
            let context = json!({ "steps": { "triage": { "output": account.steps[0].output } } });
            ("Comment on the issue", template::render("body", &deliver.body.unwrap().0, &context).unwrap())
        }
        _ => ("Summary of the job", ci::summary(account, found, facts, ci::SUMMARY_CAP)),
    }
}

const STYLE: &str = "body{margin:0;padding:20px;background:#fff;color:#1f2328;font:14px/1.5 system-ui,'DejaVu Sans',sans-serif;width:860px}\
    .card{border:1px solid #d1d9e0;border-radius:6px;overflow:hidden}.head{background:#f6f8fa;border-bottom:1px solid #d1d9e0;\
    padding:8px 16px;color:#59636e}.head b{color:#1f2328}.body{padding:4px 16px 12px}h2{border-bottom:1px solid #d1d9e0;padding-bottom:.3em;\
    font-size:1.35em}h3{font-size:1.15em}table{border-collapse:collapse;margin:0 0 14px}td,th{border:1px solid #d1d9e0;padding:5px 11px;\
    text-align:left}tr:nth-child(2n){background:#f6f8fa}code{background:#818b981f;padding:.15em .35em;border-radius:5px;font:12px \
    'DejaVu Sans Mono',monospace}pre{background:#f6f8fa;padding:12px;border-radius:6px}pre code{background:none;padding:0}blockquote{\
    border-left:4px solid #d1d9e0;color:#59636e;margin:0;padding:0 1em}a{color:#0969da}hr{border:0;border-top:3px solid #d1d9e0}";

#[tokio::test(flavor = "multi_thread")]
async fn every_built_in_workflow_has_a_page_with_a_picture_of_its_result() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pictures");
    std::fs::create_dir_all(&folder).unwrap();
    let library = codeforge::workflow::load(&codeforge::workflow::builtin(), &|_| None);
    for name in library.workflows.keys() {
        let repo = project();
        let name: &'static str = Box::leak(name.clone().into_boxed_str());
        let mut scene = scene(name, &repo);
        let server = ModelServer::start(std::mem::take(&mut scene.script)).await;
        let mut command = repo.codeforge(&["run", name]);
        command.args(&scene.arguments);
        command.env("CODEFORGE_LLM_BASE_URL", server.url()).env("CODEFORGE_MODEL", "house-model");
        command.env("CODEFORGE_LLM_PRICE_INPUT", "3").env("CODEFORGE_LLM_PRICE_OUTPUT", "15");
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(output.status.success(), "{name}: {}\n{:#?}", spoken(&output), server.unmatched());
        server.finished();

        let list: Value =
            serde_json::from_str(&ok(&mut repo.codeforge(&["runs", "list", "--format", "json"]))).unwrap();
        let run = list[0]["run"]["id"].as_str().unwrap();
        let account: Account =
            serde_json::from_str(&ok(&mut repo.codeforge(&["runs", "show", run, "--format", "json"]))).unwrap();
        let text = |path: &str| std::fs::read_to_string(repo.path().join(path)).ok();
        let found = ci::findings(ci::outputs(&account), &Tree { text: &text, renamed: &BTreeMap::new() });
        let looked = |old: &Finding| scene.scope.as_ref().is_some_and(|scope| scope.looked_at(&old.file));
        let found = ci::standing(found, &scene.earlier, &looked);
        let facts = Facts {
            asked: (!scene.asked.is_empty()).then(|| scene.asked.to_owned()),
            asked_by: (!scene.asked.is_empty()).then(|| "octocat".to_owned()),
            done: ci::planned(&account),
            coverage: scene.scope.as_ref().map(|scope| scope.coverage.clone()).unwrap_or_default(),
            head: Some(repo.head()),
            since: (!scene.earlier.is_empty()).then(|| repo.git(&["rev-parse", "HEAD~1"])),
            change_spent: (name == "review").then(|| account.spend.cost.plus(NanoUsd::from_usd(0.23))),
            change_budget_usd: (name == "review").then_some(2.0),
            phrase: "/codeforge".into(),
            commands: if name == "review" { vec!["fix".into(), "review".into()] } else { vec!["fix".into()] },
            ..Facts::default()
        };
        let (what, page) = page(&scene, &account, &found, &facts);
        // The forge draws Mermaid; here our own picture stands for it.
        let (before, rest) = page.split_once("```mermaid\n").unwrap_or((page.as_str(), ""));
        let after = rest.split_once("```\n").map_or("", |(_, after)| after);
        let html = |text: &str| {
            let mut options = markdown::Options::gfm();
            options.compile.allow_dangerous_html = true;
            markdown::to_html_with_options(text, &options).unwrap()
        };
        let picture = if rest.is_empty() { String::new() } else { dag::svg(&account) };
        let document = format!(
            "<!doctype html><meta charset=\"utf-8\"><style>{STYLE}</style><div class=\"card\"><div class=\"head\"><b>{what}</b> · \
             workflow {name}</div><div class=\"body\">{}{picture}{}</div></div>",
            html(before),
            html(after)
        );
        std::fs::write(folder.join(format!("{name}.html")), document).unwrap();
    }
    for (name, workflow) in &library.workflows {
        let page = std::fs::read_to_string(format!("{}/docs/workflows/{name}.md", env!("CARGO_MANIFEST_DIR")));
        let page = page.unwrap_or_else(|_| panic!("docs/workflows/{name}.md is missing"));
        let image = format!("../images/workflow-{name}.png");
        assert!(page.contains(&format!("]({image})")), "docs/workflows/{name}.md shows no picture of its result");
        assert!(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images").join(format!("workflow-{name}.png")).exists()
        );
        for input in workflow.doc.inputs.keys() {
            assert!(
                page.contains(&format!("`{input}`")),
                "docs/workflows/{name}.md does not tell of the input {input}"
            );
        }
    }
}
