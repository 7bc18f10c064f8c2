//! The operator's settings with their secrets, as they are now: replaced as a whole when they are read again.

use crate::model::forge::ForgeKind;
use crate::model::serve::{Hook, Login, SecretAt, Serve};
use hmac::{Hmac, KeyInit};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

/// The largest file of a secret, in bytes.
const LARGEST: u64 = 64 * 1024;

/// Settings with their secrets.
pub struct Live {
    /// What `serve.yml` says.
    pub serve: Serve,
    secrets: BTreeMap<SecretAt, SecretString>,
    /// What opens which repository's door.
    forges: Vec<Key>,
    hooks: BTreeMap<String, Vec<Key>>,
}

/// A webhook secret, and whose it is.
pub(super) struct Key {
    /// The forge whose webhooks it is for; `None`: a hook's.
    pub(super) forge: Option<ForgeKind>,
    /// Ready to sign with.
    pub(super) hmac: Hmac<Sha256>,
    /// Ready to sign with, where it is written as Standard Webhooks write secrets (`whsec_…`).
    pub(super) standard: Hmac<Sha256>,
    /// The repositories that have this secret, by their place in the settings.
    pub(super) repositories: Vec<usize>,
}

impl Key {
    fn new(forge: Option<ForgeKind>, secret: &SecretString) -> Option<Self> {
        use base64::Engine;
        let text = secret.expose_secret();
        let standard = base64::engine::general_purpose::STANDARD;
        let decoded = text.strip_prefix("whsec_").and_then(|rest| standard.decode(rest).ok());
        Some(Self {
            forge,
            hmac: Hmac::new_from_slice(text.as_bytes()).ok()?,
            standard: Hmac::new_from_slice(decoded.as_deref().unwrap_or(text.as_bytes())).ok()?,
            repositories: Vec::new(),
        })
    }
}

impl Live {
    /// Reads all secrets that the settings name. `env`: the environment.
    ///
    /// # Errors
    /// Those that cannot be read, each with why.
    pub fn read(serve: Serve, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<String>> {
        let mut wanted: BTreeSet<&SecretAt> = serve.marker_key.iter().chain(serve.env.values()).collect();
        for repository in &serve.repositories {
            wanted.extend(&repository.secrets);
            wanted.extend(repository.env.values());
            wanted.insert(match &repository.login {
                Login::Token(at) => at,
                Login::App { private_key, .. } => private_key,
            });
        }
        wanted.extend(serve.hooks.values().flat_map(|hook| &hook.secrets));
        let mut secrets = BTreeMap::new();
        let mut problems = Vec::new();
        for at in wanted {
            match secret(at, env) {
                Ok(secret) => {
                    secrets.insert(at.clone(), secret);
                }
                Err(why) => problems.push(format!("{at}: {why}")),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut forges: Vec<(Option<ForgeKind>, &str, Key)> = Vec::new();
        for (place, repository) in serve.repositories.iter().enumerate() {
            for secret in repository.secrets.iter().filter_map(|at| secrets.get(at)) {
                let (forge, text) = (Some(repository.forge), secret.expose_secret());
                if let Some((_, _, key)) = forges.iter_mut().find(|(of, known, _)| *of == forge && *known == text) {
                    key.repositories.push(place);
                } else if let Some(mut key) = Key::new(forge, secret) {
                    key.repositories.push(place);
                    forges.push((forge, text, key));
                }
            }
        }
        let forges = forges.into_iter().map(|(.., key)| key).collect();
        let of_hook = |hook: &Hook| {
            let keys = hook.secrets.iter().filter_map(|at| Key::new(None, secrets.get(at)?));
            keys.collect::<Vec<_>>()
        };
        let hooks = serve.hooks.iter().map(|(name, hook)| (name.clone(), of_hook(hook))).collect();
        Ok(Self { serve, secrets, forges, hooks })
    }

    /// A secret that the settings name.
    pub fn secret(&self, at: &SecretAt) -> Option<&SecretString> {
        self.secrets.get(at)
    }

    /// The secrets of a forge's webhooks.
    pub(super) fn of_forge(&self, forge: ForgeKind) -> impl Iterator<Item = &Key> {
        self.forges.iter().filter(move |key| key.forge == Some(forge))
    }

    /// A hook, and its secrets.
    pub(super) fn hook(&self, name: &str) -> Option<(&Hook, &[Key])> {
        Some((self.serve.hooks.get(name)?, self.hooks.get(name)?))
    }
}

/// A secret's value.
fn secret(at: &SecretAt, env: &dyn Fn(&str) -> Option<String>) -> Result<SecretString, String> {
    let value = match at {
        SecretAt::Env(name) => env(name).ok_or("the variable is not set")?,
        SecretAt::File(path) => file(path)?,
    };
    let value = value.trim();
    if value.is_empty() { Err("it is empty".to_owned()) } else { Ok(SecretString::from(value.to_owned())) }
}

fn file(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| format!("it cannot be read: {error}"))?;
    let mut text = String::new();
    file.take(LARGEST + 1).read_to_string(&mut text).map_err(|error| format!("it cannot be read: {error}"))?;
    if text.len() as u64 > LARGEST { Err("it is larger than 64 KiB".to_owned()) } else { Ok(text) }
}

/// The settings as they are now.
pub struct Settings(RwLock<Arc<Live>>);

impl Settings {
    /// Settings to begin with.
    pub fn new(live: Live) -> Self {
        Self(RwLock::new(Arc::new(live)))
    }

    /// The settings now; what is held stays as it was.
    pub fn now(&self) -> Arc<Live> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Other settings, from now on.
    pub fn replace(&self, live: Live) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(live);
    }
}
