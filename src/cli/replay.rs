//! `codeforge replay RUN|FILE`: a recorded run, gone through or made again.

use super::chosen::At;
use super::error::CliError;
use super::run::{compile, driver, engine_error, load};
use super::{Context, Format, tapes, watching};
use crate::cassette::{self, Recording, Side};
use crate::engine::{Engine, Outcome, Outlet, Playback, Refolded, Renamed, Stop, refold};
use crate::model::account::{Account, Ending};
use crate::model::chat::ModelRef;
use crate::model::exec::{DriverKind, ExecMode};
use crate::model::id::RunId;
use crate::model::journal::{Base, Input, RowBody};
use crate::model::plan::{Plan, StepKind};
use crate::model::progress::Progress;
use crate::model::recording::RecordedBase;
use crate::plan;
use crate::port::repository::Repository;
use crate::port::sandbox::SandboxDriver;
use crate::report;
use crate::workflow::schema::Library;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Goes through a recorded run without a model, a sandbox or a tool: this version's engine takes the recorded results
/// and must decide what was decided. With --assert the run is made again as the workflow is now: tools, policy and
/// gates are real, only the model's answers are the recorded ones, and every difference is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codeforge replay 7f3k
  codeforge replay tests/fix.jsonl
  codeforge replay tests/fix.jsonl --assert        # does the edited workflow still do the same?

Exit codes: 0 as recorded; 1 something differs; 2 the recording or the workflow cannot be used")]
pub struct Args {
    /// A run's id (or the beginning of it), or a cassette made by `run --record` or `runs export`
    #[arg(value_name = "RUN|FILE")]
    pub what: String,
    /// Make the run again with the workflow as it is now, and compare; nothing is delivered
    #[arg(long)]
    pub assert: bool,
    /// The repository.
    #[command(flatten)]
    pub at: At,
    /// Sandbox driver (default: as for the recorded run)
    #[arg(long, value_name = "auto|docker|native|none", value_parser = driver, requires = "assert")]
    pub sandbox: Option<DriverKind>,
    /// Start from the repository's files as they are now instead of those that the recorded run began with
    #[arg(long, requires = "assert")]
    pub here: bool,
}

/// Runs the command.
///
/// # Errors
/// [`CliError`], whose ending is the exit code.
pub async fn run(args: Args, cx: &Context<'_>, stop: Stop) -> Result<(), CliError> {
    let file = cx.world.cwd().join(&args.what);
    let recording = if file.is_file() { tapes::of_file(&file, &args.what)? } else { of_run(&args.what, cx).await? };
    if args.assert { again(&args, &recording, cx, stop).await } else { through(&args.what, &recording, cx) }
}

async fn of_run(what: &str, cx: &Context<'_>) -> Result<Recording, CliError> {
    // What looks like a file is not looked up as a run.
    if what.contains(['/', '.']) {
        return Err(CliError::usage(format!("there is no cassette {what}")).hint(
            "codeforge run … --record FILE makes one; codeforge runs export RUN FILE makes one of an earlier run",
        ));
    }
    tapes::of_run(what, cx).await
}

/// Without a model: the fold.
fn through(what: &str, recording: &Recording, cx: &Context<'_>) -> Result<(), CliError> {
    let Refolded { state, mismatch } =
        refold(&recording.rows).map_err(|message| CliError::usage(format!("{what}: {message}")))?;
    let account = crate::run::account(&state);
    if cx.verbosity > 0 {
        let mut lines = report::plain::Lines::new(cx.verbosity);
        for row in &recording.rows {
            lines.lines(&Progress::Recorded(row.clone())).iter().for_each(|line| cx.say(line));
        }
    }
    if cx.format == Format::Json {
        cx.data(&format!("{:#}\n", json!(account)));
    } else {
        cx.data(&report::account::render(&account, cx.style()));
    }
    match mismatch {
        None => {
            let intents = recording.rows.iter().filter(|row| matches!(row.body, RowBody::Intent(_))).count();
            cx.say(&format!("as recorded: {} rows, {intents} of them decisions of the engine", recording.rows.len()));
            Ok(())
        }
        Some(mismatch) => Err(CliError::new(
            Ending::Failed,
            format!("{what}: row {}: {}", mismatch.seq, report::line(&mismatch.message, 1000)),
        )
        .hint(format!(
            "the run was recorded by version {}, this is {}; rows after this one are not compared",
            recording.header.version,
            env!("CARGO_PKG_VERSION")
        ))),
    }
}

