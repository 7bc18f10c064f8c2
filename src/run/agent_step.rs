//! An agent's turns: request, answer, tool calls, conclusion.

use super::stall;
use super::state::{OpenTurn, Phase, State};
use crate::model::account::Ending;
use crate::model::chat::{Answer, Conclusion, StopReason, Turn};
use crate::model::journal::{Effect, Purpose, Work};
use crate::model::plan::{AgentSpec, StepKind};
use crate::model::tool::{ToolOutcome, ToolStatus, WRITING_TOOLS};

/// How often an answer that is not acceptable is sent back.
const REPAIRS: u32 = 2;

impl State {
    /// The step's agent, where it has one.
    pub fn agent_spec(&self, index: usize) -> Option<&AgentSpec> {
        match &self.plan_step(index)?.kind {
            StepKind::Agent(spec) => Some(spec),
            StepKind::Run { .. } => None,
        }
    }

    /// Asks for the next request.
    pub(super) fn compose(&mut self, index: usize) {
        if self.start_samples(index) {
            return;
        }
        self.steps[index].phase = Phase::Composing;
        self.compose_for(index, Purpose::Turn);
    }

    /// The model answered: carry out its calls.
    pub(super) fn answered(&mut self, index: usize, answer: Answer) {
        if answer.stop == StopReason::Refusal {
            let said: String = answer.text.trim().chars().take(200).collect();
            let words = if said.is_empty() { "without a word".to_owned() } else { format!("and said: {said}") };
            return self.fail(
                index,
                Ending::Failed,
                format!("the model refused {words}; word the task differently, or choose another model"),
            );
        }
        if !self.guard_turn(index, &answer) {
            self.carry_out(index, answer);
        }
    }

    /// Carries out an answer's calls.
    pub(super) fn carry_out(&mut self, index: usize, answer: Answer) {
        let results = answer
            .calls
            .iter()
            .map(|call| match &call.malformed {
                Some(why) => Some(why.clone()),
                None if call.name == "finish" => Some("noted".to_owned()),
                None => None,
            })
            .collect();
        self.steps[index].phase = Phase::Tools;
        self.steps[index].open = Some(OpenTurn { answer, results, next: 0, running: 0 });
        self.start_calls(index);
    }

    /// Starts the next calls: readers side by side, a writer alone.
    fn start_calls(&mut self, index: usize) {
        loop {
            let Some(open) = self.steps[index].open.as_mut() else { return };
            let Some(call) = open.answer.calls.get(open.next).cloned() else {
                if open.running == 0 {
                    self.close_turn(index);
                }
                return;
            };
            if open.results.get(open.next).is_some_and(Option::is_some) {
                open.next += 1;
                continue;
            }
            let writer = WRITING_TOOLS.contains(&call.name.as_str());
            if writer && open.running > 0 {
                return;
            }
            open.next += 1;
            open.running += 1;
            self.emit(index, Work::CallTool { call });
            if writer {
                return;
            }
        }
    }

    /// A call ended.
    pub(super) fn tool_done(&mut self, index: usize, cause: Effect, outcome: ToolOutcome) {
        let Work::CallTool { call } = cause.work else { return };
        let step = &mut self.steps[index];
        if outcome.status == ToolStatus::Denied
            && let Some(ruling) = &outcome.ruling
        {
            step.denials.push((Self::call_in_short(&call), ruling.clone()));
        }
        let Some(open) = step.open.as_mut() else { return };
        let place = open
            .answer
            .calls
            .iter()
            .zip(&open.results)
            .position(|(asked, result)| asked.id == call.id && result.is_none());
        if let Some(slot) = place.and_then(|place| open.results.get_mut(place)) {
            *slot = Some(outcome.content);
        }
        open.running = open.running.saturating_sub(1);
        let waits = open.running > 0
            && open.answer.calls.get(open.next).is_some_and(|next| WRITING_TOOLS.contains(&next.name.as_str()));
        if !waits {
            self.start_calls(index);
        }
    }

