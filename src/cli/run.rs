//! `codeforge run WORKFLOW`: the main job.

use super::Context;
use super::chosen::At;
use super::ci::{blocking, earlier};
use super::error::CliError;
use super::{Format, artifacts, forge, sources, tapes, watching};
use crate::engine::{Engine, EngineError, Outcome, Outlet, Stop, history, publish};
use crate::model::account::Ending;
use crate::model::diagnostic::{Diagnostic, Severity};
use crate::model::exec::DriverKind;
use crate::model::id::RunId;
use crate::model::plan::{DeliverKind, Plan};
use crate::model::recording::RunOptions;
use crate::plan::{self, scope};
use crate::port::repository::Repository;
use crate::port::world::Tape;
use crate::report;
use crate::workflow::{self, schema::Library};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Runs a workflow in a repository.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codeforge run fix -i task=\"parse() drops the last field\"
  codeforge run fix -i task=@issue.md --deliver branch
  codeforge run review --sandbox native --budget 0.50
  codeforge run review --since main            # what is new here, committed or not
  codeforge run fix -i task=x --artifact a.json && codeforge deliver a.json
  codeforge run fix -i task=x --dry-run        # show the plan, its limits and a quote; spend nothing")]
pub struct Args {
    /// The workflow's name (`codeforge validate` lists what is here)
    pub workflow: String,
    /// An input; `-i KEY=@FILE` reads the value from a file
    #[arg(short = 'i', long = "input", value_name = "KEY=VALUE")]
    pub inputs: Vec<String>,
    /// Sandbox driver
    #[arg(long, value_name = "auto|docker|native|none", value_parser = driver)]
    pub sandbox: Option<DriverKind>,
    /// The event that the run is for: a JSON file
    #[arg(long, value_name = "FILE")]
    pub event: Option<PathBuf>,
    /// Show the agents what changed since this commit, branch or tag: as a change of that
    #[arg(long, value_name = "REV")]
    pub since: Option<String>,
    /// What to hand over
    #[arg(long, value_name = "none|patch|commit-local|branch|pull_request|…", value_parser = deliver_kind)]
    pub deliver: Option<DeliverKind>,
    /// The repository.
    #[command(flatten)]
    pub at: At,
    /// Show the plan, its limits and what it would cost; run nothing, spend nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Tightens the budget, in US dollars
    #[arg(long, value_name = "USD", value_parser = positive)]
    pub budget: Option<f64>,
    /// Take the model's answers from this file instead of a provider
    #[arg(long, value_name = "FILE")]
    pub cassette: Option<PathBuf>,
    /// Record the whole run in this file, for `codeforge replay`
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Hand nothing over: put the change into this file, for `codeforge deliver` or another job
    #[arg(long, value_name = "FILE")]
    pub artifact: Option<PathBuf>,
}

/// Reads a driver's name.
pub(super) fn driver(text: &str) -> Result<DriverKind, String> {
    match text {
        "auto" => Ok(DriverKind::Auto),
        "docker" => Ok(DriverKind::Docker),
        "native" => Ok(DriverKind::Native),
        "none" => Ok(DriverKind::None),
        other => Err(format!("`{other}` is not a sandbox driver; choose auto, docker, native or none")),
    }
}

pub(super) fn deliver_kind(text: &str) -> Result<DeliverKind, String> {
    match text {
        "none" => Ok(DeliverKind::None),
        "patch" => Ok(DeliverKind::Patch),
        "commit-local" => Ok(DeliverKind::CommitLocal),
        "branch" => Ok(DeliverKind::Branch),
        "pull_request" => Ok(DeliverKind::PullRequest),
        "push-to-branch" => Ok(DeliverKind::PushToBranch),
        "comment" => Ok(DeliverKind::Comment),
        "review" => Ok(DeliverKind::Review),
        "report" => Ok(DeliverKind::Report),
        "issue" => Err(crate::engine::publish::KEPT_BY_CI.to_owned()),
        other => Err(format!(
            "`{other}` is not a delivery; choose none, patch, commit-local, branch, pull_request, push-to-branch, \
             comment, review or report"
        )),
    }
}

pub(super) fn positive(text: &str) -> Result<f64, String> {
    match text.trim_start_matches('$').parse::<f64>() {
        Ok(usd) if usd >= 0.0 && usd.is_finite() => Ok(usd),
        _ => Err(format!("`{text}` is not an amount of US dollars")),
    }
}

