//! `codeforge deliver ARTIFACT|RUN`: the writing half. No model is asked and no code of the repository runs.

use super::chosen::At;
use super::error::CliError;
use super::run::{engine, engine_error};
use super::{Context, Format, artifacts, phases, run};
use crate::deliver;
use crate::engine::{Engine, Extras};
use crate::model::account::Ending;
use crate::model::artifact::{Taken, Word};
use crate::model::id::RunId;
use crate::model::plan::{DeliverKind, Plan};
use crate::plan;
use crate::port::world::Tape;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Delivers what a run made: out of an artifact, or of a run here.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codeforge run fix -i task=x --artifact a.json    # elsewhere: no right to write is needed
  codeforge deliver a.json --gate-word \"$WORD\"     # here: no model is asked, nothing of the repository is run
  codeforge deliver 7f3k9m2q --as branch           # what a run here made, in another form")]
pub struct Args {
    /// An artifact's file, or the id of a run (its beginning is enough)
    #[arg(value_name = "ARTIFACT|RUN")]
    pub what: String,
    /// Another form than the workflow's: one that stays here
    #[arg(long = "as", value_name = "none|patch|commit-local|branch", value_parser = run::deliver_kind)]
    pub kind: Option<DeliverKind>,
    /// What the gate's job said of the artifact, its output `gate-word` (default: $CODEFORGE_GATE_WORD)
    #[arg(long, value_name = "WORD")]
    pub gate_word: Option<String>,
    /// The event that the artifact was made for: a JSON file
    #[arg(long, value_name = "FILE")]
    pub event: Option<PathBuf>,
    /// The repository.
    #[command(flatten)]
    pub at: At,
}

/// Runs the command.
///
/// # Errors
/// [`CliError`], whose ending is the exit code.
pub async fn run(args: Args, cx: &Context<'_>) -> Result<(), CliError> {
    let repository = cx.world.repository(&args.at.path(cx))?;
    let engine = engine(repository, &Tape::Off, cx).await?;
    let file = cx.world.cwd().join(&args.what);
    let is_file = file.exists() || args.what.contains(['/', '.']);
    let (plan, taken, words) =
        if is_file { of_file(&args, &file, &engine, cx).await? } else { of_run(&args, &engine).await? };
    let order = phases::Order { plan: &plan, taken: &taken, words: &words, commit: &taken.part.commit, prefix: None };
    let done = phases::deliver(&order, &engine, cx).await?;
    if cx.format == Format::Json {
        let text =
            json!({ "run": taken.part.run, "workflow": plan.workflow, "delivered": done.delivered, "told": done.told });
        cx.data(&format!("{text:#}\n"));
    } else {
        cx.data(&done.render());
    }
    if done.delivered.changed || !plan.deliver.fail_if_no_changes {
        return Ok(());
    }
    Err(CliError::new(Ending::Failed, "there was nothing to deliver, although a change was asked for"))
}

/// An artifact on a person's machine: the configuration is the work tree's, the plan is made again.
async fn of_file(
    args: &Args,
    file: &Path,
    engine: &Engine,
    cx: &Context<'_>,
) -> Result<(Plan, Taken, Vec<Word>), CliError> {
    let mut runs = artifacts::read(file)?;
    let (Some(taken), None) = (runs.pop(), runs.pop()) else {
        return Err(CliError::usage(format!("{} does not hold one run", file.display()))
            .hint("an artifact of several runs is delivered by the phase `deliver` of `codeforge ci`"));
    };
    let library = run::load(engine.repository.root(), cx)?;
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let given = taken.part.inputs.iter().filter(|(_, value)| !value.is_null());
    let claimed = taken.part.claims.kind;
    let request = plan::Request {
        workflow: taken.part.claims.workflow.clone(),
        inputs: given.map(|(name, value)| (name.clone(), text(value))).collect(),
        event: run::read_event(args.event.as_deref(), cx.world.cwd())?,
        ..phases::without_models()
    };
    let mut plan = run::compile(&library, &request, cx)?;
    // Who ran it may have chosen a form, as who delivers it may: the same one, said again.
    if args.kind == Some(claimed) && deliver::may_choose(claimed, plan.deliver.kind) {
        plan.deliver.kind = claimed;
    }
    phases::compare(&plan, &taken)?;
    choose(&mut plan, args.kind)?;
    let given = args.gate_word.clone().or_else(|| cx.world.env("CODEFORGE_GATE_WORD")).unwrap_or_default();
    let mut words = Word::read(&given).map_err(CliError::usage)?;
    if words.is_empty() {
        words.extend(own_word(engine, &taken).await?);
    }
    Ok((plan, taken, words))
}

/// What the gates of a run here said, where the artifact holds just what that run made.
async fn own_word(engine: &Engine, taken: &Taken) -> Result<Option<Word>, CliError> {
    let Ok(rows) = engine.store.rows(&taken.part.run).await else { return Ok(None) };
    let Ok(state) = engine.replay(&taken.part.run, &rows) else { return Ok(None) };
    let Ok(part) = engine.part(&state, Extras::default()).await else { return Ok(None) };
    if part.patch_sha256 != taken.hash() {
        return Ok(None);
    }
    Ok(Some(engine.own_word(&state, &part.patch_sha256).await.map_err(engine_error)?))
}

/// A run of the journal here: its plan, its change and what its gates said are its own.
async fn of_run(args: &Args, engine: &Engine) -> Result<(Plan, Taken, Vec<Word>), CliError> {
    let id: RunId = engine.store.find(&args.what).await?.id;
    let rows = engine.store.rows(&id).await?;
    let state = engine.replay(&id, &rows).map_err(engine_error)?;
    let Some(ending) = state.ending else {
        return Err(CliError::usage(format!("run {id} has not ended")).hint(format!("codeforge resume {id}")));
    };
    let part = engine.part(&state, Extras::default()).await.map_err(engine_error)?;
    if part.patch.is_none() && ending != Ending::Done {
        return Err(CliError::new(
            Ending::Failed,
            format!("run {id} made nothing that may be delivered: {}", part.reason),
        ));
    }
    let words = vec![engine.own_word(&state, &part.patch_sha256).await.map_err(engine_error)?];
    let mut plan = Plan::clone(&state.plan);
    choose(&mut plan, args.kind)?;
    let taken = crate::model::artifact::Artifact::new(vec![part]).write().map_err(unfit)?;
    let mut taken = crate::model::artifact::Artifact::read(taken.as_bytes()).map_err(unfit)?;
    let taken = taken.pop().ok_or_else(|| CliError::new(Ending::Failed, "an internal error: a run without a part"))?;
    Ok((plan, taken, words))
}

fn unfit(error: crate::model::artifact::ArtifactError) -> CliError {
    CliError::new(Ending::Denied, format!("nothing was delivered: {error}"))
}

/// Takes the form that a person chose, where they may choose it.
fn choose(plan: &mut Plan, wanted: Option<DeliverKind>) -> Result<(), CliError> {
    let Some(wanted) = wanted else { return Ok(()) };
    if !deliver::may_choose(wanted, plan.deliver.kind) {
        return Err(CliError::new(
            Ending::Denied,
            format!("the workflow `{}` does not allow that form of delivery", plan.workflow),
        )
        .hint("`deliver:` in the workflow says what it hands over"));
    }
    plan.deliver.kind = wanted;
    Ok(())
}
