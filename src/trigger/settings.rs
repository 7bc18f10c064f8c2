//! What a command sets for one run, and whether the trusted configuration lets it.

use crate::model::event::CommandText;
use crate::workflow::schema::{Library, Loaded, WorkflowDoc};
use std::collections::BTreeMap;

/// The names that settings have in a command. An input of such a name comes first.
const NAMES: [&str; 3] = ["policy", "model", "max_cost_usd"];

/// Takes the settings out of a command's pairs.
///
/// # Errors
/// One that is not allowed here: why, and what is.
pub(super) fn take(
    library: &Library,
    workflow: &Loaded<WorkflowDoc>,
    command: &mut CommandText,
) -> Result<BTreeMap<String, String>, String> {
    let own = workflow.doc.on.as_ref().and_then(|on| on.command.as_ref()).and_then(|command| command.settings.as_ref());
    let all = library.config.comments.as_ref().and_then(|comments| comments.settings.as_ref());
    let allowed = own.or(all).cloned().unwrap_or_default();
    let mut taken = BTreeMap::new();
    for name in NAMES.into_iter().filter(|name| !workflow.doc.inputs.contains_key(*name)) {
        let Some(value) = command.values.remove(name) else { continue };
        match name {
            "policy" => one_of(name, &value, allowed.policy.as_slice().iter().map(|it| it.0.as_str()))?,
            "model" => one_of(name, &value, allowed.model.as_slice().iter().map(|it| it.0.as_str()))?,
            _ => cost(library, workflow, &value, allowed.max_cost_usd)?,
        }
        taken.insert(name.to_owned(), value.trim_start_matches('$').to_owned());
    }
    Ok(taken)
}

fn one_of<'a>(name: &str, value: &str, allowed: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let allowed: Vec<&str> = allowed.collect();
    if allowed.contains(&value) {
        return Ok(());
    }
    Err(match allowed.as_slice() {
        [] => format!("the configuration lets no comment choose a {name} (`comments.settings.{name}` is not set)"),
        list => format!("`{name}={value}` is not allowed in a comment; allowed: {}", list.join(", ")),
    })
}

/// A price may be lowered; raised only as far as the configuration says.
fn cost(library: &Library, workflow: &Loaded<WorkflowDoc>, value: &str, raise: Option<f64>) -> Result<(), String> {
    let Some(usd) = super::dollars(value) else {
        return Err(format!("`max_cost_usd={value}` is not an amount of US dollars"));
    };
    let by_policy = library.policy_of(workflow).and_then(|(policy, _)| policy.limits.max_cost_usd);
    let by_config = library.config.budget.as_ref().and_then(|budget| budget.per_run_usd);
    let fixed = [by_policy, by_config].into_iter().flatten().min_by(f64::total_cmp);
    let own = workflow.doc.budget.as_ref().and_then(|budget| budget.max_cost_usd);
    let most = match (own, fixed) {
        (None, fixed) => fixed,
        (Some(own), fixed) => Some(own.max(raise.unwrap_or(own)).min(fixed.unwrap_or(f64::MAX))),
    };
    match most.filter(|most| usd > *most) {
        None => Ok(()),
        Some(most) => Err(format!(
            "`max_cost_usd={value}` is more than a comment may give a run of `{}`: at most {most:.2}",
            workflow.name
        )),
    }
}
