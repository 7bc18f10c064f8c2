//! `codeforge doctor`: what a run needs, each looked at for real, each with what to do where it is not there.

use super::error::CliError;
use super::init::{Place, pipelines};
use super::{Context, Format, forge, models, run as running};
use crate::engine::fetching;
use crate::model::account::Ending;
use crate::model::chat::ModelFault;
use crate::model::diagnostic::Severity;
use crate::model::exec::DriverKind;
use crate::model::forge::Right;
use crate::model::plan::DeliverKind;
use crate::port::checkout::{Checkout, Depth, Fetch, Want};
use crate::port::forge::{Credential, ForgeAt, RuleAbout};
use crate::port::repository::Repository;
use crate::text;
use crate::trigger::firing;
use crate::workflow::schema::document::Document;
use crate::workflow::schema::{At, Library};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// Looks at everything that a run needs: git, sandboxes, models and keys, the forge's token, the event, the clock.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codeforge doctor                     # one tiny request to each model; costs a fraction of a cent
  codeforge doctor --offline           # ask nobody
  codeforge doctor --format json

Exit codes: 0 usable; 2 something is set up wrong; 5 something cannot be reached")]
pub struct Args {
    /// Ask no model, no forge and no remote
    #[arg(long)]
    pub offline: bool,
}

/// A clock that is off by more is worth a word, and by more than the second spoils tokens and certificates.
const OFF_MS: i64 = 60_000;
const WRONG_MS: i64 = 300_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    /// Works, but not all of it.
    Note,
    /// Does not work: set up wrong.
    Wrong,
    /// Does not work: cannot be reached.
    Away,
    /// Not looked at.
    Skipped,
}

impl State {
    fn mark(self) -> &'static str {
        match self {
            Self::Good => "✓",
            Self::Note => "!",
            Self::Wrong | Self::Away => "✗",
            Self::Skipped => "-",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Note => "warning",
            Self::Wrong => "misconfigured",
            Self::Away => "unavailable",
            Self::Skipped => "not_checked",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone)]
struct Check {
    state: State,
    name: &'static str,
    what: String,
    fix: Vec<String>,
}

/// A setting, and where it came from.
struct Setting {
    name: String,
    value: String,
    from: String,
}

#[derive(Default)]
struct Report {
    checks: Vec<Check>,
    settings: Vec<Setting>,
}

impl Report {
    fn add(&mut self, state: State, name: &'static str, what: impl Into<String>, fix: Vec<String>) {
        self.checks.push(Check { state, name, what: what.into(), fix });
    }

    fn set(&mut self, name: impl Into<String>, value: impl Into<String>, from: impl Into<String>) {
        self.settings.push(Setting { name: name.into(), value: value.into(), from: from.into() });
    }
}

/// Runs the command.
///
/// # Errors
/// Something is set up wrong (2) or cannot be reached (5); it has been shown.
pub async fn run(args: Args, cx: &Context<'_>) -> Result<(), CliError> {
    let mut report = Report::default();
    let found = cx.world.repository(cx.world.cwd());
    let root = found.as_ref().map_or_else(|_| cx.world.cwd().to_path_buf(), |it| it.root().to_path_buf());
    let library = running::load(&root, cx)?;
    let origin = cx.world.checkout(&root).ok().and_then(|checkout| checkout.origin());
    let env = |name: &str| cx.world.env(name).map(|it| it.trim().to_owned()).filter(|it| !it.is_empty());
    let at = match origin.as_deref().map(|url| forge::forge_at(url, forge::configured(&library), &env)) {
        Some(Ok(at)) => at,
        Some(Err(error)) => {
            report.add(State::Wrong, "forge", error.message, error.hints);
            None
        }
        None => None,
    };
    match found {
        Ok(repository) => git(&*repository, at.as_ref(), args.offline, cx, &mut report).await,
        Err(error) => report.add(State::Wrong, "git", error.to_string(), Vec::new()),
    }
    configuration(&library, &root, cx, &mut report);
    sandboxes(&library, cx, &mut report).await;
    asked(&library, args.offline, cx, &mut report).await?;
    token(at.as_ref(), (origin.as_deref(), &library), &root, args.offline, cx, &mut report).await;
    pushes(at.as_ref(), args.offline, cx, &mut report).await;
    event(cx, &mut report);
    clock(&library, at.as_ref(), args.offline, cx, &mut report).await;
    settings(&library, cx, &mut report);
    show(&report, cx);
    let any = |state| report.checks.iter().any(|check| check.state == state);
    if any(State::Wrong) {
        Err(CliError::silent(Ending::Misconfigured))
    } else if any(State::Away) {
        Err(CliError::silent(Ending::Unavailable))
    } else {
        Ok(())
    }
}

