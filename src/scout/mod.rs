//! What a repository is made of and how it is checked: languages, package managers, test and lint commands, what has to
//! be set up first. Pure: a listing of paths, and the texts of the few files that are asked for.
//!
//! Each command is taken from where the project itself says it, the strongest first: its CI, its package files' scripts
//! and environments, and only then the habit of its language. Nothing is made up where a language has no such habit.

mod classify;
mod go;
mod java;
mod make;
mod node;
mod pipelines;
mod python;
mod rust;
mod shell;

use std::collections::BTreeMap;

/// A language with its tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Language {
    /// Rust.
    Rust,
    /// Python.
    Python,
    /// JavaScript and TypeScript.
    Node,
    /// Go.
    Go,
    /// Java and Kotlin.
    Java,
    /// Whatever `make` builds.
    Make,
}

impl Language {
    /// Its name, in small letters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::Node => "node",
            Self::Go => "go",
            Self::Java => "java",
            Self::Make => "make",
        }
    }

    /// Endings of its files.
    fn endings(self) -> &'static [&'static str] {
        match self {
            Self::Rust => &["rs"],
            Self::Python => &["py", "pyi"],
            Self::Node => &["js", "mjs", "cjs", "ts", "mts", "cts", "tsx", "jsx", "vue", "svelte"],
            Self::Go => &["go"],
            Self::Java => &["java", "kt", "kts"],
            Self::Make => &["c", "h", "cc", "cpp", "hpp", "sh"],
        }
    }
}

/// What a command is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Runs the tests.
    Tests,
    /// Looks at the code without running it.
    Lint,
    /// Fetches what the others need.
    Setup,
}

/// A place in a file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Path from the top.
    pub file: String,
    /// Line, from 1; 0: the file as a whole.
    pub line: usize,
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.line == 0 { f.write_str(&self.file) } else { write!(f, "{}:{}", self.file, self.line) }
    }
}

/// Where a command is from; the strongest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The habit of its language.
    Habit,
    /// A script or an environment of a package file.
    Package,
    /// The project's CI.
    Pipeline,
}

/// A command with where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The command line, run at the repository's top.
    pub command: String,
    /// What says so.
    pub seen: Seen,
    /// How it says so.
    pub source: Source,
}

/// A command that could be the one.
#[derive(Debug, Clone)]
struct Candidate {
    found: Found,
    role: Role,
    language: Option<Language>,
    /// 3: exactly that; 2: about that; 1: a part of it.
    weight: u8,
}

impl Candidate {
    fn new(role: Role, weight: u8, source: Source, command: impl Into<String>, seen: Seen) -> Self {
        Self { found: Found { command: command.into(), seen, source }, role, language: None, weight }
    }
}

/// One language of the repository, with its commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kit {
    /// Which.
    pub language: Language,
    /// The folder of its package file; empty: the top.
    pub folder: String,
    /// The package manager: `cargo`, `uv`, `npm`, …
    pub manager: String,
    /// The package file.
    pub seen: Seen,
    /// How many files of the language there are.
    pub files: usize,
    /// How it is tested.
    pub tests: Option<Found>,
    /// How it is linted.
    pub lint: Option<Found>,
    /// What has to run once before, with a network.
    pub setup: Vec<Found>,
    /// A container image that has its tools.
    pub image: String,
}

/// What a repository is made of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Survey {
    /// Its languages, the main one first.
    pub kits: Vec<Kit>,
    /// Files that are made by programs: lock files, and what `.gitattributes` calls generated.
    pub generated: Vec<String>,
    /// Files of packages below the top, where it is a repository of several packages.
    pub packages: Vec<String>,
    /// CI files that were read.
    pub pipelines: Vec<String>,
}

impl Survey {
    /// One command that runs all languages' tests; `None`: there are none.
    pub fn tests(&self) -> Option<String> {
        joined(self.kits.iter().filter_map(|kit| kit.tests.as_ref()))
    }

    /// One command that runs all linters; `None`: there are none.
    pub fn lint(&self) -> Option<String> {
        joined(self.kits.iter().filter_map(|kit| kit.lint.as_ref()))
    }

    /// All that has to run once before, in order.
    pub fn setup(&self) -> Vec<&Found> {
        self.kits.iter().flat_map(|kit| &kit.setup).collect()
    }
}

fn joined<'a>(commands: impl Iterator<Item = &'a Found>) -> Option<String> {
    let all: Vec<&str> = commands.map(|found| found.command.as_str()).collect();
    if all.is_empty() { None } else { Some(all.join(" && ")) }
}

/// A repository's files.
pub struct Tree<'a> {
    /// All paths from the top, with `/`.
    pub paths: &'a [String],
    /// Reads a file's text; `None`: it cannot be read.
    pub read: &'a dyn Fn(&str) -> Option<String>,
}

/// Folders whose files are not the project's own.
const FOREIGN: [&str; 12] = [
    "node_modules",
    "vendor",
    "third_party",
    "testdata",
    "fixtures",
    "examples",
    "example",
    "docs",
    "target",
    "dist",
    ".git",
    ".venv",
];

impl Tree<'_> {
    fn has(&self, path: &str) -> bool {
        self.paths.iter().any(|known| known == path)
    }

    fn text(&self, path: &str) -> Option<String> {
        if self.has(path) { (self.read)(path) } else { None }
    }

    /// The project's own files of a name, the shallowest first.
    fn named(&self, name: &str) -> Vec<&str> {
        let mut found: Vec<&str> = self
            .paths
            .iter()
            .map(String::as_str)
            .filter(|path| path.rsplit('/').next() == Some(name))
            .filter(|path| !path.split('/').rev().skip(1).any(|folder| FOREIGN.contains(&folder)))
            .collect();
        found.sort_by_key(|path| (path.matches('/').count(), path.len(), *path));
        found
    }

    fn count(&self, language: Language) -> usize {
        let ours = |path: &&String| !path.split('/').any(|part| part == "node_modules" || part == "vendor");
        let of = |path: &&String| path.rsplit_once('.').is_some_and(|(_, ending)| language.endings().contains(&ending));
        self.paths.iter().filter(ours).filter(of).count()
    }
}

