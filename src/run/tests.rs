//! The state machine without I/O: a story per test. `Play` answers effects the way a world would.

use super::*;
use crate::model::account::StepStatus;
use crate::model::chat::*;
use crate::model::delivery::{ChangeSet, Delivered, FileChange};
use crate::model::exec::{DriverKind, ExecMode, ExecOutcome, ExecStatus};
use crate::model::id::{EffectKey, RunId, StepId, TreeId};
use crate::model::journal::{Base, GateResult, Verdict};
use crate::model::plan::*;
use crate::model::policy::{Decision, Limits, Policy};
use crate::model::tool::{RuleRef, Ruling, ToolCall, ToolOutcome, ToolStatus};
use crate::model::usage::{CostSource, NanoUsd, Usage};
use indexmap::IndexMap;
use proptest::prelude::*;
use serde_json::json;
use std::collections::{BTreeMap, HashSet, VecDeque};

fn policy() -> Policy {
    Policy {
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
    }
}

fn command(id: &str, needs: &[&str]) -> PlanStep {
    PlanStep {
        id: id.into(),
        kind: StepKind::Run { command: format!("do {id}") },
        needs: needs.iter().map(|need| StepId::from(*need)).collect(),
        activation: Activation::All,
        condition: None,
        timeout_ms: None,
        attempts: 1,
        writes: true,
        own_copy: false,
        gates: vec![],
        on_failure: OnFailure::Fail,
        then: None,
        limits: Limits::default(),
        env: BTreeMap::new(),
    }
}

fn agent(id: &str, needs: &[&str]) -> PlanStep {
    let model = |name: &str| ModelRef {
        name: name.into(),
        provider: "openai".into(),
        model: name.into(),
        base_url: None,
        api_key: None,
        price: None,
        context_window: 100_000,
        max_output: 1000,
        tools: true,
        ..ModelRef::default()
    };
    PlanStep {
        kind: StepKind::Agent(AgentSpec {
            mode: "coder".into(),
            system_template: String::new(),
            prompt: String::new(),
            tools: vec!["read_file".into(), "write_file".into(), "finish".into()],
            read_only: false,
            scenario: "default".into(),
            models: vec![model("first"), model("second")],
            output: None,
            keep_observations: None,
            history_tokens: None,
            blocked_commands: vec![],
            ..AgentSpec::default()
        }),
        ..command(id, needs)
    }
}

fn plan(steps: Vec<PlanStep>, gates: &[(&str, OnGateFail)]) -> Plan {
    Plan {
        workflow: "w".into(),
        file: "w.yml".into(),
        workflow_hash: String::new(),
        inputs: BTreeMap::new(),
        trusted_inputs: vec![],
        event: json!(null),
        steps: steps.into_iter().map(|step| (step.id.clone(), step)).collect(),
        gates: gates
            .iter()
            .map(|(name, on_fail)| {
                let gate = Gate {
                    name: (*name).into(),
                    command: (*name).into(),
                    timeout_ms: 1000,
                    on_fail: *on_fail,
                    from_base: false,
                    paths: vec![],
                    hash: format!("hash of {name}"),
                };
                ((*name).to_owned(), gate)
            })
            .collect::<IndexMap<_, _>>(),
        policy: policy(),
        limits: Limits::default(),
        warn_at: vec![0.8],
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
            kind: DeliverKind::Patch,
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
    }
}

/// A world that answers effects; what it was asked for is its log.
struct Play {
    state: State,
    todo: VecDeque<Effect>,
    log: Vec<String>,
    inputs: Vec<Input>,
    tree: u32,
    gates: BTreeMap<String, VecDeque<Verdict>>,
    answers: BTreeMap<String, VecDeque<Result<Answer, ModelFault>>>,
    exits: BTreeMap<String, VecDeque<i32>>,
    denied: HashSet<String>,
    price: Option<NanoUsd>,
    seen: HashSet<EffectKey>,
}

