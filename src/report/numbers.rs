//! Numbers as people read them.

use crate::model::account::Spend;
use crate::model::delivery::FileChange;
use crate::model::usage::NanoUsd;

/// `84,120`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `340 ms`, `12 s`, `2 min 5 s`, `1 h 4 min`.
pub fn span(ms: u64) -> String {
    let seconds = (ms + 500) / 1000;
    if ms < 1000 {
        format!("{ms} ms")
    } else if seconds < 10 {
        format!("{:.1} s", ms as f64 / 1000.0)
    } else if seconds < 60 {
        format!("{seconds} s")
    } else if seconds < 3600 {
        format!("{} min {} s", seconds / 60, seconds % 60)
    } else {
        format!("{} h {} min", seconds / 3600, seconds / 60 % 60)
    }
}

/// `$0.031`, `$0.031 + 2 unknown`, `cost unknown`: what nobody knows is never shown as zero.
pub fn cost(spend: &Spend) -> String {
    match (spend.calls, spend.unknown_calls) {
        (0, _) => "$0".into(),
        (calls, unknown) if unknown >= calls => "cost unknown".into(),
        (_, 0) => spend.cost.to_string(),
        (_, unknown) => format!("{} + {unknown} unknown", spend.cost),
    }
}

/// `$50`, `$1.20`, `$0.016`, `$0.000004`: two decimals, more where little would be lost.
pub fn dollars(cost: NanoUsd) -> String {
    let usd = cost.usd();
    match cost.0 {
        whole if whole.is_multiple_of(1_000_000_000) => format!("${usd:.0}"),
        1_000_000_000.. => format!("${usd:.2}"),
        1_000_000.. => format!("${usd:.3}"),
        _ => format!("${usd:.6}"),
    }
}

/// `84,120 tokens in (71 % cached), 3,911 out`.
pub fn tokens(spend: &Spend) -> String {
    let usage = &spend.usage;
    let cached = if usage.input > 0 && usage.cache_read > 0 {
        format!(" ({} % cached)", usage.cache_read * 100 / usage.input)
    } else {
        String::new()
    };
    format!("{} tokens in{cached}, {} out", grouped(usage.input), grouped(usage.output))
}

/// `src/parse.rs +9 −2 · tests/parse.rs +14`; more than three files are counted.
pub fn files(files: &[FileChange]) -> String {
    let mut shown: Vec<String> = files
        .iter()
        .take(3)
        .map(|file| format!("{}{}", super::line(&file.path, 60), lines(file.added, file.removed)))
        .collect();
    if files.len() > 3 {
        shown.push(format!("and {} more", files.len() - 3));
    }
    shown.join(" · ")
}

/// ` +9 −2`, without the parts that are zero.
pub fn lines(added: u64, removed: u64) -> String {
    let mut text = String::new();
    if added > 0 {
        text.push_str(&format!(" +{added}"));
    }
    if removed > 0 {
        text.push_str(&format!(" −{removed}"));
    }
    text
}

/// A point in time, UTC: `2026-11-22 23:41:05`.
pub fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms)
        .map_or_else(|_| "?".into(), |time| time.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::usage::Usage;

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(84_120), "84,120");
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(1_000_000), "1,000,000");
        assert_eq!(
            [50.0, 1.2, 0.0161, 0.000_004].map(|usd| dollars(NanoUsd::from_usd(usd))),
            ["$50", "$1.20", "$0.016", "$0.000004"]
        );
        assert_eq!(span(340), "340 ms");
        assert_eq!(span(59_600), "1 min 0 s");
        assert_eq!(span(3_840_000), "1 h 4 min");
    }

    #[test]
    fn an_unknown_cost_is_never_zero() {
        let spend = |calls, unknown| Spend {
            calls,
            unknown_calls: unknown,
            cost: NanoUsd::from_usd(0.0312),
            usage: Usage::default(),
        };
        assert_eq!(cost(&spend(2, 0)), "$0.031");
        assert_eq!(cost(&spend(2, 1)), "$0.031 + 1 unknown");
        assert_eq!(cost(&spend(2, 2)), "cost unknown");
    }
}
