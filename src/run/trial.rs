//! A small world for tests of routing and money: everything but model calls answers at once, and these are answered by
//! hand.

use super::State;
use crate::model::budget::Allowance;
use crate::model::chat::*;
use crate::model::delivery::{ChangeSet, Delivered};
use crate::model::exec::{DriverKind, ExecMode};
use crate::model::id::{RunId, TreeId};
use crate::model::journal::{Base, Effect, Input, Work};
use crate::model::plan::*;
use crate::model::policy::{Decision, Limits, Policy};
use crate::model::tool::{ToolCall, ToolOutcome, ToolStatus};
use crate::model::usage::{CostSource, NanoUsd, Usage};
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};

/// A model at a provider.
pub fn model(name: &str, provider: &str) -> ModelRef {
    ModelRef {
        name: name.into(),
        provider: "openai".into(),
        model: name.into(),
        base_url: Some(format!("http://{provider}/v1")),
        context_window: 100_000,
        max_output: 1000,
        tools: true,
        ..ModelRef::default()
    }
}

/// A step that reads, with its scenario's chain.
pub fn reader(id: &str, models: &[ModelRef]) -> PlanStep {
    PlanStep {
        id: id.into(),
        kind: StepKind::Agent(AgentSpec {
            mode: "reader".into(),
            tools: vec!["read_file".into(), "finish".into()],
            read_only: true,
            scenario: "think".into(),
            models: models.to_vec(),
            ..AgentSpec::default()
        }),
        needs: vec![],
        activation: Activation::All,
        condition: None,
        timeout_ms: None,
        attempts: 1,
        writes: false,
        own_copy: false,
        gates: vec![],
        on_failure: OnFailure::Fail,
        then: None,
        limits: Limits::default(),
        env: BTreeMap::new(),
    }
}

/// A step's agent.
pub fn spec(step: &mut PlanStep) -> &mut AgentSpec {
    match &mut step.kind {
        StepKind::Agent(spec) => spec,
        StepKind::Run { .. } => panic!("no agent"),
    }
}

/// A plan of such steps.
pub fn plan(steps: Vec<PlanStep>) -> Plan {
    Plan {
        workflow: "w".into(),
        file: "w.yml".into(),
        workflow_hash: String::new(),
        inputs: BTreeMap::new(),
        trusted_inputs: vec![],
        event: json!(null),
        steps: steps.into_iter().map(|step| (step.id.clone(), step)).collect(),
        gates: indexmap::IndexMap::new(),
        policy: Policy {
            name: "p".into(),
            file: "p.yml".into(),
            description: String::new(),
            rules: vec![],
            default: Decision::Allow,
            default_line: 0,
            protected_paths: vec![],
            require_gates: vec![],
            rollback_on_fail: false,
            limits: Limits::default(),
            exec_mode: None,
        },
        limits: Limits::default(),
        warn_at: vec![0.8, 0.9],
        sandbox: SandboxSpec {
            driver: DriverKind::None,
            image: None,
            exec_mode: ExecMode::Sandbox,
            network_allow: vec![],
            resources: Resources::default(),
            setup: vec![],
        },
        env: BTreeMap::new(),
        deliver: DeliverSpec {
            kind: DeliverKind::None,
            when: DeliverWhen::GatesPassed,
            branch: None,
            title: None,
            body: None,
            fail_if_no_changes: false,
            held: false,
            draft: true,
            labels: vec![],
            reviewers: vec![],
            author: None,
            most_open: None,
            forge: crate::model::plan::ForgeSpec::default(),
        },
        max_parallel: 8,
        protected_paths: vec![],
        price: None,
        key: String::new(),
    }
}

/// An answer that ends the step, or one that reads a file and goes on.
pub fn answer(last: bool) -> Answer {
    Answer {
        text: "done".into(),
        calls: if last {
            vec![]
        } else {
            vec![ToolCall { id: "c".into(), name: "read_file".into(), args: json!({}), malformed: None }]
        },
        raw_calls: vec![],
        stop: StopReason::Stop,
        conclusion: last.then(|| Ok(Conclusion { text: "done".into(), output: None })),
        reasoning: vec![],
    }
}

/// A failure without a bill.
pub fn error(fault: ModelFault) -> ModelError {
    ModelError { fault, message: format!("{fault:?}"), status: None, requests: 4, bill: None, retry_after_ms: None }
}

/// A run whose model calls wait to be answered.
pub struct Trial {
    pub state: State,
    /// Model calls that are out, in the order in which they were made.
    pub calls: Vec<Effect>,
    pub inputs: Vec<(i64, Input)>,
    pub now_ms: i64,
    /// Upper bounds of the next requests' cost; the last one stays.
    pub costs: VecDeque<Option<NanoUsd>>,
    /// What the next requests are estimated at, in tokens.
    pub tokens: u64,
}

