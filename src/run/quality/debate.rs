//! `debate`: the task is argued for and against before the agent's first turn.

use super::Ask;
use crate::model::journal::Side;
use crate::run::state::State;

impl State {
    /// Begins the debate. False where there is none, or it is over.
    pub(in crate::run) fn start_debate(&mut self, index: usize) -> bool {
        let has = self.quality(index).is_some_and(|quality| quality.debate.is_some());
        let quality = &mut self.steps[index].quality;
        if !has || quality.debated.is_some() {
            return false;
        }
        quality.speeches.clear();
        self.ask(index, Ask::Speech { side: Side::Pro, round: 0 });
        true
    }

    /// A speech was made: whose turn is it?
    pub(super) fn spoken(&mut self, index: usize, side: Side, round: u32, words: String) {
        let rounds = self.quality(index).and_then(|quality| quality.debate.as_ref()).map_or(1, |it| it.rounds.max(1));
        let quality = &mut self.steps[index].quality;
        quality.speeches.push((side, words.clone()));
        let next = match side {
            Side::Pro => Ask::Speech { side: Side::Con, round },
            Side::Con if round + 1 < rounds => Ask::Speech { side: Side::Pro, round: round + 1 },
            Side::Con => Ask::Speech { side: Side::Moderator, round: round + 1 },
            Side::Moderator => {
                quality.debated = Some(words);
                return self.compose(index);
            }
        };
        self.ask(index, next);
    }
}
