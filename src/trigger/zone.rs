//! Time tables of a zone, for CI systems that count in UTC.
//!
//! Where the zone's distance from UTC is always the same, a table is written once. Where it changes in the year, it is
//! written once for each distance, and of the ticks that come the one counts that fits the distance of the day.

use super::cron;
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use std::collections::{BTreeMap, BTreeSet};

const YEAR_S: i64 = 366 * 24 * 60 * 60;
const DAY_MIN: i64 = 24 * 60;

/// The zone of that name, from the table that is built in; `None`: there is none.
fn zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok()
}

/// Minutes that the zone is ahead of UTC within a year of `now_ms`: one, or as many as there are changes.
fn distances(zone: &TimeZone, now_ms: i64) -> Option<BTreeSet<i64>> {
    let now = Timestamp::from_millisecond(now_ms).ok()?;
    let at = |time: Timestamp| i64::from(zone.to_offset(time).seconds()) / 60;
    let mut found = BTreeSet::from([at(now)]);
    for change in zone.following(now) {
        if change.timestamp().as_second() > now.as_second() + YEAR_S {
            break;
        }
        found.insert(at(change.timestamp()));
    }
    Some(found)
}

/// The tables in UTC that a table of a zone comes to, within a year of `now_ms`. `None`: it cannot be said in UTC (a day of
/// the month, with hours that fall on another day there). `settled`: without `H`.
pub(super) fn in_utc(settled: &str, name: &str, now_ms: i64) -> Option<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for ahead in distances(&zone(name)?, now_ms)? {
        all.extend(shifted(settled, ahead)?);
    }
    Some(all)
}

/// Whether a tick of the table `due` (UTC) is one of the zone's table now: the zone is as far from UTC as the table says.
pub(super) fn fits(settled: &str, name: &str, due: &str, now_ms: i64) -> bool {
    let ahead = zone(name).zip(Timestamp::from_millisecond(now_ms).ok());
    let ahead = ahead.map(|(zone, now)| i64::from(zone.to_offset(now).seconds()) / 60);
    ahead.and_then(|ahead| shifted(settled, ahead)).is_some_and(|all| all.iter().any(|table| cron::same(table, due)))
}

/// A table whose clock is `ahead` minutes ahead of UTC, in UTC.
fn shifted(table: &str, ahead: i64) -> Option<Vec<String>> {
    let fields: Vec<&str> = table.split_whitespace().collect();
    let &[minute, hour, day, month, weekday] = fields.as_slice() else { return None };
    if ahead == 0 {
        return Some(vec![fields.join(" ")]);
    }
    let (minutes, hours) = (values(minute, 0, 59)?, values(hour, 0, 23)?);
    // Which hours of which day, for each minute.
    let mut by_minute: BTreeMap<(i64, i64), BTreeSet<i64>> = BTreeMap::new();
    for (hour, minute) in hours.iter().flat_map(|hour| minutes.iter().map(move |minute| (hour, minute))) {
        let at = hour * 60 + minute - ahead;
        let (over, at) = (at.div_euclid(DAY_MIN), at.rem_euclid(DAY_MIN));
        // Every day is every day, whichever hours of it come the evening before.
        let over = if day == "*" && weekday == "*" && month == "*" { 0 } else { over };
        by_minute.entry((over, at % 60)).or_default().insert(at / 60);
    }
    let mut by_hours: BTreeMap<(i64, BTreeSet<i64>), BTreeSet<i64>> = BTreeMap::new();
    for ((over, minute), hours) in by_minute {
        by_hours.entry((over, hours)).or_default().insert(minute);
    }
    let mut tables = Vec::new();
    for ((over, hours), minutes) in by_hours {
        let weekday = match over {
            0 => weekday.to_owned(),
            // The day before the first is another month's last, whichever that is.
            _ if day != "*" || month != "*" => return None,
            over => {
                let days = values(&numbered(weekday), 0, 7)?.into_iter();
                listed(&days.map(|day| (day + over).rem_euclid(7)).collect(), 7)
            }
        };
        tables.push(format!("{} {} {day} {month} {weekday}", listed(&minutes, 60), listed(&hours, 24)));
    }
    Some(tables)
}

/// Weekdays as numbers.
fn numbered(field: &str) -> String {
    let names = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"].into_iter().enumerate();
    names.fold(field.to_ascii_uppercase(), |field, (number, name)| field.replace(name, &number.to_string()))
}

/// The values of a field: `*`, numbers, ranges, steps.
fn values(field: &str, least: i64, greatest: i64) -> Option<BTreeSet<i64>> {
    let mut found = BTreeSet::new();
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<i64>().ok().filter(|step| *step > 0)?)),
            None => (part, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (least, greatest),
            Some((from, to)) => (from.parse().ok()?, to.parse().ok()?),
            None => {
                let from: i64 = range.parse().ok()?;
                (from, if step.is_some() { greatest } else { from })
            }
        };
        if from < least || to > greatest || from > to {
            return None;
        }
        found.extend((from..=to).step_by(usize::try_from(step.unwrap_or(1)).ok()?));
    }
    Some(found)
}

/// Values as a field; all of them are `*`.
fn listed(values: &BTreeSet<i64>, all: usize) -> String {
    if values.len() == all {
        return "*".to_owned();
    }
    values.iter().map(i64::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINTER: i64 = 1_795_521_600_000; // 2026-11-24T12:00:00Z
    const SUMMER: i64 = 1_782_907_200_000; // 2026-07-01T12:00:00Z

    fn utc(table: &str, zone: &str) -> Vec<String> {
        in_utc(table, zone, WINTER).into_iter().flatten().collect()
    }

    #[test]
    fn a_zone_that_never_changes_is_one_table() {
        assert_eq!(utc("30 2 * * *", "UTC"), ["30 2 * * *"]);
        assert_eq!(utc("30 2 * * *", "Asia/Tokyo"), ["30 17 * * *"]);
        assert_eq!(utc("0 9 * * *", "Asia/Kolkata"), ["30 3 * * *"], "half an hour");
        assert_eq!(utc("*/30 9-10 * * *", "Asia/Kolkata"), ["0 4,5 * * *", "30 3,4 * * *"]);
        assert_eq!(utc("5 * * * *", "Asia/Tokyo"), ["5 * * * *"], "every hour is every hour");
        // Monday's two o'clock in Tokyo is Sunday's in UTC.
        assert_eq!(utc("0 2 * * MON-FRI", "Asia/Tokyo"), ["0 17 * * 0,1,2,3,4"]);
        assert_eq!(utc("0 12 1 * *", "Asia/Tokyo"), ["0 3 1 * *"]);
        assert_eq!(in_utc("0 2 1 * *", "Asia/Tokyo", WINTER), None, "the day before the first");
        assert_eq!(in_utc("0 2 * * *", "Mars/Olympus", WINTER), None);
    }

    #[test]
    fn a_zone_that_changes_is_two_and_one_of_them_counts() {
        let (winter, summer) = ("0 5 * * *", "0 4 * * *");
        assert_eq!(utc("0 6 * * *", "Europe/Berlin"), [summer, winter]);
        let fits = |due: &str, now| fits("0 6 * * *", "Europe/Berlin", due, now);
        assert_eq!((fits(winter, WINTER), fits(summer, WINTER)), (true, false));
        assert_eq!((fits(winter, SUMMER), fits(summer, SUMMER)), (false, true));
        // The night of the change: 2026-10-25, three o'clock becomes two o'clock at 01:00 UTC.
        let change = 1_792_890_000_000;
        assert!(fits(summer, change - 1) && !fits(summer, change) && fits(winter, change));
    }
}