impl Play {
    fn new(plan: Plan) -> Self {
        let started = Input::Started {
            run: RunId::from("r"),
            plan: Box::new(plan),
            base: Base { repo: "/repo".into(), commit: None, branch: None, tree: TreeId::from("t0"), dirty: vec![] },
            at_ms: 0,
            version: "test".into(),
            allowances: vec![],
        };
        let mut state = State::new(&started).unwrap();
        let todo = state.apply(0, started.clone()).into();
        Self {
            state,
            todo,
            log: vec![],
            inputs: vec![started],
            tree: 0,
            gates: BTreeMap::new(),
            answers: BTreeMap::new(),
            exits: BTreeMap::new(),
            denied: HashSet::new(),
            price: None,
            seen: HashSet::new(),
        }
    }

    fn gate(mut self, name: &str, verdicts: &[Verdict]) -> Self {
        self.gates.insert(name.into(), verdicts.iter().copied().collect());
        self
    }

    fn answers(mut self, step: &str, answers: Vec<Result<Answer, ModelFault>>) -> Self {
        self.answers.insert(step.into(), answers.into());
        self
    }

    fn exits(mut self, step: &str, codes: &[i32]) -> Self {
        self.exits.insert(step.into(), codes.iter().copied().collect());
        self
    }

    fn feed(&mut self, input: Input) {
        assert!(self.state.expects(&input), "not expected: {input:?}");
        self.inputs.push(input.clone());
        let effects = self.state.apply(self.state.now_ms + 1, input);
        self.todo.extend(effects);
    }

    fn perform(&mut self, effect: Effect) {
        assert!(self.seen.insert(effect.key.clone()), "asked for twice: {effect:?}");
        let step = effect.step.as_ref().map_or("run", |step| step.as_str()).to_owned();
        let key = effect.key.clone();
        self.log.push(match &effect.work {
            Work::CheckGate { gate, tree } => format!("{step}: gate {gate} on {tree}"),
            Work::Restore { tree } => format!("{step}: restore {tree}"),
            Work::CallTool { call } => format!("{step}: tool {}", call.name),
            Work::CallModel { model, .. } => format!("{step}: model {model}"),
            Work::Join { theirs } => {
                format!("{step}: join {}", theirs.iter().map(|it| it.2.as_str()).collect::<Vec<_>>().join("+"))
            }
            Work::Deliver { tree } => format!("{step}: deliver {tree}"),
            Work::Fork { tree } => format!("{step}: fork {tree}"),
            other => format!("{step}: {}", other.kind()),
        });
        let input = match effect.work {
            Work::Prepare => Input::Prepared { key, driver: "none".into(), workspace: "copy".into(), notes: vec![] },
            Work::Compose { .. } => Input::Composed {
                key,
                input_tokens: 900,
                estimated_tokens: 0,
                max_output: 100,
                cost: self.price,
                request_hash: "h".into(),
                prompt: None,
            },
            Work::CallModel { model, .. } => {
                match self.answers.get_mut(&step).and_then(VecDeque::pop_front).unwrap_or_else(|| Ok(done())) {
                    Ok(answer) => Input::Answered {
                        key,
                        answer,
                        bill: Bill {
                            model: ["first", "second"][model].into(),
                            usage: Some(Usage { input: 500, output: 50, ..Usage::default() }),
                            cost: self.price.map(|price| NanoUsd(price.0 / 2)),
                            source: CostSource::PriceTable,
                        },
                        requests: 1,
                    },
                    Err(fault) => Input::ModelFailed {
                        key,
                        error: ModelError {
                            fault,
                            message: format!("{fault:?}"),
                            status: None,
                            requests: 4,
                            bill: None,
                            retry_after_ms: None,
                        },
                    },
                }
            }
            Work::RunBackend => Input::EffectFailed { key, fault: Fault::Environment, message: "none here".into() },
            Work::CallTool { call } => {
                let denied = self.denied.contains(&call.name);
                let mut outcome = ToolOutcome::new(
                    if denied { ToolStatus::Denied } else { ToolStatus::Ok },
                    if denied { "`it` was not run" } else { "result" },
                );
                if denied {
                    outcome.ruling = Some(Ruling {
                        decision: Decision::Deny,
                        by: RuleRef { policy: "p".into(), rule: Some(1), file: "p.yml".into(), line: 3 },
                        reason: "no".into(),
                        advice: String::new(),
                        allow_with: None,
                    });
                }
                Input::ToolDone { key, outcome }
            }
            Work::RunCommand => {
                let code = self.exits.get_mut(&step).and_then(VecDeque::pop_front).unwrap_or(0);
                Input::CommandDone {
                    key,
                    outcome: ExecOutcome {
                        status: ExecStatus::Exited(code),
                        output: String::new(),
                        dropped: 0,
                        duration_ms: 1,
                    },
                }
            }
            Work::Snapshot { after } => {
                if after {
                    self.tree += 1;
                }
                let files = vec![FileChange {
                    path: "f".into(),
                    from: None,
                    kind: crate::model::delivery::ChangeKind::Added,
                    added: 1,
                    removed: 0,
                    mode: 0o100_644,
                }];
                Input::Snapshotted { key, tree: TreeId(format!("t{}", self.tree)), files }
            }
            Work::Restore { .. } => Input::Restored { key, discarded: "the failed diff".into() },
            Work::CheckGate { gate, tree } => {
                let verdict = self.gates.get_mut(&gate).and_then(VecDeque::pop_front).unwrap_or(Verdict::Pass);
                Input::GateDone {
                    key,
                    result: GateResult {
                        gate_hash: format!("hash of {gate}"),
                        gate,
                        tree,
                        verdict,
                        detail: "exit code 1".into(),
                        output: "1 failed".into(),
                        duration_ms: 1,
                    },
                }
            }
            Work::Fork { tree } => Input::Snapshotted { key, tree, files: vec![] },
            Work::Join { .. } => {
                self.tree += 1;
                Input::Joined { key, tree: TreeId(format!("t{}", self.tree)), conflicts: vec![] }
            }
            Work::Deliver { .. } => Input::DeliveryDone {
                key,
                delivered: Delivered {
                    kind: DeliverKind::Patch,
                    patch: Some("/p".into()),
                    commit: None,
                    branch: None,
                    changes: ChangeSet::default(),
                    changed: true,
                    published: None,
                },
            },
        };
        self.feed(input);
    }

