//! The order in which a call is judged.

use super::advice;
use super::matching::{Doubt, path_matches, tool_matches};
use super::paths::{self, Place, place};
use super::{Explanation, JudgedCommand, Scope, shell_calls};
use crate::model::policy::{Decision, Policy, Rule};
use crate::model::tool::{RuleRef, Ruling, TOOLS, ToolCall, WRITING_TOOLS};

/// Where a decision comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A rule, by its index.
    Rule(usize),
    /// The policy's default.
    Default,
    /// What holds whatever the rules say; no rule would change it.
    Fixed,
}

/// A decision about one part of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub decision: Decision,
    pub source: Source,
    pub reason: String,
    /// What was judged: a command, or a path.
    pub subject: String,
    /// What the model may do instead; empty: found from the subject.
    pub instead: String,
    /// The rule that would allow it, without its place.
    pub rule: Option<String>,
}

impl Finding {
    pub(super) fn fixed(reason: impl Into<String>, subject: impl Into<String>, instead: impl Into<String>) -> Self {
        Self {
            decision: Decision::Deny,
            source: Source::Fixed,
            reason: reason.into(),
            subject: subject.into(),
            instead: instead.into(),
            rule: None,
        }
    }

    pub(super) fn by_ref(&self, policy: &Policy) -> RuleRef {
        let (rule, line) = match self.source {
            Source::Rule(index) => (Some(index + 1), policy.rules.get(index).map_or(0, |rule| rule.line)),
            Source::Default => (None, policy.default_line),
            Source::Fixed => (None, 0),
        };
        RuleRef { policy: policy.name.clone(), rule, file: policy.file.clone(), line }
    }
}

/// The order of strictness.
pub(super) fn strictness(decision: Decision) -> u8 {
    match decision {
        Decision::Allow => 0,
        Decision::Ask => 1,
        Decision::Deny => 2,
    }
}

pub(super) fn explain(policy: &Policy, call: &ToolCall, scope: &Scope<'_>) -> Explanation {
    let (finding, commands) = decide(policy, call, scope);
    Explanation { ruling: ruling(policy, call, scope, finding), commands }
}

fn decide(policy: &Policy, call: &ToolCall, scope: &Scope<'_>) -> (Finding, Vec<JudgedCommand>) {
    let tool = call.name.as_str();
    let alone = |finding| (finding, Vec::new());
    if !scope.offered.iter().any(|name| name == tool) {
        let what = if TOOLS.contains(&tool) { "is not offered in this step" } else { "is not a tool" };
        return alone(Finding::fixed(what, "", format!("The tools are: {}.", scope.offered.join(", "))));
    }
    if scope.read_only && tool != "shell" && WRITING_TOOLS.contains(&tool) {
        return alone(Finding::fixed(
            "this mode only reads",
            "",
            "Describe the change in your answer; another step makes it.",
        ));
    }
    if tool == "shell" {
        // The operator's own text, word for word: there is nothing in it that an agent could have chosen.
        let text = call.args.get("command").and_then(serde_json::Value::as_str).unwrap_or_default().trim();
        if !text.is_empty() && scope.operator_commands.iter().any(|command| command.trim() == text) {
            return alone(Finding {
                decision: Decision::Allow,
                subject: text.to_owned(),
                ..Finding::fixed("a check that the workflow itself runs", "", "")
            });
        }
        return shell_calls::decide(policy, call, scope);
    }
    alone(files(policy, call, scope))
}

fn files(policy: &Policy, call: &ToolCall, scope: &Scope<'_>) -> Finding {
    let tool = call.name.as_str();
    let writes = WRITING_TOOLS.contains(&tool);
    let named = paths::named(tool, &call.args);
    if writes && named.is_empty() {
        return Finding::fixed("it names no file", "", "Name the file in the arguments.");
    }
    let mut inside = Vec::new();
    for path in &named {
        match place(path, "", scope.workspace) {
            Place::Inside(path) => inside.push(path),
            Place::Scratch | Place::Outside => {
                return Finding::fixed("the path leads out of the workspace", path, advice::OUTSIDE);
            }
        }
    }
    let ruled = by_rules(policy, tool, &inside);
    if ruled.decision == Decision::Deny && matches!(ruled.source, Source::Rule(_)) {
        // The policy's own reason says more than that the path is protected besides.
        return ruled;
    }
    inside.iter().find_map(|path| guarded(policy, scope, path, writes)).unwrap_or(ruled)
}

