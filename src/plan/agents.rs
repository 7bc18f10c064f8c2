//! Modes and models → what an agent step needs.

use super::compile::Compiler;
use crate::model::chat::ModelRef;
use crate::model::history::Recommend;
use crate::model::plan::{AgentSpec, OutputSpec};
use crate::model::policy::Limits;
use crate::model::tool::WRITING_TOOLS;
use crate::workflow::schema::library::nearest;
use crate::workflow::schema::{HistoryDoc, ModelDoc, OutputDoc, SchemaChoice, StepDoc, codes, memory, stop, values};
use serde_json::Value;

/// Tokens that fit into a model where the configuration does not say.
pub(super) const CONTEXT_WINDOW: u64 = 128_000;
/// The longest answer where the configuration does not say: less than many models can give, because each call
/// reserves it.
pub(super) const MAX_OUTPUT: u64 = 8_192;

/// The scenario of long requests.
const LONG_CONTEXT: &str = "longContext";
/// Above so many estimated tokens a request is long, where the configuration does not say.
const LONG_CONTEXT_TOKENS: u64 = 60_000;

/// An agent step's kind with what its mode says about limits and time.
pub(super) struct Agent {
    pub(super) spec: AgentSpec,
    pub(super) limits: Limits,
    pub(super) timeout_ms: Option<u64>,
}

