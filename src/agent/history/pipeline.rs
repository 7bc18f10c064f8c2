//! The processors of a conversation, as a fold over its turns.
//!
//! Providers keep what they have read in a cache, by the request's beginning: a request that begins like the last one
//! costs a tenth, one that differs early costs everything again. So nothing is cut a little on each turn. Turns are
//! added whole; every [`CUT_EVERY`] turns, and whenever the request would grow beyond its limit, all processors cut at
//! once what is due, in their order. What was cut stays cut. In between each request begins with the one before it.
//!
//! The fold has no memory but the turns, so it gives the same after a crash, in a replay, and on another machine.

use super::{Shown, Why, windows};
use crate::model::chat::Turn;
use crate::model::history::{PATTERN_BYTES, Processor};
use regex::{Regex, RegexBuilder};

/// Turns from one cut to the next.
pub(in crate::agent) const CUT_EVERY: usize = 6;

/// What is left of a conversation.
#[derive(Debug, Default)]
pub(in crate::agent) struct Kept {
    /// The turns to show, the last one among them.
    pub turns: Vec<Shown>,
    /// How many turns at the beginning the request before this one showed the same.
    pub stable: usize,
}

/// Applies the processors to the turns. `budget`: estimated tokens that the turns may take together; `tools`: whether
/// the model calls functions. Only the last turn alone may be larger than the budget.
pub(in crate::agent) fn keep(history: &[Processor], turns: &[Turn], budget: u64, tools: bool) -> Kept {
    let removed: Vec<Regex> = history.iter().filter_map(pattern).collect();
    let mut fold = Fold { turns: Vec::new(), sizes: Vec::new(), total: 0, head: 0, dropped: 0, tools };
    let head =
        history.iter().find_map(|it| if let Processor::HeadAndTail { head, .. } = it { Some(*head) } else { None });
    let mut stable = 0;
    for (number, turn) in turns.iter().enumerate() {
        stable = fold.turns.len();
        let dropped = fold.dropped;
        fold.push(Shown::of(turn, &removed));
        if head.is_some_and(|head| number < head) {
            fold.head = fold.turns.len();
        }
        if (number + 1) % CUT_EVERY == 0 || fold.total > budget {
            for processor in history {
                stable = stable.min(fold.process(processor));
            }
            if fold.total > budget {
                // Well below, so that the next turns have room before it is cut again.
                stable = stable.min(fold.shrink(budget - budget / 4));
            }
        }
        // The first turn that goes puts a note into the first prompt.
        if dropped == 0 && fold.dropped > 0 {
            stable = 0;
        }
    }
    Kept { turns: fold.turns, stable }
}

fn pattern(processor: &Processor) -> Option<Regex> {
    let Processor::Remove(pattern) = processor else { return None };
    // What does not compile was refused when the workflow was read.
    RegexBuilder::new(pattern).size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES).build().ok()
}

struct Fold {
    turns: Vec<Shown>,
    /// Each turn's estimate.
    sizes: Vec<u64>,
    total: u64,
    /// How many of the turns, at the beginning, `head_and_tail` keeps.
    head: usize,
    dropped: usize,
    tools: bool,
}

impl Fold {
    fn push(&mut self, turn: Shown) {
        let size = turn.estimate(self.tools);
        self.total += size;
        self.sizes.push(size);
        self.turns.push(turn);
    }

    /// Lets one processor cut what is due. Returns the first turn that it changed, or how many turns there are.
    fn process(&mut self, processor: &Processor) -> usize {
        let unchanged = self.turns.len();
        let first = match processor {
            Processor::LastObservations(keep) => self.last_observations(*keep),
            Processor::ClosedWindows => windows::close(&mut self.turns),
            Processor::Buffered(keep) => {
                let surplus = self.turns.len().saturating_sub((*keep).max(1));
                self.drain(0, surplus);
                (surplus > 0).then_some(0)
            }
            Processor::HeadAndTail { tail, .. } => {
                let from = self.head.min(self.turns.len());
                let surplus = (self.turns.len() - from).saturating_sub((*tail).max(1));
                self.drain(from, surplus);
                (surplus > 0).then_some(from)
            }
            // The one is the request's size, looked at after each turn; the others do not change on the way.
            Processor::TokenLimit(_) | Processor::Remove(_) | Processor::CacheControl => None,
        };
        if let Some(first) = first {
            self.measure(first);
        }
        first.unwrap_or(unchanged)
    }

    /// Keeps the last `keep` results whole and makes stubs of the older ones, but for those of the last turn.
    fn last_observations(&mut self, keep: usize) -> Option<usize> {
        let newest = self.turns.len().saturating_sub(1);
        let (mut seen, mut first) = (0, None);
        for (number, turn) in self.turns.iter_mut().enumerate().rev() {
            for result in turn.results.iter_mut().rev() {
                seen += 1;
                if seen > keep && number < newest && result.stub(Why::Old) {
                    first = Some(number);
                }
            }
        }
        first
    }

    /// Older results become stubs, oldest first, then the oldest turns go, until the rest comes to `goal`. The last
    /// turn stays as it is; what `head_and_tail` keeps goes last. Returns the first turn that changed.
    fn shrink(&mut self, goal: u64) -> usize {
        let newest = self.turns.len().saturating_sub(1);
        let mut first = self.turns.len();
        let head = self.head.min(newest);
        for number in (head..newest).chain(0..head) {
            if self.total <= goal {
                return first;
            }
            let Some(turn) = self.turns.get_mut(number) else { continue };
            let results = &mut turn.results;
            if results.iter_mut().fold(false, |any, result| result.stub(Why::Old) | any) {
                first = first.min(number);
                self.measure_one(number);
            }
        }
        for (from, end) in [(head, newest), (0, head)] {
            let mut left = self.total;
            let goes = |size: &&u64| {
                let goes = left > goal;
                left = left.saturating_sub(if goes { **size } else { 0 });
                goes
            };
            let surplus = self.sizes.get(from..end).unwrap_or_default().iter().take_while(goes).count();
            if surplus > 0 {
                self.drain(from, surplus);
                self.measure(from);
                first = first.min(from);
            }
        }
        first
    }

    fn drain(&mut self, from: usize, count: usize) {
        let end = (from + count).min(self.turns.len());
        self.turns.drain(from..end);
        self.sizes.drain(from..end);
        self.dropped += end - from;
        if from < self.head {
            self.head -= (end - from).min(self.head - from);
        }
    }

    fn measure_one(&mut self, number: usize) {
        if let Some((turn, size)) = self.turns.get(number).zip(self.sizes.get_mut(number)) {
            let now = turn.estimate(self.tools);
            self.total = (self.total + now).saturating_sub(*size);
            *size = now;
        }
    }

    /// Measures the turns from `first` on again.
    fn measure(&mut self, first: usize) {
        for (turn, size) in self.turns.iter().zip(&mut self.sizes).skip(first) {
            *size = turn.estimate(self.tools);
        }
        self.total = self.sizes.iter().sum();
    }
}
