//! Commands of the project's own CI.

use super::classify::classify;
use super::{Candidate, Found, Seen, Source, Tree, java, shell};
use crate::workflow::schema::document::{Document, Node, Yaml};

/// Keys of a `.gitlab-ci.yml` that are no jobs.
const GITLAB_WORDS: [&str; 13] = [
    "stages",
    "variables",
    "include",
    "workflow",
    "default",
    "image",
    "services",
    "cache",
    "before_script",
    "after_script",
    "pages",
    "spec",
    "artifacts",
];

/// The CI files, and the commands in them that test, lint or set up.
pub(super) fn read(tree: &Tree<'_>) -> (Vec<String>, Vec<Candidate>) {
    let (mut files, mut found) = (Vec::new(), Vec::new());
    let workflows = tree.paths.iter().map(String::as_str).filter(|path| {
        path.strip_prefix(".github/workflows/")
            .is_some_and(|name| !name.contains('/') && (name.ends_with(".yml") || name.ends_with(".yaml")))
    });
    for path in workflows {
        let Some(document) = parsed(tree, path) else { continue };
        let before = found.len();
        for (_, job) in document.root.get("jobs").map(Node::entries).unwrap_or_default() {
            let elsewhere = job
                .get("runs-on")
                .and_then(Node::text)
                .is_some_and(|on| on.starts_with("windows") || on.starts_with("macos"));
            for step in job.get("steps").map(Node::items).unwrap_or_default().iter().filter(|_| !elsewhere) {
                let folder =
                    step.get("working-directory").or_else(|| job.get("defaults")?.get("run")?.get("working-directory"));
                if let Some(script) = step.get("run") {
                    lines(&document, script, folder.and_then(Node::text), &mut found);
                }
            }
        }
        if found.len() > before {
            files.push(path.to_owned());
        }
    }
    if let Some(document) = parsed(tree, ".gitlab-ci.yml") {
        files.push(".gitlab-ci.yml".to_owned());
        let jobs = document.root.entries().iter().filter(|(key, _)| !GITLAB_WORDS.contains(&key.text.as_str()));
        for (_, job) in jobs {
            for key in ["before_script", "script"] {
                for script in job.get(key).map(Node::one_or_many).unwrap_or_default() {
                    lines(&document, script, None, &mut found);
                }
            }
        }
        for script in document.root.get("before_script").map(Node::one_or_many).unwrap_or_default() {
            lines(&document, script, None, &mut found);
        }
    }
    if let Some(document) = parsed(tree, ".travis.yml") {
        files.push(".travis.yml".to_owned());
        for key in ["install", "script"] {
            for script in document.root.get(key).map(Node::one_or_many).unwrap_or_default() {
                lines(&document, script, None, &mut found);
            }
        }
    }
    (files, found)
}

fn parsed(tree: &Tree<'_>, path: &str) -> Option<Document> {
    let text = tree.text(path)?;
    let (document, _) = Document::parse(path, &text);
    matches!(document.root.value, Yaml::Map(_)).then_some(document)
}

/// The plain commands of a script, each with its line.
fn lines(document: &Document, script: &Node, folder: Option<&str>, found: &mut Vec<Candidate>) {
    let Some(text) = script.text() else { return };
    // A folder that is computed, or leads out, is nobody's habit.
    let folder = match folder.map(|folder| folder.trim_start_matches("./").trim_end_matches('/')) {
        None | Some("" | ".") => None,
        Some(folder)
            if folder.contains(['$', '*', ' ', '\'']) || folder.starts_with(['/', '-']) || folder.contains("..") =>
        {
            return;
        }
        Some(folder) => Some(folder),
    };
    // Within a loop or a branch a line is not the whole story.
    let mut depth = 0usize;
    for (place, line) in text.lines().enumerate() {
        let first = line.split_whitespace().next().unwrap_or_default();
        match first {
            "if" | "for" | "while" | "case" | "until" => depth += 1,
            "fi" | "done" | "esac" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > 0 {
            continue;
        }
        let Some(words) = shell::words(line) else { continue };
        let Some(class) = classify(&words) else { continue };
        let command = java::plain(&words).unwrap_or_else(|| line.trim().to_owned());
        let command = match folder {
            Some(folder) => format!("(cd {folder} && {command})"),
            None => command,
        };
        let at = document.inside(script, place + 1, 0, 1);
        found.push(Candidate {
            found: Found {
                command,
                seen: Seen { file: document.file.clone(), line: at.line },
                source: Source::Pipeline,
            },
            role: class.role,
            language: class.language,
            weight: class.weight,
        });
    }
}
