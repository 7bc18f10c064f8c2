//! `codeforge serve` from the webhook to the forge, in stories of a few lines: the real server, real git, real HTTP; the
//! forge is a fake that remembers and tells, the model follows a script.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use codeforge::model::forge::ForgeKind;
use common::town::Town;
use common::{Reply, Rule, Script};
use serde_json::{Value, json};

const KINDS: [ForgeKind; 3] = [ForgeKind::Github, ForgeKind::Gitlab, ForgeKind::Gitea];

fn finish(output: Value) -> Reply {
    Reply::call("finish", json!({ "summary": "Done.", "output": output }))
}

/// A reviewer that finds one thing, or nothing.
fn reviewer(found: Option<&str>) -> Rule {
    let findings = found.map(|what| json!({ "severity": "high", "file": "src/a.txt", "line": 2, "what": what }));
    let findings: Vec<Value> = findings.into_iter().collect();
    let output = json!({ "approved": findings.is_empty(), "summary": "Looked.", "findings": findings });
    Rule::when().system("You are the reviewer").reply(finish(output))
}

/// A workflow that makes a file of what it is asked for, and hands it over as a change.
const BUILD: &str = "on: { issues: { types: [labeled], labels: [agent] } }
inputs: { task: { type: string, required: true } }
steps: { work: { mode: coder, prompt: \"Do this: {{ inputs.task }}\" } }
deliver: { as: pull_request, title: \"Do what was asked\", branch: \"codeforge/build/{{ key }}\" }
";

fn coder() -> Script {
    let coder = || Rule::when().system("You are the coder").user("Do this");
    vec![
        coder().turn(0).reply(Reply::call("write_file", json!({ "path": "made.txt", "content": "made\n" }))).times(50),
        coder().turn(1).reply(Reply::call("finish", json!({ "summary": "Made it." }))).times(50),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_seen_and_answered_by_one_comment_that_stays_current() {
    for kind in KINDS {
        let script = vec![reviewer(Some("two is wrong")), reviewer(None)];
        let town = Town::of(kind).model(script).start().await;
        town.forge.memory().changes.clear();
        let ann = town.person("ann");
        let change = {
            town.hooks.hold();
            let number = ann.opens_change("topic", &[("src/a.txt", "one\nTWO\nthree\n")]).await;
            number
        };
        town.hooks.release(1, 1).await;
        town.settles().await;
        let asked = ann.comments(change, "/codeforge review").await;
        town.settles().await;
        println!(
            "{kind:?}: {:#?}\n{:#?}\n{:#?}\n{}",
            town.work().await,
            town.decided().await,
            town.comments_of_ours(change),
            town.log()
        );
        assert!(town.comment(asked).reactions.contains(&"eyes".to_owned()), "{kind:?}");
    }
}
