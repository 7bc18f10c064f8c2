//! Commands in comments, as people meet them: a forge that remembers, the server's database, a desk that answers. Each
//! story is what somebody writes and what is to be seen then.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[path = "../common/mod.rs"]
mod common;
mod prices;
mod shop;
mod standing;
mod words;