/// What holds for a path whatever the rules say.
pub(super) fn guarded(policy: &Policy, scope: &Scope<'_>, path: &str, writes: bool) -> Option<Finding> {
    if path.split('/').any(|part| part.eq_ignore_ascii_case(".git")) {
        return Some(Finding::fixed(
            "git's own folder",
            path,
            "Use `git_diff` and `git_log`; the change is recorded for you.",
        ));
    }
    let protected = policy.protected_paths.iter().chain(scope.protected_paths);
    let pattern =
        writes.then(|| protected.into_iter().find(|p| path_matches(p, path, true, Doubt::Possible))).flatten()?;
    Some(match pattern.as_str() {
        "**" => Finding::fixed("this policy protects every path", path, advice::ALL_PROTECTED),
        _ => Finding::fixed(format!("a protected path (`{pattern}`)"), path, advice::PROTECTED),
    })
}

/// The first rule that matches a tool and its paths.
pub(super) fn by_rules(policy: &Policy, tool: &str, inside: &[String]) -> Finding {
    let subject = inside.join(", ");
    for (index, rule) in policy.rules.iter().enumerate() {
        if !rule.tools.iter().any(|t| tool_matches(t, tool)) || !rule.commands.is_empty() {
            continue;
        }
        if let Some(path) = matches_paths(rule, inside) {
            let what = if path.is_empty() { subject } else { path };
            return from_rule(rule, index, what, Some(advice::path_rule(tool, inside)));
        }
    }
    Finding {
        decision: policy.default,
        source: Source::Default,
        reason: advice::default_reason(policy.default).to_owned(),
        subject,
        instead: String::new(),
        rule: Some(advice::path_rule(tool, inside)),
    }
}

/// The path that matched (empty: the rule is about any), or `None`. A rule that refuses matches by one path, a rule
/// that allows only by all.
fn matches_paths(rule: &Rule, inside: &[String]) -> Option<String> {
    if rule.paths.is_empty() {
        return Some(String::new());
    }
    if rule.decision == Decision::Allow {
        let all = |path: &String| rule.paths.iter().any(|g| path_matches(g, path, false, Doubt::Certain));
        return (!inside.is_empty() && inside.iter().all(all)).then(String::new);
    }
    inside.iter().find(|path| rule.paths.iter().any(|g| path_matches(g, path, true, Doubt::Possible))).cloned()
}

pub(super) fn from_rule(rule: &Rule, index: usize, subject: String, allow: Option<String>) -> Finding {
    Finding {
        decision: rule.decision,
        source: Source::Rule(index),
        reason: rule.reason.clone().unwrap_or_else(|| advice::default_reason(rule.decision).to_owned()),
        subject,
        instead: String::new(),
        rule: allow,
    }
}

fn ruling(policy: &Policy, call: &ToolCall, scope: &Scope<'_>, mut finding: Finding) -> Ruling {
    let by = finding.by_ref(policy);
    if finding.decision == Decision::Allow {
        return Ruling {
            decision: Decision::Allow,
            by,
            reason: finding.reason,
            advice: String::new(),
            allow_with: None,
        };
    }
    if finding.decision == Decision::Ask && !scope.can_ask {
        finding.decision = Decision::Deny;
        finding.reason = format!("{} (a person would be asked, and there is nobody to ask)", finding.reason);
    }
    let advice = advice::message(policy, &call.name, &finding, &by);
    let allow_with =
        finding.rule.as_ref().filter(|_| finding.source != Source::Fixed).map(|r| advice::placed(r, policy, &by));
    Ruling { decision: finding.decision, by, reason: finding.reason, advice, allow_with }
}
