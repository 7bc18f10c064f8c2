//! The configuration that holds: blobs of the trusted branch's tip, whatever the head holds. And the commits that a job
//! is about, fetched where a shallow clone lacks them.

use super::settings::Settings;
use super::{blocking, clean};
use crate::cli::Context;
use crate::cli::error::CliError;
use crate::engine::{configuration, fetching};
use crate::model::account::Ending;
use crate::model::ci::{CiJob, Home};
use crate::model::delivery::ChangeSet;
use crate::model::event::EventKind;
use crate::port::checkout::{Checkout, Depth, Fetch, FetchError, Want};
use crate::port::forge::Forge;
use crate::workflow::schema::Library;
use std::sync::Arc;

/// Bytes of a difference that are kept: more than is shown to anybody.
const DIFFERENCE: usize = 32 * 1024 * 1024;
/// How far history is fetched, step by step, to find where a change began.
const DEPTHS: [Depth; 3] = [Depth::Commits(50), Depth::Commits(1000), Depth::Whole];

/// Where configuration is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trusted {
    /// The branch.
    pub branch: String,
    /// The commit that its tip was.
    pub commit: String,
    /// Why it is not certain to be the tip, where it is not.
    pub stale: Option<String>,
}

/// The commits of a job, and how more of them are come by.
#[derive(Clone)]
pub struct Commits {
    /// The checkout.
    pub checkout: Arc<dyn Checkout>,
    home: Home,
    from: Fetch,
    forge: Option<Arc<dyn Forge>>,
    head_ref: Option<String>,
    /// A server fetched what there is: nothing more is to be had from here.
    fetched: bool,
}

impl Commits {
    /// For a job. `forge`: whose login is good, whenever something is fetched; without one, what the job has.
    pub fn new(
        checkout: Arc<dyn Checkout>,
        job: &CiJob,
        settings: &Settings,
        forge: Option<&Arc<dyn Forge>>,
        cx: &Context<'_>,
    ) -> Self {
        let login = match (&settings.token, job.home) {
            (Some(token), Home::Gitlab) => Some(("oauth2".to_owned(), token.clone())),
            (Some(token), _) => Some(("x-access-token".to_owned(), token.clone())),
            // What every job on GitLab may read its own project with.
            (None, Home::Gitlab) => cx
                .world
                .env("CI_JOB_TOKEN")
                .filter(|token| !token.is_empty())
                .map(|token| ("gitlab-ci-token".to_owned(), token.into())),
            (None, _) => None,
        };
        let from = Fetch {
            url: job.git_url.clone(),
            login,
            wants: Vec::new(),
            depth: Depth::Commits(1),
            extra_ca: settings.extra_ca.clone(),
        };
        let fetched = job.served.as_ref().is_some_and(|served| served.asked.is_some());
        Self { checkout, home: job.home, from, forge: forge.cloned(), head_ref: job.head_ref.clone(), fetched }
    }

    /// Whether the checkout's `origin` is the repository that the job belongs to.
    fn origin_is_ours(&self) -> bool {
        match (self.checkout.origin(), &self.from.url) {
            (Some(origin), Some(url)) => same_place(&origin, url),
            (Some(_), None) => true,
            (None, _) => false,
        }
    }

    async fn fetch(&self, wants: Vec<Want>, depth: Depth) -> Result<(), FetchError> {
        if self.fetched {
            return Err(FetchError::NoSuch("the server fetched what there was, and it is not among that".to_owned()));
        }
        let order = Fetch { wants, depth, ..self.from.clone() };
        fetching::fetch(&self.checkout, &order, self.forge.as_deref()).await
    }

