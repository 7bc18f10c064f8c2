//! Where tokens come from: one that is there, a file that somebody keeps fresh, a GitHub App, the server that runs us.

use super::Tools;
use super::app::AppTokens;
use super::lent::LentTokens;
use crate::port::forge::{Credential, ForgeAt, ForgeError};
use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A token, good for now.
#[derive(Clone)]
pub(super) struct Fresh {
    pub(super) token: SecretString,
    /// In milliseconds since 1970.
    pub(super) until_ms: Option<i64>,
}

impl Fresh {
    pub(super) fn text(&self) -> &str {
        self.token.expose_secret()
    }
}

/// Gives tokens.
#[async_trait]
pub(super) trait TokenSource: Send + Sync {
    /// A token that is good now, as far as one can know.
    async fn token(&self) -> Result<Fresh, ForgeError>;

    /// The forge refused this one. `true`: there is another one now.
    async fn renew(&self, refused: &Fresh) -> bool;

    /// The token, where it is known without asking anybody: what kind it is stands in how it begins.
    fn known(&self) -> Option<SecretString>;
}

/// How a token stands in a header.
pub(super) type Header = fn(&str) -> Result<(HeaderName, HeaderValue), ForgeError>;

/// `Authorization: Bearer …`.
pub(super) fn bearer(token: &str) -> Result<(HeaderName, HeaderValue), ForgeError> {
    Ok((AUTHORIZATION, secret(&format!("Bearer {token}"))?))
}

/// A header's value that no log shows.
pub(super) fn secret(value: &str) -> Result<HeaderValue, ForgeError> {
    let mut value = HeaderValue::from_str(value).map_err(|_| {
        ForgeError::Unsupported("the forge's token holds characters that no token has; look at its variable".into())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// The source of a forge's tokens.
pub(super) fn source(at: &ForgeAt, tools: &Tools) -> Result<Arc<dyn TokenSource>, ForgeError> {
    let empty = || ForgeError::Unsupported("the forge's token is empty; set CODEFORGE_FORGE_TOKEN".into());
    Ok(match &at.token {
        Credential::None => return Err(empty()),
        Credential::Token(token) => Arc::new(Fixed::new(token.expose_secret()).ok_or_else(empty)?),
        Credential::File(path) => Arc::new(InFile::new(path)?),
        Credential::App(key) => Arc::new(AppTokens::new(at, key, tools)?),
        Credential::Lent => {
            let lender = tools.settings.lender.clone().ok_or_else(empty)?;
            Arc::new(LentTokens::new(lender, &tools.clock))
        }
    })
}

/// One that is there, and that nobody can renew.
pub(super) struct Fixed(Fresh);

impl Fixed {
    pub(super) fn new(token: &str) -> Option<Self> {
        let token = token.trim();
        (!token.is_empty()).then(|| Self(Fresh { token: token.to_owned().into(), until_ms: None }))
    }
}

#[async_trait]
impl TokenSource for Fixed {
    async fn token(&self) -> Result<Fresh, ForgeError> {
        Ok(self.0.clone())
    }

    async fn renew(&self, _: &Fresh) -> bool {
        false
    }

    fn known(&self) -> Option<SecretString> {
        Some(self.0.token.clone())
    }
}

/// One in a file: read when it is first wanted, and again when the forge refused it.
struct InFile {
    path: PathBuf,
    now: Mutex<Fresh>,
}

impl InFile {
    fn new(path: &Path) -> Result<Self, ForgeError> {
        Ok(Self { path: path.to_owned(), now: Mutex::new(Self::read(path)?) })
    }

    fn read(path: &Path) -> Result<Fresh, ForgeError> {
        let wrong = |why: String| ForgeError::Unsupported(format!("the token's file `{}`: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        Fixed::new(&text).map(|fixed| fixed.0).ok_or_else(|| wrong("it is empty".to_owned()))
    }
}

#[async_trait]
impl TokenSource for InFile {
    async fn token(&self) -> Result<Fresh, ForgeError> {
        Ok(self.now.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    async fn renew(&self, refused: &Fresh) -> bool {
        let Ok(read) = Self::read(&self.path) else { return false };
        let other = read.text() != refused.text();
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = read;
        other
    }

    fn known(&self) -> Option<SecretString> {
        Some(self.now.lock().unwrap_or_else(PoisonError::into_inner).token.clone())
    }
}
