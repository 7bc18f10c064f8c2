//! `guardrail`: another model accepts what the agent did, or sends it back with its reasons.

use super::{Ask, words};
use crate::model::account::Ending;
use crate::model::chat::{Answer, Conclusion, Turn};
use crate::model::delivery::FileChange;
use crate::model::id::TreeId;
use crate::model::journal::Work;
use crate::model::quality::GuardOn;
use crate::run::state::{Phase, State};
use crate::text::cap;

/// Bytes of a guard's last words in the reason of a failure.
const LAST_WORDS: usize = 600;

/// What the guard looks at.
#[derive(Debug, Clone)]
pub enum Look {
    /// A turn whose calls have not been carried out.
    Turn(Box<Answer>),
    /// The agent's conclusion.
    Conclusion(Conclusion),
}

impl State {
    fn guards(&self, index: usize) -> Option<(GuardOn, u32, String)> {
        let guard = self.quality(index)?.guardrail.as_ref()?;
        Some((guard.on, guard.max_rejections, guard.guard.name.clone()))
    }

    /// Has the guard look at a turn before its calls are carried out. False where it need not.
    pub(in crate::run) fn guard_turn(&mut self, index: usize, answer: &Answer) -> bool {
        let acts = answer.calls.iter().any(|call| call.name != "finish" && call.malformed.is_none());
        if !acts || self.guards(index).is_none_or(|(on, ..)| on != GuardOn::Turn) {
            return false;
        }
        self.steps[index].quality.look = Some(Look::Turn(Box::new(answer.clone())));
        self.ask(index, Ask::Guard);
        true
    }

    /// Has the guard look at a conclusion, with the difference that was made. False where there is no guard.
    pub(in crate::run) fn guard_conclusion(&mut self, index: usize, conclusion: &Conclusion) -> bool {
        if self.guards(index).is_none() {
            return false;
        }
        self.steps[index].quality.look = Some(Look::Conclusion(conclusion.clone()));
        self.steps[index].quality.seen = None;
        if self.plan_step(index).is_some_and(|plan| plan.writes) {
            self.steps[index].phase = Phase::Guarding;
            self.emit(index, Work::Snapshot { after: true });
        } else {
            self.ask(index, Ask::Guard);
        }
        true
    }

    /// The tree that the guard is to see is taken.
    pub(in crate::run) fn guard_sees(&mut self, index: usize, tree: TreeId, files: Vec<FileChange>) {
        self.steps[index].quality.seen = Some((tree, files));
        self.ask(index, Ask::Guard);
    }

    pub(super) fn guarded(&mut self, index: usize, accepted: bool, feedback: &str) {
        let Some(look) = self.steps[index].quality.look.take() else { return };
        let seen = self.steps[index].quality.seen.take();
        match (look, accepted) {
            (Look::Turn(answer), true) => self.carry_out(index, *answer),
            (Look::Conclusion(conclusion), true) => self.accepted(index, conclusion, seen),
            (Look::Turn(answer), false) => {
                let refused = "This call was not carried out: see the guard's words.";
                let results = answer.calls.iter().map(|call| (call.id.clone(), refused.to_owned())).collect();
                let say = Some(words::rejected_turn(feedback));
                self.steps[index].turns.push(Turn { answer: *answer, results, say });
                self.rejected(index, feedback);
            }
            (Look::Conclusion(_), false) => {
                if let Some(turn) = self.steps[index].turns.last_mut() {
                    turn.say = Some(words::rejected_conclusion(feedback));
                }
                self.rejected(index, feedback);
            }
        }
    }

    fn rejected(&mut self, index: usize, feedback: &str) {
        let Some((_, most, name)) = self.guards(index) else { return };
        let id = self.plan_step(index).map(|step| step.id.to_string()).unwrap_or_default();
        let quality = &mut self.steps[index].quality;
        quality.rejections += 1;
        quality.rejected += 1;
        let times = quality.rejections;
        if times > most {
            let last = cap(feedback.trim(), LAST_WORDS);
            let times = if times == 1 { "once".to_owned() } else { format!("{times} times") };
            let message = format!("step `{id}`: the guard `{name}` rejected it {times}; its last words: {last}");
            return self.fail(index, Ending::Failed, message);
        }
        self.go_on(index, "", false, false);
    }

    /// The guard is content: the step's work is done, and its tree is known already.
    fn accepted(&mut self, index: usize, conclusion: Conclusion, seen: Option<(TreeId, Vec<FileChange>)>) {
        let Some((tree, files)) = seen else { return self.conclude(index, conclusion) };
        if self.plan_step(index).is_some_and(|step| !step.own_copy) {
            self.main_tree = Some(tree.clone());
        }
        let step = &mut self.steps[index];
        step.text = conclusion.text;
        step.output = conclusion.output;
        step.files = files;
        step.after = Some(tree);
        self.check_gates(index);
    }
}
