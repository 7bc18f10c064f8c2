//! CI systems: environment and event file → [`CiJob`]; webhooks → what happened.
//!
//! What a vendor says is read here and nowhere else. A value of the wrong type counts as absent, an absent one as the
//! safe answer: a change of which nobody says where its head lies is a fork.

mod container;
pub mod gitea;
pub mod github;
pub mod gitlab;
pub mod json;

use crate::model::ci::CiJob;
use crate::model::event::{Event, EventKind, Hook};
use crate::port::ci::{CiError, Payload, PayloadError};
use serde_json::Value;
use std::io::Read;
use std::path::Path;

/// The largest event that is read: as much as a forge sends.
const LARGEST: u64 = 25 << 20;

/// A variable by its name.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The job that we run in.
///
/// # Errors
/// [`CiError`].
pub fn job(env: Env<'_>, cwd: &Path) -> Result<CiJob, CiError> {
    let mut job = if is_true(env, "GITHUB_ACTIONS") {
        github::job(env, cwd)
    } else if is_true(env, "GITLAB_CI") {
        gitlab::job(env, cwd)
    } else {
        container::job(env, cwd)
    }?;
    // A server that starts us has a page of its own for the run.
    if let Some(url) = text(env, "CODEFORGE_RUN_URL") {
        job.run_url = Some(url);
    }
    Ok(job)
}

fn is_true(env: Env<'_>, name: &str) -> bool {
    text(env, name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// A variable's value; an empty one counts as not given.
fn text(env: Env<'_>, name: &str) -> Option<String> {
    env(name).filter(|value| !value.trim().is_empty())
}

/// Reads an event's file.
fn read(file: &Path) -> Result<Value, CiError> {
    let broken = |why: String| CiError::Broken { file: file.display().to_string(), why };
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).map_err(|error| broken(error.to_string()))?;
    opened.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| broken(error.to_string()))?;
    if bytes.len() as u64 > LARGEST {
        return Err(broken(format!("it has more than {} MiB", LARGEST >> 20)));
    }
    parse(&bytes).map_err(broken)
}

fn parse(bytes: &[u8]) -> Result<Value, String> {
    // Whatever is before the first brace is a byte order mark.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    serde_json::from_slice(bytes).map_err(|error| format!("it is not JSON: {error}"))
}

/// What a webhook says happened; `source` and `name` as in [`crate::model::job::Delivery`].
///
/// # Errors
/// [`PayloadError`].
pub fn webhook(source: &str, name: &str, body: &[u8]) -> Result<Vec<Payload>, PayloadError> {
    let payload = parse(body).map_err(PayloadError::Broken)?;
    let mut all = match source {
        "github" => vec![github::payload::hook(name, &payload)?],
        "gitea" => gitea::payload::events(name, &payload)?,
        "gitlab" => gitlab::payload::events(&payload)?,
        // Our own, which no signature came with: the server wrote it down itself.
        "sweep" => {
            let event = container::event(&payload).map_err(PayloadError::Broken)?;
            let change = event.change.as_ref();
            let head = change.and_then(|change| change.head.sha.clone()).or_else(|| event.sha.clone());
            let base = change.and_then(|change| change.base.sha.clone());
            vec![Payload { event, default_branch: None, head, base }]
        }
        other => match other.strip_prefix("hook:") {
            // The hook's own name, unless the operator gave its event another one.
            Some(called) if !called.is_empty() => {
                let event = if name.is_empty() { called } else { name };
                let webhook = Some(Hook { event: event.to_owned(), payload });
                let event = Event { kind: EventKind::Webhook, webhook, ..Event::default() };
                vec![Payload { event, ..Payload::default() }]
            }
            _ => return Err(PayloadError::Unknown(other.to_owned())),
        },
    };
    for read in &mut all {
        let number = read.event.change.as_ref().map(|change| change.number);
        let heads = if source == "gitlab" { "merge-requests" } else { "pull" };
        let at = number.map(|number| format!("refs/{heads}/{number}/head"));
        read.event.git_ref = read.event.git_ref.take().or(at);
        read.event.sha = read.event.sha.take().or_else(|| read.head.clone());
    }
    Ok(all)
}

/// A full commit id; the one of zeros stands for none.
fn commit(text: &str) -> Option<String> {
    let id = text.trim();
    let full = matches!(id.len(), 40 | 64) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    (full && id.bytes().any(|byte| byte != b'0')).then(|| id.to_ascii_lowercase())
}
