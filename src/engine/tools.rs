//! Tool calls: judged, checkpointed, carried out.

use super::perform::{Trouble, View, sandbox_name};
use super::session::Session;
use crate::agent::patch::FilePatch;
use crate::agent::tools::{self, Call};
use crate::agent::{edit, patch, words};
use crate::model::exec::{Command, ExecMode, ExecStatus};
use crate::model::id::EffectKey;
use crate::model::plan::{AgentSpec, PlanStep, StepKind};
use crate::model::tool::{ToolCall, ToolOutcome, ToolStatus, WRITING_TOOLS};
use crate::policy::{self, Approved};
use crate::port::repository::{FileError, Workspace};
use crate::port::sandbox::Order;
use crate::text;
use std::sync::Arc;

/// Bytes of a file that a tool reads.
const READ_CAP: usize = 4 * 1024 * 1024;
/// Files that a listing shows, hits that a search shows.
const LIST_CAP: usize = 500;
const HITS_CAP: usize = 200;
/// Bytes of output and of differences that the model is shown.
const SHOWN: usize = 32 * 1024;
/// Default and longest time of a shell call, in seconds.
const SHELL_S: u64 = 300;
const SHELL_MOST_S: u64 = 1800;

impl Session {
    /// Judges one call and carries it out. What goes wrong with the call itself is told to the model; an error is
    /// only what nobody can go on from.
    pub(super) async fn call_tool(
        self: &Arc<Self>,
        key: &EffectKey,
        call: ToolCall,
        view: &View,
        again: bool,
    ) -> Result<ToolOutcome, Trouble> {
        let Some(step) = &view.step else { return Ok(lost()) };
        let StepKind::Agent(spec) = &step.kind else { return Ok(lost()) };
        let begun = self.engine.clock.now_ms();
        let approved = match self.judge(&call, spec) {
            Ok(approved) => approved,
            Err(ruling) => {
                let mut outcome = ToolOutcome::new(ToolStatus::Denied, words::denied(&ruling));
                outcome.ruling = Some(ruling);
                return Ok(outcome);
            }
        };
        let ruling = approved.ruling().clone();
        let workspace = self.workspace_of(view).await?;
        if WRITING_TOOLS.contains(&call.name.as_str()) && step.writes {
            self.checkpoint(key, &workspace, &call, again).await?;
        }
        let mut outcome = match Call::parse(&call) {
            Ok(Call::Shell { command, timeout_s }) => {
                self.shell(step, &workspace, command, timeout_s, approved).await?
            }
            Ok(other) => {
                let base = self.base.tree.clone();
                self.blocking(move |session| file_call(session, &*workspace, &base, other)).await?
            }
            Err(message) => ToolOutcome::new(ToolStatus::Error, message),
        };
        // What cannot be seen is no way to speak to the model behind everybody's back.
        outcome.content = text::visible(&outcome.content);
        outcome.ruling = Some(ruling);
        outcome.duration_ms = (self.engine.clock.now_ms() - begun).max(0).unsigned_abs();
        Ok(outcome)
    }

    fn judge(&self, call: &ToolCall, spec: &AgentSpec) -> Result<Approved, crate::model::tool::Ruling> {
        let checks: Vec<String> = self.plan.gates.values().map(|gate| gate.command.clone()).collect();
        policy::judge(
            &self.plan.policy,
            call,
            &policy::Scope {
                offered: &spec.tools,
                read_only: spec.read_only,
                blocked_commands: &spec.blocked_commands,
                protected_paths: &self.plan.protected_paths,
                workspace: "/workspace",
                can_ask: false,
                operator_commands: &checks,
            },
        )
    }

