//! A compiled workflow with frozen inputs: everything a run needs, so that resuming reads nothing but the journal.

use super::chat::ModelRef;
use super::exec::{DriverKind, ExecMode};
use super::id::StepId;
use super::policy::{Limits, Policy};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// A compiled workflow. Steps are in an order in which every step comes after its needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The workflow's name.
    pub workflow: String,
    /// The file it was read from; `built in` for shipped ones.
    pub file: String,
    /// SHA-256 of the workflow's text.
    pub workflow_hash: String,
    /// The inputs, checked and completed with defaults.
    pub inputs: BTreeMap<String, Value>,
    /// Inputs whose text was typed by the operator on the command line: not fenced as untrusted.
    pub trusted_inputs: Vec<String>,
    /// The event, in its fixed shape with nulls.
    pub event: Value,
    /// The steps.
    pub steps: IndexMap<StepId, PlanStep>,
    /// All gates that steps or the policy refer to, by name.
    pub gates: IndexMap<String, Gate>,
    /// The policy that judges agents' calls.
    pub policy: Policy,
    /// The run's limits: the stricter of workflow, policy, configuration and command line.
    pub limits: Limits,
    /// Shares of the budget at which to warn, ascending (`0.8`, `0.9`).
    pub warn_at: Vec<f64>,
    /// Where tools run.
    pub sandbox: SandboxSpec,
    /// Environment for commands in the sandbox.
    pub env: BTreeMap<String, String>,
    /// What to hand over at the end.
    pub deliver: DeliverSpec,
    /// How many steps may run at once.
    pub max_parallel: usize,
    /// Path globs that no agent may write and no delivery may carry (policy and configuration together).
    pub protected_paths: Vec<String>,
    /// The price that somebody said yes to, where that is the run's budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<ApprovedPrice>,
    /// Names that `trigger_key` and templates use: the delivery's key; empty: the run id is taken.
    pub key: String,
}

/// A price that somebody said yes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovedPrice {
    /// Who.
    pub by: String,
    /// What whoever wants more does, in words of ours.
    pub more: String,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanStep {
    /// Its name.
    pub id: StepId,
    /// What it does.
    pub kind: StepKind,
    /// The steps it waits for.
    pub needs: Vec<StepId>,
    /// Whether all or any of `needs` must have succeeded.
    pub activation: Activation,
    /// A condition (minijinja expression); none: `success()`.
    pub condition: Option<String>,
    /// Deadline of one attempt, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// How often it may be tried (1: once).
    pub attempts: u32,
    /// Whether it may change the workspace.
    pub writes: bool,
    /// True where a writing step may run at the same time as this one: it works on a copy of its own, joined later.
    pub own_copy: bool,
    /// The gates its work must pass, by name.
    pub gates: Vec<String>,
    /// What its failure does.
    pub on_failure: OnFailure,
    /// A jump after it succeeded.
    pub then: Option<Goto>,
    /// Limits of its own (already merged with mode and policy).
    pub limits: Limits,
    /// Variables added for its commands.
    pub env: BTreeMap<String, String>,
}

/// The kinds of steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// An agent works in a mode.
    Agent(AgentSpec),
    /// A command in the sandbox. The text is the operator's and never templated.
    Run {
        /// Shell text.
        command: String,
    },
}

/// Everything about an agent step that does not depend on the run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AgentSpec {
    /// The mode's name.
    pub mode: String,
    /// The mode's prompt: template text.
    pub system_template: String,
    /// The step's own prompt: template text.
    pub prompt: String,
    /// Names of the tools on offer, `finish` among them.
    pub tools: Vec<String>,
    /// Read-only modes get no writing tool and a read-only workspace.
    pub read_only: bool,
    /// The scenario that chose the model.
    pub scenario: String,
    /// The model and its fallbacks, in order. Empty for a plain program only.
    pub models: Vec<ModelRef>,
    /// The output's JSON Schema.
    pub output: Option<OutputSpec>,
    /// What is shown of the conversation, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<super::history::Processor>,
    /// [`super::history::Processor::LastObservations`], as journals of older versions have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_observations: Option<usize>,
    /// [`super::history::Processor::TokenLimit`], as journals of older versions have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_tokens: Option<u64>,
    /// When only a part of the tools is offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recommend: Option<super::history::Recommend>,
    /// How it learns from earlier runs; `None`: it does not, and leaves nothing for later ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experience: Option<super::experience::ExperienceSpec>,
    /// Command globs that the mode itself forbids.
    pub blocked_commands: Vec<String>,
    /// The models of the scenario `longContext`, for requests of more than `long_context_tokens`; empty: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub long_context: Vec<ModelRef>,
    /// Above so many estimated prompt tokens `long_context` is asked.
    #[serde(default)]
    pub long_context_tokens: u64,
    /// Who does the work instead of our own agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<super::backend::BackendSpec>,
    /// What is done to make the answer better than a single one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Box<super::quality::Quality>>,
}