/// Runs the command.
///
/// # Errors
/// [`CliError`], whose ending is the exit code.
pub async fn run(args: Args, cx: &Context<'_>, stop: Stop) -> Result<(), CliError> {
    let repository = cx.world.repository(&args.at.path(cx))?;
    let inputs = read_inputs(&args.inputs, cx.world.cwd())?;
    let event = read_event(args.event.as_deref(), cx.world.cwd())?;
    let library = load(repository.root(), cx)?;
    let tape = args.cassette.map_or(Tape::Off, |file| Tape::Play(cx.world.cwd().join(file)));
    let order = Order {
        options: RunOptions { driver: args.sandbox, deliver: args.deliver, budget_usd: args.budget },
        record: args.record.map(|file| cx.world.cwd().join(file)),
        artifact: args.artifact.as_ref().map(|file| cx.world.cwd().join(file)),
    };
    let request = plan::Request {
        workflow: args.workflow,
        inputs,
        event,
        driver: args.sandbox,
        deliver: args.deliver,
        budget_usd: args.budget,
        models: cx.world.models(&tape),
        allow_unpriced: matches!(tape, Tape::Play(_)),
        held: args.artifact.is_some(),
        ..plan::Request::default()
    };
    let mut plan = compile(&library, &request, cx)?;
    if let Some(rev) = &args.since {
        show_since(rev, &repository, &mut plan, cx).await?;
    }
    if args.dry_run {
        return look(&plan, &*repository, cx).await;
    }
    start(plan, repository, &tape, order, cx, stop).await
}

/// Puts what changed since a commit into the event, where CI puts a change: files that are not committed count, too.
async fn show_since(
    rev: &str,
    repository: &Arc<dyn Repository>,
    plan: &mut Plan,
    cx: &Context<'_>,
) -> Result<(), CliError> {
    if !earlier::shows_change(plan) {
        return Err(CliError::usage(format!(
            "workflow `{}` is shown no change, so --since changes nothing",
            plan.workflow
        ))
        .hint("a prompt shows one by `{{ event.change.diff }}`, as `review`'s does"));
    }
    let checkout = cx.world.checkout(repository.root())?;
    let (named, here) = (rev.to_owned(), Arc::clone(repository));
    let changes = blocking(move || {
        let commit = checkout.named(&named)?.ok_or_else(|| {
            CliError::usage(format!("--since {}: there is no such commit, branch or tag here", named.escape_debug()))
                .hint("`git log --oneline` shows the commits; `git fetch` brings what is missing")
        })?;
        let base = here.base()?;
        Ok(here.diff(&here.committed(&commit)?, &base.tree, 0)?)
    })
    .await?;
    if changes.files.is_empty() {
        return Err(CliError::usage(format!("nothing changed since {}: there is nothing to show", rev.escape_debug())));
    }
    scope::scope(&changes, scope::ROOM).lay_on(&mut plan.event, None, &[]);
    Ok(())
}

/// What a run is started with, beside its plan.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// What was asked for on the command line.
    pub options: RunOptions,
    /// Where it is recorded.
    pub record: Option<PathBuf>,
    /// The artifact that it ends in.
    pub artifact: Option<PathBuf>,
}

/// Shows a plan and what it would cost; spends nothing.
pub(super) async fn look(plan: &Plan, repository: &dyn Repository, cx: &Context<'_>) -> Result<(), CliError> {
    let store = cx.world.store(repository.state_dir()).await?;
    let (earlier, left) = history::spent(&*store, plan, cx.world.clock().now_ms()).await?;
    let quote = report::quote::quote(plan, &earlier, left);
    if cx.format == Format::Json {
        let mut value: Value = serde_json::from_str(&report::plan::render(plan, true)).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            fields.insert("quote".into(), quote.json());
        }
        cx.data(&format!("{value:#}\n"));
    } else {
        cx.data(&report::plan::render(plan, false));
        cx.data(&quote.render(&plan.workflow));
    }
    Ok(())
}

/// Loads everything that a plan is compiled from.
pub(super) fn load(root: &Path, cx: &Context<'_>) -> Result<Library, CliError> {
    let mut all = workflow::builtin();
    all.extend(sources::read(root, cx.config.as_deref()).map_err(|error| CliError::usage(error.to_string()))?);
    Ok(library(&all, root))
}

