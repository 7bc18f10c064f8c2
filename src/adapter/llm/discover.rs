//! The model that the environment configures.

use crate::model::chat::ModelRef;
use crate::model::usage::Price;

/// What OpenAI is asked for where the environment holds a key and no name of a model.
const OPENAI_MODEL: &str = "gpt-4.1";
const OPENAI_URL: &str = "https://api.openai.com/v1";

/// The model that the environment configures, named `env`; empty where it configures none.
///
/// `CODEFORGE_LLM_BASE_URL`, `CODEFORGE_LLM_API_KEY` and `CODEFORGE_MODEL` come first, then `OPENAI_API_KEY`,
/// `OPENAI_BASE_URL` and `OPENAI_MODEL`. A key is used only with the address of its own group. A server other than
/// OpenAI's needs the name of a model.
pub fn discover(env: &dyn Fn(&str) -> Option<String>) -> Vec<ModelRef> {
    let text = |name: &str| env(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    let tokens = |name: &str, default: u64| text(name).and_then(|value| value.parse().ok()).unwrap_or(default);
    let own = text("CODEFORGE_LLM_BASE_URL").is_some() || text("CODEFORGE_LLM_API_KEY").is_some();
    let (url_name, key_name) =
        if own { ("CODEFORGE_LLM_BASE_URL", "CODEFORGE_LLM_API_KEY") } else { ("OPENAI_BASE_URL", "OPENAI_API_KEY") };
    let (url, key) = (text(url_name), text(key_name));
    if url.is_none() && key.is_none() {
        return Vec::new();
    }
    let named = text("CODEFORGE_MODEL").or_else(|| text("OPENAI_MODEL").filter(|_| !own));
    let Some(model) = named.or_else(|| url.is_none().then(|| OPENAI_MODEL.to_owned())) else {
        return Vec::new();
    };
    let dollars = |name: &str| {
        text(name).and_then(|value| value.parse::<f64>().ok()).filter(|price| price.is_finite() && *price >= 0.0)
    };
    let price = match (dollars("CODEFORGE_LLM_PRICE_INPUT"), dollars("CODEFORGE_LLM_PRICE_OUTPUT")) {
        (Some(input_per_mtok), Some(output_per_mtok)) => {
            Some(Price { input_per_mtok, output_per_mtok, cache_read_per_mtok: None, cache_write_per_mtok: None })
        }
        _ => None,
    };
    vec![ModelRef {
        name: "env".to_owned(),
        provider: "openai".to_owned(),
        model,
        base_url: Some(url.unwrap_or_else(|| OPENAI_URL.to_owned())),
        api_key: key.map(|_| format!("env://{key_name}")),
        price,
        // Zero: not said. The tables of prices may know.
        context_window: tokens("CODEFORGE_LLM_CONTEXT_WINDOW", 0),
        max_output: tokens("CODEFORGE_LLM_MAX_OUTPUT", 0),
        tools: true,
        ..ModelRef::default()
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(environment: &[(&str, &str)]) -> Option<(String, String, Option<String>)> {
        let env = |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let models = discover(&env);
        models.into_iter().next().map(|model| (model.model, model.base_url.unwrap_or_default(), model.api_key))
    }

    fn row(model: &str, url: &str, key: Option<&str>) -> Option<(String, String, Option<String>)> {
        Some((model.to_owned(), url.to_owned(), key.map(str::to_owned)))
    }

    #[test]
    fn the_projects_own_names_come_first_and_keys_stay_with_their_addresses() {
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[("CODEFORGE_MODEL", "m")]), None);
        assert_eq!(found(&[("OPENAI_API_KEY", "  ")]), None);
        let openai = ("OPENAI_API_KEY", "k");
        assert_eq!(found(&[openai]), row("gpt-4.1", OPENAI_URL, Some("env://OPENAI_API_KEY")));
        assert_eq!(found(&[openai, ("CODEFORGE_MODEL", "m")]), row("m", OPENAI_URL, Some("env://OPENAI_API_KEY")));
        assert_eq!(found(&[openai, ("OPENAI_BASE_URL", "http://h")]), None);
        let local = ("CODEFORGE_LLM_BASE_URL", "http://h/v1");
        assert_eq!(found(&[local, openai]), None);
        assert_eq!(found(&[local, openai, ("CODEFORGE_MODEL", "m")]), row("m", "http://h/v1", None));
        assert_eq!(
            found(&[local, openai, ("CODEFORGE_MODEL", "m"), ("CODEFORGE_LLM_API_KEY", "k")]),
            row("m", "http://h/v1", Some("env://CODEFORGE_LLM_API_KEY"))
        );
    }

    #[test]
    fn sizes_and_prices_are_read_and_nonsense_is_the_default() {
        let env = |name: &str| {
            let value = match name {
                "OPENAI_API_KEY" => "k",
                "CODEFORGE_LLM_CONTEXT_WINDOW" => "4096",
                "CODEFORGE_LLM_MAX_OUTPUT" => "many",
                "CODEFORGE_LLM_PRICE_INPUT" => "2.5",
                "CODEFORGE_LLM_PRICE_OUTPUT" => "10",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let model = discover(&env).remove(0);
        assert_eq!((model.context_window, model.max_output), (4096, 0));
        assert_eq!(model.price.map(|price| (price.input_per_mtok, price.output_per_mtok)), Some((2.5, 10.0)));
    }
}
