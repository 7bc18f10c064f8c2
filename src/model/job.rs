//! What `codeforge serve` keeps: deliveries that came in, and the jobs that come of them.

use super::event::Event;
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
    /// Unique: the same event makes one job ([`crate::trigger::key`]; for schedules with the due instant).
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

impl Job {
    /// Its run, after it was put back so often.
    pub fn run(&self, rounds: u32) -> RunId {
        RunId(self.id.clone()).round(rounds)
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
