//! Errors as people meet them, and exit codes: the one place where a kind becomes a number.

use crate::model::account::Ending;
use std::fmt;

/// A command's failure: what, why, what to do.
#[derive(Debug)]
pub struct CliError {
    /// Decides the exit code.
    pub ending: Ending,
    /// What failed and where.
    pub message: String,
    /// What to do about it.
    pub hints: Vec<String>,
    /// True: everything was already shown; print nothing more.
    pub shown: bool,
}

impl CliError {
    /// A failure of the given kind.
    pub fn new(ending: Ending, message: impl Into<String>) -> Self {
        Self { ending, message: message.into(), hints: Vec::new(), shown: false }
    }

    /// Wrong usage or configuration: exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Ending::Misconfigured, message)
    }

    /// A failure that has been shown in full already: only the exit code is left.
    pub fn silent(ending: Ending) -> Self {
        Self { ending, message: String::new(), hints: Vec::new(), shown: true }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for hint in &self.hints {
            write!(f, "\n  = help: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for CliError {}

impl From<crate::port::store::StoreError> for CliError {
    fn from(error: crate::port::store::StoreError) -> Self {
        use crate::port::store::StoreError as E;
        let ending = match &error {
            E::NoSuchRun(_) | E::Ambiguous { .. } => Ending::Misconfigured,
            E::Held { .. } | E::Fenced(_) | E::Gap { .. } | E::Unreadable { .. } => Ending::Failed,
            E::Database { .. } => Ending::Unavailable,
            E::NothingLeft(_) => Ending::Limit,
        };
        Self::new(ending, error.to_string())
    }
}

impl From<crate::port::repository::RepositoryError> for CliError {
    fn from(error: crate::port::repository::RepositoryError) -> Self {
        use crate::port::repository::RepositoryError as E;
        let ending = match &error {
            E::NotARepository(_) | E::Missing(_) | E::Unsigned(_) => Ending::Misconfigured,
            E::Refused(_) => Ending::Denied,
            E::ChangedUnderneath(_) => Ending::Failed,
            E::Broken { .. } => Ending::Unavailable,
        };
        Self::new(ending, error.to_string())
    }
}

impl From<crate::port::sandbox::SandboxError> for CliError {
    fn from(error: crate::port::sandbox::SandboxError) -> Self {
        use crate::port::sandbox::SandboxError as E;
        let ending = match &error {
            E::Refused(_) => Ending::Misconfigured,
            E::Unavailable(_) | E::Missing(_) | E::Broken(_) => Ending::Unavailable,
        };
        Self::new(ending, error.to_string())
    }
}
