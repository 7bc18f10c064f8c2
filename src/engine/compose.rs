//! Putting a model request together: templates, history, feedback. Pure but for the differences that prompts quote.

use super::session::{Ready, Session, lock};
use crate::agent;
use crate::model::id::TreeId;
use crate::model::journal::{Effect, Input, Purpose, Work};
use crate::model::plan::{AgentSpec, Plan, PlanStep};
use crate::run::State;
use crate::template::{self, Trust};
use crate::text;
use serde_json::{Value, json};

/// Bytes of a step's difference that `steps.X.diff` shows.
const DIFF_SHOWN: usize = 64 * 1024;

impl Session {
    /// Answers a [`Work::Compose`].
    pub(super) fn compose(&self, state: &State, effect: &Effect) -> Input {
        if let Work::Compose { model, purpose: Purpose::Gateway(number) } = effect.work {
            return self.compose_question(state, effect, model, number);
        }
        let key = effect.key.clone();
        match self.request_for(state, effect) {
            Ok((ready, estimated_tokens, prompt)) => {
                let request = &ready.request;
                let input_tokens = agent::upper_bound_tokens(request);
                let max_output = request.model.max_output;
                let cost = request.model.price.map(|price| price.at_most(input_tokens, max_output));
                let request_hash = request.fingerprint();
                if let (Some(step), Work::Compose { purpose, .. }) = (&effect.step, &effect.work) {
                    self.keep_request(step, purpose.clone(), ready);
                }
                Input::Composed { key, input_tokens, estimated_tokens, max_output, cost, request_hash, prompt }
            }
            Err(message) => Input::NotComposed { key, message },
        }
    }

    /// A call whose request is gone, since it waited for money while the engine was started anew, say: it is put
    /// together again.
    pub(super) fn compose_again(&self, state: &State, effect: &Effect) {
        if let (Some(step), Work::CallModel { model, purpose, .. }) = (&effect.step, &effect.work)
            && !matches!(purpose, Purpose::Gateway(_))
            && !self.has_request(step, purpose)
        {
            let work = Work::Compose { model: *model, purpose: purpose.clone() };
            self.compose(state, &Effect { work, ..effect.clone() });
        }
    }

    fn request_for(&self, state: &State, effect: &Effect) -> Result<(Ready, u64, Option<String>), String> {
        let lost = || "an internal error: a request for a step that has no agent; please report it".to_owned();
        let Work::Compose { model, purpose } = &effect.work else { return Err(lost()) };
        let index = effect.step.as_ref().and_then(|step| state.index(step)).ok_or_else(lost)?;
        let (step, spec) = state.plan_step(index).zip(state.agent_spec(index)).ok_or_else(lost)?;
        let progress = state.steps.get(index).ok_or_else(lost)?;
        if !matches!(purpose, Purpose::Turn | Purpose::Sample(_)) {
            return Ok((self.question(state, index, (step, spec), *model)?, 0, None));
        }
        let model = spec.model(*model).ok_or_else(lost)?;
        let (system, prompt) = self.first_words(state, index, step, spec)?;
        let first = progress.turns.is_empty().then(|| prompt.clone());
        // Whether a request is long is a question of the conversation, not of the window that it must fit here.
        let asks = !spec.long_context.is_empty();
        let estimate = if asks { agent::estimate(spec, model, &system, &prompt, &progress.turns) } else { 0 };
        let mut request = agent::compose(spec, model, &system, &prompt, &progress.turns);
        if let (Purpose::Sample(_), Some(quality)) = (purpose, &spec.quality) {
            request.sampling.temperature = quality.action_sampling.as_ref().and_then(|sampling| sampling.temperature);
        }
        Ok((Ready { request, reader: None }, estimate, first))
    }

