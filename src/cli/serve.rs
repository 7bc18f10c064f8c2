//! `codeforge serve`: webhooks and schedules, worked on for as long as it runs.

use super::error::CliError;
use super::{Context, Format};
use crate::engine::Stop;
use crate::model::account::Ending;
use crate::model::diagnostic::Diagnostic;
use crate::model::serve::Serve;
use crate::port::inbox::InboxError;
use crate::port::world::{Serving, World};
use crate::report::diagnostics;
use crate::server::log::{About, Level, Log};
use crate::server::serve::{self, Loop, Phases, ServeError, Server};
use crate::server::settings::{Live, Settings};
use crate::server::{self, Parts};
use crate::workflow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Listens for webhooks and schedules, and runs what they ask for. Its settings are a file of the operator's.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codeforge serve                                  # serve.yml in this folder
  codeforge serve --config /etc/codeforge/serve.yml --format json
  codeforge serve --check                          # read the settings and the secrets, and end
  kill -HUP PID                                    # read them again; bad ones change nothing

SIGTERM and SIGINT stop it in phases: no new webhooks, runs end or are left where they can be gone on with, the database \
is closed. A second one ends it at once.")]
pub struct Args {
    /// Read the settings and the secrets, say what is wrong with them, and end
    #[arg(long)]
    pub check: bool,
}

/// Where the settings are, where nobody says.
const USUAL: &str = "serve.yml";

/// Runs the command.
///
/// # Errors
/// [`CliError`]: bad settings (2), an address or a database that cannot be had (5).
pub async fn run(args: Args, cx: &Context<'_>, stop: Stop) -> Result<(), CliError> {
    let path = cx.world.cwd().join(cx.config.as_deref().unwrap_or(Path::new(USUAL)));
    let world = cx.world.shared();
    let live = match read(&path, &*world) {
        Ok(live) => live,
        Err(Unread::Problems(problems)) => {
            for problem in &problems {
                cx.complain(&diagnostics::render(problem, cx.color));
            }
            cx.complain(&diagnostics::summary(&problems, 1));
            return Err(CliError::silent(Ending::Misconfigured));
        }
        Err(other) => return Err(CliError::usage(other.words())),
    };
    // For its runs: what none of them could sign with is said now, and not by each of them.
    super::forge::signing(cx.world)?;
    if args.check {
        let Serve { listen, repositories, hooks, .. } = &live.serve;
        let repositories =
            format!("{} {}", repositories.len(), if repositories.len() == 1 { "repository" } else { "repositories" });
        let hooks = format!("{} {}", hooks.len(), if hooks.len() == 1 { "hook" } else { "hooks" });
        cx.data(&format!("{}: good; {repositories}, {hooks}, {listen}\n", path.display()));
        return Ok(());
    }
    let state = live.serve.state.clone();
    let clock = world.clock();
    let log = Log::start(Box::new(std::io::stderr()), cx.format == Format::Json, Arc::clone(&clock))
        .map_err(|error| CliError::new(Ending::Unavailable, format!("no thread can be started: {error}")))?;
    let Serving { inbox, queue } = world.serving(&state).await?;
    let server = Server {
        inbox,
        queue,
        arrived: Arc::default(),
        replaced: Arc::default(),
        settings: Arc::new(Settings::new(live)),
        clock,
        log: Arc::new(log),
        metrics: Arc::default(),
        health: Arc::default(),
        state,
        world: Arc::clone(&world),
    };
    let reload = move || read(&path, &*world).map_err(|unread| unread.words());
    let loops = |server: &Server, phases: &Phases| vec![jobs(server.clone(), phases.clone())];
    Ok(serve::run(server, loops, &reload, stop).await?)
}

/// The loops that make jobs and work on them.
fn jobs(server: Server, phases: Phases) -> Loop {
    let work = async move {
        let settings = || Arc::new(server.settings.now().serve.clone());
        let say = |line: &str, about: About| {
            let (level, words) = match line.strip_prefix("ALARM: ") {
                Some(words) => (Level::Alarm, words),
                None => (Level::Info, line),
            };
            let event = about.event.unwrap_or("jobs");
            about.on(server.log.line(level, event)).text("said", words).write();
        };
        let runner = server.world.runner();
        let kept = (Arc::clone(&server.inbox), Arc::clone(&server.queue));
        let parts = Parts::new(&*server.world, &settings, kept, runner, (Arc::clone(&server.health), &say));
        let wake = async {
            loop {
                tokio::select! {
                    () = server.arrived.notified() => parts.wake.notify_waiters(),
                    // Tokens may be others, and how many workers there are.
                    () = server.replaced.notified() => {
                        parts.forget().await;
                        parts.wake.notify_waiters();
                    }
                }
            }
        };
        tokio::select! {
            () = server::run(&parts, &phases.stop) => {}
            () = wake => {}
            // What waits for a forge may wait for long; runs were interrupted when the server began to stop.
            () = phases.now.cancelled() => {}
        }
    };
    Loop { name: "jobs", work: Box::pin(work) }
}

/// Why there are no settings.
enum Unread {
    /// The file.
    File(String),
    /// What stands in it.
    Problems(Vec<Diagnostic>),
    /// Secrets that it names.
    Secrets(Vec<String>),
}

impl Unread {
    fn words(&self) -> String {
        match self {
            Self::File(why) => why.clone(),
            Self::Problems(problems) => {
                let words = problems.iter().map(|it| {
                    let place = &it.place;
                    format!("{}:{}:{}: {}", place.file, place.line, place.column, it.message)
                });
                words.collect::<Vec<_>>().join("; ")
            }
            Self::Secrets(problems) => format!("secrets cannot be read: {}", problems.join("; ")),
        }
    }
}

/// The server's settings without their secrets, for commands that look at its state.
///
/// # Errors
/// They cannot be read, or have errors: exit code 2.
pub(super) fn settings(cx: &Context<'_>) -> Result<Serve, CliError> {
    let path = cx.world.cwd().join(cx.config.as_deref().unwrap_or(Path::new(USUAL)));
    settled(&path).map_err(|unread| CliError::usage(unread.words()))
}

/// Reads the settings and their secrets. A relative state folder is taken from the file's own folder.
fn read(path: &Path, world: &dyn World) -> Result<Live, Unread> {
    Live::read(settled(path)?, &|name| world.env(name)).map_err(Unread::Secrets)
}

fn settled(path: &Path) -> Result<Serve, Unread> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Unread::File(format!(
            "{shown} cannot be read: {error}; `--config FILE` names another, docs/serve.md has one to copy"
        ))
    })?;
    let (serve, problems) = workflow::serve(&shown, &text);
    let mut serve = serve.ok_or(Unread::Problems(problems))?;
    let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
    serve.state = folder.join(&serve.state).components().collect::<PathBuf>();
    Ok(serve)
}

impl From<InboxError> for CliError {
    fn from(error: InboxError) -> Self {
        Self::new(Ending::Unavailable, error.to_string())
    }
}

impl From<ServeError> for CliError {
    fn from(error: ServeError) -> Self {
        let ending = match &error {
            ServeError::Address { .. } => Ending::Unavailable,
            ServeError::Lost(_) => Ending::Failed,
        };
        Self::new(ending, error.to_string())
    }
}
