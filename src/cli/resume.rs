//! `codeforge resume RUN`: goes on where a run was cut.

use super::chosen::OfRun;
use super::error::CliError;
use super::run::{conclude, engine, engine_error};
use super::{Context, tapes, watching};
use crate::engine::{Engine, Stop};
use crate::port::world::Tape;
use std::path::PathBuf;

/// Continues a run that was interrupted or killed. Finished steps are not run again, paid model calls are not made
/// again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codeforge resume 7f3k9m2q
  codeforge resume 7f3k            # the beginning of the id is enough")]
pub struct Args {
    /// The run.
    #[command(flatten)]
    pub of: OfRun,
    /// Take the model's answers from this file instead of a provider
    #[arg(long, value_name = "FILE")]
    pub cassette: Option<PathBuf>,
    /// Record the whole run in this file (default: where it was begun to be recorded)
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// [`CliError`], whose ending is the exit code.
pub async fn run(args: Args, cx: &Context<'_>, stop: Stop) -> Result<(), CliError> {
    let repository = cx.world.repository(&args.of.at.path(cx))?;
    let tape = args.cassette.map_or(Tape::Off, |file| Tape::Play(cx.world.cwd().join(file)));
    let engine = engine(repository, &tape, cx).await?;
    let head = engine.store.find(&args.of.run).await?;
    if let Some(file) = args.record.map(|file| cx.world.cwd().join(file)) {
        tapes::check(&file)?;
        tapes::promise(&engine, &head.id, &file).await?;
    }
    let watching = watching::watcher(cx);
    let engine = Engine { watch: watching.watch(), ..engine };
    let outcome = engine.resume(&head.id, stop).await.map_err(engine_error)?;
    watching.finish();
    conclude(&engine, outcome, cx).await
}
