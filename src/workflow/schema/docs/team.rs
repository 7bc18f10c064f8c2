//! Several agents, as written.

use crate::workflow::schema::kinds::{Expression, ModeName, Template};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Several agents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TeamDoc {
    /// How they work together.
    pub protocol: Protocol,
    /// Who they are.
    #[serde(default)]
    pub members: Vec<MemberDoc>,
    /// How many at once.
    #[serde(default)]
    #[schemars(range(min = 1, max = 64))]
    pub max_parallel: Option<u32>,
    /// How many rounds.
    #[serde(default)]
    #[schemars(range(min = 1, max = 100))]
    pub rounds: Option<u32>,
    /// When to stop before that.
    #[serde(default)]
    pub until: Option<Expression>,
    /// How many must agree.
    #[serde(default)]
    #[schemars(range(min = 1, max = 64))]
    pub quorum: Option<u32>,
    /// How many attempts to choose from.
    #[serde(default)]
    #[schemars(range(min = 2, max = 64))]
    pub n: Option<u32>,
    /// Who chooses.
    #[serde(default)]
    pub reviewer: Option<ModeName>,
    /// Who sums up.
    #[serde(default)]
    pub moderator: Option<ModeName>,
    /// One, two or a team.
    #[serde(default)]
    pub strategy: Option<Strategy>,
}

/// A team's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// One agent.
    Single,
    /// Two.
    Pair,
    /// All.
    Team,
}

/// How a team works together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// One after the other.
    Sequential,
    /// At once.
    Parallel,
    /// Two agents alternate.
    PingPong,
    /// The same task to all; the majority decides.
    Consensus,
    /// Pro, con and a moderator.
    Debate,
    /// Several attempts from the same snapshot; one is chosen.
    BestOf,
}

/// A member of a team.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberDoc {
    /// Its mode.
    pub mode: ModeName,
    /// What it is asked.
    #[serde(default)]
    pub prompt: Option<Template>,
}
