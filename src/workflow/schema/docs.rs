//! A workflow, as written. Doc comments become the descriptions that editors show.

mod sandbox;
mod starts;
mod team;

pub use sandbox::*;
pub use starts::*;
pub use team::*;

use super::kinds::{
    Account, Expression, GateName, Glob, Label, ModeName, ModelName, Name, OneOrMany, PolicyName, Scalar, ScenarioName,
    Shell, Span, StopText, Template, ToolName,
};
use super::memory::HistoryDoc;
use super::settings::PolicyDoc;
use crate::model::plan::{Activation, DeliverKind, DeliverWhen, OnGateFail};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// A workflow: what starts it, which steps it has, what it hands over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "CodeForge workflow")]
pub struct WorkflowDoc {
    /// The workflow's name; the file's name without its ending.
    pub name: Name,
    /// What it is for, in a sentence.
    #[serde(default)]
    pub description: String,
    /// What starts it, beside `codeforge run`.
    #[serde(default)]
    pub on: Option<OnDoc>,
    /// What it is given.
    #[serde(default)]
    pub inputs: BTreeMap<String, InputDoc>,
    /// The policy that judges every tool call: a name, or a profile in place. Default: the configuration's.
    #[serde(default)]
    pub policy: Option<PolicyChoice>,
    /// Money and tokens for a run.
    #[serde(default)]
    pub budget: Option<BudgetDoc>,
    /// Wall time of a run; the stricter of workflow, mode and policy holds.
    #[serde(default)]
    pub timeout: Option<Span>,
    /// A termination condition for agents' steps.
    #[serde(default)]
    pub stop: Option<StopText>,
    /// What happens when runs of this workflow meet.
    #[serde(default)]
    pub concurrency: Option<ConcurrencyDoc>,
    /// The server names the price, the files and the plan in a comment first, and runs when somebody approves.
    #[serde(default)]
    pub quote: bool,
    /// Of those who approve, only others than who asked count. Needs `quote`.
    #[serde(default)]
    pub independent_approval: bool,
    /// Where tools run.
    #[serde(default)]
    pub sandbox: Option<SandboxDoc>,
    /// Variables for the commands in the sandbox.
    #[serde(default)]
    pub env: BTreeMap<String, Scalar>,
    /// The steps: a map is a graph, a list is a pipeline, each step after the one before.
    #[serde(alias = "pipeline", alias = "dag")]
    pub steps: StepsDoc,
    /// How many steps may run at once.
    #[serde(default)]
    #[schemars(range(min = 1, max = 64))]
    pub max_parallel: Option<u32>,
    /// Checks of this workflow; they come before the configuration's gates of the same name.
    #[serde(default)]
    pub gates: BTreeMap<Name, GateDoc>,
    /// What is handed over at the end.
    #[serde(default)]
    pub deliver: Option<DeliverChoice>,
}

/// A policy by name or in place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum PolicyChoice {
    /// By name.
    Named(PolicyName),
    /// In place.
    InPlace(Box<PolicyDoc>),
}

/// Steps as a map or as a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum StepsDoc {
    /// A graph: each step says what it needs.
    Map(IndexMap<String, StepDoc>),
    /// A pipeline: each step after the one before.
    List(Vec<StepDoc>),
}

/// An input.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputDoc {
    /// Its type.
    #[serde(default, rename = "type")]
    pub kind: InputType,
    /// Whether a run needs it.
    #[serde(default)]
    pub required: bool,
    /// What it is taken for where it is not given.
    #[serde(default)]
    pub default: Option<Scalar>,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// The values of a choice.
    #[serde(default)]
    pub options: Vec<String>,
}

/// The type of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InputType {
    /// Text.
    #[default]
    String,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// One of `options`.
    Choice,
}

/// Money and tokens.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetDoc {
    /// US dollars.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub max_cost_usd: Option<f64>,
    /// US dollars for one model call.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub max_cost_per_call_usd: Option<f64>,
    /// Tokens, in and out together.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub max_tokens: Option<u64>,
    /// Shares of each budget at which to warn, from 0 to 1. Default: [0.8, 0.9].
    #[serde(default)]
    pub warn_at: Option<Vec<super::kinds::Share>>,
}

/// What happens when runs meet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConcurrencyDoc {
    /// Runs of the same group meet. Scoped by repository and workflow.
    pub group: Template,
    /// What the later run does.
    #[serde(default)]
    pub on_conflict: OnConflict,
}

