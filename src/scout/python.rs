//! pytest, unittest, tox, nox, uv, poetry, pdm, pre-commit, ruff.

use super::classify::environment;
use super::{Candidate, Draft, Found, Language, Role, Seen, Source, Tree, line_of, section};

pub(super) fn read(tree: &Tree<'_>) -> Option<Draft> {
    let names = ["pyproject.toml", "setup.py", "setup.cfg", "requirements.txt", "tox.ini"];
    let mut found: Vec<&str> = names.iter().filter_map(|name| tree.named(name).into_iter().next()).collect();
    found.sort_by_key(|path| path.matches('/').count());
    let manifest = (*found.first()?).to_owned();
    let folder = manifest.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let file = |name: &str| format!("{folder}{name}");
    let text = |name: &str| tree.text(&file(name)).unwrap_or_default();
    let project = text("pyproject.toml");
    let locks = [("uv.lock", "uv"), ("poetry.lock", "poetry"), ("pdm.lock", "pdm"), ("Pipfile.lock", "pipenv")];
    let lock = locks.iter().find(|(name, _)| tree.has(&file(name)));
    let locked = lock.map(|(name, _)| text(name)).unwrap_or_default();
    let manager = lock.map_or("pip", |(_, manager)| *manager);
    let run = lock.map_or(String::new(), |(_, manager)| format!("{manager} run "));
    // What the lock file holds runs from the project's own environment; what it does not, from the machine's.
    let in_lock = |tool: &str| {
        ["\"", "'"].iter().any(|quote| locked.contains(&format!("name = {quote}{tool}{quote}")))
            || locked.contains(&format!("\"{tool}\":"))
    };
    let with = |tool: &str| if in_lock(tool) { run.clone() } else { String::new() };
    let within = |command: String| match folder.trim_end_matches('/') {
        "" => command,
        folder => format!("(cd {folder} && {command})"),
    };
    let mut candidates = Vec::new();
    let mut add = |role, weight, source, command: String, seen| {
        candidates.push(Candidate::new(role, weight, source, within(command), seen));
    };
    let seen = |name: &str, line: usize| Seen { file: file(name), line };

    if let Some(line) = section(&project, "[tool.poe.tasks]") {
        for (name, role) in [("test", Role::Tests), ("tests", Role::Tests), ("lint", Role::Lint)] {
            let task = project.lines().skip(line).take_while(|line| !line.starts_with('['));
            if task.clone().any(|line| line.split('=').next().is_some_and(|key| key.trim() == name)) {
                add(
                    role,
                    3,
                    Source::Package,
                    format!("{}poe {name}", with("poethepoet")),
                    seen("pyproject.toml", line),
                );
            }
        }
    }
    if in_lock("pytest")
        && let Some((name, _)) = lock
    {
        add(Role::Tests, 3, Source::Package, format!("{run}pytest"), seen(name, line_of(&locked, "\"pytest\"")));
    }
    let nox = text("noxfile.py");
    for (place, line) in nox.lines().enumerate() {
        let Some(name) = line.strip_prefix("def ").and_then(|rest| rest.split('(').next()) else { continue };
        if let Some((role, weight)) = environment(name) {
            add(role, weight, Source::Package, format!("{}nox -s {name}", with("nox")), seen("noxfile.py", place + 1));
        }
    }
    let tox = text("tox.ini");
    for (place, line) in tox.lines().enumerate() {
        let Some(name) = line.strip_prefix("[testenv").and_then(|rest| rest.split(']').next()) else { continue };
        let at = seen("tox.ini", place + 1);
        match name.strip_prefix(':') {
            None => add(Role::Tests, 3, Source::Package, format!("{}tox -e py", with("tox")), at),
            Some(name) => {
                if let Some((Role::Lint, weight)) = environment(name) {
                    add(Role::Lint, weight, Source::Package, format!("{}tox -e {name}", with("tox")), at);
                }
            }
        }
    }
    if tree.has(&file(".pre-commit-config.yaml")) {
        let command = format!("{}pre-commit run --all-files", with("pre-commit"));
        add(Role::Lint, 3, Source::Package, command, seen(".pre-commit-config.yaml", 0));
    }
    let settings = text("setup.cfg");
    let pytest = [("pyproject.toml", &project, "[tool.pytest"), ("setup.cfg", &settings, "[tool:pytest]")];
    let configured = pytest.iter().find_map(|(name, text, header)| Some(seen(name, section(text, header)?)));
    let configured = configured.or_else(|| tree.has(&file("pytest.ini")).then(|| seen("pytest.ini", 0)));
    let configured = configured.or_else(|| tree.has(&file("conftest.py")).then(|| seen("conftest.py", 0)));
    let named = tree.paths.iter().filter(|path| path.starts_with(&folder)).find(|path| {
        let name = path.rsplit('/').next().unwrap_or_default();
        name.ends_with(".txt") && name.contains("requirements") || name == "Pipfile"
    });
    let named = named.and_then(|path| {
        let text = tree.text(path)?;
        text.contains("pytest").then(|| Seen { file: path.clone(), line: line_of(&text, "pytest") })
    });
    let named =
        named.or_else(|| project.contains("pytest").then(|| seen("pyproject.toml", line_of(&project, "pytest"))));
    let first_test = tree.paths.iter().find(|path| {
        let name = path.rsplit('/').next().unwrap_or_default();
        path.starts_with(&folder) && name.starts_with("test_") && name.ends_with(".py")
    });
    if let Some(seen) = configured.or(named) {
        add(Role::Tests, 3, Source::Habit, format!("{run}python -m pytest"), seen);
    } else if let Some(path) = first_test {
        let uses = tree.text(path).is_some_and(|text| text.contains("pytest"));
        let runner = if uses { "pytest" } else { "unittest" };
        add(Role::Tests, 3, Source::Habit, format!("{run}python -m {runner}"), Seen { file: path.clone(), line: 0 });
    }
    if let Some(line) = section(&project, "[tool.ruff") {
        add(Role::Lint, 3, Source::Habit, format!("{}ruff check .", with("ruff")), seen("pyproject.toml", line));
    } else if tree.has(&file("ruff.toml")) || tree.has(&file(".ruff.toml")) {
        add(Role::Lint, 3, Source::Habit, format!("{}ruff check .", with("ruff")), seen("ruff.toml", 0));
    } else if tree.has(&file(".flake8")) {
        add(Role::Lint, 3, Source::Habit, format!("{}flake8", with("flake8")), seen(".flake8", 0));
    }
    match manager {
        "uv" => add(Role::Setup, 3, Source::Habit, "uv sync --locked".to_owned(), seen("uv.lock", 0)),
        "poetry" => add(Role::Setup, 3, Source::Habit, "poetry install".to_owned(), seen("poetry.lock", 0)),
        "pdm" => add(Role::Setup, 3, Source::Habit, "pdm install --frozen-lockfile".to_owned(), seen("pdm.lock", 0)),
        "pipenv" => add(Role::Setup, 3, Source::Habit, "pipenv sync --dev".to_owned(), seen("Pipfile.lock", 0)),
        _ => {}
    }
    for candidate in &mut candidates {
        candidate.language = Some(Language::Python);
    }
    let image = "python:3.13";
    Some(Draft {
        language: Language::Python,
        manifest,
        manager: manager.to_owned(),
        image: image.to_owned(),
        candidates,
    })
}

