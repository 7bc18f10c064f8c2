//! Ports held in the hand: for tests, and wherever the real thing is not wanted.

mod clock;

pub use clock::FakeClock;
