//! A step's backend: its sandbox, its command line, its way to the gateway, and what the policy says of its changes.

use super::gateway::Door;
use super::perform::{Trouble, View};
use super::session::{Session, lock};
use crate::agent::backend::{self as program, Reader, Values};
use crate::model::backend::{BackendOutcome, BackendSpec, Dialect};
use crate::model::delivery::{ChangeKind, FileChange};
use crate::model::exec::{Command, DriverKind, ExecStatus};
use crate::model::id::{EffectKey, TreeId};
use crate::model::journal::{Effect, Fault, Input};
use crate::model::plan::{AgentSpec, PlanStep, StepKind};
use crate::model::progress::Progress;
use crate::model::tool::{Ruling, ToolCall};
use crate::policy;
use crate::port::gateway::GATEWAY_PORT;
use crate::port::repository::Workspace;
use crate::port::sandbox::{Guest, Order, SandboxError};
use crate::run::State;
use crate::{agent, text};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// Time of a backend where nothing limits it, in milliseconds.
const LONGEST_MS: u64 = 3_600_000;
/// Bytes of its output that are kept.
const KEPT: usize = 32 * 1024;

/// What holds of every mode's prompt where another program reads it.
const OTHER_TOOLS: &str = "The tools that are named above belong to another program: use your own for the same ends, and \
                           where something is to be called at the end, end with a short account in plain words instead. \
                           Change files in the current folder only, and make no commits.";

/// The sandbox of a step's backend.
pub(super) fn sandbox_name(step: &PlanStep) -> String {
    format!("backend-{}", step.id)
}

impl Session {
    /// What a step's backend is asked: the mode's prompt, the step's, and what the last attempt left. Empty where the
    /// step gives a command and no prompt.
    pub(super) fn backend_prompt(&self, state: &State, effect: &Effect) -> Result<String, String> {
        let lost = || "an internal error: a backend for a step that has no agent; please report it".to_owned();
        let index = effect.step.as_ref().and_then(|step| state.index(step)).ok_or_else(lost)?;
        let (step, spec) = state.plan_step(index).zip(state.agent_spec(index)).ok_or_else(lost)?;
        if spec.system_template.is_empty() && spec.prompt.is_empty() {
            return Ok(String::new());
        }
        let (system, mut prompt) = self.prompts(state, index, step, spec)?;
        let progress = state.steps.get(index).ok_or_else(lost)?;
        if let Some(feedback) = &progress.feedback {
            prompt.push_str("\n\n");
            prompt.push_str(&agent::words::retry(progress.attempt, &feedback.gates, &feedback.discarded));
            if !feedback.said.is_empty() {
                prompt.push_str(&format!("\n{}\n", text::fence(&feedback.said)));
            }
        }
        Ok(format!("{}\n\n{OTHER_TOOLS}\n\n{prompt}", system.trim_end()))
    }

    /// Runs a step's backend to its end and judges what it changed.
    pub(super) async fn run_backend(
        self: &Arc<Self>,
        key: EffectKey,
        view: &View,
        prompt: Result<String, String>,
        again: bool,
    ) -> Result<Input, Trouble> {
        let prompt = prompt.map_err(Trouble::user)?;
        let lost = || Trouble::bug("a backend for a step that has none");
        let step = view.step.as_ref().ok_or_else(lost)?;
        let StepKind::Agent(spec) = &step.kind else { return Err(lost()) };
        let backend = spec.backend.as_ref().ok_or_else(lost)?;
        let workspace = self.workspace_of(view).await?;
        let name = sandbox_name(step);
        self.end_sandbox(&name).await;
        let _ends = Ends { session: Arc::clone(self), name: (!step.writes || step.own_copy).then(|| name.clone()) };
        if again {
            let what = format!("the backend `{}` of step `{}`", backend.name, step.id);
            self.undo_cut_work(view.before.clone(), &workspace, &what).await?;
        }
        let done = self.backend_at_work(&name, step, spec, backend, &workspace, &prompt).await;
        // Nothing of it is left when its work is looked at.
        self.end_sandbox(&name).await;
        let mut outcome = done?;
        if step.writes {
            let before = view.before.clone().unwrap_or_else(|| self.base.tree.clone());
            let (tree, files, denied) = self.changes(key.clone(), before, spec, backend, workspace).await?;
            (outcome.tree, outcome.files, outcome.denied) = (Some(tree), files, denied);
        }
        Ok(Input::BackendDone { key, outcome })
    }

