//! A run as a process of its own.

use crate::model::ci::Asked;
use crate::model::forge::ForgeKind;
use crate::model::job::Job;
use crate::port::forge::{Forge, Login};
use async_trait::async_trait;
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A run that is to be made, with all that it needs of its repository and nothing of another one.
#[derive(Debug, Clone)]
pub struct Order {
    /// The job.
    pub job: Job,
    /// The lease's fence: an attempt with an older one hands nothing over.
    pub fence: i64,
    /// The server's state folder.
    pub state: PathBuf,
    /// The forge.
    pub forge: ForgeKind,
    /// Its API's address.
    pub api: String,
    /// Where git fetches the repository from.
    pub git_url: String,
    /// The branch whose configuration holds.
    pub default_branch: String,
    /// A token for this repository alone, as it is now.
    pub token: SecretString,
    /// Where it ends before a run may: the run is given none, and asks for one whenever it needs one.
    pub lender: Option<Tokens>,
    /// The operator's variables: keys of models. Phases that ask no model do not get them.
    pub vars: BTreeMap<String, SecretString>,
    /// The key that marks are signed with.
    pub marker_key: Option<SecretString>,
    /// What was asked of the forge for a change of a fork: the phases that run its code hold no token.
    pub asked: Option<Asked>,
    /// People who may give commands, whatever the forge says; not on forks.
    pub allow_users: Vec<String>,
    /// What commands begin with.
    pub phrase: String,
    /// How long a run that was interrupted may take to come to where it can be gone on with.
    pub grace: Duration,
}

/// Tokens of one repository, minted when they are needed.
#[derive(Clone)]
pub struct Tokens(pub Arc<dyn Forge>);

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

impl Tokens {
    /// A token that is good now; `refused`: another one than this, which the forge did not take.
    ///
    /// # Errors
    /// None can be had; in words.
    pub async fn fresh(&self, refused: Option<SecretString>) -> Result<Login, String> {
        let remote = self.0.remote();
        if let Some(refused) = refused {
            // Whether there is another one is seen below.
            remote.renew(&refused).await;
        }
        let login = remote.login().await.map_err(|error| error.to_string())?;
        login.ok_or_else(|| "this forge takes no token".to_owned())
    }
}

/// How a run's process ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ran {
    /// Its exit code; `None`: a signal ended it.
    pub code: Option<i32>,
    /// Its outputs (`conclusion`, `total-cost-usd`, `pull-request-url`, …; docs/ci.md lists them).
    pub outputs: BTreeMap<String, String>,
    /// The end of its log, cleaned.
    pub log: String,
}

/// Starts runs.
#[async_trait]
pub trait Runner: Send + Sync {
    /// Runs a job to its end. `stop`: it is interrupted so that it can be resumed; where it does not end in time it is
    /// killed. A job that was begun before goes on where its journal ends; what is left of its earlier process is ended
    /// first.
    ///
    /// # Errors
    /// It could not be begun, in words.
    async fn run(&self, order: &Order, stop: CancellationToken) -> Result<Ran, String>;

    /// The steps that the run of a job is at now, in a line; `state`: the server's state folder. `None`: nobody knows, or
    /// it is at none.
    async fn step(&self, state: &Path, job: &str) -> Option<String>;
}
