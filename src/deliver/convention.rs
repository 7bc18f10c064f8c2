//! A title in the repository's own convention: Conventional Commits where its history has them, a sentence elsewhere.

use crate::model::plan::Convention;
use std::collections::BTreeMap;

/// How many commits are looked at.
pub const LOOKED_AT: usize = 50;
/// Fewer commits say nothing.
const FEWEST: usize = 5;
/// Of a hundred commits so many must be written so.
const MAJORITY: usize = 60;
/// The longest title, in characters.
const LONGEST: usize = 72;
/// What a commit can be, and what else it is called.
const TYPES: [&str; 14] = [
    "feat", "fix", "docs", "style", "refactor", "perf", "test", "build", "ci", "chore", "revert", "deps", "security",
    "release",
];

/// How titles are written in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Style {
    /// `fix(parser): keep the last field`.
    Conventional {
        /// The types in use, the most frequent first.
        types: Vec<String>,
        /// The scopes in use; empty: most commits have none.
        scopes: Vec<String>,
        /// The words after the colon begin with a capital.
        capital: bool,
    },
    /// `Keep the last field`.
    Sentence,
    /// As it is.
    AsWritten,
}

/// What a change is, as far as a type and a scope can be told from it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hint<'a> {
    /// The workflow that made it.
    pub workflow: &'a str,
    /// The paths that it changes.
    pub paths: &'a [String],
}

/// A subject taken apart: type, scope, mark of a breaking change, words.
fn parts(subject: &str) -> Option<(&str, Option<&str>, &str)> {
    let (head, words) = subject.split_once(':')?;
    let words = words.strip_prefix(' ')?.trim();
    let head = head.strip_suffix('!').unwrap_or(head);
    let (kind, scope) = match head.strip_suffix(')') {
        Some(inner) => inner.split_once('(').map(|(kind, scope)| (kind, Some(scope)))?,
        None => (head, None),
    };
    let known = TYPES.iter().any(|known| known.eq_ignore_ascii_case(kind));
    let sound = scope.is_none_or(|scope| !scope.is_empty() && scope.len() <= 40 && !scope.contains([' ', '(', ')']));
    (known && sound && !words.is_empty()).then_some((kind, scope, words))
}

/// Finds the convention in the subjects of a branch's last commits. Merges say nothing.
pub fn detect(subjects: &[String]) -> Style {
    let own: Vec<&str> = subjects
        .iter()
        .map(|subject| subject.trim())
        .filter(|subject| !subject.is_empty() && !subject.starts_with("Merge ") && !subject.starts_with("Revert \""))
        .take(LOOKED_AT)
        .collect();
    let found: Vec<_> = own.iter().filter_map(|subject| parts(subject)).collect();
    if own.len() < FEWEST || found.len() * 100 < own.len() * MAJORITY {
        return Style::Sentence;
    }
    let by_use = |words: Vec<String>| {
        let mut count: BTreeMap<String, usize> = BTreeMap::new();
        for word in words {
            *count.entry(word).or_default() += 1;
        }
        let mut words: Vec<(String, usize)> = count.into_iter().collect();
        words.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        words.into_iter().map(|(word, _)| word).collect::<Vec<_>>()
    };
    let scopes: Vec<String> = found.iter().filter_map(|(_, scope, _)| scope.map(str::to_owned)).collect();
    let scoped = scopes.len() * 100 >= found.len() * MAJORITY;
    let capitals = found.iter().filter(|(.., words)| words.starts_with(char::is_uppercase)).count();
    Style::Conventional {
        types: by_use(found.iter().map(|(kind, ..)| kind.to_lowercase()).collect()),
        scopes: if scoped { by_use(scopes) } else { Vec::new() },
        capital: capitals * 100 >= found.len() * MAJORITY,
    }
}

/// The style that is configured, or that the history has.
pub fn style(configured: Convention, subjects: &[String]) -> Style {
    match (configured, detect(subjects)) {
        (Convention::AsWritten, _) => Style::AsWritten,
        (Convention::Sentence, _) => Style::Sentence,
        (Convention::Conventional, Style::Sentence) => {
            Style::Conventional { types: Vec::new(), scopes: Vec::new(), capital: false }
        }
        (Convention::Auto | Convention::Conventional, found) => found,
    }
}

/// A title in a style. Never marked as a breaking change: that is for people to say.
pub fn titled(title: &str, style: &Style, hint: &Hint<'_>) -> String {
    let title = title.trim();
    match style {
        Style::AsWritten => title.to_owned(),
        Style::Sentence => {
            let words = parts(title).map_or(title, |(.., words)| words);
            let words = words.strip_suffix('.').filter(|words| !words.ends_with('.')).unwrap_or(words);
            cut(&first(words, true))
        }
        Style::Conventional { types, scopes, capital } => {
            if let Some((kind, scope, words)) = parts(title) {
                let scope = scope.map(|scope| format!("({scope})")).unwrap_or_default();
                return cut(&format!("{}{scope}: {words}", kind.to_lowercase()));
            }
            let kind = kind(title, hint, types);
            let scope = scope(hint.paths, scopes).map(|scope| format!("({scope})")).unwrap_or_default();
            let words = title.strip_suffix('.').unwrap_or(title);
            cut(&format!("{kind}{scope}: {}", first(words, *capital)))
        }
    }
}

