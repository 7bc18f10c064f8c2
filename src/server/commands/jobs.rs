//! `status`, `cancel`, `retry`.

use super::{Desk, DeskError, Given, Reply, code, is_named, prose, same, short};
use crate::model::event::Event;
use crate::model::forge::Access;
use crate::model::job::{Job, JobState, NewJob, Priority};
use crate::port::forge::ChangeState;
use crate::port::queue::Which;
use crate::report::ci::answers;
use crate::trigger::Arguments;

/// What tells the retries of a job from the job.
const RETRY: &str = "+retry-";

/// Whether a job repeats another one.
pub(super) fn is_retry(job: &Job) -> bool {
    job.new.key.contains(RETRY)
}

impl Desk<'_> {
    pub(super) async fn status(&self, given: &Given<'_>) -> Result<Reply, DeskError> {
        if !self.reaches(given.actor, Access::Read, given.fork).await {
            return Ok(Reply { note: format!("`{}` may not read here", given.actor), ..Reply::default() });
        }
        let body = answers::status(&self.here(given.event).await?, self.phrase);
        Ok(Reply { body: Some(body), may: true, jobs: Vec::new(), note: "status".to_owned() })
    }

    pub(super) async fn cancel(&self, given: &Given<'_>, arguments: &Arguments) -> Result<Reply, DeskError> {
        let id = arguments.id.as_deref();
        let mut jobs = self.here(given.event).await?;
        jobs.retain(|job| is_named(job, id));
        let (going, over): (Vec<Job>, Vec<Job>) = match self.found_before(given, &jobs).await? {
            Some(before) => (before, Vec::new()),
            None => jobs.into_iter().partition(|job| !job.state.is_over()),
        };
        if !going.is_empty() {
            self.found(given, &going).await?;
        }
        let mut said = Vec::new();
        for job in &going {
            let own = job.new.actor.as_deref().is_some_and(|asked| same(asked, given.actor));
            if !own && !self.reaches(given.actor, self.asks(job).max(Access::Triage), given.fork).await {
                continue;
            }
            let note = format!("cancelled by {}", given.actor);
            let which = Which { id: Some(job.id.clone()), most: 1, ..Which::default() };
            self.queue.cancel(&which, &note, self.now_ms).await?;
            if let Some(job) = self.job(&job.id).await?.filter(|job| job.state.is_over()) {
                self.progress().show(&job, None).await?;
            }
            let became = match job.state {
                JobState::Running => "is cancelled: it was running and stops now",
                JobState::Asked => "is cancelled: it waited for a yes",
                JobState::Waiting => "is cancelled: it had not begun",
                JobState::Cancelled => "is cancelled",
                JobState::Done | JobState::Dead => "was over before it could be cancelled",
            };
            said.push(format!("{} {} {became}.", code(&job.new.workflow), code(&job.id)));
        }
        if !said.is_empty() {
            return Ok(Reply::said("cancelled", said));
        }
        if !going.is_empty() {
            return Ok(self.refused(given, "that takes write access, or to be who asked for the job").await);
        }
        if !self.reaches(given.actor, Access::Triage, given.fork).await {
            return Ok(Reply { note: "nothing to cancel".to_owned(), ..Reply::default() });
        }
        // Asked a second time it says what there is to say, and no more.
        let line = match (id, over.first()) {
            (Some(_), Some(job)) => {
                let note = job.note.as_deref().map(|note| format!(": {}", prose(note))).unwrap_or_default();
                format!("{} is over already, {}{note}.", code(&job.id), answers::standing(job).1)
            }
            (Some(id), None) => format!("No job here has an id that begins with {}.", code(id)),
            (None, _) => "Nothing runs or waits here.".to_owned(),
        };
        Ok(Reply::said("nothing to cancel", vec![line]))
    }

    pub(super) async fn retry(&self, given: &Given<'_>, arguments: &Arguments) -> Result<Reply, DeskError> {
        let id = arguments.id.as_deref();
        let jobs = self.here(given.event).await?;
        let mine = format!("{RETRY}{}", given.comment);
        let ended_badly = |job: &&Job| job.state.is_over() && job.conclusion.as_deref() != Some("success");
        let found = match id {
            Some(_) => jobs.iter().find(|job| is_named(job, id)),
            None => jobs.iter().find(ended_badly),
        };
        let Some(job) = found else {
            if !self.reaches(given.actor, Access::Triage, given.fork).await {
                return Ok(Reply { note: "nothing to retry".to_owned(), ..Reply::default() });
            }
            let line = match id {
                Some(id) => format!("No job here has an id that begins with {}.", code(id)),
                None => "No job here ended badly.".to_owned(),
            };
            return Ok(Reply::said("nothing to retry", vec![line]));
        };
        if !self.reaches(given.actor, self.asks(job), given.fork).await {
            return Ok(self.refused(given, "that takes the access that the workflow asks for").await);
        }
        if !job.state.is_over() {
            let line = format!("{} is not over: {}.", code(&job.id), answers::standing(job).1);
            return Ok(Reply::said("nothing to retry", vec![line]));
        }
        if let Some(change) = &job.new.event.change {
            let now = self.forge.change(change.number).await?;
            if now.state != ChangeState::Open {
                return Ok(Reply::said("not retried", vec!["The change is not open any more.".to_owned()]));
            }
            if now.change.head.sha != change.head.sha {
                let head = change.head.sha.as_deref().map(short).unwrap_or_default();
                let line = format!(
                    "{} was about {}, and the change was pushed to since. Give its command anew: it then works on what \
                     is there now.",
                    code(&job.id),
                    code(&head)
                );
                return Ok(Reply::said("not retried", vec![line]));
            }
        }
        let first = job.new.key.split(RETRY).next().unwrap_or_default();
        // Whoever wants it now is who asks, and whose budget pays.
        let event = Event { actor: Some(given.actor.to_owned()), actor_is_bot: false, ..job.new.event.clone() };
        let again = NewJob {
            key: format!("{first}{mine}"),
            event,
            actor: Some(given.actor.to_owned()),
            priority: Priority::Command,
            due_ms: self.now_ms,
            ..job.new.clone()
        };
        let mut again = match self.price(again).await? {
            Ok(again) => again,
            Err(why) => return Ok(self.refused(given, &why).await),
        };
        if let Some(approval) = &mut again.approval {
            // Whoever asked for it first is nobody other.
            let known =
                approval.asked.iter().any(|asked| job.new.actor.as_ref().is_some_and(|actor| same(asked, actor)));
            approval.asked.extend(job.new.actor.clone().filter(|_| !known));
        }
        let line = format!("{} {} runs once more.", code(&job.new.workflow), code(&job.id));
        Ok(Reply { jobs: vec![again], ..Reply::said("retried", vec![line]) })
    }
}
