//! From a model's provider to the dialect that it speaks.

use super::client::OpenAi;
use crate::model::chat::{ChatAnswer, ChatRequest, ModelError, ModelFault};
use crate::port::model::ChatModel;
use async_trait::async_trait;

/// Providers that speak OpenAI's dialect: name, address, and the variable with the key, for models that configure
/// neither address nor key. A key is never looked up for an address that was configured.
const PROVIDERS: [(&str, &str, Option<&str>); 6] = [
    ("openai", "https://api.openai.com/v1", Some("env://OPENAI_API_KEY")),
    ("openrouter", "https://openrouter.ai/api/v1", Some("env://OPENROUTER_API_KEY")),
    ("litellm", "http://127.0.0.1:4000/v1", None),
    ("ollama", "http://127.0.0.1:11434/v1", None),
    ("vllm", "http://127.0.0.1:8000/v1", None),
    ("lmstudio", "http://127.0.0.1:1234/v1", None),
];

/// Sends each request to the adapter for its model's provider.
#[derive(Debug)]
pub struct Router {
    openai: OpenAi,
}

impl Router {
    /// A router over the one dialect there is.
    pub fn new(openai: OpenAi) -> Self {
        Self { openai }
    }
}

#[async_trait]
impl ChatModel for Router {
    async fn ask(
        &self,
        request: &ChatRequest,
        heard: &(dyn for<'a> Fn(&'a str) + Send + Sync),
    ) -> Result<ChatAnswer, ModelError> {
        let model = &request.model;
        let Some((_, address, key)) = PROVIDERS.iter().find(|(name, ..)| *name == model.provider) else {
            let names: Vec<&str> = PROVIDERS.iter().map(|(name, ..)| *name).collect();
            return Err(ModelError {
                fault: ModelFault::BadRequest,
                message: format!(
                    "model `{}`: this version does not speak to provider `{}`, only to {} (for any other \
                     OpenAI-compatible server write `provider: openai` and its `base_url`)",
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
        if model.base_url.is_some() {
            return self.openai.ask(request, heard).await;
        }
        let mut request = request.clone();
        request.model.base_url = Some((*address).to_owned());
        request.model.api_key = request.model.api_key.or_else(|| key.map(str::to_owned));
        self.openai.ask(&request, heard).await
    }
}
