//! A run as plain lines, for CI and other places that are no terminal. A fold over progress: pure.

use super::{line, numbers};
use crate::model::account::StepStatus;
use crate::model::journal::{Input, RowBody, Verdict, Work};
use crate::model::progress::Progress;
use crate::model::tool::{ToolCall, ToolStatus};
use crate::model::usage::NanoUsd;
use std::collections::HashMap;

/// The fold.
#[derive(Debug, Default)]
pub struct Lines {
    /// 0: steps, gates, denials. 1: tool calls too. 2: model text and command output too.
    verbosity: i8,
    steps: HashMap<String, String>,
    /// What calls are for that are no plain turns, by effect.
    purposes: HashMap<String, &'static str>,
    calls: HashMap<String, (String, ToolCall)>,
    /// For each step, why its last call went where it went, without numbers.
    whys: HashMap<String, String>,
    spent: NanoUsd,
}

impl Lines {
    /// With so much detail.
    pub fn new(verbosity: i8) -> Self {
        Self { verbosity, ..Self::default() }
    }

    /// The lines that an observation adds.
    pub fn lines(&mut self, progress: &Progress) -> Vec<String> {
        match progress {
            Progress::Note(note) => vec![format!("note: {}", line(note, 300))],
            Progress::ModelText { step, text } | Progress::Output { step, text } if self.verbosity >= 2 => text
                .lines()
                .filter(|text| !text.trim().is_empty())
                .map(|text| format!("  {step} | {}", line(text, 300)))
                .collect(),
            Progress::ModelText { .. } | Progress::Output { .. } => Vec::new(),
            Progress::StepEnded { step, status, duration_ms } => match status {
                StepStatus::Succeeded => vec![format!("{step}: done in {}", numbers::span(*duration_ms))],
                StepStatus::Failed => vec![format!("{step}: failed after {}", numbers::span(*duration_ms))],
                _ => Vec::new(),
            },
            Progress::Recorded(row) => match &row.body {
                RowBody::Input(input) => self.input(input),
                RowBody::Intent(effect) => self.intent(effect),
            },
        }
    }

    fn intent(&mut self, effect: &crate::model::journal::Effect) -> Vec<String> {
        let step = effect.step.as_ref().map_or_else(|| "run".to_owned(), ToString::to_string);
        self.steps.insert(effect.key.0.clone(), step.clone());
        match &effect.work {
            Work::CallModel { purpose, .. } if !purpose.is_turn() => {
                self.purposes.insert(effect.key.0.clone(), purpose.word());
                Vec::new()
            }
            Work::CallTool { call } => {
                self.calls.insert(effect.key.0.clone(), (step, call.clone()));
                Vec::new()
            }
            // What is not the scenario's first choice is told once, not at every turn.
            Work::CallModel { why, .. } if why.contains("; ") || why.starts_with("long context") => {
                let kind: String = why.chars().filter(|letter| !letter.is_ascii_digit()).collect();
                let known = self.whys.insert(step.clone(), kind.clone()) == Some(kind);
                if known { Vec::new() } else { vec![format!("{step}: {}", line(why, 300))] }
            }
            Work::RunCommand => vec![format!("{step}: command begins")],
            Work::CheckGate { gate, .. } => vec![format!("{step}: gate {} begins", line(gate, 60))],
            Work::Restore { .. } => vec![format!("{step}: rolling back (attempt {})", effect.attempt)],
            Work::Prepare => vec!["preparing workspace and sandbox".to_owned()],
            Work::Deliver { .. } => vec!["delivering".to_owned()],
            _ => Vec::new(),
        }
    }

