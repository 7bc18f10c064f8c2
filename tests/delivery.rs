//! Handing over: patch, commit, branch; and what is never handed over. Real repositories, real git.

mod common;

use codeforge::adapter::git::{self, Force};
use codeforge::model::delivery::{Delivered, Delivery};
use codeforge::model::exec::ExecMode;
use codeforge::model::id::{RunId, TreeId};
use codeforge::model::journal::Base;
use codeforge::model::plan::DeliverKind;
use codeforge::port::repository::{OpenWorkspace, Repository, RepositoryError, Workspace};
use common::{TestRepo, git as git_command, ok};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;

struct Work {
    repo: TestRepo,
    repository: Arc<dyn Repository>,
    workspace: Arc<dyn Workspace>,
    base: Base,
}

impl Work {
    fn on(repo: TestRepo) -> Self {
        let repository = git::open_with(repo.path(), Force::Copy).unwrap();
        let base = repository.base().unwrap();
        let workspace = repository
            .workspace(&OpenWorkspace {
                run: RunId::from("run00001"),
                name: "main".into(),
                tree: base.tree.clone(),
                base: base.tree.clone(),
                mode: ExecMode::Sandbox,
                step: None,
            })
            .unwrap();
        Self { repo, repository, workspace, base }
    }

    fn new() -> Self {
        Self::on(TestRepo::with(&[("README.md", "hello\n"), ("src/a.rs", "fn a() {}\n"), ("old.txt", "old\n")]))
    }

