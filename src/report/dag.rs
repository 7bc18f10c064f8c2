//! A run's graph as a picture: Mermaid for places that draw it, SVG for all others.

use super::{line, numbers};
use crate::model::account::{Account, StepAccount, StepStatus};
use std::collections::BTreeMap;
use std::fmt::Write;

const WIDTH: usize = 190;
const HEIGHT: usize = 74;
const GAP_X: usize = 56;
const GAP_Y: usize = 22;
const EDGE: usize = 24;

/// Mermaid's text. Names are quoted and cleaned; they cannot end the quote.
pub fn mermaid(account: &Account) -> String {
    let mut out = String::from("flowchart LR\n");
    let number: BTreeMap<&str, usize> =
        account.steps.iter().enumerate().map(|(at, step)| (step.id.as_str(), at)).collect();
    for (at, step) in account.steps.iter().enumerate() {
        let name = |text: &str| line(text, 64).replace(['"', '`'], "'").replace('<', "(").replace('>', ")");
        let mut text = format!("{}<br/>{} · {}", name(step.id.as_str()), name(&step.mode), caption(step));
        if let Some(tries) = tries(step) {
            text.push_str(&format!("<br/>{tries}"));
        }
        let _ = writeln!(out, "  s{at}[\"{text}\"]:::{}", class(step.status));
        for need in &step.needs {
            if let Some(from) = number.get(need.as_str()) {
                let _ = writeln!(out, "  s{from} --> s{at}");
            }
        }
    }
    out.push_str(
        "  classDef ok fill:#e6f4ea,stroke:#1e8e3e,color:#111\n  classDef bad fill:#fce8e6,stroke:#d93025,color:#111\n  \
         classDef idle fill:#f1f3f4,stroke:#9aa0a6,color:#111\n",
    );
    out
}

fn class(status: StepStatus) -> &'static str {
    match status {
        StepStatus::Succeeded => "ok",
        StepStatus::Failed => "bad",
        _ => "idle",
    }
}

fn caption(step: &StepAccount) -> String {
    let mut parts = Vec::new();
    match step.status {
        StepStatus::Skipped => return "skipped".into(),
        StepStatus::Pending => return "not begun".into(),
        StepStatus::Cancelled => return "cancelled".into(),
        _ => parts.push(numbers::span(step.duration_ms)),
    }
    if step.spend.calls > 0 {
        parts.push(numbers::cost(&step.spend));
    }
    parts.join(" · ")
}

/// Which try it took, where it was not the first.
fn tries(step: &StepAccount) -> Option<String> {
    (step.attempt > 1).then(|| format!("attempt {}", step.attempt))
}

