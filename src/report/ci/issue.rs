//! The issue that a workflow keeps: what stands open in the repository, run by run.

use super::body::how_to_repeat;
use super::markdown::{Document, code, prose};
use super::parts::{self, rank};
use super::{Facts, coverage_line, findings};
use crate::model::account::Account;
use crate::model::finding::{Finding, Standing};
use crate::report::numbers;
use serde_json::Value;

/// The issue's text, at most `cap` bytes (see [`super::BODY_CAP`]). `words`: what the workflow says itself, in the place
/// of the reviewer's summary.
pub fn issue_body(account: &Account, found: &[Finding], facts: &Facts, words: Option<&str>, cap: usize) -> String {
    let mut document = Document::new();
    document.add(rank::HEAD, "the head", format!("**{}**{}", count(found), looked_at(facts)));
    let said = words.map_or_else(|| summary(account).map(|text| prose(&text, 1500)), |words| Some(words.to_owned()));
    document.add(rank::WHY, "the summary", said.unwrap_or_default());
    parts::finding_table(&mut document, found, facts, 400);
    let mut last: Vec<String> = [coverage_line(&facts.coverage), cost(account, facts)].into();
    last.retain(|text| !text.is_empty());
    document.add(rank::WRONG, "coverage and cost", last.join(" "));
    document.add(rank::WRONG, "the end", ending(account, facts));
    document.fit(cap)
}

/// What is said when nothing is left and the issue is closed.
pub fn last_word(account: &Account, found: &[Finding], facts: &Facts, cap: usize) -> String {
    let mut document = Document::new();
    document.add(rank::HEAD, "the head", format!("**Nothing is left**{}, so this is closed.", looked_at(facts)));
    parts::finding_table(&mut document, found, facts, 200);
    document.add(
        rank::LOW,
        "the end",
        "It is opened again when something is found again, unless somebody else closes it.",
    );
    document.add(rank::WRONG, "the cost", cost(account, facts));
    document.fit(cap)
}

/// `3 findings: 1 new, 2 still there; 2 gone`.
fn count(found: &[Finding]) -> String {
    let with = |standing: Standing| found.iter().filter(|it| it.standing == standing).count();
    let (new, still, gone) = (with(Standing::New), with(Standing::Still), with(Standing::Resolved));
    let mut text = match new + still {
        0 => "Nothing is left".to_owned(),
        1 => "1 finding".to_owned(),
        open => format!("{open} findings"),
    };
    let told: Vec<String> = [(new, "new"), (still, "still there")]
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, word)| format!("{number} {word}"))
        .collect();
    if !told.is_empty() {
        text.push_str(&format!(": {}", told.join(", ")));
    }
    if gone > 0 {
        // Not `resolved`: beside a number that would close something.
        text.push_str(&format!("; {gone} gone"));
    }
    text
}

/// ` at `abc1234``.
fn looked_at(facts: &Facts) -> String {
    let head = facts.head.as_deref().and_then(super::short);
    head.map_or_else(String::new, |head| format!(" at {}", code(head, 20)))
}

/// In the reviewer's words.
fn summary(account: &Account) -> Option<String> {
    let said = findings::reviews(account).filter_map(|output| output.get("summary").and_then(Value::as_str)).last();
    said.map(str::to_owned).filter(|text| !text.trim().is_empty())
}

/// `$0.08 this time, $1.20 since this issue is kept.`
fn cost(account: &Account, facts: &Facts) -> String {
    let text = super::cost_line(account, facts);
    match facts.kept_spent {
        Some(spent) => format!("{}, {} since this issue is kept.", text.trim_end_matches('.'), numbers::dollars(spent)),
        None => text,
    }
}

fn ending(account: &Account, facts: &Facts) -> String {
    let kept =
        format!("Kept by the workflow {}, run by run. Close it, and it stays closed.", code(&account.workflow, 60));
    format!("---\n{kept} {}", how_to_repeat(account, facts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::finding::Level;
    use crate::model::id::StepId;

    #[test]
    fn how_many_stand_how() {
        let of = |standing| Finding {
            fingerprint: "0123456789abcdef".into(),
            level: Level::Low,
            file: "a".into(),
            line: None,
            end_line: None,
            rule: None,
            what: "x".into(),
            suggestion: None,
            step: StepId::from("review"),
            standing,
        };
        use Standing::{New, Resolved, Still};
        assert_eq!(count(&[]), "Nothing is left");
        assert_eq!(count(&[of(New)]), "1 finding: 1 new");
        assert_eq!(count(&[of(Still), of(New), of(Resolved), of(Still)]), "3 findings: 1 new, 2 still there; 1 gone");
        assert_eq!(count(&[of(Resolved)]), "Nothing is left; 1 gone");
    }
}
