//! What runs cost, grouped.

use super::{chart, line, numbers};
use crate::model::account::Spend;
use crate::model::budget::{self, Scope};
use crate::model::journal::{Effect, Input, Row, RowBody, Work};
use crate::model::plan::StepKind;
use crate::model::usage::{CostSource, NanoUsd};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How to group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// By the model that answered.
    Model,
    /// By workflow.
    Workflow,
    /// By the mode of the step that asked.
    Mode,
    /// By day, UTC.
    Day,
    /// By the change that the run was for.
    Change,
    /// By who caused the run.
    Actor,
}

impl By {
    /// Its name: `model`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Workflow => "workflow",
            Self::Mode => "mode",
            Self::Day => "day",
            Self::Change => "change",
            Self::Actor => "actor",
        }
    }
}

/// Sums of spending by name, in order of their names.
#[derive(Debug)]
pub struct Costs {
    by: By,
    rows: BTreeMap<String, Spend>,
}

impl Costs {
    /// No costs yet.
    pub fn new(by: By) -> Self {
        Self { by, rows: BTreeMap::new() }
    }

    /// The sums by name.
    pub fn rows(&self) -> impl Iterator<Item = (&str, &Spend)> {
        self.rows.iter().map(|(name, spend)| (name.as_str(), spend))
    }

    /// Adds a run's journal: what happened since `since_ms` (milliseconds since 1970).
    pub fn add(&mut self, rows: &[Row], since_ms: i64) {
        let mut calls: BTreeMap<&str, &Effect> = BTreeMap::new();
        let mut plan = None;
        for row in rows {
            let input = match &row.body {
                RowBody::Intent(effect) => {
                    if matches!(effect.work, Work::CallModel { .. }) {
                        calls.insert(effect.key.as_str(), effect);
                    }
                    continue;
                }
                RowBody::Input(input) => input,
            };
            if let Input::Started { plan: started, .. } = input {
                plan = Some(started);
            }
            if row.at_ms < since_ms {
                continue;
            }
            let call = input.key().and_then(|key| calls.get(key.as_str()));
            let mut spend = Spend { calls: 1, ..Spend::default() };
            let model = match input {
                Input::Answered { bill, .. } => {
                    spend.usage = bill.usage.unwrap_or_default();
                    match bill.cost.filter(|_| bill.source != CostSource::Unknown) {
                        Some(cost) => spend.cost = cost,
                        None => spend.unknown_calls = 1,
                    }
                    bill.model.clone()
                }
                Input::ModelFailed { error, .. } => match &error.bill {
                    Some(bill) => {
                        spend.usage = bill.usage.unwrap_or_default();
                        match bill.cost {
                            Some(cost) => spend.cost = cost,
                            None => spend.unknown_calls = 1,
                        }
                        bill.model.clone()
                    }
                    None => continue,
                },
                Input::OutcomeUnknown { .. } => {
                    let reserved = call.map(|call| &call.work);
                    let Some(Work::CallModel { reserved_tokens, reserved_cost: cost, .. }) = reserved else { continue };
                    spend.usage.input = *reserved_tokens;
                    match cost {
                        Some(cost) => spend.cost = *cost,
                        None => spend.unknown_calls = 1,
                    }
                    "cut calls, at their reservation".to_owned()
                }
                _ => continue,
            };
            let event = plan.as_ref().map_or(&Value::Null, |plan| &plan.event);
            let name = match self.by {
                By::Model => model,
                By::Workflow => plan.as_ref().map(|plan| plan.workflow.clone()).unwrap_or_default(),
                By::Day => budget::day(row.at_ms),
                By::Change => budget::change_of(event).map_or_else(|| "no change".into(), |it| format!("change {it}")),
                By::Actor => budget::actor_of(event).unwrap_or_else(|| "by hand".into()),
                By::Mode => {
                    let step = call.and_then(|call| plan.as_ref()?.steps.get(call.step.as_ref()?));
                    step.map_or_else(String::new, |step| match &step.kind {
                        StepKind::Agent(spec) => spec.mode.clone(),
                        StepKind::Run { .. } => "run".into(),
                    })
                }
            };
            let sum = self.rows.entry(name).or_default();
            sum.usage += spend.usage;
            sum.cost = sum.cost.plus(spend.cost);
            sum.unknown_calls += spend.unknown_calls;
            sum.calls += 1;
        }
    }