    fn input(&mut self, input: &Input) -> Vec<String> {
        let step = input.key().and_then(|key| self.steps.get(&key.0)).cloned().unwrap_or_default();
        match input {
            Input::Started { run, plan, base, .. } => {
                let commit: String = base.commit.as_deref().unwrap_or("no commit").chars().take(7).collect();
                vec![format!(
                    "{} · run {run} · base {commit} · policy {}",
                    line(&plan.workflow, 60),
                    line(&plan.policy.name, 60)
                )]
            }
            Input::Resumed { .. } => vec!["resumed".to_owned()],
            Input::Recalled { step, entries } if !entries.is_empty() => {
                let of: Vec<&str> = entries.iter().map(|it| it.experience.id.as_str()).collect();
                vec![format!("{step}: shown the experience of {}", line(&of.join(", "), 200))]
            }
            Input::Prepared { driver, workspace, notes, .. } => {
                let mut lines = vec![format!("sandbox {driver}, workspace {workspace}")];
                lines.extend(notes.iter().map(|note| format!("note: {}", line(note, 300))));
                lines
            }
            Input::Answered { key, answer, bill, .. } => {
                let who = self.purposes.remove(&key.0).unwrap_or("model");
                self.spent = self.spent.plus(bill.cost.unwrap_or_default());
                if self.verbosity < 1 {
                    return Vec::new();
                }
                let usage = bill.usage.unwrap_or_default();
                let said = if answer.text.trim().is_empty() {
                    String::new()
                } else {
                    format!(": {}", line(&answer.text, 160))
                };
                vec![format!(
                    "{step}: {who} answered ({} in, {} out, {} so far){said}",
                    numbers::grouped(usage.input),
                    numbers::grouped(usage.output),
                    self.spent
                )]
            }
            Input::ModelFailed { error, .. } => vec![format!("{step}: {}", line(&error.message, 400))],
            Input::OutcomeUnknown { .. } => {
                vec![format!("{step}: a model call was cut by a crash; it is charged in full and made again")]
            }
            Input::ToolDone { key, outcome } => {
                let call = self.calls.remove(&key.0).map(|(_, call)| short(&call)).unwrap_or_default();
                match (&outcome.ruling, outcome.status) {
                    (Some(ruling), ToolStatus::Denied) => vec![format!(
                        "{step}: denied {} ({} {})",
                        line(&call, 120),
                        line(&ruling.by.place(), 80),
                        line(&ruling.reason, 80)
                    )],
                    _ if self.verbosity >= 1 => {
                        let how = match outcome.status {
                            ToolStatus::Ok => outcome
                                .exit_code
                                .filter(|code| *code != 0)
                                .map_or_else(String::new, |code| format!(" → exit code {code}")),
                            ToolStatus::Error => " → error".into(),
                            ToolStatus::TimedOut => " → timed out".into(),
                            ToolStatus::Killed => " → killed by a limit".into(),
                            ToolStatus::Denied => " → denied".into(),
                        };
                        vec![format!("{step}: {}{how} ({})", line(&call, 120), numbers::span(outcome.duration_ms))]
                    }
                    _ => Vec::new(),
                }
            }
            Input::CommandDone { outcome, .. } => {
                vec![format!("{step}: {} ({})", outcome.describe(), numbers::span(outcome.duration_ms))]
            }
            Input::BackendDone { outcome, .. } => {
                let how = format!("{} ({})", outcome.exec.describe(), numbers::span(outcome.exec.duration_ms));
                let denied = outcome.denied.iter().map(|(path, ruling)| {
                    format!("{step}: denied the change of {} ({})", line(path, 120), line(&ruling.reason, 80))
                });
                [format!("{step}: {how}")].into_iter().chain(denied).collect()
            }
            Input::GateDone { result, .. } => {
                let word = match result.verdict {
                    Verdict::Pass => "passed",
                    Verdict::Fail => "did not pass",
                    Verdict::Error => "could not be run",
                };
                let mut lines = vec![format!(
                    "{step}: gate {} {word} ({}, {})",
                    line(&result.gate, 60),
                    line(&result.detail, 80),
                    numbers::span(result.duration_ms)
                )];
                if result.verdict != Verdict::Pass {
                    let all: Vec<&str> = result.output.lines().filter(|line| !line.trim().is_empty()).collect();
                    let from = all.len().saturating_sub(10);
                    lines.extend(all.iter().skip(from).map(|text| format!("  | {}", line(text, 200))));
                }
                lines
            }
            Input::Snapshotted { files, .. } if !files.is_empty() => {
                vec![format!("{step}: changed {}", numbers::files(files))]
            }
            Input::Joined { conflicts, .. } if !conflicts.is_empty() => {
                vec![format!("{step}: could not merge {}", line(&conflicts.join(", "), 200))]
            }
            Input::NotComposed { message, .. } | Input::EffectFailed { message, .. } => {
                vec![format!("{step}: {}", line(message, 600))]
            }
            Input::DeadlinePassed { step } => {
                vec![format!("{}: time is up", step.as_ref().map_or("run", |step| step.as_str()))]
            }
            Input::CancelRequested { reason } => vec![format!("cancelled: {}", line(reason, 200))],
            _ => Vec::new(),
        }
    }
}

/// A call in a line: its tool and its most telling argument.
pub(super) fn short(call: &ToolCall) -> String {
    let told = ["command", "path", "pattern", "summary"]
        .iter()
        .find_map(|name| call.args.get(name).and_then(serde_json::Value::as_str));
    match told {
        Some(told) => format!("{} {}", call.name, line(told, 100)),
        None => call.name.clone(),
    }
}
