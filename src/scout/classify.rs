//! Which command tests, which one lints, which one fetches.

use super::{Language, Role};

/// What a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Class {
    pub(super) role: Role,
    /// `None`: it does not say (`make test`).
    pub(super) language: Option<Language>,
    pub(super) weight: u8,
}

/// What the words of a command are for; `None`: neither tests nor lint nor set-up, or nobody can say.
pub(super) fn classify(words: &[String]) -> Option<Class> {
    let words: Vec<&str> = words.iter().map(String::as_str).skip_while(|word| is_assignment(word)).collect();
    let (words, hint) = unwrapped(&words);
    let (first, rest) = words.split_first()?;
    let class = |role, language, weight| Some(Class { role, language: Some(language).or(hint), weight });
    let python = |role, weight| class(role, Language::Python, weight);
    let node = |role, weight| class(role, Language::Node, weight);
    let has = |word: &str| rest.contains(&word);
    let bare: Vec<&str> = rest.iter().copied().filter(|word| !word.starts_with('-')).collect();
    match *first {
        "cargo" => cargo(rest).and_then(|(role, weight)| class(role, Language::Rust, weight)),
        "npm" | "pnpm" | "yarn" | "bun" => {
            package_manager(first, &bare, rest).and_then(|(role, weight)| node(role, weight))
        }
        "pytest" | "py.test" | "unittest" => python(Role::Tests, 3),
        "tox" | "nox" => environments(rest).and_then(|(role, weight)| python(role, weight)),
        "hatch" if bare.first() == Some(&"test") => python(Role::Tests, 3),
        "hatch" if bare.first() == Some(&"fmt") && has("--check") => python(Role::Lint, 3),
        "poe" | "task" | "invoke" | "inv" => {
            bare.first().and_then(|name| script(name)).and_then(|(role, weight)| python(role, weight))
        }
        "make" | "just" => {
            let (role, weight) = bare.first().and_then(|name| script(name))?;
            Some(Class { role, language: hint, weight })
        }
        "ruff" if has("check") => python(Role::Lint, 3),
        "ruff" if has("format") && (has("--check") || has("--diff")) => python(Role::Lint, 1),
        "flake8" | "pylint" => python(Role::Lint, 3),
        "black" | "isort" if has("--check") || has("--check-only") => python(Role::Lint, 1),
        "mypy" | "pyright" | "basedpyright" | "pyre" => python(Role::Lint, 1),
        "pre-commit" | "prek" if has("run") => Some(Class { role: Role::Lint, language: hint, weight: 3 }),
        "pip" | "pip3"
            if has("install") && (has("-r") || has("-e") || bare.iter().any(|word| word.starts_with('.'))) =>
        {
            python(Role::Setup, 2)
        }
        "uv" if bare.first() == Some(&"sync") => python(Role::Setup, 3),
        "poetry" | "pdm" if bare.first() == Some(&"install") => python(Role::Setup, 3),
        "eslint" | "biome" | "standard" | "xo" | "oxlint" => node(Role::Lint, 3),
        "prettier" if has("--check") || has("-c") => node(Role::Lint, 1),
        "tsc" => node(Role::Lint, 1),
        "jest" | "vitest" | "mocha" | "ava" | "tape" | "c8" | "nyc" => node(Role::Tests, 2),
        "node" if has("--test") => node(Role::Tests, 3),
        "go" => match bare.as_slice() {
            ["test", ..] if has("-bench") || has("-run") => class(Role::Tests, Language::Go, 1),
            ["test", ..] => class(Role::Tests, Language::Go, 3),
            ["vet", ..] => class(Role::Lint, Language::Go, 2),
            ["mod", "download", ..] => class(Role::Setup, Language::Go, 3),
            _ => None,
        },
        "golangci-lint" if has("run") => class(Role::Lint, Language::Go, 3),
        "staticcheck" => class(Role::Lint, Language::Go, 2),
        "mvn" | "./mvnw" | "gradle" | "./gradlew" => {
            goals(&bare).and_then(|(role, weight)| class(role, Language::Java, weight))
        }
        _ => None,
    }
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !name.starts_with(|c: char| c.is_ascii_digit())
    })
}

