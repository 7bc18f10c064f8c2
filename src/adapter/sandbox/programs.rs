//! Programs that lie outside the system's folders (a Python environment, `node_modules`), and what has to be shown of
//! this machine so that they run inside.

use super::guard;
use super::native::Toolchains;
use crate::port::sandbox::{Guest, SandboxError};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// Links and interpreters that are followed from one program.
const HOPS: usize = 24;
/// Names of folders that hold credentials, wherever they lie.
const CREDENTIALS: [&str; 12] = [
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".kube",
    ".docker",
    ".password-store",
    ".mozilla",
    ".git-credentials",
    ".netrc",
    "gcloud",
    "keyrings",
];

/// What is shown for a guest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Shown {
    /// Folders, each at its own place, without those that lie beneath another.
    pub(super) folders: Vec<PathBuf>,
    /// Folders to look for programs in.
    pub(super) path: Vec<PathBuf>,
    /// Programs that were not found.
    pub(super) missing: Vec<String>,
}

impl Shown {
    /// The folders of programs, as `PATH` lists them.
    pub(super) fn path_text(&self) -> String {
        let texts: Vec<&str> = self.path.iter().filter_map(|folder| folder.to_str()).collect();
        texts.join(":")
    }

    /// The first program that is missing, as an error.
    pub(super) fn complete(self) -> Result<Self, SandboxError> {
        match self.missing.first() {
            Some(program) => Err(SandboxError::Missing(program.clone())),
            None => Ok(self),
        }
    }
}

/// Finds what a guest needs.
///
/// # Errors
/// [`SandboxError::Refused`] for a folder that may not be shown.
pub(super) fn find(guest: &Guest, host: &Toolchains) -> Result<Shown, SandboxError> {
    let mut search = Search { host, shown: Shown::default(), hops: HOPS };
    for folder in &guest.show {
        let folder = search.named(folder)?;
        for bin in [folder.join("bin"), folder.join(".bin"), folder.join("node_modules/.bin")] {
            if bin.is_dir() {
                search.shown.path.push(bin);
            }
        }
        if search.shown.path.is_empty() {
            search.shown.path.push(folder.clone());
        }
        search.shown.folders.push(folder);
    }
    for program in &guest.programs {
        match search.on_path(program) {
            Some(file) => {
                if let Some(folder) = file.parent()
                    && !search.shown.path.iter().any(|known| known == folder)
                {
                    search.shown.path.push(folder.to_path_buf());
                }
                search.hops = HOPS;
                search.follow(&file);
            }
            None => search.shown.missing.push(program.clone()),
        }
    }
    let mut shown = search.shown;
    shown.folders.sort();
    shown.folders.dedup_by(|later, earlier| later.starts_with(&*earlier));
    for folder in &shown.folders {
        allowed(folder, host.home())?;
    }
    Ok(shown)
}

struct Search<'a> {
    host: &'a Toolchains,
    shown: Shown,
    hops: usize,
}

