//! TLS, set up once.

use std::sync::Once;

/// Makes `aws-lc-rs` the process's cryptography. Safe to call often; the first call counts.
pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that a provider is installed already, which serves as well.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
}
