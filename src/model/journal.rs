//! The journal's rows: what happened ([`Input`]) and what is to be done ([`Effect`]).
//!
//! A run's state is a fold over its inputs, nothing else. Intents are written beside them, in the same
//! transaction as the input that caused them, and performed after that commit. A row is JSON, so that a journal
//! of an older version can be read by a newer one.

use super::chat::{Answer, Bill, ModelError};
use super::delivery::Delivered;
use super::exec::ExecOutcome;
use super::id::{EffectKey, RunId, StepId, TreeId};
use super::plan::Plan;
use super::tool::{ToolCall, ToolOutcome};
use super::usage::NanoUsd;
use serde::{Deserialize, Serialize};

/// One row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Position in the run's journal, from 1, without gaps.
    pub seq: u64,
    /// Milliseconds since 1970, UTC, when it was written.
    pub at_ms: i64,
    /// Which fact or intent.
    pub body: RowBody,
}

/// A fact or an intent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowBody {
    /// Something happened.
    Input(Input),
    /// Something is to be done.
    Intent(Effect),
}

/// Where a run starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// The repository's top folder, absolute.
    pub repo: String,
    /// The commit that HEAD names; `None` in a repository without commits.
    pub commit: Option<String>,
    /// The branch that HEAD names, without `refs/heads/`; `None` when detached.
    pub branch: Option<String>,
    /// The tree at start: HEAD with dirty and untracked, non-ignored files.
    pub tree: TreeId,
    /// Paths that differ from HEAD at start: the delivery refuses to overlap with them.
    pub dirty: Vec<String>,
}

/// A fact: the result of an effect, or something from outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Input {
    /// The run begins.
    Started {
        /// The run.
        run: RunId,
        /// What is to be run.
        plan: Box<Plan>,
        /// Where it starts from.
        base: Base,
        /// When, in milliseconds since 1970.
        at_ms: i64,
        /// Version of the engine that wrote this journal.
        version: String,
        /// What it was given of the budgets that it shares with other runs.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        allowances: Vec<super::budget::Allowance>,
    },
    /// The engine took the run up again after it was cut.
    Resumed {
        /// When, in milliseconds since 1970.
        at_ms: i64,
        /// What it was given of the budgets that it shares with other runs, in place of what it had.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        allowances: Vec<super::budget::Allowance>,
    },
    /// What a step is shown of earlier runs, decided once, at its first request: so later requests, a resumed run and a
    /// replay have the same.
    Recalled {
        /// The step.
        step: StepId,
        /// The best first; may be none.
        entries: Vec<super::experience::Recalled>,
    },
    /// The workspace and the sandbox are ready.
    Prepared {
        /// The effect.
        key: EffectKey,
        /// `docker`, `native` or `none`.
        driver: String,
        /// How the workspace is made (`overlay`, `reflink`, `copy`, `mount`).
        workspace: String,
        /// What could not be had, and why, in words for people.
        notes: Vec<String>,
    },
    /// A model request was put together (a pure effect: never outstanding in a journal).
    Composed {
        /// The effect.
        key: EffectKey,
        /// Upper bound of its prompt tokens.
        input_tokens: u64,
        /// Its prompt tokens as they are estimated, before anything is left out to fit the model's window; 0: not
        /// estimated.
        #[serde(default)]
        estimated_tokens: u64,
        /// The most that it may answer, in tokens.
        max_output: u64,
        /// Upper bound of its cost; `None` where the model has no price.
        cost: Option<NanoUsd>,
        /// SHA-256 of the request, without what changes from run to run.
        request_hash: String,
        /// The rendered first prompt, on a step's first turn.
        prompt: Option<String>,
    },
    /// The request could not be put together (a template's error).
    NotComposed {
        /// The effect.
        key: EffectKey,
        /// What is wrong and where.
        message: String,
    },
    /// The model answered.
    Answered {
        /// The effect.
        key: EffectKey,
        /// What it said.
        answer: Answer,
        /// What it cost.
        bill: Bill,
        /// How many requests it took.
        requests: u32,
    },
    /// The model could not be had, after all retries.
    ModelFailed {
        /// The effect.
        key: EffectKey,
        /// Why.
        error: ModelError,
    },
    /// A model call was cut by a crash: whether it was billed is not known, so its reservation is charged.
    OutcomeUnknown {
        /// The effect.
        key: EffectKey,
    },
    /// A tool call ended.
    ToolDone {
        /// The effect.
        key: EffectKey,
        /// How.
        outcome: ToolOutcome,
    },
    /// A `run:` step's command ended.
    CommandDone {
        /// The effect.
        key: EffectKey,
        /// How.
        outcome: ExecOutcome,
    },
    /// A snapshot was taken.
    Snapshotted {
        /// The effect.
        key: EffectKey,
        /// Its tree.
        tree: TreeId,
        /// Files that differ from the tree before it, for the account (after a step only).
        files: Vec<super::delivery::FileChange>,
    },
    /// A workspace was restored to a tree.
    Restored {
        /// The effect.
        key: EffectKey,
        /// The difference that was thrown away, shortened, for the next attempt's prompt.
        discarded: String,
    },
    /// A gate ended.
    GateDone {
        /// The effect.
        key: EffectKey,
        /// Its result.
        result: GateResult,
    },
    /// Workspaces of concurrent writers were merged.
    Joined {
        /// The effect.
        key: EffectKey,
        /// The merged tree.
        tree: TreeId,
        /// Files that could not be merged; the join failed where there are any.
        conflicts: Vec<String>,
    },
    /// The delivery was made, or there was nothing to deliver.
    DeliveryDone {
        /// The effect.
        key: EffectKey,
        /// What came of it.
        delivered: Delivered,
    },
    /// An effect could not be performed.
    EffectFailed {
        /// The effect.
        key: EffectKey,
        /// Whose fault.
        fault: Fault,
        /// What failed, where, and what to do.
        message: String,
    },
    /// A step's backend ended.
    BackendDone {
        /// The effect.
        key: EffectKey,
        /// How.
        outcome: super::backend::BackendOutcome,
    },
    /// A program in a step's sandbox asked the gateway for a model's answer. Its call is a [`Work::CallModel`] with
    /// [`Purpose::Gateway`]; whether it may be made is the budget's to say.
    Asked {
        /// The step.
        step: StepId,
        /// The question's number in the step, from 1.
        number: u64,
        /// Which of the step's models is asked, if the budget allows it.
        #[serde(default)]
        model: usize,
        /// The model that the program named: noted, not obeyed.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        wanted: String,
        /// Upper bound of its prompt tokens.
        input_tokens: u64,
        /// The most that it may answer, in tokens.
        max_output: u64,
        /// Upper bound of its cost; `None` where the model has no price.
        cost: Option<NanoUsd>,
        /// The request's fingerprint.
        request_hash: String,
    },
    /// The gateway refused something that a program in a step's sandbox asked for: for the audit.
    AskRefused {
        /// The step.
        step: StepId,
        /// What: the endpoint, or the field.
        what: String,
        /// Why.
        why: String,
    },
    /// A deadline passed. `step: None` is the run's.
    DeadlinePassed {
        /// The step.
        step: Option<StepId>,
    },
    /// A person or a signal asked for the end.
    CancelRequested {
        /// Who or what.
        reason: String,
    },
}

