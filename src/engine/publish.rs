//! What leaves: checks first, then git, then the forge. One place for deliveries of a laptop, of one step in CI, of a
//! phase of its own, and of a server.
//!
//! Everything is found again by its key: a branch by its name, a change by its branch, a comment by its mark. A
//! branch that somebody else committed to is left alone, and so is a change that somebody closed.

mod asked;
mod checks;
mod issue;
mod put;
mod review;
mod words;

use crate::cassette::Scrub;
use crate::deliver;
use crate::model::delivery::{Delivery, Published};
use crate::model::event::{Change, Event};
use crate::model::finding::Finding;
use crate::model::forge::Right;
use crate::model::id::TreeId;
use crate::model::journal::Base;
use crate::model::plan::{Convention, DeliverKind, ForgeSpec};
use crate::port::forge::{ChangeInfo, ChangeState, Forge, ForgeError, NewChange, Protection, Sticky, Thread};
use crate::port::repository::{Repository, RepositoryError};
use crate::text::{self, Hosts};
use asked::Asked;
use put::Pushed;
use std::sync::Arc;

pub use issue::Keeping;
pub use put::{How, Signing};
pub use words::{KEY_TRAILER, branch_name_fault, of_key};

/// What is missing where a delivery needs a forge and there is none.
pub const NO_FORGE: &str = "this delivery is made by a forge, and none is known: the repository needs a remote `origin` \
    on GitHub or GitLab (on another host, say which in CODEFORGE_FORGE=github|gitlab), and a token is needed in \
    CODEFORGE_FORGE_TOKEN (or GITHUB_TOKEN, GITLAB_TOKEN for their own hosts). Without one, take the change with \
    `--deliver branch` or `--deliver patch`";

/// What is missing where an issue is to be kept by one person's run.
pub const KEPT_BY_CI: &str = "an issue is kept by what runs for everybody, in CI or under `codeforge serve`: by hand deliver \
    `report`, which holds the same";

/// What is to be published, and what about it was decided beforehand.
pub struct Publication<'a> {
    /// What, in which form, under which branch and title.
    pub delivery: &'a Delivery,
    /// What it stands on: `commit` is what the forge has.
    pub base: &'a Base,
    /// What happened: where a comment goes, and which change is pushed to.
    pub event: &'a Event,
    /// For a review.
    pub findings: &'a [Finding],
    /// The change's description: Markdown, made by us.
    pub body: &'a str,
    /// The comment, where there is to be one; for `comment`, `body` otherwise.
    pub comment: Option<&'a str>,
    /// What the comment remembers: one hidden line of ours, laid beside the words and never found in them.
    pub memory: Option<&'a str>,
    /// What is to be known of the issue, for `issue`.
    pub issue: Option<Keeping<'a>>,
    /// What it is found again by: from the trigger, the same on every attempt.
    pub key: &'a str,
    /// Whether a change begins as a draft.
    pub draft: bool,
    /// Whether every required gate passed on it: such a change may be ready at once.
    pub passed: bool,
    /// What else is asked for.
    pub asked: &'a ForgeSpec,
    /// How its commit is signed.
    pub signing: &'a Signing,
    /// Labels of the change.
    pub labels: &'a [String],
    /// Who is asked for a review.
    pub reviewers: &'a [String],
    /// The branch that a change is to go to; `None`: that of the event's change it stands on, else the default branch.
    pub target: Option<&'a str>,
    /// What names of our branches begin with (`codeforge/`).
    pub prefix: &'a str,
    /// How many open changes of our branches there may be; `None`: any number.
    pub most_open: Option<u32>,
    /// Values that must not leave.
    pub secrets: &'a [String],
    /// Hosts, beside the forge's own, that links in our text may lead to.
    pub hosts: &'a [String],
}

/// Why nothing, or not all, was published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// It must not be: said why, and what to do.
    #[error("{0}")]
    Refused(String),
    /// It cannot be, as it is asked for: the operator's to mend.
    #[error("{0}")]
    Misuse(String),
    /// The world moved meanwhile: nothing was written.
    #[error("{0}")]
    Moved(String),
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The forge.
    #[error("nothing more was published: {0}")]
    Forge(#[from] ForgeError),
}

