//! One workspace: made, opened again, sealed, snapshot and restored.

use super::beneath;
use super::scan::{self, Facts, Found, Memory, Scanner};
use super::seal::Seal;
use super::store::broken;
use super::upper::{Cache, Walk};
use super::{Force, Inner, Taken, copy, files, overlay, plain_name, restore, stray, trees};
use crate::model::exec::ExecMode;
use crate::model::id::TreeId;
use crate::port::repository::{FileError, Hit, OpenWorkspace, RepositoryError, Workspace};
use git2::Oid;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a workspace is, on disk: written once it is whole, and when it is sealed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Meta {
    /// `overlay`, `reflink`, `copy` or `mount`.
    pub made_by: String,
    /// The user's folder when it was made.
    pub lower: String,
    /// The tree under the upper layer (an overlay's), or what was copied.
    under: String,
    /// Layers under the upper one, topmost first.
    layers: Vec<PathBuf>,
    /// Number of the upper layer.
    upper: u32,
    owner: (u32, u32),
    /// Whether the user's folder is shown as the sandbox user's.
    mapped: bool,
}

struct State {
    meta: Meta,
    scanner: Scanner,
    cache: Cache,
    seal: Seal,
    /// Folders that were empty from the start.
    empty: HashSet<Vec<u8>>,
}

pub(super) struct Tree {
    inner: Arc<Inner>,
    place: PathBuf,
    root: PathBuf,
    made_by: &'static str,
    owner: (u32, u32),
    git_dir: Option<PathBuf>,
    facts: Arc<Facts>,
    /// The user's folder as it was when an overlay was put on it.
    lower: Memory,
    state: Mutex<State>,
}

/// Makes the workspace, or opens it again.
pub(super) fn open(inner: &Arc<Inner>, order: &OpenWorkspace) -> Result<Arc<dyn Workspace>, RepositoryError> {
    let place = inner.workspaces_dir(&order.run)?.join(plain_name("workspace", &order.name)?);
    let doing = format!("making the workspace {}", place.display());
    let failed = |error: io::Error| broken(doing.clone(), error);
    let taken = inner.take_stock()?;
    let wanted = inner.oid(&order.tree)?;
    let kept = std::fs::read(place.join("meta.json")).ok().and_then(|text| serde_json::from_slice::<Meta>(&text).ok());
    if let Some(meta) = kept {
        return reopen(inner, place, meta, taken);
    }
    discard(&place)?;
    std::fs::create_dir_all(&place).map_err(failed)?;
    close_to_others(inner, &place).map_err(failed)?;
    let tree = make(inner, order, &place, taken)?;
    if order.mode != ExecMode::Mount {
        tree.restore_to(wanted)?;
    }
    let meta = tree.state().meta.clone();
    tree.write_meta(&meta)?;
    Ok(tree)
}

/// A workspace beside the repository is as private as the repository: only we, and the group that commands run as,
/// get through the folder above it.
fn close_to_others(inner: &Inner, place: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if place.starts_with(&inner.state) {
        return Ok(());
    }
    let Some(folder) = place.parent().and_then(Path::parent) else { return Ok(()) };
    if let Some(scratch) = folder.parent() {
        stray::sweep(scratch);
    }
    stray::keep(folder, &inner.state)?;
    let stat = std::fs::metadata(&inner.root)?;
    let group = if stat.uid() == 0 { overlay::SANDBOX_ID } else { stat.gid() };
    std::os::unix::fs::chown(folder, None, Some(group))?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o710))
}

