//! Reviews: remarks at lines in one request. Gitea takes no text to put in a line's place, and its API resolves no
//! threads.

use super::changes::PAGE;
use super::wire::{CommentWire, Review};
use super::{Gitea, WRITE_CODE};
use crate::adapter::forge::alike::remark_once;
use crate::adapter::forge::http::Kind;
use crate::adapter::forge::lines::sorted;
use crate::port::forge::{Changes, CommentInfo, ForgeError, LineSide, NewReview, Remark, Reviewed, Reviews, Thread};
use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[async_trait]
impl Reviews for Gitea {
    async fn review(&self, review: &NewReview<'_>) -> Result<Reviewed, ForgeError> {
        let mut done = Reviewed::default();
        if !review.resolved.is_empty() {
            done.told
                .push("threads of findings that are gone stay open: this forge's API cannot resolve them".to_owned());
        }
        if review.remarks.is_empty() {
            return Ok(done);
        }
        let now = self.change(review.number).await?.change.head.sha;
        if now.as_deref() != Some(review.commit) {
            let message = format!("the pull request's head is no longer {}; nothing was remarked", review.commit);
            return Err(ForgeError::Moved { name: format!("#{}", review.number), message });
        }
        let files = self.changed_files(review.number).await?;
        let (inside, outside) = sorted(review.remarks, &files);
        done.outside = outside;
        let number = &review.number.to_string();
        let keys: Vec<&str> = inside.iter().map(|remark| remark.key.as_str()).collect();
        let make = |left: Vec<Remark>| async move {
            let remarks: Vec<Value> = left.iter().map(|remark| self.remark(review.number, remark)).collect();
            let body = json!({ "commit_id": review.commit, "event": "COMMENT", "comments": remarks });
            let parts = ["pulls", number.as_str(), "reviews"];
            self.at.write(Method::POST, &parts, body, "writing the review", WRITE_CODE, Kind::Once).await.map(|_| ())
        };
        let standing = || self.standing(review.number, &keys);
        (done.made, done.kept) = remark_once(&self.at.http, &inside, standing, make).await?;
        Ok(done)
    }
}

impl Gitea {
    /// A line is counted on its own side; of several the first is named, and how many follow.
    fn remark(&self, number: u64, remark: &Remark) -> Value {
        let body = self.at.marks.remark(number, remark, "");
        let side = match remark.side {
            LineSide::Old => "old_position",
            LineSide::New => "new_position",
        };
        let mut wire = json!({ "path": remark.path, side: remark.first_line().unwrap_or(remark.line), "body": body });
        if let (1.., Some(fields)) = (remark.lines_before(), wire.as_object_mut()) {
            fields.insert("extra_lines_count".into(), remark.lines_before().into());
        }
        wire
    }

    /// The keys whose remark of ours stands already.
    async fn standing(&self, number: u64, keys: &[&str]) -> Result<BTreeSet<String>, ForgeError> {
        let own = self.own().await?;
        self.at.marks.can_know(own)?;
        let doing = "reading the reviews";
        let number_text = number.to_string();
        let reviews: Vec<Review> =
            self.at.http.all(self.reading(self.at.url(&["pulls", &number_text, "reviews"], &[PAGE])?, doing)).await?;
        let mut standing = BTreeSet::new();
        for review in reviews {
            let by = review.user.map(|user| user.login);
            if review.comments_count == 0 || own.is_some_and(|own| by.as_deref() != Some(own)) {
                continue;
            }
            let parts = ["pulls", &number_text, "reviews", &review.id.to_string(), "comments"];
            let comments: Vec<CommentWire> = self.at.http.all(self.reading(self.at.url(&parts, &[])?, doing)).await?;
            for comment in comments.into_iter().map(CommentInfo::from) {
                let ours = |key: &&&str| {
                    self.at.marks.is((own, comment.author.as_deref()), Thread::Change(number), key, &comment.body)
                };
                standing.extend(keys.iter().filter(ours).map(|key| (*key).to_owned()));
            }
        }
        Ok(standing)
    }
}
