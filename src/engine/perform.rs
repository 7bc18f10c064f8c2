//! Performing effects: what each kind of work does in the world.
//!
//! Every job answers with the input that its effect waits for; what goes wrong is an answer too.

use super::publish::{Publication, PublishError};
use super::session::Session;
use super::{Outgoing, Outlet, Told, Words};
use crate::model::account::Account;
use crate::model::chat::ChatRequest;
use crate::model::delivery::{Delivered, Delivery, Published};
use crate::model::event::Event;
use crate::model::exec::{Command, ExecOutcome};
use crate::model::id::{EffectKey, StepId, TreeId};
use crate::model::journal::{Effect, Fault, Input, Purpose, Work};
use crate::model::plan::{DeliverKind, Gate, PlanStep, StepKind};
use crate::model::progress::Progress;
use crate::model::recording::CallPlace;
use crate::port::forge::ForgeError;
use crate::port::repository::{Repository, RepositoryError, Workspace};
use crate::port::sandbox::{Order, SandboxError};
use crate::run::State;
use crate::{agent, deliver, gate};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// Where a delivery goes, beside the repository.
enum Out {
    /// Into a file of the run.
    Report,
    /// To a forge.
    Forge(Arc<Outgoing>),
}

/// An effect that could not be performed.
pub(super) struct Trouble {
    pub fault: Fault,
    pub message: String,
}

impl From<RepositoryError> for Trouble {
    fn from(error: RepositoryError) -> Self {
        let fault = match &error {
            RepositoryError::NotARepository(_) | RepositoryError::Missing(_) | RepositoryError::Unsigned(_) => {
                Fault::User
            }
            RepositoryError::Refused(_) => Fault::Denied,
            RepositoryError::ChangedUnderneath(_) => Fault::Unknown,
            RepositoryError::Broken { .. } => Fault::Environment,
        };
        Self { fault, message: error.to_string() }
    }
}

impl From<PublishError> for Trouble {
    fn from(error: PublishError) -> Self {
        let fault = match &error {
            PublishError::Repository(_) => {
                let PublishError::Repository(error) = error else { return Self::bug("an error of two kinds") };
                return error.into();
            }
            PublishError::Refused(_) | PublishError::Forge(ForgeError::Refused { .. }) => Fault::Denied,
            PublishError::Misuse(_) | PublishError::Forge(ForgeError::Unsupported(_)) => Fault::User,
            PublishError::Moved(_) | PublishError::Forge(ForgeError::Moved { .. }) => Fault::Unknown,
            PublishError::Forge(_) => Fault::Environment,
        };
        Self { fault, message: error.to_string() }
    }
}

impl From<SandboxError> for Trouble {
    fn from(error: SandboxError) -> Self {
        let fault = match &error {
            SandboxError::Refused(_) => Fault::User,
            SandboxError::Unavailable(_) | SandboxError::Missing(_) | SandboxError::Broken(_) => Fault::Environment,
        };
        Self { fault, message: error.to_string() }
    }
}

impl Trouble {
    pub(super) fn user(message: impl Into<String>) -> Self {
        Self { fault: Fault::User, message: message.into() }
    }

    pub(super) fn bug(what: &str) -> Self {
        Self { fault: Fault::Environment, message: format!("an internal error: {what}; please report it") }
    }
}

pub(super) type Job = Pin<Box<dyn Future<Output = Input> + Send>>;

/// What a job needs to know of the state, taken when its effect was emitted.
pub(super) struct View {
    pub step: Option<PlanStep>,
    pub before: Option<TreeId>,
    pub after: Option<TreeId>,
    context: serde_json::Value,
    gates: Vec<crate::model::journal::GateResult>,
    cost: String,
    started_ms: i64,
    /// What was done so far, where that is handed over.
    account: Option<Account>,
    /// What the step's backend is asked.
    prompt: Option<Result<String, String>>,
}