/// What the later run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnConflict {
    /// It waits.
    #[default]
    Queue,
    /// It cancels the earlier one.
    Cancel,
    /// It does not start.
    Skip,
}

/// A step. Exactly one of `mode`, `run`, `team`, `workflow`, `approve` and `decompose` says what it does.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepDoc {
    /// Its name, in a list of steps. In a map the key is its name.
    #[serde(default)]
    pub id: Option<Name>,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// An agent works in this mode.
    #[serde(default)]
    pub mode: Option<ModeName>,
    /// A command in the sandbox: no model, no cost. Never templated.
    #[serde(default)]
    pub run: Option<Shell>,
    /// Several agents under a protocol.
    #[serde(default)]
    pub team: Option<TeamDoc>,
    /// Another workflow.
    #[serde(default)]
    pub workflow: Option<Name>,
    /// Inputs of that workflow.
    #[serde(default)]
    pub with: BTreeMap<String, Scalar>,
    /// Wait for a person.
    #[serde(default)]
    pub approve: Option<ApproveDoc>,
    /// An agent turns a request into a plan of its own.
    #[serde(default)]
    pub decompose: Option<DecomposeDoc>,
    /// What the agent is asked.
    #[serde(default)]
    pub prompt: Option<Template>,
    /// Steps that come before.
    #[serde(default, alias = "depends_on")]
    pub needs: OneOrMany<String>,
    /// Whether to run at all. Knows `always()`, `success()`, `failure()` and `cancelled()`.
    #[serde(default, rename = "if")]
    pub condition: Option<Condition>,
    /// Wall time of one attempt.
    #[serde(default)]
    pub timeout: Option<Span>,
    /// How often it may be tried.
    #[serde(default)]
    #[schemars(range(min = 1, max = 20))]
    pub attempts: Option<u32>,
    /// Model turns per attempt.
    #[serde(default, alias = "max_turns")]
    #[schemars(range(min = 1, max = 10000))]
    pub max_steps: Option<u32>,
    /// Money and tokens for this step, over all its attempts.
    #[serde(default)]
    pub budget: Option<BudgetDoc>,
    /// A termination condition for this step.
    #[serde(default)]
    pub stop: Option<StopText>,
    /// Which scenario chooses the model.
    #[serde(default)]
    pub scenario: Option<ScenarioName>,
    /// The model itself, by its name in `config.yml`.
    #[serde(default)]
    pub model: Option<ModelName>,
    /// Who does the work: another agent or a plain program. Default: the mode's, else `native`.
    #[serde(default)]
    pub backend: Option<super::kinds::BackendName>,
    /// What `backend: exec` runs: the program and its arguments. What it changes is judged as an agent's change is.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// Ways to a better answer; takes the place of what the mode says.
    #[serde(default)]
    pub quality: Option<super::quality::QualityDoc>,
    /// Tools on offer; within what the mode offers.
    #[serde(default)]
    pub tools: Option<Vec<ToolName>>,
    /// What is shown of the conversation, in place of what the mode says: processors, in order.
    #[serde(default)]
    pub history: Option<Vec<HistoryDoc>>,
    /// What the answer has to look like.
    #[serde(default)]
    pub output: Option<OutputDoc>,
    /// Checks that its work must pass.
    #[serde(default)]
    pub gates: OneOrMany<GateName>,
    /// What its failure does.
    #[serde(default)]
    pub on_failure: Option<OnFailureDoc>,
    /// A bounded jump after it ran.
    #[serde(default)]
    pub then: Option<GotoDoc>,
    /// Whether all or any of `needs` must have succeeded.
    #[serde(default)]
    pub activation: Option<Activation>,
    /// `false`: it gets the workspace read-only.
    #[serde(default)]
    pub writes: Option<bool>,
    /// What a conflict does where copies are joined.
    #[serde(default)]
    pub on_conflict: Option<OnMergeConflictDoc>,
    /// Variables for its commands.
    #[serde(default)]
    pub env: BTreeMap<String, Scalar>,
}

/// A condition: an expression, or plainly `true` or `false`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum Condition {
    /// Always or never.
    Fixed(bool),
    /// An expression.
    Expression(Expression),
}

/// A bounded jump.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GotoDoc {
    /// The step to start again from.
    pub goto: String,
    /// How often at most.
    #[serde(default)]
    #[schemars(range(min = 1, max = 100))]
    pub max_iterations: Option<u32>,
}

