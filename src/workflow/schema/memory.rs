//! What is shown of a conversation, which tools are offered, and what is learnt from earlier runs, as written.

use super::kinds::{Pattern, Span, ToolName};
use crate::model::experience::{ExperienceSpec, Weights};
use crate::model::history::Processor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A processor of the conversation: `closed_windows`, `last_observations: 5`, `token_limit: 100000`, …
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum HistoryDoc {
    /// One without a value.
    Word(HistoryWord),
    /// One with a value.
    Rule(HistoryRule),
}

/// A processor without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HistoryWord {
    /// Views of files become stubs once the file is edited or viewed again.
    ClosedWindows,
    /// Mark what the provider may cache.
    CacheControl,
}

/// A processor with a value: exactly one of these keys.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HistoryRule {
    /// Keep so many results of tools in full; older ones become stubs.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1000))]
    pub last_observations: Option<u32>,
    /// Leave out of every tool result what this regular expression matches.
    #[serde(default)]
    pub remove: Option<Pattern>,
    /// A strategy: keep the last so many turns.
    #[serde(default)]
    #[schemars(range(min = 1, max = 10000))]
    pub buffered: Option<u32>,
    /// A strategy: keep the request below so many tokens.
    #[serde(default)]
    #[schemars(range(min = 1000))]
    pub token_limit: Option<u64>,
    /// A strategy: keep the first and the last turns.
    #[serde(default)]
    pub head_and_tail: Option<HeadAndTailDoc>,
}

/// How many turns stay at the beginning and at the end.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeadAndTailDoc {
    /// Turns at the beginning.
    #[schemars(range(min = 1, max = 10000))]
    pub head: u32,
    /// Turns at the end.
    #[schemars(range(min = 1, max = 10000))]
    pub tail: u32,
}

impl HistoryDoc {
    /// As it is carried out. Where several keys stand (a problem already) the first one counts.
    pub fn processor(&self) -> Option<Processor> {
        let rule = match self {
            Self::Word(HistoryWord::ClosedWindows) => return Some(Processor::ClosedWindows),
            Self::Word(HistoryWord::CacheControl) => return Some(Processor::CacheControl),
            Self::Rule(rule) => rule,
        };
        None.or(rule.last_observations.map(|keep| Processor::LastObservations(keep as usize)))
            .or(rule.remove.as_ref().map(|pattern| Processor::Remove(pattern.0.clone())))
            .or(rule.buffered.map(|keep| Processor::Buffered(keep as usize)))
            .or(rule.token_limit.map(Processor::TokenLimit))
            .or(rule
                .head_and_tail
                .as_ref()
                .map(|both| Processor::HeadAndTail { head: both.head as usize, tail: both.tail as usize }))
    }
}

/// When only a part of the tools is offered: the best for the task, by their descriptions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecommendDoc {
    /// Only where there are more tools than this.
    #[schemars(range(min = 1, max = 10000))]
    pub above: u32,
    /// How many are offered, beside `finish` and `always`.
    #[schemars(range(min = 1, max = 10000))]
    pub keep: u32,
    /// Tools that are offered whatever the task is.
    #[serde(default)]
    pub always: Vec<ToolName>,
}

/// How steps learn from earlier runs of this repository.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExperienceDoc {
    /// Whether they do. Default: no.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// The least score of what is shown. Default: 0.6.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1))]
    pub threshold: Option<f64>,
    /// How many are shown at most. Default: 3.
    #[serde(default)]
    #[schemars(range(min = 1, max = 20))]
    pub keep: Option<u32>,
    /// How many tokens they may take together. Default: 1500.
    #[serde(default)]
    #[schemars(range(min = 100, max = 50000))]
    pub max_tokens: Option<u64>,
    /// How many the pool holds. Default: 500.
    #[serde(default)]
    #[schemars(range(min = 1, max = 10000))]
    pub max_entries: Option<u32>,
    /// After what time half of an entry's recency is gone. Default: 30d.
    #[serde(default)]
    pub half_life: Option<Span>,
    /// What counts how much in a score. Default: 0.5, 0.3 and 0.2.
    #[serde(default)]
    pub weights: Option<WeightsDoc>,
}

/// What counts how much in a score. The three come to 1.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightsDoc {
    /// How much the tasks' words are alike.
    #[schemars(range(min = 0, max = 1))]
    pub semantic: f64,
    /// How lately it was.
    #[schemars(range(min = 0, max = 1))]
    pub recency: f64,
    /// How much there was to learn.
    #[schemars(range(min = 0, max = 1))]
    pub importance: f64,
}

/// What a mode has otherwise than the configuration.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModeExperienceDoc {
    /// Whether its steps learn from earlier runs, and leave something for later ones.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// The least score of what is shown.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1))]
    pub threshold: Option<f64>,
    /// How many are shown at most.
    #[serde(default)]
    #[schemars(range(min = 1, max = 20))]
    pub keep: Option<u32>,
    /// How many tokens they may take together.
    #[serde(default)]
    #[schemars(range(min = 100, max = 50000))]
    pub max_tokens: Option<u64>,
}

/// What holds for a mode's steps; `None`: they do not learn.
pub fn experience(config: Option<&ExperienceDoc>, mode: Option<&ModeExperienceDoc>) -> Option<ExperienceSpec> {
    let (config, mode) = (config.cloned().unwrap_or_default(), mode.cloned().unwrap_or_default());
    if !mode.enabled.or(config.enabled).unwrap_or(false) {
        return None;
    }
    let usual = ExperienceSpec::default();
    let keep = mode.keep.or(config.keep).map(|keep| keep as usize);
    let half_life = config.half_life.as_ref().and_then(|span| super::values::duration_ms(&span.0).ok());
    Some(ExperienceSpec {
        threshold: mode.threshold.or(config.threshold).unwrap_or(usual.threshold),
        keep: keep.unwrap_or(usual.keep),
        max_tokens: mode.max_tokens.or(config.max_tokens).unwrap_or(usual.max_tokens),
        max_entries: config.max_entries.map_or(usual.max_entries, |most| most as usize),
        half_life_ms: half_life.unwrap_or(usual.half_life_ms),
        weights: config.weights.map_or(usual.weights, |it| Weights {
            semantic: it.semantic,
            recency: it.recency,
            importance: it.importance,
        }),
    })
}
