//! What the engine needs from the world, as small traits. Adapters implement them; each has one compliance suite
//! that all its adapters run.

pub mod checkout;
pub mod ci;
pub mod clock;
pub mod forge;
pub mod gateway;
pub mod inbox;
pub mod model;
pub mod queue;
pub mod repository;
pub mod runner;
pub mod sandbox;
pub mod store;
pub mod watch;
pub mod world;
