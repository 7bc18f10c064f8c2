//! Stories of the quality layer without I/O. The world answers from the state alone, so a run that is cut after any input
//! and taken up again must come to the same end.

use super::*;
use crate::model::account::StepStatus;
use crate::model::chat::{Bill, ModelRef};
use crate::model::delivery::{ChangeSet, Delivered};
use crate::model::exec::{DriverKind, ExecMode};
use crate::model::id::{RunId, StepId};
use crate::model::journal::{Base, GateResult, Input, Verdict};
use crate::model::plan::*;
use crate::model::policy::{Decision, Limits, Policy};
use crate::model::quality::*;
use crate::model::tool::{ToolCall, ToolOutcome, ToolStatus};
use crate::model::usage::{CostSource, NanoUsd, Usage};
use crate::run::account;
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

fn voice(name: &str) -> Voice {
    let model = |name: String| ModelRef { name, ..ModelRef::default() };
    Voice {
        name: name.into(),
        models: vec![model(format!("{name}-model")), model(format!("{name}-spare"))],
        ..Voice::default()
    }
}

fn sampling(choose: ChooseBy) -> Quality {
    let judge = voice("judge");
    Quality { action_sampling: Some(ActionSampling { n: 3, choose, temperature: None, judge }), ..Quality::default() }
}

fn best(by: BestBy) -> Quality {
    let best = BestOf { n: 3, by, reviewer: voice("reviewer"), min_score: Some(9.0), min_budget_for_new_attempt: 0.20 };
    Quality { best_of: Some(best), ..Quality::default() }
}

fn guard(on: GuardOn) -> Quality {
    Quality { guardrail: Some(Guardrail { guard: voice("guard"), on, max_rejections: 1 }), ..Quality::default() }
}

