//! Comments of pull requests and issues: the same thing on GitHub.

use super::wire::CommentWire;
use super::{Github, READ_CHANGES, number_of, reading, writes};
use crate::adapter::forge::http::{Ask, Failed, Kind, read};
use crate::adapter::forge::marks::stick;
use crate::adapter::forge::time_text;
use crate::port::forge::{CommentInfo, Comments, ForgeError, Sticky, Stuck, Thread};
use async_trait::async_trait;
use reqwest::Method;
use serde_json::json;
use std::collections::BTreeMap;

#[async_trait]
impl Comments for Github {
    async fn comments(&self, thread: Thread) -> Result<Vec<CommentInfo>, ForgeError> {
        let url = self.url(&["issues", &number_of(thread), "comments"], &[("per_page", "100")])?;
        let comments: Vec<CommentWire> = self.http.all(reading(url, "reading the comments", writes(thread))).await?;
        Ok(comments.into_iter().map(CommentInfo::from).collect())
    }

    async fn comments_since(&self, since_ms: i64) -> Result<Vec<(Thread, CommentInfo)>, ForgeError> {
        let since = time_text(since_ms);
        let query = [("since", since.as_str()), ("sort", "updated"), ("direction", "asc"), ("per_page", "100")];
        let url = self.url(&["issues", "comments"], &query)?;
        let comments: Vec<CommentWire> =
            self.http.all(reading(url, "reading the latest comments", READ_CHANGES)).await?;
        Ok(comments.into_iter().filter_map(|wire| Some((wire.thread()?, wire.into()))).collect())
    }

    async fn stick(&self, sticky: &Sticky<'_>) -> Result<Stuck, ForgeError> {
        let body = &self.marks.sticky(sticky);
        let number = number_of(sticky.thread);
        let (doing, needs) = ("writing the comment", writes(sticky.thread));
        let make = || async {
            let parts = ["issues", &number, "comments"];
            let answer = self.write(Method::POST, &parts, json!({ "body": body }), doing, needs, Kind::Once).await?;
            Ok(CommentInfo::from(read::<CommentWire>(doing, &answer.body).map_err(Failed::Lost)?))
        };
        let update = |id: u64| async move {
            let parts = ["issues", "comments", &id.to_string()];
            self.write(Method::PATCH, &parts, json!({ "body": body }), doing, needs, Kind::Again).await.map(|_| ())
        };
        let remove = |id: u64| async move {
            let url = self.url(&["issues", "comments", &id.to_string()], &[])?;
            let ask = Ask { method: Method::DELETE, kind: Kind::Again, ..reading(url, doing, needs) };
            self.http.ask(&ask).await.map(|_| ())
        };
        stick(&self.http, body, || self.sticky(sticky), make, update, remove).await
    }

    async fn recall(&self, thread: Thread, keys: &[&str]) -> Result<BTreeMap<String, String>, ForgeError> {
        let own = self.own().await?;
        self.marks.can_know(own)?;
        Ok(self.marks.memories(own, thread, keys, &self.comments(thread).await?))
    }

    async fn react(&self, thread: Thread, comment: u64, with: &str) -> Result<(), ForgeError> {
        let parts = ["issues", "comments", &comment.to_string(), "reactions"];
        let body = json!({ "content": with });
        let done = self.write(Method::POST, &parts, body, "reacting to a comment", writes(thread), Kind::Again).await;
        done.map(|_| ()).map_err(Failed::into_inner)
    }
}
