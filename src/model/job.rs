//! What `codeforge serve` keeps: deliveries that came in, and the jobs that come of them.

use super::event::{Event, EventKind};
use super::forge::{Access, ForgeKind};
use super::id::RunId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Where a delivery came from: `github`, `gitlab`, `gitea`, `hook:deploy`, or `sweep` for what no webhook told.
pub type Source = String;

impl Delivery {
    /// What [`Delivery::hash`] holds: 64 hex digits.
    pub fn hash_of(body: &[u8]) -> String {
        Sha256::digest(body).iter().fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a text cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// A webhook as it came, its signature checked, not parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Where it came from.
    pub source: Source,
    /// The sender's id for it. The signature does not cover it.
    pub id: String,
    /// SHA-256 of `body`, 64 hex digits: what tells a replay under another id, or under another event's name, which no
    /// signature covers either.
    pub hash: String,
    /// The event's name, from the header (`issue_comment`, `Note Hook`).
    pub event: String,
    /// The repository as `serve.yml` names it, where the address or the body's signature says which.
    pub repository: Option<String>,
    /// The API's host of that repository, so that two installations of one forge do not meet; `None`: nobody knows.
    pub host: Option<String>,
    /// The raw body.
    pub body: Vec<u8>,
    /// When it came, in milliseconds since 1970.
    pub at_ms: i64,
}

/// A repository that is served: its forge and its name there (`github:acme/widgets`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Served {
    /// The forge.
    pub forge: ForgeKind,
    /// The API's host, so that two installations do not meet.
    pub host: String,
    /// `owner/name`.
    pub name: String,
}

/// What a job is for, which decides who goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// A person waits for it.
    Command,
    /// A change.
    Change,
    /// A push, a label, a hook.
    Event,
    /// A time table.
    Schedule,
}

/// What happens where another job of the group is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// The new one waits; of several that wait the newest stays.
    #[default]
    Queue,
    /// The one under way is cancelled.
    Cancel,
    /// The new one is dropped.
    Skip,
    /// All wait, and go in the order in which they came.
    Line,
}

/// A job that is to be made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewJob {
    /// The repository.
    pub repository: Served,
    /// The workflow.
    pub workflow: String,
    /// What happened; commits are pinned in it.
    pub event: Event,
    /// Unique: the same event makes one job ([`crate::trigger::key`]; for schedules with the due instant). Where another
    /// event has it, the older job may give it up ([`Job::gives_way_to`]).
    pub key: String,
    /// Who asked for it, as the forge knows them.
    pub actor: Option<String>,
    /// Jobs of one group run one at a time; `None`: it has none.
    pub group: Option<String>,
    /// What happens where the group is taken.
    pub on_conflict: OnConflict,
    /// Who goes first.
    pub priority: Priority,
    /// Not before this instant, in milliseconds since 1970.
    pub due_ms: i64,
    /// Settings for this run alone (`policy`, `model`, `max_cost_usd`), which the trusted configuration allows.
    pub settings: BTreeMap<String, String>,
    /// It waits for somebody's yes first.
    pub approval: Option<NeedsApproval>,
}

/// What must be approved before a job may go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeedsApproval {
    /// The price that was named, in dollars, as text (`1.20`): what is approved is no more than that.
    pub max_cost_usd: Option<String>,
    /// The full commit id that was looked at.
    pub commit: String,
    /// What whoever approves must be allowed.
    pub access: Access,
    /// Somebody other than who asked.
    pub independent: bool,
    /// Who asked for it beside the job's actor: for the job that it repeats. None of them is somebody other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asked: Vec<String>,
}

/// What somebody answered to a job that waits for a yes: kept, also where it did not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// Who.
    pub by: String,
    /// What became of it.
    pub verdict: Verdict,
    /// The price that was named with it or held for it, in dollars, as text.
    pub max_cost_usd: Option<String>,
    /// The full commit id that the price was named for.
    pub commit: Option<String>,
    /// Why it did not count.
    pub note: Option<String>,
}

/// What became of an answer to a job that waits for a yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A yes that counts.
    Approved,
    /// A no.
    Denied,
    /// It did not count.
    Refused,
}

impl Verdict {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Refused => "refused",
        }
    }
}

/// What somebody said yes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approved {
    /// Who.
    pub by: String,
    /// The full commit id that was looked at: nothing else is run.
    pub commit: String,
    /// The price, in dollars, as text: the run's budget.
    pub max_cost_usd: Option<String>,
    /// The price that was named, in dollars, as text: no more than that could be said yes to.
    #[serde(default)]
    pub named_usd: Option<String>,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It waits for somebody's yes.
    Asked,
    /// It may go when its time and its turn have come.
    Waiting,
    /// A worker has it.
    Running,
    /// It ended by itself; `conclusion` says how.
    Done,
    /// Somebody or something ended it; `note` says who or what, and why.
    Cancelled,
    /// It failed too often; it can be put back.
    Dead,
}

