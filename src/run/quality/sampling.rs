//! `action_sampling`: several answers to the same request, of which one becomes the turn.

use super::{Ask, Lost};
use crate::model::chat::{Answer, StopReason};
use crate::model::journal::Purpose;
use crate::model::quality::ChooseBy;
use crate::run::state::{Phase, State};
use std::collections::VecDeque;

/// One answer on its way.
#[derive(Debug, Clone)]
pub(super) enum Sample {
    /// Being composed, or waiting for money.
    Pending,
    /// The model is being asked.
    Out,
    /// Here.
    Here(Box<Answer>),
    /// There will be none.
    Gone,
}

/// How sampling went, for the account.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    turns: u32,
    alike: u32,
    left_out: u32,
}

impl Tally {
    pub(super) fn told(self) -> Vec<String> {
        if self.turns == 0 {
            return Vec::new();
        }
        let turns = if self.turns == 1 { "1 turn".to_owned() } else { format!("{} turns", self.turns) };
        let mut line = format!("sampled {turns}: {} without a judge", self.alike);
        if self.left_out > 0 {
            line.push_str(&format!(", {} answers not had", self.left_out));
        }
        vec![line]
    }
}

/// A comparison of candidates, two at a time.
#[derive(Debug, Clone)]
pub(in crate::run) struct Contest {
    /// Two for a win, one each for a tie.
    points: Vec<u32>,
    /// Comparisons to come. Each pair is shown in both orders: who judges favours a place.
    to_come: VecDeque<(usize, usize)>,
}

impl Contest {
    fn new(candidates: usize) -> Self {
        let pairs = (0..candidates).flat_map(|first| (first + 1..candidates).map(move |second| (first, second)));
        Self {
            points: vec![0; candidates],
            to_come: pairs.flat_map(|(first, second)| [(first, second), (second, first)]).collect(),
        }
    }

    fn give(&mut self, to: usize, points: u32) {
        if let Some(has) = self.points.get_mut(to) {
            *has += points;
        }
    }

    /// Who leads; of equals the earlier.
    fn leader(&self) -> usize {
        let most = self.points.iter().max().copied().unwrap_or_default();
        self.points.iter().position(|points| *points == most).unwrap_or(0)
    }

    /// Whether nobody can overtake the leader any more.
    fn is_over(&self) -> bool {
        let leader = self.leader();
        let has = self.points.get(leader).copied().unwrap_or_default();
        self.points.iter().enumerate().filter(|(at, _)| *at != leader).all(|(at, points)| {
            let rest = self.to_come.iter().filter(|(first, second)| *first == at || *second == at).count() as u32;
            let could = points + 2 * rest;
            could < has || (could == has && leader < at)
        })
    }
}

impl State {
    /// Asks for the samples of the next turn. False where the step takes none.
    pub(in crate::run) fn start_samples(&mut self, index: usize) -> bool {
        let Some(sampling) = self.quality(index).and_then(|quality| quality.action_sampling.as_ref()) else {
            return false;
        };
        let n = sampling.n.max(1);
        let step = &mut self.steps[index];
        step.phase = Phase::Composing;
        step.quality.samples = (0..n).map(|_| Sample::Pending).collect();
        step.quality.candidates.clear();
        for at in 0..n {
            self.compose_for(index, Purpose::Sample(at));
        }
        true
    }

    /// A sample's call was cut: it is made again.
    pub(super) fn sample_again(&mut self, index: usize, at: u32) {
        self.set_sample(index, at, Sample::Pending);
        self.compose_for(index, Purpose::Sample(at));
    }

    /// The money is there: the sample's call goes out.
    pub(in crate::run) fn sample_sent(&mut self, index: usize, purpose: &Purpose) {
        if let Purpose::Sample(at) = purpose {
            self.set_sample(index, *at, Sample::Out);
        }
    }

    /// The money is not there yet. True: the sample is left out, because another one is there to go on with.
    pub(in crate::run) fn sample_left_out(&mut self, index: usize, purpose: &Purpose) -> bool {
        let Purpose::Sample(at) = purpose else { return false };
        let sure = |sample: &Sample| matches!(sample, Sample::Out | Sample::Here(_));
        self.steps[index].quality.samples.iter().any(sure)
            && self.sample_lost(index, *at, "the budget does not allow it now")
    }

    /// A sample cannot be had. False where it was the last hope: then the step must go on some other way.
    pub(super) fn sample_lost(&mut self, index: usize, at: u32, why: &str) -> bool {
        self.set_sample(index, at, Sample::Gone);
        let quality = &mut self.steps[index].quality;
        if quality.samples.iter().all(|sample| matches!(sample, Sample::Gone)) {
            return false;
        }
        quality.tally.left_out += 1;
        let n = quality.samples.len();
        let id = self.plan_step(index).map(|step| step.id.to_string()).unwrap_or_default();
        let note = format!("step `{id}`: answer {} of {n} is left out: {why}", at + 1);
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
        self.all_sampled(index);
        true
    }

