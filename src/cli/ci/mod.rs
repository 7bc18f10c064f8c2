//! `codeforge ci`: the main job in a CI system.
//!
//! Everything comes from variables. Configuration is that of the trusted branch, the work is done on the event's
//! commit, and whatever happens, outputs and an exit code say how it ended.

pub mod asking;
mod commands;
pub(super) mod earlier;
pub mod one_step;
pub mod outputs;
pub mod phases;
mod publish;
mod served;
pub mod settings;
pub mod trusted;

use super::Context;
use super::error::CliError;
use super::state;
use crate::engine::Stop;
use crate::model::account::Ending;
use crate::model::chat::ModelRef;
use crate::model::ci::{CiJob, Conclusion};
use crate::model::diagnostic::Severity;
use crate::model::event::Event;
use crate::port::checkout::Checkout;
use crate::port::forge::Forge;
use crate::port::world::Tape;
use crate::report;
use crate::text;
use crate::trigger::{self, Decision, Facts, Start};
use crate::workflow::schema::{Library, OnUnavailableDoc};
use outputs::{Outputs, Reports};
use settings::{OnUnavailable, Phase, Settings};
use std::path::PathBuf;
use std::sync::Arc;
use trusted::{Commits, Trusted};

/// The main job in a CI system.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Settings come from variables (CODEFORGE_WORKFLOW, CODEFORGE_PROMPT, …; docs/ci.md lists them); what \
stands here wins.

Examples:
  codeforge ci                          # in GitHub Actions or GitLab CI: all that matches the event
  codeforge ci --workflow nightly       # one workflow, whatever happened
  codeforge ci --dry-run                # what would run, and what it would cost"
)]
pub struct Args {
    /// The part of the work to do
    #[arg(long, value_enum)]
    pub phase: Option<Phase>,
    /// The workflow to run; without it: all that match the event
    #[arg(long, value_name = "NAME")]
    pub workflow: Option<String>,
    /// Show plans and what they would cost; run nothing, spend nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// How the work of a phase ended, where no error did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// Nothing matched the event.
    Skipped,
    /// So.
    Ended(Ending),
}

/// What is told at the end, filled in on the way.
#[derive(Debug, Default)]
pub struct Told {
    /// The outputs.
    pub outputs: Outputs,
    /// What being unavailable means.
    pub on_unavailable: Option<OnUnavailable>,
}

/// A job with everything that phases have in common.
pub struct Ci {
    /// The settings.
    pub settings: Settings,
    /// The job.
    pub job: CiJob,
    /// Its commits.
    pub commits: Commits,
    /// Where configuration is from.
    pub trusted: Trusted,
    /// The configuration.
    pub library: Library,
    /// The forge, where there is a token for it.
    pub forge: Option<Arc<dyn Forge>>,
    /// Our own account there, where that was asked.
    pub own: Option<String>,
    /// Where reports go.
    pub reports: Reports,
}

/// Runs the command.
///
/// # Errors
/// [`CliError`], whose ending is the exit code.
pub async fn run(args: Args, cx: &Context<'_>, stop: Stop) -> Result<(), CliError> {
    let mut told = Told::default();
    let settings = Settings::read(cx.world).map(|settings| Settings {
        phase: args.phase.unwrap_or(settings.phase),
        workflow: args.workflow.clone().or(settings.workflow.clone()),
        dry_run: args.dry_run || settings.dry_run,
        ..settings
    });
    let job = cx.world.ci().map_err(|error| CliError::usage(error.to_string()));
    let root = settings.as_ref().ok().and_then(|it| it.working_directory.clone());
    let root = root.unwrap_or_else(|| cx.world.cwd().to_path_buf());
    let reports = Reports::new(job.as_ref().ok(), settings.as_ref().ok(), &root);
    told.on_unavailable = settings.as_ref().ok().and_then(|settings| settings.on_unavailable);
    let done = match (settings, job) {
        (Ok(settings), Ok(job)) => work(settings, job, root, &reports, &mut told, cx, stop).await,
        (Err(error), _) | (_, Err(error)) => Err(error),
    };
    end(done, &reports, told, cx)
}

async fn work(
    settings: Settings,
    job: CiJob,
    root: PathBuf,
    reports: &Reports,
    told: &mut Told,
    cx: &Context<'_>,
    stop: Stop,
) -> Result<Done, CliError> {
    let phase = settings.phase;
    match phase {
        Phase::All => {
            let ci = prepare(settings, job, root, reports.clone(), told, cx).await?;
            one_step::run(&ci, told, cx, stop).await
        }
        Phase::Agent | Phase::Gate | Phase::Deliver => {
            let ci = prepare(settings, job, root, reports.clone(), told, cx).await?;
            phases::run(&ci, told, cx, stop).await
        }
    }
}

