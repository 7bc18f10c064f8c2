//! Implementations of the ports. Vendor types stay here.

pub mod cassette;
pub mod catalog;
pub mod ci;
pub mod clock;
pub mod fake;
pub mod forge;
pub mod gateway;
pub mod git;
pub mod lending;
pub mod llm;
pub mod memory;
pub mod sandbox;
pub mod serve;
pub mod sqlite;
pub mod tls;
