//! npm, pnpm, yarn and bun.

use super::classify::script;
use super::{Candidate, Draft, Language, Role, Seen, Source, Tree, line_of};
use serde_json::Value;

/// What `npm init` writes where there are no tests.
const NO_TEST: &str = "no test specified";

pub(super) fn read(tree: &Tree<'_>) -> Option<Draft> {
    let manifest = tree.named("package.json").into_iter().next()?.to_owned();
    let text = tree.text(&manifest)?;
    let package: Value = serde_json::from_str(&text).ok()?;
    let folder = manifest.strip_suffix("package.json").unwrap_or_default();
    let has = |name: &str| tree.has(&format!("{folder}{name}"));
    let named = package.get("packageManager").and_then(Value::as_str).and_then(|it| it.split('@').next());
    let manager = match named {
        Some(manager @ ("npm" | "pnpm" | "yarn" | "bun")) => manager,
        _ if has("pnpm-lock.yaml") => "pnpm",
        _ if has("yarn.lock") => "yarn",
        _ if has("bun.lock") || has("bun.lockb") => "bun",
        _ => "npm",
    };
    let at = match (folder.trim_end_matches('/'), manager) {
        ("", _) => manager.to_owned(),
        (folder, "npm") => format!("npm --prefix {folder}"),
        (folder, "pnpm") => format!("pnpm --dir {folder}"),
        (folder, _) => format!("{manager} --cwd {folder}"),
    };
    let mut candidates = Vec::new();
    let scripts = package.get("scripts").and_then(Value::as_object);
    let has_script = |name: &str| scripts.is_some_and(|scripts| scripts.contains_key(name));
    for (name, body) in scripts.into_iter().flatten() {
        let body = body.as_str().unwrap_or_default();
        let Some((role, weight)) = script(name) else { continue };
        if body.contains(NO_TEST) {
            continue;
        }
        let seen = Seen { file: manifest.clone(), line: line_of(&text, &format!("\"{name}\":")) };
        let surrounded = has_script(&format!("pre{name}")) || has_script(&format!("post{name}"));
        // A script that only calls others: the one that does the job, without the lint and audit around it.
        let inner = inner(body).filter(|inner| has_script(inner) && (surrounded || body.contains("&&")));
        let run = match inner.filter(|_| role == Role::Tests) {
            Some(inner) => format!("{at} run {inner}"),
            None if name == "test" => format!("{at} test"),
            None => format!("{at} run {name}"),
        };
        candidates.push(Candidate::new(role, weight, Source::Package, run, seen));
    }
    let whole = || Seen { file: manifest.clone(), line: 0 };
    if package.get("workspaces").is_some() && !candidates.iter().any(|it| it.role == Role::Tests) && manager == "npm" {
        let run = format!("{at} test --workspaces --if-present");
        candidates.push(Candidate::new(Role::Tests, 2, Source::Habit, run, whole()));
    }
    let config = tree.paths.iter().find(|path| {
        path.strip_prefix(folder)
            .is_some_and(|name| name.starts_with("eslint.config.") || name.starts_with(".eslintrc"))
    });
    if let Some(config) = config {
        let seen = Seen { file: config.clone(), line: 0 };
        let within = if folder.is_empty() { ".".to_owned() } else { folder.trim_end_matches('/').to_owned() };
        candidates.push(Candidate::new(Role::Lint, 2, Source::Habit, format!("npx eslint {within}"), seen));
    }
    let locked = match manager {
        "npm" if has("package-lock.json") || has("npm-shrinkwrap.json") => "ci",
        "npm" => "install",
        "pnpm" | "bun" => "install --frozen-lockfile",
        _ if has(".yarnrc.yml") => "install --immutable",
        _ => "install --frozen-lockfile",
    };
    candidates.push(Candidate::new(Role::Setup, 3, Source::Habit, format!("{at} {locked}"), whole()));
    for candidate in &mut candidates {
        candidate.language = Some(Language::Node);
    }
    let image = if manager == "bun" { "oven/bun:1".to_owned() } else { "node:22".to_owned() };
    Some(Draft { language: Language::Node, manifest, manager: manager.to_owned(), image, candidates })
}

/// `npm run lint && npm run unit-tests` → `unit-tests`: the one script that is left when lint is taken out.
fn inner(body: &str) -> Option<&str> {
    let calls = body.split("&&").map(|part| {
        let words: Vec<&str> = part.split_whitespace().collect();
        match words.as_slice() {
            ["npm" | "pnpm" | "yarn" | "bun", "run", name] => Some(*name),
            _ => None,
        }
    });
    let names: Vec<&str> = calls.collect::<Option<_>>()?;
    let mut tests = names.into_iter().filter(|name| script(name).is_none_or(|(role, _)| role != Role::Lint));
    tests.next().filter(|_| tests.next().is_none())
}