/// The repository, and whether its base branch can be fetched.
async fn git(repository: &dyn Repository, at: Option<&ForgeAt>, offline: bool, cx: &Context<'_>, report: &mut Report) {
    let base = match repository.base() {
        Ok(base) => base,
        Err(error) => return report.add(State::Wrong, "git", error.to_string(), Vec::new()),
    };
    let dirty = match base.dirty.len() {
        0 => "clean".to_owned(),
        1 => "1 file changed".to_owned(),
        more => format!("{more} files changed"),
    };
    let writable = cx.world.store(repository.state_dir()).await;
    if let Err(error) = writable {
        let fix =
            vec![format!("let {} be written to: journals and snapshots lie there", repository.state_dir().display())];
        return report.add(State::Away, "git", error.to_string(), fix);
    }
    let here = format!("repository {}, {dirty}", repository.root().display());
    let Ok(checkout) = cx.world.checkout(repository.root()) else {
        return report.add(State::Good, "git", here, Vec::new());
    };
    let Some(origin) = checkout.origin() else {
        let fix = vec![
            "runs work here without one; CI and deliveries to a forge need `git remote add origin URL`".to_owned(),
        ];
        return report.add(State::Note, "git", format!("{here}, no remote `origin`"), fix);
    };
    let branch = Place::find(repository.root(), cx).map_or_else(|_| "main".to_owned(), |place| place.branch);
    if offline {
        return report.add(State::Good, "git", format!("{here}, base origin/{branch} not asked for"), Vec::new());
    }
    match fetched(checkout, branch.clone(), at, cx).await {
        Ok(()) => report.add(State::Good, "git", format!("{here}, base origin/{branch} fetchable"), Vec::new()),
        Err(why) => {
            let what = format!("{here}; base origin/{branch} cannot be fetched from {}: {why}", text::clean(&origin));
            let fix = vec![
                format!("does `git fetch origin {branch}` work? A token for it is CODEFORGE_FORGE_TOKEN"),
                "another branch: CODEFORGE_BASE_BRANCH, or `git remote set-head origin --auto`".to_owned(),
            ];
            report.add(State::Away, "git", what, fix);
        }
    }
}

async fn fetched(
    checkout: Arc<dyn Checkout>,
    branch: String,
    at: Option<&ForgeAt>,
    cx: &Context<'_>,
) -> Result<(), String> {
    let forge = at.map(|at| cx.world.forge(at)).transpose().map_err(|error| error.to_string())?;
    let order = Fetch {
        url: at.map(|at| at.git_url.clone()),
        login: None,
        wants: vec![Want { what: format!("refs/heads/{branch}"), keep_as: "doctor".to_owned() }],
        depth: Depth::Commits(1),
        extra_ca: cx.world.env("CODEFORGE_EXTRA_CA").filter(|file| !file.is_empty()).map(Into::into),
    };
    fetching::fetch(&checkout, &order, forge.as_deref()).await.map_err(|error| error.to_string())
}

/// What stands in `.codeforge/`, and whether the CI files let it happen.
fn configuration(library: &Library, root: &Path, cx: &Context<'_>, report: &mut Report) {
    let errors: Vec<_> = library.diagnostics.iter().filter(|it| it.severity == Severity::Error).collect();
    if let Some(first) = errors.first() {
        let what = format!(
            "{} errors, the first in {}:{}: {}",
            errors.len(),
            first.place.file,
            first.place.line,
            first.message
        );
        return report.add(
            State::Wrong,
            "configuration",
            what,
            vec!["`codeforge validate` shows all of them".to_owned()],
        );
    }
    let own: Vec<&str> =
        library.workflows.values().filter(|it| !it.builtin).map(|workflow| workflow.name.as_str()).collect();
    if library.config_document.is_none() && own.is_empty() {
        let fix = vec!["`codeforge init` writes them".to_owned()];
        return report.add(State::Note, "configuration", "there is no .codeforge/ here: built-in workflows only", fix);
    }
    let place = Place::find(root, cx).unwrap_or_default();
    let silent = firing::never_fires(
        library,
        &pipelines(root),
        place.repository.as_deref().unwrap_or_default(),
        cx.world.clock().now_ms(),
    );
    if let Some(first) = silent.first() {
        let fix = first.help.clone().into_iter().collect();
        return report.add(State::Note, "configuration", first.message.clone(), fix);
    }
    let gates: Vec<&str> = library.config.gates.keys().map(|name| name.0.as_str()).collect();
    let what = |names: &[&str]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    if !gates.contains(&"tests") {
        let fix = vec![
            "put `gates: { tests: { run: … } }` into .codeforge/config.yml: `fix` and `implement` need it".to_owned(),
        ];
        return report.add(
            State::Note,
            "configuration",
            format!("gates: {}; workflows: {}", what(&gates), what(&own)),
            fix,
        );
    }
    report.add(State::Good, "configuration", format!("gates: {}; workflows: {}", what(&gates), what(&own)), Vec::new());
}