impl AgentSpec {
    /// A model by its place: first the scenario's, then those for long requests.
    pub fn model(&self, at: usize) -> Option<&ModelRef> {
        self.models.iter().chain(&self.long_context).nth(at)
    }
}

impl AgentSpec {
    /// What is shown of the conversation, in order; also from a journal that had two numbers for it.
    pub fn processors(&self) -> Vec<super::history::Processor> {
        use super::history::Processor;
        if !self.history.is_empty() {
            return self.history.clone();
        }
        let kept = self.keep_observations.map(Processor::LastObservations);
        kept.into_iter().chain(self.history_tokens.map(Processor::TokenLimit)).collect()
    }

    /// Whether a plain program does the work: no model, no cost.
    pub fn is_plain(&self) -> bool {
        self.backend.as_ref().is_some_and(|backend| backend.dialect == super::backend::Dialect::None)
    }
}

/// A named output schema.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputSpec {
    /// Its name, `inline` where it stands in the workflow.
    pub name: String,
    /// The JSON Schema.
    pub schema: Value,
}

/// When a step with several needs becomes ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// All of them succeeded (or were skipped, but not all).
    All,
    /// One of them succeeded.
    Any,
}

/// What a step's failure does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The run fails.
    Fail,
    /// The run goes on; the step counts as failed for `if:`.
    Continue,
    /// Start again from another step.
    Goto(Goto),
}

/// A bounded jump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goto {
    /// The step to start again from; it and its descendants become pending.
    pub target: StepId,
    /// How often at most.
    pub max_iterations: u32,
}

/// A check of the workspace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// Its name.
    pub name: String,
    /// Shell text, the operator's, never templated.
    pub command: String,
    /// Deadline in milliseconds.
    pub timeout_ms: u64,
    /// What a failure does.
    pub on_fail: OnGateFail,
    /// `true`: the files under `paths` are first restored from the base tree, then the candidate's own are run too.
    pub from_base: bool,
    /// Path globs for `from_base`.
    pub paths: Vec<String>,
    /// Hash of the definition: a verdict binds it and the tree.
    pub hash: String,
}

/// What a gate's failure does; ordered by strictness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnGateFail {
    /// Report it.
    Warn,
    /// Restore, try again with the failed diff and the gate's output.
    Retry,
    /// Restore; the step fails.
    Rollback,
    /// Stop; the tree stays for inspection.
    Fail,
}

/// Where tools run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// The driver asked for.
    pub driver: DriverKind,
    /// Docker image.
    pub image: Option<String>,
    /// Copy, mount or hybrid.
    pub exec_mode: ExecMode,
    /// Hosts on the allowlist; empty: no network at all.
    pub network_allow: Vec<String>,
    /// Limits of the sandbox.
    pub resources: Resources,
    /// Commands that run once, with a network of their own; the result is cached.
    pub setup: Vec<String>,
}

/// Resource limits of a sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// Bytes of memory.
    pub memory: u64,
    /// CPUs, fractions allowed.
    pub cpus: f64,
    /// Processes and threads.
    pub pids: u32,
    /// Bytes that one file, and where it can be had the scratch space, may take.
    pub disk: u64,
}

impl Default for Resources {
    fn default() -> Self {
        Self { memory: 2 << 30, cpus: 2.0, pids: 256, disk: 4 << 30 }
    }
}

/// The forms a delivery can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DeliverKind {
    /// Nothing is handed over; the run's record stays.
    None,
    /// A patch file for `git am` and `git apply`.
    Patch,
    /// A commit on the current branch.
    CommitLocal,
    /// A commit on a branch of its own.
    Branch,
    /// A push to the triggering change's own branch.
    PushToBranch,
    /// A pull or merge request.
    #[serde(rename = "pull_request")]
    PullRequest,
    /// A comment.
    Comment,
    /// A review.
    Review,
    /// A report file.
    Report,
    /// An issue that stays current: one for each workflow and repository.
    Issue,
}

