//! The readable account of a run: a fold over its journal, for terminals, reports and machines.

use super::delivery::{Delivered, FileChange};
use super::id::{RunId, StepId};
use super::journal::GateResult;
use super::tool::Ruling;
use super::usage::{NanoUsd, Usage};
use serde::{Deserialize, Serialize};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Delivered, or looked and found nothing to change.
    Done,
    /// A step or a gate failed, or nothing was done where something was asked.
    Failed,
    /// The plan or its configuration cannot be carried out.
    Misconfigured,
    /// Budget, time, steps or stall.
    Limit,
    /// Policy or access.
    Denied,
    /// A provider or the sandbox failed after retries.
    Unavailable,
    /// Interrupted; can be resumed.
    Cancelled,
}

impl Ending {
    /// The process's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Misconfigured => 2,
            Self::Limit => 3,
            Self::Denied => 4,
            Self::Unavailable => 5,
            Self::Cancelled => 130,
        }
    }
}

/// How a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// Not begun.
    Pending,
    /// At work.
    Running,
    /// Its work is kept.
    Succeeded,
    /// Its work is not kept, or it could not be done.
    Failed,
    /// Its condition did not hold.
    Skipped,
    /// The run ended before or while it ran.
    Cancelled,
}

/// Money and tokens spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Spend {
    /// Tokens.
    pub usage: Usage,
    /// US dollars, of the calls whose cost is known.
    pub cost: NanoUsd,
    /// Calls whose cost nobody knows.
    pub unknown_calls: u32,
    /// Model calls made.
    pub calls: u32,
}

/// One step's account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepAccount {
    /// Its name.
    pub id: StepId,
    /// The mode, or `run` for a command.
    pub mode: String,
    /// How it stands.
    pub status: StepStatus,
    /// Tries made in this pass.
    pub attempt: u32,
    /// Tries allowed.
    pub attempts: u32,
    /// Pass, from 0.
    pub iteration: u32,
    /// Wall time over all tries, milliseconds.
    pub duration_ms: u64,
    /// What it spent.
    pub spend: Spend,
    /// Files it changed and that are kept.
    pub files: Vec<FileChange>,
    /// Its closing words, first line.
    pub summary: String,
    /// What it handed over, where its answer has a form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<serde_json::Value>,
    /// Why it failed, where, and what to do.
    pub error: Option<String>,
    /// Gate results of all tries: (attempt, result, what it led to).
    pub gates: Vec<(u32, GateResult, String)>,
    /// Calls the policy refused: tool and argument in short, and the ruling.
    pub denials: Vec<(String, Ruling)>,
    /// What it waits for.
    pub needs: Vec<StepId>,
    /// What was done for a better answer, and what that cost.
    #[serde(default, skip_serializing_if = "QualityAccount::is_empty")]
    pub quality: QualityAccount,
}

/// What `quality:` did at a step.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct QualityAccount {
    /// In lines for people.
    pub told: Vec<String>,
    /// What was spent beside plain turns, by purpose (`sample`, `judge`, `guard`, `debate`).
    pub spend: Vec<(String, Spend)>,
}

impl QualityAccount {
    /// Whether nothing was done.
    pub fn is_empty(&self) -> bool {
        self.told.is_empty() && self.spend.is_empty()
    }
}

/// A run's account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// The run.
    pub run: RunId,
    /// The workflow.
    pub workflow: String,
    /// The repository.
    pub repo: String,
    /// The commit it started from.
    pub base: Option<String>,
    /// The policy.
    pub policy: String,
    /// `docker`, `native` or `none`; empty before the sandbox is open.
    pub driver: String,
    /// What could not be had, and why.
    pub notes: Vec<String>,
    /// When it began, milliseconds since 1970.
    pub started_ms: i64,
    /// When it ended.
    pub ended_ms: Option<i64>,
    /// How it ended; `None`: not yet.
    pub ending: Option<Ending>,
    /// Why, in a sentence or two with what to do.
    pub reason: String,
    /// The steps, in plan order.
    pub steps: Vec<StepAccount>,
    /// All spending.
    pub spend: Spend,
    /// The budget in US dollars, where there is one.
    pub budget_usd: Option<f64>,
    /// Spending by model.
    pub by_model: Vec<(String, Spend)>,
    /// Gates run on the final tree, before delivery.
    pub final_gates: Vec<GateResult>,
    /// What was handed over.
    pub delivered: Option<Delivered>,
}
