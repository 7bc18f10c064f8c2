//! What processors make of a long conversation, for `scripts/bench/all`: sixty turns of a coder at work, made up but of
//! the sizes that real ones have, composed turn by turn as the engine does.
//!
//! Prints a table: bytes of each request, how much of them the provider's cache can hold, tokens, cost, time.

use codeforge::agent::{compose, estimate_tokens};
use codeforge::model::chat::{Answer, ChatRequest, ModelRef, RawCall, StopReason, Turn};
use codeforge::model::history::Processor::{self, *};
use codeforge::model::plan::AgentSpec;
use serde_json::{Value, json};
use std::time::Instant;

const TURNS: usize = 60;
/// What a cached token costs of a fresh one, at most providers.
const CACHED: f64 = 0.1;

/// A generator of numbers that are the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, from: usize, to: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        from + (self.0 >> 33) as usize % (to - from)
    }
}

fn source(path: &str, lines: usize) -> String {
    let line = |n: usize| format!("{n:>6}\t    let value_{n} = parse(&input[{n}..], Mode::Strict)?; // {path}\n");
    (1..=lines).map(line).collect()
}

/// Looks, changes, tests: eight files of 60 to 400 lines, two of five turns read one, one of five edits one.
fn turns() -> Vec<Turn> {
    let mut dice = Dice(7);
    let files: Vec<(String, usize)> = (0..8).map(|n| (format!("src/room{n}/part.rs"), dice.roll(60, 400))).collect();
    (0..TURNS)
        .map(|number| {
            let (path, lines) = files.get(dice.roll(0, files.len())).cloned().unwrap_or_default();
            let (name, arguments, result): (&str, Value, String) = match dice.roll(0, 10) {
                0..4 => ("read_file", json!({ "path": path }), source(&path, lines)),
                4..6 => {
                    let old = format!("let value_{number} = parse(&input, Mode::Strict)?;\n").repeat(dice.roll(1, 8));
                    let result = format!("Changed {path}:\n@@ -1,4 +1,4 @@\n-{old}+{old}");
                    ("edit_file", json!({ "path": path, "old": old, "new": old }), result)
                }
                6..7 => {
                    let hits = format!("{path}:{number}: let value = parse(&input, Mode::Strict)?;\n");
                    ("search", json!({ "pattern": "parse\\(" }), hits.repeat(dice.roll(5, 40)))
                }
                _ => {
                    let built = "   Compiling parser v0.1.0 (/workspace)\n".repeat(dice.roll(2, 20));
                    let tests = format!("test room{number}::reads_a_line ... ok\n").repeat(dice.roll(10, 90));
                    ("shell", json!({ "command": "cargo test" }), format!("exit code 0\n{built}{tests}"))
                }
            };
            let id = format!("call_{number:04}");
            let call = RawCall { id: id.clone(), name: name.into(), arguments: arguments.to_string() };
            let answer = Answer {
                text: "I look at the next part and see what the tests say of it.".into(),
                calls: Vec::new(),
                raw_calls: vec![call],
                stop: StopReason::ToolCalls,
                conclusion: None,
                reasoning: Vec::new(),
            };
            Turn { answer, results: vec![(id, result)], say: None }
        })
        .collect()
}

/// A request's bytes, in the order in which a provider's cache reads them: tools, then messages.
fn bytes(request: &ChatRequest) -> Vec<u8> {
    let mut out = serde_json::to_vec(&request.tools).unwrap_or_default();
    for message in &request.messages {
        out.extend(serde_json::to_vec(message).unwrap_or_default());
    }
    out
}

fn measure(name: &str, history: &[Processor], turns: &[Turn]) {
    let model = ModelRef { context_window: 200_000, max_output: 8_192, tools: true, ..ModelRef::default() };
    let tools = ["read_file", "list_files", "search", "git_diff", "write_file", "edit_file", "shell", "finish"];
    let spec = AgentSpec {
        tools: tools.iter().map(|tool| (*tool).to_owned()).collect(),
        history: history.to_vec(),
        ..AgentSpec::default()
    };
    let system = "You are the coder. Work in small steps and check each.\n".repeat(60);
    let prompt = "Make the parser keep the last field of a line without a line feed.\n".repeat(4);
    let mut before: Vec<u8> = Vec::new();
    let (mut sizes, mut kept, mut tokens) = (Vec::new(), 0, 0);
    let mut last_ms = 0.0;
    for n in 0..=turns.len() {
        let begun = Instant::now();
        let request = compose(&spec, &model, &system, &prompt, turns.get(..n).unwrap_or_default());
        last_ms = begun.elapsed().as_secs_f64() * 1000.0;
        let now = bytes(&request);
        kept += now.iter().zip(&before).take_while(|(a, b)| a == b).count();
        tokens += estimate_tokens(&String::from_utf8_lossy(&now));
        sizes.push(now.len());
        before = now;
    }
    let total: usize = sizes.iter().sum();
    let last = sizes.last().copied().unwrap_or_default();
    sizes.sort_unstable();
    let median = sizes.get(sizes.len() / 2).copied().unwrap_or_default();
    let share = kept as f64 / total as f64;
    let paid = (total as f64 * (1.0 - share) + total as f64 * share * CACHED) / 1e6;
    print(&format!(
        "| {name} | {:.0} kB | {:.0} kB | {:.2} MB | {:.1} % | {:.0} k | {paid:.2} MB | {last_ms:.1} ms |",
        median as f64 / 1e3,
        last as f64 / 1e3,
        total as f64 / 1e6,
        share * 100.0,
        tokens as f64 / 1e3,
    ));
}

fn main() {
    let turns = turns();
    print("| processors | median | last | total | can be cached | tokens | paid as fresh | composing the last |");
    print("|---|---|---|---|---|---|---|---|");
    measure("none", &[], &turns);
    measure("`last_observations: 12`", &[LastObservations(12)], &turns);
    measure("`closed_windows`", &[ClosedWindows], &turns);
    let shipped = [ClosedWindows, LastObservations(12), CacheControl, TokenLimit(100_000)];
    measure("the built-in modes'", &shipped, &turns);
    let quiet = [Remove(r"(?m)^ +Compiling .*\n|^test .* ok\n".into()), ClosedWindows, LastObservations(12)];
    measure("the same and `remove` of what passed", &quiet, &turns);
    measure("`buffered: 12`", &[Buffered(12)], &turns);
    measure("`head_and_tail: { head: 4, tail: 12 }`", &[HeadAndTail { head: 4, tail: 12 }], &turns);
    measure("`token_limit: 30000`", &[TokenLimit(30_000)], &turns);
}

#[expect(clippy::print_stdout, reason = "the figures are this program's output")]
fn print(line: &str) {
    println!("{line}");
}
