//! The issue that stays current: opened where there is something to say, brought up to date, closed when nothing is left,
//! opened again when something is found again.
//!
//! Every look begins with what the forge has now, and text and state go in one request: whoever is cut off in between
//! and begins anew comes to the same one issue.

use super::{PublishError, Work};
use crate::model::delivery::Published;
use crate::port::forge::{IssueEdit, IssueInfo, IssueText, NewIssue, Sticky, Thread};
use crate::text;

/// What is to be known of an issue beside its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping<'a> {
    /// How many findings are open now.
    pub open: usize,
    /// Whether none was, when it was written last: only we close one like that.
    pub was_clean: bool,
    /// Which state of the repository was looked at: the last word is said once for each.
    pub commit: &'a str,
    /// What is said when it is closed.
    pub last_word: &'a str,
}

impl Work<'_> {
    pub(super) async fn issue(&self) -> Result<Published, PublishError> {
        let p = self.publication;
        if let Some(change) = &p.event.change {
            return Err(PublishError::Misuse(format!(
                "nothing was published: an issue is about the repository, and this run is about change {}; deliver `comment` \
                 or `review` for changes",
                change.number
            )));
        }
        let Some(keeping) = p.issue else { return Err(PublishError::Misuse(super::KEPT_BY_CI.to_owned())) };
        let body = self.fitting(p.body);
        let mut told = Vec::new();
        let mut opened = None;
        let mut all = self.forge.kept_issues(p.key).await?;
        if all.is_empty() {
            if keeping.open == 0 {
                told.push("nothing was found, and no issue says otherwise: none was opened".to_owned());
                return Ok(Published { told, ..Published::default() });
            }
            let new = NewIssue {
                key: p.key,
                title: &self.title,
                body: &body,
                memory: p.memory,
                labels: p.labels,
                assignees: &p.asked.assignees,
            };
            let (made, unset) = self.forge.open_issue(&new).await?;
            told.push(format!("issue {} was opened", made.number));
            told.extend(unset);
            opened = Some(made.number);
            // Two that looked at the same moment both found none.
            all = self.forge.kept_issues(p.key).await?;
            if all.is_empty() {
                // A list that is behind shows it the next time.
                all.push(made);
            }
        }
        let mut all = all.into_iter();
        let Some(first) = all.next() else { return Ok(Published { told, ..Published::default() }) };
        for second in all {
            self.put_away(&second, &first).await?;
            told.push(format!("issue {} was a second one, and was closed", second.number));
        }
        let of = |told: Vec<String>| Published {
            url: first.url.clone(),
            number: Some(first.number),
            told,
            ..Published::default()
        };
        if !first.open
            && let Some(who) = self.closed_by_another(&first, &keeping).await?
        {
            told.push(format!(
                "issue {} was closed by {who}, and stays closed: what was found is in the run's report only. Reopen it to \
                 have it kept again",
                first.number
            ));
            return Ok(of(told));
        }
        let open = keeping.open > 0 || p.asked.keep_open;
        if !open && !first.open {
            told.push(format!("nothing was found, and issue {} is closed", first.number));
            return Ok(of(told));
        }
        if !open {
            // Before it is closed: who is cut off in between says it once, and closes it then.
            let key = format!("{}/clean/{}", p.key, keeping.commit);
            let word = self.fitting(keeping.last_word);
            let thread = Thread::Issue(first.number);
            self.forge.stick(&Sticky { thread, key: &key, body: &word, memory: None }).await?;
        }
        // What could not be set a moment ago cannot be set now.
        let fresh = opened == Some(first.number);
        let edit = IssueEdit {
            text: IssueText::Kept { key: p.key, body: &body, memory: p.memory },
            open,
            labels: if fresh { &[] } else { p.labels },
            assignees: if fresh { &[] } else { &p.asked.assignees },
        };
        let (written, unset) = self.forge.edit_issue(&first, &edit).await?;
        told.extend(match (written, first.open, open) {
            (_, true, false) => Some(format!("nothing is left: issue {} was closed", first.number)),
            (_, false, true) => Some(format!("issue {} was opened again", first.number)),
            (true, ..) => Some(format!("issue {} was brought up to date", first.number)),
            (false, ..) if fresh => None,
            (false, ..) => Some(format!("issue {} says it already", first.number)),
        });
        told.extend(unset);
        Ok(of(told))
    }

    /// Who closed an issue, where it was not us. Only a clear word that it was us, or nothing that was left in it, lets us
    /// open it again.
    async fn closed_by_another(
        &self,
        issue: &IssueInfo,
        keeping: &Keeping<'_>,
    ) -> Result<Option<String>, PublishError> {
        let by = self.forge.closed_by(issue.number).await?;
        let own = self.forge.own_account().await?;
        Ok(match (by, own) {
            (Some(by), Some(own)) if by.eq_ignore_ascii_case(&own) => None,
            (Some(by), Some(_)) => Some(format!("`{}`", text::clean(&by).replace('`', "'"))),
            _ if keeping.was_clean => None,
            _ => Some("somebody".to_owned()),
        })
    }

    /// Of two issues that were made in the same moment the first stays. Ours can be taken out of the way, but not away.
    async fn put_away(&self, second: &IssueInfo, first: &IssueInfo) -> Result<(), PublishError> {
        let body = format!("Made in the same moment as #{}, where it is kept.", first.number);
        let edit = IssueEdit { text: IssueText::Plain(&body), open: false, labels: &[], assignees: &[] };
        self.forge.edit_issue(second, &edit).await?;
        Ok(())
    }
}
