//! Limits that bind a whole sandbox, where this process may write control groups (versions 1 and 2).

use crate::model::plan::Resources;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder in each hierarchy that holds ours.
const OURS: &str = "codeforge";
/// Our own processes, which are not the command's: three for it, three for a sandbox that is made ahead, and as many
/// again for a second command at the same time.
const HELPERS: u32 = 12;

/// Hierarchies that can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchies {
    unified: Option<PathBuf>,
    memory: Option<PathBuf>,
    pids: Option<PathBuf>,
    cpu: Option<PathBuf>,
}

impl Hierarchies {
    /// Looks at what is mounted and tries to make our folder in it.
    pub(super) fn find() -> Self {
        let mut found = Self { unified: None, memory: None, pids: None, cpu: None };
        let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        for line in table.lines() {
            let mut fields = line.split(' ');
            let (Some(_), Some(at), Some(kind), Some(options)) =
                (fields.next(), fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let at = Path::new(at);
            let has = |name: &str| options.split(',').any(|option| option == name);
            match kind {
                "cgroup" => {
                    for (name, slot) in
                        [("memory", &mut found.memory), ("pids", &mut found.pids), ("cpu", &mut found.cpu)]
                    {
                        if slot.is_none() && has(name) {
                            *slot = usable(at);
                        }
                    }
                }
                "cgroup2" => {
                    let controllers = fs::read_to_string(at.join("cgroup.controllers")).unwrap_or_default();
                    if controllers.split_whitespace().any(|name| name == "memory") && found.unified.is_none() {
                        found.unified = usable(at).filter(|ours| {
                            delegate(at);
                            delegate(ours);
                            let given = fs::read_to_string(ours.join("cgroup.subtree_control")).unwrap_or_default();
                            ["memory", "pids"].iter().all(|name| given.split_whitespace().any(|one| one == *name))
                        });
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// Which limits cannot be held by groups.
    pub(super) fn lacks(&self) -> Vec<String> {
        let mut lacks = Vec::new();
        if self.unified.is_none() {
            if self.memory.is_none() {
                lacks.push("memory limit of the whole sandbox: no writable cgroup, each process is limited by itself, and running out of memory cannot be told from a crash".into());
            }
            if self.pids.is_none() {
                lacks.push("process limit by cgroup: counted for the user instead".into());
            }
            if self.cpu.is_none() {
                lacks.push("cpu limit: no writable cgroup".into());
            }
        }
        lacks
    }

    pub(super) fn memory(&self) -> bool {
        self.unified.is_some() || self.memory.is_some()
    }

    pub(super) fn pids(&self) -> bool {
        self.unified.is_some() || self.pids.is_some()
    }

    fn roots(&self) -> impl Iterator<Item = &PathBuf> {
        let single = self.unified.is_none();
        let old = [&self.memory, &self.pids, &self.cpu].into_iter().flatten().filter(move |_| single);
        self.unified.iter().chain(old)
    }

    /// Makes a sandbox's group with its limits.
    pub(super) fn group(&self, name: &str, limits: &Resources) -> std::io::Result<Group> {
        let mut folders: Vec<PathBuf> = Vec::new();
        for root in self.roots() {
            let folder = root.join(name);
            // Controllers mounted together share a folder.
            if !folders.contains(&folder) {
                fs::create_dir(&folder).or_else(|error| match error.kind() {
                    std::io::ErrorKind::AlreadyExists => Ok(()),
                    _ => Err(error),
                })?;
                folders.push(folder);
            }
        }
        let pids = limits.pids.saturating_add(HELPERS);
        let quota = (limits.cpus * 100_000.0) as u64;
        let group = Group { folders };
        if self.unified.is_some() {
            group.folders.iter().for_each(|folder| delegate(folder));
            group.write("memory.max", limits.memory)?;
            let _ = group.write("memory.swap.max", 0);
            group.write("pids.max", pids)?;
            let _ = group.write("cpu.max", format!("{} 100000", quota.max(1000)));
        } else {
            if self.memory.is_some() {
                group.write("memory.limit_in_bytes", limits.memory)?;
                let _ = group.write("memory.memsw.limit_in_bytes", limits.memory);
            }
            if self.pids.is_some() {
                group.write("pids.max", pids)?;
            }
            if self.cpu.is_some() {
                let _ = group.write("cpu.cfs_period_us", 100_000);
                let _ = group.write("cpu.cfs_quota_us", quota.max(1000));
            }
        }
        Ok(group)
    }

    /// Ends and removes the groups of engines that are gone; `of`: only those whose name begins so. How many.
    pub(super) fn reap(&self, of: Option<&str>) -> usize {
        let mut names: Vec<String> = self
            .roots()
            .filter_map(|root| fs::read_dir(root).ok())
            .flat_map(|listing| listing.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()))
            .filter(|name| of.is_none_or(|prefix| name.starts_with(prefix)))
            .filter(|name| {
                let engine = name.rsplit_once('.').and_then(|(_, pid)| pid.parse::<u32>().ok());
                engine.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
            })
            .collect();
        names.sort();
        names.dedup();
        for name in &names {
            Group { folders: self.roots().map(|root| root.join(name)).collect() }.remove();
        }
        names.len()
    }
}

fn usable(hierarchy: &Path) -> Option<PathBuf> {
    let ours = hierarchy.join(OURS);
    (ours.is_dir() || fs::create_dir(&ours).is_ok() || ours.is_dir())
        .then_some(ours)
        .filter(|ours| nix::unistd::access(&ours.join("cgroup.procs"), nix::unistd::AccessFlags::W_OK).is_ok())
}

fn delegate(folder: &Path) {
    for controller in ["+memory", "+pids", "+cpu"] {
        let _ = fs::write(folder.join("cgroup.subtree_control"), controller);
    }
}

/// A sandbox's group, or a lane's within it: a folder for each hierarchy. Removed when dropped.
#[derive(Debug)]
pub(super) struct Group {
    folders: Vec<PathBuf>,
}

/// How often limits were hit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hits {
    pub(super) memory: u64,
    pub(super) pids: u64,
}

impl Group {
    fn write(&self, file: &str, value: impl ToString) -> std::io::Result<()> {
        let Some(path) = self.folders.iter().map(|folder| folder.join(file)).find(|path| path.exists()) else {
            return Err(std::io::Error::new(std::io::ErrorKind::NotFound, format!("no {file}")));
        };
        fs::write(path, value.to_string())
    }

    /// A lane's group, within this one's limits.
    pub(super) fn lane(&self, number: u64) -> std::io::Result<Self> {
        let folders: Vec<_> = self.folders.iter().map(|folder| folder.join(number.to_string())).collect();
        let group = Self { folders };
        group.folders.iter().try_for_each(fs::create_dir)?;
        Ok(group)
    }

    /// The files by which a process joins.
    pub(super) fn doors(&self) -> Vec<PathBuf> {
        self.folders.iter().map(|folder| folder.join("cgroup.procs")).collect()
    }

    /// How often its limits were hit so far.
    pub(super) fn hits(&self) -> Hits {
        let count = |file: &str, key: &str| {
            let texts = self.folders.iter().filter_map(|folder| fs::read_to_string(folder.join(file)).ok());
            texts
                .flat_map(|text| {
                    text.lines()
                        .filter_map(|line| line.split_once(' ').filter(|(name, _)| *name == key))
                        .filter_map(|(_, number)| number.trim().parse::<u64>().ok())
                        .collect::<Vec<_>>()
                })
                .sum()
        };
        Hits {
            memory: count("memory.oom_control", "oom_kill") + count("memory.events", "oom_kill"),
            pids: count("pids.events", "max"),
        }
    }

    /// Kills whatever is in it.
    pub(super) fn kill(&self) {
        for folder in &self.folders {
            for procs in fs::read_to_string(folder.join("cgroup.procs")).iter() {
                for pid in procs.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0) {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
        }
    }

    fn remove(&self) {
        for folder in &self.folders {
            let inner = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
            let inner: Vec<PathBuf> = inner.filter(|path| path.is_dir()).collect();
            for path in inner.iter().chain([folder]) {
                // Its processes are killed and waited for, but leave the group a moment later.
                for _ in 0..40 {
                    match fs::remove_dir(path) {
                        Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                            Self { folders: vec![path.clone()] }.kill_only();
                            std::thread::sleep(std::time::Duration::from_millis(2));
                        }
                        _ => break,
                    }
                }
            }
        }
    }

    /// `kill`, of a value that must not remove its folder when it goes.
    fn kill_only(mut self) {
        self.kill();
        self.folders.clear();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.remove();
    }
}
