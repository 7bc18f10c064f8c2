//! Models and servers that the environment names, beyond OpenAI's and the project's own variables.

use crate::model::catalog::Server;
use crate::model::chat::ModelRef;
use crate::model::usage::Price;

/// A group of variables: one provider, its address, its key. A key is used only with the address of its own group.
struct Group {
    provider: &'static str,
    /// Variables that hold the address; the first that is set counts.
    urls: &'static [&'static str],
    /// Variables that hold the key.
    keys: &'static [&'static str],
    /// The address where only the key is set; empty: an address is needed.
    usual: &'static str,
    /// The model that is asked where none is named; empty: one must be named.
    model: &'static str,
    /// The port where an address has none.
    port: Option<u16>,
}

/// In the order in which they count. The first two are those that a model is found by before all others.
const GROUPS: [Group; 6] = [
    Group {
        provider: "openai",
        urls: &["CODEFORGE_LLM_BASE_URL"],
        keys: &["CODEFORGE_LLM_API_KEY"],
        usual: "https://api.openai.com/v1",
        model: "",
        port: None,
    },
    Group {
        provider: "openai",
        urls: &["OPENAI_BASE_URL"],
        keys: &["OPENAI_API_KEY"],
        usual: "https://api.openai.com/v1",
        model: "",
        port: None,
    },
    Group {
        provider: "anthropic",
        urls: &["ANTHROPIC_BASE_URL"],
        keys: &["ANTHROPIC_API_KEY"],
        usual: "https://api.anthropic.com/v1",
        model: "claude-sonnet-4-6",
        port: None,
    },
    Group {
        provider: "openrouter",
        urls: &["OPENROUTER_BASE_URL"],
        keys: &["OPENROUTER_API_KEY"],
        usual: "https://openrouter.ai/api/v1",
        model: "anthropic/claude-sonnet-4.6",
        port: None,
    },
    Group {
        provider: "litellm",
        urls: &["LITELLM_BASE_URL", "LITELLM_PROXY_API_BASE"],
        keys: &["LITELLM_API_KEY", "LITELLM_PROXY_API_KEY"],
        usual: "",
        model: "",
        port: None,
    },
    Group { provider: "ollama", urls: &["OLLAMA_HOST"], keys: &[], usual: "", model: "", port: Some(11434) },
];

/// Where local servers usually are.
const USUAL: [(&str, &str); 2] = [("ollama", "http://127.0.0.1:11434/v1"), ("lmstudio", "http://127.0.0.1:1234/v1")];

/// What is set of a group.
struct Set {
    url: String,
    key: Option<&'static str>,
    by: &'static str,
}

impl Group {
    fn set(&self, env: &dyn Fn(&str) -> Option<String>) -> Option<Set> {
        let has = |name: &&str| text(env, name).is_some();
        let key = self.keys.iter().copied().find(has);
        let named = self.urls.iter().copied().find(has);
        let url = match named.and_then(|name| text(env, name)) {
            Some(url) => address(&url, self.port),
            None if key.is_some() && !self.usual.is_empty() => self.usual.to_owned(),
            None => return None,
        };
        Some(Set { url, key, by: named.or(key)? })
    }
}

