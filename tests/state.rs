//! What outlives a runner that forgets: limits that count other runs hold where a store keeps them, and are refused where
//! nothing does, before anything is spent.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use codeforge::model::forge::ForgeKind;
use common::forge_server::{ForgeServer, TOKEN};
use common::hub::{Clone, Hub, Job, Ran, pull_request, push};
use common::{ModelServer, Reply, Rule, git, ok};
use serde_json::{Value, json};
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

/// A forge whose repository keeps its state on a branch.
struct OnBranch {
    forge: ForgeServer,
    model: ModelServer,
}

impl OnBranch {
    async fn new(config: &str) -> Self {
        let files = [(".codeforge/workflows/look.yml", WORKFLOW), (".codeforge/config.yml", config), ("a", "a\n")];
        let forge = ForgeServer::with(ForgeKind::Github, &files).await;
        let reply = Reply::call("finish", json!({ "summary": "seen" })).usage(1_000_000, 10).cost(1.0);
        Self { forge, model: ModelServer::start(vec![Rule::any(reply).always()]).await }
    }

    /// A runner that nothing was on before: a run of `main`, or of a change's own pipeline.
    fn runs(&self, change: Option<u64>) -> Ran {
        let clone = Clone::empty();
        clone.git(&["init", "--quiet"]);
        clone.git(&["fetch", "--quiet", &format!("file://{}", self.forge.bare().display()), "main"]);
        clone.git(&["checkout", "--quiet", "--detach", "FETCH_HEAD"]);
        clone.git(&["remote", "add", "origin", &self.forge.git_url()]);
        let tip = self.forge.tip("main").unwrap();
        let (name, payload, of) = match change {
            None => ("push", push("main", &tip, &tip), "refs/heads/main".to_owned()),
            Some(number) => {
                let head = self.forge.tip("topic").unwrap();
                ("pull_request", pull_request(number, "opened", &head, &tip), format!("refs/pull/{number}/merge"))
            }
        };
        let job = Job::bare(&clone).model(self.model.url());
        job.file("event.json", &payload.to_string());
        let job = job
            .env("GITHUB_ACTIONS", "true")
            .env("GITHUB_EVENT_NAME", name)
            .env("GITHUB_EVENT_PATH", clone.aside().join("event.json").to_str().unwrap())
            .env("GITHUB_REPOSITORY", "acme/widgets")
            .env("GITHUB_SERVER_URL", self.forge.git_url().trim_end_matches("/acme/widgets.git"))
            .env("GITHUB_API_URL", &self.forge.api())
            .env("GITHUB_REF", &of)
            .env("GITHUB_SHA", &clone.git(&["rev-parse", "HEAD"]))
            .env("RUNNER_TEMP", clone.aside().to_str().unwrap())
            .env("CODEFORGE_FORGE_TOKEN", TOKEN);
        tokio::task::block_in_place(|| job.run())
    }

    fn git(&self, arguments: &[&str]) -> String {
        ok(git().arg("-C").arg(self.forge.bare()).args(arguments)).trim().to_owned()
    }

    fn kept(&self) -> Value {
        let text = self.forge.file("codeforge/state", "state.json").expect("a state");
        serde_json::from_str(&text).unwrap()
    }

    /// Somebody makes a commit of a state; the branch is not moved.
    fn commit(&self, state: &str) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), state).unwrap();
        let blob = self.git(&["hash-object", "-w", file.path().to_str().unwrap()]);
        std::fs::write(file.path(), format!("100644 blob {blob}\tstate.json\n")).unwrap();
        let tree =
            ok(git().arg("-C").arg(self.forge.bare()).arg("mktree").stdin(std::fs::File::open(file.path()).unwrap()));
        self.git(&["commit-tree", tree.trim(), "-m", "state"])
    }
}

const CAPPED: &str = "budget: { per_run_usd: 1.5, per_day_usd: 2 }\nstate: { store: branch }\n";

fn today() -> String {
    use codeforge::port::clock::Clock;
    codeforge::model::budget::day(codeforge::adapter::clock::SystemClock.now_ms())
}

