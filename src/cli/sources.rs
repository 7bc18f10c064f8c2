//! Reads `.codeforge/`.

use crate::workflow::Source;
use std::io;
use std::path::Path;

/// A file larger than this is refused by its reader anyway; only so much is read.
const LARGEST: u64 = 2 * 1024 * 1024;

/// All documents of a repository: workflows, modes, policies, backends, prompts, schemas, prices and the configuration (`config` where it
/// is given instead of `.codeforge/config.yml`). Paths are as people see them, relative to the root.
///
/// # Errors
/// A file that is there and cannot be read.
pub fn read(root: &Path, config: Option<&Path>) -> io::Result<Vec<Source>> {
    let base = root.join(".codeforge");
    let mut sources = Vec::new();
    for folder in ["workflows", "modes", "policies", "backends", "prompts", "schemas"] {
        let Ok(entries) = std::fs::read_dir(base.join(folder)) else { continue };
        let mut files: Vec<_> =
            entries.collect::<io::Result<Vec<_>>>()?.into_iter().map(|entry| entry.path()).collect();
        files.sort();
        for file in files.iter().filter(|file| file.is_file()) {
            let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            sources.push(source(file, &format!(".codeforge/{folder}/{name}"))?);
        }
    }
    match config {
        Some(config) => sources.push(source(config, &config.display().to_string())?),
        None => {
            for name in ["config.yml", "config.yaml"] {
                let file = base.join(name);
                if file.is_file() {
                    sources.push(source(&file, &format!(".codeforge/{name}"))?);
                    break;
                }
            }
        }
    }
    let prices = base.join("pricing.yml");
    if prices.is_file() {
        sources.push(source(&prices, ".codeforge/pricing.yml")?);
    }
    Ok(sources)
}

/// One file as a source.
///
/// # Errors
/// Where it cannot be read.
pub fn source(file: &Path, shown: &str) -> io::Result<Source> {
    use std::io::Read;
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{shown}: {error}"));
    let mut bytes = Vec::new();
    std::fs::File::open(file).map_err(named)?.take(LARGEST).read_to_end(&mut bytes).map_err(named)?;
    Ok(Source { path: shown.to_owned(), text: String::from_utf8_lossy(&bytes).into_owned(), builtin: false })
}