/// With its first letter large or small. A word that is written in capitals, or in both, is a name.
fn first(words: &str, capital: bool) -> String {
    let mut chars = words.chars();
    let Some(first) = chars.next() else { return String::new() };
    let word: String = chars.clone().take_while(|c| c.is_alphanumeric()).collect();
    if word.chars().any(char::is_uppercase) || !first.is_alphabetic() {
        return words.to_owned();
    }
    let turned: String = if capital { first.to_uppercase().collect() } else { first.to_lowercase().collect() };
    format!("{turned}{}", chars.as_str())
}

fn cut(title: &str) -> String {
    if title.chars().count() <= LONGEST {
        return title.to_owned();
    }
    let short: String = title.chars().take(LONGEST - 1).collect();
    format!("{}…", short.trim_end())
}

/// The type: by the workflow, else by the files, else by the first word; of those that the repository has.
fn kind<'a>(title: &str, hint: &Hint<'_>, types: &'a [String]) -> &'a str {
    let all = |test: &dyn Fn(&str) -> bool| !hint.paths.is_empty() && hint.paths.iter().all(|path| test(path));
    let is_doc = |path: &str| path.ends_with(".md") || path.ends_with(".rst") || path.starts_with("docs/");
    let is_test = |path: &str| path.split('/').any(|part| matches!(part, "test" | "tests" | "__tests__" | "spec"));
    let verb = title.split_whitespace().next().unwrap_or_default().to_lowercase();
    let wanted: &[&'static str] = match hint.workflow {
        "dependency-update" => &["build", "deps", "chore"],
        "docs" => &["docs"],
        "lint-fix" => &["style", "chore"],
        "security-audit" => &["security", "fix"],
        _ if all(&is_doc) => &["docs"],
        _ if all(&is_test) => &["test"],
        "fix" => &["fix"],
        _ => match verb.as_str() {
            "fix" | "mend" | "repair" | "correct" | "prevent" | "avoid" | "handle" => &["fix"],
            "refactor" | "rename" | "move" | "extract" | "simplify" => &["refactor", "chore"],
            "document" => &["docs"],
            "update" | "bump" | "upgrade" | "remove" | "clean" => &["chore"],
            _ => &["feat"],
        },
    };
    let used = |kind: &&&str| types.is_empty() || types.iter().any(|there| there == **kind);
    match wanted.iter().find(used) {
        Some(kind) => kind,
        // What it is the repository has no type for; what it uses most says least.
        None => types.first().map_or("chore", String::as_str),
    }
}

/// A scope of the repository that all changed files lie in.
fn scope<'a>(paths: &[String], scopes: &'a [String]) -> Option<&'a str> {
    let holds = |path: &String, scope: &str| {
        path.split('/').any(|part| part == scope || part.split('.').next().is_some_and(|stem| stem == scope))
    };
    if paths.is_empty() {
        return None;
    }
    scopes.iter().find(|scope| paths.iter().all(|path| holds(path, scope))).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subjects(text: &[&str]) -> Vec<String> {
        text.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_history_tells_its_convention() {
        let conventional = subjects(&[
            "fix(parser): a",
            "feat(cli): B",
            "Merge pull request #1",
            "fix(parser)!: c",
            "typo",
            "docs: d",
        ]);
        let Style::Conventional { types, scopes, capital } = detect(&conventional) else { panic!("not found") };
        assert_eq!((types.first().map(String::as_str), capital), (Some("fix"), false));
        assert_eq!(scopes, ["parser", "cli"]);
        // Two of five are not enough; a folder's name is no type; four commits are no history.
        for sentence in [
            &["fix: a", "feat: b", "Make it", "Mend it", "Drop it"][..],
            &["parser: a", "cli: b", "net: c", "parser: d", "x: e"],
            &["fix: a", "fix: b", "fix: c", "fix: d"],
            &["fix:a", "fix:b", "fix:c", "fix:d", "fix:e"],
        ] {
            assert_eq!(detect(&subjects(sentence)), Style::Sentence, "{sentence:?}");
        }
    }

    #[test]
    fn a_title_is_written_as_the_repository_writes() {
        let paths = ["src/parser/mod.rs".to_owned(), "tests/parser.rs".to_owned()];
        let style = Style::Conventional {
            types: subjects(&["fix", "feat", "chore"]),
            scopes: subjects(&["cli", "parser"]),
            capital: false,
        };
        let titled = |title: &str, workflow: &str, paths: &[String]| titled(title, &style, &Hint { workflow, paths });
        assert_eq!(titled("Keep the last field.", "fix", &paths), "fix(parser): keep the last field");
        assert_eq!(titled("Add JSON output", "implement", &[]), "feat: add JSON output");
        assert_eq!(titled("JSON is read", "implement", &[]), "feat: JSON is read");
        // What the repository has no word for, and what it has another one for.
        assert_eq!(titled("Update dependencies", "dependency-update", &[]), "chore: update dependencies");
        assert_eq!(titled("Explain it", "docs", &[]), "fix: explain it");
        // What is conventional already stays, without the mark that only people set.
        assert_eq!(titled("Feat(api)!: drop it", "fix", &[]), "feat(api): drop it");
        assert!(titled(&"word ".repeat(30), "fix", &[]).chars().count() <= LONGEST);
        let sentence = |title: &str| super::titled(title, &Style::Sentence, &Hint::default());
        assert_eq!(sentence("fix(parser): keep the last field."), "Keep the last field");
        assert_eq!(sentence("npm: keep it"), "Npm: keep it");
        assert_eq!(sentence("iOS builds again"), "iOS builds again");
        assert_eq!(super::style(Convention::AsWritten, &[]), Style::AsWritten);
        assert!(matches!(super::style(Convention::Conventional, &[]), Style::Conventional { .. }));
    }
}