    fn run(mut self) -> Self {
        while let Some(effect) = self.todo.pop_front() {
            self.perform(effect);
        }
        assert!(self.state.ending.is_some(), "stuck after {:#?}", self.log);
        self.check_replay();
        self
    }

    /// The state is a fold of its inputs: replaying them gives the same account.
    fn check_replay(&self) {
        let mut again = State::new(&self.inputs[0]).unwrap();
        for (at, input) in self.inputs.iter().enumerate() {
            again.apply(at as i64, input.clone());
        }
        assert_eq!(account(&again).ending, self.state.ending);
        assert_eq!(again.outstanding, self.state.outstanding);
        assert_eq!(again.spend, self.state.spend);
    }

    fn log(&self) -> String {
        self.log.join("\n")
    }

    fn status(&self, step: &str) -> StepStatus {
        self.state.step(&step.into()).unwrap().status
    }
}

fn done() -> Answer {
    Answer {
        text: "done".into(),
        calls: vec![],
        raw_calls: vec![],
        stop: StopReason::Stop,
        conclusion: Some(Ok(Conclusion { text: "done".into(), output: None })),
        reasoning: vec![],
    }
}

fn calls(names: &[&str]) -> Answer {
    Answer {
        calls: names
            .iter()
            .enumerate()
            .map(|(at, name)| ToolCall { id: format!("c{at}"), name: (*name).into(), args: json!({}), malformed: None })
            .collect(),
        conclusion: None,
        stop: StopReason::ToolCalls,
        ..done()
    }
}

fn bad(problem: &str) -> Answer {
    Answer { conclusion: Some(Err(problem.into())), ..done() }
}

