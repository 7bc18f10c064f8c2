//! One file a subcommand; error kinds, hints and exit codes.
//!
//! A command is `pub async fn run(args: Args, cx: &Context<'_>) -> Result<(), CliError>` beside its
//! `#[derive(clap::Args)] pub struct Args`. It prints data with [`Context::data`] and everything meant for people
//! with [`Context::say`].

pub mod error;
pub mod policies;

use crate::port::world::World;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For machines; stable.
    Json,
    /// SARIF 2.1.0 (`validate` only).
    Sarif,
    /// GitHub's workflow commands (`validate` only).
    Github,
}

/// What every command is given.
pub struct Context<'a> {
    /// The world outside.
    pub world: &'a dyn World,
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--format`.
    pub format: Format,
    /// Whether colour may be used on standard error (and on standard output, where it is a terminal too).
    pub color: bool,
    /// Whether standard error is a terminal (live views).
    pub interactive: bool,
    /// -1 quiet, 0 normal, 1 and more: verbose.
    pub verbosity: i8,
    /// Standard output.
    pub out: Mutex<Box<dyn Write + Send>>,
    /// Standard error.
    pub err: Mutex<Box<dyn Write + Send>>,
}

impl Context<'_> {
    /// Prints data, as it is, to standard output. A closed pipe is not an error.
    pub fn data(&self, text: &str) {
        if let Ok(mut out) = self.out.lock() {
            let _ = out.write_all(text.as_bytes());
            let _ = out.flush();
        }
    }

    /// Says something to people, on standard error; a line end is added. Silent under `--quiet`.
    pub fn say(&self, text: &str) {
        if self.verbosity >= 0
            && let Ok(mut err) = self.err.lock()
        {
            let _ = writeln!(err, "{text}");
        }
    }
}
