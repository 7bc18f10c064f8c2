//! `codeforge init`: `.codeforge/` and the CI files for the forge that is found.

mod ask;
mod config;
mod container;
mod files;
mod from;
mod github;
mod gitlab;
mod place;
mod shadow;

pub(crate) use place::{Place, pipelines};

use super::error::CliError;
use super::{Context, Format, run, sources};
use crate::engine::Stop;
use crate::model::account::Ending;
use crate::model::diagnostic::Severity;
use crate::report;
use crate::scout::{self, Survey, Tree};
use crate::trigger::firing;
use crate::workflow::{self, Source, schema::Library};
use files::{Made, Written};
use serde_json::json;
use std::path::Path;

/// Writes `.codeforge/` and the CI files for the forge that it finds. Never overwrites.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codeforge init --dry-run                         # show what would be written
  codeforge init --github --workflows review,nightly-review
  codeforge init --sync                            # the CI file's triggers from the workflows' `on:`
  codeforge init --from renovate
  codeforge init --shadow 10                       # what a review of the last 10 merged changes would have said")]
pub struct Args {
    /// Write the workflow for GitHub Actions
    #[arg(long)]
    pub github: bool,
    /// Write the include for GitLab CI
    #[arg(long)]
    pub gitlab: bool,
    /// Write a compose file for runs in a container
    #[arg(long)]
    pub container: bool,
    /// Show what would be written; write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Rewrite the CI file's triggers, and nothing else, from the workflows' `on:`
    #[arg(long, conflicts_with_all = ["from", "shadow", "gitlab", "container"])]
    pub sync: bool,
    /// Carry settings over from another tool's files
    #[arg(long, value_name = "TOOL", value_enum)]
    pub from: Option<from::Tool>,
    /// Run the review over the last N merged changes, post nothing, and report
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100), conflicts_with = "from")]
    pub shadow: Option<u32>,
    /// Built-in workflows to put into .codeforge/workflows, where they are yours to change
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub workflows: Option<Vec<String>>,
    /// Who serves the model (default: the one that the environment names, else variables of the CI)
    #[arg(long, value_name = "anthropic|openai|openrouter|litellm|variables")]
    pub provider: Option<String>,
    /// The commit of the action that is called, with its version (default: this build's own)
    #[arg(long, value_name = "OWNER/REPO@COMMIT#VERSION")]
    pub action_ref: Option<String>,
    /// Ask nothing
    #[arg(long, short)]
    pub yes: bool,
}

