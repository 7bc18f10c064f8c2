//! Reviews: remarks at lines in one request, threads resolved through GraphQL, where REST has no word for it.

use super::wire::CommentWire;
use super::{Github, READ_CHANGES, WRITE_CHANGES, reading};
use crate::adapter::forge::http::Kind;
use crate::adapter::forge::lines::{Lines, sorted, suggestion};
use crate::port::forge::{Changes, ForgeError, LineSide, NewReview, Remark, Reviewed, Reviews, Thread};
use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

#[async_trait]
impl Reviews for Github {
    async fn review(&self, review: &NewReview<'_>) -> Result<Reviewed, ForgeError> {
        let mut done = Reviewed::default();
        let files = if review.remarks.is_empty() { Vec::new() } else { self.changed_files(review.number).await? };
        let lines: BTreeMap<&str, Lines> = files
            .iter()
            .map(|file| (file.path.as_str(), Lines::of(file.patch.as_deref().unwrap_or_default())))
            .collect();
        let shown = |remark: &Remark| Some(lines.get(remark.path.as_str())?.span(remark)?.told(remark));
        let (inside, outside) = sorted(review.remarks, shown);
        done.outside = outside;
        if !inside.is_empty() {
            let number = review.number.to_string();
            let doing = "writing the review";
            let left = tokio::sync::Mutex::new(inside.clone());
            let look = || async {
                let there = self.standing(review.number, &inside).await?;
                let mut left = left.lock().await;
                left.retain(|remark| !there.contains(&remark.key));
                Ok(left.is_empty().then_some(()))
            };
            let before = self.standing(review.number, &inside).await?.len();
            let make = || async {
                let left = left.lock().await;
                let remarks: Vec<Value> = left.iter().map(|remark| self.remark(review.number, remark)).collect();
                let body = json!({ "commit_id": review.commit, "event": "COMMENT", "comments": remarks });
                let parts = ["pulls", &number, "reviews"];
                self.write(Method::POST, &parts, body, doing, WRITE_CHANGES, Kind::Once).await.map(|_| ())
            };
            self.http.once_only(look, make).await?;
            done.kept = before;
            done.made = inside.len() - before;
        }
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
        let mut body = self.marks.under(Thread::Change(number), &remark.key, &remark.body);
        if let (Some(text), LineSide::New) = (&remark.replacement, remark.side) {
            body.push_str("\n\n");
            body.push_str(&suggestion("suggestion", text));
        }
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
        self.marks.can_know(own)?;
        let number_text = number.to_string();
        let url = self.url(&["pulls", &number_text, "comments"], &[("per_page", "100")])?;
        let there: Vec<CommentWire> = self.http.all(reading(url, "reading the review's remarks", READ_CHANGES)).await?;
        let thread = Thread::Change(number);
        let is_there = |key: &str| {
            there.iter().any(|comment| {
                let author = comment.user.as_ref().map(|user| user.login.as_str());
                self.marks.is((own, author), thread, key, comment.body.as_deref().unwrap_or_default())
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
            let data = self.graphql(THREADS, variables, "reading the review's threads", Kind::Read).await?;
            let threads = data.pointer("/repository/pullRequest/reviewThreads").cloned().unwrap_or_default();
            for node in threads.get("nodes").and_then(Value::as_array).into_iter().flatten() {
                let first = node.pointer("/comments/nodes/0").cloned().unwrap_or_default();
                let body = first.get("body").and_then(Value::as_str).unwrap_or_default();
                // GraphQL names a program without `[bot]`.
                let author = first.pointer("/author/login").and_then(Value::as_str);
                let author = author.map(|author| author.trim_end_matches("[bot]"));
                let open = node.get("isResolved").and_then(Value::as_bool) == Some(false);
                let by = (own.as_deref(), author);
                let ours = keys.iter().any(|key| self.marks.is(by, Thread::Change(number), key, body));
                if let (true, true, Some(id)) = (open, ours, node.get("id")) {
                    self.graphql(RESOLVE, json!({ "id": id }), "resolving a thread", Kind::Again).await?;
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