    /// As a table; by day with a bar for each.
    pub fn table(&self) -> String {
        if self.rows.is_empty() {
            return "No model was asked yet.\n".to_owned();
        }
        let mut out = format!("{:<32} {:>18} {:>7} {:>14} {:>12}\n", "", "cost", "calls", "tokens in", "tokens out");
        let most = self.rows.values().map(|spend| spend.cost.0).max().unwrap_or(0);
        let row = |name: &str, spend: &Spend, bar: String| {
            let text = format!(
                "{:<32} {:>18} {:>7} {:>14} {:>12}  {bar}",
                line(name, 32),
                numbers::cost(spend),
                spend.calls,
                numbers::grouped(spend.usage.input),
                numbers::grouped(spend.usage.output)
            );
            format!("{}\n", text.trim_end())
        };
        for (name, spend) in &self.rows {
            let bar = if self.by == By::Day { chart::bar(spend, most) } else { String::new() };
            out.push_str(&row(name, spend, bar));
        }
        if self.rows.len() > 1 {
            out.push_str(&row("total", &self.total(), String::new()));
        }
        out
    }

    fn total(&self) -> Spend {
        let mut total = Spend::default();
        for spend in self.rows.values() {
            total.usage += spend.usage;
            total.cost = total.cost.plus(spend.cost);
            total.calls += spend.calls;
            total.unknown_calls += spend.unknown_calls;
        }
        total
    }

    /// As JSON: `{by, rows: [{name, cost_usd, unknown_calls, calls, usage}], total, budgets}`. `cost_usd` is the sum of
    /// what is known, and null where nothing is.
    pub fn json(&self, budgets: &[BudgetLine]) -> Value {
        let one = |name: &str, spend: &Spend| {
            let known = spend.unknown_calls < spend.calls || spend.calls == 0;
            json!({
                "name": name, "cost_usd": known.then(|| spend.cost.usd()), "unknown_calls": spend.unknown_calls,
                "calls": spend.calls, "usage": spend.usage,
            })
        };
        let budgets: Vec<Value> = budgets
            .iter()
            .map(|line| {
                json!({
                    "scope": line.scope.name(), "name": line.name, "spent_usd": line.spent.usd(),
                    "held_usd": line.held.usd(), "cap_usd": line.cap.usd(),
                })
            })
            .collect();
        json!({
            "by": self.by.name(),
            "rows": self.rows.iter().map(|(name, spend)| one(name, spend)).collect::<Vec<_>>(),
            "total": one("total", &self.total()),
            "budgets": budgets,
        })
    }
}

/// How a budget that runs share stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetLine {
    /// Counted by what.
    pub scope: Scope,
    /// Whose; empty for the day.
    pub name: String,
    /// Spent.
    pub spent: NanoUsd,
    /// What runs at work may still spend.
    pub held: NanoUsd,
    /// The budget.
    pub cap: NanoUsd,
}

/// Budgets in lines: `today $1.20 of $50`.
pub fn footer(budgets: &[BudgetLine]) -> String {
    let mut out = String::new();
    for line in budgets {
        let whose = match line.scope {
            Scope::Day => "today".to_owned(),
            Scope::Change => format!("change {}", super::line(&line.name, 40)),
            Scope::Actor | Scope::Workflow => format!("{} {} today", line.scope.name(), super::line(&line.name, 40)),
        };
        out.push_str(&format!("{whose} {} of {}", numbers::dollars(line.spent), numbers::dollars(line.cap)));
        if line.held.0 > 0 {
            out.push_str(&format!(", and runs at work may spend another {}", numbers::dollars(line.held)));
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_read_well() {
        let usd = NanoUsd::from_usd;
        let line = |scope, name: &str, held| BudgetLine {
            scope,
            name: name.into(),
            spent: usd(1.2),
            held: usd(held),
            cap: usd(50.0),
        };
        let all = [line(Scope::Day, "", 0.0), line(Scope::Actor, "ada", 0.004), line(Scope::Change, "42", 0.0)];
        assert_eq!(
            footer(&all),
            "today $1.20 of $50\nactor ada today $1.20 of $50, and runs at work may spend another $0.004\nchange 42 \
             $1.20 of $50\n"
        );
    }
}