fn text(env: &dyn Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    env(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// The model that other providers' variables configure, named `env`. Only where neither the project's own variables
/// nor OpenAI's are set: those say what is wanted, even where they say too little. `CODEFORGE_MODEL` names the model;
/// Anthropic and OpenRouter have one that is asked where it is not set.
pub fn model(env: &dyn Fn(&str) -> Option<String>) -> Option<ModelRef> {
    let (first, others) = GROUPS.split_at(2);
    if first.iter().any(|group| group.urls.iter().chain(group.keys).any(|name| text(env, name).is_some())) {
        return None;
    }
    let (group, set) = others.iter().find_map(|group| Some((group, group.set(env)?)))?;
    let usual = Some(group.model.to_owned()).filter(|model| !model.is_empty());
    let number = |name: &str| text(env, name).and_then(|value| value.parse().ok()).unwrap_or_default();
    let dollars = |name: &str| {
        text(env, name).and_then(|value| value.parse::<f64>().ok()).filter(|price| price.is_finite() && *price >= 0.0)
    };
    let price = dollars("CODEFORGE_LLM_PRICE_INPUT").zip(dollars("CODEFORGE_LLM_PRICE_OUTPUT"));
    Some(ModelRef {
        name: "env".to_owned(),
        provider: group.provider.to_owned(),
        model: text(env, "CODEFORGE_MODEL").or(usual)?,
        base_url: Some(set.url),
        api_key: set.key.map(|name| format!("env://{name}")),
        price: price.map(|(input_per_mtok, output_per_mtok)| Price {
            input_per_mtok,
            output_per_mtok,
            ..Price::default()
        }),
        // Zero: not said. The tables of prices may know.
        context_window: number("CODEFORGE_LLM_CONTEXT_WINDOW"),
        max_output: number("CODEFORGE_LLM_MAX_OUTPUT"),
        tools: true,
        ..ModelRef::default()
    })
}

/// Servers that the environment names, and the addresses that local ones usually have.
pub fn servers(env: &dyn Fn(&str) -> Option<String>) -> Vec<Server> {
    let named = GROUPS.iter().filter_map(|group| {
        let set = group.set(env)?;
        Some(Server {
            provider: group.provider.to_owned(),
            base_url: set.url,
            api_key: set.key.map(|name| format!("env://{name}")),
            known_by: set.by.to_owned(),
            named: true,
        })
    });
    let mut servers: Vec<Server> = named.collect();
    for (provider, url) in USUAL {
        if !servers.iter().any(|server| server.provider == provider) {
            servers.push(Server {
                provider: provider.to_owned(),
                base_url: url.to_owned(),
                api_key: None,
                known_by: "usual address".to_owned(),
                named: false,
            });
        }
    }
    servers
}

/// An address as people write it → a base URL: `0.0.0.0` → `http://127.0.0.1:11434/v1`.
fn address(text: &str, port: Option<u16>) -> String {
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let rest = rest.trim_end_matches('/');
    let (host, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
    // Every interface is where a server listens; no one can be reached there.
    let host = host.replace("0.0.0.0", "127.0.0.1");
    let bare = !host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let port = port.filter(|_| bare).map(|port| format!(":{port}")).unwrap_or_default();
    let path = if path.is_empty() { "v1" } else { path };
    format!("{scheme}://{host}{port}/{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(set: &'static [(&'static str, &'static str)]) -> impl Fn(&str) -> Option<String> {
        move |name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn one_key_is_enough_where_a_provider_has_a_usual_model() {
        let found = |set: &'static [(&'static str, &'static str)]| {
            let model = model(&lookup(set))?;
            Some([model.provider, model.model, model.base_url?, model.api_key.unwrap_or_default()])
        };
        let row = |all: [&str; 4]| Some(all.map(str::to_owned));
        let anthropic = ["anthropic", "claude-sonnet-4-6", "https://api.anthropic.com/v1", "env://ANTHROPIC_API_KEY"];
        assert_eq!(found(&[("ANTHROPIC_API_KEY", "k")]), row(anthropic));
        assert_eq!(found(&[("ANTHROPIC_API_KEY", "k"), ("OPENROUTER_API_KEY", "k")]), row(anthropic));
        assert_eq!(
            found(&[("ANTHROPIC_API_KEY", "k"), ("ANTHROPIC_BASE_URL", "https://gate"), ("CODEFORGE_MODEL", "m")]),
            row(["anthropic", "m", "https://gate/v1", "env://ANTHROPIC_API_KEY"])
        );
        assert_eq!(found(&[("ANTHROPIC_BASE_URL", " ")]), None);
        // The project's own variables say too little here, and still nothing else is asked in their place.
        assert_eq!(found(&[("ANTHROPIC_API_KEY", "k"), ("CODEFORGE_LLM_BASE_URL", "http://h/v1")]), None);
        assert_eq!(found(&[("LITELLM_BASE_URL", "http://h:4000"), ("LITELLM_API_KEY", "k")]), None);
        assert_eq!(
            found(&[("LITELLM_BASE_URL", "http://h:4000"), ("LITELLM_API_KEY", "k"), ("CODEFORGE_MODEL", "team")]),
            row(["litellm", "team", "http://h:4000/v1", "env://LITELLM_API_KEY"])
        );
        let priced = [
            ("OLLAMA_HOST", "h"),
            ("CODEFORGE_MODEL", "m"),
            ("CODEFORGE_LLM_PRICE_INPUT", "1"),
            ("CODEFORGE_LLM_PRICE_OUTPUT", "2.5"),
        ];
        let price = |set: &[(&str, &str)]| {
            let env = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            model(&env)?.price.map(|price| (price.input_per_mtok, price.output_per_mtok))
        };
        assert_eq!((price(&priced), price(&priced[..3])), (Some((1.0, 2.5)), None));
        // A key without its address goes nowhere.
        assert_eq!(found(&[("LITELLM_API_KEY", "k"), ("CODEFORGE_MODEL", "team")]), None);
        assert_eq!(
            found(&[("OLLAMA_HOST", "0.0.0.0"), ("CODEFORGE_MODEL", "qwen3:8b")]),
            row(["ollama", "qwen3:8b", "http://127.0.0.1:11434/v1", ""])
        );
    }

    #[test]
    fn servers_are_those_that_are_named_and_the_usual_local_ones() {
        let set =
            &[("OPENAI_API_KEY", "k"), ("OLLAMA_HOST", "https://box:9/x/"), ("LITELLM_PROXY_API_BASE", "http://p")];
        let servers: Vec<_> = servers(&lookup(set))
            .into_iter()
            .map(|it| (it.provider, it.base_url, it.api_key, it.known_by, it.named))
            .collect();
        let row = |provider: &str, url: &str, key: Option<&str>, by: &str, named| {
            (provider.to_owned(), url.to_owned(), key.map(str::to_owned), by.to_owned(), named)
        };
        assert_eq!(
            servers,
            [
                row("openai", "https://api.openai.com/v1", Some("env://OPENAI_API_KEY"), "OPENAI_API_KEY", true),
                row("litellm", "http://p/v1", None, "LITELLM_PROXY_API_BASE", true),
                row("ollama", "https://box:9/x", None, "OLLAMA_HOST", true),
                row("lmstudio", "http://127.0.0.1:1234/v1", None, "usual address", false),
            ]
        );
    }
}
