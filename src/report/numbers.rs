//! Numbers as people read them.

use crate::model::account::Spend;
use crate::model::usage::Usage;

/// `84120` as `84,120`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Milliseconds as `340 ms`, `12 s`, `2 min 05 s` or `1 h 02 min`.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// What was spent, in dollars. Unknown costs are said, never shown as zero; empty where no model was called.
pub fn cost(spend: &Spend) -> String {
    match (spend.calls, spend.unknown_calls) {
        (0, 0) => String::new(),
        (_, 0) => spend.cost.to_string(),
        (calls, unknown) if unknown >= calls && spend.cost.0 == 0 => "unknown".to_owned(),
        (_, 1) => format!("{} + 1 call of unknown cost", spend.cost),
        (_, unknown) => format!("{} + {unknown} calls of unknown cost", spend.cost),
    }
}

/// `84,120 tokens in (71 % cached), 3,911 out`.
pub fn tokens(usage: &Usage) -> String {
    let cached = usage.cache_read.saturating_mul(100).checked_div(usage.input).unwrap_or(0);
    let cached = if cached == 0 { String::new() } else { format!(" ({cached} % cached)") };
    format!("{} tokens in{cached}, {} out", thousands(usage.input), thousands(usage.output))
}
