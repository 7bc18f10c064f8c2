//! What people and machines read: accounts, live views, trajectories, costs, pictures, diagnostics.
//!
//! Everything here is a pure function of model values. Text that came from a model, a command or a repository is
//! cleaned of control sequences and cannot be read as a command by a CI system.

pub mod account;
pub mod chart;
pub mod ci;
pub mod costs;
pub mod dag;
pub mod diagnostics;
pub mod live;
pub mod numbers;
pub mod plain;
pub mod plan;
pub mod quote;
pub mod replay;
pub mod trajectory;

/// Untrusted text on one line: cleaned, inert in CI, at most `most` characters.
pub(crate) fn line(text: &str, most: usize) -> String {
    let cleaned = crate::text::invisible(&crate::text::clean(text));
    // Last, so that nothing that is taken out can put a command together.
    let joined = crate::text::inert_ci(&cleaned.split_whitespace().collect::<Vec<_>>().join(" "));
    if joined.chars().count() <= most {
        return joined;
    }
    let short: String = joined.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", short.trim_end())
}
