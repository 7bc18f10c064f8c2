//! What a comparison of two runs found.

use super::line;
use crate::model::recording::{Compared, Counts, Difference};
use crate::text;
use serde_json::{Value, json};
use std::fmt::Write;

/// Differences that are shown.
const SHOWN: usize = 40;

/// For people, ending in a line end.
pub fn render(what: &str, compared: &Compared, color: bool) -> String {
    let what = line(what, 200);
    if compared.differences.is_empty() {
        return format!("{what}: as recorded: {}\n", counted(&compared.counts));
    }
    let count = compared.differences.len();
    let mut out = format!("{what}: {count} difference{} ({})\n", plural(count), counted(&compared.counts));
    for (at, difference) in compared.differences.iter().take(SHOWN).enumerate() {
        let _ = write!(out, "\n{:>3}. {}{}\n", at + 1, place(difference), line(&difference.message, 600));
        for text in difference.diff.lines() {
            let text = shown(text);
            let paint = match text.as_bytes().first() {
                Some(b'-') => "31",
                Some(b'+') => "32",
                Some(b'@') => "36",
                _ => "",
            };
            if color && !paint.is_empty() {
                let _ = writeln!(out, "     \x1b[{paint}m{text}\x1b[0m");
            } else {
                let _ = writeln!(out, "     {text}");
            }
        }
    }
    if count > SHOWN {
        let _ = write!(out, "\n{} more; --format json has them all\n", count - SHOWN);
    }
    out.push_str("\nIf this is what you want, record the run again: codeforge run … --record FILE\n");
    out
}

/// For machines.
pub fn json(what: &str, compared: &Compared) -> Value {
    json!({
        "cassette": what,
        "same": compared.differences.is_empty(),
        "compared": compared.counts,
        "differences": compared.differences,
    })
}

fn place(difference: &Difference) -> String {
    let Some(step) = &difference.step else { return "the run: ".to_owned() };
    let mut place = format!("step `{step}`");
    if difference.iteration > 0 {
        let _ = write!(place, ", pass {}", difference.iteration.saturating_add(1));
    }
    if difference.attempt > 0 {
        let _ = write!(place, ", attempt {}", difference.attempt);
    }
    if difference.turn > 0 {
        let _ = write!(place, ", turn {}", difference.turn);
    }
    format!("{}: ", line(&place, 200))
}

/// A line of a difference: untrusted, its spaces kept.
fn shown(text: &str) -> String {
    let clean = text::invisible(&text::inert_ci(&text::clean(text)));
    if clean.chars().count() <= 240 { clean } else { clean.chars().take(239).chain(['…']).collect() }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn counted(counts: &Counts) -> String {
    let Counts { steps, calls, messages, tools, commands, gates, files } = *counts;
    let all = [
        (steps, "step"),
        (calls, "model call"),
        (messages, "message"),
        (tools, "tool call"),
        (commands, "command"),
        (gates, "gate verdict"),
    ];
    let mut words: Vec<String> = all
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}{}", plural(*count)))
        .collect();
    words.push(match files {
        0 => "no patch".to_owned(),
        files => format!("a patch of {files} file{}", plural(files)),
    });
    words.join(", ")
}
