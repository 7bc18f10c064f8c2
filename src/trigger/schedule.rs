//! When a time table is due.
//!
//! The fields are times on a wall clock. Where the clock is put forward, what was due in the hour that is not there is due
//! once, at the end of the gap. Where it is put back, what was due in the hour that comes twice is due the first time
//! only; a table that does not name an hour is due in both, because it is about time that passes and not about the clock.

use crate::model::id::short_hash;
use crate::workflow::schema::docs::Missed;
use crate::workflow::schema::values::cron_tables;
use chrono::{DateTime, Utc};
use jiff::civil;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// How late a time is still on time, in milliseconds: a server that starts anew has not missed it.
pub const GRACE_MS: i64 = 5 * 60 * 1000;
/// Times that are made up for at most.
const MOST: usize = 100;

/// A time table.
#[derive(Debug, Clone)]
pub struct Timetable {
    tables: Vec<cron::Schedule>,
    zone: TimeZone,
    /// It names no hour: it is about time that passes.
    elapsed: bool,
}

impl Timetable {
    /// Five fields, `H` settled, in a zone of the time zone database; `None`: UTC.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn new(cron: &str, zone: Option<&str>) -> Result<Self, String> {
        let zone = match zone {
            None => TimeZone::UTC,
            Some(name) => TimeZone::get(name).map_err(|error| format!("the time zone `{name}`: {error}"))?,
        };
        let elapsed = cron.split_whitespace().nth(1).is_some_and(|hour| hour.starts_with('*'));
        Ok(Self { tables: cron_tables(cron)?, zone, elapsed })
    }

    /// The first instant after another one, in milliseconds since 1970; `None`: it is never due again.
    pub fn next(&self, after_ms: i64) -> Option<i64> {
        let after = Timestamp::from_millisecond(after_ms).ok()?;
        let found = if self.elapsed { self.next_elapsed(after) } else { self.next_on_the_clock(after) };
        found.map(Timestamp::as_millisecond)
    }

    fn next_on_the_clock(&self, after: Timestamp) -> Option<Timestamp> {
        let mut at = after.to_zoned(self.zone.clone()).datetime();
        loop {
            at = self.next_civil(at)?;
            let instant = self.instant(at)?;
            // The first time of an hour that comes twice may be over.
            if instant > after {
                return Some(instant);
            }
        }
    }

    /// The same by the offset that holds, from change to change of it.
    fn next_elapsed(&self, after: Timestamp) -> Option<Timestamp> {
        let mut from = after;
        loop {
            let offset = self.zone.to_offset(from);
            let at = self.next_civil(offset.to_datetime(from))?;
            let instant = offset.to_timestamp(at).ok()?;
            match self.zone.following(from).next().map(|change| change.timestamp()) {
                // The change's own instant belongs to what comes after it.
                Some(change) if change <= instant => {
                    let at = self.zone.to_offset(change).to_datetime(change);
                    if change > after && self.holds(at) {
                        return Some(change);
                    }
                    from = change;
                }
                _ => return Some(instant),
            }
        }
    }

    /// The instant of a time on the clock: the first of two; the end of the gap where there is none.
    fn instant(&self, at: civil::DateTime) -> Option<Timestamp> {
        let ambiguous = self.zone.to_ambiguous_timestamp(at);
        match ambiguous.offset() {
            AmbiguousOffset::Gap { after, .. } => {
                let before = Offset::to_timestamp(after, at).ok()?;
                self.zone.following(before).next().map(|change| change.timestamp())
            }
            _ => ambiguous.earlier().ok(),
        }
    }

    fn holds(&self, at: civil::DateTime) -> bool {
        at.checked_sub(SignedDuration::from_secs(1)).ok().and_then(|just| self.next_civil(just)) == Some(at)
    }

    /// The next time on the clock, as if clocks were never changed.
    fn next_civil(&self, after: civil::DateTime) -> Option<civil::DateTime> {
        let as_utc = TimeZone::UTC.to_timestamp(after).ok()?;
        let as_utc = DateTime::<Utc>::from_timestamp(as_utc.as_second(), 0)?;
        let next = self.tables.iter().filter_map(|table| table.after(&as_utc).next()).min()?;
        Some(Offset::UTC.to_datetime(Timestamp::from_second(next.timestamp()).ok()?))
    }
}

