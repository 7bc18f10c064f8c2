//! What runs spent of the budgets that they share, as a branch of the repository keeps it for runners that forget.
//!
//! Amounts, and nothing else: no prompt, no code, no finding. Whoever may push the branch can write what they like into
//! it, so it is read like an artifact: of one version, with nothing in it that is not known, and no more than there can
//! be.

use super::budget::{Scope, SharedBudget, day};
use super::id::RunId;
use super::usage::NanoUsd;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The one version that is read and written.
pub const VERSION: u32 = 1;
/// Most bytes of it.
pub const LARGEST: usize = 256 * 1024;
/// Most amounts in it; what is oldest goes first.
const MOST: usize = 1000;
/// Most bytes of a key.
const LONGEST: usize = 200;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// The amounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    version: u32,
    amounts: Vec<Amount>,
}

/// One amount: what was spent under a key, or what a run at work holds of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Amount {
    scope: Scope,
    /// See [`SharedBudget::key`].
    key: String,
    /// Who holds it; without one it is spent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<RunId>,
    /// In units of 10⁻⁹ US dollar.
    nano_usd: NanoUsd,
    /// The day (UTC) that it was written last.
    day: String,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { version: VERSION, amounts: Vec::new() }
    }
}

impl Ledger {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        if bytes.len() > LARGEST {
            return Err(format!("it has more than {LARGEST} bytes"));
        }
        let wrong = |error: serde_json::Error| format!("it is not what a run writes: {error}");
        let Versioned { version } = serde_json::from_slice(bytes).map_err(wrong)?;
        if version != VERSION {
            return Err(format!("it is of version {version}; this program reads version {VERSION}"));
        }
        let ledger: Self = serde_json::from_slice(bytes).map_err(wrong)?;
        if ledger.amounts.len() > MOST {
            return Err(format!("it has more than {MOST} amounts"));
        }
        let mut seen = BTreeSet::new();
        for amount in &ledger.amounts {
            let named = amount.run.as_ref().map(RunId::as_str).unwrap_or_default();
            let key = &amount.key;
            let dated = !amount.scope.is_daily() || key.get(..10).is_some_and(is_day);
            if key.is_empty() || key.len() > LONGEST || key.chars().any(char::is_control) || !dated {
                return Err(format!("`{}` is no {}", key.escape_debug(), amount.scope.name()));
            }
            if !is_day(&amount.day) || named.len() > 32 || !named.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return Err(format!("the amount of the {} `{}` has no sound day or run", amount.scope.name(), key));
            }
            if !seen.insert((amount.scope, key, named)) {
                return Err(format!("the {} `{key}` is there twice", amount.scope.name()));
            }
        }
        Ok(ledger)
    }

    /// As it is written.
    pub fn text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// What runs other than `run` spent and hold under a key.
    pub fn others(&self, scope: Scope, key: &str, run: &RunId) -> NanoUsd {
        let under = self.amounts.iter().filter(|it| it.scope == scope && it.key == key && it.run.as_ref() != Some(run));
        under.fold(NanoUsd::default(), |sum, it| sum.plus(it.nano_usd))
    }

    /// Holds for a run what the scopes leave it, at most `wanted`; `false`: one of them leaves nothing.
    pub fn hold(&mut self, run: &RunId, shared: &[SharedBudget], wanted: Option<NanoUsd>, now_ms: i64) -> bool {
        let left = shared
            .iter()
            .filter_map(|it| Some(NanoUsd::from_usd(it.max_usd?).minus(self.others(it.scope, &it.key(now_ms), run))));
        let Some(granted) = left.chain(wanted).min().filter(|granted| granted.0 > 0) else { return false };
        self.amounts.retain(|it| it.run.as_ref() != Some(run));
        for it in shared {
            let run = Some(run.clone());
            self.amounts.push(Amount {
                scope: it.scope,
                key: it.key(now_ms),
                run,
                nano_usd: granted,
                day: day(now_ms),
            });
        }
        self.tidy(now_ms);
        true
    }

    /// A run is at its end: what it held goes, and what it spent under each key stays.
    pub fn settle(&mut self, run: &RunId, spent: &[(Scope, String, NanoUsd)], now_ms: i64) {
        self.amounts.retain(|it| it.run.as_ref() != Some(run));
        for (scope, key, nano_usd) in spent {
            let there = self.amounts.iter_mut().find(|it| it.scope == *scope && it.key == *key && it.run.is_none());
            match there {
                Some(there) => {
                    there.nano_usd = there.nano_usd.plus(*nano_usd);
                    there.day = day(now_ms);
                }
                None => self.amounts.push(Amount {
                    scope: *scope,
                    key: key.clone(),
                    run: None,
                    nano_usd: *nano_usd,
                    day: day(now_ms),
                }),
            }
        }
        self.tidy(now_ms);
    }

    /// Days that are over go (yesterday stays for a run that began on it), and of changes the ones that nobody ran for
    /// longest, where there are too many.
    fn tidy(&mut self, now_ms: i64) {
        let yesterday = day(now_ms.saturating_sub(DAY_MS));
        self.amounts.retain(|it| !it.scope.is_daily() || it.key.get(..10).is_some_and(|on| on >= yesterday.as_str()));
        if self.amounts.len() > MOST {
            self.amounts.sort_by(|one, other| other.day.cmp(&one.day));
            self.amounts.truncate(MOST);
        }
        self.amounts.sort();
    }
}

