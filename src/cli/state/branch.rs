//! Amounts of money on a branch of the repository: `state: { store: branch }`.
//!
//! A run holds what it may spend before it begins, and writes what it spent when it ends; each is a push that the forge
//! takes only if nobody else pushed meanwhile. The branch is one commit without a parent: it does not grow.

use crate::cli::Context;
use crate::cli::ci::trusted::Commits;
use crate::cli::error::CliError;
use crate::engine::Engine;
use crate::model::account::{Ending, Spend};
use crate::model::budget::{Scope, SharedBudget};
use crate::model::delivery::AUTHOR;
use crate::model::id::RunId;
use crate::model::ledger::{LARGEST, Ledger};
use crate::model::plan::{Plan, StepKind};
use crate::model::usage::NanoUsd;
use crate::port::checkout::Parcel;
use crate::port::forge::{Forge, ForgeError};
use crate::port::store::{Claim, Opening, RunHead, Store, Summary};
use std::sync::Arc;

/// The branch where nobody names another.
pub(in crate::cli) const USUAL: &str = "codeforge/state";
/// The file in it.
const FILE: &str = "state.json";
/// How often a push is tried that others come before.
const TRIES: usize = 12;
/// No pipeline starts of it, on GitHub nor on GitLab.
const MESSAGE: &str = "What runs spent [skip ci]\n";

/// The branch, and how it is come by.
#[derive(Clone)]
pub(in crate::cli) struct Branch {
    pub(super) name: String,
    pub(super) commits: Commits,
    pub(super) forge: Option<Arc<dyn Forge>>,
}

/// What a run holds, until it is settled.
pub(in crate::cli) struct Held {
    run: RunId,
    /// Each capped scope with its key, and what others had of it.
    others: Vec<(Scope, String, NanoUsd)>,
}

