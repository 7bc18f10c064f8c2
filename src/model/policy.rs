//! Policies, as loaded and checked: rules, limits, what they require.

use super::exec::ExecMode;
use serde::{Deserialize, Serialize};

/// What a rule decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// Run it.
    Allow,
    /// Do not run it; tell the model why.
    Deny,
    /// Ask a person; with nobody to ask it is a denial that says so.
    Ask,
}

/// One rule. It matches a call when its tool matches and, where given, a path and a command match.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Tool names or globs (`*`).
    pub tools: Vec<String>,
    /// Path globs (`**` crosses directories); empty: any.
    pub paths: Vec<String>,
    /// Word-aligned command globs (`cargo test*`); empty: any.
    pub commands: Vec<String>,
    /// What it decides.
    pub decision: Decision,
    /// Why, in a few words.
    pub reason: Option<String>,
    /// Line in the policy's file, from 1.
    pub line: usize,
}

/// A checked policy profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// The file it was read from; `built in` for presets.
    pub file: String,
    /// What it is for.
    pub description: String,
    /// The rules, first match wins.
    pub rules: Vec<Rule>,
    /// Where no rule matches.
    pub default: Decision,
    /// Line of `default`, from 1; 0 where it is not written.
    pub default_line: usize,
    /// Globs that no agent may write, and no delivery may carry, whatever the rules say.
    pub protected_paths: Vec<String>,
    /// Gates that must pass on the final tree before delivery.
    pub require_gates: Vec<String>,
    /// A failed gate always restores the step's snapshot.
    pub rollback_on_fail: bool,
    /// Limits, each of which can only tighten.
    pub limits: Limits,
    /// The only execution mode it is meant for, where it says one.
    pub exec_mode: Option<ExecMode>,
}

/// Limits of a run or a step. `None` is no limit from this source; merging takes the stricter.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Model turns per attempt of a step.
    pub max_turns: Option<u32>,
    /// Wall time of the run, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// US dollars for the run.
    pub max_cost_usd: Option<f64>,
    /// US dollars for one step, over all its attempts.
    pub max_cost_per_step_usd: Option<f64>,
    /// US dollars for one model call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cost_per_call_usd: Option<f64>,
    /// Budgets that the run shares with others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared: Vec<super::budget::SharedBudget>,
    /// Tokens (in and out) for the run.
    pub max_tokens: Option<u64>,
    /// Files that the delivery may touch.
    pub max_file_changes: Option<u32>,
    /// Repeats of one (tool, arguments, result) before the step counts as stalled.
    pub stall_threshold: Option<u32>,
    /// A composed condition, beside the single limits.
    pub stop: Option<Stop>,
}

impl Limits {
    /// The stricter of the two, limit by limit.
    pub fn stricter(&self, other: &Self) -> Self {
        fn least<T: PartialOrd + Copy>(a: Option<T>, b: Option<T>) -> Option<T> {
            match (a, b) {
                (Some(a), Some(b)) => Some(if b < a { b } else { a }),
                (one, None) | (None, one) => one,
            }
        }
        Self {
            max_turns: least(self.max_turns, other.max_turns),
            timeout_ms: least(self.timeout_ms, other.timeout_ms),
            max_cost_usd: least(self.max_cost_usd, other.max_cost_usd),
            max_cost_per_step_usd: least(self.max_cost_per_step_usd, other.max_cost_per_step_usd),
            max_cost_per_call_usd: least(self.max_cost_per_call_usd, other.max_cost_per_call_usd),
            shared: [self.shared.as_slice(), &other.shared].concat(),
            max_tokens: least(self.max_tokens, other.max_tokens),
            max_file_changes: least(self.max_file_changes, other.max_file_changes),
            stall_threshold: least(self.stall_threshold, other.stall_threshold),
            stop: match (&self.stop, &other.stop) {
                (Some(a), Some(b)) => Some(Stop::Any(vec![a.clone(), b.clone()])),
                (one, None) | (None, one) => one.clone(),
            },
        }
    }
}

/// A termination condition, from `stop: "max_steps(50) or cost_above(5)"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// That many model turns in the step's attempt.
    MaxTurns(u32),
    /// The run has cost more than so many US dollars.
    CostAbove(f64),
    /// The last answer of the model contains the text.
    TextMentions(String),
    /// The run has lasted that many milliseconds.
    Timeout(u64),
    /// The step has stalled.
    Stalled,
    /// One of them holds.
    Any(Vec<Stop>),
    /// All of them hold.
    All(Vec<Stop>),
}
