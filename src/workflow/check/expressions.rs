//! Templates and expressions: syntax, and which names they use.

use super::super::schema::codes;
use super::super::schema::document::Node;
use super::checker::Checker;
use minijinja::{Environment, Error};
use std::collections::HashSet;
use std::sync::OnceLock;

/// Names that templates and expressions may use.
const NAMES: [&str; 11] =
    ["inputs", "event", "steps", "run", "key", "shared", "slug", "status", "workflow", "attempt", "iteration"];
/// Functions of expressions.
const FUNCTIONS: [&str; 4] = ["always", "success", "failure", "cancelled"];

fn environment() -> &'static Environment<'static> {
    static ONE: OnceLock<Environment<'static>> = OnceLock::new();
    ONE.get_or_init(|| {
        let mut environment = Environment::new();
        environment.set_debug(true);
        environment
    })
}

/// Checks a template.
pub(super) fn template(checker: &mut Checker<'_>, node: &Node, text: &str) {
    match environment().template_from_str(text) {
        Ok(template) => names(checker, node, text, template.undeclared_variables(false)),
        Err(error) => syntax(checker, node, text, &error),
    }
}

/// Checks an expression.
pub(super) fn expression(checker: &mut Checker<'_>, node: &Node, text: &str) {
    if text.trim_start().starts_with("{{") {
        checker.error(codes::TEMPLATE_SYNTAX, node.at, "an expression stands here without braces").help =
            Some(format!("write `{}`", text.trim().trim_start_matches("{{").trim_end_matches("}}").trim()));
        return;
    }
    match environment().compile_expression(text) {
        Ok(expression) => names(checker, node, text, expression.undeclared_variables(false)),
        Err(error) => syntax(checker, node, text, &error),
    }
}

fn syntax(checker: &mut Checker<'_>, node: &Node, text: &str, error: &Error) {
    // What is missing at the end is missed behind the last word, not in the line after it.
    let start = error.range().map_or(0, |range| range.start).min(text.trim_end().len());
    let before = text.get(..start).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |tail| tail.chars().count());
    let at = checker.document.inside(node, line, column, 1);
    let message = error.detail().map_or_else(|| error.to_string(), str::to_owned);
    checker.error(codes::TEMPLATE_SYNTAX, at, message);
}

fn names(checker: &mut Checker<'_>, node: &Node, text: &str, used: HashSet<String>) {
    let mut used: Vec<String> = used.into_iter().collect();
    used.sort();
    for name in used {
        if NAMES.contains(&name.as_str()) || FUNCTIONS.contains(&name.as_str()) {
            continue;
        }
        let (line, column) = position(text, &name);
        let at = checker.document.inside(node, line, column, name.chars().count());
        checker.unknown(codes::UNKNOWN_VARIABLE, "name", &name, at, &NAMES, "");
    }
}

/// Line (from 1) and column (from 0) of a word's first occurrence.
pub(super) fn position(text: &str, word: &str) -> (usize, usize) {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let start = text.match_indices(word).map(|(start, _)| start).find(|start| {
        let before = text.get(..*start).and_then(|t| t.chars().next_back());
        let after = text.get(start + word.len()..).and_then(|t| t.chars().next());
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    });
    let before = text.get(..start.unwrap_or(0)).unwrap_or_default();
    let column = before.rsplit('\n').next().map_or(0, |tail| tail.chars().count());
    (before.matches('\n').count() + 1, column)
}

/// The names that follow `steps` or `inputs` in a template or expression (`steps.plan.output` → `plan`).
pub(super) fn members(text: &str, root: &str, is_template: bool) -> Vec<String> {
    let used = if is_template {
        environment().template_from_str(text).map(|t| t.undeclared_variables(true))
    } else {
        environment().compile_expression(text).map(|e| e.undeclared_variables(true))
    };
    let mut members: Vec<String> = used
        .unwrap_or_default()
        .into_iter()
        .filter_map(|path| {
            let mut parts = path.split('.');
            (parts.next() == Some(root)).then(|| parts.next().map(str::to_owned)).flatten()
        })
        .collect();
    members.sort();
    members.dedup();
    members
}
