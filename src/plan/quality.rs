//! `quality:` → who is asked, by which models, with which words.

use super::compile::Compiler;
use crate::model::chat::ModelRef;
use crate::model::quality::{ActionSampling, BestBy, BestOf, ChooseBy, Debate, Guardrail, Quality, Voice};
use crate::workflow::schema::{QualityDoc, StepDoc, VoiceDoc, codes};

/// Answers for each turn, and attempts, where the document does not say.
const SAMPLES: u32 = 3;
/// US dollars that a new attempt needs where the document does not say.
const MIN_BUDGET: f64 = 0.20;
/// Rejections that go back where the document does not say.
const REJECTIONS: u32 = 2;
/// Rounds of a debate where the document does not say.
const ROUNDS: u32 = 2;
/// The scenario whose models judge where nobody else is named.
const REVIEW: &str = "review";

/// Who is asked, before it is found.
#[derive(Default)]
struct Asked<'a> {
    mode: Option<&'a str>,
    model: Option<&'a str>,
}

impl<'a> Asked<'a> {
    fn of(voice: Option<&'a VoiceDoc>) -> Self {
        voice.map_or_else(Self::default, |voice| Self {
            mode: voice.mode.as_ref().map(|mode| mode.as_str()),
            model: voice.model.as_ref().map(|model| model.as_str()),
        })
    }
}

impl Compiler<'_> {
    /// A step's quality layer: its own settings, else its mode's. `own` are the step's models.
    pub(super) fn quality(
        &mut self,
        id: &str,
        step: &StepDoc,
        mode: Option<&QualityDoc>,
        own: &[ModelRef],
    ) -> Option<Quality> {
        let doc = step.quality.as_ref().or(mode)?.clone();
        if doc.best_of.is_some() && step.attempts.is_some_and(|attempts| attempts > 1) && step.quality.is_none() {
            let at = self.workflow.step_at(id, "attempts");
            let message = "the mode's `best_of` makes its own attempts: the step cannot have `attempts` too";
            self.error(codes::CONTRADICTORY_QUALITY, at, message.to_owned());
            self.help("take `attempts` out, or write `quality: {}` at the step to do without the mode's");
        }
        let action_sampling = doc.action_sampling.as_ref().map(|doc| ActionSampling {
            n: doc.n.unwrap_or(SAMPLES),
            choose: doc.choose,
            temperature: doc.temperature,
            judge: self.voice(
                id,
                &Asked { mode: None, model: doc.judge.as_ref().map(|name| name.as_str()) },
                match doc.choose {
                    ChooseBy::Pairwise => "judge",
                    ChooseBy::Synthesise => "synthesise",
                },
                None,
            ),
        });
        let best_of = doc.best_of.as_ref().map(|doc| BestOf {
            n: doc.n.unwrap_or(SAMPLES),
            by: doc.by,
            reviewer: self.voice(
                id,
                &Asked { mode: doc.reviewer.as_ref().map(|name| name.as_str()), model: None },
                match doc.by {
                    BestBy::Score => "score",
                    BestBy::Choose => "choose",
                },
                None,
            ),
            min_score: doc.min_score,
            min_budget_for_new_attempt: doc.min_budget_for_new_attempt.unwrap_or(MIN_BUDGET),
        });
        let guardrail = doc.guardrail.as_ref().map(|doc| Guardrail {
            guard: self.voice(
                id,
                &Asked {
                    mode: doc.mode.as_ref().map(|name| name.as_str()),
                    model: doc.model.as_ref().map(|name| name.as_str()),
                },
                "guard",
                None,
            ),
            on: doc.on,
            max_rejections: doc.max_rejections.unwrap_or(REJECTIONS),
        });
        let debate = doc.debate.as_ref().map(|doc| Debate {
            rounds: doc.rounds.unwrap_or(ROUNDS),
            pro: self.voice(id, &Asked::of(doc.pro.as_ref()), "debate-pro", Some(own)),
            con: self.voice(id, &Asked::of(doc.con.as_ref()), "debate-con", Some(own)),
            moderator: self.voice(id, &Asked::of(doc.moderator.as_ref()), "debate-moderator", Some(own)),
        });
        let quality = Quality { action_sampling, best_of, guardrail, debate };
        (!quality.is_empty()).then_some(quality)
    }

    /// Finds a voice: a mode brings its prompt and its scenario's models, a model only itself; nobody means `own`, else
    /// the scenario `review`. `part` names the prompt that says what is asked of it.
    fn voice(&mut self, id: &str, asked: &Asked<'_>, part: &str, own: Option<&[ModelRef]>) -> Voice {
        let file = format!("quality-{part}.j2");
        let words = self.library.prompts.get(&file).cloned();
        if words.is_none() {
            let at = self.workflow.step_at(id, "quality");
            self.error(codes::UNKNOWN_PROMPT, at, format!("the prompt `{file}` is missing"));
            self.help(format!("write .codeforge/prompts/{file}"));
        }
        let mode = asked.mode.and_then(|name| self.library.modes.get(name).map(|mode| (name, mode)));
        if let (Some(name), None) = (asked.mode, mode) {
            self.missing_mode(id, name);
        }
        let (name, persona, models) = match (mode, asked.model, own) {
            (Some((name, mode)), ..) => {
                let file = mode.doc.prompt_template.clone().unwrap_or_else(|| format!("{name}.j2"));
                let persona = match &mode.doc.prompt {
                    Some(prompt) => prompt.0.clone(),
                    None => self.library.prompts.get(&file).cloned().unwrap_or_default(),
                };
                let scenario = mode.doc.scenario.as_ref().map_or("default", |name| name.as_str()).to_owned();
                (name, persona, self.models(id, None, &scenario))
            }
            (None, Some(model), _) => (model, String::new(), self.models(id, Some(model), REVIEW)),
            (None, None, Some(own)) => (part, String::new(), own.to_vec()),
            (None, None, None) => (part, String::new(), self.models(id, None, REVIEW)),
        };
        Voice { name: name.to_owned(), persona, part: words.unwrap_or_default(), models }
    }
}
