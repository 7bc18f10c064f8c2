//! `codeforge serve` from the webhook to the forge, in stories of a few lines: the real server, real git, real HTTP; the
//! forge is a fake that remembers and tells, the model follows a script.

mod common;

use codeforge::model::forge::ForgeKind;
use common::town::{Town, where_it_is_two};
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

/// What the policies ask for before anything is handed over.
const GATES: &str = "gates:\n  tests: { run: \"test -f made.txt\" }\n  lint: { run: \"true\" }\n";

/// A repository whose issues become changes.
fn building(kind: ForgeKind) -> common::town::Plan {
    Town::of(kind).file(".codeforge/config.yml", GATES).workflow("build", BUILD).model(coder())
}

fn coder() -> Script {
    let coder = || Rule::when().system("You are the coder").user("Do this");
    vec![
        coder().turn(0).reply(Reply::call("write_file", json!({ "path": "made.txt", "content": "made\n" }))).times(50),
        coder().turn(1).reply(Reply::call("finish", json!({ "summary": "Made it." }))).times(50),
    ]
}

/// Seen by a reaction, and answered by one comment under the change: the job's standing and the result share it.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_seen_and_answered_by_one_comment() {
    for kind in KINDS {
        let town = Town::of(kind).model(vec![reviewer(Some("two is wrong"))]).start().await;
        let ann = town.person("ann");
        // The change is older than the server: nothing runs on it by itself.
        let change = town.forge.open("ann", "topic", "Please.");
        town.forge.commit_by("ann", "topic", "main", &[("src/a.txt", Some("one\nTWO\nthree\n"))]);
        town.forge.keep_head(change, &town.forge.tip("topic").unwrap());
        let asked = ann.comments(change, "/codeforge review").await;
        town.settles().await;
        assert_eq!(town.work().await, ["review: done success"], "{kind:?}");
        assert!(town.comment(asked).reactions.contains(&"eyes".to_owned()), "{kind:?}");
        let said = town.comments_of_ours(change);
        assert_eq!(said.len(), 1, "{kind:?}: {said:#?}");
        assert!(!said[0].body.contains("running"), "{kind:?}: {}", said[0].body);
        let all = town.said();
        assert!(all.contains("two is wrong"), "{kind:?}: {all}");
        town.model.finished();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_starts_an_implementation_that_comes_back_as_a_draft() {
    for kind in KINDS {
        let town = building(kind).start().await;
        let issue = town.person("ann").opens_issue("Make it", "A file, please.").await;
        town.person("ann").labels(issue, "agent").await;
        town.settles().await;
        assert_eq!(town.work().await, ["build: done success"], "{kind:?} {:#?}", town.jobs().await);
        let ours = town.changes_of_ours();
        assert_eq!(ours.len(), 1, "{kind:?}: {ours:#?}");
        let made = &ours[0];
        assert!(made.draft || made.title.starts_with("Draft:") || made.title.starts_with("WIP:"), "{kind:?}: {made:?}");
        assert_eq!(town.forge.file(&made.head, "made.txt").as_deref(), Some("made\n"), "{kind:?}");
    }
}

/// A job that cannot run says where and why, in the job itself: nobody has to find its log first.
#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_that_cannot_run_says_where() {
    let town = Town::of(ForgeKind::Github).workflow("build", BUILD).start().await;
    let issue = town.person("ann").opens_issue("Make it", "A file, please.").await;
    town.person("ann").labels(issue, "agent").await;
    town.settles().await;
    let jobs = town.jobs().await;
    let note = &jobs[0].note;
    assert!(note.contains("cannot run as it stands: .codeforge/workflows/build.yml:"), "{note}");
    assert!(note.contains("gate"), "{note}");
}

/// The shipped night's review, as a repository takes it over, at two at night in a zone where it is just past two.
fn nightly(kind: ForgeKind, zone: &str) -> common::town::Plan {
    let shipped = include_str!("../workflows/nightly-review.yml");
    let ours = format!("cron: \"0 2 * * *\", timezone: {zone}");
    let text = shipped.replace("cron: \"H 2 * * *\"", &ours);
    assert_ne!(text, shipped);
    Town::of(kind).file(".codeforge/workflows/nightly-review.yml", &text)
}

