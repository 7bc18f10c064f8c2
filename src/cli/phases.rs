//! The phased form: what the jobs `gate` and `deliver` do with an artifact.
//!
//! Both are given plans that they made themselves, from their own event and the trusted configuration. Here is what is
//! the same in CI and on a person's machine.

use super::Context;
use super::error::CliError;
use super::forge::redacted;
use super::run::engine_error;
use crate::engine::publish::{self, PublishError};
use crate::engine::{self, Delivering, Engine, EngineError, Outgoing, Outlet, Stop, Told};
use crate::model::account::Ending;
use crate::model::artifact::{Taken, Word};
use crate::model::chat::ModelRef;
use crate::model::delivery::{ChangeSet, Delivered, Delivery, Published};
use crate::model::event::Event;
use crate::model::id::TreeId;
use crate::model::journal::{Base, GateResult, Verdict};
use crate::model::plan::{DeliverKind, DeliverSpec, DeliverWhen, Plan};
use crate::port::repository::RepositoryError;
use crate::{deliver as checks, gate, plan, text};
use serde_json::json;
use std::sync::Arc;

/// A request for a plan that nobody runs: no model is looked for, none needs a price, no shared budget is held.
pub(super) fn without_models() -> plan::Request {
    let nobody = ModelRef {
        name: "none".into(),
        provider: "openai".into(),
        model: "none".into(),
        context_window: 128_000,
        max_output: 8192,
        tools: true,
        ..ModelRef::default()
    };
    plan::Request { models: vec![nobody], allow_unpriced: true, held: true, ..plan::Request::default() }
}

/// Compares what an artifact says of itself with the plan that was made here.
///
/// # Errors
/// Exit code 4, and what differs.
pub(super) fn compare(plan: &Plan, taken: &Taken) -> Result<(), CliError> {
    // The branch is compared when the delivery is put together.
    let theirs = &taken.part.claims;
    let own = checks::claims(plan, theirs.branch.as_deref());
    let told = theirs.against(&own);
    if told.is_empty() { Ok(()) } else { Err(forged(&told)) }
}

pub(super) fn forged(told: &[String]) -> CliError {
    CliError::new(Ending::Denied, format!("the artifact is refused, nothing was written: {}", told.join("; ")))
        .hint("it was edited, or made for another event or under another configuration; run the whole pipeline again")
}

/// One run of an artifact to deliver.
pub(super) struct Order<'a> {
    /// The own plan.
    pub plan: &'a Plan,
    /// What was in the artifact; compared with the plan already.
    pub taken: &'a Taken,
    /// The gates' words.
    pub words: &'a [Word],
    /// The commit that the change belongs on.
    pub commit: &'a str,
    /// What a branch of ours must begin with; `None`: anything (a person's own repository).
    pub prefix: Option<&'a str>,
}

impl Order<'_> {
    /// Whether every required gate passed on the artifact's change, as the gates' words have it.
    pub(super) fn passed(&self) -> bool {
        let strict = Plan {
            deliver: DeliverSpec { when: DeliverWhen::GatesPassed, ..self.plan.deliver.clone() },
            ..self.plan.clone()
        };
        checks::admits(self.words, &strict, &self.taken.hash()).is_ok()
    }
}

/// What came of a delivery.
pub(super) struct Done {
    /// As a run's account has it.
    pub delivered: Delivered,
    /// In lines for people.
    pub told: Vec<String>,
}

impl Done {
    /// There was nothing to hand over.
    pub(super) fn nothing(kind: DeliverKind, told: Vec<String>) -> Self {
        let (patch, commit, branch, published) = (None, None, None, None);
        let changes = ChangeSet::default();
        Self { delivered: Delivered { kind, patch, commit, branch, changes, changed: false, published }, told }
    }