/// With everything but the model.
async fn again(args: &Args, recording: &Recording, cx: &Context<'_>, stop: Stop) -> Result<(), CliError> {
    let repository = cx.world.repository(&args.at.path(cx))?;
    let lost = || CliError::usage(format!("{}: its first row does not begin a run", args.what));
    let (recorded_plan, recorded_base) = recording.started().ok_or_else(lost)?;
    let run = match recording.rows.first().map(|row| &row.body) {
        Some(RowBody::Input(Input::Started { run, .. })) => run.clone(),
        _ => return Err(lost()),
    };
    let library = load(repository.root(), cx)?;
    let mut plan = compile(&library, &request(args, recording, recorded_plan, &library), cx)?;
    if plan.sandbox.exec_mode == ExecMode::Mount {
        cx.say("note: `exec_mode: mount` becomes a copy: a recorded run is not made again in your own tree");
        plan.sandbox.exec_mode = ExecMode::Sandbox;
    }
    let scratch = RunId::from_bits(cx.world.random());
    let (seen, base) = view(repository, recording, recorded_base, args.here, scratch.clone()).await?;
    let outcome = make(run.clone(), plan, base, Arc::clone(&seen), scratch, recording, cx, stop).await;
    let cleaned = tokio::task::spawn_blocking(move || seen.clean(&run)).await;
    if let Ok(Err(error)) = cleaned {
        cx.say(&format!("note: the workspaces could not be removed: {error}"));
    }
    let (now, account) = outcome?;
    if account.ending == Some(Ending::Unavailable) && account.driver.is_empty() {
        return Err(CliError::new(Ending::Unavailable, format!("the run could not be made again: {}", account.reason)));
    }
    let recorded = refold(&recording.rows).ok().filter(|folded| folded.mismatch.is_none());
    let recorded = recorded.map(|folded| crate::run::account(&folded.state));
    if recorded.is_none() {
        cx.say("note: this version would have decided otherwise (`codeforge replay` without --assert says where): how steps ended is not compared");
    }
    let compared = cassette::compare(
        Side { recording, account: recorded.as_ref() },
        Side { recording: &now, account: Some(&account) },
    );
    if cx.format == Format::Json {
        cx.data(&format!("{:#}\n", report::replay::json(&args.what, &compared)));
    } else {
        cx.data(&report::replay::render(&args.what, &compared, cx.color));
    }
    if compared.differences.is_empty() { Ok(()) } else { Err(CliError::silent(Ending::Failed)) }
}

/// What was asked for when the run was recorded.
fn request(args: &Args, recording: &Recording, recorded: &Plan, library: &Library) -> plan::Request {
    let options = &recording.header.options;
    let typed = |name: &String| {
        let text = match recorded.inputs.get(name)? {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Some((name.clone(), text))
    };
    plan::Request {
        workflow: recorded.workflow.clone(),
        inputs: recorded.trusted_inputs.iter().filter_map(typed).collect::<BTreeMap<_, _>>(),
        event: recorded.event.clone(),
        driver: args.sandbox.or(options.driver),
        deliver: options.deliver,
        budget_usd: options.budget_usd,
        models: models(recorded, library),
        allow_unpriced: true,
        ..plan::Request::default()
    }
}

/// The models that the environment named when the run was recorded: no key is needed to play their answers.
fn models(recorded: &Plan, library: &Library) -> Vec<ModelRef> {
    let mut models: Vec<ModelRef> = Vec::new();
    for step in recorded.steps.values() {
        let StepKind::Agent(spec) = &step.kind else { continue };
        for model in &spec.models {
            let configured = library.config.models.contains_key(model.name.as_str());
            if !configured && !models.iter().any(|other| other.name == model.name) {
                models.push(model.clone());
            }
        }
    }
    models
}

/// The repository as the recorded run found it, and its base.
async fn view(
    repository: Arc<dyn Repository>,
    recording: &Recording,
    recorded: &Base,
    here: bool,
    scratch: RunId,
) -> Result<(Arc<dyn Repository>, Base), CliError> {
    let wanted =
        RecordedBase { commit: recorded.commit.clone(), tree: recorded.tree.clone(), files: recording.files.clone() };
    let branch = recorded.branch.clone();
    let seen = tokio::task::spawn_blocking(move || {
        let wanted = if here {
            let base = repository.base()?;
            let files = repository.base_files(&base)?;
            RecordedBase { commit: base.commit, tree: base.tree, files }
        } else {
            wanted
        };
        let seen = repository.as_recorded(&wanted, &scratch)?;
        let base = Base { branch, ..seen.base()? };
        Ok::<_, crate::port::repository::RepositoryError>((seen, base))
    });
    let failed = |error: tokio::task::JoinError| CliError::new(Ending::Failed, format!("an internal error: {error}"));
    Ok(seen.await.map_err(failed)??)
}

/// Makes the run again, with a journal of its own that is gone afterwards.
#[expect(clippy::too_many_arguments, reason = "all that a run is made of, in one place")]
async fn make(
    run: RunId,
    plan: Plan,
    base: Base,
    repository: Arc<dyn Repository>,
    scratch: RunId,
    recording: &Recording,
    cx: &Context<'_>,
    stop: Stop,
) -> Result<(Recording, Account), CliError> {
    let folder = tempfile::Builder::new().prefix("codeforge-replay-").tempdir();
    let folder = folder.map_err(|error| CliError::new(Ending::Unavailable, format!("a temporary folder: {error}")))?;
    let renamed =
        |driver: Arc<dyn SandboxDriver>| Arc::new(Renamed::new(driver, scratch.clone())) as Arc<dyn SandboxDriver>;
    let watching = watching::watcher(cx);
    let engine = Engine {
        store: cx.world.store(folder.path()).await?,
        repository,
        drivers: cx.world.drivers().into_iter().map(renamed).collect(),
        models: Arc::new(Playback::of(recording)),
        gateway: cx.world.gateway(),
        clock: cx.world.clock(),
        watch: watching.watch(),
        owner: cx.world.owner(),
        secrets: cx.world.secrets(),
        outlet: Outlet::Mute,
    };
    let started = engine.start(run.clone(), plan, base, stop).await;
    watching.finish();
    let Outcome { state, interrupted } = started.map_err(engine_error)?;
    if interrupted {
        return Err(CliError::new(Ending::Cancelled, "interrupted: nothing was compared"));
    }
    let text = engine.export(&run, Vec::new()).await.map_err(engine_error)?;
    let now = cassette::read(&text, "the run made again");
    let now = now
        .map_err(|message| CliError::new(Ending::Failed, format!("an internal error: {message}; please report it")))?;
    Ok((now, crate::run::account(&state)))
}
