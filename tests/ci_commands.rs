//! Commands in comments where no server listens: `codeforge ci` answers what it can, and says of the rest what to do
//! instead. The forge is a fake that remembers.

mod common;

use codeforge::model::forge::ForgeKind;
use common::forge_server::{BOT, ForgeServer};
use common::hub::{Clone, Ran, clone_of, comment, on_github};
use serde_json::json;

const MEND: &str = r#"
name: mend
description: Mends things.
on: { command: { name: mend, access: write } }
inputs: { task: { type: string, required: true } }
policy: lax
steps: { work: { run: "printf '%s' \"$INPUT_TASK\" > said.txt" } }
deliver: { as: patch }
"#;
const LAX: &str =
    "name: lax\nrules:\n  - { tool: \"*\", decision: allow }\ndefault: allow\nlimits: { max_cost_usd: 1 }\n";

struct Stage {
    forge: ForgeServer,
    clone: Clone,
}

impl Stage {
    async fn new() -> Self {
        let files =
            [(".codeforge/workflows/mend.yml", MEND), (".codeforge/policies/lax.yml", LAX), ("src/a.txt", "one\n")];
        let forge = ForgeServer::with(ForgeKind::Github, &files).await;
        for (name, role) in [("ann", "write"), ("tess", "triage"), ("rita", "read")] {
            forge.memory().members.insert(name.into(), role.into());
        }
        let clone = clone_of(&forge, "refs/heads/main");
        Self { forge, clone }
    }

    /// Somebody writes a comment under issue 3, and the pipeline's job runs on it: its number, and how it went.
    fn given(&self, who: &str, body: &str, phase: &str) -> (u64, Ran) {
        let id = self.forge.comment_by(who, "issue 3", body);
        let mut payload = comment(body, who);
        payload["comment"]["id"] = json!(id);
        let job = on_github(&self.forge, &self.clone, "issue_comment", &payload).env("CODEFORGE_PHASE", phase);
        (id, tokio::task::block_in_place(|| job.run()))
    }

    fn gives(&self, who: &str, body: &str) -> (u64, Ran) {
        self.given(who, body, "all")
    }

    /// What our account said.
    fn said(&self) -> Vec<String> {
        let memory = self.forge.memory();
        memory.comments.iter().filter(|it| it.author == BOT).map(|it| it.body.clone()).collect()
    }

    /// Whether a comment was shown to be heard.
    fn heard(&self, id: u64) -> bool {
        self.forge.memory().comments.iter().any(|it| it.id == id && it.reactions.iter().any(|it| it == "eyes"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn help_is_answered_in_one_comment_and_offers_what_there_is_here() {
    let stage = Stage::new().await;
    let (id, ran) = stage.gives("rita", "/codeforge help");
    let ran = ran.ends(0, "skipped").says(&["answered `help`", "the command was answered"]);
    assert_eq!(ran.outputs()["final-message"], "the command was answered");
    assert!(stage.heard(id));
    let said = stage.said();
    assert_eq!(said.len(), 1);
    for part in ["mend", "Mends things.", "explain", "There is no CodeForge server here"] {
        assert!(said[0].contains(part), "{part}:\n{}", said[0]);
    }
    for absent in ["`/codeforge cancel", "`/codeforge approve", "`/codeforge status"] {
        assert!(!said[0].contains(absent), "{absent} is offered, and nobody is here to answer it:\n{}", said[0]);
    }
    // Asked again: the same comment, brought up to date.
    let (again, ran) = stage.gives("ann", "Please:\n\n/codeforge help");
    ran.ends(0, "skipped");
    assert!(stage.heard(again));
    assert_eq!(stage.said().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_a_server_can_is_answered_with_what_to_do_instead() {
    let stage = Stage::new().await;
    for (who, command, part) in [
        ("rita", "status", "*Actions*"),
        ("ann", "cancel", "Cancel the job"),
        ("ann", "retry", "Run the job again"),
        ("ann", "approve", "Only a server keeps a yes"),
        ("ann", "deny", "Only a server keeps a yes"),
    ] {
        let (id, ran) = stage.gives(who, &format!("/codeforge {command}"));
        ran.ends(0, "skipped").says(&[&format!("answered `{command}`")]);
        let last = stage.said().pop().unwrap();
        assert!(last.contains(part) && last.contains("codeforge serve") && stage.heard(id), "{command}:\n{last}");
    }
    assert_eq!(stage.said().len(), 5, "one comment for a command");
    // A reader may look, and neither end nor repeat anything.
    let (id, ran) = stage.gives("rita", "/codeforge cancel");
    ran.ends(0, "skipped").says(&["`rita` may not give it here"]);
    assert!(stage.said().len() == 5 && !stage.heard(id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_and_ourselves_get_no_answer_and_a_slip_gets_the_nearest_name() {
    let stage = Stage::new().await;
    for (who, body) in [
        ("eve", "/codeforge help"),
        ("eve", "/codeforge mned it"),
        ("rita", "/codeforge mned it"),
        ("ann", "> /codeforge help"),
        ("ann", "```\n/codeforge help\n```"),
        (BOT, "/codeforge help"),
    ] {
        let (id, ran) = stage.gives(who, body);
        ran.ends(0, "skipped");
        assert!(stage.said().iter().all(|it| it == body) && !stage.heard(id), "{who}: {body}: {:?}", stage.said());
    }
    let before = stage.said().len();
    let (_, ran) = stage.gives("tess", "/codeforge mned it");
    ran.ends(0, "skipped").says(&["answered `mned`"]);
    let said = stage.said();
    assert_eq!(said.len(), before + 1);
    assert!(said.last().unwrap().contains("`/codeforge mend`"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_explained_where_its_journal_is_kept() {
    let stage = Stage::new().await;
    let (_, ran) = stage.gives("ann", "/codeforge explain");
    ran.ends(0, "skipped");
    assert!(stage.said()[0].contains("explain which run?") && stage.said()[0].contains("/codeforge explain RUN"));
    let (_, ran) = stage.gives("ann", "/codeforge explain 7f3k9m2q");
    ran.ends(0, "skipped");
    assert!(stage.said()[0].contains("not known here") && stage.said()[0].contains("7f3k9m2q"), "{:?}", stage.said());
    let (_, ran) = stage.gives("ann", "/codeforge mend the parser");
    let run = ran.ends(0, "success").outputs()["run-id"].as_str().unwrap().to_owned();
    let (_, ran) = stage.gives("rita", &format!("/codeforge explain `{run}` what did it do?"));
    ran.ends(0, "skipped").says(&["answered `explain`"]);
    let said = stage.said();
    assert!(said.len() == 1 && said[0].contains(&run) && said[0].contains("mend"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_phases_the_one_that_may_write_answers() {
    let stage = Stage::new().await;
    for phase in ["agent", "gate"] {
        let (id, ran) = stage.given("ann", "/codeforge help", phase);
        ran.ends(0, "skipped");
        assert!(stage.said().is_empty() && !stage.heard(id), "{phase}");
    }
    let (id, ran) = stage.given("ann", "/codeforge help", "deliver");
    ran.ends(0, "skipped").says(&["answered `help`"]);
    assert!(stage.said().len() == 1 && stage.heard(id));
}
