//! A plan before it is run: what would happen, under which limits. Nothing of it has been spent.

use super::{line, numbers};
use crate::model::plan::{Plan, StepKind};
use crate::model::quality::Quality;
use serde::Serialize;
use std::fmt::Write;

/// The plan for people, or whole as JSON.
pub fn render(plan: &Plan, json: bool) -> String {
    if json {
        return serde_json::to_string_pretty(plan).map_or_else(|_| "{}\n".to_owned(), |text| text + "\n");
    }
    let mut out = format!("  {} ({})\n", line(&plan.workflow, 60), line(&plan.file, 80));
    for (name, value) in &plan.inputs {
        let _ = writeln!(out, "  input {name}: {}", line(&value.to_string(), 80));
    }
    out.push('\n');
    for step in plan.steps.values() {
        let what = match &step.kind {
            StepKind::Agent(spec) => {
                let models: Vec<&str> = spec.models.iter().map(|model| model.name.as_str()).collect();
                let models = models.join(", else ");
                match &spec.backend {
                    Some(backend) if spec.is_plain() => {
                        format!("{} `{}`", spec.mode, line(&backend.argv.join(" "), 50))
                    }
                    Some(backend) => format!("{} by {} with {models}", spec.mode, backend.name),
                    None => format!("{} with {models}", spec.mode),
                }
            }
            StepKind::Run { command } => format!("run `{}`", line(command, 50)),
        };
        let _ = write!(out, "  {:<16} {what}", step.id.as_str());
        if !step.needs.is_empty() {
            let needs: Vec<&str> = step.needs.iter().map(|need| need.as_str()).collect();
            let _ = write!(out, " · after {}", needs.join(", "));
        }
        if !step.gates.is_empty() {
            let _ = write!(out, " · gates {}", step.gates.join(", "));
        }
        if step.attempts > 1 {
            let _ = write!(out, " · {} attempts", step.attempts);
        }
        if let StepKind::Agent(spec) = &step.kind
            && let Some(quality) = &spec.quality
        {
            let _ = write!(out, " · {}", quality_words(quality));
        }
        if let Some(condition) = &step.condition {
            let _ = write!(out, " · if {}", line(condition, 60));
        }
        if let Some(turns) = step.limits.max_turns.filter(|_| matches!(step.kind, StepKind::Agent(_))) {
            let _ = write!(out, " · {turns} turns");
        }
        out.push('\n');
    }
    out.push('\n');
    for gate in plan.gates.values() {
        let _ = writeln!(out, "  gate {:<11} `{}`", gate.name, line(&gate.command, 80));
    }
    let limits = &plan.limits;
    let mut held = Vec::new();
    held.extend(limits.max_cost_usd.map(|usd| format!("${usd:.2}")));
    held.extend(limits.max_tokens.map(|tokens| format!("{} tokens", numbers::grouped(tokens))));
    held.extend(limits.timeout_ms.map(numbers::span));
    held.extend(limits.max_file_changes.map(|files| format!("{files} changed files")));
    let _ = writeln!(out, "  at most     {}", if held.is_empty() { "no limit".to_owned() } else { held.join(" · ") });
    let _ = writeln!(out, "  policy      {}", plan.policy.name);
    let image = plan.sandbox.image.as_ref().map(|image| format!(", image {}", line(image, 60))).unwrap_or_default();
    let _ = writeln!(out, "  sandbox     {}, {}{image}", word(&plan.sandbox.driver), word(&plan.sandbox.exec_mode));
    let _ = writeln!(out, "  delivers    {}, when {}", word(&plan.deliver.kind), word(&plan.deliver.when));
    out
}

/// A choice as the workflow language writes it.
fn word(choice: &impl Serialize) -> String {
    serde_json::to_value(choice).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// What is done for a better answer, in a few words.
fn quality_words(quality: &Quality) -> String {
    let mut words = Vec::new();
    words.extend(quality.debate.as_ref().map(|it| format!("debate of {} rounds", it.rounds)));
    words.extend(quality.action_sampling.as_ref().map(|it| format!("{} samples a turn", it.n)));
    words.extend(quality.guardrail.as_ref().map(|it| format!("guard {}", it.guard.name)));
    words.extend(quality.best_of.as_ref().map(|it| format!("best of {}", it.n)));
    words.join(" · ")
}