/// A reviewer that finds these, by line of `src/a.txt`.
fn finds(found: &[(u64, &str)]) -> Rule {
    let finding =
        |(line, what): &(u64, &str)| json!({ "severity": "high", "file": "src/a.txt", "line": line, "what": what });
    let findings: Vec<Value> = found.iter().map(finding).collect();
    let output = json!({ "approved": findings.is_empty(), "summary": "Looked.", "findings": findings });
    Rule::when().system("You are the reviewer").reply(finish(output))
}

/// At two at night the repository is reviewed, and what is found stands in one issue; the next night two are gone; then it
/// is clean, and closed.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_nights_find_stands_in_one_issue() {
    for kind in KINDS {
        let zone = where_it_is_two();
        let all = [(1, "one is wrong"), (2, "two is wrong"), (3, "three is wrong")];
        let town = nightly(kind, &zone).model(vec![finds(&all)]).start().await;
        town.a_night_passes().await;
        let first = town.kept_issue();
        assert_eq!(first.title, "What the nightly review found");
        said(
            &first.body,
            &[
                "**3 findings: 3 new**",
                "one is wrong *(new)*",
                "three is wrong *(new)*",
                "this time",
                "codeforge replay",
            ],
        );
        assert!(first.body.contains(&format!("at `{}`", &town.forge.tip("main").unwrap()[..7])), "{}", first.body);

        // Ann mends two of them; the reviewer is told of all three, and finds the one that is left.
        town.person("ann").pushes("main", &[("src/a.txt", "ONE\nTWO\nthree\n")]).await;
        town.model
            .add(finds(&all[2..]).matches("what was found before", |asked| asked.user().contains("two is wrong")));
        town.a_night_passes().await;
        let second = town.kept_issue();
        said(
            &second.body,
            &[
                "**1 finding: 1 still there; 2 gone**",
                "three is wrong *(still there)*",
                "one is wrong *(resolved in",
                "since this issue is kept",
            ],
        );

        town.person("ann").pushes("main", &[("src/a.txt", "ONE\nTWO\nTHREE\n")]).await;
        town.model.add(finds(&[]));
        town.a_night_passes().await;
        let third = town.kept_issue();
        assert_eq!((third.number, third.state), (first.number, "closed"), "{kind:?}: {}", town.log());
        let words = town.comments_of_ours(third.number);
        assert_eq!(words.len(), 1, "{kind:?}: {words:#?}");
        said(&words[0].body, &["**Nothing is left**", "three is wrong *(resolved in"]);
        assert_eq!(town.work().await, vec!["nightly-review: done success"; 3], "{kind:?}");
        town.model.finished();
    }
}

fn said(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
}

/// Each night what came in since the last one is reviewed; what was found is said once.
#[tokio::test(flavor = "multi_thread")]
async fn at_two_at_night_what_came_in_is_reviewed_once() {
    let zone = where_it_is_two();
    let town = nightly(ForgeKind::Github, &zone).model(vec![reviewer(Some("two is wrong"))]).start().await;
    town.a_night_passes().await;
    said(&town.kept_issue().body, &["two is wrong *(new)*"]);
    assert_eq!(on_the_clock(&town.due().await[0], &zone), "02:00:00");

    town.a_night_passes().await;
    assert_eq!(town.work().await, ["nightly-review: done success", "nightly-review: done skipped"]);
    let why = format!("nothing came in since {}, which was looked at last", &town.forge.tip("main").unwrap()[..10]);
    assert_eq!(town.jobs().await[1].note, why);

    // What stands in a file that nobody touched still stands, though the reviewer is silent about it.
    town.person("ann").pushes("main", &[("src/b.txt", "new\n")]).await;
    let only_that =
        |asked: &common::model_server::Asked| asked.user().contains("+new") && !asked.user().contains("+one");
    town.model.add(reviewer(None).matches("the new file and no other", only_that));
    town.a_night_passes().await;
    assert_eq!(town.work().await[2], "nightly-review: done success");
    said(&town.kept_issue().body, &["**1 finding: 1 still there**", "two is wrong *(still there)*"]);

    // Who closes it has the last word, and is told so.
    let number = town.kept_issue().number.to_string();
    town.forge.memory().issue(&number).unwrap().set_open(false, "ann");
    town.person("ann").pushes("main", &[("src/c.txt", "newer\n")]).await;
    town.model.add(reviewer(Some("two is wrong")));
    let before = town.kept_issue();
    town.a_night_passes().await;
    assert_eq!(town.kept_issue(), before);
    assert!(town.newest_log("nightly-review").await.contains("was closed by `ann`, and stays closed"));
    town.model.finished();
}

