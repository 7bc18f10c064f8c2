//! Notes: GitLab's comments.

use super::wire::{Note, Numbered};
use super::{Gitlab, at};
use crate::adapter::forge::http::{Failed, Kind, read};
use crate::adapter::forge::marks::stick;
use crate::adapter::forge::{time_ms, time_text};
use crate::port::forge::{CommentAt, CommentInfo, Comments, ForgeError, Kept, Sticky, Stuck, Thread};
use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[async_trait]
impl Comments for Gitlab {
    async fn comments(&self, thread: Thread) -> Result<Vec<CommentInfo>, ForgeError> {
        let (word, number) = at(thread);
        let query = [("sort", "asc"), ("order_by", "created_at"), ("per_page", "100")];
        let notes: Vec<Note> = self
            .at
            .http
            .all(self.reading(self.at.url(&[word, &number, "notes"], &query)?, "reading the comments"))
            .await?;
        let people = notes.into_iter().filter(|note| !note.system);
        Ok(people.map(|note| self.comment(thread, note)).collect())
    }

    /// GitLab has no list of all notes: those of what moved are read.
    async fn comments_since(&self, since_ms: i64) -> Result<Vec<(Thread, CommentInfo)>, ForgeError> {
        let since = time_text(since_ms);
        let query = [("updated_after", since.as_str()), ("order_by", "updated_at"), ("per_page", "100")];
        let doing = "reading the latest comments";
        let mut threads = Vec::new();
        for (word, of) in
            [("merge_requests", Thread::Change as fn(u64) -> Thread), ("issues", Thread::Issue as fn(u64) -> Thread)]
        {
            let moved: Vec<Numbered> = self.at.http.all(self.reading(self.at.url(&[word], &query)?, doing)).await?;
            threads.extend(moved.into_iter().map(|it| of(it.iid)));
        }
        let mut found = Vec::new();
        for thread in threads {
            let (word, number) = at(thread);
            let query = [("sort", "desc"), ("order_by", "updated_at"), ("per_page", "100")];
            let ask = self.reading(self.at.url(&[word, &number, "notes"], &query)?, doing);
            let late = |note: &Note| note.updated_at.as_deref().and_then(time_ms).is_none_or(|at| at >= since_ms);
            let notes: Vec<Note> = self.at.http.while_all(ask, late).await?;
            let people = notes.into_iter().filter(|note| !note.system);
            found.extend(people.map(|note| (thread, self.comment(thread, note))));
        }
        found.sort_by_key(|(_, comment)| (comment.updated_ms, comment.id));
        Ok(found)
    }

    async fn stick(&self, sticky: &Sticky<'_>) -> Result<Stuck, ForgeError> {
        let body = &self.at.marks.sticky(sticky);
        let (word, number) = at(sticky.thread);
        let doing = "writing the comment";
        let make = || async {
            let parts = [word, number.as_str(), "notes"];
            let answer = self.write(Method::POST, &parts, json!({ "body": body }), doing, Kind::Once).await?;
            Ok(self.comment(sticky.thread, read::<Note>(doing, &answer.body).map_err(Failed::Lost)?))
        };
        let update = |id: u64| {
            let (number, body) = (&number, body);
            async move {
                let parts = [word, number.as_str(), "notes", &id.to_string()];
                self.write(Method::PUT, &parts, json!({ "body": body }), doing, Kind::Again).await.map(|_| ())
            }
        };
        let remove = |id: u64| {
            let number = &number;
            async move {
                let parts = [word, number.as_str(), "notes", &id.to_string()];
                self.write(Method::DELETE, &parts, Value::Null, doing, Kind::Again).await.map(|_| ())
            }
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
        // Remarks at lines are notes like the others.
        let CommentAt { thread, id: comment, .. } = to;
        let (word, number) = at(thread);
        let name = match with {
            "+1" => "thumbsup",
            "-1" => "thumbsdown",
            other => other,
        };
        let parts = [word, number.as_str(), "notes", &comment.to_string(), "award_emoji"];
        let done =
            self.write(Method::POST, &parts, json!({ "name": name }), "reacting to a comment", Kind::Again).await;
        match done.map_err(Failed::into_inner) {
            // It is there already.
            Err(ForgeError::NotFound { .. })
                if self.comments(thread).await?.iter().any(|there| there.id == comment) =>
            {
                Ok(())
            }
            done => done.map(|_| ()),
        }
    }
}
