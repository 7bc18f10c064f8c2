//! `codeforge validate`: all problems of all documents at once.

use super::error::CliError;
use super::{Context, Format, init, sources};
use crate::model::account::Ending;
use crate::model::diagnostic::{Diagnostic, Severity};
use crate::report::diagnostics;
use crate::trigger::firing;
use crate::workflow::{self, Source};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Checks workflows, modes, policies, backends and the configuration; shows all problems with their place and what to do.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codeforge validate
  codeforge validate .codeforge/workflows/fix.yml
  codeforge validate --strict --format github      # annotations in a GitHub job
  codeforge validate --format sarif > codeforge.sarif")]
pub struct Args {
    /// Files or folders (default: .codeforge of this repository)
    pub paths: Vec<PathBuf>,
    /// Warnings count as errors
    #[arg(long)]
    pub strict: bool,
}

/// Runs the command.
///
/// # Errors
/// Exit code 2 where there are errors; they have been shown.
pub async fn run(args: Args, cx: &Context<'_>) -> Result<(), CliError> {
    let root = super::here(cx);
    let unreadable = |error: std::io::Error| CliError::usage(error.to_string());
    // What lies in the repository is the surroundings of a file that is checked alone.
    let around = sources::read(&root, cx.config.as_deref()).map_err(unreadable)?;
    let (checked, all) = if args.paths.is_empty() {
        let names: BTreeSet<String> = around.iter().map(|source| source.path.clone()).collect();
        (names, around)
    } else {
        named(&args.paths, &root, cx.world.cwd(), around).map_err(unreadable)?
    };
    if checked.is_empty() {
        return Err(CliError::usage(format!("there is nothing to check in {}", root.join(".codeforge").display()))
            .hint("put a workflow into .codeforge/workflows/NAME.yml; `codeforge validate FILE` checks any file"));
    }
    let mut documents = workflow::builtin();
    documents.extend(all);
    let library = super::run::library(&documents, &root);
    let mut problems: Vec<Diagnostic> =
        library.diagnostics.iter().filter(|problem| checked.contains(&problem.place.file)).cloned().collect();
    let now = cx.world.clock().now_ms();
    problems.extend(workflow::stale_prices(&library, now).into_iter().filter(|it| checked.contains(&it.place.file)));
    let place = init::Place::find(&root, cx).unwrap_or_default();
    let silent = firing::never_fires(
        &library,
        &init::pipelines(&root),
        place.repository.as_deref().unwrap_or_default(),
        cx.world.clock().now_ms(),
    );
    problems.extend(silent.into_iter().filter(|it| checked.contains(&it.place.file)));
    for age in library.pricing.ages(now).iter().filter(|age| age.builtin && age.is_stale()) {
        cx.say(&super::models::stale(age));
    }
    if args.strict {
        for problem in problems.iter_mut().filter(|problem| problem.severity == Severity::Warning) {
            problem.severity = Severity::Error;
        }
    }
    problems.sort_by(|a, b| a.place.cmp(&b.place).then_with(|| a.code.cmp(b.code)));
    show(&problems, checked.len(), cx);
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Err(CliError::silent(Ending::Misconfigured));
    }
    Ok(())
}

fn show(problems: &[Diagnostic], files: usize, cx: &Context<'_>) {
    match cx.format {
        Format::Json => cx.data(&format!("{:#}\n", serde_json::json!(problems))),
        Format::Sarif => cx.data(&format!("{:#}\n", diagnostics::sarif(problems))),
        Format::Github => problems.iter().for_each(|problem| cx.data(&diagnostics::github(problem))),
        Format::Text => {
            for problem in problems {
                cx.complain(&diagnostics::render(problem, cx.color));
            }
        }
    }
    if cx.format != Format::Json && cx.format != Format::Sarif {
        cx.complain(&diagnostics::summary(problems, files));
    }
}

/// The files that are named, with those around them; a named file replaces the one around it.
fn named(
    paths: &[PathBuf],
    root: &Path,
    cwd: &Path,
    around: Vec<Source>,
) -> std::io::Result<(BTreeSet<String>, Vec<Source>)> {
    let mut all = around;
    let mut checked = BTreeSet::new();
    for path in paths {
        let full = cwd.join(path);
        let mut files = Vec::new();
        if full.is_dir() {
            collect(&full, &mut files)?;
        } else {
            files.push(full);
        }
        for file in files {
            let real = file
                .canonicalize()
                .map_err(|error| std::io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
            let shown = match real.strip_prefix(root) {
                Ok(inside) => inside.display().to_string(),
                Err(_) => file.display().to_string(),
            };
            let source = sources::source(&file, &shown)?;
            all.retain(|other| other.path != shown);
            checked.insert(shown);
            all.push(source);
        }
    }
    Ok((checked, all))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    entries.sort();
    for entry in entries {
        let ending = entry.extension().map(|ending| ending.to_string_lossy().into_owned()).unwrap_or_default();
        if entry.is_dir() && !entry.is_symlink() && entry.file_name().is_some_and(|name| name != "runs") {
            collect(&entry, files)?;
        } else if matches!(ending.as_str(), "yml" | "yaml" | "j2" | "json") {
            files.push(entry);
        }
    }
    Ok(())
}
