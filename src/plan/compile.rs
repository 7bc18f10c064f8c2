//! A workflow, its library and a request → a plan, or all reasons why there is none.

use super::{event, inputs};
use crate::model::chat::ModelRef;
use crate::model::diagnostic::{Diagnostic, Place, Severity};
use crate::model::exec::{DriverKind, ExecMode};
use crate::model::id::{StepId, short_hash};
use crate::model::plan::{
    Activation, DeliverKind, DeliverSpec, DeliverWhen, ForgeSpec, Gate, Goto, OnFailure, OnGateFail, Plan, PlanStep,
    Resources, ReviewSpec, SandboxSpec, StepKind,
};
use crate::model::policy::{Limits, Policy};
use crate::workflow::schema::dag::Dag;
use crate::workflow::schema::library::nearest;
use crate::workflow::schema::{
    At, Condition, DeliverChoice, DeliverDoc, GateDoc, GateFrom, GotoDoc, IfNoChanges, IgnoreDoc, Library, Loaded,
    NetworkDoc, OnFailureDoc, OnFailureWord, ReadyDoc, ResourcesDoc, SandboxDoc, StepDoc, WorkflowDoc, codes, stop,
    values,
};
use indexmap::IndexMap;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The policy where nobody names one.
/// Steps at once where the workflow does not say.
const DEFAULT_PARALLEL: usize = 4;
/// A gate's time where it does not say, in milliseconds.
const DEFAULT_GATE_TIMEOUT_MS: u64 = 600_000;
/// Shares of the budget at which to warn.
const DEFAULT_WARN_AT: [f64; 2] = [0.8, 0.9];

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The workflow's name.
    pub workflow: String,
    /// Inputs as the operator typed them.
    pub inputs: BTreeMap<String, String>,
    /// What happened; null for a run by hand. What it lacks is filled in with nulls.
    pub event: Value,
    /// Overrides the sandbox driver.
    pub driver: Option<DriverKind>,
    /// Overrides the form of the delivery.
    pub deliver: Option<DeliverKind>,
    /// US dollars: tightens the budget.
    pub budget_usd: Option<f64>,
    /// US dollars: takes the place of the workflow's own budget. The policy's and the configuration's hold.
    pub own_budget_usd: Option<f64>,
    /// Models that the caller found in the environment: for scenarios that the configuration does not route.
    pub models: Vec<ModelRef>,
    /// A policy to run under instead of the workflow's own; of limits, required gates and protected paths both hold.
    pub policy: Option<String>,
    /// True: a CI job or a server asks, not a person at a command line. Inputs are fenced as untrusted, and
    /// `deliver.otherwise`, the form for a laptop, does not count.
    pub outside: bool,
    /// The trigger's key; empty for a run by hand.
    pub key: String,
    /// Overrides what an empty change means.
    pub if_no_changes: Option<IfNoChanges>,
    /// Lets models without a price run under a dollar cap (answers from a cassette cost nothing).
    pub allow_unpriced: bool,
    /// The run ends in an artifact, and another process makes the delivery: of whatever kind.
    pub held: bool,
    /// Whether what the run leaves is there for later ones.
    pub memory: super::Memory,
}

impl Request {
    /// Takes over what a command sets for this run alone; which model it names is the library's to follow
    /// ([`Library::only_model`]).
    pub fn set(&mut self, settings: &BTreeMap<String, String>) {
        if let Some(policy) = settings.get("policy") {
            self.policy = Some(policy.clone());
        }
        if let Some(usd) = settings.get("max_cost_usd").and_then(|text| text.parse().ok()) {
            self.own_budget_usd = Some(usd);
        }
    }
}

pub(super) struct Compiler<'a> {
    pub(super) library: &'a Library,
    pub(super) request: &'a Request,
    pub(super) workflow: &'a Loaded<WorkflowDoc>,
    pub(super) steps: IndexMap<String, StepDoc>,
    pub(super) problems: Vec<Diagnostic>,
    pub(super) no_model_said: bool,
}

