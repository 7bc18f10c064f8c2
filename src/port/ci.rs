//! The CI system around us: read once, at the start. And what forges' webhooks say.

use crate::model::event::Event;

/// Why a job cannot be read. The environment's fault, or that of whoever set it up.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CiError {
    /// A variable or a file that must be there is not.
    #[error("{home}: {what}")]
    Missing {
        /// Where we seem to be.
        home: &'static str,
        /// What is missing, and what to do.
        what: String,
    },
    /// An event's file that cannot be understood.
    #[error("the event in {file} cannot be read: {why}")]
    Broken {
        /// The file.
        file: String,
        /// Why.
        why: String,
    },
    /// An event that we do not know.
    #[error("{home} runs this for the event `{event}`, which CodeForge does not know; it knows {known}")]
    Unknown {
        /// Where we seem to be.
        home: &'static str,
        /// The event's name.
        event: String,
        /// Those it knows.
        known: &'static str,
    },
}

/// What a payload says happened.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Payload {
    /// What happened.
    pub event: Event,
    /// The repository's default branch. A word of the payload: whom to trust is the operator's to say.
    pub default_branch: Option<String>,
    /// The commit that it is about.
    pub head: Option<String>,
    /// The commit that the head is compared with.
    pub base: Option<String>,
}

impl Payload {
    /// The same thing as one label that was set or taken away.
    #[must_use]
    pub fn labelled(&self, action: &str, label: &str) -> Self {
        let mut read = self.clone();
        read.event.action = Some(action.to_owned());
        read.event.label = Some(label.to_owned());
        read
    }

    /// That something was opened, and that each of these labels was set: GitHub tells of both, others of the first only.
    pub fn opened_with(self, labels: &[String]) -> Vec<Self> {
        let set: Vec<Self> = labels.iter().map(|label| self.labelled("labeled", label)).collect();
        std::iter::once(self).chain(set).collect()
    }
}

/// Why a payload says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// An event that starts nothing: a star, a release, a ping. Not a fault.
    #[error("`{0}` is no event that starts anything")]
    Unknown(String),
    /// It cannot be understood; what is wrong with it.
    #[error("the payload cannot be read: {0}")]
    Broken(String),
}
