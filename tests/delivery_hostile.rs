//! Deliveries and restores that would lose a person's work, or carry what must not leave.

mod common;
use codeforge::adapter::git::{self, Force};
use codeforge::model::delivery::{Delivered, Delivery};
use codeforge::model::exec::ExecMode;
use codeforge::model::id::{RunId, TreeId};
use codeforge::model::journal::Base;
use codeforge::model::plan::DeliverKind;
use codeforge::port::repository::{OpenWorkspace, Repository, RepositoryError, Workspace};
use common::{TestRepo, git as git_command, ok};
use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::Arc;

struct Work {
    repo: TestRepo,
    repository: Arc<dyn Repository>,
    workspace: Arc<dyn Workspace>,
    base: Base,
}
fn order(t: &TreeId) -> OpenWorkspace {
    OpenWorkspace {
        run: RunId::from("run00001"),
        name: "main".into(),
        tree: t.clone(),
        base: t.clone(),
        mode: ExecMode::Sandbox,
        step: None,
    }
}
impl Drop for Work {
    fn drop(&mut self) {
        let _ = self.repository.clean(&RunId::from("run00001"));
    }
}

impl Work {
    fn on(repo: TestRepo, force: Force) -> Self {
        let repository = git::open_with(repo.path(), force).unwrap();
        let base = repository.base().unwrap();
        let workspace = repository.workspace(&order(&base.tree)).unwrap();
        Self { repo, repository, workspace, base }
    }
    fn deliver(&self, kind: DeliverKind, body: &str) -> Result<Delivered, RepositoryError> {
        let tree = self.workspace.snapshot().unwrap();
        let d = Delivery {
            kind,
            base: self.base.tree.clone(),
            tree,
            branch: Some("codeforge/x".into()),
            title: "T".into(),
            body: body.into(),
            author: ("CodeForge".into(), "bot@example.com".into()),
            time_s: 1_790_000_000,
            protected_paths: vec![".github/**".into(), "CODEOWNERS".into()],
        };
        self.repository.deliver(&self.base, &d, &self.repo.path().join(".codeforge/runs/run00001/change.patch"))
    }
    fn am(&self, patch: &str, how: &[&str]) -> (bool, String, String) {
        let clone = tempfile::tempdir().unwrap();
        ok(git_command().arg("clone").arg("--quiet").arg(self.repo.path()).arg(clone.path()));
        let out = git_command().current_dir(clone.path()).args(how).arg(patch).output().unwrap();
        let t = ok(git_command().current_dir(clone.path()).arg("write-tree"));
        let a = ok(git_command().current_dir(clone.path()).args(["log", "-1", "--format=%an"]));
        (out.status.success(), format!("{} {}", t.trim(), String::from_utf8_lossy(&out.stderr)), a)
    }
}
fn basic() -> TestRepo {
    TestRepo::with(&[
        ("README.md", "hello\n"),
        ("a.txt", "a\n"),
        ("crlf.txt", "one\r\ntwo\r\nthree\r\n"),
        (".gitignore", "*.env\nnode_modules/\n"),
    ])
}

#[test]
fn a_patch_of_windows_line_ends_is_taken_by_git_am() {
    let w = Work::on(basic(), Force::Copy);
    std::fs::write(w.workspace.root().join("crlf.txt"), "one\r\nTWO\r\nthree\r\n").unwrap();
    let t = w.workspace.snapshot().unwrap();
    let p = w.deliver(DeliverKind::Patch, "b").unwrap().patch.unwrap();
    for how in [&["am", "-q"][..], &["apply", "--index"][..]] {
        let r = w.am(&p, how);
        assert!(r.0 && r.1.starts_with(t.as_str()), "{how:?} {r:?}");
    }
}

#[test]
fn links_that_lead_out_together_are_refused() {
    let w = Work::on(basic(), Force::Copy);
    let r = w.workspace.root();
    std::fs::create_dir_all(r.join("p/q")).unwrap();
    symlink("../..", r.join("p/q/L")).unwrap();
    symlink("L/../../etc", r.join("p/q/l2")).unwrap();
    let d = w.deliver(DeliverKind::CommitLocal, "b");
    if d.is_ok() {
        panic!(
            "delivered; p/q/l2 is {:?}, repo is {:?}",
            std::fs::canonicalize(w.repo.path().join("p/q/l2/")),
            w.repo.path()
        );
    }
}

#[test]
fn an_ignored_file_of_the_users_is_never_overwritten() {
    let repo = basic();
    std::fs::write(repo.path().join("my.env"), "SECRET=1\n").unwrap();
    let w = Work::on(repo, Force::Overlay);
    let r = w.workspace.root();
    std::fs::write(r.join(".gitignore"), "\n").unwrap();
    std::fs::write(r.join("my.env"), "agent\n").unwrap();
    let d = w.deliver(DeliverKind::CommitLocal, "b");
    assert_eq!(std::fs::read_to_string(w.repo.path().join("my.env")).unwrap(), "SECRET=1\n", "{:?}", d.is_ok());
}

#[test]
fn a_copy_that_is_opened_again_keeps_its_ignored_files() {
    let repo = basic();
    std::fs::create_dir(repo.path().join("node_modules")).unwrap();
    std::fs::write(repo.path().join("node_modules/x.js"), "1").unwrap();
    let w = Work::on(repo, Force::Copy);
    assert!(w.workspace.root().join("node_modules/x.js").exists());
    let again = git::open_with(w.repo.path(), Force::Copy).unwrap();
    let ws = again.workspace(&order(&w.base.tree)).unwrap();
    ws.restore(&w.base.tree).unwrap();
    assert!(ws.root().join("node_modules/x.js").exists(), "ignored file lost by a restore after reopening");
}