    /// The system prompt and the first prompt of an agent, with what the attempt before and a debate left.
    pub(super) fn first_words(
        &self,
        state: &State,
        index: usize,
        step: &PlanStep,
        spec: &AgentSpec,
    ) -> Result<(String, String), String> {
        let Some(progress) = state.steps.get(index) else { return self.prompts(state, index, step, spec) };
        // What they are made of stands still from an attempt's first turn to its last.
        let known = (!progress.turns.is_empty()).then(|| lock(&self.prompts).get(&step.id).cloned()).flatten();
        let (system, mut prompt) = match known {
            Some(known) => known,
            None => {
                let made = self.prompts(state, index, step, spec)?;
                lock(&self.prompts).insert(step.id.clone(), made.clone());
                made
            }
        };
        prompt.push_str(&agent::experience::words(progress.experience.as_deref().unwrap_or_default()));
        if let Some(debated) = &progress.quality.debated {
            prompt.push_str("\n\n");
            prompt.push_str(&agent::quality::debated(debated));
        }
        if let Some(feedback) = &progress.feedback {
            prompt.push_str("\n\n");
            prompt.push_str(&agent::words::retry(progress.attempt, &feedback.gates, &feedback.discarded));
        }
        Ok((system, prompt))
    }

    pub(super) fn prompts(
        &self,
        state: &State,
        index: usize,
        step: &PlanStep,
        spec: &AgentSpec,
    ) -> Result<(String, String), String> {
        let mut context = state.context(index);
        if spec.prompt.contains("diff") || spec.system_template.contains("diff") {
            self.show_differences(&mut context)?;
        }
        let trusted = self.trusted();
        let place = |part: &str| format!("{}: step `{}`, {part}", self.plan.file, step.id);
        let prompt = if spec.prompt.trim().is_empty() { default_prompt(&self.plan) } else { spec.prompt.clone() };
        let prompt = template::prompt("prompt", &prompt, &context, &trusted)
            .map_err(|error| format!("{}: {error}", place("prompt")))?;
        if let Some(values) = context.as_object_mut() {
            values.insert("mode".into(), json!({ "name": spec.mode, "read_only": spec.read_only }));
            values.insert("tools".into(), json!(spec.tools));
            values.insert("policy".into(), json!({ "name": self.plan.policy.name }));
            values.insert("workflow".into(), json!(self.plan.workflow));
            let gates: Vec<Value> = step
                .gates
                .iter()
                .filter_map(|name| self.plan.gates.get(name))
                .map(|gate| json!({ "name": gate.name, "run": gate.command }))
                .collect();
            values.insert("gates".into(), json!(gates));
        }
        let mut all = trusted;
        for path in ["mode", "tools", "policy", "workflow", "gates"] {
            all.add(path);
        }
        let system = template::prompt(&spec.mode, &spec.system_template, &context, &all)
            .map_err(|error| format!("mode `{}`: {error}", spec.mode))?;
        Ok((system, prompt))
    }

    /// What is not fenced: what was typed on the command line, and what the engine itself made.
    fn trusted(&self) -> Trust {
        let mut trusted = Trust::of(["run", "key"]);
        for input in &self.plan.trusted_inputs {
            trusted.add(&format!("inputs.{input}"));
        }
        for step in self.plan.steps.keys() {
            for field in ["verdict", "status", "before", "after"] {
                trusted.add(&format!("steps.{step}.{field}"));
            }
        }
        trusted
    }

    /// Fills in `steps.X.diff`.
    fn show_differences(&self, context: &mut Value) -> Result<(), String> {
        let Some(steps) = context.get_mut("steps").and_then(Value::as_object_mut) else { return Ok(()) };
        for (name, step) in steps {
            let tree = |field: &str| step.get(field).and_then(Value::as_str).map(TreeId::from);
            let (Some(before), Some(after)) = (tree("before"), tree("after")) else { continue };
            let changes = self
                .engine
                .repository
                .diff(&before, &after, DIFF_SHOWN)
                .map_err(|error| format!("the difference that step `{name}` made: {error}"))?;
            if let Some(fields) = step.as_object_mut() {
                fields.insert("diff".into(), Value::String(text::visible(&changes.diff)));
            }
        }
        Ok(())
    }
}

/// A step without a prompt of its own gets the run's task, and what the steps before it made.
fn default_prompt(plan: &Plan) -> String {
    let mut prompt = String::new();
    if plan.inputs.contains_key("task") {
        prompt.push_str("The task:\n{{ inputs.task }}\n");
    } else {
        prompt.push_str("Do your part of the workflow on this repository.\n");
    }
    prompt.push_str(
        "{% for name, step in steps | items %}{% if step.status == 'succeeded' %}\nStep {{ name }} \
         said:\n{{ step.output or step.text }}\n{% endif %}{% endfor %}",
    );
    prompt
}