/// Two events of a kind within this time are one, in milliseconds: forges count seconds, and say of one event not quite the
/// same time in a webhook and in a list.
const SAME_MS: i64 = 1000;

/// How the note of a job begins that was dropped at once because another one of its group was under way; that one's id
/// follows.
pub const SKIPPED: &str = "skipped: job ";

impl Job {
    /// The job that was under way when this one was dropped for it.
    pub fn skipped_for(&self) -> Option<&str> {
        let note = self.note.as_deref().filter(|_| self.state == JobState::Cancelled)?;
        note.strip_prefix(SKIPPED)?.split(' ').next()
    }

    /// Whether an event with this job's key is another one than the job's own, and makes a job once more: a label is set
    /// again, a branch is pushed back to where it was. What a webhook and the sweep tell both is one event, and so is what
    /// is told again later. `before`: jobs that gave up this key for others.
    pub fn gives_way_to(&self, event: &Event, before: &[Self]) -> bool {
        let own = &self.new.event;
        let times = own.at_ms.zip(event.at_ms);
        let later = times.is_some_and(|(then, now)| now.saturating_sub(then) > SAME_MS);
        match event.kind {
            // What was done well for a commit is not done twice. What a person wants by opening a change again, or by
            // pushing the commit again, is what there is not. The sweep sees a head, and not what happened.
            EventKind::PullRequest | EventKind::MergeGroup if event.is_news() => {
                let well = matches!(self.conclusion.as_deref(), Some("success" | "skipped" | "neutral"));
                later && event.action.is_some() && self.state.is_over() && !well
            }
            EventKind::PullRequest | EventKind::Issues => later,
            // A command is given once; words are edited often.
            EventKind::IssueComment => later && event.command.is_none(),
            EventKind::Push if times.is_some() => later,
            // Where nobody says when, it came from somewhere else. Nobody pushed what the sweep found.
            EventKind::Push => {
                let from = |event: &Event| event.push.as_ref().and_then(|push| push.before.clone());
                let known = |job: &Self| from(&job.new.event) == from(event);
                own.actor.is_some() && event.actor.is_some() && !known(self) && !before.iter().any(known)
            }
            _ => false,
        }
    }

    /// Its run, after it was put back so often.
    pub fn run(&self, rounds: u32) -> RunId {
        RunId(self.id.clone()).round(rounds)
    }

    /// Whether it is about a change of a fork: its code must not run where a token is.
    pub fn is_of_fork(&self) -> bool {
        self.new.event.change.as_ref().is_some_and(super::event::Change::is_fork)
    }

    /// What somebody said yes to, where it waited for that.
    pub fn approved(&self) -> Option<Approved> {
        let approval = self.new.approval.as_ref()?;
        let named_usd = approval.max_cost_usd.clone();
        let max_cost_usd = self.approved_usd.clone().or_else(|| named_usd.clone());
        Some(Approved { by: self.approved_by.clone()?, commit: approval.commit.clone(), max_cost_usd, named_usd })
    }
}

impl JobState {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Asked, Self::Waiting, Self::Running, Self::Done, Self::Cancelled, Self::Dead];

    /// Whether nothing more comes of it by itself.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Cancelled | Self::Dead)
    }
}

/// A job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its id: eight characters, easy to read aloud; also the id of its run.
    pub id: String,
    /// What it was made of.
    #[serde(flatten)]
    pub new: NewJob,
    /// Where it stands.
    pub state: JobState,
    /// How it ended (`success`, `failure`, `limit`, …), once it is done.
    pub conclusion: Option<String>,
    /// Why it is where it is, in a sentence.
    pub note: Option<String>,
    /// How often it was begun, since it was put back last.
    pub attempts: u32,
    /// How often it was put back once it was over: each time its run begins anew.
    #[serde(default)]
    pub rounds: u32,
    /// Who approved it.
    pub approved_by: Option<String>,
    /// At which price, in dollars, as text.
    #[serde(default)]
    pub approved_usd: Option<String>,
    /// What it cost so far, in dollars, as text.
    pub cost_usd: Option<String>,
    /// What it made: the address of the change or comment.
    pub url: Option<String>,
    /// The number of the delivery that it came of; `None`: of a time table, or a person on this machine.
    #[serde(default)]
    pub delivery: Option<i64>,
    /// The sender's id of that delivery, as long as it is kept.
    #[serde(default)]
    pub delivery_id: Option<String>,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: i64,
    /// When it changed last.
    pub updated_ms: i64,
}

