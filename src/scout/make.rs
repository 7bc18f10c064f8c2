//! Targets of a Makefile or a justfile.

use super::classify::script;
use super::{Candidate, Seen, Source, Tree};

pub(super) fn read(tree: &Tree<'_>) -> Vec<Candidate> {
    let mut found = Vec::new();
    for (file, program) in [
        ("Makefile", "make"),
        ("GNUmakefile", "make"),
        ("makefile", "make"),
        ("justfile", "just"),
        ("Justfile", "just"),
    ] {
        let Some(text) = tree.text(file) else { continue };
        for (place, line) in text.lines().enumerate() {
            let Some((name, after)) = line.split_once(':') else { continue };
            let name = name.trim_end();
            let word =
                !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
            if !word || after.starts_with('=') || line.starts_with([' ', '\t', '.']) {
                continue;
            }
            // A Makefile's target says the same as the language's own command, and needs make beside it.
            let Some((role, weight)) = script(name).filter(|(_, weight)| *weight > 1) else { continue };
            let seen = Seen { file: file.to_owned(), line: place + 1 };
            found.push(Candidate::new(role, weight, Source::Package, format!("{program} {name}"), seen));
        }
    }
    found
}
