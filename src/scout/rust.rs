//! Cargo.

use super::{Candidate, Draft, Language, Role, Seen, Source, Tree, section};

pub(super) fn read(tree: &Tree<'_>) -> Option<Draft> {
    let manifest = tree.named("Cargo.toml").into_iter().next()?.to_owned();
    let text = tree.text(&manifest)?;
    let folder = manifest.strip_suffix("Cargo.toml").unwrap_or_default();
    let path = if folder.is_empty() { String::new() } else { format!(" --manifest-path={manifest}") };
    let all = if section(&text, "[workspace]").is_some() { " --workspace" } else { "" };
    let locked = if tree.has(&format!("{folder}Cargo.lock")) { " --locked" } else { "" };
    let seen = || Seen { file: manifest.clone(), line: 0 };
    let mut candidates = vec![
        Candidate::new(Role::Tests, 3, Source::Habit, format!("cargo test{path}{all}"), seen()),
        Candidate::new(
            Role::Lint,
            3,
            Source::Habit,
            format!("cargo clippy{path}{all} --all-targets -- -D warnings"),
            seen(),
        ),
        Candidate::new(Role::Setup, 3, Source::Habit, format!("cargo fetch{path}{locked}"), seen()),
    ];
    for candidate in &mut candidates {
        candidate.language = Some(Language::Rust);
    }
    let channel =
        ["rust-toolchain.toml", "rust-toolchain"].iter().find_map(|name| tree.text(&format!("{folder}{name}")));
    let version = channel.and_then(|text| {
        let channel =
            text.lines().find_map(|line| line.trim().strip_prefix("channel")?.split('"').nth(1).map(str::to_owned));
        channel.or_else(|| Some(text.trim().to_owned())).filter(|it| it.starts_with(|c: char| c.is_ascii_digit()))
    });
    let image = format!("rust:{}", version.as_deref().unwrap_or("1"));
    Some(Draft { language: Language::Rust, manifest, manager: "cargo".to_owned(), image, candidates })
}
