//! The quality layer end to end: the real binary on a real repository, a scripted provider over HTTP.

mod common;

use common::{ModelServer, Reply, Rule, Script, TestRepo, eventually, ok, spoken};
use serde_json::{Value, json};
use std::process::{Output, Stdio};

const CONFIG: &str = "
models:
  small: { provider: openai, model: small, base_url: URL, price: { input_per_mtok: 1, output_per_mtok: 2 } }
  large: { provider: openai, model: large, base_url: URL, price: { input_per_mtok: 10, output_per_mtok: 20 } }
scenarios: { default: [small], review: [large] }
gates:
  tests: { run: \"grep -q right value.txt\" }
  lint: { run: \"true\" }
";

/// A repository with one workflow: a coder with this `quality:`.
fn project(server: &ModelServer, step: &str, quality: &str) -> TestRepo {
    let repo = TestRepo::with(&[("value.txt", "wrong\n")]);
    repo.write(".codeforge/config.yml", CONFIG.replace("URL", server.url()));
    repo.write(
        ".codeforge/workflows/mend.yml",
        format!(
            "name: mend\nsteps:\n  work:\n    mode: coder\n    prompt: Make the value right.\n{step}    quality:\n{quality}\
             deliver: {{ as: patch, when: always }}\n"
        ),
    );
    repo.commit("configured");
    repo
}

async fn run(repo: &TestRepo) -> Output {
    let mut command = repo.codeforge(&["run", "mend", "--sandbox", "none", "-v"]);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn write(text: &str) -> Reply {
    Reply::call("write_file", json!({ "path": "value.txt", "content": text }))
}

fn finish(summary: &str) -> Reply {
    Reply::call("finish", json!({ "summary": summary }))
}

fn answer(value: Value) -> Reply {
    Reply::text(&value.to_string())
}

fn coder() -> Rule {
    Rule::when().system("You are the coder").model("small")
}

/// What the one run left: its account, its trajectory and the patch.
struct Left {
    account: Value,
    lines: Vec<Value>,
    patch: String,
}

impl Left {
    fn of(repo: &TestRepo) -> Self {
        let runs: Value =
            serde_json::from_str(&ok(&mut repo.codeforge(&["runs", "list", "--format", "json"]))).unwrap();
        let id = runs[0]["run"]["id"].as_str().unwrap().to_owned();
        let account = ok(&mut repo.codeforge(&["runs", "show", &id, "--format", "json"]));
        let events = ok(&mut repo.codeforge(&["runs", "events", &id, "--format", "json"]));
        let account: Value = serde_json::from_str(&account).unwrap();
        let patch = account["delivered"]["patch"].as_str().map(|path| std::fs::read_to_string(path).unwrap());
        Self {
            lines: events.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
            account,
            patch: patch.unwrap_or_default(),
        }
    }

    /// The purposes of all calls, in the order in which they were answered.
    fn purposes(&self) -> Vec<String> {
        let answers = self.lines.iter().filter(|line| line["type"] == "answer");
        answers.map(|line| line.get("purpose").map_or_else(|| "turn".into(), |it| it.to_string())).collect()
    }

    /// The step's spending on a purpose: calls and billionths of a dollar.
    fn spent(&self, purpose: &str) -> (u64, u64) {
        let spend = self.account["steps"][0]["quality"]["spend"].as_array().unwrap();
        let spend = spend.iter().find(|entry| entry[0] == purpose).unwrap_or_else(|| panic!("{:#}", self.account));
        (spend[1]["calls"].as_u64().unwrap(), spend[1]["cost"].as_u64().unwrap())
    }

    fn told(&self) -> &Value {
        &self.account["steps"][0]["quality"]["told"]
    }
}

async fn succeeds(script: Script, step: &str, quality: &str) -> Left {
    let server = ModelServer::start(script).await;
    let repo = project(&server, step, quality);
    let output = run(&repo).await;
    assert!(output.status.success(), "{}\n{:#?}", spoken(&output), server.unmatched());
    server.finished();
    Left::of(&repo)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_answers_the_judge_takes_one_and_only_that_is_carried_out() {
    let sampled =
        |text: &'static str| coder().turn(0).matches("warm", |it| it.body["temperature"] == 0.7).reply(write(text));
    let judge = |first: &'static str| {
        // Whichever place it stands at, `right` wins.
        Rule::when().model("large").system("You compare two answers").matches(first, move |asked| {
            let user = asked.user();
            let Some((a, b)) = user.split_once("Answer B:") else { return false };
            if first == "right is A" { a.contains("right now") } else { b.contains("right now") }
        })
    };
    let left = succeeds(
        vec![
            sampled("perhaps\n"),
            sampled("right now\n"),
            sampled("perhaps\n"),
            judge("right is A").reply(answer(json!({ "reason": "It is right.", "winner": "A" }))).always(),
            judge("right is B").reply(answer(json!({ "reason": "It is right.", "winner": "B" }))).always(),
            coder().turn(1).tool_result("value.txt").reply(finish("Made it right.")).times(3),
        ],
        "    gates: [tests]\n",
        "      action_sampling: { n: 3, temperature: 0.7 }\n",
    )
    .await;
    assert!(left.patch.contains("+right now") && !left.patch.contains("perhaps"), "{}", left.patch);
    assert_eq!(left.told(), &json!(["sampled 2 turns: 1 without a judge"]));
    let purposes = left.purposes();
    let judged = purposes.iter().filter(|it| *it == "\"choose\"").count();
    assert!((1..=2).contains(&judged) && purposes.len() == 6 + judged, "{purposes:?}");
    for sample in 0..3 {
        assert_eq!(purposes.iter().filter(|it| **it == format!("{{\"sample\":{sample}}}")).count(), 2, "{purposes:?}");
    }
    // 100 tokens in, 10 out: 0.12 thousandths at the small model, 1.2 at the large one.
    assert_eq!(left.spent("sample"), (6, 6 * 120_000));
    assert_eq!(left.spent("judge"), (judged as u64, judged as u64 * 1_200_000));
    assert_eq!(left.account["spend"]["cost"].as_u64().unwrap(), 720_000 + judged as u64 * 1_200_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_judge_writes_one_answer_with_the_agents_tools() {
    let mut drafts = vec![write("right\n"), write("right, and more\n")].into_iter();
    let mut draft = || coder().turn(0).reply(drafts.next().unwrap());
    let left = succeeds(
        vec![
            draft(),
            draft(),
            Rule::when()
                .model("large")
                .system("You are the coder")
                .last("Several drafts of your next answer")
                .last("Answer 2:")
                .matches("the agent's tools", |asked| asked.tools().contains(&"write_file"))
                .reply(write("right, by both\n")),
            coder().turn(1).reply(finish("Made it right.")).times(2),
        ],
        "    gates: [tests]\n",
        "      action_sampling: { n: 2, choose: synthesise }\n",
    )
    .await;
    assert!(left.patch.contains("+right, by both"), "{}", left.patch);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_attempts_the_best_that_passes_is_delivered() {
    let attempt = |text: &'static str| {
        vec![
            coder().turn(0).matches("a fresh start", |asked| !asked.user().contains("attempt")).reply(write(text)),
            coder().turn(1).reply(finish("Wrote it.")),
        ]
    };
    let review = |text: &'static str, score: f64| {
        Rule::when()
            .model("large")
            .system("You are the reviewer")
            .system("You score an agent's work")
            .user(text)
            .user("Gate `tests` passed")
            .reply(answer(json!({ "reason": format!("It says {text:?}."), "score": score })))
    };
    let mut script = attempt("right, the first\n");
    script.extend(attempt("wrong, the second\n"));
    script.extend(attempt("right, the third\n"));
    script.push(review("+right, the first", 8.0));
    script.push(review("+right, the third", 6.0));
    let server = ModelServer::start(script).await;
    let quality = "      best_of: { n: 3, reviewer: reviewer, min_score: 9, min_budget_for_new_attempt: 0.01 }\n";
    let repo = project(&server, "    gates: [tests]\n    budget: { max_cost_usd: 1 }\n", quality);
    // The mode's own scenario says who reviews.
    let output = run(&repo).await;
    assert!(output.status.success(), "{}\n{:#?}", spoken(&output), server.unmatched());
    server.finished();
    let left = Left::of(&repo);
    assert!(left.patch.contains("+right, the first") && !left.patch.contains("third"), "{}", left.patch);
    assert_eq!(left.purposes().iter().filter(|it| *it == "\"choose\"").count(), 2, "{:?}", left.purposes());
    assert_eq!(left.spent("judge"), (2, 2_400_000));
    let told = left.told().as_array().unwrap();
    assert!(told[0].as_str().unwrap().ends_with("(kept)") && told[1] == "attempt 2 of 3: its gates did not pass");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("score 8") && said.contains("judge"), "{said}");
    // Every attempt began from the same tree.
    let restored = left.lines.iter().filter(|line| line["type"] == "restored").count();
    assert_eq!(restored, 3, "twice back to the start, once to the best");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_sees_the_change_and_its_words_reach_the_agent_as_data() {
    let guard = |diff: &'static str| {
        Rule::when().model("large").system("You guard the work of an agent").user("Make the value right").user(diff)
    };
    let left = succeeds(
        vec![
            coder().turn(0).reply(write("rite\n")),
            coder().turn(1).reply(finish("Made it right.")),
            guard("+rite").reply(answer(json!({ "feedback": "It is misspelt.", "verdict": "reject" }))),
            coder()
                .turn(2)
                .last("not accepted yet")
                .matches("fenced", |asked| {
                    let last = asked.last();
                    last.find("<untrusted-data").unwrap() < last.find("It is misspelt.").unwrap()
                })
                .reply(write("right\n")),
            coder().turn(3).reply(finish("Spelt it right.")),
            // The first answer is no verdict: it is asked for once more.
            guard("+right").turn(0).reply(Reply::text("Looks good to me!")),
            guard("+right").turn(1).reply(answer(json!({ "feedback": "", "verdict": "accept" }))),
        ],
        "    gates: [tests]\n",
        "      guardrail: { model: large, max_rejections: 2 }\n",
    )
    .await;
    assert!(left.patch.contains("+right"), "{}", left.patch);
    assert_eq!(left.spent("guard"), (3, 3_600_000));
    assert_eq!(left.told(), &json!(["guard `large` rejected once"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_stays_unhappy_fails_the_step_and_nothing_is_delivered() {
    let server = ModelServer::start(vec![
        coder().reply(finish("Nothing to do.")).times(2),
        Rule::when()
            .model("large")
            .reply(answer(json!({ "feedback": "Nothing was done.", "verdict": "reject" })))
            .times(2),
    ])
    .await;
    let repo = project(&server, "", "      guardrail: { model: large, max_rejections: 1 }\n");
    let output = run(&repo).await;
    assert_eq!(output.status.code(), Some(1), "{}", spoken(&output));
    server.finished();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("the guard `large` rejected it 2 times; its last words: Nothing was done."), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debate_precedes_the_work_and_its_conclusion_is_in_the_prompt() {
    let speaker = |model: &'static str, part: &'static str| {
        Rule::when().model(model).system(part).matches("no tools", |asked| asked.tools().is_empty())
    };
    let left = succeeds(
        vec![
            speaker("small", "You speak for the most direct way").reply(Reply::text("Write the word.")),
            speaker("large", "You speak against").user("Write the word.").reply(Reply::text("Mind the line end.")),
            speaker("small", "You conclude the debate")
                .user("Mind the line end.")
                .reply(Reply::text("Write the word with a line end.")),
            coder()
                .turn(0)
                .user("Make the value right")
                .matches("fenced advice", |asked| {
                    let user = asked.user();
                    let advice =
                        user.find("what their moderator concluded").or(user.find("What their moderator concluded"));
                    advice.unwrap() < user.find("Write the word with a line end.").unwrap()
                })
                .reply(write("right\n")),
            coder().turn(1).user("Write the word with a line end.").reply(finish("Made it right.")),
        ],
        "    gates: [tests]\n",
        "      debate: { rounds: 1, con: { model: large } }\n",
    )
    .await;
    assert!(left.patch.contains("+right"), "{}", left.patch);
    assert_eq!(left.spent("debate"), (3, 120_000 * 2 + 1_200_000));
    assert_eq!(
        left.purposes()[..3],
        [
            "{\"speech\":{\"side\":\"pro\",\"round\":0}}",
            "{\"speech\":{\"side\":\"con\",\"round\":0}}",
            "{\"speech\":{\"side\":\"moderator\",\"round\":1}}"
        ]
    );
}

/// Killed while a sample is out, then while the judge is: what was answered is not asked again.
#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_samples_and_of_a_judgement_it_goes_on() {
    let first = || coder().turn(0);
    let judge = || Rule::when().model("large").system("You compare two answers");
    let server = ModelServer::start(vec![
        first().reply(write("right, one\n")),
        first().reply(write("right, two\n")),
        first().reply(Reply::hang()),
        first().reply(write("right, three\n")),
        judge().reply(Reply::hang()),
        judge().reply(answer(json!({ "reason": "", "winner": "tie" }))).times(6),
        coder().turn(1).reply(finish("Made it right.")).times(3),
    ])
    .await;
    let repo = project(&server, "    gates: [tests]\n", "      action_sampling: { n: 3 }\n");
    let mut child = repo.codeforge(&["run", "mend", "--sandbox", "none"]).stderr(Stdio::null()).spawn().unwrap();
    let answered = |repo: &TestRepo| {
        let runs = repo.codeforge(&["runs", "list", "--format", "json"]).output().unwrap();
        let runs: Value = serde_json::from_slice(&runs.stdout).ok()?;
        let id = runs[0]["run"]["id"].as_str()?.to_owned();
        let events = ok(&mut repo.codeforge(&["runs", "events", &id, "--format", "json"]));
        let answers = events.lines().filter(|line| line.contains("\"type\":\"answer\"")).count();
        Some((id, answers))
    };
    let both = || answered(&repo).filter(|(_, answers)| *answers == 2 && server.asked().len() == 3);
    let (id, _) = eventually("two of three answers", both).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let resume = || repo.codeforge(&["resume", &id]);
    let mut child = resume().stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    eventually("the judge", || (server.asked().len() == 5).then_some(())).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let mut last = resume();
    let output = tokio::task::spawn_blocking(move || last.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}\n{:#?}", spoken(&output), server.unmatched());
    server.finished();
    let left = Left::of(&repo);
    // Which sample got which answer is the network's affair; a tie leaves that of the first sample.
    let of_first = left.lines.iter().find(|line| line["type"] == "answer" && line["purpose"] == json!({ "sample": 0 }));
    let written: Value = serde_json::from_str(of_first.unwrap()["calls"][0]["arguments"].as_str().unwrap()).unwrap();
    assert!(left.patch.contains(&format!("+{}", written["content"].as_str().unwrap())), "{written} {}", left.patch);
    let unknown = left.lines.iter().filter(|line| line["type"] == "outcome_unknown").collect::<Vec<_>>();
    assert_eq!(unknown.len(), 2, "{unknown:#?}");
    assert!(unknown[0]["purpose"]["sample"].is_u64() && unknown[1]["purpose"] == "choose", "{unknown:#?}");
    assert_eq!(left.account["steps"][0]["spend"]["calls"], server.asked().len());
}
