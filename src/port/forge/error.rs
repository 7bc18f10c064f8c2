//! What goes wrong at a forge.

use std::time::Duration;

/// What can go wrong with a forge, by whose fault it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForgeError {
    /// The token is refused (401), or may not do this (403).
    #[error("{doing}: the forge refused the token: {message}{}", granted(.needs))]
    Refused {
        /// What was to be done.
        doing: String,
        /// What the forge said.
        message: String,
        /// What to grant, as the workflow file or the token's page spells it.
        needs: Option<String>,
    },
    /// There is no such thing, or the token may not know of it.
    #[error("{doing}: not found; {hint}")]
    NotFound {
        /// What was to be done.
        doing: String,
        /// What to look at.
        hint: String,
    },
    /// The limit of requests is used up, and to wait for more would be too long.
    #[error("{doing}: the forge's limit of requests is used up{}", resets(.after))]
    RateLimited {
        /// What was to be done.
        doing: String,
        /// When there is more, where the forge says.
        after: Option<Duration>,
    },
    /// It cannot be reached, or failed.
    #[error("{doing}: the forge cannot be reached or failed: {message}")]
    Unavailable {
        /// What was to be done.
        doing: String,
        /// Why.
        message: String,
    },
    /// It did not understand us, or we it: ours to mend, or a forge of another version.
    #[error("{doing}: {message}")]
    Contract {
        /// What was to be done.
        doing: String,
        /// What it said.
        message: String,
    },
    /// A ref is not where it was.
    #[error("`{name}` was not moved: {message}")]
    Moved {
        /// The ref.
        name: String,
        /// What the server said.
        message: String,
    },
    /// The forge, or this version of us, cannot do it.
    #[error("{0}")]
    Unsupported(String),
}

fn granted(needs: &Option<String>) -> String {
    needs.as_ref().map_or_else(String::new, |needs| format!("; it needs `{needs}`"))
}

fn resets(after: &Option<Duration>) -> String {
    after.map_or_else(String::new, |after| format!("; there is more in {} s", after.as_secs()))
}
