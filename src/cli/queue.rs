//! `codeforge queue`: what a server has to do, did, and could not do.

use super::error::CliError;
use super::{Context, Format, serve};
use crate::model::job::{Answer, Job, JobState};
use crate::port::queue::Which;
use crate::port::world::Serving;
use crate::text;
use serde::Serialize;
use std::fmt::Write;

/// Looks at a server's jobs and deliveries, and puts back or cancels jobs. It reads the server's state folder: run it
/// where the server runs, whether it is up or not.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codeforge queue list --config /etc/codeforge/serve.yml
  codeforge queue show 7f3k
  codeforge queue dead
  codeforge queue requeue 7f3k
  codeforge queue requeue --delivery 812 --delivery 813
  codeforge queue cancel 7f3k
  codeforge queue deliveries --format json")]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub what: What,
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum What {
    /// The newest jobs, a line each
    List {
        /// How many
        #[arg(long, default_value_t = 30)]
        limit: u32,
    },
    /// One job, and the end of its log
    Show {
        /// The job's id, or the beginning of it
        id: String,
    },
    /// Jobs that failed too often
    Dead,
    /// Put a job that is over back, as new: a new run, whatever came of the one before. Or a dead delivery
    Requeue {
        /// The job's id, or the beginning of it
        #[arg(required_unless_present = "delivery", conflicts_with = "delivery")]
        id: Option<String>,
        /// A dead delivery's number, as `codeforge queue deliveries --dead` shows it; several times for several
        #[arg(long, value_name = "NUMBER")]
        delivery: Vec<i64>,
    },
    /// Cancel a job that waits or runs
    Cancel {
        /// The job's id, or the beginning of it
        id: String,
    },
    /// The newest deliveries, and what was decided about them
    Deliveries {
        /// How many
        #[arg(long, default_value_t = 30)]
        limit: u32,
        /// Only those that failed too often
        #[arg(long)]
        dead: bool,
    },
}

/// Lines of a log's end that are shown.
const LINES: usize = 30;

/// Runs the command.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, cx: &Context<'_>) -> Result<(), CliError> {
    let settings = serve::settings(cx)?;
    let Serving { inbox, queue } = cx.world.serving(&settings.state).await?;
    let now = cx.world.clock().now_ms();
    let list = |states: Vec<JobState>, most: u32| Which { states, most, ..Which::default() };
    match args.what {
        What::List { limit } => jobs(&queue.jobs(&list(Vec::new(), limit)).await?, cx),
        What::Dead => jobs(&queue.jobs(&list(vec![JobState::Dead], 0)).await?, cx),
        What::Show { id } => {
            let job = one(&*queue, &id).await?;
            let answers = queue.answers(&job.id).await?;
            if cx.format == Format::Json {
                return print(&Whole { job: &job, answers }, cx);
            }
            cx.data(&shown(&job));
            for answer in &answers {
                cx.data(&answered(answer));
            }
            let file = crate::model::places::job(&settings.state, &job.id).join("log");
            if let Ok(log) = std::fs::read_to_string(&file) {
                let lines: Vec<&str> = log.lines().collect();
                let from = lines.len().saturating_sub(LINES);
                let end = lines.get(from..).unwrap_or_default().join("\n");
                cx.data(&format!("\nThe end of its log ({}):\n{}\n", file.display(), text::clean(&end)));
            }
            Ok(())
        }
        What::Requeue { id: None, delivery } => {
            for number in delivery {
                if !inbox.again(number).await? {
                    return Err(CliError::usage(format!("delivery {number} is not there, or not dead"))
                        .hint("`codeforge queue deliveries --dead` shows those that are"));
                }
                cx.data(&format!("delivery {number} waits again\n"));
            }
            Ok(())
        }
        What::Requeue { id: Some(id), .. } => {
            let job = one(&*queue, &id).await?;
            if job.new.approval.is_some() && job.approved_by.is_none() {
                return Err(CliError::usage(format!("job {} waited for a yes, and nobody gave one", job.id))
                    .hint("let its command be given anew: it is quoted for what is there now"));
            }
            if !queue.requeue(&job.id, now).await? {
                // It may be dropped at once: its group is taken.
                let job = one(&*queue, &job.id).await?;
                let why = match &job.note {
                    Some(note) if job.state.is_over() => format!("job {} was not put back: {note}", job.id),
                    _ => format!("job {} is not over: it is {}", job.id, word(&job.state)),
                };
                return Err(CliError::usage(text::clean(&why))
                    .hint("only what ended, was cancelled or is dead can be put back"));
            }
            let how = job.conclusion.clone().unwrap_or_else(|| word(&job.state));
            let run = job.run(job.rounds.saturating_add(1));
            cx.data(&format!(
                "job {} waits again: it ended as {how}, and its next attempt begins a new run, {run}\n",
                job.id
            ));
            Ok(())
        }
        What::Cancel { id } => {
            let job = one(&*queue, &id).await?;
            let which = Which { id: Some(job.id.clone()), most: 1, ..Which::default() };
            if queue.cancel(&which, "cancelled on the server's machine", now).await?.is_empty() {
                return Err(CliError::usage(format!("job {} is over already: it is {}", job.id, word(&job.state))));
            }
            let how = if job.state == JobState::Running { "is told to stop" } else { "is cancelled" };
            cx.data(&format!("job {} {how}\n", job.id));
            Ok(())
        }
        What::Deliveries { limit, dead } => {
            let found = inbox.received(limit, dead).await?;
            if cx.format == Format::Json {
                return print(&found, cx);
            }
            let mut out = String::new();
            for it in &found {
                let repository = it.repository.as_deref().unwrap_or("-");
                let note = it.note.as_deref().unwrap_or_default();
                let (source, event) = (text::clean(&it.source), text::clean(&it.event));
                let line =
                    format!("{:>8}  {}  {:<8} {source:<8} {event:<22} {repository}", it.number, at(it.at_ms), it.state);
                let _ = writeln!(out, "{}\n          {}", text::clean(&line), text::clean(note));
            }
            if found.is_empty() {
                out.push_str(if dead { "no dead deliveries\n" } else { "no deliveries\n" });
            }
            cx.data(&out);
            Ok(())
        }
    }
}