/// Every driver, probed.
async fn sandboxes(library: &Library, cx: &Context<'_>, report: &mut Report) {
    let sandbox = library.config.sandbox.clone().unwrap_or_default();
    let named = cx.world.env("CODEFORGE_SANDBOX").and_then(|name| running::driver(name.trim()).ok());
    let wanted = named.or(sandbox.driver).unwrap_or(DriverKind::Auto);
    let mut lines = Vec::new();
    let mut usable = false;
    let mut lacks = Vec::new();
    for driver in cx.world.drivers() {
        let kind = driver.kind();
        // It isolates nothing: it is there for those who ask for it by name.
        if kind == DriverKind::None && wanted != DriverKind::None {
            continue;
        }
        let probe = driver.probe(sandbox.image.as_deref()).await;
        usable |= probe.usable && (wanted == DriverKind::Auto || wanted == kind);
        let mark = if probe.usable { "" } else { "not usable: " };
        lines.push(format!("{}: {mark}{}", driver_name(kind), probe.detail));
        if probe.usable {
            lacks.extend(probe.lacks.iter().map(|lack| format!("{} lacks {lack}", driver_name(kind))));
        }
    }
    let what = lines.join(" · ");
    match (usable, lacks.is_empty()) {
        (true, true) => report.add(State::Good, "sandbox", what, Vec::new()),
        (true, false) => report.add(State::Note, "sandbox", what, lacks),
        (false, _) => {
            let fix = match wanted {
                DriverKind::Docker => "start Docker, or take another driver: `sandbox: { driver: auto }`",
                DriverKind::Native => {
                    "the kernel has to allow user namespaces; or use Docker: `sandbox: { driver: docker }`"
                }
                _ => "start Docker, or let the kernel allow user namespaces (docs/sandbox.md)",
            };
            report.add(State::Away, "sandbox", what, vec![fix.to_owned()]);
        }
    }
}

fn driver_name(kind: DriverKind) -> &'static str {
    match kind {
        DriverKind::Auto => "auto",
        DriverKind::Docker => "docker",
        DriverKind::Native => "native",
        DriverKind::None => "none",
    }
}

/// Every model, asked.
async fn asked(library: &Library, offline: bool, cx: &Context<'_>, report: &mut Report) -> Result<(), CliError> {
    let probed = models::probe(library, offline, cx).await?;
    if probed.is_empty() {
        let fix = models::NO_MODEL.lines().map(str::to_owned).collect();
        report.add(State::Wrong, "model", "none is configured, and the environment names none", fix);
    }
    for probed in probed {
        let model = &probed.model;
        let name = format!(
            "{} ({}/{}, from the {}) at {}",
            model.name, model.provider, model.model, probed.from, probed.address
        );
        let (variable, value) = probed.key.clone().unwrap_or_default();
        let key = match &value {
            Some(value) => format!("the key in {variable} ({value}, from the environment)"),
            None => format!("the key that {variable} should hold"),
        };
        if !variable.is_empty() && value.is_none() {
            let fix =
                vec![format!("set {variable}, on a laptop as a variable, in CI as a secret that the agent's job gets")];
            report.add(State::Wrong, "model", format!("{name}: {variable} is not set"), fix);
            continue;
        }
        let Some(error) = probed.error else {
            match offline {
                true => report.add(State::Skipped, "model", format!("{name}: not asked"), Vec::new()),
                false => report.add(State::Good, "model", format!("{name} answers, {} ms", probed.ms), Vec::new()),
            }
            continue;
        };
        let why = error.message.lines().next().unwrap_or_default().to_owned();
        let (state, fix) = match error.fault {
            ModelFault::Auth => (State::Wrong, format!("{key} was refused · set {variable}, or renew the secret of that name")),
            ModelFault::Payment => (State::Wrong, "the account at the provider is empty".to_owned()),
            ModelFault::NotFound => (
                State::Wrong,
                "is the model's name right, and does its address end where the provider's does (`…/v1`)? `codeforge models list --all` shows what is served".to_owned(),
            ),
            ModelFault::RateLimited => (State::Away, "wait, or use another key: the limit of requests is used up".to_owned()),
            ModelFault::Network | ModelFault::Timeout => {
                (State::Away, "is the address right, is the server up, does a proxy stand between (HTTPS_PROXY, CODEFORGE_EXTRA_CA)?".to_owned())
            }
            ModelFault::Unavailable => (State::Away, "the server fails by itself: look at its log".to_owned()),
            ModelFault::BadRequest | ModelFault::TooLong | ModelFault::Protocol | ModelFault::Unmatched => {
                (State::Wrong, "does the address speak the provider's language? `codeforge models test -v` shows more".to_owned())
            }
        };
        report.add(state, "model", format!("{name}: {why}"), vec![fix]);
    }
    Ok(())
}

