//! Secrets out of values: in every string of a line, as they are and encoded, through escapes and nested JSON.

use crate::text::Redactor;
use serde_json::Value;

/// What stands for a text that holds a secret in a form that cannot be cut out.
const WITHHELD: &str = "*** (left out: it held a secret)";
/// How deep escapes within escapes are followed.
const DEEPEST: usize = 4;
/// Fields whose value has no fixed shape: a number in them may become a text.
const SHAPELESS: [&str; 7] = ["args", "output", "inputs", "event", "block", "schema", "parameters"];

/// Takes secrets out.
#[derive(Debug, Clone, Default)]
pub struct Scrub(Redactor);

impl Scrub {
    /// Of these values.
    pub fn new<S: AsRef<str>>(secrets: &[S]) -> Self {
        Self(Redactor::new(secrets))
    }

    /// Whether a text holds a secret, also behind JSON escapes.
    pub fn found_in(&self, text: &str) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let mut text = text.to_owned();
        for _ in 0..DEEPEST {
            if self.0.found_in(&text) {
                return true;
            }
            match unescaped(&text) {
                Some(plain) => text = plain,
                None => return false,
            }
        }
        false
    }

    /// A text without secrets. JSON stays JSON.
    pub fn text(&self, text: &str) -> String {
        if self.0.is_empty() || !self.found_in(text) {
            return text.to_owned();
        }
        // A call's arguments are JSON within JSON: they must still be read as such.
        let trimmed = text.trim_start();
        if trimmed.starts_with(['{', '['])
            && let Ok(mut value) = serde_json::from_str::<Value>(text)
        {
            self.value_in(&mut value, true);
            let text = value.to_string();
            if !self.found_in(&text) {
                return text;
            }
        }
        let redacted = self.0.redact(text);
        if !self.found_in(&redacted) {
            return redacted;
        }
        let mut plain = redacted;
        for _ in 0..DEEPEST {
            let Some(next) = unescaped(&plain) else { break };
            plain = self.0.redact(&next);
            if !self.found_in(&plain) {
                return plain;
            }
        }
        WITHHELD.to_owned()
    }

    /// A value without secrets.
    pub fn value(&self, value: &mut Value) {
        if !self.0.is_empty() {
            self.value_in(value, false);
        }
    }

    fn value_in(&self, value: &mut Value, shapeless: bool) {
        match value {
            Value::String(text) => {
                let clean = self.text(text);
                if clean != *text {
                    *text = clean;
                }
            }
            Value::Number(number) if shapeless && self.found_in(&number.to_string()) => {
                *value = Value::String("***".into());
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.value_in(item, shapeless)),
            Value::Object(fields) => {
                if fields.keys().any(|name| self.found_in(name)) {
                    let all = std::mem::take(fields);
                    *fields = all.into_iter().map(|(name, value)| (self.text(&name), value)).collect();
                }
                for (name, value) in fields.iter_mut() {
                    self.value_in(value, shapeless || SHAPELESS.contains(&name.as_str()));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// A text with JSON's escapes read, where it has any.
fn unescaped(text: &str) -> Option<String> {
    if !text.contains('\\') {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    let mut units: Vec<u16> = Vec::new();
    let mut rest = text.chars();
    let mut any = false;
    let flush = |units: &mut Vec<u16>, out: &mut String| {
        out.push_str(&String::from_utf16_lossy(units));
        units.clear();
    };
    while let Some(c) = rest.next() {
        if c != '\\' {
            flush(&mut units, &mut out);
            out.push(c);
            continue;
        }
        let mut ahead = rest.clone();
        let plain = match ahead.next() {
            Some('u') => {
                let digits: String = ahead.clone().take(4).collect();
                match u16::from_str_radix(&digits, 16) {
                    Ok(unit) if digits.len() == 4 => {
                        units.push(unit);
                        ahead.nth(3);
                        rest = ahead;
                        any = true;
                        continue;
                    }
                    _ => None,
                }
            }
            Some('n') => Some('\n'),
            Some('t') => Some('\t'),
            Some('r') => Some('\r'),
            Some('b') => Some('\u{8}'),
            Some('f') => Some('\u{c}'),
            Some(c @ ('"' | '\\' | '/')) => Some(c),
            _ => None,
        };
        flush(&mut units, &mut out);
        match plain {
            Some(plain) => {
                out.push(plain);
                rest = ahead;
                any = true;
            }
            None => out.push(c),
        }
    }
    flush(&mut units, &mut out);
    any.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const KEY: &str = "sk-canary\"7f\\9w8v";

    #[test]
    fn a_secret_is_found_behind_escapes_and_arguments_stay_json() {
        let scrub = Scrub::new(&[KEY]);
        let unicode: String = KEY.chars().map(|c| format!("\\u{:04x}", c as u32)).collect();
        let arguments = json!({ "command": format!("echo {KEY}") }).to_string();
        let twice = json!({ "arguments": arguments, "n": 1 }).to_string();
        for leak in [arguments.clone(), twice, format!("{{\"command\": \"echo {unicode}\"}}")] {
            let clean = scrub.text(&leak);
            assert!(clean.contains("***") && !scrub.found_in(&clean), "{leak} → {clean}");
            assert!(serde_json::from_str::<Value>(&clean).is_ok(), "{clean}");
        }
        let broken = scrub.text(&format!("{{\"command\": \"echo {unicode}"));
        assert!(!scrub.found_in(&broken), "{broken}");
        // Base64 as `base64` wraps it.
        let strewn: String = KEY.bytes().flat_map(|b| format!("{b:02x}\n").into_bytes()).map(char::from).collect();
        assert_eq!(scrub.text(&strewn), WITHHELD);
        assert_eq!(scrub.text("C:\\new\\table"), "C:\\new\\table");
    }

    #[test]
    fn names_and_shapeless_numbers_are_looked_at_too() {
        let scrub = Scrub::new(&["87654321"]);
        let mut value = json!({ "at_ms": 87654321, "args": { "pin": 87654321, "x87654321": 1 } });
        scrub.value(&mut value);
        assert_eq!(value, json!({ "at_ms": 87654321, "args": { "pin": "***", "x***": 1 } }));
    }

    proptest! {
        #[test]
        fn no_text_keeps_a_secret(before in ".{0,20}", after in "[\\\\\"u0-9a-f{}]{0,20}") {
            let scrub = Scrub::new(&["hunter2hunter2"]);
            let clean = scrub.text(&format!("{before}hunter2hunter2{after}"));
            prop_assert!(!scrub.found_in(&clean));
        }
    }
}
