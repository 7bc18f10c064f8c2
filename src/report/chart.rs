//! Cost over days as bars: one line each for terminals, SVG for everything else.

use super::numbers;
use crate::model::account::Spend;
use crate::model::budget::day;
use std::fmt::Write;

/// Cells of the longest bar in a terminal.
const CELLS: u64 = 24;
/// Days that a picture shows at most, the latest.
const DAYS: usize = 92;
const MS_PER_DAY: i64 = 86_400_000;

const LEFT: usize = 64;
const TOP: usize = 60;
const HIGH: usize = 200;
const LABELS: usize = 46;

/// A day's bar, in eighths of a cell; `most` is the longest one's nano-dollars. What nobody knows is a `?`, not a zero.
pub fn bar(spend: &Spend, most: u64) -> String {
    let eighths =
        if most == 0 { 0 } else { (u128::from(spend.cost.0) * u128::from(CELLS * 8)).div_ceil(u128::from(most)) };
    let (whole, rest) = ((eighths / 8) as usize, (eighths % 8) as usize);
    let mut text = "█".repeat(whole);
    text.push_str(["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"].get(rest).copied().unwrap_or_default());
    if spend.unknown_calls > 0 {
        text.push('?');
    }
    text
}

/// The days in a row, those without a call among them. `costs`: day (`2026-11-24`) and spending, ascending.
fn days(costs: &[(&str, &Spend)]) -> Vec<(String, Spend)> {
    let at = |text: &str| format!("{text}T00:00:00Z").parse::<jiff::Timestamp>().ok().map(|at| at.as_millisecond());
    let (Some((first, _)), Some((last, _))) = (costs.first(), costs.last()) else { return Vec::new() };
    let (Some(first), Some(last)) = (at(first), at(last)) else { return Vec::new() };
    let count = usize::try_from((last - first) / MS_PER_DAY + 1).unwrap_or(0).min(DAYS);
    (0..count)
        .rev()
        .map(|before| {
            let name = day(last - MS_PER_DAY * i64::try_from(before).unwrap_or(0));
            let spend = costs.iter().find(|(day, _)| *day == name).map(|(_, spend)| **spend).unwrap_or_default();
            (name, spend)
        })
        .collect()
}

/// The round number of dollars at or above `usd` that a scale ends at, whose quarters are round too.
fn scale(usd: f64) -> f64 {
    if usd <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(usd.log10().floor());
    [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0]
        .iter()
        .map(|step| step * power)
        .find(|top| *top >= usd * 0.999_999)
        .unwrap_or(usd)
}

/// A number of dollars at the axis.
fn axis(usd: f64) -> String {
    if usd == 0.0 {
        "$0".into()
    } else if usd >= 10.0 && usd.fract() == 0.0 {
        format!("${usd:.0}")
    } else if usd >= 0.1 {
        format!("${usd:.2}")
    } else {
        format!("${usd:.5}").trim_end_matches('0').to_owned()
    }
}