    pub(super) fn sampled(&mut self, index: usize, at: u32, answer: Answer) {
        self.set_sample(index, at, Sample::Here(Box::new(answer)));
        self.all_sampled(index);
    }

    fn set_sample(&mut self, index: usize, at: u32, now: Sample) {
        if let Some(sample) = self.steps[index].quality.samples.get_mut(at as usize) {
            *sample = now;
        }
    }

    /// Once nothing is on its way: one answer, or a judge.
    fn all_sampled(&mut self, index: usize) {
        let quality = &mut self.steps[index].quality;
        if quality.samples.iter().any(|sample| matches!(sample, Sample::Pending | Sample::Out)) {
            return;
        }
        let answers: Vec<Answer> = std::mem::take(&mut quality.samples)
            .into_iter()
            .filter_map(|sample| match sample {
                Sample::Here(answer) => Some(*answer),
                _ => None,
            })
            .collect();
        quality.tally.turns += 1;
        // The next turn is another question.
        self.steps[index].tried.retain(|(of, _)| !matches!(of, Purpose::Sample(_)));
        let quality = &mut self.steps[index].quality;
        // What cannot be carried out is no candidate, as long as there is one that can.
        let sound = answers.iter().any(is_sound);
        let mut candidates: Vec<Answer> = Vec::new();
        for answer in answers.into_iter().filter(|answer| !sound || is_sound(answer)) {
            if !candidates.iter().any(|other| same(other, &answer)) {
                candidates.push(answer);
            }
        }
        let (count, alike) = (candidates.len(), candidates.len() < 2 || !sound);
        quality.candidates = candidates;
        if alike {
            quality.tally.alike += 1;
            let heard = quality.candidates.iter().position(|answer| answer.stop != StopReason::Refusal);
            return self.take_candidate(index, heard.unwrap_or(0));
        }
        let by = self.quality(index).and_then(|quality| quality.action_sampling.as_ref()).map(|it| it.choose);
        match by.unwrap_or_default() {
            ChooseBy::Pairwise => {
                self.steps[index].quality.contest = Some(Contest::new(count));
                self.next_comparison(index);
            }
            ChooseBy::Synthesise => self.ask(index, Ask::Synthesise),
        }
    }

    fn next_comparison(&mut self, index: usize) {
        let Some(contest) = &mut self.steps[index].quality.contest else { return };
        match contest.to_come.front().copied().filter(|_| !contest.is_over()) {
            Some((first, second)) => self.ask(index, Ask::Compare { first, second }),
            None => self.end_contest(index),
        }
    }

    pub(super) fn compared(&mut self, index: usize, first: usize, second: usize, winner: &str) {
        if let Some(contest) = &mut self.steps[index].quality.contest {
            contest.to_come.pop_front();
            match winner {
                "A" => contest.give(first, 2),
                "B" => contest.give(second, 2),
                _ => {
                    contest.give(first, 1);
                    contest.give(second, 1);
                }
            }
        }
        self.next_comparison(index);
    }

    pub(super) fn end_contest(&mut self, index: usize) {
        let leader = self.steps[index].quality.contest.take().map_or(0, |contest| contest.leader());
        self.take_candidate(index, leader);
    }

    /// The judge made an answer of its own.
    pub(super) fn synthesised(&mut self, index: usize, answer: Answer) {
        if !is_sound(&answer) {
            let why = match &answer.conclusion {
                Some(Err(problem)) => problem.clone(),
                _ => "what it says cannot be carried out".to_owned(),
            };
            return self.gave_up(index, Lost::Unreadable(why));
        }
        self.steps[index].quality.asking = None;
        self.steps[index].quality.candidates.clear();
        self.answered(index, answer);
    }

    /// One candidate becomes the turn.
    pub(super) fn take_candidate(&mut self, index: usize, which: usize) {
        let candidates = std::mem::take(&mut self.steps[index].quality.candidates);
        if let Some(answer) = candidates.into_iter().nth(which) {
            self.answered(index, answer);
        }
    }
}

/// Whether an answer can be carried out as it is.
fn is_sound(answer: &Answer) -> bool {
    answer.stop != StopReason::Refusal
        && !matches!(answer.conclusion, Some(Err(_)))
        && answer.calls.iter().all(|call| call.malformed.is_none())
}

/// Whether two answers do the same: the same calls with the same arguments; without calls, the same words.
fn same(one: &Answer, other: &Answer) -> bool {
    let does = |answer: &Answer| -> Vec<(String, String)> {
        answer.calls.iter().map(|call| (call.name.clone(), call.args.to_string())).collect()
    };
    if one.calls.is_empty() && other.calls.is_empty() {
        return one.text.trim() == other.text.trim();
    }
    does(one) == does(other)
}
