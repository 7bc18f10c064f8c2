//! `approve` and `deny`, and what becomes of a price when the change is pushed to or nobody answers.
//!
//! A yes binds the full commit id and the price. The database holds it; no comment and no mark in one ever does.

use super::{Answered, Desk, DeskError, Given, Reply, code, is_fork, is_named, prose, same, short};
use crate::model::event::{Change, Event};
use crate::model::forge::Access;
use crate::model::job::{Answer, Job, JobState, NeedsApproval, NewJob, Verdict};
use crate::port::forge::{ChangeState, Sticky};
use crate::port::queue::Which;
use crate::report::ci::answers::{self, Asking, money};
use crate::server::progress::Progress;
use crate::trigger::Arguments;

impl Desk<'_> {
    /// The one job here that waits for a yes, or did when this was decided before; or what to say where there is not one.
    async fn asked_for(&self, given: &Given<'_>, arguments: &Arguments) -> Result<Result<Job, Reply>, DeskError> {
        let id = arguments.id.as_deref();
        let mut jobs = self.here(given.event).await?;
        if let Some(job) = self.found_before(given, &jobs).await?.and_then(|mut before| before.pop()) {
            return Ok(Ok(job));
        }
        jobs.retain(|job| is_named(job, id) && job.new.approval.is_some());
        let (mut asked, others): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(|job| job.state == JobState::Asked);
        let told = self.reaches(given.actor, Access::Triage, given.fork).await;
        let silent = |note: &str| Reply { note: note.to_owned(), ..Reply::default() };
        match (asked.len(), others.first()) {
            (1, _) => {
                self.found(given, &asked).await?;
                return Ok(asked.pop().ok_or_else(|| silent("nothing waits")));
            }
            _ if !told => return Ok(Err(silent("nothing waits for a yes of theirs"))),
            (0, Some(job)) if id.is_some() => {
                let by = job.approved_by.as_deref().map(|by| format!(" {} said yes.", prose(by))).unwrap_or_default();
                let line = format!("{} does not wait for a yes: {}.{by}", code(&job.id), answers::standing(job).1);
                return Ok(Err(Reply::said("nothing to approve", vec![line])));
            }
            (0, _) => {
                let line = match id {
                    Some(id) => format!("No job here that waits for a yes has an id that begins with {}.", code(id)),
                    None => "Nothing here waits for a yes.".to_owned(),
                };
                return Ok(Err(Reply::said("nothing to approve", vec![line])));
            }
            _ => {}
        }
        let ids: Vec<String> =
            asked.iter().map(|job| format!("{} {}", code(&job.id), code(&job.new.workflow))).collect();
        let line = format!("Several jobs wait for a yes; say which: {}.", ids.join(", "));
        Ok(Err(Reply::said("which one?", vec![line])))
    }

    pub(super) async fn approve(&self, given: &Given<'_>, arguments: &Arguments) -> Result<Reply, DeskError> {
        let job = match self.asked_for(given, arguments).await? {
            Ok(job) => job,
            Err(reply) => return Ok(reply),
        };
        let Some(approval) = job.new.approval.clone() else { return Ok(Reply::default()) };
        if !self.reaches(given.actor, approval.access, given.fork).await {
            let why = "to say yes takes write access, or what the workflow asks for";
            self.does_not_count(&job, given, arguments, why).await?;
            return Ok(self.refused(given, why).await);
        }
        if job.approved_by.as_deref().is_some_and(|by| same(by, given.actor)) {
            return Ok(approved(&job, &approval));
        }
        let refused = async |head: &str, line: String| {
            self.does_not_count(&job, given, arguments, &line).await?;
            Ok::<_, DeskError>(Reply::said(head, vec![line]))
        };
        if self.now_ms > self.until(&job) {
            let line = format!("{} was not approved in time. Give its command anew.", code(&job.id));
            let reply = refused("too late", line).await;
            self.end(&job, "nobody approved it in time").await?;
            return reply;
        }
        if let Some(change) = &job.new.event.change {
            let now = self.forge.change(change.number).await?;
            if now.state != ChangeState::Open {
                let reply = refused("not approved", "The change is not open any more.".to_owned()).await;
                self.end(&job, "the change is not open any more").await?;
                return reply;
            }
            if now.change.head.sha.as_deref() != Some(approval.commit.as_str()) {
                self.does_not_count(&job, given, arguments, "the change was pushed to after the price was named")
                    .await?;
                return self.void(&job, &approval, &now.change).await;
            }
        }
        let mut requesters = job.new.actor.iter().chain(&approval.asked);
        if approval.independent && requesters.any(|asked| same(asked, given.actor)) {
            let line = format!(
                "{} still waits: you asked for it, and this workflow takes the yes of somebody else.",
                code(&job.id)
            );
            return refused("pending", line).await;
        }
        let named = approval.max_cost_usd.as_deref().and_then(|text| text.parse::<f64>().ok());
        let price = match (arguments.max_usd, named) {
            (Some(max), Some(named)) if max > named => {
                let line = format!(
                    "{} was quoted at no more than {}: `max=` can lower that, not raise it.",
                    code(&job.id),
                    money(&format!("{named}"))
                );
                return refused("not approved", line).await;
            }
            (Some(max), _) => format!("{max:.4}"),
            (None, Some(_)) => approval.max_cost_usd.clone().unwrap_or_default(),
            (None, None) => {
                let line = format!("Nothing bounds the cost of {}: name a price with `max=USD`.", code(&job.id));
                return refused("not approved", line).await;
            }
        };
        let answer = self.answer(&job, given, Verdict::Approved, Some(price));
        let Some(job) = self.queue.answer(&job.id, &answer).await? else {
            let line = format!("{} does not wait for a yes any more.", code(&job.id));
            return Ok(Reply::said("nothing to approve", vec![line]));
        };
        self.progress().show(&job, None).await?;
        Ok(approved(&job, &approval))
    }

    pub(super) async fn deny(&self, given: &Given<'_>, arguments: &Arguments) -> Result<Reply, DeskError> {
        let job = match self.asked_for(given, arguments).await? {
            Ok(job) => job,
            Err(reply) => return Ok(reply),
        };
        let access = job.new.approval.as_ref().map_or(Access::Write, |approval| approval.access);
        let own = job.new.actor.as_deref().is_some_and(|asked| same(asked, given.actor));
        if !own && !self.reaches(given.actor, access, given.fork).await {
            let why = "to say no takes write access, or what the workflow asks for";
            self.does_not_count(&job, given, arguments, why).await?;
            return Ok(self.refused(given, why).await);
        }
        match job.state {
            JobState::Asked => {
                if let Some(job) = self.queue.answer(&job.id, &self.answer(&job, given, Verdict::Denied, None)).await? {
                    self.progress().show(&job, None).await?;
                }
            }
            JobState::Cancelled => {}
            JobState::Waiting | JobState::Running | JobState::Done | JobState::Dead => {
                let line = format!("{} does not wait for a yes any more.", code(&job.id));
                return Ok(Reply::said("nothing to deny", vec![line]));
            }
        }
        let line = format!("{} {} does not run.", code(&job.new.workflow), code(&job.id));
        Ok(Reply::said("denied", vec![line]))
    }

    /// What somebody answers now, as it is kept.
    fn answer(&self, job: &Job, given: &Given<'_>, verdict: Verdict, max_cost_usd: Option<String>) -> Answer {
        let commit = job.new.approval.as_ref().map(|approval| approval.commit.clone());
        Answer { at_ms: self.now_ms, by: given.actor.to_owned(), verdict, max_cost_usd, commit, note: None }
    }

    /// Keeps an answer that does not count, and why.
    async fn does_not_count(
        &self,
        job: &Job,
        given: &Given<'_>,
        arguments: &Arguments,
        why: &str,
    ) -> Result<(), DeskError> {
        let price = arguments.max_usd.map(|max| format!("{max:.4}"));
        let answer = self.answer(job, given, Verdict::Refused, price);
        let note = Some(format!("`{}`: {why}", given.command.name));
        self.queue.answer(&job.id, &Answer { note, ..answer }).await?;
        Ok(())
    }

    /// Ends a job that waits, and shows it.
    async fn end(&self, job: &Job, note: &str) -> Result<(), DeskError> {
        let which = Which { id: Some(job.id.clone()), most: 1, ..Which::default() };
        self.queue.cancel(&which, note, self.now_ms).await?;
        if let Some(job) = self.job(&job.id).await? {
            self.progress().show(&job, None).await?;
        }
        Ok(())
    }

    /// The change was pushed to after its price was named: the yes is void, and the price is named anew.
    async fn void(&self, job: &Job, approval: &NeedsApproval, now: &Change) -> Result<Reply, DeskError> {
        let (old, new) = (short(&approval.commit), now.head.sha.as_deref().map(short).unwrap_or_default());
        let note = format!("the change was pushed to ({new}) after the price was named for {old}: void");
        let mut line = format!(
            "{} was quoted for {}, and the change is at {} now: a yes to it is void.",
            code(&job.id),
            code(&old),
            code(&new)
        );
        let anew = self.anew(job, now).await?;
        match &anew {
            Ok(_) => line.push_str(" The price is named anew."),
            Err(why) => line.push_str(&format!(" {}", prose(why))),
        }
        self.end(job, &note).await?;
        Ok(Reply { jobs: anew.into_iter().collect(), ..Reply::said("void", vec![line]) })
    }

    /// The same job for the change as it is now, priced.
    async fn anew(&self, void: &Job, now: &Change) -> Result<Result<NewJob, String>, DeskError> {
        if now.is_fork() || is_fork(&void.new.event) {
            return Ok(Err(
                "A change of a fork is quoted for the commit that a command names: give it anew.".to_owned()
            ));
        }
        let mut job = void.new.clone();
        let first = job.key.split("+head-").next().unwrap_or_default();
        // A change may come back to a head that it had: what is priced then takes the place of another job.
        let head = now.head.sha.as_deref().map(short).unwrap_or_default();
        job.key = format!("{first}+head-{head}-{}", void.id);
        job.due_ms = self.now_ms;
        if let Some(change) = &mut job.event.change {
            // Its words stay as they were when it was asked for.
            (change.head, change.base, change.draft) = (now.head.clone(), now.base.clone(), now.draft);
        }
        self.price(job).await
    }

    /// A change was pushed to: prices that were named for what was there before are void, and named anew. To be called
    /// before jobs of the old head are cancelled.
    ///
    /// # Errors
    /// [`DeskError`]: asked again, it does nothing twice.
    pub async fn pushed(&self, event: &Event) -> Result<Answered, DeskError> {
        let mut answered = Answered::default();
        let Some(change) = event.change.as_ref().filter(|change| change.head.sha.is_some()) else {
            return Ok(answered);
        };
        for job in self.here(event).await? {
            let waits = matches!(job.state, JobState::Asked | JobState::Waiting);
            let Some(approval) = job.new.approval.clone().filter(|_| waits) else { continue };
            if change.head.sha.as_deref() == Some(approval.commit.as_str()) {
                continue;
            }
            let reply = self.void(&job, &approval, change).await?;
            answered.jobs.extend(reply.jobs);
            answered.notes.push(reply.note);
        }
        Ok(answered)
    }

    /// Shows jobs that were just made: those that wait for a yes with their price, files and plan, the others with how
    /// they stand.
    ///
    /// # Errors
    /// [`DeskError`].
    pub async fn announce(&self, ids: &[String]) -> Result<(), DeskError> {
        for id in ids {
            // One that a newer one of its group took the place of is over by now.
            if let Some(job) = self.job(id).await?.filter(|job| !job.state.is_over()) {
                self.announce_one(&job).await?;
            }
        }
        Ok(())
    }

    async fn announce_one(&self, job: &Job) -> Result<(), DeskError> {
        let told = format!("announced/{}", job.id);
        if job.state != JobState::Asked {
            return self.progress().show(job, None).await.map(|_| ());
        }
        if let Some(thread) = super::thread(&job.new.event) {
            let (plan, quote) = match self.quoted(&job.new).await? {
                Ok(quoted) => quoted,
                // It was quoted when it was made; the configuration has changed since.
                Err(why) => return self.end(job, &why).await,
            };
            let void = job.new.key.contains("+head-");
            let asking = Asking {
                job,
                plan: &plan,
                quote: &quote,
                until_ms: self.until(job),
                phrase: self.phrase,
                anew: void.then_some("The change was pushed to: the price before is void, and this is the new one."),
            };
            let shown = self.progress();
            let Some(floor) = shown.floor(job, thread).await? else {
                // Shown when the desk is tended.
                return Ok(());
            };
            if floor.job.state != JobState::Asked {
                return Ok(());
            }
            let before = shown.before(thread, &job.new.workflow).await?;
            let said = before.as_ref().map(|before| before.body.as_str());
            let body = answers::above(&answers::asking(&asking), said);
            let memory = before.as_ref().and_then(|before| before.memory.as_deref());
            let stuck = self.forge.stick(&Sticky { thread, key: &job.new.workflow, body: &body, memory }).await?;
            shown.check(job, None, stuck.comment.url.as_deref()).await?;
            shown.keep(job, None).await?;
        }
        Ok(self.queue.keep_note(&told, "yes").await?)
    }

    /// Ends what nobody approved in time, and shows what could not be shown when it was made. To be called now and then.
    ///
    /// # Errors
    /// [`DeskError`].
    pub async fn tend(&self) -> Result<(), DeskError> {
        let which = Which {
            repository: Some(self.repository.clone()),
            states: vec![JobState::Asked],
            most: super::JOBS,
            ..Which::default()
        };
        for job in self.queue.jobs(&which).await? {
            if self.now_ms > self.until(&job) {
                self.end(&job, "nobody approved it in time").await?;
            } else if self.queue.note(&format!("announced/{}", job.id)).await?.is_none() {
                self.announce_one(&job).await?;
            }
        }
        Ok(())
    }

    /// How jobs are shown.
    pub(super) fn progress(&self) -> Progress<'_> {
        Progress { forge: self.forge, queue: self.queue, phrase: self.phrase, now_ms: self.now_ms }
    }
}

/// What is said of a yes that counts: what the job does now.
fn approved(job: &Job, approval: &NeedsApproval) -> Reply {
    let (workflow, id) = (code(&job.new.workflow), code(&job.id));
    if job.state == JobState::Cancelled {
        let line = match (job.skipped_for(), &job.note) {
            (Some(other), _) => format!(
                "{workflow} {id} does not run: job {} of its group is under way. Once that one is over, give its command anew.",
                code(other)
            ),
            (None, note) => {
                let note = note.as_deref().map(|note| format!(": {}", prose(note))).unwrap_or_default();
                format!("{workflow} {id} does not run{note}.")
            }
        };
        return Reply::said("approved, but it does not run", vec![line]);
    }
    let most = job.approved().and_then(|approved| approved.max_cost_usd).unwrap_or_default();
    let commit = code(&short(&approval.commit));
    Reply::said("approved", vec![format!("{workflow} {id} runs on {commit} for at most {}.", money(&most))])
}
