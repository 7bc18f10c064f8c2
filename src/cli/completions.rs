//! `codeforge completions SHELL`.

use super::error::CliError;
use super::{Cli, Context};
use clap::CommandFactory;

/// Prints completions for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codeforge completions bash > /etc/bash_completion.d/codeforge
  codeforge completions zsh > ~/.zfunc/_codeforge")]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Runs the command.
///
/// # Errors
/// None; the signature is that of all commands.
pub async fn run(args: Args, cx: &Context<'_>) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "codeforge", &mut script);
    cx.data(&String::from_utf8_lossy(&script));
    Ok(())
}