fn make(inner: &Arc<Inner>, order: &OpenWorkspace, place: &Path, taken: Taken) -> Result<Arc<Tree>, RepositoryError> {
    let failed = |error: io::Error| broken(format!("making the workspace {}", place.display()), error);
    let stat = std::fs::metadata(&inner.root).map_err(failed)?;
    let we = rustix::process::geteuid().as_raw();
    let (mapped, owner) = match (we, stat.uid()) {
        (0, 0) => (true, (overlay::SANDBOX_ID, overlay::SANDBOX_ID)),
        (0, user) => (false, (user, stat.gid())),
        _ => (false, (we, rustix::process::getegid().as_raw())),
    };
    let mut meta = Meta {
        made_by: String::new(),
        lower: taken.tree.to_string(),
        under: taken.tree.to_string(),
        layers: Vec::new(),
        upper: 0,
        owner,
        mapped,
    };
    if order.mode == ExecMode::Mount {
        meta.made_by = "mount".into();
        meta.owner = (stat.uid(), stat.gid());
        return finish(inner, place.to_path_buf(), meta, taken, None, Seal::default());
    }
    let mut refused = None;
    // What the set-up made in the main workspace is in the others too.
    let sealed = place.parent().map(|folder| folder.join("main")).filter(|main| main != place);
    if we == 0 && inner.force != Force::Copy {
        match lay(inner, place, &mut meta, sealed.as_deref()) {
            Ok(()) => {
                meta.made_by = "overlay".into();
                return finish(inner, place.to_path_buf(), meta, taken, None, Seal::default());
            }
            Err(error) => refused = Some(error),
        }
        discard(place)?;
        std::fs::create_dir_all(place).map_err(failed)?;
    }
    if inner.force == Force::Overlay {
        let why = refused.unwrap_or_else(|| io::Error::other("only root can mount one"));
        return Err(broken("mounting an overlay", why));
    }
    meta.layers.clear();
    meta.upper = 0;
    let root = place.join("merged");
    let owner = (we == 0).then_some(owner);
    let mut copied = copy::make(inner, &taken, &root, owner)?;
    if let Some(main) = sealed {
        let inherited = beneath::open_root(&root).and_then(|to| copied.seal.inherit(&main, place, to.as_fd(), owner));
        inherited.map_err(failed)?;
    }
    meta.made_by = if copied.shared { "reflink" } else { "copy" }.into();
    finish(inner, place.to_path_buf(), meta, taken, Some(copied.memory), copied.seal)
}

/// Makes the folders of an overlay and mounts it. What `sealed` (the main workspace) holds since its set-up is under it.
fn lay(inner: &Inner, place: &Path, meta: &mut Meta, sealed: Option<&Path>) -> io::Result<()> {
    let user = if meta.mapped {
        let lower = place.join("lower");
        std::fs::create_dir_all(&lower)?;
        overlay::mount_lower(&inner.root, &lower)?;
        lower
    } else {
        inner.root.clone()
    };
    meta.layers = vec![user];
    if let Some(main) = sealed.and_then(|main| std::fs::read(main.join("meta.json")).ok()) {
        let main: Meta = serde_json::from_slice(&main).map_err(io::Error::other)?;
        if main.made_by == "overlay" && main.layers.len() > 1 && main.lower == meta.lower {
            let above = main.layers.len() - 1;
            let mut layers: Vec<PathBuf> = main.layers.into_iter().take(above).collect();
            layers.append(&mut meta.layers);
            meta.layers = layers;
            meta.under = main.under;
        }
    }
    new_upper(place, meta)?;
    std::fs::create_dir_all(place.join("merged"))?;
    mount(place, meta)
}

/// Makes an empty upper layer in which `.git` is an empty folder, whatever is under it.
fn new_upper(place: &Path, meta: &Meta) -> io::Result<()> {
    let upper = place.join(format!("upper{}", meta.upper));
    let git = upper.join(".git");
    std::fs::create_dir_all(&git)?;
    std::fs::create_dir_all(place.join(format!("work{}", meta.upper)))?;
    rustix::fs::setxattr(&git, "trusted.overlay.opaque", b"y", rustix::fs::XattrFlags::empty())?;
    for folder in [&upper, &git] {
        std::os::unix::fs::chown(folder, Some(meta.owner.0), Some(meta.owner.1))?;
    }
    Ok(())
}

fn mount(place: &Path, meta: &Meta) -> io::Result<()> {
    let upper = place.join(format!("upper{}", meta.upper));
    let work = place.join(format!("work{}", meta.upper));
    overlay::mount(&meta.layers, Some((&upper, &work)), &place.join("merged"))?;
    if meta.layers.len() > 1 {
        let pristine = place.join("pristine");
        std::fs::create_dir_all(&pristine)?;
        overlay::mount(&meta.layers, None, &pristine)?;
    }
    Ok(())
}

