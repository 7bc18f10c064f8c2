//! Text → checked workflow.
//!
//! [`load()`] takes the texts of all documents, parses each to a tree with places, walks it once collecting every
//! problem, and then makes typed values of those that have none. [`builtin()`] gives the documents that ship with the
//! program. Neither touches a file.

pub mod check;
mod load;
pub mod schema;

pub use check::{serve, stale_prices};
pub use load::{Source, builtin, load};