/// A picture that needs nothing else: light and dark by the reader's setting.
pub fn svg(account: &Account) -> String {
    // The longest way from a start is a step's column.
    let mut column: BTreeMap<&str, usize> = BTreeMap::new();
    for step in &account.steps {
        let at = step.needs.iter().filter_map(|need| column.get(need.as_str())).max().map_or(0, |at| at + 1);
        column.insert(step.id.as_str(), at);
    }
    let mut used: BTreeMap<usize, usize> = BTreeMap::new();
    let mut place: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for step in &account.steps {
        let at = column.get(step.id.as_str()).copied().unwrap_or(0);
        let row = used.entry(at).or_default();
        place.insert(step.id.as_str(), (EDGE + at * (WIDTH + GAP_X), EDGE + 44 + *row * (HEIGHT + GAP_Y)));
        *row += 1;
    }
    let columns = column.values().max().map_or(1, |at| at + 1);
    let rows = used.values().max().copied().unwrap_or(1);
    let (wide, high) = (EDGE * 2 + columns * (WIDTH + GAP_X) - GAP_X, EDGE * 2 + 44 + rows * (HEIGHT + GAP_Y) - GAP_Y);
    let wide = wide.max(520);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {wide} {high}\" width=\"{wide}\" height=\"{high}\" \
         role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"13\">\n<style>\n\
         .bg{{fill:#fff}}.t{{fill:#1f2328}}.d{{fill:#59636e}}.e{{stroke:#8c959f;fill:none;stroke-width:1.5}}\
         .a{{fill:#8c959f}}.n{{fill:#f6f8fa;stroke:#8c959f;stroke-width:1.5}}.ok{{fill:#e9f7ee;stroke:#1a7f37}}\
         .bad{{fill:#ffebe9;stroke:#cf222e}}.idle{{stroke-dasharray:4 3}}\n\
         @media (prefers-color-scheme: dark){{.bg{{fill:#0d1117}}.t{{fill:#e6edf3}}.d{{fill:#9198a1}}\
         .n{{fill:#151b23;stroke:#656c76}}.ok{{fill:#12261e;stroke:#2ea043}}.bad{{fill:#2d1517;stroke:#f85149}}}}\n\
         </style>\n<rect class=\"bg\" width=\"100%\" height=\"100%\"/>\n"
    );
    let _ = writeln!(
        out,
        "<text class=\"t\" x=\"{EDGE}\" y=\"{}\" font-size=\"16\" font-weight=\"600\">{} · run {}</text>\n<text \
         class=\"d\" x=\"{EDGE}\" y=\"{}\">{} · {}</text>",
        EDGE + 6,
        escape(&line(&account.workflow, 50)),
        account.run,
        EDGE + 26,
        escape(
            &account.ending.map_or_else(|| "not finished".to_owned(), |ending| format!("{ending:?}").to_lowercase())
        ),
        escape(&numbers::cost(&account.spend)),
    );
    for step in &account.steps {
        let Some((x, y)) = place.get(step.id.as_str()).copied() else { continue };
        for need in &step.needs {
            let Some((from_x, from_y)) = place.get(need.as_str()).copied() else { continue };
            let (x1, y1, x2, y2) = (from_x + WIDTH, from_y + HEIGHT / 2, x, y + HEIGHT / 2);
            let bend = (x2.saturating_sub(x1) / 2).max(20);
            let _ = writeln!(
                out,
                "<path class=\"e\" d=\"M{x1} {y1} C{} {y1} {} {y2} {} {y2}\"/><path class=\"a\" d=\"M{x2} {y2} l-8 -4 v8 z\"/>",
                x1 + bend,
                x2.saturating_sub(bend),
                x2 - 7,
            );
        }
    }
    for step in &account.steps {
        let Some((x, y)) = place.get(step.id.as_str()).copied() else { continue };
        let passed = step.gates.iter().filter(|(attempt, ..)| *attempt == step.attempt).count();
        let third = if step.gates.is_empty() {
            line(&numbers::files(&step.files), 28)
        } else {
            let failed = step
                .gates
                .iter()
                .filter(|(attempt, gate, _)| {
                    *attempt == step.attempt && gate.verdict != crate::model::journal::Verdict::Pass
                })
                .count();
            let mut text = format!("gates {}/{passed}", passed - failed);
            if let Some(tries) = tries(step) {
                text.push_str(&format!(" · {tries}"));
            }
            text
        };
        let _ = writeln!(
            out,
            "<g><title>{}</title><rect class=\"n {}\" x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\"/>\
             <text class=\"t\" x=\"{}\" y=\"{}\" font-weight=\"600\">{}</text><text class=\"d\" x=\"{}\" y=\"{}\" \
             text-anchor=\"end\">{}</text><text class=\"d\" x=\"{}\" y=\"{}\">{}</text><text class=\"d\" x=\"{}\" \
             y=\"{}\">{}</text></g>",
            escape(&line(step.error.as_deref().unwrap_or(&step.summary), 200)),
            class(step.status),
            x + 12,
            y + 22,
            escape(&line(step.id.as_str(), 16)),
            x + WIDTH - 12,
            y + 22,
            escape(&line(&step.mode, 10)),
            x + 12,
            y + 42,
            escape(&caption(step)),
            x + 12,
            y + 60,
            escape(&third),
        );
    }
    out.push_str("</svg>\n");
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
