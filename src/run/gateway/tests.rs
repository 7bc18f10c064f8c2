//! A program's questions without a program: what the state machine makes of them.

use super::*;
use crate::model::account::StepStatus;
use crate::model::backend::{BackendOutcome, BackendSpec, Dialect};
use crate::model::chat::{Answer, Bill, ModelRef, StopReason};
use crate::model::exec::{DriverKind, ExecMode, ExecOutcome, ExecStatus};
use crate::model::id::{RunId, TreeId};
use crate::model::journal::Base;
use crate::model::plan::*;
use crate::model::policy::{Limits, Policy};
use crate::model::usage::{CostSource, NanoUsd, Usage};
use serde_json::json;
use std::collections::BTreeMap;

/// What each call reserves.
const MOST: NanoUsd = NanoUsd(1_000_000_000);

fn step(id: &str, limits: Limits) -> PlanStep {
    let model = |name: &str| ModelRef { name: name.into(), tools: true, max_output: 100, ..ModelRef::default() };
    PlanStep {
        id: id.into(),
        kind: StepKind::Agent(AgentSpec {
            mode: "coder".into(),
            scenario: "default".into(),
            models: vec![model("first"), model("second")],
            backend: Some(BackendSpec { name: "mine".into(), dialect: Dialect::Openai, ..BackendSpec::default() }),
            ..AgentSpec::default()
        }),
        needs: vec![],
        activation: Activation::All,
        condition: None,
        timeout_ms: None,
        attempts: 1,
        writes: true,
        own_copy: false,
        gates: vec![],
        on_failure: OnFailure::Fail,
        then: None,
        limits,
        env: BTreeMap::new(),
    }
}

/// A run of one step, `work`, whose program is at work.
struct Trial {
    state: State,
    inputs: Vec<Input>,
    out: Vec<Effect>,
}

impl Trial {
    fn new(run: Limits, own: Limits) -> Self {
        let plan = Plan {
            workflow: "w".into(),
            file: "w.yml".into(),
            workflow_hash: String::new(),
            inputs: BTreeMap::new(),
            trusted_inputs: vec![],
            event: json!(null),
            steps: [("work".into(), step("work", own))].into_iter().collect(),
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
            limits: run,
            warn_at: vec![],
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
            max_parallel: 4,
            protected_paths: vec![],
            price: None,
            key: String::new(),
        };
        let started = Input::Started {
            allowances: vec![],
            run: RunId::from("r"),
            plan: Box::new(plan),
            base: Base { repo: "/repo".into(), commit: None, branch: None, tree: TreeId::from("t0"), dirty: vec![] },
            at_ms: 0,
            version: "test".into(),
        };
        let state = State::new(&started).unwrap();
        let mut trial = Self { state, inputs: vec![], out: vec![] };
        trial.feed(started);
        let key = trial.take("prepare").key;
        trial.feed(Input::Prepared { key, driver: "none".into(), workspace: "copy".into(), notes: vec![] });
        assert_eq!(trial.kinds(), ["run_backend"]);
        trial
    }

    fn budget(usd: f64) -> Self {
        Self::new(Limits { max_cost_usd: Some(usd), ..Limits::default() }, Limits::default())
    }

    fn feed(&mut self, input: Input) {
        assert!(self.state.expects(&input), "not expected: {input:?}");
        self.inputs.push(input.clone());
        let effects = self.state.apply(self.state.now_ms + 1, input);
        self.out.extend(effects);
        let outstanding = &self.state.outstanding;
        self.out.retain(|effect| outstanding.contains_key(&effect.key));
    }

    fn take(&mut self, kind: &str) -> Effect {
        let at = self.out.iter().position(|effect| effect.work.kind() == kind);
        self.out.remove(at.unwrap_or_else(|| panic!("no {kind} in {:?}", self.out)))
    }

