//! The composition root: the only file that names adapters, and the only one that reads the environment.

use crate::adapter::lending::Lender;
use crate::adapter::{cassette, catalog, ci, clock, forge, gateway, git, llm, memory, sandbox, serve, sqlite};
use crate::cli::{self, Cli};
use crate::model::account::Ending;
use crate::model::catalog::Server;
use crate::model::chat::ModelRef;
use crate::model::ci::CiJob;
use crate::port::checkout::Checkout;
use crate::port::ci::{CiError, Payload, PayloadError};
use crate::port::clock::Clock;
use crate::port::forge::{Credential, Forge, ForgeAt, ForgeError};
use crate::port::gateway::Gateway;
use crate::port::inbox::InboxError;
use crate::port::model::{Catalog, ChatModel};
use crate::port::repository::{Repository, RepositoryError};
use crate::port::runner::Runner;
use crate::port::sandbox::SandboxDriver;
use crate::port::store::{Store, StoreError};
use crate::port::world::{Serving, Tape, World};
use async_trait::async_trait;
use clap::Parser;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// This program. Not the path it was started by: the file may have been replaced since.
const OURSELVES: &str = "/proc/self/exe";

/// Threads of a server: its work is short or waits.
const SERVERS_THREADS: usize = 2;

/// The program: arguments in, exit code out.
pub fn main() -> ExitCode {
    // Inside a sandbox this binary is its init; that must happen before any thread exists.
    if sandbox::native::is_reentry() {
        return sandbox::native::reentry();
    }
    let parsed = match Cli::try_parse() {
        Ok(parsed) => parsed,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Ending::Misconfigured.exit_code() } else { 0 });
        }
    };
    let world = match RealWorld::new() {
        Ok(world) => world,
        Err(message) => return fail(&message),
    };
    let mut runtime = match parsed.command {
        // Many things at once: webhooks, and runs that are watched.
        cli::Command::Serve(_) => {
            memory::give_back_soon();
            tokio::runtime::Builder::new_multi_thread()
        }
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = match runtime.enable_all().worker_threads(SERVERS_THREADS).build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the async runtime cannot be started: {error}")),
    };
    runtime.block_on(run(parsed, &world))
}

async fn run(parsed: Cli, world: &RealWorld) -> ExitCode {
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let signals = tokio::spawn(listen(stop));
    let err = std::io::stderr();
    let interactive = err.is_terminal() && world.env("CI").is_none();
    let color = match parsed.color {
        cli::Color::Always => true,
        cli::Color::Never => false,
        cli::Color::Auto => interactive && world.env("NO_COLOR").is_none(),
    };
    let cx = cli::Context {
        world,
        config: parsed.config.clone(),
        format: parsed.format,
        color,
        interactive,
        verbosity: parsed.verbosity(),
        out: Mutex::new(Box::new(std::io::stdout())),
        err: Mutex::new(Box::new(err)),
    };
    let done = cli::dispatch(parsed.command, &cx, stopped).await;
    signals.abort();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.shown {
                cx.complain(&format!("error: {error}"));
            }
            ExitCode::from(error.ending.exit_code())
        }
    }
}

/// The first interrupt stops the run where it can be resumed; the second one ends the process at once.
async fn listen(stop: tokio::sync::watch::Sender<bool>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    for again in [false, true] {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if again {
            #[expect(clippy::exit, reason = "the second signal means: now; the journal holds what was acknowledged")]
            std::process::exit(i32::from(Ending::Cancelled.exit_code()));
        }
        let _ = stop.send(true);
    }
}

#[expect(clippy::print_stderr, reason = "nothing else can be printed with yet")]
fn fail(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::from(Ending::Unavailable.exit_code())
}

/// The world as it is.
#[derive(Clone)]
struct RealWorld {
    cwd: PathBuf,
    clock: Arc<dyn Clock>,
    /// The server that started this process, once a token was asked of it.
    lender: Arc<Mutex<Option<Arc<Lender>>>>,
}

impl RealWorld {
    fn new() -> Result<Self, String> {
        let cwd = std::env::current_dir().map_err(|error| format!("the current folder cannot be read: {error}"))?;
        Ok(Self { cwd, clock: Arc::new(clock::SystemClock), lender: Arc::default() })
    }

