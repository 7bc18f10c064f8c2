//! Whose process holds a run, and whether it still lives.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fmt;

/// A process, told apart from any other: by machine (host name and boot), process-id namespace, number and start
/// time, so that a number used again is not mistaken for the old process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::adapter) struct Owner {
    pid: u32,
    /// Field 22 of `/proc/PID/stat`: clock ticks after boot; 0 where there is no `/proc`.
    start: u64,
    host: String,
    boot: String,
    /// The process-id namespace (`pid:[4026531836]`): a number in another one cannot be looked up from here.
    namespace: String,
}

/// How a holder of a run looks from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::adapter) enum Life {
    /// Its process runs on this machine.
    Alive,
    /// Its process is gone.
    Gone,
    /// It is on another machine or in another container: it cannot be looked up from here.
    OutOfSight,
}

/// This process, as [`Store::take`](crate::port::store::Store::take) wants it:
/// `PID@HOST start=TICKS boot=ID ns=PID-NAMESPACE`.
pub fn owner() -> String {
    Owner::this().to_string()
}

impl Owner {
    pub(in crate::adapter) fn this() -> Self {
        Self::of(std::process::id())
    }

    /// A process of this machine.
    pub(in crate::adapter) fn of(pid: u32) -> Self {
        let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let namespace = std::fs::read_link("/proc/self/ns/pid").map(|link| link.display().to_string());
        Self {
            pid,
            start: stat(pid).map_or(0, |(_, start)| start),
            host: host.split_whitespace().collect(),
            boot: boot.trim().to_owned(),
            namespace: namespace.unwrap_or_default(),
        }
    }

    /// Reads what [`owner`] wrote.
    pub(in crate::adapter) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let (pid, host) = parts.next()?.split_once('@')?;
        let mut field = |name: &str| parts.next()?.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
        Some(Self {
            pid: pid.parse().ok()?,
            host: host.to_owned(),
            start: field("start")?.parse().ok()?,
            boot: field("boot")?,
            namespace: field("ns")?,
        })
    }

    /// How this owner looks from the process `here`.
    pub(in crate::adapter) fn life(&self, here: &Self) -> Life {
        if self.boot != here.boot {
            // The same machine after a restart has nothing of its old processes left.
            return if self.host == here.host { Life::Gone } else { Life::OutOfSight };
        }
        if self.namespace != here.namespace || here.start == 0 {
            return Life::OutOfSight;
        }
        match stat(self.pid) {
            Some((state, start)) if start == self.start && !matches!(state, 'Z' | 'X') => Life::Alive,
            _ => Life::Gone,
        }
    }

    /// Interrupts it, where it lives here and is not this process itself. Whether it was told.
    pub(super) fn interrupt(&self) -> bool {
        let here = Self::this();
        let pid = i32::try_from(self.pid).ok().filter(|pid| *pid > 1).map(Pid::from_raw);
        let there = self.pid != here.pid && self.life(&here) == Life::Alive;
        pid.filter(|_| there).is_some_and(|pid| kill(pid, Signal::SIGINT).is_ok())
    }

    /// Its number.
    pub(in crate::adapter) fn pid(&self) -> u32 {
        self.pid
    }

    /// For people: `process 4711 on build-7`.
    pub(super) fn words(&self) -> String {
        format!("process {} on {}", self.pid, self.host)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, start, host, boot, namespace } = self;
        write!(f, "{pid}@{host} start={start} boot={boot} ns={namespace}")
    }
}

/// State and start time of a process. The command's name, field 2, may hold anything, brackets and blanks included.
fn stat(pid: u32) -> Option<(char, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_found_again_in_its_text_and_judged_by_where_it_is() {
        let here = Owner::this();
        assert_eq!(Owner::parse(&here.to_string()), Some(here.clone()));
        assert_eq!(here.life(&here), Life::Alive);

        let reused = Owner { start: here.start + 1, ..here.clone() };
        assert_eq!(reused.life(&here), Life::Gone, "the same number, another process");
        let rebooted = Owner { boot: "before".into(), ..here.clone() };
        assert_eq!(rebooted.life(&here), Life::Gone);
        let elsewhere = Owner { boot: "other".into(), host: "build-7".into(), ..here.clone() };
        assert_eq!(elsewhere.life(&here), Life::OutOfSight);
        let container = Owner { namespace: "pid:[1]".into(), ..here.clone() };
        assert_eq!(container.life(&here), Life::OutOfSight);

        for nonsense in ["", "x", "1@h", "1@h start=x boot=b ns=n", "@ start=1 boot= ns="] {
            assert_eq!(Owner::parse(nonsense), None, "{nonsense:?}");
        }
    }
}
