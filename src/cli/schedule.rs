//! `codeforge schedule list|next`: when what runs by itself.

use super::error::CliError;
use super::{Context, Format, here, run as running, serve};
use crate::engine::configuration;
use crate::model::places;
use crate::port::checkout::Checkout;
use crate::server::schedule::entries;
use crate::workflow::schema::Library;
use serde::Serialize;
use std::fmt::Write;

/// Shows time tables: those of the repository that the current folder is in, or with `--config serve.yml` those of all
/// repositories of a server, as it saw them last.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codeforge schedule list
  codeforge schedule next --count 5
  codeforge schedule next --config /etc/codeforge/serve.yml --format json")]
pub struct Args {
    /// What to show
    #[command(subcommand)]
    pub what: What,
}

/// What to show.
#[derive(Debug, clap::Subcommand)]
pub enum What {
    /// The entries, a line each
    List,
    /// When each is due next, the soonest first
    Next {
        /// How many times of each
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
        count: u32,
    },
}

/// An entry, as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    repository: String,
    workflow: String,
    cron: String,
    timezone: String,
    missed: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    next: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, cx: &Context<'_>) -> Result<(), CliError> {
    let count = match args.what {
        What::List => 0,
        What::Next { count } => count,
    };
    let mut found = Vec::new();
    match &cx.config {
        None => {
            let root = here(cx);
            let library = running::load(&root, cx)?;
            let origin = cx.world.repository(&root).ok().and_then(|it| it.remote_url("origin").ok().flatten());
            found.extend(of(&library, &name(origin.as_deref()), count, cx));
        }
        Some(_) => {
            let settings = serve::settings(cx)?;
            for repository in &settings.repositories {
                let folder = places::clone(&settings.state, &repository.served());
                let Ok(clone) = cx.world.checkout(&folder) else {
                    cx.say(&format!("{}: the server has not seen it yet", repository.name));
                    continue;
                };
                let Some(commit) = Checkout::resolve(&*clone, "refs/codeforge/ci/trusted")? else { continue };
                found.extend(of(&configuration::of(&*clone, &commit)?, &repository.name, count, cx));
            }
        }
    }
    found.sort_by(|a, b| a.next.cmp(&b.next));
    if cx.format == Format::Json {
        let text = serde_json::to_string_pretty(&found).unwrap_or_default();
        cx.data(&format!("{text}\n"));
        return Ok(());
    }
    let mut out = String::new();
    for it in &found {
        let _ = writeln!(
            out,
            "{:<24} {:<20} {:<16} {:<20} missed: {}",
            it.repository, it.workflow, it.cron, it.timezone, it.missed
        );
        for at in &it.next {
            let _ = writeln!(out, "  {at}");
        }
    }
    if found.is_empty() {
        out.push_str("no time tables\n");
    }
    cx.data(&crate::text::clean(&out));
    Ok(())
}

/// `owner/name` of an address; what `H` hangs on.
fn name(origin: Option<&str>) -> String {
    let url = origin.unwrap_or_default().trim_end_matches('/').trim_end_matches(".git");
    let parts: Vec<&str> = url.rsplit(['/', ':']).take(2).collect();
    parts.into_iter().rev().collect::<Vec<_>>().join("/")
}

fn of(library: &Library, repository: &str, count: u32, cx: &Context<'_>) -> Vec<Shown> {
    let now = cx.world.clock().now_ms();
    let shown = entries(library, repository).into_iter().map(|entry| {
        let zone = entry.doc.timezone.as_ref().map_or_else(|| "UTC".to_owned(), |zone| zone.0.clone());
        let mut next = Vec::new();
        let mut at = now;
        while next.len() < count as usize
            && let Some(due) = entry.table.next(at)
        {
            next.push(jiff::Timestamp::from_millisecond(due).map(|at| at.to_string()).unwrap_or_default());
            at = due;
        }
        Shown {
            repository: repository.to_owned(),
            workflow: entry.workflow.to_owned(),
            cron: entry.doc.cron.0.clone(),
            timezone: zone,
            missed: format!("{:?}", entry.doc.missed).to_lowercase(),
            next,
        }
    });
    shown.collect()
}
