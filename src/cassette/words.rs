//! How differences are worded.

use super::kept::Role;
use crate::model::journal::Purpose;
use crate::model::tool::ToolCall;
use similar::TextDiff;

/// Lines of a difference that are kept.
const DIFF_LINES: usize = 60;

/// What a model was asked for.
pub(super) fn what(purpose: &Purpose) -> String {
    match purpose {
        Purpose::Turn => "this turn".into(),
        Purpose::Sample(number) => format!("sample {}", number.saturating_add(1)),
        Purpose::Choose => "a choice among samples".into(),
        Purpose::Guard => "a guard's look".into(),
        Purpose::Speech { side, round } => {
            format!("a speech ({side:?}, round {})", round.saturating_add(1)).to_lowercase()
        }
        Purpose::Gateway(number) => format!("the program's question {number}"),
    }
}

/// Who speaks.
pub(super) fn who(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "the model's answer",
        Role::Tool => "a tool's result",
    }
}

/// A tool call in short.
pub(super) fn shown(call: &ToolCall) -> String {
    let told = ["command", "path", "pattern", "summary"].iter().find_map(|name| call.args.get(name)?.as_str());
    let told: String = told.unwrap_or_default().lines().next().unwrap_or_default().chars().take(100).collect();
    if told.is_empty() { format!("the call `{}`", call.name) } else { format!("the call `{}` ({told})", call.name) }
}

/// A unified difference, capped. Texts without a line end get one.
pub(super) fn unified(old: &str, new: &str) -> String {
    let line = |text: &str| if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") };
    let (old, new) = (line(old), line(new));
    let diff = TextDiff::from_lines(old.as_str(), new.as_str());
    let text = diff.unified_diff().context_radius(2).header("recorded", "now").to_string();
    let lines = text.lines().count();
    if lines <= DIFF_LINES {
        return text;
    }
    let mut short: String = text.lines().take(DIFF_LINES).map(|line| format!("{line}\n")).collect();
    short.push_str(&format!("[{} more lines of this difference]\n", lines - DIFF_LINES));
    short
}
