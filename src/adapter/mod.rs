//! Implementations of the ports. Vendor types stay here.
pub mod sqlite;

pub mod sandbox;
pub mod git;

pub mod clock;
pub mod fake;
pub mod openai;
pub mod tls;
