//! Modes, policies and the project's configuration, as written.

use super::docs::{DeliverChoice, GateDoc, OutputDoc, ResourcesDoc, SandboxDoc};
use super::kinds::{
    Glob, Label, ModelName, Name, OneOrMany, Person, PolicyName, ScenarioName, SecretRef, Shell, Span, StopText,
    ToolGlob, ToolName, Url,
};
use super::memory::{ExperienceDoc, HistoryDoc, ModeExperienceDoc, RecommendDoc};
use crate::model::exec::ExecMode;
use crate::model::finding::Level;
use crate::model::ignore::Ignore;
use crate::model::plan::Convention;
use crate::model::policy::Decision;
use crate::model::usage::Price;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A mode: a specialised agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "CodeForge mode")]
pub struct ModeDoc {
    /// The mode's name; the file's name without its ending.
    pub name: Name,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// Which scenario chooses its model. Default: `default`.
    #[serde(default)]
    pub scenario: Option<ScenarioName>,
    /// Who does the work: another agent. Default: `native`.
    #[serde(default)]
    pub backend: Option<super::kinds::BackendName>,
    /// How much a person is asked.
    #[serde(default)]
    pub autonomy: Option<Autonomy>,
    /// Tools on offer; `finish` is always among them.
    pub tools: Vec<ToolName>,
    /// `true`: no writing tool, the workspace read-only. Default: whether no writing tool is listed.
    #[serde(default)]
    pub read_only: Option<bool>,
    /// The prompt's file under `prompts/`.
    #[serde(default)]
    pub prompt_template: Option<String>,
    /// The prompt itself, where it has no file.
    #[serde(default)]
    pub prompt: Option<super::kinds::Template>,
    /// Model turns per attempt.
    #[serde(default, alias = "max_turns")]
    #[schemars(range(min = 1, max = 10000))]
    pub max_steps: Option<u32>,
    /// Wall time of one attempt.
    #[serde(default)]
    pub timeout: Option<Span>,
    /// US dollars for one step in this mode.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub max_cost_usd: Option<f64>,
    /// A termination condition.
    #[serde(default)]
    pub stop: Option<StopText>,
    /// What the model is shown of the repository.
    #[serde(default)]
    pub context: Option<ContextDoc>,
    /// What is shown of the conversation: processors, in order.
    #[serde(default)]
    pub history: Vec<HistoryDoc>,
    /// Offer only the tools that fit the task best, where there are many.
    #[serde(default)]
    pub tools_recommend: Option<RecommendDoc>,
    /// How its steps learn from earlier runs. Default: the configuration's.
    #[serde(default)]
    pub experience: Option<ModeExperienceDoc>,
    /// Ways to a better answer, for steps that say nothing of it.
    #[serde(default)]
    pub quality: Option<super::quality::QualityDoc>,
    /// What the mode itself forbids.
    #[serde(default)]
    pub safety: Option<SafetyDoc>,
    /// What the answer has to look like.
    #[serde(default)]
    pub output: Option<OutputDoc>,
    /// What a run of this mode alone hands over.
    #[serde(default)]
    pub deliver: Option<DeliverChoice>,
}

/// How much a person is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Autonomy {
    /// At every step.
    Supervised,
    /// For destructive actions.
    SemiAuto,
    /// For shell and delivery.
    AutoEdit,
    /// Never.
    FullAuto,
    /// Never; the policy answers in the person's place.
    Headless,
}

/// What the model is shown of the repository.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContextDoc {
    /// Tokens for it.
    #[serde(default)]
    pub budget_tokens: Option<u64>,
    /// Tokens to keep free.
    #[serde(default)]
    pub reserve_tokens: Option<u64>,
    /// Where it comes from.
    #[serde(default)]
    pub sources: Vec<ContextSource>,
}

/// Where context comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContextSource {
    /// A map of the repository.
    RepoMap,
    /// A search index.
    Retrieval,
    /// The graph of symbols.
    Graph,
    /// What the team shares.
    Shared,
}

/// What a mode forbids.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SafetyDoc {
    /// Word-aligned command globs.
    #[serde(default)]
    pub blocked_commands: Vec<String>,
}

