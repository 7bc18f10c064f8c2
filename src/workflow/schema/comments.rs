//! What comments may ask for, as written.

use super::kinds::{ModelName, Name, OneOrMany, PolicyName, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The commands that the program answers itself. No workflow's command may have such a name.
pub const RESERVED: [&str; 7] = ["help", "status", "cancel", "retry", "approve", "deny", "explain"];
/// How long a quote can be approved where nobody says, in milliseconds: seven days.
pub const APPROVAL_EXPIRES_MS: i64 = 7 * 24 * 3_600_000;
/// Answers to one person in an hour where nobody says.
pub const ANSWERS_PER_HOUR: u32 = 20;

/// What comments may ask for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommentsDoc {
    /// The command that free text after `mention` starts (`ask`). Without it, mentions are only words.
    #[serde(default)]
    pub free_text: Option<Name>,
    /// What free text begins with. Default: `@codeforge`.
    #[serde(default)]
    #[schemars(regex(pattern = r"^@[A-Za-z0-9][A-Za-z0-9_-]*$"))]
    pub mention: Option<String>,
    /// Short words: `review: review` lets `/review` stand for the command `review`.
    #[serde(default)]
    pub aliases: BTreeMap<Name, Name>,
    /// What a comment may set for one run.
    #[serde(default)]
    pub settings: Option<RunSettingsDoc>,
    /// Answers to one person in one hour, from 1. Default: 20. What comes after them is done, and not answered.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1000))]
    pub answers_per_hour: Option<u32>,
    /// How long a quote can be approved. Default: 7d.
    #[serde(default)]
    pub approval_expires: Option<Span>,
}

/// What a comment may set for one run. Its cost can always be lowered.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunSettingsDoc {
    /// The policies that `policy=` may name. Default: none.
    #[serde(default)]
    pub policy: OneOrMany<PolicyName>,
    /// The models that `model=` may name. Default: none.
    #[serde(default)]
    pub model: OneOrMany<ModelName>,
    /// How far `max_cost_usd=` may raise the workflow's own budget, in US dollars. Default: not at all.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub max_cost_usd: Option<f64>,
}
