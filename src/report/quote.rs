//! What a run would cost, before anything is spent: from the runs there were, and from the limits.

use super::numbers;
use crate::model::account::Spend;
use crate::model::id::StepId;
use crate::model::plan::{OnFailure, Plan, PlanStep, StepKind};
use crate::model::usage::{NanoUsd, Usage};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;

/// A quote.
#[derive(Debug, Clone, PartialEq)]
pub struct Quote {
    /// What runs of the workflow have cost; `None`: there was none whose cost is known.
    pub history: Option<History>,
    /// Runs of the workflow with calls whose cost nobody knows: they are not in `history`.
    pub unknown_runs: usize,
    /// For each agent step, in plan order: the most that its turns can cost.
    pub steps: Vec<StepQuote>,
    /// The most that the run can cost by its budgets and its steps; `None`: nothing bounds it.
    pub at_most: Option<NanoUsd>,
}

/// What runs of the workflow have cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// How many.
    pub runs: usize,
    /// The cheapest.
    pub least: NanoUsd,
    /// Half of them cost at most that.
    pub median: NanoUsd,
    /// Nine of ten cost at most that.
    pub p90: NanoUsd,
}

/// The bound of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepQuote {
    /// The step.
    pub step: StepId,
    /// Model turns over all its attempts and passes; `None`: not limited.
    pub turns: Option<u64>,
    /// The most that one call can cost: the dearest of its models, its window full and the longest answer; `None`: one
    /// of them has no price.
    pub per_call: Option<NanoUsd>,
    /// The most that it can cost.
    pub at_most: Option<NanoUsd>,
}

/// Quotes a plan. `earlier`: the spending of the workflow's runs that have ended; `left`: what the budgets that the run
/// shares with others leave at present, where one is capped.
pub fn quote(plan: &Plan, earlier: &[Spend], left: Option<NanoUsd>) -> Quote {
    let asked = earlier.iter().filter(|spend| spend.calls > 0);
    let (known, unknown): (Vec<&Spend>, Vec<&Spend>) = asked.partition(|spend| spend.unknown_calls == 0);
    let mut costs: Vec<NanoUsd> = known.iter().map(|spend| spend.cost).collect();
    costs.sort();
    // The smallest value that at least so many of a hundred do not exceed.
    let percentile = |percent: usize| costs.get((costs.len() * percent).div_ceil(100).saturating_sub(1)).copied();
    let history = costs.first().zip(percentile(50)).zip(percentile(90)).map(|((least, median), p90)| History {
        runs: costs.len(),
        least: *least,
        median,
        p90,
    });
    let steps: Vec<StepQuote> = plan.steps.values().filter_map(|step| of_step(plan, step)).collect();
    let sum = steps.iter().map(|step| step.at_most).try_fold(NanoUsd::default(), |sum, step| Some(sum.plus(step?)));
    let budget = plan.limits.max_cost_usd.map(NanoUsd::from_usd);
    let at_most = left.into_iter().chain(budget).chain(sum).min();
    Quote { history, unknown_runs: unknown.len(), steps, at_most }
}

fn of_step(plan: &Plan, step: &PlanStep) -> Option<StepQuote> {
    let StepKind::Agent(spec) = &step.kind else { return None };
    let most = |limit: Option<f64>| limit.map(NanoUsd::from_usd);
    let calls = spec.models.iter().chain(&spec.long_context).map(|model| {
        let input = model.context_window;
        let fresh = Usage { input, output: model.max_output, ..Usage::default() };
        model.price.map(|price| price.of(&fresh).max(price.of(&Usage { cache_write: input, ..fresh })))
    });
    let dearest = calls.into_iter().try_fold(NanoUsd::default(), |most, call| Some(most.max(call?)));
    let caps = [plan.limits.max_cost_per_call_usd, step.limits.max_cost_per_call_usd].into_iter().filter_map(most);
    let per_call = caps.chain(dearest).min();
    // What asks beside the agent's own turns is not bounded by them.
    let turns = step.limits.max_turns.filter(|_| spec.backend.is_none() && spec.quality.is_none());
    let turns = turns.map(|turns| u64::from(turns) * u64::from(step.attempts) * passes(plan, step));
    let by_turns = turns.zip(per_call).map(|(turns, call)| NanoUsd(call.0.saturating_mul(turns)));
    let at_most = most(step.limits.max_cost_per_step_usd).into_iter().chain(by_turns).min();
    Some(StepQuote { step: step.id.clone(), turns, per_call, at_most })
}