/// Compiles a workflow with its inputs.
///
/// # Errors
/// All problems that stand in the way: of the command line, of the workflow and of what it uses.
pub fn compile(library: &Library, request: &Request) -> Result<Plan, Vec<Diagnostic>> {
    let Some(workflow) = library.workflows.get(&request.workflow) else {
        return Err(missing_workflow(library, &request.workflow));
    };
    let mut compiler = Compiler {
        library,
        request,
        workflow,
        steps: workflow.doc.named_steps(),
        problems: Vec::new(),
        no_model_said: false,
    };
    let plan = compiler.plan();
    match plan {
        Some(plan) if compiler.problems.is_empty() => Ok(plan),
        _ => Err(compiler.problems),
    }
}

fn missing_workflow(library: &Library, name: &str) -> Vec<Diagnostic> {
    let own: Vec<Diagnostic> = errors_in(library, &format!("workflows/{name}."));
    if !own.is_empty() {
        return own;
    }
    let names: Vec<&str> = library.workflows.keys().map(String::as_str).collect();
    let near = nearest(name, names.iter().copied()).map_or_else(String::new, |near| format!("did you mean `{near}`? "));
    vec![Diagnostic {
        code: codes::UNKNOWN_WORKFLOW,
        severity: Severity::Error,
        message: format!("no workflow `{name}`"),
        place: Place { file: "command line".into(), line: 1, column: 1, width: 1 },
        source_line: String::new(),
        label: None,
        help: Some(format!("{near}workflows: {}", names.join(", "))),
    }]
}

/// The errors of the repository's own files whose path has `part` in it.
fn errors_in(library: &Library, part: &str) -> Vec<Diagnostic> {
    let error = |d: &&Diagnostic| d.severity == Severity::Error && d.place.file.contains(part);
    library.diagnostics.iter().filter(error).cloned().collect()
}