    /// Deadlines and attempts, as the environment sets them.
    fn settings(&self) -> Result<llm::Settings, String> {
        let mut settings = llm::Settings { extra_ca: self.extra_ca(), ..llm::Settings::default() };
        let number = |name: &str| -> Result<Option<f64>, String> {
            match variable(name).filter(|text| !text.trim().is_empty()) {
                None => Ok(None),
                Some(text) => match text.trim().parse::<f64>() {
                    Ok(number) if number > 0.0 && number.is_finite() => Ok(Some(number)),
                    _ => Err(format!("{name}={text}: a number above 0 is wanted")),
                },
            }
        };
        if let Some(seconds) = number("CODEFORGE_LLM_TIMEOUT_S")? {
            settings.first_byte = Duration::from_secs_f64(seconds.min(3600.0));
            settings.idle = settings.first_byte;
        }
        if let Some(seconds) = number("CODEFORGE_LLM_TOTAL_TIMEOUT_S")? {
            settings.total = Duration::from_secs_f64(seconds.min(86_400.0));
        }
        if let Some(attempts) = number("CODEFORGE_LLM_ATTEMPTS")? {
            settings.attempts = (attempts as u32).clamp(1, 20);
        }
        Ok(settings)
    }

    /// A company's own CA.
    fn extra_ca(&self) -> Option<PathBuf> {
        variable("CODEFORGE_EXTRA_CA").filter(|file| !file.trim().is_empty()).map(|file| self.cwd.join(file))
    }

    fn open_forge(&self, at: &ForgeAt, turn_file: Option<PathBuf>) -> Result<Arc<dyn Forge>, ForgeError> {
        let lender = matches!(at.token, Credential::Lent).then(|| self.lender()).transpose()?;
        let usual = forge::Settings::default();
        let between_writes_ms = match variable("CODEFORGE_WRITES_APART_MS").filter(|text| !text.trim().is_empty()) {
            None => usual.between_writes_ms,
            Some(text) => text.trim().parse().ok().filter(|ms| (0..=60_000).contains(ms)).ok_or_else(|| {
                let said = "CODEFORGE_WRITES_APART_MS is not a number of milliseconds from 0 to 60000: set it, or leave it out";
                ForgeError::Unsupported(said.into())
            })?,
        };
        let settings = forge::Settings { extra_ca: self.extra_ca(), turn_file, between_writes_ms, lender, ..usual };
        forge::open(at, Arc::clone(&self.clock), Arc::new(bits), settings)
    }

    /// Whoever lends tokens to this process.
    fn lender(&self) -> Result<Arc<Lender>, ForgeError> {
        let mut lender = self.lender.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*lender {
            return Ok(Arc::clone(known));
        }
        let made = Lender::of_stdin().map_err(|error| ForgeError::Unavailable {
            doing: "asking the server for a token".to_owned(),
            message: error.to_string(),
        })?;
        Ok(Arc::clone(lender.insert(Arc::new(made))))
    }

