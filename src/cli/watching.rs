//! Who watches a run: a live view on a terminal, plain lines elsewhere, nobody under `--quiet`.

use super::{Context, Format};
use crate::model::progress::Progress;
use crate::port::watch::Watch;
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
}

impl Watching {
    /// What the engine is given.
    pub fn watch(&self) -> Arc<dyn Watch> {
        Arc::clone(&self.watch)
    }

    /// Takes a live view off the terminal.
    pub fn finish(&self) {
        if let Some(mut view) = self.live.as_ref().and_then(|live| live.0.lock().ok()) {
            view.finish();
        }
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
        return Watching { watch: Arc::new(Nobody), live: None };
    }
    if cx.interactive && cx.verbosity == 0 && cx.format == Format::Text {
        let live = Arc::new(Live(Mutex::new(View::new())));
        return Watching { watch: Arc::clone(&live) as Arc<dyn Watch>, live: Some(live) };
    }
    Watching { watch: Arc::new(Plain(Mutex::new(Lines::new(cx.verbosity)))), live: None }
}