/// Opens a workspace that an earlier engine left, as it left it.
fn reopen(inner: &Arc<Inner>, place: PathBuf, meta: Meta, taken: Taken) -> Result<Arc<dyn Workspace>, RepositoryError> {
    let failed = |error: io::Error| broken(format!("opening the workspace {}", place.display()), error);
    if meta.made_by == "overlay" {
        let lower = Oid::from_str(&meta.lower).map_err(|error| failed(io::Error::other(error)))?;
        if lower != taken.tree {
            let moved = trees::diff(&inner.store, lower, taken.tree)?;
            let moved: Vec<Vec<u8>> = moved.into_iter().map(|delta| delta.path).collect();
            return Err(inner.changed_underneath(&moved));
        }
        let mounted = overlay::mounts_under(&place).map_err(failed)?;
        if !mounted.contains(&place.join("merged")) {
            overlay::unmount_under(&place).map_err(failed)?;
            if meta.mapped {
                overlay::mount_lower(&inner.root, &place.join("lower")).map_err(failed)?;
            }
            mount(&place, &meta).map_err(failed)?;
        }
    }
    let seal = Seal::load(&place);
    Ok(finish(inner, place, meta, taken, None, seal)?)
}

fn finish(
    inner: &Arc<Inner>,
    place: PathBuf,
    meta: Meta,
    taken: Taken,
    copied: Option<Memory>,
    seal: Seal,
) -> Result<Arc<Tree>, RepositoryError> {
    let Taken { tree, facts, memory, found } = taken;
    let (root, made_by) = match meta.made_by.as_str() {
        "mount" => (inner.root.clone(), "mount"),
        "overlay" => (place.join("merged"), "overlay"),
        "reflink" => (place.join("merged"), "reflink"),
        _ => (place.join("merged"), "copy"),
    };
    // The index's times belong to the user's own files; a copy's are known by what was copied.
    let own_facts = facts.clone();
    let mut scanner = Scanner::new(own_facts, Some(tree));
    scanner.memory = match made_by {
        "mount" => memory.clone(),
        _ => copied.unwrap_or_default(),
    };
    if made_by != "mount" {
        scanner.hidden = found.ignored.iter().cloned().collect();
    }
    let owner = meta.owner;
    let git_dir = make_git_dir(inner, &place, owner)?;
    let state = State { meta, scanner, cache: Cache::new(), seal, empty: found.empty.into_iter().collect() };
    let tree = Tree {
        inner: inner.clone(),
        place,
        root,
        made_by,
        owner,
        git_dir,
        facts,
        lower: memory,
        state: Mutex::new(state),
    };
    Ok(Arc::new(tree))
}

