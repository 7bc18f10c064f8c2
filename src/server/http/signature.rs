//! Whether a webhook is from whom it says: over the raw bytes, in constant time, before anything is parsed.

use crate::model::forge::ForgeKind;
use crate::server::settings::Key;
use crate::text;
use axum::http::HeaderMap;
use base64::Engine;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// How far a signed time may be from ours, in seconds: what Standard Webhooks allow.
const APART_S: i64 = 300;
/// More signatures in a header are not looked at.
const SIGNATURES: usize = 8;

/// What a request shows for its sender.
#[derive(Debug)]
pub(super) enum Shown<'a> {
    /// HMAC-SHA256 of the body.
    Body(Vec<u8>),
    /// HMAC-SHA256 of id, time and body (Standard Webhooks), any of several.
    Standard { id: &'a str, at: &'a str, signatures: Vec<Vec<u8>> },
    /// The secret itself.
    Secret(&'a str),
}

pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim).filter(|value| !value.is_empty())
}

/// What a forge's webhook shows; empty: nothing that counts. SHA-1 counts for nothing.
pub(super) fn of_forge(forge: ForgeKind, headers: &HeaderMap) -> Vec<Shown<'_>> {
    let shown = match forge {
        ForgeKind::Github => vec![prefixed(headers)],
        ForgeKind::Gitlab => vec![standard(headers), header(headers, "x-gitlab-token").map(Shown::Secret)],
        ForgeKind::Gitea => {
            let digits = header(headers, "x-forgejo-signature").or_else(|| header(headers, "x-gitea-signature"));
            vec![digits.and_then(text::unhex).map(Shown::Body)]
        }
        ForgeKind::Local => Vec::new(),
    };
    shown.into_iter().flatten().collect()
}

/// What a call of our own hooks shows.
pub(super) fn of_hook(headers: &HeaderMap) -> Vec<Shown<'_>> {
    let bearer = header(headers, "authorization").and_then(|value| value.split_once(' '));
    let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, secret)| secret.trim());
    [standard(headers), prefixed(headers), bearer.map(Shown::Secret)].into_iter().flatten().collect()
}

/// GitHub's: `sha256=HEX`.
fn prefixed(headers: &HeaderMap) -> Option<Shown<'_>> {
    let digits = header(headers, "x-hub-signature-256")?.strip_prefix("sha256=")?;
    text::unhex(digits).map(Shown::Body)
}

/// Standard Webhooks': `v1,BASE64`, several with blanks between them. GitLab signs so where a webhook has a signing token.
fn standard(headers: &HeaderMap) -> Option<Shown<'_>> {
    let (id, at) = (header(headers, "webhook-id")?, header(headers, "webhook-timestamp")?);
    let decode = |text: &str| base64::engine::general_purpose::STANDARD.decode(text.strip_prefix("v1,")?).ok();
    let signatures: Vec<Vec<u8>> =
        header(headers, "webhook-signature")?.split(' ').take(SIGNATURES).filter_map(decode).collect();
    (!signatures.is_empty()).then_some(Shown::Standard { id, at, signatures })
}

impl Shown<'_> {
    /// Whether it was made with this key, for this body. `now_s`: seconds since 1970.
    pub(super) fn fits(&self, key: &Key, body: &[u8], now_s: i64) -> bool {
        match self {
            Self::Body(signature) => {
                let mut hmac = key.hmac.clone();
                hmac.update(body);
                hmac.verify_slice(signature).is_ok()
            }
            Self::Standard { id, at, signatures } => {
                let near = at.parse::<i64>().is_ok_and(|at| at.abs_diff(now_s) <= APART_S.unsigned_abs());
                let mut hmac = key.standard.clone();
                for part in [id.as_bytes(), b".", at.as_bytes(), b".", body] {
                    hmac.update(part);
                }
                near && signatures.iter().any(|signature| hmac.clone().verify_slice(signature).is_ok())
            }
            Self::Secret(secret) => same(secret, key),
        }
    }
}

/// Whether a text is the key's secret: both sign the same words, and the signatures are compared, so that the time it
/// takes says nothing.
fn same(secret: &str, key: &Key) -> bool {
    const WORDS: &[u8] = b"codeforge";
    let Ok(mut theirs) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return false };
    let mut ours = key.hmac.clone();
    theirs.update(WORDS);
    ours.update(WORDS);
    ours.verify_slice(&theirs.finalize().into_bytes()).is_ok()
}