/// Whether a workflow of the repository's own keeps an issue: only then it matters whether there are any.
fn keeps_issues(library: &Library) -> bool {
    let own = library.workflows.values().filter(|it| !it.builtin);
    own.filter_map(|it| it.doc.deliver.as_ref()?.kind()).any(|kind| kind == DeliverKind::Issue)
}

/// What the forge's token may do.
async fn token(
    at: Option<&ForgeAt>,
    (origin, library): (Option<&str>, &Library),
    root: &Path,
    offline: bool,
    cx: &Context<'_>,
    report: &mut Report,
) {
    let skip = |report: &mut Report, why: &str| report.add(State::Skipped, "token", why.to_owned(), Vec::new());
    if origin.is_none() {
        return skip(report, "not checked: there is no remote `origin`, so there is no forge to ask");
    }
    let of_job = |fix: &mut Vec<String>| fix.splice(0..0, forge::OF_A_JOB.map(str::to_owned)).for_each(drop);
    let Some(at) = at else {
        if cx.world.env("CI_JOB_TOKEN").is_some_and(|token| !token.trim().is_empty()) {
            let mut fix = Vec::new();
            of_job(&mut fix);
            let what =
                "the only one here is the job's own (CI_JOB_TOKEN): it writes no merge requests, branches or comments";
            return report.add(State::Note, "token", what, fix);
        }
        return skip(
            report,
            "not checked: none is set for this forge (CODEFORGE_FORGE_TOKEN, CODEFORGE_APP_ID, GITHUB_TOKEN, GITLAB_TOKEN, GITEA_TOKEN); only deliveries to a forge need one",
        );
    };
    if offline {
        return skip(report, "not checked: --offline");
    }
    let rights = match cx.world.forge(at) {
        Ok(forge) => forge.token_rights().await,
        Err(error) => Err(error),
    };
    let rights = match rights {
        Ok(rights) => rights,
        Err(error) => {
            let error = CliError::from(error);
            let state = if error.ending == Ending::Unavailable { State::Away } else { State::Wrong };
            let fix = vec![format!("is it a token for {} at {}?", at.repository, at.api)];
            return report.add(state, "token", error.message, fix);
        }
    };
    let whose = rights.account.map_or_else(|| "somebody's".to_owned(), |account| format!("of {account}"));
    let all = [
        ("read contents", &rights.read, "nothing can be read"),
        ("push branches", &rights.push, "deliveries `branch`, `pull_request` and `push-to-branch` would fail"),
        ("write pull requests", &rights.open_changes, "delivery `pull_request` would fail"),
        ("comment", &rights.comment, "deliveries `comment` and `review` would fail"),
        ("ask what people may do", &rights.ask_access, "nobody could start anything with a comment"),
    ];
    let keeps = keeps_issues(library).then_some(("keep an issue", &rights.issues, "delivery `issue` would fail"));
    let all: Vec<_> = all.into_iter().chain(keeps).collect();
    let can: Vec<&str> = all.iter().filter(|(_, right, _)| **right == Right::Yes).map(|(what, ..)| *what).collect();
    let unknown: Vec<&str> =
        all.iter().filter(|(_, right, _)| **right == Right::Unknown).map(|(what, ..)| *what).collect();
    let missing: Vec<_> = all
        .iter()
        .filter_map(|(what, right, then)| if let Right::No(grant) = right { Some((*what, grant, *then)) } else { None })
        .collect();
    let mut what = format!(
        "{whose} for {} can {}",
        at.repository,
        if can.is_empty() { "nothing".to_owned() } else { can.join(", ") }
    );
    if !unknown.is_empty() {
        what.push_str(&format!("; the forge does not say whether it can {}", unknown.join(", ")));
    }
    let mut fix = Vec::new();
    if matches!(&at.token, Credential::Token(token) if forge::is_of_job(token, cx.world)) {
        what.push_str("; it is the job's own (CI_JOB_TOKEN), which writes nothing");
        of_job(&mut fix);
    }
    for (cannot, grant, then) in &missing {
        what.push_str(&format!("; cannot {cannot} → {then}"));
        let place = deliver_job(root).map(|place| format!(" (the deliver job: {place})")).unwrap_or_default();
        let grant = format!("grant {grant}{place}");
        if !fix.contains(&grant) {
            fix.push(grant);
        }
    }
    let state = match (&rights.read, missing.is_empty()) {
        (Right::No(_), _) => State::Wrong,
        (_, true) => State::Good,
        (_, false) => State::Note,
    };
    report.add(state, "token", what, fix);
}

