//! Where a configured model is.

use crate::workflow::schema::{ModelDoc, Provider};

/// Azure's `api-version` where the configuration names none: the last one that is not a preview.
const AZURE_VERSION: &str = "2024-10-21";

/// A model's configured address, up to where its protocol begins; `None`: its provider's own.
pub(super) fn address(model: &ModelDoc) -> Option<String> {
    let url = model.base_url.as_ref()?.0.trim_end_matches('/');
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    let azure = model.provider == Provider::Azure;
    // Where all known servers have their protocol.
    let usual = if azure { "/openai/v1" } else { "/v1" };
    let url = if host.contains('/') { url.to_owned() } else { format!("{url}{usual}") };
    if !azure || url.contains("api-version=") {
        return Some(url);
    }
    let version = model.api_version.as_deref().or_else(|| url.contains("/deployments/").then_some(AZURE_VERSION));
    Some(match version {
        Some(version) => format!("{url}{}api-version={version}", if url.contains('?') { '&' } else { '?' }),
        None => url,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn addresses_are_completed_as_their_servers_want_them() {
        let of = |provider: &str, url: Option<&str>, version: Option<&str>| {
            let model = json!({"provider": provider, "model": "m", "base_url": url, "api_version": version});
            address(&serde_json::from_value::<ModelDoc>(model).unwrap())
        };
        assert_eq!(of("anthropic", None, None), None);
        for (provider, url, version, whole) in [
            ("openai", "http://h:8", None, "http://h:8/v1"),
            ("openai", "http://h:8/api/", None, "http://h:8/api"),
            ("azure", "https://n.openai.azure.com", None, "https://n.openai.azure.com/openai/v1"),
            (
                "azure",
                "https://n.openai.azure.com/openai/v1",
                Some("preview"),
                "https://n.openai.azure.com/openai/v1?api-version=preview",
            ),
            ("azure", "https://n/openai/deployments/d", None, "https://n/openai/deployments/d?api-version=2024-10-21"),
            (
                "azure",
                "https://n/openai/deployments/d",
                Some("2025-01-01"),
                "https://n/openai/deployments/d?api-version=2025-01-01",
            ),
            (
                "azure",
                "https://n/openai/deployments/d?api-version=x",
                Some("y"),
                "https://n/openai/deployments/d?api-version=x",
            ),
        ] {
            assert_eq!(of(provider, Some(url), version).as_deref(), Some(whole));
        }
    }
}
