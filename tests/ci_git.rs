//! `codeforge ci` in the clones that runners make: shallow, detached, merge commits, gone bases, poisoned heads.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be set up fails")]
mod common;

use common::hub::{Clone, Hub, Job, pull_request, push};
use serde_json::json;

/// A workflow without a model: it shows what it works on, and changes one file.
const COPY: &str = r#"
name: copy
on:
  pull_request: { paths: ["src/**"] }
  push: { paths: ["src/**"] }
  merge_group: {}
  schedule: [{ cron: "0 2 * * *" }]
steps:
  work: { run: "cp src/a.txt copied.txt; ls > listed.txt" }
deliver: patch
policy: POLICY
"#;
const CONFIG: &str = "extends: [\"./presets/base.yml\"]\npolicy: headless-safe-sandbox\n";
const PRESET: &str = "protected_paths: [\"deploy/**\"]\n";
const STRICT: &str = "rules:\n  - { tool: \"*\", decision: deny }\ndefault: deny\nname: strict\n";
const LAX: &str = "rules:\n  - { tool: \"*\", decision: allow }\ndefault: allow\nname: strict\n";

fn hub() -> Hub {
    Hub::with(&[
        (".codeforge/workflows/copy.yml", &COPY.replace("POLICY", "strict")),
        (".codeforge/policies/strict.yml", STRICT),
        (".codeforge/config.yml", CONFIG),
        (".codeforge/presets/base.yml", PRESET),
        ("src/a.txt", "one\n"),
        ("docs/a.md", "words\n"),
    ])
}

/// The policy's hash in the line that says what runs.
fn policy(said: &str) -> String {
    let line = said.lines().find(|line| line.contains("under the policy")).expect("a line that says what runs");
    line.rsplit_once('(').unwrap().1.trim_end_matches(')').to_owned()
}

#[test]
fn a_shallow_checkout_of_the_merge_is_worked_on_at_the_head() {
    let hub = hub();
    let base = hub.git(&["rev-parse", "main"]);
    let head = hub.commit("topic", &[("src/a.txt", "two\n"), ("only-in-head", "x\n")]);
    // The base has moved on: its file is in the merge, and not in the change's head.
    let base_now = hub.commit("main", &[("only-in-base", "x\n")]);
    hub.pull(7, &head, &base_now);
    for (clone, what) in [(hub.shallow("refs/pull/7/merge"), "shallow"), (hub.whole("refs/pull/7/merge"), "whole")] {
        // What the runner or an earlier step left in the folder is not part of the change.
        clone.write("left-by-a-step.txt", "x\n");
        let ran = hub.job(&clone, "pull_request", &pull_request(7, "opened", &head, &base)).run();
        let ran = ran.ends(0, "success").says(&[&head[..10], "one step"]);
        let patch = ran.report("change.patch");
        assert!(patch.contains("+two"), "{what}: {patch}");
        assert!(patch.contains("+only-in-head"), "{what}: {patch}");
        assert!(!patch.contains("only-in-base") && !patch.contains("left-by-a-step"), "{what}: {patch}");
        assert_eq!(clone.git(&["status", "--porcelain"]), "?? left-by-a-step.txt", "{what}: the checkout is as it was");
    }
}

/// Commits of a repository whose `main` is strict: a clean change, a poisoned one, and a branch that is lax.
struct Lured {
    hub: Hub,
    base: String,
    clean: String,
    poisoned: String,
    lax: String,
}

fn lured() -> Lured {
    let hub = hub();
    let base = hub.git(&["rev-parse", "main"]);
    let clean = hub.commit("clean", &[("src/a.txt", "two\n")]);
    let poisoned = hub.commit(
        "poisoned",
        &[
            ("src/a.txt", "two\n"),
            (".codeforge/policies/strict.yml", LAX),
            (".codeforge/workflows/copy.yml", &COPY.replace("cp src/a.txt", "touch PWNED; cp src/a.txt")),
            (".codeforge/workflows/evil.yml", &COPY.replace("name: copy", "name: evil").replace("POLICY", "strict")),
            (".codeforge/presets/base.yml", "protected_paths: []\n"),
            (".codeforge/config.yml", "policy: trusted-mount-autonomous\nbudget: { per_run_usd: 1000 }\n"),
        ],
    );
    let lax = hub.commit("lax", &[(".codeforge/policies/strict.yml", LAX)]);
    Lured { hub, base, clean, poisoned, lax }
}

