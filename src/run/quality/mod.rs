//! The quality layer of a step: samples, judges, attempts, guards, debates.
//!
//! Every question is a call like the agent's own: composed, reserved, billed, in the journal under its
//! [`Purpose`]. A step has at most one question to a judge, guard or speaker open at a time ([`Asking`]); samples of
//! a turn are out side by side.

mod best_of;
mod debate;
mod guard;
mod sampling;
mod words;

use super::money::add;
use super::state::{ParkedCall, Phase, State};
use crate::model::account::{Ending, Spend};
use crate::model::chat::{Answer, Conclusion, ModelError, ModelFault, StopReason, Turn};
use crate::model::delivery::FileChange;
use crate::model::id::TreeId;
use crate::model::journal::{Effect, Purpose, Side, Work};
use crate::model::quality::{Quality, Voice};
pub use best_of::Tried;
pub use guard::Look;
pub(super) use sampling::Contest;
use sampling::{Sample, Tally};
use serde_json::Value;
use std::collections::BTreeMap;

/// How often an answer of a judge, a guard or a speaker that cannot be read is sent back.
const REPAIRS: usize = 1;

/// What the quality layer knows of a step.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// The question that is open.
    pub asking: Option<Asking>,
    /// The answers to choose from, each different from the others, in the order of the samples.
    pub candidates: Vec<Answer>,
    /// The attempts of `best_of` that are over.
    pub tried: Vec<Tried>,
    /// What was said in the debate, in order.
    pub speeches: Vec<(Side, String)>,
    /// What the moderator concluded.
    pub debated: Option<String>,
    /// What the guard is looking at.
    pub look: Option<Look>,
    /// The tree that the guard is shown the difference of, and its files.
    pub seen: Option<(TreeId, Vec<FileChange>)>,
    /// What was spent beside plain turns, by the purpose's word.
    pub spent: BTreeMap<String, Spend>,
    samples: Vec<Sample>,
    contest: Option<Contest>,
    tally: Tally,
    rejections: u32,
    rejected: u32,
    /// `best_of` has its winner, or none.
    decided: bool,
    /// How many gate results there were before the first attempt, and before the latest.
    gates_from: (usize, usize),
    /// Which attempt was kept.
    kept: Option<u32>,
}

/// A question to a judge, a guard or a speaker.
#[derive(Debug, Clone)]
pub struct Asking {
    /// What is asked.
    pub ask: Ask,
    /// Answers that could not be read, with what was said of them.
    pub turns: Vec<Turn>,
}

/// What is asked of a judge, a guard or a speaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Which of two candidates is better; by their places among [`Progress::candidates`].
    Compare {
        /// Shown as A.
        first: usize,
        /// Shown as B.
        second: usize,
    },
    /// One answer made from all candidates.
    Synthesise,
    /// The score of the newest attempt.
    Score,
    /// The best of all attempts that pass.
    Pick,
    /// Whether [`Progress::look`] is acceptable.
    Guard,
    /// A speech.
    Speech {
        /// Whose.
        side: Side,
        /// Round, from 0.
        round: u32,
    },
}

impl Ask {
    fn purpose(self) -> Purpose {
        match self {
            Self::Compare { .. } | Self::Synthesise | Self::Score | Self::Pick => Purpose::Choose,
            Self::Guard => Purpose::Guard,
            Self::Speech { side, round } => Purpose::Speech { side, round },
        }
    }

    /// Who is asked.
    pub fn voice(self, quality: &Quality) -> Option<&Voice> {
        let debate = quality.debate.as_ref();
        match self {
            Self::Compare { .. } | Self::Synthesise => quality.action_sampling.as_ref().map(|it| &it.judge),
            Self::Score | Self::Pick => quality.best_of.as_ref().map(|it| &it.reviewer),
            Self::Guard => quality.guardrail.as_ref().map(|it| &it.guard),
            Self::Speech { side: Side::Pro, .. } => debate.map(|it| &it.pro),
            Self::Speech { side: Side::Con, .. } => debate.map(|it| &it.con),
            Self::Speech { side: Side::Moderator, .. } => debate.map(|it| &it.moderator),
        }
    }
}

