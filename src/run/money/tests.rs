//! Money without I/O.

use super::super::state::ParkedCall;
use super::super::trial::{Trial, error, model, plan, reader};
use crate::model::account::Ending;
use crate::model::budget::{Allowance, Scope};
use crate::model::chat::{Bill, ModelError, ModelFault};
use crate::model::journal::{Input, Purpose, Work};
use crate::model::plan::Plan;
use crate::model::usage::{CostSource, NanoUsd, Usage};
use proptest::prelude::*;

fn usd(usd: f64) -> NanoUsd {
    NanoUsd::from_usd(usd)
}

fn day(cap: f64, before: f64, granted: f64) -> Allowance {
    Allowance {
        scope: Scope::Day,
        name: String::new(),
        cap: usd(cap),
        spent_before: usd(before),
        held_by_others: NanoUsd::default(),
        elsewhere: NanoUsd::default(),
        granted: usd(granted),
    }
}

fn one() -> Plan {
    plan(vec![reader("a", &[model("m", "x")])])
}

#[test]
fn a_run_without_an_allowance_ends_before_anything_is_spent() {
    let trial = Trial::admitted(one(), vec![day(50.0, 50.0, 0.0)]);
    assert_eq!((trial.state.ending, trial.state.spend.calls), (Some(Ending::Limit), 0));
    assert!(trial.calls.is_empty() && trial.state.outstanding.is_empty());
    assert_eq!(
        trial.state.reason,
        "nothing is left of the budget of $50.000 for today: other runs have spent $50.000; raise `budget.per_day_usd` \
         in .codeforge/config.yml, or go on tomorrow (UTC)"
    );
    trial.check_replay();
}

#[test]
fn what_a_scope_leaves_is_the_runs_budget_and_warnings_come_once() {
    let mut trial = Trial::priced(one(), vec![day(10.0, 7.8, 2.2)], [Some(usd(0.5))]);
    assert_eq!(trial.state.budget(), Some(usd(2.2)));
    assert!(trial.state.notes.is_empty());
    for _ in 0..4 {
        let call = trial.of("a");
        trial.answers_call(&call, false, Some(usd(0.45)));
    }
    assert_eq!(
        trial.state.notes,
        ["80 % of the budget of $10.00 for today is spent", "90 % of the budget of $10.00 for today is spent"]
    );
    assert_eq!(trial.state.ending, Some(Ending::Limit));
    let reason = &trial.state.reason;
    assert!(
        reason.contains("spent $1.800 of the $2.200 that it was given of the budget of $10.000 for today"),
        "{reason}"
    );
    trial.check_replay();
}

#[test]
fn a_run_that_is_taken_up_again_has_the_allowance_of_that_day() {
    let mut trial = Trial::priced(one(), vec![day(10.0, 0.0, 1.0)], [Some(usd(0.9))]);
    let call = trial.of("a");
    let tomorrow = Allowance { elsewhere: usd(0.9), granted: usd(3.9), ..day(3.0, 0.0, 0.0) };
    trial.feed(Input::Resumed { at_ms: 1, allowances: vec![tomorrow] });
    trial.feed(Input::OutcomeUnknown { key: call.key });
    assert_eq!((trial.state.spend.cost, trial.state.reserved), (usd(0.9), usd(0.9)));
    let call = trial.of("a");
    trial.answers_call(&call, true, Some(usd(0.9)));
    assert_eq!(trial.state.ending, Some(Ending::Done), "{}", trial.state.reason);
    trial.check_replay();
}

