//! Workspaces, snapshots, restores, joins: over overlays and copies, in a real repository.

mod common;

use codeforge::adapter::git::{self, Force};
use codeforge::model::exec::ExecMode;
use codeforge::model::id::{EffectKey, RunId, TreeId};
use codeforge::port::repository::{FileError, OpenWorkspace, Repository, Workspace};
use common::TestRepo;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

const FILES: [(&str, &str); 6] = [
    ("README.md", "hello\n"),
    ("src/main.rs", "fn main() {}\n"),
    ("src/deep/er/mod.rs", "// deep\n"),
    ("run.sh", "#!/bin/sh\necho hi\n"),
    (".gitignore", "target/\n*.log\n"),
    ("kept.log", "tracked although it is ignored\n"),
];

fn user() -> TestRepo {
    let repo = TestRepo::empty();
    for (path, text) in FILES {
        repo.write(path, text);
    }
    repo.executable("run.sh");
    symlink("src/main.rs", repo.path().join("link")).unwrap();
    repo.git(&["add", "--all"]);
    repo.git(&["add", "--force", "kept.log"]);
    repo.commit("first");
    repo
}

fn order(name: &str, tree: &TreeId, base: &TreeId, mode: ExecMode) -> OpenWorkspace {
    OpenWorkspace {
        run: RunId::from("run00001"),
        name: name.into(),
        tree: tree.clone(),
        base: base.clone(),
        mode,
        step: None,
    }
}

struct Open {
    repository: Arc<dyn Repository>,
    workspace: Arc<dyn Workspace>,
    base: TreeId,
}

fn open(repo: &TestRepo, force: Force) -> Open {
    let repository = git::open_with(repo.path(), force).unwrap();
    let base = repository.base().unwrap().tree;
    let workspace = repository.workspace(&order("main", &base, &base, ExecMode::Sandbox)).unwrap();
    Open { repository, workspace, base }
}

