//! The graph of a plan's steps: the one that the language is checked with.

pub use crate::workflow::schema::dag::Dag;
