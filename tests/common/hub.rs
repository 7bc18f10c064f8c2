//! A forge's git side on disk, and jobs of its CI: an origin, clones of it as runners make them, and the environment and
//! event that GitHub's, GitLab's or no runner gives.

use super::forge_server::{ForgeServer, TOKEN};
use super::{Reply, codeforge, git, ok, spoken};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

/// A review that starts where the one before ended.
pub const LOOK_AGAIN: &str = r#"
name: look
on: { pull_request: {} }
policy: plan-readonly
steps:
  review:
    mode: reviewer
    prompt: "SINCE[{{ event.change.since }}] EARLIER[{{ event.change.earlier }}]\n{{ event.change.diff }}"
    output: { schema: review }
deliver: review
"#;

/// A review that found these: file, line.
pub fn found(places: &[(&str, u64)]) -> Reply {
    let finding = |(file, line): &(&str, u64)| json!({ "file": file, "line": line, "severity": "high", "what": format!("{file} is wrong.") });
    let list: Vec<Value> = places.iter().map(finding).collect();
    let output = json!({ "approved": list.is_empty(), "summary": "So.", "findings": list });
    Reply::call("finish", json!({ "summary": "Looked.", "output": output })).usage(1000, 0)
}

/// `acme/widgets` on a disk: `SERVER/acme/widgets.git` is the repository.
pub struct Hub {
    folder: tempfile::TempDir,
}

impl Hub {
    /// With a first commit of these files on `main`.
    pub fn with(files: &[(&str, &str)]) -> Self {
        let hub = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir_all(hub.origin()).unwrap();
        hub.git(&["init", "--quiet", "--initial-branch=main"]);
        hub.commit("main", files);
        hub
    }

    pub fn server(&self) -> String {
        format!("file://{}", self.folder.path().display())
    }

    pub fn origin(&self) -> PathBuf {
        self.folder.path().join("acme/widgets.git")
    }

    /// Runs git in the origin.
    pub fn git(&self, arguments: &[&str]) -> String {
        ok(git().current_dir(self.origin()).args(arguments)).trim_end().to_owned()
    }

    /// Commits files on a branch, which is made at `main` where it is missing. An empty content removes.
    pub fn commit(&self, branch: &str, files: &[(&str, &str)]) -> String {
        let known =
            git().current_dir(self.origin()).args(["rev-parse", "--verify", "--quiet", branch]).output().unwrap();
        match (known.status.success(), branch) {
            (true, _) => drop(self.git(&["checkout", "--quiet", branch])),
            (false, "main") => {}
            (false, _) => drop(self.git(&["checkout", "--quiet", "-b", branch, "main"])),
        }
        for (path, content) in files {
            let path = self.origin().join(path);
            if content.is_empty() {
                std::fs::remove_file(path).unwrap();
                continue;
            }
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", "work"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// A pull request's refs as GitHub keeps them: the head, and its merge into the base; gives the merge.
    pub fn pull(&self, number: u64, head: &str, base: &str) -> String {
        let tree = self.git(&["merge-tree", "--write-tree", base, head]);
        let merge = self.git(&["commit-tree", tree.lines().next().unwrap(), "-p", base, "-p", head, "-m", "merge"]);
        self.git(&["update-ref", &format!("refs/pull/{number}/head"), head]);
        self.git(&["update-ref", &format!("refs/pull/{number}/merge"), &merge]);
        merge
    }

    /// A clone as `actions/checkout` makes it: one commit of one ref, detached.
    pub fn shallow(&self, git_ref: &str) -> Clone {
        let clone = Clone::empty();
        clone.git(&["init", "--quiet"]);
        clone.git(&["remote", "add", "origin", &format!("{}/acme/widgets.git", self.server())]);
        clone.git(&["fetch", "--quiet", "--no-tags", "--depth=1", "origin", git_ref]);
        clone.git(&["checkout", "--quiet", "--detach", "FETCH_HEAD"]);
        clone
    }

    /// The same with all of the history and all branches.
    pub fn whole(&self, git_ref: &str) -> Clone {
        let clone = Clone::empty();
        let url = format!("{}/acme/widgets.git", self.server());
        ok(git().args(["clone", "--quiet", &url]).arg(clone.path()));
        clone.git(&["fetch", "--quiet", "origin", git_ref]);
        clone.git(&["checkout", "--quiet", "--detach", "FETCH_HEAD"]);
        clone
    }

    /// A job on GitHub in a clone.
    pub fn job<'a>(&self, clone: &'a Clone, name: &str, payload: &Value) -> Job<'a> {
        let mut job = Job::bare(clone);
        job.file("event.json", &payload.to_string());
        let event = clone.aside().join("event.json").display().to_string();
        let sha = clone.git(&["rev-parse", "HEAD"]);
        for (name, value) in [
            ("GITHUB_ACTIONS", "true"),
            ("CI", "true"),
            ("GITHUB_EVENT_NAME", name),
            ("GITHUB_EVENT_PATH", &event),
            ("GITHUB_REPOSITORY", "acme/widgets"),
            ("GITHUB_SERVER_URL", &self.server()),
            ("GITHUB_API_URL", "http://127.0.0.1:9"),
            ("GITHUB_SHA", &sha),
            ("GITHUB_RUN_ID", "77"),
            ("GITHUB_RUN_ATTEMPT", "1"),
            ("GITHUB_WORKSPACE", clone.path().to_str().unwrap()),
            ("RUNNER_TEMP", clone.aside().to_str().unwrap()),
        ] {
            job = job.env(name, value);
        }
        for (name, file) in [("GITHUB_OUTPUT", "output"), ("GITHUB_STEP_SUMMARY", "summary")] {
            let path = clone.aside().join(file);
            job = job.env(name, path.to_str().unwrap());
        }
        job
    }
}