#[test]
fn a_pure_command_pays_for_no_snapshot_and_the_final_tree_is_delivered() {
    let play = Play::new(plan(vec![command("a", &[]), command("b", &["a"])], &[])).run();
    insta::assert_snapshot!(play.log(), @r"
    run: prepare
    a: run_command
    b: run_command
    run: snapshot_after
    run: deliver t1
    ");
    assert_eq!(play.state.ending, Some(Ending::Done));
}

#[test]
fn a_failed_gate_rolls_back_and_the_next_attempt_is_told_why() {
    let mut step = agent("code", &[]);
    step.attempts = 2;
    step.gates = vec!["tests".into()];
    let play = Play::new(plan(vec![step], &[("tests", OnGateFail::Retry)]))
        .gate("tests", &[Verdict::Fail, Verdict::Pass])
        .run();
    insta::assert_snapshot!(play.log(), @r"
    run: prepare
    code: compose
    code: model 0
    code: snapshot_after
    code: gate tests on t1
    code: restore t0
    code: compose
    code: model 0
    code: snapshot_after
    code: gate tests on t2
    run: deliver t2
    ");
    assert_eq!(play.state.ending, Some(Ending::Done));
    let gates = &account(&play.state).steps[0].gates;
    assert_eq!(gates[0].2, "rolled back, attempt 2 of 2");
}

#[test]
fn feedback_reaches_the_second_attempt_and_attempts_run_out() {
    let mut step = agent("code", &[]);
    step.attempts = 2;
    step.gates = vec!["tests".into()];
    let mut play =
        Play::new(plan(vec![step], &[("tests", OnGateFail::Retry)])).gate("tests", &[Verdict::Fail, Verdict::Fail]);
    let mut told = None;
    while let Some(effect) = play.todo.pop_front() {
        if matches!(effect.work, Work::Compose { .. }) && effect.attempt == 2 {
            told = play.state.steps[0].feedback.clone();
        }
        play.perform(effect);
    }
    let told = told.unwrap();
    assert_eq!(told.discarded, "the failed diff");
    assert_eq!(told.gates[0].output, "1 failed");
    assert_eq!(play.state.ending, Some(Ending::Failed));
    assert_eq!(play.state.reason, "step `code`: gate `tests` did not pass (exit code 1) after 2 attempts");
    assert!(play.log().ends_with("code: restore t0"), "the last attempt is undone too");
}

#[test]
fn the_strictest_gate_wins_and_a_policy_turns_warnings_into_rollbacks() {
    let gates = [("lint", OnGateFail::Warn), ("tests", OnGateFail::Rollback)];
    let step = |gates: &[&str]| PlanStep {
        gates: gates.iter().map(|gate| (*gate).to_owned()).collect(),
        attempts: 3,
        ..agent("code", &[])
    };
    let both = Play::new(plan(vec![step(&["lint", "tests"])], &gates))
        .gate("lint", &[Verdict::Fail])
        .gate("tests", &[Verdict::Fail])
        .run();
    assert_eq!(both.state.ending, Some(Ending::Failed));
    let warned = Play::new(plan(vec![step(&["lint"])], &gates)).gate("lint", &[Verdict::Fail]).run();
    assert_eq!(warned.state.ending, Some(Ending::Done));
    assert!(warned.state.notes[0].contains("on_fail: warn"));
    let mut strict = plan(vec![step(&["lint"])], &gates);
    strict.policy.rollback_on_fail = true;
    let strict = Play::new(strict).gate("lint", &[Verdict::Fail]).run();
    assert_eq!(strict.state.ending, Some(Ending::Failed));
}

#[test]
fn a_gate_that_errors_never_passes() {
    let mut step = agent("code", &[]);
    step.gates = vec!["tests".into()];
    let play = Play::new(plan(vec![step], &[("tests", OnGateFail::Retry)])).gate("tests", &[Verdict::Error]).run();
    assert_eq!(play.state.ending, Some(Ending::Unavailable));
}

#[test]
fn a_required_gate_is_run_on_the_final_tree_and_stops_the_delivery() {
    let mut with = plan(vec![command("a", &[])], &[("tests", OnGateFail::Retry)]);
    with.policy.require_gates = vec!["tests".into()];
    let good = Play::new(with.clone()).run();
    assert!(good.log().contains("run: gate tests on t1\nrun: deliver t1"));
    let bad = Play::new(with).gate("tests", &[Verdict::Fail]).run();
    assert_eq!(bad.state.ending, Some(Ending::Failed));
    assert!(!bad.log().contains("deliver"));
}

#[test]
fn an_unacceptable_answer_is_sent_back_twice_and_no_more() {
    let good = Play::new(plan(vec![agent("a", &[])], &[])).answers("a", vec![Ok(bad("no json")), Ok(done())]).run();
    assert_eq!(good.state.ending, Some(Ending::Done));
    assert_eq!(good.state.steps[0].turns[0].say.as_deref(), Some("no json"));
    let lost = Play::new(plan(vec![agent("a", &[])], &[]))
        .answers("a", vec![Ok(bad("x")), Ok(bad("x")), Ok(bad("x")), Ok(done())])
        .run();
    assert_eq!(lost.state.ending, Some(Ending::Failed));
    assert_eq!(lost.state.spend.calls, 3);
}

#[test]
fn readers_run_side_by_side_and_writers_alone_in_order() {
    let names = ["read_file", "search", "write_file", "read_file", "finish"];
    let mut play = Play::new(plan(vec![agent("a", &[])], &[])).answers("a", vec![Ok(calls(&names))]);
    let mut most = Vec::new();
    while let Some(effect) = play.todo.pop_front() {
        let out: Vec<String> = play
            .state
            .outstanding
            .values()
            .filter_map(|effect| match &effect.work {
                Work::CallTool { call } => Some(call.name.clone()),
                _ => None,
            })
            .collect();
        most.push(out.join("+"));
        play.perform(effect);
    }
    assert!(most.contains(&"read_file+search".to_owned()), "{most:?}");
    assert!(most.contains(&"write_file".to_owned()), "{most:?}");
    assert!(most.iter().all(|out| out == "write_file" || !out.contains("write_file")), "{most:?}");
}

#[test]
fn a_stalled_agent_is_nudged_once_then_stopped_and_denials_are_told_apart() {
    let mut step = agent("a", &[]);
    step.limits.stall_threshold = Some(3);
    let again = || (0..12).map(|_| Ok(calls(&["read_file"]))).collect::<Vec<_>>();
    let play = Play::new(plan(vec![step.clone()], &[])).answers("a", again()).run();
    assert_eq!(play.state.ending, Some(Ending::Limit));
    assert_eq!(play.state.spend.calls, 6, "three, a nudge, three more");
    let mut denied = Play::new(plan(vec![step], &[])).answers("a", again());
    denied.denied.insert("read_file".into());
    let denied = denied.run();
    assert_eq!(denied.state.ending, Some(Ending::Denied));
    assert_eq!(account(&denied.state).steps[0].denials.len(), 6);
}

#[test]
fn turns_are_limited_and_a_fallback_model_takes_over() {
    let mut step = agent("a", &[]);
    step.limits.max_turns = Some(2);
    let play = Play::new(plan(vec![step], &[]))
        .answers("a", vec![Ok(calls(&["read_file"])), Ok(calls(&["search"])), Ok(done())])
        .run();
    assert_eq!(play.state.ending, Some(Ending::Limit));
    let fallback =
        Play::new(plan(vec![agent("a", &[])], &[])).answers("a", vec![Err(ModelFault::RateLimited), Ok(done())]).run();
    assert!(fallback.log().contains("a: model 0\na: compose\na: model 1"));
    assert_eq!(fallback.state.ending, Some(Ending::Done));
    let gone = Play::new(plan(vec![agent("a", &[])], &[]))
        .answers("a", vec![Err(ModelFault::Timeout), Err(ModelFault::Unavailable)])
        .run();
    assert_eq!(gone.state.ending, Some(Ending::Unavailable));
}

#[test]
fn a_condition_skips_and_a_status_function_runs_after_failure() {
    let mut cleanup = command("cleanup", &["a"]);
    cleanup.condition = Some("failure()".into());
    let play = Play::new(plan(vec![command("a", &[]), command("b", &["a"]), cleanup], &[])).exits("a", &[1]).run();
    assert_eq!(play.status("a"), StepStatus::Failed);
    assert_eq!(play.status("b"), StepStatus::Skipped);
    assert_eq!(play.status("cleanup"), StepStatus::Succeeded);
    assert_eq!(play.state.ending, Some(Ending::Failed));
}

#[test]
fn a_forgiven_failure_lets_the_run_go_on() {
    let mut shaky = command("a", &[]);
    shaky.on_failure = OnFailure::Continue;
    let play = Play::new(plan(vec![shaky, command("b", &["a"])], &[])).exits("a", &[1]).run();
    assert_eq!(play.status("b"), StepStatus::Succeeded);
    assert_eq!(play.state.ending, Some(Ending::Done));
}

#[test]
fn a_cycle_is_bounded_and_an_exhausted_bound_fails() {
    let steps = || {
        let mut repair = command("repair", &["review"]);
        repair.then = Some(Goto { target: "review".into(), max_iterations: 2 });
        vec![command("work", &[]), command("review", &["work"]), repair]
    };
    let play = Play::new(plan(steps(), &[])).run();
    assert_eq!(play.log.iter().filter(|line| *line == "review: run_command").count(), 3);
    assert_eq!(play.log.iter().filter(|line| *line == "work: run_command").count(), 1);
    assert_eq!(play.state.ending, Some(Ending::Failed));
    assert!(play.state.reason.contains("its bound"), "{}", play.state.reason);
}

#[test]
fn a_cycle_ends_when_its_condition_does() {
    let mut repair = command("repair", &["review"]);
    repair.condition = Some("steps.review.text == 'again'".into());
    repair.then = Some(Goto { target: "review".into(), max_iterations: 2 });
    let play = Play::new(plan(vec![command("review", &[]), repair], &[])).run();
    assert_eq!(play.status("repair"), StepStatus::Skipped);
    assert_eq!(play.state.ending, Some(Ending::Done));
}

#[test]
fn concurrent_writers_have_copies_that_are_joined_where_needed() {
    let copy = |id: &str, needs: &[&str]| PlanStep { own_copy: true, ..agent(id, needs) };
    let play =
        Play::new(plan(vec![copy("left", &[]), copy("right", &[]), agent("both", &["left", "right"])], &[])).run();
    assert!(play.log().contains("left: fork t0"));
    assert!(play.log().contains("both: join left+right"), "{}", play.log());
    let ends = Play::new(plan(vec![copy("left", &[]), copy("right", &[])], &[])).run();
    assert!(ends.log().contains("run: join left+right\nrun: deliver"), "{}", ends.log());
}

#[test]
fn money_is_reserved_before_a_call_and_the_budget_holds() {
    let mut dear = plan(vec![agent("a", &[])], &[]);
    dear.limits.max_cost_usd = Some(0.025);
    let mut play = Play::new(dear.clone()).answers("a", (0..9).map(|_| Ok(calls(&["read_file"]))).collect());
    play.price = Some(NanoUsd::from_usd(0.01));
    let play = play.run();
    assert_eq!(play.state.ending, Some(Ending::Limit));
    assert_eq!(play.state.spend.calls, 4, "reserved 0.010 each, billed 0.005 each: the fifth could reach 0.030");
    assert!(play.state.notes.iter().any(|note| note.starts_with("80 % of the budget")));
}

#[test]
fn a_cut_call_is_charged_its_reservation_and_made_again_under_another_key() {
    let mut play = Play::new(plan(vec![agent("a", &[])], &[]));
    play.price = Some(NanoUsd::from_usd(0.01));
    while !play.todo.iter().any(|effect| matches!(effect.work, Work::CallModel { .. })) {
        let effect = play.todo.pop_front().unwrap();
        play.perform(effect);
    }
    let cut = play.todo.pop_front().unwrap();
    play.feed(Input::OutcomeUnknown { key: cut.key.clone() });
    let play = play.run();
    assert!(!play.seen.contains(&cut.key));
    assert_eq!(play.state.spend.calls, 2);
    assert_eq!(play.state.spend.cost, NanoUsd::from_usd(0.015));
}

#[test]
fn a_limit_publishes_what_was_green_where_asked() {
    let mut good = agent("good", &[]);
    good.gates = vec!["tests".into()];
    let mut slow = agent("slow", &["good"]);
    slow.limits.max_turns = Some(1);
    let mut both = plan(vec![good, slow], &[("tests", OnGateFail::Retry)]);
    both.deliver.when = DeliverWhen::LastGreen;
    let play = Play::new(both).answers("slow", vec![Ok(calls(&["read_file"]))]).run();
    assert_eq!(play.state.ending, Some(Ending::Limit));
    assert!(play.log().ends_with("run: deliver t1"), "{}", play.log());
}

#[test]
fn the_runs_deadline_cancels_what_is_at_work() {
    let mut timed = plan(vec![command("a", &[])], &[]);
    timed.limits.timeout_ms = Some(1000);
    let mut play = Play::new(timed);
    let prepare = play.todo.pop_front().unwrap();
    play.perform(prepare);
    assert_eq!(play.state.next_deadline().unwrap().at_ms, 1000);
    play.feed(Input::DeadlinePassed { step: None });
    assert_eq!(play.state.ending, Some(Ending::Limit));
    assert_eq!(play.status("a"), StepStatus::Cancelled);
}

#[test]
fn nothing_to_change_is_said_and_is_a_failure_only_where_asked() {
    let mut look = agent("look", &[]);
    look.writes = false;
    let quiet = Play::new(plan(vec![look.clone()], &[])).run();
    assert_eq!(quiet.state.ending, Some(Ending::Done));
    assert!(!quiet.state.delivered.clone().unwrap().changed);
    let mut asked = plan(vec![look], &[]);
    asked.deliver.fail_if_no_changes = true;
    assert_eq!(Play::new(asked).run().state.ending, Some(Ending::Failed));
}

proptest! {
    /// Whatever order results come in, the budget holds at every prefix and every run ends.
    #[test]
    fn any_interleaving_keeps_the_budget_and_ends(
        order in prop::collection::vec(any::<u8>(), 200),
        budget in 1u64..40,
        edges in prop::collection::vec((0usize..6, 0usize..6), 0..8),
    ) {
        let mut steps: Vec<PlanStep> = (0..6)
            .map(|at| PlanStep { writes: false, ..agent(&format!("s{at}"), &[]) })
            .collect();
        for (from, to) in edges {
            let (low, high) = (from.min(to), from.max(to));
            let need = StepId(format!("s{low}"));
            if low != high && !steps[high].needs.contains(&need) {
                steps[high].needs.push(need);
            }
        }
        let mut with = plan(steps, &[]);
        let cap = NanoUsd::from_usd(budget as f64 / 1000.0);
        with.limits.max_cost_usd = Some(cap.usd());
        let mut play = Play::new(with);
        play.price = Some(NanoUsd::from_usd(0.004));
        for at in 0..6 {
            play.answers.insert(format!("s{at}"), vec![Ok(calls(&["read_file", "search"])), Ok(done())].into());
        }
        let mut order = order.into_iter().cycle();
        while !play.todo.is_empty() {
            let at = usize::from(order.next().unwrap_or(0)) % play.todo.len();
            if let Some(effect) = play.todo.remove(at)
                && play.state.outstanding.contains_key(&effect.key)
            {
                play.perform(effect);
            }
            prop_assert!(play.state.spend.cost.plus(play.state.reserved) <= cap);
        }
        prop_assert!(play.state.ending.is_some());
        prop_assert_eq!(play.state.reserved, NanoUsd::default());
    }
}
