//! What earlier runs learnt reaches a step, and what this one learnt is kept.
//!
//! Scoring is pure; this file reads and writes the pool. What a step is shown is decided at its first request and is
//! in the journal from then on ([`Input::Recalled`]), whatever becomes of the pool.

use super::perform::last_gates;
use super::session::Session;
use crate::agent::{experience, memory};
use crate::model::account::{Ending, StepStatus};
use crate::model::experience::{Experience, ExperienceSpec};
use crate::model::journal::{Effect, Input, Verdict};
use crate::model::plan::StepKind;
use crate::run::State;

impl Session {
    /// Reads the pool, where a step of this run is to learn from it. A pool that cannot be read is said, and does without.
    pub(super) async fn load_pool(&self) {
        if self.pool_spec().is_none() {
            return;
        }
        match self.engine.store.experience().await {
            Ok(pool) => {
                let _ = self.pool.set(pool);
            }
            Err(error) => self.note(&format!("the experience of earlier runs cannot be read: {error}")),
        }
    }

    /// What the step of a `compose` is shown of earlier runs, where that has not been decided yet.
    pub(super) fn recall(&self, state: &State, effect: &Effect) -> Option<Input> {
        let step = effect.step.as_ref()?;
        let index = state.index(step)?;
        let spec = state.agent_spec(index)?;
        let learning = spec.experience.as_ref()?;
        if state.steps.get(index)?.experience.is_some() {
            return None;
        }
        // A prompt that cannot be rendered is the composing's to report.
        let (_, prompt) = self.prompts(state, index, state.plan_step(index)?, spec).ok()?;
        let task = experience::task(&self.plan.inputs, &prompt);
        let pool = self.pool.get().map(Vec::as_slice).unwrap_or_default();
        let entries = memory::recall(pool, &spec.mode, &task, state.now_ms, learning);
        Some(Input::Recalled { step: step.clone(), entries })
    }

    /// After a run that ended well, with every gate passed and at least one: its agents' steps go into the pool. A pool that
    /// cannot be written is said; the run has ended as it has.
    pub(super) async fn remember(&self, state: &State) {
        let Some(spec) = self.pool_spec() else { return };
        let gates = last_gates(state);
        let passed = !gates.is_empty() && gates.iter().all(|gate| gate.verdict == Verdict::Pass);
        if state.ending != Some(Ending::Done) || !passed {
            return;
        }
        if let Err(error) = self.write_pool(state, spec).await {
            self.note(&format!("what this run learnt could not be kept: {error}"));
        }
    }

    async fn write_pool(&self, state: &State, spec: &ExperienceSpec) -> Result<(), crate::port::store::StoreError> {
        let store = &self.engine.store;
        let rows = store.rows(&self.run).await?;
        let secrets: Vec<&str> = self.engine.secrets.iter().map(String::as_str).collect();
        let mut new: Vec<Experience> = Vec::new();
        for (index, (id, step)) in self.plan.steps.iter().enumerate() {
            let (Some(done), StepKind::Agent(agent)) = (state.steps.get(index), &step.kind) else { continue };
            if agent.experience.is_none() || done.status != StepStatus::Succeeded {
                continue;
            }
            let Ok((_, prompt)) = self.prompts(state, index, step, agent) else { continue };
            let passed = done.gates.iter().filter(|gate| gate.attempt == done.attempt);
            let entry = experience::Done {
                run: &self.run,
                step: id,
                mode: &agent.mode,
                at_ms: state.now_ms,
                task: &experience::task(&self.plan.inputs, &prompt),
                conclusion: &done.text,
                files: done.files.iter().map(|file| file.path.clone()).collect(),
                commands: experience::commands(&rows, id, done.iteration, done.attempt),
                gates: passed.map(|gate| gate.result.gate.clone()).collect(),
                attempts: done.attempt,
            };
            new.push(experience::entry(entry, &secrets));
        }
        if new.is_empty() {
            return Ok(());
        }
        // Read again: other runs may have ended since this one began.
        let pool = store.experience().await?;
        let gone = memory::surplus(&pool, &new, state.now_ms, spec);
        new.retain(|entry| !gone.contains(&entry.id));
        store.remember(&new, &gone).await
    }

    /// How the pool is kept; `None`: no step of this run has to do with it.
    fn pool_spec(&self) -> Option<&ExperienceSpec> {
        self.plan.steps.values().find_map(|step| match &step.kind {
            StepKind::Agent(agent) => agent.experience.as_ref(),
            StepKind::Run { .. } => None,
        })
    }
}
