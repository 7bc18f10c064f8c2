//! Overlay mounts: made as root on the host, so that any sandbox can show them.

use super::beneath;
use super::sys;
use nix::mount::{MntFlags, MsFlags};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// The host user that owns workspaces made of a folder of root's: commands in a sandbox never run as root.
pub(super) const SANDBOX_ID: u32 = 64_321;

/// Mounts an overlay of `layers` (topmost first) at `target`; with `upper` (and its work folder) it can be written.
pub(super) fn mount(layers: &[PathBuf], upper: Option<(&Path, &Path)>, target: &Path) -> io::Result<()> {
    // Layers are named by descriptor: no character of a path needs escaping, and no path is too long.
    let open: Vec<_> = layers.iter().map(|layer| beneath::open_root(layer)).collect::<io::Result<_>>()?;
    let named: Vec<String> = open.iter().map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd())).collect();
    let mut options = format!("lowerdir={},redirect_dir=off,metacopy=off,index=off", named.join(":"));
    let mut flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
    let mut held = Vec::new();
    match upper {
        Some((upper, work)) => {
            let (upper, work) = (beneath::open_root(upper)?, beneath::open_root(work)?);
            options.push_str(&format!(
                ",upperdir=/proc/self/fd/{},workdir=/proc/self/fd/{}",
                upper.as_raw_fd(),
                work.as_raw_fd()
            ));
            held.extend([upper, work]);
        }
        None => flags |= MsFlags::MS_RDONLY,
    }
    let source = Some("codeforge");
    nix::mount::mount(source, target, Some("overlay"), flags, Some(options.as_str())).map_err(io::Error::from)
}

/// Shows root's folder `source` at `target` as the sandbox user's.
pub(super) fn mount_lower(source: &Path, target: &Path) -> io::Result<()> {
    sys::mount_idmapped(source, target, SANDBOX_ID)
}

/// The places at or under `folder` at which something is mounted, deepest first.
pub(super) fn mounts_under(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    let mut places = Vec::new();
    for line in table.split(|byte| *byte == b'\n') {
        let Some(place) = line.split(|byte| *byte == b' ').nth(4) else { continue };
        let place = unescape(place);
        if place.starts_with(folder) {
            places.push(place);
        }
    }
    places.sort_by_key(|place| std::cmp::Reverse(place.components().count()));
    Ok(places)
}

/// The mount table writes space, tab, newline and backslash in octal.
fn unescape(text: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut plain = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let octal = text
            .get(at + 1..at + 4)
            .filter(|_| *byte == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        plain.push(octal.unwrap_or(*byte));
        at += if octal.is_some() { 4 } else { 1 };
    }
    PathBuf::from(std::ffi::OsString::from_vec(plain))
}

/// Unmounts all at or under `folder`; what is busy goes as soon as it is not.
pub(super) fn unmount_under(folder: &Path) -> io::Result<()> {
    for place in mounts_under(folder)? {
        nix::mount::umount2(&place, MntFlags::MNT_DETACH).map_err(io::Error::from)?;
    }
    Ok(())
}