impl Session {
    /// Makes the job that performs an effect. `again`: the effect was begun before a crash.
    pub(super) fn job(self: &Arc<Self>, state: &State, effect: Effect, again: bool) -> Job {
        let index = effect.step.as_ref().and_then(|step| state.index(step));
        let delivering = matches!(effect.work, Work::Deliver { .. });
        let view = View {
            step: index.and_then(|index| state.plan_step(index)).cloned(),
            before: index.and_then(|index| state.steps[index].before.clone()),
            after: index.and_then(|index| state.steps[index].after.clone()),
            context: if delivering { state.whole_context() } else { serde_json::Value::Null },
            gates: if delivering { last_gates(state) } else { Vec::new() },
            cost: cost_words(state),
            started_ms: state.started_ms,
            account: delivering.then(|| crate::run::account(state)),
            prompt: matches!(effect.work, Work::RunBackend).then(|| self.backend_prompt(state, &effect)),
        };
        let session = Arc::clone(self);
        Box::pin(async move {
            let key = effect.key.clone();
            match session.perform(effect, view, again).await {
                Ok(input) => input,
                Err(Trouble { fault, message }) => Input::EffectFailed { key, fault, message },
            }
        })
    }

    async fn perform(self: &Arc<Self>, effect: Effect, view: View, again: bool) -> Result<Input, Trouble> {
        let key = effect.key.clone();
        let place = CallPlace::of(&effect);
        match effect.work {
            Work::Prepare => self.prepare(key).await,
            Work::Compose { .. } => Err(Trouble::bug("a pure effect was to be performed")),
            Work::CallModel { purpose: Purpose::Gateway(number), .. } => {
                Ok(self.call_for_question(key, effect.step, number, place).await)
            }
            Work::CallModel { purpose, .. } => self.call_model(key, effect.step, purpose, &view, place).await,
            Work::CallTool { call } => {
                let outcome = self.call_tool(&key, call, &view, again).await?;
                Ok(Input::ToolDone { key, outcome })
            }
            Work::RunCommand => self.run_command(key, &view, again).await,
            Work::RunBackend => {
                let prompt = view.prompt.clone().unwrap_or_else(|| Ok(String::new()));
                self.run_backend(key, &view, prompt, again).await
            }
            Work::Snapshot { after } => self.snapshot(key, &view, after).await,
            Work::Restore { tree } => self.restore(key, &view, tree).await,
            Work::CheckGate { gate, tree } => {
                let from = self.base.tree.clone();
                self.check_gate(key, &gate, tree, from).await
            }
            Work::Fork { tree } => {
                let name = Self::workspace_name(view.step.as_ref());
                let held = tree.clone();
                self.blocking(move |session| {
                    let workspace = session.workspace(&name, &held)?;
                    workspace.restore(&held)?;
                    Ok(())
                })
                .await?;
                Ok(Input::Snapshotted { key, tree, files: Vec::new() })
            }
            Work::Join { theirs } => self.join(key, &view, theirs).await,
            Work::Deliver { tree } => self.deliver(key, &view, tree).await,
        }
    }