/// A clone, and a folder beside it.
pub struct Clone {
    folder: tempfile::TempDir,
}

impl Clone {
    pub fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("checkout")).unwrap();
        std::fs::create_dir_all(folder.path().join("aside")).unwrap();
        Self { folder }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("checkout")
    }

    pub fn aside(&self) -> PathBuf {
        self.folder.path().join("aside")
    }

    pub fn git(&self, arguments: &[&str]) -> String {
        ok(git().current_dir(self.path()).args(arguments)).trim_end().to_owned()
    }

    pub fn write(&self, path: &str, content: &str) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

/// A job that is about to run.
pub struct Job<'a> {
    clone: &'a Clone,
    env: BTreeMap<String, String>,
    arguments: Vec<String>,
}

impl<'a> Job<'a> {
    /// Without a forge around it.
    pub fn bare(clone: &'a Clone) -> Self {
        Self { clone, env: BTreeMap::new(), arguments: Vec::new() }.env("CODEFORGE_SANDBOX", "native")
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.env.remove(name);
        self
    }

    #[must_use]
    pub fn with(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Asks a scripted model.
    #[must_use]
    pub fn model(self, url: &str) -> Self {
        self.env("CODEFORGE_LLM_BASE_URL", url)
            .env("CODEFORGE_LLM_API_KEY", "sk-test-0123456789")
            .env("CODEFORGE_MODEL", "scripted-1")
            .env("CODEFORGE_LLM_PRICE_INPUT", "1")
            .env("CODEFORGE_LLM_PRICE_OUTPUT", "1")
            .env("CODEFORGE_LLM_ATTEMPTS", "1")
    }

    /// Writes a file beside the clone.
    pub fn file(&self, name: &str, content: &str) {
        std::fs::write(self.clone.aside().join(name), content).unwrap();
    }

    /// Runs it.
    pub fn run(&self) -> Ran {
        let mut command = codeforge();
        command.current_dir(self.clone.path()).arg("ci").args(&self.arguments).envs(&self.env);
        let output = command.output().unwrap();
        let report = match self.env.contains_key("RUNNER_TEMP") {
            true => self.clone.aside().join("codeforge/report"),
            false => self.clone.path().join("codeforge-report"),
        };
        // A later run in the same clone writes over it.
        let outputs = std::fs::read_to_string(report.join("outputs.json")).ok();
        let outputs = outputs.map(|text| serde_json::from_str(&text).unwrap());
        Ran { output, outputs, aside: self.clone.aside(), report }
    }
}

/// A job that has run.
pub struct Ran {
    pub output: Output,
    outputs: Option<Value>,
    aside: PathBuf,
    pub report: PathBuf,
}

impl Ran {
    #[track_caller]
    pub fn ends(self, code: i32, conclusion: &str) -> Self {
        let got = (self.output.status.code(), self.outputs()["conclusion"].as_str().map(str::to_owned));
        assert_eq!(got, (Some(code), Some(conclusion.to_owned())), "{}", spoken(&self.output));
        self
    }