/// The one job whose id begins so.
async fn one(queue: &dyn crate::port::queue::Queue, id: &str) -> Result<Job, CliError> {
    let which = Which { id: Some(id.to_owned()), most: 5, ..Which::default() };
    let mut found = queue.jobs(&which).await?;
    match found.len() {
        1 => found.pop().ok_or_else(|| CliError::usage("no such job")),
        0 => {
            Err(CliError::usage(format!("no job `{}`; `codeforge queue list` shows what there is", id.escape_debug())))
        }
        _ => {
            let ids: Vec<&str> = found.iter().map(|job| job.id.as_str()).collect();
            Err(CliError::usage(format!("`{}` could be any of {}", id.escape_debug(), ids.join(", "))))
        }
    }
}

fn jobs(found: &[Job], cx: &Context<'_>) -> Result<(), CliError> {
    if cx.format == Format::Json {
        return print(&found, cx);
    }
    let mut out = String::new();
    for job in found {
        let state = job.conclusion.clone().unwrap_or_else(|| word(&job.state));
        let about = job.new.event.change.as_ref().map(|change| format!(" #{}", change.number)).unwrap_or_default();
        let note = job.note.as_deref().map(|note| format!("  {}", text::cap(note, 100))).unwrap_or_default();
        let line = format!(
            "{}  {}  {state:<13} {}{about} {}{note}",
            job.id,
            at(job.created_ms),
            job.new.repository.name,
            job.new.workflow
        );
        let _ = writeln!(out, "{}", text::clean(&line).replace('\n', " "));
    }
    if found.is_empty() {
        out.push_str("no jobs\n");
    }
    cx.data(&out);
    Ok(())
}

fn shown(job: &Job) -> String {
    let mut lines = vec![
        ("job", job.id.clone()),
        ("repository", job.new.repository.name.clone()),
        ("workflow", job.new.workflow.clone()),
        ("event", job.new.event.kind.as_str().to_owned()),
        (
            "state",
            job.conclusion.as_ref().map_or_else(|| word(&job.state), |how| format!("{} ({how})", word(&job.state))),
        ),
        ("attempts", job.attempts.to_string()),
        ("made", at(job.created_ms)),
        ("changed", at(job.updated_ms)),
    ];
    let more = [
        ("change", job.new.event.change.as_ref().map(|change| format!("#{}", change.number))),
        ("asked by", job.new.actor.clone()),
        ("approved by", job.approved_by.clone()),
        ("group", job.new.group.clone()),
        ("cost", job.cost_usd.as_ref().map(|usd| format!("${usd}"))),
        ("made", job.url.clone()),
        ("note", job.note.clone()),
    ];
    lines.extend(more.into_iter().filter_map(|(name, value)| Some((name, value?))));
    let lines: Vec<String> = lines
        .into_iter()
        .map(|(name, value)| format!("{name:<12}{}\n", text::clean(&value).replace('\n', " ")))
        .collect();
    lines.concat()
}

/// A job, and what people answered while it waited for a yes.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    job: &'a Job,
    answers: Vec<Answer>,
}

/// An answer in a line.
fn answered(answer: &Answer) -> String {
    let price = answer.max_cost_usd.as_deref().map(|usd| format!(" at ${usd}")).unwrap_or_default();
    let commit = answer
        .commit
        .as_deref()
        .map(|it| format!(" for {}", it.chars().take(10).collect::<String>()))
        .unwrap_or_default();
    let note = answer.note.as_deref().map(|note| format!(": {note}")).unwrap_or_default();
    let line = format!("{} by {}{price}{commit} ({}){note}", answer.verdict.as_str(), answer.by, at(answer.at_ms));
    format!("{:<12}{}\n", "answer", text::clean(&line).replace('\n', " "))
}

fn print(value: &impl Serialize, cx: &Context<'_>) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| CliError::new(crate::model::account::Ending::Failed, format!("an internal error: {error}")))?;
    cx.data(&format!("{text}\n"));
    Ok(())
}

fn word(state: &JobState) -> String {
    serde_json::to_value(state).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

fn at(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map(|at| format!("{at:.0}")).unwrap_or_default()
}
