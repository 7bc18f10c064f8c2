//! One file a subcommand; error kinds, hints and exit codes.
//!
//! A command is `pub async fn run(args: Args, cx: &Context<'_>) -> Result<(), CliError>` beside its
//! `#[derive(clap::Args)] pub struct Args`. It prints data with [`Context::data`] and everything meant for people
//! with [`Context::say`].

pub mod approve;
pub mod artifacts;
pub mod backends;
pub mod cancel;
pub mod chosen;
pub mod ci;
pub mod completions;
pub mod costs;
pub mod deliver;
pub mod demo;
pub mod doctor;
pub mod error;
pub mod experience;
pub mod forge;
pub mod init;
pub mod models;
pub mod modes;
pub mod phases;
pub mod policies;
pub mod queue;
pub mod replay;
pub mod resume;
pub mod run;
pub mod runs;
pub mod schedule;
pub mod schema;
pub mod serve;
pub mod sources;
pub mod state;
pub mod tapes;
pub mod validate;
pub mod watching;

use crate::engine::Stop;
use crate::port::world::World;
use crate::report;
use error::CliError;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;

/// CodeForge turns a declarative YAML workflow into a tested change.
#[derive(Debug, clap::Parser)]
#[command(
    name = "codeforge",
    version,
    about,
    max_term_width = 110,
    after_help = "Examples:
  codeforge demo                                  # see it work, without a key
  codeforge run fix -i task=\"what to change\"
  codeforge validate
  codeforge runs list

Exit codes: 0 done; 1 the run failed; 2 usage or configuration; 3 a limit; 4 denied; 5 a provider or the sandbox \
failed; 130 interrupted"
)]
pub struct Cli {
    /// Configuration file (default: .codeforge/config.yml)
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How data is printed
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub format: Format,
    /// More about what happens (-vv: model text and command output)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Nothing on standard error but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Colour
    #[arg(long, global = true, value_enum, default_value = "auto")]
    pub color: Color,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// -1 quiet, 0 normal, 1 and more: verbose.
    pub fn verbosity(&self) -> i8 {
        if self.quiet { -1 } else { i8::try_from(self.verbose).unwrap_or(i8::MAX) }
    }
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Write .codeforge/ and the CI files for the forge that is found
    Init(init::Args),
    /// What is there, what is missing, and what to do about it
    Doctor(doctor::Args),
    /// Check workflows, modes, policies, backends and configuration
    Validate(validate::Args),
    /// Run a workflow in a repository: the main job
    Run(run::Args),
    /// The main job in a CI system: reads its environment and event, runs what matches, reports
    Ci(ci::Args),
    /// The main job on a sample repository with recorded model answers: no key, no account
    Demo(demo::Args),
    /// Deliver what a run made: from an artifact, or from a run here
    Deliver(deliver::Args),
    /// Continue a run that was interrupted or killed
    Resume(resume::Args),
    /// End a run for good: it cannot be resumed any more
    Cancel(cancel::Args),
    /// Go through a recorded run without a model, or make it again and compare
    Replay(replay::Args),
    /// What happened: list, show, export, events
    Runs(runs::Args),
    /// What it cost, by model, workflow, mode, day, change or actor, and how budgets stand
    Costs(costs::Args),
    /// What later steps are shown of earlier runs: list, show, forget
    Experience(experience::Args),
    /// Models: list, show, test
    Models(models::Args),
    /// Modes: list, show
    Modes(modes::Args),
    /// Backends, the other agents that can do a step's work: list, show
    Backends(backends::Args),
    /// Policies: list, show, test a call by hand
    Policies(policies::Args),
    /// Listen for webhooks and schedules, and run what they ask for
    Serve(serve::Args),
    /// Say yes or no to a job of the server that waits for it
    Approve(approve::Args),
    /// A server's jobs: list, show, dead, requeue, cancel, deliveries
    Queue(queue::Args),
    /// Time tables: list, next
    Schedule(schedule::Args),
    /// Print the JSON Schema of a kind of file
    Schema(schema::Args),
    /// Print a shell's completions, or the man page
    Completions(completions::Args),
}

/// Runs a command.
///
/// # Errors
/// [`CliError`], whose ending is the exit code.
pub async fn dispatch(command: Command, cx: &Context<'_>, stop: Stop) -> Result<(), CliError> {
    match command {
        Command::Init(args) => init::run(args, cx, stop).await,
        Command::Doctor(args) => doctor::run(args, cx).await,
        Command::Validate(args) => validate::run(args, cx).await,
        Command::Run(args) => run::run(args, cx, stop).await,
        Command::Ci(args) => ci::run(args, cx, stop).await,
        Command::Demo(args) => demo::run(args, cx, stop).await,
        Command::Deliver(args) => deliver::run(args, cx).await,
        Command::Resume(args) => resume::run(args, cx, stop).await,
        Command::Cancel(args) => cancel::run(args, cx, stop).await,
        Command::Replay(args) => replay::run(args, cx, stop).await,
        Command::Runs(args) => runs::run(args, cx, &fold).await,
        Command::Costs(args) => costs::run(args, cx).await,
        Command::Experience(args) => experience::run(args, cx).await,
        Command::Models(args) => models::run(args, cx).await,
        Command::Modes(args) => modes::run(args, cx).await,
        Command::Backends(args) => backends::run(args, cx).await,
        Command::Policies(args) => {
            let library = run::load(&here(cx), cx)?;
            let protected: Vec<String> = library.config.protected_paths.iter().map(|glob| glob.0.clone()).collect();
            policies::run(args, cx, &library.policies.into_iter().collect(), &protected)
        }
        Command::Serve(args) => serve::run(args, cx, stop).await,
        Command::Approve(args) => approve::run(args, cx).await,
        Command::Queue(args) => queue::run(args, cx).await,
        Command::Schedule(args) => schedule::run(args, cx).await,
        Command::Schema(args) => schema::run(args, cx).await,
        Command::Completions(args) => completions::run(args, cx).await,
    }
}

/// The repository's top folder, or the current folder: built-in modes and policies can be looked at anywhere.
pub(crate) fn here(cx: &Context<'_>) -> PathBuf {
    match cx.world.repository(cx.world.cwd()) {
        Ok(repository) => repository.root().to_path_buf(),
        Err(_) => cx.world.cwd().to_path_buf(),
    }
}

/// A journal's account.
fn fold(rows: &[crate::model::journal::Row]) -> Result<crate::model::account::Account, String> {
    Ok(crate::run::account(&crate::engine::replay(rows)?))
}

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

    /// How accounts are rendered.
    pub fn style(&self) -> report::account::Style {
        report::account::Style { color: self.color, width: 110, ascii: false }
    }

    /// Says what went wrong, even under `--quiet`.
    pub fn complain(&self, text: &str) {
        if let Ok(mut err) = self.err.lock() {
            let _ = writeln!(err, "{text}");
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
