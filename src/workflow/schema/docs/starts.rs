//! What starts a workflow, as written.

use crate::workflow::schema::kinds::{Cron, Glob, Name, OneOrMany, Span, Timezone};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What starts a workflow.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OnDoc {
    /// A comment that begins with `/codeforge NAME`.
    #[serde(default)]
    pub command: Option<CommandDoc>,
    /// An issue was opened, labelled, …
    #[serde(default)]
    pub issues: Option<ForgeEventDoc>,
    /// A comment on an issue or a change.
    #[serde(default)]
    pub issue_comment: Option<ForgeEventDoc>,
    /// A pull or merge request was opened, updated, …
    #[serde(default)]
    pub pull_request: Option<ForgeEventDoc>,
    /// Commits were pushed.
    #[serde(default)]
    pub push: Option<ForgeEventDoc>,
    /// At times.
    #[serde(default)]
    pub schedule: Vec<ScheduleDoc>,
    /// A call of `POST /api/v1/hooks/EVENT`.
    #[serde(default)]
    pub webhook: Option<WebhookDoc>,
    /// A merge queue asks for checks.
    #[serde(default)]
    pub merge_group: Option<NothingDoc>,
    /// By hand: command line, API, the forge's button.
    #[serde(default)]
    pub workflow_dispatch: Option<NothingDoc>,
}

/// Nothing to set.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NothingDoc {}

/// A comment command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandDoc {
    /// The word after `/codeforge`.
    pub name: Name,
    /// What the commenter must be allowed to do in the repository.
    #[serde(default)]
    pub access: Access,
    /// What a comment may set for one run, in place of the configuration's `comments.settings`.
    #[serde(default)]
    pub settings: Option<crate::workflow::schema::RunSettingsDoc>,
}

/// Access to a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// May read.
    Read,
    /// May sort issues.
    Triage,
    /// May push.
    #[default]
    Write,
    /// May do anything.
    Admin,
}

impl Access {
    /// As forges answer.
    pub fn wanted(self) -> crate::model::forge::Access {
        use crate::model::forge::Access as A;
        match self {
            Self::Read => A::Read,
            Self::Triage => A::Triage,
            Self::Write => A::Write,
            Self::Admin => A::Admin,
        }
    }

    /// As documents write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Triage => "triage",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

/// Which of a forge's events count. A key that is absent lets all pass.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgeEventDoc {
    /// Actions: `opened`, `labeled`, `synchronize`, …
    #[serde(default)]
    pub types: OneOrMany<String>,
    /// One of these labels.
    #[serde(default)]
    pub labels: OneOrMany<String>,
    /// A changed file matches one of these.
    #[serde(default)]
    pub paths: OneOrMany<Glob>,
    /// The (target) branch matches one of these.
    #[serde(default)]
    pub branches: OneOrMany<Glob>,
    /// The tag matches one of these.
    #[serde(default)]
    pub tags: OneOrMany<Glob>,
    /// What whoever did it must be allowed in the repository, as the forge answers. Default: `write` for `issues` and
    /// `issue_comment`, which anybody can bring about; nobody is asked for the others.
    #[serde(default)]
    pub access: Option<EventAccess>,
}

/// Whose events count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EventAccess {
    /// Everybody's: also what strangers write starts the workflow.
    Anyone,
    /// Of whoever may read.
    Read,
    /// Of whoever may sort issues.
    Triage,
    /// Of whoever may push.
    Write,
    /// Of whoever may do anything.
    Admin,
}

impl EventAccess {
    /// What the forge is asked for; `None`: nothing.
    pub fn asked(self) -> Option<Access> {
        Some(match self {
            Self::Anyone => return None,
            Self::Read => Access::Read,
            Self::Triage => Access::Triage,
            Self::Write => Access::Write,
            Self::Admin => Access::Admin,
        })
    }
}

/// A time table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleDoc {
    /// Five fields: minute, hour, day of month, month, weekday.
    pub cron: Cron,
    /// The time zone of the fields. Default: UTC.
    #[serde(default)]
    pub timezone: Option<Timezone>,
    /// How much later than it was due a run may begin, so that not all begin at once: each repository and workflow has
    /// its own place in that time. Counts for `codeforge serve`.
    #[serde(default)]
    pub jitter: Option<Span>,
    /// What becomes of times that passed while nobody was there. Counts for `codeforge serve`.
    #[serde(default)]
    pub missed: Missed,
}

/// What becomes of times that passed while nobody was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Missed {
    /// Nothing.
    Skip,
    /// One run for all of them.
    #[default]
    Once,
    /// A run for each, up to a hundred.
    All,
}

/// A webhook of our own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookDoc {
    /// The last part of its address.
    pub event: Name,
}
