//! What people and machines read.
pub mod account;
mod clean;
pub mod numbers;
pub mod plain;
pub mod trajectory;
