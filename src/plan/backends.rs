//! Backends → what a step that another program works on needs.

use super::agents::Agent;
use super::compile::Compiler;
use crate::model::backend::Dialect;
use crate::model::plan::AgentSpec;
use crate::model::policy::Limits;
use crate::workflow::schema::library::nearest;
use crate::workflow::schema::{ModeDoc, StepDoc, codes, values};

/// The agent that is built in.
const NATIVE: &str = "native";

/// The backend of a step: its own, else its mode's; `None` for the agent that is built in.
pub(super) fn named<'a>(step: &'a StepDoc, mode: Option<&'a ModeDoc>) -> Option<&'a str> {
    let name = step.backend.as_ref().or_else(|| mode?.backend.as_ref())?;
    (name.0 != NATIVE).then_some(name.0.as_str())
}

impl Compiler<'_> {
    /// Whether a backend asks for no models.
    pub(super) fn is_plain(&self, name: Option<&str>) -> bool {
        let backend = name.and_then(|name| self.library.backends.get(name));
        backend.is_some_and(|backend| backend.doc.dialect == Dialect::None)
    }

    /// A step without a mode: a plain program, whose changes are judged as an agent's are.
    pub(super) fn program(&mut self, id: &str, step: &StepDoc, name: &str) -> Option<Agent> {
        let mode = name.to_owned();
        let spec = AgentSpec { mode, read_only: step.writes == Some(false), ..AgentSpec::default() };
        let agent = Agent { spec, limits: Limits::default(), timeout_ms: None };
        self.with_backend(id, step, name, agent)
    }

    /// Gives an agent's work to a backend.
    pub(super) fn with_backend(&mut self, id: &str, step: &StepDoc, name: &str, mut agent: Agent) -> Option<Agent> {
        let Some(backend) = self.library.backends.get(name) else {
            if self.errors_of(&format!("backends/{name}.")) {
                return None;
            }
            let at = self.workflow.step_at(id, "backend");
            self.error(codes::UNKNOWN_BACKEND, at, format!("unknown backend `{name}`"));
            let names: Vec<&str> = self.library.backends.keys().map(String::as_str).chain([NATIVE]).collect();
            if let Some(near) = nearest(name, names.iter().copied()) {
                self.label(format!("did you mean `{near}`?"));
            }
            self.help(format!("backends: {}", names.join(", ")));
            return None;
        };
        if agent.spec.output.is_some() {
            let at = self.workflow.step_at(id, "backend");
            let mode = agent.spec.mode.clone();
            self.error(
                codes::NOT_YET,
                at,
                format!("mode `{mode}` answers in a form (`output`), and this version cannot hold a backend to one"),
            );
            self.help("take a mode without `output`, or `backend: native`");
            return None;
        }
        let own = match (&step.command, &step.run) {
            (Some(command), _) => Some(command.clone()),
            (None, Some(text)) => Some(["sh", "-c", text.0.as_str()].map(str::to_owned).to_vec()),
            (None, None) => None,
        };
        let spec = backend.doc.to_spec(own);
        if spec.argv.iter().all(String::is_empty) {
            let at = self.workflow.step_at(id, "backend");
            self.error(codes::MISSING_KEY, at, format!("step `{id}` does not say which command `{name}` runs"));
            self.help("add `command: [ruff, format, .]`, or `run:` for shell text");
            return None;
        }
        let own_timeout = backend.doc.timeout.as_ref().and_then(|span| values::duration_ms(&span.0).ok());
        agent.timeout_ms = [agent.timeout_ms, own_timeout].into_iter().flatten().min();
        agent.spec.tools.clear();
        agent.spec.backend = Some(spec);
        Some(agent)
    }
}