impl Lured {
    /// The policies' hashes of jobs about a change of `head` that goes into a branch, in all the clones that runners make.
    fn hashes(&self, head: &str, (into, into_sha): (&str, &str), action: &str) -> Vec<String> {
        self.hub.pull(7, head, into_sha);
        let mut event = pull_request(7, action, head, into_sha);
        event["pull_request"]["base"]["ref"] = json!(into);
        let clones = [self.hub.shallow("refs/pull/7/merge"), self.hub.whole("refs/pull/7/merge"), self.hub.whole(head)];
        let hashes = clones.iter().map(|clone| {
            let ran = self.hub.job(clone, "pull_request", &event).run().ends(0, "success");
            let said = ran.said();
            assert!(!said.contains("evil"), "{said}");
            assert!(!ran.report("change.patch").contains("PWNED"), "{said}");
            assert!(said.contains(&format!("branch `main` at {}", &self.base[..10])), "{said}");
            policy(&said)
        });
        hashes.collect()
    }

    /// The hash that the lax branch's policy has: where somebody else trusts it.
    fn of_lax(&self) -> String {
        self.hub.pull(8, &self.clean, &self.base);
        let clone = self.hub.whole("refs/pull/8/merge");
        let job = self.hub.job(&clone, "pull_request", &pull_request(8, "opened", &self.clean, &self.base));
        policy(&job.env("CODEFORGE_BASE_BRANCH", "lax").run().ends(0, "success").said())
    }
}

/// trust.md 2: a head that allows everything has the base's policy, down to its hash.
#[test]
fn trust_2_the_policy_is_the_trusted_branchs_whatever_the_head_holds() {
    let lured = lured();
    let mut hashes = lured.hashes(&lured.clean, ("main", &lured.base), "opened");
    hashes.extend(lured.hashes(&lured.poisoned, ("main", &lured.base), "opened"));
    hashes.extend(lured.hashes(&lured.poisoned, ("main", &lured.base), "synchronize"));
    hashes.dedup();
    assert_eq!(hashes.len(), 1, "one policy, whatever the head holds: {hashes:?}");
    assert_ne!(hashes[0], lured.of_lax(), "another policy has another hash");
}

/// trust.md 38: nor does the base that a change's author chooses, or changes to later, choose the policy.
#[test]
fn trust_38_a_change_into_a_lax_branch_has_the_trusted_branchs_policy() {
    let lured = lured();
    let mut hashes = lured.hashes(&lured.clean, ("main", &lured.base), "opened");
    for action in ["opened", "synchronize"] {
        hashes.extend(lured.hashes(&lured.clean, ("lax", &lured.lax), action));
        hashes.extend(lured.hashes(&lured.poisoned, ("lax", &lured.lax), action));
    }
    hashes.dedup();
    assert_eq!(hashes.len(), 1, "one policy, whatever the base: {hashes:?}");
    assert_ne!(hashes[0], lured.of_lax(), "another policy has another hash");
}

/// An address that runs a program where git lets it.
fn running(marker: &std::path::Path) -> String {
    format!("ext::touch {} /dev/null", marker.display())
}

