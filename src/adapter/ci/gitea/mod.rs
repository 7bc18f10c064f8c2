//! Gitea and Forgejo.

pub mod payload;