impl Trial {
    pub fn new(plan: Plan) -> Self {
        Self::admitted(plan, vec![])
    }

    pub fn admitted(plan: Plan, allowances: Vec<Allowance>) -> Self {
        Self::priced(plan, allowances, [None])
    }

    pub fn priced(plan: Plan, allowances: Vec<Allowance>, costs: impl IntoIterator<Item = Option<NanoUsd>>) -> Self {
        let started = Input::Started {
            run: RunId::from("r"),
            plan: Box::new(plan),
            base: Base { repo: "/repo".into(), commit: None, branch: None, tree: TreeId::from("t0"), dirty: vec![] },
            at_ms: 0,
            version: "test".into(),
            allowances,
        };
        let state = State::new(&started).unwrap();
        let costs = costs.into_iter().collect();
        let mut trial = Self { state, calls: vec![], inputs: vec![], now_ms: 0, costs, tokens: 0 };
        trial.feed(started);
        trial
    }

    /// Feeds an input and answers everything that follows but model calls.
    pub fn feed(&mut self, input: Input) {
        let mut queue = VecDeque::from([input]);
        while let Some(input) = queue.pop_front() {
            if !self.state.expects(&input) {
                continue;
            }
            self.inputs.push((self.now_ms, input.clone()));
            for effect in self.state.apply(self.now_ms, input) {
                match self.perform(&effect) {
                    Some(input) => queue.push_back(input),
                    None => self.calls.push(effect),
                }
            }
        }
        let outstanding = &self.state.outstanding;
        self.calls.retain(|call| outstanding.contains_key(&call.key));
    }

    fn perform(&mut self, effect: &Effect) -> Option<Input> {
        let key = effect.key.clone();
        Some(match &effect.work {
            Work::Prepare => Input::Prepared { key, driver: "none".into(), workspace: "copy".into(), notes: vec![] },
            Work::Compose { .. } => {
                let cost = if self.costs.len() > 1 { self.costs.pop_front() } else { self.costs.front().copied() };
                Input::Composed {
                    key,
                    input_tokens: 900,
                    estimated_tokens: self.tokens,
                    max_output: 100,
                    cost: cost.flatten(),
                    request_hash: "h".into(),
                    prompt: None,
                }
            }
            Work::CallTool { .. } => Input::ToolDone { key, outcome: ToolOutcome::new(ToolStatus::Ok, "result") },
            Work::Snapshot { .. } => Input::Snapshotted { key, tree: TreeId::from("t0"), files: vec![] },
            Work::Deliver { .. } => Input::DeliveryDone {
                key,
                delivered: Delivered {
                    kind: DeliverKind::None,
                    patch: None,
                    commit: None,
                    branch: None,
                    changes: ChangeSet::default(),
                    changed: false,
                    published: None,
                },
            },
            _ => return None,
        })
    }

    /// The step's call that is out: the model's name and why it was chosen.
    pub fn call(&self, step: &str) -> (String, String) {
        let call = self.of(step);
        let Work::CallModel { model, why, .. } = &call.work else { panic!("{call:?}") };
        let index = self.state.index(&step.into()).unwrap();
        (self.state.agent_spec(index).unwrap().model(*model).unwrap().name.clone(), why.clone())
    }

    /// The step's first call that is out.
    pub fn of(&self, step: &str) -> Effect {
        let mut own = self.calls.iter().filter(|call| call.step.as_ref().is_some_and(|it| it.as_str() == step));
        own.next()
            .unwrap_or_else(|| panic!("`{step}` asks nothing: {:?} {}", self.state.ending, self.state.reason))
            .clone()
    }

    pub fn answers(&mut self, step: &str, last: bool) {
        let call = self.of(step);
        self.answers_call(&call, last, None);
    }

    pub fn answers_call(&mut self, call: &Effect, last: bool, cost: Option<NanoUsd>) {
        self.feed(Input::Answered {
            key: call.key.clone(),
            answer: answer(last),
            bill: Bill {
                model: "m".into(),
                usage: Some(Usage { input: 500, output: 50, ..Usage::default() }),
                cost,
                source: CostSource::PriceTable,
            },
            requests: 1,
        });
    }

    pub fn fails(&mut self, step: &str, error: ModelError) {
        let key = self.of(step).key;
        self.feed(Input::ModelFailed { key, error });
    }

    /// The state is a fold of its inputs: replaying them at their times gives the same.
    pub fn check_replay(&self) {
        let mut again = State::new(&self.inputs[0].1).unwrap();
        for (at_ms, input) in &self.inputs {
            again.apply(*at_ms, input.clone());
        }
        assert_eq!(again.outstanding, self.state.outstanding);
        assert_eq!(
            (again.ending, again.spend, again.reserved),
            (self.state.ending, self.state.spend, self.state.reserved)
        );
        assert_eq!(again.notes, self.state.notes);
    }
}
