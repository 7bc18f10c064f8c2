//! `codeforge cancel RUN`: ends a run for good.

use super::chosen::OfRun;
use super::error::CliError;
use super::run::{engine, engine_error};
use super::{Context, Format};
use crate::engine::{EngineError, Stop};
use crate::model::account::Ending;
use crate::port::store::StoreError;
use crate::port::world::Tape;
use serde_json::json;
use std::time::Duration;

/// Ends a run for good: one that is at work is interrupted first, one that was interrupted or killed cannot be resumed
/// any more. What it made stays in its folder; nothing is delivered. Jobs of a server are cancelled with
/// `codeforge queue cancel`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codeforge cancel 7f3k9m2q
  codeforge cancel 7f3k            # the beginning of the id is enough")]
pub struct Args {
    /// The run.
    #[command(flatten)]
    pub of: OfRun,
}

/// How long is waited for a process that was interrupted, in milliseconds.
const PATIENCE_MS: i64 = 60_000;
/// How often is looked.
const LOOK: Duration = Duration::from_millis(50);

/// Runs the command.
///
/// # Errors
/// The run is over (2), or its process is out of reach or does not end (5).
pub async fn run(args: Args, cx: &Context<'_>, stop: Stop) -> Result<(), CliError> {
    let engine = engine(cx.world.repository(&args.of.at.path(cx))?, &Tape::Off, cx).await?;
    let run = engine.store.find(&args.of.run).await?.id;
    if let Some(ending) = engine.replay(&run, &engine.store.rows(&run).await?).map_err(engine_error)?.ending {
        return Err(over(&run.0, ending));
    }
    let until = cx.world.clock().now_ms().saturating_add(PATIENCE_MS);
    let mut told = false;
    let reason = format!("cancelled by {}", cx.world.user());
    let outcome = loop {
        match engine.cancel(&run, &reason, stop.clone()).await {
            Err(EngineError::Store(held @ StoreError::Held { .. })) => {
                if !told {
                    told = engine.store.interrupt(&run).await?;
                    if !told {
                        return Err(held.into());
                    }
                    cx.say(&format!("run {run} is at work: its process is interrupted"));
                }
                if cx.world.clock().now_ms() > until || *stop.borrow() {
                    return Err(held.into());
                }
                cx.world.clock().sleep(LOOK).await;
            }
            done => break done.map_err(engine_error)?,
        }
    };
    match outcome.state.ending {
        Some(Ending::Cancelled) => {}
        // It came to its end before it was reached.
        Some(ending) => return Err(over(&run.0, ending)),
        None => return Err(CliError::new(Ending::Cancelled, format!("interrupted; run {run} is as it was"))),
    }
    let spent = outcome.state.spend.cost;
    match cx.format {
        Format::Json => {
            cx.data(&format!("{}\n", json!({ "run": run, "ending": "cancelled", "cost_usd": spent.usd() })))
        }
        _ => cx.data(&format!("run {run} is cancelled; it cost {spent}\n")),
    }
    Ok(())
}

fn over(run: &str, ending: Ending) -> CliError {
    let how = serde_json::to_value(ending).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default();
    CliError::usage(format!("run {run} is over: it ended as {how}"))
}