    fn real_models(&self) -> Result<Arc<dyn ChatModel>, String> {
        let key: llm::KeyLookup = Arc::new(variable);
        let jitter: llm::Jitter = Arc::new(bits);
        Ok(Arc::new(llm::Router::new(self.settings()?, Arc::clone(&self.clock), key, jitter)?))
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the room where the environment is read")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Random bits, from the keys that the standard library draws for its maps.
fn bits() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[async_trait]
impl World for RealWorld {
    fn cwd(&self) -> &Path {
        &self.cwd
    }

    fn env(&self, name: &str) -> Option<String> {
        variable(name)
    }

    fn ci(&self) -> Result<CiJob, CiError> {
        ci::job(&variable, &self.cwd)
    }

    fn webhook(&self, source: &str, name: &str, body: &[u8]) -> Result<Vec<Payload>, PayloadError> {
        ci::webhook(source, name, body)
    }

    fn repository(&self, at: &Path) -> Result<Arc<dyn Repository>, RepositoryError> {
        git::open(at)
    }

    fn checkout(&self, at: &Path) -> Result<Arc<dyn Checkout>, RepositoryError> {
        git::checkout(at, Arc::new(variable))
    }

    fn new_repository(&self, at: &Path) -> Result<Arc<dyn Repository>, RepositoryError> {
        git::create(at)
    }

    fn borrowing(&self, at: &Path, from: Option<&Path>) -> Result<(), RepositoryError> {
        git::beside(at, from)
    }

    async fn store(&self, state_dir: &Path) -> Result<Arc<dyn Store>, StoreError> {
        sqlite::open(state_dir, Arc::clone(&self.clock)).await
    }

    fn drivers(&self) -> Vec<Arc<dyn SandboxDriver>> {
        sandbox::drivers(&sandbox::Host {
            helper: PathBuf::from(OURSELVES),
            path: variable("PATH").unwrap_or_default(),
            home: variable("HOME").map(PathBuf::from),
            docker_host: variable("DOCKER_HOST"),
        })
    }

    fn gateway(&self) -> Arc<dyn Gateway> {
        Arc::new(gateway::HttpGateway::new(gateway::Times::default(), Arc::clone(&self.clock)))
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    fn chat(&self, tape: &Tape) -> Result<Arc<dyn ChatModel>, String> {
        Ok(match tape {
            Tape::Off => self.real_models()?,
            Tape::Play(file) => Arc::new(cassette::Player::open(file)?),
            Tape::PlayText(text) => Arc::new(cassette::Player::read(text)?),
        })
    }

    fn models(&self, tape: &Tape) -> Vec<ModelRef> {
        match tape {
            Tape::Play(_) | Tape::PlayText(_) => vec![cassette::model()],
            Tape::Off => self.models_of(&variable),
        }
    }

    fn models_of(&self, env: &dyn Fn(&str) -> Option<String>) -> Vec<ModelRef> {
        match llm::discover(env) {
            found if !found.is_empty() => found,
            _ => catalog::model(env).into_iter().collect(),
        }
    }

    fn addressed(&self, model: ModelRef) -> ModelRef {
        llm::at_home(model)
    }

    fn servers(&self) -> Vec<Server> {
        catalog::servers(&variable)
    }

    fn catalog(&self) -> Result<Arc<dyn Catalog>, String> {
        Ok(Arc::new(catalog::Asker::new(Arc::new(variable))))
    }

    fn forge(&self, at: &ForgeAt) -> Result<Arc<dyn Forge>, ForgeError> {
        // Said by the server to its jobs.
        self.open_forge(at, variable("CODEFORGE_TURN_FILE").filter(|file| !file.is_empty()).map(PathBuf::from))
    }

    fn forge_in_turn(&self, at: &ForgeAt, turns: &Path) -> Result<Arc<dyn Forge>, ForgeError> {
        self.open_forge(at, Some(turns.to_owned()))
    }

    fn shared(&self) -> Arc<dyn World> {
        Arc::new(self.clone())
    }

    async fn serving(&self, state_dir: &Path) -> Result<Serving, InboxError> {
        let database = serve::open(state_dir).await?;
        Ok(Serving { inbox: database.clone(), queue: database })
    }

    fn runner(&self) -> Arc<dyn Runner> {
        Arc::new(serve::runner::Processes { program: PathBuf::from(OURSELVES), env: Arc::new(variable) })
    }

    fn free_space(&self, folder: &Path) -> Result<u64, String> {
        serve::free_space(folder)
    }

    fn settle(&self) {
        memory::let_go_of_files();
    }

    fn random(&self) -> u64 {
        bits()
    }

    fn owner(&self) -> String {
        sqlite::owner()
    }

    fn user(&self) -> String {
        let uid = nix::unistd::geteuid().to_string();
        // Plainly read: a static program asks no name service.
        let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let mut fields = accounts.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let own = fields.find(|fields| fields.get(2) == Some(&uid.as_str()));
        own.and_then(|fields| fields.first().map(|name| (*name).to_owned())).unwrap_or_else(|| format!("uid {uid}"))
    }

    fn secrets(&self) -> Vec<String> {
        // By what a variable is called; short values would redact half of every text.
        #[expect(clippy::disallowed_methods, reason = "this is the room where the environment is read")]
        let all = std::env::vars_os();
        let lent = self.lender.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|it| it.given());
        all.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, value)| {
                let name = name.to_uppercase();
                // A reference to a key, or its id, is none.
                value.len() >= 8
                    && name != "CODEFORGE_SIGNING_KEY"
                    && ["KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL"].iter().any(|part| name.contains(part))
            })
            .map(|(_, value)| value)
            .chain(lent.into_iter().flatten())
            .collect()
    }
}