/// trust.md 17: submodules are left alone, and no protocol runs a program.
#[test]
fn trust_17_no_submodule_is_fetched_and_no_protocol_runs_a_program() {
    let aside = tempfile::tempdir().unwrap();
    let marker = aside.path().join("ran");
    // It would, if it were let.
    let mut git = common::git();
    let _ = git
        .current_dir(aside.path())
        .args(["-c", "protocol.ext.allow=always", "ls-remote", &running(&marker)])
        .output();
    assert!(marker.exists(), "the address is a weapon");
    std::fs::remove_file(&marker).unwrap();

    // In a head's submodule, and in the configuration of the checkout that the job runs in.
    let hub = hub();
    let base = hub.git(&["rev-parse", "main"]);
    let modules = format!("[submodule \"x\"]\n\tpath = x\n\turl = \"{}\"\n", running(&marker));
    let submodule = |branch: &str, modules: &str| {
        hub.commit(branch, &[("src/a.txt", "two\n"), (".gitmodules", modules)]);
        hub.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{base},x")]);
        hub.git(&["commit", "--quiet", "--message", "a submodule"]);
        hub.git(&["rev-parse", branch])
    };
    // One that would run a program by itself does not even get here.
    let worse = submodule("worse", &format!("{modules}\tupdate = !touch {}\n", marker.display()));
    hub.pull(6, &worse, &base);
    let bare = hub.shallow("refs/heads/main");
    let ran = hub.job(&bare, "pull_request", &pull_request(6, "opened", &worse, &base)).run();
    ran.ends(5, "unavailable").says(&["disallowed submodule update setting"]);
    let head = submodule("topic", &modules);
    hub.pull(7, &head, &base);
    let event = pull_request(7, "opened", &head, &base);
    let clone = hub.shallow("refs/pull/7/merge");
    let (program, touch) = (running(&marker), format!("touch {}", marker.display()));
    let settings: [(&str, &str); 6] = [
        ("submodule.recurse", "true"),
        ("fetch.recurseSubmodules", "true"),
        ("submodule.x.url", &program),
        ("submodule.x.active", "true"),
        ("protocol.ext.allow", "always"),
        ("core.sshCommand", &touch),
    ];
    for (name, value) in settings {
        clone.git(&["config", name, value]);
    }
    let ran = hub.job(&clone, "pull_request", &event).run().ends(0, "success");
    assert!(ran.said().contains("submodules are left empty: `x`"), "{}", ran.said());
    assert!(!marker.exists() && !clone.path().join(".git/modules").exists());

    // As where the repository is: refused, whoever says so.
    let job = || hub.job(&clone, "pull_request", &event);
    job().env("GITHUB_SERVER_URL", &program).run().ends(5, "unavailable").says(&["cannot be fetched", "ext"]);
    let rewritten = hub.shallow("refs/pull/7/merge");
    rewritten.git(&["config", "protocol.ext.allow", "always"]);
    rewritten.git(&["config", &format!("url.{program}.insteadOf"), &hub.server()]);
    let ran = hub.job(&rewritten, "pull_request", &event).run();
    assert_ne!(ran.output.status.code(), Some(0), "{}", ran.said());
    let plain = Clone::empty();
    plain.git(&["init", "--quiet"]);
    plain.git(&["fetch", "--quiet", &format!("{}/acme/widgets.git", hub.server()), "main"]);
    plain.git(&["checkout", "--quiet", "--detach", "FETCH_HEAD"]);
    plain.git(&["config", "protocol.ext.allow", "always"]);
    plain.git(&["config", "remote.origin.url", &program]);
    let ran = Job::bare(&plain).env("CODEFORGE_BASE_BRANCH", "main").run();
    assert_ne!(ran.output.status.code(), Some(0), "{}", ran.said());
    assert!(!marker.exists(), "nothing ran");
}