/// A picture that needs nothing else: light and dark by the reader's setting. Days with calls of unknown cost are marked
/// with `?`: their bar is what is known.
pub fn svg(costs: &[(&str, &Spend)]) -> String {
    let days = days(costs);
    let slot = if days.len() <= 14 {
        44
    } else if days.len() <= 45 {
        22
    } else {
        12
    };
    let wide = (LEFT + days.len() * slot + 24).max(420);
    let high = TOP + HIGH + LABELS;
    let top = scale(days.iter().map(|(_, spend)| spend.cost.usd()).fold(0.0, f64::max));
    let total = days.iter().fold(Spend::default(), |mut sum, (_, spend)| {
        sum.cost = sum.cost.plus(spend.cost);
        sum.calls += spend.calls;
        sum.unknown_calls += spend.unknown_calls;
        sum
    });
    let span = match (days.first(), days.last()) {
        (Some((first, _)), Some((last, _))) if first != last => format!("{first} to {last}"),
        (Some((first, _)), _) => first.clone(),
        _ => "no calls yet".into(),
    };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {wide} {high}\" width=\"{wide}\" height=\"{high}\" \
         role=\"img\" aria-label=\"Cost of model calls by day\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <style>\n.bg{{fill:#fff}}.t{{fill:#1f2328}}.d{{fill:#59636e}}.g{{stroke:#d1d9e0}}.b{{fill:#0969da}}\
         .u{{fill:#9a6700}}\n@media (prefers-color-scheme: dark){{.bg{{fill:#0d1117}}.t{{fill:#e6edf3}}.d{{fill:#9198a1}}\
         .g{{stroke:#30363d}}.b{{fill:#4493f8}}.u{{fill:#d29922}}}}\n</style>\n<rect class=\"bg\" width=\"100%\" \
         height=\"100%\"/>\n<text class=\"t\" x=\"16\" y=\"24\" font-size=\"15\" font-weight=\"600\">Cost by day \
         (UTC)</text>\n<text class=\"d\" x=\"16\" y=\"42\">{span} · {} · {} calls</text>\n",
        numbers::cost(&total),
        numbers::grouped(u64::from(total.calls)),
    );
    for quarter in 0..=4 {
        let y = TOP + HIGH - HIGH * quarter / 4;
        let _ = writeln!(
            out,
            "<line class=\"g\" x1=\"{LEFT}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\"/><text class=\"d\" x=\"{}\" y=\"{}\" \
             text-anchor=\"end\">{}</text>",
            wide - 16,
            LEFT - 8,
            y + 4,
            axis(top * quarter as f64 / 4.0)
        );
    }
    // Labels stand a label's width apart.
    let every = 44usize.div_ceil(slot);
    for (at, (name, spend)) in days.iter().enumerate() {
        let x = LEFT + at * slot + slot / 8 + 2;
        let width = slot - slot / 4;
        let high =
            ((spend.cost.usd() / top) * HIGH as f64).round().max(if spend.cost.0 > 0 { 1.0 } else { 0.0 }) as usize;
        let y = TOP + HIGH - high.min(HIGH);
        let _ = writeln!(
            out,
            "<g><title>{name}: {} · {} calls</title><rect class=\"b\" x=\"{x}\" y=\"{y}\" width=\"{width}\" \
             height=\"{high}\" rx=\"2\"/></g>",
            numbers::cost(spend),
            spend.calls
        );
        let middle = x + width / 2;
        if spend.unknown_calls > 0 {
            let _ = writeln!(
                out,
                "<text class=\"u\" x=\"{middle}\" y=\"{}\" text-anchor=\"middle\" font-weight=\"700\">?</text>",
                y - 5
            );
        }
        if (days.len() - 1 - at).is_multiple_of(every) {
            let _ = writeln!(
                out,
                "<text class=\"d\" x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                TOP + HIGH + 18,
                name.get(5..).unwrap_or(name)
            );
        }
    }
    if total.unknown_calls > 0 {
        let _ = writeln!(
            out,
            "<text class=\"u\" x=\"{LEFT}\" y=\"{}\">? days with calls of unknown cost: the bar is what is known</text>",
            TOP + HIGH + 38
        );
    }
    out.push_str("</svg>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::usage::NanoUsd;

    fn spend(usd: f64, unknown: u32) -> Spend {
        Spend { cost: NanoUsd::from_usd(usd), calls: 4, unknown_calls: unknown, ..Spend::default() }
    }

    #[test]
    fn bars_are_as_long_as_the_cost_and_the_unknown_is_no_zero() {
        let most = NanoUsd::from_usd(2.0).0;
        assert_eq!(bar(&spend(2.0, 0), most), "█".repeat(24));
        assert_eq!(bar(&spend(1.0, 1), most), format!("{}?", "█".repeat(12)));
        assert_eq!(bar(&spend(0.001, 0), most), "▏", "little is not nothing");
        assert_eq!(bar(&spend(0.0, 4), most), "?");
        assert_eq!(bar(&spend(0.0, 0), 0), "");
    }

    #[test]
    fn the_picture_has_every_day_a_round_scale_and_marks_what_is_unknown() {
        let (first, last) = (spend(1.3, 0), spend(0.0, 4));
        let picture = svg(&[("2026-02-27", &first), ("2026-03-02", &last)]);
        for day in ["2026-02-27: $1.300", "2026-02-28: $0 ·", "2026-03-01: $0 ·", "2026-03-02: cost unknown"] {
            assert!(picture.contains(day), "{day}\n{picture}");
        }
        assert!(picture.contains(">$2.00</text>") && picture.contains(">?</text>"), "{picture}");
        assert!(picture.contains("height=\"130\""), "1.30 of 2.00 at 200 px\n{picture}");
        assert_eq!([0.0, 0.003, 0.07, 1.0, 1.1, 51.0].map(scale), [1.0, 0.003, 0.08, 1.0, 2.0, 60.0]);
        assert!(svg(&[]).contains("no calls yet"));
    }
}
