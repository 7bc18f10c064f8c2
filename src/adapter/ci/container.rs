//! A container without a forge around it: the event is a file of ours, or there is none and it was simply time.

use super::{Env, commit, read, text};
use crate::model::ci::{CiJob, Home, ServedJob};
use crate::model::event::{Change, Comment, Event, EventKind, Hook, Issue, Push, Tick};
use crate::port::ci::CiError;
use serde::Serialize;
use serde_json::{Value, json};
use std::path::Path;

/// The job: `CODEFORGE_EVENT` names a JSON file in the shape of [`Event`], of which every key may be left out.
pub(super) fn job(env: Env<'_>, cwd: &Path) -> Result<CiJob, CiError> {
    let mut job = CiJob::new(Home::Container);
    match text(env, "CODEFORGE_EVENT") {
        None => {
            job.event.kind = EventKind::Schedule;
            job.event.schedule = Some(Tick::default());
        }
        Some(file) => {
            let file = cwd.join(file);
            let given = read(&file)?;
            let broken = |why: String| CiError::Broken { file: file.display().to_string(), why };
            job.event = event(&given).map_err(broken)?;
        }
    }
    let change = job.event.change.as_ref();
    job.fork = change.is_some_and(Change::is_fork);
    let push = job.event.push.as_ref();
    let id = |sha: &Option<String>| sha.as_deref().and_then(commit);
    job.head = match (change, push) {
        (Some(change), _) => id(&change.head.sha),
        (None, Some(push)) => id(&push.after),
        (None, None) => id(&job.event.sha),
    };
    job.base = change.map(|change| id(&change.base.sha)).or(push.map(|push| id(&push.before))).flatten();
    if let Some(file) = text(env, "CODEFORGE_JOB") {
        let file = cwd.join(file);
        let broken = |error: serde_json::Error| CiError::Broken {
            file: file.display().to_string(),
            why: format!("it is not what a server writes of a job: {error}"),
        };
        served(&mut job, serde_json::from_value(read(&file)?).map_err(broken)?);
    }
    Ok(job)
}

/// What the server that runs us knows of the job.
fn served(job: &mut CiJob, by: ServedJob) {
    // Whoever started us wants what we know: without them nobody reads it, and somebody else goes on with the job.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::INT));
    job.api_url = Some(by.api_url.clone());
    job.git_url = Some(by.git_url.clone());
    job.default_branch = Some(by.default_branch.clone());
    job.event.repository = Some(by.repository.clone());
    job.run = Some(format!("serve:{}", by.id));
    job.run_url = by.url.clone();
    job.attempt = by.attempt;
    job.head_ref = job.event.change.as_ref().map(|change| by.forge.head_ref(change.number));
    job.served = Some(by);
}

/// Our own event, with what was left out.
pub(super) fn event(given: &Value) -> Result<Event, String> {
    let Some(given) = given.as_object() else { return Err("it is not a JSON object".to_owned()) };
    if !given.contains_key("kind") {
        return Err("it has no `kind` (`push`, `pull_request`, `schedule`, …)".to_owned());
    }
    let mut whole = shape(&Event::default());
    for (key, value) in given {
        let under = match (key.as_str(), value) {
            ("change", Value::Object(_)) => shape(&Change::default()),
            ("issue", Value::Object(_)) => shape(&Issue::default()),
            ("comment", Value::Object(_)) => shape(&Comment::default()),
            ("push", Value::Object(_)) => shape(&Push::default()),
            ("schedule", Value::Object(_)) => shape(&Tick::default()),
            ("webhook", Value::Object(_)) => shape(&Hook::default()),
            _ => Value::Null,
        };
        if let Some(fields) = whole.as_object_mut() {
            fields.insert(key.clone(), over(under, value));
        }
    }
    serde_json::from_value(whole).map_err(|error| error.to_string())
}

fn shape(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_else(|_| json!({}))
}

/// A value over one of the same shape; a null leaves what is under it.
fn over(under: Value, given: &Value) -> Value {
    match (under, given) {
        (under, Value::Null) => under,
        (Value::Object(mut under), Value::Object(given)) => {
            for (key, value) in given {
                let below = under.remove(key).unwrap_or(Value::Null);
                under.insert(key.clone(), over(below, value));
            }
            Value::Object(under)
        }
        (_, given) => given.clone(),
    }
}
