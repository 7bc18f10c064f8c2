//! Findings out of what steps handed over, and whether they were there before.
//!
//! A finding's fingerprint is made of the place, never of the words: a model finds other words each time. The place is
//! the file's path, the text of the line and of the one after it, both without their spacing, and which of several such
//! places it is. It holds while lines are added above, while the file is formatted anew or renamed, and until the line
//! itself is changed.

use crate::model::account::Account;
use crate::model::finding::{Finding, Level, Standing};
use crate::model::id::{StepId, short_hash};
use crate::text::{clean, invisible};
use serde_json::Value;
use std::collections::BTreeMap;

/// The most findings that are taken from one run.
const MOST: usize = 1000;
/// The longest text of a finding, in characters.
const LONGEST: usize = 4000;

/// The repository as findings see it. All of it is asked for at the head.
pub struct Tree<'a> {
    /// The text of a file; `None` where there is none, or it is no text.
    pub text: &'a dyn Fn(&str) -> Option<String>,
    /// The path that a file had before the change, by the path that it has now, for those that were renamed.
    pub renamed: &'a BTreeMap<String, String>,
}

/// The findings in what steps handed over: outputs with a list `findings`, of the schemas `review`, `findings`,
/// `security_report`, or of ones like them. What has no file or no words is left out. Two steps that found the same place
/// give two findings.
pub fn findings<'a>(outputs: impl IntoIterator<Item = (&'a StepId, &'a Value)>, tree: &Tree<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (step, output) in outputs {
        let list = output.get("findings").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        found.extend(list.iter().filter_map(|value| finding(step, value)));
    }
    // The worst stay; of the same weight those that were told first.
    found.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    found.truncate(MOST);
    mark(&mut found, tree);
    found.sort_by(|a, b| (&a.file, a.line, b.level).cmp(&(&b.file, b.line, a.level)));
    found
}

/// Findings that came from elsewhere, under fingerprints that are made here: what was said of them does not count.
pub fn marked(mut found: Vec<Finding>, tree: &Tree<'_>) -> Vec<Finding> {
    found.truncate(MOST);
    found.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    mark(&mut found, tree);
    found.sort_by(|a, b| (&a.file, a.line, b.level).cmp(&(&b.file, b.line, a.level)));
    found
}

/// What the steps of a run handed over, for [`findings`].
pub fn outputs(account: &Account) -> impl Iterator<Item = (&StepId, &Value)> {
    account.steps.iter().filter_map(|step| Some((&step.id, step.output.as_ref()?)))
}

/// Whether a step handed over findings at all, be it none: only that is a look.
pub fn reviewed(account: &Account) -> bool {
    reviews(account).next().is_some()
}

/// What steps handed over that looked: a list `findings`, or, as the schema `review` allows, nothing but a verdict.
pub(super) fn reviews(account: &Account) -> impl Iterator<Item = &Value> {
    let looks = |output: &Value| match output.get("findings") {
        Some(findings) => findings.is_array(),
        None => output.get("approved").is_some_and(Value::is_boolean),
    };
    outputs(account).map(|(_, output)| output).filter(move |output| looks(output))
}

/// What was done, in the words of the plan that a step handed over (schema `plan`): for [`super::Facts::done`].
pub fn planned(account: &Account) -> Option<String> {
    outputs(account)
        .filter(|(_, output)| output.get("steps").is_some_and(Value::is_array))
        .find_map(|(_, output)| output.get("summary").and_then(Value::as_str).map(tidy))
}

fn finding(step: &StepId, value: &Value) -> Option<Finding> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(tidy).filter(|text| !text.is_empty());
    let level = match value.get("severity").and_then(Value::as_str).unwrap_or_default() {
        "critical" | "high" | "error" => Level::High,
        "low" | "info" | "note" => Level::Low,
        _ => Level::Medium,
    };
    let mut what = text("what")?;
    if let Some(attack) = text("attack") {
        what = tidy(&format!("{what} Attack: {attack}"));
    }
    let rule = text("rule").or_else(|| text("category")).map(|rule| rule.chars().take(80).collect());
    let number = |name: &str| value.get(name).and_then(Value::as_u64).filter(|line| *line > 0);
    let line = number("line");
    Some(Finding {
        fingerprint: String::new(),
        level,
        file: path(value.get("file").and_then(Value::as_str)?)?,
        line,
        end_line: number("end_line").filter(|end| line.is_some_and(|line| *end > line)),
        rule,
        what,
        suggestion: text("suggestion").or_else(|| text("fix")),
        step: step.clone(),
        standing: Standing::New,
    })
}

/// Clean text of bounded length; lines stay.
fn tidy(text: &str) -> String {
    let cleaned = invisible(&clean(text));
    let text = cleaned.trim();
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    format!("{}…", text.chars().take(LONGEST - 1).collect::<String>())
}

