//! Scenarios of a long conversation: what is left of it, and what the provider's cache makes of that.

use super::pipeline::CUT_EVERY;
use crate::agent::tests::{assert_paired, calling, estimate, model, spec, turn};
use crate::agent::{compose, interpret};
use crate::model::chat::{ChatRequest, Message, ModelRef, Turn};
use crate::model::history::Processor::{self, *};
use crate::model::plan::AgentSpec;
use proptest::prelude::*;
use serde_json::json;

fn agent(history: &[Processor]) -> AgentSpec {
    AgentSpec { history: history.to_vec(), ..spec(&["read_file", "edit_file", "shell", "finish"]) }
}

/// A turn with these calls (tool, arguments, result).
fn turn_of(number: usize, calls: &[(&str, serde_json::Value, String)]) -> Turn {
    let raw: Vec<(String, &str, String)> = calls
        .iter()
        .enumerate()
        .map(|(place, (tool, args, _))| (format!("c{number}_{place}"), *tool, args.to_string()))
        .collect();
    let raw: Vec<(&str, &str, &str)> = raw.iter().map(|(id, tool, args)| (id.as_str(), *tool, args.as_str())).collect();
    let answer = interpret(&agent(&[]), &model(), &calling(&raw));
    let results = raw.iter().zip(calls).map(|((id, ..), (_, _, result))| ((*id).to_owned(), result.clone())).collect();
    Turn { answer, results, say: None }
}

fn view(path: &str) -> (&'static str, serde_json::Value, String) {
    ("read_file", json!({ "path": path }), format!("content of {path}\n").repeat(40))
}

fn page(path: &str, from: u64, to: u64) -> (&'static str, serde_json::Value, String) {
    ("read_file", json!({ "path": path, "start_line": from, "end_line": to }), format!("a page of {path}\n").repeat(40))
}

fn edit(path: &str, done: bool) -> (&'static str, serde_json::Value, String) {
    let result = if done { format!("Changed {path}:\n-a\n+b") } else { format!("`old` does not occur in {path}.") };
    ("edit_file", json!({ "path": path, "old": "a", "new": "b" }), result)
}

fn asked(history: &[Processor], turns: &[Turn]) -> ChatRequest {
    let request = compose(&agent(history), &model(), "system", "the task", turns);
    assert_paired(&request.messages);
    request
}

fn results(request: &ChatRequest) -> Vec<&str> {
    let of = request.messages.iter();
    of.filter_map(|message| if let Message::Tool { text, .. } = message { Some(text.as_str()) } else { None }).collect()
}

/// Shell turns until the next cut is due.
fn up_to_a_cut(mut turns: Vec<Turn>) -> Vec<Turn> {
    while !turns.len().is_multiple_of(CUT_EVERY) {
        turns.push(turn_of(turns.len(), &[("shell", json!({ "command": "true" }), "exit code 0".into())]));
    }
    turns
}

#[test]
fn a_view_closes_when_its_file_changes_or_is_viewed_again() {
    let turns = up_to_a_cut(vec![
        turn_of(0, &[view("a.rs"), view("./b.rs"), view("c.rs")]),
        turn_of(1, &[edit("a.rs", true), edit("c.rs", false)]),
        turn_of(2, &[view("b.rs"), page("d.rs", 1, 100)]),
        turn_of(3, &[page("d.rs", 101, 200)]),
    ]);
    let request = asked(&[ClosedWindows], &turns);
    let results = results(&request);
    assert!(results[0].contains("read_file a.rs") && results[0].contains("changed after this"), "{}", results[0]);
    assert!(results[1].contains("newer view") && results[1].lines().count() == 1, "{}", results[1]);
    assert!(results[2].starts_with("content of c.rs"), "an edit that failed closes nothing");
    assert!(results[5].starts_with("content of b.rs"), "the newest view stays");
    assert!(results[6].starts_with("a page") && results[7].starts_with("a page"), "one page does not close another");
    // An edit makes every page of the file old; a patch names its files itself.
    let patch = json!({ "patch": "--- a/d.rs\n+++ b/d.rs\n@@ -1 +1 @@\n-a\n+b\n" });
    let mut turns = turns;
    turns.push(turn_of(90, &[("apply_patch", patch, "Changed d.rs:\n-a\n+b".into())]));
    let request = asked(&[ClosedWindows], &up_to_a_cut(turns));
    let pages = results_of_pages(&request);
    assert!(pages.iter().all(|text| text.contains("changed after this")), "{pages:?}");
}

fn results_of_pages(request: &ChatRequest) -> Vec<&str> {
    results(request)
        .into_iter()
        .filter(|text| text.contains("d.rs") && text.contains("page") || text.contains("[read_file d.rs"))
        .collect()
}