impl DeliverKind {
    /// Whether a forge makes it. (`branch` can be pushed to one, too, and is a branch without.)
    pub fn is_of_a_forge(self) -> bool {
        matches!(self, Self::PushToBranch | Self::PullRequest | Self::Comment | Self::Review | Self::Issue)
    }

    /// Whether it is words, which are published whether or not a file changed.
    pub fn speaks(self) -> bool {
        matches!(self, Self::Comment | Self::Review | Self::Report | Self::Issue)
    }

    /// Whether it goes to the triggering change, which must be open for that. (A comment may stand under any.)
    pub fn needs_an_open_change(self) -> bool {
        matches!(self, Self::PushToBranch | Self::Review)
    }
}

/// When to deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliverWhen {
    /// Every required gate passed on the final tree.
    GatesPassed,
    /// Whatever the gates said.
    Always,
    /// The last snapshot that passed its gates.
    LastGreen,
}

/// What to hand over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeliverSpec {
    /// The form.
    pub kind: DeliverKind,
    /// When.
    pub when: DeliverWhen,
    /// Branch name: template text.
    pub branch: Option<String>,
    /// Title or commit subject: template text.
    pub title: Option<String>,
    /// Body: template text.
    pub body: Option<String>,
    /// Whether an empty change fails the run (exit 1) instead of being a quiet success.
    pub fail_if_no_changes: bool,
    /// True: the run checks its delivery and writes nothing; another process makes it, out of an artifact.
    #[serde(default, skip_serializing_if = "is_false")]
    pub held: bool,
    /// Whether a pull or merge request begins as a draft.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub draft: bool,
    /// Labels of the pull or merge request, or of the issue.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Who is asked to review it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reviewers: Vec<String>,
    /// Who commits: name and address; `None`: CodeForge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<(String, String)>,
    /// How many open changes of ours there may be; `None`: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_open: Option<u32>,
    /// What else a forge is asked for.
    #[serde(default, skip_serializing_if = "ForgeSpec::is_usual")]
    pub forge: ForgeSpec,
}

/// What only a forge, or a repository's convention, has a word for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ForgeSpec {
    /// Who the pull or merge request, or the issue, is given to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub assignees: Vec<String>,
    /// The title of its milestone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub milestone: Option<String>,
    /// Whether the repository's code owners are asked for a review.
    #[serde(skip_serializing_if = "is_false")]
    pub codeowners: bool,
    /// Whether an issue stays open though nothing is left in it.
    #[serde(skip_serializing_if = "is_false")]
    pub keep_open: bool,
    /// Whether a change whose required gates all passed is no draft.
    #[serde(skip_serializing_if = "is_false")]
    pub ready_when_passed: bool,
    /// How many changes of ours may be opened within an hour; `None`: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_per_hour: Option<u32>,
    /// How titles are written.
    pub convention: Convention,
    /// Whether commits are signed off by their author.
    #[serde(skip_serializing_if = "is_false")]
    pub sign_off: bool,
    /// Who is named as co-author: `Name <address>`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub co_authors: Vec<String>,
    /// Changes that are left alone.
    pub ignore: super::ignore::Ignore,
    /// How a review is written.
    pub review: ReviewSpec,
}

impl ForgeSpec {
    /// Whether nothing was asked for.
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// How titles of changes and commits are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Convention {
    /// As the branch's last commits are.
    #[default]
    Auto,
    /// `fix(parser): keep the last field`.
    Conventional,
    /// `Keep the last field`.
    Sentence,
    /// As the workflow words them.
    AsWritten,
}

/// How a review is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ReviewSpec {
    /// How many remarks stand at lines; `None`: [`ReviewSpec::USUAL`].
    pub max_remarks: Option<u32>,
    /// The least severity of a remark at a line; `None`: any.
    pub min_level: Option<super::finding::Level>,
}

impl ReviewSpec {
    /// How many remarks stand at lines where nobody says.
    pub const USUAL: u32 = 20;

    /// How many remarks stand at lines.
    pub fn most(&self) -> u32 {
        self.max_remarks.unwrap_or(Self::USUAL)
    }
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
fn is_yes(given: &bool) -> bool {
    *given
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
fn is_false(given: &bool) -> bool {
    !*given
}