impl Search<'_> {
    /// A folder that the operator named, with `~/` for the home.
    fn named(&self, folder: &Path) -> Result<PathBuf, SandboxError> {
        let refused =
            |why: &str| SandboxError::Refused(format!("the folder {} cannot be shown: {why}", folder.display()));
        let full = match (folder.strip_prefix("~"), self.host.home()) {
            (Ok(rest), Some(home)) => home.join(rest),
            (Ok(_), None) => return Err(refused("there is no home folder; write the whole path")),
            _ => folder.to_path_buf(),
        };
        if !full.is_absolute() || full.components().any(|part| matches!(part, Component::ParentDir)) {
            return Err(refused("write the whole path, from `/` or `~/`"));
        }
        allowed(&full, self.host.home())?;
        if !full.is_dir() {
            return Err(refused("there is no such folder"));
        }
        Ok(full)
    }

    fn on_path(&self, program: &str) -> Option<PathBuf> {
        if program.contains('/') {
            let file = PathBuf::from(program);
            return (file.is_absolute() && executable(&file)).then_some(file);
        }
        let own = self.shown.path.iter().map(PathBuf::as_path);
        let usual = self.host.path().split(':').map(Path::new).filter(|folder| folder.is_absolute());
        own.chain(usual).map(|folder| folder.join(program)).find(|file| executable(file))
    }

    /// Shows where a program lies, where its links lead, and its interpreter.
    fn follow(&mut self, file: &Path) {
        if self.hops == 0 {
            return;
        }
        self.hops -= 1;
        self.show(file);
        if let Ok(target) = file.read_link() {
            let target = file.parent().map(|folder| folder.join(&target)).unwrap_or(target);
            return self.follow(&plain(&target));
        }
        let mut head = Vec::new();
        let read = std::fs::File::open(file).and_then(|file| file.take(4096).read_to_end(&mut head));
        let head = String::from_utf8_lossy(&head);
        let mut lines = head.lines();
        if read.is_err() || !head.starts_with("#!") {
            return;
        }
        let words: Vec<&str> = lines.next().unwrap_or_default().trim_start_matches("#!").split_whitespace().collect();
        match words.as_slice() {
            [env, rest @ ..] if env.ends_with("/env") => {
                let name = rest.iter().find(|word| !word.starts_with('-') && !word.contains('='));
                if let Some(interpreter) = name.and_then(|name| self.on_path(name)) {
                    self.follow(&interpreter);
                }
            }
            [interpreter, ..] => self.follow(Path::new(interpreter)),
            [] => {}
        }
    }

    /// Shows the installation that a file belongs to.
    fn show(&mut self, file: &Path) {
        let Some(folder) = file.parent() else { return };
        let modules =
            file.ancestors().filter(|part| part.file_name().is_some_and(|name| name == "node_modules")).last();
        if let Some(modules) = modules {
            self.add(modules.to_path_buf());
            return;
        }
        let environment = folder.parent().filter(|parent| parent.join("pyvenv.cfg").is_file());
        let Some(environment) = environment else {
            for installation in self.host.installation(folder) {
                self.add(installation);
            }
            return;
        };
        self.add(environment.to_path_buf());
        // A Python environment without its Python is of no use.
        let settings = std::fs::read_to_string(environment.join("pyvenv.cfg")).unwrap_or_default();
        let home = settings.lines().find_map(|line| line.split_once('=').filter(|(key, _)| key.trim() == "home"));
        if let Some((_, home)) = home {
            for installation in self.host.installation(Path::new(home.trim())) {
                self.add(installation);
            }
        }
    }

    fn add(&mut self, folder: PathBuf) {
        if !guard::is_system(&folder) {
            self.shown.folders.push(folder);
        }
    }
}

fn executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Without `.` and `..`, as far as that can be told from the text.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

