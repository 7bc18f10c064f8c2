//! The configuration of a commit: blobs of it, whatever lies in a folder, and what ships with the program.

use crate::port::checkout::{Checkout, File};
use crate::port::repository::RepositoryError;
use crate::workflow::schema::Library;
use crate::workflow::{self, Source};
use std::collections::BTreeMap;

/// Files of `.codeforge/` that are read, and bytes of each.
const FILES: usize = 2000;
const LARGEST: usize = 2 * 1024 * 1024;

/// Reads it. Blocking.
///
/// # Errors
/// It cannot be read.
pub fn of(checkout: &dyn Checkout, commit: &str) -> Result<Library, RepositoryError> {
    let files = checkout.files(commit, ".codeforge", FILES, LARGEST)?;
    let mut all = workflow::builtin();
    all.extend(files.iter().filter(|file| is_document(&file.path)).map(source));
    let by_path: BTreeMap<&str, &File> = files.iter().map(|file| (file.path.as_str(), file)).collect();
    // A preset is read from beside the configuration, in the same commit, and from nowhere else.
    let extended = |path: &str| {
        let beside = format!(".codeforge/{path}");
        let file = by_path.get(path).or_else(|| by_path.get(beside.as_str()))?;
        Some(String::from_utf8_lossy(&file.content).into_owned())
    };
    Ok(workflow::load(&all, &extended))
}

fn source(file: &File) -> Source {
    let text = String::from_utf8_lossy(&file.content).into_owned();
    Source { path: file.path.clone(), text, builtin: false }
}

/// The files that `run` reads from a folder.
fn is_document(path: &str) -> bool {
    let Some(rest) = path.strip_prefix(".codeforge/") else { return false };
    match rest.split_once('/') {
        None => matches!(rest, "config.yml" | "config.yaml" | "pricing.yml"),
        Some((folder, file)) => {
            matches!(folder, "workflows" | "modes" | "policies" | "backends" | "prompts" | "schemas")
                && !file.contains('/')
        }
    }
}