impl Input {
    /// The kind's name, as its JSON says it in `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Resumed { .. } => "resumed",
            Self::Recalled { .. } => "recalled",
            Self::Prepared { .. } => "prepared",
            Self::Composed { .. } => "composed",
            Self::NotComposed { .. } => "not_composed",
            Self::Answered { .. } => "answered",
            Self::ModelFailed { .. } => "model_failed",
            Self::OutcomeUnknown { .. } => "outcome_unknown",
            Self::ToolDone { .. } => "tool_done",
            Self::CommandDone { .. } => "command_done",
            Self::Snapshotted { .. } => "snapshotted",
            Self::Restored { .. } => "restored",
            Self::GateDone { .. } => "gate_done",
            Self::Joined { .. } => "joined",
            Self::DeliveryDone { .. } => "delivery_done",
            Self::EffectFailed { .. } => "effect_failed",
            Self::BackendDone { .. } => "backend_done",
            Self::Asked { .. } => "asked",
            Self::AskRefused { .. } => "ask_refused",
            Self::DeadlinePassed { .. } => "deadline_passed",
            Self::CancelRequested { .. } => "cancel_requested",
        }
    }

    /// The effect that this is the result of.
    pub fn key(&self) -> Option<&EffectKey> {
        match self {
            Self::Prepared { key, .. }
            | Self::Composed { key, .. }
            | Self::NotComposed { key, .. }
            | Self::Answered { key, .. }
            | Self::ModelFailed { key, .. }
            | Self::OutcomeUnknown { key }
            | Self::ToolDone { key, .. }
            | Self::CommandDone { key, .. }
            | Self::Snapshotted { key, .. }
            | Self::Restored { key, .. }
            | Self::GateDone { key, .. }
            | Self::Joined { key, .. }
            | Self::DeliveryDone { key, .. }
            | Self::EffectFailed { key, .. }
            | Self::BackendDone { key, .. } => Some(key),
            Self::Started { .. }
            | Self::Resumed { .. }
            | Self::Recalled { .. }
            | Self::Asked { .. }
            | Self::AskRefused { .. }
            | Self::DeadlinePassed { .. }
            | Self::CancelRequested { .. } => None,
        }
    }
}

/// Whose fault a failed effect is: decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Configuration or usage: exit 2.
    User,
    /// Refused by policy: exit 4.
    Denied,
    /// Sandbox, provider, disk, git: exit 5.
    Environment,
    /// The effect's outcome cannot be known (a command cut in a mounted tree): the run stops, exit 1.
    Unknown,
}

