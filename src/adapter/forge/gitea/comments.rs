//! Comments of pull requests and issues: the same thing on Gitea.

use super::changes::PAGE;
use super::wire::CommentWire;
use super::{Gitea, WRITE_ISSUES};
use crate::adapter::forge::alike::number_of;
use crate::adapter::forge::http::{Failed, Kind, read};
use crate::adapter::forge::marks::stick;
use crate::adapter::forge::time_text;
use crate::port::forge::{CommentAt, CommentInfo, Comments, ForgeError, Kept, Sticky, Stuck, Thread};
use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[async_trait]
impl Comments for Gitea {
    async fn comments(&self, thread: Thread) -> Result<Vec<CommentInfo>, ForgeError> {
        // All of them come at once.
        let url = self.at.url(&["issues", &number_of(thread), "comments"], &[])?;
        let comments: Vec<CommentWire> = self.at.http.all(self.reading(url, "reading the comments")).await?;
        Ok(comments.into_iter().map(CommentInfo::from).collect())
    }

    async fn comments_since(&self, since_ms: i64) -> Result<Vec<(Thread, CommentInfo)>, ForgeError> {
        let url = self.at.url(&["issues", "comments"], &[("since", &time_text(since_ms)), PAGE])?;
        let comments: Vec<CommentWire> = self.at.http.all(self.reading(url, "reading the latest comments")).await?;
        let mut found: Vec<(Thread, CommentInfo)> =
            comments.into_iter().filter_map(|wire| Some((wire.thread()?, wire.into()))).collect();
        found.sort_by_key(|(_, comment)| (comment.updated_ms, comment.id));
        Ok(found)
    }

    async fn stick(&self, sticky: &Sticky<'_>) -> Result<Stuck, ForgeError> {
        let body = &self.at.marks.sticky(sticky);
        let number = number_of(sticky.thread);
        let doing = "writing the comment";
        let make = || async {
            let parts = ["issues", &number, "comments"];
            let made = self.at.write(Method::POST, &parts, json!({ "body": body }), doing, WRITE_ISSUES, Kind::Once);
            Ok(CommentInfo::from(read::<CommentWire>(doing, &made.await?.body).map_err(Failed::Lost)?))
        };
        let key = (sticky.thread, sticky.key);
        let look = || async { self.at.marks.find(self.own().await?, key, self.comments(sticky.thread).await?) };
        let update = |id: u64| async move {
            let parts = ["issues", "comments", &id.to_string()];
            let body = json!({ "body": body });
            self.at.write(Method::PATCH, &parts, body, doing, WRITE_ISSUES, Kind::Again).await.map(|_| ())
        };
        let remove = |id: u64| async move {
            let parts = ["issues", "comments", &id.to_string()];
            self.at.write(Method::DELETE, &parts, Value::Null, doing, WRITE_ISSUES, Kind::Again).await.map(|_| ())
        };
        stick(&self.at.http, body, look, make, update, remove).await
    }

    async fn stuck(&self, thread: Thread, key: &str) -> Result<Option<Kept>, ForgeError> {
        self.at.marks.stuck(self.own().await?, thread, key, self.comments(thread).await?)
    }

    async fn recall(&self, thread: Thread, keys: &[&str]) -> Result<BTreeMap<String, String>, ForgeError> {
        self.at.marks.memories(self.own().await?, thread, keys, &self.comments(thread).await?)
    }

    async fn react(&self, to: CommentAt, with: &str) -> Result<(), ForgeError> {
        let parts = ["issues", "comments", &to.id.to_string(), "reactions"];
        let (body, doing) = (json!({ "content": with }), "reacting to a comment");
        let done = self.at.write(Method::POST, &parts, body, doing, WRITE_ISSUES, Kind::Again).await;
        done.map(|_| ()).map_err(Failed::into_inner)
    }
}
