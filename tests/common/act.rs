//! A real runner of GitHub's workflows on this machine: [`Act`] runs a consumer's workflow with this project's action.

use super::{TestRepo, peer};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The action as a consumer gets it: `action.yml` and what it calls, without the rest of the project.
pub fn action() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::create_dir(folder.path().join("action")).unwrap();
    for file in ["action.yml", "action/install.sh", "action/checksums.txt"] {
        std::fs::copy(project.join(file), folder.path().join(file)).unwrap();
    }
    folder
}

/// One start of the runner, with a home folder of its own.
pub struct Act {
    repo: PathBuf,
    home: tempfile::TempDir,
    arguments: Vec<String>,
    docker: bool,
    mounts: Vec<String>,
}

/// What the runner did.
pub struct Ran {
    /// Its exit code and everything it said.
    pub output: Output,
    lines: Vec<Value>,
}

impl Act {
    /// In a repository that pretends to be `acme/widgets`; `uses: acme/codeforge@v1` is `action`.
    pub fn new(repo: &TestRepo, action: &Path) -> Self {
        if repo.git(&["remote"]).is_empty() {
            repo.git(&["remote", "add", "origin", "https://github.com/acme/widgets"]);
        }
        let mut act = Self {
            repo: repo.path().to_owned(),
            home: tempfile::tempdir().unwrap(),
            arguments: Vec::new(),
            docker: false,
            mounts: Vec::new(),
        };
        let runners = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runners");
        act.local("acme/codeforge@v1", action);
        for name in ["upload-artifact", "download-artifact"] {
            for version in ["v4", "v5", "v6", "v7", "v8"] {
                act.local(&format!("actions/{name}@{version}"), &runners.join(name));
            }
        }
        act
    }

    /// The same for a workflow file that pins actions of others by commit: what is run in their place is ours, too.
    pub fn pinned(&mut self, workflow: &str) -> &mut Self {
        let runners = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runners");
        let used = workflow.lines().filter_map(|line| line.trim().strip_prefix("uses: actions/")?.split(' ').next());
        let used: std::collections::BTreeSet<(&str, &str)> = used.filter_map(|used| used.split_once('@')).collect();
        for (name, commit) in used {
            let name = name.split('/').next().unwrap();
            if runners.join(name).is_dir() {
                self.local(&format!("actions/{name}@{commit}"), &runners.join(name));
            }
        }
        self
    }

    /// What `uses: NAME` is.
    pub fn local(&mut self, name: &str, folder: &Path) -> &mut Self {
        self.arguments.push("--local-repository".into());
        self.arguments.push(format!("{name}={}", folder.display()));
        self
    }

    /// Steps run in a container of the runner image, as its own user, with the host's network.
    pub fn in_docker(&mut self) -> &mut Self {
        self.docker = true;
        self
    }

    /// A file or folder that containers see too, at the same place, read-only.
    pub fn mount(&mut self, path: &Path) -> &mut Self {
        self.mounts.push(format!("-v {0}:{0}:ro", path.display()));
        self
    }

    /// A folder that containers may write to.
    pub fn mount_writable(&mut self, path: &Path) -> &mut Self {
        self.mounts.push(format!("-v {0}:{0}", path.display()));
        self
    }

    /// A variable of the repository (`vars.NAME`).
    pub fn var(&mut self, name: &str, value: &str) -> &mut Self {
        self.arguments.extend(["--var".into(), format!("{name}={value}")]);
        self
    }

    /// A variable of all jobs.
    pub fn env(&mut self, name: &str, value: &str) -> &mut Self {
        self.arguments.extend(["--env".into(), format!("{name}={value}")]);
        self
    }

    /// A secret.
    pub fn secret(&mut self, name: &str, value: &str) -> &mut Self {
        self.arguments.extend(["--secret".into(), format!("{name}={value}")]);
        self
    }