/// trust.md 19, where names come from an event: none is an argument, a refspec or an address to git.
#[test]
fn trust_19_names_in_an_event_are_no_arguments() {
    let hub = hub();
    let base = hub.git(&["rev-parse", "main"]);
    let head = hub.commit("topic", &[("src/a.txt", "two\n")]);
    hub.pull(7, &head, &base);
    let refs = || hub.git(&["for-each-ref", "--format=%(refname) %(objectname)"]);
    let before = refs();
    let marker = hub.origin().join("ran");
    let (program, upload) = (running(&marker), format!("--upload-pack=touch {}", marker.display()));
    for name in ["+main", "--force", &program, &upload, "refs/heads/main", "main:refs/heads/x"] {
        let clone = hub.shallow("refs/pull/7/merge");
        let told = |event: &serde_json::Value, kind: &str| {
            let ran = hub.job(&clone, kind, event).run();
            assert!(matches!(ran.output.status.code(), Some(0 | 2 | 4)), "{name:?}: {}", ran.said());
            assert!(!marker.exists(), "{name:?}: {}", ran.said());
        };
        let mut event = pull_request(7, "opened", &head, &base);
        event["pull_request"]["head"]["ref"] = json!(name);
        told(&event, "pull_request");
        let mut event = pull_request(7, "opened", &head, &base);
        event["pull_request"]["base"]["ref"] = json!(name);
        told(&event, "pull_request");
        let mut event = pull_request(7, "opened", &head, &base);
        event["pull_request"]["base"]["sha"] = json!(name);
        told(&event, "pull_request");
        let mut event = pull_request(7, "opened", &head, &base);
        event["pull_request"]["head"]["sha"] = json!(name);
        told(&event, "pull_request");
        told(&push(name, name, &head), "push");
        let mut event = pull_request(7, "opened", &head, &base);
        event["repository"]["default_branch"] = json!(name);
        told(&event, "pull_request");
    }
    assert_eq!(refs(), before, "the remote is unchanged");
}

/// trust.md 20: a branch that is named like the trusted one's whole ref, and tags that are named like branches.
#[test]
fn trust_20_the_trusted_branch_is_the_branch_and_no_namesake() {
    let lured = lured();
    let Lured { hub, base, clean, poisoned, .. } = &lured;
    // Everything that could be taken for `main`, or for the change's branch, is poisoned.
    for name in ["refs/heads/refs/heads/main", "refs/heads/heads/main", "refs/heads/origin/main", "refs/tags/main"] {
        hub.git(&["update-ref", name, poisoned]);
    }
    hub.git(&["update-ref", "refs/tags/topic", poisoned]);
    hub.git(&["update-ref", "refs/heads/topic", clean]);
    hub.pull(7, clean, base);
    let event = pull_request(7, "opened", clean, base);
    let named = |clone: &Clone| {
        for name in ["refs/tags/main", "refs/heads/main", "refs/remotes/main", "refs/heads/refs/heads/main"] {
            clone.git(&["update-ref", name, poisoned]);
        }
    };
    for clone in [hub.shallow("refs/pull/7/merge"), hub.whole("refs/pull/7/merge")] {
        clone.git(&["fetch", "--quiet", "origin", "+refs/*:refs/all/*"]);
        named(&clone);
        let ran = hub.job(&clone, "pull_request", &event).run().ends(0, "success");
        let said = ran.said();
        assert!(said.contains(&format!("branch `main` at {}", &base[..10])), "{said}");
        assert!(said.contains(&clean[..10]) && !said.contains("evil"), "{said}");
        let patch = ran.report("change.patch");
        assert!(patch.contains("+two") && !patch.contains("PWNED"), "{patch}");
    }
    // A push of the namesakes is no push of `main`, and is judged by what `main` says.
    let clone = hub.whole("refs/heads/refs/heads/main");
    for full in ["refs/heads/refs/heads/main", "refs/tags/main"] {
        let mut event = push("main", base, poisoned);
        event["ref"] = json!(full);
        let said = hub.job(&clone, "push", &event).env("GITHUB_REF", full).run().said();
        assert!(!said.contains("evil") && !said.contains(&format!("branch `main` at {}", &poisoned[..10])), "{said}");
    }
    // Where nobody is asked but the folder itself, too.
    let alone = Clone::empty();
    alone.git(&["init", "--quiet", "--initial-branch=main"]);
    alone.git(&[
        "fetch",
        "--quiet",
        "--update-head-ok",
        &format!("{}/acme/widgets.git", hub.server()),
        "+refs/*:refs/*",
    ]);
    alone.git(&["reset", "--quiet", "--hard", base]);
    let ran = Job::bare(&alone).env("CODEFORGE_BASE_BRANCH", "main").run().ends(0, "success");
    assert!(ran.said().contains(&format!("branch `main` at {}", &base[..10])), "{}", ran.said());
}

