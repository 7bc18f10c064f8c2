//! A run's log on standard output: our own lines only.

use crate::model::account::Account;
use crate::model::ci::Home;
use crate::model::progress::Progress;
use crate::port::clock::Clock;
use crate::port::watch::Watch;
use crate::report::ci::log::{Log, Reader};
use std::io::Write;
use std::sync::{Arc, Mutex};

/// Prints what happens, in groups where the home folds them.
pub(super) struct Printer {
    log: Mutex<Log>,
    clock: Arc<dyn Clock>,
}

impl Printer {
    pub(super) fn new(home: Home, verbosity: i8, random: u64, clock: Arc<dyn Clock>) -> Self {
        let reader = match home {
            Home::Github => Reader::Github,
            Home::Gitlab => Reader::Gitlab,
            Home::Container => Reader::Plain,
        };
        Self { log: Mutex::new(Log::new(reader, verbosity, &format!("{random:016x}"))), clock }
    }

    /// The end of the log.
    pub(super) fn end(&self, account: &Account, whole: Option<&str>) {
        let now = self.clock.now_ms().div_euclid(1000);
        if let Ok(mut log) = self.log.lock() {
            print(log.end(account, whole, now));
        }
    }
}

impl Watch for Printer {
    fn saw(&self, progress: &Progress) {
        let now = self.clock.now_ms().div_euclid(1000);
        if let Ok(mut log) = self.log.lock() {
            print(log.lines(progress, now));
        }
    }
}

fn print(lines: Vec<String>) {
    if lines.is_empty() {
        return;
    }
    let mut out = std::io::stdout().lock();
    for line in lines {
        let _ = writeln!(out, "{line}");
    }
    let _ = out.flush();
}
