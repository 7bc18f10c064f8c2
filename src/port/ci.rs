//! The CI system around us: read once, at the start.

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