fn agent(quality: Quality) -> PlanStep {
    PlanStep {
        id: "a".into(),
        kind: StepKind::Agent(AgentSpec {
            mode: "coder".into(),
            tools: vec!["write_file".into(), "finish".into()],
            models: vec![ModelRef { name: "own".into(), ..ModelRef::default() }],
            quality: Some(Box::new(quality)),
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
        limits: Limits::default(),
        env: BTreeMap::new(),
    }
}

fn plan(step: PlanStep) -> Plan {
    let gate = |name: &String| Gate {
        name: name.clone(),
        command: name.clone(),
        timeout_ms: 1000,
        on_fail: OnGateFail::Retry,
        from_base: false,
        paths: vec![],
        hash: format!("hash of {name}"),
    };
    Plan {
        workflow: "w".into(),
        file: "w.yml".into(),
        workflow_hash: String::new(),
        inputs: BTreeMap::new(),
        trusted_inputs: vec![],
        event: json!(null),
        gates: step.gates.iter().map(|name| (name.clone(), gate(name))).collect(),
        steps: [(StepId::from("a"), step)].into_iter().collect(),
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

fn says(text: &str) -> Answer {
    Answer {
        text: text.into(),
        calls: vec![],
        raw_calls: vec![],
        stop: StopReason::Stop,
        conclusion: Some(Ok(Conclusion { text: text.into(), output: None })),
        reasoning: vec![],
    }
}

fn data(output: Value) -> Answer {
    Answer { conclusion: Some(Ok(Conclusion { text: String::new(), output: Some(output) })), ..says("") }
}

fn writes(content: &str) -> Answer {
    let call = ToolCall {
        id: "c".into(),
        name: "write_file".into(),
        args: json!({ "path": "f", "content": content }),
        malformed: None,
    };
    Answer { calls: vec![call], conclusion: None, stop: StopReason::ToolCalls, ..says("") }
}

type Model = Rc<dyn Fn(&State, &Purpose) -> Result<Answer, ModelFault>>;

/// A world that answers from the state alone. The workspace is the last text that was written.
#[derive(Clone)]
struct World {
    state: State,
    todo: VecDeque<Effect>,
    log: Vec<String>,
    inputs: Vec<Input>,
    /// The workspace after each input.
    workspace: Vec<String>,
    /// What was outstanding after each input.
    outstanding: Vec<Vec<Effect>>,
    model: Model,
    price: NanoUsd,
}

impl World {
    fn new(plan: Plan, price: f64, model: impl Fn(&State, &Purpose) -> Result<Answer, ModelFault> + 'static) -> Self {
        let started = Input::Started {
            run: RunId::from("r"),
            plan: Box::new(plan),
            base: Base { repo: "/repo".into(), commit: None, branch: None, tree: TreeId::from("start"), dirty: vec![] },
            at_ms: 0,
            version: "test".into(),
            allowances: vec![],
        };
        let mut state = State::new(&started).unwrap();
        let todo = state.apply(0, started.clone()).into();
        let outstanding = vec![state.outstanding.values().cloned().collect()];
        Self {
            outstanding,
            state,
            todo,
            log: vec![],
            inputs: vec![started],
            workspace: vec!["start".into()],
            model: Rc::new(model),
            price: NanoUsd::from_usd(price),
        }
    }

    fn feed(&mut self, input: Input, workspace: Option<String>) {
        assert!(self.state.expects(&input), "not expected: {input:?}");
        self.inputs.push(input.clone());
        let now = self.workspace.last().unwrap().clone();
        self.workspace.push(workspace.unwrap_or(now));
        let effects = self.state.apply(self.inputs.len() as i64, input);
        self.todo.extend(effects);
        self.outstanding.push(self.state.outstanding.values().cloned().collect());
    }

    fn perform(&mut self, effect: Effect) {
        let key = effect.key.clone();
        let now = self.workspace.last().unwrap().clone();
        self.log.push(match &effect.work {
            Work::CallModel { purpose, .. } => format!("call {}", name_of(purpose)),
            Work::CallTool { call } => format!("write {}", call.args["content"].as_str().unwrap()),
            Work::Restore { tree } => format!("restore {tree}"),
            Work::CheckGate { gate, tree } => format!("gate {gate} on {tree}"),
            Work::Deliver { tree } => format!("deliver {tree}"),
            other => other.kind().to_owned(),
        });
        match effect.work {
            Work::Prepare => {
                let notes = vec![];
                self.feed(Input::Prepared { key, driver: "none".into(), workspace: "copy".into(), notes }, None);
            }
            Work::Compose { .. } => {
                self.log.pop();
                let cost = Some(self.price);
                let (request_hash, prompt) = ("h".into(), None);
                self.feed(
                    Input::Composed {
                        key,
                        input_tokens: 90,
                        estimated_tokens: 0,
                        max_output: 10,
                        cost,
                        request_hash,
                        prompt,
                    },
                    None,
                );
            }
            Work::CallModel { purpose, .. } => {
                let model = self.model.clone();
                let input = match model(&self.state, &purpose) {
                    Ok(answer) => {
                        let bill = Bill {
                            model: name_of(&purpose),
                            usage: Some(Usage { input: 90, output: 10, ..Usage::default() }),
                            cost: Some(self.price),
                            source: CostSource::PriceTable,
                        };
                        Input::Answered { key, answer, bill, requests: 1 }
                    }
                    Err(fault) => {
                        let message = format!("{fault:?}");
                        let error =
                            ModelError { fault, message, status: None, requests: 1, bill: None, retry_after_ms: None };
                        Input::ModelFailed { key, error }
                    }
                };
                self.feed(input, None);
            }
            Work::CallTool { call } => {
                let content = call.args["content"].as_str().unwrap().to_owned();
                self.feed(Input::ToolDone { key, outcome: ToolOutcome::new(ToolStatus::Ok, "written") }, Some(content));
            }
            Work::Snapshot { .. } => {
                self.feed(Input::Snapshotted { key, tree: TreeId(now), files: vec![] }, None);
            }
            Work::Restore { tree } => {
                self.feed(Input::Restored { key, discarded: String::new() }, Some(tree.to_string()));
            }
            Work::CheckGate { gate, tree } => {
                let verdict = if tree.as_str().contains("bad") { Verdict::Fail } else { Verdict::Pass };
                let result = GateResult {
                    gate_hash: format!("hash of {gate}"),
                    gate,
                    tree,
                    verdict,
                    detail: "exit code 1".into(),
                    output: String::new(),
                    duration_ms: 1,
                };
                self.feed(Input::GateDone { key, result }, None);
            }
            Work::Deliver { .. } => {
                let delivered = Delivered {
                    kind: DeliverKind::Patch,
                    patch: None,
                    commit: None,
                    branch: None,
                    changes: ChangeSet::default(),
                    changed: true,
                    published: None,
                };
                self.feed(Input::DeliveryDone { key, delivered }, None);
            }
            Work::Fork { tree } => {
                self.feed(Input::Snapshotted { key, tree: tree.clone(), files: vec![] }, Some(tree.to_string()));
            }
            Work::Join { theirs } => {
                let tree = theirs[0].1.clone();
                self.feed(Input::Joined { key, tree, conflicts: vec![] }, None);
            }
            other => panic!("{other:?}"),
        }
    }

    fn finish(mut self) -> Self {
        while let Some(effect) = self.todo.pop_front() {
            if self.state.outstanding.contains_key(&effect.key) {
                self.perform(effect);
            }
        }
        assert!(self.state.ending.is_some(), "stuck after {:#?}", self.log);
        assert_eq!(self.state.reserved, NanoUsd::default());
        self
    }

    /// Plays to the end; then once more from after each input, as if the engine had been killed there.
    fn run(self) -> Self {
        let (fresh, done) = (self.clone(), self.finish());
        for cut in 1..done.inputs.len() {
            let mut again = World { log: vec![], todo: VecDeque::new(), ..fresh.clone() };
            again.inputs.truncate(1);
            for (at, input) in done.inputs.iter().enumerate().take(cut).skip(1) {
                again.inputs.push(input.clone());
                again.state.apply(at as i64 + 1, input.clone());
            }
            again.workspace = done.workspace[..cut].to_vec();
            let outstanding: Vec<Effect> = again.state.outstanding.values().cloned().collect();
            assert_eq!(outstanding, done.outstanding[cut - 1], "a fold of its journal");
            again.feed(Input::Resumed { at_ms: 0, allowances: vec![] }, None);
            let outstanding: Vec<Effect> = again.state.outstanding.values().cloned().collect();
            for effect in outstanding {
                // A compose is never outstanding in a journal: it is answered before the commit.
                match effect.work {
                    Work::CallModel { .. } => again.feed(Input::OutcomeUnknown { key: effect.key }, None),
                    _ => again.todo.push_front(effect),
                }
            }
            let again = again.finish();
            let what = format!("cut after {cut}: {:?}\n{:#?}", done.inputs[cut - 1], again.log);
            // A cut call is charged and made again, so a tight budget may run out; nothing else may differ.
            if done.state.plan.limits.max_cost_usd.is_none() {
                assert_eq!(again.state.ending, done.state.ending, "{what}");
                assert_eq!(again.workspace.last(), done.workspace.last(), "{what}");
                assert_eq!(again.state.steps[0].text, done.state.steps[0].text, "{what}");
                assert_eq!(again.state.steps[0].turns.len(), done.state.steps[0].turns.len(), "{what}");
            }
        }
        done
    }

    fn calls(&self) -> Vec<&str> {
        self.log.iter().filter_map(|line| line.strip_prefix("call ")).collect()
    }

    fn count(&self, call: &str) -> usize {
        self.calls().iter().filter(|line| **line == call).count()
    }

    fn told(&self) -> Vec<String> {
        account(&self.state).steps[0].quality.told.clone()
    }

    fn step(&self) -> &crate::run::StepState {
        &self.state.steps[0]
    }
}

fn name_of(purpose: &Purpose) -> String {
    match purpose {
        Purpose::Sample(at) => format!("sample {at}"),
        Purpose::Speech { side, round } => format!("{side:?} {round}"),
        other => other.word().to_owned(),
    }
}

fn turns(state: &State) -> usize {
    state.steps[0].turns.len()
}

/// Who judges prefers the longer text, and says so whichever place it stands at.
fn longer(state: &State) -> Answer {
    let quality = &state.steps[0].quality;
    let Some(Asking { ask: Ask::Compare { first, second }, .. }) = quality.asking else { panic!("{quality:?}") };
    let length = |at: usize| quality.candidates[at].calls[0].args.to_string().len();
    data(json!({ "winner": if length(first) > length(second) { "A" } else { "B" }, "reason": "" }))
}

#[test]
fn samples_that_agree_need_no_judge_and_a_judge_settles_a_split() {
    let world = World::new(plan(agent(sampling(ChooseBy::Pairwise))), 0.01, |state, purpose| {
        Ok(match (purpose, turns(state)) {
            (Purpose::Sample(at), 0) => writes(["aa", "bbbb", "aa"][*at as usize]),
            (Purpose::Sample(_), _) => says("done"),
            (Purpose::Choose, _) => longer(state),
            other => panic!("{other:?}"),
        })
    })
    .run();
    assert_eq!(world.state.ending, Some(Ending::Done));
    insta::assert_snapshot!(world.log.join("\n"), @r"
    prepare
    call sample 0
    call sample 1
    call sample 2
    call judge
    call judge
    write bbbb
    call sample 0
    call sample 1
    call sample 2
    snapshot_after
    deliver bbbb
    ");
    assert_eq!(turns(&world.state), 2, "only what was chosen is the conversation");
    assert_eq!(world.told(), ["sampled 2 turns: 1 without a judge"]);
    let spent = &world.step().quality.spent;
    assert_eq!((spent["sample"].calls, spent["judge"].calls, world.state.spend.calls), (6, 2, 8));
}

#[test]
fn three_different_answers_are_compared_in_both_orders_until_nobody_can_win_any_more() {
    let story = |judge: fn(&State) -> Answer| {
        World::new(plan(agent(sampling(ChooseBy::Pairwise))), 0.01, move |state, purpose| {
            Ok(match (purpose, turns(state)) {
                (Purpose::Sample(at), 0) => writes(["a", "ccc", "bb"][*at as usize]),
                (Purpose::Choose, _) => judge(state),
                _ => says("done"),
            })
        })
        .run()
    };
    let fair = story(longer);
    assert_eq!((fair.workspace.last().unwrap().as_str(), fair.count("judge")), ("ccc", 5), "the sixth changes nothing");
    let lazy = story(|_| data(json!({ "winner": "A", "reason": "it stands first" })));
    assert_eq!(lazy.workspace.last().unwrap(), "a", "a preference for a place decides nothing: the earlier is taken");
    let mute = story(|_| Answer { conclusion: Some(Err("no JSON".into())), ..says("hm") });
    assert_eq!(mute.workspace.last().unwrap(), "a");
    assert!(mute.count("judge") <= 12 && mute.state.notes[0].contains("counts for nobody"), "{:?}", mute.state.notes);
}

#[test]
fn a_judge_may_write_the_answer_and_its_fallback_takes_over() {
    let world =
        World::new(plan(agent(sampling(ChooseBy::Synthesise))), 0.01, |state, purpose| match (purpose, turns(state)) {
            (Purpose::Sample(at), 0) => Ok(writes(["a", "b", "c"][*at as usize])),
            (Purpose::Choose, _) if state.steps[0].tried.is_empty() => Err(ModelFault::RateLimited),
            (Purpose::Choose, _) => Ok(writes("abc")),
            _ => Ok(says("done")),
        })
        .run();
    assert_eq!(world.workspace.last().unwrap(), "abc");
    assert_eq!(world.count("judge"), 2);
    assert!(
        world.state.notes[0].contains("`judge-spare` is asked while `judge-model` rests"),
        "{:?}",
        world.state.notes
    );
}

#[test]
fn samples_that_cannot_be_paid_are_left_out_as_long_as_one_can() {
    let story = |budget: f64| {
        let mut plan = plan(agent(sampling(ChooseBy::Pairwise)));
        plan.limits.max_cost_usd = Some(budget);
        World::new(plan, 0.01, |state, purpose| {
            Ok(match (purpose, turns(state)) {
                (Purpose::Sample(at), 0) => writes(["a", "b", "c"][*at as usize]),
                (Purpose::Choose, _) => data(json!({ "winner": "B", "reason": "" })),
                _ => says("done"),
            })
        })
        .run()
    };
    // Three samples and one comparison, in which the second wins; then nothing is left for another, nor for a turn.
    let all = story(0.045);
    assert_eq!(all.calls(), ["sample 0", "sample 1", "sample 2", "judge"]);
    assert!(all.log.contains(&"write b".to_owned()), "the one that leads is taken: {:?}", all.log);
    assert_eq!(all.state.ending, Some(Ending::Limit));
    let two = story(0.025);
    assert_eq!(two.calls(), ["sample 0", "sample 1"]);
    assert!(two.state.notes.iter().any(|note| note.contains("answer 3 of 3 is left out")), "{:?}", two.state.notes);
    assert!(two.state.notes.iter().any(|note| note.contains("the judge cannot be had")), "{:?}", two.state.notes);
    assert!(two.log.contains(&"write a".to_owned()), "the first one is taken: {:?}", two.log);
    let one = story(0.015);
    assert_eq!(one.calls(), ["sample 0"]);
    assert!(one.log.contains(&"write a".to_owned()));
    let none = story(0.005);
    assert!(none.calls().is_empty());
    assert!(none.state.reason.contains("budget.max_cost_usd"), "{}", none.state.reason);
}

/// Attempts write `texts` in turn, the reviewer's scores are `scores`.
fn attempts(
    quality: Quality,
    gates: &[&str],
    texts: &'static [&'static str],
    scores: &'static [f64],
    change: impl FnOnce(&mut Plan),
) -> World {
    let mut plan = plan(PlanStep { gates: gates.iter().map(|gate| (*gate).into()).collect(), ..agent(quality) });
    change(&mut plan);
    World::new(plan, 0.01, move |state, purpose| {
        let at = state.steps[0].quality.tried.len();
        Ok(match (purpose, turns(state)) {
            (Purpose::Turn, 0) => writes(texts[at]),
            (Purpose::Turn, _) => says(&format!("wrote {}", texts[at])),
            (Purpose::Choose, _) => match state.steps[0].quality.asking.as_ref().unwrap().ask {
                Ask::Pick => data(json!({ "best": 2, "reason": "it is shorter" })),
                _ => data(json!({ "score": scores[at - 1], "reason": "so so" })),
            },
            other => panic!("{other:?}"),
        })
    })
    .run()
}

#[test]
fn of_several_attempts_the_best_that_passes_is_put_back_and_kept() {
    let world = attempts(best(BestBy::Score), &["tests"], &["one", "bad two", "three"], &[7.0, 0.0, 5.0], |_| {});
    insta::assert_snapshot!(world.log.join("\n"), @r"
    prepare
    call turn
    write one
    call turn
    snapshot_after
    gate tests on one
    call judge
    restore start
    call turn
    write bad two
    call turn
    snapshot_after
    gate tests on bad two
    restore start
    call turn
    write three
    call turn
    snapshot_after
    gate tests on three
    call judge
    restore one
    deliver one
    ");
    assert_eq!(world.state.ending, Some(Ending::Done));
    let step = world.step();
    assert_eq!((step.text.as_str(), step.after.as_ref().unwrap().as_str()), ("wrote one", "one"));
    assert_eq!(step.gates.last().unwrap().result.verdict, Verdict::Pass, "the kept attempt's verdict is the step's");
    assert_eq!(
        world.told(),
        [
            "attempt 1 of 3: score 7, so so (kept)",
            "attempt 2 of 3: its gates did not pass",
            "attempt 3 of 3: score 5, so so"
        ]
    );
}

#[test]
fn a_good_enough_score_ends_it_and_a_reviewer_may_choose_among_all() {
    let early = attempts(best(BestBy::Score), &["tests"], &["one", "two", "three"], &[8.0, 9.5, 10.0], |_| {});
    assert_eq!((early.workspace.last().unwrap().as_str(), early.count("judge")), ("two", 2));
    let chosen = attempts(best(BestBy::Choose), &["tests"], &["one", "two", "three"], &[], |_| {});
    assert_eq!((chosen.workspace.last().unwrap().as_str(), chosen.count("judge")), ("two", 1));
    let alone = attempts(best(BestBy::Choose), &["tests"], &["bad one", "two", "bad three"], &[], |_| {});
    assert_eq!((alone.workspace.last().unwrap().as_str(), alone.count("judge")), ("two", 0), "nothing to choose");
}

#[test]
fn where_none_passes_the_last_failure_takes_its_ordinary_way() {
    let world = attempts(best(BestBy::Score), &["tests"], &["bad 1", "bad 2", "bad 3"], &[], |_| {});
    assert_eq!(world.state.ending, Some(Ending::Failed));
    assert_eq!(world.state.reason, "step `a`: gate `tests` did not pass (exit code 1)");
    assert!(world.state.notes.iter().any(|note| note.contains("none of 3 attempts passed")));
    assert_eq!(world.workspace.last().unwrap(), "start");
    assert_eq!(world.step().gates.len(), 3);
    assert_eq!(world.step().gates[2].led_to, "rolled back");
}

#[test]
fn no_attempt_begins_without_the_money_for_it() {
    // Each attempt costs 0.03; the second leaves 0.19.
    let texts = &["one", "two", "three"];
    let world = attempts(best(BestBy::Score), &[], texts, &[5.0, 6.0, 7.0], |plan| {
        plan.limits.max_cost_usd = Some(0.25);
    });
    assert_eq!((world.workspace.last().unwrap().as_str(), world.count("turn")), ("two", 4));
    let note = &world.state.notes[0];
    assert!(note.contains("no attempt after 2 of 3") && note.contains("$0.19") && note.contains("$0.20"), "{note}");
    let world = attempts(best(BestBy::Score), &[], texts, &[5.0, 6.0, 7.0], |plan| {
        plan.steps[0].limits.max_cost_per_step_usd = Some(0.21);
    });
    assert_eq!(world.count("turn"), 2, "the step's own budget counts as well");
}

#[test]
fn attempts_in_a_copy_of_their_own_hand_over_the_best_and_readers_restore_nothing() {
    let texts = &["one", "two", "three"];
    let copy = attempts(best(BestBy::Score), &[], texts, &[7.0, 6.0, 5.0], |plan| plan.steps[0].own_copy = true);
    assert!(copy.log.ends_with(&["restore one".into(), "join".into(), "deliver one".into()]), "{:#?}", copy.log);
    let mut reads = agent(best(BestBy::Score));
    reads.writes = false;
    let reader = World::new(plan(reads), 0.01, |state, purpose| {
        let at = state.steps[0].quality.tried.len();
        Ok(match purpose {
            Purpose::Choose => data(json!({ "score": ([4, 8, 6][at - 1]), "reason": "" })),
            _ => says(&format!("plan {at}")),
        })
    })
    .run();
    assert_eq!((reader.step().text.as_str(), reader.step().attempt), ("plan 1", 2), "the second of three, from 0");
    assert!(!reader.log.iter().any(|line| line.starts_with("restore") || line.starts_with("snapshot")));
}

#[test]
fn an_attempt_whose_time_is_up_is_lost_and_the_next_has_time_of_its_own() {
    let mut plan = plan(agent(best(BestBy::Score)));
    plan.steps[0].timeout_ms = Some(1000);
    let mut world = World::new(plan, 0.01, |state, purpose| {
        Ok(match (purpose, turns(state)) {
            (Purpose::Choose, _) => data(json!({ "score": 10, "reason": "" })),
            (_, 0) => writes("x"),
            _ => says("done"),
        })
    });
    while !world.log.contains(&"write x".to_owned()) {
        let effect = world.todo.pop_front().unwrap();
        world.perform(effect);
    }
    let step = Some(StepId::from("a"));
    world.state.now_ms = 5000;
    world.feed(Input::DeadlinePassed { step }, None);
    assert!(world.state.next_deadline().unwrap().at_ms > 5000);
    let world = world.finish();
    assert_eq!(world.state.ending, Some(Ending::Done));
    assert!(world.told()[0].contains("ran past its time limit") && world.told()[1].ends_with("(kept)"));
}

#[test]
fn an_attempt_that_fails_on_its_own_is_lost_and_the_others_go_on() {
    let mut plan = plan(agent(best(BestBy::Score)));
    plan.steps[0].limits.max_turns = Some(2);
    let world = World::new(plan, 0.01, |state, purpose| {
        let at = state.steps[0].quality.tried.len();
        Ok(match (purpose, turns(state)) {
            (Purpose::Choose, _) => data(json!({ "score": 6, "reason": "fine" })),
            (_, 0) => writes("x"),
            (_, _) if at == 1 => says("done"),
            _ => writes("round and round"),
        })
    })
    .run();
    assert_eq!(world.state.ending, Some(Ending::Done));
    assert_eq!(world.log.iter().filter(|line| *line == "restore start").count(), 2);
    assert_eq!((world.workspace.last().unwrap().as_str(), world.step().quality.kept), ("x", Some(2)));
    assert!(world.told()[2].contains("used up its 2 turns"), "{:?}", world.told());
}

fn rejects(feedback: &str) -> Answer {
    data(json!({ "verdict": "reject", "feedback": feedback }))
}

fn accepts() -> Answer {
    data(json!({ "verdict": "accept", "feedback": "" }))
}

#[test]
fn a_guard_sends_a_conclusion_back_with_its_words_then_accepts() {
    let world = World::new(plan(agent(guard(GuardOn::Conclusion))), 0.01, |state, purpose| {
        let written = state.steps[0].turns.iter().filter(|turn| !turn.answer.calls.is_empty()).count();
        let told = state.steps[0].turns.last().and_then(|turn| turn.say.clone());
        Ok(match purpose {
            Purpose::Guard => match state.steps[0].quality.seen.as_ref().unwrap().0.as_str() {
                "half" => rejects("The other half is missing."),
                _ => accepts(),
            },
            _ if written == 0 => writes("half"),
            _ if written == 1 && told.is_some() => writes("whole"),
            _ => says("done"),
        })
    })
    .run();
    insta::assert_snapshot!(world.log.join("\n"), @r"
    prepare
    call turn
    write half
    call turn
    snapshot_after
    call guard
    call turn
    write whole
    call turn
    snapshot_after
    call guard
    deliver whole
    ");
    let say = world.step().turns[1].say.as_ref().unwrap();
    assert!(say.find("<untrusted-data").unwrap() < say.find("The other half").unwrap(), "{say}");
    assert_eq!(world.told(), ["guard `guard` rejected once"]);
    assert_eq!(world.step().after.as_ref().unwrap().as_str(), "whole");
}

#[test]
fn a_guard_that_is_never_content_or_cannot_be_had_fails_the_step() {
    let story = |says_guard: fn() -> Result<Answer, ModelFault>| {
        World::new(plan(agent(guard(GuardOn::Conclusion))), 0.01, move |_, purpose| match purpose {
            Purpose::Guard => says_guard(),
            _ => Ok(says("done")),
        })
        .run()
    };
    let never = story(|| Ok(rejects("It does nothing.")));
    assert_eq!(never.state.ending, Some(Ending::Failed));
    assert_eq!(never.state.reason, "step `a`: the guard `guard` rejected it 2 times; its last words: It does nothing.");
    assert_eq!((never.count("turn"), never.count("guard")), (2, 2));
    let gone = story(|| Err(ModelFault::Unavailable));
    assert_eq!(gone.state.ending, Some(Ending::Unavailable));
    assert_eq!(gone.count("guard"), 2, "its fallback was asked");
    let mute = story(|| Ok(Answer { conclusion: Some(Err("no JSON".into())), ..says("fine by me") }));
    assert_eq!(mute.state.ending, Some(Ending::Failed), "what cannot be read is no acceptance");
    assert_eq!(mute.count("guard"), 2);
}

#[test]
fn a_guard_on_turns_looks_before_anything_is_carried_out() {
    let world = World::new(plan(agent(guard(GuardOn::Turn))), 0.01, |state, purpose| {
        Ok(match (purpose, turns(state)) {
            (Purpose::Guard, _) => match state.steps[0].quality.look.as_ref().unwrap() {
                Look::Turn(answer) if answer.calls[0].args.to_string().contains("evil") => rejects("Not this."),
                _ => accepts(),
            },
            (_, 0) => writes("evil"),
            (_, 1) => writes("good"),
            _ => says("done"),
        })
    })
    .run();
    assert!(!world.log.contains(&"write evil".to_owned()), "{:?}", world.log);
    assert_eq!(world.workspace.last().unwrap(), "good");
    let first = &world.step().turns[0];
    assert!(first.say.as_ref().unwrap().contains("Not this."), "{first:?}");
    assert_eq!(world.count("guard"), 3, "two turns with calls and the conclusion");
}

fn debate() -> Quality {
    let (pro, con, moderator) = (voice("pro"), voice("con"), voice("moderator"));
    Quality { debate: Some(Debate { rounds: 2, pro, con, moderator }), ..Quality::default() }
}

#[test]
fn a_debate_goes_in_turns_and_its_conclusion_stays() {
    let world = World::new(plan(agent(debate())), 0.01, |_, purpose| {
        Ok(match purpose {
            // A speech that hits the output limit counts; silence is passed over.
            Purpose::Speech { side: Side::Pro, round: 0 } => Answer {
                stop: StopReason::Length,
                conclusion: Some(Err("Your answer was cut off.".into())),
                ..says("It is")
            },
            Purpose::Speech { side: Side::Con, round: 0 } => {
                Answer { conclusion: Some(Err("Your answer was empty".into())), ..says("") }
            }
            Purpose::Speech { side, round } => says(&format!("{side:?} {round}")),
            _ => says("done"),
        })
    })
    .run();
    assert_eq!(
        world.calls(),
        ["Pro 0", "Con 0", "Con 0", "Pro 1", "Con 1", "Moderator 2", "turn"],
        "silence is asked for once more"
    );
    let quality = &world.step().quality;
    let words: Vec<&str> = quality.speeches.iter().map(|(_, words)| words.as_str()).collect();
    assert_eq!(words, ["It is", "(said nothing)", "Pro 1", "Con 1", "Moderator 2"]);
    assert_eq!(quality.debated.as_deref(), Some("Moderator 2"));
    let gone = World::new(plan(agent(debate())), 0.01, |_, _| Err(ModelFault::Unavailable)).run();
    assert_eq!(gone.state.ending, Some(Ending::Unavailable));
}

#[test]
fn all_of_it_together_holds_the_budget_at_every_prefix() {
    for budget in 1..60 {
        let quality = Quality {
            guardrail: guard(GuardOn::Conclusion).guardrail,
            debate: debate().debate,
            best_of: best(BestBy::Score).best_of.map(|best| BestOf { min_budget_for_new_attempt: 0.05, ..best }),
            ..sampling(ChooseBy::Pairwise)
        };
        let mut plan = plan(PlanStep { gates: vec!["tests".into()], ..agent(quality) });
        let cap = NanoUsd::from_usd(f64::from(budget) / 100.0);
        plan.limits.max_cost_usd = Some(cap.usd());
        let mut world = World::new(plan, 0.01, |state, purpose| {
            let at = state.steps[0].quality.tried.len();
            Ok(match (purpose, turns(state)) {
                (Purpose::Sample(sample), 0) => writes(&format!("{at}{sample}")),
                (Purpose::Choose, _) => match state.steps[0].quality.asking.as_ref().unwrap().ask {
                    Ask::Score => data(json!({ "score": at, "reason": "" })),
                    _ => longer(state),
                },
                (Purpose::Guard, _) => accepts(),
                _ => says("done"),
            })
        });
        while let Some(effect) = world.todo.pop_front() {
            if world.state.outstanding.contains_key(&effect.key) {
                world.perform(effect);
            }
            assert!(world.state.spend.cost.plus(world.state.reserved) <= cap, "{budget}");
        }
        let status = world.step().status;
        assert!(world.state.ending.is_some(), "{budget}: {:#?}", world.log);
        if budget >= 50 {
            assert_eq!(status, StepStatus::Succeeded, "{budget}: {:#?}", world.log);
        }
        assert!(world.state.outstanding.is_empty() && world.step().parked.is_empty());
    }
}
