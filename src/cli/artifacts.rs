//! Artifacts as files: written whole or not at all, read within their size.

use super::Context;
use super::error::CliError;
use super::run::engine_error;
use crate::engine::{Engine, Extras};
use crate::model::account::Ending;
use crate::model::artifact::{Artifact, ArtifactError, LARGEST, Part, Taken};
use crate::model::id::RunId;
use crate::run::State;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

/// How an artifact begins.
const BEGIN: &[u8] = b"{\"codeforge_artifact\":";

/// Whether an artifact can be written there. Before a cent is spent; and what is no artifact is not replaced by one.
///
/// # Errors
/// What stands in the way.
pub fn check(file: &Path) -> Result<(), CliError> {
    let mut begin = [0_u8; 64];
    match std::fs::File::open(file).and_then(|mut file| file.read(&mut begin)) {
        Ok(0) => {}
        Ok(_) if begin.starts_with(BEGIN) => {}
        Ok(_) => {
            return Err(CliError::usage(format!("{} is no artifact, and is not replaced by one", file.display()))
                .hint("name another file"));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(CliError::usage(format!("the artifact {}: {error}", file.display()))),
    }
    aside(file).map(|_| ())
}

/// A file beside the one that is to be written.
fn aside(file: &Path) -> Result<tempfile::NamedTempFile, CliError> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::Builder::new().prefix(".artifact-").tempfile_in(folder).map_err(|error| {
        CliError::usage(format!("the artifact {} cannot be written: {error}", file.display()))
            .hint("its folder must be there, and yours to write in")
    })
}

/// Remembers that a run is to end in an artifact, whoever brings it to its end.
///
/// # Errors
/// Where the journal cannot be written.
pub async fn promise(engine: &Engine, run: &RunId, file: &Path) -> Result<(), CliError> {
    let name = file.to_str().ok_or_else(|| CliError::usage(format!("{}: the name is not UTF-8", file.display())))?;
    Ok(engine.store.put(&key(run), name).await?)
}

/// Writes the artifact that was promised, where one was.
///
/// # Errors
/// Where it cannot be made or written.
pub async fn keep_promise(engine: &Engine, state: &State, cx: &Context<'_>) -> Result<(), CliError> {
    let Some(file) = engine.store.get(&key(&state.run)).await? else { return Ok(()) };
    let part = engine.part(state, Extras::default()).await.map_err(engine_error)?;
    write(Path::new(&file), vec![part], cx)
}

fn key(run: &RunId) -> String {
    format!("artifact/{run}")
}

/// Writes an artifact of these runs.
///
/// # Errors
/// Where it is too large, or the file cannot be written.
pub fn write(file: &Path, parts: Vec<Part>, cx: &Context<'_>) -> Result<(), CliError> {
    let text = Artifact::new(parts).write().map_err(|error| {
        CliError::new(Ending::Failed, format!("the artifact {} is not written: {error}", file.display()))
    })?;
    let failed = |error: std::io::Error| {
        CliError::new(Ending::Unavailable, format!("the artifact {} cannot be written: {error}", file.display()))
    };
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut beside = aside(file)?;
    beside.write_all(text.as_bytes()).map_err(failed)?;
    beside.as_file().sync_data().map_err(failed)?;
    beside.persist(file).map_err(|error| failed(error.error))?;
    cx.say(&format!("artifact: {}", file.display()));
    Ok(())
}

/// Reads an artifact.
///
/// # Errors
/// Exit code 2 where it is not one, 4 where it holds what is never delivered.
pub fn read(file: &Path) -> Result<Vec<Taken>, CliError> {
    let mut bytes = Vec::new();
    let most = LARGEST as u64 + 1;
    let read = std::fs::File::open(file).and_then(|file| {
        if file.metadata()?.is_file() {
            file.take(most).read_to_end(&mut bytes)
        } else {
            Err(std::io::Error::other("it is not a file"))
        }
    });
    let shown = file.display();
    read.map_err(|error| {
        CliError::usage(format!("the artifact {shown} cannot be read: {error}"))
            .hint("it is what `codeforge run --artifact FILE` or the phase `agent` writes")
    })?;
    Artifact::read(&bytes).map_err(|error| match error {
        ArtifactError::Malformed(why) => CliError::usage(format!("the artifact {shown} is refused: {why}")),
        ArtifactError::Refused(why) => {
            CliError::new(Ending::Denied, format!("the artifact {shown} is refused, nothing was written: {why}"))
        }
    })
}
