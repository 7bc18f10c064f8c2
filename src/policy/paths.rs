//! Paths as tools name them, made comparable.

use crate::text;
use serde_json::Value;

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Inside of the workspace: relative, without `.` and `..`; empty for the root.
    Inside(String),
    /// A place that only lives as long as the sandbox (`/tmp/…`, `/dev/null`).
    Scratch,
    /// Anywhere else.
    Outside,
}

/// Finds out where `path` leads, as seen from `dir` (relative to the workspace's root).
pub(super) fn place(path: &str, dir: &str, workspace: &str) -> Place {
    let absolute = path.starts_with('/') || dir.starts_with('/');
    let from = if path.starts_with('/') { "" } else { dir };
    let mut parts: Vec<&str> = Vec::new();
    for part in from.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() && !absolute {
                    return Place::Outside;
                }
            }
            part => parts.push(part),
        }
    }
    if !absolute {
        return Place::Inside(parts.join("/"));
    }
    let root: Vec<&str> = workspace.split('/').filter(|p| !p.is_empty()).collect();
    if let Some(rest) = parts.strip_prefix(root.as_slice()) {
        return Place::Inside(rest.join("/"));
    }
    match parts.as_slice() {
        ["tmp", _, ..] | ["var", "tmp", _, ..] => Place::Scratch,
        ["dev", "null" | "stdout" | "stderr" | "stdin" | "zero" | "full" | "tty" | "urandom" | "random"] => {
            Place::Scratch
        }
        ["dev", "fd", n] if n.bytes().all(|b| b.is_ascii_digit()) => Place::Scratch,
        _ => Place::Outside,
    }
}

/// The paths that a call's arguments name, but for those of `shell`.
pub(super) fn named(tool: &str, args: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if let Value::Object(map) = args {
        for key in ["path", "paths", "file", "files", "file_path", "dir", "directory", "from", "to"] {
            match map.get(key) {
                Some(Value::String(path)) => found.push(path.clone()),
                Some(Value::Array(paths)) => found.extend(paths.iter().filter_map(Value::as_str).map(str::to_owned)),
                _ => {}
            }
        }
        if tool == "apply_patch" {
            for text in map.values().filter_map(Value::as_str) {
                found.extend(in_patch(text));
            }
        }
    }
    found
}

/// Every path that a patch names: in `diff --git`, `---`, `+++`, `rename`, `copy` and in the headers of the
/// `*** Update File:` form. Lines of a hunk that look like a header are taken for one: that errs towards refusing.
pub(super) fn in_patch(patch: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in patch.lines() {
        if let Some(rest) = line.strip_prefix("diff --git ") {
            git_pair(rest, &mut found);
        } else if let Some(rest) = line.strip_prefix("--- ").or_else(|| line.strip_prefix("+++ ")) {
            let name = text::header_name(rest);
            if name != "/dev/null" {
                found.push(without_side(&name));
            }
        } else if let Some(rest) = ["rename from ", "rename to ", "copy from ", "copy to "]
            .iter()
            .chain(&["*** Add File: ", "*** Update File: ", "*** Delete File: ", "*** Move to: "])
            .find_map(|prefix| line.strip_prefix(prefix))
        {
            found.push(text::header_name(rest));
        }
    }
    found.sort();
    found.dedup();
    found
}

fn without_side(name: &str) -> String {
    name.strip_prefix("a/").or_else(|| name.strip_prefix("b/")).unwrap_or(name).to_owned()
}

fn git_pair(rest: &str, found: &mut Vec<String>) {
    if rest.starts_with('"') {
        let (first, rest) = text::unquote(rest);
        found.push(without_side(&first));
        let second = rest.trim_start();
        found.push(without_side(&if second.starts_with('"') { text::unquote(second).0 } else { second.to_owned() }));
    } else {
        // Names may hold blanks: every way to part the two is taken.
        for (at, _) in rest.match_indices(' ') {
            let (first, second) = (rest.get(..at).unwrap_or_default(), rest.get(at + 1..).unwrap_or_default());
            if second.starts_with("b/") || second.starts_with('"') || rest.matches(' ').count() == 1 {
                found.push(without_side(first));
                found.push(without_side(&if second.starts_with('"') {
                    text::unquote(second).0
                } else {
                    second.to_owned()
                }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_comparable() {
        let inside = |p: &str| Place::Inside(p.to_owned());
        for (path, dir, expected) in [
            ("./a/../b", "", inside("b")),
            ("/workspace/src//x", "", inside("src/x")),
            ("/workspace/../etc/passwd", "", Place::Outside),
            ("../x", "", Place::Outside),
            ("a/../../x", "", Place::Outside),
            ("../x", "a/b", inside("a/x")),
            ("x", "/workspace/.github", inside(".github/x")),
            ("/etc/passwd", "", Place::Outside),
            ("/tmp/x", "", Place::Scratch),
            ("/tmp/../etc/x", "", Place::Outside),
            ("/dev/null", "", Place::Scratch),
            ("/dev/tcp/host/80", "", Place::Outside),
            ("x", "/etc", Place::Outside),
        ] {
            assert_eq!(place(path, dir, "/workspace"), expected, "{path} from {dir}");
        }
    }

    #[test]
    fn a_patch_names_all_of_its_paths() {
        let patch = "diff --git a/src/a.rs b/.github/w.yml\nsimilarity index 90%\nrename from src/a.rs\nrename to .github/w.yml\n\
                     --- a/one two.txt\t2024-01-01\n+++ \"b/\\303\\244.txt\"\n--- /dev/null\n+++ b/new\n*** Update File: other\n";
        assert_eq!(in_patch(patch), [".github/w.yml", "new", "one two.txt", "other", "src/a.rs", "ä.txt"]);
    }
}
