//! Budgets that runs share, held together across processes. Everything here runs inside a transaction of the store's
//! one writer, so that two runs never count on the same money.

use super::store::holds;
use crate::model::budget::{Allowance, Scope, SharedBudget, Standing};
use crate::model::id::RunId;
use crate::model::usage::NanoUsd;
use crate::port::store::Claim;
use sqlx::{FromRow, SqliteConnection};
use std::collections::BTreeMap;

/// A run's part in a scope, with what the run's own line says.
#[derive(FromRow)]
struct Part {
    key: String,
    elsewhere: i64,
    held: i64,
    spent: Option<i64>,
    cost: i64,
    reserved: i64,
    ended: bool,
    owner: Option<String>,
    updated_ms: i64,
}

const PART: &str = "SELECT a.key, a.elsewhere, a.held, a.spent,
        CAST(coalesce(json_extract(r.spend, '$.cost'), 0) AS INTEGER) AS cost, r.reserved,
        r.ending IS NOT NULL AS ended, r.owner, r.updated_ms
    FROM allowances a JOIN runs r ON r.id = a.run";

impl Part {
    /// What it has spent, and what it may still spend beyond that. Once nobody is at work on it, it holds nothing, and
    /// what its cut calls had reserved counts as spent: they may have been billed.
    fn counts(&self, now_ms: i64) -> (NanoUsd, NanoUsd) {
        if let Some(spent) = self.spent {
            return (nano(spent), NanoUsd::default());
        }
        let spent = nano(self.cost).minus(nano(self.elsewhere));
        let silent_ms = now_ms.saturating_sub(self.updated_ms);
        let at_work = !self.ended && self.owner.as_deref().is_some_and(|owner| holds(owner, silent_ms).is_some());
        if at_work {
            (spent, nano(self.held).minus(spent).max(nano(self.reserved)))
        } else {
            (self.cut(), NanoUsd::default())
        }
    }

    /// What it has spent and reserved.
    fn cut(&self) -> NanoUsd {
        nano(self.cost).plus(nano(self.reserved)).minus(nano(self.elsewhere))
    }
}

/// What is to be written down once a run is admitted.
pub(super) struct Mark {
    scope: Scope,
    key: String,
    elsewhere: NanoUsd,
    held: NanoUsd,
}

/// What `claim` is given: of each scope what others leave, of all the least. `spent`: what the run has spent already.
pub(super) async fn offer(
    connection: &mut SqliteConnection,
    run: &RunId,
    claim: &Claim,
    spent: NanoUsd,
) -> Result<(Vec<Allowance>, Vec<Mark>), sqlx::Error> {
    let mut given = Vec::new();
    let mut marks = Vec::new();
    for shared in &claim.shared {
        let key = shared.key(claim.now_ms);
        let elsewhere = elsewhere(connection, run, shared, &key, spent).await?;
        if let Some(cap) = shared.max_usd.map(NanoUsd::from_usd) {
            let text = format!("{PART} WHERE a.scope = $1 AND a.key = $2 AND a.run <> $3");
            // The text is made of constants.
            let others: Vec<Part> = sqlx::query_as(sqlx::AssertSqlSafe(text))
                .bind(shared.scope.name())
                .bind(key.clone())
                .bind(run.as_str().to_owned())
                .fetch_all(&mut *connection)
                .await?;
            let sum = others
                .iter()
                .map(|part| part.counts(claim.now_ms))
                .fold((NanoUsd::default(), NanoUsd::default()), |(spent, held), (more, hold)| {
                    (spent.plus(more), held.plus(hold))
                });
            given.push(Allowance {
                scope: shared.scope,
                name: shared.name.clone(),
                cap,
                spent_before: sum.0,
                held_by_others: sum.1,
                elsewhere,
                granted: NanoUsd::default(),
            });
        }
        marks.push(Mark { scope: shared.scope, key, elsewhere, held: NanoUsd::default() });
    }
    let granted = given.iter().map(Allowance::left).chain(claim.wanted).min();
    for allowance in &mut given {
        allowance.granted = granted.unwrap_or_default();
    }
    for mark in &mut marks {
        mark.held = granted.unwrap_or_default().minus(mark.elsewhere);
    }
    Ok((given, marks))
}

