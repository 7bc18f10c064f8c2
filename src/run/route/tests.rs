//! Routing without I/O: a story per test.

use super::super::trial::{Trial, error, model, plan, reader, spec};
use crate::model::account::{Ending, StepStatus};
use crate::model::chat::{ModelError, ModelFault};
use crate::model::journal::Input;

#[test]
fn a_model_that_failed_rests_for_all_steps_and_is_asked_again_when_it_is_over() {
    let chain = [model("dear", "one"), model("cheap", "two")];
    let mut trial = Trial::new(plan(vec![reader("a", &chain), reader("b", &chain)]));
    assert_eq!(trial.call("a"), ("dear".into(), "scenario think".into()));
    trial.now_ms = 1000;
    trial.fails("a", error(ModelFault::RateLimited));
    assert_eq!(trial.call("a"), ("cheap".into(), "scenario think; dear rests for another 60 s (rate limited)".into()));
    // Another step's next turn skips it as well, and says so; the note is not repeated.
    trial.now_ms = 31_000;
    trial.answers("b", false);
    assert_eq!(trial.call("b"), ("dear".into(), "scenario think".into()), "its own answer shows that it works");
    trial.fails("b", error(ModelFault::Unavailable));
    trial.answers("b", false);
    assert_eq!(trial.call("b"), ("cheap".into(), "scenario think; dear rests for another 60 s (unavailable)".into()));
    trial.now_ms = 91_000;
    trial.answers("b", false);
    assert_eq!(trial.call("b"), ("dear".into(), "scenario think".into()));
    trial.answers("b", true);
    trial.answers("a", true);
    assert_eq!(trial.state.ending, Some(Ending::Done));
    assert_eq!(trial.state.notes, ["`cheap` is asked while `dear` rests: RateLimited"]);
    trial.check_replay();
}

#[test]
fn a_provider_that_asks_for_longer_gets_it() {
    let chain = [model("dear", "one"), model("cheap", "two")];
    let mut trial = Trial::new(plan(vec![reader("a", &chain)]));
    trial.fails("a", ModelError { retry_after_ms: Some(300_000), ..error(ModelFault::RateLimited) });
    trial.now_ms = 299_999;
    trial.answers("a", false);
    assert_eq!(trial.call("a"), ("cheap".into(), "scenario think; dear rests for another 1 s (rate limited)".into()));
    trial.now_ms = 300_000;
    trial.answers("a", false);
    assert_eq!(trial.call("a").0, "dear");
}

#[test]
fn three_failures_in_a_row_open_a_providers_circuit_and_one_call_probes_it() {
    let chain = [model("large", "one"), model("small", "one"), model("other", "two")];
    let mut trial = Trial::new(plan(vec![
        reader("a", &chain),
        reader("b", &chain),
        reader("c", &[chain[0].clone(), chain[2].clone()]),
    ]));
    trial.fails("a", error(ModelFault::Unavailable));
    trial.fails("a", error(ModelFault::Unavailable));
    assert_eq!(trial.call("a").0, "other");
    trial.now_ms = 5_000;
    trial.fails("b", error(ModelFault::Network));
    assert_eq!(trial.call("b").0, "other");
    assert!(
        trial.state.notes.iter().any(|note| note.starts_with("3 calls in a row failed at the provider of `large`"))
    );
    // `small` itself would be awake, but not its provider.
    trial.now_ms = 62_000;
    trial.answers("a", false);
    let (name, why) = trial.call("a");
    assert_eq!(name, "other");
    assert!(why.contains("small rests for another 3 s (its provider failed three times in a row)"), "{why}");
    // Half-open: `c`, which is out since the beginning, counts as the probe; a second one is not sent.
    trial.now_ms = 66_000;
    trial.answers("b", false);
    assert_eq!(trial.call("b").0, "other");
    trial.fails("c", error(ModelFault::Unavailable));
    assert_eq!(trial.call("c").0, "other");
    trial.now_ms = 126_001;
    trial.answers("a", false);
    assert_eq!(trial.call("a"), ("large".into(), "scenario think".into()), "the probe");
    trial.answers("b", false);
    assert_eq!(trial.call("b").0, "other", "one probe at a time");
    trial.answers("a", false);
    trial.answers("b", false);
    assert_eq!((trial.call("a").0, trial.call("b").0), ("large".into(), "large".into()), "closed again");
    trial.check_replay();
}