/// A policy: which tool calls may run. The first matching rule wins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "CodeForge policy")]
pub struct PolicyDoc {
    /// The policy's name; the file's name without its ending. Not needed in place.
    #[serde(default)]
    pub name: Option<Name>,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// The rules, first match wins.
    #[serde(default)]
    pub rules: Vec<RuleDoc>,
    /// Where no rule matches. Default: deny.
    #[serde(default)]
    pub default: Option<Decision>,
    /// Globs that no agent may write and no delivery may carry.
    #[serde(default)]
    pub protected_paths: Vec<Glob>,
    /// Gates before delivery.
    #[serde(default)]
    pub gates: Option<PolicyGatesDoc>,
    /// Limits, each of which can only tighten.
    #[serde(default)]
    pub limits: Option<LimitsDoc>,
    /// Limits of the sandbox.
    #[serde(default)]
    pub resources: Option<ResourcesDoc>,
    /// The only execution mode it is meant for.
    #[serde(default)]
    pub exec_mode: Option<ExecMode>,
    /// How much a person is asked.
    #[serde(default)]
    pub autonomy: Option<Autonomy>,
    /// A termination condition for agents' steps.
    #[serde(default)]
    pub stop: Option<StopText>,
}

/// A rule. It matches when its tool and, where given, a path and a command match.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleDoc {
    /// Tool names or globs.
    pub tool: OneOrMany<ToolGlob>,
    /// Path globs.
    #[serde(default)]
    pub path: OneOrMany<Glob>,
    /// Word-aligned command globs: `cargo test*`.
    #[serde(default)]
    pub command: OneOrMany<String>,
    /// What it decides.
    pub decision: Decision,
    /// Why, in a few words.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Gates that a policy requires.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyGatesDoc {
    /// Gates that must have passed on the final tree before delivery.
    #[serde(default)]
    pub require: Vec<Name>,
    /// A failed gate always restores the step's snapshot.
    #[serde(default)]
    pub rollback_on_fail: bool,
}

/// Limits.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsDoc {
    /// Model turns per attempt of a step.
    #[serde(default, alias = "max_turns")]
    #[schemars(range(min = 1, max = 10000))]
    pub max_steps: Option<u32>,
    /// Wall time of the run.
    #[serde(default)]
    pub timeout: Option<Span>,
    /// US dollars for the run.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub max_cost_usd: Option<f64>,
    /// US dollars for one step, over all its attempts.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub max_cost_per_step_usd: Option<f64>,
    /// Tokens for the run.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub max_tokens: Option<u64>,
    /// Files that the delivery may touch.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1000000))]
    pub max_file_changes: Option<u32>,
    /// When a step counts as stalled.
    #[serde(default)]
    pub stall: Option<StallDoc>,
    /// A termination condition.
    #[serde(default)]
    pub stop: Option<StopText>,
}

/// When a step counts as stalled.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StallDoc {
    /// Repeats of one tool call with one result.
    #[schemars(range(min = 2, max = 1000))]
    pub threshold: u32,
}

/// The project's configuration: `.codeforge/config.yml`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "CodeForge configuration")]
pub struct ConfigDoc {
    /// Files to begin with; what stands here wins. Relative to this file.
    #[serde(default)]
    pub extends: OneOrMany<String>,
    /// Models by name.
    #[serde(default)]
    pub models: IndexMap<String, ModelDoc>,
    /// Which models a scenario may use, in order of preference.
    #[serde(default)]
    pub scenarios: IndexMap<String, OneOrMany<ModelName>>,
    /// A request of more estimated tokens goes to the models of the scenario `longContext`. Default: 60000.
    #[serde(default)]
    #[schemars(range(min = 1000))]
    pub long_context_tokens: Option<u64>,
    /// The policy of workflows that name none. Default: headless-safe-sandbox.
    #[serde(default)]
    pub policy: Option<PolicyName>,
    /// The repository's own checks, which workflows and policies refer to by name.
    #[serde(default)]
    pub gates: BTreeMap<Name, GateDoc>,
    /// The repository's own commands for workflows: the command `lint-fix` reaches every step as the variable
    /// `COMMAND_LINT_FIX`.
    #[serde(default)]
    pub commands: BTreeMap<Name, Shell>,
    /// Money.
    #[serde(default)]
    pub budget: Option<ConfigBudgetDoc>,
    /// Where tools run.
    #[serde(default)]
    pub sandbox: Option<SandboxDoc>,
    /// The code host.
    #[serde(default)]
    pub forge: Option<ForgeDoc>,
    /// What is handed over.
    #[serde(default)]
    pub delivery: Option<DeliveryDoc>,
    /// How reviews are written.
    #[serde(default)]
    pub review: Option<ReviewDoc>,
    /// How CI jobs end.
    #[serde(default)]
    pub ci: Option<CiDoc>,
    /// What comments may ask for.
    #[serde(default)]
    pub comments: Option<super::comments::CommentsDoc>,
    /// Branches whose configuration is trusted.
    #[serde(default)]
    pub trusted_branches: Vec<String>,
    /// Globs that no agent may write and no delivery may carry, beside the policy's.
    #[serde(default)]
    pub protected_paths: Vec<Glob>,
    /// What happens to data.
    #[serde(default)]
    pub data: Option<DataDoc>,
    /// How steps learn from earlier runs of this repository; off where it is not set.
    #[serde(default)]
    pub experience: Option<ExperienceDoc>,
    /// Telemetry of our own; off where it is not set.
    #[serde(default)]
    pub telemetry: Option<TelemetryDoc>,
    /// What outlives a CI runner, which forgets.
    #[serde(default)]
    pub state: Option<StateDoc>,
}

