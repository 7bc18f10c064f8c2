//! `codeforge ci`: events against workflows, whole jobs, and what they leave.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod again;
#[path = "../common/mod.rs"]
mod common;
mod events;
mod gitea;
mod gitlab;
mod payloads;
mod proxy;
mod steps;
mod told;
