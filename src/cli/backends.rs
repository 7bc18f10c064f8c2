//! `codeforge backends list|show`.

use super::error::CliError;
use super::{Context, Format, run};
use std::fmt::Write;

/// Shows the backends that steps can use: other agents and plain programs, the built-in ones and the repository's own.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codeforge backends list
  codeforge backends show aider")]
pub struct Args {
    /// What to show
    #[command(subcommand)]
    pub what: What,
}

/// What to show.
#[derive(Debug, clap::Subcommand)]
pub enum What {
    /// All backends, a line each
    List,
    /// One backend, as it is written
    Show {
        /// The backend's name
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
            let all: Vec<_> = library
                .backends
                .values()
                .map(|it| serde_json::json!({ "name": it.name, "built_in": it.builtin, "backend": it.doc }))
                .collect();
            cx.data(&format!("{:#}\n", serde_json::Value::Array(all)));
        }
        What::List => {
            let mut text = String::new();
            for backend in library.backends.values() {
                let own = if backend.builtin { "" } else { "  (this repository's)" };
                let dialect = backend.doc.dialect.name();
                let _ = writeln!(text, "{:<16} {dialect:<17} {}{own}", backend.name, backend.doc.description);
            }
            cx.data(&text);
        }
        What::Show { name } => {
            let Some(backend) = library.backends.get(&name) else {
                let names: Vec<&str> = library.backends.keys().map(String::as_str).collect();
                let hint = format!("backends: {}", names.join(", "));
                return Err(CliError::usage(format!("no backend `{name}`")).hint(hint));
            };
            if json {
                cx.data(&format!("{:#}\n", serde_json::json!({ "name": backend.name, "backend": backend.doc })));
            } else {
                cx.data(&backend.document.text);
                cx.data("\n");
            }
        }
    }
    Ok(())
}