/// Loads documents; presets that the configuration extends are read from beside it.
pub(super) fn library(all: &[workflow::Source], root: &Path) -> Library {
    let base = root.join(".codeforge");
    // A preset is read from beside the configuration and from nowhere else.
    let extended = |path: &str| {
        // As the configuration's own path, from the repository's top; or from beside it.
        let path = Path::new(path).strip_prefix(".codeforge").unwrap_or(Path::new(path));
        let inside = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if inside { std::fs::read_to_string(base.join(path)).ok() } else { None }
    };
    workflow::load(all, &extended)
}

/// Compiles, or shows all that is wrong.
pub(super) fn compile(library: &Library, request: &plan::Request, cx: &Context<'_>) -> Result<Plan, CliError> {
    plan::compile(library, request).map_err(|problems| {
        show(&problems, cx);
        CliError::silent(Ending::Misconfigured)
    })
}

/// Why a workflow cannot run, in a sentence that names the first place: reports and job lists show no more.
pub(super) fn refused(workflow: &str, problems: &[Diagnostic]) -> CliError {
    let mut errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
    let why = errors.next().map_or_else(String::new, |first| {
        let place = &first.place;
        format!(": {}:{}:{}: {}", place.file, place.line, place.column, first.message)
    });
    let more = match errors.count() {
        0 => String::new(),
        many => format!(" (and {many} more)"),
    };
    CliError::usage(format!("workflow `{workflow}` cannot run as it stands{why}{more}"))
}

fn show(problems: &[Diagnostic], cx: &Context<'_>) {
    for problem in problems.iter().filter(|problem| problem.severity == Severity::Error) {
        cx.say(report::diagnostics::render(problem, cx.color).trim_end());
        cx.say("");
    }
}

/// Starts a compiled plan and shows how it went.
pub(super) async fn start(
    plan: Plan,
    repository: Arc<dyn Repository>,
    tape: &Tape,
    order: Order,
    cx: &Context<'_>,
    stop: Stop,
) -> Result<(), CliError> {
    if let Some(file) = &order.record {
        tapes::check(file)?;
    }
    if let Some(file) = &order.artifact {
        artifacts::check(file)?;
    }
    let engine = engine(repository, tape, cx).await?;
    // Said before anything is spent.
    if plan.deliver.kind.is_of_a_forge() && !plan.deliver.held && matches!(engine.outlet, Outlet::Closed) {
        return Err(CliError::usage(publish::NO_FORGE));
    }
    let taking_stock = Arc::clone(&engine.repository);
    let base = tokio::task::spawn_blocking(move || taking_stock.base())
        .await
        .map_err(|error| CliError::new(Ending::Failed, format!("an internal error: {error}")))??;
    let id = RunId::from_bits(cx.world.random());
    engine.keep_options(&id, &order.options).await.map_err(engine_error)?;
    if let Some(file) = &order.record {
        tapes::promise(&engine, &id, file).await?;
    }
    if let Some(file) = &order.artifact {
        artifacts::promise(&engine, &id, file).await?;
    }
    let watching = watching::watcher(cx);
    let engine = Engine { watch: watching.watch(), ..engine };
    let outcome = engine.start(id, plan, base, stop).await.map_err(engine_error)?;
    watching.finish();
    conclude(&engine, outcome, cx).await
}

/// Puts an engine together for a repository.
pub(super) async fn engine(repository: Arc<dyn Repository>, tape: &Tape, cx: &Context<'_>) -> Result<Engine, CliError> {
    let folder = repository.state_dir().to_path_buf();
    engine_in(repository, &folder, tape, cx).await
}

/// The same with the journal's database in another folder.
pub(super) async fn engine_in(
    repository: Arc<dyn Repository>,
    folder: &Path,
    tape: &Tape,
    cx: &Context<'_>,
) -> Result<Engine, CliError> {
    let store = cx.world.store(folder).await?;
    let models = cx.world.chat(tape).map_err(CliError::usage)?;
    let outlet = forge::outlet(&*repository, cx).await?;
    Ok(Engine {
        store,
        repository,
        drivers: cx.world.drivers(),
        models,
        gateway: cx.world.gateway(),
        clock: cx.world.clock(),
        watch: Arc::new(watching::Nobody),
        owner: cx.world.owner(),
        secrets: cx.world.secrets(),
        outlet,
    })
}