fn on_the_clock(at: &str, zone: &str) -> String {
    let zone = jiff::tz::TimeZone::get(zone).unwrap();
    at.parse::<jiff::Timestamp>().unwrap().to_zoned(zone).time().to_string()
}

/// `trust.md` 1: nothing of a fork's runs by itself, and nothing is written at the forge; the same where nobody says any
/// more where a change comes from.
#[tokio::test(flavor = "multi_thread")]
async fn trust_1_a_fork_starts_nothing() {
    let opened = "on: { pull_request: {} }\nsteps: { work: { run: \"echo x > x.txt\" } }\ndeliver: pull_request\n";
    let look = "on: { command: { name: look, access: read } }\nsteps: { work: { run: \"true\" } }\ndeliver: comment\n";
    for (kind, gone) in KINDS.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let town = Town::of(kind).workflow("opened", opened).workflow("look", look).member("eve", "read").start().await;
        town.forge.memory().forks_gone = gone;
        let change = town.person("eve").opens_fork("evil", &[("src/a.txt", "evil\n")]).await;
        town.person("eve").comments(change, "/codeforge look").await;
        town.person("eve").pushes("evil", &[("src/a.txt", "more evil\n")]).await;
        town.settles().await;
        assert_eq!(town.work().await, [""; 0], "{kind:?} {gone}: {:#?}", town.decided().await);
        assert_eq!(town.writes(), 0, "{kind:?} {gone}");
        // The same of this repository's own runs, so that the silence above says something.
        if !gone {
            town.person("ann").opens_change("good", &[("src/a.txt", "good\n")]).await;
            town.until("a run", || async { (!town.work().await.is_empty()).then_some(()) }).await;
        }
    }
}

/// `reliability.md` 5: sent three times each, in another order, and once more after a kill: one run.
#[tokio::test(flavor = "multi_thread")]
async fn reliability_5_what_is_sent_again_runs_once() {
    let town = building(ForgeKind::Github).start().await;
    town.hooks.hold();
    let issue = town.person("ann").opens_issue("Make it", "A file, please.").await;
    town.person("ann").labels(issue, "agent").await;
    town.hooks.release(7, 3).await;
    town.settles().await;
    town.kill();
    town.starts().await;
    for hook in town.hooks.sent() {
        assert_eq!(town.hooks.send(&hook).await, 202);
    }
    town.settles().await;
    assert_eq!(town.work().await, ["build: done success"]);
    assert_eq!(town.changes_of_ours().len(), 1);
}

/// The rows of the threats and faults that must each have a test; others may be there beside them.
const TRUST: [u32; 22] = [1, 2, 9, 10, 11, 12, 13, 14, 17, 19, 20, 21, 30, 31, 32, 36, 38, 43, 45, 46, 48, 49];
const RELIABILITY: [u32; 13] = [2, 4, 5, 6, 7, 8, 12, 13, 22, 24, 25, 26, 27];

/// Each row that is promised has a test of that name, and each row that must be there is.
#[test]
fn every_promise_names_a_test_that_there_is() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/promises.md")).unwrap();
    let mut shown = std::collections::BTreeSet::new();
    for row in page.lines().filter(|line| line.starts_with("| trust") || line.starts_with("| reliability")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let (file, name) = cells[3].trim_matches('`').split_once("::").unwrap();
        let places = [format!("tests/{file}.rs"), format!("src/{file}.rs")].map(|place| root.join(place));
        let text = places.iter().find_map(|place| std::fs::read_to_string(place).ok());
        let text = text.unwrap_or_else(|| panic!("{row}: no such file"));
        // A function, or a line of `everywhere!`, which makes one that goes through all forges.
        let there = text.contains(&format!("fn {name}(")) || text.contains(&format!("    {name} => "));
        assert!(there, "{row}: no such test");
        shown.insert(cells[1].to_owned());
    }
    let trust = TRUST.map(|row| format!("trust {row}"));
    let reliability = RELIABILITY.map(|row| format!("reliability {row}"));
    let missing: Vec<&String> = trust.iter().chain(&reliability).filter(|row| !shown.contains(*row)).collect();
    assert!(missing.is_empty(), "no test shows {missing:?}");
}
