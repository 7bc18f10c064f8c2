//! Ways to a better answer than a model's first one, on a single step.

use super::chat::ModelRef;
use super::journal::{Purpose, Side};
use serde::{Deserialize, Serialize};

/// What is done; each is off until it is asked for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Quality {
    /// Several answers for each turn, of which one is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action_sampling: Option<ActionSampling>,
    /// Several whole attempts, of which one is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_of: Option<BestOf>,
    /// Another model that accepts or rejects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guardrail: Option<Guardrail>,
    /// A debate before the first turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debate: Option<Debate>,
}

impl Quality {
    /// Whether nothing is done.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whom a call of this purpose goes to; `None`: to the agent itself, or to one of two that judge at this step.
    pub fn voice_of(&self, purpose: &Purpose) -> Option<&Voice> {
        let debate = self.debate.as_ref();
        let judge = self.action_sampling.as_ref().map(|sampling| &sampling.judge);
        let reviewer = self.best_of.as_ref().map(|best| &best.reviewer);
        match purpose {
            Purpose::Turn | Purpose::Sample(_) | Purpose::Gateway(_) => None,
            Purpose::Choose => judge.xor(reviewer),
            Purpose::Guard => self.guardrail.as_ref().map(|guard| &guard.guard),
            Purpose::Speech { side: Side::Pro, .. } => debate.map(|debate| &debate.pro),
            Purpose::Speech { side: Side::Con, .. } => debate.map(|debate| &debate.con),
            Purpose::Speech { side: Side::Moderator, .. } => debate.map(|debate| &debate.moderator),
        }
    }

    /// Everyone who is asked beside the agent itself.
    pub fn voices(&self) -> impl Iterator<Item = &Voice> {
        let debate = self.debate.iter().flat_map(|debate| [&debate.pro, &debate.con, &debate.moderator]);
        (self.action_sampling.iter().map(|sampling| &sampling.judge))
            .chain(self.best_of.iter().map(|best| &best.reviewer))
            .chain(self.guardrail.iter().map(|guard| &guard.guard))
            .chain(debate)
    }
}

/// Who judges, guards or speaks.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Voice {
    /// What it is called: its mode, else its model, else its part (`judge`).
    pub name: String,
    /// The prompt of its mode: template text; empty where it has none.
    #[serde(default)]
    pub persona: String,
    /// What its part is: template text (`quality-guard.j2`, `quality-judge.j2`, …).
    pub part: String,
    /// Its model and the fallbacks, in order. Never empty.
    pub models: Vec<ModelRef>,
}

/// `action_sampling`: several answers to the same request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActionSampling {
    /// How many (2 or more).
    pub n: u32,
    /// How one of them is found where they differ.
    pub choose: ChooseBy,
    /// Temperature of the samples; `None`: the provider's default.
    pub temperature: Option<f64>,
    /// Who chooses.
    pub judge: Voice,
}

/// How one answer is made of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChooseBy {
    /// The judge compares two at a time; who wins most is taken.
    #[default]
    Pairwise,
    /// The judge writes one answer from all of them.
    Synthesise,
}

/// `best_of`: several whole attempts from the same snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BestOf {
    /// How many at most (2 or more).
    pub n: u32,
    /// How the best is found among those that pass their gates.
    pub by: BestBy,
    /// Who finds it.
    pub reviewer: Voice,
    /// A score (0 to 10) that is good enough to stop at; `None`: only the highest one is.
    pub min_score: Option<f64>,
    /// No new attempt begins with less than this left of the run's or the step's budget, in US dollars.
    pub min_budget_for_new_attempt: f64,
}

/// How the best attempt is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BestBy {
    /// The reviewer scores each, from 0 to 10; the highest wins.
    #[default]
    Score,
    /// The reviewer sees all at the end and names one.
    Choose,
}

/// `guardrail`: another model looks at what the agent does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Guardrail {
    /// Who looks.
    pub guard: Voice,
    /// At what.
    pub on: GuardOn,
    /// How many rejections go back to the agent; one more fails the attempt.
    pub max_rejections: u32,
}

/// What a guard looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GuardOn {
    /// The agent's conclusion, with the difference that it made.
    #[default]
    Conclusion,
    /// Each turn before its calls are carried out, and the conclusion.
    Turn,
}

/// `debate`: a question is argued before the agent begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Debate {
    /// How often each side speaks (1 or more).
    pub rounds: u32,
    /// Speaks for the task as it stands.
    pub pro: Voice,
    /// Speaks against it.
    pub con: Voice,
    /// Sums up and decides.
    pub moderator: Voice,
}