#[test]
fn each_strategy_keeps_what_it_says() {
    let turns: Vec<Turn> = (0..2 * CUT_EVERY).map(|n| turn_of(n, &[view(&format!("f{n}.rs"))])).collect();
    let shown = |history: &[Processor]| -> Vec<String> {
        let request = asked(history, &turns);
        results(&request).iter().map(|text| text.split_whitespace().nth(2).unwrap().to_owned()).collect()
    };
    assert_eq!(shown(&[Buffered(3)]), ["f9.rs", "f10.rs", "f11.rs"]);
    assert_eq!(shown(&[HeadAndTail { head: 2, tail: 3 }]), ["f0.rs", "f1.rs", "f9.rs", "f10.rs", "f11.rs"]);
    assert_eq!(shown(&[]).len(), turns.len());
    let note = |history: &[Processor]| matches!(&asked(history, &turns).messages[1], Message::User { text } if text.contains("left out"));
    assert!(note(&[Buffered(3)]) && !note(&[]) && !note(&[Buffered(100)]));
    // Between two cuts turns are added, none goes.
    assert_eq!(asked(&[Buffered(3)], &turns[..2 * CUT_EVERY - 1]).messages.len(), 2 + 2 * (3 + CUT_EVERY - 1));
}

#[test]
fn a_token_limit_holds_on_every_turn_and_cuts_seldom() {
    let turns: Vec<Turn> = (0..80).map(|n| turn_of(n, &[view(&format!("f{n}.rs"))])).collect();
    let mut cuts = 0;
    let mut before: Option<ChatRequest> = None;
    for n in 1..=turns.len() {
        let request = asked(&[TokenLimit(6_000)], &turns[..n]);
        assert!(estimate(&request) <= 6_000, "turn {n}: {}", estimate(&request));
        assert!(results(&request).last().unwrap().starts_with("content of"), "the last turn is whole");
        cuts += usize::from(before.is_some_and(|it| !request.messages.starts_with(&it.messages)));
        before = Some(request);
    }
    // It is full after twelve turns or so: then a cut makes room for several.
    assert!((5..=20).contains(&cuts), "{cuts} cuts in 80 turns");
}

#[test]
fn patterns_take_parts_out_of_every_result_one_after_the_other() {
    let noise = "   Compiling serde v1.0\n   Compiling tokio v1.0\nerror[E0308]: mismatched types\n";
    let turns = [turn_of(0, &[("shell", json!({ "command": "make" }), noise.into())]), turn("a", "Compiling all\n")];
    let history = [Remove(r"(?m)^\s*Compiling .*\n".into()), Remove(r"\[E\d+\]".into())];
    assert_eq!(results(&asked(&history, &turns))[0], "error: mismatched types\n");
    assert!(results(&asked(&history, &turns))[1].starts_with("(everything in this result"));
    // What a version of the library no longer compiles is passed over.
    assert_eq!(results(&asked(&[Remove("(".into())], &turns))[0], noise);
}

#[test]
fn a_journal_of_an_older_version_keeps_its_history() {
    let mut old = serde_json::to_value(agent(&[])).unwrap();
    old["keep_observations"] = json!(5);
    old["history_tokens"] = json!(9_000);
    assert!(old.get("history").is_none());
    let spec: AgentSpec = serde_json::from_value(old).unwrap();
    assert_eq!(spec.processors(), [LastObservations(5), TokenLimit(9_000)]);
    let new = AgentSpec { history: vec![ClosedWindows], ..spec };
    assert_eq!(new.processors(), [ClosedWindows]);
}

#[test]
fn marks_stand_where_the_next_request_will_begin_the_same() {
    let history = [LastObservations(2), CacheControl];
    let turns: Vec<Turn> = (0..20).map(|n| turn_of(n, &[view(&format!("f{n}.rs"))])).collect();
    assert_eq!(asked(&history, &[]).cache_marks, [0, 1]);
    assert_eq!(asked(&history, &turns[..1]).cache_marks, [0, 1, 3]);
    assert_eq!(asked(&history, &turns[..5]).cache_marks, [0, 1, 9, 11]);
    // The cut at the sixth turn changes the first result: nothing but the prompts is as it was.
    assert_eq!(asked(&history, &turns[..CUT_EVERY]).cache_marks, [0, 1, 13]);
    // At the twelfth, what the first cut made stubs of stays as it is.
    assert_eq!(asked(&history, &turns[..2 * CUT_EVERY]).cache_marks, [0, 1, 9, 25]);
    assert!(asked(&[LastObservations(2)], &turns).cache_marks.is_empty(), "only where it is asked for");
}

