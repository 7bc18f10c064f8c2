//! Who says at the forge how a job stands: whoever holds the lock of a file in the job's folder. The system takes it back
//! from whoever dies.

use crate::model::places;
use crate::port::inbox::InboxError;
use crate::port::queue::Voice;
use std::fs::{DirBuilder, OpenOptions, TryLockError};
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Takes a job's voice, where nobody has it.
pub(super) fn take(state: &Path, job: &str) -> Result<Option<Voice>, InboxError> {
    let folder = places::job(state, job);
    let file = folder.join(places::VOICE);
    let fault = |error: std::io::Error| InboxError {
        path: file.display().to_string(),
        message: format!("who says how job {job} stands cannot be told: {error}"),
    };
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(fault)?;
    let mut opened =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&file).map_err(fault)?;
    match opened.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(fault(error)),
    }
    let mut spoken = String::new();
    opened.read_to_string(&mut spoken).map_err(fault)?;
    Ok(Some(Voice { spoken: spoken.trim().parse().ok(), held: Box::new(opened) }))
}