impl Compiler<'_> {
    pub(super) fn error(&mut self, code: &'static str, at: At, message: String) {
        self.problems.push(self.workflow.document.error(code, at, message));
    }

    pub(super) fn help(&mut self, help: impl Into<String>) {
        if let Some(problem) = self.problems.last_mut() {
            problem.help = Some(help.into());
        }
    }

    pub(super) fn label(&mut self, label: impl Into<String>) {
        if let Some(problem) = self.problems.last_mut() {
            problem.label = Some(label.into());
        }
    }

    /// Takes over the errors of files whose path has `part` in it; whether there were any.
    pub(super) fn errors_of(&mut self, part: &str) -> bool {
        let found = errors_in(self.library, part);
        let any = !found.is_empty();
        for problem in found {
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
        }
        any
    }

    /// The run's variables: the repository's commands, then the workflow's own.
    fn variables(&self) -> BTreeMap<String, String> {
        let commands = self.library.config.commands.iter();
        let commands = commands.map(|(name, text)| {
            (format!("COMMAND_{}", name.as_str().replace('-', "_").to_uppercase()), text.0.clone())
        });
        let own = self.workflow.doc.env.iter().map(|(name, value)| (name.clone(), value.as_text()));
        commands.chain(own).collect()
    }

    fn plan(&mut self) -> Option<Plan> {
        let doc = &self.workflow.doc;
        // A configuration with errors is not a configuration: nothing may run under half of it.
        self.errors_of("config.y");
        self.errors_of("pricing.y");
        let (values, trusted) = inputs::check(self.workflow, &self.request.inputs, &mut self.problems);
        let (policy, policy_resources) = self.policy()?;
        let limits = self.limits(&policy);
        let steps = self.steps(&policy)?;
        let sandbox = self.sandbox(&policy, policy_resources.as_ref(), &steps);
        let deliver = self.deliver(&steps);
        let gates = self.gates(&policy, &deliver);
        self.prices(&limits, &steps);
        self.forgotten(&limits, &steps);
        let mut steps = steps;
        for step in steps.values_mut() {
            step.gates.retain(|gate| gates.contains_key(gate));
            if sandbox.exec_mode == ExecMode::Mount {
                step.own_copy = false;
            }
        }
        let mut protected = policy.protected_paths.clone();
        for glob in &self.library.config.protected_paths {
            if !protected.contains(&glob.0) {
                protected.push(glob.0.clone());
            }
        }
        let budget = doc.budget.clone().unwrap_or_default();
        let warn_at = budget.warn_at.map(|shares| shares.into_iter().map(|share| share.0).collect());
        let mut warn_at: Vec<f64> = warn_at.unwrap_or_else(|| DEFAULT_WARN_AT.to_vec());
        warn_at.sort_by(f64::total_cmp);
        Some(Plan {
            workflow: self.workflow.name.clone(),
            file: if self.workflow.builtin { "built in".into() } else { self.workflow.document.file.clone() },
            workflow_hash: short_hash(self.workflow.document.text.as_bytes(), 64),
            inputs: values,
            trusted_inputs: if self.request.outside { Vec::new() } else { trusted },
            event: event::shaped(&self.request.event),
            steps,
            gates,
            policy,
            limits,
            warn_at,
            sandbox,
            env: self.variables(),
            deliver,
            max_parallel: doc.max_parallel.map_or(DEFAULT_PARALLEL, |n| n as usize),
            protected_paths: protected,
            price: None,
            key: self.request.key.clone(),
        })
    }

    fn policy(&mut self) -> Option<(Policy, Option<ResourcesDoc>)> {
        if let Some(asked) = &self.request.policy {
            return self.overridden(asked);
        }
        if let Some(found) = self.library.policy_of(self.workflow) {
            return Some(found);
        }
        let name = self.library.policy_name(self.workflow);
        if !self.errors_of(&format!("policies/{name}.")) {
            let at = self.workflow.at(&["policy"]);
            self.error(codes::UNKNOWN_POLICY, at, format!("unknown policy `{name}`"));
            let names: Vec<&str> = self.library.policies.keys().map(String::as_str).collect();
            self.help(format!("policies: {}", names.join(", ")));
        }
        None
    }

    /// The policy that was asked for, with what the workflow's own holds in store beside its rules.
    fn overridden(&mut self, asked: &str) -> Option<(Policy, Option<ResourcesDoc>)> {
        let Some(mut policy) = self.library.policies.get(asked).cloned() else {
            let mut problem = inputs::typed(format!("there is no policy `{asked}` to run under"));
            let names: Vec<&str> = self.library.policies.keys().map(String::as_str).collect();
            problem.help = Some(format!("policies: {}", names.join(", ")));
            self.problems.push(problem);
            return None;
        };
        let resources = self.library.policy_docs.get(asked).and_then(|loaded| loaded.doc.resources.clone());
        if let Some((own, _)) = self.library.policy_of(self.workflow) {
            policy.limits = policy.limits.stricter(&own.limits);
            for path in own
                .protected_paths
                .into_iter()
                .filter(|path| !policy.protected_paths.contains(path))
                .collect::<Vec<_>>()
            {
                policy.protected_paths.push(path);
            }
            for gate in
                own.require_gates.into_iter().filter(|gate| !policy.require_gates.contains(gate)).collect::<Vec<_>>()
            {
                policy.require_gates.push(gate);
            }
        }
        Some((policy, resources))
    }

    /// The run's limits: of everything that sets one, the stricter.
    fn limits(&self, policy: &Policy) -> Limits {
        let doc = &self.workflow.doc;
        let budget = doc.budget.clone().unwrap_or_default();
        let config = self.library.config.budget.clone().unwrap_or_default();
        let own = Limits {
            timeout_ms: doc.timeout.as_ref().and_then(|span| values::duration_ms(&span.0).ok()),
            max_cost_usd: self.request.own_budget_usd.or(budget.max_cost_usd),
            max_cost_per_call_usd: budget.max_cost_per_call_usd,
            max_tokens: budget.max_tokens,
            stop: doc.stop.as_ref().and_then(|text| stop::parse(&text.0).ok()),
            ..Limits::default()
        };
        let configured = Limits {
            max_cost_usd: config.per_run_usd,
            max_cost_per_call_usd: config.per_call_usd,
            max_tokens: config.per_run_tokens,
            shared: self.shared_budgets(),
            ..Limits::default()
        };
        let asked = Limits { max_cost_usd: self.request.budget_usd, ..Limits::default() };
        policy.limits.stricter(&own).stricter(&configured).stricter(&asked)
    }

    /// The nodes, in an order in which each comes after its needs.
    fn steps(&mut self, policy: &Policy) -> Option<IndexMap<StepId, PlanStep>> {
        let steps = self.steps.clone();
        let dag = Dag::new(
            steps.iter().map(|(id, step)| (id.as_str(), step.needs.as_slice().iter().map(String::as_str).collect())),
        );
        let order = match dag.order() {
            Ok(order) => order,
            Err(circle) => {
                let at = circle.first().map_or_else(At::default, |id| self.workflow.step_at(id, "needs"));
                self.error(codes::NEEDS_CYCLE, at, format!("steps wait for each other: {}", circle.join(" → ")));
                return None;
            }
        };
        let mut planned: IndexMap<StepId, PlanStep> = IndexMap::new();
        for (id, step) in order.iter().filter_map(|index| steps.get_index(*index)) {
            if let Some(node) = self.step(id, step, policy) {
                planned.insert(StepId::from(id.as_str()), node);
            }
        }
        self.own_copies(&dag, &mut planned);
        Some(planned)
    }

    fn step(&mut self, id: &str, step: &StepDoc, policy: &Policy) -> Option<PlanStep> {
        let own = step.budget.clone().unwrap_or_default();
        // What a policy limits per step holds for each; what it limits per run is the run's.
        let mut limits = Limits {
            timeout_ms: None,
            max_cost_usd: None,
            max_tokens: None,
            max_file_changes: None,
            ..policy.limits.clone()
        };
        limits = limits.stricter(&Limits {
            max_turns: step.max_steps,
            max_cost_per_step_usd: own.max_cost_usd,
            max_cost_per_call_usd: own.max_cost_per_call_usd,
            max_tokens: own.max_tokens,
            stop: step.stop.as_ref().and_then(|text| stop::parse(&text.0).ok()),
            ..Limits::default()
        });
        let per_step = self.library.config.budget.as_ref().and_then(|budget| budget.per_step_usd);
        limits = limits.stricter(&Limits { max_cost_per_step_usd: per_step, ..Limits::default() });
        if let Some(text) = &self.workflow.doc.stop {
            limits = limits.stricter(&Limits { stop: stop::parse(&text.0).ok(), ..Limits::default() });
        }
        let mut timeout_ms = step.timeout.as_ref().and_then(|span| values::duration_ms(&span.0).ok());
        let (kind, writes) = match (&step.mode, &step.run) {
            (None, _) if let Some(backend) = super::backends::named(step, None) => {
                let agent = self.program(id, step, backend)?;
                timeout_ms = [timeout_ms, agent.timeout_ms].into_iter().flatten().min();
                let writes = !agent.spec.read_only;
                (StepKind::Agent(agent.spec), writes)
            }
            (Some(mode), _) => {
                let agent = self.agent(id, step, &mode.0)?;
                limits = limits.stricter(&agent.limits);
                timeout_ms = [timeout_ms, agent.timeout_ms].into_iter().flatten().min();
                let writes = !agent.spec.read_only;
                (StepKind::Agent(agent.spec), writes)
            }
            (None, Some(command)) => (StepKind::Run { command: command.0.clone() }, step.writes.unwrap_or(true)),
            (None, None) => {
                let at = self.workflow.step_at(id, "");
                self.error(
                    codes::NOT_YET,
                    at,
                    format!("step `{id}` is of a kind that this version does not carry out"),
                );
                self.help("steps of this version: `mode:` (an agent) and `run:` (a command)");
                return None;
            }
        };
        Some(PlanStep {
            id: StepId::from(id),
            kind,
            needs: step.needs.as_slice().iter().map(|need| StepId::from(need.as_str())).collect(),
            activation: step.activation.unwrap_or(Activation::All),
            condition: step.condition.as_ref().map(|condition| match condition {
                Condition::Fixed(fixed) => fixed.to_string(),
                Condition::Expression(expression) => expression.0.clone(),
            }),
            timeout_ms,
            attempts: step.attempts.unwrap_or(1),
            writes,
            own_copy: false,
            gates: step.gates.as_slice().iter().map(|gate| gate.0.trim_end_matches('?').to_owned()).collect(),
            on_failure: match &step.on_failure {
                None | Some(OnFailureDoc::Word(OnFailureWord::Fail)) => OnFailure::Fail,
                Some(OnFailureDoc::Word(OnFailureWord::Continue)) => OnFailure::Continue,
                Some(OnFailureDoc::Goto(jump)) => OnFailure::Goto(goto(jump)),
            },
            then: step.then.as_ref().map(goto),
            limits,
            env: step.env.iter().map(|(name, value)| (name.clone(), value.as_text())).collect(),
        })
    }

    /// A step works on a copy of its own where some writing step is neither before nor after it.
    fn own_copies(&self, dag: &Dag, steps: &mut IndexMap<StepId, PlanStep>) {
        let ancestry = dag.ancestry();
        let place = |step: &PlanStep| dag.index(step.id.as_str());
        let writers: Vec<usize> = steps.values().filter(|step| step.writes).filter_map(place).collect();
        for step in steps.values_mut() {
            let Some(own) = place(step) else { continue };
            step.own_copy = writers.iter().any(|other| {
                *other != own && !ancestry.comes_before(*other, own) && !ancestry.comes_before(own, *other)
            });
        }
    }

    fn sandbox(
        &mut self,
        policy: &Policy,
        policy_resources: Option<&ResourcesDoc>,
        steps: &IndexMap<StepId, PlanStep>,
    ) -> SandboxSpec {
        let own = self.workflow.doc.sandbox.clone().unwrap_or_default();
        let config = self.library.config.sandbox.clone().unwrap_or_default();
        let asked = own.exec_mode.or(config.exec_mode);
        let exec_mode = asked.or(policy.exec_mode).unwrap_or(ExecMode::Sandbox);
        let place = self.workflow.at(&["sandbox", "exec_mode"]);
        if exec_mode == ExecMode::Mount && policy.exec_mode.is_some_and(|meant| meant != ExecMode::Mount) {
            self.error(
                codes::EXCLUSIVE_KEYS,
                place,
                format!("policy `{}` is not meant for `exec_mode: mount`", policy.name),
            );
            self.help("take `exec_mode: sandbox`, or the policy trusted-mount-autonomous");
        }
        if exec_mode == ExecMode::Mount {
            let writers: Vec<&str> = steps.values().filter(|s| s.writes && s.own_copy).map(|s| s.id.as_str()).collect();
            if writers.len() > 1 {
                let list = writers.join("`, `");
                self.error(
                    codes::CONCURRENT_WRITERS,
                    place,
                    format!("`{list}` would write to one mounted tree at once"),
                );
                self.help("order them with `needs:`, mark those that only read with `writes: false`, or take `exec_mode: sandbox`");
            }
        }
        let network = own.network.as_ref().or(config.network.as_ref());
        SandboxSpec {
            driver: self.request.driver.or(own.driver).or(config.driver).unwrap_or(DriverKind::Auto),
            image: own.image.clone().or_else(|| config.image.clone()),
            exec_mode,
            network_allow: match network {
                Some(NetworkDoc::Allow(hosts)) => hosts.allow.clone(),
                Some(NetworkDoc::Word(_)) | None => Vec::new(),
            },
            resources: resources(&[own.resources.as_ref(), config.resources.as_ref(), policy_resources]),
            setup: setup(&own, &config),
        }
    }

    fn deliver(&mut self, steps: &IndexMap<StepId, PlanStep>) -> DeliverSpec {
        let own = match &self.workflow.doc.deliver {
            Some(DeliverChoice::Kind(kind)) => DeliverDoc { kind: Some(*kind), ..DeliverDoc::default() },
            Some(DeliverChoice::Detailed(doc)) => (**doc).clone(),
            None => DeliverDoc::default(),
        };
        let writes = steps.values().any(|step| step.writes);
        let by_agents =
            steps.values().any(|step| step.writes && matches!(&step.kind, StepKind::Agent(spec) if !spec.is_plain()));
        let usual = if writes { DeliverKind::Patch } else { DeliverKind::None };
        let written = match (self.request.outside, own.kind) {
            (true, kind) => kind,
            // The issue is kept by what runs for everybody; one person's run is a page.
            (false, Some(DeliverKind::Issue)) => own.otherwise.or(Some(DeliverKind::Report)),
            (false, kind) => own.otherwise.or(kind),
        };
        let kind = self.request.deliver.or(written).unwrap_or(usual);
        let config_draft = self.library.config.delivery.as_ref().and_then(|delivery| delivery.draft);
        let forge = self.forge(&own);
        DeliverSpec {
            kind,
            when: own.when.unwrap_or(DeliverWhen::GatesPassed),
            branch: own.branch.map(|text| text.0),
            title: own.title.map(|text| text.0),
            body: own.body.map(|text| text.0),
            fail_if_no_changes: match self.request.if_no_changes.or(own.if_no_changes) {
                Some(choice) => choice == IfNoChanges::Fail,
                None => by_agents,
            },
            held: self.request.held,
            draft: own.draft.or(config_draft).unwrap_or(true),
            labels: own.labels.as_slice().iter().map(|label| label.0.clone()).collect(),
            reviewers: accounts(own.reviewers.as_slice()).filter(|name| name != CODEOWNERS).collect(),
            forge,
            author: self.author(),
            most_open: self.library.config.delivery.as_ref().and_then(|delivery| delivery.open_changes_limit),
        }
    }

    /// What a forge is asked for, beside the form.
    fn forge(&self, own: &DeliverDoc) -> ForgeSpec {
        let config = self.library.config.delivery.clone().unwrap_or_default();
        let review = self.library.config.review.clone().unwrap_or_default();
        ForgeSpec {
            assignees: accounts(own.assignees.as_slice()).collect(),
            milestone: own.milestone.as_ref().map(|title| title.0.clone()),
            keep_open: own.close_when_clean == Some(false),
            codeowners: accounts(own.reviewers.as_slice()).any(|name| name == CODEOWNERS),
            ready_when_passed: config.ready == Some(ReadyDoc::GatesPassed) && own.draft.is_none(),
            most_per_hour: config.changes_per_hour,
            convention: config.convention.unwrap_or_default(),
            sign_off: config.sign_off.unwrap_or_default(),
            co_authors: config.co_authors.as_slice().iter().map(|person| person.0.clone()).collect(),
            ignore: config.ignore.as_ref().map(IgnoreDoc::meant).unwrap_or_default(),
            review: ReviewSpec { max_remarks: review.max_remarks, min_level: review.min_severity },
        }
    }

    /// The configured account that commits, as git can write it.
    fn author(&self) -> Option<(String, String)> {
        let bot = self.library.config.forge.as_ref()?.bot.as_ref()?;
        let plain = |text: &str| text.chars().filter(|c| !c.is_control() && !"<>".contains(*c)).collect::<String>();
        let name = plain(&bot.name).trim().to_owned();
        let email = bot.email.as_deref().map(|email| plain(email).trim().to_owned()).filter(|email| !email.is_empty());
        (!name.is_empty()).then(|| (name, email.unwrap_or_else(|| crate::model::delivery::AUTHOR.1.to_owned())))
    }

    /// The gates that steps name and the policy requires. One that is not defined stands in the way, unless it is
    /// wanted only where it is defined (`lint?`), or nothing is delivered that it would have to pass for.
    fn gates(&mut self, policy: &Policy, deliver: &DeliverSpec) -> IndexMap<String, Gate> {
        let mut wanted: IndexMap<String, Option<String>> = IndexMap::new();
        for (id, step) in &self.steps {
            for gate in step.gates.as_slice() {
                let why = format!("step `{id}` names it");
                match gate.0.strip_suffix('?') {
                    Some(name) => wanted.entry(name.to_owned()).or_insert(None),
                    None => wanted.entry(gate.0.clone()).or_insert(Some(why)),
                };
            }
        }
        for name in &policy.require_gates {
            let why = format!("policy `{}` requires it before a delivery", policy.name);
            let why = (deliver.kind != DeliverKind::None).then_some(why);
            let entry = wanted.entry(name.clone()).or_insert(None);
            if entry.is_none() {
                *entry = why;
            }
        }
        let mut gates = IndexMap::new();
        let mut missing: Vec<(String, String)> = Vec::new();
        for (name, why) in wanted {
            match (self.gate_doc(&name), why) {
                (Some(doc), _) => {
                    gates.insert(name.clone(), gate(&name, &doc, policy.rollback_on_fail));
                }
                (None, Some(why)) => missing.push((name, why)),
                (None, None) => {}
            }
        }
        if !missing.is_empty() {
            let lines: Vec<String> = missing.iter().map(|(name, _)| format!("    {name}: {{ run: \"…\" }}")).collect();
            let help =
                format!("say in .codeforge/config.yml how this repository is checked:\n  gates:\n{}", lines.join("\n"));
            for (index, (name, why)) in missing.iter().enumerate() {
                let message = format!("no gate `{name}` is defined; {why}");
                let problem = match &self.library.config_document {
                    Some(document) => document.error(codes::REQUIRED_GATE_MISSING, document.at(&["gates"]), message),
                    None => {
                        let at = self.workflow.at(&["policy"]);
                        self.workflow.document.error(codes::REQUIRED_GATE_MISSING, at, message)
                    }
                };
                self.problems.push(problem);
                if index + 1 == missing.len() {
                    self.help(help.clone());
                }
            }
        }
        gates
    }

    fn gate_doc(&self, name: &str) -> Option<GateDoc> {
        let find = |gates: &BTreeMap<crate::workflow::schema::Name, GateDoc>| {
            gates.iter().find(|(key, _)| key.0 == name).map(|(_, doc)| doc.clone())
        };
        find(&self.workflow.doc.gates).or_else(|| find(&self.library.config.gates))
    }

    /// A dollar cap cannot hold for a model without a price: a token cap has to be there instead.
    fn prices(&mut self, limits: &Limits, steps: &IndexMap<StepId, PlanStep>) {
        let shared = limits.shared.iter().filter_map(|shared| shared.max_usd);
        let single = [limits.max_cost_usd, limits.max_cost_per_call_usd].into_iter().flatten();
        let Some(cap) = single.chain(shared).min_by(f64::total_cmp) else { return };
        if limits.max_tokens.is_some() || self.request.allow_unpriced {
            return;
        }
        let mut said = BTreeSet::new();
        for (id, step) in steps {
            let StepKind::Agent(agent) = &step.kind else { continue };
            let voices = agent.quality.iter().flat_map(|quality| quality.voices()).flat_map(|voice| &voice.models);
            let models = agent.models.iter().chain(&agent.long_context).chain(voices);
            for model in models.filter(|model| model.price.is_none()) {
                if !said.insert(model.name.clone()) {
                    continue;
                }
                let message = format!("model `{}` has no price, so the cap of ${cap:.2} could not be kept", model.name);
                let configured = self.library.config_document.as_ref();
                let configured = configured.filter(|document| document.node(&["models", &model.name]).is_some());
                let problem = match configured {
                    Some(document) => {
                        document.error(codes::UNPRICED_MODEL, document.at(&["models", &model.name]), message)
                    }
                    None => {
                        let at = self.workflow.step_at(id.as_str(), "mode");
                        self.workflow.document.error(codes::UNPRICED_MODEL, at, message)
                    }
                };
                self.problems.push(problem);
                self.help(
                    "in .codeforge/config.yml, give its price:  price: { input_per_mtok: …, output_per_mtok: … }\n\
                     or cap the tokens of a run instead:  budget: { per_run_tokens: 2000000 }\n\
                     `codeforge models list` shows what its server says that it costs",
                );
            }
        }
    }
}

