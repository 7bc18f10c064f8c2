//! Commands in comments that the server itself answers, and jobs that wait for a yes.
//!
//! The intake asks a [`Desk`] for one repository: [`Desk::comment`] for each comment, [`Desk::price`] for each job
//! before it is made, [`Desk::pushed`] for each push to a change, [`Desk::announce`] for jobs that were made, and
//! [`Desk::tend`] now and then. The database says who approved what; comments only show it. Each answer is one comment
//! for a command and a change, brought up to date in place.

mod approval;
mod explain;
mod help;
mod jobs;
mod price;

pub use help::{offers, settings};

use crate::model::chat::ModelRef;
use crate::model::event::{CommandText, Event};
use crate::model::forge::Access;
use crate::model::id::short_hash;
use crate::model::job::{Job, NewJob, Priority, Served};
use crate::port::forge::{CommentAt, Forge, ForgeError, Sticky, Thread};
use crate::port::inbox::InboxError;
use crate::port::queue::{Most, Queue, Which};
use crate::port::store::{Store, StoreError};
use crate::report::ci::answers;
use crate::server::progress;
use crate::trigger::{self, Arguments, Builtin, Decision, Facts, Meant, Start};
use crate::workflow::schema::{ANSWERS_PER_HOUR, Library};
use std::collections::BTreeMap;
use tokio::sync::Mutex;

/// Jobs of a change or an issue, or of a repository where they wait for a yes, that are looked at.
const JOBS: u32 = 500;
/// An hour, in milliseconds.
const HOUR_MS: i64 = 3_600_000;

/// Where a repository's commands are answered.
pub struct Desk<'a> {
    /// The trusted configuration.
    pub library: &'a Library,
    /// The forge.
    pub forge: &'a dyn Forge,
    /// Jobs.
    pub queue: &'a dyn Queue,
    /// The runs' journals, where they can be read.
    pub store: Option<&'a dyn Store>,
    /// The repository.
    pub repository: &'a Served,
    /// What commands begin with (`/codeforge`).
    pub phrase: &'a str,
    /// People whom the operator lets give commands, whatever the forge says; not on forks.
    pub allow_users: &'a [String],
    /// Accounts that we act as.
    pub ours: &'a [String],
    /// Why nothing runs here: the configuration has errors. What needs none of it is answered all the same.
    pub broken: Option<&'a str>,
    /// Models that the environment names.
    pub models: &'a [ModelRef],
    /// Now, in milliseconds since 1970.
    pub now_ms: i64,
    /// What the forge answered about people, asked once.
    pub asked: Mutex<BTreeMap<String, Access>>,
}

/// What came of a comment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answered {
    /// Jobs that it makes, beside those of workflows' own commands.
    pub jobs: Vec<NewJob>,
    /// What was decided, in sentences, for the log.
    pub notes: Vec<String>,
    /// The comment whose commands were heard: who gave them is to see that ([`Desk::acknowledge`]).
    pub heard: Option<CommentAt>,
}

/// What a command could not be answered for.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The database.
    #[error(transparent)]
    Database(#[from] InboxError),
    /// The forge.
    #[error(transparent)]
    Forge(#[from] ForgeError),
    /// The journals.
    #[error(transparent)]
    Journal(#[from] StoreError),
}

/// What a command says and does.
#[derive(Debug, Default)]
struct Reply {
    /// The comment's body; `None`: nothing is said.
    body: Option<String>,
    /// Whether whoever gave it may: only then it is acknowledged.
    may: bool,
    /// Jobs that it makes.
    jobs: Vec<NewJob>,
    /// For the log.
    note: String,
}

impl Reply {
    fn said(head: &str, said: Vec<String>) -> Self {
        let note = format!("{head}: {}", said.join(" "));
        Self { body: Some(answers::answer(head, &said)), may: true, jobs: Vec::new(), note }
    }
}

/// A command, who gave it, and where.
struct Given<'a> {
    event: &'a Event,
    actor: &'a str,
    command: &'a CommandText,
    /// What keys know the comment by.
    comment: String,
    fork: bool,
}

impl Given<'_> {
    /// What tells it from other commands of the repository: its comment, and what it says.
    fn name(&self) -> String {
        format!("{}/{}", self.comment, short_hash(format!("{:?}", self.command).as_bytes(), 16))
    }
}

