//! CodeForge turns a declarative YAML workflow into a tested change.
//!
//! Data flows one way: event → trigger → plan → run → gate → deliver. The core is functional, effects happen at the
//! edge, the journal is the truth. `docs/architecture.md` is the map of these rooms, and `tests/architecture.rs`
//! holds who may import whom.

pub mod adapter;
pub mod agent;
pub mod app;
pub mod cassette;
pub mod cli;
pub mod deliver;
pub mod engine;
pub mod gate;
pub mod model;
pub mod plan;
pub mod policy;
pub mod port;
pub mod report;
pub mod run;
pub mod scout;
pub mod server;
pub mod template;
pub mod text;
pub mod trigger;
pub mod workflow;
