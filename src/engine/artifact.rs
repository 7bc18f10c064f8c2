//! What a run leaves for another process to deliver, and a delivery made of it.

use super::perform::{Trouble, last_gates};
use super::{Engine, EngineError};
use crate::deliver;
use crate::model::account::{Account, Ending, StepStatus};
use crate::model::artifact::{Part, Taken, Word};
use crate::model::delivery::{ChangeSet, Delivery};
use crate::model::finding::Finding;
use crate::model::id::{RunId, TreeId, short_hash};
use crate::model::journal::{Base, GateResult, Input, Row, RowBody, Work};
use crate::model::patch::Patch;
use crate::model::plan::{DeliverKind, Plan, StepKind};
use crate::port::repository::{Repository, RepositoryError};
use crate::run::{self, State};
use crate::text;
use serde_json::Value;
use std::sync::Arc;

/// Bytes of a step's closing words that an artifact carries.
const WORDS_KEPT: usize = 64 * 1024;
/// Bytes of a run's values, and of its account, beyond which what is longest is left out.
const VALUES_KEPT: usize = 3 * 1024 * 1024;

/// What an artifact carries beside what the journal has.
#[derive(Debug, Clone, Default)]
pub struct Extras {
    /// The triggering change's head commit.
    pub head: Option<String>,
    /// What was found.
    pub findings: Vec<Finding>,
}

impl Engine {
    /// A run that ended, as a part of an artifact.
    ///
    /// # Errors
    /// [`EngineError::Repository`] where its change must not be delivered or is larger than an artifact may be.
    pub async fn part(&self, state: &State, extras: Extras) -> Result<Part, EngineError> {
        let rows = self.store.rows(&state.run).await?;
        let failed = |message: String| EngineError::Journal { run: state.run.clone(), message };
        let context = state.whole_context();
        let tree = delivered_tree(&rows).filter(|tree| carries(state.plan.deliver.kind) && *tree != state.base.tree);
        let mut patch = None;
        let mut branch = None;
        if let Some(tree) = tree {
            let gates = last_gates(state);
            let facts = deliver::Facts {
                run: &state.run,
                base: &state.base,
                tree: &tree,
                started_ms: state.started_ms,
                context: &context,
                gates: &gates,
                cost: "",
            };
            let delivery = deliver::compose(&state.plan, &facts).map_err(failed)?;
            branch.clone_from(&delivery.branch);
            patch = Some(self.lay_in(&state.base, delivery).await?.encode());
        }
        let secrets: Vec<&str> = self.secrets.iter().map(String::as_str).collect();
        let mut account = run::account(state);
        trim(&mut account);
        let (packed, patch_sha256) = Part::packed(patch.as_deref());
        let commit = state.base.commit.clone().unwrap_or_else(|| "0".repeat(40));
        Ok(Part {
            run: state.run.clone(),
            claims: deliver::claims(&state.plan, branch.as_deref()),
            commit,
            head: extras.head,
            started_ms: state.started_ms,
            ending: state.ending.unwrap_or(Ending::Cancelled),
            reason: text::redact(&state.reason, &secrets),
            patch: packed,
            patch_sha256,
            inputs: state.plan.inputs.clone(),
            steps: redacted(steps(context), &secrets),
            findings: redacted(extras.findings, &secrets),
            comment: words(state).map(|words| text::redact(&words, &secrets)),
            account: Box::new(redacted(account, &secrets)),
        })
    }

    async fn lay_in(&self, base: &Base, delivery: Delivery) -> Result<Patch, EngineError> {
        let (repository, base) = (Arc::clone(&self.repository), base.clone());
        let packed = tokio::task::spawn_blocking(move || repository.lay_in(&base, &delivery)).await;
        Ok(packed.map_err(|error| RepositoryError::Broken {
            doing: "putting the change together".into(),
            message: error.to_string(),
        })??)
    }

    /// What gates of a run here said of what it delivers: its own journal is believed.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn own_word(&self, state: &State, patch: &str) -> Result<Word, EngineError> {
        let rows = self.store.rows(&state.run).await?;
        let tree = delivered_tree(&rows);
        let results = state.steps.iter().flat_map(|step| &step.gates).map(|gate| &gate.result);
        let results = results.chain(&state.final_gates).filter(|result| Some(&result.tree) == tree.as_ref());
        Ok(deliver::word(patch, results))
    }
}

/// Whether a form of delivery carries a change.
pub(super) fn carries(kind: DeliverKind) -> bool {
    use DeliverKind::{Branch, CommitLocal, Patch, PullRequest, PushToBranch};
    matches!(kind, Patch | CommitLocal | Branch | PushToBranch | PullRequest)
}

/// The tree that a run delivered, or was about to.
fn delivered_tree(rows: &[Row]) -> Option<TreeId> {
    let done = rows.iter().rev().find_map(|row| match &row.body {
        RowBody::Input(Input::DeliveryDone { key, .. }) => Some(key),
        _ => None,
    })?;
    rows.iter().rev().find_map(|row| match &row.body {
        RowBody::Intent(effect) if effect.key == *done => match &effect.work {
            Work::Deliver { tree } => Some(tree.clone()),
            _ => None,
        },
        _ => None,
    })
}

