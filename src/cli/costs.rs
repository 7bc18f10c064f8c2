//! `codeforge costs`: what runs of this repository cost.

use super::error::CliError;
use super::{Context, Format, runs};
use crate::report::costs::{By, Costs};

/// Shows what runs cost.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codeforge costs
  codeforge costs --by day
  codeforge costs --by workflow --format json")]
pub struct Args {
    /// How to group
    #[arg(long, value_enum, default_value = "model")]
    pub by: Group,
    /// How many runs to look at, the latest first
    #[arg(long, default_value_t = 1000)]
    pub limit: u32,
}

/// How to group.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Group {
    /// By model
    Model,
    /// By workflow
    Workflow,
    /// By day (UTC)
    Day,
}

/// Runs the command.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, cx: &Context<'_>) -> Result<(), CliError> {
    let store = runs::store(cx).await?;
    let by = match args.by {
        Group::Model => By::Model,
        Group::Workflow => By::Workflow,
        Group::Day => By::Day,
    };
    let mut costs = Costs::default();
    for (head, _) in store.runs(args.limit).await? {
        costs.add(by, &head.workflow, &store.rows(&head.id).await?);
    }
    if cx.format == Format::Json {
        cx.data(&format!("{:#}\n", costs.json()));
    } else {
        cx.data(&costs.table());
    }
    Ok(())
}
