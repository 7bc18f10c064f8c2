//! Recordings of runs: which call a request is, what a run was started with, and what differs between two runs.

use super::exec::DriverKind;
use super::id::{EffectKey, StepId, TreeId};
use super::journal::{Effect, Purpose, Work};
use super::plan::DeliverKind;
use serde::{Deserialize, Serialize};

/// Which model call of a run: what stays the same when the run is made again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallPlace {
    /// The effect's key.
    pub key: EffectKey,
    /// The step.
    pub step: StepId,
    /// Pass of a cycle, from 0.
    pub iteration: u32,
    /// Try, from 1.
    pub attempt: u32,
    /// What the call is for.
    #[serde(default, skip_serializing_if = "Purpose::is_turn")]
    pub purpose: Purpose,
}

impl CallPlace {
    /// The place of a call, where the effect is a step's model call.
    pub fn of(effect: &Effect) -> Option<Self> {
        let Work::CallModel { purpose, .. } = &effect.work else { return None };
        Some(Self {
            key: effect.key.clone(),
            step: effect.step.clone()?,
            iteration: effect.iteration,
            attempt: effect.attempt,
            purpose: purpose.clone(),
        })
    }

    /// The conversation that the call belongs to: calls of one conversation are told apart by their order.
    pub fn conversation(&self) -> String {
        let Self { step, iteration, attempt, purpose, .. } = self;
        format!("{step}\0{iteration}\0{attempt}\0{purpose:?}")
    }
}

/// What was asked for on the command line, as far as the plan does not tell.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunOptions {
    /// `--sandbox`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<DriverKind>,
    /// `--deliver`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliver: Option<DeliverKind>,
    /// `--budget`, US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_usd: Option<f64>,
}

/// One file in which a run's base differs from its commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseFile {
    /// Its path, relative to the repository's root.
    pub path: String,
    /// Git's file mode; 0: the file is gone.
    pub mode: u32,
    /// Its content, or why there is none.
    pub content: FileContent,
}

/// A file's content in a recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileContent {
    /// There is no file.
    Gone,
    /// UTF-8.
    Text(String),
    /// Anything else, as hex digits.
    Hex(String),
    /// It was not recorded: why.
    LeftOut(String),
}

/// One thing that differs between a recorded run and the same run made again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The step; `None`: the run as a whole.
    pub step: Option<StepId>,
    /// Pass of a cycle, from 0.
    pub iteration: u32,
    /// Try, from 1; 0 where it is not about one.
    pub attempt: u32,
    /// The turn, from 1; 0 where it is not about one.
    pub turn: u32,
    /// What kind of thing.
    pub about: About,
    /// What differs, in a sentence.
    pub message: String,
    /// A unified difference of texts, or empty.
    pub diff: String,
}

/// What a difference is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// A message of a request.
    Prompt,
    /// The tools on offer, or the output's schema.
    Tools,
    /// A tool call: what was asked, ruled, or came of it.
    Call,
    /// A command.
    Command,
    /// A gate.
    Gate,
    /// How often a model was asked, and which one.
    Turns,
    /// Retries, rollbacks, jumps, how steps and the run ended.
    Decision,
    /// What would be handed over.
    Patch,
}

/// The outcome of comparing two runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Compared {
    /// The differences, steps in the recorded plan's order.
    pub differences: Vec<Difference>,
    /// How much was compared.
    pub counts: Counts,
}

/// How much was compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Steps.
    pub steps: usize,
    /// Model calls.
    pub calls: usize,
    /// Messages of their requests.
    pub messages: usize,
    /// Tool calls.
    pub tools: usize,
    /// Commands.
    pub commands: usize,
    /// Gate verdicts.
    pub gates: usize,
    /// Files of the final patch.
    pub files: usize,
}

/// Where a recorded run started: what is needed to make the tree again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedBase {
    /// The commit; `None`: there was none.
    pub commit: Option<String>,
    /// The tree that commit and files must give.
    pub tree: TreeId,
    /// The files that differ from the commit.
    pub files: Vec<BaseFile>,
}
