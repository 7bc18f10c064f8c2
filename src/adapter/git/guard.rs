//! What a delivery must not carry, whatever the policy said while it was made.

use super::filters;
use super::history::globs;
use super::store::{Store, shown};
use super::trees::{self, COMMIT, Delta, LINK};
use crate::port::repository::RepositoryError;
use git2::ObjectType;

/// A file larger than this is not source; a forge would refuse it too.
const LARGEST: usize = 50 * 1024 * 1024;

/// Refuses a change that touches what it must not.
pub(super) fn check(store: &Store, deltas: &[Delta], protected: &[String]) -> Result<(), RepositoryError> {
    let set = globs(protected)?;
    // A link or a file in the place of `FOLDER/**` stands for all that is in the folder.
    let folders: Vec<String> =
        protected.iter().map(|pattern| pattern.strip_suffix("/**").unwrap_or(pattern).to_owned()).collect();
    let places = globs(&folders)?;
    let pointer = |put: trees::Put| -> Result<bool, RepositoryError> {
        match put {
            Some((mode, oid)) if mode != COMMIT && store.has(oid) => Ok(filters::is_pointer(store.read(oid)?.data())),
            _ => Ok(false),
        }
    };
    for delta in deltas {
        let path = &delta.path;
        let refuse =
            |why: String| Err(RepositoryError::Refused(format!("nothing was delivered: `{}` {why}", shown(path))));
        if let Some(part) = path.split(|byte| *byte == b'/').find(|part| reads_as_dot_git(part)) {
            return refuse(format!("has `{}` in it, which some systems read as `.git`", shown(part)));
        }
        let read_as: Vec<String> = path.split(|byte| *byte == b'/').map(as_others_read).collect();
        let names = [super::os(path).to_owned(), read_as.join("/").into()];
        let hit = names.iter().flat_map(|name| [set.matches(name), places.matches(name)]).flatten().min();
        if let Some(hit) = hit {
            let pattern = protected.get(hit).map(String::as_str).unwrap_or_default();
            return refuse(format!(
                "is a protected path (`{pattern}`). If the change is wanted, make it by hand, or take the path off \
                 `protected_paths`"
            ));
        }
        let Some((mode, oid)) = delta.new else {
            if delta.old.is_some_and(|(mode, _)| mode == COMMIT) {
                return refuse("is a submodule; submodules are changed by hand".into());
            }
            continue;
        };
        if pointer(delta.old)? && !pointer(delta.new)? {
            return refuse("is kept by git LFS, whose filter is not run here; change it by hand".into());
        }
        match mode {
            COMMIT => return refuse("is a submodule; submodules are changed by hand".into()),
            LINK => {
                let object = store.read(oid)?;
                if let Some(why) = leads_out(path, object.data()) {
                    return refuse(format!("is a symbolic link to `{}`, which {why}", shown(object.data())));
                }
            }
            _ => {
                let object = store.read(oid)?;
                if object.kind() == ObjectType::Blob && object.data().len() > LARGEST {
                    return refuse(format!(
                        "has {} MiB, more than the {} MiB that are delivered",
                        object.data().len() >> 20,
                        LARGEST >> 20
                    ));
                }
            }
        }
    }
    Ok(())
}

/// A name as the most lenient file system reads it: ignorable characters, letter case, trailing dots and spaces and
/// what follows a colon are nothing.
fn as_others_read(name: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(name)
        .chars()
        .filter(|letter| {
            !matches!(*letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        })
        .flat_map(char::to_lowercase)
        .collect();
    text.split([':', '\\']).next().unwrap_or_default().trim_end_matches(['.', ' ']).to_owned()
}

/// Whether a name is `.git`, or what macOS (ignorable characters, letter case) or Windows (short names, trailing dots
/// and spaces, streams) take for it; `.gitmodules` and `.gitattributes` are left to the protected paths.
fn reads_as_dot_git(name: &[u8]) -> bool {
    let stem = as_others_read(name);
    stem == ".git" || (stem.starts_with("git~") && stem.get(4..).is_some_and(|rest| rest.parse::<u32>().is_ok()))
}

/// Why a link must not be delivered, where it must not.
fn leads_out(path: &[u8], target: &[u8]) -> Option<&'static str> {
    if target.starts_with(b"/") || target.contains(&b'\\') || target.contains(&0) {
        return Some("leads out of the repository");
    }
    let mut depth = path.iter().filter(|byte| **byte == b'/').count();
    let mut named = false;
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            // After a name the way up may start at the end of another link, which can be anywhere.
            b".." if depth == 0 || named => return Some("leads out of the repository"),
            b".." => depth -= 1,
            name if reads_as_dot_git(name) => return Some("leads into git's own files"),
            _ => named = true,
        }
    }
    None
}

/// The tree must be readable down to its last file before anything points to it.
pub(super) fn check_whole(store: &Store, deltas: &[Delta]) -> Result<(), RepositoryError> {
    for delta in deltas {
        if let Some((mode, oid)) = delta.new
            && mode != trees::COMMIT
            && !store.has(oid)
        {
            return Err(store.broken(format!("reading `{}`", shown(&delta.path)), "its content is missing"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_some_system_reads_as_dot_git() {
        for name in [".git", ".GIT", ".Git ", ".git.", "git~1", "GIT~2", ".g\u{200c}it", ".git::$INDEX"] {
            assert!(reads_as_dot_git(name.as_bytes()), "{name:?}");
        }
        for name in [".gitignore", "git", ".github", "gitlab", "git~x", ".gitmodules"] {
            assert!(!reads_as_dot_git(name.as_bytes()), "{name:?}");
        }
    }

    #[test]
    fn links_may_move_about_inside_only() {
        for (path, target) in [("a", "b"), ("d/a", "../b"), ("d/e/a", "../../x/y"), ("a", "./b/c")] {
            assert_eq!(leads_out(path.as_bytes(), target.as_bytes()), None, "{path} → {target}");
        }
        for (path, target) in
            [("a", "/etc/passwd"), ("a", "../b"), ("d/a", "../../b"), ("d/a", "L/../../b"), ("a", ".git/config")]
        {
            assert!(leads_out(path.as_bytes(), target.as_bytes()).is_some(), "{path} → {target}");
        }
    }
}
