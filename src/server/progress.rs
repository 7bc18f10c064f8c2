//! How a job stands, where people look: one comment for a workflow and a change, and a check at the commit.
//!
//! The comment is the one that the run itself writes its result to: it has the same key. What it said before stays
//! below; what it remembers stays too. Once the run has written there, nothing is set above it any more.
//!
//! One says it at a time ([`Queue::voice`]): other servers wait, and so does the run before it writes its result. How the
//! job stands is read once the voice is had, so that an older word never follows a newer one.

use crate::model::forge::CheckState;
use crate::model::job::{Job, JobState, Priority};
use crate::port::forge::{Check, Forge, ForgeError, Kept, Sticky, Thread};
use crate::port::queue::{Queue, Voice, Which};
use crate::report::ci::answers;
use crate::server::commands::{DeskError, of_thread, thread};
use crate::server::parts::one_line;

/// The least time between two updates that say nothing but which step is at work, in milliseconds.
const BETWEEN_MS: i64 = 20_000;
/// What a check says beside the state, in characters: forges show a line.
const WORDS: usize = 100;
/// Jobs of a workflow and a change that are looked through for newer ones.
const HERE: u32 = 100;

/// Shows jobs of one repository.
pub struct Progress<'a> {
    /// The forge.
    pub forge: &'a dyn Forge,
    /// Where is kept what was shown last, and who has the voice.
    pub queue: &'a dyn Queue,
    /// What commands begin with.
    pub phrase: &'a str,
    /// Now, in milliseconds since 1970.
    pub now_ms: i64,
}

/// What became of the wish to show how a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// It is to be seen, or is nothing for people.
    Now,
    /// Not yet: somebody else is writing there, or it was written a moment ago. Ask again.
    Later,
}

/// A comment that is ours to write until this is dropped, and whose it is.
pub(super) struct Floor {
    /// The job as it is now.
    pub(super) job: Job,
    /// Jobs that share its comment, the newest first.
    here: Vec<Job>,
    /// Held, not read.
    _voices: Vec<Voice>,
    /// Its run said itself what there is to say.
    spoken: bool,
}

impl Floor {
    /// Whether a newer job has taken the place of one that is over: at this commit, or anywhere in the change.
    fn is_replaced(&self, commit: Option<&str>) -> bool {
        // One that was dropped for another job of its group took nobody's place.
        let mut newer = self.here.iter().take_while(|it| it.id != self.job.id).filter(|it| it.skipped_for().is_none());
        self.job.state.is_over() && newer.any(|it| commit.is_none_or(|commit| head(it) == Some(commit)))
    }
}

