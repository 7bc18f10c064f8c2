//! A run as a process of its own: `codeforge ci` with its event in a file, in a checkout that borrows the objects of the
//! repository's cached clone, with one repository's token and nothing of the others. A token that may end before the run
//! does is not handed over: the run asks for it over its standard input, whenever it needs one (decision 0051).
//!
//! A change of a fork is worked on by three processes, and only the one that delivers, which runs nothing of the
//! repository's, has a token or can ask for one. What the others would ask the forge was asked for them.
//!
//! A job's folder holds what its next attempt needs: the checkout, the newest fence, and whose process is at work. A
//! process that is left of an earlier attempt (its server was killed, or was away for too long) is ended before the next
//! one begins; one that cannot be reached from here finds another fence than its own before it hands over.

use crate::adapter::git;
use crate::adapter::lending;
use crate::adapter::sqlite::{Life, Owner};
use crate::model::ci::ServedJob;
use crate::model::job::Job;
use crate::model::places;
use crate::port::forge::Login;
use crate::port::runner::{Order, Ran, Runner, Tokens};
use crate::text::{self, Capped};
use async_trait::async_trait;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

/// Bytes of a job's log that are kept.
const LOG: u64 = 8 << 20;
/// Bytes of its end that are told.
const TAIL: usize = 16 << 10;
/// The longest line that is read at once.
const LINE: u64 = 64 << 10;
/// How long what a process printed is read once it has ended.
const READ: Duration = Duration::from_secs(5);
/// How long is waited for a process that was killed.
const GONE: Duration = Duration::from_secs(10);

/// Variables of ours that a run may see: what programs need to find their way, and nothing that is secret.
const PASSED: [&str; 19] = [
    "PATH",
    "HOME",
    "LANG",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
    "DOCKER_HOST",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "CODEFORGE_EXTRA_CA",
    "CODEFORGE_SANDBOX",
    "CODEFORGE_WRITES_APART_MS",
    "GIT_CONFIG_NOSYSTEM",
];

/// How commits are signed: for the process that writes them, and no other.
const SIGNING: [&str; 4] = ["CODEFORGE_SIGNING", "CODEFORGE_SIGNING_KEY", "CODEFORGE_SIGNING_FALLBACK", "GNUPGHOME"];
/// Parts of a secret of several lines that are looked for in a log have so many bytes at least.
const PART: usize = 16;

/// A variable by its name.
pub type Env = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Starts runs as processes.
pub struct Processes {
    /// This program.
    pub program: PathBuf,
    /// The environment.
    pub env: Env,
}

/// Variables that hold what a forge is written to with: of the operator's own, too, they go only where is delivered.
const WRITES: [&str; 11] = [
    "CODEFORGE_FORGE_TOKEN",
    "CODEFORGE_FORGE_TOKEN_FILE",
    "CODEFORGE_APP_ID",
    "CODEFORGE_APP_KEY",
    "CODEFORGE_MARKER_KEY",
    "GITHUB_TOKEN",
    "GH_TOKEN",
    "GITLAB_TOKEN",
    "CI_JOB_TOKEN",
    "GITEA_TOKEN",
    "FORGEJO_TOKEN",
];

/// What a process of a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Everything: the repository's own work.
    Whole,
    /// A fork's, in three.
    Agent,
    Gate,
    Deliver,
}

impl Part {
    /// The phase's name; `None`: it has none.
    fn phase(self) -> Option<&'static str> {
        match self {
            Self::Whole => None,
            Self::Agent => Some("agent"),
            Self::Gate => Some("gate"),
            Self::Deliver => Some("deliver"),
        }
    }

    /// Whether it asks models.
    fn asks(self) -> bool {
        matches!(self, Self::Whole | Self::Agent)
    }

    /// Whether it writes to the forge.
    fn writes(self) -> bool {
        matches!(self, Self::Whole | Self::Deliver)
    }
}

