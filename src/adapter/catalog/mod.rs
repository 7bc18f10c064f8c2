//! What servers serve, and what the environment says of them.
//!
//! [`Asker`] asks a server in its own way (`ask`), `shapes` reads the answers, [`model`] and [`servers`] read the
//! environment.

mod ask;
mod environment;
mod shapes;

pub use ask::Asker;
pub use environment::{model, servers};