#[test]
fn a_tool_that_is_not_offered_is_carried_out_once_it_is_called_and_offered_from_then_on() {
    let recommend = Some(crate::model::history::Recommend { above: 3, keep: 1, always: vec!["shell".into()] });
    let agent = AgentSpec { recommend, ..spec(&["read_file", "search", "git_log", "list_files", "shell", "finish"]) };
    let task = "Search for the pattern that the parser uses, with a regular expression.";
    let names = |turns: &[Turn], model: &ModelRef| -> Vec<String> {
        compose(&agent, model, "system", task, turns).tools.into_iter().map(|tool| tool.name).collect()
    };
    assert_eq!(names(&[], &model()), ["search", "shell", "finish"]);
    let system = |turns: &[Turn]| compose(&agent, &model(), "system", task, turns).messages[0].clone();
    let Message::System { text } = system(&[]) else { panic!() };
    assert!(text.ends_with("from then on it is described: read_file, list_files, git_log."), "{text}");

    let call = calling(&[("1", "git_log", r#"{"limit":3}"#)]);
    let answer = interpret(&agent, &model(), &call);
    assert_eq!(answer.calls[0].malformed, None, "the call is carried out");
    let turns = [Turn { answer, results: vec![("1".into(), "No commits.".into())], say: None }];
    assert_eq!(names(&turns, &model()), ["search", "shell", "git_log", "finish"]);
    assert_eq!(system(&turns), system(&[]), "the beginning of the request stays");
    // Where there are few, all are offered, and nothing is said.
    let few = AgentSpec {
        recommend: Some(crate::model::history::Recommend { above: 6, keep: 1, always: vec![] }),
        ..agent.clone()
    };
    assert_eq!(compose(&few, &model(), "system", task, &[]).tools.len(), 6);
    let plain = compose(&agent, &ModelRef { tools: false, ..model() }, "system", task, &[]);
    let Message::System { text } = &plain.messages[0] else { panic!() };
    assert!(
        text.contains("## search") && !text.contains("## git_log") && text.contains("list_files, git_log."),
        "{text}"
    );
}

/// Turns as agents make them: views, pages, edits, output of commands, several calls at once.
fn any_turns() -> impl Strategy<Value = Vec<Turn>> {
    let path = prop::sample::select(vec!["a.rs", "b.rs", "src/c.rs"]);
    let call = (0u8..5, path, 0usize..9_000).prop_map(|(kind, path, size)| match kind {
        0 => view(path),
        1 => page(path, 1 + size as u64 % 3, 3),
        2 => edit(path, size % 4 > 0),
        _ => ("shell", json!({ "command": "make" }), "line of output é\n".repeat(size / 17)),
    });
    let turn = prop::collection::vec(call, 1..4);
    prop::collection::vec(turn, 1..30)
        .prop_map(|turns| turns.iter().enumerate().map(|(number, calls)| turn_of(number, calls)).collect())
}

fn any_history() -> impl Strategy<Value = Vec<Processor>> {
    let processor = prop_oneof![
        (1usize..6).prop_map(LastObservations),
        Just(ClosedWindows),
        Just(Remove("(?m)^line of .*\n".into())),
        (1usize..8).prop_map(Buffered),
        (1_000u64..12_000).prop_map(TokenLimit),
        (1usize..4, 1usize..6).prop_map(|(head, tail)| HeadAndTail { head, tail }),
    ];
    prop::collection::vec(processor, 0..4).prop_map(|mut all| {
        all.push(CacheControl);
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn whatever_is_configured_the_window_holds_pairs_stay_and_cuts_are_seldom(
        turns in any_turns(), history in any_history(), window in prop::sample::select(vec![6_000u64, 20_000, 1_000_000]),
        functions in any::<bool>(),
    ) {
        let model = ModelRef { context_window: window, max_output: window / 8, tools: functions, ..model() };
        let agent = agent(&history);
        let limited = window < 1_000_000 || history.iter().any(|it| matches!(it, TokenLimit(_)));
        let mut before: Option<ChatRequest> = None;
        for n in 1..=turns.len() {
            let request = compose(&agent, &model, "system", "the task", &turns[..n]);
            let room = window - model.max_output;
            prop_assert!(estimate(&request) <= room, "turn {n}: {} > {room}", estimate(&request));
            assert_paired(&request.messages);
            // The last turn is there, and whole where it fits.
            let last = turns[n - 1].answer.raw_calls.last().unwrap();
            if functions && estimate(&request) * 2 < room {
                let id = matches!(request.messages.last(), Some(Message::Tool { call_id, .. }) if *call_id == last.id);
                prop_assert!(id, "turn {n}: {:?}", request.messages.last());
            }
            let marks = &request.cache_marks;
            prop_assert!(marks.len() <= 4 && marks.is_sorted_by(|a, b| a < b), "{marks:?}");
            prop_assert_eq!(*marks.last().unwrap(), request.messages.len() - 1);
            if let Some(before) = before {
                let same = request.messages.starts_with(&before.messages);
                prop_assert!(limited || same || n % CUT_EVERY == 0, "turn {n} is not due for a cut");
                // A mark within the conversation stands where the request before this one was the same.
                for mark in marks.iter().rev().skip(1).filter(|mark| **mark > 1) {
                    prop_assert_eq!(&request.messages[..=*mark], &before.messages[..=*mark], "turn {}, mark {}", n, mark);
                }
            }
            before = Some(request);
        }
    }
}
