//! How commits get onto branches: made and signed here and pushed, or made and signed by the forge.

use super::{PublishError, Work, words};
use crate::model::delivery::Delivery;
use crate::port::forge::{ChangeInfo, ChangeState, ForgeError, NewCommit};
use crate::port::repository::{HeadChange, RepositoryError, Signer};
use crate::text;

/// The most that a forge is sent as one commit, in bytes of content: it travels as base64 in one JSON text, which is a
/// third more.
///
/// GitHub documents no size that `createCommitOnBranch` takes: its reference says nothing of one (the mutation, and its
/// inputs `FileChanges` and `FileAddition`), and its limits of GraphQL only that a request is ended that takes it longer
/// than 10 s (docs.github.com/graphql/overview/rate-limits-and-query-limits-for-the-graphql-api; both read in 2026).
/// Others have measured that contents of 40 MiB fail (grafana/github-api-commit-action, pull request 66). So this is our
/// own bound, well below that: what is more is told before it is sent.
const FORGE_BYTES: usize = 24 * 1024 * 1024;
/// Git's mode of a plain file.
const PLAIN: u32 = 0o100_644;

/// How commits are signed: said by whoever delivers, never by the repository.
#[derive(Debug, Clone, Default)]
pub struct Signing {
    /// By whom.
    pub how: How,
    /// Whether a commit that cannot be signed is published unsigned; else nothing is published then.
    pub or_not: bool,
}

/// Who signs commits.
#[derive(Debug, Clone, Default)]
pub enum How {
    /// Nobody.
    #[default]
    Not,
    /// We, with a key.
    By(Signer),
    /// The forge, as the account of the token: it makes the commit.
    Forge,
}

/// What a push came to.
pub(super) enum Pushed {
    /// The branch holds the commit; the commit was there already, or not; and the open change of the branch.
    At { commit: String, fresh: bool, open: Option<ChangeInfo> },
    /// A change of the branch was closed by somebody.
    LeftClosed(ChangeInfo),
}

