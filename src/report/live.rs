//! A run on a terminal while it happens: a line for each step at work.

use super::{line, numbers, plain};
use crate::model::account::StepStatus;
use crate::model::journal::{Input, RowBody, Verdict, Work};
use crate::model::progress::Progress;
use crate::model::usage::NanoUsd;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::HashMap;
use std::time::Duration;

/// The live view.
pub struct View {
    all: MultiProgress,
    bars: HashMap<String, ProgressBar>,
    keys: HashMap<String, String>,
    /// The bars that show gates' output, by effect.
    gates: HashMap<String, String>,
    modes: HashMap<String, String>,
    cost: HashMap<String, (NanoUsd, u64)>,
}

impl View {
    /// Draws to standard error.
    pub fn new() -> Self {
        Self {
            all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()),
            bars: HashMap::new(),
            keys: HashMap::new(),
            gates: HashMap::new(),
            modes: HashMap::new(),
            cost: HashMap::new(),
        }
    }

    /// Takes an observation in.
    pub fn saw(&mut self, progress: &Progress) {
        match progress {
            Progress::Note(note) => {
                let _ = self.all.println(format!("  {}", line(note, 200)));
            }
            Progress::StepEnded { step, status, duration_ms } => {
                self.done(step.as_str());
                let sign = match status {
                    StepStatus::Succeeded => "✓",
                    StepStatus::Failed => "✗",
                    _ => return,
                };
                let _ = self.all.println(format!("  {sign} {step}  {}", numbers::span(*duration_ms)));
            }
            Progress::ModelText { step, text } | Progress::Output { step, text } => {
                if let Some(last) = text.lines().rev().find(|text| !text.trim().is_empty()) {
                    self.act(step.as_str(), &line(last, 70));
                }
            }
            Progress::Recorded(row) => match &row.body {
                RowBody::Intent(effect) => {
                    let step = effect.step.as_ref().map_or("run", |step| step.as_str()).to_owned();
                    self.keys.insert(effect.key.0.clone(), step.clone());
                    let action = match &effect.work {
                        Work::CallModel { purpose, .. } if !purpose.is_turn() => purpose.word().to_owned(),
                        Work::CallModel { .. } => "thinking".to_owned(),
                        Work::CallTool { call } => plain::short(call),
                        Work::RunCommand => "command".to_owned(),
                        Work::RunBackend => "at work".to_owned(),
                        Work::CheckGate { gate, .. } => format!("gate {}", line(gate, 40)),
                        Work::Restore { .. } => "rolling back".to_owned(),
                        Work::Prepare => "preparing workspace and sandbox".to_owned(),
                        Work::Deliver { .. } => "delivering".to_owned(),
                        Work::Join { .. } => "merging".to_owned(),
                        Work::Compose { .. } | Work::Snapshot { .. } | Work::Fork { .. } => return,
                    };
                    if let Work::CheckGate { gate, .. } = &effect.work {
                        self.gates.insert(effect.key.0.clone(), format!("gate {gate}"));
                    }
                    self.act(&step, &action);
                }
                RowBody::Input(input) => self.input(input),
            },
        }
    }

    fn input(&mut self, input: &Input) {
        if let Input::Started { run, plan, .. } = input {
            for step in plan.steps.values() {
                let mode = match &step.kind {
                    crate::model::plan::StepKind::Agent(spec) => spec.mode.clone(),
                    crate::model::plan::StepKind::Run { .. } => "run".to_owned(),
                };
                self.modes.insert(step.id.to_string(), mode);
            }
            let _ = self.all.println(format!("  {} · run {run}", line(&plan.workflow, 60)));
            return;
        }
        let Some(step) = input.key().and_then(|key| self.keys.get(&key.0)).cloned() else { return };
        match input {
            Input::Answered { bill, .. } => {
                let sum = self.cost.entry(step).or_default();
                sum.0 = sum.0.plus(bill.cost.unwrap_or_default());
                sum.1 += bill.usage.unwrap_or_default().total();
            }
            Input::GateDone { key, result } => {
                if let Some(bar) = self.gates.remove(&key.0) {
                    self.done(&bar);
                }
                let sign = if result.verdict == Verdict::Pass { "✓" } else { "✗" };
                let (gate, detail) = (line(&result.gate, 40), line(&result.detail, 60));
                let _ = self.all.println(format!("  {sign} {step}: gate {gate}  {detail}"));
                self.act(&step, "…");
            }
            Input::Prepared { .. } | Input::DeliveryDone { .. } => self.done(&step),
            _ => {}
        }
    }

    fn act(&mut self, step: &str, action: &str) {
        let label = match (self.modes.get(step), self.cost.get(step)) {
            (Some(mode), Some((cost, tokens))) => {
                format!("{step} {mode}  {cost} · {} tokens", numbers::grouped(*tokens))
            }
            (Some(mode), None) => format!("{step} {mode}"),
            _ => step.to_owned(),
        };
        let all = &self.all;
        let bar = self.bars.entry(step.to_owned()).or_insert_with(|| {
            let bar = all.add(ProgressBar::new_spinner());
            // The template is ours and constant; a spinner without a style still spins.
            if let Ok(style) =
                ProgressStyle::with_template("  {spinner:.cyan} {prefix}  {elapsed:.dim}  {wide_msg:.dim}")
            {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        bar.set_prefix(label);
        bar.set_message(action.to_owned());
    }

    fn done(&mut self, step: &str) {
        if let Some(bar) = self.bars.remove(step) {
            bar.finish_and_clear();
        }
    }

    /// Takes the view off the terminal: the account follows.
    pub fn finish(&mut self) {
        for (_, bar) in self.bars.drain() {
            bar.finish_and_clear();
        }
        let _ = self.all.clear();
    }
}

impl Default for View {
    fn default() -> Self {
        Self::new()
    }
}