/// `2026-11-24`.
fn is_day(text: &str) -> bool {
    text.len() == 10
        && text
            .bytes()
            .enumerate()
            .all(|(at, byte)| if matches!(at, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_795_521_600_000; // 2026-11-24T12:00:00Z

    fn shared(scope: Scope, name: &str, max_usd: f64) -> SharedBudget {
        SharedBudget { scope, name: name.into(), max_usd: Some(max_usd) }
    }

    #[test]
    fn two_runs_never_count_on_the_same_money() {
        let (one, other) = (RunId::from("run1"), RunId::from("run2"));
        let caps = [shared(Scope::Day, "", 3.0), shared(Scope::Change, "42", 10.0)];
        let mut ledger = Ledger::default();
        assert!(ledger.hold(&one, &caps, Some(NanoUsd::from_usd(2.0)), NOON));
        assert!(ledger.hold(&other, &caps, Some(NanoUsd::from_usd(2.0)), NOON), "a dollar of the day is left");
        assert_eq!(ledger.others(Scope::Change, "42", &one), NanoUsd::from_usd(1.0), "and no more was held");
        assert!(!ledger.hold(&RunId::from("run3"), &caps, None, NOON), "nothing is left of the day");
        ledger.settle(&one, &[(Scope::Day, "2026-11-24".into(), NanoUsd::from_usd(0.5))], NOON);
        ledger.settle(&other, &[(Scope::Day, "2026-11-24".into(), NanoUsd::from_usd(0.25))], NOON);
        let again = Ledger::read(ledger.text().as_bytes()).unwrap();
        assert_eq!(again, ledger);
        assert_eq!(again.others(Scope::Day, "2026-11-24", &one), NanoUsd::from_usd(0.75));
        // Two days later the day is gone, and the change is not.
        ledger.settle(&one, &[(Scope::Change, "42".into(), NanoUsd(7))], NOON + 2 * DAY_MS);
        assert_eq!((ledger.others(Scope::Day, "2026-11-24", &one), ledger.amounts.len()), (NanoUsd(0), 1));
    }

    #[test]
    fn what_no_run_writes_is_not_read() {
        let with = |amount: &str| format!(r#"{{ "version": 1, "amounts": [{amount}] }}"#);
        let sound = r#"{ "scope": "change", "key": "42", "nano_usd": 5, "day": "2026-11-24" }"#;
        assert!(Ledger::read(with(sound).as_bytes()).is_ok());
        let twice = format!("{sound}, {sound}");
        for (text, says) in [
            ("<<<<<<< HEAD".to_owned(), "not what a run writes"),
            (with(sound).replace("\"version\": 1", "\"version\": 2"), "version 2"),
            (with(&sound.replace(": 5", ": -5")), "not what a run writes"),
            (with(&sound.replace("42", "4\\u000a2")), "is no change"),
            (with(&sound.replace("change", "day")), "is no day"),
            (with(&sound.replace("2026-11-24", "yesterday!")), "no sound day"),
            (with(&sound.replace("\"key\"", "\"prompt\": \"x\", \"key\"")), "not what a run writes"),
            (with(&twice), "there twice"),
            (format!("{}{}", with(sound), " ".repeat(LARGEST)), "more than"),
        ] {
            let error = Ledger::read(text.as_bytes()).unwrap_err();
            assert!(error.contains(says), "{text:.80}: {error}");
        }
    }

    #[test]
    fn it_does_not_grow_beyond_what_is_read() {
        let mut ledger = Ledger::default();
        let run = RunId::from("run1");
        for number in 0..2 * MOST {
            let at = NOON + number as i64 * DAY_MS / 10;
            ledger.settle(&run, &[(Scope::Change, format!("{number}"), NanoUsd(1))], at);
        }
        let text = ledger.text();
        assert!(text.len() < LARGEST && Ledger::read(text.as_bytes()).is_ok(), "{}", text.len());
        assert_eq!(ledger.others(Scope::Change, "1999", &run), NanoUsd(1), "the newest are kept");
        assert_eq!(ledger.others(Scope::Change, "0", &run), NanoUsd(0));
    }
}