impl std::fmt::Debug for Branch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Branch").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Branch {
    /// What is there now, and the commit that holds it.
    async fn read(&self) -> Result<(Ledger, Option<String>), CliError> {
        let Some(commit) = self.commits.now(&format!("refs/heads/{}", self.name)).await? else {
            return Ok((Ledger::default(), None));
        };
        let broken = |why: &str| {
            CliError::usage(format!("`{FILE}` of the branch `{}` is broken: {why}; nothing was spent", self.name))
                .hint(format!(
                    "look who pushed it (only CodeForge should), then delete the branch: limits begin anew with it (`git \
                     push origin --delete {}`)",
                    self.name
                ))
        };
        let (checkout, at) = (Arc::clone(&self.commits.checkout), commit.clone());
        let found = crate::cli::ci::blocking(move || Ok(checkout.file(&at, FILE, LARGEST)?)).await?;
        let found = found.ok_or_else(|| broken(&format!("it is no file of at most {LARGEST} bytes")))?;
        Ok((Ledger::read(&found).map_err(|why| broken(&why))?, Some(commit)))
    }

    /// Reads, changes and writes, until nobody came in between. `change` says whether there is something to write.
    async fn change(
        &self,
        cx: &Context<'_>,
        mut change: impl FnMut(&mut Ledger) -> bool + Send,
    ) -> Result<Ledger, CliError> {
        let Some(forge) = &self.forge else {
            return Err(CliError::usage(format!("there is no token that could write the branch `{}`", self.name)));
        };
        let full = format!("refs/heads/{}", self.name);
        for _ in 0..TRIES {
            let (mut ledger, old) = self.read().await?;
            if !change(&mut ledger) {
                return Ok(ledger);
            }
            let (checkout, text) = (Arc::clone(&self.commits.checkout), ledger.text());
            let time_s = cx.world.clock().now_ms() / 1000;
            let (commit, pack) = crate::cli::ci::blocking(move || {
                let content = text.as_bytes();
                Ok(checkout.parcel(&Parcel { name: FILE, content, message: MESSAGE, author: AUTHOR, time_s })?)
            })
            .await?;
            match forge.remote().push(&full, old.as_deref(), &commit, pack).await {
                Ok(()) => return Ok(ledger),
                Err(ForgeError::Moved { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(CliError::new(
            Ending::Unavailable,
            format!("the branch `{}` was pushed by others {TRIES} times in a row: run again", self.name),
        ))
    }

    /// Before a run begins: holds what it may spend, and lets its engine know what others spent and hold. `None`: no
    /// limit of the plan counts other runs.
    ///
    /// # Errors
    /// The branch cannot be read or written: nothing is spent then.
    pub(in crate::cli) async fn hold(
        &self,
        plan: &Plan,
        run: &RunId,
        engine: &Engine,
        cx: &Context<'_>,
    ) -> Result<Option<Held>, CliError> {
        let spends = plan.steps.values().any(|step| matches!(step.kind, StepKind::Agent(_)));
        let capped: Vec<SharedBudget> = plan.limits.shared.iter().filter(|it| it.max_usd.is_some()).cloned().collect();
        if !spends || capped.is_empty() {
            return Ok(None);
        }
        let now_ms = cx.world.clock().now_ms();
        let wanted = plan.limits.max_cost_usd.map(NanoUsd::from_usd);
        let ledger = self.change(cx, |ledger| ledger.hold(run, &capped, wanted, now_ms)).await.map_err(|error| {
            CliError::new(error.ending, format!("nothing was spent, since what it costs could not be kept: {error}"))
                .hint(format!(
                    "let the job's token write the branch `{}` (`permissions: contents: write`; a protected branch has \
                     to let it push), or take `state: {{ store: cache }}`, which takes no token",
                    self.name
                ))
        })?;
        let others = capped.iter().map(|it| (it.scope, it.key(now_ms)));
        let others: Vec<_> = others.map(|(scope, key)| (scope, key.clone(), ledger.others(scope, &key, run))).collect();
        for (shared, (.., spent)) in capped.iter().zip(&others) {
            seed(&*engine.store, shared, *spent, now_ms, cx).await?;
        }
        Ok(Some(Held { run: run.clone(), others }))
    }

    /// After a run: writes what it spent in place of what it held.
    ///
    /// # Errors
    /// It could not be written: what the run held counts as spent then.
    pub(in crate::cli) async fn settle(&self, held: Held, engine: &Engine, cx: &Context<'_>) -> Result<(), CliError> {
        let mut spent = Vec::new();
        for (scope, key, others) in held.others {
            let standing = engine.store.standing(scope, &key).await?;
            let all = standing.iter().filter(|it| it.key == key).map(|it| it.spent.plus(it.held));
            let all = all.fold(NanoUsd::default(), NanoUsd::plus);
            spent.push((scope, key, all.minus(others)));
        }
        let now_ms = cx.world.clock().now_ms();
        let settle = |ledger: &mut Ledger| {
            ledger.settle(&held.run, &spent, now_ms);
            true
        };
        self.change(cx, settle).await.map(|_| ())
    }
}

/// What others spent, in the words of the journal's store: a run that has ended.
async fn seed(
    store: &dyn Store,
    shared: &SharedBudget,
    spent: NanoUsd,
    now_ms: i64,
    cx: &Context<'_>,
) -> Result<(), CliError> {
    let head = RunHead {
        id: RunId::from_bits(cx.world.random()),
        workflow: "others".to_owned(),
        repo: String::new(),
        created_ms: now_ms,
    };
    let claim = Claim { shared: vec![SharedBudget { max_usd: None, ..shared.clone() }], wanted: None, now_ms };
    let spend = Spend { cost: spent, ..Spend::default() };
    let summary = Summary { ending: Some(Ending::Done), spend, updated_ms: now_ms, ..Summary::default() };
    let first = |_: &[_]| Opening { rows: Vec::new(), summary: summary.clone() };
    let fence = store.admit(&head, &claim, &first, &cx.world.owner()).await?;
    Ok(store.release(&head.id, fence).await?)
}
