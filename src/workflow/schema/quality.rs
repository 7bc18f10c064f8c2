//! `quality:` of a step, or of a mode for its steps: ways to a better answer than a model's first one.

use super::kinds::{ModeName, ModelName};
use crate::model::quality::{BestBy, ChooseBy, GuardOn};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Ways to a better answer than a model's first one. Each costs further model calls, and each is off until it stands here.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QualityDoc {
    /// For each turn several answers to the same request; where they differ, a judge finds one.
    #[serde(default)]
    pub action_sampling: Option<ActionSamplingDoc>,
    /// Several whole attempts from the same snapshot; the best one is kept.
    #[serde(default)]
    pub best_of: Option<BestOfDoc>,
    /// Another model looks at what the agent did, and accepts it or sends it back.
    #[serde(default)]
    pub guardrail: Option<GuardrailDoc>,
    /// The task is argued for and against before the agent begins; the moderator's conclusion joins its prompt.
    #[serde(default)]
    pub debate: Option<DebateDoc>,
}

/// Several answers for each turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActionSamplingDoc {
    /// How many answers. Default: 3.
    #[serde(default)]
    #[schemars(range(min = 2, max = 10))]
    pub n: Option<u32>,
    /// How one is found where they differ. Default: pairwise.
    #[serde(default)]
    pub choose: ChooseBy,
    /// Temperature of the answers. Default: the provider's.
    #[serde(default)]
    #[schemars(range(min = 0, max = 2))]
    pub temperature: Option<f64>,
    /// The model that judges. Default: those of the scenario `review`.
    #[serde(default)]
    pub judge: Option<ModelName>,
}

/// Several whole attempts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BestOfDoc {
    /// How many attempts at most. Default: 3.
    #[serde(default)]
    #[schemars(range(min = 2, max = 10))]
    pub n: Option<u32>,
    /// The mode in which they are reviewed. Default: no mode's prompt, and the models of the scenario `review`.
    #[serde(default)]
    pub reviewer: Option<ModeName>,
    /// How the best one is found among those that pass their gates. Default: score.
    #[serde(default)]
    pub by: BestBy,
    /// A score that is good enough: no further attempt is made. Default: 10.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10))]
    pub min_score: Option<f64>,
    /// No new attempt begins with less than so many US dollars left of the run's or the step's budget. Default: 0.20.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub min_budget_for_new_attempt: Option<f64>,
}

/// Another model that accepts or sends back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GuardrailDoc {
    /// The mode in which it looks: its prompt and its models.
    #[serde(default)]
    pub mode: Option<ModeName>,
    /// The model that looks.
    #[serde(default)]
    pub model: Option<ModelName>,
    /// What it looks at. Default: conclusion.
    #[serde(default)]
    pub on: GuardOn,
    /// How many rejections go back to the agent; one more fails the attempt. Default: 2.
    #[serde(default)]
    #[schemars(range(min = 0, max = 20))]
    pub max_rejections: Option<u32>,
}

/// A debate before the first turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DebateDoc {
    /// How often each side speaks. Default: 2.
    #[serde(default)]
    #[schemars(range(min = 1, max = 6))]
    pub rounds: Option<u32>,
    /// Speaks for the obvious way. Default: the step's own models.
    #[serde(default)]
    pub pro: Option<VoiceDoc>,
    /// Speaks against it. Default: the step's own models.
    #[serde(default)]
    pub con: Option<VoiceDoc>,
    /// Sums up and decides. Default: the step's own models.
    #[serde(default)]
    pub moderator: Option<VoiceDoc>,
}

/// Who speaks: in a mode, or plainly a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VoiceDoc {
    /// The mode: its prompt and its models.
    #[serde(default)]
    pub mode: Option<ModeName>,
    /// The model.
    #[serde(default)]
    pub model: Option<ModelName>,
}