#[test]
fn the_trusted_branch_can_be_another_one_and_what_is_not_there_says_so() {
    let hub = hub();
    let base = hub.git(&["rev-parse", "main"]);
    let other = [
        (".codeforge/workflows/copy.yml", COPY.replace("POLICY", "other")),
        (".codeforge/policies/other.yml", STRICT.replace("strict", "other")),
    ];
    hub.commit("trusted", &other.each_ref().map(|(path, text)| (*path, text.as_str())));
    let head = hub.commit("topic", &[("src/a.txt", "two\n")]);
    hub.pull(7, &head, &base);
    let clone = hub.shallow("refs/pull/7/merge");
    let job = || hub.job(&clone, "pull_request", &pull_request(7, "opened", &head, &base));
    job()
        .env("CODEFORGE_BASE_BRANCH", "trusted")
        .run()
        .ends(0, "success")
        .says(&["branch `trusted`", "the policy `other`"]);
    job()
        .env("CODEFORGE_BASE_BRANCH", "no-such")
        .run()
        .ends(2, "misconfigured")
        .says(&["the trusted branch `no-such` cannot be read", "CODEFORGE_BASE_BRANCH"]);
    // A name that git could take for something else never reaches it.
    for name in ["--upload-pack=touch /tmp/x", "-c", "refs/heads/main", "a..b", "main:refs/heads/x"] {
        job().env("CODEFORGE_BASE_BRANCH", name).run().ends(2, "misconfigured").says(&["CODEFORGE_BASE_BRANCH is"]);
    }
    // The forge cannot be reached: what the checkout brought along counts only in a clone of this repository.
    let gone = |clone: &Clone| {
        let job = hub.job(clone, "pull_request", &pull_request(7, "opened", &head, &base));
        job.env("GITHUB_SERVER_URL", "http://127.0.0.1:9").run()
    };
    gone(&clone).ends(5, "unavailable").says(&["cannot be fetched", "fetch-depth: 0", "permissions: contents: read"]);
    let whole = hub.whole("refs/pull/7/merge");
    gone(&whole).ends(5, "unavailable").says(&["cannot be fetched"]);
    whole.git(&["remote", "set-url", "origin", "http://127.0.0.1:9/acme/widgets.git"]);
    gone(&whole).ends(0, "success").says(&["WARNING: that is the branch as it was at the checkout"]);
    // Nobody decides a thing where something is unavailable, and some want that to be neither good nor bad.
    let neutral = hub.job(&clone, "pull_request", &pull_request(7, "opened", &head, &base));
    let neutral = neutral.env("GITHUB_SERVER_URL", "http://127.0.0.1:9").env("CODEFORGE_ON_UNAVAILABLE", "neutral");
    neutral.run().ends(0, "neutral").says(&["NEUTRAL", "cannot be fetched"]);
}

#[test]
fn changed_paths_are_found_however_shallow_the_clone_is() {
    let hub = hub();
    let start = hub.git(&["rev-parse", "main"]);
    for n in 0..60 {
        hub.commit("docs-only", &[("docs/a.md", &format!("words {n}\n"))]);
    }
    let docs = hub.git(&["rev-parse", "docs-only"]);
    let code = hub.commit("code", &[("src/a.txt", "two\n")]);
    // Meanwhile the base changes what the filter looks for: that is not the change's doing.
    let base = hub.commit("main", &[("src/b.txt", "three\n")]);
    hub.pull(1, &docs, &base);
    hub.pull(2, &code, &base);
    let clone = hub.shallow("refs/pull/1/merge");
    let ran = hub.job(&clone, "pull_request", &pull_request(1, "opened", &docs, &base)).run();
    ran.ends(0, "skipped").says(&["not `copy`: only when a file under src/** changes; changed: docs/a.md"]);
    let clone = hub.shallow("refs/pull/2/merge");
    hub.job(&clone, "pull_request", &pull_request(2, "opened", &code, &base)).run().ends(0, "success");

    // Pushes: the difference from before; a new branch: what it adds; a force-push whose old commit is gone: the same.
    let zero = "0".repeat(40);
    let gone = "1".repeat(40);
    for (before, after, branch, ends) in [
        (start.as_str(), docs.as_str(), "docs-only", "skipped"),
        (&start, &code, "code", "success"),
        (&zero, &code, "code", "success"),
        (&zero, &docs, "docs-only", "skipped"),
        (&gone, &code, "code", "success"),
        (&gone, &docs, "docs-only", "skipped"),
    ] {
        let clone = hub.shallow(&format!("refs/heads/{branch}"));
        hub.job(&clone, "push", &push(branch, before, after)).run().ends(0, ends);
    }
    // A deleted branch.
    let clone = hub.shallow("refs/heads/main");
    hub.job(&clone, "push", &push("code", &code, &zero)).run().ends(0, "skipped").says(&["the ref was deleted"]);
}