/// Whether a branch of ours may be pushed, with commits as they are signed here, and whether its checks start then.
async fn pushes(at: Option<&ForgeAt>, offline: bool, cx: &Context<'_>, report: &mut Report) {
    let Some(at) = at.filter(|_| !offline) else {
        return report.add(State::Skipped, "pushes", "not checked: no forge was asked", Vec::new());
    };
    let signing = match forge::signing(cx.world) {
        Ok(signing) => signing,
        Err(error) => return report.add(State::Wrong, "pushes", error.message, error.hints),
    };
    let Ok(there) = cx.world.forge(at) else { return };
    let prefix = cx.world.env("CODEFORGE_BRANCH_PREFIX").filter(|prefix| !prefix.trim().is_empty());
    // As deep as our branches are: a star of a rule ends at a slash.
    let branch = format!("{}doctor/branch", prefix.as_deref().unwrap_or(forge::PREFIX));
    let (mut state, mut what, mut fix) = (State::Good, Vec::new(), Vec::new());
    match there.push_rules(&branch).await {
        Ok(rules) if rules.is_empty() => what.push(format!("no rule that is known holds for `{branch}`")),
        Ok(rules) => {
            for rule in rules {
                let (worse, help) = forge::meets(&rule, &signing);
                if let Some(help) = help {
                    fix.push(help);
                }
                if worse {
                    state = State::Wrong;
                } else if state == State::Good && matches!(rule.about, RuleAbout::Form | RuleAbout::Unsure) {
                    state = State::Note;
                }
                what.push(format!("for `{branch}`: {}", rule.words));
            }
        }
        Err(error) => {
            state = State::Note;
            what.push(error.to_string());
        }
    }
    match there.starts_checks().await {
        Ok(Right::No(help)) => {
            state = if state == State::Good { State::Note } else { state };
            what.push("pushes with this token start no checks".to_owned());
            fix.push(help);
        }
        Ok(Right::Yes) => what.push("pushes with this token start checks".to_owned()),
        Ok(Right::Unknown) | Err(_) => {}
    }
    report.add(state, "pushes", what.join("; "), fix);
}

/// Where the CI file's deliver job says what its token may do.
fn deliver_job(root: &Path) -> Option<String> {
    let (path, text) = pipelines(root)
        .into_iter()
        .find(|(path, text)| path.starts_with(".github/") && firing::calls_us(path, text))?;
    let (document, _) = Document::parse(&path, &text);
    let job = document.node(&["jobs", "deliver"])?;
    let at: At = job.key("permissions").map_or(job.at, |key| key.at);
    Some(format!("line {} of {path}", at.line))
}