    /// Standard error holds all of these.
    #[track_caller]
    pub fn says(self, parts: &[&str]) -> Self {
        let said = self.said();
        for part in parts {
            assert!(said.contains(part), "{part:?} is not in\n{}", spoken(&self.output));
        }
        self
    }

    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    pub fn printed(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    /// `outputs.json`.
    pub fn outputs(&self) -> Value {
        self.outputs.clone().unwrap_or_else(|| panic!("no outputs.json\n{}", spoken(&self.output)))
    }

    /// A file that the runner reads: `output`, `summary`.
    pub fn runner(&self, name: &str) -> String {
        std::fs::read_to_string(self.aside.join(name)).unwrap_or_default()
    }

    /// A report.
    pub fn report(&self, name: &str) -> String {
        std::fs::read_to_string(self.report.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

/// A pull request's payload, from the same repository.
pub fn pull_request(number: u64, action: &str, head: &str, base: &str) -> Value {
    let repo = json!({ "id": 1, "full_name": "acme/widgets", "default_branch": "main" });
    json!({
        "action": action, "number": number,
        "pull_request": {
            "number": number, "title": "A change", "body": "Please.", "draft": false, "labels": [],
            "user": { "login": "ann" }, "html_url": format!("https://example.com/acme/widgets/pull/{number}"),
            "head": { "ref": "topic", "sha": head, "repo": repo },
            "base": { "ref": "main", "sha": base, "repo": repo },
        },
        "repository": repo, "sender": { "login": "ann", "type": "User" },
    })
}

/// A push's payload.
pub fn push(branch: &str, before: &str, after: &str) -> Value {
    json!({
        "ref": format!("refs/heads/{branch}"), "before": before, "after": after,
        "repository": { "id": 1, "full_name": "acme/widgets", "default_branch": "main" },
        "sender": { "login": "ann", "type": "User" },
    })
}

/// A comment's payload, under an issue.
pub fn comment(body: &str, actor: &str) -> Value {
    json!({
        "action": "created",
        "issue": { "number": 3, "title": "It breaks", "body": "On Mondays.", "labels": [], "user": { "login": "bob" } },
        "comment": { "id": 9, "body": body, "user": { "login": actor } },
        "repository": { "full_name": "acme/widgets", "default_branch": "main" },
        "sender": { "login": actor, "type": "User" },
    })
}

/// A clone as a runner makes it of a repository at a forge: everything that is fetched later needs the token.
pub fn clone_of(forge: &ForgeServer, git_ref: &str) -> Clone {
    let clone = Clone::empty();
    let bare = format!("file://{}", forge.bare().display());
    clone.git(&["init", "--quiet"]);
    clone.git(&["fetch", "--quiet", "--depth=1", &bare, git_ref]);
    clone.git(&["checkout", "--quiet", "--detach", "FETCH_HEAD"]);
    clone.git(&["remote", "add", "origin", &forge.git_url()]);
    clone
}

/// A clone with all branches, as a job has it that cannot fetch anything later.
pub fn whole_clone_of(forge: &ForgeServer) -> Clone {
    let clone = Clone::empty();
    let bare = format!("file://{}", forge.bare().display());
    clone.git(&["init", "--quiet"]);
    clone.git(&["fetch", "--quiet", &bare, "+refs/heads/*:refs/remotes/origin/*"]);
    clone.git(&["checkout", "--quiet", "--detach", "refs/remotes/origin/main"]);
    clone.git(&["remote", "add", "origin", &forge.git_url()]);
    clone
}

/// A job on GitHub in such a clone, with the token.
pub fn on_github<'a>(forge: &ForgeServer, clone: &'a Clone, name: &str, payload: &Value) -> Job<'a> {
    let job = Job::bare(clone);
    job.file("event.json", &payload.to_string());
    let server = forge.git_url().replace("/acme/widgets.git", "");
    job.env("GITHUB_ACTIONS", "true")
        .env("GITHUB_EVENT_NAME", name)
        .env("GITHUB_EVENT_PATH", clone.aside().join("event.json").to_str().unwrap())
        .env("GITHUB_REPOSITORY", "acme/widgets")
        .env("GITHUB_SERVER_URL", &server)
        .env("GITHUB_API_URL", &forge.api())
        .env("GITHUB_SHA", &clone.git(&["rev-parse", "HEAD"]))
        .env("GITHUB_REF", "refs/heads/main")
        .env("GITHUB_RUN_ID", "77")
        .env("RUNNER_TEMP", clone.aside().to_str().unwrap())
        .env("GITHUB_OUTPUT", clone.aside().join("output").to_str().unwrap())
        .env("CODEFORGE_FORGE_TOKEN", TOKEN)
}

/// Whether a file is there.
pub fn there(path: &Path) -> bool {
    path.exists()
}