impl Progress<'_> {
    /// Shows how a job stands; `step`: the step at work, where that is known. What was shown already is not shown again.
    ///
    /// # Errors
    /// [`DeskError`]. What the forge refuses for good counts as shown: to ask again would not help.
    pub async fn show(&self, job: &Job, step: Option<&str>) -> Result<Shown, DeskError> {
        let Some(thread) = thread(&job.new.event) else { return Ok(Shown::Now) };
        let Some(floor) = self.floor(job, thread).await? else { return Ok(Shown::Later) };
        let job = &floor.job;
        let name = format!("shown/{}", job.id);
        let kept = self.queue.note(&name).await?;
        let now = said(job, step);
        let (at, last) = kept.as_deref().and_then(|kept| kept.split_once(' ')).unwrap_or(("0", ""));
        let only_step = last.split(' ').take(2).eq(now.split(' ').take(2));
        let at: i64 = at.parse().unwrap_or_default();
        if last == now {
            return Ok(Shown::Now);
        }
        // Its run says it, or somebody did a moment ago.
        if floor.spoken || only_step && self.now_ms - at < BETWEEN_MS {
            return Ok(Shown::Later);
        }
        if kept.is_none() {
            // Whoever dies between the forge and the note leaves a note that is true of nothing.
            self.queue.keep_note(&name, "0 unknown 0 ").await?;
        }
        let shown = self.write(&floor, thread, step).await;
        if shown.is_ok() || for_good(&shown) {
            self.keep(job, step).await?;
        }
        shown.map(|()| Shown::Now)
    }

    /// Keeps that a job was shown as it is.
    ///
    /// # Errors
    /// [`DeskError::Database`].
    pub(super) async fn keep(&self, job: &Job, step: Option<&str>) -> Result<(), DeskError> {
        Ok(self.queue.keep_note(&format!("shown/{}", job.id), &format!("{} {}", self.now_ms, said(job, step))).await?)
    }

    /// Whether a job was shown in its state.
    ///
    /// # Errors
    /// [`DeskError::Database`].
    pub(super) async fn is_kept(&self, job: &Job) -> Result<bool, DeskError> {
        let kept = self.queue.note(&format!("shown/{}", job.id)).await?;
        Ok(kept.and_then(|kept| Some(kept.split_once(' ')?.1 == said(job, None))).unwrap_or_default())
    }

    /// Takes what a job's comment is written with. `None`: somebody else is writing there.
    ///
    /// # Errors
    /// [`DeskError::Database`].
    pub(super) async fn floor(&self, job: &Job, thread: Thread) -> Result<Option<Floor>, DeskError> {
        let mut voices = Vec::new();
        let mut spoken = None;
        let mine = |it: &Job| it.id == job.id || it.state == JobState::Running;
        let mut asked: Vec<String> = self.here(job, thread).await?.into_iter().filter(mine).map(|it| it.id).collect();
        if !asked.contains(&job.id) {
            asked.push(job.id.clone());
        }
        for id in &asked {
            let Some(voice) = self.queue.voice(id).await? else { return Ok(None) };
            if *id == job.id {
                spoken = voice.spoken;
            }
            voices.push(voice);
        }
        let here = self.here(job, thread).await?;
        if here.iter().any(|it| mine(it) && !asked.contains(&it.id)) {
            // One began meanwhile.
            return Ok(None);
        }
        let job = here.iter().find(|it| it.id == job.id).cloned();
        let Some(job) = job else { return Ok(None) };
        let spoken = job.state == JobState::Running && spoken == Some(job.attempts);
        Ok(Some(Floor { job, here, _voices: voices, spoken }))
    }

    /// A job as it is now and those that share its comment, the newest first.
    async fn here(&self, job: &Job, thread: Thread) -> Result<Vec<Job>, DeskError> {
        let workflow = Some(job.new.workflow.clone());
        let which = Which { workflow, most: HERE, ..of_thread(&job.new.repository, thread) };
        let mut here = self.queue.jobs(&which).await?;
        if !here.iter().any(|it| it.id == job.id) {
            // It is older than all of them.
            let which = Which { id: Some(job.id.clone()), most: 1, ..Which::default() };
            here.extend(self.queue.jobs(&which).await?);
        }
        Ok(here)
    }

    async fn write(&self, floor: &Floor, thread: Thread, step: Option<&str>) -> Result<(), DeskError> {
        let job = &floor.job;
        // The check leads to the comment: whoever waits for the job has one place to look at.
        let said = match floor.is_replaced(None) {
            true => Ok(None),
            false => self.comment(job, thread, step).await,
        };
        if !head(job).is_some_and(|commit| floor.is_replaced(Some(commit))) {
            let page = said.as_ref().ok().and_then(|page| page.as_deref());
            self.check(job, step, page).await?;
        }
        said.map(|_| ())
    }

    /// Says in the workflow's comment how a job stands; the comment's address, where it was said.
    async fn comment(&self, job: &Job, thread: Thread, step: Option<&str>) -> Result<Option<String>, DeskError> {
        let before = self.before(thread, &job.new.workflow).await?;
        let said = before.as_ref().map(|before| before.body.as_str());
        // What a run wrote itself at its end says more than we could.
        let written = said.is_some_and(|body| !answers::is_progress(body));
        if written && job.state == JobState::Done {
            return Ok(None);
        }
        // Nobody asked for words about what runs by itself: the check moves, and the comment that is there stays current.
        let asked = job.new.priority == Priority::Command || job.new.approval.is_some();
        if before.is_none() && !asked {
            return Ok(None);
        }
        let body = answers::progress(job, step, self.phrase, said);
        let memory = before.as_ref().and_then(|before| before.memory.as_deref());
        let stuck = self.forge.stick(&Sticky { thread, key: &job.new.workflow, body: &body, memory }).await?;
        Ok(stuck.comment.url)
    }

    /// What a workflow's comment says and remembers; `None`: there is none that is ours.
    ///
    /// # Errors
    /// [`ForgeError`].
    pub async fn before(&self, thread: Thread, key: &str) -> Result<Option<Kept>, ForgeError> {
        match self.forge.stuck(thread, key).await {
            // Where ours cannot be told from others' none is: who writes one hears of it.
            Err(ForgeError::Unsupported(_)) => Ok(None),
            found => found,
        }
    }

    /// Moves the check of a job's commit; `step`: the step at work, where that is known; `page`: where more is to be read
    /// while the job has no result.
    ///
    /// # Errors
    /// [`ForgeError`]; that a token may not write checks is none.
    pub async fn check(&self, job: &Job, step: Option<&str>, page: Option<&str>) -> Result<(), ForgeError> {
        let Some(commit) = head(job) else { return Ok(()) };
        let (_, mut words) = answers::standing(job);
        let more = match job.state {
            JobState::Running => step.map(|step| format!(", at {step}")),
            JobState::Cancelled | JobState::Dead => job.note.as_deref().map(|note| format!(": {note}")),
            _ => None,
        };
        words.extend(one_line(&more.unwrap_or_default()).chars().take(WORDS));
        let state = match (job.state, job.conclusion.as_deref()) {
            (JobState::Asked | JobState::Waiting | JobState::Running, _) => CheckState::Pending,
            (JobState::Done, None | Some("success" | "skipped" | "neutral")) => CheckState::Success,
            (JobState::Cancelled, _) => CheckState::Cancelled,
            (JobState::Done, Some("unavailable")) | (JobState::Dead, _) => CheckState::Error,
            (JobState::Done, Some(_)) => CheckState::Failure,
        };
        let name = format!("codeforge/{}", job.new.workflow);
        let url = job.url.as_deref().or(page);
        let check = Check { commit, name: &name, state, words: &words, url, summary: None, annotations: &[] };
        match self.forge.set_check(&check).await {
            Err(ForgeError::Refused { .. } | ForgeError::Unsupported(_) | ForgeError::NotFound { .. }) => Ok(()),
            done => done.map(|_| ()),
        }
    }
}

/// Whether the forge refuses it for good: to ask again would not help.
pub(super) fn for_good<T>(shown: &Result<T, DeskError>) -> bool {
    matches!(
        shown,
        Err(DeskError::Forge(
            ForgeError::Refused { .. }
                | ForgeError::NotFound { .. }
                | ForgeError::Unsupported(_)
                | ForgeError::Contract { .. }
        ))
    )
}

/// The commit that a job's check stands at.
fn head(job: &Job) -> Option<&str> {
    job.new.event.change.as_ref()?.head.sha.as_deref()
}

/// What is shown of a job, as its note has it: state, attempts, step.
fn said(job: &Job, step: Option<&str>) -> String {
    let state = serde_json::to_value(job.state).unwrap_or_default();
    format!("{} {} {}", state.as_str().unwrap_or_default(), job.attempts, step.unwrap_or_default())
}