/// The event of the CI job that we are in.
fn event(cx: &Context<'_>, report: &mut Report) {
    let set = |name: &str| cx.world.env(name).is_some_and(|value| !value.trim().is_empty());
    if !["CI", "GITHUB_ACTIONS", "GITLAB_CI"].iter().any(|name| set(name)) {
        return report.add(State::Skipped, "event", "not in a CI job: there is no event to read", Vec::new());
    }
    match cx.world.ci() {
        Ok(job) => {
            let kind = job.event.kind.as_str();
            let action = job.event.action.as_deref().map(|action| format!(" ({action})")).unwrap_or_default();
            let what = format!("{kind}{action} on {}", job.home.as_str());
            if job.gaps.is_empty() {
                return report.add(State::Good, "event", what, Vec::new());
            }
            report.add(State::Note, "event", what, job.gaps);
        }
        Err(error) => {
            let fix = "in GitHub Actions GITHUB_EVENT_PATH names the event's file; in a container of its own the job has to be given it";
            report.add(State::Wrong, "event", error.to_string(), vec![fix.to_owned()]);
        }
    }
}

/// This machine's clock beside a server's.
async fn clock(library: &Library, at: Option<&ForgeAt>, offline: bool, cx: &Context<'_>, report: &mut Report) {
    let skip = |report: &mut Report, why: String| {
        report.add(State::Skipped, "clock", format!("not checked: {why}"), Vec::new())
    };
    if offline {
        return skip(report, "--offline".to_owned());
    }
    let models = crate::plan::known(library, &cx.world.models(&crate::port::world::Tape::Off));
    let model = models.into_iter().find_map(|known| cx.world.addressed(known.model).base_url);
    // Both answer anybody with a date, whatever else they say.
    let forge = at.map(|at| format!("{}/info/refs?service=git-upload-pack", at.git_url));
    let Some(url) = model.or(forge) else {
        return skip(report, "there is no server to ask".to_owned());
    };
    let catalog = match cx.world.catalog() {
        Ok(catalog) => catalog,
        Err(why) => return skip(report, why),
    };
    let host = url.split("://").nth(1).unwrap_or_default().split('/').next().unwrap_or_default().to_owned();
    let host = host.rsplit('@').next().unwrap_or_default().to_owned();
    let theirs = match catalog.clock(&url).await {
        Ok(theirs) => theirs,
        Err(why) => return skip(report, format!("{host}: {why}")),
    };
    let off = cx.world.clock().now_ms() - theirs;
    let words = format!("{} s {} {host}", (off / 1000).abs(), if off < 0 { "behind" } else { "ahead of" });
    let fix = || {
        vec![
            "set the clock (`timedatectl set-ntp true`): tokens, certificates and budgets of a day hang on it"
                .to_owned(),
        ]
    };
    match off.abs() {
        // A date's header counts whole seconds, and takes time to come.
        off if off <= OFF_MS => report.add(State::Good, "clock", format!("within a minute of {host}"), Vec::new()),
        off if off <= WRONG_MS => report.add(State::Note, "clock", words, fix()),
        _ => report.add(State::Wrong, "clock", words, fix()),
    }
}

/// Variables that change what a run does.
const VARIABLES: [&str; 31] = [
    "CODEFORGE_MODEL",
    "CODEFORGE_LLM_BASE_URL",
    "CODEFORGE_LLM_API_KEY",
    "OPENAI_BASE_URL",
    "OPENAI_API_KEY",
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_API_KEY",
    "OPENROUTER_API_KEY",
    "LITELLM_BASE_URL",
    "LITELLM_API_KEY",
    "OLLAMA_HOST",
    "CODEFORGE_FORGE",
    "CODEFORGE_FORGE_TOKEN",
    "GITHUB_TOKEN",
    "GH_TOKEN",
    "GITLAB_TOKEN",
    "GITEA_TOKEN",
    "CODEFORGE_FORGE_TOKEN_FILE",
    "CODEFORGE_APP_ID",
    "CODEFORGE_APP_KEY",
    "CODEFORGE_SANDBOX",
    "CODEFORGE_POLICY",
    "CODEFORGE_MAX_COST_USD",
    "CODEFORGE_DELIVERY",
    "CODEFORGE_BASE_BRANCH",
    "CODEFORGE_BRANCH_PREFIX",
    "CODEFORGE_SIGNING",
    "CODEFORGE_SIGNING_KEY",
    "CODEFORGE_SIGNING_FALLBACK",
    "CODEFORGE_EXTRA_CA",
    "HTTPS_PROXY",
];