/// What pip has to bring for the commands that were chosen, and the environments that tools of Python make for
/// themselves: later, in the sandbox, there is no network to make them with. `alone`: nothing else sets the project up.
pub(super) fn more_setup(draft: &Draft, tests: Option<&Found>, lint: Option<&Found>, alone: bool) -> Vec<Found> {
    if draft.language != Language::Python {
        return Vec::new();
    }
    let mut setup = Vec::new();
    let mut add = |command: String, from: &Found| setup.push(Found { command, ..from.clone() });
    let tool = |found: Option<&Found>| {
        let first = found.and_then(|found| found.command.split_whitespace().next())?;
        matches!(first, "tox" | "nox" | "pre-commit" | "ruff" | "flake8").then(|| first.to_owned())
    };
    let mut tools: Vec<String> = [tool(tests), tool(lint)].into_iter().flatten().collect();
    tools.dedup();
    let from = tests.or(lint);
    if let Some(from) = from
        && alone
    {
        let isolated = tools.iter().any(|tool| tool == "tox" || tool == "nox");
        if !isolated && draft.manifest.ends_with(".txt") {
            add(format!("pip install -r {}", draft.manifest), from);
        } else if !isolated {
            add("pip install -e .".to_owned(), from);
        }
        if tests.is_some_and(|found| found.command.contains("pytest")) {
            tools.push("pytest".to_owned());
        }
    }
    if let Some(from) = from
        && !tools.is_empty()
    {
        add(format!("pip install {}", tools.join(" ")), from);
    }
    let asked = |found: Option<&Found>| Some((found?.command.strip_prefix("tox -e ")?.to_owned(), found?.clone()));
    let environments: Vec<(String, Found)> = [asked(tests), asked(lint)].into_iter().flatten().collect();
    if let Some((_, from)) = environments.first() {
        let names: Vec<&str> = environments.iter().map(|(name, _)| name.as_str()).collect();
        add(format!("tox --notest -e {}", names.join(",")), from);
    }
    if let Some(lint) = lint.filter(|lint| lint.command.contains("pre-commit run")) {
        let prefix = lint.command.split("pre-commit run").next().unwrap_or_default();
        if !prefix.contains("(cd") {
            add(format!("{prefix}pre-commit install-hooks"), lint);
        }
    }
    setup
}
