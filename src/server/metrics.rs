//! Numbers for Prometheus, in its text format. Names and labels are ours alone: nothing that comes from outside becomes
//! one, so there are never more than a few.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

/// Upper ends of the buckets of times, in seconds.
const BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 10.0];

/// Labels of a number: names and values.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

#[derive(Default)]
struct Times {
    counts: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

enum Value {
    Number(f64),
    Times(Times),
}

struct Family {
    help: &'static str,
    kind: &'static str,
    /// By their labels as they are printed, without braces.
    values: BTreeMap<String, Value>,
}

/// The numbers.
#[derive(Default)]
pub struct Metrics {
    families: Mutex<BTreeMap<&'static str, Family>>,
}

impl Metrics {
    /// Counts one more.
    pub fn count(&self, name: &'static str, help: &'static str, labels: Labels<'_>) {
        self.with(name, help, "counter", labels, |value| {
            if let Value::Number(number) = value {
                *number += 1.0;
            }
        });
    }

    /// Says how many there are now.
    pub fn set(&self, name: &'static str, help: &'static str, labels: Labels<'_>, now: f64) {
        self.with(name, help, "gauge", labels, |value| *value = Value::Number(now));
    }

    /// Notes how long something took.
    pub fn took(&self, name: &'static str, help: &'static str, labels: Labels<'_>, seconds: f64) {
        self.with(name, help, "histogram", labels, |value| {
            if !matches!(value, Value::Times(_)) {
                *value = Value::Times(Times::default());
            }
            let Value::Times(times) = value else { return };
            times.count += 1;
            times.sum += seconds;
            for (count, _) in times.counts.iter_mut().zip(BUCKETS).filter(|(_, end)| seconds <= *end) {
                *count += 1;
            }
        });
    }

    fn with(
        &self,
        name: &'static str,
        help: &'static str,
        kind: &'static str,
        labels: Labels<'_>,
        change: impl FnOnce(&mut Value),
    ) {
        let mut label = String::new();
        for (name, value) in labels {
            let comma = if label.is_empty() { "" } else { "," };
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            // Writing to a text cannot fail.
            let _ = write!(label, r#"{comma}{name}="{value}""#);
        }
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(name).or_insert_with(|| Family { help, kind, values: BTreeMap::new() });
        change(family.values.entry(label).or_insert(Value::Number(0.0)));
    }

    /// Everything, as Prometheus reads it.
    pub fn render(&self) -> String {
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = String::new();
        for (name, Family { help, kind, values }) in &*families {
            // Writing to a text cannot fail.
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in values {
                let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
                let more = if labels.is_empty() { String::new() } else { format!("{labels},") };
                let _ = match value {
                    Value::Number(number) => writeln!(out, "{name}{braces} {number}"),
                    Value::Times(Times { counts, count, sum }) => {
                        for (count, end) in counts.iter().zip(BUCKETS) {
                            let _ = writeln!(out, "{name}_bucket{{{more}le=\"{end}\"}} {count}");
                        }
                        let _ = writeln!(out, "{name}_bucket{{{more}le=\"+Inf\"}} {count}");
                        writeln!(out, "{name}_sum{braces} {sum}\n{name}_count{braces} {count}")
                    }
                };
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_prometheus_reads_them() {
        let metrics = Metrics::default();
        metrics.count("a_total", "A.", &[("source", "x\"y\n")]);
        metrics.count("a_total", "A.", &[("source", "x\"y\n")]);
        metrics.set("b", "B.", &[], 1.5);
        metrics.took("c_seconds", "C.", &[], 0.3);
        let text = metrics.render();
        assert!(
            text.starts_with("# HELP a_total A.\n# TYPE a_total counter\na_total{source=\"x\\\"y\\n\"} 2\n"),
            "{text}"
        );
        assert!(text.contains("# TYPE b gauge\nb 1.5\n"), "{text}");
        assert!(text.contains("c_seconds_bucket{le=\"0.25\"} 0\nc_seconds_bucket{le=\"0.5\"} 1\n"), "{text}");
        assert!(text.ends_with("c_seconds_bucket{le=\"+Inf\"} 1\nc_seconds_sum 0.3\nc_seconds_count 1\n"), "{text}");
    }
}
