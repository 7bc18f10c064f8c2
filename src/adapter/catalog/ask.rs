//! Asking a server what it serves: short deadlines, no retries, no redirects.

use super::shapes;
use crate::adapter::llm::KeyLookup;
use crate::adapter::tls;
use crate::model::catalog::{Listing, Served, Server};
use crate::port::model::Catalog;
use crate::text;
use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::error::Error;
use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

/// One question has to be answered in this time, all of it.
const DEADLINE: Duration = Duration::from_secs(2);
/// The largest answer, in bytes.
const LARGEST: usize = 16 << 20;
/// So many of Ollama's models are asked about one by one.
const ASKED_ABOUT: usize = 32;

/// Asks servers what they serve, each in its own way.
pub struct Asker {
    key: KeyLookup,
    plain: OnceLock<Result<Client, String>>,
    /// Reads the machine's certificates, so it is made when it is first needed.
    secure: OnceLock<Result<Client, String>>,
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asker").finish_non_exhaustive()
    }
}

/// Why there is no answer.
enum Failure {
    /// Nobody is there.
    Absent(String),
    /// Somebody is, and says no, or something else than was asked for.
    Refused(String),
}

impl Asker {
    /// `key` gives the value of a variable that holds a key.
    pub fn new(key: KeyLookup) -> Self {
        tls::init();
        Self { key, plain: OnceLock::new(), secure: OnceLock::new() }
    }

    fn client(&self, url: &Url) -> Result<&Client, Failure> {
        let secure = url.scheme() == "https";
        let slot = if secure { &self.secure } else { &self.plain };
        let extra =
            || (self.key)("CODEFORGE_EXTRA_CA").filter(|file| !file.trim().is_empty()).map(std::path::PathBuf::from);
        slot.get_or_init(|| client(secure, extra().as_deref()))
            .as_ref()
            .map_err(|error| Failure::Refused(format!("no client: {error}")))
    }

    /// The server's address with another path: `/v1` and what comes after it is its last part.
    fn url(&self, server: &Server, root: bool, path: &[&str]) -> Result<Url, Failure> {
        // The text is not repeated: what does not parse may hold a password anywhere.
        let mut url = Url::parse(&server.base_url)
            .map_err(|error| Failure::Refused(format!("its address is not a URL ({error})")))?;
        let versioned = url.path().trim_end_matches('/').ends_with("/v1");
        url.path_segments_mut()
            .map_err(|()| Failure::Refused("its address must begin with http:// or https://".to_owned()))?
            .pop_if_empty();
        if let Ok(mut segments) = url.path_segments_mut() {
            if root && versioned {
                segments.pop();
            }
            segments.extend(path);
        }
        Ok(url)
    }

    fn headers(&self, server: &Server) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        if server.provider == "anthropic" {
            headers.insert(HeaderName::from_static("anthropic-version"), HeaderValue::from_static("2023-06-01"));
        }
        let Some(reference) = &server.api_key else { return Ok(headers) };
        let name = reference.strip_prefix("env://").unwrap_or_default();
        let Some(key) = (self.key)(name).map(|key| key.trim().to_owned()).filter(|key| !key.is_empty()) else {
            return Err(Failure::Refused(format!("its key is to be in {name}, which is not set")));
        };
        let key = SecretString::from(key);
        let (header, text) = match server.provider.as_str() {
            "anthropic" => (HeaderName::from_static("x-api-key"), key),
            "azure" => (HeaderName::from_static("api-key"), key),
            _ => (AUTHORIZATION, SecretString::from(format!("Bearer {}", key.expose_secret()))),
        };
        let mut value = HeaderValue::from_str(text.expose_secret())
            .map_err(|_| Failure::Refused(format!("the key in {name} holds characters that no key has")))?;
        value.set_sensitive(true);
        headers.insert(header, value);
        Ok(headers)
    }

    async fn get(&self, server: &Server, root: bool, path: &[&str]) -> Result<Value, Failure> {
        let url = self.url(server, root, path)?;
        let request = self.client(&url)?.get(url).headers(self.headers(server)?);
        answer(request).await
    }

    /// LiteLLM's own list, and the common one where it has none.
    async fn litellm(&self, server: &Server) -> Result<Vec<Served>, Failure> {
        match self.get(server, true, &["model", "info"]).await {
            Ok(body) => match shapes::litellm(&body) {
                Some(models) => Ok(models),
                None => self.openai(server).await,
            },
            // A proxy may keep its list from a key that may ask for models all the same.
            Err(Failure::Refused(_)) => self.openai(server).await,
            Err(absent) => Err(absent),
        }
    }

    async fn openai(&self, server: &Server) -> Result<Vec<Served>, Failure> {
        let body = self.get(server, false, &["models"]).await?;
        shapes::openai(&body).ok_or_else(|| Failure::Refused("its list of models is none".to_owned()))
    }

    /// LM Studio's own list says more; older ones have the common one only.
    async fn lmstudio(&self, server: &Server) -> Result<Vec<Served>, Failure> {
        match self.get(server, true, &["api", "v0", "models"]).await {
            Ok(body) if shapes::openai(&body).is_some() => Ok(shapes::openai(&body).unwrap_or_default()),
            Ok(_) | Err(Failure::Refused(_)) => self.openai(server).await,
            Err(absent) => Err(absent),
        }
    }

    /// Ollama's list of names, and what it knows of each.
    async fn ollama(&self, server: &Server) -> Result<Vec<Served>, Failure> {
        let body = self.get(server, true, &["api", "tags"]).await?;
        let mut models =
            shapes::ollama(&body).ok_or_else(|| Failure::Refused("its list of models is none".to_owned()))?;
        let url = self.url(server, true, &["api", "show"])?;
        let (client, headers) = (self.client(&url)?, self.headers(server)?);
        let ask = |served: &Served| {
            answer(client.post(url.clone()).headers(headers.clone()).json(&json!({ "model": served.model })))
        };
        let asked: Vec<_> = models.iter().take(ASKED_ABOUT).map(ask).collect();
        for (served, said) in models.iter_mut().zip(futures::future::join_all(asked).await) {
            // What it does not say of a model is not known; that it serves it is.
            if let Ok(said) = said {
                shapes::ollama_model(&said, served);
            }
        }
        Ok(models)
    }
}

