//! Findings as SARIF 2.1.0, for GitHub's code scanning and other readers.

use super::{Facts, sorted};
use crate::model::account::{Account, Ending};
use crate::model::finding::{Finding, Level, Standing};
use serde_json::{Value, json};

/// Most results of a run that GitHub takes.
const MOST: usize = 25_000;

/// The report, at most `cap` bytes: where that is too little, the least of the findings go and a notification says how
/// many. What is resolved is not in it: readers take what is missing as closed.
pub fn sarif(account: &Account, findings: &[Finding], facts: &Facts, cap: usize) -> String {
    let open: Vec<&Finding> =
        sorted(findings).into_iter().filter(|finding| finding.standing != Standing::Resolved).collect();
    super::shrink(open.len().min(MOST), cap, |kept| {
        let text = render(account, open.get(..kept).unwrap_or(&open), open.len() - kept, facts);
        format!("{text:#}\n")
    })
}

fn rule_id(finding: &Finding) -> String {
    finding
        .rule
        .as_ref()
        .map(|rule| crate::report::line(rule, 80))
        .filter(|rule| !rule.is_empty())
        .unwrap_or_else(|| format!("codeforge/{}", crate::report::line(finding.step.as_str(), 60)))
}

fn level(level: Level) -> &'static str {
    match level {
        Level::High => "error",
        Level::Medium => "warning",
        Level::Low => "note",
    }
}

fn render(account: &Account, findings: &[&Finding], gone: usize, facts: &Facts) -> Value {
    let mut rules: Vec<String> = Vec::new();
    let results: Vec<Value> = findings
        .iter()
        .map(|finding| {
            let id = rule_id(finding);
            let index = rules.iter().position(|rule| *rule == id).unwrap_or_else(|| {
                rules.push(id.clone());
                rules.len() - 1
            });
            let mut text = finding.what.clone();
            if let Some(suggestion) = &finding.suggestion {
                text.push_str(&format!("\n\nSuggestion: {suggestion}"));
            }
            let region = json!({ "startLine": finding.line.unwrap_or(1) });
            json!({
                "ruleId": id,
                "ruleIndex": index,
                "level": level(finding.level),
                "message": { "text": text },
                "locations": [{ "physicalLocation": {
                    "artifactLocation": { "uri": uri(&finding.file), "uriBaseId": "%SRCROOT%" },
                    "region": region,
                } }],
                "partialFingerprints": { "codeforge/v1": finding.fingerprint },
                "baselineState": if finding.standing == Standing::Still { "unchanged" } else { "new" },
                "properties": { "step": finding.step },
            })
        })
        .collect();
    let rules: Vec<Value> = rules
        .iter()
        .map(|id| json!({ "id": id, "shortDescription": { "text": format!("{id}, found by a reviewing agent") } }))
        .collect();
    let mut notes = Vec::new();
    if gone > 0 {
        notes.push(json!({
            "level": "warning",
            "message": { "text": format!("{gone} findings of the lowest level were left out to fit the size") },
        }));
    }
    let mut run = json!({
        "tool": { "driver": {
            "name": "CodeForge",
            "semanticVersion": env!("CARGO_PKG_VERSION"),
            "rules": rules,
        } },
        "automationDetails": { "id": format!("codeforge/{}/{}", account.workflow, account.run) },
        "columnKind": "unicodeCodePoints",
        "invocations": [{
            "executionSuccessful": account.ending == Some(Ending::Done),
            "toolExecutionNotifications": notes,
        }],
        "results": results,
    });
    if let (Some(head), Some(fields)) = (&facts.head, run.as_object_mut()) {
        fields.insert("properties".into(), json!({ "commit": head }));
    }
    json!({
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [run],
    })
}

/// A path as a relative reference: what is not plain is percent-encoded, so that no path reads as a scheme or a query.
fn uri(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' | b'+' | b'@' | b'(' | b')' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}
