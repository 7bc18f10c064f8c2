//! Why something cannot be done now, as far as that decides what is done next.

use super::commands::DeskError;
use crate::port::checkout::FetchError;
use crate::port::forge::ForgeError;
use crate::port::inbox::InboxError;
use std::fmt;

/// Why it cannot be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// What stands in the way.
    pub kind: Kind,
    /// The same in words.
    pub words: String,
}

/// What stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The forge refuses the token: until somebody gives another one.
    Refused,
    /// The forge cannot be reached, or its limit of requests is used up: until it is back.
    Away,
    /// The trusted configuration has errors: until they are mended.
    Broken,
    /// Something else: it is tried so often and no more.
    Other,
}

impl Failed {
    /// The same, about something.
    #[must_use]
    pub fn about(self, what: &str) -> Self {
        Self { kind: self.kind, words: format!("{what}: {}", self.words) }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl From<String> for Failed {
    fn from(words: String) -> Self {
        Self { kind: Kind::Other, words }
    }
}

impl From<Failed> for String {
    fn from(failed: Failed) -> Self {
        failed.words
    }
}

impl From<InboxError> for Failed {
    fn from(error: InboxError) -> Self {
        error.to_string().into()
    }
}

impl From<ForgeError> for Failed {
    fn from(error: ForgeError) -> Self {
        let kind = match &error {
            ForgeError::Refused { .. } => Kind::Refused,
            ForgeError::Unavailable { .. } | ForgeError::RateLimited { .. } => Kind::Away,
            ForgeError::NotFound { .. }
            | ForgeError::Contract { .. }
            | ForgeError::Moved { .. }
            | ForgeError::Unsupported(_) => Kind::Other,
        };
        Self { kind, words: error.to_string() }
    }
}

impl From<FetchError> for Failed {
    fn from(error: FetchError) -> Self {
        let kind = match &error {
            FetchError::Refused(_) => Kind::Refused,
            FetchError::Unreachable(_) => Kind::Away,
            FetchError::NoSuch(_) => Kind::Other,
        };
        Self { kind, words: error.to_string() }
    }
}

impl From<DeskError> for Failed {
    fn from(error: DeskError) -> Self {
        match error {
            DeskError::Forge(error) => error.into(),
            DeskError::Database(error) => error.into(),
            DeskError::Journal(_) => error.to_string().into(),
        }
    }
}