/// Publishes.
///
/// # Errors
/// [`PublishError`]. What was done before it is found again when it is published once more.
pub async fn publish(
    forge: &dyn Forge,
    repository: Arc<dyn Repository>,
    publication: &Publication<'_>,
) -> Result<Published, PublishError> {
    let mut hosts = Hosts::of(publication.hosts);
    hosts.add(forge.host());
    let title = text::neutral_plain(&publication.delivery.title).replace('\n', " ").trim().to_owned();
    let scrub = Scrub::new(publication.secrets);
    let mut work = Work { forge, repository, publication, hosts, scrub, title, told: Vec::new() };
    work.check_words()?;
    work.not_ignored().await?;
    work.title_by_convention().await?;
    match publication.delivery.kind {
        DeliverKind::PullRequest => work.change().await,
        DeliverKind::Branch => work.branch().await,
        DeliverKind::PushToBranch => work.push_to_branch().await,
        DeliverKind::Comment => work.comment().await,
        DeliverKind::Review => work.review().await,
        DeliverKind::Issue => work.issue().await,
        DeliverKind::None | DeliverKind::Patch | DeliverKind::CommitLocal | DeliverKind::Report => {
            Err(PublishError::Misuse("a delivery of this form does not need a forge".to_owned()))
        }
    }
}

struct Work<'a> {
    forge: &'a dyn Forge,
    repository: Arc<dyn Repository>,
    publication: &'a Publication<'a>,
    hosts: Hosts,
    scrub: Scrub,
    /// The title, as the repository writes titles; it acts on nobody.
    title: String,
    /// What could not be done before the first write, in sentences.
    told: Vec<String>,
}

