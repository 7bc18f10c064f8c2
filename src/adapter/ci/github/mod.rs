//! GitHub Actions.

pub mod payload;

use super::{Env, commit, gitea, is_true, read, text};
use crate::model::ci::{CiJob, Home};
use crate::model::event::{Event, EventKind};
use crate::model::forge::ForgeKind;
use crate::port::ci::{CiError, PayloadError};
use std::path::{Path, PathBuf};

/// The job, from the variables that the runner sets and the event's file.
pub(super) fn job(env: Env<'_>, cwd: &Path) -> Result<CiJob, CiError> {
    // Gitea's runners speak GitHub's language, but for what they say of events.
    let of_gitea = gitea::runs(env);
    let home = if of_gitea { "Gitea" } else { "GitHub" };
    let missing = |name: &str| CiError::Missing {
        home,
        what: format!("the variable {name} is not set; the runner sets it, so pass it on to wherever this runs"),
    };
    let name = text(env, "GITHUB_EVENT_NAME").ok_or_else(|| missing("GITHUB_EVENT_NAME"))?;
    let file = text(env, "GITHUB_EVENT_PATH").ok_or_else(|| missing("GITHUB_EVENT_PATH"))?;
    let file = cwd.join(file);
    let payload = read(&file)?;
    let all =
        if of_gitea { gitea::told(&name, &payload) } else { payload::event(&name, &payload).map(|read| vec![read]) };
    let mut all = all
        .map_err(|error| match error {
            PayloadError::Unknown(event) => CiError::Unknown { home, event, known: payload::KNOWN },
            PayloadError::Broken(why) => CiError::Broken { file: file.display().to_string(), why },
        })?
        .into_iter();
    let read = all.next().unwrap_or_default();
    let mut job = CiJob::new(Home::Github);
    job.forge = of_gitea.then_some(ForgeKind::Gitea);
    job.event = read.event;
    job.default_branch = read.default_branch;
    job.head = read.head;
    job.base = read.base;
    // What the runner says of its own repository comes before what the event says of it.
    job.event.repository = text(env, "GITHUB_REPOSITORY").or(job.event.repository);
    job.event.actor = job.event.actor.or_else(|| text(env, "GITHUB_ACTOR"));
    job.event.git_ref = job.event.git_ref.or_else(|| text(env, "GITHUB_REF"));
    let sha = text(env, "GITHUB_SHA").and_then(|sha| commit(&sha));
    if let Some(change) = job.event.change.as_ref().filter(|_| job.head.is_none()) {
        (job.head, job.base) = (change.head.sha.clone(), change.base.sha.clone());
    }
    job.head_ref = job.event.change.as_ref().map(|change| ForgeKind::Github.head_ref(change.number));
    if job.event.change.is_none() {
        // A job that is no change's works on the runner's own commit.
        job.head = job.head.or_else(|| sha.clone());
    }
    job.event.sha = job.head.clone().or(sha);
    job.fork = job.event.change.as_ref().is_some_and(|change| change.is_fork());
    let headless = job.event.change.as_ref().is_some_and(|change| change.head.sha.is_none());
    if job.event.kind == EventKind::IssueComment && headless {
        job.gaps.push(format!("{home} does not say in a comment's event where the pull request's head is"));
    }
    job.server_url = text(env, "GITHUB_SERVER_URL").map(|server| server.trim_end_matches('/').to_owned());
    // Older versions of Gitea do not say where their API is.
    let usual = job.server_url.as_ref().filter(|_| of_gitea).map(|server| format!("{server}/api/v1"));
    job.api_url = text(env, "GITHUB_API_URL").or(usual);
    let page = job.server_url.as_deref().zip(job.event.repository.as_deref());
    let page = page.map(|(server, repository)| format!("{server}/{repository}"));
    job.git_url = page.as_deref().map(|page| format!("{page}.git"));
    if let Some(run) = text(env, "GITHUB_RUN_ID") {
        // Gitea's pages go by the run's number in its repository.
        let number = text(env, "GITHUB_RUN_NUMBER").filter(|_| of_gitea).unwrap_or_else(|| run.clone());
        job.run_url = page.map(|page| format!("{page}/actions/runs/{number}"));
        job.run = Some(format!("github:{run}"));
    }
    job.attempt = text(env, "GITHUB_RUN_ATTEMPT").and_then(|text| text.trim().parse().ok()).unwrap_or(1);
    // `act` has no folder for temporary files by this name in all its versions.
    job.temp = text(env, "RUNNER_TEMP").map(PathBuf::from).or_else(|| is_true(env, "ACT").then(|| "/tmp".into()));
    job.outputs_file = text(env, "GITHUB_OUTPUT").map(PathBuf::from);
    job.summary_file = text(env, "GITHUB_STEP_SUMMARY").map(PathBuf::from);
    job.workspace = text(env, "GITHUB_WORKSPACE").map(PathBuf::from);
    // What was told at once happened in the same place.
    let at = job.event.clone();
    job.also = all
        .map(|read| Event {
            repository: at.repository.clone(),
            actor: at.actor.clone(),
            git_ref: at.git_ref.clone(),
            sha: at.sha.clone(),
            ..read.event
        })
        .collect();
    Ok(job)
}