/// Everything below a folder but `.git` and what is ignored: content, kind and executable bit.
fn listing(root: &Path) -> BTreeMap<String, (String, Vec<u8>)> {
    fn walk(root: &Path, at: &Path, found: &mut BTreeMap<String, (String, Vec<u8>)>) {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            let meta = std::fs::symlink_metadata(&path).unwrap();
            if name == ".git" || name.starts_with("target") || (name.ends_with(".log") && name != "kept.log") {
                continue;
            }
            if meta.is_symlink() {
                let target = std::fs::read_link(&path).unwrap();
                found.insert(name, ("link".into(), target.to_string_lossy().into_owned().into_bytes()));
            } else if meta.is_dir() {
                walk(root, &path, found);
            } else {
                let kind = if meta.permissions().mode() & 0o100 == 0 { "file" } else { "program" };
                found.insert(name, (kind.into(), std::fs::read(&path).unwrap()));
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found
}

#[derive(Debug, Clone)]
enum Edit {
    Write(usize, String),
    Delete(usize),
    Chmod(usize),
    Link(usize, String),
    Folder(usize),
    Rename(usize, usize),
    Ignored(String),
}

const PLACES: [&str; 9] = [
    "README.md",
    "src/main.rs",
    "src/deep/er/mod.rs",
    "run.sh",
    "link",
    "new.txt",
    "new/folder/file.txt",
    "src/deep",
    "plain",
];

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let place = 0..PLACES.len();
    prop::collection::vec(
        prop_oneof![
            (place.clone(), "[a-z\n]{0,12}").prop_map(|(at, text)| Edit::Write(at, text)),
            place.clone().prop_map(Edit::Delete),
            place.clone().prop_map(Edit::Chmod),
            (place.clone(), "(src|README\\.md|nowhere)").prop_map(|(at, to)| Edit::Link(at, to)),
            place.clone().prop_map(Edit::Folder),
            (place.clone(), place).prop_map(|(from, to)| Edit::Rename(from, to)),
            "[a-z]{1,6}".prop_map(Edit::Ignored),
        ],
        1..12,
    )
}

fn remove(path: &Path) {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path).unwrap(),
        Ok(_) => std::fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

/// What a command might do, straight to the folder; what cannot be done is left.
fn apply(root: &Path, edit: &Edit) {
    let ready = |path: &Path| {
        // A file where a folder is to be is in the way; so is a link that leads elsewhere.
        let mut at = path.parent().unwrap().to_path_buf();
        let mut chain = Vec::new();
        while at != *root {
            chain.push(at.clone());
            at = at.parent().unwrap().to_path_buf();
        }
        for folder in chain.into_iter().rev() {
            if std::fs::symlink_metadata(&folder).is_ok_and(|meta| !meta.is_dir()) {
                remove(&folder);
            }
            if !folder.exists() {
                std::fs::create_dir(&folder).unwrap();
            }
        }
    };
    match edit {
        Edit::Write(at, text) => {
            let path = root.join(PLACES[*at]);
            ready(&path);
            remove(&path);
            std::fs::write(path, text).unwrap();
        }
        Edit::Delete(at) => {
            let path = root.join(PLACES[*at]);
            if std::fs::symlink_metadata(&path).is_ok() {
                remove(&path);
            }
        }
        Edit::Chmod(at) => {
            let path = root.join(PLACES[*at]);
            if let Ok(meta) = std::fs::symlink_metadata(&path)
                && meta.is_file()
            {
                let mode = meta.permissions().mode() ^ 0o111;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        Edit::Link(at, to) => {
            let path = root.join(PLACES[*at]);
            ready(&path);
            remove(&path);
            symlink(to, path).unwrap();
        }
        Edit::Folder(at) => {
            let path = root.join(PLACES[*at]);
            ready(&path);
            remove(&path);
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("inside"), "in a folder where something else was\n").unwrap();
        }
        Edit::Rename(from, to) => {
            let (from, to) = (root.join(PLACES[*from]), root.join(PLACES[*to]));
            // An overlay does not rename folders of its lower layer; programs copy them then.
            let folder = std::fs::symlink_metadata(&from).is_ok_and(|meta| meta.is_dir());
            if !folder && std::fs::symlink_metadata(&from).is_ok() && !to.starts_with(&from) && !from.starts_with(&to) {
                ready(&to);
                remove(&to);
                if std::fs::symlink_metadata(&from).is_ok() {
                    std::fs::rename(from, to).unwrap();
                }
            }
        }
        Edit::Ignored(name) => {
            std::fs::create_dir_all(root.join("target")).unwrap();
            std::fs::write(root.join("target").join(name), name).unwrap();
            std::fs::write(root.join(format!("{name}.log")), name).unwrap();
        }
    }
}

fn restores_exactly(force: Force, first: &[Edit], second: &[Edit]) {
    let repo = user();
    let at = open(&repo, force);
    let root = &at.workspace.root().to_path_buf();
    let start = listing(root);
    assert_eq!(start, listing(repo.path()), "a new workspace holds what the user's folder holds");
    first.iter().for_each(|edit| apply(root, edit));
    let middle = (at.workspace.snapshot().unwrap(), listing(root));
    second.iter().for_each(|edit| apply(root, edit));
    let end = (at.workspace.snapshot().unwrap(), listing(root));
    at.workspace.restore(&middle.0).unwrap();
    assert_eq!(listing(root), middle.1, "back to the middle");
    assert_eq!(at.workspace.snapshot().unwrap(), middle.0);
    at.workspace.restore(&at.base).unwrap();
    assert_eq!(listing(root), start, "back to the start");
    at.workspace.restore(&end.0).unwrap();
    assert_eq!(listing(root), end.1, "forth to the end");
    assert_eq!(listing(repo.path()), start, "the user's folder was never touched");
    at.repository.clean(&RunId::from("run00001")).unwrap();
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(root.to_str().unwrap()) && !root.exists());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_overlay_restores_exactly(first in edits(), second in edits()) {
        restores_exactly(Force::Overlay, &first, &second);
    }

    #[test]
    fn a_copy_restores_exactly(first in edits(), second in edits()) {
        restores_exactly(Force::Copy, &first, &second);
    }
}

#[test]
fn dirty_and_untracked_files_are_in_the_base_and_ignored_ones_are_not() {
    let repo = user();
    repo.write("README.md", "changed, not committed\n");
    repo.write("untracked.txt", "new\n");
    repo.write("target/out", "built\n");
    std::fs::create_dir_all(repo.path().join(".codeforge/runs/old")).unwrap();
    repo.write(".codeforge/runs/.gitignore", "*\n");
    repo.write(".codeforge/runs/old/change.patch", "a record\n");
    let repository = git::open(repo.path()).unwrap();
    let base = repository.base().unwrap();
    assert_eq!(base.dirty, ["README.md", "untracked.txt"]);
    assert_eq!(base.branch.as_deref(), Some("main"));
    let clean = user();
    let head = git::open(clean.path()).unwrap().base().unwrap();
    let change = repository.diff(&head.tree, &base.tree, 0);
    drop(change);
    assert_ne!(head.tree, base.tree);
}

#[test]
fn the_users_index_stash_branch_and_hooks_stay_as_they_are() {
    for force in [Force::Overlay, Force::Copy] {
        let repo = user();
        repo.write("README.md", "stashed\n");
        repo.git(&["stash"]);
        repo.write("src/main.rs", "// staged\n");
        repo.git(&["add", "src/main.rs"]);
        repo.write(".git/hooks/post-checkout", "#!/bin/sh\ntouch ../hooked\n");
        repo.executable(".git/hooks/post-checkout");
        let all = |repo: &TestRepo| {
            let git = repo.path().join(".git");
            let mut files = BTreeMap::new();
            for name in ["index", "HEAD", "refs/heads/main", "refs/stash", "hooks/post-checkout", "config"] {
                files.insert(name, std::fs::read(git.join(name)).unwrap());
            }
            (files, repo.status(), listing(repo.path()))
        };
        let before = all(&repo);
        let at = open(&repo, force);
        at.workspace.write("src/main.rs", b"// agent\n").unwrap();
        let tree = at.workspace.snapshot().unwrap();
        at.repository.pin(&RunId::from("run00001"), &EffectKey("k1".into()), &tree).unwrap();
        at.workspace.restore(&at.base).unwrap();
        at.repository.clean(&RunId::from("run00001")).unwrap();
        assert_eq!(all(&repo), before, "{force:?}");
    }
}

#[test]
fn a_snapshot_survives_the_users_garbage_collection_and_a_new_process() {
    let repo = user();
    let (run, key) = (RunId::from("run00001"), EffectKey("k1".into()));
    let tree = {
        let at = open(&repo, Force::Best);
        at.workspace.write("src/main.rs", b"// agent\n").unwrap();
        let tree = at.workspace.snapshot().unwrap();
        at.repository.pin(&run, &key, &tree).unwrap();
        tree
    };
    repo.git(&["gc", "--prune=now", "--quiet"]);
    // As after kill -9: nobody cleaned up; the workspace is found as it was left.
    let repository = git::open(repo.path()).unwrap();
    assert_eq!(repository.pinned(&run, &key).unwrap(), Some(tree.clone()));
    assert_eq!(repository.pinned(&run, &EffectKey("k2".into())).unwrap(), None);
    let base = repository.base().unwrap().tree;
    let workspace = repository.workspace(&order("main", &base, &base, ExecMode::Sandbox)).unwrap();
    assert_eq!(workspace.snapshot().unwrap(), tree);
    workspace.restore(&base).unwrap();
    assert_eq!(workspace.read("src/main.rs", 100).unwrap(), b"fn main() {}\n");
    repository.clean(&run).unwrap();
}

#[test]
fn file_tools_stay_beneath_the_root() {
    for force in [Force::Overlay, Force::Copy] {
        let repo = user();
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), "secret\n").unwrap();
        let at = open(&repo, force);
        let (root, workspace) = (at.workspace.root(), &at.workspace);
        symlink(secret.path(), root.join("out")).unwrap();
        symlink(secret.path().parent().unwrap(), root.join("folder")).unwrap();
        let name = secret.path().file_name().unwrap().to_str().unwrap();
        let bad = [
            "out",
            &format!("folder/{name}"),
            "../README.md",
            "/etc/passwd",
            ".git/config",
            ".GIT/config",
            "src/../../x",
            "a\0b",
        ];
        for path in bad {
            assert!(workspace.read(path, 1000).is_err(), "{path}");
        }
        for path in [&format!("folder/{name}"), "../x", "/etc/x", ".git/hooks/x", "folder/new"] {
            assert!(workspace.write(path, b"x").is_err(), "{path}");
        }
        // Writing where a link stands replaces the link; what it led to stays.
        workspace.write("out", b"mine\n").unwrap();
        assert_eq!(std::fs::read_to_string(secret.path()).unwrap(), "secret\n");
        assert!(
            matches!(workspace.read("READNE.md", 10), Err(FileError::NotFound { hint, .. }) if hint.contains("README.md"))
        );
        assert!(matches!(workspace.read("README.md", 2), Err(FileError::TooLarge { .. })));
        assert!(matches!(workspace.read("src", 10), Err(FileError::IsFolder(_))));
        assert_eq!(workspace.list("", Some("*.rs"), 10).unwrap(), ["src/deep/er/mod.rs", "src/main.rs"]);
        let hits = workspace.search("fn \\w+", "", None, 10).unwrap();
        assert_eq!((hits[0].path.as_str(), hits[0].line), ("src/main.rs", 1));
        assert!(matches!(workspace.search("(", "", None, 10), Err(FileError::BadPattern(_))));
        at.repository.clean(&RunId::from("run00001")).unwrap();
    }
}