    /// What is out.
    fn kinds(&self) -> Vec<&'static str> {
        self.out.iter().map(|effect| effect.work.kind()).collect()
    }

    fn question(number: u64) -> Input {
        Input::Asked {
            step: "work".into(),
            number,
            model: 0,
            wanted: "gpt-x".into(),
            input_tokens: 900,
            max_output: 100,
            cost: Some(MOST),
            request_hash: "h".into(),
        }
    }

    fn ask(&mut self, number: u64) {
        self.feed(Self::question(number));
    }

    fn is_asking(&self, number: u64) -> bool {
        self.state.is_asking(&"work".into(), number)
    }

    /// The call for a question.
    fn call(&self, number: u64) -> Effect {
        let ours = |effect: &&Effect| matches!(&effect.work, Work::CallModel { purpose: Purpose::Gateway(it), .. } if *it == number);
        self.out.iter().find(ours).unwrap_or_else(|| panic!("no call for {number}: {:?}", self.out)).clone()
    }

    fn answer(&mut self, number: u64, cost: NanoUsd) {
        let key = self.call(number).key;
        self.feed(Input::Answered {
            key,
            answer: Answer {
                text: "yes".into(),
                calls: vec![],
                raw_calls: vec![],
                stop: StopReason::Stop,
                conclusion: None,
                reasoning: vec![],
            },
            bill: Bill {
                model: "first".into(),
                usage: Some(Usage { input: 90, output: 10, ..Usage::default() }),
                cost: Some(cost),
                source: CostSource::PriceTable,
            },
            requests: 1,
        });
    }

    fn fail(&mut self, number: u64, fault: ModelFault) {
        let key = self.call(number).key;
        let message = format!("{fault:?}");
        self.feed(Input::ModelFailed {
            key,
            error: ModelError { fault, message, status: None, requests: 4, bill: None, retry_after_ms: None },
        });
    }

    fn ends(&mut self, code: i32) {
        let key = self.take("run_backend").key;
        self.feed(Input::BackendDone {
            key,
            outcome: BackendOutcome {
                exec: ExecOutcome {
                    status: ExecStatus::Exited(code),
                    output: String::new(),
                    dropped: 0,
                    duration_ms: 1,
                },
                text: "done".into(),
                prompt: String::new(),
                error: None,
                usage: None,
                session: None,
                tree: Some("t0".into()),
                files: vec![],
                denied: vec![],
            },
        });
    }

    /// The undoing is done.
    fn undone(&mut self) {
        let key = self.take("restore").key;
        self.feed(Input::Restored { key, discarded: String::new() });
    }

    /// A replay of the inputs gives the same state.
    fn check_replay(&self) {
        let mut again = State::new(&self.inputs[0]).unwrap();
        for (at, input) in self.inputs.iter().enumerate() {
            again.apply(at as i64 + 1, input.clone());
        }
        assert_eq!(again.outstanding, self.state.outstanding);
        assert_eq!(
            (again.ending, again.spend, again.reserved),
            (self.state.ending, self.state.spend, self.state.reserved)
        );
    }
}

#[test]
fn two_questions_at_once_are_reserved_answered_and_settled_beside_the_program() {
    let mut trial = Trial::budget(10.0);
    trial.ask(1);
    trial.ask(2);
    assert_eq!(trial.kinds(), ["run_backend", "call_model", "call_model"]);
    assert_eq!(trial.state.reserved, NanoUsd(2 * MOST.0));
    let Work::CallModel { model: 0, why, request_hash, .. } = trial.call(1).work else { panic!() };
    assert_eq!((why.as_str(), request_hash.as_str()), ("scenario default", "h"));
    trial.answer(2, NanoUsd(3));
    assert!(trial.is_asking(1) && !trial.is_asking(2));
    trial.answer(1, NanoUsd(4));
    assert_eq!((trial.state.spend.cost, trial.state.spend.calls, trial.state.reserved), (NanoUsd(7), 2, NanoUsd(0)));
    assert_eq!(trial.state.steps[0].spend.cost, NanoUsd(7));
    trial.ends(0);
    assert_eq!(trial.state.steps[0].status, StepStatus::Succeeded);
    assert_eq!(trial.state.ending, Some(Ending::Done));
    trial.check_replay();
}

#[test]
fn a_question_waits_for_money_that_another_has_reserved() {
    for (run, own) in [(Some(1.5), None), (None, Some(1.5))] {
        let limits = |run: Option<f64>| Limits { max_cost_usd: run, ..Limits::default() };
        let mut trial = Trial::new(limits(run), Limits { max_cost_per_step_usd: own, ..Limits::default() });
        trial.ask(1);
        trial.ask(2);
        trial.ask(3);
        assert_eq!(trial.kinds(), ["run_backend", "call_model"], "{run:?}");
        assert!(trial.is_asking(2) && trial.is_asking(3));
        trial.answer(1, NanoUsd(MOST.0 / 10));
        assert_eq!(trial.kinds(), ["run_backend", "call_model"], "one at a time");
        trial.answer(2, NanoUsd(MOST.0 / 10));
        trial.answer(3, NanoUsd(MOST.0 / 10));
        assert!(trial.state.spend.cost <= NanoUsd::from_usd(1.5));
        trial.ends(0);
        assert_eq!(trial.state.ending, Some(Ending::Done));
        trial.check_replay();
    }
}

