//! GitLab CI. Its pipelines come with variables, not with an event; one that a webhook triggered has its payload in a
//! file.

pub mod payload;

use super::{Env, commit, read, text};
use crate::model::ci::{CiJob, Home};
use crate::model::event::{Change, EventKind, Push, Side, Tick};
use crate::model::forge::ForgeKind;
use crate::port::ci::CiError;
use std::path::{Path, PathBuf};

const KNOWN: &str = "merge_request_event, push, schedule, web, api, trigger, pipeline and parent_pipeline";

/// The job, from the variables that GitLab's runner sets.
pub(super) fn job(env: Env<'_>, cwd: &Path) -> Result<CiJob, CiError> {
    let Some(source) = text(env, "CI_PIPELINE_SOURCE") else {
        let what =
            "the variable CI_PIPELINE_SOURCE is not set; the runner sets it, so pass it on to wherever this runs";
        return Err(CiError::Missing { home: "GitLab", what: what.to_owned() });
    };
    let id = |name: &str| text(env, name).and_then(|sha| commit(&sha));
    let mut job = CiJob::new(Home::Gitlab);
    job.fork = false;
    job.api_url = text(env, "CI_API_V4_URL");
    job.server_url = text(env, "CI_SERVER_URL");
    job.default_branch = text(env, "CI_DEFAULT_BRANCH");
    job.git_url = text(env, "CI_PROJECT_URL").map(|url| format!("{url}.git"));
    job.run = text(env, "CI_PIPELINE_ID").map(|run| format!("gitlab:{run}"));
    job.run_url = text(env, "CI_JOB_URL").or_else(|| text(env, "CI_PIPELINE_URL"));
    job.workspace = text(env, "CI_PROJECT_DIR").map(PathBuf::from);
    job.head = id("CI_COMMIT_SHA");
    let event = &mut job.event;
    event.repository = text(env, "CI_PROJECT_PATH");
    event.actor = text(env, "GITLAB_USER_LOGIN");
    event.actor_is_bot = event.actor.as_deref().is_some_and(is_bot);
    event.git_ref = match (text(env, "CI_COMMIT_TAG"), text(env, "CI_COMMIT_REF_NAME")) {
        (Some(tag), _) => Some(format!("refs/tags/{tag}")),
        (None, name) => name.map(|name| format!("refs/heads/{name}")),
    };
    match source.as_str() {
        // A child pipeline of a merge request's has its variables too.
        _ if text(env, "CI_MERGE_REQUEST_IID").is_some() => merge_request(env, &mut job)?,
        "merge_request_event" => {
            let what = "a merge request's pipeline has no CI_MERGE_REQUEST_IID; pass the runner's variables on";
            return Err(CiError::Missing { home: "GitLab", what: what.to_owned() });
        }
        "push" => {
            event.kind = EventKind::Push;
            job.base = id("CI_COMMIT_BEFORE_SHA");
            event.push = Some(Push {
                before: job.base.clone(),
                after: job.head.clone(),
                branch: text(env, "CI_COMMIT_BRANCH"),
                tag: text(env, "CI_COMMIT_TAG"),
            });
        }
        "schedule" => {
            event.kind = EventKind::Schedule;
            event.schedule = Some(Tick { cron: None, at: text(env, "CI_PIPELINE_CREATED_AT") });
        }
        "web" | "api" | "pipeline" | "parent_pipeline" => event.kind = EventKind::WorkflowDispatch,
        "trigger" => match text(env, "TRIGGER_PAYLOAD") {
            None => event.kind = EventKind::WorkflowDispatch,
            Some(file) => hook(&cwd.join(file), &mut job)?,
        },
        other => return Err(CiError::Unknown { home: "GitLab", event: other.to_owned(), known: KNOWN }),
    }
    job.event.sha = job.head.clone();
    Ok(job)
}

/// Accounts of access tokens: `project_17_bot_0a1b`, `group_3_bot`; and of services.
pub(in crate::adapter) fn is_bot(name: &str) -> bool {
    let token = ["project_", "group_"].iter().any(|prefix| {
        let rest = name.strip_prefix(prefix).unwrap_or_default();
        rest.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with("_bot") && rest.starts_with(char::is_numeric)
    });
    token || name.starts_with("service_account_") || matches!(name, "ghost" | "support-bot" | "alert-bot")
}

