//! Comments of pull requests and issues: the same thing on GitHub.

use super::wire::CommentWire;
use super::{Github, READ_CHANGES, writes};
use crate::adapter::forge::alike::number_of;
use crate::adapter::forge::http::{Failed, Kind, read};
use crate::adapter::forge::marks::stick;
use crate::adapter::forge::time_text;
use crate::model::event::CommentKind;
use crate::port::forge::{CommentAt, CommentInfo, Comments, ForgeError, Kept, Sticky, Stuck, Thread};
use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[async_trait]
impl Comments for Github {
    async fn comments(&self, thread: Thread) -> Result<Vec<CommentInfo>, ForgeError> {
        let url = self.at.url(&["issues", &number_of(thread), "comments"], &[("per_page", "100")])?;
        let ask = self.at.reading(url, "reading the comments", writes(thread));
        let comments: Vec<CommentWire> = self.at.http.all(ask).await?;
        Ok(comments.into_iter().map(CommentInfo::from).collect())
    }

    async fn comments_since(&self, since_ms: i64) -> Result<Vec<(Thread, CommentInfo)>, ForgeError> {
        let since = time_text(since_ms);
        let query = [("since", since.as_str()), ("sort", "updated"), ("direction", "asc"), ("per_page", "100")];
        let mut found = Vec::new();
        for (parts, kind) in [(["issues", "comments"], CommentKind::Thread), (["pulls", "comments"], CommentKind::Line)]
        {
            let ask = self.at.reading(self.at.url(&parts, &query)?, "reading the latest comments", READ_CHANGES);
            let comments: Vec<CommentWire> = self.at.http.all(ask).await?;
            let known = comments.into_iter().filter_map(|wire| Some((wire.thread()?, CommentInfo::from(wire))));
            found.extend(known.map(|(thread, info)| (thread, CommentInfo { kind, ..info })));
        }
        Ok(found)
    }

    async fn stick(&self, sticky: &Sticky<'_>) -> Result<Stuck, ForgeError> {
        let body = &self.at.marks.sticky(sticky);
        let number = number_of(sticky.thread);
        let (doing, needs) = ("writing the comment", writes(sticky.thread));
        let make = || async {
            let parts = ["issues", &number, "comments"];
            let answer = self.at.write(Method::POST, &parts, json!({ "body": body }), doing, needs, Kind::Once).await?;
            Ok(CommentInfo::from(read::<CommentWire>(doing, &answer.body).map_err(Failed::Lost)?))
        };
        let update = |id: u64| async move {
            let parts = ["issues", "comments", &id.to_string()];
            self.at.write(Method::PATCH, &parts, json!({ "body": body }), doing, needs, Kind::Again).await.map(|_| ())
        };
        let remove = |id: u64| async move {
            let parts = ["issues", "comments", &id.to_string()];
            self.at.write(Method::DELETE, &parts, Value::Null, doing, needs, Kind::Again).await.map(|_| ())
        };
        let key = (sticky.thread, sticky.key);
        let look = || async { self.at.marks.find(self.own().await?, key, self.comments(sticky.thread).await?) };
        stick(&self.at.http, body, look, make, update, remove).await
    }

    async fn stuck(&self, thread: Thread, key: &str) -> Result<Option<Kept>, ForgeError> {
        self.at.marks.stuck(self.own().await?, thread, key, self.comments(thread).await?)
    }

    async fn recall(&self, thread: Thread, keys: &[&str]) -> Result<BTreeMap<String, String>, ForgeError> {
        self.at.marks.memories(self.own().await?, thread, keys, &self.comments(thread).await?)
    }

    async fn react(&self, to: CommentAt, with: &str) -> Result<(), ForgeError> {
        let (id, number) = (to.id.to_string(), number_of(to.thread));
        let parts: &[&str] = match to.kind {
            CommentKind::Thread => &["issues", "comments", &id, "reactions"],
            CommentKind::Line => &["pulls", "comments", &id, "reactions"],
            // A review takes none.
            CommentKind::Review => &["issues", &number, "reactions"],
        };
        let (body, doing) = (json!({ "content": with }), "reacting to a comment");
        let done = self.at.write(Method::POST, parts, body, doing, writes(to.thread), Kind::Again).await;
        done.map(|_| ()).map_err(Failed::into_inner)
    }
}