/// Shows the account, writes the trajectory, turns the ending into an exit code.
pub(super) async fn conclude(engine: &Engine, outcome: Outcome, cx: &Context<'_>) -> Result<(), CliError> {
    let account = crate::run::account(&outcome.state);
    let run = account.run.clone();
    let rows = engine.store.rows(&run).await?;
    let trajectory = write_trajectory(engine, &run, &rows).map_err(|error| {
        CliError::new(Ending::Unavailable, format!("the trajectory of run {run} could not be written: {error}"))
    })?;
    tapes::keep_promise(engine, &run, cx).await?;
    if !outcome.interrupted {
        artifacts::keep_promise(engine, &outcome.state, cx).await?;
    }
    if cx.format == Format::Json {
        let mut value = serde_json::to_value(&account)
            .map_err(|error| CliError::new(Ending::Failed, format!("an internal error: {error}")))?;
        if let Some(fields) = value.as_object_mut() {
            fields.insert("trajectory".into(), Value::String(trajectory.display().to_string()));
        }
        cx.data(&format!("{value:#}\n"));
    } else {
        cx.data(&report::account::render(&account, cx.style()));
    }
    if outcome.interrupted {
        cx.say(&format!("interrupted; `codeforge resume {run}` goes on where it stopped"));
        return Err(CliError::silent(Ending::Cancelled));
    }
    match account.ending {
        Some(Ending::Done) => Ok(()),
        Some(ending) => Err(CliError::silent(ending)),
        None => Err(CliError::silent(Ending::Failed)),
    }
}

pub(super) fn write_trajectory(
    engine: &Engine,
    run: &RunId,
    rows: &[crate::model::journal::Row],
) -> std::io::Result<PathBuf> {
    let folder = engine.run_folder(run);
    std::fs::create_dir_all(&folder)?;
    // Runs are nobody's change: the folder ignores itself.
    if let Some(runs) = folder.parent() {
        let ignore = runs.join(".gitignore");
        if !ignore.exists() {
            std::fs::write(ignore, "*\n")?;
        }
    }
    let secrets: Vec<&str> = engine.secrets.iter().map(String::as_str).collect();
    let mut text = String::new();
    let mut trajectory = report::trajectory::Trajectory::default();
    for row in rows {
        text.push_str(&crate::text::redact(&trajectory.line(row), &secrets));
        text.push('\n');
    }
    let path = folder.join("trajectory.jsonl");
    std::fs::write(&path, text)?;
    Ok(path)
}

/// An engine's error as people meet it.
pub(super) fn engine_error(error: EngineError) -> CliError {
    match error {
        EngineError::Store(error) => error.into(),
        EngineError::Repository(error) => error.into(),
        EngineError::Sandbox(error) => error.into(),
        EngineError::Journal { .. } => CliError::new(Ending::Failed, error.to_string())
            .hint("the journal was written by another version; start a new run"),
    }
}

fn read_inputs(given: &[String], cwd: &Path) -> Result<BTreeMap<String, String>, CliError> {
    let mut inputs = BTreeMap::new();
    for pair in given {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(CliError::usage(format!("`-i {pair}` has no `=`")).hint("write `-i task=\"what to do\"`"));
        };
        let value = match value.strip_prefix('@') {
            Some(file) => std::fs::read_to_string(cwd.join(file))
                .map_err(|error| CliError::usage(format!("`-i {name}=@{file}`: {error}")))?,
            None => value.to_owned(),
        };
        if inputs.insert(name.to_owned(), value).is_some() {
            return Err(CliError::usage(format!("input `{name}` is given twice")));
        }
    }
    Ok(inputs)
}

pub(super) fn read_event(file: Option<&Path>, cwd: &Path) -> Result<Value, CliError> {
    let Some(file) = file else { return Ok(Value::Null) };
    let text = std::fs::read_to_string(cwd.join(file))
        .map_err(|error| CliError::usage(format!("--event {}: {error}", file.display())))?;
    serde_json::from_str(&text).map_err(|error| CliError::usage(format!("--event {}: {error}", file.display())))
}