/// Stands for the code owners among the reviewers.
const CODEOWNERS: &str = "codeowners";

/// Accounts, without the `@` that people write before them.
fn accounts(given: &[crate::workflow::schema::Account]) -> impl Iterator<Item = String> {
    given.iter().map(|account| account.0.trim_start_matches('@').to_owned())
}

fn goto(jump: &GotoDoc) -> Goto {
    Goto { target: StepId::from(jump.goto.as_str()), max_iterations: jump.max_iterations.unwrap_or(1) }
}

/// A gate with its defaults. A policy's `rollback_on_fail` beats `warn` and `fail`.
fn gate(name: &str, doc: &GateDoc, rollback_on_fail: bool) -> Gate {
    let on_fail = match doc.on_fail.unwrap_or(OnGateFail::Retry) {
        OnGateFail::Warn | OnGateFail::Fail if rollback_on_fail => OnGateFail::Rollback,
        other => other,
    };
    let definition = serde_json::to_string(doc).unwrap_or_default();
    Gate {
        name: name.to_owned(),
        command: doc.run.0.clone(),
        timeout_ms: doc
            .timeout
            .as_ref()
            .and_then(|span| values::duration_ms(&span.0).ok())
            .unwrap_or(DEFAULT_GATE_TIMEOUT_MS),
        on_fail,
        from_base: doc.from == Some(GateFrom::Base),
        paths: doc.paths.as_slice().iter().map(|glob| glob.0.clone()).collect(),
        hash: short_hash(format!("{name}\0{definition}").as_bytes(), 32),
    }
}

/// Of every limit the strictest that is written; where none is, the default.
fn resources(sources: &[Option<&ResourcesDoc>]) -> Resources {
    let written = || sources.iter().copied().flatten();
    let usual = Resources::default();
    let sizes = |pick: fn(&ResourcesDoc) -> Option<&crate::workflow::schema::Size>| {
        written().filter_map(pick).filter_map(|size| values::size_bytes(&size.0).ok()).min()
    };
    Resources {
        memory: sizes(|r| r.memory.as_ref()).unwrap_or(usual.memory),
        cpus: written().filter_map(|r| r.cpus).min_by(f64::total_cmp).unwrap_or(usual.cpus),
        pids: written().filter_map(|r| r.pids).min().unwrap_or(usual.pids),
        disk: sizes(|r| r.disk.as_ref()).unwrap_or(usual.disk),
    }
}

fn setup(own: &SandboxDoc, config: &SandboxDoc) -> Vec<String> {
    let chosen = if own.setup.as_slice().is_empty() { &config.setup } else { &own.setup };
    chosen.as_slice().iter().map(|command| command.0.clone()).collect()
}
