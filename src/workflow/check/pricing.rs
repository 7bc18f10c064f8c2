//! Tables of prices: their keys, and their age.

use super::super::schema::document::Node;
use super::super::schema::{Library, codes, pricing};
use super::checker::Checker;
use crate::model::diagnostic::{Diagnostic, Severity};

/// What the shape does not say: keys are names or globs.
pub(super) fn check(checker: &mut Checker<'_>, root: &Node) {
    for (key, _) in root.get("models").map(Node::entries).unwrap_or_default() {
        if let Err(error) = pricing::glob(&key.text) {
            checker.error(codes::BAD_GLOB, key.at, format!("`{}` is not a glob: {}", key.text, error.kind()));
        }
    }
}

/// Notes on the repository's tables whose prices are old. `now_ms`: milliseconds since 1970, UTC. Notes, not warnings:
/// that time passes breaks nobody's build.
pub fn stale_prices(library: &Library, now_ms: i64) -> Vec<Diagnostic> {
    let ages = library.pricing.ages(now_ms);
    let mut found = Vec::new();
    for table in library.pricing.documents().filter(|table| !table.builtin) {
        let Some(age) = ages.iter().find(|age| age.file == table.document.file && age.is_stale()) else { continue };
        let message = format!("these prices are {} days old", age.days);
        let mut problem = table.document.diagnostic(codes::STALE_PRICES, Severity::Note, table.at(&["as_of"]), message);
        problem.help = Some("look at the providers' pages, then write the day that you did".into());
        found.push(problem);
    }
    found
}
