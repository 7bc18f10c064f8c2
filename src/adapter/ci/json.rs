//! Reading a forge's JSON without believing in its shape.

use serde_json::Value;

/// The longest text that is taken over, in bytes.
const LONGEST: usize = 256 * 1024;

/// The value at a path of keys; null where there is none.
pub fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().try_fold(value, |value, key| value.get(key)).unwrap_or(&Value::Null)
}

/// A text, cut where it is too long.
pub fn text(value: &Value, path: &[&str]) -> Option<String> {
    at(value, path).as_str().map(|text| {
        let end = (0..=LONGEST.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.get(..end).unwrap_or_default().to_owned()
    })
}

/// A text that is not blank.
pub fn word(value: &Value, path: &[&str]) -> Option<String> {
    text(value, path).filter(|text| !text.trim().is_empty())
}

/// A whole number from 0.
pub fn number(value: &Value, path: &[&str]) -> Option<u64> {
    at(value, path).as_u64()
}

/// True only where it says so.
pub fn yes(value: &Value, path: &[&str]) -> bool {
    at(value, path).as_bool().unwrap_or_default()
}

/// A time, in milliseconds since 1970: as RFC 3339 has it, as GitLab writes it (`2026-03-02 10:00:00 UTC`), or in whole
/// seconds since 1970.
pub fn time_ms(value: &Value, path: &[&str]) -> Option<i64> {
    match at(value, path) {
        Value::Number(seconds) => seconds.as_i64()?.checked_mul(1000).filter(|ms| *ms > 0),
        Value::String(text) => {
            let text = ["UTC", "+0000"]
                .iter()
                .find_map(|zone| text.strip_suffix(zone))
                .map_or_else(|| text.clone(), |rest| format!("{}Z", rest.trim_end()));
            text.parse::<jiff::Timestamp>().ok().map(|at| at.as_millisecond())
        }
        _ => None,
    }
}

/// The texts at `key` of each element of a list, at most 100.
pub fn words(value: &Value, path: &[&str], key: &str) -> Vec<String> {
    let items = at(value, path).as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().take(100).filter_map(|item| word(item, &[key])).collect()
}
