//! What effects do to workspaces: they are prepared, kept as trees, put back and joined.

use super::perform::{Trouble, View};
use super::session::{LONGEST_VALUE, MAIN, Session};
use crate::model::delivery::ChangeSet;
use crate::model::exec::{Command, ExecMode, ExecOutcome};
use crate::model::id::{EffectKey, StepId, TreeId};
use crate::model::journal::{Fault, Input};
use crate::port::repository::Workspace;
use crate::port::sandbox::Order;
use std::sync::Arc;

/// Bytes of a discarded difference that the next attempt is shown.
const DISCARD_SHOWN: usize = 12 * 1024;

impl Session {
    /// The workspace that a step works in.
    pub(super) async fn workspace_of(self: &Arc<Self>, view: &View) -> Result<Arc<dyn Workspace>, Trouble> {
        let name = Self::workspace_name(view.step.as_ref());
        let tree = view.before.clone().unwrap_or_else(|| self.base.tree.clone());
        self.blocking(move |session| Ok(session.workspace(&name, &tree)?)).await
    }

    pub(super) async fn prepare(self: &Arc<Self>, key: EffectKey) -> Result<Input, Trouble> {
        if let Some((name, bytes)) = self.longest_input() {
            return Err(Trouble::user(format!(
                "the input `{name}` has {bytes} bytes, and a command gets a value of at most {LONGEST_VALUE} as a \
                 variable; put it into a file of the repository and name the file"
            )));
        }
        let chosen = self.driver().await?.clone();
        let mut notes = chosen.notes;
        if !self.plan.sandbox.network_allow.is_empty() {
            notes.push(
                "`sandbox.network` names hosts; this version opens none of them: commands have no network".to_owned(),
            );
        }
        let base = self.base.tree.clone();
        let workspace = self.blocking(move |session| Ok(session.workspace(MAIN, &base)?)).await?;
        if self.plan.sandbox.exec_mode == ExecMode::Mount {
            notes.push("agents work in your tree itself (`exec_mode: mount`)".to_owned());
        }
        for command in &self.plan.sandbox.setup {
            let outcome = self.set_up(&workspace, command).await?;
            if !outcome.success() {
                return Err(Trouble::user(format!(
                    "the set-up command `{command}` ended with {}:\n{}\nmend `sandbox.setup` in {}",
                    outcome.describe(),
                    outcome.output.trim_end(),
                    self.plan.file
                )));
            }
        }
        if !self.plan.sandbox.setup.is_empty() {
            self.end_sandbox("setup").await;
            let sealed = Arc::clone(&workspace);
            self.blocking(move |_| Ok(sealed.seal()?)).await?;
        }
        Ok(Input::Prepared {
            key,
            driver: self.driver_name().to_owned(),
            workspace: workspace.made_by().to_owned(),
            notes,
        })
    }

    async fn set_up(self: &Arc<Self>, workspace: &Arc<dyn Workspace>, text: &str) -> Result<ExecOutcome, Trouble> {
        let sandbox = self.sandbox("setup", workspace, true, true).await?;
        let command = Command { timeout_ms: 1_800_000, env: self.variables(None), ..Command::shell(text) };
        let printed = self.printer(StepId::from("setup"));
        Ok(sandbox.exec(Order::Operator(command), &printed).await?)
    }

    /// Before work that a crash cut is done again: back to where it began. In a mounted tree nobody can tell what
    /// the cut work did, so the run stops there.
    pub(super) async fn undo_cut_work(
        self: &Arc<Self>,
        tree: Option<TreeId>,
        workspace: &Arc<dyn Workspace>,
        what: &str,
    ) -> Result<(), Trouble> {
        if self.plan.sandbox.exec_mode == ExecMode::Mount {
            return Err(Trouble {
                fault: Fault::Unknown,
                message: format!(
                    "{what} was cut by a crash and may have changed your tree (`exec_mode: mount`); look at `git \
                     status`, then start a new run"
                ),
            });
        }
        if let Some(tree) = tree {
            let workspace = Arc::clone(workspace);
            self.blocking(move |_| Ok(workspace.restore(&tree)?)).await?;
        }
        Ok(())
    }

    pub(super) async fn snapshot(self: &Arc<Self>, key: EffectKey, view: &View, after: bool) -> Result<Input, Trouble> {
        let workspace = self.workspace_of(view).await?;
        let before = view.before.clone().filter(|_| after);
        let name = key.clone();
        let (tree, files) = self
            .blocking(move |session| {
                let tree = workspace.snapshot()?;
                let repository = &session.engine.repository;
                repository.pin(&session.run, &name, &tree)?;
                let files = match before {
                    Some(before) if before != tree => repository.diff(&before, &tree, 1)?.files,
                    _ => Vec::new(),
                };
                Ok((tree, files))
            })
            .await?;
        Ok(Input::Snapshotted { key, tree, files })
    }

    pub(super) async fn restore(self: &Arc<Self>, key: EffectKey, view: &View, tree: TreeId) -> Result<Input, Trouble> {
        if let Some(step) = &view.step {
            // What a cut backend left at work must not write any more.
            self.end_sandbox(&super::backend::sandbox_name(step)).await;
        }
        let workspace = self.workspace_of(view).await?;
        let after = view.after.clone();
        let discarded = self
            .blocking(move |session| {
                let now = match after {
                    Some(after) => after,
                    None => workspace.snapshot()?,
                };
                let discarded = if now == tree {
                    ChangeSet::default()
                } else {
                    session.engine.repository.diff(&tree, &now, DISCARD_SHOWN)?
                };
                workspace.restore(&tree)?;
                Ok(discarded.diff)
            })
            .await?;
        Ok(Input::Restored { key, discarded })
    }

    pub(super) async fn join(
        self: &Arc<Self>,
        key: EffectKey,
        view: &View,
        theirs: Vec<(TreeId, TreeId, StepId)>,
    ) -> Result<Input, Trouble> {
        let workspace = self.workspace_of(view).await?;
        let name = key.clone();
        let (tree, conflicts) = self
            .blocking(move |session| {
                let repository = &session.engine.repository;
                // Looked up first: a join that was cut may have restored its result already.
                if let Some(done) = session.pinned(&name)? {
                    workspace.restore(&done)?;
                    return Ok((done, Vec::new()));
                }
                let mut ours = workspace.snapshot()?;
                for (base, theirs, _) in &theirs {
                    match repository.merge(base, &ours, theirs)? {
                        Ok(merged) => ours = merged,
                        Err(conflicts) => return Ok((ours, conflicts)),
                    }
                }
                repository.pin(&session.run, &name, &ours)?;
                workspace.restore(&ours)?;
                Ok((ours, Vec::new()))
            })
            .await?;
        Ok(Input::Joined { key, tree, conflicts })
    }
}
