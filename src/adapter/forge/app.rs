//! A GitHub App's tokens: minted just in time for the one repository and what a delivery needs, kept until five minutes
//! before their end, minted anew where the forge refuses one.
//!
//! An App proves who it is with a JWT that it signs itself: RS256, good for nine minutes. rustls, which is here anyway,
//! has the signature (decision 0037).

use super::http::{Ask, Failed, Http, Kind, address, read, with};
use super::token::{Fresh, TokenSource, bearer};
use super::{Tools, parse, time_ms};
use crate::port::clock::Clock;
use crate::port::forge::{AppKey, ForgeAt, ForgeError};
use crate::text;
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::header::HeaderMap;
use reqwest::{Method, Url};
use rustls::SignatureScheme;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::SigningKey;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Mutex;

/// A token is not used in the last five minutes of its hour.
pub(super) const SPARE_MS: i64 = 300_000;
/// A JWT may be good for ten minutes; clocks differ by one.
const BACK_S: i64 = 60;
const GOOD_S: i64 = 540;

/// Signs as an App.
struct Signer {
    id: String,
    key: Arc<dyn SigningKey>,
    clock: Arc<dyn Clock>,
}

impl Signer {
    fn new(key: &AppKey, clock: &Arc<dyn Clock>) -> Result<Self, ForgeError> {
        let wrong = |why: String| {
            ForgeError::Unsupported(format!(
                "the App's private key cannot be used: {why}; GitHub hands it out as a .pem file (Settings → Developer \
                 settings → GitHub Apps → your App → Private keys)"
            ))
        };
        let der = PrivateKeyDer::from_pem_slice(key.key.expose_secret().trim().as_bytes())
            .map_err(|_| wrong("it is not PEM".to_owned()))?;
        let signing =
            rustls::crypto::aws_lc_rs::sign::any_supported_type(&der).map_err(|error| wrong(error.to_string()))?;
        if signing.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]).is_none() {
            return Err(wrong("it is not an RSA key".to_owned()));
        }
        Ok(Self { id: key.id.trim().to_owned(), key: signing, clock: Arc::clone(clock) })
    }

    fn jwt(&self) -> Result<String, ForgeError> {
        let now = self.clock.now_ms() / 1000;
        let claims = json!({ "iat": now - BACK_S, "exp": now + GOOD_S, "iss": self.id });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&json!({ "alg": "RS256", "typ": "JWT" })), part(&claims));
        let wrong = || ForgeError::Unsupported("the App's private key did not sign".into());
        let signer = self.key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]).ok_or_else(wrong)?;
        let signature = signer.sign(signed.as_bytes()).map_err(|_| wrong())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

#[async_trait]
impl TokenSource for Signer {
    async fn token(&self) -> Result<Fresh, ForgeError> {
        Ok(Fresh { token: self.jwt()?.into(), until_ms: None })
    }

    async fn renew(&self, _: &Fresh) -> bool {
        false
    }

    fn known(&self) -> Option<SecretString> {
        None
    }
}

/// An installation's tokens.
pub(super) struct AppTokens {
    http: Http,
    api: Url,
    owner: String,
    name: String,
    permissions: BTreeMap<String, String>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    installation: Option<u64>,
    now: Option<Fresh>,
}

#[derive(Deserialize)]
struct Installation {
    id: u64,
    /// What its owner granted, by GitHub's names (`contents` → `write`).
    #[serde(default)]
    permissions: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Minted {
    token: String,
    expires_at: String,
}

impl AppTokens {
    pub(super) fn new(at: &ForgeAt, key: &AppKey, tools: &Tools) -> Result<Self, ForgeError> {
        let api = parse("the API's address", &at.api)?;
        let (owner, name) = at.repository.split_once('/').unwrap_or(("", &at.repository));
        let signer: Arc<dyn TokenSource> = Arc::new(Signer::new(key, &tools.clock)?);
        let headers = with(HeaderMap::new(), "x-github-api-version", "2022-11-28");
        let http = Http::new(&api, headers, (signer, bearer), tools.clone())?;
        Ok(Self {
            http,
            api,
            owner: owner.to_owned(),
            name: name.to_owned(),
            permissions: key.permissions(),
            clock: Arc::clone(&tools.clock),
            state: Mutex::new(State { installation: key.installation, now: None }),
        })
    }

    async fn installation(&self) -> Result<Installation, ForgeError> {
        let doing = "looking for the App's installation";
        let url = address(&self.api, &["repos", &self.owner, &self.name, "installation"], &[])?;
        let ask = Ask { needs: Some("the App installed on the repository"), ..Ask::read(url, doing) };
        self.http.json(&ask).await.map_err(Failed::into_inner)
    }

    async fn mint(&self, state: &mut State) -> Result<Fresh, ForgeError> {
        let id = match state.installation {
            Some(id) => id,
            None => self.installation().await?.id,
        };
        state.installation = Some(id);
        let url = address(&self.api, &["app", "installations", &id.to_string(), "access_tokens"], &[])?;
        let body = json!({ "repositories": [self.name], "permissions": self.permissions });
        let doing = "minting the App's token";
        // Minted twice is a token that nobody uses.
        let needs = Some("an App with the permissions that docs/forges.md lists, installed on the repository");
        let ask = Ask { method: Method::POST, body: Some(body), kind: Kind::Again, needs, ..Ask::read(url, doing) };
        let answer = match self.http.ask(&ask).await.map_err(Failed::into_inner) {
            Err(error @ ForgeError::Contract { .. }) => return Err(self.lacking().await.unwrap_or(error)),
            answer => answer?,
        };
        let minted: Minted = read(doing, &answer.body)?;
        let fresh = Fresh { token: minted.token.into(), until_ms: time_ms(&minted.expires_at) };
        state.now = Some(fresh.clone());
        Ok(fresh)
    }

    /// GitHub mints nothing where a permission is asked for that was not granted, and does not say which.
    async fn lacking(&self) -> Option<ForgeError> {
        let there = self.installation().await.ok()?;
        let granted = |name: &str| there.permissions.get(name).map_or("nothing", String::as_str);
        let lacks = self.permissions.iter().filter(|(name, level)| granted(name) != "write" && granted(name) != *level);
        let (wanted, has): (Vec<String>, Vec<String>) = lacks
            .map(|(name, level)| (format!("{name}: {level}"), format!("{name}: {}", text::clean(granted(name)))))
            .unzip();
        if wanted.is_empty() {
            return None;
        }
        let message = format!("its installation was granted less than is asked for: {}", has.join(", "));
        let needs = format!(
            "the App's permissions {} (its page ▸ Permissions & events; whoever installed it has to accept them)",
            wanted.join(", ")
        );
        Some(ForgeError::Refused { doing: "minting the App's token".into(), message, needs: Some(needs) })
    }
}

#[async_trait]
impl TokenSource for AppTokens {
    async fn token(&self) -> Result<Fresh, ForgeError> {
        let mut state = self.state.lock().await;
        let now = self.clock.now_ms();
        match &state.now {
            Some(fresh) if fresh.until_ms.is_none_or(|until| until - SPARE_MS > now) => Ok(fresh.clone()),
            _ => self.mint(&mut state).await,
        }
    }

    async fn renew(&self, refused: &Fresh) -> bool {
        let mut state = self.state.lock().await;
        // Somebody else may have been refused, and have minted, already.
        let same = state.now.as_ref().is_some_and(|now| now.text() == refused.text());
        if same {
            state.now = None;
        }
        !same || self.mint(&mut state).await.is_ok()
    }

    fn known(&self) -> Option<SecretString> {
        None
    }
}
