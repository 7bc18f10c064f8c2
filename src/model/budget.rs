//! Budgets that a run shares with other runs: of a change, an actor, a workflow, a day.

use super::usage::NanoUsd;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// What a shared budget is counted by. Days are UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All runs of one change (pull or merge request).
    Change,
    /// All runs of one actor on one day.
    Actor,
    /// All runs of one workflow on one day.
    Workflow,
    /// All runs of one day.
    Day,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Change, Self::Actor, Self::Workflow, Self::Day];

    /// Its name in stores and JSON: `change`, `actor`, `workflow`, `day`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::Actor => "actor",
            Self::Workflow => "workflow",
            Self::Day => "day",
        }
    }

    /// The configuration's key under `budget`.
    pub fn config_key(self) -> &'static str {
        match self {
            Self::Change => "per_change_usd",
            Self::Actor => "per_actor_per_day_usd",
            Self::Workflow => "per_workflow_per_day_usd",
            Self::Day => "per_day_usd",
        }
    }

    /// Whether it begins anew each day.
    pub fn is_daily(self) -> bool {
        self != Self::Change
    }
}

/// A scope that a run belongs to, as its plan knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SharedBudget {
    /// Counted by what.
    pub scope: Scope,
    /// Whose: the change's number, the actor, the workflow; empty for the day.
    pub name: String,
    /// US dollars; `None`: counted, not capped.
    pub max_usd: Option<f64>,
}

impl SharedBudget {
    /// What it is counted under by a store, at `now_ms` (milliseconds since 1970): `2026-11-24/ada`, `42`.
    pub fn key(&self, now_ms: i64) -> String {
        match (self.scope.is_daily(), self.name.is_empty()) {
            (true, true) => day(now_ms),
            (true, false) => format!("{}/{}", day(now_ms), self.name),
            (false, _) => self.name.clone(),
        }
    }
}

/// What a run was given of a shared budget when it was admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowance {
    /// Counted by what.
    pub scope: Scope,
    /// Whose.
    pub name: String,
    /// The scope's budget.
    pub cap: NanoUsd,
    /// What other runs of the scope had spent, or reserved when they were cut.
    pub spent_before: NanoUsd,
    /// What runs of the scope that are at work may still spend.
    pub held_by_others: NanoUsd,
    /// What the run itself had spent that counts elsewhere (on an earlier day).
    pub elsewhere: NanoUsd,
    /// What the run may spend in all, what counts elsewhere included: its own budget, or less where a shared one leaves
    /// less.
    pub granted: NanoUsd,
}

impl Allowance {
    /// What of the scope's budget is used once the run has spent `spent`.
    pub fn used(&self, spent: NanoUsd) -> NanoUsd {
        self.spent_before.plus(spent.minus(self.elsewhere))
    }

    /// What this budget alone would let the run spend in all.
    pub fn left(&self) -> NanoUsd {
        self.cap.minus(self.spent_before).minus(self.held_by_others).plus(self.elsewhere)
    }

    /// Whether it leaves a run nothing that has spent `spent`.
    pub fn leaves_nothing(&self, spent: NanoUsd) -> bool {
        self.left() <= spent
    }

    /// Why nothing is left, and what to do.
    pub fn refusal(&self) -> String {
        let held = match self.held_by_others.0 {
            0 => String::new(),
            _ => format!(" and hold {} while they work", self.held_by_others),
        };
        let wait = match (self.held_by_others.0, self.scope.is_daily()) {
            (0, true) => "go on tomorrow (UTC)",
            (0, false) => "start another change",
            _ => "wait for the runs at work, or give runs a smaller `per_run_usd`",
        };
        format!(
            "nothing is left of the budget of {} {self}: other runs have spent {}{held}; raise `budget.{}` in \
             .codeforge/config.yml, or {wait}",
            self.cap,
            self.spent_before,
            self.scope.config_key(),
        )
    }
}

impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&of(self.scope, &self.name))
    }
}

/// A scope in words: `for change 42`, `for today`.
pub fn of(scope: Scope, name: &str) -> String {
    match scope {
        Scope::Change => format!("for change {name}"),
        Scope::Actor => format!("for `{name}` today"),
        Scope::Workflow => format!("for the workflow `{name}` today"),
        Scope::Day => "for today".to_owned(),
    }
}

/// How a shared budget stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Under what it is counted: see [`SharedBudget::key`].
    pub key: String,
    /// Spent, and reserved by runs that were cut.
    pub spent: NanoUsd,
    /// What runs at work may still spend beyond that.
    pub held: NanoUsd,
}

/// The change of an event: its number.
pub fn change_of(event: &Value) -> Option<String> {
    match event.get("change")?.get("number")? {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
        _ => None,
    }
}

/// Who caused an event.
pub fn actor_of(event: &Value) -> Option<String> {
    event.get("actor")?.as_str().map(str::trim).filter(|actor| !actor.is_empty()).map(str::to_owned)
}

/// The day (UTC) of a time in milliseconds since 1970: `2026-11-24`.
pub fn day(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms)
        .map_or_else(|_| "0000-00-00".to_owned(), |time| time.strftime("%Y-%m-%d").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scopes_have_keys_and_events_have_owners() {
        let shared = |scope, name: &str| SharedBudget { scope, name: name.into(), max_usd: None };
        let noon = 1_795_521_600_000; // 2026-11-24T12:00:00Z
        assert_eq!(shared(Scope::Day, "").key(noon), "2026-11-24");
        assert_eq!(shared(Scope::Actor, "ada").key(noon), "2026-11-24/ada");
        assert_eq!(shared(Scope::Change, "42").key(noon), "42");
        assert_eq!(change_of(&json!({ "change": { "number": 42 } })).as_deref(), Some("42"));
        assert_eq!(change_of(&json!({ "change": { "number": null } })), None);
        assert_eq!(actor_of(&json!({ "actor": " ada " })).as_deref(), Some("ada"));
        assert_eq!(actor_of(&json!({ "actor": null })), None, "by hand: nobody");
    }

    #[test]
    fn what_counts_on_an_earlier_day_is_not_todays() {
        let allowance = Allowance {
            scope: Scope::Day,
            name: String::new(),
            cap: NanoUsd(100),
            spent_before: NanoUsd(40),
            held_by_others: NanoUsd(0),
            elsewhere: NanoUsd(30),
            granted: NanoUsd(90),
        };
        assert_eq!(allowance.used(NanoUsd(35)), NanoUsd(45));
        assert!(!allowance.leaves_nothing(NanoUsd(89)) && allowance.leaves_nothing(NanoUsd(90)));
        assert!(allowance.refusal().contains("raise `budget.per_day_usd`"), "{}", allowance.refusal());
    }
}
