//! Secrets, as they are and in the encodings that a leak would choose.

use std::collections::BTreeSet;
use std::fmt::Write;

/// Secrets shorter than this many bytes are not looked for: they would match by chance.
const SHORTEST: usize = 6;
/// The shortest base64 fragment that counts.
const SHORTEST_FRAGMENT: usize = 8;

/// Whether `text` holds one of the secrets: plain, reversed, in hex, in URL encoding, in JSON escapes or within base64
/// at any offset; also where white space has been strewn between. Secrets of fewer than 6 bytes are not looked for.
pub fn contains_secret(text: &str, secrets: &[&str]) -> bool {
    Redactor::new(secrets).found_in(text)
}

/// Enough of a key to know it by, and too little to use it: `sk-…3f9a`; `…` for a short one.
pub fn mask(key: &str) -> String {
    let letters: Vec<char> = key.chars().collect();
    if letters.len() < 20 {
        return "…".to_owned();
    }
    let head: String = letters.iter().take(3).collect();
    let tail: String = letters.iter().skip(letters.len() - 4).collect();
    format!("{head}…{tail}")
}

/// `text` with every form of every secret (see [`contains_secret`], but for strewn white space) replaced by `***`.
pub fn redact(text: &str, secrets: &[&str]) -> String {
    Redactor::new(secrets).redact(text)
}

/// Secrets in all their forms, for whoever looks for them in many texts.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    forms: BTreeSet<Form>,
    squeezed: BTreeSet<Form>,
}

impl Redactor {
    /// For these secrets.
    pub fn new<S: AsRef<str>>(secrets: &[S]) -> Self {
        let forms: BTreeSet<Form> = secrets.iter().flat_map(|secret| forms(secret.as_ref())).collect();
        let squeezed = forms
            .iter()
            .map(|form| Form { text: form.text.chars().filter(|c| !c.is_whitespace()).collect(), ..form.clone() })
            .filter(|form| form.text.len() >= SHORTEST)
            .collect();
        Self { forms, squeezed }
    }

    /// Whether there is anything to look for.
    pub fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    /// As [`contains_secret`].
    pub fn found_in(&self, text: &str) -> bool {
        if self.is_empty() || text.len() < SHORTEST {
            return false;
        }
        if self.forms.iter().any(|form| !find(text, form).is_empty()) {
            return true;
        }
        let squeezed: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        squeezed.len() != text.len() && self.squeezed.iter().any(|form| !find(&squeezed, form).is_empty())
    }