    /// For people.
    pub(super) fn render(&self) -> String {
        let mut lines = self.told.clone();
        let files = self.delivered.changes.files.len();
        let (added, removed) = (self.delivered.changes.added(), self.delivered.changes.removed());
        if self.delivered.changed {
            let what = match (&self.delivered.patch, &self.delivered.branch, &self.delivered.commit) {
                (Some(patch), ..) => format!("patch {patch}"),
                (None, Some(branch), Some(commit)) => format!("branch {branch}, commit {commit}"),
                (None, None, Some(commit)) => format!("commit {commit}"),
                _ => "nothing, as was asked".to_owned(),
            };
            lines.push(format!("delivered: {what} ({files} files, +{added} −{removed})"));
        } else {
            lines.push("there was nothing to deliver".to_owned());
        }
        lines.join("\n") + "\n"
    }
}

/// A delivery that may be made, and what it is made of.
pub(super) struct Ready {
    /// The delivery; `None`: nothing changed.
    pub delivery: Option<Delivery>,
    /// Where it goes.
    pub base: Base,
    /// What changes.
    pub changes: ChangeSet,
    /// Where the change weakens what judges it, or hides something.
    pub told: Vec<String>,
}

/// Checks everything that can be checked before anything is written.
///
/// # Errors
/// Exit code 4, and why.
pub(super) async fn ready(order: &Order<'_>, engine: &Engine) -> Result<Ready, CliError> {
    let Order { plan, taken, words, commit, prefix } = order;
    let part = &taken.part;
    if part.commit != *commit {
        return Err(forged(&[format!(
            "it was made on the commit {}, and should be on {}",
            short(&part.commit),
            short(commit)
        )]));
    }
    let (here, committed, base) = stock(engine, commit).await?;
    let Some(patch) = &taken.patch else {
        // Words are published whether or not a file changed; of a run that failed there are none.
        let mut delivery = None;
        if plan.deliver.kind.speaks() && part.ending == Ending::Done {
            let delivering = Delivering { plan, base: &base, taken, words };
            delivery = Some(delivering.compose(&committed, &committed).map_err(CliError::usage)?);
        }
        return Ok(Ready { delivery, base, changes: ChangeSet::default(), told: Vec::new() });
    };
    if plan.deliver.kind != DeliverKind::None {
        checks::admits(words, plan, &taken.hash()).map_err(|why| {
            CliError::new(Ending::Denied, format!("the artifact is refused, nothing was written: {why}"))
        })?;
    }
    let (repository, held, on, change) =
        (Arc::clone(&engine.repository), Plan::clone(plan), committed.clone(), patch.clone());
    let secrets = engine.secrets.clone();
    let (tree, changes) = blocking(move || engine::unpack(&*repository, &held, &on, &change, &secrets)).await?;
    let delivering = Delivering { plan, base: &base, taken, words };
    let delivery = delivering.compose(&committed, &tree).map_err(CliError::usage)?;
    if part.claims.branch != delivery.branch {
        let quoted = |branch: &Option<String>| branch.as_deref().unwrap_or("none").escape_debug().to_string();
        return Err(forged(&[format!(
            "its branch is `{}`, and should be `{}`",
            quoted(&part.claims.branch),
            quoted(&delivery.branch)
        )]));
    }
    let named = matches!(plan.deliver.kind, DeliverKind::Branch | DeliverKind::PullRequest);
    if let (Some(prefix), Some(branch), true) = (prefix, &delivery.branch, named)
        && !branch.starts_with(prefix)
    {
        return Err(CliError::new(
            Ending::Denied,
            format!("nothing was written: the branch `{branch}` does not begin with `{prefix}`, as ours do"),
        )
        .hint("mend `deliver.branch` in the workflow"));
    }
    let told = weakened(&changes);
    Ok(Ready { delivery: Some(delivery), base: Base { dirty: here.dirty, ..base }, changes, told })
}

