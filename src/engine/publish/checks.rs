//! What is looked at before anything leaves: secrets, hidden characters, whose branch it is, whether it is still wanted.

use super::{PublishError, Work, branch_name_fault};
use crate::deliver;
use crate::gate;
use crate::model::event::Event;
use crate::port::forge::Alone;
use crate::text;

impl Work<'_> {
    /// No secret in anything that is said.
    pub(super) fn check_words(&self) -> Result<(), PublishError> {
        let p = self.publication;
        let mut said = vec![
            ("title", p.delivery.title.as_str()),
            ("body", p.body),
            ("commit message", p.delivery.body.as_str()),
            ("branch's name", p.delivery.branch.as_deref().unwrap_or_default()),
            ("comment", p.comment.unwrap_or_default()),
            ("comment's memory", p.memory.unwrap_or_default()),
            ("issue's last word", p.issue.map(|issue| issue.last_word).unwrap_or_default()),
        ];
        for finding in p.findings {
            said.push(("finding's text", &finding.what));
            said.push(("finding's suggestion", finding.suggestion.as_deref().unwrap_or_default()));
            said.push(("finding's place", &finding.file));
        }
        for label in p.labels {
            said.push(("label", label));
        }
        for (what, text) in said {
            self.clear(what, text)?;
        }
        Ok(())
    }

    pub(super) fn clear(&self, what: &str, text: &str) -> Result<(), PublishError> {
        // Hidden characters between the letters do not hide a secret.
        if self.scrub.found_in(text) || self.scrub.found_in(&text::invisible(text)) {
            return Err(PublishError::Refused(format!(
                "nothing was published: the {what} contains a secret of this environment, plain or encoded; look at \
                 the run with `codeforge runs show`, and change the secret"
            )));
        }
        Ok(())
    }

    /// No secret in anything that is pushed.
    pub(super) async fn check_change(&self) -> Result<(), PublishError> {
        let (from, to) = (self.publication.delivery.base.clone(), self.publication.delivery.tree.clone());
        let scrub = self.scrub.clone();
        let found = self
            .blocking(move |repository| {
                let is_secret = |bytes: &[u8]| {
                    let text = String::from_utf8_lossy(bytes);
                    // UTF-16 is text with a zero between the letters.
                    scrub.found_in(&text) || text.contains('\0') && scrub.found_in(&text.replace('\0', ""))
                };
                repository.find_in_change(&from, &to, &is_secret)
            })
            .await?;
        match found {
            None => Ok(()),
            Some(path) => Err(PublishError::Refused(format!(
                "nothing was published: `{}` contains a secret of this environment, plain or encoded; look at the run \
                 with `codeforge runs show`, and change the secret",
                text::clean(&path)
            ))),
        }
    }

    /// Where what is pushed holds what cannot be seen, in a sentence for whoever reads it; as Markdown, and plain.
    pub(super) async fn unseen(&self) -> Result<Option<(String, String)>, PublishError> {
        const WHAT: &str = "characters that cannot be seen are in this change";
        let (from, to) = (self.publication.delivery.base.clone(), self.publication.delivery.tree.clone());
        let changes = self.blocking(move |repository| repository.diff(&from, &to, 0)).await?;
        let places = gate::hidden(&changes);
        if places.is_empty() {
            return Ok(None);
        }
        let said = |one: &dyn Fn(String) -> String| {
            let places: Vec<String> = places.iter().map(|place| one(text::clean(&place.to_string()))).collect();
            places.join("; ")
        };
        let in_code = |place: String| format!("`{}`", place.replace(['`', '\n'], "'"));
        Ok(Some((format!("**Look twice: {WHAT}.** {}", said(&in_code)), format!("{WHAT}: {}", said(&|place| place)))))
    }

    /// What is left alone by configuration is left alone now, too: a label may have been set since the run began.
    pub(super) async fn not_ignored(&self) -> Result<(), PublishError> {
        let p = self.publication;
        let Some(change) = p.event.change.as_ref().filter(|_| p.asked.ignore != Default::default()) else {
            return Ok(());
        };
        let now = self.forge.change(change.number).await?.change;
        match p.asked.ignore.why(&Event { change: Some(now), ..p.event.clone() }) {
            None => Ok(()),
            Some(why) => Err(PublishError::Refused(format!("nothing was published: {why}"))),
        }
    }

    pub(super) fn our_branch(&self) -> Result<&str, PublishError> {
        let p = self.publication;
        let name = p.delivery.branch.as_deref().unwrap_or_default();
        let prefix = p.prefix;
        if prefix.trim_matches('/').is_empty() || !name.starts_with(prefix) || name.len() == prefix.len() {
            return Err(PublishError::Refused(format!(
                "nothing was pushed: the branch `{}` does not begin with `{prefix}`, and nothing else is pushed to. Mend \
                 `deliver.branch` in the workflow, or the prefix (`CODEFORGE_BRANCH_PREFIX`)",
                text::clean(name)
            )));
        }
        if let Some(fault) = branch_name_fault(name) {
            return Err(PublishError::Misuse(format!(
                "nothing was pushed: `{}` is not a branch name ({fault}); mend `deliver.branch` in the workflow",
                text::clean(name)
            )));
        }
        Ok(name)
    }

    /// What stands on a fork's commits does not get into the repository by us: they would lie on a branch of ours.
    pub(super) fn not_from_a_fork(&self) -> Result<(), PublishError> {
        match &self.publication.event.change {
            Some(change) if change.is_fork() => Err(PublishError::Refused(format!(
                "nothing was pushed: change {} comes from a fork, or nobody says that it does not. Deliver `comment` or \
                 `patch` for forks",
                change.number
            ))),
            _ => Ok(()),
        }
    }

    /// What stands on a change's head is wanted only as long as that is its head.
    pub(super) async fn still_wanted(&self) -> Result<(), PublishError> {
        let p = self.publication;
        let Some(change) = p.event.change.as_ref().filter(|change| change.head.sha == p.base.commit) else {
            return Ok(());
        };
        let now = self.forge.change(change.number).await?;
        if now.change.head.sha != change.head.sha || now.change.is_fork() {
            return Err(PublishError::Moved(format!(
                "nothing was pushed: change {} was pushed to after the run began; start the run again",
                change.number
            )));
        }
        Ok(())
    }

    pub(super) async fn not_the_default(&self, branch: &str) -> Result<String, PublishError> {
        let default = self.forge.default_branch().await?;
        if branch == default {
            return Err(PublishError::Refused(format!(
                "nothing was pushed: `{branch}` is the default branch; mend `deliver.branch`, or the prefix of our branches"
            )));
        }
        Ok(default)
    }

    /// Refuses another open change where there are as many as there may be. One that is there may always be updated. What
    /// is given is held until the change is open: whoever counts next counts it.
    pub(super) async fn room_for(&self, branch: &str) -> Result<Alone, PublishError> {
        const HOUR: u64 = 3600;
        let p = self.publication;
        let (most, per_hour) = (p.most_open, p.asked.most_per_hour);
        if most.is_none() && per_hour.is_none() {
            return Ok(Alone::default());
        }
        let alone = self.forge.alone().await?;
        let open = self.forge.open_branches(p.prefix).await?;
        let recent = match per_hour {
            Some(_) => self.forge.opened_within(p.prefix, HOUR).await?,
            None => Vec::new(),
        };
        match deliver::full(branch, (&open, most), (&recent, per_hour)) {
            None => Ok(alone),
            Some(why) => Err(PublishError::Refused(format!("nothing was pushed: {why}"))),
        }
    }
}
