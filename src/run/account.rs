//! The readable account of a run.

use super::state::State;
use crate::model::account::{Account, QualityAccount, StepAccount};
use crate::model::plan::StepKind;
use crate::model::quality::Quality;

/// Folds a state into its account.
pub fn account(state: &State) -> Account {
    let steps = state
        .plan
        .steps
        .values()
        .zip(&state.steps)
        .map(|(plan, step)| {
            let mode = match &plan.kind {
                StepKind::Agent(spec) => spec.mode.clone(),
                StepKind::Run { .. } => "run".to_owned(),
            };
            let running = if step.is_running() { (state.now_ms - step.started_ms).max(0) as u64 } else { 0 };
            // A command's output is for its log; an agent's closing words are for people.
            let summary = match &plan.kind {
                StepKind::Agent(_) => {
                    step.text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
                }
                StepKind::Run { .. } => String::new(),
            };
            StepAccount {
                id: plan.id.clone(),
                mode,
                status: step.status,
                attempt: step.attempt,
                attempts: quality_of(&plan.kind)
                    .and_then(|quality| quality.best_of.as_ref())
                    .map_or(plan.attempts, |best| best.n),
                iteration: step.iteration,
                duration_ms: step.duration_ms + running,
                spend: step.spend,
                files: step.files.clone(),
                summary,
                output: step.output.clone(),
                error: step.error.clone(),
                gates: step.gates.iter().map(|gate| (gate.attempt, gate.result.clone(), gate.led_to.clone())).collect(),
                denials: step.denials.clone(),
                needs: plan.needs.clone(),
                quality: QualityAccount {
                    told: quality_of(&plan.kind).map(|quality| step.quality.told(quality)).unwrap_or_default(),
                    spend: step.quality.spent.iter().map(|(purpose, spend)| (purpose.clone(), *spend)).collect(),
                },
            }
        })
        .collect();
    Account {
        run: state.run.clone(),
        workflow: state.plan.workflow.clone(),
        repo: state.base.repo.clone(),
        base: state.base.commit.clone(),
        policy: state.plan.policy.name.clone(),
        driver: state.driver.clone(),
        notes: state.notes.clone(),
        started_ms: state.started_ms,
        ended_ms: state.ending.map(|_| state.now_ms),
        ending: state.ending,
        reason: state.reason.clone(),
        steps,
        spend: state.spend,
        budget_usd: state.budget().map(crate::model::usage::NanoUsd::usd),
        by_model: state.by_model.iter().map(|(name, spend)| (name.clone(), *spend)).collect(),
        final_gates: state.final_gates.clone(),
        delivered: state.delivered.clone(),
    }
}

fn quality_of(kind: &StepKind) -> Option<&Quality> {
    match kind {
        StepKind::Agent(spec) => spec.quality.as_deref(),
        StepKind::Run { .. } => None,
    }
}
