//! Workflow and inputs → plan.
//!
//! [`compile()`] takes a loaded [`crate::workflow::schema::Library`] and what was asked for, and gives a
//! [`crate::model::plan::Plan`] or all the reasons why there is none. Whatever it decides by default is decided here.

mod address;
mod agents;
mod backends;
mod compile;
mod event;
mod inputs;
mod models;
mod quality;
pub mod scope;
mod shared;
mod state;

pub use compile::{Request, compile};
pub use event::{event_shape, shaped};
pub use models::{Known, complete, known};
pub use state::Memory;