fn merge_request(env: Env<'_>, job: &mut CiJob) -> Result<(), CiError> {
    let text = |name: &str| text(env, &format!("CI_MERGE_REQUEST_{name}"));
    let id = |name: &str| text(name).and_then(|sha| commit(&sha));
    let iid = text("IID").unwrap_or_default();
    let Ok(number) = iid.trim().parse::<u64>() else {
        let what = format!("CI_MERGE_REQUEST_IID is `{iid}`, which is no number");
        return Err(CiError::Missing { home: "GitLab", what });
    };
    let project = |name: &str| text(name).and_then(|id| id.trim().parse::<u64>().ok());
    let title = text("TITLE").unwrap_or_default();
    let draft = text("DRAFT").map_or_else(
        || ["draft:", "[draft]", "(draft)"].iter().any(|word| title.to_lowercase().starts_with(word)),
        |value| value == "true",
    );
    // In a pipeline on the merged result, CI_COMMIT_SHA is the merge that was tried.
    let head = id("SOURCE_BRANCH_SHA").or_else(|| job.head.clone());
    let change = Change {
        number,
        title,
        body: text("DESCRIPTION").unwrap_or_default(),
        author: None,
        url: text("PROJECT_URL").map(|url| format!("{url}/-/merge_requests/{number}")),
        draft,
        labels: text("LABELS").into_iter().flat_map(|labels| split(&labels)).collect(),
        head: Side {
            branch: text("SOURCE_BRANCH_NAME").unwrap_or_default(),
            sha: head.clone(),
            repository: text("SOURCE_PROJECT_PATH"),
            repository_id: project("SOURCE_PROJECT_ID"),
        },
        base: Side {
            branch: text("TARGET_BRANCH_NAME").unwrap_or_default(),
            sha: id("TARGET_BRANCH_SHA").or_else(|| id("DIFF_BASE_SHA")),
            repository: text("PROJECT_PATH"),
            repository_id: project("PROJECT_ID"),
        },
    };
    job.fork = change.is_fork();
    // GitLab tells the merge base itself.
    job.base = id("DIFF_BASE_SHA").or_else(|| change.base.sha.clone());
    job.head = head;
    job.head_ref = Some(ForgeKind::Gitlab.head_ref(number));
    if let Some(url) = text("PROJECT_URL") {
        job.git_url = Some(format!("{url}.git"));
    }
    // A merge request from a fork may have its pipeline there, where the default branch is the fork's.
    let here = env("CI_PROJECT_ID").and_then(|id| id.trim().parse::<u64>().ok());
    if here.is_none() || here != change.base.repository_id {
        job.default_branch = None;
        job.fork = true;
    }
    // The source branch may be called like the trusted one, and is another thing, perhaps in a fork.
    job.event.git_ref = job.head_ref.clone();
    job.event.repository = text("PROJECT_PATH").or(job.event.repository.take());
    let train = text("EVENT_TYPE").is_some_and(|kind| kind == "merge_train");
    job.event.kind = if train { EventKind::MergeGroup } else { EventKind::PullRequest };
    if train {
        // What the train tries, not what the author pushed.
        job.head = super::text(env, "CI_COMMIT_SHA").and_then(|sha| commit(&sha));
    } else {
        job.gaps.push("GitLab does not say whether a merge request was opened, updated or labelled".to_owned());
    }
    job.event.change = Some(change);
    Ok(())
}

/// A pipeline that a webhook of GitLab's triggered.
fn hook(file: &Path, job: &mut CiJob) -> Result<(), CiError> {
    let payload = read(file)?;
    let broken = |why: String| CiError::Broken { file: file.display().to_string(), why };
    let all = payload::events(&payload).map_err(|error| broken(error.to_string()))?;
    // One pipeline is one event: of several labels that were set at once it sees the first.
    let Some(read) = all.into_iter().next() else { return Err(broken("nothing happened in it".to_owned())) };
    let repository = job.event.repository.take();
    job.event = read.event;
    job.event.repository = repository.or(job.event.repository.take());
    if let Some(change) = &job.event.change {
        job.fork = change.is_fork();
        job.head = change.head.sha.clone();
        job.base = change.base.sha.clone();
        job.head_ref = Some(ForgeKind::Gitlab.head_ref(change.number));
    }
    Ok(())
}

fn split(labels: &str) -> Vec<String> {
    labels.split(',').map(str::trim).filter(|label| !label.is_empty()).map(str::to_owned).collect()
}