/// Something to be done, exactly as often as its key says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// Its name for ever.
    pub key: EffectKey,
    /// The step it is for; `None`: the run.
    pub step: Option<StepId>,
    /// Pass of a `goto` cycle, from 0.
    pub iteration: u32,
    /// Try, from 1; 0 for the run's own.
    pub attempt: u32,
    /// What is to be done.
    pub work: Work,
}

impl Effect {
    /// Whether it changes nothing that anybody could see: it may be performed before its intent is on the disk.
    pub fn only_looks(&self) -> bool {
        matches!(&self.work, Work::CallTool { call } if super::tool::LOOKING_TOOLS.contains(&call.name.as_str()))
    }
}

/// The kinds of work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Work {
    /// Make the workspace and open the sandbox; run `setup`.
    Prepare,
    /// Put the next model request together (pure; answered before the commit).
    Compose {
        /// Which of the step's models.
        model: usize,
        /// What the request is for.
        #[serde(default, skip_serializing_if = "Purpose::is_turn")]
        purpose: Purpose,
    },
    /// Call the model.
    CallModel {
        /// Which of the step's models.
        model: usize,
        /// What the call is for.
        #[serde(default, skip_serializing_if = "Purpose::is_turn")]
        purpose: Purpose,
        /// Why this model: `scenario think`, `long context: about 71,000 tokens`, `sonnet is resting until …`.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        why: String,
        /// Tokens set aside.
        reserved_tokens: u64,
        /// US dollars set aside; `None` where the model has no price.
        reserved_cost: Option<NanoUsd>,
        /// SHA-256 of the request that is to be sent.
        request_hash: String,
    },
    /// Judge one tool call and, where allowed, carry it out.
    CallTool {
        /// The call.
        call: ToolCall,
    },
    /// Run the step's command.
    RunCommand,
    /// Run the step's backend: another agent, or a plain program, under our gateway.
    RunBackend,
    /// Take the step's snapshot. `after`: once its work is done.
    Snapshot {
        /// Before or after the work.
        after: bool,
    },
    /// Put the workspace back to `tree`.
    Restore {
        /// The tree.
        tree: TreeId,
    },
    /// Run one gate, in a sandbox of its own.
    CheckGate {
        /// The gate's name.
        gate: String,
        /// The tree that the verdict will bind.
        tree: TreeId,
    },
    /// Make a workspace of its own for the step, holding `tree`.
    Fork {
        /// The tree.
        tree: TreeId,
    },
    /// Merge `theirs` into the step's (or the run's main) workspace, one after the other.
    Join {
        /// For each: the tree it was forked from, the tree it became, whose it is.
        theirs: Vec<(TreeId, TreeId, StepId)>,
    },
    /// Hand over the difference of the base and `tree`.
    Deliver {
        /// The tree.
        tree: TreeId,
    },
}

impl Work {
    /// The kind's name, part of the key.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Compose { .. } => "compose",
            Self::CallModel { .. } => "call_model",
            Self::CallTool { .. } => "call_tool",
            Self::RunCommand => "run_command",
            Self::RunBackend => "run_backend",
            Self::Snapshot { after: false } => "snapshot_before",
            Self::Snapshot { after: true } => "snapshot_after",
            Self::Restore { .. } => "restore",
            Self::CheckGate { .. } => "check_gate",
            Self::Fork { .. } => "fork",
            Self::Join { .. } => "join",
            Self::Deliver { .. } => "deliver",
        }
    }
}

/// What a model call is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// The agent's next turn.
    #[default]
    Turn,
    /// One of several answers to the same request (`action_sampling`), from 0.
    Sample(u32),
    /// Choosing among samples or attempts.
    Choose,
    /// A guard's look at what an agent concluded.
    Guard,
    /// A speech in a debate.
    Speech {
        /// Whose.
        side: Side,
        /// Round, from 0.
        round: u32,
    },
    /// A question of a program in the sandbox, by its number.
    Gateway(u64),
}

impl Purpose {
    /// Whether it is an agent's plain turn.
    pub fn is_turn(&self) -> bool {
        *self == Self::Turn
    }

    /// The purpose in a word, for people: `turn`, `sample`, `judge`, `guard`, `debate`, `gateway`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Turn => "turn",
            Self::Sample(_) => "sample",
            Self::Choose => "judge",
            Self::Guard => "guard",
            Self::Speech { .. } => "debate",
            Self::Gateway(_) => "gateway",
        }
    }
}

/// Who speaks in a debate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// For.
    Pro,
    /// Against.
    Con,
    /// Sums up and decides.
    Moderator,
}

/// What a gate said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It passed.
    Pass,
    /// It ran and did not pass.
    Fail,
    /// It could not be run to its end: never a pass.
    Error,
}

/// The result of one gate on one tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateResult {
    /// The gate.
    pub gate: String,
    /// Hash of the gate's definition.
    pub gate_hash: String,
    /// The tree it was run on.
    pub tree: TreeId,
    /// What it said.
    pub verdict: Verdict,
    /// `exit code 1`, `timed out`, …
    pub detail: String,
    /// The end of its output, cleaned and capped.
    pub output: String,
    /// Wall time in milliseconds.
    pub duration_ms: u64,
}
