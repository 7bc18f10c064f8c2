//! Lengths of time, amounts of memory, cron fields: text → numbers.

use std::str::FromStr;

/// Milliseconds of `90s`, `10m`, `1h30m`, `30d`.
///
/// # Errors
/// What is wrong, in words.
pub fn duration_ms(text: &str) -> Result<u64, String> {
    let bad = || format!("`{text}` is not a length of time");
    let mut rest = text;
    let mut total: u64 = 0;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at_checked(digits).ok_or_else(bad)?;
        let number: u64 = number.parse().map_err(|_| bad())?;
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at_checked(letters).ok_or_else(bad)?;
        let factor = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(bad()),
        };
        total = number.checked_mul(factor).and_then(|ms| total.checked_add(ms)).ok_or_else(bad)?;
        rest = tail;
    }
    match total {
        0 => Err("a length of time of 0 leaves no time at all".into()),
        1..=31_536_000_000 => Ok(total),
        _ => Err(format!("`{text}` is more than a year")),
    }
}

/// Bytes of `512MiB`, `2GiB`, `4GB`, `1024`.
///
/// # Errors
/// What is wrong, in words.
pub fn size_bytes(text: &str) -> Result<u64, String> {
    let bad = || format!("`{text}` is not an amount of memory");
    let digits = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(bad)?;
    let number: f64 = number.parse().map_err(|_| bad())?;
    let factor: f64 = match unit.trim() {
        "" | "B" => 1.0,
        "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        "KiB" => 1024.0,
        "MiB" => 1_048_576.0,
        "GiB" => 1_073_741_824.0,
        "TiB" => 1_099_511_627_776.0,
        _ => return Err(bad()),
    };
    let bytes = (number * factor).round();
    if !(1.0..=9e15).contains(&bytes) {
        return Err(format!("`{text}` is not an amount that a sandbox can have"));
    }
    Ok(bytes as u64)
}

/// Names of months and weekdays, as POSIX-like crons know them.
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The fields of a cron line: name, least, greatest, names of values.
const FIELDS: [(&str, u32, u32, &[&str]); 5] = [
    ("minute", 0, 59, &[]),
    ("hour", 0, 23, &[]),
    ("day of month", 1, 31, &[]),
    ("month", 1, 12, &MONTHS),
    ("weekday", 0, 7, &DAYS),
];

/// Checks five cron fields; `H` (a value of the repository's own) may stand for a value.
///
/// # Errors
/// Which field is wrong and why, in words.
pub fn check_cron(text: &str) -> Result<(), String> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        let count = fields.len();
        return Err(format!(
            "a cron line has five fields (minute, hour, day of month, month, weekday), this one {count}"
        ));
    }
    for (field, (name, least, greatest, names)) in fields.iter().zip(FIELDS) {
        let value = |word: &str| -> Result<u32, String> {
            let lower = word.to_ascii_lowercase();
            let named = names.iter().position(|n| *n == lower).map(|index| index as u32 + least);
            match named.or_else(|| word.parse().ok()) {
                Some(number) if (least..=greatest).contains(&number) => Ok(number),
                _ => Err(format!("`{word}` is no {name}: it goes from {least} to {greatest}")),
            }
        };
        for part in field.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, Some(step)),
                None => (part, None),
            };
            if let Some(step) = step
                && !step.parse::<u32>().is_ok_and(|step| (1..=greatest).contains(&step))
            {
                return Err(format!("`{part}`: a step is a number from 1 to {greatest}"));
            }
            if range == "*" || range == "H" {
                continue;
            }
            match range.split_once('-') {
                Some((from, to)) => {
                    if value(from)? > value(to)? {
                        return Err(format!("`{range}` ends before it begins"));
                    }
                }
                None => {
                    value(range)?;
                }
            }
        }
    }
    cron_tables(text).map(|_| ())
}

/// A cron line as the scheduler's package has it, `H` standing for its field's least value. Where both days are narrowed,
/// one is enough, as in every cron: then there are two.
///
/// # Errors
/// Why it cannot be scheduled, in words.
pub fn cron_tables(text: &str) -> Result<Vec<cron::Schedule>, String> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let table = |fields: &[&str]| {
        cron::Schedule::from_str(&translated(fields)).map_err(|error| format!("`{text}` cannot be scheduled: {error}"))
    };
    match fields.as_slice() {
        [minute, hour, day, month, weekday] if !day.starts_with('*') && !weekday.starts_with('*') => {
            Ok(vec![table(&[minute, hour, day, month, "*"])?, table(&[minute, hour, "*", month, weekday])?])
        }
        fields => Ok(vec![table(fields)?]),
    }
}

/// Five POSIX fields as the scheduler's package reads them: seconds first, weekdays by name (its numbers begin with
/// Sunday as 1), a value for each `H`.
fn translated(fields: &[&str]) -> String {
    let mut out = vec!["0".to_owned()];
    for (field, (name, least, ..)) in fields.iter().zip(FIELDS) {
        let word = |word: &str| match (name, word) {
            (_, "H") if name == "weekday" => DAYS[0].to_uppercase(),
            (_, "H") => least.to_string(),
            ("weekday", number) => match number.parse::<usize>() {
                Ok(number) => DAYS.get(number % 7).copied().unwrap_or_default().to_uppercase(),
                Err(_) => word.to_uppercase(),
            },
            _ => word.to_owned(),
        };
        let parts: Vec<String> = field
            .split(',')
            .map(|part| {
                let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
                let range = match range.split_once('-') {
                    Some((from, to)) => format!("{}-{}", word(from), word(to)),
                    None => word(range),
                };
                step.map_or(range.clone(), |step| format!("{range}/{step}"))
            })
            .collect();
        out.push(parts.join(","));
    }
    out.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time() {
        assert_eq!(duration_ms("10m"), Ok(600_000));
        assert_eq!(duration_ms("1h30m"), Ok(5_400_000));
        assert_eq!(duration_ms("250ms"), Ok(250));
        for wrong in ["", "10", "m", "10 m", "10x", "-1s", "0s", "99999999999999999999d", "400d", "1é"] {
            assert!(duration_ms(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn amounts() {
        assert_eq!(size_bytes("2GiB"), Ok(2 << 30));
        assert_eq!(size_bytes("1.5MiB"), Ok(1_572_864));
        assert_eq!(size_bytes("4GB"), Ok(4_000_000_000));
        for wrong in ["", "GiB", "2gib", "-1MB", "1e99", "0", "9999999TiB", "é"] {
            assert!(size_bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn cron_fields() {
        for right in ["H 2 * * *", "*/15 0-6,22-23 1 jan-mar MON", "0 0 * * 7", "H/10 * * * *", "5 4 * * sun"] {
            assert_eq!(check_cron(right), Ok(()), "{right}");
        }
        for wrong in [
            "* * * *",
            "0 0 2 * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "*/0 * * * *",
            "5-1 * * * *",
            "x * * * *",
        ] {
            assert!(check_cron(wrong).is_err(), "{wrong}");
        }
    }
}
