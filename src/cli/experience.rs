//! `codeforge experience list|show|forget`: what later steps are shown of earlier runs.

use super::error::CliError;
use super::{Context, Format, runs};
use crate::model::experience::Experience;
use crate::report;
use crate::text::clean;
use serde_json::json;
use std::fmt::Write;

/// Shows and forgets what earlier runs learnt (`experience: { enabled: true }` in .codeforge/config.yml).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codeforge experience list
  codeforge experience show 7f3k9m2q.implement
  codeforge experience forget 7f3k9m2q        # all steps of that run
  codeforge experience forget --all")]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub what: What,
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum What {
    /// All there is, a line each, the newest first
    List,
    /// One step's experience, as later steps may be shown it
    Show {
        /// Its name (RUN.STEP), or the beginning of it
        id: String,
    },
    /// Take it out: no later run is shown it
    Forget {
        /// Its name (RUN.STEP), or the beginning of it: a run's id takes all of its steps
        #[arg(required_unless_present = "all")]
        id: Option<String>,
        /// Everything
        #[arg(long, conflicts_with = "id")]
        all: bool,
    },
}

/// Runs the command.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, cx: &Context<'_>) -> Result<(), CliError> {
    let store = runs::store(cx).await?;
    let pool = match (store.experience().await, &args.what) {
        (Ok(pool), _) => pool,
        // What cannot be read can still be taken out.
        (Err(_), What::Forget { id: Some(id), .. }) => {
            store.remember(&[], std::slice::from_ref(id)).await?;
            cx.say(&format!("forgot {id}, if it was there"));
            return Ok(());
        }
        (Err(error), _) => return Err(error.into()),
    };
    match args.what {
        What::List => list(&pool, cx),
        What::Show { id } => {
            let found = named(&pool, &id)?;
            if cx.format == Format::Json {
                cx.data(&format!("{:#}\n", json!(found)));
            } else {
                cx.data(&found.iter().map(|entry| page(entry)).collect::<Vec<_>>().join("\n"));
            }
        }
        What::Forget { id, all } => {
            let gone: Vec<&Experience> = match id {
                Some(id) if !all => named(&pool, &id)?,
                _ => pool.iter().collect(),
            };
            let gone: Vec<String> = gone.into_iter().map(|entry| entry.id.clone()).collect();
            store.remember(&[], &gone).await?;
            cx.say(&format!(
                "forgot {}",
                if gone.is_empty() { "nothing: there is nothing".to_owned() } else { gone.join(", ") }
            ));
        }
    }
    Ok(())
}

/// The one of that name, else all whose names begin with it.
fn named<'a>(pool: &'a [Experience], id: &str) -> Result<Vec<&'a Experience>, CliError> {
    if let Some(one) = pool.iter().find(|entry| entry.id == id) {
        return Ok(vec![one]);
    }
    let found: Vec<&Experience> = pool.iter().filter(|entry| !id.is_empty() && entry.id.starts_with(id)).collect();
    if found.is_empty() {
        let error = CliError::usage(format!("no experience `{id}` here"));
        return Err(error.hint("`codeforge experience list` shows what there is"));
    }
    Ok(found)
}

fn list(pool: &[Experience], cx: &Context<'_>) {
    if cx.format == Format::Json {
        cx.data(&format!("{:#}\n", json!(pool)));
        return;
    }
    if pool.is_empty() {
        cx.say("no experience yet; `experience: { enabled: true }` in .codeforge/config.yml lets runs leave some");
        return;
    }
    let mut text = String::new();
    for entry in pool {
        let task: String = clean(&entry.task).lines().next().unwrap_or_default().chars().take(60).collect();
        let time = report::numbers::time(entry.at_ms);
        let _ = writeln!(text, "{:<28}  {time}  {:<12}  {:.2}  {task}", entry.id, entry.mode, entry.importance);
    }
    cx.data(&text);
}

fn page(entry: &Experience) -> String {
    let mut text = format!(
        "{}  {}  mode {}  importance {:.2}\n\ntask\n  {}\nwhat came of it\n  {}\n",
        entry.id,
        report::numbers::time(entry.at_ms),
        entry.mode,
        entry.importance,
        clean(&entry.task).replace('\n', "\n  "),
        clean(&entry.conclusion).replace('\n', "\n  "),
    );
    for (what, items) in
        [("files", &entry.files), ("commands that passed", &entry.commands), ("gates that passed", &entry.gates)]
    {
        if !items.is_empty() {
            let _ = write!(text, "{what}\n  {}\n", clean(&items.join("\n")).replace('\n', "\n  "));
        }
    }
    text
}
