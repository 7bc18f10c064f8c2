//! Who watches a run: a live view on a terminal, plain lines elsewhere, nobody under `--quiet`.

use super::{Context, Format};
use crate::model::account::Account;
use crate::model::progress::Progress;
use crate::port::clock::Clock;
use crate::port::watch::Watch;
use crate::report::ci::log::{Log, Reader};
use crate::report::{live::View, plain::Lines};
use std::io::Write;
use std::sync::{Arc, Mutex};

/// Watches nothing.
pub struct Nobody;

impl Watch for Nobody {
    fn saw(&self, _: &Progress) {}
}

/// A watcher for one run.
pub struct Watching {
    watch: Arc<dyn Watch>,
    live: Option<Arc<Live>>,
    ci: Option<Arc<CiLog>>,
}

impl Watching {
    /// What the engine is given.
    pub fn watch(&self) -> Arc<dyn Watch> {
        Arc::clone(&self.watch)
    }

    /// Ends a CI log: closes its groups and says in at most ten lines how the run ended, why, and what to change.
    /// `whole`: where all of it can be read. Does nothing for other watchers.
    pub fn conclude(&self, account: &Account, whole: Option<&str>) {
        if let Some(ci) = &self.ci {
            ci.say(|log, now| log.end(account, whole, now));
        }
    }

    /// Takes a live view off the terminal.
    pub fn finish(&self) {
        if let Some(mut view) = self.live.as_ref().and_then(|live| live.0.lock().ok()) {
            view.finish();
        }
    }
}

/// A log that a CI runner reads. It goes to standard error, as all of our talk does; a runner reads both.
pub struct CiLog {
    log: Mutex<Log>,
    clock: Arc<dyn Clock>,
}

impl CiLog {
    fn say(&self, lines: impl FnOnce(&mut Log, i64) -> Vec<String>) {
        let Ok(mut log) = self.log.lock() else { return };
        let told = lines(&mut log, self.clock.now_ms().div_euclid(1000));
        let mut err = std::io::stderr().lock();
        for line in told {
            let _ = writeln!(err, "{line}");
        }
    }
}

impl Watch for CiLog {
    fn saw(&self, progress: &Progress) {
        self.say(|log, now| log.lines(progress, now));
    }
}

struct Live(Mutex<View>);

impl Watch for Live {
    fn saw(&self, progress: &Progress) {
        if let Ok(mut view) = self.0.lock() {
            view.saw(progress);
        }
    }
}

struct Plain(Mutex<Lines>);

impl Watch for Plain {
    fn saw(&self, progress: &Progress) {
        let Ok(mut lines) = self.0.lock() else { return };
        let mut err = std::io::stderr().lock();
        for line in lines.lines(progress) {
            let _ = writeln!(err, "{line}");
        }
    }
}

/// Chooses the watcher.
pub fn watcher(cx: &Context<'_>) -> Watching {
    if cx.verbosity < 0 {
        return Watching { watch: Arc::new(Nobody), live: None, ci: None };
    }
    if cx.interactive && cx.verbosity == 0 && cx.format == Format::Text {
        let live = Arc::new(Live(Mutex::new(View::new())));
        return Watching { watch: Arc::clone(&live) as Arc<dyn Watch>, live: Some(live), ci: None };
    }
    Watching { watch: Arc::new(Plain(Mutex::new(Lines::new(cx.verbosity)))), live: None, ci: None }
}

/// The watcher for a run in CI, whatever the verbosity but `--quiet`, which leaves the end.
pub fn ci(cx: &Context<'_>, reader: Reader) -> Watching {
    let token = format!("{:016x}{:016x}", cx.world.random(), cx.world.random());
    let log = Mutex::new(Log::new(reader, cx.verbosity, &token));
    let ci = Arc::new(CiLog { log, clock: cx.world.clock() });
    let watch = if cx.verbosity < 0 { Arc::new(Nobody) as Arc<dyn Watch> } else { Arc::clone(&ci) as Arc<dyn Watch> };
    Watching { watch, live: None, ci: Some(ci) }
}