/// What a language's reader found: its package file and what the package files say.
struct Draft {
    language: Language,
    manifest: String,
    manager: String,
    image: String,
    candidates: Vec<Candidate>,
}

/// Finds out what a repository is made of.
pub fn survey(tree: &Tree<'_>) -> Survey {
    let (pipelines, commands) = pipelines::read(tree);
    let mut drafts: Vec<Draft> =
        [rust::read(tree), python::read(tree), node::read(tree), go::read(tree), java::read(tree)]
            .into_iter()
            .flatten()
            .collect();
    let total: usize = drafts.iter().map(|draft| tree.count(draft.language)).sum();
    // A language below the top counts where it is a part worth its own commands, not one helper script.
    drafts.retain(|draft| {
        let known = commands.iter().any(|it| it.language == Some(draft.language));
        known || !draft.manifest.contains('/') || tree.count(draft.language) * 10 >= total
    });
    let targets = make::read(tree);
    if drafts.is_empty() && !targets.is_empty() {
        let manifest = targets.first().map_or_else(String::new, |target| target.found.seen.file.clone());
        drafts.push(Draft {
            language: Language::Make,
            manifest,
            manager: "make".to_owned(),
            image: "debian:stable".to_owned(),
            candidates: Vec::new(),
        });
    }
    drafts.sort_by_key(|draft| (draft.manifest.contains('/'), std::cmp::Reverse(tree.count(draft.language))));
    let kits = drafts.into_iter().enumerate().map(|(place, draft)| {
        let own = |candidate: &&Candidate| match candidate.language {
            Some(language) => language == draft.language,
            None => place == 0,
        };
        let all: Vec<&Candidate> = commands.iter().chain(&draft.candidates).chain(&targets).filter(own).collect();
        let files = tree.count(draft.language);
        kit(&draft, files, &all)
    });
    Survey { kits: kits.collect(), generated: generated(tree), packages: packages(tree), pipelines }
}

fn kit(draft: &Draft, files: usize, candidates: &[&Candidate]) -> Kit {
    let best = |role: Role| {
        let of = candidates.iter().filter(|candidate| candidate.role == role);
        // The first of the best: files are read in the order in which people read them.
        let mut best: Option<&Candidate> = None;
        for candidate in of {
            let rank = |it: &Candidate| (it.weight, it.found.source);
            if best.is_none_or(|best| rank(candidate) > rank(best)) {
                best = Some(candidate);
            }
        }
        best.map(|candidate| candidate.found.clone())
    };
    let (tests, lint) = (best(Role::Tests), best(Role::Lint));
    let mut setup: Vec<Found> = best(Role::Setup).into_iter().collect();
    // These make an environment of their own, and look at no other.
    let isolated = |found: &Found| found.command.starts_with("tox ") || found.command.starts_with("nox ");
    if draft.language == Language::Python && tests.as_ref().is_some_and(isolated) {
        setup.clear();
    }
    setup.extend(python::more_setup(draft, tests.as_ref(), lint.as_ref(), setup.is_empty()));
    let folder = draft.manifest.rsplit_once('/').map_or("", |(folder, _)| folder);
    Kit {
        language: draft.language,
        folder: folder.to_owned(),
        manager: draft.manager.clone(),
        seen: Seen { file: draft.manifest.clone(), line: 0 },
        files,
        tests,
        lint,
        setup,
        image: draft.image.clone(),
    }
}

/// Lock files, and what `.gitattributes` says is generated.
fn generated(tree: &Tree<'_>) -> Vec<String> {
    const LOCKS: [&str; 12] = [
        "Cargo.lock",
        "package-lock.json",
        "pnpm-lock.yaml",
        "yarn.lock",
        "bun.lock",
        "bun.lockb",
        "uv.lock",
        "poetry.lock",
        "pdm.lock",
        "Pipfile.lock",
        "go.sum",
        "gradle.lockfile",
    ];
    let mut found: Vec<String> = LOCKS.iter().flat_map(|name| tree.named(name)).map(str::to_owned).collect();
    for line in tree.text(".gitattributes").unwrap_or_default().lines() {
        let mut words = line.split_whitespace();
        if let Some(pattern) = words.next().filter(|pattern| !pattern.starts_with('#'))
            && words.any(|word| word == "linguist-generated" || word == "linguist-generated=true")
        {
            found.push(pattern.to_owned());
        }
    }
    found
}

/// Package files below the top.
fn packages(tree: &Tree<'_>) -> Vec<String> {
    let names =
        ["Cargo.toml", "package.json", "pyproject.toml", "go.mod", "pom.xml", "build.gradle", "build.gradle.kts"];
    let mut found: BTreeMap<&str, ()> = BTreeMap::new();
    for name in names {
        found.extend(tree.named(name).into_iter().filter(|path| path.contains('/')).map(|path| (path, ())));
    }
    found.into_keys().map(str::to_owned).collect()
}

/// The line of the first line that holds `what`, from 1; 0 where there is none.
fn line_of(text: &str, what: &str) -> usize {
    text.lines().position(|line| line.contains(what)).map_or(0, |place| place + 1)
}

/// A table's header in a TOML or INI text: whether the text has it, and its line.
fn section(text: &str, header: &str) -> Option<usize> {
    text.lines().position(|line| line.trim_start().starts_with(header)).map(|place| place + 1)
}

#[cfg(test)]
mod tests;
