//! Maven and Gradle.

use super::{Candidate, Draft, Language, Role, Seen, Source, Tree, line_of};

pub(super) fn read(tree: &Tree<'_>) -> Option<Draft> {
    let names = ["pom.xml", "build.gradle", "build.gradle.kts", "settings.gradle", "settings.gradle.kts"];
    let mut found: Vec<&str> = names.iter().filter_map(|name| tree.named(name).into_iter().next()).collect();
    found.sort_by_key(|path| path.matches('/').count());
    let manifest = (*found.first()?).to_owned();
    let text = tree.text(&manifest).unwrap_or_default();
    let folder = manifest.rsplit_once('/').map_or("", |(folder, _)| folder);
    let within = |command: &str| match folder {
        "" => command.to_owned(),
        folder => format!("(cd {folder} && {command})"),
    };
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let seen = |line: usize| Seen { file: manifest.clone(), line };
    let maven = manifest.ends_with("pom.xml");
    let wrapper = if maven { "mvnw" } else { "gradlew" };
    let program = match (tree.has(&format!("{prefix}{wrapper}")), maven) {
        (true, true) => "./mvnw -B",
        (true, false) => "./gradlew",
        (false, true) => "mvn -B",
        (false, false) => "gradle",
    };
    let mut candidates =
        vec![Candidate::new(Role::Tests, 3, Source::Habit, within(&format!("{program} test")), seen(0))];
    if maven {
        candidates.push(Candidate::new(
            Role::Setup,
            3,
            Source::Habit,
            within(&format!("{program} dependency:go-offline")),
            seen(0),
        ));
    } else {
        candidates.push(Candidate::new(
            Role::Setup,
            3,
            Source::Habit,
            within(&format!("{program} testClasses")),
            seen(0),
        ));
        for (plugin, task) in [
            ("com.diffplug.spotless", "spotlessCheck"),
            ("ktlint", "ktlintCheck"),
            ("detekt", "detekt"),
            ("checkstyle", "checkstyleMain"),
        ] {
            if text.contains(plugin) {
                let seen = seen(line_of(&text, plugin));
                candidates.push(Candidate::new(
                    Role::Lint,
                    3,
                    Source::Package,
                    within(&format!("{program} {task}")),
                    seen,
                ));
            }
        }
    }
    for candidate in &mut candidates {
        candidate.language = Some(Language::Java);
    }
    let (manager, image) = if maven { ("maven", "maven:3") } else { ("gradle", "gradle:jdk21") };
    Some(Draft { language: Language::Java, manifest, manager: manager.to_owned(), image: image.to_owned(), candidates })
}

/// Maven's command of a CI without what only a CI's log wants: `mvn -X verify -B --file pom.xml` → `mvn -B verify`.
pub(super) fn plain(words: &[String]) -> Option<String> {
    let (first, rest) = words.split_first()?;
    if first != "mvn" && first != "./mvnw" {
        return None;
    }
    let mut goals = Vec::new();
    let mut rest = rest.iter().map(String::as_str);
    while let Some(word) = rest.next() {
        match word {
            "-X"
            | "--debug"
            | "-B"
            | "--batch-mode"
            | "-V"
            | "--show-version"
            | "-e"
            | "--errors"
            | "-q"
            | "--quiet"
            | "-U"
            | "-ntp"
            | "--no-transfer-progress" => {}
            "-f" | "--file" if rest.clone().next() == Some("pom.xml") => {
                rest.next();
            }
            option if option.starts_with('-') => return None,
            goal => goals.push(goal),
        }
    }
    Some(format!("{first} -B {}", goals.join(" ")))
}