/// What outlives a CI runner: money spent per change, person and day, findings, experience. Only runs of a trusted branch
/// write it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StateDoc {
    /// Where it is. Default: none.
    #[serde(default)]
    pub store: Option<StateStore>,
    /// The folder that the CI system's cache brings and takes, for `cache`. Default: $CODEFORGE_STATE_DIR.
    #[serde(default)]
    pub path: Option<String>,
    /// The branch that holds it, for `branch`. Default: codeforge/state.
    #[serde(default)]
    pub branch: Option<String>,
}

/// Where a runner's state is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StateStore {
    /// Nowhere: each job begins anew.
    #[default]
    None,
    /// In a folder that the CI system's cache restores.
    Cache,
    /// On a branch of the repository.
    Branch,
}

/// A model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelDoc {
    /// Who serves it: `openai` and `anthropic` also stand for any server that speaks their protocol.
    pub provider: Provider,
    /// The provider's own name for it.
    pub model: String,
    /// Base URL, up to and with `/v1`. Default: the provider's own; Azure has none.
    #[serde(default)]
    pub base_url: Option<Url>,
    /// Azure's `api-version`. Default: 2024-10-21 below `/openai/deployments/`, none elsewhere.
    #[serde(default)]
    pub api_version: Option<String>,
    /// Where the key is: `env://NAME`, never the key itself.
    #[serde(default)]
    pub api_key: Option<SecretRef>,
    /// Price in US dollars per million tokens.
    #[serde(default)]
    pub price: Option<Price>,
    /// Context window, in tokens. Default: 128000.
    #[serde(default)]
    #[schemars(range(min = 1000))]
    pub context_window: Option<u64>,
    /// Longest answer, in tokens. Default: 8192.
    #[serde(default)]
    #[schemars(range(min = 16))]
    pub max_output: Option<u64>,
    /// Whether it can call functions. Default: true.
    #[serde(default)]
    pub tools: Option<bool>,
    /// How much it is to think before it answers, where it can. Default: as the provider has it.
    #[serde(default)]
    pub reasoning: Option<Effort>,
    /// For people and for choosing; a LiteLLM proxy is sent them, and routes by them.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// How much a model is to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Effort {
    /// A little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
}

impl Effort {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// Who serves a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// OpenAI, or any server that speaks its protocol.
    Openai,
    /// Anthropic, or any server that speaks its protocol.
    Anthropic,
    /// OpenAI's models at Azure.
    Azure,
    /// A LiteLLM proxy.
    Litellm,
    /// OpenRouter.
    Openrouter,
    /// Ollama.
    Ollama,
    /// vLLM.
    Vllm,
    /// LM Studio.
    Lmstudio,
}

impl Provider {
    /// Its name in a document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Anthropic => "anthropic",
            Self::Azure => "azure",
            Self::Litellm => "litellm",
            Self::Openrouter => "openrouter",
            Self::Ollama => "ollama",
            Self::Vllm => "vllm",
            Self::Lmstudio => "lmstudio",
        }
    }
}

