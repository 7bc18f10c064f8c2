//! Requests to judges, guards and speakers: what they are shown of the state. Pure but for differences.

use super::session::{Ready, Session};
use crate::agent::quality::{self as words, Attempt, Shape};
use crate::model::id::TreeId;
use crate::model::plan::{AgentSpec, PlanStep};
use crate::run::State;
use crate::run::quality::{Ask, Look, Tried};
use crate::text;

impl Session {
    /// The open question of a step as a request to the voice's model number `model`.
    pub(super) fn question(
        &self,
        state: &State,
        index: usize,
        (step, spec): (&PlanStep, &AgentSpec),
        model: usize,
    ) -> Result<Ready, String> {
        let lost = || "an internal error: a question that nobody asked; please report it".to_owned();
        let progress = state.steps.get(index).ok_or_else(lost)?;
        let asking = progress.quality.asking.as_ref().ok_or_else(lost)?;
        let voice = spec.quality.as_deref().and_then(|quality| asking.ask.voice(quality)).ok_or_else(lost)?;
        let model = voice.models.get(model).ok_or_else(lost)?;
        let shape = match asking.ask {
            Ask::Compare { .. } | Ask::Synthesise => Shape::Comparison,
            Ask::Score => Shape::Score,
            Ask::Pick => Shape::Pick,
            Ask::Guard => Shape::Verdict,
            Ask::Speech { .. } => Shape::Speech,
        };
        let reader = words::reader(voice, spec, shape);
        // A voice has no gates to pass.
        let alone = PlanStep { gates: Vec::new(), ..step.clone() };
        let (system, task) = self.prompts(state, index, &alone, &reader)?;
        let quality = &progress.quality;
        let before = progress.before.as_ref();
        let asked = match asking.ask {
            Ask::Compare { first, second } => {
                let candidate = |at: usize| quality.candidates.get(at).ok_or_else(lost);
                words::comparison(&task, &progress.turns, candidate(first)?, candidate(second)?)
            }
            Ask::Synthesise => {
                let (own, prompt) = self.first_words(state, index, step, spec)?;
                let turns = &progress.turns;
                let request = words::synthesis(spec, model, (&own, &prompt), turns, &system, &quality.candidates);
                return Ok(Ready { request, reader: None });
            }
            Ask::Score => {
                let tried = quality.tried.last().ok_or_else(lost)?;
                let diff = self.difference(before, tried.tree.as_ref())?;
                words::scoring(&task, &attempt(tried, diff.as_deref()))
            }
            Ask::Pick => {
                let passed: Vec<&Tried> = quality.tried.iter().filter(|tried| tried.passed).collect();
                let diffs: Vec<Option<String>> = passed
                    .iter()
                    .map(|tried| self.difference(before, tried.tree.as_ref()))
                    .collect::<Result<_, _>>()?;
                let all: Vec<Attempt<'_>> =
                    passed.iter().zip(&diffs).map(|(tried, diff)| attempt(tried, diff.as_deref())).collect();
                words::picking(&task, &all)
            }
            Ask::Guard => match quality.look.as_ref().ok_or_else(lost)? {
                Look::Turn(answer) => words::guarding_turn(&task, &progress.turns, answer),
                Look::Conclusion(conclusion) => {
                    let diff = self.difference(before, quality.seen.as_ref().map(|(tree, _)| tree))?;
                    words::guarding(&task, conclusion, diff.as_deref())
                }
            },
            Ask::Speech { side, round } => words::debating(&task, &quality.speeches, side, round),
        };
        let request = crate::agent::compose(&reader, model, &system, &asked, &asking.turns);
        Ok(Ready { request, reader: Some(reader) })
    }

    fn difference(&self, before: Option<&TreeId>, after: Option<&TreeId>) -> Result<Option<String>, String> {
        let (Some(before), Some(after)) = (before, after) else { return Ok(None) };
        if before == after {
            return Ok(Some(String::new()));
        }
        let changes = self.engine.repository.diff(before, after, words::DIFF_BYTES);
        changes
            .map(|changes| Some(text::visible(&changes.diff)))
            .map_err(|error| format!("the difference to be judged: {error}"))
    }
}

fn attempt<'a>(tried: &'a Tried, diff: Option<&'a str>) -> Attempt<'a> {
    Attempt { number: tried.number, text: &tried.text, output: tried.output.as_ref(), diff, gates: &tried.gates }
}