    /// The trusted branch's tip. Only where nobody can be asked does what the checkout brought along count, and only if
    /// the checkout is of this repository.
    ///
    /// # Errors
    /// The branch is not known, or its tip cannot be had.
    pub async fn trusted(&self, job: &CiJob, settings: &Settings) -> Result<Trusted, CliError> {
        let named = settings.base_branch.clone().or_else(|| job.default_branch.clone());
        let branch = named.or_else(|| if self.from.url.is_none() { self.checkout.origin_branch() } else { None });
        let Some(branch) = branch else {
            return Err(CliError::usage("nobody says which branch is trusted: its `.codeforge/` is the configuration")
                .hint("name it in CODEFORGE_BASE_BRANCH (the action's input `base-branch`)"));
        };
        let full = format!("refs/heads/{branch}");
        let asked = job.served.as_ref().and_then(|served| served.asked.as_ref());
        if let Some(asked) = asked.filter(|asked| self.checkout.has(&asked.trusted)) {
            return Ok(Trusted { branch, commit: asked.trusted.clone(), stale: None });
        }
        let known = |commit: String, stale: Option<String>| Ok(Trusted { branch: branch.clone(), commit, stale });
        // What happened on the branch itself was its tip then; a rerun comes later.
        let on_it = job.event.change.is_none() && job.event.git_ref.as_deref() == Some(full.as_str());
        if let Some(commit) = job.event.sha.clone().filter(|_| on_it && job.attempt <= 1 && !job.fork)
            && self.checkout.has(&commit)
        {
            return known(commit, None);
        }
        if self.from.url.is_none() && self.checkout.origin().is_none() {
            // No forge and no remote: the branch as it is here.
            return match self.checkout.resolve(&full)? {
                Some(commit) => known(commit, None),
                None => {
                    Err(CliError::usage(format!("there is no branch `{branch}` in {}", self.checkout.root().display()))
                        .hint("name the trusted branch in CODEFORGE_BASE_BRANCH"))
                }
            };
        }
        let want = Want { what: full.clone(), keep_as: "trusted".to_owned() };
        let error = match self.fetch(vec![want], Depth::Commits(1)).await {
            Ok(()) => match self.checkout.resolve("refs/codeforge/ci/trusted")? {
                Some(commit) if self.checkout.has(&commit) => return known(commit, None),
                _ => FetchError::Unreachable(format!("{full} was fetched and is not there (a partial clone?)")),
            },
            Err(error) => error,
        };
        if let FetchError::NoSuch(why) = &error {
            return Err(CliError::usage(clean(&format!("the trusted branch `{branch}` cannot be read: {why}")))
                .hint("name the trusted branch in CODEFORGE_BASE_BRANCH (the action's input `base-branch`)"));
        }
        let brought = format!("refs/remotes/origin/{branch}");
        if self.origin_is_ours()
            && let Some(commit) = self.checkout.resolve(&brought)?.filter(|commit| self.checkout.has(commit))
        {
            return known(commit, Some(clean(&error.to_string())));
        }
        Err(self.cannot(&format!("the trusted branch `{branch}`"), &error))
    }

    /// Makes sure that a commit is here; `git_ref`: where else the forge keeps it.
    ///
    /// # Errors
    /// It cannot be had; says what to do.
    pub async fn have(&self, commit: &str, keep_as: &str, git_ref: Option<&str>) -> Result<(), CliError> {
        let had = match self.fetched && !self.checkout.has(commit) {
            true => self.fetch(Vec::new(), Depth::Commits(1)).await,
            false => {
                fetching::have(&self.checkout, &self.from, self.forge.as_deref(), (commit, git_ref), keep_as).await
            }
        };
        had.map_err(|error| self.cannot(&format!("the commit {commit}"), &error))
    }

    /// The head's commit, here.
    ///
    /// # Errors
    /// As [`Self::have`].
    pub async fn head(&self, head: &str) -> Result<(), CliError> {
        self.have(head, "head", self.head_ref.as_deref()).await
    }

    /// Where a ref is now, asked anew; `None`: it is gone.
    ///
    /// # Errors
    /// Nobody can be asked.
    pub async fn now(&self, git_ref: &str) -> Result<Option<String>, CliError> {
        let want = Want { what: git_ref.to_owned(), keep_as: "now".to_owned() };
        match self.fetch(vec![want], Depth::Commits(1)).await {
            Ok(()) => Ok(self.checkout.resolve("refs/codeforge/ci/now")?),
            Err(FetchError::NoSuch(_)) => Ok(None),
            Err(error) => Err(CliError::new(
                Ending::Unavailable,
                clean(&format!("nobody can say where {git_ref} is now: {error}")),
            )),
        }
    }

    /// Where two commits meet, with as much more history as that takes.
    ///
    /// # Errors
    /// They do not meet, or history cannot be had.
    pub async fn meet(&self, base: &str, head: &str) -> Result<String, CliError> {
        let mut last = None;
        for depth in [None].into_iter().chain(DEPTHS.map(Some)) {
            if let Some(depth) = depth {
                if !self.checkout.is_shallow() {
                    break;
                }
                let want = |what: &str, keep_as: &str| Want { what: what.to_owned(), keep_as: keep_as.to_owned() };
                if let Err(error) = self.fetch(vec![want(base, "base"), want(head, "head")], depth).await {
                    last = Some(error);
                    break;
                }
            }
            if let Some(commit) = self.checkout.meet(base, head)? {
                return Ok(commit);
            }
        }
        Err(match last {
            Some(error) => self.cannot(&format!("the history between {base} and {head}"), &error),
            None => CliError::usage(format!("the commits {base} and {head} have no history in common")),
        })
    }

    /// What the job's change or push is: the difference from where it began. `None`: the event is about none.
    ///
    /// # Errors
    /// A commit cannot be had.
    pub async fn change(&self, job: &CiJob, head: &str, trusted: &Trusted) -> Result<Option<Difference>, CliError> {
        let base = match job.event.kind {
            EventKind::Push => match &job.base {
                // After a force-push the old commit may be gone: then what the branch adds counts.
                Some(before) if self.have(before, "base", None).await.is_ok() => {
                    return self.difference(before.clone(), head).await.map(Some);
                }
                // Nothing is known of what was there before: all of it is new.
                _ if job.event.push.as_ref().is_some_and(|push| push.branch.as_deref() == Some(&trusted.branch)) => {
                    return self.difference(String::new(), head).await.map(Some);
                }
                _ => trusted.commit.clone(),
            },
            // What came in since the last time, where a server remembers that.
            EventKind::Schedule => match job.event.push.as_ref().and_then(|push| push.before.clone()) {
                Some(last) if last != head && self.have(&last, "base", None).await.is_ok() => {
                    return self.difference(last, head).await.map(Some);
                }
                _ => return Ok(None),
            },
            _ if job.event.change.is_some() || job.event.kind == EventKind::MergeGroup => match &job.base {
                Some(base) => base.clone(),
                None => match job.event.change.as_ref().map(|change| change.base.branch.clone()) {
                    Some(branch) if branch != trusted.branch && !branch.is_empty() => self.tip(&branch).await?,
                    _ => trusted.commit.clone(),
                },
            },
            _ => return Ok(None),
        };
        self.have(&base, "base", None).await?;
        self.head(head).await?;
        let meet = self.meet(&base, head).await?;
        self.difference(meet, head).await.map(Some)
    }

