//! `codeforge modes list|show`.

use super::error::CliError;
use super::{Context, Format, run};
use std::fmt::Write;

/// Shows the modes that steps can use: the built-in ones and the repository's own.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codeforge modes list
  codeforge modes show reviewer")]
pub struct Args {
    /// What to show
    #[command(subcommand)]
    pub what: What,
}

/// What to show.
#[derive(Debug, clap::Subcommand)]
pub enum What {
    /// All modes, a line each
    List,
    /// One mode with its prompt
    Show {
        /// The mode's name
        name: String,
    },
}

/// Runs the command.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, cx: &Context<'_>) -> Result<(), CliError> {
    let library = run::load(&super::here(cx), cx)?;
    let json = cx.format == Format::Json;
    match args.what {
        What::List if json => {
            let names: Vec<_> = library
                .modes
                .values()
                .map(|mode| serde_json::json!({ "name": mode.name, "built_in": mode.builtin, "mode": mode.doc }))
                .collect();
            cx.data(&format!("{:#}\n", serde_json::Value::Array(names)));
        }
        What::List => {
            let mut text = String::new();
            for mode in library.modes.values() {
                let own = if mode.builtin { "" } else { "  (this repository's)" };
                let _ = writeln!(text, "{:<20} {}{own}", mode.name, mode.doc.description);
            }
            cx.data(&text);
        }
        What::Show { name } => {
            let Some(mode) = library.modes.get(&name) else {
                let names: Vec<&str> = library.modes.keys().map(String::as_str).collect();
                return Err(CliError::usage(format!("no mode `{name}`")).hint(format!("modes: {}", names.join(", "))));
            };
            if json {
                cx.data(&format!("{:#}\n", serde_json::json!({ "name": mode.name, "mode": mode.doc })));
            } else {
                cx.data(&mode.document.text);
                cx.data("\n");
            }
        }
    }
    Ok(())
}
