//! `codeforge costs`: what runs of this repository cost.

use super::error::CliError;
use super::{Context, Format, runs};
use crate::model::budget::{Scope, day};
use crate::model::usage::NanoUsd;
use crate::port::store::Store;
use crate::report;
use crate::report::costs::{BudgetLine, By, Costs};
use crate::workflow::schema::ConfigBudgetDoc;
use std::path::PathBuf;

/// Budgets of a scope that the footer shows at most, the most spent first.
const SHOWN: usize = 5;
const MS_PER_DAY: i64 = 86_400_000;

/// Shows what runs cost, and how the budgets stand.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codeforge costs
  codeforge costs --by day --since 30 --chart costs.svg
  codeforge costs --by workflow --format json")]
pub struct Args {
    /// How to group
    #[arg(long, value_enum, default_value = "model")]
    pub by: Group,
    /// Only the last so many days (UTC), today among them
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    pub since: Option<u32>,
    /// With --by day: also draw the days as a picture (SVG)
    #[arg(long, value_name = "FILE")]
    pub chart: Option<PathBuf>,
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
    /// By the mode of the step that asked
    Mode,
    /// By day (UTC)
    Day,
    /// By the change that the run was for
    Change,
    /// By who caused the run
    Actor,
}

/// Runs the command.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, cx: &Context<'_>) -> Result<(), CliError> {
    let by = match args.by {
        Group::Model => By::Model,
        Group::Workflow => By::Workflow,
        Group::Mode => By::Mode,
        Group::Day => By::Day,
        Group::Change => By::Change,
        Group::Actor => By::Actor,
    };
    if args.chart.is_some() && by != By::Day {
        return Err(CliError::usage(format!("--chart draws days, and this is --by {}", by.name()))
            .hint("codeforge costs --by day --chart FILE.svg"));
    }
    let store = runs::store(cx).await?;
    let now_ms = cx.world.clock().now_ms();
    let today_ms = now_ms - now_ms.rem_euclid(MS_PER_DAY);
    let since_ms = args.since.map_or(i64::MIN, |days| today_ms - MS_PER_DAY * (i64::from(days) - 1));
    let mut costs = Costs::new(by);
    for (head, summary) in store.runs(args.limit).await? {
        if summary.updated_ms >= since_ms {
            costs.add(&store.rows(&head.id).await?, since_ms);
        }
    }
    let library = super::run::load(&super::here(cx), cx)?;
    let budgets = budgets(&*store, &library.config.budget.unwrap_or_default(), now_ms).await?;
    if let Some(file) = &args.chart {
        let picture = report::chart::svg(&costs.rows().collect::<Vec<_>>());
        std::fs::write(cx.world.cwd().join(file), picture)
            .map_err(|error| CliError::usage(format!("--chart {}: {error}", file.display())))?;
        cx.say(&format!("wrote {}", file.display()));
    }
    if cx.format == Format::Json {
        cx.data(&format!("{:#}\n", costs.json(&budgets)));
    } else {
        let footer = report::costs::footer(&budgets);
        let between = if footer.is_empty() { "" } else { "\n" };
        cx.data(&format!("{}{between}{footer}", costs.table()));
    }
    Ok(())
}

/// How the configured budgets stand that runs share.
async fn budgets(store: &dyn Store, caps: &ConfigBudgetDoc, now_ms: i64) -> Result<Vec<BudgetLine>, CliError> {
    let today = day(now_ms);
    let mut lines = Vec::new();
    let all = [
        (Scope::Day, caps.per_day_usd),
        (Scope::Workflow, caps.per_workflow_per_day_usd),
        (Scope::Actor, caps.per_actor_per_day_usd),
        (Scope::Change, caps.per_change_usd),
    ];
    for (scope, cap) in all {
        let Some(cap) = cap.map(NanoUsd::from_usd) else { continue };
        let prefix = match scope {
            Scope::Day => today.clone(),
            Scope::Actor | Scope::Workflow => format!("{today}/"),
            Scope::Change => String::new(),
        };
        let line = |name: &str, spent, held| BudgetLine { scope, name: name.to_owned(), spent, held, cap };
        let found = store.standing(scope, &prefix).await?;
        if scope == Scope::Day && found.is_empty() {
            lines.push(line("", NanoUsd::default(), NanoUsd::default()));
        }
        for standing in found.iter().take(SHOWN) {
            lines.push(line(standing.key.strip_prefix(&prefix).unwrap_or_default(), standing.spent, standing.held));
        }
    }
    Ok(lines)
}
