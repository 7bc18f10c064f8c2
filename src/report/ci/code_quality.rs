//! Findings in GitLab's Code Quality format.

use super::sorted;
use crate::model::finding::{Finding, Level, Standing};
use crate::report::line;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The report, at most `cap` bytes: where that is too little, the least of the findings go and one entry says how many.
/// Fingerprints are unique.
pub fn code_quality(findings: &[Finding], cap: usize) -> String {
    let open: Vec<&Finding> =
        sorted(findings).into_iter().filter(|finding| finding.standing != Standing::Resolved).collect();
    super::shrink(open.len(), cap, |kept| {
        let mut seen = BTreeSet::new();
        let shown = open.get(..kept).unwrap_or(&open);
        let mut all: Vec<Value> =
            shown.iter().filter(|finding| seen.insert(finding.fingerprint.as_str())).map(|it| entry(it)).collect();
        if let (Some(next), true) = (open.get(kept), kept < open.len()) {
            all.push(json!({
                "description": format!("{} more findings were left out to fit the size", open.len() - kept),
                "check_name": "codeforge",
                "fingerprint": crate::model::id::short_hash(format!("left out {kept}").as_bytes(), 16),
                "severity": "info",
                "location": { "path": next.file, "lines": { "begin": 1 } },
            }));
        }
        format!("{:#}\n", Value::Array(all))
    })
}

fn entry(finding: &Finding) -> Value {
    let severity = match finding.level {
        Level::High => "critical",
        Level::Medium => "major",
        Level::Low => "minor",
    };
    let check = finding.rule.as_ref().unwrap_or(&finding.step.0);
    json!({
        "description": line(&finding.what, 1000),
        "check_name": line(check, 80),
        "fingerprint": finding.fingerprint,
        "severity": severity,
        "location": { "path": finding.file, "lines": { "begin": finding.line.unwrap_or(1) } },
    })
}