/// A path as the repository has it. Models name files as they saw them: `./a`, `/workspace/a`.
fn path(text: &str) -> Option<String> {
    let text = invisible(&clean(text)).replace(['\n', '\t'], " ").replace('\\', "/");
    let text = text.trim().trim_start_matches("/workspace/").trim_start_matches('/');
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let inside = !parts.is_empty() && !parts.contains(&"..") && text.len() <= 1000;
    inside.then(|| parts.join("/"))
}

/// Gives fingerprints. A line that the file does not have becomes none.
fn mark(found: &mut [Finding], tree: &Tree<'_>) {
    let mut files: BTreeMap<String, Option<Vec<String>>> = BTreeMap::new();
    let mut taken: BTreeMap<String, u32> = BTreeMap::new();
    for finding in found.iter_mut() {
        let lines = files
            .entry(finding.file.clone())
            .or_insert_with(|| (tree.text)(&finding.file).map(|text| text.lines().map(normal).collect()));
        let at = finding.line.and_then(|line| usize::try_from(line).ok()).and_then(|line| line.checked_sub(1));
        let at = at.filter(|at| lines.as_ref().is_some_and(|lines| *at < lines.len()));
        if lines.is_some() && at.is_none() {
            finding.line = None;
        }
        let last = lines.as_ref().map(|lines| lines.len() as u64);
        finding.end_line = finding.end_line.filter(|end| at.is_some() && last.is_some_and(|last| *end <= last));
        let name = tree.renamed.get(&finding.file).unwrap_or(&finding.file);
        let place = match (lines, at) {
            (Some(lines), Some(at)) => {
                let (own, next) = anchor(lines, at);
                let which = (0..at).filter(|other| anchor(lines, *other) == (own, next)).count();
                place_of_line(name, (own, next), which)
            }
            // Nothing is known of the line: the number is the best that there is.
            (None, _) => place_unread(name, finding.line),
            (Some(_), None) => format!("{name}\0file\0{}", finding.rule.as_deref().unwrap_or_default()),
        };
        let ordinal = taken.entry(place.clone()).or_default();
        finding.fingerprint = fingerprint(&place, *ordinal);
        *ordinal += 1;
    }
}

fn place_of_line(name: &str, (own, next): (&str, &str), which: usize) -> String {
    format!("{name}\0line\0{own}\0{next}\0{which}")
}

fn place_unread(name: &str, line: Option<u64>) -> String {
    format!("{name}\0number\0{}", line.unwrap_or(0))
}

/// `ordinal`: which of several findings at one place.
fn fingerprint(place: &str, ordinal: u32) -> String {
    short_hash(format!("1\0{place}\0{ordinal}").as_bytes(), 16)
}

/// Whether the place of an earlier finding is in the tree still: the line that it is known by, or for one about a whole
/// file that file. What was found in a file that cannot be read stays while it cannot.
pub fn still_there(finding: &Finding, tree: &Tree<'_>) -> bool {
    /// Findings of one line that are looked for.
    const MOST: u32 = 8;
    let name = &finding.file;
    let now = tree.renamed.iter().find(|(_, before)| *before == name).map_or(name, |(now, _)| now);
    let is = |place: &str| (0..MOST).any(|ordinal| fingerprint(place, ordinal) == finding.fingerprint);
    let Some(text) = (tree.text)(now) else { return is(&place_unread(name, finding.line)) };
    if finding.line.is_none() {
        return true;
    }
    let lines: Vec<String> = text.lines().map(normal).collect();
    let mut seen: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    (0..lines.len()).any(|at| {
        let anchor = anchor(&lines, at);
        let which = seen.entry(anchor).or_default();
        let place = place_of_line(name, anchor, *which);
        *which += 1;
        is(&place)
    })
}

/// A line's text without its spacing.
fn normal(line: &str) -> String {
    line.chars().filter(|c| !c.is_whitespace()).collect()
}

/// A line and the next one that is not empty.
fn anchor(lines: &[String], at: usize) -> (&str, &str) {
    let own = lines.get(at).map_or("", String::as_str);
    let next = lines.iter().skip(at + 1).find(|line| !line.is_empty()).map_or("", String::as_str);
    (own, next)
}

/// Says of each finding whether it was there before, and adds what is gone.
///
/// `earlier`: what was open after the review before. `looked`: whether the place of a finding was reviewed this time; one
/// whose place was not still stands.
pub fn standing(mut now: Vec<Finding>, earlier: &[Finding], looked: &dyn Fn(&Finding) -> bool) -> Vec<Finding> {
    for finding in &mut now {
        let before =
            earlier.iter().any(|old| old.fingerprint == finding.fingerprint && old.standing != Standing::Resolved);
        finding.standing = if before { Standing::Still } else { Standing::New };
    }
    for old in earlier.iter().filter(|old| old.standing != Standing::Resolved) {
        if now.iter().any(|finding| finding.fingerprint == old.fingerprint) {
            continue;
        }
        let standing = if looked(old) { Standing::Resolved } else { Standing::Still };
        now.push(Finding { standing, ..old.clone() });
    }
    now
}