    /// Makes sure that the workspace is what it was before this call: a snapshot the first time, back to that
    /// snapshot when a crash cut the call.
    async fn checkpoint(
        self: &Arc<Self>,
        key: &EffectKey,
        workspace: &Arc<dyn Workspace>,
        call: &ToolCall,
        again: bool,
    ) -> Result<(), Trouble> {
        if self.plan.sandbox.exec_mode == ExecMode::Mount {
            if again {
                self.undo_cut_work(None, workspace, &format!("the tool call `{}`", call.name)).await?;
            }
            return Ok(());
        }
        let (key, workspace) = (key.clone(), Arc::clone(workspace));
        self.blocking(move |session| {
            match session.pinned(&key)? {
                Some(tree) if again => workspace.restore(&tree)?,
                _ => {
                    let tree = workspace.snapshot()?;
                    session.engine.repository.pin(&session.run, &key, &tree)?;
                }
            }
            Ok(())
        })
        .await
    }

    async fn shell(
        self: &Arc<Self>,
        step: &PlanStep,
        workspace: &Arc<dyn Workspace>,
        text: String,
        timeout_s: Option<u64>,
        approved: Approved,
    ) -> Result<ToolOutcome, Trouble> {
        let seconds = timeout_s.unwrap_or(SHELL_S).clamp(1, SHELL_MOST_S);
        let command = Command {
            timeout_ms: seconds * 1000,
            output_cap: SHOWN,
            env: step.env.clone(),
            writable: step.writes,
            ..Command::shell(text)
        };
        let order = Order::Agent(command, approved);
        let done = self.exec_in(&sandbox_name(step), workspace, order, &step.id).await?;
        let status = match done.status {
            ExecStatus::TimedOut => ToolStatus::TimedOut,
            ExecStatus::OutOfMemory | ExecStatus::TooManyProcesses => ToolStatus::Killed,
            ExecStatus::Exited(_) | ExecStatus::Signaled(_) => ToolStatus::Ok,
        };
        let mut outcome = ToolOutcome::new(status, tools::command(&done));
        if let ExecStatus::Exited(code) = done.status {
            outcome.exit_code = Some(code);
        }
        Ok(outcome)
    }
}

fn lost() -> ToolOutcome {
    ToolOutcome::new(ToolStatus::Error, "an internal error: this step has no agent; please report it")
}

/// A call that touches files only. Blocking.
fn file_call(
    session: &Session,
    workspace: &dyn Workspace,
    base: &crate::model::id::TreeId,
    call: Call,
) -> Result<ToolOutcome, Trouble> {
    let done = match call {
        Call::ReadFile { path, start_line, end_line } => read(workspace, &path)
            .and_then(|content| tools::read_file(&path, &content, start_line, end_line).map_err(Told::from)),
        Call::WriteFile { path, content } => write_file(workspace, &path, &content),
        Call::EditFile { path, old, new, replace_all } => read(workspace, &path).and_then(|before| {
            let after = edit::replace(&before, &old, &new, replace_all).map_err(Told::from)?;
            workspace.write(&path, after.as_bytes())?;
            Ok(tools::changed(&path, Some(&before), Some(&after)))
        }),
        Call::ApplyPatch { files } => apply_patch(workspace, &files),
        Call::ListFiles { path, glob } => workspace
            .list(path.as_deref().unwrap_or_default(), glob.as_deref(), LIST_CAP + 1)
            .map(|mut paths| {
                let total = paths.len();
                paths.truncate(LIST_CAP);
                tools::listing(&paths, total)
            })
            .map_err(Told::from),
        Call::Search { pattern, path, glob } => workspace
            .search(&pattern, path.as_deref().unwrap_or_default(), glob.as_deref(), HITS_CAP + 1)
            .map(|mut hits| {
                let more = hits.len() > HITS_CAP;
                hits.truncate(HITS_CAP);
                let hits: Vec<tools::Hit> = hits
                    .into_iter()
                    .map(|hit| tools::Hit {
                        path: hit.path,
                        line: usize::try_from(hit.line).unwrap_or(usize::MAX),
                        text: hit.text,
                    })
                    .collect();
                tools::search_results(&hits, more)
            })
            .map_err(Told::from),
        Call::GitDiff { path } => {
            let now = workspace.snapshot()?;
            let changes = session.engine.repository.diff(base, &now, 0)?;
            let shown = only_below(&changes.diff, path.as_deref());
            Ok(if shown.is_empty() { "No changes.".to_owned() } else { crate::text::cap(&shown, SHOWN) })
        }
        Call::GitLog { path, limit } => {
            let log = session.engine.repository.log(limit.unwrap_or(20).clamp(1, 200), path.as_deref())?;
            Ok(if log.is_empty() { "No commits.".to_owned() } else { crate::text::cap(&log, SHOWN) })
        }
        Call::Shell { .. } | Call::Finish { .. } => Err(Told("this call is not one for files".to_owned())),
    };
    Ok(match done {
        Ok(content) => ToolOutcome::new(ToolStatus::Ok, content),
        Err(Told(why)) => ToolOutcome::new(ToolStatus::Error, why),
    })
}

