//! Implementations of the ports. Vendor types stay here.
pub mod git;
