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

/// `2 errors, 1 warning in 1 of 4 files`, or `4 files are fine`.
pub fn summary(problems: &[Diagnostic], files: usize) -> String {
    let count = |severity| problems.iter().filter(|problem| problem.severity == severity).count();
    let plural = |number: usize, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let mut parts = Vec::new();
    if errors > 0 {
        parts.push(plural(errors, "error"));
    }
    if warnings > 0 {
        parts.push(plural(warnings, "warning"));
    }
    if parts.is_empty() {
        return format!("{} checked: no problems", plural(files, "file"));
    }
    let mut with: Vec<&str> = problems
        .iter()
        .filter(|problem| problem.severity != Severity::Note)
        .map(|problem| problem.place.file.as_str())
        .collect();
    with.sort_unstable();
    with.dedup();
    format!("{} in {} of {}", parts.join(", "), with.len(), plural(files, "file"))
}

/// A GitHub annotation. Nothing in it can end the command or begin another one.
pub fn github(problem: &Diagnostic) -> String {
    let property = |text: &str| escape(text).replace(':', "%3A").replace(',', "%2C");
    let word = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "notice",
    };
    let mut message = problem.message.clone();
    for more in problem.label.iter().chain(&problem.help) {
        message.push('\n');
        message.push_str(more);
    }
    let place = &problem.place;
    format!(
        "::{word} file={},line={},col={},title={}::{}\n",
        property(&place.file),
        place.line,
        place.column,
        property(problem.code),
        escape(&crate::text::clean(&message))
    )
}

fn escape(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// SARIF 2.1.0.
pub fn sarif(problems: &[Diagnostic]) -> serde_json::Value {
    use serde_json::json;
    let mut codes: Vec<&str> = problems.iter().map(|problem| problem.code).collect();
    codes.sort_unstable();
    codes.dedup();
    let results: Vec<serde_json::Value> = problems
        .iter()
        .map(|problem| {
            let level = match problem.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
                Severity::Note => "note",
            };
            let place = &problem.place;
            let text = match &problem.help {
                Some(help) => format!("{}\n{help}", problem.message),
                None => problem.message.clone(),
            };
            json!({
                "ruleId": problem.code,
                "level": level,
                "message": { "text": text },
                "locations": [{ "physicalLocation": {
                    "artifactLocation": { "uri": place.file },
                    "region": {
                        "startLine": place.line, "startColumn": place.column, "endColumn": place.column + place.width,
                    },
                }}],
            })
        })
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "codeforge",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": codes.iter().map(|code| json!({ "id": code })).collect::<Vec<_>>(),
            }},
            "results": results,
        }],
    })
}
