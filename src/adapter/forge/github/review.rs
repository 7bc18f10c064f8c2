//! Reviews: remarks at lines in one request, threads resolved through GraphQL, where REST has no word for it.

use super::wire::CommentWire;
use super::{Github, READ_CHANGES, WRITE_CHANGES};
use crate::adapter::forge::alike::remark_once;
use crate::adapter::forge::http::Kind;
use crate::adapter::forge::lines::sorted;
use crate::port::forge::{Changes, ForgeError, LineSide, NewReview, Remark, Reviewed, Reviews, Thread};
use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[async_trait]
impl Reviews for Github {
    async fn review(&self, review: &NewReview<'_>) -> Result<Reviewed, ForgeError> {
        let mut done = Reviewed::default();
        let files = if review.remarks.is_empty() { Vec::new() } else { self.changed_files(review.number).await? };
        let (inside, outside) = sorted(review.remarks, &files);
        done.outside = outside;
        let number = &review.number.to_string();
        let make = |left: Vec<Remark>| async move {
            let remarks: Vec<Value> = left.iter().map(|remark| self.remark(review.number, remark)).collect();
            let body = json!({ "commit_id": review.commit, "event": "COMMENT", "comments": remarks });
            let parts = ["pulls", number.as_str(), "reviews"];
            let doing = "writing the review";
            self.at.write(Method::POST, &parts, body, doing, WRITE_CHANGES, Kind::Once).await.map(|_| ())
        };
        let standing = || self.standing(review.number, &inside);
        (done.made, done.kept) = remark_once(&self.at.http, &inside, standing, make).await?;
        if !review.resolved.is_empty() {
            match self.resolve(review.number, review.resolved).await {
                Ok(resolved) => done.resolved = resolved,
                Err(error) => done.told.push(format!("threads were not resolved: {error}")),
            }
        }
        Ok(done)
    }
}

impl Github {
    fn remark(&self, number: u64, remark: &Remark) -> Value {
        let body = self.at.marks.remark(number, remark, "suggestion");
        let side = match remark.side {
            LineSide::Old => "LEFT",
            LineSide::New => "RIGHT",
        };
        let mut wire = json!({ "path": remark.path, "line": remark.line, "side": side, "body": body });
        if let (Some(start), Some(fields)) = (remark.first_line(), wire.as_object_mut()) {
            fields.insert("start_line".into(), start.into());
            fields.insert("start_side".into(), side.into());
        }
        wire
    }

    /// The keys among `keys` whose remark of ours stands already.
    async fn standing(&self, number: u64, remarks: &[Remark]) -> Result<BTreeSet<String>, ForgeError> {
        let own = self.own().await?;
        self.at.marks.can_know(own)?;
        let number_text = number.to_string();
        let url = self.at.url(&["pulls", &number_text, "comments"], &[("per_page", "100")])?;
        let ask = self.at.reading(url, "reading the review's remarks", READ_CHANGES);
        let there: Vec<CommentWire> = self.at.http.all(ask).await?;
        let thread = Thread::Change(number);
        let is_there = |key: &str| {
            there.iter().any(|comment| {
                let author = comment.user.as_ref().map(|user| user.login.as_str());
                self.at.marks.is((own, author), thread, key, comment.body.as_deref().unwrap_or_default())
            })
        };
        Ok(remarks.iter().filter(|remark| is_there(&remark.key)).map(|remark| remark.key.clone()).collect())
    }

    async fn resolve(&self, number: u64, keys: &[String]) -> Result<usize, ForgeError> {
        const THREADS: &str = "query($owner: String!, $name: String!, $number: Int!, $after: String) { repository(owner: \
            $owner, name: $name) { pullRequest(number: $number) { reviewThreads(first: 100, after: $after) { pageInfo { \
            hasNextPage endCursor } nodes { id isResolved comments(first: 1) { nodes { author { login } body } } } } } } }";
        const RESOLVE: &str = "mutation($id: ID!) { resolveReviewThread(input: {threadId: $id}) { thread { id } } }";
        let own = self.own().await?.map(|own| own.trim_end_matches("[bot]").to_owned());
        let (mut after, mut resolved) = (Value::Null, 0);
        loop {
            let variables = json!({ "owner": self.owner, "name": self.name, "number": number, "after": after });
            let data = self.graphql(THREADS, variables, "reading the review's threads", READ_CHANGES, Kind::Read);
            let data = data.await?;
            let threads = data.pointer("/repository/pullRequest/reviewThreads").cloned().unwrap_or_default();
            for node in threads.get("nodes").and_then(Value::as_array).into_iter().flatten() {
                let first = node.pointer("/comments/nodes/0").cloned().unwrap_or_default();
                let body = first.get("body").and_then(Value::as_str).unwrap_or_default();
                // GraphQL names a program without `[bot]`.
                let author = first.pointer("/author/login").and_then(Value::as_str);
                let author = author.map(|author| author.trim_end_matches("[bot]"));
                let open = node.get("isResolved").and_then(Value::as_bool) == Some(false);
                let by = (own.as_deref(), author);
                let ours = keys.iter().any(|key| self.at.marks.is(by, Thread::Change(number), key, body));
                if let (true, true, Some(id)) = (open, ours, node.get("id")) {
                    let variables = json!({ "id": id });
                    self.graphql(RESOLVE, variables, "resolving a thread", WRITE_CHANGES, Kind::Again).await?;
                    resolved += 1;
                }
            }
            if threads.pointer("/pageInfo/hasNextPage").and_then(Value::as_bool) != Some(true) {
                return Ok(resolved);
            }
            after = threads.pointer("/pageInfo/endCursor").cloned().unwrap_or_default();
        }
    }
}
