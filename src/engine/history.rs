//! What runs of a workflow have cost, and what is left of the budgets that they share: what a quote is made of.

use crate::model::account::Spend;
use crate::model::plan::Plan;
use crate::model::usage::NanoUsd;
use crate::port::store::{Store, StoreError};

/// Runs that are looked at, the latest.
const RUNS: u32 = 1000;

/// The spending of each earlier run of the plan's workflow that has ended, and what the capped budgets that the plan
/// shares with others leave at `now_ms` (milliseconds since 1970); `None`: none of them is capped.
///
/// # Errors
/// [`StoreError`].
pub async fn spent(store: &dyn Store, plan: &Plan, now_ms: i64) -> Result<(Vec<Spend>, Option<NanoUsd>), StoreError> {
    let runs = store.runs(RUNS).await?.into_iter();
    let ended = runs.filter(|(head, summary)| head.workflow == plan.workflow && summary.ending.is_some());
    let earlier: Vec<Spend> = ended.map(|(_, summary)| summary.spend).collect();
    let mut left: Option<NanoUsd> = None;
    for shared in &plan.limits.shared {
        let Some(cap) = shared.max_usd.map(NanoUsd::from_usd) else { continue };
        let key = shared.key(now_ms);
        let standing = store.standing(shared.scope, &key).await?;
        let used = standing.iter().find(|standing| standing.key == key);
        let rest = used.map_or(cap, |used| cap.minus(used.spent).minus(used.held));
        left = Some(left.map_or(rest, |left| left.min(rest)));
    }
    Ok((earlier, left))
}