/// What a failure does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum OnFailureDoc {
    /// Fail or go on.
    Word(OnFailureWord),
    /// Start again from another step.
    Goto(GotoDoc),
}

/// What a failure does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailureWord {
    /// The run fails.
    Fail,
    /// The run goes on.
    Continue,
}

/// Who settles a conflict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OnMergeConflictDoc {
    /// An agent in this mode.
    pub mode: ModeName,
}

/// What an answer has to look like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputDoc {
    /// A schema's name, or a JSON Schema in place.
    pub schema: SchemaChoice,
}

/// A schema by name or in place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum SchemaChoice {
    /// By name.
    Named(String),
    /// In place.
    InPlace(serde_json::Map<String, Value>),
}

/// Waiting for a person.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveDoc {
    /// What is asked.
    #[serde(default)]
    pub message: Option<Template>,
    /// Who may answer.
    #[serde(default)]
    pub from: Vec<String>,
    /// How many must agree.
    #[serde(default)]
    #[schemars(range(min = 1, max = 64))]
    pub count: Option<u32>,
}

/// A plan made by an agent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecomposeDoc {
    /// The agent's mode.
    #[serde(default)]
    pub mode: Option<ModeName>,
    /// At most so many steps.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1000))]
    pub max_steps: Option<u32>,
}

/// A check of the workspace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GateDoc {
    /// The command; it passes with exit code 0. Never templated.
    pub run: Shell,
    /// Wall time. Default: 10m.
    #[serde(default)]
    pub timeout: Option<Span>,
    /// What a failure does. Default: retry, while the step has attempts left.
    #[serde(default)]
    pub on_fail: Option<OnGateFail>,
    /// `base`: the files under `paths` are first restored from the base, then the candidate's own are checked too.
    #[serde(default)]
    pub from: Option<GateFrom>,
    /// The files that `from: base` restores.
    #[serde(default)]
    pub paths: OneOrMany<Glob>,
}

/// Whose files a gate runs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GateFrom {
    /// The base's first, then the candidate's.
    Base,
    /// The candidate's.
    Candidate,
}

/// What is handed over: a form, or a form with details.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum DeliverChoice {
    /// The form.
    Kind(DeliverKind),
    /// With details.
    Detailed(Box<DeliverDoc>),
}

impl DeliverChoice {
    /// The form of a run that a CI job or a server started; `None`: that follows from the steps.
    pub fn kind(&self) -> Option<DeliverKind> {
        match self {
            Self::Kind(kind) => Some(*kind),
            Self::Detailed(doc) => doc.kind,
        }
    }
}

/// What is handed over.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeliverDoc {
    /// The form.
    #[serde(default, rename = "as")]
    pub kind: Option<DeliverKind>,
    /// The form of a run that no CI job and no server started: on a laptop. `--deliver` beats both. Default: `as`.
    #[serde(default)]
    pub otherwise: Option<DeliverKind>,
    /// Branch name.
    #[serde(default)]
    pub branch: Option<Template>,
    /// Title, or subject of the commit.
    #[serde(default)]
    pub title: Option<Template>,
    /// Body.
    #[serde(default)]
    pub body: Option<Template>,
    /// Whether a pull request begins as a draft.
    #[serde(default)]
    pub draft: Option<bool>,
    /// Labels.
    #[serde(default)]
    pub labels: OneOrMany<Label>,
    /// Who is asked for a review: accounts, `organisation/team`, or `codeowners` for those whom CODEOWNERS names.
    #[serde(default)]
    pub reviewers: OneOrMany<Account>,
    /// Who it is given to.
    #[serde(default)]
    pub assignees: OneOrMany<Account>,
    /// The title of its milestone.
    #[serde(default)]
    pub milestone: Option<Label>,
    /// When to deliver. Default: gates_passed.
    #[serde(default)]
    pub when: Option<DeliverWhen>,
    /// Whether an `issue` is closed when nothing is left in it. Default: true.
    #[serde(default)]
    pub close_when_clean: Option<bool>,
    /// What an empty change means. Default: ok where no step writes by a model, else fail.
    #[serde(default)]
    pub if_no_changes: Option<IfNoChanges>,
}

/// What an empty change means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IfNoChanges {
    /// A quiet success.
    Ok,
    /// The request was not carried out.
    Fail,
}
