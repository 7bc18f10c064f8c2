//! A recording by step and attempt: what was asked, called, run and checked, in its order.

use super::Recording;
use crate::model::chat::ModelFault;
use crate::model::exec::ExecOutcome;
use crate::model::id::{StepId, TreeId};
use crate::model::journal::{Effect, GateResult, Input, Purpose, RowBody, Work};
use crate::model::tool::{ToolCall, ToolOutcome};
use std::collections::{BTreeMap, HashMap};

/// What happened.
#[derive(Debug, Default)]
pub(super) struct Story<'r> {
    /// Attempts by step, then by pass and try.
    pub steps: HashMap<&'r StepId, BTreeMap<(u32, u32), Attempt<'r>>>,
    /// Gates on the final tree.
    pub final_gates: Vec<&'r GateResult>,
    /// The difference that was handed over.
    pub patch: Option<&'r str>,
    /// How many files it has.
    pub files: usize,
    /// The last tree that was taken.
    pub tree: Option<&'r TreeId>,
}

/// One attempt of a step.
#[derive(Debug, Default)]
pub(super) struct Attempt<'r> {
    pub calls: Vec<Call<'r>>,
    pub command: Option<&'r ExecOutcome>,
    pub backend: Option<(&'r ExecOutcome, &'r str)>,
    pub gates: BTreeMap<&'r str, &'r GateResult>,
    /// Whether its work was undone.
    pub undone: bool,
    /// Effects that could not be performed, requests that could not be put together.
    pub failures: Vec<&'r str>,
}

/// A model call and what its answer led to.
#[derive(Debug)]
pub(super) struct Call<'r> {
    pub purpose: &'r Purpose,
    /// Which of the step's models.
    pub model: usize,
    pub key: &'r str,
    pub hash: &'r str,
    /// What became of it; `None`: no word came.
    pub result: Option<Heard>,
    pub tools: Vec<(&'r ToolCall, Option<&'r ToolOutcome>)>,
}

/// What a model call came to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Heard {
    Answer,
    Failed,
    /// The recording had no answer for it.
    RanOut,
    /// A crash cut it; it was made again.
    Cut,
}

impl<'r> Story<'r> {
    pub fn of(recording: &'r Recording) -> Self {
        let mut story = Self::default();
        let mut effects: HashMap<&str, &Effect> = HashMap::new();
        for row in &recording.rows {
            match &row.body {
                RowBody::Intent(effect) => {
                    effects.insert(&effect.key.0, effect);
                    story.intent(effect);
                }
                RowBody::Input(input) => {
                    let effect = input.key().and_then(|key| effects.get(key.0.as_str()).copied());
                    story.input(input, effect);
                }
            }
        }
        for attempt in story.steps.values_mut().flat_map(BTreeMap::values_mut) {
            attempt.calls.retain(|call| !matches!(call.result, Some(Heard::Cut)));
        }
        story
    }

    fn attempt(&mut self, effect: &'r Effect) -> Option<&mut Attempt<'r>> {
        let step = effect.step.as_ref()?;
        Some(self.steps.entry(step).or_default().entry((effect.iteration, effect.attempt)).or_default())
    }

    fn intent(&mut self, effect: &'r Effect) {
        let Some(attempt) = self.attempt(effect) else { return };
        match &effect.work {
            Work::CallModel { model, purpose, request_hash, .. } => attempt.calls.push(Call {
                purpose,
                model: *model,
                key: &effect.key.0,
                hash: request_hash,
                result: None,
                tools: Vec::new(),
            }),
            Work::CallTool { call } => {
                if let Some(last) = attempt.calls.last_mut() {
                    last.tools.push((call, None));
                }
            }
            Work::Restore { .. } => attempt.undone = true,
            _ => {}
        }
    }

    fn input(&mut self, input: &'r Input, effect: Option<&'r Effect>) {
        if let Input::DeliveryDone { delivered, .. } = input {
            self.patch = Some(&delivered.changes.diff);
            self.files = delivered.changes.files.len();
        }
        let Some(effect) = effect else { return };
        if let Input::Snapshotted { tree, .. } | Input::Joined { tree, .. } = input {
            self.tree = Some(tree);
        }
        if let (Input::GateDone { result, .. }, None) = (input, &effect.step) {
            self.final_gates.push(result);
        }
        let Some(attempt) = self.attempt(effect) else { return };
        let call = |attempt: &mut Attempt<'r>, heard: Heard| {
            if let Some(call) = attempt.calls.iter_mut().find(|call| call.key == effect.key.0) {
                call.result = Some(heard);
            }
        };
        match input {
            Input::Answered { .. } => call(attempt, Heard::Answer),
            Input::ModelFailed { error, .. } if error.fault == ModelFault::Unmatched => call(attempt, Heard::RanOut),
            Input::ModelFailed { .. } => call(attempt, Heard::Failed),
            Input::OutcomeUnknown { .. } => call(attempt, Heard::Cut),
            Input::ToolDone { outcome, .. } => {
                let Work::CallTool { call } = &effect.work else { return };
                let mut tools = attempt.calls.iter_mut().flat_map(|call| &mut call.tools);
                // Two calls of one answer may be alike: by identity, then by being without an outcome.
                if let Some(slot) = tools.find(|(asked, done)| std::ptr::eq(*asked, call) && done.is_none()) {
                    slot.1 = Some(outcome);
                }
            }
            Input::CommandDone { outcome, .. } => attempt.command = Some(outcome),
            Input::BackendDone { outcome, .. } => attempt.backend = Some((&outcome.exec, &outcome.text)),
            Input::GateDone { result, .. } => {
                attempt.gates.insert(&result.gate, result);
            }
            Input::EffectFailed { message, .. } | Input::NotComposed { message, .. } => attempt.failures.push(message),
            _ => {}
        }
    }
}