impl Work<'_> {
    /// The delivery as it is committed: its words act on nobody, and say which key they belong to.
    fn delivery(&self) -> Delivery {
        let p = self.publication;
        let body = text::neutral_plain(p.delivery.body.trim());
        let gap = if body.is_empty() { "" } else { "\n\n" };
        let trailers = words::trailers(&p.delivery.author, p.asked, p.key);
        Delivery { title: self.title.clone(), body: format!("{body}{gap}{trailers}"), ..p.delivery.clone() }
    }

    /// Commits that the remote has, so that nothing is sent that is there.
    async fn known(&self, parent: &str) -> Result<Vec<String>, PublishError> {
        match self.forge.commit(parent).await {
            Ok(_) => Ok(vec![parent.to_owned()]),
            Err(ForgeError::NotFound { .. } | ForgeError::Contract { .. }) => {
                Ok(self.forge.remote().refs("refs/heads/").await?.into_iter().map(|(_, id)| id).collect())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn parent(&self) -> Result<String, PublishError> {
        self.publication.base.commit.clone().ok_or_else(|| {
            PublishError::Refused("nothing was pushed: the run began in a repository without a commit".to_owned())
        })
    }

    /// Makes the commit here, signed where that is asked for.
    async fn commit(&mut self) -> Result<String, PublishError> {
        let signer = match &self.publication.signing.how {
            How::By(signer) => Some(signer.clone()),
            How::Not | How::Forge => None,
        };
        let make = |signer: Option<Signer>| {
            let (base, delivery) = (self.publication.base.clone(), self.delivery());
            self.blocking(move |repository| repository.commit(&base, &delivery, signer.as_ref()))
        };
        match make(signer).await {
            Err(PublishError::Repository(RepositoryError::Unsigned(why))) if self.publication.signing.or_not => {
                let made = make(None).await?;
                self.told.push(format!("the commit is not signed: {}", why.trim_start_matches("nothing was pushed: ")));
                Ok(made)
            }
            made => made,
        }
    }

    async fn send(&self, branch: &str, old: Option<&str>, commit: &str) -> Result<(), PublishError> {
        let known = self.known(&self.parent()?).await?;
        let packed = commit.to_owned();
        let pack = self.blocking(move |repository| repository.pack(&packed, &known)).await?;
        match self.forge.remote().push(&format!("refs/heads/{branch}"), old, commit, pack).await {
            Err(ForgeError::Moved { message, .. }) => Err(PublishError::Moved(format!(
                "nothing was pushed: `{branch}` changed in this moment ({message}); run again"
            ))),
            done => Ok(done?),
        }
    }

    async fn tip(&self, branch: &str) -> Result<Option<String>, PublishError> {
        let full = format!("refs/heads/{branch}");
        Ok(self.forge.remote().refs(&full).await?.into_iter().find(|(name, _)| *name == full).map(|(_, id)| id))
    }

    /// Pushes our own branch.
    pub(super) async fn push_ours(&mut self, branch: &str) -> Result<Pushed, PublishError> {
        let changes = self.forge.changes_of_branch(branch).await?;
        let open = changes.iter().find(|info| info.state == ChangeState::Open).cloned();
        if let (None, Some(latest)) = (&open, changes.first())
            && latest.state == ChangeState::Closed
        {
            return Ok(Pushed::LeftClosed(latest.clone()));
        }
        self.check_change().await?;
        if let Some(change) = self.for_the_forge().await? {
            let (commit, fresh) = self.by_forge(branch, &change).await?;
            return Ok(Pushed::At { commit, fresh, open });
        }
        let commit = self.commit().await?;
        let tip = self.tip(branch).await?;
        match &tip {
            Some(tip) if *tip == commit => return Ok(Pushed::At { commit, fresh: false, open }),
            Some(tip) => self.only_ours(branch, tip).await?,
            None => {}
        }
        self.send(branch, tip.as_deref(), &commit).await?;
        Ok(Pushed::At { commit, fresh: true, open })
    }

    /// Pushes on top of a branch that is somebody else's and that is at `pinned`.
    pub(super) async fn push_on(&mut self, branch: &str, pinned: &str) -> Result<(String, bool), PublishError> {
        let moved = || {
            PublishError::Moved(format!(
                "nothing was pushed: `{branch}` was pushed to after the run began (it was at {pinned}); start the run \
                 again"
            ))
        };
        self.check_change().await?;
        if let Some(change) = self.for_the_forge().await? {
            let tip = self.tip(branch).await?.ok_or_else(moved)?;
            if tip == pinned {
                return Ok((self.made_by_forge(branch, pinned, &change).await?, true));
            }
            return if self.is_it(&tip, pinned, &change).await? { Ok((tip, false)) } else { Err(moved()) };
        }
        let commit = self.commit().await?;
        match self.tip(branch).await? {
            Some(tip) if tip == commit => Ok((commit, false)),
            Some(tip) if tip == pinned => {
                self.send(branch, Some(pinned), &commit).await?;
                Ok((commit, true))
            }
            _ => Err(moved()),
        }
    }

    /// The change as the forge is to commit it; `None`: we commit it ourselves.
    ///
    /// # Errors
    /// The forge is to sign it, and cannot.
    async fn for_the_forge(&mut self) -> Result<Option<HeadChange>, PublishError> {
        if !matches!(self.publication.signing.how, How::Forge) {
            return Ok(None);
        }
        let (base, delivery) = (self.publication.base.clone(), self.delivery());
        let change = self.blocking(move |repository| repository.change_on_head(&base, &delivery)).await?;
        let mut why = cannot_carry(&change);
        if why.is_none() {
            why = match self.forge.commit(&self.parent()?).await {
                Ok(_) => None,
                Err(ForgeError::NotFound { .. } | ForgeError::Contract { .. }) => {
                    Some("the commit that it stands on is not there yet".to_owned())
                }
                Err(error) => return Err(error.into()),
            };
        }
        match why {
            None => Ok(Some(change)),
            Some(why) if self.publication.signing.or_not => {
                self.told
                    .push(format!("the commit is not signed: {} cannot make it: {why}", self.forge.kind().as_str()));
                Ok(None)
            }
            Some(why) => Err(PublishError::Refused(format!(
                "nothing was pushed: commits are signed by {} here, which cannot make this one: {why}. Sign with a key of \
                 your own (CODEFORGE_SIGNING=ssh), or allow it unsigned (CODEFORGE_SIGNING_FALLBACK=unsigned)",
                self.forge.kind().as_str()
            ))),
        }
    }

    /// Our own branch with a commit that the forge makes: the branch is put to where the commit stands, then committed
    /// to.
    async fn by_forge(&mut self, branch: &str, change: &HeadChange) -> Result<(String, bool), PublishError> {
        let parent = self.parent()?;
        let tip = self.tip(branch).await?;
        if let Some(tip) = tip.as_deref().filter(|tip| *tip != parent) {
            self.only_ours(branch, tip).await?;
            if self.is_it(tip, &parent, change).await? {
                return Ok((tip.to_owned(), false));
            }
        }
        if tip.as_deref() != Some(&parent) {
            self.send(branch, tip.as_deref(), &parent).await?;
        }
        Ok((self.made_by_forge(branch, &parent, change).await?, true))
    }

    /// Whether a commit is just this change, on that parent.
    async fn is_it(&self, id: &str, parent: &str, change: &HeadChange) -> Result<bool, PublishError> {
        let there = self.forge.commit(id).await?;
        Ok(there.parents == [parent]
            && there.tree.as_deref() == Some(&change.tree)
            && words::has_key(&there.message, self.publication.key))
    }

    async fn made_by_forge(&self, branch: &str, parent: &str, change: &HeadChange) -> Result<String, PublishError> {
        let delivery = self.delivery();
        let (gone, there): (Vec<_>, Vec<_>) = change.files.iter().partition(|file| file.mode.is_none());
        let additions: Vec<_> = there.into_iter().map(|file| (file.path.clone(), file.content.clone())).collect();
        let deletions: Vec<_> = gone.into_iter().map(|file| file.path.clone()).collect();
        let new = NewCommit {
            branch,
            parent,
            title: &delivery.title,
            body: &delivery.body,
            additions: &additions,
            deletions: &deletions,
        };
        match self.forge.commit_on_branch(&new).await {
            Ok(commit) => Ok(commit),
            // Its answer may have been lost.
            Err(error @ (ForgeError::Moved { .. } | ForgeError::Contract { .. })) => match self.tip(branch).await? {
                Some(tip) if tip != parent && self.is_it(&tip, parent, change).await? => Ok(tip),
                _ => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Refuses a branch whose last commit is somebody else's.
    async fn only_ours(&self, branch: &str, tip: &str) -> Result<(), PublishError> {
        let p = self.publication;
        // Left by a run that ended between the branch and its commit: nobody's work is on it.
        if p.base.commit.as_deref() == Some(tip) {
            return Ok(());
        }
        let there = self.forge.commit(tip).await?;
        let address = &p.delivery.author.1;
        let by_us = there.committer.eq_ignore_ascii_case(address) && there.author.eq_ignore_ascii_case(address);
        // The forge's own commits are by the account of the token, and it vouches for them.
        let account = |own: Option<String>| own.is_some() && own == there.account;
        let ours = words::has_key(&there.message, p.key)
            && (by_us || there.verified && account(self.forge.own_account().await?));
        if ours {
            return Ok(());
        }
        let short: String = tip.chars().take(10).collect();
        Err(PublishError::Refused(format!(
            "nothing was pushed: somebody else committed to `{branch}` ({short}), and their work is not overwritten. \
             Merge or take over what is there, then delete the branch, or give this run another `deliver.branch`"
        )))
    }
}

/// Why a forge cannot make the commit.
fn cannot_carry(change: &HeadChange) -> Option<String> {
    let shown = |path: &str| text::clean(path);
    for file in &change.files {
        match file.mode {
            _ if !file.named => return Some(format!("the name of `{}` is not UTF-8", shown(&file.path))),
            None | Some(PLAIN) => {}
            Some(0o100_755) => return Some(format!("`{}` is executable, which it has no word for", shown(&file.path))),
            Some(_) => return Some(format!("`{}` is a link, which it has no word for", shown(&file.path))),
        }
    }
    let bytes: usize = change.files.iter().map(|file| file.content.len()).sum();
    (bytes > FORGE_BYTES)
        .then(|| format!("its files have {bytes} bytes, and we send at most {FORGE_BYTES} in such a request"))
}