    /// Runs blocking work on a blocking thread.
    pub(super) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Session) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, Trouble> {
        let session = Arc::clone(self);
        match tokio::task::spawn_blocking(move || work(&session)).await {
            Ok(done) => done,
            Err(error) => Err(Trouble::bug(&error.to_string())),
        }
    }

    /// Passes a command's output on to the watcher.
    pub(super) fn printer(self: &Arc<Self>, step: StepId) -> impl Fn(&str) + Send + Sync + use<> {
        let watch = Arc::clone(&self.engine.watch);
        move |text: &str| watch.saw(&Progress::Output { step: step.clone(), text: text.to_owned() })
    }

    async fn call_model(
        self: &Arc<Self>,
        key: EffectKey,
        step: Option<StepId>,
        purpose: Purpose,
        view: &View,
        place: Option<CallPlace>,
    ) -> Result<Input, Trouble> {
        let step = step.ok_or_else(|| Trouble::bug("a model call without a step"))?;
        let ready = self.take_request(&step, &purpose).ok_or_else(|| Trouble::bug("a model call without a request"))?;
        let request = ChatRequest { place, ..ready.request };
        let Some(StepKind::Agent(spec)) = view.step.as_ref().map(|step| &step.kind) else {
            return Err(Trouble::bug("a model call of a step without an agent"));
        };
        let watch = Arc::clone(&self.engine.watch);
        // Of several that speak at once one is heard.
        let aloud = !matches!(purpose, Purpose::Sample(1..));
        let heard = move |text: &str| {
            if aloud {
                watch.saw(&Progress::ModelText { step: step.clone(), text: text.to_owned() });
            }
        };
        let spec = ready.reader.as_ref().unwrap_or(spec);
        // Side by side: the model is not waited for any longer because its request is kept.
        let (answer, ()) = tokio::join!(self.engine.models.ask(&request, &heard), self.keep_sent(&request));
        Ok(match answer {
            Ok(answer) => Input::Answered {
                key,
                answer: agent::interpret(spec, &request.model, &answer),
                bill: answer.bill,
                requests: answer.requests,
            },
            Err(error) => Input::ModelFailed { key, error },
        })
    }

    async fn run_command(self: &Arc<Self>, key: EffectKey, view: &View, again: bool) -> Result<Input, Trouble> {
        let Some(step) = &view.step else { return Err(Trouble::bug("a command without a step")) };
        let StepKind::Run { command } = &step.kind else {
            return Err(Trouble::bug("a command of a step that has none"));
        };
        let workspace = self.workspace_of(view).await?;
        if again {
            self.undo_cut_work(view.before.clone(), &workspace, &format!("the command of step `{}`", step.id)).await?;
        }
        let command = Command {
            timeout_ms: step.timeout_ms.unwrap_or(3_600_000),
            env: self.variables(Some(step)),
            writable: step.writes,
            ..Command::shell(command)
        };
        let outcome = self.exec_in(&sandbox_name(step), &workspace, Order::Operator(command), &step.id).await?;
        Ok(Input::CommandDone { key, outcome })
    }

    /// Runs a command in the named sandbox; once more in a fresh one where the sandbox itself broke before the
    /// command could be run.
    pub(super) async fn exec_in(
        self: &Arc<Self>,
        name: &str,
        workspace: &Arc<dyn Workspace>,
        order: Order,
        step: &StepId,
    ) -> Result<ExecOutcome, Trouble> {
        let writable = order.command().writable;
        let sandbox = self.sandbox(name, workspace, writable, false).await?;
        let printed = self.printer(step.clone());
        match sandbox.exec(order, &printed).await {
            Ok(outcome) => Ok(outcome),
            Err(error) => {
                self.end_sandbox(name).await;
                Err(error.into())
            }
        }
    }

    /// Runs one gate on `tree`; `from`: where a gate takes the base's files from.
    pub(super) async fn check_gate(
        self: &Arc<Self>,
        key: EffectKey,
        name: &str,
        tree: TreeId,
        from: TreeId,
    ) -> Result<Input, Trouble> {
        let Some(definition) = self.plan.gates.get(name).cloned() else {
            return Err(Trouble::bug("a gate that is not in the plan"));
        };
        let mut checks = Vec::new();
        if definition.from_base {
            let (paths, base, candidate) = (definition.paths.clone(), from, tree.clone());
            let grafted =
                self.blocking(move |session| Ok(session.engine.repository.graft(&candidate, &base, &paths)?)).await?;
            if grafted != tree {
                let outcome = self.gate_run(&definition, &key, "base", &grafted).await;
                checks.push(gate::Check { what: "the files under `paths` as they are in the base", outcome });
            }
        }
        let outcome = self.gate_run(&definition, &key, "own", &tree).await;
        checks.push(gate::Check { what: "", outcome });
        Ok(Input::GateDone { key, result: gate::result(&definition, &tree, &checks) })
    }

    /// One run of a gate's command: a workspace and a sandbox of its own, so that nothing an agent left beside the
    /// tree has a say.
    async fn gate_run(
        self: &Arc<Self>,
        gate: &Gate,
        key: &EffectKey,
        which: &str,
        tree: &TreeId,
    ) -> Result<ExecOutcome, String> {
        let short: String = key.as_str().chars().take(12).collect();
        let name = format!("gate-{}-{which}-{short}", gate.name);
        let (held, place) = (tree.clone(), name.clone());
        let opened = self
            .blocking(move |session| {
                let workspace = session.workspace(&place, &held)?;
                workspace.restore(&held)?;
                Ok(workspace)
            })
            .await;
        let outcome = match opened {
            Ok(workspace) => {
                let command = Command {
                    timeout_ms: gate.timeout_ms,
                    env: self.variables(None),
                    ..Command::shell(gate.command.clone())
                };
                let label = StepId(format!("gate {}", gate.name));
                self.exec_in(&name, &workspace, Order::Operator(command), &label).await
            }
            Err(trouble) => Err(trouble),
        };
        self.end_sandbox(&name).await;
        self.forget_workspace(&name);
        outcome.map_err(|trouble| trouble.message)
    }

    async fn deliver(self: &Arc<Self>, key: EffectKey, view: &View, tree: TreeId) -> Result<Input, Trouble> {
        let facts = deliver::Facts {
            run: &self.run,
            base: &self.base,
            tree: &tree,
            started_ms: view.started_ms,
            context: &view.context,
            gates: &view.gates,
            cost: &view.cost,
        };
        let delivery = deliver::compose(&self.plan, &facts).map_err(Trouble::user)?;
        let goes_out = if self.plan.deliver.held { None } else { self.goes_out()? };
        let patch_to = self.engine.run_folder(&self.run).join("change.patch");
        let (checked, word) = (delivery.clone(), goes_out.is_some());
        let delivered = self
            .blocking(move |session| {
                let delivery = checked;
                let repository: &Arc<dyn Repository> = &session.engine.repository;
                let changes = repository.diff(&delivery.base, &delivery.tree, 0)?;
                super::artifact::check_change(&session.plan, &changes, &session.engine.secrets)?;
                if session.plan.deliver.held {
                    // Whether it could be delivered is known now; who delivers it is another process.
                    if super::artifact::carries(delivery.kind) {
                        repository.lay_in(&session.base, &delivery)?;
                    }
                    let (kind, branch) = (delivery.kind, delivery.branch);
                    let (patch, commit, published) = (None, None, None);
                    return Ok(Delivered { kind, patch, commit, branch, changes, changed: true, published });
                }
                if word {
                    let changed = delivery.base != delivery.tree;
                    let (kind, patch, commit, branch) = (delivery.kind, None, None, None);
                    return Ok(Delivered { kind, patch, commit, branch, changes, changed, published: None });
                }
                let delivery = super::in_convention(&**repository, &session.plan, &session.base, delivery);
                Ok(repository.deliver(&session.base, &delivery, &patch_to)?)
            })
            .await?;
        let delivered = match goes_out {
            None => delivered,
            Some(out) => self.publish(&out, view, &delivery, delivered).await?,
        };
        Ok(Input::DeliveryDone { key, delivered })
    }

    /// Where this run's delivery goes, where it goes out at all.
    fn goes_out(&self) -> Result<Option<Out>, Trouble> {
        let kind = self.plan.deliver.kind;
        let at_forge = kind.is_of_a_forge();
        match &self.engine.outlet {
            Outlet::Mute => Ok(None),
            _ if kind == DeliverKind::Report => Ok(Some(Out::Report)),
            _ if kind == DeliverKind::Issue => Err(Trouble::user(super::publish::KEPT_BY_CI)),
            Outlet::Forge(outgoing) if at_forge || (kind == DeliverKind::Branch && outgoing.push_branches) => {
                Ok(Some(Out::Forge(Arc::clone(outgoing))))
            }
            Outlet::Closed if at_forge => Err(Trouble::user(super::publish::NO_FORGE)),
            Outlet::Closed | Outlet::Forge(_) => Ok(None),
        }
    }

    async fn publish(
        self: &Arc<Self>,
        out: &Out,
        view: &View,
        delivery: &Delivery,
        delivered: Delivered,
    ) -> Result<Delivered, Trouble> {
        let published = match out {
            Out::Report => {
                let folder = self.engine.run_folder(&self.run);
                let text = format!("# {}\n\n{}\n", delivery.title, delivery.body.trim());
                let path = folder.join("report.md");
                let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, text));
                written.map_err(|error| Trouble {
                    fault: Fault::Environment,
                    message: format!("the report {} could not be written: {error}", path.display()),
                })?;
                Published { told: vec![format!("the report is {}", path.display())], ..Published::default() }
            }
            Out::Forge(outgoing) => {
                let spec = &self.plan.deliver;
                let run_key = if self.plan.key.is_empty() { self.run.as_str() } else { self.plan.key.as_str() };
                let key = format!("{}/{run_key}", self.plan.workflow);
                let event = outgoing.event.clone().unwrap_or_else(|| Event::read(&self.plan.event));
                let words = match (&outgoing.wording, &view.account) {
                    (Some(wording), Some(account)) => {
                        wording(&Told { account, context: &view.context, delivery, changes: &delivered.changes })
                    }
                    _ => Words { body: delivery.body.clone(), ..Words::default() },
                };
                // What the workflow words itself comes before what we would say.
                let own = spec.body.as_ref().map(|_| delivery.body.clone());
                let body = own.clone().unwrap_or_else(|| words.body.clone());
                let speaks = matches!(delivery.kind, DeliverKind::Comment | DeliverKind::Review);
                let comment = own.filter(|_| speaks).or_else(|| words.comment.clone());
                let steps = view.account.iter().flat_map(|account| &account.steps);
                let mut gates: Vec<_> =
                    steps.flat_map(|step| step.gates.iter().map(|(_, result, _)| result.clone())).collect();
                gates.extend(view.account.iter().flat_map(|account| account.final_gates.clone()));
                let publication = Publication {
                    delivery,
                    base: &self.base,
                    event: &event,
                    findings: &words.findings,
                    body: &body,
                    comment: comment.as_deref(),
                    memory: None,
                    issue: None,
                    key: &key,
                    draft: spec.draft,
                    passed: crate::deliver::all_passed(&self.plan, &gates),
                    asked: &spec.forge,
                    signing: &outgoing.signing,
                    labels: &spec.labels,
                    reviewers: &spec.reviewers,
                    target: outgoing.target.as_deref(),
                    prefix: &outgoing.prefix,
                    most_open: spec.most_open,
                    secrets: &self.engine.secrets,
                    hosts: &outgoing.hosts,
                };
                let repository = Arc::clone(&self.engine.repository);
                super::publish::publish(&*outgoing.forge, repository, &publication).await?
            }
        };
        let (branch, commit) = (published.branch.clone(), published.commit.clone());
        // A report, a comment and a review are made even where no file changed.
        let changed = delivered.changed
            || !matches!(delivery.kind, DeliverKind::PullRequest | DeliverKind::PushToBranch | DeliverKind::Branch);
        Ok(Delivered { branch, commit, changed, published: Some(Box::new(published)), ..delivered })
    }
}

/// Steps that work in one workspace share its sandboxes, one for writing and one for reading: making one costs more
/// than most commands.
pub(super) fn sandbox_name(step: &PlanStep) -> String {
    let workspace = Session::workspace_name(Some(step));
    if step.writes { format!("{workspace}-rw") } else { format!("{workspace}-ro") }
}

pub(super) fn last_gates(state: &State) -> Vec<crate::model::journal::GateResult> {
    let mut gates: indexmap::IndexMap<String, crate::model::journal::GateResult> = indexmap::IndexMap::new();
    for result in state.steps.iter().flat_map(|step| &step.gates).map(|gate| &gate.result).chain(&state.final_gates) {
        gates.insert(result.gate.clone(), result.clone());
    }
    gates.into_values().collect()
}

fn cost_words(state: &State) -> String {
    let mut words = state.spend.cost.to_string();
    if state.spend.unknown_calls > 0 {
        words.push_str(&format!(" and {} calls of unknown cost", state.spend.unknown_calls));
    }
    words
}