/// The command that a runner runs: `uv run poe test` → `poe test`.
fn unwrapped<'a>(words: &'a [&'a str]) -> (&'a [&'a str], Option<Language>) {
    const VALUED: [&str; 9] =
        ["--with", "--python", "-p", "--group", "--extra", "--from", "--package", "--only-group", "--index"];
    let mut words = words;
    let mut hint = None;
    loop {
        let skip = match words {
            ["uv", "run", ..]
            | ["poetry" | "pdm" | "rye" | "pipenv" | "hatch" | "pixi", "run", ..]
            | ["pipx", "run", ..] => {
                hint = Some(Language::Python);
                2
            }
            ["uvx", ..] => {
                hint = Some(Language::Python);
                1
            }
            ["python" | "python3" | "py", "-m", ..] => {
                hint = Some(Language::Python);
                2
            }
            ["coverage", "run", "-m", ..] => 3,
            ["npx" | "bunx", ..] => {
                hint = Some(Language::Node);
                1
            }
            ["pnpm" | "yarn", "exec" | "dlx", ..] => {
                hint = Some(Language::Node);
                2
            }
            _ => return (words, hint),
        };
        let Some(mut rest) = words.get(skip..) else { return (&[], hint) };
        while let [option, after @ ..] = rest
            && option.starts_with('-')
        {
            let valued = VALUED.contains(option) && !after.is_empty();
            rest = if valued { after.get(1..).unwrap_or_default() } else { after };
        }
        words = rest;
    }
}

fn cargo(rest: &[&str]) -> Option<(Role, u8)> {
    let (sub, options) = rest.split_first()?;
    // Another tool chain or another target is a check of its own, not the project's everyday one.
    if sub.starts_with('+') || options.iter().any(|word| word.starts_with("--target") || *word == "-Z") {
        return None;
    }
    let partial =
        options.iter().any(|word| word.starts_with("--no-default") || *word == "--features" || *word == "--doc");
    let weight = if partial { 2 } else { 3 };
    match *sub {
        "test" | "t" => Some((Role::Tests, weight)),
        "nextest" if options.first() == Some(&"run") => Some((Role::Tests, weight)),
        "clippy" => Some((Role::Lint, weight)),
        "fmt" if options.contains(&"--check") => Some((Role::Lint, 1)),
        "fetch" => Some((Role::Setup, 3)),
        _ => None,
    }
}

fn package_manager(first: &str, bare: &[&str], rest: &[&str]) -> Option<(Role, u8)> {
    match bare {
        ["ci"] if first == "npm" => Some((Role::Setup, 3)),
        ["install" | "i"]
            if !rest.iter().any(|word| *word == "-g" || *word == "--global" || word.starts_with("--prod")) =>
        {
            Some((Role::Setup, 2))
        }
        [] if first == "yarn" => Some((Role::Setup, 2)),
        ["run" | "run-script", name, after @ ..] => {
            script(name).map(|(role, weight)| (role, if after.is_empty() { weight } else { weight.min(2) }))
        }
        ["test" | "t" | "tst", ..] => Some((Role::Tests, 3)),
        [name, ..] if first != "npm" => script(name),
        _ => None,
    }
}

/// The environments or sessions that `tox` and `nox` are asked for.
fn environments(rest: &[&str]) -> Option<(Role, u8)> {
    let mut names: Vec<&str> = Vec::new();
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        match *word {
            "-e" | "-s" | "--session" | "--sessions" => {
                names.extend(words.next().iter().flat_map(|all| all.split(',')))
            }
            "--installpkg" | "--notest" => return None,
            _ => {}
        }
    }
    let Some(first) = names.first() else { return Some((Role::Tests, 2)) };
    environment(first)
}

/// What an environment of `tox` or a session of `nox` is for, by its name.
pub(super) fn environment(name: &str) -> Option<(Role, u8)> {
    let name = name.to_ascii_lowercase();
    if name == "py" || name.strip_prefix("py").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
        return Some((Role::Tests, 3));
    }
    script(&name)
}

/// What a script, a task or a target is for, by its name.
pub(super) fn script(name: &str) -> Option<(Role, u8)> {
    let name = name.to_ascii_lowercase().replace('_', "-");
    let holds = |words: &[&str]| words.iter().any(|word| name.contains(word));
    match name.as_str() {
        "test" | "tests" | "unit" | "unit-test" | "unit-tests" | "unittest" | "unittests" | "tests-only"
        | "test:unit" | "test-unit" | "test:ci" => Some((Role::Tests, 3)),
        "lint" | "linters" | "lint:all" | "eslint" | "style" | "flake8" | "ruff" | "clippy" | "pre-commit"
        | "lint:check" | "check:lint" => Some((Role::Lint, 3)),
        "check" => Some((Role::Tests, 2)),
        "mypy" | "typing" | "types" | "typecheck" | "type-check" | "tsc" | "pyright" | "check-types"
        | "check:types" => Some((Role::Lint, 1)),
        "format:check" | "format-check" | "fmt:check" | "fmt-check" | "prettier:check" | "check:format" => {
            Some((Role::Lint, 1))
        }
        _ if name.starts_with("lint") => Some((Role::Lint, 2)),
        _ if name.starts_with("test")
            && holds(&["type", "tsd", "e2e", "integration", "browser", "watch", "debug", "update"]) =>
        {
            Some((Role::Tests, 1))
        }
        _ if name.starts_with("test") => Some((Role::Tests, 2)),
        _ => None,
    }
}

/// The goals of Maven and the tasks of Gradle.
fn goals(bare: &[&str]) -> Option<(Role, u8)> {
    let any = |names: &[&str]| bare.iter().any(|goal| names.contains(goal));
    if any(&["deploy", "release:perform", "publish"]) {
        None
    } else if any(&["verify", "test", "check"]) {
        Some((Role::Tests, 3))
    } else if any(&["package", "install", "build"]) {
        Some((Role::Tests, 2))
    } else if any(&[
        "checkstyle:check",
        "spotless:check",
        "pmd:check",
        "spotlessCheck",
        "ktlintCheck",
        "detekt",
        "checkstyleMain",
        "lint",
    ]) {
        Some((Role::Lint, 3))
    } else if any(&["dependency:go-offline"]) {
        Some((Role::Setup, 3))
    } else {
        None
    }
}
