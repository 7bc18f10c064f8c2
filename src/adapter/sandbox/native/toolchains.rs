//! Which compilers and interpreters that live outside the system's folders are shown inside.

use super::SYSTEM_PATH;
use crate::adapter::sandbox::guard::is_system;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Toolchains of this machine: folders shown read-only at their own place, and the `PATH` that finds them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Toolchains {
    pub(super) folders: Vec<PathBuf>,
    pub(super) path: String,
    pub(super) env: BTreeMap<String, String>,
    home: Option<PathBuf>,
}

impl Toolchains {
    /// Only the system's own folders.
    pub fn system() -> Self {
        Self { path: SYSTEM_PATH.into(), ..Self::default() }
    }

    /// Shows these folders too, read-only, and looks for programs in `path` first.
    #[must_use]
    pub fn with(mut self, folders: Vec<PathBuf>, path: &str) -> Self {
        self.folders.extend(folders);
        self.tidy();
        if !path.is_empty() {
            self.path = format!("{path}:{}", self.path);
        }
        self
    }

    /// What the operator's `PATH` names. A home folder is never shown whole: of rustup and cargo the programs (the
    /// folder beside them holds credentials), of pyenv, nvm and their kin the installation.
    pub fn discover(path: &str, home: Option<&Path>) -> Self {
        let mut found = Self { home: home.map(Path::to_path_buf), ..Self::system() };
        let mut entries = Vec::new();
        for entry in path.split(':').map(Path::new).filter(|entry| entry.is_absolute() && entry.is_dir()) {
            if !is_system(entry) {
                if !sensible(entry, home) {
                    continue;
                }
                found.show(entry, home);
            }
            if let Some(text) = entry.to_str()
                && !entries.contains(&text)
            {
                entries.push(text);
            }
        }
        entries.extend(SYSTEM_PATH.split(':').filter(|entry| !path.split(':').any(|one| one == *entry)));
        found.path = entries.join(":");
        found.tidy();
        found
    }

    /// What lies beneath another shown folder is shown with it.
    fn tidy(&mut self) {
        self.folders.sort();
        self.folders.dedup_by(|later, earlier| later.starts_with(&*earlier));
    }

    /// The operator's home.
    pub(in crate::adapter::sandbox) fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    /// Where programs are looked for.
    pub(in crate::adapter::sandbox) fn path(&self) -> &str {
        &self.path
    }

    /// What has to be shown so that the programs in a folder can be used.
    pub(in crate::adapter::sandbox) fn installation(&self, folder: &Path) -> Vec<PathBuf> {
        let mut found = Self::default();
        if folder.is_dir() && sensible(folder, self.home()) {
            found.show(folder, self.home());
        }
        found.folders
    }

    fn show(&mut self, entry: &Path, home: Option<&Path>) {
        let parent = entry.parent().unwrap_or(entry);
        // By its own name, wherever it lies: `HOME` may be another one than that of the toolchain.
        for family in entry.ancestors() {
            match family.file_name().and_then(|name| name.to_str()) {
                Some(".cargo") => {
                    let rustup = family.with_file_name(".rustup");
                    self.folders.push(entry.to_owned());
                    if rustup.is_dir() {
                        self.env.insert("RUSTUP_HOME".into(), rustup.to_string_lossy().into_owned());
                        self.folders.push(rustup);
                    }
                    return;
                }
                Some(".pyenv" | ".rbenv" | ".nvm" | ".volta" | ".asdf" | ".deno" | ".bun" | ".rustup" | ".sdkman") => {
                    if family.file_name().is_some_and(|name| name == ".pyenv") {
                        self.env.insert("PYENV_ROOT".into(), family.to_string_lossy().into_owned());
                    }
                    self.folders.push(family.to_owned());
                    return;
                }
                _ => {}
            }
        }
        // `…/node-22/bin` is of use with its `lib` only.
        let whole = entry.file_name().is_some_and(|name| name == "bin")
            && parent.join("lib").is_dir()
            && parent.components().count() > 2
            && home.is_none_or(|home| !home.starts_with(parent) && parent.parent() != Some(home));
        self.folders.push(if whole { parent.to_owned() } else { entry.to_owned() });
    }
}

/// Whether an entry of `PATH` may be shown: not the root, not a home or what holds one, not what the sandbox makes.
fn sensible(entry: &Path, home: Option<&Path>) -> bool {
    let made = ["/proc", "/sys", "/dev", "/run", "/tmp", "/etc", "/workspace", "/source", "/home/agent", "/root/.ssh"];
    entry.components().count() > 1
        && home.is_none_or(|home| !home.starts_with(entry))
        && !made.iter().any(|place| entry.starts_with(place))
}

#[cfg(test)]
mod tests {
    use super::Toolchains;
    use std::fs;

    #[test]
    fn programs_are_shown_and_homes_are_not() {
        let home = tempfile::tempdir_in("/var/tmp").unwrap();
        let home = home.path();
        for folder in
            [".cargo/bin", ".rustup", ".pyenv/shims", ".local/bin", ".local/lib", "tools/node/bin", "tools/node/lib"]
        {
            fs::create_dir_all(home.join(folder)).unwrap();
        }
        let path = [".cargo/bin", ".pyenv/shims", ".local/bin", "tools/node/bin", "", "missing"]
            .map(|entry| home.join(entry).display().to_string())
            .join(":");
        let found = Toolchains::discover(&format!("{path}:.:/usr/bin"), Some(home));
        let shown: Vec<_> =
            found.folders.iter().map(|folder| folder.strip_prefix(home).unwrap().to_str().unwrap()).collect();
        assert_eq!(shown, [".cargo/bin", ".local/bin", ".pyenv", ".rustup", "tools/node"]);
        assert!(found.path.contains(".cargo/bin") && found.path.ends_with("/bin") && !found.path.contains(":.:"));
        assert!(found.env.contains_key("RUSTUP_HOME") && found.env.contains_key("PYENV_ROOT"));
    }
}
