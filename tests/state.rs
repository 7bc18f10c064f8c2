//! What outlives a runner that forgets: limits that count other runs hold where a store keeps them, and are refused where
//! nothing does, before anything is spent.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use common::hub::{Clone, Hub, Job, Ran, pull_request, push};
use common::{ModelServer, Reply, Rule};
use serde_json::json;
use std::path::Path;

const WORKFLOW: &str = r#"
name: look
on: { push: {}, pull_request: {} }
steps: { look: { mode: architect, prompt: "Look." } }
deliver: none
"#;

struct Stage {
    hub: Hub,
    base: String,
    head: String,
    model: ModelServer,
}

impl Stage {
    async fn new(config: &str) -> Self {
        let hub =
            Hub::with(&[(".codeforge/workflows/look.yml", WORKFLOW), (".codeforge/config.yml", config), ("a", "a\n")]);
        let base = hub.git(&["rev-parse", "main"]);
        let head = hub.commit("topic", &[("a", "b\n")]);
        hub.pull(7, &head, &base);
        // A million tokens at a dollar a million.
        let reply = Reply::call("finish", json!({ "summary": "seen" })).usage(1_000_000, 10).cost(1.0);
        let model = ModelServer::start(vec![Rule::any(reply).always()]).await;
        Self { hub, base, head, model }
    }

    /// A nightly run of the trusted branch: what it costs counts for the day.
    fn nightly(&self, state: &Path) -> Ran {
        let clone = self.hub.shallow("refs/heads/main");
        let payload = push("main", &self.base, &self.base);
        let job = self.hub.job(&clone, "push", &payload).env("GITHUB_REF", "refs/heads/main");
        self.run(job, state)
    }

    /// A run of the change's own pipeline.
    fn of_change(&self, state: &Path) -> Ran {
        let clone = self.hub.shallow("refs/pull/7/merge");
        self.of_change_in(&clone, state)
    }

    fn of_change_in(&self, clone: &Clone, state: &Path) -> Ran {
        let payload = pull_request(7, "opened", &self.head, &self.base);
        let job = self.hub.job(clone, "pull_request", &payload).env("GITHUB_REF", "refs/pull/7/merge");
        self.run(job, state)
    }

    fn run(&self, job: Job<'_>, state: &Path) -> Ran {
        let job = job.model(self.model.url()).env("CODEFORGE_STATE_DIR", state.to_str().unwrap());
        tokio::task::block_in_place(|| job.run())
    }

    fn asked(&self) -> usize {
        self.model.requests().len()
    }
}

/// All files of a folder with their contents.
fn content(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|it| it.path()).collect();
    files.sort();
    let named = |path: &std::path::PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    files.iter().map(|path| (named(path), std::fs::read(path).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_is_kept_a_limit_that_needs_it_is_refused_before_a_cent_is_spent() {
    for (key, config) in [
        ("per_day_usd", "budget:\n  per_run_usd: 5\n  per_day_usd: 20\n"),
        ("per_workflow_per_day_usd", "budget:\n  per_run_usd: 5\n  per_workflow_per_day_usd: 20\n"),
        ("per_actor_per_day_usd", "budget:\n  per_run_usd: 5\n  per_actor_per_day_usd: 20\n"),
        ("per_change_usd", "budget:\n  per_run_usd: 5\n  per_change_usd: 20\n"),
        ("experience", "budget:\n  per_run_usd: 5\nexperience: { enabled: true }\n"),
    ] {
        let stage = Stage::new(config).await;
        let state = tempfile::tempdir().unwrap();
        let ran = stage.of_change(state.path()).ends(2, "misconfigured");
        let says = [&format!("`{key}` cannot be kept")[..], "experience cannot be kept"];
        assert!(says.iter().any(|words| ran.said().contains(words)), "{key}: {}", ran.said());
        ran.says(&[".codeforge/config.yml:3:", "state: { store: cache }"]);
        assert_eq!((stage.asked(), content(state.path()).len()), (0, 0), "{key}");
    }
    // What holds within one run needs nothing.
    let stage = Stage::new("budget: { per_run_usd: 5 }\n").await;
    stage.of_change(Path::new("/nowhere")).ends(0, "success");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_keeps_the_days_money_and_only_the_trusted_branch_writes_it() {
    let stage = Stage::new("budget: { per_run_usd: 1.5, per_day_usd: 1 }\nstate: { store: cache }\n").await;
    let state = tempfile::tempdir().unwrap();
    stage.nightly(state.path()).ends(0, "success");
    assert_eq!(stage.asked(), 1);
    let kept = content(state.path());
    assert!(kept.iter().any(|(name, _)| name == "journal.db"), "{:?}", kept.iter().map(|it| &it.0).collect::<Vec<_>>());
    // A change's own run cannot add what it spends, so that limit would be none.
    stage
        .of_change(state.path())
        .ends(2, "misconfigured")
        .says(&["`per_day_usd` cannot be kept: this run is of `refs/pull/7/merge`, and only runs of `main` write"]);
    assert_eq!((stage.asked(), content(state.path()) == kept), (1, true));
    // Another runner, the same cache: the day's money is counted on.
    stage.nightly(state.path()).ends(3, "limit");
    assert_eq!(stage.asked(), 1, "nothing is left, and nothing is asked");
    // Another day's cache, or none: a runner that forgot.
    let other = tempfile::tempdir().unwrap();
    stage.nightly(other.path()).ends(0, "success");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_change_does_to_its_copy_the_nightly_run_does_not_see() {
    let config = "budget: { per_run_usd: 1.5 }\nstate: { store: cache, path: .cache/state }\n";
    let stage = Stage::new(config).await;
    let state = tempfile::tempdir().unwrap();
    stage.nightly(state.path()).ends(0, "success");
    let kept = content(state.path());
    stage.of_change(state.path()).ends(0, "success");
    assert_eq!(content(state.path()), kept, "the change's run worked in a copy");
    // A change that brings a state of its own, or a way to somewhere else.
    let database = &kept.iter().find(|(name, _)| name == "journal.db").unwrap().1;
    let poisoned = stage.hub.commit("topic", &[(".cache/state/journal.db", "SQLite format 3")]);
    stage.hub.pull(7, &poisoned, &stage.base);
    let stage = Stage { head: poisoned, ..stage };
    let clone = stage.hub.shallow("refs/pull/7/merge");
    let ran = stage.of_change_in(&clone, Path::new(".cache/state"));
    ran.ends(2, "misconfigured").says(&["a change could bring a state of its own"]);
    let clone = stage.hub.shallow("refs/heads/main");
    std::os::unix::fs::symlink("/etc", clone.path().join("elsewhere")).unwrap();
    let payload = push("main", &stage.base, &stage.base);
    let job = stage.hub.job(&clone, "push", &payload).env("GITHUB_REF", "refs/heads/main");
    stage.run(job, Path::new("elsewhere/state")).ends(2, "misconfigured").says(&["reached through a symbolic link"]);
    assert!(!database.is_empty());
}