    /// All calls of an answer are done: conclude, go on, or stop at a limit.
    fn close_turn(&mut self, index: usize) {
        let Some(open) = self.steps[index].open.take() else { return };
        let stalled = self.note_repeats(index, &open);
        let OpenTurn { answer, results, .. } = open;
        let conclusion = answer.conclusion.clone();
        let text = answer.text.clone();
        let all_denied = !answer.calls.is_empty()
            && self.steps[index].denials.len() >= answer.calls.len()
            && results.iter().flatten().all(|result| result.contains("was not run"));
        let results = answer
            .calls
            .iter()
            .zip(results)
            .map(|(call, result)| (call.id.clone(), result.unwrap_or_default()))
            .collect();
        let mut say = match &conclusion {
            Some(Err(problem)) => Some(problem.clone()),
            _ => None,
        };
        if stalled && !self.steps[index].nudged && say.is_none() {
            say = Some(
                "You have made the same call with the same result several times. Stop, say in one sentence why it \
                 does not get you further, and choose a different way."
                    .to_owned(),
            );
        }
        self.steps[index].turns.push(Turn { answer, results, say });
        match conclusion {
            Some(Ok(conclusion)) => self.concluded(index, conclusion),
            Some(Err(problem)) => {
                self.steps[index].repairs += 1;
                if self.steps[index].repairs > REPAIRS {
                    return self.fail(
                        index,
                        Ending::Failed,
                        format!("the model's answer was not acceptable {} times: {problem}", REPAIRS + 1),
                    );
                }
                self.go_on(index, &text, stalled, all_denied);
            }
            None => self.go_on(index, &text, stalled, all_denied),
        }
    }

    fn concluded(&mut self, index: usize, conclusion: Conclusion) {
        if !self.guard_conclusion(index, &conclusion) {
            self.conclude(index, conclusion);
        }
    }

    /// The agent's work is done.
    pub(super) fn conclude(&mut self, index: usize, conclusion: Conclusion) {
        let step = &mut self.steps[index];
        step.text = conclusion.text;
        step.output = conclusion.output;
        self.work_done(index);
    }

    /// Limits after a turn that did not conclude.
    pub(super) fn go_on(&mut self, index: usize, text: &str, stalled: bool, all_denied: bool) {
        let plan = std::sync::Arc::clone(&self.plan);
        let Some((_, plan)) = plan.steps.get_index(index) else { return };
        let turns = self.steps[index].turns.len() as u32;
        let facts = stall::Facts {
            turns,
            cost_usd: self.spend.cost.usd(),
            text,
            elapsed_ms: (self.now_ms - self.started_ms).max(0) as u64,
            stalled,
        };
        if let Some(held) = plan.limits.stop.as_ref().and_then(|stop| stall::holds(stop, &facts)) {
            if held.starts_with("text_mentions") {
                return self.concluded(index, Conclusion { text: text.to_owned(), output: None });
            }
            let message = format!("step `{}` was stopped by its condition {held}", plan.id);
            return self.fail(index, Ending::Limit, message);
        }
        if stalled && self.steps[index].nudged {
            let message = format!(
                "step `{}` stalled: the same call gave the same result again and again{}",
                plan.id,
                if all_denied { ", and the policy denies it; `codeforge policies test` shows why" } else { "" }
            );
            let ending = if all_denied { Ending::Denied } else { Ending::Limit };
            return self.fail(index, ending, message);
        }
        if stalled {
            self.steps[index].nudged = true;
            self.steps[index].stall.clear();
        }
        if let Some(most) = plan.limits.max_turns
            && turns >= most
        {
            let message = format!(
                "step `{}` used up its {most} turns without finishing; raise `max_steps`, or split the step",
                plan.id
            );
            return self.fail(index, Ending::Limit, message);
        }
        self.compose(index);
    }

    /// Puts the turn's calls into the stall ring; true when one of them has come back too often.
    fn note_repeats(&mut self, index: usize, open: &OpenTurn) -> bool {
        let asked = self.plan_step(index).and_then(|step| step.limits.stall_threshold);
        let threshold = asked.or(self.plan.limits.stall_threshold).unwrap_or(0);
        let ring = &mut self.steps[index].stall;
        let mut stalled = false;
        for (call, result) in open.answer.calls.iter().zip(&open.results) {
            let print = stall::fingerprint(&call.name, &call.args.to_string(), result.as_deref().unwrap_or_default());
            stalled |= stall::repeats(ring, print, threshold);
        }
        stalled
    }
}