/// What the processes of one run have in common.
struct Run<'a> {
    order: &'a Order,
    folder: PathBuf,
    told: ServedJob,
    vars: BTreeMap<String, String>,
    /// What only the process gets that writes to the forge: its token, and the key of our marks.
    writing: BTreeMap<String, String>,
    /// What only the process gets that writes commits.
    signing: BTreeMap<String, String>,
    /// Values that must not be in a log; more of them while tokens are lent.
    secrets: Mutex<Vec<String>>,
    stop: CancellationToken,
}

impl Run<'_> {
    /// A line as it is kept: cleaned, and without secrets.
    fn shown(&self, line: &str) -> String {
        let secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        text::redact(&text::clean(line), &secrets.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The variables of one of its processes: what its part needs, and nothing else.
    fn given(&self, part: Part, word: &str) -> Result<BTreeMap<String, String>, String> {
        let told = ServedJob {
            lends: part.writes() && self.order.lender.is_some(),
            asked: self.order.asked.clone().filter(|_| !part.writes()),
            ..self.told.clone()
        };
        let own =
            |name: &String| !self.signing.contains_key(name) && (part.writes() || !WRITES.contains(&name.as_str()));
        let operators = self.order.vars.iter().filter(|(name, _)| part.asks() && own(name));
        let mut given: BTreeMap<String, String> =
            operators.map(|(name, value)| (name.clone(), value.expose_secret().to_owned())).collect();
        given.extend(self.vars.clone());
        given.insert("CODEFORGE_JOB".to_owned(), put(&self.folder, "job.json", &told)?);
        if part.writes() {
            given.extend(self.writing.clone().into_iter().chain(self.signing.clone()));
        }
        if let Some(phase) = part.phase() {
            let artifact = self.folder.join("artifact.json").display().to_string();
            let named = [("PHASE", phase.to_owned()), ("ARTIFACT", artifact), ("GATE_WORD", word.to_owned())];
            given.extend(named.map(|(name, value)| (format!("CODEFORGE_{name}"), value)));
        }
        Ok(given)
    }

    /// A token for a run that asks for one.
    async fn lend(&self, tokens: &Tokens, refused: Option<SecretString>) -> Result<Login, String> {
        let login = tokens.fresh(refused).await?;
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner).push(login.token.expose_secret().to_owned());
        Ok(login)
    }
}

#[async_trait]
impl Runner for Processes {
    async fn run(&self, order: &Order, stop: CancellationToken) -> Result<Ran, String> {
        let job = &order.job;
        let folder = places::job(&order.state, &job.id);
        let (at, clone, fence) = (folder.clone(), places::clone(&order.state, &job.new.repository), order.fence);
        tokio::task::spawn_blocking(move || prepare(&at, &clone, fence))
            .await
            .map_err(|error| format!("an internal error: {error}"))??;
        let run = self.ready(order, folder, stop)?;
        let ran = if job.is_of_fork() { self.phases(&run).await? } else { self.process(&run, Part::Whole, "").await? };
        if matches!(ran.code, Some(0..=4)) {
            // It is over: nobody goes on with it here.
            let _ = tokio::fs::remove_dir_all(run.folder.join("checkout")).await;
        }
        Ok(ran)
    }

    async fn step(&self, state: &Path, job: &str) -> Option<String> {
        let text = tokio::fs::read_to_string(places::job(state, job).join(places::STEP)).await.ok()?;
        text.lines().next().filter(|line| !line.is_empty()).map(str::to_owned)
    }
}

/// Ends what is left of an earlier attempt, and makes folder, fence and checkout. Blocking.
fn prepare(folder: &Path, clone: &Path, fence: i64) -> Result<(), String> {
    let failed = |what: &str, error: std::io::Error| format!("{what} {} cannot be made: {error}", folder.display());
    private(folder).map_err(|error| failed("the job's folder", error))?;
    write(&folder.join("fence"), &fence.to_string()).map_err(|error| failed("the fence in", error))?;
    end_leftover(&folder.join("process"))?;
    // Where an earlier attempt was, and what it said, is not what this one is and says.
    for name in [places::STEP, places::VOICE] {
        std::fs::write(folder.join(name), "").map_err(|error| failed("what a run tells in", error))?;
    }
    let made = git::beside(clone, None).and_then(|()| git::beside(&folder.join("checkout"), Some(clone)));
    made.map_err(|error| error.to_string())
}

