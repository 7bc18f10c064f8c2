//! From a model's provider to the dialect that it speaks.

use super::Jitter;
use super::anthropic::Anthropic;
use super::ask::Asker;
use super::dialect::Dialect;
use super::http::Settings;
use super::openai::OpenAi;
use super::target::KeyLookup;
use crate::model::chat::{ChatAnswer, ChatRequest, ModelError, ModelFault, ModelRef};
use crate::port::clock::Clock;
use crate::port::model::ChatModel;
use async_trait::async_trait;
use std::sync::Arc;

/// Who serves models, how they speak, and where, for models that configure no address.
struct Provider {
    name: &'static str,
    dialect: &'static dyn Dialect,
    address: Option<&'static str>,
    /// The variable with the key, for models that configure neither address nor key. A key is never looked up for an
    /// address that was configured.
    key: Option<&'static str>,
}

const fn provider(
    name: &'static str,
    dialect: &'static dyn Dialect,
    address: &'static str,
    key: Option<&'static str>,
) -> Provider {
    Provider { name, dialect, address: Some(address), key }
}

const PROVIDERS: [Provider; 8] = [
    provider("openai", &OpenAi, "https://api.openai.com/v1", Some("env://OPENAI_API_KEY")),
    provider("anthropic", &Anthropic, "https://api.anthropic.com/v1", Some("env://ANTHROPIC_API_KEY")),
    // Every customer of Azure's has an address of their own; it is checked to be Azure's before its key is sent.
    Provider { name: "azure", dialect: &OpenAi, address: None, key: Some("env://AZURE_OPENAI_API_KEY") },
    provider("openrouter", &OpenAi, "https://openrouter.ai/api/v1", Some("env://OPENROUTER_API_KEY")),
    provider("litellm", &OpenAi, "http://127.0.0.1:4000/v1", None),
    provider("ollama", &OpenAi, "http://127.0.0.1:11434/v1", None),
    provider("vllm", &OpenAi, "http://127.0.0.1:8000/v1", None),
    provider("lmstudio", &OpenAi, "http://127.0.0.1:1234/v1", None),
];

/// Speaks to models over HTTP, each in the dialect of its provider. Cheap to share: one pool of connections.
#[derive(Debug)]
pub struct Router {
    asker: Asker,
}

impl Router {
    /// A router over all dialects. `key` is asked at every question, for the name in a model's `env://NAME`; `jitter`
    /// spreads waits; all waiting between attempts goes through `clock`, deadlines are real time.
    ///
    /// # Errors
    /// What keeps an HTTP client from being made, in words. Certificates are read at the first `https` address, so
    /// a machine without any can still ask over `http`.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>, key: KeyLookup, jitter: Jitter) -> Result<Self, String> {
        Ok(Self { asker: Asker::new(settings, clock, key, jitter)? })
    }
}

/// A model with the address and the key that are its provider's where it has none of its own.
fn addressed(model: &mut ModelRef, provider: &Provider) {
    let own = match &model.base_url {
        None => true,
        Some(url) => provider.address.is_none() && is_azures(url),
    };
    if own && model.api_key.is_none() {
        model.api_key = provider.key.map(str::to_owned);
    }
    if model.base_url.is_none() {
        model.base_url = provider.address.map(str::to_owned);
    }
}

/// A model with the address and the key that it is asked with.
pub fn at_home(mut model: ModelRef) -> ModelRef {
    if let Some(provider) = PROVIDERS.iter().find(|provider| provider.name == model.provider) {
        addressed(&mut model, provider);
    }
    model
}

/// Whether an address is below `azure.com`, over TLS.
fn is_azures(url: &str) -> bool {
    reqwest::Url::parse(url)
        .is_ok_and(|url| url.scheme() == "https" && url.host_str().is_some_and(|host| host.ends_with(".azure.com")))
}

#[async_trait]
impl ChatModel for Router {
    async fn ask(
        &self,
        request: &ChatRequest,
        heard: &(dyn for<'a> Fn(&'a str) + Send + Sync),
    ) -> Result<ChatAnswer, ModelError> {
        let model = &request.model;
        let Some(provider) = PROVIDERS.iter().find(|provider| provider.name == model.provider) else {
            let names: Vec<&str> = PROVIDERS.iter().map(|provider| provider.name).collect();
            return Err(ModelError {
                fault: ModelFault::BadRequest,
                message: format!(
                    "model `{}`: this version does not speak to provider `{}`, only to {} (for any other server \
                     write `provider: openai` or `provider: anthropic`, whichever it speaks, and its `base_url`)",
                    model.name,
                    model.provider,
                    names.join(", ")
                ),
                status: None,
                requests: 0,
                bill: None,
                retry_after_ms: None,
            });
        };
        let mut model = model.clone();
        addressed(&mut model, provider);
        self.asker.ask(provider.dialect, &model, request, heard).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_providers_key_goes_to_its_own_address_only() {
        let of = |name: &str, url: Option<&str>| {
            let provider = PROVIDERS.iter().find(|provider| provider.name == name).expect("a provider");
            let mut model = ModelRef { base_url: url.map(str::to_owned), ..ModelRef::default() };
            addressed(&mut model, provider);
            (model.base_url.unwrap_or_default(), model.api_key.unwrap_or_default())
        };
        let row = |url: &str, key: &str| (url.to_owned(), key.to_owned());
        assert_eq!(of("anthropic", None), row("https://api.anthropic.com/v1", "env://ANTHROPIC_API_KEY"));
        assert_eq!(of("anthropic", Some("https://h/v1")), row("https://h/v1", ""));
        assert_eq!(of("vllm", None), row("http://127.0.0.1:8000/v1", ""));
        let azure = "https://me.openai.azure.com/openai/v1";
        assert_eq!(of("azure", Some(azure)), row(azure, "env://AZURE_OPENAI_API_KEY"));
        for other in ["http://me.openai.azure.com/openai/v1", "https://azure.com.example.org", "https://notazure.com"] {
            assert_eq!(of("azure", Some(other)), row(other, ""));
        }
        assert_eq!(of("azure", None).0, "");
    }
}