/// Money.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigBudgetDoc {
    /// US dollars for one model call.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub per_call_usd: Option<f64>,
    /// US dollars for one step, over all its attempts.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub per_step_usd: Option<f64>,
    /// US dollars for one run.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub per_run_usd: Option<f64>,
    /// US dollars for one change, over all its runs.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub per_change_usd: Option<f64>,
    /// US dollars for one person and day (UTC).
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub per_actor_per_day_usd: Option<f64>,
    /// US dollars for one workflow and day (UTC).
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub per_workflow_per_day_usd: Option<f64>,
    /// US dollars for one day (UTC).
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub per_day_usd: Option<f64>,
    /// Tokens for one run: the cap for models without a price.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub per_run_tokens: Option<u64>,
}

/// How CI jobs end.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CiDoc {
    /// What a provider, forge or sandbox that is unavailable after retries means. Default: fail.
    #[serde(default)]
    pub on_unavailable: Option<OnUnavailableDoc>,
}

/// What being unavailable means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnUnavailableDoc {
    /// Exit code 5.
    Fail,
    /// Neither good nor bad: exit code 0, said loudly.
    Neutral,
}

/// The code host.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgeDoc {
    /// Which one.
    #[serde(default)]
    pub kind: Option<ForgeKind>,
    /// Its address, where it is not the public one.
    #[serde(default)]
    pub url: Option<Url>,
    /// Who we are there.
    #[serde(default)]
    pub bot: Option<BotDoc>,
}

/// A code host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ForgeKind {
    /// Found from the remote and the environment.
    Auto,
    /// GitHub.
    Github,
    /// GitLab.
    Gitlab,
    /// Gitea and Forgejo.
    Gitea,
    /// None: git alone.
    Local,
}

/// Who commits and comments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BotDoc {
    /// Its name.
    pub name: String,
    /// Its address.
    #[serde(default)]
    pub email: Option<String>,
}

/// Deliveries of all workflows.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeliveryDoc {
    /// Whether pull requests begin as drafts.
    #[serde(default)]
    pub draft: Option<bool>,
    /// When a pull request that would begin as a draft is ready at once. Default: never.
    #[serde(default)]
    pub ready: Option<ReadyDoc>,
    /// How many open changes of ours there may be.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10000))]
    pub open_changes_limit: Option<u32>,
    /// How many changes of ours may be opened within an hour.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10000))]
    pub changes_per_hour: Option<u32>,
    /// How titles of changes and commits are written. Default: auto, as the branch's last 50 commits are.
    #[serde(default)]
    pub convention: Option<Convention>,
    /// Whether commits end with `Signed-off-by:` of the account `forge.bot`, which needs its address. Default: false.
    #[serde(default)]
    pub sign_off: Option<bool>,
    /// Whom commits name in `Co-authored-by:`.
    #[serde(default)]
    pub co_authors: OneOrMany<Person>,
    /// What is left alone.
    #[serde(default)]
    pub ignore: Option<IgnoreDoc>,
}

/// When a pull request is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReadyDoc {
    /// When a person says so.
    Never,
    /// When every required gate passed on what is delivered.
    GatesPassed,
}

/// How reviews are written.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReviewDoc {
    /// How many remarks stand at lines; the comment sums up the rest. Default: 20.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub max_remarks: Option<u32>,
    /// The least severity of a remark at a line. Default: low, which is any.
    #[serde(default)]
    pub min_severity: Option<Level>,
}

/// Changes that are left alone.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IgnoreDoc {
    /// Drafts.
    #[serde(default)]
    pub drafts: bool,
    /// Changes that a program opened or pushed to.
    #[serde(default)]
    pub bots: bool,
    /// Changes with one of these labels.
    #[serde(default)]
    pub labels: OneOrMany<Label>,
}

impl IgnoreDoc {
    /// What is meant.
    pub fn meant(&self) -> Ignore {
        let labels = self.labels.as_slice().iter().map(|label| label.0.clone()).collect();
        Ignore { drafts: self.drafts, bots: self.bots, labels }
    }
}

/// What happens to data.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataDoc {
    /// How long runs are kept.
    #[serde(default)]
    pub retention: Option<Span>,
    /// Files whose content no model is sent.
    #[serde(default)]
    pub never_send: Vec<Glob>,
}

/// Telemetry.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TelemetryDoc {
    /// Where traces go.
    #[serde(default)]
    pub otlp_endpoint: Option<Url>,
}
