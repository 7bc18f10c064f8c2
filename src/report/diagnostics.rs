//! Problems of documents, with their place and their cure.

use super::line;
use crate::model::diagnostic::{Diagnostic, Severity};
use std::fmt::Write;

/// One problem as people read it: what, where, the source line, what to do.
pub fn render(problem: &Diagnostic, color: bool) -> String {
    let paint = |code: &str, text: &str| if color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
    let word = match problem.severity {
        Severity::Error => paint("1;31", "error"),
        Severity::Warning => paint("1;33", "warning"),
        Severity::Note => paint("1;36", "note"),
    };
    let place = &problem.place;
    let mut out = format!("{word}: {}\n", line(&problem.message, 1000));
    let number = place.line.to_string();
    let margin = " ".repeat(number.len());
    let bar = paint("34", "|");
    let _ = writeln!(
        out,
        "{margin}{} {}:{}:{}  [{}]",
        paint("34", "-->"),
        line(&place.file, 200),
        place.line,
        place.column,
        problem.code
    );
    let source = crate::text::clean(&problem.source_line).replace(['\n', '\t'], " ");
    if !source.trim().is_empty() {
        let before = place.column.saturating_sub(1).min(source.chars().count());
        let marks = "^".repeat(place.width.clamp(1, source.chars().count().saturating_sub(before).max(1)));
        let label = problem.label.as_ref().map(|label| format!(" {}", line(label, 400))).unwrap_or_default();
        let _ = writeln!(out, "{margin} {bar}");
        let _ = writeln!(out, "{} {bar} {source}", paint("34", &number));
        let _ = writeln!(out, "{margin} {bar} {}{}", " ".repeat(before), paint("31", &format!("{marks}{label}")));
    } else if let Some(label) = &problem.label {
        let _ = writeln!(out, "{margin} {bar} {}", line(label, 400));
    }
    if let Some(help) = &problem.help {
        for (at, text) in help.lines().enumerate() {
            let lead = if at == 0 { "= help:" } else { "       " };
            let _ = writeln!(out, "{margin} {lead} {}", crate::text::clean(text));
        }
    }
    out
}