/// Turns how it ended into outputs, a conclusion and an exit code.
fn end(done: Result<Done, CliError>, reports: &Reports, mut told: Told, cx: &Context<'_>) -> Result<(), CliError> {
    let ending = match &done {
        Ok(Done::Skipped) => None,
        Ok(Done::Ended(ending)) => Some(*ending),
        Err(error) => Some(error.ending),
    };
    let neutral = ending == Some(Ending::Unavailable) && told.on_unavailable == Some(OnUnavailable::Neutral);
    let conclusion = match ending {
        _ if neutral => Conclusion::Neutral,
        None => Conclusion::Skipped,
        Some(ending) => outputs::conclusion(ending),
    };
    told.outputs.set("conclusion", conclusion.as_str());
    if let Err(error) = &done
        && told.outputs.get("final-message").is_empty()
    {
        told.outputs.set("final-message", clean(&error.message));
    }
    reports.outputs(&told.outputs, cx)?;
    // Whatever was said of the outside stays inert in the log.
    let inert = |mut error: CliError| {
        error.message = clean(&error.message);
        error.hints = error.hints.iter().map(|hint| clean(hint)).collect();
        error
    };
    if neutral {
        if let Err(error) = done.map_err(inert) {
            cx.complain(&format!("error: {error}"));
        }
        cx.complain("NEUTRAL: nothing was decided, because something was unavailable; `on_unavailable: neutral` makes this exit 0");
        return Ok(());
    }
    match done.map_err(inert)? {
        Done::Skipped | Done::Ended(Ending::Done) => Ok(()),
        Done::Ended(ending) => Err(CliError::silent(ending)),
    }
}

/// Finds the checkout, the trusted branch and its configuration.
///
/// # Errors
/// [`CliError`]; a document of the repository that has errors is one: what it would have decided, nobody knows.
pub async fn prepare(
    mut settings: Settings,
    mut job: CiJob,
    root: PathBuf,
    reports: Reports,
    told: &mut Told,
    cx: &Context<'_>,
) -> Result<Ci, CliError> {
    if cx.config.is_some() {
        return Err(CliError::usage("`ci` takes its configuration from the trusted branch, and no --config")
            .hint("name another trusted branch in CODEFORGE_BASE_BRANCH"));
    }
    asking::without_own(&mut settings, cx);
    let checkout: Arc<dyn Checkout> = cx.world.checkout(&root)?;
    let forge = asking::forge(&job, &settings, &*checkout, cx)?;
    let commits = Commits::new(checkout, &job, &settings, forge.as_ref(), cx);
    let trusted = commits.trusted(&job, &settings).await?;
    let short: String = trusted.commit.chars().take(10).collect();
    let home = job.forge.map_or(job.home.as_str(), |forge| forge.as_str());
    say(cx, &format!("{home}: {}", happened(&job)));
    say(cx, &format!("configuration: branch `{}` at {short}", trusted.branch));
    if let Some(why) = &trusted.stale {
        say(cx, &format!("WARNING: that is the branch as it was at the checkout; it cannot be fetched now ({why})"));
    }
    let mut library = trusted::library(&commits.checkout, &trusted.commit).await?;
    if let Some(model) = settings.model.as_deref().filter(|_| matches!(settings.phase, Phase::All | Phase::Agent)) {
        one_model(&mut library, model, &cx.world.models(&Tape::Off))?;
    }
    if told.on_unavailable.is_none() {
        let configured = library.config.ci.as_ref().and_then(|ci| ci.on_unavailable);
        told.on_unavailable = configured.map(|it| match it {
            OnUnavailableDoc::Fail => OnUnavailable::Fail,
            OnUnavailableDoc::Neutral => OnUnavailable::Neutral,
        });
    }
    let errors: Vec<_> = library.diagnostics.iter().filter(|it| it.severity == Severity::Error).collect();
    if !errors.is_empty() {
        for problem in &errors {
            cx.say(&text::inert_ci(report::diagnostics::render(problem, cx.color).trim_end()));
        }
        return Err(CliError::usage(format!(
            "the configuration of branch `{}` has {} (`codeforge validate` shows them there too)",
            trusted.branch,
            if errors.len() == 1 { "an error".to_owned() } else { format!("{} errors", errors.len()) }
        )));
    }
    let mut own = None;
    asking::resolve(&mut job, &mut own, forge.as_ref(), &library, &settings, cx).await?;
    if settings.phase == Phase::Gate {
        phases::take_head(&settings, &mut job, &reports, cx);
    }
    for gap in &job.gaps {
        say(cx, &format!("note: {gap}"));
    }
    let mut ci = Ci { settings, job, commits, trusted, library, forge, own, reports };
    ci.choose(cx);
    Ok(ci)
}

