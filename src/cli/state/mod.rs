//! What outlives a CI runner: where it is, who may write it, and what cannot hold where nothing keeps it.
//!
//! A run of the trusted branch works in the store itself. Every other one works in a copy that goes with the job: what
//! a change does to its copy, no later run sees. Runs about somebody's change may count money, where they are of the
//! trusted branch; what agents learnt in them is not kept, since a change can be made to teach.

pub(super) mod branch;

use super::ci::trusted::Commits;
use super::error::CliError;
use super::{Context, run};
use crate::engine::{Engine, publish::branch_name_fault};
use crate::model::account::Ending;
use crate::model::event::{Event, EventKind};
use crate::model::id::RunId;
use crate::plan::Memory;
use crate::port::forge::Forge;
use crate::port::repository::Repository;
use crate::port::world::Tape;
use crate::workflow::schema::{ConfigDoc, StateStore};
use branch::Branch;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// The variable that names the folder of the store `cache`.
pub(super) const FOLDER: &str = "CODEFORGE_STATE_DIR";
/// Most bytes that are copied of a store.
const LARGEST: u64 = 4 << 30;

/// A run's state.
#[derive(Debug)]
pub(super) struct State {
    /// The folder of the journal's database; `None`: the repository's own, which goes with the runner.
    pub folder: Option<PathBuf>,
    /// What limits may count on.
    pub memory: Memory,
    /// Whether what agents learn is kept.
    pub learns: bool,
    /// The branch that amounts are kept on.
    pub branch: Option<Branch>,
    /// A copy goes with this.
    _copy: Option<tempfile::TempDir>,
}

impl State {
    /// An engine that works with it, for a run.
    ///
    /// # Errors
    /// The store cannot be opened.
    pub(super) async fn engine(
        &self,
        repository: Arc<dyn Repository>,
        run: &RunId,
        cx: &Context<'_>,
    ) -> Result<Engine, CliError> {
        let folder = match (&self.folder, &self.branch) {
            // What others spent comes from the branch, and from nowhere else: each run has a journal of its own.
            (Some(folder), Some(_)) => folder.join(run.as_str()),
            (Some(folder), None) => folder.clone(),
            (None, _) => repository.state_dir().to_path_buf(),
        };
        run::engine_in(repository, &folder, &Tape::Off, cx).await
    }
}

/// Who a job is, for its state.
pub(super) struct Who<'a> {
    /// What happened.
    pub event: &'a Event,
    /// The branches whose runs may write.
    pub trusted: &'a [String],
    /// The checkout.
    pub root: &'a Path,
    /// A server runs the job, and keeps its state.
    pub served: bool,
    /// Whether the job's commit has files below a folder of the checkout.
    pub holds: &'a (dyn Fn(&str) -> bool + Sync),
    /// Where commits are had.
    pub commits: &'a Commits,
    /// The forge, where there is a token for it.
    pub forge: Option<&'a Arc<dyn Forge>>,
}

impl Who<'_> {
    /// Why this job must not write, in words; `None`: it may.
    fn may_not_write(&self) -> Option<String> {
        let of = self.event.git_ref.as_deref();
        // A change's own pipeline is the change's, whatever its branch is called.
        let proposed = self.event.kind == EventKind::PullRequest;
        let trusted = !proposed && self.trusted.iter().any(|branch| of == Some(&format!("refs/heads/{branch}")));
        // A run by hand in a container is of no ref and about nobody's change.
        let by_hand = of.is_none() && self.event.change.is_none() && self.event.kind == EventKind::Manual;
        if trusted || by_hand {
            return None;
        }
        let names = self.trusted.iter().map(|branch| format!("`{branch}`")).collect::<Vec<_>>().join(", ");
        let of = of.map_or_else(|| "no branch".to_owned(), |of| format!("`{}`", of.escape_debug()));
        Some(format!("this run is of {of}, and only runs of {names} write what others count on"))
    }

    /// Whether nobody's text had a say in what happened.
    fn is_ours(&self) -> bool {
        let kinds = [EventKind::Manual, EventKind::Schedule, EventKind::Push, EventKind::WorkflowDispatch];
        self.event.change.is_none() && kinds.contains(&self.event.kind)
    }
}