/// The thread that an event is about.
pub fn thread(event: &Event) -> Option<Thread> {
    match (&event.change, &event.issue) {
        (Some(change), _) => Some(Thread::Change(change.number)),
        (None, Some(issue)) => Some(Thread::Issue(issue.number)),
        (None, None) => None,
    }
}

/// The jobs of a thread.
pub(super) fn of_thread(repository: &Served, thread: Thread) -> Which {
    let (change, issue) = match thread {
        Thread::Change(number) => (Some(number), None),
        Thread::Issue(number) => (None, Some(number)),
    };
    Which { repository: Some(repository.clone()), change, issue, ..Which::default() }
}

/// Whether the head of the event's change is of another repository, or nobody knows.
pub fn is_fork(event: &Event) -> bool {
    event.change.as_ref().is_some_and(crate::model::event::Change::is_fork)
}

impl Desk<'_> {
    /// Answers the commands of a comment that are the server's to answer.
    ///
    /// # Errors
    /// [`DeskError`]: asked again, it does nothing twice.
    pub async fn comment(&self, event: &Event) -> Result<Answered, DeskError> {
        let mut answered = Answered::default();
        let (Some(comment), Some(thread)) = (&event.comment, thread(event)) else { return Ok(answered) };
        let fork = is_fork(event);
        let facts = Facts {
            phrase: self.phrase,
            allow_users: self.allow_users,
            ours: self.ours,
            changed: None,
            fork,
            now_ms: self.now_ms,
        };
        let given = match trigger::commands_of(self.library, event, &facts) {
            Ok(given) => given,
            Err(why) => {
                answered.notes.push(why);
                return Ok(answered);
            }
        };
        let actor = event.actor.as_deref().unwrap_or_default();
        for (command, meant) in &given {
            let given = Given { event, actor, command, comment: comment.known_by(), fork };
            let reply = self.reply(&given, meant, &facts).await?;
            if reply.may {
                answered.heard = Some(CommentAt { thread, kind: comment.kind, id: comment.id });
            }
            answered.jobs.extend(reply.jobs);
            if !reply.note.is_empty() {
                answered.notes.push(reply.note);
            }
            let Some(body) = reply.body else { continue };
            if !self.may_answer(given.actor, &given.name()).await? {
                answered.notes.push(format!("`{actor}` had as many answers as one person gets in an hour"));
                continue;
            }
            let key = match meant {
                Meant::Unknown(_) => "command/unknown".to_owned(),
                Meant::Builtin(_) | Meant::Workflow => format!("command/{}", command.name),
            };
            self.forge.stick(&Sticky { thread, key: &key, body: &body, memory: None }).await?;
        }
        Ok(answered)
    }

    /// Shows that a comment was heard. It is a courtesy: no work waits for it.
    ///
    /// # Errors
    /// [`DeskError::Forge`].
    pub async fn acknowledge(&self, comment: CommentAt) -> Result<(), DeskError> {
        Ok(self.forge.react(comment, "eyes").await?)
    }

    async fn reply(&self, given: &Given<'_>, meant: &Meant, facts: &Facts<'_>) -> Result<Reply, DeskError> {
        let name = given.command.name.as_str();
        let works_on = |it: &Meant| {
            let needs = [Builtin::Retry, Builtin::Approve].map(Meant::Builtin);
            name.is_empty() || matches!(it, Meant::Builtin(_)) && !needs.contains(it)
        };
        if let Some(why) = self.broken.filter(|_| !works_on(meant)) {
            return Ok(self.refused(given, &format!("{why}; mend it, then give the command anew")).await);
        }
        let builtin = match meant {
            Meant::Builtin(builtin) => *builtin,
            Meant::Unknown(nearest) => {
                // Strangers get no answer to what is no command.
                if !self.reaches(given.actor, Access::Triage, given.fork).await {
                    return Ok(Reply { note: format!("no command `{name}`"), ..Reply::default() });
                }
                let body = answers::unknown(name, nearest.as_deref(), self.phrase);
                let note = format!("no command `{name}`: answered");
                return Ok(Reply { body: Some(body), may: false, jobs: Vec::new(), note });
            }
            Meant::Workflow => return Ok(self.of_workflow(given, facts).await),
        };
        let arguments = match Arguments::of(given.command) {
            Ok(arguments) => arguments,
            Err(why) => return Ok(self.refused(given, &why).await),
        };
        match builtin {
            Builtin::Help => self.help(given).await,
            Builtin::Status => self.status(given).await,
            Builtin::Cancel => self.cancel(given, &arguments).await,
            Builtin::Retry => self.retry(given, &arguments).await,
            Builtin::Approve => self.approve(given, &arguments).await,
            Builtin::Deny => self.deny(given, &arguments).await,
            Builtin::Explain => self.explain(given, &arguments).await,
        }
    }

    /// A workflow's own command: the intake makes its job; here it is acknowledged, or what is wrong with it is said.
    async fn of_workflow(&self, given: &Given<'_>, facts: &Facts<'_>) -> Reply {
        // This line alone: others of the comment have answers of their own.
        let alone = Event { command: Some(given.command.clone()), ..given.event.clone() };
        let decided = trigger::decide(self.library, &alone, facts);
        let name = given.command.name.as_str();
        let waits = |workflow: &str| {
            let on = self.library.workflows.get(workflow).and_then(|it| it.doc.on.as_ref());
            on.and_then(|on| on.command.as_ref()).is_some_and(|command| command.name.0 == name)
        };
        let mut reply = Reply::default();
        for (_, decision) in decided.iter().filter(|(workflow, _)| waits(workflow)) {
            match decision {
                Decision::Run(start) => {
                    reply.may |= match &start.access {
                        None => true,
                        Some(needs) => self.reaches(&needs.user, needs.access.wanted(), given.fork).await,
                    };
                    if !reply.may {
                        reply.note = format!("`{}` may not give the command `{name}`", given.actor);
                    }
                }
                Decision::Refuse(why) => return self.refused(given, why).await,
                Decision::Skip(_) | Decision::NeedsChangedPaths => {}
            }
        }
        reply
    }

    /// A command that cannot be carried out as it was given: said to people of the repository.
    async fn refused(&self, given: &Given<'_>, why: &str) -> Reply {
        let note = format!("`{}` was not carried out: {why}", given.command.name);
        if !self.reaches(given.actor, Access::Triage, given.fork).await {
            return Reply { note, ..Reply::default() };
        }
        let head = format!("{} was not carried out", prose(&given.command.name));
        Reply { note, may: false, ..Reply::said(&head, vec![prose(why)]) }
    }

    /// Says to whoever gave a workflow's command why its job was not made.
    ///
    /// # Errors
    /// [`DeskError`].
    pub async fn cannot(&self, event: &Event, start: &Start, why: &str) -> Result<(), DeskError> {
        let (Some(comment), Some(thread), Some(command)) = (&event.comment, thread(event), &start.given) else {
            return Ok(());
        };
        let actor = event.actor.as_deref().unwrap_or_default();
        let given = Given { event, actor, command, comment: comment.known_by(), fork: is_fork(event) };
        let reply = self.refused(&given, why).await;
        let Some(body) = reply.body else { return Ok(()) };
        if self.may_answer(given.actor, &given.name()).await? {
            let key = format!("command/{}", command.name);
            self.forge.stick(&Sticky { thread, key: &key, body: &body, memory: None }).await?;
        }
        Ok(())
    }

    /// Says to whoever asked for a job that it was dropped, and for which one. What was said is not said again.
    ///
    /// # Errors
    /// [`DeskError`].
    pub async fn skipped(&self, job: &Job) -> Result<(), DeskError> {
        let (Some(other), Some(thread)) = (job.skipped_for(), thread(&job.new.event)) else { return Ok(()) };
        let actor = job.new.actor.as_deref().unwrap_or_default();
        // What started by itself keeps nobody waiting for a word.
        if job.new.priority == Priority::Command && !self.progress().is_kept(job).await? {
            let key = match &job.new.event.command {
                Some(command) if !jobs::is_retry(job) => format!("command/{}", command.name),
                _ => "command/retry".to_owned(),
            };
            let at_work = match self.job(other).await? {
                Some(other) if !other.state.is_over() => format!(" ({})", answers::standing(&other).1),
                _ => String::new(),
            };
            let line = format!(
                "{} {} does not run: job {}{at_work} of its group is under way. Once that one is over, give the command anew.",
                code(&job.new.workflow),
                code(&job.id),
                code(other)
            );
            let body = answers::answer("not begun", &[line]);
            if self.may_answer(actor, &format!("skipped/{}", job.id)).await? {
                let sticky = Sticky { thread, key: &key, body: &body, memory: None };
                let said = self.forge.stick(&sticky).await.map_err(DeskError::from);
                if !progress::for_good(&said) {
                    said?;
                }
            }
        }
        self.progress().keep(job, None).await
    }

    /// What somebody may do here, as the forge says; asked once.
    pub async fn access(&self, user: &str) -> Access {
        let mut asked = self.asked.lock().await;
        if let Some(access) = asked.get(user) {
            return *access;
        }
        let access = if user.is_empty() { Access::None } else { self.forge.access_of(user).await };
        asked.insert(user.to_owned(), access);
        access
    }

    /// Whether somebody may do what takes `wanted`. Whom the operator lets give commands may write, but not for forks.
    pub async fn reaches(&self, user: &str, wanted: Access, fork: bool) -> bool {
        let allowed = !fork && self.allow_users.iter().any(|name| name.eq_ignore_ascii_case(user));
        (allowed && Access::Write.reaches(wanted)) || self.access(user).await.reaches(wanted)
    }

    /// The jobs of the thread that an event is about, newest first.
    async fn here(&self, event: &Event) -> Result<Vec<Job>, DeskError> {
        let Some(thread) = thread(event) else { return Ok(Vec::new()) };
        let mut jobs = self.queue.jobs(&Which { most: JOBS, ..of_thread(self.repository, thread) }).await?;
        jobs.sort_by_key(|job| std::cmp::Reverse((job.created_ms, job.id.clone())));
        Ok(jobs)
    }

    /// The note of the jobs that a command was found to be about.
    fn about(&self, given: &Given<'_>) -> String {
        let Served { host, name, .. } = self.repository;
        format!("about/{host}/{name}/{}", given.name())
    }

    /// Of these jobs those that a command was found to be about before. Whoever is killed between what a command does
    /// and the mark that it was done decides it once more: it is about the same jobs then, and says the same.
    async fn found_before(&self, given: &Given<'_>, jobs: &[Job]) -> Result<Option<Vec<Job>>, DeskError> {
        let Some(ids) = self.queue.note(&self.about(given)).await? else { return Ok(None) };
        let known = |job: &&Job| ids.split(' ').any(|id| id == job.id);
        Ok(Some(jobs.iter().filter(known).cloned().collect()))
    }

    /// Keeps which jobs a command is about, before anything is done to them.
    async fn found(&self, given: &Given<'_>, jobs: &[Job]) -> Result<(), DeskError> {
        let ids: Vec<&str> = jobs.iter().map(|job| job.id.as_str()).collect();
        Ok(self.queue.keep_note(&self.about(given), &ids.join(" ")).await?)
    }

    /// A job by its whole id.
    async fn job(&self, id: &str) -> Result<Option<Job>, DeskError> {
        let which = Which { id: Some(id.to_owned()), most: 2, ..Which::default() };
        Ok(self.queue.jobs(&which).await?.into_iter().find(|job| job.id == id))
    }

    /// What the workflow of a job asks of whoever starts it; write, where it does not say.
    fn asks(&self, job: &Job) -> Access {
        let on = self.library.workflows.get(&job.new.workflow).and_then(|workflow| workflow.doc.on.as_ref());
        on.and_then(|on| on.command.as_ref()).map_or(Access::Write, |command| command.access.wanted())
    }

    /// Counts an answer to somebody, once for the same `what`; false: they had as many as one person gets in an hour.
    async fn may_answer(&self, actor: &str, what: &str) -> Result<bool, DeskError> {
        let most = self.library.config.comments.as_ref().and_then(|comments| comments.answers_per_hour);
        let most = Most { of: most.unwrap_or(ANSWERS_PER_HOUR), within_ms: HOUR_MS };
        let Served { host, name, .. } = self.repository;
        let name = format!("answers/{host}/{name}/{}", actor.to_lowercase());
        Ok(self.queue.count_one(&name, what, most, self.now_ms).await?)
    }
}

/// Words of others in an answer.
fn prose(text: &str) -> String {
    crate::report::ci::markdown::prose(text, 400)
}

/// A name or an id in an answer.
fn code(text: &str) -> String {
    crate::report::ci::markdown::code(text, 100)
}

/// The first digits of a commit.
fn short(commit: &str) -> String {
    commit.chars().take(10).collect()
}

fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// Whether a job's id is the one that was named, or begins so.
fn is_named(job: &Job, id: Option<&str>) -> bool {
    id.is_none_or(|id| job.id.starts_with(id))
}
