//! The budgets that a run shares with others.

use super::compile::Compiler;
use crate::model::budget::{Scope, SharedBudget, actor_of, change_of};

impl Compiler<'_> {
    /// The scopes that the run belongs to, with their caps. A run by hand has neither change nor actor; one that is
    /// answered from a cassette costs nothing and belongs to none.
    pub(super) fn shared_budgets(&self) -> Vec<SharedBudget> {
        if self.request.allow_unpriced {
            return Vec::new();
        }
        let budget = self.library.config.budget.clone().unwrap_or_default();
        let event = &self.request.event;
        Scope::ALL
            .into_iter()
            .filter_map(|scope| {
                let (name, max_usd) = match scope {
                    Scope::Change => (change_of(event)?, budget.per_change_usd),
                    Scope::Actor => (actor_of(event)?, budget.per_actor_per_day_usd),
                    Scope::Workflow => (self.workflow.name.clone(), budget.per_workflow_per_day_usd),
                    Scope::Day => (String::new(), budget.per_day_usd),
                };
                Some(SharedBudget { scope, name, max_usd })
            })
            .collect()
    }
}