#[test]
fn a_link_that_is_swapped_in_the_meantime_leads_nowhere() {
    let repo = user();
    let outside = tempfile::tempdir().unwrap();
    let at = open(&repo, Force::Best);
    let root = at.workspace.root().to_path_buf();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let swapper = {
        let (stop, root, outside) = (Arc::clone(&stop), root.clone(), outside.path().to_path_buf());
        std::thread::spawn(move || {
            let (folder, link) = (root.join("swap"), root.join("swap.link"));
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = std::fs::remove_dir_all(&folder);
                let _ = std::fs::create_dir(&folder);
                let _ = symlink(&outside, &link);
                let _ = std::fs::remove_dir_all(&folder);
                let _ = std::fs::rename(&link, &folder);
                let _ = std::fs::remove_file(&folder);
            }
        })
    };
    let mut written = 0;
    for _ in 0..3000 {
        written += usize::from(at.workspace.write("swap/file", b"agent\n").is_ok());
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    swapper.join().unwrap();
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0, "nothing was written outside");
    assert!(written > 0, "the race was never won by the tool, so nothing was tried");
    at.repository.clean(&RunId::from("run00001")).unwrap();
}

#[test]
fn what_set_up_made_is_there_after_a_restore_and_in_other_workspaces() {
    for force in [Force::Overlay, Force::Copy] {
        let repo = user();
        let at = open(&repo, force);
        let root = at.workspace.root();
        std::fs::create_dir_all(root.join("target")).unwrap();
        std::fs::write(root.join("target/cache"), "warm").unwrap();
        at.workspace.seal().unwrap();
        let root = at.workspace.root();
        std::fs::write(root.join("target/cache"), "poisoned").unwrap();
        std::fs::write(root.join("target/planted"), "x").unwrap();
        std::fs::write(root.join("new.txt"), "x").unwrap();
        at.workspace.restore(&at.base).unwrap();
        assert_eq!(std::fs::read_to_string(root.join("target/cache")).unwrap(), "warm", "{force:?}");
        assert!(!root.join("target/planted").exists() && !root.join("new.txt").exists(), "{force:?}");
        std::fs::write(root.join("target/planted"), "a gate must not see this").unwrap();
        let gate = at.repository.workspace(&order("gate-tests", &at.base, &at.base, ExecMode::Sandbox)).unwrap();
        assert!(!gate.root().join("target/planted").exists(), "{force:?}");
        let cache = gate.root().join("target/cache");
        assert_eq!(std::fs::read_to_string(&cache).unwrap(), "warm", "{force:?}");
        std::fs::write(&cache, "changed").unwrap();
        gate.restore(&at.base).unwrap();
        assert_eq!(std::fs::read_to_string(&cache).unwrap(), "warm", "{force:?}");
        at.repository.clean(&RunId::from("run00001")).unwrap();
    }
}

