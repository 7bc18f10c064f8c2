//! Changes and verdict → a delivery: branch names, titles, bodies. Pure: the repository carries it out.

mod admit;
mod convention;
mod limits;
mod owners;

pub use admit::{admits, all_passed, claims, may_choose, required, word};
pub use convention::{Hint, LOOKED_AT, Style, detect, style, titled};
pub use limits::{full, remarked};
pub use owners::{Dialect, LARGEST as CODEOWNERS_LARGEST, Owner, owners, reviewers};

use crate::model::delivery::{AUTHOR, Delivery};
use crate::model::id::{RunId, TreeId};
use crate::model::journal::{Base, GateResult, Verdict};
use crate::model::plan::Plan;
use crate::{template, text};
use serde_json::Value;

/// What a delivery is made from, beside the plan.
pub struct Facts<'a> {
    /// The run.
    pub run: &'a RunId,
    /// Where it started.
    pub base: &'a Base,
    /// The tree to hand over.
    pub tree: &'a TreeId,
    /// When the run started, milliseconds since 1970: the commit's time, so that a repeated delivery is the same.
    pub started_ms: i64,
    /// Values for the templates.
    pub context: &'a Value,
    /// The last result of each gate on what is delivered.
    pub gates: &'a [GateResult],
    /// What it cost, in words (`$0.183`).
    pub cost: &'a str,
}

/// Puts a delivery together.
///
/// # Errors
/// A template's error with its place, or a branch name that git would refuse: the operator's to mend.
pub fn compose(plan: &Plan, facts: &Facts<'_>) -> Result<Delivery, String> {
    let key = if plan.key.is_empty() { facts.run.as_str() } else { plan.key.as_str() };
    let subject = plan.inputs.get("task").and_then(Value::as_str).unwrap_or(&plan.workflow);
    let mut context = facts.context.clone();
    if let Some(values) = context.as_object_mut() {
        values.insert("slug".into(), Value::String(text::slug(subject, 40)));
    }
    let rendered = |name: &str, given: &Option<String>| -> Result<Option<String>, String> {
        given
            .as_ref()
            .map(|source| template::render(name, source, &context).map_err(|error| format!("{}: {error}", plan.file)))
            .transpose()
    };
    let title = rendered("deliver.title", &plan.deliver.title)?.unwrap_or_else(|| default_title(plan, subject));
    let body = match rendered("deliver.body", &plan.deliver.body)? {
        Some(body) => body,
        None => default_body(plan, facts),
    };
    let branch = match rendered("deliver.branch", &plan.deliver.branch)? {
        Some(branch) => branch,
        None => format!("codeforge/{}/{}-{key}", text::slug(&plan.workflow, 40), text::slug(subject, 40)),
    };
    Ok(Delivery {
        kind: plan.deliver.kind,
        base: facts.base.tree.clone(),
        tree: facts.tree.clone(),
        branch: Some(branch),
        title: one_line(&title),
        body: text::clean(&body),
        author: plan.deliver.author.clone().unwrap_or_else(|| (AUTHOR.0.to_owned(), AUTHOR.1.to_owned())),
        time_s: facts.started_ms.div_euclid(1000),
        protected_paths: plan.protected_paths.clone(),
    })
}

fn default_title(plan: &Plan, subject: &str) -> String {
    if subject == plan.workflow { format!("{}: changes by CodeForge", plan.workflow) } else { subject.to_owned() }
}

/// A commit subject: the first line, cleaned, at most 72 characters.
fn one_line(title: &str) -> String {
    let cleaned = text::clean(title);
    let line = cleaned.lines().find(|line| !line.trim().is_empty()).unwrap_or("Changes by CodeForge").trim();
    if line.chars().count() <= 72 {
        return line.to_owned();
    }
    let short: String = line.chars().take(71).collect();
    format!("{}…", short.trim_end())
}

fn default_body(plan: &Plan, facts: &Facts<'_>) -> String {
    let mut body = format!("Workflow `{}`, run {}.\n", plan.workflow, facts.run);
    for gate in facts.gates {
        let said = match gate.verdict {
            Verdict::Pass => "passed",
            Verdict::Fail => "did not pass",
            Verdict::Error => "could not be run",
        };
        // A gate that another job ran has told no time.
        let time =
            if gate.duration_ms == 0 { String::new() } else { format!(" ({:.1} s)", gate.duration_ms as f64 / 1000.0) };
        body.push_str(&format!("Gate {}: {said}{time}.\n", gate.gate));
    }
    body.push_str(&format!("Cost: {}.\n", facts.cost));
    body
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn a_title_is_one_clean_short_line() {
        assert_eq!(one_line("\n  Fix it \nmore"), "Fix it");
        assert_eq!(one_line("a\x1b[31mb"), "ab");
        let long = one_line(&"word ".repeat(40));
        assert!(long.chars().count() <= 72 && long.ends_with('…'), "{long}");
        assert_eq!(one_line(""), "Changes by CodeForge");
    }
}