    async fn backend_at_work(
        self: &Arc<Self>,
        name: &str,
        step: &PlanStep,
        spec: &AgentSpec,
        backend: &BackendSpec,
        workspace: &Arc<dyn Workspace>,
        prompt: &str,
    ) -> Result<BackendOutcome, Trouble> {
        let door = match backend.dialect {
            Dialect::None => None,
            _ => Some(self.open_door(step).await?),
        };
        let guest =
            Guest { programs: backend.programs.clone(), show: backend.show.iter().map(PathBuf::from).collect() };
        let loopback = door.as_ref().map(Door::loopback);
        let sandbox = self.guest_sandbox(name, workspace, step.writes, loopback, guest).await.map_err(|error| {
            let missing = matches!(error, SandboxError::Missing(_));
            match Trouble::from(error) {
                trouble if missing => needs(backend, &trouble.message),
                trouble => trouble,
            }
        })?;
        // Where nothing is separated, the port is whichever was free.
        let port = match (sandbox.kind(), &door) {
            (DriverKind::None, Some(door)) => door.port().ok_or_else(|| Trouble::bug("a listener without a port"))?,
            _ => GATEWAY_PORT,
        };
        let home = sandbox.home();
        let token = door.as_ref().map(Door::token).unwrap_or_default();
        let started = program::start(
            backend,
            &Values {
                prompt,
                model: spec.models.first().map(|model| model.model.as_str()).unwrap_or_default(),
                base_url: &format!("http://127.0.0.1:{port}"),
                api_key: token,
                home: &home.to_string_lossy(),
            },
        )
        .map_err(Trouble::user)?;
        let mut env = if backend.dialect == Dialect::None { self.variables(Some(step)) } else { step.env.clone() };
        env.extend(started.env);
        let program_name = started.argv.first().cloned().unwrap_or_default();
        let command = Command {
            argv: started.argv,
            env,
            timeout_ms: step.timeout_ms.unwrap_or(LONGEST_MS),
            output_cap: KEPT,
            writable: step.writes,
            home_files: started.files,
            ..Command::shell("")
        };
        let secrets: Vec<String> = self.engine.secrets.iter().cloned().chain([token.to_owned()]).collect();
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).filter(|secret| !secret.is_empty()).collect();
        let reader = Mutex::new(Reader::new(&backend.stream));
        let printed = |more: &str| {
            let shown = lock(&reader).push(more);
            if !shown.is_empty() {
                let text = text::redact(&shown, &secrets);
                self.engine.watch.saw(&Progress::Output { step: step.id.clone(), text });
            }
        };
        let mut exec = sandbox.exec(Order::Operator(command), &printed).await?;
        if exec.status == ExecStatus::Exited(127) && sandbox.kind() == DriverKind::Docker && !backend.literal {
            return Err(needs(backend, &format!("the image has no program `{program_name}`")));
        }
        exec.output = text::redact(&exec.output, &secrets);
        let said = std::mem::take(&mut *lock(&reader)).finish();
        let clean = |words: &str| text::redact(&text::clean(words), &secrets);
        Ok(BackendOutcome {
            exec,
            text: clean(&said.text),
            prompt: prompt.to_owned(),
            error: said.error.as_deref().map(clean),
            usage: said.usage,
            session: said.session.as_deref().map(clean),
            tree: None,
            files: Vec::new(),
            denied: Vec::new(),
        })
    }

    /// The tree that a backend left, what differs from the one before, and what of that the policy refuses.
    async fn changes(
        self: &Arc<Self>,
        key: EffectKey,
        before: TreeId,
        spec: &AgentSpec,
        backend: &BackendSpec,
        workspace: Arc<dyn Workspace>,
    ) -> Result<(TreeId, Vec<FileChange>, Vec<(String, Ruling)>), Trouble> {
        let (spec, leaves) = (spec.clone(), backend.leaves.clone());
        self.blocking(move |session| {
            let repository = &session.engine.repository;
            let look = || -> Result<(TreeId, Vec<FileChange>), Trouble> {
                let tree = workspace.snapshot()?;
                let files = if tree == before { Vec::new() } else { repository.diff(&before, &tree, 1)?.files };
                Ok((tree, files))
            };
            let (mut tree, mut files) = look()?;
            let own: Vec<_> = leaves.iter().filter_map(|glob| globset::Glob::new(glob).ok()).collect();
            let own: Vec<_> = own.iter().map(globset::Glob::compile_matcher).collect();
            let left = files
                .iter()
                .filter(|file| file.kind == ChangeKind::Added && own.iter().any(|glob| glob.is_match(&file.path)));
            // What cannot be removed is a change like any other.
            let removed = left.filter(|file| workspace.remove(&file.path).is_ok()).count();
            if removed > 0 {
                (tree, files) = look()?;
            }
            repository.pin(&session.run, &key, &tree)?;
            let paths = files.iter().flat_map(|file| [Some(&file.path), file.from.as_ref()]).flatten();
            let denied = paths.filter_map(|path| session.may_write(path, &spec).err().map(|no| (path.clone(), no)));
            let denied = denied.collect();
            Ok((tree, files, denied))
        })
        .await
    }

    /// Whether the policy lets an agent write a path.
    fn may_write(&self, path: &str, spec: &AgentSpec) -> Result<(), Ruling> {
        let call = ToolCall {
            id: String::new(),
            name: "write_file".into(),
            args: serde_json::json!({ "path": path, "content": "" }),
            malformed: None,
        };
        let scope = policy::Scope {
            offered: &["write_file".to_owned()],
            read_only: spec.read_only,
            blocked_commands: &[],
            protected_paths: &self.plan.protected_paths,
            operator_commands: &[],
            workspace: "/workspace",
            can_ask: false,
        };
        policy::judge(&self.plan.policy, &call, &scope).map(|_| ())
    }
}

/// Ends a program whose step was cut, where no restoring does that.
struct Ends {
    session: Arc<Session>,
    name: Option<String>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        if let (Some(name), Ok(runtime)) = (self.name.take(), tokio::runtime::Handle::try_current()) {
            let session = Arc::clone(&self.session);
            runtime.spawn(async move { session.end_sandbox(&name).await });
        }
    }
}

/// The program is not there: what to do about it.
fn needs(backend: &BackendSpec, why: &str) -> Trouble {
    let install = match backend.install.as_str() {
        "" => String::new(),
        install => format!("; install it: {install}"),
    };
    Trouble {
        fault: Fault::Environment,
        message: format!("backend `{}` cannot be started: {why}{install}", backend.name),
    }
}
