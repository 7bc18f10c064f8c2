//! A job of a CI system, in the words of none: what `codeforge ci` knows before it loads anything.

use super::event::Event;
use super::forge::ForgeKind;
use super::id::RunId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Home {
    /// GitHub Actions, or what speaks its language.
    Github,
    /// GitLab CI.
    Gitlab,
    /// A container without a forge around it: Kubernetes, cron, another CI system.
    Container,
}

impl Home {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Github => "GitHub",
            Self::Gitlab => "GitLab",
            Self::Container => "a plain container",
        }
    }
}

/// What a server says of a job that it runs: what an event does not say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedJob {
    /// The job's id, which is its run's too: a later attempt goes on where the run's journal ends.
    pub id: String,
    /// The forge.
    pub forge: ForgeKind,
    /// Its API's address.
    pub api_url: String,
    /// Where git fetches the repository from, without a name or a password.
    pub git_url: String,
    /// `owner/name`.
    pub repository: String,
    /// The branch whose configuration holds.
    pub default_branch: String,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The job's page, where there is one.
    pub url: Option<String>,
    /// The lease's fence.
    pub fence: i64,
    /// The file that holds the newest fence of the job: while it is ours we may hand over.
    pub fence_file: PathBuf,
    /// What somebody said yes to, where the job waited for that.
    #[serde(default)]
    pub approved: Option<super::job::Approved>,
    /// How often the job was put back: each time it is run anew.
    #[serde(default)]
    pub rounds: u32,
    /// Tokens are asked of the server, over standard input: they end before a run may.
    #[serde(default)]
    pub lends: bool,
    /// What the server asked beforehand, for a process that is given nothing to ask the forge with.
    #[serde(default)]
    pub asked: Option<Asked>,
}

/// What a server asked the forge for a process that runs a fork's code and holds no token. The commits that it names, the
/// change's head and its base lie in the clone that the process's checkout borrows from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The commit at the trusted branch's tip.
    pub trusted: String,
    /// What our comments on the change remember, a line for each key; `None`: that could not be asked.
    pub remembered: Option<BTreeMap<String, String>>,
}

impl ServedJob {
    /// The run of the job, as long as nobody puts it back.
    pub fn run(&self) -> RunId {
        RunId(self.id.clone()).round(self.rounds)
    }
}

impl ServedJob {
    /// The file whose lock is held by whoever says at the forge how the job stands.
    pub fn voice_file(&self) -> PathBuf {
        self.fence_file.with_file_name(super::places::VOICE)
    }

    /// The file that says which steps the run is at.
    pub fn step_file(&self) -> PathBuf {
        self.fence_file.with_file_name(super::places::STEP)
    }
}

/// One job: what happened, and where to answer.
#[derive(Debug, Clone, PartialEq)]
pub struct CiJob {
    /// Where it runs.
    pub home: Home,
    /// The forge, where the home is not its own: Gitea's jobs speak GitHub's language.
    pub forge: Option<ForgeKind>,
    /// What happened. Its texts are untrusted; what it says of forks is believed only where it says *fork*.
    pub event: Event,
    /// What else happened with it: Gitea tells of several labels by one event, where others tell of each.
    pub also: Vec<Event>,
    /// The forge's API (`https://api.github.com`, `https://gitlab.example.com/api/v4`).
    pub api_url: Option<String>,
    /// The forge for people (`https://github.com`).
    pub server_url: Option<String>,
    /// Where git fetches the repository that the job belongs to. `None`: from the checkout's `origin`. It is never the
    /// fork that a change comes from.
    pub git_url: Option<String>,
    /// The repository's default branch, where the home tells.
    pub default_branch: Option<String>,
    /// Full id of the commit to work on. `None`: the one that is checked out.
    pub head: Option<String>,
    /// The ref under which the forge keeps [`Self::head`] (`refs/pull/7/head`): for servers that give no bare commit.
    pub head_ref: Option<String>,
    /// Full id of the commit that the head is compared with: the target branch's for a change, the one before a push.
    pub base: Option<String>,
    /// True: the head comes from another repository, or nobody says that it does not.
    pub fork: bool,
    /// The pipeline run, the same for its reruns; part of the trigger's key where the event has no name of its own.
    pub run: Option<String>,
    /// Its address for people.
    pub run_url: Option<String>,
    /// Which attempt of the pipeline run this is, from 1.
    pub attempt: u32,
    /// A folder for files of the job outside of the checkout.
    pub temp: Option<PathBuf>,
    /// The file that takes outputs in GitHub's form.
    pub outputs_file: Option<PathBuf>,
    /// The file that takes a Markdown summary.
    pub summary_file: Option<PathBuf>,
    /// The checkout, where the home names it.
    pub workspace: Option<PathBuf>,
    /// The server that runs it, where one does.
    pub served: Option<ServedJob>,
    /// What could not be read of the event, in lines for people. Whatever hangs on it reads as *not known*.
    pub gaps: Vec<String>,
}

impl CiJob {
    /// A job of which nothing is known yet; not known is a fork.
    pub fn new(home: Home) -> Self {
        Self {
            home,
            forge: None,
            event: Event::default(),
            also: Vec::new(),
            api_url: None,
            server_url: None,
            git_url: None,
            default_branch: None,
            head: None,
            head_ref: None,
            base: None,
            fork: true,
            run: None,
            run_url: None,
            attempt: 1,
            temp: None,
            outputs_file: None,
            summary_file: None,
            workspace: None,
            served: None,
            gaps: Vec::new(),
        }
    }
}

/// How `codeforge ci` ended, for whoever reads its output `conclusion`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Conclusion {
    /// Nothing matched the event.
    Skipped,
    /// Done.
    Success,
    /// A provider, forge or sandbox was unavailable, and that was to count as neither good nor bad.
    Neutral,
    /// A step or a gate failed.
    Failure,
    /// A limit was reached.
    Limit,
    /// Policy or access.
    Denied,
    /// A provider, forge or sandbox was unavailable.
    Unavailable,
    /// Usage or configuration.
    Misconfigured,
}

impl Conclusion {
    /// As the output has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Success => "success",
            Self::Neutral => "neutral",
            Self::Failure => "failure",
            Self::Limit => "limit",
            Self::Denied => "denied",
            Self::Unavailable => "unavailable",
            Self::Misconfigured => "misconfigured",
        }
    }
}
