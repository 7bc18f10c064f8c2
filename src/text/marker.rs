//! Hidden marks in our own comments, by which they are found again.
//!
//! A mark is the first line of a text and nothing else is: what a model wrote stands below it. It says *which* text
//! this is, never *what may be done*; and it counts only in a text of our own account. Where accounts are shared (all
//! workflows of a GitHub repository write as one), a key makes it ours.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The mark of `key` in `place` (`acme/widgets change 7`), signed where there is a secret.
///
/// ```
/// assert_eq!(codeforge::text::marker("review", "acme/widgets change 7", None), "<!-- codeforge:review -->");
/// ```
pub fn marker(key: &str, place: &str, secret: Option<&str>) -> String {
    let key = plain(key);
    match secret {
        None => format!("<!-- codeforge:{key} -->"),
        Some(secret) => format!("<!-- codeforge:{key} mac:{} -->", hex(&mac(&key, place, secret))),
    }
}

/// Whether a text is the one of `key` in `place`. Where there is a secret, only a signed mark counts.
pub fn is_marked(text: &str, key: &str, place: &str, secret: Option<&str>) -> bool {
    let key = plain(key);
    let Some(line) = text.lines().next().map(str::trim) else { return false };
    let Some(inside) = line.strip_prefix("<!-- codeforge:").and_then(|rest| rest.strip_suffix(" -->")) else {
        return false;
    };
    let (found, signed) = match inside.split_once(" mac:") {
        Some((found, signed)) => (found, Some(signed)),
        None => (inside, None),
    };
    if found != key {
        return false;
    }
    match (secret, signed) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(secret), Some(signed)) => {
            let Ok(mut hmac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return false };
            hmac.update(said(&key, place).as_bytes());
            unhex(signed).is_some_and(|signed| hmac.verify_slice(&signed).is_ok())
        }
    }
}

/// What a text remembers, as it stands right below its mark; signed where there is a secret. `memory` is one hidden line.
pub fn remembering(memory: &str, key: &str, place: &str, secret: Option<&str>) -> String {
    match secret {
        None => memory.to_owned(),
        Some(_) => format!("{memory}\n{}", marker(&memory_key(memory, key), place, secret)),
    }
}

/// What a text remembers; `None` where it is not the one of `key` in `place`, remembers nothing, or is signed for other
/// words than these. Only the line below the mark counts, wherever else in the text one stands.
pub fn remembered<'a>(text: &'a str, key: &str, place: &str, secret: Option<&str>) -> Option<&'a str> {
    if !is_marked(text, key, place, secret) {
        return None;
    }
    let mut lines = text.lines();
    let memory = lines.nth(1)?.trim_end();
    let hidden = memory.starts_with("<!-- ") && memory.ends_with(" -->");
    let signed =
        secret.is_none() || lines.next().is_some_and(|line| is_marked(line, &memory_key(memory, key), place, secret));
    (hidden && signed).then_some(memory)
}

/// A hidden line of this name that holds JSON, in which nothing ends the line or looks like anything.
pub fn hidden_line(name: &str, json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            c if "<>&@`#".contains(c) || c.is_control() => safe.push_str(&format!("\\u{:04x}", u32::from(c))),
            // Of two hyphens one is enough.
            '-' if safe.ends_with('-') => safe.push_str("\\u002d"),
            other => safe.push(other),
        }
    }
    format!("<!-- codeforge:{name} {safe} -->")
}

/// The JSON of a hidden line of this name.
pub fn hidden_json<'a>(name: &str, line: &'a str) -> Option<&'a str> {
    let rest = line.strip_prefix("<!-- codeforge:")?.strip_prefix(name)?.strip_prefix(' ')?;
    rest.strip_suffix("-->").map(str::trim)
}

fn memory_key(memory: &str, key: &str) -> String {
    use sha2::Digest;
    format!("{key}/memory/{}", hex(&Sha256::digest(memory.as_bytes())))
}

/// A key of letters, digits and `._:/-`: it cannot end the mark.
fn plain(key: &str) -> String {
    key.chars().map(|c| if c.is_ascii_alphanumeric() || "._:/-".contains(c) { c } else { '-' }).collect()
}

fn said(key: &str, place: &str) -> String {
    format!("codeforge\n{}\n{key}", place.to_lowercase())
}

fn mac(key: &str, place: &str, secret: &str) -> Vec<u8> {
    // HMAC takes keys of any length.
    Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_or_else(
        |_| Vec::new(),
        |mut hmac| {
            hmac.update(said(key, place).as_bytes());
            hmac.finalize().into_bytes().to_vec()
        },
    )
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |value: u8| DIGITS.get(usize::from(value & 15)).copied().unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// The 32 bytes that 64 hexadecimal digits stand for.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || text.len() != 64 {
        return None;
    }
    (0..32).map(|at| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: &str = "acme/widgets change 7";

    #[test]
    fn a_mark_is_known_again_and_cannot_be_closed_from_within() {
        let mark = marker("a --> b", PLACE, None);
        assert_eq!(mark, "<!-- codeforge:a-----b -->");
        assert!(is_marked(&format!("{mark}\ntext"), "a --> b", PLACE, None));
        assert!(!is_marked(&format!("text\n{mark}"), "a --> b", PLACE, None), "only the first line is a mark");
        assert!(!is_marked("<!-- codeforge:other -->", "a", PLACE, None));
    }

    #[test]
    fn only_what_stands_below_the_mark_is_remembered_and_a_signature_holds_it() {
        let memory = "<!-- codeforge:memory {} -->";
        for secret in [None, Some("secret")] {
            let mark = marker("review", PLACE, secret);
            let text = format!("{mark}\n{}\nwords", remembering(memory, "review", PLACE, secret));
            assert_eq!(remembered(&text.replace('\n', "\r\n"), "review", PLACE, secret), Some(memory));
            assert_eq!(remembered(&text, "other", PLACE, secret), None);
            let forged = text.replace("{}", "{\"spent\":0}");
            assert_eq!(remembered(&forged, "review", PLACE, secret).is_some(), secret.is_none());
            assert_eq!(remembered(&format!("{mark}\nwords\n{memory}"), "review", PLACE, secret), None);
        }
    }

    #[test]
    fn a_forged_signature_is_none() {
        let mark = marker("review", PLACE, Some("secret"));
        assert!(is_marked(&mark, "review", PLACE, Some("secret")));
        assert!(!is_marked(&mark, "review", "acme/widgets change 8", Some("secret")), "it is bound to its place");
        assert!(!is_marked(&mark, "review", PLACE, Some("other")));
        assert!(!is_marked(&marker("review", PLACE, None), "review", PLACE, Some("secret")));
        assert!(!is_marked("<!-- codeforge:review mac:00 -->", "review", PLACE, Some("secret")));
    }
}
