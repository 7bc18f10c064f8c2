//! Forges: one suite that each adapter runs, and what becomes of a delivery when things go wrong. Real HTTP, real git
//! over it, real repositories; the forge is a fake that remembers (`tests/common/forge_server`).

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[path = "../common/mod.rs"]
mod common;
mod story;
#[macro_use]
mod suite;
mod app;
mod compliance;
mod hostile;
mod issues;
mod laptop;
mod publish;
mod rules;
mod stays;
