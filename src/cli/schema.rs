//! `codeforge schema KIND`: the JSON Schema that editors complete from.

use super::Context;
use super::error::CliError;
use crate::workflow::schema::{DocKind, json_schema};

/// Prints the JSON Schema of a kind of file.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codeforge schema workflow > schemas/workflow.schema.json
  # in a workflow: # yaml-language-server: $schema=../../schemas/workflow.schema.json")]
pub struct Args {
    /// The kind
    #[arg(value_enum)]
    pub kind: Kind,
}

/// Kinds of files.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Kind {
    /// .codeforge/workflows/NAME.yml
    Workflow,
    /// .codeforge/modes/NAME.yml
    Mode,
    /// .codeforge/policies/NAME.yml
    Policy,
    /// .codeforge/config.yml
    Config,
    /// .codeforge/backends/NAME.yml
    Backend,
    /// .codeforge/pricing.yml
    Pricing,
    /// serve.yml, of a server's operator
    Serve,
}

/// Runs the command.
///
/// # Errors
/// None; the signature is that of all commands.
pub async fn run(args: Args, cx: &Context<'_>) -> Result<(), CliError> {
    let kind = match args.kind {
        Kind::Workflow => DocKind::Workflow,
        Kind::Mode => DocKind::Mode,
        Kind::Policy => DocKind::Policy,
        Kind::Config => DocKind::Config,
        Kind::Backend => DocKind::Backend,
        Kind::Pricing => DocKind::Pricing,
        Kind::Serve => DocKind::Serve,
    };
    cx.data(&format!("{:#}\n", json_schema(kind)));
    Ok(())
}
