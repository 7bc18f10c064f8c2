//! What runs cost, grouped.

use super::{line, numbers};
use crate::model::account::Spend;
use crate::model::journal::{Input, Row, RowBody, Work};
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
    /// By day, UTC.
    Day,
}

/// Sums of spending by name, in order of their names.
#[derive(Debug, Default)]
pub struct Costs(BTreeMap<String, Spend>);

impl Costs {
    /// Adds a run's journal.
    pub fn add(&mut self, by: By, workflow: &str, rows: &[Row]) {
        let mut reserved: BTreeMap<&str, (u64, Option<NanoUsd>)> = BTreeMap::new();
        for row in rows {
            let input = match &row.body {
                RowBody::Intent(effect) => {
                    if let Work::CallModel { reserved_tokens, reserved_cost, .. } = &effect.work {
                        reserved.insert(effect.key.as_str(), (*reserved_tokens, *reserved_cost));
                    }
                    continue;
                }
                RowBody::Input(input) => input,
            };
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
                Input::OutcomeUnknown { key } => {
                    let (tokens, cost) = reserved.get(key.as_str()).copied().unwrap_or_default();
                    spend.usage.input = tokens;
                    match cost {
                        Some(cost) => spend.cost = cost,
                        None => spend.unknown_calls = 1,
                    }
                    "cut calls, at their reservation".to_owned()
                }
                _ => continue,
            };
            let name = match by {
                By::Model => model,
                By::Workflow => workflow.to_owned(),
                By::Day => numbers::time(row.at_ms).chars().take(10).collect(),
            };
            let sum = self.0.entry(name).or_default();
            sum.usage += spend.usage;
            sum.cost = sum.cost.plus(spend.cost);
            sum.unknown_calls += spend.unknown_calls;
            sum.calls += 1;
        }
    }

    /// As a table.
    pub fn table(&self) -> String {
        if self.0.is_empty() {
            return "No model was asked yet.\n".to_owned();
        }
        let mut out = format!("{:<32} {:>18} {:>7} {:>14} {:>12}\n", "", "cost", "calls", "tokens in", "tokens out");
        let mut total = Spend::default();
        let row = |name: &str, spend: &Spend| {
            format!(
                "{:<32} {:>18} {:>7} {:>14} {:>12}\n",
                line(name, 32),
                numbers::cost(spend),
                spend.calls,
                numbers::grouped(spend.usage.input),
                numbers::grouped(spend.usage.output)
            )
        };
        for (name, spend) in &self.0 {
            out.push_str(&row(name, spend));
            total.usage += spend.usage;
            total.cost = total.cost.plus(spend.cost);
            total.calls += spend.calls;
            total.unknown_calls += spend.unknown_calls;
        }
        if self.0.len() > 1 {
            out.push_str(&row("total", &total));
        }
        out
    }

    /// As JSON: `[{name, cost_usd, unknown_calls, calls, usage}]`. `cost_usd` is the sum of what is known.
    pub fn json(&self) -> Value {
        self.0
            .iter()
            .map(|(name, spend)| {
                json!({
                    "name": name, "cost_usd": spend.cost.usd(), "unknown_calls": spend.unknown_calls,
                    "calls": spend.calls, "usage": spend.usage,
                })
            })
            .collect()
    }
}