/// Takes stock of the folder, and finds the commit's tree.
async fn stock(engine: &Engine, commit: &str) -> Result<(Base, TreeId, Base), CliError> {
    let (repository, commit) = (Arc::clone(&engine.repository), commit.to_owned());
    blocking(move || {
        let here = repository.base()?;
        let committed = repository.committed(&commit)?;
        let base = Base { commit: Some(commit), tree: committed.clone(), dirty: Vec::new(), ..here.clone() };
        Ok((here, committed, base))
    })
    .await
}

/// Delivers one run of an artifact, where everything holds.
///
/// # Errors
/// Exit code 4 where something does not hold: nothing was written then.
pub(super) async fn deliver(order: &Order<'_>, engine: &Engine, cx: &Context<'_>) -> Result<Done, CliError> {
    let ready = ready(order, engine).await?;
    for line in &ready.told {
        cx.say(line);
    }
    let kind = order.plan.deliver.kind;
    let Some(delivery) = ready.delivery.clone() else { return Ok(Done::nothing(kind, ready.told)) };
    match kind {
        DeliverKind::None | DeliverKind::Patch | DeliverKind::CommitLocal | DeliverKind::Branch => {
            let to = engine.run_folder(&order.taken.part.run).join("change.patch");
            let (repository, base, plan) = (Arc::clone(&engine.repository), ready.base, Plan::clone(order.plan));
            let delivered = blocking(move || {
                let delivery = engine::in_convention(&*repository, &plan, &base, delivery);
                repository.deliver(&base, &delivery, &to)
            })
            .await?;
            Ok(Done { delivered, told: ready.told })
        }
        DeliverKind::Issue => Err(CliError::usage(publish::KEPT_BY_CI)),
        DeliverKind::PushToBranch
        | DeliverKind::PullRequest
        | DeliverKind::Comment
        | DeliverKind::Review
        | DeliverKind::Report => {
            let Outlet::Forge(outgoing) = &engine.outlet else { return Err(CliError::usage(publish::NO_FORGE)) };
            let published = to_forge(order, &delivery, &ready, outgoing, engine).await?;
            let (branch, commit, told) = (published.branch.clone(), published.commit.clone(), published.told.clone());
            let (patch, changed, published) = (None, true, Some(Box::new(published)));
            let changes = ready.changes;
            Ok(Done { delivered: Delivered { kind, patch, commit, branch, changes, changed, published }, told })
        }
    }
}

/// Publishes from a person's machine.
async fn to_forge(
    order: &Order<'_>,
    delivery: &Delivery,
    ready: &Ready,
    outgoing: &Outgoing,
    engine: &Engine,
) -> Result<Published, CliError> {
    let (plan, part) = (order.plan, &order.taken.part);
    let event = outgoing.event.clone().unwrap_or_else(|| Event::read(&plan.event));
    let run_key = if plan.key.is_empty() { part.run.as_str() } else { plan.key.as_str() };
    let context = json!({ "inputs": plan.inputs, "event": plan.event });
    let words =
        outgoing.wording.as_ref().filter(|_| plan.deliver.body.is_none()).map(|wording| {
            wording(&Told { account: &part.account, context: &context, delivery, changes: &ready.changes })
        });
    let secrets: Vec<&str> = engine.secrets.iter().map(String::as_str).collect();
    let findings = redacted(part.findings.clone(), &secrets);
    let publication = publish::Publication {
        delivery,
        base: &ready.base,
        event: &event,
        findings: &findings,
        body: words.as_ref().map_or(delivery.body.as_str(), |words| words.body.as_str()),
        comment: words.as_ref().and_then(|words| words.comment.as_deref()),
        memory: None,
        key: &format!("{}/{run_key}", plan.workflow),
        draft: plan.deliver.draft,
        issue: None,
        passed: order.passed(),
        asked: &plan.deliver.forge,
        signing: &outgoing.signing,
        labels: &plan.deliver.labels,
        reviewers: &plan.deliver.reviewers,
        target: outgoing.target.as_deref(),
        prefix: &outgoing.prefix,
        most_open: plan.deliver.most_open,
        secrets: &engine.secrets,
        hosts: &outgoing.hosts,
    };
    let repository = Arc::clone(&engine.repository);
    publish::publish(&*outgoing.forge, repository, &publication).await.map_err(|error| match error {
        PublishError::Forge(error) => error.into(),
        PublishError::Repository(error) => error.into(),
        PublishError::Refused(why) => CliError::new(Ending::Denied, why),
        PublishError::Misuse(why) => CliError::usage(why),
        PublishError::Moved(why) => CliError::new(Ending::Failed, why),
    })
}

