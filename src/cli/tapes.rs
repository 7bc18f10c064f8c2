//! Cassettes as files: written whole or not at all, for nobody else's eyes.

use super::Context;
use super::error::CliError;
use super::run::{engine, engine_error};
use crate::cassette::{self, Recording};
use crate::engine::Engine;
use crate::model::account::Ending;
use crate::model::id::RunId;
use crate::port::world::Tape;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

/// Bytes of the largest cassette that is read.
const LARGEST: u64 = 1 << 30;

/// Whether a recording can be written there. Before a cent is spent; and what is no cassette is not replaced by one.
///
/// # Errors
/// What stands in the way.
pub fn check(file: &Path) -> Result<(), CliError> {
    let mut begin = [0_u8; 64];
    match std::fs::File::open(file).and_then(|mut file| file.read(&mut begin)) {
        Ok(0) => {}
        Ok(_) if begin.starts_with(b"{\"codeforge_cassette\":") => {}
        Ok(_) => {
            return Err(CliError::usage(format!("{} is no cassette, and is not replaced by one", file.display()))
                .hint("name another file"));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(CliError::usage(format!("--record {}: {error}", file.display()))),
    }
    aside(file).map(|_| ())
}

/// A file beside the one that is to be written, of mode 0600.
fn aside(file: &Path) -> Result<tempfile::NamedTempFile, CliError> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::Builder::new().prefix(".cassette-").tempfile_in(folder).map_err(|error| {
        CliError::usage(format!("the cassette {} cannot be written: {error}", file.display()))
            .hint("its folder must be there, and yours to write in")
    })
}

/// Remembers that a run is to be recorded in a file, whoever brings it to its end.
///
/// # Errors
/// Where the journal cannot be written.
pub async fn promise(engine: &Engine, run: &RunId, file: &Path) -> Result<(), CliError> {
    let name = file.to_str().ok_or_else(|| CliError::usage(format!("{}: the name is not UTF-8", file.display())))?;
    engine.keep_record_file(run, name).await.map_err(engine_error)
}

/// Writes the recording that was promised, where one was.
///
/// # Errors
/// Where it cannot be made or written.
pub async fn keep_promise(engine: &Engine, run: &RunId, cx: &Context<'_>) -> Result<(), CliError> {
    match engine.record_file(run).await.map_err(engine_error)? {
        Some(file) => write(engine, run, Path::new(&file), cx).await,
        None => Ok(()),
    }
}

/// Writes a run of the repository around the current folder.
///
/// # Errors
/// Where it cannot be made or written.
pub async fn export(run: &RunId, file: &Path, cx: &Context<'_>) -> Result<(), CliError> {
    check(file)?;
    let engine = here(cx).await?;
    write(&engine, run, file, cx).await
}

/// An engine that reads the journal of the repository around the current folder.
async fn here(cx: &Context<'_>) -> Result<Engine, CliError> {
    engine(cx.world.repository(cx.world.cwd())?, &Tape::Off, cx).await
}

/// A run of the repository around the current folder as a recording.
///
/// # Errors
/// Where there is no such run.
pub async fn of_run(prefix: &str, cx: &Context<'_>) -> Result<Recording, CliError> {
    let engine = here(cx).await?;
    let head = engine.store.find(prefix).await?;
    let text = text(&engine, &head.id).await?;
    cassette::read(&text, &format!("run {}", head.id)).map_err(|message| CliError::new(Ending::Failed, message))
}

/// A cassette's file as a recording.
///
/// # Errors
/// What is wrong with it, where, and what to do.
pub fn of_file(file: &Path, shown: &str) -> Result<Recording, CliError> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(LARGEST).read_to_end(&mut bytes));
    read.map_err(|error| CliError::usage(format!("the cassette {shown} cannot be read: {error}")))?;
    cassette::read(&String::from_utf8_lossy(&bytes), shown).map_err(CliError::usage)
}

async fn text(engine: &Engine, run: &RunId) -> Result<String, CliError> {
    let files = engine.base_files(run).await.map_err(engine_error)?;
    engine.export(run, files).await.map_err(engine_error)
}

async fn write(engine: &Engine, run: &RunId, file: &Path, cx: &Context<'_>) -> Result<(), CliError> {
    let text = text(engine, run).await?;
    let mut beside = aside(file)?;
    let failed = |error: std::io::Error| {
        CliError::new(Ending::Unavailable, format!("the cassette {} cannot be written: {error}", file.display()))
            .hint(format!("the run is in the journal: codeforge runs export {run} FILE"))
    };
    beside.write_all(text.as_bytes()).map_err(failed)?;
    beside.as_file().sync_data().map_err(failed)?;
    beside.persist(file).map_err(|error| failed(error.error))?;
    cx.say(&format!("recorded in {}", file.display()));
    Ok(())
}