/// The instants that are to be acted on now: what was due after `last_ms` (the last one that was acted on, or when the
/// table was first seen) and is not in the future. A clock that was put back makes nothing due twice.
pub fn due(table: &Timetable, last_ms: i64, now_ms: i64, missed: Missed) -> Vec<i64> {
    let mut found = Vec::new();
    let mut at = last_ms;
    while let Some(next) = table.next(at).filter(|next| *next <= now_ms) {
        found.push(next);
        at = next;
        if found.len() > MOST {
            match missed {
                // Only the newest count.
                Missed::All => drop(found.remove(0)),
                Missed::Skip | Missed::Once => found.drain(..MOST).for_each(drop),
            }
        }
    }
    match missed {
        Missed::All => found,
        Missed::Once => found.pop().into_iter().collect(),
        Missed::Skip => found.pop().filter(|at| now_ms - at <= GRACE_MS).into_iter().collect(),
    }
}

/// How much later than due a run begins: the same for the same seed, below `most_ms`.
pub fn jitter(seed: &str, most_ms: i64) -> i64 {
    let bits = u64::from_str_radix(&short_hash(seed.as_bytes(), 12), 16).unwrap_or_default();
    let most = u64::try_from(most_ms).unwrap_or_default();
    i64::try_from(bits.checked_rem(most).unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 60 * MINUTE;

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn text(ms: i64) -> String {
        Timestamp::from_millisecond(ms).unwrap().to_string()
    }

    fn all(cron: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
        let table = Timetable::new(cron, Some(zone)).unwrap();
        due(&table, ms(from), ms(to), Missed::All).into_iter().map(text).collect()
    }

    #[test]
    fn a_time_is_on_the_wall_clock_of_its_zone() {
        assert_eq!(
            all("30 2 * * *", "Europe/Berlin", "2026-01-10T00:00:00Z", "2026-01-12T00:00:00Z"),
            ["2026-01-10T01:30:00Z", "2026-01-11T01:30:00Z"]
        );
        assert_eq!(
            all("0 9 * * mon-fri", "Asia/Kolkata", "2026-07-03T00:00:00Z", "2026-07-07T00:00:00Z"),
            ["2026-07-03T03:30:00Z", "2026-07-06T03:30:00Z"]
        );
        // The thirteenth, and every Friday: as every cron has it.
        assert_eq!(
            all("0 0 13 * 5", "UTC", "2026-01-05T00:00:00Z", "2026-01-17T00:00:00Z"),
            ["2026-01-09T00:00:00Z", "2026-01-13T00:00:00Z", "2026-01-16T00:00:00Z"]
        );
        assert_eq!(all("0 0 29 2 *", "UTC", "2025-01-01T00:00:00Z", "2029-01-01T00:00:00Z"), ["2028-02-29T00:00:00Z"]);
        assert_eq!(Timetable::new("0 0 30 2 *", None).unwrap().next(0), None);
        assert!(Timetable::new("0 0 * * *", Some("Mars/Base")).is_err());
    }

    #[test]
    fn in_a_gap_it_is_due_once_at_its_end() {
        // 02:00 → 03:00 in Berlin on 29 March 2026, at 01:00 UTC.
        let (from, to) = ("2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z");
        assert_eq!(
            all("30 2 * * *", "Europe/Berlin", from, to),
            ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
            "once after it"
        );
        assert_eq!(
            all("0,20,40 2 * * *", "Europe/Berlin", from, "2026-03-29T12:00:00Z"),
            ["2026-03-29T01:00:00Z"],
            "three in the gap are one"
        );
        // A table about passing time misses nothing.
        let hours = all("0 * * * *", "Europe/Berlin", "2026-03-28T22:30:00Z", "2026-03-29T03:30:00Z");
        assert_eq!(hours.len(), 5, "{hours:?}");
        // Lord Howe Island: half an hour. 02:00 → 02:30 at 15:30 UTC of the day before.
        assert_eq!(
            all("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00Z", "2026-10-04T12:00:00Z"),
            ["2026-10-03T15:30:00Z"]
        );
        // A day that there was not: Samoa had no 30 December 2011.
        assert_eq!(
            all("0 12 30 12 *", "Pacific/Apia", "2011-12-29T00:00:00Z", "2012-01-02T00:00:00Z"),
            ["2011-12-30T10:00:00Z"]
        );
    }

    #[test]
    fn in_an_hour_that_comes_twice_it_is_due_once() {
        // 02:00 → 01:00 in New York on 1 November 2026, at 06:00 UTC.
        let (from, to) = ("2026-11-01T00:00:00Z", "2026-11-01T12:00:00Z");
        assert_eq!(all("30 1 * * *", "America/New_York", from, to), ["2026-11-01T05:30:00Z"]);
        // Asked in the middle of the second time, and right at the change.
        let table = Timetable::new("30 1 * * *", Some("America/New_York")).unwrap();
        assert_eq!(table.next(ms("2026-11-01T06:10:00Z")).map(text).as_deref(), Some("2026-11-02T06:30:00Z"));
        assert_eq!(table.next(ms("2026-11-01T06:00:00Z")).map(text).as_deref(), Some("2026-11-02T06:30:00Z"));
        // Every quarter of an hour is every quarter of an hour.
        let quarters = all("*/15 * * * *", "America/New_York", from, to);
        assert_eq!(quarters.len(), 48);
        assert!(quarters.windows(2).all(|pair| ms(&pair[1]) - ms(&pair[0]) == 15 * MINUTE), "{quarters:?}");
        assert_eq!(quarters.first().map(String::as_str), Some("2026-11-01T00:15:00Z"));
    }

    #[test]
    fn every_zone_has_one_a_day_and_they_only_go_forward() {
        for zone in ["Europe/London", "America/Sao_Paulo", "Africa/Casablanca", "Asia/Tehran", "Pacific/Chatham"] {
            for cron in ["0 0 * * *", "30 1 * * *", "59 2 * * *"] {
                let found = all(cron, zone, "2018-01-01T12:00:00Z", "2018-04-10T12:00:00Z");
                assert!((98..=100).contains(&found.len()), "{zone} {cron}: {}", found.len());
                assert!(found.windows(2).all(|pair| ms(&pair[0]) < ms(&pair[1])), "{zone} {cron}");
            }
        }
    }

    #[test]
    fn what_was_missed_is_skipped_or_made_up_for() {
        let table = Timetable::new("0 * * * *", None).unwrap();
        let noon = ms("2026-05-05T12:00:00Z");
        let three_late = |missed| due(&table, noon, noon + 3 * HOUR + 10 * MINUTE, missed);
        assert_eq!(three_late(Missed::All), [noon + HOUR, noon + 2 * HOUR, noon + 3 * HOUR]);
        assert_eq!(three_late(Missed::Once), [noon + 3 * HOUR]);
        assert_eq!(three_late(Missed::Skip), Vec::<i64>::new());
        assert_eq!(due(&table, noon, noon + HOUR + MINUTE, Missed::Skip), [noon + HOUR], "a minute late is on time");
        assert_eq!(due(&table, noon, noon + 1000 * HOUR, Missed::All).len(), MOST);
        assert_eq!(due(&table, noon, noon + 1000 * HOUR, Missed::Once), [noon + 1000 * HOUR]);
    }

    #[test]
    fn a_clock_that_jumps_makes_nothing_due_twice() {
        let table = Timetable::new("0 * * * *", None).unwrap();
        let noon = ms("2026-05-05T12:00:00Z");
        let mut last = noon - MINUTE;
        let mut acted = Vec::new();
        // Forward, back by an hour, on, forward by an hour.
        for now in [noon, noon - HOUR, noon - MINUTE, noon + MINUTE, noon + 2 * HOUR, noon + HOUR, noon + 3 * HOUR] {
            for at in due(&table, last, now, Missed::All) {
                acted.push(at);
                last = at;
            }
        }
        assert_eq!(acted, [noon, noon + HOUR, noon + 2 * HOUR, noon + 3 * HOUR]);
    }

    #[test]
    fn jitter_is_ones_own_and_below_its_most() {
        let of = |seed: &str| jitter(seed, 10 * MINUTE);
        assert_eq!(of("acme/widgets"), of("acme/widgets"));
        let all: std::collections::BTreeSet<i64> = (0..50).map(|n| of(&format!("acme/{n}"))).collect();
        assert!(all.len() > 40 && all.iter().all(|ms| (0..10 * MINUTE).contains(ms)), "{all:?}");
        assert_eq!(jitter("x", 0), 0);
    }
}
