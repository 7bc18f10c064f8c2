//! TLS, set up once.

use reqwest::{Certificate, ClientBuilder};
use std::path::Path;
use std::sync::Once;

/// Makes `aws-lc-rs` the process's cryptography. Safe to call often; the first call counts.
pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that a provider is installed already, which serves as well.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
}

/// Lets a client trust a company's own CA, beside the machine's certificates.
///
/// # Errors
/// The file cannot be read, or holds no certificate: said with its name.
pub fn trusting(builder: ClientBuilder, extra_ca: Option<&Path>) -> Result<ClientBuilder, String> {
    let Some(file) = extra_ca else { return Ok(builder) };
    let wrong = |why: String| format!("CODEFORGE_EXTRA_CA {}: {why}", file.display());
    let pem = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| wrong(error.to_string()))?;
    if certificates.is_empty() {
        return Err(wrong("it holds no certificate in PEM form".to_owned()));
    }
    Ok(builder.tls_certs_merge(certificates))
}
