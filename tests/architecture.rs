//! Holds the import table of `docs/architecture.md`: which room may name which, and what a pure room must not touch.
//!
//! Read from the syntax tree, so that comments and strings do not count, and `use crate::{a, b::c}` does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use syn::visit::Visit;

/// Room → the rooms it may name. `workflow::schema` is named where a stage may read the document.
fn table() -> BTreeMap<&'static str, Vec<&'static str>> {
    let stage = vec!["model", "workflow::schema", "template", "text"];
    let mut table: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    table.insert("model", vec![]);
    for room in ["workflow", "trigger", "plan", "run", "agent", "policy", "gate", "deliver", "scout"] {
        table.insert(room, stage.clone());
    }
    table.insert("template", vec!["model", "text"]);
    table.insert("text", vec!["model"]);
    table.insert("port", vec!["model", "policy::Approved"]);
    table.insert("cassette", vec!["model", "text"]);
    table.insert("adapter", vec!["port", "model", "text", "cassette", "policy::Approved"]);
    table.insert(
        "engine",
        vec![
            "workflow", "plan", "run", "agent", "policy", "gate", "deliver", "port", "model", "template", "text",
            "cassette",
        ],
    );
    table.insert("report", vec!["model", "text", "template"]);
    let server = vec![
        "engine", "report", "port", "model", "template", "text", "workflow", "trigger", "plan", "run", "agent",
        "policy", "gate", "deliver", "scout", "cassette",
    ];
    table.insert("cli", server.iter().copied().chain(["server"]).collect());
    table.insert("server", server);
    table
}

/// Rooms without effects: neither tokio nor the parts of `std` that reach the world.
const PURE: [&str; 14] = [
    "model", "workflow", "trigger", "plan", "run", "agent", "policy", "gate", "deliver", "template", "text", "report",
    "cassette", "scout",
];
const WORLD: [&str; 9] = [
    "tokio",
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::thread",
    "std::time::SystemTime",
    "std::time::Instant",
    "reqwest",
];
/// Vendor crates that only adapters (and the composition root) may name.
const VENDOR: [&str; 9] = ["sqlx", "git2", "bollard", "reqwest", "landlock", "seccompiler", "nix", "cap_std", "rustix"];

struct Paths {
    found: BTreeSet<String>,
}

impl Paths {
    fn tree(&mut self, prefix: &str, tree: &syn::UseTree) {
        let join = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}::{name}") };
        match tree {
            syn::UseTree::Path(path) => self.tree(&join(&path.ident.to_string()), &path.tree),
            syn::UseTree::Name(name) => {
                self.found.insert(join(&name.ident.to_string()));
            }
            syn::UseTree::Rename(rename) => {
                self.found.insert(join(&rename.ident.to_string()));
            }
            syn::UseTree::Glob(_) => {
                self.found.insert(prefix.to_owned());
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(prefix, item)),
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree("", &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.found.insert(names.join("::"));
        syn::visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        // Tests may reach further than the room they test.
        let test = item.attrs.iter().any(|attr| {
            attr.path().is_ident("cfg") && attr.meta.require_list().is_ok_and(|list| list.tokens.to_string() == "test")
        });
        if !test {
            syn::visit::visit_item_mod(self, item);
        }
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

fn room_of(file: &Path) -> String {
    let first = file.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// All files of the library with the paths they name.
fn library() -> Vec<(PathBuf, String, BTreeSet<String>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    files
        .into_iter()
        .map(|file| {
            let text = std::fs::read_to_string(&file).unwrap();
            let parsed = syn::parse_file(&text).unwrap();
            let mut paths = Paths { found: BTreeSet::new() };
            paths.visit_file(&parsed);
            let short = file.strip_prefix(&root).unwrap().to_path_buf();
            let room = room_of(&short);
            (short, room, paths.found)
        })
        .collect()
}

#[test]
fn rooms_import_only_what_the_table_allows() {
    let table = table();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for (file, room, paths) in library() {
        seen.insert(room.clone());
        if ["main", "lib", "app"].contains(&room.as_str()) {
            continue;
        }
        let allowed = table.get(room.as_str()).unwrap_or_else(|| panic!("room `{room}` is not in the table"));
        for path in paths.iter().filter_map(|path| path.strip_prefix("crate::")) {
            let other = path.split("::").next().unwrap();
            let fits = |allowed: &&str| path == *allowed || path.starts_with(&format!("{allowed}::"));
            if other != room && !allowed.iter().any(fits) {
                wrong.push(format!("src/{}: names crate::{path}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "the import table does not allow:\n{}", wrong.join("\n"));
    for room in table.keys() {
        assert!(seen.contains(*room), "the table names room `{room}`, which does not exist");
    }
}

#[test]
fn pure_rooms_do_not_touch_the_world() {
    let mut wrong = Vec::new();
    for (file, room, paths) in library() {
        if !PURE.contains(&room.as_str()) {
            continue;
        }
        for path in &paths {
            if WORLD.iter().any(|banned| path == banned || path.starts_with(&format!("{banned}::"))) {
                wrong.push(format!("src/{}: names {path}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "pure rooms must not:\n{}", wrong.join("\n"));
}

#[test]
fn vendors_stay_in_adapters() {
    let mut wrong = Vec::new();
    for (file, room, paths) in library() {
        if ["adapter", "app", "main"].contains(&room.as_str()) {
            continue;
        }
        for path in &paths {
            let first = path.split("::").next().unwrap();
            if VENDOR.contains(&first) {
                wrong.push(format!("src/{}: names {path}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "only adapters may:\n{}", wrong.join("\n"));
}

#[test]
fn only_the_composition_root_names_adapters() {
    for (file, room, paths) in library() {
        if ["adapter", "app", "main"].contains(&room.as_str()) {
            continue;
        }
        let named: Vec<&String> = paths.iter().filter(|path| path.starts_with("crate::adapter")).collect();
        assert!(named.is_empty(), "src/{} names {named:?}", file.display());
    }
}

#[test]
fn the_documented_rooms_are_the_rooms_there_are() {
    let docs = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md")).unwrap();
    let rooms: BTreeSet<String> = library().into_iter().map(|(_, room, _)| room).collect();
    for room in rooms {
        assert!(
            docs.contains(&format!("`{room}`")) || docs.contains(&format!("{room}.rs")),
            "docs/architecture.md does not say what `{room}` is"
        );
    }
}
