//! Ways to a better answer than a model's first one, on a single step.

use serde::{Deserialize, Serialize};

/// What is done; each is off until it is asked for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Quality {}