#[test]
fn where_all_rest_the_one_that_wakes_first_is_tried_and_nobody_is_asked_the_same_twice() {
    let chain = [model("first", "one"), model("second", "two")];
    let mut last = reader("last", &chain);
    last.needs = vec!["a".into()];
    let mut a = reader("a", &chain);
    a.on_failure = crate::model::plan::OnFailure::Continue;
    let mut trial = Trial::new(plan(vec![a, last]));
    trial.fails("a", ModelError { retry_after_ms: Some(600_000), ..error(ModelFault::RateLimited) });
    trial.now_ms = 1_000;
    trial.fails("a", error(ModelFault::Timeout));
    assert_eq!(trial.state.step(&"a".into()).unwrap().status, StepStatus::Failed);
    let (name, why) = trial.call("last");
    assert_eq!(name, "second");
    assert!(why.ends_with("all rest, and second wakes first"), "{why}");
    trial.answers("last", true);
    assert_eq!(trial.state.ending, Some(Ending::Done));
    trial.check_replay();
}

#[test]
fn a_refused_key_rests_its_provider_for_the_whole_run() {
    let chain = [model("one", "here"), model("two", "here"), model("three", "there")];
    let mut alone = reader("alone", &chain[..2]);
    alone.needs = vec!["a".into()];
    let mut trial = Trial::new(plan(vec![reader("a", &chain), alone]));
    trial.fails("a", error(ModelFault::Auth));
    assert_eq!(trial.call("a").0, "three", "the other model of the same account is not tried");
    trial.now_ms = 86_400_000;
    trial.answers("a", true);
    assert_eq!(trial.state.ending, Some(Ending::Unavailable));
    assert_eq!(
        trial.state.reason,
        "step `alone`: no model is left to ask: `one` (its key was refused), `two` (its key was refused); mend the \
         account, or name another model in `scenarios` of .codeforge/config.yml"
    );
}

#[test]
fn what_is_wrong_with_the_request_is_wrong_everywhere() {
    for fault in [ModelFault::BadRequest, ModelFault::TooLong, ModelFault::Unmatched] {
        let mut trial = Trial::new(plan(vec![reader("a", &[model("one", "x"), model("two", "y")])]));
        trial.fails("a", error(fault));
        assert_eq!(
            (trial.state.ending, trial.state.reason.as_str()),
            (Some(Ending::Unavailable), &*format!("{fault:?}"))
        );
    }
}

#[test]
fn a_long_request_goes_to_the_models_for_long_ones_and_stays_there() {
    let mut step = reader("a", &[model("usual", "x")]);
    let agent = spec(&mut step);
    (agent.long_context, agent.long_context_tokens) = (vec![model("long", "x"), model("longer", "y")], 60_000);
    let mut trial = Trial::new(plan(vec![step.clone()]));
    trial.tokens = 60_000;
    trial.answers("a", false);
    assert_eq!(trial.call("a").0, "usual", "not more than the limit");
    trial.tokens = 71_000;
    trial.answers("a", false);
    assert_eq!(trial.call("a"), ("long".into(), "long context: about 71,000 tokens".into()));
    trial.tokens = 10;
    trial.answers("a", false);
    assert_eq!(trial.call("a").0, "long", "once long, it stays long");
    trial.fails("a", error(ModelFault::Unavailable));
    assert_eq!(trial.call("a").0, "longer", "its own fallbacks");
    trial.check_replay();

    let mut told = Trial::new(plan(vec![step]));
    told.fails("a", error(ModelFault::TooLong));
    let long = ("long".to_owned(), "long context: the request was too long for the scenario's models".to_owned());
    assert_eq!(told.call("a"), long);
    told.fails("a", error(ModelFault::TooLong));
    assert_eq!(told.state.ending, Some(Ending::Unavailable), "there is nothing longer");
}

#[test]
fn a_cut_call_is_asked_again_at_who_is_awake_then() {
    let mut trial =
        Trial::new(plan(vec![reader("a", &[model("one", "x"), model("two", "y")]), reader("b", &[model("one", "x")])]));
    trial.fails("b", error(ModelFault::Network));
    let cut = trial.of("a");
    trial.now_ms = 2_000;
    trial.feed(Input::OutcomeUnknown { key: cut.key.clone() });
    assert_eq!(trial.call("a").0, "two");
    assert_ne!(trial.of("a").key, cut.key);
    trial.check_replay();
}
