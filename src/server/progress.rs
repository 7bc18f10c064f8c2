//! How a job stands, where people look: one comment for a workflow and a change, and a check at the commit.
//!
//! The comment is the one that the run itself writes its result to: it has the same key. What it said before stays
//! below; what it remembers stays too. Once the run has written there, nothing is set above it any more.

use crate::model::forge::CheckState;
use crate::model::job::{Job, JobState, Priority};
use crate::port::forge::{Check, Forge, ForgeError, Sticky, Thread};
use crate::port::queue::Queue;
use crate::report::ci::answers;
use crate::server::commands::{DeskError, thread};
use crate::text;

/// The least time between two updates that say nothing but which step is at work, in milliseconds.
const BETWEEN_MS: i64 = 20_000;

/// Shows jobs of one repository.
pub struct Progress<'a> {
    /// The forge.
    pub forge: &'a dyn Forge,
    /// Where is kept what was shown last.
    pub queue: &'a dyn Queue,
    /// What commands begin with.
    pub phrase: &'a str,
    /// Now, in milliseconds since 1970.
    pub now_ms: i64,
}

/// What a workflow's comment said and remembers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Before {
    /// Its body, without our marks; `None`: there is no such comment.
    pub body: Option<String>,
    /// What it remembers.
    pub memory: Option<String>,
}

impl Progress<'_> {
    /// Shows how a job stands; `step`: the step at work, where that is known. What was shown already is not shown again.
    ///
    /// # Errors
    /// [`DeskError`].
    pub async fn show(&self, job: &Job, step: Option<&str>) -> Result<(), DeskError> {
        let name = format!("shown/{}", job.id);
        let now = format!("{:?} {} {}", job.state, job.attempts, step.unwrap_or_default());
        let kept = self.queue.note(&name).await?.unwrap_or_default();
        let (at, last) = kept.split_once(' ').unwrap_or(("0", ""));
        let only_step = last.split(' ').take(2).eq(now.split(' ').take(2));
        let at: i64 = at.parse().unwrap_or_default();
        if last == now || (only_step && self.now_ms - at < BETWEEN_MS) {
            return Ok(());
        }
        self.check(job).await?;
        self.comment(job, step).await?;
        Ok(self.queue.keep_note(&name, &format!("{} {now}", self.now_ms)).await?)
    }

    async fn comment(&self, job: &Job, step: Option<&str>) -> Result<(), DeskError> {
        let Some(thread) = thread(&job.new.event) else { return Ok(()) };
        let before = self.before(thread, &job.new.workflow).await?;
        // What a run wrote itself at its end says more than we could.
        let written = before.body.as_deref().is_some_and(|body| !answers::is_progress(body));
        if written && job.state == JobState::Done {
            return Ok(());
        }
        // Nobody asked for words about what runs by itself: the check moves, and the comment that is there stays current.
        let asked = job.new.priority == Priority::Command || job.new.approval.is_some();
        if before.body.is_none() && !asked {
            return Ok(());
        }
        let body = answers::progress(job, step, self.phrase, before.body.as_deref());
        let memory = before.memory.as_deref();
        self.forge.stick(&Sticky { thread, key: &job.new.workflow, body: &body, memory }).await?;
        Ok(())
    }

    /// What a workflow's comment says and remembers. Only one of our own account counts.
    ///
    /// # Errors
    /// [`ForgeError`].
    pub async fn before(&self, thread: Thread, key: &str) -> Result<Before, ForgeError> {
        let Some(own) = self.forge.own_account().await? else { return Ok(Before::default()) };
        let comments = self.forge.comments(thread).await?;
        let ours = comments.into_iter().find(|comment| {
            let by_us = comment.author.as_deref().is_some_and(|author| author.eq_ignore_ascii_case(&own));
            by_us && text::is_marked(&comment.body, key, "", None)
        });
        let Some(comment) = ours else { return Ok(Before::default()) };
        let memory = self.forge.recall(thread, &[key]).await?.remove(key);
        let mut lines = comment.body.lines().skip(1).peekable();
        if memory.is_some() {
            lines.next();
            // Its signature, where there is one.
            lines.next_if(|line| line.starts_with("<!-- codeforge:"));
        }
        let body = lines.collect::<Vec<_>>().join("\n").trim().to_owned();
        Ok(Before { body: Some(body), memory })
    }

    /// Moves the check of a job's commit.
    ///
    /// # Errors
    /// [`ForgeError`]; that a token may not write checks is none.
    pub async fn check(&self, job: &Job) -> Result<(), ForgeError> {
        let change = job.new.event.change.as_ref();
        let Some(commit) = change.and_then(|change| change.head.sha.as_deref()) else { return Ok(()) };
        let (_, words) = answers::standing(job);
        let state = match (job.state, job.conclusion.as_deref()) {
            (JobState::Asked | JobState::Waiting | JobState::Running, _) => CheckState::Pending,
            (JobState::Done, None | Some("success" | "skipped" | "neutral")) => CheckState::Success,
            (JobState::Done, Some("unavailable")) | (JobState::Cancelled | JobState::Dead, _) => CheckState::Error,
            (JobState::Done, Some(_)) => CheckState::Failure,
        };
        let name = format!("codeforge/{}", job.new.workflow);
        let url = job.url.as_deref();
        let check = Check { commit, name: &name, state, words: &words, url, summary: None, annotations: &[] };
        match self.forge.set_check(&check).await {
            Err(ForgeError::Refused { .. } | ForgeError::Unsupported(_) | ForgeError::NotFound { .. }) => Ok(()),
            done => done.map(|_| ()),
        }
    }
}