    /// As [`redact`].
    pub fn redact(&self, text: &str) -> String {
        let mut hits: Vec<(usize, usize)> = self.forms.iter().flat_map(|form| find(text, form)).collect();
        if hits.is_empty() {
            return text.to_owned();
        }
        hits.sort_unstable();
        let mut out = String::with_capacity(text.len());
        let mut done = 0;
        let mut redacted_to = None;
        for (start, end) in hits {
            if redacted_to.is_none_or(|last| start > last) {
                out.push_str(text.get(done..start).unwrap_or_default());
                out.push_str("***");
            }
            done = done.max(end);
            redacted_to = Some(done);
        }
        out.push_str(text.get(done..).unwrap_or_default());
        out
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Form {
    text: String,
    any_case: bool,
}

/// All places of `form` in `text`, as byte ranges on character boundaries.
fn find(text: &str, form: &Form) -> Vec<(usize, usize)> {
    if form.text.is_empty() {
        return Vec::new();
    }
    if !form.any_case {
        return text.match_indices(&form.text).map(|(at, found)| (at, at + found.len())).collect();
    }
    // ASCII only, so the lower-case copy has the same offsets.
    text.to_ascii_lowercase().match_indices(&form.text).map(|(at, found)| (at, at + found.len())).collect()
}

/// The forms that a secret may take.
fn forms(secret: &str) -> BTreeSet<Form> {
    let mut forms = BTreeSet::new();
    let secret = secret.trim();
    if secret.len() < SHORTEST {
        return forms;
    }
    let mut exact = |text: String| {
        forms.insert(Form { text, any_case: false });
    };
    exact(secret.to_owned());
    exact(secret.chars().rev().collect());
    let json = serde_json::Value::from(secret).to_string();
    exact(json.trim_matches('"').to_owned());
    for fragment in base64_fragments(secret.as_bytes()) {
        exact(fragment.replace('+', "-").replace('/', "_"));
        exact(fragment);
    }
    let hex = secret.bytes().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    let all_percent = secret.bytes().fold(String::new(), |mut url, byte| {
        let _ = write!(url, "%{byte:02x}");
        url
    });
    let percent = percent(secret);
    let form = percent.replace("%20", "+");
    forms.extend([hex, all_percent].map(|text| Form { text, any_case: true }));
    // Case within a secret matters, case within its escapes does not: both spellings of the escapes are looked for.
    for text in [lower_escapes(&percent), lower_escapes(&form), percent, form] {
        forms.insert(Form { text, any_case: false });
    }
    forms
}

/// RFC 3986 percent encoding of everything but unreserved characters.
fn percent(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

fn lower_escapes(percent: &str) -> String {
    let mut escape = 0;
    percent
        .chars()
        .map(|c| match (c, escape) {
            ('%', _) => {
                escape = 2;
                c
            }
            (_, 0) => c,
            _ => {
                escape -= 1;
                c.to_ascii_lowercase()
            }
        })
        .collect()
}

/// What base64 of any text around `secret` is sure to contain, for each of the three offsets.
fn base64_fragments(secret: &[u8]) -> Vec<String> {
    let mut fragments = Vec::new();
    for offset in 0..3usize {
        let mut padded = vec![0; offset];
        padded.extend_from_slice(secret);
        let encoded = base64(&padded);
        // The characters that also hold bits of a neighbour are left out.
        let skip = (offset * 8).div_ceil(6);
        let whole = padded.len() * 8 / 6;
        let fragment: String = encoded.chars().take(whole).skip(skip).collect();
        if fragment.len() >= SHORTEST_FRAGMENT || offset == 0 && fragment.len() >= SHORTEST {
            fragments.push(fragment);
        }
    }
    fragments
}

/// Standard base64 without padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len() * 4 / 3 + 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| (bits << 8) | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            let index = (bits >> (18 - 6 * place)) & 63;
            out.push(char::from(ALPHABET.get(index as usize).copied().unwrap_or(b'A')));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "sk-Ant/9+f3 k\"€z";

    #[test]
    fn every_encoding_is_seen_and_redacted() {
        let leaks = [
            KEY.to_owned(),
            KEY.chars().rev().collect(),
            base64(KEY.as_bytes()),
            base64(format!("x{KEY}yz").as_bytes()),
            base64(format!("xy{KEY}").as_bytes()).replace('+', "-").replace('/', "_"),
            KEY.bytes().map(|b| format!("{b:02x}")).collect(),
            KEY.bytes().map(|b| format!("{b:02X}")).collect(),
            KEY.bytes().map(|b| format!("%{b:02X}")).collect(),
            percent(KEY),
            lower_escapes(&percent(KEY)).replace("%20", "+"),
            serde_json::json!({ "a": KEY }).to_string(),
        ];
        for leak in leaks {
            let text = format!("before {leak} after");
            assert!(contains_secret(&text, &["other-secret", KEY]), "{leak}");
            let redacted = redact(&text, &[KEY]);
            assert!(redacted.contains("***") && !contains_secret(&redacted, &[KEY]), "{leak} → {redacted}");
            assert!(redacted.starts_with("before ") && redacted.ends_with(" after"), "{redacted}");
        }
        let strewn: String = base64(KEY.as_bytes()).chars().flat_map(|c| [c, '\n']).collect();
        assert!(contains_secret(&strewn, &[KEY]));
    }

    #[test]
    fn innocent_text_is_left_alone() {
        assert!(!contains_secret("a perfectly normal text", &[KEY, "", "abc"]));
        assert_eq!(redact("a abc b", &["abc", ""]), "a abc b");
        assert_eq!(redact("hunter22hunter22 hunter22", &["hunter22"]), "*** ***");
    }

    proptest! {
        #[test]
        fn base64_with_any_neighbours_is_found(before in ".{0,5}", secret in "[ -~]{10,40}", after in ".{0,5}") {
            prop_assume!(secret.trim().len() >= 10);
            let encoded = base64(format!("{before}{secret}{after}").as_bytes());
            let found = contains_secret(&encoded, &[&secret]);
            prop_assert!(found);
        }
    }
}
