//! One agent's conversation: prompt, tools offered, history, parsing of answers.
//!
//! Pure, like every stage: [`compose`] makes the next request from the turns so far, [`interpret`] reads the answer,
//! [`words`] says what the engine tells the model, [`tools`], [`edit`] and [`patch`] are what tool calls mean.

pub mod backend;
pub mod bm25;
mod compose;
pub mod edit;
pub mod experience;
mod history;
mod interpret;
mod measure;
pub mod memory;
pub mod patch;
mod protocol;
pub mod quality;
pub mod recommend;
pub mod tools;
pub mod words;

pub use compose::{compose, estimate};
pub use interpret::interpret;
pub use measure::{estimate_message, estimate_tokens, upper_bound_tokens};

#[cfg(test)]
mod tests;
