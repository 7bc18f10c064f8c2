//! The long-running service: what it hears, decides, and keeps doing.

pub mod commands;
pub mod progress;