/// Each value, and where it came from: defaults < configuration < environment.
fn settings(library: &Library, cx: &Context<'_>, report: &mut Report) {
    let config = &library.config;
    let written = |path: &[&str]| -> Option<String> {
        let document = library.config_document.as_ref()?;
        document.node(path)?;
        Some(format!("{}:{}", document.file, document.at(path).line))
    };
    let mut set = |name: &str, path: &[&str], value: Option<String>, usual: &str| {
        let from = match (&value, written(path)) {
            (Some(_), Some(place)) => place,
            (Some(_), None) => "a preset".to_owned(),
            (None, _) => "default".to_owned(),
        };
        report.set(name, value.unwrap_or_else(|| usual.to_owned()), from);
    };
    set("policy", &["policy"], config.policy.as_ref().map(|policy| policy.0.clone()), "headless-safe-sandbox");
    let driver =
        config.sandbox.as_ref().and_then(|sandbox| sandbox.driver).map(|driver| driver_name(driver).to_owned());
    set("sandbox.driver", &["sandbox", "driver"], driver, "auto");
    let image = config.sandbox.as_ref().and_then(|sandbox| sandbox.image.clone());
    set("sandbox.image", &["sandbox", "image"], image, "none");
    let usd = |value: Option<f64>| value.map(|usd| format!("${usd}"));
    let budget = config.budget.clone().unwrap_or_default();
    set("budget.per_run_usd", &["budget", "per_run_usd"], usd(budget.per_run_usd), "the policy's");
    set("budget.per_day_usd", &["budget", "per_day_usd"], usd(budget.per_day_usd), "none");
    let trusted = (!config.trusted_branches.is_empty()).then(|| config.trusted_branches.join(", "));
    set("trusted_branches", &["trusted_branches"], trusted, "the repository's default branch");
    for (name, gate) in &config.gates {
        let path = ["gates", name.0.as_str()];
        let value = serde_json::to_value(gate).ok().and_then(|gate| gate.get("run")?.as_str().map(str::to_owned));
        set(&format!("gates.{}", name.0), &path, value, "");
    }
    for (name, model) in &config.models {
        let provider = serde_json::to_value(model.provider).ok().and_then(|it| it.as_str().map(str::to_owned));
        let value = format!("{}/{}", provider.unwrap_or_default(), model.model);
        set(&format!("models.{name}"), &["models", name], Some(value), "");
    }
    for name in VARIABLES {
        let Some(value) = cx.world.env(name).map(|it| it.trim().to_owned()).filter(|it| !it.is_empty()) else {
            continue;
        };
        let secret = ["KEY", "TOKEN", "SECRET"].iter().any(|part| name.contains(part));
        let value = if secret { text::mask(&value) } else { without_password(&value) };
        report.set(name, value, "environment");
    }
}

/// An address without a name and a password in it.
fn without_password(value: &str) -> String {
    match value.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.split_once('@')?.1))) {
        Some((scheme, rest)) => format!("{scheme}://…@{rest}"),
        None => value.to_owned(),
    }
}

fn show(report: &Report, cx: &Context<'_>) {
    let secrets = cx.world.secrets();
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    let clean = |line: &str| text::redact(&text::clean(line).replace('\n', " "), &secrets);
    if cx.format == Format::Json {
        let checks = report.checks.iter().map(|check| {
            let fix: Vec<String> = check.fix.iter().map(|fix| clean(fix)).collect();
            json!({ "check": check.name, "state": check.state.word(), "what": clean(&check.what), "fix": fix })
        });
        let settings = report
            .settings
            .iter()
            .map(|it| json!({ "name": it.name, "value": clean(&it.value), "from": clean(&it.from) }));
        let value = json!({ "checks": checks.collect::<Vec<Value>>(), "settings": settings.collect::<Vec<Value>>() });
        cx.data(&format!("{value:#}\n"));
        return;
    }
    let mut out = String::new();
    for check in &report.checks {
        out.push_str(&format!("{} {} {}\n", check.state.mark(), check.name, clean(&check.what)));
        for fix in &check.fix {
            out.push_str(&format!("    {}\n", clean(fix)));
        }
    }
    let longest =
        |of: fn(&Setting) -> &str| report.settings.iter().map(|it| of(it).chars().count()).max().unwrap_or(0).min(60);
    let (names, values) = (longest(|it| &it.name), longest(|it| &it.value));
    out.push('\n');
    for setting in &report.settings {
        let line = format!("{:names$}  {:values$}  {}", setting.name, clean(&setting.value), clean(&setting.from));
        out.push_str(&format!("  {}\n", line.trim_end()));
    }
    cx.data(&out);
}