/// Whether a folder may be shown: no home as a whole, nothing that holds one, no credentials, no daemon's socket,
/// nothing that the sandbox makes itself.
fn allowed(folder: &Path, home: Option<&Path>) -> Result<(), SandboxError> {
    let refused =
        |why: String| Err(SandboxError::Refused(format!("the folder {} cannot be shown: {why}", folder.display())));
    let real = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    for path in [folder, &real] {
        if let Some(home) =
            home.filter(|home| home.starts_with(path) || home.canonicalize().is_ok_and(|home| home.starts_with(path)))
        {
            return refused(format!(
                "it is, or holds, the home folder {}; name the program's own folder",
                home.display()
            ));
        }
        let parts: Vec<&str> = path.components().filter_map(|part| part.as_os_str().to_str()).collect();
        if matches!(parts.as_slice(), [_] | [_, "home" | "root" | "Users"] | [_, "home" | "Users", _]) {
            return refused("it is, or holds, a home folder; name the program's own folder".into());
        }
        if let Some(name) = parts.iter().find(|part| CREDENTIALS.contains(part)) {
            return refused(format!("`{name}` holds credentials"));
        }
        if parts.ends_with(&[".config"]) || parts.ends_with(&[".local"]) {
            return refused("it holds the settings of all programs; name the one that is needed".into());
        }
        let made =
            ["/proc", "/sys", "/dev", "/run", "/tmp", "/etc", "/var/run", "/workspace", "/source", "/home/agent"];
        if let Some(made) = made.iter().find(|made| path.starts_with(made) || Path::new(made).starts_with(path)) {
            return refused(format!("inside, {made} is made anew; put the program elsewhere"));
        }
    }
    match guard::socket_in(&real) {
        Some(socket) => refused(format!("it holds {}, and whoever reaches that owns this machine", socket.display())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Guest, Toolchains, find};
    use crate::port::sandbox::SandboxError;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::{Path, PathBuf};

    fn script(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_program_is_shown_with_what_it_stands_on() {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let home = folder.path();
        // A Python environment made from a Python elsewhere, and a command of a package of node's.
        script(&home.join("lang/python/bin/python3"), "\x7fELF");
        fs::create_dir_all(home.join("lang/python/lib")).unwrap();
        fs::create_dir_all(home.join("venv/lib")).unwrap();
        fs::write(home.join("venv/pyvenv.cfg"), format!("home = {}/lang/python/bin\n", home.display())).unwrap();
        script(&home.join("venv/bin/tool"), &format!("#!{}/venv/bin/python3\n", home.display()));
        symlink(home.join("lang/python/bin/python3"), home.join("venv/bin/python3")).unwrap();
        script(&home.join("js/node_modules/pack/bin/cli"), "#!/usr/bin/env -S node --flag\n");
        fs::create_dir_all(home.join("js/node_modules/.bin")).unwrap();
        symlink("../pack/bin/cli", home.join("js/node_modules/.bin/cli")).unwrap();
        script(&home.join("lang/node-22/bin/node"), "\x7fELF");
        fs::create_dir_all(home.join("lang/node-22/lib")).unwrap();

        let path =
            ["venv/bin", "js/node_modules/.bin", "lang/node-22/bin"].map(|it| home.join(it).display().to_string());
        let host = Toolchains::discover(&path.join(":"), Some(home));
        let guest = |programs: &[&str]| Guest {
            programs: programs.iter().map(|name| (*name).to_owned()).collect(),
            show: Vec::new(),
        };
        let shown = |programs: &[&str]| {
            let found = find(&guest(programs), &host).unwrap().complete().unwrap();
            let names = found.folders.iter().map(|at| at.strip_prefix(home).unwrap().display().to_string());
            names.collect::<Vec<_>>()
        };
        assert_eq!(shown(&["tool"]), ["lang/python", "venv"]);
        assert_eq!(shown(&["cli"]), ["js/node_modules", "lang/node-22"]);
        assert_eq!(shown(&["sh"]), Vec::<String>::new(), "what every sandbox has is not shown again");
        let missing = find(&guest(&["tool", "nowhere"]), &host).unwrap().complete();
        assert!(matches!(missing, Err(SandboxError::Missing(program)) if program == "nowhere"));
    }

    #[test]
    fn no_home_no_credentials_and_no_socket_is_ever_shown() {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let home = folder.path().join("me");
        for made in [".ssh", "tools/bin", ".config/app"] {
            fs::create_dir_all(home.join(made)).unwrap();
        }
        symlink(&home, folder.path().join("alias")).unwrap();
        let host = Toolchains::discover("/usr/bin", Some(&home));
        let show = |path: &str| find(&Guest { programs: Vec::new(), show: vec![PathBuf::from(path)] }, &host);
        let alias = folder.path().join("alias").display().to_string();
        for path in
            ["~", "~/.ssh", "~/.config", "/", "/home", "/root", "/var", "/etc", "/run", "tools", "~/../me", &alias]
        {
            assert!(matches!(show(path), Err(SandboxError::Refused(_))), "{path}: {:?}", show(path));
        }
        let found = show("~/tools").unwrap();
        assert_eq!(found.folders, [home.join("tools")]);
        assert_eq!(found.path, [home.join("tools/bin")]);
        assert!(show("~/.config/app").is_ok());
    }
}