/// What the gate's job says of one run of an artifact.
pub(super) struct GatePhase {
    /// The word about its change.
    pub word: Word,
    /// What the gates said.
    pub results: Vec<GateResult>,
    /// Where the change weakens what judges it, or hides something.
    pub weakened: Vec<String>,
    /// The required gates that did not pass, with why.
    pub failed: Vec<String>,
    /// True: a required gate could not be run at all.
    pub broken: bool,
    /// What could not be had, and why.
    pub notes: Vec<String>,
}

/// Puts the artifact's change onto the commit that it belongs on and runs the plan's gates on it. Needs no key.
///
/// # Errors
/// Exit code 4 where the artifact is not for this plan, others where no sandbox can be had.
pub(super) async fn gates(
    plan: &Plan,
    taken: &Taken,
    commit: &str,
    engine: &Engine,
    stop: Stop,
) -> Result<GatePhase, CliError> {
    compare(plan, taken)?;
    if taken.part.commit != commit {
        return Err(forged(&[format!(
            "it was made on the commit {}, and should be on {}",
            short(&taken.part.commit),
            short(commit)
        )]));
    }
    let hash = taken.hash();
    let Some(patch) = &taken.patch else {
        let word = checks::word(&hash, []);
        return Ok(GatePhase {
            word,
            results: Vec::new(),
            weakened: Vec::new(),
            failed: Vec::new(),
            broken: false,
            notes: Vec::new(),
        });
    };
    let (here, committed, _) = stock(engine, commit).await?;
    let (repository, held, on, change) =
        (Arc::clone(&engine.repository), plan.clone(), committed.clone(), patch.clone());
    let secrets = engine.secrets.clone();
    let (tree, changes) = blocking(move || engine::unpack(&*repository, &held, &on, &change, &secrets)).await?;
    let gated = engine
        .gates_only(plan.clone(), here, tree, committed, stop)
        .await
        .map_err(|error| CliError::new(error.ending, error.message))?;
    let required = checks::required(plan);
    let wanted = |result: &&GateResult| required.contains(&result.gate) && result.verdict != Verdict::Pass;
    let failed: Vec<&GateResult> = gated.results.iter().filter(wanted).collect();
    Ok(GatePhase {
        word: checks::word(&hash, &gated.results),
        weakened: weakened(&changes),
        broken: !failed.is_empty() && failed.iter().all(|result| result.verdict == Verdict::Error),
        failed: failed.iter().map(|result| format!("`{}` ({})", result.gate, result.detail)).collect(),
        notes: gated.notes,
        results: gated.results,
    })
}

/// Where a change weakens what judges it, or hides something from whoever reads it, in clean lines.
fn weakened(changes: &ChangeSet) -> Vec<String> {
    let weaker = gate::weakened(changes);
    let weaker = weaker.iter().map(|line| format!("the change weakens its own checks: {line}"));
    let hidden = gate::hidden(changes);
    let hidden = hidden.iter().map(|place| format!("the change brings in characters that cannot be seen: {place}"));
    weaker.chain(hidden).map(|line| text::clean(&line)).collect()
}

fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RepositoryError> + Send + 'static,
) -> Result<T, CliError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| engine_error(EngineError::Repository(error))),
        Err(error) => Err(CliError::new(Ending::Failed, format!("an internal error: {error}; please report it"))),
    }
}
