//! GitHub Actions.

pub mod payload;

use super::{Env, commit, is_true, read, text};
use crate::model::ci::{CiJob, Home};
use crate::model::event::EventKind;
use crate::model::forge::ForgeKind;
use crate::port::ci::{CiError, PayloadError};
use std::path::{Path, PathBuf};

/// The job, from the variables that the runner sets and the event's file.
pub(super) fn job(env: Env<'_>, cwd: &Path) -> Result<CiJob, CiError> {
    let missing = |name: &str| CiError::Missing {
        home: "GitHub",
        what: format!("the variable {name} is not set; the runner sets it, so pass it on to wherever this runs"),
    };
    let name = text(env, "GITHUB_EVENT_NAME").ok_or_else(|| missing("GITHUB_EVENT_NAME"))?;
    let file = text(env, "GITHUB_EVENT_PATH").ok_or_else(|| missing("GITHUB_EVENT_PATH"))?;
    let file = cwd.join(file);
    let payload = read(&file)?;
    let read = payload::event(&name, &payload).map_err(|error| match error {
        PayloadError::Unknown(event) => CiError::Unknown { home: "GitHub", event, known: payload::KNOWN },
        PayloadError::Broken(why) => CiError::Broken { file: file.display().to_string(), why },
    })?;
    let mut job = CiJob::new(Home::Github);
    if is_true(env, "GITEA_ACTIONS") || is_true(env, "FORGEJO_ACTIONS") {
        job.forge = Some(ForgeKind::Gitea);
    }
    job.event = read.event;
    job.default_branch = read.default_branch;
    job.head = read.head;
    job.base = read.base;
    // What the runner says of its own repository comes before what the event says of it.
    job.event.repository = text(env, "GITHUB_REPOSITORY").or(job.event.repository);
    job.event.actor = job.event.actor.or_else(|| text(env, "GITHUB_ACTOR"));
    job.event.git_ref = job.event.git_ref.or_else(|| text(env, "GITHUB_REF"));
    let sha = text(env, "GITHUB_SHA").and_then(|sha| commit(&sha));
    job.head_ref = job.event.change.as_ref().map(|change| format!("refs/pull/{}/head", change.number));
    if job.event.change.is_none() {
        // A job that is no change's works on the runner's own commit.
        job.head = job.head.or_else(|| sha.clone());
    }
    job.event.sha = job.head.clone().or(sha);
    job.fork = job.event.change.as_ref().is_some_and(|change| change.is_fork());
    if job.event.kind == EventKind::IssueComment && job.event.change.is_some() {
        job.gaps.push("GitHub does not say in a comment's event where the pull request's head is".to_owned());
    }
    job.api_url = text(env, "GITHUB_API_URL");
    job.server_url = text(env, "GITHUB_SERVER_URL");
    let page = job.server_url.as_deref().zip(job.event.repository.as_deref());
    let page = page.map(|(server, repository)| format!("{}/{repository}", server.trim_end_matches('/')));
    job.git_url = page.as_deref().map(|page| format!("{page}.git"));
    if let Some(run) = text(env, "GITHUB_RUN_ID") {
        job.run_url = page.map(|page| format!("{page}/actions/runs/{run}"));
        job.run = Some(format!("github:{run}"));
    }
    job.attempt = text(env, "GITHUB_RUN_ATTEMPT").and_then(|text| text.trim().parse().ok()).unwrap_or(1);
    // `act` has no folder for temporary files by this name in all its versions.
    job.temp = text(env, "RUNNER_TEMP").map(PathBuf::from).or_else(|| is_true(env, "ACT").then(|| "/tmp".into()));
    job.outputs_file = text(env, "GITHUB_OUTPUT").map(PathBuf::from);
    job.summary_file = text(env, "GITHUB_STEP_SUMMARY").map(PathBuf::from);
    job.workspace = text(env, "GITHUB_WORKSPACE").map(PathBuf::from);
    Ok(job)
}
