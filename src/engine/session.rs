//! What one run holds open: its workspaces, its sandboxes, its requests on the way.

use super::Engine;
use super::desk::{Questions, Word};
use super::sandboxes::{Chosen, choose, name};
use crate::model::chat::ChatRequest;
use crate::model::exec::ExecMode;
use crate::model::experience::Experience;
use crate::model::id::{EffectKey, RunId, StepId, TreeId};
use crate::model::journal::{Base, Purpose};
use crate::model::plan::{AgentSpec, Plan, PlanStep};
use crate::port::repository::{OpenWorkspace, RepositoryError, Workspace};
use crate::port::sandbox::{Guest, Home, Loopback, OpenSandbox, Sandbox, SandboxError};
use crate::run::State;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// The name of the workspace that all steps share.
pub(super) const MAIN: &str = "main";

/// Largest value, in bytes, that a command gets as a variable.
pub(super) const LONGEST_VALUE: usize = 100 * 1024;

/// A request that is ready to be sent.
pub(super) struct Ready {
    pub request: ChatRequest,
    /// How its answer is read; `None`: as the step's agent's.
    pub reader: Option<AgentSpec>,
}

pub(super) struct Session {
    pub engine: Engine,
    pub run: RunId,
    pub plan: Arc<Plan>,
    pub base: Base,
    workspaces: Mutex<HashMap<String, Arc<dyn Workspace>>>,
    sandboxes: tokio::sync::Mutex<HashMap<String, Arc<dyn Sandbox>>>,
    chosen: tokio::sync::OnceCell<Chosen>,
    requests: Mutex<HashMap<(StepId, Purpose), Ready>>,
    /// Each step's system prompt and first prompt, as its attempt began with them.
    pub(super) prompts: Mutex<HashMap<StepId, (String, String)>>,
    /// The experience that there was when this process began; empty where no step asks for it.
    pub(super) pool: std::sync::OnceLock<Vec<Experience>>,
    /// Hashes of the texts that are kept for recordings.
    pub(super) kept: Mutex<HashSet<String>>,
    /// Questions of programs in sandboxes.
    pub questions: Mutex<Questions>,
    /// From their desks to the loop.
    pub desks: mpsc::UnboundedSender<Word>,
}

impl Session {
    pub(super) fn new(engine: Engine, state: &State, desks: mpsc::UnboundedSender<Word>) -> Self {
        Self {
            engine,
            run: state.run.clone(),
            plan: Arc::clone(&state.plan),
            base: state.base.clone(),
            workspaces: Mutex::default(),
            sandboxes: tokio::sync::Mutex::default(),
            chosen: tokio::sync::OnceCell::new(),
            requests: Mutex::default(),
            prompts: Mutex::default(),
            pool: std::sync::OnceLock::new(),
            kept: Mutex::default(),
            questions: Mutex::default(),
            desks,
        }
    }

    /// The driver, chosen once per process.
    pub(super) async fn driver(&self) -> Result<&Chosen, SandboxError> {
        let spec = &self.plan.sandbox;
        self.chosen
            .get_or_try_init(|| choose(&self.engine.drivers, spec.driver, spec.image.as_deref(), spec.exec_mode))
            .await
    }

    /// Where a step works.
    pub(super) fn workspace_name(step: Option<&PlanStep>) -> String {
        match step {
            Some(step) if step.own_copy => format!("step-{}", step.id),
            _ => MAIN.to_owned(),
        }
    }

    /// Opens a workspace, or hands out the open one. Blocking.
    pub(super) fn workspace(&self, name: &str, tree: &TreeId) -> Result<Arc<dyn Workspace>, RepositoryError> {
        if let Some(open) = lock(&self.workspaces).get(name) {
            return Ok(Arc::clone(open));
        }
        let mode = match self.plan.sandbox.exec_mode {
            // Only the main workspace is the user's own tree.
            ExecMode::Mount if name != MAIN => ExecMode::Sandbox,
            mode => mode,
        };
        let workspace = self.engine.repository.workspace(&OpenWorkspace {
            run: self.run.clone(),
            name: name.to_owned(),
            tree: tree.clone(),
            base: self.base.tree.clone(),
            mode,
            step: None,
        })?;
        lock(&self.workspaces).insert(name.to_owned(), Arc::clone(&workspace));
        Ok(workspace)
    }

    /// The sandbox `name` over a workspace; opened on first use.
    pub(super) async fn sandbox(
        &self,
        name: &str,
        workspace: &Arc<dyn Workspace>,
        writable: bool,
        network: bool,
    ) -> Result<Arc<dyn Sandbox>, SandboxError> {
        let mut open = self.sandboxes.lock().await;
        if let Some(sandbox) = open.get(name) {
            return Ok(Arc::clone(sandbox));
        }
        let order = self.order(name, workspace, writable, network)?;
        let sandbox: Arc<dyn Sandbox> = Arc::from(self.driver().await?.driver.open(&order).await?);
        open.insert(name.to_owned(), Arc::clone(&sandbox));
        Ok(sandbox)
    }

    /// Opens a sandbox for a program that is not ours.
    pub(super) async fn guest_sandbox(
        &self,
        name: &str,
        workspace: &Arc<dyn Workspace>,
        writable: bool,
        loopback: Option<Loopback>,
        guest: Guest,
    ) -> Result<Arc<dyn Sandbox>, SandboxError> {
        let mut open = self.sandboxes.lock().await;
        let order = OpenSandbox { loopback, guest: Some(guest), ..self.order(name, workspace, writable, false)? };
        let sandbox: Arc<dyn Sandbox> = Arc::from(self.driver().await?.driver.open(&order).await?);
        open.insert(name.to_owned(), Arc::clone(&sandbox));
        Ok(sandbox)
    }

