//! Everything outside, in one hand: what `app` puts together and commands are given.

use super::checkout::Checkout;
use super::ci::{CiError, Payload, PayloadError};
use super::clock::Clock;
use super::forge::{Forge, ForgeAt, ForgeError};
use super::gateway::Gateway;
use super::inbox::{Inbox, InboxError};
use super::model::{Catalog, ChatModel};
use super::queue::Queue;
use super::repository::{Repository, RepositoryError};
use super::runner::Runner;
use super::sandbox::SandboxDriver;
use super::store::{Store, StoreError};
use crate::model::catalog::Server;
use crate::model::chat::ModelRef;
use crate::model::ci::CiJob;
use async_trait::async_trait;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The outside world.
#[async_trait]
pub trait World: Send + Sync {
    /// The folder that the command was started in.
    fn cwd(&self) -> &Path;

    /// A variable of the environment; the only way to it.
    fn env(&self, name: &str) -> Option<String>;

    /// The CI job that we are: its environment and its event.
    ///
    /// # Errors
    /// [`CiError`]: what is missing or cannot be understood.
    fn ci(&self) -> Result<CiJob, CiError>;

    /// What a webhook says happened: `source` as in [`crate::model::job::Delivery`], the event's name from its header
    /// and the raw body. Several labels that were set at once are several events; an empty list never comes back.
    ///
    /// # Errors
    /// [`PayloadError`].
    fn webhook(&self, source: &str, name: &str, body: &[u8]) -> Result<Vec<Payload>, PayloadError>;

    /// The repository that `at` lies in.
    ///
    /// # Errors
    /// [`RepositoryError::NotARepository`].
    fn repository(&self, at: &Path) -> Result<Arc<dyn Repository>, RepositoryError>;

    /// The checkout that `at` lies in, for a CI job.
    ///
    /// # Errors
    /// [`RepositoryError::NotARepository`].
    fn checkout(&self, at: &Path) -> Result<Arc<dyn Checkout>, RepositoryError>;

    /// Makes a folder a repository, with all its files in one commit.
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn new_repository(&self, at: &Path) -> Result<Arc<dyn Repository>, RepositoryError>;

    /// Makes a repository in an empty folder that reads its objects from another one too (its top folder); `None`: an
    /// empty one, that others borrow from. One that is there is left as it is.
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn borrowing(&self, at: &Path, from: Option<&Path>) -> Result<(), RepositoryError>;

    /// The journal's store in a state folder; made where there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn store(&self, state_dir: &Path) -> Result<Arc<dyn Store>, StoreError>;

    /// The sandbox drivers there are, without `auto`.
    fn drivers(&self) -> Vec<Arc<dyn SandboxDriver>>;

    /// Serves models to programs in sandboxes.
    fn gateway(&self) -> Arc<dyn Gateway>;

    /// The clock.
    fn clock(&self) -> Arc<dyn Clock>;

    /// Models: real ones, or what a cassette recorded.
    ///
    /// # Errors
    /// What is wrong with the cassette's file, in words.
    fn chat(&self, tape: &Tape) -> Result<Arc<dyn ChatModel>, String>;

    /// The models that the environment names (`OPENAI_API_KEY` and others); with a played cassette, the one that
    /// stands for what was recorded.
    fn models(&self, tape: &Tape) -> Vec<ModelRef>;

    /// The models that these variables name.
    fn models_of(&self, env: &dyn Fn(&str) -> Option<String>) -> Vec<ModelRef>;

    /// A model with the address, and the name of the key's variable, that are its provider's where it has none of its
    /// own.
    fn addressed(&self, model: ModelRef) -> ModelRef;

    /// Servers of models that the environment names, and those at the addresses that local ones usually have.
    fn servers(&self) -> Vec<Server>;

    /// Asks servers what they serve.
    ///
    /// # Errors
    /// What keeps a client from being made, in words.
    fn catalog(&self) -> Result<Arc<dyn Catalog>, String>;

    /// A forge.
    ///
    /// # Errors
    /// [`ForgeError::Unsupported`] for an address that no token is sent to.
    fn forge(&self, at: &ForgeAt) -> Result<Arc<dyn Forge>, ForgeError>;

    /// The same, written to in turn with the other processes that use the file `turns`; made where it is missing.
    ///
    /// # Errors
    /// As [`Self::forge`].
    fn forge_in_turn(&self, at: &ForgeAt, turns: &Path) -> Result<Arc<dyn Forge>, ForgeError>;

    /// This world, to be kept: for what goes on beside the command that began it.
    fn shared(&self) -> Arc<dyn World>;

    /// What a server keeps in its state folder; made where there is none. Called inside a runtime.
    ///
    /// # Errors
    /// [`InboxError`].
    async fn serving(&self, state_dir: &Path) -> Result<Serving, InboxError>;

    /// Starts runs as processes of their own.
    fn runner(&self) -> Arc<dyn Runner>;

    /// How many bytes are free on a folder's disk.
    ///
    /// # Errors
    /// Why nobody knows.
    fn free_space(&self, folder: &Path) -> Result<u64, String>;

    /// Lets go of memory that was only needed to start. Called once, when a server has been there for a moment.
    fn settle(&self);

    /// Random bits, for run ids.
    fn random(&self) -> u64;

    /// Who this process is, for leases: host, process, and when it began.
    fn owner(&self) -> String;

    /// The account of the operating system that this process runs as: its name, or `uid N`.
    fn user(&self) -> String;

    /// Values in the environment that must never leave: keys, tokens.
    fn secrets(&self) -> Vec<String>;
}

/// What a server keeps: deliveries and jobs, in one database.
#[derive(Clone)]
pub struct Serving {
    /// Deliveries.
    pub inbox: Arc<dyn Inbox>,
    /// Jobs.
    pub queue: Arc<dyn Queue>,
}

/// Whether model answers are taken from a cassette.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Tape {
    /// Neither.
    #[default]
    Off,
    /// Answers come from this file; nothing is sent anywhere.
    Play(PathBuf),
    /// Answers come from this text (the demo's own).
    PlayText(String),
}