/// Why a question has no answer.
#[derive(Debug)]
enum Lost {
    /// It was answered, but not in a way that can be read, twice.
    Unreadable(String),
    /// It could not be asked or answered: money, provider, time.
    Gone(Ending, String),
}

impl Lost {
    fn why(&self) -> &str {
        match self {
            Self::Unreadable(why) | Self::Gone(_, why) => why,
        }
    }
}

impl Progress {
    /// Forgets what belongs to one attempt.
    pub(super) fn next_attempt(&mut self) {
        self.asking = None;
        self.candidates.clear();
        self.samples.clear();
        self.contest = None;
        self.look = None;
        self.seen = None;
        self.rejections = 0;
    }

    /// For another pass: what was spent and told stays on the account.
    pub(super) fn next_pass(&mut self) -> Self {
        Self { spent: std::mem::take(&mut self.spent), tally: self.tally, rejected: self.rejected, ..Self::default() }
    }

    /// What the layer did, in lines for people.
    pub fn told(&self, quality: &Quality) -> Vec<String> {
        let mut lines = self.tally.told();
        if let Some(best) = &quality.best_of {
            lines.extend(self.tried.iter().map(|tried| tried.told(best, self.kept == Some(tried.number))));
        }
        if let Some(guard) = quality.guardrail.as_ref().filter(|_| self.rejected > 0) {
            let times = if self.rejected == 1 { "once".to_owned() } else { format!("{} times", self.rejected) };
            lines.push(format!("guard `{}` rejected {times}", guard.guard.name));
        }
        if self.debated.is_some() {
            let speeches = self.speeches.len().saturating_sub(1);
            lines.push(format!("debated: {speeches} speeches, then the moderator's conclusion"));
        }
        lines
    }
}

impl State {
    /// The step's quality layer, where it has one.
    pub fn quality(&self, index: usize) -> Option<&Quality> {
        self.agent_spec(index)?.quality.as_deref()
    }

    /// The judge, the guard or the speaker that a call of this purpose goes to; `None`: it is the agent's own.
    pub(super) fn voice_for(&self, index: usize, purpose: &Purpose) -> Option<&Voice> {
        let ask = match purpose {
            Purpose::Turn | Purpose::Sample(_) | Purpose::Gateway(_) => return None,
            Purpose::Choose => self.steps.get(index)?.quality.asking.as_ref()?.ask,
            Purpose::Guard => Ask::Guard,
            Purpose::Speech { side, round } => Ask::Speech { side: *side, round: *round },
        };
        ask.voice(self.quality(index)?)
    }

    /// Remembers what a call beside the plain turns cost.
    pub(super) fn note_purpose(&mut self, index: usize, purpose: &Purpose, spend: &Spend) {
        if !purpose.is_turn() {
            add(self.steps[index].quality.spent.entry(purpose.word().to_owned()).or_default(), spend);
        }
    }

    /// Asks a judge, a guard or a speaker.
    fn ask(&mut self, index: usize, ask: Ask) {
        // What failed at another question of this purpose may be asked this one.
        let purpose = ask.purpose();
        self.steps[index].tried.retain(|(of, _)| *of != purpose);
        self.steps[index].quality.asking = Some(Asking { ask, turns: Vec::new() });
        self.put_question(index);
    }

    /// Has the open question composed.
    fn put_question(&mut self, index: usize) {
        let step = &mut self.steps[index];
        let Some(ask) = step.quality.asking.as_ref().map(|asking| asking.ask) else { return };
        step.phase = Phase::Composing;
        self.compose_for(index, ask.purpose());
    }

    /// An answer came: to whom does it belong?
    pub(super) fn answer(&mut self, index: usize, cause: &Effect, answer: Answer) {
        match &cause.work {
            Work::CallModel { purpose: Purpose::Turn, .. } => self.answered(index, answer),
            Work::CallModel { purpose: Purpose::Sample(at), .. } => self.sampled(index, *at, answer),
            Work::CallModel { purpose: Purpose::Choose | Purpose::Guard | Purpose::Speech { .. }, .. } => {
                self.voice_answered(index, answer);
            }
            _ => {}
        }
    }

