//! Limits that have no effect, because something stricter holds as well.

use super::checker::Checker;
use crate::model::diagnostic::{Diagnostic, Severity};
use crate::model::policy::Limits;
use crate::workflow::schema::document::{Node, Yaml};
use crate::workflow::schema::{At, Library, Loaded, StepDoc, WorkflowDoc, codes, values};

/// What else limits the same thing: who, and how much.
type Other = (String, Option<f64>);

/// Warns of each limit of the repository's workflows that something stricter overrules. The library is whole.
pub fn overruled(library: &Library) -> Vec<Diagnostic> {
    let own = library.workflows.values().filter(|workflow| !workflow.builtin);
    own.flat_map(|workflow| of_workflow(library, workflow)).collect()
}

fn of_workflow(library: &Library, workflow: &Loaded<WorkflowDoc>) -> Vec<Diagnostic> {
    let (policy, config) = (library.policy_of(workflow).map(|(policy, _)| policy), library.config.budget.as_ref());
    let named = policy.as_ref().map(|policy| format!("policy `{}`", policy.name)).unwrap_or_default();
    let by_policy =
        |limit: fn(&Limits) -> Option<f64>| (named.clone(), policy.as_ref().and_then(|it| limit(&it.limits)));
    let by_config = |key: &str, limit| (format!("`budget.{key}` of config.yml"), limit);
    let mut found = Vec::new();
    let mut look = |what: &str, at: At, own: Option<f64>, others: &[Other], shown: fn(f64) -> String| {
        let Some(own) = own else { return };
        let least = others.iter().filter_map(|(who, limit)| Some((who, (*limit)?)));
        let Some((who, least)) = least.min_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, least)| *least < own) else {
            return;
        };
        let message = format!("{what} may come to {} here, but {who} stops at {}", shown(own), shown(least));
        let mut problem = workflow.document.diagnostic(codes::OVERRULED_LIMIT, Severity::Warning, at, message);
        problem.help = Some(format!("the stricter holds: write {}, or raise the other", shown(least)));
        found.push(problem);
    };
    let budget = workflow.doc.budget.clone().unwrap_or_default();
    let usd = [
        by_policy(|limits| limits.max_cost_usd),
        by_config("per_run_usd", config.and_then(|config| config.per_run_usd)),
    ];
    look("the run's cost", workflow.at(&["budget", "max_cost_usd"]), budget.max_cost_usd, &usd, dollars);
    let call = [by_config("per_call_usd", config.and_then(|config| config.per_call_usd))];
    let per_call = budget.max_cost_per_call_usd;
    look("a call's cost", workflow.at(&["budget", "max_cost_per_call_usd"]), per_call, &call, dollars);
    let tokens = [
        by_policy(|limits| limits.max_tokens.map(|tokens| tokens as f64)),
        by_config("per_run_tokens", config.and_then(|config| config.per_run_tokens).map(|tokens| tokens as f64)),
    ];
    let most = budget.max_tokens.map(|tokens| tokens as f64);
    look("the run's tokens", workflow.at(&["budget", "max_tokens"]), most, &tokens, |tokens| format!("{tokens}"));
    let timeout = workflow.doc.timeout.as_ref().and_then(|span| values::duration_ms(&span.0).ok()).map(|ms| ms as f64);
    let time = [by_policy(|limits| limits.timeout_ms.map(|ms| ms as f64))];
    look("the run's time", workflow.at(&["timeout"]), timeout, &time, span);
    for (name, step) in workflow.doc.named_steps() {
        let turns = [by_policy(|limits| limits.max_turns.map(f64::from)), by_mode(library, &step)];
        let step_itself = workflow.step_at(&name, "");
        let places = ["max_turns", "max_steps"].map(|key| workflow.step_at(&name, key));
        let at = places.into_iter().find(|at| *at != step_itself).unwrap_or(step_itself);
        look("the number of turns", at, step.max_steps.map(f64::from), &turns, |turns| format!("{turns}"));
        let cost = [
            by_policy(|limits| limits.max_cost_per_step_usd),
            by_config("per_step_usd", config.and_then(|config| config.per_step_usd)),
        ];
        let own = step.budget.as_ref().and_then(|budget| budget.max_cost_usd);
        look("the step's cost", workflow.step_at(&name, "budget"), own, &cost, dollars);
    }
    found
}

/// Warns of budgets of the configuration that a smaller one beside them overrules: a run has to fit into its day.
pub(super) fn budgets(checker: &mut Checker<'_>, budget: &Node) {
    let number = |key: &str| match budget.get(key).map(|node| &node.value) {
        Some(Yaml::Int(number)) => Some(*number as f64),
        Some(Yaml::Float(number)) => Some(*number),
        _ => None,
    };
    // Each must fit into what comes after it. A change may take many days.
    let order = ["per_call_usd", "per_step_usd", "per_run_usd"];
    let wide = ["per_change_usd", "per_actor_per_day_usd", "per_workflow_per_day_usd", "per_day_usd"];
    let nested = (0..order.len()).map(|at| (order.get(at), order.iter().skip(at + 1).chain(&wide).collect::<Vec<_>>()));
    let daily = wide.iter().skip(1).take(2).map(|key| (Some(key), wide.iter().skip(3).collect::<Vec<_>>()));
    for (key, wider) in nested.chain(daily) {
        let Some((own, node)) = key.and_then(|key| number(key).zip(budget.get(key))) else { continue };
        let least = wider.into_iter().filter_map(|key| Some((*key, number(key)?))).min_by(|a, b| a.1.total_cmp(&b.1));
        if let Some(((other, least), key)) = least.filter(|(_, least)| *least < own).zip(key) {
            let message = format!("`{key}` allows {}, but `{other}` stops at {}", dollars(own), dollars(least));
            checker.warn(codes::OVERRULED_LIMIT, node.at, message).help =
                Some(format!("the stricter holds: write {least}, or raise the other"));
        }
    }
}

fn by_mode(library: &Library, step: &StepDoc) -> Other {
    let mode = step.mode.as_ref().and_then(|mode| library.modes.get(&mode.0));
    (
        mode.map(|mode| format!("mode `{}`", mode.name)).unwrap_or_default(),
        mode.and_then(|mode| mode.doc.max_steps).map(f64::from),
    )
}

fn dollars(usd: f64) -> String {
    format!("${usd:.2}")
}

/// As the language writes lengths of time.
fn span(ms: f64) -> String {
    match ms / 1000.0 {
        seconds if seconds % 3600.0 == 0.0 => format!("{}h", seconds / 3600.0),
        seconds if seconds % 60.0 == 0.0 => format!("{}m", seconds / 60.0),
        seconds => format!("{seconds}s"),
    }
}