#[async_trait]
impl Catalog for Asker {
    async fn list(&self, server: &Server) -> Listing {
        // Servers of OpenAI's protocol at another address than OpenAI's are LiteLLM proxies often enough.
        let foreign = server.provider == "openai" && !server.base_url.starts_with("https://api.openai.com/");
        let found = match server.provider.as_str() {
            "litellm" => self.litellm(server).await,
            "ollama" => self.ollama(server).await,
            "lmstudio" => self.lmstudio(server).await,
            _ if foreign => self.litellm(server).await,
            _ => self.openai(server).await,
        };
        match found {
            Ok(models) => Listing::Served(models),
            Err(Failure::Absent(why)) => Listing::Absent(why),
            Err(Failure::Refused(why)) => Listing::Refused(why),
        }
    }

    async fn clock(&self, url: &str) -> Result<i64, String> {
        let url = Url::parse(url).map_err(|error| format!("its address is not a URL ({error})"))?;
        let words = |failure| match failure {
            Failure::Absent(why) | Failure::Refused(why) => why,
        };
        let request = self.client(&url).map_err(words)?.get(url).timeout(DEADLINE);
        let answer = request.send().await.map_err(|error| error.without_url().to_string())?;
        let date = answer.headers().get(reqwest::header::DATE).and_then(|date| date.to_str().ok());
        let date = date.ok_or_else(|| "it does not say what time it is".to_owned())?;
        let date =
            jiff::fmt::rfc2822::parse(date).map_err(|_| format!("its time `{}` cannot be read", text::clean(date)))?;
        Ok(date.timestamp().as_millisecond())
    }
}

fn client(secure: bool, extra_ca: Option<&std::path::Path>) -> Result<Client, String> {
    let mut builder = Client::builder()
        // A redirect would take the key to another host.
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(DEADLINE)
        .timeout(DEADLINE)
        .user_agent(concat!("codeforge/", env!("CARGO_PKG_VERSION")));
    if !secure {
        builder = builder.tls_certs_only([]);
    } else {
        builder = tls::trusting(builder, extra_ca)?;
    }
    builder.build().map_err(|error| cause(&error))
}

/// Sends a question and reads its answer, which is to be JSON. What a server says in words is not repeated: it is
/// nobody's business here, and may hold the key.
async fn answer(request: RequestBuilder) -> Result<Value, Failure> {
    let late = || Failure::Absent(format!("no answer within {} s", DEADLINE.as_secs()));
    let mut response = request.send().await.map_err(|error| match error {
        error if error.is_timeout() => late(),
        error if error.is_builder() => Failure::Refused(cause(&error)),
        error => Failure::Absent(cause(&error)),
    })?;
    let status = response.status();
    if !status.is_success() {
        let advice = match status.as_u16() {
            401 | 403 => " (it wants another key)",
            _ => "",
        };
        return Err(Failure::Refused(format!("it answers {status}{advice}")));
    }
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Ok(None) => break,
            Err(error) if error.is_timeout() => return Err(late()),
            Err(error) => return Err(Failure::Absent(cause(&error))),
        }
        if body.len() > LARGEST {
            return Err(Failure::Refused(format!("its answer is larger than {LARGEST} bytes")));
        }
    }
    serde_json::from_slice(&body).map_err(|_| Failure::Refused("its answer is no JSON".to_owned()))
}

/// An error's deepest cause. The outer ones repeat the address, with everything that is in it.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if cause.is::<reqwest::Error>() { "the connection broke off".to_owned() } else { text::clean(&cause.to_string()) }
}
