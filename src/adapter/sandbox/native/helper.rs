//! A helper process on the driver's side: a sandbox that is being made, and then waits for its command.

use super::cgroup::Group;
use super::spec::{self, Inner, Outer};
use super::{Room, broken};
use crate::adapter::sandbox::guard::Places;
use crate::port::sandbox::SandboxError;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, pipe};

/// A helper that was started. Dropping it ends everything in it.
pub(super) struct Helper {
    pub(super) child: tokio::process::Child,
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
    /// Last: it goes when its processes are gone.
    pub(super) group: Group,
}

/// Which folders were there when a sandbox was made: device and number of the workspace and of what is at its `.git`.
type Seen = [Option<(u64, u64)>; 2];

fn seen(places: &Places) -> Seen {
    let look = |path: &Path| path.symlink_metadata().ok().map(|found| (found.dev(), found.ino()));
    [look(&places.workspace), look(&places.workspace.join(".git"))]
}

impl Helper {
    /// Starts a helper and tells it what to build.
    pub(super) fn start(room: &Room, built: Inner) -> Result<Self, SandboxError> {
        let group = room.group.command(room.count.fetch_add(1, Ordering::Relaxed)).map_err(broken)?;
        let outer = Outer {
            rights: room.rights,
            network: room.order.network,
            listen: room.order.loopback.as_ref().map(|loopback| loopback.port),
            cgroups: group.doors(),
        };
        let mut unsent = spec::frame(&outer).map_err(broken)?;
        unsent.extend(spec::frame(&built).map_err(broken)?);
        let seen = seen(&room.places);

        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(broken)?;
        ours.set_nonblocking(true).map_err(broken)?;
        let (reported, control) = tokio::net::UnixStream::from_std(ours).map_err(broken)?.into_split();
        let (read, write) = std::io::pipe().map_err(broken)?;
        #[expect(clippy::disallowed_methods, reason = "this adapter's work is to start processes")]
        let mut helper = tokio::process::Command::new(&room.helper);
        helper
            .arg(spec::OUTER)
            .env_clear()
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::from(write.try_clone().map_err(broken)?))
            .stderr(Stdio::from(write))
            .process_group(0)
            .kill_on_drop(true);
        let child = helper.spawn().map_err(|error| {
            SandboxError::Unavailable(format!("cannot start the sandbox's helper {}: {error}", room.helper.display()))
        })?;
        drop(helper);
        // What fits is sent at once, so that the helper can begin; the rest goes with the command.
        if let Ok(sent) = control.try_write(&unsent) {
            unsent.drain(..sent.min(unsent.len()));
        }
        let read = pipe::Receiver::from_owned_fd(OwnedFd::from(read)).map_err(broken)?;
        Ok(Self { child, reported, control, read, unsent, ahead: false, built, seen, group })
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
