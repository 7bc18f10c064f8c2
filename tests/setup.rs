//! `sandbox.setup`: runs once, with a network; what it leaves is there for every step, gate and copy, and no step can
//! change it for another.

mod common;

use common::{TestRepo, spoken};
use std::os::unix::fs::{PermissionsExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::Path;

const WORKFLOW: &str = r#"
name: work
policy: trusted-mount-autonomous
sandbox:
  exec_mode: sandbox
  image: codeforge-test:latest
  setup:
    - "mkdir -p ~/.cache/tool deps && echo fetched > ~/.cache/tool/crate && echo installed > deps/lib"
    - "echo again >> ~/.cache/tool/crate"
gates:
  tests: { run: "cat ~/.cache/tool/crate deps/lib && test ! -e ~/.cache/tool/evil && test ! -e ~/.profile && grep -q again ~/.cache/tool/crate" }
steps:
  one:
    run: "cat ~/.cache/tool/crate deps/lib > one.txt && echo evil > ~/.cache/tool/evil && echo evil > ~/.cache/tool/crate && echo evil > ~/.profile && rm -rf ~/.cache && mkdir -p ~/.cache/tool && test ! -e ~/.cache/tool/crate"
    needs: []
    gates: [tests]
  two:
    run: "cat ~/.cache/tool/crate deps/lib > two.txt && test ! -e ~/.cache/tool/evil"
    needs: []
  three:
    run: "cat ~/.cache/tool/crate deps/lib > three.txt && test ! -e ~/.cache/tool/evil"
    needs: [one, two]
    gates: [tests]
deliver: { as: patch, title: Made }
"#;

/// Gives a folder and all beneath to a user.
fn give(path: &Path, user: u32) {
    lchown(path, Some(user), Some(user)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        for entry in std::fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), user);
        }
    }
}

fn set_up_is_there_for_all(driver: &str, as_user: Option<u32>) {
    let repo = TestRepo::with(&[("README.md", "hello\n"), (".gitignore", "deps/\n")]);
    repo.write(".codeforge/workflows/work.yml", WORKFLOW);
    repo.commit("configured");
    let mut command = repo.codeforge(&["run", "work", "-v", "--sandbox", driver]);
    let elsewhere = tempfile::tempdir().unwrap();
    if let Some(user) = as_user {
        // Somebody who can reach neither the build folder nor what is root's.
        let binary = elsewhere.path().join("codeforge");
        std::fs::copy(env!("CARGO_BIN_EXE_codeforge"), &binary).unwrap();
        std::fs::set_permissions(elsewhere.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        give(repo.path(), user);
        #[expect(clippy::disallowed_methods, reason = "tests start the binary as people do")]
        let mut other = std::process::Command::new(binary);
        other.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", elsewhere.path()).env("NO_COLOR", "1");
        other.current_dir(repo.path()).args(command.get_args()).uid(user).gid(user);
        command = other;
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{driver}\n{}", spoken(&output));
    let runs = std::fs::read_dir(repo.path().join(".codeforge/runs")).unwrap();
    let patch = runs.map(|entry| entry.unwrap().path().join("change.patch")).find(|path| path.exists()).unwrap();
    let patch = std::fs::read_to_string(patch).unwrap();
    for step in ["one", "two", "three"] {
        assert!(
            patch.contains(&format!("+++ b/{step}.txt\n@@ -0,0 +1,3 @@\n+fetched\n+again\n+installed")),
            "{driver}\n{patch}"
        );
    }
    assert!(!patch.contains("deps/lib") && !patch.contains("evil"), "{driver}\n{patch}");
    give(repo.path(), nix::unistd::geteuid().as_raw());
    assert_eq!(repo.status(), "", "{driver}: the user's tree is as it was");
}

#[test]
fn what_set_up_leaves_is_there_in_the_native_sandbox() {
    set_up_is_there_for_all("native", None);
}

#[test]
fn what_set_up_leaves_is_there_for_somebody_who_is_not_root() {
    // Who is not root already has shown it above.
    let user = nix::unistd::geteuid().is_root().then_some(4242);
    set_up_is_there_for_all("native", user);
}

#[test]
fn what_set_up_leaves_is_there_in_docker() {
    set_up_is_there_for_all("docker", None);
}

#[test]
fn a_set_up_that_fails_is_the_operators_to_mend() {
    let repo = TestRepo::with(&[("README.md", "hello\n")]);
    let workflow = WORKFLOW.replace("echo again >>", "echo no such crate >&2; exit 7; echo");
    repo.write(".codeforge/workflows/work.yml", workflow);
    repo.commit("configured");
    let output = repo.codeforge(&["run", "work", "--sandbox", "native"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", spoken(&output));
    for words in ["set-up command", "exit code 7", "no such crate", ".codeforge/workflows/work.yml"] {
        assert!(spoken(&output).contains(words), "`{words}` is missing\n{}", spoken(&output));
    }
}