#[test]
fn a_head_that_was_pushed_over_and_a_merge_queue() {
    let hub = hub();
    let base = hub.git(&["rev-parse", "main"]);
    let head = hub.commit("topic", &[("src/a.txt", "two\n")]);
    hub.pull(7, &head, &base);
    let clone = hub.shallow("refs/pull/7/merge");
    // The event is about a commit that is nowhere any more: another one is not taken for it.
    let gone = "2".repeat(40);
    let ran = hub.job(&clone, "pull_request", &pull_request(7, "opened", &gone, &base)).run();
    ran.ends(2, "misconfigured").says(&[&gone, "pushed over"]);

    let queued = hub.pull(7, &head, &base);
    hub.git(&["update-ref", "refs/heads/gh-readonly-queue/main/pr-7", &queued]);
    let clone = hub.shallow("refs/heads/gh-readonly-queue/main/pr-7");
    let group = json!({
        "action": "checks_requested",
        "merge_group": { "head_sha": queued, "head_ref": "refs/heads/gh-readonly-queue/main/pr-7", "base_sha": base,
                         "base_ref": "refs/heads/main" },
        "repository": { "id": 1, "full_name": "acme/widgets", "default_branch": "main" },
        "sender": { "login": "github-merge-queue[bot]", "type": "Bot" },
    });
    let ran = hub.job(&clone, "merge_group", &group).run().ends(0, "success").says(&[&queued[..10]]);
    assert!(ran.report("change.patch").contains("+two"));
}

#[test]
fn a_rerun_has_the_same_key_and_a_newer_configuration() {
    let hub = hub();
    let after = hub.commit(
        "main",
        &[
            ("src/a.txt", "two\n"),
            (
                ".codeforge/workflows/copy.yml",
                &COPY.replace("POLICY", "strict").replace("deliver: patch", "deliver: branch"),
            ),
        ],
    );
    let clone = hub.whole("refs/heads/main");
    let event = push("main", &"0".repeat(40), &after);
    let first = hub.job(&clone, "push", &event).run().ends(0, "success");
    let branch = first.outputs()["branch-name"].as_str().unwrap().to_owned();
    assert!(branch.starts_with("codeforge/copy/"), "{branch}");
    let tip = clone.git(&["rev-parse", &branch]);
    // The branch moves on; the rerun is about the same event, and under the rules of now.
    let newer = hub.commit("main", &[("docs/b.md", "x\n")]);
    let again = hub.job(&clone, "push", &event).env("GITHUB_RUN_ATTEMPT", "2").run().ends(0, "success");
    let again = again.says(&[&format!("branch `main` at {}", &newer[..10]), "attempt 2"]);
    assert_eq!(again.outputs()["branch-name"], branch.as_str());
    assert_ne!(again.outputs()["run-id"], first.outputs()["run-id"]);
    assert_eq!(clone.git(&["rev-parse", &format!("{branch}^")]), after);
    assert_eq!(clone.git(&["show", "--format=", &branch]), clone.git(&["show", "--format=", &tip]));
    let prefixed = hub.job(&clone, "push", &event).env("CODEFORGE_BRANCH_PREFIX", "bots/").run().ends(0, "success");
    assert!(prefixed.outputs()["branch-name"].as_str().unwrap().starts_with("bots/copy/"));
}