    /// A call was cut: its question is asked again, under another key. A program's question is not ours to ask.
    pub(super) fn ask_again(&mut self, index: usize, cause: &Effect) {
        match &cause.work {
            Work::CallModel { purpose: Purpose::Turn, .. } => self.compose_for(index, Purpose::Turn),
            Work::CallModel { purpose: Purpose::Sample(at), .. } => self.sample_again(index, *at),
            Work::CallModel { purpose: Purpose::Choose | Purpose::Guard | Purpose::Speech { .. }, .. } => {
                self.put_question(index);
            }
            _ => {}
        }
    }

    /// A call failed, and its model rests. True where that is dealt with here.
    pub(super) fn quality_call_failed(
        &mut self,
        index: usize,
        purpose: &Purpose,
        model: usize,
        error: &ModelError,
    ) -> bool {
        let hopeless = matches!(error.fault, ModelFault::BadRequest | ModelFault::TooLong | ModelFault::Unmatched);
        match purpose {
            Purpose::Sample(at) => {
                let lost = self.sample_lost(index, *at, &error.message);
                if lost && !hopeless {
                    self.steps[index].tried.push((purpose.clone(), model));
                }
                lost
            }
            Purpose::Choose | Purpose::Guard | Purpose::Speech { .. } if hopeless => {
                self.gave_up(index, Lost::Gone(Ending::Unavailable, error.message.clone()));
                true
            }
            Purpose::Choose | Purpose::Guard | Purpose::Speech { .. } => {
                self.steps[index].tried.push((purpose.clone(), model));
                if let Some(next) = self.choose(index, purpose) {
                    self.note_rest(index, purpose, (model, next), error);
                    self.put_question(index);
                } else {
                    self.gave_up(index, Lost::Gone(Ending::Unavailable, error.message.clone()));
                }
                true
            }
            Purpose::Turn | Purpose::Gateway(_) => false,
        }
    }

    /// Another model of the chain is asked.
    pub(super) fn retry_purpose(&mut self, index: usize, purpose: Purpose) {
        match purpose {
            // The last sample's failure: all are asked for anew.
            Purpose::Sample(_) => self.compose(index),
            purpose => self.compose_for(index, purpose),
        }
    }

    /// No model is left for a call. True where that is dealt with here.
    pub(super) fn nobody_answers(&mut self, index: usize, purpose: &Purpose, why: &str) -> bool {
        match purpose {
            Purpose::Sample(at) => self.sample_lost(index, *at, why),
            Purpose::Choose | Purpose::Guard | Purpose::Speech { .. } => {
                self.gave_up(index, Lost::Gone(Ending::Unavailable, why.to_owned()));
                true
            }
            Purpose::Turn | Purpose::Gateway(_) => false,
        }
    }

    /// The budget says never to a call. True where that is dealt with here.
    pub(super) fn unaffordable(&mut self, index: usize, call: &ParkedCall, why: &str) -> bool {
        match call.purpose {
            Purpose::Sample(at) => self.sample_lost(index, at, "the budget does not allow it"),
            Purpose::Choose | Purpose::Guard | Purpose::Speech { .. } => {
                self.gave_up(index, Lost::Gone(Ending::Limit, why.to_owned()));
                true
            }
            Purpose::Turn | Purpose::Gateway(_) => false,
        }
    }

    fn voice_answered(&mut self, index: usize, answer: Answer) {
        let Some(asking) = &self.steps[index].quality.asking else { return };
        let ask = asking.ask;
        let done = asking.turns.len() >= REPAIRS;
        if ask == Ask::Synthesise {
            return self.synthesised(index, answer);
        }
        match read(ask, &answer) {
            Ok(said) => {
                self.steps[index].quality.asking = None;
                match ask {
                    Ask::Compare { first, second } => self.compared(index, first, second, said.text("winner")),
                    Ask::Score => self.scored(index, Some(said.number("score")), said.text("reason")),
                    Ask::Pick => self.picked(index, Some(said.number("best")), said.text("reason")),
                    Ask::Guard => self.guarded(index, said.text("verdict") == "accept", said.text("feedback")),
                    Ask::Speech { side, round } => self.spoken(index, side, round, said.words),
                    Ask::Synthesise => {}
                }
            }
            Err(problem) if !done && answer.stop != StopReason::Refusal => {
                let unread = |id: &String| (id.clone(), "This call was not carried out.".to_owned());
                let results = answer.raw_calls.iter().map(|call| unread(&call.id)).collect();
                if let Some(asking) = &mut self.steps[index].quality.asking {
                    asking.turns.push(Turn { answer, results, say: Some(problem) });
                }
                self.put_question(index);
            }
            Err(problem) => self.gave_up(index, Lost::Unreadable(problem)),
        }
    }

