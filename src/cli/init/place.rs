//! Where the repository is at home.

use super::CliError;
use crate::cli::Context;
use std::path::Path;

/// Paths that are listed, at most.
const MOST: usize = 50_000;
/// The largest file that is read.
const LARGEST: u64 = 2 * 1024 * 1024;

/// What the remote and the files say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    /// `owner/name`.
    pub(crate) repository: Option<String>,
    /// The default branch.
    pub(crate) branch: String,
    /// GitHub's, or there is a folder for its workflows.
    pub(crate) github: bool,
    /// GitLab's, or there is a pipeline for it.
    pub(crate) gitlab: bool,
}

impl Place {
    /// Looks at `origin` and at the CI files that are there.
    pub(crate) fn find(root: &Path, cx: &Context<'_>) -> Result<Self, CliError> {
        let checkout = cx.world.checkout(root)?;
        let origin = checkout.origin();
        let repository = origin.as_deref().and_then(owner_and_name);
        let host = origin.as_deref().and_then(host).unwrap_or_default();
        let mut place = Self {
            repository,
            branch: checkout.origin_branch().or_else(|| local_branch(root)).unwrap_or_else(|| "main".to_owned()),
            github: host == "github.com" || host.starts_with("github."),
            gitlab: host.contains("gitlab"),
        };
        if !place.github && !place.gitlab {
            place.github = root.join(".github").is_dir();
            place.gitlab = root.join(".gitlab-ci.yml").is_file();
        }
        // A repository of its own on GitHub is what most people have who have neither.
        if !place.github && !place.gitlab && origin.is_none() {
            place.github = true;
        }
        Ok(place)
    }
}

/// The branch that is checked out.
fn local_branch(root: &Path) -> Option<String> {
    let head = std::fs::read_to_string(root.join(".git/HEAD")).ok()?;
    head.trim().strip_prefix("ref: refs/heads/").map(str::to_owned)
}

/// The host of a remote's address.
pub(crate) fn host(url: &str) -> Option<String> {
    let rest = match url.split_once("://") {
        Some((_, rest)) => rest,
        None => {
            url.split_once(':').filter(|(host, _)| host.contains('@') || host.contains('.')).map(|(host, _)| host)?
        }
    };
    let host = rest.split('/').next()?.rsplit('@').next()?.split(':').next()?;
    (!host.is_empty()).then(|| host.to_ascii_lowercase())
}

/// `owner/name` of a remote's address, or GitLab's whole path.
pub(crate) fn owner_and_name(url: &str) -> Option<String> {
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.split_once('/')?.1,
        None => url.split_once(':')?.1,
    };
    let path = path.trim_matches('/').trim_end_matches(".git");
    let fits =
        path.contains('/') && path.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.'));
    fits.then(|| path.to_owned())
}

/// The CI files of a repository that a workflow could be started by: path and text.
pub(crate) fn pipelines(root: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if let Ok(entries) = std::fs::read_dir(root.join(".github/workflows")) {
        let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        for name in names.iter().filter(|name| name.ends_with(".yml") || name.ends_with(".yaml")) {
            let path = format!(".github/workflows/{name}");
            found.extend(text(root, &path).map(|text| (path, text)));
        }
    }
    found.extend(text(root, ".gitlab-ci.yml").map(|text| (".gitlab-ci.yml".to_owned(), text)));
    found
}

/// All files that are not ignored, sorted, with `/`.
pub(super) fn listing(root: &Path) -> Result<Vec<String>, CliError> {
    let mut paths = Vec::new();
    let walk = ignore::WalkBuilder::new(root)
        .hidden(false)
        .follow_links(false)
        .filter_entry(|entry| entry.file_name() != ".git")
        .build();
    for entry in walk.flatten().filter(|entry| entry.file_type().is_some_and(|kind| kind.is_file())) {
        if let Ok(path) = entry.path().strip_prefix(root)
            // A name with a line's end in it could say more than a name where it is written down.
            && let Some(path) = path.to_str().filter(|path| !path.chars().any(char::is_control))
        {
            paths.push(path.to_owned());
        }
        if paths.len() >= MOST {
            break;
        }
    }
    paths.sort();
    Ok(paths)
}

/// The text of a file of the repository; not through links, and not of a large one.
pub(super) fn text(root: &Path, path: &str) -> Option<String> {
    let full = root.join(path);
    let facts = std::fs::symlink_metadata(&full).ok()?;
    if !facts.is_file() || facts.len() > LARGEST {
        return None;
    }
    std::fs::read_to_string(full).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_says_whose_it_is() {
        for (url, whose, at) in [
            ("https://github.com/acme/widgets.git", Some("acme/widgets"), Some("github.com")),
            ("git@github.com:acme/widgets.git", Some("acme/widgets"), Some("github.com")),
            ("ssh://git@gitlab.example.com:2222/a/b/c", Some("a/b/c"), Some("gitlab.example.com")),
            ("https://x:secret@host/a/b", Some("a/b"), Some("host")),
            ("/srv/git/widgets.git", None, None),
            ("https://host/a/$(id)", None, Some("host")),
        ] {
            assert_eq!((owner_and_name(url).as_deref(), host(url).as_deref()), (whose, at), "{url}");
        }
    }
}