    /// Text, a new program, a deletion, a binary file, a name that needs quoting, a file without a line end.
    fn change(&self) -> TreeId {
        let root = self.workspace.root();
        std::fs::write(root.join("src/a.rs"), "fn a() {}\nfn b() {}\n").unwrap();
        std::fs::write(root.join("run.sh"), "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(root.join("run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::remove_file(root.join("old.txt")).unwrap();
        std::fs::write(root.join("bin.dat"), [0u8, 159, 146, 150, 0, 1]).unwrap();
        std::fs::write(root.join("ä name.txt"), "no line end").unwrap();
        self.workspace.snapshot().unwrap()
    }

    fn delivery(&self, kind: DeliverKind, tree: &TreeId) -> Delivery {
        Delivery {
            kind,
            base: self.base.tree.clone(),
            tree: tree.clone(),
            branch: Some("codeforge/work-1".into()),
            title: "Add b: [it] was missing <now>".into(),
            body: "Because.\n\n---\ndiff --git is not one\nFrom here\n".into(),
            author: ("CodeForge".into(), "bot@example.com".into()),
            time_s: 1_790_000_000,
            protected_paths: vec![".github/**".into(), "CODEOWNERS".into()],
        }
    }

    fn deliver(&self, kind: DeliverKind, tree: &TreeId) -> Result<Delivered, RepositoryError> {
        let to = self.repo.path().join(".codeforge/runs/run00001/change.patch");
        self.repository.deliver(&self.base, &self.delivery(kind, tree), &to)
    }

    fn refused(&self, edit: impl FnOnce(&std::path::Path), words: &str) {
        edit(self.workspace.root());
        let tree = self.workspace.snapshot().unwrap();
        for kind in [DeliverKind::Patch, DeliverKind::Branch, DeliverKind::CommitLocal] {
            let error = self.deliver(kind, &tree).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        // As the commit that goes to a forge, too.
        let error = self.repository.commit(&self.base, &self.delivery(DeliverKind::PullRequest, &tree), None);
        assert!(error.unwrap_err().to_string().contains(words), "{words}");
        assert!(!self.repo.git(&["branch"]).contains("codeforge"), "{words}");
        self.workspace.restore(&self.base.tree).unwrap();
    }
}

#[test]
fn a_patch_is_taken_by_git_am_and_git_apply() {
    let work = Work::new();
    let tree = work.change();
    let delivered = work.deliver(DeliverKind::Patch, &tree).unwrap();
    let patch = delivered.patch.unwrap();
    assert_eq!(delivered.changes.files.len(), 5);
    assert!(work.repo.status().is_empty(), "run records are nobody's change: {}", work.repo.status());
    for how in [&["am", "--quiet"][..], &["apply", "--index"][..]] {
        let clone = tempfile::tempdir().unwrap();
        ok(git_command().arg("clone").arg("--quiet").arg(work.repo.path()).arg(clone.path()));
        ok(git_command().current_dir(clone.path()).args(how).arg(&patch));
        let written = ok(git_command().current_dir(clone.path()).arg("write-tree"));
        assert_eq!(written.trim(), tree.as_str(), "{how:?}");
        if how[0] == "am" {
            let log = ok(git_command().current_dir(clone.path()).args(["log", "-1", "--format=%an <%ae>%n%s%n%b"]));
            assert!(log.starts_with("CodeForge <bot@example.com>\nAdd b:"), "{log}");
            assert!(log.contains("Because."), "{log}");
        }
    }
    // The same again is the same file.
    let before = std::fs::read(&patch).unwrap();
    work.deliver(DeliverKind::Patch, &tree).unwrap();
    assert_eq!(std::fs::read(&patch).unwrap(), before);
}

#[test]
fn a_branch_is_made_once_and_never_overwritten() {
    let work = Work::new();
    let tree = work.change();
    let first = work.deliver(DeliverKind::Branch, &tree).unwrap();
    let again = work.deliver(DeliverKind::Branch, &tree).unwrap();
    assert_eq!(first.commit, again.commit, "the same delivery makes the same commit");
    assert_eq!(work.repo.git(&["rev-parse", "codeforge/work-1^{tree}"]).trim(), tree.as_str());
    assert_eq!(work.repo.git(&["rev-parse", "codeforge/work-1~1"]).trim(), work.base.commit.clone().unwrap());
    assert!(work.repo.status().is_empty() && work.repo.git(&["symbolic-ref", "HEAD"]).contains("main"));
    work.repo.git(&["fsck", "--strict"]);
    // Somebody commits on it: theirs stays.
    work.repo.git(&["switch", "--quiet", "codeforge/work-1"]);
    work.repo.write("theirs.txt", "by hand\n");
    let theirs = work.repo.commit("by hand");
    work.repo.git(&["switch", "--quiet", "main"]);
    let error = work.deliver(DeliverKind::Branch, &tree).unwrap_err();
    assert!(matches!(&error, RepositoryError::Refused(words) if words.contains("exists already")), "{error}");
    assert_eq!(work.repo.git(&["rev-parse", "codeforge/work-1"]).trim(), theirs);
}

#[test]
fn a_commit_touches_only_what_changed_and_runs_no_hook() {
    let work = Work::new();
    for hook in ["pre-commit", "commit-msg", "post-commit", "post-checkout", "reference-transaction"] {
        work.repo
            .write(&format!(".git/hooks/{hook}"), "#!/bin/sh\ntouch \"$(git rev-parse --show-toplevel)/hooked\"\n");
        work.repo.executable(&format!(".git/hooks/{hook}"));
    }
    let tree = work.change();
    work.deliver(DeliverKind::CommitLocal, &tree).unwrap();
    assert!(work.repo.status().is_empty(), "{}", work.repo.status());
    assert_eq!(work.repo.git(&["rev-parse", "HEAD^{tree}"]).trim(), tree.as_str());
    assert!(!work.repo.has("hooked") && !work.repo.has("old.txt"));
    assert_eq!(work.repo.read("ä name.txt"), "no line end");
    // Again: it is found, not made twice.
    work.deliver(DeliverKind::CommitLocal, &tree).unwrap();
    assert_eq!(work.repo.git(&["rev-list", "--count", "HEAD"]).trim(), "2");
}

#[test]
fn a_persons_uncommitted_work_is_neither_carried_nor_lost() {
    let repo = TestRepo::with(&[("README.md", "hello\n"), ("src/a.rs", "fn a() {}\n"), ("old.txt", "old\n")]);
    repo.write("README.md", "mine\n");
    repo.write("untracked.txt", "mine too\n");
    let work = Work::on(repo);
    std::fs::write(work.workspace.root().join("src/a.rs"), "fn b() {}\n").unwrap();
    let beside = work.workspace.snapshot().unwrap();
    let delivered = work.deliver(DeliverKind::Branch, &beside).unwrap();
    assert_eq!(delivered.changes.files.len(), 1);
    let names = work.repo.git(&["diff", "--name-only", "main", "codeforge/work-1"]);
    assert_eq!(names.trim(), "src/a.rs", "what was dirty is not in the commit");
    std::fs::write(work.workspace.root().join("README.md"), "agent\n").unwrap();
    let over = work.workspace.snapshot().unwrap();
    let error = work.deliver(DeliverKind::CommitLocal, &over).unwrap_err().to_string();
    assert!(error.contains("`README.md`") && error.contains("not committed"), "{error}");
    assert_eq!(
        (work.repo.read("README.md").as_str(), work.repo.read("untracked.txt").as_str()),
        ("mine\n", "mine too\n")
    );
}

#[test]
fn a_branch_that_moved_in_the_meantime_is_left_alone() {
    let work = Work::new();
    let tree = work.change();
    work.repo.write("meanwhile.txt", "x\n");
    let moved = work.repo.commit("meanwhile");
    let error = work.deliver(DeliverKind::CommitLocal, &tree).unwrap_err().to_string();
    assert!(error.contains("has moved"), "{error}");
    assert_eq!(work.repo.head(), moved);
}

#[test]
fn what_must_not_leave_is_refused_whatever_the_form() {
    let work = Work::new();
    let write = |path: &'static str| {
        move |root: &std::path::Path| {
            std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            std::fs::write(root.join(path), "x\n").unwrap();
        }
    };
    work.refused(write(".github/workflows/ci.yml"), "protected path");
    work.refused(write(".GitHub/workflows/ci.yml"), "protected path");
    work.refused(write("CODEOWNERS"), "protected path");
    work.refused(|root| std::fs::rename(root.join("old.txt"), root.join("codeowners")).unwrap(), "protected path");
    work.refused(|root| symlink("/etc/passwd", root.join("link")).unwrap(), "leads out of the repository");
    work.refused(|root| symlink("../outside", root.join("link")).unwrap(), "leads out of the repository");
    work.refused(|root| symlink(".git/config", root.join("link")).unwrap(), "git's own files");
    work.refused(write("git~1/config"), "read as `.git`");
    work.refused(write("sub/.g\u{200c}it/config"), "read as `.git`");
}

/// trust.md 21: a protected file is so in its content, its name, its letters' case, its mode, and its being there.
#[test]
fn trust_21_a_protected_file_changes_in_no_way() {
    const CI: &str = ".github/workflows/ci.yml";
    let work = Work::on(TestRepo::with(&[
        (CI, "on: push\n"),
        (".github/run.sh", "#!/bin/sh\n"),
        ("CODEOWNERS", "* @ann\n"),
        ("src/a.rs", "fn a() {}\n"),
    ]));
    type Edit = fn(&std::path::Path);
    let edits: [(&str, Edit); 13] = [
        ("its content", |root| std::fs::write(root.join(CI), "on: pull_request_target\n").unwrap()),
        ("nothing left in it", |root| std::fs::write(root.join(CI), "").unwrap()),
        ("another one beside it", |root| std::fs::write(root.join(".github/workflows/new.yml"), "x\n").unwrap()),
        ("gone", |root| std::fs::remove_file(root.join("CODEOWNERS")).unwrap()),
        ("renamed away", |root| std::fs::rename(root.join("CODEOWNERS"), root.join("OWNERS")).unwrap()),
        ("renamed to it", |root| std::fs::rename(root.join("src/a.rs"), root.join(".github/a.rs")).unwrap()),
        ("its folder renamed", |root| std::fs::rename(root.join(".github"), root.join("github")).unwrap()),
        ("its case", |root| std::fs::rename(root.join("CODEOWNERS"), root.join("CodeOwners")).unwrap()),
        ("beside it in another case", |root| {
            std::fs::create_dir_all(root.join(".GITHUB/Workflows")).unwrap();
            std::fs::write(root.join(".GITHUB/Workflows/ci.yml"), "x\n").unwrap();
        }),
        ("its mode", |root| {
            std::fs::set_permissions(root.join(".github/run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
        }),
        ("a link in its place", |root| {
            std::fs::remove_file(root.join("CODEOWNERS")).unwrap();
            symlink("src/a.rs", root.join("CODEOWNERS")).unwrap();
        }),
        ("a folder in its place", |root| {
            std::fs::remove_file(root.join("CODEOWNERS")).unwrap();
            std::fs::create_dir(root.join("CODEOWNERS")).unwrap();
            std::fs::write(root.join("CODEOWNERS/x"), "x\n").unwrap();
        }),
        ("letters that cannot be seen in it", |root| {
            std::fs::create_dir_all(root.join(".git\u{200d}hub")).unwrap();
            std::fs::write(root.join(".git\u{200d}hub/x.yml"), "x\n").unwrap();
        }),
    ];
    for (what, edit) in edits {
        println!("{what}");
        work.refused(edit, "protected path");
    }
    // What only looks like it is none.
    std::fs::write(work.workspace.root().join("src/CODEOWNERS.md"), "x\n").unwrap();
    let tree = work.workspace.snapshot().unwrap();
    work.deliver(DeliverKind::Patch, &tree).unwrap();
}

#[test]
fn nothing_to_hand_over_makes_nothing() {
    let work = Work::new();
    let delivered = work.deliver(DeliverKind::Branch, &work.base.tree).unwrap();
    assert!(!delivered.changed && delivered.commit.is_none());
    assert!(!work.repo.git(&["branch"]).contains("codeforge"));
}

#[test]
fn an_agents_git_directory_has_no_say_on_the_host() {
    let repo = TestRepo::with(&[("README.md", "hello\n"), ("src/a.rs", "fn a() {}\n"), ("old.txt", "old\n")]);
    let marker = tempfile::tempdir().unwrap();
    let touch = format!("touch {}/ran", marker.path().display());
    let work = Work::on(repo);
    let root = work.workspace.root();
    // In `.git`, in a bare repository among the files, and in attributes that would run filters.
    for place in [".git", "bare.git"] {
        let git = root.join(place);
        std::fs::create_dir_all(git.join("hooks")).unwrap();
        std::fs::create_dir_all(git.join("objects")).unwrap();
        std::fs::create_dir_all(git.join("refs")).unwrap();
        std::fs::write(git.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        std::fs::write(
            git.join("config"),
            format!("[core]\n fsmonitor = {touch}\n hooksPath = hooks\n pager = {touch}\n sshCommand = {touch}\n[filter \"x\"]\n clean = {touch}\n smudge = {touch}\n"),
        )
        .unwrap();
    }
    std::fs::write(root.join(".gitattributes"), "* filter=x diff=x merge=x\n").unwrap();
    std::fs::write(root.join("src/a.rs"), "fn c() {}\n").unwrap();
    let tree = work.workspace.snapshot().unwrap();
    let changes = work.repository.diff(&work.base.tree, &tree, 0).unwrap();
    assert!(changes.files.iter().all(|file| !file.path.starts_with(".git/")), "{:?}", changes.files);
    work.workspace.restore(&work.base.tree).unwrap();
    work.workspace.restore(&tree).unwrap();
    work.deliver(DeliverKind::Branch, &tree).unwrap();
    work.deliver(DeliverKind::CommitLocal, &tree).unwrap();
    work.repository.log(5, None).unwrap();
    assert_eq!(std::fs::read_dir(marker.path()).unwrap().count(), 0, "nothing of it ran");
}

#[test]
fn a_commit_that_is_made_here_is_titled_as_the_repository_titles_its_own() {
    const RUN: &str = "name: write\npolicy: open\nsteps: { write: { run: \"printf 'mended\\\\n' > src/a.txt\" } }\ndeliver: { as: KIND, branch: codeforge/tail, title: \"Mend the tail.\" }\n";
    let conventional = ["fix(src): one", "feat(src): two", "chore: three", "fix(src): four", "fix(src): five"];
    let plain = ["One", "Two", "Three", "Four", "Five"];
    for (subjects, convention, title) in [
        (conventional, "auto", "fix(src): mend the tail"),
        (conventional, "as_written", "Mend the tail."),
        (plain, "auto", "Mend the tail"),
        (plain, "conventional", "fix: mend the tail"),
    ] {
        for (kind, at) in [("branch", "codeforge/tail"), ("commit-local", "main")] {
            let repo = TestRepo::with(&[("src/a.txt", "one\n")]);
            repo.write(".codeforge/workflows/write.yml", RUN.replace("KIND", kind));
            repo.write(".codeforge/policies/open.yml", "name: open\nrules: [{ tool: \"*\", decision: allow }]\n");
            repo.write(".codeforge/config.yml", format!("delivery: {{ convention: {convention} }}\n"));
            repo.commit(subjects[0]);
            for subject in subjects {
                repo.git(&["commit", "--quiet", "--allow-empty", "--message", subject]);
            }
            ok(&mut repo.codeforge(&["run", "write", "--sandbox", "none"]));
            let made = repo.git(&["log", "-1", "--format=%s", at]);
            assert_eq!(made.trim(), title, "{kind}, {convention}");
        }
    }
}
