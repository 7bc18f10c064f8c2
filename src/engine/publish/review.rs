//! Reviews: remarks at lines, those that are settled resolved, and one comment for the rest.

use super::{PublishError, Work, words};
use crate::deliver;
use crate::model::delivery::Published;
use crate::model::finding::{Finding, Standing};
use crate::port::forge::{NewReview, Thread};

impl Work<'_> {
    pub(super) async fn review(&self) -> Result<Published, PublishError> {
        let p = self.publication;
        let (now, pinned) = self.pinned("review").await?;
        if now.change.head.sha.as_deref() != Some(pinned.as_str()) {
            return Err(PublishError::Moved(format!(
                "nothing was published: change {} was pushed to after the run began; its next run reviews what is there now",
                now.change.number
            )));
        }
        let (said, rest) = deliver::remarked(p.findings, &p.asked.review);
        let remarks: Vec<_> = said.iter().filter_map(|finding| words::remark(p.key, finding, &self.hosts)).collect();
        let resolved: Vec<String> = p
            .findings
            .iter()
            .filter(|finding| finding.standing == Standing::Resolved)
            .map(|finding| words::remark_key(p.key, finding))
            .collect();
        let review = NewReview { number: now.change.number, commit: &pinned, remarks: &remarks, resolved: &resolved };
        let done = self.forge.review(&review).await?;
        let mut told =
            vec![format!("{} remarks made, {} were there, {} resolved", done.made, done.kept, done.resolved)];
        told.extend(done.told);
        // What is not said at a line is said in the comment, so that nothing is lost.
        let hidden = said.iter().filter(|finding| done.outside.contains(&words::remark_key(p.key, finding)));
        let unsaid: Vec<&Finding> = rest.iter().chain(hidden).copied().collect();
        let left = rest.iter().filter(|finding| finding.line.is_some()).count();
        if left > 0 {
            told.push(format!("{left} findings are in the comment only (`review.max_remarks`, `review.min_severity`)"));
        }
        let own = words::listed(&unsaid);
        let comment = match (p.comment, own.is_empty()) {
            (Some(comment), _) => Some(comment.to_owned()),
            (None, false) => Some(own),
            (None, true) => None,
        };
        let mut url = now.change.url.clone();
        if let Some(comment) = comment {
            url = self.stick(Thread::Change(now.change.number), &comment).await?.or(url);
        }
        Ok(Published { url, number: Some(now.change.number), told, ..Published::default() })
    }
}
