//! Time tables: `H` stands for a value of the repository's own, so that not everybody comes at midnight.

use crate::model::id::short_hash;

/// What the values of `H` hang on.
pub fn seed(repository: &str, workflow: &str) -> String {
    format!("{}\n{workflow}", repository.to_lowercase())
}

/// The time table with a value for each `H`, the same for the same seed. `H/10` begins somewhere within the first ten.
pub fn settled(cron: &str, seed: &str) -> String {
    // Days go to 28, which every month has; weekdays from Sunday to Saturday.
    const RANGES: [(u64, u64); 5] = [(0, 59), (0, 23), (1, 28), (1, 12), (0, 6)];
    let fields = cron.split_whitespace().zip(RANGES).enumerate().map(|(place, (field, (least, greatest)))| {
        let digits = short_hash(format!("{seed}\n{place}").as_bytes(), 12);
        let hash = u64::from_str_radix(&digits, 16).unwrap_or_default();
        let parts = field.split(',').map(|part| match part.split_once('/') {
            Some(("H", step)) => {
                let every = step.parse::<u64>().ok().filter(|step| *step > 0).unwrap_or(1);
                format!("{}-{greatest}/{every}", least + hash % every.min(greatest - least + 1))
            }
            _ if part == "H" => (least + hash % (greatest - least + 1)).to_string(),
            _ => part.to_owned(),
        });
        parts.collect::<Vec<_>>().join(",")
    });
    fields.collect::<Vec<_>>().join(" ")
}

/// Whether the time table that was due is this entry: as it is written, or with its `H` settled.
pub(super) fn is(entry: &str, due: &str, seed: &str) -> bool {
    same(entry, due) || same(&settled(entry, seed), due)
}

/// Whether two are written alike.
pub(super) fn same(one: &str, other: &str) -> bool {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").to_ascii_uppercase();
    plain(one) == plain(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::schema::values::check_cron;

    #[test]
    fn h_is_the_same_for_the_same_repository_and_workflow() {
        let of = |repository: &str| settled("H H(x) * * *", &seed(repository, "nightly"));
        assert_eq!(settled("5 4 * * sun", "x"), "5 4 * * sun");
        assert_eq!(
            settled("H 2 * * *", &seed("acme/widgets", "nightly")),
            settled("H 2 * * *", &seed("Acme/Widgets", "nightly"))
        );
        let minutes: std::collections::BTreeSet<String> = (0..50).map(|n| of(&format!("acme/{n}"))).collect();
        assert!(minutes.len() > 20, "{minutes:?}");
        for entry in ["H 2 * * *", "H/10 * * * *", "H H H H H", "H,30 * * * *", "H/59 H/23 H/28 H/12 H/6"] {
            let settled = settled(entry, "seed");
            assert_eq!(check_cron(&settled), Ok(()), "{entry} → {settled}");
            assert!(is(entry, &settled, "seed") && is(entry, &format!(" {}", entry.to_lowercase()), "seed"));
            assert!(!is(entry, "1 2 3 4 5", "seed"));
        }
    }
}
