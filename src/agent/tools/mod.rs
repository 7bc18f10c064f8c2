//! The native agent's tools: how they are offered, called, and how their results read.
//!
//! Nothing here touches a file: the engine does, with what [`Call::parse`] gives it.

mod call;
mod show;
mod spec;

pub use call::{Call, Paths};
pub use show::{Hit, changed, command, is_change, listing, number_lines, read_file, search_results};
pub use spec::specs;

pub(super) use call::check_args;