/// A worker's hold on a job. Only the newest fence of a job is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The job.
    pub job: String,
    /// Grows with each lease of the job.
    pub fence: i64,
    /// Until when it holds, in milliseconds since 1970.
    pub until_ms: i64,
}

/// How a worker's hold on a job ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEnd {
    /// The run ended by itself.
    Done {
        /// How (`success`, `failure`, `limit`, `denied`, …).
        conclusion: String,
        /// What it cost, in dollars, as text.
        cost_usd: Option<String>,
        /// What it made.
        url: Option<String>,
        /// In a sentence.
        note: Option<String>,
    },
    /// It is tried again, not before this instant.
    Again {
        /// In milliseconds since 1970.
        due_ms: i64,
        /// Why.
        note: String,
    },
    /// It failed too often.
    Dead {
        /// Why.
        note: String,
    },
    /// It was cancelled.
    Cancelled {
        /// By whom or what, and why.
        note: String,
    },
    /// The server stops: it goes back as it was, its attempt is not counted.
    Back,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::{Comment, Issue, Push};

    fn job(event: Event) -> Job {
        let repository =
            Served { forge: ForgeKind::Github, host: "api.github.com".into(), name: "acme/widgets".into() };
        let new = NewJob {
            repository,
            workflow: "build".into(),
            event,
            key: "k".into(),
            actor: None,
            group: None,
            on_conflict: OnConflict::Queue,
            priority: Priority::Event,
            due_ms: 0,
            settings: BTreeMap::new(),
            approval: None,
        };
        Job {
            id: "abcd1234".into(),
            new,
            state: JobState::Running,
            conclusion: None,
            note: None,
            attempts: 1,
            rounds: 0,
            approved_by: None,
            approved_usd: None,
            cost_usd: None,
            url: None,
            created_ms: 0,
            updated_ms: 0,
            delivery: None,
            delivery_id: None,
        }
    }

    fn event(kind: EventKind, action: &str, at_ms: Option<i64>) -> Event {
        Event { kind, action: Some(action.to_owned()), actor: Some("ann".into()), at_ms, ..Event::default() }
    }

    #[test]
    fn a_label_that_is_set_again_is_another_event_and_one_that_is_told_again_is_not() {
        for kind in [EventKind::Issues, EventKind::PullRequest] {
            let labelled = |at_ms| Event {
                label: Some("agent".into()),
                issue: Some(Issue { number: 7, ..Issue::default() }),
                ..event(kind, "labeled", at_ms)
            };
            let known = job(labelled(Some(10_000)));
            // Told twice, told by a list that is a second off, told late, told by somebody who knows no time.
            for at_ms in [Some(10_000), Some(11_000), Some(9000), Some(0), None] {
                assert!(!known.gives_way_to(&labelled(at_ms), &[]), "{kind:?} {at_ms:?}");
            }
            assert!(known.gives_way_to(&labelled(Some(12_000)), &[]), "{kind:?}: it runs still, and is wanted again");
            assert!(!job(labelled(None)).gives_way_to(&labelled(Some(12_000)), &[]), "{kind:?}");
        }
        let said = |command: bool, at_ms| Event {
            comment: Some(Comment { id: 1, ..Comment::default() }),
            command: command.then(super::super::event::CommandText::default),
            ..event(EventKind::IssueComment, "edited", Some(at_ms))
        };
        assert!(job(said(false, 1)).gives_way_to(&said(false, 9000), &[]));
        assert!(!job(said(true, 1)).gives_way_to(&said(true, 9000), &[]), "a command is given once");
    }

    #[test]
    fn where_nobody_says_when_a_push_is_told_by_where_it_came_from() {
        let pushed = |before: &str, actor: Option<&str>| {
            let push = Push { before: Some(before.into()), ..Push::default() };
            Event { push: Some(push), actor: actor.map(str::to_owned), ..event(EventKind::Push, "", None) }
        };
        let ann = Some("ann");
        let known = job(pushed("b", ann));
        let before = [job(pushed("x", ann))];
        for (from, actor) in [("b", ann), ("x", ann), ("y", None)] {
            assert!(!known.gives_way_to(&pushed(from, actor), &before), "{from} {actor:?}");
        }
        assert!(known.gives_way_to(&pushed("c", ann), &before));
        assert!(!job(pushed("b", None)).gives_way_to(&pushed("c", ann), &[]), "what the sweep found");
    }
}