/// A git directory to throw away: the base commit on its branch, the user's objects where the sandbox shows them, no
/// configuration of the user's.
fn make_git_dir(inner: &Inner, place: &Path, owner: (u32, u32)) -> Result<Option<PathBuf>, RepositoryError> {
    let failed = |error: io::Error| broken(format!("making the git directory of {}", place.display()), error);
    let git = place.join("git");
    if git.join("HEAD").exists() {
        return Ok(Some(git));
    }
    let user = inner.user()?;
    let branch = super::head_branch(&user).filter(|name| git2::Reference::is_valid_name(&format!("refs/heads/{name}")));
    let branch = branch.unwrap_or_else(|| "main".into());
    let reference = git.join("refs/heads").join(&branch);
    let mut made = vec![git.clone(), git.join("refs"), git.join("refs/heads"), git.join("objects")];
    made.extend([git.join("objects/info"), git.join("info")]);
    for folder in reference.ancestors().skip(1).take_while(|folder| **folder != git.join("refs/heads")) {
        made.insert(3, folder.to_path_buf());
    }
    for folder in &made {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut write = |path: PathBuf, text: &[u8]| {
        std::fs::write(&path, text).map_err(failed)?;
        made.push(path);
        Ok::<(), RepositoryError>(())
    };
    let config = "[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tcheckStat = minimal\n\ttrustctime = false\n";
    write(git.join("config"), config.as_bytes())?;
    write(git.join("objects/info/alternates"), b"/run/codeforge/objects\n")?;
    let commit = match inner.head {
        Some(head) => Some(head),
        None => super::head_commit(&user)?,
    };
    if let Some(commit) = commit {
        write(reference, format!("{commit}\n").as_bytes())?;
    }
    if let Some(head) = inner.head {
        write(git.join("index"), &super::recorded::index(&user, head, &place.join("index"))?)?;
    } else if let Ok(index) = std::fs::read(inner.git_dir.join("index")) {
        write(git.join("index"), &index)?;
    }
    if let Ok(shallow) = std::fs::read(user.commondir().join("shallow")) {
        write(git.join("shallow"), &shallow)?;
    }
    // Last: it says that all is there.
    write(git.join("HEAD"), format!("ref: refs/heads/{branch}\n").as_bytes())?;
    if rustix::process::geteuid().is_root() {
        for path in &made {
            std::os::unix::fs::chown(path, Some(owner.0), Some(owner.1)).map_err(failed)?;
        }
    }
    Ok(Some(git))
}

/// Unmounts and removes what is under `folder`.
pub(super) fn discard(folder: &Path) -> Result<(), RepositoryError> {
    let failed = |error: io::Error| broken(format!("removing {}", folder.display()), error);
    overlay::unmount_under(folder).map_err(failed)?;
    let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else { return Ok(()) };
    match beneath::open_root(parent) {
        Ok(parent) => beneath::remove(parent.as_fd(), std::os::unix::ffi::OsStrExt::as_bytes(name)).map_err(failed),
        Err(error) if beneath::is_absent(&error) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

impl Tree {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_meta(&self, meta: &Meta) -> Result<(), RepositoryError> {
        let failed = |error: io::Error| broken(format!("writing {}", self.place.display()), error);
        let text = serde_json::to_vec(meta).map_err(io::Error::other).map_err(failed)?;
        beneath::write_state(&self.place.join("meta.json"), &text).map_err(failed)
    }

    fn open_dir(&self, path: &Path) -> Result<OwnedFd, RepositoryError> {
        beneath::open_root(path).map_err(|error| broken(format!("opening {}", path.display()), error))
    }

    /// The folder that holds what is under the upper layer.
    fn pristine(&self, meta: &Meta) -> PathBuf {
        match meta.layers.as_slice() {
            [only] => only.clone(),
            _ => self.place.join("pristine"),
        }
    }

    fn take(&self, state: &mut State) -> Result<(Oid, Found), RepositoryError> {
        let store = &self.inner.store;
        let root = self.open_dir(&self.root)?;
        if self.made_by != "overlay" {
            let mut found = state.scanner.scan(store, root.as_fd())?;
            let tree = found.tree.take().unwrap_or_else(|| store.empty_tree());
            found.empty.retain(|path| !state.empty.contains(path));
            return Ok((tree, found));
        }
        let upper = self.open_dir(&self.place.join(format!("upper{}", state.meta.upper)))?;
        let pristine = self.open_dir(&self.pristine(&state.meta))?;
        let user = self.open_dir(&self.inner.root)?;
        let under = Oid::from_str(&state.meta.under).map_err(|error| store.broken("reading the base", error))?;
        let mut walk = Walk {
            store,
            facts: &self.facts,
            merged: root.as_fd(),
            user: user.as_fd(),
            memory: &self.lower,
            pristine: pristine.as_fd(),
            old: &state.cache,
            new: Cache::new(),
            found: Found::default(),
            moved: Vec::new(),
            now: scan::now(),
        };
        let tree = walk.run(upper.as_fd(), under)?;
        let Walk { new, found, moved, .. } = walk;
        state.cache = new;
        if !moved.is_empty() {
            return Err(self.inner.changed_underneath(&moved));
        }
        Ok((tree, found))
    }

    fn restore_to(&self, wanted: Oid) -> Result<(), RepositoryError> {
        let store = &self.inner.store;
        let mut state = self.state();
        let root = self.open_dir(&self.root)?;
        let user = self.open_dir(&self.inner.root)?;
        let owner = rustix::process::geteuid().is_root().then_some(self.owner);
        let back = restore::Back {
            store,
            facts: &self.facts,
            root: root.as_fd(),
            user: (self.made_by != "mount").then(|| user.as_fd()),
            memory: &self.lower,
            owner,
        };
        // Ignore files that come back may bring more to light: the second look finds it.
        for _ in 0..4 {
            let (now, found) = self.take(&mut state)?;
            let deltas = trees::diff(store, now, wanted)?;
            let failed = |error: io::Error| broken(format!("restoring {}", self.root.display()), error);
            back.apply(&deltas, &found, &state.empty)?;
            if self.made_by == "overlay" {
                let pristine = self.open_dir(&self.pristine(&state.meta))?;
                let under =
                    Oid::from_str(&state.meta.under).map_err(|error| store.broken("reading the base", error))?;
                let mut ignored = found.ignored.clone();
                for path in &found.hidden {
                    restore::untracked_below(store, pristine.as_fd(), path, under, &mut ignored)?;
                }
                for path in &ignored {
                    restore::from_below(pristine.as_fd(), root.as_fd(), path, owner).map_err(failed)?;
                }
            } else if self.made_by != "mount" {
                state.seal.put_back(&self.place, user.as_fd(), root.as_fd(), &found.ignored, owner).map_err(failed)?;
            }
            let rules_changed = deltas.iter().any(|delta| beneath::split(&delta.path).1 == b".gitignore");
            if deltas.is_empty() || !(rules_changed || self.made_by == "overlay") {
                return Ok(());
            }
        }
        let (now, _) = self.take(&mut state)?;
        if now == wanted {
            return Ok(());
        }
        let left = trees::diff(store, now, wanted)?;
        let left: Vec<String> = left.iter().take(5).map(|delta| super::shown(&delta.path)).collect();
        let why = format!("it does not hold the tree {wanted} afterwards; still different: {}", left.join(", "));
        Err(broken(format!("restoring {}", self.root.display()), why))
    }
}

impl Workspace for Tree {
    fn root(&self) -> &Path {
        &self.root
    }

    fn made_by(&self) -> &'static str {
        self.made_by
    }

    fn git_dir(&self) -> Option<PathBuf> {
        self.git_dir.clone()
    }

    fn git_objects(&self) -> Option<PathBuf> {
        Some(self.inner.objects.clone())
    }

    fn owner(&self) -> (u32, u32) {
        self.owner
    }

    fn snapshot(&self) -> Result<TreeId, RepositoryError> {
        let mut state = self.state();
        self.take(&mut state).map(|(tree, _)| TreeId(tree.to_string()))
    }

    fn restore(&self, tree: &TreeId) -> Result<(), RepositoryError> {
        self.restore_to(self.inner.oid(tree)?)
    }

    fn seal(&self) -> Result<(), RepositoryError> {
        let mut state = self.state();
        let failed = |error: io::Error| broken(format!("sealing {}", self.place.display()), error);
        let (tree, found) = self.take(&mut state)?;
        match self.made_by {
            "mount" => Ok(()),
            "overlay" => {
                let mut meta = state.meta.clone();
                meta.layers.insert(0, self.place.join(format!("upper{}", meta.upper)));
                meta.upper += 1;
                meta.under = tree.to_string();
                new_upper(&self.place, &meta).map_err(failed)?;
                for mounted in ["merged", "pristine"] {
                    overlay::unmount_under(&self.place.join(mounted)).map_err(failed)?;
                }
                // From here on a crash finds either description whole, and mounts what it says.
                self.write_meta(&meta)?;
                mount(&self.place, &meta).map_err(failed)?;
                state.meta = meta;
                state.cache = Cache::new();
                Ok(())
            }
            _ => {
                let root = self.open_dir(&self.root)?;
                let user = self.open_dir(&self.inner.root)?;
                state.seal =
                    Seal::take(&self.place, user.as_fd(), root.as_fd(), &found.ignored, &state.seal).map_err(failed)?;
                Ok(())
            }
        }
    }

    fn read(&self, path: &str, cap: usize) -> Result<Vec<u8>, FileError> {
        files::read(&self.root, path, cap)
    }

    fn write(&self, path: &str, content: &[u8]) -> Result<(), FileError> {
        let owner = rustix::process::geteuid().is_root().then_some(self.owner);
        files::write(&self.root, path, content, owner)
    }

    fn remove(&self, path: &str) -> Result<(), FileError> {
        files::remove(&self.root, path)
    }

    fn list(&self, path: &str, glob: Option<&str>, limit: usize) -> Result<Vec<String>, FileError> {
        files::list(&self.root, path, glob, limit)
    }

    fn search(&self, pattern: &str, path: &str, glob: Option<&str>, limit: usize) -> Result<Vec<Hit>, FileError> {
        files::search(&self.root, pattern, path, glob, limit)
    }
}
