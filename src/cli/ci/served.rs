//! What a run tells the server that started it, in files beside its job's fence: the steps that it is at, and that it
//! speaks for itself now.

use super::{Ci, say};
use crate::cli::Context;
use crate::model::ci::ServedJob;
use crate::model::id::StepId;
use crate::model::journal::RowBody;
use crate::model::progress::Progress;
use crate::port::watch::Watch;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often is looked whether the server has come to the end of what it says.
const LOOK: Duration = Duration::from_millis(50);
/// How often at most: a server that hangs is not waited for any longer.
const LOOKS: u32 = 400;

/// Keeps the file that says which steps are at work, and lets the next one watch, too.
struct Steps {
    next: Arc<dyn Watch>,
    file: PathBuf,
    at: Mutex<Vec<StepId>>,
}

/// A watcher that tells the server beside it, where there is one.
pub(super) fn telling(next: Arc<dyn Watch>, served: Option<&ServedJob>) -> Arc<dyn Watch> {
    match served {
        Some(served) => Arc::new(Steps { next, file: served.step_file(), at: Mutex::default() }),
        None => next,
    }
}

impl Watch for Steps {
    fn saw(&self, progress: &Progress) {
        self.next.saw(progress);
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        match progress {
            Progress::Recorded(row) => match &row.body {
                RowBody::Intent(effect) => match &effect.step {
                    Some(step) if !at.contains(step) => at.push(step.clone()),
                    _ => return,
                },
                RowBody::Input(_) => return,
            },
            Progress::StepEnded { step, .. } => at.retain(|it| it != step),
            _ => return,
        }
        let names: Vec<&str> = at.iter().map(StepId::as_str).collect();
        // Whoever cannot read it shows no step.
        let _ = whole(&self.file, &names.join(", "));
    }
}

/// Writes a file whole or not at all.
fn whole(file: &Path, text: &str) -> std::io::Result<()> {
    let beside = file.with_extension("new");
    std::fs::write(&beside, text)?;
    std::fs::rename(&beside, file)
}

/// The workflow's comment is ours from here on. The server, which says there how the job stands, is waited for where it is
/// just doing so, and says no more of this attempt. What comes back is held until the comment is written.
pub(super) async fn speak(ci: &Ci, cx: &Context<'_>) -> Option<File> {
    let served = ci.job.served.as_ref()?;
    let spoken = async {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(served.voice_file())?;
        let mut looks = 0;
        while let Err(error) = file.try_lock() {
            match error {
                TryLockError::Error(error) => return Err(error),
                TryLockError::WouldBlock if looks >= LOOKS => {
                    say(cx, "note: the server is still saying how this job stands, and is not waited for");
                    break;
                }
                TryLockError::WouldBlock => tokio::time::sleep(LOOK).await,
            }
            looks += 1;
        }
        file.set_len(0)?;
        file.write_all(served.attempt.to_string().as_bytes())?;
        Ok::<_, std::io::Error>(file)
    };
    match spoken.await {
        Ok(file) => Some(file),
        Err(error) => {
            let file = served.voice_file();
            say(cx, &format!("WARNING: the server may write over the comment: {}: {error}", file.display()));
            None
        }
    }
}