#[test]
fn trees_are_merged_and_grafted() {
    let repo = user();
    let at = open(&repo, Force::Best);
    let change = |path: &str, text: &str| {
        at.workspace.restore(&at.base).unwrap();
        at.workspace.write(path, text.as_bytes()).unwrap();
        at.workspace.snapshot().unwrap()
    };
    let (left, right) = (change("left.txt", "l\n"), change("right.txt", "r\n"));
    let both = at.repository.merge(&at.base, &left, &right).unwrap().unwrap();
    at.workspace.restore(&both).unwrap();
    assert!(at.workspace.read("left.txt", 10).is_ok() && at.workspace.read("right.txt", 10).is_ok());
    let (one, two) = (change("README.md", "one\n"), change("README.md", "two\n"));
    assert_eq!(at.repository.merge(&at.base, &one, &two).unwrap().unwrap_err(), ["README.md"]);
    let weakened = change("src/deep/er/mod.rs", "// weakened\n");
    let mended = at.repository.graft(&weakened, &at.base, &["src/deep/**".into()]).unwrap();
    assert_eq!(mended, at.base);
    let changes = at.repository.diff(&at.base, &one, 0).unwrap();
    assert_eq!((changes.files.len(), changes.added(), changes.removed()), (1, 1, 1));
    assert!(changes.diff.contains("-hello\n+one\n"));
    assert!(at.repository.log(5, Some("README.md")).unwrap().contains("first"));
    at.repository.clean(&RunId::from("run00001")).unwrap();
}

#[test]
fn a_snapshot_store_is_made_whole_or_not_at_all() {
    let repo = TestRepo::with(&[("a", "a\n")]);
    // What a version that was killed while it made the store had left.
    repo.write(".git/codeforge/store.git/config.lock", "");
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| git::open(repo.path()).unwrap().base().unwrap());
        }
    });
    let left: Vec<_> =
        std::fs::read_dir(repo.path().join(".git/codeforge")).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, ["store.git"]);
}
