//! Forges: the APIs of GitHub, GitLab and Gitea, git's own protocol, and a bare repository on disk.
//!
//! What they share is here: a repository's connection (`connection`), requests with their limits (`http`), tokens
//! (`token`, `app`), which lines a difference shows (`lines`), git over HTTPS (`remote`), what two of them say in the same
//! words (`alike`). A forge's own words stay in its folder.

mod alike;
mod app;
mod connection;
mod gitea;
mod github;
mod gitlab;
mod http;
mod issues;
mod lent;
mod lines;
mod local;
mod marks;
mod remote;
mod token;
mod turns;

use crate::adapter::lending::Lender;
use crate::model::forge::ForgeKind;
use crate::port::clock::Clock;
use crate::port::forge::{ChangeInfo, ChangeState, Changes, Forge, ForgeAt, ForgeError, NewChange};
use crate::text;
use std::sync::Arc;
use std::time::Duration;

/// Gives random numbers, to spread waits.
pub type Jitter = Arc<dyn Fn() -> u64 + Send + Sync>;

/// How long, how often, how much.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Attempts at one request, the first included.
    pub attempts: u32,
    /// Milliseconds from the end of one write to the beginning of the next.
    pub between_writes_ms: i64,
    /// The file by which processes that write to the same repository take turns; `None`: this one writes alone.
    pub turn_file: Option<std::path::PathBuf>,
    /// Bound of the first wait between attempts; it doubles with each one.
    pub backoff_base: Duration,
    /// Bound of every such wait.
    pub backoff_cap: Duration,
    /// The wait where a limit is reached and the forge does not say for how long.
    pub limit_wait: Duration,
    /// The longest wait that a forge may ask for; at a longer one the request fails.
    pub longest_wait: Duration,
    /// Until a connection stands.
    pub connect: Duration,
    /// For one attempt.
    pub total: Duration,
    /// For one attempt of git's: packs are larger than answers.
    pub git_total: Duration,
    /// The largest answer, in bytes.
    pub max_bytes: usize,
    /// Whether `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` count.
    pub system_proxy: bool,
    /// Certificates to trust beside the machine's: a PEM file.
    pub extra_ca: Option<std::path::PathBuf>,
    /// Who lends tokens, where [`Credential::Lent`](crate::port::forge::Credential::Lent) is said.
    pub lender: Option<Arc<Lender>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            attempts: 5,
            between_writes_ms: 1000,
            turn_file: None,
            backoff_base: Duration::from_secs(1),
            backoff_cap: Duration::from_secs(30),
            limit_wait: Duration::from_secs(60),
            longest_wait: Duration::from_secs(300),
            connect: Duration::from_secs(15),
            total: Duration::from_secs(60),
            git_total: Duration::from_secs(600),
            max_bytes: 64 << 20,
            system_proxy: true,
            extra_ca: None,
            lender: None,
        }
    }
}

/// A connection to a forge.
///
/// # Errors
/// [`ForgeError::Unsupported`] for an address that is none, or that a token is not sent to.
pub fn open(
    at: &ForgeAt,
    clock: Arc<dyn Clock>,
    jitter: Jitter,
    settings: Settings,
) -> Result<Arc<dyn Forge>, ForgeError> {
    let tools = Tools { clock, jitter, settings };
    Ok(match at.kind {
        ForgeKind::Github => Arc::new(github::Github::new(at, tools)?),
        ForgeKind::Gitlab => Arc::new(gitlab::Gitlab::new(at, tools)?),
        ForgeKind::Gitea => Arc::new(gitea::Gitea::new(at, tools)?),
        ForgeKind::Local => Arc::new(local::Local::new(at, tools.clock)?),
    })
}

/// What a connection is made with.
#[derive(Clone)]
struct Tools {
    clock: Arc<dyn Clock>,
    jitter: Jitter,
    settings: Settings,
}

/// The open change of a branch.
async fn open_of(forge: &(dyn Changes + Sync), branch: &str) -> Result<Option<ChangeInfo>, ForgeError> {
    let changes = forge.changes_of_branch(branch).await?;
    Ok(changes.into_iter().find(|info| info.state == ChangeState::Open))
}

/// The branches of this very repository among changes that begin with `prefix`.
fn branches(infos: impl IntoIterator<Item = ChangeInfo>, prefix: &str) -> Vec<String> {
    let own = infos.into_iter().filter(|info| !info.change.is_fork()).map(|info| info.change.head.branch);
    own.filter(|branch| branch.starts_with(prefix)).collect()
}

/// What is wanted and not there yet.
fn missing(wanted: &[String], there: &[String]) -> Vec<String> {
    wanted.iter().filter(|name| !there.iter().any(|there| there.eq_ignore_ascii_case(name))).cloned().collect()
}

/// What a change lacks of what is asked for. Only this is set: what a person has set meanwhile stays.
struct Lacks {
    labels: Vec<String>,
    reviewers: Vec<String>,
    assignees: Vec<String>,
    milestone: Option<String>,
}

impl Lacks {
    fn of(new: &NewChange, info: &ChangeInfo) -> Self {
        Self {
            labels: missing(&new.labels, &info.change.labels),
            reviewers: missing(&new.reviewers, &info.reviewers),
            assignees: missing(&new.assignees, &info.assignees),
            milestone: new.milestone.clone().filter(|_| info.milestone.is_none()),
        }
    }

    /// All of it was set.
    fn set_on(self, info: &mut ChangeInfo) {
        info.change.labels.extend(self.labels);
        info.reviewers.extend(self.reviewers);
        info.assignees.extend(self.assignees);
        info.milestone = self.milestone.or(info.milestone.take());
    }

    fn nothing(&self) -> bool {
        self.labels.is_empty() && self.reviewers.is_empty() && self.assignees.is_empty() && self.milestone.is_none()
    }
}

/// So many seconds before a time in milliseconds.
fn before(now_ms: i64, seconds: u64) -> i64 {
    now_ms.saturating_sub(i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX))
}

/// Whether two texts are the same to a forge, which writes line ends in its own way.
fn same_text(a: &str, b: &str) -> bool {
    a.replace("\r\n", "\n").trim_end() == b.replace("\r\n", "\n").trim_end()
}

fn missing_milestone(title: &str) -> ForgeError {
    let hint = format!("there is no open milestone `{}`", text::clean(title));
    ForgeError::NotFound { doing: "setting the milestone".into(), hint }
}

/// A time as forges write it, in milliseconds since 1970.
fn time_ms(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(|time| time.as_millisecond())
}

/// Milliseconds since 1970 as a query has it: whole seconds, rounded down.
fn time_text(ms: i64) -> String {
    jiff::Timestamp::from_second(ms.div_euclid(1000)).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

/// Reads an address.
fn parse(what: &str, text: &str) -> Result<reqwest::Url, ForgeError> {
    reqwest::Url::parse(text.trim_end_matches('/'))
        .map_err(|error| ForgeError::Unsupported(format!("{what} `{text}` is not an address: {error}")))
}
