//! Implementations of the ports. Vendor types stay here.
pub mod sqlite;

pub mod sandbox;
pub mod git;