/// Something that is told to the model.
struct Told(String);

impl From<FileError> for Told {
    fn from(error: FileError) -> Self {
        Self(error.to_string())
    }
}

impl From<String> for Told {
    fn from(text: String) -> Self {
        Self(text)
    }
}

fn read(workspace: &dyn Workspace, path: &str) -> Result<String, Told> {
    let bytes = workspace.read(path, READ_CAP)?;
    String::from_utf8(bytes)
        .map_err(|_| Told(format!("`{path}` is not text in UTF-8; it cannot be read or edited here")))
}

fn read_if_there(workspace: &dyn Workspace, path: &str) -> Result<Option<String>, Told> {
    match workspace.read(path, READ_CAP) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(FileError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn write_file(workspace: &dyn Workspace, path: &str, content: &str) -> Result<String, Told> {
    let before = read_if_there(workspace, path)?;
    workspace.write(path, content.as_bytes())?;
    Ok(tools::changed(path, before.as_deref(), Some(content)))
}

/// All files or none: everything is computed before anything is written.
fn apply_patch(workspace: &dyn Workspace, files: &[FilePatch]) -> Result<String, Told> {
    let mut planned = Vec::new();
    for file in files {
        let original = match &file.old_path {
            Some(path) => Some(read(workspace, path)?),
            None => match read_if_there(workspace, file.path())? {
                Some(_) => {
                    return Err(Told(format!(
                        "`{}` exists already, and the patch would create it; nothing was changed",
                        file.path()
                    )));
                }
                None => None,
            },
        };
        let after =
            patch::apply(original.as_deref(), file).map_err(|why| Told(format!("{why}\nNothing was changed.")))?;
        planned.push((file, original, after));
    }
    let mut said = Vec::new();
    for (file, before, after) in planned {
        if let (Some(after), Some(path)) = (&after, &file.new_path) {
            workspace.write(path, after.as_bytes())?;
        }
        let moved = file.new_path.is_some() && file.new_path != file.old_path && !file.copy;
        if let Some(old) = &file.old_path
            && (after.is_none() || moved)
        {
            workspace.remove(old)?;
        }
        said.push(tools::changed(file.path(), before.as_deref(), after.as_deref()));
    }
    Ok(said.join("\n"))
}

/// The files of a difference that lie at or below a path.
fn only_below(diff: &str, path: Option<&str>) -> String {
    let Some(path) =
        path.map(|path| path.trim_start_matches("./").trim_end_matches('/')).filter(|path| !path.is_empty())
    else {
        return diff.to_owned();
    };
    let mut shown = String::new();
    let mut keep = false;
    for line in diff.split_inclusive('\n') {
        if let Some(names) = line.strip_prefix("diff --git ") {
            let name = names.trim_end().rsplit(" b/").next().unwrap_or_default();
            keep = name == path || name.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        }
        if keep {
            shown.push_str(line);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::only_below;

    #[test]
    fn a_difference_is_narrowed_to_a_path() {
        let diff = "diff --git a/src/a.rs b/src/a.rs\n+x\ndiff --git a/srcs/b.rs b/srcs/b.rs\n+y\n";
        assert_eq!(only_below(diff, Some("src/")), "diff --git a/src/a.rs b/src/a.rs\n+x\n");
        assert_eq!(only_below(diff, Some("srcs/b.rs")), "diff --git a/srcs/b.rs b/srcs/b.rs\n+y\n");
        assert_eq!(only_below(diff, None), diff);
    }
}
