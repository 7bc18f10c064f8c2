//! A run as JUnit XML: a suite for its steps, one for its gates.

use crate::model::account::{Account, StepAccount, StepStatus};
use crate::model::journal::{GateResult, Verdict};
use std::fmt::Write;

/// Lines of a gate's output that are told, from the end.
const LINES: usize = 60;

/// The report, at most `cap` bytes: where that is too little, the gates' output goes first, then cases from the end, and
/// a property says how many.
pub fn junit(account: &Account, cap: usize) -> String {
    let gates = gates(account);
    let all = account.steps.len() + gates.len();
    for lines in [LINES, 10, 0] {
        let text = render(account, &gates, all, lines);
        if text.len() <= cap {
            return text;
        }
    }
    super::shrink(all, cap, |kept| render(account, &gates, kept, 0))
}

/// The last result of each step's gates, and those of the final tree.
fn gates(account: &Account) -> Vec<(String, &GateResult)> {
    let mut all = Vec::new();
    for step in &account.steps {
        let last = step.gates.iter().map(|(attempt, ..)| *attempt).max().unwrap_or(0);
        let of = step.gates.iter().filter(|(attempt, ..)| *attempt == last);
        all.extend(of.map(|(_, gate, _)| (step.id.to_string(), gate)));
    }
    all.extend(account.final_gates.iter().map(|gate| ("final tree".to_owned(), gate)));
    all
}

fn render(account: &Account, gates: &[(String, &GateResult)], kept: usize, lines: usize) -> String {
    let steps = account.steps.get(..kept.min(account.steps.len())).unwrap_or(&account.steps);
    let gates_kept = gates.get(..kept.saturating_sub(account.steps.len()).min(gates.len())).unwrap_or(gates);
    let left_out = account.steps.len() + gates.len() - steps.len() - gates_kept.len();
    let name = attribute(&account.workflow);
    let mut out = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"codeforge {name}\">\n");
    let failed = steps.iter().filter(|step| step.status == StepStatus::Failed).count();
    let skipped = steps.iter().filter(|step| !ran(step)).count();
    let time: u64 = steps.iter().map(|step| step.duration_ms).sum();
    let _ = writeln!(
        out,
        "  <testsuite name=\"{name}: steps\" tests=\"{}\" failures=\"{failed}\" errors=\"0\" skipped=\"{skipped}\" \
         time=\"{}\">\n    <properties>\n      <property name=\"run\" value=\"{}\"/>\n      <property name=\"cost_usd\" \
         value=\"{:.6}\"/>",
        steps.len(),
        seconds(time),
        attribute(account.run.as_str()),
        account.spend.cost.usd(),
    );
    if left_out > 0 {
        let _ = writeln!(out, "      <property name=\"left_out_to_fit\" value=\"{left_out}\"/>");
    }
    out.push_str("    </properties>\n");
    for step in steps {
        let case = format!(
            "    <testcase classname=\"{name}\" name=\"{} ({})\" time=\"{}\"",
            attribute(step.id.as_str()),
            attribute(&step.mode),
            seconds(step.duration_ms)
        );
        let why = step.error.as_deref().unwrap_or("the step failed");
        let body = match step.status {
            StepStatus::Failed => Some(format!("<failure message=\"{}\"/>", attribute(&crate::report::line(why, 600)))),
            _ if !ran(step) => Some("<skipped/>".to_owned()),
            _ => None,
        };
        finish(&mut out, &case, body);
    }
    out.push_str("  </testsuite>\n");
    let count = |verdict| gates_kept.iter().filter(|(_, gate)| gate.verdict == verdict).count();
    let time: u64 = gates_kept.iter().map(|(_, gate)| gate.duration_ms).sum();
    let _ = writeln!(
        out,
        "  <testsuite name=\"{name}: gates\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"0\" time=\"{}\">",
        gates_kept.len(),
        count(Verdict::Fail),
        count(Verdict::Error),
        seconds(time)
    );
    for (of, gate) in gates_kept {
        let case = format!(
            "    <testcase classname=\"{name}.gates.{}\" name=\"{} after {}\" time=\"{}\"",
            attribute(&gate.gate),
            attribute(&gate.gate),
            attribute(of),
            seconds(gate.duration_ms)
        );
        let element = match gate.verdict {
            Verdict::Pass => None,
            Verdict::Fail => Some("failure"),
            Verdict::Error => Some("error"),
        };
        let body = element.map(|element| {
            let said = tail(&gate.output, lines);
            format!("<{element} message=\"{}\">{}</{element}>", attribute(&gate.detail), content(&said))
        });
        finish(&mut out, &case, body);
    }
    out.push_str("  </testsuite>\n</testsuites>\n");
    out
}

fn finish(out: &mut String, case: &str, body: Option<String>) {
    let _ = match body {
        Some(body) => writeln!(out, "{case}>{body}</testcase>"),
        None => writeln!(out, "{case}/>"),
    };
}

fn ran(step: &StepAccount) -> bool {
    !matches!(step.status, StepStatus::Skipped | StepStatus::Pending | StepStatus::Cancelled)
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// The last lines of an output, each within a length.
fn tail(output: &str, lines: usize) -> String {
    let all: Vec<&str> = output.lines().collect();
    let from = all.len().saturating_sub(lines);
    let kept = all.iter().skip(from).map(|line| line.chars().take(400).collect::<String>());
    kept.collect::<Vec<_>>().join("\n")
}

/// Cleaned, and without what XML 1.0 cannot hold.
fn characters(text: &str) -> String {
    crate::text::invisible(&crate::text::clean(text))
        .chars()
        .filter(|c| !matches!(c, '\u{fffe}' | '\u{ffff}'))
        .collect()
}

fn content(text: &str) -> String {
    characters(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn attribute(text: &str) -> String {
    content(text).replace('"', "&quot;").replace('\n', "&#10;").replace('\t', "&#9;")
}