/// Makes a folder that only its owner may read.
fn private(folder: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Writes a value into a file of a job's folder; the file's address.
fn put(folder: &Path, name: &str, value: &impl serde::Serialize) -> Result<String, String> {
    let file = folder.join(name);
    let text = serde_json::to_string(value).map_err(|error| format!("an internal error: {error}"))?;
    write(&file, &text).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(file.display().to_string())
}

/// Writes a file whole or not at all.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    let beside = file.with_extension("new");
    std::fs::write(&beside, text)?;
    std::fs::rename(&beside, file)
}

/// Kills the process of an earlier attempt where it still lives here: two at once would do everything twice.
fn end_leftover(file: &Path) -> Result<(), String> {
    let Ok(text) = std::fs::read_to_string(file) else { return Ok(()) };
    let Some(owner) = Owner::parse(text.trim()) else { return Ok(()) };
    let here = Owner::of(std::process::id());
    let until = std::time::Instant::now() + GONE;
    while owner.life(&here) == Life::Alive {
        if let Some(pid) = pid(owner.pid()) {
            let _ = killpg(pid, Signal::SIGKILL);
            let _ = kill(pid, Signal::SIGKILL);
        }
        if std::time::Instant::now() > until {
            return Err(format!("the process {} of an earlier attempt cannot be ended", owner.pid()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn pid(number: u32) -> Option<Pid> {
    // 0 and 1 are no process of ours.
    i32::try_from(number).ok().filter(|number| *number > 1).map(Pid::from_raw)
}

impl Processes {
    /// Event, job and variables.
    fn ready<'a>(&self, order: &'a Order, folder: PathBuf, stop: CancellationToken) -> Result<Run<'a>, String> {
        let job = &order.job;
        let told = ServedJob {
            id: job.id.clone(),
            forge: order.forge,
            api_url: order.api.clone(),
            git_url: order.git_url.clone(),
            repository: job.new.repository.name.clone(),
            default_branch: order.default_branch.clone(),
            attempt: job.attempts.max(1),
            url: None,
            fence: order.fence,
            fence_file: folder.join("fence"),
            approved: job.approved(),
            rounds: job.rounds,
            // Said to each process as it is for that one.
            lends: false,
            asked: None,
        };
        let event = put(&folder, "event.json", &job.new.event)?;
        let passed = PASSED.iter().filter_map(|name| Some(((*name).to_owned(), self.value(order, name)?)));
        let mut vars: BTreeMap<String, String> = passed.collect();
        for (name, value) in [
            ("CODEFORGE_EVENT", event),
            ("CODEFORGE_ALLOW_USERS", order.allow_users.join(",")),
            ("CODEFORGE_REPORT_DIR", folder.join("report").display().to_string()),
            ("CODEFORGE_STATE_DIR", places::journal(&order.state, &job.new.repository).display().to_string()),
            ("CODEFORGE_TURN_FILE", places::turn(&order.state, &job.new.repository).display().to_string()),
            ("CODEFORGE_WORKFLOW", job.new.workflow.clone()),
            ("CODEFORGE_TRIGGER_PHRASE", order.phrase.clone()),
            ("NO_COLOR", "1".to_owned()),
        ] {
            vars.insert(name.to_owned(), value);
        }
        let token = order.lender.is_none().then_some(("CODEFORGE_FORGE_TOKEN", &order.token));
        let key = order.marker_key.as_ref().map(|key| ("CODEFORGE_MARKER_KEY", key));
        let writing = token.into_iter().chain(key);
        let writing = writing.map(|(name, value)| (name.to_owned(), value.expose_secret().to_owned())).collect();
        for (name, value) in &job.new.settings {
            // What a command may set is decided where it is taken; here are the names that there are.
            if let Some(variable) = setting(name) {
                vars.insert(variable.to_owned(), value.clone());
            }
        }
        // A run never spends more than was said yes to, also where its workflow asks for no yes any more by now.
        if let (Some(usd), Some(variable)) = (job.approved().and_then(|it| it.max_cost_usd), setting("max_cost_usd")) {
            vars.insert(variable.to_owned(), usd);
        }
        let signing = self.signing(order);
        let all = order.vars.values().chain(&order.marker_key).chain([&order.token]).map(|it| it.expose_secret());
        // A log is looked through line by line, and keys have several.
        let parts = signing.values().flat_map(|value| value.lines()).filter(|line| line.len() >= PART);
        let parts = parts.filter(|line| !line.starts_with("-----") && !line.contains("://"));
        let secrets = all.filter(|text| text.len() >= 8).chain(parts).map(str::to_owned).collect();
        Ok(Run { order, folder, told, vars, writing, signing, secrets: Mutex::new(secrets), stop })
    }

    /// A variable as the operator says it: for the runs of a repository, or for the server.
    fn value(&self, order: &Order, name: &str) -> Option<String> {
        let own = order.vars.get(name).map(|value| value.expose_secret().to_owned());
        own.or_else(|| (self.env)(name)).filter(|value| !value.is_empty())
    }

    /// How commits are signed.
    fn signing(&self, order: &Order) -> BTreeMap<String, String> {
        let value = |name: &str| self.value(order, name);
        let found = SIGNING.iter().filter_map(|name| Some(((*name).to_owned(), value(name)?)));
        let mut vars: BTreeMap<String, String> = found.collect();
        // The key itself, where a variable holds it.
        let key = vars.get("CODEFORGE_SIGNING_KEY").and_then(|at| at.strip_prefix("env://")).map(str::to_owned);
        if let Some(name) = key
            && let Some(key) = value(&name)
        {
            vars.insert(name, key);
        }
        vars
    }

    /// The phases one after the other, each with what it needs: no key where gates run, none where is written.
    async fn phases(&self, run: &Run<'_>) -> Result<Ran, String> {
        let agent = self.process(run, Part::Agent, "").await?;
        if agent.code != Some(0) || run.stop.is_cancelled() {
            return Ok(agent);
        }
        let gate = self.process(run, Part::Gate, "").await?;
        if gate.code != Some(0) || run.stop.is_cancelled() {
            return Ok(gate);
        }
        let word = gate.outputs.get("gate-word").cloned().unwrap_or_default();
        self.process(run, Part::Deliver, &word).await
    }

    /// One process, to its end. `word`: what the gates said, for the one that delivers.
    async fn process(&self, run: &Run<'_>, part: Part, word: &str) -> Result<Ran, String> {
        let report = run.folder.join("report");
        // What an earlier attempt left says nothing of this one.
        let _ = tokio::fs::remove_file(report.join("outputs.json")).await;
        #[expect(clippy::disallowed_methods, reason = "this adapter's work is to start runs")]
        let mut command = Command::new(&self.program);
        command.arg("ci").current_dir(run.folder.join("checkout")).env_clear().envs(run.given(part, word)?);
        let lent = match &run.order.lender {
            Some(tokens) if part.writes() => {
                let (ours, theirs) = lending::pair().map_err(|error| format!("the run cannot be started: {error}"))?;
                command.stdin(theirs);
                Some((ours, tokens))
            }
            _ => None,
        };
        if lent.is_none() {
            command.stdin(Stdio::null());
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| format!("the run cannot be started: {error}"))?;
        // It holds the run's end of the sockets, too: the run's end is to be seen.
        drop(command);
        if let Some(number) = child.id() {
            let file = run.folder.join("process");
            write(&file, &Owner::of(number).to_string()).map_err(|error| format!("{}: {error}", file.display()))?;
        }
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let (lines, mut written) = tokio::sync::mpsc::channel::<String>(256);
        let log = async {
            let mut kept = Log::open(&run.folder.join("log"), &run.order.job).await;
            while let Some(line) = written.recv().await {
                kept.push(&run.shown(&line)).await;
            }
            kept.finish().await
        };
        let over = CancellationToken::new();
        let read = async {
            let both = async { tokio::join!(read(out, lines.clone()), read(err, lines.clone())) };
            // Whoever left the group and holds the run's pipes keeps nobody waiting.
            let late = async {
                over.cancelled().await;
                tokio::time::sleep(READ).await;
            };
            tokio::select! {
                _ = both => {}
                () = late => {}
            }
            drop(lines);
        };
        let mut group = Group(child.id().and_then(pid));
        let ended = async {
            let ended = wait(&mut child, &run.stop, run.order.grace).await;
            group.0 = None;
            over.cancel();
            ended
        };
        let lend = async {
            let Some((socket, tokens)) = lent else { return };
            tokio::select! {
                () = lending::lend(socket, |refused| run.lend(tokens, refused)) => {}
                () = over.cancelled() => {}
            }
        };
        let (status, (), log, ()) = tokio::join!(ended, read, log, lend);
        let status = status.map_err(|error| format!("the run's process cannot be waited for: {error}"))?;
        Ok(Ran { code: status.code(), outputs: outputs(&report).await, log })
    }
}

/// A run's process and all that it started. Whoever drops it without having waited kills them: the server ends at once, and
/// what they did would be done beside the attempt that goes on with it.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// Waits for a process; once it is to stop it is interrupted, and killed with all that it started where it does not end.
async fn wait(
    child: &mut Child,
    stop: &CancellationToken,
    grace: Duration,
) -> std::io::Result<std::process::ExitStatus> {
    let group = child.id().and_then(pid);
    let signal = |signal| group.map(|group| killpg(group, signal));
    tokio::select! {
        ended = child.wait() => return ended,
        () = stop.cancelled() => {}
    }
    // To the program alone: it ends what it started itself, so that it can be resumed.
    let _ = group.map(|group| kill(group, Signal::SIGINT));
    if let Ok(ended) = tokio::time::timeout(grace, child.wait()).await {
        return ended;
    }
    let _ = signal(Signal::SIGKILL);
    child.wait().await
}

/// Sends on what is printed, line by line; what is too long in pieces.
async fn read(from: Option<impl AsyncRead + Unpin>, to: tokio::sync::mpsc::Sender<String>) {
    let Some(from) = from else { return };
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut from).take(LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if to.send(text).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// A job's log: a file, up to a size, and its end.
struct Log {
    file: Option<tokio::fs::File>,
    size: u64,
    tail: Capped,
}

impl Log {
    async fn open(file: &Path, job: &Job) -> Self {
        let size = tokio::fs::metadata(file).await.map_or(0, |meta| meta.len());
        let file = tokio::fs::OpenOptions::new().create(true).append(true).open(file).await.ok();
        let mut log = Self { file, size, tail: Capped::new(TAIL) };
        match (job.attempts, job.rounds) {
            (0 | 1, 0) => {}
            (attempt, 0) => log.push(&format!("--- attempt {attempt}")).await,
            (attempt, rounds) => log.push(&format!("--- put back ({rounds}), attempt {attempt}")).await,
        }
        log
    }

    async fn push(&mut self, line: &str) {
        let line = format!("{line}\n");
        self.tail.push(&line);
        self.size += line.len() as u64;
        if self.size <= LOG
            && let Some(file) = &mut self.file
        {
            let _ = file.write_all(line.as_bytes()).await;
        }
    }

    async fn finish(mut self) -> String {
        if let Some(file) = &mut self.file {
            let _ = file.flush().await;
        }
        self.tail.finish().0
    }
}

/// The variable of a setting for one run.
fn setting(name: &str) -> Option<&'static str> {
    Some(match name {
        "policy" => "CODEFORGE_POLICY",
        "model" => "CODEFORGE_MODEL",
        "max_cost_usd" => "CODEFORGE_MAX_COST_USD",
        _ => return None,
    })
}

/// What the run left as its outputs.
async fn outputs(report: &Path) -> BTreeMap<String, String> {
    let text = tokio::fs::read_to_string(report.join("outputs.json")).await.unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}