/// Routes every scenario to the model that the job names: one of the configuration's, or that of the job's own key.
fn one_model(library: &mut Library, name: &str, found: &[ModelRef]) -> Result<(), CliError> {
    if !library.only_model(name) && found.is_empty() {
        let known: Vec<&str> = library.config.models.keys().map(String::as_str).collect();
        return Err(CliError::usage(format!(
            "CODEFORGE_MODEL={}: the configuration has no model of that name ({}), and there is no key or address that \
             it could be asked with",
            name.escape_debug(),
            if known.is_empty() { "none at all".to_owned() } else { format!("only {}", known.join(", ")) }
        ))
        .hint("set CODEFORGE_LLM_BASE_URL and CODEFORGE_LLM_API_KEY, or name a model of `models:` in .codeforge/config.yml"));
    }
    Ok(())
}

impl Ci {
    fn facts<'f>(&'f self, ours: &'f [String], changed: Option<&'f [String]>, cx: &Context<'_>) -> Facts<'f> {
        Facts {
            phrase: &self.settings.phrase,
            allow_users: &self.settings.allow_users,
            ours,
            changed,
            fork: self.job.fork,
            now_ms: cx.world.clock().now_ms(),
        }
    }

    /// Of what a forge tells of at once the first that starts something is what happened.
    fn choose(&mut self, cx: &Context<'_>) {
        let also = std::mem::take(&mut self.job.also);
        if also.is_empty() {
            return;
        }
        let ours = self.ours();
        let facts = self.facts(&ours, None, cx);
        let starts = |event: &Event| {
            let decided = trigger::decide(&self.library, event, &facts);
            decided.iter().any(|(_, it)| matches!(it, Decision::Run(_) | Decision::NeedsChangedPaths))
        };
        let first = if starts(&self.job.event) { None } else { also.into_iter().find(starts) };
        if let Some(event) = first {
            self.job.event = event;
            say(cx, &format!("what counts of it: {}", happened(&self.job)));
        }
    }

    /// The commit to work on.
    ///
    /// # Errors
    /// It is not known, or cannot be had.
    pub async fn head(&self) -> Result<String, CliError> {
        let head = match (&self.job.head, &self.job.event.change) {
            (Some(head), _) => head.clone(),
            (None, Some(change)) => {
                return Err(CliError::usage(format!(
                    "nobody says which commit is the head of change {}",
                    change.number
                ))
                .hint("give the job a token that may read the repository, in CODEFORGE_FORGE_TOKEN"));
            }
            (None, None) => self.commits.checkout.head()?.ok_or_else(|| CliError::usage("nothing is checked out"))?,
        };
        self.commits.head(&head).await?;
        Ok(head)
    }

    /// Decides which workflows run, and says why the others do not. Who may give commands is asked elsewhere.
    ///
    /// # Errors
    /// A named workflow that there is not; changed paths that are needed and cannot be had.
    pub async fn decide(&self, cx: &Context<'_>) -> Result<Vec<Start>, CliError> {
        let ours: Vec<String> = self.ours();
        let mut changed: Option<Vec<String>> = None;
        let decided = loop {
            let facts = self.facts(&ours, changed.as_deref(), cx);
            let decided = match &self.settings.workflow {
                None => trigger::decide(&self.library, &self.job.event, &facts),
                Some(name) => match trigger::decide_named(&self.library, name, &self.job.event, &facts) {
                    Some(decision) => vec![(name.clone(), decision)],
                    None => return Err(self.no_such(name)),
                },
            };
            if changed.is_some() || !decided.iter().any(|(_, it)| *it == Decision::NeedsChangedPaths) {
                break decided;
            }
            let difference = self.commits.change(&self.job, &self.head().await?, &self.trusted).await?;
            changed = Some(difference.map(|it| it.paths()).unwrap_or_default());
        };
        let mut starts = Vec::new();
        for (name, decision) in decided {
            match decision {
                Decision::Run(start) if starts.iter().any(|other: &Start| other.workflow == name) => {
                    let text = start.command.map(|command| command.text).unwrap_or_default();
                    say(
                        cx,
                        &format!(
                            "not `{name}` for `{text}`: a job of a pipeline runs a workflow once; give that command in a \
                             comment of its own"
                        ),
                    );
                }
                Decision::Run(start) => starts.push(*start),
                Decision::Skip(why) => {
                    let shipped = self.library.workflows.get(&name).is_some_and(|workflow| workflow.builtin);
                    // That a shipped workflow waits for its command is no news.
                    if !shipped || cx.verbosity > 0 || why.contains("command") && self.job.event.comment.is_some() {
                        say(cx, &format!("not `{name}`: {why}"));
                    }
                }
                Decision::Refuse(why) => say(cx, &format!("not `{name}`: {why}")),
                Decision::NeedsChangedPaths => {}
            }
        }
        Ok(starts)
    }