    /// The tip of a branch that is trusted with nothing.
    async fn tip(&self, branch: &str) -> Result<String, CliError> {
        let want = Want { what: format!("refs/heads/{branch}"), keep_as: "base".to_owned() };
        let fetched = self.fetch(vec![want], Depth::Commits(1)).await;
        fetched.map_err(|error| self.cannot(&format!("the branch `{branch}`"), &error))?;
        let tip = self.checkout.resolve("refs/codeforge/ci/base")?;
        tip.ok_or_else(|| CliError::new(Ending::Unavailable, format!("the branch `{branch}` cannot be read")))
    }

    /// The difference between a commit that is here and the head.
    ///
    /// # Errors
    /// The head cannot be had.
    pub async fn difference(&self, from: String, head: &str) -> Result<Difference, CliError> {
        self.head(head).await?;
        let checkout = Arc::clone(&self.checkout);
        let head = head.to_owned();
        blocking(move || {
            let changes = checkout.change(&from, &head, DIFFERENCE)?;
            Ok(Difference { from, changes })
        })
        .await
    }

    /// Something that a clone lacks and cannot get.
    fn cannot(&self, what: &str, error: &FetchError) -> CliError {
        let message = clean(&format!("{what} is not in this clone, and cannot be fetched: {error}"));
        let ending = match error {
            FetchError::Unreachable(_) => Ending::Unavailable,
            FetchError::Refused(_) | FetchError::NoSuch(_) => Ending::Misconfigured,
        };
        let told = CliError::new(ending, message);
        let gone = matches!(error, FetchError::NoSuch(_));
        if self.checkout.is_partial() {
            return told.hint("the clone leaves contents of files out: check out without `filter:`");
        }
        match self.home {
            _ if gone => told.hint("it was pushed over since; the newer push has a run of its own"),
            Home::Github => told
                .hint("let the checkout bring it along: `actions/checkout` with `fetch-depth: 0`")
                .hint("or let the job fetch it: `permissions: contents: read`, and the action's input `github-token`"),
            Home::Gitlab => told
                .hint("let the clone bring it along: the variable `GIT_DEPTH: \"0\"`")
                .hint("or give the job a token that may read the project, in CODEFORGE_FORGE_TOKEN"),
            Home::Container => told.hint("clone the repository whole, or give a token in CODEFORGE_FORGE_TOKEN"),
        }
    }
}

/// A difference, and the commit that it starts from.
#[derive(Debug, Clone)]
pub struct Difference {
    /// The commit; empty: it starts from nothing.
    pub from: String,
    /// The difference, whole.
    pub changes: ChangeSet,
}

impl Difference {
    /// The changed paths; of a rename both.
    pub fn paths(&self) -> Vec<String> {
        let files = self.changes.files.iter();
        files.flat_map(|file| file.from.clone().into_iter().chain([file.path.clone()])).collect()
    }
}

/// Loads the configuration of a commit: only blobs of it, and what ships with the program.
///
/// # Errors
/// It cannot be read.
pub async fn library(checkout: &Arc<dyn Checkout>, commit: &str) -> Result<Library, CliError> {
    let reading = Arc::clone(checkout);
    let at = commit.to_owned();
    blocking(move || Ok(configuration::of(&*reading, &at)?)).await
}

/// Whether two addresses lead to one repository, whatever they are spoken to in.
fn same_place(one: &str, other: &str) -> bool {
    let plain = |url: &str| {
        let url = match url.split_once("://") {
            Some((_, rest)) => rest.to_owned(),
            // `git@host:owner/name`
            None => url.replacen(':', "/", 1),
        };
        let url = url.rsplit_once('@').map_or(url.as_str(), |(_, rest)| rest).trim_end_matches('/').to_owned();
        url.trim_end_matches(".git").to_lowercase()
    };
    plain(one) == plain(other)
}

#[cfg(test)]
mod tests {
    use super::same_place;

    #[test]
    fn addresses_of_one_repository() {
        let https = "https://github.com/acme/widgets";
        assert!(same_place("https://x:y@github.com/Acme/widgets.git/", https));
        assert!(same_place("git@github.com:acme/widgets.git", https));
        assert!(same_place("ssh://git@github.com/acme/widgets", https));
        assert!(!same_place("https://github.com/eve/widgets", https));
        assert!(!same_place("https://evil.example/github.com/acme/widgets", https));
    }
}