/// What of the run's spending does not count under `key`: what it had spent when it came under it; all of it, where that
/// is now.
async fn elsewhere(
    connection: &mut SqliteConnection,
    run: &RunId,
    shared: &SharedBudget,
    key: &str,
    spent: NanoUsd,
) -> Result<NanoUsd, sqlx::Error> {
    let known: Option<(i64, Option<i64>)> =
        sqlx::query_as("SELECT elsewhere, spent FROM allowances WHERE run = $1 AND scope = $2 AND key = $3")
            .bind(run.as_str().to_owned())
            .bind(shared.scope.name())
            .bind(key.to_owned())
            .fetch_optional(connection)
            .await?;
    Ok(match known {
        None => spent,
        Some((elsewhere, None)) => nano(elsewhere),
        // It comes back to a key that was settled (a clock that went back): what it spent there counts there.
        Some((_, Some(there))) => spent.minus(nano(there)),
    })
}

/// Writes down what an admitted run holds.
pub(super) async fn note(connection: &mut SqliteConnection, run: &RunId, marks: &[Mark]) -> Result<(), sqlx::Error> {
    for mark in marks {
        sqlx::query(
            "INSERT INTO allowances (run, scope, key, elsewhere, held) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (run, scope, key) DO UPDATE SET
                 elsewhere = excluded.elsewhere, held = excluded.held, spent = NULL",
        )
        .bind(run.as_str().to_owned())
        .bind(mark.scope.name())
        .bind(mark.key.clone())
        .bind(amount(mark.elsewhere))
        .bind(amount(mark.held))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// A run is taken up again: what it spent under the keys of another day is settled there. Returns what it has spent,
/// with what its cut calls had reserved, which is charged next.
pub(super) async fn settle_earlier(
    connection: &mut SqliteConnection,
    run: &RunId,
    claim: &Claim,
) -> Result<NanoUsd, sqlx::Error> {
    let own = format!("{PART} WHERE a.run = $1 AND a.scope = $2 AND a.spent IS NULL");
    for shared in &claim.shared {
        let now = shared.key(claim.now_ms);
        let parts: Vec<Part> = sqlx::query_as(sqlx::AssertSqlSafe(own.clone()))
            .bind(run.as_str().to_owned())
            .bind(shared.scope.name())
            .fetch_all(&mut *connection)
            .await?;
        for part in parts.iter().filter(|part| part.key != now) {
            sqlx::query("UPDATE allowances SET spent = $1, held = 0 WHERE run = $2 AND scope = $3 AND key = $4")
                .bind(amount(part.cut()))
                .bind(run.as_str().to_owned())
                .bind(shared.scope.name())
                .bind(part.key.clone())
                .execute(&mut *connection)
                .await?;
        }
    }
    let (cost, reserved): (i64, i64) = sqlx::query_as(
        "SELECT CAST(coalesce(json_extract(spend, '$.cost'), 0) AS INTEGER), reserved FROM runs WHERE id = $1",
    )
    .bind(run.as_str().to_owned())
    .fetch_one(connection)
    .await?;
    Ok(nano(cost).plus(nano(reserved)))
}

/// How the budgets of a scope stand whose keys begin with `prefix`, the most spent first.
pub(super) async fn standing(
    connection: &mut SqliteConnection,
    scope: Scope,
    prefix: &str,
    now_ms: i64,
) -> Result<Vec<Standing>, sqlx::Error> {
    let text = format!("{PART} WHERE a.scope = $1 AND substr(a.key, 1, length($2)) = $2");
    let parts: Vec<Part> = sqlx::query_as(sqlx::AssertSqlSafe(text))
        .bind(scope.name())
        .bind(prefix.to_owned())
        .fetch_all(connection)
        .await?;
    let mut keys: BTreeMap<String, Standing> = BTreeMap::new();
    for part in parts {
        let (used, held) = part.counts(now_ms);
        let sum = keys.entry(part.key.clone()).or_insert_with(|| Standing {
            key: part.key,
            spent: NanoUsd::default(),
            held: NanoUsd::default(),
        });
        sum.spent = sum.spent.plus(used);
        sum.held = sum.held.plus(held);
    }
    let mut all: Vec<Standing> = keys.into_values().collect();
    all.sort_by(|a, b| b.spent.cmp(&a.spent).then_with(|| a.key.cmp(&b.key)));
    Ok(all)
}

/// As a column holds it. SQLite's integers end at 9 billion dollars.
pub(super) fn amount(cost: NanoUsd) -> i64 {
    i64::try_from(cost.0).unwrap_or(i64::MAX)
}

/// From a column.
pub(super) fn nano(amount: i64) -> NanoUsd {
    NanoUsd(u64::try_from(amount).unwrap_or(0))
}
