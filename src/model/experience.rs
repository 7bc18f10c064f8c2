//! What a step of an earlier run did, kept for later steps with a similar task.

use super::id::{RunId, StepId};
use serde::{Deserialize, Serialize};

/// What one agent step of a run that ended well did. Bounded in size, without secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Experience {
    /// Its name: `RUN.STEP`.
    pub id: String,
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: StepId,
    /// The mode that the agent worked in; only steps in the same mode get it.
    pub mode: String,
    /// When it was kept, milliseconds since 1970.
    pub at_ms: i64,
    /// The task's text, shortened.
    pub task: String,
    /// The agent's closing words, shortened.
    pub conclusion: String,
    /// Files it changed.
    #[serde(default)]
    pub files: Vec<String>,
    /// Commands of its own that ended with 0, in order.
    #[serde(default)]
    pub commands: Vec<String>,
    /// The gates that its work passed.
    #[serde(default)]
    pub gates: Vec<String>,
    /// How much there was to learn, from 0 to 1.
    pub importance: f64,
}

/// What a step is shown of the pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recalled {
    /// Its score, from 0 to 1.
    pub score: f64,
    /// What is shown.
    pub experience: Experience,
}

/// How a step uses the pool of experience.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExperienceSpec {
    /// The least score, from 0 to 1, of what is shown.
    pub threshold: f64,
    /// How many are shown at most.
    pub keep: usize,
    /// How many estimated tokens they may take together.
    pub max_tokens: u64,
    /// How many the pool holds; beyond it those of the least worth go.
    pub max_entries: usize,
    /// After how many milliseconds half of an entry's recency is gone.
    pub half_life_ms: u64,
    /// What counts how much.
    pub weights: Weights,
}

impl Default for ExperienceSpec {
    fn default() -> Self {
        Self {
            threshold: 0.6,
            keep: 3,
            max_tokens: 1_500,
            max_entries: 500,
            half_life_ms: 30 * 24 * 60 * 60 * 1000,
            weights: Weights::default(),
        }
    }
}

/// What counts how much in a score. The three come to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Weights {
    /// How much the tasks' words are alike.
    pub semantic: f64,
    /// How lately it was.
    pub recency: f64,
    /// How much there was to learn.
    pub importance: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { semantic: 0.5, recency: 0.3, importance: 0.2 }
    }
}

/// How far the weights' sum may be from 1.
const SUM_TOLERANCE: f64 = 1e-6;

impl Weights {
    /// What they come to.
    pub fn sum(&self) -> f64 {
        self.semantic + self.recency + self.importance
    }

    /// Whether none is below 0 and they come to 1.
    pub fn are_shares(&self) -> bool {
        [self.semantic, self.recency, self.importance].iter().all(|share| (0.0..=1.0).contains(share))
            && (self.sum() - 1.0).abs() <= SUM_TOLERANCE
    }
}
