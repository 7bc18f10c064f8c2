//! A helper process on the driver's side: a sandbox that is being made, and then waits for its command.

use super::cgroup::Hits;
use super::lane::Lane;
use super::spec::{self, Inner};
use super::{Room, broken};
use crate::adapter::sandbox::guard::Places;
use crate::port::sandbox::SandboxError;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, pipe};

/// A helper that was started. Dropping it ends everything in it.
pub(super) struct Helper {
    pub(super) reported: OwnedReadHalf,
    pub(super) control: OwnedWriteHalf,
    /// What the command prints.
    pub(super) read: pipe::Receiver,
    /// Orders that did not fit into the socket yet.
    pub(super) unsent: Vec<u8>,
    /// Made before its command was known.
    pub(super) ahead: bool,
    built: Inner,
    seen: Seen,
    /// How often the lane's limits had been hit before.
    pub(super) before: Hits,
    /// Last: it goes when its processes are gone.
    pub(super) lane: Lane,
}

/// Which folders were there when a sandbox was made: device and number of the workspace and of what is at its `.git`.
type Seen = [Option<(u64, u64)>; 2];

fn seen(places: &Places) -> Seen {
    let look = |path: &Path| path.symlink_metadata().ok().map(|found| (found.dev(), found.ino()));
    [look(&places.workspace), look(&places.workspace.join(".git"))]
}

impl Helper {
    /// Starts a helper and tells it what to build.
    pub(super) async fn start(room: &Room, built: Inner) -> Result<Self, SandboxError> {
        let mut unsent = spec::frame(&built).map_err(broken)?;
        let seen = seen(&room.places);

        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(broken)?;
        ours.set_nonblocking(true).map_err(broken)?;
        let (reported, control) = tokio::net::UnixStream::from_std(ours).map_err(broken)?.into_split();
        let (read, write) = std::io::pipe().map_err(broken)?;
        let (theirs, write) = (OwnedFd::from(theirs), OwnedFd::from(write));
        let start = |lane: Lane| lane.start(theirs.as_fd(), write.as_fd()).map(|()| lane);
        // A lane whose process was killed, for want of memory say, is of no use any more.
        let lane = match room.free_lane().await.map(&start) {
            Some(Ok(lane)) => lane,
            _ => start(room.new_lane()?).map_err(broken)?,
        };
        let before = lane.hits();
        // What fits is sent at once, so that the helper can begin; the rest goes with the command.
        if let Ok(sent) = control.try_write(&unsent) {
            unsent.drain(..sent.min(unsent.len()));
        }
        let read = pipe::Receiver::from_owned_fd(OwnedFd::from(read)).map_err(broken)?;
        Ok(Self { reported, control, read, unsent, ahead: false, built, seen, before, lane })
    }

    /// Says that it was made before its command was known.
    #[must_use]
    pub(super) fn ahead(self) -> Self {
        Self { ahead: true, ..self }
    }

    /// Whether this is the sandbox that would be made now: the same order, over the same folders.
    pub(super) fn fits(&self, wanted: &Inner, places: &Places) -> bool {
        self.built == *wanted && self.seen == seen(places)
    }
}
