//! Where a request goes, and with which key.

use super::dialect::{Dialect, KeyHeader};
use super::failure::Failure;
use crate::model::chat::{ModelFault, ModelRef};
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;

/// Gives the value of the variable whose name stands in `env://NAME`.
pub type KeyLookup = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// An address with its credentials.
pub(super) struct Target {
    /// `…/chat/completions` or `…/messages`, without user information.
    pub(super) url: Url,
    /// The address as it may be shown: no user information, no query.
    pub(super) shown: String,
    /// The key, where one is configured.
    pub(super) key: Option<SecretString>,
    /// The name of the variable that holds it.
    pub(super) key_name: Option<String>,
    /// User and password of the address itself.
    user: Option<(String, SecretString)>,
    key_header: KeyHeader,
    /// What the dialect and the provider want beside the key.
    further: Vec<(&'static str, String)>,
}

impl Target {
    /// Reads a model's address and looks its key up.
    pub(super) fn of(model: &ModelRef, dialect: &dyn Dialect, lookup: &KeyLookup) -> Result<Self, Failure> {
        let wrong = |what: &str| Failure::new(ModelFault::NotFound, false, what);
        let base = model.base_url.as_deref().ok_or_else(|| wrong("it has no `base_url`"))?;
        // The text is not repeated: what does not parse may hold a password anywhere.
        let mut url = Url::parse(base).map_err(|error| wrong(&format!("its `base_url` is not a URL ({error})")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("its `base_url` must begin with http:// or https://"));
        }
        let user = (!url.username().is_empty() || url.password().is_some())
            .then(|| (decoded(url.username()), SecretString::from(decoded(url.password().unwrap_or_default()))));
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_fragment(None);
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(dialect.path());
        }
        let mut shown = url.clone();
        shown.set_query(None);
        let shown = shown.as_str().trim_end_matches(&format!("/{}", dialect.path().join("/"))).to_owned();
        let (key, key_name) = match &model.api_key {
            None => (None, None),
            Some(reference) => {
                let (name, key) = key(reference, lookup)?;
                (Some(key), Some(name))
            }
        };
        let (key_header, further) = (dialect.key_header(model), dialect.headers(model));
        Ok(Self { url, shown, key, key_name, user, key_header, further })
    }

    /// The credentials as headers, marked so that nothing prints them, and what else the provider wants.
    pub(super) fn headers(&self) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.further {
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
                let what = format!("the header {name} cannot hold {value:?}");
                Failure::new(ModelFault::BadRequest, false, what)
            })?;
            headers.insert(HeaderName::from_static(name), value);
        }
        let (name, text) = match (&self.key, &self.user, self.key_header) {
            (Some(key), _, KeyHeader::Named(name)) => (HeaderName::from_static(name), key.clone()),
            (Some(key), _, KeyHeader::Bearer) => {
                (AUTHORIZATION, SecretString::from(format!("Bearer {}", key.expose_secret())))
            }
            (None, Some((user, password)), _) => {
                let pair = base64(format!("{user}:{}", password.expose_secret()).as_bytes());
                (AUTHORIZATION, SecretString::from(format!("Basic {pair}")))
            }
            (None, None, _) => return Ok(headers),
        };
        let mut value = HeaderValue::from_str(text.expose_secret()).map_err(|_| {
            let name = self.key_name.as_deref().unwrap_or("the address");
            Failure::new(ModelFault::Auth, false, format!("the key in {name} holds characters that no key has"))
        })?;
        value.set_sensitive(true);
        headers.insert(name, value);
        Ok(headers)
    }

    /// The key as text, to mask it where a server repeats it.
    pub(super) fn secret(&self) -> Option<&str> {
        let password = self.user.as_ref().map(|(_, password)| password.expose_secret());
        self.key.as_ref().map(ExposeSecret::expose_secret).or(password)
    }
}

fn key(reference: &str, lookup: &KeyLookup) -> Result<(String, SecretString), Failure> {
    let auth = |what: String| Failure::new(ModelFault::Auth, false, what);
    let Some(name) = reference.strip_prefix("env://").filter(|name| !name.is_empty()) else {
        // It may be the key itself: it is not repeated.
        return Err(auth("its `api_key` is not a reference: write `env://NAME`, never the key itself".to_owned()));
    };
    match lookup(name).map(|key| key.trim().to_owned()).filter(|key| !key.is_empty()) {
        Some(key) => Ok((name.to_owned(), SecretString::from(key))),
        None => Err(auth(format!("its key is to be in the environment variable {name}, which is not set"))),
    }
}

/// Undoes `%41`.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match hex.and_then(|two| u8::from_str_radix(two, 16).ok()).filter(|_| byte == b'%') {
            Some(value) => {
                bytes.push(value);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Base 64 (RFC 4648, 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let byte = |at: usize| three.get(at).copied().map_or(0, u32::from);
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4usize {
            if place > three.len() {
                text.push('=');
            } else {
                let six = (bits >> (18 - 6 * place)) as usize & 63;
                text.push(ALPHABET.get(six).copied().map_or('=', char::from));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::openai::OpenAi;
    use super::*;

    fn model(base_url: &str, api_key: Option<&str>) -> ModelRef {
        ModelRef {
            name: "m".to_owned(),
            provider: "openai".to_owned(),
            model: "m".to_owned(),
            base_url: Some(base_url.to_owned()),
            api_key: api_key.map(str::to_owned),
            price: None,
            context_window: 1,
            max_output: 1,
            tools: true,
            ..ModelRef::default()
        }
    }

    fn target(base_url: &str, api_key: Option<&str>) -> Result<Target, Failure> {
        let lookup: KeyLookup = Arc::new(|name| (name == "KEY").then(|| " secret-key\n".to_owned()));
        Target::of(&model(base_url, api_key), &OpenAi, &lookup)
    }

    #[test]
    fn addresses_with_slashes_queries_and_passwords() {
        for (base, url, shown) in [
            ("http://h/v1", "http://h/v1/chat/completions", "http://h/v1"),
            ("http://h/v1/", "http://h/v1/chat/completions", "http://h/v1"),
            ("https://h", "https://h/chat/completions", "https://h"),
            ("https://u:p%40@h:8/v1?k=v#f", "https://h:8/v1/chat/completions?k=v", "https://h:8/v1"),
        ] {
            let target = target(base, None).ok().unwrap();
            assert_eq!((target.url.as_str(), target.shown.as_str()), (url, shown));
        }
        let basic = target("http://u:p%40@h", None).ok().unwrap().headers().unwrap();
        assert_eq!(basic[AUTHORIZATION], "Basic dTpwQA==");
        let bearer = target("http://u:p%40@h", Some("env://KEY")).ok().unwrap().headers().unwrap();
        assert_eq!(bearer[AUTHORIZATION], "Bearer secret-key");
        assert!(!format!("{bearer:?}").contains("secret-key"));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret() {
        for (base, key, says) in [
            ("ftp://h", None, "http:// or https://"),
            ("u:hunter2@h", None, "http:// or https://"),
            ("http://u:hunter2@[h", None, "not a URL"),
            ("http://h", Some("hunter2"), "write `env://NAME`"),
            ("http://h", Some("env://OTHER"), "OTHER, which is not set"),
        ] {
            let failure = target(base, key).err().unwrap();
            assert!(failure.what.contains(says) && !failure.what.contains("hunter2"), "{}", failure.what);
        }
    }

    #[test]
    fn base64_of_every_length() {
        let encoded: Vec<String> = ["", "f", "fo", "foo", "foob"].iter().map(|text| base64(text.as_bytes())).collect();
        assert_eq!(encoded, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]);
    }
}
