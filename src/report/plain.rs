//! A run as plain lines, for CI and wherever there is no terminal.

use super::clean::line;
use super::numbers;
use crate::model::id::EffectKey;
use crate::model::journal::{Input, RowBody, Verdict, Work};
use crate::model::progress::Progress;
use crate::model::tool::ToolStatus;
use std::collections::HashMap;

/// Columns after which untrusted text is cut.
const WIDTH: usize = 160;

/// Folds progress into lines. Untrusted text in them is inert for terminals and CI systems.
#[derive(Debug, Default)]
pub struct Lines {
    verbose: bool,
    /// Outstanding effects: whose they are, and the tool call in short.
    effects: HashMap<EffectKey, (String, String)>,
    /// The attempt last seen of each step.
    begun: HashMap<String, (u32, u32)>,
}

impl Lines {
    /// `verbosity` 1 and more: tool calls too.
    pub fn new(verbosity: i8) -> Self {
        Self { verbose: verbosity > 0, ..Self::default() }
    }

    /// The lines for one observation, without line ends.
    pub fn lines(&mut self, progress: &Progress) -> Vec<String> {
        match progress {
            Progress::Note(note) => vec![format!("note: {}", line(note, WIDTH))],
            Progress::ModelText { .. } | Progress::Output { .. } => Vec::new(),
            Progress::Recorded(row) => match &row.body {
                RowBody::Intent(effect) => {
                    let step = effect.step.as_ref().map(|step| line(step.as_str(), 40)).unwrap_or_default();
                    let call = match &effect.work {
                        Work::CallTool { call } => line(&format!("{} {}", call.name, call.args), WIDTH),
                        _ => String::new(),
                    };
                    let now = (effect.iteration, effect.attempt);
                    let fresh = !step.is_empty() && self.begun.insert(step.clone(), now) != Some(now);
                    self.effects.insert(effect.key.clone(), (step.clone(), call));
                    if fresh { vec![format!("{step}: attempt {} begins", effect.attempt)] } else { Vec::new() }
                }
                RowBody::Input(input) => {
                    let known = input.key().and_then(|key| self.effects.remove(key)).unwrap_or_default();
                    self.fact(input, &known.0, &known.1).into_iter().collect()
                }
            },
        }
    }

    fn fact(&self, input: &Input, step: &str, call: &str) -> Option<String> {
        let step = if step.is_empty() { "run" } else { step };
        Some(match input {
            Input::Started { run, plan, .. } => format!("run {run} of {} begins", line(&plan.workflow, 60)),
            Input::Resumed { .. } => "the run is taken up again".to_owned(),
            Input::Prepared { driver, workspace, .. } => format!("sandbox {driver}, workspace {workspace}"),
            Input::ToolDone { outcome, .. } if outcome.status == ToolStatus::Denied => {
                format!("{step}: denied: {call}")
            }
            Input::ToolDone { .. } if self.verbose => format!("{step}: {call}"),
            Input::CommandDone { outcome, .. } => {
                format!("{step}: {} after {}", outcome.describe(), numbers::duration(outcome.duration_ms))
            }
            Input::GateDone { result, .. } => {
                let mark = if result.verdict == Verdict::Pass { "✓" } else { "✗" };
                format!("{step}: gate {} {mark} {}", line(&result.gate, 40), line(&result.detail, WIDTH))
            }
            Input::Answered { answer, .. } => match &answer.conclusion {
                Some(Ok(end)) => format!("{step}: {}", line(end.text.lines().next().unwrap_or("done"), WIDTH)),
                _ => return None,
            },
            Input::ModelFailed { error, .. } => format!("{step}: model failed: {}", line(&error.message, WIDTH)),
            Input::EffectFailed { message, .. } | Input::NotComposed { message, .. } => {
                format!("{step}: {}", line(message, WIDTH))
            }
            Input::Restored { .. } => format!("{step}: rolled back"),
            Input::DeadlinePassed { .. } => format!("{step}: deadline passed"),
            Input::CancelRequested { reason } => format!("cancelled: {}", line(reason, WIDTH)),
            _ => return None,
        })
    }
}