    fn order(
        &self,
        name: &str,
        workspace: &Arc<dyn Workspace>,
        writable: bool,
        network: bool,
    ) -> Result<OpenSandbox, SandboxError> {
        Ok(OpenSandbox {
            run: self.run.clone(),
            name: name.to_owned(),
            workspace: workspace.root().to_path_buf(),
            writable,
            git_dir: workspace.git_dir(),
            git_objects: workspace.git_objects(),
            source: (self.plan.sandbox.exec_mode == ExecMode::Hybrid)
                .then(|| self.engine.repository.root().to_path_buf()),
            home: self.home(workspace.owner(), network)?,
            image: self.plan.sandbox.image.clone(),
            resources: self.plan.sandbox.resources.clone(),
            network,
            env: self.plan.env.clone(),
            owner: workspace.owner(),
            loopback: None,
            guest: None,
        })
    }

    /// What commands find in their home folder: what `setup`, which alone has a network, left there.
    fn home(&self, owner: (u32, u32), setup: bool) -> Result<Home, SandboxError> {
        if self.plan.sandbox.setup.is_empty() {
            return Ok(Home::Fresh);
        }
        let folder = self.engine.repository.home(&self.run, owner);
        let folder = folder.map_err(|error| SandboxError::Broken(error.to_string()))?;
        let empty = || std::fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_none());
        Ok(if setup {
            Home::Kept(folder)
        } else if empty() {
            Home::Fresh
        } else {
            Home::Over(folder)
        })
    }

    /// Ends one sandbox, so that the next use opens a fresh one.
    pub(super) async fn end_sandbox(&self, name: &str) {
        let sandbox = self.sandboxes.lock().await.remove(name);
        if let Some(sandbox) = sandbox {
            let _ = sandbox.close().await;
        }
    }

    /// Ends all sandboxes.
    pub(super) async fn close(&self) {
        let open: Vec<Arc<dyn Sandbox>> = self.sandboxes.lock().await.drain().map(|(_, sandbox)| sandbox).collect();
        for sandbox in open {
            let _ = sandbox.close().await;
        }
        lock(&self.workspaces).clear();
    }

    /// Forgets a workspace that is not needed any more.
    pub(super) fn forget_workspace(&self, name: &str) {
        lock(&self.workspaces).remove(name);
    }

    /// After the end: workspaces go, unless somebody was promised to find them.
    pub(super) async fn tidy(&self, state: &State) {
        let kept = state.steps.iter().flat_map(|step| &step.gates).any(|gate| gate.led_to.contains("for inspection"));
        if state.ending.is_some() && !kept {
            let (repository, run) = (Arc::clone(&self.engine.repository), self.run.clone());
            let cleaned = tokio::task::spawn_blocking(move || repository.clean(&run)).await;
            if let Ok(Err(error)) = cleaned {
                self.note(&format!("the run's workspaces could not be removed: {error}"));
            }
        }
    }

    pub(super) fn note(&self, text: &str) {
        self.engine.watch.saw(&crate::model::progress::Progress::Note(text.to_owned()));
    }

    pub(super) fn keep_request(&self, step: &StepId, purpose: Purpose, ready: Ready) {
        lock(&self.requests).insert((step.clone(), purpose), ready);
    }

    /// Whether a request is ready.
    pub(super) fn has_request(&self, step: &StepId, purpose: &Purpose) -> bool {
        lock(&self.requests).contains_key(&(step.clone(), purpose.clone()))
    }

    /// Hands a request out, to be sent.
    pub(super) fn take_request(&self, step: &StepId, purpose: &Purpose) -> Option<Ready> {
        lock(&self.requests).remove(&(step.clone(), purpose.clone()))
    }

    /// An input that is too long to be a variable.
    pub(super) fn longest_input(&self) -> Option<(&str, usize)> {
        self.plan
            .inputs
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.as_str()?.len())))
            .find(|(_, bytes)| *bytes > LONGEST_VALUE)
    }

    /// The variables of a `run:` step or a gate: the step's, `INPUT_…`, and the event's plain values.
    pub(super) fn variables(&self, step: Option<&PlanStep>) -> BTreeMap<String, String> {
        let mut env = step.map(|step| step.env.clone()).unwrap_or_default();
        for (name, value) in &self.plan.inputs {
            put(&mut env, format!("INPUT_{}", name.to_uppercase()), value);
        }
        if let Some(event) = self.plan.event.as_object() {
            for (name, value) in event {
                if !value.is_object() && !value.is_array() && !value.is_null() {
                    put(&mut env, format!("EVENT_{}", name.to_uppercase()), value);
                }
            }
        }
        env.insert("CODEFORGE_RUN".into(), self.run.to_string());
        env
    }

    /// What is pinned for an effect. Blocking.
    pub(super) fn pinned(&self, key: &EffectKey) -> Result<Option<TreeId>, RepositoryError> {
        self.engine.repository.pinned(&self.run, key)
    }

    /// The chosen driver's name, or what was asked for while none is chosen.
    pub(super) fn driver_name(&self) -> &'static str {
        self.chosen.get().map_or(name(self.plan.sandbox.driver), |chosen| name(chosen.driver.kind()))
    }
}

fn put(env: &mut BTreeMap<String, String>, name: String, value: &Value) {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.len() <= LONGEST_VALUE && !text.contains('\0') {
        env.insert(name, text);
    }
}

/// A lock that a panicking thread left behind still guards sound data here: every critical section is one call.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