#[test]
fn lfs_and_submodules_are_left_and_said() {
    let hub = hub();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n";
    let files = [(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n"), ("src/a.txt", pointer)];
    hub.commit("main", &files);
    let commit = hub.git(&["rev-parse", "HEAD"]);
    hub.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},vendored")]);
    hub.git(&["commit", "--quiet", "--message", "a submodule"]);
    let after = hub.git(&["rev-parse", "HEAD"]);
    let clone = hub.shallow("refs/heads/main");
    let ran = hub.job(&clone, "push", &push("main", &"0".repeat(40), &after)).run();
    // The first push of the trusted branch: all of it is new.
    drop(ran.ends(0, "success"));
    let before = hub.git(&["rev-parse", "HEAD~2"]);
    let ran = hub.job(&clone, "push", &push("main", &before, &after)).run().ends(0, "success");
    let said = ran.said();
    assert_eq!(said.matches("Git LFS").count(), 1, "{said}");
    assert_eq!(said.matches("submodules are left empty: `vendored`").count(), 1, "{said}");
    assert!(ran.report("change.patch").contains("+version https://git-lfs"), "the pointer is what is worked on");
}

#[test]
fn a_partial_clone_that_lacks_contents_says_so() {
    let hub = hub();
    hub.git(&["config", "uploadpack.allowFilter", "true"]);
    let head = hub.commit("topic", &[("src/a.txt", "two\n"), ("docs/a.md", "other\n")]);
    let base = hub.commit("main", &[("src/a.txt", "two\n"), ("src/b.txt", "three\n"), ("docs/a.md", "other\n")]);
    let older = hub.git(&["rev-parse", "main~1"]);
    hub.pull(7, &head, &base);
    let clone = Clone::empty();
    let url = format!("{}/acme/widgets.git", hub.server());
    clone.git(&["init", "--quiet"]);
    clone.git(&["remote", "add", "origin", &url]);
    clone.git(&["fetch", "--quiet", "--filter=blob:none", "origin", "+refs/heads/*:refs/remotes/origin/*"]);
    clone.git(&["checkout", "--quiet", "--detach", &base]);
    // The commit is here, what its files hold is not.
    let ran = hub.job(&clone, "pull_request", &pull_request(7, "opened", &older, &base)).run();
    ran.ends(2, "misconfigured").says(&["without `filter:`"]);
}

#[test]
fn a_plain_container_needs_no_forge() {
    let hub = hub();
    // A clone with a remote: the branch that the remote says is its default one.
    let clone = hub.whole("refs/heads/main");
    let ran = Job::bare(&clone).run().ends(0, "success").says(&["a plain container: schedule", "branch `main`"]);
    assert!(ran.report("outputs.env").contains("CODEFORGE_CONCLUSION=success\n"));
    assert_eq!(clone.git(&["status", "--porcelain"]), "", "the report's folder ignores itself");
    // A repository of its own, without a remote.
    let alone = Clone::empty();
    alone.git(&["init", "--quiet", "--initial-branch=main"]);
    alone.write(".codeforge/workflows/copy.yml", &COPY.replace("POLICY", "strict"));
    alone.write(".codeforge/policies/strict.yml", STRICT);
    alone.write("src/a.txt", "one\n");
    alone.git(&["add", "--all"]);
    alone.git(&["commit", "--quiet", "--message", "first"]);
    Job::bare(&alone).run().ends(2, "misconfigured").says(&["which branch is trusted", "CODEFORGE_BASE_BRANCH"]);
    // What is not committed is no configuration.
    alone.write(".codeforge/workflows/other.yml", &COPY.replace("name: copy", "name: other"));
    let ran = Job::bare(&alone).env("CODEFORGE_BASE_BRANCH", "main").run().ends(0, "success");
    assert!(!ran.said().contains("other"), "{}", ran.said());
    // An event of one's own, with only what is needed.
    let event = alone.aside().join("event.json");
    std::fs::write(&event, r#"{ "kind": "push", "push": { "branch": "main", "after": null } }"#).unwrap();
    let job = Job::bare(&alone).env("CODEFORGE_BASE_BRANCH", "main").env("CODEFORGE_EVENT", event.to_str().unwrap());
    job.run().ends(0, "skipped").says(&["the ref was deleted"]);
}