/// What templates see of the steps, short enough to travel.
fn steps(mut context: Value) -> Value {
    let mut steps = context.get_mut("steps").map(Value::take).unwrap_or_default();
    let Some(all) = steps.as_object_mut() else { return steps };
    for step in all.values_mut() {
        if let Some(Value::String(words)) = step.get_mut("text") {
            *words = text::cap(words, WORDS_KEPT);
        }
    }
    if size(&steps) > VALUES_KEPT {
        for step in steps.as_object_mut().into_iter().flat_map(|all| all.values_mut()) {
            if let Some(output) = step.get_mut("output").filter(|output| size(output) > WORDS_KEPT) {
                *output = Value::Null;
            }
        }
    }
    steps
}

/// The account without what is in the artifact already, or is long and for the log only.
fn trim(account: &mut Account) {
    if let Some(delivered) = &mut account.delivered {
        delivered.changes.diff.clear();
    }
    if size(account) > VALUES_KEPT {
        let gates = account.steps.iter_mut().flat_map(|step| &mut step.gates).map(|(_, result, _)| result);
        for result in gates.chain(&mut account.final_gates) {
            result.output.clear();
        }
    }
}

fn size(value: &impl serde::Serialize) -> usize {
    serde_json::to_vec(value).map_or(0, |text| text.len())
}

/// A value without the secrets of this process, should one have got into a text of it.
fn redacted<T: serde::Serialize + serde::de::DeserializeOwned>(value: T, secrets: &[&str]) -> T {
    let Ok(written) = serde_json::to_string(&value) else { return value };
    let clean = text::redact(&written, secrets);
    if clean == written { value } else { serde_json::from_str(&clean).unwrap_or(value) }
}

/// The closing words of the last agent that succeeded.
fn words(state: &State) -> Option<String> {
    let mut agents = state.plan.steps.values().zip(&state.steps).filter(|(plan, step)| {
        matches!(plan.kind, StepKind::Agent(_)) && step.status == StepStatus::Succeeded && !step.text.trim().is_empty()
    });
    agents.next_back().map(|(_, step)| text::cap(&text::clean(&step.text), WORDS_KEPT - 1024))
}

/// What is known when an artifact's run is delivered.
pub struct Delivering<'a> {
    /// The delivering job's own plan.
    pub plan: &'a Plan,
    /// Where it is delivered to.
    pub base: &'a Base,
    /// What was in the artifact.
    pub taken: &'a Taken,
    /// The gates' words.
    pub words: &'a [Word],
}

impl Delivering<'_> {
    /// The delivery: titles, body and branch of the own plan's templates, over the artifact's values.
    ///
    /// # Errors
    /// A template's error.
    pub fn compose(&self, base: &TreeId, tree: &TreeId) -> Result<Delivery, String> {
        let part = &self.taken.part;
        let commit = self.base.commit.as_deref();
        let context = run::values(self.plan, &part.run, commit, part.steps.clone());
        let hash = self.taken.hash();
        let said = self.words.iter().find(|word| word.patch == hash);
        let gates: Vec<GateResult> = said
            .into_iter()
            .flat_map(|word| &word.gates)
            .map(|(gate, (verdict, gate_hash))| GateResult {
                gate: gate.clone(),
                gate_hash: gate_hash.clone(),
                tree: tree.clone(),
                verdict: *verdict,
                detail: String::new(),
                output: String::new(),
                duration_ms: 0,
            })
            .collect();
        let spend = part.account.spend;
        let unknown = match spend.unknown_calls {
            0 => String::new(),
            calls => format!(" and {calls} calls of unknown cost"),
        };
        let on_it = Base { tree: base.clone(), ..self.base.clone() };
        deliver::compose(
            self.plan,
            &deliver::Facts {
                run: &part.run,
                base: &on_it,
                tree,
                started_ms: part.started_ms,
                context: &context,
                gates: &gates,
                cost: &format!("{}{unknown}", spend.cost),
            },
        )
    }
}

/// What must hold for a change whoever delivers it.
///
/// # Errors
/// Why it is refused.
pub(super) fn check_change(plan: &Plan, changes: &ChangeSet, secrets: &[String]) -> Result<(), Trouble> {
    use crate::model::journal::Fault;
    let refuse = |message: String| Err(Trouble { fault: Fault::Denied, message });
    if let Some(most) = plan.limits.max_file_changes.filter(|most| changes.files.len() > *most as usize) {
        return refuse(format!(
            "nothing was delivered: {} files changed, and the policy `{}` allows {most} (`limits.max_file_changes`)",
            changes.files.len(),
            plan.policy.name
        ));
    }
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    if text::contains_secret(&changes.diff, &secrets) {
        return refuse(
            "nothing was delivered: the change contains a secret of this environment, plain or encoded; look at it \
             with `codeforge runs show`, and change the secret"
                .to_owned(),
        );
    }
    Ok(())
}

/// Puts an artifact's change onto the tree of the commit that it is for and checks it as a delivery is: files, sizes,
/// secrets, protected paths. Blocking.
///
/// # Errors
/// [`RepositoryError::Refused`] and others.
pub fn unpack(
    repository: &dyn Repository,
    plan: &Plan,
    base: &TreeId,
    patch: &Patch,
    secrets: &[String],
) -> Result<(TreeId, ChangeSet), RepositoryError> {
    let tree = repository.take_out(base, patch, &plan.protected_paths)?;
    let changes = repository.diff(base, &tree, 0)?;
    check_change(plan, &changes, secrets).map_err(|trouble| RepositoryError::Refused(trouble.message))?;
    Ok((tree, changes))
}

/// A run's id out of what makes it unique, for work that is no run of its own.
pub(super) fn scratch_run(hash: &str) -> RunId {
    RunId(format!("gates{}", short_hash(hash.as_bytes(), 8)))
}