    /// Runs the jobs of one workflow file for an event.
    pub fn run(&mut self, file: &str, event: &str, payload: &Value) -> Ran {
        let path = self.home.path().join("event.json");
        std::fs::write(&path, payload.to_string()).unwrap();
        let artifacts = self.home.path().join("artifacts");
        let node = peer("gitlab-ci-local/node_modules/node/bin");
        let client = peer("actions-artifact/node_modules/@actions/artifact");
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        #[expect(clippy::disallowed_methods, reason = "tests start programs as people do")]
        let mut command = Command::new(peer("act/venv/bin/act"));
        command.env_clear().env("HOME", self.home.path()).current_dir(&self.repo);
        #[expect(clippy::disallowed_methods, reason = "tools are found as people find them")]
        let path_here = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path_here}", node.display()));
        command.args([event, "--json", "--workflows", &format!(".github/workflows/{file}"), "--eventpath"]).arg(&path);
        command.args(["--pull=false", "--action-offline-mode", "--no-cache-server", "--container-daemon-socket", "-"]);
        command.args(["--artifact-server-addr", "127.0.0.1", "--artifact-server-port", &port.to_string()]);
        command.arg("--artifact-server-path").arg(&artifacts);
        let mut platform = "-self-hosted";
        if self.docker {
            platform = "codeforge-runner:1";
            self.mount(&client.join("../..")).mounts.push(format!("-v {}/node:/usr/local/bin/node:ro", node.display()));
            command.args(["--network", "host", "--container-options", &self.mounts.join(" ")]);
        }
        for label in ["ubuntu-latest", "ubuntu-24.04"] {
            command.arg("--platform").arg(format!("{label}={platform}"));
        }
        command.arg("--env").arg(format!("TEST_ARTIFACT_CLIENT={}", client.display())).args(&self.arguments);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        Ran { output, lines }
    }
}

impl Ran {
    /// Panics unless all jobs ended well.
    pub fn ok(&self) -> &Self {
        assert!(self.output.status.success(), "{}", self.log());
        self
    }

    /// Panics unless a job failed.
    pub fn failed(&self) -> &Self {
        assert!(!self.output.status.success(), "no job failed\n{}", self.log());
        self
    }

    fn of<'a>(&'a self, job: &'a str, command: &'a str) -> impl Iterator<Item = &'a Value> {
        self.lines.iter().filter(move |line| line["jobID"] == job && line["command"] == command)
    }

    /// An output of a step, as the runner took it.
    pub fn output(&self, job: &str, step: &str, name: &str) -> Option<String> {
        let found = self.of(job, "set-output").filter(|line| line["name"] == name);
        let found = found.filter(|line| line["stepID"].as_array().is_some_and(|ids| ids.len() == 1 && ids[0] == step));
        found.last().and_then(|line| line["arg"].as_str()).map(str::to_owned)
    }

    /// The names of all outputs that a step set.
    pub fn outputs(&self, job: &str, step: &str) -> Vec<String> {
        let found = self.of(job, "set-output").filter(|line| line["stepID"][0] == step && line["stepID"][1].is_null());
        let mut names: Vec<String> = found.filter_map(|line| line["name"].as_str()).map(str::to_owned).collect();
        names.sort();
        names.dedup();
        names
    }

    /// The Markdown that a job put into its summary.
    pub fn summary(&self, job: &str) -> String {
        self.of(job, "summary").filter_map(|line| line["content"].as_str()).collect()
    }

    /// Annotations of a job: level, place and text.
    pub fn annotations(&self, job: &str) -> Vec<String> {
        let levels = ["error", "warning", "notice"];
        let of = |line: &&Value| line["jobID"] == job && levels.iter().any(|level| line["command"] == *level);
        let words = |line: &Value| {
            let at = &line["kvPairs"];
            let (file, number) = (at["file"].as_str().unwrap_or_default(), at["line"].as_str().unwrap_or_default());
            format!(
                "{} {file}:{number} {}",
                line["command"].as_str().unwrap(),
                line["arg"].as_str().unwrap_or_default()
            )
        };
        self.lines.iter().filter(of).map(words).collect()
    }

    /// What the steps of a job wrote, line by line.
    pub fn said(&self, job: &str) -> String {
        let raw = self.lines.iter().filter(|line| line["jobID"] == job && line["raw_output"] == true);
        raw.filter_map(|line| line["msg"].as_str()).collect()
    }

    /// Everything, readable, for a failure's message.
    pub fn log(&self) -> String {
        let mut log: String = self
            .lines
            .iter()
            .filter_map(|line| line["msg"].as_str())
            .fold(String::new(), |log, msg| log + msg.trim_end() + "\n");
        log.push_str(&String::from_utf8_lossy(&self.output.stderr));
        log
    }
}
