//! `codeforge approve ID`: the operator's own word on a job that waits for a yes.

use super::error::CliError;
use super::{Context, serve};
use crate::model::account::Ending;
use crate::model::job::{Answer, Job, JobState, Verdict};
use crate::port::queue::Which;
use crate::report::ci::answers;
use crate::text;

/// Says yes or no to a job of `codeforge serve` that waits for it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The server's settings (serve.yml in this folder, or --config FILE) say where its database is. Who said \
so is noted: the account here.

Examples:
  codeforge approve 7f3k9m2q                       # at the price that was named
  codeforge approve 7f3k --max-cost-usd 1.50       # or for less; an ID may be shortened
  codeforge approve 7f3k --deny"
)]
pub struct Args {
    /// The job, as its comment names it
    #[arg(value_name = "ID")]
    pub id: String,
    /// Say no: it does not run
    #[arg(long, conflicts_with = "max_cost_usd")]
    pub deny: bool,
    /// Lowers the price, in US dollars
    #[arg(long, value_name = "USD", value_parser = super::run::positive)]
    pub max_cost_usd: Option<f64>,
}

/// Runs the command.
///
/// # Errors
/// [`CliError`]: no such job, or it does not wait for a yes (2); the database (5).
pub async fn run(args: Args, cx: &Context<'_>) -> Result<(), CliError> {
    let state = serve::settings(cx)?.state;
    let queue = cx.world.serving(&state).await?.queue;
    let now_ms = cx.world.clock().now_ms();
    let which = Which { id: Some(args.id.to_lowercase()), most: 5, ..Which::default() };
    let mut found = queue.jobs(&which).await?;
    let job = match (found.len(), found.pop()) {
        (1, Some(job)) => job,
        (_, None) => {
            return Err(CliError::usage(format!("no job's id begins with `{}`", args.id.escape_debug())));
        }
        (_, Some(last)) => {
            let ids: Vec<String> = found.into_iter().chain([last]).map(|job| job.id).collect();
            return Err(CliError::usage(format!("several jobs' ids begin so: {}", ids.join(", "))));
        }
    };
    if job.state != JobState::Asked {
        let by = job.approved_by.as_deref().map(|by| format!(", {} said yes", line(by))).unwrap_or_default();
        let standing = answers::standing(&job).1;
        return Err(CliError::usage(format!("job {} does not wait for a yes: {standing}{by}", job.id)));
    }
    let user = format!("{} (operator)", cx.world.user());
    let (verdict, price) = match args.deny {
        true => (Verdict::Denied, None),
        false => (Verdict::Approved, Some(price(&job, args.max_cost_usd)?)),
    };
    let commit = job.new.approval.as_ref().map(|approval| approval.commit.clone());
    let answer = Answer { at_ms: now_ms, by: user, verdict, max_cost_usd: price.clone(), commit, note: None };
    let Some(job) = queue.answer(&job.id, &answer).await? else {
        return Err(CliError::new(Ending::Failed, format!("job {} was answered by somebody else just now", job.id)));
    };
    let does = match price {
        None => "does not run".to_owned(),
        Some(_) if job.state == JobState::Cancelled => {
            format!("does not run: {}", line(job.note.as_deref().unwrap_or("it was cancelled")))
        }
        Some(price) => format!("runs for at most {}", answers::money(&price)),
    };
    cx.data(&format!("{} {}: {} {does}\n", verdict.as_str(), job.id, about(&job)));
    Ok(())
}

/// The price that is said yes to.
fn price(job: &Job, wanted: Option<f64>) -> Result<String, CliError> {
    let named = job.new.approval.as_ref().and_then(|approval| approval.max_cost_usd.clone());
    let most = named.as_deref().and_then(|text| text.parse::<f64>().ok());
    match (wanted, most, named) {
        (Some(wanted), Some(most), Some(named)) if wanted > most => Err(CliError::usage(format!(
            "job {} was quoted at no more than {}: --max-cost-usd can lower that, not raise it",
            job.id,
            answers::money(&named)
        ))),
        (Some(wanted), ..) => Ok(format!("{wanted:.4}")),
        (None, _, Some(named)) => Ok(named),
        (None, _, None) => Err(CliError::usage(format!("nothing bounds the cost of job {}", job.id))
            .hint("name a price: --max-cost-usd N")),
    }
}

/// Which workflow, where, on which commit.
fn about(job: &Job) -> String {
    let commit = job.new.approval.as_ref().map(|approval| approval.commit.chars().take(10).collect::<String>());
    let commit = commit.map(|commit| format!(" on {commit}")).unwrap_or_default();
    line(&format!("`{}` of {}{commit}", job.new.workflow, job.new.repository.name))
}

/// Words of others on one line.
fn line(words: &str) -> String {
    text::invisible(&text::clean(words)).split_whitespace().collect::<Vec<_>>().join(" ")
}
