//! Implementations of the ports. Vendor types stay here.

pub mod cassette;
pub mod clock;
pub mod fake;
pub mod openai;
pub mod tls;
