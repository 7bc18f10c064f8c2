//! What a test lets go wrong.

use serde_json::{Value, json};
use std::time::Duration;

/// Something to go wrong.
#[derive(Debug, Clone)]
pub struct Fault {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) kind: Kind,
    pub(super) times: u32,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// Answered with this instead.
    Status(u16, Vec<(&'static str, String)>, Value),
    /// Done, and the answer broken off.
    Lose,
    /// Done, and the socket closed without a byte of an answer.
    Close,
    /// Somebody pushes to this branch just before it is done.
    After(String),
    /// Done, and answered late.
    Slow(Duration),
}

impl Fault {
    /// The request is answered with a status, once.
    pub fn status(method: &'static str, path: &str, status: u16) -> Self {
        let body = json!({ "message": format!("scripted {status}") });
        Self { method, path: path.to_owned(), kind: Kind::Status(status, Vec::new(), body), times: 1 }
    }

    /// The request is carried out, and its answer lost, once.
    pub fn lose(method: &'static str, path: &str) -> Self {
        Self { method, path: path.to_owned(), kind: Kind::Lose, times: 1 }
    }

    /// The request is carried out, and the socket closed before a byte of its answer, once.
    pub fn close(method: &'static str, path: &str) -> Self {
        Self { method, path: path.to_owned(), kind: Kind::Close, times: 1 }
    }

    /// In the moment before the request is carried out, `ann` pushes to a branch, once.
    pub fn after_a_push(method: &'static str, path: &str, branch: &str) -> Self {
        Self { method, path: path.to_owned(), kind: Kind::After(branch.to_owned()), times: 1 }
    }

    /// The request is carried out, and its answer takes a while, once.
    pub fn slow(method: &'static str, path: &str, time: Duration) -> Self {
        Self { method, path: path.to_owned(), kind: Kind::Slow(time), times: 1 }
    }

    /// With a header.
    pub fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        if let Kind::Status(_, headers, _) = &mut self.kind {
            headers.push((name, value.to_string()));
        }
        self
    }

    /// With this body.
    pub fn answering(mut self, answer: Value) -> Self {
        if let Kind::Status(_, _, body) = &mut self.kind {
            *body = answer;
        }
        self
    }

    /// With these words.
    pub fn saying(mut self, message: &str) -> Self {
        if let Kind::Status(_, _, body) = &mut self.kind {
            *body = json!({ "message": message });
        }
        self
    }

    /// So many times.
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }
}
