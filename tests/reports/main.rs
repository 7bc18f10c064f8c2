//! What a run leaves in CI: accounts of real runs and hostile ones, rendered to every format, and read back by parsers
//! that are not ours.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up fails")]

#[path = "../common/mod.rs"]
mod common;
mod findings;
mod log;
mod machines;
mod made;
mod pages;
mod told;