#[test]
fn a_call_and_a_step_have_budgets_of_their_own() {
    let mut dear = one();
    dear.limits.max_cost_per_call_usd = Some(0.4);
    let trial = Trial::priced(dear, vec![], [Some(usd(0.5))]);
    assert_eq!((trial.state.ending, trial.state.spend.calls), (Some(Ending::Limit), 0));
    assert!(trial.state.reason.contains("one call may cost $0.400"), "{}", trial.state.reason);

    let mut both = plan(vec![reader("a", &[model("m", "x")]), reader("b", &[model("m", "x")])]);
    both.steps[0].limits.max_cost_per_step_usd = Some(0.7);
    both.steps[0].limits.max_tokens = Some(5_000);
    both.steps[0].on_failure = crate::model::plan::OnFailure::Continue;
    let mut trial = Trial::priced(both, vec![], [Some(usd(0.5))]);
    let call = trial.of("a");
    trial.answers_call(&call, false, Some(usd(0.3)));
    assert!(trial.calls.iter().all(|call| call.step.as_ref().is_some_and(|step| step.as_str() == "b")));
    let said = trial.state.steps[0].error.clone().unwrap();
    assert!(said.contains("the step has spent $0.300 of the $0.700 it may"), "{said}");
    trial.answers("b", true);
    assert_eq!(trial.state.ending, Some(Ending::Done));
}

#[test]
fn a_call_that_waits_for_money_is_made_when_another_one_cost_less() {
    let mut both = plan(vec![reader("a", &[model("m", "x")]), reader("b", &[model("m", "x")])]);
    both.limits.max_cost_usd = Some(0.9);
    let mut trial = Trial::priced(both, vec![], [Some(usd(0.5))]);
    assert_eq!(trial.calls.len(), 1, "the second one does not fit beside the first");
    let call = trial.of("a");
    trial.answers_call(&call, true, Some(usd(0.1)));
    trial.answers("b", true);
    assert_eq!(trial.state.ending, Some(Ending::Done));
}

/// What may happen to a call.
#[derive(Debug, Clone)]
enum Fate {
    /// Answered and billed so many hundredths of its reservation; the step goes on or ends.
    Answered(u64, bool),
    /// Answered by a provider that does not say what it cost.
    Unknown(bool),
    /// Failed, with a bill of so many hundredths, or none.
    Failed(Option<u64>),
    /// The engine was killed: all calls that are out are of unknown outcome.
    Crash,
}

fn fates() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => (0u64..=100, prop::bool::weighted(0.3)).prop_map(|(share, last)| Fate::Answered(share, last)),
        1 => (101u64..=300, any::<bool>()).prop_map(|(share, last)| Fate::Answered(share, last)),
        1 => any::<bool>().prop_map(Fate::Unknown),
        2 => prop::option::of(0u64..=150).prop_map(Fate::Failed),
        1 => Just(Fate::Crash),
    ]
}

