//! Check runs, which only an App may make, and commit statuses for everybody else.

use super::{Github, WRITE_STATUS};
use crate::adapter::forge::alike::status;
use crate::adapter::forge::http::{Failed, Kind, read};
use crate::model::finding::Level;
use crate::model::forge::CheckState;
use crate::port::forge::{Annotation, Check, ForgeError, Said};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

const WRITE_CHECKS: &str = "permissions: checks: write";
const DOING: &str = "saying how the commit stands";
/// Annotations of one request.
const MOST: usize = 50;
/// Characters of a summary.
const SUMMARY: usize = 65_535;

#[derive(Deserialize)]
struct Run {
    id: u64,
    status: String,
    external_id: Option<String>,
    output: Option<Output>,
}

#[derive(Deserialize)]
struct Output {
    #[serde(default)]
    annotations_count: usize,
}

#[derive(Deserialize)]
struct Runs {
    check_runs: Vec<Run>,
}

impl Github {
    pub(super) async fn say(&self, check: &Check<'_>) -> Result<Said, ForgeError> {
        if self.checks.load(Ordering::Relaxed) {
            if self.check(check).await? {
                return Ok(Said::Check);
            }
            self.checks.store(false, Ordering::Relaxed);
        }
        self.status(check).await.map(|()| Said::Status)
    }

    async fn status(&self, check: &Check<'_>) -> Result<(), ForgeError> {
        let (parts, body) = (["statuses", check.commit], status(check, 140));
        let done = self.at.write(Method::POST, &parts, body, DOING, WRITE_STATUS, Kind::Again).await;
        done.map(|_| ()).map_err(Failed::into_inner)
    }

    /// Our own run of this name at the commit, the newest one.
    async fn run(&self, check: &Check<'_>) -> Result<Option<Run>, ForgeError> {
        let query = [("check_name", check.name), ("filter", "all"), ("per_page", "100")];
        let parts = ["commits", check.commit, "check-runs"];
        let answer = self.at.get(&parts, &query, DOING, WRITE_CHECKS).await?;
        let runs: Runs = read(DOING, &answer.body)?;
        let mark = mark(check);
        Ok(runs.check_runs.into_iter().filter(|run| run.external_id.as_ref() == Some(&mark)).max_by_key(|run| run.id))
    }

    /// `false`: the token may not make checks, and nothing was made.
    async fn check(&self, check: &Check<'_>) -> Result<bool, ForgeError> {
        let pending = check.state == CheckState::Pending;
        // One that is done is not undone: a check that begins anew is a new one.
        let goes_on = |run: &Run| !pending || run.status != "completed";
        let look = || async { Ok(self.run(check).await?.filter(goes_on)) };
        let first = check.annotations.get(..MOST.min(check.annotations.len())).unwrap_or_default();
        let make = || async {
            let mut body = said(check, first, check.annotations.len() <= MOST);
            if let Some(fields) = body.as_object_mut() {
                fields.insert("name".into(), check.name.into());
                fields.insert("head_sha".into(), check.commit.into());
                fields.insert("external_id".into(), mark(check).into());
            }
            let answer = self.at.write(Method::POST, &["check-runs"], body, DOING, WRITE_CHECKS, Kind::Once).await?;
            read::<Run>(DOING, &answer.body).map_err(Failed::Lost)
        };
        let (run, made) = match self.at.http.once_only(look, make).await {
            Err(ForgeError::Refused { .. } | ForgeError::NotFound { .. }) => return Ok(false),
            done => done?,
        };
        let mut there = run.output.map_or(0, |output| output.annotations_count);
        if made {
            there = there.max(first.len());
            if there >= check.annotations.len() {
                return Ok(true);
            }
        }
        // GitHub adds what each request brings: only what is not there yet is sent.
        loop {
            let rest = check.annotations.get(there..).unwrap_or_default();
            let next = rest.get(..MOST.min(rest.len())).unwrap_or_default();
            let last = next.len() == rest.len();
            let parts = ["check-runs", &run.id.to_string()];
            let kind = if next.is_empty() { Kind::Again } else { Kind::Once };
            match self.at.write(Method::PATCH, &parts, said(check, next, last), DOING, WRITE_CHECKS, kind).await {
                Ok(_) => there += next.len(),
                Err(Failed::Lost(error)) => {
                    let now = self.run(check).await?.and_then(|run| run.output).map_or(0, |it| it.annotations_count);
                    if now < there + next.len() {
                        return Err(error);
                    }
                    there = now;
                }
                Err(Failed::Sure(error)) => return Err(error),
            }
            if last {
                return Ok(true);
            }
        }
    }
}

/// What our runs are known by: names are shared with everybody's jobs.
fn mark(check: &Check<'_>) -> String {
    format!("codeforge:{}", check.name)
}

/// A check as GitHub wants it. `last`: all annotations are there with this, and it may end.
fn said(check: &Check<'_>, annotations: &[Annotation], last: bool) -> Value {
    let words: String = check.words.chars().take(255).collect();
    let summary: String = check.summary.unwrap_or(check.words).chars().take(SUMMARY).collect();
    let annotations: Vec<Value> = annotations.iter().map(annotation).collect();
    let mut body = json!({ "output": { "title": words, "summary": summary, "annotations": annotations } });
    if let Some(fields) = body.as_object_mut() {
        let conclusion = match check.state {
            CheckState::Success => Some("success"),
            CheckState::Failure => Some("failure"),
            // Ours to mend, not the change's author's.
            CheckState::Error => Some("action_required"),
            // Not `neutral` or `skipped`: a rule of branches takes those for a yes.
            CheckState::Cancelled => Some("cancelled"),
            CheckState::Pending => None,
        };
        match conclusion.filter(|_| last) {
            Some(conclusion) => {
                fields.insert("status".into(), "completed".into());
                fields.insert("conclusion".into(), conclusion.into());
            }
            None => {
                fields.insert("status".into(), "in_progress".into());
            }
        }
        if let Some(url) = check.url {
            fields.insert("details_url".into(), url.into());
        }
    }
    body
}

fn annotation(it: &Annotation) -> Value {
    let level = match it.level {
        Level::Low => "notice",
        Level::Medium => "warning",
        Level::High => "failure",
    };
    let message: String = it.message.chars().take(SUMMARY).collect();
    let mut wire = json!({
        "path": it.path, "start_line": it.start_line, "end_line": it.end_line.max(it.start_line),
        "annotation_level": level, "message": message,
    });
    if let (Some(title), Some(fields)) = (&it.title, wire.as_object_mut()) {
        fields.insert("title".into(), title.chars().take(255).collect::<String>().into());
    }
    wire
}
