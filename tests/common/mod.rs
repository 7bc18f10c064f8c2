//! What integration tests share: `mod common;`.
//!
//! [`ModelServer`] plays a provider over real HTTP, [`TestRepo`] makes real repositories, [`codeforge`] starts the
//! binary in an environment that knows nothing of where the tests run.
#![expect(dead_code, reason = "every test file uses a part of it")]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot be set up fails")]

pub mod act;
mod anthropic;
pub mod artifacts;
pub mod forge_server;
pub mod hub;
pub mod model_server;
pub mod payloads;
pub mod published;
pub mod queued;
pub mod recorded;
pub mod releases;
pub mod served;
pub mod stage;
pub mod tls;
pub mod town;

pub use model_server::{ModelServer, Reply, Rule, Script, Wire};

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// The binary under test, with a clean environment: `PATH`, an empty home, and nothing of `CI`, `GITHUB_*`,
/// `GITLAB_*` or `CODEFORGE_*`. Add what the test needs with [`Command::env`].
pub fn codeforge() -> Command {
    let mut command = clean(env!("CARGO_BIN_EXE_codeforge"));
    command.env("NO_COLOR", "1");
    command
}

/// The git command line without anybody's configuration, with a fixed author and fixed dates.
pub fn git() -> Command {
    let mut command = clean("git");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "Test");
        command.env(format!("GIT_{who}_EMAIL"), "test@example.com");
        command.env(format!("GIT_{who}_DATE"), "2026-01-02T03:04:05Z");
    }
    command
}

/// A program that knows nothing of where the tests run: `PATH`, an empty home, no configuration of git.
#[expect(clippy::disallowed_methods, reason = "tests start the binary and git as people do")]
pub fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    for (name, value) in [
        ("HOME", home().to_str().unwrap()),
        ("LANG", "C.UTF-8"),
        ("TZ", "UTC"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_TERMINAL_PROMPT", "0"),
    ] {
        command.env(name, value);
    }
    command
}

/// A home folder with nothing in it, one for each process; removed by no one, because nothing is written to it.
fn home() -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("empty-home");
    std::fs::create_dir_all(&home).unwrap();
    home
}

/// Runs a command, panics with everything it said unless it ends with 0, and gives its standard output.
pub fn ok(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    assert!(output.status.success(), "{command:?} failed\n{}", spoken(&output));
    String::from_utf8(output.stdout).expect("UTF-8 on standard output")
}

/// Everything that a process said, for a failure's message.
pub fn spoken(output: &Output) -> String {
    format!(
        "{}\n--- stdout\n{}\n--- stderr\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A real git repository in a folder of its own, with branch `main`; gone when dropped.
#[derive(Debug)]
pub struct TestRepo {
    folder: tempfile::TempDir,
}

/// What runs in it left mounted beside it goes, too: engines that a test drops half-way clean nothing up.
impl Drop for TestRepo {
    fn drop(&mut self) {
        let state = self.path().canonicalize().unwrap_or_default().join(".git/codeforge");
        let here = codeforge::model::id::short_hash(state.as_os_str().as_encoded_bytes(), 16);
        let beside = PathBuf::from(format!("/var/tmp/codeforge-0/{here}"));
        let runs = std::fs::read_dir(beside).into_iter().flatten().flatten();
        let runs: Vec<String> = runs.map(|run| run.file_name().to_string_lossy().into_owned()).collect();
        if runs.is_empty() {
            return;
        }
        if let Ok(repository) = codeforge::adapter::git::open(self.path()) {
            for run in runs {
                let _ = repository.clean(&run.as_str().into());
            }
        }
    }
}

impl TestRepo {
    /// An empty repository without a commit.
    pub fn empty() -> Self {
        let repo = Self { folder: tempfile::tempdir().unwrap() };
        repo.git(&["init", "--quiet", "--initial-branch=main"]);
        repo
    }

    /// A repository whose first commit holds `files` (path, content).
    pub fn with(files: &[(&str, &str)]) -> Self {
        let repo = Self::empty();
        for (path, content) in files {
            repo.write(path, content);
        }
        repo.commit("first");
        repo
    }

    /// Its work tree.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file, its folders too, without committing it.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    /// Makes a file executable.
    pub fn executable(&self, path: &str) -> &Self {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(self.path().join(path), std::fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// The text of a file.
    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Whether there is such a file.
    pub fn has(&self, path: &str) -> bool {
        self.path().join(path).exists()
    }

    /// Commits everything that is not ignored; gives the commit's id.
    pub fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message]);
        self.head()
    }

    /// The id of the current commit.
    pub fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }

    /// What `git status --porcelain` says; empty where the tree is clean.
    pub fn status(&self) -> String {
        self.git(&["status", "--porcelain"])
    }

    /// Runs git in the repository; gives its trimmed output.
    pub fn git(&self, arguments: &[&str]) -> String {
        ok(git().current_dir(self.path()).args(arguments)).trim_end().to_owned()
    }

    /// The binary under test, started in the repository.
    pub fn codeforge(&self, arguments: &[&str]) -> Command {
        let mut command = codeforge();
        command.current_dir(self.path()).args(arguments);
        command
    }
}

/// Waits until `look` finds something, and panics after a minute of finding nothing.
pub async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "{what}: not within a minute");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A file of a program that `scripts/setup` installed.
pub fn peer(path: &str) -> PathBuf {
    cached(&format!("peers/{path}"))
}

/// A file that `scripts/setup` fetched.
pub fn cached(path: &str) -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "scripts/setup keeps its downloads under the home folder")]
    let home = std::env::var_os("HOME").expect("HOME is set");
    let file = Path::new(&home).join(".cache/codeforge").join(path);
    assert!(file.exists(), "{} is not there: run scripts/setup", file.display());
    file
}