/// What is written, and why.
struct Intent {
    survey: Survey,
    place: Place,
    tests: Option<String>,
    lint: Option<String>,
    provider: config::Provider,
    carried: from::Carried,
    workflows: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// Wrong usage (2); a file that cannot be written (5); with `--shadow`, what ends a run.
pub async fn run(args: Args, cx: &Context<'_>, stop: Stop) -> Result<(), CliError> {
    let root = cx.world.repository(cx.world.cwd())?.root().to_path_buf();
    if let Some(count) = args.shadow {
        return shadow::run(count, args.dry_run, &root, cx, stop).await;
    }
    let place = Place::find(&root, cx)?;
    if args.sync {
        return sync(&args, &root, &place, cx);
    }
    let listing = place::listing(&root)?;
    let read = |path: &str| place::text(&root, path);
    let survey = scout::survey(&Tree { paths: &listing, read: &read });
    let carried = match args.from {
        None => from::Carried::default(),
        Some(tool) => from::read(tool, &Tree { paths: &listing, read: &read }).map_err(CliError::usage)?,
    };
    let homes = homes(&args, &place);
    if !homes.any() {
        return Err(CliError::usage("nothing says where this repository's CI is")
            .hint("give --github, --gitlab or --container"));
    }
    let action = config::ActionRef::find(args.action_ref.as_deref()).map_err(CliError::usage)?;
    let provider = match (&args.provider, carried.provider) {
        (None, Some(carried)) => carried,
        (asked, _) => config::Provider::find(asked.as_deref(), cx).map_err(CliError::usage)?,
    };
    let mut intent = Intent {
        tests: survey.tests(),
        lint: survey.lint(),
        provider,
        workflows: chosen(&args)?,
        survey,
        place,
        carried,
    };
    if !args.yes && ask::can(cx) {
        ask::questions(&mut intent, args.provider.is_none(), cx);
    }
    let written = write(&intent, homes, &action, &root, args.dry_run, cx)?;
    tell(&intent, &written, args.dry_run, cx);
    Ok(())
}

/// Where the CI is.
#[derive(Debug, Clone, Copy)]
struct Homes {
    github: bool,
    gitlab: bool,
    container: bool,
}

impl Homes {
    fn any(self) -> bool {
        self.github || self.gitlab || self.container
    }
}

fn homes(args: &Args, place: &Place) -> Homes {
    let named = Homes { github: args.github, gitlab: args.gitlab, container: args.container };
    if named.any() {
        return named;
    }
    Homes { github: place.github, gitlab: place.gitlab, container: false }
}

/// The built-in workflows that become the repository's own.
fn chosen(args: &Args) -> Result<Vec<String>, CliError> {
    let names = args.workflows.clone().unwrap_or_else(|| vec!["review".to_owned()]);
    let known: Vec<String> =
        workflow::builtin().iter().filter_map(|source| config::workflow_name(&source.path)).collect();
    for name in &names {
        if !known.contains(name) {
            return Err(CliError::usage(format!("there is no built-in workflow `{name}`"))
                .hint(format!("built in: {}", known.join(", "))));
        }
    }
    Ok(names)
}

/// Makes all texts, checks that they are right together, and writes those that are not there yet.
fn write(
    intent: &Intent,
    homes: Homes,
    action: &config::ActionRef,
    root: &Path,
    dry_run: bool,
    cx: &Context<'_>,
) -> Result<Written, CliError> {
    let mut made = vec![Made::new(".codeforge/config.yml", config::text(intent))];
    for name in &intent.workflows {
        if intent.carried.workflows.iter().any(|(carried, _)| carried == name) {
            continue;
        }
        if let Some(text) = config::workflow_text(name) {
            made.push(Made::new(format!(".codeforge/workflows/{name}.yml"), text));
        }
    }
    for (name, text) in &intent.carried.workflows {
        made.push(Made::new(format!(".codeforge/workflows/{name}.yml"), text.clone()));
    }
    let documents = together(&made, root)?;
    let library = run::library(&documents, root);
    let wrong: Vec<_> = library.diagnostics.iter().filter(|problem| problem.severity == Severity::Error).collect();
    if !wrong.is_empty() {
        for problem in &wrong {
            cx.complain(&report::diagnostics::render(problem, cx.color));
        }
        return Err(CliError::usage("nothing was written: with these files the configuration would not be right"));
    }
    let wanted =
        firing::wanted(&library, intent.place.repository.as_deref().unwrap_or_default(), cx.world.clock().now_ms());
    if homes.github {
        made.push(Made::new(github::FILE, github::text(&wanted, intent, action)));
    }
    if homes.gitlab {
        let text = gitlab::text(&wanted, intent, action);
        // A pipeline of theirs takes an include; it is shown, and theirs to put in.
        if root.join(gitlab::FILE).exists() {
            made.push(Made { shown_only: true, ..Made::new(gitlab::FILE, text) });
        } else {
            made.push(Made::new(gitlab::FILE, text));
        }
    }
    if homes.container {
        made.push(Made::new(container::FILE, container::text(intent, action)));
    }
    files::write(made, root, dry_run)
}

/// The repository's documents with the new ones: those that are there already stay.
fn together(made: &[Made], root: &Path) -> Result<Vec<Source>, CliError> {
    let mut all = workflow::builtin();
    let own = sources::read(root, None).map_err(|error| CliError::usage(error.to_string()))?;
    for file in made.iter().filter(|file| !own.iter().any(|source| source.path == file.path)) {
        all.push(Source { path: file.path.clone(), text: file.text.clone(), builtin: false });
    }
    all.extend(own);
    Ok(all)
}

/// `--sync`: the marked block of the CI file, and nothing else.
fn sync(args: &Args, root: &Path, place: &Place, cx: &Context<'_>) -> Result<(), CliError> {
    let library: Library = run::load(root, cx)?;
    let wrong = library.diagnostics.iter().filter(|problem| problem.severity == Severity::Error);
    let files: Vec<&str> = wrong.map(|problem| problem.place.file.as_str()).collect();
    if let Some(file) = files.first() {
        return Err(CliError::usage(format!("{file} has errors: what its workflow waits for is not known"))
            .hint("`codeforge validate` shows them"));
    }
    let wanted = firing::wanted(&library, place.repository.as_deref().unwrap_or_default(), cx.world.clock().now_ms());
    let path = root.join(github::FILE);
    let before = std::fs::read_to_string(&path).map_err(|error| {
        CliError::usage(format!("{}: {error}", github::FILE)).hint("`codeforge init --github` writes it")
    })?;
    let after = github::synced(&before, &wanted).map_err(CliError::usage)?;
    let changed = after != before;
    if cx.format == Format::Json {
        cx.data(&format!(
            "{:#}\n",
            json!({ "file": github::FILE, "changed": changed, "written": changed && !args.dry_run })
        ));
    } else if changed {
        cx.data(&files::difference(github::FILE, &before, &after));
    }
    if changed && !args.dry_run {
        files::replace(&path, &after)?;
    }
    cx.say(match (changed, args.dry_run) {
        (false, _) => "the triggers are what the workflows wait for",
        (true, true) => "nothing was written",
        (true, false) => "the triggers are now what the workflows wait for",
    });
    zones(&wanted, cx);
    Ok(())
}

fn zones(wanted: &firing::Wanted, cx: &Context<'_>) {
    for (workflow, zone) in &wanted.zones {
        cx.say(&format!("note: `{workflow}` counts its hours in {zone}, and the CI file cannot say them in UTC: they stand there as UTC's"));
    }
}

/// What was found, what was written, what to do next.
fn tell(intent: &Intent, written: &Written, dry_run: bool, cx: &Context<'_>) {
    if cx.format == Format::Json {
        cx.data(&format!("{:#}\n", account(intent, written, dry_run)));
        return;
    }
    let mut text = String::new();
    for kit in &intent.survey.kits {
        text.push_str(&format!(
            "found {} ({}, {}), {} files\n",
            kit.language.as_str(),
            kit.manager,
            kit.seen,
            kit.files
        ));
        for (what, found) in [("tests", &kit.tests), ("lint", &kit.lint)] {
            match found {
                Some(found) => text.push_str(&format!("  {what:5}  {}   ({})\n", found.command, found.seen)),
                None => text.push_str(&format!("  {what:5}  none found\n")),
            }
        }
        for found in &kit.setup {
            text.push_str(&format!("  setup  {}   ({})\n", found.command, found.seen));
        }
    }
    if intent.survey.kits.is_empty() {
        text.push_str("found no language that is known here\n");
    }
    for (what, all) in [("generated", &intent.survey.generated), ("packages", &intent.survey.packages)] {
        if !all.is_empty() {
            let shown: Vec<&str> = all.iter().take(5).map(String::as_str).collect();
            let more = if all.len() > 5 { format!(" and {} more", all.len() - 5) } else { String::new() };
            text.push_str(&format!("{what}: {}{more}\n", shown.join(", ")));
        }
    }
    for line in intent.carried.lines() {
        text.push_str(&format!("{line}\n"));
    }
    text.push('\n');
    text.push_str(&written.render(dry_run));
    cx.data(&crate::text::clean(&text));
    if !dry_run {
        cx.say(&format!("\n{}", next(intent)));
    }
}

fn account(intent: &Intent, written: &Written, dry_run: bool) -> serde_json::Value {
    let found =
        |found: &scout::Found| json!({ "command": found.command, "file": found.seen.file, "line": found.seen.line });
    let kits = intent.survey.kits.iter().map(|kit| {
        json!({
            "language": kit.language.as_str(), "manager": kit.manager, "file": kit.seen.file, "files": kit.files,
            "tests": kit.tests.as_ref().map(found), "lint": kit.lint.as_ref().map(found),
            "setup": kit.setup.iter().map(found).collect::<Vec<_>>(), "image": kit.image,
        })
    });
    json!({
        "languages": kits.collect::<Vec<_>>(),
        "tests": intent.tests,
        "lint": intent.lint,
        "generated": intent.survey.generated,
        "packages": intent.survey.packages,
        "carried": intent.carried.taken,
        "left": intent.carried.left,
        "files": written.json(),
        "dry_run": dry_run,
    })
}

fn next(intent: &Intent) -> String {
    let mut steps = Vec::new();
    if intent.tests.is_none() {
        steps.push(
            "say how the repository is tested: `gates: { tests: { run: … } }` in .codeforge/config.yml; until then `fix` \
             and `implement` cannot run"
                .to_owned(),
        );
    }
    steps.push(intent.provider.next().to_owned());
    steps.push("`codeforge doctor` says what is still missing; `codeforge run review` tries it here".to_owned());
    steps.push("commit the files on the default branch: only what stands there is trusted".to_owned());
    let lines: Vec<String> = steps.iter().enumerate().map(|(place, step)| format!("  {}. {step}", place + 1)).collect();
    format!("Next:\n{}", lines.join("\n"))
}

/// Ends with a failure of the environment.
fn unwritable(path: &Path, error: &std::io::Error) -> CliError {
    CliError::new(Ending::Unavailable, format!("{} cannot be written: {error}", path.display()))
}