    /// What outlives this runner.
    ///
    /// # Errors
    /// It is not set up as it must be, or cannot be read.
    fn state(&self, head: &str, cx: &Context<'_>) -> Result<state::State, CliError> {
        let checkout = &self.commits.checkout;
        let mut trusted = self.library.config.trusted_branches.clone();
        trusted.push(self.trusted.branch.clone());
        // What cannot be read there is there.
        let holds = |folder: &str| checkout.files(head, folder, 1, 1).map_or(true, |files| !files.is_empty());
        let who = state::Who {
            event: &self.job.event,
            trusted: &trusted,
            root: checkout.root(),
            holds: &holds,
            commits: &self.commits,
            forge: self.forge.as_ref(),
            served: self.job.served.is_some(),
        };
        state::open(&self.library.config, &who, cx)
    }

    /// The accounts that we act as.
    fn ours(&self) -> Vec<String> {
        let bot = self.library.config.forge.as_ref().and_then(|forge| forge.bot.as_ref());
        let named = bot.into_iter().flat_map(|bot| [bot.name.clone(), format!("{}[bot]", bot.name)]);
        named.chain(self.own.clone()).chain(["codeforge[bot]".to_owned()]).collect()
    }

    fn no_such(&self, name: &str) -> CliError {
        let names: Vec<&str> = self.library.workflows.keys().map(String::as_str).collect();
        CliError::usage(format!("branch `{}` has no workflow `{name}`", self.trusted.branch))
            .hint(format!("workflows: {}", names.join(", ")))
    }
}

/// What happened, in a line.
fn happened(job: &CiJob) -> String {
    let event = &job.event;
    let mut text = event.kind.as_str().to_owned();
    if let Some(action) = &event.action {
        text.push_str(&format!(" ({action})"));
    }
    if let Some(change) = &event.change {
        let fork = if job.fork { ", from a fork or not known to be from none" } else { "" };
        text.push_str(&format!(" of change {}{fork}", change.number));
    } else if let Some(issue) = &event.issue {
        text.push_str(&format!(" of issue {}", issue.number));
    } else if let Some(git_ref) = &event.git_ref {
        text.push_str(&format!(" on {git_ref}"));
    }
    if let Some(actor) = &event.actor {
        text.push_str(&format!(", by {actor}"));
    }
    if job.attempt > 1 {
        text.push_str(&format!("; attempt {}", job.attempt));
    }
    text
}

/// Says a line of ours that may hold words of others.
pub(super) fn say(cx: &Context<'_>, line: &str) {
    cx.say(&clean(line));
}

/// Words of others, on one line, as a runner's log takes them.
pub(super) fn clean(line: &str) -> String {
    let cleaned = text::invisible(&text::inert_ci(&text::clean(line)));
    cleaned.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Blocking work on a thread for it.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CliError> + Send + 'static,
) -> Result<T, CliError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(CliError::new(Ending::Failed, format!("an internal error: {error}"))))
}

#[cfg(test)]
mod tests {
    use super::one_model;
    use crate::model::account::Ending;
    use crate::model::chat::ModelRef;
    use crate::workflow::{self, Source};

    #[test]
    fn the_jobs_model_comes_before_what_the_configuration_routes() {
        let config = "models:\n  big: { provider: openai, model: gpt-5 }\n  small: { provider: ollama, model: qwen }\n\
                      scenarios:\n  default: big\n  review: [big, small]\n";
        let mut sources = workflow::builtin();
        sources.push(Source { path: ".codeforge/config.yml".into(), text: config.into(), builtin: false });
        let library = || workflow::load(&sources, &|_| None);
        let found = [ModelRef { name: "env".into(), ..ModelRef::default() }];
        let routed = |name: &str, found: &[ModelRef]| {
            let mut library = library();
            one_model(&mut library, name, found).map(|()| library.config.scenarios.len())
        };
        // By name: `default` leads there, and nothing else leads anywhere.
        assert_eq!(routed("small", &found).ok(), Some(1));
        // Not by name: what nothing routes goes to the environment's model.
        assert_eq!(routed("gpt-6", &found).ok(), Some(0));
        let refused = routed("gpt-6", &[]).err();
        assert!(
            refused.is_some_and(|it| it.ending == Ending::Misconfigured && it.to_string().contains("only big, small"))
        );
    }
}