#[test]
fn a_patch_that_makes_a_file_a_link_is_taken() {
    let w = Work::on(basic(), Force::Copy);
    let r = w.workspace.root();
    std::fs::remove_file(r.join("a.txt")).unwrap();
    symlink("README.md", r.join("a.txt")).unwrap();
    let t = w.workspace.snapshot().unwrap();
    let p = w.deliver(DeliverKind::Patch, "b").unwrap().patch.unwrap();
    for how in [&["am", "-q"][..], &["apply", "--index"][..]] {
        let r = w.am(&p, how);
        assert!(r.0 && r.1.starts_with(t.as_str()), "{how:?} {r:?}");
    }
}

#[test]
fn a_body_does_not_say_who_wrote_the_change() {
    let w = Work::on(basic(), Force::Copy);
    std::fs::write(w.workspace.root().join("a.txt"), "b\n").unwrap();
    let p = w.deliver(DeliverKind::Patch, "From: Linus <l@example.com>\n\nx").unwrap().patch.unwrap();
    let r = w.am(&p, &["am", "-q"]);
    assert_eq!(r.2.trim(), "CodeForge", "{r:?}");
}

#[test]
fn invisible_characters_do_not_hide_a_protected_path() {
    let w = Work::on(basic(), Force::Copy);
    let d = w.workspace.root().join(".githu\u{200c}b/workflows");
    std::fs::create_dir_all(&d).unwrap();
    std::fs::write(d.join("x.yml"), "x").unwrap();
    assert!(w.deliver(DeliverKind::Branch, "b").is_err());
}

#[test]
fn a_folder_that_changed_under_an_overlay_is_told_at_delivery() {
    let w = Work::on(basic(), Force::Overlay);
    std::fs::write(w.workspace.root().join("a.txt"), "b\n").unwrap();
    std::fs::write(w.repo.path().join("README.md"), "user edits\n").unwrap();
    assert!(w.deliver(DeliverKind::Branch, "b").is_err(), "lower changed, delivered all the same");
}

#[test]
fn ignored_files_of_a_removed_folder_come_back() {
    for force in [Force::Overlay, Force::Copy] {
        let repo = TestRepo::with(&[("d/t.txt", "t\n"), (".gitignore", "*.env\n")]);
        std::fs::write(repo.path().join("d/my.env"), "S").unwrap();
        let w = Work::on(repo, force);
        std::fs::remove_dir_all(w.workspace.root().join("d")).unwrap();
        w.workspace.restore(&w.base.tree).unwrap();
        assert!(w.workspace.root().join("d/t.txt").exists());
        assert!(w.workspace.root().join("d/my.env").exists(), "{force:?}: ignored file not back");
    }
}

#[test]
fn what_root_delivers_belongs_to_the_folders_owner() {
    let repo = basic();
    for e in ignore::WalkBuilder::new(repo.path()).standard_filters(false).build() {
        let e = e.unwrap();
        std::os::unix::fs::lchown(e.path(), Some(1000), Some(1000)).unwrap();
    }
    let w = Work::on(repo, Force::Copy);
    std::fs::write(w.workspace.root().join("a.txt"), "b\n").unwrap();
    w.deliver(DeliverKind::CommitLocal, "b").unwrap();
    let mut bad = Vec::new();
    for e in ignore::WalkBuilder::new(w.repo.path()).standard_filters(false).build() {
        let e = e.unwrap();
        let p = e.path().to_owned();
        if !p.to_string_lossy().contains("codeforge") && std::fs::symlink_metadata(&p).unwrap().uid() != 1000 {
            bad.push(p.strip_prefix(w.repo.path()).unwrap().to_owned());
        }
    }
    assert!(bad.is_empty(), "root's: {bad:?}");
}

#[test]
fn staged_changes_are_not_overwritten() {
    let repo = basic();
    let w = Work::on(repo, Force::Copy);
    std::fs::write(w.repo.path().join("a.txt"), "staged\n").unwrap();
    w.repo.git(&["add", "a.txt"]);
    std::fs::write(w.repo.path().join("a.txt"), "a\n").unwrap();
    std::fs::write(w.workspace.root().join("a.txt"), "b\n").unwrap();
    let before = w.repo.git(&["rev-parse", ":a.txt"]);
    let d = w.deliver(DeliverKind::CommitLocal, "b");
    assert_eq!(before, w.repo.git(&["rev-parse", ":a.txt"]), "staged content overwritten: delivered={}", d.is_ok());
}

#[test]
fn a_folder_does_not_replace_a_persons_file() {
    let repo = basic();
    std::fs::write(repo.path().join("new"), "user file\n").unwrap();
    let w = Work::on(repo, Force::Copy);
    let r = w.workspace.root();
    std::fs::remove_file(r.join("new")).unwrap();
    std::fs::create_dir(r.join("new")).unwrap();
    std::fs::write(r.join("new/f"), "x").unwrap();
    let d = w.deliver(DeliverKind::CommitLocal, "b");
    assert!(d.is_err() && std::fs::read_to_string(w.repo.path().join("new")).unwrap() == "user file\n");
}

#[test]
fn an_edited_lfs_file_is_refused() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\nsize 4\n";
    let repo = TestRepo::with(&[("big.bin", pointer), ("a.txt", "a\n")]);
    let w = Work::on(repo, Force::Copy);
    std::fs::write(w.workspace.root().join("big.bin"), "edited content").unwrap();
    assert!(w.deliver(DeliverKind::Branch, "b").is_err(), "LFS content delivered as a blob");
}