impl Work<'_> {
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Repository) -> Result<T, RepositoryError> + Send + 'static,
    ) -> Result<T, PublishError> {
        let repository = Arc::clone(&self.repository);
        match tokio::task::spawn_blocking(move || work(&*repository)).await {
            Ok(done) => Ok(done?),
            Err(error) => Err(PublishError::Repository(RepositoryError::Broken {
                doing: "publishing".to_owned(),
                message: format!("an internal error: {error}; please report it"),
            })),
        }
    }

    fn is_empty(&self) -> bool {
        same_tree(&self.publication.delivery.base, &self.publication.delivery.tree)
    }

    async fn branch(&mut self) -> Result<Published, PublishError> {
        if self.is_empty() {
            return Ok(nothing());
        }
        self.not_from_a_fork()?;
        self.still_wanted().await?;
        let branch = &self.our_branch()?.to_owned();
        self.not_the_default(branch).await?;
        self.told.extend(self.unseen().await?.map(|(_, plain)| plain));
        Ok(match self.push_ours(branch).await? {
            Pushed::LeftClosed(info) => self.left_closed(&info),
            Pushed::At { commit, fresh, .. } => Published {
                branch: Some(branch.to_owned()),
                commit: Some(commit),
                told: [said_of_branch(branch, fresh)].into_iter().chain(self.told.iter().cloned()).collect(),
                ..Published::default()
            },
        })
    }

    async fn change(&mut self) -> Result<Published, PublishError> {
        if self.is_empty() {
            return Ok(nothing());
        }
        let p = self.publication;
        self.not_from_a_fork()?;
        let branch = &self.our_branch()?.to_owned();
        let default = self.not_the_default(branch).await?;
        self.still_wanted().await?;
        let target = match (p.target, &p.event.change) {
            (Some(target), _) => target.to_owned(),
            // What stands on a change's head goes to that change's branch.
            (None, Some(change)) if !change.is_fork() && change.head.sha == p.base.commit => change.head.branch.clone(),
            (None, _) => default,
        };
        if target == *branch {
            return Err(PublishError::Misuse(format!("nothing was pushed: `{branch}` cannot be proposed to itself")));
        }
        let _alone = self.room_for(branch).await?;
        let (reviewers, mut unasked) = self.reviewers(&target).await?;
        let (commit, fresh, open) = match self.push_ours(branch).await? {
            Pushed::LeftClosed(info) => return Ok(self.left_closed(&info)),
            Pushed::At { commit, fresh, open } => (commit, fresh, open),
        };
        let mark = text::marker(p.key, branch, None);
        let most = self.forge.capabilities().comment_chars;
        let mut words = self.markdown(p.body);
        if let Ok(Right::No(what)) = self.forge.starts_checks().await {
            words.push_str(&format!("\n\n> **Checks do not start by themselves here.** {what}"));
            unasked.push(format!("checks do not start by themselves: {what}"));
        }
        if let Some((markdown, plain)) = self.unseen().await? {
            // First: what is too long for the forge is cut at its end.
            words = format!("> {markdown}\n\n{words}");
            unasked.push(plain);
        }
        let remembering = |asked: &Asked| bounded(&format!("{mark}\n{}{words}", asked.line()), most);
        let ready = p.asked.ready_when_passed && p.passed;
        let mut new = NewChange {
            head: branch.to_owned(),
            base: target,
            title: self.title.clone(),
            body: String::new(),
            draft: p.draft && !ready,
            labels: p.labels.to_vec(),
            reviewers,
            assignees: p.asked.assignees.clone(),
            milestone: p.asked.milestone.clone(),
        };
        let wanted = Asked::of(&new);
        // What is remembered is what was set: who is cut off before that sets it the next time.
        new.body = remembering(&Asked::default());
        if let Some(open) = &open {
            let taken = wanted.taken_away(&Asked::remembered(&open.change.body, p.key, branch), open);
            if taken != Asked::default() {
                unasked.push(format!("was set before, is there no more, and stays away: {}", taken.words()));
                wanted.without(&taken).ask(&mut new);
            }
        }
        let (info, mut told) = self.forge.open_change(&new).await?;
        // What could not be set is asked for again the next time.
        let body = remembering(&wanted.without(&Asked::of(&new).without(&Asked::on(&info))));
        told.insert(0, said_of_branch(branch, fresh));
        told.extend(self.told.iter().cloned().chain(unasked));
        if info.change.body.trim() != body.trim() {
            if text::is_marked(&info.change.body, p.key, branch, None) {
                self.forge.update_body(info.change.number, &body).await?;
                if open.is_some() {
                    told.push(format!("the {} was brought up to date", self.forge.kind().change_word()));
                }
            } else {
                told.push("its description is somebody else's and was left as it is".to_owned());
            }
        }
        // What was a draft because gates had failed is none once they pass; only where this run pushed something.
        if ready && fresh && info.change.draft {
            match self.forge.make_ready(info.change.number).await {
                Ok(()) => told.push("every required gate passed: it is ready for review".to_owned()),
                Err(error) => told.push(format!("it stays a draft: {error}")),
            }
        }
        if let Some(comment) = p.comment {
            self.stick(Thread::Change(info.change.number), comment).await?;
        }
        Ok(Published {
            branch: Some(branch.to_owned()),
            commit: Some(commit),
            url: info.change.url,
            number: Some(info.change.number),
            told,
        })
    }

    /// Who is asked for a review: those who are named, and the code owners of what changes, as the branch that the
    /// change goes to names them.
    async fn reviewers(&self, target: &str) -> Result<(Vec<String>, Vec<String>), PublishError> {
        /// Code owners that are asked at most.
        const MOST: usize = 5;
        let p = self.publication;
        let mut reviewers = p.reviewers.to_vec();
        if !p.asked.codeowners {
            return Ok((reviewers, Vec::new()));
        }
        let Some(tip) = self.forge.tip(target).await? else {
            return Ok((reviewers, vec![format!("there is no branch `{target}`")]));
        };
        let Some(dialect) = deliver::Dialect::of(self.forge.kind()) else { return Ok((reviewers, Vec::new())) };
        for place in dialect.places() {
            let Some(file) = self.forge.file_at(&tip, place).await? else { continue };
            if file.len() > deliver::CODEOWNERS_LARGEST {
                return Ok((reviewers, vec![format!("`{place}` is too large: no code owner was asked for a review")]));
            }
            let found = deliver::owners(&String::from_utf8_lossy(&file), dialect, &self.paths().await?);
            let own = self.forge.own_account().await?;
            let mut not: Vec<&str> = reviewers.iter().map(String::as_str).collect();
            not.extend(p.event.actor.as_deref().into_iter().chain(own.as_deref()));
            let (asked, told) = deliver::reviewers(&found, dialect, &not, MOST);
            reviewers.extend(asked);
            return Ok((reviewers, told));
        }
        Ok((reviewers, vec!["the repository has no CODEOWNERS: nobody was asked for a review by it".to_owned()]))
    }

    /// The paths that change.
    async fn paths(&self) -> Result<Vec<String>, PublishError> {
        let (from, to) = (self.publication.delivery.base.clone(), self.publication.delivery.tree.clone());
        self.blocking(move |repository| repository.diff(&from, &to, 1)).await.map(super::convention::paths)
    }

    /// The title as the repository writes its titles.
    async fn title_by_convention(&mut self) -> Result<(), PublishError> {
        let p = self.publication;
        let committed =
            matches!(p.delivery.kind, DeliverKind::PullRequest | DeliverKind::Branch | DeliverKind::PushToBranch);
        if !committed || self.is_empty() || p.asked.convention == Convention::AsWritten {
            return Ok(());
        }
        let named = p.target.map(str::to_owned).or_else(|| {
            let change = p.event.change.as_ref()?;
            Some(change.base.branch.clone()).filter(|branch| !branch.is_empty())
        });
        let subjects = match named {
            Some(branch) => self.forge.subjects(&branch, deliver::LOOKED_AT).await,
            None => match self.forge.default_branch().await {
                Ok(branch) => self.forge.subjects(&branch, deliver::LOOKED_AT).await,
                Err(error) => Err(error),
            },
        };
        let subjects = match subjects {
            Ok(subjects) => subjects,
            // How others write is no reason to write nothing.
            Err(error) => {
                self.told.push(format!("the repository's convention for titles is not known: {error}"));
                return Ok(());
            }
        };
        let style = deliver::style(p.asked.convention, &subjects);
        let paths = self.paths().await?;
        let workflow = p.key.split('/').next().unwrap_or_default();
        let titled = deliver::titled(&self.title, &style, &deliver::Hint { workflow, paths: &paths });
        self.title = text::neutral_plain(&titled);
        Ok(())
    }

    fn left_closed(&self, info: &ChangeInfo) -> Published {
        let word = self.forge.kind().change_word();
        let number = info.change.number;
        Published {
            url: info.change.url.clone(),
            number: Some(number),
            told: vec![format!(
                "{word} {number} of this branch was closed by somebody, and stays closed: nothing was pushed. Reopen it, \
                 or delete its branch and give the run another `deliver.branch`, to have the change proposed again"
            )],
            ..Published::default()
        }
    }

    fn event_change(&self, what: &str) -> Result<&Change, PublishError> {
        self.publication.event.change.as_ref().ok_or_else(|| {
            PublishError::Misuse(format!(
                "nothing was published: `{what}` needs an event about a pull or merge request, and this run's is `{}`; \
                 start it from one, or deliver `pull_request`",
                self.publication.event.kind.as_str()
            ))
        })
    }

    /// The event's change as the forge has it now, whose head must be the commit that the run saw.
    async fn pinned(&self, what: &str) -> Result<(ChangeInfo, String), PublishError> {
        let told = self.event_change(what)?;
        let Some(pinned) = told.head.sha.clone() else {
            return Err(PublishError::Refused(format!(
                "nothing was published: the event does not say which commit change {} was at",
                told.number
            )));
        };
        let now = self.forge.change(told.number).await?;
        if now.state != ChangeState::Open {
            return Err(PublishError::Moved(format!(
                "nothing was published: change {} is no longer open",
                told.number
            )));
        }
        Ok((now, pinned))
    }

    async fn push_to_branch(&mut self) -> Result<Published, PublishError> {
        if self.is_empty() {
            return Ok(nothing());
        }
        let p = self.publication;
        let (now, pinned) = self.pinned("push-to-branch").await?;
        let change = &now.change;
        let (number, branch) = (change.number, change.head.branch.as_str());
        let told = self.event_change("push-to-branch")?;
        if told.is_fork() || change.is_fork() {
            return Err(PublishError::Refused(format!(
                "nothing was pushed: change {number} comes from a fork, whose branch is its owner's. Deliver `comment` or \
                 `patch` for forks"
            )));
        }
        if p.base.commit.as_deref() != Some(pinned.as_str()) {
            return Err(PublishError::Refused(format!(
                "nothing was pushed: the run stands on another commit than the head of change {number} that started it"
            )));
        }
        if branch_name_fault(branch).is_some() || branch != told.head.branch {
            return Err(PublishError::Refused(format!("nothing was pushed: change {number} is of another branch now")));
        }
        self.not_the_default(branch).await?;
        match self.forge.protection(branch).await? {
            Protection::Open => {}
            Protection::Missing => {
                return Err(PublishError::Moved(format!("nothing was pushed: the branch `{branch}` is gone")));
            }
            Protection::Protected(why) => {
                return Err(PublishError::Refused(format!(
                    "nothing was pushed: `{branch}` is not to be pushed to: {why}. Deliver `pull_request`, which proposes \
                     the change instead"
                )));
            }
        }
        self.told.extend(self.unseen().await?.map(|(_, plain)| plain));
        let (commit, fresh) = self.push_on(branch, &pinned).await?;
        Ok(Published {
            branch: Some(branch.to_owned()),
            commit: Some(commit),
            url: change.url.clone(),
            number: Some(number),
            told: [said_of_branch(branch, fresh)].into_iter().chain(self.told.iter().cloned()).collect(),
        })
    }

    fn markdown(&self, body: &str) -> String {
        text::neutral(body, &self.hosts)
    }

    async fn stick(&self, thread: Thread, body: &str) -> Result<Option<String>, PublishError> {
        let body = self.fitting(body);
        let Publication { key, memory, .. } = *self.publication;
        let stuck = self.forge.stick(&Sticky { thread, key, body: &body, memory }).await?;
        Ok(stuck.comment.url)
    }

    /// Our text as it can stand below a mark and a memory.
    fn fitting(&self, body: &str) -> String {
        let most = self.forge.capabilities().comment_chars;
        let room = most.saturating_sub(800 + self.publication.memory.map_or(0, |memory| memory.chars().count()));
        bounded(&self.markdown(body), room)
    }

    async fn comment(&self) -> Result<Published, PublishError> {
        let p = self.publication;
        let thread = match (&p.event.change, &p.event.issue) {
            (Some(change), _) => Thread::Change(change.number),
            (None, Some(issue)) => Thread::Issue(issue.number),
            (None, None) => {
                return Err(PublishError::Misuse(format!(
                    "nothing was published: `comment` needs an event about a change or an issue, and this run's is `{}`",
                    p.event.kind.as_str()
                )));
            }
        };
        let url = self.stick(thread, p.comment.unwrap_or(p.body)).await?;
        let number = match thread {
            Thread::Change(number) | Thread::Issue(number) => Some(number),
        };
        Ok(Published { url, number, told: vec!["the comment says it".to_owned()], ..Published::default() })
    }
}

fn same_tree(a: &TreeId, b: &TreeId) -> bool {
    a.as_str() == b.as_str()
}

fn nothing() -> Published {
    Published { told: vec!["there was nothing to publish".to_owned()], ..Published::default() }
}

fn said_of_branch(branch: &str, fresh: bool) -> String {
    if fresh { format!("pushed to `{branch}`") } else { format!("`{branch}` holds it already") }
}

/// A text within a forge's limit: cut at its end, and said so.
fn bounded(text: &str, most: usize) -> String {
    const CUT: &str = "\n\n… the rest is in the run's report.";
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(CUT.chars().count() + 8)).collect();
    // A fence that was cut open would swallow the note.
    let fence =
        if kept.lines().filter(|line| line.trim_start().starts_with("```")).count() % 2 == 1 { "\n```" } else { "" };
    format!("{kept}{fence}{CUT}")
}