/// How often a step can run at most, over all jumps that make it pending again.
fn passes(plan: &Plan, step: &PlanStep) -> u64 {
    let jumps = plan.steps.values().flat_map(|from| {
        let failure = match &from.on_failure {
            OnFailure::Goto(goto) => Some(goto),
            OnFailure::Fail | OnFailure::Continue => None,
        };
        from.then.iter().chain(failure)
    });
    jumps
        .filter(|goto| goto.target == step.id || comes_after(plan, step, &goto.target, &mut BTreeSet::new()))
        .map(|goto| u64::from(goto.max_iterations))
        .fold(1, u64::saturating_add)
}

fn comes_after<'p>(plan: &'p Plan, step: &'p PlanStep, target: &StepId, seen: &mut BTreeSet<&'p str>) -> bool {
    step.needs.iter().any(|need| {
        need == target
            || (seen.insert(need.as_str())
                && plan.steps.get(need).is_some_and(|need| comes_after(plan, need, target, seen)))
    })
}

impl Quote {
    /// For people, ending in a line end.
    pub fn render(&self, workflow: &str) -> String {
        let mut out = String::new();
        let workflow = super::line(workflow, 60);
        let unknown = match self.unknown_runs {
            0 => String::new(),
            1 => " (and one whose cost is unknown)".to_owned(),
            more => format!(" (and {more} whose cost is unknown)"),
        };
        match &self.history {
            Some(history) => {
                let _ = writeln!(
                    out,
                    "  quote       {} earlier run{} of {workflow}: least {}, median {}, nine of ten at most {}{unknown}",
                    history.runs,
                    if history.runs == 1 { "" } else { "s" },
                    numbers::dollars(history.least),
                    numbers::dollars(history.median),
                    numbers::dollars(history.p90)
                );
            }
            None => {
                let _ = writeln!(out, "  quote       no earlier run of {workflow} to go by{unknown}");
            }
        }
        let most = self.at_most.map_or_else(
            || "no limit bounds the cost".to_owned(),
            |most| format!("at most {}", numbers::dollars(most)),
        );
        let _ = writeln!(out, "              by its limits {most}");
        for step in &self.steps {
            let turns = step
                .turns
                .map_or_else(|| "any number of turns".to_owned(), |turns| format!("{} turns", numbers::grouped(turns)));
            let call = step
                .per_call
                .map_or_else(|| "no price".to_owned(), |call| format!("up to {} a call", numbers::dollars(call)));
            let most = step.at_most.map_or_else(String::new, |most| format!(": at most {}", numbers::dollars(most)));
            let _ = writeln!(out, "                {:<14} {turns}, {call}{most}", super::line(step.step.as_str(), 40));
        }
        out
    }