    /// A question stays without an answer: what that means depends on what was asked.
    fn gave_up(&mut self, index: usize, lost: Lost) {
        let Some(asking) = self.steps[index].quality.asking.take() else { return };
        let id = self.plan_step(index).map(|step| step.id.to_string()).unwrap_or_default();
        let note = |what: &str| format!("step `{id}`: {what}: {}", lost.why());
        match asking.ask {
            Ask::Compare { first, second } => match lost {
                Lost::Unreadable(_) => {
                    self.notes.push(note("the judge's answer could not be read and counts for nobody"));
                    self.compared(index, first, second, "tie");
                }
                Lost::Gone(..) => {
                    self.notes.push(note("the judge cannot be had; the answer that leads so far is taken"));
                    self.end_contest(index);
                }
            },
            Ask::Synthesise => {
                self.notes.push(note("the judge made no answer; the first one is taken"));
                self.take_candidate(index, 0);
            }
            Ask::Score => {
                self.notes.push(note("the attempt has no score"));
                self.scored(index, None, "");
            }
            Ask::Pick => {
                self.notes.push(note("the reviewer chose none; the first attempt that passed is kept"));
                self.picked(index, None, "");
            }
            Ask::Guard => {
                let (ending, why) = match lost {
                    Lost::Unreadable(why) => (Ending::Failed, format!("its verdict cannot be read: {why}")),
                    Lost::Gone(ending, why) => (ending, why),
                };
                let guard = self.quality(index).and_then(|quality| quality.guardrail.as_ref());
                let name = guard.map(|it| it.guard.name.clone()).unwrap_or_default();
                self.fail(index, ending, format!("step `{id}`: the guard `{name}` did not decide: {why}"));
            }
            Ask::Speech { side, round } => match lost {
                Lost::Unreadable(_) if side != Side::Moderator => {
                    self.spoken(index, side, round, "(said nothing)".to_owned());
                }
                Lost::Unreadable(why) => {
                    let message = format!("step `{id}`: the moderator of the debate did not conclude: {why}");
                    self.fail(index, Ending::Failed, message);
                }
                Lost::Gone(ending, why) => {
                    self.fail(index, ending, format!("step `{id}`: the debate before it broke off: {why}"));
                }
            },
        }
    }
}

/// What a judge, a guard or a speaker said.
struct Said {
    words: String,
    output: Value,
}

impl Said {
    fn text(&self, key: &str) -> &str {
        self.output.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn number(&self, key: &str) -> f64 {
        self.output.get(key).and_then(Value::as_f64).unwrap_or_default()
    }
}

/// Reads an answer. The schema of the question has been checked already.
fn read(ask: Ask, answer: &Answer) -> Result<Said, String> {
    if answer.stop == StopReason::Refusal {
        return Err("the model refused".to_owned());
    }
    let speech = matches!(ask, Ask::Speech { .. });
    match &answer.conclusion {
        Some(Ok(Conclusion { text, output })) if speech || output.is_some() => {
            Ok(Said { words: text.clone(), output: output.clone().unwrap_or(Value::Null) })
        }
        // A speech that ran into the output limit is still a speech.
        _ if speech && answer.calls.is_empty() && !answer.text.trim().is_empty() => {
            Ok(Said { words: answer.text.trim().to_owned(), output: Value::Null })
        }
        Some(Err(problem)) => Err(problem.clone()),
        _ => Err("Answer in words: there are no tools here.".to_owned()),
    }
}

#[cfg(test)]
mod tests;