#[test]
fn a_budget_that_is_used_up_is_a_hard_stop() {
    let mut trial = Trial::budget(2.5);
    trial.ask(1);
    trial.answer(1, MOST);
    trial.ask(2);
    trial.ask(3);
    assert!(trial.is_asking(3), "it may become affordable");
    trial.answer(2, NanoUsd(MOST.0 * 9 / 10));
    // Now it cannot: the program is killed, its work undone.
    assert_eq!(trial.kinds(), ["restore"]);
    assert!(!trial.is_asking(3));
    assert!(trial.state.limit_of(&"work".into()).unwrap().contains("of the budget of $2.500"));
    assert!(!trial.state.expects(&Trial::question(4)), "nobody may ask any more");
    trial.undone();
    assert_eq!(trial.state.ending, Some(Ending::Limit), "{}", trial.state.reason);
    assert!(trial.state.limit_of(&"work".into()).is_some());
    trial.check_replay();

    // A call that is out when another one breaks the step's turns is charged as it was reserved.
    let mut trial = Trial::new(Limits::default(), Limits { max_turns: Some(1), ..Limits::default() });
    trial.ask(1);
    trial.ask(2);
    assert_eq!(trial.kinds(), ["restore"]);
    assert_eq!(trial.state.spend.cost, MOST);
    trial.undone();
    assert_eq!(trial.state.ending, Some(Ending::Limit));
    assert!(trial.state.reason.contains("more than 1 answers"), "{}", trial.state.reason);
}

#[test]
fn a_model_that_fails_is_followed_by_the_next_one_and_then_the_program_is_told() {
    let mut trial = Trial::budget(10.0);
    trial.ask(1);
    trial.fail(1, ModelFault::Unavailable);
    let compose = trial.take("compose");
    assert_eq!(compose.work, Work::Compose { model: 1, purpose: Purpose::Gateway(1) });
    assert!(trial.is_asking(1));
    trial.feed(Input::Composed {
        estimated_tokens: 0,
        key: compose.key,
        input_tokens: 900,
        max_output: 100,
        cost: Some(MOST),
        request_hash: "h".into(),
        prompt: None,
    });
    let Work::CallModel { model: 1, .. } = trial.call(1).work else { panic!() };
    trial.fail(1, ModelFault::Unavailable);
    assert!(!trial.is_asking(1));
    assert_eq!(trial.state.reserved, NanoUsd(0));
    // What the program makes of it is its own affair; if it gives up, the provider is the reason.
    trial.ends(1);
    trial.undone();
    assert_eq!(trial.state.ending, Some(Ending::Unavailable), "{}", trial.state.reason);
    trial.check_replay();

    // A question that no model would take is the program's fault.
    let mut trial = Trial::budget(10.0);
    trial.ask(1);
    trial.fail(1, ModelFault::TooLong);
    assert_eq!(trial.kinds(), ["run_backend"]);
    trial.ask(2);
    trial.answer(2, NanoUsd(1));
    trial.ends(0);
    assert_eq!(trial.state.ending, Some(Ending::Done));
}

#[test]
fn a_cut_question_is_charged_and_not_asked_again_by_us() {
    let mut trial = Trial::budget(1.5);
    trial.ask(1);
    trial.ask(2);
    let cut = trial.call(1).key;
    trial.feed(Input::Resumed { at_ms: 5, allowances: vec![] });
    trial.feed(Input::OutcomeUnknown { key: cut });
    // The one that waited is forgotten; only the program itself is outstanding, and starts anew.
    assert_eq!(trial.kinds(), ["run_backend"]);
    assert!(!trial.is_asking(1) && !trial.is_asking(2));
    assert_eq!((trial.state.spend.cost, trial.state.reserved), (MOST, NanoUsd(0)));
    assert_eq!(trial.state.last_question(&"work".into()), 2);
    trial.check_replay();
}

#[test]
fn a_refusal_is_on_the_account_and_a_program_that_has_ended_is_not_heard() {
    let mut trial = Trial::budget(10.0);
    let refused = |what: &str| Input::AskRefused { step: "work".into(), what: what.into(), why: "a way out".into() };
    trial.feed(refused("tools[0].type: web_search"));
    let (what, ruling) = &trial.state.steps[0].denials[0];
    assert_eq!((what.as_str(), ruling.reason.as_str()), ("gateway `tools[0].type: web_search`", "a way out"));
    // An answer that nobody waits for is paid for all the same.
    trial.ask(1);
    trial.ends(0);
    assert_eq!((trial.state.spend.cost, trial.state.spend.calls), (MOST, 1));
    assert!(!trial.state.expects(&refused("late")) && !trial.state.expects(&Trial::question(2)));
}
