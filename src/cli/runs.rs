//! `codeforge runs list|show|export|events`: what happened.

use super::error::CliError;
use super::{Context, Format};
use crate::model::account::{Account, Ending};
use crate::model::journal::Row;
use crate::port::store::Store;
use crate::report;
use serde_json::json;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

/// Shows runs of this repository.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codeforge runs list
  codeforge runs show 7f3k
  codeforge runs show 7f3k --dag run.svg
  codeforge runs export 7f3k tests/fix.jsonl
  codeforge runs events 7f3k --format json | jq 'select(.type == \"tool\")'")]
pub struct Args {
    /// What to show
    #[command(subcommand)]
    pub what: What,
}

/// What to show.
#[derive(Debug, clap::Subcommand)]
pub enum What {
    /// The latest runs, a line each
    List {
        /// How many
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// One run's account
    Show {
        /// The run's id, or the beginning of it
        run: String,
        /// Also write its graph as a picture (SVG), or as Mermaid where the name ends in .mmd
        #[arg(long, value_name = "FILE")]
        dag: Option<PathBuf>,
    },
    /// Write one run as a cassette, for `codeforge replay`
    Export {
        /// The run's id, or the beginning of it
        run: String,
        /// Where to
        file: PathBuf,
    },
    /// One run's journal, a line each
    Events {
        /// The run's id, or the beginning of it
        run: String,
    },
}

/// Runs the command. `fold` makes an account of a journal.
///
/// # Errors
/// [`CliError`].
pub async fn run(
    args: Args,
    cx: &Context<'_>,
    fold: &(dyn Fn(&[Row]) -> Result<Account, String> + Sync),
) -> Result<(), CliError> {
    let store = store(cx).await?;
    match args.what {
        What::List { limit } => list(&*store, limit, cx).await,
        What::Show { run, dag } => {
            let head = store.find(&run).await?;
            let account = fold(&store.rows(&head.id).await?)
                .map_err(|message| CliError::new(Ending::Failed, format!("run {}: {message}", head.id)))?;
            if let Some(file) = dag {
                let mermaid = file.extension().is_some_and(|ending| ending == "mmd");
                let text = if mermaid { report::dag::mermaid(&account) } else { report::dag::svg(&account) };
                std::fs::write(cx.world.cwd().join(&file), text)
                    .map_err(|error| CliError::usage(format!("--dag {}: {error}", file.display())))?;
                cx.say(&format!("wrote {}", file.display()));
            }
            if cx.format == Format::Json {
                cx.data(&format!("{:#}\n", json!(account)));
            } else {
                cx.data(&report::account::render(&account, cx.style()));
            }
            Ok(())
        }
        What::Export { run, file } => {
            let head = store.find(&run).await?;
            super::tapes::export(&head.id, &cx.world.cwd().join(file), cx).await
        }
        What::Events { run } => {
            let head = store.find(&run).await?;
            let mut trajectory = report::trajectory::Trajectory::default();
            let mut plain = report::plain::Lines::new(1);
            for row in store.rows(&head.id).await? {
                if cx.format == Format::Json {
                    cx.data(&format!("{}\n", trajectory.line(&row)));
                } else {
                    let time = report::numbers::time(row.at_ms);
                    for line in plain.lines(&crate::model::progress::Progress::Recorded(row.clone())) {
                        cx.data(&format!("{time}  {:>5}  {line}\n", row.seq));
                    }
                }
            }
            Ok(())
        }
    }
}

/// The journal of the repository around the current folder.
pub(super) async fn store(cx: &Context<'_>) -> Result<Arc<dyn Store>, CliError> {
    let repository = cx.world.repository(cx.world.cwd())?;
    Ok(cx.world.store(repository.state_dir()).await?)
}

async fn list(store: &dyn Store, limit: u32, cx: &Context<'_>) -> Result<(), CliError> {
    let runs = store.runs(limit).await?;
    if cx.format == Format::Json {
        let all: Vec<_> = runs.iter().map(|(head, summary)| json!({ "run": head, "summary": summary })).collect();
        cx.data(&format!("{:#}\n", json!(all)));
        return Ok(());
    }
    if runs.is_empty() {
        cx.say("no runs yet; `codeforge run WORKFLOW` makes one");
        return Ok(());
    }
    let mut text = String::new();
    for (head, summary) in runs {
        let how = match summary.ending {
            Some(Ending::Done) => "done",
            Some(Ending::Failed) => "failed",
            Some(Ending::Misconfigured) => "mistake",
            Some(Ending::Limit) => "limit",
            Some(Ending::Denied) => "denied",
            Some(Ending::Unavailable) => "unavailable",
            Some(Ending::Cancelled) => "cancelled",
            None => "unfinished",
        };
        let _ = writeln!(
            text,
            "{}  {}  {:<11}  {:>16}  {}",
            head.id,
            report::numbers::time(head.created_ms),
            how,
            report::numbers::cost(&summary.spend),
            head.workflow
        );
    }
    cx.data(&text);
    Ok(())
}