proptest! {
    /// Any interleaving of parallel steps, prices, failures, crashes and bills: settled + outstanding ≤ budget at every
    /// prefix of the journal, but for what bills exceeded their reservations by, and then a note shows it.
    #[test]
    fn the_budget_holds_at_every_prefix(
        steps in 1usize..6,
        budget in 1u64..3_000_000,
        scope in prop::option::of(1u64..3_000_000),
        per_step in prop::option::of(1u64..1_000_000),
        tokens in prop::option::of(1_000u64..40_000),
        costs in prop::collection::vec(1u64..400_000, 1..40),
        story in prop::collection::vec((any::<usize>(), fates()), 1..60),
    ) {
        let chain = [model("one", "x"), model("two", "y")];
        let mut with = plan((0..steps).map(|at| reader(&format!("s{at}"), &chain)).collect());
        with.limits.max_cost_usd = Some(NanoUsd(budget).usd());
        with.limits.max_tokens = tokens;
        for step in with.steps.values_mut() {
            step.limits.max_cost_per_step_usd = per_step.map(|cap| NanoUsd(cap).usd());
        }
        let shared = scope.map(|cap| Allowance { cap: NanoUsd(cap), granted: NanoUsd(cap), ..day(0.0, 0.0, 0.0) });
        let cap = NanoUsd(budget.min(scope.unwrap_or(u64::MAX)));
        let costs = costs.into_iter().map(|cost| Some(NanoUsd(cost)));
        let mut trial = Trial::priced(with, shared.into_iter().collect(), costs);
        let mut over = NanoUsd::default();
        for (pick, fate) in story {
            if trial.calls.is_empty() {
                break;
            }
            trial.now_ms += 20_000;
            let call = trial.calls[pick % trial.calls.len()].clone();
            let Work::CallModel { reserved_cost: Some(reserved), .. } = call.work else { panic!("{call:?}") };
            let notes = trial.state.notes.len();
            let mut exceeded = false;
            let mut bill = |share: u64| {
                let cost = NanoUsd(reserved.0 * share / 100);
                exceeded = cost > reserved;
                over = over.plus(cost.minus(reserved));
                cost
            };
            match fate {
                Fate::Answered(share, last) => {
                    let cost = bill(share);
                    trial.answers_call(&call, last, Some(cost));
                }
                Fate::Unknown(last) => trial.answers_call(&call, last, None),
                Fate::Failed(share) => {
                    let bill = share.map(|share| Bill {
                        model: "m".into(),
                        usage: Some(Usage { input: 500, ..Usage::default() }),
                        cost: Some(bill(share)),
                        source: CostSource::Provider,
                    });
                    let key = call.key.clone();
                    trial.feed(Input::ModelFailed { key, error: ModelError { bill, ..error(ModelFault::Network) } });
                }
                Fate::Crash => {
                    trial.feed(Input::Resumed { at_ms: trial.now_ms, allowances: vec![] });
                    for cut in trial.calls.clone() {
                        trial.feed(Input::OutcomeUnknown { key: cut.key });
                    }
                }
            }
            let state = &trial.state;
            prop_assert!(state.spend.cost.plus(state.reserved) <= cap.plus(over), "{:?}", state.notes);
            let told = |note: &String| note.contains("more than the");
            prop_assert!(!exceeded || state.notes.iter().skip(notes).any(told));
            prop_assert!(over.0 > 0 || !state.notes.iter().any(told));
            for step in &state.steps {
                prop_assert!(per_step.is_none_or(|cap| step.spend.cost <= NanoUsd(cap).plus(over)));
            }
            let out: u64 = state.outstanding.values().map(|effect| match effect.work {
                Work::CallModel { reserved_cost, .. } => reserved_cost.unwrap_or_default().0,
                _ => 0,
            }).sum();
            prop_assert_eq!(out, state.reserved.0, "what is reserved is what is out");
            // Nobody waits for money that nobody holds.
            prop_assert!(state.ending.is_some() || !trial.calls.is_empty(), "stuck");
        }
        trial.check_replay();
    }
}

#[test]
fn calls_of_one_step_side_by_side_share_its_budget_and_wait_for_each_other() {
    let mut one = one();
    one.steps[0].limits.max_cost_per_step_usd = Some(1.0);
    let mut trial = Trial::priced(one, vec![], [Some(usd(0.4))]);
    let samples = |state: &mut crate::run::State| {
        for number in 1..4 {
            let purpose = Purpose::Sample(number);
            let (model, tokens, cost, hash) = (0, 10, Some(usd(0.4)), String::new());
            state.ask_for_money(0, ParkedCall { model, purpose, tokens, cost, hash });
        }
    };
    samples(&mut trial.state);
    let out = |trial: &Trial| {
        let purposes = trial.state.outstanding.values().filter_map(|effect| match &effect.work {
            Work::CallModel { purpose, .. } => Some(purpose.clone()),
            _ => None,
        });
        purposes.collect::<Vec<_>>()
    };
    assert_eq!((out(&trial), trial.state.steps[0].parked.len()), (vec![Purpose::Turn, Purpose::Sample(1)], 2));
    assert_eq!(trial.state.reserved, usd(0.8));
    let turn = trial.of("a");
    trial.answers_call(&turn, false, Some(usd(0.2)));
    // The answer's next turn asks as well; of what waits, what fits goes first come, first served.
    assert_eq!(out(&trial), [Purpose::Sample(1), Purpose::Sample(2)]);
    assert_eq!((trial.state.spend.cost, trial.state.reserved), (usd(0.2), usd(0.8)));
    assert_eq!(
        trial.state.steps[0].parked.iter().map(|call| call.purpose.clone()).collect::<Vec<_>>(),
        [Purpose::Sample(3), Purpose::Turn]
    );
}