/// Finds a job's state.
///
/// # Errors
/// Exit code 2 where the store is not set up as it must be, 5 where it cannot be read.
pub(super) fn open(config: &ConfigDoc, who: &Who<'_>, cx: &Context<'_>) -> Result<State, CliError> {
    if who.served {
        let folder = cx.world.env(FOLDER).filter(|path| !path.trim().is_empty());
        let Some(folder) = folder.map(PathBuf::from).filter(|path| path.is_absolute()) else {
            return Err(CliError::usage(format!("a job of a server without its state: {FOLDER} names no full path")));
        };
        let learns = who.is_ours();
        return Ok(State { folder: Some(folder), memory: Memory::Kept, learns, branch: None, _copy: None });
    }
    let state = config.state.clone().unwrap_or_default();
    match state.store.unwrap_or_default() {
        StateStore::None => {
            Ok(State { folder: None, memory: Memory::Nowhere, learns: false, branch: None, _copy: None })
        }
        StateStore::Branch => on_branch(state.branch, who),
        StateStore::Cache => {
            let given = cx.world.env(FOLDER).filter(|path| !path.trim().is_empty()).or(state.path);
            let Some(path) = given else {
                return Err(CliError::usage("`state: { store: cache }` names no folder").hint(format!(
                    "set {FOLDER} to the folder that the CI system's cache brings and takes, or `state.path`"
                )));
            };
            cached(&who.root.join(path), who)
        }
    }
}

fn on_branch(named: Option<String>, who: &Who<'_>) -> Result<State, CliError> {
    let name = named.unwrap_or_else(|| branch::USUAL.to_owned());
    let refuse = |why: &str| {
        Err(CliError::usage(format!("`state.branch` is `{}`: {why}", name.escape_debug()))
            .hint(format!("name a branch that is for nothing else; the usual one is `{}`", branch::USUAL)))
    };
    if let Some(fault) = branch_name_fault(&name) {
        return refuse(&format!("that is no branch name ({fault})"));
    }
    if who.trusted.contains(&name) {
        return refuse("a trusted branch holds code, and what runs spent would be pushed over it");
    }
    let why = match (who.may_not_write(), who.forge) {
        (Some(why), _) => Some(why),
        (None, None) => Some(format!("this job has no token that could write the branch `{name}`")),
        (None, Some(_)) => None,
    };
    let copy = tempfile::Builder::new().prefix("codeforge-state-").tempdir().map_err(|error| {
        CliError::new(Ending::Unavailable, format!("no folder for the journal could be made: {error}"))
    })?;
    let branch = Branch { name, commits: who.commits.clone(), forge: who.forge.cloned() };
    Ok(State {
        folder: Some(copy.path().to_path_buf()),
        // A run that may not write has no limit that counts others, and needs nothing of the branch.
        branch: why.is_none().then_some(branch),
        memory: Memory::Amounts(why),
        learns: false,
        _copy: Some(copy),
    })
}

fn cached(folder: &Path, who: &Who<'_>) -> Result<State, CliError> {
    let refuse = |why: &str| {
        Err(CliError::usage(format!("the state's folder {} {why}", folder.display()))
            .hint("name a folder that only the CI system's cache fills, outside of the repository's own files"))
    };
    if folder.components().any(|part| part == Component::ParentDir) {
        return refuse("leads up (`..`)");
    }
    if let Ok(beneath) = folder.strip_prefix(who.root) {
        // The checkout is what somebody proposes: a change could bring a store of its own.
        let Some(name) = beneath.to_str().filter(|name| !name.is_empty()) else {
            return refuse("is the checkout itself");
        };
        if (who.holds)(name) {
            return refuse("is in the commit that this job is for: a change could bring a state of its own");
        }
        if beneath.components().next() == Some(Component::Normal(".git".as_ref())) {
            return refuse("is git's own");
        }
    }
    let cannot = |error: std::io::Error| {
        CliError::new(Ending::Unavailable, format!("the state's folder {} cannot be used: {error}", folder.display()))
    };
    let mut at = PathBuf::new();
    for part in folder.components() {
        at.push(part);
        match std::fs::symlink_metadata(&at) {
            Ok(meta) if meta.file_type().is_symlink() && at.starts_with(who.root) && at != who.root => {
                return refuse("is reached through a symbolic link");
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => break,
            Err(error) => return Err(cannot(error)),
        }
    }
    let files = ["journal.db", "journal.db-wal"].map(|name| folder.join(name));
    for file in &files {
        match std::fs::symlink_metadata(file) {
            Ok(meta) if !meta.is_file() => return refuse(&format!("holds a `{}` that is no file", name(file))),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(cannot(error)),
        }
    }
    let Some(why) = who.may_not_write() else {
        std::fs::create_dir_all(folder).map_err(cannot)?;
        let learns = who.is_ours();
        return Ok(State {
            folder: Some(folder.to_path_buf()),
            memory: Memory::Kept,
            learns,
            branch: None,
            _copy: None,
        });
    };
    let copy = tempfile::Builder::new().prefix("codeforge-state-").tempdir().map_err(cannot)?;
    for file in files.iter().filter(|file| file.exists()) {
        if std::fs::metadata(file).map_err(cannot)?.len() > LARGEST {
            return refuse("holds more than a state has");
        }
        std::fs::copy(file, copy.path().join(name(file))).map_err(cannot)?;
    }
    let folder = Some(copy.path().to_path_buf());
    Ok(State { folder, memory: Memory::ReadOnly(why), learns: false, branch: None, _copy: Some(copy) })
}

fn name(file: &Path) -> String {
    file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