    /// For machines: dollars; null where nothing bounds it or nothing is known.
    pub fn json(&self) -> Value {
        let usd = |cost: Option<NanoUsd>| cost.map(NanoUsd::usd);
        let steps: Vec<Value> = self
            .steps
            .iter()
            .map(|step| {
                json!({
                    "step": step.step, "turns": step.turns, "per_call_usd": usd(step.per_call),
                    "at_most_usd": usd(step.at_most),
                })
            })
            .collect();
        json!({
            "history": self.history.map(|history| json!({
                "runs": history.runs, "least_usd": history.least.usd(), "median_usd": history.median.usd(),
                "p90_usd": history.p90.usd(),
            })),
            "unknown_runs": self.unknown_runs,
            "at_most_usd": usd(self.at_most),
            "steps": steps,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend(usd: f64, calls: u32, unknown_calls: u32) -> Spend {
        Spend { cost: NanoUsd::from_usd(usd), calls, unknown_calls, ..Spend::default() }
    }

    fn plan(change: impl FnOnce(&mut Value)) -> Plan {
        let step = |id: &str, needs: &[&str]| {
            json!({
                "id": id, "needs": needs, "activation": "all", "condition": null, "timeout_ms": null, "attempts": 2,
                "writes": false, "own_copy": false, "gates": [], "on_failure": "fail", "then": null, "env": {},
                "limits": { "max_turns": 10 },
                "kind": { "agent": {
                    "mode": "m", "system_template": "", "prompt": "", "tools": [], "read_only": true, "scenario": "",
                    "models": [
                        { "name": "cheap", "provider": "p", "model": "c", "context_window": 100_000, "max_output": 1000,
                          "tools": true, "price": { "input_per_mtok": 1.0, "output_per_mtok": 2.0 } },
                        { "name": "dear", "provider": "p", "model": "d", "context_window": 100_000, "max_output": 1000,
                          "tools": true,
                          "price": { "input_per_mtok": 2.0, "output_per_mtok": 5.0, "cache_write_per_mtok": 2.5 } },
                    ],
                    "blocked_commands": [], "output": null, "keep_observations": null, "history_tokens": null,
                } },
            })
        };
        let mut value = json!({
            "workflow": "w", "file": "w.yml", "workflow_hash": "", "inputs": {}, "trusted_inputs": [], "event": null,
            "steps": { "look": step("look", &[]), "judge": step("judge", &["look"]) },
            "gates": {}, "limits": {}, "warn_at": [], "env": {}, "max_parallel": 4, "protected_paths": [], "key": "",
            "policy": {
                "name": "p", "file": "", "description": "", "rules": [], "default": "allow", "default_line": 0,
                "protected_paths": [], "require_gates": [], "rollback_on_fail": false, "limits": {}, "exec_mode": null,
            },
            "sandbox": {
                "driver": "none", "image": null, "exec_mode": "sandbox", "network_allow": [],
                "resources": Value::Null, "setup": [],
            },
            "deliver": {
                "kind": "none", "when": "gates_passed", "branch": null, "title": null, "body": null,
                "fail_if_no_changes": false,
            },
        });
        value["sandbox"]["resources"] = json!(crate::model::plan::Resources::default());
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn history_is_least_median_and_ninth_tenth_of_what_is_known() {
        let mut earlier: Vec<Spend> = (1..=10).rev().map(|cents| spend(f64::from(cents) / 100.0, 3, 0)).collect();
        earlier.extend([spend(0.0, 0, 0), spend(9.0, 4, 1)]);
        let quote = quote(&plan(|_| {}), &earlier, None);
        let history = quote.history.unwrap();
        assert_eq!((history.runs, quote.unknown_runs), (10, 1), "one asked nothing, of one nobody knows");
        assert_eq!([history.least, history.median, history.p90].map(NanoUsd::usd), [0.01, 0.05, 0.09]);
        let text = quote.render("w");
        assert!(
            text.contains("10 earlier runs of w: least $0.010, median $0.050, nine of ten at most $0.090 (and one"),
            "{text}"
        );
    }

    #[test]
    fn limits_bound_what_turns_attempts_and_passes_can_cost() {
        // 100,000 tokens written to the cache at 2.50, 1,000 at 5: $0.255 a call, 10 turns twice.
        let free = quote(&plan(|_| {}), &[], None);
        assert_eq!(free.steps[0].per_call, Some(NanoUsd::from_usd(0.255)));
        assert_eq!(free.steps.iter().map(|step| step.turns).collect::<Vec<_>>(), [Some(20), Some(20)]);
        assert_eq!(free.at_most, Some(NanoUsd::from_usd(10.2)));
        let again =
            |plan: &mut Value| plan["steps"]["judge"]["then"] = json!({ "target": "look", "max_iterations": 2 });
        let cycle = quote(&plan(again), &[], None);
        assert_eq!(cycle.steps.iter().map(|step| step.turns).collect::<Vec<_>>(), [Some(60), Some(60)]);
        let capped = |plan: &mut Value| {
            plan["limits"] = json!({ "max_cost_usd": 3.0, "max_cost_per_call_usd": 0.1 });
            plan["steps"]["look"]["limits"]["max_cost_per_step_usd"] = json!(0.5);
        };
        let capped = quote(&plan(capped), &[], None);
        assert_eq!(capped.steps[0].at_most, Some(NanoUsd::from_usd(0.5)));
        assert_eq!(
            (capped.steps[1].at_most, capped.at_most),
            (Some(NanoUsd::from_usd(2.0)), Some(NanoUsd::from_usd(2.5)))
        );
        assert_eq!(quote(&plan(|_| {}), &[], Some(NanoUsd(7))).at_most, Some(NanoUsd(7)));
        let unpriced = |plan: &mut Value| plan["steps"]["look"]["kind"]["agent"]["models"][1]["price"] = Value::Null;
        let unpriced = quote(&plan(unpriced), &[], None);
        assert_eq!(
            (unpriced.at_most, unpriced.json()["at_most_usd"].clone()),
            (None, Value::Null),
            "unknown is no zero"
        );
        assert!(unpriced.render("w").contains("no limit bounds the cost"));
    }
}
