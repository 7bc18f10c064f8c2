//! Go modules.

use super::{Candidate, Draft, Language, Role, Seen, Source, Tree};

pub(super) fn read(tree: &Tree<'_>) -> Option<Draft> {
    let manifest = tree.named("go.mod").into_iter().next()?.to_owned();
    let text = tree.text(&manifest)?;
    let folder = manifest.strip_suffix("go.mod").unwrap_or_default();
    let within = |command: &str| match folder.trim_end_matches('/') {
        "" => command.to_owned(),
        folder => format!("(cd {folder} && {command})"),
    };
    let seen = || Seen { file: manifest.clone(), line: 0 };
    let mut candidates = vec![
        Candidate::new(Role::Tests, 3, Source::Habit, within("go test ./..."), seen()),
        Candidate::new(Role::Lint, 2, Source::Habit, within("go vet ./..."), seen()),
    ];
    let linter = [".golangci.yml", ".golangci.yaml", ".golangci.toml", ".golangci.json"];
    if let Some(file) = linter.iter().map(|name| format!("{folder}{name}")).find(|file| tree.has(file)) {
        let seen = Seen { file, line: 0 };
        candidates.push(Candidate::new(Role::Lint, 3, Source::Package, within("golangci-lint run"), seen));
    }
    if tree.has(&format!("{folder}go.sum")) {
        candidates.push(Candidate::new(Role::Setup, 3, Source::Habit, within("go mod download"), seen()));
    }
    for candidate in &mut candidates {
        candidate.language = Some(Language::Go);
    }
    let version = text
        .lines()
        .find_map(|line| line.strip_prefix("go "))
        .map(|version| version.trim().split('.').take(2).collect::<Vec<_>>().join("."));
    let image = format!("golang:{}", version.as_deref().unwrap_or("1"));
    Some(Draft { language: Language::Go, manifest, manager: "go".to_owned(), image, candidates })
}