fn spent(nano_usd: u64) -> Value {
    json!({ "version": 1, "amounts": [{ "scope": "day", "key": today(), "nano_usd": nano_usd, "day": today() }] })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_branch_keeps_the_days_money_for_runners_that_share_nothing_else() {
    let stage = OnBranch::new(CAPPED).await;
    stage.runs(None).ends(0, "success");
    assert_eq!(stage.kept(), spent(1_000_000_000), "what was held is gone, what was spent stands, and nothing else");
    assert_eq!(stage.git(&["rev-list", "--count", "codeforge/state"]), "1", "the branch does not grow");
    assert!(stage.git(&["log", "-1", "--format=%s", "codeforge/state"]).contains("[skip ci]"));
    // A second runner has what is left, and the third has nothing.
    stage.runs(None).ends(0, "success");
    assert_eq!((stage.kept(), stage.model.requests().len()), (spent(2_000_000_000), 2));
    stage.runs(None).ends(3, "limit").says(&["nothing is left of the budget of $2.000 for today"]);
    assert_eq!(stage.model.requests().len(), 2);
    // A change's own pipeline writes nothing, whatever its token may, and is told so before it spends.
    stage.forge.commit_by("ann", "topic", "main", &[("a", Some("b\n"))]);
    let number = stage.forge.open("ann", "topic", "Please.");
    let before = stage.forge.tip("codeforge/state");
    stage
        .runs(Some(number))
        .ends(2, "misconfigured")
        .says(&["`per_day_usd` cannot be kept: this run is of `refs/pull/"]);
    assert_eq!((stage.forge.tip("codeforge/state"), stage.model.requests().len()), (before, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_second_counts_what_the_first_one_wrote() {
    let stage = OnBranch::new(CAPPED).await;
    // While our first push is on its way, somebody else's is there.
    let theirs = stage.commit(&spent(2_000_000_000).to_string());
    let hook = stage.forge.bare().join("hooks/pre-receive");
    let script = format!(
        "#!/bin/sh\n[ -f raced ] && exit 0\ntouch raced\nenv -u GIT_QUARANTINE_PATH git update-ref \
         refs/heads/codeforge/state {theirs}\n"
    );
    std::fs::write(&hook, script).unwrap();
    stage.runs(None).ends(3, "limit").says(&["nothing is left of the budget of $2.000 for today"]);
    assert!(stage.forge.bare().join("raced").exists(), "ours was on its way");
    assert_eq!((stage.kept(), stage.model.requests().len()), (spent(2_000_000_000), 0), "theirs stands, and counts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_branch_that_holds_what_no_run_wrote_stops_runs_and_one_that_cannot_be_written_too() {
    let stage = OnBranch::new(CAPPED).await;
    let forged = stage.commit(&spent(1).to_string().replace("nano_usd\":1", "nano_usd\":-1"));
    stage.git(&["update-ref", "refs/heads/codeforge/state", &forged]);
    stage
        .runs(None)
        .ends(2, "misconfigured")
        .says(&["`state.json` of the branch `codeforge/state` is broken", "git push origin --delete codeforge/state"]);
    stage.git(&["update-ref", "-d", "refs/heads/codeforge/state"]);
    stage.forge.memory().protected.push("codeforge/state".to_owned());
    let ran = stage.runs(None);
    assert_ne!(ran.output.status.code(), Some(0), "{}", ran.said());
    ran.says(&["nothing was spent, since what it costs could not be kept", "state: { store: cache }"]);
    assert_eq!(stage.model.requests().len(), 0);
    // Without a limit that counts other runs nothing is written, and nothing has to be.
    let free = OnBranch::new("budget: { per_run_usd: 1.5 }\nstate: { store: branch }\n").await;
    free.runs(None).ends(0, "success");
    assert_eq!(free.forge.tip("codeforge/state"), None);
    // What agents learn is no amount.
    let learns = OnBranch::new("experience: { enabled: true }\nstate: { store: branch }\n").await;
    learns.runs(None).ends(2, "misconfigured").says(&["experience cannot be kept: the branch"]);
    // The branch is for nothing else.
    let onto = OnBranch::new("state: { store: branch, branch: main }\n").await;
    onto.runs(None).ends(2, "misconfigured").says(&["a trusted branch holds code"]);
}