impl Compiler<'_> {
    /// The agent of a step; `None` where it cannot be had, with the problems noted.
    pub(super) fn agent(&mut self, id: &str, step: &StepDoc, mode_name: &str) -> Option<Agent> {
        let Some(mode) = self.library.modes.get(mode_name) else {
            self.missing_mode(id, mode_name);
            return None;
        };
        let doc = &mode.doc;
        let file = doc.prompt_template.clone().unwrap_or_else(|| format!("{mode_name}.j2"));
        let system = match &doc.prompt {
            Some(prompt) => prompt.0.clone(),
            None => match self.library.prompts.get(&file) {
                Some(text) => text.clone(),
                None => {
                    let at = self.workflow.step_at(id, "mode");
                    self.error(
                        codes::UNKNOWN_PROMPT,
                        at,
                        format!("mode `{mode_name}` has no prompt: `{file}` is missing"),
                    );
                    self.help(format!("write .codeforge/prompts/{file}"));
                    return None;
                }
            },
        };
        let files_written = |tool: &str| WRITING_TOOLS.contains(&tool) && tool != "shell";
        let offered: Vec<String> = doc.tools.iter().map(|tool| tool.0.clone()).collect();
        let read_only = doc.read_only.unwrap_or_else(|| !offered.iter().any(|tool| files_written(tool)))
            || step.writes == Some(false);
        let mut tools: Vec<String> = match &step.tools {
            Some(asked) => asked.iter().map(|tool| tool.0.clone()).filter(|tool| offered.contains(tool)).collect(),
            None => offered,
        };
        tools.retain(|tool| !(read_only && files_written(tool)));
        if !tools.iter().any(|tool| tool == "finish") {
            tools.push("finish".into());
        }

        let scenario = step.scenario.as_ref().or(doc.scenario.as_ref()).map_or("default", |name| name.0.as_str());
        let backend = super::backends::named(step, Some(doc));
        let models = if self.is_plain(backend) {
            Vec::new()
        } else {
            self.models(id, step.model.as_ref().map(|name| name.0.as_str()), scenario)
        };
        // A step that names its model gets that one, however long its requests are.
        let (scenario, long_context) = match (&step.model, scenario) {
            (Some(_), _) => ("", Vec::new()),
            (None, LONG_CONTEXT) => (scenario, Vec::new()),
            (None, _) if models.is_empty() => (scenario, Vec::new()),
            (None, _) => (scenario, self.long_context(id, &models)),
        };
        let output = step.output.as_ref().or(doc.output.as_ref()).and_then(|output| self.output(id, output));
        let quality = self.quality(id, step, doc.quality.as_ref(), &models);

        let mut limits = Limits {
            max_turns: doc.max_steps,
            max_cost_per_step_usd: doc.max_cost_usd,
            stop: doc.stop.as_ref().and_then(|text| stop::parse(&text.0).ok()),
            ..Limits::default()
        };
        limits.timeout_ms = None;
        let recommend = doc.tools_recommend.as_ref().map(|it| Recommend {
            above: it.above as usize,
            keep: it.keep as usize,
            always: it.always.iter().map(|tool| tool.0.clone()).collect(),
        });
        let spec = AgentSpec {
            mode: mode_name.to_owned(),
            system_template: system,
            prompt: step.prompt.as_ref().map_or_else(|| self.default_prompt(step), |prompt| prompt.0.clone()),
            tools,
            read_only,
            scenario: scenario.to_owned(),
            long_context_tokens: self.library.config.long_context_tokens.unwrap_or(LONG_CONTEXT_TOKENS),
            long_context,
            models,
            output,
            history: step.history.as_ref().unwrap_or(&doc.history).iter().filter_map(HistoryDoc::processor).collect(),
            recommend,
            experience: memory::experience(self.library.config.experience.as_ref(), doc.experience.as_ref()),
            blocked_commands: doc.safety.as_ref().map(|safety| safety.blocked_commands.clone()).unwrap_or_default(),
            quality: quality.map(Box::new),
            ..AgentSpec::default()
        };
        let timeout_ms = doc.timeout.as_ref().and_then(|span| values::duration_ms(&span.0).ok());
        let agent = Agent { spec, limits, timeout_ms };
        match backend {
            Some(backend) => self.with_backend(id, step, backend, agent),
            None => Some(agent),
        }
    }

    pub(super) fn missing_mode(&mut self, id: &str, mode: &str) {
        if self.errors_of(&format!("modes/{mode}.")) {
            return;
        }
        let at = self.workflow.step_at(id, "mode");
        self.error(codes::UNKNOWN_MODE, at, format!("unknown mode `{mode}`"));
        let names: Vec<&str> = self.library.modes.keys().map(String::as_str).collect();
        if let Some(near) = nearest(mode, names.iter().copied()) {
            self.label(format!("did you mean `{near}`?"));
        }
        self.help(format!("modes: {}", names.join(", ")));
    }

    /// What a step without a prompt is asked: the task, and what the steps that it needs have answered.
    fn default_prompt(&self, step: &StepDoc) -> String {
        let mut prompt = String::new();
        if self.workflow.doc.inputs.contains_key("task") {
            prompt.push_str("{{ inputs.task }}\n");
        }
        for need in step.needs.as_slice() {
            let Some(before) = self.steps.get(need) else { continue };
            let mode = before.mode.as_ref().and_then(|mode| self.library.modes.get(&mode.0));
            if before.output.is_some() || mode.is_some_and(|mode| mode.doc.output.is_some()) {
                prompt.push_str(&format!(
                    "\nThe result of step `{need}`:\n{{{{ steps[\"{need}\"].output | tojson }}}}\n"
                ));
            }
        }
        prompt
    }

    fn output(&mut self, id: &str, output: &OutputDoc) -> Option<OutputSpec> {
        match &output.schema {
            SchemaChoice::InPlace(schema) => {
                Some(OutputSpec { name: "inline".into(), schema: Value::Object(schema.clone()) })
            }
            SchemaChoice::Named(name) => match self.library.schemas.get(name) {
                Some(schema) => Some(OutputSpec { name: name.clone(), schema: schema.clone() }),
                None => {
                    let at = self.workflow.step_at(id, "output");
                    self.error(codes::UNKNOWN_SCHEMA, at, format!("no output schema `{name}`"));
                    let names: Vec<&str> = self.library.schemas.keys().map(String::as_str).collect();
                    self.help(format!("write .codeforge/schemas/{name}.json; there are: {}", names.join(", ")));
                    None
                }
            },
        }
    }

    /// The models of long requests, where the configuration has any that are not the step's own.
    fn long_context(&mut self, id: &str, own: &[ModelRef]) -> Vec<ModelRef> {
        let routed = self.library.config.scenarios.get(LONG_CONTEXT);
        if routed.is_none_or(|names| names.as_slice().is_empty()) {
            return Vec::new();
        }
        let models = self.models(id, None, LONG_CONTEXT);
        if models.as_slice() == own { Vec::new() } else { models }
    }

    /// The models of a step: its own, else its scenario's, else the default scenario's, else the environment's, else
    /// all that the configuration has, in its order.
    pub(super) fn models(&mut self, id: &str, named: Option<&str>, scenario: &str) -> Vec<ModelRef> {
        let config = &self.library.config;
        let names: Vec<String> = match named {
            Some(name) => vec![name.to_owned()],
            None => super::models::chain(config, scenario),
        };
        let from_environment = &self.request.models;
        let mut models = Vec::new();
        for name in &names {
            let own = config.models.get(name).map(|model| model_ref(name, model));
            match own.or_else(|| from_environment.iter().find(|model| model.name == *name).cloned()) {
                Some(model) => models.push(model),
                None => {
                    let at = self.workflow.step_at(id, "model");
                    self.problems.push(self.workflow.document.error(
                        codes::UNKNOWN_MODEL,
                        at,
                        format!("no model `{name}` in .codeforge/config.yml"),
                    ));
                }
            }
        }
        if names.is_empty() {
            models = match from_environment.is_empty() {
                false => from_environment.clone(),
                true => config.models.iter().map(|(name, model)| model_ref(name, model)).collect(),
            };
        }
        for model in &mut models {
            let doc = config.models.get(&model.name).filter(|doc| doc.model == model.model);
            super::models::complete(model, doc, &self.library.pricing);
        }
        if models.is_empty() && !self.no_model_said {
            self.no_model_said = true;
            let at = self.workflow.step_at(id, "mode");
            self.error(codes::NO_MODEL, at, "no model is configured".to_owned());
            self.help(
                "name one in .codeforge/config.yml:\n  models:\n    main: { provider: openai, model: NAME, api_key: \
                 env://OPENAI_API_KEY }\n  scenarios: { default: [main] }\nor set OPENAI_API_KEY, or LLM_BASE_URL with \
                 LLM_API_KEY, in the environment",
            );
        }
        models
    }
}

/// A configured model with its defaults.
pub(super) fn model_ref(name: &str, model: &ModelDoc) -> ModelRef {
    ModelRef {
        name: name.to_owned(),
        provider: model.provider.as_str().to_owned(),
        model: model.model.clone(),
        base_url: super::address::address(model),
        api_key: model.api_key.as_ref().map(|key| key.0.clone()),
        price: model.price,
        context_window: model.context_window.unwrap_or(CONTEXT_WINDOW),
        max_output: model.max_output.unwrap_or(MAX_OUTPUT),
        tools: model.tools.unwrap_or(true),
        tags: model.tags.clone(),
        reasoning: model.reasoning.map(|effort| effort.as_str().to_owned()),
    }
}
