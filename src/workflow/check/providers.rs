//! Models whose settings do not fit their provider.

use crate::model::diagnostic::{Diagnostic, Severity};
use crate::workflow::schema::{Library, Provider, codes};

/// Anthropic's smallest budget for thinking, in tokens: it must fit into an answer.
const LEAST_THINKING: u64 = 1024;

/// Errors and warnings on the models of the configuration, what it extends included. The library is whole.
pub fn misfits(library: &Library) -> Vec<Diagnostic> {
    let Some(document) = &library.config_document else { return Vec::new() };
    let mut found = Vec::new();
    for (name, model) in &library.config.models {
        let mut say = |severity: Severity, key: &str, message: String, help: &str| {
            let at = document.at(&["models", name, key]);
            let mut problem = document.diagnostic(codes::MODEL_PROVIDER, severity, at, message);
            problem.help = Some(help.to_owned());
            found.push(problem);
        };
        let azure = model.provider == Provider::Azure;
        if azure && model.base_url.is_none() {
            say(
                Severity::Error,
                "provider",
                format!("model `{name}` is at Azure, where every customer has an address of their own"),
                "add `base_url`: https://NAME.openai.azure.com/openai/v1, or https://NAME.openai.azure.com/openai/deployments/DEPLOYMENT",
            );
        }
        if !azure && model.api_version.is_some() {
            say(
                Severity::Error,
                "api_version",
                format!("`api_version` is Azure's, and model `{name}` is served by `{}`", model.provider.as_str()),
                "leave it out",
            );
        }
        if let (Provider::Anthropic, Some(_), Some(longest)) = (model.provider, model.reasoning, model.max_output)
            && longest <= LEAST_THINKING
        {
            say(
                Severity::Warning,
                "max_output",
                format!("model `{name}` cannot think: an answer of {longest} tokens leaves no room for it"),
                "thinking is part of an answer and takes 1024 tokens at least: raise `max_output`, or leave `reasoning` out",
            );
        }
    }
    found
}
